"""Tensors as views of a storage, as PyTorch and NumPy keep them: a shape and strides over a run of bytes."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from llmnotes.formats import zips
from llmnotes.formats.files import CHUNK, Source
from llmnotes.formats.results import DTYPES

ROOM = 1 << 26  # bytes that are read at once although most of them belong to other elements


@dataclass(frozen=True, slots=True)
class Storage:
    """A run of `nbytes` bytes that tensors share.

    It begins at `offset`: of the file, or, where `packed` names a compressed entry of a zip archive, of what that entry
    unpacks to. `key` tells the storages of a file apart.
    """

    key: object
    dtype: str
    nbytes: int
    offset: int
    big_endian: bool = False
    packed: zips.Entry | None = None


@dataclass(frozen=True, slots=True)
class StridedView:
    """A tensor: the elements of `shape` in a storage, from its element `first`.

    `strides` says for each side how many elements of the storage lie between neighbours: (3, 1) for the rows of a
    contiguous matrix with 3 columns, (1, 3) for its transpose.
    """

    storage: Storage
    dtype: str
    first: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """The bytes of all elements."""
        return math.prod(self.shape) * DTYPES[self.dtype][1]

    @property
    def contiguous(self) -> bool:
        """Whether the elements lie one after the other in the order in which they are counted."""
        step = 1
        for side, stride in zip(self.shape[::-1], self.strides[::-1], strict=True):
            if side > 1 and stride != step and 0 not in self.shape:
                return False
            step *= side
        return True

    @property
    def offset(self) -> int | None:
        """The first byte in the file, or None where the bytes do not lie there as they are."""
        width = DTYPES[self.dtype][1]
        swapped = self.storage.big_endian and width > 1
        if self.storage.packed is not None or swapped or not self.contiguous:
            return None
        return self.storage.offset + self.first * width


def strided_view(
    source: Source, name: str, storage: Storage, dtype: str, first: object, shape: object, strides: object
) -> StridedView:
    """Return the view that a file claims, once every element of it lies in its storage; `FileBroken` otherwise."""
    shape, strides = source.shape(shape, name), source.shape(strides, name)
    elements, room = math.prod(shape), storage.nbytes // DTYPES[dtype][1]
    if len(shape) != len(strides) or type(first) is not int or first < 0:
        raise source.broken(f"the tensor {name[:80]!r} reaches beyond its storage")
    last = first + sum((side - 1) * stride for side, stride in zip(shape, strides, strict=True)) if elements else 0
    if last >= room + (not elements):
        raise source.broken(f"the tensor {name[:80]!r} reaches beyond its storage")
    if elements > room + (1 << 24):  # a stride of 0 repeats elements, and no model is saved that way
        raise source.broken(f"the tensor {name[:80]!r} claims {elements:,} elements of a storage with {room:,}")
    return StridedView(storage, dtype, first, shape, strides)


def values(source: Source, view: StridedView) -> Iterator[bytes]:
    """Yield the bytes of a view in the order of its elements, little-endian.

    At most the bytes between its first and its last element are in memory, and a piece of the result.
    """
    storage = view.storage
    read = source.read if storage.packed is None else zips.unpacked(source.path).reader(source, storage.packed)
    sides = [(side, stride) for side, stride in zip(view.shape, view.strides, strict=True) if side != 1]
    if 0 not in view.shape:
        yield from _pieces(read, view, view.first, sides)


def _pieces(
    read: Callable[[int, int], bytes], view: StridedView, first: int, sides: list[tuple[int, int]]
) -> Iterator[bytes]:
    """Yield the bytes of the elements in `sides`, (side, stride) each, from the storage's element `first`."""
    import numpy as np

    width = DTYPES[view.dtype][1]
    span = 1 + sum((side - 1) * stride for side, stride in sides)  # from the first to the last element
    if span * width > ROOM and span > 2 * math.prod(side for side, _ in sides):
        # Most of what lies between them belongs to other tensors: go row by row.
        side, stride = sides[0]
        for row in range(side):
            yield from _pieces(read, view, first + row * stride, sides[1:])
        return
    # Read all of it at once, and lay the shape and the strides over it.
    data = read(view.storage.offset + first * width, span * width)
    shape, steps = [side for side, _ in sides], [stride * width for _, stride in sides]
    if view.dtype.startswith("C"):  # a complex number is two numbers
        width //= 2
        shape, steps = [*shape, 2], [*steps, width]
    block = np.frombuffer(data, f"{'>' if view.storage.big_endian else '<'}u{width}")
    array = np.lib.stride_tricks.as_strided(block, shape, steps, writeable=False)
    # NumPy goes through the elements in their order, a buffer at a time, and swaps their bytes on the way.
    buffers = np.nditer(
        array,
        flags=["external_loop", "buffered"],
        op_flags=["readonly"],
        op_dtypes=np.dtype(f"<u{width}"),
        order="C",
        casting="equiv",
        buffersize=CHUNK // width,
    )
    for _ in buffers:
        yield buffers[0].tobytes()
