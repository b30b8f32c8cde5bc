"""Run a model with llama.cpp on this machine: in Python, behind a port, or as a chat in the terminal.

Importing it loads nothing heavy; llama.cpp itself comes with the package xllamacpp.

>>> from llmnotes.serving import Client, load, serve
"""

from importlib import import_module

LATER = {"Client": "client", "Runtime": "runtime", "load": "runtime", "serve": "server", "about": "model_file"}

__all__ = sorted(LATER)


def __getattr__(name: str):
    if name not in LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"llmnotes.serving.{LATER[name]}"), name)
