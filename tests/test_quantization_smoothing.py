"""Outliers made by hand, and the two ways to take them out: the function stays, the rounding gets better."""

import copy
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel

from llmnotes.errors import NotQuantizable
from llmnotes.evaluation import held_out_text, kl_divergence
from llmnotes.models import open_model
from llmnotes.pebble.corpus import documents
from llmnotes.quantization import gptq, grouped
from llmnotes.quantization.models import layerwise, smoothing

CHANNEL = 100


@pytest.fixture(scope="module")
def pebble():
    return open_model("pebble", say=lambda line: None)


@pytest.fixture(scope="module")
def text():
    return held_out_text(0, 12)


@pytest.fixture(scope="module")
def windows(pebble):
    return list(layerwise.token_windows((d.text for d in documents(400, seed=11)), pebble.tokenizer, 2048))


@pytest.fixture(scope="module")
def odd(pebble, windows):
    """Pebble with one channel 64 times as large."""
    model = copy.deepcopy(pebble.model)
    smoothing.add_outlier(model, [windows[0][:1]], CHANNEL)
    return model


def logits(model, windows):
    with torch.no_grad():
        return model(windows[0][:2]).logits


def test_a_channel_of_zeros_keeps_the_scale_1():
    weights = torch.tensor([[1.0, 0.0, 2.0], [-1.0, 0.0, 3.0]])
    assert smoothing.smoothquant_scales(torch.tensor([4.0, 9.0, 0.0]), weights).tolist() == [2.0, 1.0, 1.0]


@pytest.mark.slow
def test_an_outlier_changes_no_logit_and_is_there(pebble, odd, windows):
    assert (logits(odd, windows) - logits(pebble.model, windows)).abs().max() <= 1e-4
    assert torch.equal(odd.model.norm.weight, pebble.model.model.norm.weight)  # no layer reads it
    for before, site in zip(layerwise.sites(pebble.model, windows[:1]), layerwise.sites(odd, windows[:1]), strict=True):
        grown = site.largest / before.largest
        expected = torch.ones(len(grown))
        if site.names[0].endswith(("q_proj", "gate_proj")):
            expected[CHANNEL] = 64
        torch.testing.assert_close(grown, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.slow
def test_int8_breaks_on_an_outlier_and_smoothquant_repairs_it(pebble, odd, windows, text):
    def kl(model, per="tensor"):
        return kl_divergence(pebble.model, smoothing.to_int8(model, per), pebble.tokenizer, text)

    smooth = copy.deepcopy(odd)
    scales = smoothing.smoothquant(smooth, windows)
    assert (logits(smooth, windows) - logits(pebble.model, windows)).abs().max() <= 1e-4
    assert len(scales) == 4 * 5 and all(scale.argmax() == CHANNEL for scale in scales.values())
    plain, broken, repaired = kl(pebble.model), kl(odd), kl(smooth)
    assert broken > 1 and repaired < 0.01 * broken and repaired < 1.5 * plain
    assert kl(odd, "row") > 5 * kl(smooth, "row"), "a scale for each token does not help: each token has the outlier"


@pytest.mark.slow
def test_awq_lowers_the_error_of_every_output(pebble, windows):
    model = copy.deepcopy(pebble.model)
    choices = smoothing.awq(model, windows[:1], 4)
    assert (logits(model, windows) - logits(pebble.model, windows)).abs().max() <= 1e-4
    assert len(choices) == 12 and all(0 <= choice.alpha <= 1 for choice in choices.values())
    assert all(choice.after <= choice.before for choice in choices.values())
    assert sum(choice.after < 0.95 * choice.before for choice in choices.values()) >= 4
    # The massive channel of one layer is what the method was made for.
    massive = choices["model.layers.2.mlp.down_proj"]
    assert massive.after < 0.7 * massive.before


def test_the_error_that_awq_reports_is_that_of_the_outputs(pebble, windows):
    site = next(layerwise.sites(pebble.model, windows[:1]))
    scales, choice = smoothing.awq_scales(site, 3)
    x = pebble.model.model.layers[0].input_layernorm(pebble.model.model.embed_tokens(windows[0])).flatten(0, 1)
    y = x @ site.weight.T
    for s, error in ((torch.ones(256), choice.before), (scales, choice.after)):
        rounded = grouped.round_to_nearest(site.weight * s, 3, symmetric=False).dequantize()
        assert (((x / s) @ rounded.T - y).norm() / y.norm()).item() == pytest.approx(error, rel=1e-3)


@pytest.mark.slow
def test_awq_helps_where_one_channel_is_massive(pebble, windows):
    """A channel that Pebble grew by itself: the weights that read it carry most of what the layer answers."""
    site = next(site for site in layerwise.sites(pebble.model, windows[:1]) if "layers.2.mlp.down" in site.names[0])
    energy = site.hessian.diagonal()
    assert energy.max() > 100 * energy.median()
    for bits in (3, 4):
        scales, choice = smoothing.awq_scales(site, bits)
        assert choice.after < 0.7 * choice.before and scales[energy.argmax()] > 2


@pytest.mark.parametrize("per", ["tensor", "row"])
def test_int8_linear_is_whole_numbers(per):
    random = torch.Generator().manual_seed(0)
    layer = nn.Linear(48, 16)
    x = torch.randn(2, 5, 48, generator=random)
    out = smoothing.Int8Linear(layer, per)(x)
    sx = x.abs().amax((0, 1, 2) if per == "tensor" else -1, keepdim=True) / 127
    sw = layer.weight.abs().amax(1) / 127
    with torch.no_grad():
        expected = ((x / sx).round().double() @ (layer.weight / sw[:, None]).round().double().T) * sx * sw + layer.bias
        torch.testing.assert_close(out.double(), expected, rtol=1e-5, atol=1e-6)
        assert ((out - layer(x)).norm() / layer(x).norm()).item() < 0.02
    assert smoothing.Int8Linear(nn.Linear(2048, 4))(torch.ones(1, 2048)).dtype == torch.float32


def test_folding_refuses_what_would_change_the_function():
    class AddsOne(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(8))

        def forward(self, x):
            return x * (1 + self.weight)

    layer, norm, gemma = nn.Linear(8, 4), nn.LayerNorm(8), AddsOne()
    kept = layer.weight.clone()
    nn.init.normal_(norm.bias)
    x, s = torch.randn(3, 8), torch.linspace(0.5, 4, 8)
    for before, scales, word in (
        (gemma, s, "does not only multiply"),
        (norm, s[:7], "do not fit"),
        (norm, s - 1, "positive"),
        (norm, s * torch.nan, "positive"),
        (nn.LayerNorm(6), torch.ones(6), "do not fit"),
    ):
        with pytest.raises(NotQuantizable, match=word):
            smoothing.fold(before, [layer], scales)
    assert torch.equal(layer.weight, kept) and torch.equal(gemma.weight, torch.ones(8))
    first = nn.Linear(5, 8)
    for before, x in ((norm, torch.randn(3, 8)), (first, torch.randn(3, 5))):
        expected = layer(before(x))
        smoothing.fold(before, [layer], s)
        torch.testing.assert_close(layer(before(x)), expected)
    assert not torch.equal(layer.weight, kept)


def test_what_makes_no_sense_gets_one_sentence(pebble, windows):
    model, bare = copy.deepcopy(pebble.model), copy.deepcopy(pebble.model)
    for layer in bare.model.layers:
        layer.input_layernorm = layer.post_attention_layernorm = nn.LayerNorm(256, elementwise_affine=False)
    small = {"n_embd": 8, "n_layer": 1, "n_head": 1, "vocab_size": 2048, "bos_token_id": None, "eos_token_id": None}
    convolutions = GPT2LMHeadModel(GPT2Config(**small))
    for call, word in (
        (lambda: smoothing.smoothquant(model, windows, 1.5), "Alpha"),
        (lambda: smoothing.smoothquant(bare, windows), "reads a norm directly; there is nothing to fold"),
        (lambda: smoothing.awq(convolutions, windows, 3), "0 has no linear layers of PyTorch's own kind; give a model"),
        (lambda: smoothing.smoothquant(model, []), "no calibration text"),
        (lambda: smoothing.add_outlier(model, windows[:1], 300), "no channel 300"),
        (lambda: smoothing.awq(nn.Linear(2, 2), windows, 3), "decoder"),
    ):
        with pytest.raises(NotQuantizable, match=word):
            call()
    dead = SimpleNamespace(weight=torch.randn(4, 8), mean=torch.zeros(8), hessian=torch.zeros(8, 8))
    scales, choice = smoothing.awq_scales(dead, 3)
    assert scales.isfinite().all() and choice.before == 0
    assert smoothing.smoothquant_scales(torch.zeros(8), torch.zeros(2, 8)).tolist() == [1.0] * 8
    assert gptq.output_error(dead.weight, dead.weight, dead.hessian) == 0
