"""What a trace came to: how much passed, what failed and how often, what took longest.

One idea: it is a sum over ``Seen`` values that stays small whatever passes.
"""

from __future__ import annotations

import heapq
from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from dicomnet.plain import printable
from dicomnet.trace.decoding import message_name
from dicomnet.trace.exchanges import Seen, status_of
from dicomnet.trace.pdus import TLS
from dicomnet.trace.records import Closed, Fault, Garbage, Message, Opened, Pdu
from dicomnet.trace.wording import pdu_name, remark, status_text
from dicomnet.ul.pdu import Abort, AssociateAc, AssociateRj

SLOWEST: Final = 5  # responses that a summary names
REASONS: Final = 50  # different failures that a summary counts


@dataclass(slots=True)
class Totals:
    """What it came to. ``failures``: in words → how often. ``slowest``: (seconds, response), the slowest first."""

    connections: int = 0
    faults: int = 0
    associations: int = 0
    messages: Counter[str] = field(default_factory=Counter)
    dataset_bytes: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    unanswered: int = 0
    began: float | None = None
    ended: float = 0.0
    _slowest: list[tuple[float, int, Message]] = field(default_factory=list)
    _count: int = 0

    @property
    def slowest(self) -> list[tuple[float, Message]]:
        return [(waited, message) for waited, _, message in sorted(self._slowest, reverse=True)]

    @property
    def seconds(self) -> float:
        """From the first record to the last."""
        return 0.0 if self.began is None else max(0.0, self.ended - self.began)

    def add(self, seen: Seen) -> None:
        record = seen.record
        self.began = record.time if self.began is None else self.began
        self.ended = record.time
        if isinstance(record, Message):
            self._add_message(record, seen)
        elif isinstance(record, Opened):
            self.connections += 1
        elif isinstance(record, Fault):
            self.faults += 1
        elif isinstance(record, Pdu) and isinstance(record.value, AssociateAc):
            self.associations += 1
        elif isinstance(record, Closed):
            self.unanswered += len(seen.unanswered)
        if (reason := failure(seen)) and (reason in self.failures or len(self.failures) < REASONS):
            self.failures[reason] += 1

    def _add_message(self, message: Message, seen: Seen) -> None:
        self.messages[message_name(message.command)] += 1
        self.dataset_bytes += message.dataset_size or 0
        if seen.waited is not None:
            self._count += 1
            keep = heapq.heappush if len(self._slowest) < SLOWEST else heapq.heappushpop
            keep(self._slowest, (seen.waited, self._count, message))


def failure(seen: Seen) -> str:
    """What failed, in words that are the same for the same failure; empty if nothing did."""
    match seen.record:
        case Message() as message:
            status = status_of(message)
            failed = status is not None and status.is_failure
            return f"{message_name(message.command)}: {status_text(message)}" if failed else ""
        case Pdu(value=AssociateRj() | Abort()) as record:
            return f"{pdu_name(record.type)}: {remark(Seen(record))}"
        case Pdu(value=AssociateAc() as accept) if not any(context.result == 0 for context in accept.contexts):
            return "no presentation context was accepted"
        case Pdu(type=number, problem=problem) if problem:
            return f"{pdu_name(number)}: {printable(problem)}"
        case Garbage(reason=reason) if reason != TLS:
            return printable(reason)
        case Closed(how="unreachable" | "reset") as closed:
            return remark(Seen(closed))
    return ""
