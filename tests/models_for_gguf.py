"""Tiny random models of every architecture that becomes a GGUF, saved by transformers itself."""

import json
import shutil
from pathlib import Path

SIZES = {
    "hidden_size": 64,
    "intermediate_size": 172,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 2048,
    "max_position_embeddings": 512,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": None,
}
LLAMA3 = {"rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0}
LLAMA3 |= {"high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
YARN = {
    "rope_type": "yarn",
    "rope_theta": 1e6,
    "factor": 4.0,
    "original_max_position_embeddings": 128,
    "beta_fast": 30.0,
}
EXPERTS = {"num_local_experts": 5, "num_experts_per_tok": 2}
QWEN3_MOE = {"head_dim": 32, "moe_intermediate_size": 96, "norm_topk_prob": True}
LINEAR = {"rope_type": "linear", "rope_theta": 10000.0, "factor": 2.0}
GEMMA_LINEAR = {
    "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
    "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
}
LONGROPE = {"rope_type": "longrope", "rope_theta": 10000.0, "partial_rotary_factor": 0.75}
LONGROPE |= {"long_factor": [1.5 + i for i in range(6)], "short_factor": [1.0 + i / 8 for i in range(6)]}

VARIANTS = {
    "llama_mha": ("Llama", {"num_key_value_heads": 4}),
    "llama_gqa_tied": ("Llama", {"tie_word_embeddings": True}),
    "llama_head_dim": ("Llama", {"head_dim": 32, "hidden_size": 256, "intermediate_size": 512}),
    "llama_biases": ("Llama", {"attention_bias": True, "mlp_bias": True}),
    "llama_rope_llama3": ("Llama", {"rope_parameters": LLAMA3, "head_dim": 64, "max_position_embeddings": 16384}),
    "llama_rope_linear": ("Llama", {"rope_parameters": LINEAR}),
    "llama_rope_yarn": ("Llama", {"rope_parameters": YARN}),
    "mistral": ("Mistral", {"sliding_window": 64}),
    "mixtral": ("Mixtral", EXPERTS | {"rope_parameters": {"rope_type": "default", "rope_theta": 1e6}}),
    "mixtral_8": ("Mixtral", {"num_local_experts": 8, "tie_word_embeddings": True}),
    "qwen3_moe": ("Qwen3Moe", EXPERTS | QWEN3_MOE),
    "qwen3_moe_yarn": ("Qwen3Moe", EXPERTS | QWEN3_MOE | {"rope_parameters": YARN, "tie_word_embeddings": True}),
    "qwen2": ("Qwen2", {"rope_parameters": {"rope_type": "default", "rope_theta": 1e6}}),
    "qwen2_tied": ("Qwen2", {"tie_word_embeddings": True}),
    "qwen3": ("Qwen3", {"head_dim": 32, "rope_parameters": {"rope_type": "default", "rope_theta": 1e6}}),
    "qwen3_tied": ("Qwen3", {"head_dim": 32, "tie_word_embeddings": True}),
    "qwen3_yarn": ("Qwen3", {"head_dim": 32, "rope_parameters": YARN}),
    "smollm3": ("SmolLM3", {"num_hidden_layers": 5, "tie_word_embeddings": False}),
    "smollm3_tied": ("SmolLM3", {"num_hidden_layers": 4}),
    "gemma3": ("Gemma3", {"num_hidden_layers": 7, "head_dim": 32, "query_pre_attn_scalar": 32, "sliding_window": 16}),
    "gemma3_linear": (
        "Gemma3",
        {
            "num_hidden_layers": 6,
            "head_dim": 32,
            "query_pre_attn_scalar": 32,
            "sliding_window": 16,
            "tie_word_embeddings": False,
            "final_logit_softcapping": 20.0,
            "rope_parameters": GEMMA_LINEAR,
        },
    ),
    "gemma2": ("Gemma2", {"num_hidden_layers": 3, "head_dim": 32, "query_pre_attn_scalar": 32, "sliding_window": 16}),
    "phi3": ("Phi3", {"num_key_value_heads": 4}),
    "phi3_longrope": (
        "Phi3",
        {"rope_parameters": LONGROPE, "original_max_position_embeddings": 512, "max_position_embeddings": 4096},
    ),
    "olmo2": ("Olmo2", {}),
    "stablelm": ("StableLm", {"use_qkv_bias": True}),
    "stablelm_qk_norm": ("StableLm", {"qk_layernorm": True, "use_parallel_residual": True}),
}


def make(name: str, folder: Path, tokenizer: Path, dtype: str = "float32") -> Path:
    """Save the variant `name` with the tokenizer of another folder, and return its folder."""
    import torch
    import transformers

    kind, changes = VARIANTS[name]
    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}TextConfig" if kind == "Gemma3" else f"{kind}Config")(**SIZES | changes)
    model = getattr(transformers, f"{kind}ForCausalLM")(config).to(getattr(torch, dtype))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape) * 0.05 + (parameter.ndim == 1))  # biases and norms too
    model.save_pretrained(folder)
    for file in tokenizer.glob("token*"):
        shutil.copy(file, folder)
    return folder


def without_a_space_before(folder: Path) -> None:
    """Make of a SentencePiece tokenizer in a folder one like Gemma's, which puts no space before a text."""
    for name, changes in (
        ("tokenizer_config.json", {"add_prefix_space": False}),
        (
            "tokenizer.json",
            {"pre_tokenizer": None, "normalizer": MARKED, "decoder": {"type": "Sequence", "decoders": UNMARKED}},
        ),
    ):
        value = json.loads((folder / name).read_text(encoding="utf-8"))
        (folder / name).unlink()
        (folder / name).write_text(json.dumps(value | changes), encoding="utf-8")


MARKED = {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}
UNMARKED = [
    {"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "},
    {"type": "ByteFallback"},
    {"type": "Fuse"},
]
