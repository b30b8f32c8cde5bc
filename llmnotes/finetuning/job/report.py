"""What a fine-tuning came to, as data and as text."""

from __future__ import annotations

import shlex
from dataclasses import asdict, dataclass

from llmnotes.finetuning.job.output import Output
from llmnotes.finetuning.job.rows import Rows
from llmnotes.finetuning.job.settings import Settings
from llmnotes.models import LanguageModel


@dataclass(frozen=True)
class Report:
    """What a fine-tuning came to. `measured` holds held-out loss and exam before, during and after, by step."""

    result: str  # the folder of the adapter or the model
    steps: int
    resumed_at: int  # the step that this run went on from; 0 for one from the beginning
    learning: int  # numbers that were trained
    rows: int
    tokens: int
    seconds: float  # of training, in all runs together
    loss: float | None  # of the last step; None where the log was lost
    measured: list[dict]
    settings: dict
    notes: list[str]  # what was not learned as it stands in the data, or could not have an adapter

    def as_dict(self) -> dict:
        """Return the report as plain types, ready for JSON."""
        return asdict(self)


def reported(settings: Settings, lm: LanguageModel, rows: Rows, output: Output, first: int, steps: int) -> Report:
    """Return the report of a training that has come to its end, from what its log says."""
    trained = [record for record in output.records if "loss" in record]
    return Report(
        result=str(output.result(settings.method)),
        steps=steps,
        resumed_at=first,
        learning=sum(parameter.numel() for parameter in lm.model.parameters() if parameter.requires_grad),
        rows=len(rows.learned),
        tokens=sum(record["tokens"] for record in trained),
        seconds=sum(record["seconds"] for record in trained),
        loss=trained[-1]["loss"] if trained else None,
        measured=[record for record in output.records if not {"loss", "sample"} & record.keys()],
        settings=settings.as_dict(),
        notes=rows.notes,
    )


def describe(report: Report) -> str:
    """Return the report as text: a line for each step that was measured, where the result is, what to do with it."""
    lines = []
    for record in report.measured:
        figures = {key.removeprefix("eval_").replace("_", " "): value for key, value in record.items() if key != "step"}
        shown = (f"{key} {value:.3f}" if key == "loss" else f"{key} {value:.1%}" for key, value in figures.items())
        lines.append(f"step {record['step']:>5}  held-out " + ", ".join(shown))
    lines.append(
        f"{report.steps} steps, {report.tokens:,} tokens in {report.seconds:.1f} s of training, "
        f"{report.learning:,} numbers trained" + ("" if report.loss is None else f"; loss {report.loss:.3f} at the end")
    )
    output = shlex.quote(report.settings["output"])
    lines += [f"written: {report.result}", f"to talk to it: llmnotes chat {output}"]
    if report.settings["method"] == "full":
        return "\n".join([*lines, f"to make it one file: llmnotes convert {output} {output}.gguf --type Q4_K_M"])
    return "\n".join([*lines, f"to make it one with its base: llmnotes merge {output} {output}-merged"])
