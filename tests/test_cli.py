import json
import os
import subprocess
import sys

import pytest

from llmnotes.cli.main import main
from llmnotes.hardware import Machine, cores, memory, this_machine

from .conftest import ROOT


def test_doctor_reports_this_machine(capsys):
    assert main(["doctor", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["cores"] == cores() >= 1 and found["memory"] == memory()[0] and not found["missing"]
    assert found["versions"]["torch"].startswith("2.")
    main(["doctor"])
    assert "every notebook runs without one" in capsys.readouterr().out or found["gpu"]


def test_doctor_names_what_is_missing_with_the_command_that_brings_it(monkeypatch, capsys):
    import importlib.metadata as metadata

    real = metadata.version

    def version(name):
        if name in ("wordllama", "torch"):
            raise metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(metadata, "version", version)
    assert main(["doctor"]) == 1
    out = capsys.readouterr().out
    assert '-m pip install "llmnotes[course]"' in out and "-m pip install torch" in out


def test_a_gpu_is_described():
    machine = Machine("Linux", "3.12", 4, 2**34, 2**33, "Tesla T4", 15 * 2**30, {}, {})
    assert "GPU      Tesla T4, 15.0 GiB" in machine.as_text() and "16.0 GiB, 8.0 GiB free" in machine.as_text()


def test_peak_memory_never_falls():
    code = """
from llmnotes.hardware import peak_memory
before = peak_memory()
block = bytearray(200_000_000)
high = peak_memory()
del block
print(high - before, peak_memory() - before)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    high, after = map(int, done.stdout.split())
    assert 190e6 < high < 230e6 and after > 0.99 * high and this_machine().cores >= 1


def test_claims_lists_what_the_notebooks_show(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    assert main(["claims", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["00_start_here"]
    main(["claims"])
    assert f"00_start_here  {found['00_start_here'][0]}" in capsys.readouterr().out


def test_progress_counts_what_is_solved(capsys):
    from llmnotes.exercises import check, find

    scope = {}
    exec(find("00.1").solution, scope)
    check("00.1", scope["bits_per_weight"])
    capsys.readouterr()
    assert main(["progress"]) == 0
    out = capsys.readouterr().out
    assert "✓ 00.1" in out and "○ 01.1" in out and "1 of " in out
    main(["progress", "--json"])
    assert json.loads(capsys.readouterr().out)["00.1"] is True


@pytest.mark.slow
def test_outside_the_course_one_sentence(tmp_path):
    run = subprocess.run([sys.executable, "-m", "llmnotes.cli", "claims"], cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 2 and run.stderr.startswith("There are no notebooks here") and run.stderr.count("\n") == 1


def test_start_copies_the_lessons_where_the_other_commands_find_them(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["start"]) == 0
    assert "cd llmnotes-course, then llmnotes lab" in capsys.readouterr().out
    copied = tmp_path / "llmnotes-course" / "notebooks"
    for path in (ROOT / "notebooks").rglob("*.ipynb"):
        if ".ipynb_checkpoints" not in path.parts:
            assert (copied / path.relative_to(ROOT / "notebooks")).read_bytes() == path.read_bytes()
    assert main(["claims"]) == 0  # from the folder above it
    monkeypatch.chdir(copied)
    assert main(["claims"]) == 0
    assert main(["new-notebook", "24_topic"]) == 2
    assert "clone the repository" in capsys.readouterr().err


def test_start_replaces_nothing(tmp_path, monkeypatch, capsys):
    mine = tmp_path / "mine" / "notes.txt"
    mine.parent.mkdir()
    mine.write_text("mine")
    for folder in (mine, mine.parent):
        assert main(["start", str(folder)]) == 2
        assert "give another folder" in capsys.readouterr().err
    assert mine.read_text() == "mine" and [path.name for path in mine.parent.iterdir()] == ["notes.txt"]
    empty = tmp_path / "empty"
    empty.mkdir()
    assert main(["start", str(empty)]) == 0 and (empty / "notebooks" / "00_start_here.ipynb").is_file()


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="Windows has no such pipes")
def test_a_reader_that_leaves_early_is_no_error():
    command = f"{sys.executable} -m llmnotes.cli claims | head -1"
    run = subprocess.run(command, shell=True, cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0 and run.stderr == ""


def test_the_lab_says_what_it_needs(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr("llmnotes.course.lab.importlib.util.find_spec", lambda name: None)
    assert main(["lab"]) == 2
    assert "pip install" in capsys.readouterr().err


HOSTILE = "\x1b[2Jname\ud800\n\u202e"


def hostile_folder(folder):
    (folder / "config.json").write_text(
        json.dumps(
            {"model_type": "llama", HOSTILE: [float("nan"), float("inf")], "long": "x" * 10_000, "\x07": "\x9b1m"}
        )
    )
    (folder / "model.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")


def test_inspect_says_what_a_model_is(capsys):
    assert main(["inspect", "pebble"]) == 0
    out = capsys.readouterr().out
    assert "Hugging Face folder" in out and "3,672,320 parameters" in out and "16.00 bits per weight" in out
    assert "model.embed_tokens.weight" in out and "2048 × 256" in out
    assert main(["inspect", "pebble", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (
        found["architecture"] == "LlamaForCausalLM" and len(found["tensors"]) == 38 and found["parameters"] == 3672320
    )


def test_what_a_file_holds_does_not_reach_the_terminal_raw(tmp_path, capsys):
    hostile_folder(tmp_path)
    assert main(["inspect", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert (
        all(line.isprintable() for line in out.split("\n")) and "\\x1b[2Jname" in out and "(10,000 characters)" in out
    )

    def refuse(name):
        raise AssertionError(name)

    assert main(["inspect", str(tmp_path), "--json"]) == 0
    text = capsys.readouterr().out
    found = json.loads(text, parse_constant=refuse)
    json.dumps(found, ensure_ascii=False).encode()
    assert "nan" in text and len(found["metadata"]["config"]["long"]) == 10_000
    (tmp_path / "a\x1b[2J").write_bytes(b"no model")
    assert main(["inspect", str(tmp_path / "a\x1b[2J")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and error.strip().isprintable()


def test_inspect_is_quick_and_frugal(tmp_path):
    length = 1 << 29
    header = json.dumps({"a": {"dtype": "U8", "shape": [length], "data_offsets": [0, length]}}).encode()
    with open(tmp_path / "big", "wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.truncate(8 + len(header) + length)
    code = "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL); "
    code += "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    command = [sys.executable, "-m", "llmnotes.cli", "inspect", str(tmp_path / "big")]
    run = subprocess.run([sys.executable, "-c", code, *command], capture_output=True, text=True, check=True)
    assert int(run.stdout) < 60_000
    modules = "import sys; from llmnotes.cli import main; main(sys.argv[1:]); print('numpy' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", modules, *command[3:]], capture_output=True, text=True, check=True)
    assert run.stdout.endswith("False\n")


def test_convert_writes_and_says_what_was_lost(tmp_path, capsys):
    target = tmp_path / "p.safetensors"
    assert main(["convert", "pebble", str(target)]) == 0
    assert "lost        The file holds only the weights" in capsys.readouterr().out
    before = target.read_bytes()
    assert main(["convert", "pebble", str(target)]) == 2
    assert "exists already" in capsys.readouterr().err and target.read_bytes() == before
    assert main(["convert", str(target), str(tmp_path / "p.pt"), "--json"]) == 0
    done = json.loads(capsys.readouterr().out)
    assert done["to"] == "pytorch" and done["tensors"] == 38 and done["lost"] == []


@pytest.mark.parametrize(
    "words, remedy",
    [
        (["inspect", "nothing.gguf"], "There is no file nothing.gguf"),
        (["inspect", "peble"], "did you mean pebble"),
        (["inspect", "./nowhere/x"], "check the path"),
        (["inspect", "."], "does not recognize the folder"),
        (["inspect", "a" * 300], "give pebble, pebble-chat, smollm2, pebble-llava, a folder"),
        (["convert", "pebble", "no/such/folder/p.safetensors"], "make it first"),
        (["convert", "pebble", "p.xyz"], "add one of --to"),
    ],
)
def test_what_cannot_be_used_is_one_sentence(words, remedy, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    error = capsys.readouterr().err
    assert remedy in error and error.count("\n") == 1
