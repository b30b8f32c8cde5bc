"""LLaVA in small: an encoder of pictures, a projector, and Pebble, which answers questions about what it sees.

(Liu et al., Visual Instruction Tuning, 2023, section 4; Improved Baselines with Visual Instruction Tuning, 2023.)
Importing it loads nothing heavy. ``python -m recipes.vision`` trains all of it again.

>>> from llmnotes.vision import accuracy, ask, encoder, load
"""

from importlib import import_module

LATER = {"load": "opening", "encoder": "opening", "ask": "asking", "accuracy": "asking"}

__all__ = sorted(LATER)


def __getattr__(name: str):
    if name not in LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"llmnotes.vision.{LATER[name]}"), name)
