"""Typical wrong answers to the exercises of lesson 05: {exercise: {key of its hint: source}}."""


def _def(head: str, *lines: str) -> str:
    body = "\n    ".join(lines)
    return f"import numpy as np\n\nfrom llmnotes.attention import softmax\n\n\ndef {head}:\n    {body}"


def _rotate(
    angles: str = "(start + np.arange(x.shape[-2]))[:, None] * 10_000.0 ** (-2 * np.arange(half) / x.shape[-1])",
    halves: str = "x[..., :half], x[..., half:]",
    last: str = "return np.concatenate([first * cos - second * sin, first * sin + second * cos], axis=-1)",
) -> str:
    return _def(
        "rotate(x, start=0)",
        "half = x.shape[-1] // 2",
        f"angles = {angles}",
        "cos, sin = np.cos(angles), np.sin(angles)",
        f"first, second = {halves}",
        last,
    )


WRONG = {
    "05.1": {
        "neighbours": _rotate(
            halves="x[..., 0::2], x[..., 1::2]",
            last="return np.stack([first * cos - second * sin, first * sin + second * cos], axis=-1).reshape(x.shape)",
        ),
        "backwards": _rotate(
            last="return np.concatenate([first * cos + second * sin, second * cos - first * sin], axis=-1)"
        ),
        "slow": _rotate(
            angles="(start + np.arange(x.shape[-2]))[:, None] * 10_000.0 ** (-np.arange(half) / x.shape[-1])"
        ),
        "one_speed": _rotate(angles="(start + np.arange(x.shape[-2]))[:, None] * np.ones(half)"),
        "no_start": _rotate(angles="np.arange(x.shape[-2])[:, None] * 10_000.0 ** (-np.arange(half) / half)"),
        "no_position": _rotate(angles="10_000.0 ** (-np.arange(half) / half)"),
        "from_one": _rotate(
            angles="(start + 1 + np.arange(x.shape[-2]))[:, None] * 10_000.0 ** (-np.arange(half) / half)"
        ),
    },
}
