"""One training loop for everything that learns here: AdamW, a learning rate that follows a schedule, clipped gradients.

Fine-tuning, quantization-aware training and the recipes of Pebble and the small LLaVA differ in their data and in their
loss. How a step is taken is the same for all four, and written here once.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import nn

from llmnotes.errors import TrainingFailed


@dataclass(frozen=True)
class Step:
    """One step of the optimizer, counted from 1.

    `loss` is that of its batch, `learning_rate` the rate it was taken with, `grad_norm` the norm of the gradient before
    it was clipped, and `seconds` how long all of it took.
    """

    number: int
    loss: float
    learning_rate: float
    grad_norm: float
    seconds: float


def adamw(
    model: nn.Module, learning_rate: float, weight_decay: float = 0.0, betas: tuple[float, float] = (0.9, 0.999)
) -> torch.optim.AdamW:
    """Return AdamW for the parameters of `model` that require a gradient.

    Matrices decay; vectors, such as the weights of a norm, do not (Loshchilov and Hutter, 2017, algorithm 2).

    >>> [group["weight_decay"] for group in adamw(nn.Linear(2, 2), 1e-3, weight_decay=0.01).param_groups]
    [0.01, 0.0]
    """
    return torch.optim.AdamW(groups(model, weight_decay), lr=learning_rate, betas=betas, fused=True)


def groups(model: nn.Module, weight_decay: float) -> list[dict]:
    """Return the parameters that require a gradient as an optimizer takes them: those that decay, those that don't.

    >>> [group["weight_decay"] for group in groups(nn.Linear(2, 2, bias=False), 0.1)]
    [0.1]
    """
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    found = [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]
    return [group for group in found if group["params"]]


def trapezoid(step: int, steps: int, warmup: float, decay: float) -> float:
    """Return the share of the full learning rate at a step, counted from 0: it rises, stays at 1, and falls to 0.

    It rises over `warmup` steps, and falls on a straight line over the last part of the training, `decay` of all steps
    (known as warmup-stable-decay: Hu et al., 2024, MiniCPM, section 4.2).

    >>> [trapezoid(step, steps=100, warmup=10, decay=0.5) for step in (0, 20, 75)]
    [0.1, 1.0, 0.5]
    """
    return min(1.0, (step + 1) / max(1.0, warmup), (steps - step) / max(1.0, decay * steps))


def optimize(
    optimizer: torch.optim.Optimizer,
    backward: Callable[[int], torch.Tensor],
    rate: Callable[[int], float],
    steps: int,
    first: int = 0,
    max_grad_norm: float = 1.0,
    clipped: Iterable[nn.Parameter] | None = None,
) -> Iterator[Step]:
    """Take the steps from `first` to `steps` - 1, and yield after each.

    `backward(step)` reads the batch of a step, counted from 0, calls `backward` on its loss and returns the loss;
    `rate(step)` returns the learning rate. A group of the optimizer that has an "lr_scale" learns at that share of the
    rate. The gradients of `clipped`, by default of all the optimizer's parameters, are scaled down together where their
    norm is above `max_grad_norm`.

    Raises `TrainingFailed` before the weights change if the loss or the norm is not finite. Does not choose train or
    evaluation mode, and does not save, evaluate or print.

    >>> layer = nn.Linear(1, 1)
    >>> def backward(step):
    ...     loss = (layer(torch.ones(1, 1)) - 3).square().mean()
    ...     loss.backward()
    ...     return loss
    >>> losses = [step.loss for step in optimize(adamw(layer, 0.1), backward, lambda step: 0.1, steps=20)]
    >>> losses[-1] < losses[0] / 2
    True
    """
    if clipped is None:
        clipped = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    clipped = list(clipped)
    for number in range(first, steps):
        started = time.perf_counter()
        learning_rate = rate(number)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * group.get("lr_scale", 1.0)
        total = backward(number).detach()
        norm = nn.utils.clip_grad_norm_(clipped, max_grad_norm)
        gather = getattr(norm, "full_tensor", None)  # a sharded model's norm is sharded, too
        norm = gather() if gather else norm
        loss, grad_norm = torch.stack((total, norm.to(total))).tolist()  # waits for the device, once a step
        if not math.isfinite(loss) or not math.isfinite(grad_norm):
            raise TrainingFailed(
                f"The loss at step {number + 1} is {loss:g} and its gradient {grad_norm:g}, so this step was not "
                f"taken; lower learning_rate (now {optimizer.defaults['lr']:g}), or give it more warmup_steps."
            )
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        yield Step(number + 1, loss, learning_rate, grad_norm, time.perf_counter() - started)
