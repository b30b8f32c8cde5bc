"""Matrices in few bits: every weight is a code, and neighbours in a row share a scale and a zero point."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from numpy.typing import ArrayLike

from llmnotes.errors import NotQuantizable
from llmnotes.quantization.arrays import as_float32

BITS = (2, 3, 4, 8)
SHARES = [1 - i / 32 for i in range(1, 17)]  # parts of a group's range that its levels may span instead of all of it
LARGEST = 65504.0  # of float16, in which scales are stored


@dataclass(frozen=True, eq=False)
class QuantizedMatrix:
    """A matrix in few bits. Each weight is scale · (code - zero point) of its row and group.

    `codes` are uint8 (outputs, inputs) from 0 to 2^bits - 1; `scales` float32 (outputs, groups), each of them a
    number that float16 has; `zeros` uint8 (outputs, groups); `group_of` int32 (inputs,), the group of each column.
    """

    codes: torch.Tensor
    scales: torch.Tensor
    zeros: torch.Tensor
    group_of: torch.Tensor
    bits: int

    def dequantize(self) -> torch.Tensor:
        """Return the weights that the codes stand for, float32 (outputs, inputs)."""
        group = self.group_of.long()
        return (self.codes.float() - self.zeros.float()[:, group]) * self.scales[:, group]

    @property
    def bits_per_weight(self) -> float:
        """Bits of codes, scales, zero points and column numbers in the layout of `gptq_layout`, for each weight."""
        outputs, inputs = self.codes.shape
        return self.bits + (16 + self.bits) * self.scales.shape[1] / inputs + 32 / outputs

    def rows(self, start: int, end: int) -> "QuantizedMatrix":
        """Return some of the rows."""
        return QuantizedMatrix(
            self.codes[start:end], self.scales[start:end], self.zeros[start:end], self.group_of, self.bits
        )


def round_to_nearest(
    weight: ArrayLike | torch.Tensor, bits: int, group_size: int | None = 128, symmetric: bool = True
) -> QuantizedMatrix:
    """Return `weight`, (outputs, inputs), with every number rounded to the nearest of its group's 2^bits levels.

    A group is `group_size` neighbours in a row (None: the whole row); the last one may be shorter. Symmetric levels
    reach from -a to a, where a is the largest magnitude, and 0 is the level in the middle: 2^(bits-1). Otherwise they
    reach from the smallest number (or 0) to the largest (or 0). Scales are stored as float16; codes are chosen before
    that, because the largest weight of a symmetric group lies right between two levels.

    Raises `NotQuantizable` for weights that are no finite matrix, that need a scale beyond float16, and for bits other
    than 2, 3, 4 and 8. Does not look at data: `quantize` does.

    >>> round_to_nearest(torch.tensor([[-7.0, 7.0, 0.0, 3.2]]), 4, symmetric=False).codes.tolist()
    [[0, 15, 8, 11]]
    """
    weight, group_size = checked(weight, bits, group_size)
    parts = weight.split(group_size, 1)
    laid = [levels(part.T, bits, symmetric) for part in parts]
    codes = [nearest(part.T, own, bits).T for part, own in zip(parts, laid, strict=True)]
    group_of = torch.arange(weight.shape[1], device=weight.device) // group_size
    return quantized(torch.cat(codes, 1), laid, group_of, bits)


class Levels(NamedTuple):
    """The levels of a group, (outputs,) each: what weights are divided by, the same as it is stored, the zero point."""

    divisor: torch.Tensor
    scale: torch.Tensor
    zero: torch.Tensor


def levels(part: torch.Tensor, bits: int, symmetric: bool, importance: torch.Tensor | None = None) -> Levels:
    """Return the levels for `part`, (members of a group, outputs); with `importance`, (members,), the best of some."""
    top = 2**bits - 1
    low, high = part.amin(0).clamp(max=0), part.amax(0).clamp(min=0)
    if symmetric:
        high = torch.maximum(high, -low)
        low = -high
    if ((high - low) / top > LARGEST).any():
        raise NotQuantizable(
            "Scales are stored as float16, and these weights need one beyond 65,504; divide the weights first."
        )

    def spanning(share: float) -> Levels:
        """Return the levels that span a share of the range."""
        divisor = share * (high - low) / top
        divisor = torch.where(divisor == 0, 1.0, divisor).clamp_(min=2.0**-24)  # the smallest float16 there is
        if symmetric:
            zero = torch.full_like(divisor, (top + 1) // 2)
        else:
            zero = (-share * low / divisor).round_().clamp_(0, top)
        return Levels(divisor, divisor.half().float(), zero)

    best = spanning(1.0)
    if importance is None:
        return best

    def error(own: Levels) -> torch.Tensor:
        """Return the weighted squared error of each output, (outputs,)."""
        return importance @ ((nearest(part, own, bits) - own.zero) * own.scale - part).square_()

    least = error(best)
    for share in SHARES:
        trial = spanning(share)
        found = error(trial)
        better = found < least
        best = Levels(*(torch.where(better, *pair) for pair in zip(trial, best, strict=True)))
        least = torch.minimum(found, least)
    return best


def nearest(x: torch.Tensor, own: Levels, bits: int) -> torch.Tensor:
    """Return the codes of `x`, (..., outputs), as whole numbers in float32; what lies beyond the levels saturates."""
    return (x / own.divisor).round_().add_(own.zero).clamp_(0, 2**bits - 1)


def quantized(codes: torch.Tensor, of_groups: list[Levels], group_of: torch.Tensor, bits: int) -> QuantizedMatrix:
    """Return the matrix of `codes`, (outputs, inputs), whose groups have these levels."""
    scales, zeros = (torch.stack([getattr(own, name) for own in of_groups], 1) for name in ("scale", "zero"))
    return QuantizedMatrix(codes.contiguous().to(torch.uint8), scales, zeros.to(torch.uint8), group_of.int(), bits)


def checked(weight: ArrayLike | torch.Tensor, bits: int, group_size: int | None) -> tuple[torch.Tensor, int]:
    """Return the weights as float32, and the size of a group."""
    if bits not in BITS:
        raise NotQuantizable(f"Codes have 2, 3, 4 or 8 bits, and none has {bits}; take one of these.")
    weight = matrix(weight, "The weights")
    if group_size is None:
        group_size = weight.shape[1]
    if not isinstance(group_size, int) or group_size < 1:
        raise NotQuantizable(f"A group cannot have {group_size} weights; give a whole number, or None for whole rows.")
    return weight, min(group_size, weight.shape[1])


def matrix(x: ArrayLike | torch.Tensor, what: str) -> torch.Tensor:
    """Return numbers of any real kind as a finite float32 matrix."""
    x = x.detach() if isinstance(x, torch.Tensor) else torch.from_numpy(as_float32(x).copy())
    if x.ndim != 2 or not x.numel() or x.is_complex():
        raise NotQuantizable(f"{what} must be a matrix of real numbers with at least one; this has {tuple(x.shape)}.")
    x = x.float()
    if not x.isfinite().all():
        raise NotQuantizable(f"{what} hold an infinity or a NaN; put finite numbers in their places first.")
    return x
