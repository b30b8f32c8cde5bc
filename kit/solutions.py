"""The notebook of solutions of a lesson, generated from its exercises."""

from pathlib import Path

import nbformat

from kit.cells import METADATA, exercise_code, exercise_text, exercises_of, setup_code
from kit.links import sections_of
from llmnotes.course import root, source


def path_of(lesson: Path) -> Path:
    """Return where the solutions of the notebook at `lesson` are."""
    return lesson.parent / "solutions" / lesson.name


def solutions(name: str, heading: str) -> nbformat.NotebookNode:
    """Return the notebook of solutions for notebook `name`, whose first cell is `heading`; it is not yet executed."""
    new, sections = nbformat.v4, sections_of(root() / "notebooks")
    cells = [
        new.new_markdown_cell(
            f"{heading.splitlines()[0]}: solutions\n\nOne right answer to each exercise of "
            f"[{name}](../{name}.ipynb); others are right, too."
        ),
        new.new_code_cell(""),
        new.new_code_cell("from llmnotes.exercises import " + ", ".join(_calls(name[:2]))),
    ]
    for exercise in exercises_of(name[:2]):
        cells += [
            new.new_markdown_cell(exercise_text(exercise, name, sections, folder="../")),
            new.new_code_cell(exercise_code(exercise, exercise.complete)),
        ]
    cells[1].source = setup_code(cells)
    for index, cell in enumerate(cells):
        cell.id = f"solution-{index}"
    return new.new_notebook(cells=cells, metadata=METADATA)


def _calls(number: str) -> list[str]:
    """Return the names of the functions that hand in an answer in this notebook's exercises."""
    return sorted({"take" if exercise.kept else "check" for exercise in exercises_of(number)}) or ["check"]


def renew(lesson: Path, heading: str) -> None:
    """Write the solutions of `lesson`; where the saved ones have the same code, their outputs stay."""
    target, fresh = path_of(lesson), solutions(lesson.stem, heading)
    if target.is_file():
        saved = nbformat.read(target, as_version=4)
        if list(map(source, saved.cells)) == list(map(source, fresh.cells)):
            return
        done, asked = ([cell for cell in notebook.cells if cell.cell_type == "code"] for notebook in (saved, fresh))
        if list(map(source, done))[1:] == list(map(source, asked))[1:]:  # the first sets up, and shows nothing
            for old, new in zip(done, asked, strict=True):
                new.outputs, new.execution_count = old.outputs, old.execution_count
    target.parent.mkdir(exist_ok=True)
    nbformat.write(fresh, target)
