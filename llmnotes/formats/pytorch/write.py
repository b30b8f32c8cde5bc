"""Writing a state dict with `torch.save`. Its tensors are mapped from files, so the model need not fit into memory."""

import mmap
import tempfile
import warnings
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from llmnotes.errors import FileBroken, NotConvertible
from llmnotes.formats.files import CHUNK, Source
from llmnotes.formats.pytorch.checkpoint import TORCH_DTYPES
from llmnotes.formats.results import DTYPES, PlannedTensor
from llmnotes.formats.stretch import Stretch

if TYPE_CHECKING:
    import torch

ALIGNMENT = 64  # of the tensors in the temporary file, as in torch's own files
TORCH_NAMES = {dtype: name for name, dtype in reversed(TORCH_DTYPES.items())}  # the first name of each


def write(
    file: BinaryIO,
    parts: list[PlannedTensor],
    ties: dict[str, str] | None = None,
    advance: Callable[[int], None] = lambda count: None,
) -> None:
    """Write a state dict with the tensors of `parts`, in their order, to `file`, as `torch.save` does it.

    `ties` is {further name: name of the part whose storage it shares}; the further names stand last. `advance` hears
    how many bytes were written. At most one tensor is in memory at a time: bytes that lie in a file as they are (a
    part yields `Stretch`es) are mapped from it, and all others go through a temporary file.

    Raises `NotConvertible` for a type that this version of torch does not have, `ValueError` for a duplicate
    name or data that does not fill its shape. Does not write optimizer states or other values. A file that another
    program cuts short after it was mapped ends this process, as with `torch.load(mmap=True)`.
    """
    import torch

    ties = ties or {}
    if len({part.name for part in parts} | ties.keys()) != len(parts) + len(ties):
        raise ValueError("a name stands twice")
    with tempfile.TemporaryFile() as copies:
        # Find out where the bytes of each tensor lie; those that lie nowhere as they are get a place in `copies`.
        places = _places(parts, copies)
        # Map each file once, which reads nothing, and make each tensor a view of a mapping.
        mappings: dict[Path | None, mmap.mmap] = {}
        state = {}
        for part, (path, offset) in zip(parts, places, strict=True):
            if part.nbytes and path not in mappings:
                mappings[path] = _mapped(path, copies)
            state[part.name] = _tensor(part, mappings.get(path), offset)
        state |= {name: state[first].detach() for name, first in ties.items()}
        # Let torch write them: it reads a tensor from its mapping when its turn comes.
        output = _Output(file, list(mappings.values()), advance)
        try:
            torch.save(state, cast(BinaryIO, output))  # of a file it needs `write` and `flush` alone
        except (OSError, RuntimeError) as error:  # torch speaks of its writer's state; the disk's answer says more
            raise output.failure or error from None


class _Output:
    """The file that torch writes to: it counts, remembers why writing failed, and keeps the memory small."""

    def __init__(self, file: BinaryIO, mappings: list[mmap.mmap], advance: Callable[[int], None]):
        self.file, self.mappings, self.advance = file, mappings, advance
        self.failure: Exception | None = None
        self.resident = 0  # bytes written since the mappings were last let go

    def write(self, data: memoryview) -> int:
        try:
            for start in range(0, len(data), CHUNK):
                self.advance(self.file.write(data[start : start + CHUNK]))
        except Exception as error:
            self.failure = self.failure or error
            raise
        self.resident += len(data)
        if self.resident >= CHUNK and hasattr(mmap, "MADV_DONTNEED"):
            for mapping in self.mappings:  # what was written need not stay in memory; it can be read again
                mapping.madvise(mmap.MADV_DONTNEED)
            self.resident = 0
        return len(data)

    def flush(self) -> None:
        self.file.flush()


def _places(parts: list[PlannedTensor], copies: BinaryIO) -> list[tuple[Path | None, int]]:
    """Return (the file that has the bytes, the first of them) for each part; None is the file `copies`."""
    places: list[tuple[Path | None, int]] = []
    taken = set()
    for part in parts:
        pieces = iter(part.data())
        first = next(pieces, b"")
        if isinstance(first, Stretch):
            place = (first.source.path, first.offset)
            if place not in taken:  # torch refuses two tensors of the same bytes and different types
                taken.add(place)
                places.append(place)
                continue
        copies.write(bytes(-copies.tell() % ALIGNMENT))
        start = copies.tell()
        places.append((None, start))
        for piece in chain([first], pieces):
            piece.into(copies) if isinstance(piece, Stretch) else copies.write(piece)
        if copies.tell() - start != part.nbytes:
            raise ValueError(f"{part.name} has {copies.tell() - start:,} bytes, and its shape needs {part.nbytes:,}")
    copies.flush()
    return places


def _mapped(path: Path | None, copies: BinaryIO) -> mmap.mmap:
    """Return the content of the file at `path`, or of `copies`, as memory that the system reads when it is used."""
    if path is None:
        return mmap.mmap(copies.fileno(), 0, access=mmap.ACCESS_READ)
    with Source(path) as source:
        source.read(0, 1)  # raises the sentence if nothing is left of it
        return mmap.mmap(source.file.fileno(), 0, access=mmap.ACCESS_READ)


def _tensor(part: PlannedTensor, mapping: mmap.mmap | None, offset: int) -> "torch.Tensor":
    import torch

    dtype = getattr(torch, TORCH_NAMES.get(part.dtype, ""), None)
    if dtype is None:
        raise NotConvertible(
            f"{part.name} has the type {part.dtype}, which torch {torch.__version__} does not have; "
            "leave that tensor out, or bring a newer torch."
        )
    if mapping is None or not part.nbytes:
        return torch.empty(part.shape, dtype=dtype)  # no elements
    if offset + part.nbytes > len(mapping):
        raise FileBroken(f"The file with {part.name} became shorter while it was being read; copy it again.")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a mapping cannot be written to, and torch says so; nobody writes to it
        count = part.nbytes // DTYPES[part.dtype][1]
        return torch.frombuffer(mapping, dtype=dtype, count=count, offset=offset).reshape(part.shape)
