"""Code that is in no pickle, and that a program runs all the same when it loads the file.

What knows a kind of file is imported when a file is of that kind.
"""

import re

from llmnotes.errors import FileBroken
from llmnotes.formats.files import Source
from llmnotes.formats.scanning.state import Search

BY_HEADER = " (by its own header)"  # how the place ends of a member that the archive's directory does not list
TEXTS = re.compile(rb"(?:\xef\xbb\xbf|\xff\xfe|\xfe\xff)?[\s\0]*[\[{]")
PROGRAMS = (b"\x7fELF", b"MZqFpD", b"\xcf\xfa\xed\xfe", b"\xce\xfa\xed\xfe", b"\xca\xfe\xba\xbe")


def look_for_code(search: Search, source: Source, where: str) -> None:
    """Add what a file holds of code, and of operators that run Python or touch files, as each thing that it may be."""
    head, name = source.head(512), where.lower().removesuffix(BY_HEADER)
    text = bool(TEXTS.match(head))
    if head.startswith(PROGRAMS) or _is_windows_program(source, head):
        search.add(where, "suspicious", "is a program or a library, which a loader may start")
    if _is_hdf5(source):
        from llmnotes.formats.scanning import embedded

        embedded.look_into_hdf5(search, source, where)
    if name.endswith((".yaml", ".yml", "mlmodel")):
        from llmnotes.formats.scanning import settings

        settings.look_into_yaml(search, source, where)
    if name.endswith(".json") or text:
        from llmnotes.formats.scanning import settings

        settings.look_into_json(search, source, where)
    if head[4:8] in (b"TFL3", b"ORTM", b"PTMF"):
        from llmnotes.formats.scanning import flatbuffers

        flatbuffers.look_into_flatbuffer(search, source, where)
    if name.endswith(".onnx") or (not text and _is_onnx(source)):
        from llmnotes.formats.scanning import onnx

        onnx.look_into_onnx(search, source, where)
    if name.endswith((".pb", ".pbtxt", ".meta")) or (not text and _is_tensorflow(source)):
        from llmnotes.formats.scanning import operators

        operators.look_into_tensorflow(search, source, where)
    if name.endswith((".pkl", ".prototxt", "custom_generate/generate.py")):
        from llmnotes.formats.scanning import programs

        programs.look_into_program(search, source, name, where)


def look_at_archive(search: Search, source: Source, where: str) -> None:
    """Say what the names in a zip archive show: programs of PyTorch's, and compiled code."""
    from llmnotes.formats.scanning import programs

    programs.look_at_archive(search, source, where)


def _is_hdf5(source: Source) -> bool:
    from llmnotes.formats.legacy.keras import signature_at

    return signature_at(source) is not None


def _is_onnx(source: Source) -> bool:
    from llmnotes.formats.onnx import identify

    try:
        return identify(source) is not None
    except FileBroken:  # it begins as ONNX does
        return True


def _is_tensorflow(source: Source) -> bool:
    from llmnotes.formats.legacy.tensorflow.graphs import identify

    return identify(source) is not None


def _is_windows_program(source: Source, head: bytes) -> bool:
    at = int.from_bytes(head[60:64], "little")
    return head[:2] == b"MZ" and at + 4 <= source.size and source.read(at, 4) == b"PE\0\0"
