"""Many like messages as a count, while they pass.

One idea: in a run of messages on one connection each kind is shown once, and the next ones are only counted. A run ends
with anything else. A failure, a warning and a slow response are always shown.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from dicomnet.plain import size_text
from dicomnet.trace.decoding import message_name
from dicomnet.trace.exchanges import Seen
from dicomnet.trace.records import Message, Pdu
from dicomnet.trace.wording import SLOW, kind
from dicomnet.ul.pdu import PduType

FEW: Final = 4  # messages that are not worth folding


@dataclass(slots=True)
class Fold:
    """Messages that were counted, not shown. ``counts``: by name; ``size``: bytes of their data sets.

    ``first``: the first of them, which are shown after all if it stays with these.
    """

    connection: int
    began: float
    ended: float
    counts: Counter[str] = field(default_factory=Counter)
    size: int = 0
    first: list[Seen] = field(default_factory=list)

    def add(self, seen: Seen, message: Message) -> None:
        self.ended = message.time
        if len(self.first) < FEW:
            self.first.append(seen)
        self.counts[message_name(message.command)] += 1
        self.size += message.dataset_size or 0

    @property
    def seconds(self) -> float:
        return max(0.0, self.ended - self.began)

    def text(self) -> str:
        """How many of what, and how fast."""
        parts = []
        for name in sorted({one.rpartition("-")[0] or one for one in self.counts}):
            asked, answered = self.counts[f"{name}-RQ"], self.counts[f"{name}-RSP"]
            both = asked and answered and abs(asked - answered) <= 1
            if both:
                parts.append(f"{max(asked, answered):,} more {name}")
            else:
                each = (asked, "RQ"), (answered, "RSP")
                parts += [f"{count:,} more {name}-{suffix}" for count, suffix in each if count]
        text = ", ".join(parts)
        if self.seconds > 0.05:
            text += f", {max(self.counts.values()) / self.seconds:,.0f} a second"
            text += f", {size_text(self.size / self.seconds)}/s" if self.size else ""
        elif self.size:
            text += f", {size_text(self.size)}"
        return text


class Folder:
    """For one connection."""

    def __init__(self) -> None:
        self.open: Fold | None = None
        self._shown: set[tuple[str, bool, str, str]] = set()

    def take(self, seen: Seen) -> list[Seen | Fold]:
        """What is to be shown now."""
        record = seen.record
        if isinstance(record, Pdu) and record.type == PduType.P_DATA_TF and not record.problem:
            return []
        if not isinstance(record, Message):
            self._shown.clear()
            return [*self.flush(), seen]
        sort = kind(seen)
        key = (message_name(record.command), record.from_requestor, sort, record.abstract_syntax)
        slow = max(seen.waited or 0.0, seen.gap or 0.0) >= SLOW
        if key in self._shown and sort not in ("failure", "warning") and not slow:
            if self.open is None:
                self.open = Fold(record.connection, record.began, record.time)
            self.open.add(seen, record)
            return []
        self._shown.add(key)
        return [*self.flush(), seen]

    def flush(self) -> list[Seen | Fold]:
        """What was counted, if anything was."""
        fold, self.open = self.open, None
        if fold is None:
            return []
        return [*fold.first] if fold.counts.total() == len(fold.first) else [fold]
