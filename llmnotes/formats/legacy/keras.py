"""HDF5 and Keras: whole models, weights alone, and `.keras` archives, read by a child process with limits.

libhdf5 is a large library in C, and a file may be made to break it: the child has little memory and two seconds, and
whatever happens to it becomes one sentence.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

from llmnotes.errors import FileBroken, MissingPart
from llmnotes.formats import zips
from llmnotes.formats.files import CHUNK, HEADER_LIMIT, Source
from llmnotes.formats.format import Format
from llmnotes.formats.legacy.hdf5_child import OURS
from llmnotes.formats.results import DTYPES, Identity, Inspection, Tensor, size_of
from llmnotes.parts import bring

SIGNATURE = b"\x89HDF\r\n\x1a\n"
SECONDS = 5  # for the child; it has less of processor time
ARCHIVE = ("config.json", "metadata.json")
WEIGHTS = "model.weights.h5"


def identify(source: Source) -> Identity | None:
    """Return the identity of an HDF5 file or of a Keras archive, or None for any other.

    An HDF5 file is Keras's own if its root says so: by attributes `layer_names`, `keras_version` or `model_config`,
    or by the groups `layers` and `vars`. That needs h5py; without it the answer is "HDF5".
    """
    if source.head(4) == b"PK\3\4":
        return _archive(source)
    start = signature_at(source)
    if start is None:
        return None
    version = f"superblock {source.read(start + 8, 1)[0]}"
    root = source.once(_root) if find_spec("h5py") else {"attributes": {}, "groups": []}
    keras = {"layer_names", "keras_version", "model_config"} & root["attributes"].keys()
    if keras:
        return Identity(
            "Keras HDF5", version, f"HDF5's signature, and the root's attributes {', '.join(sorted(keras))}"
        )
    if {"layers", "vars"} <= set(root["groups"]) or "_layer_checkpoint_dependencies" in root["groups"]:
        return Identity("Keras HDF5", version, "HDF5's signature, and the groups of Keras's weights")
    return Identity("HDF5", version, "HDF5's signature, eight bytes from \\x89HDF")


def inspect(source: Source, identity: Identity) -> Inspection:
    """Return the datasets of an HDF5 file or a Keras archive, with attributes and, for a whole model, its config.

    `offset` is given where a dataset lies in one piece and unpacked. Links out of the file, virtual datasets and
    storage outside it are reported in the notes and not followed. Raises `MissingPart` without h5py, `FileBroken`
    if libhdf5 gives up, needs more than its memory, or more than its time.
    """
    if find_spec("h5py") is None:
        raise MissingPart(f"h5py is missing; bring it with: {bring('h5py')}")
    metadata, notes, first, count = {}, [], 0, source.size
    if identity.format == "Keras archive":
        entries = zips.entries(source)
        for name in ARCHIVE:
            metadata[name.removesuffix(".json")] = source.parse(zips.content(source, entries[name], HEADER_LIMIT))
        entry = entries.get(WEIGHTS)
        if entry is None or entry.method != zips.STORED:
            notes.append(f"Its {WEIGHTS} is " + ("packed: unpack the archive to see them." if entry else "not there."))
            return Inspection(source.path, identity, (), metadata, _model(metadata), tuple(notes))
        first, count = entry.offset, entry.size
    found = _child(source, first, count) if first else source.once(_root)
    for key, value in found["attributes"].items():
        metadata[key] = _parsed(source, value) if key in ("model_config", "training_config") else value
    tensors = []
    for name, dtype, shape, offset in found["datasets"]:
        shape = source.shape(shape, name)
        if dtype not in DTYPES:
            notes.append(f"{name[:80]} has the type {dtype}, which is no number's, and is not listed.")
            continue
        nbytes = size_of(dtype, shape)
        if offset is not None and first + offset + nbytes > source.size:
            raise source.broken(f"the bytes of {name[:80]!r} are not where it says")
        place = None if offset is None else first + offset
        tensors.append(Tensor(name, dtype, shape, nbytes, source.path, place))
    notes += found["notes"]
    return Inspection(source.path, identity, tuple(tensors), metadata, _model(metadata), tuple(notes[:100]))


def read(inspection: Inspection, tensor: Tensor) -> Iterator[bytes]:
    """Yield the bytes of a dataset that is cut into chunks, packed or big-endian, unpacked by a child process.

    Raises `FileBroken` for values in other files, and where libhdf5 gives up or needs more than its memory.
    """
    with Source(inspection.path) as source:
        first, count = 0, source.size
        if inspection.identity.format == "Keras archive":
            entry = zips.entries(source)[WEIGHTS]
            first, count = entry.offset, entry.size
        command, environment = _command(source.path, first, count)
        left = tensor.nbytes
        with subprocess.Popen(
            [*command, "values", tensor.name],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            stdin=subprocess.DEVNULL,
            env=environment,
        ) as child:
            assert child.stdout is not None  # it is a pipe
            try:
                while left and (piece := child.stdout.read(min(left, CHUNK))):
                    left -= len(piece)
                    yield piece
            finally:
                child.kill()
        if left:
            raise source.broken(f"HDF5's library cannot read {tensor.name[:80]!r}")


FORMAT = Format(identify, inspect, read)


def signature_at(source: Source) -> int | None:
    """Return where HDF5's signature stands: at the beginning, or at 512, 1024, 2048, ... bytes."""
    at = 0
    while at + 9 <= min(source.size, 1 << 20):
        if source.read(at, 8) == SIGNATURE:
            return at
        at = 2 * at or 512
    return None


def _archive(source: Source) -> Identity | None:
    try:
        entries = zips.entries(source)
    except FileBroken:
        return None
    if not {*ARCHIVE} <= entries.keys():
        return None
    about = source.parse(zips.content(source, entries["metadata.json"], HEADER_LIMIT))
    if "keras_version" not in about:
        return None
    return Identity(
        "Keras archive", str(about["keras_version"])[:40], "a zip archive with config.json and metadata.json"
    )


def _parsed(source: Source, text) -> object:
    return source.parse(text.encode(), unique=False) if isinstance(text, str) else text


def _model(metadata: dict) -> str | None:
    config = metadata.get("config") or metadata.get("model_config")
    name = config.get("class_name") if isinstance(config, dict) else None
    return name if isinstance(name, str) else None


def _root(source: Source) -> dict:
    return _child(source, 0, source.size)


def _child(source: Source, first: int, count: int) -> dict:
    """Return what the child process says about the HDF5 file in `count` bytes from `first`."""
    try:
        found = json.loads(_printed(source, source.path, first, count, "structure", SECONDS))
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise source.broken("HDF5's library cannot read its structure")
    return found


def contents(source: Source) -> tuple[list[tuple[str, bytes, bool]], list[str]]:
    """Return what an HDF5 file holds of texts and bytes, and notes on values that lie in other files.

    Each is a place ("group/dataset", or with "@attribute"), bytes, and whether they are all there is. Whole numbers
    that fit into bytes are bytes here; datasets of floats are left out, but for the beginning of what is packed.
    Raises `MissingPart` without h5py, `FileBroken` where libhdf5 gives up, needs more than its memory, or its time.
    """
    if find_spec("h5py") is None:
        raise MissingPart(f"h5py is missing; bring it with: {bring('h5py')}")
    with TemporaryDirectory() as folder:
        path, first, file = source.path, 0, source
        while isinstance(file, zips.SourceSection):
            first, file = first + file.start, file.source
        if type(file) is not Source:  # it was unpacked, and the child opens files alone
            path, first = Path(folder, "file.h5"), 0
            with open(path, "wb") as target:
                target.writelines(source.stream(0, source.size))
        text = _printed(source, path, first, source.size, "contents", SECONDS + (source.size >> 22))
    found, at = [], 0
    while at < len(text):
        end = text.index(b"\n", at)
        line, at = json.loads(text[at:end]), end + 1
        if at == len(text):
            return found, line
        name, size, whole = line
        found.append((name, text[at : at + size], whole))
        at += size
    raise source.broken("HDF5's library cannot read its values")


def _printed(source: Source, path: Path, first: int, count: int, kind: str, seconds: int) -> bytes:
    """Return what the child process prints, or nothing where libhdf5 gave up."""
    command, environment = _command(path, first, count)
    command.append(kind)
    try:
        run = subprocess.run(command, capture_output=True, timeout=seconds, env=environment, stdin=subprocess.DEVNULL)
    except subprocess.TimeoutExpired:
        raise FileBroken(
            f"HDF5's library does not come to an end with {source.path.name} in {seconds} seconds; try again while the "
            "machine is free, and if it stays so, copy or download the file again."
        ) from None
    if run.returncode == OURS:
        raise MissingPart(
            f"h5py does not work here ({run.stderr.decode('utf-8', 'replace').strip()}); bring it again with: "
            "python -m pip install --force-reinstall h5py"
        )
    return run.stdout if run.returncode == 0 else b""


def _command(path: Path, first: int, count: int) -> tuple[list[str], dict[str, str]]:
    # -P: a module of the reader's own folder is not taken for h5py or numpy
    command = [sys.executable, "-P", str(Path(__file__).with_name("hdf5_child.py")), str(path), str(first), str(count)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "HDF5_USE_FILE_LOCKING": "FALSE"}
    return command, environment
