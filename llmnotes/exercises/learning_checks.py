"""The checks behind the exercises of notebook 09, and the four runs that its last one shows."""

import math
from collections.abc import Callable, Iterable
from functools import lru_cache
from numbers import Real
from typing import Any

import numpy as np
import torch

from llmnotes.exercises.exercise import Answer, Verdict, alike, judge
from llmnotes.little import Descent, Table, Words, cross_entropy, statements, train

PREDICTIONS = (  # logits, and the number of the right word in each row
    ([[0.5, -1.2, 2.0, 0.1], [1.0, 0.0, 0.3, -0.7], [-2.0, 1.5, 0.2, 0.0]], [2, 1, 1]),
    ([[3.0, 0.0], [0.0, 1.0], [0.5, 0.5], [-1.0, 2.0]], [1, 1, 0, 1]),
    ([[0.1, 0.2, 0.3]], [0]),
)
ROWS = (  # logits of one prediction, and the number of the right word; none of them even
    ([0.5, -1.2, 2.0, 0.1], 2),
    ([0.3, 1.4], 0),
    ([-2.0, 1.5, 0.2, 0.0, -0.4], 4),
)
RATES = {"A": (200.0, "too large"), "B": (-5.0, "wrong sign"), "C": (30.0, "fine"), "D": (0.3, "too small")}


def _on_tensors(function: Callable[[torch.Tensor, torch.Tensor], Any]) -> Answer:
    def call(logits: list, targets: list) -> Any:
        return function(torch.tensor(logits, dtype=torch.float64), torch.tensor(targets))

    return call


def _from_chances(how: Callable[[torch.Tensor], Any]) -> Answer:
    def call(logits: torch.Tensor, targets: torch.Tensor) -> Any:
        return how(torch.softmax(logits, dim=-1)[torch.arange(len(targets)), targets])

    return _on_tensors(call)


def check_cross_entropy(answer: Answer) -> str | Verdict | None:
    """Return None for the mean of -ln p as a tensor that training can go back from, or which mistake was made."""
    mistakes = {
        "sign": _from_chances(lambda right: right.log().mean()),
        "sum": _from_chances(lambda right: -right.log().sum()),
        "each": _from_chances(lambda right: -right.log()),
        "late_log": _from_chances(lambda right: -right.mean().log()),
        "no_log": _from_chances(lambda right: -right.mean()),
        "chance": _from_chances(lambda right: right.mean()),
        "not_right": _from_chances(lambda right: 1 - right.mean()),
        "base": _from_chances(lambda right: -right.log2().mean()),
        "base_10": _from_chances(lambda right: -right.log10().mean()),
        "perplexity": _from_chances(lambda right: (-right.log().mean()).exp()),
        "all_words": _on_tensors(lambda logits, targets: -torch.softmax(logits, dim=-1).log().mean()),
        "twice": _on_tensors(lambda logits, targets: cross_entropy(torch.softmax(logits, dim=-1), targets)),
        "other_way": _on_tensors(
            lambda logits, targets: -torch.softmax(logits, dim=0)[torch.arange(len(targets)), targets].log().mean()
        ),
        "all_pairs": _on_tensors(lambda logits, targets: -torch.softmax(logits, dim=-1)[:, targets].log().mean()),
    }
    verdict = judge(_on_tensors(answer), _on_tensors(cross_entropy), PREDICTIONS, mistakes)
    if verdict is not None:
        return verdict
    for logits, target in PREDICTIONS:  # once more in full: with a gradient, and all digits
        weights, targets = torch.tensor(logits, dtype=torch.float64, requires_grad=True), torch.tensor(target)
        given = weights * 1
        try:
            found = answer(given, targets)
        except (RuntimeError, TypeError) as error:
            if "numpy" in str(error):  # NumPy does not take a tensor with a gradient
                return "bare"
            raise
        if not torch.equal(given, weights):
            return Verdict("overwrites", "your function changes the logits it is given; work on a copy")
        if not isinstance(found, torch.Tensor):
            return "bare"
        if found.grad_fn is None:
            return "cut"
        if found.dtype != given.dtype:
            return "32_bits"
        right = cross_entropy(weights, targets).item()
        if not math.isclose(found.item(), right, rel_tol=1e-12):
            return Verdict("nearly", f"nearly: the right answer is {right:.12f}, yours is {found.item():.12f}")
    return None


def gradient(logits: torch.Tensor, target: int) -> torch.Tensor:
    """Return the slope of the cross-entropy for each logit of one prediction: guess minus truth.

    >>> gradient(torch.zeros(4), 2).tolist()
    [0.25, 0.25, -0.75, 0.25]
    """
    slopes = torch.softmax(logits, dim=-1)
    slopes[target] -= 1
    return slopes


def _on_row(function: Callable[[torch.Tensor, int], Any]) -> Answer:
    """Return a function of (list, number) that hands a tensor to `function`, and makes a list of one it returns."""

    def call(logits: list, target: int) -> Any:
        found = function(torch.tensor(logits, dtype=torch.float64), target)
        return found.tolist() if isinstance(found, torch.Tensor | np.ndarray) else found

    return call


def _sharp(logits: torch.Tensor, target: int) -> torch.Tensor:
    """Return the truth: 1 for the word that came, 0 for the others."""
    return torch.nn.functional.one_hot(torch.tensor(target), len(logits))


def check_gradient(answer: Answer) -> str | Verdict | None:
    """Return None for guess minus truth, as a tensor with all its digits, or which mistake was made."""
    mistakes = {
        "swapped": lambda logits, target: -gradient(logits, target),
        "guess_only": lambda logits, target: torch.softmax(logits, dim=-1),
        "no_softmax": lambda logits, target: logits - _sharp(logits, target),
        "one_number": lambda logits, target: gradient(logits, target)[target],
        "others_zero": lambda logits, target: gradient(logits, target) * _sharp(logits, target),
        "right_left_out": lambda logits, target: torch.softmax(logits, dim=-1) * (1 - _sharp(logits, target)),
        "place": lambda logits, target: torch.softmax(logits, dim=-1) - target,
        "everywhere": lambda logits, target: torch.softmax(logits, dim=-1) - 1,
        "log": lambda logits, target: torch.log_softmax(logits, dim=-1) - _sharp(logits, target),
        "mean": lambda logits, target: gradient(logits, target) / len(logits),
        "loss": lambda logits, target: -torch.log_softmax(logits, dim=-1)[target],
        "losses": lambda logits, target: -torch.log_softmax(logits, dim=-1),
    }
    try:
        verdict = judge(_on_row(answer), _on_row(gradient), ROWS, {key: _on_row(how) for key, how in mistakes.items()})
    except RuntimeError as error:
        if "must match the size" in str(error):
            return "size"
        raise
    except TypeError as error:
        if "one_hot()" in str(error):
            return "number"
        raise
    except IndexError as error:
        if "Dimension out of range" in str(error):
            return "axis"
        raise
    if verdict is not None:
        return verdict
    for logits, target in ROWS:
        row = torch.tensor(logits, dtype=torch.float64)
        given = row.clone()
        found = answer(given, target)
        if not torch.equal(given, row):
            return Verdict("overwrites", "your function changes the logits it is given; work on a copy")
        if not isinstance(found, torch.Tensor):
            return "bare"
        if found.dtype != row.dtype or not torch.allclose(found, gradient(row, target), rtol=0, atol=1e-15):
            return "digits"
    return None


class _Elsewhere(Exception):
    """A method was called too early, or on an object that does not have it; its text is the key of a hint."""


class _Watchful:
    """An optimizer that notes which of its methods were called. As with PyTorch's, its rate is its own affair."""

    def __init__(self, weights: Iterable[torch.Tensor], lr: float) -> None:
        self._descent, self._called = Descent(weights, lr), set[str]()

    def step(self, *closure: Any) -> None:
        if closure:
            raise _Elsewhere("step_of")
        self._called.add("step")
        if any(weight.grad is None for weight in self._descent.weights):
            raise _Elsewhere("cleared_first" if "backward" in self._called else "no_gradient")
        self._descent.step()

    def zero_grad(self, set_to_none: bool = True) -> None:
        self._called.add("zero_grad")
        self._descent.zero_grad()

    def __getattr__(self, name: str) -> Any:
        if name == "backward":
            raise _Elsewhere("optimizer_backward")
        raise AttributeError(f"the optimizer has no {name}; all that every optimizer has is step() and zero_grad()")


class _Any:
    """A model unlike the lesson's: two lots of weights under other names, steep slopes, and only what `train` asks."""

    def __init__(self, size: int) -> None:
        random = torch.Generator().manual_seed(11)
        self._rows = torch.zeros(size, size, dtype=torch.float64, requires_grad=True)
        self._all = torch.randn(size, generator=random, dtype=torch.float64).requires_grad_()

    def parameters(self) -> Iterable[torch.Tensor]:
        return iter((self._rows, self._all))

    def loss(self, ids: Any, targets: torch.Tensor) -> torch.Tensor:
        return 20 * cross_entropy(self._rows[ids] + self._all, targets)

    def __getattr__(self, name: str) -> Any:
        if name == "zero_grad":
            raise _Elsewhere("model_zero_grad")
        if name == "logits":
            raise _Elsewhere("table_only")
        raise AttributeError(f"the model has no {name}; all that train may ask of a model is parameters() and loss()")


def _attempt(loop: Callable[..., Any], rate: float, steps: int, batch: int | None, seed: int) -> tuple[Any, set[str]]:
    """Run a loop on a little model, and return what it returns and the names of what it called."""
    random = torch.Generator().manual_seed(7)
    model, data = _Any(6), torch.randint(6, (2, 40), generator=random)
    optimizer = _Watchful(model.parameters(), rate)
    for weight in model.parameters():
        weight.register_hook(lambda gradient: optimizer._called.add("backward"))
    return loop(model, (data[0], data[1]), optimizer, steps, batch=batch, seed=seed), optimizer._called


def _is_a_list(losses: Any) -> bool:
    """Return whether these are numbers one after the other, in a list, a tuple or an array."""
    return isinstance(losses, list | tuple | np.ndarray) and all(isinstance(x, Real | torch.Tensor) for x in losses)


def _numbers(losses: Any) -> list[float]:
    return [loss.item() if isinstance(loss, torch.Tensor) else float(loss) for loss in losses]


def _losses(loop: Callable[..., Any]) -> Answer:
    """Return a function of (rate, steps, batch, seed) that runs a loop on a little table and returns its losses."""

    def call(rate: float, steps: int, batch: int | None, seed: int) -> Any:
        return _numbers(_attempt(loop, rate, steps, batch, seed)[0])

    return call


def _hasty(model: Any, data: tuple, optimizer: Any, steps: int, batch: int | None = None, seed: int = 0) -> list:
    return [train(model, data, optimizer, 1, batch, seed)[0] for _ in range(steps)]  # draws the same rows each time


def _spoilt(change: Callable[[Any], Any]) -> Callable[..., list]:
    """Return the right loop, with an optimizer that `change` has changed."""

    def loop(model: Any, data: tuple, optimizer: Any, steps: int, batch: int | None = None, seed: int = 0) -> list:
        change(optimizer)
        return train(model, data, optimizer, steps, batch, seed)

    return loop


def _late(model: Any, data: tuple, optimizer: Any, steps: int, batch: int | None = None, seed: int = 0) -> list:
    random, losses = torch.Generator().manual_seed(seed), []
    for _ in range(steps):
        rows = slice(None) if batch is None else torch.randint(len(data[0]), (batch,), generator=random)
        some = data[0][rows], data[1][rows]
        train(model, some, optimizer, 1)
        losses.append(model.loss(*some).item())
    return losses


SPOILT = {
    "not_cleared": lambda optimizer: setattr(optimizer, "zero_grad", lambda: None),
    "own_rate": lambda optimizer: setattr(optimizer._descent, "lr", 30),
    "uphill": lambda optimizer: setattr(optimizer._descent, "lr", -optimizer._descent.lr),
    "twice": lambda optimizer: setattr(optimizer._descent, "lr", 2 * optimizer._descent.lr),
}
TO_DO = "still to do: nothing has called backward() or step() yet, with their brackets, so no weight has changed"
RUNS = ((0.15, 4, None, 0), (0.05, 5, None, 0), (0.1, 4, 8, 3))  # rate, steps, batch, seed


def check_train(answer: Answer) -> str | Verdict | None:
    """Return None for a loop that follows the gradient, or what keeps it from learning."""
    try:
        first, called = _attempt(answer, *RUNS[0])
        if not _is_a_list(first):
            return "no_list"
        losses = _numbers(first)
        if len(losses) == RUNS[0][1] and math.isclose(min(losses), max(losses)) and "step" not in called:
            if called:
                return "no_step"
            return Verdict("to do", TO_DO)
        mistakes = {key: _spoilt(change) for key, change in SPOILT.items()} | {"rows": _hasty, "late": _late}
        verdict = judge(_losses(answer), _losses(train), RUNS, {key: _losses(how) for key, how in mistakes.items()})
    except _Elsewhere as error:
        return str(error)
    except TypeError as error:
        if "NoneType" in str(error):
            return "none"
        raise
    except AttributeError as error:
        if str(error) == "'Tensor' object has no attribute 'zero_grad'":
            return "loss_zero_grad"
        raise
    if isinstance(verdict, Verdict) and verdict.state == "other":
        return _beside(answer)
    if verdict is not None:
        return verdict
    if any(isinstance(loss, torch.Tensor) for loss in first):
        return "tensors"
    exact = all(math.isclose(*two, rel_tol=1e-9) for two in zip(losses, _losses(train)(*RUNS[0]), strict=True))
    return None if exact else "rounded"


def _beside(answer: Answer) -> Verdict:
    """Return the verdict that shows the losses of the first run that came out wrong beside the right ones."""
    for rate, steps, batch, seed in RUNS:
        right, found = (_losses(loop)(rate, steps, batch, seed) for loop in (train, answer))
        if not alike(right, found):
            break
    listed = [", ".join(f"{loss:.3f}" for loss in losses) or "none" for losses in (right, found)]
    return Verdict(
        "other",
        f"on a small model, with the rate {rate:g}, {steps} steps and batch={batch}, the losses should be "
        f"{listed[0]}; yours are {listed[1]}",
    )


@lru_cache
def colleagues(steps: int = 120) -> dict[str, list[float]]:
    """Return the losses of four runs by their name; something is wrong in three of them."""
    texts = [one.text for one in statements(["young"])]
    words = Words(texts)
    lines = [[0, *words.encode(text)] for text in texts]
    now = torch.tensor([token for line in lines for token in line[:-1]])
    after = torch.tensor([token for line in lines for token in line[1:]])
    runs = {}
    for name, (rate, _) in RATES.items():
        table = Table(len(words))
        runs[name] = train(table, (now, after), Descent(table.parameters(), rate), steps)
    return runs


def check_curves(answer: Any) -> str | Verdict | None:
    """Return None if all four runs are named rightly, else say which to look at again."""
    if not isinstance(answer, dict) or set(answer) != set(RATES):
        return "keys"
    left = [run for run, said in answer.items() if said is None]
    if left:
        return Verdict("to do", f"still to do: run {', '.join(left)}")
    answer = {run: str(said).strip().lower() for run, said in answer.items()}
    if not set(answer.values()) <= {fact for _, fact in RATES.values()}:
        return "words"
    wrong = [run for run, (_, fact) in RATES.items() if answer[run] != fact]
    if not wrong:
        return None
    if set(wrong) == {"A", "B"} and answer["A"] == "wrong sign" and answer["B"] == "too large":
        return "swapped"
    if wrong == ["C"] and answer["C"] == "too small":
        return "nearly_there"
    rest = "" if len(wrong) == len(RATES) else "; the others are right" if len(wrong) < 3 else "; the other is right"
    return Verdict("other", f"look again at run {', '.join(wrong)}{rest}")
