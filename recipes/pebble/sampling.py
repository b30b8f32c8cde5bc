"""Sampled stories, and the share of their sentences that the grammar of Pebble's world can parse."""

from __future__ import annotations

import random
from dataclasses import dataclass

from llmnotes.pebble.answering import generate
from llmnotes.pebble.grammar import parses, split_sentences
from llmnotes.pebble.tokenizer import EOS


@dataclass(frozen=True)
class Sample:
    """Sampled text: the share of its sentences that parse (0 to 1), the sentences, and those that do not parse."""

    share: float
    sentences: tuple[str, ...]
    strange: tuple[str, ...]


def sample_sentences(model, tokenizer, count: int = 500, temperature: float = 1.0, seed: int = 0) -> Sample:
    """Sample whole stories (from BOS and "Once upon a time" or a story's other first words) until ``count`` sentences.

    The last sentence of a text that was cut off at 220 tokens is left out. No top-k, no top-p.
    """
    starts = ["Once upon a time", "In the town of", "Everybody in", "Long ago", "There was once", "On a quiet"]
    rng, sentences, round_ = random.Random(seed), [], 0
    while len(sentences) < count and round_ < 20:
        prompts = sorted(rng.choice(starts) for _ in range(96))
        texts = generate(
            model, tokenizer, prompts, most=220, stop=(EOS,), temperature=temperature, seed=seed + round_, batch=96
        )
        for prompt, text in zip(prompts, texts, strict=True):
            pieces = split_sentences(prompt + text)
            sentences += pieces if text.rstrip().endswith((".", "!", "?", '"')) else pieces[:-1]
        round_ += 1
    chosen = tuple(sentences[:count])
    return Sample(sum(map(parses, chosen)) / len(chosen), chosen, tuple(s for s in chosen if not parses(s)))
