"""Compare the glossary with the lessons: `python -m kit.glossary` says what differs, and `--write` mends the sections.

It also names the terms that a lesson uses before the section that introduces them.

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
from llmnotes.course.glossary import FILE, Entry, entries, find

NO_PROSE = r"```.*?```|`[^`]*`|\$\$.*?\$\$|\$[^$\n]+\$|<pre\b.*?</pre>|<code>.*?</code>"
SECTION = r"(?m)^## (?:(\d\d\.\d+) )?.*$"
# Terms that are plain words, or words of every programmer: a loop has a step, long before a step of training.
PLAIN = set("block buffer float grammar integer JSON label length messages process protocol step streaming".split())
PLAIN |= {"attention head", "backpropagation", "learned tokens", "neighbour"}


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


def sections(path: Path) -> dict[str, str]:
    """Return {number of a section: all its text and code, in small letters without markup} for a lesson."""
    texts, section = {}, ""
    for cell in nbformat.read(path, as_version=4).cells:
        for part in re.split(r"(?m)^(?=## )", source(cell)):
            if cell.cell_type == "markdown" and (heading := re.match(SECTION, part)):
                section = heading[1] or ""
            if section:
                texts[section] = texts.get(section, "") + re.sub(r"[*`\s]+", " ", part.lower()) + " "
    return texts


def speaks_of(text: str, entry: Entry) -> bool:
    """Return whether a section's text has a term, another word for it, or their plural."""
    words = "|".join(re.escape(word.lower()) for word in (entry.term, *entry.also))
    return bool(re.search(rf"(?<!\w)({words})(e?s|ing|ed)?(?!\w)", text))


def faults(folder: Path) -> list[str]:
    """Return what does not agree between the glossary and the lessons in `folder`, a sentence each."""
    found, lessons = [], {}
    for path in notebooks(folder):
        for bold in bold_terms(path):
            entry = find(bold.words)
            if entry is None and bold.section:
                found.append(f"{bold.section} has **{bold.words}**, which the glossary lacks")
            elif entry and bold.section and bold.lesson < "13":
                lessons.setdefault(entry.term, {}).setdefault(bold.lesson, f"{bold.section} (**{bold.words}**)")
    for term, places in lessons.items():
        if len(places) > 1:
            found.append(f"{term} is introduced more than once: {', '.join(places.values())}; keep the first in bold")
    return found + [
        f"{term} is introduced in {right or 'no lesson'}, not in {wrong or 'none'}: --write mends it"
        for term, (wrong, right) in misplaced(folder).items()
    ]


def early(folder: Path) -> list[str]:
    """Return which lessons use a term before it is introduced, a sentence each; words in code are not looked at.

    A paragraph that links to the lesson or section where the term is introduced may use it.
    """
    paragraphs = []
    for path in notebooks(folder):
        section = ""
        for cell in nbformat.read(path, as_version=4).cells:
            generated = any(re.match("title|box|exercise|costs|next|map", tag) for tag in tags(cell))
            if cell.cell_type == "code" or generated:
                continue
            for part in re.split(r"(?m)^(?=## )", source(cell)):
                if heading := re.match(SECTION, part):
                    section = heading[1] or ""
                paragraphs += [(section, text) for text in part.split("\n\n") if section]
    found = []
    for entry in entries():
        words = "|".join(re.escape(word) for word in (entry.term, *entry.also))
        longer = [re.escape(other.term) for other in entries() if f" {entry.term} " in f" {other.term} "]
        inside = re.compile("|".join(term for term in longer if term != re.escape(entry.term)) or "(?!)", re.IGNORECASE)
        term = re.compile(rf"(?<![\w#-])({words})(e?s)?(?![\w-])", re.IGNORECASE if entry.term.islower() else 0)
        for section, text in paragraphs:
            prose = re.sub(rf"{NO_PROSE}|<[^>]+>", " ", text, flags=re.DOTALL)
            if (
                _order(section) < _order(entry.section)
                and entry.term not in PLAIN
                and (use := term.search(inside.sub("", prose)))
            ):
                if f"{entry.section[:2]}_" not in text and f"#{entry.section}" not in text:
                    found.append(f"{section} says “{use[0]}”, which {entry.section} introduces")
                    break
    return found


def _order(section: str) -> list[int]:
    return [int(number) for number in section.split(".") if number]


def misplaced(folder: Path) -> dict[str, tuple[str, str]]:
    """Return {term: (the section in the glossary, the right one)} for the entries that lead to the wrong place.

    The right section is the first that has the term in bold. Where none has, the one that the glossary names stands,
    unless its lesson has no such section: then it is the first of that lesson that speaks of the term, or none.
    """
    places = introductions(folder)
    texts = {path.name[:2]: sections(path) for path in notebooks(folder)}
    found = {}
    for entry in entries():
        number = entry.section[:2]
        right = places.get(entry.term)
        if right is None and number and number not in texts:
            continue
        if right is None and number and entry.section not in texts[number]:
            right = next((section for section, text in texts[number].items() if speaks_of(text, entry)), "")
        if right is not None and right != entry.section:
            found[entry.term] = (entry.section, right)
    return found


def write_sections(folder: Path) -> None:
    """Write into the glossary where the lessons introduce its terms."""
    wrong = misplaced(folder)

    def mended(head: re.Match[str]) -> str:
        section = wrong[head[1]][1] if head[1] in wrong else head[2]
        return f"### {head[1]} · {section}" if section else f"### {head[1]}"

    text = FILE.read_text(encoding="utf-8")
    FILE.write_text(re.sub(r"(?m)^### (.+?)(?: · (\d\d\.\d+))?$", mended, text), encoding="utf-8")
    entries.cache_clear()


if __name__ == "__main__":
    if "--write" in sys.argv[1:]:
        write_sections(root())
    differences = faults(root()) + early(root())
    print(*differences, sep="\n")
    sys.exit(bool(differences))
