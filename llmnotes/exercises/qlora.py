"""The exercises of notebook 19: the optimizer's bytes, a gradient through 4 bits, a merge, checkpoints."""

import numpy as np

from llmnotes.exercises.exercise import Answer, Exercise, recognize
from llmnotes.quantization.nf4 import levels

NF4 = levels("nf4").astype(float)
SIZES = (1, 255, 256, 257, 1_000, 131_072, 1_000_001)
RANDOM = np.random.default_rng(8)
GRADIENT = RANDOM.normal(size=(3, 8))  # 3 tokens, 8 outputs
CODES = RANDOM.integers(0, 16, size=(8, 8))  # 8 outputs, 8 inputs
SCALES = RANDOM.uniform(0.5, 2.0, size=(8, 2))  # blocks of 4
BLOCKS: list[
    tuple[np.ndarray, float, np.ndarray]
] = [  # codes, scale, update: some updates are small beside the distance of two levels, one moves the largest
    (RANDOM.integers(0, 16, size=64), 0.8, RANDOM.normal(size=64) * 0.03),
    (np.append(RANDOM.integers(2, 14, size=31), 15), 1.5, np.append(RANDOM.normal(size=31) * 0.1, 0.9)),
    (RANDOM.integers(0, 16, size=16), 0.02, RANDOM.normal(size=16) * 0.002),
]
MODELS = [(32, 8, 256), (80, 16, 96), (12, 10, 10), (7, 3, 4), (48, 100, 20), (32, 4, 4), (10, 1, 1000)]


def state(numbers: int, bits: int) -> int:
    """Return the bytes of two averages: 4 each in 32 bits, 1 each in 8 bits and 4 for each block of 256."""
    return 8 * numbers if bits == 32 else 2 * (numbers + 4 * -(-numbers // 256))


def check_state(answer: Answer) -> str | None:
    """Return None for the right bytes, or which mistake they come from."""
    asked = [(numbers, bits) for numbers in SIZES for bits in (8, 32)]

    def of(function):
        return [function(numbers, bits) for numbers, bits in asked]

    mistakes = {
        "one": of(lambda n, bits: state(n, bits) / 2),
        "no_scales": of(lambda n, bits: n * bits / 4),
        "floor": of(lambda n, bits: 8 * n if bits == 32 else 2 * (n + 4 * (n // 256))),
        "shared": of(lambda n, bits: 8 * n if bits == 32 else 2 * n + 4 * -(-n // 256)),
        "scales_in_32": of(lambda n, bits: 2 * (n * bits / 8 + 4 * -(-n // 256))),
        "bits": of(lambda n, bits: 64 * n if bits == 32 else 2 * (8 * n + 4 * -(-n // 256))),
    }
    return recognize(of(answer), of(state), mistakes)


def check_input_gradient(answer: Answer) -> str | None:
    """Return None for the gradient of the input, or which mistake the numbers look like."""
    spread = np.repeat(SCALES, 4, axis=1)
    weight = NF4[CODES] * spread
    mistakes = {
        "codes": GRADIENT @ (CODES * spread),
        "unscaled": GRADIENT @ NF4[CODES],
        "tiled": GRADIENT @ (NF4[CODES] * np.tile(SCALES, (1, 4))),
        "transposed": GRADIENT @ weight.T,
        "divided": GRADIENT @ (NF4[CODES] / spread),
    }
    found = answer(GRADIENT.copy(), CODES.copy(), SCALES.copy(), NF4.copy())
    return recognize(found, GRADIENT @ weight, mistakes)


def _nearest(x: np.ndarray) -> np.ndarray:
    return np.abs(x[:, None] - NF4).argmin(axis=1)


def _stays(codes, scale, update, mistake: str = "") -> float:
    merged = NF4[codes] * scale + update
    largest = np.abs(merged).max()
    if mistake == "old_scale":
        largest = scale
    if mistake == "unscaled":
        largest = 1.0
    if mistake == "signed":
        largest = merged.max()
    if mistake == "update":
        merged = update
        largest = np.abs(update).max()
    new = _nearest(merged / largest)
    if mistake == "numbers":
        return float(np.isclose(NF4[new] * largest, NF4[codes] * scale).mean())
    share = float((new == codes).mean())
    return 1 - share if mistake == "moved" else share


def check_stays(answer: Answer) -> str | None:
    """Return None for the share of codes that stay, or which mistake it comes from."""
    names = ("old_scale", "unscaled", "signed", "update", "numbers", "moved")
    mistakes = {name: [_stays(*block, name) for block in BLOCKS] for name in names}
    found = [answer(codes.copy(), scale, update.copy(), NF4.copy()) for codes, scale, update in BLOCKS]
    return recognize(found, [_stays(*block) for block in BLOCKS], mistakes)


def _best(layers: int, cost) -> int:
    return min(range(1, layers + 1), key=cost)


def _every(layers: int, stream: int, layer: int) -> int:
    return _best(layers, lambda every: -(-layers // every) * stream + every * layer)


def check_every(answer: Answer) -> str | None:
    """Return None for the best distance of two checkpoints, or which mistake it comes from."""

    def of(function):
        return [function(*model) for model in MODELS]

    mistakes = {
        "root": of(lambda layers, stream, layer: round(layers**0.5)),
        "floor": of(lambda n, stream, layer: _best(n, lambda k: n // k * stream + k * layer)),
        "swapped": of(lambda n, stream, layer: _best(n, lambda k: -(-n // k) * layer + k * stream)),
        "always": [1] * len(MODELS),
        "bytes": of(lambda n, stream, layer: min(-(-n // k) * stream + k * layer for k in range(1, n + 1))),
        "most": of(lambda n, stream, layer: _best(n, lambda k: -(-(-n // k) * stream + k * layer))),
    }
    return recognize(of(answer), of(_every), mistakes)


EXERCISES = [
    Exercise(
        id="19.1",
        title="What AdamW remembers",
        level="easy",
        minutes=10,
        task="""Write `state_bytes(numbers, bits)`: the bytes of AdamW's two averages of so many numbers.

In 32 bits each average takes 4 bytes a number. In 8 bits it takes 1 byte a number, and 4 bytes for the scale of
each block of 256; the last block may be shorter, and has a scale as well.""",
        clue="`-(-n // 256)` divides and rounds up. Each of the two averages has scales of its own.",
        name="state_bytes",
        stub='''def state_bytes(numbers, bits):
    """Return the bytes of AdamW's two averages of so many numbers, in 32 bits or in 8."""
    ...''',
        solution='''def state_bytes(numbers, bits):
    """Return the bytes of AdamW's two averages of so many numbers, in 32 bits or in 8."""
    if bits == 32:
        return 8 * numbers
    return 2 * (numbers + 4 * -(-numbers // 256))''',
        check=check_state,
        hints={
            "one": "that is one average; AdamW keeps two, of the gradient and of its square.",
            "no_scales": "8 bits need scales: where are the 4 bytes for each block of 256?",
            "floor": "the last block, which is not full, has a scale as well: round up.",
            "shared": "the two averages do not share their scales; count them twice.",
            "scales_in_32": "numbers in 32 bits need no scale.",
            "bits": "a byte has 8 bits; you multiplied bytes by 8.",
            "other": "count one average first: numbers times 1 byte plus blocks times 4 bytes; then two of them.",
        },
    ),
    Exercise(
        id="19.2",
        title="A gradient through four bits",
        level="medium",
        minutes=15,
        task="""Write `input_gradient(gradient, codes, scales, levels)` with NumPy. A layer computes `x @ W.T`, and W is
`(outputs, inputs)`: each of `codes`, `(outputs, inputs)`, stands for one of the 16 `levels`, times the scale of its
block. `scales` is `(outputs, blocks)`, and the blocks of a row are equally long. `gradient`, `(tokens, outputs)`, is
that of the output. Return that of the input, `(tokens, inputs)`.""",
        clue="`levels[codes]` looks all codes up; `np.repeat(..., axis=1)` gives each weight its block's scale.",
        name="input_gradient",
        stub='''def input_gradient(gradient, codes, scales, levels):
    """Return the gradient of the input (tokens, inputs), through a weight in 4 bits."""
    ...''',
        solution='''import numpy as np


def input_gradient(gradient, codes, scales, levels):
    """Return the gradient of the input (tokens, inputs), through a weight in 4 bits."""
    block = codes.shape[1] // scales.shape[1]
    return gradient @ (levels[codes] * np.repeat(scales, block, axis=1))''',
        check=check_input_gradient,
        hints={
            "codes": "a code is the place of a level, not its value: look it up in `levels`.",
            "unscaled": "the levels reach from -1 to 1; the scales of the blocks are missing.",
            "tiled": "neighbours share a scale: a, a, b, b and not a, b, a, b. `np.repeat`, not `np.tile`.",
            "transposed": "forward was x @ W.T; backward is gradient @ W, without the transpose.",
            "divided": "quantizing divides by the scale, dequantizing multiplies.",
            "other": "make the dense weight first, and compare it with what `x @ W.T` needs; then one product is left.",
        },
    ),
    Exercise(
        id="19.3",
        title="What stays when you merge",
        level="medium",
        minutes=15,
        task="""Write `stays(codes, scale, update, levels)` with NumPy, for one block of weights. Dequantize `codes` by
`scale` and the 16 `levels`, add `update`, and quantize again: the new scale is the largest magnitude in the block, and
each weight takes the code of the nearest level. Return the share of the codes that are what they were, from 0 to 1.""",
        clue="`np.abs(x[:, None] - levels).argmin(axis=1)` is the code of the nearest level for each of x.",
        name="stays",
        stub='''def stays(codes, scale, update, levels):
    """Return the share of a block's codes that are the same after the update is merged."""
    ...''',
        solution='''import numpy as np


def stays(codes, scale, update, levels):
    """Return the share of a block's codes that are the same after the update is merged."""
    merged = levels[codes] * scale + update
    new = np.abs(merged[:, None] / np.abs(merged).max() - levels).argmin(axis=1)
    return np.mean(new == codes)''',
        check=check_stays,
        hints={
            "old_scale": "the largest weight may have grown: take the new scale from the merged block.",
            "unscaled": "the levels reach from -1 to 1: divide by the new scale before you look for the nearest.",
            "signed": "the scale is the largest magnitude; the largest number may be smaller than the lowest is low.",
            "update": "quantize the sum of weight and update, not the update alone.",
            "numbers": "compare the codes: where the scale changes, the numbers do, whatever the codes.",
            "moved": "that is the share that moved; asked is the share that stays.",
            "other": "do it in four lines: merged, new scale, new codes, and the mean of `new == codes`.",
        },
    ),
    Exercise(
        id="19.4",
        title="How far apart are the best checkpoints?",
        level="hard",
        minutes=20,
        task="""A checkpoint need not stand before each layer. Let one stand at the start of each stretch of `every`
layers. Kept are the inputs at the checkpoints, `stream` bytes each (the last stretch may be shorter, and has one, too),
and while a stretch is run again, all of its `every` layers, `layer` bytes each. Write
`best_every(layers, stream, layer)`: the `every`, from 1 to `layers`, at which least is held in all; of two that are
equal, the smaller.""",
        clue="There are few candidates: try them all. `min(candidates, key=cost)` returns the first of the best.",
        name="best_every",
        stub='''def best_every(layers, stream, layer):
    """Return how many layers should lie between two checkpoints, so that least is held."""
    ...''',
        solution='''def best_every(layers, stream, layer):
    """Return how many layers should lie between two checkpoints, so that least is held."""
    def held(every):
        return -(-layers // every) * stream + every * layer

    return min(range(1, layers + 1), key=held)''',
        check=check_every,
        hints={
            "root": "the square root is best where an input is as large as a layer; here they have sizes of their own.",
            "floor": "a last stretch that is shorter has a checkpoint as well: round up.",
            "swapped": "the number of stretches goes with `stream`, the length of one with `layer`.",
            "always": "a checkpoint before every layer is best only where a layer keeps much more than its input.",
            "bytes": "that is the memory; asked is the distance at which it is least.",
            "most": "that is the distance at which most is held.",
            "other": "write the bytes for a given `every` as a function first, and try it by hand for 1 and for all.",
        },
    ),
]
