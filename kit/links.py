"""The links of a lesson that are generated: contents, the part's map, previous and next, and references in the text.

A reference such as "04.7", "section 04.7" or "notebook 09" is written as plain text, and `link_references` makes it a
link. Sections have anchors that stand before their headings.
"""

import re
from pathlib import Path

from llmnotes.course import PARTS, TITLES, part_of

LONGEST = 56  # letters of an entry in the contents
UNITS = r"%|[kMGT]i?B|bits?|bytes?|ms|s|seconds?|minutes?|hours?|million|billion|times|percent|points?|tokens?|nats?"
# What is no plain text: code, formulas, links, HTML, headings, and addresses.
PROTECTED = (
    r"```.*?```|`[^`]*`|\$\$.*?\$\$|\$[^$\n]+\$|!?\[[^\]]*\]\([^)]*\)|<a\b.*?</a>|<pre\b.*?</pre>|<code>.*?</code>"
    r"|<[^>]+>|^#+ [^\n]*$|^ {4}[^\n]*$|https?://\S+"
)
REFERENCE = (
    r"(?<![\w.,/$€+×≈=~–-])(?:(?P<word>[Ss]ections?|[Ee]xercises?|[Nn]otebook|[Ll]esson)\s)?"
    rf"(?P<number>\d\d)(?:\.(?P<section>[1-9]\d?))?(?![\w%]|[.,]\d|\s(?:{UNITS})\b)"
)
TEXT = re.compile(f"(?P<protected>{PROTECTED})|{REFERENCE}", re.DOTALL | re.MULTILINE)


def link(name: str, folder: str = "") -> str:
    """Return the link to lesson `name`, with its number and title; `folder` is where the lessons are from here."""
    return f"[{name[:2]} · {TITLES[name]}]({folder}{name}.ipynb)"


def anchor(number: str, section: str) -> str:
    """Return the anchor of a section ("3" or "recap"). No two lessons share one: JupyterLab may have both open.

    >>> anchor("04", "recap")
    '04.recap'
    """
    return f"{number}.{section}"


def anchored(text: str, number: str) -> str:
    """Return a cell's text with an anchor before each heading of a section, and before the recap."""
    heading = rf'(?m)^(?:<a id="[\w.-]+"></a>\s*)?(## (?:{number}\.(\d+) |Recap))'
    return re.sub(heading, lambda found: f'<a id="{anchor(number, found[2] or "recap")}"></a>\n{found[1]}', text)


def contents(text: str, number: str) -> str:
    """Return the links to the sections of a lesson, and to its recap, as one line; `text` is all of its prose."""
    sections = re.findall(rf"(?m)^## {number}\.(\d+) (.+)$", text)
    links = [f"[{section} {_shortened(title)}](#{anchor(number, section)})" for section, title in sections]
    if re.search("(?m)^## Recap", text):
        links.append(f"[Recap](#{anchor(number, 'recap')})")
    return " · ".join(links)


def _shortened(title: str) -> str:
    """Return the heading of a section as it stands in the contents: whole, or its beginning."""
    title = re.sub(r"[\[\]*`]", "", title).strip()
    beginning = title.partition(": ")[0] if len(title) > LONGEST else title
    if len(beginning) <= LONGEST:
        return beginning
    return beginning[: LONGEST - 1].rpartition(" ")[0] + "…"


def part_map(name: str) -> str:
    """Return the lessons of the part that `name` belongs to, as one line of links; its own number is bold."""
    part = part_of(name)
    numbers = [f"**{other[:2]}**" if other == name else f"[{other[:2]}]({other}.ipynb)" for other in part.lessons]
    return f"{part.heading}: " + " · ".join(numbers)


def part_anchor(number: str) -> str:
    """Return the anchor of a part in notebook 00's table of lessons."""
    return f"part-{number.lower()}"


def last_links(name: str) -> str:
    """Return the text of a lesson's last cell: where to go from here."""
    part, names = part_of(name), list(TITLES)
    first, place = names[0], names.index(name)
    ways = [f"Next: {link(other)}" for other in names[place + 1 : place + 2]]
    ways += [f"Previous: {link(other)}" for other in names[:place][-1:]]
    here = "" if name == first else f"{first}.ipynb"
    return (
        f"{' · '.join(ways)}\n\n[Solutions of the exercises](solutions/{name}.ipynb) · "
        f"[{part.heading}]({here}#{part_anchor(part.number)})"
    )


def link_references(text: str, name: str, sections: set[str], folder: str = "") -> str:
    """Return `text`, in a cell of lesson `name`, with its references to sections and lessons as links.

    A number of two digits that does not begin with 0, such as 11.7, may also be a quantity. Without the word "section"
    it is a reference only in a lesson from 10 on, and only if there is such a section among `sections`. `folder` is
    where the lessons are from the notebook that holds the text. Links to #3 get the whole name of their anchor, #04.3.
    """
    by_number = {other[:2]: other for other in TITLES}

    def linked(found: re.Match[str]) -> str:
        word, number, section = (found[group] or "" for group in ("word", "number", "section"))
        target = by_number.get(number)
        if found["protected"] is not None or target is None or word.lower().startswith("exercise"):
            return found[0]
        if section:
            sure = number[0] == "0" or word.lower().startswith("section")
            if not sure and (name[0] == "0" or f"{number}.{section}" not in sections):
                return found[0]
            shown = f"{number}.{section}"
            before = found[0].removesuffix(shown)
            file = "" if target == name and not folder else f"{folder}{target}.ipynb"
            address = f"{file}#{anchor(number, section)}"
        elif word and not word.lower().startswith("section") and target != name:
            before, shown, address = "", found[0], f"{folder}{target}.ipynb"
        else:
            return found[0]
        line = text[: found.start()].rpartition("\n")[2] + found[0]
        if re.match(r"[\s>]*<(details|p|ul|ol|li|div|table|tr|td)\b", line):  # markdown is not read inside HTML
            return f'{before}<a href="{address}">{shown}</a>'
        return f"{before}[{shown}]({address})"

    text = re.sub(r"(?<=\]\()#(\d\d?|recap)(?=\))", lambda short: f"#{anchor(name[:2], short[1])}", text)
    text = re.sub(
        r"(?<=[(/])((\d\d)_\w+\.ipynb)#(\d\d?|recap)(?=\))",
        lambda short: f"{short[1]}#{anchor(short[2], short[3])}",
        text,
    )
    return TEXT.sub(linked, text)


def sections_of(folder: Path) -> set[str]:
    """Return the numbers of all sections in the notebooks of `folder`, such as 09.13."""
    found = set()
    for name in TITLES:
        path = folder / f"{name}.ipynb"
        if path.is_file():
            found |= set(re.findall(r"## (\d\d\.\d+) ", path.read_text(encoding="utf-8")))
    return found


def lessons_on_disk(folder: Path) -> list[tuple[str, list[str]]]:
    """Return (heading, lessons) of each part that has notebooks in `folder`, in order."""
    parts = []
    for part in PARTS:
        names = [name for name in part.lessons if (folder / f"{name}.ipynb").is_file()]
        if names:
            parts.append((part.heading, names))
    return parts
