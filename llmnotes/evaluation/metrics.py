"""What every model is measured by, compressed or not: perplexity, KL divergence, bits per weight.

The fourth measure is the accuracy in Pebble's exam, which is in `llmnotes.pebble.exam`.
"""

import math
from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from llmnotes.errors import UnknownName

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase


class CausalModel(Protocol):
    """What is measured here: a causal model of transformers, or anything that is called like one.

    `model(ids)` answers ids (1, tokens) with something whose `logits` are (1, tokens, vocabulary).
    """

    @property
    def device(self) -> Any: ...

    def __call__(self, ids: Any, /) -> Any: ...


def perplexity(model: CausalModel, tokenizer: "PreTrainedTokenizerBase", text: str, window: int = 256) -> float:
    """Return exp(mean negative log-likelihood per token) of `text`, in natural units: 1 is certainty.

    The text is cut into consecutive windows of `window` tokens, and each token is predicted from those before it
    in its window; the first token of a window is not predicted. Perplexities are comparable only between models
    that cut the text into the same tokens (Jurafsky and Martin, Speech and Language Processing, section 3.3).

    Raises `UnknownName` if the text has fewer than two tokens.

    >>> from llmnotes.models import open_model
    >>> lm = open_model("pebble", say=lambda line: None)
    >>> perplexity(lm.model, lm.tokenizer, "The goose says honk.") < 50
    True

    Does not slide the window: tokens early in a window have little context, so the figure is usually higher than
    that of a sliding window.
    """
    losses = -log_probs(model, tokenizer, text, window, pick=True)
    return math.exp(losses.double().mean().item())


def kl_divergence(
    reference: CausalModel,
    other: CausalModel,
    tokenizer: "PreTrainedTokenizerBase",
    text: str,
    window: int = 256,
) -> float:
    """Return the mean over `text` of KL(reference ‖ other) between next-token distributions, in nats per token.

    0 means the same distribution at every position; the measure is not symmetric. Both models read the same
    tokens, in the windows that `perplexity` describes (Kullback and Leibler, On Information and Sufficiency, 1951).

    Raises `UnknownName` if the text has fewer than two tokens, `ValueError` if the vocabularies differ in size.

    >>> from llmnotes.models import open_model
    >>> pebble, chat = (open_model(name, say=lambda line: None) for name in ("pebble", "pebble-chat"))
    >>> kl_divergence(pebble.model, chat.model, pebble.tokenizer, "The goose says honk.") > 0
    True

    Does not tell which model is better, only how much the second differs from the first.
    """
    import torch

    p, q = (log_probs(model, tokenizer, text, window) for model in (reference, other))  # (positions, vocabulary)
    if p.shape != q.shape:
        raise ValueError(f"The vocabularies differ ({p.shape[1]} and {q.shape[1]} tokens); compare relatives.")
    # Some positions at a time: in 64 bits, all at once would take several times the memory of both tensors.
    pairs = ((a.double(), b.double()) for a, b in zip(p.split(window), q.split(window), strict=True))
    return torch.cat([(a.exp() * (a - b)).sum(-1) for a, b in pairs]).mean().item()


def wilson_interval(share: float, count: int) -> tuple[float, float]:
    """Return the 95% interval of a share that was measured on `count` questions, each right or wrong.

    It is Wilson's score interval (Wilson 1927, *Probable Inference*), which stays honest at 0 and at 100%, where the
    usual standard error is 0: 50 right answers of 50 leave room for one wrong answer in 14. NaN without questions.

    >>> [round(end, 3) for end in wilson_interval(1.0, 50)]
    [0.929, 1.0]
    >>> [round(end, 3) for end in wilson_interval(0.5, 100)]
    [0.404, 0.596]
    """
    if count == 0:
        return math.nan, math.nan
    z = 1.96  # the 97.5% point of the normal distribution
    middle = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z * math.sqrt(share * (1 - share) / count + z**2 / (4 * count**2)) / (1 + z**2 / count)
    return max(0.0, middle - half), min(1.0, middle + half)


class Flips(NamedTuple):
    """How many questions got wrong and how many right, the change of the mark, and that change's standard error."""

    lost: int
    won: int
    change: float
    noise: float


def flips(before: Sequence[bool], after: Sequence[bool], groups: Sequence[Hashable] | None = None) -> Flips:
    """Compare two models on the same questions: `before` and `after` say which answers were right.

    Two marks with their own standard errors look alike long before this does: both models stumble over the same hard
    questions, and only those that one gets right and the other doesn't tell them apart (McNemar 1947, *Note on the
    sampling error of the difference between correlated proportions*). The error is that of the mean difference, and
    `groups` is for questions that fall together, as in `mean_error`. Raises ValueError for other numbers of questions.

    >>> flips([True, True, True, False], [True, False, False, True])[:3]
    (2, 1, -0.25)
    """
    if len(before) != len(after) or not before:
        raise ValueError(f"{len(before)} answers before and {len(after)} after; give the same questions, at least one.")
    moved = np.array(after, float) - np.array(before, float)
    return Flips(int((moved < 0).sum()), int((moved > 0).sum()), float(moved.mean()), mean_error(moved, groups))


def mean_error(values: np.ndarray, groups: Sequence[Hashable] | None = None) -> float:
    """Return the standard error of the mean of `values`, (questions,).

    Questions of one group, such as those of one wording, may stand or fall together; then many of them say no more than
    a few. With `groups`, one name for each question, the error counts groups and not questions (Miller 2024, *Adding
    error bars to evals*).

    >>> values = np.array([0.0, 0.0, 1.0, 1.0])
    >>> mean_error(values), round(mean_error(values, ["a", "a", "b", "b"]), 4)
    (0.25, 0.3536)
    """
    off = values - values.mean()
    if groups is not None:
        sums: dict[Hashable, float] = {}
        for group, value in zip(groups, off, strict=True):
            sums[group] = sums.get(group, 0.0) + value
        off = np.array(list(sums.values()))
    return float(np.sqrt(np.square(off).sum()) / len(values))


def bits_per_weight(size: int, parameters: int) -> float:
    """Return how many bits of a file of `size` bytes fall to each of its `parameters`, scales and headers included.

    Does not read a file: ask `Path.stat` for its size, and the model for its parameters.

    >>> bits_per_weight(2_000_000, 1_000_000)
    16.0
    """
    return 8 * size / parameters


def log_probs(
    model: CausalModel,
    tokenizer: "PreTrainedTokenizerBase",
    text: str,
    window: int = 256,
    pick: bool = False,
) -> "torch.Tensor":
    """Return the log-probability of every token at each predicted position, a tensor (positions, vocabulary).

    With `pick` only that of the token that stands there: (positions,). Windows are those of `perplexity`. Raises
    `UnknownName` if the text has fewer than two tokens. Does not keep anything on a GPU.

    >>> from llmnotes.models import open_model
    >>> lm = open_model("pebble", say=lambda line: None)
    >>> log_probs(lm.model, lm.tokenizer, "The goose says honk.").shape[1]
    2048
    """
    import torch

    ids = torch.tensor(tokenizer(text, verbose=False)["input_ids"])  # longer than the context: windows follow
    if len(ids) < 2:
        raise UnknownName("The text has fewer than two tokens, so there is nothing to predict; give a longer text.")
    rows = []
    for start in range(0, len(ids), window):
        piece = ids[start : start + window].to(model.device)
        if len(piece) < 2:
            break
        with torch.no_grad():
            scores = model(piece[None]).logits[0, :-1].float().log_softmax(-1)  # (tokens - 1, vocabulary)
        rows.append((scores.gather(1, piece[1:, None])[:, 0] if pick else scores).cpu())
    return torch.cat(rows)
