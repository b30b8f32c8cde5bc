"""A GGUF of any shape whose weights are zeros, to ask llama.cpp what it allocates."""

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

from llmnotes.fit.gguf_sizes import convertible, planned, settings_of
from llmnotes.fit.shapes import Shape
from llmnotes.formats.gguf import entries
from llmnotes.formats.gguf.types import Typed
from llmnotes.formats.gguf.write import write_gguf
from llmnotes.formats.results import PlannedTensor
from llmnotes.quantization.mixtures import FILE_TYPES


def write_empty(path: Path, tokenizer: Path, shape: Shape, file_type: str) -> None:
    """Write a GGUF of a Llama of this shape whose weights are zeros, which take no room on most disks.

    The tokenizer's keys are copied from the GGUF `tokenizer`, and tokens are added until they fill the vocabulary.
    Raises `KeyError` for a file type that is not in `mixtures.FILE_TYPES`. The model writes no sensible text; it shows
    how much memory and time a model of its shape takes.
    """
    parts, settings = [], settings_of(shape)
    for name, (sides, dtype, nbytes) in planned(convertible(settings), settings, file_type).items():
        parts.append(PlannedTensor(name, dtype, sides, lambda nbytes=nbytes: _zeros(nbytes)))
    numbers = {"block_count": shape.layers, "embedding_length": shape.hidden, "feed_forward_length": shape.inner}
    numbers |= {"attention.head_count": shape.heads, "attention.head_count_kv": shape.kv_heads}
    numbers |= dict.fromkeys(("attention.key_length", "attention.value_length", "rope.dimension_count"), shape.head)
    numbers |= {"vocab_size": shape.vocabulary, "context_length": 8192}
    keys = entries(tokenizer) | {f"llama.{key}": Typed("U32", number) for key, number in numbers.items()}
    keys["general.file_type"] = Typed("U32", FILE_TYPES[file_type][0])
    tokens, kinds = list(keys["tokenizer.ggml.tokens"].value), list(keys["tokenizer.ggml.token_type"].value)
    more = range(len(tokens), shape.vocabulary)
    keys["tokenizer.ggml.tokens"] = Typed("[STRING]", tokens + [f"<{number}>" for number in more])
    keys["tokenizer.ggml.token_type"] = Typed("[I32]", kinds + [1 for _ in more])
    with open(path, "wb") as file:
        write_gguf(cast(BinaryIO, _Holes(file)), keys, parts)
        file.truncate(file.tell())


class _Holes:
    """A file that skips zeros when it writes."""

    def __init__(self, file: BinaryIO):
        self.file = file

    def write(self, data: bytes) -> None:
        if len(data) > 4096 and not data.strip(b"\0"):
            self.file.seek(len(data), 1)
        else:
            self.file.write(data)


def _zeros(left: int) -> Iterator[bytes]:
    zeros = bytes(1 << 20)
    while left > 0:
        yield zeros if left >= len(zeros) else zeros[:left]
        left -= len(zeros)
