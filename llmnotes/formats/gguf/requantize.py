"""Quantize a GGUF that holds floats, with the same bytes as llama.cpp's llama-quantize."""

from functools import partial
from pathlib import Path
from typing import Any

from llmnotes.errors import NotConvertible
from llmnotes.formats.gguf import entries
from llmnotes.formats.gguf.from_huggingface import SOURCES, quantized, same_model, type_of
from llmnotes.formats.gguf.types import Typed
from llmnotes.formats.gguf.write import write_gguf
from llmnotes.formats.progress import progress
from llmnotes.formats.registry import read
from llmnotes.formats.results import Conversion, Inspection, PlannedTensor, Tensor
from llmnotes.formats.safe_write import new_file
from llmnotes.quantization import mixtures


def requantize(
    inspection: Inspection, dst: Path, type: str | None = None, importance: dict[str, Any] | None = None
) -> Conversion:
    """Write the model of a GGUF in F32, F16 or BF16 in another `type` of the `mixtures`; its other keys stay.

    Tensors that are never quantized (vectors, norms) keep their type. Bytes equal llama.cpp's `llama_model_quantize`,
    also with `importance`, {tensor: a number for each column}, for models of the Llama kind.

    Raises `NotConvertible` (no type given, weights that are quantized already, several experts, a model in several
    files) and `NotQuantizable`. Does not dequantize first; use --to huggingface for that.
    """
    if type is None:
        raise NotConvertible("Say which type the new GGUF should have, such as --type Q4_K_M.")
    type, importance = type_of(type, inspection), importance or {}
    dtypes = {tensor.dtype for tensor in inspection.tensors}
    if not dtypes or not dtypes <= set(SOURCES):
        raise NotConvertible(
            f"{inspection.path.name} holds {', '.join(sorted(dtypes)) or 'no tensors'}, and llmnotes only quantizes "
            f"{', '.join(SOURCES)}; use the model in its original precision."
        )
    shapes, groups, big = _facts(inspection)
    same_model(importance, shapes)
    types, fallbacks = mixtures.types(type, shapes, groups, big, bool(importance))
    with progress(inspection.nbytes, dst.name) as advance:
        parts = []
        for tensor in inspection.tensors:
            dtype = tensor.dtype if types[tensor.name] == "F32" and type != "F32" else types[tensor.name]
            data = partial(_data, inspection, tensor, advance)
            matters = importance.get(tensor.name)
            parts.append(
                PlannedTensor(tensor.name, dtype, tensor.shape, partial(quantized, tensor.name, data, dtype, matters))
            )
        metadata: dict[str, Any] = dict(entries(inspection.path))
        metadata |= {"general.file_type": Typed("U32", mixtures.FILE_TYPES[type][0])}
        metadata |= {"general.quantization_version": Typed("U32", 2)}
        with new_file(dst) as file:
            write_gguf(file, metadata, parts)
    nbytes = sum(part.nbytes for part in parts)
    return Conversion(inspection.path, dst, inspection.identity, "gguf", len(parts), nbytes, fallbacks)


def _facts(inspection: Inspection) -> tuple[dict[str, tuple[int, ...]], int, bool]:
    """Return the shapes, the number of heads that share keys and values, and whether it is a 70B model."""
    keys, prefix = inspection.metadata, f"{inspection.architecture}."
    counts = [keys.get(f"{prefix}{key}", 0) for key in ("expert_count", "attention.head_count", "block_count")]
    shared = keys.get(f"{prefix}attention.head_count_kv", counts[1])
    if keys.get("split.count", 1) not in (0, 1) or counts[0] != 0:
        raise NotConvertible(
            "llmnotes cannot quantize a GGUF with several experts, or one in several files; use llama.cpp."
        )
    if not all(isinstance(count, int) and count > 0 for count in (shared, *counts[1:])):
        raise NotConvertible(
            "The metadata of this GGUF does not say how many heads and layers it has; use another copy."
        )
    groups = counts[1] // shared
    big = mixtures.is_70b(str(inspection.architecture), counts[2], groups)
    return {tensor.name: tensor.shape for tensor in inspection.tensors}, groups, big


def _data(inspection: Inspection, tensor: Tensor, advance):
    def counted():
        for piece in read(inspection, tensor):
            yield piece
            advance(len(piece))

    yield tensor.dtype, counted()
