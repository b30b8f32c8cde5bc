"""The exercise of notebook 02: a search whose scores forget the lengths."""

import numpy as np

from llmnotes.exercises.exercise import Answer, Exercise, Verdict, judge

RNG = np.random.default_rng(3)
ROWS = RNG.normal(size=(9, 4)) * np.linspace(0.2, 4, 9)[:, None]  # short rows to long ones
SEARCHES = [(RNG.normal(size=4), ROWS, k) for k in (1, 3, 3, 9)]


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
        "scores": lambda query, rows, k: np.sort(cosine(query, rows))[::-1][:k],
    }
    return judge(answer, search, SEARCHES, mistakes)


EXERCISES = [
    Exercise(
        id="02.1",
        title="The kitten always wins",
        level="medium",
        minutes=10,
        kept=True,
        task="This is the search that returned the kitten half of the time:\n\n```python\n"
        "def search(query, rows, k):\n    scores = rows @ query\n    return np.argsort(-scores)[:k]\n```\n\n"
        "`query` is a vector (numbers,), `rows` has one row for each sentence. Repair it, so that it returns the "
        "numbers of "
        "the `k` rows with the largest *cosine*, best first.",
        clue="`np.linalg.norm(rows, axis=1)` gives the length of each row. Which number should a vector that is "
        "twice as "
        "long get? The same one.",
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
        },
    ),
]
