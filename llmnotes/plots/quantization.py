"""The figures of notebooks 14 and 15: where levels lie, what bits and blocks cost, outliers, and the ruler."""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from llmnotes.plots import BLACK, BLUE, GREEN, ORANGE, PALETTE, PURPLE, RED, note, one_panel, several_panels

FAMILIES = (BLUE, RED, GREEN, PURPLE, BLACK)  # dark enough for labels of the same colour


def number_lines(rows: dict[str, np.ndarray], limit: float, xlabel: str, density: Callable | None = None) -> Figure:
    """Return the figure of the numbers that each row has between -limit and limit, as ticks on a line.

    `density` is a function that is drawn above all lines, for comparison, scaled to the height of one row.
    """
    figure, panel = one_panel(8.0, 0.62 * (len(rows) + 1.4 * bool(density)) + 0.7)
    for place, (values, colour) in enumerate(zip(rows.values(), PALETTE, strict=False)):
        values = np.unique(values[np.isfinite(values) & (np.abs(values) <= limit)])
        panel.vlines(values, -place - 0.28, -place + 0.28, color=colour, lw=1.4 if len(values) < 60 else 0.7)
        panel.axhline(-place, color=colour, lw=0.5)
    if density is not None:
        x = np.linspace(-limit, limit, 401)
        panel.fill_between(x, 0.55, 0.55 + 1.1 * density(x) / density(x).max(), color="#dddddd", lw=0)
    panel.set_yticks([-place for place in range(len(rows))], list(rows))
    panel.set(xlabel=xlabel, xlim=(-1.03 * limit, 1.03 * limit))
    panel.tick_params(axis="y", length=0)
    panel.spines["left"].set_visible(False)
    return figure


def turning(weights: np.ndarray, cases: dict[tuple[int, int], tuple[float, float, np.ndarray]]) -> tuple[Any, Figure]:
    """Return (interactive figure, static figure) of what bits and block size do to some weights.

    `cases` is {(bits, block): (bits per weight, relative error, the weights after rounding)}; `weights` are the same
    ones before. The interactive figure has a slider for the bits and one for the block size: every block size is a
    trace, and the slider of the bits exchanges the numbers of all of them. The static figure has three positions.
    """
    import plotly.graph_objects as go

    widths, blocks = (sorted(set(part)) for part in zip(*cases, strict=True))
    bits, block = 4, blocks[1]
    at = list(range(len(weights)))
    reach = 1.1 * max(float(np.abs(after).max()) for _, _, after in cases.values())  # so that no slider moves the dots

    def caption(width: int, size: int) -> str:
        cost, error, _ = cases[width, size]
        return f"{width} bits, blocks of {size}: {cost:g} bits per weight, error {error:.1%}"

    figure = go.Figure(
        [
            go.Scatter(
                x=at,
                y=np.round(cases[bits, size][2], 4).tolist(),
                name=caption(bits, size),
                mode="lines",
                line={"shape": "hvh", "color": ORANGE, "width": 2},
                visible=size == block,
            )
            for size in blocks
        ]
        + [
            go.Scatter(
                x=at,
                y=np.round(weights, 4).tolist(),
                name="before",
                mode="markers",
                marker={"color": BLUE, "size": 7},
            )
        ]
    )
    traces = list(range(len(blocks)))
    by_bits = [
        {
            "label": str(width),
            "method": "restyle",
            "args": [
                {
                    "y": [np.round(cases[width, size][2], 4).tolist() for size in blocks],
                    "name": [caption(width, size) for size in blocks],
                },
                traces,
            ],
        }
        for width in widths
    ]
    by_block = [
        {"label": str(size), "method": "restyle", "args": [{"visible": [other == size for other in blocks]}, traces]}
        for size in blocks
    ]
    figure.update_layout(
        sliders=[
            {
                "steps": steps,
                "active": active,
                "x": x,
                "len": 0.46,
                "y": -0.12,
                "currentvalue": {"prefix": prefix},
                "pad": {"t": 20},
            }
            for steps, active, x, prefix in (
                (by_bits, widths.index(bits), 0.0, "bits of a code: "),
                (by_block, blocks.index(block), 0.54, "weights in a block: "),
            )
        ],
        legend={"orientation": "h", "y": 1.14},
        height=460,
        margin={"l": 60, "r": 20, "t": 60, "b": 120},
        template="none",
        xaxis={"title": {"text": "weight"}},
        yaxis={"title": {"text": "value"}, "range": [-reach, reach]},
    )
    static, panels = several_panels(7.6, 5.4, rows=3)
    for panel, position in zip(panels, ((2, blocks[1]), (4, blocks[1]), (4, blocks[-1])), strict=True):
        panel.step(at, cases[position][2], where="mid", color=ORANGE)
        panel.plot(at, weights, "o", color=BLUE, markersize=4)
        panel.set_title(caption(*position), fontsize=9, loc="left")
        panel.set(xlabel="weight" if panel is panels[-1] else "", ylabel="value")
    return figure, static


def costs(cases: dict[tuple[int, int], tuple]) -> Figure:
    """Return the figure of error against bits per weight, a line for each block size; `cases` as in `turning`."""
    figure, panel = one_panel(6.8, 3.6)
    widths, blocks = (sorted(set(part)) for part in zip(*cases, strict=True))
    for size, colour, mark in zip(blocks, PALETTE, "os^Dv", strict=False):
        line = [cases[width, size][:2] for width in widths]
        style = {"marker": mark, "markersize": 4, "lw": 1.2}
        panel.plot(*zip(*line, strict=True), color=colour, label=f"blocks of {size}", **style)
    panel.set_yscale("log")
    panel.set(xlabel="bits per weight, scales included", ylabel="relative error")
    panel.grid(alpha=0.25)
    panel.legend(frameon=False, fontsize=8)
    return figure


def channels(rows: dict[str, np.ndarray]) -> Figure:
    """Return the figure of the largest magnitude in each channel (channels,), a panel for each entry of `rows`.

    Half of a step in 8 bits, from the largest channel, is drawn as a line: what is below it is rounded to 0.
    """
    figure, panels = several_panels(8.4, 3.0, columns=len(rows))
    halves = {title: values.max() / 127 / 2 for title, values in rows.items()}
    for panel, (title, values), colour in zip(panels, rows.items(), (BLUE, ORANGE), strict=False):
        panel.plot(np.arange(len(values)), values, ".", color=colour, markersize=4)
        panel.axhline(halves[title], color=BLACK, lw=1, ls="--")
        text, end = "half a step of int8: what is below becomes 0", (len(values) - 1, halves[title])
        note(panel, text, end, (0, 4), ha="right", fontsize=8)
        panel.set_yscale("log")
        panel.set(title=title, xlabel="channel", ylabel="largest magnitude")
    low = min(min(values.min(), halves[title]) for title, values in rows.items())
    high = max(values.max() for values in rows.values())
    for panel in panels:
        panel.set_ylim(low / 2, 3 * high)
    return figure


def pareto(families: dict[str, Sequence], bounds: dict[str, tuple[np.ndarray, np.ndarray]] | None = None) -> Figure:
    """Return the figure of error against bits per weight, and of KL against bits per weight.

    `families` is {family: rows of `llmnotes.evaluation.ruler`}, each drawn with a colour and a mark of its own.
    `bounds` is {name: (bits, relative errors)}, drawn as lines in the upper panel. The grey line of the lower panel
    joins the rows that no other row beats in both bits and KL.
    """
    from matplotlib.ticker import LogLocator, NullFormatter

    families = {name: shown for name, family in families.items() if (shown := [row for row in family if row.kl > 0])}
    rows = [row for family in families.values() for row in family]
    figure, (upper, lower) = several_panels(8.4, 9.6, rows=2)
    for (name, (bits, errors)), style in zip((bounds or {}).items(), ("-", "--", ":"), strict=False):
        upper.plot(bits, errors, style, color=BLACK, lw=1, label=name)
    for (name, family), colour, mark in zip(families.items(), FAMILIES, "osD^v", strict=False):
        style = {"color": colour, "marker": mark, "ls": "none", "markersize": 6}
        upper.plot([row.bits for row in family], [row.weight_error for row in family], label=name, **style)
        error = [min(2 * row.noise.kl, 0.9 * row.kl) for row in family]
        lower.errorbar([row.bits for row in family], [row.kl for row in family], error, elinewidth=1, **style)
    best, front = np.inf, []
    for row in sorted(rows, key=lambda row: (row.bits, row.kl)):
        if row.kl < best:
            best = row.kl
            front.append((row.bits, row.kl))
    lower.plot(*zip(*front, strict=True), color="#999999", lw=1, zorder=0)
    names = [row.name for row in rows]
    colours = [colour for family, colour in zip(families.values(), FAMILIES, strict=False) for _ in family]
    lines = [np.array(line).T for line in (bounds or {}).values()]
    bars = [[(row.bits, 0.9 * row.kl), (row.bits, row.kl + 2 * row.noise.kl)] for row in rows]
    for panel, title in ((upper, "relative error of the weights"), (lower, "KL from the original, nats per token")):
        panel.set_yscale("log")
        panel.set(xlabel="bits per weight, scales included", ylabel=title)
        panel.set_xlim(min(row.bits for row in rows) - 0.7, max(row.bits for row in rows) + 0.5)
        panel.grid(alpha=0.25)
    upper.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    upper.yaxis.set_major_formatter("{x:g}")
    upper.yaxis.set_minor_formatter(NullFormatter())
    upper.legend(frameon=False, fontsize=8, loc="lower left")
    figure.draw_without_rendering()  # now the panels know where their points are
    _write_names(upper, names, [(row.bits, row.weight_error) for row in rows], colours, lines)
    _write_names(lower, names, [(row.bits, row.kl) for row in rows], colours, [front, *bars])
    return figure


def _write_names(
    panel: Axes, names: list[str], points: list, colours: list[str], curves: list, size: float = 8.0
) -> None:
    """Write each name near its point, where it covers least of the other names, of the points and of `curves`."""

    def place(points):  # in units of 1/72 inch, as text is measured
        return panel.transData.transform(np.asarray(points, float)) * 72 / panel.figure.dpi

    spots = place(points)
    dots = [np.linspace(a, b, 25) for curve in curves for a, b in itertools.pairwise(place(curve))]
    things = np.concatenate([spots, *dots])  # (points, 2): what no name should cover
    reach = np.concatenate([np.full(len(spots), 8.0), np.full(len(things) - len(spots), 1.0)])  # how wide each is
    extents = np.array([(0.62 * size * len(name), 1.2 * size) for name in names])  # of the names
    turns = np.arange(0, 2 * np.pi, np.pi / 8)
    ways = np.stack([np.cos(turns), np.sin(turns)], axis=1)  # (16, 2)
    far = np.repeat([7.0, 14.0, 24.0], len(ways))  # from the point to the nearest edge of its name
    centres, chosen = spots.copy(), np.zeros(len(spots), dtype=int)
    for _ in range(5):  # each name in turn moves to where it covers least, given where the others are now
        for index, (spot, extent) in enumerate(zip(spots, extents, strict=True)):
            places = spot + np.tile(ways, (3, 1)) * (far[:, None] + extent / 2)  # (48, 2)
            others = np.arange(len(names)) != index
            boxes = np.concatenate([centres[others], things])
            sides = np.concatenate([extents[others] + 2, np.repeat(reach[:, None], 2, axis=1)])
            gaps = (sides + extent) / 2 - np.abs(places[:, None] - boxes)  # (48, boxes, 2)
            covered = np.maximum(gaps, 0).prod(axis=-1).sum(axis=-1)
            chosen[index] = (covered + far).argmin()
            centres[index] = places[chosen[index]]
    for name, spot, centre, away, colour in zip(names, spots, centres, far[chosen], colours, strict=True):
        line = {"arrowstyle": "-", "color": colour, "lw": 0.5, "shrinkA": 0, "shrinkB": 3}
        note(
            panel,
            name,
            panel.transData.inverted().transform(spot * panel.figure.dpi / 72),
            centre - spot,
            fontsize=size,
            color=colour,
            ha="center",
            va="center",
            arrowprops=line if away > far[0] else None,
        )
