"""Notifications that providers owe: delivered beside the requests, in order, and again if that fails.

One idea: a queue for each addressee. What is due for one does not wait for another that cannot be reached. Threads
exist as long as there is something to deliver, so that nothing has to be closed.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from dicomnet.config import Peer
from dicomnet.errors import DicomNetworkError, StatusError
from dicomnet.services.faces import is_async

log = logging.getLogger("dicomnet")

MOST_WAITING: Final = 10_000  # notifications, of all addressees
_OPENING: Final = 5.0  # seconds from a handler's end to its response being on its way

Peers = Mapping[str, "Peer | str"] | Callable[[str], "Peer | str | None"]


def address(peers: Peers | None, ae_title: str) -> Peer | None:
    """Where an AE title is to be reached, if that is known."""
    found = peers(ae_title) if callable(peers) else (peers or {}).get(ae_title)
    return Peer.parse(found) if isinstance(found, str) else found


class Line:
    """An association that a peer has requested, to send it requests: the same from any thread, on both faces.

    ``open`` it where the association's own thread or event loop runs, once the response to the present request is on
    its way (``Indication.then``); calls wait for that. ``call``: ``line.call(lambda scu: scu.n_…(…), seconds)``.
    """

    def __init__(self, scu: Any) -> None:
        self._scu = scu
        self._loop: Any = None
        self._opened = threading.Event()

    def open(self) -> None:
        if is_async(self._scu):
            import asyncio  # 30 ms that the blocking face does not need

            self._loop = asyncio.get_running_loop()
        self._opened.set()

    def call(self, request: Callable[[Any], Any], seconds: float) -> Any:
        """The response. Raises what the association raises; TimeoutError if the line does not open, and after
        ``seconds`` on the asyncio face.
        """
        if not self._opened.wait(_OPENING):
            raise TimeoutError("the association ended before its request was answered")
        if self._loop is None:
            return request(self._scu)
        import asyncio

        future = asyncio.run_coroutine_threadsafe(_made(request, self._scu), self._loop)
        try:
            return future.result(seconds)
        except TimeoutError:
            future.cancel()
            raise


async def _made(request: Callable[[Any], Any], scu: Any) -> Any:
    """In the event loop, whose methods of ``scu`` are."""
    return await request(scu)


@dataclass(slots=True)
class _Letter:
    deliver: Callable[[], None]
    after: Callable[[], None] | None


@dataclass(slots=True)
class _Box:
    """What waits for one addressee; ``failures``: of the first letter."""

    letters: deque[_Letter] = field(default_factory=deque)
    failures: int = 0


class Courier:
    """Delivers letters: functions that return when they are delivered and raise when they are not.

    DicomNetworkError, OSError and TimeoutError mean: again, after ``first_delay`` seconds, then twice as many, up to
    ``longest_delay``; after ``attempts`` failures the letter is dropped, and that is logged. StatusError and all others
    drop it at once. ``workers``: threads at most.
    """

    def __init__(
        self,
        name: str,
        *,
        attempts: int = 10,
        first_delay: float = 1.0,
        longest_delay: float = 300.0,
        workers: int = 4,
    ) -> None:
        self._name = name
        self._attempts = attempts
        self._delays = (first_delay, longest_delay)
        self._workers = workers
        self._changed = threading.Condition()
        self._boxes: dict[str, _Box] = {}
        self._due: list[tuple[float, int, str]] = []  # a heap: when, tie-breaker, addressee
        self._numbers = itertools.count()
        self._waiting = 0
        self._threads = 0
        self._idle = 0
        self._closed = False

    @property
    def full(self) -> bool:
        """Nothing more is taken."""
        return self._closed or self._waiting >= MOST_WAITING

    def waiting(self, addressee: str) -> int:
        """Letters for one addressee, the one that is being delivered included."""
        with self._changed:
            box = self._boxes.get(addressee)
            return len(box.letters) if box else 0

    def post(self, addressee: str, deliver: Callable[[], None], after: Callable[[], None] | None = None) -> bool:
        """Deliver a letter when those that wait for the same addressee have been. False: it is ``full``.

        ``after`` is called when it was delivered or given up.
        """
        with self._changed:
            if self.full:
                return False
            self._waiting += 1
            box = self._boxes.get(addressee)
            if box is None:
                box = self._boxes[addressee] = _Box()
                self._schedule(addressee, 0.0)
            box.letters.append(_Letter(deliver, after))
            return True

    def settled(self, seconds: float) -> bool:
        """Wait until everything is delivered or dropped; False if it is not after ``seconds``."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._waiting and not self._threads, seconds)

    def close(self) -> None:
        """Drop what waits, and take nothing more. What is being delivered goes on."""
        with self._changed:
            self._closed = True
            self._due.clear()
            self._waiting -= sum(len(box.letters) for box in self._boxes.values())
            self._boxes.clear()
            self._changed.notify_all()

    def _schedule(self, addressee: str, delay: float) -> None:
        heapq.heappush(self._due, (time.monotonic() + delay, next(self._numbers), addressee))
        if not self._idle and self._threads < self._workers:
            self._threads += 1
            threading.Thread(target=self._work, name=f"dicomnet {self._name}", daemon=True).start()
        else:
            self._changed.notify()

    def _work(self) -> None:
        while (addressee := self._next()) is not None:
            self._deliver(addressee)

    def _next(self) -> str | None:
        """The addressee whose turn it is, in time; None ends the thread."""
        with self._changed:
            self._idle += 1
            try:
                while self._due:
                    wait = self._due[0][0] - time.monotonic()
                    if wait <= 0:
                        return heapq.heappop(self._due)[2]
                    self._changed.wait(wait)
                self._threads -= 1
                self._changed.notify_all()
                return None
            finally:
                self._idle -= 1

    def _deliver(self, addressee: str) -> None:
        with self._changed:
            box = self._boxes.get(addressee)
            if box is None:  # closed
                return
            letter = box.letters[0]
        error = _failure(letter.deliver)
        with self._changed:
            if self._boxes.get(addressee) is not box:
                return
            if error is not None and self._again(box, error):
                self._schedule(addressee, min(self._delays[0] * 2 ** (box.failures - 1), self._delays[1]))
                return
        if error is not None:
            log.warning("%s: a notification to %s was given up: %s", self._name, addressee, error, exc_info=error)
        if letter.after is not None and (error := _failure(letter.after)) is not None:
            log.warning("%s: what follows a notification failed", self._name, exc_info=error)
        with self._changed:
            if self._boxes.get(addressee) is box:
                self._remove(addressee, box)

    def _remove(self, addressee: str, box: _Box) -> None:
        box.letters.popleft()
        box.failures = 0
        self._waiting -= 1
        if box.letters:
            self._schedule(addressee, 0.0)
        else:
            del self._boxes[addressee]
        self._changed.notify_all()

    def _again(self, box: _Box, error: Exception) -> bool:
        box.failures += 1
        transient = isinstance(error, DicomNetworkError | OSError) and not isinstance(error, StatusError)
        return transient and box.failures < self._attempts


def _failure(function: Callable[[], None]) -> Exception | None:
    """What it raised; users' code is among it, so it may be anything."""
    try:
        function()
    except Exception as error:
        return error
    return None
