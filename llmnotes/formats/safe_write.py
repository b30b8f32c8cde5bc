"""Write files and folders atomically: they appear under their names only when they are complete."""

import errno
import os
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO

from llmnotes.errors import CannotWrite

_ours: set[Path] = set()  # hidden names that this process is using


@contextmanager
def new_file(path: str | Path) -> Iterator[BinaryIO]:
    """Open a new file for writing; it appears under its name when the block ends well, and never otherwise.

    Where the system can (Linux, most file systems), the file has no name while it is written, so that even a killed
    process leaves nothing. Elsewhere it has a hidden name beside the target, removed on any error.

    Raises `CannotWrite` if the target exists, the folder is missing or may not be written, or the disk is full.
    An existing file is never replaced. Does not wait until the disk has the bytes (no fsync), so it does not protect
    against a power failure.

    >>> import tempfile
    >>> with new_file(Path(tempfile.mkdtemp()) / "a.bin") as file:
    ...     _ = file.write(b"abc")
    """
    with new_files([Path(path)]) as (file,):
        yield file


@contextmanager
def new_files(paths: Sequence[Path]) -> Iterator[list[BinaryIO]]:
    """Open several new files for writing, as `new_file` does; all of them appear when the block ends well, or none.

    The first gets its name last: where it is, the others are too, even if the process is killed between two names.
    """
    with _sentences(paths[0]), ExitStack() as stack:
        opened = []
        for path in paths:
            _refuse_existing(path)
            _sweep(path)
            opened.append((path, *(_unnamed(path.parent) or _hidden(path, stack))))
            stack.callback(opened[-1][1].close)
        yield [file for _, file, _ in opened]
        with ExitStack() as undo:
            for path, file, publish in reversed(opened):
                file.flush()
                publish(path)
                undo.callback(path.unlink, missing_ok=True)
            undo.pop_all()


@contextmanager
def new_folder(path: str | Path) -> Iterator["NewFolder"]:
    """Open a new folder for writing, with `file(name)` for each file in it; it appears whole or not at all.

    The files have no names while they are written (see `new_file`). At the end they are named in a hidden folder
    beside the target, which is then renamed. Raises what `new_file` raises.
    """
    path = Path(path)
    with _sentences(path):
        _refuse_existing(path)
        _sweep(path)
        with ExitStack() as stack:
            folder = NewFolder(path, stack)
            yield folder
            folder.publish()


class NewFolder:
    """A folder that is being written. Only `new_folder` creates it."""

    def __init__(self, path: Path, stack: ExitStack):
        self.path, self.stack = path, stack
        self.files = {}

    @contextmanager
    def file(self, name: str) -> Iterator[BinaryIO]:
        """Open the new file `name` of the folder for writing."""
        file, publish = _unnamed(self.path.parent) or _hidden(self.path, self.stack)
        self.stack.callback(file.close)
        yield file
        file.flush()
        self.files[name] = publish

    def publish(self) -> None:
        """Give every file its name, and the folder last."""
        part = _part(self.path, self.stack)
        self.stack.callback(_remove_folder, part)
        part.mkdir()
        for name, publish in self.files.items():
            publish(part / name)
        _refuse_existing(self.path)
        part.rename(self.path)


def _unnamed(folder: Path):
    """Return a file without a name in `folder` and the function that names it, or None where there is no such thing."""
    if not hasattr(os, "O_TMPFILE") or not Path("/proc/self/fd").is_dir():
        return None
    try:
        handle = os.open(folder, os.O_TMPFILE | os.O_RDWR, 0o666)
    except OSError as error:
        without = (errno.EOPNOTSUPP, errno.ENOSYS, errno.EISDIR, errno.EINVAL, errno.ENOENT)
        if error.errno in without and folder.is_dir():
            return None
        raise
    file = os.fdopen(handle, "w+b")

    def publish(target: Path) -> None:
        # With a folder given, Python asks for the link to be followed, which names the file itself.
        proc = os.open("/proc/self/fd", os.O_RDONLY)
        try:
            os.link(str(handle), target, src_dir_fd=proc, follow_symlinks=True)
        except OSError as error:
            if error.errno == errno.EEXIST:
                raise
            _copy_and_replace(file, target)
        finally:
            os.close(proc)

    return file, publish


def _copy_and_replace(file: BinaryIO, target: Path) -> None:
    """Write what is in `file` under a hidden name beside `target`, and give it that name if nothing has it."""
    import shutil

    with ExitStack() as stack:
        part = _part(target, stack)
        stack.callback(part.unlink, missing_ok=True)
        with open(part, "xb") as copy:
            file.seek(0)
            shutil.copyfileobj(file, copy, 1 << 24)
        _refuse_existing(target)
        os.replace(part, target)


def _hidden(path: Path, stack: ExitStack):
    """Return a file with a hidden name beside `path`, and the function that gives it its own."""
    part = _part(path, stack)
    stack.callback(part.unlink, missing_ok=True)
    file = os.fdopen(os.open(part, os.O_CREAT | os.O_EXCL | os.O_RDWR | getattr(os, "O_BINARY", 0), 0o666), "w+b")

    def publish(target: Path) -> None:
        file.close()
        try:
            os.link(part, target)  # refuses, where a rename would replace
        except (AttributeError, NotImplementedError, OSError) as error:
            # Sticks with exFAT, network disks and Drive on Colab have no hard links, each in words of its own.
            if getattr(error, "errno", None) == errno.EEXIST:
                raise
            _refuse_existing(target)
            os.replace(part, target)

    return file, publish


def _part(path: Path, stack: ExitStack) -> Path:
    """Return a new hidden name beside `path`, in which stand this machine and this process."""
    part = path.parent / f".{path.name}.{_machine()}.{os.getpid()}.{os.urandom(4).hex()}.part"
    _ours.add(part)
    stack.callback(_ours.discard, part)
    return part


def _machine() -> str:
    """Return a mark of this machine: the numbers of processes mean nothing to another one on the same network disk."""
    import platform  # it takes a while

    return f"{zlib.crc32(platform.node().encode()):08x}"


def _sweep(path: Path) -> None:
    """Remove what a process that no longer runs on this machine has left under hidden names for the same target."""
    start = f".{path.name}.{_machine()}."
    with os.scandir(path.parent) as entries:
        names = [entry.name for entry in entries if entry.name.startswith(start) and entry.name.endswith(".part")]
    for left in (path.parent / name for name in names):
        owner = left.name.removeprefix(start).split(".")[0]
        ours = owner == str(os.getpid())  # in a container every process may have the same number
        if owner.isdigit() and (left not in _ours if ours else not _runs(int(owner))):
            _remove_folder(left) if left.is_dir() else left.unlink(missing_ok=True)


def _remove_folder(folder: Path) -> None:
    import shutil  # with its compressors it costs a tenth of a large copy

    shutil.rmtree(folder, ignore_errors=True)


def _runs(process: int) -> bool:
    import psutil

    return psutil.pid_exists(process)


def _refuse_existing(path: Path) -> None:
    if path.exists() or path.is_symlink():
        raise CannotWrite(f"{path} exists already and is kept as it is; give another name, or remove it first.")
    if not path.parent.is_dir():
        raise CannotWrite(f"There is no folder {path.parent} to write into; make it first.")


@contextmanager
def _sentences(path: Path):
    """Turn an operating system error about writing `path` into one sentence."""
    try:
        yield
    except FileExistsError:
        raise CannotWrite(f"{path} exists already and is kept as it is; give another name.") from None
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise CannotWrite(
                f"The disk has no room for {path}; nothing was written: free some space, or choose another disk."
            ) from None
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise CannotWrite(f"{path.parent} may not be written; choose another folder.") from None
        raise CannotWrite(f"{path} cannot be written ({error.strerror}); choose another name or folder.") from None
