"""Typical wrong answers to the exercises of notebook 10: {exercise: {key of its hint: source}}."""


def _adamw(
    m_hat: str = "m / (1 - b1**self.t)",
    v_hat: str = "v / (1 - b2**self.t)",
    decay: str = "weight *= 1 - self.lr * self.decay",
    last: str = "weight -= self.lr * m_hat / (v_hat.sqrt() + self.eps)",
    g: str = "weight.grad",
) -> str:
    return f"""import torch


class AdamW:
    def __init__(self, weights, lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01):
        self.weights, self.lr, self.betas, self.t = list(weights), lr, betas, 0
        self.eps, self.decay = eps, weight_decay
        self.m, self.v = ([torch.zeros_like(w) for w in self.weights] for _ in range(2))

    @torch.no_grad()
    def step(self):
        self.t += 1
        b1, b2 = self.betas
        for weight, m, v in zip(self.weights, self.m, self.v, strict=True):
            g = {g}
            m.copy_(b1 * m + (1 - b1) * g)
            v.copy_(b2 * v + (1 - b2) * g**2)
            m_hat = {m_hat}
            v_hat = {v_hat}
            {decay}
            {last}"""


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
    "10.1": {
        "no_hats": _adamw("m", "v"),
        "no_decay": _adamw(decay="pass"),
        "no_root": _adamw(last="weight -= self.lr * m_hat / (v_hat + self.eps)"),
        "uphill": _adamw(last="weight += self.lr * m_hat / (v_hat.sqrt() + self.eps)"),
        "no_mean": _adamw(last="weight -= self.lr * g / (v_hat.sqrt() + self.eps)"),
        "inside": _adamw(last="weight -= self.lr * m_hat / (v_hat + self.eps).sqrt()"),
        "l2": _adamw(g="weight.grad + self.decay * weight", decay="pass"),
        "new_tensor": _adamw(last="weight = weight - self.lr * m_hat / (v_hat.sqrt() + self.eps)"),
    },
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
        "one_more": _waiting("step - best > patience"),
        "one_less": _waiting("step - best >= patience - 1"),
    },
    "10.3": {
        "peak": _days("6 * parameters * tokens / (gpus * 312e12) / 86400"),
        "seconds": _days("6 * parameters * tokens / (gpus * 0.4 * 312e12)"),
        "hours": _days("6 * parameters * tokens / (gpus * 0.4 * 312e12) / 3600"),
        "one_gpu": _days("6 * parameters * tokens / (0.4 * 312e12) / 86400"),
        "forward": _days("2 * parameters * tokens / (gpus * 0.4 * 312e12) / 86400"),
        "once": _days("parameters * tokens / (gpus * 0.4 * 312e12) / 86400"),
    },
}
