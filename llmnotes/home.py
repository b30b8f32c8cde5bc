"""Where llmnotes keeps what it makes for a reader: progress, and models in other formats."""

import os
import shutil
from pathlib import Path

from llmnotes.errors import CannotWrite, UnknownName


def home() -> Path:
    """Return the folder that LLMNOTES_HOME names, by default ~/.llmnotes. It need not exist.

    >>> home().is_absolute() or "LLMNOTES_HOME" in os.environ
    True
    """
    return Path(os.environ.get("LLMNOTES_HOME") or Path.home() / ".llmnotes")


def place_for(kind: str, model: str) -> Path:
    """Return the folder `kind` in `home()`, made if it is missing; `model` is whose files go there, for the error.

    Raises `CannotWrite`.
    """
    place = home() / kind
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CannotWrite(
            f"{place} cannot hold the files of {model} ({error.strerror}); set LLMNOTES_HOME to a folder that can be "
            "written to."
        ) from None
    return place


def copies() -> dict[Path, int]:
    """Return the copies of models that llmnotes has made in `home()`, each a file or a folder, and their bytes on disk.

    They are made again when they are needed. Does not know of what Hugging Face's library has downloaded.
    """
    places = [path for kind in ("models", "gguf") for path in sorted((home() / kind).glob("*"))]
    return {
        place: sum(file.stat().st_size for file in [place, *place.rglob("*")] if file.is_file()) for place in places
    }


def remove(which: str) -> int:
    """Remove the copy of the name `which`, or "all" of them; return the bytes that are free again.

    Raises `UnknownName` and `CannotWrite`.
    """
    chosen = {place: size for place, size in copies().items() if which in ("all", place.name)}
    if not chosen:
        raise UnknownName(f"There is no copy {which}; `llmnotes cache` lists them.")
    for place in chosen:
        try:
            if place.is_dir() and not place.is_symlink():
                shutil.rmtree(place)
            else:
                place.unlink()
        except OSError as error:
            raise CannotWrite(f"{place} cannot be removed ({error.strerror}); close what uses it.") from None
    return sum(chosen.values())
