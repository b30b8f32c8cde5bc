"""Typical wrong answers to the exercises of notebook 10: {exercise: {key of its hint: source}}."""

from llmnotes.exercises.training_in_small import CHANGES, adamw_source


def _best(*lines: str) -> str:
    body = "\n    ".join(lines)
    return f"def best_step(losses, patience):\n    {body}"


def _waiting(wait: str, end: str = "break", last: str = "return best") -> str:
    return _best(
        "best = 0",
        "for step, loss in enumerate(losses):",
        "    if loss < losses[best]:",
        "        best = step",
        f"    elif {wait}:",
        f"        {end}",
        last,
    )


def _days(line: str) -> str:
    return f"def days(parameters, tokens, gpus):\n    return {line}"


WRONG = {
    "10.1": {key.split()[0]: adamw_source(changes) for key, changes in CHANGES.items()}
    | {"new_tensor": adamw_source({"last": "weight = weight - self.lr * m_hat / (v_hat.sqrt() + self.eps)"})},
    "10.2": {
        "future": _best("return losses.index(min(losses))"),
        "stopping": _waiting("step - best >= patience", end="return step"),
        "impatient": _best(
            "for step in range(len(losses) - 1):",
            "    if losses[step + 1] > losses[step]:",
            "        return step",
            "return len(losses) - 1",
        ),
        "loss": _waiting("step - best >= patience", last="return losses[best]"),
        "total": _best(
            "best, failures = 0, 0",
            "for step, loss in enumerate(losses):",
            "    if loss < losses[best]:",
            "        best = step",
            "    elif step > 0:",
            "        failures += 1",
            "        if failures >= patience:",
            "            break",
            "return best",
        ),
        "ties": _best(
            "best = 0",
            "for step, loss in enumerate(losses):",
            "    if loss <= losses[best]:",
            "        best = step",
            "    elif step - best >= patience:",
            "        break",
            "return best",
        ),
        "last": _waiting("step - best >= patience", end="return best", last="return len(losses) - 1"),
        "nothing": _waiting("step - best >= patience", end="return best", last="pass"),
        "previous": _best(
            "failures = 0",
            "for step in range(1, len(losses)):",
            "    failures = failures + 1 if losses[step] >= losses[step - 1] else 0",
            "    if failures == patience:",
            "        return step - patience",
            "return losses.index(min(losses))",
        ),
        "from_one": _waiting("step - best >= patience", last="return best + 1"),
        "one_more": _waiting("step - best > patience"),
        "one_less": _waiting("step - best >= patience - 1"),
    },
    "10.3": {
        "share": _days("6 * parameters * tokens / (gpus * 312e12) / 86400"),
        "seconds": _days("6 * parameters * tokens / (gpus * 0.4 * 312e12)"),
        "hours": _days("6 * parameters * tokens / (gpus * 0.4 * 312e12) / 3600"),
        "times_gpus": _days("6 * parameters * tokens * gpus / (0.4 * 312e12) / 86400"),
        "thousand": _days("6 * parameters * tokens / (gpus * 0.4 * 312e9) / 86400"),
        "rounded": _days("round(6 * parameters * tokens / (gpus * 0.4 * 312e12) / 86400, 1)"),
        "one_gpu": _days("6 * parameters * tokens / (0.4 * 312e12) / 86400"),
        "forward": _days("2 * parameters * tokens / (gpus * 0.4 * 312e12) / 86400"),
        "once": _days("parameters * tokens / (gpus * 0.4 * 312e12) / 86400"),
    },
}
