"""`import llmnotes`: light, complete, and the same for people, editors and type checkers."""

import ast
import inspect
import pydoc
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

import llmnotes
from llmnotes.errors import BadSettings
from llmnotes.exercises.progress import progress_file

from .conftest import ROOT

NAMES = "open_model complete parity convert inspect scan claim check reveal show fit load serve finetune".split()


def loaded_by(code: str) -> set[str]:
    """Return the modules that are in memory after `code` has run in a fresh interpreter."""
    code = f"{code}\nimport sys; print(*sys.modules, file=sys.stderr)"
    return set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stderr.split())


def test_the_import_loads_nothing_heavy():
    empty = loaded_by("")
    assert {name for name in loaded_by("import llmnotes") - empty if name.startswith("llmnotes")} == {"llmnotes"}
    assert len(loaded_by("import llmnotes") - empty) < 40
    for argument in ("--help", "convert --help", "start --help"):
        command = f"from llmnotes.cli import main\ntry: main({argument.split()})\nexcept SystemExit: pass"
        found = loaded_by(command) - empty
        assert not {"torch", "numpy", "transformers", "nbformat", "yaml", "pydantic"} & found and len(found) < 200


def test_every_name_is_there():
    assert sorted(NAMES) == llmnotes.__all__
    assert set(NAMES) <= set(dir(llmnotes))
    scope = {}
    exec(f"from llmnotes import {', '.join(NAMES)}", scope)
    for name in NAMES:
        assert inspect.isfunction(scope[name]) and scope[name] is getattr(llmnotes, name) and scope[name].__doc__
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        llmnotes.nothing  # noqa: B018


def test_editors_read_the_same_names_from_the_same_places():
    tree = ast.parse((ROOT / "llmnotes" / "__init__.py").read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    assert ast.unparse(block.test) == "TYPE_CHECKING"
    seen = {alias.name: node.module for node in block.body for alias in node.names}  # type: ignore[attr-defined]
    assert seen == llmnotes._HOMES and sorted(seen) == llmnotes.__all__
    assert (ROOT / "llmnotes" / "py.typed").is_file()


@pytest.mark.parametrize(
    "before",
    [
        "",
        "import llmnotes.fit",
        "import llmnotes.fit.verdict",
        "from llmnotes.fit import machines",
        "from llmnotes import fit",
        "import llmnotes; llmnotes.fit",
    ],
)
def test_fit_is_the_function_whatever_was_imported_before(before):
    code = f"""
{before}
from llmnotes import fit
from llmnotes.fit import fit as same, machines
from llmnotes import fit as again
import llmnotes
assert fit is same is again is llmnotes.fit and callable(fit) and "rtx-3070" in machines()
assert fit("llava-1.5-7b", vram="8GB", ram="16GB", precision="NF4").fits
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_help_is_a_page_worth_reading():
    page = pydoc.plain(pydoc.render_doc(llmnotes))
    screen, _, rest = page.partition("PACKAGE CONTENTS")
    assert len(screen.splitlines()) <= 40 and all(f" {name}" in screen for name in NAMES)
    assert "llmnotes start" in screen and ">>> from llmnotes import" in screen
    for name in NAMES:
        assert f"\n    {name}(" in rest


def test_models_have_names_in_python_too(tmp_path):
    found = llmnotes.inspect("pebble")
    done = llmnotes.convert("pebble", tmp_path / "p.safetensors")
    assert done.tensors == len(found.tensors) == 38 and llmnotes.scan("pebble").verdict == "no pickle"


def test_finetune_takes_a_dict_or_a_file(tmp_path):
    (tmp_path / "data.jsonl").write_text('{"prompt": "a", "completion": "b"}')
    settings = {"model": "pebble", "data": str(tmp_path / "data.jsonl"), "output": str(tmp_path / "taught"), "steps": 1}
    done = llmnotes.finetune({**settings, "exam": False}, say=lambda line: None, progress=False)
    assert done.steps == 1 and (tmp_path / "taught" / "adapter").is_dir()
    with pytest.raises(BadSettings, match="did you mean steps"):
        llmnotes.finetune({**settings, "step": 1})
    file = tmp_path / "settings.yaml"
    file.write_text("model: pebble\nmodell: pebble\n")
    with pytest.raises(BadSettings, match="did you mean model"):
        llmnotes.finetune(file)


def test_help_and_readme_list_the_architectures_and_types_that_become_a_gguf(capsys):
    from llmnotes import cli
    from llmnotes.formats.gguf.architectures import ARCHITECTURES
    from llmnotes.quantization.mixtures import FILE_TYPES

    with pytest.raises(SystemExit):
        cli.main(["convert", "--help"])
    texts = {"the help": capsys.readouterr().out, "README.md": (ROOT / "README.md").read_text(encoding="utf-8")}
    for where, text in texts.items():
        words = set(re.findall(r"\w+", text))
        known = {*FILE_TYPES, *(architecture.hugging_face for architecture in ARCHITECTURES)}
        assert known <= words, f"{where} lacks {known - words}"
        more = {word for word in words if word.endswith("ForCausalLM")} - known
        assert not more, f"{where} promises {more}"


def test_the_cell_for_colab_keeps_progress_on_the_drive(monkeypatch):
    (cell,) = re.findall(r"```python\n(.*?google\.colab.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.S)
    mounted, colab = [], ModuleType("google.colab")
    monkeypatch.setattr(colab, "drive", SimpleNamespace(mount=mounted.append), raising=False)
    monkeypatch.setitem(sys.modules, "google.colab", colab)
    monkeypatch.setenv("LLMNOTES_HOME", "")
    exec(cell, {})
    assert progress_file().is_relative_to(Path(mounted[0]) / "MyDrive")
