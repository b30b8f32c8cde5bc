"""What an exercise is, and how an answer is judged: a check, a reference, and a hint for each common mistake."""

import copy
import re
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

SECONDS = 40  # of computing, on all cores together: no check takes half of it
Answer = Callable[..., Any]  # the reader's function; a check calls it with its own cases


@dataclass(frozen=True)
class Exercise:
    """One exercise of a notebook.

    `check(answer)` returns None if the answer is right, otherwise the key of a hint in `hints`, or a `Verdict` of its
    own; `judge` makes most checks. It may call the answer freely: `assess` catches what the answer raises, and an
    answer that returns nothing yet. `stub` and `solution` are sources that bind `name`; both see only what they import
    themselves and what is `given`, a source of imports for what the lesson has defined before: it is run where there
    is no lesson, and not shown in it. With `kept` the lesson goes on with the reader's answer if it is right, and with
    the solution if not.

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
    check: Callable[[Any], "str | Verdict | None"]  # most take an `Answer`, some a value
    hints: dict[str, str]
    kept: bool = False
    given: str = ""  # imports for whoever runs the stub or the solution alone

    @property
    def complete(self) -> str:
        """The solution with what it needs in front of it."""
        return f"{self.given}\n\n\n{self.solution}" if self.given else self.solution


@dataclass(frozen=True)
class Verdict:
    """What came of an answer: `state` is "right", "to do", "raises" or the key of a hint; the reader sees `message`."""

    state: str
    message: str


def judge(
    answer: Answer, right: Answer, cases: Sequence[tuple], mistakes: Mapping[str, Answer] | None = None
) -> str | Verdict | None:
    """Return None if `answer` gives what `right` gives in every case, to 1e-4; a check for functions of values.

    Each case is a tuple of arguments. An answer that equals one of the `mistakes`, functions that make one mistake
    each, in every case (and differs from `right` in at least one) gets that mistake's key. Any other gets a verdict
    that shows the first case in which it is wrong, expected beside found. An answer that changes its arguments is
    told so, and so is one that gives the right numbers in a list or a tensor where they belong in an array. A mistake
    may raise an error: then it has no value in that case, and no answer equals it.

    >>> def double(x): return 2 * x
    >>> judge(lambda x: x + x, double, [(1,), (3,)]) is None
    True
    >>> judge(lambda x: x * x, double, [(1,), (3,)], {"square": lambda x: x**2})
    'square'
    >>> judge(lambda x: x + 1, double, [(1,), (3,)]).message
    'for 3 the right answer is 6, yours is 4'
    """
    found = []
    for case in cases:
        given = copy.deepcopy(case)
        found.append(answer(*given))
        if not alike(given, case):
            return Verdict("overwrites", "your function changes what it is given; work on a copy, or on new values")
    expected = [right(*copy.deepcopy(case)) for case in cases]
    wrong = [i for i, (one, other) in enumerate(zip(found, expected, strict=True)) if not alike(one, other)]
    if not wrong:
        return next(filter(None, map(_other_kind, found, expected)), None)
    for key, mistake in (mistakes or {}).items():
        values = [_value(mistake, case) for case in cases]
        if all(alike(one, other) for one, other in zip(found, values, strict=True)):
            return key
    first = wrong[0]
    return Verdict("other", comparison(cases[first], expected[first], found[first]))


def _other_kind(found: Any, expected: Any) -> Verdict | None:
    """Return a verdict on right numbers that are no array where the lesson goes on with one."""
    import numpy as np

    if isinstance(expected, np.ndarray) and not isinstance(found, np.ndarray | np.generic):
        kind = f"{type(found).__module__.partition('.')[0]}.{type(found).__name__}".removeprefix("builtins.")
        return Verdict("kind", f"the numbers are right, but this is a {kind}; return a NumPy array")
    return None


def alike(one: Any, other: Any) -> bool:
    """Return whether two values are the same: numbers and arrays of one shape to 1e-4, anything else by `==`.

    >>> alike([1, 2.00000001], (1, 2)), alike([1, 2], [[1, 2]]), alike("a", 1)
    (True, False, False)
    """
    import numpy as np

    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(alike(one[key], other[key]) for key in one)
    first: np.ndarray
    second: np.ndarray
    try:
        first, second = np.asarray(one), np.asarray(other)
    except (TypeError, ValueError):  # a list of unequal lists, say, or of arrays
        if isinstance(one, list | tuple) and isinstance(other, list | tuple):
            return len(one) == len(other) and all(map(alike, one, other))
        return bool(one == other)
    if first.dtype.kind in "biufc" and second.dtype.kind in "biufc":
        return first.shape == second.shape and np.allclose(first, second, rtol=1e-4, atol=1e-4, equal_nan=True)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(alike, one, other))
    return first.shape == second.shape and bool(np.all(first == second))


def comparison(case: tuple, expected: Any, found: Any) -> str:
    """Return the sentence that shows what was expected beside what was found; arrays by their shape or first numbers.

    Of two tables of one shape it shows the first row that differs, with as many decimals as it takes to see it.

    >>> comparison((1, 2), [3.14159], [2.0])
    'for 1, 2 the right answer is [3.142], yours is [2]'
    """
    import numpy as np

    if isinstance(expected, np.ndarray) and expected.shape != np.shape(found):
        return f"the right answer has the shape {expected.shape}, yours {np.shape(found)}"
    given = ", ".join(map(_short, case))
    if isinstance(expected, np.ndarray) and expected.ndim and expected.dtype.kind in "biuf":
        numbers = np.asarray(found)
        if numbers.dtype.kind in "biuf":
            return f"for {given} {_rows(expected, numbers)}"
    return f"for {given} the right answer is {_short(expected)}, yours is {_short(found)}"


def _rows(expected: "np.ndarray", found: "np.ndarray") -> str:
    """Return the sentence on the first row in which two arrays of one shape differ.

    >>> import numpy as np
    >>> _rows(np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[1.0, 2.0], [3.0, 4.0002]]))
    'the right answer is [3, 4] in row 1, yours is [3, 4.0002]'
    >>> _rows(np.arange(12), np.arange(12) * 2 // 2 + (np.arange(12) == 8))
    'the right answer is [… 7, 8, 9, 10 …], yours is [… 7, 9, 9, 10 …]'
    """
    import numpy as np

    same = np.isclose(found, expected, rtol=1e-4, atol=1e-4, equal_nan=True)
    if same.all():
        same = np.asarray(found == expected)
    first = tuple(int(i) for i in np.argwhere(~same)[0]) if not same.all() else (0,) * expected.ndim
    row, at = first[:-1], first[-1]
    width = expected.shape[-1]
    start = 0 if width <= 6 else min(max(at - 1, 0), width - 4)
    stop = width if width <= 6 else start + 4

    def shown(values: np.ndarray, decimals: int) -> str:
        numbers = [f"{float(value):.{decimals}f}" for value in values[row][start:stop]]
        numbers = [re.sub(r"^-(0*)$", r"\1", re.sub(r"\.?0+$", "", n) if "." in n else n) for n in numbers]
        return f"[{'… ' * (start > 0)}{', '.join(numbers)}{' …' * (stop < width)}]"

    for decimals in (3, 4, 6, 9, 12):
        one, other = shown(expected, decimals), shown(found, decimals)
        if one != other:
            break
    where = f" in row {row[0] if len(row) == 1 else list(row)}" if row else ""
    return f"the right answer is {one}{where}, yours is {other}"


def _value(function: Answer, case: tuple) -> Any:
    """Return what `function` gives for a case, or a value that nothing equals if it raises."""
    try:
        return function(*copy.deepcopy(case))
    except Exception:
        return object()


def _short(value: Any) -> str:
    """Return a value in at most 60 characters: floats with three decimals, arrays with their first numbers.

    >>> import numpy as np
    >>> _short(np.int64(3)), _short(np.float64(0.12345))
    ('3', '0.1235')
    """
    import numpy as np

    if isinstance(value, np.ndarray) or hasattr(value, "numpy"):
        array = np.asarray(value)
        text = np.array2string(array.round(3) if array.dtype.kind == "f" else array, separator=", ", threshold=8)
        text = " ".join(text.split())
    elif isinstance(value, float | np.floating):
        text = f"{value:.4g}"
    elif isinstance(value, np.generic):  # not "np.int64(3)"
        text = repr(value.item())
    elif callable(value):
        text = getattr(value, "__name__", repr(value))
    elif isinstance(value, list | tuple):
        text = "[" + ", ".join(map(_short, value)) + "]"
    else:
        text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"


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
        with _limited(SECONDS):
            key = exercise.check(_watched(answer) if callable(answer) else answer)
    except ToDo:
        return Verdict("to do", f"still to do: {exercise.name} returns nothing yet")
    except Endless:
        return Verdict("endless", f"{exercise.name} has computed for {SECONDS} seconds and doesn't end; does its loop?")
    except Exception as error:  # whatever the reader's code does, the reader gets a sentence
        return Verdict("raises", f"{exercise.name} raises {type(error).__name__}: {error}")
    if key is None:
        return Verdict("right", "right")
    return key if isinstance(key, Verdict) else Verdict(key, exercise.hints[key])


class ToDo(Exception):
    """The reader's function returns nothing yet."""


class Endless(BaseException):
    """The reader's function computes on and on. No `except Exception` of its own stops this."""


@contextmanager
def _limited(seconds: float) -> Iterator[None]:
    """Raise `Endless` after so many seconds of computing, where the system can tell: not on Windows or in a thread."""
    if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: object) -> None:
        raise Endless

    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def _watched(function: Answer) -> Answer:
    """Return `function` so that a call raises `ToDo` where the function returns nothing."""

    def call(*args, **kwargs):
        result = function(*args, **kwargs)
        if result is None or result is ...:
            raise ToDo
        return result

    return call
