"""The exercises of notebook 01: one-hot, cosine, neighbours, pooling, a threshold."""

import numpy as np

from llmnotes.embeddings import unit
from llmnotes.exercises.exercise import Answer, Exercise, recognize

A, B = np.array([3.0, 4.0, 0.0, 1.0]), np.array([1.0, -2.0, 2.0, 4.0])
TABLE = np.random.default_rng(1).normal(size=(12, 5)) * np.linspace(0.2, 4, 12)[:, None]  # short rows to long ones
TOKENS = np.random.default_rng(2).normal(size=(6, 4)) + 1  # 6 tokens, 4 numbers
MASK = np.array([0, 1, 1, 1, 1, 0])  # padding on both sides, so that neither side can be taken for granted
SCORES = np.array([0.05, 0.63, 0.22, 0.42, 0.55, 0.11, 0.27, 0.18, 0.31, 0.36])  # in no order, on purpose
LABELS = np.isin(SCORES, [0.18, 0.27, 0.31, 0.63])


def check_one_hot(answer: Answer) -> str | None:
    """Return None for the one-hot matrix of some ids, one of them padding, or which mistake it looks like."""
    ids, size = [2, 0, -1, 3, 2], 6
    plain = np.eye(size)[ids]  # NumPy takes -1 for the last column
    right = plain * (np.array(ids) >= 0)[:, None]
    shifted = np.eye(size)[np.array(ids) - 1]
    mistakes = {"padding": plain, "square": np.eye(len(ids), size), "dropped": right[np.array(ids) >= 0]}
    for mark, rows in (("", right), ("_", plain)):  # with the padding understood, and without
        mistakes |= {
            f"transposed{mark}": rows.T,
            f"one_vector{mark}": np.clip(rows.sum(axis=0), 0, 1),
            f"counts{mark}": rows.sum(axis=0),
            f"from_one{mark}": shifted * rows.sum(axis=1, keepdims=True),
            f"values{mark}": rows * np.array(ids)[:, None],
        }
    key = recognize(answer(list(ids), size), right, mistakes)
    return key and key.rstrip("_")


def check_cosine(answer: Answer) -> str | None:
    """Return None for the cosine, or which mistake the number looks like."""
    dot, a, b = A @ B, np.linalg.norm(A), np.linalg.norm(B)
    mistakes = {
        "dot": dot,
        "one_length": dot / a,
        "one_length_": dot / b,
        "squares": dot / (A @ A * (B @ B)),
        "sum_of_lengths": dot / (a + b),
        "distance": np.linalg.norm(A - B),
        "count": dot / len(A),
    }
    key = recognize(answer(A.copy(), B.copy()), dot / (a * b), mistakes)
    return "one_length" if key == "one_length_" else key


def _nearest(table: np.ndarray, row: int, k: int, *, itself: bool = False, reverse: bool = False) -> np.ndarray:
    scores = table @ table[row]
    order = np.argsort(scores if reverse else -scores, kind="stable")
    return order[:k] if itself else order[order != row][:k]


def check_nearest(answer: Answer) -> str | None:
    """Return None for the k nearest other rows, or which mistake they come from."""
    alike, asked, k = unit(TABLE), range(len(TABLE)), 3
    gaps = np.linalg.norm(TABLE[:, None] - TABLE, axis=-1)
    mistakes = {
        "itself": [_nearest(alike, row, k, itself=True) for row in asked],
        "cut_short": [_nearest(alike, row, k - 1) for row in asked],
        "farthest": [_nearest(alike, row, k, reverse=True) for row in asked],
        "dot": [_nearest(TABLE, row, k) for row in asked],
        "dot_itself": [_nearest(TABLE, row, k, itself=True) for row in asked],
        "distance": [np.argsort(gaps[row], kind="stable")[1 : k + 1] for row in asked],
        "backwards": [_nearest(alike, row, k)[::-1] for row in asked],
    }
    found = [np.asarray(answer(row, TABLE.copy(), k)) for row in asked]
    key = recognize(found, [_nearest(alike, row, k) for row in asked], mistakes)
    return "dot" if key == "dot_itself" else key


def check_mean_pool(answer: Answer) -> str | None:
    """Return None for the mean of the real tokens, or which mistake the numbers look like."""
    right = TOKENS[MASK == 1].mean(axis=0)
    masked = TOKENS * MASK[:, None]
    mistakes = {
        "padding": TOKENS.mean(axis=0),
        "front": TOKENS[: MASK.sum()].mean(axis=0),
        "all_counted": masked.sum(axis=0) / len(TOKENS),
        "sum": masked.sum(axis=0),
        "axis": TOKENS[MASK == 1].mean(axis=1),
        "last": TOKENS[MASK == 1][-1],
    }
    return recognize(answer(TOKENS.copy(), MASK.copy()), right, mistakes)


def _quality(threshold: float, strict: bool = False) -> dict[str, float]:
    called = SCORES > threshold if strict else SCORES >= threshold
    right = (called & LABELS).sum()
    precision, recall = right / max(called.sum(), 1), right / LABELS.sum()
    f1 = 2 * precision * recall / (precision + recall) if right else 0.0
    return {"f1": f1, "precision": precision, "recall": recall, "accuracy": (called == LABELS).mean()}


def check_threshold(answer: Answer) -> str | None:
    """Return None for the threshold with the largest F1, or which other aim leads to the answer."""

    def best(aim: str, strict: bool = False) -> float:
        return max(SCORES, key=lambda score: _quality(score, strict)[aim])

    size = np.arange(1, len(SCORES) + 1) + LABELS.sum()
    rising = np.argmax((np.cumsum(LABELS[::-1]) / size)[::-1])  # the place of the best, as if the scores rose
    falling = np.argmax(np.cumsum(LABELS) / size)
    mistakes = {
        "value": _quality(best("f1"))["f1"],
        "accuracy": best("accuracy"),
        "recall": best("recall"),
        "strict": best("f1", strict=True),
        "midway": (SCORES[LABELS].mean() + SCORES[~LABELS].mean()) / 2,
        "index": int(np.argmax([_quality(score)["f1"] for score in SCORES])),
        "sorted": SCORES[rising],
        "sorted_": np.sort(SCORES)[rising],  # the scores sorted, the labels left behind
        "sorted__": SCORES[falling],
    }
    key = recognize(answer(LABELS.copy(), SCORES.copy()), best("f1"), mistakes)
    return key and key.rstrip("_")


EXERCISES = [
    Exercise(
        id="01.1",
        title="Write the one-hot rows",
        level="easy",
        minutes=5,
        task="Write `one_hot(ids, size)`: a matrix with one row for each id and `size` columns, which is 1 where the "
        "column is the id and 0 elsewhere. The same id may occur twice. An id of -1 marks padding, which stands for no "
        "token at all: its row is all zeros.",
        clue="Start from `np.zeros((len(ids), size))`. What does NumPy take an index of -1 for?",
        name="one_hot",
        stub="""import numpy as np


def one_hot(ids, size):
    ...  # return an array of shape (len(ids), size)
""",
        solution="""import numpy as np


def one_hot(ids, size):
    rows = np.zeros((len(ids), size))
    for row, token in enumerate(ids):
        if token >= 0:
            rows[row, token] = 1
    return rows
""",
        check=check_one_hot,
        hints={
            "padding": "All rows are right but that of the padding, which has a 1 at its end: to NumPy, -1 is the last "
            "column.",
            "dropped": "The padding has no row at all in your matrix. It should keep its place, so that the rows still "
            "stand beside their tokens.",
            "transposed": "Your matrix stands on its side: each token gets a column. A matrix product with the table, "
            "tokens first, wants each token to have a row.",
            "one_vector": "You return one row that marks which ids occur. That loses their order and how often each "
            "occurs: every token needs a row of its own.",
            "counts": "You return how often each id occurs, a bag of words. The sentence can no longer be read from "
            "it: every token needs a row of its own.",
            "from_one": "Each 1 stands one column too far left (and that of id 0 has gone round to the end). Rows of a "
            "table are counted from 0, and so are ids.",
            "values": "You write the id itself into its column. The product would then multiply the vector by the id; "
            "an id is a name, not an amount.",
            "square": "You return the first rows of the identity matrix. Which rows of it do the ids ask for?",
            "other": "The shape or the numbers differ from what is asked: one row for each id, `size` columns, a "
            "single 1 in each row that is not padding.",
        },
    ),
    Exercise(
        id="01.2",
        title="The cosine of two vectors",
        level="easy",
        minutes=5,
        task="Write `cosine_of(a, b)` for two vectors of the same size, from sums, products and square roots: the "
        "dot product of the two, with both lengths divided away.",
        clue="The length of `a` is `np.sqrt(a @ a)`. A vector's cosine with itself must come out as 1.",
        name="cosine_of",
        stub="""import numpy as np


def cosine_of(a, b):
    ...  # return one number between -1 and 1
""",
        solution="""import numpy as np


def cosine_of(a, b):
    return a @ b / np.sqrt((a @ a) * (b @ b))
""",
        check=check_cosine,
        hints={
            "dot": "This is the dot product: it grows with the lengths, so a long vector looks alike to everything. "
            "Try it on a vector and its double.",
            "one_length": "You divide by one length only, so that the other vector's length still counts. Does your "
            "function give the same for (a, b) and (b, a)?",
            "squares": "You divide by the squared lengths. `a @ a` is a sum of squares; what is missing to make it a "
            "length?",
            "sum_of_lengths": "You add the two lengths. The dot product of a vector with itself is length times "
            "length, so what must it be divided by to give 1?",
            "distance": "This is the distance between the two tips. It is 0 for equal vectors, where a cosine is 1.",
            "count": "You divide by how many numbers a vector has. That removes the size of the table, not the "
            "lengths of the vectors.",
            "other": "The number is not the cosine; try two arrows you can draw, (1, 0) and (1, 1): it should be about "
            "0.707.",
        },
    ),
    Exercise(
        id="01.3",
        title="The nearest others",
        level="medium",
        minutes=10,
        task="Write `nearest(row, table, k)`: the numbers of the `k` rows of `table` that have the largest cosine with "
        "row number `row`, nearest first, without the row itself.",
        clue="`np.argsort` sorts upwards. And a row's nearest neighbour, if nobody stops it, is itself.",
        name="nearest",
        stub="""import numpy as np


def nearest(row, table, k):
    ...  # return k row numbers
""",
        solution="""import numpy as np


def nearest(row, table, k):
    units = table / np.linalg.norm(table, axis=1, keepdims=True)
    scores = units @ units[row]
    scores[row] = -np.inf
    return np.argsort(-scores)[:k]
""",
        check=check_nearest,
        hints={
            "itself": "Every row comes out as its own nearest neighbour. True, and of no use: leave it out.",
            "cut_short": "You take the first k and remove the row itself afterwards: one neighbour is missing.",
            "farthest": "You return the rows that are least alike. Which way does argsort sort?",
            "dot": "You rank by dot product, so long rows win everywhere. Divide the lengths away first.",
            "distance": "You rank by the distance between the tips. For vectors of different lengths that is another "
            "order than the cosine's.",
            "backwards": "The right rows in the wrong order: the nearest should come first.",
            "other": "These are not the rows with the largest cosines; print the scores of one row beside your answer.",
        },
    ),
    Exercise(
        id="01.4",
        title="A mean that ignores the padding",
        level="medium",
        minutes=10,
        task="Sentences in one batch are filled up to the same width with padding tokens. Write `pool(vectors, mask)`: "
        "`vectors` has one row for each token, `mask` is 1 for a real token and 0 for padding, which some tokenizers "
        "put first and others last. Return the mean of the real tokens' vectors.",
        clue="Two things must ignore the padding: what is added up, and what it is divided by.",
        name="pool",
        stub="""import numpy as np


def pool(vectors, mask):
    ...  # vectors (tokens, numbers), mask (tokens,); return (numbers,)
""",
        solution="""import numpy as np


def pool(vectors, mask):
    return (vectors * mask[:, None]).sum(axis=0) / mask.sum()
""",
        check=check_mean_pool,
        hints={
            "padding": "The padding is part of your mean: the same sentence would get another vector in a wider batch.",
            "front": "You take as many rows as there are real tokens, but from the front, where padding may stand. The "
            "mask says how many are real, and also which.",
            "all_counted": "You add up the real tokens and divide by the number of all: the sentence shrinks as the "
            "batch grows wider.",
            "sum": "This is the sum: a long sentence gets a long vector. By how many tokens is it to be divided?",
            "axis": "You take the mean along each token, which leaves one number for a token. We want one for each "
            "column.",
            "last": "You return the vector of the last real token. The others would like to be heard, too.",
            "other": "The numbers differ from the mean of the rows where the mask is 1; try it on two tokens by hand.",
        },
    ),
    Exercise(
        id="01.5",
        title="Choose a threshold",
        level="medium",
        minutes=10,
        task="Write `best_threshold(labels, scores)`, for scores in no order. A pair is called a match if its score is "
        "at least the threshold. Try every score as the threshold and return the one with the largest F1, which is "
        "`2 · precision · recall / (precision + recall)`.",
        clue="With `right` true matches among the `called` ones, F1 is also `2 · right / (called + true)`: no division "
        "by zero, as long as one label is true.",
        name="best_threshold",
        stub="""import numpy as np


def best_threshold(labels, scores):
    ...  # labels (pairs,) of True and False, scores (pairs,); return one of the scores
""",
        solution="""import numpy as np


def best_threshold(labels, scores):
    def f1(threshold):
        called = scores >= threshold
        return 2 * (called & labels).sum() / (called.sum() + labels.sum())

    return max(scores, key=f1)
""",
        check=check_threshold,
        hints={
            "value": "You return the largest F1 itself. We want the threshold at which it is reached.",
            "index": "You return the place of the threshold in the list. We want the score that stands there.",
            "sorted": "This would be right if labels and scores stood in the order of the scores. They come in no "
            "order: sort both alike, or do not rely on places.",
            "accuracy": "You count right answers of both kinds. Most pairs are no match, so a threshold that finds "
            "hardly any match looks accurate.",
            "recall": "You maximise recall, and calling everything a match reaches it. What does that do to precision?",
            "strict": "A score equal to the threshold counts as a match; you leave it out (`>` for `>=`).",
            "midway": "You take the middle between the two means. Nothing says that few mistakes are made there: "
            "count them.",
            "other": "Another threshold has a larger F1; print F1 beside every score and look for its peak.",
        },
    ),
]
