"""What a conversation needs of the face that it runs on, and of the data sets that it carries: protocols, no code.

On asyncio the waiting methods are awaited. On the blocking face each returns only when it is done, so that a
conversation runs to its end in a single ``send(None)``.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from dicomnet.config import Peer
    from dicomnet.dimse.messages import Request, Response, Unusable
    from dicomnet.dimse.stream import Sink
    from dicomnet.ul.negotiation import AcceptedContext


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

    def open_window(self, size: int) -> None:
        """``size`` requests of ours may be outstanding from now on; 0 is unlimited."""

    def now(self) -> float: ...

    def strand(self) -> object:
        """What runs at present (a thread, a task), to be compared: an operation that waited for itself would hang."""

    async def pass_gate(self, gate: Gate) -> None:
        """Wait until there is room in ``gate``, and take it; for when ``gate.acquire(False)`` was False."""

    async def flush(self) -> None:
        """Write all that the association has to send. If that fails the conversation is over; nothing is raised."""

    async def until(self, ready: Callable[[], object], deadline: float | None) -> bool:
        """Receive, for everybody, until ``ready()`` is true; False if the deadline came first.

        Nothing is read while the conversation is ``congested``.
        """

    async def poll(self) -> None:
        """Take in what has arrived already, without waiting for more."""

    def glance(self) -> None:
        """As ``poll``, from a handler, in whatever thread that runs; does nothing where somebody reads anyway."""

    def resume(self) -> None:
        """The conversation is no longer congested: those who wait may read on."""

    async def call(self, handler: Callable[..., Any], argument: Any) -> Any:
        """Run a user's handler, plain or async, where this face runs handlers."""

    def call_after(self, function: Callable[[], None]) -> None:
        """Call what a handler wanted called after its response; it may use the association, and must not block."""

    def stream(self, handler: Callable[..., Any], argument: Any) -> AsyncGenerator[list[Any], None]:
        """What a user's handler returns or yields (any kind of iterable or generator), as it comes, in small lists.

        To be closed by ``aclose``, which closes the user's generator.
        """

    def spawn(self, strand: Coroutine[Any, Any, None]) -> None:
        """Run ``strand`` beside the present one; it sees to its own errors."""

    async def join(self) -> None:
        """Wait until all that was spawned has ended."""

    async def open(self, peer: Peer, **options: Any) -> Any:
        """An association of this face to another peer, as its ``associate`` gives it."""

    def report(self, text: str, error: BaseException | None = None) -> None:
        """Log one line about this association; with the traceback of ``error`` if there is one."""


class View(Protocol):
    """Bytes to send; ``passed(end)`` tells that those before ``end`` have gone."""

    data: memoryview

    def passed(self, end: int) -> None: ...


class Dataset(Protocol):
    """What operations need of a data set, whoever keeps it. ``in_memory``: bytes of it that are not in a file."""

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax: str

    @property
    def in_memory(self) -> int: ...

    def view(self) -> AbstractContextManager[View]: ...

    def inner_uids(self) -> tuple[str, str] | None:
        """SOP class and instance UID as the data set itself says, or None if that is not known cheaply."""

    def decode(self) -> Any:
        """As a pydicom Dataset."""


class Codec(Protocol):
    """Between what users hand in and get, and data sets on the wire. Raises InvalidDataset, OSError."""

    def open_sink(self, command: Request | Response | Unusable, context: AcceptedContext) -> Sink:
        """Where the data set that follows ``command`` goes."""

    def encode(self, data: Any, context: AcceptedContext) -> Dataset:
        """A user's data set in the transfer syntax of ``context``."""

    def load(self, data: Any) -> Dataset:
        """A composite instance, from a path or a data set, in whatever transfer syntax it has."""

    def prepare(self, data: Any, contexts: Iterable[AcceptedContext]) -> tuple[AcceptedContext, Dataset]:
        """A composite instance and the context to send it in. Raises NoAcceptedContext too."""

    def failed_list(self, uids: list[str], context: AcceptedContext) -> Dataset:
        """A data set with a Failed SOP Instance UID List (0008,0058) alone (PS3.4 C.4.2.1.4.2)."""
