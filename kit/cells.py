"""The cells of a lesson that are generated: title links, time and cost in the box, set-up, costs, exercises, links.

`fill` writes them into a notebook. They are found by their tags: title, box, setup, costs, exercise-text-01.2,
exercise-01.2, next. In the other cells of text it makes links of references such as 06.7, and gives sections anchors.
"""

import base64
import re

import nbformat

from kit import links
from kit.address import GITHUB, project, repository
from llmnotes.course import PARTS, TITLES, costs, root, source, tags
from llmnotes.exercises import BY_NOTEBOOK
from llmnotes.exercises.exercise import Exercise
from llmnotes.models.packaged import PACKAGES

DIAMONDS = {"easy": "◆◇◇", "medium": "◆◆◇", "hard": "◆◆◆"}
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
# Where what is generated begins in a title cell; before it stands what was written by hand.
GENERATED = re.compile(r"\n\n(?:\[!\[Open in Colab\]|Part [IVX]+ · |In this lesson: )")
SETUP = """\
# Brings llmnotes where it is missing, as on Colab and Kaggle.
import importlib.util
import subprocess
import sys
from pathlib import Path

if importlib.util.find_spec("llmnotes") is None:
    folders = [Path.cwd(), *Path.cwd().parents][:3]
    wheel = "llmnotes-{version}-*.whl"
    sources = [path.as_uri() for folder in folders for path in folder.glob(wheel)]
    clones = [folder for folder in folders if (folder / "llmnotes" / "course").is_dir()]
    sources += [folder.as_uri() for folder in clones]
    {otherwise}
    pip = [sys.executable, "-m", "pip", "install"]
    if importlib.util.find_spec("pip") is None:  # as in an environment that uv has made
        pip = ["uv", "pip", "install", "--python", sys.executable]
    packages = [[f"llmnotes[course] @ {{sources[0]}}"]]{real}
    for what in packages:
        done = subprocess.run([*pip, "--quiet", *what], capture_output=True, text=True)
        if done.returncode:
            why = done.stderr.strip()
            raise RuntimeError(f"llmnotes could not be installed: {{why}}")
    importlib.invalidate_caches()
"""
NOWHERE = """\
if not sources:
        raise RuntimeError(f"llmnotes is missing: put {wheel} beside this notebook.")"""


def setup_code(cells: list[nbformat.NotebookNode]) -> str:
    """Return the code of the set-up cell; it brings the real models where `cells` open one."""
    opens = re.compile("|".join(f"[\"']{name}[\"']" for name in PACKAGES) + "|sentence_vectors")
    real = any(cell.cell_type == "code" and opens.search(source(cell)) for cell in cells)
    # Only their files are read, so that what these packages would bring along stays away.
    pins = (root() / "requirements-real.txt").read_text(encoding="utf-8").split("\n")
    also = [f'"{pin}"' for pin in pins if "==" in pin] if real else []
    address, version = repository(root()), project(root())["version"]
    return SETUP.format(
        version=version,
        otherwise=f'sources += ["git+{address}@v{version}"]' if address else NOWHERE,
        real=f'\n    packages += [["--no-deps", {", ".join(also)}]]' if also else "",
    ).strip()


def launch_links(name: str) -> str:
    """Return the line of links that open notebook `name` on Colab and on Kaggle; "" without a repository on GitHub."""
    address = repository(root())
    if not address.startswith(GITHUB):
        return ""
    page = address.removeprefix(GITHUB) + f"/blob/v{project(root())['version']}/notebooks/{name}.ipynb"
    return (
        f"[![Open in Colab](attachment:colab.png)](https://colab.research.google.com/github/{page}) "
        f"[![Open in Kaggle](attachment:kaggle.png)](https://kaggle.com/kernels/welcome?src={GITHUB}{page})"
    )


def exercises_of(number: str) -> list[Exercise]:
    """Return the exercises of notebook `number`; a notebook may have none."""
    return BY_NOTEBOOK.get(number, [])


def minutes(notebook: nbformat.NotebookNode, number: str) -> tuple[int, int]:
    """Return the minutes to read, and those for the exercises.

    A reader takes 200 words of prose or eight lines of code a minute, 20 seconds a picture and a minute a prediction;
    the sum times 1.4, since fresh readers took that much longer. Formulas, folded parts, further reading, imports and
    cells whose code is hidden are not counted.
    """
    words = lines = pictures = predictions = 0
    for cell in notebook.cells:
        if cell.cell_type == "markdown" and not _is_exercise(cell) and "next" not in tags(cell):
            text = source(cell).partition("Further reading")[0]
            if "title" in tags(cell):
                text = GENERATED.split(text)[0]
            predictions += len(re.findall(r"(?m)^> \*\*Predict|^### Predict", text))
            text = re.sub(
                r"<details>.*?</details>|\$\$.*?\$\$|```.*?```|<[^>]+>|!?\]\([^)]*\)", " ", text, flags=re.DOTALL
            )
            words += len(re.findall(r"[\w'’-]+", text))
        elif cell.cell_type == "code" and not _is_exercise(cell):
            pictures += sum("image/png" in output.get("data", {}) for output in cell.outputs)
            if not {"hide-input", "setup"} & tags(cell):
                lines += len(re.findall(r"(?m)^\s*(?!import |from |#)\S", source(cell)))
    reading = 1.4 * (words / 200 + lines / 8 + pictures / 3 + predictions)
    return round(reading), sum(exercise.minutes for exercise in exercises_of(number))


def _is_exercise(cell: nbformat.NotebookNode) -> bool:
    return any(tag.startswith("exercise") for tag in tags(cell))


def time_line(notebook: nbformat.NotebookNode, number: str) -> str:
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
    """Return the table of all lessons by part, and what they cost, for notebook 00."""
    lines, measured = ["| lesson | seconds | memory |", "| --- | ---: | ---: |"], costs()
    for part in PARTS:
        lines.append(f'| <a id="{links.part_anchor(part.number)}"></a>**{part.heading}** | | |')
        for name in part.lessons:
            if name in measured:
                cost = measured[name]
                lines.append(f"| {links.link(name)} | {cost['seconds']} s | {cost['peak_mb']} MB |")
    return "\n".join(lines)


def course_map(columns: int = 3) -> str:
    """Return the map of the course as a table of links, a row of `columns` lessons at a time; for notebook 00.

    It is HTML without styles, which JupyterLab, Colab, GitHub and the pages all show.
    """
    rows = []
    for part in PARTS:
        rows.append(f'<tr><th colspan="{columns}" align="center">{part.heading}</th></tr>')
        cells = [
            f'<td align="center"><a href="{name}.ipynb"><b>{name[:2]}</b><br>{title}</a></td>'
            for name, title in part.lessons.items()
        ]
        cells += ["<td></td>"] * (-len(cells) % columns)
        rows += [f"<tr>{''.join(cells[at : at + columns])}</tr>" for at in range(0, len(cells), columns)]
    return "<table>\n" + "\n".join(rows) + "\n</table>"


def exercise_text(exercise: Exercise, name: str, sections: set[str], folder: str = "") -> str:
    """Return the markdown of an exercise of lesson `name`: what to do, how hard it is, and a folded clue.

    `sections` are those that exist, and `folder` is where the lessons are from the notebook that shows the exercise.
    """
    text = (
        f"### Exercise {exercise.id} · {exercise.title}\n\n{DIAMONDS[exercise.level]} {exercise.level}, spend up to "
        f"{exercise.minutes} minutes.\n\n{exercise.task.strip()}\n\n"
        f"<details><summary>A clue</summary>\n\n{exercise.clue.strip()}\n\n</details>"
    )
    return links.link_references(text, name, sections, folder)


def exercise_code(exercise: Exercise, answer: str) -> str:
    """Return the code cell of an exercise: `answer` (the stub or the solution) and its check."""
    call = f'check("{exercise.id}", {exercise.name})'
    if exercise.kept:
        call = f'{exercise.name} = take("{exercise.id}", {exercise.name})'
    return f"{answer.strip()}\n\n\n{call}"


def fill(notebook: nbformat.NotebookNode, name: str) -> None:
    """Write every generated cell of `notebook` in place, and its metadata; what is not generated stays as it is."""
    notebook.metadata.update(METADATA)
    notebook.metadata.pop("jupytext", None)
    number, sections = name[:2], links.sections_of(root() / "notebooks")
    exercises = {exercise.id: exercise for exercise in exercises_of(number)}
    _add_last_cell(notebook)
    for cell in notebook.cells:
        _fold_code(cell)
        for tag in tags(cell):
            exercise = exercises.get(tag.rpartition("-")[2])
            if tag == "setup":
                cell.source = setup_code(notebook.cells)
            elif tag == "costs":
                cell.source = cost_table()
            elif tag == "map":
                cell.source = course_map()
            elif tag == "next" and name in TITLES:
                cell.source = links.last_links(name)
            elif tag.startswith("exercise-text-") and exercise:
                cell.source = exercise_text(exercise, name, sections)
            elif tag.startswith("exercise-") and exercise:
                cell.source = exercise_code(exercise, exercise.stub)
        if (
            cell.cell_type == "markdown"
            and not _is_exercise(cell)
            and not {"title", "costs", "map", "next"} & tags(cell)
        ):
            cell.source = links.link_references(links.anchored(source(cell), number), name, sections)
    for cell in notebook.cells:  # last, since they tell of all the others
        if "title" in tags(cell):
            cell.source = _title(cell, notebook, name)
            cell.pop("attachments", None)
            if launch_links(name):
                cell.attachments = {f"{host}.png": {"image/png": _badge(host)} for host in ("colab", "kaggle")}
        if "box" in tags(cell):
            cell.source = re.sub(r"(?m)^\*\*Time\*\*:.*$", time_line(notebook, number), cell.source)
            cell.source = re.sub(r"(?m)^\*\*Cost\*\*:.*$", cost_line(name), cell.source)


def _title(cell: nbformat.NotebookNode, notebook: nbformat.NotebookNode, name: str) -> str:
    """Return the text of the title cell: title and sentence as they are, badges, the part's map, and the contents."""
    prose = "\n".join(source(other) for other in notebook.cells if other.cell_type == "markdown" and other is not cell)
    parts = [GENERATED.split(source(cell))[0].strip(), *filter(None, [launch_links(name)])]
    parts += [links.part_map(name)] * (name in TITLES)
    return "\n\n".join([*parts, "In this lesson: " + links.contents(prose, name[:2])])


def _add_last_cell(notebook: nbformat.NotebookNode) -> None:
    """Give `notebook` a last cell for the links to other lessons, if it has none."""
    if not any("next" in tags(cell) for cell in notebook.cells):
        cell = nbformat.v4.new_markdown_cell(metadata={"tags": ["next"]})
        cell.id = "next"  # not by chance: filling a notebook twice gives the same file
        notebook.cells.append(cell)


def _fold_code(cell: nbformat.NotebookNode) -> None:
    """Let JupyterLab and Colab fold the code of the set-up, and of a cell that only shows a picture (hide-input)."""
    metadata = cell.metadata
    if {"hide-input", "setup"} & tags(cell):
        metadata["jupyter"] = {**metadata.get("jupyter", {}), "source_hidden": True}
        metadata["cellView"] = "form"
    elif metadata.pop("cellView", None):
        metadata.pop("jupyter", None)


def _badge(host: str) -> str:
    picture = root() / "images" / f"{host}.png"
    return base64.b64encode(picture.read_bytes()).decode("ascii")
