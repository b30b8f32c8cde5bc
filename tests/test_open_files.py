"""On Windows, a file that is open or mapped is not deleted, renamed or replaced. Here every such attempt is recorded.

Linux allows it, so the wrapped functions of `os` look into /proc at the moment of the call. Writing goes the way that
Windows goes: under hidden names, because it has no files without one.
"""

import json
import os
from pathlib import Path

import pytest

from llmnotes import cli
from llmnotes.errors import LLMNotesError, NotConvertible, NotQuantizable
from llmnotes.formats import convert
from llmnotes.models import open_model
from llmnotes.pebble import weights_dir

PROC = Path("/proc/self")
pytestmark = pytest.mark.skipif(not PROC.is_dir(), reason="only Linux tells what is open and mapped")


def in_use(path: str) -> list[str]:
    """Return how this process uses the file `path`, or what lies in that folder, at this moment."""
    found = []
    for descriptor in os.listdir(PROC / "fd"):
        try:
            found.append((f"open as {descriptor}", os.readlink(PROC / "fd" / descriptor)))
        except OSError:  # the one that listed them
            continue
    for line in (PROC / "maps").read_text(encoding="utf-8").splitlines():
        found.append(("mapped", line.split(maxsplit=5)[5] if line.count("/") else ""))
    return [f"{how}: {file}" for how, file in found if file == path or file.startswith(f"{path}/")]


@pytest.fixture
def attempts(monkeypatch):
    """A list that grows by each attempt to delete, rename or replace what is in use."""
    monkeypatch.setattr("llmnotes.formats.safe_write._unnamed", lambda folder: None)
    monkeypatch.setattr("shutil._use_fd_functions", False)  # Windows has no paths relative to a folder
    monkeypatch.setattr("llmnotes.finetuning.job.interruptions.WINDOWS", True)
    found, counts = [], dict.fromkeys(("unlink", "remove", "rmdir", "rename", "replace"), 0)

    def watch(name: str) -> None:
        real = getattr(os, name)

        def watched(*paths, **more):
            counts[name] += 1
            for path in paths[:2]:
                found.extend(f"{name} {path}: {use}" for use in in_use(os.path.realpath(path)))
            return real(*paths, **more)

        monkeypatch.setattr(os, name, watched)

    for name in counts:
        watch(name)
    yield found
    assert sum(counts.values()), "nothing was watched"


def test_the_recorder_sees_what_is_open_and_what_is_mapped(attempts, tmp_path):
    import mmap

    for name in "abc":
        (tmp_path / name).write_bytes(b"1")
    with open(tmp_path / "a", "r+b") as file:
        (tmp_path / "a").unlink()
    with open(tmp_path / "b", "r+b") as file:
        mapped = mmap.mmap(file.fileno(), 1)
    (tmp_path / "c").replace(tmp_path / "b")
    mapped.close()
    (tmp_path / "b").unlink()
    seen = [line.replace(f"{tmp_path}/", "").split() for line in attempts]
    assert {(line[0], line[1], line[2].rstrip(":")) for line in seen} >= {
        ("unlink", "a:", "open"),
        ("replace", "b:", "mapped"),
    }
    assert all(line[:2] in (["unlink", "a:"], ["replace", "b:"]) for line in seen)
    attempts.clear()


TO = {"pebble.gguf": {}, "f16.safetensors": {}, "folder": {}, "weights.pt": {}, "checkpoint": {"to": "tensorflow"}}


@pytest.mark.parametrize("name", TO)
def test_converting(name, attempts, tmp_path):
    convert(weights_dir("pebble"), tmp_path / name, **TO[name])
    assert attempts == []


def test_converting_a_gguf(attempts, tmp_path):
    convert(weights_dir("pebble"), tmp_path / "q8.gguf", type="Q8_0")
    convert(tmp_path / "q8.gguf", tmp_path / "parts.gguf", type="Q4_0", split_max_size=1_000_000)
    part = next(tmp_path.glob("parts-00002*"))
    convert(part, tmp_path / "folder")
    convert(part, tmp_path / "one.safetensors")
    assert attempts == []


def test_what_fails_is_removed_only_when_it_is_closed(attempts, tmp_path, tiny_folder):
    import shutil

    from safetensors.numpy import load_file, save_file

    shutil.copytree(tiny_folder, tmp_path / "model")
    tensors = load_file(tmp_path / "model" / "model.safetensors")
    tensors["model.norm.weight"][0] = float("nan")
    save_file(tensors, tmp_path / "model" / "model.safetensors", {"format": "pt"})
    with pytest.raises(NotQuantizable):
        convert(tmp_path / "model", tmp_path / "model.gguf", split_max_size=1000)
    with pytest.raises(NotConvertible):
        convert(tmp_path / "model", tmp_path / "model.pt", type="Q8_0")
    assert attempts == []


@pytest.mark.slow  # PyTorch's exporter takes ten seconds for the smallest model
def test_onnx(attempts, tmp_path, tiny_folder):
    pytest.importorskip("onnxscript")
    convert(tiny_folder, tmp_path / "model.onnx")
    assert attempts == []


def test_opening_a_gguf(attempts, tmp_path):
    convert(weights_dir("pebble"), tmp_path / "q8.gguf", type="Q8_0")
    open_model(tmp_path / "q8.gguf", say=lambda line: None)
    assert attempts == []


def test_opening_a_gguf_that_fails(attempts, tmp_path, monkeypatch):
    import transformers

    convert(weights_dir("pebble"), tmp_path / "q8.gguf", type="Q8_0")
    real = transformers.AutoModelForCausalLM.from_pretrained

    def failing(*arguments, **more):
        kept = real(*arguments, **more)  # what a traceback holds lives on
        raise RuntimeError(f"no room for {type(kept[0]).__name__}")

    monkeypatch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", failing)
    with pytest.raises(LLMNotesError):
        open_model(tmp_path / "q8.gguf", say=lambda line: None)
    assert attempts == []


def test_the_picture_model_with_settings_of_its_own(attempts):
    import torch

    from llmnotes.vision import load

    load(dtype=torch.float32)
    assert attempts == []


@pytest.mark.parametrize("method", ["lora", "full"])
def test_finetuning(method, attempts, tmp_path, tiny_folder, capsys):
    lines = [{"text": f"{number} squared is {number * number}."} for number in range(6)]
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    settings = {"model": str(tiny_folder), "data": str(tmp_path / "data.jsonl"), "output": str(tmp_path / "out")}
    settings |= {"method": method, "steps": 5, "checkpoint_every": 1, "max_length": 16, "batch_size": 2}
    (tmp_path / "job.yaml").write_text(json.dumps(settings), encoding="utf-8")
    assert cli.main(["finetune", str(tmp_path / "job.yaml")]) == 0, capsys.readouterr().err
    assert attempts == []


def test_merging_an_adapter(attempts, tmp_path, tiny_folder):
    from llmnotes.finetuning import adapter_files, lora
    from llmnotes.finetuning.job.output import save_model

    lm = open_model(tiny_folder, say=lambda line: None)
    adapter_files.save(lora.attach(lm.model, lora.LoRA(r=2)), tmp_path / "adapter")
    lm = open_model(tiny_folder, say=lambda line: None)
    lora.detach(lora.merge(adapter_files.load(lm.model, tmp_path / "adapter"), keep=False))
    save_model(lm, tmp_path / "merged")
    open_model(tmp_path / "merged", say=lambda line: None)
    assert attempts == []


def test_a_gguf_kept_for_serving_is_replaced(attempts, tmp_path, tiny_folder):
    import shutil

    from llmnotes.serving.loading import gguf_of

    shutil.copytree(tiny_folder, tmp_path / "model")
    first = gguf_of(tmp_path / "model")
    (tmp_path / "model" / "note.txt").write_text("it changed", encoding="utf-8")
    assert gguf_of(tmp_path / "model") != first and not first.exists()
    assert attempts == []
