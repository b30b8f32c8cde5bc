"""Pebble, the model in the box: its world, its exam, and where its weights are. Importing it does not load torch.

The pieces: `world` (facts), `grammar` (`parses`), `corpus` (training text), `exam` (questions and score), `answering`
(what a model says). `python -m recipes.pebble` trains it.

>>> from llmnotes.pebble import weights_dir, exam, build_world
>>> weights_dir("pebble").name
'pebble'
"""

from __future__ import annotations

from pathlib import Path

from llmnotes.pebble.exam import ExamResult, exam, score
from llmnotes.pebble.question import Question
from llmnotes.pebble.world import Fact, World, build_world

__all__ = [
    "VARIANTS",
    "WEIGHTS",
    "ExamResult",
    "Fact",
    "Question",
    "World",
    "build_world",
    "exam",
    "score",
    "weights_dir",
]

WEIGHTS = Path(__file__).parent / "weights"
VARIANTS = ("pebble", "pebble-chat")


def weights_dir(name: str = "pebble") -> Path:
    """The folder of one variant, in the Hugging Face layout; raises KeyError for a name that is not in VARIANTS."""
    if name not in VARIANTS:
        raise KeyError(f"{name!r} is not in the box; choose from {', '.join(VARIANTS)}.")
    return WEIGHTS / name
