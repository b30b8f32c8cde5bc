"""Pruning takes the weights that plain loops take, and packed zeros come back."""

import numpy as np
import pytest
import torch
from torch.nn.utils import prune

from llmnotes.errors import NotQuantizable
from llmnotes.quantization.pruning import PER, compress, decompress, magnitude, wanda

RANDOM = np.random.default_rng(0)
WEIGHT = RANDOM.normal(size=(24, 64)).astype(np.float32)
X = (RANDOM.normal(size=(500, 64)) * np.exp(RANDOM.normal(size=64))).astype(np.float32)
NORMS = np.linalg.norm(X, axis=0)


def plainly(weight, merit, share, per):
    """Every choice by a loop over the weights that are compared with each other."""
    out = weight.copy()
    if per == "matrix":
        groups = [[(i, j) for i in range(len(weight)) for j in range(weight.shape[1])]]
    elif per == "row":
        groups = [[(i, j) for j in range(weight.shape[1])] for i in range(len(weight))]
    else:
        groups = [[(i, j + k) for k in range(4)] for i in range(len(weight)) for j in range(0, weight.shape[1], 4)]
    for places in groups:
        for place in sorted(places, key=lambda at: merit[at])[: round(share * len(places))]:
            out[place] = 0
    return out


@pytest.mark.parametrize(("per", "share"), [(per, 0.5) for per in PER] + [("matrix", 0.25), ("row", 0.25)])
def test_the_smallest_go(per, share):
    np.testing.assert_array_equal(magnitude(WEIGHT, share, per), plainly(WEIGHT, np.abs(WEIGHT), share, per))
    merit = np.abs(WEIGHT) * NORMS
    np.testing.assert_array_equal(wanda(WEIGHT, NORMS, share, per), plainly(WEIGHT, merit, share, per))


def test_magnitude_agrees_with_torch():
    layer = torch.nn.Linear(64, 24, bias=False)
    layer.weight.data.copy_(torch.from_numpy(WEIGHT))
    prune.l1_unstructured(layer, "weight", amount=0.3)
    np.testing.assert_array_equal(magnitude(WEIGHT, 0.3), layer.weight.detach().numpy())


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_wanda_errs_less_where_inputs_differ_in_size(seed):
    rng = np.random.default_rng(seed)
    weight, x = rng.normal(size=(64, 128)), rng.normal(size=(400, 128)) * np.exp(rng.normal(size=128))
    errors = [
        np.linalg.norm(x @ (pruned - weight).T)
        for pruned in (magnitude(weight, per="row"), wanda(weight, np.linalg.norm(x, axis=0)))
    ]
    assert errors[1] < 0.8 * errors[0]


def test_the_ends_of_the_range_and_equal_weights():
    assert (magnitude(WEIGHT, 0) == WEIGHT).all() and not magnitude(WEIGHT, 1).any()
    assert (magnitude(np.ones((3, 8)), 0.5, "row") != 0).sum() == 12
    assert not wanda(WEIGHT, np.zeros(64), 1).any()


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_zeros_are_packed_and_come_back(dtype):
    pruned = magnitude(WEIGHT).astype(dtype)
    packed = compress(pruned)
    np.testing.assert_array_equal(decompress(packed), pruned)
    assert decompress(packed).dtype == dtype
    assert packed.nbytes == pruned.size // 8 + pruned.nbytes // 2
    odd = pruned[:3, :5]
    np.testing.assert_array_equal(decompress(compress(odd)), odd)


def test_odd_arrays_are_read_right():
    frozen = WEIGHT.copy()
    frozen.flags.writeable = False
    expected = magnitude(WEIGHT)
    for same in (frozen, WEIGHT.astype(np.float64), np.asfortranarray(WEIGHT), torch.from_numpy(WEIGHT)):
        np.testing.assert_array_equal(magnitude(same), expected)
    strided = np.zeros((24, 128), np.float32)
    strided[:, ::2] = WEIGHT
    np.testing.assert_array_equal(magnitude(strided[:, ::2]), expected)
    assert (frozen == WEIGHT).all()


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: magnitude([[1, np.nan]]), "finite"),
        (lambda: magnitude(np.zeros((0, 4))), "at least one"),
        (lambda: magnitude([1.0, 2.0]), "rows and columns"),
        (lambda: magnitude(WEIGHT, 1.5), "from 0 to 1"),
        (lambda: magnitude(WEIGHT, np.nan), "from 0 to 1"),
        (lambda: magnitude(WEIGHT, 0.5, "column"), "choose"),
        (lambda: magnitude(WEIGHT[:, :6], 0.5, "2:4"), "per='row'"),
        (lambda: magnitude(WEIGHT, 0.25, "2:4"), "per='row'"),
        (lambda: wanda(WEIGHT, NORMS[:5]), "each column"),
        (lambda: wanda(WEIGHT, -NORMS), "below zero"),
        (lambda: wanda(WEIGHT, NORMS * np.inf), "finite"),
        (lambda: compress([]), "at least one"),
    ],
)
def test_what_cannot_be_pruned_gets_one_sentence(call, words):
    with pytest.raises(NotQuantizable, match=words) as caught:
        call()
    assert str(caught.value).endswith(".")
