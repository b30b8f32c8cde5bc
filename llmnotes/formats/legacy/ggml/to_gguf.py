"""Convert a LLaMA model in GGML, GGMF or GGJT, the formats before GGUF, to GGUF."""

import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from llmnotes.errors import FileBroken, NotConvertible
from llmnotes.formats.gguf import splits
from llmnotes.formats.gguf.finite import zeros
from llmnotes.formats.gguf.from_huggingface import quantized, type_of
from llmnotes.formats.gguf.source import COMPUTED
from llmnotes.formats.gguf.types import NUMBERS, Typed
from llmnotes.formats.progress import progress
from llmnotes.formats.registry import read
from llmnotes.formats.results import Conversion, Inspection, PlannedTensor, Tensor
from llmnotes.quantization import mixtures

# The name of a tensor before ".weight" -> GGUF's
WHOLE = {"tok_embeddings": "token_embd", "norm": "output_norm", "output": "output"}
LAYER = {
    "attention.wq": "attn_q",
    "attention.wk": "attn_k",
    "attention.wv": "attn_v",
    "attention.wo": "attn_output",
    "attention_norm": "attn_norm",
    "feed_forward.w1": "ffn_gate",
    "feed_forward.w2": "ffn_down",
    "feed_forward.w3": "ffn_up",
    "ffn_norm": "ffn_norm",
}
LAID_ANEW = {"Q5_0_V1": "Q5_0", "Q5_1_V1": "Q5_1"}  # the same numbers in another order
NORMAL, UNKNOWN, CONTROL, BYTE = 1, 2, 3, 6  # types of tokens
CONTEXT, EPSILON = 2048, 5e-6  # what llama.cpp took for these files


def to_gguf(
    inspection: Inspection, dst: Path, type: str | None = None, split_max_size: int | None = None
) -> Conversion:
    """Write the LLaMA model in a GGML, GGMF or GGJT file as a GGUF; rows of q and k already stand in GGUF's order.

    Without a `type` each tensor keeps its own, bit for bit, wherever today's GGML has it; blocks whose scales were
    float32 (Q4 and Q8 before GGJT 3) have no such type and become F16, named in `fallbacks`. With a type it is a file
    type of `mixtures`, as in the conversion from Hugging Face.

    Raises `NotConvertible` (another model than LLaMA, one file of several, an unknown type) and `FileBroken` (tensors
    missing, left over, or of another shape than the file's numbers say). Does not know what these files never said:
    `lost` lists it.
    """
    sizes = _sizes(inspection)
    type = type and type_of(type, inspection)
    # By their names in GGUF; only the frequencies of the rotations, which llama.cpp computes, have none.
    tensors = {name: tensor for tensor in inspection.tensors if (name := name_of(tensor.name)) is not None}
    types, fallbacks = _types(tensors, type, sizes | inspection.metadata)
    lost_rows: dict[str, int] = {}
    with progress(inspection.nbytes, dst.name) as advance:
        parts = []
        for name, dtype in types.items():
            tensor, data = tensors[name], partial(_data, name, tensors[name], inspection, dtype, advance, lost_rows)
            parts.append(PlannedTensor(name, dtype, tensor.shape, data, (tensor.name,)))
        keys = _keys(inspection, sizes, _file_type(inspection, type, parts))
        files = splits.write_model(dst, keys, parts, split_max_size)
    lost = [
        f"The file does not say its context length and the epsilon of its norms: {CONTEXT} and {EPSILON} were taken, "
        "as llama.cpp does."
    ]
    if "scores" not in inspection.metadata:
        lost.append("The file has no scores of tokens: they were given by order, as LLaMA's own vocabulary has them.")
    lost += zeros(lost_rows)
    left = {tensor.name: COMPUTED for tensor in inspection.tensors if name_of(tensor.name) is None}
    return Conversion.of(inspection, files, "gguf", parts, lost, fallbacks, left)


def name_of(old: str) -> str | None:
    """Return GGUF's name of a tensor, or None.

    >>> name_of("layers.3.attention.wq.weight"), name_of("norm.weight")
    ('blk.3.attn_q.weight', 'output_norm.weight')
    """
    found = re.fullmatch(r"(?:layers\.(\d{1,5})\.)?([a-z_.0-9]+)\.weight", old)
    layer, stem = found.groups() if found else (None, "")
    new = WHOLE.get(stem) if layer is None else LAYER.get(stem)
    return new and (f"{new}.weight" if layer is None else f"blk.{layer}.{new}.weight")


def _sizes(inspection: Inspection) -> dict[str, int]:
    """Return the model's sizes, once the tensors are exactly those that they promise."""
    name, found = inspection.path.name, inspection.metadata
    if inspection.architecture is None or inspection.notes:
        raise NotConvertible(f"{name} cannot become a GGUF ({inspection.notes[0]}); take a whole LLaMA model.")
    shapes = {tensor.name: tensor.shape for tensor in inspection.tensors}
    heads, width, layers = found["n_head"], found["n_embd"], found["n_layer"]
    vocabulary = found["n_vocab"]
    hidden = shapes.get("layers.0.feed_forward.w1.weight", (0,))[0]
    keys = shapes.get("layers.0.attention.wk.weight", (0,))[0]
    if not heads or width % heads or layers > len(shapes) or keys % (width // heads) or not keys or vocabulary < 3:
        raise FileBroken(f"{name} is damaged: its numbers and its first layer contradict each other; copy it again.")
    embedding: tuple[int, ...] = (vocabulary, width)
    promised = {"tok_embeddings.weight": embedding, "output.weight": embedding, "norm.weight": (width,)}
    in_a_layer = {
        "attention.wq": (width, width),
        "attention.wk": (keys, width),
        "attention.wv": (keys, width),
        "attention.wo": (width, width),
        "attention_norm": (width,),
        "feed_forward.w1": (hidden, width),
        "feed_forward.w2": (width, hidden),
        "feed_forward.w3": (hidden, width),
        "ffn_norm": (width,),
    }
    for layer in range(layers):
        promised |= {f"layers.{layer}.{stem}.weight": shape for stem, shape in in_a_layer.items()}
    wrong = [name for name, shape in promised.items() if shapes.get(name) != shape]
    wrong += [name for name in shapes if name not in promised and not name.endswith("rope.freqs")]
    if wrong:
        raise FileBroken(
            f"{name} is damaged: its numbers promise other tensors than it has, {wrong[0][:80]} first; copy it again."
        )
    return {"hidden": hidden, "kv": keys * heads // width}


def _types(tensors: dict[str, Tensor], type: str | None, sizes: dict) -> tuple[dict[str, str], dict[str, str]]:
    """Return ({tensor: its type}, {tensor: its type, where that is another than the one asked for or in the file})."""
    if type is not None:
        groups = sizes["n_head"] // sizes["kv"]
        shapes = {name: tensor.shape for name, tensor in tensors.items()}
        return mixtures.types(type, shapes, groups, sizes["n_layer"] == 80 and groups > 1)
    kept = {name: LAID_ANEW.get(tensor.dtype, tensor.dtype) for name, tensor in tensors.items()}
    kept |= {name: "F32" for name, tensor in tensors.items() if len(tensor.shape) == 1}
    fallbacks = {name: "F16" for name, dtype in kept.items() if dtype not in NUMBERS}
    return kept | fallbacks, fallbacks


def _data(
    name: str,
    tensor: Tensor,
    inspection: Inspection,
    dtype: str,
    advance: Callable[[int], None],
    lost_rows: dict[str, int],
) -> Iterator[bytes]:
    from llmnotes.quantization.blocks import reordered

    def counted():
        for piece in read(inspection, tensor):
            yield piece
            advance(len(piece))

    if LAID_ANEW.get(tensor.dtype) == dtype:
        return reordered(counted(), dtype)
    return quantized(name, lambda: [(tensor.dtype, counted())], dtype, tensor.shape[-1], lost_rows)


def _file_type(inspection: Inspection, type: str | None, parts: list[PlannedTensor]) -> int:
    """Return llama.cpp's number for the file type, or for what most of the matrices are."""
    if type is not None:
        return mixtures.FILE_TYPES[type][0]
    if {part.dtype for part in parts} <= {tensor.dtype for tensor in inspection.tensors}:
        return inspection.metadata["ftype"]
    matrices = [part.dtype for part in parts if len(part.shape) > 1]
    numbers = {kind: number for number, kind in mixtures.FILE_TYPES.values()}
    return numbers[max(numbers, key=matrices.count)]


def _keys(inspection: Inspection, sizes: dict[str, int], file_type: int) -> dict[str, Any]:
    numbers, identity = inspection.metadata, inspection.identity
    return {
        "general.architecture": "llama",
        "general.name": inspection.path.stem,
        "general.description": f"converted from {identity.format} {identity.version}".rstrip(),
        "general.file_type": file_type,
        "general.quantization_version": 2,
        "llama.context_length": CONTEXT,
        "llama.embedding_length": numbers["n_embd"],
        "llama.block_count": numbers["n_layer"],
        "llama.feed_forward_length": sizes["hidden"],
        "llama.rope.dimension_count": numbers["n_embd"] // numbers["n_head"],
        "llama.attention.head_count": numbers["n_head"],
        "llama.attention.head_count_kv": sizes["kv"],
        "llama.attention.layer_norm_rms_epsilon": EPSILON,
        "llama.vocab_size": numbers["n_vocab"],
        **_tokenizer(numbers),
    }


def _tokenizer(numbers: dict) -> dict[str, Any]:
    """Return LLaMA's SentencePiece vocabulary: 0 unknown, 1 begin, 2 end, then 256 bytes, then pieces by rank."""
    tokens: list[bytes] = [b"<unk>", b"<s>", b"</s>"]
    kinds = [UNKNOWN, CONTROL, CONTROL]
    for number in range(3, len(numbers["tokens"])):
        token = numbers["tokens"].raw(number)
        kind = NORMAL
        if not token:
            kind = CONTROL
        elif number <= 258 and len(token) == 1:
            token, kind = b"<0x%02X>" % token[0], BYTE
        tokens.append(token.replace(b" ", "▁".encode()))
        kinds.append(kind)
    ranks = [0.0 if kind != NORMAL else -float(max(at - 259, 0)) for at, kind in enumerate(kinds)]
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.pre": "default",
        "tokenizer.ggml.tokens": Typed("[STRING]", tokens),
        "tokenizer.ggml.scores": Typed("[F32]", numbers.get("scores", ranks)),
        "tokenizer.ggml.token_type": Typed("[I32]", kinds),
        "tokenizer.ggml.unknown_token_id": 0,
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.add_bos_token": True,
        "tokenizer.ggml.add_eos_token": False,
    }
