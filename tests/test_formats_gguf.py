"""GGUF: written as gguf-py writes it, read as gguf-py reads it, and no number of it believed."""

import gguf
import numpy as np
import pytest

from llmnotes.formats import gguf_write
from llmnotes.formats.gguf_types import Typed
from llmnotes.formats.safe_write import new_file
from llmnotes.formats.safetensors import Part

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
    return Part(name, dtype, array.shape, lambda: (data[:5], data[5:]))


def write(path, metadata=METADATA, parts=None, byteorder="little"):
    parts = [part(*item) for item in ARRAYS.items()] if parts is None else parts
    with new_file(path) as file:
        gguf_write.write(file, metadata, parts, byteorder)
    return path


def official(path, alignment=None, byteorder="little"):
    """The same keys and tensors, written by gguf-py."""
    endian = gguf.GGUFEndian.BIG if byteorder == "big" else gguf.GGUFEndian.LITTLE
    writer = gguf.GGUFWriter(path, "llama", endianess=endian)
    if alignment:
        writer.add_custom_alignment(alignment)
    for key, value in list(METADATA.items())[1:]:
        if isinstance(value, Typed) and value.kind[0] != "[":
            kind = gguf.GGUFValueType(gguf_write._number(value.kind))
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
        ({}, [Part("a", "F32", (2,), lambda: [b"1234567"])]),
        ({}, [Part("a", "Q8_0", (2, 31), lambda: [])]),
        ({}, [Part("a", "F32", (1, 1, 1, 1, 1), lambda: [b"1234"])]),
        ({}, [Part("a", "F32", (1,), lambda: [b"1234"])] * 2),
        ({}, [Part("a" * 64, "F32", (1,), lambda: [b"1234"])]),
        ({}, [Part("a", "BOOL", (1,), lambda: [b"1"])]),
    ],
)
def test_what_cannot_be_said_in_gguf_is_refused(tmp_path, metadata, parts):
    with pytest.raises(ValueError):
        write(tmp_path / "a.gguf", metadata, parts)
    assert not list(tmp_path.glob("*.gguf"))
