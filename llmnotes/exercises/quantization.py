"""The exercises of notebook 04: the price of a scale, Q4_0, a zero-point, and a choice."""

from llmnotes.exercises import Exercise
from llmnotes.exercises.quantization_checks import (
    check_affine,
    check_bits_per_weight,
    check_choose,
    check_q4_0,
)


def _def(head: str, *lines: str, imports: str = "") -> str:
    body = "\n    ".join(lines)
    return f"{imports}{chr(10) * 3 if imports else ''}def {head}:\n    {body}"


def _bits(result: str) -> str:
    return _def("bits_per_weight(bits, block, scale, zero)", f"return {result}")


def _q4_0(
    scale: str = "block[np.abs(block).argmax()] / -8",
    codes: str = "np.clip(np.floor(block / scale + 8.5), 0, 15)",
    zeros: str = "if not block.any():\n        return 0.0, np.full(32, 8)",
) -> str:
    lines = [zeros, f"scale = {scale}", f"return scale, {codes}"]
    return _def("q4_0(block)", *(line for line in lines if line), imports="import numpy as np")


def _affine(
    low: str = "min(x.min(), 0)",
    high: str = "max(x.max(), 0)",
    most: int = 255,
    zero: str = "np.rint(-low / scale)",
    codes: str = "np.clip(np.rint(x / scale) + zero, 0, 255)",
    last: str = "return codes, scale, zero",
) -> str:
    return _def(
        "affine(x)",
        f"low, high = {low}, {high}",
        f"scale = (high - low) / {most}",
        f"zero = {zero}",
        f"codes = {codes}",
        last,
        imports="import numpy as np",
    )


def _choose(
    size: str = "bits * parameters / 8 / 1e9", best: str = "row[2]", nothing: str = ' if fitting else "nothing"'
) -> str:
    return _def(
        "choose(rows, parameters, gb)",
        "fitting = []",
        "for row in rows:",
        "    bits = row[1]",
        f"    if {size} <= gb:",
        "        fitting.append(row)",
        f"return min(fitting, key=lambda row: {best})[0]{nothing}",
        imports="import math" if "math" in size else "",
    )


EXERCISES = [
    Exercise(
        id="04.1",
        title="The price of a scale",
        level="easy",
        minutes=5,
        task="""Write `bits_per_weight(bits, block, scale, zero)`. Each weight has a code of `bits` bits; every `block`
weights share a scale of `scale` bits and a zero-point of `zero` bits (0: there is none). How many bits fall to each
weight? For codes of 4 bits, blocks of 32 and scales of 16 bits, the answer is 4.5.""",
        clue="How many bits does a whole block take? And how many weights share them?",
        name="bits_per_weight",
        stub='''def bits_per_weight(bits, block, scale, zero):
    """Return the bits that fall to each weight, scales and zero-points included."""
    ...''',
        solution=_bits("bits + (scale + zero) / block"),
        check=check_bits_per_weight,
        hints={
            "codes_only": "these are the codes alone. Without its scale, no code says how large a weight is.",
            "undivided": "this gives each weight a scale of its own. A whole block shares one.",
            "no_zero": "the zero-points are missing: they lie in the file, too.",
            "bytes": "this counts bytes; the question is about bits.",
            "whole": "the share of the scale is cut to a whole number. A weight may well take 4.25 bits.",
            "block": "these are the bits of a whole block. Share them out among its weights.",
            "other": "the numbers differ. By hand: 32 codes of 4 bits and a scale of 16, for 32 weights.",
        },
        wrong={
            "codes_only": _bits("bits"),
            "undivided": _bits("bits + scale + zero"),
            "no_zero": _bits("bits + scale / block"),
            "bytes": _bits("(bits + (scale + zero) / block) / 8"),
            "whole": _bits("bits + (scale + zero) // block"),
            "block": _bits("bits * block + scale + zero"),
            "other": _bits("(bits + scale + zero) / block"),
        },
    ),
    Exercise(
        id="04.2",
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
        solution=_q4_0(),
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
            "other": "the numbers differ. code = round(x / scale) + 8, and the scale is the largest number over −8.",
        },
        wrong={
            "sign": _q4_0("np.abs(block).max() / 8"),
            "minus": _q4_0("block[np.abs(block).argmax()] / 8"),
            "seven": _q4_0("np.abs(block).max() / 7"),
            "sixteen": _q4_0(codes="np.floor(block / scale + 8.5)"),
            "offset": _q4_0(codes="np.clip(np.floor(block / scale + 0.5), -8, 7)"),
            "even": _q4_0(codes="np.clip(np.rint(block / scale) + 8, 0, 15)"),
            "cut": _q4_0(codes="np.clip(np.floor(block / scale + 8), 0, 15)"),
            "zeros": _q4_0(zeros=""),
            "other": _q4_0("block.max() / -8"),
        },
    ),
    Exercise(
        id="04.3",
        title="A zero-point",
        level="medium",
        minutes=15,
        task="""Write `affine(x)` for an array of numbers: return `(codes, scale, zero)` in 8 bits. Codes go from 0 to
255, and `(code − zero) · scale` is the number again. The range that they span reaches from the smallest to the largest
number, and holds 0 in any case. `zero`, the code of 0.0, is a whole number; round to the nearest code with
`np.rint`, and let nothing leave the range.""",
        clue="Section 04.2 does it. What is the smallest number of the range if all numbers lie between 2 and 3?",
        name="affine",
        stub='''def affine(x):
    """Return (codes from 0 to 255, scale, zero-point) of an array."""
    ...''',
        solution=_affine(),
        check=check_affine,
        hints={
            "no_zero": "with all numbers on one side, 0.0 has no code here: let the range reach to 0.",
            "unrounded": "the zero-point is no whole number, so 0.0 is no code, and zeros come back as something else.",
            "symmetric": "this range is the same to both sides, as absmax has it. Half of the codes may stay unused.",
            "levels": "256 codes have 255 steps between them.",
            "signed": "these codes go from −128 to 127. Here they go from 0 to 255.",
            "other": "the numbers differ. scale = (high − low) / 255, zero = the code of 0.0, code = x / scale + zero.",
        },
        wrong={
            "no_zero": _affine("x.min()", "x.max()", codes="np.rint(x / scale) + zero"),
            "unrounded": _affine(zero="-low / scale", codes="np.clip(np.rint(x / scale + zero), 0, 255)"),
            "symmetric": _affine("-np.abs(x).max()", "np.abs(x).max()"),
            "levels": _affine(most=256),
            "signed": _affine(last="return codes - 128, scale, zero - 128"),
            "other": _affine(codes="np.rint((x - low) * scale)"),
        },
    ),
    Exercise(
        id="04.4",
        title="Choose one",
        level="hard",
        minutes=15,
        task="""Write `choose(rows, parameters, gb)`. A row is `(name, bits per weight, KL, perplexity)`, as measured on
a model with `parameters` weights. Return the name of the row that stays nearest to the original among those whose
weights take at most `gb` GB (a GB is 10⁹ bytes), or `"nothing"` if none fits.""",
        clue="How many bytes are `bits` bits for each of the weights? And which column does section 04.8 trust?",
        name="choose",
        stub='''def choose(rows, parameters, gb):
    """Return the name of the best row whose weights fit into gb GB, or "nothing"."""
    ...''',
        solution=_choose(),
        check=check_choose,
        hints={
            "perplexity": "this takes the lowest perplexity. Section 04.8 shows how a damaged model comes by one.",
            "most_bits": "this takes the most bits that fit. A method may have more bits and a larger KL: measure.",
            "fewest_bits": "this takes the smallest. It fits, and so does something better.",
            "gib": "this divides by 2³⁰, which makes it GiB. A budget in GB is 7% less.",
            "bytes": "this counts every bit as a byte: nothing seems to fit.",
            "whole": "this cuts the bits to whole ones. The scales are in the fraction, and they take room.",
            "nothing": "your answer raises an error where nothing fits. It should say “nothing”.",
            "other": "another choice was expected. Size first: bits · parameters / 8 bytes. Then the smallest KL.",
        },
        wrong={
            "perplexity": _choose(best="row[3]"),
            "most_bits": _choose(best="-row[1]"),
            "fewest_bits": _choose(best="row[1]"),
            "gib": _choose("bits * parameters / 8 / 2**30"),
            "bytes": _choose("bits * parameters / 1e9"),
            "whole": _choose("math.floor(bits) * parameters / 8 / 1e9"),
            "nothing": _choose(nothing=""),
            "other": _choose(best="-row[2]"),
        },
    ),
]
