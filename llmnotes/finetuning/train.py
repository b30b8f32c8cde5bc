"""The training loop: `steps` yields after each step of the optimizer, and `fit` runs them all."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
import torch
from torch.nn import functional

from llmnotes import training
from llmnotes.errors import MissingPart, ModelBroken, TrainingFailed
from llmnotes.finetuning.data import IGNORE, Row, collate
from llmnotes.fit.training_run import Optimizer
from llmnotes.parts import bring

if TYPE_CHECKING:
    from torch import nn
    from tqdm import tqdm

Schedule = Literal["constant", "linear", "cosine"]
SCHEDULES: tuple[Schedule, ...] = get_args(Schedule)


@dataclass(frozen=True)
class Plan:
    """How to train: everything but the model and the data.

    One step takes batch_size · gradient_accumulation rows on each process. The learning rate rises over
    `warmup_steps`, then stays ("constant"), or falls to zero on a straight line or half a cosine.
    """

    steps: int
    learning_rate: float = 1e-3
    batch_size: int = 8
    gradient_accumulation: int = 1
    warmup_steps: int = 0
    schedule: Schedule = "linear"
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    seed: int = 0
    optimizer: Optimizer = "adamw"

    def rate(self, step: int) -> float:
        """The learning rate at a step, counted from 0.

        >>> [Plan(steps=10, learning_rate=1.0, warmup_steps=2).rate(step) for step in (0, 1, 2, 6)]
        [0.5, 1.0, 1.0, 0.5]
        """
        if step < self.warmup_steps:
            return self.learning_rate * (step + 1) / self.warmup_steps
        left = (self.steps - step) / max(1, self.steps - self.warmup_steps)
        shapes = {"constant": 1.0, "linear": left, "cosine": (1 - math.cos(math.pi * left)) / 2}
        return self.learning_rate * shapes[self.schedule]


@dataclass(frozen=True)
class Step(training.Step):
    """One step: its loss is the mean over the learned tokens, in nats; `tokens` were read, in all processes."""

    tokens: int


def optimizer_of(model: nn.Module, plan: Plan) -> torch.optim.Optimizer:
    """Return the plan's optimizer, at its learning rate, for what learns in a model; only matrices decay.

    Eight bits are those of Dettmers et al., 8-bit Optimizers via Block-wise Quantization (2021). Raises `MissingPart`
    for them where bitsandbytes is not installed.
    """
    if plan.optimizer == "adamw":
        return training.adamw(model, plan.learning_rate, plan.weight_decay)
    try:
        from bitsandbytes.optim.adamw import AdamW8bit, PagedAdamW8bit
    except ImportError:
        raise MissingPart(f"bitsandbytes is missing; bring it with: {bring('bitsandbytes')}") from None
    kind = {"adamw_8bit": AdamW8bit, "paged_adamw_8bit": PagedAdamW8bit}[plan.optimizer]
    return kind(training.groups(model, plan.weight_decay), lr=plan.learning_rate)


def steps(
    model: nn.Module,
    rows: Sequence[Row],
    plan: Plan,
    optimizer: torch.optim.Optimizer | None = None,
    first: int = 0,
) -> Iterator[Step]:
    """Train `model` in place on `rows`, from step `first` on, and yield after each step.

    The order of the rows and the randomness of dropout follow from the seed and the step alone, so that a run that
    goes on at a step does what the uninterrupted one does; torch's global generator is seeded anew at each step. The
    loss of a step is the mean over all its learned tokens, however they fall into batches and processes. Where
    `torch.distributed` runs, give the model wrapped for it: each process takes its share of the rows.

    Raises `TrainingFailed` before the weights change if the loss or the gradient is not finite, and `ModelBroken` where
    that comes from the model's own numbers. Does not save, evaluate or print. What learns should be float32; on a GPU,
    or beside a base in half precision, the forward pass runs under autocast in bfloat16.
    """
    rank, processes = _place()
    device = next(model.parameters()).device
    order = _Order(len(rows), plan)

    def backward(number: int) -> torch.Tensor:
        chosen = [rows[place] for place in order.take(number, processes)]
        learned = sum(row.learned for row in chosen)
        mine = chosen[rank * len(chosen) // processes : (rank + 1) * len(chosen) // processes]
        batches = [mine[at : at + plan.batch_size] for at in range(0, len(mine), plan.batch_size)]
        torch.manual_seed(int(np.random.SeedSequence([plan.seed, number, rank]).generate_state(1)[0]))
        model.train()  # at each step, since the caller may evaluate between two
        total = torch.zeros((), device=device)
        for count, batch in enumerate(batches, 1):
            waits = processes > 1 and count < len(batches) and hasattr(model, "no_sync")
            with model.no_sync() if waits else nullcontext():  # pyright: ignore[reportCallIssue]  (DDP's)
                loss = summed_loss(model, collate(batch, device)) / learned
                (loss * processes).backward()  # the processes' gradients are averaged, and their losses summed
            total += loss.detach()
        if processes > 1:
            torch.distributed.all_reduce(total)
        return total

    optimizer = optimizer or optimizer_of(model, plan)
    taken = False
    try:
        for step in training.optimize(optimizer, backward, plan.rate, plan.steps, first, plan.max_grad_norm):
            taken = True
            tokens = sum(len(rows[place].ids) for place in order.take(step.number - 1, processes))
            yield Step(**vars(step), tokens=tokens)
    except TrainingFailed:
        refuse_not_finite(model, learning=not taken)
        raise


def refuse_not_finite(model: nn.Module, learning: bool = True) -> None:
    """Raise `ModelBroken`, naming the first tensor of a model that holds NaN or infinity; those that learn if asked."""
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        whole = not tensor.is_floating_point() or bool(tensor.isfinite().all())
        if not whole and (learning or not tensor.requires_grad):
            plain = name.removeprefix("module.").replace(".base.", ".")
            raise ModelBroken(
                f"The model's {plain} holds numbers that are not finite, so nothing can be learned with it; copy the "
                "model again from where it came from, or take another."
            )


def summed_loss(model: nn.Module, batch: dict) -> torch.Tensor:
    """Return the loss summed over the learned tokens of a batch of `collate`, in nats."""
    labels = batch.pop("labels")
    dtype = getattr(getattr(model, "module", model), "dtype", torch.float32)
    half = dtype != torch.float32 or labels.device.type == "cuda"
    with torch.autocast(labels.device.type, torch.bfloat16) if half else nullcontext():  # or what the caller has set
        logits = model(**batch | {"use_cache": False}).logits  # (rows, tokens, vocabulary)
    return functional.cross_entropy(
        logits[:, :-1].flatten(0, 1).float(), labels[:, 1:].flatten(), ignore_index=IGNORE, reduction="sum"
    )


def fit(model: nn.Module, rows: Sequence[Row], plan: Plan, progress: bool = True) -> list[Step]:
    """Train `model` in place on `rows` and return what each step did; the bar shows loss and tokens a second.

    Raises `TrainingFailed` as `steps` does. Leaves the model in evaluation mode. Does not save anything.
    """
    done = []
    with bar(plan.steps, hidden=not progress) as shown:
        for step in steps(model, rows, plan):
            done.append(step)
            show(shown, step)
    model.eval()
    return done


def bar(total: int, first: int = 0, hidden: bool = False) -> tqdm:
    """Return the progress bar of a training, on stderr."""
    from tqdm.auto import tqdm

    return tqdm(total=total, initial=first, desc="fine-tuning", unit=" steps", disable=hidden, mininterval=0.5)


def show(shown: tqdm, step: Step) -> None:
    """Move the bar on by one step."""
    shown.set_postfix_str(f"loss {step.loss:.3f}, {step.tokens / step.seconds:,.0f} tokens/s", refresh=False)
    shown.update()


def held_out_loss(model: nn.Module, rows: Sequence[Row], batch_size: int = 16) -> float:
    """Return the mean loss over the learned tokens of `rows`, in nats; leaves the model in evaluation mode.

    Raises `ZeroDivisionError` for no rows.
    """
    model.eval()
    device, total = next(model.parameters()).device, 0.0
    with torch.inference_mode():
        for at in range(0, len(rows), batch_size):
            total += float(summed_loss(model, collate(rows[at : at + batch_size], device)))
    return total / sum(row.learned for row in rows)


class _Order:
    """Which rows each step takes: every row once in an epoch, in an order that the seed gives to the epoch."""

    def __init__(self, rows: int, plan: Plan):
        self.rows, self.plan, self.epochs = rows, plan, {}

    def take(self, step: int, processes: int) -> list[int]:
        """Return the places of all rows of a step, those of all processes together."""
        size = self.plan.batch_size * self.plan.gradient_accumulation * processes
        return [self._at(place) for place in range(step * size, (step + 1) * size)]

    def _at(self, place: int) -> int:
        epoch = place // self.rows
        if epoch not in self.epochs:
            self.epochs = {old: order for old, order in self.epochs.items() if old == epoch - 1}
            self.epochs[epoch] = np.random.default_rng([self.plan.seed, epoch]).permutation(self.rows)
        return int(self.epochs[epoch][place % self.rows])


def _place() -> tuple[int, int]:
    """Return this process's number and how many there are."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1
