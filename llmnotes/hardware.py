"""What this machine has (cores, memory, an accelerator, packages), and what is missing on it."""

import os
import platform
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from llmnotes.parts import NEEDED, REAL_MODELS, bring, parts, version


@dataclass(frozen=True)
class Machine:
    """Cores that this process may use, memory in bytes, the accelerator's name or None, and versions."""

    system: str
    python: str
    cores: int
    memory: int
    memory_free: int
    gpu: str | None
    gpu_memory: int
    versions: dict[str, str]
    missing: dict[str, str]  # package that the course needs -> the command that installs it
    optional: dict[str, str]  # package that something else can use, and is not here -> the same

    def as_dict(self) -> dict:
        """Return the report as plain types, ready for JSON."""
        return asdict(self)

    def as_text(self) -> str:
        """Return the report as text, one fact a line, memory in GiB.

        >>> print(this_machine().as_text().splitlines()[1])                # doctest: +ELLIPSIS
        cores    ...
        """
        gib = 2**30
        lines = [
            f"system   {self.system}, Python {self.python}",
            f"cores    {self.cores}",
            f"memory   {self.memory / gib:.1f} GiB, {self.memory_free / gib:.1f} GiB free",
        ]
        if self.gpu is None:
            lines.append("GPU      none: every notebook runs without one")
        else:
            lines.append(f"GPU      {self.gpu}" + (f", {self.gpu_memory / gib:.1f} GiB" * bool(self.gpu_memory)))
        lines += [f"{name:<13}{version}" for name, version in self.versions.items()]
        lines += [f"{name:<13}missing; install it with: {command}" for name, command in self.missing.items()]
        if self.optional:
            lines.append("not here, and needed for some things only:")
            lines += [f"  {what}: {command}" for what, command in self.optional.items()]
        return "\n".join(lines)


def cores() -> int:
    """Return how many cores this process may use, at least 1; the scheduler may allow fewer than the machine has.

    Does not know about a container's quota of processor time, which is a share and no number of cores.

    >>> cores() >= 1
    True
    """
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def memory() -> tuple[int, int]:
    """Return (total, available) main memory in bytes, as the operating system reports it.

    Does not know about the quota of a container: there the machine's own memory is returned.

    >>> total, available = memory()
    >>> 0 < available <= total
    True
    """
    import psutil

    state = psutil.virtual_memory()
    return state.total, state.available


def peak_memory() -> int:
    """Return the most main memory that this process has held so far, in bytes (its peak resident set).

    Does not count the process's children, nor memory on a GPU.

    >>> peak_memory() > 1_000_000
    True
    """
    status = Path("/proc/self/status")
    if status.exists():  # Linux; getrusage would report the parent's peak until ours passes it
        return 1024 * int(status.read_text(encoding="utf-8").split("VmHWM:")[1].split()[0])
    if sys.platform == "win32":
        import psutil

        return psutil.Process().memory_info().peak_wset
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # macOS counts bytes


def measure(code: str, setup: str = "", folder: str | Path | None = None) -> tuple[float, int]:
    """Return (seconds, bytes) that `code` takes in a fresh process, run in `folder` after `setup`.

    The bytes are how far the process's peak memory has grown beyond what it was after `setup`. Raises
    `subprocess.CalledProcessError` if the process fails. Runs once: a first run may wait for a disk.

    >>> seconds, grown = measure("x = b'x' * 50_000_000")
    >>> seconds < 10 and grown > 40_000_000
    True
    """
    import subprocess

    script = (
        f"{setup}\nimport time as _time\nfrom llmnotes.hardware import peak_memory as _peak\n"
        f"_before, _start = _peak(), _time.perf_counter()\n{code}\n"
        "print(_time.perf_counter() - _start, _peak() - _before)"
    )
    child = subprocess.run([sys.executable, "-c", script], cwd=folder, capture_output=True, text=True, check=True)
    seconds, grown = child.stdout.split()[-2:]
    return float(seconds), int(grown)


def gpu() -> tuple[str | None, int]:
    """Return (name, memory in bytes) of the first accelerator that torch can use, or (None, 0).

    On Apple silicon the memory is 0, since the GPU shares main memory. Imports torch.
    """
    import torch

    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        return properties.name, properties.total_memory
    if torch.backends.mps.is_available():
        return "Apple GPU (MPS)", 0
    return None, 0


def this_machine() -> Machine:
    """Return what this machine has: cores, memory, accelerator, versions, and what is missing with the command for it.

    What is needed is the core and what the lessons import, the extra `course`; every other extra is named as optional.

    Imports torch if it is installed, to ask for the GPU; loads no model and needs no network.

    >>> this_machine().cores >= 1
    True
    """
    needed = [name for extra in NEEDED for name in parts().get(extra, {})]
    versions = {name: found for name in needed if (found := version(name))}
    missing = {name: bring(name) for name in needed if name not in versions}
    optional = {}
    for extra, packages in parts().items():
        absent = [name for name in packages if name not in needed and version(name) is None]
        if extra != "dev" and absent:
            optional[f"{extra} ({', '.join(absent)})"] = bring(*absent)
    absent = [name for name in REAL_MODELS if version(name) is None]
    if absent:
        optional[f"real models ({', '.join(absent)})"] = bring(*absent)
    name, gpu_bytes = gpu() if "torch" in versions else (None, 0)
    total, free = memory()
    return Machine(
        f"{platform.system()} {platform.machine()}",
        platform.python_version(),
        cores(),
        total,
        free,
        name,
        gpu_bytes,
        versions,
        missing,
        optional,
    )
