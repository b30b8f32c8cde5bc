"""Run notebooks from top to bottom, each in a fresh kernel, and measure what they cost."""

import asyncio
import copy
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed, wait
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat

from llmnotes.course import COSTS, claims, costs, environment

TIMEOUT = 600  # seconds for one cell: far beyond any cell of the course, short enough to end a cell that hangs
LAST_WORDS = """\
import json as _json
from llmnotes.claims import ledger as _ledger
from llmnotes.hardware import peak_memory as _peak
print(_json.dumps({"held": sum(bool(c.held) for c in _ledger()), "peak": _peak()}))
"""


@dataclass(frozen=True)
class Result:
    """One notebook after its run: wall seconds, peak memory of its kernel in MB, claims that held, code cells."""

    name: str
    ok: bool
    seconds: float
    peak_mb: int
    claims: int
    cells: int
    error: str
    notebook: nbformat.NotebookNode

    def as_dict(self) -> dict:
        """Return the figures without the notebook, ready for JSON."""
        names = ("name", "ok", "seconds", "peak_mb", "claims", "cells")
        return {name: getattr(self, name) for name in names} | ({"error": self.error} if self.error else {})


def execute_all(paths: list[Path], jobs: int = 1, bar: Any = None) -> Iterator[tuple[Path, Result]]:
    """Run notebooks, `jobs` of them side by side, and yield each with its result as soon as that is there.

    `bar` is a tqdm bar that moves by one for each cell. What a notebook costs is measured with `jobs=1`: neighbours
    take time from each other. Stopped by Ctrl-C, or by a caller that wants no more, it ends the kernels first.

    Beside a neighbour, OpenMP threads that wait sleep at once: if they spun, as they do alone, quantizing would take
    seven times as long.
    """
    clients: list[Any] = []
    variables = {"GOMP_SPINCOUNT": "0"} if jobs > 1 else {}
    with ThreadPoolExecutor(jobs) as pool:
        futures = {pool.submit(_execute_in_thread, path, bar, clients, variables): path for path in paths}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BaseException:
            for future in futures:
                future.cancel()
            while wait(futures, timeout=0.2).not_done:  # a kernel may be starting, so we look again
                for client in clients:
                    _kill(client)
            raise


def _execute_in_thread(path: Path, bar: Any, clients: list[Any], variables: dict[str, str]) -> Result:
    """Run a notebook in a thread that is not the main one, whose event loop nobody else would close."""
    from jupyter_core.utils import ensure_event_loop

    loop = ensure_event_loop()
    try:
        return execute(path, bar, clients, variables)
    finally:
        asyncio.set_event_loop(None)
        loop.close()


def _kill(client: Any) -> None:
    process = getattr(getattr(client.km, "provisioner", None), "process", None)
    if process is not None and process.poll() is None:
        process.kill()


def execute(
    path: Path, bar: Any = None, clients: list[Any] | None = None, variables: dict[str, str] | None = None
) -> Result:
    """Run the notebook at `path` in its own folder and return its result; the file stays as it is.

    A cell that raises ends the run: `ok` is False and `error` says which cell it was. `bar` is a tqdm bar
    that moves by one for each cell; the client that talks to the kernel is appended to `clients`, and
    `variables` are set in the kernel's environment.

    Does not compare the outputs with those that are saved: `pytest --nbval` does.
    """
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

    notebook = nbformat.read(path, as_version=4)
    metadata = copy.deepcopy(notebook.metadata)  # the client adds the version of Python that it meets
    client = NotebookClient(
        notebook,
        timeout=TIMEOUT,
        startup_timeout=TIMEOUT,  # a busy machine needs minutes to start what an idle one starts in a second
        record_timing=False,
        coalesce_streams=True,
        extra_arguments=["--log-level=40"],  # no notices of the kernel itself, only errors
        resources={"metadata": {"path": str(path.parent)}},
    )
    if clients is not None:
        clients.append(client)
    if bar is not None:
        bar.set_description(path.stem)
    error, end, count, start = "", {"held": len(claims(notebook)), "peak": 0}, 0, time.perf_counter()
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for cell in cells:
        cell.outputs, cell.execution_count = [], None
    with ExitStack() as kernel:
        try:
            kernel.enter_context(client.setup_kernel(env=environment() | (variables or {})))
        except RuntimeError as problem:  # what nbclient raises for one that does not answer, or dies at once
            seconds, error = time.perf_counter() - start, f"the kernel did not start: {problem}"
            return Result(path.stem, False, round(seconds, 1), 0, 0, len(cells), error, notebook)
        try:
            for index, cell in enumerate(notebook.cells):
                client.execute_cell(cell, index)
                count += cell.cell_type == "code"
                if bar is not None:
                    bar.update()
            seconds = time.perf_counter() - start
            end = _ask(client)
        except (CellExecutionError, CellTimeoutError, DeadKernelError) as problem:
            seconds = time.perf_counter() - start
            reason = getattr(problem, "evalue", "") or type(problem).__name__
            error = f"code cell {count + 1}: {getattr(problem, 'ename', '')} {reason}".replace("\n", " ")
            end["held"] = len(claims(notebook))
    notebook.metadata = metadata
    peak = round(end["peak"] / 1e6)
    return Result(path.stem, not error, round(seconds, 1), peak, end["held"], len(cells), error, notebook)


def save(result: Result, path: Path) -> None:
    """Write the executed notebook to `path`, through a temporary name; its cells and metadata stay as they were."""
    draft = path.with_suffix(".tmp")
    nbformat.write(result.notebook, draft)
    draft.replace(path)


def save_costs(results: list[Result]) -> None:
    """Keep the measured costs of `results` in the package; others stay as they are. Seconds are rounded up."""
    known = costs()
    for result in results:
        known[result.name] = {"seconds": int(result.seconds) + 1, "peak_mb": round(result.peak_mb, -1)}
    COSTS.write_text(json.dumps(dict(sorted(known.items())), indent=1) + "\n", encoding="utf-8")


def table(results: list[Result]) -> str:
    """Return the results as text: notebook, seconds, peak MB, claims held."""
    lines = [f"{'notebook':<28}{'seconds':>9}{'peak MB':>9}{'claims held':>13}"]
    for result in results:
        lines.append(f"{result.name:<28}{result.seconds:>9.1f}{result.peak_mb:>9}{result.claims:>13}")
        if not result.ok:
            lines.append(f"  FAILED in {result.error}")
    return "\n".join(lines)


def _ask(client) -> dict:
    """Return what the kernel itself knows at the end: claims that held, peak memory in bytes."""
    cell = nbformat.v4.new_code_cell(LAST_WORDS)
    client.nb.cells.append(cell)
    client.execute_cell(cell, len(client.nb.cells) - 1, store_history=False)
    client.nb.cells.pop()
    return json.loads(cell.outputs[0]["text"])
