"""A recorded dialogue as a ladder diagram: time downwards, the SCU on the left, the SCP on the right, PDUs between.

One idea: only what a ``Recorder`` wrote down is drawn. An ``on_receive`` is where the arrow of its PDU ends.
"""

from __future__ import annotations

import os
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from dicomnet.callbacks import DicomAssociate, DicomNet, NetError, PduType
from dicomnet.callbacks.recorder import Entry
from dicomnet.cli.output import size_text
from dicomnet.dataset import EncodedDataset
from dicomnet.dimse import command, messages
from dicomnet.trace.drawing import Glyphs, arrow

LEFT: Final = "SCU"  # every other name stands on the right
_NARROWEST: Final = 72  # columns; below that lines are longer than the terminal
_LONGEST: Final = 24  # characters of a text, such as a UID; of a longer one _KEPT are shown at each end
_KEPT: Final = 8
_PDUS: Final = {
    PduType.ASSOCIATE_REQUEST: "A-ASSOCIATE-RQ",
    PduType.ASSOCIATE_ACCEPT: "A-ASSOCIATE-AC",
    PduType.ASSOCIATE_REJECT: "A-ASSOCIATE-RJ",
    PduType.RELEASE_REQUEST: "A-RELEASE-RQ",
    PduType.RELEASE_RESPONSE: "A-RELEASE-RP",
    PduType.ABORT: "A-ABORT",
}


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the diagram. ``kind``: "call", "told", "wrong", "fold" or "rule", for who paints it."""

    time: str
    left: str
    arrow: str
    right: str
    kind: str


def argument_text(value: Any) -> str:
    """An argument for people: short, and without anything about a patient."""
    match value:
        case NetError() | PduType():
            return str(value.name)
        case DicomAssociate():
            return f"<{value.presentation_context_count} contexts>"
        case DicomNet():
            return "client" if value.server is not None else "scu"
        case EncodedDataset():
            return f"<{size_text(value.size)}>"
        case bytes():
            return f"<{size_text(len(value))}>"
        case os.PathLike():
            return os.path.basename(os.fsdecode(value))
        case int():
            return str(int(value))
        case str() if value.startswith("1.2.840.10008."):
            from pydicom.uid import UID

            return str(UID(value).name)
        case str() if len(value) > _LONGEST:
            return f"'{value[:_KEPT]}..{value[-_KEPT:]}'"
        case str():
            return repr(value)
        case None:
            return "None"
    return f"<{type(value).__name__}>"


def call_text(entry: Entry) -> str:
    """The call or callback with its arguments."""
    name, arguments = entry.name, entry.arguments
    if name == "on_receive":  # what was received stands on the arrow
        arguments = arguments[:2] if is_error(entry) else arguments[1:2]
    elif name == "on_receive_data":
        arguments = (arguments[0], *arguments[2:])
    elif name in ("startup", "shutdown"):
        name = f"DicomNet.{name}"
    return f"{name}({', '.join(map(argument_text, arguments))})"


def pdu_name(entry: Entry, after: Entry | None) -> str:
    """What an ``on_receive`` has received; ``after``: the entry of the same side that follows."""
    _, pdu_type, buffer = entry.arguments
    if pdu_type != PduType.DATA_TRANSFER:
        return _PDUS.get(pdu_type, "?")
    field = command.decode(buffer).get(command.COMMAND_FIELD)
    if not isinstance(field, int):
        return "P-DATA"
    name = messages.service(field & ~messages.RESPONSE) + ("-RSP" if field & messages.RESPONSE else "-RQ")
    if after is not None and after.name == "on_receive_data" and after.arguments[2] is not None:
        name += f" {size_text(after.arguments[2].size)}"
    return name


def is_error(entry: Entry) -> bool:
    """It tells of an error."""
    errors = entry.name in ("on_connect", "on_close", "on_accept", "on_secure_link_ready", "on_receive", "on_send")
    return errors and bool(entry.arguments[0])


# --- folding --------------------------------------------------------------------------------------------------------


def fold(entries: Sequence[Entry], begins: str) -> list[Entry | int]:
    """``entries``, with operations like the first one replaced by their number.

    ``begins``: the call of the SCU that begins an operation. It ends where the next one begins, or where the SCU calls
    anything else. Folded is only what was called and told in exactly the same order.
    """
    starts = [index for index, entry in enumerate(entries) if (entry.who, entry.name) == (LEFT, begins)]
    if not starts:
        return list(entries)
    first = starts[0]
    ends = [*starts[1:], _end(entries, starts[-1])]
    groups = [entries[start:end] for start, end in zip(starts, ends, strict=True)]
    pattern = _shape(groups[0])
    folded: list[Entry | int] = [*entries[:first]]
    for number, group in enumerate(groups):
        if number and _shape(group) == pattern:
            if isinstance(folded[-1], int):
                folded[-1] += 1
            else:
                folded.append(1)
        else:
            folded += group
    return [*folded, *entries[ends[-1] :]]


def _end(entries: Sequence[Entry], start: int) -> int:
    for index in range(start + 1, len(entries)):
        if entries[index].who == LEFT and entries[index].is_call:
            return index
    return len(entries)


def _shape(group: Sequence[Entry]) -> list[tuple[str, str, bool]]:
    return [(entry.who, entry.name, is_error(entry)) for entry in group]


# --- drawing --------------------------------------------------------------------------------------------------------


class Ladder:
    """Draws for a terminal of ``width`` columns. A narrow one has no room for arguments, nor for the time."""

    def __init__(self, width: int, glyphs: Glyphs) -> None:
        width = max(width, _NARROWEST)
        self._glyphs = glyphs
        self._is_narrow = width < 100
        self._time = 0 if self._is_narrow else 9
        self._middle = 28 if width >= 120 else 20 if self._is_narrow else 23
        self._side = (width - self._time - self._middle - 2) // 2

    def draw(self, entries: Sequence[Entry | int], what: str) -> Iterator[Line]:
        """``what``: the operations that a number in ``entries`` stands for."""
        yield from self._heading()
        for index, entry in enumerate(entries):
            if isinstance(entry, int):
                yield self._fold(entry, what)
            else:
                yield from self._entry(entry, self._next(entries, index))

    @staticmethod
    def _next(entries: Sequence[Entry | int], index: int) -> Entry | None:
        who = getattr(entries[index], "who", None)
        return next((one for one in entries[index + 1 :] if isinstance(one, Entry) and one.who == who), None)

    def _heading(self) -> Iterator[Line]:
        rule = self._glyphs.dash
        yield self._line("ms".rjust(self._time - 2) if self._time else "", "SCU", "", "SCP", "rule")
        yield self._line(rule * (self._time - 1), rule * self._side, rule * self._middle, rule * self._side, "rule")

    def _fold(self, count: int, what: str) -> Line:
        glyph = self._glyphs.fold
        text = f"{glyph} {count} more {what}{'s' if count > 1 else ''} {glyph}"
        return self._line("", glyph.center(self._side), text.center(self._middle), glyph.center(self._side), "fold")

    def _entry(self, entry: Entry, after: Entry | None) -> Iterator[Line]:
        verb = "calls" if entry.is_call else "told "
        short = self._is_narrow and not is_error(entry)
        text = f"{verb} {entry.name if short else call_text(entry)}"
        if entry.who not in (LEFT, "SCP"):
            text = f"{entry.who} {text}"
        indent = "  " * entry.depth
        further = indent + (" " if self._is_narrow else "    ")
        pieces = textwrap.wrap(
            text, self._side, initial_indent=indent, subsequent_indent=further, break_on_hyphens=False
        )
        kind = "wrong" if is_error(entry) else "call" if entry.is_call else "told"
        time = f"{entry.when * 1000:.2f}".rjust(self._time - 2) if self._time else ""
        arrow = self._arrow(entry, after)
        for piece in pieces:
            left, right = (piece, "") if entry.who == LEFT else ("", piece)
            yield self._line(time, left, arrow, right, kind)
            time = arrow = ""

    def _arrow(self, entry: Entry, after: Entry | None) -> str:
        if entry.name == "on_accept":
            name = "TCP"
        elif entry.name == "on_receive":
            name = pdu_name(entry, after)
        else:
            return ""
        room = self._middle - 2
        if len(name) + 3 > room:
            name = name.partition(" ")[0]  # without the size
        if entry.who == LEFT:
            return arrow(name, room, self._glyphs, to_right=False).ljust(self._middle)
        return "  " + arrow(name, room, self._glyphs, to_right=True)

    def _line(self, time: str, left: str, arrow: str, right: str, kind: str) -> Line:
        return Line(time.ljust(self._time), left.ljust(self._side) + " ", arrow.ljust(self._middle) + " ", right, kind)
