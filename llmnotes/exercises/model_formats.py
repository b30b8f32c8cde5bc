"""The exercises of notebook 11: a tensor's first number, imports, GGUF's order, lying names, size."""

import io
import itertools
import json
import math
import pickle
import struct
import zipfile

import numpy as np

from llmnotes.exercises.exercise import Answer, Exercise, recognize


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
    cases = [
        (one, {here}, "other"),
        (plain, set(), "strings"),
        (two + one, {"math.sqrt", here}, "first"),
    ]
    for content, right, mistake in cases:
        found = answer(content)
        if ran:
            return "executed"
        found = set(found)  # a list of the right names will do
        if found == right:
            continue
        if found == {" ".join(name.rsplit(".", 1)) for name in right}:
            return "space"
        return "module" if found == {name.rpartition(".")[0] for name in right} else mistake
    return None


def _permuted(rows: np.ndarray, heads: int) -> np.ndarray:
    return rows.reshape(heads, 2, -1, rows.shape[1]).swapaxes(1, 2).reshape(rows.shape)


def check_from_gguf(answer: Answer) -> str | None:
    """Return None for PyTorch's matrix, or which mistake the numbers look like."""
    right = np.random.default_rng(3).normal(size=(24, 5))  # 3 heads of 8 rows
    stored = _permuted(right, 3)
    flat, dims = stored.ravel(), (5, 24)
    sideways = flat.reshape(dims).T
    mistakes = {
        "order": flat.reshape(dims),
        "transposed": sideways,
        "transposed ": sideways.reshape(3, -1, 2, 5).swapaxes(1, 2).reshape(24, 5),
        "permuted": stored,
        "again": _permuted(stored, 3),
        "one_head": stored.reshape(1, -1, 2, 5).swapaxes(1, 2).reshape(24, 5),
    }
    key = recognize(answer(flat.copy(), dims, 3), right, mistakes)
    return key and key.strip()


def _zip(*names: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in names:
            archive.writestr(name, b"\x80\x02}.")
    return buffer.getvalue()


def _safetensors(header: bytes) -> bytes:
    return len(header).to_bytes(8, "little") + header


def check_what_is(answer: Answer) -> str | None:
    """Return None if every content is recognized, or which mistake was made."""
    header = b'{"w":{"dtype":"F16","shape":[1],"data_offsets":[0,2]}}'
    cases = [
        ("w.safetensors", _safetensors(header) + b"\0\0", "safetensors", "other"),
        ("w.gguf", b"GGUF\3\0\0\0" + bytes(16), "GGUF", "other"),
        ("w.pt", _zip("w/data.pkl", "w/data/0", "w/version"), "PyTorch zip", "other"),
        ("w.pkl", b"\x80\x02}.", "pickle", "other"),
        ("notes.txt", _safetensors(header) + b"\0\0", "safetensors", "name"),
        ("w.safetensors", b"\x80\x02}.", "pickle", "name"),
        ("w.bin", b"GGUF\3\0\0\0" + bytes(16), "GGUF", "name"),
        ("config.json", b'{"hidden_size": 64, "layers": 2}', "unknown", "brace"),
        ("photos.zip", _zip("a.jpg", "b.jpg"), "unknown", "any_zip"),
        ("w.gguf", b"lmgg\3\0\0\0" + bytes(16), "unknown", "backwards"),
        ("w.bin", b"", "unknown", "empty"),
        ("w.safetensors", _safetensors(header.ljust(128)) + b"\0\0", "safetensors", "weakest"),
        ("w.safetensors", (1 << 60).to_bytes(8, "little") + header, "unknown", "believes"),
    ]
    for name, content, right, mistake in cases:
        try:
            found = answer(name, content)
        except (IndexError, ValueError, struct.error, OverflowError, MemoryError):
            if mistake not in ("empty", "brace", "believes"):
                raise
            return mistake
        if found != right:
            return mistake
    return None


def check_gguf_gib(answer: Answer) -> str | None:
    """Return None for the right number of GiB, or which mistake it looks like."""
    embedding = (49152, 2048)
    tensors = {
        "token_embd.weight": (embedding, "a"),
        "output.weight": (embedding, "a"),
        "blk.0.ffn_up.weight": ((8192, 2048), "b"),
    } | {f"blk.{i}.attn_q.weight": ((33, 32), f"q{i}") for i in range(9000)}
    storages = {storage: shape for shape, storage in tensors.values()}
    blocks = [math.prod(shape) // 32 for shape in storages.values()]

    def size(blocks, width=34, unit=2**30, padded=True):
        return sum(-(-n * width // 32) * 32 if padded else n * width for n in blocks) / unit

    everything = [math.prod(shape) // 32 for shape, _ in tensors.values()]
    mistakes = {}
    for names in itertools.chain.from_iterable(
        itertools.combinations(("tied", "scales", "padding", "gb"), n) for n in (1, 2)
    ):
        arguments = {"width": 32 if "scales" in names else 34, "unit": 1e9 if "gb" in names else 2**30}
        value = size(everything if "tied" in names else blocks, padded="padding" not in names, **arguments)
        mistakes.setdefault(" ".join(names), value)
    mistakes["bits"] = 8 * size(blocks)
    key = recognize(answer(dict(tensors)), size(blocks), mistakes)
    return key and key.split()[0]


EXERCISES = [
    Exercise(
        id="11.1",
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
        solution="""import json
import struct


def first_number(file, name):
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
    Exercise(
        id="11.3",
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
        solution="""def from_gguf(numbers, dims, heads):
    matrix = numbers.reshape(dims[::-1])
    return matrix.reshape(heads, -1, 2, matrix.shape[1]).swapaxes(1, 2).reshape(matrix.shape)""",
        check=check_from_gguf,
        hints={
            "order": "the shape is the file's: GGUF names the side first whose numbers are neighbours. PyTorch, last.",
            "transposed": "the shape is right, and the numbers are transposed. Nothing moves: only the shape is read "
            "backwards.",
            "permuted": "a matrix, in the file's order of rows. Section 11.6 says in which order these are.",
            "again": "this permutes once more, the way a converter to GGUF does. Here you go back.",
            "one_head": "this takes the whole matrix for one head. Each head has its own rows, and its own order.",
            "other": "the numbers differ. Row 0 of the result is row 0 of the file; row 1 is row 2 of the file.",
        },
    ),
    Exercise(
        id="11.4",
        title="What is it?",
        level="medium",
        minutes=10,
        task="""Write `what_is(name, content)`, which returns `"safetensors"`, `"GGUF"`, `"PyTorch zip"`, `"pickle"`
(here: its first byte is `0x80`) or `"unknown"`. Half of the names lie, and no length may be believed before it is
checked. Ask for the weakest evidence last.""",
        clue="Section 11.9 has the evidence for each. Inside a zip of torch.save, one name ends in `/data.pkl`.",
        name="what_is",
        stub='''def what_is(name, content):
    """Return the format of a file with this name and content, or "unknown"."""
    ...''',
        solution='''import io
import zipfile


def what_is(name, content):
    """Return the format of a file with this name and content, or "unknown"."""
    length = int.from_bytes(content[:8], "little")
    if content[:4] == b"GGUF":
        return "GGUF"
    if content[8:9] == b"{" and 8 + length <= len(content):
        return "safetensors"
    if content[:4] == b"PK\\x03\\x04":
        names = zipfile.ZipFile(io.BytesIO(content)).namelist()
        return "PyTorch zip" if any(n.endswith("/data.pkl") for n in names) else "unknown"
    if content[:1] == b"\\x80":
        return "pickle"
    return "unknown"''',
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
    ),
    Exercise(
        id="11.5",
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
        solution='''import math


def gguf_gib(tensors):
    """Return the GiB that the data of {name: (shape, storage)} takes as Q8_0."""
    total = 0
    for shape in {storage: shape for shape, storage in tensors.values()}.values():
        blocks = math.prod(shape) // 32
        total += -(-blocks * 34 // 32) * 32
    return total / 2**30''',
        check=check_gguf_gib,
        hints={
            "tied": "tied weights are counted twice. They are one storage under two names.",
            "scales": "32 numbers take 34 bytes here: the scale of the block has two.",
            "padding": "the bytes between the tensors are missing: each tensor is filled up to a multiple of 32.",
            "gb": "this is in GB, billions of bytes. A GiB is 7% more.",
            "bits": "this counts bits, eight for each byte.",
            "other": "the size differs. Bytes of all storages, each rounded up to a multiple of 32, over 2³⁰.",
        },
    ),
]
