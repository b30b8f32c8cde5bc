"""A model as far as memory is concerned: from a config, from a header, or from the package's list of models by name."""

import difflib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from llmnotes import formats
from llmnotes.errors import ModelBroken, UnknownFormat, UnknownName
from llmnotes.fit.shapes import Shape, shape_of
from llmnotes.formats.files import Inspection, Tensor
from llmnotes.pebble import VARIANTS, weights_dir
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
CONFIG_LIMIT = 10_000_000  # bytes
LAYERS_LIMIT = 1000


@dataclass(frozen=True)
class Model:
    """What decides about memory. `extra` numbers of a layer and outside (biases, norms of q and k) are in no `Shape`.

    `vision` are (weights in linear layers, their rows, other numbers) of an image encoder and its projector, `image`
    the tokens that a picture becomes. `stored` are the tensors of a GGUF file, `file_type` what it calls itself.
    """

    name: str
    config: dict = field(repr=False)
    shape: Shape
    extra: tuple[int, int] = (0, 0)
    vision: tuple[int, int, int] = (0, 0, 0)
    image: int = 0
    longest: int | None = None
    stored: tuple[Tensor, ...] = field(default=(), repr=False)
    file_type: str = ""

    @property
    def parameters(self) -> int:
        """How many numbers are learned, those of an image encoder included."""
        if self.stored:
            return max(sum(tensor.elements for tensor in self.stored), 1)
        shape = self.shape
        text = shape.layers * (shape.linear + sum(shape.small) + self.extra[0]) + sum(shape.outside) + self.extra[1]
        return text + self.vision[0] + self.vision[2]


@cache
def catalogue() -> dict:
    """Return the package's data: "models", name -> config and facts; "machines", name -> GPUs and main memory."""
    return json.loads(Path(__file__).with_name("catalogue.json").read_text(encoding="utf-8"))


def model_of(model: str | Path | Mapping) -> Model:
    """Return a model from a config (a mapping or a config.json), a folder, a GGUF file, or a name in the catalogue.

    Only headers are read, and nothing is downloaded. Raises `UnknownName` for a name that is no file and stands in no
    list, `ModelBroken` for a config that is not that of a Llama-like decoder, and what `formats.inspect` raises.

    >>> model_of("llama-2-7b").parameters
    6738415616
    """
    if isinstance(model, Mapping):
        return of_config("the model", dict(model))
    name = str(model)
    listed = catalogue()["models"]
    known = {alias.lower(): key for key, entry in listed.items() for alias in (key, *entry["also"])}
    path = weights_dir(name) if name in VARIANTS else Path(name).expanduser()
    if name.lower() in known and not os.path.exists(path):
        key = known[name.lower()]
        return of_config(key, listed[key]["config"])
    if not os.path.exists(path):
        near = difflib.get_close_matches(name.lower(), [*known, *VARIANTS], n=1, cutoff=0.5)
        raise UnknownName(
            f"There is no file or folder {name}, and no built-in configuration of that name; "
            f"{f'did you mean {near[0]}? ' * bool(near)}`llmnotes fit --list` shows all."
        )
    if path.is_dir() or path.suffix.lower() == ".json":
        return of_config(
            name if name in VARIANTS else path.name, _read(path / "config.json" if path.is_dir() else path)
        )
    found = formats.inspect(path)
    if found.identity.format != "GGUF":
        raise UnknownFormat(
            f"{path.name} is {found.identity.format} and says nothing of the model's shape; give the folder with its "
            "config.json, or a GGUF."
        )
    return _of_gguf(found)


def of_config(name: str, config: dict) -> Model:
    """Return the model of a config.json's settings; those of a LLaVA hold a text_config and a vision_config."""
    text = config.get("text_config", config)
    if not isinstance(text, Mapping):
        raise ModelBroken(f"The text_config of {name} holds no settings; copy the model's folder again.")
    text = {"vocab_size": 32000} | dict(text)
    shape = _shape(text)
    vision, image = _vision(config.get("vision_config"), shape)
    longest = text.get("max_position_embeddings")
    longest = longest if type(longest) is int and longest > 0 else None
    return Model(name, text, shape, _extra(text, shape), vision, image, longest)


def _shape(config: Mapping) -> Shape:
    shape = shape_of(config)
    if shape.layers > LAYERS_LIMIT:
        raise ModelBroken(f"The config speaks of {shape.layers:,} layers; give that of a real model.")
    return shape


def _extra(text: Mapping, shape: Shape) -> tuple[int, int]:
    """Return the numbers that a layer, and the rest, have beside what every Llama has."""
    queries, keys = shape.heads * shape.head, shape.kv_heads * shape.head
    kind = text.get("model_type")
    if kind == "qwen2":
        return queries + 2 * keys, 0  # the biases of q, k and v
    if kind == "qwen3":
        return 2 * shape.head, 0  # the norms of q and k
    if kind == "stablelm":  # norms with a bias
        return 2 * shape.hidden + (queries + 2 * keys) * (text.get("use_qkv_bias") is True), shape.hidden
    return 0, 0


def _vision(config, shape: Shape) -> tuple[tuple[int, int, int], int]:
    """Return what a CLIP encoder and LLaVA's projector of two layers hold, and the tokens of a picture."""
    if config is None:
        return (0, 0, 0), 0
    names = ("hidden_size", "intermediate_size", "num_hidden_layers", "image_size", "patch_size")
    numbers = [config.get(name) for name in names] if isinstance(config, Mapping) else [None]
    if not all(type(number) is int and 0 < number < 1 << 20 for number in numbers):
        raise ModelBroken(f"The vision_config lacks {', '.join(names)} as whole numbers; give that of a LLaVA.")
    wide, inner, layers, image, patch = numbers
    patches = (image // patch) ** 2
    linear = layers * (4 * wide * wide + 2 * wide * inner) + wide * shape.hidden + shape.hidden**2
    rows = layers * (5 * wide + inner) + 2 * shape.hidden
    other = rows + layers * 4 * wide + 3 * patch**2 * wide + wide * (patches + 2) + 4 * wide
    return (linear, rows, other), patches


def _read(path: Path) -> dict:
    try:
        if path.stat().st_size > CONFIG_LIMIT:
            raise ValueError
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelBroken(f"{path.parent} has no config.json; give a model's folder, or a GGUF file.") from None
    except (OSError, ValueError, RecursionError):
        raise ModelBroken(f"{path} is no config that can be read; copy the model's folder again.") from None
    if not isinstance(config, dict):
        raise ModelBroken(f"{path} holds no settings of a model; copy the model's folder again.")
    return config


def _of_gguf(found: Inspection) -> Model:
    """Return the model that a GGUF's header describes, with the types that its tensors have."""
    head = f"{found.architecture}."
    config = {ours: found.metadata[head + key] for key, ours in KEYS.items() if head + key in found.metadata}
    names = {tensor.name: tensor for tensor in found.tensors}
    if any("_exps" in name for name in names):
        config["experts"] = True  # `shape_of` refuses a mixture of experts
    if found.metadata.get("split.count", 1) not in (0, 1):
        raise ModelBroken(
            f"{found.path.name} is one of several files of a model; give its config.json or one whole GGUF."
        )
    if "token_embd.weight" in names and names["token_embd.weight"].shape:
        config["vocab_size"] = names["token_embd.weight"].shape[0]
    config["tie_word_embeddings"] = "output.weight" not in names
    shape = _shape(config)
    number = found.metadata.get("general.file_type")
    kind = next((name for name, (value, _) in FILE_TYPES.items() if value == number), "as stored")
    return Model(
        found.path.name,
        config,
        shape,
        longest=config.get("max_position_embeddings"),
        stored=found.tensors,
        file_type=kind,
    )
