"""Whole numbers for weights and activations: absmax, zero-points, calibrated ranges, and LLM.int8()'s outliers.

A group of numbers shares one scale, the length of a step. A group is a tensor, a row, or so many neighbours in a row.
(Jacob et al., Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference, 2018,
section 2.1; Dettmers et al., LLM.int8(), 2022, section 3.)
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from llmnotes.errors import NotQuantizable
from llmnotes.quantization.arrays import QuantizedArray, as_float32, finite

LARGEST = 3.4e38  # a little less than float32's largest number, which a rounded scale could exceed
SMALLEST = 1e-35  # a group with a smaller range counts as this wide, so that no scale is zero or denormal
# bitsandbytes' constants. The first is meant as 1 / 127², 6.2000124e-05, and lacks a zero: 0.0018% too large.
INT8_PAIR = np.float32(6.200124e-05)
INT8_ONE = np.float32(7.874015718698502e-3)  # 1 / 127


def absmax(
    x: ArrayLike, bits: int = 8, group_size: str | int = "row", limits: tuple[float, float] | None = None
) -> QuantizedArray:
    """Return `x` in whole numbers from -(2^(bits-1) - 1) to 2^(bits-1) - 1; zero stays zero.

    Numbers share a scale in groups: `group_size` is "tensor", "row" (the last axis) or a number of neighbours. The
    scale is the largest magnitude of the group over the largest code. With `limits`, as `calibrate` gives them, it is
    theirs for every group, and what lies beyond saturates. A number takes the nearest code, halfway the even one.

    Raises `NotQuantizable` for NaN, infinities, no numbers, rows that the groups do not fit, or bits not in 2 to 8.
    Does not use the code -2^(bits-1), and does not adapt to numbers that all have one sign: `affine` does.

    >>> q = absmax([[0.5, -1.0, 0.25, 0.0]])
    >>> q.codes.tolist(), q.dequantize().round(3).tolist()
    ([[64, -127, 32, 0]], [[0.5040000081062317, -1.0, 0.25200000405311584, 0.0]])
    """
    x, groups = _grouped(x, bits, group_size)
    most = np.float32(2 ** (bits - 1) - 1)
    top = np.abs(groups).max(axis=1) if limits is None else np.full(len(groups), np.abs(_ordered(limits)).max())
    _check_width(top)
    top = np.maximum(top.astype(np.float32), np.float32(SMALLEST))
    with np.errstate(over="ignore"):  # what is far beyond the limits becomes infinite, and then saturates
        codes = np.clip(np.rint(groups * (most / top)[:, None]), -most, most).astype(np.int8)
    return QuantizedArray(codes.reshape(x.shape), top / most, 0, bits)


def affine(
    x: ArrayLike, bits: int = 8, group_size: str | int = "row", limits: tuple[float, float] | None = None
) -> QuantizedArray:
    """Return `x` in whole numbers from 0 to 2^bits - 1 that span its smallest to its largest number, and zero.

    The zero-point, the code of 0.0, is rounded to a whole number, so that zeros stay zeros (Jacob et al., section
    2.1). `group_size`, `limits`, rounding, saturation and errors are those of `absmax`.

    >>> q = affine([[0.0, 1.0, 2.0, 3.0]], bits=2)
    >>> q.codes.tolist(), q.zeros.tolist(), q.scales.tolist()
    ([[0, 1, 2, 3]], [0], [1.0])
    """
    x, groups = _grouped(x, bits, group_size)
    most = 2**bits - 1
    if limits is None:
        low, high = groups.min(axis=1).astype(np.float64), groups.max(axis=1).astype(np.float64)
    else:
        low, high = (np.full(len(groups), side) for side in _ordered(limits))
    low, high = np.minimum(low, 0), np.maximum(high, 0)
    _check_width(high - low)
    scales = (np.maximum(high - low, SMALLEST) / most).astype(np.float32)
    zeros = np.clip(np.rint(-low / scales), 0, most).astype(np.int32)
    with np.errstate(over="ignore"):
        steps = np.rint(groups * (np.float32(1) / scales)[:, None])
    codes = np.clip(steps + zeros[:, None].astype(np.float32), 0, most).astype(np.uint8)
    return QuantizedArray(codes.reshape(x.shape), scales, zeros, bits)


def calibrate(batches: Iterable, percentile: float = 100.0) -> tuple[float, float]:
    """Return (low, high), the range in which activations lie, from examples of them, arrays of any shape.

    100 is the whole range (min-max). Less leaves out the rest, one half at each end: 99.9 gives up the 0.05% that are
    lowest and the 0.05% that are highest, so that a few outliers do not widen the steps for all (Wu et al., Integer
    Quantization for Deep Learning Inference, 2020, section 4). Then all batches are held in memory at once.

    Raises `NotQuantizable` for no batches, NaN or infinities, or a percentile not above 0 and up to 100.

    >>> calibrate([[0.0, 1.0], [-3.0, 2.0]])
    (-3.0, 2.0)
    """
    if not 0 < percentile <= 100:
        raise NotQuantizable(f"A percentile of {percentile} leaves nothing; take one above 0 and up to 100.")
    checked = (finite(batch).reshape(-1) for batch in batches)
    if percentile == 100:
        ends = [(batch.min(), batch.max()) for batch in checked]
    else:
        ends = list(checked)
    if not ends:
        raise NotQuantizable("There are no activations to calibrate with; give at least one batch.")
    rest = (100 - percentile) / 2
    low, high = np.percentile(np.concatenate(ends), [rest, 100 - rest])
    return float(low), float(high)


class Int8Rows(NamedTuple):
    """`codes`, int8 (rows, n), `absmax`, float32 (rows,), and the columns that were left out, int64 (outliers,)."""

    codes: np.ndarray
    absmax: np.ndarray
    outliers: np.ndarray


def int8_rows(x: ArrayLike, threshold: float = 0.0) -> Int8Rows:
    """Return the rows of `x` (rows, n), rounded to float16, in whole numbers from -127 to 127, each with its scale.

    With a threshold above 0, columns in which a magnitude reaches it are outliers: their codes are 0, and their large
    numbers do not count for the scale (LLM.int8(), section 3.2). Equal to `bitsandbytes.functional.
    int8_vectorwise_quant`: numbers below the threshold count for the scale also where their column is an outlier.

    Raises `NotQuantizable` for NaN, infinities, no numbers, another number of axes, or what is too large for float16
    and is no outlier.

    >>> int8_rows([[1.0, -2.0, 9.0], [0.5, 0.0, 0.0]], threshold=6.0)
    Int8Rows(codes=array([[  64, -127,    0],
           [ 127,    0,    0]], dtype=int8), absmax=array([2. , 0.5], dtype=float32), outliers=array([2]))
    """
    x = finite(x)
    if x.ndim != 2:
        raise NotQuantizable(f"A matrix has two axes, and this array {x.ndim}; reshape it to (rows, columns).")
    with np.errstate(over="ignore"):
        x = x.astype(np.float16).astype(np.float32)
    outliers = np.empty(0, np.int64)
    if threshold > 0:
        large = np.abs(x) >= threshold
        outliers = np.flatnonzero(large.any(axis=0))
        x[large] = 0
    if not np.isfinite(x).all():
        raise NotQuantizable("There are numbers beyond 65,504, too large for float16; make them smaller first.")
    top = np.abs(x).max(axis=1)
    inverse = np.divide(1, top, out=np.zeros_like(top), where=top > 0) * np.float32(127)  # rounded twice, as torch does
    codes = np.rint(x * inverse[:, None]).astype(np.int8)
    codes[:, outliers] = 0
    return Int8Rows(codes, top, outliers)


def int8_linear(x: ArrayLike, weight: Int8Rows, bias: ArrayLike | None = None, threshold: float = 6.0) -> np.ndarray:
    """Return x @ weight.T + bias for activations x (tokens, n) and a weight (out, n): float32 (tokens, out).

    Columns of x with outliers meet the weights in floating point; all others are rounded to 8 bits, and their products
    summed in whole numbers (LLM.int8(), section 3.2 and figure 2). Equal to `bitsandbytes.nn.Linear8bitLt` of float32
    activations in evaluation mode: to the bit without outliers, and with them but for the order in which their
    products are summed.

    Raises as `int8_rows` does, and `NotQuantizable` where the columns of x and of the weight differ in number.

    >>> weight = int8_rows([[1.0, 2.0, -0.5]])
    >>> int8_linear([[0.5, 0.25, 20.0]], weight).round(2).tolist()
    [[-9.069999694824219]]
    """
    x = as_float32(x)
    rows = int8_rows(x, threshold)
    if x.shape[1] != weight.codes.shape[1]:
        raise NotQuantizable(f"{x.shape[1]} columns of x meet {weight.codes.shape[1]} of the weight; make them agree.")
    sums = rows.codes.astype(np.float64) @ weight.codes.T.astype(np.float64)  # whole numbers below 2^53: exact
    out = sums.astype(np.float32) * (rows.absmax[:, None] * weight.absmax) * INT8_PAIR
    if bias is not None:
        out += finite(bias)
    part = weight.codes[:, rows.outliers].astype(np.float32) * weight.absmax[:, None] * INT8_ONE  # (out, outliers)
    return out + x[:, rows.outliers] @ part.T


def _grouped(x: ArrayLike, bits: int, group_size: str | int) -> tuple[np.ndarray, np.ndarray]:
    """Return `x`, checked, and as (groups, numbers)."""
    x = finite(x)
    if bits not in range(2, 9):
        raise NotQuantizable(f"{bits} bits are not among the widths here; take 2 to 8.")
    row = x.shape[-1] if x.ndim else 1
    if group_size == "tensor" or group_size == "row":
        return x, x.reshape(-1, x.size if group_size == "tensor" else row)
    if not isinstance(group_size, (int, np.integer)) or group_size < 1:
        raise NotQuantizable(f'There are no groups of {group_size!r}; take "tensor", "row" or a number such as 128.')
    if row % group_size:
        raise NotQuantizable(
            f"Rows of {row} do not divide into groups of {group_size}; take a group size that divides {row}."
        )
    return x, x.reshape(-1, int(group_size))


def _ordered(limits: tuple[float, float]) -> np.ndarray:
    """Return (low, high), checked."""
    low, high = np.asarray(limits, np.float64)
    if not -np.finfo(np.float32).max <= low <= high <= np.finfo(np.float32).max:
        raise NotQuantizable(f"The limits {low} and {high} are no range; give a low and a high finite number.")
    return np.array([low, high])


def _check_width(width: np.ndarray) -> None:
    if width.max() > LARGEST:
        raise NotQuantizable("The numbers of a group span more than float32 can hold; make them smaller first.")
