"""Between a sender and its ledger: what need not be sent is told from there, and what happened is written before it is.

One idea: a thread of its own commits whatever has come while it was busy with what came before, and at most once a
second has it written through to the disk. Nobody waits for that, neither the lines, which send on, nor the peer; the
caller is told of an outcome when it is committed. The end of this process can make forgotten the answers of the last
milliseconds, which nobody was told of; a power cut those of the last second.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Final

from dicomnet.config import Peer
from dicomnet.dataset import Path
from dicomnet.files import Found
from dicomnet.sender.ledger import Ledger
from dicomnet.sender.outcome import Outcome, Stamp

_TOGETHER: Final = 256  # files that are looked up at once
_MOST: Final = 64  # outcomes that are committed together
_NAP: Final = 0.002  # seconds in which outcomes gather, if some came while the last ones were committed
_FLUSH: Final = 1.0  # seconds between two waits for the disk: what a power cut may cost


class Recorder:
    """``ledger`` is closed with it if it is its ``own``. ``failed`` is called, once, if nothing can be written."""

    def __init__(self, ledger: Ledger, destination: Peer, *, own: bool) -> None:
        self._ledger = ledger
        self._destination = destination
        self._own = own
        self._waiting: deque[tuple[Sequence[Outcome], Callable[[], None]]] = deque()
        self._under_way: dict[str, Stamp] = {}  # files that may be found once more meanwhile
        self._busy = False
        self._closing = False
        self._broken = False
        self._flush_due: float | None = None  # there is something to be written through, at that time
        self._news = threading.Event()
        self._thread: threading.Thread | None = None
        self.failed: Callable[[BaseException], None] = lambda error: None

    # --- what need not be sent --------------------------------------------------------------------------------------

    def unsent(self, found: Iterable[Found | None]) -> Iterator[Found | Outcome | None]:
        """What is found, with its stamp; what was sent before as its outcome of then."""
        batch: list[Found] = []
        for file in found:
            if file is not None:
                batch.append(file)
            if batch and (file is None or len(batch) == _TOGETHER):
                yield from self._looked_up(batch)
                batch = []
            if file is None:
                yield None
        yield from self._looked_up(batch)

    def _looked_up(self, batch: list[Found]) -> list[Found | Outcome]:
        stamped = [file._replace(stamp=_stamp(file)) for file in batch]
        paths = [os.path.abspath(file.path) if file.stamp is not None else "" for file in stamped]
        both = list(zip(paths, stamped, strict=True))
        busy = [self._is_under_way(path, file) for path, file in both]
        stamps = {path: file.stamp for path, file in both if file.stamp is not None}
        before = self._ledger.sent_before(self._destination, stamps)  # last: what is not busy any more is in there
        found: list[Found | Outcome] = []  # decided for all at once: what is told one by one may be told much later
        for (path, file), is_busy in zip(both, busy, strict=True):
            outcome = before.get(path)
            if outcome is not None:
                found.append(replace(outcome, path=file.path, stamp=file.stamp))
            elif not (is_busy or self._is_under_way(path, file)):  # it may be twice in the batch
                if file.fleeting and file.stamp is not None:
                    self._under_way[path] = file.stamp
                found.append(file)
        return found

    def _is_under_way(self, path: str, file: Found) -> bool:
        return file.fleeting and file.stamp is not None and self._under_way.get(path) == file.stamp

    def forget(self, path: Path) -> None:
        """There will be no outcome."""
        self._under_way.pop(os.path.abspath(path), None)

    # --- what happened ----------------------------------------------------------------------------------------------

    def start(self, failed: Callable[[BaseException], None]) -> None:
        """Begin to write. ``failed`` is called if that is not possible any more."""
        self.failed = failed
        self._thread = threading.Thread(target=self._run, name="dicomnet send ledger", daemon=True)
        self._thread.start()

    def record(self, outcomes: Sequence[Outcome], then: Callable[[], None]) -> None:
        """Have them written, and ``then`` called, on another thread. From any thread; nothing waits."""
        self._waiting.append((outcomes, then))
        if not self._news.is_set():
            self._news.set()

    def record_now(self, outcome: Outcome) -> None:
        """When it returns, it is written."""
        self._ledger.record(self._destination, [outcome])

    @property
    def pending(self) -> bool:
        """Whether something is not written, or nobody has been told of it."""
        return bool(self._waiting) or self._busy

    def close(self) -> None:
        """Write what there is and end. May be called again."""
        self._closing = True
        self._news.set()
        if self._thread is not None:
            self._thread.join()
        if self._own:
            self._ledger.close()

    def _run(self) -> None:
        while self._waiting or not self._closing:
            due = self._flush_due
            self._news.wait(None if due is None else max(due - time.monotonic(), 0.0))
            self._news.clear()
            self._busy = True  # before anything is taken, for ``pending``
            while batch := self._gather():
                self._write(batch)
                self._flush()
                if self._waiting and not self._closing:
                    time.sleep(_NAP)
            self._busy = False
            self._flush()

    def _write(self, batch: list[tuple[Sequence[Outcome], Callable[[], None]]]) -> None:
        outcomes = [outcome for outcomes, _ in batch for outcome in outcomes]
        if not self._broken:
            try:
                self._ledger.record(self._destination, outcomes)
            except BaseException as error:
                self._fail(error)
        if self._under_way:
            for outcome in outcomes:
                self.forget(outcome.path)
        if not self._broken:  # nobody is told of what is not written
            self._flush_due = self._flush_due or time.monotonic() + _FLUSH
            for _, then in batch:
                then()

    def _flush(self) -> None:
        """If it is time."""
        if self._flush_due is None or time.monotonic() < self._flush_due:
            return
        self._flush_due = None
        try:
            self._ledger.flush()
        except BaseException as error:
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        self._broken = True
        self.failed(error)

    def _gather(self) -> list[tuple[Sequence[Outcome], Callable[[], None]]]:
        batch, count = [], 0
        while self._waiting and count < _MOST:
            batch.append(self._waiting.popleft())
            count += len(batch[-1][0])
        return batch


def _stamp(file: Found) -> Stamp | None:
    """None: it cannot be looked at, and its outcome will say why."""
    if file.error is not None:
        return None
    try:
        found = os.stat(file.path)
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns
