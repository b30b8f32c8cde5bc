"""A small toolkit for pictures that explain: 64 units wide, a unit is a tenth of an inch, y grows upwards.

A picture is a function that takes the lesson's own numbers, draws, and shows itself:

    from llmnotes.plots.drawing import arrow, box, canvas, note, show, vector

    def lookup(token, number, row):
        ax = canvas(10)                                                    # 64 units wide, 10 high
        word = box(ax, 1, 4, 10, 4, token, "token")                        # x, y, width, height, text, thing
        cells = vector(ax, 30, 4.5, row[:4], "stream", 7, dots=True)       # numbers as cells
        arrow(ax, word.right, cells.left, f"row {number}", "table")        # word.right is a point
        note(ax, cells.centre[0], 2, f"{len(row)} numbers")
        show(ax, "A token picks its row of the table.",                    # caption: what to see
             "The token cat, an arrow, and the first four numbers of its row.")  # for those who can't see it

To start a new picture, take paper with 64 columns, sketch it, and read the coordinates off. Then run it: `show` refuses
a picture whose texts overlap, leave their box or leave the canvas, and says which ones.

- A colour means one thing in the whole course (THINGS). A label or a place says the same, so grey print is enough.
- In a strip of cells, darker means larger in size; minus signs mark the negative ones.
- Text has at least SMALL points: that is what a phone still shows. One character is about 1 unit wide.
- No number in a picture is typed: it comes in as an argument.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch, Rectangle
from matplotlib.text import Text

from llmnotes.plots.display import DOTS, publish, small_png

Point = tuple[float, float]
Numbers = Sequence[float] | np.ndarray

WIDTH = 64  # units
SMALL, NORMAL, LARGE = 11.2, 12.2, 14
INK, FAINT = "#1d2733", "#616c79"
THINGS = {  # thing: (strong, pale)
    "stream": ("#1f5fa8", "#dbe8f6"),  # the rows of numbers that run through the model
    "attention": ("#c9650a", "#fde6cf"),
    "mlp": ("#2a7d46", "#d9efdf"),
    "norm": ("#6d4fa3", "#e9e2f5"),
    "table": ("#8a6d1a", "#f7ecc6"),  # the table of embeddings, at both ends
    "token": (INK, "#ffffff"),
    "old": ("#8b95a1", "#eceff2"),  # computed before, or of no interest now
    "alarm": ("#b3261e", "#fbe0dd"),  # something is wrong here
    "loss": ("#b3261e", "#fbe0dd"),  # how wrong a guess is
    "gradient": ("#0f7c86", "#d7eff1"),  # which way to turn a number, and how far
    "held out": ("#a3357a", "#f6dcea"),  # text that a training never sees
    "weight": ("#2a7d46", "#d9efdf"),  # a number of a matrix, and what comes back of it
    "code": ("#a3327a", "#f6deec"),  # the whole number that is kept for a weight, and a level
    "scale": ("#0f7f9b", "#d2ecf3"),  # what stretches, so the exponent of a float, too
    "error": ("#b3261e", "#fbe0dd"),  # what is lost of a weight
}


@dataclass(frozen=True)
class Spot:
    """A rectangle on the canvas, with the points where arrows start and end. Everything that draws one returns it."""

    x: float
    y: float
    w: float
    h: float

    left = property(lambda self: (self.x, self.y + self.h / 2))
    right = property(lambda self: (self.x + self.w, self.y + self.h / 2))
    top = property(lambda self: (self.x + self.w / 2, self.y + self.h))
    bottom = property(lambda self: (self.x + self.w / 2, self.y))
    centre = property(lambda self: (self.x + self.w / 2, self.y + self.h / 2))


def canvas(height: float) -> Axes:
    """Return empty axes, WIDTH units wide and `height` units high."""
    figure = Figure(figsize=(WIDTH / 10, height / 10), dpi=DOTS, facecolor="white")
    FigureCanvasAgg(figure)
    ax = figure.add_axes((0, 0, 1, 1))
    ax.set(xlim=(0, WIDTH), ylim=(0, height))
    ax.axis("off")
    return ax


def chart(ax: Axes, x: float, y: float, w: float, h: float, **limits: Any) -> Axes:
    """Return ordinary matplotlib axes at a place on the canvas, for curves and dots; `limits` go to `set`."""
    width, height = ax.get_xlim()[1], ax.get_ylim()[1]
    plot = cast(Figure, ax.figure).add_axes((x / width, y / height, w / width, h / height))
    plot.spines[["top", "right"]].set_visible(False)
    plot.tick_params(labelsize=SMALL, colors=INK)
    plot.set(**limits)
    return plot


def note(
    ax: Axes,
    x: float,
    y: float,
    text: str,
    size: float = SMALL,
    colour: str = INK,
    ha: Any = "center",
    bold: bool = False,
    code: bool = False,
    room: float | None = None,
) -> Text:
    """Write text at a point. `colour` may be a thing; `room` is the width, in units, that it must not exceed."""
    written = ax.text(
        x,
        y,
        text,
        size=size,
        color=THINGS.get(colour, (colour,))[0],
        ha=ha,
        va="center_baseline",
        zorder=9,
        linespacing=1.25,
        weight="bold" if bold else "normal",
        family="DejaVu Sans Mono" if code else "DejaVu Sans",
    )
    written.room = room  # pyright: ignore[reportAttributeAccessIssue]  (a mark of ours, which `faults` reads)
    return written


def signed(value: float, form: str = "{:+.2f}") -> str:
    """Write a number with a real minus sign, and zero without one."""
    text = form.format(float(value)).replace("-", "−")
    return text if text.strip("+−0.%") else text.lstrip("+−")


def box(
    ax: Axes,
    x: float,
    y: float,
    w: float,
    h: float,
    text: str = "",
    thing: str = "token",
    small: str | None = None,
    size: float = NORMAL,
    fill: str | None = None,
) -> Spot:
    """Draw a rounded box with a name and, below it in small letters, one fact. Tokens are written like code."""
    strong, pale = THINGS[thing]
    ax.add_patch(
        FancyBboxPatch(
            (x + 0.5, y + 0.5),
            w - 1,
            h - 1,
            boxstyle="round,pad=0.5,rounding_size=0.8",
            facecolor=fill or pale,
            edgecolor=strong,
            linewidth=1.5,
            zorder=3,
        )
    )
    lift = 1.25 if small else 0
    note(
        ax,
        x + w / 2,
        y + h / 2 + lift,
        text,
        size,
        bold=thing != "token",
        code=thing == "token",
        room=w,
        colour=FAINT if thing == "old" else INK,
    )
    if small:
        note(ax, x + w / 2, y + h / 2 - lift, small, room=w)
    return Spot(x, y, w, h)


def frame(ax: Axes, x: float, y: float, w: float, h: float, thing: str = "old") -> Spot:
    """Draw an empty dashed frame around things that belong together."""
    ax.add_patch(
        FancyBboxPatch(
            (x + 0.5, y + 0.5),
            w - 1,
            h - 1,
            boxstyle="round,pad=0.5,rounding_size=1",
            facecolor="none",
            edgecolor=THINGS[thing][0],
            linewidth=1.3,
            linestyle=(0, (4, 3)),
            zorder=2,
        )
    )
    return Spot(x, y, w, h)


def arrow(
    ax: Axes,
    start: Point,
    end: Point,
    text: str | None = None,
    thing: str = "token",
    side: str = "above",
    bend: float = 0.0,
    width: float = 1.6,
) -> None:
    """Draw an arrow from point to point, with a label beside its middle: above, below, left or right."""
    ax.add_patch(
        FancyArrowPatch(
            start,
            end,
            arrowstyle="-|>,head_length=5,head_width=2.6",
            linewidth=width,
            connectionstyle=f"arc3,rad={bend}",
            color=THINGS[thing][0],
            shrinkA=0,
            shrinkB=0,
            zorder=4,
            mutation_scale=1.5,
        )
    )
    if text:
        dx, dy, ha = {
            "above": (0, 1.6, "center"),
            "below": (0, -1.6, "center"),
            "left": (-1.1, 0, "right"),
            "right": (1.1, 0, "left"),
        }[side]
        note(ax, (start[0] + end[0]) / 2 + dx, (start[1] + end[1]) / 2 + dy, text, ha=ha)


def line(ax: Axes, points: Sequence[Point], thing: str = "stream", width: float = 1.6) -> None:
    """Draw a line through several points."""
    ax.plot(
        *zip(*points, strict=True),
        color=THINGS[thing][0],
        linewidth=width,
        solid_capstyle="butt",
        solid_joinstyle="round",
        zorder=2,
    )


def plus(ax: Axes, x: float, y: float, thing: str = "stream", sign: str = "+", r: float = 1.2) -> Spot:
    """Draw the little circle in which two streams meet; `sign` says how."""
    ax.add_patch(Circle((x, y), r, facecolor="white", edgecolor=THINGS[thing][0], linewidth=1.6, zorder=6))
    note(ax, x, y - 0.05, sign, NORMAL, bold=True)
    return Spot(x - r, y - r, 2 * r, 2 * r)


def shade(thing: str, share: float) -> tuple[tuple[float, ...], str]:
    """Return (fill, ink) for a cell: white at 0, the thing's own colour at 1, and letters that can be read on it."""
    share = min(max(float(share), 0), 1)
    fill = tuple(1 - 0.85 * share * (1 - part) for part in to_rgb(THINGS[thing][0]))
    return fill, "white" if share > 0.66 else INK


def cell(
    ax: Axes,
    x: float,
    y: float,
    w: float,
    h: float,
    text: str,
    thing: str = "stream",
    share: float = 0.0,
    code: bool = False,
    strong: bool = False,
) -> Spot:
    """Draw one cell with a text; `share` from 0 to 1 says how dark it is, `strong` gives it a thick edge."""
    fill, ink = shade(thing, share)
    ax.add_patch(
        Rectangle(
            (x, y),
            w,
            h,
            facecolor=fill,
            edgecolor=THINGS[thing][0],
            zorder=5 if strong else 3,
            linewidth=2.6 if strong else 0.8,
        )
    )
    note(ax, x + w / 2, y + h / 2, text, colour=ink, code=code, room=w)
    return Spot(x, y, w, h)


def vector(
    ax: Axes,
    x: float,
    y: float,
    values: Numbers,
    thing: str = "stream",
    cell_width: float = 6,
    h: float = 3.2,
    form: str = "{:+.2f}",
    top: float | None = None,
    dots: bool = False,
) -> Spot:
    """Draw numbers as a strip of cells. `top` is the size that is darkest; `dots` leaves a gap before the last one."""
    values = [float(value) for value in values]
    top = top or max(map(abs, values)) or 1
    at = x
    for i, value in enumerate(values):
        if dots and i == len(values) - 1:
            note(ax, at + 1.5, y + h / 2, "…", NORMAL)
            at += 3
        cell(ax, at, y, cell_width, h, signed(value, form), thing, abs(value) / top)
        at += cell_width
    return Spot(x, y, at - x, h)


def matrix(
    ax: Axes,
    x: float,
    y: float,
    w: float,
    h: float,
    name: str = "",
    thing: str = "stream",
    rows: str | None = None,
    cols: str | None = None,
    small: str | None = None,
    mark: float | None = None,
) -> Spot:
    """Draw a matrix with faint lines. `rows` and `cols` are written at its edges; `mark` fills a row, 0 on top."""
    strong, pale = THINGS[thing]
    ax.add_patch(Rectangle((x, y), w, h, facecolor=pale, edgecolor=strong, linewidth=1.4, zorder=3))
    for i in range(1, round(h)):
        ax.plot((x, x + w), (y + h * i / round(h),) * 2, color=strong, alpha=0.18, linewidth=0.6, zorder=3)
    for i in range(1, round(w)):
        ax.plot((x + w * i / round(w),) * 2, (y, y + h), color=strong, alpha=0.18, linewidth=0.6, zorder=3)
    if mark is not None:
        ax.add_patch(Rectangle((x, y + h * (1 - mark) - 0.5), w, 1, facecolor=strong, zorder=4))
    lift = 1.25 if small else 0
    note(ax, x + w / 2, y + h / 2 + lift, name, NORMAL, bold=True, room=w)
    note(ax, x + w / 2, y + h / 2 - lift, small or "", room=w)
    note(ax, x - 0.6, y + h / 2, rows or "", ha="right", colour=FAINT)
    note(ax, x + w / 2, y + h + 1.2, cols or "", colour=FAINT)
    return Spot(x, y, w, h)


def brace(ax: Axes, start: Point, end: Point, text: str = "", side: str = "below") -> None:
    """Draw a brace along a straight stretch, with its text on the far side: below, above or right."""
    (x0, y0), (x1, y1) = start, end
    if side == "right":
        tip, ends, place, ha = (x0 + 0.7, (y0 + y1) / 2), ((x0 + 0.7, y0), (x0 + 0.7, y1)), (1.9, 0), "left"
        point = (tip[0] + 0.6, tip[1])
    else:
        way = -1 if side == "below" else 1
        tip, ends, place, ha = (
            ((x0 + x1) / 2, y0 + way * 0.7),
            ((x0, y0 + way * 0.7), (x1, y0 + way * 0.7)),
            (0, way * 2),
            "center",
        )
        point = (tip[0], tip[1] + way * 0.6)
    for path in ([start, *ends, end], [tip, point]):
        ax.plot(*zip(*path, strict=True), color=FAINT, linewidth=1.2, zorder=3)
    note(ax, tip[0] + place[0], tip[1] + place[1], text, ha=ha)


def bars(
    ax: Axes,
    x: float,
    y: float,
    names: Sequence[str],
    values: Numbers,
    thing: str | Sequence[str] = "stream",
    length: float = 24,
    form: str = "{:.0%}",
    step: float = 3.2,
    top: float | None = None,
    code: bool = True,
) -> Spot:
    """Draw horizontal bars downwards from y: names end at x, bars begin there. `thing` may be one for each bar.

    Negative bars run to the left; their names stand further left then.
    """
    values = [float(value) for value in values]
    top = top or max(map(abs, values))
    things = [thing] * len(names) if isinstance(thing, str) else thing
    least = min(0.0, *values) / top * length
    for i, (name, value, kind) in enumerate(zip(names, values, things, strict=True)):
        middle, reach = y - step * (i + 0.5), value / top * length
        ax.add_patch(
            Rectangle(
                (x + min(reach, 0), middle - step * 0.34),
                max(abs(reach), 0.15),
                step * 0.68,
                facecolor=THINGS[kind][0],
                zorder=3,
            )
        )
        note(ax, x + least - (0.8 if least == 0 else 5.2), middle, name, ha="right", code=code)
        note(
            ax,
            x + reach + (0.7 if reach >= 0 else -0.7),
            middle,
            signed(value, form),
            ha="left" if reach >= 0 else "right",
        )
    ax.plot((x, x), (y, y - step * len(names)), color=INK, linewidth=1, zorder=4)
    return Spot(x, y - step * len(names), length, step * len(names))


def faults(ax: Axes) -> list[str]:
    """Return what is wrong with the texts of a picture: those that overlap, do not fit, or leave the canvas."""
    figure = cast(Figure, ax.figure)
    renderer = cast(FigureCanvasAgg, figure.canvas).get_renderer()
    seen, found, edge = [], [], figure.bbox
    for text in (text for axes in figure.axes for text in axes.texts if text.get_text()):
        name, area, room = text.get_text(), text.get_window_extent(renderer), getattr(text, "room", None)
        if room and area.width > room * DOTS / 10:
            found.append(f"{name!r} does not fit")
        if area.x0 < 0 or area.y0 < 0 or area.x1 > edge.x1 or area.y1 > edge.y1:
            found.append(f"{name!r} leaves the canvas")
        for other, place in seen:
            wide = min(area.x1, place.x1) - max(area.x0, place.x0)
            if wide > 1 and min(area.y1, place.y1) - max(area.y0, place.y0) > 2:
                found.append(f"{name!r} lies on {other!r}")
        seen.append((name, area))
    return found


def show(ax: Axes, caption: str, alt: str) -> None:
    """Display the picture with its `caption`; `alt` is read aloud to those who cannot see it.

    Words between backticks become code. Raises `ValueError` if texts collide, leave their box or leave the canvas.
    """
    if found := faults(ax):
        raise ValueError("; ".join(found))
    publish(small_png(cast(Figure, ax.figure)), alt, caption)
