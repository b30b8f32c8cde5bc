"""How many bytes each tensor takes when `llmnotes convert` writes a model as a GGUF of some type."""

from collections.abc import Mapping

from llmnotes.fit.shapes import LAYERS_LIMIT, Shape
from llmnotes.formats.gguf import architectures, rope, understood
from llmnotes.formats.gguf.families import Architecture
from llmnotes.formats.results import size_of
from llmnotes.quantization import mixtures

WINDOWED = ("gemma2", "gemma3")  # architectures that llama.cpp computes with a window as long as the file says


def convertible(config: Mapping) -> Architecture:
    """Return the architecture as which `llmnotes convert` writes a model with these settings.

    Settings that name none, as somebody types them, are those of a Llama. Raises what `convert` raises where it writes
    no GGUF.
    """
    config = {"model_type": "llama"} | dict(config)
    architecture = architectures.of_config(config)
    understood.losses(architecture, config)
    rope.keys(architecture, rope.settings(architecture, config, LAYERS_LIMIT))
    return architecture


def planned(architecture: Architecture, config: Mapping, file_type: str) -> dict[str, tuple[tuple[int, ...], str, int]]:
    """Return {name in GGUF: (shape, type, bytes)} of the tensors that a model with these settings gets.

    Raises `KeyError` for a file type that is not in `mixtures.FILE_TYPES`.

    >>> settings = dict(hidden_size=64, intermediate_size=128, num_hidden_layers=1, num_attention_heads=4)
    >>> planned(convertible(settings), settings, "Q8_0")["blk.0.attn_q.weight"]
    ((64, 64), 'Q8_0', 4352)
    """
    sizes = rope.settings(architecture, dict(config), LAYERS_LIMIT)
    shapes = {weight.name: weight.shape for weight in architectures.weights(architecture, sizes)}
    shapes |= {name: factors.shape for name, factors in rope.factors(sizes).items()}
    groups = sizes["num_attention_heads"] // sizes["num_key_value_heads"]
    big = mixtures.is_70b(architecture.gguf, sizes["num_hidden_layers"], groups)
    types, _ = mixtures.types(file_type, shapes, groups, big, eight=sizes.get("num_local_experts") == 8)
    return {name: (shape, types[name], size_of(types[name], shape)) for name, shape in shapes.items()}


def settings_of(shape: Shape) -> dict[str, int | bool]:
    """Return the settings of a Llama of this shape, as its config.json has them."""
    return {
        "hidden_size": shape.hidden,
        "intermediate_size": shape.inner,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.head,
        "vocab_size": shape.vocabulary,
        "tie_word_embeddings": shape.tied,
    }
