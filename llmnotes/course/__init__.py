"""The course itself: where its notebooks are, and what each of them costs.

Running them is in `course.run`, pages in `course.render`, the fixed order of a notebook in `course.anatomy`.
"""

import json
from pathlib import Path

from llmnotes.errors import UnknownName

COSTS = Path(__file__).parent / "costs.json"


def root(start: Path | None = None) -> Path:
    """Return the folder of the course: `start` or the nearest folder above it that holds the notebooks.

    Raises `UnknownName` if there is none.
    """
    start = (start or Path.cwd()).resolve()
    for folder in (start, *start.parents):
        if (folder / "notebooks" / "00_start_here.ipynb").is_file():
            return folder
    raise UnknownName("There are no notebooks here; clone the course and run this inside its folder.")


def notebooks(folder: Path) -> list[Path]:
    """Return the notebooks of the course in `folder`, in order."""
    return sorted((folder / "notebooks").glob("[0-9][0-9]_*.ipynb"))


def costs() -> dict[str, dict[str, int]]:
    """Return what each notebook cost when it was last measured on two cores: {name: {"seconds", "peak_mb"}}."""
    return json.loads(COSTS.read_text(encoding="utf-8")) if COSTS.is_file() else {}


def source(cell) -> str:
    """Return a cell's text."""
    return "".join(cell["source"])


def tags(cell) -> set[str]:
    """Return a cell's tags."""
    return set(cell["metadata"].get("tags", []))


def text_of(cell) -> str:
    """Return what a code cell printed and displayed as text."""
    parts = []
    for output in cell.get("outputs", []):
        parts.append(output.get("text", "") or output.get("data", {}).get("text/plain", ""))
    return "".join("".join(part) for part in parts)


def claims(notebook) -> list[str]:
    """Return the statements that `notebook`'s saved outputs show with a tick, in order."""
    lines = [line for cell in notebook.cells if cell.cell_type == "code" for line in text_of(cell).splitlines()]
    return [line[2:] for line in lines if line.startswith("✓ ")]
