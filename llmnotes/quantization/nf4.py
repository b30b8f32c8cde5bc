"""NF4 and FP4: four bits for each weight, a scale for each block, and the scales in eight bits if wanted.

Codes, scales and results are those of bitsandbytes on a CPU, bit for bit. (Dettmers et al., QLoRA: Efficient
Finetuning of Quantized LLMs, 2023, section 3 and appendix E.)
"""

import math
from functools import cache
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from llmnotes.errors import NotQuantizable, UnknownName
from llmnotes.quantization.arrays import NOT_FINITE, as_float32
from llmnotes.quantization.threads import THREADS, in_threads

OUTERMOST = 0.9677083  # the largest probability: (31/32 + 29/30) / 2, rounded as bitsandbytes has it
SMALLEST = np.float32(1e-38)  # a smaller scale counts as this much, so that its reciprocal stays finite
PIECE = 1 << 16  # weights that are worked on at a time: they fit a processor's cache
SCALES = 256  # scales that share a scale in double quantization
GRID = 65535  # steps from -1 to 1 to which bitsandbytes rounds a number before it looks for the nearest level


class FourBitTensor(NamedTuple):
    """A tensor in NF4 or FP4 (`type`): in blocks of `block_size` weights that share a scale, their largest magnitude.

    `codes` is uint8 (ceil(n / 2),): the first of two codes is in the upper half of a byte. `absmax` is float32
    (blocks,). After double quantization it is uint8 (blocks,), codes of `dynamic_levels()`, and the scales are
    `dynamic_levels()[absmax] * absmax_scales + absmax_offset`, with `absmax_scales`, float32 (ceil(blocks / 256),),
    repeated for 256 blocks.
    """

    type: str
    shape: tuple[int, ...]
    block_size: int
    codes: np.ndarray
    absmax: np.ndarray
    absmax_scales: np.ndarray | None = None
    absmax_offset: np.float32 | None = None

    @property
    def bits_per_weight(self) -> float:
        """Bits of the codes, the scales, the scales of scales and the offset, over the number of weights."""
        parts = (self.codes, self.absmax, self.absmax_scales, self.absmax_offset)
        return 8 * sum(part.nbytes for part in parts if part is not None) / math.prod(self.shape)

    @property
    def scales(self) -> np.ndarray:
        """The scale of each block, float32 (blocks,): the largest magnitude in it, or what 8 bits kept of that.

        >>> quantize([[0.5, -2.0]]).scales.tolist()
        [2.0]
        """
        if self.absmax_scales is None:
            return self.absmax
        scales = np.repeat(self.absmax_scales, SCALES)[: len(self.absmax)]
        return dynamic_levels()[self.absmax] * scales + self.absmax_offset

    def unpack(self) -> np.ndarray:
        """Return the code of each weight, uint8 (n,), 0 to 15.

        >>> quantize([1.0, -1.0, 1.0]).unpack().tolist()
        [15, 0, 15]
        """
        return np.stack([self.codes >> 4, self.codes & 15], axis=1).reshape(-1)[: math.prod(self.shape)]

    def dequantize(self, threads: int = THREADS) -> np.ndarray:
        """Return the weights that the codes stand for, float32 of `shape`: each level times the scale of its block.

        Equal to `bitsandbytes.functional.dequantize_4bit`, but for the sign of a zero, on which its kernels disagree.
        Raises `NotQuantizable` where codes or scales do not fill the shape.

        >>> quantize([0.5, -1.0, 0.2, 0.0]).dequantize().tolist()
        [0.44070982933044434, -1.0, 0.16093020141124725, 0.0]
        """
        n = math.prod(self.shape)
        blocks, step = -(-n // self.block_size), max(PIECE // self.block_size, 1)
        if (len(self.codes), len(self.absmax)) != ((n + 1) // 2, blocks):
            raise NotQuantizable(
                f"The codes or the scales do not fill the shape {self.shape}; keep what quantize returned."
            )
        # Both levels of a byte in one look: row i of the table holds those of the codes i // 16 and i % 16.
        table, scales = levels(self.type), self.scales
        pairs = np.stack([np.repeat(table, 16), np.tile(table, 16)], axis=1)  # (256, 2)
        out = np.empty(2 * len(self.codes), np.float32)

        def work(first: int, last: int) -> None:
            for start in range(first, last, step):
                stop = min(start + step, last)
                part = out[start * self.block_size : stop * self.block_size]
                part[:] = pairs[self.codes[start * self.block_size // 2 : stop * self.block_size // 2]].reshape(-1)
                part *= np.repeat(scales[start:stop], self.block_size)[: len(part)]

        in_threads(work, blocks, threads)
        return out[:n].reshape(self.shape)


def quantize(
    x: ArrayLike, type: str = "nf4", block_size: int = 64, double: bool = False, threads: int = THREADS
) -> FourBitTensor:
    """Return `x`, of any shape, in 4 bits per weight: in each block of weights the largest magnitude becomes 1.

    The blocks follow each other through the rows as they lie in memory, and the last may be shorter. A weight takes
    the code of the nearest level; halfway between two levels, the lower one. With `double`, the scales lose their
    mean and are quantized to 8 bits in blocks of 256 (QLoRA, section 3, double quantization).

    Equal to `bitsandbytes.functional.quantize_4bit` with `blocksize`, `quant_type` and `compress_statistics=double`.
    The mean is torch's, because the order of a sum decides its last bit: it can change with torch's threads.

    Raises `NotQuantizable` for NaN, infinities, no weights or an odd block, `UnknownName` for another type.
    Does not look at which weights matter more, and does not keep the kind of float that `x` had.

    >>> small = quantize([0.5, -1.0, 0.2, 0.0])
    >>> small.unpack().tolist(), small.absmax.tolist()
    ([12, 0, 9, 7], [1.0])
    >>> quantize(np.ones((128, 128))).bits_per_weight
    4.5
    """
    x = as_float32(x)
    if block_size < 2 or block_size % 2:
        raise NotQuantizable(
            f"A block of {block_size} weights does not fill whole bytes; take an even number, such as 64."
        )
    thresholds, order = _thresholds(type)
    flat = x.reshape(-1)
    blocks, whole = -(-x.size // block_size), x.size // block_size
    codes, absmax = np.empty((x.size + 1) // 2, np.uint8), np.empty(blocks, np.float32)

    def work(first: int, last: int) -> None:
        for start in range(first, last, max(PIECE // block_size, 1)):
            stop = min(start + max(PIECE // block_size, 1), last)
            piece = flat[start * block_size : stop * block_size].reshape(-1, block_size)
            made = _encode(piece, thresholds, order)
            codes[start * block_size // 2 : stop * block_size // 2], absmax[start:stop] = made

    in_threads(work, whole, threads)
    if whole < blocks:
        codes[whole * block_size // 2 :], absmax[-1] = _encode_last(flat[whole * block_size :], thresholds, order)
    if not double:
        return FourBitTensor(type, x.shape, block_size, codes, absmax)
    offset = _mean(absmax)
    if not np.isfinite(offset):
        raise NotQuantizable("The mean of the scales is too large for float32; take double=False, or smaller weights.")
    return FourBitTensor(type, x.shape, block_size, codes, *_to_dynamic(absmax - offset), offset)


@cache
def levels(type: str) -> np.ndarray:
    """Return the numbers from -1 to 1 that the 16 codes stand for, float32 (16,).

    NF4: quantiles of the normal distribution at probabilities spaced evenly from 1/2 outwards, 8 intervals upwards and
    7 downwards, so that zero is a level and no code is wasted (QLoRA, appendix E). FP4: a sign, two bits e, one bit m;
    the value is (1 + m/2) · 2^(4-e), and m/16 where e is 0; over 12. The code of minus zero is a second zero.

    Raises `UnknownName` for another type.

    >>> levels("nf4")[[0, 7, 8, 15]].tolist()
    [-1.0, 0.0, 0.07958029955625534, 1.0]
    """
    if type == "nf4":
        upper = [NormalDist().inv_cdf(p) for p in _spaced(OUTERMOST, 0.5, 9)[:-1].tolist()]
        lower = [-NormalDist().inv_cdf(p) for p in _spaced(OUTERMOST, 0.5, 8)[:-1].tolist()]
        values = sorted([*lower, 0.0, *upper])
    elif type == "fp4":
        half = [(1 + m / 2) * 2 ** (4 - e) if e else m / 16 for e in range(4) for m in range(2)]
        values = half + [0.0 - value for value in half]
    else:
        raise UnknownName(f"llmnotes does not know the 4-bit type {type!r}; choose nf4 or fp4.")
    values = np.array(values, np.float32)
    values /= values.max()
    values.flags.writeable = False
    return values


@cache
def dynamic_levels() -> np.ndarray:
    """Return the 256 numbers from -0.993 to 1 of the 8-bit dynamic type, float32 (256,).

    Seven decades below 1: the one that ends at 10^-i, i from 0 to 6, has 2^(6-i) levels of each sign, in the middles
    of as many equal parts of the decade; and there are 0 and 1 (Dettmers, 8-Bit Approximations for Parallelism in
    Deep Learning, 2015, section 2.3).

    >>> dynamic_levels()[[0, 127, 128, 255]].tolist()
    [-0.992968738079071, 0.0, 5.500000384017767e-07, 1.0]
    """
    values = [np.zeros(1, np.float32), np.ones(1, np.float32)]
    for i in range(7):
        edges = _spaced(0.1, 1, 2**i + 1)
        middles = np.float32(10.0 ** (i - 6)) * ((edges[:-1] + edges[1:]) / 2)
        values += [middles, -middles]
    values = np.sort(np.concatenate(values))
    values.flags.writeable = False
    return values


def _spaced(start: float, stop: float, n: int) -> np.ndarray:
    """Return n numbers from start to stop, float32, rounded as torch.linspace rounds: from both ends inwards."""
    first, last = np.float32(start), np.float32(stop)
    step, i = np.float64((last - first) / np.float32(n - 1)), np.arange(n)
    return np.where(i < n // 2, first + step * i, last - step * (n - 1 - i)).astype(np.float32)


@cache
def _thresholds(type: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the 15 numbers halfway between neighbouring levels, and the codes of the levels from low to high."""
    order = np.argsort(levels(type), kind="stable").astype(np.uint8)
    ordered = levels(type)[order]
    return (ordered[:-1] + ordered[1:]) / 2, order


def _encode(x: np.ndarray, thresholds: np.ndarray, order: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (codes, two in a byte; scales) of whole blocks (blocks, block size)."""
    absmax = np.abs(x).max(axis=1)
    if not np.isfinite(absmax).all():
        raise NotQuantizable(NOT_FINITE)
    v = x * (np.float32(1) / np.maximum(absmax, SMALLEST))[:, None]  # (blocks, block size), from -1 to 1
    # The place of a weight among the levels is the number of thresholds below it. Fifteen comparisons of all weights
    # are several times as fast as a search for each, because a processor compares many numbers at once.
    place, below = np.zeros(v.shape, np.uint8), np.empty(v.shape, bool)
    for threshold in thresholds:
        place += np.greater(v, threshold, out=below).view(np.uint8)
    codes = order[place].reshape(-1, 2)
    return codes[:, 0] << 4 | codes[:, 1], absmax


def _encode_last(x: np.ndarray, thresholds: np.ndarray, order: np.ndarray) -> tuple[np.ndarray, np.float32]:
    """Return (codes, scale) of a last, shorter block. bitsandbytes divides here, and gives zeros a scale above 0."""
    if not np.isfinite(x).all():
        raise NotQuantizable(NOT_FINITE)
    absmax = max(np.abs(x).max(), SMALLEST)
    codes = order[np.searchsorted(thresholds, np.append(x / absmax, np.zeros(len(x) % 2, np.float32)))]
    return codes[::2] << 4 | codes[1::2], absmax


def _to_dynamic(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (codes, scales): `x`, float32 (n,), to 8 bits in blocks of 256, rounded to a grid before the levels."""
    table = dynamic_levels()
    grid = np.arange(GRID + 1, dtype=np.float32) * 2 / np.float32(GRID) - 1
    nearest = np.searchsorted((table[:-1] + table[1:]) / 2, grid).astype(np.uint8)
    scale = np.maximum.reduceat(np.abs(x), np.arange(0, len(x), SCALES))
    with np.errstate(all="ignore"):  # the reciprocal of a tiny scale is infinite
        v = np.clip(x * np.repeat(1 / scale, SCALES)[: len(x)], -1, 1)
        at = ((v + 1) / 2).astype(np.float64) * GRID + 0.5  # exact, as is the fused operation of the processor
        codes = nearest[np.nan_to_num(at.astype(np.float32)).astype(np.uint16)]
    codes[np.repeat(scale == 0, SCALES)[: len(x)]] = 0
    return codes, scale


def _mean(x: np.ndarray) -> np.float32:
    import torch

    return np.float32(torch.from_numpy(x).mean().item())
