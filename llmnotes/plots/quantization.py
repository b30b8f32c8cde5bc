"""The figure of notebook 15: errors and KL divergences over bits per weight."""

import itertools
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from llmnotes.plots import BLACK, BLUE, GREEN, PURPLE, RED, note, several_panels

FAMILIES = (BLUE, RED, GREEN, PURPLE, BLACK)  # dark enough for labels of the same colour


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
