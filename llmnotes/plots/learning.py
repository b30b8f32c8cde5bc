"""The pictures of notebook 09, learning from mistakes: what a guess costs, which way to turn a number, how far."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

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
    chart,
    line,
    note,
    show,
    signed,
)

GREY = THINGS["old"][0]
Losses = Sequence[float]


def plot_at(ax: Axes, x: float, y: float, w: float, h: float, **limits: Any) -> Axes:
    """Return a chart without a background, so that notes can be written into it."""
    plot = chart(ax, x, y, w, h, **limits)
    plot.set_facecolor("none")
    plot.set_zorder(-1)
    ax.set_zorder(1)
    ax.patch.set_alpha(0)
    return plot


def pairs(sentence: Sequence[str]) -> None:
    """Draw a sentence as a row of words, with an arrow from each to the next."""
    ax = canvas(19.4)
    words = [".", *sentence]
    step = 62 / len(words)
    spots = [box(ax, 1 + step * i, 9, step - 0.4, 4, word, size=SMALL) for i, word in enumerate(words)]
    for i, (one, two) in enumerate(zip(spots[:-1], spots[1:], strict=True)):
        low = i % 2
        y = 8.8 if low else 13.2
        bend = 0.55 if low else -0.55
        arrow(ax, (one.centre[0], y), (two.centre[0] - 0.4, y), thing="gradient", bend=bend)
        middle = (one.centre[0] + two.centre[0]) / 2
        note(ax, middle, 4.4 if low else 17.4, str(i + 1), NORMAL, bold=True, colour="gradient")
    note(ax, 32, 1.4, f"{len(sentence)} questions: this word is there, which one comes next?", colour=FAINT)
    show(
        ax,
        f"One sentence is {len(sentence)} small questions, and the text itself holds the answers. Nobody has to "
        "write them down.",
        "The words of the running example in a row, after a full stop; an arrow goes from each word to the next.",
    )


def counts(words: Sequence[str], table: Any, rows: Sequence[str], cols: Sequence[str], strong: tuple[str, str]) -> None:
    """Draw a corner of the table of counts; `words` are all its words in order, `strong` is the pair with a frame."""
    number = {word: i for i, word in enumerate(words)}
    top = max(int(table[number[row], number[col]]) for row in rows for col in cols)
    ax = canvas(6 + 3.6 * len(rows) + 3)
    high = 3.6 * len(rows)
    wide = 50 / len(cols)
    for j, col in enumerate(cols):
        note(ax, 11 + wide * (j + 0.5), high + 4.2, col, code=True)
    for i, row in enumerate(rows):
        y = high - 3.6 * (i + 1) + 2.4
        note(ax, 10, y + 1.7, row, ha="right", code=True)
        for j, col in enumerate(cols):
            value = int(table[number[row], number[col]])
            text = str(value) if value else ""
            cell(ax, 11 + wide * j, y, wide, 3.4, text, "table", value / top, strong=(row, col) == strong)
    note(ax, 36, high + 7.2, "next word", bold=True)
    note(ax, 10, high + 7.2, "this word", bold=True, ha="right")
    show(
        ax,
        f"A corner of the count table ({len(rows)} of {len(words)} rows, {len(cols)} of {len(words)} columns). "
        f"The darker a cell, the more often that pair occurs. Framed: “{strong[0]}” followed by “{strong[1]}”.",
        "A grid of counts; rows are the present word, columns the next word.",
    )


def loss_curve(points: Sequence[tuple[float, str]]) -> None:
    """Draw -ln p; `points` are (p, what it is), three of them from unlikely to likely."""
    ax = canvas(33)
    plot = plot_at(ax, 7, 6, 54, 24, xlim=(0, 1.02), ylim=(0, 7.4))
    p = np.linspace(0.0006, 1, 800)
    plot.plot(p, -np.log(p), color=THINGS["loss"][0], linewidth=2.4)
    for (chance, what), (dx, dy, ha) in zip(
        points, ((2, 0.8, "left"), (0, 2.6, "center"), (3.2, 2.2, "right")), strict=True
    ):
        height = -math.log(chance)
        plot.plot(chance, height, "o", color=INK, markersize=7, zorder=5)
        x, y = 7 + 54 * chance / 1.02, 6 + 24 * height / 7.4
        note(ax, x + dx, y + dy, f"{what}: {chance:.3f} → {height:.2f}", ha=ha)
    note(ax, 34, 1.6, "p: the probability that we gave to the word that came")
    note(ax, 8, 31.6, "loss = −ln p", bold=True, ha="left", colour="loss")
    show(
        ax,
        "The loss of one prediction. Sure and right costs nothing; the less you believed in what then happens, the "
        "more you pay, without limit.",
        "A curve that falls steeply from the upper left to 0 at the right, with dots for three guesses.",
    )


def sentence_losses(words: Sequence[str], chances: Sequence[float], blank: float) -> None:
    """Draw what each word of a sentence costs; `blank` is the chance that somebody gives who knows nothing."""
    names, chances = [*words, "no idea"], [*chances, blank]
    high = 3.2 * len(names)
    ax = canvas(high + 4.6)
    note(ax, 12, high + 2.9, "next word", bold=True, ha="right")
    note(ax, 18, high + 2.9, "p", bold=True)
    note(ax, 24, high + 2.9, "−ln p", bold=True, colour="loss", ha="left")
    things = ["loss"] * len(words) + ["old"]
    losses = [abs(math.log(p)) for p in chances]
    bars(ax, 24, high + 0.8, ["" for _ in names], losses, things, length=30, form="{:.2f}")
    for i, (word, p) in enumerate(zip(names, chances, strict=True)):
        last = i == len(words)
        y = high + 0.8 - 3.2 * (i + 0.5)
        note(ax, 12, y, word, ha="right", code=not last, colour=FAINT if last else INK)
        note(ax, 18, y, f"{p:.3f}", colour=FAINT if last else INK)
    mean = -np.mean(np.log(chances[:-1]))
    show(
        ax,
        f"What the counted table pays for each word of our sentence, {mean:.2f} on average. After “called” only “a” or "
        "“an” can follow, which costs next to nothing. Which animal it is, and “kitten”, are expensive.",
        "Eight bars, one for each word of the sentence, as long as its loss, and one for knowing nothing.",
    )


def wiggle(xs: Losses, losses: Losses, slope: float, height: float) -> None:
    """Draw a loss over the one number that is turned, with its tangent at 0, where the loss is `height`."""
    ax = canvas(31)
    plot = plot_at(ax, 8, 6, 38, 22, xlim=(min(xs), max(xs)), ylim=(min(losses) - 0.4, max(losses) + 0.5))
    plot.plot(xs, losses, color=THINGS["loss"][0], linewidth=2.4)
    near = np.array([-1.6, 4.3])
    plot.plot(near, height + slope * near, color=THINGS["gradient"][0], linewidth=2.4)
    plot.plot([0, 1, 1], [height, height, height + slope], color=INK, linewidth=1.4, linestyle=(0, (2, 2)))
    plot.plot(0, height, "o", color=INK, markersize=8, zorder=5)
    note(ax, 27, 1.6, "the one knob that we turn: row a, column kitten")
    note(ax, 8, 29.4, "loss of “a → kitten”", bold=True, ha="left", colour="loss")
    note(ax, 47, 22, f"slope here:\n{signed(slope, '{:+.3f}')}", NORMAL, ha="left", bold=True, colour="gradient")
    note(ax, 47, 14.6, f"on the straight line:\none to the right,\n{-slope:.3f} down", ha="left")
    show(
        ax,
        "Everything stays as it is, only one number moves. The straight line has the slope of the curve where we stand "
        "(the dot). It goes down to the right: make this number larger. Further on, the curve leaves the line.",
        "The loss as a falling curve, with a straight line that touches it at the number 0 and leaves it further on.",
    )


def p_minus_onehot(names: Sequence[str], p: Losses, target: Losses, gradient: Losses) -> None:
    """Draw three strips of numbers, one under the other: guess, truth, difference."""
    ax = canvas(23)
    wide = 46 / len(names)
    for j, name in enumerate(names):
        note(ax, 15 + wide * (j + 0.5), 20.8, name, code=True)
    for y, label, values, thing, form in (
        (15.4, "our guess p", p, "table", "{:.3f}"),
        (10, "− truth y", target, "old", "{:.0f}"),
        (3.4, "= gradient", gradient, "gradient", "{:+.3f}"),
    ):
        note(ax, 14, y + 1.7, label, ha="right", bold=True, colour=thing if thing != "old" else INK)
        for j, value in enumerate(values):
            text = form.format(float(value)).replace("-", "−")
            cell(ax, 15 + wide * j, y, wide, 3.4, text, thing, abs(float(value)))
    line(ax, [(2, 8.4), (61, 8.4)], "token", 1.2)
    note(ax, 38, 1.2, f"… and the same {gradient[-1]:+.3f} for all other words", colour=FAINT)
    show(
        ax,
        "The gradient of one prediction is guess minus truth. To descend, we go against it: “kitten” is pushed up with "
        "all strength, every other word a little down.",
        "Three strips of numbers: probabilities, a one at kitten and zeros elsewhere, and their difference.",
    )


def backward(values: Losses, slopes: Losses, paths: Losses) -> None:
    """Draw the way from a logit to the loss, which has a fork: black arrows forward, teal ones backward with slopes.

    `values` are z, e^z, p and the loss, `slopes` those of the three steps between them, and `paths` the slopes of p
    when e^z moves above the line of the fraction only, and below it only.
    """
    ax = canvas(34.4)
    logit, grown, share, loss = values
    z = box(ax, 0.6, 13.8, 9.4, 6, "logit z", "table", f"{logit:.0f}")
    power = box(ax, 15.4, 13.8, 8.6, 6, "$e^z$", "old", f"{grown:.0f}")
    p = box(ax, 43, 13.8, 8.6, 6, "p", "old", f"{share:.4f}")
    cost = box(ax, 56.4, 13.8, 7.2, 6, "−ln p", "loss", f"{loss:.3f}")
    above = box(ax, 29, 20.6, 9, 5.6, "above", "old", f"{grown:.0f}")
    below = box(ax, 29, 7.4, 9, 5.6, "below", "old", f"{grown / share:.0f}")
    for one, two in ((z, power), (p, cost)):
        arrow(ax, (one.right[0] + 0.2, 18.2), (two.left[0] - 0.2, 18.2))
        arrow(ax, (two.left[0] - 0.2, 15.4), (one.right[0] + 0.2, 15.4), thing="gradient")
    for path, way in ((above, 1), (below, -1)):
        high = path.centre[1]
        for y, near, back in ((18.6, high + way, False), (17.4, high - 1.4 * way, True)):
            y = y if way > 0 else 33.6 - y
            for start, end in (((24.2, y), (28.8, near)), ((38.2, near), (42.8, y))):
                arrow(ax, *((end, start) if back else (start, end)), thing="gradient" if back else "token")
    signs = [
        "× " + ("{:.4f}" if abs(slope) < 1 else "{:.0f}").format(slope).replace("-", "−") for slope in (*slopes, *paths)
    ]
    places = ((12.7, 12.2), (33.5, 15.7), (54, 12.2), (33.5, 27.8), (33.5, 5.6))
    for (x, y), text in zip(places, signs, strict=True):
        note(ax, x, y, text, colour="gradient", bold=True)
    note(ax, 33.5, 17.9, "add:", colour="gradient", bold=True)
    note(ax, 32, 32, "forward: compute, and write down every step", bold=True)
    whole = signed(math.prod(slopes), "{:.3f}")
    note(ax, 32, 1.9, f"backward, from right to left: the slopes multiply to {whole}", bold=True, colour="gradient")
    show(
        ax,
        "From the logit of “kitten” to its loss, and back. The second number stands above and below the line of the "
        "fraction p, so there are two paths. Along a path the slopes multiply; where paths meet, they add.",
        "Four boxes in a row, with a fork of two boxes before p; black arrows lead forward, teal ones back, and each "
        "step has its slope.",
    )


def circle(size: int, losses: Losses) -> None:
    """Draw the loop of training; `size` is how many numbers our table has, `losses` are those of the first rounds."""
    ax = canvas(31)
    first, second = losses
    places = {
        "1 guess": (1, 14.6, "stream", "logits[now]"),
        "2 loss": (23, 14.6, "loss", f"{first:.3f}, then {second:.3f}"),
        "3 gradient": (45, 14.6, "gradient", "backward()"),
        "4 step": (34, 2.4, "table", "− lr · gradient"),
        "5 clear": (12, 2.4, "old", "grad = None"),
    }
    for name, (x, y, thing, small) in places.items():
        box(ax, x, y, 18, 7, name, thing, small)
    for start, end in (
        ((19.4, 18.1), (22.6, 18.1)),
        ((41.4, 18.1), (44.6, 18.1)),
        ((54, 14.2), (47, 9.8)),
        ((33.6, 5.9), (30.4, 5.9)),
    ):
        arrow(ax, start, end)
    arrow(ax, (17, 9.8), (10, 14.2))
    note(ax, 11, 11.2, "and again", ha="right")
    for x, text in ((10, "the text: now"), (32, "the text: after")):
        note(ax, x, 28.8, text, bold=True)
        arrow(ax, (x, 27.4), (x, 22), thing="token")
    show(
        ax,
        f"All of training is this circle, for a table of {size:,} numbers and for a model of many billions. The text "
        f"comes in twice: as what is there, and as what came next. After one round the loss is down from "
        f"{first:.3f} to {second:.3f}.",
        "Five boxes in a circle: guess, loss, gradient, step, clear. The text enters at guess and at loss.",
    )


def apart(heights: Sequence[float], gap: float = 2.5) -> list[float]:
    """Return heights for labels that would like to stand at `heights`, moved so that no two are nearer than `gap`.

    >>> apart([1.0, 9.0, 2.0])
    [0.25, 9.0, 2.75]
    """
    order = sorted(range(len(heights)), key=lambda i: heights[i])
    placed = {i: heights[i] for i in order}
    for _ in range(50):
        for low, high in zip(order[:-1], order[1:], strict=True):
            short = gap - (placed[high] - placed[low])
            if short > 1e-9:
                placed[low], placed[high] = placed[low] - short / 2, placed[high] + short / 2
    return [placed[i] for i in range(len(heights))]


def _curves(
    runs: Sequence[tuple[str, Losses, str]],
    caption: str,
    alt: str,
    floor: tuple[float, str] | None = None,
    top: float = 4.6,
) -> None:
    """Draw runs, (label, losses, thing): one line each, labelled at its right end; `floor` is a dashed line."""
    ax = canvas(32)
    steps = max(len(losses) for _, losses, _ in runs)
    plot = plot_at(ax, 6.5, 6, 39, 23, xlim=(0, steps), ylim=(0, top))
    ends = [min(losses[-1], top) for _, losses, _ in runs]
    labels = [(label, thing) for label, _, thing in runs]
    for _, losses, thing in runs:
        plot.plot(losses, color=THINGS[thing][0], linewidth=2)
    if floor is not None:
        plot.axhline(floor[0], color=GREY, linestyle=(0, (4, 3)), linewidth=1.6)
        ends.append(floor[0] - 1e-6)
        labels.append((floor[1], ""))
    for (label, thing), y in zip(labels, apart([6 + 23 * end / top for end in ends]), strict=True):
        note(ax, 46.2, y, label, ha="left", bold=bool(thing), colour=thing or FAINT)
    note(ax, 26, 1.6, "steps")
    note(ax, 6.5, 30.4, "loss", bold=True, ha="left", colour="loss")
    show(ax, caption, alt)


def noisy_and_smooth(noisy: Losses, smooth: Losses, batch: int, everything: int, lr: float) -> None:
    """Draw a run on batches and a run on all pairs at the same rate."""
    _curves(
        [(f"batch of {batch}", noisy, "old"), (f"all {everything:,}", smooth, "stream")],
        f"The same learning rate, {lr:.0f}, with {batch} pairs a step and with all {everything:,} (seed 0). The noisy "
        f"curve reads {everything // batch} times fewer pairs in each step and gets nearly as far. Real loss curves "
        "are jagged, too: each step is measured on other examples.",
        "A smooth loss curve and a jagged one around it.",
    )


def valley(loss_at: Callable[[float], float], rates: Sequence[float], steps: Sequence[int], number: str) -> None:
    """Draw a loss over one number, once for each learning rate, with so many steps of a descent that starts at 0.

    The first two rates share the scale of the valley's bottom; in the first each dot stands for ten steps.
    """
    tiny = 1e-4
    walks = []
    for rate, count in zip(rates, steps, strict=True):
        places = [0.0]
        for _ in range(count):
            slope = (loss_at(places[-1] + tiny) - loss_at(places[-1] - tiny)) / (2 * tiny)
            places.append(places[-1] - rate * slope)
        walks.append(places)
    walks[0] = walks[0][::10]
    ax = canvas(27)
    note(ax, 0.6, 24.9, "loss", bold=True, ha="left", colour="loss")
    for i, (rate, count, places) in enumerate(zip(rates, steps, walks, strict=True)):
        calm = i < len(rates) - 1
        heights = [loss_at(place) for place in places]
        ends = (-0.7, 5.2) if calm else (1.4 * min(places), 1.7 * max(places))
        xs = np.linspace(*ends, 120)
        curve = [loss_at(float(x)) for x in xs]
        low, high = min(curve), max(curve)
        room, x = (high - low) * 0.14, 6.4 + 20.8 * i
        plot = plot_at(ax, x, 6, 14.8, 15, xlim=ends, ylim=(low - room, high + room))
        plot.plot(xs, curve, color=THINGS["loss"][0], linewidth=2)
        marks = [low, heights[0]] if calm else [heights[0], max(heights)]
        plot.set_yticks(marks, [f"{mark:.2f}" for mark in marks])
        plot.set_xticks([0, 4] if calm else [-10, 0], ["0", "4"] if calm else ["−10", "0"])
        if not calm:  # an arrow for each step
            for j in range(len(places) - 1):
                how = {"arrowstyle": "-|>", "color": INK, "shrinkA": 3, "shrinkB": 3, "linewidth": 1.2}
                plot.annotate("", (places[j + 1], heights[j + 1]), (places[j], heights[j]), arrowprops=how)
                at = (11, -5) if places[j] > 3 else (-11, -3) if j else (-8, -11)
                where = (places[j], heights[j])
                plot.annotate(str(j), where, at, textcoords="offset points", ha="center", va="center", size=SMALL)
        plot.plot(places, heights, "o", color=INK, markersize=5)
        plot.plot(places[0], heights[0], "o", color=INK, markersize=9)
        note(ax, x + 7.4, 24.9, f"lr = {rate}", NORMAL, bold=True)
        note(ax, x + 7.4, 22.6, f"{count} steps")
    note(ax, 32, 1.6, number, colour=FAINT)
    show(
        ax,
        "The loss over all pairs, while only one number moves; the large dot is the start. Left: a small dot after "
        f"every 10 steps, and {steps[0]} aren't enough. Middle: a dot after every step, down, and calm. Right, further "
        "away: across the valley, far back over the start, and two steps later nearly where we began.",
        "A valley three times, with dots on it: half the way down, down to the bottom, and jumping across.",
    )


def four_runs(runs: Mapping[str, Losses]) -> None:
    """Draw four small charts of a loss, {name of the run: losses}."""
    ax = canvas(43)
    for number, (name, losses) in enumerate(runs.items()):
        x, y = 6 + 31 * (number % 2), 26 - 19 * (number // 2)
        plot = plot_at(ax, x, y, 25, 12.4, xlim=(0, len(losses)), ylim=(0, 9))
        plot.plot(losses, color=THINGS["stream"][0], linewidth=1.8)
        gone = next((i for i, loss in enumerate(losses) if loss > 9), None)
        if gone is not None:
            note(ax, x + 25 * gone / len(losses) + 1, y + 11.4, "leaves the picture", ha="left", colour=FAINT)
        note(ax, x + 12.5, y + 14, f"run {name}", NORMAL, bold=True)
    note(ax, 32, 1.7, "steps to the right, loss upwards", colour=FAINT)
    show(
        ax,
        "Four runs of four colleagues, on the same table and the same text.",
        "Four small charts of a loss, named A, B, C and D.",
    )
