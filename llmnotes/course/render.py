"""Pages of the executed notebooks that need no network: plain HTML, one style, one copy of plotly beside them."""

import html
import json
import re
from pathlib import Path

import nbformat

from llmnotes.course import source, tags
from llmnotes.course.run import Result

PLOTLY = "application/vnd.plotly.v1+json"
STYLE = """\
:root { color-scheme: light; --ink: #1b1b1b; --paper: #fff; --soft: #f5f5f2; --line: #d8d8d2; --link: #0060a0; }
body { font: 17px/1.6 system-ui, sans-serif; color: var(--ink); background: var(--paper); margin: 0 auto;
       max-width: 60rem; padding: 1.5rem; }
a { color: var(--link); } h1, h2, h3 { line-height: 1.25; margin-top: 2.2rem; } .anchor-link { display: none; }
nav { font-size: .9rem; border-bottom: 1px solid var(--line); padding-bottom: .6rem; }
pre { overflow-x: auto; font: 14px/1.45 ui-monospace, monospace; margin: .4rem 0; padding: .7rem .9rem; }
code { font: .88em ui-monospace, monospace; background: var(--soft); padding: .1em .25em; } pre code { padding: 0; }
div.highlight pre, .jp-InputArea pre { background: var(--soft); border: 1px solid var(--line); }
.jp-InputPrompt, .jp-OutputPrompt, .jp-Cell-inputWrapper > .jp-Collapser, .jp-Collapser, .prompt { display: none; }
table { border-collapse: collapse; margin: 1rem 0; }
td, th { border-bottom: 1px solid var(--line); padding: .3rem .8rem; }
td { font-variant-numeric: tabular-nums; } img { max-width: 100%; } blockquote { border-left: 4px solid var(--line);
margin-left: 0; padding-left: 1rem; } details { background: var(--soft); padding: .5rem 1rem; border-radius: 6px; }
.jp-OutputArea-output pre, .output_text pre, .output_stream pre, .output pre { white-space: pre-wrap; }
.failed { color: #b00020; font-weight: 600; }
"""


def write_course(results: list[Result], folder: Path) -> Path:
    """Write index.html, a page for each result, glossary.html and summary.json into `folder`; return the index."""
    folder.mkdir(parents=True, exist_ok=True)
    if any(PLOTLY in output.get("data", {}) for result in results for output in _outputs(result.notebook)):
        from plotly.offline import get_plotlyjs

        (folder / "plotly.min.js").write_text(get_plotlyjs(), encoding="utf-8")
    for result in results:
        (folder / f"{result.name}.html").write_text(page(result.notebook, result.name, results), encoding="utf-8")
    (folder / "glossary.html").write_text(_shell("Glossary", _glossary(results), results), encoding="utf-8")
    (folder / "summary.json").write_text(json.dumps([r.as_dict() for r in results], indent=1), encoding="utf-8")
    index = folder / "index.html"
    index.write_text(_shell("llmnotes", _overview(results), results), encoding="utf-8")
    return index


def page(notebook, name: str, results: list[Result]) -> str:
    """Return one executed notebook as a page."""
    from nbconvert import HTMLExporter

    copy = nbformat.reads(nbformat.writes(notebook), as_version=4)
    for number, output in enumerate(_outputs(copy)):
        figure = output.get("data", {}).pop(PLOTLY, None)
        if figure is not None:
            output["data"] = {"text/html": _plot(figure, f"plot-{number}")}
    exporter = HTMLExporter(template_name="basic", exclude_input_prompt=True, exclude_output_prompt=True)
    body, _ = exporter.from_notebook_node(copy)
    names = "|".join(re.escape(result.name) for result in results)
    body = re.sub(rf'href="({names})\.ipynb', r'href="\1.html', body)
    return _shell(source(notebook.cells[0]).splitlines()[0].lstrip("# "), body, results)


def glossary(notebooks: list) -> dict[str, str]:
    """Return {term: the sentence that defines it} for every term that stands in bold, the first time it does.

    Terms begin with a small letter or are acronyms; verdicts and labels in bold begin with a capital and are no terms.
    """
    terms = {}
    for notebook in notebooks:
        for cell in notebook.cells:
            if cell.cell_type != "markdown" or "box" in tags(cell):
                continue
            for sentence in re.split(r"(?<=[.!?])\s+|\n\n+|\n(?=[-|#])", source(cell)):
                for term in re.findall(r"\*\*([a-z][\w /-]*|[A-Z]{2,})\*\*", sentence):
                    terms.setdefault(term, re.sub(r"[*`]", "", sentence).lstrip("- ").strip())
    return dict(sorted(terms.items()))


def _outputs(notebook):
    return [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]


def _plot(figure: dict, element: str) -> str:
    data, layout = json.dumps(figure["data"]), json.dumps(figure["layout"])
    call = f'Plotly.newPlot("{element}", {data}, {layout}, {{responsive: true}});'.replace("</", "<\\/")
    return f'<div id="{element}"></div><script>{call}</script>'


def _shell(title: str, body: str, results: list[Result]) -> str:
    from pygments.formatters import HtmlFormatter

    links = " · ".join(f'<a href="{result.name}.html">{result.name[:2]}</a>' for result in results)
    script = '<script src="plotly.min.js"></script>' if "Plotly.newPlot" in body else ""
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{STYLE}'
        f"{HtmlFormatter(style='default').get_style_defs('.highlight')}</style>{script}</head>\n"
        f'<body><nav><a href="index.html">llmnotes</a> · {links} · <a href="glossary.html">glossary</a></nav>\n'
        f"<main>{body}</main></body></html>\n"
    )


def _overview(results: list[Result]) -> str:
    rows = []
    for result in results:
        title = html.escape(source(result.notebook.cells[0]).splitlines()[0].lstrip("# "))
        state = "" if result.ok else f'<br><span class="failed">{html.escape(result.error)}</span>'
        rows.append(
            f'<tr><td><a href="{result.name}.html">{title}</a>{state}</td><td>{result.seconds:.1f}</td>'
            f"<td>{result.peak_mb}</td><td>{result.claims}</td></tr>"
        )
    return (
        "<h1>llmnotes</h1><p>One language model, taken apart and put back together. Every page below was run from "
        "top to bottom on this machine; every claim on it was checked in that run.</p><table><tr><th>notebook</th>"
        "<th>seconds</th><th>peak MB</th><th>claims held</th></tr>" + "".join(rows) + "</table>"
    )


def _glossary(results: list[Result]) -> str:
    items = "".join(
        f"<dt><b>{html.escape(term)}</b></dt><dd>{html.escape(sentence)}</dd>"
        for term, sentence in glossary([result.notebook for result in results]).items()
    )
    return f"<h1>Glossary</h1><dl>{items}</dl>"
