"""The same tensors in another container: a file or a folder of safetensors or of PyTorch; nothing is computed."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import BinaryIO

from llmnotes.errors import NotConvertible
from llmnotes.formats import safetensors
from llmnotes.formats.convert import TARGETS, Conversion
from llmnotes.formats.files import Inspection, Source
from llmnotes.formats.progress import progress
from llmnotes.formats.pytorch_convert import parts_of
from llmnotes.formats.safe_write import NewFolder, new_file, new_folder
from llmnotes.formats.safetensors import Part

# What the weights of a folder are called.
NAMES = {
    ("Hugging Face folder", "safetensors"): "model.safetensors",
    ("Hugging Face folder", "pytorch"): "pytorch_model.bin",
    ("PEFT adapter", "safetensors"): "adapter_model.safetensors",
    ("PEFT adapter", "pytorch"): "adapter_model.bin",
}
BESIDE = (".json", ".jinja", ".txt", ".md", ".model", ".tiktoken", "")  # settings, tokenizer, templates, licences
WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".gguf", ".onnx", ".data", ".h5", ".msgpack", ".pb")


def to_safetensors(inspection: Inspection, dst: Path, type: str | None = None) -> Conversion:
    """Write all tensors as safetensors; a folder becomes a folder unless `dst` ends in .safetensors.

    With a folder go its settings, tokenizer and templates, and neither programs nor pickles. A weight that is tied to
    another is stored once; the file's metadata gives its other name, as the official `save_model` does.

    Raises `NotConvertible` for a dtype that safetensors has no name for, or if a `type` is asked for.
    """
    return _repack("safetensors", inspection, dst, type)


def to_pytorch(inspection: Inspection, dst: Path, type: str | None = None) -> Conversion:
    """Write all tensors as a PyTorch state dict; a folder becomes a folder unless `dst` ends in .pt, .pth, .bin, .ckpt.

    Tied weights share one storage. Raises what `to_safetensors` raises.
    """
    return _repack("pytorch", inspection, dst, type)


def parts_and_ties(
    inspection: Inspection, advance: Callable[[int], None] = lambda count: None
) -> tuple[list[Part], dict[str, str]]:
    """Return each tensor that has bytes of its own, ready to be written, and {further name: the tensor it is tied to}.

    Ties are storages that are shared, and what the metadata of safetensors says of names that were left out.
    `advance` hears how many bytes have passed.
    """
    parts, ties = parts_of(inspection, [(tensor.name, tensor) for tensor in inspection.tensors])
    names = {part.name for part in parts}
    said = weights_metadata(inspection).items()
    ties |= {name: kept for name, kept in said if name not in names and name not in ties and kept in names}

    def watched(data: Callable[[], Iterable[bytes]]) -> Iterator[bytes]:
        for piece in data():
            yield piece
            advance(len(piece))

    return [replace(part, data=partial(watched, part.data)) for part in parts], ties


def copy_beside(inspection: Inspection, folder: NewFolder) -> tuple[str, ...]:
    """Copy a model's settings, tokenizer and templates into `folder`; return a sentence on what stayed behind."""
    left = []
    for path in sorted(inspection.path.iterdir()):
        if path.name.endswith(".index.json") or path.suffix.lower() in WEIGHTS or path.name.startswith("."):
            continue
        if path.suffix.lower() not in BESIDE or not path.is_file():
            left.append(path.name)
            continue
        with Source(path) as source:
            head = source.head(2)
            if head == b"PK" or head[:1] == b"\x80":  # an archive or a pickle under a harmless name
                left.append(path.name)
                continue
            with folder.file(path.name) as file:
                for piece in source.stream(0, source.size):
                    file.write(piece)
    if not left:
        return ()
    return (f"Programs, pickles and folders were not copied: {', '.join(left[:10])}{' …' * (len(left) > 10)}.",)


def _repack(to: str, inspection: Inspection, dst: Path, type: str | None) -> Conversion:
    if type is not None:
        raise NotConvertible(f"A type is chosen for GGUF alone, and {to} keeps the types as they are; leave it out.")
    lost = ()
    name = NAMES.get((inspection.identity.format, to))
    with progress(inspection.nbytes, dst.name) as advance:
        parts, ties = parts_and_ties(inspection, advance)
        if name and dst.suffix.lower() not in TARGETS[to]:
            with new_folder(dst) as folder:
                lost = copy_beside(inspection, folder)
                with folder.file(name) as file:
                    lost += _write(file, parts, ties, inspection, to)
        else:
            lost = ("One file holds the weights alone: settings and tokenizer stay in the folder.",) * bool(name)
            with new_file(dst) as file:
                lost += _write(file, parts, ties, inspection, to)
    nbytes = sum(part.nbytes for part in parts)
    return Conversion(inspection.path, dst, inspection.identity, to, len(parts), nbytes, {}, lost)


def _write(file: BinaryIO, parts: list[Part], ties: dict[str, str], inspection: Inspection, to: str) -> tuple:
    metadata = {key: value for key, value in weights_metadata(inspection).items() if key not in ties}
    if to == "safetensors":
        safetensors.write(file, parts, {"format": "pt"} | metadata | ties)
        return ()
    from llmnotes.formats import pytorch_write  # costs as much as the rest of a copy's start

    pytorch_write.write(file, parts, ties)
    other = sorted(metadata.keys() - {"format"})
    return (f"A state dict has no metadata: {', '.join(other)[:200]}.",) if other else ()


def weights_metadata(inspection: Inspection) -> dict[str, str]:
    """Return the texts that the header of the weights holds; what a pickle holds besides tensors is not among them."""
    found = inspection.metadata
    if inspection.identity.format in ("Hugging Face folder", "PEFT adapter"):
        found = found.get("weights", {})
    return {key: value for key, value in found.items() if isinstance(value, str)}
