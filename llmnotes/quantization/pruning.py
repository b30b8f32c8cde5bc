"""Pruning: set weights to zero by magnitude or Wanda, and store what is left. Arrays in, arrays out."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from llmnotes.errors import NotQuantizable
from llmnotes.quantization.arrays import as_reals, finite

PER = ("matrix", "row", "2:4")


def magnitude(weight: ArrayLike, sparsity: float = 0.5, per: str = "matrix") -> np.ndarray:
    """Return a copy of `weight` (rows, columns), float32, with a part of it, `sparsity`, set to zero: the smallest.

    `per` says among which weights they are chosen: of the whole "matrix", of each "row", or "2:4", the two smaller of
    each four neighbours in a row, which is what NVIDIA's sparse cores compute with (Mishra et al. 2021, section 2);
    `sparsity` is then 0.5. Raises `NotQuantizable` for numbers that are not finite, a sparsity outside 0 to 1, and rows
    that do not divide by four for "2:4". Does not train what is left (Han et al. 2015 do).

    >>> magnitude([[1, -4, 3, 2]]).tolist()
    [[0.0, -4.0, 3.0, 0.0]]
    """
    weight = _matrix(weight)
    return _without(weight, np.abs(weight), sparsity, per)


def wanda(weight: ArrayLike, norms: ArrayLike, sparsity: float = 0.5, per: str = "row") -> np.ndarray:
    """Return a copy of `weight` (rows, columns) without the part that matters least to the outputs: |W| · ‖X‖.

    `norms`, (columns,), is the Euclidean norm of each input channel over the tokens of a calibration text; a common
    factor changes nothing with "row", so the root of the diagonal of GPTQ's Hessian will do. Weights are compared
    within a row, because each row makes one output (Sun et al. 2023, A Simple and Effective Pruning Approach for Large
    Language Models, section 3). `per` and errors as in `magnitude`, and `NotQuantizable` for norms that do not fit.

    >>> wanda([[1, -4, 3, 2]], norms=[9, 1, 1, 4]).tolist()
    [[1.0, 0.0, 0.0, 2.0]]
    """
    weight, norms = _matrix(weight), finite(norms)
    if norms.shape != weight.shape[1:] or (norms < 0).any():
        raise NotQuantizable(
            f"Norms of the shape {norms.shape} do not fit weights of the shape {weight.shape}; give one for each "
            "column, none below zero."
        )
    return _without(weight, np.abs(weight) * norms, sparsity, per)


class Bitmask(NamedTuple):
    """A matrix without its zeros: one bit for each place (`mask`, uint8), and the numbers that stand there."""

    mask: np.ndarray
    values: np.ndarray
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of mask and values together."""
        return self.mask.nbytes + self.values.nbytes


def compress(weight: ArrayLike) -> Bitmask:
    """Return `weight` as a bitmask and the numbers that are not zero, in their own type.

    With half of the weights zero a 16-bit matrix takes 9 bits a weight instead of 16. Raises `NotQuantizable` for what
    holds no numbers. Does not make a product faster: something has to spread the numbers out again first.

    >>> compress(np.array([[0, 1.5], [2.5, 0]], np.float16)).nbytes
    5
    """
    weight = as_reals(weight)
    return Bitmask(np.packbits(weight != 0), weight[weight != 0], weight.shape)


def decompress(packed: Bitmask) -> np.ndarray:
    """Return the matrix that `compress` was given; every zero comes back as +0.

    >>> decompress(compress(np.array([[0, 1.5], [2.5, 0]], np.float16))).tolist()
    [[0.0, 1.5], [2.5, 0.0]]
    """
    out = np.zeros(packed.shape, packed.values.dtype)
    places = np.unpackbits(packed.mask, count=out.size).astype(bool)
    out[places.reshape(packed.shape)] = packed.values
    return out


def _without(weight: np.ndarray, merit: np.ndarray, sparsity: float, per: str) -> np.ndarray:
    """Return `weight` without the part, `sparsity`, of least `merit`; of equals the first ones go."""
    if per not in PER:
        raise NotQuantizable(f"Weights cannot be chosen per {per!r}; choose {', '.join(PER)}.")
    if not 0 <= sparsity <= 1:
        raise NotQuantizable(f"A sparsity of {sparsity} is not possible; give the part to set to zero, from 0 to 1.")
    if per == "2:4":
        if weight.shape[1] % 4 or sparsity != 0.5:
            raise NotQuantizable(
                f"2:4 keeps two of each four: rows of {weight.shape[1]} must divide by 4, and the sparsity be 0.5, not "
                f"{sparsity}; choose per='row' instead."
            )
        merit = merit.reshape(-1, 4)
    elif per == "matrix":
        merit = merit.reshape(1, -1)
    count = round(sparsity * merit.shape[1])
    out = weight.reshape(merit.shape).copy()
    np.put_along_axis(out, np.argsort(merit, axis=1, kind="stable")[:, :count], 0, axis=1)
    return out.reshape(weight.shape)


def _matrix(weight: ArrayLike) -> np.ndarray:
    weight = finite(weight)
    if weight.ndim != 2:
        raise NotQuantizable(f"A matrix has two dimensions, this has {weight.ndim}; give rows and columns.")
    return weight
