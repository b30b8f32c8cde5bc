"""Pebble's documents as rows of token ids, which is what its training reads."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from llmnotes.packing import best_fit
from llmnotes.pebble.tokenizer import BOS, EOS, PAD, SPECIAL


def pack(encoded: Sequence[list[int]], length: int) -> np.ndarray:
    """Return documents, lists of token ids, as an int16 array (rows, length): whole documents, then padding.

    Each document stands between BOS and EOS; one that is too long is cut. Rows that are less than 90% full are left
    out, unless all are. Documents in a row see each other: there is no mask between them.

    >>> pack([[40, 41], [50]], length=8)
    array([[ 0, 40, 41,  1,  0, 50,  1,  2]], dtype=int16)
    """
    bos, eos, pad = (SPECIAL.index(mark) for mark in (BOS, EOS, PAD))
    documents = [[bos, *ids, eos][:length] for ids in encoded]
    rows = [
        [token for place in places for token in documents[place]] for places in best_fit(map(len, documents), length)
    ]
    rows = [row for row in rows if len(row) > 0.9 * length] or rows
    packed = np.full((len(rows), length), pad, dtype=np.int16)
    for target, row in zip(packed, rows, strict=True):
        target[: len(row)] = row
    return packed
