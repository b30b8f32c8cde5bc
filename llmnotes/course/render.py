"""Pages of the executed notebooks that need no network: plain HTML, one style, one copy of plotly beside them.

Formulas are MathML, made here. A picture and its caption become one figure, and a cell that only shows a picture has
no code on its page. The solutions of a lesson have a page of their own, from the outputs that were saved with them.
"""

import html
import json
import re
from pathlib import Path

import nbformat

from llmnotes.course import PARTS, glossary, source, tags
from llmnotes.course.formulas import put_back, set_aside
from llmnotes.course.run import Result
from llmnotes.course.style import STYLE

PLOTLY = "application/vnd.plotly.v1+json"


class Site:
    """The pages of a run: the lesson at each of `paths` has one in `folder`, and one for its solutions.

    `add` writes the page of a lesson that has run, so the first can be read while the others still run.
    """

    def __init__(self, folder: Path, paths: list[Path]) -> None:
        self.folder, self.paths = folder, {path.stem: path for path in paths}
        self.results: dict[str, Result] = {}
        self.index = folder / "index.html"
        folder.mkdir(parents=True, exist_ok=True)

    def add(self, result: Result) -> None:
        """Write the pages of a lesson that has run, and renew what tells of all: the index, glossary and summary."""
        self.results[result.name] = result
        body = glossary.linked(self._body(result.notebook))
        if "Plotly.newPlot" in body and not (self.folder / "plotly.min.js").is_file():
            from plotly.offline import get_plotlyjs

            (self.folder / "plotly.min.js").write_text(get_plotlyjs(), encoding="utf-8")
        self._write(f"{result.name}.html", _title(result.notebook), body)
        path = self.paths[result.name]
        solutions = path.parent / "solutions" / path.name
        if solutions.is_file():
            notebook = nbformat.read(solutions, as_version=4)
            self._write(f"solutions/{result.name}.html", _title(notebook), self._body(notebook), up="../")
        self._write("index.html", "llmnotes", _overview(self.paths, self.results))
        done = [self.results[name] for name in self.paths if name in self.results]
        self._write("glossary.html", "Glossary", glossary.page(list(self.paths)))
        self.add_references()
        summary = json.dumps([result.as_dict() for result in done], indent=1)
        (self.folder / "summary.json").write_text(summary, encoding="utf-8")

    def add_references(self) -> None:
        """Write a page for each Markdown file beside the lessons: tables to look things up in."""
        for file in sorted({file for path in self.paths.values() for file in path.parent.glob("*.md")}):
            text = file.read_text(encoding="utf-8")
            notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(text)])
            self._write(f"{file.stem}.html", _title(notebook), self._body(notebook))

    def _write(self, name: str, title: str, body: str, up: str = "") -> None:
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(_shell(title, body, list(self.paths), up), encoding="utf-8")

    def _body(self, notebook) -> str:
        """Return what a notebook shows as HTML."""
        from nbconvert import HTMLExporter

        copy = nbformat.reads(nbformat.writes(notebook), as_version=4)
        known: dict[str, str] = {}
        for number, cell in enumerate(copy.cells):
            if cell.cell_type == "markdown":
                cell.source, formulas = set_aside(source(cell), number)
                known |= formulas
            elif cell.cell_type == "code":
                cell.outputs = _figures(cell.outputs, f"plot-{number}")
                if "hide-input" in tags(cell):
                    cell.metadata["transient"] = {"remove_source": True}
        exporter = HTMLExporter(template_name="basic", exclude_input_prompt=True, exclude_output_prompt=True)
        body, _ = exporter.from_notebook_node(copy)
        return _with_links(_wrapped(put_back(body, known)), list(self.paths))


def _title(notebook) -> str:
    return source(notebook.cells[0]).splitlines()[0].lstrip("# ")


def _wrapped(body: str) -> str:
    """Return `body` with its printed sentences marked, so that a phone breaks their lines; tables keep theirs."""

    def marked(found: re.Match[str]) -> str:
        table = re.search(r"\S {2,}\S", found[2])
        return found[0] if table else f'{found[1]}<pre class="words">{found[2]}</pre>'

    return re.sub(r"(?s)(<div class=\"[^\"]*output_text[^>]*>\s*)<pre>(.*?)</pre>", marked, body)


def _with_links(body: str, names: list[str]) -> str:
    """Return `body` with links to lessons, solutions and pages of reference led to their pages, anchors included."""
    lessons = "|".join(map(re.escape, names))
    body = re.sub(r'href="((?:\.\./)?\w+)\.md(?=["#])', r'href="\1.html', body)  # a page of reference
    return re.sub(rf'href="((?:\.\./|solutions/)?(?:{lessons}))\.ipynb(?=["#])', r'href="\1.html', body)


def _figures(outputs: list, element: str) -> list:
    """Return the outputs of a cell, with each picture and the caption that follows it as one figure."""
    shown = []
    for number, output in enumerate(outputs):
        data = output.get("data", {})
        text = "".join(data.get("text/html", ""))
        plotly = data.get(PLOTLY)
        if plotly is not None:
            picture = _plot(plotly, f"{element}-{number}")
        elif "image/png" in data:
            picture = _image("".join(data["image/png"]), output.get("metadata", {}).get("image/png", {}))
        else:
            if text.startswith("<p><em>") and shown and "<figure>" in shown[-1].get("data", {}).get("text/html", ""):
                words = re.sub(r'<span role="img".*?</span>', "", text).removeprefix("<p>").removesuffix("</p>")
                caption = f"<figcaption>{words.removeprefix('<em>').removesuffix('</em>')}</figcaption></figure>"
                shown[-1]["data"]["text/html"] = shown[-1]["data"]["text/html"].replace("</figure>", caption)
            else:
                shown.append(output)
            continue
        figure = {"text/html": f"<figure>{picture}</figure>"}
        shown.append(nbformat.v4.new_output("display_data", figure))
    return shown


def _image(png: str, metadata: dict) -> str:
    alt, width = html.escape(metadata.get("alt", "")), metadata.get("width")
    size = f' width="{width}"' if width else ""
    return f'<img src="data:image/png;base64,{png.strip()}" alt="{alt}"{size}>'


def _plot(figure: dict, element: str) -> str:
    layout = dict(figure["layout"])
    width = layout.pop("width", None)  # a phone is narrower: the figure takes what there is
    data, layout = json.dumps(figure["data"]), json.dumps(layout)
    call = f'Plotly.newPlot("{element}", {data}, {layout}, {{responsive: true}});'.replace("</", "<\\/")
    size = f' style="max-width: {width}px"' if width else ""
    return f'<div id="{element}"{size}></div><script>{call}</script>'


def _shell(title: str, body: str, names: list[str], up: str = "") -> str:
    """Return a whole page; `names` are the lessons that it links to, and `up` leads to their folder."""
    from pygments.formatters import HtmlFormatter

    links = " · ".join(f'<a href="{up}{name}.html">{name[:2]}</a>' for name in names)
    script = f'<script src="{up}plotly.min.js"></script>' if "Plotly.newPlot" in body else ""
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{STYLE}'
        f"{HtmlFormatter(style='default').get_style_defs('.highlight')}</style>{script}</head>\n"
        f'<body><nav><a href="{up}index.html">llmnotes</a> · {links} · <a href="{up}glossary.html">glossary</a></nav>\n'
        f"<main>{body}</main></body></html>\n"
    )


def _overview(paths: dict[str, Path], results: dict[str, Result]) -> str:
    """Return the table of the lessons by part, as the first page shows it; some may not have run yet."""
    rows, part = [], None
    for name, path in paths.items():
        its_part = next((part for part in PARTS if name in part.lessons), None)
        if its_part and its_part != part:
            rows.append(f'<tr><th colspan="4">{html.escape(its_part.heading)}</th></tr>')
            part = its_part
        result = results.get(name)
        if result is None:
            title = html.escape(_title(nbformat.read(path, as_version=4)))
            rows.append(f'<tr><td>{title}</td><td colspan="3">not run yet</td></tr>')
            continue
        title = html.escape(_title(result.notebook))
        state = "" if result.ok else f'<br><span class="failed">{html.escape(result.error)}</span>'
        rows.append(
            f'<tr><td><a href="{name}.html">{title}</a>{state}</td><td>{result.seconds:.1f}</td>'
            f"<td>{result.peak_mb}</td><td>{result.claims}</td></tr>"
        )
    return (
        "<h1>llmnotes</h1><p>One language model, taken apart and put back together. Every page below was run from "
        "top to bottom on this machine; every claim on it was checked in that run.</p><table><tr><th>lesson</th>"
        "<th>seconds</th><th>peak MB</th><th>claims held</th></tr>" + "".join(rows) + "</table>"
    )
