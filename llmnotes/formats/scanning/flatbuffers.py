"""FlatBuffers: the operators of TensorFlow Lite, onnxruntime's own format, and PyTorch's for phones."""

import struct
from collections.abc import Iterator

from llmnotes.errors import FileBroken
from llmnotes.formats.files import Source
from llmnotes.formats.scanning import onnx
from llmnotes.formats.scanning.operators import NAMED, TOUCHES
from llmnotes.formats.scanning.programs import FILE_OPERATORS
from llmnotes.formats.scanning.settings import pieces
from llmnotes.formats.scanning.state import Search
from llmnotes.formats.scanning.tensorflow_names import FILES, SAVER

OPERATORS = 10_000
CODES, CUSTOM = 1, 1  # the field of a model with its operators, and of an operator with its name


def look_into_flatbuffer(search: Search, source: Source, where: str) -> None:
    """Look for operators that call Python or touch files, by the mark at byte 4 that says which format it is."""
    mark = source.read(4, 4)
    if mark == b"ORTM":
        onnx.look_into_ort(search, source, where)
        return
    if mark == b"PTMF":
        for piece in pieces(source):
            for match in FILE_OPERATORS.finditer(piece):
                search.add(where, "dangerous", f"calls {match[0].decode()}, which touches files")
        return
    for piece in pieces(source):  # TensorFlow's own operators stand in it as nodes
        for match in NAMED.finditer(piece):
            search.add(where, "dangerous", TOUCHES + match[0][2:].decode())
    try:
        for name in _custom(source):
            _judge(search, where, name)
    except (FileBroken, struct.error):
        search.add(where, "suspicious", "has operators that cannot be read")


def _judge(search: Search, where: str, name: str) -> None:
    if name.startswith("Flex"):
        if name[4:] in FILES | SAVER:
            search.add(where, "dangerous", TOUCHES + name[:80])
        else:
            search.add(where, "no pickle", f"has the operator {name[:80]}, which runs TensorFlow's own")
    else:
        search.add(where, "no pickle", f"has the operator {name[:80]}: its program must bring the code that it runs")


def _custom(source: Source) -> Iterator[str]:
    """Yield the names of the operators in a model of TensorFlow Lite that are not its own."""
    codes = _field(source, _number(source, 0), CODES)
    if codes is None:
        return
    codes += _number(source, codes)
    for index in range(min(_number(source, codes), OPERATORS)):
        place = codes + 4 + 4 * index
        name = _field(source, place + _number(source, place), CUSTOM)
        if name is not None:
            name += _number(source, name)
            text = source.read(name + 4, min(_number(source, name), 1000)).decode("utf-8", "replace")
            if text:
                yield text


def _field(source: Source, table: int, index: int) -> int | None:
    """Return where a field of a table stands, or None where the table has none."""
    offsets = table - struct.unpack("<i", source.read(table, 4))[0]
    size = struct.unpack("<H", source.read(offsets, 2))[0]
    if 4 + 2 * index >= size:
        return None
    offset = struct.unpack("<H", source.read(offsets + 4 + 2 * index, 2))[0]
    return table + offset if offset else None


def _number(source: Source, at: int) -> int:
    return struct.unpack("<I", source.read(at, 4))[0]
