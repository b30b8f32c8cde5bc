"""The words and sentences of the lessons on tokens and on embeddings: texts to cut, pairs, questions to a search."""

import json
from pathlib import Path

DATA = Path(__file__).with_name("word_lists.json")


def samples() -> dict[str, str]:
    """Return a little text of four kinds: English, the same in German, code, and one with many digits.

    >>> list(samples())
    ['English', 'German', 'code', 'digits']
    """
    return json.loads(DATA.read_text(encoding="utf-8"))["samples"]


def special_and_general() -> list[tuple[str, str]]:
    """Return pairs of a special word and a general one that belongs to it.

    >>> special_and_general()[:2]
    [('kitten', 'cat'), ('puppy', 'dog')]
    """
    return [(one, other) for one, other in json.loads(DATA.read_text(encoding="utf-8"))["kinds"]]


def search_exam() -> tuple[list[str], list[tuple[str, list[int]]]]:
    """Return (sentences, questions): each question comes with the numbers of the sentences that answer it.

    >>> sentences, questions = search_exam()
    >>> question, right = questions[0]
    >>> question, sentences[right[0]]
    ('a baby cat with its drink', 'The kitten drinks milk.')
    """
    exam = json.loads(DATA.read_text(encoding="utf-8"))["search"]
    return exam["sentences"], [(question, right) for question, right in exam["questions"]]


def support_questions() -> tuple[list[str], list[tuple[int, int]]]:
    """Return (questions, pairs): what customers ask a support desk, and which two of them ask the same.

    >>> questions, same = support_questions()
    >>> [questions[number] for number in same[0]]
    ['How do I reset my password?', 'I forgot my password, what now?']
    """
    support = json.loads(DATA.read_text(encoding="utf-8"))["support"]
    return support["questions"], [(one, other) for one, other in support["same"]]


def traps() -> dict[str, list[tuple[str, str, str]]]:
    """Return questions with two sentences, (question, right, wrong), that share their words or differ by a "not".

    >>> traps()["not"][1]
    ('The door is shut.', 'The door is not open.', 'The door is open.')
    """
    kinds = json.loads(DATA.read_text(encoding="utf-8"))["traps"]
    return {kind: [(question, right, wrong) for question, right, wrong in found] for kind, found in kinds.items()}


def analogy_pairs() -> dict[str, list[tuple[str, str]]]:
    """Return the course's word pairs by relation; two pairs of one relation make an analogy: a is to b as c is to d.

    >>> analogy_pairs()["he → she"][:2]
    [('man', 'woman'), ('king', 'queen')]
    """
    relations = json.loads(DATA.read_text(encoding="utf-8"))["relations"]
    return {relation["relation"]: [(a, b) for a, b in relation["pairs"]] for relation in relations}
