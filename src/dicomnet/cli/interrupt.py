"""SIGINT and SIGTERM: the first one asks a command to end in order, a second one ends it at once."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType, TracebackType
from typing import Any, Final

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


class Interrupt:
    """As a ``with`` block: while it lasts, the signals are taken. Otherwise a ``threading.Event``, but one that a
    signal handler may set: a real one's lock could be held by the very thread that the handler runs on.

    ``notice``: what to say at the first signal. ``at_once``: nothing is under way that would have to be ended in order,
    so that the first signal is enough.
    """

    def __init__(self, notice: str, *, at_once: bool = False) -> None:
        self._notice = ("\n" * os.isatty(2) + notice + "\n").encode()  # past the ^C of a terminal
        self.at_once = at_once
        self._set = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Interrupt:
        import socket  # not for a help, which it would make slower than all else together

        self._reader, self._writer = socket.socketpair()
        self._writer.setblocking(False)
        # The interpreter itself writes to it: that ends a wait also where signals do not interrupt one (Windows).
        self._wakeup = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        self._before = {number: signal.signal(number, self._handle) for number in _SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._wakeup)
        self._reader.close()
        self._writer.close()

    def _handle(self, _number: int, _frame: FrameType | None) -> None:
        again, self._set = self._set, True
        if again or self.at_once:
            raise KeyboardInterrupt
        with contextlib.suppress(OSError):
            os.write(2, self._notice)  # not print: the signal may have come in the middle of one

    def is_set(self) -> bool:
        return self._set

    def wait(self, timeout: float | None = None, /) -> bool:
        """Wait for a signal, or for ``timeout`` seconds; True if there was one."""
        with contextlib.suppress(InterruptedError):
            if not self._set:
                select.select([self._reader], [], [], timeout)
        return self._set

    @contextlib.contextmanager
    def calling(self, action: Callable[[], object]) -> Iterator[None]:
        """While this lasts the first signal calls ``action``, on a thread of its own: the main one may be waiting for a
        peer, and goes on waiting after a signal.
        """
        import socket

        told, tell = socket.socketpair()

        def watch() -> None:
            ready, _, _ = select.select([self._reader, told], [], [])
            if told not in ready:
                action()

        thread = threading.Thread(target=watch, name="dicomnet interrupt", daemon=True)
        thread.start()
        try:
            yield
        finally:
            tell.close()
            thread.join()
            told.close()
