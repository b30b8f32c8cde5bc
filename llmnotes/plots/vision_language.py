"""The figures of notebook 25: patches, captions against pictures, what is answered, and where the model looks."""

from collections.abc import Sequence
from textwrap import fill

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from llmnotes.plots import BLACK, BLUE, GREEN, ORANGE, PALETTE, RED, blank, one_panel, several_panels

LIGHT = "#cccccc"


def _bare(panel: Axes) -> None:
    panel.set(xticks=[], yticks=[])
    for spine in panel.spines.values():
        spine.set_visible(False)


def _picture(panel: Axes, image: ArrayLike) -> None:
    panel.imshow(np.asarray(image), interpolation="nearest")
    panel.set(xticks=[], yticks=[])
    for spine in panel.spines.values():
        spine.set(visible=True, color=LIGHT)


def patches(image: ArrayLike, size: int) -> Figure:
    """Return the figure of a picture (height, width, 3) with a grid over it, and of its patches, numbered."""
    pixels = np.asarray(image)
    lines, columns = pixels.shape[0] // size, pixels.shape[1] // size
    figure, (whole, cut) = several_panels(7.6, 3.8, columns=2)
    _picture(whole, pixels)
    for at in range(1, lines):
        whole.axhline(at * size - 0.5, color=BLACK, lw=0.5)
    for at in range(1, columns):
        whole.axvline(at * size - 0.5, color=BLACK, lw=0.5)
    whole.set_title(f"{pixels.shape[0]} × {pixels.shape[1]} pixels", fontsize=10)
    gap = 0.35 * size
    for number in range(lines * columns):
        line, column = divmod(number, columns)
        x, y = column * (size + gap), line * (size + gap)
        patch = pixels[line * size : (line + 1) * size, column * size : (column + 1) * size]
        cut.imshow(patch, extent=(x, x + size, y + size, y), interpolation="nearest")
        cut.text(x, y - 0.03 * size, str(number), fontsize=6, va="bottom", color=BLACK)
    cut.set(xlim=(-1, columns * (size + gap)), ylim=(lines * (size + gap), -gap), aspect="equal")
    cut.set_title(f"{lines * columns} patches, in the order in which they are read", fontsize=10)
    _bare(cut)
    return figure


def pictures(images: Sequence[ArrayLike], titles: list[str], columns: int = 4) -> Figure:
    """Return the figure of pictures with a few lines of text under each."""
    rows = -(-len(images) // columns)
    lines = max(title.count("\n") for title in titles) + 1
    figure, panels = several_panels(1.9 * columns, rows * (1.75 + 0.17 * lines), columns=columns, rows=rows)
    for panel, image, title in zip(panels, images, titles, strict=False):
        _picture(panel, image)
        panel.set_xlabel(title, fontsize=8)
    for panel in panels[len(images) :]:
        panel.remove()
    return figure


def captions(images: Sequence[ArrayLike], texts: list[str], probabilities: ArrayLike) -> Figure:
    """Return the figure of which caption fits which picture: pictures down, captions across, a share in each square."""
    table = np.asarray(probabilities)
    count = len(images)
    figure = blank(1.0 + 1.05 * len(texts), 0.75 * count + 1.0)
    grid = figure.subplots(count, 2, squeeze=False, width_ratios=[1, 1.4 * len(texts)])
    for panel, image in zip(grid[:, 0], images, strict=True):
        _picture(panel, image)
    for panel in grid[:, 1]:
        panel.remove()
    big = figure.add_subplot(grid[0, 1].get_gridspec()[:, 1])
    big.imshow(table, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for (line, column), share in np.ndenumerate(table):
        colour = "white" if share > 0.6 else BLACK
        big.text(column, line, f"{share:.2f}", ha="center", va="center", fontsize=8, color=colour)
    big.set(yticks=[])
    big.xaxis.tick_top()
    big.set_xticks(range(len(texts)), [fill(text, 15) for text in texts], fontsize=7)
    return figure


def by_kind(shares: dict[str, dict[str, float]]) -> Figure:
    """Return the figure of right answers, {model: {kind: share}}: a group of bars for each kind."""
    figure, panel = one_panel(7.0, 3.0)
    kinds = list(next(iter(shares.values())))
    width = 0.8 / len(shares)
    for place, (name, found) in enumerate(shares.items()):
        at = np.arange(len(kinds)) + (place - (len(shares) - 1) / 2) * width
        panel.bar(at, [found[kind] for kind in kinds], 0.9 * width, label=name, color=PALETTE[place])
        for x, kind in zip(at, kinds, strict=True):
            panel.text(x, found[kind] + 0.01, f"{100 * found[kind]:.0f}", ha="center", fontsize=7)
    panel.set_xticks(range(len(kinds)), kinds)
    panel.set(ylabel="share of right answers", ylim=(0, 1.08))
    figure.legend(loc="outside upper center", ncols=len(shares), frameon=False, fontsize=9)
    return figure


def occlusion(image: ArrayLike, falls: dict[str, np.ndarray]) -> Figure:
    """Return the figure of a picture, and of how far the answer's logit falls where a patch is covered, per question.

    `falls` are {question: (lines, columns)}; one scale for all, so that questions can be compared.
    """
    figure, panels = several_panels(2.3 * (len(falls) + 1) + 0.5, 2.7, columns=len(falls) + 1)
    _picture(panels[0], image)
    panels[0].set_title("the picture", fontsize=9)
    most = max(np.abs(fall).max() for fall in falls.values())
    pixels = np.asarray(image)
    for panel, (title, fall) in zip(panels[1:], falls.items(), strict=True):
        panel.imshow(pixels.mean(axis=2), cmap="gray", vmin=0, vmax=255, alpha=0.35)
        panel.imshow(
            fall,
            cmap="PuOr_r",
            vmin=-most,
            vmax=most,
            alpha=0.8,
            extent=(-0.5, pixels.shape[1] - 0.5, pixels.shape[0] - 0.5, -0.5),
            interpolation="nearest",
        )
        panel.set_title(title, fontsize=9)
        _bare(panel)
    figure.colorbar(panels[-1].images[-1], ax=panels, label="fall of the logit", shrink=0.8)
    return figure


def context(tokens: Sequence[int], total: Sequence[float], limits: dict[str, float], picture: int) -> Figure:
    """Return the figure of the gigabytes that a model takes against the tokens of its context.

    `limits` are {name: gigabytes}, drawn as lines across; `picture` is how many tokens a picture takes.
    """
    figure, panel = one_panel(6.6, 3.2)
    panel.plot(tokens, total, lw=2, color=BLUE)
    panel.axvspan(0, picture, color=ORANGE, alpha=0.3, lw=0)
    panel.text(picture, min(total), " one picture", color=RED, fontsize=8, va="top")
    for (name, value), colour in zip(limits.items(), (BLACK, GREEN, RED), strict=False):
        panel.axhline(value, color=colour, lw=1, linestyle="dashed")
        panel.text(tokens[-1], value, name, ha="right", va="bottom", fontsize=8, color=colour)
    panel.set(xlabel="tokens of context", ylabel="GB", xlim=(0, tokens[-1]))
    return figure
