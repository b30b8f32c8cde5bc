"""A model as far as memory is concerned: from a config, from a GGUF's header, or from the built-in list of models."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

from llmnotes import formats
from llmnotes.errors import FileBroken, ModelBroken, NotConvertible, UnknownFormat, UnknownName
from llmnotes.fit import gguf_header, gguf_sizes, on_meta
from llmnotes.fit.names import near
from llmnotes.fit.pieces import Cache, Pieces, read
from llmnotes.fit.shapes import TYPES, Shape, read_config, shape_of
from llmnotes.formats.adapters import base_of, is_adapter, name_of, result_of
from llmnotes.formats.gguf import llava
from llmnotes.formats.gguf.families import Architecture
from llmnotes.formats.gguf.requantize import types_of
from llmnotes.formats.results import Inspection, size_of
from llmnotes.pebble import VARIANTS, weights_dir
from llmnotes.quantization.mixtures import FILE_TYPES


@dataclass(frozen=True)
class Model:
    """What decides about memory: `pieces`, the widths in `shape`, and what llama.cpp keeps of a text, in `caches`.

    `longest` is the context that the model was trained for, `picture` the tokens that an image takes; None and 0 where
    that is not known. `stored` is a GGUF file and `file_type` the type that it names, "" for a config. `no_gguf` says
    why `llmnotes convert` makes no (other) GGUF of it, "" where it does.
    """

    name: str
    pieces: Pieces
    shape: Shape
    caches: tuple[Cache, ...]
    longest: int | None = None
    picture: int = 0
    stored: Inspection | None = field(default=None, repr=False)
    file_type: str = ""
    no_gguf: str = ""
    settings: Mapping = field(default_factory=dict, repr=False)
    architecture: Architecture | None = field(default=None, repr=False)

    @property
    def parameters(self) -> int:
        """How many numbers the model has learned, those of an image encoder included."""
        return max(self.pieces.parameters, 1)

    @property
    def like_llama(self) -> bool:
        """Whether the layers hold what a Llama of this shape holds, to half a percent."""
        language = self.parameters - self.pieces.vision.numbers
        return abs(self.shape.parameters - language) < language / 200

    def tensors(self, file_type: str) -> dict[str, int]:
        """Return the bytes of each tensor of a GGUF of this type, or of the file itself for its own type."""
        if self.stored is not None:
            types = {} if file_type == self.file_type else types_of(self.stored, file_type, False)[0]
            return {
                tensor.name: size_of(types.get(tensor.name, tensor.dtype), tensor.shape)
                for tensor in self.stored.tensors
            }
        if self.architecture is None:
            raise NotConvertible(self.no_gguf)
        planned = gguf_sizes.planned(self.architecture, self.settings, file_type)
        return {name: nbytes for name, (_, _, nbytes) in planned.items()}


@cache
def catalogue() -> dict[str, dict[str, dict]]:
    """Return the package's data: "models", name -> config and facts; "machines", name -> GPUs and main memory."""
    return json.loads(Path(__file__).with_name("catalogue.json").read_text(encoding="utf-8"))


def model_of(model: str | Path | Mapping) -> Model:
    """Return a model from a config (a mapping or a config.json), a folder, a GGUF file, or a name in the catalogue.

    Only headers are read, and nothing is downloaded. Raises `UnknownName` for a name that is neither a file nor in the
    catalogue, `ModelBroken` for a config that `on_meta.count` refuses, and what `formats.inspect` raises.

    >>> model_of("llama-2-7b").parameters
    6738415616
    """
    if isinstance(model, Mapping):
        return of_config("the model", dict(model))
    name = str(model)
    path = weights_dir(name) if name in VARIANTS else result_of(Path(name).expanduser())
    if is_adapter(path):
        return replace(model_of(base_of(path).name), name=name_of(path))  # it is as large as its base
    if not os.path.exists(path):
        listed = catalogue()["models"]
        known = {alias.lower(): key for key, entry in listed.items() for alias in (key, *entry["also"])}
        known |= {alias.rpartition("/")[2]: key for alias, key in known.items()}
        if name.lower() in known:
            key = known[name.lower()]
            return of_config(key, listed[key]["config"], read(listed[key]["pieces"]), listed[key].get("shape"))
        raise UnknownName(
            f"There is no file or folder {name[:200]}, and no built-in configuration of that name; "
            f"{near(name, [*listed, *VARIANTS])}`llmnotes fit --list` shows all."
        )
    if path.is_dir() or path.suffix.lower() == ".json":
        return of_config(name if name in VARIANTS else path.name, read_config(path))
    found = formats.inspect(path)
    if found.identity.format != "GGUF":
        raise UnknownFormat(
            f"{path.name} is {found.identity.format} and does not say the model's shape; give the folder with its "
            "config.json, or a GGUF."
        )
    pieces, shape, caches, longest = gguf_header.described(found)
    number = found.metadata.get("general.file_type")
    file_type = next((name for name, (value, _) in FILE_TYPES.items() if value == number), "as stored")
    why = gguf_header.why_no_other(found)
    return Model(found.path.name, pieces, shape, caches, longest, 0, found, file_type, why)


def of_config(name: str, config: dict, pieces: Pieces | None = None, widths: list | None = None) -> Model:
    """Return the model of a config.json's settings; `pieces` and `widths`, where they were counted before."""
    text = config.get("text_config") or config
    if not isinstance(text, Mapping):
        raise ModelBroken(f"The text_config of {name} holds no settings; copy the model's folder again.")
    if pieces is None:
        pieces, shape = on_meta.count(name, config)
    elif widths is not None:
        shape = Shape(*widths)
    text = {"model_type": "llama"} | dict(text)
    if text["model_type"] in TYPES:
        shape = shape_of(text)
    longest = text.get("max_position_embeddings")
    longest = longest if type(longest) is int and longest > 0 else None
    architecture, why = None, ""
    try:
        if "vision_config" in config and config.get("model_type") not in llava.KINDS.values():
            architecture = gguf_sizes.convertible(config)
        architecture = gguf_sizes.convertible(text)
    except (NotConvertible, FileBroken) as error:
        why = str(error)
    windowed = architecture is not None and architecture.gguf in gguf_sizes.WINDOWED
    caches = tuple(cache if windowed else cache._replace(window=None) for cache in pieces.caches)
    return Model(name, pieces, shape, caches, longest, _picture(config), None, "", why, text, architecture)


def _picture(config: Mapping) -> int:
    """Return how many tokens a picture takes, 0 where its size decides or the config does not say."""
    if type(config.get("mm_tokens_per_image")) is int:
        return config["mm_tokens_per_image"]
    encoder = config.get("vision_config") if config.get("model_type") == "llava" else None
    encoder = {"image_size": 224, "patch_size": 32} | dict(encoder) if isinstance(encoder, Mapping) else {}
    return (encoder["image_size"] // encoder["patch_size"]) ** 2 if encoder else 0
