"""What the tensors and settings of an architecture are called in a Hugging Face folder and in GGUF."""

from dataclasses import dataclass
from pathlib import Path

from llmnotes.errors import NotConvertible
from llmnotes.formats.gguf import llama_cpp_converter
from llmnotes.formats.gguf.families import ARCHITECTURES, Architecture
from llmnotes.formats.gguf.types import Typed

# A norm for each head on its own: Hugging Face's name -> GGUF's, without ".weight"; {} is the number of the head.
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
    "rope_local_base_freq": ("rope.freq_base_swa", "F32"),
    "sliding_window": ("attention.sliding_window", "U32"),
    "attn_logit_softcapping": ("attn_logit_softcapping", "F32"),
    "final_logit_softcapping": ("final_logit_softcapping", "F32"),
    "vocab_size": ("vocab_size", "U32"),
    "num_local_experts": ("expert_count", "U32"),
    "num_experts_per_tok": ("expert_used_count", "U32"),
    "moe_intermediate_size": ("expert_feed_forward_length", "U32"),
}


@dataclass(frozen=True)
class Weight:
    """One tensor of GGUF: its name and shape, the tensors it is made of, the number of heads whose rows are
    interleaved, or 0, what GGUF adds to every number, and whether it is a stack of its sources."""

    name: str
    shape: tuple[int, ...]
    sources: tuple[str, ...]
    heads: int = 0
    plus: int = 0
    stacked: bool = False

    @property
    def each(self) -> tuple[int, ...]:
        """The shape of each of its sources."""
        return self.shape[1:] if self.stacked else self.shape


def of_config(config: dict, folder: Path | None = None) -> Architecture:
    """Return the architecture that config.json names; raise `NotConvertible` for one without names here.

    The sentence names the command that converts the `folder` with llama.cpp's own converter.
    """
    names = config.get("architectures")
    name = names[0] if isinstance(names, list) and names else None
    for architecture in ARCHITECTURES:
        if name == architecture.hugging_face or (name is None and config.get("model_type") == architecture.model_type):
            kind = config.get("model_type", architecture.model_type)
            if kind != architecture.model_type:
                raise NotConvertible(
                    f"config.json says its architecture is {name} and its model_type {str(kind)[:40]}, by which "
                    "transformers goes; correct the one that is wrong."
                )
            return architecture
    asked = str(name or config.get("model_type") or "a model without a name")[:60]
    road = llama_cpp_converter.advice(folder)
    raise NotConvertible(f"llmnotes cannot convert {asked} to or from GGUF; it can convert {_known()}, and {road}")


def of_gguf(name: str, mixture: bool = False) -> Architecture:
    """Return the architecture that GGUF's general.architecture names; raise `NotConvertible` for one unknown here.

    A Mixtral has the name of a Llama, and is a `mixture` of experts.
    """
    named = [architecture for architecture in ARCHITECTURES if architecture.gguf == name]
    for architecture in [each for each in named if each.mixture == mixture] + named:
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
    experts, expert = sizes.get("num_local_experts", 0), sizes.get("moe_intermediate_size", inner)
    normed = sizes.get("qk_layernorm")  # each head by a norm of its own
    shapes = {
        "token_embd": (sizes["vocab_size"], hidden),
        "output": (sizes["vocab_size"], hidden),
        "attn_q": (heads * dim, hidden),
        "attn_k": (groups * dim, hidden),
        "attn_v": (groups * dim, hidden),
        "attn_output": (hidden, heads * dim),
        "ffn_gate": (inner, hidden),
        "ffn_up": (inner if "ffn_gate" in architecture.layer.values() else 2 * inner, hidden),
        "ffn_down": (hidden, inner),
        "attn_qkv": ((heads + 2 * groups) * dim, hidden),
        "attn_q_norm": (heads, dim) if normed else (heads * dim if architecture.wide else dim,),
        "attn_k_norm": (groups, dim) if normed else (groups * dim if architecture.wide else dim,),
        "ffn_gate_inp": (experts, hidden),
        "ffn_gate_exps": (experts, expert, hidden),
        "ffn_up_exps": (experts, expert, hidden),
        "ffn_down_exps": (experts, hidden, expert),
    }
    permuted = {"attn_q": heads, "attn_k": groups} if architecture.permuted else {}
    biased = _biased(architecture, sizes)
    plus = int(architecture.shifted)

    def pair(ours: str, theirs: str, prefix: str = ""):
        shape, stacked, name = shapes.get(ours, (hidden,)), "{}" in theirs, f"{prefix}{ours}.weight"
        sources = tuple(f"{theirs.format(at)}.weight" for at in range(shape[0] if stacked else 1))
        added = plus if ours.endswith("_norm") else 0
        yield Weight(name, shape, sources, permuted.get(ours, 0), added, stacked)
        if ours in biased:
            yield Weight(f"{prefix}{ours}.bias", shape[:1], (f"{theirs}.bias",), permuted.get(ours, 0))

    found = [] if sizes["tie_word_embeddings"] else [*pair("output", "lm_head")]
    found += pair("token_embd", "model.embed_tokens")
    for layer in range(sizes["num_hidden_layers"]):
        for theirs, ours in (architecture.layer | (QK_NORM if normed else {})).items():
            if not (ours == "ffn_norm" and sizes.get("use_parallel_residual")):
                found += pair(ours, f"model.layers.{layer}.{theirs}", f"blk.{layer}.")
    return [*found, *pair("output_norm", "model.norm")]


def keys(architecture: Architecture, sizes: dict) -> dict[str, Typed]:
    """Return GGUF's keys for the settings, in the order of llama.cpp's converter."""
    found = {}
    for setting, (key, kind) in SETTINGS.items():
        if sizes.get(setting) is not None and setting not in architecture.omitted:
            found[key] = Typed(kind, sizes[setting])
    if sizes["rope_theta"] != 10000 and "rope_theta" in architecture.omitted:
        found["rope.freq_base"] = Typed("F32", sizes["rope_theta"])  # the converter loses it
    if architecture.model_type in ("llama", "mistral") or {"head_dim"} & {*sizes["stated"], *architecture.defaults}:
        found["attention.key_length"] = found["attention.value_length"] = Typed("U32", sizes["head_dim"])
    if architecture.gguf == "phi3":
        found.setdefault("attention.sliding_window", Typed("U32", 0))  # by which llama.cpp knows that there is none
    if architecture.gguf in ("llama", "stablelm", "smollm3", "phi3"):
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
