"""config.json's settings from a GGUF's keys."""

from typing import Any

from llmnotes.errors import NotConvertible
from llmnotes.formats.gguf import differences, hf_tokenizer, rope
from llmnotes.formats.gguf.architectures import SETTINGS, Architecture
from llmnotes.formats.results import Tensor


def config_of(architecture: Architecture, metadata: dict[str, Any], at_hand: dict[str, Tensor]) -> dict[str, Any]:
    """Return config.json's settings from GGUF's keys and from which tensors there are."""
    name, table = architecture.gguf, at_hand.get("token_embd.weight")
    config: dict[str, Any] = {"architectures": [architecture.hugging_face], "model_type": architecture.model_type}
    for setting, (key, _) in SETTINGS.items():
        value = metadata.get(f"{name}.{key}")
        if setting == "sliding_window" and value == 0:
            continue  # Phi-3's way to say that it has none
        if value is not None and setting in {*architecture.defaults, *rope.COUNTS}:
            config[setting] = shortest(value)
    config.setdefault("num_key_value_heads", config.get("num_attention_heads"))
    if table is not None and len(table.shape) == 2:
        config["vocab_size"] = table.shape[0]
    config |= _head_dim(architecture, metadata, config)
    _windowed(architecture, metadata)
    first = {
        "attention_bias": "blk.0.attn_q.bias",
        "mlp_bias": "blk.0.ffn_gate.bias",
        "use_qkv_bias": "blk.0.attn_q.bias",
        "qk_layernorm": "blk.0.attn_q_norm.weight",
    }
    config |= {setting: tensor in at_hand for setting, tensor in first.items() if setting in architecture.defaults}
    if "use_parallel_residual" in architecture.defaults:
        config["use_parallel_residual"] = "blk.0.ffn_norm.weight" not in at_hand
    if architecture.shifted and differences.has_sides(config):
        config["query_pre_attn_scalar"] = differences.gemma_divisor(name, config)
    if architecture.mixture:
        config |= _experts(config)
    config["tie_word_embeddings"] = "output.weight" not in at_hand
    config |= hf_tokenizer.special_ids(metadata)
    config["rope_parameters"] = _positions(architecture, metadata, config)
    for setting in rope.COUNTS:
        rope.alike(setting, config.get(setting))
    rope.only_numbers(config)
    return config


def _head_dim(architecture: Architecture, metadata: dict[str, Any], config: dict[str, Any]) -> dict[str, Any]:
    """Return the size of a head; where no key gives it, llama.cpp has a rule, and some of transformers a number."""
    stated = metadata.get(f"{architecture.gguf}.attention.key_length")
    if stated is not None:
        return {"head_dim": stated}
    hidden, heads = config.get("hidden_size"), config.get("num_attention_heads")
    if "head_dim" in architecture.defaults and type(hidden) is int and type(heads) is int and heads > 0:
        return {"head_dim": hidden // heads}
    return {}


def _windowed(architecture: Architecture, metadata: dict[str, Any]) -> None:
    """Raise `NotConvertible` for a Gemma without a window: llama.cpp then turns the positions of all layers alike."""
    window = metadata.get(f"{architecture.gguf}.attention.sliding_window")
    missing = window is None and architecture.gguf != "gemma2"  # of which llama.cpp and transformers know the window
    if architecture.defaults.get("sliding_window") and (missing or window == 0):
        raise NotConvertible(
            f"Its keys give no attention.sliding_window, and a {architecture.hugging_face} of transformers has one; "
            "use the original folder."
        )


def _experts(config: dict[str, Any]) -> dict[str, Any]:
    """Return further settings of a Qwen3-MoE: how llama.cpp weighs experts, their number by its older name."""
    if config["model_type"] != "qwen3_moe":
        return {}
    found = {"norm_topk_prob": True, "num_experts": config.pop("num_local_experts", None)}
    inner, used = config.get("intermediate_size"), config.get("num_experts_per_tok")
    if "moe_intermediate_size" not in config and type(inner) is int and type(used) is int and used > 0:
        found["moe_intermediate_size"] = inner // used  # as llama.cpp takes it
    return found


def _positions(architecture: Architecture, metadata: dict[str, Any], config: dict[str, Any]) -> dict[str, Any]:
    """Return config.json's rope parameters."""
    name = f"{architecture.gguf}.rope"
    found = {"rope_type": "default", "rope_theta": config.pop("rope_theta", 10000.0)}
    factor = metadata.get(f"{name}.scaling.factor")
    kind = metadata.get(f"{name}.scaling.type", "linear" if factor else "none")  # as llama.cpp takes it
    if kind not in ("none", *architecture.positions):
        raise NotConvertible(
            f"llmnotes cannot convert the position scaling {str(kind)[:40]} of a {architecture.hugging_face} back; it "
            f"can convert {', '.join(architecture.positions)}."
        )
    stretch = metadata.get(f"{name}.scaling.attn_factor")
    if stretch not in (None, 1) and kind != "yarn" and "longrope" not in architecture.positions:
        raise stretched(stretch)
    if kind in ("linear", "yarn"):
        factor = 1.0 if factor in (None, 0) else rope.number({"factor": factor}, "factor")  # as llama.cpp takes it
        found |= {"rope_type": kind, "factor": shortest(factor)}
    if kind == "yarn":
        stated = {key: metadata.get(f"{name}.scaling.{key}") for key in rope.YARN}
        found |= {setting: shortest(value) for setting, value in rope.yarn(stated, found["factor"]).items()}
    if "partial_rotary_factor" in architecture.defaults:
        heads, hidden = config.get("num_attention_heads"), config.get("hidden_size")
        if type(heads) is int and type(hidden) is int and min(heads, hidden) > 0:
            dim = max(hidden // heads, 1)
            turned = {"dimension_count": metadata.get(f"{name}.dimension_count", dim)}  # as llama.cpp takes it
            found["partial_rotary_factor"] = rope.number(turned, "dimension_count") / dim
    if "original_max_position_embeddings" in architecture.defaults:
        original = metadata.get(f"{name}.scaling.original_context_length")
        config |= {} if original is None else {"original_max_position_embeddings": original}
        found |= {} if stretch is None else {"attention_factor": stretch}
    if "rope_local_base_freq" in config:
        window = {"rope_type": "default", "rope_theta": config.pop("rope_local_base_freq")}
        return {"full_attention": found, "sliding_attention": window}
    return found


def stretched(stretch: Any) -> NotConvertible:
    return NotConvertible(
        f"Its keys stretch attention by {str(stretch)[:20]}, which transformers only does with YaRN or LongRoPE; use "
        "the original folder."
    )


def shortest(value: Any) -> Any:
    """Return the shortest decimal number that is the same float32: 1e-06 and not 9.999999974752427e-07."""
    if not isinstance(value, float):
        return value
    import numpy as np

    return float(str(np.float32(value)))
