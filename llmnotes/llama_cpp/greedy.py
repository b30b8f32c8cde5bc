"""A GGUF file as llama.cpp itself runs it, in a process of its own.

In the process that uses it, the end of xllamacpp's server may wait for ever.
"""

import json
import os
import signal
import subprocess
import sys
import weakref
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from urllib.request import ProxyHandler, Request, build_opener

from llmnotes.errors import MissingPart, ModelBroken


def tokens_and_greedy(path: Path) -> tuple[Callable[[str], list[int]], Callable[[list[int], int], list[int]]]:
    """Load `path` into llama.cpp; return how it cuts a string into tokens, and its greedy continuation of tokens.

    Raises `MissingPart` without xllamacpp, and `ModelBroken`. The engine answers on a port of this machine until both
    functions are gone, and ends with this process.
    """
    if find_spec("xllamacpp") is None:
        raise MissingPart('xllamacpp is missing; bring it with: python -m pip install "llmnotes[serve]"')
    command, pipe = [sys.executable, "-m", "llmnotes.llama_cpp.greedy", str(path)], subprocess.PIPE
    process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL)
    address = process.stdout.readline().decode().strip()
    if not address:
        _end(process)
        raise ModelBroken(f"llama.cpp does not load {path.name}; make it again with llmnotes convert.")
    opener = build_opener(ProxyHandler({}))  # a proxy knows nothing of this machine's own ports

    def ask(page: str, **wish) -> dict:
        request = Request(address + page, json.dumps(wish).encode(), {"Content-Type": "application/json"})
        with opener.open(request, timeout=600) as answer:
            return json.load(answer)

    def tokens(string: str) -> list[int]:
        return ask("/tokenize", content=string, add_special=True, parse_special=True)["tokens"]

    def greedy(ids: list[int], count: int) -> list[int]:
        wish = {"n_predict": count, "temperature": 0, "top_k": 1, "repeat_penalty": 1}
        return ask("/completion", prompt=ids, return_tokens=True, cache_prompt=False, **wish)["tokens"]

    weakref.finalize(ask, _end, process)
    return tokens, greedy


def _end(process) -> None:
    process.kill()
    process.wait()
    process.stdin.close()
    process.stdout.close()


def main(path: str) -> None:
    """Start llama.cpp's server for `path`, print its address, and end when standard input does."""
    import xllamacpp

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for who started this
    params = xllamacpp.CommonParams()
    params.model.path = path
    params.n_ctx = 512
    params.n_parallel = 1
    params.warmup = False
    params.verbosity = -1
    server = xllamacpp.Server(params)
    print(server.listening_address, flush=True)
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1])
