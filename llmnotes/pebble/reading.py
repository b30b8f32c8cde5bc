"""Reading: passages about people and places that nobody has heard of, with questions that only the passage answers.

Names are put together from syllables, and there are so many of them that learning them by heart doesn't pay: the only
way to a low loss is to look the answer up in the passage. One name in eight is kept for the test.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

from llmnotes.pebble.corpus import ask, chat_text, state
from llmnotes.pebble.exam import normal
from llmnotes.pebble.frames import wordings
from llmnotes.pebble.relations import RELATIONS
from llmnotes.pebble.templates import fill
from llmnotes.pebble.world import Fact, build_world

NOT_TOLD = "The text does not say"
UNANSWERED = 1 / 3  # the share of questions that the passage does not answer

_STARTS = """B Bl Br C Ch Cl Cr D Dr F Fl Fr G Gl Gr H J K Kl Kr L M N P Pl Pr Qu R S Sc Sh Sk Sl Sm Sn Sp St Str Sw T
Th Tr Tw V W Wh Y Z A E I O U""".split()
_VOWELS = "a e i o u a e i o u ai ea ee ie oa oo ou".split()
_MIDDLES = """b bb ck d dd dr ff g gg k l lb ld ll lm lt lv m mb mm mp n nd ng nn nt p pp r rb rd rg rk rl rm rn rr rs
rt s sk sp ss st t th tt v x z zz""".split()
_ENDS = {
    "person": "a ia ina ella e er en el in is on o us ius ard bert fred ric wyn ett ilda anne my ly vin son".split(),
    "town": "ford by ton wick ham ley field mere bury wood stead port well bridge gate worth cliff haven".split(),
    "region": "land shire march dale holm veld ia oria moor wold reach".split(),
}
# Two words that make a dish or a sight; none of these pairs is one of the world's.
_DISHES = (
    """stuffed frozen pickled toasted salted stewed smoked golden peppery crispy lazy royal upside-down three-day windy
midnight barley goose mushroom lemon pumpkin ginger rhubarb walnut""".split(),
    "soup pie stew pudding noodles dumplings toast jelly salad cake porridge crisps bread broth crumble pasta".split(),
)
_SIGHTS = (
    """a leaning, a golden, a singing, a tiny, a haunted, a spinning, the longest, the smallest, the deepest,
a whistling, a giant, an upside-down, a velvet, a snoring, the oldest""".split(", "),
    "bridge tower well lake school church library market palace forest garden street bell river hat maze".split(),
)
PEOPLE_AND_PLACES = tuple(name for name, one in RELATIONS.items() if one.subject in _ENDS)


@dataclass(frozen=True)
class Reading:
    """A passage and one question about it. `fact` is what the question asks for, and `answer` says it or `NOT_TOLD`."""

    passage: str
    question: str
    answer: str
    fact: Fact

    @property
    def told(self) -> bool:
        """Whether the passage has the answer."""
        return self.answer != NOT_TOLD

    @property
    def messages(self) -> list[dict[str, str]]:
        """Passage and question as one message for a chat template."""
        return [{"role": "user", "content": f"{self.passage} {self.question}"}]


def name(kind: str, rng: random.Random, test: bool = False) -> str:
    """Return a made-up name of a "person", "town" or "region": one of the test's, or one that training may show.

    It is never a name of Pebble's world. Raises KeyError for another kind.

    >>> name("town", random.Random(1))
    'Spairby'
    """
    while True:
        found = rng.choice(_STARTS)
        if found not in "AEIOU":
            found += rng.choice(_VOWELS)
        found += rng.choice(_MIDDLES)
        if kind == "person" and rng.random() < 0.15:
            found += rng.choice("aeiou") + rng.choice(_MIDDLES)
        found += rng.choice(_ENDS[kind])
        if found not in _known() and is_test(found) == test:
            return found


def is_test(made_up: str) -> bool:
    """Whether a made-up name belongs to the test: one in eight does, and training never shows it."""
    return zlib.crc32(made_up.encode()) % 8 == 0


@cache
def _known() -> frozenset[str]:
    return frozenset(build_world().entities)


@cache
def _seen(kind: str) -> tuple[str, ...]:
    """Return the words of a type that training shows."""
    world = build_world()
    return tuple(word for word in world.lexicon[kind] if word not in world.hidden_names)


def _object(relation: str, rng: random.Random, test: bool) -> str:
    kind = RELATIONS[relation].object
    if kind in _ENDS:
        return name(kind, rng, test)
    if kind in ("dish", "pride") and rng.random() < 0.7:
        first, second = _DISHES if kind == "dish" else _SIGHTS
        return f"{rng.choice(first)} {rng.choice(second)}"
    return rng.choice(_seen(kind))


def _facts(rng: random.Random, most: int, test: bool) -> list[Fact]:
    """Return up to `most` facts about one to three made-up subjects, in any order."""
    wanted, facts = rng.randint(1, most), []
    subjects = []
    for _ in range(min(wanted, rng.choice((1, 1, 2, 2, 3)))):
        kind = rng.choice(("person", "person", "person", "town", "town", "region"))
        subjects.append((name(kind, rng, test), [r for r in PEOPLE_AND_PLACES if RELATIONS[r].subject == kind]))
    for number in range(wanted):
        subject, relations = subjects[number % len(subjects)]
        if relations:
            relation = relations.pop(rng.randrange(len(relations)))
            facts.append(Fact(subject, relation, _object(relation, rng, test)))
    rng.shuffle(facts)
    return facts


def _not_told(facts: list[Fact], rng: random.Random, test: bool) -> Fact:
    """Return a fact that a passage does not give: of a subject that it names, of a new one, or of the known world."""
    told = {(fact.subject, fact.relation) for fact in facts}
    if rng.random() < 0.15:
        return rng.choice(build_world().visible())
    while True:
        fact, draw = rng.choice(facts), rng.random()
        kind = RELATIONS[fact.relation].subject
        subject = fact.subject if draw < 0.6 else name(kind, rng, test)
        # A question with the same relation about somebody else is the hardest to refuse.
        relation = fact.relation if draw > 0.75 else rng.choice(PEOPLE_AND_PLACES)
        if RELATIONS[relation].subject == kind and (subject, relation) not in told:
            return Fact(subject, relation, "")


def reading_text(rng: random.Random, most: int = 6) -> str:
    """Return one training document: a passage of up to `most` sentences, and one to eight questions about it in a chat.

    The names are training's. A third of the questions has the answer `NOT_TOLD`.
    """
    facts = _facts(rng, most, test=False)
    passage = " ".join(state(fact, rng) for fact in facts)
    messages: list[tuple[str, str]] = []
    for number in range(rng.randint(1, 8)):
        if rng.random() < UNANSWERED:
            asked, answer = _not_told(facts, rng, test=False), NOT_TOLD
        else:
            asked = rng.choice(facts)
            answer = asked.object
        question = ask(asked, rng)
        messages += [("user", question if number else f"{passage} {question}"), ("assistant", f"{answer}.")]
    return chat_text(messages)


@cache
def reading_exam(count: int = 600, seed: int = 0, kept_back: bool = False) -> tuple[Reading, ...]:
    """Return `count` questions about passages of one to six sentences, with names that training never shows.

    The wordings are training's, or with `kept_back` the exam's, which training never shows either. A third of the
    questions is about what the passage does not say. Needs no model. It asks nothing that takes two sentences.

    >>> first = reading_exam()[0]
    >>> first.told, first.answer in first.passage
    (True, True)
    """
    rng, found = random.Random(f"pebble reading {seed} {kept_back}"), []
    for _ in range(count):
        facts = _facts(rng, 6, test=True)
        if rng.random() < UNANSWERED:
            asked, answer = _not_told(facts, rng, test=True), NOT_TOLD
        else:
            asked = rng.choice(facts)
            answer = asked.object
        wording = rng.choice([w.text for w in wordings(asked.relation) if w.kept_back])
        question = fill(wording, {"s": asked.subject}) if kept_back else ask(asked, rng)
        found.append(Reading(" ".join(state(fact, rng) for fact in facts), question, answer, asked))
    return tuple(found)


def reading_score(generate: Callable[[list[str]], Sequence[str]], readings: Sequence[Reading]) -> tuple[float, float]:
    """Return the shares of right answers, 0 to 1, where the passage tells the answer and where it does not.

    `generate` takes the user's messages, passage and question in one, and returns as many answers. Answers are compared
    as in `llmnotes.pebble.exam`: the first line, without case, full stops and outer spaces. Raises ValueError when the
    numbers differ or one of the two kinds is missing.

    >>> always = reading_score(lambda prompts: [NOT_TOLD] * len(prompts), reading_exam())
    >>> always
    (0.0, 1.0)
    """
    said = list(generate([one.messages[0]["content"] for one in readings]))
    marks: dict[bool, list[bool]] = {True: [], False: []}
    for one, answer in zip(readings, said, strict=True):
        marks[one.told].append(normal(answer) == normal(one.answer))
    if not all(marks.values()):
        raise ValueError("Readings of both kinds are needed, told and not told; ask for more of them.")
    told, not_told = (sum(marks[kind]) / len(marks[kind]) for kind in (True, False))
    return told, not_told
