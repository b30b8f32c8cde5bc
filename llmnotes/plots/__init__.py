"""Every figure of the course, one function each, which returns the figure; show() displays it with its alt text.

Colours are Okabe and Ito's, which readers with any kind of colour vision can tell apart.
"""

from collections.abc import Iterable
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from llmnotes.plots.display import show

__all__ = ["BLUE", "ORANGE", "GREEN", "RED", "PURPLE", "SKY", "BLACK", "PALETTE", "show"]
__all__ += ["one_panel", "several_panels", "note", "blank"]

BLUE, ORANGE, GREEN, RED, PURPLE, SKY, BLACK = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#D55E00",
    "#CC79A7",
    "#56B4E9",
    "#000000",
)
PALETTE = [BLUE, ORANGE, GREEN, RED, PURPLE, SKY, BLACK]


def one_panel(width: float, height: float) -> tuple[Figure, Axes]:
    """Return a figure in the course's style and its only panel; sizes are in inches."""
    figure, panels = several_panels(width, height)
    return figure, panels[0]


def several_panels(width: float, height: float, columns: int = 1, rows: int = 1) -> tuple[Figure, list[Axes]]:
    """Return a figure in the course's style and its panels, from left to right and from top to bottom.

    Sizes are in inches and belong to the whole figure; panels have no frame at the top and right.
    """
    figure = blank(width, height)
    panels = list(figure.subplots(rows, columns, squeeze=False).ravel())
    for panel in panels:
        panel.spines[["top", "right"]].set_visible(False)
        panel.set_prop_cycle(color=PALETTE)
    return figure, panels


def note(panel: Axes, text: str, point: Iterable[Any], offset: Iterable[float], **style: Any) -> None:
    """Write `text` beside a `point` (x, y) of the panel, moved by `offset` in points (1/72 inch)."""
    x, y = point
    right, up = offset
    panel.annotate(text, (x, y), xytext=(right, up), textcoords="offset points", **style)


def blank(width: float, height: float) -> Figure:
    """Return a figure without panels, for those that arrange their own; sizes are in inches."""
    return Figure(figsize=(width, height), layout="constrained")
