"""llmnotes takes one language model apart and puts it back together, on your own machine.

Open a model and talk to it
    open_model   open a model: pebble and pebble-chat come with llmnotes; a folder or a name on the hub works too
    complete     continue texts, always with the most probable token
    load, serve  run a model with llama.cpp: load it here, or serve it behind an address for any OpenAI client
Model files
    inspect      what a file is and which tensors it holds, from its header alone
    scan         what the pickles in a file would run when they are loaded, without loading them
    convert      write a model in another format: GGUF, safetensors, PyTorch, ONNX, ...
    parity       compare two forms of a model: tokens, logits, text, and what was lost
Memory and training
    fit          what a model needs, and whether it fits into your GPU and your main memory
    finetune     train a model by LoRA, QLoRA or in full, from a file of settings or a dict
In a lesson
    claim        check a statement, and print it with a tick
    check        check your answer to an exercise; reveal shows a prediction beside the truth
    show         show a figure together with its text for screen readers

>>> from llmnotes import complete, open_model
>>> pebble = open_model("pebble", say=lambda line: None)
>>> complete(pebble, ["Q: What does the goose say?\\nA:"], max_new_tokens=4)
[' honk.']

Where next: `llmnotes start` in a terminal copies the lessons into a folder of yours, `llmnotes --help` lists the
commands, and `help(llmnotes.convert)` (or any other name above) shows its arguments, its errors and an example.
"""

import os
import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

__version__ = "0.1.0"

# Idle OpenMP threads that spin steal the time of the working ones when a machine is busy: a 60 ms training step then
# takes seconds. Those that sleep at once are woken too late on an idle one: Pebble's steps take nearly twice as long.
# So they spin for a moment (GNU's OpenMP; others know the first line alone), and then sleep.
# The variables count only if they are set before torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "30000")

# What editors and type checkers read. At run time the same names come from `_HOMES`, when they are first used, so that
# `import llmnotes` loads neither torch nor numpy. A test compares the two lists.
if TYPE_CHECKING:
    from llmnotes.claims import claim
    from llmnotes.exercises import check, reveal
    from llmnotes.finetuning.job.run import finetune
    from llmnotes.fit import fit
    from llmnotes.models import complete, open_model, parity
    from llmnotes.models.files import convert, inspect, scan
    from llmnotes.plots import show
    from llmnotes.serving import load, serve

__all__ = [
    "check",
    "claim",
    "complete",
    "convert",
    "finetune",
    "fit",
    "inspect",
    "load",
    "open_model",
    "parity",
    "reveal",
    "scan",
    "serve",
    "show",
]

_HOMES = {
    "check": "llmnotes.exercises",
    "claim": "llmnotes.claims",
    "complete": "llmnotes.models",
    "convert": "llmnotes.models.files",
    "finetune": "llmnotes.finetuning.job.run",
    "fit": "llmnotes.fit",
    "inspect": "llmnotes.models.files",
    "load": "llmnotes.serving",
    "open_model": "llmnotes.models",
    "parity": "llmnotes.models",
    "reveal": "llmnotes.exercises",
    "scan": "llmnotes.models.files",
    "serve": "llmnotes.serving",
    "show": "llmnotes.plots",
}


def __getattr__(name: str):
    """Import a name of `__all__` when it is first used (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _Package(ModuleType):
    """This package, where `fit` is always the function.

    Python sets `llmnotes.fit` to the subpackage of that name as soon as something imports it. Ignoring that keeps one
    meaning: `llmnotes.fit` and `from llmnotes import fit` give the function, whatever was imported before. What lies
    in the subpackage comes with `from llmnotes.fit import ...`; `import llmnotes.fit as f` gives the function, too.
    """

    def __setattr__(self, name: str, value: object) -> None:
        if not (name == "fit" and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
