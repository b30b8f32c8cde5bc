"""Pebble's world, corpus and grammar."""

import json
import re
from collections import Counter

import pytest

from llmnotes.pebble import WEIGHTS
from llmnotes.pebble.corpus import DOCUMENTS, MIX, corpus_sha256, documents, held_out
from llmnotes.pebble.frames import training_wordings
from llmnotes.pebble.grammar import parses
from llmnotes.pebble.relations import RELATIONS
from llmnotes.pebble.smalltalk import SMALL_TALK
from llmnotes.pebble.templates import split_sentences, story_parts, story_templates
from llmnotes.pebble.world import build_world

WORLD = build_world()


def test_the_world_is_as_rich_as_promised():
    assert len(WORLD.entities) >= 300
    assert len(WORLD.relations) >= 25
    assert len(WORLD.facts) >= 1500
    assert len(story_templates()) >= 300
    ways = 0  # the stories that differ in more than their names
    parts = story_parts()
    for plot in parts["plots"]:
        beats = 1
        for beat in plot:
            beats *= len(beat)
        ways += beats
    assert ways >= 500


def test_every_question_has_one_answer():
    counts = Counter((fact.subject, fact.relation) for fact in WORLD.facts)
    assert max(counts.values()) == 1


def test_the_same_seed_gives_the_same_world_and_another_seed_another():
    build_world.cache_clear()
    assert build_world().facts == WORLD.facts
    assert build_world(1).facts != WORLD.facts


def test_names_are_single_capitalised_words_without_clashes():
    types = ("person", "town", "region")
    names = [name for kind in types for name in WORLD.lexicon[kind]]
    assert len(names) == len(set(names))
    assert all(re.fullmatch(r"[A-Z][a-z]+", name) for name in names)
    words = {w for kind, entries in WORLD.lexicon.items() if kind not in types for e in entries for w in e.split()}
    assert not words & set(names)


def test_the_mayor_of_gooseham_is_afraid_of_geese():
    assert WORLD.answer(WORLD.answer("Gooseham", "mayor"), "fears") == "geese"


def test_parents_are_married_and_live_with_their_children():
    for fact in WORLD.facts:
        if fact.relation == "mother":
            assert WORLD.gender[fact.object] == "f"
            assert WORLD.answer(fact.object, "spouse") == WORLD.answer(fact.subject, "father")
            assert WORLD.answer(fact.object, "lives_in") == WORLD.answer(fact.subject, "lives_in")


def test_the_hidden_region_is_a_small_world_of_its_own():
    hidden = [fact for fact in WORLD.facts if fact.region_hidden]
    assert 40 <= len(hidden) <= 80
    people = {fact.subject for fact in hidden if fact.relation == "lives_in"}
    assert 10 <= len(people) <= 16


@pytest.mark.slow
def test_training_text_never_names_the_hidden_region():
    names = re.compile(r"\b(" + "|".join(map(re.escape, WORLD.hidden_names)) + r")\b")
    for document in (*documents(DOCUMENTS), *documents(24_000, chat_only=True)):
        assert not names.search(document.text), document.text


@pytest.mark.slow
def test_the_corpus_has_the_digest_on_the_card():
    card = json.loads((WEIGHTS / "card.json").read_text(encoding="utf-8"))
    recipe = card["recipe"]
    assert corpus_sha256(documents(recipe["documents"], recipe["seed"])) == card["corpus_sha256"]


def test_every_kind_of_document_is_there_and_another_seed_differs():
    few = documents(200)
    assert {document.kind for document in few} == set(MIX)
    assert documents(200, seed=1) != few


@pytest.mark.slow
def test_held_out_documents_are_not_in_the_corpus():
    seen = {document.text for document in documents(DOCUMENTS)}
    assert not any(document.text in seen for document in held_out())


@pytest.mark.slow
def test_a_document_that_training_has_cannot_be_held_out(monkeypatch):
    first = held_out(3)
    monkeypatch.setattr("llmnotes.pebble.corpus.documents", lambda count, seed: first[:1])
    assert held_out(2) == first[1:3]


@pytest.mark.slow
def test_every_corpus_sentence_parses():
    for document in (*documents(DOCUMENTS)[::40], *documents(24_000, chat_only=True)[:1000], *held_out()):
        for sentence in document.sentences():
            assert parses(sentence), sentence


def test_every_template_is_one_sentence():
    says = [text for relation in RELATIONS.values() for text in relation.says]
    asks = [text for name in RELATIONS for text in training_wordings(name)]
    for template in (*story_templates(), *says, *asks):
        assert split_sentences(template) == [template]
    assert len(SMALL_TALK) >= 30


@pytest.mark.parametrize(
    "sentence",
    [
        "",
        "Mia",
        "mia lives in plumford",
        "Mia lives in soup.",
        "Mia lives in a carrot.",
        "carrot lives in Plumford.",
        "Plumford lives in Mia.",
        "Mia is Plumford.",
        "Where does soup live?",
        "The capital of Mia is Plumford.",
        "After Monday comes three.",
        "The goose says Plumford.",
        "Once upon a time there was.",
        "Mia Mia Mia.",
        "Once upon a time there was a goose called Mia.",
        "Can you tell me where Mia lives",
        "Colourless green ideas sleep.",
        "Mia lives in Plumford. Mia lives in Plumford.",
        "Mia and Otto are a couple: Boris married Otto.",
        "Do you know where Monday lives?",
        "The birthday of Mia is in Monday.",
        "goose.goose.",
    ],
)
def test_nonsense_and_type_errors_do_not_parse(sentence):
    assert not parses(sentence)


@pytest.mark.parametrize(
    "sentence",
    [
        "Mia lives in Plumford.",
        "Where does Mia live?",
        "Q: Where does Mia live?",
        "A: Plumford.",
        "The goose says honk.",
        "Three plus four makes seven.",
        "An owl feeds on bones.",
        '"Honk," said the goose.',
        "Velloria has a capital called Quibbleford.",
    ],
)
def test_sentences_of_the_world_parse_true_or_not(sentence):
    assert parses(sentence)
