"""TCP segments → the bytes of each direction, in order (RFC 9293 3.10.7.4), for an observer that may not see them all.

One idea: an observer cannot ask for anything again. What the receiver has acknowledged and is not there was lost by
the capture: it becomes a gap of known length, and so does what more than a bounded amount waits for.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from typing import Final

_HALF: Final = 1 << 31
_MODULUS: Final = 1 << 32
MOST_HELD: Final = 64 << 20  # bytes that wait for others, on all connections: the largest windows are some megabytes
_MOST_SEGMENTS: Final = 4096  # that wait in one direction

Stretch = memoryview | bytes | int  # bytes, or how many are missing


class Budget:
    """Bytes held by all connections together."""

    def __init__(self, most: int = MOST_HELD) -> None:
        self.most = most
        self.held = 0


class Direction:
    """What one end has sent. ``ended``: all of it has been seen, up to the FIN."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._next: int | None = None  # the sequence number that follows
        self._position = 0  # bytes so far; unlike sequence numbers, positions do not wrap around
        self._waiting: list[tuple[int, int, int, bytes]] = []  # a heap: position, tie, length, bytes
        self._count = 0
        self._fin: int | None = None  # its position
        self.ended = False

    def synchronise(self, sequence: int) -> None:
        """The SYN: the first byte has the number after it."""
        if self._next is None:
            self._next = (sequence + 1) % _MODULUS

    def take(self, sequence: int, length: int, payload: memoryview, *, fin: bool) -> Iterator[Stretch]:
        """What a segment completes."""
        if self._next is None:
            self._next = sequence
        ahead = (sequence - self._next) % _MODULUS
        start = self._position + (ahead if ahead < _HALF else ahead - _MODULUS)
        if fin and self._fin is None:
            self._fin = start + length
        if length:
            if start <= self._position and not self._waiting:
                yield from self._deliver(start, length, payload)  # the usual case
            elif start + length > self._position:
                self._hold(start, length, payload)
        yield from self._ready()
        while self._waiting and (len(self._waiting) > _MOST_SEGMENTS or self._budget.held > self._budget.most):
            yield from self._skip()
        self._look_for_end()

    def acknowledged(self, number: int) -> Iterator[Stretch]:
        """The receiver has all before ``number``: what of that is not here will not come."""
        if self._next is None or not self._waiting:
            return
        ahead = (number - self._next) % _MODULUS
        if ahead >= _HALF:
            return
        until = self._position + ahead
        while self._waiting and self._waiting[0][0] + self._waiting[0][2] <= until:
            yield from self._skip()
        self._look_for_end()

    def flush(self) -> Iterator[Stretch]:
        """All that waits, with the gaps between."""
        while self._waiting:
            yield from self._skip()
        if self._fin is not None and self._fin > self._position:
            yield from self._gap(self._fin - self._position)
        self._look_for_end()

    # --- steps ------------------------------------------------------------------------------------------------------

    def _hold(self, start: int, length: int, payload: memoryview) -> None:
        self._count += 1
        heapq.heappush(self._waiting, (start, self._count, length, bytes(payload)))
        self._budget.held += len(payload)

    def _pop(self) -> tuple[int, int, bytes]:
        start, _, length, payload = heapq.heappop(self._waiting)
        self._budget.held -= len(payload)
        return start, length, payload

    def _ready(self) -> Iterator[Stretch]:
        while self._waiting and self._waiting[0][0] <= self._position:
            yield from self._deliver(*self._pop())

    def _skip(self) -> Iterator[Stretch]:
        """A gap up to the first segment that waits, and what follows it."""
        missing = self._waiting[0][0] - self._position
        if missing > 0:
            yield from self._gap(missing)
        yield from self._ready()

    def _deliver(self, start: int, length: int, payload: memoryview | bytes) -> Iterator[Stretch]:
        """What is new in a segment that begins no later than here: the first copy of a byte counts."""
        seen = self._position - start
        if seen >= length:
            return
        fresh = payload[seen:]
        self._advance(length - seen)
        if len(fresh):
            yield fresh
        if len(fresh) < length - seen:  # cut off by the capture
            yield length - seen - len(fresh)

    def _gap(self, count: int) -> Iterator[Stretch]:
        self._advance(count)
        yield count

    def _advance(self, count: int) -> None:
        assert self._next is not None
        self._position += count
        self._next = (self._next + count) % _MODULUS

    def _look_for_end(self) -> None:
        if self._fin is not None and self._position >= self._fin:
            self.ended = True

    def release(self) -> None:
        """Nobody wants what waits any more."""
        self._budget.held -= sum(len(payload) for *_, payload in self._waiting)
        self._waiting.clear()
