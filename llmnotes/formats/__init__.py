"""Model files: what a file is, what it holds, what it would do, and how it becomes another. No model runs here.

A format's module has `identify(source)`, which answers None for any other format, and `inspect(source, identity)`,
which reads headers alone. For a folder both take its path. Where a tensor's bytes do not lie in the file as they
are, the module has `data(inspection, tensor)` as well, which yields them.
"""

import os
from collections.abc import Iterator
from dataclasses import replace
from importlib import import_module
from pathlib import Path

from llmnotes.errors import UnknownFormat
from llmnotes.formats.files import Identity, Inspection, Source, Tensor, remembered, stored

# What only some need, and takes its time to import.
LATER = {"scan": "scanning", "convert": "conversion", "make_delta": "deltas", "apply_delta": "deltas"}

__all__ = ["Identity", "Inspection", "Tensor", "identify", "inspect", "read", *LATER]

# Asked in this order: first what begins with a signature, then what only its structure shows.
FILES = (
    "huggingface",
    "safetensors",
    "gguf",
    "legacy.ggml",
    "onnx",
    "numpy",
    "pytorch",
    "legacy.tensorflow.bundle",
    "legacy.tensorflow.graphs",
    "legacy.keras",
    "legacy.llama2c",
)
FOLDERS = ("huggingface", "legacy.tensorflow.bundle", "legacy.tensorflow.graphs")


def identify(path: str | Path) -> Identity:
    """Return what the file or folder at `path` is, by its content: its name and ending count for nothing.

    Raises `FileUnreadable` (nothing there, a link that leads nowhere, no permission), `FileBroken` (the format is
    clear and the file damaged), `UnknownFormat`.
    """
    return _ask(Path(path), lambda module, source, identity: identity)


def inspect(path: str | Path) -> Inspection:
    """Return all that the headers of the file or folder at `path` say: tensors, metadata, architecture.

    Values of tensors are not read, so a large file takes no longer than a small one. Raises what `identify` raises.
    Does not say whether a pickle in the file is harmless: that is `scan`.
    """
    return _ask(Path(path), lambda module, source, identity: module.inspect(source, identity))


def read(inspection: Inspection, tensor: Tensor) -> Iterator[bytes]:
    """Yield the bytes of one tensor of `inspection`, little-endian and contiguous, a piece at a time.

    Raises `FileBroken` if the file has changed in the meantime.
    """
    if tensor.offset is not None:
        return stored(tensor)
    module, identity = _owner(inspection.path)
    return module.data(replace(inspection, identity=identity), tensor)


@remembered(files=1000)
def _owner(path: Path):
    """Return the module that reads a file, and the file's identity."""
    return _ask(path, lambda module, source, identity: (module, identity))


def _ask(path: Path, question):
    if not os.path.exists(path) and os.path.isfile(f"{path}.index"):
        path = Path(f"{path}.index")  # TensorFlow calls a checkpoint by what its files' names begin with
    if os.path.isdir(path):
        return _first(FOLDERS, path, path, question)
    with Source(path) as source:
        return _first(FILES, source, path, question)


def _first(names: tuple[str, ...], source, path: Path, question):
    for name in names:
        module = import_module(f"llmnotes.formats.{name}")
        identity = module.identify(source)
        if identity is not None:
            return question(module, source, identity)
    what, remedy = "file", "if it is one part of a model, name its folder"
    if os.path.isdir(path):
        what, remedy = "folder", "if a model's file lies in it, name that"
    raise UnknownFormat(
        f"{path} is no model {what} that llmnotes knows (`llmnotes inspect --help` lists those it does); {remedy}."
    )


def __getattr__(name: str):
    if name not in LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"llmnotes.formats.{LATER[name]}"), name)
