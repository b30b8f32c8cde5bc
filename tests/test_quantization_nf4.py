"""NF4, FP4 and double quantization: the levels, codes, scales and results of bitsandbytes, bit for bit."""

import logging

import gguf
import numpy as np
import pytest
import torch

from llmnotes.errors import NotQuantizable, UnknownName
from llmnotes.pebble import weights_dir
from llmnotes.quantization import nf4
from llmnotes.quantization.arrays import as_float32

RANDOM = np.random.default_rng(0)
LEVELS = {name: nf4.levels(name) for name in ("nf4", "fp4")}


def halfway(name: str) -> np.ndarray:
    """Numbers on every threshold and one float32 beside it, in blocks of 64 whose largest magnitude is 1 or 3."""
    ordered = np.sort(LEVELS[name])
    middles = (ordered[:-1] + ordered[1:]) / 2
    near = np.concatenate([np.nextafter(middles, np.float32(side)) for side in (-2, 0, 2)] + [middles])
    block = np.concatenate([near, np.zeros(3, np.float32), [1]]).astype(np.float32)
    return np.stack([block, -block, 3 * block, block / 3])


ROWS = {
    "normal": RANDOM.normal(size=(200, 512)),
    "heavy tails": RANDOM.standard_t(2, size=(64, 512)),
    "many magnitudes": RANDOM.normal(size=(64, 512)) * 10.0 ** RANDOM.integers(-37, 37, size=(64, 1)),
    "constant": np.full((2, 64), -0.3),
    "zeros": np.zeros((3, 64)),
    "minus zero": -np.zeros((3, 64)),
    "one weight": np.array([[-2.0]]),
    "two weights": np.array([[0.0, 0.0]]),
    "denormal": np.linspace(-1, 1, 128)[None, :] * 1e-40,
    "around the smallest scale": np.linspace(-1, 1, 640).reshape(10, 64) * np.geomspace(2e-38, 5e-39, 10)[:, None],
    "the largest": np.full((2, 64), 3.4028235e38) * RANDOM.choice([-1, 1], (2, 64)),
    "odd": RANDOM.normal(size=(7, 77)),
    "one more than whole blocks": RANDOM.normal(size=129),
    "a last block of zeros": np.concatenate([RANDOM.normal(size=64), np.zeros(5)]),
    "a last block of denormals": np.concatenate([RANDOM.normal(size=64), np.full(7, 1e-39)]),
    "three dimensions": RANDOM.normal(size=(3, 5, 40)),
    "many scales": RANDOM.normal(size=(70, 1000)) * RANDOM.lognormal(size=(70, 1)),
    "halfway nf4": halfway("nf4"),
    "halfway fp4": halfway("fp4"),
}
ROWS = {name: rows.astype(np.float32) for name, rows in ROWS.items()}


@pytest.fixture(scope="module")
def bitsandbytes():
    logging.disable(logging.WARNING)  # it says that it found no kernels on the hub
    module = pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed").functional
    logging.disable(logging.NOTSET)
    return module


def same(ours, theirs):
    """Equal to the bit."""
    ours, theirs = np.ascontiguousarray(ours), np.ascontiguousarray(theirs)
    assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)
    np.testing.assert_array_equal(ours.view(np.uint8), theirs.view(np.uint8))


def compare(functional, x, name, block, double):
    """Codes, scales and the way back are those of bitsandbytes."""
    q = nf4.quantize(x, name, block, double)
    packed, state = functional.quantize_4bit(
        torch.from_numpy(x.copy()), blocksize=block, quant_type=name, compress_statistics=double
    )
    same(q.codes, packed.numpy().reshape(-1))
    same(q.absmax, state.absmax.numpy())
    if double:
        same(q.absmax_offset, state.offset.numpy())
        same(q.absmax_scales, state.state2.absmax.numpy())
    back = functional.dequantize_4bit(packed, state).numpy().reshape(x.shape)
    zero = np.float32(0)  # added, it takes a minus from zeros: bitsandbytes' kernels disagree on that of FP4's second
    same(q.dequantize() + zero, back + zero)


@pytest.mark.slow
@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize("name", ["nf4", "fp4"])
@pytest.mark.parametrize("rows", ROWS)
def test_codes_scales_and_results_are_those_of_bitsandbytes(bitsandbytes, rows, name, double):
    if rows == "the largest" and double:
        with pytest.raises(NotQuantizable, match="too large"):  # bitsandbytes gives scales that are no numbers
            nf4.quantize(ROWS[rows], name, double=True)
    else:
        compare(bitsandbytes, ROWS[rows], name, 64, double)


@pytest.mark.slow
@pytest.mark.parametrize("block", [32, 128, 1024, 4096])
def test_so_they_are_in_other_blocks(bitsandbytes, block):
    compare(bitsandbytes, ROWS["normal"][:, :501].copy(), "nf4", block, True)


def test_so_they_are_in_last_blocks_of_every_length(bitsandbytes):
    """Where the others multiply by a reciprocal, bitsandbytes divides: halfway between levels, that is seen."""
    for length in range(1, 60):
        for name in ("nf4", "fp4"):
            x = halfway(name)[0, -length:] * np.float32(RANDOM.uniform(0.1, 10))
            packed, state = bitsandbytes.quantize_4bit(torch.from_numpy(x), quant_type=name)
            q = nf4.quantize(x, name)
            same(q.codes, packed.numpy().reshape(-1))
            same(q.absmax, state.absmax.numpy())


@pytest.mark.slow
@pytest.mark.parametrize("model", ["pebble", "pebble-chat"])
def test_so_they_are_for_all_of_pebble(bitsandbytes, model):
    from safetensors.torch import load_file

    tensors = load_file(weights_dir(model) / "model.safetensors")
    assert len(tensors) > 30
    for tensor in tensors.values():
        for name in ("nf4", "fp4"):
            compare(bitsandbytes, tensor.float().numpy(), name, 64, True)


def test_16_bit_floats_are_quantized_as_bitsandbytes_does(bitsandbytes):
    x = ROWS["normal"].astype(np.float16)
    packed, state = bitsandbytes.quantize_4bit(torch.from_numpy(x), quant_type="nf4")
    q = nf4.quantize(x)
    same(q.codes, packed.numpy().reshape(-1))
    same(q.absmax, state.absmax.numpy())


def test_the_levels_are_those_of_bitsandbytes(bitsandbytes):
    for name in ("nf4", "fp4"):
        same(nf4.levels(name), bitsandbytes.get_4bit_type(name, device="cpu").numpy())
    same(nf4.dynamic_levels(), bitsandbytes.create_dynamic_map().numpy())


@pytest.mark.parametrize("name", ["nf4", "fp4"])
def test_every_weight_has_the_nearest_level(name):
    x = ROWS["heavy tails"].reshape(-1, 64)
    q = nf4.quantize(x, name)
    scaled = (x / np.abs(x).max(axis=1, keepdims=True)).reshape(-1, 1).astype(np.float64)
    errors = np.abs(scaled - LEVELS[name].astype(np.float64))
    chosen = np.take_along_axis(errors, q.unpack()[:, None].astype(np.int64), axis=1)[:, 0]
    assert (chosen <= errors.min(axis=1) + 1e-7).all()


def test_the_errors_on_gaussian_weights_are_those_of_the_table():
    for seed in range(3):
        x = np.random.default_rng(seed).normal(size=1 << 20)
        for name, expected in (("nf4", 0.0920), ("fp4", 0.122)):
            error = x - nf4.quantize(x, name).dequantize()
            assert np.sqrt((error**2).mean() / (x**2).mean()) == pytest.approx(expected, rel=0.02)


def test_double_quantization_costs_little_and_saves_a_third_of_a_bit():
    x = ROWS["normal"].repeat(5, axis=0)
    once, twice = nf4.quantize(x), nf4.quantize(x, double=True)
    assert once.bits_per_weight == 4.5 and twice.bits_per_weight == pytest.approx(4 + 8 / 64 + 32 / 64 / 256, abs=1e-3)
    errors = [np.sqrt(((x - q.dequantize()) ** 2).mean()) for q in (once, twice)]
    assert errors[0] < errors[1] < 1.01 * errors[0]


@pytest.mark.parametrize("count", [1, 2, 3])
def test_threads_change_nothing(count):
    x = ROWS["odd"]
    q = nf4.quantize(x, threads=count)
    same(q.codes, nf4.quantize(x).codes)
    same(q.dequantize(threads=count), q.dequantize())


def test_the_size_of_a_piece_changes_nothing(monkeypatch):
    q = nf4.quantize(ROWS["odd"])
    back = q.dequantize()
    monkeypatch.setattr(nf4, "PIECE", 200)
    pieces = nf4.quantize(ROWS["odd"])
    same(pieces.codes, q.codes)
    same(pieces.absmax, q.absmax)
    same(pieces.dequantize(), back)


def test_other_arrays_give_the_same():
    x = RANDOM.normal(size=(64, 96)).astype(np.float32)
    expected = nf4.quantize(x.T.copy()).codes
    frozen = x.T.copy()
    frozen.flags.writeable = False
    before = frozen.copy()
    for other in (x.T, frozen, x.T.astype(np.float64), x.T.copy().astype(">f4"), torch.from_numpy(x).T, x.T.tolist()):
        same(nf4.quantize(other).codes, expected)
    same(frozen, before)
    assert as_float32(x.T).flags.c_contiguous and as_float32(frozen) is frozen


BAD = {
    "NaN": [0.1] * 63 + [np.nan],
    "infinity": [0.1] * 63 + [np.inf],
    "minus infinity": [-np.inf] + [0.1] * 63,
    "NaN in the last block": [0.1] * 65 + [np.nan],
    "infinity in the last block": [0.1] * 65 + [np.inf],
    "too large for float32": np.full(64, 1e300),
    "empty": np.zeros((0, 64)),
    "words": ["a", "b"],
    "complex": np.zeros(64, complex),
    "ragged": [[1.0], [1.0, 2.0]],
    "bfloat16 of torch": torch.zeros(64, dtype=torch.bfloat16),
    "a gradient": torch.zeros(64, requires_grad=True),
}


@pytest.mark.parametrize("bad", BAD)
def test_what_cannot_be_quantized_is_said_in_one_sentence(bad):
    with pytest.raises(NotQuantizable) as caught:
        nf4.quantize(BAD[bad])
    assert str(caught.value).endswith(".") and "\n" not in str(caught.value)


def test_odd_blocks_other_types_and_lost_codes_are_refused():
    for block in (0, 1, 63, -2):
        with pytest.raises(NotQuantizable, match="even number"):
            nf4.quantize(np.ones(64), block_size=block)
    with pytest.raises(UnknownName, match="nf4 or fp4"):
        nf4.quantize(np.ones(64), "int4")
    q = nf4.quantize(np.ones(130))
    for lost in (q._replace(codes=q.codes[:-1]), q._replace(absmax=q.absmax[:-1]), q._replace(shape=(131, 2))):
        with pytest.raises(NotQuantizable, match="do not fill"):
            lost.dequantize()


def test_q4_0_beats_nf4_at_equal_bits_on_gaussian_weights_and_loses_where_tails_are_heavy():
    """Q4_0: blocks of 32, a float16 scale, even steps, the largest of either sign on -8: 4.5 bits, as NF4 has."""
    q4_0 = gguf.GGMLQuantizationType.Q4_0

    def errors(x):
        small = nf4.quantize(x, block_size=32)
        backs = (
            gguf.dequantize(gguf.quantize(x, q4_0), q4_0),
            nf4.quantize(x).dequantize(),
            small._replace(absmax=small.absmax.astype(np.float16).astype(np.float32)).dequantize(),
        )
        return [np.sqrt(((x - back) ** 2).mean() / (x**2).mean()) for back in backs]

    for seed in range(3):
        random = np.random.default_rng(seed)
        even, quantiles, small_blocks = errors(random.normal(size=1 << 19).astype(np.float32))
        assert even < 0.95 * quantiles and even < 0.995 * small_blocks
        for tails in (3, 5):
            even, quantiles, small_blocks = errors(random.standard_t(tails, size=1 << 19).astype(np.float32))
            assert quantiles < 0.98 * even and small_blocks < 0.9 * even
