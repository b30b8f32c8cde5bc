"""The figures of notebook 19: where the bytes are, and what is left of an update when it is merged into 4 bits."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from llmnotes.plots import BLACK, BLUE, GREEN, ORANGE, PURPLE, RED, SKY, one_panel

COLOURS = {
    "weights": BLUE,
    "scales": BLACK,
    "adapters": RED,
    "optimizer": ORANGE,
    "gradients": PURPLE,
    "activations": GREEN,
    "passing": SKY,
}


def parts(rows: Mapping[str, Mapping[str, float]], measured: Sequence[float] = (), unit: str = "MB") -> Figure:
    """Return the figure of the parts of the memory of several runs, a bar each, and a mark where it was measured.

    `rows` is {run: {part: size in `unit`}}; `measured` has as many numbers, or none.
    """
    figure, panel = one_panel(7.2, 0.8 + 0.42 * len(rows))
    places = np.arange(len(rows))[::-1]
    left = np.zeros(len(rows))
    for name, colour in COLOURS.items():
        width = np.array([row.get(name, 0.0) for row in rows.values()])
        if width.any():
            panel.barh(places, width, left=left, height=0.62, color=colour, label=name)
        left += width
    if len(measured):
        panel.plot(measured, places, "|", color=BLACK, markersize=20, markeredgewidth=2, label="measured")
    panel.set(
        yticks=places, yticklabels=list(rows), xlabel=f"{unit} at the fullest moment", xlim=(0, 1.04 * left.max())
    )
    panel.tick_params(axis="y", length=0)
    handles, labels = panel.get_legend_handles_labels()  # matplotlib puts the mark first
    order = sorted(range(len(labels)), key=lambda place: labels[place] == "measured")
    chosen = {"handles": [handles[place] for place in order], "labels": [labels[place] for place in order]}
    figure.legend(**chosen, loc="outside upper center", ncols=4, frameon=False, fontsize=9)
    return figure


def arrives(wanted: ArrayLike, got: ArrayLike, limit: float) -> Figure:
    """Return the figure of what 4 bits make of an update: for each weight what was added, and what became of it.

    `wanted` and `got` are (n,); both axes end at `limit`.
    """
    figure, panel = one_panel(5.0, 4.0)
    panel.plot([-limit, limit], [-limit, limit], color=BLACK, lw=1, label="nothing is lost")
    panel.plot(wanted, got, ".", color=BLUE, markersize=3, alpha=0.5, rasterized=True)
    panel.set(xlim=(-limit, limit), ylim=(-limit, limit), aspect="equal")
    panel.set(xlabel="what the adapter adds to a weight", ylabel="what the weight moves in 4 bits")
    panel.legend(frameon=False, loc="upper left")
    return figure
