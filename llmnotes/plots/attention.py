"""The pictures of lesson 04: three words that look at each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from llmnotes.plots.drawing import (
    FAINT,
    NORMAL,
    SMALL,
    THINGS,
    Spot,
    arrow,
    bars,
    box,
    canvas,
    cell,
    chart,
    line,
    matrix,
    note,
    show,
    signed,
    vector,
)


def seen(token: str) -> str:
    """Return a token so that its leading space can be seen."""
    return {"<|bos|>": "‹start›"}.get(token, token.replace(" ", "␣"))


def _grid(
    ax: Axes,
    x: float,
    top: float,
    table: Any,
    thing: str,
    w: float = 5,
    h: float = 3.2,
    form: str = "{:+.0f}",
    most: float | None = None,
) -> Spot:
    """Draw a table of numbers as cells, its upper left corner at (x, top); `most` is the size that is darkest."""
    table = np.asarray(table, dtype=float)
    most = most or float(np.abs(table[np.isfinite(table)]).max())
    for i, row in enumerate(table):
        for j, value in enumerate(row):
            at = (x + w * j, top - h * (i + 1), w, h)
            if np.isfinite(value):
                cell(ax, *at, signed(value, form), thing, abs(value) / most)
            else:
                cell(ax, *at, "−∞", "alarm", 0.12)
    rows, cols = table.shape
    return Spot(x, top - h * rows, w * cols, h * rows)


def _words(ax: Axes, x: float, spot: Spot, words: Sequence[str], ha: str = "right", rows: int | None = None) -> None:
    """Write a word beside every row of a grid."""
    step = spot.h / (rows or len(words))
    for i, word in enumerate(words):
        note(ax, x, spot.y + spot.h - step * (i + 0.5), word, ha=ha, code=True)


def plane(ax: Axes, place: tuple, xlim: tuple, ylim: tuple, xlabel: str, ylabel: str) -> Axes:
    """Return a plane with axes through zero, where a unit is equally long across and up."""
    axes = chart(ax, *place, xlim=xlim, ylim=ylim, aspect="equal", xticks=[], yticks=[])
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.axhline(0, color=FAINT, linewidth=0.8)
    axes.axvline(0, color=FAINT, linewidth=0.8)
    axes.text(xlim[1], 0.13, f"{xlabel} →", size=SMALL, color=FAINT, ha="right", va="bottom")
    axes.text(-0.15, ylim[1], f"{ylabel} →", size=SMALL, color=FAINT, ha="right", va="top", rotation=90)
    return axes


def from_zero(
    axes: Axes, end: Any, thing: str, width: float = 2.4, style: str = "-", alpha: float = 1, start: Any = (0, 0)
) -> None:
    """Draw a vector as an arrow from zero, or from another start."""
    axes.annotate(
        "",
        xy=(float(end[0]), float(end[1])),
        xytext=(float(start[0]), float(start[1])),
        arrowprops={
            "arrowstyle": "-|>,head_length=0.6,head_width=0.3",
            "color": THINGS[thing][0],
            "lw": width,
            "ls": style,
            "alpha": alpha,
            "shrinkA": 0,
            "shrinkB": 0,
        },
    )


def two_sentences(first: Sequence[str], second: Sequence[str], row: np.ndarray) -> None:
    """Draw two sentences whose last token has the same row."""
    ax = canvas(27)
    ends = []
    for tokens, y in ((first, 21.4), (second, 2)):
        x = 1.0
        for i, token in enumerate(tokens):
            differs = first[i] != second[i]
            spot = box(ax, x, y, len(seen(token)) + 3.4, 3.8, seen(token), "alarm" if differs else "token")
            x = spot.x + spot.w + 0.5
        ends.append(spot)
    cells = vector(ax, 32.6, 11.9, [*row[:3], row[-1]], "stream", 6.6, dots=True)
    note(ax, 31.4, cells.left[1], f"the row of {seen(first[-1])}, {len(row)} numbers", ha="right", bold=True)
    arrow(ax, ends[0].bottom, (ends[0].bottom[0], 15.4), thing="table")
    arrow(ax, ends[1].top, (ends[1].top[0], 11.6), thing="table")
    show(
        ax,
        "Two sentences that must go on differently. Their last token is the same, so it fetches the same row.",
        "Two rows of tokens that differ in cat and dog. From the last token of both, an arrow leads to one row of "
        "numbers.",
    )


def softmax_steps(words: Sequence[str], scores: np.ndarray) -> None:
    """Draw scores, their exponentials, and the shares."""
    ax = canvas(20)
    powers = np.exp(scores)
    shares = powers / powers.sum()
    bars(ax, 19, 15, words, scores, "old", length=5.6, form="{:.0f}")
    bars(ax, 33.4, 15, [""] * len(words), powers, "attention", length=7, form="{:.2f}")
    bars(ax, 52, 15, [""] * len(words), shares, "attention", length=5, form="{:.1%}")
    note(ax, 18, 17.6, "scores", NORMAL, bold=True)
    note(ax, 37, 17.6, "exp(score)", NORMAL, bold=True)
    note(ax, 56, 17.6, "shares", NORMAL, bold=True)
    arrow(ax, (26.6, 3.6), (32.4, 3.6), "exp", thing="attention")
    arrow(ax, (44, 3.6), (52, 3.6), "÷ sum", thing="attention")
    note(ax, 18, 3.4, f"sum {signed(scores.sum(), '{:.0f}')}", colour=FAINT)
    note(ax, 38, 3.4, f"sum {powers.sum():.2f}", colour=FAINT)
    note(ax, 57, 3.4, f"sum {shares.sum():.0%}", colour=FAINT)
    show(
        ax,
        f"Softmax on the scores of “{words[-1]}”. exp makes every score positive and keeps their order. The division "
        "turns them into shares.",
        "Three columns of bars: the scores, two of them negative; their exponentials, all positive; the shares.",
    )


def three_matrices(
    words: Sequence[str], x: np.ndarray, matrices: Sequence[np.ndarray], meanings: Sequence[Sequence[str]]
) -> None:
    """Draw how three matrices make a query, a key and a value of every word."""
    ax = canvas(50)
    rows = _grid(ax, 8, 29.6, x, "stream", w=4)
    _words(ax, 7.4, rows, words)
    note(ax, rows.centre[0], 31.4, f"x {x.shape}", NORMAL, "stream", bold=True)
    heads = (("q", "what do I look for?"), ("k", "what am I found by?"), ("v", "what do I hand out?"))
    for i, ((name, question), weights, means) in enumerate(zip(heads, matrices, meanings, strict=True)):
        top = 44.6 - 16.4 * i
        note(ax, 43.4, top + 4, question, NORMAL, "attention", bold=True)
        spot = _grid(ax, 26.6, top - 1.6, weights, "old", w=4)
        note(ax, spot.centre[0], top + 0.2, f"$W_{name}$ {weights.shape}", NORMAL, bold=True)
        result = _grid(ax, 50, top, x @ weights.T, "attention", w=4)
        note(ax, result.centre[0], top + 1.7, f"{name} {(x @ weights.T).shape}", NORMAL, bold=True)
        _words(ax, 58.6, result, words, ha="left")
        for j, mean in enumerate(means):
            note(ax, 39.2, top - 1.6 - 3.2 * (j + 0.5), mean, ha="left", colour=FAINT, room=10)
        arrow(ax, (20.4, rows.centre[1]), (26.2, spot.left[1]), thing="stream")
    show(
        ax,
        "Three matrices, three views of the same rows. Each row of a matrix takes the dot product with each word: "
        "it becomes one column of the result.",
        "The rows of the three words at the left; arrows to three small matrices, and at the right the queries, keys "
        "and values that come out, with their shapes.",
    )


def arrows(words: Sequence[str], q: np.ndarray, k: np.ndarray, v: np.ndarray, weights: np.ndarray) -> None:
    """Draw one query among the keys, and what it receives among the values."""
    ax = canvas(34)
    received = weights @ v
    left = plane(ax, (1, 1, 30, 29), (-1.7, 2.9), (-1.6, 2.85), "animal", "age")
    for word, key in zip(words, k, strict=True):
        from_zero(left, key, "token", 1.8)
        below = -0.32 if key[1] <= 0 else 0.12
        left.text(
            key[0] + 0.1,
            key[1] + below,
            f"key of {word}",
            size=SMALL,
            va="center",
            ha="center" if key[0] < 0 else ("right" if key[0] else "left"),
        )
    from_zero(left, q, "attention", 3.2)
    left.text(
        q[0] - 0.1,
        q[1] + 0.22,
        f"query of {words[-1]}",
        size=SMALL,
        color=THINGS["attention"][0],
        weight="bold",
        ha="center",
        va="center",
    )
    right = plane(ax, (33, 1, 30, 29), (-3.2, 5.6), (-3, 5.6), "furry", "small")
    start = np.zeros(2)
    for word, value in zip(words, v, strict=True):
        from_zero(right, value, "old", 1.8, "--")
        across = 0.25 if value[0] == 0 else value[0] * 0.9
        right.text(
            across,
            value[1] + (0.1 if value[1] > 0 else -0.65),
            f"value of {word}",
            size=SMALL,
            color=FAINT,
            va="center",
            ha="left" if value[0] == 0 else "center",
        )
    told = []
    for i in np.argsort(weights)[::-1]:  # head to tail, the longest first
        if weights[i] >= 0.01:
            from_zero(right, start + weights[i] * v[i], "attention", 3.2, start=start)
            start = start + weights[i] * v[i]
            told.append((f"{'+ ' if told else ''}{weights[i]:.2f} × {words[i]}", "attention"))
    from_zero(right, received, "stream", 3.2)
    for i, (text, thing) in enumerate([*told, (f"= {words[-1]} receives", "stream")]):
        right.text(1.2, 3 - 0.8 * i, text, size=SMALL, color=THINGS[thing][0], weight="bold", ha="left", va="center")
    note(ax, 16, 32.4, "who matches the query?", NORMAL, bold=True)
    note(ax, 48, 32.4, "what is handed out?", NORMAL, bold=True)
    show(
        ax,
        "Left: the query of “a” points mostly the way that the key of “cat” points. Right: each value (dashed) is "
        "multiplied by its weight, and the orange pieces are put one behind the other. Blue is what “a” receives.",
        "Two planes with arrows. In the left one a query lies between two keys, nearer to that of cat. In the right "
        "one a long piece of the value of cat and a short piece of that of baby lead to the result.",
    )


def one_look(words: Sequence[str], q: np.ndarray, k: np.ndarray, v: np.ndarray) -> None:
    """Draw the whole computation for one query, number by number."""
    ax = canvas(31)
    scores = k @ q
    divided = scores / np.sqrt(len(q))
    weights = np.exp(divided) / np.exp(divided).sum()
    columns = ((14.3, "key"), (25, "· q"), (34.4, f"÷ √{len(q)}"), (44, "softmax"), (57.2, "× value"))
    for at, name in columns:
        note(ax, at, 23.4, name, NORMAL, bold=True)
    note(ax, 27, 28.2, f"query of {words[-1]}", ha="right", bold=True, colour="attention")
    vector(ax, 28, 26.6, q, "attention", 4.6, form="{:+.0f}")
    for i, word in enumerate(words):
        y = 17.8 - 4.4 * i
        note(ax, 8.2, y + 1.6, word, ha="right", code=True)
        vector(ax, 9.7, y, k[i], "old", 4.6, form="{:+.0f}")
        cell(ax, 21.6, y, 6.8, 3.2, signed(scores[i], "{:+.0f}"), "old")
        cell(ax, 31, y, 6.8, 3.2, signed(divided[i]), "old")
        cell(ax, 40.6, y, 6.8, 3.2, f"{weights[i]:.2f}", "attention", weights[i])
        note(ax, 49.6, y + 1.6, "×", NORMAL)
        vector(ax, 52, y, v[i], "old", 5.2, form="{:+.0f}")
        for start, end in ((19.1, 21.4), (28.6, 30.8), (38, 40.4)):
            arrow(ax, (start, y + 1.6), (end, y + 1.6))
    arrow(ax, (57.2, 8.6), (57.2, 5.6), "add up", side="left")
    vector(ax, 52, 2, weights @ v, "stream", 5.2, form="{:+.1f}")
    note(ax, 51, 3.6, f"{words[-1]} receives", ha="right", bold=True, colour="stream")
    show(
        ax,
        "Attention for one word, from left to right: keys times query, divided by the root of d, softmax, and the sum "
        "of the weighted values.",
        "For each of three words its key, the dot product with the query, the divided score, the weight and the value; "
        "below, the weighted sum.",
    )


def too_sharp(sizes: Sequence[int], raw: Sequence[float], divided: Sequence[float]) -> None:
    """Draw the average largest weight of three against d, with and without the division."""
    ax = canvas(26)
    plot = chart(ax, 8, 5.4, 54, 18, xscale="log", ylim=(0.3, 1.04), xlim=(sizes[0] / 1.3, sizes[-1] * 1.3))
    plot.plot(sizes, raw, "o-", color=THINGS["alarm"][0], linewidth=2.4)
    plot.plot(sizes, divided, "s-", color=THINGS["attention"][0], linewidth=2.4)
    plot.axhline(1 / 3, color=FAINT, linewidth=1, linestyle="--")
    plot.set_xticks(sizes, [f"{size:,}" for size in sizes])
    plot.minorticks_off()
    plot.set_yticks([1 / 3, 0.5, 0.75, 1], ["33%", "50%", "75%", "100%"])
    middle = len(sizes) // 2
    plot.text(
        sizes[middle],
        raw[middle] - 0.11,
        "scores as they are",
        size=SMALL,
        color=THINGS["alarm"][0],
        weight="bold",
        ha="left",
    )
    plot.text(
        sizes[middle],
        divided[middle] + 0.06,
        "divided by √d",
        size=SMALL,
        color=THINGS["attention"][0],
        weight="bold",
        ha="left",
    )
    plot.text(sizes[-1], 0.35, "all three equal", size=SMALL, color=FAINT, ha="right")
    note(ax, 35, 1.6, "d, the numbers in a query and in a key", colour=FAINT)
    note(ax, 8, 24.8, "largest of three weights, on average", ha="left", bold=True)
    show(
        ax,
        "One random query looks at three random keys. Without the division, vectors with many numbers "
        "give nearly everything to one key. With it, d makes hardly any difference.",
        "Two curves against d. The upper climbs to nearly 100%, the lower stays almost level.",
    )


def mask(words: Sequence[str], scores: np.ndarray, weights: np.ndarray) -> None:
    """Draw the scores of all words, the same with the future at minus infinity, and the weights."""
    ax = canvas(21)
    sees = np.tri(len(words), dtype=bool)
    tables = (
        (scores, "token", "{:+.1f}", "scores"),
        (np.where(sees, scores, -np.inf), "token", "{:+.1f}", "no looking ahead"),
        (weights, "attention", "{:.2f}", "weights"),
    )
    for i, (table, thing, form, name) in enumerate(tables):
        x = 7 + 19.6 * i
        spot = _grid(ax, x, 13.8, table, thing, w=5, h=3.4, form=form, most=1 if thing == "attention" else 1e9)
        note(ax, spot.centre[0], 19, name, NORMAL, bold=True)
        for j, word in enumerate(words):
            note(ax, x + 5 * (j + 0.5), 15.4, word, code=True, colour=FAINT)
        if i:
            arrow(ax, (x - 4, spot.left[1]), (x - 0.6, spot.left[1]), thing="attention")
    _words(ax, 6.4, Spot(7, 3.6, 15, 10.2), words)
    note(ax, 53.7, 1.8, "each row: sum 1", colour=FAINT)
    note(ax, 34, 1.8, f"{tables[0][0].shape}", colour=FAINT)
    note(ax, 14.5, 1.8, "a row: one word asks", colour=FAINT)
    show(
        ax,
        "Every row is a word that asks, every column a word that is asked. Scores above the diagonal belong to later "
        "words. They become −∞ before the softmax, so their weight is 0.",
        "Three tables of three by three numbers: scores, scores with minus infinity above the diagonal, weights with "
        "zeros there.",
    )


def two_heads(words: Sequence[str], weights: np.ndarray, received: np.ndarray, output: np.ndarray) -> None:
    """Draw two heads of the last word, their results side by side, and the output matrix."""
    ax = canvas(46)
    for h in range(2):
        left = 2 + 32 * h
        note(ax, left + 14, 44, f"head {h}", NORMAL, "attention", bold=True)
        asks = box(ax, left + 9.4, 23.6, 9.2, 3.6, words[-1])
        for j, word in enumerate(words):
            spot = box(ax, left + 10 * j, 37, 8, 3.6, word)
            width = 0.4 + 9 * weights[h, j]
            line(ax, [spot.bottom, (asks.centre[0] + 2.4 * (j - 1), 27.4)], "attention", width)
            at = (asks.centre[0] * 0.4 + spot.bottom[0] * 0.6) + (-2.6, 1.2, 1.6)[j]
            note(ax, at, 33, f"{weights[h, j]:.2f}", ha=("right", "left", "left")[j])
        vector(ax, left + 8.4, 17.2, received[h], "attention", 5.6, form="{:+.1f}")
        arrow(ax, asks.bottom, (asks.bottom[0], 20.7), thing="attention")
        arrow(ax, (left + 14, 17), (32 + 5.6 * (2 * h - 1), 13.2), thing="attention")
    joined = vector(ax, 20.8, 9.8, received.reshape(-1), "attention", 5.6, form="{:+.1f}")
    note(ax, 19.8, joined.left[1], "side by side (4,)", ha="right")
    arrow(ax, joined.bottom, (32, 5.8), f"times $W_o$, {output.shape}", thing="attention", side="right")
    handed = output @ received.reshape(-1)
    vector(ax, 23.6, 2.2, handed, "stream", 5.6, form="{:+.1f}")
    note(ax, 22.6, 3.8, f"to be added to the row of {words[-1]}", ha="right")
    note(ax, 41.6, 3.8, "(animal, young, small word)", ha="left", colour=FAINT)
    show(
        ax,
        "Two heads look at the same three words and ask different things. Their results stand side by side, and one "
        "more matrix turns them into a row as long as x.",
        "Two heads, each with thick and thin lines from the words to a; the first is thickest from cat, the second "
        "from baby. Below, four numbers side by side, then three.",
    )


def split_heads(tokens: int, heads: int, size: int) -> None:
    """Draw how the columns of a wide table become heads."""
    ax = canvas(25)
    strip = 5.2
    for h in range(heads):
        matrix(ax, 6 + strip * h, 6, strip, 10, f"{h}", "attention")
    note(ax, 16.4, 18, f"{heads} × {size} = {heads * size} columns")
    note(ax, 5, 11, f"{tokens}", ha="right")
    note(ax, 16.4, 3.4, f"({tokens}, {heads * size})", NORMAL, bold=True)
    arrow(ax, (28.6, 11), (35, 11), thing="attention")
    for h in range(heads):
        matrix(ax, 37 + 4.8 * h, 13 - 3 * h, strip, 10, "", "attention")
        note(ax, 37 + 4.8 * h + 2.6, 21.4 - 3 * h, f"{h}", NORMAL, bold=True)
    note(ax, 44, 2.2, f"({heads}, {tokens}, {size})", NORMAL, bold=True)
    note(ax, 62.6, 19.4, f"head {heads - 1}: the\nlast {size} columns", ha="right")
    show(
        ax,
        f"One wide matrix product makes the queries of all heads. Head 0 owns the first {size} columns, head 1 the "
        "next, and so on. Cutting means: stand them behind each other.",
        "A wide table in four strips, and an arrow to four narrow tables, one behind the other.",
    )


def sharing(models: dict[str, tuple[int, int, int, int, int]]) -> None:
    """Draw how heads of the first model share keys and values, and count what each model keeps for a token.

    A model is its layers, heads, heads of keys and values, numbers in a head, and bytes for a number.
    """
    ax = canvas(36)
    _, heads, key_heads, *_ = next(iter(models.values()))
    for start, pairs, title in ((2, heads, "each its own"), (34, key_heads, "shared")):
        note(ax, start + 14, 34.2, title, NORMAL, bold=True)
        step = 28 / pairs
        spots = [
            box(ax, start + step * (p + 0.5) - 3, 20, 6, 5, f"k v {p}", "attention", size=SMALL) for p in range(pairs)
        ]
        for h in range(heads):
            asks = box(ax, start + 7 * h, 28.4, 6.6, 3.8, f"q {h}", "attention", size=SMALL, fill="white")
            arrow(ax, asks.bottom, (spots[h * pairs // heads].top[0], 25.2), thing="attention")
    note(ax, 2, 16.4, "keys and values of one token, in bytes, all layers together", ha="left", bold=True)
    for i, (name, (layers, own, shared, size, width)) in enumerate(models.items()):
        y = 12.6 - 4.6 * i
        counts = f"{own} heads", f"{shared} for k, v"
        note(ax, 2, y, name, ha="left")
        note(ax, 29, y + 0.9, f"{2 * layers * own * size * width:,}", ha="right")
        note(ax, 29, y - 1.1, counts[0], ha="right", colour=FAINT)
        arrow(ax, (34, y), (40, y), thing="attention")
        note(ax, 56, y + 0.9, f"{2 * layers * shared * size * width:,}", ha="right")
        note(ax, 56, y - 1.1, counts[1], ha="right", colour=FAINT)
    show(
        ax,
        f"Left: {heads} heads with keys and values of their own. Right, as in Pebble: neighbours share. A model keeps "
        "the keys and values of every token, so sharing saves memory. Pebble's numbers have "
        f"{next(iter(models.values()))[-1]} bytes, the others' {list(models.values())[-1][-1]}.",
        "Four boxes for queries above four boxes for keys and values, and beside it four above two. Below, the bytes "
        "for each token in three models.",
    )


def with_pebbles_matrices(tokens: Sequence[str], ours: np.ndarray, real: np.ndarray) -> None:
    """Draw for each head how the last token shares out its look: found without positions, and by the model itself."""
    step, w = 8.2, 7.2
    top = 4.6 + step * len(ours)
    ax = canvas(top + 4)
    for j, token in enumerate(tokens):
        note(ax, 20.4 + w * (j + 0.5), top + 2.2, seen(token), code=True)
    for h, pair in enumerate(zip(ours, real, strict=True)):
        for i, (row, name) in enumerate(zip(pair, ("look(q, k)", "Pebble"), strict=True)):
            y = top - step * h - 3.3 * (i + 1)
            note(ax, 19.4, y + 1.6, name, ha="right", code=not i)
            for j, weight in enumerate(row):
                cell(ax, 20.4 + w * j, y, w, 3.3, f"{weight:.2f}", "attention", weight)
        note(ax, 1, top - step * h - 3.3, f"head {h}", ha="left", bold=True)
    note(ax, 42, 2.2, f"who is looked at by {seen(tokens[-1])}", colour=FAINT)
    show(
        ax,
        f"Layer 1 of Pebble. In our code and in Pebble, heads 2 and 3 look from {seen(tokens[-1])} at "
        f"{seen(tokens[3])}. Heads 0 and 1 differ: something is missing.",
        "A table with two rows for each of four heads. Those of heads 2 and 3 agree that cat is looked at, those of "
        "heads 0 and 1 disagree.",
    )


def sink(first: np.ndarray) -> None:
    """Draw for each head of a model, (layers, heads), how much of its look the first token receives."""
    layers, heads = first.shape
    wide, high = 55 / layers, 2.2
    ax = canvas(16 + high * heads)
    top = 10 + high * heads
    for layer, row in enumerate(first):
        for head, weight in enumerate(row):
            cell(ax, 8 + wide * layer, top - high * (head + 1), wide, high, "", "attention", float(weight))
    for layer in sorted({*range(0, layers, 10), layers - 1}):
        note(ax, 8 + wide * (layer + 0.5), top + 1.8, f"{layer}", colour=FAINT)
    note(ax, 8 + wide * layers / 2, top + 4.6, "layer", colour=FAINT)
    for head in (0, heads - 1):
        note(ax, 7.2, top - high * (head + 0.5), f"{head}", ha="right", colour=FAINT)
    note(ax, 6.2, top - high * heads / 2, "head", ha="right", colour=FAINT)
    for step, share in enumerate((0, 0.25, 0.5, 0.75, 1)):
        cell(ax, 18 + 6 * step, 4, 6, 3, f"{share:.0%}", "attention", share)
    note(ax, 49, 5.5, "to the first token", ha="left", colour=FAINT)
    means = first.mean(axis=1)
    show(
        ax,
        f"Each cell is one of the {first.size} heads of SmolLM2. The darker it is, the more the first token of a "
        "sentence receives there from those behind it.",
        f"A grid of {heads} rows and {layers} columns, most of it dark. By layer the first token receives from "
        f"{means.min():.0%} to {means.max():.0%}; the palest column is layer {means.argmin()}.",
    )
