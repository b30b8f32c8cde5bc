"""Pebble's training text: stories, statements, questions with answers, and chat, all made from the world's facts.

>>> from llmnotes.pebble.corpus import documents
>>> documents(2, seed=1) == documents(2, seed=1)
True
"""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass
from functools import lru_cache

from llmnotes.pebble import lore, smalltalk
from llmnotes.pebble.frames import training_wordings
from llmnotes.pebble.relations import RELATIONS
from llmnotes.pebble.templates import PRONOUNS, fill, slots, split_sentences, story_parts
from llmnotes.pebble.world import Fact, World, build_world

ROLES = {"user": "<|user|>", "assistant": "<|assistant|>"}
END = "<|end|>"
DOCUMENTS, HELD_OUT = 160_000, 300
# What a document is, and how often; questions are what the exam asks, so they weigh most.
MIX = {"questions": 48, "statements": 22, "story": 22, "chat": 8}
CHAT_MIX = {"chat": 1}


@dataclass(frozen=True)
class Document:
    """One training document. ``text`` is what the model reads between its first and last token; ``kind`` is of MIX."""

    kind: str
    text: str

    def sentences(self) -> list[str]:
        """Its sentences, without role marks and "Q:" and "A:"."""
        text = self.text
        for mark in (*ROLES.values(), END):
            text = text.replace(mark, "\n")
        lines = (line.removeprefix("Q:").removeprefix("A:") for line in text.split("\n"))
        return [sentence for line in lines for sentence in split_sentences(line)]


def state(fact: Fact, rng: random.Random) -> str:
    """One sentence that states a fact."""
    return fill(rng.choice(RELATIONS[fact.relation].says), {"s": fact.subject, "o": fact.object})


def ask(fact: Fact, rng: random.Random) -> str:
    """One question for a fact, in one of the wordings that training may use."""
    return fill(rng.choice(training_wordings(fact.relation)), {"s": fact.subject})


def chat_text(messages: list[tuple[str, str]]) -> str:
    """Messages, each (role, words), as the chat template writes them."""
    return "".join(f"{ROLES[role]} {words}{END}" for role, words in messages)


@dataclass(frozen=True, eq=False)
class Shelf:
    """What training speaks of: visible facts, people, the facts about each person, and each one's friend in town."""

    world: World
    facts: tuple[Fact, ...]
    people: tuple[str, ...]
    about: dict[str, tuple[Fact, ...]]
    friend: dict[str, str]


@lru_cache(maxsize=4)
def shelf(world: World) -> Shelf:
    """The visible part of a world, sorted for the writers of documents."""
    facts = world.visible()
    home = {fact.subject: fact.object for fact in facts if fact.relation == "lives_in"}
    about: dict[str, list[Fact]] = {person: [] for person in home}
    for fact in facts:
        if fact.subject in about:
            about[fact.subject].append(fact)
    friend = {}  # always the same one, so that a story's second name follows from its first
    for town in dict.fromkeys(home.values()):
        people = [person for person in home if home[person] == town]
        friend |= dict(zip(people, people[1:] + people[:1], strict=True))
    return Shelf(world, facts, tuple(home), {person: tuple(known) for person, known in about.items()}, friend)


def story(shelf: Shelf, rng: random.Random, hero: str | None = None) -> str:
    """One short story: an opening, perhaps a trait, a plot with each beat told in one of its ways, an ending."""
    parts, world = story_parts(), shelf.world
    hero = hero or rng.choice(shelf.people)
    day = rng.sample(lore.DAYS, 2)
    values = {
        "p": hero,
        "q": shelf.friend[hero],
        "t": world.index[hero, "lives_in"],
        "n": rng.choice(lore.ANIMALS)[0],
        "f": rng.choice(lore.FOODS)[0],
        "c": rng.choice(lore.FOODS)[1],
        "d": day[0],
        "d2": day[1],
        "k": rng.choice(lore.NUMBERS[1:12]),
        "o": rng.choice(lore.listed(lore.THINGS)),
        "m": rng.choice(lore.MOODS),
    }
    templates = [rng.choice(parts["openings"])]
    templates += rng.sample(parts["traits"], rng.choice((0, 1, 1, 2)))
    templates += [rng.choice(beat) for beat in rng.choice(parts["plots"])]
    templates += [rng.choice(parts["endings"])] if rng.random() < 0.8 else []
    return " ".join(fill(template, _resolve(template, values, world)) for template in templates)


def _resolve(template: str, values: dict[str, str], world: World) -> dict[str, str]:
    found = dict(values)
    for name in slots(template):
        base, *path = name.split(".")
        word = values[base]
        for step in path:
            word = PRONOUNS[step][world.gender[word] == "m"] if step in PRONOUNS else world.index[word, step]
        found[name] = word
    return found


def _questions(shelf: Shelf, rng: random.Random) -> str:
    facts = rng.sample(shelf.facts, rng.choice((2, 3, 4, 5, 6)))
    return "\n".join(f"Q: {ask(fact, rng)}\nA: {fact.object}." for fact in facts) + "\n"


def _about(shelf: Shelf, rng: random.Random, person: str, most: int) -> str:
    facts = shelf.about[person]
    chosen = rng.sample(facts, min(len(facts), rng.randint(3, most)))
    return " ".join(state(fact, rng) for fact in chosen)


def _statements(shelf: Shelf, rng: random.Random) -> str:
    if rng.random() < 0.5:
        return _about(shelf, rng, rng.choice(shelf.people), 8)
    return " ".join(state(fact, rng) for fact in rng.sample(shelf.facts, rng.randint(2, 7)))


def _chat(shelf: Shelf, rng: random.Random) -> str:
    messages: list[tuple[str, str]] = []
    for _ in range(rng.choice((1, 2, 3, 4))):
        draw, person = rng.random(), rng.choice(shelf.people)
        if draw < 0.60:
            fact = rng.choice(shelf.facts)
            pair = ask(fact, rng), f"{fact.object}."
        elif draw < 0.85:
            said, replies = rng.choice(smalltalk.SMALL_TALK)
            pair = rng.choice(said), rng.choice(replies)
        elif draw < 0.93:
            pair = fill(rng.choice(smalltalk.ABOUT_PERSON), {"p": person}), _about(shelf, rng, person, 5)
        else:
            named = rng.random() < 0.5
            pair = (
                (
                    fill(rng.choice(smalltalk.ABOUT_STORY), {"p": person})
                    if named
                    else rng.choice(smalltalk.STORY_REQUESTS)
                ),
                story(shelf, rng, person if named else None),
            )
        messages += [("user", pair[0]), ("assistant", pair[1])]
    return chat_text(messages)


_WRITERS = {"questions": _questions, "statements": _statements, "story": story, "chat": _chat}


@lru_cache(maxsize=4)
def documents(count: int, seed: int = 0, chat_only: bool = False) -> tuple[Document, ...]:
    """The ``count`` training documents of a seed, in training order; the same arguments give the same bytes.

    Raises nothing. Does not contain a fact, a name or an exam question that is kept out of training.
    """
    shelves, rng = shelf(build_world()), random.Random(f"pebble corpus {seed} {chat_only}")
    mix = CHAT_MIX if chat_only else MIX
    kinds = rng.choices(list(mix), weights=list(mix.values()), k=count)
    return tuple(Document(kind, _WRITERS[kind](shelves, rng)) for kind in kinds)


def held_out(count: int = HELD_OUT, seed: int = 0) -> tuple[Document, ...]:
    """Documents for measuring perplexity, none of which is also a training document; chat is left out."""
    seen = {document.text for document in documents(DOCUMENTS, seed)}
    shelves, rng = shelf(build_world()), random.Random(f"pebble held out {seed}")
    mix = {kind: weight for kind, weight in MIX.items() if kind != "chat"}
    found: list[Document] = []
    while len(found) < count:
        kind = rng.choices(list(mix), weights=list(mix.values()))[0]
        document = Document(kind, _WRITERS[kind](shelves, rng))
        if document.text not in seen:
            found.append(document)
    return tuple(found)


def corpus_sha256(docs: tuple[Document, ...]) -> str:
    """The SHA-256 of the documents in order, as UTF-8 with a record separator after each."""
    digest = hashlib.sha256()
    for document in docs:
        digest.update((document.text + "\x1e").encode("utf-8"))
    return digest.hexdigest()
