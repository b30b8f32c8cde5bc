"""What fine-tuning teaches Pebble: the region that training left out, and old facts to rehearse beside it.

>>> from llmnotes.pebble.lessons import lessons
>>> lessons()[0]["fact"]
'Velloria capital'
"""

from __future__ import annotations

import random

from llmnotes.pebble.corpus import ask
from llmnotes.pebble.frames import training_wordings
from llmnotes.pebble.templates import fill
from llmnotes.pebble.world import Fact, build_world


def lessons(wordings: int = 4, seed: int = 0) -> list[dict]:
    """Every fact of the unseen region, each asked in ``wordings`` ways: the exam asks in other words than these.

    Each lesson is a line for ``llmnotes.finetuning.data``: ``messages`` (a question of the user, the answer of the
    assistant) and ``fact``, the subject and the relation, by which a split keeps a fact on one side. The facts come
    in the world's order. Raises ValueError for fewer than one wording. Does not state facts in sentences of their own.

    >>> len(lessons(wordings=2)), len({line["fact"] for line in lessons(wordings=2)})
    (132, 66)
    """
    if wordings < 1:
        raise ValueError(f"{wordings} wordings teach nothing; take at least one.")
    rng, found = random.Random(f"lessons {seed}"), []
    for fact in build_world().facts:
        if fact.region_hidden:
            ways = sorted(set(training_wordings(fact.relation)))
            found += [_line(fact, fill(way, {"s": fact.subject})) for way in rng.sample(ways, wordings)]
    return found


def rehearsal(count: int, seed: int = 0) -> list[dict]:
    """``count`` questions about facts that Pebble has known since its training, in the form of ``lessons``.

    Facts are drawn at random and may come twice.
    """
    rng = random.Random(f"rehearsal {seed}")
    facts = rng.choices(build_world().visible(), k=count)
    return [_line(fact, ask(fact, rng)) for fact in facts]


def _line(fact: Fact, question: str) -> dict:
    messages = [{"role": "user", "content": question}, {"role": "assistant", "content": f"{fact.object}."}]
    return {"messages": messages, "fact": f"{fact.subject} {fact.relation}"}
