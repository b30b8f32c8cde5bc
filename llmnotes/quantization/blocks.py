"""GGML's types: weights in blocks that share a scale, byte for byte as llama.cpp stores them.

All work is done on pieces that fit a processor's cache, so memory does not follow the size of a tensor.
"""

from collections.abc import Callable, Iterable, Iterator
from functools import cache
from importlib import import_module
from typing import NamedTuple

import numpy as np

from llmnotes.errors import NotQuantizable
from llmnotes.quantization import unpacking
from llmnotes.quantization.arrays import NOT_FINITE, as_float32
from llmnotes.quantization.threads import THREADS, in_threads

PIECE = 1 << 16  # elements that are worked on at a time; a multiple of every block
WORTH = 1 << 18  # elements from which on a second thread is worth its start


class BlockType(NamedTuple):
    """A type: `elements` in a block, `nbytes` of a block, and the two ways.

    `quantize` takes float32 (blocks, elements) and the importance of a row's columns, float32 (blocks of a row,
    elements) or (0, elements) for none, and gives uint8 (blocks, nbytes); `dequantize` goes back.
    """

    elements: int
    nbytes: int
    quantize: Callable[[np.ndarray, np.ndarray], np.ndarray]
    dequantize: Callable[[np.ndarray], np.ndarray]


def quantize(name: str, x: np.ndarray, importance: np.ndarray | None = None, threads: int = THREADS) -> np.ndarray:
    """Return the rows of `x` (..., n) in the type `name`: uint8 (..., bytes of a row).

    With `importance` (n,), a number from 0 for each column, errors in columns that matter more count for more
    (`llmnotes.quantization.models.importance` says where such numbers come from). Bytes equal those of llama.cpp's
    `ggml_quantize_chunk`, for any number of threads. Types with blocks are compiled at their first use, in seconds.

    Raises `NotQuantizable` for a name that is not in `TYPES`, no numbers, rows that the blocks do not divide, and, in a
    type with blocks, infinities and NaN; `MissingPart` without numba. Does not choose another type.

    >>> quantize("BF16", np.ones((2, 64), np.float32)).shape
    (2, 128)
    """
    if name not in TYPES:
        raise NotQuantizable(f"There is no way to make the type {str(name)[:40]}; take one of {', '.join(TYPES)}.")
    x, kind = as_float32(x), TYPES[name]
    columns = x.shape[-1] if x.ndim else 1
    if columns % kind.elements:
        raise NotQuantizable(
            f"Rows of {columns:,} do not divide into blocks of {kind.elements} ({name}); take another type, say F16."
        )
    change = _quantizer(kind, importance, columns)
    unit = kind.elements if importance is None else columns
    result = unit // kind.elements * kind.nbytes
    threads = threads if kind.elements > 1 else 1
    data = _changed(change, x.reshape(-1).view(np.uint8), unit, 4 * unit, result, threads)
    return data.reshape(*x.shape[:-1], -1)


def dequantize(name: str, data: bytes | np.ndarray, shape: tuple[int, ...], threads: int = THREADS) -> np.ndarray:
    """Return float32 of `shape` from the bytes of a tensor in the type `name`.

    Types that are not in `TYPES` are left to gguf-py. Raises `KeyError` for a type that it cannot undo either,
    `ValueError` for bytes that do not fill the shape.

    >>> dequantize("BF16", b"\\x80\\x3f\\x00\\xc0", (2,)).tolist()
    [1.0, -2.0]
    """
    data = np.frombuffer(data, np.uint8)
    elements, nbytes, undo = _undo(name)
    if data.size % nbytes or data.size // nbytes * elements != np.prod(shape, dtype=np.int64):
        raise ValueError(f"{data.size:,} bytes of {name} do not fill the shape {shape}")

    def change(piece):
        return undo(piece.reshape(-1, nbytes))

    threads = threads if elements > 1 else 1
    return _changed(change, data.reshape(-1), elements, nbytes, 4 * elements, threads).view(np.float32).reshape(shape)


def recoded(
    pieces: Iterable[bytes], source: str, target: str, importance: np.ndarray | None = None, threads: int = THREADS
) -> Iterator[bytes]:
    """Yield a tensor's bytes in the type `target`, from its bytes in the type `source`, in pieces of any size.

    The rows must divide into the blocks of both; whoever knows the shape has checked it. With `importance`, one number
    for each column, rows are worked on as a whole. What is equal stays as it is, and a bfloat16 becomes a float16
    without a float32 between. Raises `KeyError` for a type without the way needed, and what `quantize` raises.

    >>> b"".join(recoded([b"\\x80", b"\\x3f"], "BF16", "F16")).hex()
    '003c'
    """
    if source == target:
        yield from pieces
        return
    elements, width, undo = _undo(source)
    kind = TYPES[target]
    unit = max(kind.elements, elements)  # elements that are whole blocks of both
    if importance is not None:
        unit = len(importance)
    step, result = unit // elements * width, unit // kind.elements * kind.nbytes
    make = _quantizer(kind, importance, unit)

    def change(piece):
        if (source, target) == ("BF16", "F16"):
            return _f16_of_bf16()[piece.view(np.uint16)]
        return make(undo(piece.reshape(-1, width)))

    threads = threads if max(kind.elements, elements) > 1 else 1
    left = b""
    for piece in pieces:
        piece = left + piece if left else piece
        whole = len(piece) // step * step
        left = piece[whole:]
        yield _changed(change, np.frombuffer(piece, np.uint8, whole), unit, step, result, threads).tobytes()
    if left:
        raise ValueError(f"{len(left)} bytes of {source} are left over, too few for a block of {target}")


def laid_anew(pieces: Iterable[bytes], target: str) -> Iterator[bytes]:
    """Yield blocks of Q5_0_V1 or Q5_1_V1 as Q5_0 or Q5_1 (`target`): the same numbers in another order."""
    width, left = TYPES[target].nbytes, b""
    for piece in pieces:
        piece = left + piece if left else piece
        whole = len(piece) // width * width
        left = piece[whole:]
        blocks = np.frombuffer(piece, np.uint8, whole)
        yield _changed(lambda part: unpacking.split(part.reshape(-1, width)), blocks, 32, width, width, 1).tobytes()
    if left:
        raise ValueError(f"{len(left)} bytes are left over, too few for a block of {target}")


def _undo(name: str) -> tuple[int, int, Callable]:
    """Return (elements, bytes, function) of a block's way back to float32."""
    if name in TYPES:
        kind = TYPES[name]
        return kind.elements, kind.nbytes, kind.dequantize
    if name in unpacking.UNDONE:
        return unpacking.UNDONE[name]
    import gguf

    type_ = gguf.GGMLQuantizationType[name]
    elements, nbytes = gguf.GGML_QUANT_SIZES[type_]
    if type_ not in gguf.quants._type_traits:
        raise KeyError(name)
    return elements, nbytes, lambda blocks: gguf.dequantize(blocks, type_)


def _quantizer(kind: BlockType, importance: np.ndarray | None, columns: int) -> Callable[[np.ndarray], np.ndarray]:
    """Return the function that quantizes float32 bytes of whole blocks, or of whole rows where columns matter."""
    if importance is None:
        weights = np.empty((0, kind.elements), np.float32)
    else:
        weights = as_float32(importance)
        if (
            weights.shape != (columns,)
            or columns % kind.elements
            or not (np.isfinite(weights).all() and (weights >= 0).all())
        ):
            raise NotQuantizable(
                f"The importance of {columns:,} columns is as many finite numbers from 0 up, and this is of the shape "
                f"{weights.shape}; collect it from this model."
            )
        weights = weights.reshape(-1, kind.elements)

    def change(piece):
        return kind.quantize(piece.view(np.float32).reshape(-1, kind.elements), weights)

    return change


def _compiled(module: str, name: str, nbytes: int) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """Return a function that quantizes with a compiled kernel, which is imported when it is needed."""

    def change(x, importance):
        x = _writable(x)
        if not _load("compiled", "finite")(x):
            raise NotQuantizable(NOT_FINITE)
        out = np.empty((len(x), nbytes), np.uint8)
        _load(module, name)(x, _writable(importance), out)
        return out

    return change


def _uncompiled(name: str) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function that undoes a K-quant with a compiled kernel."""

    def change(data):
        out = np.empty((len(data), 256), np.float32)
        _load("k_quants", name)(_writable(data), out)
        return out

    return change


def _writable(x: np.ndarray) -> np.ndarray:
    """Return an array that may be written to: for numba, one that may not is another type, to be compiled again."""
    return np.require(x, requirements="W")


@cache
def _load(module: str, name: str) -> Callable:
    return getattr(import_module(f"llmnotes.quantization.fast.{module}"), name)


def _changed(change: Callable, data: np.ndarray, elements: int, unit: int, result: int, threads: int) -> np.ndarray:
    """Return `change` of the bytes `data` by pieces: `unit` bytes, `elements` of them, become `result` bytes."""
    out = np.empty((len(data) // unit, result), np.uint8)
    step = max(PIECE // elements, 1)

    def work(first, last):
        with np.errstate(all="ignore"):  # infinities and what is not a number follow the arithmetic of C
            for start in range(first, last, step):
                end = min(start + step, last)
                out[start:end] = change(data[start * unit : end * unit]).view(np.uint8).reshape(-1, result)

    in_threads(work, len(out), threads if len(out) * elements >= WORTH else 1)
    return out.reshape(-1)


@cache
def _f16_of_bf16() -> np.ndarray:
    """Return the float16 nearest to each of the 65,536 bfloat16 numbers."""
    with np.errstate(over="ignore"):
        return _from_bf16(np.arange(1 << 16, dtype=np.uint16)).astype(np.float16)


def _to_bf16(x: np.ndarray) -> np.ndarray:
    """Round to the nearest bfloat16, halves to even; what is not a number stays none."""
    bits = x.view(np.uint32)
    out = bits >> 16
    out &= 1
    out += bits
    out += 0x7FFF
    out >>= 16
    nan = np.isnan(x)
    if nan.any():
        out[nan] = bits[nan] >> 16 | 64
    return out.astype(np.uint16)


def _from_bf16(data: np.ndarray) -> np.ndarray:
    return (data.view(np.uint16).astype(np.uint32) << 16).view(np.float32)


# The types that can be made. A further one is one further line.
TYPES = {
    "F32": BlockType(1, 4, lambda x, _: x, lambda data: data.view("<f4")),
    "F16": BlockType(1, 2, lambda x, _: x.astype("<f2"), lambda data: data.view("<f2").astype(np.float32)),
    "BF16": BlockType(1, 2, lambda x, _: _to_bf16(x), _from_bf16),
    "Q8_0": BlockType(32, 34, _compiled("legacy_blocks", "to_q8_0", 34), unpacking.from_q8_0),
    "Q4_0": BlockType(32, 18, _compiled("legacy_blocks", "to_q4_0", 18), unpacking.from_q4_0),
    "Q4_1": BlockType(32, 20, _compiled("legacy_blocks", "to_q4_1", 20), unpacking.from_q4_1),
    "Q5_0": BlockType(32, 22, _compiled("legacy_blocks", "to_q5_0", 22), unpacking.from_q5_0),
    "Q5_1": BlockType(32, 24, _compiled("legacy_blocks", "to_q5_1", 24), unpacking.from_q5_1),
    "Q2_K": BlockType(256, 84, _compiled("k_quants", "to_q2_k", 84), _uncompiled("from_q2_k")),
    "Q3_K": BlockType(256, 110, _compiled("k_quants", "to_q3_k", 110), _uncompiled("from_q3_k")),
    "Q4_K": BlockType(256, 144, _compiled("k_quants", "to_q4_k", 144), _uncompiled("from_q4_k")),
    "Q5_K": BlockType(256, 176, _compiled("k_quants", "to_q5_k", 176), _uncompiled("from_q5_k")),
    "Q6_K": BlockType(256, 210, _compiled("k_quants", "to_q6_k", 210), _uncompiled("from_q6_k")),
}
