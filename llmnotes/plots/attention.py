"""The figures of notebook 02: arrows, dot products against angles, timings, attention."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from numpy.typing import ArrayLike

from llmnotes.plots import BLACK, BLUE, GREEN, ORANGE, PALETTE, blank, note, one_panel, several_panels

if TYPE_CHECKING:
    from plotly.graph_objects import Figure as Interactive


def _arrow(panel: Axes, end: Any, colour: str, start: Any = (0, 0), **style: Any) -> None:
    """Draw an arrow from `start` to `end`, both (2,)."""
    panel.annotate(
        "",
        xy=end,
        xytext=start,
        arrowprops={"arrowstyle": "-|>", "color": colour, "lw": 2, "shrinkA": 0, "shrinkB": 0} | style,
    )


def dot_by_angle(length_a: float, length_b: float) -> Figure:
    """Return the figure of the dot product of two arrows of fixed lengths against the angle between them."""
    figure, panel = one_panel(6.0, 3.0)
    degrees = np.arange(0, 181)
    panel.plot(degrees, length_a * length_b * np.cos(np.radians(degrees)), lw=2)
    panel.axhline(0, color=BLACK, lw=0.8)
    panel.set(xlabel="angle between the arrows, in degrees", ylabel="dot product", xticks=range(0, 181, 30))
    return figure


def projection(a: np.ndarray, onto: np.ndarray, shadow: np.ndarray) -> Figure:
    """Return the figure of `a`, of `onto`, of the shadow that `a` casts on it, and of what is left; all (2,)."""
    figure, panel = one_panel(5.0, 3.4)
    for end, colour, name in ((onto, BLUE, "b"), (a, ORANGE, "a"), (shadow, GREEN, "shadow of a on b")):
        _arrow(panel, end, colour)
        note(panel, name, end, (6, -4 if name != "a" else 4), color=colour)
    _arrow(panel, a, BLACK, start=shadow, linestyle="dashed", lw=1)
    note(panel, "what is left", (np.asarray(a) + shadow) / 2, (8, 0))
    points = np.array([a, onto, shadow, (0, 0)])
    panel.set_xlim(points[:, 0].min() - 0.3, points[:, 0].max() + 1.8)
    panel.set_ylim(points[:, 1].min() - 0.4, points[:, 1].max() + 0.6)
    panel.set_aspect("equal")
    return figure


def people(names: list[str], raw: np.ndarray, scaled: np.ndarray) -> Figure:
    """Return the figure of people as arrows, in years and kilograms on the left, scaled on the right; both (n, 2).

    In both panels a unit is equally long across and up, so that angles are drawn as they are.
    """
    figure, panels = several_panels(8.4, 4.4, columns=2)
    titles, units = ("years and kilograms", "scaled"), (("years", "kg"), ("standard deviations",) * 2)
    for panel, points, title, (age, weight) in zip(panels, (raw, scaled), titles, units, strict=True):
        for place in np.argsort(-np.linalg.norm(points, axis=1)):  # long arrows first: they would hide short ones
            _arrow(panel, points[place], PALETTE[place])
            offset, side = ((5, -9), "left") if place else ((-5, 4), "right")  # neighbours do not collide
            note(panel, names[place], points[place], offset, color=PALETTE[place], ha=side)
        low, high = np.minimum(points.min(axis=0), 0), np.maximum(points.max(axis=0), 0)
        room = 0.2 * (high - low)
        panel.set(
            xlim=(low[0] - room[0], high[0] + room[0]),
            ylim=(low[1] - room[1] / 2, high[1] + room[1]),
            xlabel=f"age ({age})",
            ylabel=f"weight ({weight})",
            title=title,
            aspect="equal",
        )
    panels[1].axhline(0, color=BLACK, lw=0.6)
    panels[1].axvline(0, color=BLACK, lw=0.6)
    return figure


def speed(seconds: dict[str, float]) -> Figure:
    """Return the figure of how many times faster than the first entry each is; `seconds` are wall times."""
    figure, panel = one_panel(6.4, 2.0)
    slowest = next(iter(seconds.values()))
    for (name, value), colour in zip(seconds.items(), PALETTE, strict=False):
        times = slowest / value
        panel.plot(times, name, "o", color=colour, markersize=8)
        note(panel, f"{times:.0f} ×", (times, name), (9, 0), va="center")
    panel.set_xscale("log")
    panel.grid(axis="x", alpha=0.3)
    panel.set(
        xlabel="times as fast as the loop, on the machine that drew this",
        xlim=(0.6, 6 * slowest / min(seconds.values())),
        ylim=(len(seconds) - 0.5, -0.5),
    )
    return figure


def cosines(samples: dict[int, np.ndarray]) -> Figure:
    """Return the figure of how the cosines of random pairs are spread, one line for each number of dimensions."""
    figure, panel = one_panel(6.4, 3.2)
    edges = np.linspace(-1, 1, 81)
    for (dim, values), colour in zip(samples.items(), PALETTE, strict=False):
        density, _ = np.histogram(values, bins=edges, density=True)
        panel.stairs(density, edges, color=colour, lw=1.8, label=f"{dim} dimensions")
    panel.set(xlabel="cosine of two random vectors", ylabel="density")
    panel.legend(frameon=False)
    return figure


def shares(rows: dict[str, np.ndarray]) -> Figure:
    """Return the figure of softmax weights, largest first, one panel for each entry of `rows`."""
    figure, panels = several_panels(7.4, 2.8, columns=len(rows))
    for panel, (title, weights), colour in zip(panels, rows.items(), (ORANGE, BLUE), strict=False):
        panel.bar(range(1, len(weights) + 1), np.sort(weights)[::-1], color=colour)
        panel.set(title=title, xlabel="key, by its weight", xticks=(1, len(weights)), ylim=(0, 1), ylabel="weight")
    return figure


def clock_hands(frequencies: Sequence[float], positions: Sequence[int]) -> Figure:
    """Return the figure of how far each pair of a head has turned at a few positions, as hands of clocks.

    `frequencies` are radians per position, one panel each; `positions` are drawn as hands, later ones darker.
    """
    figure, panels = several_panels(8.4, 2.4, columns=len(frequencies))
    for panel, frequency in zip(panels, frequencies, strict=True):
        panel.add_artist(Circle((0, 0), 1, fill=False, color="#bbbbbb"))
        for place, position in enumerate(positions):
            angle = position * frequency
            shade = 0.25 + 0.75 * (place + 1) / len(positions)
            _arrow(panel, (np.cos(angle), np.sin(angle)), BLUE, alpha=shade)
            if place == len(positions) - 1 or frequency * (positions[place + 1] - position) > 0.2:  # room for a number
                panel.annotate(
                    str(position), xy=(1.2 * np.cos(angle), 1.2 * np.sin(angle)), ha="center", va="center", fontsize=8
                )
        panel.set(xlim=(-1.4, 1.4), ylim=(-1.4, 1.4), title=f"turns by {frequency:.3g} rad per token")
        panel.title.set_fontsize(9)
        panel.set_aspect("equal")
        panel.axis("off")
    return figure


def all_heads(weights: ArrayLike) -> Figure:
    """Return the figure of every head of every layer as a small picture; weights (layers, heads, tokens, tokens).

    Of a large model it shows the first eight layers and heads. The future, where nobody looks, stays blank.
    """
    shown = np.asarray(weights)[:8, :8]
    layers, heads, tokens = shown.shape[:3]
    shown = np.where(np.tri(tokens, dtype=bool), shown, np.nan)
    figure = blank(1.15 * heads + 1.4, 1.15 * layers + 0.6)
    grid = figure.subplots(layers, heads, squeeze=False)
    for (layer, head), panel in np.ndenumerate(grid):
        panel.imshow(shown[layer, head], cmap="cividis", vmin=0, vmax=1)
        panel.set(xticks=[], yticks=[])
        if head == 0:
            panel.set_ylabel(f"layer {layer}", fontsize=9)
        if layer == 0:
            panel.set_title(f"head {head}", fontsize=9)
    figure.colorbar(grid[-1, -1].images[0], ax=grid, label="weight", shrink=0.7)
    figure.supxlabel("across: the token that is looked at", fontsize=9)
    figure.supylabel("down: the token that looks", fontsize=9)
    return figure


def attention_map(weights: ArrayLike, labels: list[str]) -> Interactive:
    """Return the interactive (plotly) heat map of attention, with a menu for the layer and one for the head.

    `weights` are (layers, heads, tokens, tokens) of a causal model; `labels` name the tokens, all different.
    The numbers are rounded to 3 decimals. Every head is a trace, and the layer's menu exchanges the numbers of all
    of them, so that the two menus do not disturb each other.
    """
    import plotly.graph_objects as go

    weights = np.asarray(weights)
    rows = [[_rows(head) for head in layer] for layer in weights]
    hover = "“%{y}” gives “%{x}” the weight %{z}<extra></extra>"
    figure = go.Figure(
        [
            go.Heatmap(
                z=numbers,
                x=labels,
                y=labels,
                zmin=0,
                zmax=1,
                colorscale="Cividis",
                hovertemplate=hover,
                visible=head == 0,
                colorbar={"title": "weight"},
            )
            for head, numbers in enumerate(rows[0])
        ]
    )
    by_layer = [
        {"label": f"layer {layer}", "method": "restyle", "args": [{"z": numbers}]} for layer, numbers in enumerate(rows)
    ]
    heads = weights.shape[1]
    by_head = [
        {"label": f"head {head}", "method": "restyle", "args": [{"visible": [h == head for h in range(heads)]}]}
        for head in range(heads)
    ]
    place = {"y": 1.02, "yanchor": "bottom", "xanchor": "left", "direction": "down"}
    figure.update_layout(
        updatemenus=[{"buttons": by_layer, "x": 0.0} | place, {"buttons": by_head, "x": 0.22} | place],
        width=720,
        height=680,
        margin={"l": 100, "t": 60, "b": 100},
        template="none",
        xaxis={"title": {"text": "looks at"}, "tickangle": -60},
        yaxis={"title": {"text": "token"}, "autorange": "reversed"},
    )
    return figure


def _rows(head: np.ndarray) -> list[list[float]]:
    """Return one head's weights rounded; each row ends at the diagonal, and plotly leaves the future blank."""
    return [[round(float(value), 3) for value in line[: row + 1]] for row, line in enumerate(head)]
