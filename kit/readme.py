"""The table of notebooks in the README."""

import re
from pathlib import Path

import nbformat

from kit.cells import launch_links, minutes
from kit.links import lessons_on_disk
from llmnotes.course import costs, source

TABLE = re.compile(r"(?s)(<!-- notebooks -->\n).*(<!-- end of notebooks -->)")


def table(folder: Path) -> str:
    """Return the table by part: title, level, minutes to read and solve, measured seconds, where to open it."""
    lines = ["| lesson | level | minutes | seconds | open |", "| --- | --- | ---: | ---: | --- |"]
    for heading, names in lessons_on_disk(folder / "notebooks"):
        lines.append(f"| **{heading}** | | | | |")
        for name in names:
            notebook = nbformat.read(folder / "notebooks" / f"{name}.ipynb", as_version=4)
            title = source(notebook.cells[0]).splitlines()[0].lstrip("# ")
            level = notebook.metadata.get("level", "–")
            seconds = costs().get(name, {}).get("seconds", "–")
            badges = launch_links(name).replace("attachment:", "images/")
            total = sum(minutes(notebook, name[:2]))
            lines.append(f"| [{title}](notebooks/{name}.ipynb) | {level} | {total} | {seconds} | {badges} |")
    return "\n".join(lines)


def renew(folder: Path) -> None:
    """Write the table into the README of `folder`."""
    readme = folder / "README.md"
    text = readme.read_text(encoding="utf-8")
    readme.write_text(TABLE.sub(lambda found: f"{found[1]}{table(folder)}\n{found[2]}", text), encoding="utf-8")
