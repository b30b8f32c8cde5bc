"""Quantize a GGUF, with the same bytes as llama.cpp's llama-quantize, or split it into several files and join them."""

from functools import partial
from pathlib import Path
from typing import Any

from llmnotes.errors import NotConvertible
from llmnotes.formats.gguf import entries, splits
from llmnotes.formats.gguf.families import MIXTURES
from llmnotes.formats.gguf.finite import zeros
from llmnotes.formats.gguf.from_huggingface import quantized, same_model, type_of
from llmnotes.formats.gguf.kinds import only_a_model
from llmnotes.formats.gguf.source import SOURCES
from llmnotes.formats.gguf.types import Typed
from llmnotes.formats.progress import progress
from llmnotes.formats.registry import portion
from llmnotes.formats.results import Conversion, Inspection, PlannedTensor, Tensor
from llmnotes.quantization import mixtures


def requantize(
    inspection: Inspection,
    dst: Path,
    type: str | None = None,
    importance: dict[str, Any] | None = None,
    split_max_size: int | None = None,
    keys: dict[str, Any] | None = None,
) -> Conversion:
    """Write the model of a GGUF in another `type` of the `mixtures`, or as it is in other files; its other keys stay.

    Tensors that are never quantized (vectors, norms) keep their type. Bytes equal llama.cpp's `llama_model_quantize`,
    also with `importance`, {tensor: a number for each column}, for models of the Llama kind. Blocks are dequantized
    and quantized anew, as with its --allow-requantize; `lost` says so. Without a type, tensors and keys are copied,
    which splits a model into parts of `split_max_size` bytes, or joins its parts. `keys` are those of a model that is
    no GGUF yet.

    Raises `NotConvertible` (no type where nothing is split or joined, types that cannot be dequantized, experts of an
    architecture that no folder becomes, a GGUF that is no model) and `NotQuantizable`.
    """
    parted = inspection.metadata.get(splits.COUNT, 1) not in (0, 1)
    metadata: dict[str, Any] = splits.whole(entries(inspection.path)) if keys is None else dict(keys)
    fallbacks: dict[str, str] = {}
    if type is None:
        if not parted and split_max_size is None:
            raise NotConvertible("Say which type the new GGUF should have, such as --type Q4_K_M.")
        dtypes = {tensor.name: tensor.dtype for tensor in inspection.tensors}
    else:
        type = type_of(type, inspection)
        dtypes, fallbacks = types_of(inspection, type, bool(importance))
        importance = same_model(importance or {}, {tensor.name: tensor.shape for tensor in inspection.tensors})
        metadata |= {"general.file_type": Typed("U32", mixtures.FILE_TYPES[type][0])}
        metadata |= {"general.quantization_version": Typed("U32", 2)}
    lost_rows: dict[str, int] = {}
    with progress(inspection.nbytes, dst.name) as advance:
        parts = []
        for tensor in inspection.tensors:
            data, dtype = partial(_data, inspection, tensor, advance), dtypes[tensor.name]
            matters = (importance or {}).get(tensor.name)
            columns = tensor.shape[-1] if tensor.shape else 1
            coded = partial(quantized, tensor.name, data, dtype, columns, lost_rows, matters)
            parts.append(PlannedTensor(tensor.name, dtype, tensor.shape, coded, (tensor.stored_name,)))
        files = splits.write_model(dst, metadata, parts, split_max_size)
    return Conversion.of(inspection, files, "gguf", parts, (*_lost(inspection, dtypes), *zeros(lost_rows)), fallbacks)


def types_of(inspection: Inspection, type: str, weighted: bool) -> tuple[dict[str, str], dict[str, str]]:
    """Return the type of each tensor in a mixture, and of each that got another one than was meant for it.

    Raises `NotConvertible` where `requantize` writes nothing.
    """
    from llmnotes.quantization.blocks import readable

    only_a_model(inspection, NotConvertible)
    strange = sorted({tensor.dtype for tensor in inspection.tensors if not readable(tensor.dtype)})
    if strange or not inspection.tensors:
        raise NotConvertible(
            f"{inspection.path.name} holds {', '.join(strange) or 'no tensors'}, which llmnotes cannot turn into "
            "floats; use the model in its original precision."
        )
    shapes, groups, big, eight = _facts(inspection)
    types, fallbacks = mixtures.types(type, shapes, groups, big, weighted, eight)
    if type != "F32":
        types |= {tensor.name: tensor.dtype for tensor in inspection.tensors if types[tensor.name] == "F32"}
    return types, fallbacks


def _lost(inspection: Inspection, dtypes: dict[str, str]) -> tuple[str, ...]:
    """Return what it costs to quantize what was quantized before."""
    anew = {tensor.dtype for tensor in inspection.tensors if dtypes[tensor.name] != tensor.dtype} - set(SOURCES)
    if not anew:
        return ()
    return (
        f"Weights that were in {' and '.join(sorted(anew))} keep their rounding errors, and the new types add theirs; "
        "the model in its original precision gives a better one of the same size.",
    )


def _facts(inspection: Inspection) -> tuple[dict[str, tuple[int, ...]], int, bool, bool]:
    """Return the shapes, how many heads share keys and values, whether it is a 70B model and has eight experts."""
    keys, prefix = inspection.metadata, f"{inspection.architecture}."
    counts = [keys.get(f"{prefix}{key}", 0) for key in ("expert_count", "attention.head_count", "block_count")]
    shared = keys.get(f"{prefix}attention.head_count_kv", counts[1])
    shapes = {tensor.name: tensor.shape for tensor in inspection.tensors}
    if counts[0] != 0 and not (inspection.architecture in MIXTURES and "blk.0.ffn_down_exps.weight" in shapes):
        raise NotConvertible(
            f"llmnotes cannot quantize the experts of this GGUF, only those that lie together in a GGUF of "
            f"{' or '.join(MIXTURES)}; use llama.cpp's llama-quantize."
        )
    if not all(isinstance(count, int) and count > 0 for count in (shared, *counts[1:])):
        raise NotConvertible(
            "The metadata of this GGUF does not say how many heads and layers it has; use another copy."
        )
    groups = counts[1] // shared
    big = mixtures.is_70b(str(inspection.architecture), counts[2], groups)
    return shapes, groups, big, counts[0] == 8


def _data(inspection: Inspection, tensor: Tensor, advance):
    """Yield (type, pieces) of a tensor, of a stack of matrices for each of them."""

    def counted(start: int, count: int):
        for piece in portion(inspection, tensor, start, count):
            yield piece
            advance(len(piece))

    many = tensor.shape[0] if len(tensor.shape) == 3 else 1
    for at in range(many):
        yield tensor.dtype, counted(at * tensor.nbytes // many, tensor.nbytes // many)
