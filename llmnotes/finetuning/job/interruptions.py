"""What may come from outside while a training runs: a second one for the same output, Ctrl-C, SIGTERM."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from llmnotes.errors import CannotWrite

WINDOWS = os.name == "nt"


class Interrupted(KeyboardInterrupt):
    """A training was asked to stop by the signal `number`."""

    def __init__(self, number: int = signal.SIGINT):
        super().__init__(number)
        self.number = int(number)


@contextmanager
def alone(output: str | Path) -> Iterator[None]:
    """Keep an output to this process: a second training there is refused at once, in this process and in others.

    The lock is a hidden file beside the folder, which the system lets go when the process ends, however it ends.
    Raises `CannotWrite` where another has it, or no file can be made there. Does not see a machine whose network disk
    keeps its locks to itself.

    >>> import tempfile
    >>> with alone(Path(tempfile.mkdtemp()) / "taught"):
    ...     pass
    """
    from filelock import FileLock, Timeout

    folder = Path(output).absolute()
    if not folder.parent.is_dir():
        raise CannotWrite(f"There is no folder {folder.parent} to write into; make it first.")
    path = folder.parent / f".{folder.name}.lock"
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise CannotWrite(
            f"Another training is writing into {output} at the moment; wait for its end, or give another output."
        ) from None
    except OSError as error:
        raise CannotWrite(f"{output} cannot be written ({error.strerror}); choose another output.") from None
    try:
        yield
    finally:
        if WINDOWS:  # it removes no file that is open, be it here or in another process
            lock.release()
        with suppress(OSError):
            path.unlink()
        lock.release()


class Signals:
    """Hears of Ctrl-C and SIGTERM, in a `with`: at once as `Interrupted`, but while it `waits` as a number.

    `received` is the number of the signal that came while it waited, 0 for none; a second one is not waited for.
    Outside the main thread, where Python hears of no signal, it does nothing.
    """

    def __init__(self):
        self.waits, self.received = False, 0
        self._before: dict = {}

    def __enter__(self) -> Signals:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._hear)
        return self

    def __exit__(self, *_: object) -> None:
        for number, old in self._before.items():
            signal.signal(number, old or signal.SIG_DFL)  # None: it was not Python that had set it

    def _hear(self, number: int, frame: object) -> None:
        if not self.waits or self.received:
            raise Interrupted(number)
        self.received = number
