"""Let Pebble answer: batched generation, a function from prompts to answers, chances of answers, and perplexity."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from llmnotes.cache_name import cache_name
from llmnotes.pebble.corpus import END, Document
from llmnotes.pebble.question import Question
from llmnotes.pebble.tokenizer import EOS, PAD, SPECIAL

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def generate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: list[str],
    most: int = 14,
    stop: tuple[str, ...] = ("\n", EOS),
    temperature: float = 0.0,
    seed: int = 0,
    batch: int = 64,
) -> list[str]:
    """Return how each prompt continues, up to a stop token or `most` tokens; prompts of equal length go together.

    At temperature 0 the most probable token is taken, otherwise tokens are sampled. Special tokens that a prompt spells
    out are read as such, and BOS is put before it once. Raises nothing of its own. Does not search beams and does not
    apply a chat template.

    >>> from llmnotes.models import open_model
    >>> lm = open_model("pebble", say=lambda line: None)
    >>> generate(lm.model, lm.tokenizer, ["Q: What does the goose say?\\nA:"])
    [' honk.']
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
    name = cache_name()
    with torch.inference_mode():
        for group in groups:
            step, cache = torch.tensor([ids[i] for i in group], device=model.device), None
            done, said = torch.zeros(len(group), dtype=torch.bool), []
            for _ in range(most):
                out = model(input_ids=step, use_cache=True, **{name: cache})
                cache, scores = out[name], out.logits[:, -1].float().cpu()  # (group, vocabulary)
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
                found[i] = str(tokenizer.decode([t for t in row if t != SPECIAL.index(PAD)]))
    return found


def answerer(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, chat: bool = False
) -> Callable[[list[str]], list[str]]:
    """Return a function from prompts to greedy answers, which is what `llmnotes.pebble.exam.score` takes."""

    def answer(prompts: list[str]) -> list[str]:
        if not chat:
            return generate(model, tokenizer, prompts)
        texts = [
            str(
                tokenizer.apply_chat_template(
                    [{"role": "user", "content": prompt}], tokenize=False, add_generation_prompt=True
                )
            )
            for prompt in prompts
        ]
        return generate(model, tokenizer, texts, stop=(END, EOS))

    return answer


def chances(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, questions: Sequence[Question], batch: int = 64
) -> np.ndarray:
    """Return the chance of each right answer, with its full stop, if tokens are drawn at temperature 1, (questions,).

    Their mean is the mark that a model which draws its answers gets on average. It moves where no likeliest token does
    yet, so it tells models apart that greedy answers do not. Raises nothing of its own. Does not count another answer
    that happens to be right, too, in other words.

    >>> from llmnotes.models import open_model
    >>> from llmnotes.pebble import exam
    >>> lm = open_model("pebble", say=lambda line: None)
    >>> bool(chances(lm.model, lm.tokenizer, exam()[:50]).mean() > 0.9)
    True
    """
    rows = [tokenizer(f"{one.prompt} {one.answer}.")["input_ids"] for one in questions]
    starts = [len(tokenizer(one.prompt)["input_ids"]) for one in questions]
    found = np.zeros(len(rows))
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    model.eval()
    with torch.inference_mode():
        for at in range(0, len(order), batch):
            group = order[at : at + batch]
            width = len(rows[group[-1]])
            ids = torch.tensor([rows[i] + [0] * (width - len(rows[i])) for i in group], device=model.device)
            scores = model(input_ids=ids).logits[:, :-1].float().log_softmax(-1)  # padding comes last: nobody sees it
            logs = scores.gather(2, ids[:, 1:, None])[:, :, 0].cpu()  # (group, width - 1)
            for i, row in zip(group, logs, strict=True):
                found[i] = float(row[starts[i] - 1 : len(rows[i]) - 1].sum().exp())
    return found


def document_perplexity(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, documents: tuple[Document, ...]
) -> float:
    """Return the perplexity: exp of the mean loss per token, each document alone after BOS, its EOS counted."""
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
