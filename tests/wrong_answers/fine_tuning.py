"""Typical wrong answers to the exercises of notebook 17: {exercise: {key of its hint: source}}."""


def _adapted(line: str) -> str:
    return f'''def adapted(x, weight, a, b, alpha):
    """Return x (tokens, in) through weight (out, in) with the update of a (r, in) and b (out, r) beside it."""
    {line}'''


_LABELS = '''def labels(ids, user, assistant, end):
    """Return a label for each token: its id where the loss falls on it, else -100."""
    found, inside = [], False
    for token in ids:
        {append}
        {state}
    return {last}'''
_APPEND, _STATE = (
    "found.append(token if inside else -100)",
    "inside = (inside or token == assistant) and token != end",
)


def _labels(append: str = _APPEND, state: str = _STATE, last: str = "found") -> str:
    return _LABELS.format(append=append, state=state, last=last)


def _count(line: str) -> str:
    return f'''def learning(layers, r):
    """Return how many numbers LoRA of rank r trains beside layers, each (in, out)."""
    return {line}'''


_JOINED = '''import numpy as np


def joined(first, second):
    """Return (a, b) of one adapter, scale 1, whose update is the sum of two; each comes as (a, b, scale)."""
    (a1, b1, s1), (a2, b2, s2) = first, second
    {line}'''


def _joined(line: str) -> str:
    return _JOINED.format(line=line)


WRONG = {
    "17.1": {
        "no_scale": _adapted("return x @ weight.T + x @ a.T @ b.T"),
        "alpha_alone": _adapted("return x @ weight.T + alpha * (x @ a.T @ b.T)"),
        "stabilized": _adapted("return x @ weight.T + alpha / len(a) ** 0.5 * (x @ a.T @ b.T)"),
        "upside_down": _adapted("return x @ weight.T + len(a) / alpha * (x @ a.T @ b.T)"),
        "scaled_base": _adapted("return alpha / len(a) * (x @ weight.T + x @ a.T @ b.T)"),
        "update_alone": _adapted("return alpha / len(a) * (x @ a.T @ b.T)"),
        "base_alone": _adapted("return x @ weight.T"),
        "other_size": _adapted("return x @ weight.T + alpha / a.shape[1] * (x @ a.T @ b.T)"),
        "other_side": _adapted("return x @ weight.T + alpha / len(b) * (x @ a.T @ b.T)"),
        "other": _adapted("return x @ weight.T - alpha / len(a) * (x @ a.T @ b.T)"),
    },
    "17.2": {
        "all": _labels("found.append(token)"),
        "question": _labels("found.append(-100 if inside else token)"),
        "shifted": _labels(last="found[1:] + [-100]"),
        "no_end": _labels("found.append(token if inside and token != end else -100)"),
        "with_mark": _labels("found.append(token if inside or token == assistant else -100)"),
        "first_alone": _labels(
            "found.append(token if inside and end not in ids[:len(found)] else -100)",
            "inside = inside or token == assistant",
        ),
        "zeros": _labels("found.append(token if inside else 0)"),
        "left_out": _labels(last="[label for label in found if label != -100]"),
        "other": _labels(state="inside = token != user and (inside or token == assistant)"),
    },
    "17.3": {
        "all_weights": _count("sum(inputs * outputs for inputs, outputs in layers)"),
        "only_a": _count("sum(r * inputs for inputs, outputs in layers)"),
        "only_b": _count("sum(outputs * r for inputs, outputs in layers)"),
        "update": _count("sum(r * inputs * outputs for inputs, outputs in layers)"),
        "square": _count("sum(r * r * (inputs + outputs) for inputs, outputs in layers)"),
        "per_rank": _count("sum(inputs + outputs for inputs, outputs in layers)"),
        "other": _count("len(layers) * r"),
    },
    "17.4": {
        "shapes": _joined("return np.vstack([a1, a2]), s1 * b1"),
        "dense": _joined("return np.eye(a1.shape[1]), s1 * b1 @ a1 + s2 * b2 @ a2"),
        "no_scale": _joined("return np.vstack([a1, a2]), np.hstack([b1, b2])"),
        "twice": _joined("return np.vstack([s1 * a1, s2 * a2]), np.hstack([s1 * b1, s2 * b2])"),
        "one_scale": _joined("return np.vstack([a1, a2]), s1 * np.hstack([b1, b2])"),
        "mean": _joined("return np.vstack([a1, a2]), np.hstack([s1 * b1, s2 * b2]) / 2"),
        "first_alone": _joined("return a1, s1 * b1"),
        "other": _joined("return np.vstack([a2, a1])[::-1], np.hstack([s1 * b1, s2 * b2])"),
    },
}
