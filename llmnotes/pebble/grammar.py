"""The grammar of Pebble's world: which sentences its templates can make.

It judges form and types, never truth: "Mia lives in Plumford." parses wherever Mia lives, "Mia lives in soup." does
not. The templates are the very ones that the corpus is written with.
"""

from __future__ import annotations

import re
from functools import lru_cache

from llmnotes.pebble import smalltalk
from llmnotes.pebble.frames import EXAM, TRAINING
from llmnotes.pebble.relations import RELATIONS
from llmnotes.pebble.templates import capital, pattern, split_sentences, story_templates
from llmnotes.pebble.world import build_world

__all__ = ["parses", "share_parsed", "split_sentences"]


@lru_cache(maxsize=1)
def _sentences() -> list[re.Pattern]:
    world = build_world()
    found = [pattern(template, {}, world) for template in story_templates()]
    for relation in RELATIONS.values():
        types = {"s": relation.subject, "o": relation.object}
        found += [pattern(template, types, world) for template in relation.says]
    found += [pattern(text, {}, world) for text in (*smalltalk.ABOUT_STORY, *smalltalk.ABOUT_PERSON)]
    return found


@lru_cache(maxsize=1)
def _fixed() -> frozenset[str]:
    """Sentences without slots: small talk, requests for a story, and answers, which are one word of the world."""
    texts = [text for pair in smalltalk.SMALL_TALK for side in pair for text in side]
    found = {sentence for text in (*texts, *smalltalk.STORY_REQUESTS) for sentence in split_sentences(text)}
    objects = {relation.object for relation in RELATIONS.values()}
    lexicon = build_world().lexicon
    return frozenset(found | {word + "." for kind in objects for word in lexicon[kind]})


@lru_cache(maxsize=1)
def _questions() -> list[tuple[re.Pattern, list[re.Pattern], bool]]:
    """(frame, the cores it takes, whether the core begins the sentence); a core inside a sentence is marked ~."""
    world = build_world()
    cores: dict[tuple[str, str], dict[bool, list[re.Pattern]]] = {}
    for relation in RELATIONS.values():
        types = {"s": relation.subject}
        for kind, texts in (("d", relation.asks), ("i", relation.tells), ("n", relation.names)):
            for wh in {relation.wh, ""}:
                slot = cores.setdefault((kind, wh), {True: [], False: []})
                slot[True] += [pattern(text, types, world) for text in texts]
                slot[False] += [pattern("~" + text, types, world) for text in texts]
    frames = []
    for table in (TRAINING, EXAM):
        for kind, texts in table.items():
            for text in dict.fromkeys(texts):
                for wh in ("what", "who") if "{wh}" in text else ("",):
                    shape = re.escape(capital(text.replace("{wh}", wh))).replace(re.escape("{" + kind + "}"), "(.+)")
                    at_start = text.startswith("{" + kind)
                    frames.append((re.compile(shape), cores[kind, wh][at_start], at_start))
    return frames


@lru_cache(maxsize=50_000)
def parses(sentence: str) -> bool:
    """Whether the grammar can make this one sentence, spaces at its ends and a leading "Q:" or "A:" left aside.

    >>> from llmnotes.pebble.grammar import parses
    >>> parses("Mia lives in Plumford."), parses("Mia lives in soup.")
    (True, False)
    """
    sentence = re.sub(r"^[QA]: ", "", sentence.strip())
    if sentence in _fixed() or any(shape.fullmatch(sentence) for shape in _sentences()):
        return True
    for frame, cores, at_start in _questions():
        match = frame.fullmatch(sentence)
        if match:
            core = match.group(1) if at_start else "~" + match.group(1)
            if any(shape.fullmatch(core) for shape in cores):
                return True
    return False


def share_parsed(sentences: list[str]) -> float:
    """The share of sentences that parse, from 0 to 1; raises ZeroDivisionError when there is none."""
    return sum(map(parses, sentences)) / len(sentences)
