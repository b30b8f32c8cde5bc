"""The checks of notebook 11's exercises, and what they hand to an answer; the texts are in scaling_out."""

import math

import numpy as np

from llmnotes.exercises import recognize

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


ROOMS = [(100, 20, 10, 8), (100, 20, 10, 9), (100, 20, 30, 9), (29, 20, 10, 4), (99, 0, 7, 5)]


def check_layers_that_fit(answer) -> str | None:
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


def check_token_seconds(answer) -> str | None:
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


def check_shared_mlp(answer) -> str | None:
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
