"""llama.cpp's C functions, called with ctypes: logits for every token and the memory log, which its server hides.

The structures below are those of one version of llama.cpp. Before they are used, the library fills them with its
defaults, and these are compared with the values that stand in `DEFAULTS`: a newer library is refused, not misread.
"""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from ctypes import POINTER, c_bool, c_char_p, c_float, c_int8, c_int32, c_size_t, c_uint32, c_void_p
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from llmnotes.errors import DoesNotFit, MissingPart, ModelBroken, UnknownName
from llmnotes.llama_cpp.packages import xllamacpp_missing
from llmnotes.quantization import shared_library

if TYPE_CHECKING:
    import numpy as np

F32, F16 = 0, 1  # ggml's numbers of the types
NO_FLASH_ATTENTION = 0
MEAN = 1  # how an embedding is pooled: the mean of the tokens' states
UBATCH = 512  # tokens that are computed at once
ERROR = 4  # the level of a line in llama.cpp's log


def _fields(kind: type, *names: str) -> list[tuple[str, type]]:
    return [(name, kind) for name in names]


class ModelParams(ctypes.Structure):
    """How a model is loaded (`llama_model_params`)."""

    _fields_ = [
        *_fields(c_void_p, "devices", "tensor_buft_overrides"),
        *_fields(c_int32, "n_gpu_layers", "split_mode", "load_mode", "lazy_mode", "main_gpu"),
        *_fields(c_void_p, "tensor_split", "progress_callback", "progress_callback_user_data", "kv_overrides"),
        *_fields(c_bool, "vocab_only", "check_tensors", "use_extra_bufts", "no_host", "no_alloc", "load_mtp"),
    ]


class ContextParams(ctypes.Structure):
    """How a context is made (`llama_context_params`)."""

    _fields_ = [
        *_fields(c_uint32, "n_ctx", "n_batch", "n_ubatch", "n_seq_max", "n_rs_seq"),
        *_fields(c_uint32, "n_outputs_max", "n_outputs_max_per_seq"),
        *_fields(c_int32, "n_threads", "n_threads_batch", "ctx_type"),
        *_fields(c_int32, "rope_scaling_type", "pooling_type", "attention_type", "flash_attn_type"),
        *_fields(c_float, "rope_freq_base", "rope_freq_scale", "yarn_ext_factor", "yarn_attn_factor"),
        *_fields(c_float, "yarn_beta_fast", "yarn_beta_slow"),
        ("yarn_orig_ctx", c_uint32),
        ("defrag_thold", c_float),
        *_fields(c_void_p, "cb_eval", "cb_eval_user_data"),
        *_fields(c_int32, "type_k", "type_v"),
        *_fields(c_void_p, "abort_callback", "abort_callback_data", "after_abort"),  # the last one's name is unknown
        *_fields(c_bool, "embeddings", "offload_kqv", "no_perf", "op_offload", "swa_full", "kv_unified"),
        ("samplers", c_void_p),
        ("n_samplers", c_size_t),
        ("ctx_other", c_void_p),
    ]


class Batch(ctypes.Structure):
    """The tokens that are given to a model at once (`llama_batch`)."""

    _fields_ = [
        ("n_tokens", c_int32),
        ("token", POINTER(c_int32)),
        ("embd", POINTER(c_float)),
        ("pos", POINTER(c_int32)),
        ("n_seq_id", POINTER(c_int32)),
        ("seq_id", POINTER(POINTER(c_int32))),
        ("logits", POINTER(c_int8)),
    ]


# What the library must put into the structures if they are laid out as above.
DEFAULTS = {
    ModelParams: {"n_gpu_layers": -1, "split_mode": 1, "load_mode": -1, "lazy_mode": 1, "main_gpu": 0}
    | {"vocab_only": False, "check_tensors": False, "use_extra_bufts": True, "kv_overrides": None},
    ContextParams: {"n_ctx": 512, "n_batch": 2048, "n_ubatch": 512, "n_seq_max": 1, "pooling_type": -1}
    | {"flash_attn_type": -1, "yarn_ext_factor": -1.0, "yarn_beta_slow": -1.0, "defrag_thold": -1.0, "cb_eval": None}
    | {"type_k": 1, "type_v": 1, "after_abort": None, "embeddings": False, "offload_kqv": True}
    | {"no_perf": True, "op_offload": True, "swa_full": True, "kv_unified": False, "n_samplers": 0},
}
Log = ctypes.CFUNCTYPE(None, c_int32, c_char_p, c_void_p)
# name -> (what it returns, what it takes)
FUNCTIONS = {
    "llama_model_default_params": (ModelParams, []),
    "llama_context_default_params": (ContextParams, []),
    "llama_backend_init": (None, []),
    "llama_log_set": (None, [Log, c_void_p]),
    "llama_model_load_from_file": (c_void_p, [c_char_p, ModelParams]),
    "llama_model_free": (None, [c_void_p]),
    "llama_model_get_vocab": (c_void_p, [c_void_p]),
    "llama_vocab_n_tokens": (c_int32, [c_void_p]),
    "llama_init_from_model": (c_void_p, [c_void_p, ContextParams]),
    "llama_free": (None, [c_void_p]),
    "llama_batch_init": (Batch, [c_int32, c_int32, c_int32]),
    "llama_batch_free": (None, [Batch]),
    "llama_decode": (c_int32, [c_void_p, Batch]),
    "llama_get_memory": (c_void_p, [c_void_p]),
    "llama_memory_clear": (None, [c_void_p, c_bool]),
    "llama_get_logits": (POINTER(c_float), [c_void_p]),
}


@cache
def library() -> ctypes.CDLL:
    """Return llama.cpp's library, with the types of its functions set.

    Raises `MissingPart` if the library is not there, has no such functions, or another layout.
    """
    path = shared_library.find()
    if path is None:
        raise MissingPart(xllamacpp_missing())
    try:
        loaded = ctypes.CDLL(str(path))
        for name, (answer, takes) in FUNCTIONS.items():
            function = getattr(loaded, name)
            function.restype, function.argtypes = answer, takes
    except (OSError, AttributeError):
        raise MissingPart(
            "The xllamacpp of this system shows no C interface of llama.cpp, which logits and perplexity need; open "
            "the model with llmnotes.models.open_model and measure it with llmnotes.evaluation.metrics."
        ) from None
    for kind, ask in ((ModelParams, "llama_model_default_params"), (ContextParams, "llama_context_default_params")):
        given = getattr(loaded, ask)()
        if any(getattr(given, name) != value for name, value in DEFAULTS[kind].items()):
            raise MissingPart(
                "The llama.cpp in this xllamacpp is laid out in another way than the one known here; bring that with: "
                "python -m pip install xllamacpp==2026.10.11549"
            )
    # Its log goes to a C function that does nothing. A Python function would have to wait for the interpreter, which a
    # server of xllamacpp in this process may hold while it waits for the thread that wants to log.
    _silence(loaded)
    loaded.llama_backend_init()
    return loaded


class Model:
    """A GGUF file opened by llama.cpp's C functions; `close` it, or use it in a `with`.

    Weights stay in the file, which is mapped into memory; with `repack` some are copied into an order that the
    processor reads faster, as the server does. Raises `ModelBroken`. A broken file may crash this process: open only
    what `llmnotes.llama_cpp.trial.checked_file` has accepted.
    """

    def __init__(self, path: Path, n_gpu_layers: int = 0, repack: bool = False):
        self.name, self.lib = path.name, library()
        params = self.lib.llama_model_default_params()
        params.n_gpu_layers = n_gpu_layers
        params.use_extra_bufts = repack
        self.model = self.lib.llama_model_load_from_file(os.fsencode(path), params)
        if not self.model:
            raise ModelBroken(f"llama.cpp does not load {path.name}; make it again with llmnotes convert.")
        self.vocab = self.lib.llama_model_get_vocab(self.model)

    def logits(self, ids: list[int], n_threads: int) -> "np.ndarray":
        """Return the logits after each token of `ids`: a float32 array (tokens, vocabulary).

        Keys and values are kept as float32, and attention is not fused: as exact as llama.cpp can be. Raises
        `UnknownName` for a token that does not exist, and `DoesNotFit` if there is no memory for it.
        """
        import numpy as np

        lib, count, vocabulary = self.lib, len(ids), self.lib.llama_vocab_n_tokens(self.vocab)
        wrong = next((token for token in ids if not 0 <= token < vocabulary), None)
        if wrong is not None or not ids:
            raise UnknownName(
                f"There is no token {wrong} in {self.name}; it has 0 to {vocabulary - 1}." if ids else "Give a token."
            )
        params = lib.llama_context_default_params()
        params.n_ctx = params.n_batch = count
        params.n_outputs_max = params.n_outputs_max_per_seq = count
        params.n_ubatch = min(count, UBATCH)
        params.n_threads = params.n_threads_batch = n_threads
        params.type_k = params.type_v = F32
        params.flash_attn_type = NO_FLASH_ATTENTION
        context = lib.llama_init_from_model(self.model, params)
        if not context:
            raise DoesNotFit(f"There is no memory for {count:,} tokens of {self.name}; give fewer.")
        batch = lib.llama_batch_init(count, 0, 1)
        try:
            batch.n_tokens = count
            for i, token in enumerate(ids):
                batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.logits[i] = token, i, 1, 1
                batch.seq_id[i][0] = 0
            if lib.llama_decode(context, batch):
                raise ModelBroken(f"llama.cpp cannot run {self.name} on this text; make the file again.")
            scores = np.ctypeslib.as_array(lib.llama_get_logits(context), (count, vocabulary))
            return scores.copy()
        finally:
            lib.llama_batch_free(batch)
            lib.llama_free(context)

    def reserve(self, n_ctx: int, exact: bool, embeddings: bool, cache: int = F16) -> None:
        """Allocate the memory for one sequence of `n_ctx` tokens as llama.cpp's server does, and free it again.

        This is done for the log, which says how much it was. A server that also computes `embeddings` has room for the
        outputs of every token of a batch, others for those of one token; layers with a window keep what it needs, not
        all tokens. `cache` is ggml's number of the type of keys and values. Raises `DoesNotFit`.
        """
        params = self.lib.llama_context_default_params()
        params.n_ctx = n_ctx
        params.n_batch = params.n_ubatch = UBATCH
        params.n_outputs_max = UBATCH if embeddings else 1
        params.swa_full = False
        params.type_k = params.type_v = cache
        if embeddings:
            params.embeddings, params.pooling_type = True, MEAN
        if exact:
            params.type_k = params.type_v = F32
            params.flash_attn_type = NO_FLASH_ATTENTION
        context = self.lib.llama_init_from_model(self.model, params)
        if not context:
            raise DoesNotFit(f"There is no memory for a context of {n_ctx:,} tokens of {self.name}; give fewer.")
        self.lib.llama_free(context)

    def close(self) -> None:
        """Free the memory."""
        if self.model:
            self.lib.llama_model_free(self.model)
            self.model = None

    def __enter__(self) -> "Model":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def complaint(path: Path) -> str | None:
    """Return why llama.cpp does not load `path`, or None if it does; weights are mapped into memory, not read.

    Call it in a child process: llama.cpp's log is caught meanwhile, and a crash of llama.cpp ends the process.
    """
    with log() as lines:
        try:
            Model(path).close()
        except ModelBroken:
            first = next((text for level, text in lines if level == ERROR), "it gives no reason")
            reason = first.split("error loading model: ")[-1]
            return reason.removeprefix("error loading model architecture: ").rstrip(".")[:200]
    return None


@contextmanager
def log() -> Iterator[list[tuple[int, str]]]:
    """Collect the lines that llama.cpp logs inside the `with` block, as a list of (level, text).

    Call it in a child process without a server of xllamacpp, whose threads could deadlock here.
    """
    lines: list[tuple[int, str]] = []

    @Log
    def note(level, text, _):
        lines.append((level, text.decode(errors="replace").strip()))

    library().llama_log_set(note, None)
    try:
        yield lines
    finally:
        _silence(library())


def _silence(loaded: ctypes.CDLL) -> None:
    loaded.llama_log_set(ctypes.cast(loaded.llama_supports_mmap, Log), None)
