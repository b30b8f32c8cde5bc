"""Format the result of `inspect` as text or as plain data; text from a file reaches a terminal only escaped."""

import math
from collections import Counter
from collections.abc import Sequence, Set
from typing import Any

from llmnotes.errors import visible
from llmnotes.formats.results import Conversion, Inspection, counted

WIDTH = 100  # characters of a value that a reader sees
DEPTH = 40  # levels of nesting that are followed


def describe_inspection(inspection: Inspection, summary: bool = False) -> str:
    """Return what `inspection` says, as lines to be read; long values are shortened, control characters escaped.

    A `summary` has a line with the types of the tensors in place of metadata and tensors.
    """
    identity = inspection.identity
    lines = [f"{inspection.path}: {identity.format} {identity.version}".rstrip(), f"evidence   {identity.evidence}"]
    if inspection.architecture:
        lines.append(f"model      {inspection.architecture}")
    if inspection.tensors:
        size = f"{counted(len(inspection.tensors), 'tensor')}, {counted(inspection.nbytes, 'byte')}"
        bits = f"{inspection.bits_per_weight or 0:.2f} bits per weight"
        lines.append(f"weights    {counted(inspection.parameters, 'parameter')} in {size}, {bits}")
    lines += [f"note       {note}" for note in inspection.notes]
    if summary:
        types = ", ".join(f"{count:,} in {dtype}" for dtype, count in types_of(inspection).items())
        return "\n".join(map(visible, [*lines, *([f"types      {types}"] if types else [])]))
    if inspection.metadata:
        lines += ["", "metadata", *(f"  {key}  {value}" for key, value in _flat("", inspection.metadata, 4))]
    if inspection.tensors:
        lines += ["", "tensors", *_table(inspection)]
    return "\n".join(map(visible, lines))


def types_of(inspection: Inspection) -> dict[str, int]:
    """Return how many tensors are stored in each type, the most frequent first."""
    return dict(Counter(tensor.dtype for tensor in inspection.tensors).most_common())


def inspection_dict(inspection: Inspection, summary: bool = False) -> dict:
    """Return what `inspection` says as plain data that any JSON reader accepts, with nothing shortened.

    A `summary` has `types` (how many tensors are in each) in place of metadata and tensors.
    """
    identity = inspection.identity
    found = {
        "path": visible(str(inspection.path)),
        "format": identity.format,
        "version": plain(identity.version),
        "evidence": plain(identity.evidence),
        "architecture": plain(inspection.architecture),
        "parameters": inspection.parameters,
        "bytes": inspection.nbytes,
        "bits_per_weight": inspection.bits_per_weight,
        "metadata": plain(inspection.metadata),
        "notes": plain(inspection.notes),
        "tensors": [
            {"name": plain(t.name), "dtype": t.dtype, "shape": list(t.shape), "bytes": t.nbytes}
            | ({"file": visible(t.path.name)} if t.path and t.path != inspection.path else {})
            | ({"offset": t.offset} if t.offset is not None else {})
            | ({"same_as": plain(t.alias)} if t.alias else {})
            for t in inspection.tensors
        ],
    }
    if not summary:
        return found
    return {key: found[key] for key in found if key not in ("metadata", "tensors")} | {"types": types_of(inspection)}


def describe_conversion(conversion: Conversion) -> str:
    """Return what a conversion did, as lines to be read."""
    size = f"{counted(conversion.tensors, 'tensor')}, {counted(conversion.nbytes, 'byte')}"
    files = f" in {len(conversion.files):,} files" if len(conversion.files) > 1 else ""
    lines = [f"{conversion.target}: {size}, as {conversion.to}{files}"]
    for kind, count in Counter(conversion.fallbacks.values()).most_common():
        names = [name for name, other in conversion.fallbacks.items() if other == kind]
        more = f" and {count - 3:,} more" if count > 3 else ""
        lines.append(f"other type  {counted(count, 'tensor')} became {kind}: {', '.join(names[:3])}{more}")
    lines += [f"lost        {sentence}" for sentence in conversion.lost]
    return "\n".join(map(visible, lines))


def conversion_dict(conversion: Conversion) -> dict:
    """Return what a conversion did as plain data."""
    return {
        "source": visible(str(conversion.source)),
        "target": visible(str(conversion.target)),
        "from": conversion.identity.format,
        "to": conversion.to,
        "tensors": conversion.tensors,
        "bytes": conversion.nbytes,
        "files": len(conversion.files),
        "fallbacks": plain(conversion.fallbacks),
        "lost": plain(conversion.lost),
        "left_out": plain(conversion.left),
    }


def plain(value: Any, depth: int = DEPTH) -> Any:
    """Return `value` with JSON types only: bytes become hexadecimal digits, NaN and infinities become their names."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, str):
        return value if value.isascii() else value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, bytes | bytearray):
        return value.hex()
    if depth == 0:
        return "…"
    if isinstance(value, dict):
        return {str(plain(key, 1)): plain(item, depth - 1) for key, item in value.items()}
    if isinstance(value, Sequence | Set):
        return [plain(item, depth - 1) for item in value]
    return plain(value.tolist() if hasattr(value, "tolist") else str(value), depth - 1)


def _flat(prefix: str, value: dict, depth: int):
    """Yield (dotted key, shortened value) for each setting."""
    for key, item in value.items():
        name = _short(f"{prefix}{key}")
        if isinstance(item, dict) and item and depth:
            yield from _flat(f"{name}.", item, depth - 1)
        elif hasattr(item, "__getitem__") and not isinstance(item, str | bytes | dict) and len(item) > 8:
            head = ", ".join(_short(repr(plain(item[place], 3)), 20) for place in range(3))
            yield name, f"[{head}, … {len(item):,} values]"
        else:
            yield name, _short(item if isinstance(item, str) else str(plain(item, 4)))


def _short(text: str, width: int = WIDTH) -> str:
    return text if len(text) <= width else f"{text[:width]}… ({len(text):,} characters)"


def _table(inspection: Inspection):
    rows = []
    for tensor in inspection.tensors:
        shape = " × ".join(map(str, tensor.shape)) or "scalar"
        size = f"= {tensor.alias}" if tensor.alias else f"{tensor.nbytes:,}"
        rows.append((_short(tensor.name), tensor.dtype, shape, size))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    for row in rows:
        yield "  " + "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[3]])
