"""One ruler for every compressed model: what it takes, how far its weights and outputs stray, what it still knows.

`Ruler` reads the original once; each model after that costs one pass over the text and one short exam.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from llmnotes.errors import UnknownName
from llmnotes.evaluation import texts
from llmnotes.evaluation.metrics import log_probs, wilson_interval
from llmnotes.evaluation.weights import effective_weight, inputs_of_layers, matrices, with_weights
from llmnotes.pebble import Question, score

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

WINDOW = 256  # tokens that are read together
ACTIVATIONS = 512  # tokens whose activations a layer is tried on


class Noise(NamedTuple):
    """Standard errors that come from the size of text and exam: of KL, of perplexity's change, of the exam."""

    kl: float
    perplexity: float
    exam: float


class Row(NamedTuple):
    """What the ruler says of one model. Errors are relative (0 is equal), KL is in nats per token, exam from 0 to 1.

    `exam_range` is the exam's 95% interval, which comes from the number of its questions.
    """

    name: str
    bits: float
    weight_error: float
    output_error: float
    kl: float
    perplexity: float
    exam: float
    exam_range: tuple[float, float]
    noise: Noise


class Ruler:
    """The original model, the text and the exam that all compressed models are held against.

    `text` and `questions` are by default Pebble's: 40 held-out documents (about 3,300 tokens) and 100 of the exam's
    questions; `seed` chooses others. With another model give a text of its language and `questions=()`; the exam is
    then NaN. Raises `UnknownName` for a text of fewer than two tokens. Does not change the model, and does not keep a
    copy: the original must stay as it is while the ruler is used.

    >>> from llmnotes.models import open_model
    >>> lm = open_model("pebble", say=lambda line: None)
    >>> ruler = Ruler(lm.model, lm.tokenizer)
    >>> ruler.measure("the original", lm.model, bits=16).kl
    0.0
    """

    def __init__(
        self,
        model: "PreTrainedModel",
        tokenizer: "PreTrainedTokenizerBase",
        text: str | None = None,
        questions: Sequence[Question] | None = None,
        seed: int = 0,
    ):
        import torch

        self.model, self.tokenizer = model, tokenizer
        self.text = texts.held_out_text(seed) if text is None else text
        self.questions = texts.questions(seed) if questions is None else tuple(questions)
        self._scores = log_probs(model, tokenizer, self.text, WINDOW)  # (positions, vocabulary)
        self._truth = _truth(tokenizer, self.text)  # (positions,)
        self._weights = {
            name.removesuffix(".weight"): torch.from_numpy(weight).to(model.device)
            for name, weight in matrices(model, embeddings=True).items()
        }
        ids = torch.tensor(tokenizer(self.text, verbose=False)["input_ids"][:ACTIVATIONS], device=model.device)
        pieces = ids.split(WINDOW)
        self._inputs = inputs_of_layers(model, [piece for piece in pieces if len(piece) == len(pieces[0])])
        with torch.no_grad():
            layers = dict(model.named_modules())
            self._outputs = {name: layers[name](x) for name, x in self._inputs.items()}

    def measure(self, name: str, compressed: "PreTrainedModel", bits: float) -> Row:
        """Return the row of `compressed`, a model whose layers have the original's names; `bits` counts its scales.

        - `weight_error`: ‖W' - W‖ / ‖W‖ over all matrices that changed together. A layer's weights are what it
          answers to the rows of the identity, so layers of any library are understood.
        - `output_error`: the same ratio for what each layer answers to the original's own activations, averaged over
          the layers that changed.
        - `kl`, `perplexity`: as in `llmnotes.evaluation.metrics`, on the ruler's text; `exam`: on its questions.

        Raises `UnknownName` if a layer of the original is missing. Does not count bits: it believes `bits`.
        """
        import torch

        with torch.inference_mode():
            weight_error, output_error = self._errors(compressed)
            scores = log_probs(compressed, self.tokenizer, self.text, WINDOW)
            kl = (self._scores.exp() * (self._scores - scores)).sum(-1).double()  # (positions,)
            loss, before = (-s.gather(1, self._truth[:, None])[:, 0].double() for s in (scores, self._scores))
        perplexity = math.exp(loss.mean().item())
        right = self._exam(compressed)
        return Row(
            name,
            float(bits),
            weight_error,
            output_error,
            kl.mean().item(),
            perplexity,
            right,
            wilson_interval(right, len(self.questions)),
            Noise(
                standard_error(kl),
                perplexity * standard_error(loss - before),
                math.sqrt(right * (1 - right) / max(1, len(self.questions))),
            ),
        )

    def measure_weights(
        self, name: str, weights: Mapping[str, np.ndarray] | Callable[[np.ndarray], np.ndarray], bits: float
    ) -> Row:
        """Return the row of the original with `weights` in place of its own; see `with_weights`."""
        return self.measure(name, with_weights(self.model, weights), bits)

    def _errors(self, model: "PreTrainedModel") -> tuple[float, float]:
        """Return the relative error of the matrices that changed, and that of the outputs of the layers they are in."""
        square, whole, ratios = 0.0, 0.0, []
        layers = dict(model.named_modules())
        for name, original in self._weights.items():
            layer = layers.get(name)
            if layer is None:
                raise UnknownName(f"The compressed model has no layer {name}; give a model of the same architecture.")
            change = (effective_weight(layer, original) - original).square().sum().item()
            if change:
                square, whole = square + change, whole + original.square().sum().item()
                if name in self._inputs:
                    expected = self._outputs[name]
                    ratios.append(((layer(self._inputs[name]) - expected).norm() / expected.norm()).item())
        return math.sqrt(square / whole) if whole else 0.0, float(np.mean(ratios)) if ratios else 0.0

    def _exam(self, model: "PreTrainedModel") -> float:
        if not self.questions:
            return math.nan
        from llmnotes.pebble.answering import answerer

        return score(answerer(model, self.tokenizer), self.questions).accuracy


def table(rows: Sequence[Row]) -> str:
    """Return rows as lines of text, one for each model, with KL's standard error and the exam's 95% interval."""
    width = max(len(row.name) for row in rows)
    lines = [f"{'':{width}}   bits  weight error  output error        KL          perplexity      exam"]
    for row in rows:
        low, high = row.exam_range
        interval = f"({100 * low:.0f} to {high:.0%})"
        lines.append(
            f"{row.name:{width}}  {row.bits:5.2f}  {row.weight_error:12.4f}  {row.output_error:12.4f}  "
            f"{row.kl:.5f} ± {row.noise.kl:.5f}  {row.perplexity:8.3f}  {row.exam:5.0%} {interval}"
        )
    return "\n".join(lines)


def _truth(tokenizer: "PreTrainedTokenizerBase", text: str) -> "torch.Tensor":
    """Return the tokens that `log_probs` predicts: all but the first of each window."""
    import torch

    ids = torch.tensor(tokenizer(text, verbose=False)["input_ids"])
    return torch.cat([piece[1:] for piece in ids.split(WINDOW)])


def standard_error(values: "torch.Tensor") -> float:
    """Return the standard error of the mean of `values` (positions,), whose neighbours are not independent."""
    means = np.array([piece.mean().item() for piece in values.split(64)])
    return float(means.std(ddof=1) / math.sqrt(len(means))) if len(means) > 1 else math.nan
