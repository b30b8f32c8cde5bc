"""Give the reader a copy of the lessons to work in."""

import shutil
from pathlib import Path

from llmnotes.course import FOLDER, lessons
from llmnotes.errors import CannotWrite


def copy_lessons(folder: str | Path | None = None) -> Path:
    """Copy the lessons and their solutions into `folder`/notebooks, by default in llmnotes-course; return `folder`.

    Raises `CannotWrite` if `folder` holds anything already, or cannot be made: nothing of the reader's is replaced.
    """
    folder = Path(folder or FOLDER)
    try:
        if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
            raise CannotWrite(f"{folder} exists already and is not empty; give another folder: llmnotes start FOLDER.")
        ignored = shutil.ignore_patterns(".ipynb_checkpoints", "__pycache__", "*.tmp")
        shutil.copytree(lessons(), folder / "notebooks", ignore=ignored)
    except OSError as error:  # of many files, shutil says what each met: (source, target, reason)
        reason = error.args[0][0][2] if isinstance(error, shutil.Error) else error.strerror
        raise CannotWrite(f"{folder} cannot be written ({reason}); give a folder of your own.") from error
    return folder
