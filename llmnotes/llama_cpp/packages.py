"""The two packages that bring llama.cpp: xllamacpp, a wheel, and llama-cpp-python, compiled on this machine.

Both are compiled and have no types that an editor could read, so they are passed on as plain modules.
"""

from types import ModuleType

from llmnotes.errors import MissingPart
from llmnotes.parts import bring


def xllamacpp_missing() -> str:
    """Return the sentence for a machine without xllamacpp."""
    return f"xllamacpp is missing; bring it with: {bring('xllamacpp')}"


def xllamacpp() -> ModuleType:
    """Return the package xllamacpp. Raises `MissingPart`."""
    try:
        import xllamacpp
    except ImportError:
        raise MissingPart(xllamacpp_missing()) from None
    return xllamacpp


def llama_cpp_python() -> ModuleType:
    """Return the package llama_cpp, which llama-cpp-python installs. Raises `MissingPart`."""
    try:
        import llama_cpp
    except ImportError:
        raise MissingPart(
            "llama-cpp-python is missing; bring it, which takes a compiler and minutes, with: "
            + bring("llama-cpp-python")
        ) from None
    return llama_cpp
