"""Where llmnotes keeps what it makes for a reader: progress, and models in other formats."""

import os
from pathlib import Path

from llmnotes.errors import CannotWrite


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
