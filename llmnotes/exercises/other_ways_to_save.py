"""The exercises of lesson 16: sharing the difficulty, and Wanda in a pattern of 2:4."""

import numpy as np

from llmnotes.exercises.exercise import Answer, Exercise, recognize

RNG = np.random.default_rng(5)
ACTIVATIONS = RNG.normal(size=(6, 4)) * [40, 1, 2, 0.5]
MATRIX = RNG.normal(size=(4, 8))
NORMS = np.array([9.0, 1.0, 1.0, 4.0, 0.2, 3.0, 1.0, 6.0])


def check_smooth(answer: Answer) -> str | None:
    """Return None for SmoothQuant's scales, or which mistake the numbers look like."""
    weights, alpha = MATRIX[:3, :4], 0.7
    largest, heaviest = np.abs(ACTIVATIONS).max(axis=0), np.abs(weights).max(axis=0)
    mistakes = {
        "upside_down": heaviest**0.3 / largest**alpha,
        "swapped": largest**0.3 / heaviest**alpha,
        "one_alpha": largest**alpha / heaviest**alpha,
        "half": largest**0.5 / heaviest**0.5,
        "mean": np.abs(ACTIVATIONS).mean(axis=0) ** alpha / np.abs(weights).mean(axis=0) ** 0.3,
        "no_abs": np.abs(ACTIVATIONS.max(axis=0)) ** alpha / np.abs(weights.max(axis=0)) ** 0.3,
        "product": largest**alpha * heaviest**0.3,
        "one_number": np.abs(ACTIVATIONS).max() ** alpha / np.abs(weights).max() ** 0.3,
    }
    return recognize(answer(ACTIVATIONS.copy(), weights.copy(), alpha), largest**alpha / heaviest**0.3, mistakes)


def _kept(merit: np.ndarray, axis: int = 1, count: int = 4, least: bool = False) -> np.ndarray:
    """Return MATRIX with half of each `count` neighbours along `axis`, those of most (or least) merit."""
    merit = -merit if least else merit
    turned, weights = (merit, MATRIX) if axis == 1 else (merit.T, MATRIX.T)
    parts = turned.reshape(-1, count)
    keep = (np.argsort(np.argsort(parts, axis=1), axis=1) >= count // 2).reshape(turned.shape)
    out = np.where(keep, weights, 0)
    return out if axis == 1 else out.T


def check_two_of_four(answer: Answer) -> str | None:
    """Return None for Wanda's choice in a pattern of 2:4, or which mistake it looks like."""
    merit = np.abs(MATRIX) * NORMS
    mistakes = {
        "magnitude": _kept(np.abs(MATRIX)),
        "row": _kept(merit, count=8),
        "columns": _kept(merit, axis=0),
        "least": _kept(merit, least=True),
        "signs": _kept(MATRIX * NORMS),
        "norms_alone": _kept(np.broadcast_to(NORMS, MATRIX.shape)),
        "divided": _kept(np.abs(MATRIX) / NORMS),
        "weighed": _kept(merit) * NORMS,
        "argsort_once": np.where(np.argsort(merit.reshape(-1, 4), axis=1).reshape(MATRIX.shape) >= 2, MATRIX, 0),
    }
    return recognize(answer(MATRIX.copy(), NORMS.copy()), _kept(merit), mistakes)


EXERCISES = [
    Exercise(
        id="16.1",
        title="Share the difficulty",
        level="easy",
        minutes=10,
        task="""Write `smooth(activations, weights, alpha)` with NumPy: SmoothQuant's scale for each channel, the
largest magnitude of its activations to the power `alpha`, divided by the largest magnitude of its weights to the power
`1 - alpha`. `activations` is `(tokens, channels)`, `weights` `(outputs, channels)`.""",
        clue="A channel is a column in both. `np.abs(x).max(axis=0)` is one number for each column.",
        name="smooth",
        stub='''def smooth(activations, weights, alpha):
    """Return a scale for each channel; activations (tokens, channels), weights (outputs, channels)."""
    ...''',
        solution='''import numpy as np


def smooth(activations, weights, alpha):
    """Return a scale for each channel; activations (tokens, channels), weights (outputs, channels)."""
    largest, heaviest = np.abs(activations).max(axis=0), np.abs(weights).max(axis=0)
    return largest ** alpha / heaviest ** (1 - alpha)''',
        check=check_smooth,
        hints={
            "upside_down": "upside down: activations are divided by the scale, so large activations need a large one.",
            "swapped": "the powers are exchanged: alpha belongs to the activations.",
            "one_alpha": "both sides have the power alpha. The weights have what is left to 1.",
            "half": "right for an alpha of a half. Use the one that is given.",
            "mean": "these are means. A step is chosen by the largest number, so the scales look at it, too.",
            "no_abs": "the largest number is not the largest magnitude: −60 is larger than 3 here.",
            "product": "multiplied where it should be divided: heavy weights want a smaller scale.",
            "one_number": "one scale for all channels changes nothing: the step grows along. Which axis is a channel?",
            "other": "the numbers differ. With alpha 1, activations divided by the scales reach from −1 to 1.",
        },
    ),
    Exercise(
        id="16.2",
        title="Two of four, chosen by data",
        level="hard",
        minutes=20,
        task="""Write `two_of_four(weight, norms)` with NumPy: of each four neighbours in a row keep the two with the
larger `|weight| · norm` (Wanda's merit), and set the other two to 0. `weight` is `(rows, columns)` with a multiple of
four columns, `norms` `(columns,)` the size of each column's inputs.""",
        clue="`merit.reshape(-1, 4)` has four neighbours in each row. An `np.argsort` of an `np.argsort` gives "
        "each number its rank.",
        name="two_of_four",
        stub='''def two_of_four(weight, norms):
    """Return weight (rows, columns), where two of each four neighbours in a row are 0; norms is (columns,)."""
    ...''',
        solution='''import numpy as np


def two_of_four(weight, norms):
    """Return weight (rows, columns), where two of each four neighbours in a row are 0; norms is (columns,)."""
    merit = np.abs(weight) * norms
    fours = merit.reshape(-1, 4)
    keep = np.argsort(np.argsort(fours, axis=1), axis=1) >= 2
    keep = keep.reshape(weight.shape)
    return np.where(keep, weight, 0)''',
        check=check_two_of_four,
        hints={
            "magnitude": "this is a choice by magnitude alone. What do the inputs say?",
            "row": "half of each row is kept, and that is no pattern: of some four neighbours three stay.",
            "columns": "the fours lie down the columns. The circuits want them along a row.",
            "least": "this keeps the two that matter less.",
            "signs": "a weight of −4 is a large one: compare magnitudes.",
            "norms_alone": "the inputs alone decide here, and every row keeps the same columns.",
            "divided": "a column with large inputs matters more, not less: multiply by the norm.",
            "weighed": "the choice is right, and the weights that stay have been changed. Norms are for choosing only.",
            "argsort_once": "np.argsort says which number is smallest, next, and so on. The rank of each number is an "
            "np.argsort of that.",
            "other": "the matrix differs. Two numbers of each four must be as they were, and two must be 0.",
        },
    ),
]
