"""Look at what a GGUF gets before it is written: no number in it is infinite or none, as llama.cpp checks a file.

The rule is that of `ggml_validate_row_data`: single numbers are finite, and so are the scales of blocks.
"""

from collections.abc import Iterable, Iterator

from llmnotes.errors import NotQuantizable
from llmnotes.formats.gguf.types import SCALES
from llmnotes.formats.results import DTYPES

# Where the exponent of a number stands, all ones of which mean infinity or no number.
EXPONENTS = {"F32": ("<u4", 0x7F800000), "F16": ("<u2", 0x7C00), "BF16": ("<u2", 0x7F80)}


def finite(dtype: str, pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the bytes of a tensor as they are; raise `NotQuantizable` where they hold what is no finite number.

    Types whose scales are not two-byte floats pass unseen.

    >>> b"".join(finite("F16", [b"\\x00\\x3c"])).hex()
    '003c'
    """
    import numpy as np

    width = DTYPES[dtype][1]
    kind, exponent = EXPONENTS.get(dtype, ("<u2", 0x7C00))
    left = b""
    for piece in pieces:
        data = left + piece if left else piece
        whole = len(data) // width * width
        left = data[whole:]
        if dtype in EXPONENTS:
            numbers = [np.frombuffer(data, kind, whole // width)]
        else:
            rows = np.frombuffer(data, np.uint8, whole).reshape(-1, width)
            numbers = [np.ascontiguousarray(rows[:, at : at + 2]).view(kind) for at in SCALES.get(dtype, ())]
        if any(((each & exponent) == exponent).any() for each in numbers):
            raise NotQuantizable(_why(dtype))
        yield piece


def _why(dtype: str) -> str:
    if dtype == "F16":
        return "it has weights that are not finite, or beyond 65,504, where F16 ends; try BF16 or F32."
    if dtype in EXPONENTS:
        return "it has weights that are infinite or no numbers; mend the model first."
    return "it has weights so large that the scale of a block is infinite; try BF16 or F32."
