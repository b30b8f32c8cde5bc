"""The exam: closed-book questions about Pebble's world, with exact answers, worded as training never words them.

Half of the questions use a frame that training never shows, half join a known frame to a core that training keeps
apart from it. ``exam(hidden=True)`` asks about the region that training leaves out, ``exam(fresh=True)`` uses cores
that are wholly new (a stretch: the bar does not count it). ``exam(hard=True)`` is a part near the model's limit, for
telling a model from its compressed copies (`llmnotes.pebble.hard`).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from llmnotes.pebble.frames import wordings
from llmnotes.pebble.hard import hard_questions
from llmnotes.pebble.question import FORM, Question
from llmnotes.pebble.relations import RELATIONS
from llmnotes.pebble.templates import capital, fill
from llmnotes.pebble.world import Fact, build_world

PER_CATEGORY = 25


@dataclass(frozen=True)
class ExamResult:
    """``accuracy`` from 0 to 1, the same by category, and for each question whether it was right, and what was said."""

    accuracy: float
    by_category: dict[str, float]
    correct: tuple[bool, ...]
    answers: tuple[str, ...]


def normal(text: str) -> str:
    """The first line of a text, without full stops, outer spaces and capitals: what the exam compares.

    >>> from llmnotes.pebble.exam import normal
    >>> normal(" Plumford.\\nQ: Who")
    'plumford'
    """
    lines = text.strip().split("\n")
    return lines[0].replace(".", "").strip().casefold()


@lru_cache(maxsize=8)
def exam(hidden: bool = False, fresh: bool = False, seed: int = 0, hard: bool = False) -> tuple[Question, ...]:
    """The questions: 25 in each of 20 categories; with ``hidden`` one for each fact of the hidden region.

    With ``hard`` they are 300 others, of which Pebble gets about two thirds right (`llmnotes.pebble.hard`).
    Raises ValueError if they should be hard and also hidden or fresh. Needs no model and no torch. It does not ask
    yes-or-no questions.

    >>> from llmnotes.pebble.exam import exam
    >>> len(exam()) >= 400
    True
    """
    if hard:
        if hidden or fresh:
            raise ValueError("The hard questions ask about known facts only; leave hidden and fresh away.")
        return hard_questions(seed)
    world, rng = build_world(), random.Random(f"pebble exam {seed} {hidden} {fresh}")
    facts = [fact for fact in world.facts if fact.region_hidden == hidden]
    by_category: dict[str, list[Fact]] = {}
    for fact in facts:
        by_category.setdefault(RELATIONS[fact.relation].category, []).append(fact)
    found = []
    for category, members in by_category.items():
        chosen = members if hidden else rng.sample(members, min(PER_CATEGORY, len(members)))
        for number, fact in enumerate(chosen, 1):
            if fresh:
                wording = capital(RELATIONS[fact.relation].fresh) + "?"
            else:
                new = number % 2 == 0
                wording = rng.choice([w.text for w in wordings(fact.relation) if w.kept_back and w.new_frame == new])
            found.append(
                Question(
                    f"{category}-{number:02d}", category, fill(wording, {"s": fact.subject}), fact.object, fact, wording
                )
            )
    return tuple(found)


def score(
    generate: Callable[[list[str]], Sequence[str]], questions: Sequence[Question], chat: bool = False
) -> ExamResult:
    """Ask all questions and compare the answers exactly (first line, without case, full stops and outer spaces).

    ``generate`` takes a list of prompts and returns as many continuations, without the prompts; with ``chat`` it gets
    the bare questions and applies the chat template itself. Raises ValueError when the numbers differ. It gives no
    points for an answer that only contains the right word. Where the form of a question is not training's, nothing
    tells the model to end the line: there the answer ends with its first full stop.

    >>> from llmnotes.pebble.exam import exam, score
    >>> score(lambda prompts: ["geese"] * len(prompts), exam()).accuracy < 0.1
    True
    """
    answers = list(generate([question.text if chat else question.prompt for question in questions]))
    if len(answers) != len(questions):
        raise ValueError(f"{len(questions)} questions got {len(answers)} answers; return one for each prompt.")
    correct = tuple(_right(said, question) for said, question in zip(answers, questions, strict=True))
    marks: dict[str, list[bool]] = {}
    for right, question in zip(correct, questions, strict=True):
        marks.setdefault(question.category, []).append(right)
    return ExamResult(
        sum(correct) / len(correct), {name: sum(m) / len(m) for name, m in marks.items()}, correct, tuple(answers)
    )


def _right(said: str, question: Question) -> bool:
    if question.form != FORM:
        said = said.partition(".")[0]
    return normal(said) == normal(question.answer)
