"""Pickles, followed instruction by instruction, without importing or calling anything.

A pickle is a program for a machine with a stack and a memo. Two of its instructions are dangerous: one imports anything
by its name (GLOBAL), the other calls it (REDUCE). The machine here pushes a `Global`, which is only a name, for the
first, and a `Call`, a note of what would have been called with what, for the second. `pickletools`, from Python's
standard library, takes the bytes apart; it knows all protocols and executes nothing.
"""

import io
import pickletools
import struct
from dataclasses import dataclass, field
from typing import IO, Any, cast

from llmnotes.formats.files import Source
from llmnotes.formats.pickles.values import SCALARS, Call, Global, OpaqueKey, PersistentId, show

STEPS = 1_000_000  # instructions that one pickle may have: 20,000 tensors
LONG = 1 << 16  # a text or byte string above this many bytes stays in the file
LINE = 1 << 16  # characters of a line in a pickle of protocol 0


class SkippedBytes(bytes):
    """A long string that was left in the file: it knows its length, and holds nothing."""

    length = 0

    def __len__(self) -> int:
        return self.length


@dataclass
class Pickle:
    """What one pickle would do. `broken` says why it stops before its end, or is None.

    A program that loads a broken pickle executes everything before the break.
    """

    value: object = None
    imports: list[Global] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    references: list[PersistentId] = field(default_factory=list)
    changed: list[object] = field(default_factory=list)  # gets a new state or new items, and no call made it
    steps: int = 0
    end: int = 0
    broken: str | None = None


class PickleStream:
    """The bytes of a `Source` from `start` to `end`, as the file that `pickletools` wants.

    Strings longer than `LONG` are skipped, not read.
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
        start = self.at
        line = self.read(LINE)
        line = line[: line.find(b"\n") + 1] or line
        self.at = start + len(line)
        return line


def trace(file: PickleStream | io.BytesIO, steps: int = STEPS) -> Pickle:
    """Return what the pickle at the position of `file` would do; nothing of it is imported or called.

    Afterwards `file` stands behind the pickle. The work is limited: at most `steps` instructions, no recursion, and
    what the pickle builds is never compared.

    >>> import io
    >>> pickle = trace(io.BytesIO(b"cos\\nsystem\\n(S'echo hello'\\ntR."))
    >>> show(pickle.value), pickle.broken
    ("os.system('echo hello')", None)
    """
    machine = Machine()
    result = machine.result
    try:
        for opcode, argument, position in pickletools.genops(cast(IO[bytes], file)):
            # Count the instruction, to stop at the limit.
            result.steps += 1
            result.end = (position or 0) + 1
            if result.steps > steps:
                raise ValueError(f"has more than {steps:,} instructions")
            # Push a value, or let the machine's method for the instruction change the stack.
            name = opcode.name
            if name in PUSH:
                machine.stack.append(argument)
            elif name in CONSTANTS:
                machine.stack.append(CONSTANTS[name]())
            else:
                getattr(machine, name)(argument)
        result.end = file.tell()
    except IndexError:
        result.broken = f"takes from an empty stack at byte {result.end - 1:,}"
    except KeyError:
        result.broken = f"asks for what its memo does not hold at byte {result.end - 1:,}"
    except (ValueError, OverflowError, struct.error, MemoryError, AttributeError, TypeError) as error:
        result.broken = f"breaks off ({str(error)[:120]})"
    return result


# Instructions whose argument is the value itself.
PUSH = set(
    "INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT STRING BINSTRING SHORT_BINSTRING UNICODE BINUNICODE "
    "SHORT_BINUNICODE BINUNICODE8 BINBYTES SHORT_BINBYTES BINBYTES8 BYTEARRAY8".split()
)
# Instructions that push a value without an argument. A set is built as a list: its members need not be compared.
CONSTANTS = {"NONE": type(None), "NEWTRUE": lambda: True, "NEWFALSE": bool, "EMPTY_TUPLE": tuple}
CONSTANTS |= {"EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_SET": list, "NEXT_BUFFER": lambda: PersistentId("buffer")}


class Machine:
    """The machine: one method for each instruction, under the instruction's name."""

    def __init__(self):
        self.stack, self.marks, self.memo = [], [], {}
        self.result = Pickle()

    def pop(self) -> Any:
        if self.marks and len(self.stack) <= self.marks[-1]:
            raise IndexError
        return self.stack.pop()

    def above_mark(self) -> list:
        mark = self.marks.pop()
        values = self.stack[mark:]
        del self.stack[mark:]
        return values

    def import_name(self, module: Any, name: Any) -> None:
        if not (isinstance(module, str) and isinstance(name, str)):  # a name that the pickle computes
            module, name = "?", show(name, 80)
        found = Global(module, name)
        self.result.imports.append(found)
        self.stack.append(found)

    def call(self, callee: Any, args: Any) -> None:
        made = Call(callee, args)
        self.result.calls.append(made)
        self.stack.append(made)

    def set_items(self, target: Any, pairs: Any) -> None:
        if isinstance(target, Call):
            target.items = items = target.items if target.items is not None else {}
        elif isinstance(target, dict):
            items = target
        else:
            self.result.changed.append(target)
            return
        for key, value in pairs:
            items[key if isinstance(key, SCALARS) else OpaqueKey(key)] = value

    def append_items(self, target: Any, values: Any) -> None:
        if isinstance(target, Call):
            target.appended = [] if target.appended is None else target.appended
            target.appended += values
        elif isinstance(target, list):
            target += values
        else:
            self.result.changed.append(target)

    # what builds containers, and what does nothing
    def PROTO(self, _: object) -> None: ...

    FRAME = READONLY_BUFFER = PROTO

    def STOP(self, _: object) -> None:
        self.result.value = self.pop()

    def MARK(self, _: object) -> None:
        self.marks.append(len(self.stack))

    def POP_MARK(self, _: object) -> None:
        self.above_mark()

    def LIST(self, _: object) -> None:
        self.stack.append(self.above_mark())

    FROZENSET = LIST

    def TUPLE(self, _: object) -> None:
        self.stack.append(tuple(self.above_mark()))

    def TUPLE1(self, _: object) -> None:
        self.stack.append((self.pop(),))

    def TUPLE2(self, _: object) -> None:
        self.stack.append((self.pop(), self.pop())[::-1])

    def TUPLE3(self, _: object) -> None:
        self.stack.append((self.pop(), self.pop(), self.pop())[::-1])

    def DICT(self, _: object) -> None:
        values = self.above_mark()
        self.stack.append({})
        self.set_items(self.stack[-1], zip(values[::2], values[1::2], strict=False))

    def POP(self, _: object) -> None:
        if self.marks and self.marks[-1] == len(self.stack):
            self.marks.pop()
        else:
            self.pop()

    def DUP(self, _: object) -> None:
        self.stack.append(self.stack[-1])

    def SETITEM(self, _: object) -> None:
        value, key = self.pop(), self.pop()
        self.set_items(self.stack[-1], [(key, value)])

    def SETITEMS(self, _: object) -> None:
        values = self.above_mark()
        self.set_items(self.stack[-1], zip(values[::2], values[1::2], strict=False))

    def APPEND(self, _: object) -> None:
        value = self.pop()
        self.append_items(self.stack[-1], [value])

    def APPENDS(self, _: object) -> None:
        values = self.above_mark()
        self.append_items(self.stack[-1], values)

    ADDITEMS = APPENDS

    # the memo
    def PUT(self, index: int) -> None:
        self.memo[index] = self.stack[-1]

    def MEMOIZE(self, _: object) -> None:
        self.memo[len(self.memo)] = self.stack[-1]

    def GET(self, index: int) -> None:
        self.stack.append(self.memo[index])

    BINPUT = LONG_BINPUT = PUT
    BINGET = LONG_BINGET = GET

    # what reaches outside: names, calls, references
    def GLOBAL(self, argument: str) -> None:
        self.import_name(*argument.split(" ", 1))

    def STACK_GLOBAL(self, _: object) -> None:
        name, module = self.pop(), self.pop()
        self.import_name(module, name)

    def EXT1(self, code: int) -> None:
        self.import_name("copyreg extension", str(code))

    EXT2 = EXT4 = EXT1

    def INST(self, argument: str) -> None:
        args = tuple(self.above_mark())
        self.import_name(*argument.split(" ", 1))
        self.call(self.pop(), args)

    def OBJ(self, _: object) -> None:
        callee, *args = self.above_mark()
        self.call(callee, tuple(args))

    def REDUCE(self, _: object) -> None:
        args, callee = self.pop(), self.pop()
        self.call(callee, args)

    NEWOBJ = REDUCE

    def NEWOBJ_EX(self, _: object) -> None:
        named, args, callee = self.pop(), self.pop(), self.pop()
        self.call(callee, (args, named))

    def BUILD(self, _: object) -> None:
        state, target = self.pop(), self.stack[-1]
        if isinstance(target, Call) and target.state is None:
            target.state = state
        else:
            self.result.changed.append(target)

    def PERSID(self, identifier: Any) -> Any:
        self.stack.append(PersistentId(identifier))
        self.result.references.append(self.stack[-1])

    def BINPERSID(self, _: object) -> None:
        self.PERSID(self.pop())
