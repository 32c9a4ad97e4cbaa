"""A small writer of line charts as SVG, readable on light and dark pages alike."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

_WIDTH, _HEIGHT = 720, 400
_LEFT, _RIGHT, _TOP, _BOTTOM = 72, 132, 48, 56  # margins; to the right stand the lines' names
_LABEL = 18  # px between two names at least
_SHAPES = (  # a line's marks: told apart without colours, too
    '<circle cx="{x:.1f}" cy="{y:.1f}" r="4"/>',
    '<rect x="{x:.1f}" y="{y:.1f}" width="8" height="8" transform="translate(-4 -4)"/>',
    '<path d="M{x:.1f} {y:.1f}m0 -5l5 9h-10z"/>',
)
_STYLE = """
.page { fill: #ffffff } .grid { stroke: #d8dee4 } .text { fill: #24292f }
.line0 { stroke: #0969da; fill: #0969da }
.line1 { stroke: #bc4c00; fill: #bc4c00 }
.line2 { stroke: #6e7781; fill: #6e7781 }
@media (prefers-color-scheme: dark) {
.page { fill: #0d1117 } .grid { stroke: #30363d } .text { fill: #e6edf3 }
.line0 { stroke: #58a6ff; fill: #58a6ff }
.line1 { stroke: #f0883e; fill: #f0883e }
.line2 { stroke: #8b949e; fill: #8b949e }
}
text { font: 13px system-ui, sans-serif; stroke: none } .title { font-size: 15px; font-weight: 600 }
polyline { fill: none; stroke-width: 2 } .grid { stroke-width: 1 }
"""

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class _Axis:
    """From values to pixels: `start` is where the least value stands, `end` where the most."""

    least: float
    most: float
    start: float
    end: float
    log: bool

    def place(self, value: float) -> float:
        """Where a value stands."""
        scale: Callable[[float], float] = math.log10 if self.log else float
        least, most = scale(self.least), scale(self.most)
        share = (scale(value) - least) / (most - least)
        return self.start + share * (self.end - self.start)


def line_chart(
    lines: Sequence[tuple[str, Points]], *, title: str, x: str, y: str, log_x: bool = False, log_y: bool = False
) -> str:
    """Lines of (x, y) points, each with its name at its right end. Logarithmic axes take positive values alone."""
    xs = sorted({point[0] for _, points in lines for point in points})
    ys = [point[1] for _, points in lines for point in points]
    rows = _ticks(min(ys), max(ys), log=log_y)
    across = _Axis(xs[0], xs[-1] if len(xs) > 1 else xs[0] + 1, _LEFT, _WIDTH - _RIGHT, log_x)
    up = _Axis(rows[0], rows[-1], _HEIGHT - _BOTTOM, _TOP, log_y)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img">',
        f"<title>{escape(title)}</title><style>{_STYLE}</style>",
        f'<rect class="page" width="{_WIDTH}" height="{_HEIGHT}" rx="6"/>',
        _text(_LEFT, 28, title, "text title"),
        *_grid(across, up, xs, rows),
        _text((_LEFT + _WIDTH - _RIGHT) / 2, _HEIGHT - 14, x, "text", "middle"),
        _text(_LEFT - 8, 28, y, "text", "end"),
    ]
    ends = _apart([up.place(points[-1][1]) for _, points in lines])
    for number, ((name, points), end) in enumerate(zip(lines, ends, strict=True)):
        places = [(across.place(px), up.place(py)) for px, py in points]
        shape = _SHAPES[number % len(_SHAPES)]
        parts.append(f'<g class="line{number % len(_SHAPES)}">')
        parts.append(f'<polyline points="{" ".join(f"{px:.1f},{py:.1f}" for px, py in places)}"/>')
        parts += [shape.format(x=px, y=py) for px, py in places]
        parts.append(_text(places[-1][0] + 12, end + 4, name, "name") + "</g>")
    return "\n".join([*parts, "</svg>"]) + "\n"


def _grid(across: _Axis, up: _Axis, xs: Sequence[float], rows: Sequence[float]) -> list[str]:
    parts = []
    for value in rows:
        place = up.place(value)
        parts.append(f'<path class="grid" d="M{_LEFT} {place:.1f}H{_WIDTH - _RIGHT}"/>')
        parts.append(_text(_LEFT - 8, place + 4, _short(value), "text", "end"))
    for value in xs:
        place = across.place(value)
        parts.append(f'<path class="grid" d="M{place:.1f} {_TOP}V{_HEIGHT - _BOTTOM}"/>')
        parts.append(_text(place, _HEIGHT - _BOTTOM + 20, _short(value), "text", "middle"))
    return parts


def _ticks(least: float, most: float, *, log: bool) -> list[float]:
    """Round values that enclose all: powers of ten, or some five steps from zero."""
    if log:
        first, last = math.floor(math.log10(least)), math.ceil(math.log10(most))
        return [10.0**power for power in range(first, max(last, first + 1) + 1)]
    rough = max(most, 1e-9) / 5
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= rough)
    return [step * number for number in range(math.ceil(most / step) + 1)]


def _apart(places: Sequence[float]) -> list[float]:
    """The places moved down so far that names do not cover each other."""
    moved = list(places)
    previous = -math.inf
    for number in sorted(range(len(places)), key=lambda number: places[number]):
        moved[number] = previous = max(places[number], previous + _LABEL)
    return moved


def _text(x: float, y: float, text: str, style: str, anchor: str = "start") -> str:
    return f'<text class="{style}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _short(value: float) -> str:
    for factor, prefix in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if value >= factor:
            return f"{value / factor:g}{prefix}"
    return f"{value:g}"
