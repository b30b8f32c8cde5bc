"""Typical wrong answers to the exercises of notebook 26: {exercise: {key of its hint: source}}."""


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


WRONG = {
    "26.1": {
        "one_round": _ring("(processes - 1) * nbytes / processes"),
        "whole": _ring("2 * (processes - 1) * nbytes"),
        "to_all": _ring("(processes - 1) * nbytes"),
        "limit": _ring("2 * nbytes"),
        "piece": _ring("nbytes / processes"),
        "other": _ring("2 * nbytes / processes"),
    },
    "26.2": {
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
    "26.3": {
        "never": _stages("return weights + gradients + optimizer"),
        "always": _stages("return (weights + gradients + optimizer) / processes"),
        "late": _stages(_CUT.replace(">=", ">")),
        "parameters_first": _stages(_CUT_BACKWARDS),
        "one_each": _stages(_CUT.replace(">=", "==")),
        "two_moments": _stages(_CUT, optimizer=8),
        "other": _stages(_CUT.replace("/= processes", "/= 2")),
    },
    "26.4": {
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
    "26.5": {
        "no_way_in": _layers("max((free - first) // layer, 0)"),
        "always_spare": _layers("min(max((free - first - layer) // layer, 0), layers)", "False"),
        "no_embedding": _layers("max((free - layer) // layer, 0)", "layers * layer <= free"),
        "more_than_all": _layers("max((free - first - layer) // layer, 0)", "False"),
        "below_none": _layers("(free - first - layer) // layer"),
        "parts": _layers("max((free - first - layer) / layer, 0)"),
        "other": _layers("max((free - first - layer) // layer, 0) + 1"),
    },
    "26.6": {
        "slowest": _seconds("max(times)"),
        "mean_speed": _seconds("sum(held) / (sum(speeds) / len(speeds))"),
        "summed_speed": _seconds("sum(held) / sum(speeds)"),
        "a_second": _seconds("1 / sum(times)"),
        "bits": _seconds("8 * sum(times)"),
        "mean_time": _seconds("sum(times) / len(times)"),
        "other": _seconds("min(times)"),
    },
    "26.7": {
        "everything": _mlp("(silu(x @ gate.T) * (x @ up.T)) @ down.T"),
        "divided": _mlp("inner @ down[:, own].T / parts"),
        "no_gate": _mlp(inner="x @ up[own].T"),
        "silu_of_both": _mlp(inner="silu((x @ gate[own].T) * (x @ up[own].T))"),
        "added_up": _mlp().replace("return outputs", "return [sum(outputs)] + [0 * each for each in outputs[1:]]"),
        "first_share": _mlp(own="0"),
        "one_sum": _mlp().replace("return outputs", "return sum(outputs)"),
        "other": _mlp(inner="silu(x @ gate[own].T) + (x @ up[own].T)"),
    },
}
