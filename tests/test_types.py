"""The package is built in layers: what a module imports stands in its own layer or below it, and nothing goes round."""

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

from .conftest import ROOT

PACKAGE = ROOT / "llmnotes"

# The order of CONTRIBUTING, lowest first. A module belongs to the entry with the longest name that begins its own.
LAYERS = (
    ("parts",),
    ("errors", "cache_name", "claims", "hardware", "home", "packing", "training"),
    ("word_lists",),
    ("attention", "embeddings"),
    ("quantization",),
    ("formats",),
    ("pebble",),
    ("evaluation", "little"),
    ("llama_cpp",),
    ("fit",),
    ("models",),
    ("tokens",),
    ("quantization.models",),
    ("finetuning", "serving", "vision"),
    ("exercises", "plots", "course"),
    ("cli",),
    ("", "__main__"),
)
HEIGHT = {name: height for height, layer in enumerate(LAYERS) for name in layer}


def modules() -> dict[str, Path]:
    """The file of every module, by the module's name below `llmnotes`: "" is the package itself."""
    named = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        named[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return named


def height(module: str) -> int:
    """The layer of a module; KeyError for a module that the order does not name."""
    parts = module.split(".")
    for length in range(len(parts), 0, -1):
        found = HEIGHT.get(".".join(parts[:length]))
        if found is not None:
            return found
    raise KeyError(module)


def imports(tree: ast.AST, module: str, is_package: bool, known: dict[str, Path]) -> list[tuple[int, str]]:
    """(line, module) for each import of llmnotes anywhere in a module, those inside functions included."""
    package = module.split(".") if module else []
    if not is_package:
        package = package[:-1]
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            full = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            stem = node.module.split(".") if node.module else []
            if node.level:
                stem = ["llmnotes", *package[: len(package) + 1 - node.level], *stem]
            # `from llmnotes.x import y` may import the module y or a name in x.
            full = []
            for alias in node.names:
                deeper = ".".join([*stem, alias.name])
                full.append(deeper if deeper.removeprefix("llmnotes.") in known else ".".join(stem))
        else:
            continue
        for name in full:
            if name == "llmnotes" or name.startswith("llmnotes."):
                found.append((node.lineno, name.removeprefix("llmnotes").removeprefix(".")))
    return found


def all_imports(known: dict[str, Path]) -> dict[str, list[tuple[int, str]]]:
    found = {}
    for module, path in known.items():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        found[module] = imports(tree, module, path.name == "__init__.py", known)
    return found


def test_imports_point_down():
    known = modules()
    upward = [
        f"{known[module].relative_to(ROOT)}:{line} imports llmnotes.{target}"
        for module, targets in all_imports(known).items()
        for line, target in targets
        if height(target) > height(module)
    ]
    assert not upward, "\n".join(upward)


def test_no_modules_import_each_other_in_a_circle():
    known = modules()
    graph = {
        module: {target for _, target in targets if target in known and target != module}
        for module, targets in all_imports(known).items()
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        raise AssertionError(" imports ".join(reversed(error.args[1]))) from None


def unannotated(tree: ast.AST, within_class: bool = False) -> Iterator[str]:
    """The public functions whose arguments or results have no type; a method's first argument needs none."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from unannotated(node, within_class=True)
        elif isinstance(node, ast.If | ast.Try | ast.With):
            yield from unannotated(node, within_class)
        elif isinstance(node, ast.FunctionDef) and (not node.name.startswith("_") or node.name == "__init__"):
            static = any(isinstance(mark, ast.Name) and mark.id == "staticmethod" for mark in node.decorator_list)
            arguments = [*node.args.posonlyargs, *node.args.args][within_class and not static :]
            arguments += [*node.args.kwonlyargs, *filter(None, (node.args.vararg, node.args.kwarg))]
            if any(argument.annotation is None for argument in arguments):
                yield f"{node.name}: an argument"
            if node.returns is None and node.name != "__init__":
                yield f"{node.name}: its result"


def test_every_public_function_says_what_it_takes_and_returns():
    missing = {
        name: found
        for name, path in modules().items()
        if (found := list(unannotated(ast.parse(path.read_text("utf-8")))))
    }
    assert missing == {}
