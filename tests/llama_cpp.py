"""llama.cpp itself, through xllamacpp: what it makes of a GGUF file."""

import json
import urllib.request
from contextlib import contextmanager
from pathlib import Path


class LlamaCpp:
    """A GGUF file opened by llama.cpp."""

    def __init__(self, server):
        self.server = server

    def tokens(self, text: str) -> list[int]:
        """Return the tokens of `text`, those that the file says are added included."""
        return self._ask("tokenize", {"content": text, "add_special": True, "parse_special": True})["tokens"]

    def greedy(self, prompt: str, count: int) -> tuple[str, list[int]]:
        """Return the text and the tokens that follow `prompt` when the most probable token is always taken."""
        wish = {"prompt": prompt, "n_predict": count, "temperature": 0.0, "top_k": 1, "return_tokens": True}
        answer = self._ask("completion", wish)
        return answer["content"], answer["tokens"]

    def _ask(self, what: str, question: dict) -> dict:
        request = urllib.request.Request(
            f"{self.server.listening_address}/{what}",
            json.dumps(question).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)


@contextmanager
def opened(path: Path):
    """Open a GGUF file with llama.cpp on one thread."""
    import xllamacpp

    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(path)
    parameters.n_ctx = 512
    parameters.n_parallel = 1
    parameters.cpuparams.n_threads = 1
    parameters.cpuparams_batch.n_threads = 1
    parameters.warmup = False
    parameters.verbosity = -1
    parameters.fit_params = False
    parameters.port = 0
    parameters.n_gpu_layers = 0
    server = xllamacpp.Server(parameters)
    try:
        yield LlamaCpp(server)
    finally:
        del server
