"""Whole numbers: absmax, zero-points and calibration as torch has them, LLM.int8() as bitsandbytes has it."""

import logging

import numpy as np
import pytest
import torch

from llmnotes.errors import NotQuantizable
from llmnotes.quantization import integers
from llmnotes.quantization.integers import absmax, affine, calibrate, int8_linear, int8_rows

RANDOM = np.random.default_rng(0)


def relative(x, q) -> float:
    return float(np.sqrt(((x - q.dequantize()) ** 2).mean() / (x**2).mean()))


@pytest.fixture(scope="module")
def bitsandbytes():
    logging.disable(logging.WARNING)
    module = pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed")
    yield module
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("per", ["tensor", "row", 32])
def test_errors_are_at_most_half_a_step_and_no_code_is_out_of_range(bits, per):
    x = (RANDOM.normal(size=(20, 3, 128)) * RANDOM.lognormal(size=(20, 3, 1))).astype(np.float32)
    groups = {"tensor": 1, "row": 60, 32: 240}[per]
    for q, low, high in (
        (absmax(x, bits, per), 1 - 2 ** (bits - 1), 2 ** (bits - 1) - 1),
        (affine(x, bits, per), 0, 2**bits - 1),
    ):
        assert q.codes.shape == x.shape and q.scales.shape == (groups,)
        assert low <= q.codes.min() <= q.codes.max() <= high
        away = np.abs(x - q.dequantize()).reshape(groups, -1)
        slack = 0.5 if np.isscalar(q.zeros) else 1.0  # the zero-point is rounded too, and the ends may saturate by that
        assert (away <= q.scales[:, None] * (slack + 1e-5)).all()


def test_one_outlier_spoils_its_own_group_only():
    x = RANDOM.normal(size=(16, 512)).astype(np.float32)
    x[3, 7] = 100
    errors = [relative(np.delete(x, 3, 0), q) for q in (absmax(np.delete(x, 3, 0), 8, "row"),)]
    whole, rows, groups = (relative(x, absmax(x, 8, per)) for per in ("tensor", "row", 64))
    assert whole > 3 * rows > 3 * 1.5 * groups and errors[0] < groups


def test_the_errors_on_gaussian_weights_are_those_of_the_table():
    for seed in range(3):
        x = np.random.default_rng(seed).normal(size=(256, 4096)).astype(np.float32)
        assert relative(x, absmax(x, 4, 128)) == pytest.approx(0.117, rel=0.02)
        assert relative(x, absmax(x, 8, "row")) == pytest.approx(0.00867, rel=0.02)


def test_halves_go_to_even_and_limits_saturate():
    q = absmax([[127.0, 0.5, 1.5, 2.5, -0.5, -1.5]])
    assert q.codes.tolist() == [[127, 0, 2, 2, 0, -2]] and q.scales.tolist() == [1.0]
    q = absmax([[127.0, 200.0, -1e30, 3.4e38]], limits=(-127, 100))
    assert q.codes.tolist() == [[127, 127, -127, 127]]
    q = affine([[-5.0, 0.0, 1.0, 3.0, 9e37]], bits=2, limits=(0, 3))
    assert q.codes.tolist() == [[0, 0, 1, 3, 3]] and q.zeros.tolist() == [0]


@pytest.mark.parametrize("bits", [4, 8])
def test_zero_points_give_the_codes_of_torch(bits):
    for x in (RANDOM.normal(size=(50, 512)) + 1, RANDOM.uniform(2, 3, (50, 512)), -RANDOM.exponential(size=(50, 512))):
        x = x.astype(np.float32)
        q = affine(x, bits)
        expected = torch.fake_quantize_per_channel_affine(
            torch.from_numpy(x), torch.from_numpy(q.scales), torch.from_numpy(q.zeros), 0, 0, 2**bits - 1
        )
        np.testing.assert_array_equal(q.dequantize(), expected.numpy())
        low, high = np.minimum(x.min(1), 0), np.maximum(x.max(1), 0)
        np.testing.assert_allclose(q.scales, (high - low) / (2**bits - 1), rtol=1e-6)
        assert (np.abs(q.zeros + low.astype(np.float64) / q.scales) < 0.501).all()
        zeros = affine(np.concatenate([x, np.zeros((50, 1), np.float32)], axis=1), bits)
        assert (zeros.dequantize()[:, -1] == 0).all()


def test_all_weights_of_one_sign_are_what_zero_points_are_for():
    x = RANDOM.exponential(size=(64, 256)).astype(np.float32)
    assert relative(x, affine(x, 4)) < 0.6 * relative(x, absmax(x, 4))


def test_bits_per_weight_count_scales_and_zero_points():
    x = np.ones((4, 256), np.float32)
    assert absmax(x, 4, 128).bits_per_weight == 4.25
    assert affine(x, 4, 128).bits_per_weight == 4 + 36 / 128
    assert absmax(x, 8, "tensor").bits_per_weight == 8 + 32 / 1024


def test_calibration_keeps_what_it_is_told_to_keep():
    batches = [RANDOM.normal(size=(8, 100)) for _ in range(20)]
    every = np.concatenate(batches).astype(np.float32)
    assert calibrate(batches) == (every.min(), every.max())
    low, high = calibrate(batches, percentile=99)
    assert ((every < low).mean(), (every > high).mean()) == pytest.approx((0.005, 0.005), abs=2e-4)
    every[0, 0] = 50  # an outlier: giving it up makes all others better
    narrow = absmax(every, 4, "tensor", limits=calibrate([every], 99.9))
    usual = np.s_[1:]
    away = [np.abs(every - q.dequantize())[usual].mean() for q in (narrow, absmax(every, 4, "tensor"))]
    assert away[0] < away[1] / 5


ROWS = {
    "normal": RANDOM.normal(size=(64, 512)),
    "heavy tails": RANDOM.standard_t(2, size=(64, 512)),
    "zeros": np.zeros((3, 64)),
    "a row of zeros": np.concatenate([np.zeros((1, 64)), RANDOM.normal(size=(2, 64))]),
    "one row": RANDOM.normal(size=(1, 512)) * 4,
    "halves": np.concatenate([[[127.0]], np.arange(101)[None, :] / 2 - 25], axis=1),
    "small": RANDOM.normal(size=(5, 64)) * 1e-6,
    "on the threshold": np.array([[6.0, -6.0, 5.996, 1.0], [0.1, 0.2, 0.3, 0.4]]),
    "beyond the threshold": RANDOM.normal(size=(9, 80)) * 100,
    "many": RANDOM.normal(size=(2000, 256)),
    "columns of outliers": RANDOM.normal(size=(40, 512)) * np.where(np.arange(512) % 100 == 7, 30, 1),
}
ROWS = {name: rows.astype(np.float32) for name, rows in ROWS.items()}


@pytest.mark.parametrize("threshold", [0.0, 6.0])
@pytest.mark.parametrize("rows", ROWS)
def test_codes_scales_and_outliers_are_those_of_bitsandbytes(bitsandbytes, rows, threshold):
    codes, scales, outliers = bitsandbytes.functional.int8_vectorwise_quant(
        torch.from_numpy(ROWS[rows]).half(), threshold
    )
    ours = int8_rows(ROWS[rows], threshold)
    np.testing.assert_array_equal(ours.codes, codes.numpy())
    np.testing.assert_array_equal(ours.absmax, scales.numpy())
    np.testing.assert_array_equal(ours.outliers, [] if outliers is None else outliers.numpy())


def layer(bitsandbytes, weight, bias):
    made = bitsandbytes.nn.Linear8bitLt(weight.shape[1], weight.shape[0], bias is not None, False, threshold=6.0)
    made.weight.data = torch.from_numpy(weight)
    if bias is not None:
        made.bias.data = torch.from_numpy(bias)
    return made.to("cpu").eval()  # without eval, bitsandbytes leaves the activations as they are


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("rows", ROWS)
def test_the_product_is_that_of_a_linear_layer_of_bitsandbytes(bitsandbytes, rows, bias):
    x = ROWS[rows]
    weight = RANDOM.normal(size=(48, x.shape[1])).astype(np.float32) / 16
    bias = RANDOM.normal(size=48).astype(np.float32) if bias else None
    with torch.no_grad():
        expected = layer(bitsandbytes, weight, bias)(torch.from_numpy(x.copy())).numpy()
    ours = int8_linear(x, int8_rows(weight), bias)
    assert ours.dtype == np.float32
    if int8_rows(x, 6.0).outliers.size:
        np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-6 * np.abs(expected).max())
    else:
        np.testing.assert_array_equal(ours, expected)


def test_the_split_keeps_outliers_from_spoiling_the_rest():
    x, weight = ROWS["columns of outliers"], RANDOM.normal(size=(64, 512)).astype(np.float32)
    exact = x.astype(np.float64) @ weight.T
    split, plain = (np.abs(int8_linear(x, int8_rows(weight), threshold=t) - exact).mean() for t in (6.0, 0.0))
    assert split < plain / 3


def test_other_arrays_give_the_same_and_stay_as_they_were():
    x = RANDOM.normal(size=(64, 32)).astype(np.float32)
    frozen = x.T.copy()
    frozen.flags.writeable = False
    before = frozen.copy()
    for made in (absmax, affine, int8_rows, lambda other: int8_rows(other, 1.0)):
        for other in (x.T, frozen, x.T.astype(np.float64), torch.from_numpy(x).T, x.T.tolist()):
            np.testing.assert_array_equal(made(other).codes, made(x.T.copy()).codes)
    np.testing.assert_array_equal(frozen, before)
    assert absmax(0.5).dequantize().tolist() == pytest.approx(0.5)


@pytest.mark.parametrize("made", [absmax, affine])
def test_flat_and_extreme_groups_are_right(made):
    for value in (0.0, -0.0, 0.3, -7.0, 3.399e38, 1e-30):
        np.testing.assert_allclose(made(np.full((2, 64), value)).dequantize(), np.float32(value), rtol=5e-3, atol=1e-37)
    x = np.array([[-1.6e38, 1.6e38, 0.0, 1e-45]], np.float32)
    np.testing.assert_allclose(made(x).dequantize(), x, rtol=5e-3, atol=1e36)
    assert (np.abs(made(np.full((2, 64), 1e-41)).dequantize()) <= 1e-37).all()


BAD = {
    "NaN": [[0.1, np.nan]],
    "infinity": [[0.1, -np.inf]],
    "too large for float32": [[1e300, 1.0]],
    "empty": np.zeros((0, 64)),
    "words": ["a", "b"],
    "complex": np.zeros((2, 2), complex),
    "bfloat16 of torch": torch.zeros(2, 2, dtype=torch.bfloat16),
}


@pytest.mark.parametrize("bad", BAD)
def test_what_cannot_be_quantized_is_said_in_one_sentence(bad):
    for made in (absmax, affine, int8_rows, lambda x: calibrate([x]), lambda x: int8_linear(x, int8_rows([[1.0, 2]]))):
        with pytest.raises(NotQuantizable) as caught:
            made(BAD[bad])
        assert str(caught.value).endswith(".") and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: absmax(np.ones((2, 100)), 4, 128), "do not divide"),
        (lambda: absmax(np.ones((2, 64)), 4, 128), "do not divide"),
        (lambda: absmax(np.ones(4), 1), "2 to 8"),
        (lambda: affine(np.ones(4), 9), "2 to 8"),
        (lambda: affine(np.ones(4), 8, "column"), "no groups"),
        (lambda: affine(np.ones(4), 8, 0), "no groups"),
        (lambda: absmax([3.4028234e38, 1.0]), "span more than float32"),
        (lambda: affine([3e38, -3e38]), "span more than float32"),
        (lambda: absmax(np.ones(4), limits=(1, -1)), "no range"),
        (lambda: affine(np.ones(4), limits=(0, np.nan)), "no range"),
        (lambda: calibrate([]), "at least one batch"),
        (lambda: calibrate([[1.0]], 0), "leaves nothing"),
        (lambda: int8_rows(np.ones(4)), "two axes"),
        (lambda: int8_rows([[70000.0, 1.0]]), "too large for float16"),
        (lambda: int8_linear(np.ones((2, 3)), int8_rows(np.ones((2, 4)))), "make them agree"),
    ],
)
def test_what_does_not_fit_is_said(call, words):
    with pytest.raises(NotQuantizable, match=words):
        call()


def test_an_outlier_too_large_for_float16_is_still_an_outlier():
    x = np.array([[70000.0, 1.0, -2.0]], np.float32)
    assert integers.int8_rows(x, 6.0).outliers.tolist() == [0]
    assert int8_linear(x, int8_rows([[1.0, 1.0, 1.0]]))[0, 0] == pytest.approx(69999, rel=1e-4)
