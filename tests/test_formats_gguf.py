"""GGUF: written as gguf-py writes it, read as gguf-py reads it, and no number of it believed."""

import struct
import tracemalloc

import gguf
import numpy as np
import pytest

from llmnotes import formats
from llmnotes.errors import FileBroken, NotConvertible, UnknownFormat
from llmnotes.formats import gguf as reader
from llmnotes.formats.gguf.library import value_type
from llmnotes.formats.gguf.types import Typed
from llmnotes.formats.gguf.write import write_gguf
from llmnotes.formats.results import PlannedTensor, counted
from llmnotes.formats.safe_write import new_file
from llmnotes.quantization.blocks import quantize

from .counting import calls

RANDOM = np.random.default_rng(0)
ARRAYS = {
    "token_embd.weight": RANDOM.normal(size=(5, 64)).astype(np.float32),
    "blk.0.attn_q.weight": RANDOM.normal(size=(3, 64)).astype(np.float16),
    "blk.0.ids": np.arange(7, dtype=np.int32),
    "blk.0.cube": np.arange(24, dtype=np.float64).reshape(2, 3, 4),
}
METADATA = {
    "general.architecture": "llama",
    "a.u8": Typed("U8", 255),
    "a.i8": Typed("I8", -128),
    "a.u16": Typed("U16", 65535),
    "a.i16": Typed("I16", -5),
    "a.u32": 4_000_000_000,
    "a.i32": Typed("I32", -7),
    "a.f32": 1e-5,
    "a.u64": Typed("U64", 1 << 63),
    "a.i64": Typed("I64", -(1 << 63)),
    "a.f64": Typed("F64", 0.1),
    "a.yes": True,
    "a.no": False,
    "a.text": "naïve ▁ 🙂",
    "a.texts": ["a", "", "▁b"],
    "a.bytes": [b"\xff", b"ok"],
    "a.ints": [1, -2, 3],
    "a.u32s": Typed("[U32]", [1, 2]),
    "a.floats": [0.5, -1.0],
    "a.bools": [True, False],
    "a.nested": [[1, 2], [3]],
}


def part(name, array):
    """A tensor to write, in two pieces that end in the middle of an element."""
    dtype = {"f4": "F32", "f2": "F16", "i4": "I32", "f8": "F64"}[array.dtype.str[1:]]
    data = array.tobytes()
    return PlannedTensor(name, dtype, array.shape, lambda: (data[:5], data[5:]))


def write(path, metadata=METADATA, parts=None, byteorder="little"):
    parts = [part(*item) for item in ARRAYS.items()] if parts is None else parts
    with new_file(path) as file:
        write_gguf(file, metadata, parts, byteorder)
    return path


def official(path, alignment=None, byteorder="little"):
    """The same keys and tensors, written by gguf-py."""
    endian = gguf.GGUFEndian.BIG if byteorder == "big" else gguf.GGUFEndian.LITTLE
    writer = gguf.GGUFWriter(path, "llama", endianess=endian)
    if alignment:
        writer.add_custom_alignment(alignment)
    for key, value in list(METADATA.items())[1:]:
        if isinstance(value, Typed) and value.kind[0] != "[":
            kind = value_type(value.kind)
            writer.add_key_value(key, value.value, kind)
        elif isinstance(value, Typed):
            writer.add_key_value(key, value.value, gguf.GGUFValueType.ARRAY, gguf.GGUFValueType.UINT32)
        elif isinstance(value, list):
            writer.add_array(key, value)
        else:
            add = {bool: writer.add_bool, str: writer.add_string, int: writer.add_uint32, float: writer.add_float32}
            add[type(value)](key, value)
    for name, array in ARRAYS.items():
        writer.add_tensor(name, array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.parametrize("byteorder", ["little", "big"])
def test_the_writer_equals_gguf_py_to_the_byte(tmp_path, byteorder):
    ours = write(tmp_path / "ours.gguf", byteorder=byteorder)
    assert ours.read_bytes() == official(tmp_path / "theirs.gguf", byteorder=byteorder).read_bytes()


def test_the_writer_aligns_as_it_is_told(tmp_path):
    keys = {"general.architecture": "llama", "general.alignment": 64} | METADATA
    ours = write(tmp_path / "ours.gguf", keys)
    assert ours.read_bytes() == official(tmp_path / "theirs.gguf", alignment=64).read_bytes()


@pytest.mark.parametrize(
    ("metadata", "parts"),
    [
        ({"a": Typed("U8", 256)}, []),
        ({"a": None}, []),
        ({"a": []}, []),
        ({"a": [1, "b"]}, []),
        ({"general.alignment": 24}, []),
        ({}, [PlannedTensor("a", "F32", (2,), lambda: [b"1234567"])]),
        ({}, [PlannedTensor("a", "Q8_0", (2, 31), lambda: [])]),
        ({}, [PlannedTensor("a", "F32", (1, 1, 1, 1, 1), lambda: [b"1234"])]),
        ({}, [PlannedTensor("a", "F32", (1,), lambda: [b"1234"])] * 2),
        ({}, [PlannedTensor("a" * 64, "F32", (1,), lambda: [b"1234"])]),
        ({}, [PlannedTensor("a", "BOOL", (1,), lambda: [b"1"])]),
    ],
)
def test_what_cannot_be_said_in_gguf_is_refused(tmp_path, metadata, parts):
    with pytest.raises(ValueError):
        write(tmp_path / "a.gguf", metadata, parts)
    assert not list(tmp_path.glob("*.gguf"))


def plain(value):
    """A value as Python has it."""
    return [plain(item) for item in value] if hasattr(value, "__len__") and not isinstance(value, str) else value


@pytest.mark.parametrize("byteorder", ["little", "big"])
def test_the_reader_finds_what_gguf_py_finds(tmp_path, byteorder):
    path = official(tmp_path / "a.gguf", byteorder=byteorder)
    found, theirs_all = formats.inspect(path), gguf.GGUFReader(path)
    assert found.identity.version == {"little": "3", "big": "3 big-endian"}[byteorder]
    assert found.architecture == "llama"
    for key, value in found.metadata.items():
        if key not in ("a.bytes", "a.nested"):  # gguf-py stops at bytes that are no text, and flattens
            assert plain(value) == theirs_all.fields[key].contents(), key
    assert plain(found.metadata["a.bytes"]) == ["\ufffd", "ok"]
    assert plain(found.metadata["a.nested"]) == [[1, 2], [3]]
    assert found.parameters == sum(array.size for array in ARRAYS.values())
    for tensor, theirs in zip(found.tensors, theirs_all.tensors, strict=True):
        assert (tensor.name, tensor.shape) == (theirs.name, ARRAYS[theirs.name].shape)
        assert tensor.nbytes == theirs.n_bytes
        assert byteorder == "big" or tensor.offset == theirs.data_offset
        assert b"".join(formats.read(found, tensor)) == ARRAYS[tensor.name].tobytes()


@pytest.mark.parametrize("byteorder", ["little", "big"])
def test_what_was_read_is_rewritten_to_the_byte(tmp_path, byteorder):
    path = write(tmp_path / "a.gguf", byteorder=byteorder)
    found = formats.inspect(path)
    parts = [PlannedTensor(t.name, t.dtype, t.shape, lambda t=t: formats.read(found, t)) for t in found.tensors]
    assert write(tmp_path / "b.gguf", reader.entries(path), parts, byteorder).read_bytes() == path.read_bytes()


def test_blocks_are_turned_round_by_their_scales(tmp_path):
    rows = quantize(ARRAYS["token_embd.weight"], "Q8_0").tobytes()
    path = write(tmp_path / "a.gguf", {}, [PlannedTensor("a", "Q8_0", (5, 64), lambda: [rows])], "big")
    (tensor,) = (found := formats.inspect(path)).tensors
    assert b"".join(formats.read(found, tensor)) == rows
    stored = path.read_bytes()[-len(rows) - (-len(rows) % 32) :][: len(rows)]
    assert stored[:3] == rows[1::-1] + rows[2:3]


def test_packed_words_in_a_big_endian_file_are_refused_in_one_sentence(tmp_path):
    path = write(tmp_path / "a.gguf", {}, [PlannedTensor("a", "IQ2_XXS", (1, 256), lambda: [bytes(66)])])
    data = path.read_bytes()
    big = data[:4] + struct.pack(">IQQQ", 3, 1, 0, 1) + b"a" + struct.pack(">IQQIQ", 2, 256, 1, 16, 0) + data[-96:]
    path.write_bytes(big[:69] + bytes(27) + data[-96:])
    found = formats.inspect(path)
    with pytest.raises(NotConvertible, match="little-endian copy"):
        list(formats.read(found, found.tensors[0]))


def old(version, entries=(), tensors=(), order="<", data=bytes(64), align=32):
    """A file crafted to the specification: `entries` and the heads of `tensors` are bytes."""
    wide = "I" if version == 1 else "Q"
    head = b"GGUF" + struct.pack(f"{order}I2{wide}", version, len(tensors), len(entries))
    head += b"".join(entries) + b"".join(tensors)
    return head + bytes(-len(head) % align) + data


def text(value, wide="Q"):
    return struct.pack("<" + wide, len(value)) + value


def entry(key, kind, value, wide="Q"):
    return text(key, wide) + struct.pack("<I", kind) + value


def tensor(name=b"a", shape=(4, 2), kind=0, offset=0, wide="Q", sides=None):
    head = text(name, wide) + struct.pack("<I", len(shape) if sides is None else sides)
    return head + struct.pack(f"<{len(shape)}{wide}IQ", *shape, kind, offset)


@pytest.mark.parametrize(("version", "wide"), [(1, "I"), (2, "Q")])
def test_the_first_two_versions(tmp_path, version, wide):
    path = tmp_path / "a"
    arch = entry(b"general.architecture", 8, text(b"llama", wide), wide)
    tokens = struct.pack(f"<I{wide}", 8, 2) + text(b"<s>", wide) + text("▁".encode(), wide)
    path.write_bytes(old(version, [arch, entry(b"t", 9, tokens, wide)], [tensor(wide=wide)]))
    found = formats.inspect(path)
    assert (found.identity.version, found.architecture) == (str(version), "llama")
    assert list(found.metadata["t"]) == ["<s>", "▁"]
    (only,) = found.tensors
    assert (only.shape, only.nbytes, only.offset) == ((2, 4), 32, path.stat().st_size - 64)


NESTED = struct.pack("<IQ", 9, 1) * 9 + struct.pack("<IQ", 0, 0)
BAD = {
    "version": b"GGUF" + struct.pack("<IQQ", 4, 0, 0),
    "only the magic": b"GGUF",
    "cut": old(3, [entry(b"a", 8, text(b"b"))])[:30],
    "tensors": b"GGUF" + struct.pack("<IQQ", 3, 1 << 60, 0),
    "keys": b"GGUF" + struct.pack("<IQQ", 3, 0, 1 << 60),
    "twice": old(3, [entry(b"a", 0, b"\1")] * 2),
    "kind": old(3, [entry(b"a", 13, b"\1")]),
    "bool": old(3, [entry(b"a", 7, b"\2")]),
    "key no text": old(3, [entry(b"\xff", 0, b"\1")]),
    "long text": old(3, [entry(b"a", 8, struct.pack("<Q", 1 << 60))]),
    "long array": old(3, [entry(b"a", 9, struct.pack("<IQ", 0, 1 << 60))]),
    "long texts": old(3, [entry(b"a", 9, struct.pack("<IQ", 8, 1 << 60))]),
    "one long text": old(3, [entry(b"a", 9, struct.pack("<IQQ", 8, 1, 1 << 60))]),
    "array of nothing": old(3, [entry(b"a", 9, struct.pack("<IQ", 77, 0))]),
    "too deep": old(3, [entry(b"a", 9, NESTED)]),
    "alignment": old(3, [entry(b"general.alignment", 4, struct.pack("<I", 24))]),
    "alignment 0": old(3, [entry(b"general.alignment", 4, struct.pack("<I", 0))]),
    "alignment text": old(3, [entry(b"general.alignment", 8, text(b"32"))]),
    "tensor twice": old(3, [], [tensor(), tensor(offset=32)]),
    "dimensions": old(3, [], [tensor(sides=5)]),
    "many dimensions": old(3, [], [tensor(sides=1 << 31)]),
    "negative side": old(3, [], [tensor(shape=(1 << 63, 2))]),
    "unknown type": old(3, [], [tensor(kind=99)]),
    "removed type": old(3, [], [tensor(kind=31)]),
    "misfit": old(3, [], [tensor(kind=8, shape=(31, 1))]),
    "misfit although the product fits": old(3, [], [tensor(kind=8, shape=(8, 4))]),
    "overlap": old(3, [], [tensor(shape=(9, 1)), tensor(b"b", offset=32)]),
    "not aligned": old(3, [], [tensor(offset=8)]),
    "beyond": old(3, [], [tensor(offset=64)]),
    "huge": old(3, [], [tensor(shape=(1 << 62, 1 << 62))]),
}


@pytest.mark.parametrize("what", BAD)
def test_a_broken_file_gets_one_sentence(tmp_path, what):
    path = tmp_path / "a.gguf"
    path.write_bytes(BAD[what])
    with pytest.raises(FileBroken) as caught:
        formats.inspect(path)
    assert str(caught.value).endswith(".") and "\n" not in str(caught.value)
    assert what != "removed type" or "Q4_0_4_4" in str(caught.value)


def test_every_cut_of_a_file_gets_a_sentence(tmp_path):
    whole = write(tmp_path / "a.gguf").read_bytes()
    end = whole.rindex(ARRAYS["blk.0.cube"].tobytes()) + ARRAYS["blk.0.cube"].nbytes
    for size in list(range(0, 900, 7)) + [end - 1]:
        path = tmp_path / "cut"
        path.write_bytes(whole[:size])
        with pytest.raises((FileBroken, UnknownFormat)):
            formats.inspect(path)


def test_gaps_are_told(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(old(3, [], [tensor(offset=32)]))
    assert any("gaps" in note for note in formats.inspect(path).notes)


@pytest.mark.parametrize("padding", [0, 1, 31, 32])
def test_zeros_behind_the_last_tensor_are_its_padding(tmp_path, padding):
    path = tmp_path / "a.gguf"
    path.write_bytes(old(3, [], [tensor(shape=(7, 1))], data=bytes(28 + padding)))
    assert formats.inspect(path).notes == ()
    assert formats.inspect(write(tmp_path / "b.gguf")).notes == ()


@pytest.mark.parametrize("more", [b"\1", bytes(33), bytes(31) + b"\1", bytes(100_000)], ids=len)
def test_what_lies_behind_a_gguf_is_named(tmp_path, more):
    path = tmp_path / "a.gguf"
    path.write_bytes(old(3, [entry(b"general.architecture", 8, text(b"llama"))], [tensor()], data=bytes(32)) + more)
    note = f"Behind its end lies something else: {counted(len(more), 'byte')}, which llmnotes does not read."
    assert formats.inspect(path).notes == (note,)
    assert note in formats.convert(path, tmp_path / "a.safetensors").lost


@pytest.mark.parametrize("what", ["written", "padded", "not padded", "empty"])
def test_two_ggufs_in_one_file_are_refused(tmp_path, what):
    one = {
        "written": write(tmp_path / "a.gguf").read_bytes(),
        "padded": old(3, [], [tensor(shape=(7, 1))], data=bytes(32)),
        "not padded": old(3, [], [tensor(shape=(7, 1))], data=bytes(28)),
        "empty": old(3, data=b""),
    }[what]
    (tmp_path / "b.gguf").write_bytes(one + one)
    with pytest.raises(FileBroken, match=r"b\.gguf is several GGUF files in a row.*; take each of them"):
        formats.inspect(tmp_path / "b.gguf")


@pytest.mark.slow
def test_a_large_vocabulary_takes_few_calls_and_little_memory(tmp_path):
    tokens = [f"▁token{number}" for number in range(128_000)]
    merges = [f"to ken{number}" for number in range(280_000)]
    keys = {"general.architecture": "llama", "tokens": tokens, "merges": merges, "types": [1] * 128_000}
    path = write(tmp_path / "a.gguf", keys, [])
    with open(path, "ab") as file:
        file.truncate(500_000_000)
    found = formats.inspect(path)
    assert calls(lambda: formats.inspect(path)) < 5 * (len(tokens) + len(merges))
    assert found.metadata["tokens"][127_999] == "▁token127999"
    tracemalloc.start()
    formats.inspect(path)
    assert tracemalloc.get_traced_memory()[1] < 40_000_000
    tracemalloc.stop()


def test_hostile_numbers_of_small_things_are_stopped(tmp_path):
    path = tmp_path / "a"
    many = b"".join(struct.pack("<IQ", 0, 0) for _ in range(200_000))
    path.write_bytes(old(3, [entry(b"a", 9, struct.pack("<IQ", 9, 200_000) + many)]))
    with pytest.raises(FileBroken, match="too deep"):
        formats.inspect(path)
