"""The pictures of notebook 10, training in small: the model, its curves, what AdamW does, what it costs."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.patches import Rectangle

from llmnotes.plots.drawing import (
    FAINT,
    INK,
    NORMAL,
    SMALL,
    THINGS,
    arrow,
    bars,
    box,
    canvas,
    cell,
    line,
    note,
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
    """Draw the small model from top to bottom; `counts` is {part: weights}."""
    ax = canvas(47)
    x, w = 14, 24
    note(ax, 46, 45.2, "weights", bold=True)
    parts = [
        ("table: look up", "table", "table", f"{words} × {size}"),
        ("norm", "norm", "norm1", None),
        ("attention", "attention", "attention", f"q, k, v, o: {size} × {size}"),
        ("norm", "norm", "norm2", None),
        ("MLP", "mlp", "mlp", f"gate, up, down: {size} × {inner}"),
        ("norm", "norm", "norm", None),
        ("table: compare", "table", None, None),
    ]
    at, spots = 43.8, []
    note(ax, x + w / 2, 45.4, "ids (sentences, tokens)")
    for i, (name, thing, key, small) in enumerate(parts):
        high = 5.4 if small else 3.4
        spot = box(ax, x, at - high, w, high, name, thing, small)
        spots.append(spot)
        text = f"{counts[key]:,}" if key else "shared"
        note(ax, 46, spot.left[1], text, code=bool(key), colour=INK if key else FAINT)
        at -= high + 1.6
        if i < len(parts) - 1:
            arrow(ax, (x + w / 2, spot.y), (x + w / 2, spot.y - 1.6), thing="stream")
    for first, last in ((1, 2), (3, 4)):
        top, low = spots[first].y + spots[first].h + 0.8, spots[last].y - 0.8
        line(ax, [(x + w / 2, top), (x - 3, top), (x - 3, low), (x + w / 2, low)], "stream", 1.6)
        note(ax, x - 5.4, (top + low) / 2, "add", colour="stream", bold=True)
    note(ax, 46, at - 0.4, f"{sum(counts.values()):,}", code=True, bold=True)
    note(ax, 40, at - 0.4, "together", ha="right", bold=True)
    note(ax, 14, at - 0.4, f"logits (…, {words})", ha="left")
    show(
        ax,
        f"The small model: Pebble with one block, not four, and {size} numbers a row instead of 256. The blue line "
        "at the left is the residual stream.",
        "A column of boxes from the table at the top to the table at the bottom, with the number of weights beside it.",
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
    things = ("old", "stream", "table")
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
        "Three ways to take a step, each at a good rate of a few, three seeds each.",
        "Three bundles of loss curves, one below the other.",
    )


def hold(rows: Sequence[str], wordings: Sequence[str], held: Sequence[int]) -> None:
    """Draw which wording, a column, of which animal, a row, is held out."""
    ax = canvas(6 + 3.8 * len(rows))
    wide = 50 / len(wordings)
    high = 3.8 * len(rows)
    for j, wording in enumerate(wordings):
        note(ax, 12 + wide * (j + 0.5), high + 4.2, wording)
    for i, (row, out) in enumerate(zip(rows, held, strict=True)):
        y = high - 3.8 * (i + 1) + 2
        note(ax, 11, y + 1.8, row, ha="right", code=True)
        for j in range(len(wordings)):
            strong, pale = THINGS["held out" if j == out else "stream"]
            fill = strong if j == out else pale
            ax.add_patch(Rectangle((12 + wide * j, y), wide - 0.4, 3.4, facecolor=fill, edgecolor=strong, zorder=3))
            text, ink = ("held out", "white") if j == out else ("train", INK)
            note(ax, 12 + wide * (j + 0.5) - 0.2, y + 1.7, text, colour=ink, bold=j == out)
    show(
        ax,
        "Of the four wordings of each fact, one is kept out of the training, by lot. The fact is there in three "
        "others: so a model that has understood can answer, and one that only repeats sentences can't.",
        "A grid of animals and wordings, one cell of each row marked as held out.",
    )


SHOWN = {  # curve: (label, thing, style)
    "training": ("training", "stream", "-"),
    "all": ("held out, all", "held out", "-"),
    "answers": ("answers", "held out", "--"),
    "forks": ("forks", "held out", ":"),
}


def _bundles(runs: Sequence[Mapping[str, Curve]], names: Sequence[str], every: int, top: float, words: tuple) -> None:
    ax = canvas(32)
    last = every * (len(runs[0][names[0]]) - 1)
    plot = plot_at(ax, 6.5, 6, 39, 23, xlim=(0, last), ylim=(0, top))
    ends = []
    for name in names:
        _, thing, style = SHOWN[name]
        for run in runs:
            steps = every * np.arange(len(run[name]))
            plot.plot(steps, run[name], style, color=THINGS[thing][0], linewidth=1.6)
        ends.append(6 + 23 * min(float(np.mean([run[name][-1] for run in runs])), top) / top)
    for name, y in zip(names, apart(ends), strict=True):
        note(ax, 46.2, y, SHOWN[name][0], ha="left", bold=True, colour=SHOWN[name][1])
    note(ax, 26, 1.6, "steps")
    note(ax, 6.5, 30.4, "loss", bold=True, ha="left", colour="loss")
    show(ax, *words)


def four_curves(runs: Sequence[Mapping[str, Curve]], every: int) -> None:
    """Draw the losses of a training and of three kinds of held-out places, three seeds."""
    words = (
        "Three seeds. Training falls. The mean over all held-out words turns and rises a little: that comes from the "
        "forks (dotted), one word in each sentence. The answers (dashed) get better and better.",
        "Four bundles of three curves: two fall, one flattens and rises a little, the one at the top rises.",
    )
    _bundles(runs, ["training", "all", "answers", "forks"], every, 6, words)


def by_heart(runs: Sequence[Mapping[str, Curve]], every: int) -> None:
    """Draw training loss and answers of a model that has one wording of each fact."""
    words = (
        "One wording of every fact, three seeds. The training loss looks even better than before. The answers (dashed) "
        "stop improving early, and then get a little worse. The training loss alone would never have told you.",
        "Two bundles of curves that part early and far.",
    )
    _bundles(runs, ["training", "answers"], every, 6, words)


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
    note(ax, 1.5, 15, f"training {total:.0f} GB, without one token's activations", bold=True, ha="left")
    show(
        ax,
        "What AdamW keeps for a 7B model at four bytes a number: the weights, their gradients, and two averages. "
        "That's why part IV trains a small part of a model only.",
        "Four boxes of equal size in a row, and below them a much smaller one for the card.",
    )


def per_word(names: Sequence[str], texts: Sequence[str], losses: Sequence[Curve]) -> None:
    """Draw the loss per word of each model on each text: `losses` has a list for each text."""
    high = 3.4 * len(names)
    ax = canvas((high + 4.4) * len(texts) + 0.6)
    top = max(max(row) for row in losses)
    for i, (text, row) in enumerate(zip(texts, losses, strict=True)):
        y = (high + 4.4) * (len(texts) - i) - 3
        note(ax, 1, y + 1.4, text, bold=True, ha="left")
        bars(ax, 14, y - 0.6, names, row, "loss", length=36, form="{:.2f}", step=3.4, top=top, code=False)
    show(
        ax,
        "Loss per word, all but the first, so that models with different tokens can be compared. Each is at home in "
        "its own kind of text.",
        "Two pairs of bars; in each pair another model has the shorter one.",
    )
