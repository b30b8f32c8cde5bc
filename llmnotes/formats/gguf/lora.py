"""Convert a LoRA in PEFT's layout to the GGUF file that llama.cpp adds to a model with --lora."""

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from llmnotes.errors import FileBroken, NotConvertible, NotQuantizable
from llmnotes.formats.adapters import base_of
from llmnotes.formats.gguf import architectures, rope
from llmnotes.formats.gguf.finite import finite
from llmnotes.formats.gguf.from_huggingface import permuted
from llmnotes.formats.gguf.types import Typed
from llmnotes.formats.gguf.write import write_gguf
from llmnotes.formats.huggingface import settings
from llmnotes.formats.registry import read
from llmnotes.formats.results import Conversion, Inspection, PlannedTensor, Tensor
from llmnotes.formats.safe_write import new_file

LARGEST = 3.4e38  # a float32
MATRIX = re.compile(r"base_model\.model\.(.+)\.lora_([AB])\.weight")
INSTEAD = "make a GGUF of the whole model instead: llmnotes convert ADAPTER model.gguf"
QUANTIZED = (
    "The adapter was trained beside a base in 4 bits; beside a GGUF of another type, answers can differ from those of "
    "the merged model."
)


def convert(inspection: Inspection, dst: Path, type: str | None = None, base: Path | None = None) -> Conversion:
    """Write a LoRA as a GGUF for llama.cpp, in float32; `base` is the folder with the config.json of its model.

    llama.cpp multiplies each update by alpha over the rank, with one alpha for the file: where layers have another
    factor (rank-stabilized, or a pattern of alphas), B carries the difference. The rows of B are in the order of the
    base's GGUF. The result equals that of llama.cpp's convert_lora_to_gguf.py in what it does to a model.

    Raises `NotConvertible` for what has no place in such a file (DoRA, biases, embeddings, whole modules, rows of
    tokens), another architecture than `convert` knows, and a `type`; `FileBroken` for half a LoRA; `NotQuantizable`
    for numbers that are not finite.
    """
    if type is not None:
        raise NotConvertible(f"An adapter's matrices stay F32 in a GGUF, not {type[:40]}; leave --type out.")
    if base is None:
        raise NotConvertible("A LoRA in GGUF needs to know its base model; give base, the folder with its config.json.")
    config = inspection.metadata["config"]
    if config.get("peft_type") != "LORA" or config.get("use_dora"):
        kind = "DoRA" if config.get("use_dora") else str(config.get("peft_type"))[:40]
        raise NotConvertible(f"llama.cpp adds plain LoRA alone, and this adapter is {kind}; {INSTEAD}")
    of_base = settings(base / "config.json")
    architecture = architectures.of_config(of_base, base)
    sizes = rope.settings(architecture, of_base, 1 << 20)
    weights = {weight.sources[0]: weight for weight in architectures.weights(architecture, sizes)}
    alpha = _number(config.get("lora_alpha", 8), inspection)
    parts = []
    for path, (a, b) in sorted(_pairs(inspection).items()):
        weight = weights.get(f"{path}.weight")
        if weight is None or weight.name.startswith(("token_embd", "output.")) and sizes["tie_word_embeddings"]:
            raise NotConvertible(f"GGUF has no tensor of its own for {path[:80]}, which the adapter changes; {INSTEAD}")
        rank, shape = a.shape[0], weight.shape
        if a.shape != (rank, shape[1]) or b.shape != (shape[0], rank):
            raise FileBroken(
                f"The LoRA of {path[:80]} has the shapes {a.shape} and {b.shape}, and the base's weight is {shape}; "
                "give the base that it was trained on."
            )
        factor = _scaling(path, rank, alpha, config, inspection) * rank / alpha if alpha else 0.0
        rows = shape[0] // weight.heads if weight.heads else 0
        for ending, tensor, data in (
            ("lora_a", a, partial(_floats, inspection, a)),
            ("lora_b", b, partial(_floats, inspection, b, factor, rows)),
        ):
            parts.append(PlannedTensor(f"{weight.name}.{ending}", "F32", tensor.shape, data, (tensor.name,)))
    keys = {
        "general.architecture": architecture.gguf,
        "general.type": "adapter",
        "adapter.type": "lora",
        "general.name": inspection.path.resolve().name,
        "adapter.lora.alpha": Typed("F32", alpha),
        "general.file_type": 0,
        "general.quantization_version": 2,
    }
    with new_file(dst) as file:
        write_gguf(file, keys, parts)
    lost = (QUANTIZED,) if base_of(inspection.path).quantization else ()
    return Conversion.of(inspection, dst, "lora", parts, lost)


def _pairs(inspection: Inspection) -> dict[str, tuple[Tensor, Tensor]]:
    """Return {layer: (A, B)}, which is all that a plain LoRA holds."""
    found: dict[str, dict[str, Tensor]] = {}
    for tensor in inspection.tensors:
        match = MATRIX.fullmatch(tensor.name)
        if match is None or len(tensor.shape) != 2 or tensor.dtype not in ("F32", "F16", "BF16"):
            raise NotConvertible(
                f"The adapter holds {tensor.name[:120]!r}, for which a LoRA in GGUF has no place; {INSTEAD}"
            )
        found.setdefault(match[1], {})[match[2]] = tensor
    for path, pair in found.items():
        if len(pair) < 2:
            raise FileBroken(f"The adapter lacks one of the two matrices of {path[:80]}; copy it again.")
    return {path: (pair["A"], pair["B"]) for path, pair in found.items()}


def _scaling(path: str, rank: int, alpha: float, config: dict, inspection: Inspection) -> float:
    """Return the factor of a layer's update, by the rules of PEFT."""
    pattern = config.get("alpha_pattern") or {}
    for key, value in pattern.items():
        if re.fullmatch(rf"(.*\.)?({key})", path):
            alpha = _number(value, inspection)
            break
    return alpha / (rank**0.5 if config.get("use_rslora") else rank)


def _number(value: object, inspection: Inspection) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= LARGEST:
        raise FileBroken(f"{inspection.path} has an alpha that is no number; copy the adapter again.")
    return float(value)


def _floats(inspection: Inspection, tensor: Tensor, factor: float = 1.0, rows: int = 0) -> Iterator[bytes]:
    """Yield a matrix in float32, times `factor`, the rows of each head as GGUF has them."""
    import numpy as np

    from llmnotes.quantization.blocks import recoded

    values = np.frombuffer(b"".join(recoded(read(inspection, tensor), tensor.dtype, "F32")), "<f4")
    with np.errstate(over="ignore", invalid="ignore"):
        values = values if factor == 1 else values * np.float32(factor)
    pieces = [values.tobytes()]
    try:
        yield from finite("F32", permuted(pieces, rows, 4 * tensor.shape[1]) if rows else pieces)
    except NotQuantizable as error:
        raise NotQuantizable(f"The adapter's {tensor.name[:120]} cannot be written: {error}") from None
