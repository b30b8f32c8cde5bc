"""Pickles, followed instruction by instruction, without importing or calling anything.

A pickle is a program for a machine with a stack and a memo. Two of its instructions are dangerous: one imports anything
by its name (GLOBAL), the other calls it (REDUCE). The machine here pushes a `Global`, which is only a name, for the
first, and a `Call`, a note of what would have been called with what, for the second. `instructions` takes the bytes
apart, as CPython's unpicklers do.
"""

import io
import re
import struct
from math import prod
from typing import Any

from llmnotes.formats.files import Source
from llmnotes.formats.pickles.instructions import instructions
from llmnotes.formats.pickles.machine import CONSTANTS, PUSH, Machine, Pickle
from llmnotes.formats.pickles.values import Call

STEPS = 1_000_000  # instructions that one pickle may have: 20,000 tensors
LONG = 1 << 16  # a text or byte string above this many bytes stays in the file
LINE = 1 << 16  # characters of a line in a pickle of protocol 0


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
        count = max(min(count, self.end - self.at), 0)
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

    def readline(self) -> bytes:
        """Return a line with its end, or without one where the file ends; of one longer than `LINE` its end alone."""
        start, line = self.at, b""
        while part := self.read(LINE):
            found = part.find(b"\n") + 1 or len(part)
            self.at -= len(part) - found
            line = part[:found] if self.at - start <= LINE else b"\n"
            if part[found - 1 : found] == b"\n":
                break
        return line


def trace(file: PickleStream | io.BytesIO, steps: int = STEPS, arrays: bool = True) -> Pickle:
    """Return what the pickle at the position of `file` would do; nothing of it is imported or called.

    Afterwards `file` stands behind the pickle. The work is limited: at most `steps` instructions, no recursion, and
    what the pickle builds is never compared. joblib writes the numbers of an array between the instructions; they are
    skipped, as joblib does, unless `arrays` is False.

    >>> import io
    >>> from llmnotes.formats.pickles.values import show
    >>> pickle = trace(io.BytesIO(b"cos\\nsystem\\n(S'echo hello'\\ntR."))
    >>> show(pickle.value), pickle.broken
    ("os.system('echo hello')", None)
    """
    machine = Machine()
    result = machine.result
    try:
        for name, argument, position, odd in instructions(file):
            # Count the instruction, to stop at the limit.
            result.steps += 1
            result.end = position + 1
            if result.steps > steps:
                raise ValueError(f"has more than {steps:,} instructions")
            if odd and odd not in result.odd:
                result.odd.append(odd)
            # Push a value, or let the machine's method for the instruction change the stack.
            if name in PUSH:
                machine.stack.append(argument)
            elif name in CONSTANTS:
                machine.stack.append(CONSTANTS[name]())
            else:
                getattr(machine, name)(argument)
            if arrays and name == "BUILD" and is_array_of_joblib(machine.stack[-1]):
                result.skipped += 1
                if not skip_array(file, machine.stack[-1].state):
                    result.include(trace(file, steps - result.steps))
        result.end = file.tell()
    except IndexError:
        result.broken = f"takes from an empty stack at byte {result.end - 1:,}"
    except KeyError:
        result.broken = f"asks for what its memo does not hold at byte {result.end - 1:,}"
    except (ValueError, OverflowError, struct.error, MemoryError, AttributeError, TypeError) as error:
        result.broken = f"breaks off ({str(error)[:120]})"
    return result


def is_array_of_joblib(value: Any) -> bool:
    """Return whether a value stands for an array whose numbers follow the instruction that built it."""
    return isinstance(value, Call) and str(value.callee) == "joblib.numpy_pickle.NumpyArrayWrapper"


def skip_array(file: PickleStream | io.BytesIO, state: Any) -> bool:
    """Move `file` behind the numbers of an array, which `state` describes; ValueError where it does not.

    Returns False, and moves nothing, for an array of Python objects: they are a pickle of their own.
    """
    shape, dtype = state.get("shape"), state.get("dtype")
    letters = dtype.args[0] if isinstance(dtype, Call) and isinstance(dtype.args, tuple) and dtype.args else None
    kind = re.fullmatch(r"([biufcO])(\d+)", letters) if isinstance(letters, str) else None
    if kind is None or not isinstance(shape, tuple) or not all(isinstance(side, int) and side >= 0 for side in shape):
        raise ValueError("an array of joblib's is described in a way that is not understood")
    if kind[1] == "O":
        return False
    if state.get("numpy_array_alignment_bytes") is not None:
        file.read(file.read(1)[0])
    count = int(kind[2]) * prod(shape)
    if len(file.read(count)) < count:
        raise ValueError("it ends inside an array")
    return True
