"""safetensors: a length, a JSON header, and the tensors' bytes.

We read the header ourselves, because `inspect` also has to say what is wrong with a damaged file, in one sentence. We
write ourselves, because the official writer wants the whole model in memory; this one holds a piece of a tensor.
"""

import json
from typing import Any, BinaryIO

from llmnotes.errors import NotConvertible
from llmnotes.formats.files import HEADER_LIMIT, Source, encodable
from llmnotes.formats.format import Format
from llmnotes.formats.results import Identity, Inspection, PlannedTensor, Tensor, divides, size_of
from llmnotes.formats.stretch import Stretch

# The official writer puts wide types first, so that every tensor is aligned.
ORDER = ("U64", "I64", "F64", "C64", "F32", "U32", "I32", "BF16", "F16", "U16", "I16")
ORDER += ("F8_E5M2FNUZ", "F8_E4M3FNUZ", "F8_E8M0", "F8_E4M3", "F8_E5M2", "I8", "U8")
ORDER += ("F6_E3M2", "F6_E2M3", "F4", "BOOL")


def identify(source: Source) -> Identity | None:
    """Return the identity of a safetensors file, or None for any other."""
    head = source.head(9)
    length = int.from_bytes(head[:8], "little")
    if head[8:9] != b"{" or not 2 <= length < 1 << 63:
        return None
    if length > max(HEADER_LIMIT, source.size):  # eight bytes that happen to precede a brace
        claims_json = source.head(64)[8:].lstrip(b"{ \n").startswith(b'"')
        if not claims_json:
            return None
    return Identity("safetensors", "", f"8 bytes that say {length:,}, then that many bytes of JSON")


def inspect(source: Source, identity: Identity) -> Inspection:
    """Return what the header of a safetensors file says.

    Raises `FileBroken` for a header that is not JSON, an unknown dtype, a size that does not fit the shape, and for
    tensors that overlap, leave a gap, or reach beyond the end: what the official reader refuses as well.
    """
    start = 8 + int.from_bytes(source.read(0, 8), "little")
    header = source.json(8, start - 8)
    if not encodable("".join(header)):
        raise source.broken("a name in its header is no Unicode")
    metadata = header.pop("__metadata__", None)
    metadata = {} if metadata is None else metadata
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise source.broken("its __metadata__ is no list of names with texts")
    if not encodable("".join((*metadata, *metadata.values()))):
        raise source.broken("a text in its __metadata__ is no Unicode")
    tensors = []
    for name, entry in header.items():
        try:
            dtype, (first, end) = entry["dtype"], entry["data_offsets"]
            shape = source.shape(entry["shape"], name)
        except (KeyError, TypeError, ValueError):
            raise source.broken(f"the entry of {name[:80]!r} lacks its dtype, shape or place") from None
        if dtype not in ORDER or not all(type(place) is int and place >= 0 for place in (first, end)):
            raise source.broken(f"the entry of {name[:80]!r} has an unknown dtype or no place")
        if not divides(dtype, shape) or size_of(dtype, shape) != end - first:
            raise source.broken(f"{name[:80]!r} does not have the bytes that its shape needs")
        tensors.append(Tensor(name, dtype, shape, end - first, source.path, start + first))
    at = start
    for tensor in sorted(tensors, key=lambda tensor: (tensor.offset, tensor.nbytes)):
        if tensor.offset != at:
            raise source.broken(f"{tensor.name[:80]!r} overlaps another tensor or follows a gap")
        at += tensor.nbytes
    if at != source.size:
        raise source.broken(f"its tensors end at {at:,}, and the file at {source.size:,}")
    return Inspection(source.path, identity, tuple(tensors), metadata)


FORMAT = Format(identify, inspect)


def in_unicode(format: str, texts: list[str]) -> None:
    """Raise `NotConvertible` for the first of the texts that the format, which has them in UTF-8, cannot hold."""
    strange = next((text for text in texts if not encodable(text)), None)
    if strange is not None:
        raise NotConvertible(
            f"The name {strange[:80]!r} is no Unicode, and {format} holds no other; rename that tensor in the source, "
            "or write a PyTorch file."
        )


def write_safetensors(file: BinaryIO, parts: list[PlannedTensor], metadata: dict[str, str] | None = None) -> None:
    """Write tensors to `file`, byte for byte as the official library does; one piece of a tensor is held at a time.

    Raises `ValueError` for a duplicate name, or data that does not fill its shape, and `NotConvertible` for a name that
    is no Unicode: a pickle can hold one. Does not write the quantized blocks of GGML: the format has no names for them.
    """
    in_unicode("safetensors", [*(part.name for part in parts), *(metadata or {}), *(metadata or {}).values()])
    parts = sorted(parts, key=lambda part: (ORDER.index(part.dtype), part.name.encode()))
    header: dict[str, Any] = {"__metadata__": dict(sorted(metadata.items()))} if metadata else {}
    at = 0
    for part in parts:
        if part.name in header or part.name == "__metadata__":
            raise ValueError(f"{part.name} stands twice, or is the name of the metadata")
        header[part.name] = {"dtype": part.dtype, "shape": list(part.shape), "data_offsets": [at, at + part.nbytes]}
        at += part.nbytes
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    file.write(len(text).to_bytes(8, "little") + text)
    for part in parts:
        written = 0
        for piece in part.data():
            written += len(piece)
            piece.into(file) if isinstance(piece, Stretch) else file.write(piece)
        if written != part.nbytes:
            raise ValueError(f"{part.name} has {written} bytes, and its shape needs {part.nbytes}")
