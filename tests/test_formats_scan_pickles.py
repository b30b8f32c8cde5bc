"""What a loader of pickles executes is never called clean, and what only reads like a pickle is no alarm.

`RUN` has a program for each way in which a scanner can lose its place; where CPython's unpicklers read it, the test
asks them first, and nothing is imported.
"""

import bz2
import collections
import gzip
import io
import lzma
import os
import pickle
import random
import struct
import tarfile
import types
import uuid
import zlib

import numpy as np
import pytest

from llmnotes.formats import inspect, scan
from llmnotes.formats.pickles import PickleStream, trace
from llmnotes.formats.pickles.numbers import LIMIT
from llmnotes.formats.zips import SourceInMemory

from .test_formats_scan import text, write
from .test_formats_scan_readers import CALL, checked, frame, npy, runs

MEMO = b"S'collections'\np0\n0S'os'\np1\n0g"  # behind it stands a place in the memo: 1 is os
SYSTEM = b"\nS'system'\n\x93(S'exit'\ntR."

RUN = {
    "a zero byte in INT": b"I12\0anything\n0" + CALL,
    "a zero byte alone in INT": b"I\0anything\n0" + CALL,
    "a zero byte in LONG": b"L12\0anything\n0" + CALL,
    "a zero byte in FLOAT": b"F1.0\0anything\n0" + CALL,
    "a zero byte and a long rest": b"F1.0\0" + b"x" * 2 * LIMIT + b"\n0" + CALL,
    "a zero byte in GET": MEMO + b"1\0anything" + SYSTEM,
    "a zero byte in PUT": b"S'os'\np7\0anything\n0g7" + SYSTEM,
    "spaces around INT": b"I \t\v\f\r12 \t\n0" + CALL,
    "spaces before GET": MEMO + b" " * 70_000 + b"1" + SYSTEM,
    "long hexadecimal": b"I0x" + b"0" * 70_000 + b"1\n0" + CALL,
    "long octal": b"I0o" + b"0" * 70_000 + b"1\n0" + CALL,
    "long LONG": b"L0x" + b"0" * 70_000 + b"1L\n0" + CALL,
    "long FLOAT": b"F1." + b"0" * 70_000 + b"\n0" + CALL,
}


@pytest.mark.parametrize("name", RUN)
def test_number_lines_are_read_as_cpython_reads_them(tmp_path, name):
    assert runs(RUN[name], "latin1"), "CPython doesn't run it: the test tests nothing"
    found = scan(write(tmp_path / "a.pkl", RUN[name]))
    assert found.verdict == "dangerous" and "os.system" in found.findings[0].what, found


def test_decimal_digits_that_only_older_pythons_turn_into_a_number_are_followed(tmp_path):
    assert scan(write(tmp_path / "a.pkl", b"I1" + b"0" * 5000 + b"\n0" + CALL)).verdict == "dangerous"
    assert scan(write(tmp_path / "b.pkl", MEMO + b"1" * 5000 + SYSTEM)).verdict == "suspicious"


def test_a_number_without_end_counts_as_unread(tmp_path):
    for number in (b"I0x" + b"0" * LIMIT, b"I" + b" " * LIMIT, b"L0o" + b"0" * LIMIT, b"F1." + b"0" * LIMIT):
        found = scan(write(tmp_path / "a", number + b"1\n0" + CALL))
        assert found.verdict == "suspicious" and "more than 1,048,576 characters" in found.findings[0].what
        assert scan(write(tmp_path / "b", b"\x80\x02N." + number + b"1\n0" + CALL)).verdict == "suspicious"


@pytest.mark.parametrize("first", [b"I am ", b"Long ago ", b"Far away ", b"get ", b"please "])
def test_a_text_of_one_long_line_is_no_number(tmp_path, first):
    assert scan(write(tmp_path / "a.txt", first + b"there lived a king " * 100_000 + b"\n")).verdict == "no pickle"
    assert scan(write(tmp_path / "b.txt", first[:1] + b"x" * 2 * LIMIT)).verdict == "no pickle"


def test_lines_are_read_across_what_is_read_ahead(tmp_path):
    value = ["a" * length for length in (0, 1, 65_535, 65_536, 131_071, 131_072, 131_073)]
    found = scan(write(tmp_path / "a.pkl", pickle.dumps([value, 2**4000, 1.5, value], 0)))
    assert (found.verdict, found.findings) == ("safe", ())
    stream = PickleStream(SourceInMemory(tmp_path, b"ab\ncd" + b"e" * 200_000))
    assert (stream.readline(2), stream.readline(9), stream.readline(4)) == (b"ab", b"\n", b"cdee")


def test_a_name_that_is_no_text_is_refused_as_unpicklers_refuse_it():
    assert trace(io.BytesIO(b"\x80\x04]]\x93.")).broken == "breaks off (a name is no text)"


# joblib takes `taken` bytes out of the pickle; to a reader that takes none, they are a string with what follows in it.
WRAPPER = b"cjoblib.numpy_pickle\nNumpyArrayWrapper\n"
PLAIN = WRAPPER + b")\x81"
EVIL = b"0" + CALL
TAKEN = b"B" + struct.pack("<I", len(EVIL)) + EVIL + b"."  # 5 bytes, and the instructions that joblib then executes
NUMBER = b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0"  # the state of a dtype behind its byte order


def dtype(letters: str = "u1", state: bytes = NUMBER) -> bytes:
    return b"cnumpy\ndtype\n(" + text(letters) + b"\x89\x88tR(K\x03" + text("|") + state + b"tb"


def array(wrapper=PLAIN, shape=b"K\x05\x85", kind=None, more=b"", behind=TAKEN) -> bytes:
    """Return an array of joblib's in a pickle, and what stands behind it."""
    state = text("shape") + shape + text("order") + text("C") + text("dtype") + (kind or dtype()) + more
    return b"\x80\x04" + wrapper + b"}(" + text("subclass") + b"cnumpy\nndarray\n" + state + b"ub" + behind


def made(base: bytes) -> bytes:
    return b"ccopyreg\n_reconstructor\n" + WRAPPER + base + b"N\x87R"


OBJECT = b"cbuiltins\nobject\n"
CHANGED = b"ctorch.storage\nTypedStorage\n"
LOST = {
    "made by copyreg": (array(made(OBJECT)), "dangerous"),
    "a long number in its shape": (
        array(shape=b"\x8b" + struct.pack("<i", 70_000) + b"\5" + bytes(69_999) + b"\x85"),
        "suspicious",
    ),
    "a number of joblib's own": (array(shape=text("5") + b"\x85"), "suspicious"),
    "a list": (array(shape=b"]K\x05a"), "suspicious"),
    "a key that is computed": (
        array(shape=b"K\0\x85", more=b"cbuiltins\nstr\nC\x05shape" + text("ascii") + b"\x86RK\x05\x85"),
        "suspicious",
    ),
    "made by its class": (
        b"\x80\x04" + WRAPPER + b"(cnumpy\nndarray\nK\x05\x85" + text("C") + dtype() + b"tR}b" + TAKEN,
        "suspicious",
    ),
    "made by torch": (
        array(b"ctorch._tensor\n_rebuild_from_type_v2\n(" + WRAPPER + WRAPPER + b"(NNNNt}tR"),
        "suspicious",
    ),
    "another object that becomes one": (
        b"\x80\x04ccopyreg\n_reconstructor\n" + CHANGED + OBJECT + b"N\x87RN}(" + text("__class__") + WRAPPER
        + text("shape") + b"K\x05\x85" + text("dtype") + dtype() + b"u\x86b" + TAKEN,
        "suspicious",
    ),  # fmt: skip
    "longer elements": (array(shape=b"K\x01\x85", kind=dtype("V1", b"NNNK\x05K\x01K\0")), "suspicious"),
    "longer texts": (array(shape=b"K\x01\x85", kind=dtype("S1", b"NNNK\x05K\x01K\0")), "suspicious"),
    "numbers that are objects": (
        array(kind=dtype("u1", NUMBER[:-1] + b"\1"), behind=b"\x80\x04" + CALL),
        "suspicious",
    ),
    "an alignment that is computed": (
        array(more=text("numpy_array_alignment_bytes") + b"cbuiltins\nint\n)R", behind=b"\4" + TAKEN),
        "suspicious",
    ),
    "inside a frame": (
        b"\x80\x04" + frame(array(behind=b"B\x05\0\0\0")[2:]) + b"NNNNN" + b"\x8c\x020." + b"0N." + CALL,
        "suspicious",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LOST)
def test_bytes_that_joblib_takes_out_are_taken_out_or_unread(tmp_path, name):
    program, verdict = LOST[name]
    found = scan(write(tmp_path / "a.joblib", program))
    assert found.verdict == verdict or (found.verdict, verdict) == ("dangerous", "suspicious"), found


def test_pickles_in_the_numbers_of_an_array_are_read_for_loaders_without_joblib(tmp_path):
    hidden = b"0N." + CALL
    program = array(shape=b"K" + bytes([len(hidden)]) + b"\x85", behind=hidden + b"0N.")
    file = io.BytesIO(program.replace(b"joblib.numpy_pickle\nNumpyArrayWrapper", b"collections\nOrderedDict"))
    pickle.load(file)
    assert file.read().startswith(CALL)
    assert scan(write(tmp_path / "a.joblib", program)).verdict == "dangerous"


ARRAYS = {
    "texts": np.array(["a", "bcd"]),
    "bytes": np.array([b"x", b"yz"]),
    "dates": np.array([1, 2], "M8[ns]"),
    "records": np.zeros(3, [("a", "f4"), ("b", "U2")]),
    "objects": np.array([None, "x"], object),
    "records with objects": np.array([(1, None)], [("a", "f4"), ("b", "O")]),
    "no side": np.array(3.0),
    "empty": np.zeros((0, 3)),
    "matrix": np.ones((1, 1)).view(np.matrix),
    "Fortran": np.ones((2, 3), order="F"),
    "big-endian": np.arange(3, dtype=">i4"),
    "many": [np.arange(3), {"a": np.array(["x"]), "b": np.float32(3)}, np.arange(3)],
}


@pytest.mark.parametrize("name", ARRAYS)
def test_what_joblib_writes_is_clean(tmp_path, name):
    joblib = pytest.importorskip("joblib")
    joblib.dump(ARRAYS[name], tmp_path / "a.joblib")
    joblib.dump(ARRAYS[name], tmp_path / "b.joblib", compress=("lzma", 3))
    for path in sorted(tmp_path.iterdir()):
        assert (scan(path).verdict, scan(path).findings) == ("safe", ()), path
    if "objects" not in name:  # in protocol 0, a reader without joblib mistakes the memo of the inner pickle
        joblib.dump(ARRAYS[name], tmp_path / "c.joblib", protocol=0)
        assert scan(tmp_path / "c.joblib").verdict == "safe"


def test_files_of_joblib_0_9_are_opened(tmp_path):
    old = b"\x80\x02cjoblib.numpy_pickle\nNDArrayWrapper\n)\x81}(U\x08filenameU\x0ba.pkl_01.npyub."
    for body, verdict in ((old, "suspicious"), (CALL, "dangerous"), (pickle.dumps([1]), "safe")):
        for space in (b"", b" "):
            packed = b"ZF" + hex(len(body)).ljust(19).encode() + space + zlib.compress(body)
            assert scan(write(tmp_path / "a.pkl", packed)).verdict == verdict
    assert scan(write(tmp_path / "b.pkl", old)).verdict == "suspicious"
    assert scan(write(tmp_path / "c.pkl", b"ZF0x18")).verdict == "no pickle"
    assert scan(write(tmp_path / "zfs.txt", b"ZFS is a file system, and no pickle\n")).verdict == "no pickle"


@pytest.mark.parametrize("behind", [CALL, b"\x80\x04" + frame(CALL)], ids=["plain", "framed"])
def test_a_pickle_behind_a_frame_is_read(tmp_path, behind):
    program = b"\x80\x04" + frame(b"N.\xff\xff") + behind
    file = io.BytesIO(program)
    assert pickle.load(file) is None and file.tell() == len(program) - len(behind)
    found = scan(write(tmp_path / "a.pkl", program))
    assert found.verdict == "dangerous" and "STOP stands before its frame's end" in found.findings[0].what
    # The same unpickler in C goes on inside the frame.
    assert scan(write(tmp_path / "b.pkl", b"\x80\x04" + frame(b"N." + CALL) + b"N.")).verdict == "dangerous"
    assert scan(write(tmp_path / "c.pkl", b"\x80\x04" + frame(b"N.\xff\xff") + b"N.")).verdict == "suspicious"


def test_frames_behind_frames_come_to_an_end(tmp_path):
    found = scan(write(tmp_path / "a.pkl", (b"\x80\x04" + frame(b"N.N") + b"N.") * 1100))
    assert found.verdict == "suspicious" and len(found.findings) > 1


def member(name: str, body: bytes, kind: bytes = tarfile.REGTYPE) -> bytes:
    entry = tarfile.TarInfo(name)
    entry.size, entry.type = len(body), kind
    return entry.tobuf(tarfile.USTAR_FORMAT) + body + bytes(-len(body) % 512)


def by_pytorch(storages=None, tensors=None, value=CALL, kind: bytes = tarfile.REGTYPE) -> bytes:
    """Return a tar as PyTorch 0.1 wrote it, by default without a tensor."""
    none = pickle.dumps(0, 2)
    members = {"storages": storages or none + pickle.dumps([], 2), "tensors": tensors or none, "pickle": value}
    return b"".join(member(name, body, kind) for name, body in members.items()) + bytes(1024)


def renamed(archive: bytes, name: bytes) -> bytes:
    return checked(name.ljust(100, b"\0") + archive[100:512], signed=False) + archive[512:]


def test_a_tar_that_is_something_else_as_well_is_looked_at_as_both(tmp_path):
    empty = member("x", b"")
    torchs = by_pytorch()
    header = b"{'descr':'<u1','fortran_order':False,'shape':(%d,)}"
    size = 10 + len(header % 10_000)
    header = header % (len(empty + torchs) - size)
    cases = {
        "pickle": renamed(empty, CALL),
        "array": renamed(empty, b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header) + torchs,
        "zlib": renamed(empty, b"x\x9c") + torchs,
    }
    assert runs(cases["pickle"])
    assert np.load(io.BytesIO(cases["array"])).size == len(cases["array"]) - size
    for case, data in cases.items():
        assert scan(write(tmp_path / "a", data)).verdict == "dangerous", case
    assert scan(write(tmp_path / "b.tar", member("collections.txt", b"of words") + bytes(1024))).verdict == "no pickle"


def test_a_member_of_an_unknown_type_is_a_file(tmp_path):
    data = by_pytorch(kind=b"Z")
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        assert archive.extractfile("pickle").read() == CALL
    assert scan(write(tmp_path / "a.pt", data)).verdict == "dangerous"
    assert scan(write(tmp_path / "c.pt", data[:2570])).verdict == "suspicious"  # cut in the last member
    assert scan(write(tmp_path / "d.pt", data[:2590])).verdict == "dangerous"  # and behind it
    link = tarfile.TarInfo("pickle")
    link.type, link.linkname = tarfile.SYMTYPE, "elsewhere"
    data = member("storages", b"") + link.tobuf() + bytes(1024)
    assert scan(write(tmp_path / "b.pt", data)).verdict == "suspicious"


def test_pickles_behind_the_numbers_of_pytorch_0_1_are_read(tmp_path):
    one = pickle.dumps(1, 2)
    storage = pickle.dumps((7, "cpu", None), 2).replace(b"N", b"ctorch\nFloatStorage\n")
    numbers = struct.pack("<q4f", 4, 1, 2, 3, 4)
    tensor = pickle.dumps((8, 7, None), 2) + struct.pack("<i4xqqq", 1, 4, 1, 0)
    none, end = pickle.dumps([1], 2), pickle.dumps([], 2)
    two = pickle.dumps(2, 2)
    cases = {
        "dangerous": [(one + storage + numbers + CALL, None), (None, two + tensor + CALL)],
        "suspicious": [(one + storage + numbers, None), (one + none + numbers + end, None), (None, two + tensor)]
        + [(one + storage + struct.pack("<q", 10**9), None), (b"(", None), (pickle.dumps("a"), None)],
        "safe": [(one + storage + numbers + end, one + tensor)],
    }
    for verdict, files in cases.items():
        for storages, tensors in files:
            assert scan(write(tmp_path / "a.pt", by_pytorch(storages, tensors, none))).verdict == verdict


NUMBERS = npy("{'descr': '<u1', 'fortran_order': False, 'shape': (4,), }", b"abcd")
OBJECTS = npy("{'descr': '|O', 'fortran_order': False, 'shape': (1,), }", CALL)


@pytest.mark.parametrize("first", [NUMBERS, NUMBERS * 2, b"\x80\x02N.", OBJECTS.replace(CALL, b"\x80\x02].")])
def test_what_stands_behind_an_array_is_read(tmp_path, first):
    assert scan(write(tmp_path / "a.npy", first + OBJECTS)).verdict == "dangerous"
    assert scan(write(tmp_path / "b.npy", first + CALL)).verdict == "dangerous"
    assert scan(write(tmp_path / "c.npy", first + NUMBERS)).verdict in ("no pickle", "safe")
    unread = b"I0x" + b"0" * LIMIT + b"\n0" + CALL
    assert scan(write(tmp_path / "d.npy", first + unread)).verdict == "suspicious"


DESCRIPTIONS = ["'O8'", "'|O'", "'object_'", "('O', (2,))", "[('a', [('b', 'O')])]", "[('a', 'O', (2,))]"]
DESCRIPTIONS += ["(('O', (1,)), (2,))", "[('', 'O')]", "[('a', '<i4'), ('b', ('O', (3,)))]", "[(('t', 'a'), 'O')]"]


@pytest.mark.parametrize("version", [1, 2, 3])
@pytest.mark.parametrize("descr", DESCRIPTIONS)
def test_numpy_says_what_holds_objects(tmp_path, descr, version):
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': (24,), }}\n".encode()
    head = b"\x93NUMPY" + bytes([version, 0]) + struct.pack("<H" if version == 1 else "<I", len(header)) + header
    found = scan(write(tmp_path / "a.npy", head + CALL))
    assert found.verdict == "dangerous" and all("plain" not in finding.what for finding in found.findings)


def test_a_header_of_python_2_is_read(tmp_path):
    header = "{'descr': '<f4', 'fortran_order': False, 'shape': (2L, 3L), }"
    write(tmp_path / "a.npy", npy(header, bytes(24)))
    with pytest.warns(UserWarning, match="Python 2"):
        assert np.load(tmp_path / "a.npy").shape == (2, 3)
    assert inspect(tmp_path / "a.npy").tensors[0].shape == (2, 3)
    assert scan(tmp_path / "a.npy").verdict == "no pickle"
    assert scan(write(tmp_path / "b.npy", npy(header.replace("<f4", "|O"), CALL))).verdict == "dangerous"


def alone(size: int) -> bytes:
    return lzma.compress(CALL, lzma.FORMAT_ALONE, filters=[{"id": lzma.FILTER_LZMA1, "dict_size": size}])


@pytest.mark.parametrize("size", [4096, 6144, 1 << 16, 3 << 19, 1 << 23, 1 << 28])
def test_lzma_with_any_dictionary_is_unpacked_or_unread(tmp_path, size):
    assert lzma.decompress(alone(size)) == CALL
    assert scan(write(tmp_path / "a", alone(size))).verdict == ("dangerous" if size < 1 << 28 else "suspicious")


@pytest.mark.parametrize("size", [0, 1, 2, 3, 0x100, 0x300, 0xFFFF_FFFF])
def test_lzma_that_states_an_odd_dictionary_is_unpacked_or_unread(tmp_path, size):
    packed = b"]" + struct.pack("<I", size) + alone(4096)[5:]
    assert scan(write(tmp_path / "a", packed)).verdict == ("dangerous" if size < 1 << 28 else "suspicious")
    if size < 1 << 28:
        assert lzma.decompress(packed) == CALL


def test_a_name_says_how_a_file_without_a_sign_is_packed(tmp_path):
    packed = lzma.compress(CALL, lzma.FORMAT_ALONE, filters=[{"id": lzma.FILTER_LZMA1, "lc": 0, "lp": 2, "pb": 1}])
    assert packed[0] != 0x5D
    found = scan(write(tmp_path / "a.pkl.lzma", packed))
    assert (found.verdict, found.findings[0].where) == ("dangerous", "a.pkl.lzma:a.pkl")
    assert scan(write(tmp_path / "b.lzma", lzma.compress(pickle.dumps(1), lzma.FORMAT_ALONE))).findings == ()
    assert scan(write(tmp_path / "c.lzma", b"no such thing")).verdict == "suspicious"


def test_every_packed_member_is_unpacked(tmp_path):
    rng = random.Random(0)
    for pack, zeros in ((gzip.compress, b""), (gzip.compress, bytes(700)), (bz2.compress, b""), (lzma.compress, b"")):
        for size in (10, 65_400 - len(zeros)):
            first = pack(pickle.dumps(rng.randbytes(size))) + zeros
            assert scan(write(tmp_path / "a", first + pack(CALL))).verdict == "dangerous"
            assert scan(write(tmp_path / "b", first + pack(pickle.dumps(1)))).verdict == "safe"
            assert scan(write(tmp_path / "c", first + b"something else")).verdict == "suspicious"
    # One that ends where a piece of 65,536 bytes does.
    packed = gzip.compress(pickle.dumps(rng.randbytes(65_536 - 60)), 0)
    packed = packed[:10].replace(b"\0", b"\0") + packed[10:]
    flags = bytearray(packed)
    flags[3] |= 16  # a comment fills it up
    filled = bytes(flags[:10]) + b"c" * (65_536 - len(packed) - 1) + b"\0" + bytes(flags[10:])
    assert len(filled) == 65_536 and gzip.decompress(filled)
    assert scan(write(tmp_path / "d", filled + gzip.compress(CALL))).verdict == "dangerous"


def test_what_is_unpacked_before_an_error_is_read(tmp_path):
    for pack in (zlib.compress, gzip.compress, lambda data: lzma.compress(data, lzma.FORMAT_ALONE)):
        packed = pack(CALL + random.Random(0).randbytes(3000))
        assert scan(write(tmp_path / "a", packed[:2500] + b"\xff" * 500)).verdict == "dangerous"


@pytest.mark.parametrize(
    "start", [b"(\xb5/\xfd", b"P*M\x18", b'\4"M\x18', b"Rar!", b"LZIP\1", b"\x89LZO", b"]\0\0\0\1"]
)
def test_what_nothing_here_unpacks_is_not_called_clean(tmp_path, start):
    assert scan(write(tmp_path / "a", start + b"\xff" * 30)).verdict == "suspicious"


def test_a_folder_that_cannot_be_listed_is_said_to_be_unread(tmp_path, monkeypatch):
    (tmp_path / "model" / "closed").mkdir(parents=True)
    listed = os.scandir

    def scandir(path):
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(path))
        return listed(path)

    monkeypatch.setattr(os, "scandir", scandir)
    found = scan(tmp_path / "model")
    assert found.verdict == "suspicious"
    assert found.findings[0].where == "closed" and "could not be listed" in found.findings[0].what


TEXTS = {
    "C": b"int main() {\n return 0;\n}\n",
    "words": b"cos\nsin\ntan\n",
    "more words": b"cast\niron\n",
    "copyright": b"copy\nright\n(c)\n",
    "JavaScript": b"const { a } = require('a')\nconst b = []\n}]N]]]\n",
    "algebra": b"x^2 + y^2 = z^2\nx^3\n" * 10,
    "numbers": b"I" + b"123456 " * 200_000,
    "hexadecimal": b"F00DBEEF" * 20_000 + b"\n",
}


@pytest.mark.parametrize("name", TEXTS)
def test_texts_that_read_like_a_pickle_are_none(tmp_path, name):
    found = scan(write(tmp_path / "a.txt", TEXTS[name]))
    assert (found.verdict, found.findings) == ("no pickle", ())


def test_values_that_do_nothing_are_not_called_dangerous(tmp_path):
    for value in (uuid.UUID(int=5), types.SimpleNamespace(a=1)):
        assert scan(write(tmp_path / "a.pkl", pickle.dumps(value))).verdict == "suspicious"
    assert scan(write(tmp_path / "a.pkl", b"\x80\x02cuuid\n_get_command_stdout\n.")).verdict == "dangerous"
    assert scan(write(tmp_path / "a.pkl", b"\x80\x02ctypes\nCodeType\n.")).verdict == "dangerous"
    assert scan(write(tmp_path / "a.pkl", pickle.dumps(collections.Counter("abc")))).verdict == "safe"


def test_what_torch_allows_with_weights_only_is_safe():
    from torch._weights_only_unpickler import _get_allowed_globals

    from llmnotes.formats.scanning.names import judge

    names = [name.rpartition(".") for name in _get_allowed_globals()]
    assert [name for module, _, name in names if judge(module, name) != "safe"] == []


def test_decoys_in_hdf5_cost_a_limited_number_of_steps(tmp_path, monkeypatch):
    taken = []

    def counted(*args):
        taken.append(trace(*args))
        return taken[-1]

    monkeypatch.setattr("llmnotes.formats.scanning.embedded.trace", counted)
    monkeypatch.setattr("llmnotes.formats.scanning.embedded.BEYOND", 10_000)
    data = b"\x89HDF\r\n\x1a\n" + b"cos\nx\n" * 20_000
    assert scan(write(tmp_path / "a.h5", data)).verdict == "suspicious"
    assert sum(pickle.steps for pickle in taken) < 50_000
