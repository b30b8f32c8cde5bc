"""The real `llmnotes serve`, in a process of its own."""

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from contextlib import contextmanager

from .processes import SECONDS, limited, started

OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Process:
    """A server that runs: `url` ends in /v1."""

    def __init__(self, process, key: str | None):
        self.process, self.key = process, key
        self.line = self.read()
        self.url = next(word for word in self.line.split() if word.startswith("http://"))
        self.port = int(self.url.split(":")[2].split("/")[0])

    def ask(self, page: str, wish=None, key: str | None = None) -> tuple[int, bytes]:
        """Return the HTTP status and the body of one page; `wish` may be bytes that are no JSON."""
        data = wish if wish is None or isinstance(wish, bytes) else json.dumps(wish).encode()
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {key or self.key}"}
        try:
            with OPENER.open(urllib.request.Request(self.url + page, data, headers), timeout=60) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()

    def end(self, number: int = signal.SIGINT) -> int:
        """Do what Ctrl-C does, or send another signal, and return the exit status."""
        self.process.send_signal(number)
        return self.process.wait(SECONDS)

    def read(self) -> str:
        """Return the next line that it prints, or "" where it prints none in time: it is ended then."""
        with limited(self.process):
            return self.process.stdout.readline()


@contextmanager
def serving(model, *options: str, key: str | None = None):
    """Serve `model` at any free port until the block ends."""
    command = [sys.executable, "-m", "llmnotes.cli", "serve", str(model), "--port", "0", *options]
    environment = os.environ | ({"LLMNOTES_API_KEY": key} if key else {})
    with started(command, stdout=subprocess.PIPE, text=True, encoding="utf-8", env=environment) as process:
        yield Process(process, key)
