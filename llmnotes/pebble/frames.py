"""How a question is put: frames around the wordings of a relation, some of which only the exam uses.

A frame is joined to a core: ``{d}`` takes a direct question, ``{i}`` an indirect one, ``{n}`` a noun phrase.
Training sees the frames of ``TRAINING`` with five sixths of the cores each; the exam uses the frames of ``EXAM``,
which training never shows, and the pairs of frame and core that were kept back.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from functools import cache

from llmnotes.pebble.relations import RELATIONS


def _split(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for line in text.strip().splitlines() for part in line.split(" | "))


TRAINING = {
    "d": _split("""
{d}? | {d}? | {d}? | {d}? | So {d}? | And {d}? | Now, {d}? | Quick question: {d}? | One question: {d}? | Please, {d}?
Another question: {d}? | Tell me, {d}? | Hello, {d}? | Excuse me, {d}? | Well, {d}? | My question is this: {d}?
Here is a question: {d}? | Next question: {d}? | Let me ask you: {d}? | Say, {d}? | I want to know: {d}? | Hey, {d}?
Do you know this: {d}? | In this world, {d}? | {d}, please? | {d}, do you know? | {d}, I wonder? | Good evening, {d}?
"""),
    "i": _split("""
Can you tell me {i}? | Could you tell me {i}? | Tell me {i}. | Please tell me {i}. | Do you know {i}? | I forgot {i}.
Do you remember {i}? | I want to know {i}. | I would like to know {i}. | I wonder {i}. | Please say {i}. | Say {i}.
Let me know {i}. | Can you say {i}? | I ask you {i}. | Somebody asked me {i}. | My aunt wants to know {i}.
Everybody should know {i}. | I never know {i}. | Please remind me {i}. | Explain {i}. | The question is {i}.
Hello, do you know {i}? | Excuse me, can you tell me {i}? | I cannot remember {i}. | Nobody told me {i}.
"""),
    "n": _split("""
{wh} is {n}? | {wh} is {n}? | Name {n}. | Please name {n}. | Tell me {n}. | Please tell me {n}. | Give me {n}.
I need {n}. | I forgot {n}. | Do you know {n}? | Can you name {n}? | I am looking for {n}. | {n}, please. | {n}?
Say {n}. | I want to know {n}. | I would like to know {n}. | Do you remember {n}? | And {wh} is {n}?
So {wh} is {n}? | Quick question: {wh} is {n}? | Let us talk about {n}. | Remind me of {n}. | Could you tell me {n}?
My aunt asks for {n}. | We need {n}. | I cannot remember {n}.
"""),
}

EXAM = {
    "d": _split("""One more question: {d}? | Good morning, {d}? | Listen, {d}? | {d}, can you say?
A small question: {d}? | Now tell me, {d}?"""),
    "i": _split("""Could you remind me {i}? | Would you say {i}? | I have forgotten {i}. | My uncle asks {i}.
Please let me know {i}. | Does anybody know {i}?"""),
    "n": _split("""Could you name {n}? | I have forgotten {n}. | Now {wh} is {n}? | Please give me {n}.
{n}, if you please. | Another question: {wh} is {n}?"""),
}


@dataclass(frozen=True)
class Wording:
    """One complete question of a relation with its slot ``{s}``; ``kept_back`` ones are for the exam alone."""

    relation: str
    text: str
    new_frame: bool
    kept_back: bool


def _cores(relation: str) -> dict[str, tuple[str, ...]]:
    wording = RELATIONS[relation]
    return {"d": wording.asks, "i": wording.tells, "n": wording.names}


def _join(frame: str, kind: str, core: str, wh: str) -> str:
    return frame.replace("{wh}", wh).replace("{" + kind + "}", core)


@cache
def wordings(relation: str) -> tuple[Wording, ...]:
    """Every wording of a relation: training frames (one in six kept back) and exam frames with every core."""
    found: dict[str, Wording] = {}
    for kind, cores in _cores(relation).items():
        for core in cores:
            for frame in TRAINING[kind]:
                text = _join(frame, kind, core, RELATIONS[relation].wh)
                plain = frame in ("{d}?", "{wh} is {n}?")
                kept = zlib.crc32(f"{relation} {text}".encode()) % 6 == 0 and not plain
                found.setdefault(text, Wording(relation, text, False, kept))
    trained = {wording.text for wording in found.values()}
    for kind, cores in _cores(relation).items():
        for core in cores:
            for frame in EXAM[kind]:
                text = _join(frame, kind, core, RELATIONS[relation].wh)
                if text not in trained:
                    found.setdefault(text, Wording(relation, text, True, True))
    return tuple(found.values())


@cache
def training_wordings(relation: str) -> tuple[str, ...]:
    """The question texts that training may use, with ``{s}`` for the subject; plain questions count four times."""
    texts = tuple(w.text for w in wordings(relation) if not w.kept_back)
    return texts + RELATIONS_PLAIN[relation] * 3


RELATIONS_PLAIN = {name: tuple(core + "?" for core in relation.asks) for name, relation in RELATIONS.items()}
