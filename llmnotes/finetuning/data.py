"""Lines of JSON become rows of tokens, each token with a label: the loss falls on the answers only."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from llmnotes.errors import FileBroken, FileUnreadable
from llmnotes.packing import best_fit

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

IGNORE = -100  # the label of a token that is read and not learned, as PyTorch's cross-entropy has it
LINE_LIMIT = 16 * 2**20  # bytes in one line
KINDS = '{"messages": [...]}, {"prompt": ..., "completion": ...} or {"text": ...}'


@dataclass(frozen=True)
class Example:
    """One line of data: its fields, and where it stands, for the sentence that complains about it."""

    fields: dict
    where: str


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


def read(path: str | Path) -> list[Example]:
    """Return the examples in a file of JSON lines; empty lines are skipped.

    A line is {"messages": [{"role": ..., "content": ...}, ...]}, {"prompt": ..., "completion": ...} or {"text": ...},
    as TRL names them; other fields, such as "fact" (see `split`), are kept.

    Raises `FileUnreadable` where there is no file, and `FileBroken` with the line's number for a line that is none of
    the three, and for a file without lines. Does not read a JSON array, nor Parquet.
    """
    path = Path(path)
    if not path.is_file():
        raise FileUnreadable(
            f"There is no file {path}; check the path (a relative one starts at the folder you are in)."
        )
    found = []
    try:
        with open(path, "rb") as file:
            number = 0
            while line := file.readline(LINE_LIMIT + 1):
                number += 1
                where = f"{path}, line {number}"
                if len(line) > LINE_LIMIT:
                    raise _broken(where, f"is longer than {LINE_LIMIT // 2**20} MiB; cut it into several")
                if line.strip(b" \t\r\n\xef\xbb\xbf"):
                    found.append(Example(_fields(line, where), where))
    except OSError as error:
        raise FileUnreadable(f"{path} cannot be read ({error.strerror}); check its rights.") from None
    if not found:
        raise FileBroken(f"{path} holds no line of data; put one JSON object on each line: {KINDS}.")
    return found


def examples(records: Iterable[dict]) -> list[Example]:
    """Return the examples that `records` are, each what a line of a file is to `read`. Raises `FileBroken`.

    >>> examples([{"prompt": "2 + 2 =", "completion": " 4"}])[0].where
    'record 1'
    """
    found = [Example(record, f"record {number}") for number, record in enumerate(records, 1)]
    for example in found:
        _check(example.fields, example.where)
    return found


def _fields(line: bytes, where: str) -> dict:
    try:
        fields = json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise _broken(where, "is not UTF-8; save the file in that encoding") from None
    except (ValueError, RecursionError) as error:
        reason = error.msg if isinstance(error, json.JSONDecodeError) else "nested too deeply, or a number too long"
        raise _broken(where, f"is no JSON ({reason}); put one object on each line: {KINDS}") from None
    _check(fields, where)
    return fields


def _check(fields, where: str) -> None:
    """Refuse what is none of the three kinds."""
    if not isinstance(fields, dict):
        raise _broken(where, f"is no JSON object; write {KINDS}")
    kinds = [kind for kind in ("messages", "prompt", "text") if kind in fields]
    if len(kinds) != 1:
        raise _broken(where, f"must be one of {KINDS}, and is {'more than one' if kinds else 'none'} of them")
    names = {"messages": (), "prompt": ("prompt", "completion"), "text": ("text",)}[kinds[0]]
    for name in names:
        _check_text(fields.get(name), f'"{name}"', where, empty=name == "prompt")
    if kinds[0] == "messages":
        messages = fields["messages"]
        if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
            raise _broken(where, 'has "messages" that are no list of {"role": ..., "content": ...}; write one')
        for message in messages:
            for name in ("role", "content"):
                _check_text(message.get(name), f'"{name}" of a message', where, empty=name == "content")
        if not any(message["role"] == "assistant" for message in messages):
            raise _broken(where, "has no message of the assistant, so there is nothing to learn; add its answer")


def _check_text(value, name: str, where: str, empty: bool) -> None:
    if not isinstance(value, str) or not (value or empty):
        raise _broken(where, f"lacks the text {name}; write it as a string")
    try:
        value.encode()
    except UnicodeEncodeError:  # JSON can hold half of a surrogate pair
        raise _broken(where, f"has half a character (a lone surrogate) in {name}; write it whole") from None


def _broken(where: str, what: str) -> FileBroken:
    return FileBroken(f"{where} {what}.")


def split(
    found: Sequence[Example], share: float, seed: int = 0, key: Callable[[dict], object] | None = None
) -> tuple[list[Example], list[Example]]:
    """Return (train, held out) with about `share` of the examples held out, and no fact in both.

    `key(fields)` gives the fact that an example states, or a list of several; by default it is the field "fact", and
    where there is none the example itself, so that a copy never stands on both sides. Examples that share a fact,
    directly or through others, stay together. Raises `FileBroken` where one side would be empty.

    >>> train, held_out = split(examples([{"text": c, "fact": c.lower()} for c in "aAbBcC"]), 1 / 3)
    >>> len(held_out), {e.fields["fact"] for e in train} & {e.fields["fact"] for e in held_out}
    (2, set())

    Does not notice a fact that two lines state without naming it in the same way.
    """
    parent: dict[str, str] = {}

    def root(fact: str) -> str:
        while parent.setdefault(fact, fact) != fact:
            parent[fact] = parent[parent[fact]]  # halve the path: it stays short
            fact = parent[fact]
        return fact

    def name(fact) -> str:
        return json.dumps(fact, sort_keys=True, default=str)

    first = []
    for example in found:
        facts = (key(example.fields) if key else example.fields.get("fact")) or example.fields
        names = [name(fact) for fact in (facts if isinstance(facts, list | tuple | set) else [facts])]
        for other in names[1:]:
            parent[root(other)] = root(names[0])
        first.append(names[0])
    groups: dict[str, list[int]] = {}
    for place, fact in enumerate(first):
        groups.setdefault(root(fact), []).append(place)
    order = list(groups.values())
    random.Random(f"split {seed}").shuffle(order)
    held, wanted = set(), share * len(found)
    for group in order:
        if len(held) + len(group) / 2 <= wanted or not held:
            held.update(group)
    train = [example for place, example in enumerate(found) if place not in held]
    if not train:
        raise FileBroken(
            f"All {len(found)} examples share a fact, so none can be held out; give held-out data of its own."
        )
    return train, [found[place] for place in sorted(held)]


def encode(found: Iterable[Example], tokenizer: PreTrainedTokenizerBase, max_length: int) -> list[Row]:
    """Return one row for each example: its tokens, and as labels the same tokens where the loss falls on them.

    The loss falls on all of a "text", on a "completion", and on what the assistant says in "messages"; with the
    last two comes the token that ends the text, if the tokenizer has one. Messages go through the tokenizer's chat
    template, or as "User: ..." and "Assistant: ..." lines where it has none. A prompt is always cut into the tokens
    that it has when it stands alone, since that is how the trained model will meet it.

    A row longer than `max_length` is cut at its end. Raises `FileBroken`, naming the line, where nothing to learn is
    left of it, or where the chat template refuses the messages. Does not cut a long text into several rows.
    """
    rows = []
    for example in found:
        ids, labels = _tokens(example, tokenizer)
        ids, labels = ids[:max_length], [IGNORE, *labels[1:max_length]]  # nothing predicts the first token
        if all(label == IGNORE for label in labels):
            raise _broken(
                example.where,
                f"has nothing to learn within max_length ({max_length} tokens); raise it, or shorten what comes "
                "before the answer",
            )
        rows.append(Row(tuple(ids), tuple(labels), (len(ids),)))
    return rows


def _tokens(example: Example, tokenizer) -> tuple[list[int], list[int]]:
    """Return the ids and labels of an example, as long as they come."""
    fields = example.fields
    if "text" in fields:
        ids = list(tokenizer(fields["text"], verbose=False)["input_ids"])
        ids += _end(ids, tokenizer)
        return ids, ids
    if "prompt" in fields:
        parts, special = [(fields["prompt"], False), (fields["completion"], True)], True
    else:
        parts = _turns(fields["messages"], tokenizer, example.where)
        special = not tokenizer.chat_template  # a template writes the first token itself
    ids, labels, text = [], [], ""
    for part, learned in parts:
        text += part
        new = list(tokenizer(text, add_special_tokens=special, verbose=False)["input_ids"])
        if new[: len(ids)] == ids:
            new = new[len(ids) :]
        else:  # a token would reach over the border: the two sides are cut apart
            new = list(tokenizer(part, add_special_tokens=False, verbose=False)["input_ids"])
        ids += new
        labels += new if learned else [IGNORE] * len(new)
    end = [] if tokenizer.chat_template and "messages" in fields else _end(ids, tokenizer)
    return ids + end, labels + end


def _end(ids: list[int], tokenizer) -> list[int]:
    end = tokenizer.eos_token_id
    return [] if end is None or ids[-1:] == [end] else [end]


def _turns(messages: list[dict], tokenizer, where: str) -> list[tuple[str, bool]]:
    """Return the conversation as (text, whether it is learned), up to the assistant's last word."""
    from jinja2 import TemplateError

    parts, text = [], ""
    for place, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        try:
            before = _written(messages[:place], tokenizer, ask=True)
            after = _written(messages[: place + 1], tokenizer, ask=False)
        except (TemplateError, TypeError, ValueError, KeyError, IndexError) as error:
            raise _broken(where, f"is refused by the model's chat template ({error}); change its roles") from None
        if not before.startswith(text) or not after.startswith(before):
            raise _broken(where, "is rewritten by the model's chat template as it grows; put one answer on each line")
        parts += [(before[len(text) :], False), (after[len(before) :], True)]
        text = after
    return parts


def _written(messages: list[dict], tokenizer, ask: bool) -> str:
    if tokenizer.chat_template:
        return tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=ask)
    said = "".join(f"{message['role'].capitalize()}: {message['content']}\n" for message in messages)
    return said + "Assistant:" * ask


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
