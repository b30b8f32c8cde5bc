"""What a model that was changed still says like the original: the exam, the likeliest next tokens, ten stories."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from llmnotes.evaluation.metrics import log_probs
from llmnotes.evaluation.texts import held_out_text
from llmnotes.evaluation.weights import inputs_of_layers
from llmnotes.pebble.exam import exam, score

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

OPENINGS = (
    "Once upon a time there",
    "One day",
    "There was once",
    "In the village of",
    "Long ago",
    "Every morning",
    "On Monday",
    "The baker",
    "My friend",
    "Yesterday",
)
TOKENS = 16  # of a story
ANSWER = 10  # tokens at most, of an answer in the exam
WINDOW = 256  # tokens that are read together


class Mark(NamedTuple):
    """The share of right answers in the exam, from 0 to 1, and its standard error."""

    exam: float
    noise: float


class Result(NamedTuple):
    """What a model did: the share of right answers and its standard error, the share of other tokens, its stories."""

    exam: float
    noise: float
    other: float
    stories: tuple[str, ...]


class Examiner:
    """Compares changed Pebbles with the original, which it reads once; `measure` returns the `Result` of a model.

    The exam has 500 questions. The text is 40 documents that the model was not trained on, and at each of its positions
    we look at the token that is most likely to come next: `other` is how often that is not the original's. `seed`
    chooses the questions and the text. It knows Pebble's exam and world only; for another model take
    `llmnotes.evaluation.Ruler`.

    >>> from llmnotes.models import open_model
    >>> lm = open_model("pebble", say=lambda line: None)
    >>> Examiner(lm.model, lm.tokenizer).changed(lm.model).any().item()
    False
    """

    def __init__(self, model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", seed: int = 0) -> None:
        self.tokenizer, self.questions, self.text = tokenizer, exam(seed=seed), held_out_text(seed)
        self.chances = log_probs(model, tokenizer, self.text, WINDOW).exp()  # (positions, tokens)
        self.picks = self.chances.argmax(-1)  # (positions,)

    def measure(self, model: "PreTrainedModel") -> Result:
        """Return the exam, its standard error, the share of other tokens, and the stories of a model."""
        from llmnotes.pebble.answering import generate
        from llmnotes.pebble.tokenizer import EOS

        stories = generate(model, self.tokenizer, list(OPENINGS), most=TOKENS, stop=(EOS,))
        return Result(*self.mark(model), float(self.changed(model).float().mean()), tuple(stories))

    def mark(self, model: "PreTrainedModel") -> Mark:
        """Return the share of right answers of a model and its standard error."""
        from llmnotes.pebble.answering import generate

        def answer(prompts: list[str]) -> list[str]:
            return generate(model, self.tokenizer, prompts, most=ANSWER)

        right = score(answer, self.questions).accuracy
        return Mark(right, math.sqrt(right * (1 - right) / len(self.questions)))

    def changed(self, model: "PreTrainedModel") -> "torch.Tensor":
        """Return for each position of the text whether the model's most likely token is another one, (positions,)."""
        return log_probs(model, self.tokenizer, self.text, WINDOW).argmax(-1) != self.picks

    def lead(self) -> "torch.Tensor":
        """Return how far the original's most likely token is ahead of the second, in chance, (positions,)."""
        first, second = self.chances.topk(2).values.unbind(-1)
        return first - second

    def next_tokens(
        self, prompt: str, models: Mapping[str, "PreTrainedModel"], count: int = 3
    ) -> tuple[list[str], dict[str, np.ndarray]]:
        """Return the first model's likeliest next tokens, and {name: their chances in that model}."""
        import torch

        ids, chances = torch.tensor([self.tokenizer(prompt)["input_ids"]]), {}
        for name, model in models.items():
            with torch.no_grad():
                chances[name] = model(ids).logits[0, -1].float().softmax(-1)
        best = next(iter(chances.values())).topk(count).indices
        tokens = [str(self.tokenizer.decode([int(i)])) for i in best]
        return tokens, {name: some[best].numpy() for name, some in chances.items()}


def inputs_of(
    model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", name: str, seed: int = 0, most: int | None = None
) -> np.ndarray:
    """Return what the layer `name` of a model is given while the model reads held-out text, (tokens, inputs).

    The text is read in windows of 256 tokens; what is left over at its end, and what comes after `most` tokens, is not.

    >>> from llmnotes.models import open_model
    >>> lm = open_model("pebble", say=lambda line: None)
    >>> inputs_of(lm.model, lm.tokenizer, "model.layers.3.mlp.down_proj", most=512).shape
    (512, 768)
    """
    import torch

    ids = torch.tensor(tokenizer(held_out_text(seed), verbose=False)["input_ids"][:most])
    pieces = [piece for piece in ids.split(WINDOW) if len(piece) == WINDOW]
    return inputs_of_layers(model, pieces)[name].numpy()
