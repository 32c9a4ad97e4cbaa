"""Matches as they are shown: JSON lines, CSV, tab-separated lines, and a table on a terminal.

One idea: nothing waits for the last match. A table needs the widths of its columns; they are those of the first page,
which is shown when it is full, or when the next match comes after a moment.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from dicomnet.cli.output import Output, printable

if TYPE_CHECKING:
    from dicomnet import EncodedDataset
    from dicomnet.retrieval.queries import Query

_PAGE: Final = 50  # rows that decide how wide the columns are
_MOMENT: Final = 0.5  # seconds that the first of them waits for the others
_GAP: Final = "  "
_NARROWEST: Final = 8  # columns of a column that has to give room
_CUT: Final = "…"
_MOST_CHARACTERS: Final = 4  # for a column of the terminal: combining ones take none


class Matches:
    """Shows one match after the other, in a ``with`` block."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Nothing is left to be shown."""

    def add(self, match: EncodedDataset) -> None:
        """Raises InvalidDataset if it cannot be read."""
        raise NotImplementedError


def matches(query: Query, output: Output, how: str) -> Matches:
    """``how``: "table" or "csv"; JSON if ``output`` is for programs."""
    if output.json:
        return _Json(output)
    if how == "csv":
        return _Lines(query, output, csv=True)
    return _Table(query, output) if sys.stdout.isatty() else _Lines(query, output, csv=False)


class _Json(Matches):
    def __init__(self, output: Output) -> None:
        self._output = output
        self._number = 0

    def add(self, match: EncodedDataset) -> None:
        from dicomnet.retrieval.rows import json_model

        self._number += 1  # also of one that cannot be read
        self._output.event("match", number=self._number, dataset=json_model(match))


class _Lines(Matches):
    """CSV, or values with tabs between them; a line of names first, but not with ``--quiet``."""

    def __init__(self, query: Query, output: Output, *, csv: bool) -> None:
        self._query = query
        self._output = output
        self._csv = csv

    def __enter__(self) -> Self:
        if not self._output.quiet:
            self._write([str(path) for path in self._query.columns])
        return self

    def add(self, match: EncodedDataset) -> None:
        self._write(cells(match, self._query))

    def _write(self, texts: list[str]) -> None:
        from dicomnet.retrieval.rows import csv_line

        self._output.line(csv_line(texts) if self._csv else "\t".join(texts))


def cells(match: EncodedDataset, query: Query) -> list[str]:
    """A row that is one line, and cannot command a terminal."""
    from dicomnet.retrieval.rows import row

    return [printable(text) for text in row(match, query.columns)]


class _Table(Matches):
    """Columns on a terminal. UIDs are whole, since they are what is copied; the others give them room. Where that is
    not enough, columns that nobody has asked for are left out if they are empty.
    """

    def __init__(self, query: Query, output: Output) -> None:
        from rich.console import Console

        self._query = query
        self._output = output
        self._console = Console(highlight=False)
        self._page: list[list[str]] = []
        self._columns: list[_Column] = []
        self._first = 0.0
        self._waiting: Any = None

    def __enter__(self) -> Self:
        if not self._output.quiet and sys.stderr.isatty():
            from rich.console import Console

            self._waiting = Console(stderr=True).status("asking")
            self._waiting.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop_waiting()
        if self._page:
            self._show_page()

    def add(self, match: EncodedDataset) -> None:
        row = cells(match, self._query)
        if self._columns:
            self._output.line(_line(row, self._columns))
            return
        now = time.monotonic()
        self._first = self._first or now
        self._page.append(row)
        if len(self._page) >= _PAGE or now - self._first > _MOMENT:
            self._show_page()

    def _stop_waiting(self) -> None:
        if self._waiting is not None:
            self._waiting.stop()
            self._waiting = None

    def _show_page(self) -> None:
        self._stop_waiting()
        headings, columns = _headings(self._query), _columns(self._query, self._page)
        self._columns = _fitting(columns, [_length(heading) for heading in headings], self._console.width)
        if not self._output.quiet:
            self._show_headings(_line(headings, self._columns, cut_all=True))
        page, self._page = self._page, []
        for row in page:
            self._output.line(_line(row, self._columns))

    def _show_headings(self, line: str) -> None:
        from rich.text import Text

        encoding = self._console.encoding
        shown = line.encode(encoding, "replace").decode(encoding)
        self._console.print(Text(shown, style="bold"), soft_wrap=True)


@dataclass(slots=True)
class _Column:
    """``index``: in the query's columns. ``whole``: its cells are never cut. ``wanted``: it stays if it is empty."""

    index: int
    width: int
    whole: bool
    wanted: bool


def _headings(query: Query) -> list[str]:
    """The keywords; with the sequence where two columns would have the same."""
    names = [str(path.last) for path in query.columns]
    return [str(path) if names.count(name) > 1 else name for path, name in zip(query.columns, names, strict=True)]


def _columns(query: Query, rows: Sequence[Sequence[str]]) -> list[_Column]:
    """As wide as what is in them."""
    widths = [max(map(_length, column)) for column in zip(*rows, strict=True)]
    return [
        _Column(index, width, path.last.vr == "UI", index < query.chosen)
        for index, (path, width) in enumerate(zip(query.columns, widths, strict=True))
    ]


def _fitting(columns: list[_Column], headings: Sequence[int], room: int) -> list[_Column]:
    """Those of them for which there is room, as wide as can be: the widest ones give first."""

    def used() -> int:
        return sum(column.width + len(_GAP) for column in columns) - len(_GAP)

    for column in columns:  # a value of a million characters is no width to begin with
        column.whole = column.whole and column.width <= room
        column.width = min(column.width, room)
    before = {column.index: column.width for column in columns}
    for column in columns:
        column.width = max(column.width, headings[column.index])
    if used() > room:
        columns = [column for column in columns if column.wanted or before[column.index]]
    for least in (before, {}):  # headings are cut first, then what is below them
        giving = [column for column in columns if not (column.whole and least is not before)]
        while used() > room:
            can_give = [column for column in giving if column.width > max(least.get(column.index, 0), _NARROWEST)]
            if not can_give:
                break
            max(can_give, key=lambda column: column.width).width -= 1
    return columns


def _line(row: Sequence[str], columns: Sequence[_Column], *, cut_all: bool = False) -> str:
    fitted = (_fitted(row[column.index], column.width, column.whole and not cut_all) for column in columns)
    return _GAP.join(fitted).rstrip()


def _fitted(text: str, width: int, whole: bool) -> str:
    """In as many columns of the terminal, of which some characters take two."""
    from rich.cells import set_cell_size

    length = _length(text)
    if length > width and not whole:
        return set_cell_size(text[: _MOST_CHARACTERS * width], width - 1) + _CUT
    return text + " " * (width - length)


def _length(text: str) -> int:
    from rich.cells import cell_len

    return cell_len(text)
