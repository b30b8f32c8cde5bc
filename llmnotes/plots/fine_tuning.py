"""The figures of notebook 17: how low the rank of a change is, what is learned and forgotten, a sweep, loss curves."""

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from llmnotes.plots import BLUE, GREEN, ORANGE, PALETTE, RED, note, one_panel, several_panels


def spectrum(shares: Mapping[str, Sequence[float]], marked: int) -> Figure:
    """Return the figure of how much of a matrix its first directions hold.

    `shares` has, for each matrix, the share of its squared length (0 to 1) in its first 1, 2, ... directions; a line
    stands at `marked` directions.
    """
    figure, panel = one_panel(6.2, 3.3)
    for (name, values), colour in zip(shares.items(), (BLUE, ORANGE, GREEN), strict=False):
        panel.plot(range(1, len(values) + 1), values, color=colour, label=name)
    panel.axvline(marked, color="#999999", linewidth=1, linestyle="--")
    note(panel, f"{marked} directions", (marked, 0.02), (4, 0), color="#555555")
    panel.set(xlabel="directions, the largest first", ylabel="share of the change", ylim=(0, 1.02), xscale="log")
    panel.set_xticks([1, 4, 16, 64, 256], ["1", "4", "16", "64", "256"])
    panel.legend(frameon=False, loc="upper left")
    return figure


def learned_and_kept(runs: Mapping[str, Sequence[tuple[int, float, float]]]) -> Figure:
    """Return the figure of both exams along a training: for each run, (step, new facts, old facts), shares 0 to 1."""
    figure, panels = several_panels(8.0, 3.2, columns=2)
    styles = list(zip((RED, BLUE, GREEN), ("--", "-", ":"), strict=True))
    for panel, place, title in zip(panels, (1, 2), ("new facts", "old facts"), strict=True):
        for (name, points), (colour, style) in zip(runs.items(), styles, strict=False):
            panel.plot(
                [point[0] for point in points],
                [point[place] for point in points],
                "o",
                linestyle=style,
                color=colour,
                label=name,
            )
        panel.set(xlabel="step", ylim=(-0.03, 1.05), title=title)
    panels[0].set_ylabel("right answers")
    panels[1].legend(frameon=False, loc="lower left")
    return figure


def sweep(points: Sequence[Mapping]) -> Figure:
    """Return the figure of a sweep: exams on new and on old facts against the learning rate, a line for each setting.

    Each point has r, alpha, learning_rate, new and old (0 to 1). Left: ranks, where alpha is twice the rank; right:
    alphas at one rank.
    """
    figure, panels = several_panels(9.0, 5.2, columns=2, rows=2)
    ranks = [point for point in points if point["alpha"] == 2 * point["r"]]
    one = max({point["r"] for point in points}, key=lambda r: len({p["alpha"] for p in points if p["r"] == r}))
    alphas = [point for point in points if point["r"] == one]
    ticks = sorted({point["learning_rate"] for point in points})
    for column, (chosen, key) in enumerate(((ranks, "r"), (alphas, "alpha"))):
        for panel, exam in zip(panels[column::2], ("new", "old"), strict=True):
            for number, value in enumerate(sorted({point[key] for point in chosen})):
                line = sorted((p for p in chosen if p[key] == value), key=lambda p: p["learning_rate"])
                rates, right = [p["learning_rate"] for p in line], [p[exam] for p in line]
                style = "osD^"[number] + ("-", "--", "-.", ":")[number]
                panel.plot(rates, right, style, color=PALETTE[number], label=f"{value:g}")
            panel.set(xscale="log", ylim=(-0.05, 1.05))
            panel.set_xticks(ticks, [f"{rate:g}" for rate in ticks])
            panel.minorticks_off()
        panels[column + 2].set_xlabel("learning rate")
        panels[column].legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1), title={"r": "rank"}.get(key, key))
    panels[0].set(ylabel="right answers, new facts", title="rank, with alpha = 2 · rank")
    panels[1].set(title=f"alpha, with rank {one}")
    panels[2].set_ylabel("right answers, old facts")
    return figure


def losses(curves: Mapping[str, Sequence[tuple[int, float]]]) -> Figure:
    """Return the figure of losses along a training: by name, (step, nats per token)."""
    figure, panel = one_panel(6.2, 3.3)
    for (name, points), colour, style in zip(curves.items(), (BLUE, RED, GREEN), ("-", "o-", "s--"), strict=False):
        panel.plot(*zip(*points, strict=True), style, color=colour, label=name)
    panel.set(xlabel="step", ylabel="loss, nats per token", ylim=(0, None))
    panel.legend(frameon=False)
    return figure
