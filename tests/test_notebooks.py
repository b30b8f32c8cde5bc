"""What holds for the saved notebooks without running them; `pytest --nbval notebooks` runs them."""

import posixpath
import re

import nbformat
import pytest

from kit import readme
from kit.anatomy import lint
from kit.cells import cost_table
from kit.solutions import path_of, solutions
from llmnotes.course import TITLES, claims, costs, notebooks, source
from llmnotes.course.formulas import formulas, mathml
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


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_every_formula_can_be_read(path):
    for latex, block in formulas(_prose(path)):
        mathml(latex, block)


def test_every_link_of_a_lesson_leads_somewhere():
    pages = {path.name: path for path in PATHS} | {f"solutions/{path.name}": path_of(path) for path in PATHS}
    anchors = {name: set(re.findall(r'<a id="([^"]+)"', _prose(path))) for name, path in pages.items()}
    assert {f"{name}.ipynb" for name in TITLES} == {path.name for path in PATHS}
    for name, path in pages.items():
        text = _prose(path)
        for target, fragment in re.findall(r'(?:\]\(|href=")([\w./-]*\.ipynb|)(?:#([\w.-]+))?[")]', text):
            place = posixpath.normpath(posixpath.join(posixpath.dirname(name), target)) if target else name
            assert place in pages, f"{name} links to {target}, which is not there"
            assert not fragment or fragment in anchors[place], f"{name} links to #{fragment}, not in {place}"


def _prose(path):
    return "\n\n".join(source(cell) for cell in read(path).cells if cell.cell_type == "markdown")


def test_the_readme_holds_the_table_of_notebooks():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert readme.table(ROOT) in text, "run python -m kit.anatomy"


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_no_claim_rests_on_one_look_at_the_clock(path):
    """A busy machine stops for a moment when it likes: only medians are claimed, of ways that were timed by turns."""
    for cell in read(path).cells:
        code = source(cell) if cell.cell_type == "code" else ""
        if "claim(" in code and re.search(r"perf_counter|timeit|\bseconds(\[|\.)", code):
            assert "median(" in code, code


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_no_lesson_uses_what_transformers_takes_away(path):
    """transformers 5.15 has no `tp_plan=`, and others warn; `past_key_values` warns since 5.24 and leaves in 5.40."""
    code = "\n".join(source(cell) for cell in read(path).cells if cell.cell_type == "code")
    assert not re.search(r"\b(tp_plan|past_key_values)\b", code)
