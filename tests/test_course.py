"""The machinery that runs, renders and checks notebooks, tried on notebooks made for the purpose."""

import inspect
import json
import re
import shutil
import signal
import subprocess
import sys
import time
from functools import partial

import nbformat
import psutil
import pytest

from kit.anatomy import folds, lint, repeatable
from kit.cells import fill
from kit.links import anchored, contents, link_references
from llmnotes import course
from llmnotes.cli.main import main
from llmnotes.course import claims, costs, lessons, notebooks, part_of, root
from llmnotes.course.formulas import formulas, mathml, set_aside
from llmnotes.course.render import Site
from llmnotes.course.run import TIMEOUT, Result, execute, save, save_costs, table
from llmnotes.course.start import copy_lessons
from llmnotes.errors import CannotWrite, UnknownName
from llmnotes.finetuning.distributed import launch

from .processes import SECONDS, started

v4 = nbformat.v4


def write(path, *sources, markdown=()):
    cells = [v4.new_markdown_cell(text) for text in markdown] + [v4.new_code_cell(text) for text in sources]
    nbformat.write(v4.new_notebook(cells=cells), path)
    return path


@pytest.mark.slow
def test_a_run_counts_claims_and_memory_and_leaves_the_file_alone(tmp_path):
    sources = "from llmnotes.claims import claim", 'claim("a", True)\nclaim("b", True)\nclaim("c", 1, when=False)'
    path = write(tmp_path / "05_x.ipynb", *sources)
    before = path.read_bytes()
    result = execute(path)
    assert result.ok and result.claims == 2 and result.cells == 2 and not result.error
    assert 20 < result.peak_mb < 1000 and result.seconds > 0 and path.read_bytes() == before
    assert len(result.notebook.cells) == 2 and claims(result.notebook) == ["a", "b"]
    save(result, path)
    assert [cell.execution_count for cell in nbformat.read(path, as_version=4).cells] == [1, 2]
    assert not list(tmp_path.glob("*.tmp"))


@pytest.mark.slow
def test_peak_memory_is_the_kernels_own(tmp_path):
    path = write(tmp_path / "05_x.ipynb", "big = b'x' * 300_000_000", "del big")
    assert execute(path).peak_mb > 300


@pytest.mark.slow
def test_a_failing_notebook_is_reported_and_the_others_still_run(tmp_path, capsys):
    claim = "from llmnotes.claims import claim\nclaim('early', True)"
    bad = write(tmp_path / "05_bad.ipynb", claim, "1 / 0", "print('never')")
    good = write(tmp_path / "06_good.ipynb", "print('fine')")
    assert main(["run", str(bad), str(good), "--pages", str(tmp_path / "pages"), "--save"]) == 1
    out = capsys.readouterr().out
    assert "FAILED in code cell 2: ZeroDivisionError division by zero" in out and "06_good" in out
    assert nbformat.read(bad, as_version=4).cells[0].execution_count is None  # a failed run is not saved
    assert nbformat.read(good, as_version=4).cells[0].execution_count == 1
    summary = json.loads((tmp_path / "pages" / "summary.json").read_text(encoding="utf-8"))
    assert [row["ok"] for row in summary] == [False, True] and summary[0]["claims"] == 1
    assert set(summary[1]) == {"name", "ok", "seconds", "peak_mb", "claims", "cells"}
    assert "division by zero" in (tmp_path / "pages" / "index.html").read_text(encoding="utf-8")


def test_a_kernel_that_does_not_start_fails_its_notebook_alone(tmp_path, monkeypatch):
    def wait(client):
        assert client.startup_timeout >= 600, "a busy machine takes minutes to start a kernel"
        raise RuntimeError("Kernel didn't respond in 600 seconds")

    monkeypatch.setattr("nbclient.NotebookClient.start_new_kernel", lambda client, **_: None)
    monkeypatch.setattr("nbclient.NotebookClient.start_new_kernel_client", wait)
    result = execute(write(tmp_path / "05_x.ipynb", "1"))
    assert not result.ok and result.error == "the kernel did not start: Kernel didn't respond in 600 seconds"


def test_processes_that_a_cell_starts_have_minutes_on_a_busy_machine_and_end_before_the_cell_does():
    assert TIMEOUT / 2 < inspect.signature(launch).parameters["timeout"].default < TIMEOUT


@pytest.mark.slow
def test_two_run_side_by_side_and_the_first_page_is_there_while_the_second_runs(tmp_path):
    page = tmp_path / "pages" / "05_x.html"
    meet = (
        "import pathlib, time\nfor _ in range(600):\n    time.sleep(0.1)\n    if pathlib.Path({!r}).exists(): break\n"
    )
    ends = "else: raise TimeoutError"
    here, there = str(tmp_path / "here"), str(tmp_path / "there")
    sleeps = "import os\nassert os.environ['GOMP_SPINCOUNT'] == '0', 'threads that wait would steal time'"
    first = write(tmp_path / "05_x.ipynb", sleeps, f"open({here!r}, 'w').close()", meet.format(there) + ends)
    second = write(tmp_path / "06_y.ipynb", f"open({there!r}, 'w').close()", meet.format(str(page)) + ends)
    assert main(["run", str(first), str(second), "--pages", str(page.parent), "--jobs", "2"]) == 0
    assert [row["name"] for row in json.loads((page.parent / "summary.json").read_text("utf-8"))] == ["05_x", "06_y"]


@pytest.mark.slow
def test_ctrl_c_ends_the_kernels_and_keeps_what_has_run(tmp_path):
    sleep = "import os, pathlib, time\npathlib.Path(f'pid-{os.getpid()}').touch()\ntime.sleep(300)"
    paths = [write(tmp_path / "05_x.ipynb", "1"), *(write(tmp_path / f"0{n}_y.ipynb", sleep) for n in (6, 7, 8))]
    command = [sys.executable, "-m", "llmnotes.cli", "run", *map(str, paths), "--pages", "pages", "--jobs", "2"]
    # Whoever runs the tests in the background of a shell ignores Ctrl-C, and children would, too.
    heard = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    with started(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True, preexec_fn=heard) as process:
        for _ in range(10 * SECONDS):
            if len(pids := list(tmp_path.glob("pid-*"))) == 2 and (tmp_path / "pages" / "summary.json").exists():
                break
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=SECONDS)
    assert process.returncode == 130 and "Stopped after 1 of 4" in said and "Traceback" not in said, said
    assert not any(psutil.pid_exists(int(pid.name[4:])) for pid in pids) and len(pids) == 2
    assert not list(tmp_path.glob("*8_y.html")) and (tmp_path / "pages" / "05_x.html").exists()


def test_a_file_that_is_no_notebook_gives_one_sentence(tmp_path, capsys):
    (tmp_path / "broken.ipynb").write_text("{", encoding="utf-8")
    for path in (tmp_path / "none.ipynb", tmp_path, tmp_path / "broken.ipynb"):
        assert main(["run", str(path)]) == 2
        captured = capsys.readouterr()
        assert captured.err.strip().count("\n") == 0 and "Traceback" not in captured.err and captured.out == ""


@pytest.mark.slow
def test_a_relative_model_folder_means_the_same_in_the_kernel(tmp_path, monkeypatch):
    (tmp_path / "model").mkdir()
    (tmp_path / "notebooks").mkdir()
    source = "import os\nassert os.path.isdir(os.environ['LLMNOTES_MODEL'])"
    path = write(tmp_path / "notebooks" / "05_x.ipynb", source)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LLMNOTES_MODEL", "model")
    assert execute(path).ok


@pytest.mark.slow
def test_pages_need_no_network_and_show_plotly(tmp_path):
    plot = (
        "from IPython.display import display\n"
        "display({'application/vnd.plotly.v1+json': {'data': [{'y': [1, 3]}], 'layout': {}}, 'text/plain': 'a line'},"
        " raw=True)"
    )
    prose = "# 05 · Test\n\nThe **temperature** is a number. See [next](06_y.ipynb)."
    paths = [
        write(tmp_path / "05_x.ipynb", plot, "print('</script>')", markdown=[prose]),
        write(tmp_path / "06_y.ipynb", "1", markdown=["# 06 · Next\n\nNothing."]),
    ]
    first, second = map(execute, paths)
    site = Site(tmp_path / "pages", paths)
    site.add(first)
    assert "not run yet" in site.index.read_text(encoding="utf-8")
    site.add(second)
    index = site.index
    for page in index.parent.glob("*.html"):
        text = page.read_text(encoding="utf-8")
        assert not re.search(r'(src|href)="(https?:)?//', text.replace("https://github.com", "")), page
    text = (index.parent / "05_x.html").read_text(encoding="utf-8")
    assert 'src="plotly.min.js"' in text and "Plotly.newPlot" in text and 'href="06_y.html"' in text
    assert (index.parent / "plotly.min.js").stat().st_size > 1_000_000
    assert '<a href="glossary.html#temperature">temperature</a>' in text
    assert '<dt id="temperature">' in (index.parent / "glossary.html").read_text(encoding="utf-8")
    assert "05 · Test" in index.read_text(encoding="utf-8") and "05_x" in table([first, second])


def shown(tmp_path, *cells, solutions=None):
    """The page of a lesson with these cells, which are not run."""
    path = tmp_path / "04_x.ipynb"
    notebook = v4.new_notebook(cells=[v4.new_markdown_cell("# 04 · Test"), *cells])
    nbformat.write(notebook, path)
    if solutions is not None:
        (tmp_path / "solutions").mkdir()
        nbformat.write(solutions, tmp_path / "solutions" / path.name)
    site = Site(tmp_path / "pages", [path])
    site.add(Result("04_x", True, 1.0, 1, 0, 1, "", notebook))
    return (site.folder / "04_x.html").read_text(encoding="utf-8")


def test_a_page_shows_formulas_as_mathml_and_leaves_money_and_code_alone(tmp_path):
    text = "It costs $5, or $6 with `$x$`.\n\n$$\\text{rms}(x) = \\sqrt{d}$$\n\nIn $d_*$ and $e^*$.\n\n    $y$"
    page = shown(tmp_path, v4.new_markdown_cell(text))
    assert "costs $5, or $6 with <code>$x$</code>" in page and "<code>$y$" in page
    assert page.count("<math") == 3 and '<div class="formula"><math' in page and "<script" not in page
    assert "<msqrt>" in page and "formula0x" not in page


def test_a_formula_may_stand_in_a_fold_and_in_a_quote():
    text = "> $$x = 1,\n> y = 2$$\n\n<details><p>It is $\\ln p$.</p></details>"
    assert [latex for latex, _ in formulas(text)] == ["x = 1,\ny = 2", "\\ln p"]
    assert re.fullmatch(r"> x7formula0x\n\n<details><p>It is x7formula1x.</p></details>", set_aside(text, 7)[0])


def test_a_formula_that_cannot_be_read_is_said_and_shown_as_it_is(tmp_path):
    for wrong in (r"\foo{x}", r"\frac{1", "a & b"):
        with pytest.raises(ValueError, match=re.escape(wrong)):
            mathml(wrong)
    assert r"<code>\foo{x}</code>" in shown(tmp_path, v4.new_markdown_cell(r"Here: $\foo{x}$"))


def test_a_picture_and_its_caption_are_one_figure_without_code(tmp_path):
    caption = '<p><em>Two <code>a</code>.</em><span role="img" aria-label="A dot &amp; more"></span></p>'
    outputs = [
        v4.new_output("display_data", {"image/png": "aa"}, metadata={"image/png": {"alt": 'A "dot"', "width": 86}}),
        v4.new_output("display_data", {"text/html": caption, "text/plain": "Two a."}),
    ]
    cell = v4.new_code_cell("figures.dot()", outputs=outputs, metadata={"tags": ["hide-input"]})
    page = shown(tmp_path, cell, v4.new_code_cell("visible"))
    assert re.search('<figure><img [^>]*width="86"[^>]*><figcaption>Two <code>a</code>.</figcaption></figure>', page)
    assert 'A "dot"' in page.replace("&quot;", '"')
    assert "figures" not in page and "visible" in page and 'role="img"' not in page


def test_links_lead_to_pages_with_their_anchors_and_to_the_solutions(tmp_path):
    text = "[a](#04.3) [b](04_x.ipynb#04.3) [c](solutions/04_x.ipynb)"
    back = v4.new_notebook(cells=[v4.new_markdown_cell("# S\n\n[d](../04_x.ipynb#04.3)")])
    page = shown(tmp_path, v4.new_markdown_cell(text), solutions=back)
    assert re.findall(r'<a href="([^"]+)">[abc]<', page) == ["#04.3", "04_x.html#04.3", "solutions/04_x.html"]
    solutions = (tmp_path / "pages" / "solutions" / "04_x.html").read_text(encoding="utf-8")
    assert 'href="../04_x.html#04.3"' in solutions and 'href="../index.html"' in solutions


@pytest.mark.slow
def test_costs_are_kept_and_others_stay(tmp_path, monkeypatch):
    monkeypatch.setattr("llmnotes.course.COSTS", tmp_path / "costs.json")
    monkeypatch.setattr("llmnotes.course.run.COSTS", tmp_path / "costs.json")
    for name in ("06_y", "05_x"):
        save_costs([execute(write(tmp_path / f"{name}.ipynb", "1"))])
    assert list(costs()) == ["05_x", "06_y"] and costs()["05_x"]["seconds"] >= 1


def test_the_root_is_found_from_below_and_missed_from_elsewhere(tmp_path):
    folder = root()
    assert notebooks(folder)[0].name == "00_start_here.ipynb" and root(folder / "notebooks" / "solutions") == folder
    with pytest.raises(UnknownName, match="llmnotes start"):
        root(tmp_path)


FAULTS = {
    "no level": lambda nb: nb.metadata.pop("level"),
    "no title “# NN": lambda nb: nb.cells[0].update(source="# Start"),
    "is called “Start”": lambda nb: nb.cells[0].update(source=nb.cells[0].source.replace("Start here", "Start")),
    "starts with": lambda nb: nb.cells.pop(1),
    "no part “Recap”": lambda nb: [c.update(source=c.source.replace("## Recap", "## End")) for c in nb.cells],
    "sections numbered 1, 3": lambda nb: [c.update(source=c.source.replace("## 00.2", "## Two")) for c in nb.cells],
    "out of order": lambda nb: nb.cells.append(v4.new_markdown_cell("## Exercises")),
    "no further reading": lambda nb: [c.update(source=c.source.replace("Further", "More")) for c in nb.cells],
    "outdated generated cell": lambda nb: nb.cells[2].update(source="pass"),
    "outdated generated cell ['hide-input']": lambda nb: nb.cells[3].metadata.update(tags=["hide-input"]),
    "no last cell with links": lambda nb: nb.cells.pop(),
    "does not hold exercise": lambda nb: [c.metadata.update(tags=[]) for c in nb.cells[4:]],
    "of 16 lines, more than 15": lambda nb: nb.cells[3].update(source="\n".join(["1"] * 16)),
    "no execution count": lambda nb: nb.cells[2].update(execution_count=None),
    "holds an error": lambda nb: nb.cells[2].outputs.append(v4.new_output("error", ename="E", evalue="", traceback=[])),
    "writes to stderr": lambda nb: nb.cells[2].outputs.append(v4.new_output("stream", name="stderr", text="oh")),
    "path of one machine": lambda nb: nb.cells[2].outputs.append(v4.new_output("stream", text="/home/ada/x")),
    "address of an object": lambda nb: nb.cells[2].outputs.append(v4.new_output("stream", text="<x at 0x7f00aa11bb>")),
    "runs a shell command": lambda nb: nb.cells[3].update(source="!ls"),
    "without alt text": lambda nb: nb.cells[2].outputs.append(v4.new_output("display_data", {"image/png": "aa"})),
    "is not Python": lambda nb: nb.cells[3].update(source="print("),
    "nbval ignores": lambda nb: [c.metadata.update(tags=["nbval-skip"]) for c in nb.cells[5:] if c.cell_type == "code"],
    "makes no claim": lambda nb: [c.update(source=c.source.replace("claim(", "f(")) for c in nb.cells],
    "says “simply”": lambda nb: nb.cells.append(v4.new_markdown_cell("It is simply so.")),
    "larger than 1.2 MB": lambda nb: nb.cells[2].outputs.append(v4.new_output("stream", text="x" * 1_200_001)),
    "saved widget state": lambda nb: nb.metadata.update(widgets={}),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_the_anatomy_notices(fault):
    notebook = nbformat.read(notebooks(root())[0], as_version=4)
    assert lint(notebook, "00_start_here") == []
    FAULTS[fault](notebook)
    assert any(fault in sentence for sentence in lint(notebook, "00_start_here"))


def test_the_anatomy_notices_lines_that_a_page_cuts_off(monkeypatch):
    monkeypatch.setattr("kit.anatomy.OLDER", set())
    notebook = nbformat.read(notebooks(root())[0], as_version=4)
    notebook.cells[3].update(source="x" * 151)
    assert any("line of 151 letters" in sentence for sentence in lint(notebook, "00_start_here"))


@pytest.mark.parametrize("path", notebooks(root()), ids=lambda path: path.stem)
def test_filling_twice_changes_nothing(path):
    notebook = nbformat.read(path, as_version=4)
    once = nbformat.writes(notebook)
    fill(notebook, path.stem)
    assert nbformat.writes(notebook) == once


FOLDS = {
    "<details><summary><b>A</b></summary><p>b</p></details>": "",
    "<details><summary>A</summary>\n\nb\n\n</details>": "not one block",
    "> <details><summary>A</summary>\n>\n> b</details>": "not one block",
    "> **Predict.** a or b?\n>\n> <details><summary>Answer</summary><p>a</p></details>": "",
    "> **Predict.** a or b?\n\nIt is a.": "prediction whose answer is not folded",
    "### Predict\n\na or b?": "prediction whose answer is not folded",
}


@pytest.mark.parametrize("text", FOLDS)
def test_the_anatomy_notices_folds_that_stand_open(text):
    notebook = v4.new_notebook(cells=[v4.new_markdown_cell(text)])
    found = list(folds(notebook, "04_x"))
    assert bool(found) == bool(FOLDS[text]) and all(FOLDS[text] in sentence for sentence in found)


TWICE = {  # cells, and the name that one of them would find changed
    ("x = 1", "print(x)", "x = 2"): "x",
    ("x = 1", "x = 2", "print(x)"): "",
    ("x = 1", "x = x + 1"): "x",
    ("x = 1", "x += 1"): "x",
    ("x = 1", "def f():\n    return x", "f()", "x = 2"): "x",
    ("x = 1", "for x in range(3):\n    print(x)", "y = [x for x in range(3)]\nprint(y)"): "",
    ("x = 1", "y = {k: x for k in range(3)}", "for x in y:\n    print(x)"): "x",
    ("import numpy as x", "x.ones(1)", "def x(): pass"): "x",
    ("my_guess = None", "print(my_guess)", "my_guess = None"): "",
    ("x = 1\nprint(x)", "x = 2\nprint(x)", "f = lambda x: x\n%time x = 3"): "",
    ("def f(x):\n    y = x\n    return y", "y = 1", "print(f(y))", "x = 1"): "",
}


@pytest.mark.parametrize("cells", TWICE)
def test_the_anatomy_notices_a_name_that_comes_to_mean_another_thing(cells):
    notebook = v4.new_notebook(cells=[v4.new_code_cell(cell) for cell in cells])
    faults = list(repeatable(notebook, "04_x"))
    assert len(faults) == bool(TWICE[cells]) and all(f" reads {TWICE[cells]} of" in fault for fault in faults), faults
    assert list(repeatable(notebook, "17_x")) == []


def test_an_exercise_may_bind_a_name_again():
    cells = [v4.new_code_cell(cell) for cell in ("def f(): pass", "f()", "def f(): ...\n\n\nf = take('04.1', f)")]
    cells[2].metadata.tags = ["exercise-04.1"]
    assert list(repeatable(v4.new_notebook(cells=cells), "04_x")) == []


REFERENCES = {
    "as 06.7 and (01.2) show": "as [06.7](#06.7) and ([01.2](01_tokens.ipynb#01.2)) show",
    "Section 14.7, not 14.7": "Section [14.7](14_quantizing_a_model.ipynb#14.7), not 14.7",
    "notebook 11, or\nlesson 04.": "[notebook 11](11_model_files.ipynb), or\n[lesson 04](04_attention.ipynb).",
    "[06.7](#7), [x](04_attention.ipynb#2)": "[06.7](#06.7), [x](04_attention.ipynb#04.2)",
    "> <details><p>see 06.7</p></details>": '> <details><p>see <a href="#06.7">06.7</a></p></details>',
    "## 06.7 What": "## 06.7 What",
    "`06.7` $06.7$ exercise 06.7, 106.7, 06.71.2, 10.06.7": "`06.7` $06.7$ exercise 06.7, 106.7, 06.71.2, 10.06.7",
    "    06.7 in code": "    06.7 in code",
    "this notebook 06": "this notebook 06",
    "section 3.2, in 2009.04": "section 3.2, in 2009.04",
}


@pytest.mark.parametrize("text", REFERENCES)
def test_references_become_links_once(text):
    once = link_references(text, "06_one_token_through_pebble", {"14.7"})
    assert once == REFERENCES[text] and link_references(once, "06_one_token_through_pebble", {"14.7"}) == once


def test_a_quantity_is_no_reference():
    text = "14.7 shows it: 14.3 MB, 14.2% and 14.8"
    shown = "[14.7](../14_quantizing_a_model.ipynb#14.7) shows it: 14.3 MB, 14.2% and 14.8"
    assert link_references(text, "14_quantizing_a_model", {"14.7", "14.3", "14.2"}, folder="../") == shown


def test_sections_have_anchors_and_the_contents_lead_to_them():
    text = '<a id="1"></a>\n## 04.1 Why `x`?\n\nText.\n\n## 04.2 And\n\n## Recap'
    once = anchored(text, "04")
    assert once.count("<a id=") == 3 and '<a id="04.1"></a>\n## 04.1 ' in once and anchored(once, "04") == once
    assert contents(once, "04") == "[1 Why x?](#04.1) · [2 And](#04.2) · [Recap](#04.recap)"


def test_lessons_that_are_not_there_are_one_sentence(monkeypatch, tmp_path):
    with pytest.raises(UnknownName, match="The lesson 99_none is in no part; enter it into PARTS"):
        part_of("99_none")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(CannotWrite, match="cannot be written .*; give a folder of your own"):
        copy_lessons(tmp_path / "file" / "course")
    full = shutil.Error([("a.ipynb", "b.ipynb", "[Errno 28] No space left on device: 'b.ipynb'")])
    with monkeypatch.context() as patch, pytest.raises(CannotWrite, match="No space left on device.*; give a folder"):
        patch.setattr(shutil, "copytree", lambda *arguments, **how: (_ for _ in ()).throw(full))
        copy_lessons(tmp_path / "course")
    monkeypatch.setattr(course, "FIRST", "none.ipynb")
    with pytest.raises(UnknownName, match="came without its lessons; install it again with pip"):
        lessons()
