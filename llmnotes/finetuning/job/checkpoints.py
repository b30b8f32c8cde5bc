"""Checkpoints: what a killed training needs to go on, each written whole or not at all, each with its checksum."""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, cast

import torch
from torch import nn
from torch.optim import Optimizer

from llmnotes.errors import FileBroken, FileUnreadable, TrainingFailed
from llmnotes.finetuning.adapter_files import WRITTEN, planned
from llmnotes.finetuning.optimizers import begin, restore, states
from llmnotes.formats import safetensors
from llmnotes.formats.files import Source
from llmnotes.formats.safe_write import new_folder
from llmnotes.formats.safetensors import write_safetensors

STATE, SUMS = "state.safetensors", "SHA256SUMS"
KEPT = 2  # the newest, and one to fall back on


def save(folder: str | Path, step: int, model: nn.Module, optimizer: Optimizer, run: str) -> Path:
    """Write a checkpoint into `folder` and return its own folder; all but the newest two are removed.

    It holds what learns in the model and its optimizer states (AdamW's step and two averages, with the scales of those
    in 8 bits) as safetensors, and beside it the SHA-256 that `sha256sum --check` reads. `run` names the training that
    may go on from here. The state of random generators is not in it, nor the order of the data: both follow from the
    seed and the step (`train.steps`).

    Raises `CannotWrite`, for instance on a full disk; what was there before stays. Does not wait until the disk has
    the bytes: a checkpoint that a power failure cuts short is noticed by its checksum.
    """
    folder = Path(folder)
    folder.mkdir(exist_ok=True)
    tensors = [planned(name, tensor) for name, tensor in _tensors(model, optimizer).items()]
    path = folder / f"step-{step:08}"
    for old in found(folder):
        if old.name >= path.name:  # it was damaged, or training would have gone on from it
            _remove(old)
    with new_folder(path) as new:
        with new.file(STATE) as plain:
            hashed = _Hashed(plain)
            file = cast(BinaryIO, hashed)  # of a file, only its `write` is used
            write_safetensors(file, tensors, {"step": str(step), "run": run})
        with new.file(SUMS) as file:
            file.write(f"{hashed.digest.hexdigest()}  {STATE}\n".encode())
    prune(folder)
    return path


def prune(folder: str | Path) -> None:
    """Remove all checkpoints in `folder` but the newest two, and what is left of one whose removal was interrupted."""
    for old in found(Path(folder))[KEPT:]:
        _remove(old)


def resume(
    folder: str | Path, model: nn.Module, optimizer: Optimizer, run: str, say: Callable[[str], object] = print
) -> int:
    """Load the newest sound checkpoint in `folder` into model and optimizer, and return its step; 0 if there is none.

    A damaged one is passed over, `say` receives one sentence about it, and the one before is taken; with none left,
    training starts at the beginning. Raises `TrainingFailed` for a checkpoint of another run.
    """
    for path in found(Path(folder)):
        try:
            _load(path, model, optimizer, run)
        except (FileBroken, FileUnreadable) as error:
            say(f"The checkpoint {path.name} is passed over, and training goes on from the one before it: {error}")
        else:
            return int(path.name.removeprefix("step-"))
    return 0


def found(folder: Path) -> list[Path]:
    """Return the checkpoints in a folder, the newest first."""
    if not folder.is_dir():
        return []
    return sorted((path for path in folder.iterdir() if re.fullmatch(r"step-\d{8,}", path.name)), reverse=True)


def _remove(path: Path) -> None:
    shutil.rmtree(path, ignore_errors=True) if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)


def _load(path: Path, model: nn.Module, optimizer: Optimizer, run: str) -> None:
    with Source(path / STATE) as source, Source(path / SUMS) as sums:
        digest = hashlib.sha256()
        for piece in source.stream(0, source.size):
            digest.update(piece)
        if sums.head(200) != f"{digest.hexdigest()}  {STATE}\n".encode():
            raise source.broken("its SHA-256 is not the one that was written with it")
        identity = safetensors.identify(source)
        if identity is None:
            raise source.broken("it is no safetensors file")
        header = safetensors.inspect(source, identity)
        if header.metadata.get("run") != run:
            raise TrainingFailed(f"{path} belongs to another training; give another output, or remove that folder.")
        begin(optimizer)
        expected = _tensors(model, optimizer)
        shapes = {name: tuple(tensor.shape) for name, tensor in expected.items()}
        if shapes != {tensor.name: tensor.shape for tensor in header.tensors}:
            raise source.broken("its tensors are not those that the model learns")
        values = {}
        for tensor in header.tensors:
            dtype = expected[tensor.name].dtype
            if WRITTEN.get(tensor.dtype or "") != dtype or tensor.offset is None:
                raise source.broken(f"{tensor.name} is no {str(dtype).removeprefix('torch.')}")
            numbers = torch.frombuffer(bytearray(source.read(tensor.offset, tensor.nbytes)), dtype=dtype)
            values[tensor.name] = numbers.reshape(tensor.shape).clone()
    with torch.no_grad():
        for name, parameter in _learning(model).items():
            parameter.copy_(values[f"model/{name}"])
            kinds = states(optimizer, parameter)
            restore(optimizer, parameter, {kind: values[f"{kind}/{name}"] for kind in kinds})


def _learning(model: nn.Module) -> dict[str, torch.nn.Parameter]:
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def _tensors(model: nn.Module, optimizer: Optimizer) -> dict[str, torch.Tensor]:
    """Return what a checkpoint holds of each parameter that learns: itself, and its optimizer states."""
    tensors = {}
    for name, parameter in _learning(model).items():
        tensors[f"model/{name}"] = parameter
        tensors |= {f"{kind}/{name}": state for kind, state in states(optimizer, parameter).items()}
    return tensors


class _Hashed:
    """A file that is hashed while it is written."""

    def __init__(self, file):
        self.file, self.digest = file, hashlib.sha256()

    def write(self, data: bytes) -> None:
        self.digest.update(data)
        self.file.write(data)
