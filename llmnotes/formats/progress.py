"""A progress bar on terminals for work that takes longer than a second."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def progress(nbytes: int, what: str = "") -> Iterator[Callable[[int], None]]:
    """Yield a function to call with the number of bytes just processed; a bar appears on a terminal after a second."""
    if sys.stderr is None or not sys.stderr.isatty():
        yield lambda count: None
        return
    from tqdm import tqdm

    with tqdm(total=nbytes, desc=what, unit="B", unit_scale=True, delay=1, leave=False, file=sys.stderr) as bar:

        def advance(count: int) -> None:
            bar.update(count)

        yield advance
