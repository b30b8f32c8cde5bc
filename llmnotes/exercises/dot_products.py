"""The exercises of notebook 03: a shadow taken away, a table of cosines, and the customer most like another."""

import operator

import numpy as np

from llmnotes.exercises.exercise import Answer, Exercise, Verdict, judge

BASKETS = np.array([[2, 4], [1, 3], [8, 9], [4, 1]], dtype=float)
WIDE = np.random.default_rng(7).normal(size=(5, 4)).round(1)
SHIFTED = WIDE + 10 * WIDE[0]
THREE = np.array([[2.0, -1.0, -1.2], [-1.0, 2.1, -1.0], [-1.3, -1.0, 2.0]])  # nobody is like anybody
OPPOSITE = np.array([[2.0, 4.0, 6.0, 8.0], [-2.0, -4.0, -6.0, -8.0]])  # a cosine of exactly -1
CLOSE = np.array([[9.0, 2.0], [6.0, 2.0], [12.0, 3.0], [6.0, 11.0]])  # the best two: a tie at two decimals
CLOSER = np.array([[7.0, 8.0], [7.0, 3.0], [9.0, 11.0], [8.0, 10.0]])  # and at three
CROWD = np.random.default_rng(3).integers(1, 30, size=(20, 3)) * (1.0, 10.0, 0.1)  # tells near mistakes apart
SHOP = np.array([[70, 39, 72, 48, 79, 10, 30, 70], [91, 67, 80, 42, 77, 98, 90, 65], [1, 7, 6, 9, 8, 2, 4, 9]]).T * 1.0
TWINS = np.vstack([SHOP[[2]], SHOP[:3], SHOP[3:]])  # rows 0 and 3 are the same customer


def without(vectors: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """Return what is left of each row when its shadow on `direction` is taken away."""
    return vectors - np.outer(vectors @ direction / (direction @ direction), direction)


def check_without(answer: Answer) -> str | Verdict | None:
    """Return None for what is left without the direction, or which mistake the numbers look like."""

    def spread(vectors: np.ndarray, direction: np.ndarray) -> np.ndarray:
        return (vectors @ direction)[:, None] * direction

    mistakes = {
        "no_length": lambda v, d: v - spread(v, d),
        "one_length": lambda v, d: v - spread(v, d) / np.linalg.norm(d),
        "both_lengths": lambda v, d: v - spread(v, d) / np.outer(np.linalg.norm(v, axis=1), np.linalg.norm(d)),
        "own_length": lambda v, d: v - spread(v, d) / (v * v).sum(axis=1, keepdims=True),
        "shadow": lambda v, d: spread(v, d) / (d @ d),
        "direction": lambda v, d: v - d,
        "added": lambda v, d: v + spread(v, d) / (d @ d),
        "numbers": lambda v, d: v - (v @ d / (d @ d))[:, None],
    }
    cases = [(BASKETS, np.array([3.0, 2.0])), (WIDE, np.array([2.0, -1.0, 0.5, 1.0])), (BASKETS, np.array([0.6, 0.8]))]
    try:
        return judge(answer, without, cases, mistakes)
    except ValueError:  # shapes that do not fit; where there are as many rows as columns they do
        turned = {
            "no_arrows": lambda v, d: v - v @ d / (d @ d) * d,
            "outer_turned": lambda v, d: v - np.outer(d, v @ d / (d @ d)),
        }
        verdict = judge(answer, without, [(BASKETS[:2], np.array([3.0, 2.0])), (WIDE[:4], WIDE[4])], turned)
        if isinstance(verdict, str):
            return verdict
        raise


def standardized(table: np.ndarray, axis: int = 0) -> np.ndarray:
    """Return a table with mean 0 and standard deviation 1 along `axis`."""
    return (table - table.mean(axis=axis, keepdims=True)) / table.std(axis=axis, keepdims=True)


def _most_alike(table: np.ndarray, who: int, own: float = -np.inf, cosine: bool = True) -> int:
    scores = table @ table[who]
    if cosine:
        scores = scores / np.linalg.norm(table, axis=1) / np.linalg.norm(table[who])
    scores[who] = scores[who] if np.isnan(own) else own
    return int(scores.argmax())


def most_alike(table: np.ndarray, who: int) -> int:
    """Return the row with the mixture most like row `who`: columns divided by their spread, then the cosine."""
    return _most_alike(divided(table), who)


def divided(table: np.ndarray) -> np.ndarray:
    """Return a table whose columns all have a standard deviation of 1; zero stays where it is."""
    return table / table.std(axis=0)


def _scores(table: np.ndarray, who: int) -> np.ndarray:
    scaled = divided(table)
    scores = scaled @ scaled[who] / _lengths(scaled) / np.linalg.norm(scaled[who])
    scores[who] = -np.inf
    return scores


def _by_distance(table: np.ndarray, who: int) -> int:
    apart = np.linalg.norm(divided(table) - divided(table)[who], axis=1)
    apart[who] = np.inf
    return int(apart.argmin())


def _absolute(table: np.ndarray, who: int) -> int:
    scores = np.abs(np.delete(_scores(table, who), who))
    best = int(scores.argmax())
    return best + (best >= who)


def _second(table: np.ndarray, who: int) -> int:
    scaled = divided(table)
    return int(np.argsort(-(scaled @ scaled[who] / _lengths(scaled)).round(9), kind="stable")[1])


def check_most_alike(answer: Answer) -> str | Verdict | None:
    """Return None for the right neighbours, or which mistake they come from."""
    tables = (SHOP, THREE, BASKETS, TWINS, CLOSE, CLOSER, CROWD)
    cases = [(OPPOSITE, 0), *((table, who) for table in tables for who in range(len(table)))]
    mistakes = {
        "itself": lambda t, who: _most_alike(divided(t), who, np.nan),
        "zero_self": lambda t, who: _most_alike(divided(t), who, 0),
        "minus_one": lambda t, who: _most_alike(divided(t), who, -1),
        "rounded": lambda t, who: int(_scores(t, who).round(2).argmax()),
        "shorter": lambda t, who: int(np.delete(_scores(t, who), who).argmax()),
        "one_based": lambda t, who: int(_scores(t, who).argmax()) + 1,
        "score": lambda t, who: _scores(t, who).max(),
        "distance": _by_distance,
        "unscaled": lambda t, who: _most_alike(t, who),
        "raw_dot": lambda t, who: _most_alike(t, who, cosine=False),
        "long_ones": lambda t, who: _most_alike(divided(t), who, cosine=False),
        "rows": lambda t, who: _most_alike(standardized(t, axis=1), who),
        "standardized": lambda t, who: _most_alike(standardized(t), who),
        "mean_only": lambda t, who: _most_alike(t - t.mean(axis=0), who),
        "largest": lambda t, who: _most_alike(t / t.max(axis=0), who),
        "column_length": lambda t, who: _most_alike(t / np.linalg.norm(t, axis=0), who),
        "second": _second,
        "absolute": _absolute,
        "least": lambda t, who: int((divided(t) @ divided(t)[who] / _lengths(divided(t))).argmin()),
    }
    verdict = judge(answer, most_alike, cases, mistakes)
    if verdict is None:
        try:
            operator.index(answer(BASKETS.copy(), 0))
        except TypeError:
            return "fraction"
    return verdict


def _lengths(table: np.ndarray) -> np.ndarray:
    return np.linalg.norm(table, axis=1)


def cosine_similarity(table: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """Return the cosine of every query with every row of the table: (queries, rows)."""
    return (queries @ table.T) / np.outer(_lengths(queries), _lengths(table))


def check_cosine_similarity(answer: Answer) -> str | Verdict | None:
    """Return None for a table of cosines, or which mistake the numbers look like."""
    mistakes = {
        "raw_dot": lambda t, q: q @ t.T,
        "turned": lambda t, q: cosine_similarity(t, q).T,
        "one_sided": lambda t, q: q @ t.T / _lengths(t),
        "queries_only": lambda t, q: q @ t.T / _lengths(q)[:, None],
        "whole": lambda t, q: q @ t.T / (np.linalg.norm(t) * np.linalg.norm(q)),
        "columns": lambda t, q: (q / np.linalg.norm(q, axis=0)) @ (t / np.linalg.norm(t, axis=0)).T,
        "squared": lambda t, q: q @ t.T / np.outer(_lengths(q) ** 2, _lengths(t) ** 2),
        "brackets": lambda t, q: q @ t.T / _lengths(q)[:, None] * _lengths(t),
        "brackets, the other way": lambda t, q: q @ t.T / _lengths(t) * _lengths(q)[:, None],
        "scaled": lambda t, q: cosine_similarity(standardized(t), (q - t.mean(axis=0)) / t.std(axis=0)),
    }
    cases = [(BASKETS, BASKETS[:1] * 3.0), (WIDE, WIDE[1:4]), (SHIFTED, WIDE)]
    try:
        answer(*(argument.copy() for argument in cases[0]))
    except ValueError as error:
        if "broadcast" in str(error):
            return "no_keepdims"
        if "core dimension" in str(error) or "not aligned" in str(error):
            return "inner_sizes"
        raise
    try:
        verdict = judge(answer, cosine_similarity, cases, mistakes)
    except ValueError:  # the same answer fits where there are as many queries as rows
        lengths = {"lengths_turned": lambda t, q: q @ t.T / np.outer(_lengths(t), _lengths(q))}
        verdict = judge(answer, cosine_similarity, [(WIDE[:3], WIDE[2:]), (BASKETS[:2], BASKETS[2:])], lengths)
        if isinstance(verdict, str):
            return verdict
        raise
    return "brackets" if verdict == "brackets, the other way" else verdict


EXERCISES = [
    Exercise(
        id="03.1",
        title="Take a shadow away",
        level="easy",
        minutes=8,
        task="""We took Ada's shadow on the price arrow. Do it for many rows at once, and return what is **left**.
`vectors` is a table `(n, d)`; `direction` has `d` numbers and any length. One or two lines will do. (Researchers use
this to remove an idea, such as "refuse to answer", from the vectors of a language model.)""",
        clue="""For one vector, the shadow is `(a @ b) / (b @ b) * b`. For many, `np.outer(shares, direction)` makes one
arrow for each number in `shares`.""",
        name="without",
        stub='''import numpy as np


def without(vectors, direction):
    """Return what is left of each row of vectors without its shadow on direction."""
    # vectors @ direction / (direction @ direction) has one number for each row
    ...''',
        solution='''import numpy as np


def without(vectors, direction):
    """Return what is left of each row of vectors without its shadow on direction."""
    shares = vectors @ direction / (direction @ direction)  # (n,)
    return vectors - np.outer(shares, direction)''',
        check=check_without,
        hints={
            "no_length": "right for a direction of length 1. For a longer one, too much is taken away.",
            "one_length": "direction comes in twice: in the dot product and as the arrow. Divide by its length twice.",
            "both_lengths": "this divides by the row's length, too, as a cosine does. Take the direction's twice.",
            "own_length": "this divides by the rows' own lengths. The shadow lies on direction: divide by its length.",
            "shadow": "these are the shadows themselves. What is left of the row when its shadow is gone?",
            "direction": "this takes the same arrow from every row. Each row has its own share of it.",
            "added": "now there is twice as much of the direction in every row: check the sign.",
            "numbers": "one number is taken from all columns of a row. A shadow is an arrow along the direction.",
            "no_arrows": "`shares * direction` multiplies number by number. `np.outer` makes an arrow of each share.",
            "outer_turned": "`np.outer` makes a row of each of its first numbers. First the shares, then direction.",
        },
    ),
    Exercise(
        id="03.2",
        title="Customers like this one",
        level="medium",
        minutes=12,
        task="""A task from work: the shop wants to show "customers like you", whether they buy for one or for six.
`table` has one row for each customer. The columns can be anything: loaves, grams of cheese, euros. Whoever returns a
loaf has `-1` there, so numbers can be negative. Write `most_alike(table, who)`: divide every column by its standard
deviation, compare with the cosine, and return the number of the row that is most like row `who` and isn't `who`.""",
        clue="""`table.std(axis=0)` has one number for each column. Everybody's best match is themselves, so give row
`who` a score that can't win: `-np.inf`.""",
        name="most_alike",
        stub='''import numpy as np


def most_alike(table, who):
    """Return the number of the row that is most like row `who`, and is not `who`."""
    ...''',
        solution='''import numpy as np


def most_alike(table, who):
    """Return the number of the row that is most like row `who`, and is not `who`."""
    scaled = table / table.std(axis=0)
    scores = scaled @ scaled[who] / np.linalg.norm(scaled, axis=1)
    scores[who] = -np.inf
    return int(scores.argmax())''',
        check=check_most_alike,
        hints={
            "itself": "everybody is most like themselves. Take row `who` out of the contest.",
            "zero_self": "row `who` got the score 0. Where all others are negative, 0 still wins.",
            "minus_one": "row `who` got the score -1. Somebody exactly opposite has -1, too, and then `who` can win.",
            "rounded": "rounding makes ties, and `argmax` takes the first. Round when you print, not when you compare.",
            "shorter": "without row `who` the list is one shorter, so every row behind it has the wrong number.",
            "one_based": "the right row, but its number is one too high: the first row is number 0.",
            "score": "this is the best score. We want to know whose it is: `argmax` gives the place.",
            "fraction": "the right row, but as a number with a point. `table[2.0]` is an error: return a whole number.",
            "distance": "the columns are right, and then this compares by distance. We asked for the cosine.",
            "unscaled": "the columns still have their own units. `std(axis=0)` has one spread for each column.",
            "raw_dot": "this is the raw dot product: whoever buys most is everybody's friend.",
            "long_ones": "the columns are right, but long arrows still win. Divide by the lengths.",
            "rows": "this standardizes each customer. Loaves compare with the loaves of others: go by column, axis=0.",
            "standardized": "subtracting the mean asks another question: who differs from the average like `who`?",
            "mean_only": "this subtracts the mean and leaves the units as they are. Divide, and don't subtract.",
            "largest": "this divides by each column's largest value, so one big shopper sets the scale. Take the std.",
            "column_length": "this divides each column by its length. We asked for the standard deviation.",
            "second": "two customers can be the same, so second place isn't always somebody else. Take `who` out.",
            "absolute": "without the minus sign, the exact opposite looks like a friend. Leave out `abs`.",
            "least": "this returns the customer who is least alike.",
        },
    ),
    Exercise(
        id="03.3",
        title="A table of cosines",
        level="medium",
        minutes=12,
        task="""Write `cosine_similarity(table, queries)`. `table` is `(rows, d)`, `queries` is `(queries, d)`. The
result is `(queries, rows)`: the cosine of every query with every row. No loop is needed. The lesson goes on with your
function, and you can use it for any search.""",
        clue="""Make every row of both tables a unit vector first; then the cosine is a dot product, and all of them
are one matrix product. `np.linalg.norm(table, axis=1, keepdims=True)` has the shape `(rows, 1)`, which divides each
row by its own length.""",
        name="cosine_similarity",
        stub='''import numpy as np


def cosine_similarity(table, queries):
    """Return the cosine of every query with every row of table: (queries, rows)."""
    ...''',
        solution='''import numpy as np


def cosine_similarity(table, queries):
    """Return the cosine of every query with every row of table: (queries, rows)."""
    table = table / np.linalg.norm(table, axis=1, keepdims=True)
    queries = queries / np.linalg.norm(queries, axis=1, keepdims=True)
    return queries @ table.T''',
        check=check_cosine_similarity,
        kept=True,
        hints={
            "raw_dot": "these are the dot products. Nobody has divided by the lengths yet.",
            "turned": "the cosines are right, but they lie on their side: we want one row for each query.",
            "one_sided": "the rows of the table have length 1 now, the queries don't. Divide by both lengths.",
            "queries_only": "the queries have length 1 now, the rows of the table don't. Divide by both lengths.",
            "whole": "`np.linalg.norm(table)` is one number for the whole table. Each row needs its own: axis=1.",
            "columns": "this divides every column by its length. A vector is a row here: axis=1.",
            "no_keepdims": "lengths of shape (rows,) can't divide a table (rows, d). Add keepdims=True.",
            "squared": "this divides by each length twice. `a @ a` is the length squared; take the root.",
            "brackets": "`a / b * c` divides by b and multiplies by c. Put brackets around both: `a / (b * c)`.",
            "lengths_turned": "the lengths lie on their side: `np.outer` makes a row of each of its first numbers.",
            "inner_sizes": "the inner sizes don't fit. (queries, d) @ (d, rows) needs the table turned: `table.T`.",
            "scaled": "this standardizes first. Here we want the cosine of the vectors as they are.",
        },
    ),
]
