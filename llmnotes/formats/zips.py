"""Zip archives, read with suspicion: the directory at the end is compared with the header before each entry.

Layout: PKWARE's APPNOTE 6.3, sections 4.3.7 (local header), 4.3.12 (central directory), 4.3.14 to 4.3.16 (its end).
"""

import struct
import tempfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from llmnotes.formats.files import CHUNK, METADATA_LIMIT, Source, remembered

STORED, DEFLATED = 0, 8
ENTRIES_LIMIT = 200_000
ROOM = 1 << 30  # bytes of unpacked entries that are kept, and the last one
RATIO = 1033  # deflate cannot shrink more than this, section 2 of its specification (RFC 1951)


@dataclass(frozen=True, slots=True)
class Entry:
    """One file in the archive: its bytes lie at `offset`, `packed` of them, and make `size` bytes."""

    name: str
    offset: int
    packed: int
    size: int
    method: int
    crc: int


class Memory(Source):
    """Bytes that were unpacked from an archive, read like a file."""

    def __init__(self, path: Path, data: bytes):
        self.path, self.data, self.size = path, data, len(data)

    def read(self, offset: int, count: int) -> bytes:
        if offset < 0 or count < 0 or offset + count > self.size:
            raise self.broken("it is shorter than it says")
        return self.data[offset : offset + count]


class Part(Source):
    """A part of a file that is read like a file of its own."""

    def __init__(self, source: Source, start: int, size: int):
        self.path, self.source, self.start, self.size = source.path, source, start, size

    def read(self, offset: int, count: int) -> bytes:
        if offset < 0 or count < 0 or offset + count > self.size:
            raise self.broken("it is shorter than it says")
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


def _directory(source: Source) -> tuple[list[Entry], list[str]]:
    place = _central_directory(source)
    if isinstance(place, str):
        return [], [place]
    start, size, base = place
    problems = ["its zip archive begins behind other bytes"] if base else []
    table, at, found, names = source.read(start, size), 0, [], set()
    spans = []
    while at + 46 <= size and len(found) < ENTRIES_LIMIT:
        fields = struct.unpack_from("<4s6H3I5H2I", table, at)
        signature, flags, method, crc, packed, length = fields[0], fields[3], fields[4], *fields[7:10]
        name_length, extra_length, note_length, first = fields[10], fields[11], fields[12], fields[16]
        if signature != b"PK\1\2" or at + 46 + name_length + extra_length + note_length > size:
            break
        raw = table[at + 46 : at + 46 + name_length]
        extra = table[at + 46 + name_length : at + 46 + name_length + extra_length]
        at += 46 + name_length + extra_length + note_length
        name = raw.split(b"\0")[0].decode("utf-8", "replace")  # readers in C and in Python end a name at a zero byte
        length, packed, first = _wide(extra, length, packed, first)
        why = None
        if raw.count(b"\0") or name in names:
            why = f"the name {name[:80]!r} stands twice or holds a zero byte"
        names.add(name)
        offset = _data_offset(source, base + first, raw, method, start) if length is not None else None
        if isinstance(offset, int) and offset + packed <= start:
            spans.append((base + first, offset + packed, name))
            if flags & 1 or method not in (STORED, DEFLATED):
                why = f"the entry {name[:80]!r} is encrypted or packed in a way that no model uses"
            elif length > packed * RATIO + 64 or (method == STORED and packed != length):
                why = f"the entry {name[:80]!r} claims {length:,} bytes and has {packed:,}"
            else:
                found.append(Entry(name, offset, packed, length, method, crc))
        else:
            why = offset if isinstance(offset, str) else f"the entry {name[:80]!r} lies outside the file"
        if why and len(problems) < 100:
            problems.append(why)
    if at != size:
        problems.append("its zip directory is longer than its entries, or has too many of them")
    spans.sort()
    for (_, end, one), (begin, _, other) in zip(spans, spans[1:], strict=False):
        if begin < end:
            problems.append(f"the entries {one[:80]!r} and {other[:80]!r} overlap")
            break
    return found, problems


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


class Unpacked:
    """The compressed entries of an archive in a temporary file without a name: each is unpacked once, and not for each
    tensor in it."""

    def __init__(self, path: Path):
        self.file, self.starts, self.end = tempfile.TemporaryFile(), {}, 0

    def __del__(self):
        self.file.close()

    def reader(self, source: Source, entry: Entry) -> Callable[[int, int], bytes]:
        """Return a function that reads `entry` by position."""
        if entry.size > max(100 * entry.packed, CHUNK):
            raise source.broken(f"{entry.packed:,} compressed bytes claim to be {entry.size:,}")
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


def _central_directory(source: Source) -> tuple[int, int, int] | str:
    """Return where the directory lies, its size, and how many bytes stand before the archive; or what is wrong."""
    tail_start = max(source.size - 65_557, 0)
    tail = source.read(tail_start, source.size - tail_start)
    found = tail.rfind(b"PK\5\6")
    if found < 0 or found + 22 > len(tail):
        return "it begins as a zip archive and has no directory at its end"
    count, size, offset = struct.unpack_from("<HII", tail, found + 10)
    end = tail_start + found
    if end >= 20 and source.read(end - 20, 4) == b"PK\6\7":  # sizes of more than four bytes (zip64)
        (place,) = struct.unpack("<Q", source.read(end - 12, 8))
        for candidate in (place, end - 76):  # where it says, or right before when other bytes precede the archive
            if 0 <= candidate <= end - 76 and source.read(candidate, 4) == b"PK\6\6":
                wide = struct.unpack("<QQQ", source.read(candidate + 32, 24))
                narrow = (count, size, offset)
                limits = (0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF)
                if any(n not in (w, top) for n, w, top in zip(narrow, wide, limits, strict=True)):
                    return "its two zip directories contradict each other"
                count, size, offset = wide
                end = candidate
                break
    start = end - size
    if start < 0 or start < offset or size > METADATA_LIMIT:
        return f"its zip directory claims {size:,} bytes at {offset:,}"
    return start, size, start - offset


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


def _data_offset(source: Source, at: int, name: bytes, method: int, end: int) -> int | str:
    """Return where an entry's bytes begin, after a local header that must agree with the directory."""
    if at + 30 > end:
        return f"the entry {name[:80]!r} lies outside the file"
    header = source.read(at, 30)
    signature, flags, local_method, name_length, extra_length = struct.unpack("<4s2xHH16xHH", header)
    if signature != b"PK\3\4" or at + 30 + name_length + extra_length > end:
        return f"there is no entry where {name[:80]!r} should be"
    if flags & 1 or local_method != method or source.read(at + 30, name_length) != name:
        return f"the entry {name[:80]!r} has another name or method in its own header than in the directory"
    return at + 30 + name_length + extra_length
