"""What every format shares: a tensor's entry in a file, the answer of `inspect`, and reading that believes nothing."""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache, wraps
from pathlib import Path

from llmnotes.errors import FileBroken, FileUnreadable

CHUNK = 1 << 22  # bytes that travel at a time
HEADER_LIMIT = 10_000_000  # bytes of JSON that a header may have: a hundred thousand tensors
METADATA_LIMIT = 40_000_000  # bytes of binary metadata: vocabularies of a million tokens

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


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor as a file describes it; its values stay in the file.

    `shape` is in the order of PyTorch, slowest first, also for GGUF, whose files store it the other way round.
    `offset` is the first byte in `path`, or None where the bytes do not lie there as they are (a compressed archive,
    a tensor that is not contiguous). `alias` names the tensor whose bytes this one shares, if there is one.
    `counts` is False for what is no parameter of its own: the scales of quantized weights, tables that can be computed.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    nbytes: int
    path: Path | None = None
    offset: int | None = None
    alias: str | None = None
    counts: bool = True

    @property
    def elements(self) -> int:
        """The number of elements, 1 for a scalar."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Identity:
    """What a file is: a format's name, its version or "", and the bytes that prove it, in words."""

    format: str
    version: str
    evidence: str


@dataclass(frozen=True)
class Inspection:
    """All that a file's headers say. `metadata` holds plain types; `notes` are sentences about what looks unusual."""

    path: Path
    identity: Identity
    tensors: tuple[Tensor, ...] = ()
    metadata: dict = field(default_factory=dict)
    architecture: str | None = None
    notes: tuple[str, ...] = ()

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


class Source:
    """A file opened for reading by position. Every length is checked against the file's size before a byte is read.

    The file is never mapped into memory: one that shrinks while it is being read gives an error and no crash.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        try:
            if not self.path.is_file():
                raise FileUnreadable(_why_no_file(self.path))
            self.file = open(self.path, "rb", buffering=0)
            self.size = self.file.seek(0, 2)
        except OSError as error:
            raise FileUnreadable(f"{self.path} cannot be read ({error.strerror}); check its permissions.") from None

    def __enter__(self) -> "Source":
        return self

    def __exit__(self, *_) -> None:
        self.file.close()

    def read(self, offset: int, count: int) -> bytes:
        """Return `count` bytes from `offset`; raise `FileBroken` where the file has fewer."""
        if offset < 0 or count < 0 or offset + count > self.size:
            raise self.broken(f"it says there are {count:,} bytes at {offset:,}, and it has {self.size:,} in all")
        self.file.seek(offset)
        parts = []
        while count:
            part = self.file.read(min(count, 1 << 26))
            if not part:
                raise self.broken("it became shorter while it was being read")
            parts.append(part)
            count -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def once(self, function):
        """Return `function(self)`, computed at the first call: what identifies a file need not be found out again."""
        known = self.__dict__.setdefault("known", {})
        if function not in known:
            known[function] = function(self)
        return known[function]

    def head(self, count: int) -> bytes:
        """Return the first `count` bytes, or all there are."""
        return self.read(0, min(count, self.size))

    def stream(self, offset: int, count: int, chunk: int = CHUNK) -> Iterator[bytes]:
        """Yield `count` bytes from `offset`, at most `chunk` at a time."""
        end = offset + count
        if end > self.size:
            self.read(offset, count)  # raises the sentence
        for position in range(offset, end, chunk):
            yield self.read(position, min(chunk, end - position))

    def json(self, offset: int, count: int, unique: bool = True) -> dict:
        """Return the JSON object in `count` bytes from `offset`; `FileBroken` if there is none."""
        if count > HEADER_LIMIT:
            raise self.broken(f"its header claims {count:,} bytes, more than any model needs")
        return self.parse(self.read(offset, count), unique)

    def parse(self, text: bytes, unique: bool = True) -> dict:
        """Return the JSON object that `text` holds; `FileBroken` if it is none, or has a key twice and must not."""

        def once(pairs):
            keys = dict(pairs)
            if unique and len(keys) != len(pairs):
                raise self.broken("its JSON has the same key twice")
            return keys

        try:
            value = json.loads(text.decode("utf-8"), object_pairs_hook=once)
        except (ValueError, RecursionError):
            raise self.broken("its JSON is not valid") from None
        if not isinstance(value, dict):
            raise self.broken("its JSON is no object")
        return value

    def shape(self, sides, where: str) -> tuple[int, ...]:
        """Return `sides` as a shape, if it is a short list of whole numbers from 0 to 2**63."""
        sides = tuple(sides) if isinstance(sides, list | tuple) else ("?",)
        if len(sides) > 64 or not all(type(side) is int and 0 <= side < 1 << 63 for side in sides):
            raise self.broken(f"the shape of {where[:80]!r} is no list of sizes")
        return sides

    def broken(self, what: str) -> FileBroken:
        """Return the error that says what is wrong with this file."""
        return FileBroken(f"{self.path.name} is damaged: {what}; copy or download it again.")


def stored(tensor: Tensor) -> Iterator[bytes]:
    """Yield the bytes of a tensor as they lie in its file, at most `CHUNK` at a time."""
    with Source(tensor.path) as source:
        yield from source.stream(tensor.offset, tensor.nbytes)


def remembered(files: int):
    """Decorate `function(path)`, whose answers about the last few `files` are kept until the file changes.

    What is needed for each tensor of a file, and says something about the whole file, is found out once.
    """

    def decorate(function):
        kept = lru_cache(maxsize=files)(lambda path, changed, size: function(path))

        @wraps(function)
        def ask(path: Path):
            try:
                facts = path.stat()
            except OSError:
                return function(path)  # which has the sentence for it
            return kept(path, facts.st_mtime_ns, facts.st_size)

        return ask

    return decorate


def counted(count: int, noun: str) -> str:
    """Return a number with its noun.

    >>> counted(1, "tensor"), counted(1000, "tensor")
    ('1 tensor', '1,000 tensors')
    """
    return f"{count:,} {noun}{'s' * (count != 1)}"


def size_of(dtype: str, shape: tuple[int, ...]) -> int | None:
    """Return the bytes that a tensor takes, or None where its rows do not divide into the blocks of its dtype.

    >>> size_of("BF16", (2, 3)), size_of("Q8_0", (2, 64)), size_of("Q8_0", (2, 3))
    (12, 136, None)
    """
    block, width = DTYPES[dtype]
    if block > 1 and (not shape or shape[-1] % block):
        return None
    return math.prod(shape) // block * width


def _why_no_file(path: Path) -> str:
    if path.is_symlink():
        return f"{path} is a link that leads nowhere; point it at the file again."
    if path.is_dir():
        return f"{path} is a folder, and a file is needed here; name the file in it."
    if path.exists():
        return f"{path} is no ordinary file; copy its content to one."
    return f"There is no file {path}; check the path (a relative one starts at the folder you are in)."
