"""What all compiled kernels share: the decorator, rounding and 16-bit scales to the bit, codes packed into bytes.

numba compiles these functions when they are first called, and keeps the result beside this file. No fast mathematics:
every sum is taken in the order in which it is written, and every result is rounded to float32, so that the bytes are
those of llama.cpp, whose C code computes the same way.
"""

from collections.abc import Callable
from typing import Any

import numba
import numpy as np

from llmnotes.quantization.fast.machine_code import CHANGED

ZERO, ONE = np.float32(0), np.float32(1)
SHIFT = np.float32(1.5 * 2**23)  # a float32 that is added to it has no place left for a fraction
MANTISSA, MIDDLE = np.int32((1 << 23) - 1), np.int32(1 << 22)


def compiled(function: Callable) -> Callable:
    """Return `function` as numba's: compiled at its first call, kept on the disk until one of these files changes.

    It keeps IEEE 754's rules, divides by zero as C does, and runs without Python's lock.
    """
    try:
        dispatcher = numba.njit(cache=True, nogil=True, error_model="numpy")(function)
    except RuntimeError:  # there is no folder in which the machine code may be kept
        return numba.njit(nogil=True, error_model="numpy")(function)
    kept = getattr(vars(dispatcher)["_cache"], "_cache_file", None)
    if kept is not None:  # there is a folder for it
        kept._source_stamp = CHANGED
    return dispatcher


@compiled
def nearest(value: np.float32) -> np.int32:
    """Return the whole number nearest to a float32, halves to even, found in the bits of value + SHIFT as in llama.cpp.

    Beyond 2**22 the answer is some other number, and for infinity and NaN -2**22 and 0: the same ones as llama.cpp's.
    """
    bits = np.float32(value + SHIFT).view(np.int32)
    return np.int32(np.int32(bits & MANTISSA) - MIDDLE)


@compiled
def code(value: np.float32, low: np.int32, high: np.int32) -> np.int32:
    """Return the whole number from `low` to `high` (both int32) that is nearest to a float32."""
    return min(max(nearest(value), low), high)


@compiled
def half(value: Any) -> Any:
    """Return the bits of the float16 nearest to a float32, halves to even."""
    bits = np.int64(np.float32(value).view(np.uint32))
    sign, size = bits >> 16 & 0x8000, bits & 0x7FFFFFFF
    if size > 0x7F800000:
        return sign | 0x7E00  # not a number
    if size >= 0x47800000:
        return sign | 0x7C00  # 65,536 and above: infinity
    if size < 0x38800000:  # below 2**-14 a float16 is a multiple of 2**-24
        return sign | np.int64(np.rint(abs(value) * np.float32(2**24)))
    return sign | (size - 0x38000000 + 0xFFF + (size >> 13 & 1)) >> 13  # another bias, and 13 bits fewer


@compiled
def whole(bits: Any) -> Any:
    """Return the float32 that equals the float16 with these bits."""
    sign, exponent, fraction = (bits & 0x8000) << 16, bits >> 10 & 31, bits & 1023
    if exponent == 0:
        value = np.float32(fraction) * np.float32(2**-24)
        return -value if sign else value
    exponent = 255 if exponent == 31 else exponent + 112
    return np.uint32(sign | exponent << 23 | fraction << 13).view(np.float32)


@compiled
def put(block: np.ndarray, at: int, value: np.float32) -> np.float32:
    """Write a float32 as a float16 at byte `at` of a block; return what is left of it, as a float32."""
    bits = half(value)
    block[at], block[at + 1] = np.uint8(bits & 255), np.uint8(bits >> 8)
    return whole(bits)


@compiled
def get(block: np.ndarray, at: int) -> np.float32:
    """Return the float16 at byte `at` of a block as a float32."""
    return whole(np.int64(block[at]) | np.int64(block[at + 1]) << 8)


@compiled
def pack(codes: np.ndarray, bits: int, shift: int, span: int, out: np.ndarray) -> None:
    """Write `bits` bits of every code, those from bit `shift` on, into the bytes `out`.

    8 / bits codes share a byte, the first in its lowest bits; they stand `span` places apart, so that one instruction
    unpacks `span` of them.
    """
    each = 8 // bits
    mask = (1 << bits) - 1
    for start in range(0, len(out), span):
        for i in range(span):
            byte = 0
            for k in range(each):
                byte |= (codes[start * each + k * span + i] >> shift & mask) << bits * k
            out[start + i] = np.uint8(byte)
