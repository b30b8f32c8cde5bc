"""What AdamW has learned of each weight: its averages in 32 bits, or in 8 with their scales."""

import torch
from torch import nn

CONSTANT = ("qmap1", "qmap2")  # the 256 numbers that 8 bits stand for: the same in every training


def states(optimizer: torch.optim.Optimizer, parameter: nn.Parameter) -> dict[str, torch.Tensor]:
    """Return what an optimizer has learned of a parameter, by its own names: a step, averages, the scales of 8 bits.

    What is counted as a Python number is a tensor of float32 here, which holds every whole number up to 16 million.
    """
    found = {name: value for name, value in optimizer.state[parameter].items() if name not in CONSTANT}
    return {name: v if torch.is_tensor(v) else torch.tensor(v, dtype=torch.float32) for name, v in found.items()}


def begin(optimizer: torch.optim.Optimizer) -> None:
    """Give an optimizer that has taken no step yet the states, all zero, that its first step would make."""
    for place, group in enumerate(optimizer.param_groups):
        for number, parameter in enumerate(group["params"]):
            if optimizer.state[parameter]:
                continue
            if isinstance(optimizer, torch.optim.AdamW):
                device = parameter.device if group["fused"] else None
                optimizer.state[parameter] = {"step": torch.zeros((), device=device)} | {
                    average: torch.zeros_like(parameter, memory_format=torch.preserve_format)
                    for average in ("exp_avg", "exp_avg_sq")
                }
            else:
                optimizer.init_state(group, parameter, place, number)  # pyright: ignore[reportAttributeAccessIssue]


def restore(optimizer: torch.optim.Optimizer, parameter: nn.Parameter, values: dict[str, torch.Tensor]) -> None:
    """Put the states that `states` returned back, in place: pages stay pages. The optimizer has begun (`begin`)."""
    kept = optimizer.state[parameter]
    for name, value in values.items():
        if torch.is_tensor(kept[name]):
            kept[name].copy_(value)
        else:
            kept[name] = int(value)
