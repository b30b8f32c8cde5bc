"""The checks of notebook 04's exercises, and the numbers that they hand to an answer; the texts are in quantization."""

import math

import numpy as np

from llmnotes.exercises import recognize


def check_bits_per_weight(answer) -> str | None:
    """Return None for bits with their share of scale and zero-point, or which mistake the numbers look like."""
    cases = [(4, 32, 16, 0), (4, 128, 16, 4), (2, 64, 16, 2), (8, 4096, 32, 0), (3, 7, 5, 3)]
    found = [answer(*case) for case in cases]
    mistakes = {
        "codes_only": [bits for bits, _, _, _ in cases],
        "undivided": [bits + scale + zero for bits, _, scale, zero in cases],
        "no_zero": [bits + scale / block for bits, block, scale, _ in cases],
        "bytes": [(bits + (scale + zero) / block) / 8 for bits, block, scale, zero in cases],
        "whole": [bits + (scale + zero) // block for bits, block, scale, zero in cases],
        "block": [bits * block + scale + zero for bits, block, scale, zero in cases],
    }
    return recognize(found, [bits + (scale + zero) / block for bits, block, scale, zero in cases], mistakes)


def _blocks() -> list[np.ndarray]:
    """Return three blocks of 32: the largest is negative; it is positive; and its opposite and halves are there."""
    random = np.random.default_rng(4)
    first, second = random.normal(size=(2, 32))
    first[5], second[9] = -3.7, 4.1
    third = random.integers(-15, 16, 32) / 2.0
    third[:6] = [-8.0, 8.0, 0.5, 1.5, -2.5, 3.5]
    return [first, second, third]


def _q4_0(block, scale=lambda x: x[np.abs(x).argmax()] / -8, code=lambda v: np.clip(np.floor(v + 8.5), 0, 15)):
    d = scale(block)
    return np.append(code(block / d), d)


def check_q4_0(answer) -> str | None:
    """Return None for Q4_0's scales and codes, or which mistake the numbers look like."""

    def ask(block):
        scale, codes = answer(block.copy())
        return np.append(np.asarray(codes, float), float(scale))

    blocks = _blocks()

    def absolute(x):
        return np.abs(x).max() / 8

    def seven(x):
        return np.abs(x).max() / 7

    def same_sign(x):
        return x[np.abs(x).argmax()] / 8

    def even(v):
        return np.clip(np.rint(v) + 8, 0, 15)

    def cut(v):
        return np.clip(np.floor(v + 8), 0, 15)

    variants = {
        "sign": [_q4_0(x, absolute) for x in blocks],
        "minus": [_q4_0(x, same_sign) for x in blocks],
        "seven": [_q4_0(x, seven) for x in blocks],
        "sixteen": [_q4_0(x, code=lambda v: np.floor(v + 8.5)) for x in blocks],
        "offset": [_q4_0(x, code=lambda v: np.clip(np.floor(v + 0.5), -8, 7)) for x in blocks],
        "even": [_q4_0(x, code=even) for x in blocks],
        "cut": [_q4_0(x, code=cut) for x in blocks],
    }
    with np.errstate(all="ignore"):
        key = recognize([ask(block) for block in blocks], [_q4_0(x) for x in blocks], variants)
        if key:
            return key
        try:
            zeros = ask(np.zeros(32))
        except (ZeroDivisionError, ValueError):
            return "zeros"
    return None if np.isfinite(zeros).all() and zeros[-1] == 0 else "zeros"


def _affine(x, low=None, high=None, most=255, rounded=True, clipped=True, signed=0):
    low = min(x.min(), 0) if low is None else low(x)
    high = max(x.max(), 0) if high is None else high(x)
    scale = (high - low) / most
    zero = np.rint(-low / scale) if rounded else -low / scale
    codes = np.rint(x / scale) + zero if rounded else np.rint(x / scale + zero)
    return np.concatenate([(np.clip(codes, 0, 255) if clipped else codes) - signed, [scale, zero - signed]])


def check_affine(answer) -> str | None:
    """Return None for codes, scale and zero-point, or which mistake the numbers look like."""
    random = np.random.default_rng(6)
    cases = [
        random.uniform(2, 3, 12),
        np.append(random.normal(1, 1, 12), -0.9),
        np.array([-1.25, 0.0, 0.013, 0.5, 1.31, 2.6]),
        -random.exponential(size=12),
    ]

    def ask(x):
        codes, scale, zero = answer(x.copy())
        return np.concatenate([np.asarray(codes, float), [float(scale), float(zero)]])

    def every(**changes):
        return np.concatenate([_affine(x, **changes) for x in cases])

    def far(x):
        return np.abs(x).max()

    mistakes = {
        "no_zero": every(low=np.min, high=np.max, clipped=False),
        "no_zero ": every(low=np.min, high=np.max),
        "unrounded": every(rounded=False),
        "symmetric": every(low=lambda x: -far(x), high=far),
        "levels": every(most=256),
        "levels ": every(most=256, clipped=False),
        "signed": every(signed=128),
    }
    key = recognize(np.concatenate([ask(x) for x in cases]), every(), mistakes)
    return key and key.strip()


ROWS = [  # name, bits per weight, KL, perplexity
    ("16 bits", 16.0, 0.0, 7.10),
    ("A", 8.5, 0.0004, 7.11),
    ("B", 5.5, 0.006, 7.09),
    ("C", 4.5, 0.031, 7.06),
    ("D", 4.25, 0.022, 7.18),
    ("E", 4.9, 0.045, 7.20),
    ("F", 3.4, 0.08, 7.31),
    ("G", 3.6, 0.09, 7.29),
]


def check_choose(answer) -> str | None:
    """Return None if the choice is right for every budget, or which mistake it looks like."""
    cases = [(7e9, 14.0), (7e9, 4.2), (7e9, 3.75), (1e9, 1.0), (13e9, 7.1), (7e9, 4.4), (7e9, 4.6), (7e9, 2.0)]

    def best(parameters, gb, key=lambda row: row[2], size=lambda bits, n: bits * n / 8 / 1e9):
        fitting = [row for row in ROWS if size(row[1], parameters) <= gb]
        return min(fitting, key=key)[0] if fitting else "nothing"

    right = [best(*case) for case in cases]
    mistakes = {
        "perplexity": [best(*case, key=lambda row: row[3]) for case in cases],
        "most_bits": [best(*case, key=lambda row: -row[1]) for case in cases],
        "fewest_bits": [best(*case, key=lambda row: row[1]) for case in cases],
        "gib": [best(*case, size=lambda bits, n: bits * n / 8 / 2**30) for case in cases],
        "bytes": [best(*case, size=lambda bits, n: bits * n / 1e9) for case in cases],
        "whole": [best(*case, size=lambda bits, n: math.floor(bits) * n / 8 / 1e9) for case in cases],
    }
    found = []
    for parameters, gb in cases:
        try:
            found.append(answer(list(ROWS), parameters, gb))
        except (ValueError, IndexError, TypeError):
            if right[len(found)] != "nothing":
                raise
            return "nothing"
    found = [row[0] if isinstance(row, tuple) else row for row in found]
    if found == right:
        return None
    return next((key for key, names in mistakes.items() if found == names), "other")
