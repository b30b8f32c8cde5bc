"""The matrices of a model: read them, put others in their place, and see what a compressed layer makes of them."""

import copy
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from llmnotes.errors import NotQuantizable, UnknownName

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


def matrices(model: "PreTrainedModel", embeddings: bool = False) -> dict[str, np.ndarray]:
    """Return the weight of every linear layer but the head by its name, float32 (outputs, inputs); copies.

    With `embeddings` also the table of token vectors, (vocabulary, width), last. Quantization compresses these tensors
    and leaves the norms as they are.

    >>> from llmnotes.models import open_model
    >>> len(matrices(open_model("pebble", say=lambda line: None).model))
    28
    """
    import torch

    table = cast("torch.nn.Embedding", model.get_input_embeddings())
    head = model.get_output_embeddings()
    found = {
        f"{name}.weight": layer.weight.detach().float().cpu().numpy().copy()
        for name, layer in model.named_modules()
        if isinstance(layer, torch.nn.Linear) and layer is not head
    }
    if embeddings:
        name = next(name for name, layer in model.named_modules() if layer is table)
        found[f"{name}.weight"] = table.weight.detach().float().cpu().numpy().copy()
    return found


def with_weights(
    model: "PreTrainedModel", weights: Mapping[str, np.ndarray] | Callable[[np.ndarray], np.ndarray]
) -> "PreTrainedModel":
    """Return a copy of `model` with other numbers in some of its matrices.

    `weights` maps names of parameters to arrays of the same shape, or is a function that is applied to each of
    `matrices(model)`. Raises `UnknownName` for a name that the model does not have, `NotQuantizable` for an array of
    another shape or with numbers that are not finite. Does not touch `model`.

    >>> from llmnotes.models import open_model
    >>> lm = open_model("pebble", say=lambda line: None)
    >>> zeros = with_weights(lm.model, lambda weight: 0 * weight)
    >>> bool(zeros.model.layers[0].mlp.up_proj.weight.any())
    False
    """
    import torch

    if callable(weights):
        weights = {name: weights(weight) for name, weight in matrices(model).items()}
    other = copy.deepcopy(model)
    targets = dict(other.named_parameters())
    for name, weight in weights.items():
        if name not in targets:
            raise UnknownName(f"The model has no weights named {name}; matrices(model) shows the names.")
        weight = np.array(weight, np.float32)
        if weight.shape != tuple(targets[name].shape):
            raise NotQuantizable(
                f"{name} has the shape {tuple(targets[name].shape)}, and the new weights {weight.shape}; give the same."
            )
        if not np.isfinite(weight).all():
            raise NotQuantizable(f"The new weights of {name} are not all finite; look at what made them.")
        with torch.no_grad():
            targets[name].copy_(torch.from_numpy(weight))
    return other


def inputs_of_layers(model: "PreTrainedModel", pieces: Sequence["torch.Tensor"]) -> dict[str, "torch.Tensor"]:
    """Return the activations that each linear layer but the head reads: {name: (tokens, inputs)}.

    `pieces` are token ids, all of one length.
    """
    import torch

    found: dict[str, torch.Tensor] = {}
    head, handles = model.get_output_embeddings(), []

    def keep(name: str, layer: torch.nn.Module, inputs: tuple[Any, ...]) -> None:
        found[name] = inputs[0]

    for name, layer in model.named_modules():
        if isinstance(layer, torch.nn.Linear) and layer is not head:
            handles.append(layer.register_forward_pre_hook(partial(keep, name)))
    try:
        with torch.no_grad():
            model(torch.stack(list(pieces)))
    finally:
        for handle in handles:
            handle.remove()
    return {name: x.flatten(0, 1) for name, x in found.items()}


def effective_weight(layer: "torch.nn.Module", original: "torch.Tensor") -> "torch.Tensor":
    """Return the weights (outputs, inputs) that a layer behaves as if it had, whatever it stores.

    They are what the layer answers to the rows of the identity; `original` gives the shape and the device.
    """
    import torch

    rows, columns = original.shape
    if isinstance(layer, torch.nn.Embedding):
        return layer(torch.arange(rows, device=original.device)).float()
    answers = layer(torch.eye(columns, device=original.device)).float()
    if getattr(layer, "bias", None) is not None:
        answers -= layer(torch.zeros(1, columns, device=original.device)).float()
    return answers.T
