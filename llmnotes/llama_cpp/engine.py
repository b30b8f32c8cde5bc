"""Start llama.cpp's own server, as xllamacpp runs it in this process, with llmnotes' settings."""

from typing import Any

from llmnotes.errors import BadSettings, ModelBroken
from llmnotes.formats.gguf import chat_templates
from llmnotes.hardware import cores
from llmnotes.llama_cpp.library import UBATCH
from llmnotes.llama_cpp.model_file import ModelFile
from llmnotes.llama_cpp.packages import xllamacpp

CONTEXT = 4096  # tokens, unless more are asked for: the longest context of a model may not fit into memory
MOST = 1 << 22  # tokens or layers, beyond what any model has: llama.cpp counts in 32 bits
STEP = 256  # tokens: llama.cpp rounds a context up to this
HTTP_THREADS = 128
SECONDS = 10  # how long a client may be silent in the middle of its request
ALL_LAYERS = -1
CACHES = ("F16", "F32", "BF16", "Q8_0", "Q5_1", "Q5_0", "Q4_1", "Q4_0", "IQ4_NL")  # what keys and values are kept in
FLASH_ATTENTION = {"auto": "AUTO", "on": "ENABLED", "off": "DISABLED"}
DRAFT = 8  # tokens that a draft model writes before the model checks them


def context_of(model: ModelFile, n_ctx: int | None) -> int:
    """Return how many tokens prompt and answer may have together. Raises `BadSettings`."""
    if n_ctx is not None and n_ctx < 1:
        raise BadSettings(f"A context of {n_ctx} tokens holds nothing; give a number above 0.")
    if n_ctx is not None and n_ctx > MOST:
        raise BadSettings(f"A context of {n_ctx} tokens is beyond every model; give at most {MOST}.")
    tokens = n_ctx or min(model.context or CONTEXT, CONTEXT)
    return -(-tokens // STEP) * STEP


def start(
    model: ModelFile,
    *,
    n_threads: int | None = None,
    n_gpu_layers: int | None = None,
    n_ctx: int | None = None,
    parallel: int = 1,
    exact: bool = False,
    cache: str = "F16",
    flash_attention: str = "auto",
    draft: str | None = None,
    mmproj: str | None = None,
    key: str | None = None,
) -> Any:
    """Start llama.cpp's server for `model` and return it, a `Server` of xllamacpp.

    It ends when nothing refers to it any more. Up to `parallel` answers are written at once, each in a context of
    `n_ctx` tokens; more clients wait. It listens at any free port of this machine. With `exact`, keys and values are
    kept as float32 and attention is not fused; otherwise they are kept in `cache`, one of `CACHES`, and attention is
    fused as `flash_attention` says: "on", "off", or "auto" where llama.cpp finds it faster. `draft` is the GGUF of a
    smaller model that writes some tokens ahead, which the model then checks at once: the text is the same. `mmproj` is
    the GGUF of a projector, with which the model sees pictures.

    Raises `BadSettings`, `MissingPart` without xllamacpp, and `ModelBroken`.

    Does not check the file first: see `llmnotes.llama_cpp.trial.checked_file`.
    """
    if n_gpu_layers is not None and not ALL_LAYERS <= n_gpu_layers <= MOST:
        raise BadSettings(f"n_gpu_layers is {n_gpu_layers}; give a number from 0, or -1 for all layers.")
    llama = xllamacpp()
    for what, value in (("n_threads", n_threads), ("parallel", parallel)):
        if value is not None and not 1 <= value <= 512:
            raise BadSettings(f"{what} is {value}; give a number from 1 to 512.")
    if cache not in CACHES or flash_attention not in FLASH_ATTENTION:
        raise BadSettings(
            f"There is no cache {cache[:40]} with flash attention {flash_attention[:40]}; choose among "
            f"{', '.join(CACHES)}, and {', '.join(FLASH_ATTENTION)}."
        )
    if flash_attention == "off" and cache not in CACHES[:3]:
        raise BadSettings(f"A cache in {cache} needs flash attention; turn it on, or keep the cache in F16.")
    params = llama.CommonParams()
    params.model.path = str(model.path)
    params.model_alias = {model.name}
    params.n_parallel = parallel
    params.n_ctx = parallel * context_of(model, n_ctx)
    params.n_ubatch = -(-UBATCH // parallel) * parallel  # pooling aborts llama.cpp where it does not divide
    params.n_gpu_layers = ALL_LAYERS if n_gpu_layers is None else n_gpu_layers
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = n_threads or cores()
    cache, flash_attention = ("F32", "off") if exact else (cache, flash_attention)
    params.cache_type_k = params.cache_type_v = getattr(llama.ggml_type, f"GGML_TYPE_{cache}")
    fused = f"LLAMA_FLASH_ATTN_TYPE_{FLASH_ATTENTION[flash_attention]}"
    params.flash_attn_type = getattr(llama.llama_flash_attn_type, fused)
    if draft:
        params.speculative.draft.mparams.path = draft
        params.speculative.draft.n_max = DRAFT
        params.speculative.draft.n_gpu_layers = params.n_gpu_layers
        params.speculative.types = [llama.common_speculative_type.COMMON_SPECULATIVE_TYPE_DRAFT_SIMPLE]
    if mmproj:
        params.mmproj.path = mmproj
        params.mmproj_use_gpu = n_gpu_layers != 0
    params.fit_params = False  # llama.cpp would otherwise lower what was asked for until it fits
    params.warmup = False
    params.verbosity = -1
    params.embedding = True  # in addition to completions
    if model.pooling is None:  # otherwise llama.cpp does what the file says
        params.pooling_type = llama.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.api_keys = [key] if key else []
    params.n_threads_http = HTTP_THREADS
    params.timeout_read = params.timeout_write = SECONDS
    params.cors_origins = "localhost"  # pages of this machine alone; `serve` has a rule of its own
    params.ui = params.endpoint_slots = False
    try:
        return llama.Server(params)
    except RuntimeError:
        mistake = chat_templates.mistake(model.template or "")
        if mistake:
            raise ModelBroken(
                f"llama.cpp does not start with {model.path.name}, whose chat template is no valid Jinja ({mistake}); "
                "correct the template in the model's folder, and convert it again."
            ) from None
        raise ModelBroken(
            f"llama.cpp does not start with {model.path.name}; ask for a shorter context or fewer layers on the GPU, "
            "and if it still fails, make the file again."
        ) from None
