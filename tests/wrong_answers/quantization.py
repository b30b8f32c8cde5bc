"""Typical wrong answers to the exercises of notebook 14: {exercise: {key of its hint: source}}."""


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


WRONG = {
    "14.1": {
        "codes_only": _bits("bits"),
        "undivided": _bits("bits + scale + zero"),
        "no_zero": _bits("bits + scale / block"),
        "bytes": _bits("(bits + (scale + zero) / block) / 8"),
        "whole": _bits("bits + (scale + zero) // block"),
        "block": _bits("bits * block + scale + zero"),
        "other": _bits("(bits + scale + zero) / block"),
    },
    "14.2": {
        "sign": _q4_0("np.abs(block).max() / 8"),
        "minus": _q4_0("block[np.abs(block).argmax()] / 8"),
        "seven": _q4_0("np.abs(block).max() / 7"),
        "sixteen": _q4_0(codes="np.floor(block / scale + 8.5)"),
        "offset": _q4_0(codes="np.clip(np.floor(block / scale + 0.5), -8, 7)"),
        "even": _q4_0(codes="np.clip(np.rint(block / scale) + 8, 0, 15)"),
        "cut": _q4_0(codes="np.clip(np.floor(block / scale + 8), 0, 15)"),
        "zeros": _q4_0(zeros=""),
        "largest": _q4_0("block.max() / -8"),
        "swapped": _q4_0()
        .replace("return scale, np", "return np")
        .replace("15)", "15), scale")
        .replace("0.0, np.full(32, 8)", "np.full(32, 8), 0.0"),
        "other": _q4_0("np.abs(block).mean()"),
    },
    "14.3": {
        "no_zero": _affine("x.min()", "x.max()", codes="np.rint(x / scale) + zero"),
        "unclipped": _affine(codes="np.rint(x / scale) + zero"),
        "unrounded": _affine(zero="-low / scale", codes="np.clip(np.rint(x / scale + zero), 0, 255)"),
        "symmetric": _affine("-np.abs(x).max()", "np.abs(x).max()"),
        "levels": _affine(most=256),
        "signed": _affine(last="return codes - 128, scale, zero - 128"),
        "from_low": _affine(codes="np.clip(np.rint((x - low) / scale), 0, 255)"),
        "other": _affine(codes="np.rint((x - low) * scale)"),
    },
    "14.4": {
        "perplexity": _choose(best="row[3]"),
        "most_bits": _choose(best="-row[1]"),
        "fewest_bits": _choose(best="row[1]"),
        "gib": _choose("bits * parameters / 8 / 2**30"),
        "bytes": _choose("bits * parameters / 1e9"),
        "whole": _choose("math.floor(bits) * parameters / 8 / 1e9"),
        "strict": _choose().replace("<=", "<"),
        "none": _choose(nothing=" if fitting else None"),
        "nothing": _choose(nothing=""),
        "other": _choose(best="-row[2]"),
    },
}
