"""What the other formats refuse, and files that change while they are read: a small case for each sentence."""

import json
import shutil
import struct
import sys

import h5py
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from llmnotes.errors import FileBroken, FileUnreadable, LLMNotesError, MissingPart, NotConvertible
from llmnotes.formats import convert, files, huggingface, inspect, read, scan
from llmnotes.formats.deltas import make_delta
from llmnotes.formats.gptq import save
from llmnotes.formats.legacy import ggml, keras
from tests.test_formats_ggml import head


def refused(error, what, ask, *arguments) -> None:
    """The call raises one sentence with these words."""
    with pytest.raises(error) as found:
        ask(*arguments)
    assert what in str(found.value) and "\n" not in str(found.value)


def test_a_file_that_may_not_be_read(tmp_path, monkeypatch):
    def denied(*_, **__):
        raise PermissionError(13, "Permission denied")

    (tmp_path / "a.gguf").touch()
    monkeypatch.setattr(files, "open", denied, raising=False)
    refused(
        FileUnreadable,
        "a.gguf cannot be read (Permission denied); check its permissions.",
        inspect,
        tmp_path / "a.gguf",
    )


def test_a_delta_of_other_types_than_floats(tiny_folder, tmp_path):
    base, target = (shutil.copytree(tiny_folder, tmp_path / name) for name in ("base", "target"))
    weights = load_file(target / "model.safetensors")
    whole = {name: value.to(torch.int8) if "norm" in name else value for name, value in weights.items()}
    save_file(whole, target / "model.safetensors", {"format": "pt"})
    refused(NotConvertible, "is I8; llmnotes only makes deltas of F32", make_delta, base, target, tmp_path / "delta")


def test_gptq_of_what_is_no_folder(tmp_path):
    save_file({"a": torch.ones(1)}, tmp_path / "a.safetensors")
    refused(NotConvertible, "is no Hugging Face folder", save, tmp_path / "a.safetensors", {}, tmp_path / "new")


def test_shards_that_are_none(tmp_path):
    index = {"weight_map": {"a": "a.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    (tmp_path / "a.safetensors").write_text("no weights")
    refused(LLMNotesError, "a.safetensors", inspect, tmp_path / "model.safetensors.index.json")
    (tmp_path / "a.safetensors").write_text(json.dumps({"a": 1}))
    refused(
        FileBroken,
        "its shard 'a.safetensors' is no file of weights",
        inspect,
        tmp_path / "model.safetensors.index.json",
    )
    torch.save({"a": torch.ones(4)[::2]}, tmp_path / "a.safetensors")
    found = inspect(tmp_path / "model.safetensors.index.json")
    assert b"".join(read(found, found.tensors[0])) == struct.pack("<2f", 1, 1)
    (tmp_path / "a.safetensors").write_text("no weights")
    refused(FileBroken, "it is no longer a file of weights", lambda: list(huggingface.read(found, found.tensors[0])))


def test_shards_without_an_index_that_are_not_all(tiny_folder, tmp_path):
    folder = shutil.copytree(tiny_folder, tmp_path / "model")
    (folder / "model.safetensors").rename(folder / "model-00001-of-00003.safetensors")
    refused(FileBroken, "has 1 shard of 3 and no index of them; copy the others there", inspect, folder)


def test_a_vocabulary_longer_than_any_models(tmp_path, monkeypatch):
    (tmp_path / "a.bin").write_bytes(head("GGJT", 3, (3, 32, 1, 1, 1, 32), [(b"abc", 0.0)] * 3, 0))
    monkeypatch.setattr(ggml, "METADATA_LIMIT", 5)
    refused(FileBroken, "its vocabulary is longer than any model's", inspect, tmp_path / "a.bin")


def test_hdf5_without_its_library_and_without_its_bytes(tmp_path, monkeypatch):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["a"] = np.arange(4.0)
    size = (tmp_path / "a.h5").stat().st_size
    (tmp_path / "b.h5").write_bytes((tmp_path / "a.h5").read_bytes()[:8] + bytes(100))
    refused(FileBroken, "HDF5's library cannot read its structure", inspect, tmp_path / "b.h5")
    with monkeypatch.context() as patch:  # a library that does not look whether the bytes are there, as today's does
        found = {"attributes": {}, "groups": [], "datasets": [["a", "F64", [4], size - 8]], "notes": []}
        patch.setattr(keras, "_child", lambda source, first, count: found)
        refused(FileBroken, "the bytes of 'a' are not where it says", inspect, tmp_path / "a.h5")
    monkeypatch.setattr(keras, "find_spec", lambda name: None)
    refused(
        MissingPart,
        'h5py is missing; bring it with: python -m pip install "h5py>=3.11"',
        inspect,
        tmp_path / "a.h5",
    )


def test_a_scan_without_picklescan(tmp_path, monkeypatch):
    torch.save({"a": torch.ones(1)}, tmp_path / "a.pt")
    monkeypatch.setitem(sys.modules, "picklescan", None)
    refused(
        MissingPart,
        'picklescan is missing; bring it with: python -m pip install "picklescan>=1.0"',
        scan,
        tmp_path / "a.pt",
    )


@pytest.mark.parametrize("tied", [False, True])
def test_a_name_that_is_no_unicode(tied, tmp_path):
    weights = torch.ones(2)
    torch.save({"a": weights if tied else torch.ones(1), "\ud800": weights}, tmp_path / "a.pt")
    for target, format in (("a.safetensors", "safetensors"), ("a.index", "a TensorFlow checkpoint")):
        words = rf"The name '\ud800' is no Unicode, and {format} holds no other; rename that tensor in the source, or"
        refused(NotConvertible, words, convert, tmp_path / "a.pt", tmp_path / target)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.pt"]
    convert(tmp_path / "a.pt", tmp_path / "b.pt")  # as the sentence says
    assert torch.load(tmp_path / "b.pt", weights_only=True)["\ud800"].tolist() == [1, 1]


def test_a_variable_of_tensorflow_whose_name_is_no_unicode(tmp_path):
    from llmnotes.formats.legacy.tensorflow import table

    save_file({"ab": torch.ones(2)}, tmp_path / "a.safetensors")
    convert(tmp_path / "a.safetensors", tmp_path / "a.index")
    with files.Source(tmp_path / "a.index") as source:
        pairs = [(key.replace(b"ab", b"\xff\xfe"), value) for key, value in table.entries(source)]
    (tmp_path / "a.index").write_bytes(table.table(sorted(pairs)))
    refused(NotConvertible, "is no Unicode", convert, tmp_path / "a.index", tmp_path / "b.safetensors")
    convert(tmp_path / "a.index", tmp_path / "b.pt")
    assert torch.load(tmp_path / "b.pt", weights_only=True)["\udcff\udcfe"].tolist() == [1, 1]


def test_what_safetensors_has_no_name_for(tmp_path):
    torch.save(
        {"a": torch.ones(2).to(torch.float8_e4m3fnuz), "b": torch.ones(1, dtype=torch.complex128)}, tmp_path / "a.pt"
    )
    refused(
        NotConvertible, "safetensors has no name for the type", convert, tmp_path / "a.pt", tmp_path / "a.safetensors"
    )
    torch.save({"step": 1}, tmp_path / "b.pt")
    refused(NotConvertible, "b.pt holds no tensors", convert, tmp_path / "b.pt", tmp_path / "b.safetensors")
