"""Q8_0, Q4_0 and Q4_K in readable NumPy: the three GGML types that the course explains, step by step.

The bytes equal those of llama.cpp. Where llama.cpp's library can be called, `blocks` calls that instead: it makes Q8_0
and Q4_0 twice as fast and Q4_K seven times. All functions here take and return whole blocks, one block in each row.

What a block holds (f16 is a float16, the lowest byte first):

    Q8_0   34 bytes for  32 weights    d f16, 32 codes of 8 bits with a sign
    Q4_0   18 bytes for  32 weights    d f16, 16 bytes with two codes of 4 bits each
    Q4_K  144 bytes for 256 weights    d f16, dmin f16, 8 scales and 8 minima of 6 bits in 12 bytes, 128 bytes with two
                                       codes of 4 bits each

A weight comes back as d * code in Q8_0, as d * (code - 8) in Q4_0, and as d * scale * code - dmin * minimum in Q4_K.
"""

import numpy as np

F32 = np.float32
PART = 32  # weights of a Q4_K block that share a scale and a minimum
STRETCHES = [F32(-1) + F32(0.1) * F32(i) + F32(15) for i in range(21)]  # 14, 14.1, ... 16: what Q4_K's search tries


def quantize_q8_0(x: np.ndarray) -> np.ndarray:
    """Return float32 blocks (blocks, 32) in Q8_0: uint8 (blocks, 34).

    >>> quantize_q8_0(np.linspace(-1, 1, 32, dtype=np.float32)[None])[0, 2:5].view(np.int8).tolist()
    [-127, -119, -111]
    """
    # The weight of the largest magnitude becomes the code 127 or -127. That fixes d, the length of one step.
    d = np.abs(x).max(axis=1, keepdims=True) / F32(127)  # (blocks, 1)
    codes = _round_half_away(x * _inverse(d)).astype(np.int8)
    return np.concatenate([_f16_bytes(d), codes.view(np.uint8)], axis=1)


def dequantize_q8_0(data: np.ndarray) -> np.ndarray:
    """Return float32 (blocks, 32) from Q8_0's bytes, uint8 (blocks, 34)."""
    return _f16(data, 0) * data[:, 2:].view(np.int8).astype(F32)


def quantize_q4_0(x: np.ndarray) -> np.ndarray:
    """Return float32 blocks (blocks, 32) in Q4_0: uint8 (blocks, 18).

    >>> quantize_q4_0(np.arange(-16, 16, dtype=np.float32)[None])[0, 2:4]  # -16 and 0, then -15 and 1
    array([128, 145], dtype=uint8)
    """
    # Codes stand for -8 to 7. The weight of the largest magnitude gets -8, the end that reaches further, so d is
    # negative where that weight is positive.
    at = np.abs(x).argmax(axis=1, keepdims=True)
    d = (np.take_along_axis(x, at, axis=1) + 0) / F32(-8)  # (blocks, 1); + 0 because a block of zeros may begin with -0
    # Adding 8.5 and cutting off the fraction shifts the codes to 0..16 and rounds; 16 has no code and becomes 15.
    codes = np.minimum((x * _inverse(d) + F32(8.5)).astype(np.int32).astype(np.uint8), 15)
    # Byte j holds weight j in its lower half and weight j + 16 in its upper half.
    return np.concatenate([_f16_bytes(d), codes[:, :16] | codes[:, 16:] << 4], axis=1)


def dequantize_q4_0(data: np.ndarray) -> np.ndarray:
    """Return float32 (blocks, 32) from Q4_0's bytes, uint8 (blocks, 18)."""
    codes = np.concatenate([data[:, 2:] & 15, data[:, 2:] >> 4], axis=1)
    return _f16(data, 0) * (codes.astype(F32) - 8)


def quantize_q4_k(x: np.ndarray) -> np.ndarray:
    """Return float32 blocks (blocks, 256) in Q4_K: uint8 (blocks, 144).

    >>> quantize_q4_k(np.ones((1, 256), np.float32)).shape
    (1, 144)
    """
    # 1. Each part of 32 weights looks for the scale and the minimum with the smallest error.
    parts = x.reshape(-1, PART)
    codes, scales, minima = _search(parts, _error_weights(parts))
    scales, minima = scales.reshape(-1, 8), minima.reshape(-1, 8)
    # 2. The 8 scales and the 8 minima of a block become whole numbers from 0 to 63; d and dmin bring them back.
    scale_codes, d = _six_bits(scales)
    minimum_codes, dmin = _six_bits(minima)
    # 3. The weights are rounded once more, now with the scales and minima that will come back from the file.
    scales = (_as_stored(d) * scale_codes).reshape(-1, 1)  # (parts, 1)
    minima = (_as_stored(dmin) * minimum_codes).reshape(-1, 1)
    with np.errstate(all="ignore"):  # a part whose scale has become 0 keeps the codes of the search
        codes = np.where(scales != 0, np.clip(_nearest((parts + minima) / scales), 0, 15), codes).astype(np.uint8)
    # 4. Two parts share 32 bytes: the first is in the lower halves, the second in the upper ones.
    codes = codes.reshape(-1, 4, 2, PART)
    packed = (codes[:, :, 0] | codes[:, :, 1] << 4).reshape(-1, 128)
    return np.concatenate([_f16_bytes(d), _f16_bytes(dmin), _pack_six_bits(scale_codes, minimum_codes), packed], axis=1)


def dequantize_q4_k(data: np.ndarray) -> np.ndarray:
    """Return float32 (blocks, 256) from Q4_K's bytes, uint8 (blocks, 144)."""
    scale_codes, minimum_codes = _unpack_six_bits(data[:, 4:16])
    scales, minima = _f16(data, 0) * scale_codes, _f16(data, 2) * minimum_codes  # (blocks, 8)
    packed = data[:, 16:].reshape(-1, 4, PART)
    codes = np.stack([packed & 15, packed >> 4], axis=2).reshape(-1, 8, PART).astype(F32)
    return (scales[:, :, None] * codes - minima[:, :, None]).reshape(-1, 256)


def _error_weights(parts: np.ndarray) -> np.ndarray:
    """Return how much the error of each weight counts in Q4_K's search: large weights count more, (parts, 32)."""
    return np.sqrt(_total(parts * parts) / F32(PART)) + np.abs(parts)


def _search(x: np.ndarray, w: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (codes (parts, 32), scales (parts, 1), minima (parts, 1)) with x near scale * code - minimum.

    The error that should be small is sum(w * (scale * code - minimum - x)**2). For given codes, the best scale and
    minimum solve two linear equations. For a given scale and minimum, the best codes are the nearest ones. There is no
    formula for both at once, so llama.cpp tries: it spreads the codes over the range of the weights, stretched a little
    less or more, solves for scale and minimum, and keeps the trial with the smallest error. (`make_qkx2_quants` in
    llama.cpp's ggml-quants.c; every sum is rounded to float32 in the order of C, because equal bytes demand it.)
    """
    with np.errstate(all="ignore"):  # a part of equal weights divides by zero, and then no trial is better
        # The first trial: codes 0 to 15 from the smallest weight, or 0 if none is negative, to the largest.
        low, high = np.minimum(x.min(axis=1, keepdims=True), 0), x.max(axis=1, keepdims=True)  # (parts, 1)
        inverse = F32(15) / (high - low)
        codes, scale = _codes(x, low, inverse), 1 / inverse
        error = _error(x, w, codes, scale, low)
        sum_w, sum_x = _total(w), _total(w * x)
        for stretch in STRETCHES:
            trial = _codes(x, low, stretch / (high - low))
            # Least squares: which scale and which minimum fit these codes best?
            q = trial.astype(F32)
            sum_q, sum_qq, sum_qx = _total(w * q), _total(w * q * q), _total(w * q * x)
            determinant = sum_w * sum_qq - sum_q * sum_q
            own_scale = (sum_w * sum_qx - sum_x * sum_q) / determinant
            own_low = (sum_qq * sum_x - sum_q * sum_qx) / determinant
            # The file has no sign for the minimum. Where it would be above 0, it is 0, and the scale fits alone.
            above = own_low > 0
            own_scale, own_low = np.where(above, sum_qx / sum_qq, own_scale), np.where(above, 0, own_low)
            own_error = _error(x, w, trial, own_scale, own_low)
            better = (determinant > 0) & (own_error < error)  # (parts, 1)
            codes, scale = np.where(better, trial, codes), np.where(better, own_scale, scale)
            low, error = np.where(better, own_low, low), np.where(better, own_error, error)  # the next starts there
    return codes, scale, -low


def _codes(x: np.ndarray, low: np.ndarray, inverse: np.ndarray) -> np.ndarray:
    """Return the code from 0 to 15 that is nearest to each weight; `inverse` is one over the scale."""
    return np.clip(_nearest(inverse * (x - low)), 0, 15)


def _error(x: np.ndarray, w: np.ndarray, codes: np.ndarray, scale: np.ndarray, low: np.ndarray) -> np.ndarray:
    """Return the weighted squared error of each part, (parts, 1)."""
    miss = scale * codes.astype(F32) + low - x
    return _total(w * (miss * miss))


def _six_bits(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (codes from 0 to 63 of a block's scales or minima, the number that one step stands for (blocks, 1))."""
    top = np.maximum(values.max(axis=1, keepdims=True), 0)
    with np.errstate(all="ignore"):
        codes = _nearest(np.where(top > 0, F32(63) / top, 0) * values).astype(np.uint8)
    return np.minimum(codes, 63), top / F32(63)


def _pack_six_bits(scales: np.ndarray, minima: np.ndarray) -> np.ndarray:
    """Return 8 scales and 8 minima of 6 bits in 12 bytes, uint8 (blocks, 12).

    The first four of each have a byte of their own, and lend its two upper bits to the last four, whose lower four bits
    share the last four bytes.
    """
    first, last = slice(0, 4), slice(4, 8)
    return np.concatenate(
        [
            scales[:, first] | scales[:, last] >> 4 << 6,
            minima[:, first] | minima[:, last] >> 4 << 6,
            scales[:, last] & 15 | (minima[:, last] & 15) << 4,
        ],
        axis=1,
    )


def _unpack_six_bits(data: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (scales, minima), uint8 (blocks, 8) each, from the 12 bytes of `_pack_six_bits`."""
    a, b, c = data[:, :4], data[:, 4:8], data[:, 8:]
    scales = np.concatenate([a & 63, c & 15 | a >> 6 << 4], axis=1)
    return scales, np.concatenate([b & 63, c >> 4 | b >> 6 << 4], axis=1)


def _total(terms: np.ndarray) -> np.ndarray:
    """Return the sum of each row, (rows, 1), added from left to right in float32, as a loop in C adds."""
    return np.add.accumulate(terms, axis=1)[:, -1:]


def _nearest(x: np.ndarray) -> np.ndarray:
    """Return the nearest whole number, halves to even, int32.

    llama.cpp adds 1.5 * 2**23, a number so large that a float32 has no bits left for a fraction, and reads the whole
    number off the lower 23 bits. Beyond 4 million, and for NaN, that gives other numbers than `np.rint`.
    """
    return ((x.astype(F32) + F32(1.5 * 2**23)).view(np.int32) & 0x7FFFFF) - 0x400000


def _round_half_away(x: np.ndarray) -> np.ndarray:
    """Return the nearest whole number; halves go away from zero, as with C's `roundf`."""
    return np.copysign(np.floor(np.abs(x).astype(np.float64) + 0.5), x)


def _inverse(d: np.ndarray) -> np.ndarray:
    """Return 1 / d, and 0 for a block of zeros."""
    with np.errstate(all="ignore"):
        return np.where(d != 0, 1 / d, 0).astype(F32)


def _f16_bytes(d: np.ndarray) -> np.ndarray:
    """Return numbers (blocks, 1) as the two bytes of a float16, uint8 (blocks, 2)."""
    with np.errstate(over="ignore"):
        return d.astype("<f2").view(np.uint8)


def _as_stored(d: np.ndarray) -> np.ndarray:
    """Return what is left of a float32 that is stored as a float16."""
    with np.errstate(over="ignore"):
        return d.astype(np.float16).astype(F32)


def _f16(data: np.ndarray, at: int) -> np.ndarray:
    """Return the float16 at byte `at` of each block as float32 (blocks, 1)."""
    return np.ascontiguousarray(data[:, at : at + 2]).view("<f2").astype(F32)


QUANTIZE = {"Q8_0": quantize_q8_0, "Q4_0": quantize_q4_0, "Q4_K": quantize_q4_k}
DEQUANTIZE = {"Q8_0": dequantize_q8_0, "Q4_0": dequantize_q4_0, "Q4_K": dequantize_q4_k}
