"""The exercises of notebook 02: the mean of a sentence's rows, a search that forgets the lengths, and duplicates."""

import copy
from typing import Any

import numpy as np

from llmnotes.exercises.exercise import Answer, Exercise, Verdict, judge

RNG = np.random.default_rng(3)
ROWS = RNG.normal(size=(9, 4)) * np.linspace(0.2, 4, 9)[:, None]  # short rows to long ones
SEARCHES = [(RNG.normal(size=4), ROWS, k) for k in (1, 3, 3, 9)]
MANY = np.random.default_rng(4).normal(size=(1000, 4))  # argpartition sorts few rows by the way, many not
CLOSE = np.array([[value, np.sqrt(1 - value**2)] for value in (0.3, 0.90001, 0.90003, 0.90002)])  # cosines with [1, 0]
SEARCHES += [(SEARCHES[0][0], MANY, 300), (np.array([2.0, 0.0]), CLOSE, 3)]


def no_column(answer: Answer, rows: np.ndarray, *case: object) -> bool:
    """Return whether NumPy refuses what `answer` does with the table `rows` and one number for each of its rows."""
    try:
        answer(*copy.deepcopy(case))
    except ValueError as error:
        n, width = rows.shape
        return "broadcast" in str(error) and f"({n},{width}) ({n},)" in str(error)
    return False


def search(query: np.ndarray, rows: np.ndarray, k: int) -> np.ndarray:
    """Return the numbers of the k rows that have the largest cosine with `query`, best first."""
    scores = rows @ query / np.linalg.norm(rows, axis=1) / np.linalg.norm(query)
    return np.argsort(-scores)[:k]


def check_search(answer: Answer) -> str | Verdict | None:
    """Return None for the k rows with the largest cosine, else which mistake they come from."""

    def by(score: Answer) -> Answer:
        return lambda query, rows, k: np.argsort(-score(query, rows))[:k]

    def cosine(query: np.ndarray, rows: np.ndarray) -> np.ndarray:
        return rows @ query / np.linalg.norm(rows, axis=1) / np.linalg.norm(query)

    if no_column(answer, ROWS, *SEARCHES[0]):
        return "column"
    mistakes = {
        "keepdims": by(lambda query, rows: rows @ query / np.linalg.norm(rows, axis=1, keepdims=True)),
        "argmax": lambda query, rows, k: np.argmax(cosine(query, rows)),
        "all_rows": lambda query, rows, k: search(query, rows, len(rows)),
        "absolute": by(lambda query, rows: np.abs(cosine(query, rows))),
        "dot": by(lambda query, rows: rows @ query),
        "columns": by(lambda query, rows: rows / np.linalg.norm(rows, axis=0) @ query),
        "squared": by(lambda query, rows: rows @ query / (rows**2).sum(axis=1)),
        "distance": by(lambda query, rows: -np.linalg.norm(rows - query, axis=1)),
        "farthest": lambda query, rows, k: search(query, rows, len(rows))[::-1][:k],
        "backwards": lambda query, rows, k: search(query, rows, k)[::-1],
        "from_one": lambda query, rows, k: search(query, rows, k) + 1,
        "without_best": lambda query, rows, k: search(query, rows, len(rows))[1 : k + 1],
    }
    verdict = judge(answer, search, SEARCHES, mistakes)
    if not isinstance(verdict, Verdict) or verdict.state != "other":
        return verdict
    try:
        found = [np.asarray(answer(*copy.deepcopy(case)), dtype=float).ravel() for case in SEARCHES]
    except (TypeError, ValueError):
        return verdict
    if all((one != one.round()).any() for one in found):
        return "scores"
    pairs = list(zip(found, SEARCHES, strict=True))
    for digits in (2, 3, 4):  # which of two rows comes first is left open where their rounded cosines are equal
        scores = [cosine(*case[:2]).round(digits) for case in SEARCHES]
        if all(
            len(set(one)) == case[2]
            and set(one) <= set(range(len(score)))
            and np.array_equal(score[one.astype(int)], np.sort(score)[::-1][: case[2]])
            for (one, case), score in zip(pairs, scores, strict=True)
        ):
            return "rounded"
    if all(np.array_equal(np.sort(one), np.sort(search(*case))) for one, case in pairs):
        return "backwards"
    return verdict


TABLE = RNG.normal(size=(7, 5))
SENTENCES = [([0, 3, 6, 2], TABLE), ([4, 4, 1], TABLE), ([5], TABLE), ([6, 5, 4, 3, 2, 1, 0, 0], TABLE)]


def mean_row(ids: list[int], table: np.ndarray) -> np.ndarray:
    """Return the mean of the rows with these ids."""
    return table[ids].mean(axis=0)


def check_mean_row(answer: Answer) -> str | Verdict | None:
    """Return None for the mean of the rows, else which mistake leads to what was found."""
    mistakes = {
        "number": lambda ids, table: table[ids].mean(),
        "columns": lambda ids, table: table[ids].mean(axis=1),
        "sum": lambda ids, table: table[ids].sum(axis=0),
        "rows": lambda ids, table: table[ids],
        "all": lambda ids, table: table.mean(axis=0),
        "table": lambda ids, table: table[ids].sum(axis=0) / len(table),
        "numbers": lambda ids, table: table[ids].sum(axis=0) / table.shape[1],
        "once": lambda ids, table: table[sorted(set(ids))].mean(axis=0),
        "median": lambda ids, table: np.median(table[ids], axis=0),
        "keepdims": lambda ids, table: table[ids].mean(axis=0, keepdims=True),
        "ids": lambda ids, table: np.mean(ids),
    }
    return judge(answer, mean_row, SENTENCES, mistakes)


LIKE = RNG.normal(size=(6, 4))
LIKE = np.concatenate([LIKE, LIKE[[1, 4]] * [[3.0], [0.2]] + 0.05 * RNG.normal(size=(2, 4))])
SQUARE = np.array([[1.0, 0.0], [0.0, 2.0], [3.0, 1.0]])  # the first two at a right angle: their cosine is 0
DUPLICATES = [(LIKE, 0.9), (LIKE, 0.25), (LIKE[:4], -1.0), (LIKE[[0, 6, 2, 1]], 0.9), (ROWS, 0.4), (SQUARE, 0.0)]


def duplicates(rows: np.ndarray, least: float) -> list[tuple[int, int]]:
    """Return the pairs (i, j), i < j, of rows whose cosine is at least `least`, the most alike first."""
    units = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return _pairs(units @ units.T, least)


def _pairs(scores: np.ndarray, least: float) -> list[tuple[int, int]]:
    n = len(scores)
    found = [(i, j) for i in range(n) for j in range(i + 1, n) if scores[i, j] >= least]
    return sorted(found, key=lambda pair: -scores[pair])


def check_duplicates(answer: Answer) -> str | Verdict | None:
    """Return None for the pairs that are alike, else which mistake leads to what was found."""

    def cosines(rows: np.ndarray) -> np.ndarray:
        units = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        return units @ units.T

    def as_pairs(rows: np.ndarray, least: float) -> Any:
        found = answer(rows, least)
        if found is None or found is ...:
            return found
        try:
            if any(isinstance(pair, set | frozenset) for pair in found):
                return found
            return [(int(i), int(j)) for i, j in found]
        except (TypeError, ValueError):
            return found

    def scored(rows: np.ndarray, least: float) -> list[tuple[float, int, int]]:
        return [(cosines(rows)[pair], *pair) for pair in duplicates(rows, least)]

    def by_units(units: np.ndarray, least: float) -> list[tuple[int, int]]:
        return _pairs(units @ units.T, least)

    if no_column(answer, LIKE, LIKE, 0.9):
        return "column"
    mistakes = {
        "columns": lambda rows, least: by_units(rows / np.linalg.norm(rows, axis=0), least),
        "everything": lambda rows, least: by_units(rows / np.linalg.norm(rows), least),
        "above": lambda rows, least: [pair for pair in duplicates(rows, least) if cosines(rows)[pair] > least],
        "sets": lambda rows, least: [set(pair) for pair in duplicates(rows, least)],
        "ascending": lambda rows, least: duplicates(rows, least)[::-1],
        "dot": lambda rows, least: _pairs(rows @ rows.T, least),
        "upside": lambda rows, least: [(j, i) for i, j in duplicates(rows, least)],
        "best": lambda rows, least: duplicates(rows, least)[:1],
        "next_only": lambda rows, least: [pair for pair in duplicates(rows, least) if pair[1] == pair[0] + 1],
        "with_scores": lambda rows, least: [(i, j, score) for score, i, j in scored(rows, least)],
        "scores_first": scored,
        "from_one": lambda rows, least: [(i + 1, j + 1) for i, j in duplicates(rows, least)],
    }
    verdict = judge(as_pairs, duplicates, DUPLICATES, mistakes)
    if isinstance(verdict, Verdict) and verdict.state == "other":  # the right pairs and more, in whatever order
        try:
            found = [sorted(as_pairs(*copy.deepcopy(case))) for case in DUPLICATES]
        except (TypeError, ValueError):  # no list of pairs
            return verdict
        for key, more in {
            "unsorted": lambda n, pairs: pairs,
            "twice": lambda n, pairs: pairs + [(j, i) for i, j in pairs],
            "diagonal": lambda n, pairs: pairs + [(i, i) for i in range(n)],
            "itself": lambda n, pairs: pairs + [(j, i) for i, j in pairs] + [(i, i) for i in range(n)],
        }.items():
            if found == [sorted(more(len(case[0]), duplicates(*case))) for case in DUPLICATES]:
                return key
    return verdict


EXERCISES = [
    Exercise(
        id="02.1",
        title="One vector for a sentence",
        level="easy",
        minutes=4,
        kept=True,
        task="`ids` are a sentence's tokens, `table` has a row for each token of the vocabulary. The first line is "
        "there: it takes the rows, (tokens, numbers). Complete the second, so that `mean_row` returns their mean, one "
        "vector (numbers,).",
        clue="`rows.mean()` is the mean of all the numbers. Which axis has to disappear, the first, `axis=0`, or the "
        "second, `axis=1`?",
        name="mean_row",
        stub="""def mean_row(ids, table):
    rows = table[ids]
    return ...
""",
        solution="""def mean_row(ids, table):
    rows = table[ids]
    return rows.mean(axis=0)
""",
        check=check_mean_row,
        hints={
            "number": "You average over everything and get a single number. Average over the tokens only: `axis=0`.",
            "columns": "You average within each token, and get a number for each. We want a number for each column: "
            "`axis=0`.",
            "sum": "You add the rows up. Divide by how many there are.",
            "rows": "You return all of the rows. We want their mean.",
            "all": "You average the whole table. Only the rows of this sentence count.",
            "table": "You divide by the number of rows in the whole table. Divide by how many tokens the sentence has.",
            "numbers": "You divide by the length of a row. Divide by how many tokens the sentence has.",
            "once": "A token that occurs twice in the sentence counts twice.",
            "median": "You return the median. We want the mean.",
            "keepdims": "You return a table of one row. Leave `keepdims` out: we want (numbers,).",
            "ids": "You average the ids. They are names, and their mean is the name of some other token.",
        },
    ),
    Exercise(
        id="02.2",
        title="The kitten always wins",
        level="medium",
        minutes=10,
        kept=True,
        task="This is the search that returned the kitten half of the time:\n\n```python\n"
        "def search(query, rows, k):\n    scores = rows @ query\n    return np.argsort(-scores)[:k]\n```\n\n"
        "`query` is a vector (numbers,), `rows` has one row for each sentence. Repair it, so that it returns the "
        "numbers of "
        "the `k` rows with the largest *cosine*, best first, as an array.",
        clue="`np.linalg.norm(rows, axis=1)` has a number for each row, and so have the scores. "
        "Which score should a vector that is twice as long get? The same one.",
        name="search",
        stub="""import numpy as np


def search(query, rows, k):
    ...  # return k row numbers
""",
        solution="""import numpy as np


def search(query, rows, k):
    lengths = np.linalg.norm(rows, axis=1) * np.linalg.norm(query)
    scores = rows @ query / lengths
    return np.argsort(-scores)[:k]
""",
        check=check_search,
        hints={
            "dot": "This still ranks by dot product, so long rows win. Divide each row's score by that row's own "
            "length. "
            "(Dividing all scores by one and the same number, like the length of the query, doesn't change their "
            "order.)",
            "keepdims": "Your scores are a square. `keepdims=True` makes the lengths a column, and (rows,) divided by "
            "(rows, 1) gives (rows, rows). Leave it out here.",
            "argmax": "You return only the best row. We want `k` of them, best first: `argsort`.",
            "all_rows": "You return all of the rows. Take the first `k`.",
            "absolute": "You ignore the sign. A cosine of −1 is the opposite direction, and the worst of all.",
            "columns": "You take the lengths of the columns. `axis=1` gives one length for each row.",
            "squared": "You divide by the length squared, so now short rows win. Take the root.",
            "distance": "You rank by the distance between the tips. For rows of different lengths that is another "
            "order.",
            "farthest": "You return the rows that are least alike. Which way does `argsort` sort?",
            "backwards": "The right rows in the wrong order: the best should come first.",
            "scores": "You return the scores. We want the numbers of the rows.",
            "rounded": "You round the cosines, and then close ones look the same.",
            "from_one": "Your numbers begin at 1. Rows are counted from 0.",
            "without_best": "You leave out the best row. The query isn't among the rows, so there is nothing to skip.",
            "column": "A table can't be divided by one number for each row as they are, the shapes don't fit. "
            "`axis=1, keepdims=True` keeps the lengths as a column, so that each row is divided by its own.",
        },
    ),
    Exercise(
        id="02.3",
        title="Who asks the same?",
        level="medium",
        minutes=12,
        kept=True,
        task="A task from work. The support desk has a list of questions, and many of them are asked twice, in other "
        "words. Write `duplicates(rows, least)`: `rows` has one vector for each question. Return the pairs `(i, j)` of "
        "questions whose cosine is at least `least`, the most similar pair first. Each pair comes once, with `i < j`.",
        clue="Divide each row by its length: `np.linalg.norm(rows, axis=1, keepdims=True)` keeps the lengths as a "
        "column, `(questions, 1)`, so that each row is divided by its own. Then `units @ units.T` has all the cosines "
        "at once. Two loops, `i` and then `j` from `i + 1` on, see each pair once.",
        name="duplicates",
        stub="""import numpy as np


def duplicates(rows, least):
    ...  # return a list of pairs
""",
        solution="""import numpy as np


def duplicates(rows, least):
    units = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    cosines = units @ units.T
    pairs = [
        (i, j)
        for i in range(len(rows))
        for j in range(i + 1, len(rows))
        if cosines[i, j] >= least
    ]
    return sorted(pairs, key=lambda pair: -cosines[pair])
""",
        check=check_duplicates,
        hints={
            "unsorted": "The right pairs, but not by likeness. The most similar should come first.",
            "ascending": "The right pairs, the least similar first. Turn the order round.",
            "itself": "Every question is also paired with itself, and each pair comes twice. Keep those with `i < j`, "
            "and sort them.",
            "twice": "Each pair comes twice, as (i, j) and as (j, i). Keep those with `i < j`, and sort them.",
            "diagonal": "Every question is also paired with itself: let `j` start at `i + 1`. Then sort them.",
            "dot": "You compare dot products, so long vectors look similar to everything. Divide each row by its "
            "length.",
            "upside": "The right pairs, but the larger number stands first. We want `i < j`.",
            "best": "You return only one pair. We want all that reach `least`.",
            "next_only": "You compare each question only with the next in the list. Duplicates can stand anywhere.",
            "with_scores": "You return the cosines too. We want only the pairs (i, j).",
            "scores_first": "You return the cosines too. Sort by them, then keep only the pairs (i, j).",
            "from_one": "Your numbers begin at 1. Rows are counted from 0.",
            "columns": "You take the lengths of the columns. `axis=1, keepdims=True` gives one length for each row.",
            "everything": "You divide everything by one number, the length of the whole table. Each row has its own "
            "length: `axis=1, keepdims=True`.",
            "above": "“At least” takes in the limit itself: `>=`.",
            "sets": "Your pairs are sets, and a set has no order. Return tuples `(i, j)` with `i < j`.",
            "column": "A table can't be divided by one number for each row as they are, the shapes don't fit. "
            "`axis=1, keepdims=True` keeps the lengths as a column, so that each row is divided by its own.",
        },
    ),
]
