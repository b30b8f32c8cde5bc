"""What a lesson says in words, and the check that every number in it was computed again.

    def test_every_number_in_the_prose_is_computed_again():
        lesson = Prose("04")
        values = lesson.run()                       # the names that the lesson's own code leaves behind
        counts = values["counts"]
        lesson.says("Pebble has {:.2f} million weights", counts["total"] / 1e6)
        lesson.says("{:.0%} of the weights are in the MLPs", counts["mlp"] / counts["total"])
        lesson.says("That's {} tokens", WORDS[len(values["ids"])])
        lesson.finish(r"16 bits", r"\\(6, 256\\)")      # digits that are names, as few as can be

`says` looks for the phrase, with its values in it, in the lesson's markdown (folded answers, tasks and clues included),
in its captions and in its alternative texts. Blanks, line breaks and markup do not count: a phrase has no `**`, no tags
and no `[…](…)`, only the words of the link. `finish` fails and lists everything at once: phrases that the lesson does
not say, and digits that no phrase covered. Code and formulas are left out, as are the digits in NAMES.
"""

import contextlib
import html
import io
import re
from typing import Any

import nbformat

from llmnotes.course import notebooks, source, tags
from tests.conftest import ROOT

WORDS = "no one two three four five six seven eight nine ten eleven twelve".split()  # WORDS[6] is "six"

# Digits that are names: they say nothing that could be computed.
NAMES = (
    r"\b\d\d\.\d+\b(?! ?%)(?=[ ,.;:)]|$)",  # 06.3, a section or an exercise
    r"\b\d\d · ",  # 06 · One token through Pebble
    r"(?<!\d)(?:19|20)\d\d(?!\d)",  # years
    r"[Ll]essons? \d\d(?:(?:,| and| to) \d\d)*",
    r"(?:GPT|Llama|Qwen|Gemma|Phi)[- ]?\d(?:\.\d)?(?: \d+B)?",
    r"SmolLM2?(?:-\d+M)?(?:-Instruct)?",
    r"all-MiniLM-L6-v2",
    r"(?m)^ *\d\. ",  # a numbered list
    r"(?:chapters?|sections?|tables?|figures?|part) \d+(?:\.\d+)*",  # of a book or a paper
)


class Prose:
    """The words of one lesson, by the number of its notebook."""

    def __init__(self, number: str) -> None:
        [path] = [path for path in notebooks(ROOT) if path.name.startswith(number)]
        self.notebook = nbformat.read(path, as_version=4)
        self.left = "\n\n".join([*markdown(self.notebook), *captions(self.notebook), *alternatives(self.notebook)])
        self.text, self.missing = self.left, []

    def run(self) -> dict[str, Any]:
        """Run the lesson's code without its pictures and return the names that it leaves."""
        values: dict[str, Any] = {"__name__": "lesson"}
        for cell in self.notebook.cells:
            if cell.cell_type == "code" and not {"setup", "hide-input"} & tags(cell):
                with contextlib.redirect_stdout(io.StringIO()):
                    exec(compile(re.sub(r"(?m)^\s*%.*$", "", source(cell)), "a cell", "exec"), values)
        return values

    def says(self, phrase: str, *values: Any) -> None:
        """Ask for `phrase` with `values` in its braces; the numbers in it count as computed wherever it stands."""
        wanted = phrase.format(*values).replace("-", "−") if "{" in phrase else phrase
        for said in dict.fromkeys((phrase.format(*values), wanted)):
            pattern = r"\s+".join(map(re.escape, said.split()))
            pattern = re.sub(r"^(?=\d)", r"(?<![\\d.,])", re.sub(r"(?<=\d)$", r"(?![\\d%]|[.,]\\d)", pattern))
            if re.search(pattern, self.text):
                self.left = re.sub(pattern, " ", self.left)
                return
        self.missing.append(f"not in the lesson: {phrase.format(*values)}")

    def finish(self, *names: str) -> None:
        """Fail with all that is wrong, if anything is; `names` are patterns for digits that nothing computes."""
        left = self.left
        for pattern in (*names, *NAMES):
            left = re.sub(pattern, " ", left, flags=re.M)
        places = [match.start() for match in re.finditer(r"\d+", left)]
        found = [f"not computed: …{' '.join(left[max(at - 50, 0) : at + 40].split())}…" for at in places]
        assert not self.missing + found, "\n" + "\n".join(self.missing + found)


def markdown(notebook: nbformat.NotebookNode) -> list[str]:
    """Return the prose of each markdown cell without code, formulas, addresses, markup and generated lines."""
    return [_plain(source(cell)) for cell in notebook.cells if cell.cell_type == "markdown"]


def captions(notebook: nbformat.NotebookNode) -> list[str]:
    """Return the caption below each picture."""
    return [
        _plain(html.unescape(re.sub(r"<span.*?</span>", "", "".join(output.data["text/html"]))))
        for output in _outputs(notebook)
        if "".join(output.get("data", {}).get("text/html", "")).startswith("<p><em>")
    ]


def alternatives(notebook: nbformat.NotebookNode) -> list[str]:
    """Return the alternative text of each picture."""
    return [
        output.metadata["image/png"]["alt"] for output in _outputs(notebook) if "image/png" in output.get("data", {})
    ]


def _outputs(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]


def _plain(text: str) -> str:
    text = re.sub(r"(?m)^\[!\[Open in.*$|^\*\*(?:Time|Cost)\*\*:.*$|^#+ (?:Exercise )?\d\d(?:\.\d+)? · .*$", " ", text)
    text = re.sub(r"(?m)^#+ \d\d\.\d+ |^◆.*minutes\.$|^(?:Part [IVX]+ · .*: |In this lesson: |Next: ).*$", " ", text)
    text = re.sub(r"<pre>.*?</pre>|<code>.*?</code>|```.*?```|\$\$.*?\$\$", " ", text, flags=re.S)
    text = re.sub(r"\$[^$\n]*(?:\n[^$\n]+)?\$|`[^`]*`", " ", text)
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", text)
    text = html.unescape(re.sub(r"</?[a-zA-Z][^>]*>", "", text))
    return re.sub(r"\*\*|(?m:^> ?(?:> ?)?)|(?<!\w)\*|\*(?!\w)", "", text)
