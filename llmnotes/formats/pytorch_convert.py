"""From a PyTorch checkpoint to safetensors: the model's tensors, one at a time, and a list of what was left."""

from collections.abc import Iterable
from functools import partial
from pathlib import Path

from llmnotes.errors import NotConvertible
from llmnotes.formats import read, safetensors
from llmnotes.formats.convert import Conversion
from llmnotes.formats.files import Inspection, Tensor
from llmnotes.formats.safe_write import new_file

# Under these names a trainer's checkpoint keeps the model's state dict.
NESTED = ("state_dict", "model_state_dict", "model")
BESIDE = {"optimizer", "optimizer_state_dict", "optimizers", "optimizer_states", "epoch", "step", "global_step"}


def to_safetensors(inspection: Inspection, dst: Path, type: str | None) -> Conversion:
    """Write the model's tensors of a PyTorch file to a safetensors file.

    Raises `NotConvertible` for a file without tensors, with a type that safetensors has no name for, or with a `type`
    given: the values stay as they are. Tied tensors are stored once; the metadata says {left out: kept}, as
    `safetensors.torch.save_model` does.
    """
    _keep_type(type)
    named, lost = model_tensors(inspection)
    parts, ties = parts_of(inspection, named)
    with new_file(dst) as file:
        safetensors.write(file, parts, {"format": "pt", **ties})
    if ties:
        pairs = ", ".join(f"{name} = {first}" for name, first in ties.items())
        lost += (f"safetensors has no ties; each is stored once, and the metadata says which ones: {pairs[:300]}.",)
    return _answer(inspection, dst, "safetensors", parts, lost)


def model_tensors(inspection: Inspection) -> tuple[list[tuple[str, Tensor]], tuple[str, ...]]:
    """Return the model's tensors in a checkpoint, each with the name it has in the model, and what is left out.

    The model is what lies under `state_dict`, `model_state_dict`, or `model` if an optimizer or a count of steps lies
    beside it; otherwise it is the whole file.
    """
    names = [tensor.name for tensor in inspection.tensors]
    tops = {name.split(".")[0] for name in [*names, *inspection.metadata]}
    nested = next((word for word in NESTED if word in tops and (word != "model" or tops & BESIDE)), None)
    if nested is not None and not any(name.startswith(f"{nested}.") for name in names):
        nested = None
    start = f"{nested}." if nested else ""
    chosen = [
        (tensor.name.removeprefix(start), tensor) for tensor in inspection.tensors if tensor.name.startswith(start)
    ]
    lost = [note for note in inspection.notes if "does not read" in note]
    rest = [name for name in names if not name.startswith(start)]
    if rest:
        lost.append(f"{len(rest):,} tensors beside {nested} were left out, {rest[0]} first.")
    values = [name for name in inspection.metadata if name not in ("sys_info", "imports")]
    if values:
        lost.append(f"{len(values):,} values that are no tensors were left out: {', '.join(values)[:200]}.")
    return chosen, tuple(lost)


def parts_of(
    inspection: Inspection, named: Iterable[tuple[str, Tensor]]
) -> tuple[list[safetensors.Part], dict[str, str]]:
    """Return what the writers take: a part for each tensor that shares no other's bytes, and {further name: name}.

    `named` pairs tensors of `inspection` with the names they shall have. Raises `NotConvertible` for a type that
    safetensors has no name for, and for no tensors at all.
    """
    parts, ties, kept = [], {}, {}
    for name, tensor in named:
        first = kept.setdefault(tensor.alias or tensor.name, name)
        if first != name:
            ties[name] = first
        elif tensor.dtype not in safetensors.ORDER:
            raise NotConvertible(f"{name} has the type {tensor.dtype}, which has no name there; leave that tensor out.")
        else:
            parts.append(safetensors.Part(name, tensor.dtype, tensor.shape, partial(read, inspection, tensor)))
    if not parts:
        raise NotConvertible(f"{inspection.path.name} holds no tensors; see what it does hold with `llmnotes inspect`.")
    return parts, ties


def _keep_type(type: str | None) -> None:
    if type is not None:
        raise NotConvertible(f"Here every tensor keeps its type, and {type} was asked for; leave --type out.")


def _answer(inspection: Inspection, dst: Path, to: str, parts: list, lost: tuple[str, ...]) -> Conversion:
    nbytes = sum(part.nbytes for part in parts)
    return Conversion(inspection.path, dst, inspection.identity, to, len(parts), nbytes, {}, lost)
