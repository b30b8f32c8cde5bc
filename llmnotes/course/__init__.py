"""The course: where its notebooks are, what each of them costs, and what their cells hold.

`course.start` copies the lessons, `course.lab` opens them, `course.run` runs them, and `course.render` makes pages.
What writes and checks the frame of a lesson is `kit/` in the repository.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from llmnotes.errors import UnknownName
from llmnotes.models.opening import VARIABLE

if TYPE_CHECKING:
    from nbformat import NotebookNode

COSTS = Path(__file__).parent / "costs.json"
FOLDER = "llmnotes-course"  # where `llmnotes start` puts the lessons when nobody says
FIRST = "00_start_here.ipynb"


@dataclass(frozen=True)
class Part:
    """A part of the course: its number, its title, and its lessons in order, {name of the file: title}."""

    number: str
    title: str
    lessons: dict[str, str]

    @property
    def heading(self) -> str:
        """What the part is called: “Part I · How a model works”."""
        return f"Part {self.number} · {self.title}"


# The course's only list of its lessons: tables, maps, and links to the previous and the next lesson follow from it.
# A lesson enters with its notebook; `llmnotes new-notebook` does that.
PARTS = (
    Part(
        "I",
        "How a model works",
        {
            "00_start_here": "Start here",
            "01_tokens": "Tokens",
            "02_embeddings": "Embeddings",
            "03_dot_products": "Dot products",
            "04_attention": "Attention",
            "05_attention_layer": "The attention layer",
            "06_one_token_through_pebble": "One token through Pebble",
            "07_from_scores_to_text": "From scores to text",
            "08_looking_inside": "Looking inside",
            "09_learning_from_mistakes": "Learning from mistakes",
            "10_training_in_small": "Training in small",
        },
    ),
    Part(
        "II",
        "Files",
        {
            "11_model_files": "Model files",
            "12_converting_models": "Converting models",
        },
    ),
    Part(
        "III",
        "Fewer bits",
        {
            "13_numbers_in_fewer_bits": "Numbers in fewer bits",
            "14_quantizing_a_model": "Quantizing a model",
            "15_gptq": "GPTQ",
            "16_other_ways_to_save": "Other ways to save",
        },
    ),
    Part(
        "IV",
        "Teach it",
        {
            "17_fine_tuning": "Fine-tuning",
            "19_qlora": "QLoRA",
        },
    ),
    Part(
        "V",
        "Run it",
        {
            "22_gguf_and_llama_cpp": "GGUF and llama.cpp",
            "23_serving": "Serving",
            "25_vision_language": "Vision and language",
            "26_scaling_out": "Scaling out",
        },
    ),
)
TITLES = {name: title for part in PARTS for name, title in part.lessons.items()}


def part_of(name: str) -> Part:
    """Return the part that holds the lesson `name`; raises `UnknownName` if none does."""
    for part in PARTS:
        if name in part.lessons:
            return part
    raise UnknownName(f"The lesson {name} is in no part; enter it into PARTS in llmnotes/course/__init__.py.")


def root(start: Path | None = None) -> Path:
    """Return the folder that holds the reader's notebooks: a clone, or what `llmnotes start` has made.

    It is `start` (by default the current folder), llmnotes-course in it, or the nearest folder above that has them.
    Raises `UnknownName` if there is none.
    """
    start = (start or Path.cwd()).resolve()
    for folder in (start, start / FOLDER, *start.parents):
        if (folder / "notebooks" / FIRST).is_file():
            return folder
    raise UnknownName(f"There are no notebooks here; `llmnotes start` copies the lessons into the folder {FOLDER}.")


def lessons() -> Path:
    """Return the folder of the notebooks that came with llmnotes: in the installed package, or beside it in a clone.

    Raises `UnknownName` if there is none.
    """
    package = Path(__file__).parent
    for folder in (package / "lessons", package.parents[1] / "notebooks"):
        if (folder / FIRST).is_file():
            return folder
    raise UnknownName("This llmnotes came without its lessons; install it again with pip, or clone the repository.")


def notebooks(folder: Path) -> list[Path]:
    """Return the notebooks of the course in `folder`, in order."""
    return sorted((folder / "notebooks").glob("[0-9][0-9]_*.ipynb"))


def costs() -> dict[str, dict[str, int]]:
    """Return what each notebook cost when it was last measured on two cores: {name: {"seconds", "peak_mb"}}."""
    return json.loads(COSTS.read_text(encoding="utf-8")) if COSTS.is_file() else {}


def source(cell: dict) -> str:
    """Return a cell's text."""
    return "".join(cell["source"])


def tags(cell: dict) -> set[str]:
    """Return a cell's tags."""
    return set(cell["metadata"].get("tags", []))


def text_of(cell: dict) -> str:
    """Return what a code cell printed and displayed as text."""
    parts = []
    for output in cell.get("outputs", []):
        parts.append(output.get("text", "") or output.get("data", {}).get("text/plain", ""))
    return "".join("".join(part) for part in parts)


def environment() -> dict[str, str]:
    """Return the environment for kernels: a relative folder in LLMNOTES_MODEL means there what it means here."""
    variables = dict(os.environ)
    model = variables.get(VARIABLE)
    if model and Path(model).expanduser().is_dir():
        variables[VARIABLE] = str(Path(model).expanduser().resolve())
    variables.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")
    return variables


def claims(notebook: "NotebookNode") -> list[str]:
    """Return the statements that `notebook`'s saved outputs show with a tick, in order."""
    lines = [line for cell in notebook.cells if cell.cell_type == "code" for line in text_of(cell).splitlines()]
    return [line[2:] for line in lines if line.startswith("✓ ")]
