"""Code that is in no pickle, and that a program runs all the same when it loads the file."""

import re

from llmnotes.formats.files import Source
from llmnotes.formats.scanning.embedded import look_for_embedded
from llmnotes.formats.scanning.state import Search

PIECE = 1 << 22  # bytes that are searched at a time
OVERLAP = 256  # longer than anything that is looked for


def _field(tag: bytes, *names: str) -> bytes:
    """Return an expression for a text of protobuf that is one of `names`: a tag, its length, the text."""
    return b"|".join(re.escape(tag + bytes([len(name)]) + name.encode()) for name in names)


LAMBDA = re.compile(rb'\\?"class_name\\?"\s*:\s*\\?"Lambda\\?"')
AUTO_MAP = re.compile(rb'"auto_map"\s*:\s*[{"\[]')
# NodeDef.op of a graph of TensorFlow: what reads or writes files, or calls Python.
TENSORFLOW = re.compile(
    _field(
        b"\x12",
        "ReadFile",
        "WriteFile",
        "PyFunc",
        "PyFuncStateless",
        "EagerPyFunc",
        "MatchingFiles",
        "PrintV2",
        "SaveV2Custom",
        "DebugIdentityV3",
        "LoadLibrary",
    )  # fmt: skip
)
# NodeProto.op_type of ONNX: operators of onnxruntime that call Python.
ONNX = re.compile(_field(b"\x22", "PyOp", "PyCustomOp", "PythonOp", "PythonOpGrad"))
HDF5 = b"\x89HDF\r\n\x1a\n"


def look_for_code(search: Search, source: Source, where: str) -> None:
    """Add what a file holds of Keras' Lambda layers, operators that run Python or touch files, and auto_map."""
    head, name = source.head(8), where.lower()
    if head == HDF5:
        if _has(source, LAMBDA):
            search.add(where, "dangerous", "has a Lambda layer, whose Python code Keras runs")
        look_for_embedded(search, source, where)
    elif name.endswith(".json"):
        if _has(source, LAMBDA):
            search.add(where, "dangerous", "has a Lambda layer, whose Python code Keras runs")
        if _has(source, AUTO_MAP):
            search.add(where, "suspicious", "has auto_map: trust_remote_code=True runs Python files from this folder")
    elif name.endswith((".pb", ".pbtxt", ".meta")):
        for found in _all(source, TENSORFLOW):
            search.add(where, "dangerous", f"has an operator that calls Python or touches files: {found}")
    elif name.endswith((".onnx", ".ort")):
        for found in _all(source, ONNX):
            search.add(where, "dangerous", f"has an operator that calls Python: {found}")


def _has(source: Source, pattern: re.Pattern[bytes]) -> bool:
    return bool(_all(source, pattern))


def _all(source: Source, pattern: re.Pattern[bytes]) -> list[str]:
    """Return the different texts in a file that match, without a tag and a length before them."""
    found = set()
    for at in range(0, source.size, PIECE):
        piece = source.read(at, min(PIECE + OVERLAP, source.size - at))
        found |= {match[0] for match in pattern.finditer(piece)}
    return sorted(text[2:].decode("ascii", "replace") for text in found)
