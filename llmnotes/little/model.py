"""A transformer that is small enough to learn its facts in seconds: Pebble's parts, in PyTorch, with one block."""

import math
from functools import lru_cache

import torch
from torch import nn


class Norm(nn.Module):
    """RMSNorm: each row divided by its typical size, each column times its own factor."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.g = nn.Parameter(torch.ones(size))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Norm every row of x (…, size)."""
        return x / torch.sqrt((x**2).mean(dim=-1, keepdim=True) + 1e-6) * self.g


@lru_cache
def clock(tokens: int, d: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return cos and sin of every position's angles, each float64 (tokens, d / 2)."""
    angles = torch.arange(tokens)[:, None] * 10000.0 ** (-torch.arange(d // 2, dtype=torch.float64) / (d // 2))
    return angles.cos(), angles.sin()


def rotate(x: torch.Tensor) -> torch.Tensor:
    """Return x (…, tokens, d) turned by position: `llmnotes.attention.rotate` for tensors."""
    tokens, d = x.shape[-2:]
    cos, sin = (part.to(x.dtype) for part in clock(tokens, d))
    first, second = x[..., : d // 2], x[..., d // 2 :]
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)


class Attention(nn.Module):
    """Causal attention with rotary positions and as many key heads as queries; x is (sentences, tokens, size)."""

    def __init__(self, size: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v, self.o = (nn.Linear(size, size, bias=False) for _ in range(4))

    def cut(self, x: torch.Tensor) -> torch.Tensor:
        """Return x as (sentences, heads, tokens, size of a head)."""
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return what each token receives from the tokens before it and from itself."""
        q, k, v = (self.cut(part(x)) for part in (self.q, self.k, self.v))
        scores = rotate(q) @ rotate(k).transpose(-1, -2) / math.sqrt(q.shape[-1])
        ahead = torch.ones(x.shape[1], x.shape[1]).triu(1).bool()
        weights = scores.masked_fill(ahead, -math.inf).softmax(dim=-1)
        return self.o((weights @ v).transpose(1, 2).flatten(2))


class MLP(nn.Module):
    """The gated MLP."""

    def __init__(self, size: int, inner: int) -> None:
        super().__init__()
        self.gate = nn.Linear(size, inner, bias=False)
        self.up = nn.Linear(size, inner, bias=False)
        self.down = nn.Linear(inner, size, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Treat each row of x by itself."""
        return self.down(nn.functional.silu(self.gate(x)) * self.up(x))


class Block(nn.Module):
    """Norm, attention, add; norm, MLP, add."""

    def __init__(self, size: int, inner: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = Norm(size), Norm(size)
        self.attention, self.mlp = Attention(size, heads), MLP(size, inner)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Add to x what attention brings and what the MLP makes of it."""
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Small(nn.Module):
    """Ids (sentences, tokens) in, logits (sentences, tokens, words) out. The table serves both ends.

    >>> model = Small(words=10)
    >>> model(torch.zeros(2, 5, dtype=torch.long)).shape
    torch.Size([2, 5, 10])
    """

    def __init__(
        self, words: int, size: int = 64, inner: int = 128, heads: int = 4, blocks: int = 1, seed: int = 0
    ) -> None:
        super().__init__()
        self.table, self.norm = nn.Embedding(words, size), Norm(size)
        self.blocks = nn.ModuleList(Block(size, inner, heads) for _ in range(blocks))
        random = torch.Generator().manual_seed(seed)
        for weight in self.parameters():
            if weight.ndim == 2:  # all matrices start as small random numbers
                nn.init.normal_(weight, std=0.05, generator=random)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Return the logits of what comes next, at every place."""
        x = self.table(ids)
        for block in self.blocks:
            x = block(x)
        return self.norm(x) @ self.table.weight.T

    def loss(self, ids: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the cross-entropy over all places whose target is not -1."""
        return nn.functional.cross_entropy(self(ids).flatten(0, 1), targets.flatten(), ignore_index=-1)
