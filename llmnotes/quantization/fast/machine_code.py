"""The machine code that numba keeps on the disk beside these modules, and when it counts as out of date."""

import sys
from pathlib import Path

FOLDER = Path(__file__).parent
# numba compiles a function again when its own file has changed. These functions call each other across files, so a
# change in one of the files makes all machine code old.
CHANGED = max(path.stat().st_mtime_ns for path in FOLDER.glob("*.py"))


def on_disk(module: str, function: str) -> bool:
    """Return whether machine code of a function of one of these modules lies on the disk and is not out of date.

    Looks for files only; numba is not imported. Does not look into other folders that numba may be configured to use.
    """
    python = f"py{sys.version_info.major}{sys.version_info.minor}"
    found = FOLDER.glob(f"__pycache__/{module}.{function}-*.{python}.nbi")
    return any(path.stat().st_mtime_ns > CHANGED for path in found)
