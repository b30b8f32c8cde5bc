"""How a model is trained, as far as memory is concerned, and which of its tensors learn."""

import re
from dataclasses import dataclass
from typing import Literal, get_args

from llmnotes.errors import BadSettings
from llmnotes.fit.shapes import Shape

Optimizer = Literal["adamw", "adamw_8bit", "paged_adamw_8bit"]
BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
CHOICES = {
    "method": ("full", "lora", "qlora"),
    "dtype": tuple(BYTES),
    "base": ("nf4", "int8"),
    "kernel": ("llmnotes", "bitsandbytes"),
    "optimizer": get_args(Optimizer),
    "device": ("cpu", "cuda"),
}


@dataclass(frozen=True)
class Run:
    """How a model is trained: `batch` rows of `length` tokens at once.

    `dtype` is the type of the weights that are not quantized, and of the activations; adapters are float32. With the
    method "qlora", `base` is what the linear layers become: "nf4" (`double`: its scales are quantized, too) or "int8"
    (of bitsandbytes), by `kernel`. `packed` rows hold several documents and need a mask. `accumulation` counts the
    batches whose gradients are summed before a step. "adamw" is torch's, the others are bitsandbytes':
    "paged_adamw_8bit" is the 8-bit one, whose large averages lie in main memory while the GPU has no room for them; on
    a CPU the two are the same. `rows` is how many tokens have rows of the embedding that learn beside the adapters.

    Raises `BadSettings` for a value that does not exist.

    >>> run = Run("lora", batch=4, length=128, dtype="bfloat16")
    >>> run.tokens, run.size
    (512, 2)
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
    optimizer: Optimizer = "adamw"
    checkpointing: bool = False
    accumulation: int = 1
    packed: bool = False
    device: str = "cpu"
    rows: int = 0

    def __post_init__(self):
        for name, known in CHOICES.items():
            value = getattr(self, name)
            if value not in known:
                raise BadSettings(f"{value!r} is not a {name} that llmnotes counts; choose {', '.join(known)}.")
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
    def quantized(self) -> str | None:
        """What the linear layers are quantized to, "nf4" or "int8", if they are."""
        return self.base if self.method == "qlora" else None

    @property
    def size(self) -> int:
        """Bytes of an activation, and of a weight that is not quantized."""
        return BYTES[self.dtype]

    @property
    def trained_size(self) -> int:
        """Bytes of a number that is trained, and of its gradient: adapters are always float32."""
        return self.size if self.full else 4


def finetuned(method: str, gpu: bool) -> dict[str, str]:
    """Return how `llmnotes finetune` trains on such a machine, as fields of `Run`: what `fit --train` counts as well.

    >>> finetuned("qlora", gpu=True)
    {'dtype': 'bfloat16', 'kernel': 'bitsandbytes', 'device': 'cuda'}
    """
    if not gpu:
        return {"dtype": "float32", "kernel": "llmnotes", "device": "cpu"}
    return {"dtype": "float32" if method == "full" else "bfloat16", "kernel": "bitsandbytes", "device": "cuda"}


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
        if not isinstance(wanted, str):
            return name.endswith(tuple(f".{ending}" for ending in wanted))
        try:
            return re.fullmatch(wanted, name) is not None
        except re.error as error:
            raise BadSettings(
                f"{wanted!r} is not a regular expression ({error}); correct it, or give a list."
            ) from None

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
