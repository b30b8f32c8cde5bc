"""One model in several GGUF files, named and marked as llama.cpp's llama-gguf-split does it.

The parts are model-00001-of-00003.gguf and so on. In each, split.no and split.count say which part it is, and
split.tensors.count how many tensors all of them have together; the first has all other keys as well.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from llmnotes.errors import FileBroken, FileUnreadable, NotConvertible
from llmnotes.formats.gguf.types import Typed
from llmnotes.formats.gguf.write import ALIGNMENT, write_gguf
from llmnotes.formats.results import Inspection, PlannedTensor, counted
from llmnotes.formats.safe_write import new_file, new_files

NAME = re.compile(r"(.+)-([0-9]{5,6})-of-([0-9]{5,6})\.gguf", re.DOTALL)
LINKS = 40  # links in a row that are followed
FILES = 100  # that are written at once: some systems have no more than 256 open
NUMBER, COUNT, TENSORS = "split.no", "split.count", "split.tensors.count"


def name_of(prefix: str, at: int, count: int) -> str:
    """Return the name of part `at`, counted from 0.

    >>> name_of("model", 0, 3)
    'model-00001-of-00003.gguf'
    """
    return f"{prefix}-{at + 1:05d}-of-{count:05d}.gguf"


def files_of(path: Path, keys: dict[str, Any]) -> list[Path]:
    """Return the files of the model that the GGUF `path` with these `keys` is a part of, in order; mostly itself alone.

    The parts lie beside `path`, or beside what it links to: in a cache of the hub, the links have the names. Raises
    `FileUnreadable` for a part that is missing or a name that does not say which part it is, and `FileBroken`.
    """
    count = keys.get(COUNT, 1)
    if count in (0, 1):
        return [path]
    at = keys.get(NUMBER)
    if type(at) is not int or type(count) is not int or not 0 <= at < count:
        raise FileBroken(f"{path.name} claims to be part {at} of {count} of a model; copy or download it again.")
    missing = None
    for place in _places(path):
        found = NAME.fullmatch(place.name)
        if found is not None and (int(found[2]), int(found[3])) == (at + 1, count):
            files = [place.with_name(name_of(found[1], other, count)) for other in range(count)]
            lost = next((file for file in files if not file.is_file()), None)
            if lost is None:
                return files
            missing = missing or lost
    whose = f"{path.name} is part {at + 1:,} of {count:,} of a model"
    if missing is None:
        raise FileUnreadable(
            f"{whose}, and its name does not lead to the others; give all parts the names that they were made with, "
            f"such as {name_of('model', at, count)}."
        )
    raise FileUnreadable(f"{whose}, and {missing.name} is missing beside it; put all parts into one folder.")


def joined(parts: list[Inspection]) -> Inspection:
    """Return one inspection of a model's parts, in order; `FileBroken` where they do not belong together."""
    first, tensors = parts[0], [tensor for part in parts for tensor in part.tensors]
    for at, part in enumerate(parts):
        said = part.metadata.get(NUMBER), part.metadata.get(COUNT)
        if said != (at, len(parts)):
            raise FileBroken(
                f"{part.path.name} is not part {at + 1:,} of {len(parts):,}, as its name says; download it again."
            )
    promised = first.metadata.get(TENSORS)
    if len({tensor.name for tensor in tensors}) < len(tensors) or promised != len(tensors):
        raise FileBroken(
            f"The {len(parts):,} parts of {first.path.name} hold {counted(len(tensors), 'tensor')}, and it promises "
            f"{promised}, each once; download all parts of one model again."
        )
    notes = dict.fromkeys(note for part in parts for note in part.notes)
    where = f"The model lies in {len(parts):,} files, {first.path.name} to {parts[-1].path.name}."
    return replace(first, tensors=tuple(tensors), notes=(where, *notes))


def write_model(
    dst: Path, metadata: dict[str, Any], tensors: list[PlannedTensor], split_max_size: int | None = None
) -> list[Path]:
    """Write a GGUF, or the parts of one with at most `split_max_size` bytes of tensors each; return the files.

    A tensor that is larger gets a part of its own. What fits into one file keeps the name `dst`. Either all parts
    appear or none. Raises what `write_gguf` and `new_file` raise, and `NotConvertible` for a size below 1 or more than
    100 parts.
    """
    if split_max_size is not None and split_max_size < 1:
        raise NotConvertible(f"A part of {split_max_size} bytes holds nothing; give --split-max-size such as 2G.")
    shares = [tensors] if split_max_size is None else planned(tensors, split_max_size)
    if len(shares) == 1:
        with new_file(dst) as file:
            write_gguf(file, metadata, tensors)
        return [dst]
    if len(shares) > FILES:
        raise NotConvertible(
            f"{dst.name} would become {len(shares):,} files, and llmnotes writes at most {FILES}; give a larger "
            "--split-max-size."
        )
    prefix = dst.name.removesuffix(".gguf")
    paths = [dst.with_name(name_of(prefix, at, len(shares))) for at in range(len(shares))]
    with new_files(paths) as files:
        for at, (file, share) in enumerate(zip(files, shares, strict=True)):
            marks = {NUMBER: Typed("U16", at), TENSORS: Typed("I32", len(tensors)), COUNT: Typed("U16", len(shares))}
            write_gguf(file, (metadata if at == 0 else {}) | marks, share)
    return paths


def planned(tensors: list[PlannedTensor], split_max_size: int) -> list[list[PlannedTensor]]:
    """Return the tensors of each part: as many as fit, counted as llama-gguf-split does, without the headers."""
    shares, size = [[]], 0
    for tensor in tensors:
        padded = -(-tensor.nbytes // ALIGNMENT) * ALIGNMENT
        if shares[-1] and size + padded > split_max_size:
            shares.append([])
            size = 0
        shares[-1].append(tensor)
        size += padded
    return shares


def whole(keys: dict[str, Any]) -> dict[str, Any]:
    """Return the keys without those of a part."""
    return {key: value for key, value in keys.items() if key not in (NUMBER, COUNT, TENSORS)}


def _places(path: Path) -> Iterator[Path]:
    """Yield `path` and what it leads to, link by link."""
    for _ in range(LINKS):
        yield path
        if not path.is_symlink():
            return
        path = path.parent / os.readlink(path)
