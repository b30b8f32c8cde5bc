"""Where the wheel xllamacpp keeps llama.cpp: one shared library, which ctypes can open.

On Linux and macOS it exports the C functions of llama.cpp and ggml. On Windows (looked at in the wheel
2026.10.11549) its `xllamacpp.pyd` exports nothing but Python's own entry, so no C function can be called there.
"""

import importlib.util
from pathlib import Path


def find() -> Path | None:
    """Return the path of xllamacpp's shared library, or None where xllamacpp is not installed. Loads nothing."""
    found = importlib.util.find_spec("xllamacpp")
    if found is None or found.origin is None:
        return None
    folder = Path(found.origin).parent
    return next((path for end in ("so", "pyd") for path in folder.glob(f"xllamacpp*.{end}")), None)
