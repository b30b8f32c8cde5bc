"""Writing GGUF 3: gguf-py writes the header, the keys and the table of tensors, and this module the tensors' bytes.

gguf-py takes every tensor as one array. Here a tensor comes piece by piece, because a piece of the source is quantized
at a time: a conversion needs as little memory for a large tensor as for a small one.
"""

import struct
from typing import Any, BinaryIO

from llmnotes.formats.gguf.types import NUMBERS, Texts, Typed, swapped
from llmnotes.formats.results import PlannedTensor

ALIGNMENT = 32  # bytes, unless general.alignment says otherwise
NAME_LIMIT = 63  # bytes of a tensor's name that llama.cpp has room for


def write_gguf(
    file: BinaryIO, metadata: dict[str, Any], tensors: list[PlannedTensor], byteorder: str = "little"
) -> None:
    """Write a GGUF 3 file with the keys of `metadata` and the `tensors`, both in the order given.

    A value is a `Typed("U64", 5)` or plain: a text (or its bytes) is a STRING, a bool a BOOL, an int a U32, a float an
    F32; in a list an int is an I32, as llama.cpp has it. The tensors have their shape in PyTorch's order and their
    data little-endian, also for `byteorder="big"`. Specification:
    https://github.com/ggml-org/ggml/blob/master/docs/gguf.md

    Raises `ValueError` for a value outside its kind, a name that is duplicate or too long, more than four
    dimensions, a row that its blocks do not fit, or data that does not fill its shape. Does not split into shards.
    """
    from llmnotes.formats.gguf.library import HeaderWriter

    alignment = metadata.get("general.alignment", ALIGNMENT)
    alignment = alignment.value if isinstance(alignment, Typed) else alignment
    if not isinstance(alignment, int) or alignment < 8 or alignment & (alignment - 1):
        raise ValueError(f"an alignment is a power of two from 8, and not {alignment}")
    writer = HeaderWriter(byteorder, alignment)
    for key, value in metadata.items():
        kind, value = value if isinstance(value, Typed) else (_kind(value), value)
        writer.add(key, kind, _encoded(value))
    for tensor in tensors:
        if len(tensor.name.encode()) > NAME_LIMIT:
            raise ValueError(f"{tensor.name} is longer than {NAME_LIMIT} bytes")
        if len(tensor.shape) > 4 or tensor.dtype not in NUMBERS:
            raise ValueError(f"GGUF has no {tensor.dtype} tensor of shape {tensor.shape} ({tensor.name})")
        writer.add_planned(tensor)
    try:
        file.write(writer.header())
    except (struct.error, OverflowError) as error:
        raise ValueError(f"a value is outside its kind: {error}") from None
    for tensor in tensors:
        left = tensor.nbytes
        for piece in tensor.data() if byteorder == "little" else swapped(tensor.dtype, tensor.data()):
            left -= len(piece)
            file.write(piece)
        if left:
            raise ValueError(f"{tensor.name} has {-left} bytes more than its shape needs")
        file.write(bytes(-tensor.nbytes % alignment))


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


def _encoded(value: Any) -> Any:
    """Return `value` with every text as UTF-8; half of a surrogate pair, which JSON can hold, becomes a "?"."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace")
    if isinstance(value, Texts):
        return [value.raw(at) for at in range(len(value))]
    if isinstance(value, list | tuple):
        return [_encoded(item) for item in value]
    return value
