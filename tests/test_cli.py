import json
import os
import subprocess
import sys

import pytest

from llmnotes.cli import main
from llmnotes.hardware import Machine, cores, describe, memory, peak_memory, report

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
    assert "GPU      Tesla T4, 15.0 GiB" in describe(machine) and "16.0 GiB, 8.0 GiB free" in describe(machine)


def test_peak_memory_never_falls():
    before = peak_memory()
    block = bytearray(200_000_000)
    assert peak_memory() > before + 100_000_000 * (before < 1e9)
    del block
    assert peak_memory() >= before and report().cores >= 1


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


def test_outside_the_course_one_sentence(tmp_path):
    run = subprocess.run([sys.executable, "-m", "llmnotes.cli", "claims"], cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 2 and run.stderr.startswith("There are no notebooks here") and run.stderr.count("\n") == 1


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such pipes")
def test_a_reader_that_leaves_early_is_no_error():
    command = f"{sys.executable} -m llmnotes.cli claims | head -1"
    run = subprocess.run(command, shell=True, cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0 and run.stderr == ""


def test_the_lab_says_what_it_needs(monkeypatch, capsys):
    monkeypatch.setattr("llmnotes.cli.importlib.util.find_spec", lambda name: None)
    assert main(["lab"]) == 2
    assert "pip install" in capsys.readouterr().err
