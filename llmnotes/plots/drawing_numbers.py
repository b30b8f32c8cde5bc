"""Pieces of pictures about numbers in memory, on top of `drawing`: bits, number lines, tiles, and matrices as dots.

They take coordinates as everything in `drawing` does: 64 units wide, y upwards.
"""

from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.patches import FancyArrowPatch, Rectangle

from llmnotes.plots.drawing import FAINT, THINGS, Numbers, Spot, cell, note, shade


def minus(words: object) -> str:
    """Return words with real minus signs.

    >>> minus(-3)
    '−3'
    """
    return str(words).replace("-", "−")


def bits(
    ax: Axes, x: float, y: float, pattern: str, parts: Sequence[tuple[int, str]], width: float = 1.9, h: float = 3.0
) -> list[Spot]:
    """Draw a pattern such as "0101" as cells, 1 dark and 0 pale; `parts` says how many of which thing, in order."""
    spots, at = [], 0
    for count, thing in parts:
        for i in range(at, at + count):
            cell(ax, x + i * width, y, width, h, pattern[i], thing, 0.95 if pattern[i] == "1" else 0.1, code=True)
        spots.append(Spot(x + at * width, y, count * width, h))
        at += count
    return spots


def tiles(ax: Axes, x: float, y: float, count: float, thing: str, size: float = 2.4, beyond: float = np.inf) -> float:
    """Draw memory as square tiles in a row, the last one cut if `count` is no whole number; return where they end.

    Tiles from number `beyond` on are drawn as errors.
    """
    for i in range(int(np.ceil(count - 1e-9))):
        kind = "error" if i >= beyond else thing
        width = (size - 0.3) * min(1.0, count - i)
        ax.add_patch(Rectangle((x + i * size, y), width, size - 0.3, facecolor=THINGS[kind][0], zorder=3))
    return x + count * size


def number_line(
    ax: Axes,
    y: float,
    reach: tuple[float, float],
    ticks: Numbers = (),
    labels: Numbers = (),
    thing: str = "token",
    names: Sequence[str] | None = None,
) -> Callable[[Numbers | float], np.ndarray]:
    """Draw a number line at height y; return the function that says where on it a number stands (x).

    Labels go below the ticks: the numbers in `labels`, or `names` for them.
    """
    (low, high), x0, x1 = reach, 3, 61

    def place(value: Numbers | float) -> np.ndarray:
        return x0 + (np.asarray(value, float) - low) / (high - low) * (x1 - x0)

    colour = THINGS[thing][0]
    ax.plot((x0, x1), (y, y), color=colour, linewidth=1.2, zorder=2)
    for value in ticks:
        ax.plot((place(value),) * 2, (y - 0.8, y + 0.8), color=colour, linewidth=1.1, zorder=2)
    for value, name in zip(labels, names or [str(label) for label in labels], strict=True):
        note(ax, float(place(value)), y - 2.1, minus(name), colour=thing)
    return place


def dots(ax: Axes, xs: Numbers, y: float, thing: str = "weight", square: bool = False) -> None:
    """Draw dots, or squares, at each of xs."""
    ax.scatter(
        xs,
        np.broadcast_to(y, np.shape(xs)),
        s=46,
        color=THINGS[thing][0],
        edgecolor="white",
        linewidth=0.9,
        zorder=6,
        marker="s" if square else "o",
    )


def fall(ax: Axes, starts: Numbers, ends: Numbers, y0: float, y1: float, thing: str = "weight") -> None:
    """Draw thin arrows from each of starts, at height y0, to the same number of ends, at height y1."""
    for start, end in zip(starts, ends, strict=True):
        ax.add_patch(
            FancyArrowPatch(
                (start, y0 - 0.7),
                (end, y1 + 0.8),
                arrowstyle="-|>,head_length=4,head_width=2",
                linewidth=1.2,
                color=THINGS[thing][0],
                shrinkA=0,
                shrinkB=0,
                mutation_scale=1.2,
                zorder=3,
            )
        )


def patch(
    ax: Axes, x: float, y: float, w: float, h: float, values: np.ndarray, limit: float, thing: str = "weight"
) -> Spot:
    """Draw a matrix as tiny cells: white is 0, the thing's own colour is a size of `limit` or more."""
    colours = ListedColormap([shade(thing, share)[0] for share in np.linspace(0, 1, 64)])
    ax.imshow(
        np.abs(values),
        cmap=colours,
        vmin=0,
        vmax=limit,
        extent=(x, x + w, y, y + h),
        aspect="auto",
        interpolation="nearest",
        zorder=3,
    )
    ax.add_patch(Rectangle((x, y), w, h, facecolor="none", edgecolor=THINGS[thing][0], linewidth=1, zorder=4))
    return Spot(x, y, w, h)


def magnify(ax: Axes, top: tuple[float, float, float], bottom: tuple[float, float, float]) -> None:
    """Shade the region between a piece of one row, (x0, x1, y), and its enlargement in the next."""
    (a, b, y), (c, d, z) = top, bottom
    ax.fill((a, b, d, c), (y, y, z, z), color=FAINT, alpha=0.2, linewidth=0, zorder=1)


def nearest(values: Numbers, levels: Numbers) -> np.ndarray:
    """Return for each value the level that is closest to it.

    >>> nearest([0.2, 0.9], [0, 1]).tolist()
    [0, 1]
    """
    levels = np.asarray(levels)
    return levels[np.abs(levels[:, None] - np.asarray(values)).argmin(0)]
