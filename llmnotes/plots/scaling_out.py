"""The figures of notebook 26: a ring step by step, what a process holds, how long GPUs talk, and what fits where."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import ArrayLike

from llmnotes.plots import BLACK, BLUE, GREEN, ORANGE, SKY, one_panel, several_panels

COLOURS = {"parameters": BLUE, "gradients": ORANGE, "optimizer": GREEN}
WHERE = {"GPU": (GREEN, "white"), "part": (ORANGE, BLACK), "RAM": (SKY, BLACK), "no": ("#eeeeee", BLACK)}


def ring(states: ArrayLike) -> Figure:
    """Return the figure of a ring all-reduce; `states` are (steps, processes, pieces), how many parts each piece has.

    One table for each step, a row for each process and a column for each piece; a piece with all its parts is blue.
    """
    states = np.asarray(states, dtype=int)
    steps, processes, pieces = states.shape
    figure, panels = several_panels(1.5 * steps, 1.75, columns=steps)
    figure.set_layout_engine("constrained", wspace=0.12)
    for step, (panel, state) in enumerate(zip(panels, states, strict=True)):
        for row in range(processes):
            for column in range(pieces):
                parts = state[row, column]
                full = parts == processes
                face = BLUE if full else SKY if parts > 1 else "#eeeeee"
                panel.add_patch(_square(column, row, face))
                panel.text(column, row, str(parts), ha="center", va="center", color="white" if full else BLACK)
        panel.set(xlim=(-0.5, pieces - 0.5), ylim=(processes - 0.5, -0.5), aspect="equal")
        panel.set_title("start" if step == 0 else f"step {step}", fontsize=10)
        panel.set(xticks=[], yticks=range(processes) if step == 0 else [])
        panel.tick_params(length=0)
        panel.spines[["left", "bottom"]].set_visible(False)
    panels[0].set_ylabel("process")
    return figure


def _square(column: int, row: int, face: str) -> Rectangle:
    return Rectangle((column - 0.5, row - 0.5), 1, 1, facecolor=face, edgecolor="white", linewidth=2)


def held(table: dict[str, dict[str, int]]) -> Figure:
    """Return the figure of what one process holds, a bar for each entry {name: {part: bytes}}."""
    figure, panel = one_panel(6.4, 0.55 * len(table) + 1.1)
    names = list(table)
    left = np.zeros(len(names))
    for part, colour in COLOURS.items():
        sizes = np.array([table[name][part] for name in names]) / 1e6
        panel.barh(names, sizes, left=left, color=colour, label=part, height=0.6)
        left += sizes
    panel.invert_yaxis()
    panel.set(xlabel="MB in one process")
    panel.legend(frameon=False, ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    return figure


def talk(shares: dict[str, dict[str, dict[int, float]]]) -> Figure:
    """Return the figure of the share of a step that goes into talk: {network: {method: {GPUs: share}}}.

    Bars, not lines: what lies between two counts of GPUs is no slope, but a jump where the second machine begins.
    """
    figure, panels = several_panels(9.4, 3.3, columns=len(shares))
    for panel, (network, methods) in zip(panels, shares.items(), strict=True):
        for place, ((method, points), colour) in enumerate(zip(methods.items(), COLOURS.values(), strict=True)):
            at = np.arange(len(points)) + 0.29 * (place - 1)
            bars = panel.bar(at, list(points.values()), width=0.27, color=colour, label=method)
            panel.bar_label(bars, [f"{share:.0%}" for share in points.values()], fontsize=9, padding=2)
        counts = next(iter(methods.values()))
        panel.set(ylim=(0, 1), xlabel="GPUs", title=network)
        panel.set_xticks(range(len(counts)), [str(gpus) for gpus in counts])
        panel.set_yticks((0, 0.25, 0.5, 0.75, 1), ("0%", "25%", "50%", "75%", "100%"))
    panels[0].set_ylabel("share of a step spent on talk")
    panels[0].legend(frameon=False, loc="upper left")
    return figure


def fits(table: dict[str, dict[str, dict[str, str]]]) -> Figure:
    """Return the figure of what fits where, a square for each of {model: {machine: {file type: a key of WHERE}}}."""
    figure, panels = several_panels(9.4, 3.2, columns=len(table))
    for number, (panel, (model, rows)) in enumerate(zip(panels, table.items(), strict=True)):
        for row, kinds in enumerate(rows.values()):
            for column, where in enumerate(kinds.values()):
                face, ink = WHERE[where]
                panel.add_patch(_square(column, row, face))
                panel.text(column, row, where, ha="center", va="center", color=ink, fontsize=9)
        kinds = list(next(iter(rows.values())))
        panel.set(xlim=(-0.5, len(kinds) - 0.5), ylim=(len(rows) - 0.5, -0.5))
        panel.set_title(model, fontsize=10)
        panel.set_xticks(range(len(kinds)), kinds, fontsize=9)
        panel.set_yticks(range(len(rows)) if number == 0 else [], list(rows) if number == 0 else [])
        panel.tick_params(length=0)
        panel.spines[["left", "bottom"]].set_visible(False)
    return figure
