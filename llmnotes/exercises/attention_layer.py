"""The exercise of lesson 05: turning by position."""

import numpy as np

from llmnotes.attention import rotary, rotary_frequencies, rotate
from llmnotes.exercises.exercise import Answer, Exercise, Verdict, judge

_RNG = np.random.default_rng(7)
_WORDS = _RNG.normal(size=(2, 4, 6))  # 2 heads, 4 tokens, 6 numbers


def _quietly(answer: Answer, right: Answer, cases: list[tuple], mistakes: dict[str, Answer]) -> str | Verdict | None:
    """Judge without NumPy's warnings. Mistakes "name" and "name 2" are the same mistake, made in two ways."""
    with np.errstate(all="ignore"):
        verdict = judge(answer, right, cases, mistakes)
    return verdict.split(" ")[0] if isinstance(verdict, str) else verdict


def _neighbours(x: np.ndarray, start: int = 0) -> np.ndarray:
    angles = (start + np.arange(x.shape[-2]))[:, None] * rotary_frequencies(x.shape[-1])
    first, second = x[..., 0::2], x[..., 1::2]
    turned = [first * np.cos(angles) - second * np.sin(angles), first * np.sin(angles) + second * np.cos(angles)]
    return np.stack(turned, axis=-1).reshape(x.shape)


def _positions(x: np.ndarray, start: int) -> np.ndarray:
    return start + np.arange(x.shape[-2])


def check_rotate(answer: Answer) -> str | Verdict | None:
    """Return None for Llama's rotation, or which mistake the numbers look like."""
    half = _WORDS.shape[-1] // 2
    slow, fast = 10_000.0 ** (-np.arange(half) / (2 * half)), np.ones(half)
    mistakes: dict[str, Answer] = {
        "neighbours": _neighbours,
        "backwards": lambda x, start=0: rotary(x, -_positions(x, start)),
        "slow": lambda x, start=0: rotary(x, _positions(x, start), slow),
        "one_speed": lambda x, start=0: rotary(x, _positions(x, start), fast),
        "no_start": lambda x, start=0: rotate(x),
        "no_position": lambda x, start=0: rotary(x, start + np.zeros(x.shape[-2])),
        "no_position 1": lambda x, start=0: rotary(x, np.ones(x.shape[-2])),
        "no_position 2": lambda x, start=0: rotary(x, start + np.ones(x.shape[-2])),
        "from_one": lambda x, start=0: rotate(x, start + 1),
    }
    return _quietly(answer, rotate, [(_WORDS,), (_WORDS, 5), (_WORDS[0], 9)], mistakes)


EXERCISES = [
    Exercise(
        id="05.1",
        title="Turn by position",
        level="hard",
        minutes=20,
        task="""Write `rotate(x, start=0)` as Pebble and Llama do it. `x` is `(tokens, d)` or `(heads, tokens, d)`, and
its first token stands at position `start`. Numbers `i` and `i + d/2` of a token are the two coordinates of one arrow.
It turns by its position times `10000 ** (-2 * i / d)`. If yours is right, the lesson goes on with it.""",
        clue="The angles are a table `(tokens, d/2)`: `positions[:, None] * speeds`. `x[..., :half]` are all first "
        "coordinates, `x[..., half:]` all second ones; turn them as `turn` does, and join them with `np.concatenate`.",
        name="rotate",
        stub='''def rotate(x, start=0):
    """Return x with each pair of every token turned by the token's position."""
    ...''',
        solution='''def rotate(x, start=0):
    """Return x with each pair of every token turned by the token's position."""
    half = x.shape[-1] // 2
    positions = start + np.arange(x.shape[-2])
    angles = positions[:, None] * 10_000.0 ** (-np.arange(half) / half)
    cos, sin = np.cos(angles), np.sin(angles)
    first, second = x[..., :half], x[..., half:]
    pairs = [first * cos - second * sin, first * sin + second * cos]
    return np.concatenate(pairs, axis=-1)''',
        given="import numpy as np",
        check=check_rotate,
        kept=True,
        hints={
            "neighbours": "this pairs neighbours, 2i with 2i + 1, as the first paper does. Pebble and Llama pair "
            "number i with number i + d/2.",
            "backwards": "this turns clockwise. One of the two sines wants the other sign.",
            "slow": "the angles shrink too slowly from pair to pair: the exponent is -2i/d, with a 2.",
            "one_speed": "all pairs turn equally fast. Pair i turns by 10000 ** (-2i/d) for each position.",
            "no_start": "right for start=0. A text that begins at position 5 is turned as if it began at 0.",
            "no_position": "every token is turned by the same angle. Token 3 should be turned three times as far as "
            "token 1.",
            "from_one": "everything stands one position too late: the first token stands at `start` itself.",
        },
    ),
]
