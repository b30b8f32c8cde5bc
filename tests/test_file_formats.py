"""The page of file formats: its programs print what it says, and its tables are those of the formats' own libraries."""

import contextlib
import io
import pickle
import pickletools
import re
import warnings
import zipfile

import gguf
import pytest
import torch

from llmnotes.course.render import Site
from llmnotes.formats.legacy.ggml import MAGICS
from llmnotes.formats.results import size_of

from .conftest import ROOT

PAGE = (ROOT / "notebooks" / "file_formats.md").read_text(encoding="utf-8")
PROGRAMS = re.findall(r"```python\n(.*?)```\n(?:\n```text\n(.*?)```)?", PAGE, re.DOTALL)


@pytest.fixture(scope="module")
def scope():
    """Run the page's programs in order, comparing what each prints; yield the names that they leave."""
    names: dict = {"__name__": "page"}
    for program, expected in PROGRAMS:
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            exec(compile(program, "the page", "exec"), names)
        assert out.getvalue() == expected, program
    yield names
    names["folder"].cleanup()  # a warning that comes when nobody asks fails another test


def test_every_program_prints_what_the_page_says(scope):
    assert len(PROGRAMS) == PAGE.count("```python") == PAGE.count("```text") > 8


def test_the_gguf_of_the_page_is_read_by_the_library(scope, tmp_path):
    (tmp_path / "w.gguf").write_bytes(scope["whole"])
    reader = gguf.GGUFReader(tmp_path / "w.gguf")
    assert reader.fields["general.architecture"].contents() == "llama"
    assert reader.tensors[0].name == "w" and reader.tensors[0].data.tolist() == [1.0, -0.5]


def test_types_and_blocks_are_those_of_the_libraries():
    rows = re.findall(r"(?m)^\| (\w+) \| (\d+) \| (\d+) \| (\d+) \|$", PAGE)
    assert len(rows) == 12
    for name, number, weights, nbytes in rows:
        kind = gguf.GGMLQuantizationType[name]
        assert (kind.value, gguf.GGML_QUANT_SIZES[kind]) == (int(number), (int(weights), int(nbytes)))
    kinds = {kind.name: kind.value for kind in gguf.GGUFValueType}
    words = "UINT8 INT8 UINT16 INT16 UINT32 INT32 FLOAT32 BOOL STRING ARRAY UINT64 INT64 FLOAT64".split()
    assert [kinds[word] for word in words] == list(range(13))
    table = PAGE.partition("bytes of a number")[2].partition("```")[0]
    for names, nbytes in re.findall(r"(?m)^\| (`.+`) \| (\d) \|$", table):
        assert {size_of(name, (1,)) for name in re.findall(r"`(\w+)`", names)} == {int(nbytes)}


def test_instructions_are_those_of_the_machine():
    codes = {opcode.name: ord(opcode.code) for opcode in pickletools.opcodes}
    rows = re.findall(r"(?m)^\| ((?:`[0-9a-f]{2}` ?)+) \| (.+?) \| .+ \|$", PAGE)
    assert len(rows) == 15
    for shown, names in rows:
        names = names.replace("*", "").split(", ")
        assert [f"`{codes[name]:02x}`" for name in names] == shown.split()
    for name, shown in re.findall(r"([A-Z_0-9]+) \(`([0-9a-f]{2})`\)", PAGE):
        assert f"{codes[name]:02x}" == shown


def test_the_table_has_every_instruction_of_a_state_dict():
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))
    table = PAGE.partition("in the pickle of a `state_dict`")[2].partition("```")[0]
    tied = torch.ones(300)
    for saved in (model.state_dict(), {"w": tied}, {str(i): tied for i in range(300)}):
        torch.save(saved, buffer := io.BytesIO())
        with zipfile.ZipFile(buffer) as archive:
            program = archive.read(next(name for name in archive.namelist() if name.endswith("data.pkl")))
        assert all(re.search(rf"\b{opcode.name}\b", table) for opcode, _, _ in pickletools.genops(program))
    with zipfile.ZipFile(buffer) as archive:
        for name in archive.namelist():
            record = "data/0" if "/data/" in name else name.partition("/")[2]
            assert f"`{record}`" in PAGE, name


def test_pickles_without_a_sign_and_torchscript_are_as_the_page_says():
    assert pickle.dumps({}, protocol=0)[:2].hex(" ") == "28 64" and pickle.dumps({}, protocol=1)[:2].hex(" ") == "7d 71"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated; its files remain
        torch.jit.save(torch.jit.trace(torch.nn.Linear(2, 2), torch.ones(1, 2)), buffer := io.BytesIO())
    names = zipfile.ZipFile(buffer).namelist()
    assert any(name.endswith("/data.pkl") for name in names) and any(name.endswith("/constants.pkl") for name in names)


def test_signs_are_those_that_identify_knows():
    for sign in MAGICS:
        assert f"`{sign.decode()}`" in PAGE and f"`{sign.hex(' ')}`" in PAGE
    assert b"GGUF".hex(" ") in PAGE and b"PK\x03\x04".hex(" ") in PAGE and b"\x93NUMPY".hex(" ") in PAGE
    assert b"\x89HDF".hex(" ") in PAGE


def test_links_lead_somewhere_and_the_site_has_the_page(tmp_path):
    anchors = set(re.findall(r'<a id="([\w-]+)"', PAGE))
    assert set(re.findall(r"\]\(#([\w-]+)\)", PAGE)) <= anchors
    assert all((ROOT / "notebooks" / file).is_file() for file in re.findall(r"\]\(([\w.]+\.ipynb)\)", PAGE))
    for lesson in (ROOT / "notebooks").glob("*.ipynb"):
        for file, anchor in re.findall(r"\]\((\w+\.md)(?:#([\w-]+))?\)", lesson.read_text(encoding="utf-8")):
            assert file == "file_formats.md" and (not anchor or anchor in anchors), lesson.name
    Site(tmp_path, sorted((ROOT / "notebooks").glob("1[12]_*.ipynb"))).add_references()
    page = (tmp_path / "file_formats.html").read_text(encoding="utf-8")
    assert '<a href="11_model_files.html">11</a>' in page and "<table>" in page and 'id="pickle"' in page
