"""The pictures of "Quantizing a model": levels under a bell, a block of Q4_K byte by byte, the ladder, and a choice."""

from collections.abc import Mapping, Sequence
from statistics import NormalDist

import numpy as np

from llmnotes.plots.drawing import NORMAL, THINGS, Numbers, Spot, canvas, cell, chart, note, show
from llmnotes.plots.drawing_numbers import minus


def usage(codes: np.ndarray, top: int) -> None:
    """Draw how many of the weights get each code from -top to top."""
    ax = canvas(24)
    shares = np.array([(codes == code).mean() for code in range(-top, top + 1)])
    step, x, y = 62 / len(shares), 1.0, 3.4
    for i, share in enumerate(shares):
        cell(ax, x + i * step + 0.2, y, step - 0.4, 15 * share / shares.max(), "", "code", 0.6)
        note(ax, x + (i + 0.5) * step, y + 15 * share / shares.max() + 1.2, f"{share:.0%}")
        note(ax, x + (i + 0.5) * step, y - 1.7, minus(i - top), colour="code", bold=True)
    note(ax, x, 22.6, "how many of the weights get each code", ha="left")
    middle = shares[top - 2 : top + 3].sum()
    show(
        ax,
        f"The {len(shares)} codes of our recipe in 4 bits, and how often each is used. The five in the middle serve "
        f"{middle:.0%} of the weights; the others are there for the few that are large.",
        f"A bar for each code from {-top} to {top}. The middle ones are the highest, and the outermost rise again, "
        "since each block has one weight that lands there.",
    )


def bell(levels: Numbers) -> None:
    """Draw the bell of the normal distribution, cut into equally likely parts, and NF4's levels below it."""
    ax = canvas(30)
    levels = np.sort(np.asarray(levels, float))
    normal, cuts = NormalDist(), len(levels)
    reach, x0, width = 2.6, 3.0, 58.0

    def place(value: float) -> float:
        return x0 + (value + reach) / (2 * reach) * width

    plot = chart(ax, x0, 12, width, 14, xlim=(-reach, reach), ylim=(0, 0.42), xticks=(), yticks=())
    plot.spines["left"].set_visible(False)
    xs = np.linspace(-reach, reach, 401)
    plot.fill_between(xs, [normal.pdf(x) for x in xs], color=THINGS["weight"][1], linewidth=0)
    plot.plot(xs, [normal.pdf(x) for x in xs], color=THINGS["weight"][0], linewidth=2)
    for i in range(1, cuts):
        at = normal.inv_cdf(i / cuts)
        plot.plot((at, at), (0, normal.pdf(at)), color=THINGS["weight"][0], linewidth=1)
    widest = normal.inv_cdf(0.9677083)
    for value in levels:
        at = place(value * widest)
        ax.plot((at, at), (6.6, 10.6), color=THINGS["code"][0], linewidth=1.6)
    for value in (levels[0], levels[cuts // 2 - 1], levels[-1]):
        note(ax, place(value * widest), 4.9, minus(f"{value + 0.0:.2f}".replace("0.00", "0")), colour="code")
    note(ax, x0, 28, f"how often weights of each size come up, in {cuts} parts that are equally likely", ha="left")
    note(ax, x0, 2, "NF4's levels: one for each part, and 0 among them", NORMAL, "code", "left", bold=True)
    show(
        ax,
        f"Above, the bell curve, cut into {cuts} parts of the same area. Below, NF4 has a level for each: close "
        "together where weights are common, and far apart where they are rare.",
        f"A bell curve in {cuts} slices, narrow in the middle and wide outside, above {cuts} ticks that are dense in "
        "the middle.",
    )


def super_block(data: np.ndarray, scales: Numbers, minima: Numbers) -> None:
    """Draw the bytes of one block of Q4_K, uint8 (144,), and the scale and minimum of each of its eight parts."""
    ax = canvas(37)
    parts = (("d", 2, "scale"), ("dmin", 2, "scale"), ("6-bit scales and minima", 12, "table"), ("codes", 128, "code"))
    at, size, per = 0, 1.9, 32
    spots: list[Spot] = []
    for _, count, thing in parts:
        for i in range(at, at + count):
            row, column = divmod(i - 16, per) if i >= 16 else (-1, i)
            spots.append(
                cell(ax, 1.5 + column * size, 26.4 - 3 * (row + 1), size, 2.2, "", thing, 0.15 + data[i] / 320)
            )
        at += count
    note(ax, 1.5, 35.4, f"one block of 256 weights in {len(data)} bytes", NORMAL, ha="left", bold=True)
    note(ax, 3.4, 30.6, "d", colour="scale", bold=True)
    note(ax, 7.4, 30.6, "dmin", colour="scale", bold=True)
    note(ax, 10.6, 30.6, "8 scales and 8 minima of 6 bits", colour="table", ha="left", bold=True)
    note(ax, 34, 27.5, "below: 128 bytes with two codes each", ha="left", colour="code")
    note(ax, 1.5, 11.6, "part", ha="left")
    note(ax, 1.5, 7.6, "scale", colour="scale", ha="left")
    note(ax, 1.5, 3.6, "minimum", colour="scale", ha="left")
    for i, (scale, minimum) in enumerate(zip(scales, minima, strict=True)):
        x = 11 + 6.5 * i
        note(ax, x + 3.2, 11.6, str(i), bold=True)
        cell(ax, x, 6, 6.5, 3.2, str(int(scale)), "scale", float(scale) / 70)
        cell(ax, x, 2, 6.5, 3.2, str(int(minimum)), "scale", float(minimum) / 70)
    show(
        ax,
        "A block of Q4_K. Eight parts of 32 weights have a scale and a minimum each, and these are whole numbers from "
        "0 to 63: quantized in their turn. Two float16 numbers, d and dmin, bring them back.",
        f"{len(data)} small cells in rows: two for d, two for dmin, twelve for scales and minima, 128 for codes; "
        "below, the scales and minima of the eight parts.",
    )


def ladder(models: Mapping[str, Mapping[str, Mapping[str, float]]]) -> None:
    """Draw how many next tokens change over bits per weight: {model: {type: {"bits", "other", "other_error"}}}."""
    ax = canvas(36)
    plot = chart(
        ax, 7.5, 5, 54, 27, yscale="log", xlim=(2.4, 9), ylim=(0.001, 0.6), yticks=(0.001, 0.003, 0.01, 0.03, 0.1, 0.3)
    )
    plot.set_yticks([], minor=True)
    plot.set_yticklabels([f"{value:.1%}" if value < 0.01 else f"{value:.0%}" for value in plot.get_yticks()])
    plot.grid(axis="y", color="#e3e7eb", linewidth=0.8)
    for (name, types), thing, mark in zip(models.items(), ("stream", "attention"), "os", strict=False):
        rungs = [(one["bits"], max(one["other"], 0.001), kind, one["other_error"]) for kind, one in types.items()]
        rungs = sorted(rung for rung in rungs if rung[2] != "original")
        x, y, kinds, errors = zip(*rungs, strict=True)
        low = np.minimum(errors, 0.9 * np.array(y))
        plot.errorbar(x, y, (low, errors), color=THINGS[thing][0], marker=mark, linewidth=1.8, elinewidth=1)
        above = thing == "attention"
        for i, (at, height, kind) in enumerate(zip(x, y, kinds, strict=True)):
            if above and i % 2 == 0 or not above and i % 2:
                way = 0.1 if above else -0.1
                note(
                    plot,
                    at + way,
                    height * (1.3 if above else 0.75),
                    kind,
                    colour=thing,
                    ha="left" if above else "right",
                )
        note(ax, 50, 29.5 - 2.6 * above, name, NORMAL, thing, "left", bold=True)
    note(ax, 34, 1.5, "bits per weight, scales included")
    note(ax, 7.5, 34.2, "next tokens that are other ones, with standard error", ha="left")
    show(
        ax,
        "How many of the likeliest next tokens of a text are other ones. From Q8_0 to Q4_K_M little happens; below 4 "
        "bits the lines rise steeply.",
        "Two rising lines over falling bits per weight, for " + " and ".join(models) + ", with a point for each type.",
    )


def choices(cards: Mapping[str, Mapping[str, str]], models: Sequence[str]) -> None:
    """Draw the largest type of each model that fits each card: {card: {model: type, or ""}}."""
    ax = canvas(6 + 4.2 * len(cards))
    left, width = 12.5, 51 / len(models)
    for k, model in enumerate(models):
        note(ax, left + (k + 0.5) * width, 4.2 * len(cards) + 3, model.upper(), bold=True)
    told = []
    for i, (card, found) in enumerate(cards.items()):
        y = 4.2 * (len(cards) - i - 1) + 0.6
        note(ax, 0.8, y + 1.8, card, NORMAL, ha="left", bold=True)
        largest = max(k for k, model in enumerate(models) if found.get(model, "Q2")[:2] not in ("", "Q2", "Q3"))
        for k, model in enumerate(models):
            kind = found.get(model, "")
            small = kind.startswith(("Q2", "Q3"))
            thing = "old" if not kind else "error" if small else "weight"
            cell(ax, left + k * width, y, width - 0.4, 3.6, kind or "—", thing, 0.1, strong=k == largest)
            told.append(f"{card}, {model}: {kind or 'none'}")
    show(
        ax,
        "For each machine (rows) and each size of Qwen3 (columns), the type with the most bits that fits whole on the "
        "graphics card, beside 8,192 tokens of text. Framed: the largest model in 4 bits or more. Red: below 4 bits.",
        "A table of types. " + "; ".join(told),
    )
