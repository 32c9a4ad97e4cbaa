"""What a conversation needs of the face that it runs on, and of the data sets that it carries: protocols, no code.

On asyncio the waiting methods are awaited. On the blocking face each returns only when it is done, so that a
conversation runs to its end in a single ``send(None)``.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Protocol


class Gate(Protocol):
    """A lock or a semaphore: so many may pass at once."""

    def acquire(self, blocking: bool = ..., /) -> bool: ...

    def release(self) -> None: ...


class Io(Protocol):
    """What a conversation may wait for; each face supplies it. All times are points of ``now``'s clock, in seconds.

    ``window``: passed while a request of ours is outstanding (the operations window). ``message``: held while a message
    goes out, since fragments of different messages never interleave (PS3.8 E.1).
    """

    @property
    def window(self) -> Gate: ...

    @property
    def message(self) -> Gate: ...

    def now(self) -> float: ...

    async def pass_gate(self, gate: Gate) -> None:
        """Wait until there is room in ``gate``, and take it; for when ``gate.acquire(False)`` was False."""

    async def flush(self) -> None:
        """Write all that the association has to send. If that fails the conversation is over; nothing is raised."""

    async def until(self, ready: Callable[[], object], deadline: float | None) -> bool:
        """Receive, for everybody, until ``ready()`` is true; False if the deadline came first."""

    async def call(self, handler: Callable[..., Any], argument: Any) -> Any:
        """Run a user's handler, plain or async, where this face runs handlers."""

    def report(self, text: str, error: BaseException | None = None) -> None:
        """Log one line about this association; with the traceback of ``error`` if there is one."""


class View(Protocol):
    """Bytes to send; ``passed(end)`` tells that those before ``end`` have gone."""

    data: memoryview

    def passed(self, end: int) -> None: ...


class Dataset(Protocol):
    """What operations need of a data set, whoever keeps it."""

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax: str

    def view(self) -> AbstractContextManager[View]: ...

    def inner_uids(self) -> tuple[str, str] | None:
        """SOP class and instance UID as the data set itself says, or None if that is not known cheaply."""
