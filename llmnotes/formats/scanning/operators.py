"""Operators of TensorFlow in a SavedModel, a graph, its functions, and the text form of these.

Saving and restoring is what every saver does: it is a finding where anything but the saver can reach it.
"""

import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field

from llmnotes.errors import FileBroken
from llmnotes.formats.files import Source
from llmnotes.formats.protobuf import Field, Message
from llmnotes.formats.scanning.settings import LAMBDA, LAMBDA_FOUND, look_into_text, pieces
from llmnotes.formats.scanning.state import Search
from llmnotes.formats.scanning.tensorflow_names import BESIDE, FILES, SAVER

FIELDS = 1_500_000  # that are read of one graph
TOUCHES = "has an operator that calls Python or touches files: "
NAMED = re.compile(b"|".join(re.escape(b"\x12" + bytes([len(name)]) + name.encode()) for name in sorted(FILES)))
TEXT = rb"""(?:(?:"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')\s*)+"""
TEXT_OPERATOR = re.compile(rb"op\s*:\s*(" + TEXT + rb")")
TEXT_NAME = re.compile(rb"\bname\s*:\s*(" + TEXT + rb")[;,]?\s*$")
BEFORE = 400  # bytes before a node's operator in which its name is looked for
SAVER_FUNCTION = re.compile(r"__inference_?_traced_(?:save|restore)_\d+")
SAVER_NODE = re.compile(r"(?:^|/)save(?:_\d+)?/")
STARTS = ("__saved_model_init_op", "legacy_init_op", "saved_model_main_op")
METADATA = re.compile(rb'\{"[^\0]{0,200}"class_name"')


@dataclass
class Node:
    """One operator: its name, what it takes from, the functions that it calls, and the texts that it is told."""

    name: str = ""
    operator: str = ""
    inputs: list[str] = field(default_factory=list)
    functions: set[str] = field(default_factory=set)
    texts: dict[str, str] = field(default_factory=dict)


@dataclass
class Graph:
    """The nodes of a graph, those of its functions by their names, and what a caller asks for: nodes, functions."""

    nodes: list[Node] = field(default_factory=list)
    functions: dict[str, list[Node]] = field(default_factory=dict)
    asked: set[str] = field(default_factory=set)
    offered: set[str] = field(default_factory=set)


def look_into_tensorflow(search: Search, source: Source, where: str) -> None:
    """Look for operators that call Python or touch files, as bytes, as text and as the nodes of each graph."""
    found = set()
    for piece in pieces(source):
        found |= {match[0][2:].decode() for match in NAMED.finditer(piece)}
        for verdict, name in _in_text(piece):
            search.add(where, verdict, TOUCHES + name)
        if LAMBDA.search(piece):
            search.add(where, "dangerous", LAMBDA_FOUND)
    _look_into_metadata(search, source, where)
    remarks = set()
    for graph in _graphs(search, source, where):
        found |= set(_bad(graph))
        nodes = [*graph.nodes, *(node for nodes in graph.functions.values() for node in nodes)]
        remarks |= {node.operator for node in nodes if node.operator in BESIDE}
    for name in sorted(found):
        search.add(where, "dangerous", TOUCHES + name)
    for name in sorted(remarks):
        search.add(where, "no pickle", f"has {name}, which reads the file of words that its graph names")


def _in_text(piece: bytes) -> Iterator[tuple[str, str]]:
    """Yield the verdict on each operator in a graph's text form, and its name.

    Who can reach a saver is not followed there: one that does not have a saver's name is suspicious.
    """
    for match in TEXT_OPERATOR.finditer(piece):
        named = TEXT_NAME.search(piece[max(match.start() - BEFORE, 0) : match.start()])
        node, operator = _joined(named[1] if named else b""), _joined(match[1])
        if operator in FILES or (operator == "PrintV2" and b'"file:' in piece):
            yield "dangerous", operator
        elif operator in SAVER and not SAVER_NODE.search(node):
            yield "suspicious", operator


def _joined(texts: bytes) -> str:
    """Return a text that may be cut into several, each with escapes."""
    parts = re.findall(rb"""["']((?:[^"'\\]|\\.)*)["']""", texts)
    try:
        return b"".join(parts).decode("unicode_escape")
    except UnicodeDecodeError:
        return ""


def _look_into_metadata(search: Search, source: Source, where: str) -> None:
    """Look into the texts of keras_metadata.pb: each is the configuration of a layer."""
    if not where.lower().endswith("keras_metadata.pb"):
        return
    with suppress(FileBroken):
        message = Message(source, FIELDS)
        for layer in message.fields():
            for part in message.inside(layer):
                if part.number == 5:
                    look_into_text(search, message.payload(part), where)


def _graphs(search: Search, source: Source, where: str) -> Iterator[Graph]:
    """Yield the graphs of a file, read as a graph, as a graph with signatures, and as a SavedModel of several."""
    for depth in range(3):
        message = Message(source, FIELDS)
        graph = Graph()
        try:
            for top in _deeper(message, message.fields(), depth):
                _read_into(message, graph, top, depth)
        except FileBroken:
            if message.left < 0:
                search.add(where, "suspicious", f"has more than {FIELDS:,} fields; not all of its graph was read")
        yield graph


def _deeper(message: Message, fields: Iterable[Field], depth: int) -> Iterator[Field]:
    """Yield the fields of the messages with signatures, which lie one message deeper in a SavedModel."""
    for top in fields:
        if depth < 2:
            yield top
        elif top.number == 2 and top.value is None:
            yield from message.inside(top)


def _read_into(message: Message, graph: Graph, top: Field, depth: int) -> None:
    """Read a field of a graph (depth 0), or of a message with a graph and signatures, into `graph`."""
    if top.value is not None:
        return
    if depth == 0:
        _graph_field(message, graph, top)
    elif top.number == 2:
        for part in message.inside(top):
            if part.value is None:
                _graph_field(message, graph, part)
    elif top.number in (4, 5):
        with suppress(FileBroken):
            graph.asked |= _asked(message, top)
    elif top.number == 7:  # the objects of a SavedModel, with the functions that Python can call
        with suppress(FileBroken):
            for part in message.inside(top):
                if part.number == 2:
                    graph.offered |= {message.text(one, 1 << 16) for one in message.inside(part) if one.number == 1}


def _graph_field(message: Message, graph: Graph, part: Field) -> None:
    if part.number == 1:
        with suppress(FileBroken):
            graph.nodes.append(_node(message, part))
    elif part.number == 2:
        for function in message.inside(part):
            if function.number == 1 and function.value is None:
                name, nodes = "", []
                for inner in message.inside(function):
                    if inner.number == 1 and inner.value is None:
                        name = next((message.text(one) for one in message.inside(inner) if one.number == 1), "")
                    elif inner.number in (2, 3) and inner.value is None:
                        with suppress(FileBroken):
                            nodes.append(_node(message, inner))
                graph.functions.setdefault(name, []).extend(nodes)


def _node(message: Message, about: Field) -> Node:
    node = Node()
    for part in message.inside(about):
        if part.number == 1:
            node.name = message.text(part, 1 << 16)
        elif part.number == 2:
            node.operator = message.text(part, 1 << 16)
        elif part.number == 3:
            node.inputs.append(message.text(part, 1 << 16).lstrip("^").split(":")[0])
        elif part.number == 5:
            entry = {piece.number: piece for piece in message.inside(part)}
            if 2 in entry and 1 in entry:
                _attribute(message, node, message.text(entry[1], 1 << 16), message.inside(entry[2]))
    return node


def _attribute(message: Message, node: Node, name: str, fields: Iterable[Field]) -> None:
    for part in fields:
        if part.number == 2 and part.value is None and part.end - part.start < 4096:
            node.texts[name] = message.text(part, 4096)
        elif part.number == 10:
            node.functions |= {message.text(one, 1 << 16) for one in message.inside(part) if one.number == 1}
        elif part.number == 1 and part.value is None:  # a list of any of these
            for one in message.inside(part):
                if one.number == 9:
                    node.functions |= {message.text(two, 1 << 16) for two in message.inside(one) if two.number == 1}
                elif one.number == 2 and one.end - one.start < 4096:
                    node.texts[name] = node.texts.get(name, "") + "\n" + message.text(one, 4096)


def _asked(message: Message, top: Field) -> set[str]:
    """Return the nodes that a signature gives out, or that a collection of a model's starts."""
    entry = {part.number: part for part in message.inside(top)}
    if 1 not in entry or 2 not in entry:
        return set()
    names = set()
    for part in message.inside(entry[2]):
        if top.number == 5 and part.number == 2:  # an output
            output = {one.number: one for one in message.inside(part)}
            if 2 in output:
                names |= {message.text(one, 4096) for one in message.inside(output[2]) if one.number == 1}
        elif top.number == 4 and part.number == 1 and message.text(entry[1], 4096) in STARTS:
            names |= {message.text(one, 4096) for one in message.inside(part) if one.number == 1}
    return {name.lstrip("^").split(":")[0] for name in names}


def _bad(graph: Graph) -> Iterator[str]:
    """Yield the operators of a graph that touch files; those of the saver where anything else can reach them."""
    needed, called = _reached(graph)
    for node in graph.nodes:
        yield from _judged(node, SAVER_NODE.search(node.name) is not None and node.name not in needed)
    for name, nodes in graph.functions.items():
        for node in nodes:
            yield from _judged(node, SAVER_FUNCTION.fullmatch(name) is not None and name not in called)


def _judged(node: Node, saver: bool) -> Iterator[str]:
    stream, descriptors = node.texts.get("output_stream", ""), node.texts.get("descriptor_source", "")
    if node.operator in FILES or (node.operator in SAVER and not saver):
        yield node.operator
    elif node.operator == "PrintV2" and stream.strip().startswith("file:"):
        yield f"PrintV2 into {stream[:80]}"
    elif node.operator in ("DecodeProtoV2", "EncodeProto") and not descriptors.startswith(("local:", "bytes:")):
        if descriptors:
            yield f"{node.operator} with {descriptors[:80]}"


def _reached(graph: Graph) -> tuple[set[str], set[str]]:
    """Return the nodes that signatures need, and the functions that these or any other function call."""
    by_name = {node.name: node for node in graph.nodes}
    needed, waiting = set(), list(graph.asked)
    while waiting:
        name = waiting.pop()
        if name in by_name and name not in needed:
            needed.add(name)
            waiting += by_name[name].inputs
    called = set(graph.offered)
    for node in [by_name[name] for name in needed] + [node for nodes in graph.functions.values() for node in nodes]:
        called |= {*node.functions, node.operator}
    return needed, called
