"""HDF5 and Keras, compared with h5py."""

import io
import zipfile

import h5py
import numpy as np
import pytest

from llmnotes.errors import FileBroken, LLMNotesError, MissingPart
from llmnotes.formats import inspect, read
from llmnotes.formats.legacy import hdf5_child, keras

from .conftest import ROOT

DATA = ROOT / "tests" / "data" / "tensorflow"


@pytest.mark.parametrize(
    "name, kind, architecture",
    [
        ("model.h5", "Keras HDF5", "Sequential"),
        ("model.weights.h5", "Keras HDF5", None),
        ("model.keras", "Keras archive", "Sequential"),
    ],
)
def test_keras_own_files(name, kind, architecture):
    found = inspect(DATA / name)
    assert (found.identity.format, found.architecture) == (kind, architecture)
    source = DATA / name
    if kind == "Keras archive":
        source = io.BytesIO(zipfile.ZipFile(source).read("model.weights.h5"))
    with h5py.File(source) as file:
        for tensor in found.tensors:
            assert b"".join(read(found, tensor)) == file[tensor.name][()].tobytes() and tensor.offset
    assert sorted(tensor.shape for tensor in found.tensors) == [(2,), (3, 4), (4,), (4, 2)]


@pytest.mark.slow
def test_every_layout_of_hdf5(tmp_path):
    path = tmp_path / "x"
    arrays = {"a": np.arange(12.0).reshape(3, 4), "b": np.arange(5, dtype="<f2"), "c": np.float32(3)}
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, array in arrays.items():
            file[name] = array
        file.create_dataset("packed", data=np.arange(100, dtype="i4").reshape(10, 10), compression="gzip")
        file["big"] = np.arange(5, dtype=">f4")
    found = inspect(path)
    assert found.identity.format == "HDF5"
    got = {tensor.name: b"".join(read(found, tensor)) for tensor in found.tensors}
    assert got == {name: array.tobytes() for name, array in arrays.items()} | {
        "packed": np.arange(100, dtype="i4").tobytes(),
        "big": np.arange(5, dtype="<f4").tobytes(),
    }
    assert {tensor.name for tensor in found.tensors if tensor.offset is None} == {"packed", "big"}


def test_nothing_outside_is_opened(tmp_path):
    (tmp_path / "secret").write_bytes(b"1234")
    with h5py.File(tmp_path / "other", "w") as file:
        file["x"] = np.ones(3)
    with h5py.File(tmp_path / "x", "w") as file:
        file["link"] = h5py.ExternalLink(tmp_path / "other", "/x")
        file["soft"] = h5py.SoftLink("/soft")
        file.create_group("g")["up"] = file["/"]
        file.create_dataset("out", (4,), "u1", external=[(str(tmp_path / "secret"), 0, 4)])
        layout = h5py.VirtualLayout((3,), "f8")
        layout[:] = h5py.VirtualSource(tmp_path / "other", "x", (3,))
        file.create_virtual_dataset("virtual", layout)
    found = inspect(tmp_path / "x")
    assert {tensor.name for tensor in found.tensors} == {"out", "virtual"} and len(found.notes) == 5
    for tensor in found.tensors:
        with pytest.raises(FileBroken):
            b"".join(read(found, tensor))


@pytest.mark.slow
def test_damage_is_one_sentence(tmp_path):
    good = (DATA / "model.weights.h5").read_bytes()
    rng = np.random.default_rng(0)
    for number in range(12):
        data = bytearray(good[: int(rng.integers(9, len(good)))] if number % 2 else good)
        for place in rng.integers(8, min(len(data), 2000), 20):
            data[place] = rng.integers(256)
        (tmp_path / "m").write_bytes(data)
        try:
            inspect(tmp_path / "m")
        except LLMNotesError as error:
            assert "\n" not in str(error)


def test_a_child_that_hangs_is_ended(monkeypatch):
    monkeypatch.setattr(keras, "SECONDS", 0.01)
    with pytest.raises(FileBroken, match="come to an end"):
        inspect(DATA / "model.h5")


def with_module(folder, monkeypatch, name, text):
    """Let the child process find a module of ours before the installed one."""
    (folder / f"{name}.py").write_text(text)
    monkeypatch.setenv("PYTHONPATH", str(folder))


@pytest.mark.parametrize("limit", ["RLIMIT_AS", "RLIMIT_CPU", "RLIMIT_CORE"])
def test_a_system_without_a_limit_reads_the_file_all_the_same(monkeypatch, limit):
    resource, asked = pytest.importorskip("resource"), []

    def setrlimit(number, pair):  # macOS: ValueError: current limit exceeds maximum limit
        asked.append(number)
        if number == getattr(resource, limit):
            raise ValueError("current limit exceeds maximum limit")

    monkeypatch.setattr(resource, "setrlimit", setrlimit)
    hdf5_child.limit(1)
    assert asked == [resource.RLIMIT_AS, resource.RLIMIT_CPU, resource.RLIMIT_CORE]
    monkeypatch.delattr(resource, limit)
    hdf5_child.limit(1)


def test_a_file_is_read_where_no_limit_can_be_set(tmp_path, monkeypatch):
    code = "RLIMIT_AS = RLIMIT_CPU = RLIMIT_CORE = RUSAGE_SELF = 0\nfrom types import SimpleNamespace\n"
    code += "def getrusage(who): return SimpleNamespace(ru_utime=0, ru_stime=0)\n"
    code += "def setrlimit(which, pair): raise ValueError('current limit exceeds maximum limit')\n"
    with_module(tmp_path, monkeypatch, "resource", code)
    assert len(inspect(DATA / "model.h5").tensors) == 4


def test_an_h5py_that_does_not_work_is_not_the_files_fault(tmp_path, monkeypatch):
    with_module(tmp_path, monkeypatch, "h5py", "raise ImportError('made for another NumPy')")
    with pytest.raises(MissingPart, match=r"ImportError: made for another NumPy\); bring it again"):
        inspect(DATA / "model.h5")
