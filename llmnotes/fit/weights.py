"""How many bytes the weights of a model take in transformers: in one type, or with quantized linear layers."""

from typing import NamedTuple

from llmnotes.fit.pieces import BLOCK
from llmnotes.fit.shapes import Shape

SHARED = 256  # numbers in 8 bits that share one scale in 32 bits
BITS = {"nf4": 4, "int8": 8}


class Part(NamedTuple):
    """Bytes, and how they come about."""

    bytes: int
    formula: str


def weights(shape: Shape, size: int, quantized: str | None = None) -> Part:
    """Return what all weights take without their scales: `size` bytes each, or "nf4" or "int8" in the linear layers.

    The embedding, the output head, the norms and the biases are never quantized.

    >>> from llmnotes.fit.shapes import shape_of
    >>> from llmnotes.pebble import weights_dir
    >>> weights(shape_of(weights_dir("pebble")), 2, "nf4")
    Part(bytes=2626048, formula='3,145,728 × 4 bits, 526,592 others × 2 bytes')
    """
    linear = shape.layers * shape.linear
    rest = shape.parameters - linear
    if quantized is None:
        return Part((linear + rest) * size, f"{linear + rest:,} × {size} bytes")
    bits = BITS[quantized]
    return Part(linear * bits // 8 + rest * size, f"{linear:,} × {bits} bits, {rest:,} others × {size} bytes")


def scales(shape: Shape, quantized: str | None, double: bool = False) -> Part:
    """Return what the scales of the quantized linear layers take: one for a row in int8, one for a block in NF4.

    `double` stores NF4's scales in 8 bits, too (Dettmers et al., QLoRA, 2023, section 3).

    >>> from llmnotes.fit.shapes import shape_of
    >>> from llmnotes.pebble import weights_dir
    >>> scales(shape_of(weights_dir("pebble")), "nf4")
    Part(bytes=196608, formula='49,152 blocks of 64 × 4 bytes')
    """
    if quantized is None:
        return Part(0, "none")
    if quantized == "int8":
        rows = shape.layers * sum(out for out, _ in shape.linears.values())
        return Part(4 * rows, f"{rows:,} rows × 4 bytes")
    blocks = [-(-out * inside // BLOCK) for out, inside in shape.linears.values()]
    count = shape.layers * sum(blocks)
    if not double:
        return Part(4 * count, f"{count:,} blocks of {BLOCK} × 4 bytes")
    each = sum(in_8_bits(number) + 4 for number in blocks)  # and the mean that is taken off before, 4 bytes
    return Part(shape.layers * each, f"{count:,} blocks of {BLOCK} × 1 byte, and {SHARED} share 4")


def in_8_bits(count: int) -> int:
    """Return the bytes of `count` numbers in 8 bits, of which 256 share a scale of 4 bytes.

    >>> in_8_bits(257)
    265
    """
    return count + 4 * -(-count // SHARED)
