"""The repository's own files agree with each other, and the package keeps its manners."""

import ast
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from llmnotes.hardware import PARTS

from .conftest import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


EXTRAS = PROJECT["optional-dependencies"]
# Each list of pins, and the requirements it answers: two extras have an environment of their own.
APART = ("tf", "gptq", "llama-cpp")
PINNED = {
    "requirements.txt": PROJECT["dependencies"]
    + [line for name in EXTRAS if name not in APART for line in EXTRAS[name]],
    **{f"requirements-{name}.txt": EXTRAS[name] for name in APART},
}


def pins(file: str) -> dict[str, str]:
    lines = (ROOT / file).read_text(encoding="utf-8").splitlines()
    rows = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(name): version for name, version in rows}


@pytest.mark.parametrize("file", PINNED)
def test_every_requirement_is_pinned_within_its_bounds(file):
    for line in PINNED[file]:
        requirement = Requirement(line)
        assert requirement.specifier.contains(pins(file)[canonicalize_name(requirement.name)]), line


@pytest.mark.parametrize("file", PINNED)
def test_the_pins_come_first_those_we_name(file):
    named = {canonicalize_name(Requirement(line).name) for line in PINNED[file]}
    text = (ROOT / file).read_text(encoding="utf-8").split("# ... then")[0]
    assert {canonicalize_name(name) for name in re.findall(r"(?m)^([\w.-]+)==", text)} == named


def test_conda_gets_the_same():
    environment = yaml.safe_load((ROOT / "environment.yaml").read_text(encoding="utf-8"))
    assert f"python{PROJECT['requires-python']}" in environment["dependencies"]
    assert environment["dependencies"][-1]["pip"] == ["--requirement requirements.txt", "--editable ."]


def test_the_supported_pythons_are_said_everywhere():
    versions = [c.rpartition(" ")[2] for c in PROJECT["classifiers"] if re.search(r"Python :: 3\.\d+", c)]
    assert versions == ["3.11", "3.12", "3.13"] and PROJECT["requires-python"] == ">=3.11,<3.14"
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
    assert f'python: ["{versions[0]}", "{versions[-1]}"]' in workflow
    assert "make test" in workflow and "make test" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


def test_the_pictures_are_what_their_code_draws(tmp_path):
    folder = tmp_path / "images"
    shutil.copytree(ROOT / "images", folder, ignore=shutil.ignore_patterns("*.svg", "*.png"))
    subprocess.run([sys.executable, folder / "draw.py"], check=True)
    for picture in [*(ROOT / "images").glob("*.svg"), *(ROOT / "images").glob("*.png")]:
        drawn = folder / picture.name
        assert drawn.suffix == ".png" or drawn.read_bytes() == picture.read_bytes(), "run python images/draw.py"
        assert drawn.stat().st_size > 1000


def test_no_file_names_a_machine():
    listing = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if listing.returncode:
        pytest.skip("this is no git checkout")
    for name in listing.stdout.splitlines():
        path = ROOT / name
        if path.suffix in (".py", ".md", ".ipynb", ".toml", ".yaml", ".yml", ".json") and path.is_file():
            text = path.read_text(encoding="utf-8")
            allowed = path.parent.name == "tests" or path.name == "anatomy.py"
            assert allowed or not re.search(r"/(root|work|home/\w+|tmp)/", text), name


def test_every_command_shows_an_example(capsys):
    from llmnotes.cli.main import parser

    listing = next(action for action in parser()._actions if isinstance(action.choices, dict))
    commands = "start lab run claims progress doctor new-notebook inspect scan convert finetune merge serve chat fit"
    assert set(listing.choices) == set(commands.split())
    for command, its in listing.choices.items():
        assert f"example: llmnotes {command}" in its.format_help()


def test_modules_are_read_in_one_sitting():
    for path in Path(ROOT / "llmnotes").rglob("*.py"):
        if path.parent.name == "plots":
            continue
        limit = 400 if path.parent.name == "exercises" else 320  # an exercise is mostly text
        assert len(path.read_text(encoding="utf-8").splitlines()) <= limit, path


def test_a_picture_is_a_function_of_its_own_and_fits_on_a_screen():
    """A module of pictures is no text to read from top to bottom: each function is looked up from its lesson."""
    for path in Path(ROOT / "llmnotes" / "plots").glob("*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef):
                limit = 90 if node.name == "turning" else 60  # one interactive figure with two sliders
                assert node.end_lineno - node.lineno < limit, f"{path.name}: {node.name}"


def test_a_notebook_host_keeps_all_it_has_and_gains_little():
    """The set-up cell asks a host for nothing that would change a package it has (its list, as published)."""
    freeze = ROOT.parent / "shared" / "hosts" / "colab-cpu-freeze.txt"
    if not freeze.is_file():
        pytest.skip("the list of a host's packages is not beside the project")
    has = dict(re.findall(r"(?m)^([\w.-]+)==([^\s;]+)", freeze.read_text(encoding="utf-8")))
    has = {canonicalize_name(name): version for name, version in has.items()}
    gained = set()
    for line in PROJECT["dependencies"] + PROJECT["optional-dependencies"]["course"]:
        requirement = Requirement(line)
        name = canonicalize_name(requirement.name)
        if name in has:
            assert requirement.specifier.contains(has[name]), f"{line} would change {name} {has[name]}"
        else:
            gained.add(name)
    assert gained == {"bitsandbytes", "gguf", "optimum-quanto", "picklescan", "wordllama", "xllamacpp"}
    assert set(PARTS) <= set(has) | gained, "notebook 00 would call a part missing that a host does not have"


def test_the_setup_cell_does_nothing_where_the_course_is_installed():
    from IPython.core.interactiveshell import InteractiveShell

    from kit.cells import SETUP, repository

    shell = InteractiveShell()
    calls = []
    shell.register_magic_function(lambda line: calls.append(line), magic_name="pip")
    for _ in range(2):
        shell.run_cell(SETUP.format(repository=repository())).raise_error()
    assert calls == []
    absent = SETUP.replace('"llmnotes") is', '"no_such_module") is').format(repository=repository())
    shell.run_cell(absent).raise_error()
    assert calls == [f'install --quiet "llmnotes[course] @ git+{PROJECT["urls"]["Repository"]}"']
