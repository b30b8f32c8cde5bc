"""A rounded key-value cache keeps what it should, counts its bytes right, and serves transformers' own generate."""

import numpy as np
import pytest
import torch
from transformers import DynamicCache

from llmnotes.cache_name import cache_name
from llmnotes.errors import NotQuantizable
from llmnotes.evaluation import held_out_text
from llmnotes.models import open_model
from llmnotes.quantization.models.kv_cache import BITS, QuantizedCache, full_bytes, kl_of_cache, quantize

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def pebble():
    return open_model("pebble", say=lambda line: None)


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("dim", [-1, -2])
def test_packing_is_rounding_between_the_ends_of_a_group(bits, dim):
    x = torch.from_numpy(np.random.default_rng(bits).normal(size=(2, 3, 16, 64)).astype(np.float32))
    packed = quantize(x, bits, dim)
    low, high = x.amin(dim, keepdim=True), x.amax(dim, keepdim=True)
    steps = 2**bits - 1
    step = (high - low) / steps
    expected = ((x - low) / step).round() * step + low
    assert ((packed.dequantize() - expected).abs() / step).max() < 1.05, "scales are float16"
    assert ((packed.dequantize() - expected).abs() / step).mean() < 0.1
    assert packed.codes.shape == (2, 3, 16, 64 * bits // 8)
    groups = x.numel() // x.shape[dim]
    assert packed.nbytes == x.numel() * bits // 8 + 4 * groups


def test_the_first_code_lies_in_the_lowest_bits():
    assert quantize(torch.tensor([[0.0, 15.0, 1.0, 2.0]]), 4, -1).codes.tolist() == [[0xF0, 0x21]]


def test_a_constant_group_is_kept():
    for number in (0.75, 0.1, 0.7, 0.0):  # a float16, one that is rounded down to one, one that is rounded up, and 0
        packed = quantize(torch.full((1, 8), number), 4, -1)
        assert (packed.scales > 0).all() and not packed.codes.any()
        assert (packed.dequantize() == float(torch.tensor(number).half())).all()


def test_old_tokens_are_rounded_once_and_new_ones_not_at_all(pebble):
    cache = QuantizedCache(pebble.model.config, bits=4, group_size=16)
    rng = torch.Generator().manual_seed(0)
    seen = [torch.randn(1, 2, n, 64, generator=rng) for n in (5, 10, 30, 1, 1)]
    for new in seen:
        keys, values = cache.update(new, -new, 0)
    everything = torch.cat(seen, 2)
    assert keys.shape == values.shape == everything.shape and cache.get_seq_length() == 47
    assert (keys[:, :, 45:] == everything[:, :, 45:]).all(), "the last tokens are as they came"
    assert (keys[:, :, 32:] == everything[:, :, 32:]).all() and (keys[:, :, :32] != everything[:, :, :32]).any()
    again, _ = cache.update(seen[-1], -seen[-1], 0)  # the 48th token fills a group: read as it came, then rounded
    assert (again[:, :, :47] == keys).all() and (again[:, :, 47:] == seen[-1]).all()
    later, _ = cache.update(seen[-1], -seen[-1], 0)
    assert (later[:, :, :32] == keys[:, :, :32]).all() and (later[:, :, 32:47] != keys[:, :, 32:]).any()
    assert (later - torch.cat([everything, seen[-1], seen[-1]], 2)).abs().max() < 0.5
    cache.reset()
    assert cache.get_seq_length() == 0 and cache.nbytes == 0


def test_texts_of_a_batch_change_places(pebble):
    cache = QuantizedCache(pebble.model.config, bits=8, group_size=16)
    x = torch.randn(3, 2, 20, 64, generator=torch.Generator().manual_seed(0))
    cache.update(x, x, 0)
    layer = cache.layers[0]
    layer.reorder_cache(torch.tensor([2, 0, 0]))
    keys, _ = layer.update(x[:, :, :1], x[:, :, :1])
    assert (keys[:, :, :20] - x[[2, 0, 0]]).abs().max() < 0.05
    layer.batch_select_indices(torch.tensor([0, 1]))
    layer.batch_repeat_interleave(2)
    keys, _ = layer.update(x[[0, 0, 0, 0], :, :1], x[[0, 0, 0, 0], :, :1])
    assert (keys[:, :, :20] - x[[2, 2, 0, 0]]).abs().max() < 0.05


@pytest.mark.parametrize("keys_per", ["channel", "token"])
def test_the_bytes_are_those_that_were_promised(pebble, keys_per):
    config = pebble.model.config
    for bits in BITS:
        cache = QuantizedCache(config, bits=bits, group_size=32, keys_per=keys_per)
        with torch.no_grad():
            pebble.model(torch.full((1, 256), 9), **{cache_name(): cache})
        numbers = full_bytes(config, 256, 1)
        keys = numbers // 2 // (32 if keys_per == "channel" else 64)
        assert cache.nbytes == numbers * bits // 8 + 4 * (keys + numbers // 2 // 64)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_eight_bits_cost_nothing_and_keys_per_channel_cost_less(pebble, seed):
    ids = torch.tensor([pebble.tokenizer(held_out_text(seed), verbose=False)["input_ids"][:512]])

    def kl(**how):
        return kl_of_cache(pebble.model, ids, QuantizedCache(pebble.model.config, **how), prompt=352)

    assert kl(bits=8) < 1e-5
    assert kl(bits=2) < 0.02
    cache = DynamicCache(config=pebble.model.config)
    with torch.no_grad():
        pebble.model(ids, **{cache_name(): cache})
    for layer in cache.layers:
        keys = layer.keys.unflatten(2, (-1, 32))
        per_channel, per_token = ((quantize(keys, 4, dim).dequantize() - keys).norm() for dim in (-2, -1))
        assert per_channel < 0.8 * per_token


def test_generate_takes_it(pebble):
    ids = torch.tensor([pebble.tokenizer(held_out_text(0, 8), verbose=False)["input_ids"][:200]])
    how = {"do_sample": False, "max_new_tokens": 24, "pad_token_id": 2, "attention_mask": torch.ones_like(ids)}
    with torch.no_grad():
        full = pebble.model.generate(ids, **how)
        ours = pebble.model.generate(ids, **{cache_name(): QuantizedCache(pebble.model.config, bits=8)}, **how)
        beams = QuantizedCache(pebble.model.config, bits=8)
        searched = pebble.model.generate(ids, **{cache_name(): beams}, num_beams=2, **how)
        expected = pebble.model.generate(ids, num_beams=2, **how)
    assert (full == ours).all() and (searched == expected).all()


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda config: QuantizedCache(config, bits=3), "2, 4 or 8"),
        (lambda config: QuantizedCache(config, group_size=0), "one or more"),
        (lambda config: QuantizedCache(config, keys_per="head"), "channel or token"),
        (lambda config: quantize(torch.ones(2, 3), 4, -1), "whole bytes"),
        (lambda config: quantize(torch.ones(2, 0), 4, -1), "whole bytes"),
        (lambda config: quantize(torch.tensor([[1.0, float("nan")]]), 4, -1), "not finite"),
        (lambda config: quantize(torch.tensor([[1.0, 1e6]]), 4, -1), "beyond float16"),
        (lambda config: quantize(torch.ones(2, 2), 5, -1), "2, 4 or 8"),
        (lambda config: QuantizedCache(config).layers[0].crop(-1), "DynamicCache"),
    ],
)
def test_what_cannot_be_held_gets_one_sentence(pebble, call, words):
    with pytest.raises(NotQuantizable, match=words):
        call(pebble.model.config)
