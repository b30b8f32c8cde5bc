"""Convert llama2.c's models, its `.bin` files and the checkpoints of its training, to a folder or a GGUF.

Both are seen as a GGUF first: their rows of q and k stand in GGUF's order, and the layers of a field in a `.bin` lie
one after the other, so that each is a tensor of its own.
"""

import re
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

from llmnotes.errors import FileBroken, NotConvertible
from llmnotes.formats.files import METADATA_LIMIT, Source
from llmnotes.formats.gguf import architectures, hf_tokenizer, pieces, requantize, rope, to_huggingface
from llmnotes.formats.gguf.from_huggingface import type_of
from llmnotes.formats.gguf.source import COMPUTED
from llmnotes.formats.legacy.ggml.to_gguf import name_of
from llmnotes.formats.repack import values_left
from llmnotes.formats.results import Conversion, Inspection, Tensor, counted, size_of

CHECKPOINT = "llama2.c checkpoint"  # a PyTorch file
LLAMA = architectures.of_gguf("llama")
EPSILON, BASE = 1e-5, 10000.0  # of the norms and the rotations, which run.c has in its code
# Field in a `.bin` -> the name that the model has for it
WHOLE = {"token_embedding_table": "tok_embeddings", "rms_final_weight": "norm", "wcls": "output"}
LAYER = {f"w{letter}": f"attention.w{letter}" for letter in "qkvo"} | {f"w{n}": f"feed_forward.w{n}" for n in "123"}
LAYER |= {"rms_att_weight": "attention_norm", "rms_ffn_weight": "ffn_norm"}
TOKENIZERS = ("tokenizer.bin", "tokenizer.model")  # beside the model; tok512.bin and the like are its own vocabularies
COMPILED = "_orig_mod."  # which torch.compile puts before the names
ARGUMENTS = "dim n_layers n_heads n_kv_heads vocab_size hidden_dim multiple_of norm_eps max_seq_len dropout".split()
ENDS = "run.c ends a text where the model writes <s>; other programs end it at </s>."


def is_checkpoint(inspection: Inspection) -> bool:
    """Whether a PyTorch file is a checkpoint of llama2.c's train.py."""
    said = inspection.metadata.get("model_args")
    names = {tensor.name.removeprefix(inspection.prefix).removeprefix(COMPILED) for tensor in inspection.tensors}
    return isinstance(said, dict) and said.keys() >= {"dim", "n_layers", "n_heads"} and "tok_embeddings.weight" in names


def to_folder(inspection: Inspection, dst: Path, type: str | None = None) -> Conversion:
    """Write a folder with config.json, model.safetensors in F32, F16 or BF16, and the tokenizer that lies beside the
    file as tokenizer.bin or tokenizer.model; without one, `lost` says so.

    Raises `FileBroken` (tensors missing or of another shape than the numbers say, a tokenizer of another size) and
    `NotConvertible` (a setting that llama2.c does not have).
    """
    model, left, lost = _as_gguf(inspection)
    keys = _tokenizer(inspection, model.metadata["llama.vocab_size"])
    files = hf_tokenizer.files(model.metadata | keys, inspection.path.name) if keys else {}
    if not keys:
        lost.append("No tokenizer lies beside the file; put the tokenizer.model it was trained with into the folder.")
    done = to_huggingface.to_huggingface(model, dst, type, files, lost)
    return replace(done, made=_with_scales(inspection, done), left=left)


def to_gguf(inspection: Inspection, dst: Path, type: str | None = None) -> Conversion:
    """Write a GGUF of a type as the conversion from Hugging Face does, with the tokenizer that lies beside the file.

    Raises what `to_folder` raises, and `NotConvertible` where no tokenizer lies there.
    """
    model, left, lost = _as_gguf(inspection)
    keys = _tokenizer(inspection, model.metadata["llama.vocab_size"])
    if not keys:
        raise NotConvertible(
            f"llama2.c keeps the tokenizer in a file of its own; put the tokenizer.bin or tokenizer.model of "
            f"{inspection.path.name} beside it."
        )
    keys = model.metadata | keys
    done = requantize.requantize(model, dst, type_of(type, model), keys=keys)
    return replace(done, made=_with_scales(inspection, done), left=left, lost=(*done.lost, *lost))


def _as_gguf(inspection: Inspection) -> tuple[Inspection, dict[str, str], list[str]]:
    """Return (the model as an inspection of a GGUF would show it, {tensor left out: why}, sentences on losses)."""
    if inspection.identity.format == "llama2.c":
        numbers, tensors = inspection.metadata, _fields(inspection)
        lost = [
            f"The file does not say the epsilon of its norms and the base of its rotations: {EPSILON} and {BASE:.0f} "
            "were taken, as run.c does."
        ]
    else:
        numbers, tensors = _of_checkpoint(inspection)
        lost = [*values_left(inspection, ("model_args",))]
    at_hand = {name_of(name) or name: tensor.renamed(name_of(name) or name) for name, tensor in tensors.items()}
    names = {tensor.stored_name for tensor in at_hand.values()}
    left = {tensor.name: COMPUTED for tensor in inspection.tensors if tensor.name.startswith("freq")}
    left |= inspection.beside
    # Once the tensors are those that the numbers promise, they are a Llama's.
    config = {
        "hidden_size": numbers["dim"],
        "intermediate_size": numbers["hidden_dim"],
        "num_hidden_layers": numbers["n_layers"],
        "num_attention_heads": numbers["n_heads"],
        "num_key_value_heads": numbers["n_kv_heads"],
        "max_position_embeddings": numbers["seq_len"],
        "vocab_size": numbers["vocab_size"],
        "rms_norm_eps": numbers.get("norm_eps", EPSILON),
        "tie_word_embeddings": "output.weight" not in at_hand,
    }
    wanted = architectures.weights(LLAMA, rope.settings(LLAMA, config, len(names)))
    metadata = {"general.architecture": "llama", "general.name": inspection.path.stem, "llama.rope.freq_base": BASE}
    metadata["llama.rope.dimension_count"] = config["hidden_size"] // config["num_attention_heads"]
    for setting, (key, _) in architectures.SETTINGS.items():
        if setting in config:
            metadata[f"llama.{key}"] = config[setting]
    metadata |= {"tokenizer.ggml.bos_token_id": 1, "tokenizer.ggml.eos_token_id": 2}
    model = replace(
        inspection, architecture="llama", tensors=tuple(at_hand.values()), metadata=metadata, beside={}, prefix=""
    )
    to_huggingface.check(model, wanted, at_hand)
    return model, left, [*lost, ENDS]


def _fields(inspection: Inspection) -> dict[str, Tensor]:
    """Return each matrix and norm of a `.bin` under its name in the model; int8 ones as the float32 they stand for."""
    found = {}
    for tensor in inspection.tensors:
        field, _, layer = tensor.name.partition(".")
        if field in WHOLE and not layer:
            found[f"{WHOLE[field]}.weight"] = _floats(tensor)
        elif field in LAYER and layer.isdigit():
            found[f"layers.{layer}.{LAYER[field]}.weight"] = _floats(tensor)
        elif field in LAYER and not layer:
            count, step = tensor.shape[0], tensor.nbytes // tensor.shape[0]
            for at in range(count):
                offset = None if tensor.offset is None else tensor.offset + at * step
                one = replace(tensor, shape=tensor.shape[1:], nbytes=step, offset=offset)
                found[f"layers.{at}.{LAYER[field]}.weight"] = one
    return found


def _floats(tensor: Tensor) -> Tensor:
    if tensor.dtype != "I8":
        return tensor
    return replace(tensor, dtype="F32", nbytes=size_of("F32", tensor.shape), offset=None)  # `llama2c.read` computes it


def _of_checkpoint(inspection: Inspection) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return (the numbers of a model, by the names that a `.bin` has for them; its tensors by their names in it)."""
    tensors = {}
    for tensor in inspection.tensors:
        if tensor.name not in inspection.beside:
            name = tensor.name.removeprefix(inspection.prefix).removeprefix(COMPILED)
            tensors[name] = tensor
    table, head = tensors["tok_embeddings.weight"], tensors.get("output.weight")
    if head is not None and (head.alias or head.name) == (table.alias or table.name):
        del tensors["output.weight"]  # tied
    said = inspection.metadata["model_args"]
    strange = sorted(said.keys() - set(ARGUMENTS))
    if strange:
        raise NotConvertible(
            f"The model_args of {inspection.path.name} say {strange[0][:80]}, which llama2.c's model does not have; "
            "export it with the program that trained it."
        )
    inner = tensors.get("layers.0.feed_forward.w1.weight")
    numbers = said | {
        "hidden_dim": inner.shape[0] if inner is not None and inner.shape else None,
        "n_kv_heads": said.get("n_kv_heads") or said["n_heads"],
        "vocab_size": table.shape[0] if table.shape else None,
        "seq_len": said.get("max_seq_len", 2048),
    }
    return numbers, tensors


def _with_scales(inspection: Inspection, done: Conversion) -> dict[str, tuple[str, ...]]:
    """Return which tensors are in which, the scales of int8 matrices included."""
    names = {tensor.name for tensor in inspection.tensors}
    scales = {name: f"{name}.scales" for name in names if f"{name}.scales" in names}
    return {
        name: tuple(part for source in sources for part in (source, scales.get(source)) if part)
        for name, sources in (done.made or {}).items()
    }


def _tokenizer(inspection: Inspection, size: int) -> dict[str, Any]:
    """Return GGUF's keys for the tokenizer that lies beside the file, or {} where none does."""
    folder = inspection.path.parent
    for name in (*TOKENIZERS, f"tok{size}.bin", f"tok{size}.model"):
        path = folder / name
        if path.is_file():
            rows = list(pieces.of_model(path).rows.values()) if path.suffix == ".model" else _rows(path)
            if len(rows) != size:
                raise FileBroken(
                    f"{name} has {counted(len(rows), 'token')}, and {inspection.path.name} {size:,}; put the one "
                    "beside it that it was trained with."
                )
            texts, scores, kinds = zip(*rows, strict=True)
            lists = {"tokens": list(texts), "scores": list(scores), "token_type": list(kinds)}
            keys = {"model": "llama", "pre": "default", **lists, "unknown_token_id": 0}
            keys |= {"add_bos_token": True, "add_eos_token": False}
            return {f"tokenizer.ggml.{key}": value for key, value in keys.items()}
    return {}


def _rows(path: Path) -> list[pieces.Row]:
    """Return (text, score, type) of each token in a tokenizer.bin: after a number, its score, its length, its text."""
    found = []
    with Source(path) as source:
        if source.size > METADATA_LIMIT:
            raise source.broken(f"it has {source.size:,} bytes, more than any vocabulary")
        data, at = source.read(0, source.size), 4
        while at < len(data):
            if at + 8 > len(data):
                raise source.broken("it ends in the middle of a token")
            score, length = struct.unpack_from("<fi", data, at)
            at += 8 + length
            if length < 0 or at > len(data):
                raise source.broken("it ends in the middle of a token")
            text = data[at - length : at].decode("utf-8", "replace").replace(" ", pieces.MARK)
            kind = pieces.BYTE if re.fullmatch("<0x[0-9A-F]{2}>", text) else pieces.NORMAL
            found.append((text, score, kind))
    # The first three are <unk>, <s> and </s>; export.py writes the last two with line breaks around them.
    first = [("<unk>", 0.0, pieces.UNKNOWN), ("<s>", 0.0, pieces.CONTROL), ("</s>", 0.0, pieces.CONTROL)]
    return first[: len(found)] + found[3:]
