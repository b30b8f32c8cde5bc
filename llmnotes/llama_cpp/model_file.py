"""What the header of a GGUF file says about the model in it."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from llmnotes import formats
from llmnotes.errors import ModelBroken, UnknownFormat
from llmnotes.formats.gguf.kinds import only_a_model

Value = TypeVar("Value")


@dataclass(frozen=True)
class ModelFile:
    """What the header of a GGUF file says; None where it says nothing.

    `context` is the longest text in tokens, `width` the length of a token's vector, `template` the chat template,
    `pooling` llama.cpp's number for how a text becomes one vector (1 mean, 2 first token, 3 last token), and `types`
    the number of tensors of each type: {"Q4_K": 24, "F32": 9}.
    """

    path: Path
    name: str
    architecture: str | None
    layers: int | None
    context: int | None
    width: int | None
    vocabulary: int | None
    template: str | None
    pooling: int | None
    parameters: int
    nbytes: int
    types: dict[str, int]

    @classmethod
    def read(cls, path: str | Path) -> "ModelFile":
        """Read the header of the GGUF at `path`; weights are not read.

        Of a model in several files, `path` is the first, from which llama.cpp finds the others. Raises `UnknownFormat`
        for another kind of file, `ModelBroken` for a GGUF without a model, and what `formats.inspect` raises for one
        that is cut short or damaged. Does not know whether llama.cpp can run it: see
        `llmnotes.llama_cpp.trial.checked_file`.
        """
        path = Path(path)
        found = formats.inspect(path)
        if found.identity.format != "GGUF":
            raise UnknownFormat(
                f"{path.name} is {found.identity.format}, and llama.cpp runs GGUF alone; make one from the model's "
                "folder: llmnotes convert FOLDER model.gguf"
            )
        only_a_model(found, ModelBroken)
        path = found.path

        def value(key: str, kind: type[Value]) -> Value | None:
            value = found.metadata.get(key)
            return value if isinstance(value, kind) else None

        tokens = found.metadata.get("tokenizer.ggml.tokens")
        return cls(
            path,
            value("general.name", str) or path.stem,
            found.architecture,
            value(f"{found.architecture}.block_count", int),
            value(f"{found.architecture}.context_length", int),
            value(f"{found.architecture}.embedding_length", int),
            len(tokens) if tokens is not None and hasattr(tokens, "__len__") else None,
            value("tokenizer.chat_template", str),
            value(f"{found.architecture}.pooling_type", int),
            found.parameters,
            sum(file.stat().st_size for file in {path, *(tensor.path or path for tensor in found.tensors)}),
            dict(Counter(tensor.dtype for tensor in found.tensors)),
        )
