"""The exercises of lesson 15: making up for an error, codes that cross words, and reading a layer of a file."""

import numpy as np

from llmnotes.exercises.exercise import Answer, Exercise, recognize

RNG = np.random.default_rng(5)
TOKENS = RNG.normal(size=(40, 5)) @ RNG.normal(size=(5, 5)) + 0.5  # inputs that vary together
WEIGHTS = RNG.normal(size=5)
CODES = RNG.integers(0, 8, 64)


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
        "all": np.append(rounded, right),
        "rounded": np.round(right),
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
        "first_32": CODES[:32],
    }
    return recognize(answer(words.copy()), CODES, mistakes)


def _layers() -> list[tuple[np.ndarray, ...]]:
    """Return two layers as (codes, scales, zeros less one, g_idx): groups in order, and scattered ones."""
    random, layers = np.random.default_rng(9), []
    for g_idx in (np.arange(8) // 4, np.array([1, 0, 2, 0, 1, 1, 2, 0])):
        groups = g_idx.max() + 1
        codes = random.integers(0, 16, (8, 3))  # (inputs, outputs), as qweight holds them
        scales, zeros = random.uniform(0.1, 1, (groups, 3)).round(2), random.integers(5, 10, (groups, 3))
        layers.append((codes, scales, zeros, g_idx))
    return layers


def check_read_layer(answer: Answer) -> str | None:
    """Return None for the weights of two layers, or which mistake they look like."""

    def weights(layer, one=1, sign=1, turned=True, scattered=True) -> np.ndarray:
        codes, scales, zeros, g_idx = layer
        group = g_idx if scattered else np.arange(len(g_idx)) * len(scales) // len(g_idx)
        found = scales[group] * sign * (codes - (zeros[group] + one))
        return found.T if turned else found

    layers = _layers()
    found = [answer(*(part.copy() for part in layer)) for layer in layers]
    mistakes = {
        "no_one": [weights(layer, one=0) for layer in layers],
        "one_less": [weights(layer, one=-1) for layer in layers],
        "no_zero": [(layer[1][layer[3]] * layer[0]).T for layer in layers],
        "middle": [(layer[1][layer[3]] * (layer[0] - 8)).T for layer in layers],
        "order": [weights(layer, scattered=False) for layer in layers],
        "sign": [weights(layer, sign=-1) for layer in layers],
        "unturned": [weights(layer, turned=False) for layer in layers],
    }
    return recognize(found, [weights(layer) for layer in layers], mistakes)


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
    """Return the other weights, moved to where the outputs err least."""
    ...''',
        solution='''import numpy as np


def make_up(inputs, weights, rounded):
    """Return the other weights, moved to where the outputs err least."""
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
            "all": "the numbers are right, and the first weight stands before them. Return the others alone.",
            "rounded": "the others are rounded, too. They stay real numbers here: rounding them comes later.",
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
    """Return the 3-bit codes in int32 words, lowest bits first."""
    ...''',
        solution='''def unpack(words):
    """Return the 3-bit codes in int32 words, lowest bits first."""
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
            "first_32": "right for the first three words. A column may have more: three words for every 32 codes.",
            "centred": "the zero point is already subtracted. Asked for are the codes, from 0 to 7.",
            "other": "the codes differ. By hand: the word 7 begins with the code 7, the word 8 with the codes 0 and 1.",
        },
    ),
    Exercise(
        id="15.3",
        title="Read a layer",
        level="medium",
        minutes=15,
        task="""A colleague's program loads a GPTQ file, and the model talks nonsense. Write the reader that works:
`read_layer(codes, scales, zeros, g_idx)` gets the numbers of one layer as they stand in the file, unpacked: `codes`
`(inputs, outputs)`, `scales` and `zeros` `(groups, outputs)`, and `g_idx` `(inputs,)`, which says for each input which
group it belongs to. The file stores each zero point less one. Return the weights as PyTorch keeps them, `(outputs,
inputs)`.""",
        clue="`scales[g_idx]` has a row for each input: the scales of its group. Which way round does PyTorch keep a "
        "layer's weights?",
        name="read_layer",
        stub='''def read_layer(codes, scales, zeros, g_idx):
    """Return the weights of a GPTQ layer, (outputs, inputs)."""
    ...''',
        solution='''def read_layer(codes, scales, zeros, g_idx):
    """Return the weights of a GPTQ layer, (outputs, inputs)."""
    return (scales[g_idx] * (codes - (zeros[g_idx] + 1))).T''',
        check=check_read_layer,
        hints={
            "no_one": "every weight is off by one step: the file stores each zero point less one.",
            "one_less": "every weight is off by two steps: the one must come back to the zero point, so add it.",
            "no_zero": "here code 0 stands for 0. The zero point says which code does.",
            "middle": "here code 8 stands for 0 everywhere. The file says for each group which code does.",
            "order": "right for a file whose groups lie in order. With act-order they are scattered: g_idx says where.",
            "sign": "all signs are turned round: a code above the zero point is a positive weight.",
            "unturned": "the numbers are right and lie on their side: PyTorch keeps a layer as (outputs, inputs).",
            "other": "the weights differ. By hand: code 9, zero 7 in the file and scale 0.5 make 0.5 · (9 − 8) = 0.5.",
        },
    ),
]
