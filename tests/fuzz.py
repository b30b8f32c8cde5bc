"""Throw broken and hostile files at every reader, and hold each answer against what was promised.

    make fuzz                                     20,000 files
    python -m tests.fuzz --count 500 --seed 7     others
    python -m tests.fuzz --number 4061            one of them again, in this process

Each file is read in a process with a limit on memory. It is a failure when anything but one of our errors comes out,
when the sentence is no sentence, when a question costs more than 2 seconds or 300 MB, when code of the file runs, when
a file outside is opened, when a conversion that fails leaves something behind, and when one that does not fail wrote
what cannot be read.
"""

import argparse
import json
import os
import random
import resource
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
import traceback
from functools import partial
from pathlib import Path

from llmnotes.errors import LLMNotesError
from llmnotes.quantization import blocks
from tests.bombs import bombs
from tests.mutations import mutate

SECONDS, MEMORY = 2.0, 300_000_000
SLOW = (".h5", ".keras")  # a process of its own reads them: a share of one in ten is enough
MAIN = {"onnx": "model.onnx"}  # the file of a sample's folder that is asked for


class Harness:
    """Reads one file after another and notes what breaks a promise."""

    def __init__(self, seeds: list[Path], work: Path):
        self.seeds, self.work = seeds, work
        self.base = next((seed for seed in seeds if seed.name == "hf"), None)
        self.alarms: list[str] = []
        self.rng = random.Random(0)
        self.allowed = (tempfile.gettempdir(), sys.prefix, sys.base_prefix, str(Path(__file__).parents[1]))
        self.allowed += ("/proc/", "/sys/", "/dev/null", "/usr/", "/lib", "/etc/localtime", "/etc/mime")

    def arm(self) -> None:
        """Warm up on the whole samples, then forbid code, network, files outside and memory from here on."""
        for name in blocks.TYPES:  # compiles what is compiled at its first use
            blocks.dequantize(blocks.quantize([[1.0] * 256], name), name, (1, 256))
        for seed in self.seeds:
            self.read(seed)
        status = Path("/proc/self/status")
        if status.exists():
            now = int(next(line for line in status.read_text().splitlines() if line.startswith("VmSize")).split()[1])
            resource.setrlimit(resource.RLIMIT_AS, (now * 1024 + MEMORY,) * 2)
        sys.addaudithook(self.audit)
        signal.signal(signal.SIGALRM, self.hang)

    def audit(self, event: str, args) -> None:
        """Note what only a file's own code would do, and files that are none of its."""
        if event in ("os.system", "os.exec", "os.posix_spawn", "pickle.find_class", "socket.connect", "os.fork"):
            self.alarms.append(f"{event} {args!r:.80}")
        elif event == "subprocess.Popen" and "hdf5_child" not in str(args[1]):
            self.alarms.append(f"{event} {args!r:.80}")
        elif event == "open" and isinstance(args[0], str) and os.path.isabs(args[0]):
            if not args[0].startswith(self.allowed):
                self.alarms.append(f"opened {args[0]!r:.80}")
        elif event == "exec" and args[0].co_filename.startswith("<") and "frozen" not in args[0].co_filename:
            frame, names = sys._getframe(), []
            while frame:
                names.append(frame.f_code.co_filename)
                frame = frame.f_back
            if not any("importlib" in name or "dataclasses" in name or "collections" in name for name in names):
                self.alarms.append(f"exec of {args[0].co_filename}")

    def hang(self, *_) -> None:
        """Break off a question that takes ten times too long."""
        raise TimeoutError

    def read(self, path: Path) -> list[str]:
        """Ask everything of one file; return what was wrong with the answers."""
        from llmnotes.formats import apply_delta, identify, make_delta, scan
        from llmnotes.formats.conversion import CONVERTERS
        from llmnotes.formats.targets import TARGETS

        out = self.work / "out"
        faults = []
        inspection = self.ask(faults, "inspect", partial(self.inspect, path))
        self.ask(faults, "identify", partial(identify, path))
        self.ask(faults, "scan", lambda: json.dumps(scan(path).as_dict()))
        kinds = [self.rng.choice([to for to in TARGETS if to != "onnx"])]
        if inspection is not None:
            kinds += [to for to in TARGETS if (inspection.identity.format, to) in CONVERTERS and to != "onnx"]
            self.ask(faults, "read", partial(self.values, inspection))
        for to in dict.fromkeys(kinds):  # an ONNX graph is traced in seconds, and its reader is the folder's
            self.ask(faults, f"to {to}", partial(self.convert, path, out, to))
        if inspection is not None and inspection.identity.format == "Hugging Face folder" and self.base is not None:
            one, other = self.rng.sample((self.base, path), 2)
            self.ask(faults, "make_delta", lambda: make_delta(one, other, out))
            self.ask(faults, "apply_delta", lambda: apply_delta(one, other, out))
        return faults

    def inspect(self, path: Path):
        """Inspect, and show the answer in both of its forms."""
        from llmnotes.formats import inspect
        from llmnotes.formats.describe import describe_inspection, inspection_dict

        inspection = inspect(path)
        json.dumps(inspection_dict(inspection), allow_nan=False).encode("ascii")
        if not describe_inspection(inspection).replace("\n", "").isprintable():
            raise AssertionError("the description has control characters")
        return inspection

    def values(self, inspection) -> None:
        """Read the values of some tensors; their length must be what the inspection says."""
        from llmnotes.formats import read

        for tensor in self.rng.sample(inspection.tensors, min(len(inspection.tensors), 3)):
            if tensor.nbytes < 1 << 26:
                count = sum(len(piece) for piece in read(inspection, tensor))
                if count != tensor.nbytes:
                    raise AssertionError(f"{tensor.name} gave {count} bytes and not {tensor.nbytes}")

    def convert(self, path: Path, out: Path, to: str) -> None:
        """Convert, report on it, and read what was written."""
        from llmnotes.formats import convert, inspect
        from llmnotes.formats.describe import conversion_dict, describe_conversion

        kind = (
            self.rng.choice((None, "F32", "F16", "Q8_0", "Q4_K_M", "Q4_0", "Q2_K"))
            if to in ("gguf", "mmproj")
            else None
        )
        done = convert(path, out, to=to, type=kind)
        json.dumps(conversion_dict(done), allow_nan=False).encode("ascii")
        describe_conversion(done).encode()
        if to == "huggingface" and path.suffix == ".gguf":  # no other target has JSON that is made of a file's values
            for text in done.target.glob("*.json"):
                json.loads(text.read_bytes(), parse_constant=self.no_json)
        try:
            inspect(done.target)
        except LLMNotesError as error:
            raise AssertionError(f"wrote what cannot be read: {error}") from None

    @staticmethod
    def no_json(constant: str):
        """Refuse what Python's own reader takes and other programs do not: NaN and Infinity."""
        raise AssertionError(f"wrote {constant} into JSON")

    def ask(self, faults: list[str], what: str, question):
        """Return the answer to one question or None, and note what is wrong with it."""
        before = sorted(os.listdir(self.work / "try")) if (self.work / "try").is_dir() else []
        start = time.process_time() + sum(os.times()[2:4])
        signal.alarm(int(10 * SECONDS))
        answer = None
        try:
            try:
                answer = question()
            finally:  # here, so that it never rings outside of these lines
                signal.alarm(0)
        except LLMNotesError as error:
            sentence = str(error)
            ends = sentence.endswith((".", "--outfile model.gguf"))  # or in a command that is there to be copied
            if "\n" in sentence or not ends or len(sentence) > 900 or not sentence.isprintable():
                faults.append(f"{what}: no sentence: {sentence!r:.200}")
            if any(left.startswith((".", "out")) for left in os.listdir(self.work)):
                faults.append(f"{what}: left behind after: {sentence:.100}")
        except TimeoutError:
            faults.append(f"{what}: hangs")
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is the finding
            place = traceback.extract_tb(error.__traceback__)[-1]
            faults.append(
                f"{what}: {type(error).__name__}: {error!s:.300} ({Path(place.filename).name}:{place.lineno})"
            )
        took = time.process_time() + sum(os.times()[2:4]) - start
        if took > SECONDS:
            faults.append(f"{what}: took {took:.1f} s")
        if (self.work / "try").is_dir() and sorted(os.listdir(self.work / "try")) != before:
            faults.append(f"{what}: wrote beside its source")
        for left in [*self.work.glob("out*"), *self.work.glob(".out*")]:
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        return answer

    def judge(self, path: Path) -> list[str]:
        """Read one file; return all faults."""
        self.alarms.clear()
        return self.read(path) + self.alarms


def judge_bombs(harness: Harness, work: Path) -> None:
    """Judge the crafted files, and each sample while it shrinks under the reader's hands or is in the way."""
    (work / "bombs").mkdir()
    bombs(work / "bombs")
    harness.arm()
    for path in sorted((work / "bombs").iterdir()):
        say(path.name, "crafted", harness.judge(path))
    judge_shrinking(harness, work)
    for sample in harness.seeds:
        if not sample.is_dir():
            continue
        path = copied(sample, work / "odd" / sample.name)
        for file in sorted(file for file in path.rglob("*") if file.is_file()):
            saved, odd = file.read_bytes(), f"{sample.name}/{file.name}"
            file.unlink()
            say(f"{odd} missing", "crafted", harness.judge(path))
            file.mkdir()
            say(f"{odd} a folder", "crafted", harness.judge(path))
            file.rmdir()
            file.symlink_to(file)
            say(f"{odd} a loop", "crafted", harness.judge(path))
            file.unlink()
            file.write_bytes(saved)
            file.chmod(0)
            say(f"{odd} forbidden", "crafted", harness.judge(path))
            file.chmod(stat.S_IRUSR | stat.S_IWUSR)


def judge_shrinking(harness: Harness, work: Path) -> None:
    """Judge every sample while it shrinks: at the first reads, which are a header's, and later, in a conversion."""
    from llmnotes.formats.files import Source

    honest, left = Source.read, 0

    def shrinking(self, offset, count):
        nonlocal left
        if self.path.is_relative_to(work / "try"):
            left -= 1
            if not left:
                os.truncate(self.path, min(offset + count // 2, os.path.getsize(self.path)))
        return honest(self, offset, count)

    for sample in harness.seeds:
        for moment in (1, 2, 3, 8, 20, 50, 90):
            path = copied(sample, work / "try" / sample.name)
            left, Source.read = moment, shrinking
            say(f"{sample.name} shrinks at {moment}", "crafted", harness.judge(path))
            Source.read = honest
            shutil.rmtree(path.parent)


def copied(sample: Path, path: Path) -> Path:
    """Copy a sample to `path`, and return what of it is asked for."""
    path.parent.mkdir(exist_ok=True)
    shutil.copytree(sample, path) if sample.is_dir() else shutil.copy(sample, path)
    return path / MAIN[sample.name] if sample.name in MAIN else path


def judge_mutants(harness: Harness, work: Path, seed: int, first: int, count: int) -> None:
    """Judge the mutated files `first` to `first + count`."""
    files = [path for path in harness.seeds if path.is_file()]
    weights = [0.1 if seed.suffix in SLOW else 1.0 for seed in harness.seeds]
    harness.arm()
    for number in range(first, first + count):
        rng = harness.rng = random.Random(f"{seed}/{number}")
        (sample,) = rng.choices(harness.seeds, weights)
        home = work / "try" / f"{number}-{sample.name}"
        path = copied(sample, home)
        victims = sorted(file for file in home.rglob("*") if file.is_file()) or [home]
        for _ in range(rng.choice((1, 1, 1, 2))):
            victim = rng.choice(victims)
            victim.write_bytes(mutate(rng, victim.read_bytes(), rng.choice(files).read_bytes()))
        say(number, sample.name, harness.judge(path))
        shutil.rmtree(home) if home.is_dir() else home.unlink()


def say(number: int | str, sample: str, faults: list[str]) -> None:
    """Print one file's result as a line of JSON."""
    print(json.dumps({"number": number, "sample": sample, "faults": faults}), flush=True)


def worker(seeds: Path, seed: int, first: int, count: int) -> None:
    """Judge `count` mutants from `first`, or the crafted files where `count` is 0."""
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
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
            with log:
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
    arguments.add_argument("--number", type=int, help="judge this file alone")
    arguments.add_argument("--seeds", type=Path, help=argparse.SUPPRESS)
    arguments.add_argument("--worker", type=int, nargs=2, help=argparse.SUPPRESS)
    given = arguments.parse_args()
    if given.worker:
        worker(given.seeds, given.seed, *given.worker)
        return 0
    with tempfile.TemporaryDirectory() as name:
        write_samples(Path(name))
        if given.number is not None:
            worker(Path(name), given.seed, given.number, 1)
            return 0
        rows = fuzz(Path(name), given.seed, given.count)
    faulty = [row for row in rows if row["faults"]]
    for row in faulty:
        print(f"{row['number']} ({row['sample']}): {'; '.join(row['faults'])}")
    print(f"{len(rows):,} files, {len(faulty)} with a fault")
    return int(bool(faulty))


if __name__ == "__main__":
    sys.exit(main())
