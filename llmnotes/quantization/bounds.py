"""Limits of quantization: the rate-distortion bound, and the best levels for normally distributed numbers."""

import math
from statistics import NormalDist

import numpy as np


def rate_distortion(bits: float) -> float:
    """Return the smallest relative error 2^-R at which R bits can keep a number drawn from a normal distribution.

    The error is the root mean square over the standard deviation (Shannon 1959; Cover and Thomas, Elements of
    Information Theory, theorem 10.3.2). No quantizer that rounds one number at a time reaches it.

    >>> rate_distortion(4)
    0.0625
    """
    return 2.0**-bits


def lloyd_max(levels: int) -> tuple[np.ndarray, float]:
    """Return the `levels` numbers that keep N(0, 1) best when each is rounded to the nearest, and the relative error.

    Found by iteration: borders halfway between the numbers, then each number to the mean of what falls to it (Lloyd
    1957, published 1982; Max 1960). Raises `ValueError` for fewer than one level. Does not treat other distributions.

    >>> points, error = lloyd_max(2)
    >>> [round(float(x), 4) for x in points], round(error, 4)
    ([-0.7979, 0.7979], 0.6028)
    """
    if levels < 1:
        raise ValueError(f"{levels} levels hold no number; give one or more.")
    start = NormalDist(0, math.sqrt(3))  # for many levels the best density is that of a normal three times as wide
    points = np.array([start.inv_cdf((i + 0.5) / levels) for i in range(levels)])
    square, before = 1.0, 2.0
    while before - square > 1e-7 * square:
        borders = np.concatenate([[-np.inf], (points[1:] + points[:-1]) / 2, [np.inf]])
        below = np.array([math.erfc(-x / math.sqrt(2)) / 2 for x in borders])
        density = np.exp(-(borders**2) / 2) / math.sqrt(2 * math.pi)
        share = np.diff(below)
        points = -np.diff(density) / share
        before, square = square, 1 - float((share * points**2).sum())
    return points, math.sqrt(square)
