"""The child process that lets libhdf5 look at a file.

`python hdf5_child.py FILE FIRST COUNT values DATASET` prints the values of a dataset, little-endian;
`structure` prints JSON: the root's attributes and groups, the datasets with dtype, shape and offset, and notes;
`contents` prints what may hold texts or bytes, each after a line of JSON: its place, how many bytes follow, and whether
that is all of it. No link that leads out of the file is followed. It ends with `OURS` where h5py itself does not work.
"""

import io
import json
import sys
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

OURS = 3  # the exit status of a failure that is not the file's
MEMORY = 1 << 30  # bytes of address space, libraries included
CPU = 1  # second of processor time, after the libraries are there
OBJECTS = 200_000
DEPTH = 64
TEXT = 1 << 22  # bytes of one attribute: a model's configuration
ROOM = 1 << 26  # bytes of texts and whole numbers that are written for a search
BEGINNING = 1 << 16  # of those, bytes of a packed dataset of floats
VALUES = 10_000  # texts of one dataset that are written one at a time
KINDS = {"f": "F", "i": "I", "u": "U", "c": "C", "b": "BOOL"}


class FileSection(io.RawIOBase):
    """A section of a file, read like a file of its own."""

    def __init__(self, path: str, first: int, count: int):
        self.file, self.first, self.count, self.at = open(path, "rb", buffering=0), first, count, 0

    def readinto(self, buffer: Any) -> int:
        self.file.seek(self.first + self.at)
        data = self.file.read(max(0, min(len(buffer), self.count - self.at)))
        buffer[: len(data)] = data
        self.at += len(data)
        return len(data)

    def seek(self, offset: int, whence: int = 0) -> int:
        self.at = offset + (0, self.at, self.count)[whence]
        return self.at

    def tell(self) -> int:
        return self.at

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True


def limit(seconds: int) -> None:
    """Give this process little memory and `seconds` of processor time, as far as the system allows it."""
    try:
        import resource
    except ImportError:  # Windows
        return
    used = resource.getrusage(resource.RUSAGE_SELF)
    seconds += int(used.ru_utime + used.ru_stime) + 1
    for name, most in (("RLIMIT_AS", MEMORY), ("RLIMIT_CPU", seconds), ("RLIMIT_CORE", 0)):
        with suppress(AttributeError, ValueError, OSError):  # macOS has no limit for the address space
            resource.setrlimit(getattr(resource, name), (most, most))


def look(file: Any) -> dict:
    """Return the structure of an opened file."""
    import h5py

    found = {"attributes": attributes(file), "groups": [], "datasets": [], "notes": []}
    for where, thing in walk(file, found["notes"]):
        if isinstance(thing, h5py.Dataset):
            found["datasets"].append(dataset(where, thing, found["notes"]))
        elif "/" not in where:
            found["groups"].append(where)
    return found


def walk(file: Any, notes: list[str]) -> Iterator[tuple[str, Any]]:
    """Yield the groups and datasets of an opened file without following any link twice."""
    import h5py
    from h5py import h5o  # pyright: ignore[reportAttributeAccessIssue]  (compiled, without type stubs)

    waiting, seen, objects = [("", file["/"], 0)], set(), 0
    while waiting:
        path, group, depth = waiting.pop()
        token = h5o.get_info(group.id).addr
        if token in seen:
            notes.append(f"{path[:200]} leads back to a group that is listed already.")
            continue
        seen.add(token)
        for name in group:
            objects += 1
            if objects > OBJECTS:
                raise ValueError("too many objects")
            where = f"{path}/{name}".lstrip("/")
            link = group.get(name, getlink=True)
            if not isinstance(link, h5py.HardLink):
                kind = "another file" if isinstance(link, h5py.ExternalLink) else "another name"
                notes.append(f"{where[:200]} is a link to {kind}, which is not followed.")
                continue
            kind = group.get(name, getclass=True)
            if kind is h5py.Group:
                if depth >= DEPTH:
                    raise ValueError("too deep")
                waiting.append((where, group[name], depth + 1))
            if kind in (h5py.Group, h5py.Dataset):
                yield where, group[name]


def dataset(name: str, data: Any, notes: list[str]) -> list:
    """Return [name, dtype, shape, offset] of a dataset; the offset only where its bytes lie in the file as they are."""
    layout = data.id.get_create_plist()
    outside = layout.get_external_count() > 0
    if outside or data.is_virtual:
        notes.append(f"{name[:200]} keeps its values in other files, which are not opened.")
    kind, width = data.dtype.kind, 8 * data.dtype.itemsize
    dtype = {"b": "BOOL", "O": "STRING", "S": "STRING"}.get(kind, f"{KINDS.get(kind, kind)}{width}")
    plain = data.dtype.byteorder != ">" or width == 8
    if plain and not outside and not data.is_virtual and data.chunks is None and not layout.get_nfilters():
        return [name, dtype, list(data.shape or ()), data.id.get_offset()]
    return [name, dtype, list(data.shape or ()), None]


def attributes(thing: Any) -> dict:
    """Return the attributes of a group that are texts, numbers or short lists of them."""
    import h5py

    found = {}
    for name in list(thing.attrs)[:1000]:
        about = h5py.h5a.open(thing.id, name.encode())
        if about.get_storage_size() > TEXT:
            continue
        try:
            value = thing.attrs[name]
        except (OSError, TypeError, ValueError):
            continue
        value = value.tolist() if hasattr(value, "tolist") else value
        found[name] = json.loads(json.dumps(value, default=lambda part: _text(part)))
    return found


def _text(value) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else repr(value)[:200]


def values(data: Any) -> None:
    """Write the values of a dataset to the standard output, some rows at a time."""
    notes = []
    dataset("", data, notes)
    if notes:
        raise ValueError(notes[0])
    little = data.dtype.newbyteorder("<")
    if not data.shape:
        sys.stdout.buffer.write(data[()].astype(little).tobytes())
        return
    rows = max(1, (1 << 22) // max(1, data.nbytes // max(1, len(data))))
    for start in range(0, len(data), rows):
        sys.stdout.buffer.write(data[start : start + rows].astype(little, copy=False).tobytes())


def contents(file: Any) -> None:
    """Write what may hold texts or bytes: attributes, datasets of texts and whole numbers, beginnings of packed floats.

    Whole numbers that fit into bytes are written as bytes. Ends with the notes on other files.
    """
    import h5py

    notes, room = [], ROOM
    for where, thing in [("", file), *walk(file, notes)]:
        found = [(f"{where}@{name}", thing.attrs.get_id(name), TEXT) for name in thing.attrs]
        if isinstance(thing, h5py.Dataset):
            outside = thing.id.get_create_plist().get_external_count() > 0
            if outside or (thing.is_virtual and any(one.file_name != "." for one in thing.virtual_sources())):
                notes.append(f"{where[:200]} keeps its values in other files, which are not opened.")
            elif not thing.is_virtual and (thing.dtype.kind != "f" or thing.id.get_create_plist().get_nfilters()):
                found.append((where, thing, BEGINNING if _beginning_is_all(thing) else ROOM))
        for name, value, most in found:
            try:
                parts, whole = texts(value, min(most, room))
                whole = whole or most == BEGINNING
            except (OSError, TypeError, ValueError, OverflowError):
                parts, whole = [], False
            for part in parts or [b""][: not whole]:
                room -= len(part)
                sys.stdout.buffer.write(json.dumps([name[:200], len(part), whole]).encode() + b"\n" + part)
    sys.stdout.buffer.write(json.dumps(notes[:100]).encode() + b"\n")


def _beginning_is_all(data: Any) -> bool:
    """Return whether a dataset's beginning is enough: floats, and bytes that lie in the file as they are."""
    packed = data.chunks is not None or data.id.get_create_plist().get_nfilters()
    return data.dtype.kind == "f" or (not packed and (data.dtype.kind in "SV" or data.dtype.itemsize == 1))


def texts(thing: Any, most: int) -> tuple[list[bytes], bool]:
    """Return the values of an attribute or dataset as byte strings, at most `most` bytes, and whether they are all."""
    import numpy as np

    shape, dtype = thing.shape, thing.dtype
    if shape is None or (0 in shape):
        return [], True
    count = int(np.prod(shape))
    width = max(dtype.itemsize, 1)
    rows = shape[0] if shape else 1
    fits = count * width <= most
    keep = rows if fits else max(most // max(count // rows * width, 1), 1)
    if hasattr(thing, "get_storage_size"):  # an attribute, which is read whole or not at all
        if not fits:
            return [], False
        value = np.empty(shape, dtype)
        thing.read(value, mtype=None)
    else:
        value = np.asarray(thing[:keep] if shape else thing[()], dtype)
    return list(flat(value))[:VALUES], fits and (count <= VALUES or dtype.kind != "O")


def flat(value: Any) -> Iterator[bytes]:
    """Yield an array as byte strings: its texts one at a time, its numbers in one piece."""
    if value.dtype.names:
        for name in value.dtype.names:
            yield from flat(value[name])
    elif value.dtype.kind == "O":
        for part in value.reshape(-1):
            if isinstance(part, str):
                yield part.encode("utf-8", "surrogateescape")
            elif isinstance(part, bytes):
                yield part
            elif hasattr(part, "dtype"):
                yield from flat(part)
    elif value.dtype.kind in "SV" and value.size <= VALUES:
        yield from (part.tobytes() for part in value.reshape(-1))
    elif value.dtype.kind in "iu" and value.dtype.itemsize > 1 and value.size:
        small = -128 <= int(value.min()) and int(value.max()) <= 255
        yield (value.astype("u1") if small else value).tobytes()
    else:
        yield value.tobytes()


def main(path: str, first: str, count: str, kind: str, name: str = "") -> None:
    """Print what is in the file, what it holds of texts and bytes, or the values of one dataset."""
    try:
        import h5py
    except Exception as error:  # half installed, or made for another NumPy
        print(f"{type(error).__name__}: {error}"[:300], file=sys.stderr)
        sys.exit(OURS)
    limit(CPU + (0 if kind == "structure" else int(count) >> 22))
    with h5py.File(FileSection(path, int(first), int(count)), "r") as file:
        if kind == "values":
            values(file[name])
        elif kind == "contents":
            contents(file)
        else:
            sys.stdout.write(json.dumps(look(file)))


if __name__ == "__main__":
    main(*sys.argv[1:])
