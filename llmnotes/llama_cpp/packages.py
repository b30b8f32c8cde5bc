"""The two packages that bring llama.cpp: xllamacpp, a wheel, and llama-cpp-python, compiled on this machine.

Both are compiled and have no types that an editor could read, so they are passed on as plain modules.
"""

from types import ModuleType

from llmnotes.errors import MissingPart

XLLAMACPP_MISSING = 'xllamacpp is missing; bring it with: python -m pip install "llmnotes[serve]"'


def xllamacpp() -> ModuleType:
    """Return the package xllamacpp. Raises `MissingPart`."""
    try:
        import xllamacpp
    except ImportError:
        raise MissingPart(XLLAMACPP_MISSING) from None
    return xllamacpp


def llama_cpp_python() -> ModuleType:
    """Return the package llama_cpp, which llama-cpp-python installs. Raises `MissingPart`."""
    try:
        import llama_cpp
    except ImportError:
        raise MissingPart(
            "llama-cpp-python is missing; bring it, which takes a compiler and minutes, with: python -m pip install "
            '"llmnotes[llama-cpp]"'
        ) from None
    return llama_cpp
