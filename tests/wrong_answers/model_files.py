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
        "first_number(opened, name)",
        f'length = int.from_bytes(opened.read(8), "{order}")',
        "header = json.loads(opened.read(length))",
        'first, end = header[name]["data_offsets"]',
        f"opened.seek({place})",
        f"pair = opened.read({count})",
        f"return {last}",
        imports="import json\nimport struct",
    )


def _imports(*lines: str) -> str:
    return _def("imports(content)", *lines, imports="import io\nimport pickletools")


_WALK = (
    "file, found = io.BytesIO(content), set()",
    "while file.tell() < len(content):",
    "    for opcode, argument, _ in pickletools.genops(file):",
    '        if opcode.name in ("GLOBAL", "INST"):',
    '            found.add(argument.replace(" ", "."))',
    '        if opcode.name == "STACK_GLOBAL":',
    '            found.add("?")',
    "return found",
)


def _pack(
    text: str = 'json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()',
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
        "text": _first_number(last='str(struct.unpack("<f", b"\\0\\0" + pair)[0])'),
        "rounded": _first_number(last='round(struct.unpack("<f", b"\\0\\0" + pair)[0], 3)'),
        "bytes": _first_number(last="pair"),
        "several": _first_number(last='struct.unpack("<f", b"\\0\\0" + pair)'),
        "other": _first_number("8 + length + end - 2"),
    },
    "11.2": {
        "spaces": _pack(text="json.dumps(header).encode()"),
        "json": _def("pack(header)", "return json.dumps(header).encode()"),
        "escaped": _pack(text='json.dumps(header, separators=(",", ":")).encode()'),
        "characters": _pack(
            text='json.dumps(header, separators=(",", ":"), ensure_ascii=False)',
            fill='" " * (-len(text) % 8)',
            last='len(text).to_bytes(8, "little") + text.encode()',
        ),
        "squeezed": _pack(text='json.dumps(header, ensure_ascii=False).replace(" ", "").encode()'),
        "no_metadata": _pack(
            text='json.dumps({n: header[n] for n in header if n[0] != "_"}, separators=(",", ":")).encode()'
        ),
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
        "first": _imports(*_WALK[:1], *(line[4:] for line in _WALK[2:7]), _WALK[7]),
        "space": _imports(*_WALK[:4], "            found.add(argument)", _WALK[7]),
        "module": _imports(*_WALK[:4], "            found.add(argument.split()[0])", _WALK[7]),
        "name": _imports(*_WALK[:4], "            found.add(argument.split()[1])", _WALK[7]),
        "global_only": _imports(*_WALK[:3], '        if opcode.name == "GLOBAL":', _WALK[4], _WALK[7]),
        "inst": _imports(*_WALK[:3], '        if opcode.name == "GLOBAL":', *_WALK[4:]),
        "stack": _imports(*_WALK[:5], _WALK[7]),
        "called": _imports(
            *_WALK[:2],
            "    steps = list(pickletools.genops(file))",
            "    for (opcode, argument, _), after in zip(steps, steps[1:]):",
            '        if opcode.name == "GLOBAL" and any(step.name == "REDUCE" for step, _, _ in steps):',
            *_WALK[4:],
        ),
        "strings": _imports(
            r"import re",
            r'found = re.findall(rb"c([\w.]+)\n([\w.]+)\n", content)',
            r'return {b".".join(pair).decode() for pair in found}',
        ),
        "swallowed": _imports(
            _WALK[0],
            "while True:",
            "    try:",
            *("    " + line for line in _WALK[2:7]),
            "    except ValueError:",
            "        return found",
        ),
        "other": _imports(*_WALK[:6], "            found.add(str(argument))", _WALK[7]),
    },
}
