"""Distributed checkpoints of PyTorch and DeepSpeed: known, and refused by name with the way to one file.

Each process writes a file `__0_0.distcp` of archives in a row, one for each piece of a tensor, and `.metadata`, a
pickle, says which piece lies where. Only torch, which executes that pickle, puts them together.
"""

from pathlib import Path

from llmnotes.errors import UnknownFormat
from llmnotes.formats import zips
from llmnotes.formats.files import Source
from llmnotes.formats.pickles.values import mapping
from llmnotes.formats.pytorch.inside import sizes
from llmnotes.formats.strided import StridedView


def refuse_part(source: Source) -> None:
    """Raise `UnknownFormat` for a zip archive behind another one, or one of the files that `.metadata` speaks of."""
    alone = source.path.suffix == ".distcp" and (source.path.parent / ".metadata").is_file()
    if alone or zips.follows_another(source):
        raise _refused(f"{source.path.name} is several archives in a row, a part of", source.path.resolve().parent)


def refuse_folder(path: Path) -> None:
    """Raise `UnknownFormat` for the folder of a distributed checkpoint."""
    if (path / ".metadata").is_file() and any(path.glob("*.distcp")):
        raise _refused(f"{path} is", path)


def refuse_empty(source: Source, root: object, tensors: dict[str, StridedView]) -> None:
    """Raise `UnknownFormat` where weights are empty and their shapes stand beside them, as DeepSpeed's ZeRO-3 does it:
    the numbers lie with the states of the optimizer, in a file of each process."""
    full = _full_shapes(root)
    if not full:
        return
    for name, view in tensors.items():
        parts = name.split(".")
        if not view.nbytes and any(".".join(parts[at:]) in full for at in range(len(parts))):
            raise UnknownFormat(
                f"{source.path.name} holds only the shapes of {name[:80]!r} and others, as one of the files of a "
                "checkpoint of DeepSpeed ZeRO-3; join them with the zero_to_fp32.py in the checkpoint's folder: "
                "python zero_to_fp32.py . joined"
            )


def _full_shapes(root: object) -> set[str]:
    """Return the names that a checkpoint's `param_shapes` gives a shape with room: one dictionary, or several."""
    found = set()
    for key, groups in (mapping(root) or {}).items():
        if isinstance(key, str) and key.endswith("param_shapes"):
            for group in groups if isinstance(groups, list | tuple) else [groups]:
                for name, shape in (mapping(group) or {}).items():
                    sides = sizes(shape)
                    if isinstance(sides, list | tuple) and 0 not in sides:
                        found.add(name)
    return found


def _refused(what: str, folder: Path) -> UnknownFormat:
    return UnknownFormat(
        f"{what} a distributed checkpoint of PyTorch, which llmnotes does not read; make one file of it with torch's "
        f"dcp_to_torch_save: python -m torch.distributed.checkpoint.format_utils dcp_to_torch {folder} model.pt"
    )
