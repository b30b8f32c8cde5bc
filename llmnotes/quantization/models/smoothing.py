"""Smoothing: channels made larger in one layer and smaller in the next, so that rounding hurts less.

A norm's output channel is divided by s, and the columns that read it are multiplied by s: in exact arithmetic nothing
changes. SmoothQuant (Xiao et al. 2022, arXiv 2211.10438) chooses s so that activations fit 8 bits, AWQ (Lin et al.
2023, arXiv 2306.00978) so that the weights that matter most lose least in 3 or 4.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import nn

from llmnotes.errors import NotQuantizable
from llmnotes.quantization.gptq import output_error
from llmnotes.quantization.grouped import round_to_nearest
from llmnotes.quantization.integers import absmax
from llmnotes.quantization.models.layerwise import Site, sites

if TYPE_CHECKING:
    from transformers import PreTrainedModel

STEPS = 20  # of the grid over alpha from 0 to 1


class Choice(NamedTuple):
    """What AWQ found for one input: the exponent, and the relative output error without and with scales."""

    alpha: float
    before: float
    after: float


@torch.no_grad()
def fold(before: nn.Module, layers: Iterable[nn.Linear], scales: torch.Tensor) -> None:
    """Divide the output channels of `before` by `scales`, (channels,), and multiply the columns of `layers`, in place.

    `before` is a norm or a linear layer, and `layers` are all that read its output. The model's function stays as it
    is, up to rounding; with powers of two exactly.

    Raises `NotQuantizable` for scales that are not positive and finite or of another length, and for a norm that does
    not multiply by its weight alone (Gemma's adds one to it); nothing is changed then. Does not look whether anything
    else reads the output.
    """
    layers = tuple(layers)
    weight = before.get_parameter("weight")
    width = len(weight)
    if scales.shape != (width,) or any(layer.in_features != width for layer in layers):
        raise NotQuantizable(f"{tuple(scales.shape)} scales do not fit {width} channels; give one for each.")
    if not (scales.isfinite() & (scales > 0)).all():
        raise NotQuantizable("A scale is zero, negative or not finite; give positive numbers.")
    x = torch.linspace(-1, 1, before.in_features if isinstance(before, nn.Linear) else width)
    x = x.to(weight)[None]
    old, kept = before(x), weight.clone()
    rows = scales.to(weight)
    weight /= rows[:, None] if weight.ndim == 2 else rows
    bias = getattr(before, "bias", None)
    if bias is not None:
        bias /= rows
    if not torch.allclose(before(x) * rows, old, rtol=1e-2, atol=1e-6 * float(old.abs().max())):
        weight.copy_(kept)
        if bias is not None:
            bias *= rows
        raise NotQuantizable(f"{type(before).__name__} does not only multiply by its weight; fold into another layer.")
    for layer in layers:
        layer.weight *= scales.to(layer.weight)


def add_outlier(model: PreTrainedModel, windows: Iterable[torch.Tensor], channel: int, factor: float = 64.0) -> None:
    """Make one channel of every norm's output `factor` times as large, in place, without changing what the model says.

    The columns that read the channel become smaller by the same factor, as in the large models in which such channels
    grow by themselves (Dettmers et al. 2022, section 4). `windows` need hold no more than one short text. Raises
    `NotQuantizable` for a channel that the model does not have.
    """
    for before, site in _smoothable(sites(model, windows)):
        if site.layers[0].in_features <= channel or channel < 0:
            raise NotQuantizable(f"There is no channel {channel} among {site.layers[0].in_features}; count from 0.")
        scales = torch.ones(site.layers[0].in_features)
        scales[channel] = 1 / factor
        fold(before, site.layers, scales)


def smoothquant_scales(activations: torch.Tensor, weights: torch.Tensor, alpha: float = 0.5) -> torch.Tensor:
    """Return max|X|^alpha / max|W|^(1 - alpha) for each channel (SmoothQuant, equation 4).

    `activations` are the largest magnitudes of each channel, (channels,), and `weights` the matrix that reads them,
    (outputs, channels). At alpha 0 the weights' columns become equally large, at 1 the activations. A channel that is
    zero in one of them keeps the scale 1.

    >>> smoothquant_scales(torch.tensor([16.0, 1.0]), torch.tensor([[1.0, -1.0]])).tolist()
    [4.0, 1.0]
    """
    largest = weights.abs().amax(0)
    scales = activations**alpha / largest ** (1 - alpha)
    return torch.where((activations > 0) & (largest > 0), scales, 1.0)


def smoothquant(model: PreTrainedModel, windows: Iterable[torch.Tensor], alpha: float = 0.5) -> dict[str, torch.Tensor]:
    """Move the difficulty of quantization from activations to weights, in place; return {layer: its scales}.

    Works on what reads a norm (queries, keys, values, gate and up), as the paper does. `windows` are token ids of a
    calibration text. Rounds nothing: `to_int8` does, and logits stay the same until then.

    Raises what `sites` and `fold` raise, and `NotQuantizable` for an alpha outside of 0 to 1.
    """
    if not 0 <= alpha <= 1:
        raise NotQuantizable(f"Alpha shares the difficulty and lies between 0 and 1; it cannot be {alpha}.")
    found = {}
    for before, site in _smoothable(sites(model, windows)):
        scales = smoothquant_scales(site.largest, site.weight, alpha)
        fold(before, site.layers, scales)
        found |= dict.fromkeys(site.names, scales)
    return found


def awq_scales(
    site: Site, bits: int, group_size: int | None = 128, symmetric: bool = False
) -> tuple[torch.Tensor, Choice]:
    """Return the scales of a site's channels, (inputs,), that lower the error of its rounded outputs most.

    Of mean|x|^alpha, for alpha from 0 to 1 in steps of 0.05, the one is taken at which rounding the scaled weights to
    the nearest in groups changes the outputs least (AWQ, equation 5); at 0 nothing is scaled. The error is computed
    from the Hessian, so no activations are kept. Does not search for clipped ranges, which AWQ's authors do afterwards.
    """
    weight, mean = site.weight, site.mean.clamp(min=1e-4 * float(site.mean.max()) or 1.0)
    errors, tried = [], []
    for step in range(STEPS + 1):
        scales = mean ** (step / STEPS)
        scales = scales / (scales.max() * scales.min()).sqrt()
        rounded = round_to_nearest(weight * scales, bits, group_size, symmetric).dequantize() / scales
        errors.append(output_error(weight, rounded, site.hessian))
        tried.append(scales)
    best = min(range(STEPS + 1), key=errors.__getitem__)
    return tried[best], Choice(best / STEPS, errors[0], errors[best])


def awq(
    model: PreTrainedModel,
    windows: Iterable[torch.Tensor],
    bits: int,
    group_size: int | None = 128,
    symmetric: bool = False,
) -> dict[str, Choice]:
    """Scale the channels that matter up before weights are rounded, in place; return {first layer of a site: choice}.

    Works on what reads a norm, and on a gated MLP's last layer, whose scales fold into `up_proj`. Rounds nothing:
    round the weights afterwards with the same bits and groups, to the nearest or with GPTQ. Raises what `sites` and
    `fold` raise.
    """
    found = {}
    for before, site in _smoothable(sites(model, windows), also_linear=True):
        scales, found[site.names[0]] = awq_scales(site, bits, group_size, symmetric)
        fold(before, site.layers, scales)
    return found


class Int8Linear(nn.Module):
    """A linear layer with 8-bit weights (a scale for each row) and 8-bit activations (W8A8).

    `group_size` is "tensor", one scale for all activations of a call, or "row", one for each token. The scales of
    activations are taken from the activations as they come. Sums of products of codes are exact; they are not faster
    here.
    """

    codes: torch.Tensor
    scale: torch.Tensor

    def __init__(self, layer: nn.Linear, group_size: str = "tensor"):
        super().__init__()
        weight = absmax(layer.weight.detach().float().cpu().numpy())
        # Whole numbers up to 2^24 are exact in float32, and its products are the quick ones on a CPU.
        exact = torch.float32 if layer.in_features * 127**2 < 1 << 24 else torch.float64
        self.group_size, self.in_features, self.out_features = group_size, layer.in_features, layer.out_features
        self.register_buffer("codes", torch.from_numpy(weight.codes).to(layer.weight.device, exact))
        self.register_buffer("scale", torch.from_numpy(weight.scales).to(layer.weight.device))
        self.bias = layer.bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows = x.detach().flatten(0, -2)
        quantized = absmax(rows.float().cpu().numpy(), group_size=self.group_size)
        scale = torch.from_numpy(quantized.scales).to(x.device)[:, None]  # (tokens, 1) or (1, 1)
        out = torch.from_numpy(quantized.codes).to(self.codes) @ self.codes.T
        out = (out.float() * scale * self.scale).to(x.dtype).unflatten(0, x.shape[:-1])
        return out if self.bias is None else out + self.bias


def to_int8(model: PreTrainedModel, group_size: str = "tensor") -> PreTrainedModel:
    """Return a copy of `model` in which every linear layer but the head is an `Int8Linear`; `model` stays as it is."""
    import copy

    other = copy.deepcopy(model)
    head = other.get_output_embeddings()
    for parent in list(other.modules()):
        for name, layer in parent.named_children():
            if isinstance(layer, nn.Linear) and layer is not head:
                setattr(parent, name, Int8Linear(layer, group_size))
    return other


def _smoothable(found: Iterable[Site], also_linear: bool = False) -> Iterator[tuple[nn.Module, Site]]:
    """Yield (what it reads, the site) where that is a norm, and if asked for where it is a linear layer."""
    some = False
    for site in found:
        if site.before is not None and (also_linear or site.before.get_parameter("weight").ndim == 1):
            some = True
            yield site.before, site
    if not some:
        raise NotQuantizable(
            "No linear layer of the model reads a norm directly; there is nothing to fold scales into."
        )
