"""The pictures of notebook 03: four shopping baskets as arrows, their dot products, and the same with 256 numbers."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Arc, Circle

from llmnotes.plots.drawing import (
    FAINT,
    INK,
    LARGE,
    NORMAL,
    SMALL,
    THINGS,
    Numbers,
    arrow,
    box,
    brace,
    canvas,
    cell,
    chart,
    line,
    note,
    plus,
    show,
    signed,
)

ASKED, OTHERS, PRICES = "stream", "old", "table"  # the things: who asks, the others, the prices


def _plane(ax: Axes, x: float, y: float, w: float, xlim: tuple, ylim: tuple, labels: tuple[str, str]) -> Axes:
    """Return a panel in which a unit across is as long as a unit up, with a cross through zero."""
    h = w * (ylim[1] - ylim[0]) / (xlim[1] - xlim[0])
    plot = chart(ax, x, y, w, h, xlim=xlim, ylim=ylim)
    plot.grid(color="#e3e7eb", linewidth=0.8)
    plot.set_axisbelow(True)
    plot.set_xlabel(labels[0], size=SMALL, color=FAINT)
    plot.set_ylabel(labels[1], size=SMALL, color=FAINT)
    return plot


def _arrow(plot: Axes, end: Numbers, thing: str, start: Numbers = (0, 0), width: float = 2.4, dashed: bool = False):
    style = {"arrowstyle": "-|>,head_length=0.5,head_width=0.25", "color": THINGS[thing][0], "lw": width}
    style |= {"shrinkA": 0, "shrinkB": 0, "linestyle": (0, (4, 3)) if dashed else "-"}
    plot.annotate("", xy=(end[0], end[1]), xytext=(start[0], start[1]), arrowprops=style, zorder=4)


def _word(plot: Axes, x: float, y: float, text: str, thing: str = "token", ha: str = "left", bold: bool = True) -> None:
    plot.text(
        x,
        y,
        text,
        size=SMALL,
        color=THINGS[thing][0],
        ha=ha,
        va="center",
        weight="bold" if bold else "normal",
        zorder=9,
    )


def bill(prices: Numbers, basket: Numbers, goods: Sequence[str]) -> None:
    """Show a bill as two strips of numbers, multiplied place by place and added up."""
    ax = canvas(30)
    parts = [price * amount for price, amount in zip(prices, basket, strict=True)]
    for i, (good, price, amount, part) in enumerate(zip(goods, prices, basket, parts, strict=True)):
        x = 20 + 14 * i
        note(ax, x + 4, 28, good, bold=True)
        cell(ax, x, 22, 8, 3.6, f"{price:.0f}", PRICES, 0.25)
        note(ax, x + 4, 20.2, "×", NORMAL, bold=True)
        cell(ax, x, 15, 8, 3.6, f"{amount:.0f}", ASKED, 0.25)
        arrow(ax, (x + 4, 14.8), (x + 4, 11.8))
        cell(ax, x, 8, 8, 3.6, f"{part:.0f}", "token")
    for y, text, thing in ((23.8, "prices", PRICES), (16.8, "Ada's basket", ASKED), (9.8, "products", "token")):
        note(ax, 18.6, y, text, NORMAL, thing, ha="right", bold=True)
    plus(ax, 31, 9.8, "token")
    note(ax, 45.4, 9.8, "=", LARGE, bold=True)
    cell(ax, 48.5, 7.6, 9, 4.4, f"{sum(parts):.0f}", "token", 0.12, strong=True)
    note(ax, 53, 4.8, "the bill", bold=True)
    brace(ax, (20, 7), (42, 7), "add up")
    show(
        ax,
        "A dot product: multiply place by place, then add up.",
        f"The prices {' and '.join(f'{p:.0f}' for p in prices)} above Ada's amounts "
        f"{' and '.join(f'{a:.0f}' for a in basket)}; their products add up to {sum(parts):.0f}.",
    )


def baskets(names: Sequence[str], table: np.ndarray) -> None:
    """Show four baskets as rows of numbers and as arrows from zero."""
    ax = canvas(46)
    for x, head in ((11.2, "loaves"), (18, "apples")):
        note(ax, x, 41, head, bold=True)
    for i, (name, row) in enumerate(zip(names, table, strict=True)):
        y = 34.6 - 6 * i
        note(ax, 6.4, y + 1.7, name, NORMAL, ha="right", bold=True)
        for j, number in enumerate(row):
            cell(ax, 7.8 + 6.8 * j, y, 6.8, 3.4, f"{number:.0f}", ASKED, number / 14)
    note(ax, 14.6, 12, "a row is a basket,\na basket is an arrow")
    plot = _plane(ax, 31, 6.4, 31, (0, 9.6), (0, 11.6), ("loaves", "apples"))
    for i, (name, row) in enumerate(zip(names, table, strict=True)):
        _arrow(plot, row, ASKED if i == 0 else OTHERS)
        side = "center" if i == 1 else "left"
        _word(plot, row[0] + (0.15 if i != 1 else -0.15), row[1] + 0.45, name, ASKED if i == 0 else "token", side)
    plot.set(xticks=range(0, 10, 2), yticks=range(0, 11, 2))
    show(
        ax,
        "The same four baskets twice: as rows of a table and as arrows. Loaves go to the right, apples go up.",
        "A table of loaves and apples for "
        + ", ".join(f"{name} ({row[0]:.0f}, {row[1]:.0f})" for name, row in zip(names, table, strict=True))
        + ", and beside it an arrow from zero for each.",
    )


def turning(start: np.ndarray, degrees: Sequence[int]) -> None:
    """Show an arrow of fixed length turning away from Ada's, and the dot product of the two."""
    ax = canvas(43)
    reach = float(np.linalg.norm(start))
    base = np.degrees(np.arctan2(start[1], start[0]))
    dots = []
    for i, turn in enumerate(degrees):
        small = _plane(ax, 1.2 + 12.6 * i, 27, 11.2, (-5, 5), (-5, 5), ("", ""))
        small.axis("off")
        small.add_patch(Circle((0, 0), reach, facecolor="none", edgecolor="#d5dae0"))
        end = reach * np.array([np.cos(np.radians(base - turn)), np.sin(np.radians(base - turn))])
        dots.append(round(float(np.dot(start, end)), 6) + 0.0)
        _arrow(small, start, ASKED, width=3.4 if turn else 4.6)
        _arrow(small, end, "token", width=1.8)
        note(ax, 6.8 + 12.6 * i, 40.6, f"{turn}° apart", bold=True)
    plot = chart(ax, 8, 6, 54, 17, xlim=(-8, 188), ylim=(-1.35 * reach**2, 1.35 * reach**2))
    curve = np.arange(181)
    plot.plot(curve, reach**2 * np.cos(np.radians(curve)), color=THINGS[OTHERS][0], linewidth=2)
    plot.axhline(0, color=INK, linewidth=0.8)
    plot.set_xticks(degrees, [f"{turn}°" for turn in degrees])
    for turn, dot in zip(degrees, dots, strict=True):
        plot.plot(turn, dot, "o", color=THINGS[ASKED][0], markersize=8, zorder=5)
        x, side = (turn - 4, "right") if turn > 150 else (turn + 3, "left")
        plot.text(x, dot + 5, signed(dot, "{:.0f}"), size=NORMAL, weight="bold", color=INK, va="center", ha=side)
    note(ax, 35, 1.6, "angle between the two arrows; up: their dot product", colour=FAINT)
    show(
        ax,
        "Ada's arrow (blue) and an arrow of the same length that turns away from it. Their dot product goes from its "
        "largest value through zero, at a right angle, to its negative.",
        "Five pairs of arrows with growing angles, and below a cosine curve through their dot products "
        + ", ".join(f"{dot:.0f}" for dot in dots)
        + ".",
    )


def shadows(prices: np.ndarray, names: Sequence[str], two: np.ndarray) -> None:
    """Show two baskets that cost the same: they cast the same shadow on the arrow of the prices."""
    ax = canvas(42)
    plot = _plane(ax, 7, 6.4, 40, (0, 6.2), (0, 4.9), ("loaves", "apples"))
    spot = two[0] @ prices / (prices @ prices) * prices
    plot.plot((0, 2.2 * prices[0]), (0, 2.2 * prices[1]), color=THINGS[PRICES][0], linewidth=1, linestyle=":", zorder=2)
    _arrow(plot, prices, PRICES)
    plot.plot((0, spot[0]), (0, spot[1]), color=THINGS[PRICES][0], linewidth=7, alpha=0.35, zorder=2)
    for name, basket, thing, shift in zip(names, two, (ASKED, "token"), ((-0.12, 0.3), (0.3, 0.22)), strict=True):
        _arrow(plot, basket, thing)
        _arrow(plot, spot, thing, start=basket, width=1.3, dashed=True)
        _word(plot, basket[0] + shift[0], basket[1] + shift[1], name, thing, ha="center")
    plot.plot(*spot, "o", color=INK, markersize=7, zorder=6)
    _word(plot, spot[0] + 0.25, spot[1] + 0.02, "the shadow of both", bold=False)
    _word(plot, prices[0] - 0.75, prices[1] - 0.85, "prices", PRICES)
    plot.set(xticks=range(0, 7), yticks=range(0, 5))
    note(ax, 55.4, 31, "both cost", bold=True)
    note(ax, 55.4, 27.4, f"{two[0] @ prices:.0f}", LARGE, bold=True)
    note(ax, 55.4, 21, "shadow", bold=True)
    note(ax, 55.4, 17.6, f"({spot[0]:.2f}, {spot[1]:.2f})", code=True)
    note(ax, 55.4, 11.2, "what is left over", bold=True)
    note(ax, 55.4, 7.8, f"costs {np.abs((two - spot) @ prices).max():.0f}", NORMAL, bold=True)
    show(
        ax,
        "Drop a line from each basket onto the line of the prices, at a right angle. Ada's and Otto's land on one "
        "point, so they pay the same. The dashed remainders cost nothing.",
        f"The arrow of the prices; dashed lines lead from the ends of Ada's and Otto's arrows to the same point "
        f"({spot[0]:.2f}, {spot[1]:.2f}) on its line.",
    )


def unit_circle(names: Sequence[str], table: np.ndarray, cosines: Numbers) -> None:
    """Show all baskets shortened to length 1, with the angle and the cosine to the first."""
    ax = canvas(36)
    plot = _plane(ax, 7, 6, 28, (0, 1.22), (0, 1.22), ("loaves", "apples"))
    plot.add_patch(Arc((0, 0), 2, 2, theta1=0, theta2=90, color=THINGS[OTHERS][0], linewidth=1.2))
    units = table / np.linalg.norm(table, axis=1, keepdims=True)
    for i, (name, unit) in enumerate(zip(names, units, strict=True)):
        _arrow(plot, unit, ASKED if i == 0 else OTHERS)
        thing = ASKED if i == 0 else "token"
        _word(
            plot, unit[0] + (0.02 if i != 1 else -0.03), unit[1] + 0.07, name, thing, ha="left" if i != 1 else "right"
        )
    plot.set(xticks=(0, 0.5, 1), yticks=(0, 0.5, 1))
    note(ax, 49.6, 30, "angle to Ada", bold=True)
    note(ax, 60, 30, "cosine", bold=True)
    best_first = sorted(range(len(names)), key=lambda i: -float(cosines[i]))
    for place, i in enumerate(best_first):
        y = 26 - 5 * place
        note(ax, 41.6, y, names[i], NORMAL, ASKED if i == 0 else "token", bold=True, ha="right")
        note(ax, 49.6, y, f"{np.degrees(np.arccos(min(float(cosines[i]), 1.0))):.0f}°", NORMAL)
        note(ax, 60, y, f"{cosines[i]:.2f}", NORMAL)
    show(
        ax,
        "All four arrows, shortened to length 1. Only the directions are left, and Cora's is the nearest to Ada's.",
        "Four arrows of length 1 on a quarter of a circle, with their cosines to Ada: "
        + ", ".join(f"{name} {cosine:.2f}" for name, cosine in zip(names, cosines, strict=True))
        + ".",
    )


def change_of_units(names: Sequence[str], table: np.ndarray, most: int) -> None:
    """Show everybody's angle to the first basket while the first column is counted in smaller and smaller pieces."""
    ax = canvas(38)
    pieces = np.geomspace(1, most, 400)
    angles = np.array([_angles(table * (k, 1)) for k in pieces])
    plot = chart(ax, 6, 7, 38, 28, xlim=(1, most), ylim=(0, 20), xscale="log", yticks=range(0, 21, 5))
    plot.set_xticks([1, 2, 5, 10, most], ["1", "2", "5", "10", f"{most}"])
    plot.minorticks_off()
    plot.grid(color="#e3e7eb", linewidth=0.8)
    things = ("attention", "stream", OTHERS)  # the second, the third, the fourth
    for i, thing in enumerate(things, start=1):
        plot.plot(pieces, angles[:, i], color=THINGS[thing][0], linewidth=2.6, zorder=4)
    for i, thing in ((1, things[0]), (2, things[1])):
        top = int(np.argmax(angles[:, i]))
        ring = {"markerfacecolor": "white", "markeredgecolor": THINGS[thing][0], "markeredgewidth": 2.2}
        plot.plot(pieces[top], angles[top, i], "o", markersize=8, zorder=5, **ring)
    cross = int(np.argmax(angles[:, 2] < angles[:, 1]))
    plot.plot(pieces[cross], angles[cross, 1], "o", color=INK, markersize=9, zorder=6)
    enters = int(np.argmax(angles[:, 3] < 20))
    _word(plot, 1.08, angles[0, 1] - 1.5, names[1], things[0])
    _word(plot, 1.08, angles[0, 2] + 2.4, names[2], things[1])
    _word(plot, pieces[enters] * 1.08, 19, names[3], "token")
    note(ax, 25, 2, f"pieces to a loaf, from 1 to {most}; up: angle to {names[0]}, in degrees", colour=FAINT)
    for y, at, title in ((33, 0, "in loaves"), (15, -1, "in slices")):
        note(ax, 54, y, title, NORMAL, bold=True)
        for place, i in enumerate(map(int, np.argsort(angles[at])[1:])):
            note(
                ax,
                53,
                y - 3.6 - 3.2 * place,
                names[i],
                colour=("token", *things[:2], "token")[i],
                ha="right",
                bold=True,
            )
            note(ax, 60.5, y - 3.6 - 3.2 * place, f"{angles[at, i]:.1f}°", ha="right")
    first, last = (", ".join(names[int(i)] for i in np.argsort(angles[at])[1:]) for at in (0, -1))
    between = int(pieces[cross])
    show(
        ax,
        f"The angles between {names[0]}'s arrow and the others, while a loaf is cut into more and more pieces. "
        f"Two grow at first, up to the rings. In the end all are small, and at the dot {names[2]} passes {names[1]}. "
        f"({names[3]} starts above the picture.)",
        f"Three lines that end low; those of {names[1]} and {names[2]} first rise a little. By angle to {names[0]}, in "
        f"loaves: {first}; with {most} slices to a loaf: {last}. "
        f"{names[2]} passes {names[1]} between {between} and {between + 1} pieces.",
    )


def _angles(table: np.ndarray) -> np.ndarray:
    """Return the angle of every row to the first, in degrees."""
    units = table / np.linalg.norm(table, axis=1, keepdims=True)
    return np.degrees(np.arccos(np.minimum(units @ units[0], 1)))


def standardizing(names: Sequence[str], raw: np.ndarray, scaled: np.ndarray) -> None:
    """Show the move of zero to the average basket, and the change of the unit to one standard deviation."""
    ax = canvas(35)
    middle = raw.mean(axis=0)
    plots = [
        (_plane(ax, 6.4, 6, 24, (-2, 10.6), (-2, 10.6), ("loaves", "apples")), raw, "as they are"),
        (_plane(ax, 38.6, 6, 24, (-2.1, 2.1), (-2.1, 2.1), ("loaves, in spreads", "")), scaled, "standardized"),
    ]
    for plot, table, title in plots:
        for i, row in enumerate(table):
            _arrow(plot, row, ASKED if i == 0 else OTHERS)
            x, y, side = _beside(plot, row, i)
            _word(plot, x, y, names[i], ASKED if i == 0 else "token", side)
        note(ax, 18.4 if table is raw else 50.6, 33, title, NORMAL, bold=True)
    plots[0][0].plot(*middle, "x", color=THINGS["alarm"][0], markersize=10, markeredgewidth=2.4, zorder=8)
    plots[0][0].set(xticks=range(0, 11, 2), yticks=range(0, 11, 2))
    plots[1][0].set(xticks=(-2, -1, 0, 1, 2), yticks=(-2, -1, 0, 1, 2))
    for plot, _, _ in plots:
        plot.axvline(0, color=INK, linewidth=0.8)
        plot.axhline(0, color=INK, linewidth=0.8)
    plots[1][0].plot(0, 0, "x", color=THINGS["alarm"][0], markersize=10, markeredgewidth=2.4, zorder=8)
    show(
        ax,
        "The red cross is the average basket. Standardizing moves zero there and measures each column in its own "
        "spread. Now arrows can point away from each other.",
        "Left, four arrows into one corner with the average marked; right, the standardized arrows from the average: "
        "Ada and Cora point left and down, Boris right and up, Otto down.",
    )


def _beside(plot: Axes, end: np.ndarray, place: int) -> tuple[float, float, str]:
    """Return where a name stands beside the end of an arrow, and to which side it runs."""
    unit = (plot.get_xlim()[1] - plot.get_xlim()[0]) / 24  # data units in one unit of the canvas
    across, up, side = ((0, 1.5, "center"), (-0.6, 0.6, "right"), (-1.6, 0.6, "right"), (1.2, 0.4, "left"))[place]
    if place == 0 and end[0] < 0:
        across, side = 0, "right"
    return end[0] + across * unit, end[1] + up * unit, side


def orders(names: Sequence[str], baskets: np.ndarray, units: np.ndarray) -> None:
    """Show three rankings beside each other, with lines that follow each person; twice."""
    before, after = _orders(names, baskets), _orders(names, units)
    ax = canvas(37)
    for x, table, title in ((2, before, "as they are"), (35, after, "of length 1")):
        note(ax, x + 13.5, 35, title, NORMAL, bold=True)
        places = {}
        for j, (way, order) in enumerate(table.items()):
            note(ax, x + 4 + 9.6 * j, 31.4, way, bold=True)
            for i, name in enumerate(order):
                spot = box(
                    ax, x + 9.6 * j, 23.6 - 6.4 * i, 8, 4.6, name, ASKED if name == "Ada" else OTHERS, size=SMALL
                )
                places.setdefault(name, []).append(spot)
        for name, spots in places.items():
            for one, two in zip(spots, spots[1:], strict=False):
                line(ax, [one.right, two.left], ASKED if name == "Ada" else OTHERS, 2.2)
    show(
        ax,
        "Everybody by likeness to Ada, best on top, by three measures. Left: three different orders. Right, after "
        "every arrow was shortened to length 1: one order.",
        "Left: "
        + "; ".join(f"{way}: {', '.join(order)}" for way, order in before.items())
        + ". Right: "
        + "; ".join(f"{way}: {', '.join(order)}" for way, order in after.items())
        + ".",
    )


def _orders(names: Sequence[str], table: np.ndarray) -> dict[str, list[str]]:
    dot = table @ table[0]
    scores = {
        "dot": dot,
        "cosine": dot / np.linalg.norm(table, axis=1),
        "distance": -np.linalg.norm(table - table[0], axis=1),
    }
    return {way: [names[int(i)] for i in np.argsort(-score)] for way, score in scores.items()}


def matrix_product(names: Sequence[str], table: np.ndarray, row: int, column: int) -> None:
    """Show everybody times everybody as one matrix product; a row, a column and their cell are marked."""
    ax = canvas(41)
    product = table @ table.T
    people, goods = table.shape
    for j in range(people):
        note(ax, 33.4 + 7.4 * j, 38.8, names[j], bold=True, colour=ASKED if j == column else INK)
        for k in range(goods):
            marked = j == column
            cell(
                ax,
                30 + 7.4 * j,
                33 - 4 * k,
                6.8,
                3.8,
                f"{table[j, k]:.0f}",
                ASKED,
                0.45 if marked else 0,
                strong=marked,
            )
    for i in range(people):
        y = 19.4 - 5 * i
        note(ax, 7.4, y + 2, names[i], bold=True, ha="right", colour="attention" if i == row else INK)
        for k in range(goods):
            marked = i == row
            thing = "attention"
            cell(ax, 9 + 7.4 * k, y, 6.8, 3.8, f"{table[i, k]:.0f}", thing, 0.45 if marked else 0, strong=marked)
        for j in range(people):
            hit = (i, j) == (row, column)
            cell(ax, 30 + 7.4 * j, y, 6.8, 3.8, f"{product[i, j]:.0f}", "mlp", 0.45 if hit else 0, strong=hit)
    note(ax, 12.4, 33, f"{table.shape} @ {table.T.shape}\n→ {product.shape}", NORMAL, code=True)
    sums = " + ".join(f"{a:.0f}·{b:.0f}" for a, b in zip(table[row], table[column], strict=True))
    note(ax, 36, 1.8, f"{names[row]} · {names[column]} = {sums} = {product[row, column]:.0f}", NORMAL, bold=True)
    show(
        ax,
        "Everybody times everybody. A cell of the result is the dot product of the row at its left and the column "
        "above it.",
        f"The table at the left, its transpose above, and their product of shape {product.shape}; the cell of "
        f"{names[row]} and {names[column]} is {product[row, column]:.0f}.",
    )


def random_cosines(samples: Mapping[int, np.ndarray], limit: float) -> None:
    """Show how the cosines of random pairs are spread, one panel for each number of dimensions."""
    ax = canvas(6 + 13 * len(samples))
    for i, (dim, values) in enumerate(samples.items()):
        y = 5.6 + 13 * (len(samples) - 1 - i)
        plot = chart(ax, 4, y, 58, 7.6, xlim=(-1, 1), yticks=[])
        counts, edges = np.histogram(values, np.linspace(-1, 1, 61))
        plot.bar(
            edges[:-1],
            counts,
            np.diff(edges),
            align="edge",
            color=[THINGS["alarm" if abs(middle) > limit else ASKED][0] for middle in (edges[:-1] + edges[1:]) / 2],
            edgecolor="white",
            linewidth=0.3,
        )
        plot.spines["left"].set_visible(False)
        for at in (-limit, limit):
            plot.axvline(at, color=THINGS["alarm"][0], linewidth=1.6, linestyle=(0, (4, 3)))
        note(ax, 4, y + 9.4, f"{dim} numbers", NORMAL, bold=True, ha="left")
        beyond = float(np.mean(np.abs(values) > limit))
        note(ax, 62, y + 9.4, f"beyond ±{limit}: {beyond:.0%}", ha="right", colour="alarm", bold=True)
        if i < len(samples) - 1:
            plot.set_xticklabels([])
    note(ax, 33, 1.4, f"cosine of two random vectors; the dashed lines are at ±{limit}", colour=FAINT)
    shares = ", ".join(f"{np.mean(np.abs(v) > limit):.0%} at {dim}" for dim, v in samples.items())
    show(
        ax,
        "Cosines of random pairs. The more numbers a vector has, the closer to a right angle are two that have nothing "
        "to do with each other.",
        f"Three histograms of cosines that get narrower and narrower; beyond {limit}: {shares} numbers.",
    )


def one_row(name: str, cosines: Numbers, mates: Mapping[str, float], spread: float, limit: float) -> None:
    """Show the cosines of one token with all others, the marked ones by name, beside what chance would give."""
    ax = canvas(36)
    low, high = -0.25, 0.75
    plot = chart(ax, 4, 6, 58, 27, xlim=(low, high), yticks=[])
    counts, edges = np.histogram(cosines, np.linspace(low, high, 81))
    plot.stairs(counts, edges, fill=True, color=THINGS[OTHERS][0], zorder=2)
    x = np.linspace(low, high, 300)
    bell = np.exp(-(x**2) / (2 * spread**2)) / (spread * np.sqrt(2 * np.pi)) * len(cosines) / 80
    plot.plot(x, bell, color=THINGS[ASKED][0], linewidth=2, zorder=3)
    plot.spines["left"].set_visible(False)
    plot.patch.set_visible(False)  # the words of the canvas lie below
    plot.set_ylim(0, counts.max() * 1.05)
    for value in mates.values():
        plot.vlines(value, 0, counts.max() * 0.16, color=THINGS["attention"][0], linewidth=3, zorder=4)
    plot.vlines(limit, 0, counts.max() * 0.5, color=THINGS["alarm"][0], linewidth=1.6, linestyle=(0, (4, 3)))
    across = {value: 4 + 58 * (value - low) / (high - low) for value in (*mates.values(), limit, 0.0)}
    note(ax, across[limit], 20.8, f"{limit}", colour="alarm", bold=True)
    note(ax, across[0.0] - 6.4, 15.4, "random\nvectors", colour=ASKED, bold=True)
    top = float(edges[counts.argmax()] + edges[counts.argmax() + 1]) / 2
    note(ax, 4 + 58 * (top - low) + 1.6, 29.6, f"a spike at {top:.2f}", ha="left", bold=True)
    note(ax, 4 + 58 * (top - low) + 1.6, 13.4, "other\ntokens", ha="left", colour=FAINT, bold=True)
    ends = sorted(mates, key=mates.__getitem__)
    middle = (across[mates[ends[0]]] + across[mates[ends[-1]]]) / 2
    note(ax, middle + 1, 17.5, "\n".join(_wrapped(ends)), colour="attention", bold=True)
    note(ax, 33, 1.6, f"cosine with {name}", colour=FAINT)
    show(
        ax,
        f"The cosines of {name} with all other tokens of Pebble (grey), and what random vectors of as many numbers "
        f"would give (blue line). Far out to the right lie the other weekdays, and only they.",
        f"A histogram around 0.1 of the cosines with {name}, with a spike at {top:.2f}; "
        + ", ".join(f"{other} {value:.2f}" for other, value in mates.items())
        + " lie far to the right.",
    )


def zeros(name: str, rows: Mapping[str, np.ndarray], short: np.ndarray, mates: Sequence[int]) -> None:
    """Show the cosines of one token with the short rows, the long rows and its mates, for each place of zero."""
    ax = canvas(6 + 13 * len(rows))
    edges = np.linspace(-0.8, 1, 91)
    rest = short.copy()
    rest[mates] = False
    said = []
    for i, (where, cosines) in enumerate(rows.items()):
        y = 5.6 + 13 * (len(rows) - 1 - i)
        plot = chart(ax, 4, y, 58, 7.6, xlim=(-0.8, 1), yticks=[])
        hill, _ = np.histogram(cosines[rest], edges)
        spike, _ = np.histogram(cosines[~short], edges)
        plot.stairs(spike, edges, fill=True, color=THINGS["table"][0], zorder=2)
        plot.stairs(hill, edges, fill=True, color=THINGS[OTHERS][0], zorder=3)
        plot.set_ylim(0, hill.max() * 1.25)
        plot.patch.set_visible(False)  # the words of the canvas lie below
        for value in cosines[list(mates)][1:]:
            plot.vlines(value, 0, hill.max() * 0.6, color=THINGS["attention"][0], linewidth=3, zorder=4)
        plot.axvline(0, color=INK, linewidth=0.8, zorder=5)
        plot.spines["left"].set_visible(False)
        note(ax, 4, y + 9.4, f"zero {where}", NORMAL, bold=True, ha="left")
        middle = float(np.median(cosines[rest]))
        note(ax, 62, y + 9.4, f"hill at {middle:.2f}", ha="right", bold=True, colour=FAINT)
        spot = 4 + 58 * (float(np.median(cosines[~short])) + 0.8) / 1.8
        left = spot < 33 and spot > 16  # the spike's name stands on the side away from the hill
        note(
            ax,
            spot + (-1.2 if left else 1.2),
            y + 6,
            "long rows",
            ha="right" if left else "left",
            colour="table",
            bold=True,
        )
        said.append(f"zero {where}: hill at {middle:.2f}, spike at {np.median(cosines[~short]):.2f}".replace("-", "−"))
        if i < len(rows) - 1:
            plot.set_xticklabels([])
    note(ax, 33, 1.4, f"cosine with {name}", colour=FAINT)
    show(
        ax,
        f"The cosines of {name} for three choices of zero: short rows (grey), long rows (brown; the bar is cut "
        f"off), and the other weekdays (orange). Only in the last one does the hill stand at zero.",
        f"Three histograms. {'; '.join(said)}. The other weekdays lie to the right each time.",
    )


def _wrapped(words: list[str]) -> list[str]:
    return [", ".join(words[i : i + 2]) for i in range(0, len(words), 2)]
