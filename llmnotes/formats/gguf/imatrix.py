"""Importance matrices as llama.cpp keeps them: a GGUF with the sums of squared inputs of each matrix, or a .dat.

In a GGUF there are two tensors for the matrix NAME: NAME.in_sum2 with a sum for each column, and NAME.counts with the
number of inputs that were summed; where matrices of several experts are stacked, both have a row for each. The .dat
came before: see `legacy.imatrix_dat`. (llama.cpp, tools/imatrix.)
"""

import re
from pathlib import Path
from typing import Any

from llmnotes.errors import FileBroken, NotConvertible
from llmnotes.formats.files import Source
from llmnotes.formats.gguf.families import FUSED, LAYER
from llmnotes.formats.gguf.types import Typed
from llmnotes.formats.gguf.write import write_gguf
from llmnotes.formats.legacy import imatrix_dat
from llmnotes.formats.registry import inspect, read
from llmnotes.formats.results import PlannedTensor
from llmnotes.formats.safe_write import new_file

SUMS, COUNTS = ".in_sum2", ".counts"


def read_imatrix(path: str | Path) -> dict[str, Any]:
    """Return {name of a matrix in GGUF: the mean square of each column's inputs, float32 (columns,)}.

    A stack of experts has the columns of each. Raises `NotConvertible` for a file that is not an importance matrix, and
    `FileBroken` where sums and counts do not fit together.
    """
    with Source(path) as source:
        return _of_gguf(source.path) if source.head(4) == b"GGUF" else _of_dat(source)


def _of_gguf(path: Path) -> dict[str, Any]:
    import numpy as np

    inspection = inspect(path)
    tensors = {tensor.name: tensor for tensor in inspection.tensors}
    names = [name.removesuffix(SUMS) for name in tensors if name.endswith(SUMS)]
    if not names:
        raise _other(path)

    def values(name):
        tensor = tensors.get(name)
        if tensor is None or tensor.dtype != "F32" or inspection.nbytes > imatrix_dat.LIMIT:
            raise FileBroken(f"{inspection.path.name} has no {name[:80]} in F32; make it again.")
        return np.frombuffer(b"".join(read(inspection, tensor)), "<f4")

    found = {}
    for name in names:
        sums, counts = values(name + SUMS), values(name + COUNTS)
        if not len(counts) or len(sums) % len(counts):
            raise FileBroken(f"{name[:80]} has {len(sums):,} sums and {len(counts):,} counts; make it again.")
        _check(name, path, sums, counts)
        rows, counts = sums.reshape(len(counts), -1), counts[:, None]
        found[name] = np.divide(rows, counts, out=np.ones_like(rows), where=counts > 0).reshape(-1)
    return found


def _of_dat(source: Source) -> dict[str, Any]:
    import numpy as np

    found = {}
    for name, count, columns, start in imatrix_dat.entries(source):
        sums = np.frombuffer(source.read(start, 4 * columns), "<f4")
        _check(name, source.path, sums, count)
        found[name] = sums / np.float32(count) if count else sums
    if not found:
        raise _other(source.path)
    return found


def _other(path: Path) -> NotConvertible:
    return NotConvertible(
        f"{path.name} is not an importance matrix; give one from llama-imatrix, or a .txt to measure one on."
    )


def _check(name: str, path: Path, sums: Any, counts: Any) -> None:
    import numpy as np

    if not all(np.isfinite(numbers).all() and np.all(numbers >= 0) for numbers in (sums, counts)):
        raise FileBroken(f"The sums of {name[:80]} in {path.name} are negative or not finite; make it again.")


def write_imatrix(path: str | Path, importance: dict[str, Any], dataset: str = "") -> None:
    """Write {name of a weight: mean square of each column's inputs} for llama.cpp, each as the sum of one input.

    `dataset` names the text. Names may be those of Hugging Face. Raises what `new_file` raises.
    """
    import numpy as np

    parts = []
    for name, means in named(importance).items():
        sums = np.ascontiguousarray(means, "<f4")
        parts.append(PlannedTensor(name + SUMS, "F32", sums.shape, lambda sums=sums: [sums.tobytes()]))
        parts.append(PlannedTensor(name + COUNTS, "F32", (1,), lambda: [np.ones(1, "<f4").tobytes()]))
    keys = {"general.type": "imatrix", "imatrix.datasets": Typed("[STRING]", [dataset])}
    keys |= {"imatrix.chunk_count": 1, "imatrix.chunk_size": 1}
    with new_file(path) as file:
        write_gguf(file, keys, parts)


def named(importance: dict[str, Any]) -> dict[str, Any]:
    """Return the same under GGUF's names.

    >>> named({"model.layers.3.mlp.down_proj.weight": 1, "blk.0.attn_q.weight": 2})
    {'blk.3.ffn_down.weight': 1, 'blk.0.attn_q.weight': 2}
    >>> named({"model.layers.3.self_attn.qkv_proj.weight": 1})
    {'blk.3.attn_qkv.weight': 1}
    """
    found = {}
    for name, means in importance.items():
        parts = re.fullmatch(r"model\.layers\.(\d{1,9})\.(.+)\.weight", name)
        ours = None if parts is None else (LAYER | FUSED).get(parts[2])
        if parts is not None and ours is not None:
            name = f"blk.{parts[1]}.{ours}.weight"
        found[name] = means
    return found
