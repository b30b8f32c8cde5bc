"""Processes that a test starts: none is left behind, and none is waited for without end."""

import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

SECONDS = 120


@contextmanager
def started(command: list[str], **how) -> Iterator[subprocess.Popen]:
    """Start a process, which is killed at the end of the block, whatever happened in it."""
    process = subprocess.Popen(command, **how)
    try:
        yield process
    finally:
        process.kill()
        process.wait(SECONDS)
        for pipe in (process.stdin, process.stdout, process.stderr):
            with suppress(OSError):  # what was not written yet cannot be written any more
                if pipe:
                    pipe.close()


@contextmanager
def limited(process: subprocess.Popen, seconds: float = SECONDS) -> Iterator[None]:
    """Kill a process after so many seconds in the block: what reads from it reads its end then, and does not hang."""
    timer = threading.Timer(seconds, process.kill)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
