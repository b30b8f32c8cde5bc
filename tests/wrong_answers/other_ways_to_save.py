"""Typical wrong answers to the exercises of lesson 16: {exercise: {key of its hint: source}}."""

_SMOOTH = '''import numpy as np


def smooth(activations, weights, alpha):
    """Return a scale for each channel, (channels,)."""
    largest, heaviest = {sizes}
    return {scales}'''
_SIZES = "np.abs(activations).max(axis=0), np.abs(weights).max(axis=0)"


def _smooth_source(scales: str = "largest ** alpha / heaviest ** (1 - alpha)", sizes: str = _SIZES) -> str:
    return _SMOOTH.format(sizes=sizes, scales=scales)


_TWO = '''import numpy as np


def two_of_four(weight, norms):
    """Return weight with two of each four neighbours in a row at 0."""
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


_CACHE = '''def cache_bytes(config, tokens, kind):
    """Return the bytes of the keys and values of one text."""
    shared = config["hidden_size"] // config["num_attention_heads"]
    head = {head}
    numbers = {numbers}
    bytes_of_32 = {sizes}[kind]
    return {last}'''
_NUMBERS = '2 * config["num_hidden_layers"] * config["num_key_value_heads"] * head * tokens'


def _cache_source(
    head: str = 'config.get("head_dim", shared)',
    numbers: str = _NUMBERS,
    sizes: str = '{"F16": 64, "Q8_0": 34, "Q4_0": 18}',
    last: str = "numbers * bytes_of_32 / 32",
) -> str:
    return _CACHE.format(head=head, numbers=numbers, sizes=sizes, last=last)


WRONG = {
    "16.1": {
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
    "16.2": {
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
    "16.3": {
        "keys_alone": _cache_source(numbers=_NUMBERS.replace("2 * ", "")),
        "heads": _cache_source(numbers=_NUMBERS.replace("key_value", "attention")),
        "narrow": _cache_source("shared"),
        "sixty_four": _cache_source('config.get("head_dim", 64)'),
        "missing": _cache_source('config["head_dim"]'),
        "no_scales": _cache_source(sizes='{"F16": 64, "Q8_0": 32, "Q4_0": 16}'),
        "wide_scales": _cache_source(sizes='{"F16": 64, "Q8_0": 36, "Q4_0": 20}'),
        "one_layer": _cache_source(numbers=_NUMBERS.replace('config["num_hidden_layers"] * ', "")),
        "one_token": _cache_source(numbers=_NUMBERS.replace(" * tokens", "")),
        "bits": _cache_source(last="numbers * bytes_of_32 / 32 * 8"),
        "gb": _cache_source(last="numbers * bytes_of_32 / 32 / 1e9"),
        "other": _cache_source(last="numbers * bytes_of_32 / 32 / 2**30"),
    },
}
