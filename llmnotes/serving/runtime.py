"""A model that llama.cpp runs in a child process."""

import math
from typing import TYPE_CHECKING

from llmnotes.errors import DoesNotFit, UnknownName
from llmnotes.hardware import cores
from llmnotes.llama_cpp.child import Child
from llmnotes.llama_cpp.engine import ALL_LAYERS
from llmnotes.llama_cpp.library import Model
from llmnotes.llama_cpp.memory import ReportedMemory, reported_memory
from llmnotes.llama_cpp.model_file import ModelFile
from llmnotes.serving.client import Client

if TYPE_CHECKING:
    import numpy as np


class Runtime(Client):
    """A loaded model: everything that a `Client` offers, and also tokens, logits, perplexity and memory.

    `file` is what the header of its GGUF says. llama.cpp's server runs in a child process, which ends with this one; it
    listens on a port of 127.0.0.1 and wants a key that only this object has.
    """

    def __init__(
        self,
        model: ModelFile,
        n_threads: int | None,
        n_gpu_layers: int | None,
        n_ctx: int,
        exact: bool,
        **more: str | None,
    ):
        sizes = {"n_threads": n_threads, "n_gpu_layers": n_gpu_layers, "n_ctx": n_ctx}
        self._child = Child(model, **sizes, exact=exact, **more)
        super().__init__(self._child.address + "/v1", self._child.key, model.name)
        self.file, self.n_ctx, self.n_threads = model, n_ctx, n_threads or cores()
        self.n_gpu_layers = ALL_LAYERS if n_gpu_layers is None else n_gpu_layers
        self.sees = more.get("mmproj") is not None  # whether it takes pictures
        self._exact = exact
        self._library_model: Model | None = None  # opened when logits are asked for, which the server does not give

    def tokenize(self, text: str) -> list[int]:
        """Return the tokens of `text`, with those that the file says to add."""
        return self._child.tokenize(text)

    def logits(self, text: str | list[int]) -> "np.ndarray":
        """Return the logits after each token of `text`: a float32 array (tokens, vocabulary).

        Keys and values are kept as float32, so that they are as exact as llama.cpp can be. Raises `DoesNotFit` for a
        text longer than `n_ctx`, `UnknownName` for an empty one and for tokens that do not exist, and `MissingPart`
        where the C functions of xllamacpp cannot be called. Does not keep anything for the next call.

        >>> from llmnotes.serving import load
        >>> with load("pebble") as pebble:
        ...     pebble.logits("The goose says honk.").shape[1]
        2048
        """
        ids = self.tokenize(text) if isinstance(text, str) else list(text)
        if len(ids) > self.n_ctx:
            raise DoesNotFit(f"The text has {len(ids):,} tokens, and n_ctx is {self.n_ctx:,}; give a shorter one.")
        return self._logits(ids)

    def perplexity(self, text: str, window: int = 256) -> float:
        """Return exp(mean negative log-likelihood per token) of `text`, cut as `metrics.perplexity` cuts it.

        Raises what `logits` raises, and `UnknownName` for a text of fewer than two tokens.

        Does not equal that of PyTorch to the last digit: llama.cpp rounds the activations in its matrix products to
        F16 or to blocks of 8 bits, depending on the type of the weights.

        >>> from llmnotes.serving import load
        >>> with load("pebble") as pebble:
        ...     pebble.perplexity("The goose says honk.") < 50
        True
        """
        import numpy as np

        ids, losses = self.tokenize(text), []
        for begin in range(0, len(ids), window):
            piece = ids[begin : begin + window]
            if len(piece) > 1:
                # The loss of a token is -log softmax(logits)[token], with the logits that stand before it.
                logits = self.logits(piece)[:-1].astype(np.float64)  # (tokens - 1, vocabulary)
                logits -= logits.max(-1, keepdims=True)
                of_the_token = logits[np.arange(len(logits)), piece[1:]]
                losses.append(np.log(np.exp(logits).sum(-1)) - of_the_token)
        if not losses:
            raise UnknownName("The text has fewer than two tokens, so there is nothing to predict; give a longer text.")
        return math.exp(np.concatenate(losses).mean())

    def memory(self) -> ReportedMemory:
        """Return the memory that llama.cpp reports: weights by layer, key-value cache, compute buffers, in bytes.

        A child process loads the model once more to count it; the weights are mapped, and shared with it. Raises what
        `reported_memory` raises. `llmnotes.fit` computes how many layers to put on a GPU before anything is loaded:

        >>> from llmnotes.fit import fit
        >>> found = fit("llama-2-7b", vram="6GB", ram="16GB", context=4096, precision="Q4_K_M")
        >>> found.options[0].n_gpu_layers
        29
        """
        return reported_memory(self.file.path, self.n_ctx, n_gpu_layers=self.n_gpu_layers, exact=self._exact)

    def close(self) -> None:
        """End llama.cpp's server and free the memory."""
        self._child.close()
        if self._library_model is not None:
            self._library_model.close()
            self._library_model = None

    def _logits(self, ids: list[int]) -> "np.ndarray":
        if self._library_model is None:
            self._library_model = Model(self.file.path, self.n_gpu_layers)
        return self._library_model.logits(ids, self.n_threads)

    def __enter__(self) -> "Runtime":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
