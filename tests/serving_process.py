"""The real `llmnotes serve`, in a process of its own."""

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from contextlib import contextmanager

OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Process:
    """A server that runs: `url` ends in /v1."""

    def __init__(self, process, line: str, key: str | None):
        self.process, self.line, self.key = process, line, key
        self.url = next(word for word in line.split() if word.startswith("http://"))
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

    def end(self) -> int:
        """Do what Ctrl-C does and return the exit status."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(10)


@contextmanager
def serving(model, *options: str, key: str | None = None):
    """Serve `model` at any free port until the block ends."""
    command = [sys.executable, "-m", "llmnotes.cli", "serve", str(model), "--port", "0", *options]
    environment = os.environ | ({"LLMNOTES_API_KEY": key} if key else {})
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, encoding="utf-8", env=environment)
    with process:
        try:
            yield Process(process, process.stdout.readline(), key)
        finally:
            process.kill()
