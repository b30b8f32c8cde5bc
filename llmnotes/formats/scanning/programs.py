"""Programs in archives of PyTorch's: TorchScript, torch.package and torch.export, and Python in other files."""

import re

from llmnotes.formats import zips
from llmnotes.formats.files import METADATA_LIMIT, Source
from llmnotes.formats.scanning.settings import pieces
from llmnotes.formats.scanning.state import Search

# Operators that read and write files or reach other machines, as a pickle of PyTorch's names them.
FILE_OPERATORS = re.compile(rb"\b(?:aten::(?:save|from_file|load)|image::(?:read|write)_file|\w*rpc\w*::\w+)\b")
# The same as TorchScript's code calls them.
SCRIPT = re.compile(
    rb"\b(?:torch\.(?:save|load|from_file)|ops\.\w+\.(?:save\w*|load\w*|from_file|read_file|write_file)"
    rb"|ops\.\w*rpc\w*\.\w+|torch\.classes\.(?:dist_rpc|dist_c10d|c10d)\w*)\b"
)
TORCHSCRIPT = (
    "is a TorchScript program, which runs when the model is loaded or called; it was searched for operators that touch "
    "files and for nothing else"
)
LIBRARIES = (".so", ".dll", ".dylib", ".pyd")


def look_at_archive(search: Search, source: Source, where: str) -> None:
    """Say what the names in a zip archive show: programs of PyTorch's, and compiled code."""
    found = zips.directory(source)[0]
    names = {entry.name for entry in found}
    inner = {name.split("/", 1)[-1] for name in names if "/" in name}
    if ".data/extern_modules" in inner or ".data/python_version" in inner:
        search.add(where, "suspicious", "is an archive of torch.package, whose Python files run when it is loaded")
    elif inner & {"constants.pkl", "data.pkl", "model.json"}:
        code = [entry for entry in found if re.search(r"^[^/]*/code/.*\.py$", entry.name)]
        if code:
            search.add(where, "no pickle", TORCHSCRIPT)
        for entry in code:
            data = zips.content(source, entry, strict=False) if entry.size <= METADATA_LIMIT else b""
            for match in SCRIPT.finditer(data):
                search.add(f"{where}:{entry.name}", "dangerous", f"calls {match[0].decode()}, which touches files")
    libraries = sorted(name for name in names if name.lower().endswith(LIBRARIES))
    if libraries:
        search.add(where, "suspicious", f"holds compiled code, which a loader may start: {libraries[0][:200]}")
    if any("aotinductor/" in name for name in names):
        search.add(where, "suspicious", "is a program that AOTInductor has compiled, which runs when it is loaded")


def look_into_program(search: Search, source: Source, name: str, where: str) -> None:
    """Look into what is called a program: TorchScript's list of operators, Caffe's layers, and a generator's Python.

    `name` is the end of the place in small letters.
    """
    if name.endswith("custom_generate/generate.py"):
        search.add(where, "suspicious", "is what generate(custom_generate=...) runs with trust_remote_code=True")
    elif name.endswith(".prototxt"):
        if any(re.search(rb"\bpython_param\s*:?\s*\{", piece) for piece in pieces(source)):
            search.add(where, "dangerous", "has a Python layer, whose module Caffe imports")
    elif search.torch or search.torchscript or name.endswith("bytecode.pkl"):
        for piece in pieces(source):
            for match in FILE_OPERATORS.finditer(piece):
                search.add(where, "dangerous", f"calls {match[0].decode()}, which touches files")
