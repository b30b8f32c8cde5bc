"""The exercises of lesson 16: sharing the difficulty, Wanda in a pattern of 2:4, and the bytes of a cache."""

import numpy as np

from llmnotes.exercises.exercise import Answer, Exercise, recognize

RNG = np.random.default_rng(5)
ACTIVATIONS = RNG.normal(size=(6, 4)) * [40, 1, 2, 0.5]
MATRIX = RNG.normal(size=(4, 8))
NORMS = np.array([9.0, 1.0, 1.0, 4.0, 0.2, 3.0, 1.0, 6.0])


def check_smooth(answer: Answer) -> str | None:
    """Return None for SmoothQuant's scales, or which mistake the numbers look like."""
    weights, alpha = MATRIX[:3, :4], 0.7
    largest, heaviest = np.abs(ACTIVATIONS).max(axis=0), np.abs(weights).max(axis=0)
    mistakes = {
        "upside_down": heaviest**0.3 / largest**alpha,
        "swapped": largest**0.3 / heaviest**alpha,
        "one_alpha": largest**alpha / heaviest**alpha,
        "half": largest**0.5 / heaviest**0.5,
        "mean": np.abs(ACTIVATIONS).mean(axis=0) ** alpha / np.abs(weights).mean(axis=0) ** 0.3,
        "no_abs": np.abs(ACTIVATIONS.max(axis=0)) ** alpha / np.abs(weights.max(axis=0)) ** 0.3,
        "product": largest**alpha * heaviest**0.3,
        "one_number": np.abs(ACTIVATIONS).max() ** alpha / np.abs(weights).max() ** 0.3,
    }
    return recognize(answer(ACTIVATIONS.copy(), weights.copy(), alpha), largest**alpha / heaviest**0.3, mistakes)


def _kept(merit: np.ndarray, axis: int = 1, count: int = 4, least: bool = False) -> np.ndarray:
    """Return MATRIX with half of each `count` neighbours along `axis`, those of most (or least) merit."""
    merit = -merit if least else merit
    turned, weights = (merit, MATRIX) if axis == 1 else (merit.T, MATRIX.T)
    parts = turned.reshape(-1, count)
    keep = (np.argsort(np.argsort(parts, axis=1), axis=1) >= count // 2).reshape(turned.shape)
    out = np.where(keep, weights, 0)
    return out if axis == 1 else out.T


def check_two_of_four(answer: Answer) -> str | None:
    """Return None for Wanda's choice in a pattern of 2:4, or which mistake it looks like."""
    merit = np.abs(MATRIX) * NORMS
    mistakes = {
        "magnitude": _kept(np.abs(MATRIX)),
        "row": _kept(merit, count=8),
        "columns": _kept(merit, axis=0),
        "least": _kept(merit, least=True),
        "signs": _kept(MATRIX * NORMS),
        "norms_alone": _kept(np.broadcast_to(NORMS, MATRIX.shape)),
        "divided": _kept(np.abs(MATRIX) / NORMS),
        "weighed": _kept(merit) * NORMS,
        "argsort_once": np.where(np.argsort(merit.reshape(-1, 4), axis=1).reshape(MATRIX.shape) >= 2, MATRIX, 0),
    }
    return recognize(answer(MATRIX.copy(), NORMS.copy()), _kept(merit), mistakes)


QWEN = {"hidden_size": 2560, "num_hidden_layers": 36, "num_attention_heads": 32, "num_key_value_heads": 8,
        "head_dim": 128}  # fmt: skip  # Qwen3-4B, whose heads are wider than hidden_size / heads
SMOL = {"hidden_size": 576, "num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3}
LLAMA = {"hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 32}
CACHES = [(QWEN, 8192, "F16"), (QWEN, 4096, "Q8_0"), (SMOL, 2048, "F16"), (SMOL, 1000, "Q4_0"), (LLAMA, 4096, "Q8_0")]
BYTES = {"F16": 2, "Q8_0": 34 / 32, "Q4_0": 18 / 32}


def check_cache_bytes(answer: Answer) -> str | None:
    """Return None for the bytes of four caches, or which mistake the numbers look like."""
    try:
        found = [answer(dict(config), tokens, kind) for config, tokens, kind in CACHES]
    except KeyError as error:
        return "missing" if error.args == ("head_dim",) else "other"

    def numbers(
        both: float = 2, heads: str = "num_key_value_heads", per: dict[str, float] = BYTES, wide: bool | int = True
    ) -> list[float]:
        made = []
        for config, tokens, kind in CACHES:
            narrow = config["hidden_size"] // config["num_attention_heads"]
            width = config.get("head_dim", narrow if wide is True else wide) if wide else narrow
            made.append(both * config["num_hidden_layers"] * config[heads] * width * tokens * per[kind])
        return made

    right = numbers()
    mistakes = {
        "keys_alone": numbers(both=1),
        "heads": numbers(heads="num_attention_heads"),
        "narrow": numbers(wide=False),
        "sixty_four": numbers(wide=64),
        "no_scales": numbers(per={"F16": 2, "Q8_0": 1, "Q4_0": 0.5}),
        "wide_scales": numbers(per={"F16": 2, "Q8_0": 1 + 4 / 32, "Q4_0": 0.5 + 4 / 32}),
        "one_layer": [n / c["num_hidden_layers"] for n, (c, _, _) in zip(right, CACHES, strict=True)],
        "one_token": [n / tokens for n, (_, tokens, _) in zip(right, CACHES, strict=True)],
        "bits": [8 * n for n in right],
        "gb": [n / 1e9 for n in right],
    }
    return recognize(found, right, mistakes)


EXERCISES = [
    Exercise(
        id="16.1",
        title="Share the difficulty",
        level="easy",
        minutes=10,
        task="""Write `smooth(activations, weights, alpha)` with NumPy: SmoothQuant's scale for each channel, the
largest magnitude of its activations to the power `alpha`, divided by the largest magnitude of its weights to the power
`1 - alpha`. `activations` is `(tokens, channels)`, `weights` `(outputs, channels)`.""",
        clue="A channel is a column in both. `np.abs(x).max(axis=0)` is one number for each column.",
        name="smooth",
        kept=True,
        stub='''def smooth(activations, weights, alpha):
    """Return a scale for each channel, (channels,)."""
    ...''',
        solution='''import numpy as np


def smooth(activations, weights, alpha):
    """Return a scale for each channel, (channels,)."""
    largest, heaviest = np.abs(activations).max(axis=0), np.abs(weights).max(axis=0)
    return largest ** alpha / heaviest ** (1 - alpha)''',
        check=check_smooth,
        hints={
            "upside_down": "upside down: activations are divided by the scale, so large activations need a large one.",
            "swapped": "the powers are exchanged: alpha belongs to the activations.",
            "one_alpha": "both sides have the power alpha. The weights have what is left to 1.",
            "half": "right for an alpha of a half. Use the one that is given.",
            "mean": "these are means. A step is chosen by the largest number, so the scales look at it, too.",
            "no_abs": "the largest number is not the largest magnitude: −60 is larger than 3 here.",
            "product": "multiplied where it should be divided: heavy weights want a smaller scale.",
            "one_number": "one scale for all channels changes nothing: the step grows along. Which axis is a channel?",
            "other": "the numbers differ. With alpha 1, activations divided by the scales reach from −1 to 1.",
        },
    ),
    Exercise(
        id="16.2",
        title="Two of four, chosen by data",
        level="hard",
        minutes=20,
        task="""Write `two_of_four(weight, norms)` with NumPy: of each four neighbours in a row keep the two with the
larger `|weight| · norm` (Wanda's merit), and set the other two to 0. `weight` is `(rows, columns)` with a multiple of
four columns, `norms` `(columns,)` the size of each column's inputs.""",
        clue="`merit.reshape(-1, 4)` has four neighbours in each row. An `np.argsort` of an `np.argsort` gives "
        "each number its rank.",
        name="two_of_four",
        stub='''def two_of_four(weight, norms):
    """Return weight with two of each four neighbours in a row at 0."""
    ...''',
        solution='''import numpy as np


def two_of_four(weight, norms):
    """Return weight with two of each four neighbours in a row at 0."""
    merit = np.abs(weight) * norms
    fours = merit.reshape(-1, 4)
    keep = np.argsort(np.argsort(fours, axis=1), axis=1) >= 2
    keep = keep.reshape(weight.shape)
    return np.where(keep, weight, 0)''',
        check=check_two_of_four,
        hints={
            "magnitude": "this is a choice by magnitude alone. What do the inputs say?",
            "row": "half of each row is kept, and that is no pattern: of some four neighbours three stay.",
            "columns": "the fours lie down the columns. The circuits want them along a row.",
            "least": "this keeps the two that matter less.",
            "signs": "a weight of −4 is a large one: compare magnitudes.",
            "norms_alone": "the inputs alone decide here, and every row keeps the same columns.",
            "divided": "a column with large inputs matters more, not less: multiply by the norm.",
            "weighed": "the choice is right, and the weights that stay have been changed. Norms are for choosing only.",
            "argsort_once": "np.argsort says which number is smallest, next, and so on. The rank of each number is an "
            "np.argsort of that.",
            "other": "the matrix differs. Two numbers of each four must be as they were, and two must be 0.",
        },
    ),
    Exercise(
        id="16.3",
        title="What a long text takes",
        level="medium",
        minutes=12,
        task="""Write `cache_bytes(config, tokens, kind)`: how many bytes do the keys and values of one text take?
`config` is a dictionary with a model's `hidden_size`, `num_hidden_layers`, `num_attention_heads`, `num_key_value_heads`
and, in some models, `head_dim`; where it is missing, the heads share `hidden_size` evenly. `kind` is `"F16"`, `"Q8_0"`
or `"Q4_0"`. In the last two, 32 numbers share a scale of 16 bits. For Qwen3-4B, 8,192 tokens and `"F16"` it's
1,207,959,552.""",
        clue='How many numbers does one layer keep of one token? `config.get("head_dim", 99)` is 99 where there is no '
        "`head_dim`. And how many bytes do 32 numbers of `Q8_0` take, scale included?",
        name="cache_bytes",
        stub='''def cache_bytes(config, tokens, kind):
    """Return the bytes of the keys and values of one text."""
    ...''',
        solution='''def cache_bytes(config, tokens, kind):
    """Return the bytes of the keys and values of one text."""
    shared = config["hidden_size"] // config["num_attention_heads"]
    head = config.get("head_dim", shared)
    numbers = 2 * config["num_hidden_layers"] * config["num_key_value_heads"] * head * tokens
    bytes_of_32 = {"F16": 64, "Q8_0": 34, "Q4_0": 18}[kind]
    return numbers * bytes_of_32 / 32''',
        check=check_cache_bytes,
        hints={
            "keys_alone": "this is half of it. A layer keeps two things of each token.",
            "heads": "this counts the heads of the queries. Several of them share one set of keys and values.",
            "narrow": "right for some models. Others have wider heads than hidden_size / heads: ask head_dim first.",
            "sixty_four": "64 is right for some models without head_dim, and not for all: what do the heads share?",
            "missing": "a KeyError: some configs have no head_dim. What do the heads share then?",
            "no_scales": "the codes are right, and the scales are missing.",
            "wide_scales": "these scales have 32 bits. 16 were asked for.",
            "one_layer": "this is one layer. Each layer has keys and values of its own.",
            "one_token": "this is one token, and the text has more.",
            "bits": "these are bits: eight of them are a byte.",
            "gb": "right in GB. Bytes were asked for.",
            "other": "another number was expected. Multiply: keys and values, layers, heads that are kept, numbers of "
            "a head, tokens, bytes of a number.",
        },
    ),
]
