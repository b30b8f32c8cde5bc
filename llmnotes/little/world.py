"""The text of the lessons on training: short sentences about the animals of Pebble's world, cut into words."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from random import Random
from typing import NamedTuple

import torch

from llmnotes.pebble import build_world
from llmnotes.pebble.relations import RELATIONS
from llmnotes.pebble.templates import fill

ANIMAL = ("young", "sound", "den", "eats")  # what the world says about an animal, each in four wordings


class Statement(NamedTuple):
    """A sentence of the world, and the fact that it states: `wording` counts the ways to say it from 0."""

    subject: str
    object: str
    relation: str
    wording: int
    text: str


def statements(relations: Sequence[str] = ANIMAL) -> list[Statement]:
    """Return all that the world says about its animals, in its own order; `relations` picks some of it.

    >>> statements(["young"])[4].text
    'A young cat is called a kitten.'
    """
    return [
        Statement(fact.subject, fact.object, fact.relation, number, fill(says, {"s": fact.subject, "o": fact.object}))
        for fact in build_world().facts
        if fact.relation in relations
        for number, says in enumerate(RELATIONS[fact.relation].says)
    ]


def split(sentence: str) -> list[str]:
    """Cut a sentence into words; full stop and comma are words of their own.

    >>> split("If you hear meow, it is a cat.")
    ['if', 'you', 'hear', 'meow', ',', 'it', 'is', 'a', 'cat', '.']
    """
    return sentence.lower().replace(".", " .").replace(",", " ,").split()


class Words:
    """A tokenizer whose tokens are whole words. Token 0 is the full stop, and every sentence also begins after one.

    >>> words = Words(["A cat.", "A dog."])
    >>> words.encode("A dog."), words.decode([1, 2, 0])
    ([1, 3, 0], 'a cat .')
    """

    def __init__(self, sentences: Iterable[str]) -> None:
        self.words = [".", *sorted({word for sentence in sentences for word in split(sentence)} - {"."})]
        self.number = {word: number for number, word in enumerate(self.words)}

    def __len__(self) -> int:
        return len(self.words)

    def encode(self, sentence: str) -> list[int]:
        """Return the numbers of the words; raises KeyError for a word that is not in the list."""
        return [self.number[word] for word in split(sentence)]

    def decode(self, ids: Iterable[int]) -> str:
        """Return the words, with blanks between them."""
        return " ".join(self.words[int(token)] for token in ids)


def hold_out(found: Sequence[Statement], seed: int = 0) -> tuple[list[Statement], list[Statement]]:
    """Split statements in two: of the wordings of each fact, one that is drawn by lot is held out.

    >>> [len(part) for part in hold_out(statements(["young"]))]
    [108, 36]
    """
    facts: dict[tuple[str, str], list[int]] = {}
    for place, one in enumerate(found):
        facts.setdefault((one.subject, one.relation), []).append(place)
    random = Random(seed)
    out = {random.choice(places) for places in facts.values()}
    return [one for i, one in enumerate(found) if i not in out], [found[i] for i in sorted(out)]


def third(found: Sequence[Statement], keep: str, seed: int) -> list[Statement]:
    """Keep a third of the statements: one of the "wordings" of each fact, or a third of the "facts" in all wordings.

    >>> [len(third(hold_out(statements(["young"]))[0], keep, seed=0)) for keep in ("wordings", "facts")]
    [36, 36]
    """
    facts: dict[tuple[str, str], list[Statement]] = {}
    for one in found:
        facts.setdefault((one.subject, one.relation), []).append(one)
    random = Random(seed)
    if keep == "wordings":
        return [random.choice(told) for told in facts.values()]
    return [one for told in random.sample(list(facts.values()), round(len(facts) / 3)) for one in told]


def tensors(found: Sequence[Statement], words: Words) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (inputs, targets) of statements, one row each; shorter ones are filled up, with 0 and with -1.

    >>> found = statements(["young"])[4:5]
    >>> [part.tolist() for part in tensors(found, Words(one.text for one in found))]
    [[[0, 1, 6, 3, 4, 2, 1, 5]], [[1, 6, 3, 4, 2, 1, 5, 0]]]
    """
    lines = [[0, *words.encode(one.text)] for one in found]
    longest = max(map(len, lines))
    inputs = torch.tensor([line[:-1] + [0] * (longest - len(line)) for line in lines])
    targets = torch.tensor([line[1:] + [-1] * (longest - len(line)) for line in lines])
    return inputs, targets


def answer_first(one: Statement) -> bool:
    """Return whether a statement names its object before its subject, as "Give fish to the cat." does."""
    line, name, answer = split(one.text), split(one.subject)[0], split(one.object)[0]
    return not (name in line and answer in line[line.index(name) + 1 :])


def questions(found: Sequence[Statement], words: Words, about: Iterable[Statement] | None = None) -> torch.Tensor:
    """Return targets, shaped as those of `tensors`, that are -1 but at the answers: what does the animal eat, say?

    A sentence that names the answer first asks nothing. With `about` only facts that it states are asked.

    >>> found = statements(["young"])[4:6]
    >>> questions(found, Words(one.text for one in found)).tolist()
    [[-1, -1, -1, -1, -1, -1, 6, -1, -1], [-1, -1, -1, -1, -1, -1, -1, 6, -1]]
    """
    facts = {(one.subject, one.relation) for one in (found if about is None else about)}
    targets = tensors(found, words)[1]
    asked = torch.full_like(targets, -1)
    for row, one in enumerate(found):
        if (one.subject, one.relation) in facts and not answer_first(one):
            answer = split(one.object)[0]
            asked[row, len(split(one.text)) - 1 - split(one.text)[::-1].index(answer)] = words.number[answer]
    return asked


def write(shares: Callable[[list[int]], torch.Tensor], words: Words, seed: int, longest: int = 16) -> str:
    """Return a sentence, drawn word after word up to the full stop.

    `shares` gets the numbers of all words so far, beginning with the full stop before the first, and returns the
    probability of each word to come next.

    >>> words = Words(["A cat."])
    >>> write(lambda line: torch.eye(3)[(line[-1] + 1) % 3], words, seed=0)
    'a cat .'
    """
    random, line = torch.Generator().manual_seed(seed), [0]
    while len(line) == 1 or (line[-1] != 0 and len(line) < longest):
        line.append(int(torch.multinomial(shares(line), 1, generator=random)))
    return words.decode(line[1:])


def floor(found: Sequence[Statement], words: Words) -> float:
    """Return the lowest loss on statements that any model can reach: that of one that has counted every beginning.

    It knows how often each word comes after all that stands before it. Where several can come, even it can only share
    out.

    >>> sheep, lamb = (Statement("", "", "", 0, text) for text in ("A sheep.", "A lamb."))
    >>> round(floor([sheep, lamb], Words(["A sheep.", "A lamb."])), 4)  # "a" and "." are certain
    0.231
    """
    after: dict[tuple[int, ...], Counter[int]] = {}
    for one in found:
        line = (0, *words.encode(one.text))
        for end in range(1, len(line)):
            after.setdefault(line[:end], Counter())[line[end]] += 1
    paid = [n * math.log(counts.total() / n) for counts in after.values() for n in counts.values()]
    return sum(paid) / sum(counts.total() for counts in after.values())
