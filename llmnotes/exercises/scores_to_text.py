"""The exercises of notebook 07: temperature with its end at 0, a colleague's top-p, and the loop that writes."""

from typing import Any

import numpy as np

from llmnotes.attention import softmax
from llmnotes.exercises.exercise import Answer, Exercise, Verdict, judge
from llmnotes.exercises.generating import check_generate

SCORES = np.array([2.0, -1.0, 3.5, 0.5, 3.0])
TEMPERATURES = [
    (SCORES, 1.0),
    (SCORES, 0.5),
    (SCORES, 2.0),
    (SCORES, 0.0),
    (np.array([-4.0, 1.0, 900.0, 899.0]), 2.0),
    (np.array([7.0, 1.0]), 0.0),
    (np.array([1.0, 1.001, 0.2]), 0.0),  # a tiny temperature isn't 0
]


def _probabilities(scores: np.ndarray, temperature: float) -> np.ndarray:
    if temperature == 0:
        return np.where(np.arange(len(scores)) == scores.argmax(), 1.0, 0.0)
    return softmax(scores / temperature)


def _at_zero(value: Any) -> Answer:
    """Return the right function but for temperature 0, where it gives `value(scores)`."""
    return lambda scores, temperature: value(scores) if temperature == 0 else _probabilities(scores, temperature)


def check_probabilities(answer: Answer) -> str | Verdict | None:
    """Return None, or what is wrong: with the division, or with temperature 0."""
    mistakes: dict[str, Answer] = {
        "not_zero": lambda scores, temperature: softmax(scores / temperature),
        "uncut": _at_zero(softmax),
        "times": lambda scores, temperature: (
            softmax(scores * temperature) if temperature else _probabilities(scores, 0)
        ),
        "times_zero": lambda scores, temperature: softmax(scores * temperature),
        "late": lambda scores, temperature: softmax(scores) / temperature if temperature else _probabilities(scores, 0),
        "number": _at_zero(lambda scores: int(scores.argmax())),
        "best_score": _at_zero(lambda scores: np.where(scores == scores.max(), scores, 0)),
    }
    with np.errstate(all="ignore"):  # a division by 0 is one of the mistakes
        return judge(answer, _probabilities, TEMPERATURES, mistakes)


SHARES = [
    (np.array([0.1, 0.4, 0.05, 0.25, 0.2]), 0.7),
    (np.array([0.1, 0.4, 0.05, 0.25, 0.2]), 0.3),
    (np.array([0.02, 0.03, 0.95]), 0.9),
    (np.array([0.2, 0.1, 0.4, 0.3]), 0.85),
    (np.array([0.5, 0.05, 0.25, 0.2]), 0.6),
    (np.array([0.5, 0.25, 0.25]), 0.5),  # met exactly
]


def _top_p(p: np.ndarray, share: float) -> np.ndarray:
    order = np.argsort(-p)
    before = np.cumsum(p[order]) - p[order]
    kept = np.zeros_like(p)
    kept[order] = np.where(before < share, p[order], 0)
    return kept


def _best_first(p: np.ndarray, share: float) -> np.ndarray:
    down = np.sort(p)[::-1]
    return np.where(np.cumsum(down) - down < share, down, 0)


def _stops_short(p: np.ndarray, share: float) -> np.ndarray:
    order = np.argsort(-p)
    kept = np.zeros_like(p)
    kept[order] = np.where(np.cumsum(p[order]) <= share, p[order], 0)
    return kept


def _reached(p: np.ndarray, share: float) -> np.ndarray:
    order = np.argsort(-p)
    kept = np.zeros_like(p)
    kept[order] = np.where(np.cumsum(p[order]) - p[order] <= share, p[order], 0)
    return kept


def _colleague(p: np.ndarray, share: float) -> np.ndarray:
    down = np.sort(p)[::-1]
    return np.where(np.cumsum(down) <= share, down, 0)


def _unsorted(p: np.ndarray, share: float) -> np.ndarray:
    return np.where(np.cumsum(p) - p < share, p, 0)


def _double_sort(p: np.ndarray, share: float) -> np.ndarray:
    """Put the kept numbers back by the order itself, where its inverse is needed."""
    order = np.argsort(-p)
    return _best_first(p, share)[order]


TIES = [(np.full(4, 0.25), 0.4), (np.array([0.1, 0.3, 0.3, 0.3]), 0.5)]  # any two of the best are right


def _ties_kept(p: np.ndarray, share: float) -> np.ndarray:
    return np.where(p >= _top_p(p, share).max(), p, 0)


def check_top_p(answer: Answer) -> str | Verdict | None:
    """Return None, or which of the colleague's mistakes is still there."""
    mistakes: dict[str, Answer] = {
        "both": _colleague,
        "stops_short": _stops_short,
        "reached": _reached,
        "sorted": _best_first,
        "wrong_way_back": _double_sort,
        "as_they_come": _unsorted,
        "rescaled": lambda p, share: _top_p(p, share) / _top_p(p, share).sum(),
        "each": lambda p, share: np.where(p >= share, p, 0),
        "share_of_best": lambda p, share: np.where(p >= share * p.max(), p, 0),
        "which": lambda p, share: _top_p(p, share) > 0,
        "left_out": lambda p, share: p[_top_p(p, share) > 0],
    }
    found = judge(answer, _top_p, SHARES, mistakes)
    if found is None and judge(answer, _ties_kept, TIES) is None:
        return "ties"
    return found


EXERCISES = [
    Exercise(
        id="07.1",
        title="Temperature, down to 0",
        level="easy",
        minutes=5,
        task="""Write `probabilities(scores, temperature)`: divide the scores by the temperature, then take the softmax.
One case needs a line of its own. At temperature 0 the division fails, and everybody expects greedy: 1 for the token
with the best score, and 0 for all the others.""",
        clue="For temperature 0 you can make an array of zeros, as long as the scores, and set one place of "
        "it: the one that `scores.argmax()` names.",
        name="probabilities",
        stub='''import numpy as np

from llmnotes.attention import softmax


def probabilities(scores, temperature):
    """Return one probability for each score; at temperature 0 the best has all."""
    ...''',
        solution='''import numpy as np

from llmnotes.attention import softmax


def probabilities(scores, temperature):
    """Return one probability for each score; at temperature 0 the best has all."""
    if temperature == 0:
        p = np.zeros(len(scores))
        p[scores.argmax()] = 1
        return p
    return softmax(scores / temperature)''',
        check=check_probabilities,
        hints={
            "not_zero": "right, but for temperature 0: there the division gives no numbers. Treat it first, "
            "with an `if`.",
            "uncut": "at temperature 0 you give the model's own probabilities. It should be 1 for the best, 0 "
            "for the rest.",
            "times": "you multiply by the temperature. Divide: a temperature below 1 must make the differences larger.",
            "times_zero": "you multiply by the temperature. Divide, and treat temperature 0 apart, with an `if`.",
            "late": "you divide the probabilities. Divide the scores, and take the softmax after that.",
            "number": "at temperature 0 you return the number of the best token. Return an array: 1 in its "
            "place, 0 else.",
            "best_score": "at temperature 0 the best token should have the probability 1; yours has its score there.",
        },
        kept=True,
    ),
    Exercise(
        id="07.2",
        title="A colleague's top-p",
        level="medium",
        minutes=10,
        task="""*A bug hunt.* A colleague wrote top-p, and since then the model writes odd things. The cell below has
the two lines. For `p = [0.1, 0.4, 0.05, 0.25, 0.2]` and a share of 0.7 the result should be `[0, 0.4, 0, 0.25, 0.2]`.
Theirs is `[0.4, 0.25, 0, 0, 0]`. There are **two** mistakes. Repair them.

The tokens that stay keep their numbers as they are. `draw` doesn't mind that they no longer sum to 1.""",
        clue="First mistake: 0.4 and 0.25 hold 0.65 together, so the share of 0.7 isn't reached yet. Ask for "
        "each token what those *before* it hold: it stays if that is less than the share. Second mistake: token 1 "
        "must have its number in place 1. `order = np.argsort(-p)` says who is where, and `kept[order] = …` puts "
        "each number back.",
        name="top_p",
        stub='''import numpy as np


def top_p(p, share):
    """Keep the most likely tokens, as few as hold `share` together; the rest get 0."""
    best_first = np.sort(p)[::-1]
    kept = np.where(np.cumsum(best_first) <= share, best_first, 0)
    ...  # return kept, when it is right''',
        solution='''import numpy as np


def top_p(p, share):
    """Keep the most likely tokens, as few as hold `share` together; the rest get 0."""
    order = np.argsort(-p)
    before = np.cumsum(p[order]) - p[order]
    kept = np.zeros_like(p)
    kept[order] = np.where(before < share, p[order], 0)
    return kept''',
        check=check_top_p,
        hints={
            "both": "this is still your colleague's version, with both mistakes.",
            "stops_short": "the places are right now. But the token with which the share is reached has to stay, too.",
            "reached": "one token too many where the share is met exactly. A token stays if those before it hold less "
            "than the share.",
            "sorted": "the right tokens stay now. But they are sorted: each number must be in its token's own place.",
            "wrong_way_back": "`kept[order]` reads in that order. You want to write: `kept[order] = …`",
            "as_they_come": "these are the first tokens of the list. Take the most likely ones first.",
            "rescaled": "the right tokens in the right places. Leave the numbers as they are: yours are scaled "
            "to sum to 1.",
            "each": "this keeps tokens that hold the share alone. It is their sum that has to reach it.",
            "share_of_best": "this is min-p, the next rule: it compares each token with the best one.",
            "ties": "right, but for equals. Of four tokens with 0.25 each, two hold a share of 0.4, and yours "
            "keeps all four.",
            "which": "you say which tokens stay. Return their probabilities, and 0 for the others.",
            "left_out": "what is cut off becomes 0 and stays in the list; otherwise all the places move.",
        },
        kept=True,
    ),
    Exercise(
        id="07.3",
        title="Write generate",
        level="medium",
        minutes=10,
        task="""Write `generate(model, ids, choose, stop, most)`. It does what `write` does, with two ways out. When the
chosen token is one of those in `stop`, the text is finished, and that token doesn't belong to it. And there are
never more than `most` new tokens. Ask the model and
`choose` once for each token. Return the ids you were given and the new ones behind them, in a list of their own.

The check uses a model that counts: after 3 its best token is 4, after 9 it is 0. So `generate(model, [3],
np.argmax, (7,), 60)` is `[3, 4, 5, 6]`.""",
        clue="`model(ids)[-1]` has the scores for the next token, and `choose` makes a number of them. Ask "
        "whether it is in `stop` before you append it. `ids = list(ids)` makes the list of your own.",
        name="generate",
        stub='''def generate(model, ids, choose, stop=(1,), most=60):
    """Return ids with what the model adds, up to a token in `stop` or `most` tokens."""
    ...''',
        solution='''def generate(model, ids, choose, stop=(1,), most=60):
    """Return ids with what the model adds, up to a token in `stop` or `most` tokens."""
    ids = list(ids)
    for _ in range(most):
        token = int(choose(model(ids)[-1]))
        if token in stop:
            break
        ids.append(token)
    return ids''',
        check=check_generate,
        hints={
            "kept_stop": "the stop token is still there at the end. Look at the token before you append it.",
            "nothing": "at a stop token yours returns nothing; return the ids so far.",
            "never": "yours never stops early. Leave the loop when the token is one of those in `stop`.",
            "only_new": "these are the new tokens alone. Return the given ids, too.",
            "first_row": "you choose from the first row of scores. What comes next is in the last row, [-1].",
            "same_prompt": "the model sees the same ids each time. Ask it again with the new token behind them.",
            "to_length": "`most` counts the new tokens alone, without those that were given.",
            "one_more": "this is one token too many.",
            "one_less": "this is one token too few: `range(most)` counts from 0 and has `most` numbers.",
            "nothing_at_limit": "after `most` tokens yours returns nothing. Put a `return ids` behind the loop.",
            "early_return": "yours returns after the first token: `return ids` stands inside of the loop. Move it "
            "behind.",
            "endless": "yours has no limit: I stopped it after 200 tokens. It must end after `most`, also without a "
            "stop token.",
            "first_stop": "`stop` can have several tokens, or none. Ask whether the token is `in stop`.",
            "last_alone": "the model gets the last token alone. Give it all ids: the whole text decides what comes "
            "next.",
            "goes_on": "the stop token isn't kept, but yours goes on behind it. Leave the loop there.",
            "twice": "you call `choose` twice for one token. It draws, so the second call can give another token: "
            "keep the first.",
            "no_list": "the ids are right. But return them in a list: `ids = list(ids)` makes one.",
            "asks_again": "the text is right, but you ask the model twice with the same ids. Ask it once for each "
            "token.",
            "greedy": "you take the best token each time. `choose` was given to decide that: call it with the scores.",
            "softmaxed": "`choose` wants the scores as the model gives them. Leave the softmax to it.",
        },
        kept=True,
    ),
]
