"""The figure of notebook 15 that 11 does not have: the output error of two weights, and the way to a pair."""

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from llmnotes.plots import BLACK, BLUE, GREEN, ORANGE, RED, note, one_panel


def two_weights(inputs: ArrayLike, weights: ArrayLike, moved: float) -> Figure:
    """Return the figure of the output error over two rounded weights, and of the way from the weights to a pair.

    `inputs` are (tokens, 2), `weights` (2,); the first weight is rounded to 0, then the second goes to `moved`.
    """
    inputs, weights = (np.asarray(x, dtype=float) for x in (inputs, weights))
    figure, panel = one_panel(5.6, 4.2)
    across, up = np.meshgrid(np.linspace(-0.6, 1.7, 200), np.linspace(-0.6, 1.7, 200))
    change = np.stack([across - weights[0], up - weights[1]], axis=-1)  # (200, 200, 2)
    error = np.square(change @ inputs.T).sum(axis=-1)
    curves = panel.contour(across, up, error, levels=[0.5, 2, 4, 8, 16, 32], colors="#999999", linewidths=1)
    panel.clabel(curves, fmt="%g", fontsize=8)
    for pair, colour, name, side in (
        ((0, 0), RED, "nearest", (8, -12)),
        ((1, 0), GREEN, "best", (8, -4)),
        ((0, 1), BLUE, "one by one", (8, 3)),
        ((1, 1), BLACK, "", (0, 0)),
    ):
        panel.plot(*pair, "o", color=colour, markersize=9, zorder=3)
        note(panel, name, pair, side, color=colour)
    panel.plot(*weights, "*", color=ORANGE, markersize=15, zorder=3)
    note(panel, "the weights", weights, (10, 2))
    way = [tuple(weights), (0, weights[1]), (0, moved), (0, 0.96)]
    for start, end in zip(way, way[1:], strict=False):
        panel.annotate("", xy=end, xytext=start, arrowprops={"arrowstyle": "-|>", "color": BLUE, "lw": 1.6})
    panel.set(xlabel="first weight", ylabel="second weight", xticks=(0, 1), yticks=(0, 1), aspect="equal")
    return figure
