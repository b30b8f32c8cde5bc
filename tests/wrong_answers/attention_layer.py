"""Typical wrong answers to the exercises of lesson 05: {exercise: {key of its hint: source}}."""


def _def(head: str, *lines: str) -> str:
    body = "\n    ".join(lines)
    return f"import numpy as np\n\n\ndef {head}:\n    {body}"


def _rotate(
    speeds: str = "base ** (-2 * np.arange(half) / x.shape[-1])",
    positions: str = "start + np.arange(x.shape[-2])",
    halves: str = "x[..., :half], x[..., half:]",
    last: str = "return np.concatenate([first * cos - second * sin, first * sin + second * cos], axis=-1)",
    angles: str = "positions[:, None] * speeds",
) -> str:
    return _def(
        "rotate(x, start=0, base=10_000.0)",
        "half = x.shape[-1] // 2",
        f"speeds = {speeds}",
        f"positions = {positions}",
        f"angles = {angles}",
        "cos, sin = np.cos(angles), np.sin(angles)",
        f"first, second = {halves}",
        last,
    )


_WOVEN = "return np.stack([first * cos - second * sin, first * sin + second * cos], axis=-1).reshape(x.shape)"


def _to_halves(last: str, first: str = "heads = matrix.reshape(-1, size, matrix.shape[1])") -> str:
    return _def("to_halves(matrix, size)", first, last)


WRONG = {
    "05.1": {
        "no_base": _rotate(speeds="10_000.0 ** (-2 * np.arange(half) / x.shape[-1])"),
        "neighbours": _rotate(halves="x[..., 0::2], x[..., 1::2]", last=_WOVEN),
        "woven": _rotate(last=_WOVEN),
        "joined": _rotate(halves="x[..., 0::2], x[..., 1::2]"),
        "order": _rotate(
            last="return np.concatenate([first * sin + second * cos, first * cos - second * sin], axis=-1)"
        ),
        "reused": _rotate(
            last="first = first * cos - second * sin; "
            "return np.concatenate([first, first * sin + second * cos], axis=-1)"
        ),
        "backwards": _rotate(
            last="return np.concatenate([first * cos + second * sin, second * cos - first * sin], axis=-1)"
        ),
        "degrees": _rotate(angles="np.radians(positions[:, None] * speeds)"),
        "to_degrees": _rotate(angles="np.degrees(positions[:, None] * speeds)"),
        "slow": _rotate(speeds="base ** (-np.arange(half) / x.shape[-1])"),
        "fast": _rotate(speeds="base ** (-2 * np.arange(half) / half)"),
        "grows": _rotate(speeds="base ** (2 * np.arange(half) / x.shape[-1])"),
        "precedence": _rotate(speeds="float(base) ** -2 * np.arange(half) / x.shape[-1]"),
        "one_speed": _rotate(speeds="np.ones(half)"),
        "typed": _rotate(speeds="base ** (-2 * np.arange(half) / 64)"),
        "below": _rotate(last="return np.concatenate([first * cos - second * sin, first * sin + second * cos])"),
        "no_start": _rotate(positions="np.arange(x.shape[-2])"),
        "no_position": _rotate(angles="speeds"),
        "from_one": _rotate(positions="start + 1 + np.arange(x.shape[-2])"),
        "unturned": _rotate(angles="0 * positions[:, None] * speeds"),
        "headless": _rotate(positions="start + np.arange(x.shape[1])"),
        "len": _rotate(positions="start + np.arange(len(x))"),
    },
    "05.2": {
        "back": _to_halves(
            "return np.stack([heads[:, : size // 2], heads[:, size // 2 :]], axis=2).reshape(matrix.shape)"
        ),
        "whole": _to_halves("return np.concatenate([matrix[0::2], matrix[1::2]])"),
        "odd_first": _to_halves(
            "return np.concatenate([heads[:, 1::2], heads[:, 0::2]], axis=1).reshape(matrix.shape)"
        ),
        "axis": _to_halves("return np.concatenate([heads[:, 0::2], heads[:, 1::2]])"),
        "unchanged": _to_halves(
            "return np.concatenate([heads[:, 0::2], heads[:, 1::2]], axis=2).reshape(matrix.shape)"
        ),
        "columns": _to_halves("return np.concatenate([matrix[:, 0::2], matrix[:, 1::2]], axis=1)"),
        "shape": _to_halves("return np.concatenate([heads[:, 0::2], heads[:, 1::2]], axis=1)"),
    },
}
