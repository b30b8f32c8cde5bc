"""The number formats of language models, bit by bit: floats of 32, 16, 8 and 4 bits, and whole numbers.

A float is a sign, an exponent and a mantissa: (-1)^s · (1 + m / 2^M) · 2^(e - bias), and where e is 0, for numbers
near zero, (-1)^s · m / 2^M · 2^(1 - bias). (IEEE 754-2019, section 3.4; Micikevicius et al., FP8 Formats for Deep
Learning, 2022, section 3; OCP Microscaling Formats Specification 1.0, section 5.3.)
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from llmnotes.errors import NotQuantizable, UnknownName
from llmnotes.quantization.arrays import as_reals


class Format(NamedTuple):
    """Bits of the exponent and the mantissa (a whole number has only the latter), and what the largest codes mean.

    `special`: "infinity" (the largest exponent is for infinity and NaN), "NaN" (only the largest code is no number),
    or "none". Without infinity, what is too large becomes the largest number: it saturates.
    """

    exponent: int
    mantissa: int
    special: str = "none"

    @property
    def bits(self) -> int:
        return 1 + self.exponent + self.mantissa

    @property
    def bias(self) -> int:
        return 2 ** (self.exponent - 1) - 1

    @property
    def dtype(self) -> np.dtype:
        """The smallest unsigned type that holds a code."""
        return np.dtype(f"u{max(8, self.bits) // 8}")

    @property
    def largest(self) -> int:
        """The code of the largest finite number."""
        codes = {"infinity": ((1 << self.exponent) - 1 << self.mantissa) - 1, "NaN": (1 << self.bits - 1) - 2}
        return codes.get(self.special, (1 << self.bits - 1) - 1)


FORMATS = {
    "float32": Format(8, 23, "infinity"),
    "float16": Format(5, 10, "infinity"),
    "bfloat16": Format(8, 7, "infinity"),
    "float8_e5m2": Format(5, 2, "infinity"),
    "float8_e4m3fn": Format(4, 3, "NaN"),
    "float4_e2m1fn": Format(2, 1),
    "int8": Format(0, 7),
    "int4": Format(0, 3),
}


class Fields(NamedTuple):
    """The bits of a code as text; a whole number has no exponent, and its sign bit weighs -2^(bits-1)."""

    sign: str
    exponent: str
    mantissa: str


class Limits(NamedTuple):
    """Positive numbers of a format: the largest, the smallest, and the smallest with full precision."""

    largest: float
    smallest: float
    smallest_normal: float


def encode(x: ArrayLike, name: str) -> np.ndarray:
    """Return the code of the number nearest to each of `x`, unsigned, same shape; halfway, the even code.

    What is too large becomes infinity where the format has one, and otherwise the largest number, as in torch.
    Every NaN becomes the same one but for its sign. A code of fewer than 8 bits is in the lower bits of its byte.

    Raises `UnknownName` for another format, `NotQuantizable` for a NaN where the format has none. Does not pack two
    codes into a byte.

    >>> [f"{code:08b}" for code in encode([1, -1.5, 0.3, 1000], "float8_e4m3fn")]
    ['00111000', '10111100', '00101010', '01111110']
    """
    form, x = _format(name), as_reals(x).astype(np.float64)
    if form.special == "none" and np.isnan(x).any():
        raise NotQuantizable(f"{name} has no code for NaN; put numbers in their places first.")
    if not form.exponent:
        rounded = np.clip(np.rint(x), -form.largest - 1, form.largest).astype(np.int64)
        return (rounded & (1 << form.bits) - 1).astype(form.dtype)
    finite = np.where(np.isfinite(x), np.abs(x), 0)
    normal = np.maximum(finite, 2.0 ** (1 - form.bias))  # below, the exponent stays, and the bit before m is 0
    exponent = np.frexp(normal)[1].astype(np.int64) - 1 + form.bias
    steps = np.rint(np.ldexp(finite, form.mantissa + form.bias - exponent))  # 1.m · 2^M, or 0.m · 2^M
    code = (exponent - 1 << form.mantissa) + steps.astype(np.int64)  # where m rounds up to 2^M, the sum carries
    code = np.where((code > form.largest) | np.isinf(x), form.largest + (form.special == "infinity"), code)
    code = np.where(np.isnan(x), (1 << form.bits - 1) - 1, code)
    return (code | np.signbit(x).astype(np.int64) << form.bits - 1).astype(form.dtype)


def decode(codes: ArrayLike, name: str) -> np.ndarray:
    """Return the numbers that `codes` stand for, float32, same shape: exact in every format.

    Raises `UnknownName` for another format, `NotQuantizable` for a code with more bits than the format has.

    >>> decode([0b00111000, 0b10111100], "float8_e4m3fn").tolist()
    [1.0, -1.5]
    """
    form, codes = _format(name), _codes(codes, name)
    negative, magnitude = codes >> form.bits - 1, codes & (1 << form.bits - 1) - 1
    if not form.exponent:
        return (magnitude - (negative << form.bits - 1)).astype(np.float32)
    exponent, steps = magnitude >> form.mantissa, magnitude & (1 << form.mantissa) - 1
    steps += (exponent > 0) * (1 << form.mantissa)
    values = np.ldexp(steps.astype(np.float64), np.maximum(exponent, 1) - form.bias - form.mantissa)
    values = np.where(magnitude > form.largest, np.nan, values)
    if form.special == "infinity":
        values = np.where(magnitude == form.largest + 1, np.inf, values)
    return np.where(negative, -values, values).astype(np.float32)


def fields(code: int, name: str) -> Fields:
    """Return the bits of one code, cut where the format cuts them. Raises as `decode` does.

    >>> fields(0b00111000, "float8_e4m3fn")
    Fields(sign='0', exponent='0111', mantissa='000')
    """
    form = _format(name)
    bits = f"{int(_codes(code, name)):0{form.bits}b}"
    return Fields(bits[0], bits[1 : 1 + form.exponent], bits[1 + form.exponent :])


def values(name: str) -> np.ndarray:
    """Return the number of every code in the order of the codes, float32 (2^bits,), NaN and infinities included.

    Raises `NotQuantizable` for float32, which has four billion.

    >>> values("float4_e2m1fn")[:8].tolist()
    [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0]
    """
    bits = _format(name).bits
    if bits > 16:
        raise NotQuantizable(f"{name} has {1 << bits:,} codes, too many to list; decode those that you need.")
    return decode(np.arange(1 << bits), name)


def limits(name: str) -> Limits:
    """Return the largest number of a format, the smallest above zero, and the smallest with full precision.

    >>> limits("float16")
    Limits(largest=65504.0, smallest=5.960464477539063e-08, smallest_normal=6.103515625e-05)
    """
    form = _format(name)
    normal = 1 << form.mantissa if form.exponent else 1
    return Limits(*decode([form.largest, 1, normal], name).tolist())


def _format(name: str) -> Format:
    if name not in FORMATS:
        raise UnknownName(f"llmnotes does not know the number format {name!r}; choose from {', '.join(FORMATS)}.")
    return FORMATS[name]


def _codes(codes: ArrayLike, name: str) -> np.ndarray:
    """Return `codes` as int64, checked."""
    codes, last = np.asarray(codes), (1 << _format(name).bits) - 1
    if codes.dtype.kind not in "ui" or (codes.size and (codes.min() < 0 or codes.max() > last)):
        raise NotQuantizable(f"A code of {name} is a whole number from 0 to {last:,}; give such codes.")
    return codes.astype(np.int64)
