"""A reader opens each notebook in JupyterLab in a real browser: no error, no empty figure.

`pytest --nbval` runs every notebook, and its outputs are those that are saved; so here most are only opened and looked
at. The first three, with plotly's figures among theirs, are run from Lab's own menu, which no other test does. With
LLMNOTES_BROWSER=all, which `make browser` sets, all are.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request

import pytest

from llmnotes.course import notebooks

from .conftest import ROOT

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium on this machine")]
FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --disable-dev-shm-usage"
).split()
SETTINGS = {"windowingMode": "none"}  # every cell is in the page, also those far from the window
STATE = """() => {
  const cells = [...document.querySelectorAll('.jp-CodeCell')];
  const pictures = [...document.querySelectorAll('.jp-RenderedImage img')];
  const plots = [...document.querySelectorAll('.jp-RenderedPlotly')];
  const text = selector => [...document.querySelectorAll(selector)].map(node => node.innerText);
  return {
    cells: cells.length,
    prompts: text('.jp-CodeCell .jp-InputPrompt:not(.jp-Placeholder-prompt)'),
    folded: document.querySelectorAll('.jp-CodeCell .jp-InputPlaceholder').length,
    idle: document.body.innerText.includes('(ipykernel) | Idle'),
    errors: text('[data-mime-type="application/vnd.jupyter.error"], .jp-RenderedText[data-mime-type$="stderr"]'),
    pictures: pictures.length,
    empty: pictures.filter(picture => picture.naturalWidth < 50).length,
    plots: plots.length,
    blank: plots.filter(plot => !plot.querySelector('.main-svg, canvas') || plot.clientHeight < 100).length,
    broken: [...document.querySelectorAll('.jp-MarkdownOutput img')].filter(image => !image.naturalWidth).length,
  };
}"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """The address of a JupyterLab over a copy of the notebooks."""
    folder = tmp_path_factory.mktemp("lab")
    shutil.copytree(ROOT / "notebooks", folder / "notebooks")
    settings = folder / "settings" / "@jupyterlab" / "notebook-extension"
    settings.mkdir(parents=True)
    (settings / "tracker.jupyterlab-settings").write_text(json.dumps(SETTINGS), encoding="utf-8")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = os.environ | {
        "JUPYTERLAB_SETTINGS_DIR": str(folder / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(folder / "workspaces"),
        "JUPYTER_CONFIG_DIR": str(folder / "config"),
        "JUPYTER_RUNTIME_DIR": str(folder / "runtime"),
        "LLMNOTES_HOME": str(folder / "home"),
    }
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}"]
    command += ["--IdentityProvider.token=", "--LabApp.extension_manager=readonly", f"--ServerApp.root_dir={folder}"]
    command += [f"--MappingKernelManager.cull_{what}=15" for what in ("idle_timeout", "interval")]  # of closed pages
    log = (folder / "log").open("w", encoding="utf-8")
    server = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    address = f"http://127.0.0.1:{port}"
    for _ in range(240):
        try:
            urllib.request.urlopen(f"{address}/api", timeout=5).close()
            break
        except OSError:
            time.sleep(0.25)
    yield address
    server.terminate()
    server.wait(30)
    log.close()


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


def run_all_cells(page) -> list[str]:
    """Choose Run All Cells and wait; return the prompts of the cells that are not done after eight minutes."""
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    page.wait_for_function("document.body.innerText.includes('[*]')", timeout=60_000)
    deadline = time.monotonic() + 480  # another test has the other core; what a notebook may cost is tested elsewhere
    was_done = False
    while time.monotonic() < deadline:
        state = page.evaluate(STATE)
        running = [prompt for prompt in state["prompts"] if "*" in prompt or prompt in ("[ ]:", "")]
        done = not running and state["idle"]
        if done and was_done or state["errors"]:
            break
        was_done = done  # look twice: a folded cell has no prompt, and between two cells the kernel is idle, too
        page.wait_for_timeout(500)
    return running


def when_drawn(page, pictures: int) -> dict:
    """The page's state once it shows so many pictures, or after a minute: Lab may draw the last when all has run."""
    deadline = time.monotonic() + 60
    while True:
        state = page.evaluate(STATE)
        drawn = state["pictures"] >= pictures and not state["empty"] and not state["broken"]
        if drawn or time.monotonic() > deadline:
            return state
        page.wait_for_timeout(500)


NOTEBOOKS = notebooks(ROOT)
RUN = NOTEBOOKS if os.environ.get("LLMNOTES_BROWSER") == "all" else NOTEBOOKS[:3]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_reader_sees_every_output_and_no_error(lab, browser, path):
    page = browser.new_page(viewport={"width": 1300, "height": 900})
    page.goto(f"{lab}/lab/tree/notebooks/{path.name}?reset", wait_until="domcontentloaded")
    saved = json.loads(path.read_text(encoding="utf-8"))["cells"]
    cells = sum(cell["cell_type"] == "code" for cell in saved)
    page.wait_for_function(f"document.querySelectorAll('.jp-CodeCell').length >= {cells}", timeout=120_000)
    page.wait_for_function("document.body.innerText.includes('(ipykernel) | Idle')", timeout=60_000)
    running = run_all_cells(page) if path in RUN else []
    for plot in page.query_selector_all(".jp-RenderedPlotly"):  # a picture, until the pointer moves over it
        plot.scroll_into_view_if_needed()
        plot.hover()
        plot.wait_for_selector(".main-svg, canvas")
    bundles = [output.get("data", {}) for cell in saved for output in cell.get("outputs", [])]
    plots = sum("application/vnd.plotly.v1+json" in bundle for bundle in bundles)
    pictures = sum("image/png" in bundle for bundle in bundles) - plots
    state = when_drawn(page, pictures)
    page.close()
    assert state["cells"] == cells
    assert not state["errors"] and not running, (state["errors"], running)
    assert state["empty"] == state["blank"] == state["broken"] == 0, state
    folded = sum(bool({"hide-input", "setup"} & set(cell["metadata"].get("tags", []))) for cell in saved)
    assert state["folded"] == folded
    assert state["plots"] == plots
    assert state["pictures"] == pictures
