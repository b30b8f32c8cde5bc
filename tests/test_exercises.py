"""The checks are checked: references pass, stubs are still to do, each wrong answer gets its own hint."""

import json
import signal
import sys

import numpy as np
import pytest
import torch

from llmnotes.cli.main import main
from llmnotes.errors import CannotWrite, FileBroken, FileUnreadable, UnknownName
from llmnotes.exercises import BY_NOTEBOOK, check, find, reveal
from llmnotes.exercises.exercise import assess
from llmnotes.exercises.progress import MOVED, VERSION, bring, export, kept, progress_file, remember, reset, solved

from .processes import SECONDS, started
from .wrong_answers import WRONG

ALL = [exercise for exercises in BY_NOTEBOOK.values() for exercise in exercises]
AT_LEAST = {number: 3 for number in ("03", "11", "12", "13", "14", "15", "17", "19", "22", "23", "25", "26")}


def bind(exercise, source):
    """Run `source` with nothing but what is given, and return what it binds to the exercise's name."""
    scope = {}
    exec(compile(exercise.given, exercise.id, "exec"), scope)
    exec(compile(source, exercise.id, "exec"), scope)
    return scope[exercise.name]


@pytest.mark.parametrize("exercise", ALL, ids=lambda exercise: exercise.id)
def test_the_reference_passes_and_the_stub_is_to_do(exercise):
    assert assess(exercise, bind(exercise, exercise.solution)).state == "right"
    assert assess(exercise, bind(exercise, exercise.stub)).state == "to do"


def wreck(value):
    """Empty what an answer was given: lists, dicts, arrays and tensors, in place."""
    if isinstance(value, np.ndarray) and value.flags.writeable:
        value[...] = 0
    elif isinstance(value, torch.Tensor) and not value.requires_grad:
        value.zero_()
    elif isinstance(value, list | dict):
        for part in value.values() if isinstance(value, dict) else value:
            wreck(part)
        value.clear()


def wrecking(right):
    """Return an answer that does what `right` does, and destroys its arguments."""
    if isinstance(right, type):

        def call(self, *given):
            found = right.__call__(self, *given)
            wreck(list(given))
            return found

        return type(right.__name__, (right,), {"__call__": call}) if "__call__" in vars(right) else right

    def answer(*given, **named):
        found = right(*given, **named)
        wreck(list(given))
        return found

    return answer


@pytest.mark.parametrize("exercise", ALL, ids=lambda exercise: exercise.id)
def test_no_answer_spoils_the_check_for_the_next_one(exercise):
    right = bind(exercise, exercise.solution)
    if callable(right):
        assess(exercise, wrecking(right))
    assert assess(exercise, right).state == "right"


@pytest.mark.parametrize("exercise, key", [(e, k) for e in ALL for k in WRONG[e.id]], ids=lambda x: getattr(x, "id", x))
def test_each_wrong_answer_gets_its_own_hint(exercise, key):
    verdict = assess(exercise, bind(exercise, WRONG[exercise.id][key]))
    assert verdict.state == key, verdict
    assert verdict.message == exercise.hints[key]


@pytest.mark.parametrize("exercise", ALL, ids=lambda exercise: exercise.id)
def test_every_hint_has_a_wrong_answer_and_speaks_for_itself(exercise):
    assert set(exercise.hints) == set(WRONG[exercise.id]) and len(exercise.hints) >= 1
    assert len(set(exercise.hints.values())) == len(exercise.hints)
    assert exercise.level in ("easy", "medium", "hard") and exercise.minutes > 0
    assert exercise.name in exercise.stub and exercise.task and exercise.clue


def test_every_wrong_answer_belongs_to_an_exercise():
    assert list(WRONG) == [exercise.id for exercise in ALL]


@pytest.mark.parametrize("number", BY_NOTEBOOK)
def test_every_notebook_has_its_exercises_in_order(number):
    ids = [exercise.id for exercise in BY_NOTEBOOK[number]]
    assert ids == [f"{number}.{i}" for i in range(1, len(ids) + 1)]
    assert len(ids) >= AT_LEAST.get(number, 1)


def test_an_answer_that_raises_gets_a_sentence_and_a_solved_one_is_kept(capsys):
    exercise = find("00.1")

    def divides_by_zero(size, parameters):
        return size / 0

    assert assess(exercise, divides_by_zero).message == "bits_per_weight raises ZeroDivisionError: division by zero"
    assert assess(exercise, ...).state == "to do" and solved() == []
    check("00.1", bind(exercise, WRONG["00.1"]["bytes"]))
    assert solved() == []
    check("00.1", bind(exercise, exercise.solution))
    check("00.1", bind(exercise, exercise.solution))
    assert solved() == ["00.1"]
    assert json.loads(progress_file().read_text("utf-8")) == {"version": VERSION, "solved": ["00.1"], "answers": {}}
    out = capsys.readouterr().out.splitlines()
    assert out[0].startswith("✗ 00.1 Bits per weight: this counts bytes") and out[1] == "✓ 00.1 Bits per weight: right"


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="Windows has no timer of this kind")
def test_a_loop_that_does_not_end_gets_a_sentence(monkeypatch):
    def loops(size, parameters):
        while True:
            try:
                size += 1
            except Exception:
                pass

    monkeypatch.setattr("llmnotes.exercises.exercise.SECONDS", 0.2)
    verdict = assess(find("00.1"), loops)
    assert verdict.state == "endless" and "does its loop?" in verdict.message
    assert assess(find("00.1"), bind(find("00.1"), find("00.1").solution)).state == "right"


def test_a_damaged_or_unwritable_progress_file_loses_nothing_else(monkeypatch, tmp_path, capsys):
    progress_file().parent.mkdir(parents=True)
    progress_file().write_text("{", encoding="utf-8")
    assert solved() == []
    check("00.1", bind(find("00.1"), find("00.1").solution))
    assert solved() == ["00.1"]
    (tmp_path / "file").write_text("", encoding="utf-8")
    monkeypatch.setenv("LLMNOTES_HOME", str(tmp_path / "file"))
    check("00.1", bind(find("00.1"), find("00.1").solution))
    assert "set LLMNOTES_HOME" in capsys.readouterr().out


SOLVES = """
import sys
from llmnotes.exercises.progress import remember
for number in range(20):
    remember(f"{sys.argv[1]}.{number}", f"answer {number}")
"""


def test_two_processes_that_solve_40_keep_40():
    first, second = ([sys.executable, "-c", SOLVES, name] for name in ("50", "51"))
    with started(first) as one, started(second) as other:
        assert one.wait(SECONDS) == other.wait(SECONDS) == 0
    assert len(solved()) == 40 and kept()["51.7"] == "answer 7"
    assert not list(progress_file().parent.glob("*.tmp"))


def test_progress_travels_and_is_reset(tmp_path, monkeypatch, capsys):
    def bits_per_weight(size, parameters):
        return 8 * size / parameters

    check("00.1", bits_per_weight)
    remember("03.1")
    remember("03.2", "old")
    here = tmp_path / "mine.json"
    capsys.readouterr()
    assert main(["progress", "--export", str(here)]) == 0 and "3 solved" in capsys.readouterr().out
    assert main(["progress", "--export", str(here)]) == 2 and "exists already" in capsys.readouterr().err
    with pytest.raises(CannotWrite, match="cannot be written"):
        export(tmp_path / "no" / "mine.json")
    assert "return 8 * size / parameters" in json.loads(here.read_text("utf-8"))["answers"]["00.1"]
    assert main(["progress", "--reset", "03.2"]) == 0 and solved() == ["00.1", "03.1"]
    assert main(["progress", "--reset", "03.2"]) == 2 and "such as 03.2" in capsys.readouterr().err
    assert reset("03") == 1 and solved() == ["00.1"] and reset("all") == 1 and solved() == []
    remember("03.2", "new")
    assert main(["progress", "--import", str(here)]) == 0 and "2 exercises are new" in capsys.readouterr().out
    assert solved() == ["00.1", "03.1", "03.2"] and kept()["03.2"] == "new"
    for text in ("{", "[]", '{"solved": 3}', '{"solved": ["00.1"], "answers": 1}', '{"version": 99, "solved": []}'):
        here.write_text(text, encoding="utf-8")
        with pytest.raises((FileBroken, FileUnreadable), match="does not hold progress|newer llmnotes"):
            bring(here)
    with pytest.raises(FileUnreadable, match="There is no file"):
        bring(tmp_path)
    monkeypatch.setattr("llmnotes.exercises.progress.Path.is_file", lambda path: True)
    with pytest.raises(FileUnreadable, match="cannot be read"):
        bring(tmp_path)


def test_exercises_that_moved_stay_solved():
    progress_file().parent.mkdir(parents=True)
    progress_file().write_text('{"solved": ["00.1", "09.2"]}', encoding="utf-8")
    assert solved() == ["00.1", "09.3"]
    remember("09.2")
    assert solved() == ["00.1", "09.2", "09.3"] and json.loads(progress_file().read_text("utf-8"))["version"] == VERSION
    ids = {exercise.id for exercise in ALL}
    assert set(MOVED) == set(range(1, VERSION)) and all(ids >= set(moved.values()) for moved in MOVED.values())


def test_a_damaged_file_and_one_from_the_future_are_not_replaced(capsys):
    progress_file().parent.mkdir(parents=True)
    progress_file().write_text('{"solved": ["00.', encoding="utf-8")
    with pytest.raises(FileBroken, match="does not hold progress"):
        export(progress_file().with_name("out.json"))
    remember("00.1")
    assert solved() == ["00.1"] and progress_file().with_suffix(".damaged").read_text("utf-8") == '{"solved": ["00.'
    progress_file().write_text('{"version": 99}', encoding="utf-8")
    remember("00.1")
    progress_file().write_text('{"version": 99, "solved": []}', encoding="utf-8")
    remember("00.1")
    assert "newer llmnotes" in capsys.readouterr().out and "99" in progress_file().read_text("utf-8")


def test_unknown_ids_are_named():
    with pytest.raises(UnknownName, match="00.1"):
        check("00.9", 1)
    with pytest.raises(UnknownName, match="“77”"):
        check("77.1", 1)


def test_reveal_shows_guess_and_truth(capsys):
    reveal(None, "b")
    reveal("a", "b")
    reveal("b", "b")
    assert capsys.readouterr().out == "No guess yet. It is b.\nYou guessed a. It is b.\nYour guess is right: b.\n"
