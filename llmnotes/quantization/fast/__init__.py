"""The third layer: kernels for the block types that numba compiles, several times as fast as llama.cpp's C.

Their bytes equal those of llama.cpp. They come with the extra `llmnotes[fast]`, and `blocks` uses them where a tensor
is so large that importing numba, or even compiling, is paid back.
"""

from collections.abc import Callable
from functools import cache
from importlib.util import find_spec

import numpy as np

from llmnotes.quantization.fast.machine_code import on_disk

# type -> (module, function, weights in a block, bytes of a block)
KERNELS = {
    "Q8_0": ("legacy_blocks", "to_q8_0", 32, 34),
    "Q4_0": ("legacy_blocks", "to_q4_0", 32, 18),
    "Q4_1": ("legacy_blocks", "to_q4_1", 32, 20),
    "Q5_0": ("legacy_blocks", "to_q5_0", 32, 22),
    "Q5_1": ("legacy_blocks", "to_q5_1", 32, 24),
    "Q2_K": ("k_quants", "to_q2_k", 256, 84),
    "Q3_K": ("k_quants", "to_q3_k", 256, 110),
    "Q4_K": ("k_quants", "to_q4_k", 256, 144),
    "Q5_K": ("k_quants", "to_q5_k", 256, 176),
    "Q6_K": ("k_quants", "to_q6_k", 256, 210),
}
# Weights in a tensor from which on the kernels pay, measured on two cores against llama.cpp's C: when the kernel is in
# memory already, when its machine code is on the disk, and when it has to be compiled first.
IN_MEMORY, ON_DISK, NOT_COMPILED = 1 << 16, 1 << 24, 1 << 29
# llama.cpp's C is as fast or faster for these; the kernels serve where its library is missing.
NEVER = ("Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q3_K")

_in_memory: set[str] = set()


def installed() -> bool:
    """Return whether numba is installed; does not import it."""
    return find_spec("numba") is not None


def pays(type: str, weights: int) -> bool:
    """Return whether the kernel is the quickest way to quantize a tensor with so many `weights`."""
    if type in NEVER or not installed():
        return False
    if type in _in_memory:
        return weights >= IN_MEMORY
    module, function, *_ = KERNELS[type]
    return weights >= (ON_DISK if on_disk(module, function) else NOT_COMPILED)


def quantize(rows: np.ndarray, type: str, importance: np.ndarray | None = None) -> np.ndarray:
    """Return finite float32 `rows` (rows, n) in a GGML type such as "Q4_K": uint8 (rows, bytes of a row).

    `importance` is float32 (n,). Works on one thread, and leaves Python's lock free for others. Compiles at the first
    use, for up to 20 seconds. Does not check what it is given.
    """
    *_, elements, nbytes = KERNELS[type]
    blocks = _writable(rows).reshape(-1, elements)
    out = np.empty((len(blocks), nbytes), np.uint8)
    weights = np.empty((0, elements), np.float32) if importance is None else importance.reshape(-1, elements)
    _kernel(type)(blocks, _writable(weights), out)
    _in_memory.add(type)
    return out.reshape(len(rows), -1)


@cache
def _kernel(type: str) -> Callable:
    from llmnotes.quantization.fast import k_quants, legacy_blocks

    module, function, *_ = KERNELS[type]
    return getattr({"k_quants": k_quants, "legacy_blocks": legacy_blocks}[module], function)


def _writable(x: np.ndarray) -> np.ndarray:
    """Return a contiguous array that may be written to; numba would compile again for one that may not."""
    return np.require(x, np.float32, ["C", "W"])
