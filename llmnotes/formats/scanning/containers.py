"""Archives, packed files and NumPy's arrays, opened for the scanner as their loaders open them.

Where two loaders may see two different things in one file, that is a finding.
"""

import ast
import bz2
import lzma
import struct
import tarfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from math import prod
from typing import TYPE_CHECKING, Any

from llmnotes.formats import zips
from llmnotes.formats.files import Source
from llmnotes.formats.scanning import pickled
from llmnotes.formats.scanning.state import FILES_LIMIT, MEMBER_LIMIT, Search

NPY_HEAD = 1 << 17  # bytes in which NumPy's header must end

if TYPE_CHECKING:
    import numpy as np

# How packed files begin, and what unpacks them a piece at a time; None where nothing here does.
PACKED: Mapping[bytes, Callable[[], Any] | None] = {
    b"\x1f\x8b": lambda: zlib.decompressobj(31),
    b"BZh": bz2.BZ2Decompressor,
    b"\xfd7zXZ\0": lzma.LZMADecompressor,
    b"]\0\0": lambda: lzma.LZMADecompressor(lzma.FORMAT_ALONE),
    b"]\0\x10": lambda: lzma.LZMADecompressor(lzma.FORMAT_ALONE),
    b"7z\xbc\xaf'\x1c": None,
    b"(\xb5/\xfd": None,
    b"Rar!": None,
    b'\4"M\x18': None,
    b"ZF": None,
} | {start: zlib.decompressobj for start in (b"x\x01", b"x\x5e", b"x\x9c", b"x\xda")}


def look_into_zip(search: Search, source: Source, where: str, depth: int) -> None:
    """Look into every member of a zip archive; where its directory is at fault, into all that has a header, too."""
    found, problems = zips.directory(source)
    is_zip = source.head(2) == b"PK" or bool(found)
    encrypted = [problem for problem in problems if problem.endswith(zips.ENCRYPTED)]  # a name may say so, too
    for problem in problems:
        if problem in encrypted:
            search.add(where, "no pickle", f"{problem}; it was not read, and no loader opens it without its password")
        elif is_zip:
            search.add(where, "suspicious", f"{problem}, so that readers may disagree about what is in it")
    names = {entry.name.split("/", 1)[-1] for entry in found}
    outer = search.torchscript, search.torch
    search.torchscript, search.torch = {"constants.pkl", "data.pkl"} <= names, "data.pkl" in names
    for entry in found:
        _look_into_member(search, source, f"{where}:{entry.name}", entry, depth)
    if is_zip and len(problems) > len(encrypted):
        for entry in _by_their_headers(source, MEMBER_LIMIT):
            if entry not in found:
                _look_into_member(search, source, f"{where}:{entry.name} (by its own header)", entry, depth)
    search.torchscript, search.torch = outer


def _look_into_member(search: Search, source: Source, where: str, entry: zips.Entry, depth: int) -> None:
    """Look into one member of a zip archive, where it lies or unpacked."""
    search.members -= 1
    if search.members < 0:
        search.add(where.split(":")[0], "suspicious", f"holds more than {FILES_LIMIT:,} members; not all were read")
        return
    if entry.method == zips.STORED:
        search.look_inside(zips.SourceSection(source, entry.offset, entry.size), where, depth)
        return
    if entry.size > NPY_HEAD and _plain_array(zips.beginning(source, entry, NPY_HEAD), entry.size):
        return  # numbers alone, however many: what is large in an npz
    search.bytes -= entry.size
    if entry.size > MEMBER_LIMIT or search.bytes < 0:
        search.add(where, "suspicious", f"would unpack to {entry.size:,} bytes, more than is read here")
        return
    data = zips.content(source, entry, MEMBER_LIMIT, strict=False)
    search.look_inside(zips.SourceInMemory(source.path, data), where, depth)


def _by_their_headers(source: Source, limit: int) -> Iterator[zips.Entry]:
    """Yield what looks like an entry by its own header, in the first `limit` bytes, whatever a directory says."""
    data = source.head(limit)
    at = data.find(b"PK\3\4")
    while 0 <= at <= len(data) - 30:
        flags, method, crc, packed, size, name_length, extra_length = struct.unpack_from("<HH4xIIIHH", data, at + 6)
        offset = at + 30 + name_length + extra_length
        following = data.find(b"PK\3\4", at + 4)
        if method in (zips.STORED, zips.DEFLATED) and not flags & 1 and offset <= source.size:
            if flags & 8 or packed > source.size - offset:  # the sizes stand behind the entry, or are wrong
                packed = (following if following > offset else source.size) - offset
                size = packed if method == zips.STORED else min(packed * zips.RATIO, limit)
            name = data[at + 30 : at + 30 + name_length].split(b"\0")[0].decode("utf-8", "replace")
            if method == zips.DEFLATED or size == packed:
                yield zips.Entry(name, at, offset, packed, min(size, limit), method, crc)
        at = following


def packing(head: bytes) -> bytes | None:
    """Return how a packed file begins, or None for any other."""
    return next((start for start in PACKED if head.startswith(start)), None)


def look_into_packed(search: Search, source: Source, where: str, kind: bytes, depth: int) -> None:
    """Unpack what gzip, bzip2, xz, lzma or zlib has packed, as joblib writes it, and look into that."""
    unpacker = PACKED[kind]
    if unpacker is None:
        search.add(where, "suspicious", "is packed in a way that is not read here; unpack it and scan what comes out")
        return
    limit = max(min(MEMBER_LIMIT, search.bytes), 0)
    data, whole = _unpacked(source, unpacker(), limit)
    search.bytes -= len(data)
    if data:
        search.look_inside(zips.SourceInMemory(source.path, data), where, depth)
    if not whole:
        if data or kind not in (b"x\x01", b"x\x5e", b"x\x9c", b"x\xda"):  # texts begin with an x, too
            search.add(where, "suspicious", f"could be unpacked for {len(data):,} bytes only; not all of it was read")
        else:
            pickled.look_for_pickles(search, source, where)


def _unpacked(source: Source, unpacker: Any, limit: int) -> tuple[bytes, bool]:
    """Return at most `limit` bytes of what is packed, and whether that is all and nothing stands behind it."""
    parts, size = [], 0
    try:
        for piece in source.stream(0, source.size, 1 << 16):
            while piece or not getattr(unpacker, "needs_input", True):
                part = unpacker.decompress(piece, max(limit - size, 1))
                parts.append(part)
                size += len(part)
                if size > limit:
                    return b"".join(parts)[:limit], False
                piece = getattr(unpacker, "unconsumed_tail", b"")
                if unpacker.eof:
                    return b"".join(parts), not unpacker.unused_data
    except (zlib.error, lzma.LZMAError, OSError, ValueError, EOFError):
        pass
    return b"".join(parts), False


def is_tar(head: bytes) -> bool:
    """Return whether 512 bytes carry the checksum of a tar header, counted with or without signs."""
    if len(head) < 512 or not any(head):
        return False
    try:
        return tarfile.nti(head[148:156]) in tarfile.calc_chksums(head)  # pyright: ignore[reportAttributeAccessIssue]
    except tarfile.HeaderError:
        return False


class _AsFile:
    """A source as the file that `tarfile` reads."""

    def __init__(self, source: Source):
        self.source, self.at = source, 0

    def read(self, count: int = -1) -> bytes:
        left = max(self.source.size - self.at, 0)
        data = self.source.read(self.at, left if count < 0 else min(count, left, 1 << 26))
        self.at += len(data)
        return data

    def seek(self, at: int, whence: int = 0) -> int:
        self.at = at + (0, self.at, self.source.size)[whence]
        return self.at

    def tell(self) -> int:
        return self.at


def look_into_tar(search: Search, source: Source, where: str, depth: int) -> None:
    """Look into every member of a tar archive, as Python's tarfile, which PyTorch uses, finds them."""
    last, name = 0, source.head(100).split(b"\0")[0].decode("utf-8", "replace")
    try:
        with tarfile.open(fileobj=_AsFile(source), mode="r:", errorlevel=2) as archive:  # pyright: ignore
            for member in archive:
                name = member.name
                search.members -= 1
                if search.members < 0 or member.offset_data + member.size > source.size or member.issparse():
                    raise tarfile.ReadError
                if member.isreg():
                    section = zips.SourceSection(source, member.offset_data, member.size)
                    search.look_inside(section, f"{where}:{name[:80]}", depth)
                last = member.offset_data + (member.size + 511) // 512 * 512
        if any(source.read(last, min(source.size - last, 1 << 20))):  # it ends where the next header is damaged
            raise tarfile.ReadError
    except (tarfile.TarError, OSError, ValueError, OverflowError):
        search.add(where, "suspicious", f"the tar archive cannot be read beyond {name[:80]!r}")


def look_into_npy(search: Search, source: Source, where: str) -> None:
    """Look for pickles behind NumPy's header, unless it describes numbers, and just as many bytes as there are."""
    head = source.head(NPY_HEAD)
    if _plain_array(head, source.size):
        return
    start = _npy_start(head)
    if start > source.size:
        search.add(where, "suspicious", "its NumPy header is longer than the file")
        return
    if _described(head) is None:
        search.add(where, "suspicious", "its NumPy header is no plain description of an array")
    pickled.look_for_pickles(search, source, where, start, raw=_described(head) is not None)


def _npy_start(head: bytes) -> int:
    """Return where the elements of an array begin."""
    width = 2 if head[6:7] == b"\1" else 4
    return 8 + width + int.from_bytes(head[8 : 8 + width], "little")


def _described(head: bytes) -> "tuple[np.dtype, tuple] | None":
    """Return the dtype and shape that NumPy's header states, or None where NumPy would not understand it."""
    import numpy as np

    start = _npy_start(head)
    width = 2 if head[6:7] == b"\1" else 4
    if not head.startswith(b"\x93NUMPY") or start > len(head):
        return None
    try:
        header = ast.literal_eval(head[8 + width : start].decode("latin-1").strip())
        dtype, shape = np.dtype(header["descr"]), header["shape"]
        if not all(type(side) is int and side >= 0 for side in shape):
            return None
    except (ValueError, SyntaxError, TypeError, KeyError, MemoryError, RecursionError):
        return None
    return dtype, tuple(shape)


def _plain_array(head: bytes, size: int) -> bool:
    """Return whether a file of `size` bytes holds numbers alone behind the header in `head`, and fills them."""
    described = _described(head)
    if described is None or described[0].hasobject:
        return False
    return _npy_start(head) + described[0].itemsize * prod(described[1]) == size
