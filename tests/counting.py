"""How much work a call is, counted and not timed: the count is the same on every machine, however busy it is."""

import sys


def calls(function) -> int:
    """Return how many functions, Python's and C's, `function` calls, itself included."""
    count = 0

    def note(frame, event, argument) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(note)
    try:
        function()
    finally:
        sys.setprofile(None)
    return count
