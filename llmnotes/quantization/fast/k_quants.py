"""GGML's K-quants: 256 weights in parts, whose scales are themselves quantized. Compiled by numba.

    Q6_K  16 parts of 16: a scale in 8 bits                     210 bytes, 6.5625 bits per weight
    Q5_K   8 parts of 32: a scale and a minimum in 6 bits each  176 bytes, 5.5
    Q4_K   8 parts of 32: the same                              144 bytes, 4.5
    Q3_K  16 parts of 16: a scale in 6 bits                     110 bytes, 3.4375
    Q2_K  16 parts of 16: a scale and a minimum in 4 bits each   84 bytes, 2.625

One or two float16 in each block turn the parts' whole numbers into their scales and minima. The steps are the same
for all: find the best scale of each part (`scale_search`), quantize these scales, and round the weights once more, with
the scales that will come back. Importance weighs the errors of the columns, and makes the search longer. A `to_`
function takes float32 (blocks, 256), the importance of the columns, float32 (blocks of a row, 256) or (0, 256) for
none, and writes uint8 (blocks, bytes).
"""

import numpy as np

from llmnotes.quantization.fast.compiled import ONE, ZERO, code, compiled, get, half, nearest, pack, put, whole
from llmnotes.quantization.fast.scale_search import SMALLEST, affine, descent, largest, positive, symmetric, weighed

# The searches by (first stretch, step, tries): with importance; without it for Q4_K; for Q2_K and Q5_K
LONG, MIDDLE = (np.float32(-0.9), np.float32(0.05), 37), (np.float32(-1), np.float32(0.1), 21)
SHORT = (np.float32(-0.5), np.float32(0.1), 16)


@compiled
def to_q2_k(x: np.ndarray, importance: np.ndarray, out: np.ndarray) -> None:
    """Q2_K: 16 bytes with the scale and the minimum of each part, 64 bytes of codes, the two float16."""
    weighted = len(importance) > 0
    # Find the scale and the minimum of each part, and quantize them to 4 bits.
    weights = (weighed(x, importance, 1, 1) if weighted else np.abs(x)).reshape(-1, 16)
    found = _with_minima(x, weights, 3, LONG if weighted else SHORT, not weighted, 15, weighted)
    codes, tops, shares, lows, low_shares = found
    scales, minima = np.empty(16, np.float32), np.empty(16, np.float32)
    for b in range(len(x)):
        # Store the scales and minima.
        for j in range(16):
            out[b, j] = shares[b, j] | low_shares[b, j] << 4
        put(out[b], 80, tops[b])
        put(out[b], 82, lows[b])
        # Round the weights again with the scales as stored.
        _get_16(out[b], scales, minima)
        _round(x[b], scales, minima, 3, codes[b])
        pack(codes[b], 2, 0, 32, out[b, 16:80])


@compiled
def to_q4_k(x: np.ndarray, importance: np.ndarray, out: np.ndarray) -> None:
    """Q4_K: the two float16, 12 bytes of scales and minima, 128 bytes of codes."""
    _to_8(x, importance, out, 15, MIDDLE)


@compiled
def to_q5_k(x: np.ndarray, importance: np.ndarray, out: np.ndarray) -> None:
    """Q5_K: the two float16, 12 bytes of scales and minima, 32 bytes of fifth bits, 128 bytes of lower bits."""
    _to_8(x, importance, out, 31, SHORT)


@compiled
def to_q3_k(x: np.ndarray, importance: np.ndarray, out: np.ndarray) -> None:
    """Q3_K: 32 bytes of third bits, 64 bytes of lower bits, 12 bytes of scales in 6 bits, the float16."""
    # Find the scale of each part, and quantize it to 6 bits.
    if len(importance):
        weights = weighed(x, importance, 1, 2).reshape(-1, 16)
        codes, scales = symmetric(x.reshape(-1, 16), weights, 4)
        shares, tops = symmetric(scales.reshape(-1, 16), _totals(weights, 16), 32)
    else:
        codes, scales = descent(x.reshape(-1, 16), 4)
        shares, tops = _signed_shares(scales.reshape(-1, 16), 32)
    codes = codes.reshape(-1, 256)
    # Round the weights again with the scales as stored, then pack the bits.
    _round_symmetric(x, tops, shares, 32, 4, codes)
    for b in range(len(x)):
        pack(codes[b], 1, 2, 32, out[b, :32])
        pack(codes[b], 2, 0, 32, out[b, 32:96])
        pack(shares[b], 4, 0, 8, out[b, 96:104])
        pack(shares[b], 2, 4, 4, out[b, 104:108])
        put(out[b], 108, tops[b])


@compiled
def to_q6_k(x: np.ndarray, importance: np.ndarray, out: np.ndarray) -> None:
    """Q6_K: 128 bytes of lower bits, 64 bytes of the two upper ones, 16 signed bytes of scales, the float16."""
    # Find the scale of each part, and quantize it to 8 bits.
    weights = x * x
    for b in range(len(x) if len(importance) else 0):
        weights[b] = importance[b % len(importance)]
    codes, scales = symmetric(x.reshape(-1, 16), weights.reshape(-1, 16), 32)
    codes, scales = codes.reshape(-1, 256), scales.reshape(-1, 16)
    shares, tops = _signed_shares(scales, 128)
    # Round the weights again with the scales as stored, then pack the bits.
    _round_symmetric(x, tops, shares, 128, 32, codes)
    for b in range(len(x)):
        if abs(largest(scales[b])) < SMALLEST:
            out[b] = 0
            continue
        pack(codes[b], 4, 0, 64, out[b, :128])
        pack(codes[b], 2, 4, 32, out[b, 128:192])
        for j in range(16):
            out[b, 192 + j] = shares[b, j] - np.uint8(128)
        put(out[b], 208, tops[b])


@compiled
def _to_8(x, importance, out, levels, search):
    """Write Q4_K or Q5_K, blocks with 8 parts."""
    weighted = len(importance) > 0
    weights = weighed(x, importance, 1, 2).reshape(-1, 32) if weighted else _above_average(x.reshape(-1, 32))
    found = _with_minima(x, weights, levels, LONG if weighted else search, False, 63, weighted)
    codes, tops, shares, lows, low_shares = found
    if levels == 31 or not weighted:
        shares, low_shares = np.minimum(shares, np.uint8(63)), np.minimum(low_shares, np.uint8(63))
    scales, minima = np.empty(8, np.float32), np.empty(8, np.float32)
    for b in range(len(x)):
        _put_8(out[b], tops[b], shares[b], lows[b], low_shares[b])
        _get_8(out[b], scales, minima)
        _round(x[b], scales, minima, levels, codes[b])
        if levels == 31:
            pack(codes[b], 1, 4, 32, out[b, 16:48])
        pack(codes[b], 4, 0, 32, out[b, -128:])


@compiled
def _with_minima(x, weights, levels, search, absolute, most, weighted):
    """Return (codes, scales, shares up to `most`, minima, shares); a part's scale is its block's times its share."""
    n, (first, step, tries) = weights.shape[1], search
    codes, scales, minima = affine(x.reshape(-1, n), weights, levels, first, step, tries, absolute)
    scales, minima = scales.reshape(-1, 256 // n), minima.reshape(-1, 256 // n)
    if weighted:
        totals = _totals(weights, 256 // n)
        shares, tops = positive(scales, totals, most)
        low_shares, lows = positive(minima, totals, most)
        return codes.reshape(-1, 256), tops, shares, lows, low_shares
    shares, tops = _shares(scales, most)
    low_shares, lows = _shares(minima, most)
    return codes.reshape(-1, 256), tops, shares, lows, low_shares


@compiled
def _round(x, scales, minima, levels, codes):
    """Round the weights of a block with the scales and minima that come back; a part whose scale is 0 stays."""
    n = 256 // len(scales)
    for j in range(len(scales)):
        if scales[j] != ZERO:
            for i in range(n * j, n * j + n):
                codes[i] = np.uint8(code((x[i] + minima[j]) / scales[j], np.int32(0), np.int32(levels)))


@compiled
def _round_symmetric(x, tops, shares, offset, levels, codes):
    """Round the weights of blocks without minima once more: a part's scale is the block's times (share - offset)."""
    low, high = np.int32(-levels), np.int32(levels - 1)
    for b in range(len(x)):
        top = whole(half(tops[b]))
        for j in range(16):
            scale = top * np.float32(np.int32(shares[b, j]) - offset)
            if scale != ZERO:
                for i in range(16 * j, 16 * j + 16):
                    codes[b, i] = np.uint8(code(x[b, i] / scale, low, high) - low)


@compiled
def _shares(scales, most):
    """Return (shares, scales of the blocks): the largest of a block's scales gets the share `most`."""
    shares, tops = np.empty(scales.shape, np.uint8), np.empty(len(scales), np.float32)
    for b in range(len(scales)):
        top = ZERO
        for value in scales[b]:
            if value > top:
                top = value
        inverse = np.float32(most) / top if top > ZERO else ZERO
        tops[b] = top / np.float32(most)
        for j in range(scales.shape[1]):
            shares[b, j] = np.uint8(nearest(inverse * scales[b, j]))
    return shares, tops


@compiled
def _signed_shares(scales, most):
    """Return (shares, scales of the blocks): the scale of the largest magnitude gets the share -most, written as 0."""
    shares, tops = np.zeros(scales.shape, np.uint8), np.zeros(len(scales), np.float32)
    for b in range(len(scales)):
        top = largest(scales[b])
        if top != ZERO:
            inverse = -np.float32(most) / top
            tops[b] = ONE / inverse
            for j in range(scales.shape[1]):
                shares[b, j] = np.uint8(code(inverse * scales[b, j], np.int32(-most), np.int32(most - 1)) + most)
    return shares, tops


@compiled
def _above_average(parts):
    """Return weights for errors where nothing is known of the columns: |x| and the root mean square of the part."""
    weights = np.empty(parts.shape, np.float32)
    for b in range(len(parts)):
        total = ZERO
        for value in parts[b]:
            total += value * value
        average = np.sqrt(total / np.float32(parts.shape[1]))
        for i in range(parts.shape[1]):
            weights[b, i] = average + abs(parts[b, i])
    return weights


@compiled
def _totals(weights, count):
    """Return the sums of the weights of each part, with `count` parts to a row."""
    totals = np.empty(len(weights), np.float32)
    for b in range(len(weights)):
        total = ZERO
        for value in weights[b]:
            total += value
        totals[b] = total
    return totals.reshape(-1, count)


@compiled
def _put_8(block, top, shares, low, low_shares):
    """Write the head of Q4_K and Q5_K: two float16, then 8 scales and 8 minima of 6 bits in 12 bytes.

    The first four of each have a byte of their own, whose upper two bits hold those of the last four; the lower four
    bits of these share the last four bytes.
    """
    put(block, 0, top)
    put(block, 2, low)
    for j in range(4):
        block[4 + j] = shares[j] | shares[j + 4] >> 4 << 6
        block[8 + j] = low_shares[j] | low_shares[j + 4] >> 4 << 6
        block[12 + j] = shares[j + 4] & 15 | (low_shares[j + 4] & 15) << 4


@compiled
def _get_8(block, scales, minima):
    """Write the scales and minima in the head of a block of Q4_K or Q5_K."""
    top, low = get(block, 0), get(block, 2)
    for j in range(4):
        first, second, third = block[4 + j], block[8 + j], block[12 + j]
        scales[j], minima[j] = top * np.float32(first & 63), low * np.float32(second & 63)
        scales[j + 4] = top * np.float32(third & 15 | first >> 6 << 4)
        minima[j + 4] = low * np.float32(third >> 4 | second >> 6 << 4)


@compiled
def _get_16(block, scales, minima):
    """Write the scales and minima of a block of Q2_K."""
    top, low = get(block, 80), get(block, 82)
    for j in range(16):
        scales[j], minima[j] = top * np.float32(block[j] & 15), low * np.float32(block[j] >> 4)
