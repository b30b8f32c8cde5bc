"""The exercises of notebook 22: where texts part, perplexity, layers on a GPU, a delta with new rows."""

import numpy as np

from llmnotes.exercises.exercise import Answer, Exercise, recognize

PAIRS = [([5, 6, 7, 8], [5, 3, 9, 8]), ([5, 6], [5, 6, 7]), ([1], [2]), ([4, 4, 4], [4, 4, 4]), ([7, 1, 2], [7, 1])]
END = 2
ENDED = [([5, 6, END], [5, 6]), ([5, 6, END, 9], [5, 6, END, 8]), ([5, END], [5, 7])]

RNG = np.random.default_rng(6)
LOGITS = RNG.normal(size=(7, 11)) * 3 + 4  # (tokens, vocabulary)
TOKENS = [3, 1, 4, 1, 5, 9, 2]

CARDS = [  # free bytes, a layer, its cache, the output, the compute buffer, layers
    (7_500_000_000, 404_783_104, 67_108_864, 262_160_384, 113_788_932, 32),
    (7_500_000_000, 121_000_000, 67_108_864, 107_000_000, 113_000_000, 32),
    (300_000_000, 404_783_104, 67_108_864, 262_160_384, 113_788_932, 32),
    (1000, 100, 10, 50, 200, 9),
    (400, 100, 10, 150, 200, 9),
    (-5, 100, 10, 50, 200, 9),
]

BASE = {"a": RNG.normal(size=(4, 3)).astype(np.float16), "b": RNG.normal(size=(3,)).astype(np.float16)}
DELTA = {
    "a": np.concatenate([RNG.normal(size=(4, 3)) / 8, RNG.normal(size=(2, 3))]).astype(np.float16),
    "b": (RNG.normal(size=(3,)) / 8).astype(np.float16),
    "c": RNG.normal(size=(2, 2)).astype(np.float16),
}


def check_part(answer: Answer) -> str | None:
    """Return None for the place where two rows of tokens part, or which mistake the numbers look like."""

    def table(function) -> list[float]:
        return [np.nan if (at := function(a, b)) is None else at for a, b in PAIRS]

    def first(a, b):
        return next((at for at, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))

    right = table(lambda a, b: first(a, b) if a != b else -1)
    mistakes = {
        "no_sign": table(first),
        "after": table(lambda a, b: first(a, b) + 1 if a != b else -1),
        "overlap": table(lambda a, b: -1 if a[: min(len(a), len(b))] == b[: min(len(a), len(b))] else first(a, b)),
        "last": table(
            lambda a, b: (
                max([at for at, (x, y) in enumerate(zip(a, b, strict=False)) if x != y], default=-1)
                if len(a) == len(b)
                else max(len(a), len(b)) - 1
            )
        ),
        "count": table(
            lambda a, b: sum(x == y for x, y in zip(a, b, strict=False)) if len(a) == len(b) else first(a, b)
        ),
    }
    found = recognize([answer(list(a), list(b), 99) for a, b in PAIRS], right, mistakes)
    if found:
        return found
    mistakes = {"end_counts": [2, 3, 1], "end_anywhere": [-1, -1, -1]}
    return recognize([answer(list(a), list(b), END) for a, b in ENDED], [-1, -1, 1], mistakes, "past_end")


def check_perplexity(answer: Answer) -> str | None:
    """Return None for the perplexity of tokens under logits, or which mistake the number looks like."""
    scores = LOGITS - np.log(np.exp(LOGITS).sum(-1, keepdims=True))
    here = scores[np.arange(7), TOKENS]
    picked = scores[np.arange(6), TOKENS[1:]]
    mistakes = {
        "not_shifted": np.exp(-here.mean()),
        "wrong_way": np.exp(-scores[np.arange(1, 7), TOKENS[:-1]].mean()),
        "loss": -picked.mean(),
        "summed": np.exp(-picked.sum()),
        "all_tokens": np.exp(-picked.sum() / 7),
        "raw": np.exp(-LOGITS[np.arange(6), TOKENS[1:]].mean()),
        "upside_down": np.exp(picked.mean()),
        "mean_of_p": 1 / np.exp(picked).mean(),
    }
    found = recognize(answer(LOGITS.copy(), list(TOKENS)), np.exp(-picked.mean()), mistakes)
    if found:
        return found
    return recognize(answer(LOGITS + 1000, list(TOKENS)), np.exp(-picked.mean()), {}, "overflow")


def check_layers(answer: Answer) -> str | None:
    """Return None for n_gpu_layers, or which mistake the numbers look like."""

    def count(free, layer, cache, output, compute, layers, *, above=1, cap=True, most=None):
        left = free - compute - output
        found = above + left // (layer + cache) if left >= 0 else 0
        return min(found, layers + 1 if most is None else layers) if cap else found

    def table(change=lambda *card: card, **how) -> list[float]:
        return [count(*change(*card), **how) for card in CARDS]

    mistakes = {
        "no_compute": table(lambda f, a, c, o, b, n: (f, a, c, o, 0, n)),
        "no_cache": table(lambda f, a, c, o, b, n: (f, a, 0, o, b, n)),
        "one_cache": [
            max(0, min(1 + (f - b - o - n * c) // a, n + 1)) if f - b - o >= 0 else 0 for f, a, c, o, b, n in CARDS
        ],
        "output_last": [
            n + 1 if f - b - n * (a + c) >= o else max(0, min((f - b) // (a + c), n)) for f, a, c, o, b, n in CARDS
        ],
        "output_not_counted": table(above=0),
        "no_cap": table(cap=False),
        "cap_at_layers": table(most=0),
        "rounded_up": [
            max(0, min(1 + -(-(f - b - o) // (a + c)), n + 1)) if f - b - o >= 0 else 0 for f, a, c, o, b, n in CARDS
        ],
        "negative": [min(1 + (f - b - o) // (a + c), n + 1) for f, a, c, o, b, n in CARDS],
    }
    return recognize([answer(*card) for card in CARDS], table(), mistakes)


def check_tuned(answer: Answer) -> str | None:
    """Return None for base plus delta with further rows and tensors, or which mistake the tensors look like."""
    base, delta = ({name: array.copy() for name, array in part.items()} for part in (BASE, DELTA))
    found = answer(base, delta)
    if not all(np.array_equal(base[name], BASE[name]) for name in BASE) or not all(
        np.array_equal(delta[name], DELTA[name]) for name in DELTA
    ):
        return "changes_given"
    if set(found) == set(BASE):
        return "lost_tensor"
    if set(found) != set(DELTA):
        return "other"
    arrays = {name: np.asarray(array) for name, array in found.items()}
    if arrays["a"].shape == BASE["a"].shape:
        return "cut_off"
    if arrays["a"].shape != DELTA["a"].shape or arrays["b"].shape != (3,) or arrays["c"].shape != (2, 2):
        return "other"
    if any(array.dtype != np.float16 for array in arrays.values()):
        return "other_type"

    def flat(first, rest, b, c) -> np.ndarray:
        parts = [np.concatenate([first, rest]), b, c]
        return np.concatenate([part.astype(np.float16).astype(float).ravel() for part in parts])

    one, two = BASE["a"], DELTA["a"]
    right = flat(one + two[:4], two[4:], BASE["b"] + DELTA["b"], DELTA["c"])
    mistakes = {
        "subtracted": flat(two[:4] - one, two[4:], DELTA["b"] - BASE["b"], DELTA["c"]),
        "delta_alone": flat(two[:4], two[4:], DELTA["b"], DELTA["c"]),
        "zeros": flat(one + two[:4], 0 * two[4:], BASE["b"] + DELTA["b"], DELTA["c"]),
        "last_rows": flat(two[:2], np.concatenate([two[2:] + one]), BASE["b"] + DELTA["b"], DELTA["c"]),
    }
    return recognize(flat(arrays["a"][:4], arrays["a"][4:], arrays["b"], arrays["c"]), right, mistakes)


EXERCISES = [
    Exercise(
        id="22.1",
        title="Where two texts part",
        level="easy",
        minutes=10,
        task="""Two programs continue the same prompt, and you have their tokens. Write `where_they_part(a, b, end)`:
the place (counted from 0) of the first token that differs, or -1 if there is none. If one list is the beginning of the
other, they part where it stops. What comes from the token `end` on does not count, nor does `end`: some programs return
it, others keep it to themselves.""",
        clue="First cut both lists before `end`. Then walk along both; and if nothing differed, are they equally long?",
        name="where_they_part",
        stub='''def where_they_part(a, b, end):
    """Return the place of the first token that differs, or -1; a row ends before its first end token."""
    ...''',
        solution='''def where_they_part(a, b, end):
    """Return the place of the first token that differs, or -1; a row ends before its first end token."""
    a, b = (row[: row.index(end)] if end in row else row for row in (a, b))
    for at, (x, y) in enumerate(zip(a, b, strict=False)):
        if x != y:
            return at
    return -1 if len(a) == len(b) else min(len(a), len(b))''',
        check=check_part,
        hints={
            "no_sign": "two equal lists part nowhere: that is -1, not their length.",
            "after": "one too far: the first token has the place 0.",
            "overlap": "if one list goes on where the other has stopped, they differ. `zip` stops with the shorter.",
            "last": "this is the last difference. After the first one the two read different texts.",
            "count": "this counts equal tokens. After the first difference, equal ones are chance.",
            "end_counts": "`end` is compared here like a word. One program returns it, the other does not: cut it off.",
            "end_anywhere": "right where neither ends; but a list that ends earlier than the other does differ.",
            "past_end": "what stands behind `end` is compared here. Cut before the first `end` of each list.",
            "other": "the places differ. [5, 6, 7] and [5, 8, 7] part at 1, [5] and [5, 6] at 1, [5] and [5] at -1.",
        },
    ),
    Exercise(
        id="22.2",
        title="Perplexity from logits",
        level="medium",
        minutes=10,
        task="""llama.cpp gives logits for every place of a text. Write `perplexity(logits, ids)` with NumPy: exp of the
mean of −log p over the tokens that can be predicted. `logits` is `(tokens, vocabulary)`; row i is what the model says
after token i. Logits may be large: `np.exp(1000)` is infinite, so take the largest of each row off first.""",
        clue="Whose logits predict `ids[1]`? And how many tokens of the text are predicted at all?",
        name="perplexity",
        stub='''def perplexity(logits, ids):
    """Return the perplexity of ids under logits (tokens, vocabulary)."""
    ...''',
        solution='''import numpy as np


def perplexity(logits, ids):
    """Return the perplexity of ids under logits (tokens, vocabulary)."""
    scores = logits - logits.max(-1, keepdims=True)
    scores = scores - np.log(np.exp(scores).sum(-1, keepdims=True))
    picked = scores[np.arange(len(ids) - 1), ids[1:]]
    return np.exp(-picked.mean())''',
        check=check_perplexity,
        hints={
            "not_shifted": "each row is asked for the token it has just read. Row i predicts token i + 1.",
            "wrong_way": "shifted to the wrong side: row i + 1 has read token i already.",
            "loss": "this is the mean of −log p, the loss. Perplexity is exp of it.",
            "summed": "exp of the sum: then a longer text has a larger perplexity. Take the mean.",
            "all_tokens": "divided by all tokens. The first one is predicted by nobody.",
            "raw": "logits are no logarithms of probabilities yet: the softmax is missing.",
            "upside_down": "the sign is lost: this is below 1, and perplexity never is.",
            "mean_of_p": "one over the mean of p. The mean is taken of the logarithms.",
            "overflow": "right for small logits. With large ones exp overflows: take each row's largest off first.",
            "other": "the number differs. If all tokens are equally likely, perplexity is the size of the vocabulary.",
        },
    ),
    Exercise(
        id="22.3",
        title="How many layers?",
        level="medium",
        minutes=15,
        task="""Write `gpu_layers(free, layer, cache, output, compute, layers)`: the `n_gpu_layers` that fit into `free`
bytes of a GPU. The compute buffer must be there before anything else; the output goes first and counts as one; then
come the `layers` layers, from the last to the first, each with its `cache`. All are bytes but `layers`. If not even the
output fits, it is 0.""",
        clue="Take off what must be there, then divide what is left. What is the most that the count can be?",
        name="gpu_layers",
        stub='''def gpu_layers(free, layer, cache, output, compute, layers):
    """Return the n_gpu_layers that fit into free bytes of a GPU."""
    ...''',
        solution='''def gpu_layers(free, layer, cache, output, compute, layers):
    """Return the n_gpu_layers that fit into free bytes of a GPU."""
    left = free - compute - output
    if left < 0:
        return 0
    return min(1 + left // (layer + cache), layers + 1)''',
        check=check_layers,
        hints={
            "no_compute": "where do the results between the layers lie? The compute buffer takes room on the GPU.",
            "no_cache": "a layer on the GPU has its keys and values there, too.",
            "one_cache": "the cache of all layers is taken off here. A layer in main memory keeps its cache there.",
            "output_last": "the output goes first here, not last: `n_gpu_layers=1` is the output alone.",
            "output_not_counted": "the output counts: if it is there and three layers, the number is 4.",
            "no_cap": "right while the room is scarce. But there are no more than `layers` layers and the output.",
            "cap_at_layers": "the most is one more than `layers`, for the output.",
            "rounded_up": "rounded up: half of a layer does not go to the GPU.",
            "negative": "nothing fits: that is 0. A negative number tells llama.cpp to take all layers.",
            "other": "these differ. 1,000 free, layers 100, caches 10, output 50, buffer 200: 1 + 750 // 110 is 7.",
        },
    ),
    Exercise(
        id="22.4",
        title="A delta with new tokens",
        level="hard",
        minutes=20,
        task="""Write `tuned(base, delta)` with NumPy. Both are {name: array of float16}. Return base plus delta as
float16 under the delta's names. A tuned model may have more tokens than its base: then an array of the delta has more
rows, and the further ones hold the new rows themselves. The same is true of a whole tensor that the base lacks. Leave
both arguments as they are.""",
        clue="How many rows does the base have of this tensor? It may be none. Add these, and put the rest behind.",
        name="tuned",
        stub='''def tuned(base, delta):
    """Return {name: base plus delta}; rows and tensors that the base lacks are the delta's own."""
    ...''',
        solution='''import numpy as np


def tuned(base, delta):
    """Return {name: base plus delta}; rows and tensors that the base lacks are the delta's own."""
    found = {}
    for name, new in delta.items():
        old = base.get(name, new[:0])
        found[name] = np.concatenate([old + new[: len(old)], new[len(old) :]])
    return found''',
        check=check_tuned,
        hints={
            "changes_given": "an argument has changed. `+=` writes into the array that was given: make a new one.",
            "lost_tensor": "a tensor that the base lacks is missing here. Go through the delta's names.",
            "cut_off": "the new rows are lost: the result has as many as the base.",
            "other_type": "the numbers must be float16 again, as the target was.",
            "subtracted": "this is delta minus base. The delta was target minus base.",
            "delta_alone": "this is the delta. Add the base's rows.",
            "zeros": "the new rows are zeros here. They are in the delta, whole.",
            "last_rows": "the base is added to the last rows. New tokens come after the old ones.",
            "other": "the arrays differ. A base of [[1]] and a delta of [[2], [5]] make [[3], [5]].",
        },
    ),
]
