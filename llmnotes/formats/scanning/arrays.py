"""NumPy's arrays and pickles, one behind the other, as `numpy.load` and `pickle.load` read them from one open file."""

import ast
import io
import warnings
from math import prod
from typing import TYPE_CHECKING

from llmnotes.formats.files import Source
from llmnotes.formats.scanning.pickled import look_for_pickles
from llmnotes.formats.scanning.state import FILES_LIMIT, Search

if TYPE_CHECKING:
    import numpy as np

MAGIC = b"\x93NUMPY"
HEAD = 1 << 17  # bytes in which NumPy's header must end


def look_into_arrays(search: Search, source: Source, where: str, raw: bool = False) -> None:
    """Look at the arrays and pickles in a file, until something else follows them; `raw` as for pickles."""
    at, found = 0, True
    for number in range(FILES_LIMIT):
        place = where if not number else f"{where} (byte {at:,})"
        if source.read(at, min(len(MAGIC), source.size - at)) == MAGIC:
            end, found = _look_into_array(search, source, place, at), True
        elif found:
            end, found = look_for_pickles(search, source, where, at, raw), False
        else:  # behind pickles stands something else
            return
        if end >= source.size:
            return
        at = end
    search.add(where, "suspicious", f"holds more than {FILES_LIMIT:,} arrays; not all were read")


def _look_into_array(search: Search, source: Source, where: str, at: int) -> int:
    """Look for pickles behind NumPy's header, unless it describes numbers alone; return where the array ends."""
    head = source.read(at, min(HEAD, source.size - at))
    start, described = at + _start(head), _described(head)
    if start > source.size:
        search.add(where, "suspicious", "its NumPy header is longer than the file")
        return source.size
    if described is None:
        search.add(where, "suspicious", "its NumPy header is no plain description of an array")
        return look_for_pickles(search, source, where, start)
    dtype, shape = described
    if dtype.hasobject:
        return look_for_pickles(search, source, where, start)
    end = start + dtype.itemsize * prod(shape)
    if end != source.size:  # the numbers of one array in a file of its own cannot be anything else
        look_for_pickles(search, source, where, start, raw=True)
    return min(end, source.size)


def is_plain_array(head: bytes, size: int) -> bool:
    """Return whether a file of `size` bytes holds numbers alone behind the header in `head`, and fills them."""
    described = _described(head)
    if described is None or described[0].hasobject:
        return False
    return _start(head) + described[0].itemsize * prod(described[1]) == size


def _start(head: bytes) -> int:
    """Return where the elements of an array begin."""
    width = 2 if head[6:7] == b"\1" else 4
    return 8 + width + int.from_bytes(head[8 : 8 + width], "little")


def _described(head: bytes) -> "tuple[np.dtype, tuple] | None":
    """Return the dtype and shape that NumPy itself reads in a header, or None where it doesn't understand it."""
    from numpy.lib import format as npy

    if not head.startswith(MAGIC) or _start(head) > len(head):
        return None
    file = io.BytesIO(head)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # NumPy warns of headers that Python 2 has written: (2L, 3L)
            version = npy.read_magic(file)
            if version == (3, 0):
                header = ast.literal_eval(head[12 : _start(head)].decode("utf-8"))
                shape, dtype = header["shape"], npy.descr_to_dtype(header["descr"])
            else:
                read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
                shape, _, dtype = read(file, max_header_size=len(head))
    except Exception:  # NumPy's reader raises whatever Python's parser does
        return None
    if not isinstance(shape, tuple) or not all(type(side) is int and side >= 0 for side in shape):
        return None
    return dtype, shape
