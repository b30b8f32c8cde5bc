"""The `Format` class: how to recognize a model format, read its headers, and read a tensor's values."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from llmnotes.formats.files import Source, stored
from llmnotes.formats.results import Identity, Inspection, Tensor

Opened = TypeVar("Opened", Source, Path)  # a format of files takes an open file, a format of folders takes a path


def read_as_stored(inspection: Inspection, tensor: Tensor) -> Iterator[bytes]:
    """Yield the bytes of a tensor that lies in its file as it is: the `read` of a format where all tensors do."""
    return stored(tensor)


@dataclass(frozen=True)
class Format(Generic[Opened]):
    """One model format, as three functions.

    `identify(source)` returns the identity of a file or folder, or None for one of any other format.
    `inspect(source, identity)` reads the headers alone. `read(inspection, tensor)` yields the bytes of a tensor,
    little-endian and contiguous; it is called only for tensors without an `offset`, whose bytes must be decoded first.
    """

    identify: Callable[[Opened], Identity | None]
    inspect: Callable[[Opened, Identity], Inspection]
    read: Callable[[Inspection, Tensor], Iterator[bytes]] = read_as_stored
