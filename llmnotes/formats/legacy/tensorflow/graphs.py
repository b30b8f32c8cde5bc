"""TensorFlow's graphs: a SavedModel with its variables beside it, and a frozen graph with its weights inside."""

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from llmnotes.errors import FileBroken, NotConvertible
from llmnotes.formats.files import CHUNK, Source, remembered
from llmnotes.formats.format import Format
from llmnotes.formats.legacy.tensorflow import bundle as tf_bundle
from llmnotes.formats.legacy.tensorflow.bundle import TYPES, shape_of
from llmnotes.formats.protobuf import LENGTH, VARINT, Field, Message
from llmnotes.formats.results import Identity, Inspection, Tensor, counted, size_of

GRAPH = {1: LENGTH, 2: LENGTH, 3: VARINT, 4: LENGTH, 5: LENGTH}  # a GraphDef: nodes, functions, versions, origins
META = dict.fromkeys(range(1, 8), LENGTH)  # a MetaGraphDef
NAME = re.compile(r"[A-Za-z0-9.][A-Za-z0-9_.\\/>-]*")
OPERATOR = re.compile(r"_?[A-Z][A-Za-z0-9_>]*")
CONTENT = 4  # a TensorProto's bytes as they are; otherwise one field of values for each type:
VALUES = {5: 4, 6: 8, 7: 0, 9: 8, 10: 0, 11: 0, 12: 16, 13: 0, 16: 0, 17: 0}  # -> bytes of a value, 0 for a varint
SPLAT_LIMIT = 1 << 31  # bytes that one repeated value may stand for


def identify(source: Source) -> Identity | None:
    """Return the identity of a SavedModel's saved_model.pb or of a frozen graph, or None.

    Protocol Buffers have no signature: every field must be one that the schema has, and a graph's first nodes must
    have names and operators.
    """
    message = Message(source)
    try:
        fields = list(zip(range(100_001), message.fields(), strict=False))
        tops = [field for _, field in fields]
        if not tops:
            return None
        if tops[0].number == 1 and tops[0].wire == VARINT:
            return _saved_model(message, tops)
        if any(GRAPH.get(field.number) != field.wire for field in tops):
            return None
        nodes = [field for field in tops if field.number == 1]
        if not nodes or not all(_is_node(message, node) for node in nodes[:100]):
            return None
    except FileBroken:
        return None
    evidence = f"the fields of a GraphDef: {counted(len(nodes), 'node')} with operators"
    return Identity("TensorFlow frozen graph", "", evidence)


def inspect(source: Source, identity: Identity) -> Inspection:
    """Return what a SavedModel or a frozen graph says: operators, signatures, and its weights.

    A SavedModel's variables are those of the checkpoint in its folder `variables`; a frozen graph's weights are its
    Const nodes. Raises `FileBroken` for constants that do not fill their shapes.
    """
    message, about, tensors, notes = Message(source), {}, {}, []
    if identity.format == "TensorFlow frozen graph":
        operators = Counter()
        _graph(message, message.fields(), operators, about, tensors)
        about["operators"] = dict(operators.most_common(200))
        found = tuple(tensor for tensor, _ in tensors.values())
        return Inspection(source.path, identity, found, about)
    for field in message.fields():
        if field.number == 2:
            _meta_graph(message, field, about)
    found, index = (), source.path.parent / "variables" / "variables.index"
    if index.is_file():
        with Source(index) as file:
            variables = tf_bundle.inspect(file, identity)
        found, notes = variables.tensors, list(variables.notes)
        about |= variables.metadata
    else:
        notes.append("There is no folder `variables` beside it: the values of its variables are missing.")
    return Inspection(source.path, identity, found, about, None, tuple(notes))


def read(inspection: Inspection, tensor: Tensor) -> Iterator[bytes]:
    """Yield the bytes of a constant that is a list of values, the last of which stands for all that are left out."""
    if inspection.identity.format == "TensorFlow SavedModel":
        index = inspection.path.parent / "variables" / "variables.index"
        yield from tf_bundle.read(Inspection(index, inspection.identity), tensor)
        return
    with Source(inspection.path) as source:
        message = Message(source)
        found, values = _values(inspection.path).get(tensor.name, (None, []))
        if found is None or (found.dtype, found.shape) != (tensor.dtype, tensor.shape):
            raise source.broken("it changed since its header was read")
        if tensor.dtype == "STRING":
            raise NotConvertible(f"{tensor.name[:80]} holds texts, which no other format here has; leave it out.")
        if tensor.nbytes > SPLAT_LIMIT:
            raise source.broken(f"{tensor.name[:80]!r} has {tensor.nbytes:,} bytes, more than a graph can")
        width = size_of(tensor.dtype, ())
        left, last = tensor.nbytes, bytes(width)
        for field in values:
            if VALUES[field.number]:
                pieces = source.stream(field.start, field.end - field.start)
            else:
                pieces = (value.to_bytes(8, "little")[:width] for value in message.each_number(field))
            for piece in pieces:
                left, last = left - len(piece), (last + piece)[-width:]
                yield piece
        if left < 0 or left % width:
            raise source.broken(f"{tensor.name[:80]!r} has more values than its shape")
        while left:
            count = min(left, CHUNK)
            yield last * (count // width)
            left -= count


def identify_folder(path: Path) -> Identity | None:
    """Return the identity of a folder with a saved_model.pb in it, or None for any other."""
    if not (path / "saved_model.pb").is_file():
        return None
    with Source(path / "saved_model.pb") as file:
        found = identify(file)
        if found is None:
            raise file.broken("it is no SavedModel")
        return found


def inspect_folder(path: Path, identity: Identity) -> Inspection:
    """Return what the saved_model.pb of a folder says, as `inspect` does."""
    with Source(path / "saved_model.pb") as file:
        return inspect(file, identity)


FORMAT = Format(identify, inspect, read)
FOLDER = Format(identify_folder, inspect_folder, read)


@remembered(files=2)
def _values(path: Path) -> dict[str, tuple[Tensor, list[Field]]]:
    """Return each constant of a graph with the fields that hold its values."""
    tensors = {}
    with Source(path) as source:
        message = Message(source)
        _graph(message, message.fields(), Counter(), {}, tensors)
    return tensors


def _saved_model(message: Message, tops: list[Field]) -> Identity | None:
    version, metas = tops[0].value or 0, tops[1:]
    if not 0 < version < 100 or not metas or any((field.number, field.wire) != (2, LENGTH) for field in metas):
        return None
    for meta in metas:
        parts = list(message.inside(meta))
        if any(META.get(part.number) != part.wire for part in parts) or not any(part.number == 2 for part in parts):
            return None
    evidence = f"the fields of a SavedModel with {counted(len(metas), 'graph')}"
    return Identity("TensorFlow SavedModel", str(version), evidence)


def _is_node(message: Message, node: Field) -> bool:
    texts = {part.number: message.text(part, 4096) for part in message.inside(node) if part.number in (1, 2)}
    return bool(NAME.fullmatch(texts.get(1, "")) and OPERATOR.fullmatch(texts.get(2, "")))


def _meta_graph(message: Message, meta: Field, about: dict) -> None:
    operators = Counter()
    for part in message.inside(meta):
        if part.number == 1:
            for piece in message.inside(part):
                if piece.number == 4:
                    about.setdefault("tags", []).append(message.text(piece, 4096))
                elif piece.number == 5:
                    about["tensorflow_version"] = message.text(piece, 4096)
        elif part.number == 2:
            _graph(message, message.inside(part), operators, about, {})
        elif part.number == 5:
            about.setdefault("signatures", []).append(
                next((message.text(piece, 4096) for piece in message.inside(part) if piece.number == 1), "")
            )
    about["operators"] = dict(operators.most_common(200))


def _graph(message: Message, fields: Iterator[Field], operators: Counter, about: dict, tensors: dict) -> None:
    """Count a GraphDef's operators, those of its functions included; add its constants to `tensors`."""
    for field in fields:
        if field.number == 1:
            _node(message, field, operators, tensors)
        elif field.number == 2:
            functions = [part for part in message.inside(field) if part.number == 1]
            about["functions"] = len(functions)
            for function in functions:
                for part in message.inside(function):
                    if part.number == 3:
                        _node(message, part, operators, {})


def _node(message: Message, node: Field, operators: Counter, tensors: dict) -> None:
    name = operator = ""
    attributes = []
    for part in message.inside(node):
        if part.number == 1:
            name = message.text(part, 1 << 16)
        elif part.number == 2:
            operator = message.text(part, 1 << 16)
        elif part.number == 5:
            attributes.append(part)
    operators[operator] += 1
    if operator != "Const":
        return
    for attribute in attributes:
        pieces = {piece.number: piece for piece in message.inside(attribute)}
        if 1 in pieces and 2 in pieces and message.text(pieces[1], 4096) == "value":
            value = next((piece for piece in message.inside(pieces[2]) if piece.number == 8), None)
            if value is None or name in tensors:
                raise message.broken(f"the constant {name[:80]!r} has no value, or stands twice")
            tensors[name] = _constant(message, name, value)


def _constant(message: Message, name: str, value: Field) -> tuple[Tensor, list[Field]]:
    """Return the tensor in a TensorProto, and the fields with its values if they are not its bytes as they are."""
    source = message.source
    assert isinstance(source, Source)  # a graph is never read from bytes in memory
    kind, shape, content, values = 0, (), None, []
    for part in message.inside(value):
        if part.number == 1:
            kind = part.value
        elif part.number == 2:
            shape = shape_of(source, message, part)
        elif part.number == CONTENT:
            content = part
        elif part.number in VALUES:
            values.append(part)
    if kind not in TYPES:
        raise message.broken(f"{name[:80]!r} has the unknown data type {kind}")
    dtype, path = TYPES[kind], source.path
    if dtype == "STRING":
        return Tensor(name, dtype, shape, 0, path), []
    nbytes = size_of(dtype, shape)
    if content is None or content.start == content.end:
        return Tensor(name, dtype, shape, nbytes, path), values
    if content.end - content.start != nbytes:
        raise message.broken(f"{name[:80]!r} does not have the bytes that its shape needs")
    return Tensor(name, dtype, shape, nbytes, path, content.start), []
