"""llama.cpp's server in a process of its own, which ends with the one that started it.

What breaks llama.cpp breaks nothing else, and its end never waits: asked to stop in the process that uses it, the
server of xllamacpp 2026.10 may wait for ever in a call that accepts the next client.
"""

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from llmnotes import errors
from llmnotes.errors import LLMNotesError, ProcessDied
from llmnotes.llama_cpp.engine import start
from llmnotes.llama_cpp.model_file import ModelFile
from llmnotes.llama_cpp.trial import quick


class Child:
    """A process that runs `engine.start(model, **wish)`; `address` is where it answers. Raises what `start` raises."""

    def __init__(self, model: ModelFile, wish: dict):
        command = [sys.executable, "-m", "llmnotes.llama_cpp.child"]
        pipe, nowhere = subprocess.PIPE, subprocess.DEVNULL
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=nowhere, env=quick())
        try:
            self.process.stdin.write(json.dumps([asdict(model) | {"path": str(model.path)}, wish]).encode() + b"\n")
            self.process.stdin.flush()
            said = json.loads(self.process.stdout.readline() or "{}")
        except BaseException as error:
            self.close()
            if isinstance(error, OSError | ValueError):
                said = {}
            else:  # Ctrl-C
                raise
        if "address" not in said:
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(5)  # it is about to die, and says how
            self.close()
            kind = getattr(errors, said.get("error", ""), ProcessDied)
            raise kind(
                said.get("sentence")
                or f"The process that loads {model.path.name} died with exit status {self.process.returncode}; if the "
                "model is larger than the memory that is free, take fewer bits or a shorter context."
            )
        self.address = said["address"]

    def close(self) -> None:
        """End the process; an answer that is under way is cut."""
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            with suppress(OSError):  # what was still to be written to it
                pipe.close()


def main() -> None:
    """Start what the first line of standard input says, print the address, and end when the input does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for who started this
    out, sys.stdout = sys.stdout, sys.stderr
    model, wish = json.loads(sys.stdin.readline())
    try:
        server = start(ModelFile(**model | {"path": Path(model["path"])}), **wish)
        said = {"address": server.listening_address}
    except LLMNotesError as error:
        said = {"error": type(error).__name__, "sentence": str(error)}
    print(json.dumps(said), file=out, flush=True)
    if "address" in said:
        sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main()
