"""Folders in the Hugging Face layout: what they are, where their tensors lie, and what is refused."""

import json
import shutil

import numpy as np
import pytest
from safetensors.numpy import save_file

from llmnotes import formats
from llmnotes.errors import FileBroken, LLMNotesError, UnknownFormat


@pytest.fixture
def folder(tiny_folder, tmp_path):
    return shutil.copytree(tiny_folder, tmp_path / "folder")


@pytest.fixture
def shards(tmp_path):
    """A folder with two shards and their index, and the function that writes another index."""
    save_file({"a": np.zeros(3, "f4")}, tmp_path / "x-1")
    save_file({"b": np.ones((2, 2), "f4")}, tmp_path / "x-2")
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')

    def index(weight_map):
        (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
        return tmp_path / "model.safetensors.index.json"

    index({"a": "x-1", "b": "x-2"})
    return tmp_path, index


def test_a_folder_says_what_it_holds(folder):
    from transformers import AutoModelForCausalLM

    found = formats.inspect(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert found.identity.format == "Hugging Face folder" and found.architecture == "LlamaForCausalLM"
    assert found.parameters == model.num_parameters() and found.bits_per_weight == 32
    assert found.metadata["config"]["hidden_size"] == 32 and any("stored once" in note for note in found.notes)
    state = model.state_dict()
    for tensor in found.tensors:
        assert b"".join(formats.read(found, tensor)) == state[tensor.name].numpy().tobytes()


def test_shards_of_transformers_are_one_model(folder, tmp_path):
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder)
    model.save_pretrained(tmp_path / "sharded", max_shard_size="20kB")
    found, one = formats.inspect(tmp_path / "sharded"), formats.inspect(folder)
    assert len({tensor.path for tensor in found.tensors}) > 1
    kinds = [sorted((t.name, t.dtype, t.shape) for t in side.tensors) for side in (found, one)]
    assert kinds[0] == kinds[1]
    index = formats.inspect(tmp_path / "sharded" / "model.safetensors.index.json")
    assert index.identity.format == "sharded safetensors" and index.tensors == found.tensors


def test_pickled_shards_are_one_model(folder):
    import torch

    torch.save({"a": torch.ones(2)}, folder / "pytorch_model-1.bin")
    torch.save({"b": torch.zeros(3)}, folder / "pytorch_model-2.bin")
    weight_map = {"a": "pytorch_model-1.bin", "b": "pytorch_model-2.bin"}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": weight_map}))
    (folder / "model.safetensors").unlink()
    found = formats.inspect(folder)
    assert [(t.name, t.shape) for t in found.tensors] == [("a", (2,)), ("b", (3,))]
    assert formats.identify(folder / "pytorch_model.bin.index.json").format == "sharded PyTorch"


@pytest.mark.parametrize(
    "weight_map, reason",
    [
        ({"a": "../x-1"}, "no file of this folder"),
        ({"a": "/etc/passwd"}, "no file of this folder"),
        ({"a": ".."}, "no file of this folder"),
        ({"a": "x\0"}, "no file of this folder"),
        ({"a": "\ud800"}, "no file of this folder"),
        ({"a": "C:x"}, "no file of this folder"),
        ({"a": "x-1", "b": "x-3"}, "'x-3' is missing"),
        ({"a": "x-1", "b": "x-1", "c": "x-2"}, "'b' lies in another shard|'b' is in none"),
        ({"a": "x-1", "c": "x-2"}, "'c' is in none"),
        ({"a": "model.safetensors.index.json"}, "is an index again"),
        ({"a": 1}, "no list of tensors"),
        ({}, "no list of tensors"),
        ([], "no list of tensors"),
    ],
)
def test_an_index_that_lies_is_refused(shards, weight_map, reason):
    folder, index = shards
    path = index(weight_map)
    for target in (path, folder):
        with pytest.raises(FileBroken, match=reason) as caught:
            formats.inspect(target)
        assert "\n" not in str(caught.value) and str(caught.value).endswith(".")


def test_a_tensor_in_two_shards_is_refused(shards):
    folder, index = shards
    save_file({"a": np.zeros(3, "f4"), "b": np.zeros(1, "f4")}, folder / "x-1")
    with pytest.raises(FileBroken, match="lies in two of its shards|lies in another shard"):
        formats.inspect(folder)


def test_a_tensor_without_a_place_in_the_index_lies_in_one_shard_only(shards):
    folder, index = shards
    save_file({"a": np.zeros(3, "f4"), "more": np.zeros(1, "f4")}, folder / "x-1")
    save_file({"b": np.zeros(3, "f4"), "more": np.zeros(1, "f4")}, folder / "x-2")
    with pytest.raises(FileBroken, match="'more' lies in two of its shards"):
        formats.inspect(folder)


def test_a_tensor_that_the_index_does_not_name_is_noted(shards):
    folder, index = shards
    save_file({"a": np.zeros(3, "f4"), "more": np.zeros(1, "f4")}, folder / "x-1")
    assert any("1 tensor that the index does not name" in note for note in formats.inspect(folder).notes)


@pytest.mark.parametrize(
    "text", [b"{", b"[]", b"\xff", b"", b'{"a": ' + b"[" * 100_000, b'{"a": 1' + b"0" * 5000 + b"}"]
)
def test_settings_that_are_none(folder, text):
    (folder / "config.json").write_bytes(text)
    with pytest.raises(FileBroken, match="config.json is damaged") as caught:
        formats.inspect(folder)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("value", [None, [], [1], {}, "text", [[]]])
def test_settings_of_a_strange_type_do_no_harm(folder, value):
    (folder / "config.json").write_text(json.dumps({"architectures": value, "model_type": value}))
    assert formats.inspect(folder).architecture in (None, "text")


def test_weights_that_are_packed_are_no_parameters(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"quantization_config": {"quant_method": "gptq"}}))
    assert any("quantized (GPTQ)" in note and "no parameters" in note for note in formats.inspect(folder).notes)


def test_a_folder_of_something_else_is_unknown(tmp_path):
    (tmp_path / "config.json").write_text('{"theme": "dark"}')
    with pytest.raises(UnknownFormat):
        formats.identify(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(FileBroken, match="no model.safetensors"):
        formats.inspect(tmp_path)
    (tmp_path / "model.safetensors").symlink_to("nowhere")
    with pytest.raises(LLMNotesError):
        formats.inspect(tmp_path)


def test_programs_and_further_weights_are_noted(folder):
    (folder / "modeling_x.py").write_text("raise SystemExit")
    (folder / "pytorch_model.bin").write_bytes(b"")
    notes = " ".join(formats.inspect(folder).notes)
    assert "modeling_x.py" in notes and "pytorch_model.bin lies beside" in notes


def test_an_adapter_says_what_it_adapts(tmp_path):
    config = {"peft_type": "LORA", "r": 8, "lora_alpha": 16, "target_modules": ["q_proj"]}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": "pebble"}))
    save_file({"base_model.model.q_proj.lora_A.weight": np.zeros((8, 4), "f4")}, tmp_path / "adapter_model.safetensors")
    found = formats.inspect(tmp_path)
    assert found.identity.format == "PEFT adapter" and found.parameters == 32
    assert found.metadata["config"]["base_model_name_or_path"] == "pebble" and found.metadata["config"]["r"] == 8


def test_other_json_is_no_index(tmp_path):
    (tmp_path / "a.json").write_text('{"a": 1}')
    with pytest.raises(UnknownFormat):
        formats.identify(tmp_path / "a.json")
