"""The graph of an ONNX model: its operators, and the tensors in it and in the graphs inside its operators."""

import os
import re
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any

from llmnotes.formats.protobuf import FIXED32, FIXED64, LENGTH, VARINT, Field, Message, signed
from llmnotes.formats.results import Tensor

# TensorProto.DataType -> (name, bits of an element)
TYPES = {
    1: ("F32", 32), 2: ("U8", 8), 3: ("I8", 8), 4: ("U16", 16), 5: ("I16", 16), 6: ("I32", 32), 7: ("I64", 64),
    8: ("STRING", 0), 9: ("BOOL", 8), 10: ("F16", 16), 11: ("F64", 64), 12: ("U32", 32), 13: ("U64", 64),
    14: ("C64", 64), 15: ("C128", 128), 16: ("BF16", 16), 17: ("F8_E4M3", 8), 18: ("F8_E4M3FNUZ", 8),
    19: ("F8_E5M2", 8), 20: ("F8_E5M2FNUZ", 8), 21: ("U4", 4), 22: ("I4", 4), 23: ("F4_E2M1", 4), 24: ("F8_E8M0", 8),
    25: ("U2", 2), 26: ("I2", 2),
}  # fmt: skip
RAW, FLOATS, INTS, STRINGS, LONGS, DOUBLES, UNSIGNED = 9, 4, 5, 6, 7, 10, 11  # fields that can hold a tensor's values
AS_THEY_ARE = (RAW, FLOATS, DOUBLES)  # those whose bytes are the tensor's; the others are varints

DEPTH = 30  # of graphs inside operators; Protocol Buffers themselves end at 33
WHOLE = ("I64", "I32", "BOOL", "STRING")  # a constant of these says how, and is no weight
HOLDERS = ("Constant", "If", "Loop", "Scan", "SequenceMap")  # operators whose attributes are tensors or graphs
LARGE = 200  # bytes of an attribute of another operator that may hold some, too


@dataclass
class Graph:
    """What a model's graphs hold: each tensor with the fields that have its values, by name, and facts.

    A tensor in an operator has the name of the operator's first output; one of a graph inside an operator or of a
    function has that one's name before its own.
    """

    message: Message
    tensors: dict[str, tuple[Tensor, list[Field]]] = field(default_factory=dict)
    about: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    operators: Counter[str] = field(default_factory=Counter)
    sparse: int = 0
    sizes: dict[str, int | None] = field(default_factory=dict)  # of the files beside this one
    places: dict[tuple, str] = field(default_factory=dict)

    def read(self, field: Field) -> None:
        """Read a field of the ModelProto, if it is the graph or a function; the others are not read."""
        if field.number == 7:
            self._graph(field)
        elif field.number == 25:
            parts = list(self.message.inside(field))
            name = next((self.message.text(part, 1000) for part in parts if part.number == 1), "")
            for part in parts:
                if part.number == 7:
                    self._node(part, f"{name}.", 1)

    def _graph(self, graph: Field) -> None:
        inputs, outputs, initializers = {}, {}, set()
        for part in self.message.inside(graph):
            if part.number == 2:
                self.about["graph"] = self.message.text(part)
            elif part.number in (11, 12):
                (inputs if part.number == 11 else outputs).update([_value(self.message, part)])
            else:
                initializers.add(self._part(part, "", 0))
        # Up to version 3 every initializer had to be an input as well.
        self.about["inputs"] = {name: what for name, what in inputs.items() if name not in initializers}
        self.about["outputs"] = outputs
        self.about["operators"] = dict(self.operators.most_common(200))
        if self.sparse:
            self.notes.append(f"{self.sparse} sparse tensors are in it and are not listed.")

    def _part(self, part: Field, scope: str, depth: int) -> str | None:
        """Read a node or an initializer of a graph; return the initializer's name."""
        if part.number == 1:
            self._node(part, scope, depth)
        elif part.number == 5:
            tensor, values = _tensor(self.message, part, self.sizes, self.notes)
            name = scope + tensor.name
            if name in self.tensors:
                raise self.message.broken(f"{name[:80]!r} stands twice")
            self._add(replace(tensor, name=name), values)
            return name
        elif part.number == 15:
            self.sparse += 1
        return None

    def _node(self, node: Field, scope: str, depth: int) -> None:
        """Count an operator, and read the tensors and graphs in its attributes."""
        kind, output, attributes = "", "", []
        for part in self.message.inside(node):
            if part.number == 2 and not output:
                output = self.message.text(part, 1 << 16)
            elif part.number == 4:
                kind = self.message.text(part, 1000)
            elif part.number == 5:
                attributes.append(part)
        if depth == 0:
            self.operators[kind] += 1
        for attribute in attributes:
            if kind in HOLDERS or attribute.end - attribute.start > LARGE:
                self._attribute(attribute, kind, scope + output, depth)

    def _attribute(self, attribute: Field, kind: str, owner: str, depth: int) -> None:
        name, floats = "", []
        parts = list(self.message.inside(attribute))
        for part in parts:
            if part.number == 1:
                name = self.message.text(part, 1000)
            elif part.number in (2, 7):  # a number, or a list of numbers
                floats.append(part._replace(number=FLOATS))
        own = owner if kind == "Constant" else f"{owner}.{name}"
        for part in parts:
            if part.number in (5, 10):  # a tensor, or one of several
                tensor, values = _tensor(self.message, part, self.sizes, self.notes)
                self._add_constant(replace(tensor, name=own), values)
            elif part.number in (6, 11):  # a graph, or one of several
                if depth >= DEPTH:
                    raise self.message.broken("its graphs are nested deeper than those of any model")
                for inner in self.message.inside(part):
                    self._part(inner, f"{owner}.{name}.", depth + 1)
            elif part.number in (22, 23):
                self.sparse += 1
        if kind == "Constant" and floats:
            count = sum(part.end - part.start for part in floats) // 4
            shape = () if name == "value_float" else (count,)
            tensor = Tensor(own, "F32", shape, 4 * count, self.message.file.path)
            self._add_constant(_in_file(self.message, tensor, floats), floats)

    def _add_constant(self, tensor: Tensor, values: list[Field]) -> None:
        name = tensor.name
        while name in self.tensors:  # one of several in an attribute
            name = f"{tensor.name}#{len(self.tensors)}"
        self._add(replace(tensor, name=name, counts=tensor.dtype not in WHOLE), values)

    def _add(self, tensor: Tensor, values: list[Field]) -> None:
        if tensor.offset is not None and tensor.nbytes:
            first = self.places.setdefault((tensor.path, tensor.offset, tensor.nbytes), tensor.name)
            if first != tensor.name:
                tensor = replace(tensor, alias=first)
        self.tensors[tensor.name] = tensor, values


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
            place.update([pair(message, part)])
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


def pair(message: Message, field: Field) -> tuple[str, str]:
    """Return the key and the value of a StringStringEntryProto."""
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
