"""Evenly spaced levels in blocks, as lesson 13 builds them: a scale for each block, and codes.

All functions work on NumPy arrays; scales are kept as float16 numbers. `plain` has llama.cpp's own formats.
"""

import numpy as np


def block_scales(w: np.ndarray, bits: int, block: int) -> np.ndarray:
    """Return the scale of each block of w, (blocks, 1): its largest weight over the largest code, 2^(bits - 1) - 1.

    >>> block_scales(np.array([0.7, -0.1, 0.2, -1.4]), 4, 2).round(3).tolist()
    [[0.1], [0.2]]
    """
    largest = np.abs(w.reshape(-1, block)).max(axis=1, keepdims=True)
    return largest / (2 ** (bits - 1) - 1)


def quantize(w: np.ndarray, bits: int, block: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the codes of w, a row for each block, and the blocks' scales, (blocks, 1); for 2 to 8 bits.

    Scales are rounded to float16, which holds nothing below 0.00000006: smaller weights are lost. Blocks run on over
    the ends of rows that they don't divide.

    >>> quantize(np.array([0.7, -0.1, 0.2, -1.4]), 4, 2)[0].tolist()
    [[7, -1], [1, -7]]
    """
    s = block_scales(w, bits, block)
    s = s.astype(np.float16).astype(np.float32)  # as it will be stored
    q = np.rint(w.reshape(-1, block) / np.where(s == 0, 1, s))  # zeros stay 0
    top = 2 ** (bits - 1) - 1
    return np.clip(q, -top, top).astype(int), s


def quantize_full(w: np.ndarray, bits: int, block: int) -> tuple[np.ndarray, np.ndarray]:
    """Return codes and scales as `quantize` does, but with all patterns: the largest weight gets the lowest code.

    >>> quantize_full(np.array([0.8, -0.1, 0.2, -1.6]), 4, 2)[0].tolist()
    [[-8, 1], [1, -8]]
    """
    blocks = w.reshape(-1, block)
    low = -(2 ** (bits - 1))
    at = np.abs(blocks).argmax(axis=1, keepdims=True)
    s = np.take_along_axis(blocks, at, axis=1) / low
    s = s.astype(np.float16).astype(np.float32)
    q = np.rint(blocks / np.where(s == 0, 1, s))
    return np.clip(q, low, -low - 1).astype(int), s


def dequantize(q: np.ndarray, s: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return the weights that codes and scales stand for, in the shape that they had.

    >>> dequantize(np.array([[7, -1]]), np.array([[0.1]]), (2,)).round(2).tolist()
    [0.7, -0.1]
    """
    return (s * q).reshape(shape)
