"""A model as a folder: config.json, weights in one file or many, a tokenizer; or an adapter to such a model."""

import os
import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path

from llmnotes.errors import FileBroken, FileUnreadable, NotConvertible
from llmnotes.formats import beside, causes, pytorch, safetensors
from llmnotes.formats.beside import index_of
from llmnotes.formats.files import Source, encodable, refuse_pointer
from llmnotes.formats.format import Format
from llmnotes.formats.results import UNREAD, Identity, Inspection, Tensor, counted

# In the order in which transformers looks for them.
WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
ADAPTER = ("adapter_model.safetensors", "adapter_model.bin")
SHARD = re.compile(r"(model|pytorch_model)-(\d{1,9})-of-(\d{1,9})\.(safetensors|bin)")
ORIGINAL = "Mistral or Meta folder"  # params.json and consolidated weights, under names of their own
ELSEWHERE = "take the same model in the folder that was made for transformers, with model.safetensors"


def identify(source: Source) -> Identity | None:
    """Return the identity of a file that says which shard of a model holds which tensor, or None for any other."""
    index = index_of(source)
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
    index = index_of(source) or {}
    found = _together(source, identity, _shards(source, index), index)
    names = {tensor.name for tensor in found.tensors}
    lost = next((name for name in index if name not in names), None)
    if lost is not None:
        raise source.broken(f"{lost[:80]!r} is in none of its shards")
    if len(names) > len(index):
        more = f"The shards hold {counted(len(names) - len(index), 'tensor')} that the index does not name."
        return replace(found, notes=(*found.notes, more))
    return found


def _together(source: Source, identity: Identity, shards: list[str], index: dict[str, str]) -> Inspection:
    """Return what the headers of the `shards` beside a file say, no tensor of which lies in two.

    Of those that a tensor-parallel program wrote, two hold slices of a tensor under one name: the second gets a number.
    """
    sliced = len(shards) > 1 and all(beside.RANK.fullmatch(shard) for shard in shards)
    tensors, metadata, notes, home = [], {}, [], {}
    for shard in shards:
        path = source.path.parent / shard
        with Source(path) as file:
            if index_of(file) is not None:
                raise source.broken(f"its shard {shard[:80]!r} is an index again")
        inspection = _weights(path, SHARDS)
        if inspection is None:
            refuse_pointer(path)
            raise source.broken(f"its shard {shard[:80]!r} is no file of weights")
        found = _numbered(inspection.tensors, home) if sliced else inspection.tensors
        for tensor in found:
            if tensor.name in home:
                raise source.broken(f"{tensor.name[:80]!r} lies in two of its shards")
            if index.get(tensor.name, shard) != shard:
                raise source.broken(f"{tensor.name[:80]!r} lies in another shard than it says")
            home[tensor.name] = shard
        tensors += found
        metadata |= inspection.metadata
        notes += [note for note in inspection.notes if note not in notes]
    return Inspection(source.path, identity, tuple(tensors), metadata, notes=tuple(notes))


def _numbered(tensors: Iterable[Tensor], home: Collection[str]) -> list[Tensor]:
    """Return a slice's tensors, those whose names other slices have as NAME#2 and so on.

    Vectors are not sliced: each file has them whole, and they count once.
    """
    names = {}
    for tensor in tensors:
        numbered = (f"{tensor.name}#{number}" for number in count(2))
        names[tensor.name] = tensor.name if tensor.name not in home else next(n for n in numbered if n not in home)
    return [
        replace(
            tensor if names[tensor.name] == tensor.name else tensor.renamed(names[tensor.name]),
            alias=names.get(tensor.alias, tensor.alias) if tensor.alias else None,
            counts=tensor.counts and (names[tensor.name] == tensor.name or len(tensor.shape) > 1),
        )
        for tensor in tensors
    ]


def refuse_two(path: Path) -> None:
    """Raise `NotConvertible` for a folder in which an adapter lies beside the weights of a whole model."""
    whole = [name for name in WEIGHTS if (path / name).exists()] or _loose(path) or _consolidated(path)
    if whole and any((path / name).exists() for name in ADAPTER):
        raise NotConvertible(
            f"{path.name} holds an adapter and a whole model, {whole[0]}, and nothing says which is meant; move one of "
            "them into a folder of its own."
        )


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
    found = [name for name in WEIGHTS if (path / name).exists()] or _loose(path)
    adapters = [name for name in ADAPTER if (path / name).exists()]
    if (path / "adapter_config.json").is_file() and (adapters or not found):
        return Identity("PEFT adapter", "", " and ".join(["adapter_config.json", *adapters[:1]]))
    if is_original(path):
        names = [name for name in ("params.json", "config.json") if (path / name).exists()]
        return Identity(ORIGINAL, "", " and ".join([*names, *_consolidated(path)[:1]]))
    if found or _speaks_of_a_model(path / "config.json"):
        names = ["config.json"] * (path / "config.json").exists() + found[:1]
        return Identity("Hugging Face folder", "", " and ".join(names))
    return None


def inspect_folder(path: Path, identity: Identity) -> Inspection:
    """Return what the settings and the headers of all weights say; `metadata["config"]` holds the settings.

    Raises `FileBroken` for settings that are not JSON, and what `inspect` raises for a model in shards.
    """
    if identity.format == ORIGINAL:
        return _inspect_original(path, identity)
    adapter = identity.format == "PEFT adapter"
    config = settings(path / ("adapter_config.json" if adapter else "config.json"))
    found = [name for name in (ADAPTER if adapter else WEIGHTS) if (path / name).exists()]
    shards = [] if found or adapter else _loose(path)
    if not found and not shards:
        need = ADAPTER[0] if adapter else WEIGHTS[0]
        raise FileBroken(f"{path} has settings and no {need}; copy the weights to where the settings are.")
    weights = _of_loose_shards(path, identity, shards) if shards else _weights(path / found[0], (FORMAT, *SHARDS))
    if weights is None:
        refuse_pointer(path / found[0])
        raise FileBroken(f"{path / found[0]} holds no weights and no index of them; copy it again.")
    metadata = {"config": config} | ({"weights": weights.metadata} if weights.metadata else {})
    model = None if adapter else _architecture(config)
    whole = replace(weights, path=path, identity=identity, metadata=metadata, architecture=model)
    used = {*found[:1], *(beside.places(path / found[0]) if found else shards)}
    return replace(whole, notes=(*whole.notes, *_notes(whole, beside.unread(path, used))))


def _of_loose_shards(path: Path, identity: Identity, shards: list[str]) -> Inspection:
    """Return what shards hold that lie in a folder without their index; each says in its name how many there are."""
    places = [match for shard in shards if (match := SHARD.fullmatch(shard))]
    counts = {int(place[3]) for place in places}
    numbers = sorted(int(place[2]) for place in places)
    if len(counts) != 1 or numbers != list(range(1, len(numbers) + 1)) or len(numbers) != max(counts):
        said = ", ".join(f"{count:,}" for count in sorted(counts))
        raise FileBroken(
            f"{path} has {counted(len(shards), 'shard')} of {said} and no index of them; copy the others there, "
            "and what belongs to another model away."
        )
    with Source(path / shards[0]) as source:
        found = _together(source, identity, shards, {})
    note = f"{counted(len(shards), 'shard')} without an index were read; transformers wants one."
    return replace(found, notes=(note, *found.notes))


def _inspect_original(path: Path, identity: Identity) -> Inspection:
    """Return what the weights of Mistral's or Meta's own programs hold."""
    config = next((settings(path / name) for name in ("params.json", "config.json") if (path / name).exists()), {})
    with Source(path / _consolidated(path)[0]) as source:
        weights = _together(source, identity, _consolidated(path), {})
    notes = [f"The tensors have the names of Mistral's and Meta's own programs: to convert or open it, {ELSEWHERE}."]
    if any(tensor.origin for tensor in weights.tensors):
        notes.append(
            "The files hold slices of the same tensors: the name of each further slice ends in # and a number."
        )
    return replace(weights, path=path, metadata={"config": config}, notes=(*notes, *weights.notes))


def _loose(path: Path) -> list[str]:
    """Return the names of the shards in a folder that has no index of them; safetensors before pickles."""
    names = sorted(entry.name for entry in path.glob("*") if SHARD.fullmatch(entry.name))
    return [name for name in names if name.endswith(".safetensors")] or names


def _consolidated(path: Path) -> list[str]:
    """Return the names of the weights of Mistral's or Meta's own programs; safetensors before pickles."""
    names = sorted(
        entry.name
        for entry in path.glob("consolidated*")
        if re.match(r"consolidated\b.*\.(safetensors|pth)$", entry.name)
    )
    return [name for name in names if name.endswith(".safetensors")] or names


def is_original(path: Path) -> bool:
    """Return whether a folder holds weights for Mistral's or Meta's own programs alone."""
    return bool(_consolidated(path)) and not any((path / name).exists() for name in WEIGHTS) and not _loose(path)


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


def _notes(whole: Inspection, unread: list[str]) -> Iterator[str]:
    config, names = whole.metadata["config"], {tensor.name for tensor in whole.tensors}
    if config.get("tie_word_embeddings") is True and "lm_head.weight" not in names:
        yield "The output layer is the embedding table once more (tie_word_embeddings); its weights are stored once."
    if unread:
        one = len(unread) == 1
        yield f"{', '.join(unread)} {'lies' if one else 'lie'} {UNREAD} {'it' if one else 'them'}."
    method = causes.quantized_by(whole)
    if method is not None:
        yield f"The weights are quantized ({method}): what is counted here are packed elements, and no parameters."
    prefix = causes.wrapper_of(names)
    if prefix is not None:
        yield f"Every tensor's name begins with {prefix}, which a wrapper put there; the model's own names do not."
    code = sorted(path.name for path in whole.path.glob("*.py"))
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


def _shards(source: Source, index: dict[str, str]) -> list[str]:
    """Return the names of the shards, all of which are files in the folder of the index."""
    shards = sorted(set(index.values()))
    for shard in shards:
        if shard in ("", ".", "..") or set(shard) & set("/\\:\0") or not encodable(shard):
            raise source.broken(f"its shard {shard[:80]!r} is no file of this folder")
        if not os.path.isfile(source.path.parent / shard):
            raise source.broken(f"its shard {shard[:80]!r} is missing")
    return shards


def _is_safetensors(path: Path) -> bool:
    with Source(path) as source:
        return safetensors.identify(source) is not None
