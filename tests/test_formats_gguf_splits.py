"""Models in several GGUF files: read whole wherever the parts lie, written as llama.cpp's llama-gguf-split does."""

import shutil
import subprocess
from pathlib import Path

import gguf
import pytest

from llmnotes import cli
from llmnotes.errors import CannotWrite, FileBroken, FileUnreadable, LLMNotesError, NotConvertible, UnknownFormat
from llmnotes.fit import fit
from llmnotes.formats import convert, inspect, read
from llmnotes.formats.gguf import splits
from llmnotes.formats.gguf.types import Typed
from llmnotes.formats.gguf.write import write_gguf
from llmnotes.formats.results import PlannedTensor
from llmnotes.llama_cpp.model_file import ModelFile
from llmnotes.models import open_model
from llmnotes.pebble import weights_dir

from .conftest import ROOT

PEERS = ROOT / "build" / "peers"


@pytest.fixture(scope="module")
def single(tmp_path_factory) -> Path:
    """Pebble in one file."""
    path = tmp_path_factory.mktemp("single") / "pebble.gguf"
    convert(weights_dir("pebble"), path, type="Q8_0")
    return path


@pytest.fixture(scope="module")
def official(single, tmp_path_factory) -> Path:
    """The first of Pebble's parts, of at most a megabyte, that llama.cpp's own program made."""
    source = list(PEERS.glob("llama_cpp/**/llama.cpp/tools/gguf-split/gguf-split.cpp"))
    libraries = list(PEERS.glob("llama_quantize/package/bins/linux-x64"))
    if not (source and libraries and shutil.which("g++")):
        pytest.skip("llama.cpp's sources, its libraries (make peers) or a compiler for them are not here")
    folder, base, here = tmp_path_factory.mktemp("official"), source[0].parents[2], libraries[0]
    command = ["g++", "-std=c++17", "-O0", f"-I{base / 'include'}", f"-I{base / 'ggml' / 'include'}"]
    command += [f"-I{base / 'common'}", str(source[0]), "-o", str(folder / "gguf-split"), f"-Wl,-rpath,{here}"]
    command += [str(next(here.glob(name))) for name in ("libllama-common.so", "libllama.v*.so", "libggml-base.so")]
    subprocess.run(command, check=True, capture_output=True, timeout=100)
    command = [folder / "gguf-split", "--split-max-size", "1M", single, folder / "m"]
    subprocess.run(command, check=True, capture_output=True, timeout=100)
    return next(folder.glob("m-00001-of-*.gguf"))


def tensors(path: Path) -> dict:
    found = inspect(path)
    return {tensor.name: b"".join(read(found, tensor)) for tensor in found.tensors}


def test_the_parts_are_those_of_llama_gguf_split_to_the_byte(single, official, tmp_path):
    done = convert(single, tmp_path / "m.gguf", split_max_size=1_000_000)
    theirs = sorted(official.parent.glob("m-*.gguf"))
    assert len(done.files) == len(theirs) > 2 and done.target == tmp_path / official.name
    for path in theirs:
        assert (tmp_path / path.name).read_bytes() == path.read_bytes()


def test_parts_of_llama_gguf_split_are_read_whole(single, official):
    whole = tensors(single)
    for path in official.parent.glob("m-*.gguf"):
        assert tensors(path) == whole


@pytest.fixture(scope="module")
def parts(single) -> list[Path]:
    """Pebble in three files or more."""
    convert(single, single.parent / "parts.gguf", split_max_size=1_500_000)
    return sorted(single.parent.glob("parts-*.gguf"))


def test_a_folder_becomes_the_parts_of_its_file(single, parts, tmp_path, capsys):
    command = ["convert", "pebble", str(tmp_path / "parts.gguf"), "--type", "Q8_0", "--split-max-size"]
    assert cli.main([*command, "1500000B"]) == 0
    assert f"parts-00001-of-0000{len(parts)}.gguf: 38 tensors" in (said := capsys.readouterr().out)
    assert f"in {len(parts)} files" in said
    assert [path.read_bytes() for path in sorted(tmp_path.iterdir())] == [path.read_bytes() for path in parts]
    assert cli.main([*command[:2], str(tmp_path / "one.gguf"), "--type", "Q8_0", "--split-max-size", "2G"]) == 0
    assert (tmp_path / "one.gguf").read_bytes() == single.read_bytes()  # it fits
    assert cli.main([*command, "much"]) == 2 and "amount" in capsys.readouterr().err


def test_gguf_py_reads_every_part(single, parts):
    found = {}
    for at, path in enumerate(parts):
        reader = gguf.GGUFReader(path)
        assert reader.fields["split.no"].contents() == at and reader.fields["split.count"].contents() == len(parts)
        assert reader.fields["split.tensors.count"].contents() == 38
        found |= {tensor.name: tensor.data.tobytes() for tensor in reader.tensors}
    assert found == {tensor.name: tensor.data.tobytes() for tensor in gguf.GGUFReader(single).tensors}


def test_any_part_is_the_whole_model(single, parts, tmp_path):
    one = inspect(single)
    for path in parts:
        found = inspect(path)
        assert (found.path, found.parameters, found.nbytes) == (parts[0], one.parameters, one.nbytes)
        assert list(found.metadata["tokenizer.ggml.tokens"]) == list(one.metadata["tokenizer.ggml.tokens"])
        assert f"The model lies in {len(parts)} files, {parts[0].name} to {parts[-1].name}." in found.notes
        file = ModelFile.read(path)
        assert file.path == parts[0] and file.nbytes == sum(part.stat().st_size for part in parts)
    last = parts[-1]
    convert(last, tmp_path / "joined.gguf")
    assert (tmp_path / "joined.gguf").read_bytes() == single.read_bytes()
    convert(last, tmp_path / "q4.gguf", type="Q4_0")
    convert(single, tmp_path / "of one.gguf", type="Q4_0")
    assert (tmp_path / "q4.gguf").read_bytes() == (tmp_path / "of one.gguf").read_bytes()
    for to, ending in (("huggingface", ""), ("safetensors", ".safetensors")):
        for name, source in (("a", last), ("b", single)):
            convert(source, tmp_path / f"{name}{ending}", to=to)
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in "ab"]
    assert weights[0] == weights[1]
    assert fit(last, ram="8GB", precision="Q8_0").options == fit(single, ram="8GB", precision="Q8_0").options


def test_open_model_takes_a_part(single, parts):
    import torch

    models = [open_model(path, attention="eager", say=lambda line: None).model for path in (single, parts[1])]
    ids = torch.arange(5, 12)[None]
    with torch.no_grad():
        first, second = (model(ids).logits for model in models)
    assert torch.equal(first, second)


def test_llama_cpp_runs_what_was_split(single, parts):
    from llmnotes.serving import load

    texts = []
    for path in (single, parts[-1]):
        with load(path, n_ctx=256, n_threads=1) as runtime:
            texts.append(runtime.complete("Once upon a time", max_tokens=8))
    assert texts[0] == texts[1] != ""


def test_a_cache_of_the_hub_has_links_to_blobs(single, parts, tmp_path):
    snapshot, blobs = tmp_path / "models--a--b" / "snapshots" / "123", tmp_path / "models--a--b" / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for at, path in enumerate(parts):
        shutil.copy(path, blobs / f"{at:064x}")
        (snapshot / path.name).symlink_to(Path("..", "..", "blobs", f"{at:064x}"))
    assert tensors(snapshot / parts[1].name) == tensors(single)
    (tmp_path / "linked.gguf").symlink_to(snapshot / parts[2].name)  # a link to a link
    assert len(inspect(tmp_path / "linked.gguf").tensors) == 38
    with pytest.raises(FileUnreadable, match="part 1 of .* its name does not lead to the others; give all parts"):
        inspect(blobs / f"{0:064x}")


def test_a_missing_part_is_named(parts, tmp_path, capsys):
    for path in parts:
        shutil.copy(path, tmp_path)
    (tmp_path / parts[1].name).unlink()
    given = tmp_path / parts[0].name
    for work in (inspect, open_model, fit, ModelFile.read, lambda path: convert(path, tmp_path / "new", "huggingface")):
        with pytest.raises(FileUnreadable, match=f"part 1 of {len(parts)} .* {parts[1].name} is missing beside it"):
            work(given)
    assert cli.main(["inspect", str(given)]) == 2
    assert not (tmp_path / "new").exists()


def small(path: Path, keys: dict, names: tuple[str, ...] = ("a",)) -> Path:
    with open(path, "wb") as file:
        write_gguf(file, keys, [PlannedTensor(name, "F32", (8,), lambda: [bytes(32)]) for name in names])
    return path


def marks(at, count, tensors: int) -> dict:
    return {"split.no": Typed("U16", at), "split.count": Typed("U16", count), "split.tensors.count": tensors}


@pytest.mark.parametrize(
    ("first", "second", "word"),
    [
        ((marks(0, 2, 3), ("a",)), (marks(1, 2, 3), ("b",)), "hold 2 tensors, and it promises 3"),
        ((marks(0, 2, 2), ("a",)), (marks(1, 2, 2), ("a",)), "each once"),
        ((marks(0, 2, 2), ("a",)), (marks(0, 2, 2), ("b",)), "is not part 2 of 2"),
        ((marks(0, 2, 2), ("a",)), ({}, ("b",)), "is not part 2 of 2"),
        ((marks(2, 2, 2), ("a",)), ({}, ()), "claims to be part 2 of 2"),
        (({"split.no": 0, "split.count": "many"}, ("a",)), ({}, ()), "claims to be part 0 of many"),
        ((marks(0, 2, 2), ("a",)), None, "does not begin with"),
    ],
)
def test_parts_that_do_not_belong_together_are_refused(first, second, word, tmp_path):
    given = small(tmp_path / "m-00001-of-00002.gguf", *first)
    if second is None:
        (tmp_path / "m-00002-of-00002.gguf").write_bytes(b"<html>not found</html>")
    else:
        small(tmp_path / "m-00002-of-00002.gguf", *second)
    with pytest.raises(FileBroken, match=word):
        inspect(given)


def test_big_endian_parts_are_read_from_their_own_files(tmp_path):
    for at, name in enumerate("ab"):
        part = PlannedTensor(name, "F32", (2,), lambda at=at: [bytes([at] * 8)])
        with open(tmp_path / splits.name_of("m", at, 2), "wb") as file:
            write_gguf(file, marks(at, 2, 2), [part], "big")
    assert tensors(tmp_path / "m-00001-of-00002.gguf") == {"a": bytes(8), "b": b"\1" * 8}


def test_parts_are_written_whole_or_not_at_all(single, tmp_path, monkeypatch):
    (tmp_path / "m-00001-of-00099.gguf").write_bytes(b"mine")
    count = len(splits.planned(list(inspect(single).tensors), 1_000_000))  # type: ignore[arg-type]
    taken = tmp_path / splits.name_of("m", 1, count)
    taken.write_bytes(b"mine")
    with pytest.raises(CannotWrite, match="exists already"):
        convert(single, tmp_path / "m.gguf", split_max_size=1_000_000)
    taken.unlink()
    calls = []

    def failing(*arguments, **more):
        calls.append(arguments)
        if len(calls) == 3:
            raise OSError(5, "Input/output error")
        return write(*arguments, **more)

    write = splits.write_gguf
    with monkeypatch.context() as patch, pytest.raises(CannotWrite):
        patch.setattr(splits, "write_gguf", failing)
        convert(single, tmp_path / "m.gguf", split_max_size=1_000_000)
    assert len(calls) == 3 and [path.name for path in tmp_path.iterdir()] == ["m-00001-of-00099.gguf"]

    def late(path):  # another process takes a name between the check and the naming
        if path.name.startswith("m-00002") and not path.exists():
            path.write_bytes(b"theirs")
        return sweep(path)

    from llmnotes.formats import safe_write

    sweep = safe_write._sweep
    monkeypatch.setattr(safe_write, "_sweep", late)
    with pytest.raises(CannotWrite):
        convert(single, tmp_path / "m.gguf", split_max_size=1_000_000)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([taken.name, "m-00001-of-00099.gguf"])


def test_what_cannot_be_split_is_refused(single, tmp_path):
    for source, target, more, word in [
        (single, "a.gguf", {"split_max_size": 0}, "bytes"),
        (weights_dir("pebble"), "a.safetensors", {"split_max_size": 5}, "Only a GGUF from a Hugging Face folder"),
        (single, "a.gguf", {}, "--type"),
    ]:
        with pytest.raises(NotConvertible, match=word):
            convert(source, tmp_path / target, **more)
    many = [PlannedTensor(str(at), "F32", (8,), lambda: [bytes(32)]) for at in range(101)]
    with pytest.raises(NotConvertible, match="101 files, and llmnotes writes at most 100; give a larger"):
        splits.write_model(tmp_path / "a.gguf", {}, many, 1)
    assert list(tmp_path.iterdir()) == []


KEYS = {"general.architecture": "llama", "llama.block_count": 1, "llama.attention.head_count": 4}
KEYS |= {"llama.embedding_length": 64, "llama.feed_forward_length": 64, "llama.vocab_size": 3}
TOKENS = {"tokenizer.ggml.model": "llama", "tokenizer.ggml.tokens": ["a", "b", "c"]}
KINDS = {
    "a vocabulary alone": (KEYS | TOKENS, (), "take the GGUF that has them"),
    "an adapter": (KEYS | {"general.type": "adapter"}, ("blk.0.attn_q.weight.lora_a",), "--lora"),
    "an adapter, which": (KEYS | {"adapter.type": "lora"}, ("blk.0.attn_q.weight",), "--lora"),
    "an adapter, which changes": (KEYS, ("blk.0.attn_q.weight.lora_a", "blk.0.attn_q.weight.lora_b"), "--lora"),
    "an importance matrix": ({"general.type": "imatrix"}, ("blk.0.attn_q.weight.in_sum2",), "--imatrix"),
    "the image encoder": ({"general.architecture": "clip", "general.type": "mmproj"}, ("v.patch",), "language model"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_model_is_named(kind, tmp_path, capsys):
    keys, names, remedy = KINDS[kind]
    path = small(tmp_path / "a.gguf", keys, names)
    assert f"note       It is {kind}" in (cli.main(["inspect", str(path)]), capsys.readouterr().out)[1]
    works = [open_model, fit, ModelFile.read, lambda path: convert(path, tmp_path / "b.gguf", type="Q4_0")]
    works.append(lambda path: convert(path, tmp_path / "b", to="huggingface"))
    works += [lambda path: convert(path, tmp_path / "b.safetensors")] * (not names)
    for work in works:
        with pytest.raises(LLMNotesError, match=f"a.gguf is {kind}.*; .*{remedy}"):
            work(path)


def test_a_gguf_without_anything_is_told_from_a_vocabulary(tmp_path):
    path = small(tmp_path / "a.gguf", KEYS, ())
    with pytest.raises(NotConvertible, match="holds no tensors; take"):
        convert(path, tmp_path / "b.safetensors")
    with pytest.raises(NotConvertible, match="holds no tensors"):
        convert(path, tmp_path / "b.gguf", type="Q8_0")


@pytest.mark.parametrize("ending", ["-split-{}", ".part{}of2", ".00{}", ".part-a{}"])
def test_a_piece_that_another_tool_cut_off_is_not_called_damaged(ending, single, tmp_path):
    data = single.read_bytes()
    for number, piece in ((1, data[: len(data) // 2]), (2, data[len(data) // 2 :])):
        at = "ab"[number - 1] if ending.endswith("a{}") else number
        path = tmp_path / f"pebble.gguf{ending.format(at)}"
        path.write_bytes(piece)
        with pytest.raises(UnknownFormat, match="like one piece of .* in their order, into pebble.gguf."):
            inspect(path)
    (tmp_path / "pebble.gguf.tmp").write_bytes(data[: len(data) // 2])
    with pytest.raises(FileBroken, match="is damaged"):
        inspect(tmp_path / "pebble.gguf.tmp")
