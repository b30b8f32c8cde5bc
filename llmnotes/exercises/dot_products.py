"""The exercises of notebook 02: projection, scaling, softmax, causal attention, rotary positions."""

import numpy as np

from llmnotes.attention import attention, causal_mask, rotary, rotary_frequencies, softmax
from llmnotes.exercises.exercise import Answer, Exercise, recognize

YEARS = [70, 39, 72, 48, 79, 10, 30, 70, 46, 21]
KILOGRAMS = [91, 67, 80, 42, 77, 98, 90, 65, 59, 70]
CENTIMETRES = [146, 172, 186, 190, 185, 161, 174, 199, 190, 149]
PEOPLE = np.array([YEARS, KILOGRAMS, CENTIMETRES], dtype=float).T
SCORES = np.array([[1.0, 2.0, 4.0], [0.5, 0.25, 3.0]])
Q, K, V = np.random.default_rng(7).normal(size=(3, 5, 4))  # 5 tokens, 4 numbers
WORDS = np.random.default_rng(8).normal(size=(4, 6))  # 4 tokens, 6 numbers
POSITIONS = np.array([0, 1, 2, 9])


def check_without(answer: Answer) -> str | None:
    """Return None for what is left without the direction, or which mistake the numbers look like."""
    direction = np.array([2.0, -1.0, 0.5, 1.0])
    length = np.linalg.norm(direction)
    dots = (K @ direction)[:, None]
    shadows = dots / length**2 * direction
    mistakes = {
        "no_length": K - dots * direction,
        "one_length": K - dots / length * direction,
        "shadow": shadows,
        "direction": K - direction,
        "added": K + shadows,
        "numbers": K - dots / length**2,
    }
    return recognize(answer(K.copy(), direction), K - shadows, mistakes)


def _most_alike(table: np.ndarray, cosine: bool = True, least: bool = False, itself: bool = False) -> np.ndarray:
    scores = table @ table.T
    if cosine:
        scores = scores / np.linalg.norm(table, axis=1)
    if not itself:
        np.fill_diagonal(scores, np.inf if least else -np.inf)
    return scores.argmin(axis=1) if least else scores.argmax(axis=1)


def check_most_alike(answer: Answer) -> str | None:
    """Return None for the right neighbours, or which mistake they come from."""
    scaled = (PEOPLE - PEOPLE.mean(axis=0)) / PEOPLE.std(axis=0)
    by_row = (PEOPLE - PEOPLE.mean(axis=1, keepdims=True)) / PEOPLE.std(axis=1, keepdims=True)
    apart = np.linalg.norm(scaled[:, None] - scaled, axis=2)
    np.fill_diagonal(apart, np.inf)
    mistakes = {
        "itself": _most_alike(scaled, itself=True),
        "distance": apart.argmin(axis=1),
        "unscaled": _most_alike(PEOPLE),
        "raw_dot": _most_alike(PEOPLE, cosine=False),
        "long_ones": _most_alike(scaled, cosine=False),
        "rows": _most_alike(by_row),
        "zero": _most_alike(PEOPLE / PEOPLE.std(axis=0)),
        "least": _most_alike(scaled, least=True),
    }
    return recognize([answer(PEOPLE.copy(), who) for who in range(len(PEOPLE))], _most_alike(scaled), mistakes)


def check_softmax(answer: Answer) -> str | None:
    """Return None for a softmax that survives large scores, or which mistake the numbers look like."""
    grown = np.exp(SCORES)
    mistakes = {
        "columns": softmax(SCORES, axis=0),
        "whole_table": grown / grown.sum(),
        "unshared": grown,
        "no_exp": SCORES / SCORES.sum(axis=1, keepdims=True),
        "fixed": np.full(SCORES.shape, np.nan),  # 1,000 subtracted: every exponential is 0
    }
    large = [  # tables that a softmax must survive, and the mistake of one that does not
        ("overflow", SCORES + 1000),
        ("overflow", np.array([[1000.0, 0.0, -1000.0], [0.0, 1000.0, 999.0]])),  # far apart in a row
        ("fixed", SCORES - 1000),
        ("one_shift", SCORES + np.array([[1000], [-1000]])),
    ]
    with np.errstate(all="ignore"):
        key = recognize(answer(SCORES.copy()), softmax(SCORES), mistakes)
        for mistake, scores in large:
            key = key or recognize(answer(scores), softmax(scores), {}, mistake)
    return key


def check_causal_attention(answer: Answer) -> str | None:
    """Return None for causal attention, or which mistake the numbers look like."""
    mask = causal_mask(len(Q))
    scores = Q @ K.T / np.sqrt(Q.shape[1])
    with np.errstate(all="ignore"):
        mistakes = {
            "unscaled": softmax(np.where(mask, Q @ K.T, -np.inf)) @ V,
            "by_d": softmax(np.where(mask, Q @ K.T / Q.shape[1], -np.inf)) @ V,
            "ahead": attention(Q, K, V)[0],
            "after": (softmax(scores) * mask) @ V,
            "zero": softmax(scores * mask) @ V,
            "future": softmax(np.where(mask.T, scores, -np.inf)) @ V,
        }
        return recognize(answer(Q.copy(), K.copy(), V.copy()), attention(Q, K, V, mask)[0], mistakes)


def _neighbours(x: np.ndarray, positions: np.ndarray) -> np.ndarray:
    angles = positions[:, None] * rotary_frequencies(x.shape[1])
    first, second = x[:, 0::2], x[:, 1::2]
    turned = [first * np.cos(angles) - second * np.sin(angles), first * np.sin(angles) + second * np.cos(angles)]
    return np.stack(turned, axis=-1).reshape(x.shape)


def check_rotate(answer: Answer) -> str | None:
    """Return None for Llama's rotation, or which mistake the numbers look like."""
    dim = WORDS.shape[1]
    mistakes = {
        "neighbours": _neighbours(WORDS, POSITIONS),
        "backwards": rotary(WORDS, -POSITIONS),
        "slow": rotary(WORDS, POSITIONS, 10_000.0 ** (-np.arange(dim // 2) / dim)),
        "one_speed": rotary(WORDS, POSITIONS, np.ones(dim // 2)),
        "no_position": rotary(WORDS, np.ones(len(WORDS))),
    }
    return recognize(answer(WORDS.copy(), POSITIONS.copy()), rotary(WORDS, POSITIONS), mistakes)


EXERCISES = [
    Exercise(
        id="02.1",
        title="Remove a direction",
        level="easy",
        minutes=10,
        task="""Write `without(vectors, direction)`. `vectors` is `(n, d)`, `direction` `(d,)` and of any length. Take
from each row its shadow on the direction, so that what is left is orthogonal to it. One line will do.""",
        clue="Section 02.2 does it for one vector. `vectors @ direction` is n dot products at once.",
        name="without",
        stub='''def without(vectors, direction):
    """Return vectors (n, d) with nothing left in them along direction (d,)."""
    ...''',
        solution="""import numpy as np


def without(vectors, direction):
    return vectors - np.outer(vectors @ direction / (direction @ direction), direction)""",
        check=check_without,
        hints={
            "no_length": "right for a direction of length 1. For a longer one, too much is taken away.",
            "one_length": "the direction comes in twice, in the dot product and as an arrow, each with its length.",
            "shadow": "these are the shadows themselves. What is left when they are gone?",
            "direction": "this takes the same arrow from every row. How much of it is in a row?",
            "added": "now there is twice as much of the direction in every row: check the sign.",
            "numbers": "one number is taken from all coordinates of a row. A shadow is an arrow along the direction.",
            "other": "the rows differ. Every row of the result must have the dot product 0 with the direction.",
        },
    ),
    Exercise(
        id="02.2",
        title="Who is most like whom?",
        level="medium",
        minutes=10,
        task="""Write `most_alike(people, who)`. `people` is a table with one row for each person and any columns
(years, kilograms, centimetres). Scale every column to mean 0 and standard deviation 1, compare with the cosine, and
return the row number of the person who is most like row `who`, and is somebody else.""",
        clue="Section 02.3 does it for four people. `people.mean(axis=0)` has one number for each column.",
        name="most_alike",
        stub='''def most_alike(people, who):
    """Return the row of the person most like row `who`; people is (n, columns)."""
    ...''',
        solution='''import numpy as np


def most_alike(people, who):
    """Return the row of the person most like row `who`; people is (n, columns)."""
    scaled = (people - people.mean(axis=0)) / people.std(axis=0)
    scores = scaled @ scaled[who] / np.linalg.norm(scaled, axis=1)
    scores[who] = -np.inf
    return int(scores.argmax())''',
        check=check_most_alike,
        hints={
            "itself": "everybody is most like themselves. Take row `who` out of the contest.",
            "unscaled": "the columns still have their own units, so the one with large numbers decides.",
            "raw_dot": "this is the raw dot product: whoever is old, heavy and tall is everybody's friend.",
            "long_ones": "the columns are scaled, the lengths are not. Unusual people have long vectors and win.",
            "rows": "this scales each person. Kilograms compare with the kilograms of others: scale each column.",
            "zero": "the spread is right, the middle is not: while all numbers are positive, all people look alike.",
            "least": "this returns the person who is least alike.",
            "distance": "the columns are scaled well, and then this compares by distance, where the length of an arrow "
            "counts, too. Asked for is the cosine.",
            "other": "the rows differ. Print the scaled table: each column must have mean 0 and standard deviation 1.",
        },
    ),
    Exercise(
        id="02.3",
        title="Softmax that does not overflow",
        level="medium",
        minutes=10,
        task="""Write `stable_softmax(scores)` for a table of scores, one row for each query: every row of the result is
`exp(score)`, shared out so that the row sums to 1. It must survive scores near 1,000, where `exp` is infinite, scores
near −1,000, where it is 0, and a table that has both.""",
        clue="Adding the same number to all scores of a row changes nothing in the result. Which number is a good one?",
        name="stable_softmax",
        stub='''def stable_softmax(scores):
    """Return the softmax of each row of scores, (queries, keys)."""
    ...''',
        solution='''import numpy as np


def stable_softmax(scores):
    """Return the softmax of each row of scores, (queries, keys)."""
    grown = np.exp(scores - scores.max(axis=1, keepdims=True))
    return grown / grown.sum(axis=1, keepdims=True)''',
        check=check_softmax,
        hints={
            "columns": "here every column sums to 1. Each query shares out its own look: a row is what must sum to 1.",
            "whole_table": "here the whole table sums to 1. Each row shares out its own 1.",
            "unshared": "the exponentials are there, nobody has shared them out yet.",
            "no_exp": "this shares out the scores themselves. With a negative score a share would be negative, too.",
            "overflow": "right for small scores. At 1,000 the exponential is inf, and inf divided by inf is nan.",
            "fixed": "a fixed number helps the scores near it and drowns all others: far below it every exponential "
            "is 0, and 0 divided by 0 is nan. Let the scores choose the number.",
            "one_shift": "right while all rows are of a size. Where one row is far above another, a number that suits "
            "the first drowns the second.",
            "other": "the numbers differ. By hand: the scores 0 and 0 give the shares 0.5 and 0.5.",
        },
    ),
    Exercise(
        id="02.4",
        title="Causal attention",
        level="hard",
        minutes=20,
        task="""Write `causal_attention(q, k, v)` for one head with NumPy alone: scores, the division, the mask, the
softmax, the mixture of values. All three are `(tokens, d)`, and so is the result. No token may look at a later one.""",
        clue="`np.tri(tokens)` has ones where a token may look; `np.where(condition, a, b)` chooses between two.",
        name="causal_attention",
        stub='''def causal_attention(q, k, v):
    """Return what each token receives; q, k and v are (tokens, d), and no token looks ahead."""
    ...''',
        solution='''import numpy as np


def causal_attention(q, k, v):
    """Return what each token receives; q, k and v are (tokens, d), and no token looks ahead."""
    tokens, d = q.shape
    scores = np.where(np.tri(tokens), q @ k.T / np.sqrt(d), -np.inf)
    weights = np.exp(scores)
    weights = weights / weights.sum(axis=1, keepdims=True)
    return weights @ v''',
        check=check_causal_attention,
        hints={
            "unscaled": "right, except that the scores are divided by nothing. Section 02.8 says by what, and why.",
            "by_d": "the scores are divided by too much: a sum of d random products grows with √d, not with d.",
            "ahead": "every token sees the whole text, its own future included. Where is the mask?",
            "after": "the weights of the future are gone, and what they had is lost: the rows no longer sum to 1.",
            "zero": "a score of 0 is no ban: its exponential is 1. Which score has the exponential 0?",
            "future": "the triangle is the wrong one: here the tokens see the future and not the past.",
            "other": "the numbers differ. The first token sees itself only: its result must be the first row of v.",
        },
    ),
    Exercise(
        id="02.5",
        title="Turn by position",
        level="hard",
        minutes=20,
        task="""Write `rotate(x, positions)` as Llama does it. `x` is `(tokens, d)`. The numbers `i` and `i + d/2` of a
token are the two coordinates of one arrow, which turns counterclockwise by `position * 10000 ** (-2i / d)` radians.""",
        clue="An arrow (a, b) turned by an angle t becomes (a·cos t − b·sin t, a·sin t + b·cos t).",
        name="rotate",
        stub='''def rotate(x, positions):
    """Return x (tokens, d), where each pair of a token is turned by its position."""
    ...''',
        solution='''import numpy as np


def rotate(x, positions):
    """Return x (tokens, d), where each pair of a token is turned by its position."""
    d = x.shape[1]
    angles = positions[:, None] * 10_000.0 ** (-2 * np.arange(d // 2) / d)  # (tokens, d / 2)
    cos, sin = np.cos(angles), np.sin(angles)
    first, second = x[:, :d // 2], x[:, d // 2:]
    return np.concatenate([first * cos - second * sin, first * sin + second * cos], axis=1)''',
        check=check_rotate,
        hints={
            "neighbours": "this pairs neighbours, 2i with 2i + 1, as the paper does, and GGUF files of Llama models. "
            "Llama in transformers pairs the first half with the second.",
            "backwards": "this turns clockwise. One of the two sines wants the other sign.",
            "slow": "the angles shrink too slowly from pair to pair: there is a 2 in the exponent.",
            "one_speed": "all pairs turn equally fast. Then a distance of 6.28 tokens would look like no distance.",
            "no_position": "every token is turned by the same angle. Where did its position go?",
            "other": "the numbers differ. A turned arrow keeps its length, and at position 0 nothing moves. Here?",
        },
    ),
]
