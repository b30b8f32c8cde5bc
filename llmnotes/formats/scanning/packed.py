"""Packed files, such as joblib writes, unpacked for the scanner as joblib and Python's own modules unpack them."""

import bz2
import lzma
import re
import zlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from llmnotes.formats import zips
from llmnotes.formats.files import Source
from llmnotes.formats.scanning.pickled import look_for_pickles
from llmnotes.formats.scanning.state import MEMBER_LIMIT, Search

MEMORY = 1 << 28  # bytes that unpacking lzma may take
FEW = 512  # packed bytes that are unpacked at a time: what a loader gets before an error must be seen
ZFILE = 21  # bytes before the packed ones in files of joblib 0.9: ZF, and how many come out
ENDINGS = re.compile(r"\.(bz2|gz|lz|lzma|xz|z|zlib)$", re.IGNORECASE)


class Packing(NamedTuple):
    """How a file is packed: where the packed bytes begin, and what unpacks them, or None where nothing here does."""

    start: int
    unpacker: Callable[[], Any] | None


def _lzma() -> lzma.LZMADecompressor:
    return lzma.LZMADecompressor(memlimit=MEMORY)


def _zlib() -> Any:
    return zlib.decompressobj()


def _gzip() -> Any:
    return zlib.decompressobj(31)


UNPACKERS: dict[bytes, Callable[[], Any] | None] = {
    b"\x1f\x8b": _gzip,
    b"BZh": bz2.BZ2Decompressor,
    b"\xfd7zXZ": _lzma,
    b"LZIP": _lzma,
    **dict.fromkeys((b"x\x01", b"x\x5e", b"x\x9c", b"x\xda"), _zlib),
    # 7z, Rar, lzop, Zstandard, LZ4 in two ages, and what may stand before the last two
    **dict.fromkeys((b"7z\xbc\xaf'\x1c", b"Rar!", b"\x89LZO", b"(\xb5/\xfd", b'\4"M\x18', b"\2!L\x18")),
    **{bytes([code]) + b"*M\x18": None for code in range(0x50, 0x60)},
}


def packing(head: bytes, where: str) -> Packing | None:
    """Return how the file at `where`, which begins with `head`, is packed, or None where it isn't."""
    for start, unpacker in UNPACKERS.items():
        if head.startswith(start):
            return Packing(0, unpacker)
    if head[:2] == b"ZF" and len(head) > ZFILE:
        try:
            int(head[2:ZFILE], 16)
        except ValueError:
            return None
        return Packing(ZFILE + (head[ZFILE : ZFILE + 1] == b" "), _zlib)
    return Packing(0, _lzma) if _is_lzma(head) or where.lower().endswith(".lzma") else None


def _is_lzma(head: bytes) -> bool:
    """Return whether bytes begin like lzma without a container: 5D, the dictionary's size, and the size of the whole.

    The dictionary's is 0, all ones, a power of 2, or the middle between two: liblzma takes no other.
    """
    dictionary, size = int.from_bytes(head[1:5], "little"), int.from_bytes(head[5:13], "little")
    known = f"{dictionary:b}".rstrip("0") in ("", "1", "11", "1" * 32)
    return head[:1] == b"]" and len(head) > 13 and known and (size < 1 << 38 or size == (1 << 64) - 1)


def look_into_packed(search: Search, source: Source, where: str, how: Packing, depth: int) -> None:
    """Unpack what gzip, bzip2, xz, lzma or zlib has packed, several in a row, too, and look into that."""
    if how.unpacker is None:
        search.add(where, "suspicious", "is packed in a way that is not read here; unpack it and scan what comes out")
        return
    limit = max(min(MEMBER_LIMIT, search.bytes), 0)
    data, whole = _unpacked(source, how.start, how.unpacker, limit)
    search.bytes -= len(data)
    if data:
        search.look_inside(zips.SourceInMemory(source.path, data), _inside(where), depth)
    look_for_pickles(search, source, where, raw=True)  # what begins like bzip2 can be a long string of a pickle, too
    if not whole and not (source.head(2) == b"x^" and source.head(64).isascii()):  # texts begin with x^, too
        search.add(where, "suspicious", f"could be unpacked for {len(data):,} bytes only; not all of it was read")


def _inside(where: str) -> str:
    """Return the place of what comes out: its name without the ending that says how it was packed."""
    name = ENDINGS.sub("", where)
    return where if name == where else f"{where}:{re.split('[/:]', name)[-1]}"


def _unpacked(source: Source, start: int, make: Callable[[], Any], limit: int) -> tuple[bytes, bool]:
    """Return at most `limit` bytes of what is packed, and whether that is all and nothing else stands behind it."""
    parts, size, unpacker = [], 0, make()
    try:
        for piece in _pieces(source, start):
            while piece or not (unpacker.eof or getattr(unpacker, "needs_input", True)):
                if unpacker.eof:  # another one follows, or zeros
                    piece = piece.lstrip(b"\0")
                    if not piece:
                        break
                    unpacker = make()
                part = unpacker.decompress(piece, min(8 * FEW, max(limit - size, 1)))
                parts.append(part)
                size += len(part)
                if size > limit:
                    return b"".join(parts)[:limit], False
                piece = unpacker.unused_data if unpacker.eof else getattr(unpacker, "unconsumed_tail", b"")
    except (zlib.error, lzma.LZMAError, OSError, ValueError, EOFError, MemoryError):
        return b"".join(parts), False
    return b"".join(parts), unpacker.eof


def _pieces(source: Source, start: int) -> Iterator[bytes]:
    for piece in source.stream(start, max(source.size - start, 0), 1 << 16):
        for at in range(0, len(piece), FEW):
            yield piece[at : at + FEW]
