"""Arrays in a pickle of joblib's: their numbers lie between the instructions, and joblib takes them out of there.

What `NumpyUnpickler.load_build` and `NumpyArrayWrapper.read_array` of joblib/numpy_pickle.py do is done here for what
joblib itself writes. All else is `Unread`: a wrapper that a pickle makes or fills in another way could take more or
fewer bytes than it seems, and hide instructions among them.
"""

import re
from math import prod
from typing import Any, Protocol

from llmnotes.formats.pickles.numbers import Unread
from llmnotes.formats.pickles.values import Call, Global

WRAPPER = "joblib.numpy_pickle.NumpyArrayWrapper"
RECONSTRUCTORS = ("copyreg._reconstructor", "copy_reg._reconstructor")
OBJECTS = ("builtins.object", "__builtin__.object")
# {instruction: how many values it takes from the stack; 0: those above the last mark}
TAKES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3, "SETITEM": 2, "APPEND": 1, "BUILD": 1, "REDUCE": 2, "NEWOBJ": 2}
TAKES |= {"NEWOBJ_EX": 3, "BINPERSID": 1, "OBJ": 0, "INST": 0}
TAKES |= dict.fromkeys(("TUPLE", "LIST", "DICT", "FROZENSET", "SETITEMS", "APPENDS", "ADDITEMS"), 0)
HAS_OBJECTS = 1  # the flag of NumPy's dtypes
AS_MANY_AS_ITS_TYPE = (-1, -1, 0)  # bytes, alignment and flags in the state of a dtype of numbers


class Reads(Protocol):
    """A file that is read from its position on."""

    def read(self, count: int, /) -> bytes: ...


def is_wrapper(value: Any) -> bool:
    """Return whether a value is the class that joblib puts in the place of an array."""
    return isinstance(value, Global) and str(value) == WRAPPER


def is_stray(stack: list, marks: list[int], name: str) -> bool:
    """Return whether the next instruction, `name`, takes that class for anything but to make what joblib makes."""
    count = TAKES.get(name)
    if count is None:
        return False
    taken = stack[-count:] if count else stack[marks[-1] if marks else 0 :]
    if not any(is_wrapper(value) for value in taken):
        return False
    if name in ("REDUCE", "NEWOBJ"):
        return not (is_wrapper(taken[0]) and taken[1] == ())
    return not (name in ("TUPLE", "TUPLE3") and _is_plain(taken))


def is_array(value: Any) -> bool:
    """Return whether a value stands for an array whose numbers follow the instruction that gave it its state."""
    if not isinstance(value, Call) or not isinstance(value.args, tuple):
        return False
    if is_wrapper(value.callee):
        return value.args == ()
    return str(value.callee) in RECONSTRUCTORS and _is_plain(value.args)


def _is_plain(args: Any) -> bool:
    """Return whether three values are what `copyreg._reconstructor` needs for an empty wrapper."""
    return len(args) == 3 and is_wrapper(args[0]) and str(args[1]) in OBJECTS and args[2] is None


def skip(file: Reads, state: Any) -> bool:
    """Move `file` behind the numbers of the array that `state` describes.

    Returns False, and moves nothing, for an array of Python objects: they are a pickle of their own. Raises `Unread`
    for a description that joblib doesn't write, ValueError where the numbers aren't all there.
    """
    if not isinstance(state, dict) or not all(type(key) is str for key in state):
        raise _unknown()
    shape, padded = state.get("shape"), state.get("numpy_array_alignment_bytes")
    if not isinstance(shape, tuple) or not all(type(side) is int and 0 <= side < 1 << 63 for side in shape):
        raise _unknown()
    if not (padded is None or type(padded) is int):
        raise _unknown()
    size = _item_size(state.get("dtype"))
    if size is None:
        return False
    if padded is not None:
        file.read((file.read(1) or b"\0")[0])
    count = size * prod(shape)
    if len(file.read(count)) < count:
        raise ValueError("it ends inside an array")
    return True


def _item_size(dtype: Any) -> int | None:
    """Return how many bytes an element has, or None where elements hold Python objects."""
    if not (isinstance(dtype, Call) and str(dtype.callee) == "numpy.dtype" and isinstance(dtype.args, tuple)):
        raise _unknown()
    letters, *options = dtype.args or (None,)
    found = re.fullmatch(r"([biufcmMSUVO])([0-9]{1,9})", letters) if isinstance(letters, str) else None
    if found is None or not all(type(option) in (int, bool) for option in options):
        raise _unknown()
    kind, size = found[1], int(found[2]) * (4 if found[1] == "U" else 1)
    if dtype.state is None:
        return None if kind == "O" else size
    # The state can change how long an element is, and whether it is an object.
    if not isinstance(dtype.state, tuple) or len(dtype.state) < 8 or dtype.state[2] is not None:
        raise _unknown()
    version, (long, alignment, flags) = dtype.state[0], dtype.state[5:8]
    if version not in (3, 4) or not all(type(number) is int for number in (long, alignment, flags)):
        raise _unknown()
    if kind == "O" and flags & HAS_OBJECTS:
        return None
    if kind in "SUV" and long == size and 0 <= flags < 256:
        return None if flags & HAS_OBJECTS else size
    if kind in "OSUV" or (long, alignment, flags) != AS_MANY_AS_ITS_TYPE or dtype.state[3:5] != (None, None):
        raise _unknown()
    return size


def _unknown() -> Unread:
    return Unread("describes an array in a way that joblib doesn't")
