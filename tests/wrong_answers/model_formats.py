"""Typical wrong answers to the exercises of notebook 11: {exercise: {key of its hint: source}}."""


def _def(head: str, *lines: str, imports: str = "") -> str:
    body = "\n    ".join(lines)
    return f"{imports}{chr(10) * 3 if imports else ''}def {head}:\n    {body}"


def _first_number(
    place: str = "8 + length + first",
    order: str = "little",
    last: str = 'struct.unpack("<f", b"\\0\\0" + pair)[0]',
    count: int = 2,
) -> str:
    return _def(
        "first_number(file, name)",
        f'length = int.from_bytes(file.read(8), "{order}")',
        "header = json.loads(file.read(length))",
        'first, end = header[name]["data_offsets"]',
        f"file.seek({place})",
        f"pair = file.read({count})",
        f"return {last}",
        imports="import json\nimport struct",
    )


def _imports(*lines: str) -> str:
    return _def("imports(content)", *lines, imports="import io\nimport pickletools")


_WALK = (
    "file, found = io.BytesIO(content), set()",
    "while file.tell() < len(content):",
    "    for opcode, argument, _ in pickletools.genops(file):",
    '        if opcode.name == "GLOBAL":',
    '            found.add(argument.replace(" ", "."))',
    "return found",
)


def _from_gguf(first: str, last: str) -> str:
    return _def("from_gguf(numbers, dims, heads)", f"matrix = {first}", f"return {last}")


_MATRIX = "numbers.reshape(dims[::-1])"
_BACK = "matrix.reshape(heads, -1, 2, matrix.shape[1]).swapaxes(1, 2).reshape(matrix.shape)"
_WHAT_IS = '''import io
import zipfile


def what_is(name, content):
    """Return the format of a file with this name and content, or "unknown"."""
    length = int.from_bytes(content[:8], "little")
    {gguf}
    {safetensors}
    if content[:4] == b"PK\\x03\\x04":
        {zip}
    {pickle}
    return "unknown"'''
_SIGN = '\n    if content[:4] == b"GGUF":\n        return "GGUF"'


def _what_is(
    gguf: str = _SIGN.strip(),
    safetensors: str = 'if content[8:9] == b"{" and 8 + length <= len(content):\n        return "safetensors"',
    zip: str = "names = zipfile.ZipFile(io.BytesIO(content)).namelist()\n        "
    'return "PyTorch zip" if any(n.endswith("/data.pkl") for n in names) else "unknown"',
    pickle: str = 'if content[:1] == b"\\x80":\n        return "pickle"',
) -> str:
    return _WHAT_IS.format(gguf=gguf, safetensors=safetensors, zip=zip, pickle=pickle)


_GIB = '''import math


def gguf_gib(tensors):
    """Return the GiB that the data of {{name: (shape, storage)}} takes as Q8_0."""
    total = 0
    for shape in {shapes}:
        blocks = math.prod(shape) // 32
        total += {size}
    return total / {unit}'''


def _gib(
    shapes: str = "{storage: shape for shape, storage in tensors.values()}.values()",
    size: str = "-(-blocks * 34 // 32) * 32",
    unit: str = "2**30",
) -> str:
    return _GIB.format(shapes=shapes, size=size, unit=unit)


WRONG = {
    "11.1": {
        "relative": _first_number("first"),
        "no_eight": _first_number("length + first"),
        "no_offsets": _first_number("8 + length"),
        "big_endian": _first_number(order="big"),
        "half": _first_number(last='struct.unpack("<e", pair)[0]'),
        "low_end": _first_number(last='struct.unpack("<f", pair + b"\\0\\0")[0]'),
        "reversed": _first_number(last='struct.unpack(">f", pair + b"\\0\\0")[0]'),
        "integer": _first_number(last='struct.unpack("<h", pair)[0]'),
        "four_bytes": _first_number(last='struct.unpack("<f", pair)[0]', count=4),
        "bytes": _first_number(last="pair"),
        "several": _first_number(last='struct.unpack("<f", b"\\0\\0" + pair)'),
        "other": _first_number("8 + length + end - 2"),
    },
    "11.2": {
        "executed": _imports("import pickle", "pickle.loads(content)", *_WALK),
        "first": _imports(*_WALK[:1], *(line[4:] for line in _WALK[2:5]), _WALK[5]),
        "space": _imports(*_WALK[:4], "            found.add(argument)", _WALK[5]),
        "module": _imports(*_WALK[:4], "            found.add(argument.split()[0])", _WALK[5]),
        "strings": _imports(
            *_WALK[:2],
            _WALK[2],
            '        if " " in str(argument):',
            '            found.add(argument.replace(" ", "."))',
            'return found - {"no.module"}',
        ),
        "other": _imports("return {opcode.name for opcode, _, _ in pickletools.genops(content)}"),
    },
    "11.3": {
        "order": _from_gguf("numbers.reshape(dims)", "matrix"),
        "transposed": _from_gguf("numbers.reshape(dims).T", _BACK),
        "permuted": _from_gguf(_MATRIX, "matrix"),
        "again": _from_gguf(_MATRIX, _BACK.replace("-1, 2", "2, -1")),
        "one_head": _from_gguf(_MATRIX, _BACK.replace("heads, -1", "1, -1")),
        "other": _from_gguf(_MATRIX, "matrix[::-1]"),
    },
    "11.4": {
        "name": _what_is(
            gguf='if name.endswith(".gguf") and content[:4] == b"GGUF":\n        return "GGUF"',
            safetensors='if name.endswith(".safetensors"):\n        return "safetensors"',
        ),
        "brace": _what_is(
            safetensors='if b"{" in content[:9] and length:\n        return "safetensors"',
        ),
        "any_zip": _what_is(zip='return "PyTorch zip"'),
        "backwards": _what_is(gguf='if content[:4] in (b"GGUF", b"lmgg"):\n        return "GGUF"'),
        "empty": _what_is(pickle='if content[0] == 0x80:\n        return "pickle"'),
        "weakest": _what_is(gguf='if content[:1] == b"\\x80":\n        return "pickle"' + _SIGN),
        "believes": _what_is(safetensors='if content[8:9] == b"{":\n        return "safetensors"'),
        "other": _what_is(gguf='if content[:4] == b"GGML":\n        return "GGUF"'),
    },
    "11.5": {
        "tied": _gib(shapes="[shape for shape, _ in tensors.values()]"),
        "scales": _gib(size="-(-blocks * 32 // 32) * 32"),
        "padding": _gib(size="blocks * 34"),
        "gb": _gib(unit="1e9"),
        "bits": _gib(unit="2**30 * 8"),
        "other": _gib(size="blocks * 34 + 32"),
    },
}
