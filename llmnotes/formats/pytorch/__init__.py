"""PyTorch's files: a zip archive of one pickle and the storages it refers to, TorchScript, and what came before.

A pickle is never loaded; `pickles` reads it. The zip's layout is that of `torch.save` since 1.6 (2020): `data.pkl`,
`data/0`, `data/1`, ..., `version`, all stored and not compressed, so that a tensor's bytes lie in the file as they are.
"""

import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from llmnotes.formats import zips
from llmnotes.formats.files import Source, remembered
from llmnotes.formats.format import Format
from llmnotes.formats.pickles import Pickle, PickleStream, trace
from llmnotes.formats.pytorch.legacy import MAGIC, is_legacy, legacy, tar, tar_members
from llmnotes.formats.pytorch.state_dict import model_tensors
from llmnotes.formats.pytorch.tensors import Contents, Storage, collect, describe, gather, storage_dtype
from llmnotes.formats.results import Identity, Inspection, Tensor, counted

PICKLE_STARTS = tuple(bytes([0x80, protocol]) for protocol in range(6))
PLAIN_LIMIT = 1 << 20  # bytes that a pickle without a signature may have


def identify(source: Source) -> Identity | None:
    """Return the identity of a file that PyTorch or pickle wrote, or None for any other.

    Raises `FileBroken` for a damaged zip archive, which could be one of PyTorch's.
    """
    head = source.head(4)
    if head == b"PK\3\4":
        entries = zips.entries(source)
        root = _root(entries)
        if root is None:
            return None
        version = _record(source, entries, root + "version")
        if root + "constants.pkl" in entries:
            return Identity("TorchScript", version, f"a zip archive with {root}data.pkl, constants.pkl and code")
        return Identity("PyTorch zip", version, f"a zip archive with {root}data.pkl")
    if is_legacy(source):
        return Identity("PyTorch legacy", "1001", f"a pickle of the number {MAGIC:#x}")
    if tar_members(source) is not None:
        return Identity("PyTorch tar", "0.1", "a tar archive with pickle, storages and tensors")
    signed = head.startswith(PICKLE_STARTS)
    if signed or (source.size <= PLAIN_LIMIT and source.head(source.size)[-1:] == b"."):
        pickle = source.once(_plain)
        if signed and (not pickle.broken or pickle.imports or pickle.steps > 10):
            return Identity("pickle", f"protocol {head[1]}", f"the bytes 80 0{head[1]}, then instructions of pickle")
        if not signed and not pickle.broken and pickle.steps > 1 and pickle.end == source.size:
            return Identity("pickle", "protocol 0", "instructions of pickle from the first byte to the last")
    return None


def inspect(source: Source, identity: Identity) -> Inspection:
    """Return the tensors and all other values of a checkpoint, by dotted name, such as `optimizer.state.0.exp_avg`.

    Raises `FileBroken` for a pickle that breaks off, a tensor beyond its storage, a storage that is missing or has
    another size than stated, and an archive that `zips` refuses. Does not say whether loading the file is harmless:
    that is `scan`.
    """
    contents, extra, notes = _contents(source, identity)
    metadata = {**contents.metadata, **extra}
    tensors = describe(source, contents.views)
    found = Inspection(source.path, identity, tensors, metadata, notes=(*notes, *contents.notes))
    own = len(model_tensors(found)[0])
    if own == len(tensors):
        return found
    note = f"The model's own are {own} of these tensors; the others, such as an optimizer's, are counted as well."
    return replace(found, notes=(*found.notes, note))


def read(inspection: Inspection, tensor: Tensor) -> Iterator[bytes]:
    """Yield the bytes of a tensor that does not lie in the file as it is: strided, compressed, or big-endian."""
    with Source(tensor.path) as source:
        view = _views(source.path).get(tensor.name)
        if view is None:
            raise source.broken(f"it no longer holds {tensor.name[:80]!r}")
        storage = view.storage
        if storage.offset is not None:
            yield from gather(lambda first, count: source.read(storage.offset + first, count), view)
        else:
            read = zips.unpacked(source.path).reader(source, storage.entry)
            yield from gather(read, view)


FORMAT = Format(identify, inspect, read)


@remembered(files=2)
def _views(path: Path) -> dict:
    """Return the views in the file."""
    with Source(path) as source:
        return _contents(source, identify(source))[0].views


def _contents(source: Source, identity: Identity) -> tuple[Contents, dict, list[str]]:
    if identity.format == "PyTorch legacy":
        contents, facts = legacy(source)
        return contents, {"sys_info": facts["machine"]} if isinstance(facts["machine"], dict) else {}, []
    if identity.format == "PyTorch tar":
        return tar(source, tar_members(source)), {}, []
    if identity.format == "pickle":
        pickle = source.once(_plain)
        notes = [f"The pickle {pickle.broken}."] if pickle.broken else []
        if pickle.end < source.size:
            notes.append(f"Something else follows the pickle: {counted(source.size - pickle.end, 'byte')}.")
        names = sorted({str(found)[:200] for found in pickle.imports})[:50]
        contents = collect(source, pickle, lambda reference, name: "a reference to something outside the pickle")
        return contents, {"imports": names}, notes
    return _zip(source)


def _plain(source: Source) -> Pickle:
    return trace(PickleStream(source))


def _zip(source: Source) -> tuple[Contents, dict, list[str]]:
    entries = zips.entries(source)
    root = _root(entries)
    pickle = _pickle(source, entries[root + "data.pkl"])
    order = _record(source, entries, root + "byteorder") or "little"
    big = order == "big"
    if order not in ("little", "big"):
        raise source.broken("its byteorder is neither little nor big")

    def resolve(reference, name):
        try:
            word, kind, key, _, count = reference.id
            entry = entries[f"{root}data/{key}" if isinstance(key, str | int) else key]
        except (AttributeError, KeyError, TypeError, ValueError):
            raise source.broken(f"the storage of {name[:80]!r} is not in the archive") from None
        dtype = storage_dtype(kind)
        if word != "storage" or dtype is None:
            raise source.broken(f"the storage of {name[:80]!r} has no type that is known")
        stored = entry.method == zips.STORED
        return Storage(str(key), dtype, entry.size, entry.offset if stored else None, big, None if stored else entry)

    contents = collect(source, pickle, resolve)
    notes = [f"The bytes are in {order}-endian order."] * big
    if any(view.storage.offset is None for view in contents.views.values()):
        notes.append("Some tensors are compressed, which torch.save does not do.")
    return contents, {}, notes


def _pickle(source: Source, entry: zips.Entry) -> Pickle:
    pickle = trace(io.BytesIO(zips.content(source, entry)))
    if pickle.broken:
        raise source.broken(f"its pickle {pickle.broken}")
    return pickle


def _root(entries: dict) -> str | None:
    """Return the folder of data.pkl in the archive with its slash, or "", or None where there is no such file."""
    found = [name for name in entries if name == "data.pkl" or (name.endswith("/data.pkl") and name.count("/") == 1)]
    return found[0].removesuffix("data.pkl") if found else None


def _record(source: Source, entries: dict, name: str) -> str:
    if name not in entries:
        return ""
    return zips.content(source, entries[name], 64).decode("ascii", "replace").strip()
