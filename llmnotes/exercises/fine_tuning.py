"""The exercises of notebook 17: LoRA's output, what the loss falls on, how many numbers learn, two adapters in one."""

import numpy as np

from llmnotes.exercises.exercise import Answer, Exercise, recognize

RNG = np.random.default_rng(7)
X, W = RNG.normal(size=(5, 6)), RNG.normal(size=(4, 6))  # (tokens, in), (out, in)
A, B, ALPHA = RNG.normal(size=(2, 6)), RNG.normal(size=(4, 2)), 8.0
A2, B2 = RNG.normal(size=(3, 6)), RNG.normal(size=(4, 3))
IDS, SPEAKER = [0, 3, 41, 42, 43, 4, 51, 52, 5, 3, 44, 45, 4, 53, 5], "..uuu.aa.uu..a."
LAYERS = [(256, 256), (256, 128), (256, 128), (256, 256), (256, 768), (256, 768), (768, 256)]  # (in, out)


def check_adapted(answer: Answer) -> str | None:
    """Return None for the output of a layer with LoRA, or which mistake the numbers look like."""
    base, update = X @ W.T, X @ A.T @ B.T
    mistakes = {
        "no_scale": base + update,
        "alpha_alone": base + ALPHA * update,
        "stabilized": base + ALPHA / np.sqrt(2) * update,
        "upside_down": base + 2 / ALPHA * update,
        "scaled_base": ALPHA / 2 * (base + update),
        "update_alone": ALPHA / 2 * update,
        "base_alone": base,
        "other_size": base + ALPHA / 6 * update,
        "other_side": base + ALPHA / 4 * update,
    }
    return recognize(answer(X.copy(), W.copy(), A.copy(), B.copy(), ALPHA), base + ALPHA / 2 * update, mistakes)


def check_labels(answer: Answer) -> str | None:
    """Return None for labels on the answers and the mark that ends them, or which mistake they look like."""
    user, assistant, end = 3, 4, 5
    right, inside = [], False
    for token in IDS:
        right.append(token if inside else -100)
        inside = (inside or token == assistant) and token != end
    first = IDS.index(end) + 1
    mistakes = {
        "all": list(IDS),
        "question": [token if label == -100 else -100 for token, label in zip(IDS, right, strict=True)],
        "shifted": [*right[1:], -100],
        "no_end": [-100 if token == end else label for token, label in zip(IDS, right, strict=True)],
        "with_mark": [token if token == assistant else label for token, label in zip(IDS, right, strict=True)],
        "first_alone": right[:first] + [-100] * (len(IDS) - first),
        "zeros": [0 if label == -100 else label for label in right],
        "left_out": [label for label in right if label != -100],
    }
    return recognize(answer(list(IDS), user, assistant, end), right, mistakes)


def check_count(answer: Answer) -> str | None:
    """Return None for r · (in + out) over all layers, or which mistake the number looks like."""
    r = 16
    mistakes = {
        "all_weights": sum(i * o for i, o in LAYERS),
        "only_a": sum(r * i for i, _ in LAYERS),
        "only_b": sum(r * o for _, o in LAYERS),
        "update": sum(r * i * o for i, o in LAYERS),
        "square": sum(r * r * (i + o) for i, o in LAYERS),
        "per_rank": sum(i + o for i, o in LAYERS),
    }
    return recognize(answer(list(LAYERS), r), sum(r * (i + o) for i, o in LAYERS), mistakes)


def check_joined(answer: Answer) -> str | None:
    """Return None for an adapter whose update is the sum of two, or which mistake the update looks like."""
    first, second = (A.copy(), B.copy(), 3.0), (A2.copy(), B2.copy(), 0.5)
    a, b = answer(first, second)
    a, b = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    if a.ndim != 2 or b.ndim != 2 or b.shape[1] != a.shape[0]:
        return "shapes"
    if a.shape == W.shape[::-1] or a.shape[0] > len(A) + len(A2) or b.shape[0] != len(W):
        return "dense"
    one, two = B @ A, B2 @ A2
    mistakes = {
        "no_scale": one + two,
        "twice": 9 * one + 0.25 * two,
        "one_scale": 3 * (one + two),
        "mean": (3 * one + 0.5 * two) / 2,
        "first_alone": 3 * one,
    }
    return recognize(b @ a, 3 * one + 0.5 * two, mistakes)


EXERCISES = [
    Exercise(
        id="17.1",
        title="A layer with LoRA",
        level="easy",
        minutes=5,
        task="""Write `adapted(x, weight, a, b, alpha)` with NumPy: what a linear layer gives with LoRA beside it. `x`
is `(tokens, in)`, `weight` `(out, in)`, `a` `(r, in)`, `b` `(out, r)`. The rank is in the shapes.""",
        clue="Two products take `x` through `a` and then `b`. The scale is alpha over the rank.",
        name="adapted",
        stub='''def adapted(x, weight, a, b, alpha):
    """Return x (tokens, in) through weight (out, in) with the update of a (r, in) and b (out, r) beside it."""
    ...''',
        solution='''def adapted(x, weight, a, b, alpha):
    """Return x (tokens, in) through weight (out, in) with the update of a (r, in) and b (out, r) beside it."""
    return x @ weight.T + alpha / len(a) * (x @ a.T @ b.T)''',
        check=check_adapted,
        hints={
            "no_scale": "the update has no scale. What do alpha and the rank say?",
            "alpha_alone": "multiplied by alpha alone. Then a larger rank makes a larger update; divide by it.",
            "stabilized": "divided by the root of the rank: that is the rank-stabilized variant. Plain LoRA divides by "
            "the rank.",
            "upside_down": "the scale is upside down: alpha over r.",
            "scaled_base": "the frozen layer is scaled as well. The scale belongs to the update alone.",
            "update_alone": "this is the update without the layer it stands beside.",
            "base_alone": "this is the layer without its update.",
            "other_size": "divided by another size than the rank. Which axis of `a` is r?",
            "other_side": "divided by the size of the output. Which axis of `b` is r?",
            "other": "the numbers differ. With `b` all zeros the result must be `x @ weight.T`. Is it?",
        },
    ),
    Exercise(
        id="17.2",
        title="Where the loss falls",
        level="medium",
        minutes=15,
        task="""Write `labels(ids, user, assistant, end)`. `ids` is a list of token ids: a conversation in which the id
`user` begins what the user says, `assistant` what the assistant says, and `end` ends either. The loss falls on the
assistant's words and on the `end` after them; every other token has the label -100. There may be several turns.""",
        clue="Go through the tokens with a flag that says whether the assistant is speaking. When does it go up, when "
        "down, and is the token at hand labelled before or after?",
        name="labels",
        stub='''def labels(ids, user, assistant, end):
    """Return a label for each token: its id where the loss falls on it, else -100."""
    ...''',
        solution='''def labels(ids, user, assistant, end):
    """Return a label for each token: its id where the loss falls on it, else -100."""
    found, inside = [], False
    for token in ids:
        found.append(token if inside else -100)
        inside = (inside or token == assistant) and token != end
    return found''',
        check=check_labels,
        hints={
            "all": "the loss falls on everything, also on what the user says.",
            "question": "the wrong way round: this learns the questions.",
            "shifted": "each label stands one place too early. The loss shifts by itself: label i belongs to token i.",
            "no_end": "without the `end`, the model never learns to stop.",
            "with_mark": "the mark `assistant` is part of what the model is given. It need not learn to say it.",
            "first_alone": "right for the first answer. What about the next one?",
            "zeros": "0 is a token like any other, and would be learned. The loss ignores -100.",
            "left_out": "one label for each token, also for those that are not learned.",
            "other": "the labels differ. Write them down for one question and one answer by hand.",
        },
    ),
    Exercise(
        id="17.3",
        title="How many numbers learn",
        level="easy",
        minutes=5,
        task="""Write `learning(layers, r)`: how many numbers LoRA of rank `r` trains. `layers` is a list of
`(in, out)`, one pair for each linear layer it stands beside.""",
        clue="A has r rows as long as the input, B has r columns as long as the output.",
        name="learning",
        stub='''def learning(layers, r):
    """Return how many numbers LoRA of rank r trains beside layers, each (in, out)."""
    ...''',
        solution='''def learning(layers, r):
    """Return how many numbers LoRA of rank r trains beside layers, each (in, out)."""
    return sum(r * (inputs + outputs) for inputs, outputs in layers)''',
        check=check_count,
        hints={
            "all_weights": "these are the weights of the layers themselves, and they are frozen.",
            "only_a": "this counts A alone.",
            "only_b": "this counts B alone.",
            "update": "in · out is the size of the update, which is never stored. Add the two sides, do not multiply.",
            "square": "the rank is counted twice.",
            "per_rank": "right for rank 1.",
            "other": "the number differs. A layer of 4 inputs and 3 outputs at rank 2 has 2 · 4 + 3 · 2 = 14.",
        },
    ),
    Exercise(
        id="17.4",
        title="Two adapters in one",
        level="hard",
        minutes=20,
        task="""Write `joined(first, second)` with NumPy (`import numpy as np` first). Each adapter is `(a, b, scale)`
with `a` `(r, in)` and `b` `(out, r)`; the ranks may differ. Return `(a, b)` of one adapter with scale 1 that does what
both do together, without ever making an `(out, in)` matrix.""",
        clue="A product of two matrices is a sum over what they share. Stack the A's under each other; what must then "
        "happen to the B's? And where can a scale hide?",
        name="joined",
        stub='''def joined(first, second):
    """Return (a, b) of one adapter, scale 1, whose update is the sum of two; each comes as (a, b, scale)."""
    ...''',
        solution='''import numpy as np


def joined(first, second):
    """Return (a, b) of one adapter, scale 1, whose update is the sum of two; each comes as (a, b, scale)."""
    (a1, b1, s1), (a2, b2, s2) = first, second
    return np.vstack([a1, a2]), np.hstack([s1 * b1, s2 * b2])''',
        check=check_joined,
        hints={
            "shapes": "`b @ a` cannot be formed: b needs one column for each row of a.",
            "dense": "too large: the rank of the sum is at most the sum of the ranks.",
            "no_scale": "the scales are lost. The new adapter has scale 1, so they must be inside.",
            "twice": "the scales are inside both a and b, so they act twice.",
            "one_scale": "the first scale acts on both. Each adapter has its own.",
            "mean": "half of the sum. Two updates side by side add up.",
            "first_alone": "this is the first adapter alone.",
            "other": "the update differs. What does `b @ a` give for the first rank's rows alone?",
        },
    ),
]
