"""Exercises that answer: a check, a reference, and for every common wrong answer its own hint.

Each notebook has one file here, which ends in `EXERCISES = [Exercise(...), ...]`. The notebook's exercise cells
and the notebook of solutions are generated from it (`kit.anatomy`).
"""

import importlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from llmnotes.errors import UnknownName

# number of the notebook -> its module here
MODULES = {
    "00": "start_here",
    "01": "embeddings",
    "02": "dot_products",
    "03": "model_formats",
    "04": "quantization",
    "05": "calibrated_quantization",
    "06": "gguf_and_llama_cpp",
    "07": "fine_tuning",
    "08": "qlora",
    "09": "serving",
    "10": "vision_language",
    "11": "scaling_out",
}


@dataclass(frozen=True)
class Exercise:
    """One exercise.

    `check(answer)` returns None if the answer is right, otherwise the key of a hint in `hints`. It may call the
    answer freely: what the answer raises, and an answer that returns nothing yet, are caught by `assess`.
    `wrong` maps every key of `hints` to the source of a typical answer that must get this hint and no other.
    `stub` and `solution` are sources that bind `name`; both see only what they import themselves.
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
    check: Callable[[object], str | None]
    hints: dict[str, str]
    wrong: dict[str, str]


def recognize(found, right, mistakes: dict, other: str = "other") -> str | None:
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


class _ToDo(Exception):
    """The reader's function returns nothing yet."""


@dataclass(frozen=True)
class Verdict:
    """What came of an answer: `state` is "right", "to do", "raises" or the key of a hint; the reader sees `message`."""

    state: str
    message: str


def load(number: str) -> list[Exercise]:
    """Return the exercises of notebook `number` ("01"), in order.

    Raises `UnknownName` if that notebook has none.

    >>> load("00")[0].title
    'Bits per weight'
    """
    if number not in MODULES:
        raise UnknownName(f"There are no exercises for “{number}”; there are some for {', '.join(MODULES)}.")
    return importlib.import_module(f"llmnotes.exercises.{MODULES[number]}").EXERCISES


def find(exercise_id: str) -> Exercise:
    """Return the exercise with this id; raises `UnknownName` with the ids that exist."""
    exercises = load(exercise_id.partition(".")[0])
    for exercise in exercises:
        if exercise.id == exercise_id:
            return exercise
    raise UnknownName(f"There is no exercise {exercise_id}; there are {', '.join(e.id for e in exercises)}.")


def assess(exercise: Exercise, answer: object) -> Verdict:
    """Return the verdict on `answer`: prints nothing, keeps no record.

    Raises nothing: an error inside the reader's function becomes part of the verdict.

    >>> assess(find("00.1"), lambda size, parameters: size / parameters).state
    'bytes'
    """
    if answer is None or answer is ...:
        return Verdict("to do", f"still to do: replace the dots, so that {exercise.name} has a value")
    subject = _watched(answer) if callable(answer) else answer
    try:
        key = exercise.check(subject)
    except _ToDo:
        return Verdict("to do", f"still to do: {exercise.name} returns nothing yet")
    except Exception as error:  # whatever the reader's code does, the reader gets a sentence
        return Verdict("raises", f"{exercise.name} raises {type(error).__name__}: {error}")
    if key is None:
        return Verdict("right", "right")
    return Verdict(key, exercise.hints[key])


def check(exercise_id: str, answer: object) -> None:
    """Print the verdict on `answer`, and remember the exercise as solved if it is right.

    Raises `UnknownName` for an id that does not exist; never for a wrong answer.

    >>> check("00.1", lambda size, parameters: None)
    ○ 00.1 Bits per weight: still to do: bits_per_weight returns nothing yet
    """
    exercise = find(exercise_id)
    verdict = assess(exercise, answer)
    mark = {"right": "✓", "to do": "○"}.get(verdict.state, "✗")
    print(f"{mark} {exercise.id} {exercise.title}: {verdict.message}")
    if verdict.state == "right":
        _remember(exercise.id)


def reveal(guess: object, truth: object) -> None:
    """Print what the reader guessed beside what is true; `guess` is None where the reader made no guess.

    >>> reveal("Paris", "something else")
    You guessed Paris. It is something else.
    """
    if guess is None:
        print(f"No guess yet. It is {truth}.")
    elif guess == truth:
        print(f"Your guess is right: {truth}.")
    else:
        print(f"You guessed {guess}. It is {truth}.")


def progress_file() -> Path:
    """Return the one file that keeps what this reader has solved (in LLMNOTES_HOME, by default ~/.llmnotes)."""
    return Path(os.environ.get("LLMNOTES_HOME", Path.home() / ".llmnotes")) / "progress.json"


def solved() -> list[str]:
    """Return the ids of the solved exercises, sorted; an unreadable file counts as empty."""
    try:
        return sorted(set(json.loads(progress_file().read_text(encoding="utf-8"))["solved"]))
    except (OSError, ValueError, KeyError, TypeError):
        return []


def _remember(exercise_id: str) -> None:
    """Add one id to the file, through a temporary name; a home that cannot be written to is no error."""
    target, done = progress_file(), solved()
    if exercise_id in done:
        return
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        draft = target.with_suffix(f".{os.getpid()}.tmp")
        draft.write_text(json.dumps({"solved": sorted([*done, exercise_id])}), encoding="utf-8")
        draft.replace(target)
    except OSError:
        print("  (progress is not kept: set LLMNOTES_HOME to a folder that can be written to)")


def _watched(function: Callable) -> Callable:
    """Return `function`, except that a call that returns nothing says so."""

    def call(*args, **kwargs):
        result = function(*args, **kwargs)
        if result is None or result is ...:
            raise _ToDo
        return result

    return call
