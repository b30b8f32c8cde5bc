"""In which numbers the recipes train: bfloat16 where the processor has it, float32 elsewhere."""

from contextlib import AbstractContextManager

import torch


def autocast(device: str) -> AbstractContextManager:
    """Return the context in which a model reads: matrix products in bfloat16 on a GPU and where the processor has them.

    Elsewhere torch imitates them, and a step takes ten times as long as in float32 or more.
    """
    found = torch.cpu.get_capabilities()
    native = device == "cuda" or any(found.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))
    return torch.autocast(device, torch.bfloat16, enabled=native)
