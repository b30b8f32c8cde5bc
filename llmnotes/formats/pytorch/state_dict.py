"""Which tensors of a PyTorch checkpoint are the model's, and what lies beside them."""

from llmnotes.formats.results import Inspection, Tensor, counted

# Under these names a trainer's checkpoint keeps the model's state dict.
NESTED = ("state_dict", "model_state_dict", "model")
BESIDE = {"optimizer", "optimizer_state_dict", "optimizers", "optimizer_states", "epoch", "step", "global_step"}


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
        lost.append(f"Left out: {counted(len(rest), 'tensor')} beside {nested}, {rest[0]} first.")
    values = [name for name in inspection.metadata if name not in ("sys_info", "imports")]
    if values:
        lost.append(f"Left out: {counted(len(values), 'value')} besides the tensors, {', '.join(values)[:200]}.")
    return chosen, tuple(lost)
