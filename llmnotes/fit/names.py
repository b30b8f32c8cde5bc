"""Which of the names in a list somebody may have meant."""

import difflib
import re
from collections.abc import Iterable

LIKE = 0.8  # how alike two names are, from 0 to 1, that may be one


def near(name: str, known: Iterable[str]) -> str:
    """Return "did you mean ...? " with the names in `known` that are like `name`, three at most, or "" if none is near.

    The letters alone must be alike, too: another number may be a slip, another family is another model.

    >>> near("lama-2-8b", ["llama-2-7b", "llama-2-13b", "mistral-7b"])
    'did you mean llama-2-7b or llama-2-13b? '
    >>> near("command-r", ["llama-3.2-1b"])
    ''
    """
    short = name.lower().rpartition("/")[2][:100]
    family = [one for one in known if difflib.SequenceMatcher(None, _letters(short), _letters(one)).ratio() >= LIKE]
    found = difflib.get_close_matches(short, family, n=3, cutoff=LIKE)
    return f"did you mean {' or '.join(found)}? " if found else ""


def _letters(name: str) -> str:
    return re.sub("[^a-z]", "", name)
