"""What a loader reads, the scanner reads: numbers with a base, long lines, frames, containers, code outside pickles."""

import bz2
import gzip
import io
import json
import lzma
import os
import pickle
import random
import struct
import subprocess
import sys
import tarfile
import zipfile
import zlib

import numpy as np
import pytest

from llmnotes.cli.main import main
from llmnotes.formats import scan

from .fuzz_pickles import clean, imported, program, runnable
from .test_formats_scan import call, text, write, zipped

CALL = b"cos\nsystem\n(S'exit'\ntR."  # what must be found, in protocol 0


def runs(program: bytes, encoding: str = "ASCII") -> bool:
    """Return whether one of CPython's unpicklers imports something for a program; what it imports does nothing."""
    return bool(imported(program, pickle.Unpickler, encoding) | imported(program, pickle._Unpickler, encoding))


# Programs that CPython runs, and that a reader with other rules takes for damage before they call anything.
PROGRAMS = {
    "I0x10": b"I0x10\n0" + CALL,
    "I0b1": b"I0b1\n0" + CALL,
    "I0o17": b"I0o17\n0" + CALL,
    "I017, octal": b"I017\n0" + CALL,
    "L0x10L": b"L0x10L\n0" + CALL,
    "I with spaces": b"I 12\n0" + CALL,
    "long line": b"S'" + b"x" * 70_000 + b"'\n0" + CALL,
    "long digits": b"F" + b"0" * 70_000 + b"\n0" + CALL,
    "STRING beyond ASCII": b"S'\xe4'\n0" + CALL,
    "UNICODE": b"V\\u00e4\xe4\n0" + CALL,
    "second pickle": b"\x80\x02I0x10\n." + b"\x80\x02" + CALL,
    "no end of the last line": b"M\0\0(ios\nsystem.",
    "name beyond ASCII": "cos\nsystem\n0cmüll\nhaufen\n0".encode() + CALL,
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_what_cpython_runs_is_found(tmp_path, name):
    program = PROGRAMS[name]
    assert name == "second pickle" or runs(program, "latin1"), "CPython doesn't run it: the test tests nothing"
    assert scan(write(tmp_path / "a", program)).verdict == "dangerous"
    assert scan(write(tmp_path / "b", zipped("archive/data.pkl", program))).verdict == "dangerous"


def test_the_second_pickle_of_a_legacy_checkpoint_is_read(tmp_path):
    import torch

    torch.save({"a": torch.ones(2)}, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    data = (tmp_path / "old.pt").read_bytes()
    magic = data.index(b".") + 1
    assert scan(write(tmp_path / "bad.pt", data[:magic] + b"I0x10\n0" + CALL + data[magic:])).verdict == "dangerous"


def frame(body: bytes, size: int | None = None) -> bytes:
    return b"\x95" + struct.pack("<Q", len(body) if size is None else size) + body


@pytest.mark.parametrize(
    "program",
    [
        b"\x80\x04" + frame(text("abcd") + b"0", 3) + b"N.",
        b"\x80\x04" + frame(frame(b"N0") + b"N") + b".",
    ],
    ids=["an instruction across a frame's end", "a frame in a frame"],
)
def test_frames_that_unpicklers_read_differently_are_suspicious(tmp_path, program):
    found = scan(write(tmp_path / "a.pkl", program))
    assert found.verdict == "suspicious" and "two different programs" in found.findings[0].what


@pytest.mark.parametrize("protocol", range(6))
def test_what_pickle_writes_is_clean(tmp_path, protocol):
    value = {"a": [1, 2.5, None, True, "ä" * 300, b"\x00" * 70_000, 2**70], ("x",): {1, 2}, "f": frozenset([1])}
    path = write(tmp_path / "a.pkl", pickle.dumps(value, protocol) + pickle.dumps([value] * 3, protocol))
    assert (scan(path).verdict, scan(path).findings, scan(path).pickles) == ("safe", (), 2)


@pytest.mark.parametrize("program", [b"\x80\x04\xff.", b"NNNN\xff", b"\x80\x02N\x00" + b"." * 5], ids=repr)
def test_what_begins_like_a_pickle_and_cannot_be_read_is_suspicious(tmp_path, program):
    assert scan(write(tmp_path / "a.bin", program)).verdict == "suspicious"


def test_the_length_of_a_safetensors_header_is_no_signature(tmp_path):
    from safetensors.numpy import save

    for size in range(500, 700):  # one of the headers has 0x0280 bytes, which reads like a signature
        data = save({"a.b" + "x" * size: np.zeros(1, np.float32)})
        assert scan(write(tmp_path / "a.safetensors", data)).verdict == "no pickle", data[:2]


def npy(header: str, body: bytes) -> bytes:
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(header) + 1) + header.encode() + b"\n" + body


@pytest.mark.parametrize("descr", ["'object'", r"'\x4f'", "'|O'", "'O8'", "[('a', 'O')]", "'<f4'"])
def test_an_array_that_is_more_or_other_than_numbers_is_read_as_pickles(tmp_path, descr):
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': (1,), }}"
    assert scan(write(tmp_path / "a.npy", npy(header, CALL))).verdict == "dangerous"
    assert scan(write(tmp_path / "a.npz", zipped("a.npy", npy(header, CALL)))).verdict == "dangerous"


def test_numbers_are_no_pickles_however_they_begin(tmp_path):
    body = np.frombuffer(CALL.ljust(32), np.uint8)
    np.save(tmp_path / "a.npy", body)
    np.savez_compressed(tmp_path / "b.npz", a=body)
    for path in tmp_path.iterdir():
        assert scan(path).verdict == "no pickle", path
    assert scan(write(tmp_path / "c.npy", npy("{'descr': f()}", bytes(4)))).verdict == "suspicious"


@pytest.mark.slow
def test_a_large_compressed_array_is_clean(tmp_path):
    np.savez_compressed(tmp_path / "a.npz", a=np.zeros(10_000_000), b=np.arange(3))  # 80 MB
    assert scan(tmp_path / "a.npz").verdict == "no pickle"


def test_two_zip64_records_are_a_finding(tmp_path):
    archive = zipped("a.txt", b"nothing")
    end = archive.index(b"PK\5\6")
    directory = archive.index(b"PK\1\2")
    record = b"PK\6\6" + struct.pack("<QHHIIQQQQ", 44, 45, 45, 0, 0, 1, 1, end - directory, directory)
    locator = b"PK\6\7" + struct.pack("<IQI", 0, end, 1)
    tail = archive[end:]
    one = archive[:end] + record + locator + tail
    two = archive[:end] + record + record + locator + tail
    assert scan(write(tmp_path / "one.zip", one)).verdict == "no pickle"
    found = scan(write(tmp_path / "two.zip", two))
    assert found.verdict == "suspicious" and "two zip64 records" in found.findings[0].what


def test_an_encrypted_archive_is_a_remark(tmp_path):
    archive = bytearray(zipped("a.txt", b"nothing"))
    archive[6] |= 1
    archive[archive.index(b"PK\1\2") + 8] |= 1
    found = scan(write(tmp_path / "a.zip", bytes(archive)))
    assert found.verdict == "no pickle" and "is encrypted" in found.findings[0].what


def test_a_name_that_says_encrypted_hides_nothing(tmp_path):
    archive = zipped("x is encrypted", CALL)
    directory = archive.index(b"PK\1\2")
    renamed = archive[:directory] + archive[directory:].replace(b"x is", b"y is")
    assert scan(write(tmp_path / "a.zip", renamed)).verdict == "dangerous"


def test_a_damaged_archive_is_read_by_its_members_own_headers(tmp_path):
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        archive = zipped("archive/data.pkl", call("os", "system", text("exit")), method)
        assert scan(write(tmp_path / "a.pt", archive[: archive.index(b"PK\1\2")])).verdict == "dangerous"
    harmless = zipped("archive/data.pkl", pickle.dumps([1]))
    assert scan(write(tmp_path / "b.pt", harmless[:-30])).verdict == "suspicious"


def tar(body: bytes, **changes) -> bytes:
    entry = tarfile.TarInfo("pickle")
    entry.size = len(body)
    for name, value in changes.items():
        setattr(entry, name, value)
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(entry, io.BytesIO(body))
    return file.getvalue()


def checked(header: bytes, signed: bool) -> bytes:
    """Return a tar header with a checksum that counts its bytes with or without signs."""
    header = header[:148] + b" " * 8 + header[156:]
    total = sum(struct.unpack("512b" if signed else "512B", header))
    return header[:148] + b"%06o\0 " % total + header[156:]


def test_tar_is_read_as_tarfile_reads_it(tmp_path):
    plain = tar(CALL)
    header, rest = plain[:512], plain[512:]
    wide = header[:124] + b"\x80" + len(CALL).to_bytes(11, "big") + header[136:]
    name = b"\xe4" + header[1:]
    pax = tar(CALL, pax_headers={"size": str(len(CALL))})
    cases = {
        "plain": plain,
        "base 256": checked(wide, False) + rest,
        "signed": checked(name, True) + rest,
        "pax": pax,
    }
    for case, data in cases.items():
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            assert archive.extractfile(archive.getmembers()[0]).read() == CALL
        assert scan(write(tmp_path / "a", data)).verdict == "dangerous", case


PACKERS = {
    "zlib": zlib.compress,
    "zlib, fast": lambda data: zlib.compress(data, 1),
    "gzip": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    **{
        f"lzma {level}": lambda data, level=level: lzma.compress(data, lzma.FORMAT_ALONE, preset=level)
        for level in range(10)
    },
}


@pytest.mark.parametrize("packer", PACKERS)
def test_what_joblib_packs_is_unpacked(tmp_path, packer):
    pack = PACKERS[packer]
    assert scan(write(tmp_path / "a.joblib", pack(CALL))).verdict == "dangerous"
    assert scan(write(tmp_path / "b.joblib", pack(pickle.dumps({"a": 1})))).verdict == "safe"
    assert scan(write(tmp_path / "c.joblib", pack(pickle.dumps({"a": 1}))[:-2])).verdict == "suspicious"


def test_arrays_of_joblib_are_clean_and_what_hides_in_them_is_not(tmp_path):
    joblib = pytest.importorskip("joblib")
    joblib.dump({"w": np.arange(300.0), "b": np.arange(3, dtype=np.int16), "n": 3}, tmp_path / "a.joblib")
    joblib.dump(np.ones(4), tmp_path / "b.joblib", compress=3)
    for name in ("a", "b"):
        assert (scan(tmp_path / f"{name}.joblib").verdict, scan(tmp_path / f"{name}.joblib").findings) == ("safe", ())
    # The numbers are a program for a loader that doesn't skip them: without the padding, they follow at once.
    joblib.dump(np.frombuffer(b"0" + CALL.ljust(64), np.uint8), tmp_path / "c.joblib")
    data = (tmp_path / "c.joblib").read_bytes()
    at = data.index(b"0cos")
    start = data.rindex(b"b", 0, at) + 1  # behind BUILD
    old = data[:start].replace(b"numpy_array_alignment_bytes", b"numpy_array_alignment_bytez") + data[at:]
    assert runs(old) and scan(write(tmp_path / "d.joblib", old)).verdict == "dangerous"
    # An array of objects is a pickle of its own.
    joblib.dump(np.array([os.system], dtype=object), tmp_path / "e.joblib")
    assert scan(tmp_path / "e.joblib").verdict == "dangerous"


def test_a_linked_folder_is_said_to_be_unread(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    write(tmp_path / "elsewhere" / "a.pkl", CALL)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "link").symlink_to(tmp_path / "elsewhere")
    found = scan(tmp_path / "model")
    assert found.verdict == "suspicious" and "was not read" in found.findings[0].what


LAMBDA = {"class_name": "Sequential", "config": {"layers": [{"class_name": "Lambda", "config": {}}]}}


def test_code_outside_pickles_is_found(tmp_path):
    import h5py
    import onnx

    write(tmp_path / "a.keras", zipped("config.json", json.dumps(LAMBDA).encode(), zipfile.ZIP_DEFLATED))
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file.attrs["model_config"] = json.dumps(LAMBDA)
    with h5py.File(tmp_path / "c.h5", "w") as file:
        file.attrs["optimizer"] = np.void(pickle.dumps(os.system))
    node = onnx.helper.make_node("PyOp", ["x"], ["y"], domain="com.microsoft.pyop")
    value = onnx.helper.make_tensor_value_info("x", 1, [1])
    graph = onnx.helper.make_graph([node], "g", [value], [onnx.helper.make_tensor_value_info("y", 1, [1])])
    onnx.save(onnx.helper.make_model(graph), tmp_path / "d.onnx")
    write(tmp_path / "saved_model.pb", b"\x0a\x04read\x12\x08ReadFile\x1a\x04path")
    for path in tmp_path.iterdir():
        assert scan(path).verdict == "dangerous", path
    (tmp_path / "hf").mkdir()
    write(tmp_path / "hf" / "config.json", b'{"auto_map": {"AutoModel": "modeling.Net"}}')
    assert scan(tmp_path / "hf").verdict == "suspicious"


def test_a_pickle_in_hdf5_is_found_behind_any_number_of_decoys(tmp_path):
    import h5py

    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["decoys"] = np.frombuffer(b"\x80\x02\x00\x00" * 3000, np.uint8)
        file["state"] = np.frombuffer(pickle.dumps(os.system), np.uint8)
    data = (tmp_path / "a.h5").read_bytes()
    assert data.index(b"\x80\x02\0\0") < data.index(pickle.dumps(os.system)), "they must stand before it"
    assert scan(tmp_path / "a.h5").verdict == "dangerous"


def test_a_pickle_in_hdf5_is_followed_behind_a_long_text(tmp_path):
    import h5py

    long = pickle.dumps(["a" * 100_000, os.system])
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["state"] = np.frombuffer(long, np.uint8)
    assert scan(tmp_path / "a.h5").verdict == "dangerous"


def test_what_is_packed_and_too_large_is_not_called_clean(tmp_path, monkeypatch):
    monkeypatch.setattr("llmnotes.formats.scanning.packed.MEMBER_LIMIT", 1 << 12)
    array = io.BytesIO()
    np.save(array, np.zeros(4000))
    assert scan(write(tmp_path / "a.npy.gz", gzip.compress(array.getvalue() + CALL))).verdict == "suspicious"


def test_no_alarm_for_what_has_no_code(tmp_path):
    import h5py
    import onnx

    write(tmp_path / "a.keras", zipped("config.json", json.dumps({"class_name": "Dense"}).encode()))
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file.attrs["model_config"] = json.dumps({"class_name": "Dense"})
        file["w"] = np.arange(100.0)
    node = onnx.helper.make_node("Relu", ["x"], ["y"])
    value = onnx.helper.make_tensor_value_info("x", 1, [1])
    graph = onnx.helper.make_graph([node], "g", [value], [onnx.helper.make_tensor_value_info("y", 1, [1])])
    onnx.save(onnx.helper.make_model(graph), tmp_path / "d.onnx")
    write(tmp_path / "config.json", b'{"model_type": "llama"}')
    for path in tmp_path.iterdir():
        assert (scan(path).verdict, scan(path).findings) == ("no pickle", ()), path


def test_the_command_takes_several_files_and_standard_input(tmp_path, capsys):
    good, bad = write(tmp_path / "a", pickle.dumps([1])), write(tmp_path / "b", CALL)
    assert main(["scan", str(good), str(good)]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[-1].startswith("2 of 2 clean. Looked for: pickles") and "Lambda" in out[-1]
    assert main(["scan", str(good), str(bad), "--json"]) == 1
    assert [one["verdict"] for one in json.loads(capsys.readouterr().out)] == ["safe", "dangerous"]
    run = [sys.executable, "-m", "llmnotes.cli", "scan", "-"]
    done = subprocess.run(run, input=CALL, capture_output=True, check=False)
    assert done.returncode == 1 and done.stdout.startswith(b"standard input: dangerous")


@pytest.mark.slow
def test_no_random_program_that_imports_is_called_clean():
    for number in range(1500):
        data = program(random.Random(f"test/{number}"))
        names = imported(data, pickle.Unpickler, "latin1") | imported(data, pickle._Unpickler, "ASCII")
        assert not runnable(names) or not clean(data), (number, names, data.hex())
