"""Convert a model file from one format to another, one tensor at a time; lists every conversion llmnotes has."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from llmnotes.errors import NotConvertible
from llmnotes.formats import beside, huggingface, repack
from llmnotes.formats.arrival import checked
from llmnotes.formats.gguf import from_huggingface, lora, mmproj, requantize, to_huggingface
from llmnotes.formats.gguf.imatrix import named
from llmnotes.formats.legacy import imatrix_dat, llama2c_model
from llmnotes.formats.legacy.ggml import to_gguf as ggml_to_gguf
from llmnotes.formats.legacy.tensorflow import checkpoints
from llmnotes.formats.onnx import export as onnx_export
from llmnotes.formats.registry import inspect
from llmnotes.formats.results import Conversion, Inspection
from llmnotes.formats.targets import target_of

Converter = Callable[..., Conversion]  # f(source, target, type), and some take one of OPTIONS as well

# The formats that hold tensors under the names the model gives them: their tensors can be copied without renaming.
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

GGML = ("GGML", "GGMF", "GGJT")
LLAMA2C = ("llama2.c", llama2c_model.CHECKPOINT)  # the second is a PyTorch file, and can become what those can

# (format of the source, target) -> the function that converts
CONVERTERS: dict[tuple[str, str], Converter] = {
    **{(format, "safetensors"): repack.to_safetensors for format in REPACKED},
    **{(format, "pytorch"): repack.to_pytorch for format in REPACKED},
    ("Hugging Face folder", "huggingface"): repack.to_safetensors,  # a folder with its weights in one file
    **{(format, "gguf"): ggml_to_gguf.to_gguf for format in GGML},
    ("Hugging Face folder", "onnx"): onnx_export.from_huggingface,
    ("TensorFlow checkpoint", "safetensors"): checkpoints.to_safetensors,
    **{(format, "tensorflow"): checkpoints.from_tensors for format in REPACKED},
    ("TensorFlow checkpoint", "pytorch"): checkpoints.to_pytorch,
    ("Hugging Face folder", "gguf"): from_huggingface.convert,
    ("Hugging Face folder", "mmproj"): mmproj.convert,
    ("PEFT adapter", "lora"): lora.convert,
    **{(format, "gguf"): llama2c_model.to_gguf for format in LLAMA2C},
    **{(format, "huggingface"): llama2c_model.to_folder for format in LLAMA2C},
    ("GGUF", "gguf"): requantize.requantize,
    ("GGUF", "huggingface"): to_huggingface.to_huggingface,
    ("GGUF", "safetensors"): to_huggingface.to_safetensors,
}

# What only some conversions take -> their (source, target) and the sentence for all others
OPTIONS = {
    "importance": (
        {("Hugging Face folder", "gguf"), ("GGUF", "gguf")},
        "An importance matrix only helps when a Hugging Face folder or a GGUF becomes a GGUF; leave it out.",
    ),
    "split_max_size": (
        {(source, "gguf") for source in ("Hugging Face folder", "GGUF", *GGML)},
        "Only a GGUF from a Hugging Face folder, a GGUF or a GGML file is written in several files; leave "
        "--split-max-size out.",
    ),
    "base": (
        {("PEFT adapter", "lora")},
        "Only an adapter that becomes a LoRA in GGUF needs its base model; leave it out.",
    ),
}


# Types that llama.cpp rounds number by number or block by block, whatever an importance matrix says
UNWEIGHTED = ("F32", "F16", "BF16", "Q8_0")


def convert(
    src: str | Path,
    dst: str | Path,
    to: str | None = None,
    type: str | None = None,
    importance: dict | None = None,
    split_max_size: int | None = None,
    base: Path | None = None,
) -> Conversion:
    """Write the model in `src` to `dst` in the format `to` (by default what the ending of `dst` says).

    `type` is the file type of a GGUF: "F16", "Q8_0", "Q4_K_M" or another of `llmnotes.quantization.mixtures`.
    `importance` is an importance matrix for quantizing, {name of a tensor: a number for each of its columns}.
    `llmnotes.quantization.models.importance.collect` measures one, and `gguf.imatrix.read_imatrix` reads one.
    With `split_max_size`, a GGUF whose tensors take more bytes becomes several files, DST-00001-of-00003.gguf and so
    on; `Conversion.target` is the first, from which llama.cpp and llmnotes find the others. `base` is the folder of the
    model that an adapter belongs to, for `to="lora"`.

    Tensors are read and written one at a time, and tied weights stay tied. If a type's blocks do not fit the rows of a
    tensor, that tensor gets a type that fits, and `Conversion.fallbacks` names it. Each tensor of the source is in the
    target or named under `Conversion.lost`; `arrival.checked` looks again once the target is written.

    Raises `NotConvertible` (llmnotes has no such conversion), `CannotWrite` (the target exists, no room), and what
    `inspect` raises. A conversion that fails leaves nothing behind. No conversion runs the model, except the one to
    ONNX, which traces it.
    """
    dst = Path(dst)
    to = target_of(dst, to)
    inspection = inspect(src)
    if inspection.identity.format == "PEFT adapter" and to != "lora":
        huggingface.refuse_two(inspection.path)
    if inspection.identity.format != "GGUF" and not inspection.path.is_dir():  # whose parts are read together
        beside.refuse_part(inspection.path)
    pair = (inspection.identity.format, to)
    if pair not in CONVERTERS and llama2c_model.is_checkpoint(inspection):
        pair = (llama2c_model.CHECKPOINT, to)
    if pair not in CONVERTERS:
        raise NotConvertible(
            f"llmnotes cannot convert a {inspection.identity.format} to {to}; {_ways(inspection, to)}."
        )
    options = {}
    if importance is not None:
        options["importance"] = named(importance)
    if split_max_size is not None:
        options["split_max_size"] = split_max_size
    if base is not None:
        options["base"] = base
    for name in options:
        pairs, sentence = OPTIONS[name]
        if pair not in pairs:
            raise NotConvertible(sentence)
    done = CONVERTERS[pair](inspection, dst, type, **options)
    if importance is not None and (type is None or type.upper() in UNWEIGHTED):
        fewer = f"it helps types of fewer bits than {type or 'this one'}, such as Q4_K_M."
        done = replace(done, lost=(*done.lost, f"The importance matrix changed nothing: {fewer}"))
    return checked(inspection, replace(done, to=to))


def _ways(inspection: Inspection, to: str) -> str:
    """Return what can be done instead, as the second half of a sentence."""
    kind = inspection.identity.format
    what = "it"
    if kind == "TensorFlow SavedModel":
        kind, what = "TensorFlow checkpoint", "the checkpoint with its weights, variables/variables in its folder,"
    if kind == huggingface.ORIGINAL:
        return huggingface.ELSEWHERE
    if kind == imatrix_dat.NAME:
        return "give it to --imatrix when a model is quantized"
    ways = [target for source, target in CONVERTERS if source == kind]
    if not ways:
        return "it can only inspect this format, so get the model in another one"
    sources = [source for source, target in CONVERTERS if target == to]
    made = f", and llmnotes writes {to} from a {' or '.join(sources)}" if len(sources) < 6 else ""
    return f"it can convert {what} to {' or '.join(ways)}{made}"
