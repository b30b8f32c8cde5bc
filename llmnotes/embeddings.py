"""Tokens as vectors: the tables of real models, and what can be computed with them in plain NumPy."""

import importlib.util
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import permutations
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from llmnotes.errors import MissingPart, UnknownName
from llmnotes.parts import bring
from llmnotes.word_lists import analogy_pairs

if TYPE_CHECKING:
    from tokenizers import Tokenizer

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
        raise MissingPart(f"The word vectors are not installed; bring them with: {bring('wordllama')}")
    from safetensors.numpy import load_file
    from tokenizers import Tokenizer

    folder = Path(spec.origin).parent
    tokenizer = Tokenizer.from_file(str(folder / "tokenizers" / "l2_supercat_tokenizer_config.json"))
    table = load_file(folder / "weights" / "l2_supercat_256.safetensors")["embedding.weight"].astype(np.float32)
    table.flags.writeable = False
    return WordVectors(table, tuple(tokenizer.id_to_token(row) or "" for row in range(len(table))), tokenizer)


def place(vectors: WordVectors, a: str, b: str, units: np.ndarray) -> int:
    """Return at which place `b` stands in the list of `a`'s neighbours, by the rows of `units`, all of length 1.

    >>> vectors = load_vectors()
    >>> place(vectors, "king", "monarch", unit(vectors.table))
    3
    """
    scores = units @ units[vectors.row(a)]
    scores[vectors.row(a)] = np.inf  # the word itself, whatever the rounding, is not counted
    return int((scores > scores[vectors.row(b)]).sum())


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
