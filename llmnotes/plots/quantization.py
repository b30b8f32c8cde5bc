"""The figures of notebooks 04 and 05: where levels lie, what bits and blocks cost, outliers, and the ruler."""

from collections.abc import Sequence

import numpy as np

from llmnotes.plots import BLACK, BLUE, GREEN, ORANGE, PALETTE, PURPLE, RED, axes
from llmnotes.plots.embeddings import ALIGN, COLUMNS, ROWS, label_sides

FAMILIES = (BLUE, RED, GREEN, PURPLE, BLACK)  # dark enough for labels of the same colour


def number_lines(rows: dict[str, np.ndarray], limit: float, xlabel: str, density=None):
    """Return the figure of the numbers that each row has between -limit and limit, as ticks on a line.

    `density` is a function that is drawn above all lines, for comparison, scaled to the height of one row.
    """
    figure, panel = axes(8.0, 0.62 * (len(rows) + 1.4 * bool(density)) + 0.7)
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


def turning(weights: np.ndarray, cases: dict[tuple[int, int], tuple[float, float, np.ndarray]]):
    """Return (interactive figure, static figure) of what bits and block size do to some weights.

    `cases` is {(bits, block): (bits per weight, relative error, the weights after rounding)}; `weights` are the same
    ones before. The interactive figure has a slider for the bits and one for the block size: every block size is a
    trace, and the slider of the bits exchanges the numbers of all of them. The static figure has error against bits.
    """
    import plotly.graph_objects as go

    widths, blocks = (sorted(set(part)) for part in zip(*cases, strict=True))
    bits, block = 4, blocks[1]
    at = list(range(len(weights)))

    def label(width, size):
        cost, error, _ = cases[width, size]
        return f"{width} bits, blocks of {size}: {cost:g} bits per weight, error {error:.1%}"

    figure = go.Figure(
        [
            go.Scatter(
                x=at,
                y=np.round(cases[bits, size][2], 4).tolist(),
                name=label(bits, size),
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
                    "name": [label(width, size) for size in blocks],
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
        yaxis={"title": {"text": "value"}},
    )
    static, panel = axes(6.8, 3.6)
    for size, colour in zip(blocks, PALETTE, strict=False):
        line = [cases[width, size][:2] for width in widths]
        panel.plot(*zip(*line, strict=True), "o-", color=colour, markersize=4, lw=1.2, label=f"blocks of {size}")
    panel.set_yscale("log")
    panel.set(xlabel="bits per weight, scales included", ylabel="relative error")
    panel.legend(frameon=False, fontsize=8)
    return figure, static


def channels(rows: dict[str, np.ndarray], steps: dict[str, float]):
    """Return the figure of the largest magnitude in each channel (channels,), a panel for each entry of `rows`.

    `steps` is the length of a step in 8 bits, drawn as a line: what is well below it is rounded to nothing.
    """
    figure, panels = axes(8.4, 3.0, columns=len(rows))
    for panel, (title, values), colour in zip(panels, rows.items(), (BLUE, ORANGE), strict=False):
        panel.plot(np.arange(len(values)), values, ".", color=colour, markersize=4)
        panel.axhline(steps[title] / 2, color=BLACK, lw=1, ls="--")
        panel.set_yscale("log")
        panel.set(title=title, xlabel="channel", ylabel="largest magnitude")
    low = min(min(values.min(), steps[title] / 2) for title, values in rows.items())
    high = max(values.max() for values in rows.values())
    for panel in panels:
        panel.set_ylim(low / 2, 3 * high)
    return figure


def pareto(families: dict[str, Sequence], bounds: dict[str, tuple[np.ndarray, np.ndarray]] | None = None):
    """Return the figure of error against bits per weight, and of KL against bits per weight.

    `families` is {family: rows of `llmnotes.quantization.ruler`}, each drawn with a colour and a mark of its own.
    `bounds` is {name: (bits, relative errors)}, drawn as lines in the left panel. The grey line of the right panel
    joins the rows that no other row beats in both bits and KL.
    """
    rows = [row for family in families.values() for row in family if row.kl > 0]
    figure, (left, right) = axes(12.0, 6.2, columns=2)
    for (name, (bits, errors)), style in zip((bounds or {}).items(), ("-", "--", ":"), strict=False):
        left.plot(bits, errors, style, color=BLACK, lw=1, label=name)
    for (name, family), colour, mark in zip(families.items(), FAMILIES, "osD^v", strict=False):
        shown = [row for row in family if row.kl > 0]
        style = {"color": colour, "marker": mark, "ls": "none", "markersize": 6}
        left.plot([row.bits for row in shown], [row.weight_error for row in shown], label=name, **style)
        error = [min(2 * row.noise.kl, 0.9 * row.kl) for row in shown]
        right.errorbar([row.bits for row in shown], [row.kl for row in shown], error, elinewidth=1, **style)
    colours = []
    for family, colour in zip(families.values(), FAMILIES, strict=False):
        colours += [colour for row in family if row.kl > 0]
    best, front = np.inf, []
    for row in sorted(rows, key=lambda row: (row.bits, row.kl)):
        if row.kl < best:
            best = row.kl
            front.append((row.bits, row.kl))
    right.plot(*zip(*front, strict=True), color="#999999", lw=1, zorder=0)
    for panel, values, title in (
        (left, [row.weight_error for row in rows], "relative error of the weights"),
        (right, [row.kl for row in rows], "KL from the original, nats per token"),
    ):
        panel.set_yscale("log")
        panel.set(xlabel="bits per weight, scales included", ylabel=title)
        panel.set_xlim(min(row.bits for row in rows) - 0.7, max(row.bits for row in rows) + 0.5)
        panel.grid(alpha=0.25)
        _label(panel, [row.name for row in rows], np.array([[row.bits for row in rows], np.log10(values)]).T, colours)
    left.legend(frameon=False, fontsize=8, loc="lower left")
    return figure


def _label(panel, names: list[str], points: np.ndarray, colours: list[str]) -> None:
    """Write each name beside its point (bits, logarithm), on the side where it covers least of the others."""
    for name, (x, y), side, colour in zip(names, points, label_sides(points, names), colours, strict=True):
        up, across = side.split()
        panel.annotate(
            name,
            (x, 10**y),
            xytext=(5 * COLUMNS[across], 5 * ROWS[up]),
            textcoords="offset points",
            fontsize=7.5,
            color=colour,
            ha=ALIGN[across],
            va=ALIGN[up],
        )
