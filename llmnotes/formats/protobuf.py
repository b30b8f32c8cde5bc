"""Protocol Buffers' wire format: numbered fields one after the other, the payloads skipped and not read.

A message does not say what it is: the meaning of a field's number stands in a schema elsewhere. ONNX, TensorFlow and
SentencePiece each have one; this module knows none of them.
"""

from collections.abc import Iterator
from typing import NamedTuple

from llmnotes.errors import FileBroken
from llmnotes.formats.files import METADATA_LIMIT, Source

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5  # wire types; 3 and 4 (groups) are out of use
FIELDS_LIMIT = 400_000  # fields read in one file: a graph of 50,000 operators, or two seconds
VOCABULARY_LIMIT = 1_500_000  # for a caller who expects a vocabulary: 300,000 tokens
WINDOW = 1 << 13  # bytes read at a time around a position


class Field(NamedTuple):
    """One field: its number, its wire type, its value if that is a number, and where its payload lies."""

    number: int
    wire: int
    value: int | None  # unsigned, for VARINT, FIXED64 and FIXED32; None for LENGTH
    start: int
    end: int


class Message:
    """The fields of a file, or of bytes in memory. Positions count from the beginning of the file or of the bytes.

    Nothing here follows nested messages by itself, so no nesting is too deep: a caller who knows that a field holds a
    message asks for its fields with `inside`. Every length is checked against the message around it.

    >>> [(field.number, field.value) for field in Message(b"\\x08\\x96\\x01").fields()]
    [(1, 150)]
    """

    def __init__(self, source: Source | bytes, limit: int = FIELDS_LIMIT):
        self.source = source
        self.limit = self.left = limit
        self.room = METADATA_LIMIT
        # the bytes that were read ahead, and the position of the first of them
        self.window, self.first = (source if isinstance(source, bytes) else b""), 0
        self.size = len(source) if isinstance(source, bytes) else source.size

    @property
    def file(self) -> Source:
        """The file that the message is read from; only for a message that is not in memory."""
        assert isinstance(self.source, Source)
        return self.source

    def fields(self, start: int = 0, end: int | None = None) -> Iterator[Field]:
        """Yield the fields of the message at `start:end`, by default all there is; `FileBroken` if it is none."""
        position, end = start, self.size if end is None else end
        while position < end:
            self.left -= 1
            if self.left < 0:
                raise self.broken(f"it has more than {self.limit:,} fields")
            key, position = self.varint(position, end)
            number, wire = key >> 3, key & 7
            value = None
            if wire == VARINT:
                start = position
                value, position = self.varint(position, end)
            elif wire == LENGTH:
                length, start = self.varint(position, end)
                position = start + length
            elif wire in (FIXED64, FIXED32):
                start, position = position, position + (8 if wire == FIXED64 else 4)
            else:
                raise self.broken(f"at byte {position:,} it has a field of wire type {wire}")
            if not 0 < number < 1 << 29 or position > end:
                raise self.broken(f"the field at byte {start:,} reaches beyond its message, or has no valid number")
            if wire in (FIXED64, FIXED32):
                value = int.from_bytes(self._read(start, position), "little")
            yield Field(number, wire, value, start, position)

    def inside(self, field: Field) -> Iterator[Field]:
        """Yield the fields of the message that `field` holds."""
        if field.wire != LENGTH:
            raise self.broken(f"field {field.number} at byte {field.start:,} is a number, and no message")
        return self.fields(field.start, field.end)

    def payload(self, field: Field, limit: int = METADATA_LIMIT) -> bytes:
        """Return the bytes in `field`; `FileBroken` for a number, and for more than `limit` bytes.

        All payloads of a file together may have `METADATA_LIMIT` bytes.
        """
        self.room -= field.end - field.start
        if field.wire != LENGTH or field.end - field.start > limit or self.room < 0:
            raise self.broken(f"field {field.number} at byte {field.start:,} is no text of at most {limit:,} bytes")
        return self._read(field.start, field.end)

    def text(self, field: Field, limit: int = 1 << 20) -> str:
        """Return the payload of `field` as text; bytes that are no UTF-8 are replaced."""
        return self.payload(field, limit).decode("utf-8", "replace")

    def numbers(self, field: Field, limit: int = 1 << 20) -> list[int]:
        """Return the whole numbers of one repeated field: a single one, or at most `limit` bytes of packed ones."""
        if field.wire == LENGTH and field.end - field.start > limit:
            raise self.broken(f"field {field.number} at byte {field.start:,} is no list of at most {limit:,} bytes")
        return list(self.each_number(field))

    def each_number(self, field: Field) -> Iterator[int]:
        """Yield the whole numbers of one repeated field, of any length."""
        if field.value is not None:
            yield field.value
            return
        position = field.start
        while position < field.end:
            value, position = self.varint(position, field.end)
            yield value

    def broken(self, what: str) -> FileBroken:
        """Return the error that says what is wrong with these bytes."""
        if isinstance(self.source, bytes):
            return FileBroken(f"A message in a file is damaged: {what}; copy or download the file again.")
        return self.source.broken(what)

    def _read(self, start: int, end: int) -> bytes:
        """Return the bytes `start:end`; small pieces come from a window, to call the system less often."""
        first = self.first
        if not isinstance(self.source, bytes) and (start < first or end > first + len(self.window)):
            if end - start > WINDOW:
                return self.source.read(start, end - start)
            self.window = self.source.read(start, min(WINDOW, self.size - start))
            self.first = first = start
        return self.window[start - first : end - first]

    def varint(self, position: int, end: int) -> tuple[int, int]:
        """Return the number at `position`, seven bits to a byte and the lowest first, and the position behind it."""
        index = position - self.first
        if position < end and 0 <= index < len(self.window) and self.window[index] < 128:
            return self.window[index], position + 1  # most are of one byte
        data = self._read(position, min(position + 10, end))
        value = 0
        for index, byte in enumerate(data):
            value |= (byte & 127) << 7 * index
            if byte < 128:
                if value >> 64:
                    break
                return value, position + index + 1
        raise self.broken(f"the number at byte {position:,} has no end")


def signed(value: int) -> int:
    """Return the int64 whose two's complement a varint holds.

    >>> signed(2**64 - 1)
    -1
    """
    return value - (1 << 64) if value >> 63 else value


def varint(value: int) -> bytes:
    """Return a whole number, 0 or more, as a varint.

    >>> varint(300).hex()
    'ac02'
    """
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes(out) + bytes([value])


def field(number: int, value: int | bytes) -> bytes:
    """Return a field as bytes: a number as a varint, bytes with their length before them.

    >>> field(1, 150).hex(), field(2, b"abc").hex()
    ('089601', '1203616263')
    """
    if isinstance(value, int):
        return varint(number << 3 | VARINT) + varint(value)
    return varint(number << 3 | LENGTH) + varint(len(value)) + value
