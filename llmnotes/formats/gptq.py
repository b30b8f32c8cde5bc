"""Save a model that GPTQ has quantized, as a folder that gptqmodel and transformers load."""

import json
from collections.abc import Mapping
from pathlib import Path

from llmnotes.errors import NotConvertible
from llmnotes.formats.registry import inspect
from llmnotes.formats.repack import copy_beside, parts_and_ties
from llmnotes.formats.results import PlannedTensor
from llmnotes.formats.safe_write import new_folder
from llmnotes.formats.safetensors import write_safetensors

NAMES = {"int32": "I32", "float16": "F16"}


def save(
    source: str | Path, layers: Mapping, folder: str | Path, group_size: int | None = 128, symmetric: bool = True
) -> Path:
    """Write the Hugging Face folder `folder`: the model in `source` with `layers` in place of their weights.

    `layers` is what `llmnotes.quantization.models.gptq.quantize_model` returned for that model, with the same
    `group_size` and `symmetric`. All other tensors, the settings and the tokenizer are copied; tensors travel one at a
    time. The config says how the weights are packed, so that `AutoModelForCausalLM.from_pretrained(folder)` loads them
    where gptqmodel and optimum are installed.

    Raises `NotConvertible` for a source that is not a Hugging Face folder or lacks one of the layers, `NotQuantizable`
    for layers whose codes do not fill 32-bit words, and what `inspect` and `new_folder` raise.
    """
    from llmnotes.quantization import gptq_layout

    folder, found = Path(folder), inspect(source)
    if found.identity.format != "Hugging Face folder":
        raise NotConvertible(f"{source} is no Hugging Face folder; give the folder of the model that was quantized.")
    parts, ties = parts_and_ties(found)
    replaced = {f"{name}.weight": name for name in layers}
    lost = sorted(replaced.keys() - {part.name for part in parts})
    if lost:
        raise NotConvertible(f"{source} has no {lost[0]} to replace; give the folder of the model that was quantized.")
    config = found.metadata["config"] | {"quantization_config": gptq_layout.settings(layers, group_size, symmetric)}
    version = gptq_layout.version(layers.values())
    written = []
    for part in parts:
        if part.name not in replaced:
            written.append(part)
            continue
        name = replaced[part.name]
        if tuple(layers[name].codes.shape) != part.shape:
            raise NotConvertible(f"{part.name} has another shape in {source}; give the model that was quantized.")
        for key, values in gptq_layout.pack(layers[name], version).items():
            data = values.tobytes()
            written.append(
                PlannedTensor(f"{name}.{key}", NAMES[values.dtype.name], values.shape, lambda data=data: [data])
            )
    with new_folder(folder) as new:
        copy_beside(found, new)
        for name, content in (("config.json", config), ("quantize_config.json", config["quantization_config"])):
            with new.file(name) as file:
                file.write(json.dumps(content, indent=2).encode() + b"\n")
        with new.file("model.safetensors") as file:
            write_safetensors(file, written, {"format": "pt"} | ties)
    return folder
