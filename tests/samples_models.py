"""Small folders and files of models beyond the plainest one, for `samples`: other architectures, tokenizers, shards."""

import json
import shutil
import struct
from pathlib import Path

import numpy as np

TEXT = "the cat sat on the mat and the dog ran after the cat and the hat of the man was red and green\n"


def write_models(folder: Path) -> None:
    """Write the models into `folder`, which holds `hf` already."""
    write_architectures(folder)
    write_pieces(folder)
    write_bin_shards(folder)
    write_llava(folder)
    write_llama2c(folder)
    from llmnotes.formats import convert

    convert(folder / "hf-qwen2", folder / "bytes.gguf", type="F32")
    convert(folder / "pieces", folder / "pieces.gguf", type="Q8_0")
    convert(folder / "hf-qwen3moe", folder / "experts.gguf", type="F16")


def write_architectures(folder: Path) -> None:
    """Write folders of the architectures that become a GGUF, with the tokenizer of `hf` and weights of zeros."""
    from llmnotes.formats.gguf import architectures, rope
    from llmnotes.formats.results import PlannedTensor
    from llmnotes.formats.safetensors import write_safetensors

    common = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4}
    common |= {"num_key_value_heads": 2, "vocab_size": 256}
    scaled = {"rope_type": "llama3", "rope_theta": 5e5, "factor": 8.0, "low_freq_factor": 1.0}
    scaled |= {"high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
    yarn = {"rope_type": "yarn", "rope_theta": 1e6, "factor": 4.0, "original_max_position_embeddings": 128}
    for name, changes in {
        "Llama": {"rope_parameters": scaled, "attention_bias": True, "mlp_bias": True},
        "Qwen2": {"rope_parameters": yarn},
        "StableLm": {"qk_layernorm": True, "use_qkv_bias": True},
        "Mixtral": {"num_local_experts": 3},
        "Qwen3Moe": {"model_type": "qwen3_moe", "norm_topk_prob": True, "moe_intermediate_size": 32, "num_experts": 8},
    }.items():
        path = folder / f"hf-{name.lower()}"
        path.mkdir()
        config = common | {"architectures": [f"{name}ForCausalLM"], "model_type": name.lower()} | changes
        (path / "config.json").write_text(json.dumps(config), encoding="utf-8")
        write_tokenizer(folder / "hf", path)
        kind = architectures.of_config(config)
        parts = []
        for weight in architectures.weights(kind, rope.settings(kind, config, 1000)):
            zeros = bytes(4 * int(np.prod(weight.each)))
            parts += [PlannedTensor(source, "F32", weight.each, lambda z=zeros: [z]) for source in weight.sources]
        with (path / "model.safetensors").open("wb") as file:
            write_safetensors(file, parts, {"format": "pt"})


def write_tokenizer(source: Path, target: Path) -> None:
    """Write the tokenizer of `source` with a merge, a special token and a template that adds it."""
    fast = json.loads((source / "tokenizer.json").read_text(encoding="utf-8"))
    vocab = {token: number for token, number in fast["model"]["vocab"].items() if number < 254}
    fast["model"] |= {"vocab": vocab | {"th": 254, "<s>": 255}, "merges": [["t", "h"]]}
    strips = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    fast["added_tokens"] = [{"id": 255, "content": "<s>", "special": True} | strips]
    start = {"id": "<s>", "ids": [255], "tokens": ["<s>"]}
    single = [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
    both = {"single": single, "pair": [*single, {"Sequence": {"id": "B", "type_id": 1}}]}
    fast["post_processor"] = {"type": "TemplateProcessing", **both, "special_tokens": {"<s>": start}}
    (target / "tokenizer.json").write_text(json.dumps(fast), encoding="utf-8")
    own = {"bos_token": "<s>", "chat_template": [{"name": "default", "template": "{{ messages }}"}]}
    (target / "tokenizer_config.json").write_text(json.dumps(own), encoding="utf-8")


def write_pieces(folder: Path) -> None:
    """Write the model of `hf` with the tokenizer.model of a SentencePiece BPE."""
    import io

    import sentencepiece
    from safetensors.numpy import load_file, save_file

    path, model = folder / "pieces", io.BytesIO()
    path.mkdir()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([TEXT] * 50),
        model_writer=model,
        vocab_size=256 + 3 + 30,
        model_type="bpe",
        byte_fallback=True,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    (path / "tokenizer.model").write_bytes(model.getvalue())
    pieces = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue()).vocab_size()
    tensors = load_file(folder / "hf" / "model.safetensors")
    table = tensors["model.embed_tokens.weight"]
    tensors["model.embed_tokens.weight"] = np.resize(table, (pieces, table.shape[1]))
    save_file(tensors, path / "model.safetensors", {"format": "pt"})
    config = json.loads((folder / "hf" / "config.json").read_text(encoding="utf-8")) | {"vocab_size": pieces}
    (path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    added = {"5": {"content": "<|user|>", "special": True}}
    own = {"added_tokens_decoder": added, "bos_token": "<s>", "chat_template": "{{ messages }}"}
    (path / "tokenizer_config.json").write_text(json.dumps(own), encoding="utf-8")


def write_bin_shards(folder: Path) -> None:
    """Write the model of `hf` as two pickled shards with an index, and an adapter as PyTorch has it."""
    import torch
    from safetensors.torch import load_file

    path = folder / "bin-shards"
    path.mkdir()
    weights = load_file(folder / "hf" / "model.safetensors")
    names = sorted(weights)
    index = {}
    for number, part in enumerate((names[: len(names) // 2], names[len(names) // 2 :]), 1):
        shard = f"pytorch_model-{number:05}-of-00002.bin"
        tensors = {name: weights[name].t().contiguous().t() if "proj" in name else weights[name] for name in part}
        torch.save(tensors, path / shard)
        index |= dict.fromkeys(part, shard)
    (path / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": index}), encoding="utf-8")
    shutil.copy(folder / "hf" / "config.json", path)
    adapter = folder / "adapter-bin"
    adapter.mkdir()
    shutil.copy(folder / "adapter" / "adapter_config.json", adapter)
    torch.save(load_file(folder / "adapter" / "adapter_model.safetensors"), adapter / "adapter_model.bin")


def write_llava(folder: Path) -> None:
    """Write a LLaVA of two vision layers and one of text."""
    import torch
    import transformers

    path = folder / "llava"
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4}
    vision = transformers.CLIPVisionConfig(**sizes, num_hidden_layers=2, image_size=28, patch_size=14)
    text = transformers.LlamaConfig(**sizes, vocab_size=256, num_hidden_layers=1)
    torch.manual_seed(0)
    config = transformers.LlavaConfig(vision_config=vision, text_config=text, image_token_index=255)
    transformers.LlavaForConditionalGeneration(config).save_pretrained(path)
    for file in (folder / "hf").glob("token*"):
        shutil.copy(file, path)
    images = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "do_center_crop": True, "size": {"shortest_edge": 28}}
    (path / "preprocessor_config.json").write_text(json.dumps(images), encoding="utf-8")


def write_llama2c(folder: Path) -> None:
    """Write llama2.c's versions 1 and 2, after its export.py."""
    dim, hidden, layers, heads, vocab, length, group = 8, 16, 1, 2, 5, 4, 4
    numbers = struct.pack("<7iB", dim, hidden, layers, heads, heads, vocab, length, 1)
    norms = layers * 2 * dim + dim
    matrices = [vocab * dim, *[dim * dim] * 4, *[dim * hidden] * 3]
    first = b"24ka" + struct.pack("<i", 1) + numbers
    (folder / "llama2c-1.bin").write_bytes(first.ljust(256, b"\0") + bytes(4 * (norms + sum(matrices))))
    second = b"24ka" + struct.pack("<i", 2) + numbers + struct.pack("<i", group)
    body = bytes(4 * norms) + b"".join(bytes(count + 4 * count // group) for count in matrices)
    (folder / "llama2c-2.bin").write_bytes(second.ljust(256, b"\0") + body)
