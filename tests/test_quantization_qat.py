"""Rounding, its two derivatives, and what training with them reaches."""

import copy

import numpy as np
import pytest
import torch

from llmnotes.errors import NotQuantizable
from llmnotes.evaluation import held_out_text, kl_divergence, with_weights
from llmnotes.models import open_model
from llmnotes.pebble import exam, score
from llmnotes.pebble.answering import answerer
from llmnotes.quantization import integers
from llmnotes.quantization.models import qat

WEIGHT = np.random.default_rng(0).normal(size=(6, 64)).astype(np.float32)


@pytest.fixture(scope="module")
def pebble():
    return open_model("pebble", say=lambda line: None)


def level_numbers(bits):
    """Every level by hand: one and two bits have no zero, more have one more level below it than above."""
    return {1: [-0.5, 0.5], 2: [-1.5, -0.5, 0.5, 1.5], 3: [-4, -3, -2, -1, 0, 1, 2, 3]}[bits]


@pytest.mark.parametrize("bits", [1, 2, 3])
def test_each_weight_goes_to_the_nearest_level_with_the_best_scale(bits):
    made = qat.quantize(WEIGHT, bits, group_size=16)
    back, levels = made.dequantize(), np.array(level_numbers(bits))
    for row in range(6):
        for group in range(4):
            x, scale = WEIGHT[row, 16 * group : 16 * group + 16], float(made.scales.reshape(6, 4)[row, group])
            nearest = levels[np.abs(x[:, None] - scale * levels).argmin(1)] * scale
            np.testing.assert_allclose(back[row, 16 * group : 16 * group + 16], nearest, rtol=1e-6)
            errors = []
            for other in np.linspace(0.1, 3, 400):
                errors.append(np.square(x - other * levels[np.abs(x[:, None] - other * levels).argmin(1)]).sum())
            assert np.square(x - nearest).sum() < 1.05 * min(errors), "no other scale is much better"
    assert made.codes.max() == 2**bits - 1 and made.codes.min() == 0
    assert made.bits_per_weight == bits + 1


def test_the_derivative_goes_through_within_the_range_and_stops_beyond():
    weight = torch.tensor([[0.2, -0.9, 1.9, 2.1, -2.1]], requires_grad=True)
    scale = torch.tensor([[1.0]], requires_grad=True)
    out = qat.StraightThrough.apply(weight, scale, 2)
    assert out.tolist() == [[0.5, -0.5, 1.5, 1.5, -1.5]]
    upstream = torch.tensor([[1.0, 2.0, 3.0, 4.0, 5.0]])
    out.backward(upstream)
    assert weight.grad.tolist() == [[1, 2, 3, 0, 0]]
    # LSQ, equation 3: level - exact within the range, the outermost level beyond it
    expected = 1 * (0.5 - 0.2) + 2 * (-0.5 + 0.9) + 3 * (1.5 - 1.9) + 4 * 1.5 + 5 * -1.5
    assert scale.grad.item() == pytest.approx(expected, rel=1e-5)


def test_the_derivative_of_the_scale_is_the_true_one_where_no_code_changes():
    rng = np.random.default_rng(1)
    level = torch.from_numpy(rng.choice([-6.0, -3.0, 0.0, 3.0, 6.0], 40)).reshape(2, 20)  # 3 bits: some lie beyond

    def loss(scale):
        return (qat.StraightThrough.apply(level, scale, 3) * torch.arange(20)).sum()

    scale = torch.full((2, 1), 1.0, dtype=torch.float64, requires_grad=True)
    loss(scale).backward()
    # numerically, with the whole levels that 3-bit codes stand for: exact = level, so only what is clipped moves
    clipped = level.clamp(-4, 3)
    inside = clipped == level
    expected = (torch.where(inside, torch.zeros_like(level), clipped) * torch.arange(20)).sum(1, keepdim=True)
    torch.testing.assert_close(scale.grad, expected)


@pytest.mark.slow
@pytest.mark.parametrize("bits", [1, 2, 4])
def test_what_is_stored_is_what_was_computed_with(pebble, bits):
    student = qat.prepare(pebble.model, bits, group_size=32)
    rows = qat.pebble_rows(pebble.tokenizer, 2, length=64)
    before = {name: weight.clone() for name, weight in pebble.model.state_dict().items()}
    qat.train(student, rows, steps=2, learning_rate=1e-3, teacher=pebble.model)
    stored = qat.convert(student)
    assert len(stored) == 28 and stored["model.layers.0.self_attn.q_proj.weight"].bits_per_weight == bits + 0.5
    for name, one in stored.items():
        used = student.get_submodule(name.removesuffix(".weight")).weight.detach().numpy()
        np.testing.assert_array_equal(one.dequantize(), used)
    other = with_weights(pebble.model, {name: one.dequantize() for name, one in stored.items()})
    ids = torch.from_numpy(rows[:1].astype(np.int64))
    with torch.no_grad():
        torch.testing.assert_close(other(ids).logits, student(ids).logits)
    assert all((weight == before[name]).all() for name, weight in pebble.model.state_dict().items())
    trained = {name for name, weight in student.named_parameters() if weight.requires_grad}
    assert len(trained) == 56 and not any("embed" in name or "norm" in name for name in trained)


@pytest.mark.slow
def test_two_bits_keep_the_exam_where_rounding_loses_it(pebble):
    """A few steps; benchmarks/qat.py takes more. Rounding is that of the textbook: absmax, in the same groups."""
    rounded = with_weights(pebble.model, lambda weight: integers.absmax(weight, 2, 64).dequantize())
    student = qat.prepare(pebble.model, 2, group_size=64)
    text, questions = held_out_text(0, 12), exam()[::10]

    def marks(model):
        return score(answerer(model, pebble.tokenizer), questions).accuracy

    start = kl_divergence(pebble.model, copy.deepcopy(student), pebble.tokenizer, text)
    rows = qat.pebble_rows(pebble.tokenizer, 24)
    losses = qat.train(student, rows, steps=12, teacher=pebble.model, pad=pebble.tokenizer.pad_token_id)
    assert np.mean(losses[-3:]) < 0.6 * np.mean(losses[:2])
    assert kl_divergence(pebble.model, student, pebble.tokenizer, text) < 0.7 * start
    assert marks(rounded) < 0.6 and marks(student.eval()) >= 0.9


def test_the_text_alone_teaches_too(pebble):
    student = qat.prepare(pebble.model, 1, group_size=64)
    losses = qat.train(
        student, qat.pebble_rows(pebble.tokenizer, 8, length=128), steps=6, learning_rate=1e-3, batch=4, pad=2
    )
    assert losses[-1] < losses[0]


def test_training_rows_are_pebbles_and_seeded(pebble):
    rows = qat.pebble_rows(pebble.tokenizer, 5, seed=3)
    assert rows.shape == (5, 256) and (rows[:, 0] == 0).all()
    assert (rows == qat.pebble_rows(pebble.tokenizer, 5, seed=3)).all()
    assert (rows != qat.pebble_rows(pebble.tokenizer, 5, seed=4)).any()
    assert len(qat.pebble_rows(pebble.tokenizer, 240)) == 240


def test_odd_arrays_are_rounded_right():
    expected = qat.quantize(WEIGHT, 3, 16).codes
    frozen = WEIGHT.copy()
    frozen.flags.writeable = False
    strided = np.zeros((6, 128), np.float32)
    strided[:, ::2] = WEIGHT
    for same in (frozen, WEIGHT.astype(np.float64), np.asfortranarray(WEIGHT), strided[:, ::2], torch.tensor(WEIGHT)):
        assert (qat.quantize(same, 3, 16).codes == expected).all()
    assert not qat.quantize(np.zeros((2, 16)), 3, 16).dequantize().any()
    assert np.isfinite(qat.quantize(np.full((1, 16), 1e-41, np.float32), 2, 16).dequantize()).all()


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda model: qat.quantize([[np.nan] * 4], 2, 4), "finite"),
        (lambda model: qat.quantize(np.zeros((0, 4)), 2, 4), "at least one"),
        (lambda model: qat.quantize(WEIGHT, 9, 16), "1 to 8"),
        (lambda model: qat.quantize(WEIGHT, 0, 16), "1 to 8"),
        (lambda model: qat.quantize(WEIGHT, 2, 48), "divide"),
        (lambda model: qat.quantize(WEIGHT[0], 2, 16), "matrix"),
        (lambda model: qat.quantize(WEIGHT, 2, 0), "Groups of 0"),
        (lambda model: qat.prepare(model, 2, group_size=100), "divide"),
        (lambda model: qat.train(model, np.zeros((0, 8), np.int16), 1), "at least one"),
    ],
)
def test_what_cannot_be_trained_gets_one_sentence(pebble, call, words):
    with pytest.raises(NotQuantizable, match=words):
        call(pebble.model)
