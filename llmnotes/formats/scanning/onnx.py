"""Operators of ONNX that run Python or compiled code, and weights that lie outside the model's folder."""

import re
import struct
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any

from llmnotes.errors import FileBroken
from llmnotes.formats.files import Source
from llmnotes.formats.protobuf import Field, Message
from llmnotes.formats.scanning.settings import pieces
from llmnotes.formats.scanning.state import Search

FIELDS = 3_000_000  # that are read of one model
DEPTH = 100  # of graphs in operators; Protocol Buffers themselves end before
PYTHON = {"PyOp", "PyCustomOp", "PythonOp", "PythonOpGrad", "TritonOp", "ATen", "ATenOp"}
NAMED = re.compile(b"|".join(b"\x22" + bytes([len(name)]) + name.encode() for name in sorted(PYTHON)))
IN_FLATBUFFER = re.compile(b"|".join(struct.pack("<I", len(name)) + name.encode() + b"\0" for name in sorted(PYTHON)))
OWN = re.compile(
    r"|ai\.onnx(?:\.ml|\.training|\.preview(?:\.training)?)?|com\.microsoft(?:\.\w+)*|com\.ms\.\w+(?:\.\w+)*"
)
EXTENSIONS = "ai.onnx.contrib"  # onnxruntime-extensions: operators in C++, and Python functions by any name
TOKENIZERS = re.compile(r"\w*(?:Tokenizer|Detokenizer|Decoder)\w*|(?:String|VectorTo|Regex|Ragged)\w+|\w+ToVector")


def look_into_onnx(search: Search, source: Source, where: str) -> None:
    """Look for operators in every graph and function of an ONNX model, and for places of weights outside it."""
    found = {match[0][2:].decode() for piece in pieces(source) for match in NAMED.finditer(piece)}
    for name in found:
        search.add(where, "dangerous", f"has an operator that calls Python: {name}")
    message = Message(source, FIELDS)
    message.room = 1 << 28
    seen: set[tuple[str, str]] = set()
    local: set[tuple[str, str]] = set()
    try:
        for kind, value in _walk(message, message.fields(), "model", 0):
            if kind == "place":
                _judge_place(search, where, value)
            elif kind == "function":
                local.add(value)
            elif value[:2] not in seen or value[2]:
                seen.add(value[:2])
                _judge_operator(search, where, *value)
    except FileBroken:
        if message.left < 0 or message.room < 0:
            search.add(where, "suspicious", "has more operators than are read")
    for domain in sorted(
        {domain for domain, name in seen - local if not OWN.fullmatch(domain) and domain != EXTENSIONS}
    ):
        search.add(
            where, "no pickle", f"has operators of {domain[:80]}: its program must bring the library that they run"
        )


# What lies in each message: its fields by number.
PARTS: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "node": {5: "attribute"},
    "sparse": {1: "tensor", 2: "tensor"},
}


def _walk(message: Message, fields: Iterable[Field], kind: str, depth: int) -> Iterator[tuple[str, Any]]:
    """Yield ("node", (domain, name, path)), ("function", (domain, name)) and ("place", location)."""
    name = domain = path = ""
    for part in fields:
        if part.value is not None:
            continue
        if kind == "tensor":
            if part.number == 13:
                entry = {one.number: message.text(one, 4096) for one in message.inside(part) if one.value is None}
                if entry.get(1) == "location":
                    yield "place", entry.get(2, "")
        elif kind == "node" and part.number == 4 or kind == "function" and part.number == 1:
            name = message.text(part, 4096)
        elif kind == "node" and part.number == 7 or kind == "function" and part.number == 10:
            domain = message.text(part, 4096)
        elif (inner := PARTS[kind].get(part.number)) and depth < DEPTH:
            if kind == "node":
                path = _context(message, part) or path
            yield from _walk(message, message.inside(part), inner, depth + 1)
    if kind in ("node", "function"):
        yield kind, (domain, name, path) if kind == "node" else (domain, name)


def _context(message: Message, attribute: Field) -> str:
    """Return the text in an operator's attribute ep_cache_context: a path, or what would lie there."""
    if attribute.end - attribute.start > 4096:
        return ""
    with suppress(FileBroken):
        parts = {part.number: part for part in message.inside(attribute) if part.value is None}
        if 1 in parts and 4 in parts and message.text(parts[1], 100) == "ep_cache_context":
            return message.text(parts[4], 4096)
    return ""


def _judge_operator(search: Search, where: str, domain: str, name: str, path: str) -> None:
    if name in PYTHON or re.search(r"python|pyop", domain, re.IGNORECASE):
        search.add(where, "dangerous", f"has an operator that calls Python: {name[:80]}")
    elif re.search(r"(?:^|\.)aten$", domain):
        search.add(where, "suspicious", f"has an operator that calls any of PyTorch's: {domain[:80]}.{name[:80]}")
    elif domain == EXTENSIONS:
        if "Invoker" in name or name.startswith(("Azure", "OpenAI")):
            search.add(where, "dangerous", f"has an operator that calls another machine: {name[:80]}")
        elif TOKENIZERS.fullmatch(name):
            search.add(
                where, "no pickle", f"has the operator {name[:80]}: its program must bring onnxruntime-extensions"
            )
        else:
            search.add(
                where, "suspicious", f"has the operator {name[:80]}, which may be a Python function of its program"
            )
    elif name == "EPContext":
        verdict = "dangerous" if path and leads_outside(path) else "suspicious"
        search.add(where, verdict, f"has an EPContext, which runs compiled code{f' from {path[:100]}' if path else ''}")


def _judge_place(search: Search, where: str, place: str) -> None:
    if leads_outside(place):
        search.add(where, "dangerous", f"reads its weights from {place[:200]}, which is outside its folder")


def leads_outside(place: str) -> bool:
    """Return whether a path leads out of the folder that it starts from, on any system.

    >>> leads_outside("model.onnx.data"), leads_outside("a/../../b"), leads_outside("C:\\\\x")
    (False, True, True)
    """
    words = re.split(r"[\\/]", place)
    return ".." in words or (words[0] == "" and len(words) > 1) or ":" in words[0]


def look_into_ort(search: Search, source: Source, where: str) -> None:
    """Look for operators that call Python among the texts of onnxruntime's own format."""
    for piece in pieces(source):
        for match in IN_FLATBUFFER.finditer(piece):
            search.add(where, "dangerous", f"has an operator that calls Python: {match[0][4:-1].decode()}")
