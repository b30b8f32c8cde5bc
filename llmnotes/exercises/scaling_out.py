"""The exercises of notebook 26: rings and doubling, one mean of several, shards, what fits, what a token waits for."""

import math

import numpy as np

from llmnotes.exercises.exercise import Answer, Exercise, recognize

RINGS = [(1200, 2), (1200, 4), (13_476_831_232, 512)]  # bytes, processes
MEANS, COUNTS = [2.0, 3.0, 5.0], [90, 30, 40]
SPLITS = [(6_738_415_616, 8), (1000, 4)]  # parameters, processes
ARRAYS = np.random.default_rng(11).integers(1, 9, (8, 6)).astype(float)  # eight processes, six numbers each


def check_ring_bytes(answer: Answer) -> str | None:
    """Return None for the bytes that one process sends, or which mistake the numbers look like."""
    mistakes = {
        "one_round": [(n - 1) * size / n for size, n in RINGS],
        "whole": [2 * (n - 1) * size for size, n in RINGS],
        "to_all": [(n - 1) * size for size, n in RINGS],
        "limit": [2 * size for size, n in RINGS],
        "piece": [size / n for size, n in RINGS],
    }
    return recognize([answer(*ring) for ring in RINGS], [2 * (n - 1) * size / n for size, n in RINGS], mistakes)


def check_mean_loss(answer: Answer) -> str | None:
    """Return None for the mean over all tokens, or which mistake the number looks like."""
    means, counts = np.array(MEANS), np.array(COUNTS)
    mistakes = {
        "mean_of_means": means.mean(),
        "summed": means @ counts,
        "by_processes": means @ counts / len(means),
        "upside_down": (means / counts).sum() / (1 / counts).sum(),
    }
    found = recognize(answer(list(MEANS), list(COUNTS)), means @ counts / counts.sum(), mistakes)
    if found:
        return found
    return recognize(answer([2.0, math.nan, 5.0], [90, 0, 40]), (2.0 * 90 + 5.0 * 40) / 130, {"idle": math.nan})


def check_bytes_per_rank(answer: Answer) -> str | None:
    """Return None for the bytes of each stage, or which mistake the numbers look like."""

    def table(function) -> list[float]:
        return [function(*split, stage) for split in SPLITS for stage in range(4)]

    def held(parameters, n, cuts, optimizer=12) -> float:
        return parameters * sum(part / (n if cut else 1) for part, cut in zip((2, 2, optimizer), cuts, strict=True))

    mistakes = {
        "never": table(lambda p, n, stage: 16 * p),
        "always": table(lambda p, n, stage: 16 * p / n),
        "late": table(lambda p, n, stage: held(p, n, (stage > 3, stage > 2, stage > 1))),
        "parameters_first": table(lambda p, n, stage: held(p, n, (stage >= 1, stage >= 2, stage >= 3))),
        "one_each": table(lambda p, n, stage: held(p, n, (stage == 3, stage == 2, stage == 1))),
        "two_moments": table(lambda p, n, stage: held(p, n, (stage >= 3, stage >= 2, stage >= 1), 8)),
    }
    right = table(lambda p, n, stage: held(p, n, (stage >= 3, stage >= 2, stage >= 1)))
    return recognize(table(answer), right, mistakes)


def _doubled(rounds: int = 3, partner=lambda rank, step: rank ^ 2**step, stale: bool = True) -> np.ndarray:
    """Return what ARRAYS become; with `stale` False each process sees what others have received in the same step."""
    arrays = ARRAYS.copy()
    for step in range(rounds):
        seen = arrays.copy() if stale else arrays
        for rank in range(len(arrays)):
            arrays[rank] = arrays[rank] + seen[partner(rank, step)]
    return arrays


def check_doubling(answer: Answer) -> str | None:
    """Return None for the sum and the bytes of doubling, or which mistake the numbers look like."""
    given = [array.copy() for array in ARRAYS]
    arrays, sent = answer(given)
    if not all(np.array_equal(now, before) for now, before in zip(given, ARRAYS, strict=True)):
        return "changes_given"
    total = np.tile(ARRAYS.sum(axis=0), (8, 1))
    mistakes = {
        "too_fresh": _doubled(stale=False),
        "one_short": _doubled(2),
        "same_partner": _doubled(partner=lambda rank, step: rank ^ 1),
        "next_ones": _doubled(partner=lambda rank, step: (rank + step + 1) % 8),
        "mean": total / 8,
    }
    size = ARRAYS[0].nbytes
    counts = {"one_step": size, "everybody": 24 * size, "as_a_ring": 2 * 7 * size / 8}
    return recognize(arrays, total, mistakes) or recognize(sent, 3 * size, counts)


ROOMS = [(100, 20, 10, 8), (100, 20, 10, 9), (100, 20, 30, 9), (29, 20, 10, 4), (99, 0, 7, 5)]


def check_layers_that_fit(answer: Answer) -> str | None:
    """Return None for the number of layers, or which mistake the numbers look like."""

    def table(some, whole=lambda free, first, layer, layers: first + layers * layer <= free) -> list[int]:
        return [
            layers if whole(free, first, layer, layers) else some(free, first, layer, layers)
            for free, first, layer, layers in ROOMS
        ]

    right = table(lambda f, e, s, n: max((f - e - s) // s, 0))
    mistakes = {
        "no_way_in": table(lambda f, e, s, n: min(max((f - e) // s, 0), n)),
        "always_spare": table(lambda f, e, s, n: min(max((f - e - s) // s, 0), n), lambda *_: False),
        "no_embedding": table(lambda f, e, s, n: max((f - s) // s, 0), lambda f, e, s, n: n * s <= f),
        "more_than_all": table(lambda f, e, s, n: max((f - e - s) // s, 0), lambda *_: False),
        "below_none": table(lambda f, e, s, n: (f - e - s) // s),
        "parts": table(lambda f, e, s, n: max((f - e - s) / s, 0)),
    }
    return recognize([answer(*room) for room in ROOMS], right, mistakes)


HELD = [((6e9, 8e9, 0), (448e9, 12e9, 2e9)), ((0, 10e9, 4e9), (300e9, 25e9, 5e9)), ((7e9, 0, 0), (700e9, 16e9, 3e9))]


def check_token_seconds(answer: Answer) -> str | None:
    """Return None for the seconds of a token, or which mistake the numbers look like."""

    def table(function) -> list[float]:
        return [function(np.array(held), np.array(speeds)) for held, speeds in HELD]

    mistakes = {
        "slowest": table(lambda held, speeds: (held / speeds).max()),
        "mean_speed": table(lambda held, speeds: held.sum() / speeds.mean()),
        "summed_speed": table(lambda held, speeds: held.sum() / speeds.sum()),
        "a_second": table(lambda held, speeds: 1 / (held / speeds).sum()),
        "bits": table(lambda held, speeds: 8 * (held / speeds).sum()),
        "mean_time": table(lambda held, speeds: (held / speeds).mean()),
    }
    found = [answer(list(held), list(speeds)) for held, speeds in HELD]
    return recognize(found, table(lambda held, speeds: (held / speeds).sum()), mistakes)


def check_shared_mlp(answer: Answer) -> str | None:
    """Return None if the outputs of all parts add up to the MLP's, or which mistake the numbers look like."""
    numbers = np.random.default_rng(7)
    x, gate, up = (numbers.normal(size=shape) for shape in ((5, 4), (12, 4), (12, 4)))
    down, parts = numbers.normal(size=(4, 12)), 3
    inner = _silu(x @ gate.T) * (x @ up.T)
    whole = inner @ down.T
    rows = [slice(4 * part, 4 * part + 4) for part in range(parts)]
    outputs = [inner[:, row] @ down[:, row].T for row in rows]
    found = [np.asarray(output, dtype=float) for output in answer(x, gate, up, down, parts)]
    if len(found) != parts:
        return "one_sum" if len(found) == len(whole) and np.allclose(found, whole) else "other"
    strided = [inner[:, part::parts] @ down[:, part::parts].T for part in range(parts)]
    mistakes = {
        "everything": [whole] * parts,
        "divided": [output / parts for output in outputs],
        "no_gate": [(x @ up.T)[:, row] @ down[:, row].T for row in rows],
        "silu_of_both": [_silu((x @ gate.T) * (x @ up.T))[:, row] @ down[:, row].T for row in rows],
        "added_up": [sum(outputs)] + [np.zeros_like(whole)] * (parts - 1),
        "first_share": [outputs[0]] * parts,
    }
    if recognize(found, strided, {}) is None:  # any third of the columns will do
        return None
    return recognize(found, outputs, mistakes)


def _silu(x):
    return x / (1 + np.exp(-x))


EXERCISES = [
    Exercise(
        id="26.1",
        title="Bytes round the ring",
        level="easy",
        minutes=5,
        task="""Write `ring_bytes(nbytes, processes)`: how many bytes does one process send in both rounds together,
when `processes` of them add up arrays of `nbytes` bytes each by a ring, as in 24.2?""",
        clue="How large is a piece? How many does a process send in the first round, how many in the second?",
        name="ring_bytes",
        stub='''def ring_bytes(nbytes, processes):
    """Return the bytes that each process sends."""
    ...''',
        solution='''def ring_bytes(nbytes, processes):
    """Return the bytes that each process sends."""
    return 2 * (processes - 1) * nbytes / processes''',
        check=check_ring_bytes,
        hints={
            "one_round": "after this many bytes every process has one finished piece. Who brings it the others?",
            "whole": "the number of steps is right. But in each step a process sends a piece, not its whole array.",
            "to_all": "this is what it sends if it gives its whole array to everybody else. The ring avoids that.",
            "limit": "that is nearly right for many processes. With two, a process sends half of this.",
            "piece": "this is one piece. How many of them does a process send in both rounds?",
            "other": "the numbers differ. Four processes and 1,200 bytes: pieces of 300, three of them in each round.",
        },
    ),
    Exercise(
        id="26.2",
        title="One mean of several",
        level="medium",
        minutes=10,
        task="""Each process reports the mean loss of its own tokens, and how many they were. Write
`mean_loss(means, counts)`, which returns the mean over all tokens. A process that had none reports 0 tokens, and `nan`
as their mean.""",
        clue="Turn the means back into sums first. And what is `nan * 0`?",
        name="mean_loss",
        stub='''def mean_loss(means, counts):
    """Return the mean loss over all tokens of all processes."""
    ...''',
        solution='''def mean_loss(means, counts):
    """Return the mean loss over all tokens of all processes."""
    pairs = zip(means, counts, strict=True)
    return sum(mean * count for mean, count in pairs if count) / sum(counts)''',
        check=check_mean_loss,
        hints={
            "mean_of_means": "this is the mean of the means: a token of a process that has few of them counts "
            "more than one of a process that has many.",
            "summed": "these are all losses added up. By what must they be divided?",
            "by_processes": "the sum is right, but it is a sum over tokens. It is divided here by the number of "
            "processes.",
            "upside_down": "the fewer tokens a process has, the more it counts here. It should be the other way round.",
            "idle": "right as long as everybody works. `nan * 0` is nan, not 0: leave out who had no tokens.",
            "other": "the numbers differ. Means of 1 and 4 from 2 tokens and 1 token: (1 + 1 + 4) / 3 is 2.",
        },
    ),
    Exercise(
        id="26.3",
        title="What a process holds",
        level="medium",
        minutes=15,
        task="""A model in bfloat16 needs 2 bytes a parameter for the weights, 2 for the gradients, and 12 for AdamW: a
float32 copy of the weight and two running means. The ZeRO paper cuts them up among the processes in stages: stage 0
cuts nothing, stage 1 the 12 bytes of the optimizer, stage 2 the gradients as well, stage 3 the weights as well (which
is what FSDP does). Write `bytes_per_rank(parameters, processes, stage)`.""",
        clue="Begin with the three numbers for one process. Each stage divides one more of them.",
        name="bytes_per_rank",
        stub='''def bytes_per_rank(parameters, processes, stage):
    """Return the bytes that one process holds; stage is 0, 1, 2 or 3."""
    ...''',
        solution='''def bytes_per_rank(parameters, processes, stage):
    """Return the bytes that one process holds; stage is 0, 1, 2 or 3."""
    weights, gradients, optimizer = 2 * parameters, 2 * parameters, 12 * parameters
    if stage >= 1:
        optimizer /= processes
    if stage >= 2:
        gradients /= processes
    if stage >= 3:
        weights /= processes
    return weights + gradients + optimizer''',
        check=check_bytes_per_rank,
        hints={
            "never": "this is stage 0: every process holds all 16 bytes of each parameter, whatever the stage.",
            "always": "this is stage 3 at every stage: all 16 bytes are cut up, even where the stage is 0.",
            "late": "each cut comes one stage too late: at stage 1 the optimizer is cut up already.",
            "parameters_first": "the weights are cut up first here. The optimizer is the largest part, and goes first.",
            "one_each": "each stage cuts one thing here, and puts the thing before it together again. Stages add up.",
            "two_moments": "AdamW has 8 bytes here, its two running means. With bfloat16 weights it keeps a "
            "float32 copy as well.",
            "other": "the numbers differ. A thousand parameters, four processes, stage 1: 2,000 + 2,000 + 3,000 bytes.",
        },
    ),
    Exercise(
        id="26.4",
        title="Adding up by doubling",
        level="hard",
        minutes=20,
        task="""With 512 processes a ring takes 1,022 steps one after the other. Here is another way, for 2, 4, 8, ...
processes: in step 0 each exchanges its whole array with the process whose rank, in binary, differs in the last bit (0
with 1, 2 with 3), and both add up what they have; in step 1 with the one whose rank differs in the last bit but one (0
with 2, 1 with 3); and so on, until all bits have had their turn. Write `doubling(arrays)`, which takes one NumPy array
for each process and returns the arrays after the last step, and the bytes that one process has sent. Leave the arrays
that were given as they are.""",
        clue="The partner of `rank` is `rank ^ 2**step`: `^` turns over the bits that are 1 in the number on its "
        "right, here one bit. All send what they had *before* the step: build a new list in each.",
        name="doubling",
        stub='''def doubling(arrays):
    """Return (arrays, each the sum of all; bytes that each process sends). Their number is a power of two."""
    ...''',
        solution='''def doubling(arrays):
    """Return (arrays, each the sum of all; bytes that each process sends). Their number is a power of two."""
    arrays = list(arrays)
    rounds = len(arrays).bit_length() - 1
    for step in range(rounds):
        arrays = [array + arrays[rank ^ 2**step] for rank, array in enumerate(arrays)]
    return arrays, rounds * arrays[0].nbytes''',
        check=check_doubling,
        hints={
            "changes_given": "the arrays that were given have changed. `+=` writes into them: copy them first.",
            "too_fresh": "a process receives here what its partner has added up in the same step already. Both must "
            "send what they had before.",
            "one_short": "one step is missing: each process has the sum of half of them.",
            "same_partner": "every step has the same partner here, so that the two add up each other again and again.",
            "next_ones": "the partners are 1, 2, 3 places away. They must be 1, 2, 4 away, or some numbers come twice.",
            "mean": "this is the mean. Asked for is the sum.",
            "one_step": "the sums are right. The bytes are those of one step.",
            "everybody": "the sums are right. The bytes are those of all processes together, not of one.",
            "as_a_ring": "the sums are right. The bytes are those of a ring, which sends pieces; here go whole arrays.",
            "other": "the numbers differ. Try two processes with one number each: one step, and both have the sum.",
        },
    ),
    Exercise(
        id="26.5",
        title="Layers that fit",
        level="easy",
        minutes=10,
        task="""A GPU has `free` bytes. The embedding takes `first` of them, and each of the `layers` layers takes
`layer`. If all of it fits, all of it goes there. If not, the layers that stay outside are brought in one at a time, so
room for one of them is left free. Write `layers_that_fit(free, first, layer, layers)`: how many layers lie on the
GPU?""",
        clue="Two cases. In the second, take the embedding and one layer from `free`, then divide, and round down.",
        name="layers_that_fit",
        stub='''def layers_that_fit(free, first, layer, layers):
    """Return how many layers lie on the GPU."""
    ...''',
        solution='''def layers_that_fit(free, first, layer, layers):
    """Return how many layers lie on the GPU."""
    if first + layers * layer <= free:
        return layers
    return max((free - first - layer) // layer, 0)''',
        check=check_layers_that_fit,
        hints={
            "no_way_in": "the GPU is full to the brim here. A layer from outside has nowhere to go.",
            "always_spare": "if all layers fit, none comes from outside, and no room need be left for one.",
            "no_embedding": "the embedding lies on the GPU, too, and takes its bytes first.",
            "more_than_all": "where there is much room, these are more layers than the model has.",
            "below_none": "where not even one layer fits, this is a negative number of layers.",
            "parts": "a layer goes as a whole: round down.",
            "other": "the numbers differ. 100 bytes, 20 for the embedding, nine layers of 10: seven lie there.",
        },
    ),
    Exercise(
        id="26.6",
        title="What a token waits for",
        level="medium",
        minutes=10,
        task="""For one token every weight is read once. `held` are the bytes of a model on the GPU, in main memory and
on the disk, `speeds` the bytes in a second that come from each to where the GPU computes. Write
`token_seconds(held, speeds)`: how long does one token wait for weights, when one layer comes after the other?""",
        clue="How long do the bytes of each place take? The layers wait for each other. What of the three times?",
        name="token_seconds",
        stub='''def token_seconds(held, speeds):
    """Return the seconds that one token waits for weights."""
    ...''',
        solution='''def token_seconds(held, speeds):
    """Return the seconds that one token waits for weights."""
    times = [nbytes / speed for nbytes, speed in zip(held, speeds, strict=True)]
    return sum(times)''',
        check=check_token_seconds,
        hints={
            "slowest": "this is the wait for the slowest place alone. Layers in the others come before or after.",
            "mean_speed": "speeds cannot be averaged so: it is the slow place that takes the time.",
            "summed_speed": "this would hold if the three places were read at the same time, each in proportion.",
            "a_second": "these are tokens a second. Asked for are the seconds of one token.",
            "bits": "speeds are in bytes a second here, not in bits.",
            "mean_time": "this is the mean of the three times. A token waits for all of them.",
            "other": "the numbers differ. 4 bytes at 2 a second and 6 bytes at 3 a second: 2 + 2 seconds.",
        },
    ),
    Exercise(
        id="26.7",
        title="An MLP for several",
        level="hard",
        minutes=20,
        task="""The MLP of a Llama is `(silu(x @ gate.T) * (x @ up.T)) @ down.T`; `silu(z)` is `z / (1 + exp(-z))`. `x`
is `(tokens, hidden)`, `gate` and `up` are `(inner, hidden)`, `down` is `(hidden, inner)`. Write
`shared_mlp(x, gate, up, down, parts)` with NumPy for `parts` GPUs; `inner` can be divided by their number. Return a
list with what each of them computes from its own share of the three matrices alone. The sum of the list is the output
of the MLP.""",
        clue="A GPU takes some of the `inner` numbers: rows of `gate` and of `up`, and the same columns of `down`.",
        name="shared_mlp",
        stub='''import numpy as np


def shared_mlp(x, gate, up, down, parts):
    """Return a list with the output of each part; their sum is the output of the MLP."""
    ...''',
        solution='''import numpy as np


def silu(z):
    return z / (1 + np.exp(-z))


def shared_mlp(x, gate, up, down, parts):
    """Return a list with the output of each part; their sum is the output of the MLP."""
    width, outputs = len(gate) // parts, []
    for part in range(parts):
        own = slice(part * width, part * width + width)
        inner = silu(x @ gate[own].T) * (x @ up[own].T)
        outputs.append(inner @ down[:, own].T)
    return outputs''',
        check=check_shared_mlp,
        hints={
            "everything": "each part computes the whole MLP here, so the sum is `parts` times as large.",
            "divided": "the parts must be added up, not averaged: do not divide.",
            "no_gate": "`gate` is missing: its silu is multiplied with what `up` gives.",
            "silu_of_both": "silu belongs to what `gate` gives alone, before it is multiplied.",
            "added_up": "the sum is right, but one part has all of it. Return what each part computes itself.",
            "first_share": "every part has computed with the first share. Each needs its own.",
            "one_sum": "this is the sum of the parts. Return the list of what is added up.",
            "other": "the numbers differ. With parts=1 the list has one output, that of the MLP as it stands above.",
        },
    ),
]
