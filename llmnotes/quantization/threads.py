"""Loops that numba turns into machine code when they are first called, and threads that share the work."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache, wraps

from llmnotes.errors import MissingPart

THREADS = os.cpu_count() or 1


def compiled_when_called(function: Callable) -> Callable:
    """Return `function`, compiled on its first call; `function.__wrapped__` is the same in plain Python.

    Arithmetic keeps IEEE 754's rules, in the order in which it is written (no fast math), and a division by zero
    gives infinity, so results are those of C. The machine code is kept beside the module for the next start.

    Raises `MissingPart` on the first call where numba is not installed.

    >>> compiled_when_called(lambda a, b: a + b).__wrapped__(1, 2)
    3
    """

    made = cache(lambda: machine_code(function))

    @wraps(function)
    def call(*args):
        return made()(*args)

    return call


def machine_code(function: Callable) -> Callable:
    """Return `function` as numba's, which compiles it for the types of its arguments; it runs without Python's lock.

    Raises `MissingPart` where numba is not installed.
    """
    try:
        import numba
    except ImportError:
        raise MissingPart('numba is missing; bring it with: python -m pip install "llmnotes[course]"') from None
    try:
        return numba.njit(cache=True, nogil=True, error_model="numpy")(function)
    except RuntimeError:  # there is no folder in which the machine code may be kept
        return numba.njit(nogil=True, error_model="numpy")(function)


def in_threads(work: Callable[[int, int], object], count: int, threads: int = THREADS) -> list:
    """Return what `work(start, stop)` gives for 0..`count`, cut into one stretch for each thread.

    >>> in_threads(lambda start, stop: (start, stop), 5, threads=2)
    [(0, 2), (2, 5)]
    """
    threads = max(1, min(threads, count))
    edges = [count * i // threads for i in range(threads + 1)]
    if threads == 1:
        return [work(0, count)]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(work, edges[:-1], edges[1:]))
