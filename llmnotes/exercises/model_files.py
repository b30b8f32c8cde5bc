"""The exercises of lesson 11: a tensor's first number, the beginning of a file, what a pickle imports."""

import io
import json
import math
import pickle
import struct
from contextlib import suppress

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
        np.array([7.0, 6.0, 5.0, 4.5, 9.0, 8.0, 3.0, 0.15625, -2.5e-3, 1e-3, 700.0, -0.375], dtype="<f4")
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
        "unsigned": numbers(code="<H", front=b""),
        "rounded": [round(number, 3) for number in numbers()],
        "four_bytes": numbers(code="<f", front=b"", count=4),
    }
    try:
        found = [answer(_File(content), name) for name in ("late", "early")]
    except _Asked:
        return "big_endian"
    if any(isinstance(number, bytes) for number in found):
        return "bytes"
    if any(isinstance(number, str) for number in found):
        return "text"
    if any(isinstance(number, tuple | list) or getattr(number, "ndim", 0) for number in found):
        return "several"
    key = recognize([float(number) for number in found], numbers(), mistakes)  # a BF16 of torch's will do
    return "integer" if key == "unsigned" else key


MISTAKES = ("spaces", "eight", "unfilled", "zeros", "early", "with_length", "bare", "big")
MISTAKES += ("characters", "squeezed", "no_metadata")


def packed(header: dict, **wrong: bool) -> bytes:
    """Return how a safetensors file with this header begins; each of `wrong` makes one mistake."""
    parts = None if wrong.get("spaces") else (",", ":")
    held = {name: header[name] for name in header if name != "__metadata__" or not wrong.get("no_metadata")}
    text = json.dumps(held, ensure_ascii=wrong.get("escaped", False), separators=parts)
    text = text.replace(" ", "") if wrong.get("squeezed") else text
    bare = text.encode()
    count = len(text if wrong.get("characters") else bare)
    more = 8 - count % 8 if wrong.get("eight") else -count % 8
    filled = bare if wrong.get("unfilled") else bare + (b"\0" if wrong.get("zeros") else b" ") * more
    length = count + (0 if wrong.get("early") else len(filled) - len(bare)) + 8 * wrong.get("with_length", False)
    front = b"" if wrong.get("bare") else length.to_bytes(8, "big" if wrong.get("big") else "little")
    return front + filled


def check_pack(answer: Answer) -> str | Verdict | None:
    """Return None for the bytes of a header, or which mistake they look like."""
    headers = [
        {name: {"dtype": "BF16", "shape": [2, 3], "data_offsets": [0, 12]}}
        for name in ("w", "weight", "weight1", "norm.weight", "up", "gate", "w_out", "w_down", "embedded")
    ]
    headers[1]["__metadata__"] = {"format": "pt", "trained by": "Zoë Müller"}
    found = [answer(json.loads(json.dumps(header))) for header in headers]
    if any(isinstance(part, str) for part in found):
        return "text"
    if not all(isinstance(part, bytes | bytearray) for part in found):
        return Verdict("other", f"bytes are asked for; yours is {type(found[0]).__name__}")
    bare = [{"bare": True, "unfilled": True, "spaces": spaces} for spaces in (True, False)]
    tried = [("json", one) for one in bare] + [(key, {key: True}) for key in MISTAKES]
    tried += [(key, wrong | {"escaped": True}) for key, wrong in tried]
    for key, wrong in [(None, {}), ("escaped", {"escaped": True}), *tried]:
        if all(bytes(part) == packed(header, **wrong) for part, header in zip(found, headers, strict=True)):
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


def check_imports(answer: Answer) -> str | Verdict | None:
    """Return None for the right names, or which mistake was made."""
    one = pickle.dumps({"weights": _Bomb(canary, "no module")}, protocol=2)
    two = pickle.dumps([_Bomb(math.sqrt, 4)], protocol=2)
    texts = {"os": "os system", "note": "cos\nsystem\n", "odd": "\x80\x02", "step": 3}  # their bytes look like code
    alone = pickle.dumps([math.sqrt], protocol=2)
    inst = b"\x80\x02(X\x02\0\0\0hii" + f"{__name__}\ncanary\n.".encode()
    here = f"{__name__}.canary"
    cases = {
        "one bomb": (one, {here}),
        "texts only": (pickle.dumps(texts, protocol=2), set()),
        "two pickles": (two + one, {"math.sqrt", here}),
        "a function that is not called": (alone, {"math.sqrt"}),
        "INST": (inst, {here}),
        "STACK_GLOBAL": (pickle.dumps(_Bomb(canary, "hi"), protocol=4), {"?"}),
    }
    ran.clear()
    found = {}
    for case, (content, _) in cases.items():
        found[case] = set(answer(content))  # a list of the right names will do
        if ran:
            return "executed"
    if found["STACK_GLOBAL"] == {here}:  # whoever follows the stack has done more than was asked
        found["STACK_GLOBAL"] = {"?"}
    right = {case: names for case, (_, names) in cases.items()}
    wrong = [case for case in cases if found[case] != right[case]]
    if not wrong:
        with suppress(Exception):  # an error is an answer, too: genops refuses 0x1, and pickle.loads takes it
            return None if answer(b"\x80\x02I0x1\n0" + one) else "swallowed"
        return None
    key = {
        ("INST", "STACK_GLOBAL"): "global_only",
        ("INST",): "inst",
        ("STACK_GLOBAL",): "stack",
        ("two pickles",): "first",
        ("a function that is not called",): "called",
    }.get(tuple(wrong if wrong[0] in ("INST", "STACK_GLOBAL") else wrong[:1]))
    meant = {"math.sqrt"} if key == "first" else set()
    if key and all(found[case] == meant for case in wrong[: 2 if key == "global_only" else 1]):
        return key
    for key, form in {"space": "{0} {1}", "module": "{0}", "name": "{1}"}.items():
        if all(found[c] == {form.format(*n.rpartition(".")[::2]) for n in right[c]} for c in [*cases][:4]):
            return key
    if found["texts only"] & {"os.system", "system"}:
        return "strings"
    if wrong[0] in ("INST", "STACK_GLOBAL"):
        return "other"
    shown = sorted(map(str, found[wrong[0]]))
    return Verdict("other", f"for {wrong[0]}, {sorted(right[wrong[0]])} is right; yours is {shown}")


EXERCISES = [
    Exercise(
        id="11.1",
        title="The first number of a tensor",
        level="easy",
        minutes=10,
        task="""Complete `first_number(opened, name)`, which returns the first number of a BF16 tensor. `opened` is a
safetensors file, opened for reading bytes: `with open(file, "rb") as opened:`. The header is read already. Go to the
right byte, read two bytes, and make a number of them, as we just did.""",
        clue="`opened.seek(n)` goes to byte n; what do the header's offsets count from? "
        '`struct.unpack("<f", four_bytes)` reads a little-endian float32, and returns a tuple.',
        name="first_number",
        stub='''def first_number(opened, name):
    """Return the first number of a BF16 tensor in an open safetensors file."""
    length = int.from_bytes(opened.read(8), "little")
    header = json.loads(opened.read(length))
    first, end = header[name]["data_offsets"]
    ...''',
        given="import json\nimport struct",
        solution="""def first_number(opened, name):
    length = int.from_bytes(opened.read(8), "little")
    header = json.loads(opened.read(length))
    first, end = header[name]["data_offsets"]
    opened.seek(8 + length + first)
    pair = opened.read(2)
    return struct.unpack("<f", b"\\0\\0" + pair)[0]""",
        check=check_first_number,
        hints={
            "relative": "this counts the tensor's place from the beginning of the file, not from the header's end.",
            "no_eight": "8 bytes too early: before the header stands its length.",
            "no_offsets": "this reads what follows the header, whatever the name. Where does this tensor begin?",
            "big_endian": "the header's length came out as many terabytes: its least significant byte comes first.",
            "half": "this reads F16, which has as many bits and shares them out otherwise: 5 bits for the size, not 8.",
            "low_end": "the zeros are on the wrong side: little-endian, the more significant half comes last.",
            "reversed": "the two bytes are read the other way round: the least significant one comes first.",
            "text": "this is a text. Return the number itself, so that somebody can calculate with it.",
            "rounded": "this is rounded. Return the number as it is; only what we print was rounded.",
            "integer": "a whole number with the same bits. Sign, size and digits are not told apart yet.",
            "four_bytes": "this takes four bytes of the file for one number. In BF16 they are two numbers.",
            "bytes": "these are bytes and no number yet: put two zero bytes in front of them, and unpack.",
            "several": "one number is asked for. struct.unpack returns a tuple, and a tensor has many: take its [0].",
            "other": "the numbers differ. Try each step alone: do you read at 8 + length + first? Does 80 3f become 1?",
        },
    ),
    Exercise(
        id="11.2",
        title="The beginning of a file",
        level="medium",
        minutes=15,
        task="""Write `pack(header)`. `header` is a dictionary such as the one that we have read. Return the bytes with
which a safetensors file begins: eight of length, then the JSON without spaces between its parts, filled up with
spaces to a multiple of eight. The length counts the filling. The JSON is UTF-8 with every letter as itself: an ë is
`ë` and not `\\u00eb`. If yours is right, the lesson goes on with it.""",
        clue='`json.dumps(header, separators=(",", ":"), ensure_ascii=False)` writes no spaces and keeps letters, '
        '`.encode()` makes bytes of it, and `-n % 8` is how many are missing. `n.to_bytes(8, "little")` makes eight '
        "bytes of a number.",
        name="pack",
        stub='''def pack(header):
    """Return the bytes with which a safetensors file with this header begins."""
    ...''',
        solution="""def pack(header):
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
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
            "json": "this is the JSON alone. Two things are missing: its length in front, and the filling at its end.",
            "escaped": "nearly: json.dumps writes ë as \\u00eb. Readers take both; ensure_ascii=False leaves it an ë.",
            "characters": "the filling and the length count letters. Count bytes: in UTF-8 an ë takes two.",
            "squeezed": "this takes away spaces inside of texts, too, and a name may have some. Ask json.dumps.",
            "no_metadata": "the entry __metadata__ is gone. It belongs into the file like any other.",
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
        task="""*A task from work.* Somebody sends you a `.pt` file, and everybody wants to open it. First, write
`imports(content)`. `content` isn't the zip but its `data.pkl`, such as our `bomb`: bytes with one pickle, or several
in a row, as in old files. Return the set of names that they would import, as `"module.name"`, and run nothing. A
hostile file needn't keep to what torch.save uses. `INST` imports and calls in one. `STACK_GLOBAL` takes both names from
the stack: add `"?"` for it.""",
        clue="`GLOBAL` and `INST` have the argument `module name`. `pickletools.genops` takes an open file, such as "
        "`io.BytesIO(content)`, stops after one pickle, and leaves the file where the next one begins.",
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
            if opcode.name in ("GLOBAL", "INST"):
                found.add(argument.replace(" ", "."))
            elif opcode.name == "STACK_GLOBAL":
                found.add("?")
    return found""",
        check=check_imports,
        hints={
            "executed": "your answer has run the pickle: a function in it was called. Walk its opcodes; load nothing.",
            "first": "this stops after the first pickle, and the hostile one came second. A file may hold several.",
            "space": "the names are right, with a space between module and name, as in the opcode. Put a dot there.",
            "module": "these are modules alone. What counts is the function: os.getcwd is harmless, os.system is not.",
            "strings": "a text that looks like a name is only a text: this pickle imports nothing.",
            "name": "these are names without their module. os.system and math.system are two things: keep both parts.",
            "global_only": "this finds what honest files import. A hostile one hides behind INST and STACK_GLOBAL.",
            "inst": "one bomb gets through: it imports with INST, whose argument looks like GLOBAL's.",
            "stack": 'one bomb gets through: it imports with STACK_GLOBAL. You can\'t read its name, so add a "?".',
            "called": "this leaves out what is imported and not called. Importing alone runs a module: list it, too.",
            "swallowed": "one bomb gets through: genops refuses what pickle.loads takes. Let that error through.",
            "other": 'GLOBAL is right. INST has an argument like GLOBAL\'s; for STACK_GLOBAL add the text "?".',
        },
    ),
]
