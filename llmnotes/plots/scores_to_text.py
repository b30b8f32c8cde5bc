"""The pictures of "From scores to text": one distribution, and what is done to it before a token is drawn."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from matplotlib.patches import Rectangle

from llmnotes.attention import softmax
from llmnotes.pebble.numpy_model import Pebble
from llmnotes.plots import display, several_panels
from llmnotes.plots.drawing import (
    FAINT,
    INK,
    LARGE,
    NORMAL,
    SMALL,
    THINGS,
    arrow,
    bars,
    box,
    brace,
    canvas,
    cell,
    chart,
    frame,
    line,
    note,
    show,
    vector,
)

Place = tuple[str, np.ndarray, set[int]]  # a prompt, the probabilities of the next token, the tokens that are right
Decode = Callable[[list[int]], str]

Numbers = Sequence[float] | np.ndarray


def seen(token: str) -> str:
    """Write a token so that its leading space can be seen."""
    return {"<|bos|>": "‹start›", "<|eos|>": "‹end›"}.get(token, token.replace(" ", "␣").replace("\n", "⏎"))


def the_gap(prompt: str, tokens: int, scores: Numbers) -> None:
    """Draw the loop that writes, with the place where nobody has chosen a token yet."""
    ax = canvas(23)
    text = box(ax, 0.6, 11, 17, 7, prompt, small=f"{tokens} tokens", size=SMALL)
    model = box(ax, 22, 11, 11, 7, "Pebble", "stream")
    numbers = vector(ax, 38, 12.9, list(scores[1:2]), "stream", 7, form="{:.1f}", top=max(scores))
    vector(ax, 38, 16.1, list(scores[:1]), "stream", 7, form="{:.1f}")
    vector(ax, 38, 9.7, list(scores[-1:]), "stream", 7, form="{:.1f}", top=max(scores))
    note(ax, 41.5, 20.8, f"{len(scores):,} scores", bold=True, colour="stream")
    note(ax, 41.5, 8.2, "⋮")
    who = box(ax, 50.6, 11, 12.8, 7, "who", "alarm", "chooses?")
    arrow(ax, text.right, model.left)
    arrow(ax, model.right, (37.6, 14.5))
    arrow(ax, (numbers.right[0] + 0.4, 14.5), who.left)
    line(ax, [who.bottom, (57, 4), (9.1, 4)], "alarm")
    arrow(ax, (9.1, 4), text.bottom, thing="alarm")
    note(ax, 33, 2.2, "put the token behind the text, and ask again", colour="alarm", bold=True)
    show(
        ax,
        f"A model gives {len(scores):,} scores, one for each token, and no text. Something outside of it has to "
        "choose a token; then everything starts again with a longer text.",
        "A loop: the prompt goes into Pebble, scores come out, a box with a question mark chooses a token, and an "
        "arrow brings it back behind the prompt.",
    )


def unsure(prompt: str, scores: np.ndarray, good: set[int], decode: Decode, rows: int = 21) -> None:
    """Draw the best tokens with their scores and probabilities, and what all the others hold together."""
    best = scores.argsort()[::-1]
    chances = softmax(scores)[best]
    rest = float(chances[rows:].sum())
    names, right, p = (
        [decode([token]) for token in best[:rows]],
        [token in good for token in best[:rows]],
        chances[:rows],
    )
    step = 2.4
    ax = canvas(step * len(names) + 11)
    top = step * len(names) + 6
    note(ax, 2, top + 2.6, f"{prompt} …", NORMAL, ha="left", bold=True, code=True)
    note(ax, 29, top + 2.6, "score", bold=True, ha="right")
    note(ax, 32.5, top + 2.6, "probability", bold=True, ha="left")
    marked = [seen(name) for name in names]
    things = ["stream" if fine else "alarm" for fine in right]
    bars(ax, 32.5, top, [""] * len(names), p, things, length=22, form="{:.1%}", step=step)
    for i, (name, score, fine) in enumerate(zip(marked, scores[best[:rows]], right, strict=True)):
        middle = top - step * (i + 0.5)
        note(ax, 18, middle, name, ha="right", code=True, colour=INK if fine else "alarm")
        note(ax, 29, middle, f"{score:.2f}", ha="right")
    note(ax, 32.5, 2.4, f"all the others together: {rest:.1%}", ha="left", colour=FAINT)
    show(
        ax,
        "Pebble is unsure. Each blue token begins something that people in its world are afraid of (deep puddles, "
        "cold spoons, sudden cheese, polite ghosts, clowns). "
        f"{'The red one begins' if right.count(False) == 1 else 'The red ones begin'} nothing of the kind.",
        "Horizontal bars of the best tokens with their scores and probabilities, falling quickly.",
    )


def dart(names: Sequence[str], p: Numbers, u: float, chosen: str) -> None:
    """Draw the line from 0 to 1, cut into pieces as long as the probabilities, and where the dart hit."""
    ax = canvas(19)
    left, wide = 3, 58
    at = 0.0
    for name, share in zip(names, p, strict=True):
        hit = name == chosen
        ax.add_patch(
            Rectangle(
                (left + wide * at, 6),
                wide * share,
                5,
                facecolor=THINGS["stream"][0 if hit else 1],
                edgecolor=THINGS["stream"][0],
                zorder=3,
            )
        )
        if not hit and len(name) * 1.05 < wide * share:
            note(ax, left + wide * (at + share / 2), 8.5, seen(name), code=True, room=wide * share)
        at += share
    ax.add_patch(Rectangle((left + wide * at, 6), wide * (1 - at), 5, facecolor=THINGS["old"][1], edgecolor=FAINT))
    for x in (0, 0.25, 0.5, 0.75, 1):
        note(ax, left + wide * x, 4.4, f"{x:g}", colour=FAINT)
    arrow(ax, (left + wide * u, 18.4), (left + wide * u, 11.2), thing="alarm", width=2.2)
    note(ax, left + wide * u + 1, 17.4, f"{u:.3f}: {seen(chosen)}", NORMAL, ha="left", colour="alarm", bold=True)
    note(ax, left + wide, 2, f"the other {1 - at:.0%}: many small pieces", ha="right", colour=FAINT)
    show(
        ax,
        "Drawing is throwing a dart at a line of length 1. A token's piece is as long as its probability, so a token "
        "with a longer piece is hit more often.",
        "A bar from 0 to 1, divided into pieces with the names of tokens; an arrow points to one of them.",
    )


def temperatures(names: Sequence[str], panels: Mapping[float, Numbers], right: Sequence[bool]) -> None:
    """Draw the same bars at several temperatures, in plotly with a slider; `panels` has all the probabilities."""
    import plotly.graph_objects as go

    count = len(names)
    labels = [*map(seen, names), "all others"]
    colours = [THINGS["stream" if good else "alarm"][0] for good in right] + [THINGS["old"][0]]
    # A tenth of a percent: the last digits of a score depend on the processor.
    values = {heat: np.round([*p[:count], 1 - np.sum(p[:count])], 3).tolist() for heat, p in panels.items()}
    three = [heat for heat in panels if heat in (0.5, 1, 2)]
    figure, axes = several_panels(6.4, 4.1, len(three))
    for ax, heat in zip(axes, three, strict=True):
        ax.barh(range(count + 1), values[heat], color=colours)
        ax.set(xlim=(0, 0.62), ylim=(count + 0.6, -0.6), xticks=[0, 0.25, 0.5])
        ax.set_xticklabels(["0", "25%", "50%"], size=SMALL)
        ax.set_yticks(range(count + 1), labels if heat == three[0] else [], family="DejaVu Sans Mono", size=SMALL)
        ax.set_title(f"T = {heat:g}", size=NORMAL, weight="bold")
    bars_of = {heat: go.Bar(x=row, y=labels, orientation="h", marker_color=colours) for heat, row in values.items()}
    start = list(values).index(1)
    moving = go.Figure(
        data=[bars_of[1]],
        frames=[go.Frame(data=[bar], name=f"{heat:g}") for heat, bar in bars_of.items()],
        layout=dict(
            height=430,
            margin=dict(l=110, r=20, t=20, b=20),
            template="plotly_white",
            xaxis=dict(range=[0, 0.9], tickformat=".0%"),
            yaxis=dict(autorange="reversed"),
            sliders=[
                dict(
                    active=start,
                    currentvalue=dict(prefix="temperature "),
                    steps=[
                        dict(
                            label=f"{heat:g}",
                            method="animate",
                            args=[[f"{heat:g}"], dict(mode="immediate", frame=dict(duration=0, redraw=True))],
                        )
                        for heat in values
                    ],
                )
            ],
        ),
    )
    display.show(
        moving,
        "The same bars at temperatures 0.5, 1 and 2: sharper on the left, flat on the right, where most of the "
        "probability lies on all the other tokens.",
        static=figure,
        caption="One set of scores at several temperatures. A low temperature gives the best tokens more, a "
        "high one gives more to the grey bar: everything else in the vocabulary. (Where the page is alive, move the "
        "slider.)",
    )


def junk(heats: Numbers, one: Numbers, marks: Sequence[float], count: int = 20) -> None:
    """Draw the chance of a junk token against the temperature, for one draw and for at least one of `count`."""
    ax = canvas(32)
    one = np.asarray(one)
    several = 1 - (1 - one) ** count
    plot = chart(ax, 8, 6, 52, 23, xlim=(min(heats), max(heats)), ylim=(0, 1.04))
    plot.plot(heats, several, color=THINGS["alarm"][0], linewidth=3)
    plot.plot(heats, one, color=THINGS["alarm"][0], linewidth=2, linestyle="--")
    plot.set_yticks([0, 0.5, 1], ["0%", "50%", "100%"])
    for heat in marks:
        at = int(np.argmin(np.abs(np.asarray(heats) - heat)))
        plot.plot([heat], [several[at]], "o", color=THINGS["alarm"][0], markersize=8)
        plot.text(heat + 0.04, several[at] - 0.07, f"{several[at]:.0%}", size=NORMAL, weight="bold", color=INK)
    plot.text(1.17, 0.93, f"at least one in {count}", size=SMALL, ha="right", color=THINGS["alarm"][0], weight="bold")
    plot.text(2.0, 0.26, "one token", size=SMALL, ha="right", color=THINGS["alarm"][0])
    note(ax, 34, 1.8, "temperature", colour=FAINT)
    note(ax, 8, 30.6, "chance of junk", ha="left", bold=True)
    show(
        ax,
        f"A small chance, taken {count} times, is no longer small. Dashed: one token is junk. Line: at least one of "
        f"{count} is, if every place were as open as ours.",
        "Two rising curves over the temperature; the upper one is close to 100% from a temperature of 1.5 on.",
    )


def rule(name: str, cut: Callable[[np.ndarray], np.ndarray], places: Sequence[Place], decode: Decode) -> None:
    """Draw what a rule leaves at two places in a text; `cut` sets the probabilities that it cuts off to 0."""
    rows, step = 12, 2.6
    ax = canvas(rows * step + 11.5)
    top = rows * step + 5.8
    note(ax, 32, top + 4.2, name, LARGE, bold=True)
    for i, (prompt, p, good) in enumerate(places):
        x, best = 32.5 * i, p.argsort()[::-1]
        right, kept = np.isin(best, list(good)), cut(p)[best] > 0
        things = [("stream" if fine else "alarm") if stays else "old" for fine, stays in zip(right, kept, strict=True)]
        note(ax, x + 16, top + 1.6, f"{prompt} …", code=True)
        bars(ax, x + 12, top, [""] * rows, p[best][:rows], things[:rows], length=12, form="{:.1%}", step=step)
        for j, (token, thing) in enumerate(zip(best[:rows], things, strict=False)):
            colour = {"stream": INK, "alarm": "alarm", "old": "#9aa3ad"}[thing]
            note(ax, x + 11.2, top - step * (j + 0.5), seen(decode([token])), ha="right", code=True, colour=colour)
        fine, bad = things.count("stream"), things.count("alarm")
        lost = p[best][right & ~kept].sum()
        told = f"keeps {fine} right, {bad} junk"
        note(ax, x + 16, 3.9, told, NORMAL, bold=True, colour="alarm" if bad else INK)
        note(ax, x + 16, 1.6, f"right ones cut off: {lost:.1%}", colour=FAINT)
    show(
        ax,
        f"{name}, at two places. Blue: kept, and right. Red: kept, and junk. Grey: cut off.",
        f"Two columns of bars, the most likely tokens at two places; those that {name} cuts off are grey. Below "
        "stands how many right and how many junk tokens it keeps.",
    )


def nucleus(places: Sequence[Place], share: float, most: int = 9) -> None:
    """Draw the growing sum of sorted probabilities, and where it reaches the share."""
    ax = canvas(30)
    plot = chart(ax, 8, 6.4, 52, 21, xlim=(0.4, most + 0.6), ylim=(0, 1.15))
    for (prompt, p, _), thing, (x, y, side) in zip(
        places, ("stream", "token"), ((most + 0.5, 0.62, "right"), (0.7, 1.06, "left")), strict=True
    ):
        sums = np.cumsum(np.sort(p)[::-1])[:most]
        last = int(np.argmax(sums >= share))
        plot.plot(range(1, most + 1), sums, color=THINGS[thing][0], linewidth=1.4, marker="o", markersize=5)
        plot.plot([last + 1], [sums[last]], "o", color=THINGS[thing][0], markersize=12)
        plot.text(x, y, f"{prompt} …  {last + 1} kept", size=SMALL, color=THINGS[thing][0], ha=side)
    plot.axhline(share, color=THINGS["alarm"][0], linestyle="--")
    plot.set_yticks([0, 0.5, share, 1], ["0%", "50%", f"{share:.0%}", "100%"])
    plot.set_xticks(range(1, most + 1))
    note(ax, 34, 1.8, "tokens, the most likely first", colour=FAINT)
    note(ax, 8, 29, "they hold together", ha="left", bold=True)
    show(
        ax,
        f"Top-p adds up the probabilities, the most likely first, until the sum reaches {share:.0%}. Where the model "
        "is sure that takes one token, where it isn't, several.",
        "Two rising rows of dots and a dashed line; a large dot marks where each row reaches the line.",
    )


def order(heat: float, share: float, first: tuple[int, float], last: tuple[int, float]) -> None:
    """Draw the same two steps in both orders; each ends in (tokens kept, chance of junk)."""
    ax = canvas(26)
    for y, steps, (kept, chance), who in (
        (15, (f"÷ {heat:g}", f"top-p {share:g}"), first, "temperature first, as in transformers"),
        (2, (f"top-p {share:g}", f"÷ {heat:g}"), last, "top-p first, as in llama.cpp"),
    ):
        note(ax, 1, y + 8.6, who, NORMAL, ha="left", bold=True)
        start = box(ax, 1, y + 1, 11, 5.4, "scores", "stream", size=SMALL)
        spots = [box(ax, 16 + 16 * i, y + 1, 12.6, 5.4, step, "token", size=SMALL) for i, step in enumerate(steps)]
        thing = "alarm" if chance > 0.05 else "stream"
        end = box(ax, 48, y + 1, 15.4, 5.4, f"{kept} tokens", thing, f"{chance:.0%} junk")
        for one, other in zip([start, *spots], [*spots, end], strict=True):
            arrow(ax, one.right, other.left)
    show(
        ax,
        f"The same two settings in two orders, all other rules off. A temperature of {heat:g} first makes everything "
        "flat, and then the share reaches deep into the junk. The other way round, the junk is gone before the "
        "flattening.",
        "Two rows of boxes: temperature then top-p, and top-p then temperature, with how many tokens each keeps.",
    )


def two_ways_out(stop: str, most: int) -> None:
    """Draw generate: the loop with its limit and its stop token, in the order of its code."""
    ax = canvas(27)
    model = box(ax, 4, 16, 10, 6, "model", "stream")
    heat = box(ax, 20, 16, 10, 6, "÷ T", small="softmax")
    cut = box(ax, 34, 16, 11, 6, "cut", small="top-p, min-p")
    drawn = box(ax, 49, 16, 8, 6, "draw")
    arrow(ax, model.right, heat.left)
    arrow(ax, heat.right, cut.left)
    arrow(ax, cut.right, drawn.left)
    frame(ax, 18.6, 14.4, 40, 11)
    note(ax, 38.6, 24, "choose", NORMAL, bold=True)
    limit = box(ax, 1, 4.6, 16, 5, f"{most} new tokens?", "alarm", "yes: cut off", size=SMALL)
    behind = box(ax, 25, 4.6, 10, 5, "append", "stream")
    last = box(ax, 45, 4.6, 16, 5, f"{stop}?", "alarm", "yes: finished", size=SMALL)
    arrow(ax, drawn.bottom, last.top)
    arrow(ax, last.left, behind.right, "no")
    arrow(ax, behind.left, limit.right)
    arrow(ax, limit.top, model.bottom)
    note(ax, 10.4, 12.6, "no", ha="left")
    arrow(ax, (9, 2.4), limit.bottom)
    note(ax, 9, 1.5, "start: the prompt")
    show(
        ax,
        "All of `generate`. The upper row is what you have built so far; the two red boxes are the ways out.",
        "A loop of boxes: a limit, then model, temperature, cut and draw; then a question, is it the stop token; if "
        "not, the token is put behind the text, and the loop asks for the limit again.",
    )


def half_characters(text: str, bytes_of: Sequence[int], told: Sequence[str]) -> None:
    """Draw a character, its bytes, the tokens that hold one byte each, and what a screen shows after each."""
    ax = canvas(22)
    note(ax, 1, 18.6, "characters", ha="left", bold=True)
    note(ax, 1, 12.2, "bytes = tokens", ha="left", bold=True)
    note(ax, 1, 4.6, "decoded so far", ha="left", bold=True)
    wide = 44 / len(bytes_of)
    for i, (byte, shown) in enumerate(zip(bytes_of, told, strict=True)):
        x = 19 + wide * i
        spot = cell(ax, x, 10.6, wide - 0.8, 3.2, f"{byte:02X}", "old", 0.3, code=True)
        whole = "\ufffd" not in shown
        arrow(ax, spot.bottom, (spot.bottom[0], 7), thing="old")
        box(ax, x, 2.6, wide - 0.8, 4, shown.replace("\ufffd", "?"), "stream" if whole else "alarm", size=SMALL)
    at = 0
    for letter in text:
        size = len(letter.encode())
        start, end = 19 + wide * at, 19 + wide * (at + size) - 0.8
        brace(ax, (start, 14), (end, 14), "", side="above")
        note(ax, (start + end) / 2, 18.4, letter, LARGE, bold=True)
        at += size
    show(
        ax,
        "A token can be a part of a character. Until the last of its bytes is there, decoding shows a replacement "
        "mark (red). Wait for the next token, then print.",
        "The letters of a word, below them their bytes, and below those the decoded text after each byte; it is "
        "incomplete after the first byte of a letter with two.",
    )


def rows_computed(tokens: Sequence[str], start: int) -> None:
    """Draw which rows are computed in each run, without the cache and with it."""
    ax = canvas(3.5 * (len(tokens) - start + 1) + 12.5)
    runs = len(tokens) - start + 1
    for side, (title, cached) in enumerate((("without a cache", False), ("with a cache", True))):
        x0, wide = 1.4 + 32.2 * side, 29.4 / len(tokens)
        note(ax, x0 + 14.7, 3.5 * runs + 10.6, title, NORMAL, bold=True)
        done = 0
        for run in range(runs):
            y = 3.5 * (runs - run) + 2.2
            for i in range(start + run):
                old = cached and run and i < start + run - 1
                cell(ax, x0 + wide * i, y, wide - 0.3, 2.6, "", "old" if old else "stream", 0.15 if old else 0.75)
                done += not old
        note(ax, x0 + 14.7, 3.6, f"{done} rows computed", bold=True, colour="stream")
        note(ax, x0 + 14.7, 1.4, "one run is one line", colour=FAINT)
        note(ax, x0, 3.5 * runs + 7.4, seen(tokens[0]), ha="left", code=True)
        note(ax, x0 + 29.2, 3.5 * runs + 7.4, seen(tokens[-1]), ha="right", code=True)
    show(
        ax,
        "Each line is one run of the model, each cell a row of its stream. Blue is computed, grey is not computed "
        "again: its keys and values are kept.",
        "Two triangles of cells. On the left all are blue, on the right only the first line and the last cell of "
        "each other line.",
    )


def where_the_cache_is(pebble: Pebble, tokens: int) -> None:
    """Draw one block with its cache of some tokens: the new row comes in, its key and value join the old ones."""
    part, wide = pebble.blocks[0].attention, pebble.table.shape[1]
    ax = canvas(27)
    row = box(ax, 1, 15.4, 11, 5.6, "new row", "stream", f"(1, {wide})")
    project = box(ax, 16, 15.4, 10, 5.6, "project", "attention", f"start={tokens}", size=SMALL)
    arrow(ax, row.right, project.left)
    look = box(ax, 53.6, 15.4, 9.8, 5.6, "mix", "attention", "one query")
    line(ax, [project.top, (21, 24), (58.5, 24)], "attention")
    arrow(ax, (58.5, 24), look.top, thing="attention")
    note(ax, 39, 25.4, "q", NORMAL, bold=True)
    x, step = 31, 16.2 / (tokens + 1)
    new = x + step * (tokens + 0.5) - 0.1
    for y, name in ((15.6, "k"), (7, "v")):
        for i in range(tokens + 1):
            strong = i == tokens
            cell(ax, x + step * i, y, step - 0.2, 4.4, "", "attention" if strong else "old",
                 0.8 if strong else 0.25, strong=strong)  # fmt: skip
        note(ax, x - 1.2, y + 2.2, name, NORMAL, bold=True, ha="right")
        arrow(ax, (x + 16.4, y + 2.2), (53.2, 16.8 if name == "v" else 18.2), thing="attention")
        start = (project.bottom[0] + (1.4 if name == "k" else -1.4), project.bottom[1])
        below = 13.4 if name == "k" else 1.4
        line(ax, [start, (start[0], below), (new, below)], "attention")
        arrow(ax, (new, below), (new, y - 0.2), thing="attention")
    brace(ax, (x, 6.6), (x + step * tokens - 0.2, 6.6), f"{tokens} kept tokens")
    note(ax, 18.4, 8.4, "the new k and v\njoin the old ones", ha="right")
    note(
        ax,
        63,
        7,
        f"{len(pebble.blocks)} blocks\n× 2 (k and v)\n× {part.key_heads} heads\n× {part.size} numbers",
        ha="right",
    )
    show(
        ax,
        "The cache in one block. Only the new token's row is computed. Its query looks at all keys: the old ones "
        "from the cache, and its own.",
        "A new row goes through project; its key and value are put behind the kept ones, and its query goes to mix "
        "together with all of them.",
    )


def memory(rows: Sequence[tuple[str, float, float]], tokens: int) -> None:
    """Draw the bytes of weights and of the cache for several models: (name, weights, cache), in GB."""
    step = 7
    ax = canvas(step * len(rows) + 6)
    top, unit = step * len(rows) + 3, 34 / max(weights + cache for _, weights, cache in rows)
    for i, (name, weights, cache) in enumerate(rows):
        y = top - step * (i + 1) + 2
        note(ax, 15, y + 1.8, name, ha="right", bold=True)
        ax.add_patch(Rectangle((16, y), weights * unit, 3.6, facecolor=THINGS["old"][1], edgecolor=THINGS["old"][0]))
        ax.add_patch(Rectangle((16 + weights * unit, y), max(cache * unit, 0.2), 3.6, facecolor=THINGS["attention"][0]))
        note(ax, 17 + (weights + cache) * unit, y + 1.8, f"{weights:.1f} + {cache:.2f} GB", ha="left")
    ax.add_patch(Rectangle((16, 1), 2, 1.8, facecolor=THINGS["old"][1], edgecolor=THINGS["old"][0]))
    note(ax, 19, 1.9, "weights", ha="left")
    ax.add_patch(Rectangle((29, 1), 2, 1.8, facecolor=THINGS["attention"][0]))
    note(ax, 32, 1.9, f"cache for {tokens:,} tokens", ha="left")
    show(
        ax,
        f"Weights and cache at {tokens:,} tokens, both in numbers of two bytes, for one conversation. Ten "
        "conversations at once share the weights, and need ten caches.",
        "A bar for each model: the weights, and behind them the cache.",
    )


def measured(results: Mapping[str, Sequence[tuple[float, float, float]]], base: float) -> None:
    """Draw the share of broken word pairs by temperature, (heat, share, standard error), one line for each rule."""
    ax = canvas(36)
    low, high, tall = 3e-4, 0.8, 27
    plot = chart(ax, 9, 6, 36, tall, xlim=(0.9, 2.1), ylim=(low, high), yscale="log")
    things = ("alarm", "old", "token", "token", "stream")
    looks = zip(results.items(), things, ("o", "^", "s", "s", "D"), strict=True)
    below = 99.0
    for (name, points), thing, marker in sorted(looks, key=lambda look: -look[0][1][-1][1]):
        heats, shares, errors = (np.array(column) for column in zip(*points, strict=True))
        first = name.endswith("first")  # the same rule as another line, in the other order
        plot.errorbar(heats, shares, errors, color=THINGS[thing][0], marker=marker, markersize=7, linewidth=2,
                      capsize=3, linestyle=":" if first else "-", mfc="white" if first else None)  # fmt: skip
        below = min(6 + tall * np.log(shares[-1] / low) / np.log(high / low), below - 2.2)
        note(ax, 46.4, below, name, ha="left", colour=thing, bold=True)
    plot.axhline(base, color=FAINT, linestyle="--", linewidth=1)
    plot.set_xticks([1, 1.5, 2])
    plot.set_yticks([0.001, 0.01, 0.1, 0.5], ["0.1%", "1%", "10%", "50%"])
    plot.minorticks_off()
    note(ax, 27, 1.8, "temperature", colour=FAINT)
    note(ax, 2, 34.6, "word pairs that Pebble has never read", ha="left", bold=True)
    show(
        ax,
        "Means with standard errors; each step upwards is ten times as much. Dashed: new text by Pebble's teacher. "
        "At a temperature of 1, top-p and min-p leave much less than no rule. When it gets hot, top-p after the "
        "temperature fails. Min-p, or top-p before the temperature, stays below 2%.",
        "Five lines over the temperature. At 1, plain sampling and top-k are above top-p and min-p. Plain sampling "
        "rises to nearly half, top-p almost as high, top-k less; min-p, and top-p before the temperature, stay low.",
    )
