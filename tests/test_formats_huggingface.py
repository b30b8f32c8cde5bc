"""Folders in the Hugging Face layout: what they are, where their tensors lie, and what is refused."""

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from llmnotes import formats
from llmnotes.errors import FileBroken, LLMNotesError, NotConvertible, UnknownFormat
from llmnotes.models import files


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


def in_two(folder, index=True, names=("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")):
    """Cut the weights of a folder into two files, and return their paths."""
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    halves = [{key: weights[key] for key in sorted(weights)[at::2]} for at in range(2)]
    for name, half in zip(names, halves, strict=True):
        state = {key: torch.from_numpy(values) for key, values in half.items()}
        save_file(half, folder / name) if name.endswith("safetensors") else torch.save(state, folder / name)
    if index:
        places = {key: name for name, half in zip(names, halves, strict=True) for key in half}
        kind = "model.safetensors" if names[0].endswith("safetensors") else "pytorch_model.bin"
        (folder / f"{kind}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    return [folder / name for name in names]


PARTS = [
    (("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"), True, "its name says that there are 2"),
    (("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"), False, "its name says that there are 2"),
    (("pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin"), False, "its name says that there are 2"),
    (("model_1-of-2.fp16.safetensors", "model_2-of-2.fp16.safetensors"), False, "its name says that there are 2"),
    (("front.safetensors", "back.safetensors"), True, "model.safetensors.index.json names others"),
    (("front.bin", "back.bin"), True, "pytorch_model.bin.index.json names others"),
    (("consolidated.00.pth", "consolidated.01.pth"), False, "consolidated.01.pth lies beside it"),
    (("mp_rank_00_model_states.pt", "mp_rank_01_model_states.pt"), False, "mp_rank_01_model_states.pt lies beside it"),
]


@pytest.mark.parametrize("names, index, why", PARTS)
def test_one_part_of_a_model_is_not_converted_as_the_model(folder, tmp_path, names, index, why):
    part = in_two(folder, index, names)[0]
    found = formats.inspect(part)
    assert len(found.tensors) == 10 and why in " ".join(found.notes)
    for target in ("a.pt", "a.safetensors", "a.index"):
        with pytest.raises(NotConvertible, match=f"{part.name} is one of several files .*{why}.*give the folder"):
            formats.convert(part, tmp_path / target)
        assert not (tmp_path / target).exists()


def test_a_file_that_is_a_whole_model_is_converted_whatever_lies_beside_it(folder, tmp_path):
    weights = folder / "model.safetensors"
    (folder / "a.index.json").write_text("no JSON")
    (folder / "b.index.json").write_text('{"weight_map": {"a": "other.safetensors", "b": "more.safetensors"}}')
    (folder / "c.index.json").write_text('{"weight_map": {"a": "model.safetensors"}}')
    shutil.copy(weights, folder / "model-00001-of-00001.safetensors")
    torch.save({"a": torch.ones(2)}, folder / "consolidated.00.pth")
    for at, name in enumerate(("model.safetensors", "model-00001-of-00001.safetensors", "consolidated.00.pth")):
        assert not formats.inspect(folder / name).notes
        formats.convert(folder / name, tmp_path / f"{at}.safetensors")
    assert formats.inspect(tmp_path / "1.safetensors").nbytes == formats.inspect(weights).nbytes


def test_the_index_and_the_folder_of_shards_are_converted_whole(folder, tmp_path):
    count = len(formats.inspect(folder).tensors)
    in_two(folder)
    for source, target in ((folder, "a.pt"), (folder / "model.safetensors.index.json", "b.pt")):
        done = formats.convert(source, tmp_path / target)
        assert done.tensors == count and "did not read" not in " ".join(done.lost)


def with_adapter(folder):
    """Put a LoRA into the folder of a model."""
    config = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "base_model_name_or_path": str(folder)}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    start = "base_model.model.model.layers.0.self_attn.q_proj.lora_"
    pair = {f"{start}A.weight": np.ones((4, 32), "f4"), f"{start}B.weight": np.ones((32, 4), "f4")}
    save_file(pair, folder / "adapter_model.safetensors")
    return folder


@pytest.mark.parametrize("shards", [False, True])
def test_an_adapter_in_the_folder_of_a_model_is_not_converted_as_that_model(folder, tmp_path, shards):
    first = in_two(folder, index=False)[0].name if shards else "model.safetensors"
    with_adapter(folder)
    assert f"{first}" in " ".join(formats.inspect(folder).notes)
    for convert in (formats.convert, files.convert):
        for to in ("safetensors", "pytorch", "gguf"):
            with pytest.raises(NotConvertible, match=f"holds an adapter and a whole model, {first}.*move one of them"):
                convert(folder, tmp_path / "out", to=to)
    assert not (tmp_path / "out").exists()


def test_an_adapter_for_llama_cpp_names_the_model_that_lies_beside_it(folder, tmp_path):
    done = formats.convert(with_adapter(folder), tmp_path / "a.gguf", to="lora", base=folder)
    assert done.tensors == 2 and "model.safetensors lies beside the weights, and llmnotes did not read it." in done.lost


def test_files_of_weights_that_are_not_read_are_named(folder, tmp_path):
    more = ["extra.gguf", "flax_model.msgpack", "model-00003-of-00003.safetensors", "model.fp16.SAFETENSORS"]
    more += ["mtp.safetensors", "pytorch_model.bin", "pytorch_model.bin.index.json"]
    for name in more:
        save_file({"a": np.ones(2, "f4")}, folder / name)
    (folder / "._model.safetensors").write_bytes(b"of another system")
    (folder / "folder.bin").mkdir()
    sentence = f"{', '.join(more)} lie beside the weights, and llmnotes did not read them."
    assert sentence in formats.inspect(folder).notes
    for target, to in (("a", "safetensors"), ("b", "pytorch"), ("c.gguf", "gguf"), ("d.index", "tensorflow")):
        assert sentence in formats.convert(folder, tmp_path / target, to=to).lost


def test_shards_beside_those_that_are_read_are_named(folder, tmp_path):
    in_two(folder)
    save_file({"a": np.ones(2, "f4")}, folder / "model-00003-of-00003.safetensors")
    done = formats.convert(folder, tmp_path / "a.gguf")
    sentence = "model-00003-of-00003.safetensors lies beside the weights, and llmnotes did not read it."
    assert sentence in done.lost
    (folder / "model-00003-of-00003.safetensors").unlink()
    (folder / "model.safetensors.index.json").unlink()
    assert "did not read" not in " ".join(formats.convert(folder, tmp_path / "b.gguf").lost)


def test_slices_of_metas_own_program_are_no_damage(tmp_path):
    for rank in range(3):
        state = {"tok_embeddings.weight": torch.full((5, 4), float(rank)), "norm.weight": torch.ones(12)}
        tied = {"output.weight": state["tok_embeddings.weight"]}
        torch.save(state | tied, tmp_path / f"consolidated.0{rank}.pth")
    (tmp_path / "params.json").write_text('{"dim": 12}')
    found = formats.inspect(tmp_path)
    assert found.identity.format == "Mistral or Meta folder" and found.parameters == 3 * 20 + 12
    assert any("slices of the same tensors" in note for note in found.notes)
    by_name = {tensor.name: tensor for tensor in found.tensors}
    for rank, end in enumerate(("", "#2", "#3")):
        tensor = by_name[f"tok_embeddings.weight{end}"]
        assert b"".join(formats.read(found, tensor)) == np.full(20, rank, "<f4").tobytes()
        assert by_name[f"output.weight{end}"].alias == tensor.name
    with pytest.raises(NotConvertible, match="made for transformers"):
        formats.convert(tmp_path, tmp_path / "a.gguf")


def test_shards_that_are_no_slices_hold_no_tensor_twice(tmp_path):
    for at in (1, 2):
        save_file({"norm.weight": np.ones(2, "f4")}, tmp_path / f"consolidated-0000{at}-of-00002.safetensors")
    (tmp_path / "params.json").write_text('{"dim": 2}')
    with pytest.raises(FileBroken, match="lies in two of its shards"):
        formats.inspect(tmp_path)
