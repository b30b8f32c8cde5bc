"""Convert a Hugging Face folder to a GGUF file."""

import re
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

from llmnotes.errors import FileBroken, FileUnreadable, NotConvertible, NotQuantizable
from llmnotes.formats.gguf import architectures, llava, rope, splits, tokenizer_check, understood
from llmnotes.formats.gguf import tokenizer as gguf_tokenizer
from llmnotes.formats.gguf.architectures import Architecture, Weight
from llmnotes.formats.gguf.finite import Rows, finite, zeros
from llmnotes.formats.gguf.source import SOURCES, folder_tensors
from llmnotes.formats.gguf.types import Typed
from llmnotes.formats.huggingface import settings
from llmnotes.formats.progress import progress
from llmnotes.formats.results import Conversion, Inspection, PlannedTensor
from llmnotes.quantization import mixtures

SAMPLING = {
    "top_k": ("top_k", "I32"),
    "top_p": ("top_p", "F32"),
    "min_p": ("min_p", "F32"),
    "temperature": ("temp", "F32"),
}
POOLING = {"pooling_mode_mean_tokens": 1, "pooling_mode_cls_token": 2, "pooling_mode_lasttoken": 3}
CODES = ("F8_E4M3", "F8_E5M2", "I8", "I32", "I64")  # what quantized weights are packed in
LIMIT = 1 << 27  # bytes of the largest group of rows that is held at a time


def convert(
    inspection: Inspection,
    dst: Path,
    type: str | None = None,
    importance: dict[str, Any] | None = None,
    split_max_size: int | None = None,
) -> Conversion:
    """Write the model in a Hugging Face folder as a GGUF of one `type`: F32, F16, BF16, Q8_0 or one of the `mixtures`.

    Without a type it is the folder's own (BF16 for a BF16 model, F16 for all others), as llama.cpp's converter does.
    A mixture gives every tensor the type that llama.cpp's quantizer gives it, to the byte, also with `importance`:
    {name of a tensor in GGUF: a number for each of its columns, in a stack for those of each matrix}. Vectors, norms
    and routers stay F32; a row that the blocks do not fit gets another type and is named in `fallbacks`. Tied
    embeddings are stored once, without an output.weight.
    Memory holds one piece of one tensor. `split_max_size` is that of `splits.write_model`.

    Raises `NotConvertible` (architecture, type, tokenizer or position scaling without a place in GGUF, a packing that
    `packed` does not know), `FileBroken` (tensors missing, left over, or of another shape than config.json says) and
    `NotQuantizable` (weights that are not finite, importance of another model). Of a LLaVA it writes the language model
    alone; --to mmproj writes the rest.
    """
    inspection, left = llava.language_model(inspection)
    config = inspection.metadata["config"]
    architecture = architectures.of_config(config, inspection.path)
    sizes = rope.settings(architecture, config, len(inspection.tensors))
    not_carried = understood.losses(architecture, config)
    wanted, at_hand, unused, said = folder_tensors(inspection, architecture, sizes)
    type = type_of(type, inspection)
    position_keys = rope.keys(architecture, sizes)
    tokenizer, lost = gguf_tokenizer.keys(
        inspection.path, config | {"vocab_size": sizes["vocab_size"]}, architecture.gguf, _name(inspection)
    )
    lost += tokenizer_check.differences(inspection.path, tokenizer, told=bool(lost))
    groups, importance = sizes["num_attention_heads"] // sizes["num_key_value_heads"], importance or {}
    shapes = {weight.name: weight.shape for weight in wanted}
    importance = same_model(importance, shapes)
    big = mixtures.is_70b(architecture.gguf, sizes["num_hidden_layers"], groups)
    eight = sizes.get("num_local_experts") == 8
    types, fallbacks = mixtures.types(type, shapes, groups, big, bool(importance), eight)
    lost_rows: dict[str, int] = {}
    with progress(inspection.nbytes, dst.name) as advance:
        parts = []
        for weight in wanted:
            matters = importance.get(weight.name)
            parts.append(part_of(weight, at_hand, types[weight.name], advance, lost_rows, matters))
        parts = _rope_factors(sizes) + parts
        metadata = general(inspection, architecture, parts) | architectures.keys(architecture, sizes) | position_keys
        metadata |= {"general.file_type": mixtures.FILE_TYPES[type][0], "general.quantization_version": 2} | tokenizer
        files = splits.write_model(dst, metadata, parts, split_max_size)
    lost = [*said, *lost, *not_carried, *zeros(lost_rows)]
    return Conversion.of(inspection, files, "gguf", parts, lost, fallbacks, left | unused)


def general(inspection: Inspection, architecture: Architecture, parts: list[PlannedTensor]) -> dict[str, Any]:
    """Return the keys that say what the model is: its name from the folder's, its size, how to sample and to embed."""
    found: dict[str, Any] = {"general.architecture": architecture.gguf, "general.type": "model"}
    generation = _settings(inspection.path / "generation_config.json")
    for setting, (key, kind) in SAMPLING.items():
        value = generation.get(setting)
        if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1 << 31:
            found[f"general.sampling.{key}"] = Typed(kind, int(value) if kind == "I32" else float(value))
    pooling = _settings(inspection.path / "1_Pooling" / "config.json")  # as sentence-transformers writes it
    kinds = [number for name, number in POOLING.items() if pooling.get(name) is True]
    if len(kinds) == 1:
        found[f"{architecture.gguf}.pooling_type"] = kinds[0]
    found["general.name"] = _name(inspection)
    count = sum(prod(part.shape[1:] if len(part.shape) == 3 else part.shape) for part in parts)
    experts = max((part.shape[0] for part in parts if len(part.shape) == 3), default=0)
    return found | {"general.size_label": f"{experts}x{_size_label(count)}" if experts else _size_label(count)}


def _settings(path: Path) -> dict:
    try:
        return settings(path)
    except (FileBroken, FileUnreadable):
        return {}


def permuted(pieces: Iterable[bytes], rows: int, width: int, back: bool = False) -> Iterator[bytes]:
    """Yield the rows of q or k, each of `width` bytes, `rows` of them to a head, with the two halves of every head
    interleaved: row i and row i + rows / 2 become neighbours. `back=True` undoes it.

    >>> b"".join(permuted([b"abcdef"], 6, 1)), b"".join(permuted([b"adbecf"], 6, 1, back=True))
    (b'adbecf', b'abcdef')
    """
    import numpy as np

    head, left = rows * width, b""
    if head > LIMIT:
        raise NotConvertible(f"One attention head has {head:,} bytes, more than in any known model; check config.json.")
    sides = (-1, rows // 2, 2, width) if back else (-1, 2, rows // 2, width)
    for piece in pieces:
        piece = left + piece if left else piece
        whole = len(piece) // head * head
        left = piece[whole:]
        yield np.frombuffer(piece, np.uint8, whole).reshape(sides).swapaxes(1, 2).tobytes()
    if left:
        yield left  # half a head; the writer counts bytes and reports it


def type_of(type: str | None, inspection: Inspection, known: Iterable[str] = tuple(mixtures.FILE_TYPES)) -> str:
    """Return the file type asked for, or the one that llama.cpp's converter takes by itself."""
    if type is None:
        first = next((t.dtype for t in inspection.tensors if len(t.shape) > 1 and t.dtype not in CODES), "F16")
        return "BF16" if first == "BF16" else "F16"
    name = mixtures.ALIASES.get(type.upper(), type.upper())
    if name not in known:
        raise NotConvertible(f"llmnotes cannot write the type {type[:40]}; choose one of {', '.join(known)}.")
    return name


def same_model(importance: dict[str, Any], shapes: dict[str, tuple[int, ...]]) -> dict[str, Any]:
    """Return the importance of these tensors, in a stack of experts with a row for each.

    Raises `NotQuantizable` for an importance matrix of a model with other tensors than these.
    """
    import numpy as np

    found = {}
    if importance and not importance.keys() & shapes.keys():
        raise NotQuantizable("The importance matrix has none of this model's tensors; collect it from this model.")
    for name in importance.keys() & shapes.keys():
        columns = (*shapes[name][:-2], shapes[name][-1])
        if np.size(importance[name]) != prod(columns):
            raise NotQuantizable(
                f"The importance matrix has {np.size(importance[name]):,} numbers for the {prod(columns):,} columns of "
                f"{name[:80]}; collect it from this model."
            )
        found[name] = np.reshape(importance[name], columns)
    return found


def part_of(
    weight: Weight,
    at_hand: dict[str, PlannedTensor],
    dtype: str,
    advance: Callable[[int], None],
    lost_rows: dict[str, int],
    importance: Any = None,
) -> PlannedTensor:
    """Return one tensor of a GGUF in the type `dtype`, ready to be written; `advance` hears how many bytes are read,
    and `lost_rows` gets what `quantized` says."""
    tensors = [at_hand[name] for name in weight.sources]
    sources = tuple(source for tensor in tensors for source in tensor.sources)
    data = partial(_data, weight, tensors, advance)
    coded = partial(quantized, weight.name, data, dtype, weight.shape[-1], lost_rows, importance)
    return PlannedTensor(weight.name, dtype, weight.shape, coded, sources)


def quantized(
    name: str, data: Callable, dtype: str, columns: int, lost_rows: dict[str, int], importance: Any = None
) -> Iterator[bytes]:
    """Yield a tensor in the type `dtype`; `data` yields (its type, its pieces) once for each tensor it is made of,
    and where these are a stack, each has a row of `importance`. `lost_rows` gets the number of rows that became zero.
    """
    from llmnotes.quantization.blocks import recoded

    importance = None if dtype in SOURCES else importance
    lost_rows[name] = 0
    for at, (source, pieces) in enumerate(data()):
        matters = importance if importance is None or importance.ndim == 1 else importance[at]
        try:
            if dtype in (source, "F32"):
                yield from finite(dtype, recoded(pieces, source, dtype, matters))
            else:
                rows = Rows(source, dtype, columns, matters is not None)
                yield from rows.after(finite(dtype, recoded(rows.before(pieces), source, dtype, matters)))
                lost_rows[name] += rows.lost
        except NotQuantizable as error:
            raise NotQuantizable(f"{name[:80]} cannot become {dtype}: {error}") from None


def _data(weight: Weight, tensors: list[PlannedTensor], advance) -> Iterator[tuple[str, Iterator]]:
    for tensor in tensors:
        pieces = iter(tensor.data())
        if weight.heads:
            rows = tensor.shape[0] // weight.heads
            pieces = permuted(pieces, rows, tensor.nbytes // tensor.shape[0])
        pieces = _counted(pieces, advance)
        yield ("F32", shifted(pieces, tensor.dtype, weight.plus)) if weight.plus else (tensor.dtype, pieces)


def shifted(pieces: Iterable[bytes], dtype: str, plus: int) -> Iterator[bytes]:
    """Yield the numbers of a small tensor of the type `dtype` as float32, with `plus` added to each.

    >>> import numpy as np
    >>> np.frombuffer(next(shifted([np.float32([0, 0.5]).tobytes()], "F32", 1)), "<f4").tolist()
    [1.0, 1.5]
    """
    import numpy as np

    from llmnotes.quantization.blocks import recoded

    yield (np.frombuffer(b"".join(recoded(pieces, dtype, "F32")), "<f4") + np.float32(plus)).tobytes()


def _counted(pieces: Iterable[bytes], advance: Callable[[int], None]) -> Iterator[bytes]:
    for piece in pieces:
        yield piece
        advance(len(piece))


def _rope_factors(sizes: dict) -> list[PlannedTensor]:
    """Return the tensors by which each pair's rotation is slowed, for the kinds of scaling that have some."""
    found = rope.factors(sizes)
    return [PlannedTensor(name, "F32", each.shape, lambda each=each: [each.tobytes()]) for name, each in found.items()]


def _name(inspection: Inspection) -> str:
    """Return a model's name from its folder's."""
    words = inspection.path.resolve().name.replace("-", " ").split()
    return " ".join(_title(word) for word in words) or "model"


def _title(word: str) -> str:
    return word.title() if word.islower() and not re.match(r"v?\d+(\.\d+)*$|\d", word) else word


def _size_label(count: int) -> str:
    """Return a count of parameters with two digits: 3.7M, 260K.

    >>> _size_label(3_672_320), _size_label(260_032)
    ('3.7M', '260K')
    """
    for step, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "K")):
        if count > step or letter == "K":
            digits = len(str(round(count / step)).lstrip("0"))
            return f"{count / step:.{max(2 - digits, 0)}f}{letter}"
    raise AssertionError
