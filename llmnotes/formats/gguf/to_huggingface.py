"""Convert a GGUF file to a Hugging Face folder, or to plain safetensors."""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from llmnotes.errors import FileBroken, NotConvertible
from llmnotes.formats.gguf import architectures, experts, hf_tokenizer, rope, understood
from llmnotes.formats.gguf.architectures import Architecture, Weight
from llmnotes.formats.gguf.config_back import config_of, shortest, stretched
from llmnotes.formats.gguf.from_huggingface import permuted, shifted
from llmnotes.formats.gguf.kinds import only_a_model
from llmnotes.formats.progress import progress
from llmnotes.formats.registry import portion
from llmnotes.formats.results import Conversion, Inspection, PlannedTensor, Tensor, counted
from llmnotes.formats.safe_write import new_file, new_folder
from llmnotes.formats.safetensors import write_safetensors

FLOATS = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
# The tensors of a GGUF that config.json has as numbers, for each kind of position scaling.
SLOWING = {
    "llama3": ("rope_freqs.weight",),
    "longrope": ("rope_factors_long.weight", "rope_factors_short.weight"),
}
LOST = (
    "GGUF does not record the precision in which the model was trained; the folder has the precision of the file.",
    "A GGUF does not hold the generation settings (generation_config.json) or the settings of training.",
)
# These keys follow from the folder again; the other general ones are what a README.md says.
FOLLOWS = {f"general.{n}" for n in "architecture type name size_label file_type quantization_version alignment".split()}


def to_huggingface(
    inspection: Inspection,
    dst: Path,
    type: str | None = None,
    tokenizer: dict[str, str] | None = None,
    lost: Iterable[str] = LOST,
) -> Conversion:
    """Write the model in a GGUF file as a folder with config.json, model.safetensors and its tokenizer.

    F32, F16 and BF16 tensors keep their type and their bits; blocks of fewer bits become F32, which holds exactly the
    numbers that they stand for. `type`, one of the three, applies to all tensors. Tied embeddings stay tied. A model
    that is no GGUF brings the files of its `tokenizer`, {name: text}, and says itself what is `lost`.

    Raises `NotConvertible` (an architecture, tokenizer or type that llmnotes cannot convert, an adapter, a vocabulary
    alone), `FileBroken` (tensors missing or of another shape than the keys say).
    """
    only_a_model(inspection, NotConvertible)
    metadata, at_hand = inspection.metadata, {tensor.name: tensor for tensor in inspection.tensors}
    name = str(metadata.get("general.architecture"))
    architecture = architectures.of_gguf(name, mixture=bool(metadata.get(f"{name}.expert_count")))
    asked = _asked(type)
    config = config_of(architecture, metadata, at_hand)
    sizes = rope.settings(architecture, config, len(at_hand))
    _whole_heads_turn(architecture, metadata, sizes["head_dim"])
    slowing = SLOWING["longrope" if "longrope" in architecture.positions else "llama3"]
    slowed = {name: at_hand.pop(name) for name in slowing if name in at_hand}
    config |= (_longrope if len(slowing) > 1 else _llama3)(slowed, inspection, sizes)
    wanted = experts.as_in_the_file(architectures.weights(architecture, sizes), at_hand)
    check(inspection, wanted, at_hand)
    tokenizer = hf_tokenizer.files(metadata, inspection.path.name) if tokenizer is None else tokenizer
    lost = [*lost, *hf_tokenizer.losses(metadata), *understood.losses_back(architecture, metadata), *_card(metadata)]
    blocks = sorted({tensor.dtype for tensor in at_hand.values()} - set(FLOATS))
    if blocks:
        lost.append(
            f"The weights in {' and '.join(blocks)} keep their rounding errors, and take more room than before."
        )
    with progress(inspection.nbytes, dst.name) as advance, new_folder(dst) as folder:
        parts = [part for weight in wanted for part in _parts(weight, at_hand[weight.name], inspection, asked, advance)]
        common = Counter()
        for part in parts:
            common[part.dtype] += part.nbytes
        config["dtype"] = FLOATS[common.most_common(1)[0][0]]
        for name, text in ({"config.json": json.dumps(config, indent=2)} | tokenizer).items():
            with folder.file(name) as file:
                file.write(text.encode("utf-8", "replace"))
        with folder.file("model.safetensors") as file:
            write_safetensors(file, parts, {"format": "pt"})
    left = {tensor.stored_name: "that config.json has as rope_parameters" for tensor in slowed.values()}
    return Conversion.of(inspection, dst, "huggingface", parts, lost, left=left)


def _card(metadata: dict[str, Any]) -> Iterator[str]:
    if said := [key for key in metadata if key.startswith("general.") and key not in FOLLOWS]:
        yield f"A folder has no file for {', '.join(said)} but a README.md, and none is written."


def to_safetensors(inspection: Inspection, dst: Path, type: str | None = None) -> Conversion:
    """Write the tensors of a GGUF file as safetensors under the names and in the order of rows that GGUF has.

    Types as in `to_huggingface`. The keys are not written. Raises `NotConvertible` where there are no tensors.
    """
    if not inspection.tensors:
        only_a_model(inspection, NotConvertible)
        raise NotConvertible(f"{inspection.path.name} holds no tensors; take the GGUF that has the model's weights.")
    asked = _asked(type)
    with progress(inspection.nbytes, dst.name) as advance, new_file(dst) as file:
        parts = [
            part
            for tensor in inspection.tensors
            for part in _parts(Weight(tensor.name, tensor.shape, (tensor.name,)), tensor, inspection, asked, advance)
        ]
        write_safetensors(file, parts, {"format": "pt"})
    lost = ("safetensors cannot hold the metadata of a GGUF: the settings and the tokenizer are not in it.",)
    return Conversion.of(inspection, dst, "safetensors", parts, lost)


def _asked(type: str | None) -> str | None:
    if type is not None and type.upper() not in FLOATS:
        raise NotConvertible(f"safetensors has no type {type[:40]} for weights; choose one of {', '.join(FLOATS)}.")
    return type and type.upper()


def _whole_heads_turn(architecture: Architecture, metadata: dict[str, Any], dim: int) -> None:
    turned = metadata.get(f"{architecture.gguf}.rope.dimension_count", dim)
    if turned != dim and "partial_rotary_factor" not in architecture.defaults:
        raise NotConvertible(
            f"Its keys turn {str(turned)[:20]} of the {dim} numbers of a head, and a {architecture.hugging_face} turns "
            "all of them; use the original folder."
        )


def _llama3(slowed: dict[str, Tensor], inspection: Inspection, sizes: dict) -> dict[str, Any]:
    """Return the rope parameters of Llama 3 whose factors the tensor holds: those of a published model."""
    if not slowed:
        return {}
    data = _numbers(slowed["rope_freqs.weight"], inspection, sizes["head_dim"] // 2)
    for values in rope.LLAMA3 if data is not None else ():
        found = dict(zip(rope.LLAMA3_SETTINGS, values, strict=True))
        found |= {"rope_type": "llama3", "rope_theta": sizes["rope_theta"]}
        if rope.llama3(found, sizes["rope_theta"], sizes["head_dim"]).tobytes() == data:
            return {"rope_parameters": found}
    raise NotConvertible(
        "Its rope_freqs.weight matches no published Llama 3, so llmnotes cannot tell which settings it was "
        "computed from; "
        "use the original folder."
    )


def _longrope(slowed: dict[str, Tensor], inspection: Inspection, sizes: dict) -> dict[str, Any]:
    """Return the rope parameters of LongRoPE, whose two lists are tensors in a GGUF."""
    import numpy as np

    parameters = sizes["rope"] | {"rope_type": "longrope"}
    stretch = parameters.pop("attention_factor", 1.0)
    if not slowed:
        if stretch != 1:
            raise stretched(stretch)
        return {}
    pairs = int(sizes["head_dim"] * sizes["partial_rotary_factor"]) // 2
    for name in SLOWING["longrope"]:
        data = _numbers(slowed[name], inspection, pairs) if name in slowed else None
        if data is None:
            raise FileBroken(
                f"{inspection.path.name} has no {name} with a number in F32 for each of {pairs} pairs, as LongRoPE "
                "needs; copy or download it again."
            )
        length = "long" if "long" in name else "short"
        parameters[f"{length}_factor"] = [shortest(float(x)) for x in np.frombuffer(data, "<f4")]
    if np.float32(rope.longrope_factor(sizes | {"rope": parameters})) != np.float32(stretch):
        parameters["attention_factor"] = shortest(stretch)
    return {"rope_parameters": parameters}


def _numbers(tensor: Tensor, inspection: Inspection, count: int) -> bytes | None:
    """Return the bytes of `count` numbers in F32, or None where a tensor holds something else."""
    if tensor.dtype == "F32" and tensor.shape == (count,):
        return b"".join(portion(inspection, tensor, 0, tensor.nbytes))
    return None


def check(inspection: Inspection, wanted: list[Weight], at_hand: dict[str, Tensor]) -> None:
    """Raise the sentence that says so where the tensors `at_hand` are not those that are `wanted`, shapes included."""
    name = inspection.path.name
    for weight in wanted:
        tensor = at_hand.get(weight.name)
        if tensor is None or tensor.shape != weight.shape:
            what = f"lacks {weight.name}" if tensor is None else f"has {weight.name} with the shape {tensor.shape}"
            raise FileBroken(f"{name} {what}, and its keys promise {weight.shape}; copy or download it again.")
    extra = sorted(at_hand.keys() - {weight.name for weight in wanted})
    if extra:
        raise NotConvertible(
            f"{name} has {counted(len(extra), 'tensor')} that its architecture does not have, {extra[0][:80]} first; "
            "use its original folder."
        )


def _parts(
    weight: Weight, tensor: Tensor, inspection: Inspection, asked: str | None, advance
) -> Iterator[PlannedTensor]:
    """Yield the tensors that one of GGUF's becomes: one, or those that were stacked."""
    dtype = asked or (tensor.dtype if tensor.dtype in FLOATS else "F32")
    count = tensor.nbytes // len(weight.sources)
    for at, name in enumerate(weight.sources):
        pieces = partial(portion, inspection, tensor, at * count, count)
        data = partial(_data, weight, tensor, pieces, dtype, advance)
        yield PlannedTensor(name, dtype, weight.each, data, (tensor.stored_name,))


def _data(weight: Weight, tensor: Tensor, data: Callable, dtype: str, advance) -> Iterator[bytes]:
    from llmnotes.quantization.blocks import recoded

    pieces = data()
    if weight.heads:
        rows = tensor.shape[0] // weight.heads
        pieces = permuted(pieces, rows, tensor.nbytes // tensor.shape[0], back=True)
    source = tensor.dtype
    if weight.plus:
        pieces, source = shifted(pieces, source, -weight.plus), "F32"
    try:
        for piece in recoded(pieces, source, dtype):
            yield piece
            advance(len(piece))
    except KeyError:
        raise NotConvertible(
            f"llmnotes cannot turn {tensor.dtype} back into floats ({tensor.name[:80]}); use the original model."
        ) from None
