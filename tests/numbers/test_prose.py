"""The reader of prose finds a wrong number and a number that nobody computed, and leaves names and code alone."""

import nbformat
import pytest

from tests.numbers.prose import Prose, captions, markdown

TEXT = """## 04.2 A look at GPT-2

Pebble has **3.67 million**
weights, $d = 256$ and `x[12]`, as [04 · One token](04_one_token.ipynb) says in 2020.

> <details><summary><b>Answer</b></summary><p><b>b.</b> 64&nbsp;% of it, or −3.</p></details>
"""


def lesson(text=TEXT, caption=""):
    prose = Prose("00")
    outputs = []
    if caption:
        data = {"text/plain": caption, "text/html": f"<p><em>{caption}</em></p>"}
        outputs = [nbformat.v4.new_output("display_data", data)]
    cells = [nbformat.v4.new_markdown_cell(text), nbformat.v4.new_code_cell("", outputs=outputs)]
    prose.notebook = nbformat.v4.new_notebook(cells=cells)
    prose.text = prose.left = "\n\n".join(markdown(prose.notebook) + captions(prose.notebook))
    return prose


def test_what_was_computed_is_found_across_lines_and_markup():
    prose = lesson()
    prose.says("Pebble has {:.2f} million weights", 3.672)
    prose.says("b. {:.0f} % of it, or {:.0f}", 64.2, -3)
    prose.finish()


def test_a_wrong_number_and_one_that_nobody_computed_fail():
    prose = lesson()
    prose.says("Pebble has {:.2f} million weights", 3.68)
    with pytest.raises(AssertionError, match="not in the lesson: Pebble has 3.68 (?s:.*)not computed: (?s:.*)or −3"):
        prose.finish()


def test_a_number_is_no_part_of_a_longer_one():
    prose = lesson("There are 123 of them, 45% and 6.78.")
    for phrase, value in (("{} of them", 23), ("{} of", 3), ("them, {}", 4), ("and {}", 6)):
        prose.says(phrase, value)
    assert len(prose.missing) == 4


def test_captions_count():
    prose = lesson("Nothing.", caption="Seven rows of 256 numbers.")
    with pytest.raises(AssertionError, match="256"):
        prose.finish()
    prose.says("Seven rows of {} numbers", 256)
    prose.finish()
    lesson("Nothing.", caption="Rows of 256 numbers.").finish(r"256 numbers")
