"""Add a lesson that is short and complete: `llmnotes new-notebook 23_topic`, or `python -m kit.new_notebook 23_topic`.

It copies the lesson in kit/example_lesson under the new name: the notebook, its exercise, and the wrong answers that
the tests try. It enters both modules into their lists, runs the notebook and its solutions, and saves outputs and cost.
The tests pass at once. Replace the example piece by piece, and after each run
`python -m kit.anatomy --run notebooks/23_topic.ipynb`.
"""

import argparse
import re
import subprocess
import sys
from pathlib import Path

import nbformat

from llmnotes.course import notebooks, root, source
from llmnotes.errors import LLMNotesError, UnknownName

EXAMPLE = Path(__file__).parent / "example_lesson"


def add(folder: Path, name: str) -> list[Path]:
    """Write the new lesson `name` into the clone at `folder`, not yet run; return its files, the notebook first.

    Raises `UnknownName` if `name` is not two digits and words, or if its number or its words are taken.
    """
    found = re.fullmatch(r"(\d\d)_([a-z][a-z0-9_]*)", name)
    if found is None:
        raise UnknownName(f"{name[:40]} cannot name a notebook; take two digits and small letters, such as 23_topic.")
    number, topic = found.groups()
    lessons = notebooks(folder)
    notebook = folder / "notebooks" / f"{name}.ipynb"
    exercise = folder / "llmnotes" / "exercises" / f"{topic}.py"
    answers = folder / "tests" / "wrong_answers" / f"{topic}.py"
    taken = [path.name for path in lessons if path.stem[:2] == number]
    taken += [path.name for path in (exercise, answers) if path.exists()]
    if taken:
        raise UnknownName(f"There is a file {taken[0]} already; take another number or other words.")

    before = [path for path in lessons if path.stem[:2] < number]
    after = [path for path in lessons if path.stem[:2] > number]
    links = [f"Previous: {_link(path)}." for path in before[-1:]] + [f"Next: {_link(path)}." for path in after[:1]]
    title = topic.replace("_", " ").capitalize()
    for part, target in (("lesson.ipynb", notebook), ("exercise.py", exercise), ("wrong_answers.py", answers)):
        text = (EXAMPLE / part).read_text(encoding="utf-8")
        text = text.replace("NUMBER", number).replace("TITLE", title).replace("LINKS", " ".join(links))
        target.write_text(text, encoding="utf-8")
    _enter(exercise.with_name("__init__.py"), topic, f'    "{number}": {topic}.EXERCISES,\n', place=len(before))
    _enter(answers.with_name("__init__.py"), topic, f"    **{topic}.WRONG,\n", place=len(before))
    return [notebook, exercise, answers]


def _link(lesson: Path) -> str:
    title = source(nbformat.read(lesson, as_version=4).cells[0]).splitlines()[0].lstrip("# ")
    return f"[{title}]({lesson.name})"


def _enter(file: Path, topic: str, row: str, place: int) -> None:
    """Enter a module into the two lists of `file`: the imports, by name, and the table, as row number `place`."""
    text = file.read_text(encoding="utf-8")
    start, imports, rest = re.split(r"(?<=import \(\n)((?:    \w+,\n)+)", text, maxsplit=1)
    imports = "".join(sorted([*imports.splitlines(keepends=True), f"    {topic},\n"]))
    middle, table, end = re.split(r"(?<= = \{\n)((?:    .+\.(?:EXERCISES|WRONG),\n)+)", rest, maxsplit=1)
    rows = table.splitlines(keepends=True)
    rows.insert(place, row)
    file.write_text(start + imports + middle + "".join(rows) + end, encoding="utf-8")


def main(argv: list[str] | None = None) -> int:
    """Add the lesson, run it, and say what to do next; return 2 if the name cannot be used, 1 if a rule is broken."""
    parser = argparse.ArgumentParser(prog="python -m kit.new_notebook", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("name", metavar="NAME", help="two digits that no notebook has yet, and words: 23_topic")
    name = parser.parse_args(argv).name
    folder = root()
    try:
        files = add(folder, name)
    except LLMNotesError as error:
        print(error, file=sys.stderr)
        return 2
    # In a process of its own, which sees the new module of exercises.
    command = [sys.executable, "-m", "kit.anatomy", "--run", str(files[0])]
    status = subprocess.run(command, cwd=folder, check=False).returncode
    print("Written, with an example to replace:")
    for file in files:
        print(f"  {file.relative_to(folder).as_posix()}")
    print(f"After each change: python -m kit.anatomy --run notebooks/{name}.ipynb; before you commit: make quick")
    return status


if __name__ == "__main__":
    sys.exit(main())
