"""The report of one association as a standalone HTML page: a summary, the ladder diagram, and each step in detail.

One idea: it can be attached to a ticket. It loads nothing, runs nothing, and holds text that peers sent only escaped.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from html import escape
from typing import Final

from dicomnet.plain import printable, seconds_text, size_text
from dicomnet.trace.decoding import message_name
from dicomnet.trace.diagram import Diagram, Step
from dicomnet.trace.svg import subtitle, svg, title
from dicomnet.trace.totals import Totals
from dicomnet.trace.wording import sop_class, uid_name

_STYLE: Final = """
:root { color-scheme: light dark; --text: #24292f; --soft: #57606a; --line: #d0d7de; --page: #ffffff; --box: #f6f8fa;
  --bad: #cf222e; --good: #116329; --warn: #bc4c00; --blue: #0550ae; --violet: #8250df; --pink: #bf3989 }
@media (prefers-color-scheme: dark) { :root { --text: #e6edf3; --soft: #9198a1; --line: #30363d; --page: #0d1117;
  --box: #161b22; --bad: #ff7b72; --good: #7ee787; --warn: #f0883e; --blue: #79c0ff; --violet: #ab7df8;
  --pink: #f778ba } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--text); background: var(--page); max-width: 1180px;
  margin: 0 auto; padding: 24px }
h1 { font-size: 24px; margin: 0 } h2 { font-size: 18px; margin: 32px 0 12px } .soft { color: var(--soft) }
.tiles { display: flex; flex-wrap: wrap; gap: 12px; margin: 20px 0 }
.tile { background: var(--box); border: 1px solid var(--line); border-radius: 6px;
  padding: 10px 16px; min-width: 110px }
.tile b { display: block; font-size: 20px; font-variant-numeric: tabular-nums } .bad, .failure b { color: var(--bad) }
.tile span { color: var(--soft); font-size: 13px } .tile.bad b { color: var(--bad) }
.tile.good b { color: var(--good) }
table { border-collapse: collapse } td, th { text-align: left; padding: 4px 16px 4px 0; vertical-align: top }
th { color: var(--soft); font-weight: 500; font-size: 13px } td.number { text-align: right }
svg { width: 100%; height: auto; border: 1px solid var(--line); border-radius: 6px }
details, .plain { border-top: 1px solid var(--line); padding: 5px 8px }
summary { cursor: pointer } .plain { padding-left: 24px }
details[open] { background: var(--box) } pre { overflow-x: auto; font-size: 12.5px; margin: 8px 0 8px 16px }
.at { display: inline-block; width: 84px; text-align: right; margin-right: 14px; color: var(--soft);
  font-variant-numeric: tabular-nums; font-size: 13px }
.way { display: inline-block; width: 22px; text-align: center } .request b { color: var(--blue) }
.response b, .pending b { color: var(--good) } .warning b { color: var(--warn) } .association b { color: var(--violet) }
.fault b { color: var(--pink) }
"""


def page(diagram: Diagram) -> str:
    """The page, as a file of its own."""
    picture = svg(diagram)
    parts = [
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        # Nothing is loaded and nothing runs, whatever a peer has put into its names.
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">",
        f"<title>{escape(title(diagram))}</title><style>{_STYLE}</style></head><body>",
        f'<h1>{escape(title(diagram))}</h1><div class="soft">{escape(subtitle(diagram))}</div>',
        *_tiles(diagram),
        *_failures(diagram.totals),
        "<h2>What passed</h2>",
        picture,
        *_table("Messages", ("message", "how many"), _counted(diagram.totals)),
        *_table("Slowest responses", ("response", "SOP class", "after"), _slowest(diagram.totals)),
        "<h2>Step by step</h2>",
        '<p class="soft">A line that can be opened shows what the PDU or the message holds.</p>',
        *map(_step, diagram.steps),
    ]
    if diagram.left_out:
        parts.append(f'<div class="plain">{diagram.left_out:,} more steps are not listed.</div>')
    return "\n".join([*parts, "</body></html>"]) + "\n"


def _tiles(diagram: Diagram) -> Iterator[str]:
    totals = diagram.totals
    failed = sum(totals.failures.values())
    contexts = [accepted for step in diagram.steps for accepted, _ in step.contexts]
    yield '<div class="tiles">'
    yield _tile(seconds_text(totals.seconds), "from first to last")
    yield _tile(f"{sum(totals.messages.values()):,}", "messages")
    yield _tile(size_text(totals.dataset_bytes), "in data sets")
    if totals.dataset_bytes and totals.seconds > 0.05:
        yield _tile(f"{size_text(totals.dataset_bytes / totals.seconds)}/s", "on average")
    if contexts:
        taken = sum(contexts)
        yield _tile(f"{taken} of {len(contexts)}", "contexts accepted", "" if taken else "bad")
    yield _tile(f"{failed:,}", "failures", "bad" if failed else "good")
    if totals.unanswered:
        yield _tile(f"{totals.unanswered:,}", "without an answer", "bad")
    if totals.faults:
        yield _tile(f"{totals.faults:,}", "faults injected")
    yield "</div>"


def _tile(value: str, what: str, style: str = "") -> str:
    return f'<div class="tile {style}"><b>{escape(value)}</b><span>{escape(what)}</span></div>'


def _failures(totals: Totals) -> Iterator[str]:
    rows = [(f"{count:,} ×", reason) for reason, count in totals.failures.most_common()]
    yield from _table("What failed", ("", "what"), rows)


def _counted(totals: Totals) -> list[tuple[str, ...]]:
    return [(printable(name), f"{count:,}") for name, count in sorted(totals.messages.items())]


def _slowest(totals: Totals) -> list[tuple[str, ...]]:
    return [
        (
            message_name(message.command),
            uid_name(message.abstract_syntax or sop_class(message.command)),
            seconds_text(waited),
        )
        for waited, message in totals.slowest
    ]


def _table(heading: str, columns: Iterable[str], rows: Iterable[Iterable[str]]) -> Iterator[str]:
    """Nothing if there are no rows."""
    cells = ["".join(f"<td>{escape(cell)}</td>" for cell in row) for row in rows]
    if cells:
        yield f"<h2>{escape(heading)}</h2><table><tr>{''.join(f'<th>{escape(name)}</th>' for name in columns)}</tr>"
        yield from (f"<tr>{row}</tr>" for row in cells)
        yield "</table>"


def _step(step: Step) -> str:
    way = {True: "→", False: "←", None: ""}[step.to_right]
    text = f"nothing for {step.remark}" if step.kind == "silence" else step.remark
    line = (
        f'<span class="at">+{step.offset:.3f} s</span><span class="way">{way}</span> <b>{escape(step.name)}</b>'
        f" {escape(text)}"
    )
    if not step.details:
        return f'<div class="plain {step.kind}">{line}</div>'
    details = escape("\n".join(map(printable, step.details)))
    return f'<details class="{step.kind}"><summary>{line}</summary><pre>{details}</pre></details>'
