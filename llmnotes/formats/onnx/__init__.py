"""ONNX: a graph of operators and its weights as Protocol Buffers, the weights in the file or in one beside it."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from llmnotes.errors import FileBroken, FileUnreadable, NotConvertible
from llmnotes.formats.files import Source, remembered
from llmnotes.formats.format import Format
from llmnotes.formats.onnx.graph import AS_THEY_ARE, Graph, pair
from llmnotes.formats.protobuf import FIELDS_LIMIT, LENGTH, VARINT, Field, Message, signed
from llmnotes.formats.results import Identity, Inspection, Tensor

# The fields that a ModelProto and a GraphProto may have, with their wire types.
MODEL = {1: VARINT, 5: VARINT} | dict.fromkeys((2, 3, 4, 6, 7, 8, 14, 20, 25, 26), LENGTH)
GRAPH: dict[int, int] = dict.fromkeys((1, 2, 5, 10, 11, 12, 13, 14, 15, 16), LENGTH)
LIMIT = 2 * FIELDS_LIMIT  # fields that are read: those of 50,000 operators and of their attributes
LOOK = 1000  # fields of the graph that must look right before a file is called ONNX


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
    """Return what an ONNX file says: opsets, producer, inputs, outputs, operators, and every tensor, also those in
    operators, in the graphs inside them, and in functions (`Graph` says how they are called).

    A tensor's `offset` is None where its values are varints (`data` decodes them) or where the file that holds them
    is not there (a note says so). Raises `FileBroken` for sizes that do not fit the shape, a name that stands twice,
    and for external data outside the model's folder. Does not list lists of whole numbers in operators, and the trees
    and coefficients in those of ai.onnx.ml.
    """
    message = Message(source, LIMIT)
    about: dict[str, Any] = {"opsets": {}}
    graph = Graph(message, about=about)
    texts = {2: "producer_name", 3: "producer_version", 4: "domain", 6: "doc_string"}
    for field in message.fields():
        if field.number in texts:
            about[texts[field.number]] = message.text(field)
        elif field.number in (1, 5):
            about["ir_version" if field.number == 1 else "model_version"] = signed(field.value or 0)
        elif field.number == 8:
            about["opsets"].update([_opset(message, field)])
        elif field.number == 14:
            about.setdefault("properties", {}).update([pair(message, field)])
        else:
            graph.read(field)
    properties = about.get("properties", {})
    tensors = tuple(tensor for tensor, _ in graph.tensors.values())
    return Inspection(source.path, identity, tensors, about, properties.get("architecture"), tuple(graph.notes))


def read(inspection: Inspection, tensor: Tensor) -> Iterator[bytes]:
    """Yield the bytes of a tensor whose values are varints in the file, or repeated fields, a piece at a time."""
    with Source(inspection.path) as source:
        found, values = _values(inspection.path).get(tensor.name, (None, []))
        if found is None or (found.dtype, found.shape) != (tensor.dtype, tensor.shape):
            raise source.broken("it changed since its header was read")
        if tensor.dtype == "STRING":
            raise NotConvertible(f"{tensor.name[:80]} holds texts, which no other format here has; leave it out.")
        if not values and tensor.nbytes:
            name = source.path.name
            raise FileUnreadable(f"The values of {tensor.name[:80]} are not beside {name}; put their file there.")
        yield from _decoded(Message(source), tensor, values)


FORMAT = Format(identify, inspect, read)


@remembered(files=2)
def _values(path: Path) -> dict[str, tuple[Tensor, list[Field]]]:
    """Return each tensor of the graph with the fields that hold its values."""
    with Source(path) as source:
        graph = Graph(Message(source, LIMIT))
        for field in graph.message.fields():
            graph.read(field)
    return graph.tensors


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


def _opset(message: Message, field: Field) -> tuple[str, int]:
    domain, version = "ai.onnx", 0
    for part in message.inside(field):
        if part.number == 1:
            domain = message.text(part, 1000) or domain
        elif part.number == 2:
            version = part.value or 0
    return domain, version


def _begins(head: bytes) -> bool:
    """Whether a file begins as most ONNX files do: with a version and the producer's name."""
    name = head[4 : 4 + head[3]] if len(head) > 4 and head[:3:2] == b"\x08\x12" else b""
    return bool(re.fullmatch(rb"[A-Za-z][\w .:/-]{2,}", name)) and 0 < head[1] < 64
