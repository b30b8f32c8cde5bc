"""Files that appear whole or not at all, whatever happens while they are written."""

import errno
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import pytest

from llmnotes.errors import CannotWrite
from llmnotes.formats import safe_write
from llmnotes.formats.safe_write import new_file, new_folder

pytestmark = pytest.mark.skipif(os.name == "nt", reason="users, links and signals of Unix")


@pytest.fixture(params=["without a name", "hidden"])
def way(request, monkeypatch):
    """Both ways of writing: where the system has nameless files, and where it has not."""
    if request.param == "hidden":
        monkeypatch.delattr(os, "O_TMPFILE", raising=False)
    return request.param


def everything(folder) -> dict:
    return {path.relative_to(folder).as_posix(): path.is_file() and path.read_bytes() for path in folder.rglob("*")}


def write_file(target):
    with new_file(target) as file:
        file.write(b"new" * 100_000)


def write_folder(target):
    with new_folder(target) as folder:
        for name in ("a", "b"):
            with folder.file(name) as file:
                file.write(b"new" * 100_000)


WRITERS = {"file": write_file, "folder": write_folder}


@pytest.fixture(params=WRITERS)
def writer(request):
    return WRITERS[request.param]


def test_what_is_written_stands_there_alone_with_ordinary_rights(way, writer, tmp_path):
    writer(tmp_path / "t[1]*")
    assert len(list(tmp_path.iterdir())) == 1
    (tmp_path / "plain").write_bytes(b"")
    for path in tmp_path.rglob("*"):
        if path.is_file():
            assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode
            assert path.name == "plain" or path.read_bytes() == b"new" * 100_000


@pytest.mark.parametrize("kind", ["file", "folder", "dangling link"])
def test_what_exists_is_kept(way, writer, tmp_path, kind):
    target = tmp_path / "t"
    if kind == "file":
        target.write_bytes(b"old")
    elif kind == "folder":
        target.mkdir()
        (target / "old").write_bytes(b"old")
    else:
        target.symlink_to("nowhere")
    before = everything(tmp_path)
    with pytest.raises(CannotWrite, match="exists already"):
        writer(target)
    assert everything(tmp_path) == before


def test_what_appears_meanwhile_is_kept(way, tmp_path):
    with pytest.raises(CannotWrite, match="exists already"):
        with new_file(tmp_path / "t") as file:
            file.write(b"new")
            (tmp_path / "t").write_bytes(b"other")
    assert everything(tmp_path) == {"t": b"other"}
    with pytest.raises(CannotWrite, match="exists already"):
        with new_folder(tmp_path / "u"):
            (tmp_path / "u").write_bytes(b"other")
    assert everything(tmp_path) == {"t": b"other", "u": b"other"}


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError, MemoryError])
def test_an_error_leaves_nothing(way, tmp_path, error):
    with pytest.raises(error):
        with new_file(tmp_path / "t") as file:
            file.write(b"new")
            raise error
    with pytest.raises(error):
        with new_folder(tmp_path / "u") as folder:
            with folder.file("a") as file:
                file.write(b"new")
            with folder.file("b") as file:
                raise error
    assert everything(tmp_path) == {} and not safe_write._ours


def test_a_full_disk_is_one_sentence_and_leaves_nothing(way, writer, tmp_path, monkeypatch):
    real = os.fdopen

    def full(*arguments):
        file = real(*arguments)

        class Full:
            def write(self, data):
                raise OSError(errno.ENOSPC, "No space left on device")

            def __getattr__(self, name):
                return getattr(file, name)

        return Full()

    monkeypatch.setattr(os, "fdopen", full)
    with pytest.raises(CannotWrite, match="no room"):
        writer(tmp_path / "t")
    assert everything(tmp_path) == {}


NO_LINKS = [errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS, errno.EPERM, errno.EIO, errno.EMLINK, errno.EXDEV]


@pytest.mark.parametrize("number", NO_LINKS, ids=errno.errorcode.get)
def test_a_disk_without_hard_links_is_written_all_the_same(way, writer, tmp_path, monkeypatch, number):
    def refuse(*_, **__):
        raise OSError(number, "no links here")

    monkeypatch.setattr(os, "link", refuse)
    writer(tmp_path / "t")
    assert set(everything(tmp_path).values()) <= {b"new" * 100_000, False} and len(list(tmp_path.iterdir())) == 1
    before = everything(tmp_path)
    with pytest.raises(CannotWrite, match="exists already"):
        writer(tmp_path / "t")
    assert everything(tmp_path) == before and not safe_write._ours


def test_what_appears_meanwhile_is_kept_without_hard_links(way, tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise OSError(errno.EOPNOTSUPP, "no links here")

    monkeypatch.setattr(os, "link", refuse)
    with pytest.raises(CannotWrite, match="exists already"), new_file(tmp_path / "t") as file:
        file.write(b"new")
        (tmp_path / "t").write_bytes(b"old")
    assert everything(tmp_path) == {"t": b"old"}


FULL = """
import sys
from pathlib import Path
from llmnotes.errors import CannotWrite
from llmnotes.formats.safe_write import new_file, new_folder
here = Path(sys.argv[1])
def fill(file):
    for _ in range(40):
        file.write(bytes(100_000))
for name in ("file", "folder"):
    try:
        if name == "file":
            with new_file(here / "t") as file:
                fill(file)
        else:
            with new_folder(here / "t") as folder, folder.file("a") as file:
                fill(file)
    except CannotWrite as error:
        assert "no room" in str(error), error
    else:
        raise SystemExit("a full disk went unnoticed")
    assert not list(here.iterdir()), list(here.iterdir())
"""


def test_a_disk_that_is_really_full(tmp_path):
    mount = f"mount -t tmpfs -o size=1m tmpfs {tmp_path} && exec {sys.executable} - {tmp_path}"
    if subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode:
        pytest.skip("this system grants no file system of our own")
    run = subprocess.run(["unshare", "-rm", "sh", "-c", mount], input=FULL, capture_output=True, text=True)
    if "mount:" in run.stderr:
        pytest.skip("this system grants no file system of our own")
    assert run.returncode == 0, run.stderr


@pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written(way, writer, tmp_path):
    (tmp_path / "locked").mkdir(mode=0o500)
    with pytest.raises(CannotWrite, match="may not be written"):
        writer(tmp_path / "locked" / "t")


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS])
def test_a_refusal_of_the_system_is_one_sentence(writer, tmp_path, monkeypatch, number):
    def refuse(*_):
        raise OSError(number, "no")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(CannotWrite, match="may not be written"):
        writer(tmp_path / "t")


def test_a_missing_folder_is_named(writer, tmp_path):
    with pytest.raises(CannotWrite, match="There is no folder .*; make it first"):
        writer(tmp_path / "no" / "t")


def test_leftovers_of_dead_processes_are_swept_and_no_others(writer, tmp_path):
    dead = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
    machine = safe_write._machine()
    swept = [f".t.{machine}.{number}.0000.part" for number in (dead.stdout.strip(), os.getpid())]
    kept = [
        f".t.{machine}.1.0000.part",
        f".t.00000000.{dead.stdout.strip()}.0000.part",
        ".t.part",
        ".tt.x.1.part",
        "t2",
    ]
    for name in swept + kept:
        (tmp_path / name).mkdir()
        (tmp_path / name / "a").write_bytes(b"")
    writer(tmp_path / "t")
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {*kept, "t"}


@pytest.mark.slow
@pytest.mark.parametrize("target", ["out.safetensors", "out"])
def test_a_conversion_that_is_killed_leaves_nothing(tmp_path, target):
    from llmnotes.formats.results import PlannedTensor
    from llmnotes.formats.safetensors import write_safetensors

    source = tmp_path / "source"
    source.mkdir()
    (source / "config.json").write_text('{"model_type": "llama"}')
    with open(source / "model.safetensors", "wb") as file:
        write_safetensors(
            file, [PlannedTensor(f"t{i}", "F32", (1 << 20,), lambda: [bytes(1 << 22)]) for i in range(16)]
        )
    here = tmp_path / "here"
    here.mkdir()
    (here / "old").write_bytes(b"old")
    command = [sys.executable, "-m", "llmnotes.cli", "convert", str(source), str(here / target), "--to", "safetensors"]
    for _ in range(2):  # The first run may compile modules and fill the cache; the second is like those to come.
        started = time.monotonic()
        assert subprocess.run(command, capture_output=True).returncode == 0
        whole = time.monotonic() - started
        (shutil.rmtree if (here / target).is_dir() else os.unlink)(here / target)
    assert subprocess.run(command, capture_output=True).returncode == 0
    complete = everything(here)

    def clear():
        path = here / target
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)

    rng, moments, finished = random.Random(0), 10, 0
    for _ in range(moments):
        clear()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(rng.uniform(0.02, 1.1 * whole))
        process.send_signal(signal.SIGKILL)
        process.wait(120)
        found = {name: data for name, data in everything(here).items() if not name.startswith(".out.")}
        if len(found) > 1:
            finished, whole = finished + 1, 0.8 * whole  # The machine is quicker than it was: kill sooner.
        assert found in ({"old": b"old"}, complete)
    clear()
    assert subprocess.run(command, capture_output=True).returncode == 0
    assert everything(here) == complete and finished < moments
