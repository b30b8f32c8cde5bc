"""QLoRA: a frozen base in 4 bits, adapters in 16 or 32 beside it.

(Dettmers et al., QLoRA: Efficient Finetuning of Quantized LLMs, 2023, section 3.)
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from llmnotes.errors import AdapterUnfit, MissingPart, NotQuantizable, UnknownName
from llmnotes.finetuning import lora, token_rows
from llmnotes.parts import bring
from llmnotes.quantization import nf4

if TYPE_CHECKING:
    from bitsandbytes.functional import QuantState

BLOCK = 64  # weights that share a scale
LARGE = 1 << 20  # weights from which a second thread pays


class NF4Linear(nn.Module):
    """A linear layer whose weight (out, in) is kept in NF4: 4.13 bits a weight with `double`, 4.5 without.

    `codes`, `absmax` and, with `double`, the `scale` and `offset` of absmax are what `nf4.quantize` returns, in bytes:
    as floats, `model.to(torch.bfloat16)` would round them. Every forward makes the weight anew, in the type of the
    input, and so does every backward: what stays between them is 4 bits. The layer cannot be trained, only what stands
    beside it. Outputs and gradients are those of bitsandbytes' `Linear4bit`.

    >>> NF4Linear(nn.Linear(128, 64)).bits_per_weight
    4.1328125
    """

    codes: torch.Tensor
    absmax: torch.Tensor
    scale: torch.Tensor
    offset: torch.Tensor

    def __init__(self, layer: nn.Linear, double: bool = True):
        super().__init__()
        weight = layer.weight.detach()
        self.out_features, self.in_features = weight.shape
        self.dtype, self.double_quant = weight.dtype, double  # scales times levels are rounded to the old weight's type
        quantized = nf4.quantize(
            weight.float().cpu().numpy(), block_size=BLOCK, double=double, threads=torch.get_num_threads()
        )
        scales, offset = quantized.absmax_scales, quantized.absmax_offset
        parts = {"codes": quantized.codes, "absmax": quantized.absmax, "scale": scales, "offset": offset}
        for name, part in parts.items():
            part = None if part is None else torch.from_numpy(np.atleast_1d(part).view(np.uint8).copy())
            self.register_buffer(name, part if part is None else part.to(weight.device))
        self.bias = None if layer.bias is None else nn.Parameter(layer.bias.detach(), requires_grad=False)

    @property
    def bits_per_weight(self) -> float:
        """Bits of codes and scales, over the number of weights."""
        return 8 * sum(part.nbytes for part in self.buffers()) / (self.out_features * self.in_features)

    def dense(self) -> torch.Tensor:
        """Return the weight that the codes stand for, (out, in), in the type that the weight had before."""
        if self.codes.device.type == "cpu":
            threads = torch.get_num_threads() if self.out_features * self.in_features >= LARGE else 1
            weight = torch.from_numpy(self._arrays().dequantize(threads))
        else:
            weight = self._dense_on_device()
        return weight.to(self.dtype)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return `x` (..., in) times the weight, plus the bias: (..., out)."""
        return _Product.apply(x, self)

    def _arrays(self) -> nf4.FourBitTensor:
        """Return the buffers as `nf4` has them, sharing their memory."""
        found = {name: getattr(self, name).numpy() for name in ("codes", "absmax")}
        if self.double_quant:
            found["absmax_scales"] = self.scale.numpy().view(np.float32)
            found["absmax_offset"] = self.offset.numpy().view(np.float32)[0]
        else:
            found["absmax"] = found["absmax"].view(np.float32)
        return nf4.FourBitTensor("nf4", (self.out_features, self.in_features), BLOCK, **found)

    def _dense_on_device(self) -> torch.Tensor:
        """Do the same on an accelerator, where each byte looks up a pair of levels."""
        here = self.codes.device
        if self.double_quant:
            spread = self.scale.view(torch.float32).repeat_interleave(nf4.SCALES)[: len(self.absmax)]
            eight = torch.tensor(nf4.dynamic_levels(), device=here)[self.absmax.int()]
            absmax = eight * spread + self.offset.view(torch.float32)
        else:
            absmax = self.absmax.view(torch.float32)
        levels = nf4.levels("nf4")
        pairs = np.stack([levels.repeat(16), np.tile(levels, 16)], axis=1)  # (256, 2): upper half first
        flat = functional.embedding(self.codes.int(), torch.tensor(pairs, device=here)).view(-1)
        whole = len(flat) // BLOCK * BLOCK
        flat[:whole].view(-1, BLOCK).mul_(absmax[: whole // BLOCK, None])
        flat[whole:] *= absmax[-1]
        return flat[: self.out_features * self.in_features].view(self.out_features, self.in_features)


class _Product(torch.autograd.Function):
    """x times a weight that is made when it is needed and forgotten at once."""

    @staticmethod
    def forward(ctx, x: torch.Tensor, layer: NF4Linear) -> torch.Tensor:
        ctx.layer = layer
        bias = None if layer.bias is None else layer.bias.to(x.dtype)
        return functional.linear(x, layer.dense().to(x.dtype), bias)

    @staticmethod
    def backward(ctx, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        gradient = gradients[0]  # by the output: there is one
        return gradient @ ctx.layer.dense().to(gradient.dtype), None


def quantize_base(model: nn.Module, by: str = "llmnotes", double: bool = True) -> nn.Module:
    """Put every linear layer but the output head into NF4, in place, one at a time, and return the model.

    `by` is "llmnotes" (`NF4Linear`) or "bitsandbytes" (its `Linear4bit`); with `double` the scales take 8 bits as
    well. Layers that have adapters already keep them. Embeddings, norms and the head stay as they are.

    Raises `NotQuantizable` for weights that are not finite (the layers before are quantized then) and, with
    bitsandbytes on a CPU, for rows of an even length that 64 does not divide: its 0.50 looks up their scales as if
    each row began a block. Raises `UnknownName` for another `by`, and `MissingPart` where bitsandbytes is not
    installed.

    >>> quantize_base(nn.Sequential(nn.Linear(64, 64)))[0].codes.shape
    torch.Size([2048])
    """
    make = maker(by, double)
    found = {}
    for path, layer in lora.target_layers(model, lora.ALL_LINEAR).items():
        if isinstance(layer, lora.LoRALinear):
            path, layer = f"{path}.base", layer.base
        if lora.is_turned(layer):
            raise NotQuantizable(f"{path} is a Conv1D, which is not quantized here; take the method lora, or full.")
        if isinstance(layer, nn.Linear) and layer.weight.is_floating_point():
            found[path] = layer
            if by == "bitsandbytes":
                _refuse_misread(path, layer)
    for path, layer in found.items():
        model.set_submodule(path, make(layer))
    return model


def maker(by: str = "llmnotes", double: bool = True) -> Callable[[nn.Linear], nn.Module]:
    """Return what makes a layer in NF4 of a linear one; `open_model(make=...)` takes it, and quantizes while it loads.

    Raises `UnknownName` for another `by`.
    """
    makers = {"llmnotes": NF4Linear, "bitsandbytes": _linear4bit}
    if by not in makers:
        raise UnknownName(f"{by!r} does not quantize a base here; choose llmnotes or bitsandbytes.")
    return lambda layer: makers[by](layer, double).train(layer.training)


def dequantize_base(model: nn.Module) -> nn.Module:
    """Turn every layer in NF4 back into a linear one, in place: the weights are those that its codes stand for."""
    for path, layer in list(model.named_modules()):
        if is_quantized(layer):
            model.set_submodule(path, _linear(dense(layer), cast(nn.Linear, layer).bias))
    return model


def merge_into_16bit(model: nn.Module, original: nn.Module | None = None) -> nn.Module:
    """Return a copy of a QLoRA model with the active updates in dense weights, and without adapters.

    The weights to which they are added are those that the 4 bits stand for, so that the result is what was trained, up
    to rounding; or those of `original`, the model before `quantize_base`, which the adapters did not see when they
    were trained. The copy has the original's size. Raises `AdapterUnfit` where `original` lacks such a layer.
    """
    _refuse_merged(model)
    made = dequantize_base(copy.deepcopy(model)) if original is None else copy.deepcopy(original)
    for path, layer in lora.layers(model):
        home = dict(made.named_modules()).get(path)
        home = cast(nn.Linear, getattr(home, "base", home))
        weight = getattr(home, "weight", None)
        if weight is None or weight.shape != (layer.out_features, layer.in_features) or not weight.is_floating_point():
            raise AdapterUnfit(f"The original has no layer {path} of this shape; give the model as it was.")
        home.weight = nn.Parameter(lora.merged_weight(layer, weight), requires_grad=False)
    token_rows.merge_into(model, made)
    return lora.detach(made)


def merge_into_4bit(model: nn.Module) -> nn.Module:
    """Return a copy of a QLoRA model with the active updates in its 4-bit weights, and without adapters.

    Each adapted layer is dequantized, updated and quantized again: an update that is small beside the distance of two
    levels is rounded away. Layers without adapters keep their codes. Takes the memory of the model once more.
    """
    _refuse_merged(model)
    made = copy.deepcopy(model)
    for _, layer in lora.layers(made):
        base = layer.base
        if is_quantized(base):
            merged = _linear(lora.merged_weight(layer, dense(base)), base.bias)
            if isinstance(base, NF4Linear):
                quantized = NF4Linear(merged, base.double_quant)
            else:
                quantized = _linear4bit(merged, _quant_state(base).nested)
            layer.base = cast(nn.Linear, quantized)
        else:
            base.weight = nn.Parameter(lora.merged_weight(layer, base.weight), requires_grad=False)
    token_rows.merge_into(model, made)
    return lora.detach(made)


def is_quantized(layer: nn.Module) -> bool:
    """Return whether a layer has its weight in 4 bits, ours or those of bitsandbytes."""
    return isinstance(layer, NF4Linear) or type(layer).__name__ == "Linear4bit"


def dense(layer: nn.Module) -> torch.Tensor:
    """Return the weight (out, in) that a layer in 4 bits stands for, in the type it had before it was quantized."""
    if isinstance(layer, NF4Linear):
        return layer.dense()
    from bitsandbytes.functional import dequantize_4bit

    return dequantize_4bit(cast(nn.Linear, layer).weight.data, _quant_state(layer))


def _linear4bit(layer: nn.Linear, double: bool) -> nn.Module:
    try:
        from bitsandbytes.nn.modules import Linear4bit, Params4bit
    except ImportError:
        raise MissingPart(f"bitsandbytes is missing; bring it with: {bring('bitsandbytes')}") from None
    weight = layer.weight.detach()
    kind = {"compress_statistics": double, "quant_type": "nf4"}
    with torch.device("meta"):
        made = Linear4bit(layer.in_features, layer.out_features, layer.bias is not None, **kind)
    made.weight = Params4bit(weight.cpu(), requires_grad=False, module=made, **kind)  # pyright: ignore[reportCallIssue]
    if layer.bias is not None:
        made.bias = nn.Parameter(layer.bias.detach(), requires_grad=False)
    # Otherwise the first forward in evaluation mode repacks the weight for the processors that can do bfloat16, in an
    # operation through which no gradient flows: training after an evaluation would learn nothing, without a word.
    made.support_avx512bf16_for_cpu = False
    return made.to(weight.device)


def _refuse_misread(path: str, layer: nn.Linear) -> None:
    width = layer.in_features
    if layer.weight.device.type == "cpu" and width % BLOCK and width % 2 == 0:
        raise NotQuantizable(
            f"{path} has rows of {width} weights, not a multiple of {BLOCK}, and bitsandbytes misreads those on a CPU; "
            'take by="llmnotes".'
        )


def _quant_state(layer: nn.Module) -> QuantState:
    """Return what bitsandbytes keeps beside the codes of a `Linear4bit`: its scales, and how they are stored."""
    return getattr(layer.weight, "quant_state")  # noqa: B009 - the attribute is that of Params4bit


def _linear(weight: torch.Tensor, bias: torch.Tensor | None) -> nn.Linear:
    with torch.device("meta"):
        made = nn.Linear(weight.shape[1], weight.shape[0], bias is not None)
    made.weight = nn.Parameter(weight, requires_grad=False)
    if bias is not None:
        made.bias = nn.Parameter(bias.detach(), requires_grad=False)
    return made


def _refuse_merged(model: nn.Module) -> None:
    if any(layer.merged for _, layer in lora.layers(model)):
        raise AdapterUnfit("Updates are merged into the weights at the moment; call unmerge first.")
