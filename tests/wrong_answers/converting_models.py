"""Typical wrong answers to the exercises of lesson 12: {exercise: {key of its hint: source}}."""


def _def(head: str, *lines: str, imports: str = "") -> str:
    body = "\n    ".join(lines)
    return f"{imports}{chr(10) * 3 if imports else ''}def {head}:\n    {body}"


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
    "12.1": {
        "order": _from_gguf("numbers.reshape(dims)", "matrix"),
        "transposed": _from_gguf("numbers.reshape(dims).T", _BACK),
        "permuted": _from_gguf(_MATRIX, "matrix"),
        "again": _from_gguf(_MATRIX, _BACK.replace("-1, 2", "2, -1")),
        "one_head": _from_gguf(_MATRIX, _BACK.replace("heads, -1", "1, -1")),
        "axes": _from_gguf(_MATRIX, _BACK.removesuffix(".reshape(matrix.shape)")),
        "size": _from_gguf(_MATRIX, _BACK.replace("heads, -1", "-1, 4")),
        "other": _from_gguf(_MATRIX, "matrix[::-1]"),
    },
    "12.2": {
        "tied": _gib(shapes="[shape for shape, _ in tensors.values()]"),
        "scales": _gib(size="-(-blocks * 32 // 32) * 32"),
        "padding": _gib(size="blocks * 34"),
        "gb": _gib(unit="1e9"),
        "bits": _gib(unit="2**30 * 8"),
        "bytes": _gib(unit="1"),
        "always": _gib(size="(blocks * 34 // 32 + 1) * 32"),
        "other": _gib(size="blocks * 34 + 32"),
    },
    "12.3": {
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
}
