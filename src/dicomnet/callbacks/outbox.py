"""What waits to be sent: a bounded queue, in the order in which its items may go out.

One idea: an item is an iterator that makes its buffers when their turn comes. A queued file costs a mapping, not its
size, and a release is requested when all that was queued before it has gone.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from dicomnet.callbacks.enums import PduType

Batch = list[Any]  # buffers for one system call


@dataclass(slots=True, eq=False)
class Operation:
    """A request of ours, until its final response. ``due``: when its next response is, None before it has gone."""

    message_id: int
    context_id: int
    command: int
    due: float | None = None


@dataclass(slots=True, eq=False)
class Item:
    """Something queued: its PDU type, its length on the wire in bytes, and its buffers.

    ``operation``: what a request begins; it waits for room in the operations window. Responses do not, nor does a
    C-CANCEL (``cancels``: the message ID of its request) whose request has gone.
    """

    pdu_type: PduType
    length: int
    batches: Iterator[Batch]
    operation: Operation | None = None
    is_response: bool = False
    cancels: int | None = None
    sent: int = 0  # bytes
    cut: bool = False  # the rest of it must not go out
    unsent: Batch = field(default_factory=list)  # the rest of the batch under way

    @property
    def left(self) -> int:
        return max(0, self.length - self.sent)


class Outbox:
    """The queue of one connection. ``lock``: the connection's, held by whoever calls. ``most``: bytes that may wait."""

    def __init__(self, lock: threading.RLock, most: int) -> None:  # type: ignore[valid-type, unused-ignore]
        self.queued = 0  # bytes
        self.most = most
        self.current: Item | None = None  # that is going out
        self.dropped: list[Item] = []  # that never will, or not whole
        self._queue: deque[Item] = deque()
        self._room = threading.Condition(lock)

    def __bool__(self) -> bool:
        """Whether something has not gone."""
        return self.current is not None or bool(self._queue)

    @property
    def is_full(self) -> bool:
        return self.queued >= self.most

    def wait_for_room(self, seconds: float | None, is_over: Callable[[], bool]) -> bool:
        """False if there was none in time."""
        return self._room.wait_for(lambda: not self.is_full or is_over(), seconds)

    def wake(self) -> None:
        """Those who wait for room look again."""
        self._room.notify_all()

    def put(self, item: Item) -> None:
        self._queue.append(item)
        self.queued += item.length

    def has_request(self, message_id: int) -> bool:
        return any(item.operation and item.operation.message_id == message_id for item in self._queue)

    def begin(self, has_room: bool) -> Item | None:
        """Take the next item whose turn it is. ``has_room``: the operations window has, for one request more."""
        waiting: set[int] = set()
        for index, item in enumerate(self._queue):
            if item.operation is not None and not has_room:
                waiting.add(item.operation.message_id)
            elif not waiting or item.is_response or (item.cancels is not None and item.cancels not in waiting):
                del self._queue[index]
                self.current = item
                return item
        return None

    def went(self, count: int) -> None:
        """``count`` bytes of the current item have gone."""
        if self.current is not None:
            before = self.current.left
            self.current.sent += count
            self.queued -= before - self.current.left
            self.wake()

    def end(self) -> Item:
        """The current item has gone, or what could go of it."""
        item, self.current = self.current, None
        assert item is not None
        self.queued -= item.left
        self.wake()
        return item

    def drop(self) -> None:
        """Forget what has not begun to go out, and the rest of what has."""
        if self.current is not None:
            self.current.cut = True
        self.dropped += self._queue
        self.queued -= sum(item.left for item in self._queue)
        self._queue.clear()
        self.wake()

    def clear(self) -> list[Item]:
        """Nothing goes any more: what did not, for good."""
        self.drop()
        if self.current is not None:
            self.dropped.insert(0, self.end())
        dropped, self.dropped = self.dropped, []
        return dropped
