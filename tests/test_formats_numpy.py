"""npy and npz, against numpy itself."""

import numpy as np
import pytest

from llmnotes import formats
from llmnotes.errors import FileBroken, LLMNotesError, NotConvertible
from llmnotes.formats import zips

ARRAYS = {
    "fortran": np.asfortranarray(np.arange(35.0).reshape(5, 7)),
    "big": np.arange(6, dtype=">i4").reshape(2, 3),
    "complex": np.array([1 + 2j, 3], dtype=">c8"),
    "scalar": np.array(3, dtype="f2"),
    "bool": np.array([True, False]),
    "empty": np.zeros((0, 4)),
    "large": np.arange(3_000_000, dtype="u2"),
}


def little(array) -> bytes:
    return array.astype(array.dtype.newbyteorder("<")).tobytes()


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_every_array_of_an_npz(tmp_path, save):
    others = {"objects": np.array([None], dtype=object), "record": np.zeros(2, dtype=[("a", "i4")])}
    save(tmp_path / "a.npz", **ARRAYS, **others)
    found = formats.inspect(tmp_path / "a.npz")
    assert found.identity.format == "NumPy npz"
    assert {tensor.name for tensor in found.tensors} == set(ARRAYS)
    for tensor in found.tensors:
        assert tensor.shape == ARRAYS[tensor.name].shape
        assert b"".join(formats.read(found, tensor)) == little(ARRAYS[tensor.name]), tensor.name
    assert len(found.notes) == 2 and "pickle" in found.notes[0]


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
@pytest.mark.parametrize("name", list(ARRAYS))
def test_every_version_of_npy(tmp_path, name, version):
    with open(tmp_path / "a", "wb") as file:
        np.lib.format.write_array(file, ARRAYS[name], version)
    found = formats.inspect(tmp_path / "a")
    assert (found.identity.format, found.identity.version) == ("NumPy npy", f"{version[0]}.{version[1]}")
    assert b"".join(formats.read(found, found.tensors[0])) == little(ARRAYS[name])


@pytest.mark.parametrize(
    "header",
    [
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000,)}",
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (0, 1 << 60)}",
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}",
        b"{'descr': '<f4', 'fortran_order': 'x', 'shape': ()}",
        b"{'descr': '\\d', 'fortran_order': False, 'shape': ()}",
        b"__import__('os').system('false')",
        b"(" * 5000,
        b"-" * 5000 + b"1",
        b"",
    ],
)
def test_a_header_that_lies_is_refused(tmp_path, header):
    path = tmp_path / "a.npy"
    path.write_bytes(b"\x93NUMPY\1\0" + len(header).to_bytes(2, "little") + header + bytes(4))
    with pytest.raises(FileBroken):
        formats.inspect(path)


def test_a_cut_file_gives_one_sentence(tmp_path):
    np.save(tmp_path / "a.npy", np.arange(100))
    data = (tmp_path / "a.npy").read_bytes()
    for end in range(0, len(data), 7):
        (tmp_path / "b.npy").write_bytes(data[:end])
        with pytest.raises(LLMNotesError):
            formats.inspect(tmp_path / "b.npy")


def test_a_header_that_numpy_does_not_write_is_refused(tmp_path):
    (tmp_path / "a.npy").write_bytes(b"\x93NUMPY\4\0" + bytes(100))
    with pytest.raises(FileBroken, match="'array' has no header that NumPy writes"):
        formats.inspect(tmp_path / "a.npy")


def test_a_shape_larger_than_any_file_is_refused_although_it_has_no_elements(tmp_path):
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (0, 1099511627776, 1099511627776)}"
    (tmp_path / "a.npy").write_bytes(b"\x93NUMPY\1\0" + len(header).to_bytes(2, "little") + header)
    with pytest.raises(FileBroken, match="the shape of 'array' is larger than any file"):
        formats.inspect(tmp_path / "a.npy")


def test_an_array_that_is_gone_when_it_is_read(tmp_path):
    np.savez_compressed(tmp_path / "a.npz", a=np.arange(9))
    found = formats.inspect(tmp_path / "a.npz")
    np.savez_compressed(tmp_path / "a.npz", another=np.arange(9))
    with pytest.raises(FileBroken, match="it no longer holds 'a'"):
        list(formats.read(found, found.tensors[0]))


def test_packed_zeros_are_read_up_to_a_limit_that_is_named(tmp_path, monkeypatch):
    np.savez_compressed(tmp_path / "a.npz", a=np.zeros(2_000_000))  # 16 MB in 16 kB
    found = formats.inspect(tmp_path / "a.npz")
    assert sum(map(len, formats.read(found, found.tensors[0]))) == 16_000_000
    monkeypatch.setattr(zips, "ROOM", 1 << 20)
    with pytest.raises(NotConvertible, match="packs 16,000,128 bytes into .*; save it again without compression"):
        list(formats.read(found, found.tensors[0]))
