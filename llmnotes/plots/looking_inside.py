"""The pictures of the lesson "Looking inside". Each takes the reader's own numbers and shows itself."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

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
    line,
    note,
    show,
    signed,
)
from llmnotes.plots.one_token import seen

Guess = tuple[str, float]  # a token and its probability

PARTS = ["embedding", *(f"{part} {block}" for block in range(4) for part in ("attention", "MLP"))]


def kind(name: str) -> str:
    """Return the thing, and so the colour, of a part by its name."""
    return {"embedding": "table", "attention": "attention", "MLP": "mlp"}[name.split()[0]]


def guesses(ax: Axes, x: float, y: float, found: Sequence[Guess], width: float = 15.6) -> None:
    """Draw the best guesses beside each other; the surer, the darker."""
    for i, (token, share) in enumerate(found):
        cell(ax, x + (width + 0.4) * i, y, width, 4.2, f"{seen(token)} {share:.0%}", "stream", share, code=True)


def lens(stages: Sequence[tuple[str, Sequence[Guess]]], title: str, token: str = "␣a") -> None:
    """Show the logit lens; `stages` is a list of five (label, three best guesses), `token` the last one read."""
    ax = canvas(36)
    note(ax, 7.4, 34, "read after", bold=True)
    note(ax, 39, 34, title, bold=True)
    for n, (label, found) in enumerate(stages):
        y = 27 - 6.4 * n
        box(ax, 1, y, 12.8, 4.2, label, "table" if label == "embedding" else "stream", size=SMALL)
        if n:
            arrow(ax, (7.4, y + 6.4), (7.4, y + 4.4), thing="stream")
        guesses(ax, 15.6, y, found)
    show(
        ax,
        f"The logit lens: stop after a block, and read the row of {token} as if the model ended there. Three best "
        "guesses, with their probabilities.",
        f"A table with five rows, from {stages[0][0]} to {stages[-1][0]}, and the three best guesses in each.",
    )


def looks(tokens: Sequence[str], weights: Sequence[np.ndarray]) -> None:
    """Show where the last token looks; `weights` is (4 blocks, 4 heads, 6 tokens)."""
    ax = canvas(49)
    for i, token in enumerate(tokens):
        box(ax, 17 + 7.6 * i, 44.6, 7.2, 3.4, seen(token), size=SMALL)
    for b, heads in enumerate(weights):
        top = 41 - 10.8 * b
        note(ax, 8, top - 3.6, f"block {b}", NORMAL, ha="right", bold=True, colour="attention")
        for h, row in enumerate(heads):
            note(ax, 16.2, top - 2.4 * h, f"head {h}", ha="right", colour=FAINT)
            for i, value in enumerate(row):
                text = f"{value:.2f}" if value >= 0.05 else ""
                cell(ax, 17 + 7.6 * i, top - 1.2 - 2.4 * h, 7.6, 2.4, text, "attention", value)
    show(
        ax,
        "Where ␣a looks, head by head (weights below 0.05 are left out). In block 1, two heads look at “baby”, and the "
        "other two at “cat”. The heads of block 2 look at both words, too.",
        "Sixteen strips of six attention weights, four for each block, below the six tokens.",
    )


def lens_of_all(rows: Sequence[tuple[str, str, str]]) -> None:
    """Show the lens after block 2 for every animal; `rows` is a list of (animal, guess after block 2, right answer)."""
    ax = canvas(36)
    count = {"right": 0, " cat": 0, "else": 0}
    for n, (animal, guess, answer) in enumerate(rows):
        x, y = 1 + 15.7 * (n // 8), 30 - 3.7 * (n % 8)
        verdict = "right" if guess == answer else guess if guess == " cat" else "else"
        count[verdict] += 1
        thing = {"right": "mlp", " cat": "alarm", "else": "old"}[verdict]
        note(ax, x + 8, y + 1.5, animal, ha="right")
        ax.add_patch(Rectangle((x + 8.6, y), 6.6, 3, facecolor=THINGS[thing][1], edgecolor=THINGS[thing][0]))
        note(ax, x + 11.9, y + 1.5, seen(guess)[:8], code=True, size=SMALL if len(guess) < 7 else 9, room=7)
    for x, verdict, thing, text in (
        (11, "right", "mlp", "already right"),
        (32, " cat", "alarm", "a wrong ␣cat"),
        (52, "else", "old", "something else"),
    ):
        note(ax, x, 1.6, f"{count[verdict]} × {text}", NORMAL, bold=True, colour=thing)
    wrong = sum(guess == " cat" and answer != " cat" and animal != "cat" for animal, guess, answer in rows)
    show(
        ax,
        f"The lens after block 2, for {len(rows)} animals. {count['right']} rows have the right answer already, a "
        f"whole block before the end, and {wrong} animals that are no cats get a wrong ␣cat, as the cat does.",
        "A list of animals, each with the best guess of the lens after block 2, coloured by right, cat, or something "
        "else.",
    )


def waterfall(shares: Mapping[str, float], token: str, rival_shares: Mapping[str, float], rival: str) -> None:
    """Show where the score of `token` comes from; `shares` maps the nine parts to what they give."""
    ax = canvas(43)
    total, other = sum(shares.values()), sum(rival_shares.values())
    unit, x0, at = 33 / max(total, max(np.cumsum(list(shares.values())))), 17, 0.0
    note(ax, x0 + 17, 41, f"{seen(token)}, step by step", NORMAL, bold=True)
    note(ax, 58.6, 41, f"and {seen(rival)}", NORMAL, bold=True, colour=FAINT)
    for n, (name, share) in enumerate(shares.items()):
        y, thing = 35.6 - 3.5 * n, kind(name)
        note(ax, 14.6, y + 1.4, name, ha="right", colour=thing)
        left = x0 + unit * min(at, at + share)
        ax.add_patch(Rectangle((left, y), max(abs(share) * unit, 0.2), 2.8, facecolor=THINGS[thing][0]))
        note(ax, x0 + unit * max(at, at + share) + 0.6, y + 1.4, signed(share, "{:+.1f}"), ha="left")
        at += share
        line(ax, [(x0 + unit * at, y), (x0 + unit * at, y - 0.7)], "old", 1)
        note(ax, 60.6, y + 1.4, signed(rival_shares[name], "{:+.1f}"), ha="right", colour=FAINT)
    ax.add_patch(Rectangle((x0, 3.2), unit * total, 2.8, facecolor=THINGS["stream"][0]))
    note(ax, 14.6, 4.6, "the score", ha="right", bold=True)
    note(ax, x0 + unit * total + 0.6, 4.6, f"{total:.1f}", ha="left", bold=True)
    note(ax, 60.6, 4.6, f"{other:.1f}", ha="right", bold=True, colour=FAINT)
    largest = sorted(shares, key=lambda name: shares[name])[::-1][:2]
    show(
        ax,
        f"The score of {seen(token)} as a sum of nine numbers. {largest[0]} gives most of it, {largest[1]} "
        f"comes second. At the right, the same for {seen(rival)}.",
        "Nine bars, each beginning where the one above ends, add up to the score at the bottom.",
    )


def parts_out(zero: np.ndarray, intact: float, average: np.ndarray) -> None:
    """Show right answers and mean leads without each part; `zero` and `average` are leads, (8 parts, prompts)."""
    ax = canvas(38)
    total, names = zero.shape[1], PARTS[1:]
    sides = ((15, 21, lambda leads: (leads > 0).sum(axis=1)), (40, 22, lambda leads: leads.mean(axis=1)))
    for n, (x, wide, value) in enumerate(sides):
        first, second = value(zero), value(average)
        whole = intact if n else total
        least = min(0, *first) - 1 - n
        plot = chart(ax, x, 5, wide, 28, ylim=(7.6, -0.6), xlim=(least, whole * 1.08 + n))
        plot.hlines(range(8), *plot.get_xlim(), color=THINGS["old"][1], zorder=0)
        plot.axvline(whole, color=FAINT, linewidth=1, linestyle="--", zorder=1)
        for y, name in enumerate(names):
            colour = THINGS[kind(name)][0]
            plot.plot(
                first[y], y, "o", markersize=8, markerfacecolor="white", markeredgecolor=colour, markeredgewidth=2
            )
            plot.plot([first[y], second[y]], [y, y], color=colour, linewidth=2, zorder=1)
            plot.plot(second[y], y, "o", markersize=6, color=colour)
        plot.set_yticks(range(8), [] if n else names)
        plot.set_xticks([-10, -5, 0, 5] if n else [0, 8, 16, 24, 32])
        note(ax, x + wide / 2, 1.4, "mean lead" if n else "right answers", colour=FAINT)
    note(ax, 32, 36, "hollow: it adds zero   full: it adds its average", NORMAL, bold=True)
    show(
        ax,
        f"One of eight parts is changed, on {total} animals. Left: answers that stay right. Right: the mean lead. "
        "Dashed: nothing is changed. A long line is a part whose average alone repairs much.",
        "Two charts with a line for each part of the four blocks: right answers on the left, mean lead on the right.",
    )


def repaired(leads: np.ndarray, edges: Sequence[Sequence[int]], first: Sequence[int]) -> None:
    """Show what is left: bars of mean lead, and which look is needed. `first`: right with MLP 0's average in a row."""
    ax = canvas(46.6)
    means, total = leads.mean(axis=0), len(leads)
    note(ax, 1, 38.4, "the animal's row", NORMAL, ha="left", bold=True, colour="stream")
    note(ax, 1, 27.2, "the row of ␣a", NORMAL, ha="left", bold=True, colour="stream")
    line(ax, [(4, 34.6), (60, 34.6)], "stream", 4)
    line(ax, [(4, 24.2), (60, 24.2)], "stream", 4)
    xs = [7 + 6.6 * j for j in range(9)]
    if first[3] < total:
        mlp = box(ax, xs[2] - 0.4, 40.6, 6.8, 4.2, "MLP 0", "mlp", size=SMALL)
        arrow(ax, mlp.bottom, (mlp.bottom[0], 35.4), thing="mlp", width=3)
    for b in range(4):
        x = xs[1 + 2 * b]
        if edges[b][0] < total:
            box(ax, x - 3.4, 29, 6.8, 3.8, "baby", size=SMALL)
            arrow(ax, (x, 29), (x, 25), thing="attention", width=4)
        if edges[b][1] < total:
            arrow(ax, (x, 34), (x, 25), thing="attention", width=4)
            note(ax, x + 1.2, 30.2, f"attention {b}", ha="left", colour="attention")
    scale = 10 / means.max()
    ax.plot((4, 62), (8.2, 8.2), color=FAINT, linewidth=1)
    for j, (x, mean) in enumerate(zip(xs, means, strict=True)):
        low = min(0.0, mean) * scale
        ax.add_patch(Rectangle((x - 2, 8.2 + low), 4, max(abs(mean) * scale, 0.2), facecolor=THINGS[kind(PARTS[j])][0]))
        note(ax, x, 8.2 + max(0, mean) * scale + 1.6, signed(mean, "{:+.1f}"), bold=True)
        note(ax, x, 6.2 - 2 * (j % 2), PARTS[j], colour=kind(PARTS[j]))  # in two rows, or the names collide
    note(ax, 32, 1.6, "given to the lead of the right answer, on average", colour=FAINT)
    show(
        ax,
        f"What is left of the story, on {total} animals. Arrows: what must cross into the row of ␣a, and where. Bars: "
        "what each part gives to the lead. MLP 0 gives almost nothing there; it works on the animal's row.",
        "Two streams with thick arrows where baby and the animal cross into the lower one, and below them nine bars; "
        "the highest is MLP 3.",
    )


def places(ahead: np.ndarray, block: int, names: Sequence[str], said: Sequence[str]) -> None:
    """Show how many tokens the lens puts before each answer, (answers, blocks); `block` gets a mark.

    `names` are the answers, and `said` is what the model says; those that it gets wrong are named in the picture.
    """
    ax = canvas(34)
    last = ahead.shape[1] - 1
    plot = chart(ax, 9.4, 6, 52, 24, xlim=(-0.5, last + 0.7), ylim=(0.7, 9e4), yscale="log")
    plot.axvline(block, color=THINGS["attention"][0], linewidth=1.6, linestyle="--")
    for row in ahead:
        right = row[-1] == 0
        plot.plot(row + 1, color=THINGS["stream" if right else "old"][0], linewidth=1.3, alpha=0.75)
        plot.plot(last, row[-1] + 1, "o", color=THINGS["stream" if right else "old"][0], markersize=5)
    plot.set_yticks([1, 10, 100, 1000, 10_000], ["1st", "10th", "100th", "1,000th", "10,000th"])
    plot.set_yticks([], minor=True)
    plot.set_xticks([0, 5, 10, 15, 20, block, last])
    note(ax, 9.4, 32, "place of the right answer", bold=True, ha="left", colour="stream")
    note(ax, 34.5, 1.8, "read after block …", colour=FAINT)
    lost = {name: (row[-1] + 1, token) for name, row, token in zip(names, ahead, said, strict=True) if row[-1]}
    for n, (name, (place, token)) in enumerate(lost.items()):
        text = f"{name} ends at place {place}: it says {token.replace(' ', '␣')}"
        note(plot, 0.6, 90 / 3**n, text, ha="left", colour="old")
    right = int((ahead[:, -1] == 0).sum())
    show(
        ax,
        f"The logit lens on SmolLM2, a line for each of {len(ahead)} capitals. At block {block} all lines drop towards "
        f"the first place. {right} reach it, all in the last block (blue); the other {len(lost)} are named (grey).",
        f"Lines that stay high from block to block, drop at block {block}, and end at or near the first place.",
    )
