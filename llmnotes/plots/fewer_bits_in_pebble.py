"""The pictures of "Numbers in fewer bits" that compare settings: errors, exams, stories, and what fits on a card."""

from collections.abc import Mapping, Sequence
from typing import cast

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.patches import Rectangle

from llmnotes.evaluation.examiner import Mark, Result
from llmnotes.plots.drawing import NORMAL, THINGS, Numbers, canvas, cell, chart, line, note, show


def two_rulers(row: int, cuts: Numbers, weights: Numbers, outputs: Numbers) -> None:
    """Draw how the error of a row's weights and that of its output depend on where large weights are cut off.

    `outputs` is (texts, cuts): the output's error on several texts, the first of them drawn thick.
    """
    ax = canvas(31)
    cuts, outputs = np.asarray(cuts), np.asarray(outputs)
    ticks = (0, 0.1, 0.2, 0.3, 0.4, 0.5)
    plot = chart(ax, 7, 5.2, 39, 22.5, xlim=(cuts.max() + 0.03, cuts.min() - 0.03), ylim=(0, 0.5), yticks=ticks)
    plot.set_yticklabels([f"{v:.0%}" for v in ticks])
    for values in outputs[1:]:
        plot.plot(cuts, values, color=THINGS["stream"][0], linewidth=0.9, alpha=0.6)
    lines = ((np.asarray(weights), "weight", "error of\nthe weights"), (outputs[0], "stream", "error of\nthe output"))
    for values, thing, name in lines:
        mark = "o" if thing == "weight" else "s"
        plot.plot(cuts, values, color=THINGS[thing][0], linewidth=2.4, marker=mark, markersize=4)
        plot.scatter(
            [cuts[values.argmin()]],
            [values.min()],
            s=130,
            facecolor="none",
            edgecolor=THINGS[thing][0],
            linewidth=1.8,
            zorder=5,
        )
        lift = 0.045 if thing == "stream" else -0.045
        note(ax, 47.5, 5.2 + 22.5 * (values[cuts.argmin()] + lift) / 0.5, name, NORMAL, thing, "left", bold=True)
    note(ax, 7, 29.4, f"error of row {row} in 4 bits; thin lines: {len(outputs) - 1} other texts", ha="left")
    note(ax, 26.5, 1.3, "everything larger is cut off at …   →")
    best, bests = cuts[np.argmin(weights)], cuts[outputs.argmin(axis=1)]
    show(
        ax,
        f"Two rulers for one cut. For the weights themselves the best cut is at {best:.1f} (ring). For what the row "
        f"puts out, it is between {bests.min():.1f} and {bests.max():.1f}, and cutting much deeper does harm.",
        f"Curves over the place of the cut: the error of the weights falls until {best:.1f}, that of the output has "
        f"its minimum between {bests.min():.1f} and {bests.max():.1f} and then rises steeply.",
    )


def knobs(errors: Mapping[tuple[int, int], float], pair: Sequence[tuple[int, int]]) -> None:
    """Draw the error over bits per weight, {(bits, block): error}, and ring two settings that cost the same."""
    ax = canvas(38)
    plot = chart(
        ax,
        7.5,
        5,
        54,
        29.5,
        yscale="log",
        xlim=(2.8, 9),
        ylim=(0.015, 0.56),
        xticks=range(3, 9),
        yticks=(0.02, 0.04, 0.08, 0.16, 0.32),
    )
    plot.set_yticks([], minor=True)
    plot.set_yticklabels([f"{v:.0%}" for v in plot.get_yticks()])
    plot.grid(axis="y", color="#e3e7eb", linewidth=0.8)
    widths = sorted({width for width, _ in errors})
    for width, marker in zip(widths, "osD^", strict=False):
        points = sorted((width + 16 / block, lost, block) for (w, block), lost in errors.items() if w == width)
        plot.plot(
            [x for x, _, _ in points],
            [y for _, y, _ in points],
            color=THINGS["code"][0],
            marker=marker,
            markersize=5.5,
            linewidth=1.6,
        )
        if (width, points[-1][2]) not in pair:
            note(plot, points[-1][0] + 0.14, points[-1][1], f"{width} bits", NORMAL, "code", "left", bold=True)
        for x, y, block in points:
            if width == widths[0] and block not in (256, 64):
                above = 1.32 if block == points[-1][2] else 1.14  # the last one has a name to its right
                note(plot, x + 0.04, y * above, f"{block}", colour="scale", ha="left")
    for setting in pair:
        x, y = setting[0] + 16 / setting[1], errors[setting]
        plot.scatter([x], [y], s=170, facecolor="none", edgecolor="black", linewidth=1.8, zorder=5)
        said = f"{setting[0]} bits, blocks of {setting[1]}: {y:.1%}"
        note(plot, x + 0.16, y * 1.13, said, colour="code", ha="left", bold=True)
    note(ax, 34, 1.5, "bits per weight, scales included")
    note(ax, 63.5, 36.6, "error of the whole matrix; small numbers are the sizes of blocks", ha="right")
    (a, b), (c, d) = pair
    show(
        ax,
        f"Two knobs: from line to line one more bit, along a line smaller blocks. The two rings cost the same, "
        f"{a + 16 / b:g} bits per weight: {a} bits in blocks of {b} lose {errors[pair[0]]:.1%}, {c} bits in blocks of "
        f"{d} only {errors[pair[1]]:.1%}.",
        "Falling curves, one for each number of bits; along each the blocks get smaller and the bits per weight more. "
        "At the ringed price the curve with more bits has the smaller error.",
    )


def marks(found: Mapping[str | int, Sequence[Mark | Result]], widths: Sequence[int], original: Result) -> None:
    """Draw a table of exam marks: {who shares a scale: marks}, a column for each number of bits."""
    ax = canvas(8 + 6.4 * len(found))
    left, width, top = 21, 7, 6.4 * len(found) + 1.5
    names = {
        "matrix": ("a whole matrix", "per tensor"),
        "row": ("a row", "per channel"),
        32: ("32 weights", "per group"),
    }
    note(ax, 1, top + 3, "one scale for", ha="left")
    for k, b in enumerate(widths):
        note(ax, left + (k + 0.5) * width, top + 3, f"{b} bits", NORMAL, bold=True)
    for i, (who, results) in enumerate(found.items()):
        y = top - 6.4 * (i + 1) + 1.4
        note(ax, 1, y + 3.9, names[who][0], NORMAL, "scale", "left", bold=True)
        note(ax, 1, y + 1.6, names[who][1], ha="left")
        for k, result in enumerate(results):
            good = result.exam > 0.9
            cell(
                ax,
                left + k * width + 0.2,
                y,
                width - 0.4,
                5.8,
                "",
                "weight" if good else "error",
                0.12 if good else 0.25,
            )
            note(ax, left + (k + 0.5) * width, y + 3.9, f"{result.exam:.1%}", bold=good, room=width)
            noise = f"± {result.noise:.1%}" if result.exam else f"< {3 / 500:.1%}"
            note(ax, left + (k + 0.5) * width, y + 1.6, noise, room=width)
    show(
        ax,
        "Right answers in an exam of 500 questions, with the standard error below (for 0, a bound); the original has "
        f"{original.exam:.1%} ± {original.noise:.1%}. In small letters, what the trade calls it. The fewer the bits, "
        "the fewer weights may share a scale.",
        "A table of exam marks: rows for one scale per matrix, per row, per 32 weights; columns for 8 to 2 bits. One "
        "scale per matrix fails from 4 bits on; at 2 bits all three fail.",
    )


def stories(results: Sequence[tuple[str, Result]], opening: str) -> None:
    """Draw how one story goes on for each setting, from its first different word on: [(name, Result), ...]."""
    ax = canvas(4 + 5.5 * len(results))
    original = results[0][1].stories
    renderer = cast(FigureCanvasAgg, ax.figure.canvas).get_renderer()
    y = 5.5 * len(results) + 2.2
    note(ax, 1, y, "bits", ha="left")
    note(ax, 16.8, y, "same")
    note(ax, 24.6, y, "other")
    note(ax, 29, y, f"“{opening} …”", ha="left")
    kept = []
    for i, (name, result) in enumerate(results):
        y = 5.5 * (len(results) - i) - 2
        same = sum(a == b for a, b in zip(original, result.stories, strict=True))
        kept.append(f"{name}: {same}")
        note(ax, 1, y, name, NORMAL, ha="left", bold=True)
        note(ax, 16.8, y, "" if i == 0 else f"{same} of {len(original)}")
        note(ax, 24.6, y, "" if i == 0 else f"{result.other:.1%}", colour="error" if result.other > 0.02 else "token")
        ours, first = result.stories[0].split()[:11], original[0].split()
        split = next((k for k, (a, b) in enumerate(zip(ours, first, strict=False)) if a != b), len(ours))
        x, low = 29.0, y + 0.6
        for k, word in enumerate(ours):
            thing = "old" if k < split and i else "error" if k == split else "token"
            written = note(ax, x, low, word, colour=thing, ha="left", bold=k == split)
            written.set_verticalalignment("baseline")
            wide = written.get_window_extent(renderer).width / 15
            if x + wide > 63.5:
                written.remove()
                x, low = 29.0, y - 1.9
                written = note(ax, x, low, word, colour=thing, ha="left", bold=k == split)
                written.set_verticalalignment("baseline")
                if x + wide > 63.5:
                    break
            x += wide + 0.75
        line(ax, ((1, y - 2.7), (63.5, y - 2.7)), "old", 0.6)
    show(
        ax,
        "How one story goes on: grey as before, and red the first different word. “Same”: of ten openings, how many "
        "stories keep all 16 tokens. “Other” is how often the likeliest next token of a text is another one.",
        "For each number of bits, how many of ten stories are unchanged, and how one of them goes on. "
        + "; ".join(kept[1:]),
    )


def near_tie(prompts: Sequence[str], answers: Sequence[tuple[Sequence[str], Mapping[str, np.ndarray]]]) -> None:
    """Draw the chances of the next token in two models: for each prompt (its tokens, {model: their chances})."""
    ax = canvas(1 + 18 * len(prompts))
    for i, (prompt, (words, models)) in enumerate(zip(prompts, answers, strict=True)):
        y = 18 * (len(prompts) - i) - 1
        note(ax, 1, y, f"“{prompt} …”", NORMAL, ha="left", bold=True)
        for k, word in enumerate(words):
            middle = y - 4.2 - 4.9 * k
            note(ax, 9, middle, word.replace(" ", "␣"), ha="right", code=True)
            for j, (name, values) in enumerate(models.items()):
                low, value = middle + 0.1 - 2.1 * j, float(values[k])
                ax.add_patch(
                    Rectangle(
                        (10, low),
                        max(40 * value, 0.15),
                        1.8,
                        facecolor=THINGS["weight"][0 if j == 0 else 1],
                        edgecolor=THINGS["weight"][0],
                        linewidth=1,
                        zorder=3,
                    )
                )
                note(ax, 10.8 + 40 * value, low + 0.85, f"{value:.1%}" + (f"  in {name}" if k == 0 else ""), ha="left")
    show(
        ax,
        "Pebble with all its bits (dark) and in 4 bits (pale). The fact is so far ahead that rounding can't shake it. "
        "Between two ways to begin a story there's hardly a difference, so rounding swaps them.",
        "Two bar charts of the chances of the next token, in 16 and in 4 bits. For the fact, one token has nearly all "
        "of it both times. For the story two tokens are about equal and change places.",
    )


def decision(
    models: Mapping[str, tuple[float, float, int]],
    card: float,
    taken: float,
    block: int = 32,
    widths: Sequence[int] = (8, 6, 5, 4),
) -> None:
    """Draw what fits on a card beside a model's weights: {name: (weights, bytes per token, most tokens it reads)}."""
    height = 17.5 * len(models)
    ax = canvas(4.5 + height)
    x = 8
    unit = min(4.1, 35.3e9 / card)  # of a GB
    strong, pale = THINGS["old"]
    ax.add_patch(Rectangle((x, 1), card / 1e9 * unit, height, facecolor=pale, edgecolor=strong, linewidth=1.4))
    note(ax, x, height + 2.9, f"a card of {card / 1e9:.2f} GB", NORMAL, ha="left", bold=True)
    note(ax, 63, height + 2.9, "room for text", NORMAL, "stream", "right", bold=True)
    corner, width = (x + (card - taken) / 1e9 * unit, 1), taken / 1e9 * unit
    hatched = {"facecolor": "white", "alpha": 0.8, "edgecolor": strong, "hatch": "///", "linewidth": 0}
    ax.add_patch(Rectangle(corner, width, height, **hatched))
    told = []
    for i, (name, (weights, per_token, most)) in enumerate(models.items()):
        top = height - 17.5 * i + 1
        note(ax, x + 0.8, top - 1.7, f"{name}: {weights / 1e9:.2f} billion weights", ha="left", bold=True)
        note(ax, 63, top - 1.7, f"{per_token / 1e3:.0f} kB per token", ha="right")
        for k, width in enumerate(widths):
            y, size = top - 6.4 - 3.5 * k, weights * (width + 16 / block) / 8
            tokens = round((card - taken - size) / per_token, -2)
            fits, used = tokens > 0, min(tokens, most)
            note(ax, 1, y + 1.2, f"{width} bits", ha="left", bold=True)
            kind = "weight" if fits else "error"
            cell(ax, x, y, size / 1e9 * unit, 2.5, f"{size / 1e9:.2f} GB", kind, 0.35)
            if fits:
                cell(ax, x + size / 1e9 * unit, y, used * per_token / 1e9 * unit, 2.5, "", "stream", 0.25)
            said = "none" if not fits else f"all {most:,}" if tokens > most else f"{tokens:,.0f}"
            told.append(f"{name} in {width} bits: {said}")
            note(
                ax,
                63,
                y + 1.2,
                said if not fits else f"{said} tokens",
                ha="right",
                colour="stream" if fits else "error",
            )
    show(
        ax,
        "Two models that are both called 7B, in blocks of 32, scales included. Green are the weights, blue is the text "
        "that fits beside them (“all” where it is as much as the model can read); the hatched part is a guess at what "
        "the screen, the program and its working memory take.",
        "Bars for the weights of two models on a card, and the tokens of text that have room. " + "; ".join(told),
    )
