"""claim(): a statement in a notebook that the code checks while you read it."""

from collections.abc import Callable
from dataclasses import dataclass

from llmnotes.errors import ClaimFailed


@dataclass(frozen=True)
class Claim:
    """A statement and its result: `held` is True, or None where the statement does not apply."""

    statement: str
    held: bool | None


_ledger: list[Claim] = []


def claim(statement: str, holds: bool | Callable[[], bool], *, when: bool = True) -> None:
    """Print `statement` with a tick if `holds`, and raise if it does not.

    `holds` is a truth value, or a function without arguments that returns one; a function is called only
    where `when` is true. With `when=False` (the statement is about Pebble, and another model is open, say)
    the statement is printed with a dash and counts neither as held nor as broken.

    Raises `ClaimFailed` if the statement does not hold, `TypeError` if `holds` has no single truth value
    (an array with several elements, say: end the comparison with `.all()`).

    Does not compare numbers for you: write the tolerance into the comparison, where the reader sees it.

    >>> claim("Two and two make four", 2 + 2 == 4)
    ✓ Two and two make four
    """
    if not when:
        _ledger.append(Claim(statement, None))
        print(f"– {statement} (not checked here)")
        return
    value = holds() if callable(holds) else holds
    try:
        held = bool(value)
    except (ValueError, RuntimeError) as error:
        raise TypeError(f"The claim “{statement}” has no single truth value; end it with .all() or .any().") from error
    if not held:
        raise ClaimFailed(
            f"This does not hold here: {statement}. Run the notebook from its first cell, and if it "
            "still fails, report it: a claim that fails is a defect of the course."
        )
    _ledger.append(Claim(statement, True))
    print(f"✓ {statement}")


def ledger() -> list[Claim]:
    """Return a copy of the list of claims made so far in this process, in order.

    >>> claim("One is odd", 1 % 2 == 1)
    ✓ One is odd
    >>> ledger()[-1]
    Claim(statement='One is odd', held=True)
    """
    return list(_ledger)
