"""The figures of notebook 23: what sampling leaves over, what a template is worth, and who is answered when."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from llmnotes.plots import BLUE, ORANGE, PALETTE, one_panel, several_panels


def candidates(settings: Mapping[str, Sequence[float]], tokens: Sequence[str]) -> Figure:
    """Return the figure of the probabilities of the same tokens under several settings, a panel each.

    Each value of `settings` has as many probabilities as there are `tokens`; what is cut off is 0: a cross.
    """
    columns = 3
    rows = -(-len(settings) // columns)
    figure, panels = several_panels(8.4, 2.1 * rows + 0.5, columns, rows)
    places = np.arange(len(tokens))[::-1]
    for number, (panel, (name, values)) in enumerate(zip(panels, settings.items(), strict=False)):
        values = np.asarray(values)
        panel.barh(places, values, color=BLUE, height=0.7)
        gone = values == 0
        panel.plot(np.full(gone.sum(), 0.02), places[gone], "x", color=ORANGE, markersize=5)
        panel.set(xlim=(0, 1), title=name)
        panel.set_yticks(places, list(tokens) if number % columns == 0 else [""] * len(tokens))
        panel.tick_params(axis="y", length=0)
        panel.title.set_fontsize(10)
    for panel in panels[-columns:]:
        panel.set_xlabel("probability")
    for panel in panels[len(settings) :]:
        panel.set_visible(False)
    return figure


def shares(rows: Mapping[str, float], about: str) -> Figure:
    """Return the figure of one bar for each row, from 0 to 1, with `about` under the axis."""
    figure, panel = one_panel(7.0, 0.7 + 0.38 * len(rows))
    places = np.arange(len(rows))[::-1]
    panel.barh(places, list(rows.values()), color=BLUE, height=0.62)
    for place, value in zip(places, rows.values(), strict=True):
        panel.text(value + 0.01, place, f"{value:.0%}", va="center", fontsize=9)
    panel.set(yticks=places, yticklabels=list(rows), xlim=(0, 1.08), xlabel=about)
    panel.tick_params(axis="y", length=0)
    return figure


def arrivals(runs: Mapping[str, Sequence[tuple[float, int]]]) -> Figure:
    """Return the figure of when each client got a piece: by run, (seconds since the first, number of the client)."""
    figure, panels = several_panels(7.4, 3.4, 1, len(runs))
    for panel, (name, pieces) in zip(panels, runs.items(), strict=True):
        clients = sorted({client for _, client in pieces})
        for client in clients:
            times = [moment for moment, who in pieces if who == client]
            panel.plot(times, [client] * len(times), "|", color=PALETTE[client % len(PALETTE)], markersize=12)
        panel.set(title=name, yticks=clients, yticklabels=[f"client {client + 1}" for client in clients])
        panel.set(ylim=(max(clients) + 0.6, min(clients) - 0.6), xlim=(0, None))
        panel.title.set_fontsize(10)
    panels[-1].set_xlabel("seconds, a mark for each piece of an answer")
    return figure
