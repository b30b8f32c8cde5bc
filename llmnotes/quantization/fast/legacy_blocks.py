"""GGML's first block types: 32 weights share one float16 scale, or a scale and a minimum. Compiled by numba.

    Q8_0  scale, 32 codes of 8 bits                     34 bytes, 8.5 bits per weight
    Q5_1  scale, minimum, 32 fifth bits, 32 x 4 bits    24 bytes, 6.0
    Q5_0  scale, 32 fifth bits, 32 x 4 bits             22 bytes, 5.5
    Q4_1  scale, minimum, 32 x 4 bits                   20 bytes, 5.0
    Q4_0  scale, 32 x 4 bits                            18 bytes, 4.5

Every `to_` function takes float32 (blocks, 32), the importance of the columns, float32 (blocks of a row, 32) or (0, 32)
for none, and writes uint8 (blocks, bytes). With importance the blocks are whole rows, and scales are searched for.
Without it the extreme weights get the extreme codes, and all others the nearest.
"""

import numpy as np

from llmnotes.quantization.fast.compiled import ONE, ZERO, compiled, pack, put
from llmnotes.quantization.fast.scale_search import affine, largest, symmetric, weighed

BELOW_HALF = np.float32(0.49999997)  # the float32 below a half: added before cutting, it rounds halves away from zero
HALF = np.float32(0.5)


@compiled
def to_q8_0(x: np.ndarray, importance: np.ndarray, out: np.ndarray) -> None:
    """Q8_0: the largest magnitude becomes 127. Importance changes nothing here."""
    for b in range(len(x)):
        block = x[b]
        top = ZERO
        for i in range(32):
            top = max(top, abs(block[i]))
        scale = top / np.float32(127)
        inverse = ONE / scale if scale != ZERO else ZERO
        put(out[b], 0, scale)
        for i in range(32):
            value = block[i] * inverse
            out[b, 2 + i] = np.uint8(np.int32(value + np.copysign(BELOW_HALF, value)))


@compiled
def to_q4_0(x: np.ndarray, importance: np.ndarray, out: np.ndarray) -> None:
    """Q4_0: codes 0 to 15 for -8 to 7 times the scale; the weight of the largest magnitude, sign included, is -8."""
    _to_symmetric(x, importance, out, 8)


@compiled
def to_q5_0(x: np.ndarray, importance: np.ndarray, out: np.ndarray) -> None:
    """Q5_0: as Q4_0 with codes 0 to 31 for -16 to 15; the fifth bits are stored together, in four separate bytes."""
    _to_symmetric(x, importance, out, 16)


@compiled
def to_q4_1(x: np.ndarray, importance: np.ndarray, out: np.ndarray) -> None:
    """Q4_1: codes 0 to 15 from the smallest weight to the largest."""
    _to_affine(x, importance, out, 15)


@compiled
def to_q5_1(x: np.ndarray, importance: np.ndarray, out: np.ndarray) -> None:
    """Q5_1: codes 0 to 31 from the smallest weight to the largest."""
    _to_affine(x, importance, out, 31)


@compiled
def _to_symmetric(x, importance, out, levels):
    if len(importance):
        codes, scales = symmetric(x, weighed(x, importance, len(importance), 1), levels)
        for b in range(len(x)):
            put(out[b], 0, scales[b])
            _put_codes(codes[b], levels > 8, out[b, 2:])
        return
    codes = np.empty(32, np.uint8)
    for b in range(len(x)):
        scale = largest(x[b]) / np.float32(-levels)
        inverse = ONE / scale if scale != ZERO else ZERO
        put(out[b], 0, scale)
        _put_cut(x[b], ZERO, inverse, np.float32(levels) + HALF, 2 * levels - 1, codes, out[b, 2:])


@compiled
def _to_affine(x, importance, out, levels):
    if len(importance):
        weights = weighed(x, importance, len(importance), 1)
        codes, scales, minima = affine(x, weights, levels, np.float32(-0.9), np.float32(0.05), 37, False)
        for b in range(len(x)):
            put(out[b], 0, scales[b])
            put(out[b], 2, -minima[b])
            _put_codes(codes[b], levels > 15, out[b, 4:])
        return
    codes = np.empty(32, np.uint8)
    for b in range(len(x)):
        low = high = x[b, 0]
        for value in x[b]:
            low, high = min(low, value), max(high, value)
        scale = (high - low) / np.float32(levels)
        inverse = ONE / scale if scale != ZERO else ZERO
        put(out[b], 0, scale)
        put(out[b], 2, low)
        _put_cut(x[b], low, inverse, HALF, levels, codes, out[b, 4:])


@compiled
def _put_cut(block, low, inverse, offset, most, codes, out):
    """Write the codes of a block: (x - low) * inverse + offset without its fraction."""
    if most == 15:  # what `_put_codes` does, in one go: most of the time goes into this line
        for i in range(16):
            first = _cut(block[i], low, inverse, offset, most)
            out[i] = first | _cut(block[16 + i], low, inverse, offset, most) << 4
        return
    for i in range(32):
        codes[i] = _cut(block[i], low, inverse, offset, most)
    _put_codes(codes, True, out)


@compiled
def _cut(value, low, inverse, offset, most):
    """Return a code. NaN, which appears if a scale is so small that its inverse is infinite, becomes 0."""
    return min(np.uint8(np.int32((value - low) * inverse + offset)), np.uint8(most))


@compiled
def _put_codes(codes, five, out):
    if five:
        pack(codes, 1, 4, 1, out[:4])
        pack(codes, 4, 0, 16, out[4:])
    else:
        pack(codes, 4, 0, 16, out)
