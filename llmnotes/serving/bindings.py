"""A model that llama-cpp-python runs in this process: llama.cpp as it was compiled on this machine.

A crash of llama.cpp ends this process.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any

from llmnotes.errors import BadSettings, LLMNotesError, MissingPart, ModelBroken, ServerFailed, UnknownName
from llmnotes.hardware import cores
from llmnotes.llama_cpp.engine import ALL_LAYERS
from llmnotes.llama_cpp.library import F32, MEAN
from llmnotes.llama_cpp.memory import ReportedMemory
from llmnotes.llama_cpp.model_file import ModelFile
from llmnotes.llama_cpp.packages import llama_cpp_python
from llmnotes.serving.client import TOO_LONG
from llmnotes.serving.runtime import Runtime

if TYPE_CHECKING:
    import numpy as np

# The request parameters that llama-cpp-python takes in another form; all others are passed on as they are.
CONVERTED = {"prompt", "messages", "stream", "grammar"}


class Bindings(Runtime):
    """A model in llama-cpp-python, with every method of `Runtime` except `memory`.

    Raises `MissingPart` without the package, `ModelBroken` if it does not load the file, and `BadSettings`.
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
        if more.pop("cache", "F16") != "F16" or more.pop("flash_attention", "auto") != "auto" or any(more.values()):
            raise BadSettings(
                "llama-cpp-python is not told about cache, flash attention, draft and projector here; leave them out, "
                'or load the model with engine="xllamacpp".'
            )
        if n_threads is not None and not 1 <= n_threads <= 512:
            raise BadSettings(f"n_threads is {n_threads}; give a number from 1 to 512.")
        self.file, self.n_ctx, self.n_threads = model, n_ctx, n_threads or cores()
        self.n_gpu_layers = ALL_LAYERS if n_gpu_layers is None else n_gpu_layers
        self.url, self.model, self._exact = f"{model.name} in llama-cpp-python", model.name, exact  # for the errors
        self.sees = False
        self._llama = self._open_model(exact)

    def tokenize(self, text: str) -> list[int]:
        """Return the tokens of `text`, with those that the file says to add."""
        return self._llama.tokenize(text.encode(), add_bos=True, special=True)

    def embeddings(self, texts: Sequence[str]) -> list[list[float]]:
        """Return one vector of length 1 for each text: the mean of its tokens' last states."""
        with self._refusals():
            return self._llama_with_embeddings.embed(list(texts), normalize=True)

    def ask(self, path: str, **parameters: object) -> dict:
        """Return what a server would answer at `path`. Raises `ServerFailed` where llama-cpp-python raises."""
        if path == "/models":
            return {"data": [{"id": self.file.name}]}
        with self._refusals():
            return self._call(path, parameters)

    def memory(self) -> ReportedMemory:
        """Raise `MissingPart`: llama-cpp-python does not give access to llama.cpp's log."""
        raise MissingPart('llama-cpp-python does not say what it takes; load the model with engine="xllamacpp".')

    def close(self) -> None:
        """Free the memory."""
        for name in ("_llama", "_llama_with_embeddings", "_llama_with_logits"):
            if (found := self.__dict__.pop(name, None)) is not None:
                found.close()

    def _events(self, path: str, parameters: dict) -> Iterator[dict]:
        with self._refusals():
            yield from self._call(path, parameters)

    def _call(self, path: str, parameters: dict) -> Any:
        """Return llama-cpp-python's answer, a dict, or an iterator of them if it is streamed."""
        if "_llama" not in self.__dict__:
            raise ServerFailed(f"{self.url} does not answer (it is closed); load it again.")
        settings = {name: value for name, value in parameters.items() if name not in CONVERTED}
        settings["stream"] = parameters.get("stream", False)
        if "grammar" in parameters:
            settings["grammar"] = self._grammar(parameters["grammar"])
        if path == "/chat/completions":
            return self._llama.create_chat_completion(parameters["messages"], **settings)
        prompt = parameters["prompt"]
        return self._llama.create_completion(self.tokenize(prompt) if isinstance(prompt, str) else prompt, **settings)

    def _grammar(self, text: str) -> Any:
        """Return a `LlamaGrammar` after parsing it once: one that is wrong would crash the process later."""
        llama_cpp = llama_cpp_python()
        vocab = llama_cpp.llama_model_get_vocab(self._llama.model)
        sampler = llama_cpp.llama_sampler_init_grammar(vocab, text.encode(), b"root")
        if not sampler:
            raise ValueError("the grammar cannot be read")
        llama_cpp.llama_sampler_free(sampler)
        return llama_cpp.LlamaGrammar.from_string(text, verbose=False)

    def _logits(self, ids: list[int]) -> "np.ndarray":
        import numpy as np

        vocabulary = self._llama.n_vocab()
        wrong = next((token for token in ids if not 0 <= token < vocabulary), None)
        if wrong is not None or not ids:
            raise UnknownName(
                f"There is no token {wrong} in {self.file.name}; it has 0 to {vocabulary - 1}."
                if ids
                else "Give a token."
            )
        llama = self._llama_with_logits
        llama.reset()
        llama.eval(ids)
        return np.array(llama.scores[: len(ids)], np.float32)

    @cached_property
    def _llama_with_embeddings(self) -> Any:
        return self._open_model(
            self._exact, embedding=True, pooling_type=MEAN if (kind := self.file.pooling) is None else kind
        )

    @cached_property
    def _llama_with_logits(self) -> Any:
        return self._open_model(True, logits_all=True)

    def _open_model(self, exact: bool, **more: object) -> Any:
        """Return a `Llama` of llama-cpp-python; embeddings and logits of every token need one each."""
        llama_cpp = llama_cpp_python()
        try:
            return llama_cpp.Llama(
                str(self.file.path),
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
                f"llama-cpp-python does not load {self.file.path.name}; ask for a shorter context or fewer layers on "
                "the GPU, and if it still fails, make the file again with llmnotes convert."
            ) from None

    @contextmanager
    def _refusals(self) -> Iterator[None]:
        """Turn what llama-cpp-python raises into `ServerFailed`."""
        try:
            yield
        except LLMNotesError:
            raise
        except Exception as error:  # Python's, jinja2's, or its own
            kind = TOO_LONG if "exceed context window" in str(error) else ""
            reason = " ".join(str(error).split())[:300].rstrip(".")
            raise ServerFailed(f"{self.url} does not answer: {reason}; change what is asked.", kind=kind) from None
