"""What this reader has solved, and the answers: one small file in the reader's home, which processes share by a lock.

The file is JSON: {"version": 5, "solved": ["00.1", ...], "answers": {"00.1": "def ...", ...}}. An exercise that gets
another number gets a new version of the file and a line in `MOVED`.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from llmnotes.errors import CannotWrite, FileBroken, FileUnreadable, LLMNotesError, UnknownName
from llmnotes.home import home

VERSION = 5
MOVED = {  # version of a file: exercises that have another number in the next
    1: {"09.2": "09.3", "09.3": "09.4"},
    2: {"11.2": "11.3", "11.3": "12.1", "11.4": "12.3", "11.5": "12.2"},
    3: {f"13.{number}": f"14.{number}" for number in (1, 2, 3, 4)},
    4: {"15.3": "16.1", "15.4": "16.2"},
}
Kept = dict[str, str]  # id of a solved exercise: the reader's answer, "" where it has no source


def progress_file() -> Path:
    """Return the one file that keeps what this reader has solved (in LLMNOTES_HOME, by default ~/.llmnotes)."""
    return home() / "progress.json"


def solved() -> list[str]:
    """Return the ids of the solved exercises, sorted; an unreadable file counts as empty."""
    return sorted(kept())


def kept() -> Kept:
    """Return the solved exercises and the reader's answers to them; an unreadable file counts as empty."""
    try:
        return _read(progress_file())
    except (FileBroken, FileUnreadable):
        return {}


def remember(exercise_id: str, answer: str = "") -> None:
    """Add an exercise and its answer to the file. Where the file cannot be written, print how to change that."""
    if kept().get(exercise_id) == answer:
        return
    try:
        with _locked() as known:
            known[exercise_id] = answer or known.get(exercise_id, "")
    except LLMNotesError as error:
        print(f"  (Progress is not kept. {error})")


def export(target: Path) -> int:
    """Write what is solved to the new file `target`; return how many exercises.

    Raises `CannotWrite`, and `FileBroken` or `FileUnreadable` for a file of progress that cannot be read.
    """
    known = _read(progress_file()) if progress_file().exists() else {}
    try:
        with open(target, "x", encoding="utf-8") as file:
            file.write(_text(known))
    except FileExistsError:
        raise CannotWrite(f"{target} exists already; give another name.") from None
    except OSError as error:
        raise CannotWrite(f"{target} cannot be written ({error.strerror}); give another name.") from None
    return len(known)


def bring(source: Path) -> int:
    """Add what `source`, an exported file, holds, and return how many exercises are new; none is lost.

    Where both have an answer, the one that is here stays. Raises `FileUnreadable`, `FileBroken` and `CannotWrite`.
    """
    if not source.is_file():
        raise FileUnreadable(f"There is no file {source}; give one that `llmnotes progress --export` has written.")
    more = _read(source)
    with _locked() as known:
        new = more.keys() - known.keys()
        known.update({name: known.get(name) or answer for name, answer in more.items()})
    return len(new)


def reset(which: str) -> int:
    """Forget the exercise `which`, such as 03.2, or all of a lesson, such as 03, or "all"; return how many were solved.

    Raises `UnknownName` where nothing of it is solved, and `CannotWrite`.
    """
    with _locked() as known:
        gone = [name for name in known if which in ("all", name, name.partition(".")[0])]
        for name in gone:
            del known[name]
    if not gone:
        raise UnknownName(f"Nothing of {which} is solved; give an exercise such as 03.2, a lesson such as 03, or all.")
    return len(gone)


@contextmanager
def _locked() -> Iterator[Kept]:
    """Give what the file holds, and write it back at the end; other processes wait. Raises `CannotWrite`."""
    from filelock import FileLock

    target = progress_file()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(target.with_suffix(".lock"), timeout=20):
            try:
                known = _read(target) if target.exists() else {}
            except FileBroken:  # kept for whoever can still read it
                target.replace(target.with_suffix(".damaged"))
                known = {}
            yield known
            draft = target.with_suffix(f".{os.getpid()}.tmp")
            draft.write_text(_text(known), encoding="utf-8")
            draft.replace(target)
    except (OSError, NotImplementedError) as error:  # a file system without locks is the second
        why = getattr(error, "strerror", None) or str(error)
        raise CannotWrite(
            f"{target} cannot be written ({why}); set LLMNOTES_HOME to a folder that can be written to."
        ) from None


def _text(known: Kept) -> str:
    answers = {name: answer for name, answer in sorted(known.items()) if answer}
    return json.dumps({"version": VERSION, "solved": sorted(known), "answers": answers}, indent=1) + "\n"


def _read(file: Path) -> Kept:
    """Return what a file holds, under the numbers that exercises have today."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        version, answers = found.get("version", 1), found.get("answers", {})
        known = {str(name): str(answers.get(name, "")) for name in found["solved"]}
    except OSError as error:
        raise FileUnreadable(f"{file} cannot be read ({error.strerror}); check the path.") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise FileBroken(
            f"{file} does not hold progress; give a file that `llmnotes progress --export` has written."
        ) from None
    if not isinstance(version, int) or version > VERSION:
        raise FileUnreadable(f"{file} comes from a newer llmnotes; bring this one up to date first.")
    for one in range(version, VERSION):
        known = {MOVED.get(one, {}).get(name, name): answer for name, answer in known.items()}
    return known
