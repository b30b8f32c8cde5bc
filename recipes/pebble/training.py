"""Packing documents into rows, and the training loop: seeded, and resumable to the very same weights."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from llmnotes.pebble.tokenizer import ASSISTANT, BOS, END, EOS, PAD, SPECIAL

IGNORE = -100


@dataclass(frozen=True)
class Phase:
    """One stretch of training: ``rows`` and ``labels`` are (n, length) int16, read in order, ``batch`` rows a step."""

    name: str
    rows: np.ndarray
    labels: np.ndarray
    batch: int
    steps: int


def pack(encoded: list[list[int]], length: int, chat_loss: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Rows of whole documents, each between BOS and EOS, the fullest fit first; a document that is too long is cut.

    Returns token ids and labels, both (rows, length) int16; padding has label -100, and with ``chat_loss`` so has
    everything that the user says. Documents in a row see each other: there is no mask between them.
    """
    bos, eos, pad, answer, end = (SPECIAL.index(mark) for mark in (BOS, EOS, PAD, ASSISTANT, END))
    bins: list[list[int]] = []
    room: dict[int, list[int]] = {}
    for ids in encoded:
        document = [bos, *ids, eos][:length]
        need = len(document)
        fit = next((space for space in range(need, min(length, need + 48) + 1) if room.get(space)), None)
        fit = fit or next((space for space in range(need, length + 1) if room.get(space)), None)
        if fit is None:
            bins.append([])
            at, fit = len(bins) - 1, length
        else:
            at = room[fit].pop()
        bins[at] += document
        room.setdefault(fit - need, []).append(at)
    full = [row for row in bins if len(row) > 0.9 * length] or bins
    rows = np.full((len(full), length), pad, dtype=np.int16)
    for target, row in zip(rows, full, strict=True):
        target[: len(row)] = row
    labels = rows.copy()
    labels[rows == pad] = IGNORE
    if chat_loss:
        for row, label in zip(rows, labels, strict=True):
            spoken = False
            for i, token in enumerate(row):
                if not spoken:
                    label[i] = IGNORE
                spoken = True if token == answer else False if token in (end, eos) else spoken
    return rows, labels


def _optimizer(model, rate: float) -> torch.optim.AdamW:
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    others = [p for p in model.parameters() if p.ndim < 2]
    return torch.optim.AdamW(
        [{"params": matrices, "weight_decay": 0.01}, {"params": others, "weight_decay": 0.0}],
        lr=rate,
        betas=(0.9, 0.98),
        fused=True,
    )


def schedule(step: int, total: int, warmup: int, decay: float) -> float:
    """The share of the full learning rate at a step: a short rise, a plateau, a straight fall over the last part.

    >>> from recipes.pebble.training import schedule
    >>> [schedule(step, 100, 10, 0.5) for step in (0, 20, 75)]
    [0.1, 1.0, 0.5]
    """
    return min(1.0, (step + 1) / max(1, warmup), (total - step) / max(1.0, decay * total))


def train(
    model,
    phases: list[Phase],
    rate: float,
    checkpoint: Path,
    name: str,
    decay: float = 0.35,
    every: int = 500,
    seed: int = 0,
    watch: Callable[[int, float], None] | None = None,
) -> int:
    """Train in place through all phases and return the tokens that were seen, padding left out.

    A checkpoint (weights, optimizer, step) is written every ``every`` steps; when one is there, training goes on from
    it and ends with the same weights as an uninterrupted run on the same machine with the same threads. Raises
    ValueError when the checkpoint belongs to another plan. It does not evaluate; ``watch`` gets step and mean loss.
    """
    device = next(model.parameters()).device
    total = sum(phase.steps for phase in phases)
    plan = [name, seed, rate, decay, [(phase.name, phase.batch, phase.steps, phase.rows.shape) for phase in phases]]
    optimizer, done, tokens = _optimizer(model, rate), 0, 0
    if checkpoint.exists():
        state = torch.load(checkpoint, map_location=device, weights_only=True)
        if state["plan"] != repr(plan):
            raise ValueError(f"{checkpoint} belongs to another plan; delete it to start again.")
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        done, tokens = state["done"], state["tokens"]
    model.train()
    losses: list[float] = []
    steps = [(phase, local) for phase in phases for local in range(phase.steps)]
    for step in tqdm(range(done, total), desc=name, initial=done, total=total, mininterval=2):
        phase, local = steps[step]
        at = (np.arange(phase.batch) + local * phase.batch) % len(phase.rows)
        ids = torch.from_numpy(phase.rows[at].astype(np.int64)).to(device)  # (batch, length)
        labels = torch.from_numpy(phase.labels[at].astype(np.int64)).to(device)
        for group in optimizer.param_groups:
            group["lr"] = rate * schedule(step, total, 200, decay)
        with torch.autocast(device.type, torch.bfloat16):
            logits = model(input_ids=ids, use_cache=False).logits
        loss = torch.nn.functional.cross_entropy(
            logits[:, :-1].flatten(0, 1).float(), labels[:, 1:].flatten(), ignore_index=IGNORE
        )
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        tokens += int((ids != SPECIAL.index(PAD)).sum())
        losses.append(loss.item())
        if (step + 1) % every == 0 or step + 1 == total:
            state = {
                "plan": repr(plan),
                "model": model.state_dict(),
                "optimizer": optimizer.state_dict(),
                "done": step + 1,
                "tokens": tokens,
            }
            temporary = checkpoint.with_suffix(".tmp")
            torch.save(state, temporary)
            os.replace(temporary, checkpoint)
            if watch:
                watch(step + 1, sum(losses) / len(losses))
            losses.clear()
    return tokens
