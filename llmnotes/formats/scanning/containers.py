"""Zip archives, opened for the scanner as their loaders open them.

Where two loaders may see two different things in one file, that is a finding.
"""

import struct
from collections.abc import Iterator

from llmnotes.formats import zips
from llmnotes.formats.files import Source
from llmnotes.formats.scanning import arrays
from llmnotes.formats.scanning.state import FILES_LIMIT, MEMBER_LIMIT, Search


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
    if entry.size > arrays.HEAD and arrays.is_plain_array(zips.beginning(source, entry, arrays.HEAD), entry.size):
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
