"""The third layer: kernels for the block types that numba compiles, several times as fast as llama.cpp's C.

Their bytes equal those of llama.cpp, compared on x86-64. They come with the extra `llmnotes[fast]`, and `blocks` uses
them where there is so much to quantize that importing numba, or even compiling, is paid back.
"""

from collections import Counter
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec

import numpy as np

from llmnotes.quantization.fast.machine_code import on_disk
from llmnotes.quantization.ggml import TYPES

# type -> (module, function)
KERNELS = {
    "Q8_0": ("legacy_blocks", "to_q8_0"),
    "Q4_0": ("legacy_blocks", "to_q4_0"),
    "Q4_1": ("legacy_blocks", "to_q4_1"),
    "Q5_0": ("legacy_blocks", "to_q5_0"),
    "Q5_1": ("legacy_blocks", "to_q5_1"),
    "Q2_K": ("k_quants", "to_q2_k"),
    "Q3_K": ("k_quants", "to_q3_k"),
    "Q4_K": ("k_quants", "to_q4_k"),
    "Q5_K": ("k_quants", "to_q5_k"),
    "Q6_K": ("k_quants", "to_q6_k"),
}
# Measured against llama.cpp's C on two cores, for one type: importing numba and loading a kernel from the disk takes
# 0.5 s, compiling it 3 to 7 s, both once in a process. Each weight then saves 20 to 90 ns of processor time. So the
# kernels take over when the C has made about as many weights of large tensors as would have paid for loading, or
# compiling.
LARGE = 1 << 21  # weights in a large tensor; smaller ones never load numba
LOADING, COMPILING = 1 << 24, 1 << 28
# llama.cpp's C is about as fast without importance, and for Q8_0 always; there the kernels only serve in its absence.
AS_FAST = ("Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q3_K")

_loaded: set[str] = set()
_made_by_c: Counter[str] = Counter()


def installed() -> bool:
    """Return whether numba is installed; does not import it."""
    return find_spec("numba") is not None


def pays(type: str, weights: int, importance: bool = False) -> bool:
    """Return whether the kernel of a type is the quickest way for the next piece of a tensor.

    `weights` says how many the tensor has, or how many of it have come so far, and `importance` whether there are
    numbers for the columns. Uses the counts that `count_c` has collected.
    """
    if type == "Q8_0" or (type in AS_FAST and not importance):
        return False
    if type in _loaded:
        return True
    if weights < LARGE or _made_by_c[type] < LOADING or not installed():
        return False
    return (_made_by_c[type] >= COMPILING or on_disk(*KERNELS[type])) and _imports()


def count_c(type: str, weights: int, piece: int) -> None:
    """Note that llama.cpp's C has made `piece` weights of a tensor, of which `weights` are known."""
    if weights >= LARGE:
        _made_by_c[type] += piece


def quantize(rows: np.ndarray, type: str, importance: np.ndarray | None = None) -> np.ndarray:
    """Return finite float32 `rows` (rows, n) in a GGML type such as "Q4_K": uint8 (rows, bytes of a row).

    `importance` is float32 (n,). Works on one thread, and leaves Python's lock free for others. Compiles at the first
    use, for up to 20 seconds. Does not check what it is given.
    """
    _, elements, nbytes = TYPES[type]
    blocks = _writable(rows).reshape(-1, elements)
    out = np.empty((len(blocks), nbytes), np.uint8)
    weights = np.empty((0, elements), np.float32) if importance is None else importance.reshape(-1, elements)
    _kernel(type)(blocks, _writable(weights), out)
    _loaded.add(type)
    return out.reshape(len(rows), -1)


@cache
def _imports() -> bool:
    """Return whether numba can be imported: one that is too old for this NumPy cannot."""
    try:
        from llmnotes.quantization.fast import k_quants  # noqa: F401
    except ImportError:
        return False
    return True


@cache
def _kernel(type: str) -> Callable:
    from llmnotes.quantization.fast import k_quants, legacy_blocks

    module, function = KERNELS[type]
    return getattr({"k_quants": k_quants, "legacy_blocks": legacy_blocks}[module], function)


def _writable(x: np.ndarray) -> np.ndarray:
    """Return a contiguous array that may be written to; numba would compile again for one that may not."""
    return np.require(x, np.float32, ["C", "W"])
