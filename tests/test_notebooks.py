"""What holds for the saved notebooks without running them; `pytest --nbval notebooks` runs them."""

import nbformat
import pytest

from kit import readme
from kit.anatomy import lint
from kit.cells import cost_table
from kit.solutions import path_of, solutions
from llmnotes.course import claims, costs, notebooks, source
from llmnotes.course.render import glossary
from llmnotes.exercises import BY_NOTEBOOK

from .conftest import ROOT

PATHS = notebooks(ROOT)


def read(path):
    return nbformat.read(path, as_version=4)


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_the_anatomy_is_kept(path):
    assert lint(read(path), path.stem) == []


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_the_solutions_are_generated_and_were_run(path):
    saved, fresh = read(path_of(path)), solutions(path.stem, source(read(path).cells[0]))
    assert [source(cell) for cell in saved.cells] == [source(cell) for cell in fresh.cells]
    for cell in (cell for cell in saved.cells if cell.cell_type == "code"):
        assert cell.execution_count is not None
        assert not cell.outputs or cell.outputs[0]["text"].startswith("✓"), cell.outputs


def test_every_notebook_has_exercises_and_a_measured_cost_within_the_limits():
    assert [path.stem[:2] for path in PATHS] == list(BY_NOTEBOOK)
    for path in PATHS:
        assert costs()[path.stem]["seconds"] < 60 and costs()[path.stem]["peak_mb"] < 1500
        assert path.stem in cost_table() and len(claims(read(path))) >= 3


def test_the_readme_holds_the_table_of_notebooks():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert readme.table(ROOT) in text, "run python -m kit.anatomy"


def test_a_term_is_defined_once():
    seen = {}
    for path in PATHS:
        for term in glossary([read(path)]):
            assert term not in seen, f"{term} is bold in {seen[term]} and again in {path.stem}"
            seen[term] = path.stem
    assert len(seen) >= 20
