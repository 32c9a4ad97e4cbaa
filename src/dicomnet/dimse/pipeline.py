"""Many C-STOREs on one association, as many outstanding at once as its operations window allows (PS3.7 9.1.1, D.3.3.3).

One idea: one strand does it all. It sends until the window is full, small messages several in a write, and only then
waits; while it waits the next data set is made ready. A window of N costs no more strands than a window of one.
"""

from __future__ import annotations

from collections import deque
from contextlib import AbstractContextManager
from typing import Any, Final, NamedTuple, Protocol

from dicomnet.dimse import messages, templates
from dicomnet.dimse.conversation import Conversation
from dicomnet.dimse.exchange import Exchange
from dicomnet.dimse.io import View
from dicomnet.dimse.messages import CommandField, Priority, Request, Response
from dicomnet.errors import DicomNetworkError

_TOGETHER: Final = 64 * 1024  # bytes of small messages that go in one write: the system call is nothing beside them
_SOON: Final = 0.002  # seconds that the first of them waits for the others


class Content(Protocol):
    """What is needed of a data set to store it."""

    @property
    def sop_class_uid(self) -> str: ...

    @property
    def sop_instance_uid(self) -> str: ...

    def view(self) -> AbstractContextManager[View]: ...


class Store(NamedTuple):
    """A data set and the presentation context that carries it. ``token``: the caller's name for it."""

    context_id: int
    dataset: Content
    token: Any


class Source(Protocol):
    """Where the data sets come from, and who is told what became of them."""

    def take(self, outstanding: int, /) -> Store | None:
        """The next one, while so many are unanswered; None: nothing for now. It may read files."""

    def prepare(self, outstanding: int, /) -> None:
        """Until the peer answers there is time to make ready what ``take`` will give."""

    def done(self, token: Any, answer: Response | Exception, /) -> None:
        """The response, or why nothing was sent: OSError, InvalidDataset. This does not wait."""


async def store_many(conversation: Conversation, source: Source, window: int) -> None:
    """Store what ``source`` has until it has nothing and all is answered, with up to ``window`` requests outstanding.

    Fewer if the association's operations window is smaller, or others use it. Raises what ends the association; what
    ``source`` has given and was not told of is unanswered then.
    """
    pipeline = _Pipeline(conversation, source)
    await pipeline.enter(min(window, conversation.limits.inbox - 1))
    try:
        await pipeline.run()
    finally:
        pipeline.leave()


class _Pipeline:
    def __init__(self, conversation: Conversation, source: Source) -> None:
        self._conversation = conversation
        self._io = conversation.io
        self._source = source
        self._inbox: deque[Any] = deque()  # of all exchanges
        self._outstanding: dict[int, tuple[Exchange, Any]] = {}  # by message ID: its exchange and its token
        self._strand = conversation.io.strand()
        self._places = 0  # in the operations window, kept as long as this runs
        self._sending = False  # no message of others may go out
        self._gathered = 0  # bytes that wait to be written
        self._gathering_since = 0.0

    async def enter(self, window: int) -> None:
        """Take places in the operations window, one at least."""
        io = self._io
        await io.poll()  # the peer may have ended an association that was idle
        await self._conversation.settle()
        if not io.window.acquire(False):
            await self._conversation.wait_for_window(self._strand)
        self._places = 1
        while self._places < window and io.window.acquire(False):
            self._places += 1

    def leave(self) -> None:
        """Give them back. Those of unanswered requests follow when they are answered."""
        self._inbox.clear()
        for _ in range(self._places - len(self._outstanding)):
            self._io.window.release()
        for exchange, _ in self._outstanding.values():
            self._conversation.leave(exchange)

    async def run(self) -> None:
        outstanding, inbox = self._outstanding, self._inbox
        while True:
            await self._fill()
            if not outstanding:
                return
            if not inbox:
                await self._io.call(self._source.prepare, len(outstanding))
                await self._wait()
            while inbox:
                self._answered(inbox.popleft())

    # --- sending ----------------------------------------------------------------------------------------------------

    async def _fill(self) -> None:
        """Send as much as there is and the window takes."""
        io, outstanding, take = self._io, self._outstanding, self._source.take
        self._conversation.check_open()
        try:
            while len(outstanding) < self._places:
                store = await io.call(take, len(outstanding))
                if store is None:
                    break
                await self._request(store)
            if self._gathered:
                await self._write()
        finally:
            if self._sending:
                self._sending = False
                io.message.release()

    async def _request(self, store: Store) -> None:
        context_id, dataset, token = store
        uids = dataset.sop_class_uid, dataset.sop_instance_uid
        try:
            request = Request(CommandField.C_STORE, 0, *uids, Priority.MEDIUM, has_dataset=True)
            with dataset.view() as view:
                await self._send(context_id, request, view, token)
        except (OSError, DicomNetworkError) as error:
            if self._conversation.over:
                raise
            self._source.done(token, error)

    async def _send(self, context_id: int, request: Request, view: View, token: Any) -> None:
        """Send one, or gather it to be sent with others."""
        conversation, io = self._conversation, self._io
        if not self._sending:
            if not io.message.acquire(False):
                await io.pass_gate(io.message)
            self._sending = True
        conversation.check_open()
        request.message_id = message_id = conversation.next_message_id()
        command_set = templates.encode_request(request) or messages.encode(request)
        exchange = Exchange(message_id, context_id, CommandField.C_STORE, self._strand, self._inbox)
        whole = conversation.stream.whole(context_id, command_set, view.data)
        if whole is not None:
            conversation.association.send(whole)
        conversation.exchanges[message_id] = exchange
        self._outstanding[message_id] = exchange, token
        if whole is None:
            self._gathered = 0  # that goes in the same write, before this one
            try:
                await conversation.send_in_batches(context_id, command_set, view)
            except BaseException:  # nothing of it has gone, or the association is over
                self._forget(message_id)
                raise
            return
        if not self._gathered:
            self._gathering_since = io.now()
        self._gathered += len(view.data) or 1
        if self._gathered >= _TOGETHER or io.now() - self._gathering_since >= _SOON:
            await self._write()

    async def _write(self) -> None:
        self._gathered = 0
        await self._io.flush()

    # --- answers ----------------------------------------------------------------------------------------------------

    async def _wait(self) -> None:
        """Until something is answered; meanwhile the peer's own requests are.

        The time limit begins anew with each answer: those who work off one request after the other need it for each.
        """
        conversation, inbox, io = self._conversation, self._inbox, self._io
        requests, seconds = conversation.requests, conversation.association.timeouts.response
        deadline = None if seconds is None else io.now() + seconds
        while not inbox:
            if not await io.until(lambda: inbox or requests or conversation.over, deadline):
                await conversation.give_up_response()
            if requests:
                deadline = await conversation.take_up_next(deadline)
            elif not inbox:
                conversation.check_open()

    def _forget(self, message_id: int) -> Any:
        """Its token."""
        exchange, token = self._outstanding.pop(message_id)
        del self._conversation.exchanges[message_id]
        if exchange.freed:
            self._places -= 1
        return token

    def _answered(self, response: Response) -> None:
        conversation = self._conversation
        token = self._forget(response.message_id)
        if response.dataset is not None:
            conversation.held -= getattr(response.dataset, "in_memory", 0)
        if conversation.congested:
            conversation._relieve()
        self._source.done(token, response)
