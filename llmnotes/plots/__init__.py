"""Every figure of the course, one function each, which returns the figure; show() displays it with its alt text.

Colours are Okabe and Ito's, which readers with any kind of colour vision can tell apart.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

if TYPE_CHECKING:
    from plotly.graph_objects import Figure as Interactive

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


def show(figure: Figure | Interactive, alt: str, static: Figure | None = None) -> None:
    """Display `figure` with `alt`, the sentence for readers who do not see it.

    `figure` is a matplotlib figure, or a plotly figure; for a plotly figure `static` is the matplotlib figure that
    says the same where nothing interactive is shown (on GitHub, in print). Raises `TypeError` for a plotly figure
    without `static`.
    """
    from IPython.display import display

    picture = figure if static is None else static
    if not isinstance(picture, Figure):
        raise TypeError("A plotly figure needs a static matplotlib figure beside it; give it as static=.")
    buffer = io.BytesIO()
    picture.savefig(buffer, format="png", dpi=90, bbox_inches="tight")
    data = {"text/plain": alt, "image/png": buffer.getvalue()}
    if not isinstance(figure, Figure):
        import plotly.io as pio

        if pio.renderers.default in ("colab", "kaggle"):  # these show plotly in their own way only
            figure.show()
            return
        data["application/vnd.plotly.v1+json"] = json.loads(figure.to_json() or "null")
    display(data, raw=True, metadata={"image/png": {"alt": alt}})


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
