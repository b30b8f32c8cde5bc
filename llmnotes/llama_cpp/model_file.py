"""What a GGUF says of itself, and the GGUF of a model that is none yet."""

import hashlib
import os
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from llmnotes import formats
from llmnotes.errors import CannotWrite, NotConvertible, UnknownFormat
from llmnotes.models import path_of


@dataclass(frozen=True)
class ModelFile:
    """What the header of a GGUF says: `context` and `width` in tokens and numbers, None where it is silent.

    `types` counts the tensors of each type; `template` is the text that turns a chat into one prompt.
    """

    path: Path
    name: str
    architecture: str | None
    layers: int | None
    context: int | None
    width: int | None
    vocabulary: int | None
    template: str | None
    parameters: int
    nbytes: int
    types: dict[str, int]


def about(path: str | Path) -> ModelFile:
    """Return what the header of the GGUF at `path` says; weights are not read.

    Raises `UnknownFormat` for another kind of file, and what `formats.inspect` raises for one that is cut short or
    damaged. Does not know whether llama.cpp can run it: that is `llmnotes.llama_cpp.trial.try_file`.
    """
    path = Path(path)
    found = formats.inspect(path)
    if found.identity.format != "GGUF":
        raise UnknownFormat(
            f"{path.name} is {found.identity.format}, and llama.cpp runs GGUF alone; make one from the model's folder: "
            "llmnotes convert FOLDER model.gguf"
        )

    def said(key: str, kind: type):
        value = found.metadata.get(key)
        return value if isinstance(value, kind) else None

    tokens = found.metadata.get("tokenizer.ggml.tokens")
    return ModelFile(
        path,
        said("general.name", str) or path.stem,
        found.architecture,
        said(f"{found.architecture}.block_count", int),
        said(f"{found.architecture}.context_length", int),
        said(f"{found.architecture}.embedding_length", int),
        len(tokens) if tokens is not None and hasattr(tokens, "__len__") else None,
        said("tokenizer.chat_template", str),
        found.parameters,
        path.stat().st_size,
        dict(Counter(tensor.dtype for tensor in found.tensors)),
    )


def gguf_of(name: str | Path, type: str | None = None) -> Path:
    """Return the GGUF file of a model: itself, or one that is made of its folder and kept in ~/.llmnotes/gguf.

    `name` is what `open_model` takes, `type` that of the weights of a GGUF that is made here. A folder that has changed
    is converted anew, and what it was before is removed. `LLMNOTES_HOME` names another place than ~/.llmnotes.

    Raises what `path_of` and `convert` raise, and `NotConvertible` if a `type` is asked of a GGUF that has its own.

    >>> gguf_of("pebble").suffix
    '.gguf'
    """
    path = path_of(str(name))
    if not path.is_dir():
        if type:
            raise NotConvertible(f"{path.name} is a file and has its types; leave {type} out, or convert it first.")
        return path
    place = Path(os.environ.get("LLMNOTES_HOME", Path.home() / ".llmnotes")) / "gguf"
    stem = f"{path.name}-{type or 'plain'}-{_digest(str(path.resolve()))}"
    try:
        state = sorted((file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in path.iterdir())
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CannotWrite(
            f"{place} cannot hold the GGUF of {path.name} ({error.strerror}); set LLMNOTES_HOME to a folder that "
            "can be written to, or convert it yourself with llmnotes convert."
        ) from None
    target = place / f"{stem}-{_digest(repr(state))}.gguf"
    if target.exists():
        return target
    try:
        formats.convert(path, target, type=type)
    except CannotWrite:
        if not target.exists():  # another process was quicker
            raise
    for old in place.glob(f"{stem}-*.gguf"):
        if old != target:
            with suppress(OSError):
                old.unlink()
    return target


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]
