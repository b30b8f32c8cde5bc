"""The exercises of notebook 11: rings and doubling, one mean of several, shards, what fits, what a token waits for."""

from llmnotes.exercises import Exercise
from llmnotes.exercises.scaling_out_checks import (
    check_bytes_per_rank,
    check_doubling,
    check_layers_that_fit,
    check_mean_loss,
    check_ring_bytes,
    check_shared_mlp,
    check_token_seconds,
)


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


def _layers(some: str, whole: str = "first + layers * layer <= free") -> str:
    return _function(
        "layers_that_fit(free, first, layer, layers)",
        "Return how many layers lie on the GPU.",
        f"if {whole}:\n        return layers\n    return {some}",
    )


def _seconds(formula: str) -> str:
    return _function(
        "token_seconds(held, speeds)",
        "Return the seconds that one token waits for weights.",
        f"times = [nbytes / speed for nbytes, speed in zip(held, speeds, strict=True)]\n    return {formula}",
    )


def _mlp(
    output: str = "inner @ down[:, own].T", inner: str = "silu(x @ gate[own].T) * (x @ up[own].T)", own="part"
) -> str:
    lines = [
        "width, outputs = len(gate) // parts, []",
        "for part in range(parts):",
        f"    own = slice({own} * width, {own} * width + width)",
        f"    inner = {inner}",
        f"    outputs.append({output})",
    ]
    silu = "def silu(z):\n    return z / (1 + np.exp(-z))"
    return f"import numpy as np\n\n\n{silu}\n\n\n" + _function(
        "shared_mlp(x, gate, up, down, parts)",
        "Return a list with the output of each part; their sum is the output of the MLP.",
        "\n    ".join([*lines, "return outputs"]),
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
    Exercise(
        id="11.5",
        title="Layers that fit",
        level="easy",
        minutes=10,
        task="""A GPU has `free` bytes. The embedding takes `first` of them, and each of the `layers` layers takes
`layer`. If all of it fits, all of it goes there. If not, the layers that stay outside are brought in one at a time, so
room for one of them is left free. Write `layers_that_fit(free, first, layer, layers)`: how many layers lie on the
GPU?""",
        clue="Two cases. In the second, take the embedding and one layer from `free`, then divide, and round down.",
        name="layers_that_fit",
        stub=_function("layers_that_fit(free, first, layer, layers)", "Return how many layers lie on the GPU.", "..."),
        solution=_layers("max((free - first - layer) // layer, 0)"),
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
        wrong={
            "no_way_in": _layers("max((free - first) // layer, 0)"),
            "always_spare": _layers("min(max((free - first - layer) // layer, 0), layers)", "False"),
            "no_embedding": _layers("max((free - layer) // layer, 0)", "layers * layer <= free"),
            "more_than_all": _layers("max((free - first - layer) // layer, 0)", "False"),
            "below_none": _layers("(free - first - layer) // layer"),
            "parts": _layers("max((free - first - layer) / layer, 0)"),
            "other": _layers("max((free - first - layer) // layer, 0) + 1"),
        },
    ),
    Exercise(
        id="11.6",
        title="What a token waits for",
        level="medium",
        minutes=10,
        task="""For one token every weight is read once. `held` are the bytes of a model on the GPU, in main memory and
on the disk, `speeds` the bytes in a second that come from each to where the GPU computes. Write
`token_seconds(held, speeds)`: how long does one token wait for weights, when one layer comes after the other?""",
        clue="How long do the bytes of each place take? The layers wait for each other. What of the three times?",
        name="token_seconds",
        stub=_function("token_seconds(held, speeds)", "Return the seconds that one token waits for weights.", "..."),
        solution=_seconds("sum(times)"),
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
        wrong={
            "slowest": _seconds("max(times)"),
            "mean_speed": _seconds("sum(held) / (sum(speeds) / len(speeds))"),
            "summed_speed": _seconds("sum(held) / sum(speeds)"),
            "a_second": _seconds("1 / sum(times)"),
            "bits": _seconds("8 * sum(times)"),
            "mean_time": _seconds("sum(times) / len(times)"),
            "other": _seconds("min(times)"),
        },
    ),
    Exercise(
        id="11.7",
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
        stub="import numpy as np\n\n\n"
        + _function(
            "shared_mlp(x, gate, up, down, parts)",
            "Return a list with the output of each part; their sum is the output of the MLP.",
            "...",
        ),
        solution=_mlp(),
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
        wrong={
            "everything": _mlp("(silu(x @ gate.T) * (x @ up.T)) @ down.T"),
            "divided": _mlp("inner @ down[:, own].T / parts"),
            "no_gate": _mlp(inner="x @ up[own].T"),
            "silu_of_both": _mlp(inner="silu((x @ gate[own].T) * (x @ up[own].T))"),
            "added_up": _mlp().replace("return outputs", "return [sum(outputs)] + [0 * each for each in outputs[1:]]"),
            "first_share": _mlp(own="0"),
            "one_sum": _mlp().replace("return outputs", "return sum(outputs)"),
            "other": _mlp(inner="silu(x @ gate[own].T) + (x @ up[own].T)"),
        },
    ),
]
