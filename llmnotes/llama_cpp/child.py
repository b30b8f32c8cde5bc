"""llama.cpp's server in a child process: the only place that starts one.

A crash of llama.cpp then ends the child and not the notebook. And closing never hangs: in the process that uses it,
stopping the server of xllamacpp 2026.10 may block for ever in the call that accepts the next client.
"""

import json
import os
import secrets
import signal
import subprocess
import sys
import weakref
from contextlib import suppress
from dataclasses import asdict
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import ProxyHandler, Request, build_opener

from llmnotes import errors
from llmnotes.errors import LLMNotesError, ProcessDied, ServerFailed
from llmnotes.llama_cpp.engine import start
from llmnotes.llama_cpp.model_file import ModelFile
from llmnotes.llama_cpp.trial import environment

SECONDS = 600  # how long one answer may take


class Child:
    """A process that runs `engine.start(model, **settings)`.

    `address` is where the server answers, such as http://127.0.0.1:40123, and `key` what it wants to be sent. The
    process ends with `close`, when nothing refers to this object any more, and with the process that started it.

    Raises what `start` raises, and `ProcessDied`.
    """

    def __init__(self, model: ModelFile, **settings: str | int | bool | None):
        self.model, self.key = model, secrets.token_hex(16)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "llmnotes.llama_cpp.child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment(),
        )
        self._end = weakref.finalize(self, _end, self.process)
        request = [asdict(model) | {"path": str(model.path)}, settings | {"key": self.key}]
        answer = {}
        try:
            assert self.process.stdin and self.process.stdout
            self.process.stdin.write(json.dumps(request).encode() + b"\n")
            self.process.stdin.flush()
            answer = json.loads(self.process.stdout.readline() or "{}")
        except (OSError, ValueError):
            pass  # the process has died, which is reported below
        except BaseException:  # Ctrl-C
            self.close()
            raise
        if "address" not in answer:
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(5)  # it is about to end by itself, with the exit status that is reported
            self.close()
            kind = getattr(errors, answer.get("error", ""), ProcessDied)
            raise kind(
                answer.get("sentence")
                or f"The process that loads {model.path.name} died with exit status {self.process.returncode}; if the "
                "model is larger than the memory that is free, take fewer bits or a shorter context."
            )
        self.address = answer["address"]

    def tokenize(self, text: str) -> list[int]:
        """Return the tokens of `text`, with those that the file says to add. Raises `ServerFailed`."""
        return self.ask("/tokenize", content=text, add_special=True, parse_special=True)["tokens"]

    def greedy(self, ids: list[int], count: int) -> list[int]:
        """Return the `count` tokens after `ids`, always the most probable; fewer if the text ends.

        Raises `ServerFailed`.
        """
        sampling = {"n_predict": count, "temperature": 0, "top_k": 1, "repeat_penalty": 1}
        return self.ask("/completion", prompt=ids, return_tokens=True, cache_prompt=False, **sampling)["tokens"]

    def ask(self, path: str, **parameters: object) -> dict:
        """Return what llama.cpp's own endpoint `path` answers; without parameters, GET it. Raises `ServerFailed`."""
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self.key}"}
        request = Request(self.address + path, json.dumps(parameters).encode() if parameters else None, headers)
        opener = build_opener(ProxyHandler({}))  # a proxy cannot reach this machine's own ports
        try:
            with opener.open(request, timeout=SECONDS) as answer:
                return json.load(answer)
        except (OSError, HTTPException, ValueError) as error:
            if isinstance(error, HTTPError):
                error.close()  # it is an open answer, too
            raise ServerFailed(
                f"llama.cpp does not answer for {self.model.name} ({error}); load the model again."
            ) from None

    def close(self) -> None:
        """End the process; an answer that is being written is cut off."""
        self._end()


def _end(process: subprocess.Popen) -> None:
    process.kill()
    with suppress(subprocess.TimeoutExpired):  # one that a driver holds; nobody waits for it
        process.wait(10)
    for pipe in (process.stdin, process.stdout):
        with suppress(OSError):  # what was not written yet cannot be written any more
            if pipe:
                pipe.close()


def main() -> None:
    """Start the server that the first line of standard input describes, print its address, and end with the input."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that started this one
    out, sys.stdout = sys.stdout, sys.stderr  # llama.cpp may print; only our one line goes to standard output
    model, settings = json.loads(sys.stdin.readline())
    try:
        server = start(ModelFile(**model | {"path": Path(model["path"])}), **settings)
        answer = {"address": server.listening_address}
    except LLMNotesError as error:
        answer = {"error": type(error).__name__, "sentence": str(error)}
    print(json.dumps(answer), file=out, flush=True)
    if "address" in answer:
        sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main()
