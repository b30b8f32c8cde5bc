"""What is generated in the README: how to install, and the table of lessons."""

import re
from pathlib import Path

import nbformat

from kit.address import project, repository
from kit.cells import launch_links, minutes
from kit.links import lessons_on_disk
from llmnotes.course import costs, source

PARTS = re.compile(r"(?s)(<!-- (notebooks|install) -->\n).*?(<!-- end of \2 -->)")


def install(folder: Path) -> str:
    """Return the command that installs llmnotes: from its repository, or as long as it has none from a wheel."""
    address, version = repository(folder), project(folder)["version"]
    wheel = f"./llmnotes-{version}-py3-none-any.whl[course,lab]"
    what = f"llmnotes[course,lab] @ git+{address}@v{version}" if address else wheel
    return f'\n    pip install "{what}"\n'


def table(folder: Path) -> str:
    """Return the table by part: title, level, minutes to read and solve, measured seconds, and where to open it."""
    badges = any(launch_links(name) for _, names in lessons_on_disk(folder / "notebooks") for name in names)
    lines = ["| lesson | level | minutes | seconds |", "| --- | --- | ---: | ---: |"]
    if badges:
        lines = [lines[0] + " open |", lines[1] + " --- |"]
    for heading, names in lessons_on_disk(folder / "notebooks"):
        lines.append(f"| **{heading}** | | | |" + " |" * badges)
        for name in names:
            notebook = nbformat.read(folder / "notebooks" / f"{name}.ipynb", as_version=4)
            title = source(notebook.cells[0]).splitlines()[0].lstrip("# ")
            level = notebook.metadata.get("level", "–")
            seconds = costs().get(name, {}).get("seconds", "–")
            total = sum(minutes(notebook, name[:2]))
            row = f"| [{title}](notebooks/{name}.ipynb) | {level} | {total} | {seconds} |"
            lines.append(row + f" {launch_links(name).replace('attachment:', 'images/')} |" * badges)
    return "\n".join(lines)


def renew(folder: Path) -> None:
    """Write both into the README of `folder`."""
    readme = folder / "README.md"
    makers = {"notebooks": table, "install": install}
    text = PARTS.sub(lambda found: f"{found[1]}{makers[found[2]](folder)}\n{found[3]}", readme.read_text("utf-8"))
    readme.write_text(text, encoding="utf-8")
