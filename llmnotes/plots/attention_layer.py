"""The pictures of lesson 05: turned queries and keys, and the whole layer of Pebble."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.patches import Circle

from llmnotes.plots.attention import from_zero, plane, seen
from llmnotes.plots.drawing import (
    FAINT,
    NORMAL,
    SMALL,
    THINGS,
    arrow,
    box,
    canvas,
    cell,
    chart,
    note,
    show,
)


def two_orders(first: Sequence[str], second: Sequence[str]) -> None:
    """Draw the same words in two orders, with their places, and the question what the last one receives."""
    ax = canvas(16.5)
    for i, order in enumerate((first, second)):
        left = 2 + 32.5 * i
        spots = [box(ax, left + 9.6 * j, 9.6, 8.4, 4, word) for j, word in enumerate(order)]
        for j, spot in enumerate(spots):
            note(ax, spot.centre[0], 15.2, f"{j}", colour=FAINT)
        asks = spots[-1].bottom
        for spot in spots[:-1]:
            arrow(ax, (spot.bottom[0], 9.4), (asks[0] - 1.2, 4.6), thing="attention")
        arrow(ax, (asks[0], 9.4), (asks[0], 4.6), thing="attention")
        note(ax, asks[0], 2.6, f"{order[-1]} receives ?", bold=True)
    show(
        ax,
        "The same three words in two orders; above each its position. Does the last one receive the same?",
        "Two rows of three words. baby and cat have changed places, and a stands last in both.",
    )


def turned(words: Sequence[str], q: np.ndarray, k: np.ndarray, angle: float, starts: Sequence[int]) -> None:
    """Draw a query and two keys, turned by their positions, for two places in a text."""
    ax = canvas(29)

    def turn(p: np.ndarray, by: float) -> np.ndarray:
        cos, sin = np.cos(by), np.sin(by)
        return np.array([p[0] * cos - p[1] * sin, p[0] * sin + p[1] * cos])

    last = len(words) - 1
    for i, start in enumerate(starts):
        left = 1 + 32 * i
        axes = plane(ax, (left, 4.4, 30, 20.6), (-2.7, 3.1), (-0.75, 2.75), "", "")
        for mark in [*axes.texts, *axes.lines]:  # the dashed arrows are enough
            mark.remove()
        asked = [(f"key of {words[j]}", k[j], j, "token") for j in range(last)]
        scores = []
        for name, arm, place, thing in [*asked, (f"query of {words[last]}", q, last, "attention")]:
            from_zero(axes, arm, thing, 1.2, "--", 0.5)
            end = turn(arm, angle * (start + place))
            from_zero(axes, end, thing, 3.2 if thing == "attention" else 2)
            scores.append(float(turn(q, angle * (start + last)) @ end))
            x, y = end * (1 + 0.24 / np.linalg.norm(end))
            low = y < 0.5
            axes.text(x, y - 0.75 * low, name, size=SMALL, color=THINGS[thing][0], ha="center", va="center")
        note(ax, left + 15, 27, f"positions {start}, {start + 1}, {start + 2}", NORMAL, bold=True)
        pairs = zip(words, scores[:-1], strict=False)
        note(ax, left + 15, 2.4, "scores: " + "   ".join(f"{word} {score:.2f}" for word, score in pairs))
    show(
        ax,
        f"Each query and key is turned by {angle} radians times its position (dashed: before). Ten positions later "
        "all are turned further, but the angles between them are the same, and so are the scores.",
        "Two planes. In both, a query and two keys are turned away from their dashed originals, in the right one much "
        "further; the scores below are equal.",
    )


def match_by_distance(one: np.ndarray, all_hands: np.ndarray, marked: int, count: int) -> None:
    """Draw how well an arrow fits itself some positions later: with one hand, and with the hands of a whole head."""
    ax = canvas(25)
    plot = chart(ax, 5, 5, 47, 16.6, xlim=(0, len(one) - 1), ylim=(-1.05, 1.35))
    plot.axhline(0, color=FAINT, linewidth=0.8)
    plot.plot(one, color=THINGS["old"][0], linewidth=1.8)
    plot.plot(all_hands, color=THINGS["attention"][0], linewidth=2.6)
    plot.plot([marked], [one[marked]], "o", color=THINGS["alarm"][0], markersize=7, zorder=5)
    plot.set_yticks([-1, 0, 1], ["−1", "0", "1"])
    note(ax, 5, 23.6, "how well a query fits the same arrow, so many positions away", ha="left", bold=True)
    note(ax, 28.5, 1.6, "positions apart", colour=FAINT)
    scale = 16.6 / 2.4
    note(ax, 52.8, 5 + scale * (one[-1] + 1.05), "one hand", ha="left", bold=True, colour=FAINT)
    note(ax, 52.8, 5 + scale * (all_hands[-1] + 1.05), f"{count} hands", ha="left", bold=True, colour="attention")
    label = {"color": THINGS["alarm"][0], "size": SMALL, "weight": "bold", "ha": "center", "va": "center"}
    plot.text(marked, 1.19, f"{marked} apart: {one[marked]:.2f}", **label)
    show(
        ax,
        f"A single hand (grey) comes back again and again: {marked} positions away it fits as well as at the same "
        "place. With many hands of different speeds, only a small bump is left there.",
        "Two curves against the distance. The grey one swings between 1 and minus 1 forever; the orange one falls from "
        "1 and stays well below it.",
    )


def clocks(frequencies: Sequence[float], pairs: Sequence[int], positions: Sequence[int]) -> None:
    """Draw how far a few pairs of a head have turned at a few positions, as hands of clocks."""
    ax = canvas(26)
    step = 62 / len(pairs)
    for i, (pair, frequency) in enumerate(zip(pairs, frequencies, strict=True)):
        dial = chart(ax, 1 + step * i, 6, step, 17, xlim=(-1.75, 1.75), ylim=(-1.75, 1.75), aspect="equal")
        dial.axis("off")
        dial.add_artist(Circle((0, 0), 1, fill=False, color=THINGS["old"][0]))
        groups: list[list[int]] = []
        for place, position in enumerate(positions):
            angle = position * frequency
            share = 0.3 + 0.7 * (place + 1) / len(positions)
            from_zero(dial, (np.cos(angle), np.sin(angle)), "attention", 2, alpha=share)
            if groups and abs(angle - groups[-1][0] * frequency) < 0.3:
                groups[-1].append(position)
            else:
                groups.append([position])
        for group in groups:
            angle = np.mean(group) * frequency
            text = ", ".join(map(str, group)) if len(group) < 3 else f"{group[0]} to\n{group[-1]}"
            ha = "left" if np.cos(angle) > 0.3 else "right" if np.cos(angle) < -0.3 else "center"
            dial.text(1.1 * np.cos(angle), 1.24 * np.sin(angle), text, size=SMALL, ha=ha, va="center")
        note(ax, 1 + step * (i + 0.5), 24, f"pair {pair}", NORMAL, bold=True)
        note(ax, 1 + step * (i + 0.5), 4.6, f"{frequency:.2g} radian{'s' if frequency != 1 else ''}", colour=FAINT)
    note(ax, 32, 2, "per position", colour=FAINT)
    show(
        ax,
        f"Four of the 32 pairs in a head of Pebble, at positions {positions[0]}, {positions[1]}, {positions[2]} and "
        f"{positions[3]}. Pair 0 tells neighbours apart, slower ones tell near from far. The last one hardly moves.",
        "Four dials with a hand for each position. On the first all four point elsewhere, on the last they coincide.",
    )


def layouts(size: int, base: float) -> None:
    """Draw which two of a head's numbers are one arrow, in both layouts, and how fast each arrow turns."""
    ax = canvas(32)
    half, left, step = size // 2, 8.5, 6.0
    speeds = base ** (-2 * np.arange(half) / size)
    rows = (
        ("halves: i and i + d/2 (Pebble, Llama)", 17, [(i, i + half) for i in range(half)]),
        ("neighbours: 2i and 2i + 1 (the first paper)", 1.5, [(2 * i, 2 * i + 1) for i in range(half)]),
    )
    for title, y, pairs in rows:
        note(ax, 1, y + 11, title, NORMAL, ha="left", bold=True)
        for i, pair in enumerate(pairs):
            for number in pair:
                cell(ax, left + step * number, y, step - 0.4, 3.4, f"{number}", "attention", 1 - 0.3 * i)
            one, other = (left + step * (number + 0.5) - 0.2 for number in pair)
            x = np.linspace(one, other, 40)
            high = 2.6 if pair[1] - pair[0] > 1 else 1.8
            ax.plot(x, y + 3.6 + high * (1 - (2 * (x - one) / (other - one) - 1) ** 2), color=THINGS["attention"][0])
        for pair, speed in zip(pairs, speeds, strict=True):
            note(ax, left + step * (sum(pair) / 2 + 0.5) - 0.2, y + 7.6, f"{speed:g}", SMALL, colour=FAINT)
        note(ax, left - 0.6, y + 7.6, "turns by", SMALL, colour=FAINT, ha="right")
    show(
        ax,
        f"A head of {size} numbers is {half} arrows. A file stores them in one of two orders; the number above a pair "
        "says by how many radians it turns for each position.",
        f"Two rows of {size} cells. In the first, arcs join each number of the first half with one of the second; in "
        "the other, neighbours.",
    )


def layer(tokens: int, hidden: int, heads: int, key_heads: int, size: int) -> None:
    """Draw one attention layer with its shapes."""
    ax = canvas(58)
    rows = box(ax, 20, 53.4, 24, 4, f"x ({tokens}, {hidden})", "stream")
    for x, name, count, turns in ((11, "q", heads, True), (32, "k", key_heads, True), (53, "v", key_heads, False)):
        spot = box(ax, x - 9, 45.4, 18, 4.4, f"$W_{name}$ ({count * size}, {hidden})", "attention", size=SMALL)
        arrow(ax, (x * 0.4 + 19.2, 53.2), spot.top, thing="stream")
        cut = box(ax, x - 9, 38, 18, 4.4, f"split ({count}, {tokens}, {size})", "attention", size=SMALL)
        arrow(ax, spot.bottom, cut.top, thing="attention")
        if turns:
            turn = box(ax, x - 9, 30.6, 18, 4.4, "turn by position", "attention", size=SMALL)
            arrow(ax, cut.bottom, turn.top, thing="attention")
    box(ax, 2, 20, 39, 6.6, "scores ÷ √d, mask, softmax", "attention", f"({heads}, {tokens}, {tokens})")
    arrow(ax, (11, 30.4), (11, 26.9), "q", thing="attention", side="right")
    arrow(ax, (32, 30.4), (32, 26.9), "k, repeated", thing="attention", side="right")
    mixed = box(ax, 20, 11.6, 42, 4.6, f"weights times values ({heads}, {tokens}, {size})", "attention", size=SMALL)
    arrow(ax, (30.5, 19.8), (30.5, 16.5), "weights", thing="attention", side="right")
    arrow(ax, (53, 37.8), (53, 16.5), "v, repeated", thing="attention", side="left")
    joined = box(ax, 20, 4.6, 42, 4.2, f"side by side, times $W_o$ ({hidden}, {heads * size})", "attention", size=SMALL)
    arrow(ax, mixed.bottom, joined.top, thing="attention")
    arrow(ax, (41, 4.4), (41, 1), thing="stream", width=2.4)
    note(ax, 43, 1.8, f"({tokens}, {hidden})", ha="left", colour="stream", bold=True)
    note(ax, 1.4, rows.left[1], f"d = {size}", ha="left", colour=FAINT)
    show(
        ax,
        "The class you build, with Pebble's shapes. Rows come in at the top and leave at the bottom with the same "
        "shape, so the result can be added to x.",
        "From top to bottom: x, three matrices, split into heads, queries and keys turned, scores with mask and "
        "softmax, the mixture of values, the output matrix.",
    )


def last_looks(tokens: Sequence[str], weights: np.ndarray, where: str) -> None:
    """Draw how each head of one layer shares out the last token's look."""
    ax = canvas(10 + 4.2 * len(weights))
    top = 4.6 + 4.2 * len(weights)
    for j, token in enumerate(tokens):
        note(ax, 14 + 8 * (j + 0.5), top + 2.2, seen(token), code=True)
    for h, row in enumerate(weights):
        y = top - 4.2 * (h + 1) + 0.6
        note(ax, 12.6, y + 1.6, f"head {h}", ha="right", bold=True)
        for j, weight in enumerate(row):
            cell(ax, 14 + 8 * j, y, 8, 3.2, f"{weight:.2f}", "attention", weight)
    note(ax, 38, 2, f"who is looked at by {seen(tokens[-1])}, {where}", colour=FAINT)
    show(
        ax,
        f"{where.capitalize()}, two heads of Pebble look from {seen(tokens[-1])} at ␣baby and "
        "two at ␣cat. Each row of weights sums to 1.",
        "A table with a row for each head and a column for each token; two heads have their weight on baby, two on "
        "cat.",
    )


def looks_and_needs(tokens: Sequence[str], weights: np.ndarray, stay: np.ndarray, asked: int) -> None:
    """Draw where each pair of heads looks, (layers, pairs, tokens), and how many answers stay right without it."""
    step = 7.8
    ax = canvas(9 + step * len(weights))
    top = 4.6 + step * len(weights)
    for j, token in enumerate(tokens):
        note(ax, 19 + 5 * (j + 0.5), top + 2.2, "‹›" if j == 0 else seen(token), code=True)
    note(ax, 56, top + 2.2, "right without", colour=FAINT)
    note(ax, 18.2, top + 2.2, "heads", ha="right", colour=FAINT)
    for layer, (rows, left) in enumerate(zip(weights, stay, strict=True)):
        y = top - step * (layer + 1) + 1.2
        note(ax, 1, y + 3.2, f"layer {layer}", ha="left", bold=True)
        for pair, (row, right) in enumerate(zip(rows, left, strict=True)):
            low = y + 3.2 * (1 - pair)
            note(ax, 18.2, low + 1.6, f"{2 * pair}, {2 * pair + 1}", ha="right")
            for j, weight in enumerate(row):
                cell(ax, 19 + 5 * j, low, 5, 3.2, "", "attention", float(weight))
            needed = right < asked
            cell(ax, 50, low, 12 * right / asked, 3.2, "", "alarm" if needed else "old", 0.5 if needed else 0.2)
            at = 50.6 + 12 * right / asked if needed else 56
            note(ax, at, low + 1.6, f"{right} of {asked}", bold=bool(needed), ha="left" if needed else "center")
    note(ax, 34, 2.6, f"who is looked at by {seen(tokens[-1])}", colour=FAINT)
    parts = [
        f"layer {layer}, heads {2 * pair} and {2 * pair + 1}: mostly {seen(tokens[int(rows[pair].argmax())])}, "
        f"{left[pair]}"
        for layer, (rows, left) in enumerate(zip(weights, stay, strict=True))
        for pair in range(2)
    ]
    show(
        ax,
        "Left: where each pair of heads looks, on average over the animals (␣…). Right: how many answers stay right "
        "without the pair. Three pairs look at the animal, and one of them is missed (red).",
        f"A table of eight rows, with how many of {asked} stay right: " + "; ".join(parts) + ".",
    )
