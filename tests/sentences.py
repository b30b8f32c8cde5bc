"""Which error sentences of llmnotes the tests call: with --every-sentence, one that none has called fails the run.

A sentence that was never called can itself be wrong: a name misspelt in it, a value that has no length. So every place
in llmnotes that makes an error a user can cause is called by some test, or stands in `ELSEWHERE` with the reason.
"""

import ast
import json
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from llmnotes import errors

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "llmnotes"
CLASSES = {name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, Exception)}
DEPTH = 6  # how many calls may lie between the place that raises and the class of the error

# (module, function) -> why no test in this process can call the sentences in it
ELSEWHERE: dict[tuple[str, str], str] = {}

called: set[tuple[str, int]] = set()


def watch() -> None:
    """From now on, remember the lines of llmnotes from which an error is made."""

    def made(cls, *args, **kwargs):
        frame = sys._getframe(1)
        for _ in range(DEPTH):
            if frame is None:
                break
            if frame.f_code.co_filename.startswith(str(PACKAGE)):
                called.add((frame.f_code.co_filename, frame.f_lineno))
            frame = frame.f_back
        return Exception.__new__(cls, *args, **kwargs)

    errors.LLMNotesError.__new__ = made  # pyright: ignore[reportAttributeAccessIssue]


def places() -> Iterator[tuple[Path, str, ast.stmt, str]]:
    """Yield (module, function, statement, source) of each place in llmnotes that makes an error a user can cause."""
    for path in sorted(PACKAGE.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        functions = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef)]
        makers = CLASSES | {function.name for function in functions if _makes_an_error(function)} | {"broken"}
        statements = {}  # a statement of a function in a function belongs to the inner one, which comes later
        for function in functions:
            for node in ast.walk(function):
                if isinstance(node, ast.Raise | ast.Return):
                    statements[node] = function.name
        for node, function in statements.items():
            value = node.exc if isinstance(node, ast.Raise) else node.value
            if isinstance(value, ast.Call) and _name(value.func) in makers:
                yield path, function, node, ast.get_source_segment(text, node) or ""


def missing(lines: set[tuple[str, int]]) -> list[str]:
    """Return "file:line function: source" for each place of which none of `lines` is a part."""
    found = []
    for path, function, node, source in places():
        module = path.relative_to(PACKAGE).as_posix()
        span = range(node.lineno, (node.end_lineno or node.lineno) + 1)
        if (module, function) not in ELSEWHERE and not any((str(path), line) in lines for line in span):
            found.append(f"llmnotes/{module}:{node.lineno} {function}: {' '.join(source.split())[:160]}")
    return found


def _makes_an_error(function: ast.FunctionDef) -> bool:
    return function.returns is not None and _name(function.returns) in CLASSES


def _name(node: ast.expr) -> str:
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


class Sentences:
    """The plugin: each process writes down what it has called, the first one adds it all up."""

    def __init__(self, folder: Path):
        self.folder = folder
        watch()

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Fail a run that was green so far for a sentence that nobody called.

        In a red run a worker may have died while it wrote, and its tests may not have run: there the run's own failure
        is what has to be seen.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        whole = self.folder / f"{uuid.uuid4()}.json"
        whole.with_suffix(".part").write_text(json.dumps(sorted(called)), encoding="utf-8")
        whole.with_suffix(".part").rename(whole)
        if hasattr(session.config, "workerinput") or session.exitstatus != pytest.ExitCode.OK:
            return
        lines = {(name, line) for path in self.folder.glob("*.json") for name, line in json.loads(path.read_bytes())}
        self.left = missing(lines)
        if self.left:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter) -> None:
        """List the sentences that nobody called."""
        for line in getattr(self, "left", []):
            terminalreporter.write_line(f"never called: {line}")
