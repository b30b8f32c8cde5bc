"""The figures of notebook 02: arrows, dot products against angles, timings, attention."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from numpy.typing import ArrayLike

from llmnotes.plots import BLUE, ORANGE, blank, several_panels

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
