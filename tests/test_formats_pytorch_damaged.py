"""PyTorch's damaged files: one small one for each sentence that says what is wrong."""

import io
import pickle
import struct
import tarfile
import zipfile
from collections import OrderedDict
from dataclasses import replace

import pytest
import torch

from llmnotes import formats
from llmnotes.errors import FileBroken, NotConvertible
from llmnotes.formats import pytorch
from llmnotes.formats.pytorch.legacy import MAGIC

REMEDY = "copy or download it again."


class Reference:
    """A value that the pickle leaves outside, under an identifier."""

    def __init__(self, identifier):
        self.identifier = identifier


class Rebuilt:
    """A tensor as torch pickles it: a call of its function with these arguments."""

    def __init__(self, *arguments):
        self.arguments = arguments

    def __reduce__(self):
        return torch._utils._rebuild_tensor_v2, self.arguments


class Pickler(pickle.Pickler):
    """Writes a `Reference` as what it refers to."""

    def persistent_id(self, value):
        return value.identifier if isinstance(value, Reference) else None


def dumps(value) -> bytes:
    out = io.BytesIO()
    Pickler(out, 2).dump(value)
    return out.getvalue()


def storage(key="0", kind=torch.FloatStorage, *part) -> Reference:
    return Reference(("storage", kind, key, "cpu", 4, *part))


def tensor(stored, shape=(2,), strides=(1,)) -> Rebuilt:
    return Rebuilt(stored, 0, shape, strides, False, OrderedDict())


def nested(value, depth):
    return nested([value], depth - 1) if depth else value


def write_zip(path, value, method=zipfile.ZIP_STORED, data=bytes(16), **records) -> None:
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("a/data.pkl", value if isinstance(value, bytes) else dumps(value))
        for name, record in ({"data/0": data} | records).items():
            archive.writestr(f"a/{name}", record)


def refused(path, what) -> None:
    """The file is refused with these words, in one sentence that ends in the remedy."""
    with pytest.raises(FileBroken) as error:
        formats.inspect(path)
    assert str(error.value).startswith(f"{path.name} is damaged: ") and what in str(error.value)
    assert str(error.value).endswith(REMEDY) and "\n" not in str(error.value)


ZIPS = [
    ("its pickle", dumps({"a": 1})[:-1], {}),
    ("its byteorder is neither little nor big", {}, {"byteorder": "middle"}),
    ("the storage of 'a' is not in the archive", {"a": tensor(storage("9"))}, {}),
    ("the storage of 'a' is not in the archive", {"a": tensor(Reference("0"))}, {}),
    ("the storage of 'a' has no type that is known", {"a": tensor(storage(kind=torch.nn.Linear))}, {}),
    ("nests deeper", nested(tensor(storage()), 70), {}),
    ("the call that makes the tensor 'a' lacks what it needs", {"a": Rebuilt(storage())}, {}),
    ("more than any model needs there", {}, {"version": "3" * 65}),
]


@pytest.mark.parametrize("what, value, records", ZIPS, ids=[row[0] for row in ZIPS])
def test_an_archive_with_a_lie_in_it(tmp_path, what, value, records):
    write_zip(tmp_path / "a.pt", value, **records)
    refused(tmp_path / "a.pt", what)


def test_expanded_masks_are_no_damage(tmp_path):
    torch.save([torch.zeros(1, side + 1)[:, :1].expand(1, 1 << 24) for side in range(3)], tmp_path / "a.pt")
    with pytest.raises(NotConvertible, match=r"a\.pt show the same bytes .* 201,326,592 bytes; save the file without"):
        formats.inspect(tmp_path / "a.pt")


def test_a_record_that_cannot_be_unpacked(tmp_path):
    write_zip(tmp_path / "a.pt", {"a": tensor(storage())}, zipfile.ZIP_DEFLATED, b"abcd" * 4)
    data = (tmp_path / "a.pt").read_bytes()
    at = data.index(b"a/data.pkl") + len(b"a/data.pkl")
    (tmp_path / "b.pt").write_bytes(data[:at] + b"\xff" + data[at + 1 :])
    refused(tmp_path / "b.pt", "its entry 'a/data.pkl' cannot be unpacked")


def test_a_file_that_changes_between_its_header_and_its_weights(tmp_path):
    path = tmp_path / "a.pt"
    write_zip(path, {"a": tensor(storage())}, zipfile.ZIP_DEFLATED)
    found = formats.inspect(path)
    write_zip(path, {"another": tensor(storage())}, zipfile.ZIP_DEFLATED)
    with pytest.raises(FileBroken, match="it no longer holds 'a'"):
        list(formats.read(found, found.tensors[0]))
    path.write_text("no model")
    with pytest.raises(FileBroken, match="it changed since its header was read"):
        list(pytorch.read(found, found.tensors[0]))
    with pytest.raises(FileBroken, match="The file of a changed while it was read; run the command again."):
        formats.files.place_of(replace(found.tensors[0], offset=None))


def write_legacy(path, value, keys) -> None:
    pickles = [pickle.dumps(MAGIC, 2), pickle.dumps(1001, 2), pickle.dumps({}, 2), dumps(value), pickle.dumps(keys, 2)]
    path.write_bytes(b"".join(pickles) + struct.pack("<q", 4) + bytes(16))


double = tensor(storage("0", torch.DoubleStorage, None))
one = tensor(storage("0", torch.FloatStorage, None))
LEGACY = [
    ("the storage of 'a' is not in the file", {"a": one}, []),
    ("the storage of 'a' is not in the file", {"a": tensor(Reference("0"))}, []),
    ("a part that reaches beyond the whole", {"a": tensor(storage("0", torch.FloatStorage, ("1", 2, 9)))}, ["0"]),
    ("has two types, or none that is known", {"a": one, "b": double}, ["0"]),
    ("has two types, or none that is known", {"a": tensor(storage("0", torch.nn.Linear, None))}, ["0"]),
    ("its list of storages names more than its tensors use", {"a": one}, ["0", "0"]),
    ("its list of storages names more than its tensors use", {"a": one}, "0"),
    ("names one twice, or one that no tensor uses", {"a": one}, ["1"]),
]


@pytest.mark.parametrize("what, value, keys", LEGACY)
def test_a_legacy_file_with_a_lie_in_it(tmp_path, what, value, keys):
    write_legacy(tmp_path / "a.pt", value, keys)
    refused(tmp_path / "a.pt", what)


def storages(kind=torch.FloatStorage, count=4, parts=()) -> bytes:
    head = pickle.dumps(1, 2) + pickle.dumps((5, "cpu", kind), 2)
    return head + struct.pack("<q", count) + bytes(16) + pickle.dumps(list(parts), 2)


def tensors(owner=5, sides=1) -> bytes:
    numbers = struct.pack("<i4x3q", sides, 4, 1, 0)
    return pickle.dumps(1, 2) + pickle.dumps((10, owner, torch.FloatTensor), 2) + numbers


TARS = [
    ("", storages(), tensors()),
    ("one of its storages has no type that is known", storages(torch.nn.Linear), tensors()),
    ("one of its storages is longer than the file", storages(count=1000), tensors()),
    ("a part of one that is not there", storages(parts=[(6, 7, 0, 1)]), tensors()),
    ("one of its tensors has no storage, or more than 64 dimensions", storages(), tensors(owner=9)),
    ("one of its tensors has no storage, or more than 64 dimensions", storages(), tensors(sides=65)),
    ("it claims more tensors than its size allows", storages(), pickle.dumps(10**6, 2)),
    ("a storage or a tensor in it lacks its description", pickle.dumps(1, 2) + pickle.dumps((1, 2), 2), tensors()),
    ("it ends in the middle of a tensor's description", storages(), tensors()[:-1]),
]


@pytest.mark.parametrize("what, kept, views", TARS)
def test_a_tar_of_the_first_versions_with_a_lie_in_it(tmp_path, what, kept, views):
    with tarfile.open(tmp_path / "a.pt", "w", format=tarfile.USTAR_FORMAT) as archive:
        state = dumps({"a": Reference("10")})
        for name, data in (("pickle", state), ("storages", kept), ("tensors", views)):
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    if what:
        refused(tmp_path / "a.pt", what)
        return
    assert [(tensor.name, tensor.shape) for tensor in formats.inspect(tmp_path / "a.pt").tensors] == [("a", (4,))]
    data = (tmp_path / "a.pt").read_bytes()
    (tmp_path / "b.pt").write_bytes(data[: data.index(b"tensors") + 512])
    refused(tmp_path / "b.pt", "one of its members reaches beyond its end")
