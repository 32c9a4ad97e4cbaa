"""What a task of a conversation waits for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from contextvars import Context
from typing import Any


class Waiter:
    """Awaited by a task until it is waked; what is awaited is ``late``: the deadline has come.

    A Future-like object (``asyncio.isfuture``) that can resume its task at once. With an ``asyncio.Future`` the loop
    would go round once more in between, which costs a third as much again as all that is done for a small message.

    ``ready``: true when the task wants to be waked. ``deadline``: a point of the loop's clock. ``reads``: it waits for
    something to arrive.
    """

    __slots__ = (
        *("_asyncio_future_blocking", "_cancelled", "_context", "_loop", "_resume"),
        *("deadline", "late", "ready", "reads"),
    )

    def __init__(
        self, loop: asyncio.AbstractEventLoop, ready: Callable[[], object], deadline: float, reads: bool
    ) -> None:
        self._asyncio_future_blocking = False
        self._loop = loop
        self._resume: Callable[[Any], object] | None = None  # until it is waked
        self._context: Context | None = None
        self._cancelled = False
        self.ready = ready
        self.deadline = deadline
        self.reads = reads
        self.late = False

    # --- by the one who wakes ---------------------------------------------------------------------------------------

    def is_ready(self) -> bool:
        """Whether to wake it; also to raise what ``ready``, which may be the user's, has raised."""
        try:
            return bool(self.ready())
        except Exception:  # it does so again where the task waits
            return True

    def wake(self) -> None:
        """Resume the task now. Only for callbacks of the loop, which no task is running in."""
        resume, self._resume = self._resume, None
        if resume is not None and self._context is not None:
            self._context.run(resume, self)

    def wake_soon(self, *, late: bool = False) -> None:
        """Have the task resumed."""
        resume, self._resume = self._resume, None
        if resume is not None:
            self.late = late
            self._loop.call_soon(resume, self, context=self._context)

    # --- by the task ------------------------------------------------------------------------------------------------

    def __await__(self) -> Generator[Waiter, None, bool]:
        self._asyncio_future_blocking = True
        yield self
        return self.late

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """The loop of the task that may wait for it."""
        return self._loop

    def add_done_callback(self, resume: Callable[[Any], object], *, context: Context) -> None:
        """The task waits."""
        self._resume, self._context = resume, context

    def result(self) -> None:
        """What the task is resumed with. Raises CancelledError."""
        if self._cancelled:
            raise asyncio.CancelledError

    def cancel(self, msg: object = None) -> bool:
        """The task is cancelled; False if it has been waked."""
        if self._resume is None:
            return False
        self._cancelled = True
        self.wake_soon()
        return True
