"""Attention, from dot products up, in plain NumPy: softmax, causal mask, heads, rotary positions, whole layers.

Shapes: q, k and v are (..., tokens, dim), where the dots stand for heads or for nothing.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from llmnotes.errors import LLMNotesError

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def softmax(scores: np.ndarray, axis: int = -1) -> np.ndarray:
    """Return exp(scores) / sum(exp(scores)) along `axis`: weights of the same shape, none negative, with sum 1.

    The largest score is subtracted first. That changes nothing in the result, and no exponential overflows.
    A score of -inf gets weight 0; where every score is -inf there is nothing to share, and the result is nan.

    Does not divide by a temperature, and does not keep integers: the result is a float array.

    >>> softmax(np.array([0.0, 0.0, -np.inf])).tolist()
    [0.5, 0.5, 0.0]
    """
    grown = np.exp(scores - np.max(scores, axis=axis, keepdims=True))
    return grown / grown.sum(axis=axis, keepdims=True)


def causal_mask(tokens: int) -> np.ndarray:
    """Return a boolean (tokens, tokens) array: row i is True in columns 0 to i, where token i may look.

    Does not hold -inf, and is not added to anything: `attention` reads it as "may look".

    >>> causal_mask(3).astype(int).tolist()
    [[1, 0, 0], [1, 1, 0], [1, 1, 1]]
    """
    return np.tri(tokens, dtype=bool)


def attention(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, mask: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return (output, weights) of softmax(q·k / √d)·v, as in Vaswani et al. 2017, section 3.2.1.

    q is (..., n, d), k is (..., m, d), v is (..., m, e); output is (..., n, e), weights are (..., n, m).
    `mask` is boolean, (n, m), True where a query may look at a key; None lets every query look everywhere.

    Raises ValueError where the shapes do not fit. Does not project, split heads, or drop anything out, and it keeps
    all n x m weights in memory, which fast kernels avoid.

    >>> output, weights = attention(np.zeros((1, 4)), np.ones((2, 4)), np.array([[1.0], [3.0]]))
    >>> output.tolist(), weights.tolist()
    ([[2.0]], [[0.5, 0.5]])
    """
    scores = q @ np.swapaxes(k, -1, -2) / np.sqrt(q.shape[-1])
    if mask is not None:
        scores = np.where(mask, scores, -np.inf)
    weights = softmax(scores)
    return weights @ v, weights


def split_heads(x: np.ndarray, heads: int) -> np.ndarray:
    """Return x of shape (tokens, heads * dim) as (heads, tokens, dim): head h owns columns h * dim to (h + 1) * dim.

    Raises ValueError if the columns do not divide evenly. Does not copy: the result is a view of x.

    >>> split_heads(np.arange(8).reshape(2, 4), heads=2).tolist()
    [[[0, 1], [4, 5]], [[2, 3], [6, 7]]]
    """
    return np.swapaxes(x.reshape(x.shape[0], heads, -1), 0, 1)


def repeat_heads(x: np.ndarray, heads: int) -> np.ndarray:
    """Return x of shape (key heads, tokens, dim) as (heads, tokens, dim), where neighbouring queries share a key head.

    This is grouped-query attention (Ainslie et al. 2023, section 2.2): with 4 query heads and 2 key heads, query
    heads 0 and 1 read key head 0. Raises ValueError if `heads` is no multiple of the key heads.

    Does not save memory: it copies, so that the arithmetic after it needs no special case.

    >>> repeat_heads(np.array([[[1.0]], [[2.0]]]), heads=4)[:, 0, 0].tolist()
    [1.0, 1.0, 2.0, 2.0]
    """
    if heads % len(x):
        raise ValueError(f"{heads} query heads cannot share {len(x)} key heads evenly")
    return np.repeat(x, heads // len(x), axis=0)


def rotary_frequencies(dim: int, theta: float = 10_000.0) -> np.ndarray:
    """Return the dim / 2 angles, in radians per position, by which rotary positions turn the pairs of a head.

    Pair i turns by theta ** (-2i / dim): the first by a whole radian, the last by almost nothing
    (Su et al. 2021, section 3.2.2). Does not stretch them for long texts, as Llama 3.1 and its successors do.

    >>> rotary_frequencies(4).tolist()
    [1.0, 0.01]
    """
    return theta ** (-np.arange(0, dim, 2) / dim)


def rotary(x: np.ndarray, positions: np.ndarray, frequencies: np.ndarray | None = None) -> np.ndarray:
    """Return x of shape (..., tokens, dim) with each token turned by its position, as Llama does in transformers.

    Number i and number i + dim / 2 are the two coordinates of pair i, which turns by position * frequencies[i]
    radians; `frequencies` (dim / 2 of them) default to `rotary_frequencies(dim)`. Lengths stay, and the dot product
    of two turned vectors depends on the difference of their positions only (Su et al. 2021, section 3.2).

    Raises ValueError if dim is odd. Does not pair neighbours (2i, 2i + 1), as the paper does, and as GGUF files of
    Llama models do.

    >>> rotary(np.array([[1.0, 0.0]]), positions=[0]).tolist()
    [[1.0, 0.0]]
    """
    frequencies = rotary_frequencies(x.shape[-1]) if frequencies is None else frequencies
    angles = np.asarray(positions)[:, None] * frequencies  # (tokens, dim / 2)
    cos, sin = np.cos(angles), np.sin(angles)
    first, second = np.split(x, 2, axis=-1)
    return np.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)


def rotate(x: np.ndarray, start: int = 0, base: float = 10_000.0) -> np.ndarray:
    """Return x of shape (..., tokens, dim) turned by position; its first token stands at position `start`.

    This is `rotary` for tokens that stand side by side. `base` is what a model's config calls rope_theta. A float
    array keeps its type. Does not change x.

    >>> rotate(np.ones((2, 2))).round(2).tolist()
    [[1.0, 1.0], [-0.3, 1.38]]
    """
    positions = start + np.arange(x.shape[-2])
    return rotary(x, positions, rotary_frequencies(x.shape[-1], base)).astype(np.result_type(x, np.float32), copy=False)


class CausalAttention:
    """One attention layer of a Llama: rows (tokens, hidden) in, rows (tokens, hidden) out; no token looks ahead.

    `weights` leads from the names of transformers to arrays, as in `{name: w.numpy() for name, w in
    model.state_dict().items()}`. How many heads there are follows from the shapes and from `size`, the numbers of a
    head, which is 64 in Pebble and in SmolLM2; `base` is what the config calls rope_theta.

    A row is what the layer's norm has made of it: this class does not norm, and adds nothing to the row it read. It
    has no biases, and does not stretch positions for long texts.

    >>> from llmnotes.models import open_model
    >>> lm = open_model("pebble", say=lambda line: None)
    >>> attention = CausalAttention({name: w.numpy() for name, w in lm.model.state_dict().items()}, layer=0)
    >>> attention(np.ones((3, 256), dtype=np.float32)).shape
    (3, 256)
    """

    def __init__(self, weights: Mapping[str, np.ndarray], layer: int, size: int = 64, base: float = 10_000.0) -> None:
        name = f"model.layers.{layer}.self_attn."
        self.query, self.key, self.value, self.output = (weights[f"{name}{part}_proj.weight"] for part in "qkvo")
        self.size, self.base = size, base
        self.heads, self.key_heads = len(self.query) // size, len(self.key) // size

    def project(self, x: np.ndarray, start: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return q (heads, tokens, size), k and v (key heads, tokens, size); the first row stands at `start`."""
        q = split_heads(x @ self.query.T, self.heads)
        k = split_heads(x @ self.key.T, self.key_heads)
        v = split_heads(x @ self.value.T, self.key_heads)
        return rotate(q, start, self.base), rotate(k, start, self.base), v

    def sees(self, news: int, olds: int) -> np.ndarray:
        """Return which of `olds` keys each of the last `news` queries may look at: its own and all before it."""
        return np.tri(news, olds, olds - news, dtype=bool)

    def look(self, q: np.ndarray, k: np.ndarray) -> np.ndarray:
        """Return the attention weights, (heads, queries, keys); each row sums to 1."""
        scores = q @ repeat_heads(k, self.heads).swapaxes(-1, -2) / self.size**0.5
        return softmax(np.where(self.sees(q.shape[1], k.shape[1]), scores, -np.inf))

    def mix(self, q: np.ndarray, k: np.ndarray, v: np.ndarray) -> np.ndarray:
        """Return what each query receives, (queries, hidden)."""
        mixed = self.look(q, k) @ repeat_heads(v, self.heads)  # (heads, queries, size)
        return mixed.swapaxes(0, 1).reshape(q.shape[1], -1) @ self.output.T  # the heads side by side again

    def weights(self, x: np.ndarray) -> np.ndarray:
        """Return the attention weights of a whole prompt, (heads, tokens, tokens)."""
        q, k, _ = self.project(x)
        return self.look(q, k)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return self.mix(*self.project(x))


def attention_weights(model: "PreTrainedModel", ids: Sequence[int]) -> np.ndarray:
    """Return every attention weight of a Llama on one text, shape (layers, heads, tokens, tokens), from scratch.

    `model` is a transformers LlamaForCausalLM, of which only the weight matrices, the norms and the config are
    used; `ids` are the numbers of the tokens. Row i of a head says how token i shares its look at tokens 0 to i.
    The arithmetic is float64, one layer at a time, so it comes out alike on every machine.

    Raises `LLMNotesError` if the model is no Llama. Does not batch, pad, or keep keys and values for a next token.

    >>> from llmnotes.models import open_model
    >>> lm = open_model("pebble", say=lambda line: None)
    >>> weights = attention_weights(lm.model, [5, 6, 7])
    >>> weights.shape[2:], bool(np.allclose(weights.sum(axis=-1), 1))
    ((3, 3), True)
    """
    config = model.config
    if config.model_type != "llama":
        raise LLMNotesError(
            f"attention_weights reads Llama models and this one is a {config.model_type}; open one "
            "whose config.json says “llama”, such as pebble."
        )
    eps, mask, positions = config.rms_norm_eps, causal_mask(len(ids)), np.arange(len(ids))
    frequencies, stretch = _frequencies(model)
    x = _array(model.model.embed_tokens.weight[list(ids)])  # (tokens, hidden)
    every = []
    for layer in model.model.layers:
        looks, block = layer.self_attn, layer.mlp
        normed = _rms_norm(x, layer.input_layernorm.weight, eps)
        q = split_heads(_linear(normed, looks.q_proj), config.num_attention_heads)
        k, v = (split_heads(_linear(normed, part), config.num_key_value_heads) for part in (looks.k_proj, looks.v_proj))
        q, k = rotary(q, positions, frequencies) * stretch, rotary(k, positions, frequencies) * stretch
        k, v = repeat_heads(k, len(q)), repeat_heads(v, len(q))
        mixed, weights = attention(q, k, v, mask)
        every.append(weights)
        x = x + _linear(np.concatenate(list(mixed), axis=-1), looks.o_proj)  # the heads side by side again
        normed = _rms_norm(x, layer.post_attention_layernorm.weight, eps)
        gate = _linear(normed, block.gate_proj)
        x = x + _linear(gate / (1 + np.exp(-gate)) * _linear(normed, block.up_proj), block.down_proj)
    return np.stack(every)


def inside(model: "PreTrainedModel", ids: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Return what every attention of a Llama reads on one text, and the weights that the model finds itself.

    The first is (layers, tokens, hidden): the rows that enter each attention, after the norm in front of it. The
    second is (layers, heads, tokens, tokens). Both are the model's own, for comparing with what one has built.

    The model must have been opened with attention="eager"; other kernels do not keep their weights, and transformers
    raises an error of its own. Does not batch.

    >>> from llmnotes.models import open_model
    >>> reads, weights = inside(open_model("pebble", attention="eager", say=lambda line: None).model, [5, 6, 7])
    >>> reads.shape, weights.shape
    ((4, 3, 256), (4, 4, 3, 3))
    """
    import torch

    with torch.no_grad():
        out = model(torch.tensor([list(ids)]), output_hidden_states=True, output_attentions=True, use_cache=False)
        reads = [
            layer.input_layernorm(rows)[0] for layer, rows in zip(model.model.layers, out.hidden_states, strict=False)
        ]
    return np.stack([rows.numpy() for rows in reads]), np.stack([weights[0].numpy() for weights in out.attentions])


def handed_on(model: "PreTrainedModel", ids: Sequence[int]) -> np.ndarray:
    """Return what every attention of a Llama hands on, (layers, tokens, hidden), for the text that `inside` reads.

    >>> from llmnotes.models import open_model
    >>> handed_on(open_model("pebble", attention="eager", say=lambda line: None).model, [5, 6, 7]).shape
    (4, 3, 256)
    """
    outputs = [layer.self_attn.o_proj for layer in model.model.layers]
    rows: list[np.ndarray] = []
    hooks = [output.register_forward_hook(lambda *told: rows.append(told[2][0].numpy())) for output in outputs]
    inside(model, ids)
    for hook in hooks:
        hook.remove()
    return np.stack(rows)


def next_without(
    model: "PreTrainedModel", texts: Sequence[Sequence[int]], layer: int = 0, heads: Sequence[int] = ()
) -> np.ndarray:
    """Return the likeliest next token of each text, (texts,), while some heads of one layer hand on nothing but zeros.

    `texts` are the numbers of their tokens, equally many in each. Does not change the model, and does not put a
    head's mean in place of what it found, as careful studies do besides.

    >>> from llmnotes.models import open_model
    >>> next_without(open_model("pebble", say=lambda line: None).model, [[5, 6], [6, 7]], layer=1, heads=[0]).shape
    (2,)
    """
    import torch

    attend = model.model.layers[layer].self_attn

    def silence(module, arguments: tuple) -> tuple:
        rows = arguments[0].clone()
        for head in heads:
            rows[..., head * attend.head_dim : (head + 1) * attend.head_dim] = 0
        return (rows,)

    hook = attend.o_proj.register_forward_pre_hook(silence)
    try:
        with torch.no_grad():
            return model(torch.tensor(texts), use_cache=False).logits[:, -1].argmax(dim=-1).numpy()
    finally:
        hook.remove()


def _frequencies(model) -> tuple[np.ndarray, float]:
    """Return the angles per position and the factor on q and k; kinds stretched for long texts keep the model's own."""
    config, rope = model.config, model.config.rope_parameters
    if rope["rope_type"] == "default":
        dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        return rotary_frequencies(dim, rope["rope_theta"]), 1.0
    return _array(model.model.rotary_emb.inv_freq), model.model.rotary_emb.attention_scaling


def _array(tensor) -> np.ndarray:
    return tensor.detach().cpu().double().numpy()


def _linear(x: np.ndarray, module) -> np.ndarray:
    y = x @ _array(module.weight).T
    return y if module.bias is None else y + _array(module.bias)


def _rms_norm(x: np.ndarray, weight, eps: float) -> np.ndarray:
    return x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + eps) * _array(weight)
