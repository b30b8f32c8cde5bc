"""The exercises of lesson 04: softmax, causal weights, and a colleague's heads."""

from collections.abc import Callable
from itertools import product

import numpy as np

from llmnotes.attention import causal_mask, repeat_heads, softmax, split_heads
from llmnotes.exercises.exercise import Answer, Exercise, Verdict, judge

_RNG = np.random.default_rng(7)
_TABLE = np.array([[1.0, 2.0, 4.0], [0.5, 0.25, 3.0]])
_SCORES = [
    _TABLE,
    _RNG.normal(size=(2, 3, 4)),  # two heads
    _TABLE + 1000,
    _TABLE - 1000,
    _TABLE + np.array([[1000.0], [-1000.0]]),
    np.array([[1000.0, 0.0, -1000.0], [0.0, 1000.0, 999.0]]),
    np.array([[0.0, -np.inf, 0.0], [0.0, 1.0, -np.inf]]),
]
_ONE_HEAD, _TWO_HEADS = _RNG.normal(size=(2, 5, 4)), _RNG.normal(size=(2, 2, 6, 3))


def _quietly(answer: Answer, right: Answer, cases: list[tuple], mistakes: dict[str, Answer]) -> str | Verdict | None:
    """Judge without NumPy's warnings. Mistakes "name" and "name 2" are the same mistake, made in two ways."""
    with np.errstate(all="ignore"):
        verdict = judge(answer, right, cases, mistakes)
    return verdict.split(" ")[0] if isinstance(verdict, str) else verdict


def _shares(axis: int | None, shift: Callable | None) -> Answer:
    def share(scores: np.ndarray) -> np.ndarray:
        powers = np.exp(scores if shift is None else scores - shift(scores))
        return powers / powers.sum(axis=axis, keepdims=True)

    return share


def _largest(axis: int | None) -> Callable:
    return lambda scores: scores.max(axis=axis, keepdims=True)


def check_softmax(answer: Answer) -> str | Verdict | None:
    """Return None for a softmax over the last axis that survives large scores, or which mistake it makes."""
    shifts = (None, _largest(-1), _largest(None), _largest(0), _largest(1))
    mistakes = {"overflow": _shares(-1, None), "one_shift": _shares(-1, _largest(None))}
    for key, axis in (("columns", 0), ("whole", None), ("second", 1)):
        for number, shift in enumerate(shifts):
            mistakes[f"{key} {number}"] = _shares(axis, shift)
    for number, shift in enumerate(shifts):
        mistakes[f"unshared {number}"] = lambda s, shift=shift: np.exp(s if shift is None else s - shift(s))
    mistakes["no_exp"] = lambda s: s / s.sum(axis=-1, keepdims=True)
    mistakes["fixed"] = _shares(-1, lambda scores: 1000.0)
    return _quietly(answer, softmax, [(scores,) for scores in _SCORES], mistakes)


def _look(
    root: Callable = np.sqrt, mask: str = "before", axis: int = -1, part: int = -1
) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """Return a `look` that makes the named mistakes, or none."""

    def look(q: np.ndarray, k: np.ndarray) -> np.ndarray:
        scores = q @ k.swapaxes(-1, -2) / root(q.shape[part])
        sees = causal_mask(scores.shape[-1])
        if mask == "numbers":  # a mask of whole numbers picks the rows 0 and 1
            scores[sees.astype(int)] = -np.inf
        elif mask == "future":
            scores = np.where(sees.T, scores, -np.inf)
        elif mask == "zero":
            scores = scores * sees
        elif mask == "before":
            scores = np.where(sees, scores, -np.inf)
        weights = softmax(scores, axis=axis)
        return weights * sees if mask == "after" else weights

    return look


def check_look(answer: Answer) -> str | Verdict | None:
    """Return None for causal weights, or which mistake they come from."""
    roots = {"unscaled": lambda d: 1.0, "by_d": float}
    mistakes: dict[str, Answer] = {key: _look(root) for key, root in roots.items()} | {"tokens": _look(part=-2)}
    for key in ("after", "zero", "future", "ahead", "numbers"):
        mistakes[key] = _look(mask=key)
    mistakes["columns"] = _look(axis=-2)
    for key, (number, root) in product(("after", "zero", "future", "ahead", "numbers"), enumerate(roots.values())):
        mistakes[f"{key} {number}"] = _look(root, mask=key)
    return _quietly(answer, _look(), [tuple(_ONE_HEAD), tuple(_TWO_HEADS)], mistakes)


def _heads_for(right_cut: bool, right_order: bool) -> Answer:
    def heads_for(x: np.ndarray, queries: int, size: int) -> np.ndarray:
        heads = split_heads(x, x.shape[1] // size) if right_cut else x.reshape(-1, len(x), size)
        return repeat_heads(heads, queries) if right_order else np.tile(heads, (queries // len(heads), 1, 1))

    return heads_for


def check_heads_for(answer: Answer) -> str | Verdict | None:
    """Return None for heads that own their columns and are shared by neighbours, or which fault is left."""
    cases = [
        (np.arange(24.0).reshape(3, 8), 4, 4),
        (_RNG.normal(size=(5, 6)), 3, 2),
        (_RNG.normal(size=(4, 6)), 6, 2),
    ]
    mistakes = {
        "both": _heads_for(False, False),
        "cut": _heads_for(False, True),
        "order": _heads_for(True, False),
        "alone": lambda x, queries, size: split_heads(x, x.shape[1] // size),
        "tokens": lambda x, queries, size: repeat_heads(split_heads(x, x.shape[1] // size), queries).swapaxes(0, 1),
    }
    return _quietly(answer, _heads_for(True, True), cases, mistakes)


EXERCISES = [
    Exercise(
        id="04.1",
        title="A softmax for many rows",
        level="easy",
        minutes=8,
        task="""Write `softmax(scores)`. From now on there is a row of scores for each word that asks, and later
several such tables: `scores` is `(queries, keys)` or `(heads, queries, keys)`. Each row of keys must sum to 1. Take the
largest score of each row away first. If yours is right, the lesson goes on with it.""",
        clue="`scores.max(axis=-1, keepdims=True)` is the largest of each row, with a shape that can be subtracted.",
        name="softmax",
        stub='''def softmax(scores):
    """Return the softmax of each row of scores: none negative, each row sums to 1."""
    ...''',
        solution='''def softmax(scores):
    """Return the softmax of each row of scores: none negative, each row sums to 1."""
    powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)''',
        given="import numpy as np",
        check=check_softmax,
        kept=True,
        hints={
            "columns": "the shares are taken along the first axis, so every column sums to 1. A row belongs to one "
            "word that asks; it is the row that must sum to 1: `axis=-1`.",
            "whole": "here the whole table sums to 1. Each row shares out its own 1: the sum needs `axis=-1`.",
            "second": "right for one table. With several heads the scores have three axes, and the keys are the last "
            "one: `axis=-1` fits both.",
            "unshared": "the exponentials are there, but they aren't divided by the sum of their row yet.",
            "no_exp": "this shares out the scores themselves. With a negative score a share would be negative, too.",
            "overflow": "right for small scores. At 1,000 the exponential is inf, and inf divided by inf is nan.",
            "fixed": "a fixed number helps the scores near it. Far below it every exponential is 0, and 0 divided by 0 "
            "is nan. Let each row choose its own number.",
            "one_shift": "this takes the largest score of the whole table away. Where one row is far above another, "
            "the lower one is left with zeros. Each row needs its own largest score.",
        },
    ),
    Exercise(
        id="04.2",
        title="Look, but not ahead",
        level="medium",
        minutes=12,
        task="""Write `look(q, k)`: scores, division by √d, mask, softmax. `q` and `k` are `(tokens, d)`, or
`(heads, tokens, d)`; the weights are `(tokens, tokens)`, or one such table for each head. You may use the lesson's
`softmax`. If yours is right, the lesson goes on with it.""",
        clue="`k.swapaxes(-1, -2)` is the transpose for both shapes. `np.tri(n, dtype=bool)` is True where a word may "
        "look, and `np.where(condition, a, b)` chooses between two.",
        name="look",
        stub='''def look(q, k):
    """Return the weights of each token on itself and on those before it."""
    ...''',
        solution='''def look(q, k):
    """Return the weights of each token on itself and on those before it."""
    scores = q @ k.swapaxes(-1, -2) / np.sqrt(q.shape[-1])
    sees = np.tri(scores.shape[-1], dtype=bool)
    return softmax(np.where(sees, scores, -np.inf))''',
        given="import numpy as np\n\nfrom llmnotes.attention import softmax",
        check=check_look,
        kept=True,
        hints={
            "unscaled": "right, except that the scores aren't divided by √d.",
            "by_d": "the scores are divided by d itself. A sum of d random products grows with √d.",
            "tokens": "the scores are divided by the root of the number of tokens. d is the last axis: `q.shape[-1]`.",
            "ahead": "every token sees the whole text, also what comes later. The mask is missing.",
            "after": "the weights of later tokens are 0, but the rows no longer sum to 1: the mask must come before "
            "the softmax, as a score of −∞.",
            "zero": "later tokens get the score 0, and exp(0) is 1, so they are still seen. Which score has the "
            "exponential 0?",
            "future": "the triangle is the wrong way round: here the tokens see what comes later, and nothing before.",
            "numbers": "nan everywhere, or in whole rows: a mask of zeros and ones, used as an index, picks rows 0 and "
            "1. Make it True and False: `np.tri(n, dtype=bool)`.",
            "columns": "the softmax runs along the wrong axis: here the columns sum to 1. Each query shares out its "
            "own 1 among the keys.",
        },
    ),
    Exercise(
        id="04.3",
        title="The colleague's heads",
        level="medium",
        minutes=10,
        task="""*A bug hunt.* A colleague cuts a wide table `(tokens, columns)` into heads of `size` columns, and gives
neighbouring query heads the same key head, so that the result is `(queries, tokens, size)`. All shapes are right, and
the model talks nonsense. There are two faults. Mend `heads_for`, and return `heads`.""",
        clue="Try it on `np.arange(24).reshape(3, 8)`, with `queries=4` and `size=4`. Head 0 should hold columns 0 "
        "to 3 of every row, and so should head 1.",
        name="heads_for",
        stub='''def heads_for(x, queries, size):
    """Cut x (tokens, columns) into heads; neighbouring queries share one."""
    heads = x.reshape(-1, len(x), size)
    heads = np.tile(heads, (queries // len(heads), 1, 1))
    return ...  # heads, when both faults are mended''',
        solution='''def heads_for(x, queries, size):
    """Cut x (tokens, columns) into heads; neighbouring queries share one."""
    heads = x.reshape(len(x), -1, size).swapaxes(0, 1)
    return np.repeat(heads, queries // len(heads), axis=0)''',
        given="import numpy as np",
        check=check_heads_for,
        hints={
            "both": "both faults are still there. Print head 0 of the clue's table: which columns should it hold?",
            "cut": "one fault is left: reshape reads row by row, so head 0 holds the first tokens whole. Keep the "
            "tokens as the first axis, and swap afterwards.",
            "order": "one fault is left: tile puts the heads in the order 0 1 0 1. Neighbours should share: 0 0 1 1.",
            "alone": "the heads are cut well, but nobody shares them yet: there must be as many as there are queries.",
            "tokens": "the numbers are right, and the axes are tokens, heads, size. The heads should come first.",
        },
    ),
]
