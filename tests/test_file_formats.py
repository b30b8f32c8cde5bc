"""The page of file formats: its programs print what it says, and its tables are those of the formats' own libraries."""

import contextlib
import io
import pickletools
import re

import gguf
import pytest

from llmnotes.course.render import Site
from llmnotes.formats.legacy.ggml import MAGICS
from llmnotes.formats.results import size_of

from .conftest import ROOT

PAGE = (ROOT / "notebooks" / "file_formats.md").read_text(encoding="utf-8")
PROGRAMS = re.findall(r"```python\n(.*?)```\n(?:\n```text\n(.*?)```)?", PAGE, re.DOTALL)


@pytest.fixture(scope="module")
def scope():
    """Run the page's programs in order, comparing what each prints; return the names that they leave."""
    names: dict = {"__name__": "page"}
    for program, expected in PROGRAMS:
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            exec(compile(program, "the page", "exec"), names)
        assert out.getvalue() == expected, program
    return names


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
    assert len(rows) == 14
    for shown, names in rows:
        names = names.replace("*", "").split(", ")
        assert [f"`{codes[name]:02x}`" for name in names] == shown.split()
    for name, shown in re.findall(r"([A-Z_0-9]+) \(`([0-9a-f]{2})`\)", PAGE):
        assert f"{codes[name]:02x}" == shown


def test_signs_are_those_that_identify_knows():
    for sign in MAGICS:
        assert f"`{sign.decode()}`" in PAGE
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
