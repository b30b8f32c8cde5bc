"""The exercises of notebook 14: the price of a scale, Q4_0, a zero-point, and a choice."""

import math

import numpy as np

from llmnotes.exercises.exercise import Answer, Exercise, ToDo, recognize


def check_bits_per_weight(answer: Answer) -> str | None:
    """Return None for bits with their share of scale and zero-point, or which mistake the numbers look like."""
    cases = [(4, 32, 16, 0), (4, 128, 16, 4), (2, 64, 16, 2), (8, 4096, 32, 0), (3, 7, 5, 3)]
    found = [answer(*case) for case in cases]
    mistakes = {
        "codes_only": [bits for bits, _, _, _ in cases],
        "undivided": [bits + scale + zero for bits, _, scale, zero in cases],
        "no_zero": [bits + scale / block for bits, block, scale, _ in cases],
        "bytes": [(bits + (scale + zero) / block) / 8 for bits, block, scale, zero in cases],
        "whole": [bits + (scale + zero) // block for bits, block, scale, zero in cases],
        "block": [bits * block + scale + zero for bits, block, scale, zero in cases],
    }
    return recognize(found, [bits + (scale + zero) / block for bits, block, scale, zero in cases], mistakes)


def _blocks() -> list[np.ndarray]:
    """Return three blocks of 32: the largest is negative; it is positive; and its opposite and halves are there."""
    random = np.random.default_rng(4)
    first, second = random.normal(size=(2, 32))
    first[5], second[9] = -3.7, 4.1
    third = random.integers(-15, 16, 32) / 2.0
    third[:6] = [-8.0, 8.0, 0.5, 1.5, -2.5, 3.5]
    return [first, second, third]


def _q4_0(block, scale=lambda x: x[np.abs(x).argmax()] / -8, code=lambda v: np.clip(np.floor(v + 8.5), 0, 15)):
    d = scale(block)
    return np.append(code(block / d), d)


def check_q4_0(answer: Answer) -> str | None:
    """Return None for Q4_0's scales and codes, or which mistake the numbers look like."""

    def ask(block):
        scale, codes = answer(block.copy())
        return np.append(np.asarray(codes, float), float(scale))

    blocks = _blocks()

    def absolute(x):
        return np.abs(x).max() / 8

    def largest(x):
        return x.max() / -8

    def seven(x):
        return np.abs(x).max() / 7

    def same_sign(x):
        return x[np.abs(x).argmax()] / 8

    def even(v):
        return np.clip(np.rint(v) + 8, 0, 15)

    def cut(v):
        return np.clip(np.floor(v + 8), 0, 15)

    variants = {
        "sign": [_q4_0(x, absolute) for x in blocks],
        "minus": [_q4_0(x, same_sign) for x in blocks],
        "largest": [_q4_0(x, largest) for x in blocks],
        "seven": [_q4_0(x, seven) for x in blocks],
        "sixteen": [_q4_0(x, code=lambda v: np.floor(v + 8.5)) for x in blocks],
        "offset": [_q4_0(x, code=lambda v: np.clip(np.floor(v + 0.5), -8, 7)) for x in blocks],
        "even": [_q4_0(x, code=even) for x in blocks],
        "cut": [_q4_0(x, code=cut) for x in blocks],
    }
    if np.ndim(answer(blocks[0].copy())[0]):
        return "swapped"
    with np.errstate(all="ignore"):
        key = recognize([ask(block) for block in blocks], [_q4_0(x) for x in blocks], variants)
        if key:
            return key
        try:
            zeros = ask(np.zeros(32))
        except (ZeroDivisionError, ValueError):
            return "zeros"
    return None if np.isfinite(zeros).all() and zeros[-1] == 0 else "zeros"


def _affine(x, low=None, high=None, most=255, rounded=True, clipped=True, signed=0):
    low = min(x.min(), 0) if low is None else low(x)
    high = max(x.max(), 0) if high is None else high(x)
    scale = (high - low) / most
    zero = np.rint(-low / scale) if rounded else -low / scale
    codes = np.rint(x / scale) + zero if rounded else np.rint(x / scale + zero)
    return np.concatenate([(np.clip(codes, 0, 255) if clipped else codes) - signed, [scale, zero - signed]])


def _from_low(x):
    """The codes count from the lowest number, and the zero-point is rounded beside them."""
    codes, scale, zero = np.split(_affine(x), [len(x), len(x) + 1])
    return np.concatenate([np.clip(np.rint((x - min(x.min(), 0)) / scale), 0, 255), scale, zero])


def check_affine(answer: Answer) -> str | None:
    """Return None for codes, scale and zero-point, or which mistake the numbers look like."""
    random = np.random.default_rng(6)
    cases = [
        random.uniform(2, 3, 12),
        np.append(random.normal(1, 1, 12), -0.9),
        np.array([-1.25, 0.0, 0.013, 0.5, 1.31, 2.6]),
        -random.exponential(size=12),
        np.array([-1.0, 0.0, 1.0]),  # without a clip, 1 would get the code 256
    ]

    def ask(x):
        codes, scale, zero = answer(x.copy())
        return np.concatenate([np.asarray(codes, float), [float(scale), float(zero)]])

    def every(**changes):
        return np.concatenate([_affine(x, **changes) for x in cases])

    def far(x):
        return np.abs(x).max()

    mistakes = {
        "no_zero": every(low=np.min, high=np.max, clipped=False),
        "no_zero ": every(low=np.min, high=np.max),
        "unclipped": every(clipped=False),
        "unrounded": every(rounded=False),
        "symmetric": every(low=lambda x: -far(x), high=far),
        "levels": every(most=256),
        "levels ": every(most=256, clipped=False),
        "signed": every(signed=128),
        "from_low": np.concatenate([_from_low(x) for x in cases]),
    }
    key = recognize(np.concatenate([ask(x) for x in cases]), every(), mistakes)
    return key and key.strip()


ROWS = [  # name, bits per weight, KL, perplexity
    ("16 bits", 16.0, 0.0, 7.10),
    ("A", 8.5, 0.0004, 7.11),
    ("B", 5.5, 0.006, 7.09),
    ("C", 4.5, 0.031, 7.06),
    ("D", 4.25, 0.022, 7.18),
    ("E", 4.9, 0.045, 7.20),
    ("F", 3.4, 0.08, 7.31),
    ("G", 3.6, 0.09, 7.29),
]


def check_choose(answer: Answer) -> str | None:
    """Return None if the choice is right for every budget, or which mistake it looks like."""
    cases = [(7e9, 14.0), (7e9, 4.2), (7e9, 3.75), (1e9, 1.0), (13e9, 7.1), (7e9, 4.4), (7e9, 4.6), (7e9, 2.0)]

    def best(parameters, gb, key=lambda row: row[2], size=lambda bits, n: bits * n / 8 / 1e9):
        fitting = [row for row in ROWS if size(row[1], parameters) <= gb]
        return min(fitting, key=key)[0] if fitting else "nothing"

    right = [best(*case) for case in cases]
    mistakes = {
        "perplexity": [best(*case, key=lambda row: row[3]) for case in cases],
        "most_bits": [best(*case, key=lambda row: -row[1]) for case in cases],
        "fewest_bits": [best(*case, key=lambda row: row[1]) for case in cases],
        "gib": [best(*case, size=lambda bits, n: bits * n / 8 / 2**30) for case in cases],
        "bytes": [best(*case, size=lambda bits, n: bits * n / 1e9) for case in cases],
        "strict": [best(*case, size=lambda bits, n: bits * n / 8 / 1e9 * (1 + 1e-9)) for case in cases],
        "whole": [best(*case, size=lambda bits, n: math.floor(bits) * n / 8 / 1e9) for case in cases],
    }
    found = []
    for parameters, gb in cases:
        try:
            found.append(answer(list(ROWS), parameters, gb))
        except (ValueError, IndexError, TypeError, ToDo) as error:
            if right[len(found)] != "nothing":
                raise
            return "none" if isinstance(error, ToDo) else "nothing"
    found = [row[0] if isinstance(row, tuple) else row for row in found]
    if found == right:
        return None
    return next((key for key, names in mistakes.items() if found == names), "other")


EXERCISES = [
    Exercise(
        id="14.1",
        title="The price of a scale",
        level="easy",
        minutes=5,
        task="""Write `bits_per_weight(bits, block, scale, zero)`. Each weight has a code of `bits` bits; every `block`
weights share a scale of `scale` bits and, in some types, a second number of `zero` bits (0: there is none). How many
bits fall to each weight? For codes of 4 bits, blocks of 32 and scales of 16 bits, the answer is 4.5.""",
        clue="How many bits does a whole block take? And how many weights share them?",
        name="bits_per_weight",
        stub='''def bits_per_weight(bits, block, scale, zero):
    """Return the bits that fall to each weight, scales and second numbers included."""
    ...''',
        solution="""def bits_per_weight(bits, block, scale, zero):
    return bits + (scale + zero) / block""",
        check=check_bits_per_weight,
        hints={
            "codes_only": "these are the codes alone. Without its scale, no code says how large a weight is.",
            "undivided": "this gives each weight a scale of its own. A whole block shares one.",
            "no_zero": "the second numbers are missing: they lie in the file, too.",
            "bytes": "this counts bytes; the question is about bits.",
            "whole": "the share of the scale is cut to a whole number. A weight may well take 4.25 bits.",
            "block": "these are the bits of a whole block. Share them out among its weights.",
            "other": "the numbers differ. By hand: 32 codes of 4 bits and a scale of 16, for 32 weights.",
        },
    ),
    Exercise(
        id="14.2",
        title="A block of Q4_0",
        level="medium",
        minutes=15,
        task="""Write `q4_0(block)` for an array of 32 numbers. Return `(scale, codes)`: the scale maps the number of
the largest magnitude to −8, sign included, and codes are whole numbers from 0 to 15 that stand for −8 to 7 times the
scale. Halves round up. A block of zeros has the scale 0. Leave the scale as it is: no float16.""",
        clue="`np.floor(x + 0.5)` rounds halves up. Which code does the largest number get? And its opposite?",
        name="q4_0",
        stub='''def q4_0(block):
    """Return (scale, codes from 0 to 15) of 32 numbers."""
    ...''',
        solution="""import numpy as np


def q4_0(block):
    if not block.any():
        return 0.0, np.full(32, 8)
    scale = block[np.abs(block).argmax()] / -8
    return scale, np.clip(np.floor(block / scale + 8.5), 0, 15)""",
        check=check_q4_0,
        hints={
            "sign": "this takes the magnitude alone. With its sign, the largest number lands on −8 whatever it is.",
            "minus": "the largest number lands on +8 here, and 15 stands for 7: it is cut off. Divide by −8.",
            "seven": "this spreads the codes from −7 to 7 and leaves −8 unused.",
            "sixteen": "there is a code 16, which four bits cannot hold: the opposite of the largest number saturates.",
            "offset": "these codes go from −8 to 7. What is stored goes from 0 to 15.",
            "even": "np.rint rounds halves to even; here they go up.",
            "cut": "this rounds everything down, so that the error is up to a whole step. Add one half first.",
            "zeros": "a block of zeros is divided by zero. Its scale is 0, and its codes do not matter.",
            "swapped": "the scale comes first, and then the codes.",
            "largest": "this takes the largest number. What counts is the largest magnitude, with its sign.",
            "other": "the numbers differ. code = round(x / scale) + 8, and the scale is the number of the largest "
            "magnitude, with its sign, over −8.",
        },
    ),
    Exercise(
        id="14.3",
        title="A zero-point",
        level="medium",
        minutes=15,
        task="""Write `affine(x)` for an array of numbers, not all 0: return `(codes, scale, zero)` in 8 bits. Codes go
from 0 to 255, and `(code − zero) · scale` is the number again. The range that they span reaches from the smallest to
the largest number, and holds 0 in any case. `zero`, the code of 0.0, is a whole number; round to the nearest code with
`np.rint`, and let nothing leave the range.""",
        clue="256 codes have 255 steps between them. What is the smallest number of the range if all numbers lie "
        "between 2 and 3?",
        name="affine",
        stub='''def affine(x):
    """Return (codes from 0 to 255, scale, zero-point) of an array."""
    ...''',
        solution="""import numpy as np


def affine(x):
    low, high = min(x.min(), 0), max(x.max(), 0)
    scale = (high - low) / 255
    zero = np.rint(-low / scale)
    codes = np.clip(np.rint(x / scale) + zero, 0, 255)
    return codes, scale, zero""",
        check=check_affine,
        hints={
            "no_zero": "with all numbers on one side, 0.0 has no code here: let the range reach to 0.",
            "unclipped": "for −1, 0 and 1 a code is 256, which 8 bits cannot hold: clip to 0 and 255.",
            "unrounded": "the zero-point is no whole number, so 0.0 is no code, and zeros come back as something else.",
            "symmetric": "this range is the same to both sides, as absmax has it. Half of the codes may stay unused.",
            "levels": "256 codes have 255 steps between them.",
            "from_low": "these codes count from the lowest number, and the zero-point is rounded apart from them: "
            "0.0 does not come back as 0. Round x / scale, then add the zero-point.",
            "signed": "these codes go from −128 to 127. Here they go from 0 to 255.",
            "other": "the numbers differ. scale = (high − low) / 255, zero = the code of 0.0, code = x / scale + zero.",
        },
    ),
    Exercise(
        id="14.4",
        title="Choose one",
        level="medium",
        minutes=15,
        task="""Write `choose(rows, parameters, gb)`. A row is `(name, bits per weight, KL, perplexity)`, as measured on
a model with `parameters` weights. Return the name of the row that stays nearest to the original among those whose
weights take at most `gb` GB (a GB is 10⁹ bytes), or `"nothing"` if none fits.""",
        clue="How many bytes are `bits` bits for each of the weights? And which column does section 14.5 trust?",
        name="choose",
        stub='''def choose(rows, parameters, gb):
    """Return the name of the best row whose weights fit into gb GB, or "nothing"."""
    ...''',
        solution='''def choose(rows, parameters, gb):
    fitting = []
    for row in rows:
        bits = row[1]
        if bits * parameters / 8 / 1e9 <= gb:
            fitting.append(row)
    return min(fitting, key=lambda row: row[2])[0] if fitting else "nothing"''',
        check=check_choose,
        hints={
            "perplexity": "this takes the lowest perplexity. Section 14.5 shows how a damaged model comes by one.",
            "most_bits": "this takes the most bits that fit. A method may have more bits and a larger KL: measure.",
            "fewest_bits": "this takes the smallest. It fits, and so does something better.",
            "gib": "this divides by 2³⁰, which makes it GiB. A budget in GB is 7% less.",
            "bytes": "this counts every bit as a byte: nothing seems to fit.",
            "whole": "this cuts the bits to whole ones. The scales are in the fraction, and they take room.",
            "strict": "what takes exactly gb GB fits, too.",
            "none": "where nothing fits, return the word “nothing”; yours returns None there.",
            "nothing": "your answer raises an error where nothing fits. It should say “nothing”.",
            "other": "another choice was expected. Size first: bits · parameters / 8 bytes. Then the smallest KL.",
        },
    ),
]
