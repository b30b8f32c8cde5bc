"""The exercises of notebook 08: a gentler knife, the units of an MLP, and whether a part can go."""

import copy
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np

from llmnotes.attention import softmax
from llmnotes.exercises.exercise import Answer, Exercise, Verdict, alike, judge
from llmnotes.pebble.numpy_model import Block, Pebble, additions, rms_norm, silu

ANIMALS = ("cat", "cow", "sheep", "goat", "lion", "hare")  # six, as a prompt has six tokens: axis=1 runs, too
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


def softened_by(change: Callable[[np.ndarray], Any], and_more: Callable[..., Any] = lambda x, own: 0) -> Answer:
    """Return a function like `softened`: a part adds `change` of all that it has written, and `and_more`."""

    def softened(weights: Weights, prompts: Sequence[Sequence[int]], number: int, part: str) -> Pebble:
        model, written = Pebble(weights), []
        original = getattr(model.blocks[number], part)
        setattr(model.blocks[number], part, lambda x: (written.append(original(x)), written[-1])[1])
        for ids in prompts:
            model(ids)
        instead = change(np.array(written))
        setattr(model.blocks[number], part, lambda x: instead + and_more(x, original))
        return model

    return softened


def check_softened(answer: Answer) -> str | Verdict | None:
    """Return None for a model whose part adds its average, or what it adds instead."""
    weights, prompts, _ = opened()
    cases = [(1, "attention", prompts[0]), (2, "attention", prompts[1]), (3, "mlp", prompts[0])]
    for number, part, _ids in cases[:1]:
        given = copy.deepcopy(weights), copy.deepcopy(prompts)
        model = answer(*given, number, part)
        if not all(map(alike, given, (weights, prompts))):
            return Verdict("overwrites", "your function changes what it is given; work on a copy, or on new values")
        if isinstance(model, np.ndarray):
            return "no_model"
        if isinstance(model, Pebble) and not callable(getattr(model.blocks[number], part)):
            return "no_function"

    def asked(make: Answer) -> Answer:
        def scores(number: int, part: str, ids: list[int]) -> np.ndarray:
            return make(copy.deepcopy(weights), copy.deepcopy(prompts), number, part)(ids)[-1]

        return scores

    def unchanged(weights: Weights, prompts: Sequence[Sequence[int]], number: int, part: str) -> Pebble:
        return Pebble(weights)

    def mean(written: np.ndarray) -> np.ndarray:
        return written.mean(axis=0)

    mistakes = {
        "unchanged": unchanged,
        "zero": softened_by(lambda written: 0 * written[0]),
        "sum": softened_by(lambda written: written.sum(axis=0)),
        "first": softened_by(lambda written: written[0]),
        "last": softened_by(lambda written: written[-1]),
        "one_number": softened_by(np.mean),
        "tokens": softened_by(lambda written: written.mean(axis=(0, 1))),
        "columns": softened_by(lambda written: written.mean(axis=(0, 2))[:, None]),
        "axis_1": softened_by(lambda written: written.mean(axis=1)),
        "median": softened_by(lambda written: np.median(written, axis=0)),
        "row_too": softened_by(mean, lambda x, own: x),
        "own_too": softened_by(mean, lambda x, own: own(x)),
    }
    return judge(asked(answer), asked(softened_by(mean)), cases,
                 {key: asked(make) for key, make in mistakes.items()})  # fmt: skip


def unit_shares(block: Block, row: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """Return what each unit of the block's MLP gives to a score; the row is multiplied with `direction`."""
    return _hidden(block, rms_norm(row, block.norm2)) * (direction @ block.mlp.down)


def _hidden(block: Block, row: np.ndarray, gate: str = "gate", up: str = "up") -> np.ndarray:
    return silu(row @ getattr(block.mlp, gate).T) * (row @ getattr(block.mlp, up).T)


def check_unit_shares(answer: Answer) -> str | Verdict | None:
    """Return None for the shares of all units, or what was computed instead."""
    weights, prompts, _ = opened()
    pebble = Pebble(weights)

    def fresh() -> Pebble:
        return Pebble(copy.deepcopy(weights))  # an answer may change it

    def of_block(function: Answer) -> Answer:
        return lambda name, row, direction: function(fresh().blocks[int(name[-1])], row, direction)

    cases = []
    for layer, ids, token in ((3, prompts[0], 10), (3, prompts[1], 20), (2, prompts[2], 30)):
        row = np.sum(list(additions(pebble, ids).values())[: 2 * layer + 2], axis=0)
        cases.append((f"block {layer}", row, pebble.norm * pebble.table[token]))
    mistakes = {
        "no_norm": lambda block, row, direction: _hidden(block, row) * (direction @ block.mlp.down),
        "norm1": lambda block, row, direction: (
            _hidden(block, rms_norm(row, block.norm1)) * (direction @ block.mlp.down)
        ),
        "h": lambda block, row, direction: _hidden(block, rms_norm(row, block.norm2)),
        "sum": lambda block, row, direction: unit_shares(block, row, direction).sum(),
        "written": lambda block, row, direction: _hidden(block, rms_norm(row, block.norm2)) @ block.mlp.down.T,
        "columns": lambda block, row, direction: direction @ block.mlp.down,
        "swapped": lambda block, row, direction: (
            _hidden(block, rms_norm(row, block.norm2), "up", "gate") * (direction @ block.mlp.down)
        ),
        "no_silu": lambda block, row, direction: (
            (rms_norm(row, block.norm2) @ block.mlp.gate.T)
            * (rms_norm(row, block.norm2) @ block.mlp.up.T)
            * (direction @ block.mlp.down)
        ),
        "late_silu": lambda block, row, direction: (
            silu((rms_norm(row, block.norm2) @ block.mlp.gate.T) * (rms_norm(row, block.norm2) @ block.mlp.up.T))
            * (direction @ block.mlp.down)
        ),
        "sizes": lambda block, row, direction: np.abs(unit_shares(block, row, direction)),
        "sorted": lambda block, row, direction: np.sort(unit_shares(block, row, direction)),
        "gate_only": lambda block, row, direction: (
            silu(rms_norm(row, block.norm2) @ block.mlp.gate.T) * (direction @ block.mlp.down)
        ),
        "by_column": lambda block, row, direction: block.mlp(rms_norm(row, block.norm2)) * direction,
    }
    with np.errstate(over="ignore"):  # a row that was not normed
        return judge(of_block(answer), of_block(unit_shares), cases, {k: of_block(f) for k, f in mistakes.items()})


def loss(model: Pebble, ids: Sequence[int]) -> float:
    """Return the mean of -log p of the token that really comes next."""
    p = softmax(model(ids)[:-1])
    return float(-np.log(p[np.arange(len(ids) - 1), ids[1:]]).mean())


def check_loss(answer: Answer) -> str | Verdict | None:
    """Return None for the loss of two models on some sentences, or what was computed instead."""
    weights, _, texts = opened()

    def made(name: str) -> Pebble:
        model = Pebble(copy.deepcopy(weights))  # an answer may change it
        if name != "Pebble":
            vars(model.blocks[3])["attention"] = lambda x: 0 * x
        return model

    def asked(function: Answer) -> Answer:
        return lambda name, ids: function(made(name), ids)

    def of_chosen(change: Callable[[np.ndarray], Any]) -> Answer:
        def wrong(model: Pebble, ids: Sequence[int]) -> Any:
            return change(softmax(model(ids)[:-1])[np.arange(len(ids) - 1), ids[1:]])

        return asked(wrong)

    def of_all(change: Callable[[np.ndarray, np.ndarray], Any]) -> Answer:
        return asked(lambda model, ids: change(softmax(model(ids)), np.array(ids)))

    def columns(model: Pebble, ids: Sequence[int]) -> float:
        return float(-np.log(softmax(model(ids), axis=0)[np.arange(len(ids) - 1), ids[1:]]).mean())

    mistakes = {
        "ignores": asked(lambda model, ids: loss(made("Pebble"), ids)),
        "itself": of_all(lambda p, ids: -np.log(p[np.arange(len(ids)), ids]).mean()),
        "itself_but_first": of_all(lambda p, ids: -np.log(p[np.arange(1, len(ids)), ids[1:]]).mean()),
        "backwards": of_all(lambda p, ids: -np.log(p[np.arange(1, len(ids)), ids[:-1]]).mean()),
        "all_pairs": of_all(lambda p, ids: -np.log(p[:-1, ids[1:]]).mean()),
        "sign": of_chosen(lambda p: np.log(p).mean()),
        "sum": of_chosen(lambda p: -np.log(p).sum()),
        "over_all": of_chosen(lambda p: -np.log(p).sum() / (len(p) + 1)),
        "each": of_chosen(lambda p: -np.log(p)),
        "one_short": of_chosen(lambda p: -np.log(p[:-1]).mean()),
        "late": of_chosen(lambda p: -np.log(p[1:]).mean()),
        "mean_first": of_chosen(lambda p: -np.log(p.mean())),
        "no_log": of_chosen(np.mean),
        "bits": of_chosen(lambda p: -np.log2(p).mean()),
        "log10": of_chosen(lambda p: -np.log10(p).mean()),
        "perplexity": of_chosen(lambda p: np.exp(-np.log(p).mean())),
        "no_softmax": asked(lambda model, ids: -model(ids)[np.arange(len(ids) - 1), ids[1:]].mean()),
        "columns": asked(columns),
        "last": of_chosen(lambda p: -np.log(p[-1])),
    }
    cases = [("Pebble", texts[0]), ("Pebble without the attention of block 3", texts[0])]
    cases += [("Pebble", ids) for ids in texts[1:]]
    try:
        return judge(asked(answer), asked(loss), cases, mistakes)
    except IndexError as error:
        if str(error) == "list index out of range":  # the ids are the only list
            return "beyond"
        raise


_SOFTENED = '''def softened(W, prompts, number, part):
    """A fresh Pebble in which one part adds its average over all prompts."""
    model, written = Pebble(W), []
    original = getattr(model.blocks[number], part)

    def spy(x):
        written.append(original(x))
        return written[-1]

    setattr(model.blocks[number], part, spy)
    for ids in prompts:
        model(ids)
    {}'''
_UNITS = '''def unit_shares(block, row, direction):
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
        "in the place of a part, as it did for the spy; here it is one that always returns the average.",
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
            "axis_1": "axis=1 averages over the tokens of each prompt. The prompts are axis=0.",
            "row_too": "this part adds the row that it read, and the average. The block adds the row already.",
            "own_too": "this part adds its average on top of what it always adds. It should come instead of it.",
            "no_model": "this returns an array. Return the model, with a function in the part's place.",
            "no_function": "a part is a function from rows to rows: put lambda x: average there, not the array.",
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
        "last MLP splits once more, into one number for each unit. Write `unit_shares(block, row, direction)`. `row` "
        "is the row of ␣a before this block's MLP, and `direction` is what the function `direction` above returns.",
        clue="First do what the MLP does, up to h: norm the row with `block.norm2`, then gate, up and `silu`. Unit i "
        "adds its column of `down` to the row, times its h. What a column gives to the score is its dot product with "
        "`direction`.",
        name="unit_shares",
        stub=_UNITS.format("..."),
        solution=_UNITS.format(
            """row = rms_norm(row, block.norm2)
    h = silu(row @ block.mlp.gate.T) * (row @ block.mlp.up.T)
    return h * (direction @ block.mlp.down)"""
        ),
        check=check_unit_shares,
        hints={
            "no_norm": "the MLP reads a normed copy of the row: rms_norm(row, block.norm2).",
            "norm1": "this is the norm in front of attention. The MLP has block.norm2.",
            "h": "that is h, how much each unit writes. What it writes counts, too: times direction @ down[:, i].",
            "sum": "this is the share of the whole MLP. Don't add the units up.",
            "written": "this is what the MLP adds to the row. Ask each unit by itself what it gives to the score.",
            "columns": "this says what each unit would give if its h were 1. Multiply by h.",
            "swapped": "gate and up have changed places: silu belongs to the gate.",
            "no_silu": "the gate goes through silu before it is multiplied with up.",
            "late_silu": "silu belongs to the gate alone. Here it bends the product.",
            "sizes": "the signs are lost: a unit may also speak against a token.",
            "sorted": "these are the right numbers, but sorted. Leave them in the order of the units.",
            "gate_only": "this is the gate without up. h is silu of the gate, times up.",
            "by_column": "this splits by column of the row. You want it by unit: what does each unit give?",
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
        "“Let's delete it: the model gets smaller and faster, and nothing is lost.” Test that on texts. Write "
        "`loss(model, ids)`: take the probability p of each token that really comes next, and return the mean of −log "
        "p. (That's the natural logarithm, `np.log`: 0 if the model was sure and right, and 0.7 for a coin flip.)",
        clue="`softmax(model(ids))` has one row of probabilities for each token. Row i predicts token i + 1, so the "
        "last row is not needed, and nobody predicts the first token. Of each row, pick one number: "
        "`table[[0, 1], [2, 1]]` picks the one in row 0 and column 2, and the one in row 1 and column 1.",
        name="loss",
        stub=_LOSS.format("..."),
        solution=_LOSS.format(
            """p = softmax(model(ids)[:-1])  # row i predicts token i + 1
    return -np.log(p[np.arange(len(ids) - 1), ids[1:]]).mean()"""
        ),
        check=check_loss,
        hints={
            "ignores": "your function asks pebble, not the model that it was given.",
            "backwards": "this looks back: row i is asked for token i - 1. It predicts token i + 1.",
            "all_pairs": "this takes every token's probability in every row. Take one number from each row.",
            "beyond": "your function asks for an id behind the last one. The last row has no next token: leave it out.",
            "each": "these are the numbers for each token. A loss is one number: their mean.",
            "one_short": "the last token is missing. It's predicted, too: by the row before it.",
            "late": "the first prediction is missing: row 0 already predicts token 1.",
            "log10": "np.log10 is the logarithm from school. The loss of language models is counted with np.log.",
            "perplexity": "this is the perplexity, e to the power of the loss. Leave the np.exp away.",
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
