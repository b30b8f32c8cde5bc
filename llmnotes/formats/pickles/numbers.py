"""Numbers that a pickle writes as a line of text, read as CPython's own unpicklers read them.

The unpickler in C asks C's functions, for which a line ends at its first zero byte, and which know octal numbers by a 0
before them; the one in Python asks `int` and `float`. What either of them accepts is accepted.
"""

import re
from typing import Protocol

LIMIT = 1 << 20  # characters of a number that are read
DIGITS = 4300  # decimal digits that Python turns into a number today; its older versions take any number of them
# How a number begins, without the spaces around it.
BEGINNING = re.compile(
    rb"[+-]?(?:0[xX][0-9a-fA-F_]*|0[oO][0-7_]*|0[bB][01_]*|[0-9_]*(?:\.[0-9_]*)?(?:[eE][+-]?[0-9_]*)?)L?"
)
DECIMAL = re.compile(rb"[+-]?[0-9]+(?:_[0-9]+)*")


class HasLines(Protocol):
    """A file that is read line by line, each up to a limit of bytes."""

    def readline(self, limit: int, /) -> bytes: ...


class Unread(ValueError):
    """CPython would read this, and it is too long or too unusual to be read here: what follows is unknown."""


class LongNumber:
    """A number of so many digits that it isn't worked out: it has no value here."""


def read_int(file: HasLines) -> int | bool | LongNumber:
    """Return the number of INT, which has a base or none (`12`, `0x10`, `017` as C reads it); `01` is True.

    >>> import io
    >>> read_int(io.BytesIO(b" 0x10\\n")), read_int(io.BytesIO(b"12\\0anything\\n")), read_int(io.BytesIO(b"01\\n"))
    (16, 12, True)
    """
    text = _text(file)
    return text == b"01" if text in (b"00", b"01") else _whole(text)


def read_long(file: HasLines) -> int | LongNumber:
    """Return the number of LONG, which may end in an L."""
    return _whole(_text(file).removesuffix(b"L"))


def read_float(file: HasLines) -> float:
    """Return the number of FLOAT."""
    return float(_text(file))


def read_index(file: HasLines) -> int:
    """Return the number of GET or PUT: a place in the memo, always decimal."""
    text = _text(file).strip()
    if not DECIMAL.fullmatch(text):
        raise ValueError("a place in the memo is no number")
    digits = text.lstrip(b"+-").replace(b"_", b"").lstrip(b"0")
    if len(digits) > DIGITS:
        raise Unread(f"names a place in the memo by {len(digits):,} digits")
    return int(digits or b"0") * (-1 if text[:1] == b"-" else 1)


def _text(file: HasLines) -> bytes:
    """Return the text of a number: a line without its last byte, whatever that is, and up to its first zero byte."""
    line = file.readline(LIMIT)
    if not line:
        raise ValueError("it ends before a line")
    text, zero, _ = line.partition(b"\0")
    if not zero and len(line) == LIMIT and line[-1:] != b"\n":
        if BEGINNING.fullmatch(text.strip()):
            raise Unread(f"has a number of more than {LIMIT:,} characters")
        raise ValueError("a number is none")
    while line and line[-1:] != b"\n":  # what C's functions do not see
        line = file.readline(LIMIT)
    return (text or b"0") if zero else text[:-1]


def _whole(text: bytes) -> int | LongNumber:
    text = text.strip()
    if re.fullmatch(rb"[+-]?0[0-7]+", text):
        return int(text, 8)
    if len(text) > DIGITS and DECIMAL.fullmatch(text):
        return LongNumber()
    return int(text, 0)
