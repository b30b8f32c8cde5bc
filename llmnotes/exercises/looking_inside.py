"""The exercises of notebook 08: a gentler knife, the units of an MLP, and whether a part can go."""

import copy
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np

from llmnotes.attention import softmax
from llmnotes.exercises.exercise import Answer, Exercise, Verdict, judge
from llmnotes.pebble.numpy_model import Block, Pebble, additions, rms_norm, silu

ANIMALS = ("cat", "cow", "sheep", "goat", "lion")
TEXTS = ("The cat eats fish. The cow lives in the barn.", "Mia is a baker.", "The dog says woof.")
Weights = dict[str, np.ndarray]


def opened() -> tuple[Weights, list[list[int]], list[list[int]]]:
    """Return what `_opened` returns, as a copy: an answer may change what it is given."""
    return copy.deepcopy(_opened())


@cache
def _opened() -> tuple[Weights, list[list[int]], list[list[int]]]:
    """Return Pebble's weights, the ids of "A baby … is a" for some animals, and those of some sentences."""
    from llmnotes.models import open_model

    lm = open_model("pebble", say=lambda line: None)
    weights = {name: weight.numpy() for name, weight in lm.model.state_dict().items()}
    prompts, texts = ([lm.tokenizer(text)["input_ids"] for text in many] for many in (
        [f"A baby {animal} is a" for animal in ANIMALS], TEXTS))  # fmt: skip
    return weights, prompts, texts


def softened_by(change: Callable[[np.ndarray], Any]) -> Answer:
    """Return a function like `softened`, in which a part adds `change` of all that it has written."""

    def softened(weights: Weights, prompts: Sequence[Sequence[int]], number: int, part: str) -> Pebble:
        model, written = Pebble(weights), []
        original = getattr(model.blocks[number], part)
        setattr(model.blocks[number], part, lambda x: (written.append(original(x)), written[-1])[1])
        for ids in prompts:
            model(ids)
        instead = change(np.array(written))
        setattr(model.blocks[number], part, lambda x: instead)
        return model

    return softened


def check_softened(answer: Answer) -> str | Verdict | None:
    """Return None for a model whose part adds its average, or what it adds instead."""
    weights, prompts, _ = opened()

    def asked(make: Answer) -> Answer:
        def scores(number: int, part: str, ids: list[int]) -> np.ndarray:
            return make(copy.deepcopy(weights), copy.deepcopy(prompts), number, part)(ids)[-1]

        return scores

    def unchanged(weights: Weights, prompts: Sequence[Sequence[int]], number: int, part: str) -> Pebble:
        return Pebble(weights)

    cases = [(1, "attention", prompts[0]), (2, "attention", prompts[1]), (3, "mlp", prompts[0])]
    mistakes = {
        "unchanged": unchanged,
        "zero": softened_by(lambda written: 0 * written[0]),
        "sum": softened_by(lambda written: written.sum(axis=0)),
        "first": softened_by(lambda written: written[0]),
        "last": softened_by(lambda written: written[-1]),
        "one_number": softened_by(np.mean),
        "tokens": softened_by(lambda written: written.mean(axis=(0, 1))),
        "columns": softened_by(lambda written: written.mean(axis=(0, 2))[:, None]),
        "median": softened_by(lambda written: np.median(written, axis=0)),
    }
    return judge(asked(answer), asked(softened_by(lambda written: written.mean(axis=0))), cases,
                 {key: asked(make) for key, make in mistakes.items()})  # fmt: skip


def unit_shares(block: Block, row: np.ndarray, read: np.ndarray) -> np.ndarray:
    """Return what each hidden unit of the block's MLP gives to a score; `read` is what the row is multiplied with."""
    return _hidden(block, rms_norm(row, block.norm2)) * (read @ block.mlp.down)


def _hidden(block: Block, row: np.ndarray) -> np.ndarray:
    return silu(row @ block.mlp.gate.T) * (row @ block.mlp.up.T)


def check_unit_shares(answer: Answer) -> str | Verdict | None:
    """Return None for the shares of all units, or what was computed instead."""
    weights, prompts, _ = opened()
    pebble = Pebble(weights)

    def of_layer(function: Answer) -> Answer:
        return lambda layer, row, read: function(pebble.blocks[layer], row, read)

    cases = []
    for layer, ids, token in ((3, prompts[0], 10), (3, prompts[1], 20), (2, prompts[2], 30)):
        row = np.sum(list(additions(pebble, ids).values())[: 2 * layer + 2], axis=0)
        cases.append((layer, row, pebble.norm * pebble.table[token]))
    mistakes = {
        "no_norm": lambda block, row, read: _hidden(block, row) * (read @ block.mlp.down),
        "norm1": lambda block, row, read: _hidden(block, rms_norm(row, block.norm1)) * (read @ block.mlp.down),
        "h": lambda block, row, read: _hidden(block, rms_norm(row, block.norm2)),
        "sum": lambda block, row, read: unit_shares(block, row, read).sum(),
        "written": lambda block, row, read: _hidden(block, rms_norm(row, block.norm2)) @ block.mlp.down.T,
        "columns": lambda block, row, read: read @ block.mlp.down,
    }
    with np.errstate(over="ignore"):  # a row that was not normed
        return judge(of_layer(answer), of_layer(unit_shares), cases, {k: of_layer(f) for k, f in mistakes.items()})


def loss(model: Pebble, ids: Sequence[int]) -> float:
    """Return the mean of -log p of the token that really comes next."""
    p = softmax(model(ids)[:-1])
    return float(-np.log(p[np.arange(len(ids) - 1), ids[1:]]).mean())


def check_loss(answer: Answer) -> str | Verdict | None:
    """Return None for the loss of some sentences, or what was computed instead."""
    weights, _, texts = opened()
    pebble = Pebble(weights)

    def chosen(ids: Sequence[int]) -> np.ndarray:
        return softmax(pebble(ids)[:-1])[np.arange(len(ids) - 1), ids[1:]]

    def columns(model: Pebble, ids: Sequence[int]) -> float:
        return float(-np.log(softmax(model(ids), axis=0)[np.arange(len(ids) - 1), ids[1:]]).mean())

    mistakes = {
        "itself": lambda model, ids: -np.log(softmax(model(ids))[np.arange(len(ids)), ids]).mean(),
        "itself_but_first": lambda model, ids: -np.log(softmax(model(ids))[np.arange(1, len(ids)), ids[1:]]).mean(),
        "sign": lambda model, ids: np.log(chosen(ids)).mean(),
        "sum": lambda model, ids: -np.log(chosen(ids)).sum(),
        "over_all": lambda model, ids: -np.log(chosen(ids)).sum() / len(ids),
        "mean_first": lambda model, ids: -np.log(chosen(ids).mean()),
        "no_log": lambda model, ids: chosen(ids).mean(),
        "bits": lambda model, ids: -np.log2(chosen(ids)).mean(),
        "no_softmax": lambda model, ids: -model(ids)[np.arange(len(ids) - 1), ids[1:]].mean(),
        "columns": columns,
        "last": lambda model, ids: -np.log(chosen(ids)[-1]),
    }
    return judge(lambda ids: answer(pebble, ids), lambda ids: loss(pebble, ids), [(ids,) for ids in texts],
                 {key: lambda ids, wrong=wrong: wrong(pebble, ids) for key, wrong in mistakes.items()})  # fmt: skip


_SOFTENED = '''def softened(W, prompts, number, part):
    """A fresh Pebble in which one part adds its average over all prompts."""
    model, written = Pebble(W), []
    original = getattr(model.blocks[number], part)
    setattr(model.blocks[number], part,
            lambda x: written.append(original(x)) or written[-1])  # the spy
    for ids in prompts:
        model(ids)
    {}'''
_UNITS = '''def unit_shares(block, row, read):
    """What each unit of the block's MLP gives to a score: as many numbers as units."""
    {}'''
_LOSS = '''def loss(model, ids):
    """The mean of -log p of the tokens that really come next."""
    {}'''

EXERCISES = [
    Exercise(
        id="08.1",
        title="A gentler knife",
        level="medium",
        minutes=10,
        task="Adding zero is harsh. It also takes away what the part adds in *every* sentence, and the parts behind it "
        "have never seen a row without that. A gentler knife lets the part add its **average** over our prompts, the "
        "same for all. What is then missing is only what was special about each one.\n\n"
        "Complete `softened`. The spy has already written down what the part added for each prompt; each is of shape "
        "(6, 256). Let the part add their average, and return the model.",
        clue="`np.mean(written, axis=0)` is the average of the arrays, number by number. `setattr` puts a new function "
        "in the place of a part, as it did for the spy.",
        name="softened",
        stub=_SOFTENED.format("..."),
        solution=_SOFTENED.format(
            """average = np.mean(written, axis=0)
    setattr(model.blocks[number], part, lambda x: average)
    return model"""
        ),
        check=check_softened,
        hints={
            "unchanged": "your model still does what it always did: the part adds what it finds, or the spy does.",
            "zero": "this part adds nothing at all. It should add its average.",
            "sum": "this part adds the sum of all that it wrote. Divide by the number of prompts, or take np.mean.",
            "first": "this part adds what it wrote for the first prompt, not the average.",
            "last": "this part adds what it wrote for the last prompt, not the average.",
            "one_number": "np.mean without axis makes one single number of everything: axis=0 averages over prompts.",
            "tokens": "here all six tokens get the same row. Average over the prompts only: axis=0.",
            "columns": "this averages over the columns, too. Average over the prompts only: axis=0.",
            "median": "this is the median of what the part wrote. The average is np.mean.",
        },
        kept=True,
        given="import numpy as np\n\nfrom llmnotes.pebble.numpy_model import Pebble",
    ),
    Exercise(
        id="08.2",
        title="Is there a kitten unit?",
        level="hard",
        minutes=10,
        task="An MLP is a sum too: each of its units writes its own column of `down`, times its h. So the share of the "
        "last MLP splits once more, into one number for each unit. Write `unit_shares(block, row, read)`. `row` is the "
        "row of ␣a before this block's MLP. `read` are the 256 numbers with which the finished row is multiplied.",
        clue="First do what the MLP does: norm the row with `block.norm2`, then compute h with gate, up and `silu`. "
        "Unit i adds `h[i] * down[:, i]` to the row, so it gives `h[i] * (read @ down[:, i])` to the score.",
        name="unit_shares",
        stub=_UNITS.format("..."),
        solution=_UNITS.format(
            """row = rms_norm(row, block.norm2)
    h = silu(row @ block.mlp.gate.T) * (row @ block.mlp.up.T)
    return h * (read @ block.mlp.down)"""
        ),
        check=check_unit_shares,
        hints={
            "no_norm": "the MLP reads a normed copy of the row: rms_norm(row, block.norm2).",
            "norm1": "this is the norm in front of attention. The MLP has block.norm2.",
            "h": "that is h, how much each unit writes. What it writes counts, too: times read @ down[:, i].",
            "sum": "this is the share of the whole MLP. Don't add the units up.",
            "written": "this is what the MLP adds to the row. Ask each unit by itself what it gives to the score.",
            "columns": "this says what each unit would give if its h were 1. Multiply by h.",
        },
        kept=True,
        given="import numpy as np\n\nfrom llmnotes.pebble.numpy_model import rms_norm, silu",
    ),
    Exercise(
        id="08.3",
        title="Can this part go?",
        level="medium",
        minutes=15,
        task="*A task from work.* “Without the attention of block 3, every answer stays right,” writes a colleague. "
        "“Let's delete it: the model gets smaller and faster, and nothing is lost.” Test that on ordinary text. Write "
        "`loss(model, ids)`: the mean of −log p of the token that really comes next, over all tokens but the first. "
        "Then answer your colleague.",
        clue="`softmax(model(ids))` has one row of probabilities for each token. Row i predicts token i + 1, so the "
        "last row is not needed, and neither is the first token: compare `[:-1]` with `ids[1:]`.",
        name="loss",
        stub=_LOSS.format("..."),
        solution=_LOSS.format(
            """p = softmax(model(ids)[:-1])  # row i predicts token i + 1
    return -np.log(p[np.arange(len(ids) - 1), ids[1:]]).mean()"""
        ),
        check=check_loss,
        hints={
            "itself": "here row i is asked for token i, which it has just read. It predicts token i + 1.",
            "itself_but_first": "the first token is left out, but row i is still asked for token i. It predicts i + 1.",
            "sign": "the sign is wrong: a logarithm of a probability is negative, so the loss is minus that.",
            "sum": "this is the sum. A loss is a mean, so that long and short texts can be compared.",
            "over_all": "this divides by the number of tokens. One less is predicted: nobody predicts the first.",
            "mean_first": "this is the logarithm of a mean. Take the mean of the logarithms.",
            "no_log": "this is the mean probability. Take −log of each one first.",
            "bits": "np.log2 counts in bits. The loss of language models is counted with np.log.",
            "no_softmax": "these are scores. Turn each row into probabilities with softmax first.",
            "columns": "this softmax runs over the tokens. Each row must sum to 1.",
            "last": "this is the loss of the last token. Take the mean over all that are predicted.",
        },
        kept=True,
        given="import numpy as np\n\nfrom llmnotes.attention import softmax",
    ),
]
