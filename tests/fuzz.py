"""Throw broken and hostile files at every reader, and hold each answer against what was promised.

    make fuzz                                     20,000 files
    python -m tests.fuzz --count 500 --seed 7     others

Each file is read in a process with a limit on memory. It is a failure when anything but one of our errors comes out,
when the sentence is no sentence, when a file costs more than 2 seconds or 300 MB, when code of the file runs, and when
a conversion that fails leaves something behind.
"""

import argparse
import gzip
import io
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

from llmnotes.errors import LLMNotesError

SECONDS, MEMORY = 2.0, 300_000_000
LENGTHS = (0, 1, 7, 255, 2**16, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**60, 2**63 - 1, 2**63, 2**64 - 1)


def mutate(rng: random.Random, data: bytes, other: bytes) -> bytes:
    """Return `data` after one to four changes of the kinds that damage, transport and malice make."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        size = len(out)
        if not size:
            return bytes(out)
        # headers stand at the beginning, a zip's directory at the end
        at = rng.choice((rng.randrange(size), rng.randrange(min(size, 64)), max(0, size - 1 - rng.randrange(512))))
        at = min(at, rng.randrange(size)) if rng.random() < 0.2 else at
        kind = rng.randrange(9)
        if kind == 0:
            out[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            out[at] = rng.randrange(256)
        elif kind == 2:
            del out[at:]
        elif kind == 3:  # a length that lies
            width = rng.choice((4, 8))
            value = rng.choice(LENGTHS) % (1 << 8 * width)
            out[at : at + width] = value.to_bytes(width, rng.choice(("little", "big")))
        elif kind == 4:
            del out[at : at + rng.randrange(1, 65)]
        elif kind == 5:
            out[at:at] = rng.randbytes(rng.randrange(1, 65))
        elif kind == 6:  # something stands twice
            length = rng.randrange(1, 257)
            out[at:at] = out[at : at + length]
        elif kind == 7:  # the beginning of one format, the end of another
            out[at:] = other[min(at, len(other)) :]
        else:  # a number in text that lies
            text = bytes(out)
            digits = [i for i in range(max(0, at - 200), min(size, at + 200)) if text[i : i + 1].isdigit()]
            if digits:
                place = rng.choice(digits)
                out[place : place + 1] = str(rng.choice(LENGTHS)).encode()
    return bytes(out)


def bombs(folder: Path) -> None:
    """Write into `folder` the files that no accident makes."""
    (folder / "empty").write_bytes(b"")
    (folder / "folder").mkdir()
    (folder / "dangling").symlink_to(folder / "nowhere")
    (folder / "loop").symlink_to(folder / "loop")
    os.mkfifo(folder / "fifo")
    (folder / "text.gguf").write_text("no model at all\n" * 100)
    (folder / "huge-header").write_bytes((2**60).to_bytes(8, "little") + b'{"a":{}}')
    (folder / "deep-json").write_bytes((200_000).to_bytes(8, "little") + b'{"a":' * 40_000)
    many = b'{"__metadata__":{},' + b",".join(b'"%d":{}' % i for i in range(200_000)) + b"}"
    (folder / "many-entries").write_bytes(len(many).to_bytes(8, "little") + many)
    digits = b'{"a":{"dtype":"F32","shape":[' + b"9" * 100_000 + b'],"data_offsets":[0,4]}}'
    (folder / "long-number").write_bytes(len(digits).to_bytes(8, "little") + digits)
    sides = b",".join([b"9223372036854775807"] * 50_000)
    wide = b'{"a":{"dtype":"F32","shape":[' + sides + b'],"data_offsets":[0,4]}}'
    (folder / "many-sides").write_bytes(len(wide).to_bytes(8, "little") + wide)
    twice = b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}'
    (folder / "duplicate").write_bytes(len(twice).to_bytes(8, "little") + twice + b"x")
    for entries in ([(0, 4), (2, 6)], [(4, 8), (8, 12)], [(0, 2**60), (2**60, 2**60)]):
        rows = {f"t{i}": {"dtype": "U8", "shape": [b - a], "data_offsets": [a, b]} for i, (a, b) in enumerate(entries)}
        text = json.dumps(rows).encode()
        name = "offsets-" + "-".join(str(a) for a, _ in entries)
        (folder / name).write_bytes(len(text).to_bytes(8, "little") + text + bytes(16))
    for name, magic in (("gguf", b"GGUF"), ("lmgg", b"lmgg"), ("fmgg", b"fmgg"), ("tjgg", b"tjgg"), ("algg", b"algg")):
        for value in LENGTHS:
            counts = (value.to_bytes(8, "little")) * 4
            (folder / f"{name}-{value}").write_bytes(magic + (3).to_bytes(4, "little") + counts)
    with zipfile.ZipFile(folder / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        for i in range(20):
            archive.writestr(f"archive/data/{i}", bytes(20_000_000))
        archive.writestr("archive/data.pkl", b"\x80\x02}q\x00." + bytes(100_000_000))
        archive.writestr("archive/version", "3\n")
    inner = (folder / "bomb.pt").read_bytes()
    for _ in range(12):  # an archive in an archive in an archive
        outer = io.BytesIO()
        with zipfile.ZipFile(outer, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("archive/data.pkl", b"\x80\x02}q\x00.")
            archive.writestr("inner.zip", inner)
        inner = outer.getvalue()
    (folder / "nested.zip").write_bytes(inner)
    with zipfile.ZipFile(folder / "npz-bomb", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", b"\x93NUMPY\x01\x00v\x00{'descr': '<f4', 'fortran_order': False, 'shape': (9,), }")
        archive.writestr("b.npy", bytes(400_000_000))
    with zipfile.ZipFile(folder / "many-files", "w") as archive:
        for i in range(30_000):
            archive.writestr(f"archive/{i}", b"")
        archive.writestr("archive/data.pkl", b"\x80\x02}.")
    (folder / "gzip").write_bytes(gzip.compress(bytes(100_000_000)))
    lines = b"\x80\x04" + b"]" + b"".join(b"\x94" + b"(h\x00" + b"h\x00" * 10 + b"e" for _ in range(2000)) + b"."
    (folder / "laughs.pkl").write_bytes(lines)
    (folder / "deep.pkl").write_bytes(b"\x80\x04" + b"]" * 200_000 + b"a" * 199_999 + b".")
    (folder / "memo.pkl").write_bytes(b"\x80\x02Nr\xff\xff\xff\xff.")  # a C unpickler makes room for 2**32 entries
    (folder / "bytes8.pkl").write_bytes(b"\x80\x04\x8e" + (2**60).to_bytes(8, "little") + b"x.")
    (folder / "long.pkl").write_bytes(b"\x80\x02\x8b" + (500_000).to_bytes(4, "little") + b"\x7f" * 500_000 + b".")
    (folder / "number.pkl").write_bytes(b"L" + b"9" * 300_000 + b"L\n.")
    (folder / "dup.pkl").write_bytes(b"\x80\x02](" + b"2" * 300_000 + b"e.")
    npy = b"\x93NUMPY\x02\x00" + (2**31 - 1).to_bytes(4, "little")
    (folder / "npy-header").write_bytes(npy + b"{'descr'")
    shape = b"{'descr': '<f4', 'fortran_order': False, 'shape': (" + b"(" * 60_000 + b"1,), }"
    (folder / "npy-deep").write_bytes(b"\x93NUMPY\x02\x00" + len(shape).to_bytes(4, "little") + shape)
    for name, config in (("a", {"weight_map": {"x": "../../etc/passwd"}}), ("b", {"weight_map": {"x": "index.json"}})):
        (folder / f"index-{name}").mkdir()
        (folder / f"index-{name}" / "config.json").write_text('{"architectures": ["LlamaForCausalLM"]}')
        for kind in ("model.safetensors", "pytorch_model.bin"):
            (folder / f"index-{name}" / f"{kind}.index.json").write_text(json.dumps(config))
    (folder / "links").mkdir()
    (folder / "links" / "config.json").symlink_to(folder / "links" / "config.json")
    (folder / "links" / "model.safetensors").symlink_to("/dev/zero")
    (folder / "config-is-folder" / "config.json").mkdir(parents=True)


class Harness:
    """Reads one file after another and notes what breaks a promise."""

    def __init__(self, seeds: list[Path], work: Path):
        self.seeds, self.work = seeds, work
        self.alarms: list[str] = []

    def arm(self) -> None:
        """Warm up on the whole samples, then forbid code, network and memory from here on."""
        for seed in self.seeds:
            self.read(seed)
        status = Path("/proc/self/status")
        if status.exists():
            now = int(next(line for line in status.read_text().splitlines() if line.startswith("VmSize")).split()[1])
            resource.setrlimit(resource.RLIMIT_AS, (now * 1024 + MEMORY,) * 2)
        sys.addaudithook(self.audit)
        signal.signal(signal.SIGALRM, self.hang)

    def audit(self, event: str, args) -> None:
        """Note what only a file's own code would do."""
        if event in ("os.system", "os.exec", "os.posix_spawn", "pickle.find_class", "socket.connect", "os.fork"):
            self.alarms.append(f"{event} {args!r:.80}")
        elif event == "subprocess.Popen" and "llmnotes.formats." not in str(args[1]):
            self.alarms.append(f"{event} {args!r:.80}")
        elif event == "exec" and args[0].co_filename.startswith("<") and "frozen" not in args[0].co_filename:
            frame, names = sys._getframe(), []
            while frame:
                names.append(frame.f_code.co_filename)
                frame = frame.f_back
            if not any("importlib" in name for name in names):
                self.alarms.append(f"exec of {args[0].co_filename}")

    def hang(self, *_) -> None:
        """Break off a file that takes ten times too long."""
        raise TimeoutError

    def read(self, path: Path) -> list[str]:
        """Ask everything of one file; return the exceptions that are none of ours and the sentences that are none."""
        from llmnotes.formats.scan import scan

        from llmnotes.formats import identify, inspect
        from llmnotes.formats.convert import TARGETS, convert
        from llmnotes.formats.describe import as_dict, describe

        faults = []
        kinds = [to for to in TARGETS if to != "onnx"]  # a graph is traced in seconds; its reader is the folder's
        questions = [
            lambda: identify(path),
            lambda: (json.dumps(as_dict(inspect(path))), describe(inspect(path))),
            lambda: scan(path),
            *[lambda to=to: convert(path, self.work / "out", to=to) for to in kinds],
        ]
        for ask in questions:
            try:
                ask()
            except LLMNotesError as error:
                sentence = str(error)
                if "\n" in sentence or not sentence.endswith(".") or len(sentence) > 600 or not sentence.isprintable():
                    faults.append(f"no sentence: {sentence!r:.200}")
                if any(left.name.startswith(".out") or left.name == "out" for left in self.work.iterdir()):
                    faults.append(f"left behind after: {sentence:.100}")
            except TimeoutError:
                faults.append("hangs")
            except BaseException as error:  # noqa: BLE001 - whatever it is, it is the finding
                faults.append(f"{type(error).__name__}: {error!s:.200}")
            for left in self.work.glob("*out*"):
                shutil.rmtree(left) if left.is_dir() else left.unlink()
        return faults

    def judge(self, path: Path) -> list[str]:
        """Read one file under the clock; return all faults."""
        self.alarms.clear()
        start = time.process_time() + sum(os.times()[2:4])
        signal.alarm(int(10 * SECONDS))
        faults = self.read(path)
        signal.alarm(0)
        took = time.process_time() + sum(os.times()[2:4]) - start
        if took > SECONDS:
            faults.append(f"took {took:.1f} s")
        return faults + self.alarms


def judge_bombs(harness: Harness, work: Path) -> None:
    """Judge the crafted files, and each sample while it shrinks under the reader's hands."""
    from llmnotes.formats.files import Source

    (work / "bombs").mkdir()
    bombs(work / "bombs")
    harness.arm()
    for path in sorted((work / "bombs").iterdir()):
        say(path.name, "crafted", harness.judge(path))
    honest = Source.read

    def shrinking(self, offset, count):
        if self.path.is_relative_to(work):
            self.shrink = getattr(self, "shrink", 2) - 1
            if not self.shrink:
                os.truncate(self.path, min(offset + count // 2, os.path.getsize(self.path)))
        return honest(self, offset, count)

    Source.read = shrinking
    for sample in harness.seeds:
        path = work / "try" / sample.name
        shutil.copytree(sample, path) if sample.is_dir() else shutil.copy(sample, path)
        say(f"{sample.name} shrinks", "crafted", harness.judge(path))


def judge_mutants(harness: Harness, work: Path, seed: int, first: int, count: int) -> None:
    """Judge the mutated files `first` to `first + count`."""
    files = [path for path in harness.seeds if path.is_file()]
    harness.arm()
    for number in range(first, first + count):
        rng = random.Random(f"{seed}/{number}")
        sample = rng.choice(harness.seeds)
        path = work / "try" / f"{number}-{sample.name}"
        if sample.is_dir():
            shutil.copytree(sample, path)
            victim = rng.choice(sorted(file for file in path.rglob("*") if file.is_file()))
        else:
            shutil.copy(sample, path)
            victim = path
        victim.write_bytes(mutate(rng, victim.read_bytes(), rng.choice(files).read_bytes()))
        say(number, sample.name, harness.judge(path))
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def say(number: int | str, sample: str, faults: list[str]) -> None:
    """Print one file's result as a line of JSON."""
    print(json.dumps({"number": number, "sample": sample, "faults": faults}), flush=True)


def worker(seeds: Path, seed: int, first: int, count: int) -> None:
    """Judge `count` mutants from `first`, or the crafted files where `count` is 0."""
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        (work / "try").mkdir()
        harness = Harness(sorted(seeds.iterdir()), work)
        if count:
            judge_mutants(harness, work, seed, first, count)
        else:
            judge_bombs(harness, work)


def fuzz(seeds: Path, seed: int, count: int) -> list[dict]:
    """Judge the crafted files and `count` mutants in two processes; return a row for each file.

    A process that dies takes its file's row with it: it gets one that says so, and the next goes on behind it.
    """
    half = count // 2
    rows, queue = [], [(0, 0), (0, half), (half, count - half)]
    running = []
    while queue or running:
        while queue and len(running) < 2:
            first, number = queue.pop(0)
            command = [sys.executable, "-m", "tests.fuzz", "--seeds", str(seeds), "--seed", str(seed)]
            command += ["--worker", str(first), str(number)]
            log = tempfile.TemporaryFile("w+")
            running.append((subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT), log, first, number))
        time.sleep(0.2)
        for job in [job for job in running if job[0].poll() is not None]:
            running.remove(job)
            process, log, first, number = job
            log.seek(0)
            lines = log.read().splitlines()
            done = [json.loads(line) for line in lines if line.startswith('{"number"')]
            rows += done
            if process.returncode:
                last = [line for line in lines if not line.startswith('{"number"')][-3:]
                at = first + len(done)
                rows.append(
                    {"number": at, "sample": "?", "faults": [f"the process died ({process.returncode}): {last}"]}
                )
                if number and at + 1 < first + number:
                    queue.append((at + 1, first + number - at - 1))
    return rows


def main() -> int:
    """Fuzz, print each fault and a count; 1 if there was one."""
    from tests.samples import write_samples

    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("--count", type=int, default=20_000)
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--seeds", type=Path, help=argparse.SUPPRESS)
    arguments.add_argument("--worker", type=int, nargs=2, help=argparse.SUPPRESS)
    given = arguments.parse_args()
    if given.worker:
        worker(given.seeds, given.seed, *given.worker)
        return 0
    with tempfile.TemporaryDirectory() as name:
        write_samples(Path(name))
        rows = fuzz(Path(name), given.seed, given.count)
    faulty = [row for row in rows if row["faults"]]
    for row in faulty:
        print(f"{row['number']} ({row['sample']}): {'; '.join(row['faults'])}")
    print(f"{len(rows):,} files, {len(faulty)} with a fault")
    return int(bool(faulty))


if __name__ == "__main__":
    sys.exit(main())
