"""Rows with labels, and training on them: seeded, and resumed from a checkpoint to the very same weights."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from llmnotes.finetuning.data import IGNORE
from llmnotes.pebble import packing
from llmnotes.pebble.tokenizer import PAD, SPECIAL
from llmnotes.training import adamw, optimize, trapezoid
from recipes.precision import autocast


@dataclass(frozen=True)
class Phase:
    """One stretch of training: `rows` and `labels` are (n, length) int16, read in order, `batch` rows a step."""

    name: str
    rows: np.ndarray
    labels: np.ndarray
    batch: int
    steps: int


def pack(encoded: list[list[int]], length: int) -> tuple[np.ndarray, np.ndarray]:
    """Return documents as rows of token ids, as `llmnotes.pebble.packing.pack` does, and their labels (rows, length).

    Padding has the label -100. All else is learned, what the user says in a chat as well: with a loss on answers alone,
    nobody learns to look a name up.
    """
    rows = packing.pack(encoded, length)
    labels = rows.copy()
    labels[rows == SPECIAL.index(PAD)] = IGNORE
    return rows, labels


def train(
    model,
    phases: list[Phase],
    learning_rate: float,
    checkpoint: Path,
    name: str,
    decay: float = 0.35,
    every: int = 500,
    seed: int = 0,
    watch: Callable[[int, float], None] | None = None,
) -> int:
    """Train in place through all phases and return the tokens that were seen, padding left out.

    A checkpoint (weights, optimizer, step) is written every `every` steps; when one is there, training goes on from
    it and ends with the same weights as an uninterrupted run on the same machine with the same threads. Raises
    `ValueError` when the checkpoint belongs to another plan, and `TrainingFailed` when the loss is no number any more.
    Does not evaluate; `watch` gets the step and the mean loss since the last checkpoint.
    """
    device = next(model.parameters()).device
    total = sum(phase.steps for phase in phases)
    plan = [
        name,
        seed,
        learning_rate,
        decay,
        [(phase.name, phase.batch, phase.steps, phase.rows.shape) for phase in phases],
    ]
    optimizer = adamw(model, learning_rate, weight_decay=0.01, betas=(0.9, 0.98))
    done, tokens = 0, 0
    if checkpoint.exists():
        state = torch.load(checkpoint, map_location=device, weights_only=True)
        if state["plan"] != repr(plan):
            raise ValueError(f"{checkpoint} belongs to another plan; delete it to start again.")
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        done, tokens = state["done"], state["tokens"]
    model.train()
    steps = [(phase, local) for phase in phases for local in range(phase.steps)]

    def batch(step: int) -> tuple[np.ndarray, np.ndarray]:
        phase, local = steps[step]
        at = (np.arange(phase.batch) + local * phase.batch) % len(phase.rows)
        return phase.rows[at], phase.labels[at]

    def backward(step: int) -> torch.Tensor:
        ids, labels = (torch.from_numpy(part.astype(np.int64)).to(device) for part in batch(step))  # (batch, length)
        with autocast(device.type):
            logits = model(input_ids=ids, use_cache=False).logits
        loss = torch.nn.functional.cross_entropy(
            logits[:, :-1].flatten(0, 1).float(), labels[:, 1:].flatten(), ignore_index=IGNORE
        )
        loss.backward()
        return loss

    def rate(step: int) -> float:
        return learning_rate * trapezoid(step, total, warmup=200, decay=decay)

    losses: list[float] = []
    taken = optimize(optimizer, backward, rate, total, first=done)
    for step in tqdm(taken, desc=name, initial=done, total=total, mininterval=2):
        tokens += int((batch(step.number - 1)[0] != SPECIAL.index(PAD)).sum())
        losses.append(step.loss)
        if step.number % every == 0 or step.number == total:
            state = {
                "plan": repr(plan),
                "model": model.state_dict(),
                "optimizer": optimizer.state_dict(),
                "done": step.number,
                "tokens": tokens,
            }
            temporary = checkpoint.with_suffix(".tmp")
            torch.save(state, temporary)
            os.replace(temporary, checkpoint)
            if watch:
                watch(step.number, sum(losses) / len(losses))
            losses.clear()
    return tokens
