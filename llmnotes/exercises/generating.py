"""The check of exercise 07.3: a loop that writes, tried on models whose answers are known."""

import copy
from itertools import pairwise
from typing import Any

import numpy as np

from llmnotes.attention import softmax
from llmnotes.exercises.exercise import Answer, ToDo, Verdict, alike, judge


class _Endless(Exception):
    """The model was asked far more often than `most` allows."""


class _Named:
    """Equal to what has the same name, so that counting calls is no change of what an answer was given."""

    def __eq__(self, other: object) -> bool:
        return getattr(other, "__name__", None) == getattr(self, "__name__", None)

    __hash__ = None  # pyright: ignore[reportAssignmentType]


class _Model(_Named):
    """A model of ten tokens that gives a row of scores for each id, and refuses to be asked without end."""

    def __init__(self, name: str, best: Any) -> None:
        self.__name__, self.best, self.asked = name, best, []  # best(ids) comes after them

    def __call__(self, ids: Any) -> np.ndarray:
        ids = np.asarray(ids, dtype=int)
        self.asked.append(ids.tolist())
        if len(self.asked) > 200:
            raise _Endless
        return np.array([_row(int(self.best(ids[: i + 1]))) for i in range(len(ids))])


def _row(best: int) -> np.ndarray:
    """Ten scores: 2 for the best token, and less for the others, the further they are behind it."""
    return 2 - 0.3 * ((np.arange(10) - best) % 10)


class _Turns(_Named):
    """Choose the best token, then the second best, and so on in turns: the scores alone don't say what it takes."""

    __name__ = "best, then second best"

    def __init__(self) -> None:
        self.count = -1

    def __call__(self, row: Any) -> int:
        self.count += 1
        return int(np.argsort(-np.asarray(row), kind="stable")[self.count % 2])


def _above_one(row: Any) -> int:
    """Choose the last token with a score above 1: it takes the scores as they are."""
    return int(np.flatnonzero(np.asarray(row) > 1).max(initial=0))


_above_one.__name__ = "last above 1"

COUNTING = _Model("counting", lambda ids: (ids[-1] + 1) % 10)
ADDING = _Model("adding", lambda ids: ids.sum() % 10)


def _generate(model: Any, ids: list[int], choose: Any, stop: tuple = (1,), most: int = 60) -> list[int]:
    ids = list(ids)
    for _ in range(most):
        token = int(choose(model(ids)[-1]))
        if token in stop:
            break
        ids.append(token)
    return ids


def _kept_stop(model: Any, ids: list[int], choose: Any, stop: tuple = (1,), most: int = 60) -> list[int]:
    ids = list(ids)
    for _ in range(most):
        ids.append(int(choose(model(ids)[-1])))
        if ids[-1] in stop:
            break
    return ids


def _first_row(model: Any, ids: list[int], choose: Any, stop: tuple = (1,), most: int = 60) -> list[int]:
    return _generate(lambda longer: model(longer)[:1], ids, choose, stop, most)


def _same_prompt(model: Any, ids: list[int], choose: Any, stop: tuple = (1,), most: int = 60) -> list[int]:
    rows = model(list(ids))
    return _generate(lambda longer: rows, ids, choose, stop, most)


def _to_length(model: Any, ids: list[int], choose: Any, stop: tuple = (1,), most: int = 60) -> list[int]:
    return _generate(model, ids, choose, stop, max(most - len(ids), 0))


def _last_alone(model: Any, ids: list[int], choose: Any, stop: tuple = (1,), most: int = 60) -> list[int]:
    return _generate(lambda longer: model(longer[-1:]), ids, choose, stop, most)


def _goes_on(model: Any, ids: list[int], choose: Any, stop: tuple = (1,), most: int = 60) -> list[int]:
    ids = list(ids)
    for _ in range(most):
        token = int(choose(model(ids)[-1]))
        if token not in stop:
            ids.append(token)
    return ids


def _twice(model: Any, ids: list[int], choose: Any, stop: tuple = (1,), most: int = 60) -> list[int]:
    ids = list(ids)
    for _ in range(most):
        row = model(ids)[-1]
        if int(choose(row)) in stop:
            break
        ids.append(int(choose(row)))
    return ids


def _early_return(model: Any, ids: list[int], choose: Any, stop: tuple = (1,), most: int = 60) -> list[int] | None:
    ids = list(ids)
    for _ in range(most):
        token = int(choose(model(ids)[-1]))
        if token in stop:
            break
        ids.append(token)
        return ids
    return None


def _first_stop(model: Any, ids: list[int], choose: Any, stop: tuple = (1,), most: int = 60) -> list[int]:
    return _generate(model, ids, choose, (stop[0],), most)


ENDS = [  # model, ids, choose, stop, most
    (COUNTING, [3], np.argmax, (7,), 60),
    (COUNTING, [2, 5], np.argmax, (1,), 4),
    (COUNTING, [8], np.argmax, (9,), 5),
    (COUNTING, [4, 4], np.argmax, (0, 8), 60),
    (COUNTING, [1, 2], np.argmax, (1,), 3),
    (COUNTING, [6], np.argmax, (), 3),
    (COUNTING, [6, 3], np.argmax, (7,), 0),
    (ADDING, [1, 2], np.argmax, (9,), 5),
    (ADDING, [4, 1, 3], np.argmax, (5,), 7),
    (COUNTING, [3], _Turns(), (9,), 9),
    (COUNTING, [2], _Turns(), (0, 8), 6),
    (COUNTING, [2], _above_one, (9,), 4),
]


def _returned(answer: Answer, case: int) -> Any:
    """Return what `answer` gives for a case of ENDS: None where it returns nothing."""
    try:
        return answer(*copy.deepcopy(ENDS[case]))
    except ToDo:
        return None


def _without_return(answer: Answer) -> str | None:
    """Return None or which `return` is missing."""
    stopped, limited = _returned(answer, 0), _returned(answer, 5)
    if stopped is None and limited is not None:
        return "nothing"
    if limited is None and stopped is not None:
        return "nothing_at_limit"
    if stopped is not None and list(stopped) == [3, 4] and _returned(answer, 2) is None:
        return "early_return"
    return None


def _first_stop_only(answer: Answer) -> bool:
    """Return whether `answer` looks at stop[0] alone, and so fails where there is no stop token."""
    try:
        _returned(answer, 5)
    except IndexError:
        return alike(_returned(answer, 3), _first_stop(*copy.deepcopy(ENDS[3])))
    return False


def _asks_again(answer: Answer) -> bool:
    """Return whether `answer` asks the model twice with the same ids: right, but twice the work."""
    cases = [copy.deepcopy(case) for case in ENDS]
    for case in cases:
        answer(*case)
    return any(one == other for model, *_ in cases for one, other in pairwise(model.asked))


def check_generate(answer: Answer) -> str | Verdict | None:
    """Return None, or what is wrong with the loop: its row, its end, what it asks, or what it returns."""
    mistakes: dict[str, Answer] = {
        "kept_stop": _kept_stop,
        "never": lambda model, ids, choose, stop, most: _generate(model, ids, choose, (), most),
        "only_new": lambda model, ids, choose, stop, most: _generate(model, ids, choose, stop, most)[len(ids) :],
        "first_row": _first_row,
        "same_prompt": _same_prompt,
        "last_alone": _last_alone,
        "to_length": _to_length,
        "one_more": lambda model, ids, choose, stop, most: _generate(model, ids, choose, stop, most + 1),
        "one_less": lambda model, ids, choose, stop, most: _generate(model, ids, choose, stop, most - 1),
        "goes_on": _goes_on,
        "twice": _twice,
        "greedy": lambda model, ids, choose, stop, most: _generate(model, ids, np.argmax, stop, most),
        "softmaxed": lambda model, ids, choose, stop, most: _generate(
            model, ids, lambda row: choose(softmax(row)), stop, most
        ),
    }
    try:
        _returned(answer, 5)  # without a stop token
    except _Endless:
        return "endless"
    except IndexError:
        pass
    try:
        if _first_stop_only(answer):
            return "first_stop"
        found = _without_return(answer) or judge(answer, _generate, ENDS, mistakes)
        if found is None and not isinstance(_returned(answer, 0), list):
            return "no_list"
        return found or ("asks_again" if _asks_again(answer) else None)
    except _Endless:  # only behind a stop token
        return "goes_on"
