"""`llmnotes new-notebook` makes a lesson that is green at once."""

import os
import re
import shutil
import subprocess
import sys

import pytest

from kit.new_notebook import add
from llmnotes.errors import UnknownName

from .conftest import ROOT


def run(clone, *command):
    environment = {**os.environ, "PYTHONPATH": str(clone)}
    return subprocess.run([sys.executable, "-m", *command], cwd=clone, env=environment, capture_output=True, text=True)


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """A copy of what the lesson needs: package, kit, tests, notebooks and the files that name them."""
    folder = tmp_path_factory.mktemp("clone") / "llmnotes"
    ignored = shutil.ignore_patterns("build", ".*", "__pycache__", "*.egg-info")
    shutil.copytree(ROOT, folder, ignore=ignored)
    return folder


@pytest.mark.slow
def test_a_new_notebook_is_green(clone):
    made = run(clone, "llmnotes.cli", "new-notebook", "24_round_trip")
    assert made.returncode == 0 and made.stderr == "", made.stdout + made.stderr
    assert "notebooks/24_round_trip.ipynb" in made.stdout and "make quick" in made.stdout
    tests = ["tests/test_notebooks.py", "tests/test_exercises.py"]
    checked = run(clone, "pytest", "-q", "-p", "no:cacheprovider", *tests)
    assert checked.returncode == 0, checked.stdout[-3000:]
    compared = run(
        clone,
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--nbval",
        "--nbval-current-env",
        "notebooks/24_round_trip.ipynb",
    )
    assert compared.returncode == 0, compared.stdout[-3000:]
    for command in (["check"], ["format", "--check"]):
        linted = run(clone, "ruff", *command, ".")
        assert linted.returncode == 0, linted.stdout
    assert "24 · Round trip" in (clone / "README.md").read_text(encoding="utf-8")
    assert run(clone, "llmnotes.cli", "new-notebook", "24_other").returncode == 2


def test_a_name_that_cannot_be_used_changes_nothing(tmp_path):
    before = sorted(ROOT.glob("llmnotes/exercises/*.py"))
    for name, says in (
        ("topic", "two digits"),
        ("22-topic", "two digits"),
        ("../24_topic", "two digits"),
        ("00_topic", "00_start_here.ipynb already"),
        ("24_serving", "serving.py already"),
    ):
        with pytest.raises(UnknownName, match=says):
            add(ROOT, name)
    assert sorted(ROOT.glob("llmnotes/exercises/*.py")) == before


def test_the_order_is_that_of_the_numbers(clone):
    from kit.new_notebook import _enter

    copy = clone.parent / "order.py"
    shutil.copyfile(ROOT / "llmnotes" / "exercises" / "__init__.py", copy)
    _enter(copy, "aardvark", '    "03": aardvark.EXERCISES,\n', place=3)
    text = copy.read_text(encoding="utf-8")
    assert "import (\n    aardvark,\n" in text
    assert re.search(r'"02": \w+\.EXERCISES,\n    "03": aardvark\.EXERCISES,\n', text)
