"""The exercises of lesson 04: softmax, causal weights, and a colleague's heads."""

import copy
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
_SQUARES = [_RNG.normal(size=(3, 3)), _RNG.normal(size=(4, 4))]
_ROWS = [np.array([2, 4, -3]), np.array([0.5, 1000.0])]  # the lesson's own scores are whole numbers
_ONE_HEAD = [tuple(_RNG.normal(size=(2, 5, 4))), tuple(_RNG.normal(size=(2, 3, 6)))]
_THREE_WORDS = [tuple(_RNG.normal(size=(2, 3, 2))) for _ in range(2)]  # the sizes of the lesson's example
_THREE_HEADS = [tuple(_RNG.normal(size=(2, 3, 3, 3))) for _ in range(2)]  # as many heads as tokens
_TWO_HEADS = [tuple(_RNG.normal(size=(2, 2, 6, 3))), tuple(_RNG.normal(size=(2, 4, 5, 3)))]


def _queries_and_keys(*scores: list[float]) -> tuple[np.ndarray, np.ndarray]:
    """Return q and k of three tokens whose scores, divided by √d, are a table: d is 3."""
    return np.array(scores) * 3**0.5, np.eye(3)


_FAR = [  # scores beyond any "large negative number", and later tokens far above all that a token may see
    _queries_and_keys([-2e5, 0.0, 1.0], [-2e5, -2e5, 0.0], [1.0, 0.0, 2.0]),
    _queries_and_keys([0.0, 2e5, 1e5], [0.5, 0.0, 2e5], [1.0, 0.0, 2.0]),
    _queries_and_keys([2e5, 0.0, 1.0], [0.0, 2e5, 1.0], [0.0, 1.0, 2e5]),
]
_WHOLE = [(np.array([[2, 0], [0, 2], [2, 1]]), np.array([[0, 2], [2, 0], [-1, -1]]))]  # the lesson's, whole numbers


def quietly(answer: Answer, right: Answer, cases: list[tuple], mistakes: dict[str, Answer]) -> str | Verdict | None:
    """Judge without NumPy's warnings. Mistakes "name" and "name 2" are the same mistake, made in two ways."""
    with np.errstate(all="ignore"):
        verdict = judge(answer, right, cases, mistakes)
    return verdict.split(" ")[0] if isinstance(verdict, str) else verdict


def closely(answer: Answer, right: Answer, cases: list[tuple], to: float = 5e-7) -> Verdict | None:
    """Judge an answer that `judge` has let pass as closely as the claims of the lesson that goes on with it need."""
    for case in cases:
        with np.errstate(all="ignore"):
            expected, found = right(*copy.deepcopy(case)), np.asarray(answer(*copy.deepcopy(case)))
        wrong = ~np.isclose(found, expected, rtol=1e-6, atol=to, equal_nan=True)
        wrong |= (expected == 0) & (np.abs(found) > 1e-9)  # where nobody may look
        if wrong.any():
            at = tuple(np.argwhere(wrong)[0])
            return Verdict(
                "nearly",
                f"right to about four digits, and the lesson needs more: what should be {expected[at]:.9g} is "
                f"{found[at]:.9g}. Something is rounded, cut off or added on the way",
            )
    return None


def _shares(axis: int | None, shift: Callable | None, keepdims: bool = True) -> Answer:
    def share(scores: np.ndarray) -> np.ndarray:
        powers = np.exp(scores if shift is None else scores - shift(scores))
        return powers / powers.sum(axis=axis, keepdims=keepdims)

    return share


def _largest(axis: int | None, keepdims: bool = True) -> Callable:
    return lambda scores: scores.max(axis=axis, keepdims=keepdims)


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
    mistakes["no_exp 1"] = lambda s: (s - _largest(-1)(s)) / (s - _largest(-1)(s)).sum(axis=-1, keepdims=True)
    mistakes["fixed"] = _shares(-1, lambda scores: 1000.0)
    try:
        verdict = quietly(answer, softmax, [(scores,) for scores in _SCORES], mistakes)
    except ValueError:  # shapes that do not fit; on a square table they do
        flat = {f"keepdims {n}": _shares(-1, shift, keepdims=False) for n, shift in enumerate(shifts[:3])}
        flat["keepdims 3"] = _shares(-1, _largest(-1, keepdims=False))
        flat["keepdims 4"] = _shares(-1, _largest(-1, keepdims=False), keepdims=False)
        if quietly(answer, softmax, [(scores,) for scores in _SQUARES], flat) == "keepdims":
            return "keepdims"
        raise
    if verdict is not None:
        return verdict
    try:
        verdict = quietly(answer, softmax, [(row,) for row in _ROWS], {})
    except (ValueError, IndexError):
        return "one_row"
    return verdict or closely(answer, softmax, [(scores,) for scores in [*_SCORES, *_ROWS]])


def _look(
    root: Callable = np.sqrt,
    mask: str = "before",
    axis: int | None = -1,
    part: int = -1,
    swapped: bool = False,
    transpose: Callable = lambda k: k.swapaxes(-1, -2),
) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """Return a `look` that makes the named mistakes, or none; without an axis it forgets the softmax."""

    def look(q: np.ndarray, k: np.ndarray) -> np.ndarray:
        if swapped:
            q, k = k, q
        scores = q @ transpose(k) / root(q.shape[part])
        sees = causal_mask(scores.shape[-1])
        if mask == "numbers":  # a mask of whole numbers picks the rows 0 and 1
            scores[sees.astype(int)] = -np.inf
        elif mask == "future":
            scores = np.where(sees.T, scores, -np.inf)
        elif mask == "turned round":
            scores = np.where(sees, -np.inf, scores)
        elif mask == "index":  # with heads, this picks queries of heads
            scores[~sees] = -np.inf
        elif mask == "zero":
            scores = scores * sees
        elif mask == "others":
            scores = np.where(np.tri(len(sees), k=-1, dtype=bool), scores, -np.inf)
        elif mask == "before":
            scores = np.where(sees, scores, -np.inf)
        weights = scores if axis is None else softmax(scores, axis=axis)
        return weights * sees if mask == "after" else weights

    return look


def check_look(answer: Answer) -> str | Verdict | None:
    """Return None for causal weights, or which mistake they come from."""
    roots = {"unscaled": lambda d: 1.0, "by_d": float, "root_2": lambda d: 2**0.5}
    masks = ("after", "zero", "future", "others", "ahead", "numbers")
    mistakes: dict[str, Answer] = {key: _look(root) for key, root in roots.items()} | {"tokens": _look(part=-2)}
    for key in masks:
        mistakes[key] = _look(mask=key)
    mistakes |= {"columns": _look(axis=-2), "swapped": _look(swapped=True), "scores": _look(axis=None)}
    for key, (number, root) in product(masks, enumerate(roots.values())):
        mistakes[f"{key} {number}"] = _look(root, mask=key)
    for number, root in enumerate(roots.values()):
        mistakes[f"scores {number}"] = _look(root, axis=None)
        mistakes[f"swapped {number}"] = _look(root, swapped=True)
    for number, root in enumerate((np.sqrt, *roots.values())):
        mistakes[f"scores {number + 3}"] = _look(root, mask="none", axis=None)
    mistakes["future 3"] = _look(mask="turned round")
    try:
        if (verdict := quietly(answer, _look(), _ONE_HEAD, mistakes)) is not None:
            return verdict
    except ValueError:
        if quietly(answer, _look(), _THREE_WORDS, {}) is None:
            return "three"
        raise
    turned = {"turned": _look(transpose=np.transpose), "index": _look(mask="index")}
    turned |= {"tokens 1": _look(part=1), "columns 1": _look(axis=1)}
    if (verdict := quietly(answer, _look(), _THREE_HEADS, turned)) is not None:
        return verdict
    try:
        if (verdict := quietly(answer, _look(), _TWO_HEADS, turned)) is not None:
            return verdict
    except (ValueError, IndexError):  # right for one head, and for as many heads as there are tokens
        return "len"
    if (verdict := quietly(answer, _look(), _FAR, _far_mistakes())) is not None:
        return verdict
    if (verdict := closely(answer, _look(), [*_ONE_HEAD, *_TWO_HEADS, *_FAR])) is not None:
        return verdict
    try:
        return closely(answer, _look(), _WHOLE)
    except TypeError:
        return "in_place"


def _far_mistakes() -> dict[str, Answer]:
    """Return the ways to mask that are right for small scores and fail for large ones."""

    def masked(weigh: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Answer:
        return lambda q, k: weigh(q @ k.swapaxes(-1, -2) / np.sqrt(q.shape[-1]), causal_mask(q.shape[-2]))

    def share(powers: np.ndarray) -> np.ndarray:
        return powers / powers.sum(axis=-1, keepdims=True)

    return {
        "small": masked(lambda scores, sees: softmax(np.where(sees, scores, -100.0))),
        "small 1": masked(lambda scores, sees: softmax(scores - 100.0 * ~sees)),
        "late": masked(lambda scores, sees: share(softmax(scores) * sees)),
        "overflow": masked(lambda scores, sees: share(np.exp(scores) * sees)),
        "overflow 1": masked(lambda scores, sees: share(np.where(sees, np.exp(scores), 0))),
        "overflow 2": masked(lambda scores, sees: share(np.exp(np.where(sees, scores, -np.inf)))),
        "whole": masked(lambda scores, sees: share(np.exp(np.where(sees, scores, -np.inf) - scores.max()))),
    }


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
    return quietly(answer, _heads_for(True, True), cases, mistakes)


EXERCISES = [
    Exercise(
        id="04.1",
        title="A softmax for many rows",
        level="easy",
        minutes=8,
        task="""Write `softmax(scores)`. From now on there is a row of scores for each word that asks, and later
several such tables: `scores` is an array `(keys,)`, `(queries, keys)` or `(heads, queries, keys)`. Each row of keys
must sum to 1. Take the largest score of each row away first. If yours is right, the lesson goes on with it.""",
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
            "keepdims": "the shapes don't fit. The maximum or the sum of each row has one axis less than the table, so "
            "NumPy can't tell which row it belongs to: `keepdims=True` keeps that axis.",
            "one_row": "right for tables. But a single row of scores, `(keys,)`, gives an error: the last axis is "
            "`axis=-1`, whatever the shape.",
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
`softmax`. If yours is right, the lesson goes on with it.

`k.T` turns all axes round, which is wrong for three. `k.swapaxes(-1, -2)` swaps the last two and fits both shapes. Axes
are counted from the end in the same way: `q.shape[-1]` is d, and `q.shape[-2]` the number of tokens.""",
        clue="`np.tri(n, dtype=bool)` is True where a word may look, and `np.where(condition, a, b)` chooses between "
        "two. Four lines are enough: scores, mask, `np.where`, softmax.",
        name="look",
        stub='''def look(q, k):
    """Return the weights of each token on itself and on those before it."""
    ...''',
        solution='''def look(q, k):
    """Return the weights of each token on itself and on those before it."""
    scores = q @ k.swapaxes(-1, -2) / np.sqrt(q.shape[-1])
    sees = np.tri(q.shape[-2], dtype=bool)
    return softmax(np.where(sees, scores, -np.inf))''',
        given="import numpy as np\n\nfrom llmnotes.attention import softmax",
        check=check_look,
        kept=True,
        hints={
            "unscaled": "right, except that the scores aren't divided by √d.",
            "by_d": "the scores are divided by d itself. A sum of d random products grows with √d.",
            "root_2": "the scores are divided by √2, which was right for the three words. In general it's the root of "
            "`q.shape[-1]`.",
            "three": "right for three words of two numbers, and an error for five tokens: a size is written as a "
            "number. Take it from `q.shape`.",
            "index": "right for one head. With heads, `scores[~sees]` picks from the first two axes, which are heads "
            "and queries: write `scores[..., ~sees]`, or use `np.where`.",
            "tokens": "the scores are divided by the root of the number of tokens. d is the last axis: `q.shape[-1]`.",
            "swapped": "q and k have changed places: a row must belong to the word that asks, so it's q times k.",
            "others": "the tokens see what comes before them, but not themselves, and the first one sees nothing: nan. "
            "The diagonal belongs to the triangle, as in `np.tri(n)`.",
            "scores": "these are scores still; the softmax is missing at the end.",
            "turned": "right for one head. With heads, `k.T` turns all three axes round, and the heads end up in the "
            "tokens' place: `k.swapaxes(-1, -2)`.",
            "len": "right for one head. With heads, the first axis counts the heads, so a size is taken from the wrong "
            "axis: the number of tokens is `q.shape[-2]`.",
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
            "in_place": "right for decimals. But the lesson's queries and keys are whole numbers, and `/=` can't put "
            "decimals into an array of whole numbers: write `scores = scores / …`.",
            "small": "a large negative number works until the real scores are as low, and then the later tokens are "
            "seen. Only −∞ is below every score: `-np.inf`.",
            "late": "right, until a later token scores far higher than all the others. Then the first softmax leaves "
            "the rest nothing, and 0 divided by 0 is nan. Mask the scores, and one softmax is enough.",
            "overflow": "right for small scores. The exponential of a large one is inf, and of a very low one 0, and "
            "the division gives nan. The lesson's `softmax` is safe.",
            "whole": "right for small scores. But one largest score is taken away from all rows, so a row far below it "
            "is left with zeros: nan. Each row needs its own; the lesson's `softmax` does that.",
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
        "to 3 of every row, and so should head 1. `np.tile(heads, (2, 1, 1))` lays the whole stack of heads down "
        "twice: 0 1 0 1. `np.repeat(heads, 2, axis=0)` takes each head twice in a row: 0 0 1 1.",
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
