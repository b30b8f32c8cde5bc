"""Examples become rows of tokens, each token with a label: the loss falls on the answers only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmnotes.finetuning.conversations import Part, parts_of
from llmnotes.finetuning.record_forms import broken
from llmnotes.finetuning.records import Example, examples
from llmnotes.packing import best_fit

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

__all__ = ["IGNORE", "Row", "collate", "encode", "examples", "pack"]
IGNORE = -100  # the label of a token that is read and not learned, as PyTorch's cross-entropy has it


@dataclass(frozen=True)
class Row:
    """What the model reads at once: token ids and labels (tokens,), and how long each document in it is."""

    ids: tuple[int, ...]
    labels: tuple[int, ...]
    lengths: tuple[int, ...]

    @property
    def learned(self) -> int:
        """How many of its tokens the loss falls on."""
        return sum(label != IGNORE for label in self.labels)


def encode(
    found: Iterable[Example],
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    say: Callable[[str], object] = print,
) -> list[Row]:
    """Return a row for each example: its tokens, and as labels the same tokens where the loss falls on them.

    The loss falls on all of a "text", on a "completion", and on what the assistant says in "messages", but for those
    of weight 0; with it comes the token that ends the text, if the tokenizer has one. Messages are written as
    `conversations.parts_of` says, where one of several turns may become several rows. A prompt is always cut into the
    tokens that it has when it stands alone, since that is how the trained model will meet it; a prompt that begins
    with the first token in writing gets no second one.

    A row longer than `max_length` is cut at its end. `say` receives one line where rows were cut or something was
    left out, with the counts. Raises `FileBroken`, naming the line, where nothing to learn is left of an example, or
    where the chat template refuses it. Does not cut a long text into several rows.
    """
    rows, left, lengths = [], Counter(), []
    for example in found:
        made = []
        for ids, labels in _tokens(example, tokenizer, left):
            lengths.append(len(ids))
            ids, labels = ids[:max_length], [IGNORE, *labels[1:max_length]]  # nothing predicts the first token
            if any(label != IGNORE for label in labels):
                made.append(Row(tuple(ids), tuple(labels), (len(ids),)))
        if not made:
            raise broken(
                example.where,
                f"has nothing to learn within max_length ({max_length} tokens); raise it, or shorten what comes "
                "before the answer",
            )
        rows += made
    if line := _left_out(left, lengths, max_length):
        say(line)
    return rows


def _left_out(left: Counter, lengths: list[int], max_length: int) -> str:
    """Return one sentence about what is not in the rows as it was in the data, or nothing."""
    said = []
    if cut := sum(length > max_length for length in lengths):
        said.append(
            f"of {len(lengths):,} rows, {cut:,} are longer than max_length ({max_length} tokens; the longest has "
            f"{max(lengths):,}) and were cut: they lost the token that ends them"
        )
    if names := [f"{count:,} {name}" for name, count in left.items() if count]:
        said.append(f"left out: {', '.join(names)}")
    line = "; ".join(said)
    return f"{line[0].upper()}{line[1:]}." if line else ""


def _tokens(example: Example, tokenizer, left: Counter) -> list[tuple[list[int], list[int]]]:
    """Return the ids and labels of an example, as long as they come; several of a conversation that must be parted."""
    fields = example.fields
    if "text" in fields:
        return [_cut([(fields["text"], True)], tokenizer, special=True, end=True)]
    if "prompt" in fields:
        return [_cut([(fields["prompt"], False), (fields["completion"], True)], tokenizer, special=True, end=True)]
    plain = not tokenizer.chat_template  # a template writes the first token itself, and the last
    return [_cut(parts, tokenizer, special=plain, end=plain) for parts in parts_of(example, tokenizer, left)]


def _cut(parts: list[Part], tokenizer, special: bool, end: bool) -> tuple[list[int], list[int]]:
    """Return the ids and labels of parts, each cut as it is behind those before it."""
    whole = "".join(text for text, _ in parts)
    first, last = tokenizer.bos_token, tokenizer.eos_token_id
    special = special and not (first and whole.startswith(first))  # else the tokenizer would write it once more
    ids, labels, text = [], [], ""
    for part, learned in _ends_apart(parts, tokenizer):
        text += part
        new = list(tokenizer(text, add_special_tokens=special, verbose=False)["input_ids"])
        if special and new[-1:] == [last] and not text.endswith(tokenizer.eos_token):
            new.pop()  # some tokenizers end every text
        if new[: len(ids)] == ids:
            new = new[len(ids) :]
        else:  # a token would reach over the border: the two sides are cut apart
            new = list(tokenizer(part, add_special_tokens=False, verbose=False)["input_ids"])
        ids += new
        labels += new if learned else [IGNORE] * len(new)
    if end and last is not None and not whole.rstrip().endswith(tuple(tokenizer.all_special_tokens)):
        ids, labels = [*ids, last], [*labels, last]
    return ids, labels


def _ends_apart(parts: list[Part], tokenizer) -> list[Part]:
    """Return the parts, with what follows a learned one's last special token apart: the model has stopped there."""
    found = []
    for text, learned in parts:
        said = text.rstrip()
        if learned and said != text and said.endswith(tuple(tokenizer.all_special_tokens)):
            found += [(said, True), (text[len(said) :], False)]
        else:
            found.append((text, learned))
    return found


def pack(rows: Sequence[Row], length: int) -> list[Row]:
    """Return rows of at most `length` tokens that hold all documents of `rows`, the longest placed first.

    Each goes into the fullest row that still has room (`llmnotes.packing.best_fit`). Documents in one row do not see
    each other: see `collate`. Raises nothing; a document longer than `length` keeps a row of its own.

    >>> [row.lengths for row in pack([Row((1,) * n, (1,) * n, (n,)) for n in (3, 5, 2)], 8)]
    [(5, 3), (2,)]
    """
    rows = sorted(rows, key=lambda row: -len(row.ids))
    packed = []
    for places in best_fit((len(row.ids) for row in rows), length):
        together = [rows[place] for place in places]
        packed.append(
            Row(
                ids=tuple(token for row in together for token in row.ids),
                labels=tuple(label for row in together for label in row.labels),
                lengths=tuple(n for row in together for n in row.lengths),
            )
        )
    return packed


def collate(rows: Sequence[Row], device: str | torch.device = "cpu") -> dict:
    """Return the batch that a causal model of transformers takes, with `labels`, all padded on the right.

    `input_ids` and `labels` are (rows, tokens). Rows of one document need no mask: a causal model never looks at the
    padding behind. For packed rows there are `position_ids` (rows, tokens), which start again with each document, and
    with the padding: from them the models in `packable.PACKABLE` see where a document begins, and build their masks.
    No other model may read packed rows. They come with `use_cache` False: beside a cache, transformers takes the
    positions for those of one document.
    """
    import torch

    width = max(len(row.ids) for row in rows)
    ids = torch.tensor([row.ids + (0,) * (width - len(row.ids)) for row in rows])
    labels = torch.tensor([row.labels + (IGNORE,) * (width - len(row.labels)) for row in rows])
    batch: dict = {"input_ids": ids.to(device), "labels": labels.to(device)}
    if any(len(row.lengths) > 1 for row in rows):
        pieces = [(*row.lengths, width - len(row.ids)) for row in rows]  # the padding is one more document
        places = [[place for length in lengths for place in range(length)] for lengths in pieces]
        batch["position_ids"] = torch.tensor(places, device=device)
        batch["use_cache"] = False
    return batch
