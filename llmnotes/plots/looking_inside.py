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
    shade,
    show,
    signed,
    vector,
)
from llmnotes.plots.one_token import seen, stream

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
        "Where ␣a looks, head by head (weights below 0.05 are left out). In block 1, two heads look at nothing "
        "but “baby”, and the other two at nothing but “cat”.",
        "Sixteen strips of six attention weights, four for each block, below the six tokens.",
    )


def story(found: Sequence[str]) -> None:
    """Show the best guess of the lens after each of the nine additions."""
    ax = canvas(28)
    note(ax, 1, 26.6, "what ␣a would be followed by, if we stopped here", NORMAL, ha="left", bold=True)
    for i, (x, token) in enumerate(zip(stream(ax, 9), found, strict=True)):
        low = 3 * (i % 2)
        line(ax, [(x, 7.4), (x, 6 - low)], "old", 0.9)
        note(ax, x, 4.7 - low, seen(token), code=True, bold=True, colour="stream")
    show(
        ax,
        "The pretty story in one picture: the lens after each of the nine additions. It starts as ␣a, then it "
        "is a cat, and the last MLP makes a ␣k of it, the beginning of “kitten”.",
        "The residual stream from left to right, with the best guess of the lens below each addition.",
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
        f"whole block before the end, and {wrong} animals that are no cats get a wrong ␣cat.",
        "A list of animals, each with the best guess of the lens after block 2, coloured by right, cat, or something "
        "else.",
    )


def counts_by_block(
    counts: Sequence[Sequence[int]], total: int, columns: Sequence[str], things: Sequence[str], caption: str, alt: str
) -> None:
    """Show a table of 4 blocks by some columns, with a bar in each place; `counts` is (4, columns)."""
    ax = canvas(30)
    wide = 52 / len(columns)
    for j, (column, thing) in enumerate(zip(columns, things, strict=True)):
        x = 11 + wide * j
        note(ax, x + wide / 2 - 1, 27.8, column, NORMAL, bold=True, colour=thing)
        for b in range(4):
            y, count = 20.4 - 6 * b, int(counts[b][j])
            filled = (wide - 2) * count / total
            ax.add_patch(Rectangle((x, y), filled, 4, facecolor=shade(thing, 0.3)[0], linewidth=0))
            ax.add_patch(Rectangle((x, y), wide - 2, 4, facecolor="none", edgecolor=THINGS[thing][0], linewidth=1.3))
            note(ax, x + wide / 2 - 1, y + 2, f"{count} of {total}", NORMAL, bold=True)
            if j == 0:
                note(ax, 9.4, y + 2, f"block {b}", ha="right")
    show(ax, caption, alt)


def still_right(counts: Sequence[Sequence[int]], total: int) -> None:
    """Show how many answers survive without each part; `counts` is (4 blocks, attention and MLP)."""
    counts_by_block(
        counts,
        total,
        ["without its attention", "without its MLP"],
        ["attention", "mlp"],
        f"How many of {total} answers stay right when one part adds nothing. The last MLP is needed for "
        f"the cat, but {counts[3][1]} other answers survive without it. The first MLP is needed for all.",
        "A table of four blocks and two parts, with the number of answers that stay right in each place.",
    )


def two_knives(zero: Sequence[Sequence[int]], average: Sequence[Sequence[int]], total: int) -> None:
    """Show the answers that survive when a part adds zero, or its average; each is (4 blocks, attention and MLP)."""
    counts_by_block(
        [[zero[b][0], average[b][0], zero[b][1], average[b][1]] for b in range(4)],
        total,
        ["att.: zero", "average", "MLP: zero", "average"],
        ["attention", "attention", "mlp", "mlp"],
        f"Two knives: the part adds zero, or its average over {total} animals. Where the average saves many answers, "
        f"what the part adds is much the same for all of them.",
        "A table of four blocks with four bars each: attention and MLP, replaced by zero and by their average.",
    )


def largest_shares(names: Sequence[str], shares: np.ndarray, count: int = 6) -> None:
    """Show the parts that give most on average; `shares` is (prompts, parts), one dot for each prompt."""
    ax = canvas(31)
    means = shares.mean(axis=0)
    best = [int(j) for j in means.argsort()[::-1][:count]]
    plot = chart(
        ax,
        15,
        5,
        47,
        25,
        ylim=(count - 0.4, -0.6),
        xlim=(min(-0.5, shares[:, best].min() - 0.3), shares[:, best].max() + 0.5),
    )
    plot.hlines(range(count), *plot.get_xlim(), color=THINGS["old"][1], zorder=0)
    for y, j in enumerate(best):
        nudge = np.linspace(-0.26, 0.26, len(shares))
        plot.plot(shares[:, j], y + nudge, "o", color=THINGS[kind(names[j])][0], markersize=4, alpha=0.8)
    plot.axvline(0, color=FAINT, linewidth=0.8)
    plot.set_yticks(range(count), [names[j] for j in best])
    note(ax, 38, 1.4, "given to the score of the right answer", colour=FAINT)
    show(
        ax,
        f"The {count} of {len(names)} parts that give most on average, one dot for each of {len(shares)} countries. "
        f"{names[best[0]]} is first, {names[best[1]]} is second; all others give less.",
        "Lines with one dot for each country; the last MLP lies furthest to the right.",
    )


def cut_edges(counts: Sequence[Sequence[int]], total: int) -> None:
    """Show how many answers survive each cut; `counts` is (4 blocks, “baby” and the animal)."""
    low = int(np.min([counts[1][0], counts[2][1]]))
    counts_by_block(
        counts,
        total,
        ["␣a can't see “baby”", "␣a can't see the animal"],
        ["attention"] * 2,
        f"How many of {total} answers stay right when ␣a is blind to one word in one block. Two places "
        f"matter: “baby” in block 1, and the animal in block 2, where {low or 'no'} answers are left.",
        "A table of four blocks and two words, with the number of answers that stay right in each place.",
    )


def sum_of_parts(parts: Mapping[str, np.ndarray]) -> None:
    """Show the last row as a sum of nine rows."""
    ax = canvas(42)
    pick, total = [0, 1, 2, 3, 255], np.sum(list(parts.values()), axis=0)
    for n, name in enumerate([*parts, "the sum"]):
        last = n == len(parts)
        y, thing = 37.8 - 3.8 * n - 1.2 * last, "stream" if last else kind(name)
        note(ax, 19.6, y + 1.6, name, ha="right", bold=last, colour=thing)
        note(ax, 21.6, y + 1.6, "=" if last else "+" if n else "", NORMAL, bold=True)
        row = total if last else parts[name]
        vector(ax, 23.4, y, [row[i] for i in pick], thing, 7.2, form="{:+.1f}", top=60, dots=True)
    line(ax, [(4, 6.2), (62.6, 6.2)], "old", 1.2)
    show(
        ax,
        "The row of ␣a at the end of the model is a sum of nine rows (five of the 256 numbers are shown). The "
        "embedding is so small that you hardly see it any more.",
        "Ten strips of numbers: the embedding, what attention and MLP of four blocks add, and the sum.",
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


def shares_of_all(shares: np.ndarray) -> None:
    """Show the shares of all animals, one dot each; `shares` is (animals, 9 parts)."""
    ax = canvas(36)
    plot = chart(ax, 15, 5, 47, 30, ylim=(8.6, -0.6), xlim=(min(-1.2, shares.min() - 0.3), shares.max() + 0.5))
    plot.hlines(range(9), *plot.get_xlim(), color=THINGS["old"][1], zorder=0)
    for j, name in enumerate(PARTS):
        nudge = np.linspace(-0.26, 0.26, len(shares))
        plot.plot(shares[:, j], j + nudge, "o", color=THINGS[kind(name)][0], markersize=4, alpha=0.8)
    plot.axvline(0, color=FAINT, linewidth=0.8)
    plot.set_yticks(range(9), PARTS)
    note(ax, 38, 1.4, "given to the score of the right answer", colour=FAINT)
    show(
        ax,
        f"The same sum for {len(shares)} animals, one dot for each. The last MLP always gives most. Then come "
        f"the third MLP and the third attention; all others give little.",
        "Nine lines with one dot for each animal; the dots of MLP 3 lie far to the right of all others.",
    )


def repaired(shares: np.ndarray, counts: Sequence[Sequence[int]], total: int) -> None:
    """Show what is left of the story. `shares`: nine mean shares; `counts` is (4 blocks, attention and MLP)."""
    ax = canvas(33)
    note(ax, 1, 31.6, f"answers of {total} that stay right without the part", NORMAL, "alarm", ha="left", bold=True)
    for i, (x, share) in enumerate(zip(stream(ax, 9), shares, strict=True)):
        thing = kind(PARTS[i])
        if i:
            note(ax, x - 2.1, 26.6, str(int(counts[(i - 1) // 2][(i - 1) % 2])), NORMAL, bold=True, colour="alarm")
        note(ax, x, 5.4, signed(share, "{:+.1f}"), NORMAL, bold=True, colour=thing)
    note(ax, 1, 1.8, "given to the score of the right answer, on average", NORMAL, ha="left", bold=True)
    show(
        ax,
        f"What is left of the story, measured on {total} animals. Below: how much each part gives to the right "
        f"answer's score. Above: how many answers survive without the part. The two don't say the same, and "
        f"both are needed.",
        "The residual stream with two rows of numbers: above each part how many answers survive without it, below "
        "each addition what it gives to the score.",
    )
