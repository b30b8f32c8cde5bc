"""A key-value cache in 8, 4 or 2 bits: keys and values of older tokens are quantized, recent ones stay as they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from transformers.cache_utils import Cache, DynamicLayer

from llmnotes.cache_name import cache_name
from llmnotes.errors import NotQuantizable

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

BITS = (2, 4, 8)


class QuantizedStates(NamedTuple):
    """Rounded keys or values: each is minimum + scale · code, with the float16 minimum and scale of its group.

    `codes` are uint8, several in a byte below 8 bits.
    """

    codes: torch.Tensor
    minima: torch.Tensor
    scales: torch.Tensor
    bits: int

    @property
    def nbytes(self) -> int:
        """Bytes of codes, minima and scales together."""
        return sum(part.numel() * part.element_size() for part in self[:3])

    def dequantize(self) -> torch.Tensor:
        """Return float32 of the shape that `quantize` was given."""
        codes, bits = self.codes, self.bits
        if bits < 8:
            places = [codes >> bits * place & 2**bits - 1 for place in range(8 // bits)]
            codes = torch.stack(places, -1).flatten(-2)
        return codes.float() * self.scales.float() + self.minima.float()

    def each(self, change: Callable[[torch.Tensor], torch.Tensor]) -> QuantizedStates:
        """Return the same with `change` done to codes, minima and scales."""
        return QuantizedStates(change(self.codes), change(self.minima), change(self.scales), self.bits)


def quantize(x: torch.Tensor, bits: int, dim: int) -> QuantizedStates:
    """Round a float tensor to `bits`, with one minimum and one scale for all numbers along `dim`.

    A number is minimum + scale · code with code from 0 to 2^bits - 1. Codes lie along the last dimension of `x`, 8 /
    bits of them in a byte, the first in the lowest bits. Raises `NotQuantizable` for bits other than 2, 4 and 8, for
    numbers that are not finite or beyond float16, and for a last dimension that does not fill whole bytes.

    >>> quantize(torch.tensor([[0.0, 1.0, 2.0, 3.0]]), bits=2, dim=-1).dequantize()
    tensor([[0., 1., 2., 3.]])
    """
    if bits not in BITS:
        raise NotQuantizable(f"A cache cannot hold {bits} bits; choose 2, 4 or 8.")
    if x.shape[-1] * bits % 8 or not x.numel():
        raise NotQuantizable(f"{x.shape[-1]} codes of {bits} bits do not fill whole bytes; give whole bytes of codes.")
    x = x.float()
    low, high = x.amin(dim, keepdim=True), x.amax(dim, keepdim=True)
    if not (high.abs().amax() < 65504 and low.abs().amax() < 65504):
        raise NotQuantizable("The cache got a number that is not finite or beyond float16; look at what made it.")
    minima = low.half()
    scales = ((high - minima.float()) / (2**bits - 1)).clamp_min(2.0**-14).half()
    codes = ((x - minima.float()) / scales.float()).round().clamp(0, 2**bits - 1).to(torch.uint8)
    if bits < 8:
        parts = codes.unflatten(-1, (-1, 8 // bits))  # (..., bytes, codes in a byte)
        codes = torch.zeros_like(parts[..., 0])
        for place in range(8 // bits):
            codes |= parts[..., place] << bits * place
    return QuantizedStates(codes, minima, scales, bits)


def _joined(first: QuantizedStates, second: QuantizedStates) -> QuantizedStates:
    """Return two as one, one behind the other along their groups."""
    codes, minima, scales = (torch.cat(pair, 2) for pair in zip(first[:3], second[:3], strict=True))
    return QuantizedStates(codes, minima, scales, first.bits)


class QuantizedLayer(DynamicLayer):
    """One layer's cache: the last tokens as they came, older ones rounded in groups of `group_size` tokens.

    A number is rounded once and never again.
    """

    is_croppable = False

    def __init__(self, bits: int, group_size: int, keys_per: str):
        super().__init__()
        self.bits, self.group_size = bits, group_size
        self.dims = (-2 if keys_per == "channel" else -1), -1  # of keys and of values
        self.old: list[QuantizedStates] = []  # keys and values of whole groups: (batch, heads, groups, tokens, bytes)

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Take in new tokens (batch, heads, tokens, head size) and return all so far, old ones as they are stored."""
        recent = super().update(key_states, value_states)
        past = [packed.dequantize().flatten(2, 3).to(key_states.dtype) for packed in self.old]
        whole = recent[0].shape[-2] // self.group_size * self.group_size
        if whole:
            new = [
                quantize(x[:, :, :whole].unflatten(2, (-1, self.group_size)), self.bits, dim)
                for x, dim in zip(recent, self.dims, strict=True)
            ]
            self.old = [_joined(*pair) for pair in zip(self.old, new, strict=True)] if self.old else new
            self.keys, self.values = (x[:, :, whole:].clone() for x in recent)
        if not past:
            return recent
        keys, values = (torch.cat(both, 2) for both in zip(past, recent, strict=True))
        return keys, values

    def get_seq_length(self) -> int:
        """Return the number of tokens in the cache."""
        old = self.group_size * self.old[0].codes.shape[2] if self.old else 0
        return old + super().get_seq_length()

    def reset(self) -> None:
        """Forget everything."""
        super().reset()
        self.old = []

    def crop(self, tokens_to_remove: int) -> None:
        """Refuse: what was rounded in a group cannot leave it."""
        raise NotQuantizable("A rounded cache cannot forget its last tokens; take a DynamicCache to go back in a text.")

    def reorder_cache(self, beam_idx: torch.Tensor) -> None:
        """Reorder the texts of the batch, for beam search."""
        self._each(lambda x: x.index_select(0, beam_idx))

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Repeat each text of the batch."""
        self._each(lambda x: x.repeat_interleave(repeats, 0))

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        """Keep some texts of the batch."""
        self._each(lambda x: x[indices])

    def _each(self, change: Callable[[torch.Tensor], torch.Tensor]) -> None:
        self.old = [packed.each(change) for packed in self.old]
        if self.keys is not None and self.values is not None:
            self.keys, self.values = change(self.keys), change(self.values)

    @property
    def nbytes(self) -> int:
        """Bytes of everything stored."""
        recent = 0
        if self.is_initialized and self.keys is not None and self.values is not None:
            recent = self.keys.nbytes + self.values.nbytes
        return recent + sum(packed.nbytes for packed in self.old)


class QuantizedCache(Cache):
    """A cache for `model(..., **{cache_name(): cache})` and `model.generate`, whose older tokens are rounded.

    Tokens are rounded when `group_size` of them have gathered; until then they stay as they came. `keys_per="channel"`
    gives the numbers of each channel of the keys one scale for all tokens of a group, because some channels of keys are
    large in every token, and the values of each token their own (Liu et al. 2024, KIVI, section 3.2); with
    `keys_per="token"` keys are treated as values are. A model reads the text of one call as it came, also what is
    rounded afterwards.

    Raises `NotQuantizable` for `bits` other than 2, 4 and 8, a group size below one, and another word for `keys_per`.
    Does not save time: what is read is unpacked first. Does not go back to an earlier token (`crop`).

    >>> from llmnotes.models import open_model
    >>> from llmnotes.cache_name import cache_name
    >>> lm = open_model("pebble", say=lambda line: None)
    >>> cache = QuantizedCache(lm.model.config, bits=4)
    >>> _ = lm.model(torch.full((1, 320), 7), **{cache_name(): cache})
    >>> round(full_bytes(lm.model.config, 320) / cache.nbytes, 1)  # against float32
    6.7
    """

    def __init__(self, config: PreTrainedConfig, bits: int = 4, group_size: int = 32, keys_per: str = "channel"):
        if bits not in BITS:
            raise NotQuantizable(f"A cache cannot hold {bits} bits; choose 2, 4 or 8.")
        if group_size < 1 or keys_per not in ("channel", "token"):
            raise NotQuantizable(
                f"The cache has no groups of {group_size} tokens with keys per {keys_per!r}; give a size of one or "
                "more, and channel or token."
            )
        layers = config.get_text_config().num_hidden_layers
        super().__init__(layers=[QuantizedLayer(bits, group_size, keys_per) for _ in range(layers)])

    @property
    def nbytes(self) -> int:
        """Bytes of everything stored, in all layers."""
        return sum(layer.nbytes for layer in self.layers if isinstance(layer, QuantizedLayer))


def full_bytes(config: PreTrainedConfig, tokens: int, bytes_per_number: int = 4) -> int:
    """Return the bytes that keys and values of one text of `tokens` take without rounding, by default in float32.

    >>> from llmnotes.models import open_model
    >>> full_bytes(open_model("pebble", say=lambda line: None).model.config, tokens=512)
    2097152
    """
    config = config.get_text_config()
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return 2 * config.num_hidden_layers * config.num_key_value_heads * head * tokens * bytes_per_number


def kl_of_cache(model: PreTrainedModel, ids: torch.Tensor, cache: Cache, prompt: int = 256) -> float:
    """Return the mean KL(full ‖ cached), in nats per token, of the next-token distributions after the first `prompt`.

    `ids` is a tensor (1, tokens). The prompt is read in one call and each later token in a call of its own, as when a
    model generates, so that what it reads of the past is what `cache` kept. The full cache is the model without any.
    Does not change the model; the cache must be new.
    """
    kept = {cache_name(): cache}
    with torch.inference_mode():
        p = model(ids, use_cache=False).logits[0, prompt:].float().log_softmax(-1)  # (tokens - prompt, vocabulary)
        model(ids[:, :prompt], **kept)
        steps = [model(ids[:, i : i + 1], **kept).logits[0, -1] for i in range(prompt, ids.shape[1])]
        q = torch.stack(steps).float().log_softmax(-1)
    return (p.exp() * (p - q)).sum(-1).mean().item()
