"""bfloat16 for NumPy, which has none: the upper 16 bits of a float32."""

from functools import cache

import numpy as np


def encode(x: np.ndarray) -> np.ndarray:
    """Return the bits of the bfloat16 nearest to each float32, uint16 of the same shape; halfway, the even one.

    A NaN stays a NaN.

    >>> encode(np.array([1, -2], np.float32)).tolist()
    [16256, 49152]
    """
    bits = x.view(np.uint32)
    out = bits >> 16
    # What is cut off rounds up above a half, and at a half if the last bit that stays is 1.
    out &= 1
    out += bits
    out += 0x7FFF
    out >>= 16
    nan = np.isnan(x)
    if nan.any():
        out[nan] = bits[nan] >> 16 | 64  # a bit of the mantissa is set, otherwise some would become infinity
    return out.astype(np.uint16)


def decode(bits: np.ndarray) -> np.ndarray:
    """Return the float32 that equal the bfloat16 with these bits, uint16 of any shape.

    >>> decode(np.array([16256, 49152], np.uint16)).tolist()
    [1.0, -2.0]
    """
    return (bits.astype(np.uint32) << 16).view(np.float32)


@cache
def float16_table() -> np.ndarray:
    """Return the float16 nearest to each of the 65,536 bfloat16 numbers, in the order of their bits."""
    with np.errstate(over="ignore"):
        return decode(np.arange(1 << 16, dtype=np.uint16)).astype(np.float16)
