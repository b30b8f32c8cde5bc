"""An adapter and its base become one model in a folder, tensor by tensor: the model is never in memory as a whole."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from llmnotes import formats
from llmnotes.errors import AdapterUnfit, ModelBroken, ModelNotFound, UnknownFormat
from llmnotes.formats import causes
from llmnotes.formats.adapters import base_of, is_adapter, name_of
from llmnotes.formats.arrival import checked
from llmnotes.formats.huggingface import settings
from llmnotes.formats.progress import progress
from llmnotes.formats.repack import copy_beside, parts_and_ties
from llmnotes.formats.results import Conversion, Inspection, PlannedTensor
from llmnotes.formats.safe_write import NewFolder, new_folder
from llmnotes.formats.safetensors import write_safetensors
from llmnotes.models.paths import CONFIG, WHOLE, path_of
from llmnotes.models.temporary import temporary_folder

if TYPE_CHECKING:
    import torch

    from llmnotes.models.merging import Merging

TWICE = "that is the table of embeddings once more"
DEPTH = 8  # adapters on top of each other
TOKENIZER = ("tokenizer", "special_tokens", "added_tokens", "vocab", "merges", "chat_template")  # of the tokenizer


def merge(adapter: str | Path, target: str | Path, base: str | Path | None = None) -> Conversion:
    """Write the model that an adapter makes of its base as a new Hugging Face folder, and return what became of it.

    `adapter` is the output of `llmnotes finetune` or a folder in PEFT's layout; `base` is the model it was trained on,
    by default the one that it names. The weights keep the types of the base's files; each sum is made in float32. Where
    the base was in 4 bits during the training, the adapter is added to what these 4 bits stand for, so that the model
    is the one that was trained and measured. The tokenizer is the adapter's, if it has one.

    PEFT does the arithmetic: LoRA with its variants (DoRA, ranks for single layers, biases, whole modules, rows of
    tokens), LoHa, LoKr, IA3 and others that can be merged. One layer is in memory at a time, and the adapter.

    Raises `AdapterUnfit` (no adapter, one of another model, a base that is quantized in its files), `ModelNotFound` for
    a base that is not there, `MissingPart` without PEFT, and what `new_folder` raises.
    """
    path = path_of(str(adapter))
    if not is_adapter(path):
        raise AdapterUnfit(f"{adapter} holds no adapter; give the output of llmnotes finetune, or an adapter's folder.")
    return _merge(path, Path(target), str(base) if base is not None else None)


@contextmanager
def whole(path: Path, name: str, depth: int = 0) -> Iterator[Path]:
    """Give the Hugging Face folder of a model: `path` itself if it is one, and otherwise one that is removed again.

    A GGUF file is converted for the occasion, and an adapter is merged into its base; both take the model's size on the
    disk of temporary files. Raises `ModelNotFound` for another file, and what `merge` and `convert` raise.
    """
    if path.is_dir() and not is_adapter(path):
        yield path
        return
    if not path.is_dir() and not _is_gguf(path):
        raise ModelNotFound(f"{name} is a file; give the folder that holds it together with its config.json.")
    with temporary_folder() as temporary:
        folder = temporary / (name_of(path) if path.is_dir() else "model")
        if path.is_dir():
            _merge(path, folder, None, depth)
        else:
            formats.convert(path, folder, to="huggingface")
        yield folder


def _is_gguf(path: Path) -> bool:
    try:
        return formats.identify(path).format == "GGUF"
    except UnknownFormat:
        return False


def base_folder(adapter: Path, name: str | None = None, parts: tuple[str, ...] = WHOLE) -> Path:
    """Return the file or folder of the model that an adapter names, or of `name`; of one on the hub, these `parts`.

    Raises `ModelNotFound`, and `AdapterUnfit` for an adapter that its base's config.json does not fit: that file is
    brought first, and nothing more then.
    """
    found = base_of(adapter)
    wanted = (name, None) if name is not None else (found.name, found.revision)
    try:
        here = path_of(*wanted, CONFIG)
        if parts == CONFIG:
            return here
        _refuse_unfit(adapter, here)
        return path_of(*wanted, parts)
    except ModelNotFound as error:
        raise ModelNotFound(
            f"{adapter} is an adapter to a model that is not here: {str(error).rstrip('.')}; if it lies elsewhere, "
            f"merge both: llmnotes merge {adapter} FOLDER --base MODEL"
        ) from None


def config_folder(path: Path) -> Path:
    """Return the folder with the config.json of a model: of an adapter, that of its base. It may hold that alone."""
    for _ in range(DEPTH):
        if is_adapter(path):
            path = base_folder(path, parts=CONFIG)
    return path


def _refuse_unfit(adapter: Path, base: Path) -> None:
    """Raise `AdapterUnfit` for an adapter to another model than that whose config.json has come, and no weights yet."""
    config = base / "config.json"
    if is_adapter(base) or not config.is_file() or any(base.glob("*.safetensors")):
        return
    quantization = settings(config).get("quantization_config")
    if isinstance(quantization, dict) and quantization:
        raise _quantized(adapter, base, f"quantized ({causes.in_words(quantization)})")
    from llmnotes.models.merging import Merging

    Merging(base, adapter)


def _quantized(adapter: Path, base: Path, what: str) -> AdapterUnfit:
    return AdapterUnfit(
        f"The base {base} is {what}; give the folder of the model it was made from: llmnotes merge {adapter} FOLDER "
        "--base MODEL"
    )


def _merge(adapter: Path, target: Path, base: str | None, depth: int = 0) -> Conversion:
    from llmnotes.models.merging import Merging

    if depth == DEPTH:
        raise ModelBroken(f"{adapter} is an adapter to an adapter, and so on {DEPTH} times; merge the first of them.")
    path = base_folder(adapter, base)
    with whole(path, path.name, depth + 1) as folder:
        found = formats.inspect(folder)
        method = causes.quantized_by(found)
        if method is not None or found.identity.format != "Hugging Face folder":
            raise _quantized(adapter, path, found.identity.format if method is None else f"quantized ({method})")
        merging = Merging(folder, adapter)
        with progress(found.nbytes, target.name) as advance:
            parts, ties, left = _parts(found, merging, base_of(adapter).quantization is not None, advance)
            with new_folder(target) as new:
                lost = copy_beside(found, new)
                _settings(new, found, merging)
                _tokenizer(new, adapter)
                with new.file("model.safetensors") as file:
                    write_safetensors(file, parts, {"format": "pt"} | ties)
        done = Conversion.of(found, target, "huggingface", parts, lost, left=left, ties=ties)
        return replace(checked(found, done), source=adapter)


def _parts(
    found: Inspection, merging: Merging, quantized: bool, advance: Callable[[int], None]
) -> tuple[list[PlannedTensor], dict[str, str], dict[str, str]]:
    """Return (the tensors to write, {further name: the tensor it is tied to}, {tensor left out: why})."""
    import torch

    from llmnotes.quantization import nf4  # it imports NumPy, which takes a while

    types = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
    given, ties = parts_and_ties(found, advance)
    rules = causes.renaming([part.name for part in given], merging.shapes)
    named = {rules.new(part.name) if rules else part.name: part for part in given}
    lost = next((name for name in merging.changed if name not in named and name != merging.untied), None)
    if lost is not None:
        raise AdapterUnfit(
            f"The adapter in {merging.adapter} changes {lost[:80]}, which its base stores under other names; merge "
            "them with PEFT's merge_and_unload."
        )

    def read(name: str) -> torch.Tensor:
        part = named.get(name) or named[merging.table]  # a head that was tied is the table
        values = torch.frombuffer(bytearray(b"".join(part.data())), dtype=types[part.dtype]).reshape(part.shape).float()
        if quantized and name in merging.linear:
            coded = nf4.quantize(values.numpy(), block_size=64, double=True, threads=torch.get_num_threads())
            values = torch.from_numpy(coded.dequantize(torch.get_num_threads()))
        return values

    def data(name: str, dtype: str) -> Iterator[bytes]:
        values = merging.merged(name, read) if name in merging.changed else read(name)
        yield values.to(types[dtype]).contiguous().view(-1).view(torch.uint8).numpy().tobytes()

    made, left = [], {}
    for name, part in named.items():
        if name not in merging.shapes and merging.is_copy(name):
            left[part.name] = TWICE
        elif name in merging.changed or quantized and name in merging.linear:
            source = partial(data, name, part.dtype)
            made.append(PlannedTensor(name, part.dtype, merging.shapes[name], source, part.sources))
        else:
            made.append(replace(part, name=name))
    if merging.untied and merging.untied not in named:
        table = named[merging.table]
        source = partial(data, merging.untied, table.dtype)
        made.append(PlannedTensor(merging.untied, table.dtype, merging.shapes[merging.untied], source, table.sources))
    return made, {name: first for name, first in ties.items() if name != merging.untied}, left


def _settings(new: NewFolder, found: Inspection, merging: Merging) -> None:
    """Write config.json again where the adapter has changed the number of tokens, or taken head and table apart."""
    config = dict(found.metadata["config"])
    now = merging.config.to_dict()
    changes = {key: now[key] for key in ("vocab_size", "tie_word_embeddings") if key in now}
    if any(config.get(key) != value for key, value in changes.items()):
        with new.file("config.json") as file:
            file.write(json.dumps(config | changes, indent=2).encode() + b"\n")


def _tokenizer(new: NewFolder, adapter: Path) -> None:
    """Put the adapter's tokenizer, if it has one, in the place of the base's."""
    if not any((adapter / name).is_file() for name in ("tokenizer.json", "tokenizer.model")):
        return
    for name in [name for name in new.files if name.startswith(TOKENIZER)]:
        del new.files[name]
    for path in sorted(adapter.iterdir()):
        if path.name.startswith(TOKENIZER) and path.suffix in (".json", ".jinja", ".model", ".txt"):
            with new.file(path.name) as file:
                file.write(path.read_bytes())
