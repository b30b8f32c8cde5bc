"""safetensors against the official library: the same bytes out, the same files refused."""

import io
import json
import random

import numpy as np
import pytest
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from llmnotes import formats
from llmnotes.errors import FileBroken, NotConvertible, UnknownFormat
from llmnotes.formats.results import PlannedTensor, size_of
from llmnotes.formats.safetensors import ORDER, write_safetensors

TORCH = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "U16": torch.uint16,
    "U32": torch.uint32,
    "U64": torch.uint64,
    "BOOL": torch.bool,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "C64": torch.complex64,
}


def some_tensors(seed: int) -> dict[str, tuple[str, torch.Tensor]]:
    rng = random.Random(seed)
    names = ["w", "a.b.c", "Zebra", "ключ", "層", "é", "\U0001f642", "a\nb", 'q"uote', "", "w0", "tab\t", "\x7f"]
    rng.shuffle(names)
    tensors = {}
    for name in names[: rng.randrange(1, len(names))]:
        dtype = rng.choice(sorted(TORCH))
        shape = [rng.choice([0, 1, 2, 3, 7]) for _ in range(rng.randrange(4))]
        bits = np.random.default_rng(seed).integers(0, 2, (*shape, TORCH[dtype].itemsize), np.uint8)
        empty = torch.empty(shape, dtype=TORCH[dtype])
        tensors[name] = dtype, torch.from_numpy(bits).view(TORCH[dtype]).reshape(shape) if bits.size else empty
    return tensors


@pytest.mark.parametrize("seed", range(60))
def test_we_write_what_the_official_library_writes_and_read_it_back(tmp_path, seed):
    tensors = some_tensors(seed)
    metadata = {"format": "pt", "b": "ü\n", "a": ""} if seed % 2 else None
    save_file({name: tensor for name, (_, tensor) in tensors.items()}, tmp_path / "official", metadata)
    flat = {name: tensor.reshape(-1) for name, (_, tensor) in tensors.items()}
    raw = {name: values.view(torch.uint8).numpy().tobytes() if len(values) else b"" for name, values in flat.items()}
    parts = [
        PlannedTensor(name, dtype, tuple(tensor.shape), lambda name=name: [raw[name][:5], raw[name][5:]])
        for name, (dtype, tensor) in tensors.items()
    ]
    with open(tmp_path / "ours", "wb") as file:
        write_safetensors(file, parts, metadata)
    official, ours = ((tmp_path / name).read_bytes() for name in ("official", "ours"))
    if metadata:  # the library keeps its metadata in the order of a hash table
        length = int.from_bytes(ours[:8], "little")
        assert json.loads(ours[8 : 8 + length]) == json.loads(official[8 : 8 + length])
        assert len(ours) == len(official) and ours[8 + length :] == official[8 + length :]
    else:
        assert ours == official
    found = formats.inspect(tmp_path / "ours")
    assert found.metadata == (metadata or {})
    for tensor in found.tensors:
        dtype, values = tensors[tensor.name]
        assert (tensor.dtype, tensor.shape) == (dtype, tuple(values.shape))
        assert b"".join(formats.read(found, tensor)) == raw[tensor.name]


def test_one_key_of_metadata_is_written_to_the_byte(tmp_path):
    save_file({"a": torch.ones(3)}, tmp_path / "official", {"format": "pt"})
    file = io.BytesIO()
    write_safetensors(file, [PlannedTensor("a", "F32", (3,), lambda: [np.ones(3, "<f4").tobytes()])], {"format": "pt"})
    assert file.getvalue() == (tmp_path / "official").read_bytes()


def test_the_order_of_metadata_does_not_show():
    files = [io.BytesIO(), io.BytesIO()]
    for file, metadata in zip(files, ({"b": "1", "a": "2"}, {"a": "2", "b": "1"}), strict=True):
        write_safetensors(file, [PlannedTensor("a", "U8", (1,), lambda: [b"x"])], metadata)
    assert files[0].getvalue() == files[1].getvalue() and b'{"a":"2","b":"1"}' in files[0].getvalue()


@pytest.mark.parametrize("size", [0, 11, 13])
def test_data_that_does_not_fill_its_shape_is_refused(size):
    with pytest.raises(ValueError, match=f"a has {size} bytes, and its shape needs 12"):
        write_safetensors(io.BytesIO(), [PlannedTensor("a", "F32", (3,), lambda: [bytes(size)])])


def test_a_name_stands_once():
    part = PlannedTensor("a", "U8", (0,), lambda: [])
    with pytest.raises(ValueError, match="twice"):
        write_safetensors(io.BytesIO(), [part, part])
    with pytest.raises(ValueError, match="__metadata__"):
        write_safetensors(io.BytesIO(), [PlannedTensor("__metadata__", "U8", (0,), lambda: [])])


def entry(first=0, end=4, dtype="F32", shape=(1,)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [first, end]}


def build(header, data=b"", length=None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


CRAFTED = {
    "fine": build({"a": entry()}, bytes(4)),
    "fine: spaces at the end": build(json.dumps({"a": entry()}).encode() + b"   ", bytes(4)),
    "fine: no tensors": build({}),
    "fine: a scalar": build({"a": entry(shape=())}, bytes(4)),
    "fine: an unknown key": build({"a": entry() | {"more": 1}}, bytes(4)),
    "fine: no metadata, said so": build({"__metadata__": None, "a": entry()}, bytes(4)),
    "fine: four bits": build({"a": entry(0, 3, "F4", (3, 2))}, bytes(3)),
    "fine: six bits": build({"a": entry(0, 3, "F6_E2M3", (2, 2)), "b": entry(3, 6, "F6_E3M2", (4,))}, bytes(6)),
    "half a byte": build({"a": entry(0, 2, "F4", (3,))}, bytes(2)),
    "four bits without a shape": build({"a": entry(0, 1, "F4", ())}, bytes(1)),
    "six bits that end in a byte": build({"a": entry(0, 2, "F6_E2M3", (2,))}, bytes(2)),
    "fine: an empty tensor": build({"a": entry(), "b": entry(4, 4, shape=(0, 5))}, bytes(4)),
    "overlap": build({"a": entry(), "b": entry(2, 6)}, bytes(6)),
    "the same place": build({"a": entry(), "b": entry()}, bytes(4)),
    "gap": build({"a": entry(), "b": entry(8, 12)}, bytes(12)),
    "gap at the start": build({"a": entry(4, 8)}, bytes(8)),
    "bytes after the end": build({"a": entry()}, bytes(5)),
    "cut short": build({"a": entry()}, bytes(3)),
    "backwards": build({"a": entry(4, 0)}, bytes(4)),
    "negative": build({"a": entry(-4, 0)}, bytes(4)),
    "no dtype": build({"a": {"shape": [1], "data_offsets": [0, 4]}}, bytes(4)),
    "unknown dtype": build({"a": entry(dtype="F31")}, bytes(4)),
    "a dtype of GGML": build({"a": entry(0, 34, dtype="Q8_0", shape=(32,))}, bytes(34)),
    "wrong size": build({"a": entry(shape=(2,))}, bytes(4)),
    "a shape that overflows": build({"a": entry(shape=(1 << 62, 1 << 62))}, bytes(4)),
    "a fraction": build({"a": entry(shape=(1.5,))}, bytes(4)),
    "metadata that is no text": build({"__metadata__": {"a": 1}}),
    "metadata that is a list": build({"__metadata__": []}),
    "three offsets": build({"a": entry() | {"data_offsets": [0, 2, 4]}}, bytes(4)),
    "a header too long": build({"a": entry()}, bytes(4), length=1 << 60),
    "a header beyond the end": build({"a": entry()}, bytes(4), length=1000),
    "no JSON": build(b"{'a': 1}"),
    "NaN": build(b'{"a":{"dtype":"F32","shape":[NaN],"data_offsets":[0,4]}}', bytes(4)),
    "half a surrogate pair": build(b'{"\\ud800":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}', bytes(4)),
    "half a surrogate pair in a name of the metadata": build(b'{"__metadata__":{"\\ud800":"1"}}'),
    "half a surrogate pair in a text of the metadata": build(b'{"__metadata__":{"a":"\\udfff"}}'),
    "fine: a whole pair": build(b'{"__metadata__":{"a":"\\ud83d\\ude00"}}'),
    "no UTF-8": build(b'{"\xff":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}', bytes(4)),
    "empty": b"",
    "seven bytes": bytes(7),
}


@pytest.mark.parametrize("case", CRAFTED)
def test_we_refuse_what_the_official_reader_refuses(tmp_path, case):
    path = tmp_path / "a.safetensors"
    path.write_bytes(CRAFTED[case])
    try:
        with safe_open(path, "numpy"):
            official = True
    except (SafetensorError, OSError):
        official = False
    try:
        formats.inspect(path)
        ours = True
    except (FileBroken, UnknownFormat) as error:
        ours = False
        assert str(error).count("\n") == 0 and str(error).endswith(".")
    assert ours == official == case.startswith("fine")


def test_a_key_that_stands_twice_is_refused(tmp_path):
    entries = b'"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}'
    (tmp_path / "a").write_bytes(build(b"{" + entries + b"," + entries + b"}", bytes(4)))
    with pytest.raises(FileBroken, match="same key twice"):
        formats.inspect(tmp_path / "a")


def test_every_dtype_that_we_write_is_known_to_the_official_reader(tmp_path):
    for dtype in ORDER:
        data = bytes(size_of(dtype, (4,)))
        with open(tmp_path / dtype, "wb") as file:
            write_safetensors(file, [PlannedTensor("a", dtype, (4,), lambda data=data: [data])])
        with safe_open(tmp_path / dtype, "pt") as tensors:
            assert tensors.get_slice("a").get_dtype() == dtype


def test_numbers_of_less_than_a_byte_are_repacked_and_counted_in_bits(tmp_path):
    data = bytes(range(1, 13))
    header = {"a": entry(0, 3, "F4", (3, 2)), "b": entry(3, 9, "F6_E2M3", (2, 4)), "c": entry(9, 12, "F6_E3M2", (4,))}
    (tmp_path / "a.safetensors").write_bytes(build({"__metadata__": None} | header, data))
    found = formats.inspect(tmp_path / "a.safetensors")
    assert (found.parameters, found.nbytes, found.bits_per_weight) == (18, 12, 96 / 18)
    formats.convert(tmp_path / "a.safetensors", tmp_path / "b.safetensors")
    again = formats.inspect(tmp_path / "b.safetensors")
    stored = {
        tensor.name: (tensor.dtype, tensor.shape, b"".join(formats.read(again, tensor))) for tensor in again.tensors
    }
    assert stored == {
        "a": ("F4", (3, 2), data[:3]),
        "b": ("F6_E2M3", (2, 4), data[3:9]),
        "c": ("F6_E3M2", (4,), data[9:]),
    }
    with safe_open(tmp_path / "b.safetensors", "np") as official:
        assert [official.get_slice(name).get_dtype() for name in "abc"] == ["F4", "F6_E2M3", "F6_E3M2"]
    with pytest.raises(NotConvertible, match="F4, which torch"):
        formats.convert(tmp_path / "a.safetensors", tmp_path / "b.pt")
