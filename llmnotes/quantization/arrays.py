"""What every quantizer asks of the numbers it gets: floats, finite, at least one."""

import numpy as np

from llmnotes.errors import NotQuantizable

FLOATS = ("bfloat16", "float8_e4m3fn", "float8_e5m2", "float4_e2m1fn")  # those of ml_dtypes
NOT_FINITE = "There is an infinity or a NaN among the numbers; put finite numbers in their places first."


def as_reals(x) -> np.ndarray:
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
            f"These are no real numbers that NumPy knows ({kind}); of a tensor, give .detach().float().cpu().numpy()."
        ) from None
    if not x.size:
        raise NotQuantizable("There are no numbers in the array; give at least one.")
    return x


def as_float32(x) -> np.ndarray:
    """Return `as_reals(x)` as contiguous float32 of the same shape; a copy only where it must be.

    float64 is rounded to float32, as PyTorch's `.float()` does. Does not look for NaN or infinities: `finite` does.

    >>> as_float32([1, 2.5]).dtype.name
    'float32'
    """
    with np.errstate(over="ignore"):
        return np.require(as_reals(x), np.float32, "C")


def finite(x) -> np.ndarray:
    """Return `as_float32(x)`; raises `NotQuantizable` if a number is NaN, infinite, or too large for float32.

    >>> finite([0.5]).tolist()
    [0.5]
    """
    x = as_float32(x)
    if not np.isfinite(x).all():
        raise NotQuantizable(NOT_FINITE)
    return x
