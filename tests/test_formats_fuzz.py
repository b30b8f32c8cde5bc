"""Two thousand broken files and the crafted ones: `make fuzz` throws ten times as many."""

import json
import subprocess
import sys

import pytest

from llmnotes import formats
from llmnotes.pebble import weights_dir

from .conftest import ROOT
from .fuzz import Harness, fuzz
from .samples import write_samples

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="limits on a process's memory are Linux's"),
]

# A reader that breaks one promise after the other, and what the harness must say to it.
BROKEN = """
import json, os, sys, time
from pathlib import Path
from llmnotes import formats
from llmnotes.errors import FileBroken
from tests.fuzz import Harness

def refuse(sentence):
    raise FileBroken(sentence)

def leave():
    (work / ".out.part").write_text("")
    refuse("It is broken; copy it again.")

def spin():
    end = time.process_time() + 2.1
    while time.process_time() < end:
        pass

def swell():
    return bytes(400_000_000)

path, work = Path(sys.argv[1]), Path(sys.argv[2])
harness = Harness([path], work)
harness.arm()
faults = {}
for name, fault in {
    "ValueError": lambda: int("x"), "no sentence": lambda: refuse("no end"), "left behind": leave,
    "took": spin, "MemoryError": swell, "os.system": lambda: os.system("true"),
    "opened": lambda: open("/etc/passwd").close(), "RecursionError": lambda f=lambda f: f(f): f(f),
    "wrote beside": lambda: (path.parent / "new").touch(), "exec of": lambda: exec("1"),
}.items():
    formats.identify = lambda path, fault=fault: fault()
    faults[name] = harness.judge(path)
print(json.dumps(faults))
"""


def test_no_file_breaks_a_reader(tmp_path):
    write_samples(tmp_path)
    rows = fuzz(tmp_path, seed=0, count=2000)
    assert len(rows) > 2100
    # What takes long is for make fuzz to report: here another program may have the processor.
    faults = {row["number"]: [fault for fault in row["faults"] if ": took " not in fault] for row in rows}
    assert {number: found for number, found in faults.items() if found} == {}


def test_the_harness_notices_every_broken_promise(tiny_folder, tmp_path):
    (tmp_path / "try").mkdir()
    path = tmp_path / "try" / "a.safetensors"
    path.write_bytes((tiny_folder / "model.safetensors").read_bytes())
    command = [sys.executable, "-c", BROKEN, str(path), str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert not done.returncode, done.stderr
    for name, faults in json.loads(done.stdout).items():
        assert any(name in fault for fault in faults), f"{name}: {faults}"


def test_the_harness_notices_a_number_that_is_none_in_json(tmp_path, monkeypatch):
    def spoilt(*arguments, **options):
        done = convert(*arguments, **options)
        (done.target / "config.json").write_text('{"pad_token_id": NaN}')
        return done

    convert = formats.convert
    convert(weights_dir("pebble"), tmp_path / "a.gguf")
    monkeypatch.setattr(formats, "convert", spoilt)
    with pytest.raises(AssertionError, match="wrote NaN into JSON"):
        Harness([], tmp_path).convert(tmp_path / "a.gguf", tmp_path / "out", "huggingface")
