"""Threads that share a loop. NumPy, torch, llama.cpp's C and compiled kernels leave Python's lock free meanwhile."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

THREADS = os.cpu_count() or 1


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
