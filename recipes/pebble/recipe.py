"""The whole recipe: corpus, tokenizer, pretraining, chat tuning, evaluation, model card. Run as a program only.

One uninterrupted or resumed run gives the same weights on the same machine with the same number of threads; another
machine gives others. Chat tuning begins with Pebble as it is written, in bfloat16, so it can be done again alone.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, LlamaConfig, LlamaForCausalLM

from llmnotes.pebble import VARIANTS, WEIGHTS
from llmnotes.pebble.answering import answerer, document_perplexity
from llmnotes.pebble.corpus import DOCUMENTS, corpus_sha256, documents, held_out
from llmnotes.pebble.exam import exam, score
from llmnotes.pebble.reading import reading_exam, reading_score, reading_text
from llmnotes.pebble.tokenizer import BOS, CONTEXT, END, EOS, PAD, SPECIAL, VOCABULARY, save_tokenizer, train_tokenizer
from recipes.pebble import card
from recipes.pebble.sampling import sample_sentences
from recipes.pebble.training import Phase, pack, train


@dataclass(frozen=True)
class Recipe:
    """Every number of the recipe; a smoke test shrinks the steps and the documents."""

    seed: int = 0
    documents: int = DOCUMENTS
    chat_documents: int = 48_000
    readings: int = 112_000
    tokenizer_documents: int = 30_000
    layers: int = 4
    length: int = 256
    batch: int = 4
    steps: int = 10_000
    long_steps: int = 1_000  # the last steps of pretraining, with rows of the full context
    chat_batch: int = 8
    short_steps: int = 2_000  # the first steps of chat tuning, with passages of one or two sentences
    chat_steps: int = 7_000
    rate: float = 1.5e-3
    chat_rate: float = 2e-3
    chat_decay: float = 0.5
    every: int = 500
    temperature: float = 1.0
    sentences: int = 500


class Clock:
    """How long a training has taken, over all its runs: kept in a file at each checkpoint."""

    def __init__(self, file: Path) -> None:
        self.file = file
        before = json.loads(file.read_text(encoding="utf-8")) if file.exists() else 0.0
        self.began = time.monotonic() - before

    def seconds(self) -> float:
        """The seconds until now."""
        return time.monotonic() - self.began

    def watch(self, step: int, loss: float) -> None:
        """Keep the time and print where the training is."""
        self.file.write_text(json.dumps(self.seconds()), encoding="utf-8")
        print(f"step {step} loss {loss:.4f} {self.seconds():.0f} s", flush=True)


def _config(recipe: Recipe, stops: list[int]) -> tuple[LlamaConfig, GenerationConfig]:
    bos, eos, pad = (SPECIAL.index(mark) for mark in (BOS, EOS, PAD))
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=256,
        intermediate_size=768,
        num_hidden_layers=recipe.layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=64,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        bos_token_id=bos,
        eos_token_id=stops[0],
        pad_token_id=pad,
    )
    return config, GenerationConfig(bos_token_id=bos, eos_token_id=stops, pad_token_id=pad)


def _export(model, tokenizer, recipe: Recipe, folder: Path, chat: bool) -> None:
    """Write one variant beside its place and rename it; weights in bfloat16."""
    fresh = folder.with_name(folder.name + ".tmp")
    shutil.rmtree(fresh, ignore_errors=True)
    stops = [SPECIAL.index(END), SPECIAL.index(EOS)] if chat else [SPECIAL.index(EOS)]
    config, generation = _config(recipe, stops)
    copy = LlamaForCausalLM(config).bfloat16()
    copy.load_state_dict({name: value.to("cpu", torch.bfloat16) for name, value in model.state_dict().items()})
    copy.generation_config = generation
    copy.save_pretrained(fresh)
    save_tokenizer(tokenizer, fresh, END if chat else EOS)
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(fresh, folder)


def measure(folder: Path, recipe: Recipe, chat: bool) -> dict:
    """The figures of one variant as it lies on disk: exams, parse rate, perplexity."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    answer = answerer(model, tokenizer, chat)
    seen = score(answer, exam(), chat)
    sample = sample_sentences(model, tokenizer, recipe.sentences, recipe.temperature, recipe.seed)
    return {
        "exam": seen.accuracy,
        "exam_by_category": seen.by_category,
        "exam_hidden": score(answer, exam(hidden=True), chat).accuracy,
        "exam_fresh_cores": score(answer, exam(fresh=True), chat).accuracy,
        "reading": _reading(answer) if chat else None,
        "perplexity": document_perplexity(model, tokenizer, held_out(seed=recipe.seed)),
        "parse_rate": sample.share,
        "sampled_sentences": len(sample.sentences),
        "temperature": recipe.temperature,
        "strange_sentences": list(sample.strange[:5]),
        "parameters": sum(p.numel() for p in model.parameters()),
        "megabytes": (folder / "model.safetensors").stat().st_size / 1e6,
    }


def _reading(answer: Callable[[list[str]], list[str]]) -> dict[str, float]:
    """The share of right answers about passages: told and not told, with training's wordings and with new ones."""
    found = {}
    for label, kept_back in (("", False), (", wordings that training never shows", True)):
        told, not_told = reading_score(answer, reading_exam(kept_back=kept_back))
        found |= {f"the passage tells it{label}": told, f"it does not{label}": not_told}
    return found


def run(recipe: Recipe, out: Path, install: bool = False, chat_only: bool = False) -> dict:
    """Train both variants into ``out``, measure them, write the card; ``install`` then replaces the packaged weights.

    With `chat_only` Pebble is the packaged one, to the byte, and only pebble-chat is trained. Goes on from the
    checkpoints it finds in ``out``. Returns the card's figures. Raises ValueError when a checkpoint there belongs to
    another plan.
    """
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(recipe.seed)
    if chat_only:
        shutil.copytree(WEIGHTS / "pebble", out / "pebble", dirs_exist_ok=True)
        card_before = json.loads((WEIGHTS / "card.json").read_text(encoding="utf-8"))
        before = {name: card_before[name] for name in ("corpus_sha256", "training_tokens", "pretraining_seconds")}
    else:
        before = _pretrain(recipe, out)
    chat_tokens, seconds = _tune(recipe, out)
    figures = {
        "recipe": asdict(recipe),
        **before,
        "chat_tokens": chat_tokens,
        "chat_seconds": seconds,
        "threads": torch.get_num_threads(),
        "device": _device(),
        "torch": torch.__version__.split("+")[0],
        **{name: measure(out / name, recipe, chat=name == "pebble-chat") for name in VARIANTS},
    }
    card.write(figures, card.text(figures), out)
    if install:
        _install(out)
    return figures


def _device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def _pretrain(recipe: Recipe, out: Path) -> dict:
    """Train Pebble from random weights into `out`/pebble; return what the card says of it."""
    docs = documents(recipe.documents, recipe.seed)
    plain = [re.sub(r"<\|\w+\|>", "", document.text) for document in docs[: recipe.tokenizer_documents]]
    tokenizer = train_tokenizer(plain)
    encoded = [e.ids for e in tokenizer.encode_batch([d.text for d in docs], add_special_tokens=False)]
    cut = len(encoded) * recipe.steps // (recipe.steps + 2 * recipe.long_steps)
    phases = [
        Phase("pretraining", *pack(encoded[:cut], recipe.length), recipe.batch, recipe.steps),
        Phase("long rows", *pack(encoded[cut:], CONTEXT), max(1, recipe.batch // 2), recipe.long_steps),
    ]
    config, _ = _config(recipe, [SPECIAL.index(EOS)])
    model = LlamaForCausalLM(config)
    nn.Module.to(model, _device())
    clock = Clock(out / "pretraining-seconds.json")
    checkpoint, every, seed = out / "pretraining.pt", recipe.every, recipe.seed
    tokens = train(model, phases, recipe.rate, checkpoint, "pretraining", every=every, seed=seed, watch=clock.watch)
    _export(model, tokenizer, recipe, out / "pebble", chat=False)
    return {
        "corpus_sha256": corpus_sha256(docs),
        "training_tokens": tokens,
        "pretraining_seconds": round(clock.seconds()),
    }


def _tune(recipe: Recipe, out: Path) -> tuple[int, int]:
    """Teach `out`/pebble to chat and to read, into `out`/pebble-chat; return the tokens seen and the seconds.

    Short passages come first: what to look for is found sooner where there is little to look at.
    """
    tokenizer = Tokenizer.from_file(str(out / "pebble" / "tokenizer.json"))
    model = AutoModelForCausalLM.from_pretrained(out / "pebble", dtype=torch.float32)
    nn.Module.to(model, _device())
    rng = random.Random(f"pebble chat {recipe.seed}")
    talks = [document.text for document in documents(recipe.chat_documents, recipe.seed, chat_only=True)]
    steps = {"short passages": recipe.short_steps, "passages": recipe.chat_steps}
    total = sum(steps.values())
    phases, at = [], 0
    for name, number in steps.items():
        share = len(talks) * number // total
        texts = talks[at : at + share]
        texts += [reading_text(rng, 2 if "short" in name else 6) for _ in range(recipe.readings * number // total)]
        rng.shuffle(texts)
        encoded = [e.ids for e in tokenizer.encode_batch(texts, add_special_tokens=False)]
        phases.append(Phase(name, *pack(encoded, recipe.length), recipe.chat_batch, number))
        at += share
    clock = Clock(out / "chat-seconds.json")
    tokens = train(
        model,
        phases,
        recipe.chat_rate,
        out / "chat.pt",
        "chat tuning",
        decay=recipe.chat_decay,
        every=recipe.every,
        seed=recipe.seed,
        watch=clock.watch,
    )
    _export(model, tokenizer, recipe, out / "pebble-chat", chat=True)
    return tokens, round(clock.seconds())


def _install(out: Path) -> None:
    """Replace the packaged weights and card by those in `out`."""
    WEIGHTS.mkdir(exist_ok=True)
    for name in (*VARIANTS, "card.json", "MODEL_CARD.md"):
        source, target = out / name, WEIGHTS / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, WEIGHTS / (name + ".tmp"))
        shutil.rmtree(target) if target.is_dir() else target.unlink(missing_ok=True)
        os.replace(WEIGHTS / (name + ".tmp"), target)
