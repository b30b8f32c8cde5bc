"""Distributed checkpoints of PyTorch: known, and refused by name with the way to one file.

Each process writes a file `__0_0.distcp` of archives in a row, one for each piece of a tensor, and `.metadata`, a
pickle, says which piece lies where. Only torch, which executes that pickle, puts them together.
"""

from pathlib import Path

from llmnotes.errors import UnknownFormat
from llmnotes.formats import zips
from llmnotes.formats.files import Source


def refuse_part(source: Source) -> None:
    """Raise `UnknownFormat` for a zip archive behind another one, or one of the files that `.metadata` speaks of."""
    alone = source.path.suffix == ".distcp" and (source.path.parent / ".metadata").is_file()
    if alone or zips.follows_another(source):
        raise _refused(f"{source.path.name} is several archives in a row, a part of", source.path.resolve().parent)


def refuse_folder(path: Path) -> None:
    """Raise `UnknownFormat` for the folder of a distributed checkpoint."""
    if (path / ".metadata").is_file() and any(path.glob("*.distcp")):
        raise _refused(f"{path} is", path)


def _refused(what: str, folder: Path) -> UnknownFormat:
    return UnknownFormat(
        f"{what} a distributed checkpoint of PyTorch, which llmnotes does not read; make one file of it with torch's "
        f"dcp_to_torch_save: python -m torch.distributed.checkpoint.format_utils dcp_to_torch {folder} model.pt"
    )
