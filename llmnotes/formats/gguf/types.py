"""GGUF's numbers for value kinds and tensor types, and swapping the byte order of tensors."""

from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from llmnotes.errors import NotConvertible
from llmnotes.formats.results import DTYPES

# kind of a value -> (its number, the letter that `struct` has for it); "[U32]" is an array of them
KINDS = {
    "U8": (0, "B"),
    "I8": (1, "b"),
    "U16": (2, "H"),
    "I16": (3, "h"),
    "U32": (4, "I"),
    "I32": (5, "i"),
    "F32": (6, "f"),
    "BOOL": (7, "?"),
    "STRING": (8, ""),
    "ARRAY": (9, ""),
    "U64": (10, "Q"),
    "I64": (11, "q"),
    "F64": (12, "d"),
}

# GGML's tensor types by number; the gaps are types that were removed
TYPES = dict(enumerate(("F32", "F16", "Q4_0", "Q4_1", None, None, "Q5_0", "Q5_1", "Q8_0", "Q8_1")))
TYPES |= dict(enumerate(("Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "Q8_K"), 10))
TYPES |= dict(enumerate(("IQ2_XXS", "IQ2_XS", "IQ3_XXS", "IQ1_S", "IQ4_NL", "IQ3_S", "IQ2_S", "IQ4_XS"), 16))
TYPES |= dict(enumerate(("I8", "I16", "I32", "I64", "F64", "IQ1_M", "BF16"), 24))
TYPES |= {34: "TQ1_0", 35: "TQ2_0", 39: "MXFP4", 40: "NVFP4", 41: "Q1_0"}
TYPES = {number: name for number, name in TYPES.items() if name}
NUMBERS = {name: number for number, name in TYPES.items()}
REMOVED = {4: "Q4_2", 5: "Q4_3", 31: "Q4_0_4_4", 32: "Q4_0_4_8", 33: "Q4_0_8_8"}
REMOVED |= {36: "IQ4_NL_4_4", 37: "IQ4_NL_4_8", 38: "IQ4_NL_8_8"}

# Where in a block the 2-byte floats stand; all else in these blocks is single bytes.
SCALES = {"Q4_0": (0,), "Q4_1": (0, 2), "Q5_0": (0,), "Q5_1": (0, 2), "Q8_0": (0,), "Q1_0": (0,), "MXFP4": ()}
SCALES |= {"Q2_K": (80, 82), "Q3_K": (108,), "Q4_K": (0, 2), "Q5_K": (0, 2), "Q6_K": (208,)}
SCALES |= {"IQ4_NL": (0,), "IQ4_XS": (0, 2), "TQ1_0": (52,), "TQ2_0": (64,), "NVFP4": ()}


class Typed(NamedTuple):
    """A value of GGUF's metadata with its kind: `Typed("U32", 5)`, `Typed("[F32]", [0.5])`, `Typed("[[I8]]", [])`."""

    kind: str
    value: Any


def swapped(dtype: str, pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the bytes of a tensor in the other byte order: its elements, or the scales in its blocks, turned round.

    Raises `NotConvertible` for blocks whose packed words no specification orders (IQ1, IQ2, IQ3).

    >>> b"".join(swapped("F16", [b"abc", b"d"]))
    b'badc'
    """
    block, width = DTYPES[dtype]
    if block > 1 and dtype not in SCALES:
        raise NotConvertible(
            f"Nothing specifies the byte order of {dtype} blocks on a big-endian machine; "
            "use a little-endian copy of the model."
        )
    left = b""
    for piece in pieces:
        piece = left + piece if left else piece
        whole = len(piece) // width * width
        yield _turned(dtype, piece[:whole])
        left = piece[whole:]
    if left:
        yield left  # half an element; the writer counts bytes and reports it


def _turned(dtype: str, piece: bytes) -> bytes:
    block, width = DTYPES[dtype]
    out = bytearray(piece)
    if block > 1:
        for at in SCALES[dtype]:
            out[at::width], out[at + 1 :: width] = piece[at + 1 :: width], piece[at::width]
    elif width > 1:
        for at in range(width):
            out[at::width] = piece[width - 1 - at :: width]
    return bytes(out)


class Texts(Sequence):
    """An array of texts as it lies in a file, each behind its length: a vocabulary that takes no more than its bytes.

    Bytes that are not UTF-8 become replacement marks; `raw` has its bytes.
    """

    def __init__(self, blob: bytes, ends: array, width: int):
        self.blob, self.ends, self.width = blob, ends, width

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[at] for at in range(*index.indices(len(self)))]
        return self.raw(index).decode("utf-8", "replace")

    def __repr__(self) -> str:
        return f"Texts({len(self):,})"

    def raw(self, index: int) -> bytes:
        """Return the bytes of one text."""
        index = range(len(self))[index]
        start = self.ends[index - 1] if index else 0
        return self.blob[start + self.width : self.ends[index]]
