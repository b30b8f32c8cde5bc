"""TensorFlow checkpoints, version 2: an index of names, and shards with nothing but the tensors' bytes."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from llmnotes.errors import FileBroken, FileUnreadable, NotConvertible
from llmnotes.formats.files import METADATA_LIMIT, Source, remembered
from llmnotes.formats.format import Format
from llmnotes.formats.legacy.tensorflow import table as tf_table
from llmnotes.formats.protobuf import Field, Message
from llmnotes.formats.results import Identity, Inspection, Tensor, counted, size_of

# TensorFlow's DataType -> our names
TYPES = {
    1: "F32", 2: "F64", 3: "I32", 4: "U8", 5: "I16", 6: "I8", 7: "STRING", 8: "C64", 9: "I64", 10: "BOOL", 14: "BF16",
    17: "U16", 18: "C128", 19: "F16", 22: "U32", 23: "U64", 24: "F8_E5M2", 25: "F8_E4M3",
}  # fmt: skip
OBJECT_GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"


@dataclass(frozen=True)
class Entry:
    """A BundleEntryProto: where a tensor lies, or into which slices it is cut."""

    kind: int
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int
    crc: int
    slices: tuple[tuple[tuple[int, int], ...], ...]  # for each slice, (start, length) of each side; length -1: all


class Shard(NamedTuple):
    """A file with the bytes of tensors; its length is None if it is not there."""

    path: Path
    length: int | None


class Index(NamedTuple):
    """What the index of a checkpoint says: tensors and slices by name, the shards, and what looks unusual."""

    entries: dict[str, Entry]
    shards: list[Shard]
    notes: list[str]


def identify(source: Source) -> Identity | None:
    """Return the identity of a checkpoint's index, or None for any other file."""
    if not tf_table.is_table(source):
        return None
    key, value = next(tf_table.entries(source), (None, b""))
    if key != b"":
        return None
    header = {part.number: part.value for part in Message(value).fields()}
    evidence = f"LevelDB's magic number at the end, and a header that says {counted(header.get(1) or 0, 'shard')}"
    return Identity("TensorFlow checkpoint", "2", evidence)


def inspect(source: Source, identity: Identity) -> Inspection:
    """Return what the index of a checkpoint says: every tensor with its shard, and the graph of objects, if any.

    The graph of objects tells which variable belongs to which object by which name, and no operation.
    Raises `FileBroken` for a wrong checksum, or bytes that are not in the shards. A missing shard is a note.
    """
    index = _index(source)
    about: dict = {"shards": len(index.shards)}
    tensors, seen = [], {}
    for name, entry in index.entries.items():
        if name.startswith("\0"):
            continue  # a slice; the entry of the whole names it
        if name == OBJECT_GRAPH:
            about["object_graph"] = _object_graph(index.shards[entry.shard], entry)
            continue
        dtype = TYPES[entry.kind]
        nbytes = entry.size if dtype == "STRING" else size_of(dtype, entry.shape)
        if entry.slices:
            about.setdefault("partitioned", {})[name] = len(entry.slices)
            tensors.append(Tensor(name, dtype, entry.shape, nbytes, source.path))
            continue
        path, length = index.shards[entry.shard]
        if entry.size != nbytes or (length is not None and entry.offset + entry.size > length):
            raise source.broken(f"the bytes of {name[:80]!r} are not where it says")
        place = (entry.shard, entry.offset, entry.size)
        first = seen.setdefault(place, name) if nbytes else name
        offset = None if length is None or dtype == "STRING" else entry.offset
        tensors.append(Tensor(name, dtype, entry.shape, nbytes, path, offset, None if first == name else first))
    return Inspection(source.path, identity, tuple(tensors), about, None, tuple(index.notes))


def read(inspection: Inspection, tensor: Tensor) -> Iterator[bytes]:
    """Yield the bytes of a variable that was cut into slices, and whose rows are whole, one slice after the other."""
    with Source(inspection.path) as source:
        index = read_index(inspection.path)
        entry = index.entries.get(tensor.name)
        if entry is None or TYPES[entry.kind] != tensor.dtype or entry.shape != tensor.shape:
            raise source.broken("it changed since its header was read")
        if tensor.dtype == "STRING":
            raise NotConvertible(f"{tensor.name} holds texts, which no other format here has; leave it out.")
        left = tensor.nbytes
        for cut in sorted(entry.slices) or [None]:
            part = entry if cut is None else index.entries.get(_slice_key(tensor.name, cut))
            if part is None or not (cut is None or _rows(cut, entry)):
                raise NotConvertible(f"{tensor.name} is cut across its rows; join it in TensorFlow first.")
            left -= part.size
            if left < 0:
                break
            with Source(index.shards[part.shard].path) as shard:
                yield from shard.stream(part.offset, part.size)
        if left:
            raise source.broken(f"the slices of {tensor.name[:80]!r} do not fill its shape")


def identify_folder(path: Path) -> Identity | None:
    """Return the identity of a folder with a checkpoint in it, or None for any other."""
    index = index_of(path)
    if index is None:
        return None
    with Source(index) as file:
        return identify(file)


def inspect_folder(path: Path, identity: Identity) -> Inspection:
    """Return what the index of the newest checkpoint in a folder says."""
    index = index_of(path)
    if index is None:
        raise FileUnreadable(f"{path} changed while it was read; run the command again.")
    with Source(index) as file:
        return inspect(file, identity)


FORMAT = Format(identify, inspect, read)
FOLDER = Format(identify_folder, inspect_folder, read)


@remembered(files=2)
def read_index(path: Path) -> Index:
    """Return the entries and the shards of the checkpoint whose index is at `path`."""
    with Source(path) as source:
        return _index(source)


def _rows(cut: tuple[tuple[int, int], ...], entry: Entry) -> bool:
    """Whether a slice holds whole rows, so that its bytes lie together in the whole."""
    return all(length in (-1, side) for (_, length), side in zip(cut[1:], entry.shape[1:], strict=False))


def index_of(path: Path) -> Path | None:
    """Return the index file of the newest checkpoint in a folder, or None; never one outside it."""
    state = path / "checkpoint"
    if state.is_file():
        try:
            with Source(state) as file:
                first = file.head(4096).decode("utf-8", "replace").split("\n")[0]
        except FileBroken:
            return None
        name = first.removeprefix("model_checkpoint_path:").strip().strip('"').replace("\\", "/").split("/")[-1]
        if first.startswith("model_checkpoint_path:") and "\0" not in name and os.path.isfile(path / f"{name}.index"):
            return path / f"{name}.index"
    found = sorted(path.glob("*.index"))
    return found[0] if len(found) == 1 and found[0].is_file() else None


def _index(source: Source) -> Index:
    """Return what the table of an index says; the empty key, which comes first, has the number of shards."""
    index = Index({}, [], [])
    # Read the header under the empty key, and then one entry for each tensor or slice.
    for key, value in tf_table.entries(source):
        if not key:
            index.shards.extend(_shards(source, Message(value)))
            continue
        entry = _entry(source, Message(value))
        if entry.kind not in TYPES or entry.shard >= len(index.shards):
            raise source.broken(f"the entry of {key[:80]!r} has an unknown type or no shard")
        index.entries[key.decode("utf-8", "surrogateescape")] = entry
    # Report missing shards in a note.
    missing = [shard.path.name for shard in index.shards if shard.length is None]
    if missing:
        sentence = f"{len(missing)} of its shards are not there, {missing[0]} first: put them beside the index."
        index.notes.append(sentence)
    # Tensors may share their bytes, but together they cannot have more than the shards do.
    used = [0] * len(index.shards)
    for number, _, size in {(entry.shard, entry.offset, entry.size) for entry in index.entries.values()}:
        used[number] += size
    if any(shard.length is not None and shard.length < size for shard, size in zip(index.shards, used, strict=True)):
        raise source.broken("its tensors overlap or reach beyond the end of their shards")
    return index


def _shards(source: Source, header: Message) -> list[Shard]:
    """Return the shards of a checkpoint, whose number is in a BundleHeaderProto."""
    said = {part.number: part.value for part in header.fields()}
    count = said.get(1) or 0
    if not 0 < count <= 10_000 or said.get(2):
        raise source.broken("its header says it is big-endian, or has no valid number of shards")
    prefix = source.path.with_name(source.path.name.removesuffix(".index"))
    paths = [prefix.with_name(f"{prefix.name}.data-{number:05}-of-{count:05}") for number in range(count)]
    return [Shard(path, path.stat().st_size if path.is_file() else None) for path in paths]


def _entry(source: Source, message: Message) -> Entry:
    entry = Entry(0, (), 0, 0, 0, 0, ())
    names = {1: "kind", 3: "shard", 4: "offset", 5: "size", 6: "crc"}
    for part in message.fields():
        if part.number == 2:
            entry = replace(entry, shape=shape_of(source, message, part))
        elif part.number == 7:
            extents = [extent for extent in message.inside(part) if extent.number == 1]
            sides = [{side.number: side.value or 0 for side in message.inside(extent)} for extent in extents]
            cut = tuple((side.get(1, 0), side.get(2, -1)) for side in sides)
            small = all(start < 1 << 62 and size < 1 << 62 for start, size in cut)
            if len(entry.slices) >= 1000 or len(cut) > 64 or not small:
                raise source.broken("it has slices that cannot be")
            entry = replace(entry, slices=(*entry.slices, cut))
        elif part.number in names and part.value is not None:
            entry = replace(entry, **{names[part.number]: part.value})
    return entry


def shape_of(source: Source, message: Message, shape: Field) -> tuple[int, ...]:
    """Return the shape in a TensorShapeProto."""
    sides = [part for part in message.inside(shape) if part.number == 2]
    sizes = [next((size.value for size in message.inside(side) if size.number == 1), 0) for side in sides]
    return source.shape(sizes, "a tensor")


def _slice_key(name: str, cut: tuple[tuple[int, int], ...]) -> str:
    """Return the key of a slice: 0, the name, the number of sides, then each side's start and length, so that the
    keys' order is the slices' (TensorFlow's "ordered code")."""
    key = b"\0" + name.encode("utf-8", "surrogateescape") + b"\0\1\1" + bytes([len(cut)])
    for value in (value for side in cut for value in side):
        size = 1 if value == -1 else value.bit_length() // 7 + 1
        head = ((1 << size) - 1 << 8 * size - size) & (1 << 8 * size) - 1
        key += (value % (1 << 8 * size) ^ head).to_bytes(size, "big")
    return key.decode("utf-8", "surrogateescape")


def _object_graph(shard: Shard, entry: Entry) -> dict:
    """Return the TrackableObjectGraph: how many objects, the names of their parts, and each variable's own name."""
    if shard.length is None or entry.size > METADATA_LIMIT or entry.offset + entry.size > shard.length:
        return {}
    with Source(shard.path) as file:
        text = file.read(entry.offset, entry.size)
    message = Message(text)
    _, start = message.varint(0, len(text))  # the text's length, then four bytes of checksum
    objects, names, variables = 0, set(), {}
    for node in message.fields(start + 4):
        objects += 1
        for part in message.inside(node) if node.number == 1 else ():
            inner = {piece.number: piece for piece in message.inside(part)} if part.number in (1, 2) else {}
            if part.number == 1 and 2 in inner:
                names.add(message.text(inner[2], 1 << 16))
            elif part.number == 2 and 3 in inner:
                full = message.text(inner[2], 1 << 16) if 2 in inner else ""
                variables[message.text(inner[3], 1 << 16)] = full
    return {"objects": objects, "names": sorted(names)[:1000], "variables": variables}
