"""llama.cpp itself, through xllamacpp: what it makes of a GGUF file."""

import base64
import ctypes
import importlib.util
import json
import urllib.request
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pytest


class LlamaCpp:
    """A GGUF file opened by llama.cpp."""

    def __init__(self, server):
        self.server = server

    def tokens(self, text: str) -> list[int]:
        """Return the tokens of `text`, those that the file says are added included."""
        return self._ask("tokenize", {"content": text, "add_special": True, "parse_special": True})["tokens"]

    def seen(self, prompt: str, image: bytes, count: int) -> list[int]:
        """Return the tokens that follow greedily when the file `image` stands where `prompt` says <image>."""
        with urllib.request.urlopen(f"{self.server.listening_address}/props", timeout=60) as answer:
            marker = json.load(answer)["media_marker"]
        media = {
            "prompt_string": prompt.replace("<image>", marker),
            "multimodal_data": [base64.b64encode(image).decode()],
        }
        wish = {"prompt": media, "n_predict": count, "temperature": 0.0, "top_k": 1, "return_tokens": True}
        return self._ask("completion", wish)["tokens"]

    def greedy(self, prompt: str, count: int) -> tuple[str, list[int]]:
        """Return the text and the tokens that follow `prompt` when the most probable token is always taken."""
        wish = {"prompt": prompt, "n_predict": count, "temperature": 0.0, "top_k": 1, "return_tokens": True}
        answer = self._ask("completion", wish)
        return answer["content"], answer["tokens"]

    def next_tokens(self, prompt: list[int], count: int) -> list[tuple[int, float]]:
        """Return the `count` most probable next tokens with the logarithm of their probability."""
        wish = {"prompt": prompt, "n_predict": 1, "temperature": 0.0, "n_probs": count}
        # What is said is whole: a token that is half a character would not be reported. It changes no probability.
        answer = self._ask("completion", wish | {"logit_bias": [["a", 100.0]]})
        return [(entry["id"], entry["logprob"]) for entry in answer["completion_probabilities"][0]["top_logprobs"]]

    def _ask(self, what: str, question: dict) -> dict:
        request = urllib.request.Request(
            f"{self.server.listening_address}/{what}",
            json.dumps(question).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)


@contextmanager
def opened(path: Path, projector: Path | None = None, adapter: Path | None = None):
    """Open a GGUF file with llama.cpp on one thread, with a LLaVA's projector file or an adapter if there is one."""
    import xllamacpp

    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(path)
    parameters.n_ctx = 512
    parameters.n_parallel = 1
    parameters.cache_type_k = parameters.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32  # as PyTorch keeps them
    parameters.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    parameters.cpuparams.n_threads = 1
    parameters.cpuparams_batch.n_threads = 1
    parameters.warmup = False
    parameters.verbosity = -1
    parameters.fit_params = False
    parameters.port = 0
    parameters.n_gpu_layers = 0
    if adapter is not None:
        parameters.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(str(adapter), 1.0)]
    if projector is not None:
        parameters.mmproj.path = str(projector)
        parameters.mmproj_use_gpu = False
    server = xllamacpp.Server(parameters)
    try:
        yield LlamaCpp(server)
    finally:
        del server


def quantize_chunk(name: str, rows, importance=None):
    """Return float32 rows in the type `name` as llama.cpp's C makes them: uint8 (rows, bytes)."""
    import numpy as np

    from llmnotes.formats.gguf.types import NUMBERS
    from llmnotes.formats.results import DTYPES

    elements, nbytes = DTYPES[name]
    out = np.zeros((len(rows), rows.shape[1] // elements * nbytes), np.uint8)
    weights = None if importance is None else importance.ctypes.data
    _quantizer()(NUMBERS[name], rows.ctypes.data, out.ctypes.data, 0, *rows.shape, weights)
    return out


@cache
def _quantizer():
    """Return `ggml_quantize_chunk` from the library in xllamacpp."""
    found = importlib.util.find_spec("xllamacpp")
    if found is None:
        pytest.skip("llama.cpp is not installed")
    library = ctypes.CDLL(str(next(Path(found.origin).parent.glob("xllamacpp.*.so"))))
    function = library.ggml_quantize_chunk
    function.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, *[ctypes.c_int64] * 3, ctypes.c_void_p]
    function.restype = ctypes.c_size_t
    return function
