"""One of several processes that send: its standard input says what, its standard output how it went."""

from __future__ import annotations

import logging
import os
import pickle
import queue
import signal
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import IO, Final

from dicomnet.errors import DicomNetworkError
from dicomnet.files import Found
from dicomnet.sender.outcome import Outcome
from dicomnet.sender.pool import Pool

_TOLD: Final = 64  # outcomes at a time, if there are so many


class _Name(str):
    """A file's path, and its number in the process that wants it sent."""

    __slots__ = ("number",)
    number: int


class _Teller(logging.Handler):
    """Tells outcomes and log lines."""

    def __init__(self, sink: IO[bytes], pool: Pool, stop: threading.Event) -> None:
        super().__init__()
        self._sink = sink
        self._pool = pool
        self._stop = stop
        self._told: list[tuple[int, Outcome | None, bytes | None]] = []
        self._lines: list[tuple[int, str]] = []
        self._lock_lines = threading.Lock()

    def emit(self, record: logging.LogRecord) -> None:
        """A log line; it goes with the next outcomes, which are never far."""
        with self._lock_lines:
            self._lines.append((record.levelno, record.getMessage()))
        self._pool.wake()

    def add(self, path: object, outcome: Outcome | None) -> None:
        """A file's outcome, or None if it was skipped."""
        assert isinstance(path, _Name)
        error = None if outcome is None or outcome.error is None else portable(outcome.error)
        self._told.append((path.number, outcome and replace(outcome, path="", error=None), error))
        if len(self._told) >= _TOLD:
            self.flush()

    def flush(self) -> None:
        """Tell what there is to tell."""
        with self._lock_lines:
            lines, self._lines = self._lines, []
        if self._told or lines:
            try:
                pickle.dump((self._told, self._pool.associations, self._pool.window, lines), self._sink)
                self._sink.flush()
            except OSError:  # nobody reads this any more
                self._stop.set()
            self._told = []


def portable(error: Exception) -> bytes:
    """An exception and its cause for another process; what cannot be taken along becomes text."""
    try:
        encoded = pickle.dumps((error, error.__cause__))
        pickle.loads(encoded)  # some can be written and not read
        return encoded
    except Exception:  # whatever the user's or a library's classes raise
        return pickle.dumps((DicomNetworkError(f"{type(error).__name__}: {error}"), None))


def work() -> None:
    """Send what comes in until it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of the terminal; the process that started this one knows what to do
    source = sys.stdin.buffer
    sink = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what else is printed must not get among the answers
    stop = threading.Event()
    pool = Pool(pickle.load(source), stop)
    dealt: queue.SimpleQueue[Found] = queue.SimpleQueue()
    teller = _Teller(sink, pool, stop)
    logger = logging.getLogger("dicomnet")
    logger.addHandler(teller)
    logger.propagate = False

    def listen() -> None:
        while True:
            try:
                message = pickle.load(source)
            except (EOFError, OSError, pickle.UnpicklingError):  # the end, also if the other process has died
                stop.set()
                pool.wake()
                return
            if message == "abort":
                pool.abort()
                os._exit(1)
            for found in message:
                dealt.put(_found(*found))
            pool.wake()

    def files() -> Iterator[Found | None]:
        while True:
            try:
                yield dealt.get_nowait()
            except queue.Empty:
                teller.flush()
                yield None

    threading.Thread(target=listen, name="dicomnet send listener", daemon=True).start()
    for outcome in pool.run(files(), lambda path: teller.add(path, None)):
        teller.add(outcome.path, outcome)
        if not pool.pending:  # with the last that is known: a ledger must not wait for more
            teller.flush()
    teller.flush()


def _found(number: int, path: str, walked: bool, regular: bool, fleeting: bool) -> Found:
    name = _Name(path)
    name.number = number
    return Found(name, None, walked, regular, fleeting=fleeting)
