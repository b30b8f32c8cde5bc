"""Typical wrong answers to the exercises of notebook 15: {exercise: {key of its hint: source}}."""

_MAKE_UP = '''import numpy as np


def make_up(inputs, weights, rounded):
    """Return the weights after the first, moved to where the outputs err least once the first is `rounded`."""
    first, others = inputs[:, 0], inputs[:, 1:]
    {line}'''
_FIT = "return np.linalg.lstsq(others, inputs @ weights - first * rounded, rcond=None)[0]"


def _make_up_source(line: str = _FIT) -> str:
    return _MAKE_UP.format(line=line)


_UNPACK = '''def unpack(words):
    """Return the 3-bit codes in int32 words, the first code in the lowest bits of the first word."""
    {whole}
    {last}'''
_WHOLE = "whole = sum((int(word) & 0xFFFFFFFF) << 32 * place for place, word in enumerate(words))"
_SHIFTS = "return [whole >> 3 * place & 7 for place in range(len(words) * 32 // 3)]"


def _unpack_source(whole: str = _WHOLE, last: str = _SHIFTS) -> str:
    return _UNPACK.format(whole=whole, last=last)


_SMOOTH = '''import numpy as np


def smooth(activations, weights, alpha):
    """Return a scale for each channel; activations (tokens, channels), weights (outputs, channels)."""
    largest, heaviest = {sizes}
    return {scales}'''
_SIZES = "np.abs(activations).max(axis=0), np.abs(weights).max(axis=0)"


def _smooth_source(scales: str = "largest ** alpha / heaviest ** (1 - alpha)", sizes: str = _SIZES) -> str:
    return _SMOOTH.format(sizes=sizes, scales=scales)


_TWO = '''import numpy as np


def two_of_four(weight, norms):
    """Return weight (rows, columns), where two of each four neighbours in a row are 0; norms is (columns,)."""
    merit = {merit}
    {places}
    return {last}'''
_PLACES = (
    "fours = merit.reshape(-1, 4)\n"
    "    keep = np.argsort(np.argsort(fours, axis=1), axis=1) >= 2\n"
    "    keep = keep.reshape(weight.shape)"
)


_ONCE = "np.argsort(fours, axis=1)"


def _two_source(merit="np.abs(weight) * norms", places: str = _PLACES, last: str = "np.where(keep, weight, 0)") -> str:
    return _TWO.format(merit=merit, places=places, last=last)


WRONG = {
    "15.1": {
        "unmoved": _make_up_source("return weights[1:]"),
        "moves": _make_up_source(_FIT + " - weights[1:]"),
        "wrong_way": _make_up_source(
            "move = np.linalg.lstsq(others, first * (rounded - weights[0]), rcond=None)[0]\n"
            "    return weights[1:] + move"
        ),
        "first_left_out": _make_up_source("return np.linalg.lstsq(others, inputs @ weights, rcond=None)[0]"),
        "fit_to_error": _make_up_source(
            "return np.linalg.lstsq(others, first * (rounded - weights[0]), rcond=None)[0]"
        ),
        "each_alone": _make_up_source(
            "error = rounded - weights[0]\n"
            "    return weights[1:] - error * (first @ others) / (others ** 2).sum(axis=0)"
        ),
        "other": _make_up_source("return weights[1:] * weights[0] / rounded"),
    },
    "15.2": {
        "per_word": _unpack_source(
            "words = [int(word) & 0xFFFFFFFF for word in words]",
            "return [word >> 3 * place & 7 for word in words for place in range(10)]",
        ),
        "highest_first": _unpack_source(
            'text = "".join(f"{int(word) & 0xFFFFFFFF:032b}" for word in words)',
            "return [int(text[3 * i:3 * i + 3], 2) for i in range(len(text) // 3)]",
        ),
        "last_word_first": _unpack_source(_WHOLE.replace("enumerate(words)", "enumerate(words[::-1])")),
        "four_bits": _unpack_source(last="return [whole >> 4 * place & 15 for place in range(len(words) * 32 // 4)]"),
        "signed": _unpack_source(_WHOLE.replace("(int(word) & 0xFFFFFFFF)", "int(word)")),
        "centred": _unpack_source(last=_SHIFTS.replace("[whole >> 3 * place & 7", "[(whole >> 3 * place & 7) - 4")),
        "other": _unpack_source(last=_SHIFTS.replace("3 * place", "2 * place")),
    },
    "15.3": {
        "upside_down": _smooth_source("heaviest ** (1 - alpha) / largest ** alpha"),
        "swapped": _smooth_source("largest ** (1 - alpha) / heaviest ** alpha"),
        "one_alpha": _smooth_source("largest ** alpha / heaviest ** alpha"),
        "half": _smooth_source("np.sqrt(largest / heaviest)"),
        "mean": _smooth_source(sizes=_SIZES.replace(".max(", ".mean(")),
        "no_abs": _smooth_source(
            "np.abs(largest) ** alpha / np.abs(heaviest) ** (1 - alpha)",
            "activations.max(axis=0), weights.max(axis=0)",
        ),
        "product": _smooth_source("largest ** alpha * heaviest ** (1 - alpha)"),
        "one_number": _smooth_source(sizes=_SIZES.replace(".max(axis=0)", ".max()")),
        "other": _smooth_source("largest / heaviest"),
    },
    "15.4": {
        "magnitude": _two_source("np.abs(weight)"),
        "row": _two_source(places="keep = np.argsort(np.argsort(merit, axis=1), axis=1) >= weight.shape[1] // 2"),
        "columns": _two_source(
            places=_PLACES.replace("merit.reshape", "merit.T.reshape").replace(
                "keep.reshape(weight.shape)", "keep.reshape(weight.T.shape).T"
            )
        ),
        "least": _two_source(places=_PLACES.replace(">= 2", "< 2")),
        "signs": _two_source("weight * norms"),
        "norms_alone": _two_source("np.broadcast_to(norms, weight.shape)"),
        "divided": _two_source("np.abs(weight) / norms"),
        "weighed": _two_source(last="np.where(keep, weight, 0) * norms"),
        "argsort_once": _two_source(places=_PLACES.replace("np.argsort(np.argsort(fours, axis=1), axis=1)", _ONCE)),
        "other": _two_source(places=_PLACES.replace(">= 2", ">= 1")),
    },
}
