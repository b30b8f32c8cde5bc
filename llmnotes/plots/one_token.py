"""The pictures of the lesson "One token through Pebble". Each takes the reader's own numbers and shows itself."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Polygon, Rectangle

from llmnotes.plots.drawing import (
    FAINT,
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
    matrix,
    note,
    plus,
    show,
    vector,
)


def seen(token: str) -> str:
    """Return a token as it is written in pictures: a space that belongs to it can be seen.

    >>> seen(" cat"), seen("<|bos|>")
    ('␣cat', '‹start›')
    """
    return {"<|bos|>": "‹start›"}.get(token, token.replace(" ", "␣"))


def tokens_to_rows(tokens: Sequence[str], ids: Sequence[int], x: np.ndarray) -> None:
    """Show each token, its id, and the row of the table that becomes its row of x."""
    ax = canvas(33)
    for i, (token, number, row) in enumerate(zip(tokens, ids, x, strict=True)):
        y = 24.5 - 4 * i
        spot = box(ax, 1, y, 10.4, 3.2, seen(token))
        arrow(ax, spot.right, (13.6, y + 1.6), thing="table")
        note(ax, 18.4, y + 1.6, f"row {number}", code=True)
        arrow(ax, (23.2, y + 1.6), (26, y + 1.6), thing="table")
        vector(ax, 26.6, y, [*row[:3], row[-1]], top=0.3, cell_width=6.2, dots=True)
    note(ax, 6.2, 30.4, "token", bold=True)
    note(ax, 18.4, 30.4, "id", bold=True)
    note(ax, 40.5, 30.4, f"its row: {x.shape[1]} numbers", bold=True, colour="stream")
    brace(ax, (55.2, 27.7), (55.2, 4.5), f"{len(x)} rows", side="right")
    note(ax, 40.5, 2, f"x, of shape {x.shape}", NORMAL, bold=True, colour="stream")
    show(
        ax,
        "Six tokens become six rows of the table; ␣ stands for the space that belongs to a token. The larger a "
        "number (the sign doesn't count), the darker its cell.",
        "The six tokens of the prompt one below the other, each with its id and the first numbers of its row.",
    )


def one_table_two_jobs(
    token: str, number: int, names: Sequence[str], scores: Sequence[float] | np.ndarray, table: np.ndarray
) -> None:
    """Show the table at both ends: a row looked up, and compared with all rows; `names` have the best scores."""
    ax = canvas(32)
    rows, width = table.shape
    note(ax, 16, 30, "on the way in:\nlook up a row", bold=True)
    note(ax, 46, 30, "on the way out:\ncompare with all rows", bold=True)
    spot = box(ax, 1, 19.4, 6, 3.4, seen(token))
    way_in = matrix(ax, 14, 7.6, 10, 18, thing="table", mark=0.25)
    note(ax, 19, 15.6, "table", NORMAL, bold=True)
    note(ax, 19, 12, f"{rows} rows\nof {width}")
    arrow(ax, spot.right, (13.8, 21.1), f"id {number}", thing="table")
    arrow(ax, (24.2, 21.1), (32.8, 21.1), "its row", thing="stream")
    way_out = matrix(ax, 33, 7.6, 10, 18, thing="table")
    note(ax, 38, 15.8, "the same\ntable", NORMAL, bold=True)
    arrow(ax, (43.2, 21.1), (46.2, 21.1), thing="table")
    bars(ax, 52.6, 23.2, [seen(name) for name in names], scores, "table", length=5.4, form="{:.2f}")
    note(ax, 55, 24.8, "score")
    note(ax, 54.4, 10.6, f"best match:\n{seen(names[0])}, itself", NORMAL, colour="alarm", bold=True)
    brace(ax, (way_in.x, 7), (way_out.x + way_out.w, 7), f"one and the same {table.size:,} numbers")
    show(
        ax,
        "The table is used twice: one row is looked up on the way in, and all rows are compared with the result "
        "on the way out. With nothing in between, ␣a is most like ␣a.",
        "The table of embeddings drawn twice, with an arrow between the two, and the three best scores at the right.",
    )


def _part(ax: Axes, main: float, y: float, thing: str, name: str, weights: int, norm: int, small: str) -> None:
    """Draw a loop of the line at x = `main`: a copy leaves at y, is normed and worked on, and is added back."""
    line(ax, [(main, y), (main + 9, y)])
    arrow(ax, (main + 8.6, y), (main + 11, y), thing="stream")
    box(ax, main + 11.2, y - 1.7, 9, 3.4, "norm", "norm", size=SMALL)
    arrow(ax, (main + 20.4, y), (main + 22.8, y), thing="norm")
    spot = box(ax, main + 23, y - 2.6, 15, 5.2, name, thing, small)
    line(ax, [spot.bottom, (spot.bottom[0], y - 4.8)], thing)
    arrow(ax, (spot.bottom[0], y - 4.8), (main + 1.5, y - 4.8), thing=thing)
    plus(ax, main, y - 4.8, thing, r=1.3)
    note(ax, 62.2, y, f"{norm:,} + {weights:,}", ha="right", code=True)


def weights_by_part(W: Mapping[str, np.ndarray]) -> dict[str, int]:
    """Return how many weights the table, the attentions, the MLPs and the norms have, and all together."""
    parts = {"table": "embed_tokens", "attention": "attn", "mlp": "mlp", "norms": "norm"}
    counts = {part: sum(w.size for name, w in W.items() if word in name) for part, word in parts.items()}
    return counts | {"total": sum(counts.values())}


def whole_model(prompt: str, x: np.ndarray, W: Mapping[str, np.ndarray], layers: int = 4) -> None:
    """Show all of the model as one line with two loops in each block, and the weights of each part."""
    counts, table = weights_by_part(W), W["model.embed_tokens.weight"]
    tokens, width = x.shape
    ax = canvas(59)
    main = 9
    line(ax, [(main, 50), (main, 16)], width=4)
    note(ax, 63, 56.8, "weights", bold=True, ha="right")
    ids = box(ax, 1, 54.6, 16, 3.6, prompt)
    arrow(ax, ids.bottom, (main, 51.9), f"({tokens},)", side="right")
    box(ax, 1, 47.4, 26, 4.4, "table: look up", "table")
    note(ax, 63, 49.6, f"{counts['table']:,}", ha="right", code=True)
    note(ax, main + 1.6, 45.4, f"({tokens}, {width})", ha="left", colour=FAINT)
    frame(ax, 1, 18.4, 62.4, 25)
    note(ax, 63, 44.8, "a block", ha="right", bold=True)
    _part(ax, main, 39, "attention", "attention", counts["attention"] // layers, width, "q  k  v  o")
    note(ax, main + 22.6, 35.6, "positions turn q and k", ha="right", colour="attention")
    _part(ax, main, 28, "mlp", "MLP", counts["mlp"] // layers, width, "gate  up  down")
    note(ax, main + 22.6, 24.6, "each row alone", ha="right", colour="mlp")
    note(ax, 62.2, 20.2, f"× {layers}", NORMAL, ha="right", bold=True)
    box(ax, 1, 13, 26, 3.4, "norm", "norm", size=SMALL)
    note(ax, 63, 14.7, f"{width}", ha="right", code=True)
    arrow(ax, (main, 12.8), (main, 10.4), thing="norm", width=3)
    box(ax, 1, 5.8, 26, 4.4, "table: compare", "table")
    note(ax, 63, 8, "the same table", ha="right", colour=FAINT)
    arrow(ax, (main, 5.6), (main, 3.2), thing="table", width=3)
    note(ax, 1, 1.6, f"({tokens}, {len(table)}) scores", ha="left", bold=True, colour="table")
    note(ax, 63, 1.6, f"together {counts['total']:,}", ha="right", bold=True)
    show(
        ax,
        "All of Pebble. The thick blue line is x. In each block, two parts read a normed copy of it and add what "
        "they found; x itself goes straight through all the blocks. Only then is it normed for good, and compared.",
        "A vertical line from the table at the top to the last norm, then the table again; in a frame, marked four "
        "times, two loops leave it and return to it: norm and attention, norm and MLP. The number of weights stands "
        "at the right.",
    )


def to_scale(W: Mapping[str, np.ndarray]) -> None:
    """Show every matrix of the model with an area in proportion to its size."""
    counts = weights_by_part(W)
    ax = canvas(36)
    unit = 55 / 3300
    high = 256 * unit

    def row(y, parts, label):
        at = 7.6
        for name, weights, thing in parts:
            wide = weights / 256 * unit
            ax.add_patch(
                Rectangle((at, y), wide, high, facecolor=THINGS[thing][1], edgecolor=THINGS[thing][0], linewidth=1.3)
            )
            note(ax, at + wide / 2, y + high / 2, name, bold=len(name) > 1, room=wide)
            at += wide + 0.3
        note(ax, 7, y + high / 2, label, ha="right", colour=FAINT)

    row(31, [(f"table {counts['table'] / counts['total']:.0%}", counts["table"], "table")], "")
    for i in range(4):
        names = [(n, f"self_attn.{n}_proj", "attention") for n in "qkvo"]
        names += [(n, f"mlp.{n}_proj", "mlp") for n in ("gate", "up", "down")]
        start = f"model.layers.{i}."
        row(25 - 5 * i, [(n, W[f"{start}{long}.weight"].size, thing) for n, long, thing in names], f"block {i}")
    split = 7.6 + 768 * unit + 1
    sides = ((7.6, split, "attention", "attention"), (split + 0.3, 7.6 + 3072 * unit + 1.8, "mlp", "MLP"))
    for start, end, thing, name in sides:
        brace(ax, (start, 9.4), (end, 9.4))
        note(ax, (start + end) / 2, 6.6, f"{name} {counts[thing] / counts['total']:.0%}", NORMAL, thing, bold=True)
    side = (counts["norms"] / 256 * unit * high) ** 0.5
    ax.add_patch(Rectangle((7.6, 1.8), side, side, facecolor=THINGS["norm"][0]))
    note(
        ax,
        9.4,
        2.1,
        f"all nine norms together: {counts['norms'] / counts['total']:.2%}",
        ha="left",
        bold=True,
        colour="norm",
    )
    show(
        ax,
        "Every matrix of Pebble, drawn to scale: equal areas hold equally many numbers. Most of the model is MLP; "
        "the norms are one small square.",
        "One rectangle for the table and seven for each of the four blocks, with areas in proportion to their sizes.",
    )


def stream(ax: Axes, y: float, lengths: Sequence[float] | np.ndarray | None = None) -> list[float]:
    """Draw the residual line with eight parts that add to it; return the x of the nine stations."""
    step, first = 6.7, 6.4
    stations = [3.2, *(first + step * i + 4.9 for i in range(8))]
    for i, (start, end) in enumerate(zip([1.2, *stations[1:]], [*stations[1:], 60.6], strict=True)):
        width = 5 if lengths is None else 1.5 + 10 * lengths[i] / max(lengths)
        ax.plot((start, end), (y, y), color=THINGS["stream"][0], linewidth=width, zorder=2, solid_capstyle="butt")
    ax.add_patch(Polygon([(60.4, y + 1.5), (62.8, y), (60.4, y - 1.5)], facecolor=THINGS["stream"][0], zorder=2))
    for i in range(8):
        thing, x = ("attention", "mlp")[i % 2], first + step * i + 2.8
        line(ax, [(x - 1.9, y), (x - 1.9, y + 5.2)])
        box(ax, x - 3.1, y + 5.3, 6.2, 4.8, ("attn", "MLP")[i % 2], thing, size=SMALL)
        arrow(ax, (x + 2.1, y + 5.3), (x + 2.1, y + 1.3), thing=thing)
        plus(ax, x + 2.1, y, thing, r=1.1)
    for b in range(4):
        brace(ax, (first + step * 2 * b, y + 11), (first + step * (2 * b + 2) - 1, y + 11), f"block {b}", side="above")
    return stations


def stream_lengths(lengths: Sequence[float] | np.ndarray) -> None:
    """Show the line that gets thicker: the length of a row after each of nine additions."""
    ax = canvas(24)
    for x, length in zip(stream(ax, 8, lengths), lengths, strict=True):
        line(ax, [(x, 6.4), (x, 5.2)], "old", 0.9)
        note(ax, x, 3.9, f"{length:.1f}" if length < 10 else f"{length:.0f}", bold=True, colour="stream")
    note(ax, 32, 1.4, "length of the row after each addition", colour=FAINT)
    show(
        ax,
        "The row of ␣a on its way through the model. Each part reads it and adds to it. The row gets longer and "
        "longer, and the line thicker.",
        "A line from left to right; attention and MLP of four blocks each branch off and add back into it; the length "
        "of the row is written below each addition.",
    )


def norm_steps(row: np.ndarray, g: np.ndarray, eps: float = 1e-6) -> None:
    """Show RMSNorm of one row step by step."""
    ax = canvas(46)
    rms = float(np.sqrt(np.mean(row**2) + eps))
    pick = [0, 1, 2, 3, 255]

    def strip(y, values, label, thing, form, top):
        note(ax, 15, y + 1.6, label, NORMAL, ha="right", bold=True)
        vector(ax, 16.6, y, [values[i] for i in pick], thing, 8, form=form, top=top, dots=True)

    strip(41, row, "$x$", "stream", "{:+.3f}", 0.2)
    arrow(ax, (32, 40.8), (32, 37.2), "square each", side="right")
    strip(33.8, row**2, "$x^2$", "stream", "{:.4f}", 0.03)
    arrow(ax, (32, 33.6), (32, 30), f"mean of all {len(row)}, then the root", side="right")
    box(ax, 21, 25.4, 22, 4.4, f"rms = {rms:.3f}", "norm")
    arrow(ax, (32, 25.2), (32, 21.6), "divide x by it", side="right")
    strip(18.2, row / rms, r"$x\,/\,\mathrm{rms}$", "stream", "{:+.2f}", 2.2)
    note(ax, 32, 15.8, "⊙", LARGE, bold=True)
    note(ax, 34.2, 15.8, "times, column by column", ha="left")
    strip(10.4, g, "learned  $g$", "norm", "{:.2f}", 0.5)
    note(ax, 32, 8, "=", LARGE, bold=True)
    strip(2.6, g * row / rms, "RMSNorm", "stream", "{:+.2f}", 0.4)
    show(
        ax,
        "RMSNorm on the row of ␣a. First the division: one number, the rms, is taken from the row itself. Then "
        f"g: {len(g)} factors that were learned and are the same for every row.",
        "Strips of numbers from top to bottom: x, its squares, the rms, x divided by it; below that g, which "
        "multiplies it, and the product.",
    )


def two_are_one(up: np.ndarray, down: np.ndarray) -> None:
    """Show that two matrices in a row are one small matrix."""
    ax = canvas(25)
    (inner, outer), product = up.shape, down.shape[0] * up.shape[1]
    matrix(ax, 4, 3, 6, 18, "up", "mlp", cols=f"{outer}")
    note(ax, 10.6, 12, f"{inner}", ha="left", colour=FAINT)
    note(ax, 17, 12, "then", NORMAL)
    matrix(ax, 20.6, 9, 18, 6, "down", "mlp", cols=f"{inner}")
    note(ax, 39.2, 12, f"{outer}", ha="left", colour=FAINT)
    note(ax, 46, 12, "=", LARGE, bold=True)
    matrix(ax, 50, 9, 6, 6, "", "alarm", cols=f"{outer}")
    note(ax, 56.6, 12, f"{outer}", ha="left", colour=FAINT)
    note(ax, 53, 6.4, "one small matrix", colour="alarm", bold=True)
    show(
        ax,
        f"Two matrices in a row do what one matrix can do. With nothing between them, {up.size + down.size:,} "
        f"weights are worth {product:,}.",
        "A tall matrix and a wide one, and equal to both together a small square one.",
    )


def bends(z: np.ndarray, h: np.ndarray) -> None:
    """Show ReLU and SiLU, how many units have which z, and how much they write: three charts above each other."""
    ax = canvas(54)
    green, edges, limits = THINGS["mlp"][0], np.arange(-12, 10.01), (-12.4, 10.4)
    at = np.linspace(*limits, 400)
    curves = chart(ax, 6, 37, 56, 14, xlim=limits, ylim=(-2.4, 10))
    curves.plot(at, np.maximum(at, 0), color=FAINT, linewidth=2, linestyle="--")
    curves.plot(at, at / (1 + np.exp(-at)), color=green, linewidth=3)
    counted = chart(ax, 6, 21.6, 56, 9, xlim=limits)
    counted.hist(z, bins=edges.tolist(), color=THINGS["mlp"][1], edgecolor=green)
    spoken = chart(ax, 6, 6.4, 56, 9, xlim=limits)
    spoken.hist(z, bins=edges.tolist(), weights=np.abs(h), color=green, edgecolor="white")
    for axes in (curves, counted, spoken):
        axes.axvline(0, color=FAINT, linewidth=0.8)
    for axes in (curves, counted):
        axes.set_xticklabels([])
    note(ax, 6, 52.4, "ReLU, dashed, and SiLU", NORMAL, bold=True, ha="left")
    note(ax, 6, 32.4, f"how many of the {len(z)} units have this z", NORMAL, bold=True, ha="left")
    note(ax, 6, 17.2, "how much they write together (sum of |h|)", NORMAL, bold=True, colour="mlp", ha="left")
    curves.text(-11.8, 1.4, "far below 0: shut", size=SMALL)
    curves.text(-0.3, -2.3, "a little negative", size=SMALL, va="bottom", ha="right")
    curves.text(5.4, 8, "above 0: open", size=SMALL, ha="right")
    note(ax, 34, 1.8, "z: what gate says about ␣a", colour=FAINT)
    below, share = np.mean(z < 0), np.abs(h[z < 0]).sum() / np.abs(h).sum()
    show(
        ax,
        f"One axis, three views. Above, the bend. In the middle, z for the row of ␣a: {below:.0%} of the units are "
        f"below 0. At the bottom, what comes of it: these units write {share:.0%} of the sum of all |h|.",
        "The curves of ReLU and SiLU; below them a histogram of the gate values, most of them negative; and below that "
        "how much the units of each bar write, which is nearly all at the right of 0.",
    )


def both_questions(animals: Sequence[str], places: np.ndarray, names: Sequence[str]) -> None:
    """Show gate against up of one unit, (animals, without and with "baby", [z, up, h]); `names` are written beside."""
    ax = canvas(46)
    z, up = np.meshgrid(np.linspace(-12, 11, 240), np.linspace(-10, 7, 200))
    h = np.abs(z / (1 + np.exp(-z)) * up)
    plot = chart(ax, 8, 6, 54, 36, xlim=(-12, 11), ylim=(-10, 7))
    plot.contourf(z, up, h, [5, 15, 30, 200], colors=["#eef7f0", "#d3ebd9", "#acd6b8"], zorder=0)
    plot.axhline(0, color=FAINT, linewidth=0.8)
    plot.axvline(0, color=FAINT, linewidth=0.8)
    plot.plot(*places[:, 0, :2].T, "o", markerfacecolor="white", color=THINGS["old"][0], markersize=6)
    plot.plot(*places[:, 1, :2].T, "o", color=THINGS["mlp"][0], markersize=7)
    for name, (old, new) in zip(animals, places[:, :, :2], strict=True):
        form = {"color": THINGS["token"][0], "linewidth": 1.4} if name in names else {"color": FAINT, "linewidth": 0.6}
        plot.annotate("", new, old, arrowprops={"arrowstyle": "->", "shrinkA": 4, "shrinkB": 4} | form)
        if name not in names:
            continue
        dx, dy, side = (-0.4, 0, "right") if new[0] < 0 else (0.4, 0, "left") if new[0] < 6 else (0, -0.85, "center")
        plot.text(new[0] + dx, new[1] + dy, name, size=SMALL, ha=side, va="center", weight="bold")
    note(ax, 35, 1.8, "z, from gate", NORMAL, bold=True)
    note(ax, 1.8, 43.9, "up", NORMAL, bold=True, ha="left")
    note(ax, 30, 43.9, "○ without baby", NORMAL, ha="right")
    note(ax, 34, 43.9, "● with baby", NORMAL, "mlp", ha="left", bold=True)
    show(
        ax,
        f"Unit 82 and all {len(animals)} animals, without baby (open) and with it (full), an arrow for each. "
        "The darker the ground, the "
        "larger the product. The two dark corners are the “both”: the baby cat sits deep in one, and most animals "
        "stay out.",
        "A plane with z from left to right and up from bottom to top. Open dots lie mostly at the left and in the "
        "middle; an arrow leads from each to the right and down to its full dot; "
        "the baby cat is far to the right and low, where the ground is dark.",
    )


def mlp_shapes(row: np.ndarray, gate: np.ndarray, up: np.ndarray, down: np.ndarray) -> None:
    """Show one row on its way through the gated MLP."""
    ax = canvas(35)
    z = row @ gate.T
    result = (z / (1 + np.exp(-z)) * (row @ up.T)) @ down.T

    def strip(x, values, thing):
        note(ax, x + 1, 27.4, str(len(values)), colour=FAINT)
        for i, value in enumerate(values[:9]):
            cell(ax, x, 24 - 1.8 * i, 2, 1.8, "", thing, abs(value) / np.abs(values[:9]).max())
        note(ax, x + 1, 8, "⋮", NORMAL, colour=FAINT)

    def shape(w):
        return f"{w.shape[0]}×{w.shape[1]}"

    strip(2, row, "stream")
    first = matrix(ax, 12.6, 19, 8.6, 13, "gate", "mlp", small=shape(gate))
    second = matrix(ax, 12.6, 2.4, 8.6, 13, "up", "mlp", small=shape(up))
    arrow(ax, (4.2, 19.6), (12.3, 25), thing="stream")
    arrow(ax, (4.2, 15.6), (12.3, 9.4), thing="stream")
    silu = box(ax, 27, 23, 8, 4.8, "SiLU", "mlp", size=SMALL)
    arrow(ax, first.right, silu.left, f"z: {len(gate)}", thing="mlp")
    times = plus(ax, 36.4, 17, "mlp", "×", r=1.6)
    arrow(ax, silu.right, (36.6, 18.8), thing="mlp", bend=-0.5)
    arrow(ax, second.right, (36.2, 15.2), thing="mlp", bend=0.35)
    note(ax, 26, 6.6, f"{len(up)}")
    note(ax, 31, 31, "how far open?", NORMAL, bold=True, colour="mlp")
    note(ax, 32.4, 3.6, "how much, + or −?", NORMAL, bold=True, colour="mlp")
    third = matrix(ax, 44, 13.3, 13, 7.4, "down", "mlp", small=shape(down))
    arrow(ax, times.right, third.left, "h", thing="mlp")
    note(ax, 50.5, 23.4, "saying what?", NORMAL, bold=True, colour="mlp")
    arrow(ax, third.right, (59.6, 17), thing="mlp")
    strip(60, result, "mlp")
    note(ax, 50, 5, "no arrow comes from\nanother token", colour=FAINT)
    show(
        ax,
        "The MLP for one token. `gate` and `up` give each unit one number; their product h says "
        "how much of its column of `down` each unit adds to the row.",
        "A row of numbers splits into two branches, gate with SiLU and up, which are multiplied and led through down.",
    )


def block_shapes(q: np.ndarray, k: np.ndarray, x: np.ndarray, W: Mapping[str, np.ndarray]) -> None:
    """Show one block with the shapes on its arrows; q and k are those of its attention."""
    ax = canvas(63)
    (tokens, hidden), main, inner, narrow = (
        x.shape,
        15,
        len(W["model.layers.0.mlp.up_proj.weight"]),
        k.shape[0] * k.shape[2],
    )
    width, heads = f"({tokens}, {hidden})", f"{len(q)} for q, {len(k)} for k and v"
    line(ax, [(main, 61.4), (main, 2)], width=4)
    arrow(ax, (main, 4), (main, 0.6), thing="stream", width=4)
    note(ax, main + 1.8, 60.6, "x", LARGE, bold=True, colour="stream")
    for top, name, thing, shapes in (
        (57, "attention", "attention", f"q, o {hidden} × {hidden}    k, v {narrow} × {hidden}\nheads: {heads}"),
        (28, "MLP", "mlp", f"gate, up {inner} × {hidden}    h ({tokens}, {inner})\ndown {hidden} × {inner}"),
    ):
        note(ax, main - 1.6, top + 1.4, width, ha="right", colour=FAINT)
        line(ax, [(main, top), (38, top)])
        norm = box(ax, 27, top - 7.4, 22, 4.4, "RMSNorm", "norm")
        arrow(ax, (38, top), norm.top, thing="stream")
        note(ax, 63, norm.left[1], f"{hidden}", ha="right", code=True)
        spot = box(ax, 20.8, top - 20.4, 34.4, 9, "", thing)
        note(ax, 38, top - 13.2, name, NORMAL, bold=True)
        note(ax, 38, top - 17.2, shapes)
        arrow(ax, norm.bottom, spot.top, width, thing="norm", side="right")
        note(ax, 63, spot.left[1], f"{weights_by_part(W)[thing] // 4:,}", ha="right", code=True)
        line(ax, [spot.bottom, (38, top - 23)], thing)
        arrow(ax, (38, top - 23), (main + 1.5, top - 23), thing=thing)
        note(ax, 26, top - 21.7, width)
        plus(ax, main, top - 23, thing, r=1.4)
    note(ax, main - 1.6, 2.6, width, ha="right", colour=FAINT)
    note(ax, 63, 60.6, "weights", bold=True, ha="right")
    show(
        ax,
        "One block with its shapes. Twice, a copy of x is normed, worked on and added back. What comes out has "
        "the shape of what went in, so blocks can be stacked.",
        "A vertical line with two loops: norm and attention, then norm and MLP, each ending in a plus on the line.",
    )
