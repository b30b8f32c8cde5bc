"""Blocks become numbers again, in plain NumPy: GGML's first types, and those of files from before August 2023.

Every `from_` function takes uint8 (blocks, bytes) and gives float32 (blocks, weights).
"""

import numpy as np


def _float(data: np.ndarray, at: int, kind: str = "<f2") -> np.ndarray:
    """Return the number at byte `at` of each block as float32 (blocks, 1)."""
    return np.ascontiguousarray(data[:, at : at + int(kind[2])]).view(kind).astype(np.float32)


def _nibbles(data: np.ndarray) -> np.ndarray:
    """Return the 32 four-bit numbers in 16 bytes: first the lower halves of all bytes, then the upper ones."""
    return np.concatenate([data & 15, data >> 4], axis=1)


def _pairs(data: np.ndarray) -> np.ndarray:
    """Return the four-bit numbers in bytes of which each holds two neighbours."""
    return np.stack([data & 15, data >> 4], axis=2).reshape(len(data), -1)


def split(data: np.ndarray) -> np.ndarray:
    """Return blocks (blocks, bytes) whose last 16 bytes hold neighbours as blocks that hold numbers j and j + 16."""
    numbers = _pairs(data[:, -16:])
    return np.concatenate([data[:, :-16], numbers[:, :16] | numbers[:, 16:] << 4], axis=1)


def _bits(data: np.ndarray) -> np.ndarray:
    """Return the 32 bits in 4 bytes, the lowest first, each in the place of a fifth bit."""
    return np.unpackbits(np.ascontiguousarray(data), axis=1, bitorder="little") << 4


def from_q4_0(data: np.ndarray) -> np.ndarray:
    return (_nibbles(data[:, 2:]).astype(np.float32) - 8) * _float(data, 0)


def from_q4_1(data: np.ndarray) -> np.ndarray:
    return _nibbles(data[:, 4:]).astype(np.float32) * _float(data, 0) + _float(data, 2)


def from_q5_0(data: np.ndarray) -> np.ndarray:
    return ((_nibbles(data[:, 6:]) | _bits(data[:, 2:6])).astype(np.float32) - 16) * _float(data, 0)


def from_q5_1(data: np.ndarray) -> np.ndarray:
    return (_nibbles(data[:, 8:]) | _bits(data[:, 4:8])).astype(np.float32) * _float(data, 0) + _float(data, 2)


def from_q8_0(data: np.ndarray) -> np.ndarray:
    return data[:, 2:].view(np.int8).astype(np.float32) * _float(data, 0)


# Types of files from before August 2023: (weights, bytes, the way back). V1 has two neighbours in a byte, V2 has
# numbers j and j + 16; V1 and V2 of Q4 and Q8 have float32 for scales.
UNDONE = {
    "Q4_0_V1": (32, 20, lambda data: (_pairs(data[:, 4:]).astype(np.float32) - 8) * _float(data, 0, "<f4")),
    "Q4_0_V2": (32, 20, lambda data: (_nibbles(data[:, 4:]).astype(np.float32) - 8) * _float(data, 0, "<f4")),
    "Q4_1_V1": (32, 24, lambda data: _pairs(data[:, 8:]) * _float(data, 0, "<f4") + _float(data, 4, "<f4")),
    "Q4_1_V2": (32, 24, lambda data: _nibbles(data[:, 8:]) * _float(data, 0, "<f4") + _float(data, 4, "<f4")),
    "Q4_2": (16, 10, lambda data: (_pairs(data[:, 2:]).astype(np.float32) - 8) * _float(data, 0)),
    "Q4_3": (16, 12, lambda data: _pairs(data[:, 4:]) * _float(data, 0) + _float(data, 2)),
    "Q5_0_V1": (32, 22, lambda data: from_q5_0(split(data))),
    "Q5_1_V1": (32, 24, lambda data: from_q5_1(split(data))),
    "Q8_0_V1": (32, 36, lambda data: data[:, 4:].view(np.int8) * _float(data, 0, "<f4")),
}
