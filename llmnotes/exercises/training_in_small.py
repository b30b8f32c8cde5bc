"""The exercises of notebook 10: AdamW in five lines, when to stop, and what a training costs."""

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from llmnotes.exercises.exercise import Answer, Exercise, ToDo, Verdict, alike, judge

GRADIENTS = ([[0.4, -2.0, 0.01], [0.2, -1.0, 0.03], [-0.1, 3.0, 0.02]], [[5.0, 0.0, -0.2], [4.0, 0.1, -0.3]])
# gradients of each step, lr, weight_decay, betas, eps
CASES: list[tuple] = [(rows, 0.1, decay, (0.9, 0.999), 1e-8) for rows in GRADIENTS for decay in (0.0, 0.5)]
CASES.append(([[1e-5, 3e-5, -2e-5], [2e-5, 1e-5, -3e-5]], 0.1, 0.0, (0.9, 0.999), 1e-8))  # the place of eps shows
CASES.append((GRADIENTS[0], 0.1, 0.0, (0.0, 0.999), 1e-8))  # as the lesson's race has it
CASES.append((GRADIENTS[0], 0.1, 0.0, (0.9, 0.999), 0.3))
CASES.append((GRADIENTS[0], 0.02, 0.5, (0.9, 0.999), 1e-8))
START = [1.0, -2.0, 0.5]

HEAD = """import torch


class AdamW:
    def __init__(self, weights, lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01):
        self.weights, self.lr, self.betas, self.t = list(weights), lr, betas, 0
        self.eps, self.decay = eps, weight_decay
        self.m, self.v = ([torch.zeros_like(w) for w in self.weights] for _ in range(2))

    def zero_grad(self):
        for weight in self.weights:
            weight.grad = None

    @torch.no_grad()  # nothing in here is part of the model's calculation
    def step(self):
        self.t += 1
        b1, b2 = self.betas
        for weight, m, v in zip(self.weights, self.m, self.v, strict=True):
            g = weight.grad
"""
LINES = {
    "m": "m.copy_(b1 * m + (1 - b1) * g)",
    "v": "v.copy_(b2 * v + (1 - b2) * g**2)",
    "m_hat": "m_hat = m / (1 - b1**self.t)",
    "v_hat": "v_hat = v / (1 - b2**self.t)",
    "decay": "weight *= 1 - self.lr * self.decay",
    "last": "weight -= self.lr * m_hat / (v_hat.sqrt() + self.eps)",
}
CHANGES = {  # hint, and a word where it has several forms: the lines that make this mistake
    "no_hats": {"m_hat": "m_hat = m", "v_hat": "v_hat = v"},
    "one_hat m": {"m_hat": "m_hat = m"},
    "one_hat v": {"v_hat": "v_hat = v"},
    "product m": {"m_hat": "m_hat = m / (1 - b1 * self.t)"},
    "nan product": {"m_hat": "m_hat = m / (1 - b1 * self.t)", "v_hat": "v_hat = v / (1 - b2 * self.t)"},
    "nan power": {"m_hat": "m_hat = m / (1 - b1**(self.t - 1))", "v_hat": "v_hat = v / (1 - b2**(self.t - 1))"},
    "counts_twice": {"m": f"self.t += 1; {LINES['m']}"},
    "no_eps": {"last": "weight -= self.lr * m_hat / v_hat.sqrt()"},
    **{
        f"fixed_lr {rate}": {"last": f"weight -= {rate} * m_hat / (v_hat.sqrt() + self.eps)"}
        for rate in (0.1, 0.01, 0.003)
    },
    "hats_kept": {"m_hat": "m_hat = m.div_(1 - b1**self.t)", "v_hat": "v_hat = v.div_(1 - b2**self.t)"},
    "rebinds m": {"m": "m = b1 * m + (1 - b1) * g"},
    "rebinds v": {"v": "v = b2 * v + (1 - b2) * g**2"},
    "rebinds both": {"m": "m = b1 * m + (1 - b1) * g", "v": "v = b2 * v + (1 - b2) * g**2"},
    "no_square": {"v": "v.copy_(b2 * v + (1 - b2) * g)"},
    "no_decay": {"decay": "pass"},
    "late": {"decay": "pass", "last": f"{LINES['last']}; {LINES['decay']}"},
    "decay_alone": {"decay": "weight *= 1 - self.decay"},
    "l2": {"m": f"g = g + self.decay * weight; {LINES['m']}", "decay": "pass"},
    "no_root": {"last": "weight -= self.lr * m_hat / (v_hat + self.eps)"},
    "uphill": {"last": "weight += self.lr * m_hat / (v_hat.sqrt() + self.eps)"},
    "no_mean": {"last": "weight -= self.lr * g / (v_hat.sqrt() + self.eps)"},
    "no_lr": {"last": "weight -= m_hat / (v_hat.sqrt() + self.eps)"},
    "inside": {"last": "weight -= self.lr * m_hat / (v_hat + self.eps).sqrt()"},
    "swapped": {"m": f"b1, b2 = b2, b1; {LINES['m']}"},
    "fixed betas": {"m": f"b1, b2 = 0.9, 0.999; {LINES['m']}"},
    "fixed eps": {"last": "weight -= self.lr * m_hat / (v_hat.sqrt() + 1e-8)"},
    "fixed both": {
        "m": f"b1, b2 = 0.9, 0.999; {LINES['m']}",
        "last": "weight -= self.lr * m_hat / (v_hat.sqrt() + 1e-8)",
    },
}


def adamw_source(changes: Mapping[str, str]) -> str:
    """Return the source of AdamW, with some of its LINES changed."""
    return HEAD + "\n".join(f"            {line}" for line in {**LINES, **changes}.values())


def _variant(changes: Mapping[str, str]) -> Any:
    scope: dict[str, Any] = {}
    exec(adamw_source(changes), scope)
    return scope["AdamW"]


def _walk(kind: Any) -> Answer:
    """Return a function of a case: where three weights end."""

    def call(gradients: list, lr: float, decay: float, betas: tuple[float, float], eps: float) -> Any:
        weight = torch.nn.Parameter(torch.tensor(START, dtype=torch.float64))
        optimizer = kind([weight], lr=lr, weight_decay=decay, betas=betas, eps=eps)
        for row in gradients:
            weight.grad = torch.tensor(row, dtype=torch.float64)
            optimizer.step()
        return weight.detach().tolist()

    return call


class _Calculates(TorchFunctionMode):
    """Notices whether a parameter takes part in a calculation that makes a new tensor."""

    new = False

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        in_place = name.endswith("_") and not name.endswith("__")
        kind = name.strip("_") in ("add", "radd", "sub", "rsub", "mul", "rmul", "addcdiv")
        if kind and not in_place and any(isinstance(one, torch.nn.Parameter) for one in args):
            self.new = True
        return func(*args, **(kwargs or {}))


def check_adamw(answer: Any) -> str | Verdict | None:
    """Return None for AdamW, or which of its parts is missing."""
    with _Calculates() as calculates:
        stands = _walk(answer)(*CASES[0]) == START
    if stands and calculates.new:
        return "new_tensor"
    if stands:
        return Verdict("to do", "still to do: the weights do not move yet")
    mistakes = {key: _walk(_variant(changes)) for key, changes in CHANGES.items()}
    found = judge(_walk(answer), _walk(torch.optim.AdamW), CASES, mistakes)
    if not isinstance(found, Verdict):
        return found and found.split()[0]
    rows, lr, decay, betas, eps = case = next(
        case for case in CASES if not alike(_walk(answer)(*case), _walk(torch.optim.AdamW)(*case))
    )
    names = f"lr={lr}, weight_decay={decay}, betas={betas}, eps={eps}"
    ends = (", ".join(f"{end:.4f}" for end in _walk(kind)(*case)) for kind in (torch.optim.AdamW, answer))
    return Verdict(
        "other",
        f"{len(rows)} steps with {names} take the weights {START} to [{next(ends)}], yours go to [{next(ends)}]; the "
        f"first gradients were {rows[0]}",
    )


def _wait(losses: list[float], patience: int, ties: bool = False, in_a_row: bool = True) -> tuple[int, int | None]:
    """Return the best measurement, and the one at which patience runs out; None if it doesn't."""
    best, failures = 0, 0
    for step, loss in enumerate(losses[1:], start=1):
        if loss < losses[best] or (ties and loss == losses[best]):
            best = step
            failures = 0 if in_a_row else failures
        else:
            failures += 1
            if failures >= patience:
                return best, step
    return best, None


def _best_step(losses: list[float], patience: int) -> int:
    return _wait(losses, patience)[0]


def _stopping_step(losses: list[float], patience: int) -> int:
    best, stop = _wait(losses, patience)
    return best if stop is None else stop


def _last_step(losses: list[float], patience: int) -> int:
    best, stop = _wait(losses, patience)
    return len(losses) - 1 if stop is None else best


def _first_rise(losses: list[float], ties: bool) -> int:
    pairs = enumerate(zip(losses, losses[1:], strict=False))
    return next((i for i, (now, after) in pairs if after > now or (ties and after == now)), len(losses) - 1)


def _previous(losses: list[float], patience: int, keep_best: bool) -> int:
    """Count the measurements that aren't below the one before."""
    failures = 0
    for step in range(1, len(losses)):
        failures = failures + 1 if losses[step] >= losses[step - 1] else 0
        if failures == patience:
            return losses.index(min(losses[: step + 1])) if keep_best else step - patience
    return losses.index(min(losses))


MEASURED = [
    ([3.0, 2.0, 1.5, 1.6, 1.4, 1.7, 1.8, 1.9], 3),
    ([2.0, 1.9, 1.8, 1.7], 3),
    ([1.0, 1.2, 1.1, 1.3, 0.5], 2),
    ([1.0, 1.2, 1.1, 1.3, 0.5], 4),
    ([2.0, 1.5, 1.6, 1.7, 1.8, 1.2, 1.0], 3),
    ([3.0, 4.0, 2.0, 3.0, 1.0], 2),  # two failures, but not in a row
    ([2.0, 1.0, 1.0, 1.5, 1.6], 3),  # the same again is no better
    ([2.0, 1.0, 1.5], 3),  # over before patience runs out
]


def _returns(answer: Answer, case: tuple) -> bool:
    try:
        answer(*copy.deepcopy(case))
    except ToDo:
        return False
    return True


def check_best_step(answer: Answer) -> str | Verdict | None:
    """Return None for the measurement that patience keeps, or which other one it is."""
    if [_returns(answer, case) for case in MEASURED] == [_wait(*case)[1] is not None for case in MEASURED]:
        return "nothing"
    mistakes = {
        "future": lambda losses, patience: losses.index(min(losses)),
        "stopping": _stopping_step,
        "stopping at the end, too": lambda losses, patience: _wait(losses, patience)[1] or len(losses) - 1,
        "impatient": lambda losses, patience: _first_rise(losses, ties=False),
        "impatient with ties": lambda losses, patience: _first_rise(losses, ties=True),
        "total": lambda losses, patience: _wait(losses, patience, in_a_row=False)[0],
        "ties": lambda losses, patience: _wait(losses, patience, ties=True)[0],
        "last": _last_step,
        "loss": lambda losses, patience: losses[_best_step(losses, patience)],
        "previous best": lambda losses, patience: _previous(losses, patience, keep_best=True),
        "previous back": lambda losses, patience: _previous(losses, patience, keep_best=False),
        "from_one": lambda losses, patience: _best_step(losses, patience) + 1,
        "one_more": lambda losses, patience: _best_step(losses, patience + 1),
        "one_less": lambda losses, patience: _best_step(losses, patience - 1),
    }
    found = judge(answer, _best_step, MEASURED, mistakes)
    return found.split()[0] if isinstance(found, str) else found


def _days(parameters: float, tokens: float, gpus: int) -> float:
    return 6 * parameters * tokens / (gpus * 0.4 * 312e12) / 86_400


TRAININGS = [(6.74e9, 2e12, 1000), (1.1e9, 100e9, 8), (135e6, 2e12, 64)]


def check_days(answer: Answer) -> str | Verdict | None:
    """Return None for the right days, or what was left out."""
    mistakes = {
        "share": lambda p, t, g: _days(p, t, g) * 0.4,
        "seconds": lambda p, t, g: _days(p, t, g) * 86_400,
        "hours": lambda p, t, g: _days(p, t, g) * 24,
        "one_gpu": lambda p, t, g: _days(p, t, 1),
        "times_gpus": lambda p, t, g: _days(p, t, 1) * g,
        "thousand": lambda p, t, g: _days(p, t, g) * 1000,
        "forward": lambda p, t, g: _days(p, t, g) / 3,
        "once": lambda p, t, g: _days(p, t, g) / 6,
        **{f"rounded {n}": lambda p, t, g, n=n: round(_days(p, t, g), n) for n in range(3)},
    }
    found = judge(answer, _days, TRAININGS, mistakes)
    return found.split()[0] if isinstance(found, str) else found


EXERCISES = [
    Exercise(
        id="10.1",
        title="Your own AdamW",
        level="medium",
        minutes=10,
        task="""Fill in `step`: the five formulas above, in their order, and the decay before the last. `m` and `v` must
be changed in place, or the next step finds the old ones: write `m.copy_(…)`, and for the weight `weight *= …` and
`weight -= …`.""",
        clue="The first line is `m.copy_(b1 * m + (1 - b1) * g)`. In step `self.t` the hats divide by "
        "`1 - b1**self.t` and `1 - b2**self.t`.",
        name="AdamW",
        stub=f"{HEAD}            # yours",
        solution=adamw_source({}),
        check=check_adamw,
        hints={
            "no_hats": "the hats are missing. m and v start at 0 and are too small at first.",
            "one_hat": "one of the two hats is missing.",
            "product": "the hats divide by 1 − β to the power t (`**`), not by 1 − β times t.",
            "nan": "your weights become nan: you divide by 0, or take the root of a negative number. The hats divide "
            "by 1 − β to the power t (`**`), and t is 1 in the first step.",
            "counts_twice": "`self.t += 1` stands there already. Yours counts each step twice.",
            "no_eps": "ε is missing. Where all gradients were 0 so far, you divide 0 by 0 and get nan.",
            "fixed_lr": "you wrote a rate of your own into the last line. Use the one that was given, `self.lr`.",
            "hats_kept": "you write the corrected values back into m and v. Give them names of their own.",
            "rebinds": "`m = …` or `v = …` makes a new tensor, and the next step finds the old one: `m.copy_(…)`.",
            "no_square": "v is the running mean of the squares: `g**2`.",
            "no_decay": "right without weight decay. Before the step, each weight is multiplied by 1 − lr · decay.",
            "late": "the decay comes after the step. In the last formula, w is the weight that has been multiplied.",
            "decay_alone": "the weight is multiplied by 1 − lr · decay. The lr is missing there.",
            "no_root": "you divide by the mean square. Its root is missing.",
            "uphill": "you go uphill. Subtract.",
            "no_mean": "you divide the gradient itself. The step goes along its running mean, m.",
            "no_lr": "the step isn't multiplied by lr.",
            "inside": "ε stands outside the root. Where gradients are tiny, this makes a difference.",
            "l2": "that's Adam with L2. In AdamW the decay must not pass through m and v: multiply the weight.",
            "swapped": "the two betas are exchanged. β₁ belongs to m, β₂ to v.",
            "fixed": "right for the usual β and ε. Use those that were given: `self.betas`, `self.eps`.",
            "new_tensor": "you made a new tensor, and the model keeps the old one. Change the old one, with `-=` and "
            "`*=`.",
        },
        kept=True,
    ),
    Exercise(
        id="10.2",
        title="When to stop",
        level="medium",
        minutes=8,
        task="""In a real run you don't know the future. People wait: if the validation loss hasn't beaten its best for
`patience` measurements in a row, they stop and keep the best. Write `best_step(losses, patience)`: it looks at the
measurements one by one, and returns the number (from 0) of the one to keep. For losses 3, 2, 2.5, 2.4, 1 and a patience
of 2 that is 1: at the 2.4 we stop waiting, and never see the 1.""",
        clue="Keep the number of the best so far, `best`, in `for step, loss in enumerate(losses)`. Leave the loop "
        "with `break` when `step - best` reaches `patience`.",
        name="best_step",
        stub='''def best_step(losses, patience):
    """Return the number of the measurement to keep."""
    ...''',
        solution='''def best_step(losses, patience):
    """Return the number of the measurement to keep."""
    best = 0
    for step, loss in enumerate(losses):
        if loss < losses[best]:
            best = step
        elif step - best >= patience:
            break
    return best''',
        check=check_best_step,
        hints={
            "future": "this is the best of the whole list. In a real run the future isn't there yet.",
            "stopping": "this is where we stop. Keep the best one before it.",
            "impatient": "this stops at the first rise. Wait for `patience` measurements.",
            "loss": "this is the loss itself. Asked for is its number in the list.",
            "total": "you count all failures. Only those in a row count: a new best starts the count again.",
            "ties": "equal isn't better. A loss has to be below the best so far.",
            "last": "right where patience runs out. Where it doesn't, the best so far is still the one to keep.",
            "nothing": "nothing comes back when patience never runs out. A `return` after the loop is missing.",
            "previous": "you compare each loss with the one before. Compare it with the best so far.",
            "from_one": "you count from 1. The first measurement has the number 0.",
            "one_more": "you wait one measurement too long.",
            "one_less": "you stop one measurement too early.",
        },
        kept=True,
    ),
    Exercise(
        id="10.3",
        title="By Friday?",
        level="easy",
        minutes=6,
        task="""*A task from work.* Your team wants to train a model of 1.1 billion parameters on 100 billion tokens,
with eight A100s that reach 40% of their 312 · 10¹² operations a second. How many days? Write `days(parameters, tokens,
gpus)` for GPUs of this kind. (Llama 2 7B on 1,000 of them: 7.5 days.)""",
        clue="Operations, divided by all the GPUs' operations a second, are seconds. A day has 86,400 of them.",
        name="days",
        stub='''def days(parameters, tokens, gpus):
    """Return the days that a training takes on A100s at 40% of their peak."""
    ...''',
        solution='''def days(parameters, tokens, gpus):
    """Return the days that a training takes on A100s at 40% of their peak."""
    return 6 * parameters * tokens / (gpus * 0.4 * 312e12) / 86_400''',
        check=check_days,
        hints={
            "share": "this is 0.4 of the right number. The GPUs reach 40% of their peak, and a day has 86,400 seconds.",
            "seconds": "these are seconds. A day has 86,400.",
            "hours": "these are hours. A day has 24.",
            "one_gpu": "right for a single GPU. Share the work out.",
            "times_gpus": "with more GPUs it takes longer here. Divide by their number.",
            "thousand": "a thousand times too long. 312 · 10¹² is 312e12.",
            "rounded": "right, but rounded. Return all digits.",
            "forward": "2 operations per weight and token is the way forward alone. The way back costs 4 more.",
            "once": "each weight and token costs 6 operations, not one.",
        },
    ),
]
