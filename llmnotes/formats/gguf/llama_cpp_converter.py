"""llama.cpp's own converter, for architectures that llmnotes does not know: the command that runs it."""

import os
from pathlib import Path

VARIABLE, NAME = "LLMNOTES_LLAMA_CPP", "convert_hf_to_gguf.py"
SOURCE = "https://github.com/ggml-org/llama.cpp"


def advice(folder: Path | None) -> str:
    """Return the end of a sentence that names the road to a GGUF through llama.cpp's converter.

    The folder that the environment variable LLMNOTES_LLAMA_CPP names is looked into for it; a clone of llama.cpp has
    one. Does not run it.

    >>> advice(None).partition(": ")[2]
    'python llama.cpp/convert_hf_to_gguf.py FOLDER --outfile model.gguf'
    """
    place = Path(os.environ.get(VARIABLE) or "llama.cpp")
    get = "" if (place / NAME).is_file() else f" (git clone {SOURCE}, or say in {VARIABLE} where it is)"
    command = f"python {_quoted(place / NAME)} {_quoted(folder or 'FOLDER')} --outfile model.gguf"
    return f"llama.cpp's own converter{get} knows more: {command}"


def _quoted(part: str | Path) -> str:
    """Return a part of a command as every shell takes it: slashes forward, and in quotes where it has a space."""
    text = part.as_posix() if isinstance(part, Path) else part
    return f'"{text}"' if " " in text else text
