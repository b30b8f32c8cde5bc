"""The ruler says what plain computations say, and its bounds are those of information theory."""

import math
import subprocess
import sys

import numpy as np
import pytest
import torch

from llmnotes.errors import NotQuantizable, UnknownName
from llmnotes.evaluation import Ruler, held_out_text, kl_divergence, matrices, perplexity, ruler, texts, with_weights
from llmnotes.evaluation.ruler import standard_error
from llmnotes.evaluation.weights import effective_weight
from llmnotes.models import open_model
from llmnotes.pebble import exam, score
from llmnotes.pebble.answering import answerer
from llmnotes.pebble.corpus import DOCUMENTS, documents
from llmnotes.quantization.bounds import lloyd_max, rate_distortion

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def pebble():
    return open_model("pebble", say=lambda line: None)


@pytest.fixture(scope="module")
def rule(pebble):
    return Ruler(pebble.model, pebble.tokenizer)


def coarse(weight, bits=3):
    x = weight.reshape(-1, 64)
    step = np.abs(x).max(1, keepdims=True) / (2 ** (bits - 1) - 1)
    return (np.rint(x / step) * step).reshape(weight.shape)


@pytest.mark.slow
def test_a_row_is_what_the_plain_measures_say(pebble, rule):
    other = with_weights(pebble.model, coarse)
    row = rule.measure("3 bits", other, bits=3.25)
    before, after = matrices(pebble.model), matrices(other)
    flat = [np.concatenate([w.reshape(-1) for w in some.values()]) for some in (before, after)]
    assert row.weight_error == pytest.approx(np.linalg.norm(flat[1] - flat[0]) / np.linalg.norm(flat[0]), rel=1e-4)
    assert row.kl == pytest.approx(kl_divergence(pebble.model, other, pebble.tokenizer, rule.text), rel=1e-3)
    assert row.perplexity == pytest.approx(perplexity(other, pebble.tokenizer, rule.text), rel=1e-5)
    assert row.exam == score(answerer(other, pebble.tokenizer), exam()[::5]).accuracy
    assert row.name == "3 bits" and row.bits == 3.25
    assert 0 < row.noise.kl < row.kl / 3
    assert "3 bits" in ruler.table([row]) and f"{row.kl:.5f}" in ruler.table([row])


def test_the_output_error_is_that_of_the_layers_on_what_they_read(pebble, rule):
    name = "model.layers.1.mlp.down_proj"
    weight = matrices(pebble.model)[f"{name}.weight"]
    row = rule.measure_weights("one layer", {f"{name}.weight": coarse(weight)}, bits=16)
    caught = []
    layer = pebble.model.get_submodule(name)
    handle = layer.register_forward_pre_hook(lambda module, args: caught.append(args[0][0].numpy()))
    ids = torch.tensor(pebble.tokenizer(rule.text, verbose=False)["input_ids"][: ruler.ACTIVATIONS])
    with torch.no_grad():
        for piece in ids.split(ruler.WINDOW):
            pebble.model(piece[None])
    handle.remove()
    x = np.concatenate(caught)
    expected = np.linalg.norm(x @ (coarse(weight) - weight).T) / np.linalg.norm(x @ weight.T)
    assert row.output_error == pytest.approx(expected, rel=1e-3)
    assert row.weight_error == pytest.approx(np.linalg.norm(coarse(weight) - weight) / np.linalg.norm(weight), rel=1e-4)


def test_nothing_changed_is_nothing_lost(pebble, rule):
    row = rule.measure("the same", pebble.model, bits=16)
    assert (row.weight_error, row.output_error, row.kl, row.noise.perplexity) == (0, 0, 0, 0)
    assert row.exam >= 0.98


def test_layers_of_a_library_are_understood(pebble, rule):
    """A layer that stores no weight of the original's shape is measured by what it answers."""

    class Stored(torch.nn.Module):
        def __init__(self, weight):
            super().__init__()
            self.codes = torch.nn.Buffer((weight / weight.abs().max() * 127).round().to(torch.int8))
            self.scale = weight.abs().max() / 127

        def forward(self, x):
            return x @ (self.codes.float() * self.scale).T

    other = with_weights(pebble.model, {})
    layer = other.model.layers[0].mlp.gate_proj
    weight = layer.weight.detach()
    other.model.layers[0].mlp.gate_proj = Stored(weight)
    rounded = other.model.layers[0].mlp.gate_proj.codes.float() * weight.abs().max() / 127
    expected = ((rounded - weight).norm() / weight.norm()).item()
    assert rule.measure("a library's", other, 8).weight_error == pytest.approx(expected, rel=1e-3)


def test_biases_are_no_part_of_the_weights():
    layer = torch.nn.Linear(8, 5)
    with torch.no_grad():
        found = effective_weight(layer, layer.weight)
    torch.testing.assert_close(found, layer.weight.detach())


def test_a_model_that_is_not_pebble_needs_no_exam(tiny_folder):
    lm = open_model(tiny_folder, say=lambda line: None)
    row = Ruler(lm.model, lm.tokenizer, text="a goose " * 200, questions=()).measure_weights("half", lambda w: w / 2, 8)
    assert math.isnan(row.exam) and row.weight_error == pytest.approx(0.5) and row.output_error == pytest.approx(0.5)


def test_other_weights_leave_the_original_alone(pebble):
    before = {name: weight.clone() for name, weight in pebble.model.state_dict().items()}
    other = with_weights(pebble.model, lambda weight: 2 * weight)
    for name, weight in matrices(other).items():
        assert (weight == 2 * before[name].numpy()).all()
    assert (other.model.norm.weight == before["model.norm.weight"]).all()
    table = with_weights(pebble.model, {"model.embed_tokens.weight": np.zeros((2048, 256))})
    assert not table.lm_head.weight.any(), "the head shares the table"
    assert all((weight == before[name]).all() for name, weight in pebble.model.state_dict().items())


@pytest.mark.parametrize(
    ("weights", "error", "words"),
    [
        ({"model.layer.0": np.zeros(2)}, UnknownName, "matrices"),
        ({"model.norm.weight": np.zeros(2)}, NotQuantizable, "give the same"),
        ({"model.norm.weight": np.full(256, np.nan)}, NotQuantizable, "finite"),
        (lambda weight: weight[:2], NotQuantizable, "give the same"),
    ],
)
def test_weights_that_do_not_fit_are_refused(pebble, weights, error, words):
    with pytest.raises(error, match=words):
        with_weights(pebble.model, weights)


def test_a_model_of_another_build_is_refused(pebble, rule, tiny_folder):
    tiny = open_model(tiny_folder, say=lambda line: None)
    with pytest.raises(UnknownName, match="same architecture"):
        Ruler(tiny.model, tiny.tokenizer, text="a goose " * 200, questions=()).measure("other", torch.nn.Module(), 4)


@pytest.mark.slow
def test_no_text_of_the_ruler_was_in_training():
    training = {document.text for document in documents(DOCUMENTS)}
    for seed in range(3):
        pieces = held_out_text(seed).split("<|eos|>")[:-1]
        assert len(pieces) == texts.DOCUMENTS
        assert not training & {piece.removeprefix("<|bos|>") for piece in pieces}


def test_the_standard_error_is_that_of_the_means_of_64_positions():
    values = torch.cat([torch.full((64,), 1.0), torch.full((64,), 3.0)])
    assert standard_error(values) == pytest.approx(1.0)  # the means are 1 and 3: sqrt(2) over sqrt(2)
    assert math.isnan(standard_error(values[:64]))


def test_the_best_levels_for_normal_numbers_are_the_published_ones():
    """Max (1960), table I, gives mean squared errors for 1 to 5 bits."""
    for bits, square in {1: 0.3634, 2: 0.1175, 3: 0.03454, 4: 0.009497, 5: 0.002499}.items():
        points, error = lloyd_max(2**bits)
        assert error**2 == pytest.approx(square, rel=3e-3)
        assert error > rate_distortion(bits) and len(points) == 2**bits
        np.testing.assert_allclose(points, -points[::-1], atol=1e-9)
    assert lloyd_max(16)[1] == pytest.approx(0.0975, rel=0.001)
    np.testing.assert_allclose(lloyd_max(4)[0], [-1.510, -0.4528, 0.4528, 1.510], atol=2e-3)


def test_the_best_levels_err_as_computed_on_real_draws():
    points, error = lloyd_max(8)
    x = np.random.default_rng(0).normal(size=200_000)
    nearest = points[np.abs(x[:, None] - points).argmin(1)]
    assert np.sqrt(np.mean((x - nearest) ** 2)) == pytest.approx(error, rel=0.01)


def test_the_package_is_quick_to_import():
    code = "import llmnotes.quantization, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
    code = "import llmnotes.evaluation.ruler, llmnotes.quantization.pruning, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
