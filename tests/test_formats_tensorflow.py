"""TensorFlow's checkpoints and graphs, compared with TensorFlow where `make peers` has brought it."""

import json
import shutil
import struct
import subprocess

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from llmnotes.errors import FileBroken, LLMNotesError, NotConvertible
from llmnotes.formats import convert, identify, inspect, read
from llmnotes.formats.legacy.tensorflow.crc32c import crc32c

from .conftest import ROOT

DATA = ROOT / "tests" / "data" / "tensorflow"
PEER = ROOT / "build" / "peers" / "tensorflow" / "bin" / "python"


def values(path) -> dict[str, bytes]:
    found = inspect(path)
    return {tensor.name: b"".join(read(found, tensor)) for tensor in found.tensors if tensor.dtype != "STRING"}


def peer(code: str, *arguments) -> dict:
    """Return the JSON that `code` prints in TensorFlow's environment."""
    if not PEER.is_file():
        pytest.skip("TensorFlow is not there: make peers")
    command = [PEER, "-c", f"import json, sys, tensorflow as tf\n{code}", *map(str, arguments)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr[-2000:]
    return json.loads(run.stdout.splitlines()[-1])


READ = """
reader = tf.train.load_checkpoint(sys.argv[1])
types = {name: kind.name for name, kind in reader.get_variable_to_dtype_map().items() if kind != tf.string}
print(json.dumps({name: [kind, reader.get_tensor(name).tobytes().hex()] for name, kind in types.items()}))
"""


@pytest.mark.parametrize("path", ["checkpoint", "checkpoint/ckpt-1", "checkpoint/ckpt-1.index"])
def test_a_checkpoint_is_read_by_folder_prefix_and_index(path):
    found = inspect(DATA / path)
    assert found.identity.format == "TensorFlow checkpoint" and found.identity == identify(DATA / path)
    w = np.random.default_rng(0).normal(size=(3, 4)).astype("float32")
    assert values(DATA / path)["model/w/.ATTRIBUTES/VARIABLE_VALUE"] == w.tobytes()
    rows = {tensor.name.split("/.")[0]: (tensor.dtype, tensor.shape) for tensor in found.tensors}
    assert rows["model/w"] == ("F32", (3, 4)) and rows["model/b"] == ("BF16", (4,)) and rows["step"] == ("I32", ())
    graph = found.metadata["object_graph"]
    assert graph["variables"]["model/b/.ATTRIBUTES/VARIABLE_VALUE"] == "b" and "MatMul" not in str(graph)


def test_a_variable_in_slices_is_put_together():
    found = inspect(DATA / "cut" / "model")
    assert found.metadata["partitioned"] == {"emb": 3}
    shard = (DATA / "cut" / "model.data-00000-of-00001").read_bytes()
    assert values(DATA / "cut")["emb"] == shard[:160]
    assert "object_graph" not in found.metadata
    assert [tensor.dtype for tensor in found.tensors] == ["F32", "STRING"]


@pytest.mark.slow
@pytest.mark.parametrize("path", ["checkpoint/ckpt-1", "cut/model", "saved_model/variables/variables"])
def test_every_value_is_the_one_tensorflow_reads(path):
    theirs = peer(READ, DATA / path)
    assert values(DATA / path) == {name: bytes.fromhex(data) for name, (_, data) in theirs.items()}


@pytest.mark.slow
def test_what_we_write_tensorflow_reads(tmp_path, tiny_folder):
    state = {
        "a.weight": torch.randn(300, 70),
        "b": torch.randn(5, 3).bfloat16(),
        "half": torch.randn(4).half(),
        "n": torch.tensor(-7),
        "empty": torch.zeros(0, 4),
        "yes": torch.tensor([True, False]),
        "ä": torch.zeros(2, dtype=torch.uint8),
    }
    save_file(state, tmp_path / "s.safetensors")
    answer = convert(tmp_path / "s.safetensors", tmp_path / "ck.index")
    assert answer.tensors == len(state) and answer.to == "tensorflow"
    back = convert(tmp_path / "ck", tmp_path / "back.safetensors")
    assert back.tensors == len(state)
    again = load_file(tmp_path / "back.safetensors")
    assert again.keys() == state.keys() and all(torch.equal(again[name], state[name]) for name in state)
    convert(tmp_path / "ck", tmp_path / "back.pt")
    loaded = torch.load(tmp_path / "back.pt", weights_only=True)
    assert all(torch.equal(loaded[name], state[name]) and loaded[name].dtype == state[name].dtype for name in state)
    theirs = peer(READ, tmp_path / "ck")
    assert {name: bytes.fromhex(data) for name, (_, data) in theirs.items()} == values(tmp_path / "ck")
    assert theirs["b"][0] == "bfloat16" and len(theirs) == len(state)


@pytest.mark.slow
def test_ties_stay_ties_and_cost_nothing(tmp_path):
    w = torch.randn(8, 8)
    torch.save({"first": w, "second": w}, tmp_path / "tied.pt")
    convert(tmp_path / "tied.pt", tmp_path / "ck.index")
    assert (tmp_path / "ck.data-00000-of-00001").stat().st_size == 256
    assert [tensor.alias for tensor in inspect(tmp_path / "ck").tensors] == [None, "first"]
    assert len(set(peer(READ, tmp_path / "ck")[name][1] for name in ("first", "second"))) == 1


def test_graphs_are_told_by_their_fields():
    frozen = inspect(DATA / "frozen.pb")
    assert frozen.identity.format == "TensorFlow frozen graph" and frozen.metadata["operators"]["MatMul"] == 1
    w = np.random.default_rng(0).normal(size=(3, 4)).astype("float32")
    assert w.tobytes() in values(DATA / "frozen.pb").values()
    for path in ("saved_model", "saved_model/saved_model.pb"):
        saved = inspect(DATA / path)
        assert saved.identity.format == "TensorFlow SavedModel" and saved.metadata["operators"]["MatMul"] == 1
        assert saved.metadata["tags"] == ["serve"] and "serving_default" in saved.metadata["signatures"]
        assert values(DATA / path)["w/.ATTRIBUTES/VARIABLE_VALUE"] == w.tobytes()


def test_damage_is_found(tmp_path):
    for file in (DATA / "cut").iterdir():
        shutil.copy(file, tmp_path)
    index, shard = tmp_path / "model.index", tmp_path / "model.data-00000-of-00001"
    good, weights = index.read_bytes(), shard.read_bytes()
    for place in range(0, len(good) - 48, 7):
        index.write_bytes(good[:place] + bytes([good[place] ^ 4]) + good[place + 1 :])
        with pytest.raises(LLMNotesError):
            inspect(index)
    index.write_bytes(good)
    shard.write_bytes(weights[:100])
    with pytest.raises((FileBroken, NotConvertible)):
        values(index)
    shard.unlink()
    assert "not there" in inspect(index).notes[0]


def test_a_changed_weight_does_not_pass_its_checksum(tmp_path):
    save_file({"a": torch.ones(4)}, tmp_path / "s.safetensors")
    convert(tmp_path / "s.safetensors", tmp_path / "ck.index")
    (tmp_path / "ck.data-00000-of-00001").write_bytes(struct.pack("<4f", 1, 1, 2, 1))
    with pytest.raises(FileBroken, match="checksum"):
        convert(tmp_path / "ck", tmp_path / "back.safetensors")
    assert not (tmp_path / "back.safetensors").exists()


@pytest.mark.parametrize("length", [0, 1, 2049, 32_768, 32_769, 70_001])
def test_the_sum_of_lanes_is_the_sum_byte_by_byte(length):
    data = np.random.default_rng(length).bytes(length)
    crc = 0
    for start in range(0, length, 1000):
        crc = crc32c(data[start : start + 1000], crc)
    assert crc == crc32c(data)
