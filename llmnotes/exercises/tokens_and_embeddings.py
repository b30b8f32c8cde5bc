"""The exercises of notebook 01: a merge, the price of a prompt, and a search whose scores forget the lengths."""

from collections.abc import Callable

import numpy as np

from llmnotes.exercises.exercise import Answer, Exercise, Verdict, judge

MERGES = [
    (["t", "h", "e"], ("h", "e")),
    (["Ġ", "k", "it", "t", "en"], ("it", "t")),
    (["a", "b", "a", "b", "c"], ("a", "b")),
    (["a", "a", "a", "b"], ("a", "a")),
    (["m", "i", "l", "k"], ("t", "h")),
    (["b", "a"], ("a", "b")),
    (["a", "b"], ("a", "b")),
]
RNG = np.random.default_rng(3)
ROWS = RNG.normal(size=(9, 4)) * np.linspace(0.2, 4, 9)[:, None]  # short rows to long ones
SEARCHES = [(RNG.normal(size=4), ROWS, k) for k in (1, 3, 3, 9)]


def merge(tokens: list[str], pair: tuple[str, str]) -> list[str]:
    """Return the tokens with every place where `pair` stands joined to one, from left to right."""
    joined: list[str] = []
    at = 0
    while at < len(tokens):
        step = 2 if tuple(tokens[at : at + 2]) == tuple(pair) else 1
        joined.append("".join(tokens[at : at + step]))
        at += step
    return joined


def check_merge(answer: Answer) -> str | Verdict | None:
    """Return None for the joined tokens, else which mistake they come from."""

    def first_only(tokens: list[str], pair: tuple[str, str]) -> list[str]:
        for i in range(len(tokens) - 1):
            if tuple(tokens[i : i + 2]) == pair:
                return [*tokens[:i], "".join(pair), *tokens[i + 2 :]]
        return tokens

    def keeps_second(tokens: list[str], pair: tuple[str, str]) -> list[str]:
        found = []
        for i, token in enumerate(tokens):
            found.append("".join(pair) if tuple(tokens[i : i + 2]) == pair else token)
        return found

    def loses_last(tokens: list[str], pair: tuple[str, str]) -> list[str]:
        found, i = [], 0
        while i < len(tokens) - 1:
            step = 2 if tuple(tokens[i : i + 2]) == pair else 1
            found.append("".join(tokens[i : i + step]))
            i += step
        return found

    def either_way(tokens: list[str], pair: tuple[str, str]) -> list[str]:
        found, i = [], 0
        while i < len(tokens):
            step = 2 if sorted(tokens[i : i + 2]) == sorted(pair) else 1
            found.append("".join(tokens[i : i + step]))
            i += step
        return found

    def as_pair(tokens: list[str], pair: tuple[str, str]) -> list:
        return [pair if token == "".join(pair) else token for token in merge(tokens, pair)]

    mistakes = {
        "first_only": first_only,
        "keeps_second": keeps_second,
        "loses_last": loses_last,
        "either_way": either_way,
        "as_pair": as_pair,
        "text": lambda tokens, pair: "".join(tokens),
    }
    return judge(answer, merge, MERGES, mistakes)


def price(
    count: Callable[[str], int], instructions: str, questions: list[str], answers: list[str], inward: float, out: float
) -> float:
    """Return what the calls cost: `inward` and `out` are the prices of a million tokens."""
    read = sum(count(instructions) + count(question) for question in questions)
    written = sum(count(answer) for answer in answers)
    return (read * inward + written * out) / 1e6


def _words(text: str) -> int:
    return len(text.split())


def _pairs(text: str) -> int:
    return (len(text) + 1) // 2


def check_price(answer: Answer) -> str | Verdict | None:
    """Return None for the price, else which mistake leads to it."""
    rules, asked, said = (
        "be kind and brief please",
        ["where is my cat", "who sells milk"],
        ["at home", "the shop", "no"],
    )
    cases = [
        (_words, rules, asked, said[:2], 2e5, 6e5),
        (_pairs, rules * 9, asked * 5, said * 3 + ["so it is"], 3e5, 3e6),
        (_words, "go", ["one two three"], ["four"], 1e6, 5e6),
    ]

    def letters(count, instructions, questions, answers, inward, out):
        return price(len, instructions, questions, answers, inward, out)

    def once(count, instructions, questions, answers, inward, out):
        return ((count(instructions) + sum(map(count, questions))) * inward + sum(map(count, answers)) * out) / 1e6

    def no_rules(count, instructions, questions, answers, inward, out):
        return (sum(map(count, questions)) * inward + sum(map(count, answers)) * out) / 1e6

    mistakes = {
        "letters": letters,
        "once": once,
        "no_rules": no_rules,
        "swapped": lambda count, rules, asked, said, inward, out: price(count, rules, asked, said, out, inward),
        "per_token": lambda *given: 1e6 * price(*given),
        "per_thousand": lambda *given: 1e3 * price(*given),
        "one_price": lambda count, rules, asked, said, inward, out: price(count, rules, asked, said, inward, inward),
        "texts": lambda count, rules, questions, answers, inward, out: (
            (len(questions) * inward + len(answers) * out) / 1e6
        ),
    }
    return judge(answer, price, cases, mistakes)


def search(query: np.ndarray, rows: np.ndarray, k: int) -> np.ndarray:
    """Return the numbers of the k rows that have the largest cosine with `query`, best first."""
    scores = rows @ query / np.linalg.norm(rows, axis=1) / np.linalg.norm(query)
    return np.argsort(-scores)[:k]


def check_search(answer: Answer) -> str | Verdict | None:
    """Return None for the k rows with the largest cosine, else which mistake they come from."""

    def by(score: Answer) -> Answer:
        return lambda query, rows, k: np.argsort(-score(query, rows))[:k]

    mistakes = {
        "dot": by(lambda query, rows: rows @ query),
        "columns": by(lambda query, rows: rows / np.linalg.norm(rows, axis=0) @ query),
        "squared": by(lambda query, rows: rows @ query / (rows**2).sum(axis=1)),
        "distance": by(lambda query, rows: -np.linalg.norm(rows - query, axis=1)),
        "farthest": lambda query, rows, k: search(query, rows, len(rows))[::-1][:k],
        "backwards": lambda query, rows, k: search(query, rows, k)[::-1],
        "scores": lambda query, rows, k: np.sort(rows @ query / np.linalg.norm(rows, axis=1) / np.linalg.norm(query))[
            ::-1
        ][:k],
    }
    return judge(answer, search, SEARCHES, mistakes)


EXERCISES = [
    Exercise(
        id="01.1",
        title="Merge a pair",
        level="easy",
        minutes=8,
        kept=True,
        task="Write `merge(tokens, pair)`. It walks through the list `tokens` from left to right. Wherever the two "
        "tokens "
        "of `pair` stand next to each other, in this order, they become one. Return a new list:\n\n"
        '`merge(["t", "h", "e"], ("h", "e"))` gives `["t", "he"]`.',
        clue="Keep a position `i` and a `while` loop. If `tokens[i]` and `tokens[i + 1]` are the pair, append "
        "`pair[0] + pair[1]` and go on by two; if not, append `tokens[i]` and go on by one. What happens at the "
        "last token?",
        name="merge",
        stub="""def merge(tokens, pair):
    ...  # return a new list
""",
        solution="""def merge(tokens, pair):
    joined, i = [], 0
    while i < len(tokens):
        if tuple(tokens[i : i + 2]) == pair:
            joined.append(pair[0] + pair[1])
            i += 2
        else:
            joined.append(tokens[i])
            i += 1
    return joined
""",
        check=check_merge,
        hints={
            "first_only": "You stop after the first pair. Go on to the end of the list.",
            "keeps_second": "You write the joined token and then the pair's second token again. After a pair, go on "
            "by two.",
            "loses_last": "You stop one token too early: a last token that belongs to no pair gets lost.",
            "either_way": "You also join the two the other way round. A pair has an order: “he” is not “eh”.",
            "as_pair": "You put the pair itself into the list. We want one text: add the two.",
            "text": "You join all of the tokens. Only the two of the pair become one.",
        },
    ),
    Exercise(
        id="01.2",
        title="What will it cost?",
        level="easy",
        minutes=8,
        task="A task from work. Your support bot sends the same instructions along with *every* question, and the "
        "provider "
        "bills what the model reads and what it writes at two prices. Write `price(count, instructions, questions, "
        "answers, "
        "inward, out)`: `count(text)` gives a text's tokens, `questions` and `answers` are lists of texts, `inward` "
        "and `out` "
        "are the prices of a million tokens read and written.",
        clue="First add up the tokens that are read, then those that are written. For two questions, the "
        "instructions are "
        "read twice. Divide by `1e6` at the end.",
        name="price",
        stub="""def price(count, instructions, questions, answers, inward, out):
    ...  # return one number
""",
        solution="""def price(count, instructions, questions, answers, inward, out):
    read = sum(count(instructions) + count(question) for question in questions)
    written = sum(count(answer) for answer in answers)
    return (read * inward + written * out) / 1e6
""",
        check=check_price,
        hints={
            "letters": "You count letters. Providers bill tokens: use `count(text)`.",
            "once": "You count the instructions once. The model remembers nothing from one call to the next, so "
            "they are "
            "sent, and billed, with each question.",
            "no_rules": "Your sum leaves out the instructions. They are read with each question, and each time they "
            "cost.",
            "swapped": "You have the two prices the wrong way round: `inward` is for what the model reads.",
            "per_token": "The prices are for a million tokens. Your number is a million times too large.",
            "per_thousand": "The prices are for a million tokens, not for a thousand.",
            "one_price": "You use one price for both. What the model writes costs `out`.",
            "texts": "You count texts. Providers bill tokens: use `count(text)` on each of them.",
        },
    ),
    Exercise(
        id="01.3",
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
