"""`llmnotes finetune`: one fine-tuning from its settings to its output, which goes on where it was killed."""

from __future__ import annotations

import hashlib
import math
import signal
from collections.abc import Callable, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, replace
from pathlib import Path

import torch
from torch.nn.parallel import DistributedDataParallel
from transformers import PreTrainedModel

from llmnotes.errors import (
    BadSettings,
    CannotWrite,
    DoesNotFit,
    NotQuantizable,
    TrainingFailed,
    TrainingStopped,
)
from llmnotes.finetuning import data, qlora, token_rows
from llmnotes.finetuning.distributed import Place, join
from llmnotes.finetuning.job import checkpoints
from llmnotes.finetuning.job.curves import best, draw, waited
from llmnotes.finetuning.job.interruptions import Interrupted, Signals, alone
from llmnotes.finetuning.job.measuring import answers, measured
from llmnotes.finetuning.job.output import Output
from llmnotes.finetuning.job.refusing import refuse_missing, refuse_too_large
from llmnotes.finetuning.job.report import Report, reported
from llmnotes.finetuning.job.rows import Rows, before_loading, encoded, examples
from llmnotes.finetuning.job.settings import Settings, settings_of
from llmnotes.finetuning.job.tracking import tracker
from llmnotes.finetuning.lora import attach, unadapted
from llmnotes.finetuning.train import Plan, bar, optimizer_of, refuse_not_finite, show, steps
from llmnotes.fit.training_run import finetuned
from llmnotes.formats.adapters import Base
from llmnotes.models import LanguageModel, open_model
from llmnotes.models.paths import path_of

BEST = "best"  # in the output: checkpoints of the lowest held-out loss
# Settings that change no weight
FREE = ("output", "exam", "checkpoint_every", "evaluate_every", "samples", "report_to")


def finetune(
    settings: Settings | dict | str | Path, say: Callable[[str], object] = print, progress: bool = True
) -> Report:
    """Fine-tune a model as the settings say, and return what came of it.

    The settings are a YAML file, a dictionary with the same keys, or `Settings`.

    The output folder holds `adapter` (in PEFT's layout, with the tokenizer and a record of the base) or `model` (a
    Hugging Face folder in float32), report.json, training_log.jsonl, loss.png, and the last checkpoints. `open_model`,
    `merge`, `convert`, `serve` and `finetune` take it as a model. Where it holds an unfinished training with the same
    settings, that one goes on, and ends with the same weights as if it had never stopped: bit for bit on one machine
    with the same number of threads. `say` receives lines for the reader, and `progress` is a bar on stderr. Under
    torchrun every process trains, and the first writes.

    Raises `FileBroken` and `FileUnreadable` (the data), `BadSettings`, `ModelNotFound`, `ModelBroken`, `DoesNotFit`,
    `CannotWrite` (the output exists, or the disk is full), and `TrainingFailed` (the loss is no number),
    `TrainingStopped` (Ctrl-C or SIGTERM, after a checkpoint of the step that was on its way); none of them harms the
    last checkpoint. Does not pick the best checkpoint without `early_stopping`, and does not merge the adapter.
    """
    settings = settings_of(settings)
    process = join()
    say = say if process.rank == 0 else lambda line: None
    writes = process.rank == 0
    with alone(settings.output) if writes else nullcontext(), Signals() as signals:
        output = Output(settings.output, writes)
        with _stopping(output):
            return _finetune(settings, output, process, signals, say, progress)


def _finetune(
    settings: Settings,
    output: Output,
    process: Place,
    signals: Signals,
    say: Callable[[str], object],
    progress: bool,
) -> Report:
    """Do what `finetune` says in a folder that is this process's own."""
    refuse_missing(settings)
    found = examples(settings)
    refuse_too_large(settings)
    parts = before_loading(settings)
    rows = encoded(settings, found, *parts) if parts else None
    make = qlora.maker(_kernel()) if settings.method == "qlora" else None
    dtype = getattr(torch, finetuned(settings.method, torch.cuda.is_available())["dtype"])  # what was counted
    lm = open_model(settings.model, say=say, make=make, dtype=dtype)
    rows = rows or encoded(settings, found, lm.model.config, lm.tokenizer)
    base = base_of(settings, lm.model)
    prepare(lm.model, settings, rows.learned)
    if settings.method != "full" and (line := unadapted(lm.model)):
        rows.notes.append(line)
    for line in rows.notes:
        say(line)
    if line := token_rows.describe(lm.model, lm.tokenizer):
        say(line)
    return _train(settings, lm, base, rows, output, process, signals, say, progress)


def _train(
    settings: Settings,
    lm: LanguageModel,
    base: Base,
    rows: Rows,
    output: Output,
    process: Place,
    signals: Signals,
    say: Callable[[str], object],
    progress: bool,
) -> Report:
    """Train from the newest checkpoint to the last step, and write what comes of it."""
    model = DistributedDataParallel(lm.model) if process.world > 1 else lm.model
    plan = plan_of(settings, len(rows.learned), process.world)
    optimizer = optimizer_of(model, plan)

    # What tells this training from any other: a checkpoint with the same facts is one of its own.
    free = set(FREE) - ({"evaluate_every"} if settings.early_stopping else set())  # it chooses where to stop
    facts = {key: value for key, value in settings.as_dict().items() if key not in free}
    facts |= {"processes": process.world, "content of data": _digest([(row.ids, row.labels) for row in rows.learned])}
    output.check(facts)
    run = _digest(facts)

    first = checkpoints.resume(output.checkpoints, lm.model, optimizer, run, say)
    if process.world > 1:
        firsts = [first] * process.world
        torch.distributed.all_gather_object(firsts, first)  # also: nobody writes before everybody has read
        if len(set(firsts)) > 1:
            raise TrainingFailed("The processes see different checkpoints; give an output on a disk that all share.")
    output.begin(facts, first)
    if first:
        say(f"{settings.output} holds an unfinished training, which goes on after step {first}.")

    def log(step: int, figures: dict) -> None:
        output.note({"step": step} | figures)
        curves.log(step, figures)

    def evaluate(step: int) -> None:
        if output.writes and (figures := measured(lm, rows.held_out, settings.exam, learned=step > 0)):
            log(step, figures)
        for sample in answers(lm, rows.held_out[: settings.samples]) if output.writes else ():
            output.note({"step": step, "sample": sample})
            say(f"step {step:>5}  {sample['asked'].strip()[-60:]!r} → {sample['answered'].strip()!r}")

    def enough() -> bool:
        return bool(settings.early_stopping and waited(output.records) >= settings.early_stopping)

    with tracker(settings.report_to if output.writes else "none", output.folder, settings.as_dict()) as curves:
        if not first:
            evaluate(0)
        with bar(plan.steps, first, hidden=not (output.writes and progress)) as shown:
            signals.waits = True
            done, over = first, _agreed(enough(), process)  # a training that was killed may have been over
            for step in steps(model, rows.learned, plan, optimizer, first) if not over else ():
                done, last = step.number, step.number == plan.steps
                show(shown, step)
                log(done, {key: value for key, value in asdict(step).items() if key != "number"})
                if last or settings.evaluate_every and done % settings.evaluate_every == 0:
                    evaluate(done)
                    if output.writes and settings.early_stopping and best(output.records) == done:
                        checkpoints.save(output.folder / BEST, done, lm.model, optimizer, run)
                    last = last or bool(_agreed(enough(), process))
                stopped = 0 if last else _agreed(signals.received, process)
                if output.writes and (last or stopped or done % settings.checkpoint_every == 0):
                    checkpoints.save(output.checkpoints, done, lm.model, optimizer, run)
                if stopped:
                    raise Interrupted(stopped)
                if last:
                    break
            signals.waits = False
    if output.writes:
        checkpoints.prune(output.checkpoints)  # one that was killed during a removal left half a checkpoint
        if settings.early_stopping:
            chosen = checkpoints.resume(output.folder / BEST, lm.model, optimizer, run, say)
            rows.notes.append(f"The weights are those after step {chosen}, where the held-out loss was lowest.")
            say(rows.notes[-1])
        draw(output.records, output.folder / "loss.png")
    report = reported(settings, lm, rows, output, first, done)
    output.finish(lm, base, settings.method, report.as_dict())
    return report


def _agreed(received: int, process: Place) -> int:
    """Return the highest number that any process has received, so that all stop after the same step; 0 for none."""
    if process.world == 1:
        return received
    everywhere = [0] * process.world
    torch.distributed.all_gather_object(everywhere, received)
    return max(everywhere)


def base_of(settings: Settings, model: PreTrainedModel) -> Base:
    """Return what is recorded of the model that the settings name: an absolute path, or a name and the hub's revision.

    `model` is what was opened, before `prepare`.
    """
    folder, name = path_of(settings.model), settings.model
    if Path(name).expanduser().exists():
        name = str(Path(name).expanduser().absolute())
    dtype = torch.bfloat16 if model.dtype == torch.float16 else model.dtype
    nf4 = {"method": "nf4", "double": True, "dtype": str(dtype).removeprefix("torch.")}
    revision = folder.name if folder.parent.name == "snapshots" else None  # as the hub's cache has it
    return Base(name, revision, nf4 if settings.method == "qlora" else None)


def plan_of(settings: Settings, rows: int, processes: int = 1) -> Plan:
    """Return how to train on so many rows; epochs become steps. Raises `BadSettings` for a warm-up without end."""
    at_once = settings.batch_size * settings.gradient_accumulation * processes
    count = settings.steps or math.ceil((settings.epochs or 0) * rows / at_once)
    if settings.warmup_steps >= count:
        raise BadSettings(f"warmup_steps is {settings.warmup_steps}, and there are {count} steps; lower it.")
    return Plan(
        count,
        settings.learning_rate,
        settings.batch_size,
        settings.gradient_accumulation,
        settings.warmup_steps,
        settings.schedule,
        settings.weight_decay,
        settings.max_grad_norm,
        settings.seed,
        settings.optimizer,
    )


def prepare(model: PreTrainedModel, settings: Settings, rows: Sequence[data.Row]) -> None:
    """Make a model ready to learn `rows`, in place: the base quantized or not, adapters attached, all else frozen."""
    if model.dtype == torch.float16:
        model.bfloat16()  # float16 overflows in training
    if settings.method == "full":
        model.float().requires_grad_(True)
    else:
        if settings.method == "qlora":
            try:
                qlora.quantize_base(model, by=_kernel())
            except NotQuantizable:
                refuse_not_finite(model)
                raise
        lora = settings.lora
        if lora.tokens == token_rows.UNTRAINED:
            lora = replace(lora, tokens=token_rows.untrained(model, {token for row in rows for token in row.ids}))
        attach(model, lora, seed=settings.seed)
    if settings.gradient_checkpointing:
        enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
        enable({"use_reentrant": False})  # the second name is that of older transformers


def _kernel() -> str:
    return "bitsandbytes" if torch.cuda.is_available() else "llmnotes"


def _digest(value: object) -> str:
    return hashlib.sha256(repr(value).encode()).hexdigest()[:16]


@contextmanager
def _stopping(output: Output):
    """Turn what stops a training into one sentence, which says where the same command will go on."""
    try:
        yield
    except KeyboardInterrupt as error:
        number = getattr(error, "number", signal.SIGINT)
        raise TrainingStopped(
            f"The training was stopped; {_kept(output)}, and the same command goes on from there.", number
        ) from None
    except (CannotWrite, TrainingFailed) as error:
        raise type(error)(f"{str(error).rstrip('.')}; {_kept(output)}.") from None
    except OSError as error:
        raise CannotWrite(f"{output.folder} cannot be written ({error.strerror or error}); {_kept(output)}.") from None
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error):
            raise DoesNotFit(
                "The memory ran out; lower batch_size or max_length, or set gradient_checkpointing to true."
            ) from None
        raise


def _kept(output: Output) -> str:
    found = checkpoints.found(output.checkpoints)
    if not found:
        return "there is no checkpoint yet"
    step = int(found[0].name.removeprefix("step-"))
    return f"the checkpoint of step {step} is kept"
