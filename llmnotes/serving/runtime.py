"""A model that llama.cpp runs beside this process."""

import math
import secrets
from importlib.util import find_spec

from llmnotes.errors import BadSettings, DoesNotFit, UnknownName
from llmnotes.hardware import cores
from llmnotes.llama_cpp.child import Child
from llmnotes.llama_cpp.engine import ALL_LAYERS, context_of
from llmnotes.llama_cpp.library import Model
from llmnotes.llama_cpp.memory import Memory, memory
from llmnotes.llama_cpp.model_file import ModelFile, about, gguf_of
from llmnotes.llama_cpp.trial import try_file
from llmnotes.serving.client import Client

ENGINES = {"xllamacpp": "xllamacpp", "llama-cpp-python": "llama_cpp"}  # and what is imported


def load(
    name: str,
    *,
    n_threads: int | None = None,
    n_gpu_layers: int | None = None,
    n_ctx: int | None = None,
    type: str | None = None,
    exact: bool = False,
    engine: str | None = None,
) -> "Runtime":
    """Load a model into llama.cpp and return it as a `Runtime`; `close` it, or use it in a `with`.

    `name` is a GGUF file, or a model that `gguf_of` makes one of, with weights of `type`. `n_threads` is by default all
    cores of this process; `n_gpu_layers` all layers, where llama.cpp was built for a GPU; `n_ctx` what the model was
    trained for, and at most 4,096 tokens, in steps of 256: keys and values of the whole context take memory from the
    start. llama.cpp keeps them as float16; with `exact` it keeps float32 and does not fuse attention, so that texts are
    those of PyTorch except where two tokens are as good as equally probable. (100 texts of 64 tokens by Pebble in F16:
    100 equal with `exact`, 99 without, where the logits of two tokens differ by 0.0003.)

    `engine` is "xllamacpp", llama.cpp in a wheel, in a process of its own; or "llama-cpp-python", which was compiled on
    this machine, for its GPU perhaps, and runs in this process. By default it is the first that is installed. Both give
    the same text.

    Raises `UnknownFormat`, `FileBroken` and `ModelBroken` for a file that llama.cpp does not run, before anything
    starts; `MissingPart` without the engine; `BadSettings`; `ProcessDied`. Does not ask whether the model fits into
    memory.

    >>> with load("pebble-chat") as pebble:
    ...     pebble.about.layers
    4
    """
    if engine not in (None, *ENGINES):
        raise BadSettings(f"There is no engine {engine[:40]}; choose {' or '.join(ENGINES)}.")
    if engine is None:
        engine = next((name for name, module in ENGINES.items() if find_spec(module)), "xllamacpp")
    model = about(gguf_of(name, type))
    try_file(model.path)
    kind = Runtime
    if engine == "llama-cpp-python":
        from llmnotes.serving.bindings import Bindings as kind
    return kind(model, n_threads, n_gpu_layers, context_of(model, n_ctx), exact)


class Runtime(Client):
    """A loaded model: all that a `Client` asks, and what only its owner may ask. `about` is what its file says.

    llama.cpp's server is a process that ends with this one, and answers on a port of 127.0.0.1 with a key that nobody
    else has.
    """

    def __init__(self, model: ModelFile, n_threads: int | None, n_gpu_layers: int | None, n_ctx: int, exact: bool):
        key = secrets.token_hex(16)
        wish = {"n_threads": n_threads, "n_gpu_layers": n_gpu_layers, "n_ctx": n_ctx, "key": key, "exact": exact}
        self._server = Child(model, wish)
        super().__init__(self._server.address + "/v1", key, model.name)
        self.about, self.n_ctx, self.n_threads = model, n_ctx, n_threads or cores()
        self.n_gpu_layers = ALL_LAYERS if n_gpu_layers is None else n_gpu_layers
        self._exact = exact
        self._model_again = None  # opened by who asks for scores

    def tokenize(self, text: str) -> list[int]:
        """Return the tokens of `text`, with those that the file says to add."""
        wish = {"content": text, "add_special": True, "parse_special": True}
        return self.ask(f"{self._server.address}/tokenize", **wish)["tokens"]

    def logits(self, text: str | list[int]):
        """Return the logits after each token of `text`: a float32 array (tokens, vocabulary).

        Keys and values are kept as float32, so that they are as exact as llama.cpp can be. Raises `DoesNotFit` for a
        text longer than `n_ctx`, `UnknownName` for none and for tokens that do not exist, `MissingPart` where xllamacpp
        shows no C interface. Does not speed up a text whose beginning was asked before.

        >>> with load("pebble") as pebble:
        ...     pebble.logits("The goose says honk.").shape[1]
        2048
        """
        ids = self.tokenize(text) if isinstance(text, str) else list(text)
        if len(ids) > self.n_ctx:
            raise DoesNotFit(f"The text has {len(ids):,} tokens, and n_ctx is {self.n_ctx:,}; give a shorter one.")
        return self._scores(ids)

    def perplexity(self, text: str, window: int = 256) -> float:
        """Return exp(mean negative log-likelihood per token) of `text`, cut as `metrics.perplexity` cuts it.

        Raises what `logits` raises, and `UnknownName` for a text of fewer than two tokens.

        Does not equal that of PyTorch to the last digit: llama.cpp's matrix products round the activations to the
        type of the weights, to F16 or to blocks of 8 bits.

        >>> with load("pebble") as pebble:
        ...     pebble.perplexity("The goose says honk.") < 50
        True
        """
        import numpy as np

        ids, losses = self.tokenize(text), []
        for begin in range(0, len(ids), window):
            piece = ids[begin : begin + window]
            if len(piece) > 1:
                scores = self.logits(piece)[:-1].astype(np.float64)  # (tokens - 1, vocabulary)
                scores -= scores.max(-1, keepdims=True)
                picked = scores[np.arange(len(scores)), piece[1:]]
                losses.append(np.log(np.exp(scores).sum(-1)) - picked)
        if not losses:
            raise UnknownName("The text has fewer than two tokens, so there is nothing to predict; give a longer text.")
        return math.exp(np.concatenate(losses).mean())

    def memory(self) -> Memory:
        """Return what llama.cpp reports that it took: weights by layer, key-value cache, compute buffers, in bytes.

        A process of its own loads the model once more and says so; the weights, which are mapped, are shared with it.
        Raises what `llmnotes.llama_cpp.memory.memory` raises. How many layers to put on a GPU, before anything is
        loaded, is what `llmnotes.fit` says:

        >>> from llmnotes.fit import fit
        >>> found = fit("llama-2-7b", vram="6GB", ram="16GB", context=4096, precision="Q4_K_M")
        >>> found.options[0].n_gpu_layers
        29
        """
        return memory(self.about.path, self.n_ctx, n_gpu_layers=self.n_gpu_layers, exact=self._exact)

    def close(self) -> None:
        """End llama.cpp's server and give the memory back."""
        self._server.close()
        if self._model_again is not None:
            self._model_again.close()
            self._model_again = None

    def _scores(self, ids: list[int]):
        if self._model_again is None:
            self._model_again = Model(self.about.path, self.n_gpu_layers)
        return self._model_again.logits(ids, self.n_threads)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
