"""The exercises of lesson 12: GGUF's order, lying names, size."""

import io
import itertools
import math
import struct
import zipfile

import numpy as np

from llmnotes.exercises.exercise import Answer, Exercise, Verdict, recognize


def _permuted(rows: np.ndarray, heads: int) -> np.ndarray:
    return rows.reshape(heads, 2, -1, rows.shape[1]).swapaxes(1, 2).reshape(rows.shape)


def check_from_gguf(answer: Answer) -> str | None:
    """Return None for PyTorch's matrix, or which mistake the numbers look like."""
    for heads, size in ((3, 8), (2, 12)):
        right = np.random.default_rng(3).normal(size=(24, 5))
        stored = _permuted(right, heads)
        flat, dims = stored.ravel(), (5, 24)
        sideways = flat.reshape(dims).T
        mistakes = {
            "order": flat.reshape(dims),
            "transposed": sideways,
            "transposed ": sideways.reshape(heads, -1, 2, 5).swapaxes(1, 2).reshape(24, 5),
            "permuted": stored,
            "again": _permuted(stored, heads),
            "one_head": stored.reshape(1, -1, 2, 5).swapaxes(1, 2).reshape(24, 5),
            "axes": right.reshape(heads, 2, size // 2, 5),
        }
        key = recognize(answer(flat.copy(), dims, heads), right, mistakes)
        if key:
            return "size" if key == "other" and size != 8 else key.strip()
    return None


def _zip(*names: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in names:
            archive.writestr(name, b"\x80\x02}.")
    return buffer.getvalue()


def _safetensors(header: bytes) -> bytes:
    return len(header).to_bytes(8, "little") + header


def check_what_is(answer: Answer) -> str | Verdict | None:
    """Return None if every content is recognized, or which mistake was made."""
    header = b'{"w":{"dtype":"F16","shape":[1],"data_offsets":[0,2]}}'
    cases = [  # name, content, what it is, and the hint for who takes it for something else
        ("w.safetensors", _safetensors(header) + b"\0\0", "safetensors", {}),
        ("w.gguf", b"GGUF\3\0\0\0" + bytes(16), "GGUF", {}),
        ("w.pt", _zip("w/data.pkl", "w/data/0", "w/version"), "PyTorch zip", {}),
        ("w.pkl", b"\x80\x02}.", "pickle", {}),
        ("notes.txt", _safetensors(header) + b"\0\0", "safetensors", {"unknown": "name"}),
        ("w.safetensors", b"\x80\x02}.", "pickle", {"safetensors": "name"}),
        ("w.bin", b"GGUF\3\0\0\0" + bytes(16), "GGUF", {"unknown": "name"}),
        ("config.json", b'{"hidden_size": 64, "layers": 2}', "unknown", {"safetensors": "brace"}),
        ("photos.zip", _zip("a.jpg", "b.jpg"), "unknown", {"PyTorch zip": "any_zip"}),
        ("w.gguf", b"lmgg\3\0\0\0" + bytes(16), "unknown", {"GGUF": "backwards"}),
        ("w.bin", b"", "unknown", {"an error": "empty"}),
        ("w.safetensors", _safetensors(header.ljust(128)) + b"\0\0", "safetensors", {"pickle": "weakest"}),
        (
            "w.safetensors",
            (1 << 60).to_bytes(8, "little") + header,
            "unknown",
            dict.fromkeys(("safetensors", "an error"), "believes"),
        ),
    ]
    for name, content, right, hints in cases:
        try:
            found = answer(name, content)
        except (IndexError, ValueError, struct.error, OverflowError, MemoryError) as error:
            if "an error" not in hints:
                return Verdict("other", f"for {name}, which has {len(content)} bytes, it ends in an error: {error}")
            found = "an error"
        if found != right:
            begins = content[:12].hex(" ") or "nothing"
            other = f"for {name}, which begins with {begins}, the right answer is {right}, yours is {found}"
            return hints.get(found) or (Verdict("other", other) if hints else "other")
    return None


def check_gguf_gib(answer: Answer) -> str | None:
    """Return None for the right number of GiB, or which mistake it looks like."""
    embedding = (49152, 2048)
    tensors = {
        "token_embd.weight": (embedding, "a"),
        "output.weight": (embedding, "a"),
        "blk.0.ffn_up.weight": ((8192, 2048), "b"),
    } | {f"blk.{i}.attn_q.weight": ((33, 32), f"q{i}") for i in range(9000)}
    tensors |= {f"blk.{i}.attn_k.weight": ((16, 32), f"k{i}") for i in range(3000)}  # 544 bytes, a multiple of 32
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
    mistakes |= {"bits": 8 * size(blocks), "bytes": size(blocks, unit=1)}
    mistakes["always"] = sum((n * 34 // 32 + 1) * 32 for n in blocks) / 2**30
    key = recognize(answer(dict(tensors)), size(blocks), mistakes)
    return key and key.split()[0]


EXERCISES = [
    Exercise(
        id="12.1",
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
            "permuted": "a matrix, in the file's order of rows. The lesson says in which order these are.",
            "again": "this permutes once more, the way a converter to GGUF does. Here you go back.",
            "one_head": "this takes the whole matrix for one head. Each head has its own rows, and its own order.",
            "axes": "the numbers are in order, but the result has four axes, and a matrix has two. Join them again.",
            "size": "this is right for heads of 8 rows alone. How many a head has follows from the rows and the heads.",
            "other": "the numbers differ. Row 0 of the result is row 0 of the file; row 1 is row 2 of the file.",
        },
    ),
    Exercise(
        id="12.2",
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
            "bytes": "these are bytes; a GiB has 2³⁰ of them.",
            "always": "a tensor that has a multiple of 32 bytes gets nothing more. See the clue.",
            "other": "the size differs. Bytes of all storages, each rounded up to a multiple of 32, over 2³⁰.",
        },
    ),
    Exercise(
        id="12.3",
        title="What is it?",
        level="medium",
        minutes=10,
        task="""Write `what_is(name, content)`, which returns `"safetensors"`, `"GGUF"`, `"PyTorch zip"`, `"pickle"`
(here: its first byte is `0x80`) or `"unknown"`. Half of the names lie, and no length may be believed before it is
checked. Ask for the weakest evidence last.""",
        clue="Each kind has a sign: letters, a length that fits, a first byte. Inside a zip of torch.save, "
        "one name ends in `/data.pkl`.",
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
    if content[:2] == b"PK" and zipfile.is_zipfile(io.BytesIO(content)):
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
            "other": 'an honest file is not recognized. Print its first bytes: they are bytes, as b"GGUF" is.',
        },
    ),
]
