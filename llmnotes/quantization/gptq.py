"""GPTQ: round weights one column at a time, and compensate each error in the columns that are not rounded yet.

Frantar, Ashkboos, Hoefler and Alistarh, GPTQ, 2022 (arXiv 2210.17323), algorithm 1. The order of the columns is that
of llama-act-order in the authors' code, or one of two that keep the groups together.
"""

import torch
from numpy.typing import ArrayLike

from llmnotes.errors import NotQuantizable
from llmnotes.quantization.grouped import Levels, QuantizedMatrix, checked, levels, matrix, nearest, quantized

ORDERS = ("static", "group", "activation", "natural")
BLOCK = 128  # columns whose errors are gathered before they are passed on to the columns behind them


def hessian(inputs: ArrayLike | torch.Tensor) -> torch.Tensor:
    """Return the mean of x·xᵀ over the rows of `inputs`, (tokens, inputs): float32 (inputs, inputs).

    The second derivatives of the mean squared error of an output are twice that; the factor changes nothing in GPTQ.
    Raises `NotQuantizable` for no rows, or numbers that are not finite.

    >>> hessian(torch.tensor([[1.0, 2.0], [1.0, 0.0]])).tolist()
    [[1.0, 1.0], [1.0, 2.0]]
    """
    x = matrix(inputs, "The inputs of a layer")
    return x.T @ x / len(x)


def output_error(
    weight: ArrayLike | torch.Tensor, rounded: ArrayLike | torch.Tensor | QuantizedMatrix, hessian: torch.Tensor
) -> float:
    """Return ‖(W' - W)·X‖ / ‖W·X‖ over the inputs X whose `hessian` this is: 0 for equal, 1 for a layer of zeros.

    `weight` is W, and `rounded` W' or a `QuantizedMatrix`.

    >>> output_error(torch.eye(2), torch.diag(torch.tensor([1.0, 0.5])), torch.eye(2))  # doctest: +ELLIPSIS
    0.3535...
    """
    weight = matrix(weight, "The weights")
    rounded = rounded.dequantize() if isinstance(rounded, QuantizedMatrix) else matrix(rounded, "The rounded weights")
    change = rounded - weight
    error, whole = (((w @ hessian) * w).sum(dtype=torch.float64).item() for w in (change, weight))
    return (max(error, 0.0) / whole) ** 0.5 if whole > 0 else 0.0


def quantize(
    weight: ArrayLike | torch.Tensor,
    hessian: torch.Tensor,
    bits: int,
    group_size: int | None = 128,
    symmetric: bool = True,
    order: str = "static",
    search: bool = True,
    damp: float = 0.01,
) -> QuantizedMatrix:
    """Return `weight`, (outputs, inputs), rounded column by column so that the outputs of the layer change little.

    `hessian` is that of the layer's inputs, (inputs, inputs). Once a column is rounded, the columns that follow are
    moved to the place where, given that error, the squared error of the outputs is least. Levels are as in
    `round_to_nearest`. The orders:

    - "natural": from left to right; the levels of a group are computed when it is reached, from its updated weights.
    - "activation": columns with large inputs first, groups of those that then stand together (`desc_act`).
    - "group": as "activation" within each group, and groups after one another (`act_group_aware`; Gafni et al. 2025).
    - "static": as "activation", but all levels are computed first, from the original weights (`static_groups`).

    With `search`, levels span that part of a group's range, from half to all of it, at which plain rounding costs the
    outputs least, each column's error weighted by the Hessian's diagonal; without it, all of the range. `damp` times
    the mean of the diagonal is added to it, ten times more as long as the matrix has no inverse.

    A column that no input ever reached is rounded to the nearest; a Hessian of zeros therefore gives
    `round_to_nearest`. Raises `NotQuantizable` for what `round_to_nearest` refuses, for a Hessian of another size,
    with numbers that are not finite, or of which no damping makes a sum of squares.

    Does not change the tensors it is given.

    >>> from llmnotes.quantization.grouped import round_to_nearest
    >>> x = torch.randn(64, 8, generator=torch.Generator().manual_seed(0)) @ torch.ones(8, 8).tril()
    >>> w, h = torch.randn(4, 8, generator=torch.Generator().manual_seed(1)), hessian(x)
    >>> output_error(w, quantize(w, h, 3), h) < output_error(w, round_to_nearest(w, 3), h)
    True
    """
    weight, group_size = checked(weight, bits, group_size)
    if order not in ORDERS:
        raise NotQuantizable(f"GPTQ cannot take the columns in the order {order!r}; take one of {', '.join(ORDERS)}.")
    # Sort the columns, and find how an error in one is compensated in those after it.
    hessian = _usable(hessian, weight)
    columns = _order(hessian.diagonal(), group_size, order)  # (inputs,): the column that comes first, second, ...
    upper = _cholesky_of_inverse(hessian[columns][:, columns], damp)
    rest = weight.T[columns].contiguous()  # (inputs, outputs): what is still to be rounded, a row for each column
    group_of = torch.arange(len(rest), device=weight.device) // group_size
    if order != "activation":  # each column keeps the group that its place in the matrix gives it
        group_of = group_of[columns]
    importance = hessian.diagonal()[columns]

    def lay(number: int) -> Levels:
        members = (group_of == number).nonzero()[:, 0]
        return levels(rest[members], bits, symmetric, importance[members] if search else None)

    laid = {number: lay(number) for number in group_of.unique().tolist()} if order == "static" else {}
    codes, diagonal = torch.empty_like(rest), upper.diagonal().tolist()
    for start, end in _blocks(len(rest), group_size):
        errors = torch.empty_like(rest[start:end])
        for i, number in enumerate(group_of[start:end].tolist(), start):
            if number not in laid:
                laid[number] = lay(number)
            # Round one column; divide its error by the diagonal of the Cholesky factor.
            codes[i], error = nearest(rest[i], laid[number], bits), errors[i - start]
            torch.sub(rest[i], (codes[i] - laid[number].zero) * laid[number].scale, out=error).div_(diagonal[i])
            # Compensate it at once in the columns of the same block.
            rest[i + 1 : end].addr_(upper[i, i + 1 : end], error, alpha=-1)
        # Compensate the errors of the block in all columns behind it, in one matrix product.
        rest[end:].addmm_(upper[start:end, end:].T, errors, alpha=-1)
    # Put the columns back into the order of the layer.
    back = columns.argsort()
    return quantized(codes[back].T, [laid[number] for number in sorted(laid)], group_of[back], bits)


def _order(diagonal: torch.Tensor, group_size: int, order: str) -> torch.Tensor:
    columns = torch.arange(len(diagonal), device=diagonal.device)
    if order == "natural":
        return columns
    if order != "group":
        return diagonal.argsort(descending=True, stable=True)
    parts = [part[diagonal[part].argsort(descending=True, stable=True)] for part in columns.split(group_size)]
    return torch.cat(sorted(parts, key=lambda part: -diagonal[part[0]].item()))


def _blocks(inputs: int, group_size: int) -> list[tuple[int, int]]:
    """Return the ends of the blocks; a group that begins in a block also ends in it, or is at the block's beginning."""
    if group_size <= BLOCK:
        starts = [*range(0, inputs, BLOCK // group_size * group_size)]
    else:
        starts = sorted({*range(0, inputs, BLOCK), *range(0, inputs, group_size)})
    return list(zip(starts, [*starts[1:], inputs], strict=True))


def _cholesky_of_inverse(hessian: torch.Tensor, damp: float) -> torch.Tensor:
    """Return the upper triangle U with UᵀU = H⁻¹. Its row i holds what is done to the columns after i, once the
    columns before are fixed (section 3.3, step 3)."""
    mean = hessian.diagonal().mean()
    while True:
        damped = hessian.clone()
        damped.diagonal().add_(damp * mean)
        lower, failed = torch.linalg.cholesky_ex(damped)
        if not failed:
            upper, failed = torch.linalg.cholesky_ex(torch.cholesky_inverse(lower), upper=True)
            if not failed and upper.isfinite().all():
                return upper
        damp = max(10 * damp, 1e-4)
        if damp > 1:
            break
    raise NotQuantizable("The Hessian is no sum of squares of inputs; compute it with `hessian` from the inputs.")


def _usable(hessian: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Return a copy of the Hessian in which no column is dead: where no input ever came, nothing is passed on."""
    inputs = weight.shape[1]
    hessian = matrix(hessian, "The Hessian").to(weight.device)
    if hessian.shape != (inputs, inputs):
        raise NotQuantizable(
            f"The Hessian is {' × '.join(map(str, hessian.shape))}, and the weights have {inputs} columns; "
            "give that of the layer's inputs."
        )
    if (hessian.diagonal() < 0).any():
        raise NotQuantizable("The Hessian has a negative diagonal; compute it with `hessian` from the inputs.")
    scale = hessian.diagonal().mean()
    hessian = hessian / scale if scale > 0 else hessian.clone()  # neither tiny nor huge inputs leave float32
    dead = hessian.diagonal() == 0
    hessian[dead], hessian[:, dead] = 0, 0
    hessian.diagonal()[dead] = 1
    return hessian
