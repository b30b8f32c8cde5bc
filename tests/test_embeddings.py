import importlib.util
import subprocess
import sys
from itertools import permutations

import numpy as np
import pytest
import sklearn.cluster
import sklearn.decomposition
import sklearn.metrics
import sklearn.metrics.pairwise
import sklearn.neighbors

from llmnotes import embeddings, tokens, word_lists
from llmnotes.errors import MissingPart, UnknownName
from llmnotes.models import open_model


@pytest.fixture(scope="module")
def vectors():
    return embeddings.load_vectors()


@pytest.fixture
def rng():
    return np.random.default_rng(5)


def test_the_table_has_a_vector_for_every_token(vectors):
    assert vectors.table.shape == (32_000, 256) and vectors.table.dtype == np.float32
    assert len(vectors.tokens) == 32_000 and vectors.tokens[vectors.row("king")] == "▁king"
    assert np.isfinite(vectors.table).all() and not vectors.table.flags.writeable


def test_ids_give_the_text_back_and_carry_no_sign_for_the_start(vectors):
    text = "Nora's goose, 🦢, unbuttons 12 coats."
    assert vectors.tokenizer.decode(vectors.ids(text)) == text
    assert [vectors.tokens[row] for row in vectors.ids("the cat")] == ["▁the", "▁cat"]


def test_a_word_of_several_tokens_has_no_vector(vectors):
    assert np.array_equal(vectors.vector("king"), vectors.table[6989])
    with pytest.raises(UnknownName, match=r"“goose” .* go \+ ose"):
        vectors.vector("goose")


def test_words_are_plain_each_there_once_and_in_small_letters_where_there_is_a_choice(vectors):
    assert all(word.isascii() and word.isalpha() and word.islower() for word in vectors.words)
    rows = list(vectors.words.values())
    assert rows == sorted(set(rows)) and len(rows) > 10_000
    assert vectors.row("King") < vectors.row("king") == vectors.words["king"]
    assert vectors.words["napoli"] == vectors.row("Napoli")


def test_without_wordllama_the_error_gives_the_command(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingPart, match=r'python -m pip install "wordllama<'):
        embeddings.load_vectors.__wrapped__()


def test_loading_imports_neither_torch_nor_wordllama():
    code = (
        "import sys; from llmnotes.embeddings import load_vectors; load_vectors();"
        "print([m for m in ('torch', 'transformers', 'sklearn', 'wordllama', 'matplotlib') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, encoding="utf-8", check=True)
    assert out.stdout.strip() == "[]"


def test_unit_leaves_zeros_alone(rng):
    found = embeddings.unit(np.array([[3.0, 4.0], [0.0, 0.0]]))
    assert np.allclose(found, [[0.6, 0.8], [0, 0]])


def test_cosine_is_scikit_learns(rng):
    a, b = rng.normal(size=(5, 7)), rng.normal(size=(4, 7)) * 9
    assert np.allclose(embeddings.cosine(a, b), sklearn.metrics.pairwise.cosine_similarity(a, b))
    assert embeddings.cosine(a[0], b[0]).shape == ()


def test_neighbours_are_scikit_learns(vectors):
    table = vectors.table[:3000]
    search = sklearn.neighbors.NearestNeighbors(n_neighbors=6, metric="cosine", algorithm="brute").fit(table)
    distances, rows = search.kneighbors(table[2500:2501])
    found = embeddings.neighbours(table[2500], table, 6)
    assert [row for row, _ in found] == rows[0].tolist()
    assert np.allclose([score for _, score in found], 1 - distances[0], atol=1e-5)


@pytest.mark.parametrize("exclude", [True, False])
@pytest.mark.parametrize("arithmetic", [True, False])
def test_analogies_agree_with_a_plain_loop(vectors, exclude, arithmetic):
    questions = [("big", "bigger", "small"), ("Paris", "France", "Rome"), ("man", "king", "woman")]
    found = embeddings.analogies(vectors, questions, exclude=exclude, arithmetic=arithmetic)
    for (a, b, c), answer in zip(questions, found, strict=True):
        va, vb, vc = (vectors.vector(w) / np.linalg.norm(vectors.vector(w)) for w in (a, b, c))
        target = vb - va + vc if arithmetic else vc
        best, score = None, -np.inf
        for word, row in vectors.words.items():
            value = target @ vectors.table[row] / np.linalg.norm(vectors.table[row])
            if value > score and not (exclude and word in (a.lower(), b.lower(), c.lower())):
                best, score = word, value
        assert answer == best


def test_analogies_name_a_word_without_a_vector(vectors):
    with pytest.raises(UnknownName, match="kitten"):
        embeddings.analogies(vectors, [("dog", "dogs", "kitten")])


def test_the_list_of_analogies_is_long_and_every_word_has_a_vector(vectors):
    pairs = word_lists.analogy_pairs()
    assert len(pairs) >= 8 and sum(len(members) for members in pairs.values()) >= 120
    for members in pairs.values():
        assert len({a for a, _ in members}) == len({b for _, b in members}) == len(members)
        for word in (word for pair in members for word in pair):
            assert word.lower() in vectors.words and vectors.row(word) >= 0


def test_excluding_the_inputs_makes_most_of_the_score(vectors):
    hits = {True: 0, False: 0}
    for members in word_lists.analogy_pairs().values():
        asked = list(permutations(members[:6], 2))
        for exclude in hits:
            found = embeddings.analogies(vectors, [(*first, second[0]) for first, second in asked], exclude=exclude)
            hits[exclude] += sum(a == second[1].lower() for a, (_, second) in zip(found, asked, strict=True))
    assert hits[True] > 100 > 5 * hits[False]


def test_mean_pool_is_the_mean_whatever_the_order(rng):
    table = rng.normal(size=(9, 3))
    assert np.allclose(embeddings.mean_pool(table, [4, 4, 1]), (2 * table[4] + table[1]) / 3)
    assert np.allclose(embeddings.mean_pool(table, [1, 2, 3]), embeddings.mean_pool(table, [3, 1, 2]))
    with pytest.raises(ValueError, match="no tokens"):
        embeddings.mean_pool(table, [])


def test_a_models_own_table_and_its_words():
    lm = open_model("pebble", say=lambda line: None)
    pebble = tokens.vectors_of(lm)
    assert np.array_equal(pebble.table, lm.model.get_input_embeddings().weight.detach().numpy())
    assert pebble.ids("A baby cat") == lm.tokenizer("A baby cat", add_special_tokens=False)["input_ids"]
    assert pebble.tokens[pebble.row("cat")] == "Ġcat" and "Monday" in pebble.spelled
    with pytest.raises(UnknownName, match="k \\+ itt \\+ en"):
        pebble.row("kitten")


def test_any_spelling_of_a_question_is_left_out(vectors):
    questions = [("Paris", "France", "Rome"), ("France", "French", "Germany")]
    assert embeddings.analogies(vectors, questions, spellings=True)[1] == "german"
    for one, answer in zip(questions, embeddings.analogies(vectors, questions, spellings=True), strict=True):
        assert answer not in [word.lower() for word in one]


def test_questions_of_analogies_have_a_token_for_every_word(vectors):
    for relation, questions in embeddings.analogy_questions(vectors).items():
        assert len(questions) == len(set(questions)) > 100, relation
        assert all(vectors.row(word) >= 0 for question in questions for word in question)


def test_place_counts_the_neighbours_without_the_word_itself(vectors):
    units = embeddings.unit(vectors.table)
    near = [vectors.tokens[row] for row, _ in embeddings.neighbours(vectors.vector("king"), vectors.table, 20)]
    assert embeddings.place(vectors, "king", "throne", units) == near.index("▁throne")


def test_the_exam_of_the_search_and_its_traps_are_sound():
    sentences, questions = word_lists.search_exam()
    assert len(set(sentences)) == 28 and len({question for question, _ in questions}) == 24
    assert all(0 <= number < 28 for _, right in questions for number in right)
    for cases in word_lists.traps().values():
        assert all(right != wrong for _, right, wrong in cases)
