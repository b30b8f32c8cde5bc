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

from llmnotes import embeddings
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
    with pytest.raises(MissingPart, match=r'python -m pip install "llmnotes\[course\]"'):
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
    pairs = embeddings.analogy_pairs()
    assert len(pairs) >= 8 and sum(len(members) for members in pairs.values()) >= 120
    for members in pairs.values():
        assert len({a for a, _ in members}) == len({b for _, b in members}) == len(members)
        for word in (word for pair in members for word in pair):
            assert word.lower() in vectors.words and vectors.row(word) >= 0


def test_excluding_the_inputs_makes_most_of_the_score(vectors):
    hits = {True: 0, False: 0}
    for members in embeddings.analogy_pairs().values():
        asked = list(permutations(members[:6], 2))
        for exclude in hits:
            found = embeddings.analogies(vectors, [(*first, second[0]) for first, second in asked], exclude=exclude)
            hits[exclude] += sum(a == second[1].lower() for a, (_, second) in zip(found, asked, strict=True))
    assert hits[True] > 100 > 5 * hits[False]


def test_stories_match_sentences_one_to_one():
    for story in embeddings.stories():
        assert len(story.first) == len(story.second) == 12
        for side in zip(*story.matches, strict=True):
            assert len(set(side)) == len(side) >= 10
        assert story.labels.shape == (12, 12) and story.labels.sum() == len(story.matches)
        assert all(story.labels[i, j] for i, j in story.matches)
        assert not set(story.first) & set(story.second)


def test_mean_pool_is_the_mean_whatever_the_order(rng):
    table = rng.normal(size=(9, 3))
    assert np.allclose(embeddings.mean_pool(table, [4, 4, 1]), (2 * table[4] + table[1]) / 3)
    assert np.allclose(embeddings.mean_pool(table, [1, 2, 3]), embeddings.mean_pool(table, [3, 1, 2]))
    with pytest.raises(ValueError, match="no tokens"):
        embeddings.mean_pool(table, [])


def test_precision_and_recall_are_scikit_learns(rng):
    for _ in range(20):
        labels = rng.random(60) < 0.2
        labels[0] = True
        scores = rng.integers(0, 25, 60) / 25  # with ties
        theirs = sklearn.metrics.precision_recall_curve(labels, scores)
        ours = embeddings.precision_recall(labels.reshape(6, 10), scores.reshape(6, 10))
        assert np.allclose(ours[2], theirs[2])
        assert all(np.allclose(x, y[:-1]) for x, y in zip(ours[:2], theirs[:2], strict=True))


def test_precision_and_recall_want_a_true_match():
    with pytest.raises(ValueError, match="no recall"):
        embeddings.precision_recall(np.zeros(3), np.arange(3))


def test_kmeans_is_scikit_learns(rng):
    for _ in range(10):
        points = rng.normal(size=(80, 6)) + rng.integers(0, 3, size=(80, 1)) * 2
        start = points[rng.choice(80, 4, replace=False)]
        theirs = sklearn.cluster.KMeans(4, init=start, n_init=1, algorithm="lloyd", tol=0).fit(points)
        centres, labels = embeddings.kmeans(points, start)
        assert (labels == theirs.labels_).all() and np.allclose(centres, theirs.cluster_centers_)


def test_kmeans_leaves_an_empty_centre_where_it_is():
    centres, labels = embeddings.kmeans(np.array([[0.0], [1.0]]), np.array([[0.5], [99.0]]))
    assert centres.tolist() == [[0.5], [99.0]] and labels.tolist() == [0, 0]


def test_kmeans_stops_after_the_given_steps():
    points = np.array([[1.0], [2.0], [6.0], [8.0]])
    centres, _ = embeddings.kmeans(points, points[:2], steps=1)
    assert np.allclose(centres, [[1.0], [16 / 3]])
    assert np.allclose(embeddings.kmeans(points, points[:2])[0], [[1.5], [7.0]])


def test_pca_is_scikit_learns_and_the_svds_up_to_sign(rng):
    points = rng.normal(size=(30, 8)) @ rng.normal(size=(8, 8)) + 5
    coordinates, axes, shares = embeddings.pca(points, 4)
    theirs = sklearn.decomposition.PCA(4, svd_solver="full").fit(points)
    assert np.allclose(np.abs((axes * theirs.components_).sum(axis=1)), 1)
    assert np.allclose(shares, theirs.explained_variance_ratio_)
    assert np.allclose(np.abs(coordinates), np.abs(theirs.transform(points)))
    _, singular, rows = np.linalg.svd(points - points.mean(axis=0), full_matrices=False)
    assert np.allclose(np.abs((axes * rows[:4]).sum(axis=1)), 1)
    assert np.allclose(np.linalg.norm(coordinates, axis=0), singular[:4])


def test_pca_turns_each_axis_so_that_its_largest_entry_is_positive(rng):
    points = rng.normal(size=(30, 5))
    for sign in (1, -1):
        _, axes, _ = embeddings.pca(sign * points, 5)
        assert (axes[np.arange(5), np.abs(axes).argmax(axis=1)] > 0).all()


def test_a_models_own_table_and_its_words():
    lm = open_model("pebble", say=lambda line: None)
    pebble = embeddings.vectors_of(lm)
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
    sentences, questions = embeddings.search_exam()
    assert len(set(sentences)) == 28 and len({question for question, _ in questions}) == 24
    assert all(0 <= number < 28 for _, right in questions for number in right)
    for cases in embeddings.traps().values():
        assert all(right != wrong for _, right, wrong in cases)
