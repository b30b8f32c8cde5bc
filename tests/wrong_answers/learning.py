"""Typical wrong answers to the exercises of notebook 09: {exercise: {key of its hint: source}}."""


def _entropy(last: str) -> str:
    return f"""import torch


def cross_entropy(logits, targets):
    p = torch.softmax(logits, dim=-1)
    right = p[torch.arange(len(targets)), targets]
    return {last}"""


def _gradient(*lines: str) -> str:
    return "\n    ".join(
        ("import torch\n\n\ndef gradient(logits, target):", "p = torch.softmax(logits, dim=-1)", *lines, "return p")
    )


def _train(*lines: str, again: str = "", kept: str = "loss.item()", given: str = "losses") -> str:
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
    return {given}"""


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
        "other_way": _entropy("-torch.softmax(logits, dim=0)[torch.arange(len(targets)), targets].log().mean()"),
        "all_pairs": _entropy("-p[:, targets].log().mean()"),
        "bare": _entropy("-right.log().mean().item()"),
        "32_bits": _entropy("-right.float().log().mean()"),
        "cut": _entropy("-right.detach().log().mean()"),
    },
    "09.2": {
        "swapped": _gradient("p = -p", "p[target] += 1"),
        "guess_only": _gradient(),
        "no_softmax": _gradient("p = logits.clone()", "p[target] -= 1"),
        "one_number": _gradient("p = p[target] - 1"),
        "others_zero": _gradient("right = p[target] - 1", "p = torch.zeros_like(logits)", "p[target] = right"),
        "right_left_out": _gradient("p[target] = 0"),
        "place": _gradient("p = p - target"),
        "everywhere": _gradient("p = p - 1"),
        "log": _gradient("p = p.log()", "p[target] -= 1"),
        "mean": _gradient("p[target] -= 1", "p = p / len(p)"),
        "loss": _gradient("p = -p[target].log()"),
        "losses": _gradient("p = -p.log()"),
        "size": _gradient("p = p - torch.nn.functional.one_hot(torch.tensor(target))"),
        "number": _gradient("p = p - torch.nn.functional.one_hot(target, len(logits))"),
        "axis": _gradient("p = torch.softmax(logits, dim=1)", "p[target] -= 1"),
        "bare": _gradient("p[target] -= 1", "p = p.tolist()"),
        "digits": _gradient("p[target] -= 1", "p = p.float()"),
    },
    "09.3": {
        "not_cleared": _train("loss.backward()", "optimizer.step()"),
        "no_gradient": _train("loss.backward", "optimizer.step()", "optimizer.zero_grad()"),
        "cleared_first": _train("loss.backward()", "optimizer.zero_grad()", "optimizer.step()"),
        "no_step": _train("loss.backward()", "optimizer.zero_grad()"),
        "step_of": _train("loss.backward()", "optimizer.step(loss)", "optimizer.zero_grad()"),
        "optimizer_backward": _train("optimizer.backward()", "optimizer.step()", "optimizer.zero_grad()"),
        "model_zero_grad": _train("loss.backward()", "optimizer.step()", "model.zero_grad()"),
        "loss_zero_grad": _train("loss.backward()", "optimizer.step()", "loss.zero_grad()"),
        "table_only": _train(
            "loss.backward()",
            "with torch.no_grad():",
            "    model.logits -= 30 * model.logits.grad",
            "    model.logits.grad = None",
        ),
        "own_rate": _train(
            "loss.backward()",
            "with torch.no_grad():",
            "    for weight in model.parameters():",
            "        weight -= 30 * weight.grad",
            "optimizer.zero_grad()",
        ),
        "uphill": _train("(-loss).backward()", "optimizer.step()", "optimizer.zero_grad()"),
        "twice": _train("loss.backward()", "optimizer.step()", "optimizer.step()", "optimizer.zero_grad()"),
        "late": _train(
            "loss.backward()",
            "optimizer.step()",
            "optimizer.zero_grad()",
            "loss = model.loss(inputs[rows], targets[rows])",
        ),
        "no_list": _train("loss.backward()", "optimizer.step()", "optimizer.zero_grad()", given="losses[-1]"),
        "none": _train(
            "loss.backward()",
            "with torch.no_grad():",
            "    learner = torch.zeros(3, requires_grad=True)",
            "    learner -= 30 * learner.grad",
            "optimizer.zero_grad()",
        ),
        "tensors": _train("loss.backward()", "optimizer.step()", "optimizer.zero_grad()", kept="loss"),
        "rounded": _train("loss.backward()", "optimizer.step()", "optimizer.zero_grad()", kept="round(loss.item(), 3)"),
        "rows": _train(
            "loss.backward()",
            "optimizer.step()",
            "optimizer.zero_grad()",
            again="random = torch.Generator().manual_seed(seed)",
        ),
    },
    "09.4": {
        "keys": 'diagnosis = ["too large", "wrong sign", "fine", "too small"]',
        "words": 'diagnosis = {"A": "too big", "B": "wrong sign", "C": "fine", "D": "too small"}',
        "nearly_there": 'diagnosis = {"A": "too large", "B": "wrong sign", "C": "too small", "D": "too small"}',
        "swapped": 'diagnosis = {"A": "wrong sign", "B": "too large", "C": "fine", "D": "too small"}',
    },
}
