"""Which exercises this reader has solved: one small file in the reader's home."""

import json
import os
from pathlib import Path

from llmnotes.home import home


def progress_file() -> Path:
    """Return the one file that keeps what this reader has solved (in LLMNOTES_HOME, by default ~/.llmnotes)."""
    return home() / "progress.json"


def solved() -> list[str]:
    """Return the ids of the solved exercises, sorted; an unreadable file counts as empty."""
    try:
        return sorted(set(json.loads(progress_file().read_text(encoding="utf-8"))["solved"]))
    except (OSError, ValueError, KeyError, TypeError):
        return []


def remember(exercise_id: str) -> None:
    """Add one id to the file, through a temporary name. If the folder is not writable, print how to change that."""
    target, done = progress_file(), solved()
    if exercise_id in done:
        return
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        draft = target.with_suffix(f".{os.getpid()}.tmp")
        draft.write_text(json.dumps({"solved": sorted([*done, exercise_id])}), encoding="utf-8")
        draft.replace(target)
    except OSError:
        print("  (progress is not kept: set LLMNOTES_HOME to a folder that can be written to)")
