"""Random pickle programs, run by real unpicklers and read by the scanner: what imports must not be called clean.

    python -m tests.fuzz_pickles --seconds 60 --seed 0

CPython's unpicklers, the one in C and the one in Python, and joblib's run the programs in a process with little memory.
Nothing is imported: `find_class` notes the name and returns something that does nothing. A program for which one of
them asked for a name that is not safe, in a module that can have its name, and that the scanner calls "no pickle" or
"safe", is a failure. (Modules without a dot are Python's own here: of others, a list of words reads like a program that
imports them and breaks off.)
"""

import argparse
import importlib.util
import io
import json
import logging
import pickle
import random
import resource
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

from llmnotes.formats.scanning.names import could_exist, judge
from llmnotes.formats.scanning.search import look
from llmnotes.formats.scanning.state import Search
from llmnotes.formats.zips import SourceInMemory

NAMES = [("os", "system"), ("builtins", "eval"), ("collections", "OrderedDict"), ("my.module", "run"), ("nt", "system")]
NUMBERS = [
    b"0",
    b"1",
    b"00",
    b"01",
    b"12",
    b"-3",
    b"0x10",
    b"0b1",
    b"0o17",
    b"017",
    b"1_0",
    b" 4",
    b"+5",
    b"9" * 30,
    b"",
    b"12\0x",
    b"\0x",
    b"1\0",
    b" 1 ",
    b"0x1\0\r",
    b"0" * 70_000 + b"1",
    b" " * 70_000 + b"1",
]
SIMPLE = [bytes([code]) for code in b"NQ0(12)]}lstud\x85\x86\x87\x88\x89\x8fa\x90\x91be\x94\x97\x98o\x81\x92R"]


class Nothing:
    """What every name stands for: it can be called, filled and changed, and does nothing."""

    def __new__(cls, *_, **__):
        return object.__new__(cls)

    def __call__(self, *_, **__):
        return Nothing()

    def __setstate__(self, state): ...
    def __setitem__(self, key, value): ...
    def append(self, value): ...
    def extend(self, values): ...
    def add(self, value): ...


def program(rng: random.Random) -> bytes:
    """Return a random program: mostly sound instructions, now and then a broken byte, a frame, a second program."""
    parts = [b"\x80" + bytes([rng.randrange(6)])] if rng.random() < 0.6 else []
    for _ in range(rng.choice((2, 4, 8, 16))):
        parts.append(instruction(rng))
    parts.append(b".")
    if rng.random() < 0.15:
        parts.append(program(rng))
    data = b"".join(parts)
    if rng.random() < 0.2:
        at = rng.randrange(len(data))
        data = data[:at] + bytes([rng.randrange(256)]) + data[at + rng.randrange(2) :]
    if rng.random() < 0.1:
        at = rng.randrange(len(data))
        size = max(len(data) - at + rng.randrange(-4, 4), 0)
        data = data[:at] + b"\x95" + struct.pack("<Q", size) + data[at:]
    return data


def instruction(rng: random.Random) -> bytes:
    """Return an instruction with its argument, or a few that belong together."""
    module, name = (part.encode() for part in rng.choice(NAMES))
    line = rng.choice(NUMBERS)
    word = rng.choice((b"", b"os", b"system", b"x" * rng.choice((1, 300)), "ä".encode(), b"\xe4", module))
    kinds = [
        lambda: rng.choice(SIMPLE),
        lambda: rng.choice(SIMPLE),
        lambda: b"c" + module + b"\n" + name + b"\n",
        lambda: b"(i" + module + b"\n" + name + b"\n",
        lambda: short(module) + short(name) + b"\x93",
        lambda: b"c" + module + b"\n" + name + b"\n" + short(word) + b"\x85R",
        lambda: rng.choice((b"I", b"L", b"F", b"g", b"p")) + line + rng.choice((b"\n", b"L\n")),
        lambda: rng.choice((b"S'%s'\n", b'S"%s"\n', b"S%s\n", b"V%s\n", b"P%s\n")) % word,
        lambda: short(word),
        lambda: b"X" + struct.pack("<I", len(word)) + word,
        lambda: b"U" + bytes([len(word) & 255]) + word,
        lambda: b"T" + struct.pack("<i", rng.choice((len(word), -1))) + word,
        lambda: b"B" + struct.pack("<I", len(word)) + word,
        lambda: b"\x8d" + struct.pack("<Q", len(word)) + word,
        lambda: b"\x96" + struct.pack("<Q", len(word)) + word,
        lambda: rng.choice((b"K", b"h", b"q", b"\x82")) + bytes([rng.randrange(4)]),
        lambda: rng.choice((b"J", b"j", b"r", b"\x84")) + struct.pack("<i", rng.choice((0, 1, 2, -1))),
        lambda: b"M" + bytes(2),
        lambda: b"\x8a" + bytes([2, 1, 0]),
        lambda: b"\x8b" + struct.pack("<i", rng.choice((1, -1))) + b"\1",
        lambda: b"G" + bytes(8),
        lambda: b"\x80" + bytes([rng.randrange(7)]),
        lambda: joblib_array(rng),
        lambda: b"S'" + b"y" * 66_000 + b"'\n0" if rng.random() < 0.02 else b"N0",
    ]
    return rng.choice(kinds)()


def joblib_array(rng: random.Random) -> bytes:
    """Return an array as joblib writes it, or nearly so, and bytes for its numbers."""
    wrapper = b"cjoblib.numpy_pickle\nNumpyArrayWrapper\n"
    made = rng.choice((b")\x81", b")\x81", b")R", b"", b"}\x85R", b"q\1)\x81"))
    if rng.random() < 0.3:
        wrapper, made = b"ccopyreg\n_reconstructor\n" + wrapper, b"cbuiltins\nobject\nN\x87R"
    shape = rng.choice(
        (b"K\5\x85", b"K\0\x85", b")", b"I0x5\0\n\x85", b"\x8a\1\5\x85", b"]", b"\x88\x85", b"K\1K\5\x86")
    )
    size, flags = rng.choice((b"J\xff\xff\xff\xff" * 2, b"K\1K\1", b"K\5K\1")), rng.choice(b"\0\0\0\1\x08?")
    letters = rng.choice((b"u1", b"u1", b"f4", b"S1", b"U1", b"O8", b"V1"))
    flags = 63 if letters == b"O8" else flags  # NumPy itself crashes on objects that it takes for numbers
    dtype = b"cnumpy\ndtype\n" + short(letters) + b"\x89\x88\x87R"
    if rng.random() < 0.8:
        dtype += b"(K\3" + short(b"|") + b"NNN" + size + b"K" + bytes([flags]) + b"tb"
    fields = [short(b"shape") + shape, short(b"order") + short(b"C"), short(b"dtype") + dtype]
    fields += [short(b"subclass") + b"cnumpy\nndarray\n", short(b"allow_mmap") + b"\x89"]
    if rng.random() < 0.5:
        fields.append(short(b"numpy_array_alignment_bytes") + rng.choice((b"K\x10", b"N", b")")))
    state = b"}(" + b"".join(fields) + b"u" + rng.choice((b"b", b"b", b"b", b"N\x86b"))
    hidden = b"0" + b"cos\nsystem\n" + rng.choice((b".", b"0N."))
    taken = (b"NNNNN", b"", b"\4N000", b"0N0N0N", b"B" + struct.pack("<I", len(hidden)) + hidden)
    return wrapper + made + state + rng.choice(taken)


def short(word: bytes) -> bytes:
    return b"\x8c" + bytes([len(word) & 255]) + word


def imported(data: bytes, unpickler: type, encoding: str) -> set[tuple[str, str]]:
    """Return the names for which an unpickler asks while it reads the programs in `data`, one after the other."""
    found = set()

    class Notes(unpickler):
        def find_class(self, module, name):
            found.add((module, name))
            return Nothing

        def persistent_load(self, identifier):
            return Nothing()

    file = io.BytesIO(data)
    try:
        while True:
            Notes(file, encoding=encoding, buffers=[b"x"] * 9).load()
    except Exception:
        return found


def imported_by_joblib(data: bytes) -> set[tuple[str, str]]:
    """Return the names for which joblib asks while it reads a program, apart from those that arrays need."""
    import copyreg

    import numpy as np
    from joblib import numpy_pickle

    needed = {
        ("joblib.numpy_pickle", "NumpyArrayWrapper"): numpy_pickle.NumpyArrayWrapper,
        ("numpy", "dtype"): np.dtype,
        ("numpy", "ndarray"): np.ndarray,
        ("copyreg", "_reconstructor"): copyreg._reconstructor,  # pyright: ignore[reportAttributeAccessIssue]
        ("builtins", "object"): object,
    }
    found = set()

    class Notes(numpy_pickle.NumpyUnpickler):
        def find_class(self, module, name):
            if (module, name) in needed:
                return needed[module, name]
            found.add((module, name))
            return Nothing

    try:
        Notes("", io.BytesIO(data), False).load()
    except Exception:
        pass
    return found


def runnable(names: set[tuple[str, str]]) -> bool:
    """Return whether a name is not safe, may exist, and is of a module of Python's own or one with a dot."""
    known = [(module, name) for module, name in names if "." in module or module in sys.stdlib_module_names]
    return any(judge(*one) != "safe" for one in known if could_exist(*one))


def clean(data: bytes) -> bool:
    """Return whether the scanner calls some bytes clean."""
    search = Search(look)
    look(search, SourceInMemory(Path("a.pkl"), data), "a.pkl")
    return search.verdict in ("no pickle", "safe")


def work(seed: int, first: int, seconds: float) -> None:
    """Try programs from number `first` on; print how far it came and what failed, a line of JSON each."""
    logging.disable(logging.CRITICAL)
    resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
    signal.signal(signal.SIGALRM, lambda *_: (_ for _ in ()).throw(TimeoutError()))
    end, number = time.monotonic() + seconds, first
    while time.monotonic() < end:
        rng = random.Random(f"{seed}/{number}")
        data = program(rng)
        if number % 100 == 0:
            print(json.dumps({"number": number}), flush=True)
        signal.alarm(20)
        names = set()
        for unpickler in (pickle.Unpickler, pickle._Unpickler):
            for encoding in ("ASCII", "latin1"):
                names |= imported(data, unpickler, encoding)
        if importlib.util.find_spec("joblib"):
            names |= imported_by_joblib(data)
        if runnable(names) and clean(data):
            print(json.dumps({"number": number, "names": sorted(names), "program": data.hex()}), flush=True)
        signal.alarm(0)
        number += 1
    print(json.dumps({"number": number, "done": True}), flush=True)


def main() -> int:
    """Run workers until the time is over; a program that ends its worker is skipped and counted."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.first is not None:
        work(arguments.seed, arguments.first, arguments.seconds)
        return 0
    end, number, ended, failures = time.monotonic() + arguments.seconds, 0, 0, []
    while (left := end - time.monotonic()) > 0:
        command = [sys.executable, "-m", "tests.fuzz_pickles", "--seed", str(arguments.seed), "--first", str(number)]
        worker = subprocess.run([*command, "--seconds", f"{left:.1f}"], capture_output=True, text=True, check=False)
        said = [json.loads(line) for line in worker.stdout.splitlines()]
        failures += [one for one in said if "program" in one]
        number = max((one["number"] for one in said), default=number)
        if not any("done" in one for one in said):
            ended, number = ended + 1, number + 100
    for one in failures[:20]:
        print(one)
    print(f"{number:,} programs, {len(failures)} that import and were called clean; {ended} workers ended early")
    return int(bool(failures) or number < 100)


if __name__ == "__main__":
    sys.exit(main())
