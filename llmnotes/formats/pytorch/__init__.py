"""PyTorch's files: a zip archive of one pickle and the storages it refers to, TorchScript, and what came before.

The zip's layout is that of `torch.save` since 1.6 (2020): `data.pkl`, `data/0`, `data/1`, ..., `version`, all stored
and not compressed, so that a tensor's bytes lie in the file as they are.

Why this reader does not call `torch.load(map_location="meta", weights_only=True, mmap=True)`, tried with torch 2.13:
it ends the process (segmentation fault) on a big-endian file; it lists tensors that reach beyond their storage, and it
gives the tensors of one storage a storage each, so that ties are lost; it refuses what people have on disk and want to
see: pickle protocol 4, a checkpoint with `argparse.Namespace`, `Path` or NumPy's numbers beside the weights, a whole
module, TorchScript, the tar of 2016, and every tensor of a file with one quantized tensor in it. What is left to it
would still need the code below for all others, and a second for importing torch.
"""

import io
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import cast

from llmnotes.formats import zips
from llmnotes.formats.files import Source, behind, remembered
from llmnotes.formats.format import Format
from llmnotes.formats.pickles import Pickle, PickleStream, trace
from llmnotes.formats.pickles.values import PersistentId
from llmnotes.formats.pytorch import distributed, legacy, tar, torchscript
from llmnotes.formats.pytorch.checkpoint import Checkpoint, collect, list_tensors, storage_dtype
from llmnotes.formats.results import Identity, Inspection, Tensor
from llmnotes.formats.strided import Storage, StridedView, values

PICKLE_STARTS = tuple(bytes([0x80, protocol]) for protocol in range(6))
UNSIGNED_LIMIT = 1 << 20  # bytes that a pickle without a signature may have


def identify(source: Source) -> Identity | None:
    """Return the identity of a file that PyTorch or pickle wrote, or None for any other.

    Raises `FileBroken` for a damaged zip archive, which could be one of PyTorch's, and `UnknownFormat` for a part of a
    distributed checkpoint.
    """
    head = source.head(4)
    if head == b"PK\3\4":
        distributed.refuse_part(source)
        entries = zips.entries(source)
        root = _root(entries)
        if root is None:
            return None
        version = _record(source, entries, root + "version")
        if root + "constants.pkl" in entries:
            return Identity("TorchScript", version, f"a zip archive with {root}data.pkl, constants.pkl and code")
        return Identity("PyTorch zip", version, f"a zip archive with {root}data.pkl")
    if legacy.is_legacy(source):
        return Identity("PyTorch legacy", "1001", f"a pickle of the number {legacy.MAGIC:#x}")
    if tar.members(source) is not None:
        return Identity("PyTorch tar", "0.1", "a tar archive with pickle, storages and tensors")
    signed = head.startswith(PICKLE_STARTS)
    if signed or (source.size <= UNSIGNED_LIMIT and source.head(source.size)[-1:] == b"."):
        pickle = source.once(_first_pickle)
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
    checkpoint = _checkpoint(source, identity)
    tensors = list_tensors(source, checkpoint.tensors)
    notes, beside = checkpoint.notes, checkpoint.beside
    if beside:
        own = len(tensors) - len(beside)
        notes.append(f"The model's own are {own} of these tensors; the others, such as an optimizer's, count as well.")
    return Inspection(
        source.path, identity, tensors, checkpoint.metadata, None, tuple(notes), beside, checkpoint.prefix
    )


def read(inspection: Inspection, tensor: Tensor) -> Iterator[bytes]:
    """Yield the bytes of a tensor that does not lie in the file as it is: strided, compressed, or big-endian."""
    with Source(inspection.path) as source:
        view = _views(source.path).get(tensor.name)
        if view is None:
            raise source.broken(f"it no longer holds {tensor.name[:80]!r}")
        yield from values(source, view)


FORMAT = Format(identify, inspect, read)


@remembered(files=2)
def _views(path: Path) -> dict[str, StridedView]:
    """Return the tensors of the file at `path`."""
    with Source(path) as source:
        identity = identify(source)
        if identity is None:
            raise source.broken("it changed since its header was read")
        return _checkpoint(source, identity).tensors


def _checkpoint(source: Source, identity: Identity) -> Checkpoint:
    readers = {"PyTorch legacy": legacy.read_legacy, "PyTorch tar": tar.read_tar, "pickle": _read_pickle}
    return readers.get(identity.format, _read_zip)(source)


def _first_pickle(source: Source) -> Pickle:
    return trace(PickleStream(source))


def _read_pickle(source: Source) -> Checkpoint:
    """Return what a pickle without storages beside it holds; what breaks off is listed up to there."""
    pickle = source.once(_first_pickle)
    found = collect(source, pickle, lambda reference, name: "a reference to something outside the pickle")
    notes = [f"The pickle {pickle.broken}."] if pickle.broken else []
    if pickle.end < source.size:
        notes += behind(source, pickle.end)
    imports = sorted({str(name)[:200] for name in pickle.imports})[:50]
    return replace(found, metadata=found.metadata | {"imports": imports}, notes=notes + found.notes)


def _read_zip(source: Source) -> Checkpoint:
    """Return what an archive of `torch.save` or of TorchScript holds; a constant of a program is CONSTANTS.c0."""
    entries = zips.entries(source)
    root = _root(entries) or ""
    order = _record(source, entries, root + "byteorder") or "little"
    if order not in ("little", "big"):
        raise source.broken("its byteorder is neither little nor big")
    pickle = _pickle_in(source, entries[root + "data.pkl"])
    constants = root + "constants.pkl"
    if constants in entries:
        torchscript.lay_out(source, entries, root, pickle)
    found = collect(source, pickle, partial(_storage, source, entries, f"{root}data/", order == "big"))
    if constants in entries:
        pickle = _pickle_in(source, entries[constants])
        more = collect(source, pickle, partial(_storage, source, entries, f"{root}constants/", order == "big"))
        only = not found.tensors  # a frozen model: all its weights are constants
        for name, view in more.tensors.items():
            found.tensors[f"CONSTANTS.c{name}"] = view
            found.beside |= {} if only else {f"CONSTANTS.c{name}": torchscript.CONSTANT}
        found.notes += more.notes
    notes = ["The bytes are in big-endian order."] if order == "big" else []
    notes += legacy.behind_file(source, _end_of_archive(source))
    if any(view.storage.packed is not None for view in found.tensors.values()):
        notes.append("Some tensors are compressed, which torch.save does not do.")
    return replace(found, notes=notes + found.notes)


def _end_of_archive(source: Source) -> int:
    """Return where the archive's last record ends, and the comment in it."""
    start = max(source.size - 65_557, 0)  # a comment of 65,535 bytes may follow the record's 22
    tail = source.read(start, source.size - start)
    at = tail.rfind(b"PK\5\6")  # `zips.entries` has found it
    return min(start + at + 22 + int.from_bytes(tail[at + 20 : at + 22], "little"), source.size)


def _pickle_in(source: Source, entry: zips.Entry) -> Pickle:
    """Return what the pickle in an archive would do; `FileBroken` if it is not whole."""
    pickle = trace(io.BytesIO(zips.content(source, entry)))
    if pickle.broken:
        raise source.broken(f"its pickle {pickle.broken}")
    return pickle


def _storage(
    source: Source, entries: dict[str, zips.Entry], folder: str, big: bool, reference: PersistentId, name: str
) -> Storage:
    """Return the storage in the archive's `folder` that a reference names.

    It is ("storage", its class, its key, where it was, its number of elements).
    """
    try:
        word, kind, key, _, _ = cast(tuple, reference.id)
        entry = entries[f"{folder}{key}" if isinstance(key, str | int) else key]
    except (AttributeError, KeyError, TypeError, ValueError):
        raise source.broken(f"the storage of {name[:80]!r} is not in the archive") from None
    dtype = storage_dtype(kind)
    if word != "storage" or dtype is None:
        raise source.broken(f"the storage of {name[:80]!r} has no type that is known")
    if entry.method == zips.STORED:
        return Storage(entry.name, dtype, entry.size, entry.offset, big)
    return Storage(entry.name, dtype, entry.size, 0, big, entry)


def _root(entries: dict[str, zips.Entry]) -> str | None:
    """Return the folder of data.pkl in the archive with its slash, or "", or None where there is no such file."""
    found = [name for name in entries if name == "data.pkl" or (name.endswith("/data.pkl") and name.count("/") == 1)]
    return found[0].removesuffix("data.pkl") if found else None


def _record(source: Source, entries: dict[str, zips.Entry], name: str) -> str:
    """Return the text of a short record of the archive, or "" if it is not there."""
    if name not in entries:
        return ""
    return zips.content(source, entries[name], 64).decode("ascii", "replace").strip()
