"""Pebble in NumPy: the model that a reader builds in the lessons "Attention" and "One token through Pebble".

`weights` leads from the names of transformers to arrays, as in `{name: w.numpy() for name, w in
lm.model.state_dict().items()}`. Any Llama runs whose positions are not stretched for long texts: the number of layers,
the base of the rotary positions, epsilon and the numbers of a head are arguments, and come from its config.
`one_file` returns all of it as a single file that needs nothing but NumPy.
"""

import inspect
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from llmnotes import attention
from llmnotes.attention import CausalAttention

Weights = Mapping[str, np.ndarray]


def rms_norm(x: np.ndarray, g: np.ndarray, eps: float = 1e-6) -> np.ndarray:
    """Return each row of x divided by its root mean square, then each column times its factor in g.

    >>> rms_norm(np.array([[3.0, -3.0], [0.5, 0.5]]), np.array([1.0, 2.0])).round(3).tolist()
    [[1.0, -2.0], [1.0, 2.0]]
    """
    rms = np.sqrt(np.mean(x**2, axis=-1, keepdims=True) + eps)
    return x / rms * g


def silu(z: np.ndarray) -> np.ndarray:
    """Return z times sigmoid(z): nearly 0 for z far below 0, nearly z far above.

    >>> silu(np.array([-9.0, 0.0, 9.0])).round(2).tolist()
    [-0.0, 0.0, 9.0]
    """
    return z / (1 + np.exp(-z))


class MLP:
    """The gated MLP of one layer: rows (tokens, hidden) in, rows (tokens, hidden) out, each token by itself."""

    def __init__(self, weights: Weights, layer: int) -> None:
        names = [f"model.layers.{layer}.mlp.{part}_proj.weight" for part in ("gate", "up", "down")]
        self.gate, self.up, self.down = (weights[name] for name in names)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        h = silu(x @ self.gate.T) * (x @ self.up.T)
        return h @ self.down.T


class Block:
    """One layer: norm, attention, add; norm, MLP, add. `base` and `eps` are the config's rope_theta and rms_norm_eps.

    `size` is the numbers of a head, head_dim. A wrong one raises no error: it gives wrong rows.
    `attention` and `mlp` may be replaced by any function from rows to rows.
    """

    def __init__(self, weights: Weights, layer: int, base: float = 10_000.0, eps: float = 1e-6, size: int = 64) -> None:
        name = f"model.layers.{layer}."
        self.norm1 = weights[name + "input_layernorm.weight"]
        self.norm2 = weights[name + "post_attention_layernorm.weight"]
        self.attention = CausalAttention(weights, layer, size, base)
        self.mlp = MLP(weights, layer)
        self.eps = eps

    def __call__(self, x: np.ndarray) -> np.ndarray:
        x = x + self.attention(rms_norm(x, self.norm1, self.eps))
        return x + self.mlp(rms_norm(x, self.norm2, self.eps))


class Pebble:
    """A whole language model: ids in, one row of scores (logits) out for each token, (tokens, vocabulary).

    `layers`, `base`, `eps` and `size` are the config's num_hidden_layers, rope_theta, rms_norm_eps and head_dim, and
    Pebble's own if nothing is said. A model with two tables reads its scores from the second, lm_head.weight.

    >>> from llmnotes.models import open_model
    >>> lm = open_model("pebble", say=lambda line: None)
    >>> pebble = Pebble({name: w.numpy() for name, w in lm.model.state_dict().items()})
    >>> pebble([0, 38, 1842]).shape
    (3, 2048)
    """

    def __init__(
        self, weights: Weights, layers: int = 4, base: float = 10_000.0, eps: float = 1e-6, size: int = 64
    ) -> None:
        self.table = weights["model.embed_tokens.weight"]
        self.out = weights.get("lm_head.weight", self.table)
        self.blocks = [Block(weights, layer, base, eps, size) for layer in range(layers)]
        self.norm, self.eps = weights["model.norm.weight"], eps

    def read(self, x: np.ndarray) -> np.ndarray:
        """Return the scores of rows x, finished or not: the last norm, then a dot product with each of the table."""
        return rms_norm(x, self.norm, self.eps) @ self.out.T

    def __call__(self, ids: Sequence[int]) -> np.ndarray:
        x = self.table[ids]
        for block in self.blocks:
            x = block(x)
        return self.read(x)


def additions(model: Any, ids: Sequence[int]) -> dict[str, np.ndarray]:
    """Return what is written into the last token's row, by name: its embedding, then what each part of a block adds.

    `model` is a `Pebble`, or anything built like one. The arrays add up to the row that the last norm reads.

    >>> from llmnotes.models import open_model
    >>> lm = open_model("pebble", say=lambda line: None)
    >>> weights = {name: w.numpy() for name, w in lm.model.state_dict().items()}
    >>> list(additions(Pebble(weights), [0, 38]))[:4]
    ['embedding', 'attention 0', 'MLP 0', 'attention 1']
    """
    x = model.table[ids]
    parts = {"embedding": x[-1]}
    for number, block in enumerate(model.blocks):
        added = block.attention(rms_norm(x, block.norm1, block.eps))
        x, parts[f"attention {number}"] = x + added, added[-1]
        added = block.mlp(rms_norm(x, block.norm2, block.eps))
        x, parts[f"MLP {number}"] = x + added, added[-1]
    return parts


def one_file() -> str:
    """Return the source of the model in one piece, attention included: a file to take home, which imports NumPy only.

    Examples in the docstrings are left out.

    >>> scope = {}
    >>> exec(one_file(), scope)
    >>> sorted(name for name in scope if name[0].isupper())
    ['Block', 'CausalAttention', 'MLP', 'Mapping', 'Pebble', 'Sequence', 'Weights']
    """
    head = (
        '"""A small Llama in NumPy, whole. `weights` leads from the names of transformers to arrays."""\n\n'
        "from collections.abc import Mapping, Sequence\n\nimport numpy as np\n\nWeights = Mapping[str, np.ndarray]"
    )
    names = ("softmax", "split_heads", "repeat_heads", "rotary_frequencies", "rotary", "rotate")
    parts = [*(getattr(attention, name) for name in names), CausalAttention, rms_norm, silu, MLP, Block, Pebble]
    sources = (re.sub(r'\n\s*>>> .*?(?=\n *""")', "", inspect.getsource(part), flags=re.DOTALL) for part in parts)
    return "\n\n\n".join([head, *(source.strip() for source in sources)]) + "\n"
