"""The exercises of lesson 05: turning by position, and two layouts of the same turning."""

import numpy as np

from llmnotes.attention import rotary, rotary_frequencies, rotate
from llmnotes.exercises.attention import closely, quietly
from llmnotes.exercises.exercise import Answer, Exercise, Verdict

_RNG = np.random.default_rng(7)
_WORDS = _RNG.normal(size=(2, 4, 6))  # 2 heads, 4 tokens, 6 numbers
_MORE = _RNG.normal(size=(3, 5, 8))
_HEADLESS = [(_WORDS[0],), (_WORDS[1], 5), (_MORE[0], 2, 4.0)]
_HEADS = [(_WORDS,), (_WORDS, 5), (_MORE, 2, 4.0)]
_LONG = [(_RNG.normal(size=(2, 30, 64)), 0, 100_000)]  # as in the lesson: 30 tokens, a base that is a whole number
_MATRICES = [(np.arange(24.0).reshape(12, 2), 6), (_RNG.normal(size=(16, 5)), 8), (_RNG.normal(size=(12, 12)), 6)]


def _angles(x: np.ndarray, start: int, base: float) -> np.ndarray:
    return _positions(x, start)[:, None] * rotary_frequencies(x.shape[-1], base)


def _turned(x: np.ndarray, angles: np.ndarray, neighbours: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Return the new first and second coordinates of all pairs."""
    first, second = (x[..., 0::2], x[..., 1::2]) if neighbours else np.split(x, 2, axis=-1)
    return first * np.cos(angles) - second * np.sin(angles), first * np.sin(angles) + second * np.cos(angles)


def _woven(x: np.ndarray, start: int = 0, base: float = 10_000.0, neighbours: bool = True) -> np.ndarray:
    return np.stack(_turned(x, _angles(x, start, base), neighbours), axis=-1).reshape(x.shape)


def _reused(which: int) -> Answer:
    """Return a rotation that computes one coordinate from the other's new value."""

    def turns(x: np.ndarray, start: int = 0, base: float = 10_000.0) -> np.ndarray:
        first, second = np.split(x, 2, axis=-1)
        cos, sin = np.cos(_angles(x, start, base)), np.sin(_angles(x, start, base))
        if which == 0:
            first = first * cos - second * sin
            return np.concatenate([first, first * sin + second * cos], axis=-1)
        second = first * sin + second * cos
        return np.concatenate([first * cos - second * sin, second], axis=-1)

    return turns


def _positions(x: np.ndarray, start: int) -> np.ndarray:
    return start + np.arange(x.shape[-2])


def check_rotate(answer: Answer) -> str | Verdict | None:
    """Return None for Llama's rotation, or which mistake the numbers look like."""

    def by(speeds, positions=_positions) -> Answer:
        """Return a rotation with the speeds that a function of (i, d, base) gives."""

        def turns(x: np.ndarray, start: int = 0, base: float = 10_000.0) -> np.ndarray:
            d = x.shape[-1]
            return rotary(x, positions(x, start), speeds(np.arange(d // 2), d, base))

        return turns

    def right(i, d, base):
        return base ** (-2 * i / d)

    mistakes: dict[str, Answer] = {
        "no_base": by(lambda i, d, base: right(i, d, 10_000.0)),
        "neighbours": _woven,
        "woven": lambda x, start=0, base=10_000.0: _woven(x, start, base, neighbours=False),
        "joined": lambda x, start=0, base=10_000.0: np.concatenate(_turned(x, _angles(x, start, base), True), axis=-1),
        "order": lambda x, start=0, base=10_000.0: np.roll(rotate(x, start, base), x.shape[-1] // 2, axis=-1),
        "reused": _reused(0),
        "reused 1": _reused(1),
        "unturned": lambda x, start=0, base=10_000.0: x,
        "backwards": by(right, lambda x, start: -_positions(x, start)),
        "degrees": by(lambda i, d, base: right(i, d, base) * np.pi / 180),
        "to_degrees": by(lambda i, d, base: right(i, d, base) * 180 / np.pi),
        "slow": by(lambda i, d, base: base ** (-i / d)),
        "fast": by(lambda i, d, base: base ** (-4 * i / d)),
        "typed": by(lambda i, d, base: base ** (-2 * i / 64)),
        "typed 1": by(lambda i, d, base: base ** (-i / 64)),
        "below": lambda x, start=0, base=10_000.0: np.concatenate(_turned(x, _angles(x, start, base))),
        "grows": by(lambda i, d, base: base ** (2 * i / d)),
        "precedence": by(lambda i, d, base: base**-2.0 * i / d),
        "one_speed": by(lambda i, d, base: np.ones(len(i))),
        "no_start": by(right, lambda x, start: _positions(x, 0)),
        "no_position": by(right, lambda x, start: start + np.zeros(x.shape[-2])),
        "no_position 1": by(right, lambda x, start: np.ones(x.shape[-2])),
        "no_position 2": by(right, lambda x, start: start + np.ones(x.shape[-2])),
        "from_one": by(right, lambda x, start: _positions(x, start + 1)),
    }
    try:
        if (verdict := quietly(answer, rotate, _HEADLESS, mistakes)) is not None:
            return verdict
    except (ValueError, IndexError):
        if quietly(answer, rotate, _HEADS, {}) is None:
            return "headless"
        raise
    try:
        verdict = quietly(answer, rotate, _HEADS, {})
    except (ValueError, IndexError):  # right for one head
        return "len"
    return verdict or closely(answer, rotate, [*_HEADLESS, *_HEADS, *_LONG], to=1e-5)


def _to_halves(matrix: np.ndarray, size: int) -> np.ndarray:
    heads = matrix.reshape(-1, size, matrix.shape[1])
    return np.concatenate([heads[:, 0::2], heads[:, 1::2]], axis=1).reshape(matrix.shape)


def _joined(matrix: np.ndarray, size: int, axis: int) -> np.ndarray:
    heads = matrix.reshape(-1, size, matrix.shape[1])
    return np.concatenate([heads[:, 0::2], heads[:, 1::2]], axis=axis)


def _to_neighbours(matrix: np.ndarray, size: int) -> np.ndarray:
    heads = matrix.reshape(-1, size, matrix.shape[1])
    return np.stack([heads[:, : size // 2], heads[:, size // 2 :]], axis=2).reshape(matrix.shape)


def check_to_halves(answer: Answer) -> str | Verdict | None:
    """Return None for rows sorted by halves within each head, or which mistake it is."""
    mistakes: dict[str, Answer] = {
        "back": _to_neighbours,
        "whole": lambda matrix, size: np.concatenate([matrix[0::2], matrix[1::2]]),
        "odd_first": lambda matrix, size: np.roll(
            _to_halves(matrix, size).reshape(-1, size, matrix.shape[1]), size // 2, axis=1
        ).reshape(matrix.shape),
        "columns": lambda matrix, size: np.concatenate([matrix[:, 0::2], matrix[:, 1::2]], axis=1),
        "unchanged": lambda matrix, size: matrix,
        "axis": lambda matrix, size: _joined(matrix, size, 0),
        "axis 1": lambda matrix, size: _joined(matrix, size, 2),
        "shape": lambda matrix, size: _to_halves(matrix, size).reshape(-1, size, matrix.shape[1]),
    }
    return quietly(answer, _to_halves, _MATRICES, mistakes)


EXERCISES = [
    Exercise(
        id="05.1",
        title="Turn by position",
        level="hard",
        minutes=20,
        task="""Write `rotate(x, start=0, base=10_000.0)` as Pebble and Llama do it. `x` is `(tokens, d)` or
`(heads, tokens, d)`, and its first token stands at position `start`. Numbers `i` and `i + d/2` of a token are the two
coordinates of one arrow. It turns by its position times `base ** (-2 * i / d)`, in radians. If yours is right, the
lesson goes on with it.

Two notations that help: in `x[..., :3]` the dots stand for all the axes before, and `a[:, None]` makes a column of a
row of numbers. And our `turn` takes whole tables, too: `turn((first, second), angles)`.""",
        clue="The angles are a table `(tokens, d/2)`: `positions[:, None] * speeds`. `x[..., :half]` are all first "
        "coordinates, `x[..., half:]` all second ones; turn them as `turn` does, and join them with `np.concatenate`.",
        name="rotate",
        stub='''def rotate(x, start=0, base=10_000.0):
    """Return x with each pair of every token turned by the token's position."""
    ...''',
        solution='''def rotate(x, start=0, base=10_000.0):
    """Return x with each pair of every token turned by the token's position."""
    half = x.shape[-1] // 2
    positions = start + np.arange(x.shape[-2])
    angles = positions[:, None] * base ** (-np.arange(half) / half)
    cos, sin = np.cos(angles), np.sin(angles)
    first, second = x[..., :half], x[..., half:]
    pairs = [first * cos - second * sin, first * sin + second * cos]
    return np.concatenate(pairs, axis=-1)''',
        given="import numpy as np",
        check=check_rotate,
        kept=True,
        hints={
            "no_base": "right for a base of 10,000. Other models have another one: use the argument `base`.",
            "neighbours": "this pairs neighbours, 2i with 2i + 1, as the first paper does. Pebble and Llama pair "
            "number i with number i + d/2.",
            "woven": "the pairs are right, but they come out side by side. The first coordinates belong into the first "
            "half and the second ones into the second, where they came from.",
            "joined": "this takes neighbours for pairs, 2i and 2i + 1. Pebble and Llama pair number i with i + d/2.",
            "order": "the halves have changed places: the first coordinates come first.",
            "reused": "one coordinate is computed from the new value of the other. It needs the old one: keep both "
            "until you have turned them.",
            "unturned": "nothing is turned, or by next to nothing. Print the angles: at position 1, pair 0 turns by 1.",
            "headless": "right with heads. `(tokens, d)` has one axis less, so count from the end: the number of "
            "tokens is `x.shape[-2]`.",
            "backwards": "this turns clockwise. One of the two sines wants the other sign.",
            "degrees": "the angles are radians already, and here they are turned into radians once more.",
            "to_degrees": "the angles are turned into degrees, and `np.cos` and `np.sin` take radians.",
            "slow": "the angles shrink too slowly from pair to pair: the exponent is -2i/d, with a 2.",
            "fast": "the angles shrink too fast from pair to pair: the exponent is -2i/d, where i counts the pairs and "
            "d all the numbers.",
            "grows": "the angles grow from pair to pair: the exponent is -2i/d, with a minus.",
            "precedence": "Python takes the power first: `base ** -2 * i / d` is `(base ** -2) * i / d`. The whole "
            "exponent needs brackets.",
            "one_speed": "all pairs turn equally fast. Pair i turns by base ** (-2i/d) for each position.",
            "typed": "the speeds are those of a head of 64 numbers, which is right for Pebble only. Take d from x: "
            "`x.shape[-1]`.",
            "below": "the two halves stand below each other: `np.concatenate` joins along axis 0, unless you say "
            "`axis=-1`.",
            "no_start": "right for start=0. A text that begins at position 5 is turned as if it began at 0.",
            "no_position": "every token is turned by the same angle. Token 3 should be turned three times as far as "
            "token 1.",
            "from_one": "everything stands one position too late: the first token stands at `start` itself.",
            "len": "right for one head. With heads, the first axis counts the heads: the number of tokens is "
            "`x.shape[-2]`.",
        },
    ),
    Exercise(
        id="05.2",
        title="A file with the other layout",
        level="medium",
        minutes=12,
        task="""*A task from work.* You convert a model's file. The program that wrote it pairs neighbours: numbers
`2i` and `2i + 1` of a head are one arrow. GGUF files of Llama models are like that, and so were Meta's own. Your class
pairs `i` with `i + d/2`, so with this file it would talk nonsense. But a query's numbers come in the order of the rows
of `W_q`, and those you can sort.

Write `to_halves(matrix, size)`. `matrix` is `W_q` or `W_k`, and each head owns `size` rows of it. Within each head, put
the rows 0, 2, 4 … first and the rows 1, 3, 5 … behind them. With two heads of 4, the rows come in the order 0 2 1 3,
4 6 5 7.""",
        clue="`matrix.reshape(-1, size, matrix.shape[1])` is (heads, rows, columns). Then `[:, 0::2]` takes every "
        "second row of each head, from row 0 on. `np.concatenate` along axis 1 joins two such pieces.",
        name="to_halves",
        stub='''def to_halves(matrix, size):
    """Return the rows of W_q or W_k sorted from neighbours to halves, head by head."""
    ...''',
        solution='''def to_halves(matrix, size):
    """Return the rows of W_q or W_k sorted from neighbours to halves, head by head."""
    heads = matrix.reshape(-1, size, matrix.shape[1])
    sorted_heads = np.concatenate([heads[:, 0::2], heads[:, 1::2]], axis=1)
    return sorted_heads.reshape(matrix.shape)''',
        given="import numpy as np",
        check=check_to_halves,
        hints={
            "back": "this is the way back, from halves to neighbours. With heads of 4 both are the same, but not with "
            "longer ones.",
            "whole": "the even rows of all heads come first, and then the odd rows of all, so heads get rows of other "
            "heads. Sort within each head. Where it is cut into heads already, axis 1 has the rows.",
            "odd_first": "the odd rows come first here. Row 0 of a head stays at its top.",
            "axis": "the two pieces are joined along the wrong axis. Axis 0 counts the heads (`np.concatenate` takes "
            "it if you name none), axis 1 the rows, axis 2 the columns. It's the rows: `axis=1`.",
            "unchanged": "the rows come back in the order in which they went in. Two ways lead there: joining along "
            "axis 2 puts each row beside its neighbour again, and `reshape(size, -1, …)` takes the rows of a head for "
            "the heads.",
            "columns": "this sorts columns, which belong to the numbers of x. A head's numbers are the rows.",
            "shape": "the rows are sorted. Now the heads have to be one matrix again: `reshape(matrix.shape)`.",
        },
    ),
]
