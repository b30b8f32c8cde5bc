"""Read a file by position, and check every length against the file's size before reading."""

import json
from collections.abc import Callable, Iterator
from functools import lru_cache, wraps
from pathlib import Path
from typing import Any

from llmnotes.errors import FileBroken, FileUnreadable
from llmnotes.formats.results import NOT_READ, Tensor, counted

CHUNK = 1 << 22  # bytes that travel at a time
HEADER_LIMIT = 10_000_000  # bytes of JSON that a header may have: a hundred thousand tensors
METADATA_LIMIT = 40_000_000  # bytes of binary metadata: vocabularies of a million tokens
POINTER = b"version https://git-lfs"  # how the note begins that Git LFS leaves in a file's place


class Source:
    """A file opened for reading by position. Every length is checked against the file's size before a byte is read.

    The file is never mapped into memory: if it shrinks while we read it, that is an error and not a crash.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        try:
            if not self.path.is_file():
                raise FileUnreadable(_why_no_file(self.path))
            self.file = open(self.path, "rb", buffering=0)
            self.size = self.file.seek(0, 2)
        except OSError as error:
            raise FileUnreadable(f"{self.path} cannot be read ({error.strerror}); check its permissions.") from None

    def __enter__(self) -> "Source":
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def read(self, offset: int, count: int) -> bytes:
        """Return `count` bytes from `offset`; raise `FileBroken` where the file has fewer."""
        self.inside(offset, count)
        self.file.seek(offset)
        parts = []
        while count:
            part = self.file.read(min(count, 1 << 26))
            if not part:
                raise self.broken("it became shorter while it was being read")
            parts.append(part)
            count -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def inside(self, offset: int, count: int) -> None:
        """Raise `FileBroken` where the file has fewer than `count` bytes from `offset`."""
        if offset < 0 or count < 0 or offset + count > self.size:
            raise self.broken(f"it says there are {count:,} bytes at {offset:,}, and it has {self.size:,} in all")

    def once(self, function: "Callable[[Source], Any]") -> Any:
        """Return `function(self)`, computed once and then cached, so that identifying a file twice costs nothing."""
        known = self.__dict__.setdefault("known", {})
        if function not in known:
            known[function] = function(self)
        return known[function]

    def head(self, count: int) -> bytes:
        """Return the first `count` bytes, or all there are."""
        return self.read(0, min(count, self.size))

    def stream(self, offset: int, count: int, chunk: int = CHUNK) -> Iterator[bytes]:
        """Yield `count` bytes from `offset`, at most `chunk` at a time."""
        end = offset + count
        if end > self.size:
            self.read(offset, count)  # raises the sentence
        for position in range(offset, end, chunk):
            yield self.read(position, min(chunk, end - position))

    def json(self, offset: int, count: int, unique: bool = True) -> dict:
        """Return the JSON object in `count` bytes from `offset`; `FileBroken` if it is not valid."""
        if count > HEADER_LIMIT:
            raise self.broken(f"its header claims {count:,} bytes, more than any model needs")
        return self.parse(self.read(offset, count), unique)

    def parse(self, text: bytes, unique: bool = True) -> dict:
        """Return the JSON object in `text`; `FileBroken` if it is not one, or for a duplicate key unless allowed."""

        def once(pairs):
            keys = dict(pairs)
            if unique and len(keys) != len(pairs):
                raise self.broken("its JSON has the same key twice")
            return keys

        try:
            value = json.loads(text.decode("utf-8"), object_pairs_hook=once)
        except (ValueError, RecursionError):
            raise self.broken("its JSON is not valid") from None
        if not isinstance(value, dict):
            raise self.broken("its JSON is no object")
        return value

    def shape(self, sides: Any, where: str) -> tuple[int, ...]:
        """Return `sides` as a shape, if it is a short list of whole numbers from 0 to 2**63."""
        valid = isinstance(sides, list | tuple) and len(sides) <= 64
        if not valid or not all(type(side) is int and 0 <= side < 1 << 63 for side in sides):
            raise self.broken(f"the shape of {where[:80]!r} is not a list of sizes")
        return tuple(sides)

    def broken(self, what: str) -> FileBroken:
        """Return the error that says what is wrong with this file, or that Git LFS has not brought it."""
        if is_pointer(self.path):
            return FileBroken(
                f"{self.path.name} is Git LFS's note of where the file lies, and not the file; bring it with: git lfs "
                "pull"
            )
        return FileBroken(f"{self.path.name} is damaged: {what}; copy or download it again.")


def is_pointer(path: Path) -> bool:
    """Return whether Git LFS has left its note in a file's place."""
    try:
        with open(path, "rb") as file:
            return file.read(len(POINTER)) == POINTER
    except (OSError, ValueError):
        return False


def refuse_pointer(path: Path) -> None:
    """Raise `FileBroken` for a file in whose place Git LFS has left its note."""
    if is_pointer(path):
        with Source(path) as source:
            raise source.broken("it is a note")


def behind(source: Source, end: int, padding: int = 0) -> list[str]:
    """Return a note on what follows the `end` of all that was read; up to `padding` zeros are none."""
    rest = source.size - end
    if rest <= padding and not any(source.read(end, rest)):
        return []
    return [f"Behind its end lies something else: {counted(rest, 'byte')}, {NOT_READ}."]


def encodable(text: str) -> bool:
    """Return whether UTF-8 has bytes for a text; half of a surrogate pair, which JSON can hold, has none.

    >>> encodable("ë"), encodable("\\ud800")
    (True, False)
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def stored(tensor: Tensor) -> Iterator[bytes]:
    """Yield the bytes of a tensor as they lie in its file, at most `CHUNK` at a time."""
    path, offset = place_of(tensor)
    with Source(path) as source:
        yield from source.stream(offset, tensor.nbytes)


def place_of(tensor: Tensor) -> tuple[Path, int]:
    """Return the file of a tensor that lies in it as it is, and its first byte; `FileBroken` if it no longer does."""
    if tensor.path is None or tensor.offset is None:
        raise FileBroken(f"The file of {tensor.name[:80]} changed while it was read; run the command again.")
    return tensor.path, tensor.offset


def remembered(files: int) -> Callable[[Callable], Callable]:
    """Decorate `function(path)`, whose answers about the last few `files` are kept until the file changes.

    Use it for facts about a file that are needed again for each of its tensors.
    """

    def decorate(function):
        kept = lru_cache(maxsize=files)(lambda path, changed, size: function(path))

        @wraps(function)
        def ask(path: Path):
            try:
                facts = path.stat()
            except OSError:
                return function(path)  # which has the sentence for it
            return kept(path, facts.st_mtime_ns, facts.st_size)

        return ask

    return decorate


def _why_no_file(path: Path) -> str:
    if path.is_symlink():
        return f"{path} is a link that leads nowhere; point it at the file again."
    if path.is_dir():
        return f"{path} is a folder, and a file is needed here; name the file in it."
    if path.exists():
        return f"{path} is no ordinary file; copy its content to one."
    return f"There is no file {path}; check the path (a relative one starts at the folder you are in)."
