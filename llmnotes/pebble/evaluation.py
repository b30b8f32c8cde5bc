"""Measuring Pebble: batched generation, the exam, the share of sampled sentences that parse, perplexity."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass

import torch

from llmnotes.pebble.corpus import END, Document
from llmnotes.pebble.grammar import parses, split_sentences
from llmnotes.pebble.tokenizer import EOS, PAD, SPECIAL


def generate(
    model,
    tokenizer,
    prompts: list[str],
    most: int = 14,
    stop: tuple[str, ...] = ("\n", EOS),
    temperature: float = 0.0,
    seed: int = 0,
    batch: int = 64,
) -> list[str]:
    """Continue prompts, greedily or by sampling, to a stop token or ``most`` tokens; equal lengths go together.

    Raises nothing of its own. Special tokens that a prompt spells out are read as such; BOS is put before it once.
    Does not search beams and does not apply a chat template.
    """
    stops = torch.tensor([tokenizer.convert_tokens_to_ids(tokenizer.tokenize(mark)[0]) for mark in stop])
    bos = tokenizer.bos_token_id
    ids = [tokenizer(prompt, add_special_tokens=False)["input_ids"] for prompt in prompts]
    ids = [row if row[:1] == [bos] else [bos, *row] for row in ids]
    order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
    groups: list[list[int]] = []
    for i in order:
        if groups and len(ids[groups[-1][0]]) == len(ids[i]) and len(groups[-1]) < batch:
            groups[-1].append(i)
        else:
            groups.append([i])
    picker = torch.Generator().manual_seed(seed)
    found = [""] * len(ids)
    model.eval()
    with torch.inference_mode():
        for group in groups:
            step, cache = torch.tensor([ids[i] for i in group], device=model.device), None
            done, said = torch.zeros(len(group), dtype=torch.bool), []
            for _ in range(most):
                out = model(input_ids=step, past_key_values=cache, use_cache=True)
                cache, scores = out.past_key_values, out.logits[:, -1].float().cpu()  # (group, vocabulary)
                token = (
                    torch.multinomial((scores / temperature).softmax(-1), 1, generator=picker)[:, 0]
                    if temperature
                    else scores.argmax(-1)
                )
                done |= torch.isin(token, stops)
                said.append(torch.where(done, SPECIAL.index(PAD), token))
                if done.all():
                    break
                step = token[:, None].to(model.device)
            for i, row in zip(group, torch.stack(said, 1).tolist(), strict=True):
                found[i] = tokenizer.decode([t for t in row if t != SPECIAL.index(PAD)])
    return found


def answerer(model, tokenizer, chat: bool = False) -> Callable[[list[str]], list[str]]:
    """A function from prompts to greedy answers, for :func:`llmnotes.pebble.exam.score`."""

    def answer(prompts: list[str]) -> list[str]:
        if not chat:
            return generate(model, tokenizer, prompts)
        texts = [
            tokenizer.apply_chat_template(
                [{"role": "user", "content": prompt}], tokenize=False, add_generation_prompt=True
            )
            for prompt in prompts
        ]
        return generate(model, tokenizer, texts, stop=(END, EOS))

    return answer


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


def document_perplexity(model, tokenizer, documents: tuple[Document, ...]) -> float:
    """exp of the mean negative log-likelihood per token, each document alone after BOS, its EOS counted."""
    eos, loss, tokens = SPECIAL.index(EOS), 0.0, 0
    rows = sorted(([*tokenizer(d.text)["input_ids"], eos] for d in documents), key=len)
    model.eval()
    with torch.inference_mode():
        for start in range(0, len(rows), 32):
            group = rows[start : start + 32]
            width = max(map(len, group))
            ids = torch.tensor([row + [0] * (width - len(row)) for row in group], device=model.device)
            real = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in group], device=model.device)
            scores = model(input_ids=ids).logits[:, :-1].float()  # right padding: causal attention never sees it
            nll = torch.nn.functional.cross_entropy(scores.transpose(1, 2), ids[:, 1:], reduction="none")
            loss += float((nll * real[:, 1:]).sum())
            tokens += int(real[:, 1:].sum())
    return math.exp(loss / tokens)
