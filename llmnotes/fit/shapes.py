"""The shape of a Llama-like model: every number of a config.json that decides how much memory it takes."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from llmnotes.errors import ModelBroken
from llmnotes.formats.gguf.families import ARCHITECTURES, GEMMA2_DEFAULTS, LLAMA_DEFAULTS

CONFIG_LIMIT = 10_000_000  # bytes of a config.json
LAYERS_LIMIT = 1000
# The types of models whose layers are those of a Llama, and what their class takes for settings that are left out
TYPES = {architecture.model_type: architecture.defaults for architecture in ARCHITECTURES if not architecture.mixture}
TYPES |= {"gemma": GEMMA2_DEFAULTS | {"num_key_value_heads": 16}, "granite": LLAMA_DEFAULTS}


class Shape(NamedTuple):
    """The widths of a decoder and the count of its layers; all parameters can be counted from it.

    `extra` are the sizes of a layer's tensors that not every Llama has: biases, and norms of q and k. `extra_outside`
    counts such numbers outside the layers.
    """

    hidden: int
    inner: int
    layers: int
    heads: int
    kv_heads: int
    head: int  # numbers in one head
    vocabulary: int
    tied: bool  # the output head is the embedding
    extra: tuple[int, ...] = ()
    extra_outside: int = 0

    @property
    def linears(self) -> dict[str, tuple[int, int]]:
        """The linear layers of one decoder layer: name -> (out, in)."""
        queries, keys = self.heads * self.head, self.kv_heads * self.head
        return {
            "self_attn.q_proj": (queries, self.hidden),
            "self_attn.k_proj": (keys, self.hidden),
            "self_attn.v_proj": (keys, self.hidden),
            "self_attn.o_proj": (self.hidden, queries),
            "mlp.gate_proj": (self.inner, self.hidden),
            "mlp.up_proj": (self.inner, self.hidden),
            "mlp.down_proj": (self.hidden, self.inner),
        }

    @property
    def linear(self) -> int:
        """Weights in the linear layers of one decoder layer."""
        return sum(out * inside for out, inside in self.linears.values())

    @property
    def small(self) -> list[int]:
        """The sizes of the tensors of a decoder layer that are never quantized: two norms and `extra`."""
        return [self.hidden, self.hidden, *self.extra]

    @property
    def table(self) -> int:
        """Numbers in the embedding, and in the output head."""
        return self.vocabulary * self.hidden

    @property
    def outside(self) -> list[int]:
        """The sizes of the tensors outside the decoder layers: embedding, output head if it is another one, norm."""
        return [self.table] * (1 if self.tied else 2) + [self.hidden + self.extra_outside]

    @property
    def parameters(self) -> int:
        """How many numbers the model has learned."""
        return self.layers * (self.linear + sum(self.small)) + sum(self.outside)


def shape_of(config: Mapping | str | Path) -> Shape:
    """Return the shape of a model from its config: a mapping, a config.json, or the folder around it.

    Settings that name no type are those of a Llama; for those that are left out, its class has a value. Raises
    `ModelBroken` where a number is missing or is not a positive whole number, and for types that are not in `TYPES`,
    whose layers are others than a Llama's (several experts, for one).

    >>> from llmnotes.pebble import weights_dir
    >>> shape_of(weights_dir("pebble")).parameters
    3672320
    """
    stated = config if isinstance(config, Mapping) else read_config(Path(config))
    kind = stated.get("model_type", "llama")
    if kind not in TYPES or any("experts" in str(name) for name in stated):
        what = "a mixture of experts" if kind in TYPES else f"a {str(kind)[:40]}"
        raise ModelBroken(f"The config is that of {what}, and llmnotes knows the layers of {', '.join(TYPES)} here.")
    settings = TYPES[kind] | dict(stated)

    def number(name: str, otherwise: int | None = None) -> int:
        value = settings.get(name)
        value = otherwise if value is None else value
        if type(value) is not int or not 0 < value < 2**31:
            raise ModelBroken(f"The config has no {name} that is a positive whole number; give that of a Llama.")
        return value

    hidden, heads = number("hidden_size"), number("num_attention_heads")
    layers = number("num_hidden_layers")
    if layers > LAYERS_LIMIT:
        raise ModelBroken(f"The config speaks of {layers:,} layers; give that of a real model.")
    shape = Shape(
        hidden,
        number("intermediate_size"),
        layers,
        heads,
        number("num_key_value_heads", heads),
        number("head_dim", max(1, hidden // heads)),
        number("vocab_size"),
        settings.get("tie_word_embeddings", False) is True,
    )
    outside = hidden if settings.get("model_type") == "stablelm" else 0  # the bias of the last norm
    return shape._replace(extra=_extra(settings, shape), extra_outside=outside)


def read_config(path: Path) -> dict:
    """Return the settings in a config.json, or in the one that lies in a folder; raises `ModelBroken` in one sentence.

    Does not look at what the settings say.
    """
    path = path / "config.json" if path.is_dir() else path
    try:
        if path.stat().st_size > CONFIG_LIMIT:
            raise ValueError
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelBroken(f"{path.parent} has no config.json; copy the model's folder again, or give a GGUF.") from None
    except (OSError, ValueError, RecursionError):
        raise ModelBroken(f"{path} is not a config that can be read; copy the model's folder again.") from None
    if not isinstance(config, dict):
        raise ModelBroken(f"{path} holds no settings of a model; copy the model's folder again.")
    return config


def _extra(settings: Mapping, shape: Shape) -> tuple[int, ...]:
    """Return the sizes of a layer's tensors that only some kinds of models have."""
    widths = {name: out for name, (out, _) in shape.linears.items()}
    q, k, v = (widths[f"self_attn.{name}_proj"] for name in "qkv")
    kind = settings.get("model_type")
    found = []
    if settings.get("attention_bias") is True:
        found += [width for name, width in widths.items() if name.startswith("self_attn")]
    if settings.get("mlp_bias") is True:
        found += [width for name, width in widths.items() if name.startswith("mlp")]
    if kind == "qwen2" or (kind == "stablelm" and settings.get("use_qkv_bias") is True):
        found += [q, k, v]
    if kind in ("qwen3", "gemma3_text"):
        found += [shape.head, shape.head]  # the norms of q and k
    if kind == "olmo2":
        found += [q, k]  # the same for all heads at once
    if kind in ("gemma2", "gemma3_text"):
        found += [shape.hidden, shape.hidden]  # the norms behind attention and the MLP
    if kind == "stablelm":
        found += [shape.hidden, shape.hidden]  # the biases of the two norms
    return tuple(found)
