"""The glossary: read from glossary.md, looked up by word, and written as a page with links to the lessons and back."""

import html
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

FILE = Path(__file__).with_name("glossary.md")
ENTRY = re.compile(
    r"### (?P<term>[^\n]+?)(?: · (?P<section>\d\d\.\d+))?\n\n(?:\*Also:\* (?P<also>.+?)\n\n)?"
    r"(?P<says>.+?)\n\n\*Example\.\* (?P<example>.+?)\n(?:\n|$)",
    re.DOTALL,
)


@dataclass(frozen=True)
class Entry:
    """A term of the field: where it is introduced ("06.3", or ""), what it is, an example, and other words for it."""

    term: str
    section: str
    says: str
    example: str
    also: tuple[str, ...] = ()

    @property
    def anchor(self) -> str:
        """Its place on the page of the glossary.

        >>> find("LLM.int8()").anchor
        'llm-int8'
        """
        return re.sub(r"[^a-z0-9]+", "-", self.term.lower()).strip("-")


@cache
def entries() -> tuple[Entry, ...]:
    """Return the whole glossary, in the order of its file."""
    found = []
    for match in ENTRY.finditer(FILE.read_text(encoding="utf-8")):
        term, section, also, says, example = (" ".join((part or "").split()) for part in match.groups())
        found.append(Entry(term, section, says, example, tuple(word for word in also.split(", ") if word)))
    return tuple(found)


def find(word: str) -> Entry | None:
    """Return the entry of a term, of another word for it, or of their plural; None if there is none.

    Capitals decide only where two terms differ in nothing else, such as clip and CLIP.

    >>> find("Attention heads").term
    'attention head'
    """
    word, index = " ".join(word.split()), _index()
    plurals = (("ies", "y"), ("es", ""), ("s", ""))
    singulars = [word[: -len(end)] + new for end, new in plurals if word.lower().endswith(end)]
    forms = [form for one in (word, *singulars) for form in (one, one.lower())]
    return next((index[form] for form in forms if form in index), None)


@cache
def _index() -> dict[str, Entry]:
    words = [(word, entry) for entry in entries() for word in (entry.term, *entry.also)]
    return {word.lower(): entry for word, entry in reversed(words)} | dict(words)


def page(names: list[str]) -> str:
    """Return the glossary as HTML. `names` are the lessons that have a page beside it, to which the terms link."""
    pages = {name[:2]: f"{name}.html" for name in names}
    items, letters = [], []
    for entry in sorted(entries(), key=lambda entry: entry.term.lower()):
        also = f" <small>({html.escape(', '.join(entry.also))})</small>" if entry.also else ""
        where = entry.section
        if where[:2] in pages:
            where = f'<a href="{pages[where[:2]]}#{where}">{where}</a>'
        where = f" <small>Introduced in {where}.</small>" if where else ""
        items.append(
            f'<dt id="{entry.anchor}"><b>{html.escape(entry.term)}</b>{also}</dt><dd>{_inline(entry.says)}</dd>'
            f"<dd><i>Example:</i> {_inline(entry.example)}{where}</dd>"
        )
        letter = entry.term[0].upper()
        if letter.isalpha() and letter not in [seen for seen, _ in letters]:
            letters.append((letter, f'<a href="#{entry.anchor}">{letter}</a>'))
    index = " · ".join(link for _, link in letters)
    return f'<h1>Glossary</h1><p>{index}</p><dl class="glossary">{"".join(items)}</dl>'


def linked(body: str) -> str:
    """Return a page's HTML in which the terms that stand in bold are links to the glossary.

    >>> linked("a <strong>token</strong> is <strong>small</strong>")
    'a <strong><a href="glossary.html#token">token</a></strong> is <strong>small</strong>'
    """

    def link(bold: re.Match[str]) -> str:
        entry = find(html.unescape(bold[1]))
        if entry is None:
            return bold[0]
        return f'<strong><a href="glossary.html#{entry.anchor}">{bold[1]}</a></strong>'

    return re.sub(r"<strong>([^<]+)</strong>", link, body)


def _inline(text: str) -> str:
    """Return a sentence as HTML, with `code` as code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text, quote=False))
