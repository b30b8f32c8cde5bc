"""What people get who only `pip install` llmnotes: the package, the models in the box, and the lessons."""

import os
import re
import shutil
import subprocess
import sys
import zipfile

import pytest

from .conftest import ROOT

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built without a network from a copy of what git tracks."""
    folder = tmp_path_factory.mktemp("wheel")
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True
    )
    if listing.returncode:
        pytest.skip("this is no git checkout")
    for name in listing.stdout.splitlines():
        if (ROOT / name).is_file():
            (folder / "source" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, folder / "source" / name)
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index", "."]
    subprocess.run([*build, "--wheel-dir", str(folder)], cwd=folder / "source", check=True)
    return next(folder.glob("llmnotes-*.whl"))


def test_the_wheel_holds_the_package_and_the_lessons_and_nothing_else(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {"llmnotes"}
    lessons = {name.removeprefix("llmnotes/course/lessons/") for name in names if name.endswith(".ipynb")}
    tracked = [path.relative_to(ROOT / "notebooks") for path in (ROOT / "notebooks").rglob("*.ipynb")]
    assert lessons == {path.as_posix() for path in tracked if ".ipynb_checkpoints" not in path.parts}
    for data in (
        "py.typed",
        "course/glossary.md",
        "course/lessons/file_formats.md",
        "pebble/weights/pebble/model.safetensors",
        "vision/weights/encoder.safetensors",
    ):
        assert f"llmnotes/{data}" in names
    package = {path.relative_to(ROOT).as_posix() for path in (ROOT / "llmnotes").rglob("*.py")}
    assert package <= set(names)


def test_a_plain_install_brings_no_compiler(wheel):
    archive = zipfile.ZipFile(wheel)
    metadata = archive.read(next(name for name in archive.namelist() if name.endswith("METADATA"))).decode()
    core = re.findall(r"(?m)^Requires-Dist: ([\w.-]+)(?!.*extra ==)", metadata)
    assert "torch" in core and "transformers" in core and not {"numba", "llvmlite"} & set(core)


def test_the_page_on_an_index_has_no_link_into_a_repository_that_is_not_there(wheel):
    archive = zipfile.ZipFile(wheel)
    metadata = archive.read(next(name for name in archive.namelist() if name.endswith("METADATA"))).decode()
    assert "Description-Content-Type: text/markdown" in metadata and "# llmnotes\n" in metadata
    targets = re.findall(r"\]\(([^)]*)\)", metadata)
    assert all(target.startswith("https://") for target in targets), targets
    assert "00 · Start here" in metadata and "<!-- notebooks -->" in metadata


def test_start_works_without_a_clone(wheel, tmp_path):
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)
    environment = {**os.environ, "PYTHONPATH": str(site)}
    for command, says in (("start", "llmnotes-course"), ("claims", "00_start_here  ")):
        llmnotes = [sys.executable, "-P", "-m", "llmnotes.cli", command]
        done = subprocess.run(llmnotes, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0 and says in done.stdout, done.stderr
    copied = tmp_path / "llmnotes-course" / "notebooks" / "solutions" / "00_start_here.ipynb"
    assert copied.read_bytes() == (ROOT / "notebooks" / "solutions" / "00_start_here.ipynb").read_bytes()
