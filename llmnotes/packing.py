"""Packing: putting texts of different lengths into rows of one length, so that little of a row is padding."""

from __future__ import annotations

import bisect
from collections.abc import Iterable


def best_fit(lengths: Iterable[int], row_length: int) -> list[list[int]]:
    """Return which items share a row: for each row the places of its items in `lengths`.

    The items are placed in the order they come in. Each goes into the row with the least free space that still holds
    it, or else into a new one. (Best fit; on lengths that fall it is best fit decreasing, which wastes less.) An item
    longer than `row_length` gets a row of its own.

    >>> best_fit([5, 3, 2], row_length=8)
    [[0, 1], [2]]
    """
    rows: list[list[int]] = []
    free: list[tuple[int, int, int]] = []  # (free space, minus the item that left it, row), sorted
    for item, length in enumerate(lengths):
        place = bisect.bisect_left(free, (length,))  # of equal spaces, the one that was left last
        if place < len(free):
            space, _, row = free.pop(place)
        else:
            space, row = row_length, len(rows)
            rows.append([])
        rows[row].append(item)
        if space > length:
            bisect.insort(free, (space - length, -item, row))
    return rows
