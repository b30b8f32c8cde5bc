"""Load a model one layer after the other, so that each can be made smaller before the next one comes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import safe_open

from llmnotes.errors import ModelBroken, NotQuantizable
from llmnotes.formats import causes
from llmnotes.formats.results import Inspection, Tensor

if TYPE_CHECKING:
    from torch import nn

FLOATS = ("F32", "F16", "BF16")
COMPUTED = ".rotary_emb.inv_freq"  # which old files hold and no model wants
Make = Callable[["nn.Linear"], "nn.Module"]


def load(
    folder: Path, found: Inspection, make: Make, dtype: torch.dtype, device: str, attention: str | None
) -> Any | None:
    """Return the causal language model in a folder, on `device`, with `make(layer)` in the place of each linear layer
    but the output head; None where its files have other tensors than the model, which transformers may still match.

    `found` is what `inspect` says of the folder. Weights become `dtype` before they are made something else. Of what
    `make` takes, one layer is on the device at a time, and nothing is copied in main memory: the files are mapped.
    Raises `ModelBroken` if a layer that `make` would quantize holds NaN or infinity.
    """
    from accelerate import init_empty_weights
    from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig

    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        with init_empty_weights(include_buffers=False):
            model = AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation=attention)
    except Exception:  # each architecture has errors of its own, and transformers' own way of loading says which
        return None
    tensors = _matched(model, found)
    if tensors is None:
        return None
    head = model.get_output_embeddings()
    for path in [path for path, _ in model.named_modules()]:  # a list of modules would keep those that are replaced
        module = model.get_submodule(path)
        names = {key: f"{path}.{key}" if path else key for key in module._parameters}
        own = {key: tensors[name] for key, name in names.items() if name in tensors}
        for key, tensor in own.items():
            with safe_open(tensor.path, "pt") as file:
                value = file.get_tensor(tensor.stored_name).to(device, dtype)
            module._parameters[key] = torch.nn.Parameter(value, requires_grad=False)
        if own and isinstance(module, torch.nn.Linear) and module is not head:
            model.set_submodule(path, _made(make, module, path))
    model.tie_weights()
    for buffer in model.buffers():
        buffer.data = buffer.data.to(device)
    model.config.name_or_path = str(folder)
    if (folder / "generation_config.json").is_file():
        model.generation_config = GenerationConfig.from_pretrained(folder, local_files_only=True)
    return model


def _made(make: Make, layer: nn.Linear, path: str) -> nn.Module:
    """Return what `make` makes of the layer at `path`; raises `ModelBroken` if the layer holds NaN or infinity."""
    try:
        return make(layer)
    except NotQuantizable:
        if layer.weight.isfinite().all():
            raise
        raise ModelBroken(
            f"The model's {path}.weight holds numbers that are not finite, so it cannot be quantized; copy the model "
            "again from where it came from, or take another."
        ) from None


def _matched(model: Any, found: Inspection) -> dict[str, Tensor] | None:
    """Return the files' tensors under the model's names, or None if they are not the model's one to one, in floats."""
    shapes = {name: tuple(parameter.shape) for name, parameter in model.named_parameters(remove_duplicate=False)}
    tensors = [tensor for tensor in found.tensors if not tensor.name.endswith(COMPUTED)]
    names = [tensor.name for tensor in tensors]
    rules = causes.renaming(names, shapes) if set(names) - shapes.keys() else None
    given = {rules.new(tensor.name) if rules else tensor.name: tensor for tensor in tensors}
    head = next((f"{path}.weight" for path, each in model.named_modules() if each is model.get_output_embeddings()), "")
    lacking = shapes.keys() - given.keys() - ({head} if model.config.tie_word_embeddings else set())
    floats = all(tensor.path and tensor.dtype in FLOATS for tensor in tensors)
    fits = all(tensor.shape == shapes.get(name) for name, tensor in given.items())
    return given if floats and fits and not lacking else None
