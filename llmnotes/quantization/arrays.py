"""Check and convert the arrays that quantizers get; `QuantizedArray`, the result of integer quantizers."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from llmnotes.errors import NotQuantizable

FLOATS = ("bfloat16", "float8_e4m3fn", "float8_e5m2", "float4_e2m1fn")  # those of ml_dtypes
NOT_FINITE = "There is an infinity or a NaN among the numbers; put finite numbers in their places first."


def as_reals(x: ArrayLike) -> np.ndarray:
    """Return numbers of any real kind as an array of that kind.

    Raises `NotQuantizable` for no numbers at all, and for what NumPy has no real numbers for: text, complex numbers,
    torch's bfloat16 or tensors with a gradient.

    >>> as_reals([1, 2]).tolist()
    [1, 2]
    """
    try:
        x = np.asarray(x)
        if x.dtype.kind not in "fiub" and x.dtype.name not in FLOATS:
            raise TypeError
    except (TypeError, ValueError, RuntimeError):
        kind = getattr(x, "dtype", type(x).__name__)
        raise NotQuantizable(
            f"NumPy cannot read these as real numbers ({kind}); of a tensor, give .detach().float().cpu().numpy()."
        ) from None
    if not x.size:
        raise NotQuantizable("There are no numbers in the array; give at least one.")
    return x


def as_float32(x: ArrayLike) -> np.ndarray:
    """Return `as_reals(x)` as contiguous float32 of the same shape; a copy only where it must be.

    float64 is rounded to float32, as PyTorch's `.float()` does. Does not look for NaN or infinities: `finite` does.

    >>> as_float32([1, 2.5]).dtype.name
    'float32'
    """
    with np.errstate(over="ignore"):
        return np.require(as_reals(x), np.float32, "C")


def finite(x: ArrayLike) -> np.ndarray:
    """Return `as_float32(x)`; raises `NotQuantizable` if a number is NaN, infinite, or too large for float32.

    >>> finite([0.5]).tolist()
    [0.5]
    """
    x = as_float32(x)
    if not np.isfinite(x).all():
        raise NotQuantizable(NOT_FINITE)
    return x


class QuantizedArray(NamedTuple):
    """Numbers in few bits: each is (code - zero) * scale, with the zero point and the scale of its group.

    `codes` are whole numbers in the shape of what was quantized, a byte each whatever `bits` says. `scales`, (groups,),
    are float32 or float16; groups follow each other as the numbers lie in memory, all of the same size. `zeros` is
    int32 (groups,), or one number for all groups, which takes no memory.

    >>> QuantizedArray(np.array([0, 3, 1, 2], np.uint8), np.array([1, 10], np.float32), 1, bits=2).dequantize().tolist()
    [-1.0, 2.0, 0.0, 10.0]
    """

    codes: np.ndarray
    scales: np.ndarray
    zeros: np.ndarray | float
    bits: int

    def dequantize(self) -> np.ndarray:
        """Return the numbers that the codes stand for, float32 in the shape of the codes."""
        codes = self.codes.reshape(len(self.scales), -1).astype(np.float32)
        codes -= self.zeros.astype(np.float32)[:, None] if isinstance(self.zeros, np.ndarray) else self.zeros
        return (codes * self.scales.astype(np.float32)[:, None]).reshape(self.codes.shape)

    @property
    def bits_per_weight(self) -> float:
        """Bits of a packed code, and its share of the scale and of a zero point as wide as a code."""
        zeros = self.zeros.size if isinstance(self.zeros, np.ndarray) else 0
        return self.bits + (8 * self.scales.nbytes + self.bits * zeros) / self.codes.size
