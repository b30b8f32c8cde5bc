"""The hand-written glossary: every term of the lessons has an entry that stands alone, and the links hold both ways."""

import re

import nbformat
import pytest

from kit import glossary as kit
from llmnotes.course import TITLES, glossary
from llmnotes.course.glossary import FILE, entries, find

from .conftest import ROOT

ENTRIES = {entry.term: entry for entry in entries()}
# What makes a sentence of the words: an entry that lacks them all is a fragment.
VERBS = (
    "is are was has have means mean says say tells brings turns compares asks makes finds sorts writes gives keeps "
    "takes raises draws drops shows splits changes multiplies adds judges puts thinks squeezes remembers works lowers "
    "lets pulls fills sets ends holds loses stores chooses cuts saturates quantizes divides removes rounds passes goes "
    "leaves stands throws mixes reads run runs covers builds lower stop collects shifts calculates calculate sends "
    "share joins"
).split()


def test_every_entry_of_the_file_is_read():
    text = FILE.read_text(encoding="utf-8")
    assert len(entries()) == len(ENTRIES) == text.count("\n### ") > 250
    words = [word for entry in entries() for word in (entry.term, *entry.also)]
    assert sorted({word for word in words if words.count(word) > 1}) == []
    anchors = [entry.anchor for entry in entries()]
    assert len(set(anchors)) == len(anchors) and all(anchors)


@pytest.mark.parametrize("term", ENTRIES)
def test_an_entry_stands_alone(term):
    entry = ENTRIES[term]
    for text in (entry.says, entry.example):
        assert re.search(r"""[.?!]["`]?$""", text) and not re.match(r"(That|This|It) (is|are)\b", text), text
    sentences = re.split(r"(?<=[.?!])\s+(?=[A-Z])", entry.says)
    assert len(sentences) <= 3 and len(sentences[0].split()) >= 5, sentences
    assert set(re.findall(r"[a-z]+", sentences[0])) & set(VERBS), f"no verb: {sentences[0]}"
    assert not re.search(r"(?i)\b(simply|obviously|just)\b", entry.says)
    subject, _, predicate = entry.says.partition(" is ")
    if predicate and find(re.sub(r"(?i)^(an?|the) ", "", subject)) is entry:
        own = rf"(?i)\b{re.escape(term)}\b"
        assert not re.search(own, predicate.partition(".")[0]), f"defined by itself: {entry.says}"


def test_the_lessons_and_the_glossary_agree():
    assert kit.faults(ROOT) == [], "python -m kit.glossary --write mends sections; see there for what is a term"


def test_no_lesson_uses_a_term_before_it_is_introduced():
    assert kit.early(ROOT) == []


def test_a_section_belongs_to_a_lesson_of_the_course():
    numbers = {name[:2] for name in TITLES}
    assert [entry.term for entry in entries() if entry.section and entry.section[:2] not in numbers] == []


def test_words_are_found_in_any_form():
    for word, term in (("Tokens", "token"), ("queries", "query"), ("BPE", "byte-pair encoding"), ("patches", "patch")):
        assert find(word).term == term
    assert find("no such word") is None and find("s") is None
    assert find("CLIP").term == "CLIP model" and find("Clip").term == "clip"


@pytest.fixture
def course(tmp_path, monkeypatch):
    """A course of three lessons, and a glossary of its own to be mended."""
    texts = {
        "03_attention": "## 03.1 A\n\nA **query** asks, and a **frobnicator** does not. **Well.** **a**\n\n`**code**`",
        "04_one": "## 04.1 B\n\nThe **queries** again.\n\n## 04.2 Recipes\n\nKeys.\n\n## Recap\n\nA **gates**.",
        "17_fine_tuning": "## 17.1 C\n\nA **query** once more.",
    }
    (tmp_path / "notebooks").mkdir()
    for name, text in texts.items():
        cells = [nbformat.v4.new_markdown_cell(part) for part in text.split("\n\n")]
        nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "notebooks" / f"{name}.ipynb")
    file = tmp_path / "glossary.md"
    heads = {
        "query · 04.1\n\n*Also:* queries": "asks",
        "key · 04.7": "answers",
        "gate · 05.1": "opens",
        "bit": "is 0 or 1",
    }
    heads |= {"scale · 04.9": "stretches", "head · 04.1": "stands"}
    text = "".join(f"### {head}\n\nA thing {does}.\n\n*Example.* One.\n\n" for head, does in heads.items())
    file.write_text(text, encoding="utf-8")
    for module in (glossary, kit):
        monkeypatch.setattr(module, "FILE", file)
    for kept in (glossary.entries, glossary._index):
        kept.cache_clear()
    yield tmp_path
    for kept in (glossary.entries, glossary._index):
        kept.cache_clear()


def test_what_differs_is_said_and_sections_are_mended(course):
    unknown = "03.1 has **frobnicator**, which the glossary lacks"
    twice = "query is introduced more than once: 03.1 (**query**), 04.1 (**queries**); keep the first in bold"
    wrong = [
        "query is introduced in 03.1, not in 04.1: --write mends it",
        "key is introduced in 04.2, not in 04.7: --write mends it",
        "scale is introduced in no lesson, not in 04.9: --write mends it",
    ]
    assert kit.faults(course) == [unknown, twice, *wrong]
    kit.write_sections(course)
    assert kit.faults(course) == [unknown, twice]
    text = kit.FILE.read_text(encoding="utf-8")
    assert (
        "### query · 03.1\n\n*Also:* queries\n" in text
        and "### scale\n" in text
        and "### head · 04.1\n" in text
        and "### gate · 05.1\n" in text
    )


def test_the_page_links_to_the_lessons_that_are_there(course):
    page = glossary.page(["04_one"])
    assert '<dt id="gate">' in page and "Introduced in 05.1." in page
    assert 'Introduced in <a href="04_one.html#04.1">04.1</a>.' in page
    assert "is 0 or 1.</dd><dd><i>Example:</i> One.</dd>" in page
    assert page.index('id="gate"') < page.index('id="key"') < page.index('id="query"')
    assert glossary.linked("<strong>Queries</strong>") == ('<strong><a href="glossary.html#query">Queries</a></strong>')
