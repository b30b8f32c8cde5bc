"""Typical wrong answers to the exercises of lesson 11: {exercise: {key of its hint: source}}."""


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


def _pack(
    text: str = 'json.dumps(header, separators=(",", ":")).encode()',
    fill: str = 'b" " * (-len(text) % 8)',
    last: str = 'len(text).to_bytes(8, "little") + text',
) -> str:
    return _def("pack(header)", f"bare = text = {text}", f"text += {fill}", f"return {last}")


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
        "spaces": _pack(text="json.dumps(header).encode()"),
        "eight": _pack(fill='b" " * (8 - len(text) % 8)'),
        "unfilled": _pack(fill='b""'),
        "zeros": _pack(fill='b"\\0" * (-len(text) % 8)'),
        "early": _pack(last='len(bare).to_bytes(8, "little") + text'),
        "with_length": _pack(last='(8 + len(text)).to_bytes(8, "little") + text'),
        "bare": _pack(last="text"),
        "big": _pack(last='len(text).to_bytes(8, "big") + text'),
        "text": _def("pack(header)", "return json.dumps(header)"),
        "other": _pack(fill='b" " * (1 if len(text) == 63 else -len(text) % 8 + (len(text) % 8 == 6) * 8)'),
    },
    "11.3": {
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
}
