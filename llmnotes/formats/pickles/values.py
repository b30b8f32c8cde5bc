"""The inert values that a pickle is read into, and how they are shown: shortened, and never compared or called."""

from dataclasses import dataclass
from typing import Any


@dataclass(eq=False, slots=True)
class Global:
    """Something that the pickle would import."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(eq=False, slots=True)
class Call:
    """What a call would return: the callee, its arguments, and what the pickle put into the result afterwards."""

    callee: object
    args: object
    state: object = None
    items: dict | None = None
    appended: list | None = None


@dataclass(eq=False, slots=True)
class PersistentId:
    """A reference to something outside the pickle, such as a tensor's storage."""

    id: object


@dataclass(eq=False, slots=True)
class OpaqueKey:
    """A key of a dictionary that is neither a number nor a text. It is never compared, so it is never expensive."""

    value: object


SCALARS = (str, bytes, int, float, type(None))


def mapping(value: Any) -> dict | None:
    """Return the dictionary that `value` is, an ordered one included, or None."""
    if isinstance(value, dict):
        return value
    if isinstance(value, Call) and str(value.callee) in ("collections.OrderedDict", "collections.defaultdict"):
        if value.items is None and isinstance(value.args, tuple) and value.args and isinstance(value.args[0], list):
            pairs = [pair for pair in value.args[0] if isinstance(pair, list | tuple) and len(pair) == 2]
            return {key: item for key, item in pairs if isinstance(key, SCALARS)}
        return value.items or {}
    return None


def plain(value: Any, depth: int = 5, budget: list | None = None) -> Any:
    """Return `value` shortened and made of what JSON has: at most 5 levels, 50 entries in each, 1,000 in all."""
    budget = [1000] if budget is None else budget
    budget[0] -= 1
    if isinstance(value, bool | float | type(None)):
        return value
    if isinstance(value, int):
        return value if value.bit_length() <= 64 else f"a whole number of {value.bit_length():,} bits"
    if isinstance(value, str):
        return value if len(value) <= 200 else value[:199] + "…"
    if isinstance(value, bytes | bytearray):
        return f"{len(value):,} bytes"
    if isinstance(value, Global):
        return f"{value.module[:100]}.{value.name[:100]}"
    if depth == 0 or budget[0] <= 0:
        return "…"
    pairs = mapping(value)
    if pairs is not None:
        few = list(zip(pairs.items(), range(50), strict=False))
        short = {str(plain(key, 0, budget)): plain(item, depth - 1, budget) for (key, item), _ in few}
        return short if len(few) == len(pairs) else {**short, "…": f"{len(pairs) - len(few):,} more"}
    if isinstance(value, list | tuple):
        short = [plain(item, depth - 1, budget) for item in value[:50]]
        return short if len(value) <= 50 else [*short, f"… {len(value) - 50:,} more"]
    if isinstance(value, Call):
        args = value.args if isinstance(value.args, tuple) else (value.args,)
        shown = (repr(plain(item, depth - 1, budget)) for item in args[:5])
        return f"{plain(value.callee, depth - 1, budget)}({', '.join(shown)})"[:500]
    return "a reference" if isinstance(value, PersistentId) else "…"


def show(value: Any, limit: int = 200) -> str:
    """Return `value` as one line of at most `limit` characters."""
    text = plain(value)
    text = text if isinstance(text, str) else repr(text)
    return text if len(text) <= limit else text[: limit - 1] + "…"
