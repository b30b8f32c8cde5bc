"""The exercises of notebook 06: RMSNorm, the gated MLP, the block, and how many weights a config means."""

import copy
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import numpy as np

from llmnotes.exercises.exercise import Answer, Exercise, Verdict, judge
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
        wrong.get("tables", 1) * config["vocab_size"] * d + config["num_hidden_layers"] * block + wrong.get("last", d)
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
        "two_tables": {"tables": 2},
        "no_table": {"tables": 0},
    }
    mistakes = {key: said(lambda config, change=change: weights_of(config, **change)) for key, change in wrong.items()}
    for width in (4, 2):
        mistakes[f"bytes_{width}"] = said(lambda config, width=width: width * weights_of(config))
    verdict = judge(said(answer), said(weights_of), [(config,) for config in CONFIGS.values()], mistakes)
    if isinstance(verdict, str):
        return {"bytes_4": "bytes", "bytes_2": "bytes"}.get(verdict, verdict)
    if verdict is None or verdict.state != "other":
        return verdict
    wrong_for = next(name for name, config in CONFIGS.items() if said(answer)(config) != said(weights_of)(config))
    right, yours = said(weights_of)(CONFIGS[wrong_for]), said(answer)(CONFIGS[wrong_for])
    return Verdict("other", f"for {wrong_for} the right answer is {right}, yours is {yours}")


_CLASS = """class {name}:
    def __init__(self, W, layer{extra}):
        {head}

    def __call__(self, x):
        {body}"""
_MLP = (
    _CLASS.replace("{name}", "MLP")
    .replace("{extra}", "")
    .replace(
        "{head}",
        """names = [f"model.layers.{layer}.mlp.{part}_proj.weight"
                 for part in ("gate", "up", "down")]
        self.gate, self.up, self.down = (W[name] for name in names)""",
    )
)
_BLOCK = (
    _CLASS.replace("{name}", "Block")
    .replace("{extra}", ", base=10_000.0, eps=1e-6, size=64")
    .replace(
        "{head}",
        """name = f"model.layers.{layer}."
        self.norm1 = W[name + "input_layernorm.weight"]
        self.norm2 = W[name + "post_attention_layernorm.weight"]  # before the MLP
        self.attention = CausalAttention(W, layer, size, base)
        self.mlp = MLP(W, layer)
        self.eps = eps""",
    )
)
_NORM = '''def rms_norm(x, g, eps=1e-6):
    """Norm every row of x, (tokens, 256)."""
    {}'''
_COUNT = '''def count(config):
    """Return the number of weights: table, blocks, last norm."""
    {}'''

EXERCISES = [
    Exercise(
        id="06.1",
        title="Write the norm",
        level="easy",
        minutes=5,
        task="The code above norms one row. Yours takes all rows at once, x of shape (tokens, 256), and each row has "
        "its own rms. The check compares your norm with three of the real model's, number by number. If yours is "
        "right, the lesson goes on with it.",
        clue="`np.mean(x**2, axis=-1)` takes the mean along each row. With `keepdims=True` it keeps the shape "
        "(tokens, 1), so that each row can be divided by its own number.",
        name="rms_norm",
        stub=_NORM.format("..."),
        solution=_NORM.format("rms = np.sqrt(np.mean(x**2, axis=-1, keepdims=True) + eps)\n    return x / rms * g"),
        check=check_rms_norm,
        hints={
            "keepdims": "np.mean(x**2, axis=-1) has the shape (tokens,), and that doesn't line up with (tokens, 256). "
            "With keepdims=True it stays (tokens, 1).",
            "whole": "there is one mean for all rows together, so an early row depends on later ones. The mean along "
            "each row is np.mean(x**2, axis=-1, keepdims=True).",
            "columns": "this takes the mean down each column, over the tokens. A row should be normed by its own "
            "numbers: axis=-1.",
            "no_g": "the rows have the right size now, but the factors g are missing.",
            "no_root": "the root is missing: this divides by the mean of the squares.",
            "length": "this divides by the length, the root of the sum of the squares. The rms is the root of "
            "their mean.",
            "no_eps": "right for Pebble, but eps is missing: add it to the mean of the squares, under the root.",
            "eps_outside": "eps belongs under the root, added to the mean of the squares.",
            "fixed_eps": "right for Pebble, but your norm doesn't use the eps it is given: another model may need "
            "another one.",
        },
        kept=True,
        given="import numpy as np",
    ),
    Exercise(
        id="06.2",
        title="Write the MLP",
        level="easy",
        minutes=5,
        task="The first half of the class is there. Write what it does with x, (tokens, 256), and use `silu`. Two "
        "lines are enough. The check compares yours with three of the real model's MLPs.",
        clue="For one row of block 3 the lesson wrote `silu(heard @ gate.T) * (heard @ up.T)`. The same line does many "
        "rows at once, because `@` treats each row by itself. Here the matrices are the object's own: `self.gate`, "
        "`self.up`, and, at the end, `self.down`.",
        name="MLP",
        stub=_MLP.replace("{body}", "..."),
        solution=_MLP.replace("{body}", "h = silu(x @ self.gate.T) * (x @ self.up.T)\n        return h @ self.down.T"),
        check=check_mlp,
        hints={
            "lesson": "this uses the lesson's own gate, up and down: those of block 3, whatever the layer. Write "
            "self.gate, self.up and self.down.",
            "lesson_gate": "this uses the lesson's own gate and up: those of block 3, whatever the layer. Write "
            "self.gate and self.up.",
            "lesson_down": "down is the lesson's own here, that of block 3, whatever the layer. Write self.down.",
            "relu": "this bends with ReLU. Pebble uses its smooth cousin, silu.",
            "both_bent": "both sides are bent here. Only gate is; what up says is taken as it is.",
            "up_bent": "the bend sits on the gate, and yours sits on up.",
            "no_bend": "the bend is missing: put silu around what gate says.",
            "no_up": "this is gate without up.",
            "no_gate": "this is the older MLP, without a gate: up, a bend, down.",
            "sum": "gate and up are multiplied with each other, not added.",
            "late": "here the bend comes after the product. It belongs to the gate alone.",
            "with_x": "this adds x already. The MLP returns only what is to be added; the block does the adding.",
        },
        kept=True,
        given="import numpy as np\n\nfrom llmnotes.pebble.numpy_model import silu",
    ),
    Exercise(
        id="06.3",
        title="Write the block",
        level="easy",
        minutes=5,
        task="Everything is prepared. Write the two lines, and give both norms `self.eps`. (Write `x = x + …`. The "
        "shorter `x += …` changes the array itself, and others still need it.) The check compares yours with "
        "three of the real model's blocks.",
        clue="The first line is `x = x + self.attention(…)`, and between the brackets stands the normed x. The second "
        "line is built alike, and it reads the new x.",
        name="Block",
        stub=_BLOCK.replace("{body}", "..."),
        solution=_BLOCK.replace(
            "{body}",
            "x = x + self.attention(rms_norm(x, self.norm1, self.eps))\n"
            "        return x + self.mlp(rms_norm(x, self.norm2, self.eps))",
        ),
        check=check_block,
        hints={
            "swapped": "the two norms are swapped: norm1 belongs to attention, norm2 to the MLP.",
            "norm_after": "here the norms come after the additions. Each part reads a normed copy; x is left alone.",
            "mlp_first": "here the MLP comes first. Attention does.",
            "replaced": "the two additions are missing: here each part replaces x.",
            "unnormed": "the norms are missing.",
            "parallel": "your MLP reads the old x. It should read the rows with attention's addition in them.",
            "one_norm": "norm1 is used twice. The MLP has norm2.",
            "first_only": "this is the first line only. The MLP comes next.",
            "lost": "the second addition is missing: what the MLP returns must be added to x.",
            "on_the_copy": "here x itself is normed. Each part reads a normed copy, and x keeps its size.",
            "default_eps": "right for Pebble, but the norms don't get self.eps, and another model has another one.",
        },
        kept=True,
        given="from llmnotes.attention import CausalAttention\nfrom llmnotes.pebble.numpy_model import MLP, rms_norm",
    ),
    Exercise(
        id="06.4",
        title="Will it fit?",
        level="medium",
        minutes=10,
        task="*A task from work.* Somebody hands you a `config.json` and asks whether the model fits into 8 GB. "
        "First you need the number of its weights; the bytes follow. Write `count(config)` for a model built like "
        "Pebble, with one table. It gets a dictionary with the names that we've just printed. The check tries Pebble, "
        "SmolLM2-135M and a very small model. The picture of the block has the shapes. Mind the width of k and v.",
        clue="Count one block: q and o are both hidden × hidden, k and v both hidden × (numbers of a head × "
        "key-value heads), then three matrices of the MLP and two norms. A model has `num_hidden_layers` of them, one "
        "table, and one last norm.",
        name="count",
        stub=_COUNT.format("..."),
        solution=_COUNT.format(
            """d, inner = config["hidden_size"], config["intermediate_size"]
    kv = d // config["num_attention_heads"] * config["num_key_value_heads"]
    attention = 2 * d * d + 2 * d * kv  # q and o, k and v
    block = attention + 3 * d * inner + 2 * d  # the last are two norms
    return config["vocab_size"] * d + config["num_hidden_layers"] * block + d"""
        ),
        check=check_count,
        hints={
            "bytes": "that's the number of bytes. The number of weights is wanted; the bytes come after it.",
            "kv_wide": "here k and v are as wide as q. They have fewer heads: num_key_value_heads.",
            "kv_one": "here k and v have one head each. They have num_key_value_heads.",
            "no_o": "one square matrix is missing in each block: q and o are both hidden × hidden.",
            "two_matrices": "the gated MLP has three matrices: gate, up and down.",
            "no_norms": "the two norms of each block are missing, hidden_size factors each.",
            "no_last_norm": "the last norm is missing, after the blocks.",
            "no_norm_at_all": "all that is missing now are the norms: two in each block, and one at the end.",
            "two_tables": "the table is counted twice, and it is one and the same at both ends.",
            "no_table": "the table is missing: vocab_size rows of hidden_size numbers.",
        },
        kept=True,
    ),
]
