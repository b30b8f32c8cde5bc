"""Pebble in NumPy against transformers: the same scores, for Pebble and for a Llama of other sizes and settings."""

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from llmnotes.models import open_model
from llmnotes.pebble import numpy_model
from llmnotes.pebble.numpy_model import Pebble, additions, one_file, rms_norm

PROMPTS = ("A baby cat is a", "The home of the cow is the", "Mia is a baker and lives in", "")


@pytest.fixture(scope="module")
def lm():
    return open_model("pebble", say=lambda line: None)


def weights_of(model):
    return {name: weight.numpy() for name, weight in model.state_dict().items()}


def scores(model, ids):
    with torch.no_grad():
        return model(torch.tensor([ids])).logits[0].numpy()


def test_pebble_gives_the_librarys_scores(lm):
    pebble = Pebble(weights_of(lm.model))
    for prompt in PROMPTS:
        ids = lm.tokenizer(prompt)["input_ids"]
        np.testing.assert_allclose(pebble(ids), scores(lm.model, ids), atol=1e-4)


@pytest.mark.parametrize(("size", "tied"), [(64, True), (64, False), (32, True), (128, False)])
def test_another_llama_gives_the_librarys_scores(size, tied):
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=50,
        hidden_size=3 * size,
        intermediate_size=80,
        num_hidden_layers=3,
        num_attention_heads=3,
        num_key_value_heads=1,
        rms_norm_eps=1e-2,
        rope_parameters={"rope_type": "default", "rope_theta": 500.0},
        tie_word_embeddings=tied,
        initializer_range=0.1,
    )
    model, ids = LlamaForCausalLM(config).eval(), list(range(3, 40, 4))
    ours = Pebble(weights_of(model), layers=3, base=500.0, eps=1e-2, size=size)(ids)
    np.testing.assert_allclose(ours, scores(model, ids), atol=1e-4)
    assert np.abs(Pebble(weights_of(model), layers=3, size=size)(ids) - ours).max() > 0.01


def test_the_additions_add_up_to_the_row_that_is_read(lm):
    pebble, ids = Pebble(weights_of(lm.model)), lm.tokenizer(PROMPTS[0])["input_ids"]
    parts = additions(pebble, ids)
    assert len(parts) == 9
    np.testing.assert_allclose(pebble.read(sum(parts.values())), pebble(ids)[-1], atol=1e-4)


def test_the_file_to_take_home_needs_numpy_only_and_is_the_same_model(lm):
    text, scope = one_file(), {}
    assert "llmnotes" not in text and "torch" not in text and ">>>" not in text
    exec(compile(text, "pebble_numpy.py", "exec"), scope)
    weights, ids = weights_of(lm.model), lm.tokenizer(PROMPTS[0])["input_ids"]
    np.testing.assert_array_equal(scope["Pebble"](weights)(ids), numpy_model.Pebble(weights)(ids))


def test_a_row_of_zeros_stays_zero():
    assert (rms_norm(np.zeros((2, 4)), np.ones(4)) == 0).all()
