import copy
import math

import numpy as np
import pytest
import torch

from llmnotes.errors import UnknownName
from llmnotes.evaluation import bits_per_weight, kl_divergence, perplexity
from llmnotes.models import open_model

TEXT = "The goose looked at the mayor, and the mayor looked at the goose. " * 12


@pytest.fixture(scope="module")
def tiny(tiny_folder):
    return open_model(tiny_folder, say=lambda line: None)


@pytest.fixture(scope="module")
def shaken(tiny):
    other = copy.deepcopy(tiny.model)
    torch.manual_seed(1)
    with torch.no_grad():
        for weight in other.parameters():
            weight += 0.05 * torch.randn_like(weight)
    return other


def plain_log_probs(model, ids):
    """Each position from scratch, in float64: the prefix alone, one forward pass for every token."""
    rows = []
    for end in range(1, len(ids)):
        with torch.no_grad():
            scores = model(torch.tensor([ids[:end]])).logits[0, -1].double().numpy()
        rows.append(scores - scores.max() - math.log(np.exp(scores - scores.max()).sum()))
    return np.array(rows)


@pytest.mark.slow
@pytest.mark.parametrize("window", [16, 100, 5000])
def test_perplexity_agrees_with_a_plain_computation(tiny, window):
    ids = tiny.tokenizer(TEXT)["input_ids"]
    losses = []
    for start in range(0, len(ids), window):
        piece = ids[start : start + window]
        if len(piece) > 1:
            rows = plain_log_probs(tiny.model, piece)
            losses += [-rows[i, piece[i + 1]] for i in range(len(rows))]
    expected = math.exp(np.mean(losses))
    assert perplexity(tiny.model, tiny.tokenizer, TEXT, window) == pytest.approx(expected, rel=1e-5)


def test_a_last_window_of_two_tokens_counts_and_one_of_one_token_does_not(tiny):
    text = TEXT[:66]
    ids = tiny.tokenizer(text)["input_ids"]
    for window in (len(ids) - 2, len(ids) - 1):
        pieces = [ids[:window], ids[window:]]
        losses = [
            -row[after]
            for piece in pieces
            for row, after in zip(plain_log_probs(tiny.model, piece), piece[1:], strict=True)
        ]
        assert len(losses) == len(ids) - 2
        expected = math.exp(np.mean(losses))
        assert perplexity(tiny.model, tiny.tokenizer, text, window) == pytest.approx(expected, rel=1e-5)


def test_kl_agrees_with_a_plain_computation_and_is_not_symmetric(tiny, shaken):
    text = TEXT[:128]
    ids = tiny.tokenizer(text)["input_ids"]
    p, q = plain_log_probs(tiny.model, ids), plain_log_probs(shaken, ids)
    expected = (np.exp(p) * (p - q)).sum(1).mean()
    found = kl_divergence(tiny.model, shaken, tiny.tokenizer, text)
    assert found == pytest.approx(expected, rel=1e-5, abs=1e-8) and found > 1e-4
    assert kl_divergence(shaken, tiny.model, tiny.tokenizer, text) != pytest.approx(found, rel=1e-4)
    assert kl_divergence(tiny.model, tiny.model, tiny.tokenizer, text) == 0


def test_a_text_that_predicts_nothing_is_refused(tiny):
    for text in ("", "a"):
        with pytest.raises(UnknownName, match="longer text"):
            perplexity(tiny.model, tiny.tokenizer, text)


def test_bits_per_weight_counts_bits():
    assert bits_per_weight(100, 200) == 4
