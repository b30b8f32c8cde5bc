"""Trainings that are really killed, and a disk that is really full: what goes on ends with the same weights."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack

import pytest

from .conftest import ROOT
from .processes import SECONDS, limited, started

pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.name == "nt", reason="forks, signals and mounts of Unix")]
COMMON = """
learning_rate: 3e-3
max_length: 48
batch_size: 4
evaluate_every: 9
checkpoint_every: 4
held_out: 0.2
"""
WAYS = {
    "lora": "steps: 24\nlora: {dropout: 0.2}\ngradient_accumulation: 2\n",
    "full": "epochs: 5\nmethod: full\npacking: true\noptimizer: adamw_8bit\nschedule: cosine\nwarmup_steps: 3\n",
}


@pytest.fixture
def folder(tmp_path, tiny_folder):
    """A folder with data and with settings for each method."""
    data = tmp_path / "data.jsonl"
    lines = [{"prompt": f"Q: What is {i}?", "completion": f" {i}." * (1 + i % 3)} for i in range(30)]
    data.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    for name, more in WAYS.items():
        paths = f"model: {tiny_folder}\ndata: {data}\noutput: {tmp_path / 'disk' / name}\n"
        (tmp_path / f"{name}.yaml").write_text(paths + COMMON + more, encoding="utf-8")
    (tmp_path / "disk").mkdir()
    return tmp_path


def test_a_training_that_is_killed_goes_on_to_the_same_weights_bit_for_bit(folder):
    """Killed at random moments and at random operations on its files, with dropout, packing, LoRA and in full."""
    command = [sys.executable, "-m", "tests.finetune_and_kill", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=540)
    assert done.returncode == 0, done.stdout + done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [each["name"] for each in found] == ["full", "lora"]
    for each in found:
        assert each["moment"] >= 1 and each["operation"] >= 2 and each["files"] >= 7, each


def test_a_signal_to_the_command_leaves_a_checkpoint_and_its_own_exit_status(folder):
    with ExitStack() as stack:
        running = {}
        for number in (signal.SIGINT, signal.SIGTERM):
            out = folder / "disk" / f"stopped-{number}"
            path = folder / f"{number}.yaml"
            text = (folder / "lora.yaml").read_text(encoding="utf-8")
            text = text.replace(f"{folder}/disk/lora", str(out)).replace("steps: 24", "steps: 100000")
            path.write_text(text.replace("checkpoint_every: 4", "checkpoint_every: 100000"), encoding="utf-8")
            command = [sys.executable, "-m", "llmnotes.cli", "finetune", str(path)]
            running[number] = stack.enter_context(started(command, stderr=subprocess.PIPE, text=True, cwd=ROOT)), out
        for number, (process, out) in running.items():
            log = out / "training_log.jsonl"
            with limited(process, 3 * SECONDS):
                while process.poll() is None and (not log.exists() or log.read_bytes().count(b"\n") < 3):
                    time.sleep(0.05)
            process.send_signal(number)
            err = process.communicate(timeout=SECONDS)[1]
            step = max(json.loads(line)["step"] for line in log.read_text(encoding="utf-8").splitlines())
            assert process.returncode == 128 + number and "Traceback" not in err, err
            assert f"the checkpoint of step {step} is kept" in err.splitlines()[-1]
            assert (out / "checkpoints" / f"step-{step:08}" / "state.safetensors").exists()


FULL = """
import os, sys
from dataclasses import replace
from llmnotes.errors import CannotWrite
from llmnotes.finetuning.job import checkpoints, run, settings
wanted = settings.read(sys.argv[1])
here = os.path.dirname(wanted.output)
room = os.statvfs(here)
real = checkpoints.save
def save(folder, step, *rest):
    if step == 12:  # leave room for half of what is to come
        size = sum(f.stat().st_size for f in folder.glob("step-00000004/*"))
        free = os.statvfs(here).f_bavail * room.f_bsize
        with open(f"{here}/ballast", "wb") as file:
            file.write(bytes(free - size // 2))
    return real(folder, step, *rest)
checkpoints.save = save
try:
    run.finetune(wanted, say=lambda line: None)
except CannotWrite as error:
    assert "no room" in str(error) and str(error).endswith("the checkpoint of step 8 is kept."), error
else:
    raise SystemExit("a full disk went unnoticed")
checkpoints.save = real
os.unlink(f"{here}/ballast")
assert run.finetune(wanted, say=lambda line: None).resumed_at == 8
whole = replace(wanted, output=f"{here}/whole")
run.finetune(whole, say=lambda line: None)
for name in ("adapter/adapter_model.safetensors", "checkpoints/step-00000024/state.safetensors"):
    assert open(f"{wanted.output}/{name}", "rb").read() == open(f"{here}/whole/{name}", "rb").read(), name
"""


def test_a_disk_that_is_really_full(folder):
    here = folder / "disk"
    if subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode:
        pytest.skip("this system grants no file system of our own")
    mount = f"mount -t tmpfs -o size=8m tmpfs {here} && exec {sys.executable} - {folder / 'lora.yaml'}"
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", mount], input=FULL, capture_output=True, text=True, cwd=ROOT, timeout=3 * SECONDS
    )
    if "mount:" in done.stderr:
        pytest.skip("this system grants no file system of our own")
    assert done.returncode == 0, done.stderr
