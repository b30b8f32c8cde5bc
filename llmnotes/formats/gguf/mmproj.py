"""Convert a LLaVA's vision tower and projector to the second GGUF file that llama.cpp reads with the language model."""

from pathlib import Path
from typing import Any

from llmnotes.errors import NotConvertible
from llmnotes.formats.gguf import llava
from llmnotes.formats.gguf.finite import zeros
from llmnotes.formats.gguf.from_huggingface import part_of, type_of
from llmnotes.formats.gguf.source import COMPUTED, matched, planned
from llmnotes.formats.gguf.types import Typed
from llmnotes.formats.gguf.write import write_gguf
from llmnotes.formats.progress import progress
from llmnotes.formats.results import Conversion, Inspection, PlannedTensor, Tensor, divides
from llmnotes.formats.safe_write import new_file
from llmnotes.quantization.mixtures import FILE_TYPES

TYPES = ("F32", "F16", "BF16", "Q8_0")

# A convolution and a table that is looked up by row: GGML computes them from floats alone.
FLOATS = ("v.patch_embd.weight", "v.position_embd.weight")

# What the conversion says, and whoever runs the file.
CLASS_TOKEN = (
    "llama.cpp puts CLIP's class token after the patches instead of before them, so answers about images differ."
)


def convert(inspection: Inspection, dst: Path, type: str | None = None) -> Conversion:
    """Write the vision tower and the projector of a LLaVA folder as a projector file: F16 unless `type` says otherwise.

    In F16 the file equals, byte for byte, that of llama.cpp's convert_image_encoder_to_gguf.py given the same settings.
    Vectors and norms are F32; in all types but F32 the patches' convolution and the positions are F16, as is every
    matrix whose rows the type's blocks do not fit; what differs from the type is named in `fallbacks`. The layers
    behind the one that the projector looks at are left out.

    Raises `NotConvertible` (no LLaVA, or a setting that llama.cpp does not compute) and `FileBroken` (tensors missing,
    left over, or of another shape than config.json says). Does not write the language model: that is --to gguf.
    """
    if not llava.is_llava(inspection.metadata["config"]):
        raise NotConvertible(
            f"llmnotes cannot find a vision tower in {(inspection.architecture or 'this model')[:80]}; use a "
            f"{llava.NAME}."
        )
    seen = llava.vision(inspection)
    wanted, unseen, tensors = llava.weights(inspection, seen)
    at_hand = planned(inspection, tensors)
    matched(wanted + unseen, at_hand, inspection)
    type = "F16" if type is None else type_of(type, inspection, TYPES)
    fallbacks: dict[str, str] = {}
    lost_rows: dict[str, int] = {}
    with progress(sum(at_hand[weight.sources[0]].nbytes for weight in wanted), dst.name) as advance:
        parts = []
        for weight in wanted:
            dtype = "F32" if len(weight.shape) == 1 else type
            if type != "F32" and (weight.name in FLOATS or not divides(dtype, weight.shape)):
                dtype = "F16"
            if dtype != type and len(weight.shape) > 1:
                fallbacks[weight.name] = dtype
            parts.append(part_of(weight, at_hand, dtype, advance, lost_rows))
        with new_file(dst) as file:
            write_gguf(file, keys(inspection, seen, type), parts)
    lost = []
    if seen.crops:
        lost.append("llama.cpp pads an image that is not square; this model's own processor crops it.")
    lost.append("llama.cpp approximates the projector's GELU with tanh; transformers computes it exactly.")
    lost.append(CLASS_TOKEN)
    lost += zeros(lost_rows)
    left = _left(inspection, [tensors[weight.sources[0]] for weight in unseen], parts)
    return Conversion.of(inspection, dst, "mmproj", parts, lost, fallbacks, left)


def _left(inspection: Inspection, unseen: list[Tensor], parts: list[PlannedTensor]) -> dict[str, str]:
    """Return {tensor of the folder that is not in the projector file: why}."""
    left = dict.fromkeys((tensor.name for tensor in unseen), "of the last layers, which the projector does not use")
    written = {name for part in parts for name in part.sources}
    for tensor in inspection.tensors:
        if tensor.name not in written:
            counts = tensor.name.endswith("position_ids")
            left.setdefault(tensor.name, COMPUTED if counts else "of the language model, which --to gguf writes")
    return left


def keys(inspection: Inspection, seen: llava.Vision, type: str) -> dict[str, Any]:
    """Return the keys of a projector file, in llama.cpp's order.

    `clip.vision.feature_layer` is always there. Files that lack it make llama.cpp stop one layer before the last one
    in the file, which is one too early for LLaVA.
    """
    sizes = seen.sizes
    return {
        "general.architecture": "clip",
        "clip.has_text_encoder": False,
        "clip.has_vision_encoder": True,
        "clip.has_llava_projector": True,
        "general.file_type": FILE_TYPES[type][0],
        "general.name": inspection.path.resolve().name,
        "general.description": "image encoder for LLaVA",
        "clip.projector_type": "mlp",
        "clip.vision.image_size": sizes["image_size"],
        "clip.vision.patch_size": sizes["patch_size"],
        "clip.vision.embedding_length": sizes["hidden_size"],
        "clip.vision.feed_forward_length": sizes["intermediate_size"],
        "clip.vision.projection_dim": sizes["projection_dim"],
        "clip.vision.attention.head_count": sizes["num_attention_heads"],
        "clip.vision.attention.layer_norm_epsilon": Typed("F32", sizes["layer_norm_eps"]),
        "clip.vision.block_count": max(seen.features),
        "clip.vision.feature_layer": seen.features,
        "clip.vision.image_mean": seen.mean,
        "clip.vision.image_std": seen.std,
        "clip.use_gelu": sizes["hidden_act"] == "gelu",
    }
