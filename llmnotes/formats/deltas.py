"""A model published as its difference to another one, as Vicuna was to LLaMA.

The receiver needs the base, whose licence may forbid passing it on. Rounding in 16 bits means that base plus delta is
not always the target: the result of `make_delta` counts how often.
"""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from llmnotes.errors import NotConvertible
from llmnotes.formats.arrival import checked
from llmnotes.formats.progress import progress
from llmnotes.formats.registry import inspect, read
from llmnotes.formats.repack import copy_beside, parts_and_ties
from llmnotes.formats.results import Conversion, Inspection, PlannedTensor, Tensor
from llmnotes.formats.safe_write import new_folder
from llmnotes.formats.safetensors import write_safetensors

FLOATS = ("F32", "F16", "BF16")
BLOCK = 1 << 20  # elements that are in memory at a time
KEY = "llmnotes.base"  # the name in the metadata under which the base's fingerprint stands


@dataclass
class Delta:
    """What `make_delta` wrote: of `weights` elements, `exact` come back bit for bit; the worst is off by `error`."""

    target: Path
    tensors: int
    weights: int = 0
    exact: int = 0
    error: float = 0.0


def make_delta(base: str | Path, target: str | Path, dst: str | Path) -> Delta:
    """Write to the folder `dst` what has to be added to `base` to get `target`; return how exactly that works.

    All three are Hugging Face folders. Each difference is rounded to the dtype of the target's tensor. Where the
    target has more rows than the base (tokens that were added), the further rows are stored as they are, and so are
    tensors that the base lacks. Settings and tokenizer are the target's. The base's fingerprint goes into the metadata.

    Raises `NotConvertible` if the two are not of one architecture and shape, and what `inspect` and `new_folder` raise.
    Does not store what rounding took: where the last bit matters, publish the weights.
    """
    dst = Path(dst)
    old, new = inspect(base), inspect(target)
    _relatives(old, new)
    result = Delta(dst, len(new.tensors))
    _combine(old, new, dst, lambda old, new, cast: _subtract(old, new, cast, result), {KEY: fingerprint(old)})
    return result


def apply_delta(base: str | Path, delta: str | Path, dst: str | Path) -> Conversion:
    """Write to the folder `dst` the model that `base` becomes when `delta` is added; the reverse of `make_delta`.

    `delta` may be another's, as safetensors or .bin: if it says which base it was made from, the base is compared
    with that. Settings and tokenizer are the delta's. Raises `NotConvertible` for a wrong base.
    """
    dst = Path(dst)
    old, new = inspect(base), inspect(delta)
    _relatives(old, new)  # first, because only a folder has a fingerprint
    said = new.metadata.get("weights", {}).get(KEY)
    if said is not None and said != fingerprint(old):
        raise NotConvertible(
            f"{new.path} was made from a different base than {old.path}; give the base it was made from."
        )
    return _combine(old, new, dst, lambda old, new, cast: cast(old + new), {})


def fingerprint(inspection: Inspection) -> str:
    """Return 32 hexadecimal digits for the names, shapes, dtypes and first 64 kB of all tensors of a model."""
    _, ties = parts_and_ties(inspection)
    digest = hashlib.sha256()
    for tensor in sorted(inspection.tensors, key=lambda tensor: tensor.name):
        if tensor.name not in ties:
            digest.update(repr((tensor.name, tensor.dtype, tensor.shape)).encode("utf-8", "backslashreplace"))
            digest.update(next(iter(read(inspection, tensor)), b"")[: 1 << 16])
    return digest.hexdigest()[:32]


def _relatives(base: Inspection, other: Inspection) -> None:
    """Raise `NotConvertible` unless every tensor of `base` is in `other` with the same shape or more rows."""
    for side in (base, other):
        if side.identity.format != "Hugging Face folder":
            raise NotConvertible(
                f"{side.path} is a {side.identity.format}; a delta is the difference of two Hugging Face folders."
            )
    one, two = (str(side.metadata["config"].get("model_type"))[:40] for side in (base, other))
    if one != two:
        raise NotConvertible(f"{base.path} is {one} and {other.path} {two}; give the base it was tuned from.")
    shapes = {tensor.name: tensor.shape for tensor in other.tensors}
    for tensor in base.tensors:
        shape = shapes.get(tensor.name)
        if tensor.name.endswith(".rotary_emb.inv_freq") and shape is None:
            continue  # a constant that old checkpoints carry along
        fits = shape is not None and len(shape) == len(tensor.shape) and shape[1:] == tensor.shape[1:]
        if shape is None or not fits or shape[:1] < tensor.shape[:1]:
            raise NotConvertible(
                f"{tensor.name[:80]!r} is {tensor.shape} in {base.path} and {shape or 'missing'} in {other.path}; "
                "give the base that it was tuned from."
            )


def _combine(base: Inspection, other: Inspection, dst: Path, function, metadata: dict[str, str]) -> Conversion:
    """Write `function(base, other)` of each tensor, with all that stands beside `other`'s weights."""
    strange = next((t for t in other.tensors if t.dtype not in FLOATS), None)
    if strange is not None:
        raise NotConvertible(
            f"{strange.name[:80]!r} is {strange.dtype}; llmnotes only makes deltas of F32, F16 and BF16."
        )
    old = {tensor.name: tensor for tensor in base.tensors if tensor.dtype in FLOATS}
    _, ties = parts_and_ties(other)
    with progress(other.nbytes, dst.name) as advance, new_folder(dst) as folder:
        lost = copy_beside(other, folder)
        parts = []
        for tensor in other.tensors:
            if tensor.name not in ties:
                data = _pieces(base, old.get(tensor.name), other, tensor, function, advance)
                parts.append(PlannedTensor(tensor.name, tensor.dtype, tensor.shape, data, (tensor.name,)))
        with folder.file("model.safetensors") as file:
            write_safetensors(file, parts, {"format": "pt"} | metadata | ties)
    return checked(other, Conversion.of(other, dst, "huggingface", parts, lost, ties=ties))


def _pieces(base, old: Tensor | None, other, tensor: Tensor, function, advance) -> Callable[[], Iterator[bytes]]:
    def pieces():
        was = _blocks(base, old) if old else iter(())
        done = 0
        for new in _blocks(other, tensor):
            before = next(was, new[:0])  # the base may have fewer rows
            with_base = function(before, new[: len(before)], lambda x: _rounded(x, tensor.dtype))
            yield _stored(with_base, tensor.dtype) + _stored(new[len(before) :], tensor.dtype)
            done += len(new)
            advance(len(new) * tensor.nbytes // max(tensor.elements, 1))

    return pieces


def _subtract(old, new, cast, result: Delta):
    """Return new - old, rounded; count in `result` what comes back when it is added to `old` again."""
    import numpy as np

    delta = cast(new - old)
    back = cast(old + delta)
    result.weights += len(new)
    result.exact += int(np.count_nonzero(back.view(np.uint32) == new.view(np.uint32)))
    if len(new):
        result.error = max(result.error, float(np.abs(back - new).max()))
    return delta


def _blocks(inspection: Inspection, tensor: Tensor):
    """Yield a tensor as float32 arrays of `BLOCK` elements, the last one shorter."""
    width = tensor.nbytes // max(tensor.elements, 1) * BLOCK
    rest = bytearray()
    for piece in read(inspection, tensor):
        rest += piece
        while len(rest) >= width:
            yield _floats(bytes(rest[:width]), tensor.dtype)
            del rest[:width]
    if rest:
        yield _floats(bytes(rest), tensor.dtype)


def _floats(data: bytes, dtype: str):
    import numpy as np

    from llmnotes.quantization import bf16

    if dtype == "BF16":
        return bf16.decode(np.frombuffer(data, "<u2"))
    return np.frombuffer(data, {"F32": "<f4", "F16": "<f2"}[dtype]).astype(np.float32)


def _rounded(values, dtype: str):
    """Return float32 values as `dtype` would hold them."""
    return _floats(_stored(values, dtype), dtype)


def _stored(values, dtype: str) -> bytes:
    """Return float32 values as the bytes of `dtype`, rounded to the nearest, ties to even."""
    import numpy as np

    from llmnotes.quantization import bf16

    if dtype == "BF16":
        return bf16.encode(values).tobytes()
    with np.errstate(over="ignore"):
        return values.astype({"F32": "<f4", "F16": "<f2"}[dtype]).tobytes()
