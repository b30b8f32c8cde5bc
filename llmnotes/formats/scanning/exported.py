"""Programs that torch.export writes as JSON: expressions that are evaluated, and operators by their names."""

import re
from collections.abc import Iterator
from typing import Any

from llmnotes.formats.scanning.names import CALLS

# Sizes in an exported program are texts that sympy evaluates as Python: s0*2, FloorDiv(Symbol('s0', integer=True), 2).
SYMBOL = re.compile(r"\bSymbol\('\w+'")
EXPRESSION = re.compile(r"[\w\s+\-*/%(),.<>=!&|~]*", re.ASCII)
CALLED = re.compile(r"\b([^\W\d]\w*) ?\(")
ATTRIBUTE = re.compile(r"(?<!\d)\. ?[^\W\d]")
FUNCTIONS = {"abs", "ceiling", "exp", "floor", "log", "round", "sin", "cos", "sqrt", "tan", "and", "or", "not"}
FILE_OPERATORS = {"from_file", "load_library", "save", "load", "import_module", "read_file", "write_file"}


def programs(about: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield a verdict and a sentence for each thing in one object of an exported program that is more than arithmetic.

    >>> list(programs({"expr_str": "FloorDiv(s0, 2)"})), list(programs({"expr_str": "exit()"}))
    ([], [('dangerous', 'has the expression exit(), which is evaluated as Python')])
    """
    expressions = [about.get("expr_str")]
    for key in ("range_constraints", "symbol_name_to_range"):
        if isinstance(about.get(key), dict):
            expressions += list(about[key])
    for text in expressions:
        if isinstance(text, str) and not is_arithmetic(text):
            yield "dangerous", f"has the expression {text[:200]}, which is evaluated as Python"
    target = about.get("target")
    if isinstance(target, str) and "inputs" in about and _runs(target.split(".")):
        yield "dangerous", f"has the operator {target[:200]}"


def is_arithmetic(text: str) -> bool:
    """Return whether an expression has names, numbers, operators and sympy's functions, and nothing else."""
    text = SYMBOL.sub("Symbol(s", " ".join(text.split()))
    if "__" in text or not EXPRESSION.fullmatch(text) or ATTRIBUTE.search(text):
        return False
    return all(name[0].isupper() or name in FUNCTIONS for name in CALLED.findall(text))


def _runs(words: list[str]) -> bool:
    """Return whether the words of an operator's name lead to a function that touches files or calls others."""
    if words[0] in ("_operator", "operator"):
        return words[-1] in ("attrgetter", "call", "itemgetter", "methodcaller")
    if words[0] != "torch" or len(words) < 2:
        return False
    if words[1] == "ops":
        return bool(FILE_OPERATORS & set(words[2:]))
    return words[1] in CALLS["torch"] or bool(FILE_OPERATORS & set(words[1:]))
