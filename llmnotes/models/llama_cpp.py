"""A GGUF file as llama.cpp itself runs it."""

import json
from collections.abc import Callable
from pathlib import Path
from urllib.request import ProxyHandler, Request, build_opener

from llmnotes.errors import MissingPart


def tokens_and_greedy(path: Path) -> tuple[Callable[[str], list[int]], Callable[[list[int], int], list[int]]]:
    """Load `path` into llama.cpp; return how it cuts a string into tokens, and its greedy continuation of tokens.

    Raises `MissingPart` without xllamacpp. The engine answers on a port of this machine until both functions are gone.
    """
    try:
        import xllamacpp
    except ImportError:
        raise MissingPart('xllamacpp is missing; bring it with: python -m pip install "llmnotes[course]"') from None
    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.n_ctx = 512
    params.n_parallel = 1
    params.warmup = False
    params.verbosity = -1
    server = xllamacpp.Server(params)
    opener = build_opener(ProxyHandler({}))  # a proxy knows nothing of this machine's own ports

    def ask(page: str, **wish) -> dict:
        request = Request(
            server.listening_address + page, json.dumps(wish).encode(), {"Content-Type": "application/json"}
        )
        with opener.open(request, timeout=600) as answer:
            return json.load(answer)

    def tokens(string: str) -> list[int]:
        return ask("/tokenize", content=string, add_special=True, parse_special=True)["tokens"]

    def greedy(ids: list[int], count: int) -> list[int]:
        wish = {"n_predict": count, "temperature": 0, "top_k": 1, "repeat_penalty": 1}
        return ask("/completion", prompt=ids, return_tokens=True, cache_prompt=False, **wish)["tokens"]

    return tokens, greedy
