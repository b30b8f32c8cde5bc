"""The whole recipe: corpus, tokenizer, pretraining, chat tuning, evaluation, model card. Run as a program only.

One uninterrupted or resumed run gives the same weights on the same machine with the same number of threads.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, LlamaConfig, LlamaForCausalLM

from llmnotes.pebble import VARIANTS, WEIGHTS
from llmnotes.pebble.answering import answerer, document_perplexity
from llmnotes.pebble.corpus import DOCUMENTS, corpus_sha256, documents, held_out
from llmnotes.pebble.exam import exam, score
from llmnotes.pebble.tokenizer import BOS, CONTEXT, END, EOS, PAD, SPECIAL, VOCABULARY, save_tokenizer, train_tokenizer
from recipes.pebble import card
from recipes.pebble.sampling import sample_sentences
from recipes.pebble.training import Phase, pack, train


@dataclass(frozen=True)
class Recipe:
    """Every number of the recipe; a smoke test shrinks ``steps``, ``chat_steps``, ``long_steps`` and ``documents``."""

    seed: int = 0
    documents: int = DOCUMENTS
    chat_documents: int = 24_000
    tokenizer_documents: int = 30_000
    layers: int = 4
    length: int = 256
    batch: int = 4
    steps: int = 10_000
    long_steps: int = 1_000  # the last steps of pretraining, with rows of the full context
    chat_steps: int = 1_000
    rate: float = 1.5e-3
    chat_rate: float = 2e-4
    every: int = 500
    temperature: float = 1.0
    sentences: int = 500


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
        "perplexity": document_perplexity(model, tokenizer, held_out(seed=recipe.seed)),
        "parse_rate": sample.share,
        "sampled_sentences": len(sample.sentences),
        "temperature": recipe.temperature,
        "strange_sentences": list(sample.strange[:5]),
        "parameters": sum(p.numel() for p in model.parameters()),
        "megabytes": (folder / "model.safetensors").stat().st_size / 1e6,
    }


def run(recipe: Recipe, out: Path, install: bool = False) -> dict:
    """Train both variants into ``out``, measure them, write the card; ``install`` then replaces the packaged weights.

    Goes on from the checkpoints it finds in ``out``. Returns the card's figures. Raises ValueError when a checkpoint
    there belongs to another plan.
    """
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(recipe.seed)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    timer = out / "seconds.json"
    began = time.monotonic() - (json.loads(timer.read_text(encoding="utf-8")) if timer.exists() else 0.0)

    def watch(step: int, loss: float) -> None:
        seconds = time.monotonic() - began
        timer.write_text(json.dumps(seconds), encoding="utf-8")
        print(f"step {step} loss {loss:.4f} {seconds:.0f} s", flush=True)

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
    nn.Module.to(model, device)
    tokens = train(
        model,
        phases,
        recipe.rate,
        out / "pretraining.pt",
        "pretraining",
        every=recipe.every,
        seed=recipe.seed,
        watch=watch,
    )
    _export(model, tokenizer, recipe, out / "pebble", chat=False)

    talk = documents(recipe.chat_documents, recipe.seed, chat_only=True)
    spoken = [e.ids for e in tokenizer.encode_batch([d.text for d in talk], add_special_tokens=False)]
    chat_phase = Phase("chat", *pack(spoken, recipe.length, chat_loss=True), recipe.batch, recipe.chat_steps)
    chat_tokens = train(
        model,
        [chat_phase],
        recipe.chat_rate,
        out / "chat.pt",
        "chat tuning",
        decay=0.9,
        every=recipe.every,
        seed=recipe.seed,
        watch=watch,
    )
    _export(model, tokenizer, recipe, out / "pebble-chat", chat=True)
    seconds = time.monotonic() - began

    figures = {
        "recipe": asdict(recipe),
        "corpus_sha256": corpus_sha256(docs),
        "training_tokens": tokens,
        "chat_tokens": chat_tokens,
        "seconds": round(seconds),
        "threads": torch.get_num_threads(),
        "device": device,
        "torch": torch.__version__.split("+")[0],
        **{name: measure(out / name, recipe, chat=name == "pebble-chat") for name in VARIANTS},
    }
    card.write(figures, card.text(figures), out)
    if install:
        WEIGHTS.mkdir(exist_ok=True)
        for name in (*VARIANTS, "card.json", "MODEL_CARD.md"):
            source, target = out / name, WEIGHTS / name
            (shutil.copytree if source.is_dir() else shutil.copy)(source, WEIGHTS / (name + ".tmp"))
            shutil.rmtree(target) if target.is_dir() else target.unlink(missing_ok=True)
            os.replace(WEIGHTS / (name + ".tmp"), target)
    return figures
