"""Compare the glossary with the lessons: `python -m kit.glossary` says what differs, and `--write` mends the sections.

A lesson introduces a term by putting it in **bold** in one of its numbered sections. A bold text is taken for a term if
it begins with a small letter or is an acronym, and is neither a single letter nor a sentence; emphasis that is no term
stands in *italics*.
"""

import re
import sys
from dataclasses import dataclass
from pathlib import Path

import nbformat

from llmnotes.course import notebooks, root, source, tags
from llmnotes.course.glossary import FILE, entries, find

NO_PROSE = r"```.*?```|`[^`]*`|\$\$.*?\$\$|\$[^$\n]+\$|<pre\b.*?</pre>|<code>.*?</code>"
SECTION = r"(?m)^## (?:(\d\d\.\d+) )?.*$"


@dataclass(frozen=True)
class Bold:
    """A text in bold: the number of its lesson, its section, or None behind the last numbered one, and its words."""

    lesson: str
    section: str | None
    words: str


def bold_terms(path: Path) -> list[Bold]:
    """Return what stands in bold in the prose of a lesson, in order, if it looks like a term."""
    found, section = [], None
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type != "markdown" or any(re.match("box|exercise", tag) for tag in tags(cell)):
            continue
        text = re.sub(NO_PROSE, " ", source(cell), flags=re.DOTALL)
        for match in re.finditer(rf"{SECTION}|\*\*(?P<bold>[^*]+?)\*\*", text):
            if match["bold"] is None:
                section = match[1]
            elif is_term(match["bold"]):
                found.append(Bold(path.name[:2], section, " ".join(match["bold"].split())))
    return found


def is_term(bold: str) -> bool:
    """Return whether a text in bold is a term, and neither a label nor a verdict.

    >>> [is_term(bold) for bold in ("residual stream", "RMSNorm", "Pitfalls.", "a", "False", "It runs.")]
    [True, True, False, False, False, False]
    """
    bold = bold.strip()
    if len(bold) < 2 or bold[-1] in ".:;,?!":
        return False
    return find(bold) is not None or bold[0].islower() or bool(re.match(r"[A-Z]-?\w*[A-Z0-9]", bold))


def introductions(folder: Path) -> dict[str, str]:
    """Return {term: the section that puts it in bold first} for all lessons of the course in `folder`."""
    places = {}
    for path in notebooks(folder):
        for bold in bold_terms(path):
            entry = find(bold.words)
            if entry and bold.section:
                places.setdefault(entry.term, bold.section)
    return places


def faults(folder: Path) -> list[str]:
    """Return what does not agree between the glossary and the lessons in `folder`, a sentence each."""
    found, sections, numbers, lessons = [], set(), set(), {}
    for path in notebooks(folder):
        numbers.add(path.name[:2])
        sections |= set(re.findall(r"## (\d\d\.\d+) ", path.read_text(encoding="utf-8")))
        for bold in bold_terms(path):
            entry = find(bold.words)
            if entry is None:
                if bold.section:
                    found.append(f"{bold.section} has **{bold.words}**, which the glossary lacks")
            elif bold.section and bold.lesson < "09":
                lessons.setdefault(entry.term, {}).setdefault(bold.lesson, f"{bold.section} (**{bold.words}**)")
    for term, places in lessons.items():
        if len(places) > 1:
            found.append(f"{term} is introduced more than once: {', '.join(places.values())}; keep the first in bold")
    places = introductions(folder)
    for entry in entries():
        if entry.term in places and entry.section != places[entry.term]:
            found.append(
                f"{entry.term} is introduced in {places[entry.term]}, not in {entry.section}: --write mends it"
            )
        elif entry.section[:2] in numbers and entry.section not in sections:
            found.append(f"{entry.term} is said to be introduced in {entry.section}, which does not exist")
    return found


def write_sections(folder: Path) -> None:
    """Write into the glossary where the lessons introduce its terms; a term that is nowhere bold keeps its section."""
    places = introductions(folder)
    text = FILE.read_text(encoding="utf-8")
    text = re.sub(r"(?m)^### (.+) · (\S+)$", lambda head: f"### {head[1]} · {places.get(head[1], head[2])}", text)
    FILE.write_text(text, encoding="utf-8")
    entries.cache_clear()


if __name__ == "__main__":
    if "--write" in sys.argv[1:]:
        write_sections(root())
    differences = faults(root())
    print(*differences, sep="\n")
    sys.exit(bool(differences))
