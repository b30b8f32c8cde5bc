"""Open the lessons in JupyterLab."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

from llmnotes.course import environment, notebooks
from llmnotes.errors import MissingPart


def open_lab(folder: Path, *, browser: bool = True) -> int:
    """Run JupyterLab in `folder`, at its first notebook, until it ends; return its exit status.

    Raises `MissingPart` without jupyterlab.
    """
    if importlib.util.find_spec("jupyterlab") is None:
        raise MissingPart('jupyterlab is missing; bring it with: python -m pip install "llmnotes[course,lab]"')
    first = notebooks(folder)[0].relative_to(folder).as_posix()
    command = [sys.executable, "-m", "jupyterlab", f"--LabApp.default_url=/lab/tree/{first}"]
    if not browser:
        command.append("--no-browser")
    if hasattr(os, "geteuid") and os.geteuid() == 0:  # in a container, say
        command.append("--allow-root")
    try:
        return subprocess.run(command, cwd=folder, env=environment(), check=False).returncode
    except KeyboardInterrupt:
        return 0
