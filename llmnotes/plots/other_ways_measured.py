"""What the methods of "Other ways to save" gain, measured: bars of KL, prices in bits, and a table for an evening."""

import json
from collections.abc import Mapping, Sequence
from importlib.resources import files

import numpy as np
from matplotlib.patches import Rectangle

from llmnotes.plots.drawing import NORMAL, THINGS, canvas, chart, note, show


def paid(gains: Mapping[str, Mapping[str, float]]) -> None:
    """Draw {type: {text: KL with an importance from this text, over the KL without}} as bars around 1."""
    ax = canvas(29)
    texts = list(next(iter(gains.values())))
    unit, base, step = 12.0, 5.0, 62 / len(gains)
    told = []
    for i, (kind, of) in enumerate(gains.items()):
        x = 1 + i * step
        for k, (text, value) in enumerate(of.items()):
            thing = "error" if value > 1 else "weight"
            strong, pale = THINGS[thing]
            left = x + 0.8 + k * (step - 1.6) / len(texts)
            wide = (step - 1.6) / len(texts) - 0.5
            ax.add_patch(Rectangle((left, base), wide, unit * value, facecolor=pale, edgecolor=strong, linewidth=1.3))
            note(ax, left + wide / 2, base + unit * value + (1.2 if value > 1 else -1.6), f"{value:.2f}", colour=thing)
            note(ax, left + wide / 2, base + 2, "abc"[k], bold=True)
            told.append(f"{kind}, {text}: {'worse' if value > 1 else 'better'} than none")
        note(ax, x + step / 2, 2.6, kind, NORMAL, bold=True)
    ax.plot((1, 63), (base + unit,) * 2, color="black", linewidth=1.2, linestyle=(0, (4, 3)))
    note(ax, 1, 27.4, "KL with importance, over the KL without (dashed: the same)", ha="left")
    names = "; ".join(f"{letter}: {text}" for letter, text in zip("abc", texts, strict=False))
    show(
        ax,
        f"What an importance matrix does to Pebble, by the text it was measured on ({names}). Green is better than "
        "none, red is worse.",
        "Three bars for each type. " + "; ".join(told),
    )


def prices(zeros: Mapping[float, float], levels: Mapping[float, float]) -> None:
    """Draw {bits per weight: KL} of models with zeros, and of models with fewer bits for all weights."""
    ax = canvas(36)
    plot = chart(ax, 8, 5, 53, 26, yscale="log", xlim=(2, 16), ylim=(5e-6, 8))
    plot.set_yticks((1e-5, 1e-3, 1e-1), ("0.00001", "0.001", "0.1"))
    plot.set_yticks([], minor=True)
    for points, thing, mark in ((zeros, "error", "o"), (levels, "weight", "s")):
        xs, ys = np.array(list(points.items())).T
        plot.plot(xs, ys, color=THINGS[thing][0], marker=mark, linewidth=2, markersize=7)
    note(plot, 9.3, 0.12, "half of them 0", NORMAL, "error", "left", bold=True)
    note(plot, 9.6, 2.2e-5, "all of them in 8 bits", NORMAL, "weight", "left", bold=True)
    note(plot, 5.3, 2.4, "8 of 10 are 0", NORMAL, "error", "left", bold=True)
    note(ax, 0.8, 34, "KL from the original, nats per token", ha="left")
    note(ax, 34, 1.6, "bits per weight, with masks and scales")
    show(
        ax,
        "Pebble with zeros chosen by Wanda (red: a tenth to eight tenths) and with even levels in 2 to 8 bits (green). "
        f"At 9 bits, half of the weights 0 cost {zeros[9]:.3f}; at half that price, 4 bits cost {levels[4.5]:.4f}.",
        "Two falling lines on a scale of powers of ten; the red one lies far to the right of the green one.",
    )


def gains(rows: Mapping[str, float], bits: float) -> None:
    """Draw KLs of one model at the same bits, row below row, on a scale of powers of ten."""
    rows = dict(sorted(rows.items(), key=lambda row: -row[1]))
    ax = canvas(6 + 4.6 * len(rows))
    low = 0.01
    unit = 34 / np.log10(max(rows.values()) / low)
    for k, (name, value) in enumerate(rows.items()):
        y = 4.6 * (len(rows) - k) - 1.4
        thing = ("old", "scale", "gradient")[min(k, 2)]
        width = unit * np.log10(value / low)
        ax.add_patch(Rectangle((20, y), width, 3, facecolor=THINGS[thing][0]))
        note(ax, 19, y + 1.5, name, ha="right")
        note(ax, 20.8 + width, y + 1.5, f"{value:.2f}", NORMAL, ha="left", bold=True)
    note(ax, 1, 4.6 * len(rows) + 4, f"KL at {bits:.1f} bits per weight (the bars' lengths are logarithms)", ha="left")
    names, values = list(rows), list(rows.values())
    show(
        ax,
        f"Pebble in 2 bits, three ways at the same price. Better scales divide the KL by {values[0] / values[1]:.0f}; "
        f"{names[-1]} on top of that, by {values[1] / values[-1]:.1f}.",
        "Three bars: " + "; ".join(f"{name} {value:.2f}" for name, value in rows.items()),
    )


def growth(per_token: Mapping[str, float], weights: float, card: float, longest: int) -> None:
    """Draw memory over the tokens of a text: {type of the cache: bytes per token} on top of a model's weights."""
    ax = canvas(32)
    top = 1.25 * card
    plot = chart(ax, 7, 5, 46, 23, xlim=(0, longest), ylim=(0, top / 1e9), yticks=(0, 2, 4, 6, 8))
    tokens = np.array((0, longest))
    plot.fill_between(tokens, 0, weights / 1e9, color=THINGS["weight"][1])
    note(plot, longest / 2, weights / 2e9, f"weights in Q4_K_M: {weights / 1e9:.1f} GB", NORMAL, "weight", bold=True)
    plot.axhline(card / 1e9, color=THINGS["error"][0], linewidth=1.6, linestyle=(0, (4, 3)))
    note(plot, longest / 40, card / 1e9 + 0.45, f"the card: {card / 1e9:.1f} GB", colour="error", ha="left")
    told = []
    for kind, each in per_token.items():
        ends = (weights + each * tokens) / 1e9
        plot.plot(tokens, ends, color=THINGS["attention"][0], linewidth=2)
        note(plot, 1.015 * longest, ends[1], kind, NORMAL, "attention", "left", bold=True)
        told.append(f"{kind}: {ends[1]:.1f} GB")
    plot.set_xticks((0, longest // 2, longest), ("0", f"{longest // 2:,}", f"{longest:,}"))
    note(ax, 0.8, 30.4, "GB", ha="left")
    note(ax, 30, 1.4, "tokens of text")
    show(
        ax,
        f"Qwen3-8B: what weights and cache take together, for three types of the cache. At {longest:,} tokens the "
        f"cache in 16 bits is as large as the weights nearly: {per_token['F16'] * longest / 1e9:.1f} GB.",
        f"Three rising lines above a block of weights. At the end, {'; '.join(told)}; the card has {card / 1e9:.1f}.",
    )


def kept() -> dict:
    """Return what `python -m kit.other_ways` has measured of SmolLM2."""
    return json.loads(files("llmnotes").joinpath("other_ways.json").read_text(encoding="utf-8"))


def folds() -> None:
    """Draw what AWQ leaves of the kept KL of SmolLM2, in 4 and in 3 bits, on each kind of text."""
    found = {bits: kept()["AWQ"][bits] for bits in ("4", "3")}
    ax = canvas(34)
    unit, told = 17.0, []
    names = list(found["4"]["AWQ"])
    for panel, (bits, ways) in enumerate(found.items()):
        x = 22.0 + 21.5 * panel
        note(ax, x + unit / 2, 31.6, f"in {bits} bits", NORMAL, bold=True)
        for k, name in enumerate(names):
            y = 24 - 6.6 * k
            left = ways["AWQ"][name] / ways["nearest"][name]
            thing = "weight" if left < 1 else "error"
            strong, pale = THINGS[thing]
            ax.add_patch(Rectangle((x, y), unit * left, 3.6, facecolor=pale, edgecolor=strong, linewidth=1.3))
            inside = left > 0.3
            note(ax, x + unit * left + (-1 if inside else 1), y + 1.8, f"{left:.0%}", ha="right" if inside else "left")
            if not panel:
                note(ax, 21, y + 1.8, name, ha="right")
            told.append(f"{bits} bits, {name}: {left:.0%}")
        ax.plot((x + unit,) * 2, (3, 29.6), color="black", linewidth=1.2, linestyle=(0, (4, 3)))
    note(ax, 22, 1.4, "dashed: without AWQ", ha="left")
    show(
        ax,
        "What AWQ leaves of the KL that plain rounding costs SmolLM2 (groups of 64, with a zero-point).",
        "Bars for four kinds of text: " + "; ".join(told),
    )


def evening(
    smoothed: Sequence[float],
    paid: Mapping[str, Mapping[str, float]],
    zeros: Sequence[float],
    in_two: Mapping[str, float],
) -> None:
    """Draw a table of all methods: how it was measured, what it needs, and what is left against its own rival.

    Pairs are (before, after); `paid` has ratios already. AWQ's and the keys' ratios are medians of `kept` ones.
    """
    wide, best, steps = (in_two[name] for name in ("widest scales", "best scales", "and 16 steps"))
    fold, caches = kept()["AWQ"]["4"], kept()["cache"].values()
    awq = float(np.median([fold["AWQ"][text] / fold["nearest"][text] for text in fold["AWQ"]]))
    keys = float(np.median([one["keys per channel"] / one["keys per token"] for one in caches]))
    rows = {
        "imatrix": ("KL, Q2_K", "text", paid["Q2_K"]["stories"]),
        "AWQ": ("KL, 4 bits, four texts", "text", awq),
        "keys per channel": ("KL, 4 bits, four texts", "kernel", keys),
        "half zeros": ("KL, 3.5 bits", "text, kernel", zeros[1] / zeros[0]),
        "best scales": ("KL, 2 bits", "nothing", best / wide),
        "16 steps, then": ("KL, 2 bits", "text, gradients", steps / best),
        "SmoothQuant": ("error, worst layer", "text", smoothed[1] / smoothed[0]),
    }
    ax = canvas(6 + 5.4 * len(rows))
    top = 5.4 * len(rows)
    for x, word in ((1, "method"), (18, "measured as"), (36, "needs"), (50, "what is left")):
        note(ax, x, top + 3.4, word, ha="left", bold=True)
    told = []
    for k, (name, (price, needs, left)) in enumerate(rows.items()):
        y = top - 5.4 * (k + 1) + 1
        thing = "weight" if left < 0.95 else "error"
        note(ax, 1, y + 2, name, ha="left", bold=True)
        note(ax, 18, y + 2, price, ha="left")
        note(ax, 36, y + 2, needs, ha="left")
        width = 5.6 * left
        ax.add_patch(Rectangle((50, y + 0.7), width, 2.6, facecolor=THINGS[thing][1], edgecolor=THINGS[thing][0]))
        note(ax, 50.6 + width, y + 2, f"{left:.0%}", ha="left")
        told.append(f"{name} {'pays' if left < 0.95 else 'does not pay'}")
        ax.plot((1, 63), (y + 4.9,) * 2, color="#d5dae0", linewidth=1)
    show(
        ax,
        "What is left when a method is used, against the same bits without it. Green: less than 95% is left.",
        "A table. " + "; ".join(told),
    )
