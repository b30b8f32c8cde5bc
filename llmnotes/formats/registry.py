"""The list of all formats; `identify` a model file, `inspect` its headers, and read the bytes of its tensors.

To add a format, write a module with its `FORMAT` and name it here.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from llmnotes.errors import FileBroken, UnknownFormat
from llmnotes.formats import beside, gguf, huggingface, numpy, onnx, pytorch, safetensors
from llmnotes.formats.files import Source, refuse_pointer, remembered, stored
from llmnotes.formats.format import Format
from llmnotes.formats.legacy import ggml, imatrix_dat, keras, llama2c
from llmnotes.formats.legacy.tensorflow import bundle, graphs
from llmnotes.formats.pytorch import distributed
from llmnotes.formats.results import Identity, Inspection, Tensor

# How tools that cut a file anywhere, such as split, call the pieces.
PIECE = re.compile(
    r"(.+\.(?:gguf|ggml|safetensors|bin|pt|pth|ckpt|onnx|zip|tar))"
    r"(?:[-._]split[-._]?\w{1,4}|[-._]part[-._]?(?:[a-z]{1,2}|\d+(?:of\d+)?)|\.(?:a[a-z]|\d{3}))",
    re.IGNORECASE,
)

# Asked in this order: first the formats that begin with a signature, then those that only their structure shows.
FILES: tuple[Format[Source], ...] = (
    huggingface.FORMAT,
    safetensors.FORMAT,
    gguf.FORMAT,
    ggml.FORMAT,
    onnx.FORMAT,
    numpy.FORMAT,
    pytorch.FORMAT,
    bundle.FORMAT,
    graphs.FORMAT,
    keras.FORMAT,
    llama2c.FORMAT,
    imatrix_dat.FORMAT,
)
FOLDERS: tuple[Format[Path], ...] = (huggingface.FOLDER, bundle.FOLDER, graphs.FOLDER)


def identify(path: str | Path) -> Identity:
    """Return what the file or folder at `path` is, by its content: its name and ending count for nothing.

    Raises `FileUnreadable` (nothing there, a link that leads nowhere, no permission), `FileBroken` (the format is
    clear and the file damaged), `UnknownFormat`.
    """
    path = _existing(Path(path))
    if os.path.isdir(path):
        return _first_folder(path)[1]
    with Source(path) as source:
        return _first_file(source)[1]


def inspect(path: str | Path) -> Inspection:
    """Return all that the headers of the file or folder at `path` say: tensors, metadata, architecture.

    The values of the tensors are not read, so a large file takes no longer than a small one. Raises what `identify`
    raises. Does not say whether a pickle in the file is harmless: that is `scan`.
    """
    path = _existing(Path(path))
    if os.path.isdir(path):
        format, identity = _first_folder(path)
        return format.inspect(path, identity)
    with Source(path) as source:
        try:
            format, identity = _first_file(source)
            return _with_part(format.inspect(source, identity))
        except (FileBroken, UnknownFormat):
            whole = PIECE.fullmatch(path.name)
            if whole is None:
                raise
            raise UnknownFormat(
                f"{path.name} is named like one piece of a file that was cut into several, and cannot be read alone; "
                f"first join them all, in their order, into {whole[1]}."
            ) from None


def _with_part(found: Inspection) -> Inspection:
    """Return what a file holds with a note where it is a part of a model alone; GGUF's parts are read together."""
    why = None if found.identity.format == "GGUF" else beside.part_of(found.path)
    if why is None:
        return found
    note = f"This is one of several files that hold a model together ({why}); its folder is the model."
    return replace(found, notes=(*found.notes, note))


def read(inspection: Inspection, tensor: Tensor) -> Iterator[bytes]:
    """Yield the bytes of one tensor of `inspection`, little-endian and contiguous, a piece at a time.

    Raises `FileBroken` if the file has changed in the meantime.
    """
    if tensor.offset is not None:
        return stored(tensor)
    format, identity = _format_of(inspection.path)
    return format.read(replace(inspection, identity=identity), replace(tensor, name=tensor.stored_name))


def portion(inspection: Inspection, tensor: Tensor, start: int, count: int) -> Iterator[bytes]:
    """Yield `count` bytes of one tensor, from its byte `start` on; raises what `read` raises."""
    if tensor.offset is not None:
        yield from stored(replace(tensor, offset=tensor.offset + start, nbytes=count))
        return
    at = 0
    for piece in read(inspection, tensor):
        yield piece[max(start - at, 0) : max(start + count - at, 0)]
        at += len(piece)


@remembered(files=1000)
def _format_of(path: Path) -> tuple[Format[Source] | Format[Path], Identity]:
    """Return the format of a file or folder, and its identity."""
    if os.path.isdir(path):
        return _first_folder(path)
    with Source(path) as source:
        return _first_file(source)


def _existing(path: Path) -> Path:
    """Return `path`, or the index of the TensorFlow checkpoint that is called so: its files' names begin with it."""
    index = Path(f"{path}.index")
    return index if not os.path.exists(path) and os.path.isfile(index) else path


def _first_file(source: Source) -> tuple[Format[Source], Identity]:
    for format in FILES:
        identity = format.identify(source)
        if identity is not None:
            return format, identity
    refuse_pointer(source.path)
    raise _unknown(source.path, "file", "if it is one part of a model, name its folder")


def _first_folder(path: Path) -> tuple[Format[Path], Identity]:
    for format in FOLDERS:
        identity = format.identify(path)
        if identity is not None:
            return format, identity
    distributed.refuse_folder(path)
    raise _unknown(path, "folder", "if a model's file lies in it, name that")


def _unknown(path: Path, what: str, remedy: str) -> UnknownFormat:
    return UnknownFormat(
        f"llmnotes does not recognize the {what} {path} (`llmnotes inspect --help` lists the formats it "
        f"knows); {remedy}."
    )
