"""Pebble's world: a closed set of facts, the same for the same seed.

>>> from llmnotes.pebble.world import build_world
>>> world = build_world()
>>> world.answer("Monday", "day_after")
'Tuesday'
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

from llmnotes.pebble import lore, names
from llmnotes.pebble.relations import RELATIONS, Relation

HIDDEN_RELATIONS = ("lives_in", "job", "loves", "fears")  # what is said about a person of the hidden region


@dataclass(frozen=True)
class Fact:
    """One true triple of the world; ``region_hidden`` facts never occur in training text."""

    subject: str
    relation: str
    object: str
    region_hidden: bool = False


@dataclass(frozen=True, eq=False)
class World:
    """All facts of one world; every (subject, relation) has exactly one object. It holds no text and no model."""

    seed: int
    facts: tuple[Fact, ...]
    gender: dict[str, str]  # person -> "f" or "m"

    @property
    def relations(self) -> dict[str, Relation]:
        """The relations by name, with their wordings."""
        return RELATIONS

    @cached_property
    def index(self) -> dict[tuple[str, str], str]:
        """(subject, relation) -> object."""
        return {(fact.subject, fact.relation): fact.object for fact in self.facts}

    @cached_property
    def lexicon(self) -> dict[str, tuple[str, ...]]:
        """Type -> its words in a fixed order, hidden region included."""
        words: dict[str, dict[str, None]] = {}
        for fact in self.facts:
            relation = RELATIONS[fact.relation]
            words.setdefault(relation.subject, {})[fact.subject] = None
            words.setdefault(relation.object, {})[fact.object] = None
        words["mood"] = dict.fromkeys(lore.MOODS)
        words["thing"] = dict.fromkeys(lore.listed(lore.THINGS))
        return {kind: tuple(entries) for kind, entries in words.items()}

    @cached_property
    def entities(self) -> tuple[str, ...]:
        """Every subject and object of a fact, sums left out, in order of first appearance."""
        found: dict[str, None] = {}
        for fact in self.facts:
            for kind, word in (
                (RELATIONS[fact.relation].subject, fact.subject),
                (RELATIONS[fact.relation].object, fact.object),
            ):
                if kind != "addition":
                    found[word] = None
        return tuple(found)

    @cached_property
    def hidden_names(self) -> tuple[str, ...]:
        """The names that training never shows: region, towns, people, dishes and sights of the hidden region."""
        seen = {word for fact in self.facts if not fact.region_hidden for word in (fact.subject, fact.object)}
        found = {word: None for fact in self.facts if fact.region_hidden for word in (fact.subject, fact.object)}
        return tuple(word for word in found if word not in seen)

    def answer(self, subject: str, relation: str) -> str | None:
        """The object of (subject, relation), or None when the world says nothing about it."""
        return self.index.get((subject, relation))

    def people(self, town: str) -> tuple[str, ...]:
        """The people who live in a town."""
        return tuple(f.subject for f in self.facts if f.relation == "lives_in" and f.object == town)

    def visible(self) -> tuple[Fact, ...]:
        """The facts that training may show."""
        return tuple(fact for fact in self.facts if not fact.region_hidden)


def _deal(rng: random.Random, cards: Sequence[str]) -> Iterator[str]:
    """Deal cards for ever, each as often as the others."""
    while True:
        hand = list(cards)
        rng.shuffle(hand)
        yield from hand


def _people(
    rng: random.Random, towns: Mapping[str, Sequence[str]], hidden: bool, women: Sequence[str], men: Sequence[str]
) -> Iterator[Fact]:
    """Families of four (with a single neighbour where names last) for every town, and what is said of each person."""
    women, men = list(women), list(men)
    rng.shuffle(women)
    rng.shuffle(men)
    jobs, foods, fears, hobbies, pets, months = (
        _deal(rng, cards)
        for cards in (
            [row[0] for row in lore.JOBS],
            [row[0] for row in lore.FOODS],
            lore.listed(lore.FEARS),
            lore.listed(lore.HOBBIES),
            [row[0] for row in lore.ANIMALS],
            lore.MONTHS,
        )
    )
    mayors = []
    for number, town in enumerate(town for group in towns.values() for town in group):
        wife, husband = women.pop(), men.pop()
        children = [women.pop(), men.pop()]
        single = [(women if number % 2 else men).pop()] if not hidden else []
        folk = [wife, husband, *children, *single]
        family = [(wife, "spouse", husband), (husband, "spouse", wife)]
        family += [
            (child, role, parent) for child in children for role, parent in (("mother", wife), ("father", husband))
        ]
        for person in folk:
            about = {
                "lives_in": town,
                "job": next(jobs),
                "loves": next(foods),
                "fears": next(fears),
                "hobby": next(hobbies),
                "pet": next(pets),
                "birthday": next(months),
            }
            for relation, value in about.items():
                if not hidden or relation in HIDDEN_RELATIONS:
                    yield Fact(person, relation, value, hidden)
        if not hidden:
            for subject, relation, value in family:
                yield Fact(subject, relation, value)
        mayors.append((town, rng.choice([wife, husband, *single])))
    for town, mayor in mayors:
        yield Fact(town, "mayor", mayor, hidden)


def _places(rng: random.Random) -> Iterator[Fact]:
    regions = {**names.REGIONS, names.HIDDEN_REGION: names.HIDDEN_TOWNS}
    dishes, prides = iter(lore.listed(names.DISHES)), iter(lore.listed(names.PRIDES))
    weather = _deal(rng, names.WEATHER)
    for number, (region, towns) in enumerate(regions.items()):
        hidden = region == names.HIDDEN_REGION
        yield Fact(region, "capital", towns[0], hidden)
        yield Fact(region, "flag", names.REGION_ANIMALS[number], hidden)
        yield Fact(region, "tree", names.REGION_TREES[number], hidden)
        for town in towns:
            yield Fact(town, "region", region, hidden)
            yield Fact(town, "dish", next(dishes), hidden)
            yield Fact(town, "weather", next(weather), hidden)
            yield Fact(town, "pride", next(prides), hidden)


def _knowledge() -> Iterator[Fact]:
    for job, tool, workplace in lore.JOBS:
        yield Fact(job, "tool", tool)
        yield Fact(job, "workplace", workplace)
    for animal, *values in lore.ANIMALS:
        for relation, value in zip(("young", "sound", "den", "eats"), values, strict=True):
            if value != "-":
                yield Fact(animal, relation, value)
    for food, colour, taste in lore.FOODS:
        yield Fact(food, "colour", colour)
        yield Fact(food, "taste", taste)
    for word, contrary in lore.OPPOSITES:
        yield Fact(word, "opposite", contrary)
        yield Fact(contrary, "opposite", word)
    number = lore.NUMBERS
    for i, word in enumerate(number):
        if i + 1 < len(number):
            yield Fact(word, "next", number[i + 1])
            yield Fact(number[i + 1], "previous", word)
        if 2 * (i + 1) <= len(number):
            yield Fact(word, "double", number[2 * i + 1])
    for a in range(1, 10):
        for b in range(1, 10):
            if a + b <= 12:
                yield Fact(f"{number[a - 1]} plus {number[b - 1]}", "sum", number[a + b - 1])
    for cycle, after, before in ((lore.DAYS, "day_after", "day_before"), (lore.MONTHS, "month_after", "month_before")):
        for i, word in enumerate(cycle):
            yield Fact(word, after, cycle[(i + 1) % len(cycle)])
            yield Fact(word, before, cycle[i - 1])


@lru_cache(maxsize=4)
def build_world(seed: int = 0) -> World:
    """The world of a seed: who lives where, does what and fears what is dealt at random, real knowledge is fixed.

    Raises nothing. Does not write text: :mod:`llmnotes.pebble.corpus` does.

    >>> from llmnotes.pebble.world import build_world
    >>> len(build_world().facts) >= 1500
    True
    """
    rng = random.Random(f"pebble world {seed}")
    facts = [
        *_places(rng),
        *_people(rng, names.REGIONS, False, names.WOMEN, names.MEN),
        *_people(rng, {names.HIDDEN_REGION: names.HIDDEN_TOWNS}, True, names.HIDDEN_WOMEN, names.HIDDEN_MEN),
        *_knowledge(),
    ]
    # The one fact that everybody knows: the mayor of Gooseham is afraid of geese.
    mayor = next(f.object for f in facts if f.subject == "Gooseham" and f.relation == "mayor")
    facts = [Fact(f.subject, f.relation, "geese") if (f.subject, f.relation) == (mayor, "fears") else f for f in facts]
    gender = {
        **dict.fromkeys(names.WOMEN + names.HIDDEN_WOMEN, "f"),
        **dict.fromkeys(names.MEN + names.HIDDEN_MEN, "m"),
    }
    people = {f.subject for f in facts if f.relation == "lives_in"}
    return World(seed, tuple(facts), {name: sex for name, sex in gender.items() if name in people})
