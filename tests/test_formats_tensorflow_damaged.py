"""TensorFlow's damaged tables, checkpoints and graphs: one small one for each sentence that says what is wrong."""

import pytest
import torch

from llmnotes.errors import FileBroken, FileUnreadable, NotConvertible
from llmnotes.formats import convert, inspect, read
from llmnotes.formats.legacy.tensorflow import bundle as tf_bundle
from llmnotes.formats.legacy.tensorflow import table as tf_table
from llmnotes.formats.legacy.tensorflow.crc32c import crc32c, masked
from llmnotes.formats.protobuf import LENGTH, VARINT, Field, Message, field, varint


def write_index(path, pairs) -> None:
    path.write_bytes(tf_table.table(pairs))


def entry(kind=1, sides=(2,), size=8, more=b"") -> bytes:
    shape = b"".join(field(2, field(1, side)) for side in sides)
    return field(1, kind) + field(2, shape) + field(5, size) + more


def cut(*sides) -> bytes:
    """A slice: the start and the length of each side."""
    return field(7, b"".join(field(1, field(1, start) + field(2, length)) for start, length in sides))


HEADER = (b"", field(1, 1))
INDEXES = [
    ("the bytes of 'a' are not where it says", [HEADER, (b"a", entry(size=4))]),
    ("the entry of b'a' has an unknown type or no shard", [HEADER, (b"a", entry(kind=99))]),
    ("the entry of b'a' has an unknown type or no shard", [HEADER, (b"a", entry(more=field(3, 7)))]),
    ("is big-endian, or has no valid number of shards", [(b"", field(1, 1) + field(2, 1)), (b"a", entry())]),
    ("is big-endian, or has no valid number of shards", [(b"", field(1, 0)), (b"a", entry())]),
    ("it has slices that cannot be", [HEADER, (b"a", entry(more=cut((1 << 62, 1))))]),
    ("its key b'a' is out of order", [HEADER, (b"b", entry()), (b"a", entry())]),
]


def refused(path, what) -> None:
    """The file is refused with these words, in one sentence with its remedy."""
    with pytest.raises(FileBroken) as error:
        inspect(path)
    assert what in str(error.value) and str(error.value).endswith("; copy or download it again.")
    assert str(error.value).startswith(f"{path.name} is damaged: ")


@pytest.mark.parametrize("what, pairs", INDEXES)
def test_an_index_with_a_lie_in_it(tmp_path, what, pairs):
    write_index(tmp_path / "a.index", pairs)
    refused(tmp_path / "a.index", what)


def block(body: bytes, restarts=1, packed=0) -> bytes:
    body += bytes(4) + restarts.to_bytes(4, "little") + bytes([packed])
    return body + masked(crc32c(body)).to_bytes(4, "little")


def row(key: bytes, value: bytes, shared=0) -> bytes:
    return varint(shared) + varint(len(key)) + varint(len(value)) + key + value


def table_of(data: bytes, times=1, place=None) -> bytes:
    """A table whose index names one block of `data`, one or more times."""
    handle = varint(0) + varint(len(data) - 5) if place is None else place
    empty, index = block(b""), block(b"".join(row(bytes([97 + n]), handle) for n in range(times)))
    ends = varint(len(data)) + varint(len(empty) - 5) + varint(len(data + empty)) + varint(len(index) - 5)
    return data + empty + index + ends.ljust(40, b"\0") + tf_table.MAGIC


first = row(*HEADER)
BLOCKS = [
    ("its blocks overlap", table_of(block(row(b"", field(1, 1) + field(9, bytes(500)))), times=2)),
    ("it has a block without a place", b"\xff" * 40 + tf_table.MAGIC),
    ("it has a block without a place", table_of(block(first), place=b"")),
    ("its block at 0 is compressed, which TensorFlow does not do", table_of(block(first, packed=1))),
    ("its block at 0 has no end", table_of(block(first, restarts=1000))),
    ("a key in its block at 0 has no valid length", table_of(block(row(b"", b"", shared=9)))),
]


@pytest.mark.parametrize("what, data", BLOCKS)
def test_a_table_with_a_lie_in_it(tmp_path, what, data):
    (tmp_path / "a.index").write_bytes(data)
    refused(tmp_path / "a.index", what)


def test_an_index_larger_than_any(tmp_path, monkeypatch):
    write_index(tmp_path / "a.index", [HEADER, (b"a", entry())])
    monkeypatch.setattr(tf_table, "LIMIT", 50)
    refused(tmp_path / "a.index", "its index has more than 50 bytes")


def one_tensor(path) -> bytes:
    found = inspect(path)
    return b"".join(read(found, found.tensors[0]))


def test_slices_that_are_not_the_whole_are_not_read(tmp_path):
    path = tmp_path / "a.index"
    (tmp_path / "a.data-00000-of-00001").write_bytes(bytes(16))
    half = ((0, 1), (0, 2))
    key = tf_bundle._slice_key("a", half).encode("utf-8", "surrogateescape")
    whole = (b"a", entry(sides=(2, 2), size=0, more=cut(*half)))
    write_index(path, [HEADER, (key, entry(sides=(1, 2))), whole])
    with pytest.raises(FileBroken, match="the slices of 'a' do not fill its shape"):
        one_tensor(path)
    write_index(path, [HEADER, (b"a", entry(sides=(2, 2), size=0, more=cut((0, 2), (0, 1))))])
    with pytest.raises(NotConvertible, match="a is cut across its rows; join it in TensorFlow first."):
        one_tensor(path)
    found = inspect(path)
    write_index(path, [HEADER, (b"b", entry())])
    with pytest.raises(FileBroken, match="it changed since its header was read"):
        list(read(found, found.tensors[0]))
    write_index(path, [HEADER, (b"a", entry(kind=7))])
    with pytest.raises(NotConvertible, match="a holds texts, which no other format here has; leave it out."):
        one_tensor(path)
    path.unlink()
    with pytest.raises(FileUnreadable, match="changed while it was read; run the command again."):
        tf_bundle.inspect_folder(tmp_path, found.identity)


def test_a_type_without_a_name_in_tensorflow(tmp_path):
    torch.save({"a": torch.ones(2).to(torch.float8_e8m0fnu)}, tmp_path / "a.pt")
    with pytest.raises(NotConvertible, match="TensorFlow has no name for the type F8_E8M0 of a; leave it out."):
        convert(tmp_path / "a.pt", tmp_path / "a.index")


def constant(*values: bytes, kind=1, sides=(2,), name=b"w") -> bytes:
    """A frozen graph with one constant; without values, one without a tensor."""
    shape = b"".join(field(2, field(1, side)) for side in sides)
    tensor = field(8, field(1, kind) + field(2, shape) + b"".join(values)) if values else b""
    value = field(1, b"value") + field(2, tensor or field(3, 1))
    return field(1, field(1, name) + field(2, b"Const") + field(5, value))


floats = [field(5, bytes(4 * count)) for count in range(4)]
CONSTANTS = [
    ("the constant 'w' has no value, or stands twice", constant()),
    ("the constant 'w' has no value, or stands twice", constant(floats[2]) * 2),
    ("'w' has the unknown data type 99", constant(floats[2], kind=99)),
    ("'w' does not have the bytes that its shape needs", constant(field(4, bytes(7)))),
]


@pytest.mark.parametrize("what, graph", CONSTANTS)
def test_a_constant_with_a_lie_in_it(tmp_path, what, graph):
    (tmp_path / "a.pb").write_bytes(graph)
    refused(tmp_path / "a.pb", what)


def test_constants_that_cannot_be_read(tmp_path):
    path = tmp_path / "a.pb"
    path.write_bytes(constant(floats[3]))
    with pytest.raises(FileBroken, match="'w' has more values than its shape"):
        one_tensor(path)
    path.write_bytes(constant(field(8, b"text"), kind=7, sides=(1,)))
    with pytest.raises(NotConvertible, match="w holds texts, which no other format here has; leave it out."):
        one_tensor(path)
    path.write_bytes(constant(floats[1], sides=(1 << 30,)))
    with pytest.raises(FileBroken, match="'w' has 4,294,967,296 bytes, more than a graph can"):
        one_tensor(path)
    found = inspect(path)
    path.write_bytes(constant(floats[1], name=b"v"))
    with pytest.raises(FileBroken, match="it changed since its header was read"):
        list(read(found, found.tensors[0]))


def test_a_folder_whose_saved_model_is_none(tmp_path):
    (tmp_path / "saved_model.pb").write_text("no model")
    with pytest.raises(FileBroken, match="saved_model.pb is damaged: it is no SavedModel"):
        inspect(tmp_path)


MESSAGES = [
    ("it has more than 1 fields", lambda: list(Message(field(1, 1) * 2, limit=1).fields())),
    ("is a number, and no message", lambda: Message(b"").inside(Field(1, VARINT, 1, 0, 1))),
    ("is no text of at most 2 bytes", lambda: Message(b"abc").payload(Field(1, LENGTH, None, 0, 3), 2)),
    ("is no list of at most 2 bytes", lambda: Message(b"abc").numbers(Field(1, LENGTH, None, 0, 3), 2)),
]


@pytest.mark.parametrize("what, ask", MESSAGES)
def test_a_message_with_a_lie_in_it(what, ask):
    with pytest.raises(FileBroken, match=f"A message in a file is damaged: .*{what}; copy or download the file again"):
        ask()
