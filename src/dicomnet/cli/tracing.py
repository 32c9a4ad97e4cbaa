"""What ``dicomnet trace`` shows and writes of each record, and the summary. ``dicomnet.trace`` says what that is."""

from __future__ import annotations

import contextlib
import json
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import IO, Any, Final

from dicomnet.cli.output import Output, size_text
from dicomnet.plain import printable, seconds_text
from dicomnet.trace import wording
from dicomnet.trace.decoding import message_name
from dicomnet.trace.drawing import ASCII, BOXES
from dicomnet.trace.exchanges import Seen, Watcher
from dicomnet.trace.jsonable import jsonable
from dicomnet.trace.ladder import Ladder, Line
from dicomnet.trace.pictures import Pictures
from dicomnet.trace.records import Closed, Pdu, Record
from dicomnet.trace.totals import Totals
from dicomnet.ul.pdu import AssociateRq

_STYLES: Final = {
    "connection": "dim",
    "association": "cyan",
    "request": "blue",
    "response": "green",
    "pending": "green",
    "warning": "yellow",
    "failure": "bold red",
    "fault": "bold magenta",
    "fold": "dim",
    "detail": "dim",
    "rule": "bold",
}
_OF_CONNECTIONS: Final = ("cyan", "yellow", "magenta", "green", "blue", "red")
KEPT: Final = 64 * 1024  # bytes; with --phi longer data sets are not shown: identifiers are much shorter
_REFRESH: Final = 4  # times a second that the count of what is folded is shown


class Screen:
    """Lines on a terminal, and below them how far it is with what is folded."""

    def __init__(self, **options: Any) -> None:
        from rich.console import Console
        from rich.live import Live

        self._console = Console(highlight=False)
        fancy = not self._console.legacy_windows and self._console.encoding.lower().startswith("utf")
        self._ladder = Ladder(BOXES if fancy else ASCII, width=self._console.width - 1, **options)
        self._lock = threading.Lock()  # the status is drawn on a thread of its own
        self._live = Live(
            console=self._console, get_renderable=self._status, refresh_per_second=_REFRESH, transient=True
        )

    def __enter__(self) -> Screen:
        self._live.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._print(self._ladder.finish())
        self._live.stop()

    def head(self) -> None:
        self._print(self._ladder.heading())

    def show(self, seen: Seen) -> None:
        with self._lock:
            self._ladder.width = self._console.width - 1
            lines = list(self._ladder.draw(seen))
        self._print(lines)

    def _print(self, lines: Iterable[Line]) -> None:
        from rich.text import Text

        for line in lines:
            number = line.connection
            style = _STYLES[line.kind]
            mark = _OF_CONNECTIONS[(number - 1) % len(_OF_CONNECTIONS)] if number else "bold"
            text = Text.assemble(
                (f"{line.time:12} ", "dim"),
                (f"{number or '':>3} ", mark),
                (line.rung, style),
                " ",
                (line.remark, style),
            )
            self._console.print(text, soft_wrap=True)

    def _status(self) -> Any:
        from rich.text import Text

        with self._lock:
            return Text(self._ladder.status(), style="dim", no_wrap=True)


class Pipe:
    """The same as plain lines."""

    def __init__(self, output: Output, **options: Any) -> None:
        self._output = output
        self._ladder = Ladder(ASCII, **options)

    def __enter__(self) -> Pipe:
        return self

    def __exit__(self, *_error: object) -> None:
        self._print(self._ladder.finish())

    def head(self) -> None:
        self._print(self._ladder.heading())

    def show(self, seen: Seen) -> None:
        self._print(self._ladder.draw(seen))

    def _print(self, lines: Iterable[Line]) -> None:
        for line in lines:
            self._output.event("ladder", str(line))


class Viewer:
    """Takes each record, on one thread. ``closed``: how many connections have ended. ``lines``: files of JSON lines."""

    def __init__(self, output: Output, pictures: Pictures, *, phi: bool, lines: Sequence[IO[str]] = ()) -> None:
        self._output, self._pictures, self.phi, self._lines = output, pictures, phi, lines
        self._watcher = Watcher()
        self.screen: Screen | Pipe | None = None
        self.keep_datasets = KEPT if phi else 0
        self.totals = Totals()
        self.closed = 0
        self.begun = False
        self.lock = threading.Lock()  # whoever holds it has something to say first
        self.callers: frozenset[str] = frozenset()  # whose associations are shown; empty: all
        self._held: dict[int, list[Record] | bool] = {}  # by connection: its records before it is known, or the verdict

    def begin(self) -> None:
        """What the columns are."""
        self.begun = True
        if self.screen is not None:
            self.screen.head()

    def take(self, record: Record) -> None:
        """Raises OSError if a file cannot be written."""
        with self.lock:
            for wanted in self._wanted(record) if self.callers else [record]:
                self._show(wanted)
        self.closed += isinstance(record, Closed)

    def _wanted(self, record: Record) -> list[Record]:
        """The records that are known to be of ``callers`` now: a connection's are not before its first PDU."""
        number = record.connection
        held = self._held.pop(number, [])
        if isinstance(held, list) and isinstance(record, Pdu):
            records, held = (
                [*held, record],
                isinstance(record.value, AssociateRq) and record.value.calling_ae in self.callers,
            )
        elif isinstance(held, list):
            records = []
            held.append(record)
        else:
            records = [record]
        if not isinstance(record, Closed):
            self._held[number] = held
        return records if held is True else []

    def _show(self, record: Record) -> None:
        seen = self._watcher.see(record)
        self.totals.add(seen)
        if self._output.json or self._lines:
            kind, members = jsonable(seen, phi=self.phi)
            if self._output.json:
                self._output.event(kind, **members)
            for file in self._lines:
                file.write(json.dumps({"event": kind, **members}) + "\n")
                file.flush()
        if self.screen is not None:
            self.screen.show(seen)
        self._pictures.add(seen)

    def summarise(self) -> None:
        """What it came to."""
        self._pictures.finish()
        totals = self.totals
        for path in self._pictures.written:
            self._output.event("written", f"wrote {path}", path=str(path))
        self._output.event(
            "summary",
            _summary(totals),
            connections=totals.connections,
            associations=totals.associations,
            messages=dict(sorted(totals.messages.items())),
            bytes=totals.dataset_bytes,
            failures=dict(totals.failures.most_common()),
            unanswered=totals.unanswered,
            faults=totals.faults,
            seconds=round(totals.seconds, 6),
            slowest=[
                {"seconds": round(waited, 6), "name": message_name(message.command), "connection": message.connection}
                for waited, message in totals.slowest
            ],
        )
        for line in _remarks(totals):
            if not self._output.json:
                self._output.detail("ladder", line)


def _summary(totals: Totals) -> str:
    def count(number: int, what: str) -> str:
        return f"{number:,} {what}{'' if number == 1 else 's'}"

    failed = sum(totals.failures.values())
    parts = [
        count(totals.connections, "connection"),
        count(totals.associations, "association"),
        count(totals.messages.total(), "message"),
        f"{size_text(totals.dataset_bytes)} in data sets",
        count(failed, "failure"),
    ]
    if totals.unanswered:
        parts.append(f"{count(totals.unanswered, 'request')} without an answer")
    if totals.faults:
        parts.append(count(totals.faults, "fault"))
    return f"{', '.join(parts)}, in {seconds_text(totals.seconds)}"


def _remarks(totals: Totals) -> Iterator[str]:
    if totals.messages:
        yield "  " + ", ".join(f"{count:,} {printable(name)}" for name, count in sorted(totals.messages.items()))
    for reason, count in totals.failures.most_common():
        yield f"  failed {count:,} ×: {reason}"
    for waited, message in totals.slowest[:3]:
        syntax = wording.uid_name(message.abstract_syntax or wording.sop_class(message.command))
        yield f"  slow: {message_name(message.command)} after {seconds_text(waited)}, {syntax}"


def screen(output: Output, **options: Any) -> contextlib.AbstractContextManager[Screen | Pipe | None]:
    """Where the ladder is drawn; nowhere if nobody wants it."""
    if output.json or output.quiet:
        return contextlib.nullcontext()
    return Screen(**options) if sys.stdout.isatty() else Pipe(output, **options)
