"""What the tensors and settings of each architecture are called in a Hugging Face folder and in GGUF."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from llmnotes.errors import NotConvertible
from llmnotes.formats.gguf.types import Typed

# Hugging Face's name -> GGUF's, without ".weight" and ".bias"; {} is the number of the layer.
WHOLE = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
LAYER = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
NORMED = LAYER | {"self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm"}  # each head of q and k
QK_NORM = {"self_attn.q_layernorm.norms.{}": "attn_q_norm", "self_attn.k_layernorm.norms.{}": "attn_k_norm"}

# The setting's name in config.json -> (GGUF's key behind the architecture's name, kind)
SETTINGS = {
    "num_hidden_layers": ("block_count", "U32"),
    "max_position_embeddings": ("context_length", "U32"),
    "hidden_size": ("embedding_length", "U32"),
    "intermediate_size": ("feed_forward_length", "U32"),
    "num_attention_heads": ("attention.head_count", "U32"),
    "num_key_value_heads": ("attention.head_count_kv", "U32"),
    "rope_theta": ("rope.freq_base", "F32"),
    "rms_norm_eps": ("attention.layer_norm_rms_epsilon", "F32"),
    "layer_norm_eps": ("attention.layer_norm_epsilon", "F32"),
    "use_parallel_residual": ("use_parallel_residual", "BOOL"),
    "vocab_size": ("vocab_size", "U32"),
}


@dataclass(frozen=True)
class Architecture:
    """One architecture: its names in both formats, and its settings, each of which stands in one of three tables.

    `defaults`: those that become keys or shapes, and what transformers takes where config.json omits them. `only`:
    those that llama.cpp computes at these values alone. `weighed`: those that `lost` gets, with transformers'
    defaults; it returns a sentence for each part of the function that GGUF does not have.

    `permuted`: GGUF interleaves the rows of q and k, because llama.cpp rotates neighbours where transformers rotates
    the two halves of a head. `omitted` are the keys that llama.cpp's converter does not write for it; `layer` are the
    names of a layer's tensors, Hugging Face's first.
    """

    gguf: str
    model_type: str
    hugging_face: str
    defaults: dict[str, Any]
    permuted: bool = False
    omitted: tuple[str, ...] = ()
    layer: dict[str, str] = field(default_factory=lambda: LAYER)
    only: dict[str, tuple] = field(default_factory=lambda: SILU)
    weighed: dict[str, Any] = field(default_factory=dict)
    lost: Callable[[dict], list[str]] = lambda settings: []


def _mistral_loses(settings: dict) -> list[str]:
    lost = ["GGUF stores a Mistral as llama: converting back gives a LlamaForCausalLM with the same weights."]
    return lost + ([WINDOW] if settings["sliding_window"] is not None else [])


def _qwen_loses(settings: dict) -> list[str]:
    # Those layers have a window that layer_types names, or where it is missing all from max_window_layers on.
    kinds, first = settings["layer_types"], settings["max_window_layers"]
    window = settings["use_sliding_window"] and settings["sliding_window"] is not None
    if kinds is None and type(first) is int and first >= settings.get("num_hidden_layers", 32):
        return []
    return [WINDOW] if window and (not isinstance(kinds, list) or "sliding_attention" in kinds) else []


WINDOW = "llama.cpp attends to the whole text; this model only attends to a sliding window."
SILU = {"hidden_act": ("silu", "swish")}
LLAMA_DEFAULTS = {
    "vocab_size": 32000,
    "max_position_embeddings": 2048,
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
    "attention_bias": False,
    "mlp_bias": False,
}
UNBIASED = {key: value for key, value in LLAMA_DEFAULTS.items() if not key.endswith("_bias")}
MISTRAL_DEFAULTS = UNBIASED | {"max_position_embeddings": 131072, "num_key_value_heads": 8}
QWEN_DEFAULTS = UNBIASED | {"max_position_embeddings": 32768, "vocab_size": 151936, "num_key_value_heads": 32}
QWEN3_DEFAULTS = QWEN_DEFAULTS | {"head_dim": 128}
QWEN_WINDOW = {"use_sliding_window": False, "sliding_window": 4096, "max_window_layers": 28, "layer_types": None}
STABLE_DEFAULTS = {
    "vocab_size": 50304,
    "num_key_value_heads": 32,
    "max_position_embeddings": 4096,
    "layer_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
    "use_qkv_bias": False,
    "qk_layernorm": False,
    "use_parallel_residual": False,
    "partial_rotary_factor": 0.25,
}

ARCHITECTURES = (
    Architecture("llama", "llama", "LlamaForCausalLM", LLAMA_DEFAULTS, permuted=True),
    Architecture(
        "llama",
        "mistral",
        "MistralForCausalLM",
        MISTRAL_DEFAULTS,
        permuted=True,
        weighed={"sliding_window": 4096},
        lost=_mistral_loses,
    ),
    Architecture(
        "qwen2",
        "qwen2",
        "Qwen2ForCausalLM",
        QWEN_DEFAULTS,
        omitted=("vocab_size",),
        weighed=QWEN_WINDOW,
        lost=_qwen_loses,
    ),
    Architecture(
        "qwen3",
        "qwen3",
        "Qwen3ForCausalLM",
        QWEN3_DEFAULTS,
        omitted=("vocab_size",),
        layer=NORMED,
        only=SILU | {"attention_bias": (False,)},
        weighed=QWEN_WINDOW,
        lost=_qwen_loses,
    ),
    Architecture("stablelm", "stablelm", "StableLmForCausalLM", STABLE_DEFAULTS, omitted=("vocab_size", "rope_theta")),
)


@dataclass(frozen=True)
class Weight:
    """One tensor of GGUF: its name and shape, the tensors it is made of (several are stacked), and the number of
    heads whose rows are interleaved, or 0."""

    name: str
    shape: tuple[int, ...]
    sources: tuple[str, ...]
    heads: int = 0


def of_config(config: dict) -> Architecture:
    """Return the architecture that config.json names; raise `NotConvertible` for one without names here."""
    names = config.get("architectures")
    name = names[0] if isinstance(names, list) and names else None
    for architecture in ARCHITECTURES:
        if name == architecture.hugging_face or (name is None and config.get("model_type") == architecture.model_type):
            return architecture
    asked = str(name or config.get("model_type") or "a model without a name")[:60]
    raise NotConvertible(f"llmnotes cannot convert {asked} to or from GGUF; it can convert {_known()}.")


def of_gguf(name: str) -> Architecture:
    """Return the architecture that GGUF's general.architecture names; raise `NotConvertible` for one unknown here."""
    for architecture in ARCHITECTURES:
        if architecture.gguf == name:
            return architecture
    raise NotConvertible(
        f"llmnotes cannot convert a GGUF of the architecture {str(name)[:60]}; it can convert {_known()}."
    )


def weights(architecture: Architecture, sizes: dict) -> list[Weight]:
    """Return all tensors that a model with these settings has, in the order in which GGUF files have them.

    `sizes` are complete, checked settings as `rope.settings` returns them.
    """
    hidden, heads, groups = sizes["hidden_size"], sizes["num_attention_heads"], sizes["num_key_value_heads"]
    inner, dim = sizes["intermediate_size"], sizes["head_dim"]
    shapes = {
        "token_embd": (sizes["vocab_size"], hidden),
        "output": (sizes["vocab_size"], hidden),
        "attn_q": (heads * dim, hidden),
        "attn_k": (groups * dim, hidden),
        "attn_v": (groups * dim, hidden),
        "attn_output": (hidden, heads * dim),
        "ffn_gate": (inner, hidden),
        "ffn_up": (inner, hidden),
        "ffn_down": (hidden, inner),
        "attn_q_norm": (dim,),
        "attn_k_norm": (dim,),
    }
    permuted = {"attn_q": heads, "attn_k": groups} if architecture.permuted else {}
    biased = _biased(architecture, sizes)
    norms = {"output_norm", "attn_norm", "ffn_norm"}

    def pair(ours: str, theirs: str, prefix: str = ""):
        shape = (hidden,) if ours in norms else shapes[ours]
        yield Weight(f"{prefix}{ours}.weight", shape, (f"{theirs}.weight",), permuted.get(ours, 0))
        if ours in biased:
            yield Weight(f"{prefix}{ours}.bias", shape[:1], (f"{theirs}.bias",), permuted.get(ours, 0))

    found = [] if sizes["tie_word_embeddings"] else [*pair("output", "lm_head")]
    found += pair("token_embd", "model.embed_tokens")
    for layer in range(sizes["num_hidden_layers"]):
        for theirs, ours in architecture.layer.items():
            if not (ours == "ffn_norm" and sizes.get("use_parallel_residual")):
                found += pair(ours, f"model.layers.{layer}.{theirs}", f"blk.{layer}.")
        for (theirs, ours), count in zip(QK_NORM.items(), (heads, groups), strict=True):
            if sizes.get("qk_layernorm"):
                many = tuple(f"model.layers.{layer}.{theirs.format(head)}.weight" for head in range(count))
                found.append(Weight(f"blk.{layer}.{ours}.weight", (count, dim), many))
    return [*found, *pair("output_norm", "model.norm")]


def keys(architecture: Architecture, sizes: dict) -> dict[str, Typed]:
    """Return GGUF's keys for the settings, in the order of llama.cpp's converter."""
    found = {}
    for setting, (key, kind) in SETTINGS.items():
        if setting in sizes and setting not in architecture.omitted:
            found[key] = Typed(kind, sizes[setting])
    if sizes["rope_theta"] != 10000 and "rope_theta" in architecture.omitted:
        found["rope.freq_base"] = Typed("F32", sizes["rope_theta"])  # the converter loses it
    if architecture.gguf == "llama" or {"head_dim"} & {*sizes["stated"], *architecture.defaults}:
        found["attention.key_length"] = found["attention.value_length"] = Typed("U32", sizes["head_dim"])
    if architecture.gguf in ("llama", "stablelm"):
        found["rope.dimension_count"] = Typed("U32", int(sizes.get("partial_rotary_factor", 1) * sizes["head_dim"]))
    return {f"{architecture.gguf}.{key}": value for key, value in found.items()}


def _biased(architecture: Architecture, sizes: dict) -> set[str]:
    """Return the tensors (in GGUF's names) that have a bias."""
    if architecture.gguf == "stablelm":
        return {"attn_norm", "ffn_norm", "output_norm"} | (
            {"attn_q", "attn_k", "attn_v"} if sizes["use_qkv_bias"] else set()
        )
    if architecture.gguf == "qwen2":
        return {"attn_q", "attn_k", "attn_v"}
    found = {"attn_q", "attn_k", "attn_v", "attn_output"} if sizes.get("attention_bias") else set()
    return found | ({"ffn_gate", "ffn_up", "ffn_down"} if sizes.get("mlp_bias") else set())


def _known() -> str:
    return ", ".join(architecture.hugging_face for architecture in ARCHITECTURES)
