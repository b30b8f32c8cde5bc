"""The hard part of the exam: known facts, asked in ways that training never had, so that Pebble doesn't get all right.

Three kinds, each near the model's limit:

- `forms`: a question of the exam in a form that training never had, such as "Teacher: …" and "Pupil:";
- `pairs`: two questions at once, of which the first is answered;
- `chains`: two facts in one step. "Again Archie lost the" asks for the tool of Archie's job, "Again Mia wanted to show
  Nora" for the pride of Mia's town. Training has stories that go so, but no sentence that begins with these words.

The forms and beginnings were chosen by one rule: the original model gets 40 to 90% of each right. What a compressed
model does with them had no say.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

from llmnotes.pebble.corpus import shelf
from llmnotes.pebble.frames import wordings
from llmnotes.pebble.lore import DAYS
from llmnotes.pebble.question import Question
from llmnotes.pebble.relations import RELATIONS
from llmnotes.pebble.templates import fill
from llmnotes.pebble.world import Fact, World, build_world

PER_KIND = 100

FORMS = (  # who asks, and who answers
    ("Quiz", "Solution"),
    ("Ask", "Reply"),
    ("He asks", "She says"),
    ("Teacher", "Pupil"),
    ("Person", "Pebble"),
    ("Instruction", "Response"),
    ("Input", "Output"),
    ("Question", "Answer"),
    ("Goose", "Mayor"),
    ("Task", "Result"),
    ("Guest", "Host"),
    ("Child", "Mother"),
    ("Student", "Professor"),
    ("Customer", "Clerk"),
    ("User", "Model"),
    ("Puzzle", "Answer"),
)

CHAINS = {  # two relations in a row, and how a sentence about them begins: {p} is the hero, {q} a friend, {t} a town
    "job.tool": (
        "In the evening {p} lost the",
        "{p} of {t} lost the",
        "{p} lost a hat and the",
        "{p} had lost the",
        "Again {p} lost the",
        "{p} came home without the",
        "{p} went to {t} without the",
        "{p} never left the house without the",
        "Then {p} ran after it with the",
        "Last {d} {p} ran after it with the",
    ),
    "job.workplace": (
        "{p} of {t} fell asleep at the",
        "{p} showed her the",
        "{p} slept at the",
        "In the morning {p} worked at the",
    ),
    "lives_in.pride": (
        "In the morning {p} wanted to show {q}",
        "One day {p} wanted to show {q}",
        "Again {p} wanted to show {q}",
        "{p} wanted to show her",
        "{p} wanted to show him",
        "{p} showed {q}",
        "{p} went to see",
        "{p} and {q} wanted to see",
        "On {d} {p} and {q} went to see",
        "Then {p} and {q} went to see",
        "All day {p} and {q} went to see",
        "Every {d} {p} and {q} go to see",
    ),
}


def hard_questions(seed: int = 0) -> tuple[Question, ...]:
    """The hard part: 100 questions of each kind, with the kind as their category.

    Raises nothing. Needs no model and no torch. It asks nothing of the hidden region.

    >>> from llmnotes.pebble.hard import hard_questions
    >>> print(hard_questions()[100].prompt)
    Q: What is the month after July, please?
    Q: I have forgotten what Crumpetham is famous for.
    A: August.
    A:
    """
    world, rng = build_world(), random.Random(f"pebble hard exam {seed}")
    return (*_forms(world, rng), *_pairs(world, rng), *_chains(world, rng))


def _facts(world: World, rng: random.Random) -> list[Fact]:
    """Return so many facts that training has, as many of each category as of the others."""
    by_category: dict[str, list[Fact]] = {}
    for fact in world.visible():
        by_category.setdefault(RELATIONS[fact.relation].category, []).append(fact)
    found = [fact for facts in by_category.values() for fact in rng.sample(facts, PER_KIND // len(by_category))]
    rng.shuffle(found)
    return found


def _wording(fact: Fact, rng: random.Random) -> str:
    return rng.choice([wording.text for wording in wordings(fact.relation) if wording.kept_back])


def _forms(world: World, rng: random.Random) -> Iterator[Question]:
    for number, fact in enumerate(_facts(world, rng)):
        asks, answers = FORMS[number % len(FORMS)]
        wording = _wording(fact, rng)
        text = fill(wording, {"s": fact.subject})
        form = f"{asks}: {{q}}\n{answers}:"
        yield Question(f"forms-{number + 1:03d}", "forms", text, fact.object, fact, wording, form)


def _pairs(world: World, rng: random.Random) -> Iterator[Question]:
    for number, fact in enumerate(_facts(world, rng)):
        first, wording = rng.choice(world.visible()), _wording(fact, rng)
        before = fill(_wording(first, rng), {"s": first.subject})
        text = fill(wording, {"s": fact.subject})
        form = f"Q: {before}\nQ: {{q}}\nA: {first.object}.\nA:"
        yield Question(f"pairs-{number + 1:03d}", "pairs", text, fact.object, fact, wording, form)


def _chains(world: World, rng: random.Random) -> Iterator[Question]:
    shelves = shelf(world)
    beginnings = [(path, wording) for path, some in CHAINS.items() for wording in some]
    rng.shuffle(beginnings)
    for number, hero in enumerate(rng.sample(shelves.people, PER_KIND)):
        path, wording = beginnings[number % len(beginnings)]
        answer = hero
        for relation in path.split("."):
            answer = world.index[answer, relation]
        home = world.index[hero, "lives_in"]
        text = fill(wording, {"p": hero, "q": shelves.friend[hero], "t": home, "d": rng.choice(DAYS)})
        yield Question(f"chains-{number + 1:03d}", "chains", text, answer, Fact(hero, path, answer), wording, "{q}")
