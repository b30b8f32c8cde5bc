"""The instructions of a pickle, read as CPython's own unpicklers read them (Modules/_pickle.c and Lib/pickle.py).

`pickletools`, which knows all instructions, reads some of their arguments in another way than the unpicklers do: to
it `I0x10` is no number and a name has no letter beyond ASCII. What one reader executes and the other takes for damage
is where a hostile pickle hides. So only the table of the instructions is taken from there; the arguments are read here.
Where the unpicklers in C and in Python differ, what either of them accepts is accepted.
"""

import codecs
import pickletools
import struct
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol

from llmnotes.formats.pickles.numbers import LongNumber, read_float, read_index, read_int, read_long

NAMES = {info.code.encode("latin-1"): (info.name, info.arg.name if info.arg else None) for info in pickletools.opcodes}
PROTOCOL = 5  # the newest that CPython knows


class Reads(Protocol):
    """A file that is read from its position on. It may leave long strings out: then their length alone is right."""

    def read(self, count: int, /) -> bytes: ...
    def readline(self, limit: int = -1, /) -> bytes: ...
    def tell(self) -> int: ...


class Instruction(NamedTuple):
    """One instruction: its name, its argument, where it stands, and what is odd about its place, or None."""

    name: str
    argument: Any
    position: int
    odd: str | None


def instructions(file: Reads) -> Iterator[Instruction]:
    """Yield the instructions from the position of `file` up to the first STOP; raises ValueError where one is none.

    An instruction that crosses the end of its frame is odd, and so is a frame in a frame: the unpickler in C then drops
    what it has read ahead, and goes on at another place than the one in Python. So is a STOP before the end of its
    frame, behind which one unpickler reads the next pickle, and the other behind the frame; and bytes that a reader
    took out of the middle of a frame, since joblib takes them from behind it.
    """
    end: int | None = None  # of the frame
    after = file.tell()
    while True:
        position = file.tell()
        taken = position != after and end is not None and after < end
        code = file.read(1)
        if not code:
            raise ValueError("it ends before its STOP")
        if code not in NAMES:
            raise ValueError(f"byte {code[0]} at {position:,} is no instruction")
        name, kind = NAMES[code]
        read = read_index if name in ("GET", "PUT") else ARGUMENTS.get(kind or "")
        argument: Any = read(file) if read else None
        odd, after = "an array begins inside a frame" if taken else None, file.tell()
        if end is not None and position < end < after:
            odd = "an instruction crosses the end of its frame"
        if name == "STOP" and end is not None and after < end:
            odd = "its STOP stands before its frame's end"
        if name == "FRAME":
            if end is not None and position < end:
                odd = "a frame begins inside a frame"
            end = after + argument
        elif name == "PROTO" and argument > PROTOCOL:
            raise ValueError(f"its protocol {argument} is unknown")
        yield Instruction(name, argument, position, odd)
        if name == "STOP":
            return


def _exactly(file: Reads, count: int) -> bytes:
    if count < 0:
        raise ValueError(f"a string has {count:,} bytes")
    data = file.read(count)
    if len(data) < count:
        raise ValueError("it ends inside an instruction")
    return data


def _line(file: Reads) -> bytes:
    """Return a line without its last byte, whatever that is, as the unpickler in Python does."""
    line = file.readline()
    if not line:
        raise ValueError("it ends before a line")
    return line[:-1]


def _fixed(layout: str) -> Callable[[Reads], Any]:
    form = struct.Struct(layout)
    return lambda file: form.unpack(_exactly(file, form.size))[0]


def _counted(layout: str, decode: Callable[[bytes], Any]) -> Callable[[Reads], Any]:
    count = _fixed(layout)
    return lambda file: decode(_exactly(file, count(file)))


def _utf8(data: bytes) -> str:
    return data.decode("utf-8", "surrogatepass")


def _latin1(data: bytes) -> str:
    """Return an 8-bit string as a text. What `encoding` a program asks for decides what it becomes there."""
    return data.decode("latin-1")


def _as_it_is(data: bytes) -> bytes:
    return data


def _little_endian(data: bytes) -> int | LongNumber:
    if memoryview(data).nbytes < len(data):  # it was left in the file
        return LongNumber()
    return int.from_bytes(data, "little", signed=True)


def _quoted(file: Reads) -> str:
    line = _line(file)
    if line and (len(line) < 2 or line[:1] != line[-1:] or line[:1] not in b"\"'"):
        raise ValueError("a string has no quotes")
    return _latin1(codecs.escape_decode(line[1:-1])[0])


def _pair(file: Reads) -> tuple[str, str]:
    return _utf8(_line(file)), _utf8(_line(file))


# {what pickletools calls the kind of an argument: how it is read}
ARGUMENTS: dict[str, Callable[[Reads], Any]] = {
    "uint1": _fixed("<B"),
    "uint2": _fixed("<H"),
    "int4": _fixed("<i"),
    "uint4": _fixed("<I"),
    "uint8": _fixed("<Q"),
    "float8": _fixed(">d"),
    "decimalnl_short": read_int,
    "decimalnl_long": read_long,
    "floatnl": read_float,
    "long1": _counted("<B", _little_endian),
    "long4": _counted("<i", _little_endian),
    "stringnl": _quoted,
    "stringnl_noescape": lambda file: _utf8(_line(file)),
    "stringnl_noescape_pair": _pair,
    "string1": _counted("<B", _latin1),
    "string4": _counted("<i", _latin1),
    "bytes1": _counted("<B", _as_it_is),
    "bytes4": _counted("<I", _as_it_is),
    "bytes8": _counted("<Q", _as_it_is),
    "bytearray8": _counted("<Q", _as_it_is),
    "unicodestringnl": lambda file: codecs.decode(_line(file), "raw-unicode-escape"),
    "unicodestring1": _counted("<B", _utf8),
    "unicodestring4": _counted("<I", _utf8),
    "unicodestring8": _counted("<Q", _utf8),
}
