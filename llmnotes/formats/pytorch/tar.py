"""The files of the first PyTorch, 0.1.1 to 0.1.10 (2016 and 2017): a tar of storages, tensors and a pickle.

`torch.load` reads them with `weights_only=False` alone, which would execute the pickle.
"""

import struct
from dataclasses import replace

from llmnotes.formats.files import Source, behind
from llmnotes.formats.pickles import PickleStream
from llmnotes.formats.pickles.values import PersistentId
from llmnotes.formats.pytorch.checkpoint import Checkpoint, collect, storage_dtype
from llmnotes.formats.pytorch.legacy import part_of, read_pickle
from llmnotes.formats.results import DTYPES
from llmnotes.formats.strided import Storage, StridedView, strided_view

MEMBERS = {"pickle", "storages", "tensors"}
RECORD = 10_240  # bytes that a tar is filled up to with zeros, or a multiple of them


def members(source: Source) -> dict[str, tuple[int, int]] | None:
    """Return {member: (offset, size)} of a tar that PyTorch 0.1 wrote, or None for any other file."""
    if source.head(262)[257:] != b"ustar" and source.head(7) not in (b"storage", b"sys_inf", b"pickle\0", b"tensors"):
        return None
    found, _ = _entries(source)
    return found if MEMBERS <= found.keys() else None


def _entries(source: Source) -> tuple[dict[str, tuple[int, int]], int]:
    """Return {member: (offset, size)} and where the last one ends; no member where one has no size."""
    found, at = {}, 0
    while at + 512 <= source.size and len(found) < 100:
        header = source.read(at, 512)
        name = header[:100].split(b"\0")[0].decode("utf-8", "replace").removeprefix("./")
        digits = header[124:136].strip(b"\0 ")
        if not name:
            break
        if not (digits.isdigit() and set(digits) <= set(b"01234567")):
            return {}, at
        size = int(digits, 8)
        if header[156:157] in (b"0", b"\0"):  # an ordinary file
            found.setdefault(name, (at + 512, size))
        at += 512 + (size + 511) // 512 * 512
    return found, at


def read_tar(source: Source) -> Checkpoint:
    """Return what a tar of PyTorch 0.1 holds: its pickle refers to tensors, and these to storages, by number."""
    places, end = _entries(source)
    streams = {name: PickleStream(source, start, start + size) for name, (start, size) in places.items()}
    if any(stream.end > source.size for stream in streams.values()):
        raise source.broken("one of its members reaches beyond its end")
    tensors = _tensors(source, streams["tensors"], _storages(source, streams["storages"]))

    def resolve(reference: PersistentId, name: str) -> StridedView | str:
        key = reference.id
        found = tensors.get(str(key)) if isinstance(key, str | int) else None
        return found or "a storage without a tensor, or a class with its source code"

    found = collect(source, read_pickle(source, streams["pickle"]), resolve)
    return replace(found, notes=found.notes + behind(source, min(end, source.size), RECORD))


def _storages(source: Source, stream: PickleStream) -> dict[str | int, Storage]:
    """Return the storages by key: a pickle about each and then its elements; at the end a list of parts of them."""
    storages: dict[str | int, Storage] = {}
    for _ in range(_count(source, stream)):
        key, _, kind = _three(source, stream)
        dtype = storage_dtype(kind)
        if dtype is None or not isinstance(key, str | int):
            raise source.broken("one of its storages has no type that is known")
        (count,) = _numbers(source, stream, "<q")
        nbytes = count * DTYPES[dtype][1]
        if nbytes < 0 or stream.at + nbytes > stream.end:
            raise source.broken("one of its storages is longer than the file")
        storages[key] = Storage(key, dtype, nbytes, stream.at)
        stream.at += nbytes
    parts = read_pickle(source, stream).value
    for part in parts if isinstance(parts, list) else ():
        try:
            key, whole, first, count = part
            storages[key] = part_of(source, storages[whole], key, first, count)
        except (KeyError, TypeError, ValueError):
            raise source.broken("one of its storages is a part of one that is not there") from None
    return storages


def _tensors(source: Source, stream: PickleStream, storages: dict[str | int, Storage]) -> dict[str, StridedView]:
    """Return the tensors by key: a pickle about each, then its shape, its strides and its first element."""
    tensors = {}
    for _ in range(_count(source, stream)):
        key, storage, _ = _three(source, stream)
        (sides,) = _numbers(source, stream, "<i4x")
        if not 0 <= sides <= 64 or not isinstance(storage, str | int) or storage not in storages:
            raise source.broken("one of its tensors has no storage, or more than 64 dimensions")
        shape, strides = (_numbers(source, stream, f"<{sides}q") for _ in range(2))
        (first,) = _numbers(source, stream, "<q")
        whole = storages[storage]
        tensors[str(key)] = strided_view(source, str(key), whole, whole.dtype, first, shape, strides)
    return tensors


def _count(source: Source, stream: PickleStream) -> int:
    """Return the number of storages or tensors, a pickle before them."""
    count = read_pickle(source, stream).value
    if type(count) is not int or not 0 <= count <= (stream.end - stream.at) // 8:
        raise source.broken("it claims more tensors than its size allows")
    return count


def _three(source: Source, stream: PickleStream) -> tuple[object, object, object]:
    """Return the three values of the pickle before a storage or a tensor."""
    values = read_pickle(source, stream).value
    if not isinstance(values, tuple | list) or len(values) != 3:
        raise source.broken("a storage or a tensor in it lacks its description")
    return values[0], values[1], values[2]


def _numbers(source: Source, stream: PickleStream, layout: str) -> tuple[int, ...]:
    data = stream.read(struct.calcsize(layout))
    if len(data) != struct.calcsize(layout):
        raise source.broken("it ends in the middle of a tensor's description")
    return struct.unpack(layout, data)
