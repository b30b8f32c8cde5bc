"""Mixtures of experts in every form in which files keep them: one by one, together, or stacked; and their settings."""

import importlib.util
import json
from functools import partial
from pathlib import Path

import pytest

from llmnotes.errors import FileBroken, NotConvertible
from llmnotes.formats import convert, gguf, inspect
from llmnotes.formats.files import stored
from llmnotes.formats.gguf.write import write_gguf
from llmnotes.formats.results import PlannedTensor
from llmnotes.pebble import weights_dir
from tests.models_for_gguf import make
from tests.test_formats_to_gguf import differs_from_llama_cpp

NAMES = ("mixtral", "qwen3_moe")


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory):
    """The folder of a tiny mixture of experts, as it is published, and its GGUF in F32 beside it."""
    places = {name: tmp_path_factory.mktemp(name) / "model" for name in NAMES}
    for name, place in places.items():
        convert(make(name, place, weights_dir("pebble")), place.with_suffix(".gguf"), type="F32")
    return places.__getitem__


def changed(folder: Path, target: Path, changes: dict) -> Path:
    """Return a copy of a folder by links with other settings; None takes a setting out."""
    target.mkdir()
    for file in folder.iterdir():
        if file.name != "config.json":
            (target / file.name).symlink_to(file)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8")) | changes
    config = {key: value for key, value in config.items() if value is not None}
    (target / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return target


def rewritten(path: Path, target: Path, keys: dict, parts: list[PlannedTensor]) -> Path:
    with target.open("xb") as file:
        write_gguf(file, {key: value for key, value in keys.items() if value is not None}, parts)
    return target


def tensors_of(path: Path) -> dict[str, bytes]:
    return {tensor.name: b"".join(stored(tensor)) for tensor in inspect(path).tensors}


def one_by_one(path: Path) -> list[PlannedTensor]:
    """Return the tensors of a GGUF as it would have been written before April 2024, each expert's matrix on its own."""
    parts = []
    for tensor in inspect(path).tensors:
        data = b"".join(stored(tensor))
        if "_exps" not in tensor.name:
            parts.append(PlannedTensor(tensor.name, tensor.dtype, tensor.shape, lambda data=data: [data]))
            continue
        for at in range(tensor.shape[0]):
            piece = data[at * len(data) // tensor.shape[0] : (at + 1) * len(data) // tensor.shape[0]]
            name = tensor.name.replace("_exps.", f".{at}.")
            parts.append(PlannedTensor(name, tensor.dtype, tensor.shape[1:], lambda piece=piece: [piece]))
    return parts


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["safetensors", "pytorch"])
def test_what_transformers_5_saves_together_is_taken_apart(name, kind, folder_of, tmp_path):
    import torch
    import transformers

    model = transformers.AutoModelForCausalLM.from_pretrained(folder_of(name), dtype=torch.float32)
    folder = tmp_path / "model"
    model.save_pretrained(folder, save_original_format=False)
    assert any(tensor.name.endswith("mlp.experts.gate_up_proj") for tensor in inspect(folder).tensors)
    for file in weights_dir("pebble").glob("token*"):
        (folder / file.name).symlink_to(file)
    if kind == "pytorch":
        (folder / "model.safetensors").unlink()
        torch.save(model.state_dict(), folder / "pytorch_model.bin")
    done = convert(folder, tmp_path / "model.gguf", type="F32")
    assert [sentence for sentence in done.lost if "the tokenizer's EOS" not in sentence] == []  # its config has another
    assert (tmp_path / "model.gguf").read_bytes() == folder_of(name).with_suffix(".gguf").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_gguf_with_each_expert_on_its_own_becomes_the_same_folder(name, folder_of, tmp_path):
    whole = folder_of(name).with_suffix(".gguf")
    old = rewritten(whole, tmp_path / "old.gguf", gguf.entries(whole), one_by_one(whole))
    convert(whole, tmp_path / "a", to="huggingface")
    convert(old, tmp_path / "b", to="huggingface")
    assert tensors_of(tmp_path / "a") == tensors_of(tmp_path / "b") == tensors_of(folder_of(name))
    assert (tmp_path / "a" / "config.json").read_bytes() == (tmp_path / "b" / "config.json").read_bytes()
    with pytest.raises(NotConvertible, match="that lie together in a GGUF of"):
        convert(old, tmp_path / "c.gguf", type="Q8_0")


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("xllamacpp") is None, reason="llama.cpp is not installed")
def test_a_qwen3_moe_with_its_number_of_experts_under_either_name_or_with_one_expert(folder_of, tmp_path):
    folder = folder_of("qwen3_moe")
    for at, change in enumerate([{"num_experts": 5, "num_local_experts": None}, {"num_experts": 5}]):
        convert(changed(folder, tmp_path / f"{at}", change), tmp_path / f"{at}.gguf", type="F32")
        assert tensors_of(tmp_path / f"{at}.gguf") == tensors_of(folder.with_suffix(".gguf"))
    with pytest.raises(NotConvertible, match="num_local_experts is 5 and num_experts is 4, which mean the same"):
        convert(changed(folder, tmp_path / "c", {"num_experts": 4}), tmp_path / "c.gguf")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    assert differs_from_llama_cpp(_with_one_expert(config, tmp_path / "one"), tmp_path / "one.gguf") < 1e-4
    convert(tmp_path / "one.gguf", tmp_path / "back", to="huggingface")
    assert tensors_of(tmp_path / "back") == tensors_of(tmp_path / "one")


def _with_one_expert(config: dict, folder: Path) -> Path:
    import transformers

    one = {"num_local_experts": 1, "num_experts_per_tok": 1}
    transformers.Qwen3MoeForCausalLM(transformers.Qwen3MoeConfig.from_dict(config | one)).save_pretrained(folder)
    for file in weights_dir("pebble").glob("token*"):
        (folder / file.name).symlink_to(file)
    return folder


@pytest.mark.parametrize(
    ("name", "change", "error", "word"),
    [
        ("qwen3_moe", {"norm_topk_prob": None}, NotConvertible, "norm_topk_prob is False, but llama.cpp .* with True"),
        ("qwen3_moe", {"decoder_sparse_step": 2}, NotConvertible, "decoder_sparse_step is 2, but llama.cpp"),
        ("qwen3_moe", {"mlp_only_layers": [0]}, NotConvertible, r"mlp_only_layers is \[0\], but llama.cpp"),
        ("mixtral", {"num_experts_per_tok": 6}, FileBroken, "num_experts_per_tok is 6, which cannot be right"),
        ("mixtral", {"num_local_experts": 1025}, FileBroken, "num_local_experts is 1025"),
        ("mixtral", {"num_local_experts": 4}, NotConvertible, "has 6 tensors that its config.json does not describe"),
        ("mixtral", {"num_local_experts": 6}, FileBroken, "lacks 6 tensors"),
        ("qwen3_moe", {"moe_intermediate_size": "wide"}, FileBroken, "moe_intermediate_size is wide"),
    ],
)
def test_settings_of_a_mixture_that_llama_cpp_does_not_compute_are_refused(
    name, change, error, word, folder_of, tmp_path
):
    with pytest.raises(error, match=word):
        convert(changed(folder_of(name), tmp_path / "model", change), tmp_path / "model.gguf")
    assert not (tmp_path / "model.gguf").exists()


def test_a_gguf_from_elsewhere_is_read_by_what_llama_cpp_takes_from_it(folder_of, tmp_path):
    whole = folder_of("qwen3_moe").with_suffix(".gguf")
    parts = [PlannedTensor(t.name, t.dtype, t.shape, partial(stored, t)) for t in inspect(whole).tensors]

    def back(name: str, **keys):
        changes = {f"qwen3moe.{key}": value for key, value in keys.items()}
        changed = rewritten(whole, tmp_path / f"{name}.gguf", gguf.entries(whole) | changes, parts)
        done = convert(changed, tmp_path / name, to="huggingface")
        return done, json.loads((tmp_path / name / "config.json").read_text(encoding="utf-8"))

    # Without a width for the experts it is that of the feed-forward part, divided among those that are used.
    done, config = back("a", expert_feed_forward_length=None, feed_forward_length=192)
    assert (config["moe_intermediate_size"], config["num_experts"], config["norm_topk_prob"]) == (96, 5, True)
    assert not any("does not know" in sentence for sentence in done.lost)
    done, _ = back("b", expert_weights_scale=2.5, expert_shared_count=1)
    assert any(
        "expert_shared_count and expert_weights_scale, which llmnotes does not" in sentence for sentence in done.lost
    )
