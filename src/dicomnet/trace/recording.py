"""The way of records from the threads that forward to whoever wants them: one at a time, in order, none lost.

One idea: a trace must be complete, so a reader that is slow slows the connections down; it never makes holes.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from dicomnet.trace.records import Message, Pdu, Record

_MOST: Final = 10_000  # records that may wait: some megabytes, and a second or more of traffic
_HEAVIEST: Final = 16 << 20  # bytes of what they hold: long negotiations, and data sets if they are kept


class Recorder:
    """Calls ``on_record`` on a thread of its own. ``on_failure`` is called when that raises ``failure``.

    After a failure records are dropped: nobody is there to take them.
    """

    def __init__(self, on_record: Callable[[Record], None], on_failure: Callable[[], None]) -> None:
        self._on_record = on_record
        self._on_failure = on_failure
        self._waiting: deque[Record] = deque()
        self._weight = 0
        self._changed = threading.Condition()
        self._ending = False
        self.failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="dicomnet trace: records", daemon=True)
        self._thread.start()

    def put(self, records: Sequence[Record]) -> None:
        """Hand them on; waits while too many are on the way already."""
        if not records:
            return
        with self._changed:
            while (len(self._waiting) >= _MOST or self._weight >= _HEAVIEST) and self.failure is None:
                self._changed.wait()
            if self.failure is None:
                self._waiting.extend(records)
                self._weight += sum(map(_weight, records))
                self._changed.notify_all()

    def close(self) -> None:
        """What is on the way arrives, then the thread ends. May be called by ``on_record`` itself."""
        with self._changed:
            self._ending = True
            self._changed.notify_all()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._waiting and not self._ending:
                    self._changed.wait()
                batch = list(self._waiting)
                self._waiting.clear()
                self._weight = 0
                self._changed.notify_all()
            if not batch:
                return
            try:
                for record in batch:
                    self._on_record(record)
            except BaseException as error:  # for whoever waits for the proxy: see Proxy.wait
                self.fail(error)
                return

    def fail(self, error: BaseException) -> None:
        """A trace that has a hole is none: nothing more is recorded."""
        with self._changed:
            if self.failure is None:
                self.failure = error
            self._waiting.clear()
            self._changed.notify_all()
        self._on_failure()


def _weight(record: Record) -> int:
    """Bytes that it holds of what has passed, more or less."""
    match record:
        case Pdu(value=value, length=length) if value is not None:
            return length
        case Message(dataset=bytes(data)):
            return len(data)
    return 0
