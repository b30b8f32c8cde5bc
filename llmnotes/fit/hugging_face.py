"""What transformers holds: weights in a type or quantized by bitsandbytes, the key-value cache, passing activations."""

from typing import NamedTuple

from llmnotes.errors import BadSettings
from llmnotes.fit.model import Model
from llmnotes.fit.pieces import Cache, Weights
from llmnotes.fit.training import TrainingMemory, predict
from llmnotes.fit.training_run import finetuned
from llmnotes.fit.weights import BITS

PRECISIONS = {  # name -> (type of what is not quantized, its bytes, what the linear layers are quantized to)
    "F32": ("float32", 4, None),
    "BF16": ("bfloat16", 2, None),
    "int8": ("bfloat16", 2, "int8"),
    "NF4": ("bfloat16", 2, "nf4"),
}


class TransformersMemory(NamedTuple):
    """Bytes: of the embedding, of each layer, its scales and its cache, of the output with the norms, and the rest.

    `tied` says whether the output is the embedding, `quantized` whether by bitsandbytes; `vision_scales` are those of
    an image encoder.
    """

    embedding: int
    layers: tuple[int, ...]
    scales: tuple[int, ...]
    caches: tuple[int, ...]
    output: int
    activations: int
    vision: int
    vision_scales: int
    tied: bool
    quantized: bool

    @property
    def parts(self) -> dict[str, int]:
        """Bytes by what they are for, under the same names as in llama.cpp."""
        weights = self.embedding + sum(self.layers) + self.output
        parts = {"weights": weights, "scales": sum(self.scales) + self.vision_scales, "cache": sum(self.caches)}
        return parts | {"compute": self.activations, "vision": self.vision}


def needs(model: Model, precision: str, context: int) -> TransformersMemory:
    """Return what a model needs in transformers; `precision` is one of `PRECISIONS`, and BF16 stands for F16, too.

    One sequence. The activations are an upper bound for a prompt that is as long as the context and read in one piece:
    the MLP of a layer, or a weight made dense again, and the logits of one token; attention by sdpa keeps no table.
    What is no linear layer to transformers is not quantized: embeddings, norms, and the experts of a mixture.

    >>> from llmnotes.fit.model import model_of
    >>> found = needs(model_of("llama-2-7b"), "BF16", 4096)
    >>> found.parts["weights"], found.parts["cache"]
    (13476831232, 2147483648)
    """
    shape, pieces = model.shape, model.pieces
    _, size, quantized = PRECISIONS[precision]
    bits = BITS[quantized] if quantized else 8 * size

    def weights(piece: Weights) -> int:
        return piece.linear * bits // 8 + piece.others * size

    def scales(piece: Weights) -> int:
        return 4 * {"nf4": piece.blocks, "int8": piece.rows}.get(quantized or "", 0)

    wide, stream = context * shape.inner * size, context * shape.hidden * size
    dense = shape.inner * shape.hidden * 2 if quantized == "nf4" else 0
    return TransformersMemory(
        pieces.embedding * size,
        tuple(map(weights, pieces.layers)),
        tuple(map(scales, pieces.layers)),
        tuple(_kept(cache, context, size) for cache in pieces.caches),
        pieces.output * size,
        2 * stream + max(3 * wide, 2 * wide + dense) + 2 * 4 * shape.vocabulary,
        weights(pieces.vision),
        scales(pieces.vision),
        pieces.tied,
        quantized is not None,
    )


def _kept(cache: Cache, context: int, size: int) -> int:
    """Return the bytes that a layer keeps of `context` tokens; the last one of a window needs no place of its own."""
    tokens = context if cache.window is None else min(context, cache.window - 1)
    return size * (cache.width * tokens + cache.state) + 4 * cache.exact


def training(model: Model, method: str, context: int, gpu: bool, checkpointing: bool = False) -> TrainingMemory:
    """Return what a training step on one row of `context` tokens takes, as `llmnotes.fit.training` predicts it.

    Raises `BadSettings` for a model with an image encoder, and for layers that are not a Llama's: their training is
    not counted.
    """
    if model.pieces.vision.numbers:
        raise BadSettings(
            f"llmnotes does not count the training of {model.name}'s image encoder; give its language model."
        )
    if not model.like_llama:
        raise BadSettings(
            f"llmnotes does not count the training of {model.name}, whose layers are not those of a Llama; leave "
            "--train out to see what running it takes."
        )
    return predict(model.shape, method, 1, context, checkpointing=checkpointing, **finetuned(method, gpu))
