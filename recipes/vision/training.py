"""How the small LLaVA learns: pictures with captions, then the projector alone, then the language model beside it.

Each stage leaves its file in the folder and is not run again while that is there.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.nn import functional
from tqdm.auto import tqdm

from llmnotes.finetuning import adapter_files, lora, token_rows
from llmnotes.finetuning.data import IGNORE
from llmnotes.finetuning.train import Plan
from llmnotes.formats.safe_write import new_file
from llmnotes.formats.safetensors import write_safetensors
from llmnotes.pebble.lessons import rehearsal
from llmnotes.training import adamw, optimize
from llmnotes.vision import opening, parts
from llmnotes.vision.pictures import DESCRIBE, caption, combinations, describe, questions
from recipes.precision import autocast

TARGETS = r"model\.language_model\..*_proj"


@dataclass(frozen=True)
class Recipe:
    """Every number of the training; a smoke test shrinks the steps."""

    seed: int = 0
    encoder: Plan = Plan(steps=750, learning_rate=1e-3, batch_size=128, warmup_steps=50, schedule="cosine")
    projector: Plan = Plan(steps=800, learning_rate=2e-3, batch_size=16, warmup_steps=20, schedule="cosine")
    language: Plan = Plan(steps=900, learning_rate=1e-3, batch_size=12, warmup_steps=20, schedule="cosine")
    rank: int = 8
    rehearsed: int = 6  # rows beside each batch of the last stage: old questions, without a picture


def run(recipe: Recipe, folder: Path) -> dict[str, float]:
    """Train all stages that are not in `folder` yet, and return the seconds that each took.

    Raises `TrainingFailed` where a loss is no number any more. Does not measure: see `card`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    stages = {"encoder": (opening.ENCODER, train_encoder), "projector": ("projector_1.safetensors", train_projector)}
    stages["language"] = (opening.ADAPTER, train_language)
    seconds = {}
    for name, (file, train) in stages.items():
        timer = folder / f"{name}_seconds.json"
        if not (folder / file).exists():
            for left in (timer, folder / "projector_2.safetensors" if name == "language" else timer):
                left.unlink(missing_ok=True)
            started = time.monotonic()
            train(recipe, folder)
            with new_file(timer) as out:
                out.write(json.dumps(round(time.monotonic() - started)).encode())
        seconds[name] = json.loads(timer.read_text(encoding="utf-8")) if timer.exists() else 0
    return seconds


def train_encoder(recipe: Recipe, folder: Path) -> None:
    """Train CLIP and write it: in each batch, every picture has to find its caption, and every caption its picture.

    The pictures of a batch show different combinations, so that exactly one caption is true of each; many differ in
    a single word, which is what makes the encoder look for counts and places. (Radford et al., 2021, figure 3.)
    """
    plan, shown = recipe.encoder, combinations()[0]
    clip, tokenizer = parts.new_encoder(seed=recipe.seed).train(), parts.tokenizer(image=False)
    rng, truth = random.Random(f"encoder {recipe.seed}"), torch.arange(plan.batch_size)

    def losses() -> Iterator[torch.Tensor]:
        while True:
            some = rng.sample(shown, plan.batch_size)
            texts = parts.read_captions([caption(scene, rng) for scene in some], tokenizer)
            seen = parts.scaled(parts.pixels(some, rng))
            with autocast("cpu"):
                scores = clip(pixel_values=seen, **texts).logits_per_image.float()  # (pictures, captions)
            yield (functional.cross_entropy(scores, truth) + functional.cross_entropy(scores.T, truth)) / 2

    fit(clip, plan, losses(), "encoder")
    write_tensors(folder / opening.ENCODER, clip.state_dict().items())


def train_projector(recipe: Recipe, folder: Path) -> None:
    """Train the projector between the frozen encoder and the frozen language model, and write it (stage 1).

    (Liu et al., 2023, section 4.2; there it learns from captions alone, here from questions as well.)
    """
    model, processor = opening.assemble(0, folder)
    model.model.multi_modal_projector.requires_grad_(True)
    rng = random.Random(f"projector {recipe.seed}")
    fit(model, recipe.projector, conversation_losses(model, processor, recipe.projector, rng), "projector")
    write_tensors(folder / "projector_1.safetensors", model.model.multi_modal_projector.state_dict().items())


def train_language(recipe: Recipe, folder: Path) -> None:
    """Train the projector further, and LoRA beside the language model's layers, and write both (stage 2).

    Rows of the embedding learn only for tokens of answers that Pebble's training hardly saw. The encoder is frozen.
    """
    model, processor = opening.assemble(1, folder)
    rng = random.Random(f"language {recipe.seed}")
    tokens = token_rows.untrained(model, answer_tokens(processor.tokenizer))
    config = lora.LoRA(r=recipe.rank, alpha=2 * recipe.rank, target_modules=TARGETS, tokens=tokens)
    lora.attach(model, config, seed=recipe.seed)
    model.model.multi_modal_projector.requires_grad_(True)
    old = [talk(line["messages"]) for line in rehearsal(20_000, recipe.seed)] if recipe.rehearsed else []
    losses = conversation_losses(model, processor, recipe.language, rng, old, recipe.rehearsed)
    fit(model, recipe.language, losses, "language model")
    write_tensors(folder / "projector_2.safetensors", model.model.multi_modal_projector.state_dict().items())
    for _, layer in lora.layers(model):
        layer.adapters.bfloat16()
    adapter_files.save(model, folder / opening.ADAPTER)


def talk(messages: list[dict]) -> list[tuple[str, str]]:
    """Return a conversation of Pebble's lessons as (question, answer) pairs."""
    said = [message["content"] for message in messages]
    return list(zip(said[::2], said[1::2], strict=True))


def conversation(scene, rng: random.Random) -> list[tuple[str, str]]:
    """Return what is asked about one picture and answered, in one conversation: every kind of question once.

    Half of the conversations begin with the request to describe the picture.
    """
    asked = [(question, f"{answer}.") for _, question, answer in questions(scene, rng)]
    return [(DESCRIBE, describe(scene)), *asked] if rng.random() < 0.5 else asked


def answer_tokens(tokenizer) -> set[int]:
    """Return the ids of all tokens that answers about pictures are made of."""
    return {
        token
        for scene in combinations()[0]
        for _, answer in [(DESCRIBE, describe(scene)), *[(q, f"{a}.") for _, q, a in questions(scene)]]
        for token in tokenizer(f" {answer}", add_special_tokens=False)["input_ids"]
    }


def encode(pairs: list[tuple[str, str]], tokenizer, picture: bool) -> tuple[list[int], list[int]]:
    """Return a conversation's (ids, labels): the loss falls on the answers and on the token that ends each."""
    ids, labels = [tokenizer.bos_token_id], [IGNORE]
    for place, (question, answer) in enumerate(pairs):
        seen = parts.IMAGE * parts.TOKENS if picture and place == 0 else ""
        for text, learned in ((f"<|user|>{seen} {question}<|end|><|assistant|>", False), (f" {answer}<|end|>", True)):
            new = tokenizer(text, add_special_tokens=False)["input_ids"]
            ids += new
            labels += new if learned else [IGNORE] * len(new)
    return ids, labels


def features(model, images: torch.Tensor) -> torch.Tensor:
    """Return what the projector sees of pictures: the encoder's last layer but one, (pictures, patches, width).

    The first place, that of the class token, is left out.
    """
    with torch.no_grad():
        seen = model.model.vision_tower(pixel_values=images, output_hidden_states=True)
    return seen.hidden_states[parts.LAYER][:, 1:]


def splice(model, ids: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
    """Return the embeddings of `ids` (rows, tokens), with the projected `features` where the picture's tokens stand.

    This is what `LlavaForConditionalGeneration` does with `pixel_values`: (rows, tokens, dim).
    """
    words = model.get_input_embeddings()(ids)
    pictures = model.model.multi_modal_projector(seen).to(words.dtype)
    return words.masked_scatter((ids == model.config.image_token_id)[..., None], pictures)


def logits(model, ids: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
    """Return the logits (rows, tokens, vocabulary) of texts with pictures in them, padded on the right."""
    hidden = model.model.language_model(inputs_embeds=splice(model, ids, seen), use_cache=False).last_hidden_state
    return model.lm_head(hidden)


def conversation_losses(
    model, processor, plan: Plan, rng: random.Random, old: Sequence = (), rehearsed: int = 0
) -> Iterator[torch.Tensor]:
    """Yield without end the mean loss over the answers of a batch: new pictures, and `rehearsed` of the `old` talks."""
    shown, tokenizer, padding = combinations()[0], processor.tokenizer, processor.tokenizer.pad_token_id
    while True:
        some = rng.sample(shown, plan.batch_size)
        images = parts.scaled(parts.pixels(some, rng))  # what the processor would make of them
        rows = [encode(conversation(scene, rng), tokenizer, picture=True) for scene in some]
        rows += [encode(pairs, tokenizer, picture=False) for pairs in rng.sample(old, rehearsed)] if rehearsed else []
        width = max(len(ids) for ids, _ in rows)
        ids = torch.tensor([ids + [padding] * (width - len(ids)) for ids, _ in rows])
        labels = torch.tensor([labels + [IGNORE] * (width - len(labels)) for _, labels in rows])
        with autocast("cpu"):
            scores = logits(model, ids, features(model, images))
        yield functional.cross_entropy(
            scores[:, :-1].flatten(0, 1).float(), labels[:, 1:].flatten(), ignore_index=IGNORE
        )


def write_tensors(path: Path, tensors: Iterable[tuple[str, torch.Tensor]]) -> None:
    """Write a new safetensors file in bfloat16. Raises `CannotWrite` where it exists already."""
    planned = [adapter_files.planned(name, value.to(torch.bfloat16)) for name, value in tensors]
    with new_file(path) as file:
        write_safetensors(file, planned, {"format": "pt"})


def install(folder: Path, target: Path = opening.WEIGHTS) -> None:
    """Replace the weights in the package by those in `folder`: all files appear together, or the old ones stay."""
    fresh, old = (target.with_name(target.name + ending) for ending in (".new", ".old"))
    for left in (fresh, old):
        shutil.rmtree(left, ignore_errors=True)
    shutil.copytree(folder, fresh, ignore=shutil.ignore_patterns("*_seconds.json"))
    if target.exists():
        os.replace(target, old)
    os.replace(fresh, target)
    shutil.rmtree(old, ignore_errors=True)


def fit(model, plan: Plan, losses: Iterator[torch.Tensor], name: str) -> None:
    """Take the steps of a plan, each on the next of `losses`; the bar shows the stage's `name` and the loss."""

    def backward(_: int) -> torch.Tensor:
        loss = next(losses)
        loss.backward()
        return loss

    optimizer = adamw(model, plan.learning_rate, plan.weight_decay)
    taken = optimize(optimizer, backward, plan.rate, plan.steps, max_grad_norm=plan.max_grad_norm)
    with tqdm(taken, total=plan.steps, desc=name, unit=" steps", mininterval=2) as shown:
        for step in shown:
            shown.set_postfix_str(f"loss {step.loss:.3f}", refresh=False)
    model.eval()
