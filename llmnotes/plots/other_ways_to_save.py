"""The pictures of "Other ways to save" that explain: a fold, columns that matter, zeros, a staircase, and a cache."""

from collections.abc import Sequence

import numpy as np

from llmnotes.plots.drawing import (
    NORMAL,
    THINGS,
    Numbers,
    arrow,
    box,
    canvas,
    cell,
    chart,
    note,
    show,
    signed,
    vector,
)
from llmnotes.plots.drawing_numbers import bits, minus, patch
from llmnotes.quantization import pruning


def fold(channel: int, scales: np.ndarray, norms: np.ndarray, seen: np.ndarray, weights: np.ndarray) -> None:
    """Draw one channel before and after its factor is folded into the norm: its numbers in norm, x and weights.

    `scales` and `norms` are (channels,), `seen` (tokens, channels), `weights` (outputs, channels).
    """
    s, norm = float(scales[channel]), float(norms[channel])
    x, w = (float(np.abs(part[:, channel]).max()) for part in (seen, weights))
    ax = canvas(31)
    for y, name, by in ((18.5, "before", 1.0), (3.5, "folded", s)):
        note(ax, 0.8, y + 9.4, name, NORMAL, ha="left", bold=True)
        put = box(ax, 3, y, 15, 7, f"{norm / by:.3f}", "norm", small=f"÷ {s:.2f}" if by > 1 else "norm")
        out = box(ax, 27, y, 13, 7, f"{x / by:.1f}", "stream", small="largest x")
        read = box(ax, 49, y, 14, 7, f"{w * by:.2f}", "weight", small=f"× {s:.2f}" if by > 1 else "largest weight")
        arrow(ax, put.right, out.left)
        arrow(ax, out.right, read.left)
    note(ax, 33.5, 14.2, f"channel {channel}: the products stay what they were", colour="stream")
    show(
        ax,
        f"Channel {channel} on its way from the norm to the weights that read it. Below, the norm's own number is "
        f"divided by {s:.2f} and the column of weights multiplied by it, once and for all: the model does the same "
        "calculations as before, with other numbers.",
        f"Two rows of three boxes. Before: {norm:.3f} in the norm, {x:.1f} in x, {w:.2f} in the weights. Folded: "
        f"{norm / s:.3f}, {x / s:.1f}, {w * s:.2f}.",
    )


def shared(channel: int, scales: np.ndarray, seen: np.ndarray, weights: np.ndarray) -> None:
    """Draw the largest size in each channel of `seen` and of `weights`, before and after smoothing by `scales`."""
    x_tops, w_tops = np.abs(seen).max(axis=0), np.abs(weights).max(axis=0)
    before, after = (x_tops, w_tops), (x_tops / scales, w_tops * scales)
    ax = canvas(31)
    for x0, name, (x, w) in ((6, "before", before), (38, "after", after)):
        plot = chart(ax, x0, 5, 25, 21, yscale="log", ylim=(0.05, 30), xticks=(), yticks=(0.1, 1, 10))
        plot.set_yticks([], minor=True)
        plot.set_yticklabels([f"{value:g}" for value in plot.get_yticks()])
        for sizes, thing, mark, area in ((w, "weight", "s", 16), (x, "stream", "o", 3)):
            colour = THINGS[thing][0]
            plot.scatter(np.arange(len(sizes)), sizes, s=area, color=colour, alpha=0.6, marker=mark, linewidth=0)
            large = {"s": 10 + 8 * area, "edgecolor": "black", "zorder": 5}
            plot.scatter(channel, sizes[channel], color=colour, marker=mark, **large)
        note(plot, channel + 25, x[channel], f"{x[channel]:.1f}", NORMAL, "stream", "left", bold=True)
        note(ax, x0 + 12.5, 28.6, name, NORMAL, bold=True)
    note(ax, 18.5, 2.2, "blue dots: largest of x")
    note(ax, 50.5, 2.2, "green squares: largest weight")
    (x, _), (y, _) = before, after
    show(
        ax,
        f"Each channel's largest x and largest weight. Before, channel {channel} (large marks) is "
        f"{x[channel] / np.median(x):.0f} times as large as the middling one; after, "
        f"{y[channel] / np.median(y):.0f} times. With α = 0.5 the largest x and the largest weight of every "
        "channel are equal then.",
        f"Two clouds of dots and squares. Channel {channel} of x falls from {x[channel]:.1f} to {y[channel]:.1f}.",
    )


def exponent(alphas: Numbers, errors: Numbers, best: float) -> None:
    """Draw the error of a layer's outputs over AWQ's exponent, and the exponent that was chosen on other tokens."""
    ax = canvas(27)
    errors, alphas = np.asarray(errors, float), np.asarray(alphas, float)
    plot = chart(
        ax, 7, 5.5, 54, 17.5, xlim=(-0.03, 1.03), ylim=(0, 1.15 * errors.max()), xticks=(0, 0.25, 0.5, 0.75, 1)
    )
    plot.set_yticks(plot.get_yticks(), [f"{value:.0%}" for value in plot.get_yticks()])
    plot.set_ylim(0, 1.15 * errors.max())
    plot.plot(alphas, errors, color=THINGS["error"][0], linewidth=2.2)
    at = errors[np.abs(alphas - best).argmin()]
    for x, y, side in ((0.0, errors[0], "left"), (best, at, "center")):
        plot.scatter(x, y, s=60, color=THINGS["error"][0], zorder=4)
        note(
            plot,
            x + (0.02 if side == "left" else 0),
            y + 0.1 * errors.max(),
            f"{y:.0%}",
            NORMAL,
            "error",
            side,
            bold=True,
        )
    note(ax, 0.8, 25, "error of the outputs, on tokens it hasn't seen", ha="left")
    note(ax, 34, 1.6, "α: 0 scales nothing, 1 scales by the whole size of the inputs")
    show(
        ax,
        f"How far the columns with large inputs are scaled up before rounding to 3 bits. At α = {best:g}, chosen on "
        "other tokens, the outputs err least or nearly so; further up, the other weights pay too much.",
        f"A curve that falls from {errors[0]:.0%} at 0 to {at:.0%} at {best:g} and ends at {errors[-1]:.0%}.",
    )


def columns(means: np.ndarray, ours: slice) -> None:
    """Draw the importance of all columns, largest first, and of our eight."""
    ax = canvas(28)
    order = np.argsort(-means)
    rank = np.empty(len(means), int)
    rank[order] = np.arange(len(means))
    limits = (0.5 * means.min(), 3 * means.max())
    plot = chart(ax, 8, 5, 53, 18.5, yscale="log", xlim=(-8, len(means) + 8), ylim=limits)
    plot.fill_between(np.arange(len(means)), means[order], limits[0], color=THINGS["stream"][1], linewidth=0)
    plot.plot(means[order], color=THINGS["stream"][0], linewidth=2)
    plot.set_yticks([], minor=True)
    eight = np.arange(len(means))[ours]
    plot.scatter(rank[eight], means[eight], s=60, color=THINGS["weight"][0], zorder=4, edgecolor="white")
    best = eight[means[eight].argmax()]
    note(plot, float(rank[best]) + 15, 2.2 * float(means[best]), f"column {best}", NORMAL, "weight", "left", bold=True)
    note(ax, 0.8, 26, "mean of the squared inputs, column by column, largest first", ha="left")
    note(ax, 34, 1.5, "rank of the column")
    first = np.sort(means)[-len(means) // 100 :].sum() / means.sum()
    show(
        ax,
        f"The {len(means)} columns of the matrix. Up and down, each line is ten times the next. The largest is "
        f"{means.max() / np.median(means):.0f} times the middling one, and the first hundredth of the columns has "
        f"{first:.0%} of the whole. Green: our eight.",
        f"A curve that falls steeply from {means.max():.0f} to {means.min():.0f}, with eight dots on it.",
    )


def two_scales(steps: Numbers, plain: Numbers, weighed: Numbers) -> None:
    """Draw both errors of one block over the step that its levels have; each is divided by its own least."""
    ax = canvas(27)
    steps = np.asarray(steps, float)
    curves = [np.asarray(values, float) / np.min(values) for values in (plain, weighed)]
    plot = chart(ax, 6, 5.2, 55, 18, xlim=(steps[0], steps[-1]), ylim=(0.8, 4))
    for values, thing, name, up in zip(curves, ("old", "stream"), ("plain", "weighed"), (2.2, 2.8), strict=True):
        best = values.argmin()
        plot.plot(steps, values, color=THINGS[thing][0], linewidth=2.2)
        plot.scatter(steps[best], 1, s=60, color=THINGS[thing][0], zorder=4)
        plot.plot((steps[best],) * 2, (0.8, up - 0.15), color=THINGS[thing][0], linewidth=1, linestyle=(0, (3, 3)))
        side = "right" if best > 40 else "center"
        note(plot, float(steps[best]), up, f"{name}: {steps[best]:.3f}", NORMAL, thing, side, bold=True)
    note(ax, 0.8, 25.2, "squared error of a block, its least being 1", ha="left")
    note(ax, 34, 1.5, "the block's scale")
    a, b = (steps[values.argmin()] for values in curves)
    show(
        ax,
        "One block of 32 weights in 3 bits, with every scale tried. Where all errors count alike, one scale is the "
        f"best; where a column counts as much as its inputs do, another one is: {b:.3f} in place of {a:.3f}.",
        f"Two curves with their lowest points at {a:.3f} and {b:.3f}.",
    )


def chosen(w: np.ndarray, strength: np.ndarray) -> None:
    """Draw eight weights, the size of their inputs, and what each way of pruning leaves of them."""
    rows = {
        "magnitude": pruning.magnitude(w[None], per="row")[0],
        "Wanda": pruning.wanda(w[None], strength)[0],
        "Wanda, 2:4": pruning.wanda(w[None], strength, per="2:4")[0],
    }
    merit = np.abs(w) * strength
    ax = canvas(7 + 5 * (2 + len(rows)))
    top, width, x0 = 5 * (2 + len(rows)) + 1.5, 5.8, 16
    for k, (name, values, thing) in enumerate((("weight", w, "weight"), ("|w| · input", merit, "stream"))):
        y = top - 5 * k
        note(ax, x0 - 1, y + 1.6, name, ha="right", bold=True)
        vector(ax, x0, y, values, thing, width, form="{:+.2f}" if thing == "weight" else "{:.2f}")
    told = []
    for k, (name, values) in enumerate(rows.items()):
        y = top - 5 * (k + 2) - 1.5
        note(ax, x0 - 1, y + 1.6, name, ha="right", bold=True)
        for i, value in enumerate(values):
            share = abs(value) / np.abs(w).max() if value else 0
            cell(ax, x0 + i * width, y, width, 3.2, signed(value, "{:+.2f}") if value else "0",
                 "weight" if value else "error", share)  # fmt: skip
        told.append(f"{name} keeps {', '.join(minus(f'{value:.2f}') for value in values if value)}")
    show(
        ax,
        "Eight weights of our row; half of them must go. Magnitude looks at the first row, Wanda at the second. 2:4 "
        "does, too, but leaves two in each half of the row.",
        "Rows of eight cells. " + "; ".join(told) + ".",
    )


def mask(weights: np.ndarray, strength: np.ndarray) -> None:
    """Draw eight weights, half of them 0 by Wanda, as a mask of bits and the numbers that are left."""
    w = pruning.wanda(weights[None], strength)[0]
    left = w[w != 0]
    ax = canvas(27)
    note(ax, 1, 25, f"with zeros: {len(w)} × 16 = {16 * len(w)} bits", NORMAL, ha="left", bold=True)
    for i, value in enumerate(w):
        cell(ax, 1 + i * 7.7, 19.5, 7.7, 3.4, signed(value, "{:+.2f}") if value else "0",
             "weight" if value else "error", 0.4 if value else 0)  # fmt: skip
    total = len(w) + 16 * len(left)
    note(ax, 1, 13, f"without: {len(w)} + {len(left)} × 16 = {total} bits", NORMAL, ha="left", bold=True)
    bits(ax, 1, 7.4, "".join("1" if value else "0" for value in w), [(len(w), "code")], 1.9, 3.4)
    for i, value in enumerate(left):
        cell(ax, 20 + i * 7.7, 7.4, 7.7, 3.4, signed(value, "{:+.2f}"), "weight", 0.4)
    note(ax, 1, 4.6, "where they were", ha="left", colour="code")
    note(ax, 35.4, 4.6, "the numbers that are left", colour="weight")
    note(ax, 1, 1.6, f"{total / len(w):.0f} bits per weight", NORMAL, ha="left", bold=True)
    show(
        ax,
        "Zeros in a file take as much room as other numbers. To save something they must leave, and then a bit for "
        "each weight has to say where a number stood.",
        f"Eight cells of 16 bits, {16 * len(w)} bits; below, a mask of {len(w)} bits and {len(left)} cells, "
        f"{total} bits.",
    )


def staircase() -> None:
    """Draw rounding as a staircase, and the line that the straight-through estimator puts in its place."""
    ax = canvas(27)
    plot = chart(ax, 5, 4.4, 56, 20, xlim=(-1.6, 1.6), ylim=(-1.9, 1.9), xticks=(-1, 0, 1), yticks=(-1, 0, 1))
    xs = np.linspace(-1.6, 1.6, 1281)
    stairs = np.round(xs)
    stairs[1:][np.diff(stairs) != 0] = np.nan
    plot.plot(xs, stairs, color=THINGS["code"][0], linewidth=2.6)
    plot.plot(xs, xs, color=THINGS["gradient"][0], linewidth=1.8, linestyle=(0, (4, 3)))
    note(plot, 0.93, 1.55, "backward: slope 1", NORMAL, "gradient", "right", bold=True)
    note(plot, 0.05, -0.45, "forward: steps, slope 0", NORMAL, "code", "left", bold=True)
    show(
        ax,
        "Rounding is a staircase, and on a step nothing changes, so no gradient comes through. The straight-through "
        "estimator calculates with the steps and pretends, on the way back, that they are the dashed line.",
        "Flat steps at −1, 0 and 1, and a dashed diagonal through them.",
    )


def swing(path: Sequence[tuple[float, float]]) -> None:
    """Draw the path of one weight that is trained through rounding: (the weight, what it is rounded to) by step."""
    ax = canvas(26)
    weights, rounded = np.array(path).T
    plot = chart(ax, 5, 5, 56, 18, xlim=(-0.5, len(weights) - 0.5), ylim=(-0.15, 1.2), yticks=(0, 0.5, 1))
    plot.axhline(0.5, color="black", linewidth=1, linestyle=(0, (4, 3)))
    plot.scatter(np.arange(len(rounded)), rounded, s=34, color=THINGS["code"][0], marker="s", zorder=3)
    plot.plot(weights, color=THINGS["weight"][0], linewidth=2, marker="o", markersize=4)
    note(plot, 0.2, 0.82, "the border between 0 and 1: dashed", ha="left")
    note(ax, 0.8, 24.6, "green: the weight; squares: what the model uses", ha="left")
    note(ax, 34, 1.6, "step")
    ones = int(rounded.sum())
    show(
        ax,
        f"One weight that should be {weights[0]:g} and may only be 0 or 1. It climbs to the border and swings about "
        f"it: the model uses 1 in {ones} steps of {len(rounded)}. Smaller steps towards the end make the swinging "
        "smaller.",
        f"A line that rises from {weights[0]:g} to one half and zigzags there; squares at 0, and {ones} at 1.",
    )


def stripes(keys: np.ndarray, values: np.ndarray, layer: int) -> None:
    """Draw the sizes of one head's keys and values, (tokens, channels) each, as tiny cells."""
    ax = canvas(31)
    ratios = []
    for x0, name, x in ((3.5, "keys", keys), (35, "values", values)):
        sizes = np.abs(x)
        patch(ax, x0, 4, 27, 21, sizes, float(np.quantile(sizes, 0.99)), "attention")
        note(ax, x0 + 13.5, 27.4, name, NORMAL, "attention", bold=True)
        middle = sizes.mean(axis=0)
        ratios.append(middle.max() / np.median(middle))
    note(ax, 17, 1.7, f"{keys.shape[1]} channels")
    note(ax, 48.5, 1.7, f"{values.shape[1]} channels")
    note(ax, 1.6, 14.5, "tokens").set_rotation(90)
    show(
        ax,
        f"What layer {layer} of SmolLM2 keeps of {len(keys)} tokens, in one head; dark is large. The keys have "
        f"stripes: their largest channel is {ratios[0]:.0f} times the middling one, at all tokens. Of the values, "
        f"{ratios[1]:.1f} times.",
        "Two grids: on the left dark vertical stripes, on the right hardly any.",
    )
