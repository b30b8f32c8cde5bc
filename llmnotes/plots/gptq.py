"""The pictures of the lesson "GPTQ": two weights and their ellipses, a sweep over three, and where its moves come from.

Each takes the lesson's own numbers, draws, and shows itself. What GPTQ does to Pebble is drawn in `gptq_measured`.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.patches import Rectangle

from llmnotes.plots.drawing import (
    FAINT,
    INK,
    LARGE,
    NORMAL,
    THINGS,
    Numbers,
    Spot,
    arrow,
    canvas,
    cell,
    chart,
    note,
    show,
    signed,
)
from llmnotes.plots.drawing_numbers import minus


def layer(inputs: np.ndarray, weights: np.ndarray) -> None:
    """Draw a layer of one output: `inputs` (tokens, 2) times `weights` (2,), token by token."""
    ax = canvas(24.5)
    top, wide = np.abs(inputs).max(), 7.5
    note(ax, 11, 21.4, "weights $w$", NORMAL, "weight", "right", bold=True)
    for k, weight in enumerate(weights):
        cell(ax, 12 + wide * k, 19.6, wide, 3.6, f"{weight:g}", "weight", 0.5)
    for i, token in enumerate(inputs):
        y = 13.6 - 4.2 * i
        note(ax, 11, y + 1.8, f"token {i + 1}", ha="right")
        for k, number in enumerate(token):
            cell(ax, 12 + wide * k, y, wide, 3.6, minus(f"{number:g}"), "stream", abs(number) / top / 1.6)
        said = minus(" + ".join(f"{x:g} · {w:g}" for x, w in zip(token, weights, strict=True)).replace("+ -", "- "))
        note(ax, 40, y + 1.8, said)
        arrow(ax, (28, y + 1.8), (30.6, y + 1.8), thing="old")
        arrow(ax, (50.4, y + 1.8), (53, y + 1.8), thing="old")
        output = float(token @ weights)
        cell(ax, 54, y, wide, 3.6, signed(output, "{:.1f}"), "stream", abs(output) / 5)
    note(ax, 57.8, 19.6, "outputs", NORMAL, "stream", bold=True)
    show(
        ax,
        "Each token brings two numbers (blue). They are multiplied by the two weights (green) and added. The outputs "
        "on the right are what we want to keep.",
        "Four tokens with two inputs each, the two weights, and the four outputs: "
        + ", ".join(minus(f"{output:.1f}") for output in inputs @ weights),
    )


def contributions(inputs: np.ndarray, weights: np.ndarray, pairs: Sequence[Numbers]) -> None:
    """Draw for two roundings what each weight adds to the error of each output, end to end."""
    ax = canvas(29)
    unit, height = 5.6, 4.9
    totals = []
    for panel, pair in enumerate(pairs):
        x0 = 24.5 + 23 * panel
        parts = inputs * (np.asarray(pair, float) - weights)  # (tokens, 2)
        note(ax, x0, 27, f"{pair[0]:g} and {pair[1]:g}", LARGE, bold=True)
        ax.plot((x0, x0), (3.2, 25), color=INK, linewidth=1)
        for i, (first, second) in enumerate(parts):
            y = 21.6 - height * i
            if not panel:
                note(ax, 0.8, y, f"token {i + 1}", ha="left")
            for start, change, low, shade in ((0.0, first, y + 0.1, 0), (first, second, y - 1.7, 1)):
                ax.add_patch(
                    Rectangle(
                        (x0 + unit * min(start, start + change), low),
                        unit * abs(change),
                        1.6,
                        facecolor=THINGS["weight"][shade],
                        edgecolor=THINGS["weight"][0],
                        linewidth=1.1,
                        zorder=4,
                    )
                )
            total = first + second
            ax.plot((x0 + unit * total,) * 2, (y - 2, y + 2), color=THINGS["error"][0], linewidth=2.2, zorder=5)
            side = 1 if total > 0 or (total == 0 and first < 0) else -1
            far = max(0.0, first, total) if side > 0 else min(0.0, first, total)
            ha = "left" if side > 0 else "right"
            note(ax, x0 + unit * far + side * 0.9, y, signed(total, "{:.1f}"), colour="error", ha=ha, bold=True)
        totals.append(float(np.square(parts.sum(axis=1)).sum()))
        note(ax, x0, 1.6, f"squared and added: {totals[-1]:.2f}", colour="error")
    show(
        ax,
        "What the first weight (dark) and the second (pale) do wrong, laid end to end for each token; the red mark is "
        "the error of the output. On the left both errors push the same way. On the right they pull against each "
        "other.",
        f"Bars for four tokens and two roundings. Rounded to {pairs[0][0]:g} and {pairs[0][1]:g} the errors of the two "
        f"weights add up, and the squares make {totals[0]:.2f}; rounded to {pairs[1][0]:g} and {pairs[1][1]:g} they "
        f"partly cancel, {totals[1]:.2f}.",
    )


def valley(
    inputs: np.ndarray, weights: np.ndarray, ways: Mapping[str, tuple[str, Sequence[Numbers]]] | None = None
) -> None:
    """Draw curves of equal output error over two weights, the four roundings, and ways to them.

    `ways` are {name: (thing, points)}; the first point is the weights themselves.
    """
    ax = canvas(46)
    low, high, left, right = -0.42, 1.42, -0.71, 1.71
    hessian = inputs.T @ inputs
    plot = chart(ax, 8, 5.4, 52, 39.5, xlim=(left, right), ylim=(low, high), xticks=(0, 1), yticks=(0, 1))
    across, up = np.meshgrid(np.linspace(left, right, 300), np.linspace(low, high, 300))
    off = np.stack([across - weights[0], up - weights[1]], axis=-1)
    error = np.einsum("...i,ij,...j->...", off, hessian, off)
    plot.contour(across, up, error, levels=[0.4, 1.62, 4, 7.62, 14, 26], colors=FAINT, linewidths=1, alpha=0.6)
    plot.scatter(*weights, marker="*", s=210, color=THINGS["weight"][0], zorder=6)
    note(plot, weights[0] + 0.05, weights[1] + 0.1, "the weights", colour="weight", ha="left", bold=True)
    errors = {}
    for pair in ((0, 0), (1, 0), (0, 1), (1, 1)):
        delta = np.subtract(pair, weights)
        errors[pair] = float(delta @ hessian @ delta)
        plot.scatter(*pair, s=90, marker="s", color=THINGS["code"][0], zorder=6)
        high_up = 0.1 if pair[1] else -0.1
        spot = note(plot, pair[0], pair[1] + high_up, f"{errors[pair]:.2f}", NORMAL, "code", bold=True)
        spot.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 1, "alpha": 0.8})
    for name, (thing, points) in (ways or {}).items():
        for start, end in zip(points, points[1:], strict=False):
            plot.annotate(
                "",
                xy=(end[0], end[1]),
                xytext=(start[0], start[1]),
                arrowprops={"arrowstyle": "-|>", "color": THINGS[thing][0], "lw": 2, "shrinkA": 0, "shrinkB": 0},
                zorder=7,
            )
        sideways = points[-1][0] == 0
        place = (0.06, 0.86) if sideways else (0.78, 0.16)
        spot = note(plot, *place, name, colour=thing, ha="left" if sideways else "center", bold=True)
        spot.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 1, "alpha": 0.8})
    note(ax, 34, 1.6, "first weight")
    ax.text(2.4, 25, "second weight", rotation=90, ha="center", va="center", size=NORMAL - 1, color=INK)
    told = ", ".join(f"{pair[0]} and {pair[1]}: {value:.2f}" for pair, value in errors.items())
    if not ways:
        caption = (
            "All pairs of weights, seen from above. On each curve the squared error of the outputs is the same. The "
            "curves are long ellipses: where one weight goes up and the other down, the outputs hardly notice. The "
            "nearest corner lies across the valley, and two farther ones lie along it."
        )
    else:
        caption = (
            "Both ways round one weight, walk along that line to where the error is smallest, and round the other. "
            "Which weight comes first decides where we end."
        )
    show(ax, caption, f"Ellipses around the two weights, from the upper left to the lower right. The corners: {told}.")


def products(inputs: np.ndarray, hessian: np.ndarray, pair: tuple[int, int] = (0, 1)) -> None:
    """Draw how a matrix of inputs, (tokens, n), becomes the matrix of products of its columns, (n, n)."""
    ax = canvas(31)
    wide, i, k = 6.0, *pair
    top = np.abs(inputs).max()
    note(ax, 4 + 1.5 * wide, 26.6, "inputs $X$", NORMAL, "stream", bold=True)
    for row, token in enumerate(inputs):
        for column, number in enumerate(token):
            y = 19.6 - 4.4 * row
            cell(
                ax,
                4 + wide * column,
                y,
                wide,
                4.2,
                minus(f"{number:g}"),
                "stream",
                abs(number) / top / 1.6,
                strong=column in pair,
            )
    note(ax, 4 + 1.5 * wide, 3.6, f"{len(inputs)} tokens: a row each")
    arrow(ax, (24, 15), (39, 15), thing="token")
    note(ax, 31.5, 17.6, "$X^T X$", LARGE)
    note(ax, 40 + 1.5 * wide, 5.6, "$H$", LARGE, "scale", bold=True)
    for row in range(len(hessian)):
        for column in range(len(hessian)):
            value = hessian[row, column]
            marked = (row, column) == pair
            share = value / hessian.max() / 1.6
            cell(ax, 40 + wide * column, 17.4 - 4.4 * row, wide, 4.2, f"{value:g}", "scale", share, strong=marked)
    said = " + ".join(f"{a:g}·{b:g}" if min(a, b) >= 0 else f"({a:g})·({b:g})" for a, b in inputs[:, [i, k]])
    note(ax, 63, 27.6, minus(f"{said} = {hessian[i, k]:g}"), ha="right")
    arrow(ax, (40 + wide * (k + 0.5), 26.2), (40 + wide * (k + 0.5), 22), thing="scale")
    show(
        ax,
        "Each number of H is the dot product of two columns of X (framed: columns 1 and 2). H has as many rows as the "
        "layer has inputs, however many tokens came by.",
        f"A matrix of {len(inputs)} rows and {inputs.shape[1]} columns, and the symmetric matrix of the products of "
        f"its columns: {hessian.tolist()}",
    )


def sweep(states: Sequence[np.ndarray]) -> None:
    """Draw the weights before a sweep and after each column is rounded; `states` are arrays, one for each step."""
    count = len(states[0])
    ax = canvas(9.6 * len(states) - 1.4)
    wide, x0 = 12.4, 22.0
    spots: list[list[Spot]] = []
    for step, state in enumerate(states):
        y = 9.6 * (len(states) - 1 - step) + 1
        names = ["at first", *(f"column {i + 1} rounded" for i in range(count))]
        note(ax, 0.8, y + 2.2, names[step], NORMAL, ha="left", bold=True)
        row = []
        for i, value in enumerate(state):
            done = i < step
            text = signed(value, "{:.0f}" if done else "{:.2f}")
            share = 0.75 * abs(value) if done else min(abs(value), 1) * 0.7
            row.append(cell(ax, x0 + wide * i, y, wide, 4.4, text, "code" if done else "weight", share))
        spots.append(row)
    for step in range(1, len(states)):
        i = step - 1
        above, below = spots[step - 1], spots[step]
        arrow(ax, above[i].bottom, (below[i].top[0], below[i].top[1] + 0.2), thing="code")
        off = float(states[step][i] - states[step - 1][i])
        middle = (above[i].y + below[i].top[1]) / 2
        note(ax, above[i].bottom[0] - 0.9, middle, f"off by {signed(off)}", colour="error", ha="right")
        for k in range(i + 1, count):
            move = float(states[step][k] - states[step - 1][k])
            start, end = above[k].bottom, below[k].top
            arrow(ax, start, (end[0], end[1] + 0.2), thing="weight")
            note(ax, start[0] + 0.9, middle, signed(move), colour="weight", ha="left")
    last = " ".join(minus(f"{value:.0f}") for value in states[-1])
    show(
        ax,
        "The sweep, step by step. A column is rounded (magenta), and all columns right of it move (green) to where the "
        "outputs suffer least from what happened so far. Then the next column is rounded from where it is now.",
        f"Rows of {count} cells: at first {', '.join(f'{value:.2f}' for value in states[0])}; after the last step "
        f"{last}. Arrows say how far each waiting weight moves.",
    )


def squares(hessian: np.ndarray) -> None:
    """Draw the three completed squares of a `hessian`, (3, 3), as a triangle with prices, and the triangle's "
    "inverse."""
    upper = np.linalg.cholesky(np.linalg.inv(hessian)).T
    inverse = (upper / upper.diagonal()[:, None]).T  # B⁻¹, whose columns are the moves
    brackets, prices = np.linalg.inv(inverse), 1 / upper.diagonal() ** 2
    ax = canvas(22)
    wide, high = 6.6, 4.2
    for x, name, values, thing in ((13, "brackets $B$", brackets, "scale"), (42, "$B^{-1}$", inverse, "weight")):
        note(ax, x + 1.5 * wide, 18.6, name, NORMAL, thing, bold=True)
        for row in range(3):
            y = 12.6 - high * row
            for column in range(3):
                value = float(values[row, column])
                text = "" if column > row else signed(value, "{:.2f}")
                share = 0 if column > row else abs(value) / np.abs(values).max() / 1.6
                strong = thing == "weight" and column == 0
                cell(ax, x + wide * column, y, wide, high, text, "old" if column > row else thing, share, strong=strong)
            if thing == "scale":
                note(ax, 12, y + high / 2, f"price {prices[row]:.2f}", ha="right")
    arrow(ax, (34, 10.5), (41, 10.5), "invert")
    note(ax, 42 + wide / 2, 1.8, "column 1 is off by 1", colour="weight", ha="center", bold=True)
    moves = [signed(value, "{:.2f}") for value in inverse[1:, 0]]
    show(
        ax,
        "Left, a row for each bracket, with the price of its square. Right, the same triangle inverted; the framed "
        f"column says what the columns do if column 1 ends up 1 too high: column 2 moves by {moves[0]}, column 3 by "
        f"{moves[1]}.",
        "Two triangles of three rows: the brackets "
        + "; ".join(", ".join(signed(v, "{:.2f}") for v in row[: k + 1]) for k, row in enumerate(brackets))
        + ", and their inverse.",
    )


def triangle(hessian: np.ndarray, upper: np.ndarray, moves: np.ndarray) -> None:
    """Draw the road from H to the table of moves: its inverse, the Cholesky factor of that, each row by its "
    "diagonal."""
    ax = canvas(41)
    inverse, wide, high = np.linalg.inv(hessian), 7.2, 4.2
    parts = (
        (4, 22.4, "$H$", hessian, "scale", "{:g}"),
        (38, 22.4, "$H^{-1}$", inverse, "scale", "{:.2f}"),
        (38, 2.4, "$U$, with $U^T U = H^{-1}$", upper, "table", "{:.2f}"),
        (4, 2.4, "table of moves", moves, "weight", "{:.2f}"),
    )
    spots = []
    for x, y, name, values, thing, form in parts:
        note(ax, x + 1.5 * wide, y + 3 * high + 1.7, name, NORMAL, thing, bold=True)
        for row in range(3):
            for column in range(3):
                value = float(values[row, column])
                empty = thing in ("table", "weight") and column < row
                text = "" if empty else signed(value, form)
                share = 0 if empty else abs(value) / np.abs(values).max() / 1.6
                at = (x + wide * column, y + high * (2 - row))
                cell(ax, *at, wide, high, text, "old" if empty else thing, share, strong=thing == "weight" and row == 0)
        spots.append(Spot(x, y, 3 * wide, 3 * high))
    arrow(ax, (spots[0].right[0] + 1, spots[0].right[1]), (spots[1].left[0] - 1, spots[1].left[1]), "invert")
    arrow(ax, (spots[1].bottom[0], spots[1].y - 0.8), (spots[1].bottom[0], 18.6))
    note(ax, spots[1].bottom[0] + 1.2, 20.2, "Cholesky", ha="left")
    arrow(ax, (spots[2].left[0] - 1, spots[2].left[1]), (spots[3].right[0] + 1, spots[3].right[1]))
    note(ax, 31.9, spots[2].left[1] + 4.4, "each row by\nits diagonal")
    first = [signed(value, "{:.2f}") for value in moves[0, 1:]]
    show(
        ax,
        f"One Cholesky factor holds all moves. The framed row says: if column 1 ends up 1 too high, column 2 moves by "
        f"{first[0]} and column 3 by {first[1]}. The row below says what column 2 asks of column 3, and so on.",
        "Four small matrices in a circle: H, its inverse, the triangle U, and the table of moves, in which each row of "
        "U is divided by its number on the diagonal.",
    )
