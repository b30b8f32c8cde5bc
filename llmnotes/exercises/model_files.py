"""The exercises of lesson 11: a tensor's first number, the beginning of a file, what a pickle imports."""

import io
import json
import math
import pickle
import struct

import numpy as np

from llmnotes.exercises.exercise import Answer, Exercise, Verdict, recognize


class _Asked(Exception):
    """More was read than a file can have."""


class _File(io.BytesIO):
    """A file that raises `_Asked` when somebody reads a length of many terabytes."""

    def read(self, size: int | None = -1) -> bytes:
        if size is not None and size > 1 << 40:
            raise _Asked
        return super().read(size)


def check_first_number(answer: Answer) -> str | None:
    """Return None for the right numbers, or which mistake they look like."""
    halves = (
        np.array([7.0, 6.0, 5.0, 4.5, 9.0, 8.0, 3.0, 0.15625, -2.5, 1e-3, 700.0, -0.375], dtype="<f4")
        .view("<u2")[1::2]
        .tobytes()
    )
    entries = {"late": ([2, 2], [16, 24]), "early": ([2], [12, 16]), "first": ([6], [0, 12])}
    entries = {name: {"dtype": "BF16", "shape": shape, "data_offsets": at} for name, (shape, at) in entries.items()}
    header = json.dumps({"__metadata__": {"format": "pt"}, **entries}).encode()
    content = len(header).to_bytes(8, "little") + header + halves
    end = 8 + len(header)

    def numbers(start=end, code="<f", front=b"\0\0", back=b"", count=2):
        pairs = [content[start + entries[name]["data_offsets"][0] :][:count] for name in ("late", "early")]
        return [struct.unpack(code, front + pair + back)[0] for pair in pairs]

    mistakes = {
        "relative": numbers(0),
        "no_eight": numbers(end - 8),
        "no_offsets": [7.0, 7.0],
        "half": numbers(code="<e", front=b""),
        "low_end": numbers(front=b"", back=b"\0\0"),
        "reversed": numbers(code=">f", front=b"", back=b"\0\0"),
        "integer": numbers(code="<h", front=b""),
        "four_bytes": numbers(code="<f", front=b"", count=4),
    }
    try:
        found = [answer(_File(content), name) for name in ("late", "early")]
    except _Asked:
        return "big_endian"
    if any(isinstance(number, bytes) for number in found):
        return "bytes"
    if any(isinstance(number, tuple | list) or getattr(number, "ndim", 0) for number in found):
        return "several"
    return recognize([float(number) for number in found], numbers(), mistakes)  # a BF16 of torch's will do


def packed(header: dict, **wrong: bool) -> bytes:
    """Return how a safetensors file with this header begins; each of `wrong` makes one mistake."""
    text = json.dumps(header) if wrong.get("spaces") else json.dumps(header, separators=(",", ":"))
    bare = text.encode()
    more = 8 - len(bare) % 8 if wrong.get("eight") else -len(bare) % 8
    filled = bare if wrong.get("unfilled") else bare + (b"\0" if wrong.get("zeros") else b" ") * more
    length = len(bare) if wrong.get("early") else len(filled)
    length += 8 * wrong.get("with_length", False)
    front = b"" if wrong.get("bare") else length.to_bytes(8, "big" if wrong.get("big") else "little")
    return front + filled


def check_pack(answer: Answer) -> str | Verdict | None:
    """Return None for the bytes of a header, or which mistake they look like."""
    headers = [
        {name: {"dtype": "BF16", "shape": [2, 3], "data_offsets": [0, 12]}}
        for name in ("w", "weight", "weight1", "norm.weight", "q", "qk", "qkv", "qkvo")
    ]
    headers[1]["__metadata__"] = {"format": "pt"}
    found = [answer(json.loads(json.dumps(header))) for header in headers]
    if any(isinstance(part, str) for part in found):
        return "text"
    if not all(isinstance(part, bytes | bytearray) for part in found):
        return Verdict("other", f"bytes are asked for; yours is {type(found[0]).__name__}")
    mistakes = ("spaces", "eight", "unfilled", "zeros", "early", "with_length", "bare", "big")
    for key in (None, *mistakes):
        if all(bytes(part) == packed(header, **{key or "": True}) for part, header in zip(found, headers, strict=True)):
            return key
    right = packed(headers[0])
    at = next((i for i, (a, b) in enumerate(zip(found[0], right, strict=False)) if a != b), None)
    if found[0] != right:
        where = f"they differ first at byte {at}" if at is not None else f"yours has {len(found[0])} bytes"
        return Verdict("other", f"for the header of one tensor w, the right answer has {len(right)} bytes; {where}")
    return "other"


ran = []  # a pickle that is executed leaves a mark here


def canary(word: str) -> str:
    """Note that a pickle was executed; harmless, and the proof that somebody ran it."""
    ran.append(word)
    return word


class _Bomb:
    def __init__(self, function, word):
        self.call = function, (word,)

    def __reduce__(self):
        return self.call


def check_imports(answer: Answer) -> str | None:
    """Return None for the right names, or which mistake was made."""
    one = pickle.dumps({"weights": _Bomb(canary, "no module")}, protocol=2)
    two = pickle.dumps([_Bomb(math.sqrt, 4)], protocol=2)
    plain = pickle.dumps({"os": "os system", "step": 3}, protocol=2)
    here = f"{__name__}.canary"
    ran.clear()
    cases = [(one, {here}), (plain, set()), (two + one, {"math.sqrt", here})]
    found = []
    for content, _ in cases:
        found.append(set(answer(content)))  # a list of the right names will do
        if ran:
            return "executed"
    expected = [names for _, names in cases]
    mistakes = {
        "space": [{" ".join(name.rsplit(".", 1)) for name in names} for names in expected],
        "module": [{name.rpartition(".")[0] for name in names} for names in expected],
        "first": [*expected[:2], {"math.sqrt"}],
        "strings": [expected[0], {"os.system"}, expected[2]],
    }
    for key, names in [(None, expected), *mistakes.items()]:
        if found == names:
            return key
    return "other"


EXERCISES = [
    Exercise(
        id="11.1",
        title="The first number of a tensor",
        level="easy",
        minutes=10,
        task="""Complete `first_number(file, name)`, which returns the first number of a BF16 tensor. `file` is a
safetensors file, opened for reading bytes. The header is read already. Go to the right byte, read two bytes, and make a
number of them, as we just did.""",
        clue="`file.seek(n)` goes to byte n; what do the header's offsets count from? "
        '`struct.unpack("<f", four_bytes)` reads a little-endian float32, and returns a tuple.',
        name="first_number",
        stub='''def first_number(file, name):
    """Return the first number of a BF16 tensor in an open safetensors file."""
    length = int.from_bytes(file.read(8), "little")
    header = json.loads(file.read(length))
    first, end = header[name]["data_offsets"]
    ...''',
        given="import json\nimport struct",
        solution="""def first_number(file, name):
    length = int.from_bytes(file.read(8), "little")
    header = json.loads(file.read(length))
    first, end = header[name]["data_offsets"]
    file.seek(8 + length + first)
    pair = file.read(2)
    return struct.unpack("<f", b"\\0\\0" + pair)[0]""",
        check=check_first_number,
        hints={
            "relative": "this counts the tensor's place from the beginning of the file, not from the header's end.",
            "no_eight": "8 bytes too early: before the header stands its length.",
            "no_offsets": "this reads what follows the header, whatever the name. Where does this tensor begin?",
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
    ),
    Exercise(
        id="11.2",
        title="The beginning of a file",
        level="medium",
        minutes=15,
        task="""Write `pack(header)`. `header` is a dictionary such as the one that we have read. Return the bytes with
which a safetensors file begins: eight of length, then the JSON in UTF-8 without spaces between its parts, filled up
with spaces to a multiple of eight. The length counts the filling. If yours is right, the lesson goes on with it.""",
        clue='`json.dumps(header, separators=(",", ":"))` writes no spaces, `.encode()` makes bytes of it, and `-n % 8`'
        ' is how many are missing. `n.to_bytes(8, "little")` makes eight bytes of a number.',
        name="pack",
        stub='''def pack(header):
    """Return the bytes with which a safetensors file with this header begins."""
    ...''',
        solution="""def pack(header):
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text""",
        check=check_pack,
        hints={
            "spaces": "nearly: json.dumps puts spaces behind commas and colons unless you ask it not to.",
            "eight": "a header that is a multiple of eight already gets eight spaces more here. `-n % 8` gives 0 then.",
            "unfilled": "the filling is missing, so the data would begin at any byte.",
            "zeros": "this fills up with zero bytes. A JSON may end in spaces, and not in zeros.",
            "early": "the length is that of the JSON before it was filled up. A reader would take spaces for data.",
            "with_length": "the length counts its own eight bytes, too. It is that of the header alone.",
            "bare": "this is the header without the eight bytes of length before it.",
            "big": "the length is written big-endian. Its smallest byte comes first.",
            "text": "this is a text, and a file is made of bytes: `.encode()`.",
            "other": "the bytes are right for some headers and not for others. Does the filling fit every length?",
        },
        kept=True,
        given="import json",
    ),
    Exercise(
        id="11.3",
        title="What would it import?",
        level="hard",
        minutes=15,
        task="""*A task from work.* Somebody sends you a file, and everybody wants to open it. Write `imports(content)`
first. `content` is bytes with one pickle or several, one after another, all of protocol 2, as torch.save writes them.
Return the set of names that they would import, as `"module.name"`, and run nothing.""",
        clue="Protocol 2 imports with `GLOBAL`, whose argument is `module name`. `pickletools.genops` takes an open "
        "file, stops after one pickle, and leaves the file where the next one begins.",
        name="imports",
        stub='''def imports(content):
    """Return the set of "module.name" that the pickles in content would import."""
    ...''',
        solution="""import io
import pickletools


def imports(content):
    file, found = io.BytesIO(content), set()
    while file.tell() < len(content):
        for opcode, argument, _ in pickletools.genops(file):
            if opcode.name == "GLOBAL":
                found.add(argument.replace(" ", "."))
    return found""",
        check=check_imports,
        hints={
            "executed": "your answer has run the pickle: a function in it was called. Walk its opcodes; load nothing.",
            "first": "this stops after the first pickle, and the hostile one came second. A file may hold several.",
            "space": "the names are right, with a space between module and name, as in the opcode. Put a dot there.",
            "module": "these are modules alone. What counts is the function: os.getcwd is harmless, os.system is not.",
            "strings": "a text that looks like a name is only a text: this pickle imports nothing.",
            "other": "the names differ. Only opcodes called GLOBAL import, and their argument says what.",
        },
    ),
]
