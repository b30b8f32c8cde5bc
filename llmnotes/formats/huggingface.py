"""A model as a folder: config.json, weights in one file or many, a tokenizer; or an adapter to such a model."""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from llmnotes.errors import FileBroken, FileUnreadable
from llmnotes.formats import pytorch, safetensors
from llmnotes.formats.files import HEADER_LIMIT, Source
from llmnotes.formats.format import Format
from llmnotes.formats.results import Identity, Inspection, Tensor, counted

# In the order in which transformers looks for them.
WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
ADAPTER = ("adapter_model.safetensors", "adapter_model.bin")


def identify(source: Source) -> Identity | None:
    """Return the identity of a file that says which shard of a model holds which tensor, or None for any other."""
    index = _index(source)
    if index is None:
        return None
    shards = _shards(source, index)
    kind = "safetensors" if _is_safetensors(source.path.parent / shards[0]) else "PyTorch"
    return Identity(
        f"sharded {kind}",
        "",
        f"JSON whose weight_map places {counted(len(index), 'tensor')} in {counted(len(shards), 'file')}",
    )


def inspect(source: Source, identity: Identity) -> Inspection:
    """Return what the headers of all shards say; each tensor has the path of its own shard.

    Raises `FileBroken` for a shard that is missing or lies outside the folder, and for a tensor that two shards hold
    or that is not where the index says.
    """
    index = _index(source) or {}
    tensors, metadata, notes, home = [], {}, [], {}
    for shard in _shards(source, index):
        path = source.path.parent / shard
        with Source(path) as file:
            if _index(file) is not None:
                raise source.broken(f"its shard {shard[:80]!r} is an index again")
        inspection = _weights(path, SHARDS)
        if inspection is None:
            raise source.broken(f"its shard {shard[:80]!r} is no file of weights")
        for tensor in inspection.tensors:
            if tensor.name in home:
                raise source.broken(f"{tensor.name[:80]!r} lies in two of its shards")
            if index.get(tensor.name, shard) != shard:
                raise source.broken(f"{tensor.name[:80]!r} lies in another shard than it says")
            home[tensor.name] = shard
        tensors += inspection.tensors
        metadata |= inspection.metadata
        notes += [note for note in inspection.notes if note not in notes]
    lost = next((name for name in index if name not in home), None)
    if lost is not None:
        raise source.broken(f"{lost[:80]!r} is in none of its shards")
    if len(home) > len(index):
        notes.append(f"The shards hold {counted(len(home) - len(index), 'tensor')} that the index does not name.")
    return Inspection(source.path, identity, tuple(tensors), metadata, notes=tuple(notes))


def read(inspection: Inspection, tensor: Tensor) -> Iterator[bytes]:
    """Yield the bytes of a tensor that its shard does not hold as they are."""
    path = tensor.path or inspection.path
    with Source(path) as source:
        for format in SHARDS:
            identity = format.identify(source)
            if identity is not None:
                return format.read(replace(inspection, path=path, identity=identity), tensor)
        raise source.broken("it is no longer a file of weights")


def identify_folder(path: Path) -> Identity | None:
    """Return the identity of a folder of weights and settings, or None for any other."""
    found = [name for name in WEIGHTS if (path / name).exists()]
    adapters = [name for name in ADAPTER if (path / name).exists()]
    if (path / "adapter_config.json").is_file() and (adapters or not found):
        return Identity("PEFT adapter", "", " and ".join(["adapter_config.json", *adapters[:1]]))
    if found or _speaks_of_a_model(path / "config.json"):
        names = ["config.json"] * (path / "config.json").exists() + found[:1]
        return Identity("Hugging Face folder", "", " and ".join(names))
    return None


def inspect_folder(path: Path, identity: Identity) -> Inspection:
    """Return what the settings and the headers of all weights say; `metadata["config"]` holds the settings.

    Raises `FileBroken` for settings that are not JSON, and what `inspect` raises for a model in shards.
    """
    adapter = identity.format == "PEFT adapter"
    config = settings(path / ("adapter_config.json" if adapter else "config.json"))
    found = [name for name in (ADAPTER if adapter else WEIGHTS) if (path / name).exists()]
    if not found:
        need = ADAPTER[0] if adapter else WEIGHTS[0]
        raise FileBroken(f"{path} has settings and no {need}; copy the weights to where the settings are.")
    weights = _weights(path / found[0], (FORMAT, *SHARDS))
    if weights is None:
        raise FileBroken(f"{path / found[0]} holds no weights and no index of them; copy it again.")
    notes = (*weights.notes, *_notes(path, config, weights, found))
    metadata = {"config": config} | ({"weights": weights.metadata} if weights.metadata else {})
    return Inspection(path, identity, weights.tensors, metadata, None if adapter else _architecture(config), notes)


FORMAT = Format(identify, inspect, read)  # an index of shards
FOLDER = Format(identify_folder, inspect_folder, read)
SHARDS = (safetensors.FORMAT, pytorch.FORMAT)  # what a file of weights may be


def _weights(path: Path, formats: tuple[Format[Source], ...]) -> Inspection | None:
    """Return what one file of weights holds, or None if it is in none of the `formats`."""
    with Source(path) as source:
        for format in formats:
            identity = format.identify(source)
            if identity is not None:
                return format.inspect(source, identity)
    return None


def settings(path: Path) -> dict:
    """Return the JSON object in a small file such as config.json; raise `FileBroken` if there is none."""
    with Source(path) as source:
        return source.json(0, source.size, unique=False)  # published configs do have keys twice


def _notes(folder: Path, config: dict, weights: Inspection, found: list[str]) -> Iterator[str]:
    names = {tensor.name for tensor in weights.tensors}
    if config.get("tie_word_embeddings") is True and "lm_head.weight" not in names:
        yield "The output layer is the embedding table once more (tie_word_embeddings); its weights are stored once."
    if found[1:]:
        yield f"{' and '.join(found[1:])} lies beside the weights and was not read."
    packed = config.get("quantization_config")
    if isinstance(packed, dict):
        method = str(packed.get("quant_method"))[:40]
        yield f"The weights are quantized ({method}): what is counted here are packed elements, and no parameters."
    code = sorted(path.name for path in folder.glob("*.py"))
    if code:
        yield f"The folder holds {counted(len(code), 'program')}, {code[0]} first; nothing here runs them."


def _architecture(config: dict) -> str | None:
    names = config.get("architectures")
    name = names[0] if isinstance(names, list) and names else config.get("model_type")
    return name if isinstance(name, str) else None


def _speaks_of_a_model(path: Path) -> bool:
    try:
        config = settings(path)
    except (FileBroken, FileUnreadable):
        return False
    return "model_type" in config or "architectures" in config


def _index(source: Source) -> dict[str, str] | None:
    """Return {tensor: shard} if the file is an index of shards."""
    if source.size > HEADER_LIMIT or not source.head(64).lstrip().startswith(b"{"):
        return None
    text = source.head(HEADER_LIMIT)
    if b'"weight_map"' not in text:
        return None
    index = source.parse(text).get("weight_map")
    if not isinstance(index, dict) or not index or not all(isinstance(shard, str) for shard in index.values()):
        raise source.broken("its weight_map is no list of tensors with their files")
    return index


def _shards(source: Source, index: dict[str, str]) -> list[str]:
    """Return the names of the shards, all of which are files in the folder of the index."""
    shards = sorted(set(index.values()))
    for shard in shards:
        if shard in ("", ".", "..") or set(shard) & set("/\\:\0") or not _encodable(shard):
            raise source.broken(f"its shard {shard[:80]!r} is no file of this folder")
        if not os.path.isfile(source.path.parent / shard):
            raise source.broken(f"its shard {shard[:80]!r} is missing")
    return shards


def _encodable(name: str) -> bool:
    try:
        return bool(name.encode())
    except UnicodeEncodeError:  # half of a surrogate pair, which JSON can hold
        return False


def _is_safetensors(path: Path) -> bool:
    with Source(path) as source:
        return safetensors.identify(source) is not None
