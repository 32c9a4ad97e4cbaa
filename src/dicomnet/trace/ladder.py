"""Records as lines for a terminal or a pipe: time downwards, the requestor on the left, the acceptor on the right.

One idea: a line is made when its record is, so that a dialogue can be watched; what is folded is told when it ends, and
``status`` says how far it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from dicomnet.plain import seconds_text
from dicomnet.trace.drawing import Glyphs, arrow, fitted
from dicomnet.trace.exchanges import Seen
from dicomnet.trace.folding import Fold, Folder
from dicomnet.trace.records import Closed, Fault, Garbage, Message, Opened, Pdu
from dicomnet.trace.wording import contexts, details, kind, name, remark
from dicomnet.ul.pdu import PduType

SILENCE: Final = 1.0  # seconds; a longer gap on a connection gets a line of its own
REFUSED: Final = 8  # presentation contexts that are named without being asked for
_TIME: Final = 12  # columns of HH:MM:SS.mmm
_NO_CLOCK: Final = "--:--:--.---"
_ARROW: Final = 26  # columns between the lifelines; A-ASSOCIATE-RQ needs 18


@dataclass(frozen=True, slots=True)
class Line:
    """A line. ``kind``: of ``wording.kind``, or "detail", "fold" or "rule", for who paints it."""

    time: str
    connection: int
    rung: str
    remark: str
    kind: str

    def __str__(self) -> str:
        return f"{self.time:{_TIME}} {self.connection or '':>3} {self.rung} {self.remark}".rstrip()


class Ladder:
    """Draws all connections.

    ``width``: columns, None for lines of any length; ``show_all``: nothing is folded; ``verbose``: 1 adds what PDUs and
    command sets hold, 2 every P-DATA-TF; ``phi``: data sets, too.
    """

    def __init__(
        self, glyphs: Glyphs, *, width: int | None = None, show_all: bool = False, verbose: int = 0, phi: bool = False
    ) -> None:
        self._glyphs = glyphs
        self.width = width
        self._show_all = show_all
        self._verbose = verbose
        self._phi = phi
        self._folders: dict[int, Folder] = {}

    def heading(self) -> Iterator[Line]:
        middle = "requestor" + "acceptor".rjust(_ARROW + 2 - len("requestor"))
        yield Line("time", 0, middle, "", "rule")

    def draw(self, seen: Seen) -> Iterator[Line]:
        """The lines that a record adds."""
        connection = seen.record.connection
        for item in self._shown(seen):
            yield from self._item(item)
        if isinstance(seen.record, Closed):
            self._folders.pop(connection, None)

    def _shown(self, seen: Seen) -> list[Seen | Fold]:
        record = seen.record
        if self._verbose > 1 or self._show_all:
            quiet = isinstance(record, Pdu) and record.type == PduType.P_DATA_TF and not record.problem
            return [] if quiet and self._verbose < 2 else [seen]
        return self._folders.setdefault(record.connection, Folder()).take(seen)

    def _item(self, item: Seen | Fold) -> Iterator[Line]:
        if isinstance(item, Fold):
            yield self._fold(item)
        else:
            yield from self._lines(item)

    def finish(self) -> Iterator[Line]:
        """What is still folded."""
        for folder in self._folders.values():
            for item in folder.flush():
                yield from self._item(item)

    def status(self) -> str:
        """What is being folded, in one line; empty if nothing is."""
        folds = [fold for folder in list(self._folders.values()) if (fold := folder.open) is not None]
        text = "   ".join(f"{fold.connection}: {fold.text()}" for fold in folds)
        return text if self.width is None else fitted(text, self.width, self._glyphs)

    def _lines(self, seen: Seen) -> Iterator[Line]:
        record = seen.record
        if seen.gap is not None and seen.gap >= SILENCE:
            yield self._line(record.connection, "", self._note(f"{seconds_text(seen.gap)} silence"), "", "fold")
        sort = kind(seen)
        yield self._line(record.connection, clock(record.time), self._rung(seen), remark(seen), sort)
        if not self._verbose:
            yield from self._refused(seen)
        else:
            for text in self._details(seen):
                yield self._line(record.connection, "", self._note(""), text, "detail")

    def _refused(self, seen: Seen) -> Iterator[Line]:
        """Presentation contexts without which things will not work: told also where nothing else is told in detail."""
        refused = [text for accepted, text in contexts(seen) if not accepted]
        for text in refused[:REFUSED]:
            yield self._line(seen.record.connection, "", self._note(""), f"  refused: {text}", "warning")
        if len(refused) > REFUSED:
            more = f"  refused: {len(refused) - REFUSED} more; all with -v"
            yield self._line(seen.record.connection, "", self._note(""), more, "warning")

    def _details(self, seen: Seen) -> list[str]:
        if isinstance(seen.record, Garbage) and self._verbose < 2:
            return []
        return details(seen, phi=self._phi)

    def _rung(self, seen: Seen) -> str:
        record, line = seen.record, self._glyphs.lifeline
        if isinstance(record, Pdu | Message | Garbage):
            return f"{line}{arrow(name(seen), _ARROW, self._glyphs, to_right=record.from_requestor)}{line}"
        if isinstance(record, Opened):
            return f"{line}{arrow('TCP', _ARROW, self._glyphs, to_right=True)}{line}"
        text = "fault" if isinstance(record, Fault) else name(seen)
        return self._note(f"[{text}]")

    def _note(self, text: str) -> str:
        return f"{self._glyphs.lifeline}{text.center(_ARROW)}{self._glyphs.lifeline}"

    def _fold(self, fold: Fold) -> Line:
        return self._line(fold.connection, clock(fold.ended), self._note(self._glyphs.fold), fold.text(), "fold")

    def _line(self, connection: int, time: str, rung: str, text: str, sort: str) -> Line:
        if self.width is not None:
            text = fitted(text, max(8, self.width - _TIME - _ARROW - 8), self._glyphs)
        return Line(time, connection, rung, text, sort)


def clock(time: float) -> str:
    """The local time of day, to the millisecond."""
    moment = local_time(time)
    return _NO_CLOCK if moment is None else moment.strftime("%H:%M:%S.%f")[:-3]


def local_time(time: float) -> datetime | None:
    """None for what no calendar has: a damaged capture may say anything."""
    try:
        return datetime.fromtimestamp(time)
    except (OverflowError, OSError, ValueError):
        return None
