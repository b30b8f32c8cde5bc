"""Check a model's settings and fill in defaults; convert its scaling of rotary position embeddings (RoPE)."""

import math
from array import array
from typing import TYPE_CHECKING, Any

from llmnotes.errors import FileBroken, NotConvertible
from llmnotes.formats.gguf.architectures import Architecture
from llmnotes.formats.gguf.types import Typed

if TYPE_CHECKING:
    import numpy as np

LIMIT = 1 << 24  # the largest size in a config that is believed
CONTEXT_LIMIT = (1 << 32) - 1  # the longest context that GGUF can state; configs do say 2**25 and more
COUNTS = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads")
COUNTS += ("vocab_size", "max_position_embeddings", "head_dim")
EXPERTS = ("num_local_experts", "num_experts_per_tok", "moe_intermediate_size")  # of a mixture
MOST_EXPERTS = 1024  # of llama.cpp
NUMBERS = ("rms_norm_eps", "layer_norm_eps", "rope_theta", "partial_rotary_factor", "rope_local_base_freq")
OPTIONAL = ("sliding_window", "attn_logit_softcapping", "final_logit_softcapping")  # numbers, or null for none
FLAGS = ("tie_word_embeddings", "attention_bias", "mlp_bias", "use_qkv_bias", "qk_layernorm", "use_parallel_residual")
# What says how positions turn, in config.json and in its rope_parameters, where each kind takes some of these.
SETTINGS = "original_max_position_embeddings partial_rotary_factor rope_parameters rope_scaling rope_theta".split()
PARAMETERS = """
    attention_factor beta_fast beta_slow extrapolation_factor factor finetuned high_freq_factor long_factor
    low_freq_factor mrope_section mscale mscale_all_dim original_max_position_embeddings partial_rotary_factor
    rope_theta rope_type short_factor truncate type
""".split()
BETAS = {"beta_fast": 32.0, "beta_slow": 1.0}  # of YaRN: what llama.cpp takes unless it is told otherwise
YARN = ("original_context_length", "attn_factor", *(f"yarn_{setting}" for setting in BETAS))  # GGUF's keys of it
# Settings that no key of a GGUF gives as it is.
OWN = ("architectures", "model_type", "rope_type")
LLAMA3_SETTINGS = ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings")
# The settings with which models of the Llama 3 family were published: factor, low, high, original context.
LLAMA3 = ((8.0, 1.0, 4.0, 8192), (32.0, 1.0, 4.0, 8192), (16.0, 1.0, 1.0, 8192))


def settings(architecture: Architecture, config: dict, layers_limit: int) -> dict[str, Any]:
    """Return the settings that shape a model, each checked, those left out filled in with the architecture's defaults.

    `"stated"` holds the names that config.json itself has; `"rope"` the rope parameters, with "rope_type".
    Raises `FileBroken` for an impossible value: a size below 1 or above 2**24, more layers than
    `layers_limit` (the number of tensors at hand), heads that do not divide; `NotConvertible` for a list of sizes.
    """
    rope = _rope(architecture, config)
    if "longrope" in architecture.positions and rope["rope_type"] in ("su", "yarn"):
        rope["rope_type"] = "longrope"  # which Phi-3 called so at first
    found = architecture.defaults | {key: value for key, value in config.items() if value is not None}
    for key in ("rope_theta", "partial_rotary_factor", "rope_local_base_freq"):
        found |= {key: rope[key]} if rope.get(key) is not None and key in architecture.defaults else {}
    if config.get("num_key_value_heads", "default") is None or "num_key_value_heads" not in found:
        found["num_key_value_heads"] = found.get("num_attention_heads")
    for key in COUNTS[:-1]:
        most = CONTEXT_LIMIT if key == "max_position_embeddings" else LIMIT
        alike(key, found.get(key))
        _check(key, found.get(key), type(found.get(key)) is int and 0 < found[key] <= most)
    found.setdefault("head_dim", found["hidden_size"] // found["num_attention_heads"])
    heads, groups, dim = found["num_attention_heads"], found["num_key_value_heads"], found["head_dim"]
    _check("head_dim", dim, type(dim) is int and 0 < dim <= LIMIT and (dim % 2 == 0 or not architecture.permuted))
    _check("num_key_value_heads", groups, heads % groups == 0)
    _check("num_hidden_layers", found["num_hidden_layers"], found["num_hidden_layers"] <= layers_limit)
    # The context before it was stretched: beside the rope parameters it goes before theirs, and it need not be stated.
    before = "original_max_position_embeddings"
    rope[before] = config.get(before) or rope.get(before) or found["max_position_embeddings"]
    if architecture.mixture:
        found |= _experts(config, found)
    for key in set(NUMBERS) & set(architecture.defaults):
        value = found[key]
        most = 1 if key == "partial_rotary_factor" else 1e30
        _check(key, value, isinstance(value, int | float) and 0 <= value <= most)
    for key in set(OPTIONAL) & set(architecture.defaults):
        value = found[key] = config.get(key, architecture.defaults[key])  # null is a value here
        kinds = (int,) if key == "sliding_window" else (int, float)
        _check(key, value, value is None or (type(value) in kinds and 0 < value <= LIMIT))
    for key in set(FLAGS) & set(architecture.defaults):
        _check(key, found[key], isinstance(found[key], bool))
    names = (*architecture.defaults, *COUNTS)
    stated = {key for key, value in config.items() if value is not None}
    return {key: found[key] for key in names} | {"rope": rope, "stated": stated}


def _experts(config: dict, found: dict) -> dict[str, int]:
    """Return the sizes of a mixture of experts, checked; transformers knows their number by two names."""
    key, other = EXPERTS[0], "num_experts"
    stated = [config[name] for name in (key, other) if config.get(name) is not None]
    if len(stated) == 2 and stated[0] != stated[1]:
        raise NotConvertible(
            f"config.json says {key} is {str(stated[0])[:20]} and {other} is {str(stated[1])[:20]}, which mean the "
            "same; correct the one that is wrong."
        )
    sizes = {name: found[name] for name in EXPERTS if name in found}
    sizes[key] = stated[0] if stated else sizes[key]
    for name, size in sizes.items():
        most = LIMIT if name == "moe_intermediate_size" else MOST_EXPERTS
        _check(name, size, type(size) is int and 0 < size <= most)
    _check("num_experts_per_tok", sizes["num_experts_per_tok"], sizes["num_experts_per_tok"] <= sizes[key])
    _check(key, sizes[key], found["num_hidden_layers"] * sizes[key] <= LIMIT >> 7)
    return sizes


def keys(architecture: Architecture, sizes: dict) -> dict[str, Typed]:
    """Return GGUF's keys for the scaling of the positions; raise `NotConvertible` for a kind that GGUF lacks."""
    rope, found = sizes["rope"], {}
    kind = rope["rope_type"]
    if kind not in (*architecture.positions, "dynamic"):
        raise NotConvertible(
            f"llmnotes cannot write the position scaling {str(kind)[:40]} into a GGUF of {architecture.hugging_face}; "
            f"use a model with {' or '.join(architecture.positions)}."
        )
    if "original_max_position_embeddings" in architecture.defaults:
        found["original_context_length"] = _context(sizes)
    if kind == "longrope":
        found["attn_factor"] = Typed("F32", longrope_factor(sizes))
    if kind in ("linear", "yarn"):
        found["type"] = kind
        found["factor"] = Typed("F32", number(rope, "factor"))
    if kind == "yarn":
        if not rope.get("truncate", True):
            raise NotConvertible("llama.cpp computes YaRN with truncate true only; use a model without truncate false.")
        found["original_context_length"] = _context(rope)
        attention = attention_factor(rope) / grown(number(rope, "factor"))
        found |= {"attn_factor": Typed("F32", attention)} if abs(attention - 1) > 1e-6 else {}
        for setting in BETAS:
            if rope.get(setting):
                found[f"yarn_{setting}"] = Typed("F32", number(rope, setting))
    return {f"{architecture.gguf}.rope.scaling.{key}": value for key, value in found.items()}


def attention_factor(rope: dict) -> float:
    """Return what YaRN multiplies the rotated queries and keys with: a setting, or computed as transformers does."""
    if rope.get("attention_factor") is not None:
        return number(rope, "attention_factor")
    factor = number(rope, "factor")
    if rope.get("mscale") and rope.get("mscale_all_dim"):
        return grown(factor, number(rope, "mscale")) / grown(factor, number(rope, "mscale_all_dim"))
    return grown(factor)


def grown(factor: float, share: float = 1.0) -> float:
    """Return YaRN's own factor of attention for a context that is `factor` times longer; llama.cpp always has it.

    >>> grown(1.0), round(grown(4.0), 4)
    (1.0, 1.1386)
    """
    return 1 + 0.1 * share * math.log(max(factor, 1))


def losses(architecture: Architecture, config: dict) -> list[str]:
    """Return a sentence for what llama.cpp does not take from a GGUF: dynamic scaling, and the two bounds of YaRN; and
    for what llmnotes does not find in it again: how a Llama 3 turns positions that no published model turns so.
    """
    rope = _rope(architecture, config)
    if rope["rope_type"] == "llama3" and tuple(rope.get(key) for key in LLAMA3_SETTINGS) not in LLAMA3:
        return [
            "GGUF has the rotations of a Llama 3 without their settings, and converting back gives those of published "
            "models only, with other settings an error: keep the folder."
        ]
    if rope["rope_type"] == "dynamic":
        most = config.get("max_position_embeddings") or architecture.defaults["max_position_embeddings"]
        return [
            f"llama.cpp has no dynamic scaling of positions, by which this model reads texts of more than "
            f"{str(most)[:20]} tokens: keep below that."
        ]
    other = {key: rope[key] for key, value in BETAS.items() if rope.get(key) and rope[key] != value}
    if rope["rope_type"] != "yarn" or not other:
        return []
    options = " ".join(f"--{f'yarn_{key}'.replace('_', '-')} {str(value)[:20]}" for key, value in other.items())
    return [f"llama.cpp does not read {' and '.join(other)} of YaRN from a file: start it with {options}."]


def unknown(architecture: Architecture, config: dict) -> list[str]:
    """Return the rope parameters that have a name of which llmnotes does not know what it does."""
    return [
        f"rope_parameters.{key}"
        for key in _rope(architecture, config)
        if key not in {*PARAMETERS, *architecture.defaults}
    ]


def factors(sizes: dict) -> "dict[str, np.ndarray]":
    """Return {name in GGUF: float32 (pairs,)}, the factors by which each pair's rotation is slowed, if there are any.

    Raises `FileBroken` for lists of LongRoPE's that do not have a number above 0 for each pair.
    """
    import numpy as np

    rope = sizes["rope"]
    if rope["rope_type"] == "llama3":
        return {"rope_freqs.weight": llama3(rope, sizes["rope_theta"], sizes["head_dim"])}
    if rope["rope_type"] != "longrope":
        return {}
    found, pairs = {}, int(sizes["head_dim"] * sizes["partial_rotary_factor"]) // 2
    for length in ("long", "short"):
        values = rope.get(f"{length}_factor")
        _check(f"{length}_factor", values, isinstance(values, list) and len(values) == pairs)
        numbers = [number({length: value}, length) for value in values]
        found[f"rope_factors_{length}.weight"] = np.array(numbers, np.float32)
    return found


def longrope_factor(sizes: dict) -> float:
    """Return the factor by which LongRoPE stretches attention, as transformers computes it where it is not stated."""
    rope, original = sizes["rope"], number(sizes, "original_max_position_embeddings")
    if rope.get("attention_factor") is not None:
        return number(rope, "attention_factor")
    stated = rope.get("factor") is not None
    scale = number(rope, "factor") if stated else sizes["max_position_embeddings"] / original
    return math.sqrt(1 + math.log(scale) / math.log(original)) if scale > 1 else 1.0


def llama3(rope: dict, theta: float, dim: int) -> "np.ndarray":
    """Return the factor by which Llama 3 slows each pair's rotation: float32 (dim // 2).

    Short waves stay, long ones are slowed by `factor`, those between by a mean. Computed in float32 where PyTorch
    does, so that the bits agree with llama.cpp's converter.
    """
    import numpy as np

    factor, low, high, original = (number(rope, key) for key in LLAMA3_SETTINGS)
    # The angle by which each pair turns from one token to the next.
    steps = np.arange(0, dim, 2, dtype=np.float32) / np.float32(dim)
    frequencies = np.float32(1) / np.power(np.float32(theta), steps)
    factors = []
    # Compare the length of each wave, in tokens, with the context of the original training.
    for frequency in frequencies:
        wave = np.float32(2 * math.pi) / frequency
        if wave < original / high:
            factors.append(np.float32(1))
        elif wave > original / low:
            factors.append(np.float32(factor))
        else:
            share = (np.float32(original) / wave - np.float32(low)) / np.float32(high - low)
            factors.append(np.float32(1) / ((np.float32(1) - share) / np.float32(factor) + share))
    return np.array(factors, np.float32)


def number(rope: dict, key: str) -> float:
    """Return one number of the rope parameters; raise `FileBroken` if it is not a number above 0."""
    value = rope.get(key)
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < 1e30:
        raise _wrong(key, value)
    return value


def yarn(stated: dict[str, Any], factor: float) -> dict[str, Any]:
    """Return the rope parameters for those of GGUF's keys `YARN` that are no None; raise as `number`.

    Without the original context, transformers takes the whole one, and so does llama.cpp.
    """
    stated = {key: value for key, value in stated.items() if value is not None}
    found = {"original_max_position_embeddings": stated.pop(YARN[0])} if YARN[0] in stated else {}
    found |= {key.removeprefix("yarn_"): number(stated, key) for key in stated}
    return found | ({"attention_factor": found.pop(YARN[1]) * grown(factor)} if YARN[1] in found else {})


def only_numbers(config: dict[str, Any]) -> None:
    """Raise `FileBroken` for what a key gives and config.json has no place for, at any depth: a list, a text, a NaN."""
    for setting, value in config.items():
        if isinstance(value, dict):
            only_numbers(value)
            continue
        if setting in OWN or value is None or (isinstance(value, bool) and setting in (*FLAGS, "norm_topk_prob")):
            continue
        whole = setting.endswith(("_token_id", "_embeddings"))
        for one in value if setting == "eos_token_id" and isinstance(value, list) and value else [value]:
            if type(one) is not int and (whole or type(one) is not float or not math.isfinite(one)):
                what = f"{'a whole' if whole else 'one finite'} number"
                said = f"{one!r:.40}" if isinstance(one, str | int | float) else "a list"
                raise FileBroken(f"Its keys give {said} for {setting}, which is {what}; copy or download it again.")


def _context(rope: dict) -> Typed:
    """Return the length of the texts that a model was first trained on."""
    length = number(rope, "original_max_position_embeddings")
    _check("original_max_position_embeddings", length, 2 <= length <= CONTEXT_LIMIT)
    return Typed("U32", int(length))


def alike(key: str, value: Any) -> None:
    """Raise `NotConvertible` for a size that is a list, in a config or a GGUF: the layers of some models differ."""
    if isinstance(value, list | array):
        raise NotConvertible(
            f"Its settings give a list for {key}, a number for each layer; llmnotes converts models whose layers are "
            "all alike, so use another model of its family, or llama.cpp's own converter."
        )


def _rope(architecture: Architecture, config: dict) -> dict:
    """Return the rope parameters under today's names; older configs have rope_theta beside rope_scaling.

    Gemma 3 has two sets: that of the layers with a window becomes rope_local_base_freq, as it was called at first.
    """
    scaling, rope = config.get("rope_scaling") or {}, config.get("rope_parameters") or {}
    _check("rope_scaling", scaling, isinstance(scaling, dict))
    _check("rope_parameters", rope, isinstance(rope, dict))
    outside = {key: config[key] for key in ("rope_theta", "partial_rotary_factor") if key in config}
    if "rope_local_base_freq" in architecture.defaults:
        whole = rope.get("full_attention") or {"rope_type": "default"}  # which a "type" does not undo
        window = rope.get("sliding_attention") or {}
        _check("rope_parameters", rope, isinstance(whole, dict) and isinstance(window, dict))
        _check("rope_parameters", rope, window.get("rope_type", "default") == "default")
        outside |= {"rope_local_base_freq": window.get("rope_theta")}
        rope = whole | scaling
    else:
        rope = scaling or rope
    kind = rope.get("rope_type", rope.get("type")) or "default"
    return outside | rope | {"rope_type": kind}


def _check(key: str, value: Any, holds: bool) -> None:
    if not holds:
        raise _wrong(key, value)


def _wrong(key: str, value: Any) -> FileBroken:
    return FileBroken(
        f"Its settings say {key} is {str(value)[:40]}, which cannot be right; correct it, or copy the model from "
        "its source again."
    )
