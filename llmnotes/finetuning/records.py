"""Files of examples to learn from: JSON lines, a JSON array, CSV or Parquet; and the part of them that is held out."""

from __future__ import annotations

import csv
import json
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from llmnotes.errors import FileBroken, FileUnreadable, MissingPart
from llmnotes.finetuning import record_forms
from llmnotes.finetuning.record_forms import KINDS, broken

LINE_LIMIT = 16 * 2**20  # bytes in one line


@dataclass(frozen=True)
class Example:
    """One record: its fields, and where it stands, for the sentence that complains about it."""

    fields: dict
    where: str


def read(path: str | Path) -> list[Example]:
    """Return the examples in a file: JSON lines (empty ones are skipped), one JSON array, CSV or Parquet.

    A record is {"messages": [{"role": ..., "content": ...}, ...]} as OpenAI has it, with "tools" if need be,
    {"prompt": ..., "completion": ...} or {"text": ...}, as TRL names them; Alpaca's "instruction", "input", "output"
    and ShareGPT's "conversations" become messages. Other fields, such as "fact" (see `split`), are kept. Parquet
    is read where the library datasets is installed.

    Raises `FileUnreadable` where there is no file, `FileBroken` with the line's number for a record that is none of
    these, and for a file without any, and `MissingPart` for Parquet without datasets.
    """
    path = Path(path)
    if not path.is_file():
        raise FileUnreadable(
            f"There is no file {path}; check the path (a relative one starts at the folder you are in)."
        )
    try:
        records = {".csv": _csv, ".parquet": _parquet}.get(path.suffix.lower(), _json)(path)
        found = [Example(record_forms.normal(fields, where), where) for fields, where in records]
    except OSError as error:
        raise FileUnreadable(f"{path} cannot be read ({error.strerror}); check its rights.") from None
    if not found:
        raise FileBroken(f"{path} holds no line of data; put one JSON object on each line: {KINDS}.")
    return found


def examples(records: Iterable[dict]) -> list[Example]:
    """Return the examples that `records` are, each what a line of a file is to `read`. Raises `FileBroken`.

    >>> examples([{"prompt": "2 + 2 =", "completion": " 4"}])[0].where
    'record 1'
    >>> examples([{"instruction": "Add.", "input": "2 + 2", "output": "4"}])[0].fields["messages"][0]["content"]
    'Add.\\n\\n2 + 2'
    """
    places = ((record, f"record {number}") for number, record in enumerate(records, 1))
    return [Example(record_forms.normal(record, where), where) for record, where in places]


def unused(found: Iterable[Example]) -> str:
    """Return one sentence about the fields that nothing here reads, or nothing where every field is read.

    >>> unused(examples([{"text": "a", "id": 7}, {"text": "b", "id": 8, "fact": "b"}]))
    'Fields of the data that were not used: "id" (2 times).'
    """
    counts = Counter(name for example in found for name in example.fields if name not in record_forms.READ)
    names = ", ".join(f"{json.dumps(str(name)[:40])} ({count:,} times)" for name, count in counts.most_common(8))
    more = f" and {len(counts) - 8} more" * (len(counts) > 8)
    return f"Fields of the data that were not used: {names}{more}." if counts else ""


def _json(path: Path) -> Iterator[tuple[object, str]]:
    """Yield (record, where it stands) of a file of JSON lines or of one JSON array."""
    with open(path, "rb") as file:
        start = file.read(64).lstrip(b" \t\r\n\xef\xbb\xbf")
        file.seek(0)
        if start[:1] == b"[":
            records = _parsed(file.read(), str(path))
            assert isinstance(records, list), "what begins with [ and is JSON is a list"
            yield from ((record, f"{path}, record {number}") for number, record in enumerate(records, 1))
            return
        number = 0
        while line := file.readline(LINE_LIMIT + 1):
            number += 1
            where = f"{path}, line {number}"
            if len(line) > LINE_LIMIT:
                raise broken(where, f"is longer than {LINE_LIMIT // 2**20} MiB; cut it into several")
            if line.strip(b" \t\r\n\xef\xbb\xbf"):
                yield _parsed(line, where), where


def _parsed(content: bytes, where: str) -> object:
    try:
        return json.loads(content.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise broken(where, "is not UTF-8; save the file in that encoding") from None
    except (ValueError, RecursionError) as error:
        reason = error.msg if isinstance(error, json.JSONDecodeError) else "nested too deeply, or a number too long"
        raise broken(where, f"is no JSON ({reason}); put one object on each line: {KINDS}") from None


def _csv(path: Path) -> Iterator[tuple[object, str]]:
    """Yield (record, where it stands) of a CSV file with names in its first line; each cell is a text."""
    with open(path, encoding="utf-8-sig", newline="") as file:
        rows = csv.DictReader(file, strict=True)
        try:
            for row in rows:
                where = f"{path}, line {rows.line_num}"
                if None in row or None in row.values():
                    raise broken(where, "has not as many cells as the first line has names; quote what holds a comma")
                yield row, where
        except (csv.Error, UnicodeDecodeError) as error:
            raise broken(f"{path}, line {rows.line_num + 1}", f"is no CSV in UTF-8 ({error}); save it so") from None


def _parquet(path: Path) -> Iterator[tuple[object, str]]:
    """Yield (record, where it stands) of a Parquet file."""
    try:
        from datasets import Dataset  # pyright: ignore[reportMissingImports]  (an optional part)
    except ImportError:
        raise MissingPart(
            f"{path.name} is read by the library datasets; bring it with: python -m pip install datasets; or write "
            "JSON lines."
        ) from None
    try:
        rows = list(Dataset.from_parquet(str(path), keep_in_memory=True))
    except Exception as error:  # of pyarrow and datasets, each with its own
        raise broken(str(path), f"is no Parquet file ({str(error).splitlines()[0][:120]}); write it again") from None
    for number, row in enumerate(rows, 1):
        yield row, f"{path}, row {number}"


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
