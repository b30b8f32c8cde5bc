"""Pickles and configurations of Keras in a file of HDF5: in its bytes, and in its values as libhdf5 unpacks them."""

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass

from llmnotes.errors import FileBroken, MissingPart
from llmnotes.formats.files import Source
from llmnotes.formats.pickles import Pickle, PickleStream, trace
from llmnotes.formats.pickles.instructions import PROTOCOL
from llmnotes.formats.scanning.names import could_exist, judge
from llmnotes.formats.scanning.settings import LAMBDA, LAMBDA_FOUND, PIECE, look_into_text, pieces
from llmnotes.formats.scanning.state import Search

WINDOW = 1 << 14  # bytes from a place that are tried as a pickle before more is read
OVERLAP = 256
FEW = 8  # instructions that any place may have: numbers that look like a pickle break off before
BEYOND = 300_000  # instructions that all places of a file may have beyond those: some seconds
# How a pickle may begin, what imports in one (GLOBAL, INST), and the two texts that STACK_GLOBAL takes.
SIGNATURE = re.compile(rb"\x80[\x02-\x05]")
LINES = re.compile(rb"[ci][A-Za-z_][\w.]{0,200}\n[A-Za-z_][\w.]{0,200}\n")
STACK_GLOBAL = 0x93
KEPT = rb"(?:p\d+\n|\x94|q.|r....)?"  # in the memo
TEXTS = re.compile(
    rb"(?:(?:[VS][^\n]{1,80}\n" + KEPT + rb"){2}|(?:(?:[\x8cUC].|[XTB].\0\0\0)[A-Za-z_][\w.]{0,80}" + KEPT + rb"){2})$",
    re.DOTALL,
)
BEFORE = 200  # bytes before STACK_GLOBAL in which its texts are looked for
ENDS = frozenset(b"\n\x94" + bytes(byte for byte in range(128) if chr(byte).isalnum() or byte == 95))
MARK = b"("  # what INST takes back to, which may stand anywhere before it


@dataclass
class _Tries:
    """How many instructions may still be followed at all places of a file together."""

    left: int

    def trace(self, stream: io.BytesIO | PickleStream) -> Pickle:
        """Follow the pickle that may begin here."""
        pickle = trace(stream, max(self.left, 0) + FEW)
        self.left -= max(pickle.steps - FEW, 0)
        return pickle


def look_into_hdf5(search: Search, source: Source, where: str) -> None:
    """Judge pickles that lie anywhere in a file of HDF5, and the texts in it that describe a model of Keras.

    Its bytes are searched as they lie, and its values as they are unpacked: attributes, texts and whole numbers.
    """
    from llmnotes.formats.legacy.keras import contents

    if any(LAMBDA.search(piece) for piece in pieces(source)):
        search.add(where, "dangerous", LAMBDA_FOUND)
    tries = _Tries(BEYOND)
    _look_anywhere(search, source, where, tries)
    try:
        values, notes = contents(source)
    except (FileBroken, MissingPart) as error:
        search.add(where, "suspicious", f"has values that were not unpacked: {error}")
        return
    for note in notes:
        if "other files" in note or "another file" in note:
            search.add(where, "suspicious", note)
    for name, value, whole in values:
        place = f"{where} ({name})"
        look_into_text(search, value, place)
        pickle = trace(io.BytesIO(value), max(search.steps, 1))
        search.steps -= pickle.steps
        if not whole:
            search.add(place, "no pickle", "is larger than what is read here, or packed in a way that is unknown here")
        if not whole and signed(value) and pickle.imports:
            search.add(place, "suspicious", "begins like a pickle and is longer than what is read here")
        _judge_value(search, place, value, pickle)
        for start in _starts(value, len(value)):
            _judge_place(search, value[start : start + WINDOW], f"{place}, byte {start:,}", tries)
        if search.steps <= 0 or tries.left <= 0:
            search.add(where, "suspicious", "has more that may be a pickle than is tried here")
            return


def signed(value: bytes) -> bool:
    """Return whether bytes begin with a pickle's protocol."""
    return len(value) > 1 and value[0] == 0x80 and value[1] <= PROTOCOL


def _judge_value(search: Search, place: str, value: bytes, pickle: Pickle) -> None:
    """Judge a value that is a pickle from its first byte: unknown names count where it is one to its end."""
    is_one = not pickle.broken and (signed(value) or (pickle.steps > 1 and not value[pickle.end :].strip(b"\0")))
    if is_one and (signed(value) or pickle.imports):
        search.pickles += 1
    for found in pickle.imports:
        verdict = judge(found.module, found.name)
        if verdict == "dangerous" or (verdict == "suspicious" and is_one):
            search.add(place, verdict, f"holds a pickle that imports {str(found)[:200]}")


def _look_anywhere(search: Search, source: Source, where: str, tries: _Tries) -> None:
    """Judge pickles that may begin at any byte of a file."""
    for at in range(0, source.size, PIECE):
        piece = source.read(at, min(PIECE + WINDOW, source.size - at))
        for start in _starts(piece, PIECE + OVERLAP):
            place = f"{where} (byte {at + start:,})"
            # Most places are left at once; what goes on to the end of the window is followed in the file.
            if _judge_place(search, piece[start : start + WINDOW], place, tries):
                _add(search, place, tries.trace(PickleStream(source, at + start)))
            if tries.left <= 0:
                search.add(where, "suspicious", "has more places that may begin a pickle than are tried here")
                return


def _starts(data: bytes, end: int) -> Iterator[int]:
    """Yield where a pickle may begin, or the instruction that imports in one."""
    for pattern in (SIGNATURE, LINES):
        yield from (match.start() for match in pattern.finditer(data, 0, end))
    at = data.find(STACK_GLOBAL)
    while 0 <= at < end:
        if data[at - 1] in ENDS or data[max(at - 2, 0)] == ord("q") or data[max(at - 5, 0)] == ord("r"):
            first = max(at - BEFORE, 0)
            if found := TEXTS.search(data[first:at]):
                yield first + found.start()
        at = data.find(STACK_GLOBAL, at + 1)


def _judge_place(search: Search, window: bytes, place: str, tries: _Tries) -> bool:
    """Judge the pickle that begins a window of bytes; return whether it goes on behind it."""
    stream = io.BytesIO(MARK + window if window[:1] == b"i" else window)
    pickle = tries.trace(stream)
    _add(search, place, pickle)
    return bool(pickle.broken) and not stream.read(1)


def _add(search: Search, place: str, pickle: Pickle) -> None:
    for found in pickle.imports:
        # A list of words may read like imports: without a call, only names that exist count.
        exists = bool(pickle.calls) or could_exist(found.module, found.name)
        if exists and judge(found.module, found.name) == "dangerous":
            search.add(place, "dangerous", f"holds a pickle that imports {str(found)[:200]}")
