"""From one format to another, a tensor at a time."""

from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path

from llmnotes.errors import NotConvertible
from llmnotes.formats import inspect
from llmnotes.formats.files import Identity, Inspection

# What a target is called on the command line, and the endings that choose it when nobody says.
TARGETS = {
    "safetensors": (".safetensors",),
    "pytorch": (".pt", ".pth", ".bin", ".ckpt"),
    "gguf": (".gguf",),
    "mmproj": (),  # a GGUF as well, and only asked for by name
    "onnx": (".onnx",),
    "tensorflow": (".index",),
    "huggingface": ("",),
}

# What holds tensors under the names that the model gives them, and can be packed anew.
REPACKED = (
    "safetensors",
    "sharded safetensors",
    "PyTorch zip",
    "PyTorch legacy",
    "PyTorch tar",
    "TorchScript",
    "sharded PyTorch",
    "Hugging Face folder",
    "PEFT adapter",
    "llama2.c",
)

# (what the source is, target) -> the function that does it: f(inspection, dst, type) -> Conversion
ROUTES: dict[tuple[str, str], str] = {
    **{(kind, "safetensors"): "repack:to_safetensors" for kind in REPACKED},
    **{(kind, "pytorch"): "repack:to_pytorch" for kind in REPACKED},
    ("Hugging Face folder", "huggingface"): "repack:to_safetensors",  # a folder with its weights in one file
    ("GGML", "gguf"): "legacy.ggml.to_gguf:to_gguf",
    ("GGMF", "gguf"): "legacy.ggml.to_gguf:to_gguf",
    ("GGJT", "gguf"): "legacy.ggml.to_gguf:to_gguf",
    ("Hugging Face folder", "onnx"): "onnx.export:from_huggingface",
    ("TensorFlow checkpoint", "safetensors"): "legacy.tensorflow.bundle:to_safetensors",
    **{(kind, "tensorflow"): "legacy.tensorflow.bundle:write" for kind in REPACKED},
    ("TensorFlow checkpoint", "pytorch"): "legacy.tensorflow.bundle:to_pytorch",
    ("Hugging Face folder", "gguf"): "gguf.from_huggingface:convert",
    ("Hugging Face folder", "mmproj"): "gguf.mmproj:convert",
    ("GGUF", "gguf"): "gguf.requantize:requantize",
    ("GGUF", "huggingface"): "gguf.to_huggingface:to_huggingface",
    ("GGUF", "safetensors"): "gguf.to_huggingface:to_safetensors",
}

WEIGHED = ("gguf.from_huggingface:convert", "gguf.requantize:requantize")  # what an importance matrix can be given to


@dataclass(frozen=True)
class Conversion:
    """What a conversion did. `fallbacks` names the tensors that got another type than the one asked for;
    `lost` says in a sentence each what the target cannot hold."""

    source: Path
    target: Path
    identity: Identity
    to: str
    tensors: int
    nbytes: int
    fallbacks: dict[str, str]
    lost: tuple[str, ...] = ()


def convert(
    src: str | Path, dst: str | Path, to: str | None = None, type: str | None = None, importance: dict | None = None
) -> Conversion:
    """Write the model in `src` to `dst` in the format `to` (by default what the ending of `dst` says).

    `type` is the file type of a GGUF ("F16", "Q8_0", "Q4_K_M", ... of `llmnotes.quantization.mixtures`), `importance`
    the importance matrix for one of few bits, {name of a tensor: a number for each of its columns}, as
    `llmnotes.quantization.models.importance.collect` measures it and `llmnotes.formats.gguf.imatrix.read` reads it.
    Tensors travel one at a time; tied weights stay tied; a row that the type's blocks do not fit gets a type that
    fits, and the answer names it.

    Raises `NotConvertible` (no such way), `CannotWrite` (the target exists, no room), and what `inspect` raises.
    Nothing is left behind by a conversion that fails. Does not run the model, except to ONNX, whose graph is traced.
    """
    dst = Path(dst)
    if to is None:
        to = next((name for name, endings in TARGETS.items() if dst.suffix.lower() in endings), None)
        if to is None:
            raise NotConvertible(f"The ending of {dst.name} says no format; add one of --to {' | '.join(TARGETS)}.")
    to = to.lower()
    if to not in TARGETS:
        raise NotConvertible(f"There is no format {to[:40]!r} to convert to; take one of {', '.join(TARGETS)}.")
    inspection = inspect(src)
    route = ROUTES.get((inspection.identity.format, to))
    if route is None:
        raise NotConvertible(f"There is no way from {inspection.identity.format} to {to}; {_ways(inspection, to)}.")
    if importance is not None and route not in WEIGHED:
        raise NotConvertible(
            "An importance matrix is for a GGUF that is made from a Hugging Face folder or another GGUF; leave it out."
        )
    module, function = route.split(":")
    more = {}
    if importance is not None:
        from llmnotes.formats.gguf.imatrix import named

        more["importance"] = named(importance)
    done = getattr(import_module(f"llmnotes.formats.{module}"), function)(inspection, dst, type, **more)
    return replace(done, to=to)


def _ways(inspection: Inspection, to: str) -> str:
    """Return what can be done instead, as the second half of a sentence."""
    kind = inspection.identity.format
    if kind == "TensorFlow SavedModel":
        return "its weights are a checkpoint, variables/variables in its folder: convert that"
    ways = [target for source, target in ROUTES if source == kind]
    if not ways:
        return "nothing can be made from it here; take the model in another format"
    sources = [source for source, target in ROUTES if target == to]
    made = f", and {to} is made from a {' or '.join(sources)}" if len(sources) < 6 else ""
    return f"it can become {' or '.join(ways)}{made}"


def keep_types(type: str | None) -> None:
    """Raise `NotConvertible` if a `type` was asked for where every tensor keeps its own."""
    if type is not None:
        raise NotConvertible(f"{type} was asked for, and a type is chosen for GGUF alone; leave it out.")
