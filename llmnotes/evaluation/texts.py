"""The texts and questions that a model is measured on: Pebble's held-out documents and its exam."""

from typing import TYPE_CHECKING

from llmnotes.pebble import Question, exam

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

DOCUMENTS = 40  # of held-out text
EVERY = 5  # of the exam's questions, each fifth: 100, five in each category


def held_out_text(seed: int = 0, count: int = DOCUMENTS) -> str:
    """Return a text to measure Pebble on: `count` stories, statements and questions that it was not trained on.

    Each document stands between the tokens that open and close it, as in training. A seed always gives the same text.

    >>> from llmnotes.pebble.tokenizer import EOS
    >>> held_out_text(count=1).endswith(EOS)
    True
    """
    from llmnotes.pebble.corpus import documents
    from llmnotes.pebble.tokenizer import BOS, EOS

    pool = documents(8 * count, seed=900 + seed)  # training has the seed 0; short documents might be in it by chance
    chosen = [document.text for document in pool if document.kind != "chat" and len(document.text) > 150][:count]
    return (EOS + BOS).join(chosen) + EOS


def own_text_perplexity(
    model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", seed: int = 0, count: int = 18, tokens: int = 150
) -> float:
    """Return the perplexity of a model like Pebble on stories that it wrote itself: a mistake, kept as an example.

    `count` stories are sampled at temperature 1 and each is read by itself. The result says how sure a model is of
    itself, not whether it is right. The text differs from model to model, so two results cannot be compared.

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


def questions(seed: int = 0) -> tuple[Question, ...]:
    """Return 100 of the exam's questions, five in each category."""
    return tuple(exam(seed=seed)[::EVERY])
