"""Whether a cell may be run again after the end of a lesson: it must find the names that it found the first time."""

import ast
import contextlib
import re
from collections.abc import Iterator

from nbformat import NotebookNode

from llmnotes.course import source, tags

FREE = {"my_guess", "_"}  # what a reader types before a prediction is read in the next cell only
Scope = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


class Names(ast.NodeVisitor):
    """The names of one cell: those it binds, those it reads from other cells, and what its functions read."""

    def __init__(self, cell: str) -> None:
        self.bound: set[str] = set()
        self.read: set[str] = set()
        self.functions: dict[str, set[str]] = {}
        with contextlib.suppress(SyntaxError):  # that is another rule's
            self.visit(ast.parse(re.sub(r"(?m)^(\s*)%.*$", r"\1pass", cell)))  # a line with a % is for IPython

    def visit_Name(self, node: ast.Name) -> None:  # noqa: N802 (the names are ast's)
        if isinstance(node.ctx, ast.Load):
            self.read |= {node.id} - self.bound
        else:
            self.bound.add(node.id)

    def visit_Assign(self, node: ast.Assign) -> None:  # noqa: N802
        for part in (node.value, *node.targets):
            self.visit(part)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:  # noqa: N802
        if isinstance(node.target, ast.Name):
            self.read |= {node.target.id} - self.bound
        for part in (node.value, node.target):
            self.visit(part)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:  # noqa: N802
        for part in (node.value, node.target):
            if part is not None:
                self.visit(part)

    def visit_For(self, node: ast.For) -> None:  # noqa: N802
        for part in (node.iter, node.target, *node.body, *node.orelse):
            self.visit(part)

    def visit_Import(self, node: ast.Import | ast.ImportFrom) -> None:  # noqa: N802
        self.bound |= {(name.asname or name.name).partition(".")[0] for name in node.names}

    visit_ImportFrom = visit_Import

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> None:  # noqa: N802
        self.bound |= {node.name} if node.name else set()
        self.generic_visit(node)

    def visit_FunctionDef(self, node: Scope) -> None:  # noqa: N802
        outside = [*node.decorator_list, *(node.bases if isinstance(node, ast.ClassDef) else _defaults(node.args))]
        for part in outside:
            self.visit(part)
        self.bound.add(node.name)
        self.functions[node.name] = _reads(node)

    visit_AsyncFunctionDef = visit_ClassDef = visit_FunctionDef

    def visit_Lambda(self, node: ast.Lambda) -> None:  # noqa: N802
        self.read |= _reads(node) - self.bound

    def visit_ListComp(self, node: ast.expr) -> None:  # noqa: N802
        self.read |= _reads(node) - self.bound

    visit_SetComp = visit_DictComp = visit_GeneratorExp = visit_ListComp


def _defaults(arguments: ast.arguments) -> list[ast.expr]:
    return [*arguments.defaults, *(default for default in arguments.kw_defaults if default)]


def _reads(node: ast.AST) -> set[str]:
    """Return the names that a function, class or comprehension reads from outside: those it does not bind itself."""
    names = [part for part in ast.walk(node) if isinstance(part, ast.Name)]
    own = {name.id for name in names if not isinstance(name.ctx, ast.Load)}
    own |= {part.arg for part in ast.walk(node) if isinstance(part, ast.arg)}
    own |= {part.name for part in ast.walk(node) if isinstance(part, Scope)}
    return {name.id for name in names} - own


def not_twice(notebook: NotebookNode) -> Iterator[str]:
    """Yield what would differ if a cell ran again after the end: names that mean something else by then.

    An exercise may bind a name that the lesson had before: it is the same function, written by the reader.
    """
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    cells = [Names(source(cell)) for cell in code]
    exercises = [any(tag.startswith("exercise") for tag in tags(cell)) for cell in code]
    free = FREE.union(*(cell.bound for cell, exercise in zip(cells, exercises, strict=True) if exercise))
    functions: dict[str, set[str]] = {}
    binders: dict[str, list[int]] = {}
    for place, cell in enumerate(cells):
        functions |= cell.functions
        for name in cell.bound - free:
            binders.setdefault(name, []).append(place)
    for place, cell in enumerate(cells):
        for name in sorted(_through(cell.read, functions, cell.bound)):
            before = [other for other in binders.get(name, []) if other < place]
            if before and before[-1] != binders[name][-1]:
                yield (
                    f"cannot run code cell {place + 1} again after the end: it reads {name} of cell {before[-1] + 1}, "
                    f"and cell {binders[name][-1] + 1} gives that name to another thing"
                )


def _through(read: set[str], functions: dict[str, set[str]], bound: set[str]) -> set[str]:
    """Return the names in `read`, and those that the functions among them read."""
    found, new = set(read), set(read)
    while new:
        new = {name for function in new for name in functions.get(function, ())} - found - bound
        found |= new
    return found
