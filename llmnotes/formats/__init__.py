"""Model files: identify, inspect, scan and convert them. No model runs here.

Imports go one way: `results` and `files`, then one module for each format, then the `registry` that lists them all,
then `conversion`, which lists every function that writes one format from another.
"""

from llmnotes.formats.conversion import convert
from llmnotes.formats.deltas import apply_delta, make_delta
from llmnotes.formats.registry import identify, inspect, read
from llmnotes.formats.results import Identity, Inspection, Tensor
from llmnotes.formats.scanning import scan

__all__ = [
    "Identity",
    "Inspection",
    "Tensor",
    "apply_delta",
    "convert",
    "identify",
    "inspect",
    "make_delta",
    "read",
    "scan",
]
