"""Inspect, scan and convert a model that is given by its name or its path.

The work is done by `llmnotes.formats`, which knows files alone. This module finds the file or folder of a name first:
"pebble", "pebble-chat", "smollm2", or a model on the hub, which is downloaded.
"""

from dataclasses import replace
from pathlib import Path

from llmnotes import formats
from llmnotes.formats import conversion, huggingface, scanning
from llmnotes.formats.adapters import is_adapter
from llmnotes.formats.results import Conversion, Inspection
from llmnotes.formats.targets import target_of
from llmnotes.models.adapters import config_folder, whole
from llmnotes.models.paths import path_of

ADAPTER = ("lora", "safetensors", "pytorch")  # targets that hold an adapter alone


def inspect(model: str | Path) -> Inspection:
    """Return what the headers of a model's file or folder say: format, architecture, metadata, tensors.

    Raises `ModelNotFound`, `ModelGated`, `FileUnreadable`, `FileBroken`, `UnknownFormat`. Reads no values of tensors.

    >>> found = inspect("pebble")
    >>> found.identity.format, found.parameters
    ('Hugging Face folder', 3672320)
    """
    return formats.inspect(path_of(str(model)))


def scan(model: str | Path) -> scanning.Scan:
    """Return what the pickles in a model's file or folder would import and call; nothing of it is executed.

    Raises `ModelNotFound`, `ModelGated`, `FileUnreadable`, and `MissingPart` without picklescan. A file of an unknown
    format is scanned, too.

    >>> scan("pebble").verdict
    'no pickle'
    """
    return scanning.scan(path_of(str(model)))


def convert(
    source: str | Path,
    target: str | Path,
    to: str | None = None,
    type: str | None = None,
    importance: dict | None = None,
    split_max_size: int | None = None,
) -> Conversion:
    """Write the model `source` to `target` in another format, and return what became of it and what was lost.

    An adapter is merged into its base first (`adapters.merge`), except for `to` "lora", "safetensors" and "pytorch",
    which hold the adapter alone. `to`, `type`, `importance` and `split_max_size` are those of
    `llmnotes.formats.conversion.convert`, which also lists the errors; `ModelNotFound` and `ModelGated` come from a
    name that cannot be found. A target that exists is never replaced.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     done = convert("pebble", Path(folder) / "pebble.gguf", type="Q8_0")
    >>> done.to, done.tensors, done.fallbacks
    ('gguf', 38, {})
    """
    path, to = path_of(str(source)), target_of(Path(target), to)
    if not is_adapter(path) or to in ADAPTER:
        base = config_folder(path) if is_adapter(path) and to == "lora" else None
        return conversion.convert(path, target, to, type, importance, split_max_size, base)
    huggingface.refuse_two(path)
    with whole(path, str(source)) as folder:
        return replace(conversion.convert(folder, target, to, type, importance, split_max_size), source=path)
