"""Programs in archives of PyTorch's: TorchScript, torch.package and torch.export, and Python in other files."""

import re

from llmnotes.formats import zips
from llmnotes.formats.files import Source
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
    names = {entry.name for entry in zips.directory(source)[0]}
    inner = {name.split("/", 1)[-1] for name in names if "/" in name}
    if ".data/extern_modules" in inner or ".data/python_version" in inner:
        search.add(where, "suspicious", "is an archive of torch.package, whose Python files run when it is loaded")
    elif any(name.startswith("code/") and name.endswith(".py") for name in inner):
        search.add(where, "no pickle", TORCHSCRIPT)
    libraries = sorted(name for name in names if name.lower().endswith(LIBRARIES))
    if libraries:
        search.add(where, "suspicious", f"holds compiled code, which a loader may start: {libraries[0][:200]}")
    if any("aotinductor/" in name for name in names):
        search.add(where, "suspicious", "is a program that AOTInductor has compiled, which runs when it is loaded")


def look_into_program(search: Search, source: Source, where: str) -> None:
    """Look into a file that is called a program: TorchScript's code and its list of operators, Caffe's layers."""
    name = where.lower()
    if ".prototxt" in name:
        for piece in pieces(source):
            if re.search(rb"\bpython_param\s*:?\s*\{", piece):
                search.add(where, "dangerous", "has a Python layer, whose module Caffe imports")
        return
    if ".pkl" in name:
        if search.torch or search.torchscript or "bytecode.pkl" in name:
            for piece in pieces(source):
                for match in FILE_OPERATORS.finditer(piece):
                    search.add(where, "dangerous", f"calls {match[0].decode()}, which touches files")
        return
    if "/code/" in where:
        for piece in pieces(source):
            for match in SCRIPT.finditer(piece):
                search.add(where, "dangerous", f"calls {match[0].decode()}, which touches files")
    if name.endswith("custom_generate/generate.py"):
        search.add(where, "suspicious", "is what generate(custom_generate=...) runs with trust_remote_code=True")
