"""Look at what a GGUF gets before it is written: no number in it is infinite or none, as llama.cpp checks a file, and
none that is large among its own becomes another one.

The first rule is that of `ggml_validate_row_data`: single numbers are finite, and so are the scales of blocks. The
second has two causes, which llama.cpp does not look for: scales are float16, which ends at 6e-8, and where the sums in
the search for a scale overflow, the scale becomes 0.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from llmnotes.errors import NotQuantizable
from llmnotes.formats.gguf.types import SCALES
from llmnotes.formats.results import DTYPES, counted

if TYPE_CHECKING:
    import numpy as np

HUGE = 1e9  # more than any block can hold: 65,504, where float16 ends, times codes of 8 bits and less
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


class Rows:
    """The rows of one tensor on their way from the type `source` to `dtype`, looked at before and after.

    `lost` counts those that were not zero and became it. What is `weighted` by its importance may change where that is
    small, the largest weight as well.
    """

    def __init__(self, source: str, dtype: str, columns: int, weighted: bool = False):
        self.lost = 0
        self._source, self._dtype, self._columns, self._weighted = source, dtype, columns, weighted
        self._before: deque[bytes] = deque()
        self._largest, self._made, self._at = 0.0, b"", 0  # the tensor's largest weight, and its block and place now
        self._largest_lost = 0.0  # and the largest in rows that are zero now
        self._left = False  # whether a row is left that is not zero

    def before(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        """Yield the tensor's bytes in whole rows, and remember them until `after` has seen what they became."""
        block, width = DTYPES[self._source]
        width, left = max(self._columns // block * width, 1), b""
        for piece in pieces:
            data = left + piece if left else piece
            whole = len(data) // width * width
            left = data[whole:]
            if whole:
                self._before.append(data[:whole])
                yield self._before[-1]
        if left:
            yield left  # half a row; what reads it counts bytes and reports it

    def after(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        """Yield the bytes that the rows became, as they are.

        Raises `NotQuantizable` where the tensor's largest weight became another one, or all became zeros.
        """
        for piece in pieces:
            if self._before:
                rows = self._before.popleft()
                self._look_at_zeros(rows, piece)
                if self._source in EXPONENTS:
                    self._look_at_largest(rows, piece)
            yield piece
        if self.lost and not self._left:
            raise NotQuantizable(_changed(self._largest_lost, 0.0, self._dtype))
        if self._made:
            made = abs(float(_floats(self._made, self._dtype, DTYPES[self._dtype][0])[0, self._at]))
            if abs(made - self._largest) > self._largest / 2:
                raise NotQuantizable(_changed(self._largest, made, self._dtype))

    def _look_at_zeros(self, rows: bytes, made: bytes) -> None:
        """Count the rows that are zero now and were not."""
        import numpy as np

        zero = _zero_rows(made, self._dtype, self._columns)
        count = len(made) // _row(self._dtype, self._columns)
        self._left |= len(zero) < count
        if len(zero):
            ours = np.frombuffer(rows, np.uint8).reshape(count, -1)[zero]
            largest = np.abs(_floats(ours.tobytes(), self._source, self._columns)).max(1)
            self.lost += int((largest > 0).sum())
            self._largest_lost = max(self._largest_lost, float(largest.max()))

    def _look_at_largest(self, rows: bytes, made: bytes) -> None:
        """Remember the largest weight so far and what became of it."""
        import numpy as np

        kind, exponent = EXPONENTS[self._source]
        bits = np.frombuffer(rows, kind) & _magnitude(exponent)
        at = int(bits.argmax())
        largest = bits[at : at + 1].astype("<u4") << 16 if self._source == "BF16" else bits[at : at + 1]
        value = float(largest.view("<f2" if self._source == "F16" else "<f4")[0])
        if value > HUGE and self._dtype not in EXPONENTS:
            raise NotQuantizable(_why(self._dtype))
        if value > self._largest and not self._weighted:
            block, width = DTYPES[self._dtype]
            first = at // block * width
            self._largest, self._made, self._at = value, made[first : first + width], at % block


def _floats(data: bytes, dtype: str, columns: int) -> np.ndarray:
    from llmnotes.quantization.blocks import dequantize

    return dequantize(data, dtype, (len(data) // _row(dtype, columns), columns))


def zeros(lost: dict[str, int]) -> tuple[str, ...]:
    """Return what to say of the rows that became zero, given {tensor: how many}; nothing where there are none.

    >>> zeros({"a": 0}), zeros({"a": 1, "b": 2})[0][:53]
    ((), '3 rows of weights became zeros in 2 tensors, a first:')
    """
    tensors = [name for name, count in lost.items() if count]
    if not tensors:
        return ()
    return (
        f"{counted(sum(lost.values()), 'row')} of weights became zeros in {counted(len(tensors), 'tensor')}, "
        f"{tensors[0][:80]} first: they are too small for its type; BF16 or F32 keeps them.",
    )


def _zero_rows(data: bytes, dtype: str, columns: int) -> np.ndarray:
    """Return which rows hold nothing but zeros: (their numbers,). In types without two-byte scales nothing is seen."""
    import numpy as np

    block, width = DTYPES[dtype]
    if dtype in EXPONENTS:
        kind, exponent = EXPONENTS[dtype]
        mask, rows = _magnitude(exponent), np.frombuffer(data, kind).reshape(-1, columns)
        few = np.flatnonzero(rows[:, 0] & mask == 0)
        return few[~(rows[few] & mask).any(1)]
    if not SCALES.get(dtype):
        return np.empty(0, np.intp)
    places = [place for at in SCALES[dtype] for place in (at, at + 1)]  # low byte, high byte
    masks = np.array([0xFF, 0x7F] * (len(places) // 2), np.uint8)
    blocks = np.frombuffer(data, np.uint8).reshape(-1, columns // block, width)
    few = np.flatnonzero(~(blocks[:, 0, places] & masks).any(1))
    return few[~(blocks[few][:, :, places] & masks).any((1, 2))]


def _magnitude(exponent: int) -> int:
    """Return the bits of a number without its sign: those of the exponent and all below."""
    return exponent | (exponent & -exponent) - 1


def _row(dtype: str, columns: int) -> int:
    block, width = DTYPES[dtype]
    return columns // block * width


def _changed(value: float, became: float, dtype: str) -> str:
    wider = "F32" if dtype == "BF16" else "BF16 or F32"
    return f"its largest weight, {value:.2g}, would become {became:.2g}; try {wider}."


def _why(dtype: str) -> str:
    if dtype == "F16":
        return "it has weights that are not finite, or beyond 65,504, where F16 ends; try BF16 or F32."
    if dtype in EXPONENTS:
        return "it has weights that are infinite or no numbers; mend the model first."
    return "it has weights so large that the scale of a block is infinite; try BF16 or F32."
