"""PyTorch's files from before its zip archives (0.1.11 of 2017 to 1.5): five pickles in a row, then the raw storages.

The layout is the one that `torch.serialization` reads: a magic number, a protocol, facts about the machine, the object,
and the keys of its storages, in whose order these follow, each behind its number of elements.
"""

from dataclasses import replace
from typing import cast

from llmnotes.errors import FileBroken
from llmnotes.formats.files import Source, behind
from llmnotes.formats.pickles import Pickle, PickleStream, trace
from llmnotes.formats.pickles.values import PersistentId
from llmnotes.formats.pytorch.checkpoint import Checkpoint, collect, storage_dtype
from llmnotes.formats.results import DTYPES
from llmnotes.formats.strided import Storage

MAGIC = 0x1950A86A20F9469CFC6C


def is_legacy(source: Source) -> bool:
    """Return whether the file begins with the pickle of PyTorch's magic number."""
    return _magic_at(source, 0)


def read_legacy(source: Source) -> Checkpoint:
    """Return what a legacy file holds, and under `sys_info` what it says about the machine that wrote it."""
    stream = PickleStream(source)
    _, _, machine, pickle, keys = (read_pickle(source, stream) for _ in range(5))
    storages, end = _storages(source, keys, _declared_dtypes(source, pickle))
    rest = behind_file(source, end)
    parts: dict[object, Storage] = {}

    def resolve(reference: PersistentId, name: str) -> Storage:
        # ("storage", its class, its key, where it was, its number of elements, None or (key, first, count) of a part)
        try:
            _, _, key, _, _, part = cast(tuple, reference.id)
            return storages[key] if part is None else parts.setdefault(part[0], part_of(source, storages[key], *part))
        except (AttributeError, KeyError, TypeError, ValueError):
            raise source.broken(f"the storage of {name[:80]!r} is not in the file") from None

    found = collect(source, pickle, resolve)
    if isinstance(machine.value, dict):
        found.metadata["sys_info"] = machine.value
    return replace(found, notes=found.notes + rest)


def behind_file(source: Source, end: int) -> list[str]:
    """Return a note on what follows the `end` of a file of `torch.save`; `FileBroken` where that is another such file.

    `torch.save` leaves nothing there, but it can be called several times with one open file.
    """
    if _magic_at(source, end) or source.read(end, min(4, source.size - end)) == b"PK\3\4":
        raise FileBroken(
            f"{source.path.name} is several files of torch.save in a row, and only one would be read; read them with "
            "one torch.load after the other from the open file, and save each into a file of its own."
        )
    return behind(source, end)


def _magic_at(source: Source, start: int) -> bool:
    head = source.read(start, min(64, source.size - start))
    if MAGIC.to_bytes(10, "little") not in head and str(MAGIC).encode() not in head:
        return False
    return trace(PickleStream(source, start), steps=10).value == MAGIC


def read_pickle(source: Source, stream: PickleStream) -> Pickle:
    """Return the next pickle in a file; `FileBroken` if it is not whole."""
    pickle = trace(stream)
    if pickle.broken:
        raise source.broken(f"a pickle in it {pickle.broken}")
    return pickle


def part_of(source: Source, storage: Storage, key: object, first: object, count: object) -> Storage:
    """Return the part of a storage that was a view with a key of its own, `first` and `count` in elements."""
    width = DTYPES[storage.dtype][1]
    if type(first) is not int or type(count) is not int or not 0 <= first <= first + count <= storage.nbytes // width:
        raise source.broken("one of its storages is a part that reaches beyond the whole")
    return replace(storage, key=key, nbytes=count * width, offset=storage.offset + first * width)


def _declared_dtypes(source: Source, pickle: Pickle) -> dict[str | int, str]:
    """Return {key: dtype} of the storages that the object's pickle refers to."""
    found: dict[str | int, str] = {}
    for reference in pickle.references:
        identifier = reference.id
        if isinstance(identifier, tuple) and len(identifier) == 6 and isinstance(identifier[2], str | int):
            dtype = storage_dtype(identifier[1])
            if dtype is None or found.setdefault(identifier[2], dtype) != dtype:
                raise source.broken("one of its storages has two types, or none that is known")
    return found


def _storages(source: Source, keys: Pickle, dtypes: dict[str | int, str]) -> tuple[dict[str | int, Storage], int]:
    """Return the storages that follow the last pickle, which names them in their order, and where they end."""
    if not isinstance(keys.value, list) or len(keys.value) > len(dtypes):
        raise source.broken("its list of storages names more than its tensors use")
    storages: dict[str | int, Storage] = {}
    at = keys.end
    for key in keys.value:
        if not isinstance(key, str | int) or key in storages or key not in dtypes:
            raise source.broken("its list of storages names one twice, or one that no tensor uses")
        nbytes = int.from_bytes(source.read(at, 8), "little") * DTYPES[dtypes[key]][1]
        if at + 8 + nbytes > source.size:
            source.read(at + 8, nbytes)  # raises the sentence
        storages[key] = Storage(key, dtypes[key], nbytes, at + 8)
        at += 8 + nbytes
    return storages, at
