"""A GPU that is in the machine, and whether the installed llama.cpp can use it."""

import os
import platform
import shutil
import subprocess
import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from llmnotes.llama_cpp.packages import xllamacpp
from llmnotes.llama_cpp.trial import environment

SECONDS = 30
SYS = Path("/sys")
WHEELS = "https://xorbitsai.github.io/xllamacpp/whl"
VENDORS = {"0x1002": "AMD", "0x8086": "Intel"}  # PCI's numbers
INTEGRATED = "0000:00:02.0"  # where Intel's processors have their own small GPU, which is no faster than they are
# How to get an xllamacpp that uses a GPU, by the interface that it is used through; the one on PyPI knows Metal alone.
FORCED = "python -m pip install --force-reinstall --no-deps xllamacpp"
INSTALL = {
    "CUDA": f"{FORCED} --index-url {WHEELS}/cu128",
    "ROCm": f"{FORCED} --index-url {WHEELS}/rocm-7.2.4",
    "Vulkan": f"{FORCED} --index-url {WHEELS}/vulkan",
    "Metal": FORCED,
}


def idle_gpu() -> str | None:
    """Return one sentence if there is a GPU that the installed llama.cpp cannot use, with what to install; else None.

    Asks the system's files and nvidia-smi, and, where there is a GPU, llama.cpp in a child process. Does not find a GPU
    whose driver is missing, and on Windows none but NVIDIA's.
    """
    found = gpu()
    if found is None or not find_spec("xllamacpp") or _engine_uses_one():
        return None
    name, interface = found
    return (
        f"There is a GPU ({name}), and the installed llama.cpp computes on the processor alone; bring one for "
        f"{interface} with: {INSTALL[interface]}"
    )


def gpu() -> tuple[str, str] | None:
    """Return (name, interface of `INSTALL`) of the GPU in this machine, or None; it need not be usable."""
    if platform.system() == "Darwin":
        return ("Apple's", "Metal") if platform.machine() == "arm64" else None
    smi = shutil.which("nvidia-smi")
    if smi:
        asked = _said([smi, "--query-gpu=name", "--format=csv,noheader"])
        if asked:
            return asked.splitlines()[0].strip()[:60], "CUDA"
    if any(_text(node).strip() not in ("", "0") for node in SYS.glob("class/kfd/kfd/topology/nodes/*/gpu_id")):
        return "AMD's", "ROCm"
    for card in sorted(SYS.glob("class/drm/card[0-9]*/device")):
        vendor = VENDORS.get(_text(card / "vendor").strip())
        if vendor and os.path.basename(os.path.realpath(card)) != INTEGRATED:
            return f"{vendor}'s", "Vulkan"
    return None


@cache
def _engine_uses_one() -> bool:
    """Whether llama.cpp finds a GPU; True where it cannot be asked, as nothing is known then."""
    return _said([sys.executable, "-m", "llmnotes.llama_cpp.gpus"]).strip() != "False"


def _said(command: list[str]) -> str:
    """Return what a program prints, "" if it fails."""
    try:
        done = subprocess.run(command, capture_output=True, timeout=SECONDS, env=environment(), text=True)
    except (OSError, subprocess.TimeoutExpired, UnicodeDecodeError):
        return ""
    return done.stdout if done.returncode == 0 else ""


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


if __name__ == "__main__":
    print(any("GPU" in str(device["type"]) for device in xllamacpp().get_device_info()))
