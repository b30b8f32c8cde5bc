"""Attention from scratch against torch's kernel, transformers' rotation, and whole Llamas of transformers."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding, apply_rotary_pos_emb

from llmnotes import attention as ours
from llmnotes.errors import LLMNotesError
from llmnotes.models import open_model

WEIGHTS = Path(ours.__file__).parent / "pebble" / "weights"


@pytest.fixture
def qkv():
    rng = np.random.default_rng(2)
    return rng.normal(size=(3, 4, 7, 8))  # q, k, v: 4 heads, 7 tokens, 8 numbers


def tiny_llama(**changes):
    torch.manual_seed(0)
    config = LlamaConfig(
        **{
            "vocab_size": 40,
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "initializer_range": 0.3,
            "attn_implementation": "eager",
        }
        | changes
    )
    return LlamaForCausalLM(config).eval()


def eager_weights(model, ids):
    with torch.no_grad():
        out = model(torch.tensor([ids]), output_attentions=True, use_cache=False)
    return torch.stack(out.attentions)[:, 0].numpy()


def test_softmax_is_torchs_and_does_not_overflow():
    scores = np.array([[1.0, 2.0, 3.0], [1e4, 0.0, -1e4], [0.0, -np.inf, 0.0]])
    for axis in (0, 1):
        expected = torch.softmax(torch.tensor(scores), dim=axis).numpy()
        np.testing.assert_allclose(ours.softmax(scores, axis=axis), expected, atol=1e-15)


@pytest.mark.parametrize("causal", [False, True])
def test_attention_is_torchs(qkv, causal):
    q, k, v = qkv
    expected = torch.nn.functional.scaled_dot_product_attention(*torch.tensor(qkv), is_causal=causal)
    output, weights = ours.attention(q, k, v, ours.causal_mask(7) if causal else None)
    np.testing.assert_allclose(output, expected.numpy(), atol=1e-12)
    np.testing.assert_allclose(weights.sum(axis=-1), 1, atol=1e-12)
    assert (weights[:, ~ours.causal_mask(7)] == 0).all() == causal


def test_grouped_heads_are_torchs(qkv):
    q, k, v = qkv[0], qkv[1][:2], qkv[2][:2]
    expected = torch.nn.functional.scaled_dot_product_attention(*map(torch.tensor, (q, k, v)), enable_gqa=True)
    output, _ = ours.attention(q, ours.repeat_heads(k, 4), ours.repeat_heads(v, 4))
    np.testing.assert_allclose(output, expected.numpy(), atol=1e-12)


def test_heads_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="4 query heads cannot share 3"):
        ours.repeat_heads(np.zeros((3, 2, 2)), 4)
    with pytest.raises(ValueError):
        ours.split_heads(np.zeros((2, 7)), 2)


def test_split_heads_is_torchs_view(qkv):
    x = qkv[0, 0]  # (7, 8)
    expected = torch.tensor(x).view(7, 4, 2).transpose(0, 1).numpy()
    np.testing.assert_array_equal(ours.split_heads(x, 4), expected)


@pytest.mark.parametrize("theta", [100.0, 10_000.0, 500_000.0])
def test_rotary_is_transformers(qkv, theta):
    positions = np.array([0, 1, 2, 5, 40, 41, 300])
    config = LlamaConfig(
        hidden_size=32, num_attention_heads=4, rope_parameters={"rope_type": "default", "rope_theta": theta}
    )
    q, k, _ = torch.tensor(qkv, dtype=torch.float32)
    cos, sin = LlamaRotaryEmbedding(config)(q, torch.tensor(positions)[None])
    frequencies = ours.rotary_frequencies(8, theta)
    for mine, expected in zip((q, k), apply_rotary_pos_emb(q[None], k[None], cos, sin), strict=True):
        np.testing.assert_allclose(ours.rotary(mine.numpy(), positions, frequencies), expected[0].numpy(), atol=1e-4)


def test_rotary_keeps_lengths_and_relative_dot_products(qkv):
    q, k, _ = qkv[:, 0]
    near, far = np.arange(7), np.arange(7) + 1000
    here, there = (ours.rotary(q, at) @ ours.rotary(k, at).T for at in (near, far))
    np.testing.assert_allclose(here, there, atol=1e-10)
    np.testing.assert_allclose(np.linalg.norm(ours.rotary(q, far), axis=-1), np.linalg.norm(q, axis=-1), atol=1e-12)
    assert np.abs(here - ours.rotary(q, near) @ ours.rotary(k, near + 1).T).max() > 0.1


LLAMA_3 = {
    "rope_type": "llama3",
    "rope_theta": 10_000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
YARN = {"rope_type": "yarn", "rope_theta": 10_000.0, "factor": 4.0, "original_max_position_embeddings": 16}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"num_key_value_heads": 4},
        {"num_key_value_heads": 1},
        {"head_dim": 16},
        {"rms_norm_eps": 0.1},
        {"attention_bias": True, "mlp_bias": True},
        {"rope_parameters": {"rope_type": "default", "rope_theta": 50.0}},
        {"rope_parameters": LLAMA_3, "max_position_embeddings": 128},
        {"rope_parameters": YARN, "max_position_embeddings": 64},
    ],
    ids=str,
)
def test_attention_weights_of_a_random_llama(changes):
    model = tiny_llama(**changes)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name or "bias" in name:  # these start as ones and zeros, which would hide mistakes
                parameter.normal_(1.0, 0.3)
    ids = [3, 17, 3, 39, 0, 8, 8, 21, 5, 30, 11, 2]
    expected = eager_weights(model, ids)
    weights = ours.attention_weights(model, ids)
    assert weights.shape == expected.shape == (2, 4, 12, 12)
    np.testing.assert_allclose(weights, expected, atol=1e-5)
    assert expected[1].std() > 0.05  # the second layer is far from spreading evenly, so that it tells right from wrong


@pytest.mark.parametrize("name", ["pebble", "pebble-chat", "stories260K"])
def test_attention_weights_of_a_whole_llama(name, stories):
    folder = stories if name == stories.name else WEIGHTS / name
    lm = open_model(folder, attention="eager", say=lambda line: None)
    ids = lm.tokenizer("Once upon a time there was a little girl. She had a goose and a hat.")["input_ids"]
    np.testing.assert_allclose(
        ours.attention_weights(lm.model.float().cpu(), ids), eager_weights(lm.model, ids), atol=1e-5
    )


def layer_inputs_and_outputs(model, ids):
    """Return (what each attention reads, what it hands back, its weights), one of each for every layer."""
    seen = []
    hooks = [
        layer.self_attn.register_forward_hook(
            lambda _, args, kwargs, out: seen.append(
                (kwargs["hidden_states"][0].numpy(), *(o[0].numpy() for o in out))
            ),
            with_kwargs=True,
        )
        for layer in model.model.layers
    ]
    with torch.no_grad():
        model(torch.tensor([ids]), output_attentions=True, use_cache=False)
    for hook in hooks:
        hook.remove()
    return seen


def arrays(model):
    return {name: weight.numpy() for name, weight in model.state_dict().items()}


def test_the_class_is_pebbles_own_attention_in_every_layer_and_head():
    lm = open_model("pebble", attention="eager", say=lambda line: None)
    for text in ("A baby cat is a", "The home of the cow is the barn. Mia is a baker."):
        ids = lm.tokenizer(text)["input_ids"]
        for layer, (x, out, weights) in enumerate(layer_inputs_and_outputs(lm.model, ids)):
            ours_of_it = ours.CausalAttention(arrays(lm.model), layer)
            assert (ours_of_it.heads, ours_of_it.key_heads, ours_of_it.size) == (4, 2, 64)
            np.testing.assert_allclose(ours_of_it.weights(x), weights, atol=2e-6)
            # sums of 256 products in float32, in another order than torch's: 1e-5 of the largest output, which is 20
            np.testing.assert_allclose(ours_of_it(x), out, rtol=1e-5, atol=1e-5 * np.abs(out).max())
            assert ours_of_it(x).dtype == np.float32


@pytest.mark.parametrize(("key_heads", "size"), [(4, 8), (2, 8), (1, 8), (2, 16)])
def test_the_class_groups_queries_as_llama_does(key_heads, size):
    model = tiny_llama(
        num_key_value_heads=key_heads, head_dim=size, rope_parameters={"rope_type": "default", "rope_theta": 500.0}
    )
    for layer, (x, out, weights) in enumerate(layer_inputs_and_outputs(model, [3, 17, 3, 39, 0, 8])):
        of_it = ours.CausalAttention(arrays(model), layer, size=size, base=500.0)
        np.testing.assert_allclose(of_it.weights(x), weights, atol=1e-6)
        np.testing.assert_allclose(of_it(x), out, atol=1e-5)


@pytest.mark.parametrize("start", [1, 3, 6])
def test_new_tokens_on_top_of_kept_keys_and_values_get_what_the_whole_text_gives(start):
    model = tiny_llama()
    of_it, x = ours.CausalAttention(arrays(model), 0, size=8), np.random.default_rng(4).normal(size=(7, 32))
    _, k, v = of_it.project(x[:start])
    q, new_k, new_v = of_it.project(x[start:], start=start)
    k, v = np.concatenate([k, new_k], axis=1), np.concatenate([v, new_v], axis=1)
    np.testing.assert_allclose(of_it.mix(q, k, v), of_it(x)[start:], atol=1e-12)
    np.testing.assert_array_equal(of_it.sees(7 - start, 7), ours.causal_mask(7)[start:])


def test_rotate_keeps_the_type_and_the_array_and_takes_whole_numbers():
    x = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    before = x.copy()
    turned = ours.rotate(x, start=5)
    np.testing.assert_array_equal(x, before)
    assert turned.dtype == np.float32
    np.testing.assert_allclose(turned, ours.rotary(x, [5, 6, 7]), rtol=1e-6)
    np.testing.assert_allclose(ours.rotate(x.astype(int), start=5), turned, rtol=1e-5)


def test_other_architectures_are_refused_in_one_sentence():
    with pytest.raises(LLMNotesError, match="a gpt2; open one"):
        ours.attention_weights(SimpleNamespace(config=SimpleNamespace(model_type="gpt2")), [1])
