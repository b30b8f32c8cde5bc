"""LLaVA and Gemma 3: the language model, the vision tower and the projector that lie together in one folder.

Of a Gemma 3 the language model alone becomes a GGUF.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from llmnotes.errors import FileBroken, FileUnreadable, NotConvertible
from llmnotes.formats.gguf.architectures import Weight
from llmnotes.formats.gguf.rope import LIMIT
from llmnotes.formats.huggingface import settings
from llmnotes.formats.results import Inspection, Tensor

NAME = "LlavaForConditionalGeneration"
GEMMA = "Gemma3ForConditionalGeneration"
KINDS = {NAME: "llava", GEMMA: "gemma3"}  # and their model_type
LEFT_GEMMA = "of the vision tower and the projector: llmnotes writes the language model of a Gemma 3 alone"
LEFT = "of the vision tower and the projector, which --to mmproj writes to a file of their own"

# What transformers takes where a config leaves a setting out; published LLaVA folders leave out most of them.
TEXT_DEFAULTS = {"hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32}
VISION_DEFAULTS = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "projection_dim": 512,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "num_channels": 3,
    "image_size": 224,
    "patch_size": 32,
    "layer_norm_eps": 1e-5,
    "hidden_act": "quick_gelu",
}
# What config.json says of the language model, too, where it says it outside its text_config.
OUTSIDE = ("quantization_config", "compression_config", "bos_token_id", "eos_token_id", "pad_token_id")
MEAN = [0.48145466, 0.4578275, 0.40821073]
STD = [0.26862954, 0.26130258, 0.27577711]

# Hugging Face's name -> GGUF's. Files of LLaVA have always called the first layer of the feed-forward network
# ffn_down and the second ffn_up, the wrong way round; llama.cpp expects that of them and turns it back.
WHOLE = {
    "embeddings.class_embedding": "v.class_embd",
    "embeddings.patch_embedding.weight": "v.patch_embd.weight",
    "embeddings.position_embedding.weight": "v.position_embd.weight",
    "pre_layrnorm.weight": "v.pre_ln.weight",
    "pre_layrnorm.bias": "v.pre_ln.bias",
}
LAYER = {
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.q_proj": "attn_q",
    "self_attn.out_proj": "attn_out",
    "layer_norm1": "ln1",
    "mlp.fc1": "ffn_down",
    "mlp.fc2": "ffn_up",
    "layer_norm2": "ln2",
}


@dataclass(frozen=True)
class Vision:
    """The vision tower of a LLaVA: CLIP's settings, all present and checked; which hidden states the projector sees
    (0 is the first layer's input, 1 its output); the mean and deviation of each colour; what an image goes through."""

    sizes: dict[str, Any]
    features: list[int]
    mean: list[float]
    std: list[float]
    crops: bool


def language_model(inspection: Inspection) -> tuple[Inspection, dict[str, str]]:
    """Return (the language model of a LLaVA or Gemma 3 folder under the names of its own folder, {tensor left out:
    why}).

    The folder of any other architecture comes back as it is. Accepts the names of every transformers: tensors begin
    with language_model, model.language_model, or have the vision tower beside them.

    Raises `FileBroken` for a config.json without a text_config, and for a tensor that has two names.
    """
    config = inspection.metadata["config"]
    kind = _kind(config)
    if kind is None:
        return inspection, {}
    text = config.get("text_config")
    if not isinstance(text, dict):
        raise FileBroken(f"{inspection.path.name} has a config.json without a text_config; copy it again.")
    parts = _parts(inspection)
    tensors, names = [], {tensor.name: _name(tensor.name) for tensor in inspection.tensors}
    for name, tensor in parts["language_model"].items():
        alias = names[tensor.alias][1] if tensor.alias in names else None
        tensors.append(replace(tensor.renamed(name), alias=alias))
    if kind == GEMMA:
        text = {"model_type": "gemma3_text"} | text
        text["tie_word_embeddings"] = config.get("tie_word_embeddings") is not False  # that of the whole counts
    else:
        text = (TEXT_DEFAULTS if text.get("model_type", "llama") == "llama" else {}) | {"model_type": "llama"} | text
        tied = (each.get("tie_word_embeddings") is True for each in (text, config))
        text["tie_word_embeddings"] = any(tied)
    text = {key: config[key] for key in OUTSIDE if key in config} | text
    metadata = inspection.metadata | {"config": text}
    others = [*parts["vision_tower"].values(), *parts["multi_modal_projector"].values()]
    left = dict.fromkeys((tensor.name for tensor in others), LEFT_GEMMA if kind == GEMMA else LEFT)
    return replace(inspection, tensors=tuple(tensors), metadata=metadata), left


def is_llava(config: dict) -> bool:
    """Return whether config.json is that of a LLaVA as transformers has it."""
    return _kind(config) == NAME


def _kind(config: dict) -> str | None:
    """Return which of the two architectures config.json names, or None for another."""
    names = config.get("architectures")
    name = names[0] if isinstance(names, list) and names else None
    return next(
        (key for key in KINDS if name == key or (name is None and config.get("model_type") == KINDS[key])), None
    )


def vision(inspection: Inspection) -> Vision:
    """Return the settings of a LLaVA folder's vision tower and of its images.

    Raises `NotConvertible` for what llama.cpp does not compute: another tower than CLIP, another activation, features
    that keep the class token or come in another order than that of the layers. Raises `FileBroken` for a value that
    no model has.
    """
    config = inspection.metadata["config"]
    own = config.get("vision_config")
    if not isinstance(own, dict):
        raise FileBroken(f"{inspection.path.name} has a config.json without a vision_config; copy it again.")
    sizes = VISION_DEFAULTS | {key: value for key, value in own.items() if value is not None}
    for key, default in VISION_DEFAULTS.items():
        whole = type(default) is int and type(sizes[key]) is int and 0 < sizes[key] <= LIMIT
        small = type(default) is float and isinstance(sizes[key], int | float) and 0 < sizes[key] < 1
        _check(f"vision_config.{key}", sizes[key], whole or small or isinstance(default, str))
    _check(
        "vision_config.num_hidden_layers",
        sizes["num_hidden_layers"],
        sizes["num_hidden_layers"] <= len(inspection.tensors),
    )
    _check(
        "vision_config.num_attention_heads",
        sizes["num_attention_heads"],
        sizes["hidden_size"] % sizes["num_attention_heads"] == 0,
    )
    _check("vision_config.patch_size", sizes["patch_size"], sizes["patch_size"] <= sizes["image_size"])
    for key, value, known in (
        ("vision_config.model_type", own.get("model_type", "clip_vision_model"), ("clip_vision_model",)),
        ("vision_config.hidden_act", sizes["hidden_act"], ("quick_gelu", "gelu")),
        ("vision_config.num_channels", sizes["num_channels"], (3,)),
        ("projector_hidden_act", config.get("projector_hidden_act", "gelu"), ("gelu",)),
        ("multimodal_projector_bias", config.get("multimodal_projector_bias", True), (True,)),
        ("vision_feature_select_strategy", config.get("vision_feature_select_strategy", "default"), ("default",)),
    ):
        if value not in known:
            raise NotConvertible(
                f"config.json says {key} is {str(value)[:40]}, but llama.cpp only runs a LLaVA with "
                f"{' or '.join(map(str, known))}; use such a model."
            )
    images = _images(inspection.path)
    mean, std = (_colours(images, *pair) for pair in (("image_mean", MEAN), ("image_std", STD)))
    return Vision(
        sizes, _features(config, sizes["num_hidden_layers"]), mean, std, images.get("do_center_crop") is not False
    )


def weights(inspection: Inspection, seen: Vision) -> tuple[list[Weight], list[Weight], dict[str, Tensor]]:
    """Return (the tensors of the projector file in llama.cpp's order, those that the projector never sees: the last
    layers and the norm behind them, the folder's tensors by the names that the first two have for them)."""
    width = language_model(inspection)[0].metadata["config"].get("hidden_size")
    _check("text_config.hidden_size", width, type(width) is int and 0 < width <= LIMIT)
    sizes = seen.sizes
    hidden, inner, patch = sizes["hidden_size"], sizes["intermediate_size"], sizes["patch_size"]
    found, unseen = [], []
    for ours, theirs, columns in (("mm.0", "linear_1", hidden * len(seen.features)), ("mm.2", "linear_2", width)):
        found.append(Weight(f"{ours}.weight", (width, columns), (f"multi_modal_projector.{theirs}.weight",)))
        found.append(Weight(f"{ours}.bias", (width,), (f"multi_modal_projector.{theirs}.bias",)))
    places = (sizes["image_size"] // patch) ** 2 + 1
    shapes = {"v.patch_embd.weight": (hidden, 3, patch, patch), "v.position_embd.weight": (places, hidden)}
    for theirs, ours in WHOLE.items():
        found.append(Weight(ours, shapes.get(ours, (hidden,)), (f"vision_tower.{theirs}",)))
    sides = {"ffn_down": (inner, hidden), "ffn_up": (hidden, inner), "ln1": (hidden,), "ln2": (hidden,)}
    for layer in range(sizes["num_hidden_layers"]):
        group = found if layer < max(seen.features) else unseen
        for theirs, ours in LAYER.items():
            shape, place = sides.get(ours, (hidden, hidden)), f"vision_tower.encoder.layers.{layer}.{theirs}"
            group.append(Weight(f"v.blk.{layer}.{ours}.weight", shape, (f"{place}.weight",)))
            group.append(Weight(f"v.blk.{layer}.{ours}.bias", shape[:1], (f"{place}.bias",)))
    for kind in ("weight", "bias"):
        unseen.append(Weight(f"v.post_ln.{kind}", (hidden,), (f"vision_tower.post_layernorm.{kind}",)))
    parts = _parts(inspection)
    parts["vision_tower"].pop("embeddings.position_ids", None)  # the numbers from 0 on, which older versions saved
    names = ("vision_tower", "multi_modal_projector")
    return found, unseen, {f"{part}.{name}": tensor for part in names for name, tensor in parts[part].items()}


def _parts(inspection: Inspection) -> dict[str, dict[str, Tensor]]:
    """Return the tensors of each of the three parts, under the names they have inside it."""
    parts = {"language_model": {}, "vision_tower": {}, "multi_modal_projector": {}}
    for tensor in inspection.tensors:
        part, name = _name(tensor.name)
        if name in parts.get(part, ()):
            raise FileBroken(f"{inspection.path.name} holds {tensor.name[:80]} under two names; copy it again.")
        if part not in parts:
            raise NotConvertible(
                f"{tensor.name[:80]} is not part of a LLaVA-1.5 or a Gemma 3; use a folder of one of these."
            )
        parts[part][name] = tensor
    return parts


def _name(name: str) -> tuple[str, str]:
    """Return (part, name inside it) of a tensor, whichever transformers saved it.

    >>> _name("model.language_model.norm.weight"), _name("vision_tower.vision_model.pre_layrnorm.bias")
    (('language_model', 'model.norm.weight'), ('vision_tower', 'pre_layrnorm.bias'))
    """
    part, _, inside = name.removeprefix("model.").partition(".")
    if name == "lm_head.weight":
        return "language_model", name
    if part == "language_model":
        return part, inside if inside.startswith(("model.", "lm_head.")) else f"model.{inside}"
    return part, inside.removeprefix("vision_model.") if part == "vision_tower" else inside


def _features(config: dict, layers: int) -> list[int]:
    """Return the hidden states that the projector gets, counted from the first layer's input."""
    stated = config.get("vision_feature_layer", -2)
    stated = stated if isinstance(stated, list) else [stated]
    _check("vision_feature_layer", stated, 0 < len(stated) <= layers + 1)
    _check("vision_feature_layer", stated, all(type(at) is int and -layers - 1 <= at <= layers for at in stated))
    found = [at if at >= 0 else layers + 1 + at for at in stated]
    if found != sorted(set(found)) or found[-1] == 0:
        raise NotConvertible(
            f"config.json says vision_feature_layer is {str(stated)[:40]}, but llama.cpp only takes layers in order, "
            "each of them once; use a model that does the same."
        )
    return found


def _images(folder: Path) -> dict:
    """Return what the folder says about images; a processor_config.json goes before a preprocessor_config.json."""
    found, files = {}, [folder / "preprocessor_config.json", folder / "processor_config.json"]
    for path in files:
        if path.is_file():
            images = settings(path)
            inner = images.get("image_processor")
            found |= images | (inner if isinstance(inner, dict) else {})
    if not found:
        raise FileUnreadable(
            f"{folder} has no {files[0].name}, which says how images are read; copy it from the model."
        )
    return found


def _colours(images: dict, key: str, default: list[float]) -> list[float]:
    value = images.get(key)
    value = default if value is None else value
    numbers = isinstance(value, list) and len(value) == 3 and all(type(x) in (int, float) for x in value)
    _check(key, value, numbers and all(abs(x) < 1e6 for x in value) and (key == "image_mean" or all(value)))
    return [float(x) for x in value]


def _check(key: str, value: Any, holds: bool) -> None:
    if not holds:
        raise FileBroken(
            f"The folder says {key} is {str(value)[:40]}, which cannot be right; copy it again from its source."
        )
