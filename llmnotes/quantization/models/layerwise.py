"""A model run one block at a time over a calibration text: what each linear layer gets to read, and what reads it.

Methods that use data (GPTQ, AWQ, SmoothQuant) ask here for the statistics of a layer's input, change the layer's
weights, and ask for the next, which then reads what the changed layers before it answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import nn

from llmnotes.errors import NotQuantizable

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(eq=False)
class Site:
    """Linear layers of one block that read the same input, with what a calibration text said about that input.

    `hessian` is the mean of x·xᵀ over the tokens, float32 (inputs, inputs): half the matrix of second derivatives of
    the mean squared error of an output, whatever the weights are. `mean` and `largest` are those of |x| in each
    channel, (inputs,). `before` is the norm or the linear layer whose output channels are the input's, or None where
    something else lies between.
    """

    names: tuple[str, ...]
    layers: tuple[nn.Linear, ...]
    before: nn.Module | None
    tokens: int = 0
    hessian: torch.Tensor = field(init=False)
    mean: torch.Tensor = field(init=False)
    largest: torch.Tensor = field(init=False)

    def __post_init__(self):
        device, width = self.layers[0].weight.device, self.layers[0].in_features
        self.hessian = torch.zeros(width, width, device=device)
        self.mean, self.largest = (torch.zeros(width, device=device) for _ in range(2))

    @property
    def weight(self) -> torch.Tensor:
        """The weights of all layers below each other, float32 (outputs, inputs); a copy."""
        return torch.cat([layer.weight.detach().float() for layer in self.layers])

    def parts(self, rows: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return what belongs to each layer of a tensor with as many rows as `weight`."""
        return rows.split([layer.out_features for layer in self.layers])

    def replace(self, weight: torch.Tensor) -> None:
        """Replace the weights of the layers, (outputs, inputs)."""
        with torch.no_grad():
            for layer, part in zip(self.layers, self.parts(weight), strict=True):
                layer.weight.copy_(part)

    def read(self, x: torch.Tensor) -> None:
        """Add the inputs `x`, (..., inputs), to the sums."""
        x = x.detach().flatten(0, -2).float()
        self.hessian.addmm_(x.T, x)
        x = x.abs()
        self.mean += x.sum(0)
        torch.maximum(self.largest, x.amax(0), out=self.largest)
        self.tokens += len(x)

    def close(self) -> None:
        """Turn the sums into means."""
        self.hessian /= self.tokens
        self.mean /= self.tokens
        if not self.hessian.isfinite().all():
            raise NotQuantizable(
                f"{self.names[0]} reads an infinity or a NaN in the calibration text; "
                "see that the model answers finite numbers to it."
            )


def token_windows(
    texts: Iterable[str], tokenizer: PreTrainedTokenizerBase, tokens: int = 16_384, window: int = 256
) -> Iterator[torch.Tensor]:
    """Yield calibration text as token ids, int64 (1 to 8, window), until about `tokens` tokens have come.

    Texts are read one after another, each followed by the mark that ends a text, and cut into windows; what fills no
    window is left out, but for a first one. Reads no more of `texts` than needed.

    Does not shuffle, and does not look for a text that the model was trained on.
    """
    end = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
    left, rows, count = [], [], 0
    for text in texts:
        left += tokenizer(text, verbose=False)["input_ids"] + end
        while len(left) >= window and count < tokens:
            rows.append(left[:window])
            left, count = left[window:], count + window
            if len(rows) == 8:
                yield torch.tensor(rows)
                rows = []
        if count >= tokens:
            break
    if not count and left:
        rows = [left]
    if rows:
        yield torch.tensor(rows)


@torch.no_grad()
def sites(model: PreTrainedModel, windows: Iterable[torch.Tensor]) -> Iterator[Site]:
    """Yield the linear layers of a transformers model by what they read, in the order in which the model runs them.

    `windows` are token ids, int64 (batch, tokens), as `token_windows` gives them. A site's statistics are those at the
    moment when it is asked for: weights that were changed before change them. Each block is run once for each of its
    sites and once more for the next block, and only as far as needed. Memory: the states of all tokens between two
    blocks, 4 · tokens · width bytes, and one Hessian.

    Raises `NotQuantizable` for a model without a list of blocks or without linear layers in them (GPT-2 has a layer of
    its own), for no calibration text, and for activations that are not finite. Does not visit the output layer or the
    embeddings, nor an expert that the first batch does not call.
    """
    training = model.training
    model.eval()
    try:
        prefix, blocks = _blocks(model)
        states = _before(model, blocks[0], windows)
        for number, block in enumerate(blocks):
            for site in _sites_of(block, f"{prefix}.{number}", states[0]):
                for state in states:
                    _run_until(block, state, site)
                site.close()
                yield site
            states = [_after(block, state) for state in states]
    finally:
        model.train(training)


class _Enough(Exception):
    """Ends a pass as soon as the layer that is asked for has been reached."""


def _blocks(model: PreTrainedModel) -> tuple[str, nn.ModuleList]:
    count = getattr(getattr(model, "config", None), "num_hidden_layers", None)
    for name, module in model.named_modules():
        if isinstance(module, nn.ModuleList) and len(module) == count:
            return name, module
    raise NotQuantizable(f"{type(model).__name__} has no list of blocks that are run in turn; give a decoder model.")


def _before(model: PreTrainedModel, first: nn.Module, windows: Iterable[torch.Tensor]) -> list:
    """Return the arguments with which the first block is called, for each batch."""
    states = []

    def catch(module, args, kwargs):
        states.append((args, kwargs))
        raise _Enough

    handle = first.register_forward_pre_hook(catch, with_kwargs=True)
    try:
        for ids in windows:
            try:
                model(ids.to(model.device), use_cache=False)
            except _Enough:
                pass
    finally:
        handle.remove()
    if not states or not sum(args[0].numel() for args, _ in states):
        raise NotQuantizable("There is no calibration text; give at least one text with a few tokens.")
    return states


def _after(block: nn.Module, state):
    args, kwargs = state
    answer = block(*args, **kwargs)
    return ((answer[0] if isinstance(answer, tuple) else answer), *args[1:]), kwargs


def _run_until(block: nn.Module, state, site: Site) -> None:
    def catch(layer, args):
        site.read(args[0])
        raise _Enough

    handle = site.layers[0].register_forward_pre_hook(catch)
    try:
        block(*state[0], **state[1])
    except _Enough:
        pass
    finally:
        handle.remove()


def _has_weights(module: nn.Module) -> bool:
    return getattr(module, "weight", None) is not None  # None: a norm that was made without


def _sites_of(block: nn.Module, prefix: str, state) -> list[Site]:
    """Return the sites of a block in the order of its calls, found by running it once."""
    calls, answers, handles = [], [], []
    for name, module in block.named_modules():
        if isinstance(module, nn.Linear):
            handles.append(
                module.register_forward_pre_hook(lambda m, args, name=name: calls.append((name, m, args[0])))
            )
        if not list(module.children()):
            handles.append(module.register_forward_hook(lambda m, args, answer: answers.append((m, answer))))
    try:
        block(*state[0], **state[1])
    finally:
        for handle in handles:
            handle.remove()
    found: list[tuple] = []
    for name, layer, x in calls:
        same = next((entry for entry in found if entry[0] is x), None)
        if same is None:
            found.append(same := (x, [], []))
        same[1].append(f"{prefix}.{name}")
        same[2].append(layer)
    if not found:
        raise NotQuantizable(
            f"{prefix} has no linear layers of PyTorch's own kind; give a model that is built of them."
        )
    sites = []
    for x, names, layers in found:
        before = next((module for module, answer in answers if answer is x and _has_weights(module)), None)
        if before is None and names[0].endswith("mlp.down_proj"):  # reads act(gate) · up: a factor of up passes through
            before = block.get_submodule("mlp.up_proj")
        sites.append(Site(tuple(names), tuple(layers), before))
    return sites
