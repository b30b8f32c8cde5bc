"""What decides about the memory of a training: the shape of the model, and how it is trained."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from llmnotes.errors import BadSettings, ModelBroken

BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
CHOICES = {
    "method": ("full", "lora", "qlora"),
    "dtype": tuple(BYTES),
    "base": ("nf4", "int8"),
    "kernel": ("llmnotes", "bitsandbytes"),
    "optimizer": ("adamw", "adamw8bit", "paged"),
    "device": ("cpu", "cuda"),
}


@dataclass(frozen=True)
class Run:
    """How a model is trained, as far as memory is concerned: `batch` rows of `length` tokens at once.

    `dtype` is the type of the weights that are not quantized, and of the activations; adapters are float32. With the
    method "qlora", `base` is what the linear layers become: "nf4" (`double`: its scales are quantized, too) or "int8"
    (of bitsandbytes), by `kernel`. `packed` rows hold several documents and need a mask. `accumulation` counts the
    batches whose gradients are summed before a step. The "paged" optimizer is the 8-bit one, whose averages lie in
    main memory while the GPU has no room for them; on a CPU the two are the same. `rows` is how many tokens have rows
    of the embedding that learn beside the adapters.

    Raises `BadSettings` for what does not exist.
    """

    method: str
    batch: int
    length: int
    rank: int = 8
    targets: str | tuple[str, ...] = "all-linear"
    dropout: float = 0.0
    dtype: str = "float32"
    base: str = "nf4"
    double: bool = True
    kernel: str = "llmnotes"
    optimizer: str = "adamw"
    checkpointing: bool = False
    accumulation: int = 1
    packed: bool = False
    device: str = "cpu"
    rows: int = 0

    def __post_init__(self):
        for name, known in CHOICES.items():
            if getattr(self, name) not in known:
                raise BadSettings(f"{getattr(self, name)!r} is no {name} here; choose {', '.join(known)}.")
        for name in ("batch", "length", "rank", "accumulation"):
            if getattr(self, name) < 1:
                raise BadSettings(f"{name} is {getattr(self, name)}; give at least 1.")

    @property
    def tokens(self) -> int:
        """The tokens that are in memory at once."""
        return self.batch * self.length

    @property
    def full(self) -> bool:
        """Whether every parameter is trained."""
        return self.method == "full"

    @property
    def size(self) -> int:
        """Bytes of an activation, and of a weight that is not quantized."""
        return BYTES[self.dtype]

    @property
    def number(self) -> int:
        """Bytes of a number that is trained, and of its gradient."""
        return self.size if self.full else 4


class Shape(NamedTuple):
    """The numbers of a config.json that decide about memory."""

    hidden: int
    inner: int
    layers: int
    heads: int
    kv_heads: int
    head: int  # numbers in one head
    vocabulary: int
    tied: bool  # the output head is the embedding
    biases: tuple[bool, bool]  # of attention, of the MLP

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
    def table(self) -> int:
        """Numbers in the embedding, and in the output head."""
        return self.vocabulary * self.hidden

    @property
    def outside(self) -> list[int]:
        """The sizes of the tensors outside the decoder layers: embedding, output head if it is another one, norm."""
        return [self.table] * (1 if self.tied else 2) + [self.hidden]

    @property
    def small(self) -> list[int]:
        """The sizes of the tensors of a decoder layer that are not quantized: two norms, biases if there are any."""
        biased = [out for name, (out, _) in self.linears.items() if self.biases[name.startswith("mlp")]]
        return 2 * [self.hidden] + biased

    @property
    def linear(self) -> int:
        """Weights in the linear layers of one decoder layer."""
        return sum(out * inside for out, inside in self.linears.values())


def shape_of(config: Mapping | str | Path) -> Shape:
    """Return the shape of a model from its config: a mapping, a config.json, or the folder around it.

    Raises `ModelBroken` where a number is missing or is no positive whole number, and for models that are built in
    another way than Llama (several experts in an MLP).

    >>> from llmnotes.pebble import weights_dir
    >>> shape = shape_of(weights_dir("pebble"))
    >>> shape.layers * (shape.linear + sum(shape.small)) + sum(shape.outside)
    3672320
    """
    if not isinstance(config, Mapping):
        path = Path(config)
        path = path / "config.json" if path.is_dir() else path
        try:
            config = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise ModelBroken(f"{path} is no config that can be read; copy the model's folder again.") from error
        if not isinstance(config, Mapping):
            raise ModelBroken(f"{path} holds no settings of a model; copy the model's folder again.")

    def number(name: str, otherwise: int | None = None) -> int:
        value = config.get(name)
        value = otherwise if value is None else value
        if type(value) is not int or not 0 < value < 2**31:
            raise ModelBroken(f"The config has no {name} that is a positive whole number; give that of a Llama.")
        return value

    if any("experts" in str(name) for name in config):
        raise ModelBroken("The config is that of a mixture of experts, which is not counted here; give a Llama's.")
    hidden, heads = number("hidden_size"), number("num_attention_heads")
    layers = number("num_hidden_layers")
    if layers > 10_000:
        raise ModelBroken(f"The config speaks of {layers:,} layers; give that of a real model.")
    return Shape(
        hidden,
        number("intermediate_size"),
        layers,
        heads,
        number("num_key_value_heads", heads),
        number("head_dim", max(1, hidden // heads)),
        number("vocab_size"),
        config.get("tie_word_embeddings", False) is True,
        (config.get("attention_bias", False) is True, config.get("mlp_bias", False) is True),
    )


def adapted(shape: Shape, run: Run) -> list[frozenset[str]]:
    """Return for each decoder layer the linear layers that have an adapter, by the rules of `lora.attach`.

    Raises `BadSettings` where no layer fits.
    """
    names, wanted = shape.linears, run.targets
    if run.full:
        return [frozenset()] * shape.layers
    if wanted == "all-linear":
        return [frozenset(names)] * shape.layers

    def fits(name: str) -> bool:
        try:
            return re.fullmatch(wanted, name) is not None if isinstance(wanted, str) else name.endswith(endings)
        except re.error as error:
            raise BadSettings(f"{wanted!r} is no regular expression ({error}); correct it, or give a list.") from None

    endings = tuple(f".{ending}" for ending in wanted)
    found = [frozenset(name for name in names if fits(f"model.layers.{i}.{name}")) for i in range(shape.layers)]
    if not any(found):
        ends = ", ".join(name.rpartition(".")[2] for name in names)
        raise BadSettings(f"No linear layer of the model fits the targets {wanted!r}; there are {ends}.")
    return found


def trained(shape: Shape, run: Run, adapters: frozenset[str]) -> list[int]:
    """Return the sizes of the tensors of a decoder layer that are trained; `adapters` are its adapted layers."""
    if run.full:
        return [out * inside for out, inside in shape.linears.values()] + shape.small
    return [run.rank * width for name in sorted(adapters) for width in shape.linears[name]]
