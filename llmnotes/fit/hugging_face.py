"""What transformers holds: weights in a type or quantized by bitsandbytes, the key-value cache, passing activations."""

from typing import NamedTuple

from llmnotes.fit.model import Model
from llmnotes.fit.training import Memory, predict

# name -> (the method whose weights these are in `finetuning.memory`, the type of what is not quantized, what is)
PRECISIONS = {
    "F32": ("lora", "float32", "nf4"),
    "BF16": ("lora", "bfloat16", "nf4"),
    "int8": ("qlora", "bfloat16", "int8"),
    "NF4": ("qlora", "bfloat16", "nf4"),
}


class Needs(NamedTuple):
    """Bytes: of the embedding, of one layer, of the output with the norm, of scales in all layers, and the rest."""

    embedding: int
    layer: int
    output: int
    scales: int
    cache: int
    activations: int
    vision: int


def needs(model: Model, precision: str, context: int, double: bool = False) -> Needs:
    """Return what a model needs in transformers; `precision` is one of `PRECISIONS`, and BF16 stands for F16, too.

    One sequence; `double` quantizes the scales of NF4, too (`bnb_4bit_use_double_quant`). The weights are those that
    `finetuning.memory` counts. The activations are an upper bound for a prompt as long as the context in one piece: the
    MLP of a layer, or a weight made dense again, and the logits of one token; attention by sdpa keeps no table.

    >>> from llmnotes.fit.model import model_of
    >>> found = needs(model_of("llama-2-7b"), "BF16", 4096)
    >>> found.embedding + 32 * found.layer + found.output, found.cache
    (13476831232, 2147483648)
    """
    shape = model.shape
    method, dtype, base = PRECISIONS[precision]
    size = 4 if precision == "F32" else 2
    how = {"dtype": dtype, "base": base, "double": double, "kernel": "bitsandbytes"}
    parts = predict(model.config, method, 1, 1, **how).moments["step"]
    outside = sum(shape.outside) + model.extra[1]
    embedding = shape.table * size
    output = (outside - shape.table) * size
    layers = parts["weights"].bytes - sum(shape.outside) * size + shape.layers * model.extra[0] * size
    scales = parts["scales"].bytes
    cache = 2 * size * context * shape.layers * shape.kv_heads * shape.head
    bits = {"NF4": 4, "int8": 8}.get(precision, 8 * size)
    linear, rows, other = model.vision
    vision = linear * bits // 8 + other * size
    scales += {"NF4": linear // 64 * 4, "int8": rows * 4}.get(precision, 0)
    wide, stream = context * shape.inner * size, context * shape.hidden * size
    dense = shape.inner * shape.hidden * 2 if precision == "NF4" else 0
    activations = 2 * stream + max(3 * wide, 2 * wide + dense) + 2 * 4 * shape.vocabulary
    return Needs(embedding, layers // shape.layers, output, scales, cache, activations, vision)


def training(model: Model, method: str, precision: str, context: int, gpu: bool, checkpointing: bool = False) -> Memory:
    """Return what a training step on one row of `context` tokens takes, as `finetuning.memory.predict` has it."""
    _, dtype, base = PRECISIONS[precision]
    kernel, device = "bitsandbytes" if gpu else "llmnotes", "cuda" if gpu else "cpu"
    how = {"dtype": dtype, "base": base, "kernel": kernel, "device": device, "checkpointing": checkpointing}
    return predict(model.config, method, 1, context, **how)
