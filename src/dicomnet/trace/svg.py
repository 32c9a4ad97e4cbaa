"""A ladder diagram as a standalone SVG: two lifelines, arrows between them, calls and callbacks beside them.

One idea: it is the picture of a walk-through, drawn from what passed. It needs nothing from elsewhere, is readable on
light and dark pages, and holds text that peers sent only escaped.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from html import escape
from typing import Final

from dicomnet.plain import seconds_text
from dicomnet.trace.diagram import Diagram, End, Step
from dicomnet.trace.ladder import local_time

_WIDTH: Final = 1180
_LEFT, _RIGHT = 430, 750  # where the lifelines are
_MIDDLE: Final = (_LEFT + _RIGHT) / 2
_TIME: Final = 84  # where offsets end
_TOP: Final = 152  # where the first step is
_SLANT: Final = 8  # px that an arrow falls: what is received is later than what is sent
_LINE: Final = 15  # px from one line of small text to the next
_CALL: Final = 45  # characters of a call, beside a lifeline
_REMARK: Final = 50  # characters of a remark, between the lifelines
_NAME: Final = 38  # characters of what stands in a band between the lifelines
_CONTEXT: Final = 92  # characters of a presentation context
_CONTEXTS: Final = 12  # that are listed
_BOX: Final = (_LEFT - 160, _RIGHT + 160)  # from where to where the negotiation's box goes
_STYLE: Final = """
.ladder .page { fill: #ffffff } .ladder .box { fill: #f6f8fa; stroke: #d0d7de }
.ladder text { font: 12px system-ui, sans-serif; fill: #24292f; stroke: none }
.ladder .title { font-size: 17px; font-weight: 600 } .ladder .head { font-size: 14px; font-weight: 600 }
.ladder .small, .ladder .time { fill: #57606a; font-size: 11.5px }
.ladder .time { font-variant-numeric: tabular-nums }
.ladder .mono { font: 12px ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace }
.ladder .call { fill: #0550ae } .ladder .told { fill: #116329 } .ladder .no { fill: #cf222e }
.ladder .yes { fill: #116329 } .ladder .name { font-size: 12.5px; font-weight: 600 }
.ladder .life { stroke: #8c959f; stroke-width: 1.5 } .ladder .tick { stroke: #d0d7de; stroke-dasharray: 1 4 }
.ladder .arrow { stroke-width: 1.8; fill: none; stroke: #57606a } .ladder .tip { fill: #57606a }
.ladder .association .arrow { stroke: #8250df } .ladder .association .tip { fill: #8250df }
.ladder .request .arrow { stroke: #0969da } .ladder .request .tip { fill: #0969da }
.ladder .response .arrow, .ladder .pending .arrow { stroke: #1a7f37 }
.ladder .response .tip, .ladder .pending .tip { fill: #1a7f37 }
.ladder .warning .arrow { stroke: #bc4c00 } .ladder .warning .tip, .ladder .warning .name { fill: #bc4c00 }
.ladder .failure .arrow { stroke: #cf222e; stroke-width: 2.6 }
.ladder .failure .tip, .ladder .failure .name, .ladder .failure .small { fill: #cf222e }
.ladder .connection .arrow { stroke-dasharray: 5 4 }
.ladder .band { fill: #f6f8fa; stroke: #8c959f; stroke-dasharray: 4 3 }
.ladder .fault .band { fill: #fff0f6; stroke: #bf3989 } .ladder .fault .name { fill: #bf3989 }
.ladder .failure .band { fill: #ffebe9; stroke: #cf222e }
@media (prefers-color-scheme: dark) {
.ladder .page { fill: #0d1117 } .ladder .box, .ladder .band { fill: #161b22; stroke: #30363d }
.ladder text { fill: #e6edf3 } .ladder .small, .ladder .time { fill: #9198a1 }
.ladder .call { fill: #79c0ff } .ladder .told, .ladder .yes { fill: #7ee787 } .ladder .no { fill: #ff7b72 }
.ladder .tick { stroke: #30363d }
.ladder .association .arrow { stroke: #ab7df8 } .ladder .association .tip { fill: #ab7df8 }
.ladder .request .arrow { stroke: #4493f8 } .ladder .request .tip { fill: #4493f8 }
.ladder .response .arrow, .ladder .pending .arrow { stroke: #3fb950 }
.ladder .response .tip, .ladder .pending .tip { fill: #3fb950 }
.ladder .failure .tip, .ladder .failure .name, .ladder .failure .small { fill: #ff7b72 }
.ladder .failure .arrow { stroke: #ff7b72 } .ladder .failure .band { fill: #3c1618 }
.ladder .warning .tip, .ladder .warning .name { fill: #f0883e } .ladder .fault .band { fill: #351827 }
}
"""


def svg(diagram: Diagram) -> str:
    """The picture of an association, as a file of its own."""
    y: float = _TOP
    parts: list[str] = []
    for step in diagram.steps:
        drawn, height = _step(step, y)
        parts += drawn
        y += height
    if diagram.left_out:
        parts += _band(f"{diagram.left_out:,} more steps are not drawn", "fold", y)
        y += 34
    height = y + 24
    head = [
        f'<svg xmlns="http://www.w3.org/2000/svg" class="ladder" viewBox="0 0 {_WIDTH} {height:.0f}" role="img">',
        f"<title>{escape(title(diagram))}</title><style>{_STYLE}</style>",
        f'<rect class="page" width="{_WIDTH}" height="{height:.0f}" rx="6"/>',
        *_heading(diagram),
        *(f'<path class="life" d="M{x} {_TOP - 34}V{height - 20:.0f}"/>' for x in (_LEFT, _RIGHT)),
    ]
    return "\n".join([*head, *parts, "</svg>"]) + "\n"


def title(diagram: Diagram) -> str:
    """What the association is called: who calls whom."""
    who = diagram.requestor.title or diagram.requestor.address or "?"
    whom = diagram.acceptor.title or diagram.acceptor.address or "?"
    return f"{who} calls {whom}"


def subtitle(diagram: Diagram) -> str:
    """When it was, how long it took, and what passed."""
    moment = local_time(diagram.began or 0.0)
    began = "at no time" if moment is None else moment.strftime("%Y-%m-%d %H:%M:%S")
    count = sum(diagram.totals.messages.values())
    messages = f"{count:,} message{'' if count == 1 else 's'}"
    return f"connection {diagram.connection}, {began}, {seconds_text(diagram.totals.seconds)}, {messages}"


def _heading(diagram: Diagram) -> Iterator[str]:
    yield _text(24, 34, title(diagram)[:90], "title")
    yield _text(24, 54, subtitle(diagram), "small")
    yield _text(_WIDTH - 24, 34, "what the program calls", "mono call", "end")
    yield _text(_WIDTH - 24, 52, "what it is told", "mono told", "end")
    yield from _end("requestor", diagram.requestor, _LEFT)
    yield from _end("acceptor", diagram.acceptor, _RIGHT)


def _end(what: str, end: End, x: int) -> Iterator[str]:
    yield f'<rect class="box" x="{x - 115}" y="64" width="230" height="54" rx="6"/>'
    yield _text(x, 84, f"{end.title or '?'} ({what})"[:34], "head", "middle")
    yield _text(x, 101, _cut(", ".join(filter(None, (end.address, end.product))), 40), "small", "middle")


def _step(step: Step, y: float) -> tuple[list[str], float]:
    """What is drawn for a step whose place is ``y``, and how much room it takes."""
    if step.kind == "silence":
        return list(_silence(step, y)), 34
    if step.to_right is None:
        text = f"{step.name}: {step.remark}" if step.name else step.remark
        lines = textwrap.wrap(text, 2 * _REMARK)[:1] or [""]
        return [_offset(step, y), *_calls(step, y, y), *_band(lines[0], step.kind, y, text)], 42
    remarks = textwrap.wrap(step.remark, _REMARK)[:3]
    drawn = [
        f'<g class="{step.kind}">',
        _offset(step, y),
        f'<path class="tick" d="M{_TIME + 8} {y:.0f}H{_LEFT if step.to_right else _RIGHT}"/>' if not step.left else "",
        *_arrow(step, y),
        _text(_MIDDLE, y - 5, step.name, "name", "middle"),
        *(_text(_MIDDLE, y + 22 + _LINE * row, line, "small", "middle") for row, line in enumerate(remarks)),
        *_calls(step, y, y + _SLANT),
        "</g>",
    ]
    height = 52 + _LINE * max(0, len(remarks) - 1) - (0 if remarks else 12)
    if step.contexts:
        box, room = _contexts(step, y + height - 16)
        return [part for part in drawn if part] + box, height + room
    return [part for part in drawn if part], height


def _offset(step: Step, y: float) -> str:
    return _text(_TIME, y + 4, f"+{step.offset:.3f} s", "time", "end")


def _arrow(step: Step, y: float) -> Iterator[str]:
    start, end, way = (_LEFT, _RIGHT, 1) if step.to_right else (_RIGHT, _LEFT, -1)
    low = y + _SLANT
    yield f'<path class="arrow" d="M{start} {y:.0f}L{end - 8 * way} {low - 0.2:.1f}"/>'
    yield f'<path class="tip" d="M{end} {low:.0f}l{-11 * way} -5.5l{0.8 * way:.1f} 10.6z"/>'


def _calls(step: Step, y: float, received: float) -> Iterator[str]:
    """The call stands where its arrow begins, the callback where it ends."""
    called_left = step.to_right is not False
    for text, x, anchor, calls in (
        (step.left, _LEFT - 14, "end", called_left),
        (step.right, _RIGHT + 14, "start", not called_left),
    ):
        if text:
            is_call = calls and step.to_right is not None
            place = y if is_call else received
            yield _text(x, place + 4, _cut(text, _CALL), f"mono {'call' if is_call else 'told'}", anchor)


def _band(text: str, kind: str, y: float, whole: str = "") -> Iterator[str]:
    left = _LEFT + 12 if len(text) <= _NAME else _LEFT - 130
    width = 2 * (_MIDDLE - left)
    yield f'<g class="{kind}"><title>{escape(whole or text)}</title>'
    yield f'<rect class="band" x="{left}" y="{y - 11:.0f}" width="{width:.0f}" height="23" rx="11"/>'
    yield _text(_MIDDLE, y + 5, text, "name", "middle") + "</g>"


def _silence(step: Step, y: float) -> Iterator[str]:
    for x in (_LEFT, _RIGHT):
        yield f'<rect class="page" x="{x - 3}" y="{y - 14:.0f}" width="6" height="18"/>'
        yield f'<path class="life" stroke-dasharray="1.5 4" d="M{x} {y - 14:.0f}v18"/>'
    yield _text(_MIDDLE, y - 1, f"nothing for {step.remark}", "small", "middle")


def _contexts(step: Step, y: float) -> tuple[list[str], float]:
    """The negotiation: which presentation contexts were accepted, and why others were not."""
    rows = step.contexts[:_CONTEXTS]
    more = step.contexts[_CONTEXTS:]
    height = 30 + 17 * (len(rows) + bool(more))
    left, right = _BOX
    drawn = [
        f'<rect class="box" x="{left}" y="{y:.0f}" width="{right - left}" height="{height}" rx="6"/>',
        _text(left + 16, y + 19, "presentation contexts", "small"),
    ]
    for row, (accepted, text) in enumerate(rows):
        place = y + 37 + 17 * row
        drawn.append(_text(left + 16, place, "✓" if accepted else "✗", "yes" if accepted else "no"))
        drawn.append(_text(left + 34, place, _cut(text, _CONTEXT), "plain" if accepted else "no"))
    if more:
        taken = sum(accepted for accepted, _ in more)
        text = f"and {len(more)} more: {taken} accepted, {len(more) - taken} refused"
        drawn.append(_text(left + 34, y + 37 + 17 * len(rows), text, "small"))
    return drawn, height + 20


def _cut(text: str, room: int) -> str:
    return text if len(text) <= room else text[: room - 1] + "…"


def _text(x: float, y: float, text: str, style: str, anchor: str = "start") -> str:
    return f'<text class="{style}" x="{x:.0f}" y="{y:.0f}" text-anchor="{anchor}">{escape(text)}</text>'
