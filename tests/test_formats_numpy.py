"""npy and npz, against numpy itself."""

import numpy as np
import pytest

from llmnotes import formats
from llmnotes.errors import FileBroken, LLMNotesError

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
