"""The checks of notebook 03's exercises, and the bytes that they hand to an answer; the texts are in model_formats."""

import io
import itertools
import json
import math
import pickle
import struct
import zipfile

import numpy as np

from llmnotes.exercises import recognize


class _Asked(Exception):
    """More was read than a file can have."""


class _File(io.BytesIO):
    """A file that notices who believes a length of many terabytes."""

    def read(self, size=-1):
        if size is not None and size > 1 << 40:
            raise _Asked
        return super().read(size)


def check_first_number(answer) -> str | None:
    """Return None for the right numbers, or which mistake they look like."""
    halves = np.array([7.0] * 6 + [3.0, 0.15625, -2.5, 1e-3, 700.0, -0.375], dtype="<f4").view("<u2")[1::2].tobytes()
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


def check_imports(answer) -> str | None:
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


def check_from_gguf(answer) -> str | None:
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


def check_what_is(answer) -> str | None:
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


def check_gguf_gib(answer) -> str | None:
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
