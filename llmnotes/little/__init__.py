"""What the lessons on training build: a few hundred sentences of Pebble's world, a small model, and the loop.

`world` has the text, cut into words; `learning` the loop and what takes a step in it; `model` a transformer that learns
the text in seconds.

>>> from llmnotes.little import Small, train
"""

from llmnotes.little.learning import AdamW, Descent, Table, cross_entropy, train
from llmnotes.little.model import MLP, Attention, Block, Norm, Small, rotate
from llmnotes.little.world import (
    Statement,
    Words,
    answer_first,
    floor,
    hold_out,
    questions,
    split,
    statements,
    tensors,
    third,
    write,
)

__all__ = ["MLP", "AdamW", "Attention", "Block", "Descent", "Norm", "Small", "Statement", "Table", "Words"]
__all__ += ["answer_first", "cross_entropy", "floor", "hold_out", "questions", "rotate", "split", "statements"]
__all__ += ["tensors", "third", "train", "write"]
