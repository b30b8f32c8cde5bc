"""The table of notebooks in the README."""

import re
from pathlib import Path

import nbformat

from kit.cells import launch_links, minutes
from llmnotes.course import costs, notebooks, source

TABLE = re.compile(r"(?s)(<!-- notebooks -->\n).*(<!-- end of notebooks -->)")


def table(folder: Path) -> str:
    """Return the table: title, level, minutes to read and solve, measured seconds, and where to open each notebook."""
    lines = ["| notebook | level | minutes | seconds | open |", "| --- | --- | ---: | ---: | --- |"]
    for path in notebooks(folder):
        notebook = nbformat.read(path, as_version=4)
        title = source(notebook.cells[0]).splitlines()[0].lstrip("# ")
        level = notebook.metadata.get("level", "–")
        seconds = costs().get(path.stem, {}).get("seconds", "–")
        links = launch_links(path.stem).replace("attachment:", "images/")
        total = sum(minutes(notebook, path.stem[:2]))
        lines.append(f"| [{title}](notebooks/{path.name}) | {level} | {total} | {seconds} | {links} |")
    return "\n".join(lines)


def renew(folder: Path) -> None:
    """Write the table into the README of `folder`."""
    readme = folder / "README.md"
    text = readme.read_text(encoding="utf-8")
    readme.write_text(TABLE.sub(lambda found: f"{found[1]}{table(folder)}\n{found[2]}", text), encoding="utf-8")
