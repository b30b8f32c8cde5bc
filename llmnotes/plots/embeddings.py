"""The figures of notebook 01: analogies, two tellings of a story, maps of words, lengths, layers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure

from llmnotes.plots import BLACK, BLUE, GREEN, ORANGE, PALETTE, RED, SKY, note, one_panel

if TYPE_CHECKING:
    from plotly.graph_objects import Figure as Interactive


def analogy_bars(percent: dict[str, tuple[float, float, float]]) -> Figure:
    """Return the figure of analogies answered, in percent, by relation.

    `percent` is {relation: (inputs excluded, inputs excluded and no arithmetic, nothing excluded)}.
    """
    figure, panel = one_panel(7.0, 4.4)
    place = np.arange(len(percent))[::-1]
    labels = ("b - a + c, inputs excluded", "nearest to c, inputs excluded", "b - a + c, nothing excluded")
    for shift, label, colour, values in zip(
        (0.27, 0, -0.27), labels, (BLUE, SKY, ORANGE), zip(*percent.values(), strict=True), strict=True
    ):
        panel.barh(place + shift, values, height=0.26, color=colour, label=label)
    panel.set_yticks(place, list(percent))
    panel.set(xlabel="right answers in percent", xlim=(0, 100))
    panel.legend(loc="lower right", fontsize=8, frameon=False)
    return figure


def story_matrix(scores: np.ndarray, labels: np.ndarray) -> Figure:
    """Return the figure of cosines between two tellings (first, second), with a frame around the true matches."""
    figure, panel = one_panel(5.0, 4.2)
    image = panel.imshow(scores, cmap="cividis", vmin=0, vmax=0.7)
    for row, column in zip(*np.nonzero(labels), strict=True):
        panel.plot(column, row, marker="s", markersize=17, markerfacecolor="none", markeredgecolor=RED, mew=2)
    numbers = range(0, len(scores), 2)
    panel.set_xticks(numbers, [str(n + 1) for n in numbers])
    panel.set_yticks(numbers, [str(n + 1) for n in numbers])
    panel.set(xlabel="sentence of the second telling", ylabel="sentence of the first telling")
    figure.colorbar(image, label="cosine")
    return figure


def precision_recall_curve(curves: dict[str, tuple], points: dict[str, tuple[float, float]]) -> Figure:
    """Return the figure of precision against recall; `curves` and `points` are {label: (recall, precision)}."""
    figure, panel = one_panel(6.0, 3.6)
    for (label, (recall, precision)), colour in zip(curves.items(), (BLUE, SKY), strict=False):
        panel.plot(recall, precision, drawstyle="steps-post", lw=2, color=colour, label=label)
    for (label, (recall, precision)), colour, marker in zip(points.items(), (RED, ORANGE, GREEN), "osD", strict=False):
        panel.plot(recall, precision, marker, color=colour, markersize=9, label=label)
    panel.set(xlabel="recall: share of the true matches found", ylabel="precision", xlim=(0, 1.02), ylim=(0, 1.05))
    panel.legend(fontsize=8, frameon=False, loc="lower left")
    return figure


# Where a label stands from its point, in plotly's words; and how matplotlib then aligns it.
COLUMNS, ROWS = {"center": 0, "right": 1, "left": -1}, {"top": 1, "bottom": -1, "middle": 0}
ALIGN = {"right": "left", "left": "right", "center": "center", "top": "bottom", "bottom": "top", "middle": "center"}


def label_sides(points: np.ndarray, words: list[str]) -> list[str]:
    """Return for each point (words, 2) the side where its label covers least of the other labels and points."""
    spots = (points - points.min(axis=0)) / np.maximum(np.ptp(points, axis=0), 1e-9)
    sizes = np.array([(0.013 * len(word), 0.035) for word in words])  # in shares of the figure, roughly
    sides = [f"{up} {across}" for up in ROWS for across in COLUMNS if (up, across) != ("middle", "center")]
    steps = np.array([(COLUMNS[side.split()[1]], ROWS[side.split()[0]]) for side in sides])
    chosen = np.zeros(len(words), dtype=int)
    for _ in range(5):  # each label in turn moves to where it covers least, given where the others are now
        for index, (spot, size) in enumerate(zip(spots, sizes, strict=True)):
            others = np.arange(len(words)) != index
            centres = np.concatenate([(spots + steps[chosen] * (sizes / 2 + 0.012))[others], spots[others]])
            extents = np.concatenate([sizes[others], np.full((others.sum(), 2), 0.02)])
            gaps = np.abs((spot + steps * (size / 2 + 0.012))[:, None] - centres)  # (sides, labels and points, 2)
            chosen[index] = np.maximum((extents + size) / 2 - gaps, 0).prod(axis=-1).sum(axis=-1).argmin()
    return [sides[choice] for choice in chosen]


def word_map(
    coordinates: np.ndarray, words: list[str], groups: dict[str, list[str]], shares: np.ndarray
) -> tuple[Interactive, Figure]:
    """Return (interactive figure, static figure) of words at `coordinates` (words, 2 or 3), a colour for each group.

    `shares` are the parts of the variance that the axes show. In 3-D the static figure names one word a group.
    """
    points = np.round(coordinates, 3)
    names = [f"axis {n + 1} ({share:.0%})" for n, share in enumerate(shares)]
    sides = dict(zip(words, label_sides(points[:, :2], words), strict=True))
    low, high = points.min(axis=0), points.max(axis=0)
    room = 0.14 * (high - low)  # for the words beside the outermost points
    ranges = [
        [round(float(start), 3), round(float(end), 3)] for start, end in zip(low - room, high + room, strict=True)
    ]
    places = {word: point for word, point in zip(words, points, strict=True)}
    if coordinates.shape[1] == 3:
        static = _static_3d(places, groups, sides)
    else:
        static = _static_2d(places, groups, sides)
    panel = static.axes[0]
    panel.set(**{f"{letter}label": name for letter, name in zip("xyz", names, strict=False)})
    panel.set(**{f"{letter}lim": ends for letter, ends in zip("xyz", ranges, strict=False)})
    beside = 1.15 if coordinates.shape[1] == 3 else 1.0
    panel.legend(fontsize=8, frameon=False, loc="upper left", bbox_to_anchor=(beside, 1))
    return _interactive(places, groups, sides, names, ranges), static


def _interactive(
    places: dict[str, np.ndarray],
    groups: dict[str, list[str]],
    sides: dict[str, str],
    names: list[str],
    ranges: list[list[float]],
) -> Interactive:
    import plotly.graph_objects as go

    solid = len(ranges) == 3
    figure = go.Figure()
    for (group, members), colour in zip(groups.items(), PALETTE, strict=False):
        rows = np.array([places[word] for word in members])
        kind = go.Scatter3d if solid else go.Scatter
        figure.add_trace(
            kind(
                **dict(zip("xyz", rows.T.tolist(), strict=False)),
                text=members,
                textposition=[sides[word] for word in members],
                mode="markers+text",
                textfont={"color": colour},
                name=group,
                marker={"color": colour, "size": 4 if solid else 9},
            )
        )
    titles: dict[str, Any] = {
        f"{letter}axis": {"title": {"text": name}, "range": ends}
        for letter, name, ends in zip("xyz", names, ranges, strict=False)
    }
    layout = {"scene": titles} if solid else titles
    figure.update_layout(layout | {"height": 520, "margin": {"l": 10, "r": 10, "t": 40, "b": 10}})
    return figure


def _static_2d(places: dict[str, np.ndarray], groups: dict[str, list[str]], sides: dict[str, str]) -> Figure:
    figure, panel = one_panel(7.4, 4.6)
    for (group, members), colour in zip(groups.items(), PALETTE, strict=False):
        panel.scatter(*np.array([places[word] for word in members]).T, color=colour, label=group, s=18)
        for word in members:
            up, across = sides[word].split()
            away = 4 * COLUMNS[across], 3 * ROWS[up]
            note(panel, word, places[word], away, fontsize=7, color=colour, ha=ALIGN[across], va=ALIGN[up])
    return figure


def _static_3d(places: dict[str, np.ndarray], groups: dict[str, list[str]], sides: dict[str, str]) -> Figure:
    from mpl_toolkits.mplot3d import Axes3D

    figure = Figure(figsize=(6.4, 4.4))
    panel = figure.add_subplot(projection="3d")
    assert isinstance(panel, Axes3D)
    centre = np.mean(list(places.values()), axis=0)
    for (group, members), colour in zip(groups.items(), PALETTE, strict=False):
        rows = np.array([places[word] for word in members])
        panel.scatter(*rows.T, color=colour, label=group, s=18)
        outermost = members[np.linalg.norm(rows - centre, axis=1).argmax()]
        up, across = sides[outermost].split()
        x, y, z = places[outermost]
        panel.text(x, y, z, f" {outermost} ", fontsize=8, color=colour, ha=ALIGN[across], va=ALIGN[up])
    return figure


def through_layers(curves: dict[str, list[float]]) -> Figure:
    """Return the figure of one cosine a layer; `curves` is {label: values from the table to the last layer}."""
    figure, panel = one_panel(6.0, 3.2)
    for (name, values), marker in zip(curves.items(), "osD^", strict=False):
        panel.plot(range(len(values)), values, marker=marker, lw=2, label=name)
    last = len(next(iter(curves.values()))) - 1
    panel.set_xticks(range(last + 1), ["table", *(f"{n}" for n in range(1, last + 1))])
    panel.set(xlabel="after layer", ylabel="cosine", ylim=(-0.25, 1.05))
    panel.axhline(0, color=BLACK, lw=0.6)
    panel.legend(fontsize=8, frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def lengths_by_rank(rows: np.ndarray, lengths: np.ndarray, marked: dict[str, int]) -> Figure:
    """Return the figure of vector lengths against the place of a token in the vocabulary; `marked` {word: index}."""
    figure, panel = one_panel(6.4, 3.4)
    panel.scatter(rows[::5], lengths[::5], s=4, alpha=0.5, color=SKY, linewidths=0)  # one in five is plenty
    for word, index in marked.items():
        panel.plot(rows[index], lengths[index], "o", color=RED, markersize=5)
        note(panel, word, (rows[index], lengths[index]), (5, 4), fontsize=9)
    panel.set_xscale("log")
    panel.set(xlabel="row in the vocabulary, commonest tokens first", ylabel="length of the vector")
    return figure


def cosine_histograms(samples: dict[str, np.ndarray]) -> Figure:
    """Return the figure of how often each cosine occurs between random pairs; `samples` is {label: cosines}."""
    figure, panel = one_panel(6.4, 3.0)
    for label, values in samples.items():
        panel.hist(values, bins=np.linspace(-1, 1, 101).tolist(), density=True, histtype="step", lw=2, label=label)
    panel.axvline(0, color=BLACK, lw=0.6)
    panel.set(xlabel="cosine of two random vectors", ylabel="density", xlim=(-0.4, 0.7))
    panel.legend(fontsize=8, frameon=False, loc="upper left")
    return figure
