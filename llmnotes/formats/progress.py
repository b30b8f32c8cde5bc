"""A progress bar on terminals for work that takes longer than a second."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tqdm import tqdm


def interruptible() -> type[tqdm]:
    """Return tqdm with a lock that Ctrl-C cannot leave half taken; tqdm's own is several, taken in Python code."""
    from tqdm import tqdm

    tqdm.set_lock(threading.RLock())
    return tqdm


@contextmanager
def progress(nbytes: int, what: str = "") -> Iterator[Callable[[int], None]]:
    """Yield a function to call with the number of bytes just processed; a bar appears on a terminal after a second."""
    if sys.stderr is None or not sys.stderr.isatty():
        yield lambda count: None
        return
    look = {"unit": "B", "unit_scale": True, "delay": 1, "leave": False, "file": sys.stderr}
    with interruptible()(total=nbytes, desc=what, **look) as bar:

        def advance(count: int) -> None:
            bar.update(count)

        yield advance
