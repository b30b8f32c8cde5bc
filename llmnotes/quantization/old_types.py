"""GGML types of files from before August 2023, which today's llama.cpp cannot read any more.

V1 keeps two neighbours in a byte, V2 and today's types the weights j and j + 16. The scales of V1 and V2 of Q4 and Q8
are float32. Every function takes uint8 (blocks, bytes) and returns float32 (blocks, weights).
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np


class OldType(NamedTuple):
    """A block's number of weights, its bytes, and the function that turns blocks into float32."""

    elements: int
    nbytes: int
    dequantize: Callable[[np.ndarray], np.ndarray]


def reordered(data: np.ndarray) -> np.ndarray:
    """Return blocks whose last 16 bytes hold neighbours as blocks that hold the weights j and j + 16, as today's do.

    >>> reordered(np.arange(16, dtype=np.uint8)[None])[0, :3].tolist()
    [128, 0, 145]
    """
    codes = _neighbours(data[:, -16:])
    return np.concatenate([data[:, :-16], codes[:, :16] | codes[:, 16:] << 4], axis=1)


def _number(data: np.ndarray, at: int, dtype: str) -> np.ndarray:
    """Return the float at byte `at` of each block as float32 (blocks, 1)."""
    width = np.dtype(dtype).itemsize
    return np.ascontiguousarray(data[:, at : at + width]).view(dtype).astype(np.float32)


def _halves(data: np.ndarray) -> np.ndarray:
    """Return the 4-bit codes in `data`: first the lower halves of all bytes, then the upper ones."""
    return np.concatenate([data & 15, data >> 4], axis=1).astype(np.float32)


def _neighbours(data: np.ndarray) -> np.ndarray:
    """Return the 4-bit codes in `data`, of which each byte holds two neighbours."""
    return np.stack([data & 15, data >> 4], axis=2).reshape(len(data), -1)


def _today(type: str) -> Callable[[np.ndarray], np.ndarray]:
    """Return the function for a type whose blocks differ from today's `type` only in the order of their codes."""

    def dequantize(data: np.ndarray) -> np.ndarray:
        import gguf

        return gguf.dequantize(reordered(data), gguf.GGMLQuantizationType[type])

    return dequantize


TYPES = {
    "Q4_0_V1": OldType(32, 20, lambda x: (_neighbours(x[:, 4:]).astype(np.float32) - 8) * _number(x, 0, "<f4")),
    "Q4_0_V2": OldType(32, 20, lambda x: (_halves(x[:, 4:]) - 8) * _number(x, 0, "<f4")),
    "Q4_1_V1": OldType(32, 24, lambda x: _neighbours(x[:, 8:]) * _number(x, 0, "<f4") + _number(x, 4, "<f4")),
    "Q4_1_V2": OldType(32, 24, lambda x: _halves(x[:, 8:]) * _number(x, 0, "<f4") + _number(x, 4, "<f4")),
    "Q4_2": OldType(16, 10, lambda x: (_neighbours(x[:, 2:]).astype(np.float32) - 8) * _number(x, 0, "<f2")),
    "Q4_3": OldType(16, 12, lambda x: _neighbours(x[:, 4:]) * _number(x, 0, "<f2") + _number(x, 2, "<f2")),
    "Q5_0_V1": OldType(32, 22, _today("Q5_0")),
    "Q5_1_V1": OldType(32, 24, _today("Q5_1")),
    "Q8_0_V1": OldType(32, 36, lambda x: x[:, 4:].view(np.int8) * _number(x, 0, "<f4")),
}
