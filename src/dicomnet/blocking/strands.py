"""Threads for what one association does at once (PS3.7 D.3.3.3: the operations window)."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable


class Strands:
    """Runs functions beside one another. A thread that has nothing to do waits for the next one, until ``close``."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)  # for threads that have nothing to do
        self._ended = threading.Condition(self._lock)  # for those who join
        self._threads: set[threading.Thread] = set()
        self._waiting: deque[Callable[[], None]] = deque()
        self._idle = 0  # threads
        self._busy = 0  # functions that have not ended
        self._closed = False

    def start(self, function: Callable[[], None]) -> None:
        """Run it, in a thread of its own. Raises RuntimeError if there is none to be had; then it will not run."""
        with self._changed:
            if self._idle <= len(self._waiting):
                thread = threading.Thread(target=self._work, name=self._name, daemon=True)
                thread.start()
                self._threads.add(thread)
            self._busy += 1
            self._waiting.append(function)
            self._changed.notify()

    def _work(self) -> None:
        try:
            while (function := self._next()) is not None:
                try:
                    function()
                finally:
                    del function  # and the data set in it, before this thread waits
                    with self._lock:
                        self._busy -= 1
                        if not self._busy:
                            self._ended.notify_all()
        finally:
            with self._lock:
                self._threads.discard(threading.current_thread())

    def _next(self) -> Callable[[], None] | None:
        with self._changed:
            self._idle += 1
            while not (self._waiting or self._closed):
                self._changed.wait()
            self._idle -= 1
            return self._waiting.popleft() if self._waiting else None

    def __contains__(self, thread: threading.Thread) -> bool:
        """Whether it is one of these threads."""
        return thread in self._threads

    def join(self) -> None:
        """Wait until all that was started has ended."""
        with self._lock:
            while self._busy:
                self._ended.wait()

    def close(self) -> None:
        """The threads end when there is nothing more to do."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
