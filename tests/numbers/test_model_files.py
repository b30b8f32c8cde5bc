"""The numbers in the prose of "Model files", and what left the lesson and stays true."""

import io
import json
import pickle
import pickletools
import zipfile
import zlib

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from llmnotes.course import source
from llmnotes.exercises import find
from llmnotes.models import path_of
from llmnotes.plots.model_files import machine, numbers_of
from tests.numbers.prose import Prose


@pytest.fixture(scope="module")
def lesson():
    return Prose("11")


@pytest.fixture(scope="module")
def values(lesson):
    found = lesson.run()
    yield found
    found["work"].cleanup()  # a warning that comes when nobody asks fails another test


def test_every_number_is_computed_again(lesson, values):
    content, length, row, tensors = (values[name] for name in ("content", "length", "row", "tensors"))
    assert 0x0F == 15 and 0xF8 == 15 * 16 + 8 == 248
    lesson.says("is 15, and is 15 × 16 + 8 = 248")
    lesson.says("{:,} is less than the size of the file", length)
    assert length < len(content) < int.from_bytes(content[:8], "big")
    lesson.says("What are the {:,}?", length)
    lesson.says("The first row is the number {:,}", length)
    assert values["lm"].tokenizer(" a")["input_ids"][-1] == 264
    lesson.says("the row of ␣a, the token number 264")
    four = numbers_of(row[:8])
    assert torch.equal(torch.tensor(four), tensors["model.embed_tokens.weight"][264, :4].float())
    lesson.says("There it began with {:.3f}, {:.3f}, {:.3f}, {:.3f}", *four)
    lesson.says("skip 264 rows. Each row has {} numbers", tensors["model.embed_tokens.weight"].shape[1])
    lesson.says("How do two bytes make {:.3f}?", four[1])
    lesson.says("Together they are {:.4f}", four[1])
    lesson.says("There it is, at byte {:,}", values["place"])
    lesson.says("These {} bytes should", len(row))
    lesson.says("All {:,} bytes", len(content))
    lesson.says("in {} million bytes", len(content) // 10**6)
    lesson.says("An index with arrows to {} files", len(values["parts"]))
    lesson.says("It has {} records", len(tensors))
    lesson.says("{} instructions, one below the other", len(machine(values["tiny"])))
    lesson.says("{} files with their tasks", len(list(values["folder"].iterdir())))
    lesson.says("Pickles have {} instructions", len(pickletools.opcodes))
    found = values["found"]
    size = (values["smol"] / "model.safetensors").stat().st_size
    lesson.says("SmolLM2's file has {:.0f} MB and {} tensors", size / 1e6, len(found))
    small, large = sizes_with_adamw(values["lm"].model)
    assert abs(large / small - 3) < 0.01
    lesson.says("such a file is three times as large as the weights")
    code = "\n".join(source(cell) for cell in lesson.notebook.cells if cell.cell_type == "code")
    written = [
        code[code.index(head) :].split("\n\n\n")[0] for head in ("KINDS =", "def read_s", "def as_b", "def write_s")
    ]
    written = [part.split("\nwork =")[0].split("\ntensors, metadata")[0] for part in written]
    lines = sum(bool(line.strip()) for part in [*written, find("11.2").solution] for line in part.splitlines())
    assert 26 <= lines <= 33, lines
    lesson.says("30 lines that also open SmolLM2")
    lesson.says("You can read and write it in 30 lines")
    lesson.finish(
        r"from 0 to 255",
        r"0 to 9 and a to f",
        r"holds\s+256 values|counts in 256s",
        r"in UTF-8",
        r"[Pp]rotocol 2",
        r"The (first|last) 16 (bytes|letters)",
        r"The first 16 are those|\b32 cells\b",
        r"with 14 GB",
        r"\b5 GB each",
        r"\b(version|from) 2\.6\b",
        r"float32\b",
        r"\bBF16\b|\bF16\b",
        r"\b5 of them spaces",
    )


def sizes_with_adamw(model):
    """Return the bytes of a file with a model's weights, and of one with the state of its optimizer, too."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.0)
    for weight in model.parameters():
        weight.grad = torch.zeros_like(weight)
    optimizer.step()
    files = []
    for what in (model.state_dict(), {"model": model.state_dict(), "optimizer": optimizer.state_dict()}):
        torch.save(what, file := io.BytesIO())
        files.append(len(file.getvalue()))
    return files


def test_the_readers_files_are_those_of_the_library(values, tmp_path):
    read, write = values["read_safetensors"], values["write_safetensors"]
    generator = torch.Generator().manual_seed(3)
    made = {
        "a": torch.randn(3, 5, generator=generator),
        "b": torch.randn(2, generator=generator),
        "c": torch.randn(4, 1, generator=generator).to(torch.bfloat16),
        "d": torch.randn(1, generator=generator).to(torch.float16),
    }
    save_file(made, tmp_path / "theirs.safetensors", {"format": "pt"})
    write(tmp_path / "ours.safetensors", made, {"format": "pt"})
    assert (tmp_path / "ours.safetensors").read_bytes() == (tmp_path / "theirs.safetensors").read_bytes()
    found, metadata = read(tmp_path / "theirs.safetensors")
    assert metadata == {"format": "pt"} and all(torch.equal(found[name], made[name]) for name in made)


def test_spaces_in_a_header_change_nothing_for_the_library(values, tmp_path):
    text = json.dumps({"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
    whole = len(text).to_bytes(8, "little") + text + np.array([1, 2], "<f4").tobytes()
    (tmp_path / "spaces.safetensors").write_bytes(whole)
    assert load_file(tmp_path / "spaces.safetensors")["w"].tolist() == [1, 2]
    longer = len(json.dumps(values["header"])) - len(json.dumps(values["header"], separators=(",", ":")))
    assert 200 < longer < 1000  # "a few hundred bytes longer"


def test_records_of_torch_save_lie_uncompressed_at_multiples_of_64(values):
    path, first = values["here"] / "model.pt", next(iter(values["tensors"].values()))
    content = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        records = [record for record in archive.infolist() if "/data/" in record.filename]
    assert len(records) == len(values["tensors"])  # one for each tensor; a tied one has two names and one record
    for record in records:
        head = content[record.header_offset + 26 :][:4]
        begin = record.header_offset + 30 + int.from_bytes(head[:2], "little") + int.from_bytes(head[2:], "little")
        assert begin % 64 == 0 and record.compress_type == zipfile.ZIP_STORED
        if record.filename.endswith("data/0"):
            assert content[begin : begin + record.file_size] == values["as_bytes"](first)


def test_weights_can_be_made_smaller_and_what_was_compressed_cannot():
    folder = path_of("pebble")
    for part in ("tokenizer.json", "model.safetensors"):
        end = (folder / part).read_bytes()[-(1 << 20) :]
        small = zlib.compress(end)
        assert len(small) < 0.95 * len(end) and len(zlib.compress(small)) > 0.98 * len(small)


def test_pytorch_files_are_no_text_and_may_be_mapped(values):
    content = (values["here"] / "same.pth").read_bytes()
    assert content.count(0) > 1000
    mapped = torch.load(values["here"] / "model.pt", mmap=True)
    assert all(torch.equal(mapped[name], tensor) for name, tensor in values["tied"].items())


def test_a_machine_of_the_picture_says_what_pickle_does():
    steps = machine(pickle.dumps({"␣a": 264}, protocol=2))
    assert [stack for _, stack in steps] == [["{}"], ["{}", "␣a"], ["{}", "␣a", "264"], ["{␣a: 264}"], []]


def train(steps, state=None, without=()):
    """Train a small model from its beginning or from a checkpoint; return its weights and the checkpoint."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Embedding(64, 8), torch.nn.Linear(8, 64))
    optimizer, generator = torch.optim.AdamW(model.parameters()), torch.Generator().manual_seed(1)
    if state:
        model.load_state_dict(state["model"])
        if "optimizer" not in without:
            optimizer.load_state_dict(state["optimizer"])
        if "generator" not in without:
            generator.set_state(state["generator"])
    for _ in range(steps):
        at = torch.randint(64, (16,), generator=generator)
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(at), (at * 7 + 3) % 64).backward()
        optimizer.step()
    weights = torch.nn.utils.parameters_to_vector(model.parameters()).detach()
    return weights, {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "generator": generator.get_state(),
    }


def test_a_training_goes_on_bit_for_bit_from_weights_optimizer_and_generator(tmp_path):
    torch.save(train(20)[1], tmp_path / "small.ckpt")
    state, whole = torch.load(tmp_path / "small.ckpt"), train(40)[0]
    assert torch.equal(train(20, state)[0], whole)
    assert not torch.equal(train(20, state, ["optimizer"])[0], whole)
    assert not torch.equal(train(20, state, ["generator"])[0], whole)
