"""The importance matrices that llama.cpp wrote before it wrote them as GGUF, imatrix.dat.

First the number of matrices; for each the length of its name, the name, a count, the number of columns, and for each
column the mean square of its inputs times the count; then what it was measured on. All numbers are little-endian and
have four bytes. There is no signature: such a file is recognized by its first name, which is that of a weight.
"""

from collections.abc import Iterator

from llmnotes.formats.files import Source
from llmnotes.formats.format import Format
from llmnotes.formats.results import Identity, Inspection, Tensor

NAME = "llama.cpp importance matrix"
NAME_LIMIT = 256  # bytes of a name
LIMIT = 1 << 28  # bytes of all sums; a model of 400 billion weights has a tenth of it


def identify(source: Source) -> Identity | None:
    """Return the identity of an imatrix.dat, or None."""
    count = _number(source, 0) if 12 < source.size < LIMIT else 0
    name = _name(source, 4) if count > 0 else ""
    if not name.endswith(".weight"):
        return None
    return Identity(NAME, "dat", f"{count:,} as the number of matrices, and then the name {name}")


def inspect(source: Source, identity: Identity) -> Inspection:
    """Return the sums of each matrix under its name; raises what `entries` raises."""
    counts, tensors = {}, []
    for name, count, columns, start in entries(source):
        tensors.append(Tensor(name, "F32", (columns,), 4 * columns, source.path, start, counts=False))
        counts[name] = count
    if len(counts) < len(tensors):
        raise source.broken("it has two matrices of the same name")
    notes = ("It holds no weights: it says which columns matter when a model is quantized (--imatrix of convert).",)
    return Inspection(source.path, identity, tuple(tensors), {"counts": counts}, notes=notes)


def entries(source: Source) -> Iterator[tuple[str, int, int, int]]:
    """Yield (name, count, columns, position of their sums) of each matrix.

    Yields nothing for another file, and raises `FileBroken` for one that goes wrong behind its first name.
    """
    at = 4
    for left in range(_number(source, 0) if 12 < source.size < LIMIT else 0, 0, -1):
        name = _name(source, at)
        if not name and at > 4:
            raise source.broken(f"the name of one of its matrices is no text, {left:,} before the end")
        if not name:
            return
        at += 4 + len(name)
        count, columns = _number(source, at), _number(source, at + 4)
        if columns < 1:
            raise source.broken(f"{name[:80]} has {columns:,} columns")
        source.inside(at + 8, 4 * columns)
        yield name, count, columns, at + 8
        at += 8 + 4 * columns


def _name(source: Source, at: int) -> str:
    """Return the name at a position, "" where there is none."""
    length = _number(source, at)
    name = source.read(at + 4, length) if 0 < length <= min(NAME_LIMIT, source.size - at - 4) else b""
    return name.decode() if name.isascii() and name.decode().isprintable() else ""


def _number(source: Source, at: int) -> int:
    return int.from_bytes(source.read(at, 4), "little", signed=True)


FORMAT: Format[Source] = Format(identify, inspect)
