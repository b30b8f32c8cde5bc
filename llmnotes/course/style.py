"""What the pages look like, on a wide screen and on a phone."""

STYLE = """\
:root { color-scheme: light; --ink: #1b1b1b; --paper: #fff; --soft: #f5f5f2; --line: #d8d8d2; --link: #0060a0; }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; scroll-padding-top: 1rem; }
body { font: 17px/1.6 system-ui, sans-serif; color: var(--ink); background: var(--paper); margin: 0 auto;
       max-width: 60rem; padding: 1.5rem; overflow-wrap: break-word; }
a { color: var(--link); }
h1, h2, h3 { line-height: 1.25; margin-top: 2.2rem; }
.anchor-link { display: none; }
p:has(> a[id]:only-child:empty) { margin: 0; height: 0; }
nav { font-size: .9rem; border-bottom: 1px solid var(--line); padding-bottom: .6rem; }

pre { overflow-x: auto; font: 14px/1.45 ui-monospace, monospace; margin: .4rem 0; padding: .7rem .9rem; }
code { font: .88em ui-monospace, monospace; background: var(--soft); padding: .1em .25em; }
pre code { padding: 0; font-size: 1em; }
div.highlight pre, details pre { background: var(--soft); border: 1px solid var(--line); }
.output_subarea pre { padding-left: 1rem; }
pre.words { white-space: pre-wrap; }
.prompt { display: none; }

table { border-collapse: collapse; margin: 1rem 0; display: block; max-width: 100%; overflow-x: auto; }
td, th { border-bottom: 1px solid var(--line); padding: .3rem .8rem; }
td { font-variant-numeric: tabular-nums; }
blockquote { border-left: 4px solid var(--line); margin-left: 0; margin-right: 0; padding-left: 1rem; }
details { background: var(--soft); padding: .5rem 1rem; border-radius: 6px; }
summary { cursor: pointer; }

img { max-width: 100%; height: auto; vertical-align: middle; }
figure { margin: 1.2rem 0; }
.glossary dt { margin-top: 1.1rem; } .glossary dd { margin-left: 1rem; }
figcaption { font-style: italic; margin-top: .5rem; max-width: 46rem; }
.formula { overflow-x: auto; overflow-y: hidden; padding: .35rem 0; margin: .6rem 0; }
math { font-family: "STIX Two Math", "Cambria Math", "Latin Modern Math", "DejaVu Math TeX Gyre", math; }
math[display="block"] { font-size: 1.1em; width: max-content; margin: 0 auto; }
.failed { color: #b00020; font-weight: 600; }

@media (max-width: 34rem) {
  body { font-size: 16px; padding: 1rem; }
  h1 { font-size: 1.6rem; } h2 { font-size: 1.3rem; }
  pre { font-size: 13px; padding: .6rem; }
  td, th { padding: .3rem .5rem; }
  ul, ol { padding-left: 1.4rem; }
}
"""
