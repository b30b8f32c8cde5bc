"""What a pickle would do is told, in every disguise, and not one of them does it."""

import io
import json
import pickle
import struct
import tarfile
import warnings
import zipfile
import zlib

import numpy as np
import pytest

from llmnotes.cli.main import main
from llmnotes.formats import scan
from llmnotes.formats.pickles import trace


def text(value: str) -> bytes:
    return b"\x8c" + bytes([len(value)]) + value.encode()


def call(module: str, name: str, args: bytes) -> bytes:
    """Return a pickle of protocol 2 that calls one function with the texts in `args`."""
    return b"\x80\x02c" + f"{module}\n{name}\n".encode() + args + b"\x85R."


def stacked(module: str, name: str, args: bytes) -> bytes:
    """Return the same in protocol 4, where the names come from the stack."""
    return b"\x80\x04" + text(module) + text(name) + b"\x93" + args + b"\x85R."


def hostile(canary) -> dict[str, bytes]:
    """Return pickles that would make the file `canary`, or run a program, by many ways."""
    command = f"touch {canary}"
    shell, code = text(command), text(f"open({str(canary)!r}, 'w')")
    line = f"S{command!r}\n".encode()
    memo = b"\x80\x04" + text("os") + b"\x94" + text("system") + b"\x94" + text("x") + b"0h\x00h\x01\x93"
    inner = call("os", "system", shell)
    return {
        "os.system": call("os", "system", shell),
        "posix": call("posix", "system", shell),
        "nt": call("nt", "system", shell),
        "popen": call("os", "popen", shell),
        "eval": call("builtins", "eval", code),
        "exec": call("builtins", "exec", code),
        "python 2": call("__builtin__", "eval", code),
        "compile": call("builtins", "compile", code),
        "import": call("builtins", "__import__", text("antigravity")),
        "open": call("builtins", "open", text(str(canary))),
        "getattr": b"\x80\x04cbuiltins\ngetattr\ncos\npath\n" + text("os") + b"\x86R" + shell + b"\x85R.",
        "subprocess": call("subprocess", "check_output", shell),
        "Popen": b"\x80\x02csubprocess\nPopen\n]" + text("touch") + b"a\x85R.",
        "commands": call("commands", "getoutput", shell),
        "runpy": call("runpy", "run_path", text(str(canary))),
        "importlib": call("importlib", "import_module", text("this")),
        "torch.hub": call("torch.hub", "load", text("a/b")),
        "torch.load": call("torch", "load", text("x.pt")),
        "torch.serialization": call("torch.serialization", "load", text("x.pt")),
        "numpy.load": call("numpy", "load", text("x.npy")),
        "f2py": call("numpy.f2py.crackfortran", "getlincoef", code),
        "runstring": call("numpy.testing._private.utils", "runstring", code),
        "pickle.loads": b"\x80\x03cpickle\nloads\nC" + bytes([len(inner)]) + inner + b"\x85R.",
        "joblib": call("joblib", "load", text("x")),
        "dill": call("dill", "loads", text("x")),
        "marshal": call("marshal", "loads", text("x")),
        "ctypes": call("ctypes", "CDLL", text("libc.so.6")),
        "pty": call("pty", "spawn", text("sh")),
        "socket": call("socket", "create_connection", text("x")),
        "urllib": call("urllib.request", "urlopen", text("http://x")),
        "webbrowser": call("webbrowser", "open", text("http://x")),
        "shutil": call("shutil", "rmtree", text("/nowhere")),
        "code": call("code", "interact", text("x")),
        "partial": b"\x80\x02cfunctools\npartial\ncos\nsystem\n" + shell + b"\x86R)R.",
        "attrgetter": call("operator", "attrgetter", text("system")),
        "pip": call("pip._internal.cli.main", "main", text("x")),
        "pydoc": call("pydoc", "pipepager", shell),
        "timeit": call("timeit", "timeit", code),
        "dotted": stacked("torch", "serialization.os.system", shell),
        "stack": stacked("os", "system", shell),
        "stack memo": memo + shell + b"\x85R.",
        "computed name": b"\x80\x04c_codecs\nencode\n" + text("os") + b"\x85R" + text("system") + b"\x93.",
        "INST": b"(" + line + b"ios\nsystem\n.",
        "OBJ": b"(cos\nsystem\n" + line + b"o.",
        "protocol 0": b"cos\nsystem\n(" + line + b"tR.",
        "NEWOBJ": b"\x80\x02cos\nsystem\n" + shell + b"\x85\x81.",
        "EXT1": b"\x80\x02\x82\x01" + shell + b"\x85R.",
        "EXT4": b"\x80\x02\x84\x01\x01\x00\x00" + shell + b"\x85R.",
        "setstate": b"\x80\x02ccollections\nOrderedDict\n)R}X\x0c\x00\x00\x00__setstate__cos\nsystem\nsb"
        + shell
        + b"b.",
        "patched class": b"\x80\x02ccollections\nOrderedDict\n}X\x06\x00\x00\x00updateNsb.",
        "no STOP": call("os", "system", shell)[:-1],
        "no STOP, protocol 0": b"cos\nsystem\n(" + line + b"tR",
        "junk behind": call("os", "system", shell) + bytes(range(256)),
        "second pickle": pickle.dumps({"a": 1}) + call("os", "system", shell),
        "unknown opcode behind": call("os", "system", shell)[:-1] + b"\xff.",
        "empty stack behind": call("os", "system", shell)[:-1] + b"000.",
        "unknown module": call("my_own_module", "run", shell),
        "long text": b"\x80\x02cos\nsystem\nX" + struct.pack("<I", 100_000) + b" " * 100_000 + b"\x85R.",
    }


def write(path, data: bytes):
    path.write_bytes(data)
    return path


def zipped(name: str, data: bytes, method=zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        archive.writestr(name, data)
    return file.getvalue()


NAMES = tuple(hostile("x"))


@pytest.mark.parametrize("name", NAMES)
def test_a_hostile_pickle_is_named_and_not_executed(tmp_path, name):
    canary = tmp_path / "canary"
    path = write(tmp_path / "model.safetensors", hostile(canary)[name])  # a name that says the wrong thing
    found = scan(path)
    expected = "suspicious" if name in ("unknown module", "EXT1", "EXT4") else "dangerous"
    assert (found.verdict, found.pickles > 0) == (expected, True), found
    assert found.findings and not canary.exists()


def test_the_canary_would_sing(tmp_path):
    canary = tmp_path / "canary"
    pickle.loads(hostile(canary)["stack memo"])
    assert canary.exists()


def disguises(bad: bytes) -> dict[str, bytes]:
    """Return one hostile pickle in archives of many kinds."""
    archive = zipped("archive/data.pkl", bad)
    directory = archive.index(b"PK\1\2")
    renamed = archive[:directory] + archive[directory:].replace(b"data.pkl", b"note.txt")
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as file:
        entry = tarfile.TarInfo("pickle")
        entry.size = len(bad)
        file.addfile(entry, io.BytesIO(bad))
    array = io.BytesIO()
    np.lib.format.write_array_header_1_0(array, {"descr": "|O", "fortran_order": False, "shape": (1,)})
    checksum = archive.replace(struct.pack("<I", zipfile.crc32(bad)), b"\1\2\3\4")
    return {
        "zip": archive,
        "deflated": zipped("archive/data.pkl", bad, zipfile.ZIP_DEFLATED),
        "harmless name": zipped("archive/README.txt", bad),
        "zero byte": archive.replace(b"archive/data.pkl", b"archive/dat.pkl\0"),
        "renamed": renamed,
        "checksum": checksum,
        "zip in zip": zipped("inner.bin", archive),
        "behind bytes": b"prefix" + archive,
        "polyglot": bad + zipped("a", b"b"),
        "tar": tar.getvalue(),
        "npy": array.getvalue() + bad,
        "npz": zipped("a.npy", array.getvalue() + bad, zipfile.ZIP_DEFLATED),
        "7z": b"7z\xbc\xaf'\x1c" + bad,
        "joblib": zlib.compress(bad),
        "cut archive": archive[:-30],
    }


@pytest.mark.parametrize("name", disguises(b"x"))
def test_a_hostile_pickle_is_found_in_every_archive(tmp_path, name):
    canary = tmp_path / "canary"
    found = scan(write(tmp_path / "weights.txt", disguises(hostile(canary)["os.system"])[name]))
    assert found.verdict == ("suspicious" if name == "7z" else "dangerous"), found
    assert not canary.exists()


def test_a_folder_is_searched_whole(tmp_path):
    (tmp_path / "model" / "deep").mkdir(parents=True)
    write(tmp_path / "model" / "config.json", b'{"model_type": "llama"}')
    assert scan(tmp_path / "model").verdict == "no pickle"
    write(tmp_path / "model" / "deep" / "merges.txt", hostile(tmp_path / "canary")["os.system"])
    found = scan(tmp_path / "model")
    assert found.verdict == "dangerous" and found.findings[0].where == "deep/merges.txt"


def test_texts_are_no_pickles(tmp_path):
    for number, data in enumerate(
        [b"cat\ndog\nbuild\n", b"I have\n", b"(c) 2024\n", b"collections\nof words\n", b"", b"N"]
    ):
        assert scan(write(tmp_path / f"{number}.txt", data)).verdict == "no pickle", data


def test_no_false_alarm_on_what_torch_writes(tmp_path):
    import torch

    kinds = "float64 float32 float16 bfloat16 int64 int32 int16 int8 uint8 uint16 uint32 uint64 bool complex64 "
    kinds += "complex128 float8_e4m3fn float8_e5m2"
    states = {kind: torch.zeros(300, dtype=getattr(torch, kind)) for kind in kinds.split()}
    torch.save(states, tmp_path / "kinds.pt")
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.ReLU())
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 64)).sum().backward()
    optimizer.step()
    both = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 3}
    torch.save(both, tmp_path / "both.ckpt")
    torch.save(both, tmp_path / "old.ckpt", _use_new_zipfile_serialization=False)
    torch.save({"p": torch.nn.Parameter(torch.ones(2)), "s": torch.Size([1, 2])}, tmp_path / "parameter.pt")
    np.savez(tmp_path / "a.npz", a=np.arange(5), o=np.array([None, "x"], dtype=object))
    for path in sorted(tmp_path.iterdir()):
        if path.is_file():
            assert (scan(path).verdict, scan(path).findings) == ("safe", ()), path


def test_no_false_alarm_on_pebble_and_torchscript(tmp_path):
    import torch
    from safetensors.torch import load_file

    from llmnotes.pebble import weights_dir

    torch.save(load_file(weights_dir("pebble") / "model.safetensors"), tmp_path / "pytorch_model.bin")
    assert scan(tmp_path / "pytorch_model.bin").verdict == "safe"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch calls TorchScript deprecated
        torch.jit.script(torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.ReLU())).save(tmp_path / "script.pt")
    assert scan(tmp_path / "script.pt").verdict == "safe"


@pytest.mark.slow
def test_a_pickle_that_grows_or_nests_without_end_costs_little():
    bomb = b"\x80\x02]q\0" + b"(h\0h\0h\0lq\0" * 60 + b"."
    assert trace(io.BytesIO(bomb)).broken is None
    deep = trace(io.BytesIO(b"\x80\x02)" + b"\x85" * 500_000 + b"."))
    assert deep.broken is None and deep.steps == 500_003
    assert "instructions" in trace(io.BytesIO(b"\x80\x02" + b"N0" * 600_000 + b"N.")).broken
    assert trace(io.BytesIO(b"\x80\x04\x8d" + b"\xff" * 7 + b"\x0f" + b"x.")).broken


@pytest.mark.slow
@pytest.mark.parametrize("start", [b"\x80\x02", b""], ids=["signed", "protocol 0"])
def test_a_pickle_that_is_too_long_to_be_read_is_not_called_harmless(tmp_path, start):
    path = write(tmp_path / "model.pkl", start + b"N0" * 1_100_000 + b"cos\nsystem\n(S'exit'\ntR.")
    assert scan(path).verdict == "suspicious"


def test_the_command_says_no_with_its_exit_status(tmp_path, capsys):
    path = write(tmp_path / "a.bin", hostile(tmp_path / "canary")["os.system"])
    assert main(["scan", str(path), "--json"]) == 1
    answer = json.loads(capsys.readouterr().out)
    assert answer["verdict"] == "dangerous" and "os.system" in answer["findings"][0]["what"]
    assert main(["scan", str(write(tmp_path / "b.bin", pickle.dumps([1])))]) == 0
    assert main(["scan", str(tmp_path / "c.bin")]) == 2


@pytest.mark.parametrize("size", [b"00000000089", b"0000000000x", b"77777777777"])
def test_a_tar_whose_sizes_are_none_is_suspicious(tmp_path, size):
    entry = tarfile.TarInfo("pickle").tobuf(tarfile.USTAR_FORMAT)
    header = entry[:124] + size + b"\0" + entry[136:148] + b" " * 8 + entry[156:]
    header = header[:148] + b"%06o\0 " % sum(header) + header[156:]
    (tmp_path / "a").write_bytes(header + bytes(1024))
    found = scan(tmp_path / "a")
    assert found.verdict == "suspicious" and "cannot be read beyond 'pickle'" in found.findings[0].what
