"""The same runtime over llama-cpp-python: llama.cpp as it was compiled on this machine, for its GPU if it was told so.

It runs in this process, and what breaks llama.cpp ends it.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

from llmnotes.errors import BadSettings, LLMNotesError, MissingPart, ModelBroken, ServerFailed, UnknownName
from llmnotes.hardware import cores
from llmnotes.llama_cpp.engine import ALL_LAYERS
from llmnotes.llama_cpp.library import F32, MEAN
from llmnotes.llama_cpp.memory import Memory
from llmnotes.llama_cpp.model_file import ModelFile
from llmnotes.serving.runtime import Runtime
from llmnotes.serving.terminal import TOO_LONG

OURS = {"prompt", "messages", "stream", "grammar"}  # of a wish: what is passed on in another form


class Bindings(Runtime):
    """A model in llama-cpp-python; every method of `Runtime` but `memory`.

    Raises `MissingPart` without the package, `ModelBroken` where it does not load the file, and `BadSettings`.
    """

    def __init__(self, model: ModelFile, n_threads: int | None, n_gpu_layers: int | None, n_ctx: int, exact: bool):
        if n_threads is not None and not 1 <= n_threads <= 512:
            raise BadSettings(f"n_threads is {n_threads}; give a number from 1 to 512.")
        self.about, self.n_ctx, self.n_threads = model, n_ctx, n_threads or cores()
        self.n_gpu_layers = ALL_LAYERS if n_gpu_layers is None else n_gpu_layers
        self.url, self.model, self._exact = f"{model.name} in llama-cpp-python", model.name, exact
        self._llama = self._open_model(exact)

    def tokenize(self, text: str) -> list[int]:
        """Return the tokens of `text`, with those that the file says to add."""
        return self._llama.tokenize(text.encode(), add_bos=True, special=True)

    def embeddings(self, texts: Sequence[str]) -> list[list[float]]:
        """Return one vector of length 1 for each text: the mean of its tokens' last states."""
        with self._refusals():
            return self._embedder.embed(list(texts), normalize=True)

    def ask(self, page: str, **wish) -> dict:
        """Return what a server would answer at `page`. Raises `ServerFailed` where llama-cpp-python says no."""
        if page == "/models":
            return {"data": [{"id": self.about.name}]}
        with self._refusals():
            return self._call(page, wish)

    def memory(self) -> Memory:
        """Raise `MissingPart`: what this llama.cpp takes is in its own log alone."""
        raise MissingPart('llama-cpp-python does not say what it takes; load the model with engine="xllamacpp".')

    def close(self) -> None:
        """Give the memory back."""
        for name in ("_llama", "_embedder", "_scorer_of_all"):
            if (found := self.__dict__.pop(name, None)) is not None:
                found.close()

    def _stream(self, page: str, wish: dict) -> Iterator[dict]:
        with self._refusals():
            yield from self._call(page, wish)

    def _call(self, page: str, wish: dict):
        if "_llama" not in self.__dict__:
            raise ServerFailed(f"{self.url} does not answer (it is closed); load it again.")
        settings = {name: value for name, value in wish.items() if name not in OURS}
        settings["stream"] = wish.get("stream", False)
        if "grammar" in wish:
            settings["grammar"] = self._grammar(wish["grammar"])
        if page == "/chat/completions":
            return self._llama.create_chat_completion(wish["messages"], **settings)
        prompt = wish["prompt"]
        return self._llama.create_completion(self.tokenize(prompt) if isinstance(prompt, str) else prompt, **settings)

    def _grammar(self, text: str):
        """Return a grammar that was read once on trial: one that cannot be read would break the process later."""
        llama_cpp = bindings()
        vocab = llama_cpp.llama_model_get_vocab(self._llama.model)
        sampler = llama_cpp.llama_sampler_init_grammar(vocab, text.encode(), b"root")
        if not sampler:
            raise ValueError("the grammar cannot be read")
        llama_cpp.llama_sampler_free(sampler)
        return llama_cpp.LlamaGrammar.from_string(text, verbose=False)

    def _scores(self, ids: list[int]):
        import numpy as np

        wrong = next((token for token in ids if not 0 <= token < self._llama.n_vocab()), None)
        if wrong is not None or not ids:
            raise UnknownName(f"There is no token {wrong} in {self.about.name}." if ids else "Give a token.")
        llama = self._scorer_of_all
        llama.reset()
        llama.eval(ids)
        return np.array(llama.scores[: len(ids)], np.float32)

    @cached_property
    def _embedder(self):
        return self._open_model(self._exact, embedding=True, pooling_type=MEAN)

    @cached_property
    def _scorer_of_all(self):
        return self._open_model(True, logits_all=True)

    def _open_model(self, exact: bool, **more):
        llama_cpp = bindings()
        try:
            return llama_cpp.Llama(
                str(self.about.path),
                n_ctx=self.n_ctx,
                n_threads=self.n_threads,
                n_threads_batch=self.n_threads,
                n_gpu_layers=self.n_gpu_layers,
                flash_attn=not exact,
                verbose=False,
                **({"type_k": F32, "type_v": F32} if exact else {}),
                **more,
            )
        except (ValueError, RuntimeError):
            raise ModelBroken(
                f"llama-cpp-python does not load {self.about.path.name}; ask for a shorter context or fewer layers on "
                "the GPU, and if it still fails, make the file again with llmnotes convert."
            ) from None

    @contextmanager
    def _refusals(self):
        """Turn what llama-cpp-python raises into one sentence."""
        try:
            yield
        except LLMNotesError:
            raise
        except Exception as error:  # of Python, of jinja2, of its own
            kind = TOO_LONG if "exceed context window" in str(error) else ""
            said = " ".join(str(error).split())[:300].rstrip(".")
            raise ServerFailed(f"{self.url} says no: {said}.", kind=kind) from None


def bindings():
    """Return the package llama_cpp. Raises `MissingPart`."""
    try:
        import llama_cpp
    except ImportError:
        raise MissingPart(
            "llama-cpp-python is missing; bring it, which takes a compiler and minutes, with: python -m pip install "
            '"llmnotes[llama-cpp]"'
        ) from None
    return llama_cpp


def complaint(path: Path) -> str | None:
    """Return why llama-cpp-python does not load `path`, or None; what breaks llama.cpp ends the process."""
    try:
        bindings().Llama(str(path), n_ctx=256, n_gpu_layers=0, verbose=False).close()
    except (ValueError, RuntimeError) as error:
        return str(error).partition(":")[0].rstrip(".")
    return None
