"""A GPU that llama.cpp cannot use: the GPU is made up here, by files and by a program named nvidia-smi."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from llmnotes import cli
from llmnotes.llama_cpp import gpus

from .serving_process import serving

pytestmark = pytest.mark.skipif(os.name != "posix", reason="the stand-in for nvidia-smi is a script of a shell")
README = Path(__file__).parent.parent / "README.md"


@pytest.fixture
def bare(tmp_path, monkeypatch):
    """A machine without a GPU: a folder for programs and one for the system's files, both empty."""
    (tmp_path / "programs").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "programs"))
    monkeypatch.setattr(gpus, "SYS", tmp_path / "sys")
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    gpus._engine_uses_one.cache_clear()
    yield tmp_path
    gpus._engine_uses_one.cache_clear()


def nvidia(folder: Path, said: str = "Tesla T4", status: int = 0) -> None:
    program = folder / "programs" / "nvidia-smi"
    program.write_text(f"#!/bin/sh\necho '{said}'\nexit {status}\n")
    program.chmod(0o755)


def card(folder: Path, vendor: str, place: str) -> None:
    device = folder / "sys" / "devices" / place
    device.mkdir(parents=True)
    (device / "vendor").write_text(f"{vendor}\n")
    (folder / "sys/class/drm/card1").mkdir(parents=True)
    (folder / "sys/class/drm/card1/device").symlink_to(device)


def kfd(folder: Path, number: str) -> None:
    node = folder / "sys/class/kfd/kfd/topology/nodes/1"
    node.mkdir(parents=True)
    (node / "gpu_id").write_text(f"{number}\n")


def test_each_kind_of_gpu_is_found(bare, monkeypatch):
    assert gpus.gpu() is None and gpus.idle_gpu() is None
    nvidia(bare, "NVIDIA-SMI has failed", 9)
    assert gpus.gpu() is None
    nvidia(bare)
    assert gpus.gpu() == ("Tesla T4", "CUDA")
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    monkeypatch.setattr(platform, "machine", lambda: "arm64")
    assert gpus.gpu() == ("Apple's", "Metal")


@pytest.mark.parametrize(("number", "found"), [("0", None), ("51152", ("AMD's", "ROCm"))])
def test_amds_driver_names_its_gpus(bare, number, found):
    kfd(bare, number)
    assert gpus.gpu() == found


@pytest.mark.parametrize(
    ("vendor", "place", "found"),
    [
        ("0x1002", "0000:03:00.0", ("AMD's", "Vulkan")),
        ("0x8086", "0000:03:00.0", ("Intel's", "Vulkan")),
        ("0x8086", "0000:00:02.0", None),  # the one in the processor
        ("0x1234", "0000:03:00.0", None),
    ],
)
def test_other_cards_go_through_vulkan(bare, vendor, place, found):
    card(bare, vendor, place)
    assert gpus.gpu() == found


def test_an_engine_that_uses_it_is_not_complained_of(bare, monkeypatch):
    nvidia(bare)
    real = gpus._said
    for said, complains in (("False\n", True), ("True\n", False), ("", False)):
        gpus._engine_uses_one.cache_clear()
        with monkeypatch.context() as patch:
            patch.setattr(gpus, "_said", lambda command, said=said: said if "-m" in command else real(command))
            found = gpus.idle_gpu()
        assert bool(found) == complains
    monkeypatch.setattr(gpus, "find_spec", lambda name: None)
    assert gpus.idle_gpu() is None


@pytest.mark.slow
def test_chat_serve_and_doctor_say_it_once(bare, gguf, capsys):
    nvidia(bare)
    sentence = gpus.idle_gpu()
    assert sentence == (
        "There is a GPU (Tesla T4), and the installed llama.cpp computes on the processor alone; bring one for CUDA "
        "with: python -m pip install --force-reinstall --no-deps xllamacpp --index-url "
        "https://xorbitsai.github.io/xllamacpp/whl/cu128"
    )
    command = [sys.executable, "-m", "llmnotes.cli"]
    words = ["chat", str(gguf), "--threads", "1", "--max-tokens", "2"]
    how = {"input": "Hi\n", "capture_output": True, "text": True, "timeout": 120}
    done = subprocess.run([*command, *words], **how)
    assert done.stderr.count(sentence) == 1
    done = subprocess.run([*command, *words, "--gpu-layers", "0"], **how)
    assert "There is a GPU" not in done.stderr  # nobody asked for it
    with serving(gguf, "--threads", "1") as running:
        assert sentence in running.read()
    cli.main(["doctor"])
    assert capsys.readouterr().out.count(sentence) == 1


def test_the_readme_has_the_line_for_each():
    text = README.read_text(encoding="utf-8")
    assert all(line in text for line in gpus.INSTALL.values())
