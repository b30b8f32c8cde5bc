"""How the answers to the exercises of notebook 06 are checked: against the model's own parts, on several prompts."""

import copy
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import numpy as np

from llmnotes.exercises.exercise import Answer, Verdict, judge
from llmnotes.pebble.numpy_model import MLP, Block, rms_norm, silu

PROMPTS = ("A baby cat is a", "The home of the cow is the", "Mia is a baker")
CONFIGS = {
    "Pebble": {
        "hidden_size": 256,
        "intermediate_size": 768,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "head_dim": 64,
        "num_key_value_heads": 2,
        "vocab_size": 2048,
    },
    "SmolLM2": {
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "head_dim": 64,
        "num_key_value_heads": 3,
        "vocab_size": 49152,
    },
    "a small one": {
        "hidden_size": 40,
        "intermediate_size": 100,
        "num_hidden_layers": 3,
        "num_attention_heads": 5,
        "head_dim": 8,
        "num_key_value_heads": 1,
        "vocab_size": 300,
    },
}


@cache
def measured() -> tuple[dict[str, np.ndarray], list[dict[str, Any]]]:
    """Return Pebble's weights, and what its own modules read and gave: one layer for each of three prompts."""
    import torch

    from llmnotes.models import open_model

    lm = open_model("pebble", say=lambda line: None)
    cases = []
    for number, prompt in enumerate(PROMPTS):
        with torch.no_grad():
            ids = torch.tensor([lm.tokenizer(prompt)["input_ids"]])
            states = lm.model(ids, output_hidden_states=True).hidden_states
            layer, x = lm.model.model.layers[number], states[number][0]
            normed = layer.post_attention_layernorm(x)
            case = {
                "layer": number,
                "x": x,
                "g": layer.input_layernorm.weight,
                "normed": normed,
                "rms_norm": layer.input_layernorm(x),
                "mlp": layer.mlp(normed),
                "block": states[number + 1][0],
            }
        cases.append({key: value if isinstance(value, int) else value.detach().numpy() for key, value in case.items()})
    return {name: weight.numpy() for name, weight in lm.model.state_dict().items()}, cases


def check_rms_norm(answer: Answer) -> str | Verdict | None:
    """Return None for a norm that gives what the model's own norms give, or what else it is."""
    cases: list[tuple] = [(case["x"], case["g"]) for case in measured()[1]]
    cases.append((0.01 * cases[0][0], cases[0][1], 0.01))  # small rows, for which epsilon counts
    mistakes = {
        "whole": lambda x, g, eps=1e-6: x / np.sqrt(np.mean(x**2) + eps) * g,
        "columns": lambda x, g, eps=1e-6: x / np.sqrt(np.mean(x**2, axis=0) + eps) * g,
        "no_g": lambda x, g, eps=1e-6: rms_norm(x, np.ones_like(g), eps),
        "no_root": lambda x, g, eps=1e-6: x / (np.mean(x**2, axis=-1, keepdims=True) + eps) * g,
        "layernorm": lambda x, g, eps=1e-6: rms_norm(x - x.mean(axis=-1, keepdims=True), g, eps),
        "length": lambda x, g, eps=1e-6: x / np.sqrt(np.sum(x**2, axis=-1, keepdims=True) + eps) * g,
        "bare_length": lambda x, g, eps=1e-6: x / np.linalg.norm(x, axis=-1, keepdims=True) * g,
        "no_eps": lambda x, g, eps=1e-6: x / np.sqrt(np.mean(x**2, axis=-1, keepdims=True)) * g,
        "eps_outside": lambda x, g, eps=1e-6: x / (np.sqrt(np.mean(x**2, axis=-1, keepdims=True)) + eps) * g,
        "fixed_eps": lambda x, g, eps=1e-6: rms_norm(x, g),
    }
    try:
        verdict = judge(answer, rms_norm, cases, mistakes)
    except ValueError as error:
        if str(error) == _told(lambda x, g: x / np.sqrt(np.mean(x**2, axis=-1)), *cases[0]):
            return "keepdims"
        raise
    if isinstance(verdict, str):
        return {"bare_length": "length"}.get(verdict, verdict)
    return _counted(verdict, answer(*(part.copy() for part in cases[0])), measured()[1][0]["rms_norm"])


def _told(function: Answer, *arguments: Any) -> str:
    """Return what the error says that `function` raises."""
    try:
        function(*arguments)
    except ValueError as error:
        return str(error)
    return ""


def check_mlp(answer: Callable[..., Answer]) -> str | Verdict | None:
    """Return None for a class whose MLPs give what the model's own give, or what else it is."""
    cases = [(case["layer"], case["normed"]) for case in measured()[1]]
    gate, up, down = (measured()[0][f"model.layers.3.mlp.{part}_proj.weight"] for part in ("gate", "up", "down"))
    return _judge_class("MLP", answer, cases, _of_the_model("mlp", MLP), {
        "lesson": _variant(MLP, lambda self, x: (silu(x @ gate.T) * (x @ up.T)) @ down.T),
        "lesson_gate": _variant(MLP, lambda self, x: (silu(x @ gate.T) * (x @ up.T)) @ self.down.T),
        "lesson_down": _variant(MLP, lambda self, x: (silu(x @ self.gate.T) * (x @ self.up.T)) @ down.T),
        "relu": _variant(MLP, lambda self, x: (np.maximum(x @ self.gate.T, 0) * (x @ self.up.T)) @ self.down.T),
        "both_bent": _variant(MLP, lambda self, x: (silu(x @ self.gate.T) * silu(x @ self.up.T)) @ self.down.T),
        "up_bent": _variant(MLP, lambda self, x: ((x @ self.gate.T) * silu(x @ self.up.T)) @ self.down.T),
        "no_bend": _variant(MLP, lambda self, x: ((x @ self.gate.T) * (x @ self.up.T)) @ self.down.T),
        "no_up": _variant(MLP, lambda self, x: silu(x @ self.gate.T) @ self.down.T),
        "no_gate": _variant(MLP, lambda self, x: silu(x @ self.up.T) @ self.down.T),
        "sum": _variant(MLP, lambda self, x: (silu(x @ self.gate.T) + x @ self.up.T) @ self.down.T),
        "late": _variant(MLP, lambda self, x: silu((x @ self.gate.T) * (x @ self.up.T)) @ self.down.T),
        "with_x": _variant(MLP, lambda self, x: x + MLP.__call__(self, x)),
    })  # fmt: skip


def check_block(answer: Callable[..., Answer]) -> str | Verdict | None:
    """Return None for a class whose blocks give what the model's own layers give, or what else it is."""
    cases: list[tuple] = [(case["layer"], case["x"]) for case in measured()[1]]
    cases.append((0, cases[0][1], 0.01))  # an epsilon that counts

    def norms(self: Block, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return rms_norm(x, self.norm1, self.eps), rms_norm(x, self.norm2, self.eps)

    def replaced(self: Block, x: np.ndarray) -> np.ndarray:
        return self.mlp(norms(self, self.attention(norms(self, x)[0]))[1])

    def unnormed(self: Block, x: np.ndarray) -> np.ndarray:
        x = x + self.attention(x)
        return x + self.mlp(x)

    def bare_attention(self: Block, x: np.ndarray) -> np.ndarray:
        x = x + self.attention(x)
        return x + self.mlp(norms(self, x)[1])

    def bare_mlp(self: Block, x: np.ndarray) -> np.ndarray:
        x = x + self.attention(norms(self, x)[0])
        return x + self.mlp(x)

    def parallel(self: Block, x: np.ndarray) -> np.ndarray:
        return x + self.attention(norms(self, x)[0]) + self.mlp(norms(self, x)[1])

    def one_norm(self: Block, x: np.ndarray) -> np.ndarray:
        x = x + self.attention(norms(self, x)[0])
        return x + self.mlp(norms(self, x)[0])

    def first_only(self: Block, x: np.ndarray) -> np.ndarray:
        return x + self.attention(norms(self, x)[0])

    def lost(self: Block, x: np.ndarray) -> np.ndarray:
        x = x + self.attention(norms(self, x)[0])
        return self.mlp(norms(self, x)[1])

    def on_the_copy(self: Block, x: np.ndarray) -> np.ndarray:
        x = norms(self, x)[0]
        x = x + self.attention(x)
        x = norms(self, x)[1]
        return x + self.mlp(x)

    def default_eps(self: Block, x: np.ndarray) -> np.ndarray:
        x = x + self.attention(rms_norm(x, self.norm1))
        return x + self.mlp(rms_norm(x, self.norm2))

    def swapped(self: Block, x: np.ndarray) -> np.ndarray:
        x = x + self.attention(norms(self, x)[1])
        return x + self.mlp(norms(self, x)[0])

    def norm_after(self: Block, x: np.ndarray) -> np.ndarray:
        x = norms(self, x + self.attention(x))[0]
        return norms(self, x + self.mlp(x))[1]

    def mlp_first(self: Block, x: np.ndarray) -> np.ndarray:
        x = x + self.mlp(norms(self, x)[1])
        return x + self.attention(norms(self, x)[0])

    functions = (
        swapped,
        norm_after,
        mlp_first,
        replaced,
        unnormed,
        bare_attention,
        bare_mlp,
        parallel,
        one_norm,
        first_only,
        lost,
        on_the_copy,
        default_eps,
    )
    mistakes = {function.__name__: _variant(Block, function) for function in functions}
    return _judge_class("Block", answer, cases, _of_the_model("block", Block), mistakes)


def _variant(base: type, call: Answer) -> Answer:
    """Return a function (layer, x, ...) that runs a class like `base` with another `__call__`."""
    return _run(type("Wrong", (base,), {"__call__": call}))


def _run(made: Callable[..., Answer]) -> Answer:
    def run(layer: int, x: np.ndarray, *eps: float) -> np.ndarray:
        weights = {name: weight.copy() for name, weight in measured()[0].items() if f".{layer}." in name}
        with np.errstate(over="ignore", invalid="ignore"):  # a wrong answer may overflow
            return made(weights, layer, **({"eps": eps[0]} if eps else {}))(x)

    return run


def _of_the_model(name: str, ours: type) -> Answer:
    """Return a function (layer, x, ...) that looks up what the model's own module gave; ours, if there is an eps."""

    def right(layer: int, x: np.ndarray, *eps: float) -> np.ndarray:
        return _run(ours)(layer, x, *eps) if eps else measured()[1][layer][name]

    return right


def _judge_class(
    name: str, answer: Callable[..., Answer], cases: list[tuple], right: Answer, mistakes: Mapping[str, Answer]
) -> str | Verdict | None:
    """Judge a class by what its objects return; a comparison also says how many numbers are right."""
    run = _run(answer)
    first = run(*copy.deepcopy(cases[0]))
    if first is None or first is ...:
        return Verdict("to do", f"still to do: {name} returns nothing yet when it is called with x")
    verdict = judge(run, right, cases, mistakes)
    return verdict if isinstance(verdict, str) else _counted(verdict, first, right(*cases[0]))


def _counted(verdict: Verdict | None, found: Any, expected: np.ndarray) -> Verdict | None:
    """Return a verdict that says how many numbers are right, in place of one that compares a single case."""
    if verdict is None or verdict.state != "other" or np.shape(found) != expected.shape:
        return verdict
    good = np.isclose(found, expected, rtol=1e-4, atol=1e-4).sum()
    if good == expected.size:  # it is another case that went wrong
        return verdict
    starts = [" ".join(f"{value:.3f}" for value in rows[-1, :4]) for rows in (expected, np.asarray(found))]
    return Verdict(
        "other",
        f"{good:,} of {expected.size:,} numbers are right for {PROMPTS[0]!r}.\n"
        f"The last row should begin {starts[0]}\nand yours begins        {starts[1]}",
    )


def weights_of(config: Mapping[str, int], **wrong: Any) -> int:
    """Return the number of weights of a model built like Pebble; `wrong` replaces a part of the sum by another one.

    >>> weights_of(CONFIGS["SmolLM2"])
    134515008
    """
    d, inner = config["hidden_size"], config["intermediate_size"]
    head = d // config["num_attention_heads"]
    kv = {"wide": d, "one": head}.get(wrong.get("kv", ""), head * config["num_key_value_heads"])
    block = wrong.get("square", 2) * d * d + 2 * d * kv + wrong.get("mlp", 3) * d * inner + wrong.get("norms", 2) * d
    return (
        wrong.get("tables", 1) * config["vocab_size"] * d
        + wrong.get("layers", config["num_hidden_layers"]) * block
        + wrong.get("last", d)
    )


def check_count(answer: Answer) -> str | Verdict | None:
    """Return None for the right number of weights of three models, or what was left out."""

    def said(function: Answer) -> Answer:  # as text, since numbers count as equal to 1e-4 of their size
        def text(config: Mapping[str, int]) -> str:
            value = function(config)
            whole = isinstance(value, int | float | np.number) and value == int(value)
            return f"{int(value):,}" if whole else repr(value)

        return text

    wrong = {
        "kv_wide": {"kv": "wide"},
        "kv_one": {"kv": "one"},
        "no_o": {"square": 1},
        "two_matrices": {"mlp": 2},
        "no_norms": {"norms": 0},
        "no_last_norm": {"last": 0},
        "no_norm_at_all": {"norms": 0, "last": 0},
        "one_layer": {"layers": 1},
        "two_tables": {"tables": 2},
        "no_table": {"tables": 0},
    }
    mistakes = {key: said(lambda config, change=change: weights_of(config, **change)) for key, change in wrong.items()}
    for width in (4, 2):
        mistakes[f"bytes_{width}"] = said(lambda config, width=width: width * weights_of(config))
    verdict = judge(said(answer), said(weights_of), [(config,) for config in CONFIGS.values()], mistakes)
    if isinstance(verdict, str):
        return {"bytes_4": "bytes", "bytes_2": "bytes"}.get(verdict, verdict)
    if verdict is None and not isinstance(answer(dict(CONFIGS["Pebble"])), int | np.integer):
        return "float"
    if verdict is None or verdict.state != "other":
        return verdict
    wrong_for = next(name for name, config in CONFIGS.items() if said(answer)(config) != said(weights_of)(config))
    right, yours = said(weights_of)(CONFIGS[wrong_for]), said(answer)(CONFIGS[wrong_for])
    return Verdict("other", f"for {wrong_for} the right answer is {right}, yours is {yours}")
