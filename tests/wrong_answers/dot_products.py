"""Typical wrong answers to the exercises of notebook 02: {exercise: {key of its hint: source}}."""


def _def(head: str, line: str) -> str:
    return f"import numpy as np\n\n\ndef {head}:\n    return {line}"


def _without_source(shadows: str) -> str:
    return _def("without(vectors, direction)", f"vectors - {shadows}")


_MOST_ALIKE = '''import numpy as np


def most_alike(people, who):
    """Return the row of the person most like row `who`; people is (n, columns)."""
    {scale}
    scores = scaled @ scaled[who]{share}
    {last}'''
_SCALE = "scaled = (people - people.mean(axis=0)) / people.std(axis=0)"
_SHARE = " / np.linalg.norm(scaled, axis=1)"
_LAST = "scores[who] = -np.inf\n    return int(scores.argmax())"


def _most_alike_source(scale: str = _SCALE, share: str = _SHARE, last: str = _LAST) -> str:
    return _MOST_ALIKE.format(scale=scale, share=share, last=last)


def _attention_source(*lines: str) -> str:
    body = "\n    ".join(lines)
    return f'''import numpy as np


def causal_attention(q, k, v):
    """Return what each token receives; q, k and v are (tokens, d), and no token looks ahead."""
    tokens, d = q.shape
    {body}'''


_SOFTMAX_LINES = ("weights = np.exp(scores)", "weights = weights / weights.sum(axis=1, keepdims=True)")


def _shifted_source(shift: str) -> str:
    grown = f"np.exp(scores - {shift})"
    return _def("stable_softmax(scores)", f"{grown} / {grown}.sum(axis=1, keepdims=True)")


_ROTATE = '''import numpy as np


def rotate(x, positions):
    """Return x (tokens, d), where each pair of a token is turned by its position."""
    d = x.shape[1]
    angles = {angles}
    cos, sin = np.cos(angles), np.sin(angles)
    first, second = {halves}
    {last}'''
_ANGLES = "positions[:, None] * 10_000.0 ** (-2 * np.arange(d // 2) / d)  # (tokens, d / 2)"
_HALVES = "x[:, :d // 2], x[:, d // 2:]"
_JOIN = "return np.concatenate([first * cos - second * sin, first * sin + second * cos], axis=1)"


def _rotate_source(angles: str = _ANGLES, halves: str = _HALVES, last: str = _JOIN) -> str:
    return _ROTATE.format(angles=angles, halves=halves, last=last)


WRONG = {
    "02.1": {
        "no_length": _without_source("np.outer(vectors @ direction, direction)"),
        "one_length": _without_source("np.outer(vectors @ direction / np.linalg.norm(direction), direction)"),
        "shadow": _def(
            "without(vectors, direction)", "np.outer(vectors @ direction / (direction @ direction), direction)"
        ),
        "direction": _without_source("direction"),
        "added": _without_source("-np.outer(vectors @ direction / (direction @ direction), direction)"),
        "numbers": _without_source("(vectors @ direction / (direction @ direction))[:, None]"),
        "other": _without_source("vectors * direction"),
    },
    "02.2": {
        "itself": _most_alike_source(last="return int(scores.argmax())"),
        "unscaled": _most_alike_source(scale="scaled = people"),
        "raw_dot": _most_alike_source(scale="scaled = people", share=""),
        "long_ones": _most_alike_source(share=""),
        "rows": _most_alike_source(
            scale="scaled = (people - people.mean(axis=1, keepdims=True)) / people.std(axis=1, keepdims=True)"
        ),
        "zero": _most_alike_source(scale="scaled = people / people.std(axis=0)"),
        "least": _most_alike_source(last="return int(scores.argmin())"),
        "distance": _most_alike_source(share="").replace(
            "scores = scaled @ scaled[who]", "scores = -np.linalg.norm(scaled - scaled[who], axis=1)"
        ),
        "other": _most_alike_source(last="return 0"),
    },
    "02.3": {
        "columns": _def("stable_softmax(scores)", "np.exp(scores) / np.exp(scores).sum(axis=0)"),
        "whole_table": _def("stable_softmax(scores)", "np.exp(scores) / np.exp(scores).sum()"),
        "unshared": _def("stable_softmax(scores)", "np.exp(scores)"),
        "no_exp": _def("stable_softmax(scores)", "scores / scores.sum(axis=1, keepdims=True)"),
        "overflow": _def("stable_softmax(scores)", "np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)"),
        "fixed": _shifted_source("1000"),
        "one_shift": _shifted_source("scores.max()"),
        "other": _def("stable_softmax(scores)", "2 ** scores / (2 ** scores).sum(axis=1, keepdims=True)"),
    },
    "02.4": {
        "unscaled": _attention_source(
            "scores = np.where(np.tri(tokens), q @ k.T, -np.inf)", *_SOFTMAX_LINES, "return weights @ v"
        ),
        "by_d": _attention_source(
            "scores = np.where(np.tri(tokens), q @ k.T / d, -np.inf)", *_SOFTMAX_LINES, "return weights @ v"
        ),
        "ahead": _attention_source("scores = q @ k.T / np.sqrt(d)", *_SOFTMAX_LINES, "return weights @ v"),
        "after": _attention_source(
            "scores = q @ k.T / np.sqrt(d)", *_SOFTMAX_LINES, "return (weights * np.tri(tokens)) @ v"
        ),
        "zero": _attention_source(
            "scores = q @ k.T / np.sqrt(d) * np.tri(tokens)", *_SOFTMAX_LINES, "return weights @ v"
        ),
        "future": _attention_source(
            "scores = np.where(np.tri(tokens).T, q @ k.T / np.sqrt(d), -np.inf)",
            *_SOFTMAX_LINES,
            "return weights @ v",
        ),
        "other": _attention_source(
            "scores = np.where(np.tri(tokens), q @ k.T / np.sqrt(d), -np.inf)",
            *_SOFTMAX_LINES,
            "return weights @ k",
        ),
    },
    "02.5": {
        "neighbours": _rotate_source(
            halves="x[:, 0::2], x[:, 1::2]",
            last="pairs = [first * cos - second * sin, first * sin + second * cos]\n"
            "    return np.stack(pairs, axis=2).reshape(x.shape)",
        ),
        "backwards": _rotate_source(
            last="return np.concatenate([first * cos + second * sin, second * cos - first * sin], axis=1)"
        ),
        "slow": _rotate_source(angles="positions[:, None] * 10_000.0 ** (-np.arange(d // 2) / d)"),
        "one_speed": _rotate_source(angles="positions[:, None] * np.ones(d // 2)"),
        "no_position": _rotate_source(angles="10_000.0 ** (-2 * np.arange(d // 2) / d)"),
        "other": _rotate_source(
            last="return np.concatenate([first * cos + second * sin, first * sin + second * cos], axis=1)"
        ),
    },
}
