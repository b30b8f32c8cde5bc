"""Write a model's tensors unchanged in another container: a file or folder of safetensors or of PyTorch."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from llmnotes.errors import NotConvertible
from llmnotes.formats import safetensors
from llmnotes.formats.beside import ENDINGS, OLDER, READ
from llmnotes.formats.files import Source, refuse_pointer, stored
from llmnotes.formats.progress import progress
from llmnotes.formats.registry import read
from llmnotes.formats.results import NOT_READ, Conversion, Inspection, PlannedTensor, Tensor, counted
from llmnotes.formats.safe_write import NewFolder, new_file, new_folder
from llmnotes.formats.safetensors import write_safetensors
from llmnotes.formats.stretch import stretches
from llmnotes.formats.targets import TARGETS, keep_types

# What the weights of a folder are called.
NAMES = {
    ("Hugging Face folder", "safetensors"): "model.safetensors",
    ("Hugging Face folder", "pytorch"): "pytorch_model.bin",
    ("PEFT adapter", "safetensors"): "adapter_model.safetensors",
    ("PEFT adapter", "pytorch"): "adapter_model.bin",
}
PICKLED = ("PyTorch zip", "PyTorch legacy", "PyTorch tar", "TorchScript", "sharded PyTorch")
BESIDE = (".json", ".jinja", ".txt", ".md", ".model", ".tiktoken", "")  # settings, tokenizer, templates, licences


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
    inspection: Inspection,
    advance: Callable[[int], None] = lambda count: None,
    stored: Callable[[Tensor], Iterator[Any]] = stored,
) -> tuple[list[PlannedTensor], dict[str, str]]:
    """Return each tensor that has bytes of its own, ready to be written, and {further name: the tensor it is tied to}.

    Ties are storages that are shared, and what the metadata of safetensors says of names that were left out. Of a
    trainer's checkpoint the model's tensors count alone, by the names that the model has for them. `advance` hears how
    many bytes have passed; `stored` gives those that lie in a file as they are.

    Raises `NotConvertible` for a type that safetensors has no name for, and for no tensors at all.
    """

    def data(tensor: Tensor) -> Iterator[bytes]:
        for piece in read(inspection, tensor) if tensor.offset is None else stored(tensor):
            yield piece
            advance(len(piece))

    parts, ties, kept = [], {}, {}
    for tensor in inspection.tensors:
        if tensor.name in inspection.beside:
            continue
        name = tensor.name.removeprefix(inspection.prefix)
        first = kept.setdefault(tensor.alias or tensor.name, name)
        if first != name:
            ties[name] = first
        elif tensor.dtype not in safetensors.ORDER:
            raise NotConvertible(
                f"safetensors has no name for the type {tensor.dtype} of {name}; leave that tensor out."
            )
        else:
            parts.append(PlannedTensor(name, tensor.dtype, tensor.shape, partial(data, tensor), (tensor.name,)))
    if not parts:
        unread = next((note for note in inspection.notes if NOT_READ in note), None)
        if unread is not None:
            raise NotConvertible(f"{inspection.path.name} holds no tensors that llmnotes reads: {unread}")
        raise NotConvertible(f"{inspection.path.name} holds no tensors; `llmnotes inspect` shows what it holds.")
    names = {part.name for part in parts}
    said = weights_metadata(inspection).items()
    ties |= {name: first for name, first in said if name not in names and name not in ties and first in names}
    return parts, ties


def values_left(inspection: Inspection, used: tuple[str, ...] = ()) -> tuple[str, ...]:
    """Return a sentence on what a checkpoint holds besides tensors and what is `used` of it, or none."""
    names = [name for name in inspection.metadata if name not in ("sys_info", "imports", *used)]
    if inspection.identity.format not in PICKLED or not names:
        return ()
    return (f"Left out: {counted(len(names), 'value')} besides the tensors, {', '.join(names)[:200]}.",)


def copy_beside(inspection: Inspection, folder: NewFolder) -> tuple[str, ...]:
    """Copy a model's settings, tokenizer and templates into `folder`; return a sentence on what stayed behind.

    The files of weights that were not read stand in a note of the inspection. Raises `FileBroken` where Git LFS has not
    brought what is to be copied.
    """
    left = []
    for path in sorted(inspection.path.iterdir()):
        if path.name.endswith(".index.json") or path.suffix.lower() in ENDINGS or path.name.startswith("."):
            continue
        if path.suffix.lower() not in BESIDE or not path.is_file():
            left.append(path.name)
            continue
        if READ.fullmatch(path.name) or OLDER.fullmatch(path.name):
            refuse_pointer(path)
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
    keep_types(type)
    lost = values_left(inspection)
    name = NAMES.get((inspection.identity.format, to))
    with progress(inspection.nbytes, dst.name) as advance:
        report = {"advance": advance} if to == "safetensors" else {}  # torch reads later, and its writer reports
        parts, ties = parts_and_ties(inspection, stored=stretches, **report)
        if name and dst.suffix.lower() not in TARGETS[to]:
            with new_folder(dst) as folder:
                lost += copy_beside(inspection, folder)
                with folder.file(name) as file:
                    lost += _write(file, parts, ties, inspection, to, advance)
        else:
            lost += ("The file holds only the weights: the settings and the tokenizer stay in the folder.",) * bool(
                name
            )
            with new_file(dst) as file:
                lost += _write(file, parts, ties, inspection, to, advance)
    return Conversion.of(inspection, dst, to, parts, lost, left=inspection.beside, ties=ties)


def _write(
    file: BinaryIO, parts: list[PlannedTensor], ties: dict[str, str], inspection: Inspection, to: str, advance
) -> tuple:
    metadata = {key: value for key, value in weights_metadata(inspection).items() if key not in ties}
    if to == "safetensors":
        write_safetensors(file, parts, {"format": "pt"} | metadata | ties)
        if not ties or inspection.identity.format not in PICKLED:
            return ()
        pairs = ", ".join(f"{name} = {first}" for name, first in ties.items())
        return (
            f"safetensors cannot tie weights; each is stored once, and the metadata names the others: {pairs[:300]}.",
        )
    from llmnotes.formats.pytorch import write as pytorch_write  # it imports torch, which takes a second

    pytorch_write.write(file, parts, ties, advance)
    other = sorted(metadata.keys() - {"format"})
    return (f"A state dict cannot hold metadata; left out: {', '.join(other)[:200]}.",) if other else ()


def weights_metadata(inspection: Inspection) -> dict[str, str]:
    """Return the texts that the header of the weights holds; what a pickle holds besides tensors is not among them."""
    found = {} if inspection.identity.format in PICKLED else inspection.metadata
    if inspection.identity.format in ("Hugging Face folder", "PEFT adapter"):
        found = found.get("weights", {})
    return {key: value for key, value in found.items() if isinstance(value, str)}
