"""Open the lessons in JupyterLab."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

from llmnotes.course import environment, notebooks
from llmnotes.errors import MissingPart
from llmnotes.parts import bring, missing_of


def open_lab(folder: Path, *, browser: bool = True) -> int:
    """Run JupyterLab in `folder`, at its first notebook, until it ends; return its exit status, 130 after Ctrl-C.

    Ctrl-C is JupyterLab's own, which asks before it stops. Raises `MissingPart` without jupyterlab.
    """
    if importlib.util.find_spec("jupyterlab") is None:
        raise MissingPart(f"jupyterlab is missing; bring it with: {bring(*(missing_of('lab') or ['jupyterlab']))}")
    first = notebooks(folder)[0].relative_to(folder).as_posix()
    command = [sys.executable, "-m", "jupyterlab", f"--LabApp.default_url=/lab/tree/{first}"]
    if not browser:
        command.append("--no-browser")
    if hasattr(os, "geteuid") and os.geteuid() == 0:  # in a container, say
        command.append("--allow-root")
    process, stopped = subprocess.Popen(command, cwd=folder, env=environment()), False
    while True:
        try:
            status = process.wait()
        except KeyboardInterrupt:
            stopped = True
        else:
            return 130 if stopped and not status else status
