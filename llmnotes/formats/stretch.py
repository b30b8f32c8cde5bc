"""Copy bytes from one file to another with the operating system's own call, without passing them through Python.

This is the fast version of `files.stored` followed by `file.write`, for copies that have nothing else to do.
"""

import os
from collections.abc import Iterator
from typing import BinaryIO

from llmnotes.formats.files import Source, place_of
from llmnotes.formats.results import Tensor

LENGTH = 1 << 26  # bytes that are sent between two reports of progress


class Stretch:
    """`len(stretch)` bytes of a file that is open."""

    def __init__(self, source: Source, offset: int, count: int):
        self.source, self.offset, self.count = source, offset, count

    def __len__(self) -> int:
        return self.count

    def into(self, file: BinaryIO) -> None:
        """Append the bytes to `file`; raise `FileBroken` if the source has become shorter."""
        offset, left = self.offset, self.count
        file.flush()
        while left:
            try:
                sent = os.sendfile(file.fileno(), self.source.file.fileno(), offset, left)
            except (AttributeError, OSError):  # Windows has none, macOS sends to sockets alone, a disk may be full
                for piece in self.source.stream(offset, left):
                    file.write(piece)
                return
            if not sent:
                self.source.read(offset, left)  # raises the sentence
            offset, left = offset + sent, left - sent
        file.seek(0, os.SEEK_END)  # what went past Python did not move its position


def stretches(tensor: Tensor) -> Iterator[Stretch]:
    """Yield the bytes of a tensor that lies in its file as it is, without reading them."""
    path, start = place_of(tensor)
    with Source(path) as source:
        end = start + tensor.nbytes
        for offset in range(start, end, LENGTH):
            yield Stretch(source, offset, min(LENGTH, end - offset))
