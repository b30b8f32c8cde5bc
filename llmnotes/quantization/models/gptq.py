"""GPTQ for a whole model: one linear layer after another, calibrated with what the rounded layers before it answer."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch
from tqdm import tqdm

from llmnotes.errors import NotQuantizable
from llmnotes.quantization import gptq
from llmnotes.quantization.grouped import QuantizedMatrix
from llmnotes.quantization.models.layerwise import sites

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def quantize_model(
    model: PreTrainedModel,
    windows: Iterable[torch.Tensor],
    bits: int,
    group_size: int | None = 128,
    symmetric: bool = True,
    order: str = "static",
    search: bool = True,
    damp: float = 0.01,
) -> dict[str, QuantizedMatrix]:
    """Round every linear layer in the blocks of a transformers model, in place; return {name of the layer: codes}.

    `windows` are token ids of a calibration text (`layerwise.token_windows`). The layers are taken in the order in
    which the model runs them, each calibrated with what the rounded layers before it answer; the model's weights
    become those that the codes stand for. Layers that read the same input share a Hessian and are rounded as one.

    Raises what `gptq.quantize` and `layerwise.sites` raise; the layers before stay rounded then: work on a copy. Does
    not touch embeddings, norms and the output layer, and does not write a file: `llmnotes.formats.gptq` does.
    """
    found = {}
    for site in tqdm(sites(model, windows), desc="GPTQ", unit=" inputs", delay=1, leave=False, disable=None):
        try:
            whole = gptq.quantize(site.weight, site.hessian, bits, group_size, symmetric, order, search, damp)
        except NotQuantizable as error:
            raise NotQuantizable(f"{site.names[0]}: {error}") from None
        site.replace(whole.dequantize())
        start = 0
        for name, layer in zip(site.names, site.layers, strict=True):
            found[name] = whole.rows(start, start + layer.out_features)
            start += layer.out_features
    return found
