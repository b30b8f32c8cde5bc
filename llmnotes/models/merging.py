"""PEFT merges an adapter into one layer at a time: the model is empty until a layer's tensors are handed in."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from llmnotes import formats
from llmnotes.errors import AdapterUnfit, MissingPart, reason
from llmnotes.formats.adapters import CONFIG
from llmnotes.formats.huggingface import ADAPTER, settings
from llmnotes.parts import bring

if TYPE_CHECKING:
    from torch import nn

PREFIX = "base_model.model."  # of PEFT's names
UNCHANGED = (True, False, None, "gaussian", "eva", "orthogonal")  # starts of an adapter that leave the base as it is
TOKENS = "TrainableTokensWrapper"
Read = Callable[[str], torch.Tensor]  # gives the base's tensor of a name, in float32


class Merging:
    """A model without weights, and beside it an adapter whose weights are in memory.

    `names` are the tensors that the model has, `changed` those that the adapter makes others of, and `linear` the
    weights of its linear layers but the output head. Where the head is the table of embeddings, `table`, and the
    adapter changes only one of them, `untied` is the head's name. `config` is the model's, with the adapter's changes.

    Raises `AdapterUnfit` for an adapter of another model, one that PEFT cannot merge, and one whose weights are a
    pickle; `MissingPart` without PEFT. Uses the regular expressions in the adapter's settings.
    """

    def __init__(self, base: Path, adapter: Path):
        from transformers import AutoConfig, AutoModelForCausalLM

        _refuse(adapter)
        self.adapter = adapter
        with torch.device("meta"), _quietly():
            self.config = AutoConfig.from_pretrained(base, local_files_only=True, trust_remote_code=False)
            model = AutoModelForCausalLM.from_config(self.config, trust_remote_code=False)
            self._resize(model)
        modules = dict(model.named_modules())
        tables = model.get_input_embeddings(), model.get_output_embeddings()
        table, head = (next((path for path, each in modules.items() if each is wanted), "") for wanted in tables)
        self.shapes = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
        self.linear = {f"{p}.weight" for p, each in modules.items() if isinstance(each, torch.nn.Linear) and p != head}
        self.layers = self._attached(model)
        self._last: tuple[str, dict[str, torch.Tensor]] = "", {}

        # What changes: all that lies in the layers of the adapter, and biases that it brings for others
        self.table, self.head, self.untied = f"{table}.weight", f"{head}.weight", ""
        tokens = all(type(self.layers.get(path)).__name__ == TOKENS for path in (table, head))
        if self.config.tie_word_embeddings and {table, head} & self.layers.keys() and not tokens:
            self.untied = self.head
            self.shapes[self.untied] = self.shapes[self.table]
            self.config.tie_word_embeddings = False
        inside = {f"{path}.{key}" for path, layer in self.layers.items() for key, _ in _base(layer).named_parameters()}
        loaded = ((name, each) for name, each in model.named_parameters() if not _empty(each))
        self.brought = {name: each for name, each in loaded if name in self.shapes}
        self.changed = (inside | self.brought.keys()) & self.shapes.keys()

    def is_copy(self, name: str) -> bool:
        """Return whether a tensor of the base's files is the table of embeddings once more, as the head."""
        return name == self.head and self.config.tie_word_embeddings

    def merged(self, name: str, read: Read) -> torch.Tensor:
        """Return one of the tensors that are `changed`, float32; `read` is asked for what that takes of the base."""
        path = next((path for path in self.layers if name.rpartition(".")[0] == path), None)
        if path is None:
            return self.brought[name].detach().float() if name in self.brought else read(name)
        if self._last[0] != path:  # a layer with a bias is merged once for both
            self._last = path, self._layer(path, read)
        return self._last[1][name.rpartition(".")[2]]

    def _layer(self, path: str, read: Read) -> dict[str, torch.Tensor]:
        layer = self.layers[path]
        base = _base(layer)
        before = dict(base.named_parameters())
        for key, parameter in before.items():
            if _empty(parameter) and not hasattr(layer, "modules_to_save"):
                setattr(base, key, torch.nn.Parameter(read(f"{path}.{key}"), requires_grad=False))
        try:
            with _quietly():
                if hasattr(layer, "unload_and_optionally_merge_module"):
                    made = layer.unload_and_optionally_merge_module(True, False, None)
                else:
                    layer.merge()
                    made = base
        except (ValueError, RuntimeError, NotImplementedError) as error:
            raise self._unfit(f"cannot be merged into {path[:80]} ({reason(error)}); use it with PEFT") from None
        found = {key: parameter.detach() for key, parameter in made.named_parameters()}
        for key, parameter in before.items():
            setattr(base, key, parameter)
        for key, tensor in found.items():
            if not tensor.isfinite().all():
                raise self._unfit(f"makes numbers of {path[:80]}.{key} that are not finite; copy or train it again")
        return found

    def _resize(self, model: Any) -> None:
        """Give the empty model as many tokens as the table has that the adapter brings, if it brings one."""
        for tensor in formats.inspect(self.adapter).tensors:
            if tensor.name.endswith(("embed_tokens.weight", "embed_tokens.base_layer.weight", "wte.weight")):
                if tensor.shape[:1] != (model.get_input_embeddings().weight.shape[0],):
                    model.resize_token_embeddings(tensor.shape[0], mean_resizing=False)

    def _attached(self, model: Any) -> dict[str, Any]:
        """Put the adapter beside the layers of the empty model, and return those that it has changed, by name."""
        try:
            from peft import PeftModel
            from peft.tuners.tuners_utils import BaseTunerLayer
            from peft.utils.other import AuxiliaryTrainingWrapper
        except ImportError:
            raise MissingPart(f"peft is missing; bring it with: {bring('peft')}") from None
        for module in model.modules():
            for key, parameter in module._parameters.items():
                if parameter is not None:  # of the right size, and in no memory
                    module._parameters[key] = torch.nn.Parameter(torch.zeros(1).expand(parameter.shape), False)
        model.tie_weights()
        try:
            with _quietly() as heard:
                wrapped = PeftModel.from_pretrained(model, self.adapter, low_cpu_mem_usage=True, torch_device="cpu")
        except Exception as error:  # each kind of adapter has errors of its own
            raise self._unfit(f"does not fit its base model ({reason(error)}); open the model it is for") from None
        lost = next((str(each.message) for each in heard if "missing adapter keys" in str(each.message)), None)
        if lost:
            raise self._unfit(f"lacks weights ({lost[-80:]}); copy it again, or open the model it is for")
        if getattr(wrapped.active_peft_config, "is_prompt_learning", True):
            raise self._unfit("adds tokens to the prompt, which no weights can hold; use it with PEFT")
        found: dict[str, Any] = {}
        for path, module in model.named_modules():
            inside = any(path.startswith(f"{outer}.") for outer in found)
            if isinstance(module, BaseTunerLayer | AuxiliaryTrainingWrapper) and not inside:
                found[path] = module
        return found

    def _unfit(self, what: str) -> AdapterUnfit:
        return AdapterUnfit(f"The adapter in {self.adapter} {what}.")


def _base(layer: Any) -> nn.Module:
    """Return the layer that PEFT has wrapped."""
    return layer.original_module if hasattr(layer, "original_module") else layer.get_base_layer()


def _empty(parameter: torch.Tensor) -> bool:
    """Return whether a parameter stands for numbers that are not in memory."""
    return parameter.is_meta or parameter.untyped_storage().nbytes() < parameter.numel() * parameter.element_size()


def _refuse(adapter: Path) -> None:
    """Refuse what is not opened, and an adapter without its base as it was changed at the start."""
    if not (adapter / ADAPTER[0]).exists() and (adapter / ADAPTER[1]).exists():
        raise AdapterUnfit(
            f"The adapter in {adapter} has its weights in a pickle, which is not opened; write them as {ADAPTER[0]} "
            "with PEFT."
        )
    start = settings(adapter / CONFIG).get("init_lora_weights", True)
    if start not in UNCHANGED:
        raise AdapterUnfit(
            f"The adapter in {adapter} starts from {str(start)[:40]!r}, which changes the base; write it as a plain "
            "LoRA with PEFT."
        )


@contextmanager
def _quietly() -> Iterator[list[warnings.WarningMessage]]:
    """Collect the warnings of libraries instead of showing them."""
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        yield heard
