"""The pictures of "Quantizing a model": levels under a bell, a block of Q4_K byte by byte, and one large channel."""

from statistics import NormalDist

import numpy as np
from matplotlib.patches import Rectangle

from llmnotes.plots.drawing import (
    NORMAL,
    THINGS,
    Numbers,
    Spot,
    arrow,
    canvas,
    cell,
    chart,
    matrix,
    note,
    plus,
    show,
)
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


def bell(levels: Numbers, outermost: float, groups: np.ndarray) -> None:
    """Draw the bell cut at NF4's levels, and how the weights of real blocks spread over these levels.

    `outermost` is where on the bell the level 1 lies; `groups` are blocks of weights, (blocks, weights).
    """
    ax = canvas(47)
    normal, levels = NormalDist(), np.asarray(levels, float)
    borders, reach, x0, width = outermost * levels, 2.6, 3.0, 58.0
    (strong, pale), code = THINGS["weight"], THINGS["code"][0]
    plot = chart(ax, x0, 27, width, 15, xlim=(-reach, reach), ylim=(0, 0.43), xticks=(), yticks=())
    plot.spines["left"].set_visible(False)
    xs = np.linspace(-reach, reach, 521)
    plot.fill_between(xs, [normal.pdf(x) for x in xs], color="#eef1f4", linewidth=0)
    for i, (low, high) in enumerate(zip(borders, borders[1:], strict=False)):
        part = np.linspace(low, high, 25)
        plot.fill_between(part, [normal.pdf(x) for x in part], color=pale if i % 2 else "#b9dfc6", linewidth=0)
    plot.plot(xs, [normal.pdf(x) for x in xs], color=strong, linewidth=2)
    for border in borders:
        plot.plot((border,) * 2, (0, normal.pdf(border)), color=code, linewidth=1.2)
    places = x0 + (borders + reach) / (2 * reach) * width
    zero, shares = int(np.abs(borders).argmin()), np.diff([normal.cdf(border) for border in borders])
    left = f"{zero} slices of {shares[0]:.1%}"
    right = f"{len(shares) - zero} slices of {shares[-1]:.1%}"
    note(ax, x0, 45, f"a bell: {left} left of 0, {right} right", NORMAL, "weight", "left", bold=True)

    real = np.histogram(groups / np.abs(groups).max(axis=1, keepdims=True), levels)[0] / groups.size
    for low, high, share in zip(places, places[1:], real, strict=False):
        ax.add_patch(Rectangle((low, 6), high - low, 110 * share, facecolor=pale, edgecolor=strong, linewidth=1.2))
    ax.plot((places[0], places[-1]), (6 + 110 / len(real),) * 2, color="black", linewidth=1.3, linestyle=(0, (4, 3)))
    for place in places:
        ax.plot((place, place), (3.6, 20.6), color=code, linewidth=0.8, alpha=0.5, zorder=0)
        ax.plot((place, place), (3.6, 6), color=code, linewidth=1.8)
    for k in (0, zero, len(borders) - 1):
        note(ax, places[k], 2, minus(f"{levels[k]:.0f}"), colour="code", bold=True)
    said = f"blocks of our matrix: {real.min():.1%} to {real.max():.1%}"
    note(ax, x0, 23.4, said, NORMAL, "weight", "left", bold=True)
    note(ax, 42, 2, "NF4's levels", NORMAL, "code", bold=True)
    show(
        ax,
        "Above, a bell: between two neighbouring levels of NF4 lies the same share of it, on each side of 0. Below, "
        f"the shares of our matrix in blocks of {groups.shape[1]}, each divided by its largest weight. That bends the "
        "bell, and they are no longer equal (dashed: equal shares).",
        f"A bell curve in slices: {left}, {right}, and a rest outside. Below it, bars between the same levels, from "
        f"{real.min():.1%} to {real.max():.1%}.",
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
        "A block of Q4_K; dark bytes are large. Below, the numbers that are packed into the 12 bytes: each of the "
        "eight parts of 32 weights has a scale and a minimum, from 0 to 63. Two float16 numbers, d and dmin, bring "
        "them back.",
        f"{len(data)} small cells in rows: two for d, two for dmin, twelve for scales and minima, 128 for codes; "
        "below, the scales and minima of the eight parts.",
    )


def channels(x: np.ndarray) -> None:
    """Draw the largest size of each channel of activations x, (tokens, channels), and half a step of int8."""
    ax = canvas(31)
    tops, worst = np.abs(x).max(axis=0), int(np.abs(x).max(axis=0).argmax())
    half = np.median(np.abs(x).max(axis=1)) / 127 / 2
    limits = {"xlim": (-8, len(tops) + 8), "ylim": (0.01, 30), "yticks": (0.01, 0.1, 1, 10)}
    plot = chart(ax, 6.5, 4.6, 55, 22, yscale="log", **limits)
    plot.set_yticks([], minor=True)
    plot.set_yticklabels([f"{value:g}" for value in plot.get_yticks()])
    plot.scatter(np.arange(len(tops)), tops, s=9, color=THINGS["stream"][0], zorder=3)
    plot.scatter(worst, tops[worst], s=70, color=THINGS["error"][0], zorder=4)
    typical = np.median(np.abs(x))
    for height, thing in ((half, "error"), (typical, "stream")):
        plot.axhline(height, color=THINGS[thing][0], linewidth=1.6, linestyle=(0, (4, 3)))
    note(plot, worst + 14, tops[worst], f"channel {worst}: {tops[worst]:.0f}", NORMAL, "error", "left", bold=True)
    note(plot, 4, half * 0.6, f"half a step of int8: {half:.3f}; what is smaller becomes 0", ha="left", colour="error")
    note(plot, 4, typical * 1.35, f"a typical number: {typical:.2f}", ha="left", colour="stream")
    note(ax, 6.5, 29.2, "the largest size in each channel", ha="left")
    note(ax, 34, 1.3, "channel")
    show(
        ax,
        f"A dot for each of the {len(tops)} channels of what one layer reads. Channel {worst} stretches the step for "
        "all of them, up to the size of a typical number.",
        f"Dots, the others up to {np.sort(tops)[-2]:.1f}, and a single one at {tops[worst]:.0f}; below, two dashed "
        "lines: a typical number, and half a step.",
    )


def split(x: np.ndarray, large: np.ndarray, outputs: int) -> None:
    """Draw the two products of LLM.int8() for x, (tokens, channels): of the `large` channels, and of all others."""
    tokens, channels = x.shape
    at, strong = np.flatnonzero(large)[0] / channels, THINGS["error"][0]
    ax = canvas(34)
    left = matrix(ax, 6, 21, 18, 8, cols=f"{channels} channels", rows=f"{tokens}")
    right = matrix(ax, 30, 18.5, 12, 13, "", "weight", cols=f"{outputs} outputs")
    note(ax, 8.5, 25, "X", NORMAL, bold=True)
    note(ax, 36, 28.5, "Wᵀ", NORMAL, bold=True)
    note(ax, 27, 25, "×", 16)
    column, row = left.x + at * left.w, right.y + (1 - at) * right.h
    ax.plot((column, column), (left.y, left.y + left.h), color=strong, linewidth=4, solid_capstyle="butt", zorder=5)
    ax.plot((right.x, right.x + right.w), (row, row), color=strong, linewidth=4, solid_capstyle="butt", zorder=5)
    note(ax, 43.5, 26.5, "red: a large channel,", ha="left", colour=strong)
    note(ax, 43.5, 23.9, "and the weights it meets", ha="left", colour=strong)
    arrow(ax, (column, 20.4), (7.5, 13.2), thing="error")
    arrow(ax, (27, 17.8), (36, 13.4))
    ax.plot((4, 4), (4.5, 12), color=strong, linewidth=4, solid_capstyle="butt")
    note(ax, 6.6, 8.4, "×", 16)
    ax.plot((9, 21), (8.4, 8.4), color=strong, linewidth=4, solid_capstyle="butt")
    note(ax, 10.5, 1.8, f"{large.sum()} of {channels}, in floats", colour=strong, bold=True)
    plus(ax, 25.5, 8.4)
    matrix(ax, 30, 4.4, 16, 8, "X", small="int8")
    note(ax, 48.3, 8.4, "×", 16)
    matrix(ax, 50.6, 2.6, 11, 11, "Wᵀ", "weight", small="int8")
    note(ax, 38, 1.8, f"the other {channels - large.sum()}", bold=True)
    show(
        ax,
        "LLM.int8(): a product of two matrices is a sum over channels, so it can be taken apart. The few channels with "
        "large numbers are multiplied in floats, all others in 8 bits, and both are added.",
        "Two matrices with one column and one row marked; below, the marked column times the marked row, plus the "
        "product of what is left, in int8.",
    )
