"""Add a lesson that is short and complete: `llmnotes new-notebook 24_topic`, or `python -m kit.new_notebook 24_topic`.

It copies the lesson in kit/example_lesson under the new name: the notebook, its exercise, and the wrong answers that
the tests try. It enters all three into their lists, runs the notebook and its solutions, and saves outputs and cost.
The tests pass at once. Replace the example piece by piece, and after each run
`python -m kit.anatomy --run notebooks/24_topic.ipynb`.
"""

import argparse
import re
import subprocess
import sys
from pathlib import Path

from llmnotes.course import notebooks, root
from llmnotes.errors import LLMNotesError, UnknownName

EXAMPLE = Path(__file__).parent / "example_lesson"


def add(folder: Path, name: str) -> list[Path]:
    """Write the new lesson `name` into the clone at `folder`, not yet run; return its files, the notebook first.

    Raises `UnknownName` if `name` is not two digits and words, or if its number or its words are taken.
    """
    found = re.fullmatch(r"(\d\d)_([a-z][a-z0-9_]*)", name)
    if found is None:
        raise UnknownName(f"{name[:40]} cannot name a notebook; take two digits and small letters, such as 24_topic.")
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
    title = topic.replace("_", " ").capitalize()
    for part, target in (("lesson.ipynb", notebook), ("exercise.py", exercise), ("wrong_answers.py", answers)):
        text = (EXAMPLE / part).read_text(encoding="utf-8")
        text = text.replace("NUMBER", number).replace("TITLE", title)
        target.write_text(text, encoding="utf-8")
    _enter(exercise.with_name("__init__.py"), topic, f'    "{number}": {topic}.EXERCISES,\n', place=len(before))
    _enter(answers.with_name("__init__.py"), topic, f"    **{topic}.WRONG,\n", place=len(before))
    _enter_lesson(folder / "llmnotes" / "course" / "__init__.py", name, title)
    return [notebook, exercise, answers]


def _enter_lesson(file: Path, name: str, title: str) -> None:
    """Enter the lesson into PARTS in `file`, behind the one whose number comes before."""
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
    rows = [place for place, line in enumerate(lines) if re.match(r' {12}"\d\d_\w+": ', line)]
    place = max(place for place in rows if lines[place].strip(' "') < name)
    lines.insert(place + 1, f'            "{name}": "{title}",\n')
    file.write_text("".join(lines), encoding="utf-8")


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
    parser.add_argument("name", metavar="NAME", help="two digits that no notebook has yet, and words: 24_topic")
    name = parser.parse_args(argv).name
    folder = root()
    try:
        files = add(folder, name)
    except LLMNotesError as error:
        print(error, file=sys.stderr)
        return 2
    # In processes of their own, which see the new module of exercises. The second links the others to the new lesson.
    anatomy = [sys.executable, "-m", "kit.anatomy"]
    status = subprocess.run([*anatomy, "--run", str(files[0])], cwd=folder, check=False).returncode
    status = status or subprocess.run(anatomy, cwd=folder, check=False).returncode
    print("Written, with an example to replace:")
    for file in files:
        print(f"  {file.relative_to(folder).as_posix()}")
    print(f"After each change: python -m kit.anatomy --run notebooks/{name}.ipynb; before you commit: make quick")
    return status


if __name__ == "__main__":
    sys.exit(main())
