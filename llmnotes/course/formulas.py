"""LaTeX in a lesson's text becomes MathML, which browsers show by themselves: no network, no script.

Formulas stand between dollar signs, `$d$` in a line and `$$…$$` in a paragraph of their own. Code and sums of money are
left alone: a formula has no blank inside its dollar signs, and no digit behind them.
"""

import html
import re

# Code comes first, so that a dollar sign in it is no formula.
MATH = re.compile(
    r"(?P<code>```.*?```|(?P<ticks>`+).+?(?P=ticks)|<pre\b.*?</pre>|<code>.*?</code>|^ {4}[^\n]*$)"
    r"|\$\$(?P<block>.+?)\$\$"
    r"|(?<![\\$\w])\$(?=[^\s$])(?P<inline>(?:[^$\n]|\n(?!\s*\n))*?)(?<=[^\s\\])\$(?![\d\w])",
    re.DOTALL | re.MULTILINE,
)
# Names that the library does not know, and those that it does.
OTHER_NAMES = {
    r"\lVert": r"\| ",
    r"\rVert": r"\| ",
    r"\lvert": "| ",
    r"\rvert": "| ",
    r"\arg\max": r"\operatorname{argmax}",
    r"\arg\min": r"\operatorname{argmin}",
    "{aligned}": "{align*}",
}


def formulas(text: str) -> list[tuple[str, bool]]:
    """Return (LaTeX, in a paragraph of its own) for each formula in a cell's text.

    >>> formulas("Of `$x$`, $5 and $\\\\sqrt{d}$")
    [('\\\\sqrt{d}', False)]
    """
    return [_latex(found) for found in MATH.finditer(text) if found["code"] is None]


def set_aside(text: str, place: int) -> tuple[str, dict[str, str]]:
    """Return the text of cell number `place` with a word instead of each formula, and {word: MathML}.

    A reader of markdown leaves such a word alone, and would not leave MathML alone. `put_back` puts the formulas in.
    """
    known: dict[str, str] = {}

    def word(found: re.Match[str]) -> str:
        if found["code"] is not None:
            return found[0]
        name = f"x{place}formula{len(known)}x"
        known[name] = typeset(*_latex(found))
        return name

    return MATH.sub(word, text), known


def put_back(page: str, known: dict[str, str]) -> str:
    """Return the HTML `page` with the formulas in place of their words."""
    for word, formula in known.items():
        page = page.replace(f"<p>{word}</p>", formula).replace(word, formula)
    return page


def typeset(latex: str, block: bool) -> str:
    """Return the HTML of a formula: MathML, or the LaTeX itself if it cannot be read (a test asks that all can)."""
    try:
        formula = mathml(latex, block)
    except ValueError:
        formula = f"<code>{html.escape(latex)}</code>"
    return f'<div class="formula">{formula}</div>' if block else formula


def mathml(latex: str, block: bool = False) -> str:
    """Return LaTeX as MathML; raises `ValueError` where it cannot be read, or holds a name that nobody knows.

    >>> mathml("x^2")[-47:]
    '<msup><mi>x</mi><mn>2</mn></msup></mrow></math>'
    """
    from latex2mathml.converter import convert

    if len(re.findall(r"(?<!\\)\{", latex)) != len(re.findall(r"(?<!\\)\}", latex)):
        raise ValueError(f"The formula {latex} has a brace without its partner.")
    known = latex
    for name, other in OTHER_NAMES.items():
        known = known.replace(name, other)
    try:
        formula = convert(known, display="block" if block else "inline")
    except Exception as error:  # the library raises twenty kinds
        raise ValueError(f"The formula {latex} cannot be read: {type(error).__name__} {error}.") from error
    if unknown := re.search(r"\\\w*|&", html.unescape(re.sub(r"<[^>]*>", " ", formula))):
        raise ValueError(f"The formula {latex} has {unknown[0]}, which is not known.")
    formula = formula.replace('<mo stretchy="false">&#x0007C;', '<mo stretchy="false" lspace="0" rspace="0">&#x0007C;')
    return re.sub(r"(<mi>[a-z]{2,}</mi>)(?=<(?:mi|mn|msub|msup|mfrac|msqrt)\b)", r'\1<mspace width="0.17em"/>', formula)


def _latex(found: re.Match[str]) -> tuple[str, bool]:
    block = found["block"]
    return re.sub(r"(?m)^> ?", "", (block if block is not None else found["inline"]).strip()), block is not None
