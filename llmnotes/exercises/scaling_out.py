"""The exercises of notebook 11: bytes round a ring, one mean of several, what a process holds, doubling."""

import math

import numpy as np

from llmnotes.exercises import Exercise, recognize

RINGS = [(1200, 2), (1200, 4), (13_476_831_232, 512)]  # bytes, processes
MEANS, COUNTS = [2.0, 3.0, 5.0], [90, 30, 40]
SPLITS = [(6_738_415_616, 8), (1000, 4)]  # parameters, processes
ARRAYS = np.random.default_rng(11).integers(1, 9, (8, 6)).astype(float)  # eight processes, six numbers each


def check_ring_bytes(answer) -> str | None:
    """Return None for the bytes that one process sends, or which mistake the numbers look like."""
    mistakes = {
        "one_round": [(n - 1) * size / n for size, n in RINGS],
        "whole": [2 * (n - 1) * size for size, n in RINGS],
        "to_all": [(n - 1) * size for size, n in RINGS],
        "limit": [2 * size for size, n in RINGS],
        "piece": [size / n for size, n in RINGS],
    }
    return recognize([answer(*ring) for ring in RINGS], [2 * (n - 1) * size / n for size, n in RINGS], mistakes)


def check_mean_loss(answer) -> str | None:
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
    right = (2.0 * 90 + 5.0 * 40) / 130
    return recognize(answer([2.0, math.nan, 5.0], [90, 0, 40]), right, {"idle": math.nan})


def check_bytes_per_rank(answer) -> str | None:
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


def check_doubling(answer) -> str | None:
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


def _function(head: str, words: str, body: str) -> str:
    return f'def {head}:\n    """{words}"""\n    {body}'


def _ring(formula: str) -> str:
    return _function("ring_bytes(nbytes, processes)", "Return the bytes that each process sends.", f"return {formula}")


def _mean(body: str) -> str:
    return _function("mean_loss(means, counts)", "Return the mean loss over all tokens of all processes.", body)


def _stages(last: str, optimizer: int = 12) -> str:
    return _function(
        "bytes_per_rank(parameters, processes, stage)",
        "Return the bytes that one process holds; stage is 0, 1, 2 or 3.",
        f"weights, gradients, optimizer = 2 * parameters, 2 * parameters, {optimizer} * parameters\n    {last}",
    )


def _doubling(
    *steps: str,
    rounds: str = "len(arrays).bit_length() - 1",
    sent: str = "rounds",
) -> str:
    body = f"arrays = list(arrays)\n    rounds = {rounds}\n    for step in range(rounds):\n"
    body += "".join(f"        {line}\n" for line in steps)
    return _function(
        "doubling(arrays)",
        "Return (arrays, each the sum of all; bytes that each process sends). Their number is a power of two.",
        f"{body}    return arrays, {sent} * arrays[0].nbytes",
    )


_EXCHANGE = "arrays = [array + arrays[rank ^ 2**step] for rank, array in enumerate(arrays)]"
_HALVED = "arrays = [(array + arrays[rank ^ 2**step]) / 2 for rank, array in enumerate(arrays)]"
_CUT = """if stage >= 1:
        optimizer /= processes
    if stage >= 2:
        gradients /= processes
    if stage >= 3:
        weights /= processes
    return weights + gradients + optimizer"""

_CUT_BACKWARDS = """if stage >= 1:
        weights /= processes
    if stage >= 2:
        gradients /= processes
    if stage >= 3:
        optimizer /= processes
    return weights + gradients + optimizer"""

EXERCISES = [
    Exercise(
        id="11.1",
        title="Bytes round the ring",
        level="easy",
        minutes=5,
        task="""Write `ring_bytes(nbytes, processes)`: how many bytes does one process send in both rounds together,
when `processes` of them add up arrays of `nbytes` bytes each by a ring, as in 11.2?""",
        clue="How large is a piece? How many does a process send in the first round, how many in the second?",
        name="ring_bytes",
        stub=_function("ring_bytes(nbytes, processes)", "Return the bytes that each process sends.", "..."),
        solution=_ring("2 * (processes - 1) * nbytes / processes"),
        check=check_ring_bytes,
        hints={
            "one_round": "after this many bytes every process has one finished piece. Who brings it the others?",
            "whole": "the number of steps is right. But in each step a process sends a piece, not its whole array.",
            "to_all": "this is what it sends if it gives its whole array to everybody else. The ring avoids that.",
            "limit": "that is nearly right for many processes. With two, a process sends half of this.",
            "piece": "this is one piece. How many of them does a process send in both rounds?",
            "other": "the numbers differ. Four processes and 1,200 bytes: pieces of 300, three of them in each round.",
        },
        wrong={
            "one_round": _ring("(processes - 1) * nbytes / processes"),
            "whole": _ring("2 * (processes - 1) * nbytes"),
            "to_all": _ring("(processes - 1) * nbytes"),
            "limit": _ring("2 * nbytes"),
            "piece": _ring("nbytes / processes"),
            "other": _ring("2 * nbytes / processes"),
        },
    ),
    Exercise(
        id="11.2",
        title="One mean of several",
        level="medium",
        minutes=10,
        task="""Each process reports the mean loss of its own tokens, and how many they were. Write
`mean_loss(means, counts)`, which returns the mean over all tokens. A process that had none reports 0 tokens, and `nan`
as their mean.""",
        clue="Turn the means back into sums first. And what is `nan * 0`?",
        name="mean_loss",
        stub=_mean("..."),
        solution=_mean(
            "pairs = zip(means, counts, strict=True)\n"
            "    return sum(mean * count for mean, count in pairs if count) / sum(counts)"
        ),
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
        wrong={
            "mean_of_means": _mean("return sum(means) / len(means)"),
            "summed": _mean("return sum(mean * count for mean, count in zip(means, counts))"),
            "by_processes": _mean("return sum(mean * count for mean, count in zip(means, counts)) / len(means)"),
            "upside_down": _mean(
                "shares = [1 / max(count, 1) for count in counts]\n"
                "    return sum(mean * share for mean, share in zip(means, shares)) / sum(shares)"
            ),
            "idle": _mean("return sum(mean * count for mean, count in zip(means, counts)) / sum(counts)"),
            "other": _mean("return max(means)"),
        },
    ),
    Exercise(
        id="11.3",
        title="What a process holds",
        level="medium",
        minutes=15,
        task="""A model in bfloat16 needs 2 bytes a parameter for the weights, 2 for the gradients, and 12 for AdamW: a
float32 copy of the weight and two running means. The ZeRO paper cuts them up among the processes in stages: stage 0
cuts nothing, stage 1 the 12 bytes of the optimizer, stage 2 the gradients as well, stage 3 the weights as well (which
is what FSDP does). Write `bytes_per_rank(parameters, processes, stage)`.""",
        clue="Begin with the three numbers for one process. Each stage divides one more of them.",
        name="bytes_per_rank",
        stub=_function(
            "bytes_per_rank(parameters, processes, stage)",
            "Return the bytes that one process holds; stage is 0, 1, 2 or 3.",
            "...",
        ),
        solution=_stages(_CUT),
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
        wrong={
            "never": _stages("return weights + gradients + optimizer"),
            "always": _stages("return (weights + gradients + optimizer) / processes"),
            "late": _stages(_CUT.replace(">=", ">")),
            "parameters_first": _stages(_CUT_BACKWARDS),
            "one_each": _stages(_CUT.replace(">=", "==")),
            "two_moments": _stages(_CUT, optimizer=8),
            "other": _stages(_CUT.replace("/= processes", "/= 2")),
        },
    ),
    Exercise(
        id="11.4",
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
        stub=_function(
            "doubling(arrays)",
            "Return (arrays, each the sum of all; bytes that each process sends). Their number is a power of two.",
            "...",
        ),
        solution=_doubling(_EXCHANGE, sent="rounds"),
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
        wrong={
            "changes_given": _doubling(
                "seen = [array.copy() for array in arrays]",
                "for rank in range(len(arrays)):",
                "    arrays[rank] += seen[rank ^ 2**step]",
            ),
            "too_fresh": _doubling(
                "for rank in range(len(arrays)):", "    arrays[rank] = arrays[rank] + arrays[rank ^ 2**step]"
            ),
            "one_short": _doubling(_EXCHANGE, rounds="len(arrays).bit_length() - 2", sent="(rounds + 1)"),
            "same_partner": _doubling(_EXCHANGE.replace("2**step", "1")),
            "next_ones": _doubling(_EXCHANGE.replace("rank ^ 2**step", "(rank + step + 1) % len(arrays)")),
            "mean": _doubling(_HALVED),
            "one_step": _doubling(_EXCHANGE, sent="1"),
            "everybody": _doubling(_EXCHANGE, sent="rounds * len(arrays)"),
            "as_a_ring": _doubling(_EXCHANGE, sent="2 * (len(arrays) - 1) / len(arrays)"),
            "other": _doubling(_EXCHANGE.replace("array +", "array -")),
        },
    ),
]
