"""Ways to break a file: blind ones, and ones that know the format and keep it whole around the lie.

A byte that is flipped in an archive is found by its checksum, and nothing behind that is tried. So what has a structure
is taken apart, changed in one place, and put together again with right lengths and checksums.
"""

import io
import json
import random
import struct
import zipfile
import zlib
from contextlib import suppress
from pathlib import Path

from llmnotes.errors import LLMNotesError

LENGTHS = (0, 1, 7, 255, 2**16, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**60, 2**63 - 1, 2**63, 2**64 - 1)
VALUES = [None, True, False, "", "1", "../..", "a" * 5000, "\0", "\x1b[2J\n", "\ud800", "ü", -1, 0.5, -0.0, 1e308]
VALUES += [float("inf"), float("nan"), [], {}, [[]], [0], {"a": None}, [2**60] * 5, 3, 10**9, -(2**70), *LENGTHS]

UNREADABLE = (ValueError, KeyError, IndexError, TypeError, OverflowError, struct.error, zipfile.BadZipFile, zlib.error)
UNREADABLE += (EOFError, NotImplementedError)


def mutate(rng: random.Random, data: bytes, other: bytes) -> bytes:
    """Return `data` changed: half of the time inside its structure, if it has one that is known here."""
    for begins, change in STRUCTURES.items():
        if data.startswith(begins) and rng.random() < 0.6:
            try:
                return change(rng, data)
            except (*UNREADABLE, LLMNotesError):  # it was broken before, or cannot be written with such a lie
                break
    else:
        for change in (safetensors, table, message):
            if rng.random() < 0.6:
                with suppress(*UNREADABLE, LLMNotesError):
                    changed = change(rng, data)
                    if changed is not None:
                        return changed
    return bluntly(rng, data, other)


def bluntly(rng: random.Random, data: bytes, other: bytes) -> bytes:
    """Return `data` after one to four changes of the kinds that damage, transport and malice make."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        size = len(out)
        if not size:
            return bytes(out)
        # headers stand at the beginning, a zip's directory at the end
        at = rng.choice((rng.randrange(size), rng.randrange(min(size, 64)), max(0, size - 1 - rng.randrange(512))))
        kind = rng.randrange(9)
        if kind == 0:
            out[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            out[at] = rng.randrange(256)
        elif kind == 2:
            del out[at:]
        elif kind == 3:  # a length that lies
            width = rng.choice((4, 8))
            value = rng.choice(LENGTHS) % (1 << 8 * width)
            out[at : at + width] = value.to_bytes(width, rng.choice(("little", "big")))
        elif kind == 4:
            del out[at : at + rng.randrange(1, 65)]
        elif kind == 5:
            out[at:at] = rng.randbytes(rng.randrange(1, 65))
        elif kind == 6:  # something stands twice
            length = rng.randrange(1, 257)
            out[at:at] = out[at : at + length]
        elif kind == 7:  # the beginning of one format, the end of another
            out[at:] = other[min(at, len(other)) :]
        else:  # a number in text that lies
            text = bytes(out)
            digits = [i for i in range(max(0, at - 200), min(size, at + 200)) if text[i : i + 1].isdigit()]
            if digits:
                place = rng.choice(digits)
                out[place : place + 1] = str(rng.choice(LENGTHS)).encode()
    return bytes(out)


def times(old, count: int):
    """Return a text or a list `count` times, or fewer where it is long already: this process has a limit on memory."""
    return old * max(1, min(count, 1_000_000 // max(len(old), 1)))


def value(rng: random.Random, old):
    """Return another value in the place of `old`: of another type, out of its range, or nearly right."""
    if type(old) is int and rng.random() < 0.4:
        return rng.choice((old + 1, old - 1, -old, 2 * old, old // 2, float(old), str(old), [old]))
    if isinstance(old, list) and old and rng.random() < 0.5:
        return rng.choice((old[:-1], old + old[:1], old[::-1], [old], times(old, 50)))
    if isinstance(old, str) and rng.random() < 0.4:
        return rng.choice((old + "x", old[:-1], times(old, 2000), old.upper(), [old], {"content": old}))
    return rng.choice(VALUES)


def tree(rng: random.Random, root):
    """Change one to three places of a JSON value in place, and return it."""
    for _ in range(rng.choice((1, 1, 2, 3))):
        node = root
        while True:
            keys = list(node) if isinstance(node, dict) else range(len(node))
            if not keys:
                break
            key = rng.choice(keys)
            if isinstance(node[key], dict | list) and node[key] and rng.random() < 0.8:
                node = node[key]
                continue
            what = rng.random()
            if what < 0.7:
                node[key] = value(rng, node[key])
            elif what < 0.85:
                del node[key]
            elif isinstance(node, dict):
                node[str(value(rng, key))[:6000]] = node[rng.choice(keys)]
            else:
                node.insert(key, value(rng, node[key]))
            break
    return root


def text(rng: random.Random, data: bytes) -> bytes:
    """JSON: a value in it is another one, or a key stands twice."""
    root = tree(rng, json.loads(data))
    out = json.dumps(root)
    if isinstance(root, dict) and root and rng.random() < 0.1:
        key = rng.choice(list(root))
        out = out[:-1] + f", {json.dumps(key)}: {json.dumps(value(rng, root[key]))}}}"
    return out.encode()


def safetensors(rng: random.Random, data: bytes) -> bytes | None:
    """A header that lies, behind a length that is right."""
    length = int.from_bytes(data[:8], "little")
    if data[8:9] != b"{" or length > len(data):
        return None
    header = text(rng, data[8 : 8 + length])
    return len(header).to_bytes(8, "little") + header + data[8 + length :]


def archive(rng: random.Random, data: bytes) -> bytes:
    """A zip in which a record is another one, with the right checksum: changed, gone, doubled, renamed or packed."""
    with zipfile.ZipFile(io.BytesIO(data)) as old:
        records = [(name, old.read(name)) for name in old.namelist()]
    victim = rng.randrange(len(records))
    pickles = [at for at, (name, _) in enumerate(records) if name.endswith((".pkl", ".json", ".npy"))]
    if pickles and rng.random() < 0.7:
        victim = rng.choice(pickles)
    name, body = records[victim]
    what = rng.random()
    if what < 0.75:
        records[victim] = name, mutate(rng, body, records[-1][1])
    elif what < 0.8:
        del records[victim]
    elif what < 0.85:
        records[victim] = rng.choice(("../" + name, "/etc/" + name, name + "\0x", "", name.upper(), "x/data.pkl")), body
    elif what < 0.9:
        records.insert(rng.randrange(len(records) + 1), rng.choice(records))
    packed = rng.random() < 0.2
    out = io.BytesIO()
    import warnings

    with warnings.catch_warnings(), zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED if packed else 0) as new:
        warnings.simplefilter("ignore")  # a name that stands twice
        for name, body in records:
            new.writestr(name, body)
    return out.getvalue()


def pickled(rng: random.Random, data: bytes) -> bytes:
    """A pickle in which a number or a name is another one, or one instruction is missing or stands twice."""
    import pickletools

    codes = [(code, argument, at) for code, argument, at in pickletools.genops(data)]
    ends = [at for _, _, at in codes[1:]] + [codes[-1][2] + 1]
    number = rng.randrange(len(codes))
    wanted = [i for i, (_, argument, _) in enumerate(codes) if isinstance(argument, int | str)]
    if wanted and rng.random() < 0.6:
        number = rng.choice(wanted)
    code, argument, at = codes[number]
    piece, what = data[at : ends[number]], rng.random()
    if isinstance(argument, int) and code.name.startswith(("BININT", "LONG")) and what < 0.7:
        big = rng.choice((*LENGTHS, -1, argument + 1, argument * 2)).to_bytes(10, "little", signed=True)
        piece = b"\x8a\x0a" + big
    elif isinstance(argument, str) and what < 0.7:
        new = str(value(rng, argument)).encode("utf-8", "surrogatepass")
        piece = b"X" + len(new).to_bytes(4, "little") + new
    elif what < 0.8:
        piece = rng.choice((b"", piece * 2, b"0", b"2", b"}", b"]", b")", b"N", b"(", b"t", b"R", b"b", b"Q", b"s"))
    else:
        other = rng.randrange(len(codes))
        piece = data[codes[other][2] : ends[other]]
    return data[:at] + piece + data[ends[number] :]


def array(rng: random.Random, data: bytes) -> bytes:
    """An npy whose header lies, behind a length that is right."""
    length = int.from_bytes(data[8:10], "little")
    header = data[10 : 10 + length].decode("latin-1")
    shape = str(rng.choice([(2**60,), (0,), (-1, 3), (1,) * 70, (2.0,), "x", (2**32, 2**32), [2, 3], None, (3, 2)]))
    swaps = [("'<f8'", "'O'"), ("'<f8'", "'>f8'"), ("'<f8'", "'<f9999'"), ("'<f8'", "[('a', '<f8')]"), ("True", "1")]
    swaps += [("False", "True"), ("'fortran_order'", "'order'"), ("{", "{'a': __import__('os').system('exit'), ")]
    swaps += [("{", "(" * 90 + "{"), (header[header.find("(") : header.find(")") + 1] or "x", shape)]
    header = header.replace(*rng.choice(swaps))
    return data[:8] + len(header).to_bytes(2, "little") + header.encode("latin-1") + data[10 + length :]


def gguf(rng: random.Random, data: bytes) -> bytes:
    """A GGUF in which a key has another kind or value, or a tensor another name, type or shape."""
    import tempfile

    from llmnotes.formats import gguf, inspect, read
    from llmnotes.formats.gguf.types import NUMBERS, Texts, Typed
    from llmnotes.formats.gguf.write import write_gguf
    from llmnotes.formats.results import PlannedTensor

    with tempfile.NamedTemporaryFile(suffix=".gguf") as file:
        file.write(data)
        file.flush()
        path = Path(file.name)
        found = inspect(path)
        keys = gguf.entries(path)
        bodies = {tensor.name: b"".join(read(found, tensor)) for tensor in found.tensors}
    parts = [PlannedTensor(t.name, t.dtype, t.shape, lambda body=bodies[t.name]: [body]) for t in found.tensors]
    what = rng.random()
    if what < 0.75 and keys:
        key = rng.choice([key for key in keys if "general" not in key] or list(keys))
        kind, old = keys[key]
        old = list(old) if isinstance(old, Texts) or hasattr(old, "tolist") else old
        if isinstance(old, list) and old and rng.random() < 0.6:
            at = rng.randrange(len(old))
            new = rng.choice([old[at - 1], *VALUES])
            keys[key] = Typed(kind, old[:at] + rng.choice(([], [new], [old[at]] * 3)) + old[at + 1 :])
        elif rng.random() < 0.2:
            del keys[key]
        else:
            keys[key] = rng.choice(
                [
                    *(Typed("U32", n % 2**32) for n in LENGTHS),
                    *(Typed("U64", n) for n in LENGTHS),
                    *(Typed("I32", n) for n in (-1, -(2**31), 0)),
                    *(Typed("F32", n) for n in (0.0, -1.0, float("nan"), float("inf"), 1e30, 1e-40)),
                    *(Typed("STRING", t) for t in (b"", b"\xff\xfe", "llama", "x" * 9999, "\0", "\n", "gpt2", "qwen2")),
                    *(Typed("BOOL", b) for b in (True, False)),
                    *(Typed("[STRING]", t) for t in ([], ["a"] * 3, [b"\xff"])),
                    *(Typed("[U32]", t) for t in ([], [4], [2**32 - 1] * 9)),
                    *(Typed("[F32]", t) for t in ([], [float("nan")], [1e30] * 9)),
                    Typed("[[U32]]", [[1], [2]]),
                    Typed("F64", 1.5),
                ]
            )
    elif parts:
        at = rng.randrange(len(parts))
        name, dtype, shape = parts[at].name, parts[at].dtype, parts[at].shape
        if what < 0.8:
            name = rng.choice(("", "x" * 63, "a/../b", "blk.99999.attn_q.weight", "\x1b[2J", "rope_freqs.weight", "ü"))
        elif what < 0.9:
            dtype = rng.choice(list(NUMBERS))
        else:
            shape = rng.choice((shape[::-1], shape[:-1], (*shape, 1), (1, *shape), (0, *shape), ()))
        zeros = bytes(PlannedTensor(name, dtype, shape, list).nbytes)
        parts[at] = PlannedTensor(name, dtype, shape, lambda: [zeros])
        parts = parts if rng.random() < 0.9 else parts[:at] + parts[at + 1 :]
    out = io.BytesIO()
    write_gguf(out, keys, parts, rng.choice(("little", "little", "little", "big")))
    return out.getvalue()


def table(rng: random.Random, data: bytes) -> bytes | None:
    """A TensorFlow index in which an entry lies, and every checksum is right."""
    from llmnotes.formats import zips
    from llmnotes.formats.legacy.tensorflow import table as tf_table

    source = zips.SourceInMemory(Path("index"), data)
    try:
        pairs = list(tf_table.entries(source)) if tf_table.is_table(source) else []
    except LLMNotesError:
        return None
    if not pairs:
        return None
    at = rng.randrange(len(pairs))
    key, body = pairs[at]
    what = rng.random()
    if what < 0.8:
        pairs[at] = key, message(rng, body) or body
    elif what < 0.9:
        del pairs[at]
    else:
        pairs[at] = key + b"x", body
    return tf_table.table(sorted(pairs))


def fields(data: bytes, depth: int = 0) -> list | None:
    """Return a message of Protocol Buffers as [number, wire type, value or fields], or None if it is none."""
    from llmnotes.formats.protobuf import LENGTH, Message

    found = []
    try:
        for part in Message(data, limit=3000).fields():
            body = data[part.start : part.end]
            inner = fields(body, depth + 1) if part.wire == LENGTH and depth < 8 and 1 < len(body) < 5000 else None
            found.append([part.number, part.wire, part.value if part.value is not None else inner or body])
    except LLMNotesError:
        return None
    return found or None


def message(rng: random.Random, data: bytes) -> bytes | None:
    """A message of Protocol Buffers in which a field has another value, number or type, is gone, or stands twice."""
    root = fields(data)
    if root is None:
        return None
    node = root
    while True:
        at = rng.randrange(len(node))
        if isinstance(node[at][2], list) and node[at][2] and rng.random() < 0.8:
            node = node[at][2]
            continue
        break
    number, wire, old = node[at]
    what = rng.random()
    if what < 0.6 and isinstance(old, int):
        node[at][2] = rng.choice((*LENGTHS, old + 1, old ^ 1)) % 2**64
    elif what < 0.6 and isinstance(old, bytes):
        node[at][2] = rng.choice((b"", old[:-1], old * 3, b"../../x", b"\xff" * 9, b"x" * 5000, rng.randbytes(8)))
    elif what < 0.7:
        node[at][0] = rng.randrange(1, 30)
    elif what < 0.8:
        node[at] = [number, *rng.choice(([0, rng.choice(LENGTHS)], [2, rng.randbytes(3)], [5, 1], [1, 2**63]))]
    elif what < 0.9:
        del node[at]
    else:
        node.insert(at, node[rng.randrange(len(node))])
    return packed(root)


def packed(message: list) -> bytes:
    """Return the bytes of a message as `fields` gives it."""
    from llmnotes.formats.protobuf import varint

    out = b""
    for number, wire, body in message:
        out += varint(number << 3 | wire)
        if wire == 2:
            body = packed(body) if isinstance(body, list) else body
            out += varint(len(body)) + body
        else:
            out += varint(body) if wire == 0 else (body % 2**64).to_bytes(8, "little")[: 8 if wire == 1 else 4]
    return out


STRUCTURES = {b"PK\3\4": archive, b"GGUF": gguf, b"\x93NUMPY": array, b"{": text}
STRUCTURES |= {bytes([0x80, protocol]): pickled for protocol in range(6)}
