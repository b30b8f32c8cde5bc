"""One container becomes another and loses nothing without saying so."""

import json
import os
import shutil

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from llmnotes import formats
from llmnotes.errors import CannotWrite, FileBroken, NotConvertible
from llmnotes.formats import convert
from llmnotes.formats.files import Source
from llmnotes.formats.stretch import Stretch


def state(folder):
    return AutoModelForCausalLM.from_pretrained(folder).state_dict()


def same(a, b) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_a_folder_goes_to_pytorch_and_back(tiny_folder, tmp_path):
    there = convert(tiny_folder, tmp_path / "pt", to="pytorch")
    assert there.lost == () and there.to == "pytorch" and (tmp_path / "pt" / "pytorch_model.bin").is_file()
    assert same(state(tmp_path / "pt"), state(tiny_folder))
    back = convert(tmp_path / "pt", tmp_path / "back", to="safetensors")
    assert back.tensors == there.tensors
    for path in tiny_folder.iterdir():
        assert (tmp_path / "back" / path.name).read_bytes() == path.read_bytes()


def test_shards_become_one_file(tiny_folder, tmp_path):
    AutoModelForCausalLM.from_pretrained(tiny_folder).save_pretrained(tmp_path / "s", max_shard_size="20kB")
    convert(tmp_path / "s", tmp_path / "one", to="huggingface")
    assert (tmp_path / "one" / "model.safetensors").read_bytes() == (tiny_folder / "model.safetensors").read_bytes()
    assert not list((tmp_path / "one").glob("*.index.json"))
    done = convert(tmp_path / "s", tmp_path / "one.safetensors")
    assert (tmp_path / "one.safetensors").read_bytes() == (tiny_folder / "model.safetensors").read_bytes()
    assert "only the weights" in done.lost[0]


def test_pickled_shards_become_one_file_of_either_kind(tiny_folder, tmp_path):
    weights = load_file(tiny_folder / "model.safetensors")
    for number in (1, 2):
        part = {name: weights[name] for name in sorted(weights)[number - 1 :: 2]}
        torch.save(part, tmp_path / f"pytorch_model-{number:05}-of-00002.bin")
    where = {name: f"pytorch_model-{at % 2 + 1:05}-of-00002.bin" for at, name in enumerate(sorted(weights))}
    index = tmp_path / "pytorch_model.bin.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": where}))
    assert convert(index, tmp_path / "a.safetensors").lost == ()
    convert(index, tmp_path / "a.pt")
    assert same(load_file(tmp_path / "a.safetensors"), weights)
    assert same(torch.load(tmp_path / "a.pt", weights_only=True), weights)


@pytest.mark.parametrize("zip_file", [True, False], ids=["zip", "legacy"])
def test_a_trainers_checkpoint_becomes_a_state_dict(tmp_path, zip_file):
    weights = {"a": torch.randn(3, 4), "b": torch.ones(2)}
    whole = {"state_dict": weights | {"tied": weights["a"]}, "optimizer": {"m": torch.zeros(3)}, "epoch": 7}
    torch.save(whole, tmp_path / "a.ckpt", _use_new_zipfile_serialization=zip_file)
    done = convert(tmp_path / "a.ckpt", tmp_path / "b.pt")
    found = torch.load(tmp_path / "b.pt", weights_only=True)
    assert same(found, whole["state_dict"]) and found["tied"].data_ptr() == found["a"].data_ptr()
    assert "optimizer.m" in done.lost[0] and "epoch" in done.lost[1]


def test_a_safetensors_file_is_copied_to_the_byte(tiny_folder, tmp_path):
    convert(tiny_folder / "model.safetensors", tmp_path / "a.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == (tiny_folder / "model.safetensors").read_bytes()


def test_tied_weights_stay_tied(tmp_path):
    table = torch.randn(5, 3)
    torch.save({"embed": table, "head": table, "other": torch.ones(2)}, tmp_path / "a.pt")
    convert(tmp_path / "a.pt", tmp_path / "b.safetensors")
    assert formats.inspect(tmp_path / "b.safetensors").parameters == 17
    convert(tmp_path / "b.safetensors", tmp_path / "c.pt")
    again = torch.load(tmp_path / "c.pt", weights_only=True)
    assert again["embed"].data_ptr() == again["head"].data_ptr() and torch.equal(again["head"], table)
    convert(tmp_path / "b.safetensors", tmp_path / "d.safetensors")
    assert (tmp_path / "d.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


def test_programs_and_pickles_stay_behind_and_are_named(tiny_folder, tmp_path):
    folder = shutil.copytree(tiny_folder, tmp_path / "folder")
    (folder / "modeling_evil.py").write_text("raise SystemExit")
    torch.save({"a": 1}, folder / "tokenizer.model")
    (folder / "notes.txt").write_bytes(b"\x80\x04N.")
    (folder / "README.md").write_text("read me")
    (folder / "sub").mkdir()
    done = convert(folder, tmp_path / "out", to="safetensors")
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {path.name for path in tiny_folder.iterdir()} | {"README.md"}
    assert all(name in done.lost[0] for name in ("modeling_evil.py", "tokenizer.model", "notes.txt", "sub"))


def test_an_adapter_stays_an_adapter(tmp_path):
    folder = tmp_path / "adapter"
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps({"r": 2}))
    save_file({"a": np.ones((2, 4), "f4")}, folder / "adapter_model.safetensors", {"format": "pt"})
    convert(folder, tmp_path / "bin", to="pytorch")
    assert torch.load(tmp_path / "bin" / "adapter_model.bin", weights_only=True)["a"].shape == (2, 4)
    convert(tmp_path / "bin", tmp_path / "back", to="safetensors")
    back = (tmp_path / "back" / "adapter_model.safetensors").read_bytes()
    assert back == (folder / "adapter_model.safetensors").read_bytes()


def test_what_cannot_be_done_is_one_sentence(tiny_folder, tmp_path):
    with pytest.raises(NotConvertible, match="leave it out"):
        convert(tiny_folder, tmp_path / "a.safetensors", type="Q8_0")
    with pytest.raises(NotConvertible, match="add one of --to"):
        convert(tiny_folder, tmp_path / "a.xyz")
    with pytest.raises(NotConvertible, match="llmnotes cannot convert a safetensors to"):
        convert(tiny_folder / "model.safetensors", tmp_path / "a.onnx")
    (tmp_path / "t.safetensors").write_bytes(b"old")
    with pytest.raises(CannotWrite, match="exists already"):
        convert(tiny_folder, tmp_path / "t.safetensors")
    assert {path.name for path in tmp_path.iterdir()} == {"t.safetensors"}


def test_the_tokenizer_travels(tiny_folder, tmp_path):
    convert(tiny_folder, tmp_path / "out", to="pytorch")
    a, b = (AutoTokenizer.from_pretrained(folder) for folder in (tiny_folder, tmp_path / "out"))
    assert a("Grüße 🙂")["input_ids"] == b("Grüße 🙂")["input_ids"]


@pytest.mark.parametrize("sends", ["sends", "refuses", "has none"])
def test_a_copy_is_the_same_whoever_moves_the_bytes(sends, tiny_folder, tmp_path, monkeypatch):
    weights = load_file(tiny_folder / "model.safetensors")
    torch.save(weights, tmp_path / "a.pt")

    def refuse(*_):
        raise OSError(22, "Invalid argument")

    if sends == "refuses":
        monkeypatch.setattr(os, "sendfile", refuse)
    elif sends == "has none":
        monkeypatch.delattr(os, "sendfile")
    monkeypatch.setattr("llmnotes.formats.stretch.LENGTH", 1000)
    convert(tmp_path / "a.pt", tmp_path / "a.safetensors")
    assert same(load_file(tmp_path / "a.safetensors"), weights)


def test_a_file_that_shrinks_while_the_system_copies_it_is_refused(tiny_folder, tmp_path):
    shutil.copy(tiny_folder / "model.safetensors", tmp_path / "a.safetensors")
    with Source(tmp_path / "a.safetensors") as source, open(tmp_path / "b", "w+b") as file:
        os.truncate(source.path, 100)
        with pytest.raises(FileBroken, match="shorter"):
            Stretch(source, 50, 100).into(file)
