"""Typical wrong answers to the exercises of lesson 04: {exercise: {key of its hint: source}}."""


def _def(head: str, *lines: str) -> str:
    body = "\n    ".join(lines)
    return f"import numpy as np\n\nfrom llmnotes.attention import softmax\n\n\ndef {head}:\n    {body}"


def _softmax(*lines: str) -> str:
    return _def("softmax(scores)", *lines)


def _look(*lines: str, scale: str = " / np.sqrt(q.shape[-1])") -> str:
    first = f"scores = q @ k.swapaxes(-1, -2){scale}"
    return _def("look(q, k)", first, "n = scores.shape[-1]", *lines)


_MASKED = "return softmax(np.where(np.tri(n, dtype=bool), scores, -np.inf))"


def _heads_for(*lines: str) -> str:
    return _def("heads_for(x, queries, size)", *lines)


_CUT = "heads = x.reshape(len(x), -1, size).swapaxes(0, 1)"


WRONG = {
    "04.1": {
        "columns": _softmax("return np.exp(scores) / np.exp(scores).sum(axis=0)"),
        "whole": _softmax("powers = np.exp(scores - scores.max())", "return powers / powers.sum()"),
        "second": _softmax(
            "powers = np.exp(scores - scores.max(axis=-1, keepdims=True))",
            "return powers / powers.sum(axis=1, keepdims=True)",
        ),
        "unshared": _softmax("return np.exp(scores - scores.max(axis=-1, keepdims=True))"),
        "no_exp": _softmax("return scores / scores.sum(axis=-1, keepdims=True)"),
        "overflow": _softmax("return np.exp(scores) / np.exp(scores).sum(axis=-1, keepdims=True)"),
        "fixed": _softmax("powers = np.exp(scores - 1000)", "return powers / powers.sum(axis=-1, keepdims=True)"),
        "keepdims": _softmax(
            "powers = np.exp(scores - scores.max(axis=-1, keepdims=True))", "return powers / powers.sum(axis=-1)"
        ),
        "one_row": _softmax(
            "axis = 2 if scores.ndim == 3 else 1",
            "powers = np.exp(scores - scores.max(axis=axis, keepdims=True))",
            "return powers / powers.sum(axis=axis, keepdims=True)",
        ),
        "one_shift": _softmax(
            "powers = np.exp(scores - scores.max())", "return powers / powers.sum(axis=-1, keepdims=True)"
        ),
    },
    "04.2": {
        "unscaled": _look(_MASKED, scale=""),
        "by_d": _look(_MASKED, scale=" / q.shape[-1]"),
        "root_2": _look(_MASKED, scale=" / np.sqrt(2)"),
        "three": _look("n = 3", _MASKED, scale=" / np.sqrt(2)"),
        "index": _look("scores[~np.tri(n, dtype=bool)] = -np.inf", "return softmax(scores)"),
        "tokens": _look(_MASKED, scale=" / np.sqrt(q.shape[-2])"),
        "swapped": _look("scores = k @ q.swapaxes(-1, -2) / np.sqrt(q.shape[-1])", _MASKED),
        "others": _look("return softmax(np.where(np.tri(n, k=-1, dtype=bool), scores, -np.inf))"),
        "scores": _look("return np.where(np.tri(n, dtype=bool), scores, -np.inf)"),
        "turned": _def("look(q, k)", "scores = q @ k.T / np.sqrt(q.shape[-1])", "n = q.shape[-2]", _MASKED),
        "len": _look("n = len(q)", _MASKED),
        "ahead": _look("return softmax(scores)"),
        "after": _look("return softmax(scores) * np.tri(n)"),
        "zero": _look("return softmax(np.where(np.tri(n, dtype=bool), scores, 0))"),
        "future": _look("return softmax(np.where(np.tri(n, dtype=bool).T, scores, -np.inf))"),
        "numbers": _look("scores[1 - np.tri(n, dtype=int)] = -np.inf", "return softmax(scores)"),
        "columns": _look("return softmax(np.where(np.tri(n, dtype=bool), scores, -np.inf), axis=-2)"),
        "in_place": _look("scores /= np.sqrt(q.shape[-1])", _MASKED, scale=""),
        "small": _look("return softmax(np.where(np.tri(n, dtype=bool), scores, -50))"),
        "late": _look("weights = softmax(scores) * np.tri(n)", "return weights / weights.sum(axis=-1, keepdims=True)"),
        "overflow": _look("powers = np.exp(scores) * np.tri(n)", "return powers / powers.sum(axis=-1, keepdims=True)"),
        "whole": _look(
            "powers = np.exp(np.where(np.tri(n, dtype=bool), scores, -np.inf) - scores.max())",
            "return powers / powers.sum(axis=-1, keepdims=True)",
        ),
    },
    "04.3": {
        "both": _heads_for(
            "heads = x.reshape(-1, len(x), size)", "return np.tile(heads, (queries // len(heads), 1, 1))"
        ),
        "cut": _heads_for(
            "heads = x.reshape(-1, len(x), size)", "return np.repeat(heads, queries // len(heads), axis=0)"
        ),
        "order": _heads_for(_CUT, "return np.tile(heads, (queries // len(heads), 1, 1))"),
        "alone": _heads_for(_CUT, "return heads"),
        "tokens": _heads_for(
            "heads = x.reshape(len(x), -1, size)", "return np.repeat(heads, queries // heads.shape[1], axis=1)"
        ),
    },
}
