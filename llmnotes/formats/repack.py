"""The same tensors in another container: a file or a folder of safetensors or of PyTorch; nothing is computed."""

from collections.abc import Callable, Iterable, Iterator
from importlib import import_module
from pathlib import Path

from llmnotes.errors import NotConvertible
from llmnotes.formats import read
from llmnotes.formats.convert import TARGETS, Conversion
from llmnotes.formats.files import Inspection, Source, Tensor
from llmnotes.formats.progress import progress
from llmnotes.formats.safe_write import NewFolder, new_file, new_folder
from llmnotes.formats.safetensors import ORDER, Part

# What the weights of a folder are called.
NAMES = {
    ("Hugging Face folder", "safetensors"): "model.safetensors",
    ("Hugging Face folder", "pytorch"): "pytorch_model.bin",
    ("PEFT adapter", "safetensors"): "adapter_model.safetensors",
    ("PEFT adapter", "pytorch"): "adapter_model.bin",
}
WRITERS = {"safetensors": "llmnotes.formats.safetensors", "pytorch": "llmnotes.formats.pytorch_write"}
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


def parts_of(inspection: Inspection, advance: Callable[[int], None] = lambda count: None) -> list[Part]:
    """Return each tensor that has bytes of its own, ready to be written; `advance` hears how many bytes have passed."""
    tied = ties_of(inspection)

    def reader(tensor: Tensor) -> Callable[[], Iterator[bytes]]:
        def pieces():
            for piece in read(inspection, tensor):
                yield piece
                advance(len(piece))

        return pieces

    return [
        Part(tensor.name, tensor.dtype, tensor.shape, reader(tensor))
        for tensor in inspection.tensors
        if tensor.name not in tied
    ]


def ties_of(inspection: Inspection) -> dict[str, str]:
    """Return {name: the tensor it is tied to}: those with one storage, and those that safetensors' metadata names."""
    tensors = {tensor.name: tensor for tensor in inspection.tensors}
    ties = {}
    for tensor in inspection.tensors:
        kept = tensors.get(tensor.alias)
        if (
            kept
            and kept.alias is None
            and (kept.dtype, kept.shape, kept.offset)
            == (
                tensor.dtype,
                tensor.shape,
                tensor.offset,
            )
        ):
            ties[tensor.name] = kept.name
    if inspection.tensors and not ties:
        said = _metadata(inspection)
        ties = {name: kept for name, kept in said.items() if name not in tensors and kept in tensors}
    return ties


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
    strange = next((tensor for tensor in inspection.tensors if tensor.dtype not in ORDER), None)
    if strange is not None:
        raise NotConvertible(f"{to} has no name for the type {strange.dtype} of {strange.name[:80]!r}; leave it.")
    write, ties, lost = import_module(WRITERS[to]).write, ties_of(inspection), ()
    name = NAMES.get((inspection.identity.format, to))
    with progress(inspection.nbytes, dst.name) as advance:
        parts = parts_of(inspection, advance)
        if name and dst.suffix.lower() not in TARGETS[to]:
            with new_folder(dst) as folder:
                lost = copy_beside(inspection, folder)
                with folder.file(name) as file:
                    lost += _write(write, file, parts, ties, inspection, to)
        else:
            lost = ("One file holds the weights alone: settings and tokenizer stay in the folder.",) * bool(name)
            with new_file(dst) as file:
                lost += _write(write, file, parts, ties, inspection, to)
    nbytes = sum(part.nbytes for part in parts)
    return Conversion(inspection.path, dst, inspection.identity, to, len(parts), nbytes, {}, lost)


def _write(write, file, parts: Iterable[Part], ties: dict[str, str], inspection: Inspection, to: str) -> tuple:
    metadata = {key: value for key, value in _metadata(inspection).items() if key not in ties}
    if to == "safetensors":
        write(file, parts, {"format": "pt"} | metadata | ties)
        return ()
    write(file, parts, ties)
    return (f"A state dict holds no metadata: {', '.join(metadata)[:200]}.",) * bool(metadata.keys() - {"format"})


def _metadata(inspection: Inspection) -> dict[str, str]:
    """Return the texts that the weights' own header holds; a pickle's are its own affair."""
    if inspection.identity.format in ("Hugging Face folder", "PEFT adapter"):
        found = inspection.metadata.get("weights", {})
    elif inspection.identity.format.endswith("safetensors"):
        found = inspection.metadata
    else:
        return {}
    return {key: value for key, value in found.items() if isinstance(value, str)}
