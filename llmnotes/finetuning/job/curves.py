"""What the log of a training shows: the step with the lowest held-out loss, and both losses as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from llmnotes.formats.safe_write import new_file


def best(records: Sequence[dict]) -> int:
    """Return the step after which the held-out loss was lowest, of those that were measured; 0 where none was.

    What was measured before the first step does not count.

    >>> best([{"step": 0, "eval_loss": 1.0}, {"step": 3, "eval_loss": 2.0}, {"step": 6, "eval_loss": 2.5}])
    3
    """
    found = [(record["eval_loss"], record["step"]) for record in records if "eval_loss" in record and record["step"]]
    return min(found, default=(0.0, 0))[1]


def waited(records: Sequence[dict]) -> int:
    """Return how many measurements have passed since the best one.

    >>> waited([{"step": 3, "eval_loss": 2.0}, {"step": 6, "eval_loss": 2.5}])
    1
    """
    return sum("eval_loss" in record and record["step"] > best(records) > 0 for record in records)


def draw(records: Sequence[dict], path: Path) -> None:
    """Write the losses in a log as a PNG: a line for what was learned, points for what was held out.

    A picture that is there already stays: the run that drew it was killed a moment later. Raises `CannotWrite`.
    """
    from matplotlib.figure import Figure

    if path.exists():
        return
    figure = Figure(figsize=(6.4, 3.6), dpi=150, layout="constrained")
    axes = figure.add_subplot(xlabel="step", ylabel="loss (nats a token)")
    for key, style, label in (("loss", "-", "training"), ("eval_loss", "o--", "held out")):
        found = [(record["step"], record[key]) for record in records if key in record]
        if found:
            axes.plot(*zip(*found, strict=True), style, label=label)
    axes.legend()
    with new_file(path) as file:
        figure.savefig(file, format="png")
