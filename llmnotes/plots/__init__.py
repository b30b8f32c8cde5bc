"""Every figure of the course, one function each, which returns the figure; show() displays it with its alt text.

Colours are Okabe and Ito's, which readers with any kind of colour vision can tell apart.
"""

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


def show(figure, alt: str, static=None) -> None:
    """Display `figure` with `alt`, the sentence for readers who do not see it.

    `figure` is a matplotlib figure, or a plotly figure; for a plotly figure `static` is the matplotlib figure that
    says the same where nothing interactive is shown (on GitHub, in print).
    """
    import io
    import json

    from IPython.display import display

    picture, data = figure if static is None else static, {"text/plain": alt}
    buffer = io.BytesIO()
    picture.savefig(buffer, format="png", dpi=90, bbox_inches="tight")
    data["image/png"] = buffer.getvalue()
    if static is not None:
        import plotly.io as pio

        if pio.renderers.default in ("colab", "kaggle"):  # these show plotly in their own way only
            figure.show()
            return
        data["application/vnd.plotly.v1+json"] = json.loads(figure.to_json())
    display(data, raw=True, metadata={"image/png": {"alt": alt}})


def axes(width: float = 6.0, height: float = 3.2, columns: int = 1, rows: int = 1):
    """Return (figure, axes) in the course's style: sizes in inches, no frame at the top and right.

    The axes are one panel, or a list of the panels from left to right and from top to bottom.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for panel in panels:
        panel.spines[["top", "right"]].set_visible(False)
        panel.set_prop_cycle(color=PALETTE)
    return figure, panels[0] if len(panels) == 1 else panels
