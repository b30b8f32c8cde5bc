"""Pebble's exam: size, validity, and that training never shows its wordings."""

import re
import subprocess
import sys
from collections import Counter

import pytest

from llmnotes.pebble import build_world, exam, score
from llmnotes.pebble.corpus import DOCUMENTS, documents, shelf
from llmnotes.pebble.exam import normal
from llmnotes.pebble.frames import training_wordings, wordings
from llmnotes.pebble.hard import CHAINS, FORMS, PER_KIND
from llmnotes.pebble.lore import DAYS
from llmnotes.pebble.relations import RELATIONS
from llmnotes.pebble.templates import fill

from .conftest import ROOT

WORLD = build_world()
HARD = [question for seed in range(3) for question in exam(hard=True, seed=seed)]


@pytest.fixture(scope="module")
def training():
    """All that training reads."""
    return (*documents(DOCUMENTS), *documents(24_000, chat_only=True))


def test_size_and_categories():
    questions = exam()
    assert len(questions) >= 400
    assert len({question.category for question in questions}) >= 10
    assert len({question.id for question in questions}) == len(questions)
    assert len(exam(hidden=True)) >= 40


def test_answers_are_the_worlds():
    for question in (*exam(), *exam(hidden=True), *exam(fresh=True)):
        assert question.answer == WORLD.answer(question.fact.subject, question.fact.relation)
        assert question.prompt == f"Q: {question.text}\nA:"
    assert not any(question.fact.region_hidden for question in exam())
    assert all(question.fact.region_hidden for question in exam(hidden=True))


@pytest.mark.slow
def test_no_exam_wording_occurs_in_training(training):
    """Each exam wording is filled with every subject of its relation: none of the results is a corpus sentence."""
    said = {
        sentence for document in training if document.kind in ("questions", "chat") for sentence in document.sentences()
    }
    assert "Where does Mia live?" in said  # the search does find what is there
    subjects = {name: [f.subject for f in WORLD.facts if f.relation == name] for name in RELATIONS}
    asked = [question for question in HARD if question.category != "chains"]
    for question in (*exam(), *exam(hidden=True), *exam(fresh=True), *asked):
        for subject in subjects[question.fact.relation]:
            assert fill(question.wording, {"s": subject}) not in said, question.wording


@pytest.mark.slow
def test_no_hard_form_and_no_beginning_occurs_in_training(training):
    """Training marks no speaker as the forms do, asks no two questions at once, and begins no sentence as chains do."""
    text = "\x1e".join(document.text for document in training)
    assert "\nQ:" in text and "wanted to show" in text  # the search does find what is there
    assert not re.search(r"(?:^|\n|\x1e)Q:[^\n]*\nQ:", text)
    for asks, answers in FORMS:
        assert f"{asks}:" not in text and f"{answers}:" not in text
    people, friend = shelf(WORLD).people, shelf(WORLD).friend
    begun = {
        beginning.format(p=person, q=friend[person], t=WORLD.index[person, "lives_in"], d=day)
        for beginnings in CHAINS.values()
        for beginning in beginnings
        for person in people
        for day in (DAYS if "{d}" in beginning else DAYS[:1])
    }
    assert begun > {question.text for question in HARD if question.category == "chains"}
    for sentence in {sentence for document in training for sentence in document.sentences()}:
        words = sentence.split(" ")
        assert not begun & {" ".join(words[:end]) for end in range(2, min(len(words), 12))}, sentence


def test_the_hard_part_asks_what_the_world_answers():
    for seed in range(3):
        questions = exam(hard=True, seed=seed)
        assert Counter(question.category for question in questions) == dict.fromkeys(
            ("forms", "pairs", "chains"), PER_KIND
        )
        assert len({question.id for question in questions}) == len({q.prompt for q in questions}) == len(questions)
    for question in HARD:
        word = question.fact.subject
        for relation in question.fact.relation.split("."):
            word = WORLD.index[word, relation]
        assert question.answer == word and not question.fact.region_hidden
        assert question.text in question.prompt and question.fact.subject in question.text
        assert not set(WORLD.hidden_names) & set(re.findall(r"\w+", question.prompt))
    with pytest.raises(ValueError, match="known facts only"):
        exam(hard=True, fresh=True)


def test_the_hard_part_gives_nothing_away():
    """No constant answer by relation, and no answer that stands in the prompt, gets a fifth."""
    for seed in range(3):
        questions = exam(hard=True, seed=seed)
        counts: dict[str, Counter] = {}
        for fact in WORLD.visible():
            counts.setdefault(fact.relation, Counter())[fact.object] += 1
        usual = [counts[question.fact.relation.split(".")[-1]].most_common(1)[0][0] for question in questions]
        assert score(lambda prompts, usual=usual: usual, questions).accuracy < 0.2
        assert sum(question.answer in question.prompt for question in questions) < 0.05 * len(questions)


def test_a_hard_answer_ends_with_its_first_full_stop():
    questions = (*exam(hard=True)[:1], *exam(hard=True)[-1:], *exam()[:1])
    said = [f" {question.answer}. The pet of Mia is a dog." for question in questions]
    assert score(lambda prompts: said, questions).correct == (True, True, False)
    assert questions[1].prompt == questions[1].text and questions[2].form == "Q: {q}\nA:"
    assert score(lambda prompts: [f"It is{one}" for one in said], questions).accuracy == 0
    assert score(lambda prompts: [question.answer for question in HARD], HARD).by_category == dict.fromkeys(
        ("forms", "pairs", "chains"), 1.0
    )
    turned = [question.answer for question in (*HARD[1:], HARD[0])]  # somebody who answers the next question
    assert score(lambda prompts: turned, HARD).accuracy < 0.1


def test_half_of_the_exam_uses_frames_that_training_never_shows():
    new = {w.text for name in RELATIONS for w in wordings(name) if w.new_frame}
    share = sum(question.wording in new for question in exam()) / len(exam())
    assert 0.4 <= share <= 0.6


def test_training_has_dozens_of_wordings_for_every_relation():
    for name in RELATIONS:
        assert len(set(training_wordings(name))) >= 100


@pytest.mark.parametrize("group", [lambda fact: RELATIONS[fact.relation].category, lambda fact: fact.relation])
def test_guessing_by_frequency_stays_under_a_fifth(group):
    counts: dict[str, Counter] = {}
    for fact in WORLD.visible():
        counts.setdefault(group(fact), Counter())[fact.object] += 1
    usual = {name: counter.most_common(1)[0][0] for name, counter in counts.items()}
    facts = {question.prompt: question.fact for question in exam()}
    result = score(lambda prompts: [usual[group(facts[prompt])] for prompt in prompts], exam())
    assert 0 < result.accuracy < 0.2


def test_even_the_best_constant_answer_of_each_relation_stays_under_a_fifth():
    counts: dict[str, Counter] = {}
    for question in exam():
        counts.setdefault(question.fact.relation, Counter())[question.answer] += 1
    assert sum(counter.most_common(1)[0][1] for counter in counts.values()) / len(exam()) < 0.2


def test_score_is_exact_and_forgives_form():
    questions = exam()[:4]
    right = [question.answer for question in questions]
    forgiven = [f" {right[0].upper()}.", f"{right[1]}\nQ: more", right[2] + ". ", right[3]]
    assert score(lambda prompts: forgiven, questions).accuracy == 1.0
    wrong = [f"It is {right[0]}", "", right[2] + "s", right[3]]
    result = score(lambda prompts: wrong, questions)
    assert result.correct == (False, False, False, True)
    assert result.accuracy == 0.25
    assert sum(result.by_category.values()) > 0
    seen = []
    score(lambda prompts: seen.extend(prompts) or right, questions, chat=True)
    assert seen == [question.text for question in questions]
    with pytest.raises(ValueError, match="4 questions got 1"):
        score(lambda prompts: ["one"], questions)
    assert normal(" Plumford. \nQ:") == "plumford"


def test_the_exam_takes_few_calls_and_no_torch():
    code = (
        "import sys; from tests.counting import calls; from llmnotes.pebble import exam; "
        "print(calls(exam), {'torch', 'numpy', 'transformers'} & set(sys.modules))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    count, heavy = run.stdout.split(maxsplit=1)
    assert int(count) < 1_000_000 and heavy == "set()\n"
