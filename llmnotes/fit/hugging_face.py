"""What transformers holds: weights in a type or quantized by bitsandbytes, the key-value cache, passing activations."""

from typing import NamedTuple

from llmnotes.errors import BadSettings
from llmnotes.fit.model import Model
from llmnotes.fit.training import TrainingMemory, predict
from llmnotes.fit.weights import BITS, BLOCK, scales, weights

PRECISIONS = {  # name -> (type of what is not quantized, its bytes, what the linear layers are quantized to)
    "F32": ("float32", 4, None),
    "BF16": ("bfloat16", 2, None),
    "int8": ("bfloat16", 2, "int8"),
    "NF4": ("bfloat16", 2, "nf4"),
}


class TransformersMemory(NamedTuple):
    """Bytes: of the embedding, of one layer, of the output with the norm, of scales in all layers, and the rest.

    `layers` is how many there are, `tied` whether the output is the embedding, `quantized` whether by bitsandbytes.
    """

    embedding: int
    layer: int
    layers: int
    output: int
    scales: int
    cache: int
    activations: int
    vision: int
    tied: bool
    quantized: bool

    @property
    def parts(self) -> dict[str, int]:
        """Bytes by what they are for, under the same names as in llama.cpp."""
        every = self.embedding + self.layer * self.layers + self.output
        parts = {"weights": every, "scales": self.scales, "cache": self.cache}
        return parts | {"compute": self.activations, "vision": self.vision}


def needs(model: Model, precision: str, context: int, double: bool = False) -> TransformersMemory:
    """Return what a model needs in transformers; `precision` is one of `PRECISIONS`, and BF16 stands for F16, too.

    One sequence; `double` quantizes the scales of NF4, too (`bnb_4bit_use_double_quant`). The activations are an upper
    bound for a prompt that is as long as the context and read in one piece: the MLP of a layer, or a weight made dense
    again, and the logits of one token; attention by sdpa keeps no table.

    >>> from llmnotes.fit.model import model_of
    >>> found = needs(model_of("llama-2-7b"), "BF16", 4096)
    >>> found.parts["weights"], found.cache
    (13476831232, 2147483648)
    """
    shape, vision = model.shape, model.vision
    _, size, quantized = PRECISIONS[precision]
    outside = sum(shape.outside) * size
    embedding = shape.table * size
    layer = (weights(shape, size, quantized).bytes - outside) // shape.layers
    bits = BITS[quantized] if quantized else 8 * size
    vision_scales = {"nf4": vision.linear // BLOCK * 4, "int8": vision.rows * 4}.get(quantized or "", 0)
    wide, stream = context * shape.inner * size, context * shape.hidden * size
    dense = shape.inner * shape.hidden * 2 if quantized == "nf4" else 0
    return TransformersMemory(
        embedding,
        layer,
        shape.layers,
        outside - embedding,
        scales(shape, quantized, double).bytes + vision_scales,
        2 * size * context * shape.layers * shape.kv_heads * shape.head,
        2 * stream + max(3 * wide, 2 * wide + dense) + 2 * 4 * shape.vocabulary,
        vision.linear * bits // 8 + vision.others * size,
        shape.tied,
        quantized is not None,
    )


def training(
    model: Model, method: str, precision: str, context: int, gpu: bool, checkpointing: bool = False
) -> TrainingMemory:
    """Return what a training step on one row of `context` tokens takes, as `llmnotes.fit.training` predicts it.

    Raises `BadSettings` for a model with an image encoder, whose training is not counted.
    """
    if model.vision.linear:
        raise BadSettings(
            f"llmnotes does not count the training of {model.name}'s image encoder; give its language model."
        )
    dtype, _, quantized = PRECISIONS[precision]
    kernel, device = ("bitsandbytes", "cuda") if gpu else ("llmnotes", "cpu")
    how = {"dtype": dtype, "base": quantized or "nf4", "kernel": kernel, "device": device}
    return predict(model.shape, method, 1, context, checkpointing=checkpointing, **how)
