"""Amounts of memory in words: 8 GB is 8,000,000,000 bytes, 8 GiB is 8 × 2**30."""

import re

from llmnotes.errors import BadSettings

UNITS = {"B": 1} | {letter + "B": 1000**power for power, letter in enumerate("KMGT", 1)}
UNITS |= {letter + "IB": 1024**power for power, letter in enumerate("KMGT", 1)}
LIMIT = 1 << 50  # bytes; no machine has more


def parse(text: str | int) -> int:
    """Return the bytes in a text such as "8GB", "7.5 GiB" or "8192MB"; a number is bytes already.

    Decimal units (kB, MB, GB, TB) count in thousands, binary ones (KiB, MiB, GiB, TiB) in 1024s, as IEC 80000-13 has
    it. A graphics card that is sold with 8 GB has 8 GiB. Raises `BadSettings` for anything else.

    >>> parse("8GB"), parse("8 GiB"), parse("8192MiB") == parse("8GiB")
    (8000000000, 8589934592, True)
    """
    if type(text) is int:
        text = f"{text}B"
    found = re.fullmatch(r"\s*([0-9]{1,18}(?:\.[0-9]{1,9})?)\s*([A-Za-z]{1,3})\s*", str(text)[:60], re.ASCII)
    unit = UNITS.get(found[2].upper()) if found else None
    if unit is None or float(found[1]) * unit > LIMIT:
        raise BadSettings(f"{str(text)[:40]!r} is no amount of memory; write a number and a unit, such as 8GB or 8GiB.")
    return round(float(found[1]) * unit)


def said(count: int) -> str:
    """Return bytes as people say them, in GB or MB.

    >>> said(8_589_934_592), said(7_344_640)
    ('8.59 GB', '7.3 MB')
    """
    return f"{count / 1e9:.2f} GB" if abs(count) >= 5e8 else f"{count / 1e6:.1f} MB"
