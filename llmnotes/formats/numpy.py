"""NumPy's files: npy, a short text that describes one array before its bytes, and npz, a zip archive of such files.

The layout is that of `numpy.lib.format`, versions 1.0 to 3.0 (NumPy enhancement proposals 1 and 2).
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from llmnotes.formats import zips
from llmnotes.formats.files import Source, remembered
from llmnotes.formats.format import Format
from llmnotes.formats.results import Identity, Inspection, Tensor, counted
from llmnotes.formats.strided import Storage, StridedView, strided_view, values

MAGIC = b"\x93NUMPY"
HEADER_LIMIT = 10_000  # characters, the limit that numpy itself has
KINDS = {"f2": "F16", "f4": "F32", "f8": "F64", "c8": "C64", "c16": "C128", "b1": "BOOL"}
KINDS |= {f"{letter}{width}": f"{letter.upper()}{8 * width}" for letter in "iu" for width in (1, 2, 4, 8)}


def identify(source: Source) -> Identity | None:
    """Return the identity of an npy file, or of a zip archive that holds npy files alone, or None for any other."""
    head = source.head(8)
    if head.startswith(MAGIC) and len(head) == 8:
        return Identity("NumPy npy", f"{head[6]}.{head[7]}", "the bytes 93 NUMPY")
    if head[:4] != b"PK\3\4":
        return None
    found, _ = zips.directory(source)
    arrays = [entry for entry in found if entry.name.endswith(".npy")]
    if not arrays or len(arrays) != len(found):
        return None
    return Identity("NumPy npz", "", f"a zip archive of {counted(len(arrays), 'file')} in the format npy")


def inspect(source: Source, identity: Identity) -> Inspection:
    """Return the array or arrays that the headers describe; the tensor of an npy file is called "array".

    Arrays of Python objects, of records and of texts are in the notes: objects are a pickle, which nobody opens here.
    Raises `FileBroken` for a header that is no plain description, or a size that the file does not have.
    """
    tensors, notes = [], []
    for name, entry in _arrays(source):
        view, note = _describe(source, name, entry)
        if note:
            notes.append(note)
        if view is not None:
            tensors.append(Tensor(name, view.dtype, view.shape, view.nbytes, source.path, view.offset))
    return Inspection(source.path, identity, tuple(tensors), notes=tuple(notes))


def read(inspection: Inspection, tensor: Tensor) -> Iterator[bytes]:
    """Yield the bytes of an array that is compressed, big-endian or in Fortran's order; C order, little-endian."""
    with Source(inspection.path) as source:
        entries = _entries(inspection.path)
        view = _describe(source, tensor.name, entries[tensor.name])[0] if tensor.name in entries else None
        if view is None:
            raise source.broken(f"it no longer holds {tensor.name[:80]!r}")
        yield from values(source, view)


FORMAT = Format(identify, inspect, read)


@remembered(files=2)
def _entries(path: Path) -> dict[str, zips.Entry | None]:
    """Return the arrays of a file by name."""
    with Source(path) as source:
        return dict(_arrays(source))


def _arrays(source: Source) -> list[tuple[str, zips.Entry | None]]:
    """Return the arrays of a file by name: the one of an npy, without an entry, or those of an npz."""
    if source.head(len(MAGIC)) == MAGIC:
        return [("array", None)]
    return [(name.removesuffix(".npy"), entry) for name, entry in zips.entries(source).items()]


def _describe(source: Source, name: str, entry: zips.Entry | None) -> tuple[StridedView | None, str]:
    """Return the view that a header describes, or None and a sentence on why there is none."""
    text, start = _header(source, name, entry)
    try:
        if "\\" in text:  # NumPy writes none, and an escape could hide what the text says
            raise ValueError
        try:
            header = ast.literal_eval(text)
        except SyntaxError:  # Python 2 wrote an L behind the sides of a shape, which NumPy passes over, too
            header = ast.literal_eval(re.sub(r"(?<=[ (]\d)(\d*)L(?=[,)])", r"\1", text))
        kind, fortran, shape = header["descr"], header["fortran_order"], header["shape"]
    except (ValueError, SyntaxError, TypeError, KeyError, RecursionError, MemoryError):
        raise source.broken(f"the header of {name[:80]!r} is no description of an array") from None
    shape = source.shape(shape, name)
    if type(fortran) is not bool:
        raise source.broken(f"the header of {name[:80]!r} does not say in which order its elements are")
    if isinstance(kind, str) and re.fullmatch(r"[|<>=]?O\d?", kind):
        return None, f"{name[:80]} holds Python objects as a pickle, which is not opened here; see `llmnotes scan`."
    if not isinstance(kind, str) or kind.lstrip("|<>=") not in KINDS:
        return None, f"{name[:80]} holds elements of the kind {str(kind)[:80]}, which are no tensor."
    # The elements follow the header: in the file, in an entry that is stored, or in what a packed one unpacks to.
    dtype, big = KINDS[kind.lstrip("|<>=")], kind.startswith(">")
    if entry is None:
        storage = Storage(name, dtype, max(source.size - start, 0), start, big)
    elif entry.method == zips.STORED:
        storage = Storage(name, dtype, max(entry.size - start, 0), entry.offset + start, big)
    else:
        storage = Storage(name, dtype, max(entry.size - start, 0), start, big, entry)
    # C order counts the last side first, Fortran's the first.
    strides, step = [], 1
    for side in shape if fortran else reversed(shape):
        strides.append(step)
        step *= max(side, 1)
    if step >= 1 << 63:
        raise source.broken(f"the shape of {name[:80]!r} is larger than any file")
    return strided_view(source, name, storage, dtype, 0, shape, tuple(strides if fortran else strides[::-1])), ""


def _header(source: Source, name: str, entry: zips.Entry | None) -> tuple[str, int]:
    """Return the text of an npy header and how many bytes precede the elements."""
    if entry is None:
        head = source.head(12 + HEADER_LIMIT)
    else:
        head = next(zips.stream(source, entry, strict=False), b"")[: 12 + HEADER_LIMIT]
    wide = head[6:7] != b"\1"
    length = int.from_bytes(head[8 : 12 if wide else 10], "little")
    start = (12 if wide else 10) + length
    if not head.startswith(MAGIC) or head[6:7] not in (b"\1", b"\2", b"\3") or length > HEADER_LIMIT:
        raise source.broken(f"{name[:80]!r} has no header that NumPy writes")
    if start > len(head):
        raise source.broken(f"the header of {name[:80]!r} ends in the middle")
    return head[start - length : start].decode("utf-8" if head[6] == 3 else "latin-1", "replace").strip(), start
