"""Pictures of what GPTQ does to Pebble: a sweep through a real matrix, all matrices, its settings, and its file."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

from llmnotes.plots.drawing import INK, NORMAL, THINGS, Numbers, arrow, box, brace, canvas, cell, chart, note, show
from llmnotes.plots.drawing_numbers import bits, patch


def through_a_matrix(
    weight: np.ndarray, rounded: np.ndarray, hessian: np.ndarray, stops: Sequence[int] = (128, 384, 640, 768)
) -> None:
    """Draw how far each weight has moved after some columns of a sweep that ends in `rounded`; both (outputs, inputs).

    `hessian` is the damped one. The waiting columns lie where, given the rounded ones, the outputs err least.
    """
    rows, states = 48, {}
    for done in stops:
        wait = slice(done, None)
        states[done] = rounded.copy()
        if done < weight.shape[1]:
            fit = np.linalg.solve(hessian[wait, wait], hessian[wait, :done])
            states[done][:, wait] = weight[:, wait] - (rounded - weight)[:, :done] @ fit.T
    ax = canvas(9.2 * len(states) + 4)
    x, wide, high = 12.5, 50.5, 6.6
    limit = float(np.quantile(np.abs(list(states.values())[-1] - weight), 0.98))
    told = []
    for k, (done, state) in enumerate(states.items()):
        y = 9.2 * (len(states) - 1 - k) + 3.4
        moved = np.abs(state - weight)
        patch(ax, x, y, wide, high, moved[:rows], limit, "error")
        at = x + wide * done / weight.shape[1]
        ax.plot((at, at), (y - 0.8, y + high + 0.8), color=INK, linewidth=2, zorder=6)
        note(ax, 11.5, y + high / 2 + 1.3, f"{done}", NORMAL, ha="right", bold=True)
        note(ax, 11.5, y + high / 2 - 1.3, "columns", ha="right")
        if done < weight.shape[1]:
            told.append(f"after {done} columns the waiting ones have moved by {moved[:, done:].mean():.3f} on average")
    note(ax, x, 1.3, "rounded so far", ha="left")
    note(ax, x + wide, 1.3, "still waiting", ha="right")
    show(
        ax,
        f"The first {rows} rows of the matrix; the darker, the farther a weight is from where it began. Left of the "
        "line all are rounded. Right of it they have already moved, to make up for what was rounded.",
        "Four strips of a matrix in red, with a line that goes from left to right; " + "; ".join(told),
    )


def all_matrices(of_weights: Mapping[str, Numbers], of_outputs: Mapping[str, Numbers], ours: str) -> None:
    """Draw the errors of each matrix, {name: (rounded to the nearest, by GPTQ, ...)}, of its weights and its "
    "outputs."""
    ax = canvas(31)
    both = (("weights", "weight", of_weights), ("outputs", "stream", of_outputs))
    for panel, (name, thing, errors) in enumerate(both):
        x = 8.5 + 31 * panel
        limits = {"xlim": (-0.12, 1.12), "ylim": (0, 0.5 if not panel else 0.28), "xticks": ()}
        plot = chart(ax, x, 4.6, 23, 22, **limits)
        plot.set_yticks((0.2, 0.4) if not panel else (0.1, 0.2))
        plot.set_yticklabels(["20%", "40%"] if not panel else ["10%", "20%"])
        for matrix, found in errors.items():
            strong = matrix == ours
            plot.plot(
                (0, 1),
                found[:2],
                color=THINGS[thing][0],
                linewidth=3 if strong else 1.1,
                alpha=1 if strong else 0.55,
                marker="o",
                markersize=6 if strong else 3,
            )
        note(ax, x + 11.5, 29.2, f"error of the {name}", NORMAL, thing, bold=True)
        note(ax, x + 2.2, 2.6, "nearest", bold=True)
        note(ax, x + 20.8, 2.6, "GPTQ", bold=True)
    worse = sum(found[1] > found[0] for found in of_weights.values())
    better = sum(found[1] < found[0] for found in of_outputs.values())
    show(
        ax,
        f"A line for each of Pebble's {len(of_outputs)} matrices at 3 bits, the thick one is ours. GPTQ's weights are "
        f"farther from the originals in {worse} of {len(of_outputs)}, and its outputs, on tokens it has not seen, are "
        f"nearer in {better}.",
        "Two panels of lines from nearest to GPTQ: all lines of the weights rise, all lines of the outputs fall.",
    )


def few_tokens(counts: Sequence[int], seen: Numbers, unseen: Numbers, nearest: float, inputs: int) -> None:
    """Draw the output error over the tokens of the calibration text: on these tokens, and on others."""
    ax = canvas(31)
    limits = {"xlim": (counts[0] / 1.2, counts[-1] * 1.25), "ylim": (0, max(unseen) * 1.15)}
    plot = chart(ax, 7.5, 5, 54, 23.5, xscale="log", **limits)
    plot.xaxis.set_major_locator(FixedLocator(list(counts)))
    plot.xaxis.set_major_formatter(FixedFormatter([f"{count:,}" for count in counts]))
    plot.xaxis.set_minor_locator(NullLocator())
    plot.set_yticks((0, 0.05, 0.1, 0.15))
    plot.set_yticklabels(["0%", "5%", "10%", "15%"])
    plot.axhline(nearest, color=INK, linewidth=1.4, linestyle=(0, (4, 3)))
    plot.axvline(inputs, color=THINGS["old"][0], linewidth=1.2, linestyle=(0, (1, 2)))
    for values, thing in ((unseen, "held out"), (seen, "stream")):
        plot.plot(counts, values, color=THINGS[thing][0], linewidth=2.2, marker="o")
    note(plot, counts[-1], nearest * 1.06, "rounded to the nearest", ha="right")
    note(plot, counts[0] * 1.25, unseen[0] * 1.06, "on new tokens", NORMAL, "held out", "left", bold=True)
    note(plot, counts[1], seen[0] * 0.62, "on the calibration text itself", NORMAL, "stream", "left", bold=True)
    note(plot, inputs * 1.06, max(unseen) * 1.09, f"{inputs} inputs", ha="left")
    note(ax, 7.5, 29.7, "error of the outputs", ha="left")
    note(ax, 34, 1.5, "tokens of the calibration text")
    show(
        ax,
        f"With few tokens GPTQ learns them by heart: on its own text it looks excellent ({seen[0]:.0%}), on new text "
        f"it is worse than plain rounding ({unseen[0]:.0%} against {nearest:.0%}).",
        f"Two curves over {counts[0]} to {counts[-1]:,} tokens. The error on the calibration text rises from "
        f"{seen[0]:.1%} to {seen[-1]:.1%}, the one on new tokens falls from {unseen[0]:.1%} to {unseen[-1]:.1%}.",
    )


def damping(shares: Numbers, errors: Mapping[int, Numbers], nearest: float) -> None:
    """Draw the output error over the damping, in parts of the mean of the diagonal: {tokens: errors}."""
    ax = canvas(29)
    top = max(max(values) for values in errors.values())
    limits = {"xlim": (min(shares) / 1.6, max(shares) * 1.6), "ylim": (0, top * 1.22)}
    plot = chart(ax, 7.5, 5, 54, 21.5, xscale="log", **limits)
    plot.axhline(nearest, color=INK, linewidth=1.4, linestyle=(0, (4, 3)))
    for (tokens, values), thing in zip(errors.items(), ("attention", "held out"), strict=True):
        plot.plot(shares, values, color=THINGS[thing][0], linewidth=2.2, marker="o")
        up = 0.012 if values[0] > nearest else -0.021
        note(plot, shares[0] * 1.15, values[0] + up, f"{tokens:,} tokens", NORMAL, thing, "left", bold=True)
    plot.xaxis.set_major_locator(FixedLocator(list(shares)))
    plot.xaxis.set_major_formatter(FixedFormatter([f"{share:g}" for share in shares]))
    plot.xaxis.set_minor_locator(NullLocator())
    plot.set_yticks((0, 0.1, 0.2))
    plot.set_yticklabels(["0%", "10%", "20%"])
    note(plot, shares[-1] * 1.3, nearest + 0.011, "rounded to the nearest", ha="right")
    note(ax, 7.5, 27.7, "error of the outputs, on new tokens", ha="left")
    note(ax, 34, 1.5, "damping, in parts of the mean of H's diagonal")
    few, many = errors.values()
    at = int(np.argmin(many))
    show(
        ax,
        f"With enough tokens the valley is flat and lowest at {shares[at]:g} ({many[at]:.1%}). With few, little "
        f"damping ruins everything, and a lot of it still brings {min(few):.1%}. Far to the right H drowns in the "
        "diagonal, and both come near plain rounding.",
        "Two curves over the damping. "
        + "; ".join(
            f"{tokens:,} tokens: " + ", ".join(f"{s:g}: {e:.1%}" for s, e in zip(shares, values, strict=True))
            for tokens, values in errors.items()
        ),
    )


def groups(rows: Mapping[str, Sequence[tuple[int, int, float, float]]]) -> None:
    """Draw the output error over bits per weight: {method: [(bits, group, bits per weight, error), ...]}."""
    ax = canvas(31)
    errors = [row[3] for found in rows.values() for row in found]
    sizes = [row[2] for found in rows.values() for row in found]
    limits = {"xlim": (min(sizes) - 0.12, max(sizes) + 0.2), "ylim": (0, max(errors) * 1.12)}
    plot = chart(ax, 7.5, 5, 55, 23.5, **limits)
    plot.set_yticks((0, 0.05, 0.1, 0.15))
    plot.set_yticklabels(["0%", "5%", "10%", "15%"])
    for (name, found), thing in zip(rows.items(), ("old", "attention"), strict=True):
        for width in sorted({row[0] for row in found}):
            line = sorted((size, error) for count, _, size, error in found if count == width)
            plot.plot(*zip(*line, strict=True), color=THINGS[thing][0], linewidth=2, marker="o", markersize=6)
        count, _, size, error = max(found, key=lambda row: (-row[0], -row[2]))
        note(plot, size + 0.05, error + 0.009, name, NORMAL, thing if thing != "old" else INK, "left", bold=True)
    for _, group, size, error in list(rows.values())[-1]:
        note(plot, size, error - 0.011, f"{group}", colour="attention", ha="right" if group > 128 else "center")
    note(ax, 7.5, 29.7, "error of the outputs, on new tokens", ha="left")
    note(ax, 34, 1.5, "bits per weight, scales included")
    show(
        ax,
        "Left 3 bits, right 4 bits, in groups of the sizes below the points. Smaller groups are better and cost bits; "
        "GPTQ lowers every point without costing any.",
        "Four falling lines, plain rounding above and GPTQ below: "
        + "; ".join(f"{name} {c} bits, groups of {g}: {e:.1%}" for name, f in rows.items() for c, g, _, e in f),
    )


def word(codes: Sequence[int], value: int) -> None:
    """Draw how eight codes of 4 bits fill one word of 32 bits, the first code in the lowest bits."""
    ax = canvas(21.4)
    wide = 7.6
    for i, code in enumerate(codes):
        spot = cell(ax, 1.6 + wide * i, 14.8, wide - 0.6, 4, f"{code}", "code", 0.3)
        place = len(codes) - 1 - i
        bits(ax, 1.6 + wide * place, 4.8, f"{code:04b}", [(4, "code")], (wide - 0.6) / 4, 3.6)
        arrow(ax, (spot.bottom[0], 14.4), (1.6 + wide * place + wide / 2 - 0.3, 8.8), thing="code", width=1.1)
    note(ax, 1.6, 20.2, "eight codes, down one column of inputs", ha="left", bold=True)
    brace(ax, (1.6, 4.3), (62, 4.3), f"one word of 32 bits: {value:,}")
    show(
        ax,
        "Eight codes of 4 bits lie in one word of 32 bits. The first code goes to the right end, to the lowest bits.",
        f"Eight cells with the codes {', '.join(map(str, codes))}; crossing arrows lead to the bits of the word "
        f"{value}.",
    )


def folder(before: tuple[str, tuple[int, ...], int], after: Mapping[str, tuple[tuple[int, ...], int]]) -> None:
    """Draw the four tensors that a GPTQ file has in place of one weight: name, shape and bytes."""
    ax = canvas(29)
    name, shape, size = before
    left = box(ax, 0.6, 9, 17, 9, name, "weight", f"{shape[0]} × {shape[1]}")
    note(ax, left.centre[0], 6.6, f"{size:,} bytes")
    says = {
        "qweight": ("code", "the codes, in words"),
        "qzeros": ("table", "which code is 0, less one"),
        "scales": ("scale", "a step per row and group"),
        "g_idx": ("old", "the group of each input"),
    }
    for k, (tensor, (form, count)) in enumerate(after.items()):
        y = 21.6 - 6.9 * k
        spot = box(ax, 24, y, 14, 6, tensor, says[tensor][0], " × ".join(map(str, form)))
        arrow(ax, (left.right[0] + 0.4, left.right[1]), (spot.left[0] - 0.3, spot.left[1]), thing="old")
        note(ax, 39, y + 4.1, says[tensor][1], ha="left")
        note(ax, 39, y + 1.6, f"{count:,} bytes", ha="left")
    total = sum(count for _, count in after.values())
    show(
        ax,
        f"In place of one matrix of {size:,} bytes a GPTQ file has four small ones of {total:,} together.",
        f"A box for {name}, with arrows to "
        + ", ".join(f"{tensor} {' × '.join(map(str, form))}" for tensor, (form, _) in after.items()),
    )
