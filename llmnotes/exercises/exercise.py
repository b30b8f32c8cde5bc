"""What an exercise is, and how an answer is judged: a check, a reference, and a hint for each common mistake."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Answer = Callable[..., Any]  # the reader's function; a check calls it with its own cases


@dataclass(frozen=True)
class Exercise:
    """One exercise of a notebook.

    `check(answer)` returns None if the answer is right, otherwise the key of a hint in `hints`. It may call the answer
    freely: `assess` catches what the answer raises, and an answer that returns nothing yet. `stub` and `solution` are
    sources that bind `name`; both see only what they import themselves.

    tests/wrong_answers has a typical wrong answer for each hint, which must get this hint and no other.
    """

    id: str  # "01.2": notebook, then number
    title: str
    level: str  # easy, medium or hard
    minutes: int
    task: str  # markdown
    clue: str  # markdown, folded under the task
    name: str  # what the reader writes: the name of a function or of a value
    stub: str
    solution: str
    check: Callable[[Any], str | None]  # most take an `Answer`, some a value
    hints: dict[str, str]


@dataclass(frozen=True)
class Verdict:
    """What came of an answer: `state` is "right", "to do", "raises" or the key of a hint; the reader sees `message`."""

    state: str
    message: str


def recognize(found: Any, right: Any, mistakes: Mapping[str, Any], other: str = "other") -> str | None:
    """Return None if the numbers `found` are `right`, else the key of the mistake with the same numbers, else `other`.

    Numbers are the same if their shapes are equal and their values agree to 1e-6 of their size; nan equals nan.

    >>> recognize([1, 2], right=[1, 2], mistakes={"shifted": [2, 3]}) is None
    True
    >>> recognize([2, 3], right=[1, 2], mistakes={"shifted": [2, 3]})
    'shifted'
    """
    import numpy as np

    found = np.asarray(found, dtype=float)
    for key, numbers in [(None, right), *mistakes.items()]:
        if found.shape == np.shape(numbers) and np.allclose(found, numbers, rtol=1e-6, atol=1e-9, equal_nan=True):
            return key
    return other


def assess(exercise: Exercise, answer: object) -> Verdict:
    """Return the verdict on `answer`. It prints nothing and keeps no record.

    Raises nothing: an error inside the reader's function becomes part of the verdict.

    >>> from llmnotes.exercises import find
    >>> assess(find("00.1"), lambda size, parameters: size / parameters).state
    'bytes'
    """
    if answer is None or answer is ...:
        return Verdict("to do", f"still to do: replace the dots, so that {exercise.name} has a value")
    try:
        key = exercise.check(_watched(answer) if callable(answer) else answer)
    except _ToDo:
        return Verdict("to do", f"still to do: {exercise.name} returns nothing yet")
    except Exception as error:  # whatever the reader's code does, the reader gets a sentence
        return Verdict("raises", f"{exercise.name} raises {type(error).__name__}: {error}")
    if key is None:
        return Verdict("right", "right")
    return Verdict(key, exercise.hints[key])


class _ToDo(Exception):
    """The reader's function returns nothing yet."""


def _watched(function: Answer) -> Answer:
    """Return `function` so that a call raises `_ToDo` where the function returns nothing."""

    def call(*args, **kwargs):
        result = function(*args, **kwargs)
        if result is None or result is ...:
            raise _ToDo
        return result

    return call
