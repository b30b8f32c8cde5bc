"""Passages with questions: what is told stands there, what is not doesn't, and the test's names are nobody else's."""

import random
import re

import pytest

from llmnotes.pebble import build_world
from llmnotes.pebble.frames import training_wordings
from llmnotes.pebble.reading import NOT_TOLD, is_test, name, reading_exam, reading_score, reading_text
from llmnotes.pebble.templates import fill


def test_there_are_too_many_names_to_learn_by_heart():
    rng = random.Random(0)
    for kind in ("person", "town", "region"):
        assert len({name(kind, rng) for _ in range(10_000)}) > 8_000


def test_the_tests_names_are_no_names_of_training_or_of_the_world():
    rng, known = random.Random(1), set(build_world().entities)
    for kind in ("person", "town", "region"):
        shown, kept = ({name(kind, rng, test) for _ in range(2_000)} for test in (False, True))
        assert not shown & kept and not (shown | kept) & known
        assert all(map(is_test, kept)) and not any(map(is_test, shown))


@pytest.mark.parametrize("kept_back", [False, True])
def test_what_is_told_stands_in_the_passage_and_what_is_not_does_not(kept_back):
    exam = reading_exam(kept_back=kept_back)
    assert len(exam) == 600 and reading_exam(kept_back=kept_back) is exam
    assert 0.28 < sum(not one.told for one in exam) / len(exam) < 0.38
    for one in exam:
        said = f"{one.fact.subject}" in one.passage
        assert (one.answer in one.passage and said) if one.told else one.answer == NOT_TOLD
        assert (
            one.question in {fill(w, {"s": one.fact.subject}) for w in training_wordings(one.fact.relation)}
        ) != kept_back


def test_training_shows_no_name_of_the_test_and_none_of_the_hidden_region():
    rng, hidden = random.Random(2), build_world().hidden_names
    text = "".join(reading_text(rng) for _ in range(3_000))
    words = set(re.findall(r"[A-Z][a-z]+", text))
    assert not [word for word in hidden if word in text]
    assert not words & ({one.fact.subject for one in reading_exam()} - set(build_world().entities))
    assert 0.25 < text.count(NOT_TOLD) / text.count("<|assistant|>") < 0.4


def test_the_score_tells_both_kinds_apart():
    exam = reading_exam(60)
    right = {one.messages[0]["content"]: f" {one.answer}." for one in exam}
    assert reading_score(lambda prompts: [right[prompt] for prompt in prompts], exam) == (1.0, 1.0)
    with pytest.raises(ValueError, match="of both kinds"):
        reading_score(lambda prompts: [NOT_TOLD] * len(prompts), [one for one in exam if one.told])
