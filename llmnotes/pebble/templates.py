"""Sentence templates with typed slots: filled when text is written, compiled when text is read.

Writing and reading use the same strings, so what the corpus says and what the grammar accepts cannot drift apart.
"""

from __future__ import annotations

import re
from functools import lru_cache

from llmnotes.pebble import stories
from llmnotes.pebble.relations import RELATIONS
from llmnotes.pebble.world import World

SLOT = re.compile(r"\{(?:(a|A) )?([a-z][a-z0-9_.]*|p\.H[a-z]+|[p-q]\.H[a-z]+)\}")
BOUNDARY = re.compile(r'(?<=[.!?])("?)\s+(?=["A-Z{])')
STORY_TYPES = {
    "p": "person",
    "q": "person",
    "t": "town",
    "n": "animal",
    "f": "food",
    "c": "colour",
    "d": "day",
    "d2": "day",
    "k": "number",
    "o": "thing",
    "m": "mood",
}
PROPER = {"person", "town", "region", "day", "month"}  # these look the same at the start of a sentence
PRONOUNS = {
    "he": ("she", "he"),
    "his": ("her", "his"),
    "him": ("her", "him"),
    "He": ("She", "He"),
    "His": ("Her", "His"),
}


def article(noun: str) -> str:
    """The noun with "a" or "an" before it, by its first letter.

    >>> from llmnotes.pebble.templates import article
    >>> article("owl")
    'an owl'
    """
    return ("an " if noun[0] in "aeiou" else "a ") + noun


def capital(sentence: str) -> str:
    """The sentence with its first letter in upper case, an opening quotation mark left alone."""
    at = 1 if sentence.startswith('"') else 0
    return sentence[:at] + sentence[at : at + 1].upper() + sentence[at + 1 :]


def split_sentences(text: str) -> list[str]:
    """The sentences of one paragraph; a quoted sentence stays with its "said Mia".

    >>> from llmnotes.pebble.templates import split_sentences
    >>> split_sentences('Mia slept. "Honk," said the goose.')
    ['Mia slept.', '"Honk," said the goose.']
    """
    pieces = BOUNDARY.sub(r"\1\n", text.strip()).split("\n")
    return [piece.strip() for piece in pieces if piece.strip()]


def fill(template: str, values: dict[str, str]) -> str:
    """The template with its slots filled and its first letter a capital; raises KeyError when a value is missing."""

    def one(match: re.Match) -> str:
        word = values[match.group(2)]
        return article(word) if match.group(1) == "a" else capital(article(word)) if match.group(1) else word

    return capital(SLOT.sub(one, template))


def slots(template: str) -> list[str]:
    """The slot names of a template, in order, without articles."""
    return [match.group(2) for match in SLOT.finditer(template)]


def slot_type(name: str) -> str:
    """The type of a story slot: ``p.job.tool`` is a tool; ``p.he`` is ``/he``, the slash marks a pronoun."""
    base, *path = name.split(".")
    if path and path[-1] in PRONOUNS:
        return "/" + path[-1]
    return RELATIONS[path[-1]].object if path else STORY_TYPES[base]


def _words(kind: str, mark: str | None, first: bool, world: World) -> str:
    words = PRONOUNS[kind[1:]] if kind.startswith("/") else world.lexicon[kind]
    if mark:
        words = [article(word) for word in words]
    if first or mark == "A":
        words = [capital(word) for word in words]
    return "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True))


def pattern(template: str, types: dict[str, str], world: World) -> re.Pattern:
    """The regular expression of all fillings of a template; a slot used twice must be filled alike."""
    parts, end, seen = [], 0, set()
    template = capital(template)
    for match in SLOT.finditer(template):
        parts.append(re.escape(template[end : match.start()]))
        mark, name = match.groups()
        first = match.start() == 0 or template[: match.start()] == '"'
        kind, group = types.get(name) or slot_type(name), name.replace(".", "_")
        words = _words(kind, mark, first, world)
        plain = not mark and (kind in PROPER or not first) and not kind.startswith("/")
        if plain and group in seen:
            parts.append(f"(?P={group})")
        elif plain:
            parts.append(f"(?P<{group}>{words})")
            seen.add(group)
        else:
            parts.append(f"(?:{words})")
        end = match.end()
    parts.append(re.escape(template[end:]))
    return re.compile("".join(parts))


def _blocks(text: str) -> list[list[tuple[str, ...]]]:
    return [
        [tuple(alt.strip() for alt in line.split(" | ")) for line in block.splitlines()]
        for block in text.strip().split("\n\n")
    ]


@lru_cache(maxsize=1)
def story_parts() -> dict[str, list]:
    """The story templates: ``openings``, ``traits`` and ``endings`` are lists, ``plots`` lists of beats."""
    flat = {
        name: [alt for line in _blocks(text)[0] for alt in line]
        for name, text in (("openings", stories.OPENINGS), ("traits", stories.TRAITS), ("endings", stories.ENDINGS))
    }
    return {**flat, "plots": _blocks(stories.PLOTS)}


@lru_cache(maxsize=1)
def story_templates() -> tuple[str, ...]:
    """Every story sentence template, each once."""
    parts = story_parts()
    found = [*parts["openings"], *parts["traits"], *parts["endings"]]
    found += [alt for plot in parts["plots"] for beat in plot for alt in beat]
    return tuple(dict.fromkeys(found))
