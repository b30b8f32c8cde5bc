"""The exercises of notebook 15: making up for an error, codes across words, smoothing, Wanda in a pattern of 2:4."""

import numpy as np

from llmnotes.exercises.exercise import Answer, Exercise, recognize

RNG = np.random.default_rng(5)
TOKENS = RNG.normal(size=(40, 5)) @ RNG.normal(size=(5, 5)) + 0.5  # inputs that vary together
WEIGHTS = RNG.normal(size=5)
CODES = RNG.integers(0, 8, 64)
ACTIVATIONS = RNG.normal(size=(6, 4)) * [40, 1, 2, 0.5]
MATRIX = RNG.normal(size=(4, 8))
NORMS = np.array([9.0, 1.0, 1.0, 4.0, 0.2, 3.0, 1.0, 6.0])


def _fitted(inputs: np.ndarray, goal: np.ndarray) -> np.ndarray:
    return np.linalg.lstsq(inputs, goal, rcond=None)[0]


def check_make_up(answer: Answer) -> str | None:
    """Return None for the other weights where the outputs err least, or which mistake the numbers look like."""
    rounded = np.round(WEIGHTS[0]) + 1.0
    first, others = TOKENS[:, 0], TOKENS[:, 1:]
    outputs = TOKENS @ WEIGHTS
    right = _fitted(others, outputs - first * rounded)
    error = rounded - WEIGHTS[0]
    mistakes = {
        "unmoved": WEIGHTS[1:],
        "moves": right - WEIGHTS[1:],
        "wrong_way": 2 * WEIGHTS[1:] - right,
        "first_left_out": _fitted(others, outputs),
        "fit_to_error": _fitted(others, first * error),
        "each_alone": WEIGHTS[1:] - error * (first @ others) / (others**2).sum(axis=0),
    }
    return recognize(answer(TOKENS.copy(), WEIGHTS.copy(), rounded), right, mistakes)


def words_of(codes: np.ndarray) -> np.ndarray:
    """Return codes of 3 bits as int32 words, the first code in the lowest bits.

    >>> words_of(np.array([7] + [0] * 31)).tolist()
    [7, 0, 0]
    """
    bits = (codes[:, None] >> np.arange(3) & 1).astype(np.uint8).ravel()
    return np.packbits(bits, bitorder="little").view("<i4")


def check_unpack(answer: Answer) -> str | None:
    """Return None for the codes, or which mistake they look like."""
    words = words_of(CODES)
    unsigned = [int(word) & 0xFFFFFFFF for word in words]
    whole = sum(word << 32 * place for place, word in enumerate(unsigned))
    backwards = sum(word << 32 * place for place, word in enumerate(reversed(unsigned)))
    text = "".join(f"{word:032b}" for word in unsigned)
    signed = sum(int(word) << 32 * place for place, word in enumerate(words))
    mistakes = {
        "per_word": [word >> 3 * place & 7 for word in unsigned for place in range(10)],
        "highest_first": [int(text[3 * i : 3 * i + 3], 2) for i in range(64)],
        "last_word_first": [backwards >> 3 * place & 7 for place in range(64)],
        "four_bits": [whole >> 4 * place & 15 for place in range(48)],
        "signed": [signed >> 3 * place & 7 for place in range(64)],
        "centred": CODES - 4,
    }
    return recognize(answer(words.copy()), CODES, mistakes)


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


EXERCISES = [
    Exercise(
        id="15.1",
        title="Make up for it",
        level="easy",
        minutes=10,
        task="""Write `make_up(inputs, weights, rounded)` with NumPy. `inputs` is `(tokens, n)`, `weights` `(n,)`. The
first weight has become the number `rounded`. Return the other n − 1 weights at the place where the outputs of all
tokens err least, in squares, against `inputs @ weights`. They stay real numbers: rounding them is for later.""",
        clue="What must the other columns add, so that together with the rounded first column the outputs are as they "
        "were? `np.linalg.lstsq(a, b, rcond=None)[0]` is the x for which `a @ x` is nearest to b.",
        name="make_up",
        stub='''def make_up(inputs, weights, rounded):
    """Return the weights after the first, moved to where the outputs err least once the first is `rounded`."""
    ...''',
        solution='''import numpy as np


def make_up(inputs, weights, rounded):
    """Return the weights after the first, moved to where the outputs err least once the first is `rounded`."""
    first, others = inputs[:, 0], inputs[:, 1:]
    return np.linalg.lstsq(others, inputs @ weights - first * rounded, rcond=None)[0]''',
        check=check_make_up,
        hints={
            "unmoved": "these are the weights as they were. The first one has erred: who makes up for it?",
            "moves": "these are the moves. Asked for is where the weights arrive.",
            "wrong_way": "each weight moves by the right amount to the wrong side, so the error doubles. Check its "
            "sign: rounded less weight, or the other way round?",
            "first_left_out": "these weights make the outputs alone, as if the first were 0. It is `rounded`, and does "
            "its part.",
            "fit_to_error": "this is a fit to the error alone. The weights have their own work to do as well.",
            "each_alone": "each weight makes up for the whole error, as if it were alone. They must share it: fit them "
            "together.",
            "other": "the numbers differ. With a first weight that is not changed, nothing should move. Does it?",
        },
    ),
    Exercise(
        id="15.2",
        title="Three bits in words of 32",
        level="medium",
        minutes=15,
        task="""Write `unpack(words)`: from int32 words, as a column of `qweight` holds them, to codes of 3 bits as a
list. Three words hold 32 codes; the first code has the lowest bits of the first word, and where a word is full the code
goes on in the lowest bits of the next. A word with its highest bit set reads as a negative number.""",
        clue="In Python whole numbers may be as long as you like: all words can become one. "
        "`int(word) & 0xFFFFFFFF` is the word without a sign.",
        name="unpack",
        stub='''def unpack(words):
    """Return the 3-bit codes in int32 words, the first code in the lowest bits of the first word."""
    ...''',
        solution='''def unpack(words):
    """Return the 3-bit codes in int32 words, the first code in the lowest bits of the first word."""
    whole = sum((int(word) & 0xFFFFFFFF) << 32 * place for place, word in enumerate(words))
    return [whole >> 3 * place & 7 for place in range(len(words) * 32 // 3)]''',
        check=check_unpack,
        hints={
            "per_word": "ten codes from each word, and two bits of each are thrown away. The eleventh code begins in "
            "them, and ends in the next word.",
            "highest_first": "this reads each word from its highest bits down. The first code has the lowest.",
            "last_word_first": "the words are in reverse order: the first one has the lowest bits.",
            "four_bits": "these are codes of 4 bits. How many bits does a code take here?",
            "signed": "right up to a negative word: its sign spills into all higher bits. Take the sign away first.",
            "centred": "the zero point is already subtracted. Asked for are the codes, from 0 to 7.",
            "other": "the codes differ. By hand: the word 7 begins with the code 7, the word 8 with the codes 0 and 1.",
        },
    ),
    Exercise(
        id="15.3",
        title="Share the difficulty",
        level="easy",
        minutes=10,
        task="""Write `smooth(activations, weights, alpha)` with NumPy: SmoothQuant's scale for each channel, the
largest magnitude of its activations to the power `alpha`, divided by the largest magnitude of its weights to the power
`1 - alpha`. `activations` is `(tokens, channels)`, `weights` `(outputs, channels)`.""",
        clue="A channel is a column in both. `np.abs(x).max(axis=0)` is one number for each column.",
        name="smooth",
        stub='''def smooth(activations, weights, alpha):
    """Return a scale for each channel; activations (tokens, channels), weights (outputs, channels)."""
    ...''',
        solution='''import numpy as np


def smooth(activations, weights, alpha):
    """Return a scale for each channel; activations (tokens, channels), weights (outputs, channels)."""
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
        id="15.4",
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
    """Return weight (rows, columns), where two of each four neighbours in a row are 0; norms is (columns,)."""
    ...''',
        solution='''import numpy as np


def two_of_four(weight, norms):
    """Return weight (rows, columns), where two of each four neighbours in a row are 0; norms is (columns,)."""
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
]
