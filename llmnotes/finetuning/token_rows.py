"""The rows of a few tokens in the embedding, and in the output head that shares it, learn beside a frozen model.

A token that pretraining never saw has a row like those of the other such tokens, so that no update of the layers
between can tell them apart at the output; nor does the embedding of a token that was added later say anything yet.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal, cast

import torch
from torch import nn

from llmnotes.errors import AdapterUnfit

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

UNTRAINED = "untrained"  # instead of tokens: those of the training data that `untrained` finds
CHUNK = 256  # rows that are compared with the vocabulary at once
SHOWN = 12  # tokens that are named


class Rows(nn.Module):
    """What one adapter adds to the rows of its tokens: `delta` (tokens, dim), zero at first."""

    tokens: torch.Tensor

    def __init__(self, tokens: tuple[int, ...], dim: int):
        super().__init__()
        self.delta = nn.Parameter(torch.zeros(len(tokens), dim))
        self.register_buffer("tokens", torch.tensor(tokens), persistent=False)


class TokenEmbedding(nn.Module):
    """An embedding, `base`, and by name the `adapters` that change rows of it; those in `active` are added.

    While merged, the base has the changes in its weight, and `kept` is the weight from before.
    """

    def __init__(self, base: nn.Embedding):
        super().__init__()
        self.base, self.adapters = base, nn.ModuleDict()
        self.active: tuple[str, ...] = ()
        self.merged = False
        self.kept: nn.Parameter | None = None

    def rows(self, name: str) -> Rows:
        """Return what the adapter of a name changes. Raises `KeyError` where there is none."""
        return cast(Rows, self.adapters[name])

    @property
    def weight(self) -> nn.Parameter:
        """The weight of the base."""
        return cast(nn.Parameter, self.base.weight)

    def working(self) -> list[Rows]:
        """Return what is to be added to the base's output."""
        return [] if self.merged else [self.rows(name) for name in self.active]

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Return the rows of `ids` (...) with their changes: (..., dim)."""
        out = self.base(ids)
        for rows in self.working():
            chosen = torch.eq(ids[..., None], rows.tokens)  # (..., tokens): which of the rows, if any
            change = chosen.to(rows.delta.dtype) @ rows.delta
            scale = getattr(self.base, "embed_scale", None)  # Gemma's embedding multiplies its rows
            out = (out + (change if scale is None else change * scale)).to(out.dtype)
        return out


class TokenHead(nn.Module):
    """An output head, `base`, whose weight is that of a `TokenEmbedding`: the changes are added to its logits."""

    def __init__(self, base: nn.Linear, embedding: TokenEmbedding):
        super().__init__()
        self.base, self._embedding = base, (embedding,)  # in a tuple, so that its parameters are not counted twice
        self.in_features, self.out_features = base.in_features, base.out_features

    @property
    def weight(self) -> torch.Tensor:
        """The weight of the base."""
        return self.base.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits (..., vocabulary) of `x` (..., dim)."""
        out = self.base(x)
        for rows in self._embedding[0].working():
            out = out.index_add_(-1, rows.tokens, (x @ rows.delta.to(x.dtype).T).to(out.dtype))
        return out


def check(
    model: nn.Module, tokens: Literal["untrained"] | tuple[int, ...], name: str, beside: Iterable[nn.Module]
) -> tuple[int, ...]:
    """Return the tokens if their rows can learn while the layers in `beside` have adapters; else `AdapterUnfit`."""
    if isinstance(tokens, str):
        raise AdapterUnfit(f"Tokens are not known yet where they are {UNTRAINED!r}; ask token_rows.untrained for them.")
    embedding, head = _embedding(model), _tied_head(model)
    base = embedding.base if isinstance(embedding, TokenEmbedding) else embedding
    if not isinstance(base, nn.Embedding) or not base.weight.is_floating_point():
        raise AdapterUnfit("The model has no input embedding in floats, so no rows of it can learn; leave out tokens.")
    if max(tokens) >= len(base.weight):
        raise AdapterUnfit(
            f"There is no token {max(tokens)} in a vocabulary of {len(base.weight)}; correct the tokens."
        )
    if isinstance(embedding, TokenEmbedding) and name in embedding.adapters:
        raise AdapterUnfit(f"The model has an adapter {name!r} already; give this one another name.")
    if head is not None and (not isinstance(head, nn.Linear | TokenHead) or head in list(beside)):
        raise AdapterUnfit(
            "The output head shares its matrix with the embedding, so it cannot have an adapter while rows of tokens "
            "learn; leave the head out of the target_modules, or leave out tokens."
        )
    return tokens


def attach(model: nn.Module, tokens: tuple[int, ...], name: str) -> None:
    """Let the rows of `tokens` learn in the input embedding, and in the output head if it is the same matrix."""
    embedding = _embedding(model)
    if not isinstance(embedding, TokenEmbedding):
        head, base = _tied_head(model), embedding
        assert isinstance(base, nn.Embedding), "check has seen to it"
        embedding = TokenEmbedding(base).train(base.training)
        model.set_submodule(_path(model, base), embedding)
        if isinstance(head, nn.Linear):
            model.set_submodule(_path(model, head), TokenHead(head, embedding).train(head.training))
    rows = Rows(tokens, embedding.weight.shape[1]).train(embedding.training)
    embedding.adapters[name] = rows.to(embedding.weight.device)


def find(model: nn.Module) -> list[TokenEmbedding]:
    """Return the embedding of which rows learn, alone in a list, or an empty one."""
    return [module for module in model.modules() if isinstance(module, TokenEmbedding)]


def merge(model: nn.Module, keep: bool = True) -> None:
    """Add the active changes to the embedding, and to a head that shares it, as `lora.merge` does to the layers."""
    for embedding in find(model):
        if not embedding.merged:
            old = embedding.weight
            merge_into(model, model)
            embedding.merged, embedding.kept = True, old if keep else None


def unmerge(model: nn.Module) -> None:
    """Give embedding and head the weight from before `merge`."""
    for embedding in find(model):
        if embedding.merged and embedding.kept is not None:
            _share(model, embedding.kept)
            embedding.merged, embedding.kept = False, None


def merge_into(model: nn.Module, home: nn.Module) -> None:
    """Add the active changes of `model`, in float32, to the embedding of `home`, a model with the same vocabulary."""
    for embedding in find(model):
        old = getattr(_embedding(home), "weight", None)
        if old is None or old.shape != embedding.weight.shape:
            raise AdapterUnfit("The original has no embedding of this shape; give the model as it was.")
        made = old.detach().to(torch.float32, copy=True)
        for name in embedding.active:
            rows = embedding.rows(name)
            made.index_add_(0, rows.tokens.to(made.device), rows.delta.detach().to(made.device))
        _share(home, nn.Parameter(made.to(old.dtype), requires_grad=False))


def place(model: nn.Module) -> tuple[str, int]:
    """Return the name of the input embedding and the width of its rows; ("", 0) where there is none."""
    embedding = cast(nn.Embedding | None, _embedding(model))
    return ("", 0) if embedding is None else (_path(model, embedding), embedding.weight.shape[1])


def values(embedding: TokenEmbedding, name: str) -> torch.Tensor:
    """Return the rows that an adapter makes of the old ones, float32 (tokens, dim): what PEFT keeps in its files."""
    return old_rows(embedding, name) + embedding.rows(name).delta.detach()


def old_rows(embedding: TokenEmbedding, name: str) -> torch.Tensor:
    """Return the rows of an adapter's tokens as the base has them when nothing is merged, float32 (tokens, dim)."""
    weight = embedding.kept if embedding.merged else embedding.weight
    if weight is None:
        raise AdapterUnfit("The old rows were given up with keep=False; open the base model again.")
    return weight.detach()[embedding.rows(name).tokens].float()


def untrained(model: nn.Module, ids: Iterable[int], threshold: float = 0.9) -> tuple[int, ...]:
    """Return those of the token ids that training never or hardly saw, to judge by the output head, in order.

    What never was the answer is only ever pushed away, in the direction that all such tokens go: their rows end up
    nearly equal. Found is a row whose cosine with any other row of the vocabulary is above `threshold`, or a zero one.
    Does not see that a token was never read, where the head has a matrix of its own and the token was an answer.
    """
    weight = getattr(_head(model), "weight", None)
    if weight is None:
        raise AdapterUnfit("The model has no output head, so no rows of it can be compared; name the tokens.")
    weight, found = weight.detach(), []
    norms = torch.linalg.vector_norm(weight, dim=1, dtype=torch.float32)
    for some in torch.tensor(sorted(set(ids)), dtype=torch.long, device=weight.device).split(CHUNK):
        cosines = (weight[some] @ weight.T).float() / (norms[some, None] * norms).clamp_min(1e-20)
        cosines[torch.arange(len(some)), some] = -1.0  # each with itself
        found += some[(cosines.amax(1) > threshold) | (norms[some] == 0)].tolist()
    return tuple(found)


def describe(model: nn.Module, tokenizer: "PreTrainedTokenizerBase") -> str:
    """Return one sentence about the tokens whose rows learn, or nothing if there are none.

    >>> describe(nn.Linear(1, 1), tokenizer=None)
    ''
    """
    tokens = [token for each in find(model) for name in each.active for token in each.rows(name).tokens.tolist()]
    words = [repr(tokenizer.decode([token])) for token in tokens[:SHOWN]] + ["..."] * (len(tokens) > SHOWN)
    return f"Rows of the embedding learn as well, those of {len(tokens)} tokens: {', '.join(words)}" if tokens else ""


def detach(model: nn.Module) -> None:
    """Take the wrappers off."""
    for path, module in list(model.named_modules()):
        if isinstance(module, TokenEmbedding | TokenHead):
            model.set_submodule(path, module.base)


def _embedding(model: nn.Module) -> nn.Module | None:
    get = getattr(model, "get_input_embeddings", None)  # a model of transformers has it
    return get() if get else None


def _head(model: nn.Module) -> nn.Module | None:
    get = getattr(model, "get_output_embeddings", None)
    return get() if get else None


def _tied_head(model: nn.Module) -> nn.Module | None:
    """Return the output head if its weight is the embedding's."""
    head, weight = _head(model), getattr(_embedding(model), "weight", None)
    return head if weight is not None and getattr(head, "weight", None) is weight else None


def _share(model: nn.Module, weight: nn.Parameter) -> None:
    """Give the embedding another weight, and the head as well if it shares it."""
    for layer in (_tied_head(model), _embedding(model)):
        if layer is not None:
            getattr(layer, "base", layer).weight = weight


def _path(model: nn.Module, wanted: nn.Module) -> str:
    return next(path for path, module in model.named_modules() if module is wanted)
