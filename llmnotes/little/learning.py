"""The training loop of the lessons, and two things that take a step in it: plain gradient descent, and AdamW.

`llmnotes.training.optimize` is the grown-up of the same loop: the course's trainers use that one.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import torch


class Model(Protocol):
    """What `train` asks of a model: its weights, and its loss on some inputs whose right answers are known."""

    def parameters(self) -> Iterable[Any]:
        """Return the weights."""
        ...

    def loss(self, inputs: torch.Tensor, targets: torch.Tensor, /) -> torch.Tensor:
        """Return one number, from which a gradient can be computed."""
        ...


class Optimizer(Protocol):
    """What `train` asks of an optimizer; `torch.optim` has it, too."""

    def step(self) -> Any:
        """Change every weight by its gradient."""
        ...

    def zero_grad(self) -> None:
        """Clear every gradient."""
        ...


def cross_entropy(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return the mean of -ln p over all predictions; `logits` is (n, words), `targets` holds the n right answers.

    Where the softmax rounds p to 0 the result is inf: `torch.nn.functional.cross_entropy` does without that detour.

    >>> round(cross_entropy(torch.zeros(1, 4), torch.tensor([2])).exp().item(), 4)
    4.0
    """
    p = torch.softmax(logits, dim=-1)
    right = p[torch.arange(len(targets)), targets]
    return -right.log().mean()


class Table:
    """One row of logits for each word: what comes next? At first everything is 0, so every word is equally likely."""

    def __init__(self, size: int) -> None:
        self.logits = torch.zeros(size, size, dtype=torch.float64, requires_grad=True)

    def parameters(self) -> list[torch.Tensor]:
        """Return what may be changed."""
        return [self.logits]

    def __call__(self, ids: Any) -> torch.Tensor:
        return self.logits[ids]

    def loss(self, ids: Any, targets: torch.Tensor) -> torch.Tensor:
        """Return the cross-entropy of the words that came after `ids`."""
        return cross_entropy(self(ids), targets)


class Descent:
    """Plain gradient descent: every step changes each weight by -lr times its gradient.

    >>> table = Table(3)
    >>> train(table, (torch.tensor([0]), torch.tensor([1])), Descent(table.parameters(), lr=1.0), steps=2)[0] > 1
    True
    """

    def __init__(self, weights: Iterable[torch.Tensor], lr: float) -> None:
        self.weights, self.lr = list(weights), lr

    def step(self) -> None:
        """Change every weight."""
        with torch.no_grad():
            for weight in self.weights:
                assert weight.grad is not None, "call backward first"
                weight -= self.lr * weight.grad

    def zero_grad(self) -> None:
        """Clear every gradient."""
        for weight in self.weights:
            weight.grad = None


def train(
    model: Model,
    data: tuple[torch.Tensor, torch.Tensor],
    optimizer: Optimizer,
    steps: int,
    batch: int | None = None,
    seed: int = 0,
) -> list[float]:
    """Take `steps` steps, and return the loss before each. A second call goes on where the first one stopped.

    `data` is (inputs, right answers). `batch` is how many rows of them a step draws, anew each time; None takes all.

    Does not save, stop early or look at text that is held out.
    """
    inputs, targets = data
    random = torch.Generator().manual_seed(seed)
    losses = []
    for _ in range(steps):
        rows = slice(None) if batch is None else torch.randint(len(inputs), (batch,), generator=random)
        loss = model.loss(inputs[rows], targets[rows])
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


class AdamW:
    """Adam with decoupled weight decay (Loshchilov and Hutter 2017, algorithm 2): `torch.optim.AdamW` by hand.

    It has no groups of weights, and so no schedule: the course's trainers use PyTorch's.
    """

    def __init__(
        self,
        weights: Iterable[torch.Tensor],
        lr: float,
        betas: Sequence[float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
    ) -> None:
        self.weights, self.lr, self.betas, self.eps, self.decay = list(weights), lr, betas, eps, weight_decay
        self.m = [torch.zeros_like(weight) for weight in self.weights]
        self.v = [torch.zeros_like(weight) for weight in self.weights]
        self.t = 0

    @torch.no_grad()
    def step(self) -> None:
        """Change every weight by about lr, in the direction that its gradients have had lately."""
        self.t += 1
        b1, b2 = self.betas
        for weight, m, v in zip(self.weights, self.m, self.v, strict=True):
            g = weight.grad
            assert g is not None, "call backward first"
            m.copy_(b1 * m + (1 - b1) * g)
            v.copy_(b2 * v + (1 - b2) * g**2)
            m_hat = m / (1 - b1**self.t)
            v_hat = v / (1 - b2**self.t)
            weight *= 1 - self.lr * self.decay
            weight -= self.lr * m_hat / (v_hat.sqrt() + self.eps)

    def zero_grad(self) -> None:
        """Clear every gradient."""
        for weight in self.weights:
            weight.grad = None
