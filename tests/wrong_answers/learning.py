"""Typical wrong answers to the exercises of notebook 09: {exercise: {key of its hint: source}}."""


def _entropy(last: str) -> str:
    return f"""import torch


def cross_entropy(logits, targets):
    p = torch.softmax(logits, dim=-1)
    right = p[torch.arange(len(targets)), targets]
    return {last}"""


def _train(*lines: str, again: str = "", kept: str = "loss.item()") -> str:
    body = "\n        ".join(lines)
    return f"""import torch


def train(model, data, optimizer, steps, batch=None, seed=0):
    inputs, targets = data
    random = torch.Generator().manual_seed(seed)
    losses = []
    for step in range(steps):
        {again}
        rows = slice(None)
        if batch is not None:
            rows = torch.randint(len(inputs), (batch,), generator=random)
        loss = model.loss(inputs[rows], targets[rows])
        {body}
        losses.append({kept})
    return losses"""


WRONG = {
    "09.1": {
        "sign": _entropy("right.log().mean()"),
        "sum": _entropy("-right.log().sum()"),
        "each": _entropy("-right.log()"),
        "late_log": _entropy("-torch.log(right.mean())"),
        "no_log": _entropy("-right.mean()"),
        "chance": _entropy("right.mean()"),
        "not_right": _entropy("(1 - right).mean()"),
        "base": _entropy("-right.log2().mean()"),
        "base_10": _entropy("-right.log10().mean()"),
        "perplexity": _entropy("torch.exp(-right.log().mean())"),
        "all_words": _entropy("-p.log().mean()"),
        "twice": _entropy("torch.nn.functional.cross_entropy(p, targets)"),
        "bare": _entropy("-right.log().mean().item()"),
        "cut": _entropy("-right.detach().log().mean()"),
    },
    "09.2": {
        "not_cleared": _train("loss.backward()", "optimizer.step()"),
        "no_gradient": _train("optimizer.zero_grad()", "optimizer.step()"),
        "no_step": _train("loss.backward()", "optimizer.zero_grad()"),
        "optimizer_backward": _train("optimizer.backward()", "optimizer.step()", "optimizer.zero_grad()"),
        "model_zero_grad": _train("loss.backward()", "optimizer.step()", "model.zero_grad()"),
        "tensors": _train("loss.backward()", "optimizer.step()", "optimizer.zero_grad()", kept="loss"),
        "rows": _train(
            "loss.backward()",
            "optimizer.step()",
            "optimizer.zero_grad()",
            again="random = torch.Generator().manual_seed(seed)",
        ),
    },
    "09.3": {
        "keys": 'diagnosis = ["too large", "wrong sign", "fine", "too small"]',
        "words": 'diagnosis = {"A": "too big", "B": "wrong sign", "C": "fine", "D": "too small"}',
        "swapped": 'diagnosis = {"A": "wrong sign", "B": "too large", "C": "fine", "D": "too small"}',
    },
}
