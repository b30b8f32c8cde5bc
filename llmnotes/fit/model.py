"""A model as far as memory is concerned: from a config, from a GGUF's header, or from the built-in list of models."""

import difflib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import NamedTuple

from llmnotes import formats
from llmnotes.errors import FileBroken, ModelBroken, NotConvertible, UnknownFormat, UnknownName
from llmnotes.fit.shapes import LAYERS_LIMIT, Shape, read_config, shape_of
from llmnotes.formats.adapters import base_of, is_adapter, name_of, result_of
from llmnotes.formats.gguf import architectures, rope, understood
from llmnotes.formats.gguf.families import ARCHITECTURES
from llmnotes.formats.gguf.kinds import only_a_model
from llmnotes.formats.results import Inspection, Tensor
from llmnotes.pebble import VARIANTS, weights_dir
from llmnotes.quantization.blocks import readable
from llmnotes.quantization.mixtures import FILE_TYPES

# The names in GGUF of what a config calls by another name
KEYS = {
    "block_count": "num_hidden_layers",
    "context_length": "max_position_embeddings",
    "embedding_length": "hidden_size",
    "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
    "attention.key_length": "head_dim",
    "vocab_size": "vocab_size",
}


class Vision(NamedTuple):
    """An image encoder and its projector: weights in linear layers, the rows of these, other numbers.

    `tokens` are the positions of the context that one picture takes.
    """

    linear: int = 0
    rows: int = 0
    others: int = 0
    tokens: int = 0


@dataclass(frozen=True)
class Model:
    """What decides about memory. `longest` is the context that the model was trained for, if that is known.

    `stored` are the tensors of a GGUF file and `file_type` is the type that the file names, "" for a config. `no_gguf`
    says why `llmnotes convert` makes no (other) GGUF of it, "" where it does.
    """

    name: str
    shape: Shape
    vision: Vision = Vision()
    longest: int | None = None
    stored: tuple[Tensor, ...] = field(default=(), repr=False)
    file_type: str = ""
    no_gguf: str = ""

    @property
    def parameters(self) -> int:
        """How many numbers the model has learned, those of an image encoder included."""
        if self.stored:
            return max(sum(tensor.elements for tensor in self.stored), 1)
        return self.shape.parameters + self.vision.linear + self.vision.others


@cache
def catalogue() -> dict[str, dict[str, dict]]:
    """Return the package's data: "models", name -> config and facts; "machines", name -> GPUs and main memory."""
    return json.loads(Path(__file__).with_name("catalogue.json").read_text(encoding="utf-8"))


def model_of(model: str | Path | Mapping) -> Model:
    """Return a model from a config (a mapping or a config.json), a folder, a GGUF file, or a name in the catalogue.

    Only headers are read, and nothing is downloaded. Raises `UnknownName` for a name that is neither a file nor in the
    catalogue, `ModelBroken` for a config that is not that of a Llama-like decoder, and what `formats.inspect` raises.

    >>> model_of("llama-2-7b").parameters
    6738415616
    """
    if isinstance(model, Mapping):
        return of_config("the model", dict(model))
    name = str(model)
    listed = catalogue()["models"]
    known = {alias.lower(): key for key, entry in listed.items() for alias in (key, *entry["also"])}
    path = weights_dir(name) if name in VARIANTS else result_of(Path(name).expanduser())
    if is_adapter(path):
        return replace(model_of(base_of(path).name), name=name_of(path))  # it is as large as its base
    if not os.path.exists(path):
        if name.lower() in known:
            key = known[name.lower()]
            return of_config(key, listed[key]["config"])
        near = difflib.get_close_matches(name.lower(), [*known, *VARIANTS], n=1, cutoff=0.5)
        raise UnknownName(
            f"There is no file or folder {name}, and no built-in configuration of that name; "
            f"{f'did you mean {near[0]}? ' * bool(near)}`llmnotes fit --list` shows all."
        )
    if path.is_dir() or path.suffix.lower() == ".json":
        return of_config(name if name in VARIANTS else path.name, read_config(path))
    found = formats.inspect(path)
    if found.identity.format != "GGUF":
        raise UnknownFormat(
            f"{path.name} is {found.identity.format} and does not say the model's shape; give the folder with its "
            "config.json, or a GGUF."
        )
    return _of_gguf(found)


def of_config(name: str, config: dict) -> Model:
    """Return the model of a config.json's settings; those of a LLaVA hold a text_config and a vision_config."""
    text = config.get("text_config", config)
    if not isinstance(text, Mapping):
        raise ModelBroken(f"The text_config of {name} holds no settings; copy the model's folder again.")
    known = (architecture for architecture in ARCHITECTURES if architecture.model_type == text.get("model_type"))
    defaults = next((architecture.defaults for architecture in known), {})  # transformers', as are those of a Llama
    shape = shape_of({"vocab_size": 32000} | defaults | dict(text))
    longest = text.get("max_position_embeddings")
    longest = longest if type(longest) is int and longest > 0 else None
    return Model(name, shape, _vision(config.get("vision_config"), shape), longest, no_gguf=_why_no_gguf(text))


def _why_no_gguf(config: Mapping) -> str:
    """Return why `llmnotes convert` makes no GGUF of a model with these settings, "" if it does.

    Settings that name no architecture, as somebody types them, are those of a Llama.
    """
    config = {"model_type": "llama"} | dict(config)
    try:
        architecture = architectures.of_config(config)
        understood.losses(architecture, config)
        rope.keys(architecture, rope.settings(architecture, config, LAYERS_LIMIT))
    except (NotConvertible, FileBroken) as error:
        return str(error)
    return ""


def _vision(config: object, shape: Shape) -> Vision:
    """Return what a CLIP encoder and LLaVA's projector of two layers hold."""
    if config is None:
        return Vision()
    names = ("hidden_size", "intermediate_size", "num_hidden_layers", "image_size", "patch_size")
    found = [config.get(name) for name in names] if isinstance(config, Mapping) else []
    numbers = [number for number in found if type(number) is int and 0 < number < 1 << 20]
    if len(numbers) != len(names):
        raise ModelBroken(f"The vision_config lacks {', '.join(names)} as whole numbers; give that of a LLaVA.")
    wide, inner, layers, image, patch = numbers
    patches = (image // patch) ** 2
    linear = layers * (4 * wide * wide + 2 * wide * inner) + wide * shape.hidden + shape.hidden**2
    rows = layers * (5 * wide + inner) + 2 * shape.hidden
    # A bias for each row, two norms in each layer, the patches' kernel, the positions, a class token and two more norms
    others = rows + layers * 4 * wide + 3 * patch**2 * wide + wide * (patches + 2) + 4 * wide
    return Vision(linear, rows, others, patches)


def _of_gguf(found: Inspection) -> Model:
    """Return the model that a GGUF's header describes, with the types that its tensors have."""
    only_a_model(found, ModelBroken)
    head = f"{found.architecture}."
    config = {ours: found.metadata[head + key] for key, ours in KEYS.items() if head + key in found.metadata}
    names = {tensor.name: tensor for tensor in found.tensors}
    if any("_exps" in name for name in names):
        config["experts"] = True  # `shape_of` refuses a mixture of experts
    if "token_embd.weight" in names and names["token_embd.weight"].shape:
        config["vocab_size"] = names["token_embd.weight"].shape[0]
    config["tie_word_embeddings"] = "output.weight" not in names
    number = found.metadata.get("general.file_type")
    strange = sorted({tensor.dtype for tensor in found.tensors if not readable(tensor.dtype)})
    return Model(
        found.path.name,
        shape_of(config),
        longest=config.get("max_position_embeddings"),
        stored=found.tensors,
        file_type=next((name for name, (value, _) in FILE_TYPES.items() if value == number), "as stored"),
        no_gguf=f"llmnotes cannot quantize {', '.join(strange)} anew." if strange else "",
    )
