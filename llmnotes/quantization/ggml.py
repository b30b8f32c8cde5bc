"""llama.cpp's own quantizers, called in the library that xllamacpp brings: nothing to compile, all block types."""

import ctypes
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import numpy as np

from llmnotes.quantization import shared_library


class BlockType(NamedTuple):
    """A block type: llama.cpp's number for it, the weights in a block, and its bytes."""

    number: int
    elements: int
    nbytes: int


TYPES = {
    "Q4_0": BlockType(2, 32, 18),
    "Q4_1": BlockType(3, 32, 20),
    "Q5_0": BlockType(6, 32, 22),
    "Q5_1": BlockType(7, 32, 24),
    "Q8_0": BlockType(8, 32, 34),
    "Q2_K": BlockType(10, 256, 84),
    "Q3_K": BlockType(11, 256, 110),
    "Q4_K": BlockType(12, 256, 144),
    "Q5_K": BlockType(13, 256, 176),
    "Q6_K": BlockType(14, 256, 210),
}


@cache
def _quantize_chunk() -> Callable | None:
    """Return llama.cpp's C function, or None where xllamacpp is missing or does not export it (Windows)."""
    path = shared_library.find()
    try:
        function = ctypes.CDLL(str(path)).ggml_quantize_chunk if path else None
    except (OSError, AttributeError):
        return None
    if function is not None:
        # type, source, destination, first number, rows, numbers in a row, importance (or NULL) -> bytes written
        function.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, *[ctypes.c_int64] * 3, ctypes.c_void_p]
        function.restype = ctypes.c_size_t
    return function


def available() -> bool:
    """Return whether llama.cpp's quantizers can be called here."""
    return _quantize_chunk() is not None


def quantize(rows: np.ndarray, type: str, importance: np.ndarray | None = None) -> np.ndarray:
    """Return finite float32 `rows` (rows, n) in a GGML type such as "Q4_K": uint8 (rows, bytes of a row).

    `importance` is float32 (n,). Works on one thread, and leaves Python's lock free for others. Does not check what it
    is given: a row that the blocks do not divide, or a NaN, ends the process.

    >>> quantize(np.ones((2, 64), np.float32), "Q8_0").shape
    (2, 68)
    """
    number, elements, nbytes = TYPES[type]
    rows = np.ascontiguousarray(rows, np.float32)
    out = np.empty((len(rows), rows.shape[1] // elements * nbytes), np.uint8)
    weights = None if importance is None else np.ascontiguousarray(importance, np.float32)
    pointer = None if weights is None else weights.ctypes.data
    function = _quantize_chunk()
    assert function is not None, "ask available() first"
    function(number, rows.ctypes.data, out.ctypes.data, 0, *rows.shape, pointer)
    return out
