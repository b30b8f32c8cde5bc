"""The numbers in the prose of "Model files", and what left the lesson and stays true."""

import io
import json
import pickle
import pickletools
import sys
import zipfile
import zlib

import numpy as np
import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from llmnotes.course import source
from llmnotes.exercises import find
from llmnotes.formats import scan
from llmnotes.models import path_of
from llmnotes.plots.model_files import asked_first, machine
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
    four = values["numbers_of"](row[:8])
    assert torch.equal(torch.tensor(four), tensors["model.embed_tokens.weight"][264, :4].float())
    lesson.says("There it began with {:.3f}, {:.3f}, {:.3f}, {:.3f}", *four)
    lesson.says("skip 264 rows. Each row has {} numbers", tensors["model.embed_tokens.weight"].shape[1])
    lesson.says("How do two bytes make {:.3f}?", four[1])
    lesson.says("There it is, at byte {:,}", values["place"])
    lesson.says("These {} bytes should", len(row))
    lesson.says("All {:,} bytes", len(content))
    lesson.says("in {} million bytes", len(content) // 10**6)
    lesson.says("{} records of numbers, the first called data/0", len(tensors))
    asked = asked_first(values["program"])
    assert asked == ("model.embed_tokens.weight", ["storage", "BFloat16Storage", "0", "cpu", "524288"])
    lesson.says("what that describes: {:,} numbers, in record", int(asked[1][4]))
    lesson.says("an arrow leads from '{}' to data/0", asked[1][2])
    lesson.says("{} instructions, one below the other", len(machine(values["tiny"])))
    lesson.says("it builds {{␣a: 264}}")
    lesson.says("{} instructions, one below the other", len(machine(values["bomb"])))
    start, table = 8 + length, values["header"]["model.embed_tokens.weight"]
    lesson.says("the first part of the data, from {:,} to {:,}", *table["data_offsets"])
    lesson.says("{:,} and {:,} and 264 × {} × 2", start, table["data_offsets"][0], table["shape"][1])
    lesson.says("the row's place, {:,}", values["place"])
    word = int.from_bytes(row[2:4], "little")
    lesson.says("for the size {}, seven for the digits {}", word >> 7 & 255, word & 127)
    lesson.says("the formula that makes {:.4f} of them", four[1])
    lesson.says("{} files with their tasks", len(list(values["folder"].iterdir())))
    lesson.says("Pickles have {} instructions", len(pickletools.opcodes))
    found = values["found"]
    size = (values["smol"] / "model.safetensors").stat().st_size
    lesson.says("SmolLM2's file has {:.0f} MB and {} tensors", size / 1e6, len(found))
    small, large = sizes_with_adamw(values["lm"].model)
    assert abs(large / small - 3) < 0.01
    lesson.says("such a file is three times as large as the weights")
    assert abs(large / len(content) - 6) < 0.05
    lesson.says("six times Pebble's BF16 file")
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
        r"(in|is) UTF-8",
        r"The (first|last) 16 (bytes|letters)",
        r"\b32 cells\b|and 16 zeros|back, 16 zeros",
        r"with 14 GB",
        r"often of 5 GB",
        r"more than 100 MB",
        r"\bversion 2\.6\b|at least 2\.10\b|in 2\.6, another in 2\.10",  # of the two advisories
        r"GHSA-[\w-]+",
        r"sizes 0 and 255",
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


def test_the_picture_of_the_bomb_is_its_program(values):
    steps = dict(machine(values["bomb"]))
    assert steps["TUPLE3"] == ["{}", "weights", "os.makedirs", "(…/canary, 511, True)"] and 0o777 == 511
    assert steps["REDUCE"] == ["{}", "weights", "a result"]


def pickled(function, words, how):
    """Return a pickle of protocol 2 that calls a function by GLOBAL, INST or STACK_GLOBAL."""
    module, name = function.rsplit(".", 1)
    text = [b"X" + len(word.encode()).to_bytes(4, "little") + word.encode() for word in (module, name, words)]
    return (
        b"\x80\x02"
        + {
            "GLOBAL": f"c{module}\n{name}\n".encode() + text[2] + b"\x85R.",
            "INST": b"(" + text[2] + f"i{module}\n{name}\n.".encode(),
            "STACK_GLOBAL": text[0] + text[1] + b"\x93" + text[2] + b"\x85R.",
        }[how]
    )


@pytest.mark.parametrize("how", ["GLOBAL", "INST", "STACK_GLOBAL"])
def test_no_way_to_import_gets_past_imports_and_scan_and_torch(how, tmp_path):
    scope: dict = {}
    exec(find("11.3").solution, scope)
    place = tmp_path / "canary"
    content = pickled("os.makedirs", str(place), how)
    assert scope["imports"](content) == ({"?"} if how == "STACK_GLOBAL" else {"os.makedirs"})
    (tmp_path / "bomb.pkl").write_bytes(content)
    with zipfile.ZipFile(tmp_path / "bomb.pt", "w") as archive:
        archive.writestr("bomb/data.pkl", content)
        archive.writestr("bomb/version", "3\n")
    for name in ("bomb.pkl", "bomb.pt"):
        assert scan(tmp_path / name).findings[0].verdict == "dangerous"
        with pytest.raises(pickle.UnpicklingError):
            torch.load(tmp_path / name)
    assert not place.exists()
    pickle.loads(content)
    assert place.exists()


def test_a_name_from_torch_proves_nothing_and_a_renamed_bomb_is_refused(values, tmp_path):
    command = f"\"{sys.executable}\" -c \"open(r'{tmp_path / 'made'}', 'w')\""
    pickle.loads(pickled("torch.utils.collect_env.run", command, "GLOBAL"))
    assert (tmp_path / "made").exists()
    (tmp_path / "bomb.safetensors").write_bytes((values["here"] / "holiday.pt").read_bytes())
    with pytest.raises(SafetensorError, match="header too large"):
        load_file(tmp_path / "bomb.safetensors")
    assert scan(tmp_path / "bomb.safetensors").findings[0].verdict == "dangerous"


def test_the_library_refuses_what_our_reader_believes(values, tmp_path):
    file = tmp_path / "odd.safetensors"
    for length, why in ((100_000_001, "header too large"), (99_999_999, "invalid header length")):
        file.write_bytes(length.to_bytes(8, "little") + b"{}")
        with pytest.raises(SafetensorError, match=why):
            load_file(file)
    for second in ([0, 4], [8, 12]):  # the same bytes twice; a gap
        entries = {"a": [0, 4], "b": second}
        header = {name: {"dtype": "F32", "shape": [1], "data_offsets": at} for name, at in entries.items()}
        file.write_bytes(values["pack"](header) + bytes(12))
        assert set(values["read_safetensors"](file)[0]) == {"a", "b"}
        with pytest.raises(SafetensorError):
            load_file(file)


def test_two_names_of_one_table_and_names_that_are_no_ascii(values, tmp_path):
    with pytest.raises(RuntimeError, match="Some tensors share memory"):
        save_file(values["tied"], tmp_path / "tied.safetensors")
    values["write_safetensors"](tmp_path / "tied.safetensors", values["tied"], values["metadata"])
    table = values["as_bytes"](values["tied"]["lm_head.weight"])
    assert (tmp_path / "tied.safetensors").read_bytes().count(table) == 2
    assert json.loads((values["folder"] / "config.json").read_text())["tie_word_embeddings"]
    odd = {"␣": torch.ones(2)}
    save_file(odd, tmp_path / "odd.safetensors", {"by": "Zoë"})
    values["write_safetensors"](tmp_path / "ours.safetensors", odd, {"by": "Zoë"})
    assert (tmp_path / "odd.safetensors").read_bytes() == (tmp_path / "ours.safetensors").read_bytes()


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
