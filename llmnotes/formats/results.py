"""What reading and writing model files give back: tensors, a file's identity, an inspection, a conversion."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

NOT_READ = "which llmnotes does not read"  # in a note on each tensor that a file holds and its inspection does not list
SAME_NAME = "would have the name of another one and got a number"
UNREAD = "beside the weights, and llmnotes did not read"  # in a note on files of a folder

# dtype -> (elements in a block, bytes of a block); the names are those of safetensors and of GGML
DTYPES = {
    "F64": (1, 8),
    "F32": (1, 4),
    "F16": (1, 2),
    "BF16": (1, 2),
    "F8_E4M3": (1, 1),
    "F8_E5M2": (1, 1),
    "F8_E8M0": (1, 1),
    "F8_E4M3FNUZ": (1, 1),
    "F8_E5M2FNUZ": (1, 1),
    "C64": (1, 8),
    "C128": (1, 16),
    "I64": (1, 8),
    "I32": (1, 4),
    "I16": (1, 2),
    "I8": (1, 1),
    "U64": (1, 8),
    "U32": (1, 4),
    "U16": (1, 2),
    "U8": (1, 1),
    "BOOL": (1, 1),
    "F4": (2, 1),
    "F6_E2M3": (4, 3),
    "F6_E3M2": (4, 3),
    "Q4_0": (32, 18),
    "Q4_1": (32, 20),
    "Q5_0": (32, 22),
    "Q5_1": (32, 24),
    "Q8_0": (32, 34),
    "Q8_1": (32, 36),
    "Q2_K": (256, 84),
    "Q3_K": (256, 110),
    "Q4_K": (256, 144),
    "Q5_K": (256, 176),
    "Q6_K": (256, 210),
    "Q8_K": (256, 292),
    "IQ2_XXS": (256, 66),
    "IQ2_XS": (256, 74),
    "IQ2_S": (256, 82),
    "IQ3_XXS": (256, 98),
    "IQ3_S": (256, 110),
    "IQ1_S": (256, 50),
    "IQ1_M": (256, 56),
    "IQ4_NL": (32, 18),
    "IQ4_XS": (256, 136),
    "TQ1_0": (256, 54),
    "TQ2_0": (256, 66),
    "MXFP4": (32, 17),
    "NVFP4": (64, 36),
    "Q1_0": (128, 18),
    "Q4_0_V1": (32, 20),
    "Q4_0_V2": (32, 20),
    "Q4_1_V1": (32, 24),
    "Q4_1_V2": (32, 24),
    "Q4_2": (16, 10),
    "Q4_3": (16, 12),
    "Q5_0_V1": (32, 22),
    "Q5_1_V1": (32, 24),
    "Q8_0_V1": (32, 36),
}
RUNNING = ("F4", "F6_E2M3", "F6_E3M2")  # less than a byte each, and a row may begin inside one


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor as a file describes it; its values stay in the file.

    `shape` is in the order of PyTorch, slowest first, also for GGUF, whose files store it the other way round.
    `offset` is the first byte in `path`, or None where the bytes do not lie there as they are (a compressed archive,
    a tensor that is not contiguous). `alias` names the tensor whose bytes this one shares, if there is one.
    `counts` is False for what is no parameter of its own: the scales of quantized weights, tables that can be computed.
    `origin` is the name in the file, where a converter has given the tensor another one.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    nbytes: int
    path: Path | None = None
    offset: int | None = None
    alias: str | None = None
    counts: bool = True
    origin: str | None = None

    @property
    def stored_name(self) -> str:
        """The name that the tensor has in its file."""
        return self.origin or self.name

    def renamed(self, name: str) -> "Tensor":
        """Return the same tensor under another name; its file still knows it by the old one."""
        return replace(self, name=name, origin=self.stored_name)

    @property
    def elements(self) -> int:
        """The number of elements, 1 for a scalar."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class PlannedTensor:
    """A tensor that is to be written: `data()` yields its bytes, little-endian, in pieces of any size.

    To `write_safetensors` it may yield a `Stretch` as well, where the bytes lie in a file as they are. `sources` names
    the tensors of the source that it is made of.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    data: Callable[[], Iterable[bytes]]
    sources: tuple[str, ...] = ()

    @property
    def nbytes(self) -> int:
        """The bytes that `data()` must yield together; `ValueError` where the rows do not divide into blocks."""
        return size_of(self.dtype, self.shape)


@dataclass(frozen=True)
class Identity:
    """What a file is: a format's name, its version or "", and the bytes that prove it, in words."""

    format: str
    version: str
    evidence: str


@dataclass(frozen=True)
class Inspection:
    """All that a file's headers say. `metadata` holds plain types; `notes` are sentences about what looks unusual.

    A checkpoint can hold more than a model: `beside` says of each tensor that is none of its weights what it is, and
    `prefix` is what the names of the others begin with and the model's own names do not.
    """

    path: Path
    identity: Identity
    tensors: tuple[Tensor, ...] = ()
    metadata: dict = field(default_factory=dict)
    architecture: str | None = None
    notes: tuple[str, ...] = ()
    beside: dict[str, str] = field(default_factory=dict)
    prefix: str = ""

    @property
    def parameters(self) -> int:
        """The number of elements in all tensors that count, each storage once."""
        return sum(tensor.elements for tensor in self.tensors if tensor.alias is None and tensor.counts)

    @property
    def nbytes(self) -> int:
        """The bytes of all tensors, each storage counted once; headers and padding are not in it."""
        return sum(tensor.nbytes for tensor in self.tensors if tensor.alias is None)

    @property
    def bits_per_weight(self) -> float | None:
        """Bits of tensor data for each parameter, scales of quantized weights included; None without parameters."""
        return 8 * self.nbytes / self.parameters if self.parameters else None


@dataclass(frozen=True)
class Conversion:
    """What a conversion did. `fallbacks` names the tensors that got another type than the one asked for;
    `lost` says in a sentence each what the target cannot hold. `target` is the first of all `files`, or a folder.

    `made` is {tensor of the target: the tensors of the source in it}, or None where another program named the target's
    tensors; `left` is {tensor of the source that is in none of them: why}. `arrival.checked` holds both against the
    source and the target.
    """

    source: Path
    target: Path
    identity: Identity
    to: str
    tensors: int
    nbytes: int
    fallbacks: dict[str, str]
    lost: tuple[str, ...] = ()
    files: tuple[Path, ...] = ()
    made: dict[str, tuple[str, ...]] | None = None
    left: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        source: Inspection,
        files: Path | Sequence[Path],
        to: str,
        parts: Sequence[PlannedTensor],
        lost: Iterable[str] = (),
        fallbacks: dict[str, str] | None = None,
        left: dict[str, str] | None = None,
        ties: dict[str, str] | None = None,
    ) -> "Conversion":
        """Return the conversion that wrote `parts`; `ties` is {further name: the part that it is tied to}."""
        made = {part.name: part.sources for part in parts}
        made |= {name: made[first] for name, first in (ties or {}).items()}
        files = (files,) if isinstance(files, Path) else tuple(files)
        nbytes, lost, path, identity = sum(part.nbytes for part in parts), tuple(lost), source.path, source.identity
        return cls(path, files[0], identity, to, len(parts), nbytes, fallbacks or {}, lost, files, made, left or {})


def counted(count: int, noun: str) -> str:
    """Return a number with its noun.

    >>> counted(1, "tensor"), counted(1000, "tensor")
    ('1 tensor', '1,000 tensors')
    """
    return f"{count:,} {noun}{'s' * (count != 1)}"


def divides(dtype: str, shape: tuple[int, ...]) -> bool:
    """Return whether the rows of a tensor divide into the blocks of a dtype; most dtypes have blocks of one element.

    Those of safetensors that are smaller than a byte need whole bytes in the whole tensor alone.

    >>> divides("BF16", (2, 3)), divides("Q8_0", (2, 64)), divides("Q8_0", (2, 3)), divides("F4", (2, 3))
    (True, True, False, True)
    """
    block = DTYPES[dtype][0]
    if dtype in RUNNING:
        return math.prod(shape) % block == 0
    return block == 1 or (len(shape) > 0 and shape[-1] % block == 0)


def size_of(dtype: str, shape: tuple[int, ...]) -> int:
    """Return the bytes that a tensor takes; `ValueError` where its rows do not divide into the blocks of its dtype.

    >>> size_of("BF16", (2, 3)), size_of("Q8_0", (2, 64))
    (12, 136)
    """
    if not divides(dtype, shape):
        raise ValueError(f"rows of {list(shape)} do not divide into the blocks of {dtype}")
    block, width = DTYPES[dtype]
    return math.prod(shape) // block * width
