"""llmnotes' settings of llama.cpp's own server, as xllamacpp runs it in this process."""

from llmnotes.errors import BadSettings, MissingPart, ModelBroken
from llmnotes.hardware import cores
from llmnotes.llama_cpp.model_file import ModelFile

CONTEXT = 4096  # tokens, where nobody asks for more: what a model could read may be far more than fits into memory
STEP = 256  # tokens: llama.cpp rounds a context up to this
HTTP_THREADS = 128
SECONDS = 10  # how long a client that has begun may keep silent
ALL_LAYERS = -1


def context_of(model: ModelFile, n_ctx: int | None) -> int:
    """Return how many tokens prompt and answer may have together. Raises `BadSettings`."""
    if n_ctx is not None and n_ctx < 1:
        raise BadSettings(f"A context of {n_ctx} tokens holds nothing; give a number above 0.")
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
    host: str = "127.0.0.1",
    port: int = 0,
    key: str | None = None,
):
    """Start llama.cpp's server for `model` and return it; it ends when nobody holds it any more.

    Every one of `parallel` answers that are written at once has a context of `n_ctx` tokens; more clients wait. Port
    0 is any that is free. With `exact`, keys and values are kept as float32 and attention is not fused.

    Raises `BadSettings`, `MissingPart` without xllamacpp, and `ModelBroken`.

    Does not look at the file before: that is `about` and `try_file`.
    """
    try:
        import xllamacpp
    except ImportError:
        raise MissingPart('xllamacpp is missing; bring it with: python -m pip install "llmnotes[serve]"') from None
    for what, value in (("n_threads", n_threads), ("parallel", parallel)):
        if value is not None and not 1 <= value <= 512:
            raise BadSettings(f"{what} is {value}; give a number from 1 to 512.")
    params = xllamacpp.CommonParams()
    params.model.path = str(model.path)
    params.model_alias = {model.name}
    params.n_parallel = parallel
    params.n_ctx = parallel * context_of(model, n_ctx)
    params.n_gpu_layers = ALL_LAYERS if n_gpu_layers is None else n_gpu_layers
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = n_threads or cores()
    if exact:
        params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
        params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    params.fit_params = False  # what is asked for is taken, or fails
    params.warmup = False
    params.verbosity = -1
    params.embedding = True  # beside completions, not instead of them
    params.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
    params.hostnames = [host]
    params.port = port
    params.api_keys = [key] if key else []
    params.n_threads_http = HTTP_THREADS
    params.timeout_read = params.timeout_write = SECONDS
    params.cors_origins = "*" if key else "http://localhost"  # a page of somebody else must know the key
    params.ui = params.endpoint_slots = False
    try:
        return xllamacpp.Server(params)
    except RuntimeError:
        raise ModelBroken(
            f"llama.cpp does not start with {model.path.name}; ask for a shorter context or fewer layers on the GPU, "
            "and if it still fails, make the file again."
        ) from None
