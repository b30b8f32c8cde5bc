"""Amounts of memory as people write them: 8 GB is 8,000,000,000 bytes, 8 GiB is 8 × 2**30."""

import re

from llmnotes.errors import BadSettings

UNITS = {"B": 1} | {letter: 1000**power for power, letter in enumerate("KMGT", 1)}
UNITS |= {letter + "B": 1000**power for power, letter in enumerate("KMGT", 1)}
UNITS |= {letter + "IB": 1024**power for power, letter in enumerate("KMGT", 1)}
LIMIT = 1 << 50  # bytes; no machine has more


def parse(text: str | int) -> int:
    """Return the bytes in a text such as "8GB", "7.5 GiB" or "8192MB"; a number counts bytes already.

    Decimal units (kB, MB, GB, TB, or K, M, G, T) are powers of 1000, binary units (KiB, MiB, GiB, TiB) are powers of
    1024, as in IEC 80000-13. A graphics card that is sold with 8 GB has 8 GiB. Raises `BadSettings` for anything else.

    >>> parse("8GB"), parse("8 GiB"), parse("8192MiB") == parse("8GiB")
    (8000000000, 8589934592, True)
    """
    if type(text) is int:
        text = f"{text}B"
    match = re.fullmatch(r"\s*([0-9]{1,18}(?:\.[0-9]{1,9})?)\s*([A-Za-z]{1,3})\s*", str(text)[:60], re.ASCII)
    if match and match[2].upper() in UNITS:
        count = float(match[1]) * UNITS[match[2].upper()]
        if count <= LIMIT:
            return round(count)
    raise BadSettings(f"{str(text)[:40]!r} is not an amount of memory; write a number and a unit, such as 8GB or 8GiB.")


def format_bytes(count: int) -> str:
    """Return a number of bytes as text, in GB or MB.

    >>> format_bytes(8_589_934_592), format_bytes(7_344_640)
    ('8.59 GB', '7.3 MB')
    """
    return f"{count / 1e9:.2f} GB" if abs(count) >= 5e8 else f"{count / 1e6:.1f} MB"
