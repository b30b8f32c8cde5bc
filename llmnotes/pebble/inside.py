"""Four tools that look inside a model in NumPy: the lens, the knife, the exact sum, and the cut.

They are those of the lesson "Looking inside", for any `numpy_model.Pebble`. None of them changes the model it is given.
A model that they return computes only what lies behind the change: the rows before it are kept for each prompt.

>>> from llmnotes.models import open_model
>>> from llmnotes.pebble.numpy_model import Pebble
>>> lm = open_model("pebble", say=lambda line: None)
>>> pebble = Pebble({name: w.numpy() for name, w in lm.model.state_dict().items()})
>>> ids = lm.tokenizer("A baby cat is a")["input_ids"]
>>> [lm.tokenizer.decode([best[0][0]]) for best in lens(pebble, ids)]
[' town', ' called', ' cat', ' k']
>>> lm.tokenizer.decode([int(cut(pebble, 1, 2)(ids)[-1].argmax())])  # block 1 without a look at "baby"
' cat'
"""

import copy
from collections.abc import Sequence

import numpy as np

from llmnotes.attention import CausalAttention, softmax
from llmnotes.pebble.numpy_model import Pebble, additions, rms_norm


def lens(model: Pebble, ids: Sequence[int], k: int = 3) -> list[list[tuple[int, float]]]:
    """Return for each block the `k` best next tokens with their probabilities, as if the model ended there."""
    x, found = model.table[ids], []
    for block in model.blocks:
        x = block(x)
        p = softmax(model.read(x[-1]))
        found.append([(int(i), float(p[i])) for i in p.argsort()[::-1][:k]])
    return found


def shares(model: Pebble, ids: Sequence[int], token: int) -> dict[str, float]:
    """Return what each part gives to the score of `token` after `ids`, directly; they add up to the score."""
    parts = additions(model, ids)
    row = np.sum(list(parts.values()), axis=0)
    read = model.norm * model.out[token] / np.sqrt(np.mean(row**2) + model.eps)
    return {name: float(added @ read) for name, added in parts.items()}


def replaced(model: Pebble, number: int, part: str, value: float | np.ndarray = 0.0) -> Pebble:
    """Return a model in which a part, "attention" or "mlp", always adds `value`: nothing, or its `average`."""
    return Changed(model, number, part, lambda x: value + 0 * x)


def average(model: Pebble, number: int, part: str, prompts: Sequence[Sequence[int]]) -> np.ndarray:
    """Return what a part adds on average, (tokens, hidden); all prompts must have the same number of tokens."""
    written, original = [], model.blocks[number]
    for ids in prompts:
        x = _rows(model, ids)[number]
        added = original.attention(rms_norm(x, original.norm1, original.eps))
        if part == "mlp":
            added = original.mlp(rms_norm(x + added, original.norm2, original.eps))
        written.append(added)
    return np.mean(written, axis=0)


def cut(model: Pebble, number: int, position: int) -> Pebble:
    """Return a model in which one block's attention hides the token at `position` from the last token."""
    attention = Cut.__new__(Cut)
    vars(attention).update(vars(model.blocks[number].attention), position=position)
    return Changed(model, number, "attention", attention)


class Cut(CausalAttention):
    """Attention in which the last token can't see the token at `position`."""

    position: int

    def sees(self, news: int, olds: int) -> np.ndarray:
        allowed = super().sees(news, olds)
        allowed[-1, self.position] = False
        return allowed


class Changed(Pebble):
    """A model like `before`, but for one block: what lies before it is computed once for each prompt."""

    def __init__(self, before: Pebble, number: int, part: str, function: object) -> None:
        vars(self).update(
            table=before.table, out=before.out, norm=before.norm, eps=before.eps, blocks=list(before.blocks)
        )
        self.before, self.number = before, number
        self.blocks[number] = copy.copy(before.blocks[number])
        setattr(self.blocks[number], part, function)

    def __call__(self, ids: Sequence[int]) -> np.ndarray:
        x = _rows(self.before, ids)[self.number]
        for block in self.blocks[self.number :]:
            x = block(x)
        return self.read(x)


def _rows(model: Pebble, ids: Sequence[int]) -> list[np.ndarray]:
    """Return the rows that each block reads, from memory if this model has read these ids before."""
    memory = vars(model).setdefault("rows", {})
    if tuple(ids) not in memory:
        rows = [model.table[ids]]
        for block in model.blocks[:-1]:
            rows.append(block(rows[-1]))
        memory[tuple(ids)] = rows
    return memory[tuple(ids)]
