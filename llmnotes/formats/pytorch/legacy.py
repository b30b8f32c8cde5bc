"""PyTorch's files from before its zip archives: pickles in a row with raw storages behind them, and a tar before that.

The layouts are those that `torch.serialization` reads: five pickles (a magic number, a protocol, facts on the machine,
the object, the keys of its storages), or a tar of four members from PyTorch 0.1.1 to 0.1.10.
"""

import struct
from dataclasses import replace

from llmnotes.formats.files import Source
from llmnotes.formats.pickles import Pickle, PickleStream, trace
from llmnotes.formats.pytorch.tensors import Contents, Storage, collect, make_view, storage_dtype
from llmnotes.formats.results import DTYPES

MAGIC = 0x1950A86A20F9469CFC6C
MEMBERS = {"pickle", "storages", "tensors"}


def is_legacy(source: Source) -> bool:
    """Return whether the file begins with the pickle of PyTorch's magic number."""
    head = source.head(64)
    if MAGIC.to_bytes(10, "little") not in head and str(MAGIC).encode() not in head:
        return False
    return trace(PickleStream(source), steps=10).value == MAGIC


def legacy(source: Source) -> tuple[Contents, dict]:
    """Return the tensors of a legacy file and what it says about the machine that wrote it."""
    window = PickleStream(source)
    _, protocol, machine, pickle, keys = (_run(source, window) for _ in range(5))
    sizes = _declared(source, pickle)
    if not isinstance(keys.value, list) or len(keys.value) > len(sizes):
        raise source.broken("its list of storages names more than its tensors use")
    storages, at = {}, keys.end
    for key in keys.value:
        if not isinstance(key, str | int) or key in storages or key not in sizes:
            raise source.broken("its list of storages names one twice, or one that no tensor uses")
        dtype = sizes[key]
        count = int.from_bytes(source.read(at, 8), "little")
        nbytes = count * DTYPES[dtype][1]
        if at + 8 + nbytes > source.size:
            source.read(at + 8, nbytes)  # raises the sentence
        storages[key] = Storage(key, dtype, nbytes, at + 8)
        at += 8 + nbytes
    views = {}

    def resolve(reference, name):
        try:
            _, _, key, _, _, view = reference.id
            storage = storages[key]
            return storage if view is None else views.setdefault(view[0], _part(source, storage, *view))
        except (AttributeError, KeyError, TypeError, ValueError):
            raise source.broken(f"the storage of {name[:80]!r} is not in the file") from None

    return collect(source, pickle, resolve), {"protocol": protocol.value, "machine": machine.value}


def tar_members(source: Source) -> dict[str, tuple[int, int]] | None:
    """Return {member: (offset, size)} of a tar from PyTorch 0.1, or None for any other file."""
    if source.head(262)[257:] != b"ustar" and source.head(7) not in (b"storage", b"sys_inf", b"pickle\0", b"tensors"):
        return None
    found, at = {}, 0
    while at + 512 <= source.size and len(found) < 100:
        header = source.read(at, 512)
        name = header[:100].split(b"\0")[0].decode("utf-8", "replace").removeprefix("./")
        digits = header[124:136].strip(b"\0 ")
        if not name:
            break
        if not (digits.isdigit() and set(digits) <= set(b"01234567")):
            return None
        size = int(digits, 8)
        if header[156:157] in (b"0", b"\0"):
            found.setdefault(name, (at + 512, size))
        at += 512 + (size + 511) // 512 * 512
    return found if MEMBERS <= found.keys() else None


def tar(source: Source, members: dict[str, tuple[int, int]]) -> Contents:
    """Return the tensors of a tar from PyTorch 0.1."""
    for start, size in members.values():
        if start + size > source.size:
            raise source.broken("one of its members reaches beyond its end")
    storages, views = {}, {}
    window = _window(source, members["storages"])
    for _ in range(_count(source, window)):
        key, _, kind = _triple(source, window)
        dtype = storage_dtype(kind)
        if dtype is None or not isinstance(key, str | int):
            raise source.broken("one of its storages has no type that is known")
        nbytes = _number(source, window, "<q") * DTYPES[dtype][1]
        if nbytes < 0 or window.at + nbytes > window.end:
            raise source.broken("one of its storages is longer than the file")
        storages[key] = Storage(key, dtype, nbytes, window.at)
        window.at += nbytes
    parts = _run(source, window).value
    for part in parts if isinstance(parts, list) else ():
        try:
            target, root, first, count = part
            storages[target] = _part(source, storages[root], target, first, count)
        except (KeyError, TypeError, ValueError):
            raise source.broken("one of its storages is a part of one that is not there") from None
    window = _window(source, members["tensors"])
    for _ in range(_count(source, window)):
        key, storage, _ = _triple(source, window)
        sides = _number(source, window, "<i4x")
        if not 0 <= sides <= 64 or not isinstance(storage, str | int) or storage not in storages:
            raise source.broken("one of its tensors has no storage, or more than 64 dimensions")
        shape = [_number(source, window, "<q") for _ in range(sides)]
        strides = [_number(source, window, "<q") for _ in range(sides)]
        first, whole = _number(source, window, "<q"), storages[storage]
        views[str(key)] = make_view(source, str(key), whole, whole.dtype, first, shape, strides)

    def resolve(reference, name):
        view = views.get(str(reference.id)) if isinstance(reference.id, str | int) else None
        return view or "a storage without a tensor, or a class with its source code"

    return collect(source, _run(source, _window(source, members["pickle"])), resolve)


def _run(source: Source, window: PickleStream) -> Pickle:
    pickle = trace(window)
    if pickle.broken:
        raise source.broken(f"a pickle in it {pickle.broken}")
    return pickle


def _window(source: Source, member: tuple[int, int]) -> PickleStream:
    return PickleStream(source, member[0], sum(member))


def _count(source: Source, window: PickleStream) -> int:
    count = _run(source, window).value
    if type(count) is not int or not 0 <= count <= (window.end - window.at) // 8:
        raise source.broken("it claims more tensors than its size allows")
    return count


def _triple(source: Source, window: PickleStream) -> tuple:
    triple = _run(source, window).value
    if not isinstance(triple, tuple | list) or len(triple) != 3:
        raise source.broken("a storage or a tensor in it lacks its description")
    return tuple(triple)


def _number(source: Source, window: PickleStream, layout: str) -> int:
    data = window.read(struct.calcsize(layout))
    if len(data) != struct.calcsize(layout):
        raise source.broken("it ends in the middle of a tensor's description")
    return struct.unpack(layout, data)[0]


def _declared(source: Source, pickle: Pickle) -> dict:
    """Return {key: dtype} of the storages that the object's pickle refers to."""
    found = {}
    for reference in pickle.references:
        identifier = reference.id
        if isinstance(identifier, tuple) and len(identifier) == 6 and isinstance(identifier[2], str | int):
            dtype = storage_dtype(identifier[1])
            if dtype is None or found.setdefault(identifier[2], dtype) != dtype:
                raise source.broken("one of its storages has two types, or none that is known")
    return found


def _part(source: Source, storage: Storage, key, first: int, count: int) -> Storage:
    """Return the part of a storage that was a view with a key of its own, `first` and `count` in elements."""
    width = DTYPES[storage.dtype][1]
    if not (type(first) is type(count) is int and 0 <= first <= first + count <= storage.nbytes // width):
        raise source.broken("one of its storages is a part that reaches beyond the whole")
    return replace(storage, key=key, nbytes=count * width, offset=storage.offset + first * width)
