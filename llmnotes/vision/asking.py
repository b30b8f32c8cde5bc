"""Ask a LLaVA about a picture, or without one, and count its right answers."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TYPE_CHECKING

from llmnotes.pebble.exam import normal
from llmnotes.vision.pictures import KINDS, Scene, draw, questions

if TYPE_CHECKING:
    from PIL.Image import Image
    from transformers import LlavaForConditionalGeneration, LlavaProcessor


def ask(
    model: LlavaForConditionalGeneration,
    processor: LlavaProcessor,
    image: Image | None,
    question: str,
    history: Sequence[tuple[str, str]] = (),
    max_new_tokens: int = 20,
) -> str:
    """Return the greedy answer to a question about a picture, or, where `image` is None, to the question alone.

    `history` holds the (question, answer) pairs of the conversation so far, in which the picture came first. Works
    with every LLaVA of transformers whose processor has a chat template.

    >>> from llmnotes.vision import load
    >>> ask(*load(), None, "What is the opposite of hot?")
    'cold.'
    """
    return _answers(model, processor, [image], [[*history, (question, None)]], max_new_tokens)[0]


def accuracy(
    model: LlavaForConditionalGeneration,
    processor: LlavaProcessor,
    scenes: Sequence[Scene],
    seed: int,
    batch: int = 32,
) -> dict[str, tuple[int, int]]:
    """Return {kind: (right answers, questions)} over a picture of each scene; `seed` draws pictures and wordings.

    Each question is asked alone, and the greedy answer compared as Pebble's exam does: exactly, but for capitals and
    full stops.
    """
    asked = []
    for place, scene in enumerate(scenes):
        rng = random.Random(f"accuracy {seed} {place}")
        image = draw(scene, rng)
        asked += [(image, *entry) for entry in questions(scene, rng)]
    marks = {kind: [0, 0] for kind in KINDS}
    for at in range(0, len(asked), batch):
        some = asked[at : at + batch]
        said = _answers(model, processor, [entry[0] for entry in some], [[(entry[2], None)] for entry in some], 8)
        for (_, kind, _, answer), text in zip(some, said, strict=True):
            marks[kind][0] += normal(text) == answer
            marks[kind][1] += 1
    return {kind: (right, of) for kind, (right, of) in marks.items()}


def messages(talk: Sequence[tuple[str, str | None]], image: Image | None = None) -> list[dict]:
    """Return a conversation as chat templates take it: (question, answer) pairs, the last one without an answer.

    >>> messages([("Where is it?", None)])
    [{'role': 'user', 'content': [{'type': 'text', 'text': 'Where is it?'}]}]
    """
    made = []
    for place, (question, answer) in enumerate(talk):
        picture = [{"type": "image", "image": image}] if image is not None and place == 0 else []
        made.append({"role": "user", "content": [*picture, {"type": "text", "text": question}]})
        if answer is not None:
            made.append({"role": "assistant", "content": [{"type": "text", "text": answer}]})
    return made


def _answers(model, processor, images: list, talks: list, most: int) -> list[str]:
    import torch

    inputs = processor.apply_chat_template(
        [messages(talk, image) for talk, image in zip(talks, images, strict=True)],
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
        processor_kwargs={"padding": True, "padding_side": "left"},
    )
    inputs = inputs.to(model.device, model.dtype)
    with torch.inference_mode():
        out = model.generate(**inputs, do_sample=False, max_new_tokens=most)
    new = out[:, inputs["input_ids"].shape[1] :]
    return [text.strip() for text in processor.batch_decode(new, skip_special_tokens=True)]
