"""Load a model into llama.cpp on this machine: choose the engine, and make a GGUF file where there is none yet."""

import hashlib
import os
from collections.abc import Callable
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

from llmnotes import formats
from llmnotes.errors import BadSettings, CannotWrite, FileUnreadable, NotConvertible, UnknownFormat
from llmnotes.formats import convert, identify
from llmnotes.formats.adapters import is_adapter, name_of
from llmnotes.formats.gguf.llava import is_llava
from llmnotes.formats.gguf.mmproj import CLASS_TOKEN
from llmnotes.formats.huggingface import settings
from llmnotes.home import place_for
from llmnotes.llama_cpp.engine import context_of
from llmnotes.llama_cpp.gpus import idle_gpu
from llmnotes.llama_cpp.model_file import ModelFile
from llmnotes.llama_cpp.trial import checked_file
from llmnotes.models import path_of
from llmnotes.models.adapters import base_folder, whole
from llmnotes.serving.bindings import Bindings
from llmnotes.serving.runtime import Runtime

PROJECTOR = "clip"  # the architecture that a projector's GGUF names
ENGINES = {"xllamacpp": "xllamacpp", "llama-cpp-python": "llama_cpp"}  # distribution: the package it installs


def load(
    name: str | Path,
    *,
    n_threads: int | None = None,
    n_gpu_layers: int | None = None,
    n_ctx: int | None = None,
    type: str | None = None,
    exact: bool = False,
    cache: str = "F16",
    flash_attention: str = "auto",
    draft: str | Path | None = None,
    mmproj: str | Path | None = None,
    engine: str | None = None,
    say: Callable[[str], object] | None = None,
) -> Runtime:
    """Load a model into llama.cpp and return it as a `Runtime`; `close` it, or use it in a `with`.

    `name` is a GGUF file, or any model that `open_model` takes: `gguf_of` then makes a GGUF of it, with weights of
    `type`. `n_threads` is by default all cores of this process, and `n_gpu_layers` all layers, where llama.cpp was
    built for a GPU. `n_ctx` is by default the model's own context, up to 4,096 tokens, and is rounded up to a multiple
    of 256: keys and values for the whole context take memory from the start. llama.cpp keeps them as float16; with
    `exact` it keeps float32 and does not fuse attention, so that texts are those of PyTorch except where two tokens are
    almost equally probable. (100 texts of 64 tokens by Pebble in F16: 100 equal with `exact`, 99 without, where the
    logits of two tokens differ by 0.0003.)

    `cache`, `flash_attention`, `draft` and `mmproj` are those of `llmnotes.llama_cpp.engine.start`; a `draft` may be
    any model with the same vocabulary, and a folder with a LLaVA brings its own projector.

    `engine` is "xllamacpp", llama.cpp in a wheel, which runs in a child process; or "llama-cpp-python", which was
    compiled on this machine, perhaps for its GPU, and runs in this process. By default it is the first of them that is
    installed. Both give the same text.

    `say` receives a line where llama.cpp does something otherwise than it seems, such as not using a GPU.

    Raises `UnknownFormat`, `FileBroken` and `ModelBroken` for a file that llama.cpp does not run, before anything
    starts; `MissingPart` without the engine; `BadSettings`; `ProcessDied`. Does not check whether the model fits into
    memory.

    >>> with load("pebble-chat") as pebble:
    ...     pebble.file.layers
    4
    """
    if engine is None:
        engine = next((name for name, package in ENGINES.items() if find_spec(package)), "xllamacpp")
    if engine not in ENGINES:
        raise BadSettings(f"There is no engine {engine[:40]}; choose {' or '.join(ENGINES)}.")
    model = checked_file(gguf_of(name, type))
    more = {"cache": cache, "flash_attention": flash_attention, **companions(name, model, draft, mmproj, say)}
    if say is not None and n_gpu_layers != 0 and engine == "xllamacpp" and (idle := idle_gpu()):
        say(idle)
    runtime = Bindings if engine == "llama-cpp-python" else Runtime
    return runtime(model, n_threads, n_gpu_layers, context_of(model, n_ctx), exact, **more)


def companions(
    name: str | Path,
    model: ModelFile,
    draft: str | Path | None,
    mmproj: str | Path | None,
    say: Callable[[str], object] | None,
) -> dict[str, str | None]:
    """Return the paths of the files that run beside `model`: {"draft": ..., "mmproj": ...}, None where there is none.

    A LLaVA in a folder brings its projector: it is converted as `gguf_of` converts the language model, and `say` is
    told what llama.cpp does otherwise than transformers. Raises what `gguf_of` raises, `BadSettings` for a draft of
    another vocabulary, and `UnknownFormat` for a file without projector.
    """
    found: dict[str, str | None] = {"draft": None, "mmproj": None}
    if draft is not None:
        smaller = checked_file(gguf_of(draft))
        if smaller.vocabulary != model.vocabulary:
            raise BadSettings(
                f"{smaller.name} has {smaller.vocabulary or 0:,} tokens and {model.name} {model.vocabulary or 0:,}; "
                "take a draft with the model's own vocabulary, such as a smaller one of its family."
            )
        found["draft"] = str(smaller.path)
    if mmproj is not None:
        sight = formats.inspect(mmproj)
        if sight.architecture != PROJECTOR:
            raise UnknownFormat(
                f"{sight.path.name} is no projector; make one from the model's folder with: llmnotes convert FOLDER "
                "mmproj.gguf --to mmproj"
            )
        found["mmproj"] = str(sight.path)
    elif (config := path_of(str(name)) / "config.json").is_file() and is_llava(settings(config)):
        found["mmproj"] = str(_made(config.parent, "mmproj"))
        if say is not None:
            say(CLASS_TOKEN)
    return found


def gguf_of(name: str | Path, type: str | None = None) -> Path:
    """Return the GGUF file of a model: the file itself, or one made of its folder and kept in ~/.llmnotes/gguf.

    `name` is what `open_model` takes, and `type` the type of the weights in a GGUF that is made here. A folder that has
    changed is converted again, and its old GGUF is removed. `LLMNOTES_HOME` names another place than ~/.llmnotes.

    Raises what `path_of` and `convert` raise, and `NotConvertible` if `type` is given for a GGUF.

    >>> gguf_of("pebble").suffix
    '.gguf'
    """
    path = path_of(str(name))
    if not path.is_dir():
        if type and identify(path).format == "GGUF":  # what else it is, `ModelFile` says
            raise NotConvertible(
                f"{path.name} is a GGUF and has its types; leave {type} out, or make another with: llmnotes convert "
                f"{path.name} NEW.gguf --type {type}"
            )
        return path
    return _made(path, "gguf", type)


def _made(path: Path, to: str, type: str | None = None) -> Path:
    """Return the file made of a folder by `convert(..., to=to)`, kept as long as the folder does not change."""
    place = place_for("gguf", name_of(path))
    # The name says which folder and type it is, then which state of the folder: sizes and times of its files.
    stem = f"{name_of(path)}-{type or 'plain'}-{_digest(str(path.resolve()))}"
    stem = stem if to == "gguf" else f"{to}-{stem}"
    state = _state(path)
    target = place / f"{stem}-{_digest(repr(state))}.gguf"
    if target.exists():
        return target
    try:
        with whole(path, str(path)) as folder:
            convert(folder, target, to=to, type=type)
    except CannotWrite:
        if not target.exists():  # it exists if another process was faster
            raise
    for old in place.glob(f"{stem}-*.gguf"):
        if old != target:
            with suppress(OSError):
                old.unlink()
    return target


def _state(path: Path) -> list:
    """Return names, sizes and times of a folder's files; with an adapter's, those of its base."""
    try:
        files = path.iterdir() if path.is_dir() else [path]
        found = sorted((file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files)
    except OSError as error:
        raise FileUnreadable(f"{path} cannot be read ({error.strerror}); check its permissions.") from None
    return found + (_state(base_folder(path)) if is_adapter(path) else [])


def _digest(text: str) -> str:
    return hashlib.sha256(os.fsencode(text)).hexdigest()[:12]  # in a path may be letters that are no Unicode
