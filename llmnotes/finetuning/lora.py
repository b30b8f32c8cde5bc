"""LoRA: a frozen layer W learns an update of low rank beside it, W x + scaling · B A x.

(Hu et al., LoRA: Low-Rank Adaptation of Large Language Models, 2021, section 4; Kalajdzievski, A Rank Stabilization
Scaling Factor for Fine-Tuning with LoRA, 2023.)
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, cast

import torch
from torch import nn
from torch.nn import functional

from llmnotes.errors import AdapterUnfit
from llmnotes.finetuning import token_rows

ALL_LINEAR = "all-linear"


@dataclass(frozen=True)
class LoRA:
    """The settings of an adapter: its rank `r`, how strongly it counts, and the layers that get one.

    `target_modules` is "all-linear" (every linear layer but the output head), a tuple of endings of names such as
    `("q_proj", "v_proj")`, or a regular expression that has to match the whole name of a layer. The update is
    multiplied by `scaling`: alpha / r, or alpha / sqrt(r) where it is rank-stabilized. The rows of `tokens` learn as
    well, in the input embedding and, where that is the same matrix, in the output head (PEFT's
    `trainable_token_indices`); neither `scaling` nor dropout touches them. "untrained" stands in settings alone, for
    those in the training data that `token_rows.untrained` finds.

    >>> LoRA(r=16, alpha=32).scaling, LoRA(r=16, alpha=32, rank_stabilized=True).scaling
    (2.0, 8.0)
    """

    r: int = 8
    alpha: float = 16
    dropout: float = 0.0
    target_modules: str | tuple[str, ...] = ALL_LINEAR
    rank_stabilized: bool = False
    tokens: Literal["untrained"] | tuple[int, ...] = ()

    def __post_init__(self):
        if self.r < 1 or not 0 <= self.dropout < 1 or not math.isfinite(self.alpha):
            raise AdapterUnfit(
                f"LoRA with r={self.r}, alpha={self.alpha} and dropout={self.dropout} is not possible; take r of at "
                "least 1, a finite alpha, and dropout from 0 to below 1."
            )
        tokens = self.tokens
        if tokens != token_rows.UNTRAINED and (
            any(type(token) is not int or token < 0 for token in tokens) or len(set(tokens)) < len(tokens)
        ):
            raise AdapterUnfit("The tokens whose rows learn are whole numbers of at least 0, each once; correct them.")

    @property
    def scaling(self) -> float:
        """The factor that B A is multiplied by."""
        return self.alpha / (math.sqrt(self.r) if self.rank_stabilized else self.r)


class Adapter(nn.Module):
    """The update of one layer: `lora_A` (r, in) starts at random, `lora_B` (out, r) at zero."""

    def __init__(self, config: LoRA, inputs: int, outputs: int, generator: torch.Generator):
        super().__init__()
        self.config, self.scaling, self.dropout = config, config.scaling, config.dropout
        bound = 1 / math.sqrt(inputs)  # what nn.Linear starts with
        self.lora_A = nn.Parameter(torch.empty(config.r, inputs).uniform_(-bound, bound, generator=generator))
        self.lora_B = nn.Parameter(torch.zeros(outputs, config.r))

    def forward(self, x: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        """Return `out` + scaling · B A x, in the float type of `x` (..., in); one operation scales and adds."""
        flat = functional.dropout(x, self.dropout, self.training).reshape(-1, x.shape[-1])
        hidden = flat @ self.lora_A.to(x.dtype).T  # (tokens, r)
        summed = torch.addmm(out.reshape(-1, out.shape[-1]), hidden, self.lora_B.to(x.dtype).T, alpha=self.scaling)
        return summed.view(out.shape)


class LoRALinear(nn.Module):
    """A linear layer, `base`, and `adapters` beside it, by name; those in `active` are added to what it gives.

    While merged, the base has the updates in its weight, and `kept` is the weight from before.
    """

    def __init__(self, base: nn.Module):
        super().__init__()
        self.base = cast(nn.Linear, base)  # or a layer in 4 bits, or GPT-2's Conv1D: a weight as well
        self.adapters = nn.ModuleDict()
        self.in_features, self.out_features = sizes(base)
        self.active: tuple[str, ...] = ()
        self.merged = False
        self.kept: nn.Parameter | None = None

    def adapter(self, name: str = "default") -> Adapter:
        """Return the adapter of a name. Raises `KeyError` where the layer has none."""
        return cast(Adapter, self.adapters[name])

    @property
    def weight(self) -> torch.Tensor:
        """The weight of the base: some models look at its type."""
        return self.base.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the base's output plus the updates of the active adapters; `x` is (..., in)."""
        out = self.base(x)
        if not self.merged:
            for name in self.active:
                out = self.adapter(name)(x, out)
        return out


def attach(model: nn.Module, config: LoRA, name: str = "default", seed: int = 0) -> nn.Module:
    """Put a new adapter beside the layers that `config.target_modules` names, in place, and return the model.

    Everything else is frozen. The new adapter alone is active: the others stay, see `activate`. B is zero, so that
    the model's output does not change by a bit; A is uniform between ±1/sqrt(in), drawn from `seed` in the order of
    the layers. Adapters are float32 whatever the base has, and compute in the type of their input.

    Raises `AdapterUnfit` where no layer has such a name, the name is taken, or updates are merged at the moment; and
    for a token that is not in the vocabulary, or beside a head that cannot have both an adapter and rows that learn.
    Does not adapt convolutions, nor experts whose matrices lie in one tensor (`unadapted` names those), and of
    embeddings the rows of `config.tokens` alone. Until `detach`, the names in the model's `state_dict` differ from
    those of its files.

    >>> model = attach(nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2)), LoRA(r=1, target_modules=("1",)))
    >>> {name: tuple(p.shape) for name, p in trainable(model).items()}
    {'1.adapters.default.lora_A': (1, 3), '1.adapters.default.lora_B': (2, 1)}
    """
    if not re.fullmatch(r"[\w-]+", name) or hasattr(nn.ModuleDict, name):
        raise AdapterUnfit(f"{name!r} is no name for an adapter; take another word of letters, digits, - and _.")
    found = target_layers(model, config.target_modules)
    if not found:
        wanted = config.target_modules
        raise AdapterUnfit(f"No linear layer fits the target_modules {wanted!r}; look at model.named_modules().")
    _refuse_merged(model)
    if any(isinstance(layer, LoRALinear) and name in layer.adapters for layer in found.values()):
        raise AdapterUnfit(f"The model has an adapter {name!r} already; give this one another name.")
    if any(isinstance(layer, token_rows.TokenHead) for layer in found.values()):
        wanted = config.target_modules
        raise AdapterUnfit(f"Rows of the output head learn already; leave it out of the target_modules {wanted!r}.")
    tokens = token_rows.check(model, config.tokens, name, beside=found.values()) if config.tokens else ()
    model.requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    for path, layer in found.items():
        if not isinstance(layer, LoRALinear):
            layer = LoRALinear(layer).train(layer.training)
            model.set_submodule(path, layer)
        adapter = Adapter(config, layer.in_features, layer.out_features, generator).train(layer.training)
        layer.adapters[name] = adapter.to(device_of(layer.base))
    if tokens:
        token_rows.attach(model, tokens, name)
    return activate(model, name)


def activate(model: nn.Module, *names: str) -> nn.Module:
    """Add the updates of these adapters, and of no others, to the output; without names the base answers alone.

    The parameters of active adapters train, those of the others are frozen. Raises `AdapterUnfit` for a name that no
    layer has, and while updates are merged.
    """
    _refuse_merged(model)
    adapted = [layer for _, layer in layers(model)] + token_rows.find(model)
    known = {name for layer in adapted for name in layer.adapters}
    for name in names:
        if name not in known:
            raise AdapterUnfit(f"There is no adapter {name!r}; the model has {', '.join(sorted(known)) or 'none'}.")
    for layer in adapted:
        layer.active = tuple(name for name in names if name in layer.adapters)
        for name, adapter in layer.adapters.items():
            adapter.requires_grad_(name in names)
    return model


def update(layer: LoRALinear, name: str = "default") -> torch.Tensor:
    """Return what an adapter adds to its layer's weight, scaling · B A, float32 (out, in), of rank r at most."""
    adapter = layer.adapter(name)
    A, B = adapter.lora_A.detach(), adapter.lora_B.detach()
    return torch.addmm(B.new_zeros(()), B, A, beta=0, alpha=adapter.scaling)


def merge(model: nn.Module, keep: bool = True) -> nn.Module:
    """Add the active updates to the weights of the base, so that the model costs what the base costs; in place.

    The sum is made in float32 and rounded to the type of the weight. Subtracting would not give the old weight back
    to the last bit, so it is kept, which takes the memory of the adapted layers once more; `keep=False` gives it up,
    and then there is no way back. Merging what is merged changes nothing.

    Raises `AdapterUnfit` for a base in 4 bits (see `qlora`), and for a weight that another layer shares.
    """
    uses = [id(p) for _, p in model.named_parameters(remove_duplicate=False)]
    for path, layer in layers(model):
        weight = getattr(layer.base, "weight", None)
        if weight is None or not weight.is_floating_point():
            raise AdapterUnfit(f"{path} has no float weight to add to; use merge_into_16bit or merge_into_4bit.")
        if layer.active and uses.count(id(weight)) > 1:
            raise AdapterUnfit(
                f"{path} shares its weight with another layer; leave it out of the target_modules to merge."
            )
    for _, layer in layers(model):
        if not layer.merged:
            layer.kept = cast(nn.Parameter, layer.base.weight) if keep else None
            layer.base.weight = nn.Parameter(merged_weight(layer, layer.base.weight), requires_grad=False)
            layer.merged = True
    token_rows.merge(model, keep)
    return model


def merged_weight(layer: LoRALinear, weight: torch.Tensor) -> torch.Tensor:
    """Return `weight` plus the active updates, summed in float32, in the type of `weight`."""
    summed = weight.detach().float()
    for name in layer.active:
        summed = summed + (update(layer, name).T if is_turned(layer.base) else update(layer, name))
    return summed.to(weight.dtype)


def unmerge(model: nn.Module) -> nn.Module:
    """Give the base the weights from before `merge`, bit for bit; raises `AdapterUnfit` where they were not kept."""
    for path, layer in layers(model):
        if layer.merged and layer.kept is None:
            raise AdapterUnfit(f"{path} was merged with keep=False; open the base model again.")
    for _, layer in layers(model):
        if layer.merged and layer.kept is not None:
            layer.base.weight, layer.kept, layer.merged = layer.kept, None, False
    token_rows.unmerge(model)
    return model


def detach(model: nn.Module) -> nn.Module:
    """Take all adapters off, in place: what is merged stays in the weights, what is not is gone. All stays frozen."""
    for path, layer in list(layers(model)):
        model.set_submodule(path, layer.base)
    token_rows.detach(model)
    return model


def trainable(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the parameters that an optimizer should get, by name."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def layers(model: nn.Module) -> Iterator[tuple[str, LoRALinear]]:
    """Yield the name and the layer wherever adapters are."""
    return ((name, module) for name, module in model.named_modules() if isinstance(module, LoRALinear))


def target_layers(model: nn.Module, wanted: str | tuple[str, ...]) -> dict[str, nn.Module]:
    """Return the linear layers, adapted ones too, whose names fit `wanted` (see `LoRA`), in the model's order."""
    get_head = getattr(model, "get_output_embeddings", None)  # a model of transformers has it
    head = get_head() if get_head else None
    try:
        pattern = re.compile(wanted) if isinstance(wanted, str) else None
    except re.error as error:
        raise AdapterUnfit(f"{wanted!r} is no regular expression ({error}); correct it, or give a tuple.") from None
    found, inside = {}, " "
    for name, module in model.named_modules():
        linear = is_turned(module) or hasattr(module, "in_features") and hasattr(module, "out_features")
        if not linear or not name or name.startswith(inside):
            continue
        inside = f"{name}."  # where the base of an adapted layer follows
        if wanted == ALL_LINEAR:
            fits = module is not head
        elif pattern:
            fits = pattern.fullmatch(name)
        else:
            fits = any(name == ending or name.endswith(f".{ending}") for ending in wanted)
        if fits:
            found[name] = module
    return found


def is_turned(layer: nn.Module) -> bool:
    """Return whether a layer is transformers' Conv1D, a linear layer of GPT-2 whose weight is (in, out)."""
    return type(layer).__name__ == "Conv1D" and hasattr(layer, "nx")


def sizes(layer: nn.Module) -> tuple[int, int]:
    """Return how many numbers go into a linear layer and how many come out."""
    layer = cast(nn.Linear, layer)
    return (
        (layer.weight.shape[0], layer.weight.shape[1]) if is_turned(layer) else (layer.in_features, layer.out_features)
    )


def unadapted(model: nn.Module) -> str:
    """Return one sentence about the matrices that have no adapter because several lie in one tensor, or nothing.

    transformers keeps the experts of a mixture so: (experts, out, in).

    >>> unadapted(nn.Linear(1, 1))
    ''
    """
    found = {}
    for path, module in model.named_modules():
        if not type(module).__name__.startswith("Conv"):
            found |= {f"{path}.{name}": p.numel() for name, p in module.named_parameters(recurse=False) if p.ndim > 2}
    if not found:
        return ""
    names = ", ".join(sorted({re.sub(r"\.\d+\.", ".*.", name) for name in found}))
    share = sum(found.values()) / sum(p.numel() for p in model.parameters())
    return f"No adapter stands beside {names} ({share:.0%} of the model), which hold many matrices each."


def device_of(layer: nn.Module) -> torch.device:
    """Return where a layer's numbers are, be they parameters or, in 4 bits, buffers."""
    return next(part for parts in (layer.parameters(), layer.buffers()) for part in parts).device


def _refuse_merged(model: nn.Module) -> None:
    if any(layer.merged for _, layer in layers(model)):
        raise AdapterUnfit("Updates are merged into the weights at the moment; call unmerge or detach first.")
