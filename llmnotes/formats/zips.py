"""Zip archives, read with suspicion: the directory at the end is compared with the header before each entry.

Layout: PKWARE's APPNOTE 6.3, sections 4.3.7 (local header), 4.3.12 (central directory), 4.3.14 to 4.3.16 (its end).
"""

import itertools
import struct
import tempfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from llmnotes.errors import NotConvertible
from llmnotes.formats.files import METADATA_LIMIT, Source, remembered

STORED, DEFLATED = 0, 8
ENTRIES_LIMIT = 200_000
ROOM = 1 << 30  # bytes of unpacked entries that are kept, and the last one
ENCRYPTED = "is encrypted"
RATIO = 1033  # deflate cannot shrink more than this, section 2 of its specification (RFC 1951)


class Entry(NamedTuple):
    """One file in the archive: its own header is at `start`, its bytes at `offset`, `packed` of them, making `size`."""

    name: str
    start: int
    offset: int
    packed: int
    size: int
    method: int
    crc: int


class SourceInMemory(Source):
    """Bytes that were unpacked from an archive, read like a file."""

    def __init__(self, path: Path, data: bytes):
        self.path, self.data, self.size = path, data, len(data)

    def read(self, offset: int, count: int) -> bytes:
        self.inside(offset, count)
        return self.data[offset : offset + count]


class SourceSection(Source):
    """A section of a file, read like a file of its own."""

    def __init__(self, source: Source, start: int, size: int):
        self.path, self.source, self.start, self.size = source.path, source, start, size

    def read(self, offset: int, count: int) -> bytes:
        self.inside(offset, count)
        return self.source.read(self.start + offset, count)


def entries(source: Source) -> dict[str, Entry]:
    """Return all entries by name; raise `FileBroken` for anything in the archive that cannot be as it claims.

    Names twice, entries that overlap or lie outside, encrypted entries, methods other than stored and deflated, and a
    local header with another name are all refused: two readers could see two different archives in them.
    """
    found, problems = directory(source)
    if problems:
        raise source.broken(problems[0])
    return {entry.name: entry for entry in found}


def directory(source: Source) -> tuple[list[Entry], list[str]]:
    """Return the entries that can be read, and a sentence on each thing that is wrong with the others."""
    return source.once(_directory)


def follows_another(source: Source) -> bool:
    """Return whether the archive stands behind another one, whose last record ends where it begins."""
    place = _find_directory(source)
    return not isinstance(place, str) and place.before >= 22 and source.read(place.before - 22, 4) == b"PK\5\6"


def content(source: Source, entry: Entry, limit: int = METADATA_LIMIT, strict: bool = True) -> bytes:
    """Return the bytes of an entry; `FileBroken` for more than `limit` of them, or a wrong checksum if `strict`."""
    if max(entry.size, entry.packed) > limit:
        raise source.broken(f"its entry {entry.name[:80]!r} has {entry.size:,} bytes, more than any model needs there")
    data = b"".join(stream(source, entry, strict))
    if strict and zlib.crc32(data) != entry.crc:
        raise source.broken(f"its entry {entry.name[:80]!r} does not have the checksum that the archive states")
    return data


def stream(source: Source, entry: Entry, strict: bool = True) -> Iterator[bytes]:
    """Yield the bytes of an entry, a piece at a time; never more than the archive says there are."""
    if entry.method == STORED:
        yield from source.stream(entry.offset, entry.size)
        return
    left, unpack = entry.size, zlib.decompressobj(-15)
    try:
        for piece in source.stream(entry.offset, entry.packed, 1 << 16):
            while piece and left:
                data = unpack.decompress(piece, min(left, 1 << 22))
                left, piece = left - len(data), unpack.unconsumed_tail
                yield data
    except zlib.error:
        left = -1
    if left and strict:
        raise source.broken(f"its entry {entry.name[:80]!r} cannot be unpacked")


def beginning(source: Source, entry: Entry, count: int) -> bytes:
    """Return the first bytes of an entry, at least `count` if it has as many; nothing of it is checked."""
    parts, size = [], 0
    for piece in stream(source, entry, strict=False):
        parts.append(piece)
        size += len(piece)
        if size >= count:
            break
    return b"".join(parts)


class Unpacked:
    """The compressed entries of an archive in a temporary file without a name: each is unpacked once, and not for each
    tensor in it."""

    def __init__(self, path: Path):
        self.file, self.starts, self.end = tempfile.TemporaryFile(), {}, 0

    def __del__(self):
        self.file.close()

    def reader(self, source: Source, entry: Entry) -> Callable[[int, int], bytes]:
        """Return a function that reads `entry` by position; zeros shrink to a thousandth, but never a whole `ROOM`."""
        if entry.size > max(100 * entry.packed, ROOM):
            sizes = f"packs {entry.size:,} bytes into {entry.packed:,}"
            raise NotConvertible(f"{source.path.name} {sizes}; save it again without compression.")
        if entry not in self.starts:
            if self.end > ROOM:
                self.file.truncate(0)
                self.starts, self.end = {}, 0
            start = self.end
            self.file.seek(start)
            for piece in stream(source, entry):
                self.file.write(piece)
            self.starts[entry], self.end = start, start + entry.size

        def read(first: int, count: int) -> bytes:
            self.file.seek(self.starts[entry] + first)
            return self.file.read(count)

        return read


unpacked = remembered(files=1)(Unpacked)


class _Directory(NamedTuple):
    """Where the directory lies, and how many bytes stand before the archive, which counts its offsets without them."""

    start: int
    size: int
    before: int


class _Row(NamedTuple):
    """One entry as the directory states it; the sizes and the header's place are None where it does not say them."""

    raw: bytes
    flags: int
    method: int
    crc: int
    packed: int | None
    size: int | None
    header: int | None

    @property
    def name(self) -> str:
        """The name up to its first zero byte, where readers in C and in Python end it."""
        return self.raw.split(b"\0")[0].decode("utf-8", "replace")


def _directory(source: Source) -> tuple[list[Entry], list[str]]:
    place = _find_directory(source)
    if isinstance(place, str):
        return [], [place]
    rows, whole = _rows(source.read(place.start, place.size))
    problems = ["its zip archive begins behind other bytes"] if place.before else []
    names, located, readable = set(), [], []
    for row in rows:
        # Go to the entry's own header, which must say the same; then ask whether its bytes can be what it claims.
        entry = _locate(source, row, place)
        if isinstance(entry, str):
            problem = entry
        else:
            located.append(entry)
            problem = _problem(entry, row.flags)
            if problem is None:
                readable.append(entry)
        if problem is None and (row.name in names or b"\0" in row.raw):
            problem = f"the name {row.name[:80]!r} stands twice or holds a zero byte"
        names.add(row.name)
        if problem and len(problems) < 100:
            problems.append(problem)
    if not whole:
        problems.append("its zip directory is longer than its entries, or has too many of them")
    return readable, problems + _overlap(located)


def _find_directory(source: Source) -> _Directory | str:
    """Find the directory by the record at the archive's end; return what is wrong if there is none."""
    tail_start = max(source.size - 65_557, 0)  # a comment of 65,535 bytes may follow the record's 22
    tail = source.read(tail_start, source.size - tail_start)
    found = tail.rfind(b"PK\5\6")
    if found < 0 or found + 22 > len(tail):
        return "it begins as a zip archive and has no directory at its end"
    count, size, offset = struct.unpack_from("<HII", tail, found + 10)
    end = tail_start + found
    wide = _find_wide_record(source, end)
    if isinstance(wide, str):
        return wide
    if wide is not None:
        end, numbers = wide
        narrow, limits = (count, size, offset), (0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF)
        if any(n not in (w, top) for n, w, top in zip(narrow, numbers, limits, strict=True)):
            return "its two zip directories contradict each other"
        count, size, offset = numbers
    start = end - size
    if start < 0 or start < offset or size > METADATA_LIMIT:
        return f"its zip directory claims {size:,} bytes at {offset:,}"
    return _Directory(start, size, start - offset)


def _find_wide_record(source: Source, end: int) -> tuple[int, tuple[int, int, int]] | str | None:
    """Return where the zip64 record before `end` begins, and its (count, size, offset); None where there is none.

    It is where the locator says, and right before the locator: some readers look here, and some there.
    """
    if end < 20 or source.read(end - 20, 4) != b"PK\6\7":
        return None
    (place,) = struct.unpack("<Q", source.read(end - 12, 8))
    found = {
        candidate: struct.unpack("<QQQ", source.read(candidate + 32, 24))
        for candidate in (place, end - 76)
        if 0 <= candidate <= end - 76 and source.read(candidate, 4) == b"PK\6\6"
    }
    if len(found) > 1:
        return "it has two zip64 records, and readers differ in which they take"
    return next(iter(found.items()), None)


def _rows(table: bytes) -> tuple[list[_Row], bool]:
    """Return the entries that the directory states, and whether they fill it."""
    rows, at = [], 0
    while at + 46 <= len(table) and len(rows) < ENTRIES_LIMIT:
        signature, flags, method, crc, packed, size, name_length, extra_length, note_length, header = (
            struct.unpack_from("<4s4xHH4xIIIHHH8xI", table, at)
        )
        end = at + 46 + name_length + extra_length + note_length
        if signature != b"PK\1\2" or end > len(table):
            break
        raw = table[at + 46 : at + 46 + name_length]
        extra = table[at + 46 + name_length : at + 46 + name_length + extra_length]
        size, packed, header = _wide(extra, size, packed, header)
        rows.append(_Row(raw, flags, method, crc, packed, size, header))
        at = end
    return rows, at == len(table)


def _wide(extra: bytes, *values: int) -> tuple:
    """Return the values, each of which is 0xFFFFFFFF where the zip64 field has the true one; None if it has not."""
    if 0xFFFFFFFF not in values:
        return values
    at, numbers = 0, []
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<HH", extra, at)
        if kind == 1:
            field = extra[at + 4 : at + 4 + length]
            numbers = list(struct.unpack_from(f"<{len(field) // 8}Q", field))
            break
        at += 4 + length
    wide = [numbers.pop(0) if value == 0xFFFFFFFF and numbers else value for value in values]
    return (None, None, None) if 0xFFFFFFFF in wide else tuple(wide)


def _locate(source: Source, row: _Row, place: _Directory) -> Entry | str:
    """Return the entry of a row, once its own header agrees with it; otherwise what is wrong."""
    outside = f"the entry {row.name[:80]!r} lies outside the file"
    if row.header is None or row.packed is None or row.size is None:
        return outside
    start = place.before + row.header
    if start + 30 > place.start:
        return outside
    signature, flags, method, name_length, extra_length = struct.unpack("<4s2xHH16xHH", source.read(start, 30))
    offset = start + 30 + name_length + extra_length
    if signature != b"PK\3\4" or offset > place.start:
        return f"there is no entry where {row.name[:80]!r} should be"
    if (flags & 1) != (row.flags & 1) or method != row.method or source.read(start + 30, name_length) != row.raw:
        return f"the entry {row.name[:80]!r} has another name or method in its own header than in the directory"
    if offset + row.packed > place.start:
        return outside
    return Entry(row.name, start, offset, row.packed, row.size, row.method, row.crc)


def _problem(entry: Entry, flags: int) -> str | None:
    """Return why the bytes of an entry cannot be read, or None if they can."""
    if flags & 1:
        return f"the entry {entry.name[:80]!r} {ENCRYPTED}"
    if entry.method not in (STORED, DEFLATED):
        return f"the entry {entry.name[:80]!r} is packed in a way that no model uses"
    if entry.size > entry.packed * RATIO + 64 or (entry.method == STORED and entry.packed != entry.size):
        return f"the entry {entry.name[:80]!r} claims {entry.size:,} bytes and has {entry.packed:,}"
    return None


def _overlap(located: list[Entry]) -> list[str]:
    """Return a sentence on the first two entries that overlap, if any do."""
    in_order = sorted(located, key=lambda entry: entry.start)
    for one, other in itertools.pairwise(in_order):
        if other.start < one.offset + one.packed:
            return [f"the entries {one.name[:80]!r} and {other.name[:80]!r} overlap"]
    return []
