"""The exercises of notebook 03: a tensor's first number, imports, GGUF's order, lying names, size."""

from llmnotes.exercises import Exercise
from llmnotes.exercises.model_formats_checks import (
    check_first_number,
    check_from_gguf,
    check_gguf_gib,
    check_imports,
    check_what_is,
)


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


EXERCISES = [
    Exercise(
        id="03.1",
        title="The first number of a tensor",
        level="medium",
        minutes=15,
        task="""Write `first_number(file, name)`. `file` is a safetensors file, opened for reading bytes; the tensor is
in BF16. Return its first number. BF16 is the more significant half of a float32; the half that is missing is zero.""",
        clue="`file.read(8)` is the length of the header, then comes the header; what do its offsets count from? "
        '`struct.unpack("<f", four_bytes)` reads a little-endian float32.',
        name="first_number",
        stub='''def first_number(file, name):
    """Return the first number of a BF16 tensor in an open safetensors file."""
    ...''',
        solution=_first_number(),
        check=check_first_number,
        hints={
            "relative": "this counts the tensor's place from the beginning of the file, not from the header's end.",
            "no_eight": "8 bytes too early: before the header stands its length.",
            "big_endian": "the header's length came out as many terabytes: its least significant byte comes first.",
            "half": "this reads F16, which has as many bits and shares them out otherwise: 5 bits of exponent, not 8.",
            "low_end": "the zeros are on the wrong side: little-endian, the more significant half comes last.",
            "reversed": "the two bytes are read the other way round: the least significant one comes first.",
            "integer": "a whole number with the same bits. Sign, exponent and fraction are not told apart yet.",
            "four_bytes": "this takes four bytes of the file for one number. In BF16 they are two numbers.",
            "bytes": "these are bytes and no number yet: put two zero bytes in front of them, and unpack.",
            "several": "one number is asked for. struct.unpack returns a tuple, and a tensor has many: take its [0].",
            "other": "the numbers differ. The bytes 80 3f stand for 1.",
        },
        wrong={
            "relative": _first_number("first"),
            "no_eight": _first_number("length + first"),
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
    ),
    Exercise(
        id="03.2",
        title="What would it import?",
        level="hard",
        minutes=15,
        task="""Write `imports(content)`. `content` is bytes with one pickle or several, one after another, all of
protocol 2, as torch.save writes them. Return the set of names that they would import, as `"module.name"`, and run
nothing.""",
        clue="Protocol 2 imports with `GLOBAL`, whose argument is `module name`. `pickletools.genops` takes an open "
        "file, stops after one pickle, and leaves the file where the next one begins.",
        name="imports",
        stub='''def imports(content):
    """Return the set of "module.name" that the pickles in content would import."""
    ...''',
        solution=_imports(*_WALK),
        check=check_imports,
        hints={
            "executed": "your answer has run the pickle: a function in it was called. Walk its opcodes; load nothing.",
            "first": "this stops after the first pickle, and the hostile one came second. A file may hold several.",
            "space": "the names are right, with a space between module and name, as in the opcode. Put a dot there.",
            "module": "these are modules alone. What counts is the function: os.getcwd is harmless, os.system is not.",
            "strings": "a text that looks like a name is only a text: this pickle imports nothing.",
            "other": "the names differ. Only opcodes called GLOBAL import, and their argument says what.",
        },
        wrong={
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
    ),
    Exercise(
        id="03.3",
        title="Back from GGUF",
        level="hard",
        minutes=15,
        task="""Write `from_gguf(numbers, dims, heads)`. `numbers` are those of a q matrix as they lie in a GGUF file,
one after another, and `dims` the two sizes in the file's order. Return the matrix as PyTorch has it, rows in their
order.""",
        clue="Within a head, the file has rows 0, half, 1, half + 1, ...: cut a head into pairs, and sort by place in "
        "the pair.",
        name="from_gguf",
        stub='''def from_gguf(numbers, dims, heads):
    """Return PyTorch's (rows, columns) of a q matrix that lies in a GGUF file."""
    ...''',
        solution=_from_gguf(_MATRIX, _BACK),
        check=check_from_gguf,
        hints={
            "order": "the shape is the file's: GGUF names the side first whose numbers are neighbours. PyTorch, last.",
            "transposed": "the shape is right, and the numbers are transposed. Nothing moves: only the shape is read "
            "backwards.",
            "permuted": "a matrix, in the file's order of rows. Section 03.6 says in which order these are.",
            "again": "this permutes once more, the way a converter to GGUF does. Here you go back.",
            "one_head": "this takes the whole matrix for one head. Each head has its own rows, and its own order.",
            "other": "the numbers differ. Row 0 of the result is row 0 of the file; row 1 is row 2 of the file.",
        },
        wrong={
            "order": _from_gguf("numbers.reshape(dims)", "matrix"),
            "transposed": _from_gguf("numbers.reshape(dims).T", _BACK),
            "permuted": _from_gguf(_MATRIX, "matrix"),
            "again": _from_gguf(_MATRIX, _BACK.replace("-1, 2", "2, -1")),
            "one_head": _from_gguf(_MATRIX, _BACK.replace("heads, -1", "1, -1")),
            "other": _from_gguf(_MATRIX, "matrix[::-1]"),
        },
    ),
    Exercise(
        id="03.4",
        title="What is it?",
        level="medium",
        minutes=10,
        task="""Write `what_is(name, content)`, which returns `"safetensors"`, `"GGUF"`, `"PyTorch zip"`, `"pickle"`
(here: its first byte is `0x80`) or `"unknown"`. Half of the names lie, and no length may be believed before it is
checked. Ask for the weakest evidence last.""",
        clue="Section 03.9 has the evidence for each. Inside a zip of torch.save, one name ends in `/data.pkl`.",
        name="what_is",
        stub='''def what_is(name, content):
    """Return the format of a file with this name and content, or "unknown"."""
    ...''',
        solution=_what_is(),
        check=check_what_is,
        hints={
            "name": "this believes the name. Anybody can rename a file; look at the content alone.",
            "brace": "a JSON text is no safetensors file: that begins with eight bytes of length, and then a brace.",
            "any_zip": "every zip begins like that, one with photos in it too. Which names are inside?",
            "backwards": "lmgg is the sign of GGML, an ancestor. GGUF files begin with GGUF, in this order.",
            "empty": "an empty file has no first byte. It is unknown, and no error.",
            "weakest": "a safetensors file was taken for a pickle: its length, too, may begin with 0x80. Ask for the "
            "pickle last.",
            "believes": "this believes a header of a billion gigabytes in a small file. Compare with len(content).",
            "other": "one of the honest files is not recognized. Print its first bytes.",
        },
        wrong={
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
    ),
    Exercise(
        id="03.5",
        title="How large will it be?",
        level="medium",
        minutes=10,
        task="""Write `gguf_gib(tensors)`: the GiB that the data of a GGUF takes in Q8_0. `tensors` is {name: (shape,
storage)}; all are matrices whose rows have a multiple of 32 numbers. 32 numbers take 34 bytes, scale included; each
tensor is filled up to a multiple of 32 bytes; tensors with the same storage are tied, and written once. A GiB is 2³⁰
bytes.""",
        clue="`-(-n // 32) * 32` rounds n up to a multiple of 32, and leaves a multiple alone.",
        name="gguf_gib",
        stub='''def gguf_gib(tensors):
    """Return the GiB that the data of {name: (shape, storage)} takes as Q8_0."""
    ...''',
        solution=_gib(),
        check=check_gguf_gib,
        hints={
            "tied": "tied weights are counted twice. They are one storage under two names.",
            "scales": "32 numbers take 34 bytes here: the scale of the block has two.",
            "padding": "the bytes between the tensors are missing: each tensor is filled up to a multiple of 32.",
            "gb": "this is in GB, billions of bytes. A GiB is 7% more.",
            "bits": "this counts bits, eight for each byte.",
            "other": "the size differs. Bytes of all storages, each rounded up to a multiple of 32, over 2³⁰.",
        },
        wrong={
            "tied": _gib(shapes="[shape for shape, _ in tensors.values()]"),
            "scales": _gib(size="-(-blocks * 32 // 32) * 32"),
            "padding": _gib(size="blocks * 34"),
            "gb": _gib(unit="1e9"),
            "bits": _gib(unit="2**30 * 8"),
            "other": _gib(size="blocks * 34 + 32"),
        },
    ),
]
