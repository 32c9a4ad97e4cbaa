"""Dates and times as queries mean them: spans of time, and ranges of spans (PS3.4 C.2.2.2.5, PS3.5 6.2).

One idea: a value of low precision stands for all the moments that it may mean. "10" of VR TM is the hour from 10:00 to
10:59:59.999999, so that it lies in the range "1030-1200" as far as anybody can tell. A range matches a value if the
two have a moment in common.
"""

from __future__ import annotations

import calendar
import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

# What ACR-NEMA wrote (1993.08.22, 10:30:00) is still read (PS3.5 6.2, notes of DA and TM).
_DATE: Final = re.compile(r"(\d{4})(\.?)(0[1-9]|1[0-2])\2(0[1-9]|[12]\d|3[01])", re.ASCII)
_TIME: Final = re.compile(r"([01]\d|2[0-3])(?::?([0-5]\d)(?::?([0-5]\d|60)(?:\.(\d{1,6}))?)?)?", re.ASCII)
_MOMENT: Final = re.compile(
    r"(\d{4})(?:(0[1-9]|1[0-2])(?:(0[1-9]|[12]\d|3[01])(?:([01]\d|2[0-3])(?:([0-5]\d)(?:([0-5]\d|60)"
    r"(?:\.(\d{1,6}))?)?)?)?)?)?(\+(?:0\d|1[0-4])[0-5]\d|-(?:0\d|1[0-2])[0-5]\d)?",
    re.ASCII,
)
_OFFSET: Final = re.compile(r"([+-])(\d\d)([0-5]\d)", re.ASCII)

_START: Final = datetime(1, 1, 1)
_LEAST: Final = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Span:
    """From the first to the last moment that a value may mean, both included.

    Microseconds: of the day for TM, since the year 1 for DA and DT. ``offset``: from UTC, or None if it is not known.
    """

    first: int
    last: int
    offset: int | None = None

    def before(self, other: Span) -> bool:
        """Some moment of this one is not after every moment of the other."""
        first, last = self.first, other.last
        if self.offset is not None and other.offset is not None:
            first, last = first - self.offset, last - other.offset
        return first <= last


@dataclass(frozen=True, slots=True)
class Range:
    """All moments from the start of ``low`` to the end of ``high``; None is open (PS3.4 C.2.2.2.5)."""

    low: Span | None
    high: Span | None

    def has(self, span: Span) -> bool:
        """They have a moment in common."""
        return (self.low is None or self.low.before(span)) and (self.high is None or span.before(self.high))


_ALL_DAY: Final = Span(0, 24 * 3600 * 1_000_000 - 1)


def offset(text: str) -> int | None:
    """A Timezone Offset From UTC (0008,0201) such as ``+0100`` in microseconds; None if it is none."""
    found = _OFFSET.fullmatch(text.strip(" "))
    if found is None:
        return None
    minutes = int(found[2]) * 60 + int(found[3])
    return (-minutes if found[1] == "-" else minutes) * 60_000_000


def date(text: str, zone: int | None = None) -> Span | None:
    """The day that a DA means, or None if it is none."""
    found = _DATE.fullmatch(text.strip(" "))
    return moment(found[1] + found[3] + found[4], zone) if found else None


def time(text: str, zone: int | None = None) -> Span | None:
    """The part of a day that a TM means, or None if it is none."""
    found = _TIME.fullmatch(text.strip(" "))
    if found is None:
        return None
    hour, minute, second, fraction = found.groups()
    first = _micros(hour, minute or "0", second or "0", fraction or "")
    last = _micros(hour, minute or "59", second or "59", (fraction or "").ljust(6, "9"))
    return Span(first, last, zone)


def moment(text: str, zone: int | None = None) -> Span | None:
    """The time that a DT means, or None if it is none. ``zone``: the offset where the value itself has none."""
    found = _MOMENT.fullmatch(text.strip(" "))
    if found is None or found[1] == "0000":
        return None
    year, month, day, hour, minute, second, fraction, own = found.groups()
    last_month = int(month or 12)
    last_day = int(day or calendar.monthrange(int(year), last_month)[1])
    try:
        start = datetime(int(year), int(month or 1), int(day or 1))
        end = datetime(int(year), last_month, last_day)
    except ValueError:  # 30 February
        return None
    first = (start - _START) // _LEAST + _micros(hour or "0", minute or "0", second or "0", fraction or "")
    last_time = _micros(hour or "23", minute or "59", second or "59", (fraction or "").ljust(6, "9"))
    return Span(first, (end - _START) // _LEAST + last_time, offset(own) if own else zone)


def moment_of(day: str, time_of_day: str, zone: int | None = None) -> Span | None:
    """The time that a DA and a TM mean together: all of the day if the TM is empty. None if one of them is none."""
    on = date(day)
    at = time(time_of_day) if time_of_day.strip(" ") else _ALL_DAY
    return Span(on.first + at.first, on.first + at.last, zone) if on and at else None


def _micros(hour: str, minute: str, second: str, fraction: str) -> int:
    seconds = (int(hour) * 60 + int(minute)) * 60 + min(int(second), 59)  # a leap second counts as the one before it
    return seconds * 1_000_000 + int(fraction.ljust(6, "0"))


def ends(text: str, vr: str) -> tuple[str, str] | None:
    """Both ends of a range, "" for an open one; None if the text is a single value.

    In a DT a hyphen may also begin an offset from UTC. It is one where it can be one: four digits up to 1200, at the
    end or before another hyphen. So "2001-1200" is a moment and "2001-2003" a range.
    """
    text = text.strip(" ")
    if vr != "DT":
        low, hyphen, high = text.partition("-")
        return (low.strip(" "), high.strip(" ")) if hyphen else None
    if text.startswith("-"):
        return "", text[1:].strip(" ")
    found = _MOMENT.match(text)
    rest = text[found.end() :].lstrip(" ") if found else ""
    if found and not rest.startswith("-") and rest and found[8]:  # 2001-10300101…: no offset after all
        rest = text[found.start(8) :]
    if found is None or not rest.startswith("-"):
        return None
    return text[: len(text) - len(rest)].strip(" "), rest[1:].strip(" ")


PARSERS: Final = {"DA": date, "TM": time, "DT": moment}


def key(text: str, vr: str, zone: int | None = None) -> Range | None:
    """What a DA, TM or DT key asks for, single value or range; None if it is neither.

    A single value is the range from its first to its last moment.
    """
    parse = PARSERS[vr]
    both = ends(text, vr)
    if both is None:
        both = text, text
    low, high = (parse(end, zone) if end else None for end in both)
    if both == ("", "") or (both[0] and low is None) or (both[1] and high is None):
        return None
    return Range(low, high)
