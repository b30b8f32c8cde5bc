"""The pictures of "Embeddings". Each takes the lesson's own numbers and shows itself."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.patches import Rectangle

from llmnotes.plots.drawing import (
    FAINT,
    INK,
    NORMAL,
    THINGS,
    arrow,
    box,
    brace,
    canvas,
    cell,
    chart,
    line,
    note,
    show,
    vector,
)
from llmnotes.plots.tokens import seen


def lookup(tokens: Sequence[str], ids: Sequence[int], rows: np.ndarray) -> None:
    """Draw tokens, their ids, and the rows of the table that these pick."""
    ax = canvas(4 * len(tokens) + 9)
    top = ax.get_ylim()[1]
    for i, (token, number, row) in enumerate(zip(tokens, ids, rows, strict=True)):
        y = top - 8.4 - 4 * i
        spot = box(ax, 0.8, y, 11, 3.2, seen(token))
        arrow(ax, spot.right, (14, y + 1.6), thing="table")
        note(ax, 18.9, y + 1.6, f"row {number}", code=True)
        arrow(ax, (24, y + 1.6), (26.6, y + 1.6), thing="table")
        vector(ax, 27.2, y, [*row[:3], row[-1]], top=0.4, cell_width=6.2, dots=True)
    note(ax, 6.2, top - 2.4, "token", bold=True)
    note(ax, 18.9, top - 2.4, "id", bold=True)
    note(ax, 41, top - 2.4, f"its row: {rows.shape[1]} numbers", bold=True, colour="stream")
    brace(ax, (55.6, top - 5.2), (55.6, top - 8.4 - 4 * (len(tokens) - 1)), f"{len(rows)} rows", side="right")
    note(ax, 41, 1.6, f"shape {rows.shape}", NORMAL, bold=True, colour="stream")
    show(
        ax,
        "Each id picks its row of the table. The larger a number, the darker its cell; the sign doesn't count.",
        "Tokens one below the other, each with its id and the first numbers of its row.",
    )


def shared_words(question: str, winner: str, right: str) -> None:
    """Draw a question between the sentence that a search for words finds and the right one; common words are linked."""
    ax = canvas(22)
    ends: dict[str, tuple[float, float]] = {}
    for y, name, text in ((8.4, "you ask", question), (15.8, "it finds", winner), (1, "right", right)):
        note(ax, 0.8, y + 1.6, name, ha="left", bold=True)
        at = 11.0
        for word in text.rstrip(".?").split():
            plain, wide = word.lower(), len(word) + 1.4
            common = plain in question.lower().split() and plain in winner.lower().rstrip(".").split()
            kind = "stream" if common and y > 8 else "token"
            spot = cell(ax, at, y, wide, 3.2, word, kind, 0.3 if kind == "stream" else 0, code=True)
            if common and y == 8.4:
                ends[plain] = spot.top
            elif common and y > 8.4:
                line(ax, [ends[plain], spot.bottom], "stream", 2.4)
            at += wide + 0.5
    show(
        ax,
        "A search for words links what is spelled the same. The right sentence has no word in common with the "
        "question: to a computer, drink and drinks are as different as cat and castle.",
        f"{question}: it finds “{winner}”, and the right one is “{right}”.",
    )


def list_of_ids(tokens: Mapping[int, str], middle: int, far: str, other: int) -> None:
    """Draw the tokens around id `middle` in the vocabulary's order, and how far away the token `far` is."""
    ax = canvas(15)
    wide = 62 / len(tokens)
    for i, (number, token) in enumerate(tokens.items()):
        x = 1 + wide * i
        cell(ax, x, 6, wide, 3.6, seen(token), "table", 0.5 if number == middle else 0.06, code=True)
        note(ax, x + wide / 2, 4.2, str(number), bold=number == middle, colour=FAINT if number != middle else INK)
    arrow(ax, (1 + wide * (list(tokens).index(middle) + 0.5), 12.4), (1, 12.4), thing="table", width=2)
    arrow_end = 1 + wide * (list(tokens).index(middle) + 0.5)
    line(ax, [(arrow_end, 9.6), (arrow_end, 12.4)], "table", 2)
    note(ax, arrow_end + 1.4, 12.4, f"{seen(far)} is {middle - other:,} places further left", ha="left")
    note(ax, 32, 1.8, "… the vocabulary, in its order …", colour=FAINT)
    show(
        ax,
        f"The neighbours of {seen(tokens[middle])} in the list of ids. They have nothing to do with it.",
        "; ".join(f"{number}: {seen(token)}" for number, token in tokens.items())
        + f"; {seen(far)} has the id {other:,}.",
    )


def one_hot(number: int, neighbours: Mapping[int, str], table: np.ndarray) -> None:
    """Draw a one-hot vector times the table, row by row; `neighbours` names the rows that are drawn."""
    size, width = table.shape
    token = neighbours[number]
    ax = canvas(7.8 * len(neighbours) + 8.2)
    y = ax.get_ylim()[1] - 2
    note(ax, 12.6, y, "one-hot", bold=True)
    note(ax, 28, y, f"table, {size:,} rows", bold=True, colour="table")
    note(ax, 53, y, "the products", bold=True, colour="stream")
    y -= 1
    for i, name in neighbours.items():
        y -= 4.6
        hit = i == number
        row = [*table[i, :2], table[i, -1]]
        note(ax, 0.6, y + 2.6, seen(name), ha="left", code=True, bold=hit)
        note(ax, 0.6, y + 0.4, str(i), ha="left", colour=FAINT)
        cell(ax, 10.6, y, 4, 3.2, f"{hit:d}", "token", strong=hit)
        note(ax, 16.2, y + 1.6, "×")
        vector(ax, 18, y, row, "table", 5.8, top=0.4, dots=True)
        note(ax, 40.6, y + 1.6, "=")
        vector(ax, 42.2, y, [hit * value for value in row], "stream", 5.8, top=0.4, dots=True)
        y -= 3.2
        note(ax, 12.6, y + 1.2, "⋮", NORMAL)
        note(ax, 28.4, y + 1.2, "⋮", NORMAL)
        note(ax, 52.6, y + 1.2, "⋮", NORMAL)
    line(ax, [(41, y - 0.2), (63, y - 0.2)], "token", 1.4)
    y -= 4.2
    note(ax, 40.6, y + 1.6, "added up, column by column", ha="right", bold=True)
    row = [*table[number, :2], table[number, -1]]
    vector(ax, 42.2, y, row, "stream", 5.8, top=0.4, dots=True)
    show(
        ax,
        f"Every row of the table is multiplied by its number of the one-hot vector, and all products are added up. All "
        f"but one are zeros, so the row of {seen(token)} is left, number for number.",
        f"A vector with a 1 at place {number} and zeros elsewhere, multiplied by the rows of the table, gives row "
        f"{number}.",
    )


def angles(
    word: str, cosines: Mapping[str, float], lengths: Mapping[str, float], good: str = "", bad: str = ""
) -> None:
    """Draw `word` along the axis and each other word at its true angle to it, with the lengths of all of them.

    `good` ought to be near and `bad` far away: they are green and red.
    """
    others, length = {name: (cosine, lengths[name]) for name, cosine in cosines.items()}, lengths[word]
    ax = canvas(35)
    unit, x0, y0 = 11.5, 2.0, 3.0
    arrow(ax, (x0, y0), (x0 + length * unit, y0), thing="token", width=3)
    note(ax, x0 + length * unit + 1, y0, seen(word), NORMAL, ha="left", code=True, bold=True)
    row, last = 21.0, 0.0
    for name, (cosine, size) in sorted(others.items(), key=lambda item: -item[1][0]):
        thing = {good: "mlp", bad: "alarm"}.get(name, "stream")
        angle = np.arccos(cosine)
        x, y = x0 + unit * size * np.cos(angle), y0 + unit * size * np.sin(angle)
        arrow(ax, (x0, y0), (x, y), thing=thing, width=2.2)
        side = -1 if angle - last < np.radians(6) else 1  # close behind another arrow: on its free side
        note(ax, x + side, y + 0.6, seen(name), ha="left" if side > 0 else "right", code=True, colour=thing)
        note(ax, 42, row, f"{seen(name):<7}", ha="left", code=True, bold=name in (good, bad), colour=thing)
        note(ax, 63, row, f"{np.degrees(angle):.0f}°, cosine {cosine:.2f}", ha="right", bold=name in (good, bad))
        row, last = row + 3.4, angle
    show(
        ax,
        f"{seen(word)} lies along the axis, and each other row is drawn at its true angle to it, in its true length. "
        "(The angles of the others to one another don't show.)",
        f"Arrows from one point. To {seen(word)}: "
        + ", ".join(f"{seen(n)} {np.degrees(np.arccos(c)):.0f} degrees, cosine {c:.2f}" for n, (c, _) in others.items())
        + ".",
    )


def places(
    pairs: Sequence[tuple[str, str]], before: Sequence[int], after: Sequence[int], rows: int, wrong: int
) -> None:
    """Draw for each pair how far down the second word stands among the first one's neighbours, twice.

    `wrong` is the median place of wrong pairs with the direction taken out; the median of `after` is drawn as well.
    """
    ax = canvas(2.5 * len(pairs) + 12.4)
    plot = chart(
        ax, 19, 5, 43, 2.5 * len(pairs) + 0.4, xscale="log", xlim=(1, rows * 1.3), ylim=(len(pairs) - 0.5, -0.6)
    )
    for i, (one, other) in enumerate(zip(before, after, strict=True)):
        plot.plot((one, other), (i, i), color=THINGS["old"][0], linewidth=1.2, zorder=1)
    for middle, dashes in ((wrong, ":"), (float(np.median(after)), "--")):
        plot.axvline(middle, color=THINGS["stream"][0], linewidth=1.4, linestyle=dashes, zorder=0)
    plot.plot(before, range(len(pairs)), "s", color=THINGS["alarm"][0], markersize=7)
    plot.plot(after, range(len(pairs)), "o", color=THINGS["stream"][0], markersize=8)
    plot.set_yticks(range(len(pairs)), [f"{a} → {b}" for a, b in pairs])
    plot.set_xticks([1, 10, 100, 1000, 10_000], ["1", "10", "100", "1,000", "10,000"])
    plot.minorticks_off()
    high = ax.get_ylim()[1]
    note(ax, 26, high - 2, "● without the direction", ha="left", bold=True, colour="stream")
    note(ax, 63, high - 2, "■ as it is", ha="right", bold=True, colour="alarm")
    note(ax, 26, high - 4.8, f"╎ their median, {np.median(after):.0f}", ha="left", bold=True, colour="stream")
    note(ax, 63, high - 4.8, f"┊ wrong pairs, {wrong:,}", ha="right", bold=True, colour="stream")
    note(ax, 40, 1.6, "place among the neighbours: each mark is ten times the last", colour=FAINT)
    show(
        ax,
        f"At which place among {rows:,} rows is the commoner word, counted from the rarer one? Squares: in the table "
        "as it is. Dots: with the common-to-rare direction taken out. Dashed: the dots' median. Dotted: the wrong "
        "pairs' median, with the direction taken out.",
        "A line for each pair, nearly all from the far right to the left. "
        f"{', '.join(f'{a} and {b}' for a, b in pairs)}.",
    )


def analogy_bars(results: Mapping[str, Sequence[float]]) -> None:
    """Draw the shares of right answers by relation: {relation: a share for each of three ways to count}."""
    names = ["question's words left out", "no arithmetic", "nothing left out"]
    things = ["stream", "old", "attention"]
    ax = canvas(5.6 * len(results) + 7)
    y = ax.get_ylim()[1] - 2
    at = 3.0
    for name, thing in zip(names, things, strict=True):
        ax.add_patch(_bar(at, y - 0.9, 2, 1.8, thing))
        note(ax, at + 2.8, y, name, ha="left")
        at += 4.4 + 0.95 * len(name)
    y -= 3
    for relation, shares in results.items():
        note(ax, 26, y - 2.4, relation, ha="right")
        for i, (share, thing) in enumerate(zip(shares, things, strict=True)):
            ax.add_patch(_bar(27, y - 1.5 * (i + 1), max(32 * share, 0.15), 1.4, thing))
        note(ax, 63, y - 0.8, f"{shares[0]:.0%}", ha="right", bold=True)
        y -= 5.6
    ax.plot((27, 27), (1, y + 5.6 * len(results) + 0.4), color=INK, linewidth=1)
    show(
        ax,
        "Analogies by relation: right answers. Blue (and the number): the question's words left out, as is usual. "
        "Grey: the nearest word, without arithmetic. Orange: nothing left out.",
        "Bars by relation. "
        + "; ".join(f"{r}: " + ", ".join(f"{100 * s:.0f}" for s in shares) for r, shares in results.items())
        + " percent.",
    )


def search_scores(hits: Mapping[str, int], total: int) -> None:
    """Draw how many questions each search answers, with 95% intervals (Wilson's)."""
    ax = canvas(6.4 * len(hits) + 4)
    top = ax.get_ylim()[1]
    unit = 29 / total
    z = 1.96
    for i, (name, right) in enumerate(hits.items()):
        y = top - 4.6 - 6.4 * i
        share = right / total
        middle = (share + z * z / (2 * total)) / (1 + z * z / total)
        reach = z / (1 + z * z / total) * np.sqrt(share * (1 - share) / total + z * z / (4 * total**2))
        note(ax, 23.4, y + 1.6, name, ha="right")
        ax.add_patch(_bar(24.4, y, right * unit, 3.2))
        low, high = (24.4 + 29 * max(0, middle - reach), 24.4 + 29 * min(1, middle + reach))
        ax.plot((low, high), (y - 0.9, y - 0.9), color=INK, linewidth=1.6, zorder=6)
        note(ax, 63, y + 1.6, f"{right} of {total}", ha="right", bold=True)
    ax.plot((24.4, 24.4), (1, top - 0.8), color=INK, linewidth=1)
    show(
        ax,
        "Questions whose first answer is right. The thin line is a 95% interval: so far may chance have moved the "
        "number.",
        "; ".join(f"{name.replace(chr(10), ' ')}: {right} of {total}" for name, right in hits.items()) + ".",
    )


def _bar(x: float, y: float, w: float, h: float, thing: str = "stream") -> Rectangle:
    return Rectangle((x, y), w, h, facecolor=THINGS[thing][0], zorder=3)


def mean_of_rows(tokens: Sequence[str], rows: np.ndarray) -> None:
    """Draw the rows of a sentence's tokens and their mean."""
    ax = canvas(3.8 * len(tokens) + 12.6)
    y = ax.get_ylim()[1] - 2
    note(ax, 36, y, f"the rows of its {len(tokens)} tokens", bold=True, colour="stream")
    y -= 1.4
    for token, row in zip(tokens, rows, strict=True):
        y -= 3.8
        note(ax, 17, y + 1.6, seen(token), ha="right", code=True)
        vector(ax, 19, y, [*row[:4], row[-1]], cell_width=6.2, top=0.4, dots=True)
    arrow(ax, (36, y - 0.4), (36, y - 4), "mean, column by column", side="right")
    mean = rows.mean(axis=0)
    note(ax, 17, y - 6, "the sentence", ha="right", bold=True)
    vector(ax, 19, y - 7.6, [*mean[:4], mean[-1]], "mlp", cell_width=6.2, top=0.4, dots=True)
    show(
        ax,
        f"Mean pooling: {len(tokens)} rows become one vector of the same {rows.shape[1]} numbers.",
        "The rows of the tokens one below the other, and below them their mean.",
    )


def duplicates(texts: Sequence[str], pairs: Sequence[tuple[int, int, float]], same: Sequence[tuple[int, int]]) -> None:
    """Draw the pairs of texts with the largest cosines, and whether they really ask the same."""
    ax = canvas(6 * len(pairs) + 3)
    y = ax.get_ylim()[1] - 1
    for i, j, value in pairs:
        y -= 6
        good = (i, j) in same
        note(ax, 0.8, y + 4.2, texts[i], ha="left")
        note(ax, 0.8, y + 1.8, texts[j], ha="left")
        ax.add_patch(_bar(37, y + 1.4, 14 * value, 3, "stream" if good else "alarm"))
        note(ax, 37.6 + 14 * value, y + 3, f"{value:.2f}", ha="left")
        note(ax, 63.4, y + 3, "same" if good else "not", ha="right", bold=True, colour="stream" if good else "alarm")
    ax.plot((37, 37), (y + 0.4, ax.get_ylim()[1] - 1.6), color=INK, linewidth=1)
    show(
        ax,
        f"The {len(pairs)} most similar pairs by MiniLM's cosine. Blue: they ask the same. Red: they don't, and one of "
        "these stands on top.",
        "; ".join(f"{value:.2f} {'same' if (i, j) in same else 'not'}: {texts[i]} {texts[j]}" for i, j, value in pairs)
        + ".",
    )
