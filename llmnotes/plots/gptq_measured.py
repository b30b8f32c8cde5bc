"""Pictures of what GPTQ does to Pebble: a sweep through a real matrix, all matrices, its settings, and its file."""

import json
from collections.abc import Mapping, Sequence
from importlib.resources import files

import numpy as np
from matplotlib.patches import Rectangle
from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

from llmnotes.plots.drawing import INK, NORMAL, THINGS, Numbers, arrow, brace, canvas, cell, chart, note, show
from llmnotes.plots.drawing_numbers import bits


def through_a_matrix(
    weight: np.ndarray, rounded: np.ndarray, hessian: np.ndarray, stops: Sequence[int] = (128, 384, 640, 768)
) -> None:
    """Draw how far the weights of each column have moved after some columns of a sweep that ends in `rounded`.

    All are (outputs, inputs), and `hessian` is the damped one: the waiting columns lie where, given the rounded ones,
    the outputs err least.
    """
    inputs, wide = weight.shape[1], 16  # columns that are averaged
    moved = {}
    for done in stops:
        state, wait = rounded.copy(), slice(done, None)
        if done < inputs:
            fit = np.linalg.solve(hessian[wait, wait], hessian[wait, :done])
            state[:, wait] = weight[:, wait] - (rounded - weight)[:, :done] @ fit.T
        moved[done] = np.abs(state - weight).mean(axis=0).reshape(-1, wide).mean(axis=1)
    high, top = 8.6, max(values.max() for values in moved.values())
    ax = canvas(high * len(stops) + 5)
    told = []
    for k, (done, values) in enumerate(moved.items()):
        y = high * (len(stops) - 1 - k) + 4.6
        plot = chart(ax, 12, y, 50, high - 2.4, xlim=(0, inputs), ylim=(0, top * 1.05), xticks=(), yticks=())
        at = np.arange(wide / 2, inputs, wide)
        plot.fill_between(at, values, step="mid", color=THINGS["weight"][1], linewidth=0)
        ready = at < done
        plot.fill_between(at[ready], values[ready], step="mid", color=THINGS["code"][0], alpha=0.55, linewidth=0)
        plot.step(at, values, where="mid", color=INK, linewidth=1)
        plot.axvline(done, color=INK, linewidth=2)
        note(ax, 11, y + 3, f"{done}\ncolumns", ha="right")
        if done < inputs:
            mean = values[~ready].mean()
            told.append(f"after {done} columns the waiting ones have moved by {mean:.3f} on average")
    note(ax, 12, 2, "magenta: rounded", ha="left", colour="code", bold=True)
    note(ax, 62, 2, "green: waiting, and moved already", ha="right", colour="weight", bold=True)
    show(
        ax,
        "How far the weights of each column are from where they began, at four moments. Long before a column is "
        "rounded, it has moved to make up for others; the last columns carry the most.",
        "Four strips; " + "; ".join(told),
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


def kept() -> dict:
    """Return what `python -m kit.gptq_calibration` has measured."""
    return json.loads(files("llmnotes").joinpath("gptq_calibration.json").read_text(encoding="utf-8"))


def few_tokens() -> None:
    """Draw the kept KL of Pebble over the tokens of the calibration text, for each of the texts."""
    found = kept()
    counts = [int(count) for count in found["tokens"]]
    values = np.array(list(found["tokens"].values()))  # (counts, texts)
    nearest = found["nearest"]["3"]
    ax = canvas(31)
    limits = {"xlim": (counts[0] / 1.25, counts[-1] * 1.25), "ylim": (0, values.max() * 1.1)}
    plot = chart(ax, 8, 5, 53.5, 23.5, xscale="log", **limits)
    plot.xaxis.set_major_locator(FixedLocator(counts))
    plot.xaxis.set_major_formatter(FixedFormatter([f"{count:,}" for count in counts]))
    plot.xaxis.set_minor_locator(NullLocator())
    plot.set_yticks(np.arange(0, values.max() * 1.1, 0.02))
    plot.axhline(nearest, color=INK, linewidth=1.4, linestyle=(0, (4, 3)))
    for text in values.T:
        plot.plot(counts, text, color=THINGS["held out"][0], linewidth=2, marker="o", alpha=0.75)
    note(plot, counts[-1] * 1.2, nearest + 0.002, "without data", ha="right", bold=True)
    note(ax, 8, 29.7, "KL of Pebble at 3 bits", ha="left")
    note(ax, 34, 1.5, "tokens of the calibration text")
    worse = max(count for count, row in zip(counts, values, strict=True) if row.min() > nearest)
    show(
        ax,
        f"GPTQ with three calibration texts, cut at different lengths. Up to {worse:,} tokens each of them makes "
        "Pebble worse than no data at all.",
        "Three falling lines. "
        + "; ".join(
            f"{count:,} tokens: {row.min():.3f} to {row.max():.3f}" for count, row in zip(counts, values, strict=True)
        )
        + f"; without data {nearest:.3f}",
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
        f"With enough tokens the curve is flat, and lowest at {shares[at]:g} ({many[at]:.0%}). With few, little "
        f"damping ruins everything, and a lot of it still brings {min(few):.0%}. Far to the right H drowns in the "
        "diagonal, and both climb back towards plain rounding.",
        "Two curves over the damping: "
        + " and ".join(f"with {tokens:,} tokens" for tokens in errors)
        + ". The first begins above plain rounding and falls below it; the second is flat, and rises at the end.",
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
    note(ax, 34, 1.5, "bits per weight, with scales and zero-points")
    show(
        ax,
        "Left 3 bits, right 4 bits, in groups of the sizes below the points. Smaller groups are better and cost bits; "
        "GPTQ lowers every point without costing any.",
        "Four falling lines, plain rounding above and GPTQ below: "
        + "; ".join(f"{name} {c} bits, groups of {g}: {e:.0%}" for name, f in rows.items() for c, g, _, e in f),
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
    note(ax, 1.6, 20.2, "the codes of one output, for its first eight inputs", ha="left", bold=True)
    brace(ax, (1.6, 4.3), (62, 4.3), f"one word of 32 bits: {value:,}")
    show(
        ax,
        "Eight codes of 4 bits lie in one word of 32 bits. The first code goes to the right end, to the lowest bits.",
        f"Eight cells with the codes {', '.join(map(str, codes))}; crossing arrows lead to the bits of the word "
        f"{value}.",
    )


def folder(shape: tuple[int, int], tensors: Mapping[str, np.ndarray]) -> None:
    """Draw the four `tensors` that a GPTQ file has in place of one matrix of 16 bits: shapes and bytes, as bars."""
    ax = canvas(30)
    name, size = "weight", 2 * shape[0] * shape[1]
    after = {tensor: (array.shape, array.nbytes) for tensor, array in tensors.items()}
    says = {
        name: ("weight", "in 16 bits"),
        "qweight": ("code", "the codes, in words"),
        "qzeros": ("table", "which code stands for 0, less one"),
        "scales": ("scale", "a scale for each output and group"),
        "g_idx": ("old", "the group of each input"),
    }
    rows = {name: (shape, size), **after}
    for k, (tensor, (form, count)) in enumerate(rows.items()):
        y = 24.2 - 5.6 * k - (1 if k else 0)
        thing, meaning = says[tensor]
        note(ax, 9.6, y + 1.4, tensor, ha="right", bold=True)
        wide = 52 * count / size
        ax.add_patch(Rectangle((10.6, y), max(wide, 0.25), 2.8, facecolor=THINGS[thing][0], zorder=3))
        said = f"{' × '.join(map(str, form))}, {count:,} bytes: {meaning}"
        note(ax, 62 if k == 0 else 11.6 + wide, y + (4.2 if k == 0 else 1.4), said, ha="right" if k == 0 else "left")
    total = sum(count for _, count in after.values())
    show(
        ax,
        f"In place of one matrix of {size:,} bytes a GPTQ file has four tensors of {total:,} together; bars have the "
        "length of their bytes.",
        f"Bars: {name} {' × '.join(map(str, shape))}, "
        + ", ".join(f"{tensor} {' × '.join(map(str, form))}" for tensor, (form, _) in after.items()),
    )
