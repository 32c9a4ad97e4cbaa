"""Pictures of associations as files: SVG and HTML, each written when its connection has ended.

One idea: the first one gets the name that was given, the next ones the same with a number; there is an end to it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from dicomnet.trace.diagram import Diagram
from dicomnet.trace.exchanges import Seen
from dicomnet.trace.page import page
from dicomnet.trace.records import Closed
from dicomnet.trace.svg import svg

MOST: Final = 100  # associations that are drawn: a proxy may run for days


class Pictures:
    """``svg``, ``html``: paths, either may be None. ``only``: the number of the one connection that is drawn, or None.

    Connections on which no PDU has passed are not drawn, unless one was asked for. ``written`` are the files.
    """

    def __init__(self, *, svg: Path | None, html: Path | None, only: int | None = None, phi: bool = False) -> None:
        self._svg, self._html, self._only, self._phi = svg, html, only, phi
        self._open: dict[int, Diagram] = {}
        self._drawn = 0
        self.written: list[Path] = []

    def add(self, seen: Seen) -> None:
        """Raises OSError if a file cannot be written."""
        number = seen.record.connection
        if self._only not in (None, number) or self._drawn >= MOST:
            return
        diagram = self._open.get(number)
        if diagram is None:
            diagram = self._open[number] = Diagram(number, self._phi)
        diagram.add(seen)
        if isinstance(seen.record, Closed):
            self._draw(self._open.pop(number))

    def finish(self) -> None:
        """Draws what has not ended. Raises OSError."""
        for number in sorted(self._open):
            self._draw(self._open.pop(number))

    def _draw(self, diagram: Diagram) -> None:
        diagram.finish()
        if self._drawn >= MOST or not (diagram.is_association or self._only):
            return
        self._drawn += 1
        self._write(self._svg, svg, diagram)
        self._write(self._html, page, diagram)

    def _write(self, path: Path | None, draw: Callable[[Diagram], str], diagram: Diagram) -> None:
        if path is None:
            return
        if self._drawn > 1:
            path = path.with_stem(f"{path.stem}-{self._drawn}")
        path.write_text(draw(diagram), encoding="utf-8")
        self.written.append(path)
