"""Writing GGUF 3: a header of typed keys, the tensors' names and places, and their bytes, each aligned."""

import struct
from typing import Any, BinaryIO

from llmnotes.formats.gguf.types import KINDS, NUMBERS, Texts, Typed, swapped
from llmnotes.formats.results import PlannedTensor

ALIGNMENT = 32  # bytes, unless general.alignment says otherwise
NAME_LIMIT = 63  # bytes of a tensor's name that llama.cpp has room for


def write(file: BinaryIO, metadata: dict[str, Any], parts: list[PlannedTensor], byteorder: str = "little") -> None:
    """Write a GGUF 3 file with the keys of `metadata` and the tensors of `parts`, both in the order given.

    A value is a `Typed("U64", 5)` or plain: a text (or its bytes) is a STRING, a bool a BOOL, an int a U32, a float an
    F32; in a list an int is an I32, as llama.cpp has it. `parts` have their shape in PyTorch's order and their data
    little-endian, also for `byteorder="big"`. Bytes equal those of gguf-py's GGUFWriter. Specification:
    https://github.com/ggml-org/ggml/blob/master/docs/gguf.md

    Raises `ValueError` for a value outside its kind, a name that stands twice or is too long, more than four
    dimensions, a row that its blocks do not fit, or data that does not fill its shape. Does not split into shards.
    """
    order = {"little": "<", "big": ">"}[byteorder]
    alignment = metadata.get("general.alignment", ALIGNMENT)
    alignment = alignment.value if isinstance(alignment, Typed) else alignment
    if not isinstance(alignment, int) or alignment < 8 or alignment & (alignment - 1):
        raise ValueError(f"an alignment is a power of two from 8, and not {alignment}")
    header = bytearray(b"GGUF" + struct.pack(order + "IQQ", 3, len(parts), len(metadata)))
    for key, value in metadata.items():
        header += _text(order, key)
        kind, value = value if isinstance(value, Typed) else (_kind(value), value)
        header += struct.pack(order + "I", _number(kind)) + _packed(order, kind, value)
    header += _table(order, parts, alignment)
    file.write(header + bytes(-len(header) % alignment))
    for part in parts:
        left = part.nbytes
        for piece in part.data() if byteorder == "little" else swapped(part.dtype, part.data()):
            left -= len(piece)
            file.write(piece)
        if left:
            raise ValueError(f"{part.name} has {-left} bytes more than its shape needs")
        file.write(bytes(-part.nbytes % alignment))


def _table(order: str, parts: list[PlannedTensor], alignment: int) -> bytes:
    """Return the table of tensors: name, sides (fastest first), type and place of each."""
    table, at, names = bytearray(), 0, set()
    for part in parts:
        if part.name in names or len(part.name.encode()) > NAME_LIMIT:
            raise ValueError(f"{part.name} stands twice or is longer than {NAME_LIMIT} bytes")
        if len(part.shape) > 4 or part.dtype not in NUMBERS or part.nbytes is None:
            raise ValueError(f"GGUF has no {part.dtype} tensor of shape {part.shape} ({part.name})")
        names.add(part.name)
        sides = struct.pack(f"{order}I{len(part.shape)}Q", len(part.shape), *reversed(part.shape))
        table += _text(order, part.name) + sides + struct.pack(order + "IQ", NUMBERS[part.dtype], at)
        at += part.nbytes + -part.nbytes % alignment
    return bytes(table)


def _kind(value: Any) -> str:
    """Return the kind of a plain value."""
    if isinstance(value, list | tuple) and value:
        kinds = {_kind(item).replace("U32", "I32") for item in value}
        if len(kinds) == 1:
            return f"[{kinds.pop()}]"
    for type_, kind in ((bool, "BOOL"), (str, "STRING"), (bytes, "STRING"), (int, "U32"), (float, "F32")):
        if isinstance(value, type_):
            return kind
    raise ValueError(f"say the kind of {value!r} with Typed(kind, value)")


def _number(kind: str) -> int:
    return KINDS["ARRAY" if kind.startswith("[") else kind][0]


def _packed(order: str, kind: str, value: Any) -> bytes:
    if kind == "STRING":
        return _text(order, value)
    try:
        if not kind.startswith("["):
            return struct.pack(order + KINDS[kind][1], value)
        inner = kind[1:-1]
        head = struct.pack(order + "IQ", _number(inner), len(value))
        if KINDS.get(inner, ("", ""))[1]:
            return head + struct.pack(f"{order}{len(value)}{KINDS[inner][1]}", *value)
    except (struct.error, OverflowError):
        raise ValueError(f"{str(value)[:80]} is no {kind}") from None
    items = map(value.raw, range(len(value))) if isinstance(value, Texts) else value
    return head + b"".join(_packed(order, inner, item) for item in items)


def _text(order: str, text: str | bytes) -> bytes:
    data = text.encode("utf-8", "replace") if isinstance(text, str) else text
    return struct.pack(order + "Q", len(data)) + data
