"""Tar archives, and what PyTorch 0.1 has put into them, opened for the scanner as `tarfile` and `torch.load` do."""

import tarfile
from typing import Any

from llmnotes.formats.files import Source
from llmnotes.formats.pickles import PickleStream, trace
from llmnotes.formats.pytorch.checkpoint import storage_dtype
from llmnotes.formats.results import DTYPES
from llmnotes.formats.scanning.pickled import judge_pickle
from llmnotes.formats.scanning.state import Search
from llmnotes.formats.zips import SourceSection

BY_PYTORCH = {"storages", "tensors", "pickle"}  # the members that torch.load opens


def is_tar(head: bytes) -> bool:
    """Return whether 512 bytes carry the checksum of a tar header, counted with or without signs."""
    if len(head) < 512 or not any(head):
        return False
    try:
        return tarfile.nti(head[148:156]) in tarfile.calc_chksums(head)  # pyright: ignore[reportAttributeAccessIssue]
    except tarfile.HeaderError:
        return False


class _AsFile:
    """A source as the file that `tarfile` reads."""

    def __init__(self, source: Source):
        self.source, self.at = source, 0

    def read(self, count: int = -1) -> bytes:
        left = self.source.size - self.at
        if left <= 0:
            return b""
        data = self.source.read(self.at, left if count < 0 else min(count, left, 1 << 26))
        self.at += len(data)
        return data

    def seek(self, at: int, whence: int = 0) -> int:
        self.at = at + (0, self.at, self.source.size)[whence]
        return self.at

    def tell(self) -> int:
        return self.at


def look_into_tar(search: Search, source: Source, where: str, depth: int) -> None:
    """Look into every member of a tar archive that Python's tarfile takes for a file, which PyTorch uses."""
    last, name, found = 0, source.head(100).split(b"\0")[0].decode("utf-8", "replace"), {}
    try:
        with tarfile.open(fileobj=_AsFile(source), mode="r:", errorlevel=2) as archive:  # pyright: ignore
            for member in archive:
                name = member.name
                search.members -= 1
                if search.members < 0 or member.offset_data + member.size > source.size or member.issparse():
                    raise tarfile.ReadError
                place = f"{where}:{name[:80]}"
                if member.isreg() or member.type not in tarfile.SUPPORTED_TYPES:  # an unknown type is a file, too
                    found[name] = section = SourceSection(source, member.offset_data, member.size)
                    search.look_inside(section, place, depth)
                elif name in BY_PYTORCH and not member.isdir():
                    search.add(place, "suspicious", "is a link that torch.load follows, and no file")
                last = archive.offset  # pyright: ignore[reportAttributeAccessIssue]
        if last < source.size and any(
            source.read(last, min(source.size - last, 1 << 20))
        ):  # it ends where the next header is damaged
            raise tarfile.ReadError
    except (tarfile.TarError, OSError, ValueError, OverflowError):
        search.add(where, "suspicious", f"the tar archive cannot be read beyond {name[:80]!r}")
    if found.keys() >= BY_PYTORCH:
        for name, follow in (("storages", _follow_storages), ("tensors", _follow_tensors)):
            try:
                follow(search, found[name], f"{where}:{name}")
            except (TypeError, ValueError, KeyError):
                search.add(f"{where}:{name}", "suspicious", "holds pickles that cannot be told from the numbers there")


def _follow_storages(search: Search, source: Source, where: str) -> None:
    """Judge the pickles before and behind the numbers of each storage."""
    stream = PickleStream(source)
    for _ in range(_next(search, source, stream, where)):
        _, _, kind = _next(search, source, stream, where)
        count = int.from_bytes(stream.read(8), "little")
        stream.at += count * DTYPES[storage_dtype(kind) or ""][1]
    _next(search, source, stream, where)


def _follow_tensors(search: Search, source: Source, where: str) -> None:
    """Judge the pickles before the shape, the strides and the first element of each tensor."""
    stream = PickleStream(source)
    for _ in range(_next(search, source, stream, where)):
        _next(search, source, stream, where)
        sides = int.from_bytes(stream.read(4), "little", signed=True)
        if not 0 <= sides <= 64:
            raise ValueError
        stream.at += 4 + 16 * sides + 8


def _next(search: Search, source: Source, stream: PickleStream, where: str) -> Any:
    """Judge the next pickle and return its value; ValueError where there is none."""
    at = stream.at
    pickle = trace(stream, max(search.steps, 1))
    search.steps -= pickle.steps
    if not pickle.steps:
        raise ValueError
    judge_pickle(search, source, where if not at else f"{where} (byte {at:,})", at, pickle)
    if pickle.broken:
        raise ValueError
    return pickle.value
