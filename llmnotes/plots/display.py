"""How a picture reaches the reader: a small PNG with its words for those who cannot see it, and a caption below.

A picture is two outputs. The first is an image, with the alternative text where nbconvert and GitHub look for it. The
second is the caption, as HTML; JupyterLab and Colab drop an image's alternative text, so the caption carries the same
words for screen readers. Tests compare captions and alternative texts, and never pixels.
"""

from __future__ import annotations

import html
import io
import json
import re
from typing import TYPE_CHECKING

from matplotlib.figure import Figure

if TYPE_CHECKING:
    from plotly.graph_objects import Figure as Interactive

DOTS = 150  # per inch
WIDTH = 860  # pixels on the page, at most


def show(figure: Figure | Interactive, alt: str, static: Figure | None = None, caption: str = "") -> None:
    """Display `figure` with its `caption`; `alt` is the sentence for readers who do not see it.

    `figure` is a matplotlib figure, or a plotly figure; for a plotly figure `static` is the matplotlib figure that
    says the same where nothing interactive is shown (on GitHub, in print). Raises `TypeError` for a plotly figure
    without `static`.
    """
    picture = figure if static is None else static
    if not isinstance(picture, Figure):
        raise TypeError("A plotly figure needs a static matplotlib figure beside it; give it as static=.")
    if isinstance(figure, Figure):
        publish(small_png(picture, tight=True), alt, caption)
        return
    import plotly.io as pio

    if pio.renderers.default in ("colab", "kaggle"):  # these show plotly in their own way only
        figure.show()
        return
    publish(small_png(picture, tight=True), alt, caption, plotly=json.loads(figure.to_json() or "null"))


def small_png(figure: Figure, tight: bool = False) -> bytes:
    """Return the picture as the bytes of a small PNG file, in 64 colours; `tight` cuts off empty edges."""
    from PIL import Image

    large, small = io.BytesIO(), io.BytesIO()
    figure.savefig(large, format="png", dpi=DOTS, bbox_inches="tight" if tight else None)
    Image.open(large).convert("RGB").quantize(64).save(small, format="png", optimize=True)
    return small.getvalue()


def publish(png: bytes, alt: str, caption: str, plotly: dict | None = None) -> None:
    """Display a PNG with its alternative text, and the caption below; words between backticks become code."""
    from IPython.display import display

    inches = int.from_bytes(png[16:20], "big") / DOTS  # the width stands in the PNG's header
    width = min(WIDTH, round(inches * WIDTH / 6.4))
    data: dict = {"text/plain": alt, "image/png": png}
    if plotly is not None:
        data["application/vnd.plotly.v1+json"] = plotly
    display(data, raw=True, metadata={"image/png": {"alt": alt, "width": width}})
    if caption:
        words = re.sub(r"`(.+?)`", r"<code>\1</code>", html.escape(caption, quote=False))
        spoken = f'<span role="img" aria-label="{html.escape(alt)}"></span>'
        display({"text/plain": caption, "text/html": f"<p><em>{words}</em>{spoken}</p>"}, raw=True)
