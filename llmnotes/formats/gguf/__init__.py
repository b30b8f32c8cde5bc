"""GGUF, versions 1 to 3 in both byte orders: typed keys, a table of tensors, and their aligned bytes.

We read it ourselves: gguf-py's GGUFReader makes a Python object of every token in a vocabulary, which takes seconds,
and believes the lengths in a header. This reader checks each length against the file's size first.

Specification: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

import struct
import sys
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from llmnotes.errors import FileBroken
from llmnotes.formats.files import METADATA_LIMIT, Source, behind
from llmnotes.formats.format import Format
from llmnotes.formats.gguf import kinds, splits
from llmnotes.formats.gguf.types import KINDS, REMOVED, TYPES, Texts, Typed, swapped
from llmnotes.formats.results import Identity, Inspection, Tensor, divides, size_of

COUNT_LIMIT = 100_000  # keys, tensors, or arrays within arrays
TEXT_LIMIT = 8_000_000  # bytes of all single texts together: names, licences, chat templates
DEPTH_LIMIT = 4  # arrays within arrays
PADDING_LIMIT = 1 << 20  # bytes behind the last tensor that are looked at
GAPS = "There are gaps between its tensors, which llama.cpp does not accept."
LETTERS = {number: (kind, letter) for kind, (number, letter) in KINDS.items()}


def identify(source: Source) -> Identity | None:
    """Return the identity of a GGUF file, or None for any other; `FileBroken` for an undefined version."""
    head = source.head(8)
    if head[:4] != b"GGUF":
        return None
    for name, order in (("", "<"), (" big-endian", ">")):
        version = struct.unpack(order + "I", head[4:])[0] if len(head) == 8 else 0
        if 1 <= version <= 3:
            return Identity("GGUF", f"{version}{name}", f"the bytes “GGUF”, then the{name} number {version}")
    raise source.broken(f"it begins as GGUF does, and its version is not 1, 2 or 3 but {head[4:].hex() or 'missing'}")


def inspect(source: Source, identity: Identity) -> Inspection:
    """Return what the header of a GGUF file says; arrays in `metadata` are `Texts` or `array`, which `list` unpacks.

    For one part of a model that was split, it is what the headers of all parts say; its `path` is the first of them.

    Raises `FileBroken` for duplicate keys or tensors, an alignment that is not a power of two, tensors that
    overlap, reach beyond the end or are not aligned, types that are unknown or were removed, rows that do not divide
    into the blocks of their type, and another GGUF behind this one; `FileUnreadable` for a part that is missing.
    """
    found = _one(source, identity)
    files = splits.files_of(source.path, found.metadata)
    if len(files) > 1:
        found = splits.joined([_part(path) for path in files])
    kind = kinds.other_than_a_model(found)
    return found if kind is None else replace(found, notes=(f"It is {kind}.", *found.notes))


def _part(path: Path) -> Inspection:
    with Source(path) as source:
        identity = identify(source)
        if identity is None:
            raise source.broken("it does not begin with “GGUF”, as the other parts of its model do")
        return _one(source, identity)


def _one(source: Source, identity: Identity) -> Inspection:
    """Return what the header of this file alone says."""
    cursor = _Cursor(source)
    tensors, count = cursor.counts()
    keys = _entries(cursor, count)
    notes = []
    if cursor.order == ">":
        notes.append("Its numbers are big-endian: it was made for a machine such as IBM Z.")
    tensors = _tensors(cursor, tensors, _alignment(source, keys), notes)
    metadata = {key: _plain(entry.value) for key, entry in keys.items()}
    architecture = metadata.get("general.architecture")
    architecture = architecture if isinstance(architecture, str) else None
    return Inspection(source.path, identity, tensors, metadata, architecture, tuple(notes))


def read(inspection: Inspection, tensor: Tensor) -> Iterator[bytes]:
    """Yield the bytes of a tensor of a big-endian file, little-endian; `NotConvertible` where no order is agreed."""
    if not isinstance(tensor, Swapped) or tensor.path is None:
        raise FileBroken(f"{inspection.path.name} changed while it was read; run the command again.")
    with Source(tensor.path) as source:
        yield from swapped(tensor.dtype, source.stream(tensor.at, tensor.nbytes))


FORMAT = Format(identify, inspect, read)


def entries(path: str | Path) -> dict[str, Typed]:
    """Return the keys of a GGUF file, each with its kind, as `gguf.write` takes them. Raises `FileBroken`."""
    with Source(path) as source:
        if identify(source) is None:
            raise source.broken("it does not begin with “GGUF”")
        cursor = _Cursor(source)
        return _entries(cursor, cursor.counts()[1])


@dataclass(frozen=True, slots=True)
class Swapped(Tensor):
    """A tensor whose numbers are big-endian in the file, from byte `at`."""

    at: int = 0


class _Cursor:
    """The header, read from front to back as far as it is needed, and never further than a header may go."""

    def __init__(self, source: Source):
        self.source, self.buffer, self.at = source, bytearray(source.head(1 << 18)), 4
        self.order = "<" if self.buffer[5:8] == b"\0\0\0" else ">"
        self.length = struct.Struct(self.order + "Q")  # what a length is written as
        self.texts, self.arrays = 0, 0
        self.version = self.number("I")
        if self.version == 1:
            self.length = struct.Struct(self.order + "I")

    def counts(self) -> tuple[int, int]:
        """Return how many tensors and how many keys there are."""
        tensors, keys = self.size(), self.size()
        if max(tensors, keys) > COUNT_LIMIT:
            raise self.source.broken(f"it claims {tensors:,} tensors and {keys:,} keys, more than any model has")
        return tensors, keys

    def need(self, count: int) -> int:
        """Return the place of the next `count` bytes, read if need be, and go past them."""
        start, self.at = self.at, self.at + count
        have = len(self.buffer)
        if self.at > have:
            if self.at > self.source.size:
                raise self.source.broken(f"its header claims {count:,} bytes at {start:,}, beyond the end")
            if self.at > METADATA_LIMIT:
                raise self.source.broken(f"its header has more than {METADATA_LIMIT:,} bytes")
            self.buffer += self.source.read(have, min(max(have, self.at - have), self.source.size - have))
        return start

    def number(self, letter: str):
        return struct.unpack_from(self.order + letter, self.buffer, self.need(struct.calcsize("=" + letter)))[0]

    def size(self) -> int:
        return self.length.unpack_from(self.buffer, self.need(self.length.size))[0]

    def text(self) -> str | bytes:
        """Return a text, or its bytes if they are not UTF-8."""
        count = self.size()
        self.texts += count
        if self.texts > TEXT_LIMIT:
            raise self.source.broken("its single texts are longer than any model's")
        start = self.need(count)
        found = bytes(self.buffer[start : start + count])
        try:
            return found.decode()
        except UnicodeDecodeError:
            return found

    def name(self) -> str:
        found = self.text()
        if not isinstance(found, str):
            raise self.source.broken(f"the name {found[:80]!r} in its header is no UTF-8")
        return found

    def entry(self) -> Typed:
        """Return the next value with its kind."""
        return self.value(self.number("I"), 0)

    def value(self, kind: int, depth: int) -> Typed:
        if kind not in LETTERS:
            raise self.source.broken(f"a value in its header is of the unknown kind {kind}")
        name, letter = LETTERS[kind]
        if name == "STRING":
            return Typed(name, self.text())
        if name == "ARRAY":
            return self.items(depth + 1)
        found = self.number(letter if name != "BOOL" else "B")
        if name == "BOOL":
            if found > 1:
                raise self.source.broken(f"a value in its header is neither true nor false but {found}")
            found = bool(found)
        return Typed(name, found)

    def items(self, depth: int) -> Typed:
        kind, count = self.number("I"), self.size()
        name, letter = LETTERS.get(kind, ("", ""))
        self.arrays += depth > 1
        if depth > DEPTH_LIMIT or self.arrays > COUNT_LIMIT or not name:
            raise self.source.broken("an array in its header is of an unknown kind, or too deep in others")
        smallest = struct.calcsize("=" + letter) if letter else self.length.size
        if count * smallest > self.source.size - self.at:
            raise self.source.broken(f"an array in its header claims {count:,} values, more than the file has room for")
        if name == "STRING":
            return Typed("[STRING]", self.strings(count))
        if name == "ARRAY":
            inner = [self.items(depth + 1) for _ in range(count)]
            if len({typed.kind for typed in inner}) > 1:
                raise self.source.broken("an array in its header mixes kinds")
            return Typed(f"[{inner[0].kind if inner else '[U8]'}]", [typed.value for typed in inner])
        start = self.need(count * smallest)
        found = array(letter if name != "BOOL" else "B")
        found.frombytes(self.buffer[start : self.at])
        if smallest > 1 and (self.order == "<") != (sys.byteorder == "little"):
            found.byteswap()
        return Typed(f"[{name}]", found)

    def strings(self, count: int) -> Texts:
        """Go through `count` texts, noting where each ends."""
        start, width, read = self.at, self.length.size, self.length.unpack_from
        ends, at = array("I"), self.at
        for _ in range(count):
            if at + width > len(self.buffer):
                self.at = at
                self.need(width)
            at += width + read(self.buffer, at)[0]
            if at > len(self.buffer):
                self.at = len(self.buffer)
                self.need(at - self.at)
            ends.append(at - start)
        self.at = at
        return Texts(bytes(self.buffer[start:at]), ends, width)


def _entries(cursor: _Cursor, count: int) -> dict[str, Typed]:
    found = {}
    for _ in range(count):
        key = cursor.name()
        if key in found:
            raise cursor.source.broken(f"its header has the key {key[:80]!r} twice")
        found[key] = cursor.entry()
    return found


def _alignment(source: Source, entries: dict[str, Typed]) -> int:
    kind, value = entries.get("general.alignment", Typed("U32", 32))
    if kind != "U32" or value == 0 or value & (value - 1):
        raise source.broken(f"its alignment is {str(value)[:80]}, which is no power of two as a U32")
    return value


def _tensors(cursor: _Cursor, count: int, alignment: int, notes: list[str]) -> tuple[Tensor, ...]:
    """Return the tensors of the table, after checking that their bytes lie inside the file."""
    source, found = cursor.source, {}
    for _ in range(count):
        name = cursor.name()
        sides = cursor.number("I")
        if sides > 4:
            raise source.broken(f"{name[:80]!r} has {sides:,} dimensions, and GGUF at most 4")
        shape = source.shape([cursor.size() for _ in range(sides)][::-1], name)
        number = cursor.number("I")
        if number in REMOVED:
            raise FileBroken(
                f"{source.path.name} holds {name[:80]!r} in {REMOVED[number]}, a type that GGML has removed; "
                "take a copy of the model in another type, such as Q4_0 or Q8_0."
            )
        dtype = TYPES.get(number)
        if dtype is None or name in found:
            raise source.broken(f"{name[:80]!r} {f'is of the unknown type {number}' if not dtype else 'stands twice'}")
        if not divides(dtype, shape):
            raise source.broken(f"the rows of {name[:80]!r}, {list(shape)}, do not divide into the blocks of {dtype}")
        found[name] = dtype, shape, size_of(dtype, shape), cursor.number("Q")
    start = -(-cursor.at // alignment) * alignment
    at = 0
    for name, (_, _, nbytes, offset) in sorted(found.items(), key=lambda item: item[1][2:][::-1]):
        if offset % alignment or offset < at or start + offset + nbytes > source.size:
            raise source.broken(f"{name[:80]!r} is not aligned, overlaps another tensor or reaches beyond the end")
        if offset >= at + alignment and not notes[-1:] == [GAPS]:
            notes.append(GAPS)
        at = offset + nbytes
    notes += _behind(source, start + at if found else cursor.at, alignment)
    if cursor.order == "<":
        return tuple(
            Tensor(name, dtype, shape, nbytes, source.path, start + offset)
            for name, (dtype, shape, nbytes, offset) in found.items()
        )
    return tuple(
        Swapped(name, dtype, shape, nbytes, source.path, at=start + offset)
        for name, (dtype, shape, nbytes, offset) in found.items()
    )


def _behind(source: Source, end: int, alignment: int) -> list[str]:
    """Return a note on what follows the last tensor and its padding; `FileBroken` where that is a GGUF again."""
    alignment = min(alignment, PADDING_LIMIT)
    rest = source.read(end, min(source.size - end, alignment + 4))
    if rest.lstrip(b"\0")[:4] == b"GGUF":
        raise FileBroken(
            f"{source.path.name} is several GGUF files in a row, and only the first would be read; take each of them "
            "as a file of its own (llama-gguf-split --merge makes one file of a model's parts)."
        )
    return behind(source, end, alignment)


def _plain(value):
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
