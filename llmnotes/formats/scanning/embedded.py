"""Pickles that lie anywhere in a file, such as in the attributes and datasets of HDF5."""

import io
import re

from llmnotes.formats.files import Source
from llmnotes.formats.pickles import Pickle, PickleStream, trace
from llmnotes.formats.scanning.names import could_exist, judge
from llmnotes.formats.scanning.state import Search

PIECE = 1 << 22  # bytes that are searched at a time
OVERLAP = 256  # longer than what a pickle begins with
WINDOW = 1 << 14  # bytes from a place that are tried as a pickle before more is read
FEW = 8  # instructions that any place may have: numbers that look like a pickle break off before
BEYOND = 300_000  # instructions that all places of a file may have beyond those: some seconds
BEGINNING = re.compile(rb"\x80[\x02-\x05]|c[A-Za-z_][\w.]*\n[A-Za-z_][\w.]*\n|i[A-Za-z_][\w.]*\n[A-Za-z_][\w.]*\n")


def look_for_embedded(search: Search, source: Source, where: str) -> None:
    """Judge what may be a pickle anywhere in a file, and import or call something dangerous."""
    left = BEYOND
    for at in range(0, source.size, PIECE):
        piece = source.read(at, min(PIECE + WINDOW, source.size - at))
        for start in (match.start() for match in BEGINNING.finditer(piece, 0, PIECE + OVERLAP)):
            window = io.BytesIO(piece[start : start + WINDOW])
            pickle = trace(window, left + FEW)
            left -= max(pickle.steps - FEW, 0)
            # Most places are left at once; what goes on to the end of the window is followed in the file.
            if pickle.broken and not window.read(1):
                pickle = trace(PickleStream(source, at + start), left + FEW)
                left -= max(pickle.steps - FEW, 0)
            for name in sorted(_dangerous(pickle)):
                place = f"{where} (byte {at + start:,})"
                search.add(place, "dangerous", f"holds a pickle that imports {name[:200]}")
            if left <= 0:
                search.add(where, "suspicious", "has more places that may begin a pickle than are tried here")
                return


def _dangerous(pickle: Pickle) -> set[str]:
    names = {(found.module, found.name) for found in pickle.imports}
    if not pickle.calls:  # a list of words may read like imports
        names = {name for name in names if could_exist(*name)}
    return {f"{module}.{name}" for module, name in names if judge(module, name) == "dangerous"}
