"""Typical wrong answers to the exercises of notebook 19: {exercise: {key of its hint: source}}."""

_STATE = '''def state_bytes(numbers, bits):
    """Return the bytes of AdamW's two averages of so many numbers, in 32 bits or in 8."""
    {lines}'''


def _state_source(last: str, first: str = "if bits == 32:\n        return 8 * numbers") -> str:
    return _STATE.format(lines=f"{first}\n    return {last}")


_BLOCKS = "-(-numbers // 256)"
_GRADIENT = '''import numpy as np


def input_gradient(gradient, codes, scales, levels):
    """Return the gradient of the input (tokens, inputs), through a weight in 4 bits."""
    block = codes.shape[1] // scales.shape[1]
    return {result}'''


def _gradient_source(weight: str = "levels[codes] * np.repeat(scales, block, axis=1)", turned: str = "") -> str:
    return _GRADIENT.format(result=f"gradient @ ({weight}){turned}")


_STAYS = '''import numpy as np


def stays(codes, scale, update, levels):
    """Return the share of a block's codes that are the same after the update is merged."""
    merged = {merged}
    new = np.abs(merged[:, None] / {scale} - levels).argmin(axis=1)
    return {share}'''


def _stays_source(
    merged: str = "levels[codes] * scale + update",
    scale: str = "np.abs(merged).max()",
    share: str = "np.mean(new == codes)",
) -> str:
    return _STAYS.format(merged=merged, scale=scale, share=share)


_EVERY = '''def best_every(layers, stream, layer):
    """Return how many layers should lie between two checkpoints, so that least is held."""
    def held(every):
        return {held}

    return {result}'''


def _every_source(
    held: str = "-(-layers // every) * stream + every * layer", result: str = "min(range(1, layers + 1), key=held)"
) -> str:
    return _EVERY.format(held=held, result=result)


WRONG = {
    "19.1": {
        "one": _state_source(f"numbers + 4 * {_BLOCKS}", "if bits == 32:\n        return 4 * numbers"),
        "no_scales": _state_source("2 * numbers"),
        "floor": _state_source("2 * (numbers + 4 * (numbers // 256))"),
        "shared": _state_source(f"2 * numbers + 4 * {_BLOCKS}"),
        "scales_in_32": _state_source(f"2 * (numbers * bits // 8 + 4 * {_BLOCKS})", "blocks = None"),
        "bits": _state_source(f"2 * (bits * numbers + 4 * {_BLOCKS})", "if bits == 32:\n        return 64 * numbers"),
        "other": _state_source(f"3 * (numbers + 4 * {_BLOCKS})"),
    },
    "19.2": {
        "codes": _gradient_source("codes * np.repeat(scales, block, axis=1)"),
        "unscaled": _gradient_source("levels[codes]"),
        "tiled": _gradient_source("levels[codes] * np.tile(scales, (1, block))"),
        "transposed": _gradient_source(turned=".T"),
        "divided": _gradient_source("levels[codes] / np.repeat(scales, block, axis=1)"),
        "other": _gradient_source("-levels[codes]"),
    },
    "19.3": {
        "old_scale": _stays_source(scale="scale"),
        "unscaled": _stays_source(scale="1"),
        "signed": _stays_source(scale="merged.max()"),
        "update": _stays_source(merged="update"),
        "numbers": _stays_source(
            share="np.mean(np.isclose(levels[new] * np.abs(merged).max(), levels[codes] * scale))"
        ),
        "moved": _stays_source(share="np.mean(new != codes)"),
        "other": _stays_source(share="np.sum(new == codes)"),
    },
    "19.4": {
        "root": _every_source(result="round(layers ** 0.5)"),
        "floor": _every_source(held="layers // every * stream + every * layer"),
        "swapped": _every_source(held="-(-layers // every) * layer + every * stream"),
        "always": _every_source(result="1"),
        "bytes": _every_source(result="min(map(held, range(1, layers + 1)))"),
        "most": _every_source(result="max(range(1, layers + 1), key=held)"),
        "other": _every_source(result="layers + 1"),
    },
}
