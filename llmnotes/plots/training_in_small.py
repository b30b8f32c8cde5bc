"""The pictures of notebook 10, training in small: the model, its curves, what AdamW does, what it costs."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from llmnotes.plots.drawing import (
    FAINT,
    INK,
    NORMAL,
    SMALL,
    THINGS,
    arrow,
    box,
    canvas,
    cell,
    line,
    note,
    plus,
    show,
)
from llmnotes.plots.learning import apart, plot_at

Curve = Sequence[float]


def sight(words: Sequence[str]) -> None:
    """Draw what a table and what a transformer see of a line."""
    ax = canvas(25)
    rows = ((17, "table", "table", (len(words) - 1,)), (5.5, "transformer", "attention", range(len(words))))
    for y, label, thing, seen in rows:
        note(ax, 1, y + 5.6, label, NORMAL, bold=True, ha="left", colour=thing)
        at, spots = 1.0, []
        for i, word in enumerate(words):
            wide = max(3.4, 0.95 * len(word) + 1.3)
            spots.append(box(ax, at, y, wide, 3.8, word, thing="token" if i in seen else "old", size=SMALL))
            at += wide + 1.2
        goal = box(ax, 54, y, 9, 3.8, "?", thing)
        if len(seen) == 1:
            arrow(ax, (spots[-1].right[0] + 0.2, y + 1.9), (goal.x - 0.2, y + 1.9), thing=thing)
            note(ax, 1, y - 2.2, "grey: not seen", ha="left", colour=FAINT)
        else:
            for spot in spots:
                line(ax, [spot.bottom, (spot.bottom[0], y - 2)], thing, 1.4)
            line(ax, [(spots[0].bottom[0], y - 2), (58.5, y - 2)], thing, 1.4)
            arrow(ax, (58.5, y - 2), (58.5, y - 0.1), thing=thing)
    show(
        ax,
        "What each model knows when it has to guess. The table has only the last word; attention brings in all of "
        "them, and with them the cat.",
        "The sentence twice; in the first row only its last word leads to the guess, in the second all words do.",
    )


def column(counts: Mapping[str, int], words: int, size: int, inner: int) -> None:
    """Draw the small model from top to bottom, its trunk straight; `counts` is {part: weights}."""
    ax = canvas(45)
    trunk, right = 14.0, 63.4
    note(ax, trunk, 43.4, "ids (sentences, tokens)")
    note(ax, right, 43.4, "weights", bold=True, ha="right")
    first = box(ax, trunk - 9, 36.4, 18, 5.4, "table: look up", "table", f"{words} × {size}")
    last = box(ax, trunk - 9, 9.4, 18, 3.4, "norm", "norm")
    end = box(ax, trunk - 9, 3.8, 18, 3.8, "table: compare", "table")
    arrow(ax, first.bottom, (trunk, last.y + last.h), thing="stream", width=3)
    arrow(ax, last.bottom, (trunk, end.y + end.h), thing="stream", width=3)
    note(ax, trunk - 1.2, 24.4, "residual\nstream", ha="right", bold=True, colour="stream")
    rows = ((31.9, "attention", "norm1", "attention", f"4 matrices {size} × {size}"),)
    rows += ((21.3, "MLP", "norm2", "mlp", f"3 matrices {size} × {inner}"),)
    for y, name, norm, part, small in rows:
        before = box(ax, 18.6, y - 2.7, 9, 5.4, "norm", "norm")
        inside = box(ax, 30.4, y - 2.7, 20.4, 5.4, name, part, small)
        line(ax, [(trunk, y), (before.x - 1.2, y)], "stream")
        arrow(ax, (trunk, y), before.left, thing="stream")
        arrow(ax, before.right, inside.left, thing="stream")
        low = y - 5.1
        line(ax, [inside.bottom, (inside.bottom[0], low), (trunk + 2, low)], "stream")
        arrow(ax, (trunk + 4, low), (trunk + 1.3, low), thing="stream")
        plus(ax, trunk, low)
        note(ax, right, y, f"{counts[norm]} + {counts[part]:,}", ha="right", code=True)
    for y, text in ((first.left[1], f"{counts['table']:,}"), (last.left[1], str(counts["norm"]))):
        note(ax, right, y, text, ha="right", code=True)
    note(ax, right, end.left[1], "shared", ha="right", colour=FAINT)
    note(ax, trunk, 1.6, f"logits (…, {words})")
    note(ax, right, 1.6, f"together {sum(counts.values()):,}", ha="right", bold=True)
    show(
        ax,
        f"The small model: Pebble with one block, not four, and {size} numbers a row instead of 256. Straight down "
        "runs the residual stream; attention and MLP read from it, and add to it.",
        "A straight line from the table at the top to the table at the bottom; attention and MLP branch off to the "
        "right and come back to it at a plus sign. The number of weights stands beside each part.",
    )


def learns(steps: Sequence[int], kitten: Curve, exam: Curve) -> None:
    """Draw how two shares grow during a training."""
    ax = canvas(30)
    plot = plot_at(ax, 7, 6, 40, 21, xlim=(0, steps[-1]), ylim=(0, 1.03), yticks=(0, 0.25, 0.5, 0.75, 1))
    plot.set_yticklabels(["0%", "25%", "50%", "75%", "100%"])
    plot.plot(steps, exam, color=THINGS["held out"][0], linewidth=2.2)
    plot.plot(steps, kitten, color=THINGS["stream"][0], linewidth=2.2)
    ends = apart([6 + 21 * exam[-1] / 1.03, 6 + 21 * kitten[-1] / 1.03])
    note(ax, 47.6, ends[0], "exam", ha="left", bold=True, colour="held out")
    note(ax, 47.6, ends[1], "p of “kitten”", ha="left", bold=True, colour="stream")
    note(ax, 27, 1.6, "steps")
    show(
        ax,
        "Nothing at first, and then quite fast. Blue: the probability of “kitten” at the end of our sentence. Pink: "
        "the share of right answers in the exam. Both ask about sentences that the model never sees.",
        "Two curves that stay near zero at first and then climb.",
    )


def adam_steps(gradients: Curve, means: Curve, sizes: Curve, moves: Curve) -> None:
    """Draw four numbers for each step of one weight: gradient, running mean, running size, and the step taken."""
    ax = canvas(25)
    wide = 44 / len(gradients)
    for i in range(len(gradients)):
        note(ax, 18 + wide * (i + 0.5), 22.8, f"step {i + 1}", bold=True)
    rows = (
        (17.2, "gradient g", gradients, "gradient", "{:+.2f}"),
        (12.4, "its mean", means, "stream", "{:+.3f}"),
        (7.6, "its size", sizes, "old", "{:.3f}"),
        (1.6, "w moves by", moves, "table", "{:+.5f}"),
    )
    for y, label, values, thing, form in rows:
        top = max(map(abs, values))
        note(ax, 17, y + 1.9, label, ha="right", bold=True, colour=thing if thing != "old" else INK)
        for i, value in enumerate(values):
            text = form.format(float(value)).replace("-", "−")
            cell(ax, 18 + wide * i, y, wide, 3.8, text, thing, abs(value) / top)
    line(ax, [(4, 6.5), (62, 6.5)], "token", 1.2)
    show(
        ax,
        "One weight over three steps. The last row is −lr · mean / size. The first step is a full one. When the "
        "gradient turns round, the mean shrinks, and the weight hardly moves.",
        "A grid of three columns with four numbers each: gradient, mean, size and step.",
    )


def race(runs: Mapping[str, Sequence[Curve]]) -> None:
    """Draw three runs of each method, {name: losses}, smoothed."""
    ax = canvas(32)
    things = ("old", "stream", "gradient", "table")
    steps = len(next(iter(runs.values()))[0])
    plot = plot_at(ax, 6.5, 6, 39, 23, xlim=(0, steps), ylim=(0.6, 3.5))
    ends = []
    for thing, curves in zip(things, runs.values(), strict=True):
        for run in curves:
            smooth = np.convolve(run, np.ones(10) / 10, mode="valid")
            plot.plot(np.arange(len(smooth)) + 9, smooth, color=THINGS[thing][0], linewidth=1.6)
        last = float(np.mean([float(np.mean(run[-10:])) for run in curves]))
        ends.append(6 + 23 * (last - 0.6) / 2.9)
    for name, thing, y in zip(runs, things, apart(ends), strict=True):
        note(ax, 46.2, y, name, ha="left", bold=True, colour=thing)
    note(ax, 26, 1.6, "steps")
    note(ax, 6.5, 30.4, "training loss (mean of 10 steps)", bold=True, ha="left", colour="loss")
    show(
        ax,
        "Four ways to take a step, each at the best of three rates, three seeds each. The two that divide by the size "
        "end together, far below the two that don't; AdamW, with its longer steps, gets there first.",
        "Four bundles of loss curves; two of them lie on each other, below the other two.",
    )


def _bundle(plot: Axes, runs: Sequence[Mapping[str, Curve]], name: str, every: int, thing: str, style: str) -> float:
    """Draw a curve of each run; return the height at which they end, on average, in shares of the plot's height."""
    low, high = plot.get_ylim()
    for run in runs:
        plot.plot(every * np.arange(len(run[name])), run[name], style, color=THINGS[thing][0], linewidth=1.6)
    return (float(np.mean([run[name][-1] for run in runs])) - low) / (high - low)


def _lowest(plot: Axes, runs: Sequence[Mapping[str, Curve]], name: str, every: int, thing: str) -> None:
    """Mark the lowest point of each curve."""
    for run in runs:
        low = min(run[name])
        plot.plot(every * run[name].index(low), low, "o", color=THINGS[thing][0], markersize=6, zorder=6)


def validation(runs: Sequence[Mapping[str, Curve]], every: int, floor: float) -> None:
    """Draw training and validation loss, magnified, with the turn and the floor; beside them the answers alone."""
    ax = canvas(32)
    steps = every * (len(runs[0]["all"]) - 1)
    ticks = (0, steps // 2, steps)
    left = plot_at(ax, 6, 6, 23, 22, xlim=(0, steps), ylim=(0.75, 1.6), xticks=ticks, yticks=(0.8, 1, 1.2, 1.4, 1.6))
    left.axhline(floor, color=FAINT, linestyle=(0, (4, 3)), linewidth=1.4)
    ends = [_bundle(left, runs, "training", every, "stream", "-"), _bundle(left, runs, "all", every, "held out", "-")]
    _lowest(left, runs, "all", every, "held out")
    heights = apart([6 + 22 * (floor - 0.75) / 0.85, *(6 + 22 * end for end in ends)])
    for y, text, thing in zip(heights, ("floor", "training", "held out"), (FAINT, "stream", "held out"), strict=True):
        note(ax, 29.8, y, text, ha="left", bold=thing != FAINT, colour=thing)
    note(ax, 4, 30.2, "loss, all words", bold=True, ha="left", colour="loss")
    right = plot_at(ax, 44, 6, 18, 22, xlim=(0, steps), ylim=(0, 3), xticks=ticks, yticks=(0, 1, 2, 3))
    _bundle(right, runs, "answers", every, "held out", "--")
    note(ax, 42, 30.2, "loss, answers only", bold=True, ha="left", colour="loss")
    for x in (17.5, 53):
        note(ax, x, 1.6, "steps")
    show(
        ax,
        "Three seeds. Left: the training loss creeps down to the floor; the mean over all held-out words turns (at the "
        "dots) and rises. Right: the same three runs, but only the held-out answers. They get better and better.",
        "Two panels. In the left one a blue bundle falls towards a dashed line, and a pink one has its lowest points "
        "halfway and rises again. In the right one a dashed bundle falls to almost zero.",
    )


def by_heart(one: Sequence[Mapping[str, Curve]], three: Sequence[Mapping[str, Curve]], every: int) -> None:
    """Draw runs with `one` wording of each fact and with `three`: the training loss, and beside it the answers."""
    ax = canvas(34)
    steps = every * (len(one[0]["answers"]) - 1)
    rows = ((one, "held out", "one wording"), (three, "mlp", "three wordings"))
    for x, name, style, title in ((4, "training", "-", "training loss"), (30, "answers", "--", "loss of the answers")):
        plot = plot_at(ax, x, 6, 19, 23, xlim=(0, steps), ylim=(0, 6), xticks=(0, steps // 2, steps))
        ends = [6 + 23 * _bundle(plot, runs, name, every, thing, style) for runs, thing, _ in rows]
        note(ax, x, 31.6, title, bold=True, ha="left", colour="loss")
        note(ax, x + 9.5, 1.6, "steps")
    _lowest(plot, one, "answers", every, "held out")
    for (_, thing, text), y in zip(rows, apart(ends), strict=True):
        note(ax, 49.6, y, text, ha="left", bold=True, colour=thing)
    show(
        ax,
        "As many sentences, three seeds each: one wording of every fact (pink), or three wordings of a third of the "
        "facts (green). The training losses look alike. But with one wording the answers stay bad, turn at the dots "
        "and get worse; with three they are learned. The training loss alone would never have told you.",
        "Two panels. In the left one two bundles fall together; in the right one pink stays high and turns halfway, "
        "and green falls.",
    )


def schedule_shape(shares: Curve, rate: float, warmup: int, decay: float) -> None:
    """Draw a learning rate over the steps of a training."""
    ax = canvas(25)
    steps = len(shares)
    plot = plot_at(ax, 9, 5.6, 52, 15, xlim=(0, steps), ylim=(0, rate * 1.1), yticks=(0, rate))
    plot.plot(rate * np.array(shares), color=THINGS["gradient"][0], linewidth=2.4)
    note(ax, 9.4, 23, "learning rate", ha="left", bold=True, colour="gradient")
    turn = 9 + 52 * (1 - decay)
    note(ax, 11, 12, f"warm-up:\n{warmup} steps", ha="left")
    note(ax, (13 + turn) / 2 + 4, 15.4, "full rate")
    note(ax, turn + 5.5, 10, f"down to 0:\nthe last {decay:.0%}")
    note(ax, 35, 1.5, f"steps (of {steps:,})")
    show(
        ax,
        "Pebble's own schedule: a short rise, a long plateau, and a straight way down.",
        "A curve that rises steeply at the left, stays level, and falls in a straight line to zero.",
    )


def memory(parts: Sequence[tuple[str, float, str]], card: float) -> None:
    """Draw what a training keeps beside a card: `parts` are (name, GB, thing), `card` is its GB."""
    ax = canvas(17)
    total = sum(size for _, size, _ in parts)
    unit, at = 61 / total, 1.5
    for name, size, thing in parts:
        strong, pale = THINGS[thing]
        wide = size * unit
        ax.add_patch(Rectangle((at, 7), wide - 0.3, 5.4, facecolor=pale, edgecolor=strong, linewidth=1.4, zorder=3))
        note(ax, at + wide / 2, 10.9, name, bold=True, room=wide)
        note(ax, at + wide / 2, 8.4, f"{size:.0f} GB")
        at += wide
    strong, pale = THINGS["alarm"]
    ax.add_patch(Rectangle((1.5, 2), card * unit, 2.8, facecolor=pale, edgecolor=strong, zorder=3))
    note(ax, 2.4 + card * unit, 3.4, f"a card with {card:.0f} GB", ha="left", colour="alarm", bold=True)
    note(ax, 1.5, 15, f"training {total:.0f} GB, before anything is kept for the way back", bold=True, ha="left")
    show(
        ax,
        "What AdamW keeps for a 7B model at four bytes a number: the weights, their gradients, and two averages. "
        "That's why part IV trains a small part of a model only.",
        "Four boxes of equal size in a row, and below them a much smaller one for the card.",
    )
