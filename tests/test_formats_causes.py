"""A sound folder is not called damaged: its weights are read all the same, or the true reason is said."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from llmnotes.errors import FileBroken, ModelBroken, NotConvertible
from llmnotes.formats import causes, convert, inspect
from llmnotes.formats.onnx import export
from llmnotes.models import open_model
from tests.models_for_gguf import make


def silent(line):
    """Say nothing."""


@pytest.fixture(scope="module")
def plain(tmp_path_factory, tiny_folder):
    """A Llama whose output layer is a tensor of its own."""
    return make("llama_mha", tmp_path_factory.mktemp("plain") / "model", tiny_folder)


@pytest.fixture
def folder(plain, tmp_path):
    return shutil.copytree(plain, tmp_path / "model")


def renamed(folder: Path, change, **more: torch.Tensor) -> Path:
    """Give the tensors of a folder other names."""
    tensors = load_file(folder / "model.safetensors")
    tensors = {change(name): tensor.clone() for name, tensor in tensors.items()} | more
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    return folder


def configured(folder: Path, **settings) -> Path:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | settings))
    return folder


def marked(name: str) -> str:
    """Return the name that a tensor has in a model whose layers were compiled one by one, and then wrapped."""
    return "module." + name.replace(".self_attn.", "._orig_mod.self_attn.")


PREFIXES = {
    "module.": lambda name: f"module.{name}",
    "_orig_mod.": lambda name: f"_orig_mod.{name}",
    "_orig_mod.module.": lambda name: f"_orig_mod.module.{name}",
    "language_model.": lambda name: f"language_model.{name}",
    "model.language_model.": lambda name: name.replace("model.", "model.language_model.", 1),
    "no model.": lambda name: name.removeprefix("model."),
    "inside": marked,
}


@pytest.mark.parametrize("prefix", PREFIXES)
def test_names_of_a_wrapper_are_read_one_to_one_and_said(prefix, plain, folder, tmp_path):
    renamed(folder, PREFIXES[prefix])
    convert(plain, tmp_path / "plain.gguf", type="F32")
    done = convert(folder, tmp_path / "model.gguf", type="F32")
    assert (tmp_path / "model.gguf").read_bytes() == (tmp_path / "plain.gguf").read_bytes()
    assert any("tensors were read with" in sentence for sentence in done.lost)
    ids = torch.arange(3, 30)[None]
    with torch.no_grad():
        one, other = (open_model(path, say=silent).model(ids).logits for path in (plain, folder))
    assert torch.equal(one, other)


def test_a_wrapped_copy_of_tied_embeddings_is_left_out(tiny_folder, tmp_path):
    table = load_file(tiny_folder / "model.safetensors")["model.embed_tokens.weight"]
    wrapped = shutil.copytree(tiny_folder, tmp_path / "tiny")
    renamed(wrapped, PREFIXES["module."], **{"module.lm_head.weight": table.clone()})
    convert(tiny_folder, tmp_path / "plain.gguf", type="F32")
    convert(wrapped, tmp_path / "tiny.gguf", type="F32")
    assert (tmp_path / "tiny.gguf").read_bytes() == (tmp_path / "plain.gguf").read_bytes()


def test_a_wrapper_with_more_inside_is_named(folder, tmp_path):
    renamed(folder, PREFIXES["language_model."], **{"language_model.tower.weight": torch.ones(3)})
    assert any("begins with language_model., which a wrapper" in note for note in inspect(folder).notes)
    with pytest.raises(NotConvertible, match="begin with language_model., .* not the model's one to one; save"):
        convert(folder, tmp_path / "model.gguf")
    with pytest.raises(ModelBroken, match="begin with language_model., .* not the model's one to one; save"):
        open_model(folder, say=silent)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"quant_method": "gptq", "bits": 4}, "GPTQ, 4 bits"),
        ({"quant_method": "awq", "bits": 4, "group_size": 128}, "AWQ, 4 bits"),
        ({"quant_method": "awq", "w_bit": 4}, "AWQ, 4 bits"),
        ({"quant_method": "fp8", "weight_block_size": [128, 128]}, "FP8"),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "bitsandbytes, 4 bits"),
        ({"load_in_4bit": True}, "bitsandbytes, 4 bits"),
        ({"quant_method": "compressed-tensors", "format": "int-quantized"}, "compressed-tensors, int-quantized"),
        ({"quant_method": "hqq"}, "hqq"),
        ({}, None),
    ],
)
def test_what_quantized_a_model_is_named(settings, words, folder, tmp_path):
    configured(folder, quantization_config=settings)
    assert causes.quantized_by(inspect(folder)) == words
    if words:
        assert any(f"quantized ({words})" in note for note in inspect(folder).notes)


@pytest.mark.parametrize("method", ["awq", "bitsandbytes", "hqq", "nobody"])
def test_a_quantized_folder_is_named_and_not_called_damaged(method, folder, tmp_path):
    weight = "model.layers.0.mlp.up_proj.weight"
    renamed(folder, lambda name: name.replace(weight, weight.replace("weight", "qweight")))
    configured(folder, quantization_config={"quant_method": method, "bits": 4})
    named = causes.METHODS.get(method, method)
    with pytest.raises(NotConvertible, match=rf"model is quantized \({named}, 4 bits\), .*original precision"):
        convert(folder, tmp_path / "model.gguf")
    with pytest.raises(ModelBroken, match=named):
        open_model(folder, say=silent)


def test_packed_weights_without_settings_are_named(folder, tmp_path):
    renamed(folder, lambda name: name.replace("proj.weight", "proj.qweight"))
    with pytest.raises(NotConvertible, match="GPTQ or AWQ, and no quantization_config says how"):
        convert(folder, tmp_path / "model.gguf")


def test_an_adapter_among_the_weights_is_named(folder, tmp_path):
    renamed(folder, lambda name: name, **{"model.layers.0.self_attn.q_proj.lora_A.weight": torch.ones(2, 2)})
    with pytest.raises(NotConvertible, match="LoRA adapter; merge"):
        convert(folder, tmp_path / "model.gguf")


def test_other_settings_than_the_weights_have_are_not_called_damage(folder, tmp_path):
    for settings, error, words in (
        ({"num_hidden_layers": 3}, FileBroken, "lacks 9 tensors .*; take config.json and all"),
        ({"num_hidden_layers": 1}, NotConvertible, "9 tensors .* take config.json from the same"),
        ({"num_hidden_layers": 2, "intermediate_size": 96}, FileBroken, "promises .*; take both"),
    ):
        configured(folder, **settings)
        with pytest.raises(error, match=words):
            convert(folder, tmp_path / "model.gguf")
    with pytest.raises(ModelBroken, match=r"proj.weight is \(.*, and \(.* is asked for\); take both"):
        open_model(folder, say=silent)


def in_shards(folder: Path, count: int, ending: str = "safetensors", stem: str = "model") -> list[Path]:
    """Cut the weights of a folder into shards, and write no index."""
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    paths = [folder / f"{stem}-{at + 1:05}-of-{count:05}.{ending}" for at in range(count)]
    for at, path in enumerate(paths):
        some = {name: tensors[name] for name in sorted(tensors)[at::count]}
        save_file(some, path, {"format": "pt"}) if ending == "safetensors" else torch.save(some, path)
    return paths


@pytest.mark.parametrize(("ending", "stem"), [("safetensors", "model"), ("bin", "pytorch_model")])
def test_shards_without_an_index_are_all_read(ending, stem, plain, folder, tmp_path):
    in_shards(folder, 3, ending, stem)
    found = inspect(folder)
    assert found.parameters == inspect(plain).parameters
    assert any("3 shards without an index were read" in note for note in found.notes)
    for path, name in ((plain, "plain"), (folder, "model")):
        convert(path, tmp_path / f"{name}.gguf", type="F32")
    assert (tmp_path / "model.gguf").read_bytes() == (tmp_path / "plain.gguf").read_bytes()
    with pytest.raises(ModelBroken, match="llmnotes convert"):
        open_model(folder, say=silent)
    convert(folder, tmp_path / "whole", to="safetensors")
    assert open_model(tmp_path / "whole", say=silent).model.num_parameters() == found.parameters


def test_a_shard_that_is_not_there_is_missed(folder):
    paths = in_shards(folder, 3)
    kept = paths[1].read_bytes()
    paths[1].unlink()
    with pytest.raises(FileBroken, match="has 2 shards of 3 and no index of them; copy the others"):
        inspect(folder)
    (folder / "model-00002-of-00004.safetensors").write_bytes(kept)
    with pytest.raises(FileBroken, match="has 3 shards of 3, 4 and no index"):
        inspect(folder)


@pytest.mark.parametrize(
    ("names", "settings"),
    [
        (["consolidated.safetensors"], "config.json"),
        (["consolidated.safetensors"], "params.json"),
        (["consolidated-00001-of-00002.safetensors", "consolidated-00002-of-00002.safetensors"], "params.json"),
        (["consolidated.00.pth", "consolidated.01.pth"], "params.json"),
    ],
)
def test_weights_for_mistrals_own_program_are_named(names, settings, folder, tmp_path):
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    (folder / "config.json").rename(folder / settings)
    for at, name in enumerate(names):
        some = {f"layers.{at}.attention.wq.weight": tensors[f"model.layers.{at}.self_attn.q_proj.weight"]}
        torch.save(some, folder / name) if name.endswith("pth") else save_file(some, folder / name)
    found = inspect(folder)
    assert found.identity.format == "Mistral or Meta folder" and len(found.tensors) == len(names)
    assert any("made for transformers" in note for note in found.notes)
    with pytest.raises(NotConvertible, match="made for transformers, with model.safetensors"):
        convert(folder, tmp_path / "model.gguf")
    with pytest.raises(ModelBroken, match="made for transformers, with model.safetensors"):
        open_model(folder, say=silent)


def test_consolidated_weights_beside_the_others_are_noted(folder):
    shutil.copy(folder / "model.safetensors", folder / "consolidated.safetensors")
    assert any("consolidated.safetensors lies beside" in note for note in inspect(folder).notes)


def test_the_names_of_mistrals_own_program_in_a_folder_are_named(folder, tmp_path):
    renamed(folder, lambda name: name.replace("self_attn.q_proj", "attention.wq"))
    with pytest.raises(NotConvertible, match="Mistral's and Meta's own programs"):
        convert(folder, tmp_path / "model.gguf")


SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 2048, "head_dim": 8}
SMALL |= {"intermediate_size": 64, "num_key_value_heads": 2, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
OWN_ATTENTION = {
    "Gemma2": SMALL,
    "GptOss": SMALL | {"num_local_experts": 2, "num_experts_per_tok": 1},
    "Bloom": {"hidden_size": 32, "n_layer": 2, "n_head": 4, "vocab_size": 2048},
    "Mamba": {"hidden_size": 32, "num_hidden_layers": 2, "vocab_size": 2048, "state_size": 4},
}


def other_architecture(name: str, folder: Path, tokenizer: Path) -> Path:
    """Save a tiny model of an architecture that has no attention by sdpa."""
    import transformers

    config = getattr(transformers, f"{name}Config")(**OWN_ATTENTION[name])
    getattr(transformers, f"{name}ForCausalLM")(config).save_pretrained(folder)
    for file in tokenizer.glob("token*"):
        shutil.copy(file, folder)
    return folder


@pytest.mark.parametrize("name", OWN_ATTENTION)
def test_an_architecture_opens_with_the_attention_that_it_has(name, tiny_folder, tmp_path):
    from transformers import AutoModelForCausalLM

    folder = other_architecture(name, tmp_path / name, tiny_folder)
    ids = torch.arange(3, 20)[None]
    with torch.no_grad():
        expected = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)(ids).logits
        assert torch.equal(open_model(folder, say=silent).model(ids).logits, expected)
    with pytest.raises(ModelBroken, match="transformers cannot open .*ValueError: .*does not support an attention"):
        open_model(folder, attention="sdpa", say=silent)


def test_the_librarys_own_reason_is_kept(folder):
    configured(folder, model_type="brandnew", architectures=["BrandNewForCausalLM"])
    with pytest.raises(ModelBroken, match="transformers cannot open model: .*`brandnew`"):
        open_model(folder, say=silent)


def test_what_cannot_be_traced_has_the_exporters_reason(folder, tmp_path, monkeypatch):
    def no_export(*_, **__):
        raise RuntimeError("step 3 of 3 failed\nsend a report") from ValueError("no ONNX function for grouped_mm")

    monkeypatch.setattr(torch.onnx, "export", no_export)
    with pytest.raises(
        NotConvertible, match="cannot trace model .ValueError: no ONNX function for grouped_mm.; llmnotes"
    ):
        convert(folder, tmp_path / "model.onnx")
    configured(folder, model_type="brandnew")
    with pytest.raises(NotConvertible, match="cannot open model as a causal .*`brandnew`"):
        convert(folder, tmp_path / "model.onnx")


def test_what_onnxruntime_cannot_run_has_its_reason(tmp_path):
    import onnx
    from onnx import TensorProto, helper

    x = helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "sequence"])
    y = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", "sequence", 5])
    graph = helper.make_graph([helper.make_node("Strange", ["input_ids"], ["logits"], domain="nobody")], "g", [x], [y])
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("nobody", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), tmp_path / "m.onnx")
    with pytest.raises(NotConvertible, match="onnxruntime cannot run m.onnx .*Strange"):
        export.onnx_logits(tmp_path / "m.onnx", [1])


NOTE = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n"


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "model-00002-of-00003.safetensors"])
def test_a_note_of_git_lfs_is_named(name, folder, tmp_path):
    if "of" in name:
        index = {"weight_map": {name: path.name for name, path in placed(in_shards(folder, 3))}}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / name).write_text(NOTE)
    for ask in (inspect, lambda path: convert(path, tmp_path / "a.gguf"), lambda path: open_model(path, say=silent)):
        with pytest.raises((FileBroken, ModelBroken), match=f"{name} is Git LFS's note .*git lfs pull"):
            ask(folder)
    with pytest.raises(FileBroken, match=f"{name} is Git LFS's note .*git lfs pull"):
        inspect(folder / name)


def placed(paths):
    """Yield each tensor's name with its file."""
    for path in paths:
        for name in load_file(path):
            yield name, path


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer.model", "chat_template.jinja"])
def test_a_tokenizer_that_git_lfs_has_not_brought_is_no_damage(name, folder, tmp_path):
    if name == "tokenizer.model":
        (folder / "tokenizer.json").unlink()
    (folder / name).write_text(NOTE)
    asks = [
        lambda: convert(folder, tmp_path / "a.gguf"),
        lambda: convert(folder, tmp_path / "a", to="safetensors"),
        lambda: open_model(folder, say=silent),
    ]
    for ask in asks:
        with pytest.raises((FileBroken, ModelBroken), match=f"{name} is Git LFS's note .*git lfs pull"):
            ask()
    assert not (tmp_path / "a.gguf").exists() and not (tmp_path / "a").exists()
    assert inspect(folder).tensors and convert(folder, tmp_path / "a.safetensors").tensors  # which need no tokenizer


def test_a_note_of_git_lfs_for_what_is_not_needed_does_no_harm(folder, tmp_path):
    for name in ("pytorch_model.bin", "README.md", "tokenizer.png", "vocab.json"):
        (folder / name).write_text(NOTE)
    assert any("pytorch_model.bin lies beside" in line for line in convert(folder, tmp_path / "a.gguf").lost)
    assert open_model(folder, say=silent).model.num_parameters()
    with pytest.raises(FileBroken, match="vocab.json is Git LFS's note"):  # the copy would hold the note
        convert(folder, tmp_path / "a", to="safetensors")
    (folder / "vocab.json").unlink()
    convert(folder, tmp_path / "a", to="safetensors")


def coded(folder: Path, how: str) -> Path:
    """Store the feed-forward matrices of a folder as codes."""
    tensors = load_file(folder / "model.safetensors")
    for name in [name for name in tensors if ".mlp." in name]:
        weight = tensors[name]
        if how == "bias":
            tensors[name.replace("weight", "bias")] = torch.ones(len(weight), dtype=torch.int8)
        elif how == "I8":
            tensors[name] = (weight * 500).round().to(torch.int8)
        else:
            tensors[name] = (weight * 200).to(torch.float8_e4m3fn)
            tensors[f"{name}_scale"] = torch.tensor(1 / 200)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    return folder


MODELOPT = {"quantization_config": {"quant_method": "modelopt", "quant_algo": "FP8"}}
OTHER_FP8 = {"quantization_config": {"quant_method": "fp8", "weight_block_size": [32, 32]}}
SAID = "no quantization_config says how"


@pytest.mark.parametrize(
    ("how", "settings", "words"),
    [
        ("F8_E4M3", MODELOPT, r"is quantized \(ModelOpt, FP8\), so"),
        ("F8_E4M3", {}, rf"is quantized \(weights in F8_E4M3, and {SAID}\)"),
        ("F8_E4M3", OTHER_FP8, r"is quantized \(FP8\), so"),  # with scales that transformers does not look for
        ("I8", {}, rf"is quantized \(weights in I8, and {SAID}\)"),
        ("bias", {"mlp_bias": True}, r"mlp.*bias in model is stored as I8, which is no weight but a code"),
    ],
)
def test_codes_are_never_taken_for_weights(how, settings, words, folder, tmp_path):
    configured(coded(folder, how), **settings)
    with pytest.raises(ModelBroken, match=f"{words}.*original precision"):
        open_model(folder, say=silent)
    with pytest.raises(NotConvertible, match=f"{words}.*original precision"):
        convert(folder, tmp_path / "model.onnx")
    if settings != OTHER_FP8:  # whose scales our own reader finds
        with pytest.raises(NotConvertible, match="original precision"):
            convert(folder, tmp_path / "model.gguf")
    assert not any(tmp_path.glob("model.*"))


def test_codes_that_transformers_undoes_open(plain, folder):
    tensors = load_file(folder / "model.safetensors")
    for name in [name for name in tensors if ".mlp." in name]:
        tensors[f"{name}_scale_inv"] = torch.full([-(-side // 4) for side in tensors[name].shape], 1 / 200)
        tensors[name] = (tensors[name] * 200).to(torch.float8_e4m3fn)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    kept = ["lm_head", *(f"model.layers.{at}.self_attn" for at in range(2))]
    fp8 = {"quant_method": "fp8", "weight_block_size": [4, 4], "modules_to_not_convert": kept}
    configured(folder, quantization_config=fp8)
    opened = open_model(folder, say=silent).model.state_dict()
    exact = load_file(plain / "model.safetensors")
    assert all(torch.allclose(opened[name].float(), exact[name].float(), rtol=0.07, atol=2e-4) for name in exact)


def test_what_modelopt_did_stands_in_a_file_of_its_own(folder, tmp_path):
    coded(folder, "F8_E4M3")
    for text, words in (
        ('{"quantization": {"quant_algo": "FP8"}}', r"\(ModelOpt, FP8\)"),
        ('{"quantization": 3}', r"\(ModelOpt\)"),
        ("{", r"\(ModelOpt\)"),
    ):
        (folder / causes.BESIDE).write_text(text)
        with pytest.raises(NotConvertible, match=f"is quantized {words}, so"):
            convert(folder, tmp_path / "model.gguf")


def test_a_folder_that_modelopt_left_as_it_was_is_read(plain, folder, tmp_path):
    (folder / causes.BESIDE).write_text('{"quantization": {"quant_algo": null}}')
    assert causes.quantized_by(inspect(folder)) is None
    assert convert(folder, tmp_path / "model.gguf").tensors == 21


@pytest.mark.parametrize("keys", [("quantization",), ("quantization", "quantization_config")])
def test_a_folder_of_mlx_is_named(keys, folder, tmp_path):
    tensors = load_file(folder / "model.safetensors")
    for name in [name for name in tensors if "self_attn" in name]:
        rows, columns = tensors[name].shape
        tensors[name] = torch.zeros(rows, columns // 8, dtype=torch.uint32)
        for end in ("scales", "biases"):
            tensors[name.replace("weight", end)] = torch.ones(rows, columns // 32)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    configured(folder, **dict.fromkeys(keys, {"group_size": 32, "bits": 4}))
    assert any("quantized (MLX, 4 bits)" in note for note in inspect(folder).notes)
    for to in ("gguf", "onnx"):
        with pytest.raises(NotConvertible, match=r"model is quantized \(MLX, 4 bits\), .*original precision"):
            convert(folder, tmp_path / f"model.{to}")
    with pytest.raises(ModelBroken, match=r"quantized \(MLX, 4 bits\)"):
        open_model(folder, say=silent)


@pytest.fixture
def tied(tiny_folder, tmp_path):
    return make("llama_gqa_tied", tmp_path / "tied", tiny_folder)


def test_a_prefix_before_tied_embeddings_is_read_by_transformers_too(tied, tmp_path):
    wrapped = renamed(shutil.copytree(tied, tmp_path / "model"), PREFIXES["model.language_model."])
    ids = torch.arange(3, 30)[None]
    with torch.no_grad():
        one, other = (open_model(path, say=silent).model(ids).logits for path in (tied, wrapped))
    assert torch.equal(one, other)


@pytest.mark.parametrize("prefix", ["", "module."])
def test_tied_embeddings_that_are_stored_as_the_output_layer_alone_are_read(prefix, tied, tmp_path):
    model = shutil.copytree(tied, tmp_path / "other" / "tied")
    renamed(model, lambda name: prefix + name.replace("model.embed_tokens.", "lm_head."))
    for folder, target in ((tied, "a.gguf"), (model, "b.gguf")):
        done = convert(folder, tmp_path / target, type="F32")
    assert (tmp_path / "a.gguf").read_bytes() == (tmp_path / "b.gguf").read_bytes()
    assert done.made is not None and f"{prefix}lm_head.weight" in done.made["token_embd.weight"] and not done.left
    configured(model, tie_word_embeddings=False)
    with pytest.raises(FileBroken, match="lacks 1 tensor that its config.json promises, model.embed_tokens.weight"):
        convert(model if not prefix else renamed(model, lambda name: name.removeprefix(prefix)), tmp_path / "c.gguf")


@pytest.mark.parametrize(
    "settings",
    [
        {"num_key_value_heads": [2, 2]},
        {"intermediate_size": [64, 64]},
        {"bos_token_id": [1]},
        {"max_position_embeddings": 131072.0},
        {"max_position_embeddings": None},
    ],
)
def test_settings_that_transformers_refuses_are_not_the_tokenizers_fault(settings, folder):
    configured(folder, **settings)
    words = f"does not accept the config.json of model .TypeError: Field '{next(iter(settings))}'.*; write there what"
    with pytest.raises(ModelBroken, match=words):
        open_model(folder, say=silent)


def test_a_tokenizer_that_cannot_be_read_is_still_named(folder):
    (folder / "tokenizer.json").write_text("{")
    with pytest.raises(ModelBroken, match="no tokenizer that can be read .*; put its tokenizer.json"):
        open_model(folder, say=silent)
