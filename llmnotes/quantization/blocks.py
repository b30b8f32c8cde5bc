"""GGML's types: weights in blocks that share a scale, byte for byte as llama.cpp stores them.

Three layers make the same bytes: `plain` is NumPy to read, `ggml` calls llama.cpp's own C, and `fast` has compiled
kernels for large tensors. This module chooses one, checks what it is given, and shares the work among threads, in
pieces that fit a processor's cache, so that memory does not follow the size of a tensor. gguf-py dequantizes them.
"""

import logging
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from llmnotes.errors import MissingPart, NotQuantizable
from llmnotes.parts import bring
from llmnotes.quantization import bf16, fast, ggml, old_types, plain, shared_library
from llmnotes.quantization.arrays import NOT_FINITE, as_float32
from llmnotes.quantization.ggml import BlockType
from llmnotes.quantization.threads import THREADS, in_threads

PIECE = 1 << 16  # weights that are worked on at a time; a multiple of every block
WORTH = 1 << 18  # weights from which on a second thread is worth its start


# The types that `quantize` makes; in the first three, every weight is a block of its own.
TYPES = {"F32": BlockType(0, 1, 4), "F16": BlockType(1, 1, 2), "BF16": BlockType(30, 1, 2)} | ggml.TYPES


def quantize(x: ArrayLike, type: str, importance: np.ndarray | None = None, threads: int = THREADS) -> np.ndarray:
    """Return the rows of `x` (..., n) in a GGML type: uint8 (..., bytes of a row).

    With `importance` (n,), a number from 0 up for each column, errors in columns that matter more count for more
    (`llmnotes.quantization.models.importance` says where such numbers come from). Bytes equal those of llama.cpp's
    `ggml_quantize_chunk`, for any number of threads.

    Raises `NotQuantizable` for a type that is not in `TYPES`, no numbers, rows that the blocks do not divide, and, in a
    type with blocks, infinities and NaN; `MissingPart` where llama.cpp's library is missing and the type is not one of
    the three that `plain` makes. Does not choose another type.

    >>> quantize(np.ones((2, 64), np.float32), "Q8_0").shape
    (2, 68)
    """
    if type not in TYPES:
        raise NotQuantizable(f"llmnotes cannot make the type {str(type)[:40]}; take one of {', '.join(TYPES)}.")
    x, (_, elements, nbytes) = as_float32(x), TYPES[type]
    columns = x.shape[-1] if x.ndim else 1
    if columns % elements:
        raise NotQuantizable(
            f"Rows of {columns:,} do not divide into blocks of {elements} ({type}); take another type, say F16."
        )
    unit = elements if importance is None else columns  # weights that must stay together
    importance = _checked(importance, columns, elements)

    def change(piece: np.ndarray) -> np.ndarray:
        return _encode(piece.view(np.float32).reshape(-1, unit), type, importance, x.size)

    sizes = Sizes(unit, 4 * unit, unit // elements * nbytes)
    data = _by_pieces(change, x.reshape(-1).view(np.uint8), sizes, threads if elements > 1 else 1)
    return data.reshape(*x.shape[:-1], -1)


def dequantize(data: bytes | np.ndarray, type: str, shape: tuple[int, ...], threads: int = THREADS) -> np.ndarray:
    """Return float32 of `shape` from the bytes of a tensor in a GGML type: those in `TYPES`, and all gguf-py knows.

    Raises `KeyError` for a type that cannot be dequantized, `ValueError` for bytes that do not fill the shape.

    >>> dequantize(b"\\x80\\x3f\\x00\\xc0", "BF16", (2,)).tolist()
    [1.0, -2.0]
    """
    data = np.frombuffer(data, np.uint8)
    (_, elements, nbytes), decode = _decoder(type)
    if data.size % nbytes or data.size // nbytes * elements != np.prod(shape, dtype=np.int64):
        raise ValueError(f"{data.size:,} bytes of {type} do not fill the shape {shape}")
    sizes = Sizes(elements, nbytes, 4 * elements)
    return _by_pieces(decode, data, sizes, threads if elements > 1 else 1).view(np.float32).reshape(shape)


def readable(type: str) -> bool:
    """Return whether `dequantize` and `recoded` can read a type.

    >>> readable("IQ4_XS"), readable("Q8_K")
    (True, False)
    """
    try:
        return _decoder(type) is not None
    except KeyError:
        return False


def recoded(
    pieces: Iterable[bytes], source: str, target: str, importance: np.ndarray | None = None, threads: int = THREADS
) -> Iterator[bytes]:
    """Yield a tensor's bytes in the type `target`, from its bytes in the type `source`, in pieces of any size.

    The rows must divide into the blocks of both types; the caller must check that. With
    `importance`, one number for each column, each piece holds complete rows. A tensor that has the type already passes
    through unchanged, and bfloat16 becomes float16 without passing through float32. Raises `KeyError` for a type that
    llmnotes cannot read or write, and what `quantize` raises.

    >>> b"".join(recoded([b"\\x80", b"\\x3f"], "BF16", "F16")).hex()
    '003c'
    """
    if source == target:
        yield from pieces
        return
    (_, elements, width), decode = _decoder(source)
    kind = TYPES[target]
    columns = max(kind.elements, elements) if importance is None else len(importance)  # whole blocks of both types
    importance = _checked(importance, columns, kind.elements)
    sizes = Sizes(columns, columns // elements * width, columns // kind.elements * kind.nbytes)
    threads = threads if max(kind.elements, elements) > 1 else 1
    weights = 0  # so far: in a large tensor the compiled kernels take over once they pay

    def change(piece: np.ndarray) -> np.ndarray:
        if (source, target) == ("BF16", "F16"):
            return bf16.float16_table()[piece.view(np.uint16)]
        return _encode(decode(piece).reshape(-1, columns), target, importance, weights)

    for whole in _whole(pieces, sizes.before, f"{source} for a block of {target}"):
        weights += len(whole) // sizes.before * columns
        yield _by_pieces(change, whole, sizes, threads).tobytes()


def reordered(pieces: Iterable[bytes], target: str) -> Iterator[bytes]:
    """Yield blocks of Q5_0_V1 or Q5_1_V1 as Q5_0 or Q5_1 (`target`): the same numbers in another order."""
    width = TYPES[target].nbytes
    for whole in _whole(pieces, width, f"{target}'s first version for a block of {target}"):
        yield old_types.reordered(whole.reshape(-1, width)).tobytes()


# How a piece of rows becomes bytes, and bytes numbers.


def _encode(rows: np.ndarray, type: str, importance: np.ndarray | None, weights: int) -> np.ndarray:
    """Return float32 rows in a type; `weights` says how many there are in the whole tensor."""
    if type == "F32":
        return rows
    if type == "F16":
        return rows.astype("<f2")
    if type == "BF16":
        return bf16.encode(rows)
    if not np.isfinite(rows).all():
        raise NotQuantizable(NOT_FINITE)
    if fast.pays(type, weights, importance is not None):
        return fast.quantize(rows, type, importance)
    if ggml.available():
        fast.count_c(type, weights, rows.size)
        return ggml.quantize(rows, type, importance)
    if fast.installed():
        return fast.quantize(rows, type, importance)
    if type in plain.QUANTIZE and importance is None:
        _say_slow()
        return plain.QUANTIZE[type](rows.reshape(-1, TYPES[type].elements))
    package = "xllamacpp" if shared_library.find() is None else "numba"
    how = " with importance" if importance is not None else ""
    raise MissingPart(f"The type {type}{how} needs llama.cpp or numba; bring it with: {bring(package)}")


@cache
def _say_slow() -> None:
    """Warn once that the slow NumPy layer is in use."""
    logging.getLogger("llmnotes").warning(
        "Quantizing in NumPy, which is slow for large tensors, because llama.cpp's library cannot be called here; "
        f"for speed: {bring('numba')}"
    )


def _decoder(type: str) -> tuple[BlockType, Callable[[np.ndarray], np.ndarray]]:
    """Return a type's sizes and the function that turns its bytes, uint8 (n,), into float32."""
    if type == "F32":
        return TYPES[type], lambda data: data.view("<f4")
    if type == "F16":
        return TYPES[type], lambda data: data.view("<f2").astype(np.float32)
    if type == "BF16":
        return TYPES[type], lambda data: bf16.decode(data.view(np.uint16))
    if type in old_types.TYPES:
        old = old_types.TYPES[type]
        return BlockType(-1, old.elements, old.nbytes), lambda data: old.dequantize(data.reshape(-1, old.nbytes))
    import gguf

    kind = gguf.GGMLQuantizationType[type]
    if kind not in gguf.quants._type_traits:
        raise KeyError(type)
    # As one row: gguf-py walks through many rows in small groups, which takes longer.
    return BlockType(kind, *gguf.GGML_QUANT_SIZES[kind]), lambda data: gguf.dequantize(data[None], kind)


def _checked(importance: np.ndarray | None, columns: int, elements: int) -> np.ndarray | None:
    """Return the importance of the columns as float32 (columns,), if there is one."""
    if importance is None:
        return None
    importance = as_float32(importance)
    usable = importance.shape == (columns,) and columns % elements == 0
    if not (usable and np.isfinite(importance).all() and (importance >= 0).all()):
        raise NotQuantizable(
            f"The importance of {columns:,} columns is as many finite numbers from 0 up, and this is of the shape "
            f"{importance.shape}; collect it from this model."
        )
    return importance


# How a tensor is cut into pieces.


class Sizes(NamedTuple):
    """What must stay together: so many weights, their bytes before, and their bytes after."""

    weights: int
    before: int
    after: int


def _by_pieces(change: Callable[[np.ndarray], np.ndarray], data: np.ndarray, sizes: Sizes, threads: int) -> np.ndarray:
    """Return the bytes that `change` makes of the bytes `data`, a piece at a time, each thread with its share."""
    count = len(data) // sizes.before
    out = np.empty((count, sizes.after), np.uint8)
    step = max(PIECE // sizes.weights, 1)

    def work(first: int, last: int) -> None:
        with np.errstate(all="ignore"):  # infinities and NaN follow the arithmetic of C
            for start in range(first, last, step):
                end = min(start + step, last)
                made = change(data[start * sizes.before : end * sizes.before])
                out[start:end] = made.view(np.uint8).reshape(-1, sizes.after)

    in_threads(work, count, threads if count * sizes.weights >= WORTH else 1)
    return out.reshape(-1)


def _whole(pieces: Iterable[bytes], unit: int, what: str) -> Iterator[np.ndarray]:
    """Yield `pieces` cut anew, so that each is a multiple of `unit` bytes; raises `ValueError` if bytes remain."""
    rest = b""
    for piece in pieces:
        piece = rest + piece if rest else piece
        end = len(piece) // unit * unit
        rest = piece[end:]
        yield np.frombuffer(piece, np.uint8, end)
    if rest:
        raise ValueError(f"{len(rest)} bytes of {what} are left over, too few")
