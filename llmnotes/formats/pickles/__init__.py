"""Pickles, followed instruction by instruction, without importing or calling anything.

A pickle is a program for a machine with a stack and a memo. Two of its instructions are dangerous: one imports anything
by its name (GLOBAL), the other calls it (REDUCE). The machine here pushes a `Global`, which is only a name, for the
first, and a `Call`, a note of what would have been called with what, for the second. `instructions` takes the bytes
apart, as CPython's unpicklers do.
"""

import io
import struct

from llmnotes.formats.files import Source
from llmnotes.formats.pickles import arrays
from llmnotes.formats.pickles.instructions import instructions
from llmnotes.formats.pickles.machine import CONSTANTS, PUSH, Machine, Pickle
from llmnotes.formats.pickles.numbers import Unread

STEPS = 1_000_000  # instructions that one pickle may have: 20,000 tensors
LONG = 1 << 16  # a text or byte string above this many bytes stays in the file
LINE = 1 << 16  # characters of a line in a pickle of protocol 0
IMPORTS = {"GLOBAL", "STACK_GLOBAL", "INST"}


class SkippedBytes(bytes):
    """A long string that was left in the file: it knows its length, and holds nothing."""

    length = 0

    def __len__(self) -> int:
        return self.length


class PickleStream:
    """The bytes of a `Source` from `start` to `end`, as the file that `instructions` reads.

    Strings longer than `LONG` and lines longer than `LINE` are skipped, not read.
    """

    def __init__(self, source: Source, start: int = 0, end: int | None = None):
        self.source, self.at, self.end = source, start, source.size if end is None else end
        self.buffer, self.first = b"", start  # the bytes from `first` that were read ahead

    def tell(self) -> int:
        return self.at

    def read(self, count: int) -> bytes:
        count = min(count, self.end - self.at)
        if count <= 0:
            return b""
        if count > LONG:
            skipped = SkippedBytes()
            skipped.length = count
            self.at += count
            return skipped
        begin = self.at - self.first
        if begin + count > len(self.buffer):
            self.first, begin = self.at, 0
            self.buffer = self.source.read(self.at, min(2 * LONG, self.end - self.at))
        self.at += count
        return self.buffer[begin : begin + count]

    def readline(self, limit: int = -1) -> bytes:
        """Return a line with its end, or without one where the file ends or `limit` bytes are read.

        Without a limit, of a line longer than `LINE` its end alone is returned.
        """
        start, parts, left = self.at, [], limit
        while part := self._ahead():
            found = part.find(b"\n") + 1 or len(part)
            found = found if limit < 0 else min(found, left)
            self.at, left = self.at + found, left - found
            if limit >= 0 or self.at - start <= LINE:
                parts.append(part[:found])
            if part[found - 1 : found] == b"\n" or left == 0:
                break
        return b"\n" if limit < 0 and self.at - start > LINE else b"".join(parts)

    def _ahead(self) -> bytes:
        """Return some of the bytes that come next, and read them ahead if they are not yet."""
        begin = self.at - self.first
        if self.at >= self.end:
            return b""
        if begin >= len(self.buffer):
            self.first, begin = self.at, 0
            self.buffer = self.source.read(self.at, min(2 * LONG, self.end - self.at))
        found = self.buffer.find(b"\n", begin) + 1
        return self.buffer[begin : found or len(self.buffer)]


def trace(file: PickleStream | io.BytesIO, steps: int = STEPS, joblib: bool = True) -> Pickle:
    """Return what the pickle at the position of `file` would do; nothing of it is imported or called.

    Afterwards `file` stands behind the pickle. The work is limited: at most `steps` instructions, no recursion, and
    what the pickle builds is never compared. joblib writes the numbers of an array between the instructions; they are
    skipped, as joblib does, unless `joblib` is False.

    >>> import io
    >>> from llmnotes.formats.pickles.values import show
    >>> pickle = trace(io.BytesIO(b"cos\\nsystem\\n(S'echo hello'\\ntR."))
    >>> show(pickle.value), pickle.broken
    ("os.system('echo hello')", None)
    """
    machine = Machine()
    result = machine.result
    result.end, frame, wrapped = file.tell(), 0, False
    try:
        for name, argument, position, odd in instructions(file):
            # Count the instruction, to stop at the limit.
            result.steps += 1
            result.end = position + 1
            if result.steps > steps:
                raise Unread(f"has more than {steps:,} instructions")
            if odd and odd not in result.odd:
                result.odd.append(odd)
            if wrapped and arrays.is_stray(machine.stack, machine.marks, name):
                raise Unread("uses NumpyArrayWrapper in a way that joblib doesn't")
            # Push a value, or let the machine's method for the instruction change the stack.
            if name in PUSH:
                machine.stack.append(argument)
            elif name in CONSTANTS:
                machine.stack.append(CONSTANTS[name]())
            else:
                getattr(machine, name)(argument)
            if name == "FRAME":
                frame = file.tell() + argument
            elif joblib and name in IMPORTS:
                wrapped = wrapped or arrays.is_wrapper(result.imports[-1])
            elif wrapped and name == "BUILD" and arrays.is_array(machine.stack[-1]):
                result.skipped += 1
                if not arrays.skip(file, machine.stack[-1].state):
                    result.include(trace(file, steps - result.steps, joblib=False))
        result.end = file.tell()
        result.frame = max(frame, result.end)
    except Unread as error:
        result.broken, result.unread = str(error), True
    except IndexError:
        result.broken = f"takes from an empty stack at byte {result.end - 1:,}"
    except KeyError:
        result.broken = f"asks for what its memo does not hold at byte {result.end - 1:,}"
    except (ValueError, OverflowError, struct.error, MemoryError, AttributeError, TypeError) as error:
        result.broken = f"breaks off ({str(error)[:120]})"
    return result
