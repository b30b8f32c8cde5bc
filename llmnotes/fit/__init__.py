"""What a model needs, and whether it fits: from a config or a file's header alone, before anything is loaded.

Importing it loads nothing else.

>>> from llmnotes.fit import fit, machines, models, parse
"""

from importlib import import_module

LATER = {name: "verdict" for name in ("Fit", "Option", "fit", "machines", "models")} | {"parse": "sizes"}

__all__ = sorted(LATER)


def __getattr__(name: str):
    if name not in LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"llmnotes.fit.{LATER[name]}"), name)
