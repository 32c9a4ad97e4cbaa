"""Matches as they are shown: JSON lines, CSV, tab-separated lines, and a table on a terminal.

One idea: nothing waits for the last match. A table needs the widths of its columns; they are those of the first page,
which is shown when it is full, or after a moment.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from dicomnet.cli.output import Output, printable

if TYPE_CHECKING:
    from dicomnet import EncodedDataset
    from dicomnet.retrieval.queries import Query

_PAGE: Final = 50  # rows that decide how wide the columns are
_MOMENT: Final = 0.5  # seconds that the first of them waits for others
_GAP: Final = "  "
_NARROWEST: Final = 8  # columns of a column that has to give room
_CUT: Final = "…"
_SPINNER: Final = "⠋"  # one of the characters that rich has for it
_MOST_OF_ROOM: Final = 0.6  # that a UID may take which nobody has asked for
_LONGEST_UID: Final = 64  # characters
_ASCII_CUT: Final = "~"
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
    not enough, columns that nobody has asked for are left out: empty ones, then the last ones, which is told.

    The first page is shown by whom it fills, or by a timer: a peer may take its time after the first match.
    """

    def __init__(self, query: Query, output: Output) -> None:
        from rich.console import Console

        self._query = query
        self._output = output
        self._console = Console(highlight=False)
        self._page: list[list[str]] = []
        self._left_out: list[str] = []
        self._columns: list[_Column] = []
        self._encoding = self._console.encoding
        self._cut = _CUT if _encodable(_CUT, self._encoding) else _ASCII_CUT
        self._lock = threading.Lock()  # of the page
        self._timer = threading.Timer(_MOMENT, self._overdue)
        self._timer.daemon = True
        self._waiting: Any = None

    def __enter__(self) -> Self:
        if not self._output.quiet and sys.stderr.isatty():
            from rich.console import Console

            spinner = "dots" if _encodable(_SPINNER, sys.stderr.encoding) else "line"
            self._waiting = Console(stderr=True).status("asking", spinner=spinner)
            self._waiting.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._timer.cancel()
        if self._timer.ident is not None:
            self._timer.join()
        self._stop_waiting()
        if self._page:
            self._show_page()
        if self._left_out and not self._output.quiet:
            names = ", ".join(self._left_out)
            self._output.problem(f"no room for {names}; --columns chooses what is shown")

    def add(self, match: EncodedDataset) -> None:
        row = [self._shown(text) for text in cells(match, self._query)]
        with self._lock:
            if self._columns:
                self._show_row(row)
                return
            if not self._page:
                self._timer.start()
            self._page.append(row)
            if len(self._page) >= _PAGE:
                self._timer.cancel()
                self._show_page()

    def _overdue(self) -> None:
        with self._lock:
            if self._page:
                self._show_page()

    def _shown(self, text: str) -> str:
        """With escapes for what the terminal has no characters for, so that they are counted."""
        return text if _encodable(text, self._encoding) else text.encode("ascii", "backslashreplace").decode()

    def _stop_waiting(self) -> None:
        if self._waiting is not None:
            self._waiting.stop()
            self._waiting = None

    def _show_page(self) -> None:
        self._stop_waiting()
        headings, columns = _headings(self._query), _columns(self._query, self._page)
        self._columns = _fitting(columns, [_length(heading) for heading in headings], self._console.width)
        left = {column.index for column in columns if column.filled} - {column.index for column in self._columns}
        self._left_out = [headings[index] for index in sorted(left)]
        if not self._output.quiet:
            self._show_headings(_line(headings, self._columns, self._cut, cut_all=True))
        page, self._page = self._page, []
        for row in page:
            self._show_row(row)

    def _show_row(self, row: Sequence[str]) -> None:
        self._output.line(_line(row, self._columns, self._cut))

    def _show_headings(self, line: str) -> None:
        from rich.text import Text

        self._console.print(Text(line, style="bold"), soft_wrap=True)


@dataclass(slots=True)
class _Column:
    """``index``: in the query's columns. ``whole``: its cells are never cut. ``wanted``: somebody asked for it.
    ``filled``: it has values.
    """

    index: int
    width: int
    whole: bool
    wanted: bool
    filled: bool


def _headings(query: Query) -> list[str]:
    """The keywords; with the sequence where two columns would have the same."""
    names = [str(path.last) for path in query.columns]
    return [str(path) if names.count(name) > 1 else name for path, name in zip(query.columns, names, strict=True)]


def _columns(query: Query, rows: Sequence[Sequence[str]]) -> list[_Column]:
    """As wide as what is in them."""
    widths = [max(map(_length, column)) for column in zip(*rows, strict=True)]
    return [
        _Column(index, width, path.last.vr == "UI", index < query.chosen, width > 0)
        for index, (path, width) in enumerate(zip(query.columns, widths, strict=True))
    ]


def _fitting(columns: Sequence[_Column], headings: Sequence[int], room: int) -> list[_Column]:
    """Those of them for which there is room, as wide as can be."""
    for column in columns:  # a value of a million characters is no width to begin with
        column.whole = column.whole and column.width <= max(room, _LONGEST_UID)
        column.width = min(column.width, max(room, _LONGEST_UID))
    least = {column.index: column.width for column in columns}
    fitting = list(columns)
    while True:
        for column in fitting:
            column.width = max(least[column.index], headings[column.index])
        if _narrowed(fitting, least, room):
            return fitting
        # Empty ones, then UIDs that leave no room for anything else, then the last one.
        unasked = [column for column in fitting if not column.wanted]
        others = (
            [column for column in unasked if not column.filled]
            or [column for column in unasked if column.whole and column.width > _MOST_OF_ROOM * room]
            or [column for column in unasked if not column.whole][-1:]
        )
        if not others:
            return fitting
        fitting = [column for column in fitting if column not in others]


def _narrowed(columns: Sequence[_Column], least: Mapping[int, int], room: int) -> bool:
    """Take from the widest ones, of their headings first, then of what is below them; False if that is too little."""
    used = sum(column.width + len(_GAP) for column in columns) - len(_GAP)
    for floor in (least, {}):
        giving = [column for column in columns if floor or not column.whole]
        while used > room:
            can_give = [column for column in giving if column.width > max(floor.get(column.index, 0), _NARROWEST)]
            if not can_give:
                break
            max(can_give, key=lambda column: column.width).width -= 1
            used -= 1
    return used <= room


def _line(row: Sequence[str], columns: Sequence[_Column], cut: str, *, cut_all: bool = False) -> str:
    fitted = (_fitted(row[column.index], column.width, cut, column.whole and not cut_all) for column in columns)
    return _GAP.join(fitted).rstrip()


def _fitted(text: str, width: int, cut: str, whole: bool) -> str:
    """In as many columns of the terminal, of which some characters take two."""
    from rich.cells import set_cell_size

    length = _length(text)
    if length > width and not whole:
        return set_cell_size(text[: _MOST_CHARACTERS * width], width - 1) + cut
    return text + " " * (width - length)


def _encodable(text: str, encoding: str) -> bool:
    try:
        return text.isascii() or bool(text.encode(encoding))
    except UnicodeEncodeError:
        return False


def _length(text: str) -> int:
    from rich.cells import cell_len

    return cell_len(text)
