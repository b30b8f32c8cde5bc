"""A clue's own code runs on what the check passes in: each piece of code in a clue stands here with its names."""

import io
import json
import re
import struct

import numpy as np
import pytest
import torch

from llmnotes.exercises import BY_NOTEBOOK
from llmnotes.exercises.gptq import CODES, words_of

CALLS = re.compile(r"[\w)\]]\(|\w\[|[&@] | // | \*\* ")  # what makes words between backticks a piece of code to run
SKETCH = re.compile(
    r"…|\.\.\.|^\.|^for | = |\.copy_|backward|^line\[|^min\("
)  # half a line, or a line with a name to bind
X = np.arange(12.0).reshape(3, 4) - 5
ROWS = {"a": X[0], "b": X[1], "table": X, "x": X, "rows": X, "shares": X[:, 0], "direction": X[1], "n": 70}
NAMES: dict[str, dict] = {
    "01.1": {"tokens": ["k", "i"], "i": 0, "pair": ("k", "i")},
    "02.3": {"units": X},
    "04.1": {"scores": X},
    "04.2": {"k": X[None], "n": 3, "condition": X > 0, "a": X, "b": -X},
    "04.3": {"heads": X[None]},
    "05.1": {"positions": np.arange(3), "speeds": np.ones(2), "half": 2, "x": X},
    "05.2": {"matrix": X, "size": 3},
    "06.2": {"silu": np.tanh, "heard": X, "gate": np.ones((5, 4)), "up": np.ones((5, 4))},
    "07.1": {"scores": X[0]},
    "07.3": {"model": lambda ids: X, "ids": [0, 1]},
    "08.1": {"written": X},
    "08.2": {"h": X[0], "down": X, "read": X[:, 0], "i": 1},
    "08.3": {"softmax": np.abs, "model": lambda ids: X, "ids": [0, 1]},
    "09.1": {"right": torch.ones(3)},
    "09.2": {"torch": torch, "logits": torch.zeros(3)},
    "11.1": {"opened": io.BytesIO(bytes(16)), "n": 8, "struct": struct, "four_bytes": bytes(4)},
    "11.2": {"json": json, "header": {"a": 1}, "n": 70},
    "11.3": {"io": io, "content": b"."},
    "13.1": {"w": X[0], "s": 0.1},
    "13.3": {"low": X, "high": X},
    "14.2": {"x": X[0]},
    "15.1": {"a": X, "b": X[:, 0], "x": np.ones(4)},
    "15.2": {"word": words_of(CODES).min()},  # an int32, and a negative one
    "15.3": {"scales": X, "g_idx": np.array([0, 2, 1])},
    "16.2": {"merit": X},
    "16.3": {"config": {}},
    "19.2": {"levels": X[0], "codes": np.array([0, 1])},
    "19.3": {"x": X[0], "levels": X[1]},
    "22.2": {"ids": [0, 1]},
    "25.1": {"picture": np.zeros((3, 8, 8)), "height": 8, "width": 8, "size": 4},
    "25.2": {"scores": X},
    "25.3": {"table": X, "ids": [0, 1, 2], "at": 1},
}
PIECES = [
    (exercise.id, piece)
    for exercises in BY_NOTEBOOK.values()
    for exercise in exercises
    for piece in re.findall(r"`([^`]+)`", exercise.clue)
    if CALLS.search(piece) and not SKETCH.search(piece)
]


@pytest.mark.parametrize("number, piece", PIECES)
def test_the_code_in_a_clue_runs(number, piece):
    with np.errstate(all="ignore"):
        eval(piece, {"np": np} | ROWS | NAMES.get(number, {}))


def test_there_are_clues_with_code():
    assert len(PIECES) > 20 and ("15.2", "int(word) & 0xFFFFFFFF") in PIECES
