"""One ruler for every compressed model: what it takes, how far its weights and outputs stray, what it still knows.

`Ruler` reads the original once; each model after that costs one pass over the text and one short exam.
"""

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from llmnotes.errors import NotQuantizable, UnknownName

DOCUMENTS, WINDOW = 40, 256  # of held-out text; tokens that are read together
ACTIVATIONS = 512  # tokens whose activations a layer is tried on
EVERY = 5  # of the exam's questions, each fifth: 100, five in each category


class Noise(NamedTuple):
    """Standard errors that come from the size of text and exam: of KL, of perplexity's change, of the exam."""

    kl: float
    perplexity: float
    exam: float


class Row(NamedTuple):
    """What the ruler says of one model. Errors are relative (0 is equal), KL is in nats per token, exam from 0 to 1."""

    name: str
    bits: float
    weight_error: float
    output_error: float
    kl: float
    perplexity: float
    exam: float
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

    def __init__(self, model, tokenizer, text: str | None = None, questions: Sequence | None = None, seed: int = 0):
        import torch

        from llmnotes.evaluation.metrics import log_probs

        self.model, self.tokenizer = model, tokenizer
        self.text = held_out_text(seed) if text is None else text
        self.questions = _questions(seed) if questions is None else tuple(questions)
        self._scores = log_probs(model, tokenizer, self.text, WINDOW)  # (positions, vocabulary)
        self._truth = _truth(tokenizer, self.text)  # (positions,)
        self._weights = {
            name.removesuffix(".weight"): torch.from_numpy(weight).to(model.device)
            for name, weight in matrices(model, embeddings=True).items()
        }
        ids = torch.tensor(tokenizer(self.text, verbose=False)["input_ids"][:ACTIVATIONS], device=model.device)
        pieces = ids.split(WINDOW)
        self._inputs = _inputs_of_layers(model, [piece for piece in pieces if len(piece) == len(pieces[0])])
        with torch.no_grad():
            layers = dict(model.named_modules())
            self._outputs = {name: layers[name](x) for name, x in self._inputs.items()}

    def measure(self, name: str, compressed, bits: float) -> Row:
        """Return the row of `compressed`, a model whose layers have the original's names; `bits` counts its scales.

        - `weight_error`: ‖W' - W‖ / ‖W‖ over all matrices that changed together. A layer's weights are what it
          answers to the rows of the identity, so layers of any library are understood.
        - `output_error`: the same ratio for what each layer answers to the original's own activations, averaged over
          the layers that changed.
        - `kl`, `perplexity`: as in `llmnotes.evaluation.metrics`, on the ruler's text; `exam`: on its questions.

        Raises `UnknownName` if a layer of the original is missing. Does not count bits: it believes `bits`.
        """
        import torch

        from llmnotes.evaluation.metrics import log_probs

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
            Noise(
                _standard_error(kl),
                perplexity * _standard_error(loss - before),
                math.sqrt(right * (1 - right) / max(1, len(self.questions))),
            ),
        )

    def measure_weights(self, name: str, weights, bits: float) -> Row:
        """Return the row of the original with `weights` in place of its own; see `with_weights`."""
        return self.measure(name, with_weights(self.model, weights), bits)

    def _errors(self, model) -> tuple[float, float]:
        """Return the relative error of the matrices that changed, and that of the outputs of the layers they are in."""
        square, whole, ratios = 0.0, 0.0, []
        layers = dict(model.named_modules())
        for name, original in self._weights.items():
            layer = layers.get(name)
            if layer is None:
                raise UnknownName(f"The compressed model has no layer {name}; give a model of the same architecture.")
            change = (_effective(layer, original) - original).square().sum().item()
            if change:
                square, whole = square + change, whole + original.square().sum().item()
                if name in self._inputs:
                    expected = self._outputs[name]
                    ratios.append(((layer(self._inputs[name]) - expected).norm() / expected.norm()).item())
        return math.sqrt(square / whole) if whole else 0.0, float(np.mean(ratios)) if ratios else 0.0

    def _exam(self, model) -> float:
        if not self.questions:
            return math.nan
        from llmnotes.pebble import score
        from llmnotes.pebble.answering import answerer

        return score(answerer(model, self.tokenizer), self.questions).accuracy


def matrices(model, embeddings: bool = False) -> dict[str, np.ndarray]:
    """Return the weight of every linear layer but the head by its name, float32 (outputs, inputs); copies.

    With `embeddings` also the table of token vectors, (vocabulary, width), last. These are the tensors that are
    compressed; norms stay as they are.

    >>> from llmnotes.models import open_model
    >>> len(matrices(open_model("pebble", say=lambda line: None).model))
    28
    """
    import torch

    table = model.get_input_embeddings()
    head = model.get_output_embeddings()
    found = {
        f"{name}.weight": layer.weight.detach().float().cpu().numpy().copy()
        for name, layer in model.named_modules()
        if isinstance(layer, torch.nn.Linear) and layer is not head
    }
    if embeddings:
        name = next(name for name, layer in model.named_modules() if layer is table)
        found[f"{name}.weight"] = table.weight.detach().float().cpu().numpy().copy()
    return found


def with_weights(model, weights: Mapping[str, np.ndarray] | Callable[[np.ndarray], np.ndarray]):
    """Return a copy of `model` with other numbers in some of its matrices.

    `weights` maps names of parameters to arrays of the same shape, or is a function that is applied to each of
    `matrices(model)`. Raises `UnknownName` for a name that the model does not have, `NotQuantizable` for an array of
    another shape or with numbers that are not finite. Does not touch `model`.

    >>> from llmnotes.models import open_model
    >>> lm = open_model("pebble", say=lambda line: None)
    >>> zeros = with_weights(lm.model, lambda weight: 0 * weight)
    >>> bool(zeros.model.layers[0].mlp.up_proj.weight.any())
    False
    """
    import torch

    if callable(weights):
        weights = {name: weights(weight) for name, weight in matrices(model).items()}
    other = copy.deepcopy(model)
    targets = dict(other.named_parameters())
    for name, weight in weights.items():
        if name not in targets:
            raise UnknownName(f"The model has no weights named {name}; matrices(model) shows the names.")
        weight = np.array(weight, np.float32)
        if weight.shape != tuple(targets[name].shape):
            raise NotQuantizable(
                f"{name} has the shape {tuple(targets[name].shape)}, and the new weights {weight.shape}; give the same."
            )
        if not np.isfinite(weight).all():
            raise NotQuantizable(f"The new weights of {name} are not all finite; look at what made them.")
        with torch.no_grad():
            targets[name].copy_(torch.from_numpy(weight))
    return other


def table(rows: Sequence[Row]) -> str:
    """Return rows as lines of text, one for each model, with KL's and the exam's standard errors beside them."""
    width = max(len(row.name) for row in rows)
    lines = [f"{'':{width}}   bits  weight error  output error        KL          perplexity      exam"]
    for row in rows:
        lines.append(
            f"{row.name:{width}}  {row.bits:5.2f}  {row.weight_error:12.4f}  {row.output_error:12.4f}  "
            f"{row.kl:.5f} ± {row.noise.kl:.5f}  {row.perplexity:8.3f}  {row.exam:5.0%} ± {row.noise.exam:.0%}"
        )
    return "\n".join(lines)


def held_out_text(seed: int = 0, count: int = DOCUMENTS) -> str:
    """Return Pebble's ruler: `count` stories, statements and questions of which none was a training document.

    Every document stands between the marks that open and close it, as in training. A seed always gives the same text.
    """
    from llmnotes.pebble.corpus import documents
    from llmnotes.pebble.tokenizer import BOS, EOS

    pool = documents(8 * count, seed=900 + seed)  # training has the seed 0; short documents might be in it by chance
    chosen = [document.text for document in pool if document.kind != "chat" and len(document.text) > 150][:count]
    return (EOS + BOS).join(chosen) + EOS


def own_text_perplexity(model, tokenizer, seed: int = 0, count: int = 18, tokens: int = 150) -> float:
    """Return the perplexity of a model like Pebble on stories that it wrote itself: a mistake, kept to be looked at.

    `count` stories are sampled at temperature 1 and each is read by itself. The result says how sure a model is of
    itself, not whether it is right: the text differs from model to model, so nothing is compared with anything.

    >>> from llmnotes.models import open_model
    >>> lm = open_model("pebble", say=lambda line: None)
    >>> own_text_perplexity(lm.model, lm.tokenizer, count=2, tokens=20) > 1
    True
    """
    from llmnotes.pebble.answering import document_perplexity, generate
    from llmnotes.pebble.corpus import Document
    from llmnotes.pebble.tokenizer import EOS

    starts = ["Once upon a time", "In the town of", "Everybody in", "Long ago", "There was once", "On a quiet"]
    prompts = [starts[i % len(starts)] for i in range(count)]
    texts = generate(model, tokenizer, prompts, most=tokens, stop=(EOS,), temperature=1.0, seed=seed)
    stories = (Document("story", prompt + text) for prompt, text in zip(prompts, texts, strict=True))
    return document_perplexity(model, tokenizer, tuple(stories))


def _questions(seed: int) -> tuple:
    from llmnotes.pebble import exam

    return exam(seed=seed)[::EVERY]


def _truth(tokenizer, text: str):
    """Return the tokens that `log_probs` predicts: all but the first of each window."""
    import torch

    ids = torch.tensor(tokenizer(text, verbose=False)["input_ids"])
    return torch.cat([piece[1:] for piece in ids.split(WINDOW)])


def _standard_error(values) -> float:
    """Return the standard error of the mean of `values` (positions,), whose neighbours are not independent."""
    means = np.array([piece.mean().item() for piece in values.split(64)])
    return float(means.std(ddof=1) / math.sqrt(len(means))) if len(means) > 1 else math.nan


def _inputs_of_layers(model, pieces) -> dict:
    """Return what each linear layer but the head gets to read: (tokens, inputs)."""
    import torch

    found, head, handles = {}, model.get_output_embeddings(), []
    for name, layer in model.named_modules():
        if isinstance(layer, torch.nn.Linear) and layer is not head:
            handles.append(layer.register_forward_pre_hook(lambda _, args, name=name: found.update({name: args[0]})))
    try:
        with torch.no_grad():
            model(torch.stack(list(pieces)))
    finally:
        for handle in handles:
            handle.remove()
    return {name: x.flatten(0, 1) for name, x in found.items()}


def _effective(layer, original):
    """Return the weights (outputs, inputs) that a layer behaves as if it had, whatever it stores."""
    import torch

    rows, columns = original.shape
    if isinstance(layer, torch.nn.Embedding):
        return layer(torch.arange(rows, device=original.device)).float()
    answers = layer(torch.eye(columns, device=original.device)).float()
    if getattr(layer, "bias", None) is not None:
        answers -= layer(torch.zeros(1, columns, device=original.device)).float()
    return answers.T
