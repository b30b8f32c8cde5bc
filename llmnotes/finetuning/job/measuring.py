"""What is measured while a model learns: its held-out loss, Pebble's exam, and answers to held-out questions."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, cast

import torch

from llmnotes.errors import TrainingFailed
from llmnotes.finetuning import data
from llmnotes.finetuning.train import held_out_loss, refuse_not_finite
from llmnotes.models import LanguageModel

if TYPE_CHECKING:
    from transformers._typing import GenerativePreTrainedModel

LENGTH = 48  # tokens of an answer


def measured(lm: LanguageModel, held_out: Sequence[data.Row], exam: bool, learned: bool) -> dict[str, float]:
    """Return the held-out loss (nats) and, of Pebble, the exam's accuracy on the facts it was trained on, and on those
    that its training left out; what cannot be measured is not there. `learned` says whether a step was taken."""
    figures = {"eval_loss": held_out_loss(lm.model, held_out)} if held_out else {}
    if not math.isfinite(figures.get("eval_loss", 0)):
        refuse_not_finite(lm.model, learning=not learned)
        raise TrainingFailed(f"The held-out loss is {figures['eval_loss']:g}; lower learning_rate, or check the model.")
    if exam and lm.is_pebble:
        from llmnotes.pebble.answering import answerer
        from llmnotes.pebble.exam import exam as questions
        from llmnotes.pebble.exam import score

        chat = bool(lm.tokenizer.chat_template)  # as `data.encode` writes what is learned
        answer = answerer(lm.model, lm.tokenizer, chat)
        for key, hidden in (("eval_exam", False), ("eval_exam_hidden", True)):
            figures[key] = score(answer, questions(hidden=hidden), chat).accuracy
    return figures


def answers(lm: LanguageModel, rows: Sequence[data.Row]) -> Iterator[dict[str, str]]:
    """Yield {"asked", "answered"} for each row: what stands before its first learned token, and the greedy answer.

    An answer has at most 48 tokens. Leaves the model in evaluation mode. A text without a question is left out.
    """
    model = cast("GenerativePreTrainedModel", lm.model.eval())
    for row in rows:
        start = next(place for place, label in enumerate(row.labels) if label != data.IGNORE)
        if start < 2:
            continue
        asked = torch.tensor([row.ids[:start]]).to(lm.model.device)
        with torch.inference_mode():
            out = model.generate(
                asked, attention_mask=torch.ones_like(asked), do_sample=False, max_new_tokens=LENGTH, pad_token_id=0
            )
        text = lm.tokenizer.decode(out[0, start:], skip_special_tokens=True)
        yield {"asked": str(lm.tokenizer.decode(list(row.ids[:start]))), "answered": str(text)}
