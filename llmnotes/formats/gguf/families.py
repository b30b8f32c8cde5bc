"""The architectures that become a GGUF: what their layers are made of, and which settings say how they compute."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from llmnotes.formats.gguf import differences

# Names of a layer's tensors: Hugging Face's -> GGUF's, without ".weight" and ".bias".
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
NORMS_OF_QK = {"self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm"}
NORMED = LAYER | NORMS_OF_QK
SANDWICHED = LAYER | {  # a norm before and behind attention, and before and behind the feed-forward part
    "post_attention_layernorm": "post_attention_norm",
    "pre_feedforward_layernorm": "ffn_norm",
    "post_feedforward_layernorm": "post_ffw_norm",
}
BEHIND = {theirs: ours for theirs, ours in SANDWICHED.items() if ours not in ("attn_norm", "ffn_norm")} | NORMS_OF_QK
FUSED = {  # q, k and v in one matrix, as are gate and up
    "input_layernorm": "attn_norm",
    "self_attn.qkv_proj": "attn_qkv",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
# A mixture of experts: a router in place of the feed-forward part, and behind it {} of them.
ATTENTION = {theirs: ours for theirs, ours in LAYER.items() if not ours.startswith("ffn_") or ours == "ffn_norm"}
MIXED = {"{}.w1": "ffn_gate_exps", "{}.w2": "ffn_down_exps", "{}.w3": "ffn_up_exps"}
MIXED = {f"block_sparse_moe.experts.{theirs}": ours for theirs, ours in MIXED.items()}
MIXED = ATTENTION | {"block_sparse_moe.gate": "ffn_gate_inp"} | MIXED
NORMED_MIXED = {f"mlp.experts.{{}}.{name}_proj": f"ffn_{name}_exps" for name in ("gate", "up", "down")}
NORMED_MIXED = ATTENTION | NORMS_OF_QK | {"mlp.gate": "ffn_gate_inp"} | NORMED_MIXED


@dataclass(frozen=True)
class Architecture:
    """One architecture: its names in both formats, and its settings, each of which stands in one of three tables.

    `defaults`: those that become keys or shapes, and what transformers takes where config.json omits them. `only`:
    those that llama.cpp computes at these values alone. `weighed`: those that `lost` gets, with transformers'
    defaults; it returns a sentence for each part of the function that GGUF does not have, and raises `NotConvertible`
    for values that llama.cpp does not compute together.

    `permuted`: GGUF interleaves the rows of q and k, because llama.cpp rotates neighbours where transformers rotates
    the two halves of a head. `shifted`: GGUF holds 1 + the weight of a norm, because Gemma adds 1 before it multiplies.
    `omitted` are the keys that llama.cpp's converter does not write for it; `layer` the names of a layer's tensors;
    `wide`: one norm spans all heads of q or k; `positions` the kinds of scaling that llama.cpp computes for it.
    `output` is whether llama.cpp opens it with an output layer only, or without one only; None where it opens both.
    `together` is how transformers 5 may save what published folders name one by one: {one tensor: what it is made of}.
    """

    gguf: str
    model_type: str
    hugging_face: str
    defaults: dict[str, Any]
    permuted: bool = False
    shifted: bool = False
    wide: bool = False
    output: bool | None = None
    omitted: tuple[str, ...] = ("vocab_size",)
    layer: dict[str, str] = field(default_factory=lambda: LAYER)
    together: dict[str, tuple[str, ...]] = field(default_factory=dict)
    positions: tuple[str, ...] = ("default", "linear", "yarn")
    only: dict[str, tuple] = field(default_factory=lambda: SILU)
    weighed: dict[str, Any] = field(default_factory=dict)
    lost: Callable[[dict], list[str]] = lambda settings: []

    @property
    def mixture(self) -> bool:
        """Whether its feed-forward part is a mixture of experts."""
        return "ffn_gate_inp" in self.layer.values()


ALL = ("default", "linear", "llama3", "yarn")
SILU = {"hidden_act": ("silu", "swish")}
UNBIASED_ONLY = SILU | {"attention_bias": (False,)}
GELU = {"hidden_activation": ("gelu_pytorch_tanh",), "attention_bias": (False,)}
GELU |= {"use_bidirectional_attention": (False, None)}

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
QWEN3_MOE_DEFAULTS = QWEN_DEFAULTS | {"num_key_value_heads": 4, "moe_intermediate_size": 768}
QWEN3_MOE_DEFAULTS |= {"num_local_experts": 128, "num_experts_per_tok": 8}
QWEN3_MOE_WEIGHED = {"use_sliding_window": False, "sliding_window": 4096, "max_window_layers": None}
QWEN3_MOE_WEIGHED |= {"norm_topk_prob": False, "decoder_sparse_step": 1, "mlp_only_layers": None, "num_experts": 128}
QWEN3_TOGETHER = {
    "mlp.experts.gate_up_proj": ("mlp.experts.{}.gate_proj", "mlp.experts.{}.up_proj"),
    "mlp.experts.down_proj": ("mlp.experts.{}.down_proj",),
}
MIXTRAL_DEFAULTS = MISTRAL_DEFAULTS | {"rms_norm_eps": 1e-5, "rope_theta": 1e6}
MIXTRAL_DEFAULTS |= {"num_local_experts": 8, "num_experts_per_tok": 2}
MIXTRAL_TOGETHER = {
    "mlp.gate.weight": ("block_sparse_moe.gate",),
    "mlp.experts.gate_up_proj": ("block_sparse_moe.experts.{}.w1", "block_sparse_moe.experts.{}.w3"),
    "mlp.experts.down_proj": ("block_sparse_moe.experts.{}.w2",),
}
SMOLLM3_DEFAULTS = QWEN_DEFAULTS | {"vocab_size": 128256, "num_key_value_heads": 4}
SMOLLM3_DEFAULTS |= {"rope_theta": 2e6, "tie_word_embeddings": True}
SMOLLM3_WEIGHED = {"num_hidden_layers": 36, "no_rope_layers": None, "no_rope_layer_interval": 4}
SMOLLM3_WEIGHED |= {"use_sliding_window": False, "sliding_window": None, "layer_types": None}
OLMO2_DEFAULTS = UNBIASED | {"vocab_size": 50304, "rms_norm_eps": 1e-5}
PHI3_DEFAULTS = UNBIASED | {
    "vocab_size": 32064,
    "max_position_embeddings": 4096,
    "original_max_position_embeddings": 4096,
    "rms_norm_eps": 1e-5,
    "partial_rotary_factor": 1.0,
    "sliding_window": None,
}
GEMMA2_DEFAULTS = UNBIASED | {
    "vocab_size": 256000,
    "max_position_embeddings": 8192,
    "num_key_value_heads": 4,
    "head_dim": 256,
    "tie_word_embeddings": True,
    "sliding_window": 4096,
    "attn_logit_softcapping": 50.0,
    "final_logit_softcapping": 30.0,
}
GEMMA3_DEFAULTS = GEMMA2_DEFAULTS | {
    "num_hidden_layers": 26,  # published folders of a Gemma 3 that sees leave even sizes out
    "hidden_size": 2304,
    "intermediate_size": 9216,
    "num_attention_heads": 8,
    "vocab_size": 262208,
    "max_position_embeddings": 131072,
    "rope_theta": 1e6,
    "rope_local_base_freq": 10000.0,
    "final_logit_softcapping": None,
}
del GEMMA3_DEFAULTS["attn_logit_softcapping"]
GEMMA_WEIGHED: dict[str, Any] = differences.SIDES | {
    "query_pre_attn_scalar": 256,
    "sliding_window": 4096,
    "layer_types": None,
}
GEMMA_WEIGHED |= {"hidden_act": None, "cache_implementation": None}  # transformers does not look at these
SOFTCAPS = {"attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0}
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
    Architecture("llama", "llama", "LlamaForCausalLM", LLAMA_DEFAULTS, permuted=True, omitted=(), positions=ALL),
    Architecture(
        "llama",
        "mistral",
        "MistralForCausalLM",
        MISTRAL_DEFAULTS,
        permuted=True,
        omitted=(),
        positions=ALL,
        weighed={"sliding_window": 4096},
        lost=differences.mistral,
    ),
    Architecture(
        "llama",
        "mixtral",
        "MixtralForCausalLM",
        MIXTRAL_DEFAULTS,
        permuted=True,
        omitted=(),
        layer=MIXED,
        together=MIXTRAL_TOGETHER,
        positions=ALL,
        weighed={"sliding_window": None, "num_experts": None},
        lost=differences.mixtral,
    ),
    Architecture("qwen2", "qwen2", "Qwen2ForCausalLM", QWEN_DEFAULTS, weighed=QWEN_WINDOW, lost=differences.qwen),
    Architecture(
        "qwen3",
        "qwen3",
        "Qwen3ForCausalLM",
        QWEN3_DEFAULTS,
        layer=NORMED,
        only=UNBIASED_ONLY,
        weighed=QWEN_WINDOW,
        lost=differences.qwen,
    ),
    Architecture(
        "qwen3moe",
        "qwen3_moe",
        "Qwen3MoeForCausalLM",
        QWEN3_MOE_DEFAULTS,
        layer=NORMED_MIXED,
        together=QWEN3_TOGETHER,
        only=UNBIASED_ONLY,
        weighed=QWEN3_MOE_WEIGHED,
        lost=differences.qwen3_moe,
    ),
    Architecture(
        "smollm3",
        "smollm3",
        "SmolLM3ForCausalLM",
        SMOLLM3_DEFAULTS,
        permuted=True,
        omitted=(),
        only=UNBIASED_ONLY | {"mlp_bias": (False,)},
        weighed=SMOLLM3_WEIGHED,
        lost=differences.smollm3,
    ),
    Architecture(
        "gemma2",
        "gemma2",
        "Gemma2ForCausalLM",
        GEMMA2_DEFAULTS,
        shifted=True,
        output=False,
        omitted=("vocab_size", "rope_theta"),
        layer=SANDWICHED,
        positions=("default",),
        only=GELU | {"tie_word_embeddings": (True,)},
        weighed=GEMMA_WEIGHED | SOFTCAPS,
        lost=differences.gemma("gemma2", "Gemma2ForCausalLM", period=2, needed=("sliding_window", *SOFTCAPS)),
    ),
    Architecture(
        "gemma3",
        "gemma3_text",
        "Gemma3ForCausalLM",
        GEMMA3_DEFAULTS,
        shifted=True,
        layer=SANDWICHED | NORMS_OF_QK,
        positions=("default", "linear"),
        only=GELU | {"attn_logit_softcapping": (None,)},
        weighed=GEMMA_WEIGHED | {"sliding_window_pattern": 6, "_sliding_window_pattern": 6},
        lost=differences.gemma("gemma3", "Gemma3ForCausalLM", period=6, needed=("sliding_window",)),
    ),
    Architecture(
        "phi3",
        "phi3",
        "Phi3ForCausalLM",
        PHI3_DEFAULTS,
        layer=FUSED,
        positions=("default", "longrope"),
        weighed={"sliding_window": None, "embd_pdrop": 0.0, "resid_pdrop": 0.0, "attention_bias": None},
        lost=differences.phi3,
    ),
    Architecture(
        "olmo2",
        "olmo2",
        "Olmo2ForCausalLM",
        OLMO2_DEFAULTS,
        wide=True,
        output=True,
        layer=BEHIND,
        only=UNBIASED_ONLY | {"tie_word_embeddings": (False,)},
        lost=differences.olmo2,
    ),
    Architecture(
        "stablelm",
        "stablelm",
        "StableLmForCausalLM",
        STABLE_DEFAULTS,
        output=True,
        omitted=("vocab_size", "rope_theta"),
    ),
)
MIXTURES = tuple(architecture.gguf for architecture in ARCHITECTURES if architecture.mixture)
