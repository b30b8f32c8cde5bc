"""ONNX: a graph of operators and its weights as Protocol Buffers, the weights in the file or in one beside it."""

import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from llmnotes.errors import FileBroken
from llmnotes.formats.files import Source, remembered
from llmnotes.formats.format import Format
from llmnotes.formats.protobuf import FIXED32, FIXED64, LENGTH, VARINT, Field, Message, signed
from llmnotes.formats.results import Identity, Inspection, Tensor

# TensorProto.DataType -> (name, bits of an element)
TYPES = {
    1: ("F32", 32), 2: ("U8", 8), 3: ("I8", 8), 4: ("U16", 16), 5: ("I16", 16), 6: ("I32", 32), 7: ("I64", 64),
    8: ("STRING", 0), 9: ("BOOL", 8), 10: ("F16", 16), 11: ("F64", 64), 12: ("U32", 32), 13: ("U64", 64),
    14: ("C64", 64), 15: ("C128", 128), 16: ("BF16", 16), 17: ("F8_E4M3", 8), 18: ("F8_E4M3FNUZ", 8),
    19: ("F8_E5M2", 8), 20: ("F8_E5M2FNUZ", 8), 21: ("U4", 4), 22: ("I4", 4), 23: ("F4_E2M1", 4), 24: ("F8_E8M0", 8),
    25: ("U2", 2), 26: ("I2", 2),
}  # fmt: skip
# The fields that a ModelProto and a GraphProto may have, with their wire types.
MODEL = {1: VARINT, 5: VARINT} | dict.fromkeys((2, 3, 4, 6, 7, 8, 14, 20, 25, 26), LENGTH)
GRAPH: dict[int, int] = dict.fromkeys((1, 2, 5, 10, 11, 12, 13, 14, 15, 16), LENGTH)
LOOK = 1000  # fields of the graph that must look right before a file is called ONNX
RAW, FLOATS, INTS, STRINGS, LONGS, DOUBLES, UNSIGNED = 9, 4, 5, 6, 7, 10, 11  # fields that can hold a tensor's values
AS_THEY_ARE = (RAW, FLOATS, DOUBLES)  # those whose bytes are the tensor's; the others are varints


def identify(source: Source) -> Identity | None:
    """Return the identity of an ONNX file, or None for any other.

    Protocol Buffers have no signature: the file counts as ONNX if it has the fields of a ModelProto and no others, a
    version, and one graph whose fields are those of a GraphProto. Raises `FileBroken` if the file begins as ONNX does
    and is damaged behind that.
    """
    message = Message(source)
    try:
        version, graphs, opsets = 0, [], {}
        for field in message.fields():
            if MODEL.get(field.number) != field.wire:
                return None
            if field.number == 1:
                version = field.value or 0
            elif field.number == 7:
                graphs.append(field)
            elif field.number == 8:
                opsets.update([_opset(message, field)])
        if not 1 <= version < 1000 or len(graphs) != 1 or graphs[0].start == graphs[0].end:
            return None
        if version >= 3 and not opsets:
            raise message.broken("it does not say which version of the operators it needs")
        for _, field in zip(range(LOOK), message.inside(graphs[0]), strict=False):
            if GRAPH.get(field.number) != field.wire:
                return None
    except FileBroken:
        if _begins(source.head(140)):
            raise
        return None
    said = "".join(f", operators {name} {number}" for name, number in opsets.items())
    return Identity("ONNX", str(version), f"the fields of an ONNX ModelProto: version {version}, one graph{said}")


def inspect(source: Source, identity: Identity) -> Inspection:
    """Return what an ONNX file says: opsets, producer, inputs, outputs, operators, and every initializer.

    A tensor's `offset` is None where its values are varints (`data` decodes them) or where the file that holds them
    is not there (a note says so). Raises `FileBroken` for sizes that do not fit the shape, a name that stands twice,
    and for external data outside the model's folder. Does not list weights that stand in the graph's operators.
    """
    message = Message(source)
    about: dict[str, Any] = {"opsets": {}}
    notes, tensors = [], {}
    texts = {2: "producer_name", 3: "producer_version", 4: "domain", 6: "doc_string"}
    for field in message.fields():
        if field.number in texts:
            about[texts[field.number]] = message.text(field)
        elif field.number in (1, 5):
            about["ir_version" if field.number == 1 else "model_version"] = signed(field.value or 0)
        elif field.number == 8:
            about["opsets"].update([_opset(message, field)])
        elif field.number == 14:
            about.setdefault("properties", {}).update([_pair(message, field)])
        elif field.number == 7:
            _graph(message, field, about, tensors, notes)
    properties = about.get("properties", {})
    tensors = tuple(tensor for tensor, _ in tensors.values())
    return Inspection(source.path, identity, tensors, about, properties.get("architecture"), tuple(notes))


def read(inspection: Inspection, tensor: Tensor) -> Iterator[bytes]:
    """Yield the bytes of a tensor whose values are varints in the file, or repeated fields, a piece at a time."""
    with Source(inspection.path) as source:
        found, values = _values(inspection.path).get(tensor.name, (None, []))
        if found is None or (found.dtype, found.shape) != (tensor.dtype, tensor.shape):
            raise source.broken("it changed since its header was read")
        if tensor.dtype == "STRING":
            raise source.broken(f"the values of {tensor.name[:80]!r} are texts, which no other format here holds")
        if not values and tensor.nbytes:
            raise source.broken(f"the values of {tensor.name[:80]!r} are in a file that is not beside it")
        yield from _decoded(Message(source), tensor, values)


FORMAT = Format(identify, inspect, read)


@remembered(files=2)
def _values(path: Path) -> dict[str, tuple[Tensor, list[Field]]]:
    """Return each tensor of the graph with the fields that hold its values."""
    tensors = {}
    with Source(path) as source:
        message = Message(source)
        for field in message.fields():
            if field.number == 7:
                _graph(message, field, {}, tensors, [])
    return tensors


def _decoded(message: Message, tensor: Tensor, values: list[Field]) -> Iterator[bytes]:
    width = -(-tensor.nbytes // max(tensor.elements, 1))
    left = tensor.nbytes
    for field in values:
        if field.number in AS_THEY_ARE:
            pieces = message.file.stream(field.start, field.end - field.start)
        else:
            pieces = (value.to_bytes(8, "little")[:width] for value in message.each_number(field))
        waiting = bytearray()
        for piece in pieces:
            left -= len(piece)
            waiting += piece
            if len(waiting) >= 1 << 16:
                yield bytes(waiting)
                waiting.clear()
        yield bytes(waiting)
    if left:
        raise message.broken(f"{tensor.name[:80]!r} does not have the values that its shape needs")


def _graph(message: Message, graph: Field, about: dict, tensors: dict, notes: list[str]) -> None:
    """Read a GraphProto: fill `about`, and `tensors` with (tensor, the fields that hold its values) by name."""
    operators, inputs, outputs, sparse = Counter(), {}, {}, 0
    sizes: dict[str, int | None] = {}  # of the files beside this one
    places: dict[tuple, str] = {}
    for field in message.inside(graph):
        if field.number == 1:
            operators[next((message.text(part, 1000) for part in message.inside(field) if part.number == 4), "")] += 1
        elif field.number == 2:
            about["graph"] = message.text(field)
        elif field.number == 5:
            tensor, values = _tensor(message, field, sizes, notes)
            if tensor.name in tensors:
                raise message.broken(f"{tensor.name[:80]!r} stands twice")
            if tensor.offset is not None and tensor.nbytes:
                first = places.setdefault((tensor.path, tensor.offset, tensor.nbytes), tensor.name)
                if first != tensor.name:
                    tensor = replace(tensor, alias=first)
            tensors[tensor.name] = tensor, values
        elif field.number in (11, 12):
            (inputs if field.number == 11 else outputs).update([_value(message, field)])
        elif field.number == 15:
            sparse += 1
    # Up to version 3 every initializer had to be an input as well.
    about["inputs"] = {name: what for name, what in inputs.items() if name not in tensors}
    about["outputs"] = outputs
    about["operators"] = dict(operators.most_common(200))
    if sparse:
        notes.append(f"{sparse} sparse tensors are in it and are not listed.")


def _tensor(message: Message, field: Field, sizes: dict, notes: list[str]) -> tuple[Tensor, list[Field]]:
    name, kind, sides, values, external, place = "", 0, [], [], False, {}
    for part in message.inside(field):
        if part.number == 1:
            sides += map(signed, message.numbers(part, 640))
        elif part.number == 2:
            kind = part.value
        elif part.number == 8:
            name = message.text(part, 1 << 16)
        elif part.number in (RAW, FLOATS, INTS, STRINGS, LONGS, DOUBLES, UNSIGNED):
            values.append(part)
        elif part.number == 13:
            place.update([_pair(message, part)])
        elif part.number == 14:
            external = part.value == 1
    if kind not in TYPES:
        raise message.broken(f"{name[:80]!r} has the unknown data type {kind}")
    dtype, bits = TYPES[kind]
    shape = message.file.shape(sides, name)
    tensor = Tensor(name, dtype, shape, 0)
    nbytes = -(-tensor.elements * bits // 8)
    if external:
        path, offset = _beside(message, name, place, nbytes, sizes, notes)
        return Tensor(name, dtype, shape, nbytes, path, offset), []
    return _in_file(message, Tensor(name, dtype, shape, nbytes, message.file.path), values), values


def _in_file(message: Message, tensor: Tensor, values: list[Field]) -> Tensor:
    """Return the tensor with its offset, if its bytes lie in the file as they are; check what can be checked unread."""
    raw = [part for part in values if part.number in AS_THEY_ARE and part.end > part.start]
    if raw and any(part.wire not in (LENGTH, FIXED32, FIXED64) for part in raw):
        raise message.broken(f"the values of {tensor.name[:80]!r} are no list")
    length = sum(part.end - part.start for part in raw)
    room = sum(part.end - part.start for part in values if part.number not in AS_THEY_ARE)
    if tensor.dtype == "STRING":
        return tensor
    if raw and (length != tensor.nbytes or room):
        raise message.broken(f"{tensor.name[:80]!r} does not have the bytes that its shape needs")
    packed = 2 if tensor.dtype in ("U4", "I4", "F4_E2M1") else 4 if tensor.dtype in ("U2", "I2") else 1
    if not raw and -(-tensor.elements // packed) > room:  # a varint has one byte or more
        raise message.broken(f"{tensor.name[:80]!r} has fewer values than its shape needs")
    if len(raw) != 1:
        return tensor
    return Tensor(tensor.name, tensor.dtype, tensor.shape, tensor.nbytes, tensor.path, raw[0].start)


def _beside(message: Message, name: str, place: dict, nbytes: int, sizes: dict, notes: list[str]):
    """Return the path and offset of external data; (None, None) and a note if its file is not there."""
    location = place.get("location", "")
    folder = message.file.path.parent
    try:
        offset, length = int(place.get("offset", "0")), int(place.get("length", str(nbytes)))
    except ValueError:
        raise message.broken(f"the place of {name[:80]!r} is no number") from None
    if location not in sizes:
        parts = re.split(r"[\\/]", location)
        inside = location and "\0" not in location and ".." not in parts and ":" not in parts[0] and parts[0]
        if not inside or not (folder / location).resolve().is_relative_to(folder.resolve()):
            raise message.broken(f"it says that weights lie at {location[:200]!r}, which is outside its folder")
        path = folder / location
        try:
            sizes[location] = path.stat().st_size if os.path.isfile(path) else None
        except OSError:
            sizes[location] = None
        if sizes[location] is None:
            notes.append(
                f"The weights in {location[:200]} are not there: put that file beside {message.file.path.name}."
            )
    if sizes[location] is None:
        return None, None
    if length != nbytes or offset < 0 or offset + length > sizes[location]:
        raise message.broken(f"the bytes of {name[:80]!r} are not where it says, in {location[:200]}")
    return folder / location, offset


def _opset(message: Message, field: Field) -> tuple[str, int]:
    domain, version = "ai.onnx", 0
    for part in message.inside(field):
        if part.number == 1:
            domain = message.text(part, 1000) or domain
        elif part.number == 2:
            version = part.value or 0
    return domain, version


def _pair(message: Message, field: Field) -> tuple[str, str]:
    parts = {part.number: message.text(part) for part in message.inside(field) if part.number in (1, 2)}
    return parts.get(1, ""), parts.get(2, "")


def _value(message: Message, field: Field) -> tuple[str, list]:
    """Return the name of an input or output, with its dtype and its sides: a number, a name, or "?"."""
    name, dtype, sides = "", "?", []
    for part in message.inside(field):
        if part.number == 1:
            name = message.text(part, 1 << 16)
        elif part.number == 2:
            tensors = [inner for inner in message.inside(part) if inner.number == 1]
            for inner in (inner for tensor in tensors for inner in message.inside(tensor)):
                if inner.number == 1:
                    dtype = TYPES.get(inner.value or 0, ("?", 0))[0]
                elif inner.number == 2:
                    sides = [_side(message, side) for side in message.inside(inner) if side.number == 1]
    return name, [dtype, sides]


def _side(message: Message, field: Field) -> int | str:
    side = next((part for part in message.inside(field) if part.number in (1, 2)), None)
    if side is None:
        return "?"
    return signed(side.value or 0) if side.wire == VARINT else message.text(side, 1000)


def _begins(head: bytes) -> bool:
    """Whether a file begins as most ONNX files do: with a version and the producer's name."""
    name = head[4 : 4 + head[3]] if len(head) > 4 and head[:3:2] == b"\x08\x12" else b""
    return bool(re.fullmatch(rb"[A-Za-z][\w .:/-]{2,}", name)) and 0 < head[1] < 64
