"""The rules that every lesson keeps, and the command that renews what is generated in it.

    python -m kit.anatomy                           # all notebooks, their solutions, and the README
    python -m kit.anatomy notebooks/23_topic.ipynb  # one notebook and its solutions
    python -m kit.anatomy --run notebooks/23_...    # also run both, save their outputs, and measure the cost

Each rule takes a notebook and its name and returns what is wrong, one sentence each.
"""

import argparse
import ast
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from kit import readme, solutions
from kit.cells import exercises_of, fill
from kit.names import not_twice
from llmnotes.course import TITLES, notebooks, root, source, tags
from llmnotes.course.run import execute, save, save_costs

FIRST_CELLS = ["title", "box", "setup", "imports"]  # tags
LAST_PARTS = ["You may have read", "For real", "On a bigger model", "Exercises", "Recap"]  # in this order, if there
WIDTH = 88  # letters of a code line, which a page of 1,100 pixels shows whole
OLDER = {"17", "19", "22", "23", "25", "26"}  # lessons older than the rules that name them
MACHINE_PATH = r"(/root|/home|/Users|/tmp|/work|[A-Z]:\\\\Users)[/\\]"


def lint(notebook: NotebookNode, name: str) -> list[str]:
    """Return every rule that `notebook` breaks, one sentence each; an empty list is what we want."""
    return [fault for rule in RULES for fault in rule(notebook, name)]


def frame(notebook: NotebookNode, name: str) -> Iterator[str]:
    """A lesson begins with four tagged cells, and its first line is its title."""
    order = [tag for cell in notebook.cells[:4] for tag in tags(cell)]
    if order != FIRST_CELLS:
        yield f"starts with {order} in place of {', '.join(FIRST_CELLS)}"
    if not re.match(rf"# {name[:2]} · .+\n\n.+", source(notebook.cells[0])):
        yield "has no title “# NN · Title” with a sentence under it"
    elif (title := source(notebook.cells[0]).splitlines()[0][7:]) != TITLES.get(name):
        yield f"is called “{title}”, and “{TITLES.get(name)}” in PARTS of llmnotes/course/__init__.py"
    if not notebook.metadata.get("level"):
        yield "has no level in its metadata, such as beginner, intermediate or advanced"


def headings(notebook: NotebookNode, name: str) -> Iterator[str]:
    """Sections are numbered, the parts that end a lesson come in their order, and the last is a recap."""
    text = _prose(notebook)
    found = re.findall(r"(?m)^#{2,3} (.+)$", text)
    places = [i for part in LAST_PARTS for i, one in enumerate(found) if one.startswith(part)]
    if not any(one.startswith("Recap") for one in found):
        yield "has no part “Recap”"
    if places != sorted(places):
        yield "has its last parts out of order: " + ", ".join(found)
    if "Further reading" not in text:
        yield "has no further reading"
    numbers = re.findall(rf"(?m)^## {name[:2]}\.(\d+) ", text)
    if numbers != [str(i + 1) for i in range(len(numbers))] or not numbers:
        yield f"has its sections numbered {', '.join(numbers)}"


def generated(notebook: NotebookNode, name: str) -> Iterator[str]:
    """Generated cells are up to date, and every exercise of the lesson is in it."""
    fresh = nbformat.reads(nbformat.writes(notebook), as_version=4)
    fill(fresh, name)
    if len(notebook.cells) != len(fresh.cells):
        yield "has no last cell with links to other lessons: run python -m kit.anatomy"
    for old, new in zip(notebook.cells, fresh.cells, strict=False):
        if source(old) != source(new) or old.metadata != new.metadata:
            yield f"has an outdated generated cell {sorted(tags(old))}: run python -m kit.anatomy"
    tagged = {tag for cell in notebook.cells for tag in tags(cell)}
    for exercise in exercises_of(name[:2]):
        if not {f"exercise-{exercise.id}", f"exercise-text-{exercise.id}"} <= tagged:
            yield f"does not hold exercise {exercise.id}"


def folds(notebook: NotebookNode, name: str) -> Iterator[str]:
    """What is folded away is one block of HTML, and so is the answer to every prediction."""
    if name[:2] in OLDER:
        return
    for cell in notebook.cells:
        if cell.cell_type == "code" or any(tag.startswith("exercise") for tag in tags(cell)):
            continue
        text = source(cell)
        for fold in re.findall(r"(?s)<details\b.*?(?:</details>|\Z)", text):
            if re.search(r"\n[>\s]*\n", fold) or not fold.endswith("</details>"):
                yield f"has a fold that is not one block of HTML without empty lines: {fold[:60]}"
        for block in re.findall(r"(?m)(?:^>.*\n?)+|^#+ Predict", text):
            if "Predict" in block and "<details>" not in block:
                yield f"has a prediction whose answer is not folded in its quote: {block[:60].strip()}"


def repeatable(notebook: NotebookNode, name: str) -> Iterator[str]:
    """Every cell can run again after the end of the lesson."""
    if name[:2] not in OLDER:
        yield from not_twice(notebook)


def size(notebook: NotebookNode, name: str) -> Iterator[str]:
    """The cells of a lesson fit on a screen, also in width, and the whole is small enough to load."""
    free = [cell for cell in _code(notebook) if not any(tag.startswith("exercise") for tag in tags(cell))]
    free = [cell for cell in free if "setup" not in tags(cell)]
    most = max(sum(bool(line.strip()) for line in source(cell).splitlines()) for cell in free)
    if most > 15:
        yield f"has a code cell of {most} lines, more than 15"
    widest = max(len(line) for cell in free for line in source(cell).splitlines())
    if name[:2] not in OLDER and widest > WIDTH:
        yield f"has a code line of {widest} letters, more than {WIDTH}"
    if len(nbformat.writes(notebook).encode()) > 1_200_000:
        yield "is larger than 1.2 MB"


def wording(notebook: NotebookNode, name: str) -> Iterator[str]:
    """The prose has no words that make a reader feel slow."""
    text = _prose(notebook)
    for word in re.findall(r"(?i)\b(simply|obviously)\b", text)[:1]:
        yield f"says “{word}”"


def truth(notebook: NotebookNode, name: str) -> Iterator[str]:
    """A lesson claims something, and hardly any of its outputs go unchecked."""
    code = _code(notebook)
    if not any("claim(" in source(cell) for cell in code):
        yield "makes no claim"
    ignored = [cell for cell in code if re.search("NBVAL_(IGNORE|SKIP)", source(cell))]
    ignored += [cell for cell in code if {"nbval-ignore-output", "nbval-skip"} & tags(cell) and cell not in ignored]
    if len(ignored) > 2:
        yield f"has {len(ignored)} cells that nbval ignores, more than 2"


def outputs(notebook: NotebookNode, name: str) -> Iterator[str]:
    """Every code cell is Python, was executed, and shows nothing of the machine that it ran on."""
    for count, cell in enumerate(_code(notebook), 1):
        for fault in _faults(cell):
            yield f"code cell {count} {fault}"
    if "widgets" in notebook.metadata:
        yield "has saved widget state"


RULES: tuple[Callable[[NotebookNode, str], Iterator[str]], ...] = (
    frame,
    headings,
    generated,
    folds,
    repeatable,
    size,
    outputs,
    truth,
    wording,
)


def _faults(cell: NotebookNode) -> Iterator[str]:
    """Yield what is wrong with one executed code cell."""
    shown = cell.get("outputs", [])
    if source(cell).strip() and cell.execution_count is None:
        yield "has no execution count"
    if any(output.output_type == "error" for output in shown):
        yield "holds an error"
    if any(output.get("name") == "stderr" for output in shown):
        yield "writes to stderr"
    if re.search(r" at 0x[0-9a-f]{6,}", nbformat.writes(nbformat.v4.new_notebook(cells=[cell]))):
        yield "shows the address of an object, which is another one in every run"
    if re.search(MACHINE_PATH, nbformat.writes(nbformat.v4.new_notebook(cells=[cell]))):
        yield "holds a path of one machine"
    if re.search(r"(?m)^\s*!", source(cell)):
        yield "runs a shell command"
    pictures = [output for output in shown if "image/png" in output.get("data", {})]
    if any(not output.metadata.get("image/png", {}).get("alt") for output in pictures):
        yield "shows a picture without alt text: use llmnotes.plots.show"
    try:
        ast.parse(re.sub(r"(?m)^(\s*)%.*$", r"\1pass", source(cell)))  # a line with a % is for IPython
    except SyntaxError as error:
        yield f"is not Python: {error}"


def _code(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def _prose(notebook: NotebookNode) -> str:
    return "\n\n".join(source(cell) for cell in notebook.cells if cell.cell_type == "markdown")


def renew(path: Path, run: bool = False) -> list[str]:
    """Renew the generated cells of the lesson at `path` and its solutions; return what breaks a rule.

    With `run`, both are executed, their outputs saved and the cost of the lesson kept.
    """
    _fill_file(path)
    if run:
        result = execute(path)
        if not result.ok:
            return [f"fails in {result.error}"]
        save(result, path)
        save_costs([result])
        _fill_file(path)  # its box states the cost
    notebook = nbformat.read(path, as_version=4)
    solutions.renew(path, source(notebook.cells[0]))
    faults = lint(notebook, path.stem)
    if run:
        solved = execute(solutions.path_of(path))
        save(solved, solutions.path_of(path))
        faults += [f"has solutions that fail in {solved.error}"] * (not solved.ok)
    return faults


def _fill_file(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    fill(notebook, path.stem)
    nbformat.write(notebook, path)


def main(argv: list[str] | None = None) -> int:
    """Renew what is generated, and print what breaks a rule; return 1 if something does."""
    parser = argparse.ArgumentParser(prog="python -m kit.anatomy", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("notebook", nargs="*", type=Path, help="a notebook's file; without names, all and the README")
    parser.add_argument("--run", action="store_true", help="run them, save their outputs, and measure the cost")
    arguments = parser.parse_args(argv)
    paths = [path.resolve() for path in arguments.notebook] or notebooks(root())
    broken = 0
    with tempfile.TemporaryDirectory() as home:
        os.environ["LLMNOTES_HOME"] = home  # running the solutions is no progress of the reader
        for path in paths:
            for fault in renew(path, arguments.run):
                broken += 1
                print(f"{path.stem} {fault}")
    if arguments.run:
        _fill_file(notebooks(root())[0])  # notebook 00 lists all costs
    if arguments.run or not arguments.notebook:  # last, since its minutes are those of the notebooks as they are now
        readme.renew(root())
    return int(broken > 0)


if __name__ == "__main__":
    sys.exit(main())
