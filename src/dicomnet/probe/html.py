"""A page as one HTML file: nothing is loaded from elsewhere, nothing runs, and it can be printed.

One idea: there is one door through which a text gets into the file, and it escapes.
"""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from typing import Final

from dicomnet.probe.blocks import Block, Commands, Fact, Lines, Numbered, Page, Paragraph, Section, Table

_STYLE: Final = """
:root { color-scheme: light; --line: #d6dae0; --quiet: #5a6472; --good: #14713c; --bad: #b3261e; --doubtful: #8a5a00; }
* { box-sizing: border-box; }
body { font: 15px/1.45 system-ui, "Segoe UI", Helvetica, Arial, sans-serif; color: #1c2430; background: #fff;
  max-width: 62rem; margin: 2rem auto; padding: 0 1.25rem; }
h1 { font-size: 1.35rem; margin: 0; overflow-wrap: anywhere; }
h2 { font-size: 1rem; margin: 1.6rem 0 .5rem; padding-bottom: .2rem; border-bottom: 1px solid var(--line); }
.subtitle { color: var(--quiet); margin: .15rem 0 1rem; overflow-wrap: anywhere; }
.verdict { font-size: 1.1rem; padding: .7rem 1rem; border-left: .35rem solid; background: #f5f7f9; margin: 0;
  overflow-wrap: anywhere; }
.verdict.good { border-color: var(--good); } .verdict.bad { border-color: var(--bad); }
dl { display: grid; grid-template-columns: minmax(9rem, 16rem) 1fr; gap: .2rem 1rem; margin: .3rem 0; }
dt { color: var(--quiet); overflow-wrap: anywhere; } dd { margin: 0; overflow-wrap: anywhere; }
dd.good { color: var(--good); } dd.bad { color: var(--bad); } dd.doubtful { color: var(--doubtful); }
ol, ul { margin: .3rem 0; padding-left: 1.5rem; } li { margin: .25rem 0; overflow-wrap: anywhere; }
code, pre { font: 12.5px/1.4 ui-monospace, Menlo, Consolas, monospace; }
li code { display: inline-block; background: #f0f2f5; padding: .1rem .45rem; border-radius: .25rem; }
pre { background: #f5f7f9; padding: .6rem .8rem; overflow-x: auto; margin: .5rem 0; white-space: pre-wrap; }
table { border-collapse: collapse; width: 100%; font-size: .87rem; }
th, td { text-align: left; vertical-align: top; padding: .2rem .6rem .2rem 0; border-bottom: 1px solid var(--line);
  overflow-wrap: anywhere; }
td:first-child { width: 45%; }
@media print { body { margin: 0; max-width: none; font-size: 11px; } pre, code { font-size: 9px; }
  h2, dt { break-after: avoid; } tr, li { break-inside: avoid; } }
"""
# Even if something did get in: nothing is loaded, nothing runs.
_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'"


def document(page: Page) -> str:
    """The whole file."""
    return "\n".join(
        (
            "<!DOCTYPE html>",
            '<html lang="en">',
            "<head>",
            '<meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{escape(_POLICY)}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(page.title)}</title>",
            f"<style>{_STYLE}</style>",
            "</head>",
            "<body>",
            _element("h1", page.title),
            _element("p", page.subtitle, "subtitle"),
            _element("p", page.verdict, f"verdict {page.tone}"),
            *(line for section in page.sections for line in _section(section)),
            "</body>",
            "</html>",
            "",
        )
    )


def _element(name: str, text: str, kind: str = "") -> str:
    """The door."""
    of_class = f' class="{escape(kind)}"' if kind else ""
    return f"<{name}{of_class}>{escape(text)}</{name}>"


def _section(section: Section) -> Iterator[str]:
    yield "<section>"
    yield _element("h2", section.heading)
    facts: list[Fact] = []
    for block in section.blocks:
        if isinstance(block, Fact):
            facts.append(block)
            continue
        yield from _facts(facts)
        facts = []
        yield from _block(block)
    yield from _facts(facts)
    yield "</section>"


def _facts(facts: list[Fact]) -> Iterator[str]:
    if facts:
        yield "<dl>"
        for fact in facts:
            yield _element("dt", fact.label)
            yield _element("dd", fact.text, fact.tone)
        yield "</dl>"


def _block(block: Block) -> Iterator[str]:
    match block:
        case Paragraph(text):
            yield _element("p", text)
        case Numbered(items):
            yield "<ol>"
            yield from (_element("li", item) for item in items)
            yield "</ol>"
        case Commands(steps):
            yield "<ul>"
            for step in steps:
                command = f"<br>{_element('code', step.command)}" if step.command else ""
                yield f"<li>{_element('span', step.what)}{command}</li>"
            yield "</ul>"
        case Table(heads, rows):
            yield "<table>"
            yield "<thead><tr>" + "".join(_element("th", head) for head in heads) + "</tr></thead><tbody>"
            yield from ("<tr>" + "".join(_element("td", cell) for cell in row) + "</tr>" for row in rows)
            yield "</tbody></table>"
        case Lines(rows):
            yield _element("pre", "\n".join(rows))
