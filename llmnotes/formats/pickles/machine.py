"""The machine that a pickle is a program for: a stack and a memo, one method for each instruction."""

from dataclasses import dataclass, field
from typing import Any

from llmnotes.formats.pickles.numbers import Unread
from llmnotes.formats.pickles.values import SCALARS, Call, Global, OpaqueKey, PersistentId, show


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
    unread: bool = False  # `broken` is no damage: it is what CPython would read and nothing here does
    frame: int = 0  # where its last frame ends, if that is behind its STOP; or its end
    odd: list[str] = field(default_factory=list)  # what makes two unpicklers read two different programs
    skipped: int = 0  # arrays that joblib has written between the instructions

    def include(self, inner: "Pickle") -> None:
        """Count what a pickle inside this one would do as done by this one; ValueError if that one is broken."""
        for kind in ("imports", "calls", "references", "changed", "odd"):
            getattr(self, kind).extend(getattr(inner, kind))
        self.steps += inner.steps
        if inner.broken:
            raise (Unread if inner.unread else ValueError)(inner.broken)


# Instructions whose argument is the value itself.
PUSH = set(
    "INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT STRING BINSTRING SHORT_BINSTRING UNICODE BINUNICODE "
    "SHORT_BINUNICODE BINUNICODE8 BINBYTES SHORT_BINBYTES BINBYTES8 BYTEARRAY8".split()
)
# Instructions that push a value without an argument. A set is built as a list: its members need not be compared.
CONSTANTS = {"NONE": type(None), "NEWTRUE": lambda: True, "NEWFALSE": bool, "EMPTY_TUPLE": tuple}
CONSTANTS |= {"EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_SET": list, "NEXT_BUFFER": lambda: PersistentId("buffer")}

# What never returns a text.
NO_TEXT = {"collections.OrderedDict", "joblib.numpy_pickle.NumpyArrayWrapper", "numpy.dtype", "numpy.ndarray"}
NO_TEXT |= {"numpy.core.multiarray._reconstruct", "numpy._core.multiarray._reconstruct"}


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
        if not (isinstance(module, str) and isinstance(name, str)):
            if not (_may_be_text(module) and _may_be_text(name)):
                raise ValueError("a name is no text")
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
    def GLOBAL(self, argument: tuple[str, str]) -> None:
        self.import_name(*argument)

    def STACK_GLOBAL(self, _: object) -> None:
        name, module = self.pop(), self.pop()
        self.import_name(module, name)

    def EXT1(self, code: int) -> None:
        self.import_name("copyreg extension", str(code))

    EXT2 = EXT4 = EXT1

    def INST(self, argument: tuple[str, str]) -> None:
        args = tuple(self.above_mark())
        self.import_name(*argument)
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


def _may_be_text(value: Any) -> bool:
    """Return whether a value is a text, or may be one where the pickle runs."""
    return isinstance(value, str | PersistentId) or (isinstance(value, Call) and str(value.callee) not in NO_TEXT)
