"""The fixed order of a notebook: the cells that are generated, and the rules that every notebook keeps.

`python -m kit.anatomy` fills the generated cells of every notebook in place, and the README's table, and
prints what breaks a rule; with names of notebooks, it does so for these alone.
"""

import ast
import base64
import importlib.metadata
import re
import statistics
import sys
from pathlib import Path

import nbformat

from llmnotes.course import costs, notebooks, root, source, tags
from llmnotes.exercises import BY_NOTEBOOK
from llmnotes.exercises.exercise import Exercise

LEVELS = {  # of each notebook
    "00": "first steps",
    "01": "beginner",
    "02": "beginner",
    "03": "intermediate",
    "04": "intermediate",
    "05": "advanced",
    "06": "intermediate",
    "07": "intermediate",
    "08": "advanced",
    "09": "intermediate",
    "10": "advanced",
    "11": "advanced",
}
DIAMONDS = {"easy": "◆◇◇", "medium": "◆◆◇", "hard": "◆◆◆"}
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
README_TABLE = re.compile(r"(?s)(<!-- notebooks -->\n).*(<!-- end of notebooks -->)")
SETUP = """\
# Brings llmnotes to Colab and Kaggle; where it is there already, this does nothing.
import importlib.util

if importlib.util.find_spec("llmnotes") is None:
    %pip install --quiet "llmnotes[course] @ git+{repository}"
"""


def repository() -> str:
    """Return the address of the repository, as pyproject.toml states it."""
    urls = importlib.metadata.metadata("llmnotes").get_all("Project-URL")
    return next(url.partition(", ")[2] for url in urls if url.startswith("Repository"))


def launch_links(name: str) -> str:
    """Return the line of links that open notebook `name` on Colab and on Kaggle."""
    page = repository().removeprefix("https://github.com/") + f"/blob/main/notebooks/{name}.ipynb"
    return (
        f"[![Open in Colab](attachment:colab.png)](https://colab.research.google.com/github/{page}) "
        f"[![Open in Kaggle](attachment:kaggle.png)](https://kaggle.com/kernels/welcome?src=https://github.com/{page})"
    )


def minutes(notebook, number: str) -> tuple[int, int]:
    """Return the minutes to read (200 words and 3 code cells a minute), and those for the exercises."""
    prose = [cell for cell in notebook.cells if cell.cell_type == "markdown" and "box" not in tags(cell)]
    words = sum(len(source(cell).split()) for cell in prose)
    cells = sum(cell.cell_type == "code" for cell in notebook.cells)
    exercises = sum(exercise.minutes for exercise in BY_NOTEBOOK.get(number, []))
    return round(words / 200 + cells / 3), exercises


def time_line(notebook, number: str) -> str:
    """Return the line of the box that says how long the notebook takes."""
    reading, exercises = minutes(notebook, number)
    return f"**Time**: {reading} minutes to read and run, {exercises} minutes for the exercises"


def cost_line(name: str) -> str:
    """Return the line of the box that says what the notebook was measured to cost."""
    cost = costs().get(name)
    if cost is None:
        return "**Cost**: not yet measured"
    return f"**Cost**: {cost['seconds']} seconds and {cost['peak_mb']} MB of memory on two cores, no GPU, no network"


def cost_table() -> str:
    """Return the table of all notebooks and what they cost, for notebook 00."""
    lines = ["| notebook | seconds | memory |", "| --- | ---: | ---: |"]
    lines += [
        f"| [{name}]({name}.ipynb) | {cost['seconds']} s | {cost['peak_mb']} MB |" for name, cost in costs().items()
    ]
    return "\n".join(lines)


def readme_table(folder: Path) -> str:
    """Return the README's table of notebooks: title, level, time, cost, and where to open them."""
    lines = ["| notebook | level | minutes | seconds | open |", "| --- | --- | ---: | ---: | --- |"]
    for path in notebooks(folder):
        notebook = nbformat.read(path, as_version=4)
        title = source(notebook.cells[0]).splitlines()[0].lstrip("# ")
        seconds = costs().get(path.stem, {}).get("seconds", "–")
        links = launch_links(path.stem).replace("attachment:", "images/")
        total = sum(minutes(notebook, path.stem[:2]))
        lines.append(f"| [{title}](notebooks/{path.name}) | {LEVELS[path.stem[:2]]} | {total} | {seconds} | {links} |")
    return "\n".join(lines)


def exercise_text(exercise: Exercise) -> str:
    """Return the markdown of an exercise: what to do, how hard it is, and a folded clue."""
    return (
        f"### Exercise {exercise.id} · {exercise.title}\n\n{DIAMONDS[exercise.level]} {exercise.level}, spend up to "
        f"{exercise.minutes} minutes.\n\n{exercise.task.strip()}\n\n"
        f"<details><summary>A clue</summary>\n\n{exercise.clue.strip()}\n\n</details>"
    )


def exercise_code(exercise: Exercise, answer: str) -> str:
    """Return the code cell of an exercise: `answer` (the stub or the solution) and its check."""
    return f'{answer.strip()}\n\n\ncheck("{exercise.id}", {exercise.name})'


def fill(notebook, name: str) -> None:
    """Write every generated cell of `notebook` in place, and its metadata; what is not generated stays as it is."""
    notebook.metadata.update(METADATA)
    notebook.metadata.pop("jupytext", None)
    number = name[:2]
    exercises = {exercise.id: exercise for exercise in BY_NOTEBOOK.get(number, [])}
    for cell in notebook.cells:
        for tag in tags(cell):
            exercise = exercises.get(tag.rpartition("-")[2])
            if tag == "setup":
                cell.source = SETUP.format(repository=repository()).strip()
            elif tag == "title":
                cell.source = cell.source.partition("\n\n[![")[0].strip() + "\n\n" + launch_links(name)
                cell.attachments = {f"{host}.png": {"image/png": _badge(host)} for host in ("colab", "kaggle")}
            elif tag == "costs":
                cell.source = cost_table()
            elif tag.startswith("exercise-text-") and exercise:
                cell.source = exercise_text(exercise)
            elif tag.startswith("exercise-") and exercise:
                cell.source = exercise_code(exercise, exercise.stub)
    for cell in notebook.cells:
        if "box" in tags(cell):  # last, since it counts the words of all the others
            cell.source = re.sub(r"(?m)^\*\*Time\*\*:.*$", time_line(notebook, number), cell.source)
            cell.source = re.sub(r"(?m)^\*\*Cost\*\*:.*$", cost_line(name), cell.source)


def solutions(name: str, heading: str):
    """Return the notebook of solutions for notebook `name`, whose first cell is `heading`; it is not yet executed."""
    new = nbformat.v4
    cells = [
        new.new_markdown_cell(
            f"{heading.splitlines()[0]}: solutions\n\nOne right answer to each exercise of "
            f"[{name}](../{name}.ipynb); others are right, too."
        ),
        new.new_code_cell(SETUP.format(repository=repository()).strip()),
        new.new_code_cell("from llmnotes.exercises import check"),
    ]
    for exercise in BY_NOTEBOOK[name[:2]]:
        cells += [
            new.new_markdown_cell(exercise_text(exercise)),
            new.new_code_cell(exercise_code(exercise, exercise.solution)),
        ]
    for index, cell in enumerate(cells):
        cell.id = f"solution-{index}"
    return new.new_notebook(cells=cells, metadata=METADATA)


def lint(notebook, name: str) -> list[str]:
    """Return every rule that `notebook` breaks, one sentence each; an empty list is what we want."""
    wrong = []
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    prose = [cell for cell in notebook.cells if cell.cell_type == "markdown"]
    text = "\n\n".join(map(source, prose))
    order = [tag for cell in notebook.cells[:4] for tag in tags(cell)]
    if order != ["title", "box", "setup", "imports"]:
        wrong.append(f"starts with {order} in place of title, box, setup, imports")
    if not re.match(rf"# {name[:2]} · .+\n\n.+", source(notebook.cells[0])):
        wrong.append("has no title “# NN · Title” with a sentence under it")
    headings = re.findall(r"(?m)^#{2,3} (.+)$", text)
    marks = ["Predict", "You may have read", "On a bigger model", "Exercises", "Recap", "Pitfalls", "Further reading"]
    places = [next((i for i, heading in enumerate(headings) if heading.startswith(mark)), None) for mark in marks]
    for mark, place in zip(marks, places, strict=True):
        if place is None and not (name.startswith("00") and mark in marks[:3]):
            wrong.append(f"has no part “{mark}”")
    found = [place for place in places[1:] if place is not None]
    if found != sorted(found):
        wrong.append("has its last parts out of order: " + ", ".join(headings))
    numbers = re.findall(rf"(?m)^## {name[:2]}\.(\d+) ", text)
    if numbers != [str(i + 1) for i in range(len(numbers))] or not numbers:
        wrong.append(f"has its sections numbered {', '.join(numbers)}")
    copy = nbformat.from_dict(notebook)
    fill(copy, name)
    wrong += [
        f"has an outdated generated cell {sorted(tags(old))}: run python -m kit.anatomy"
        for old, new in zip(notebook.cells, copy.cells, strict=True)
        if source(old) != source(new)
    ]
    tagged = {tag for cell in notebook.cells for tag in tags(cell)}
    wrong += [
        f"does not hold exercise {exercise.id}"
        for exercise in BY_NOTEBOOK.get(name[:2], [])
        if not {f"exercise-{exercise.id}", f"exercise-text-{exercise.id}"} <= tagged
    ]
    lengths = [len([line for line in source(cell).splitlines() if line.strip()]) for cell in code]
    free = [n for n, cell in zip(lengths, code, strict=True) if not any(t.startswith("exercise") for t in tags(cell))]
    if not name.startswith("00") and not 20 <= len(code) <= 45:
        wrong.append(f"has {len(code)} code cells, not 20 to 45")
    if statistics.median(free) > 8 or max(free) > 15:
        wrong.append(f"has code cells of median {statistics.median(free)} and at most {max(free)} lines, not 8 and 15")
    for count, cell in enumerate(code, 1):
        wrong += [f"code cell {count} {fault}" for fault in _faults(cell)]
    ignored = sum(
        "NBVAL_IGNORE" in source(cell)
        or "NBVAL_SKIP" in source(cell)
        or bool({"nbval-ignore-output", "nbval-skip"} & tags(cell))
        for cell in code
    )
    if ignored > 2:
        wrong.append(f"has {ignored} cells that nbval ignores, more than 2")
    if not re.search(r"claim\(", "\n".join(map(source, code))):
        wrong.append("makes no claim")
    words = re.findall(r"(?i)\b(simply|obviously)\b", text)
    if words:
        wrong.append(f"says “{words[0]}”")
    if re.search(r"\$[^$\n]+\$|\\\(", text):
        wrong.append("holds LaTeX, which a page without a network does not show")
    if len(nbformat.writes(notebook).encode()) > 500_000:
        wrong.append("is larger than 500 kB")
    if "widgets" in notebook.metadata:
        wrong.append("has saved widget state")
    return wrong


def _renew_solutions(path: Path, heading: str) -> None:
    """Write the notebook of solutions, unless the saved one holds the same cells (and, with luck, their outputs)."""
    target, fresh = path.parent / "solutions" / path.name, solutions(path.stem, heading)
    if target.is_file():
        saved = nbformat.read(target, as_version=4)
        if list(map(source, saved.cells)) == list(map(source, fresh.cells)):
            return
    target.parent.mkdir(exist_ok=True)
    nbformat.write(fresh, target)


def _badge(host: str) -> str:
    picture = root() / "images" / f"{host}.png"
    return base64.b64encode(picture.read_bytes()).decode("ascii")


def _faults(cell) -> list[str]:
    """Return what is wrong with one executed code cell."""
    faults = []
    outputs = cell.get("outputs", [])
    shown = nbformat.v4.new_notebook(cells=[cell])
    if source(cell).strip() and cell.execution_count is None:
        faults.append("has no execution count")
    if any(output.output_type == "error" for output in outputs):
        faults.append("holds an error")
    if any(output.get("name") == "stderr" for output in outputs):
        faults.append("writes to stderr")
    if re.search(r"(/root|/home|/Users|/tmp|/work|[A-Z]:\\\\Users)[/\\]", nbformat.writes(shown)):
        faults.append("holds a path of one machine")
    if re.search(r"(?m)^\s*!", source(cell)):
        faults.append("runs a shell command")
    pictures = [output for output in outputs if "image/png" in output.get("data", {})]
    if any(not output.metadata.get("image/png", {}).get("alt") for output in pictures):
        faults.append("shows a picture without alt text: use llmnotes.plots.show")
    try:
        ast.parse(re.sub(r"(?m)^(\s*)%.*$", r"\1pass", source(cell)))
    except SyntaxError as error:
        faults.append(f"is not Python: {error}")
    return faults


def main(paths: list[str]) -> int:
    """Renew what is generated in the notebooks at `paths` (none: in all, and the README); print what breaks a rule."""
    broken = 0
    for path in map(Path, paths) if paths else notebooks(root()):
        notebook = nbformat.read(path, as_version=4)
        fill(notebook, path.stem)
        nbformat.write(notebook, path)
        _renew_solutions(path, source(notebook.cells[0]))
        for fault in lint(notebook, path.stem):
            broken += 1
            print(f"{path.stem} {fault}")
    if not paths:  # last, since its minutes are those of the notebooks as they are now
        readme = root() / "README.md"
        text = readme.read_text(encoding="utf-8")
        readme.write_text(README_TABLE.sub(f"\\1{readme_table(root())}\n\\2", text), encoding="utf-8")
    return int(broken > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
