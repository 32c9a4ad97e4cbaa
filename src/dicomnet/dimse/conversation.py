"""All that is said on one association (PS3.7 8): who is told what, and how a message goes out and is answered.

A ``Conversation`` knows no service. Responses go to the inbox of the exchange that asked, found by their message ID;
requests of the peer to the queue of those that wait to be performed; whoever waits reads for all. ``operations`` has
what a requestor says on it, ``serving`` what is said to the peer's requests. All of them are coroutines that wait for
nothing but their ``Io``, so that every face runs the same code.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Final, NoReturn, cast

from dicomnet.config import Limits
from dicomnet.dimse import messages, templates
from dicomnet.dimse.exchange import Exchange, Orphan, Performer
from dicomnet.dimse.io import Codec, Io, View
from dicomnet.dimse.messages import CommandField, Request, Response, Unusable
from dicomnet.dimse.status import Status
from dicomnet.dimse.stream import Event, Message, MessageStream
from dicomnet.errors import (
    AbortSource,
    AssociationAborted,
    AssociationRejected,
    DeadlineExceeded,
    DicomNetworkError,
    LocalProtocolError,
    NoAcceptedContext,
    RemoteProtocolError,
    TransportError,
)
from dicomnet.ul import events, fsm
from dicomnet.ul.association import Association

if TYPE_CHECKING:
    from dicomnet.ul.negotiation import AcceptedContext
    from dicomnet.ul.pdu import AssociateRq

VERIFICATION = "1.2.840.10008.1.1"
PENDING: Final = (Status.PENDING, Status.PENDING_WARNING)
_MANY: Final = (CommandField.C_FIND, CommandField.C_GET, CommandField.C_MOVE)  # have pending responses
_MOMENT = 1.0  # seconds: a requestor that sends file after file needs less between two of them
_FLOOD = 256  # times Limits.operations: more than come in one segment. From there on requests are not even refused
_LOOK_AGAIN = 0.05  # seconds until a condition is looked at that somebody else's handler may have made true
_PROGRESS = 64 * 1024  # bytes of a message within the idle limit: 9 kbit/s at its default. Less is no transfer


class Conversation:
    """All that is said on one association.

    ``over``: nothing more will be said; ``error`` says why, None after an orderly release. ``congested``: more has come
    than is being read or performed, so that nothing more is to be received for now. ``held``: bytes in memory of the
    data sets that have been received for requests not yet answered and responses not yet read.
    """

    def __init__(self, io: Io, association: Association, codec: Codec, limits: Limits) -> None:
        self.io = io
        self.association = association
        self.codec = codec
        self.limits = limits
        self.stream = MessageStream(association, codec.open_sink, limits)
        self.over = False
        self.error: DicomNetworkError | None = None
        self.requested: events.AssociateRequested | None = None  # the peer's request, for the acceptor to answer
        self.congested = False
        self.held = 0

        # Requests of ours.
        self.exchanges: dict[int, Exchange] = {}  # by message ID
        self._abandoned = 0  # how many of them are
        self._queue = 0  # how many strands wait for the operations window
        self._last_message_id = 0
        self._getters: list[Exchange] = []  # C-GETs: the peer's C-STOREs belong to the first of them
        self.orphans: deque[Orphan] = deque()  # to be closed by who comes next; their owners are gone

        # Requests of the peer.
        self.performer: Performer | None = None  # None: none is performed
        self.requests: deque[Message] = deque()  # not yet taken up
        self._unanswered: dict[int, int] = {}  # message ID → bytes held, from arrival to response
        self.cancelled: set[int] = set()  # those of them for which a C-CANCEL came before they were taken up
        self._answering = 0  # how many responses are on their way
        self._release_due = False  # the peer asked for a release; it is confirmed when all else is answered

        # When bytes came last, and when enough of them had come to call it progress.
        self._last_received = 0.0
        self.last_progress = 0.0
        self._received = 0  # bytes since then

    # --- what arrives -----------------------------------------------------------------------------------------------

    def receive_data(self, data: memoryview, now: float) -> bool:
        """Bytes from the peer; afterwards ``data`` may be reused. True if it is in mid-message and has more to send."""
        self._last_received = now
        self._received += len(data)
        if self._received >= _PROGRESS:
            self._received, self.last_progress = 0, now
        if (message := self.stream.receive_whole(data)) is not None:
            if (wrong := self._route_message(message)) is not None:
                self._fail(wrong)
            return False
        self.association.receive_data(data, now)
        for event in self.stream.events(now):
            if type(event) is Message and not self.over:
                if (wrong := self._route_message(event)) is not None:
                    self._fail(wrong)
            else:
                self._route(event)
        if self.association.close_wanted:  # without an event: an A-ABORT that comes before the request (AA-2)
            self.end(None)
        return self.stream.expects_more

    def receive_eof(self, now: float, error: OSError | None = None) -> None:
        """The connection is closed, by the peer or by ``error``."""
        self.association.receive_eof(now)
        for event in self.stream.events(now):
            self._route(event)
        if error is not None and type(self.error) is TransportError:
            # Without its traceback: that would keep alive the frames of whoever was writing, and the data set in them.
            self.error.__cause__ = error.with_traceback(None)
        self.end(None)

    def handle_timer(self, now: float) -> None:
        """A time limit of the association may have passed."""
        self.association.handle_timer(now)
        for event in self.stream.events(now):
            self._route(event)

    def _route(self, event: Event) -> None:
        if self.over:  # what came in the same segment as the end
            return
        match event:
            case events.AssociateRequested():
                self.requested = event
            case events.AssociateRejected(result, source, reason):
                self.end(AssociationRejected(result, source, reason))
            case events.RequestRefused(result, source, reason):
                self.end(RemoteProtocolError(str(AssociationRejected(result, source, reason))))
            case events.AbortReceived(source, reason):
                self.end(AssociationAborted(source, reason))
            case events.PeerFailed(source, reason, detail):
                self.end(RemoteProtocolError(f"{detail}; aborted ({source}/{reason})"))
            case events.TransportClosed():
                self.end(TransportError("the peer closed the connection without releasing the association"))
            case events.TimerExpired(timer):
                self.end(DeadlineExceeded(timer, getattr(self.association.timeouts, timer)))
            case events.ReleaseRequested(collision):
                self._release_requested(collision)
            case events.ReleaseConfirmed():
                if self.association.can(fsm.Event.RELEASE_RESPONSE):  # collision, as the acceptor (AR-10)
                    self.association.respond_release(self.io.now())
                self.end(None)

    def _route_message(self, message: Message) -> str | None:
        """Returns what is wrong with it, or None."""
        command = message.command
        if type(command) is Response:
            return self._route_response(command, message)
        message_id = cast("int", command.message_id)
        if command.command == CommandField.C_CANCEL:
            if self.performer is not None and message_id in self._unanswered:  # N-26: else it means nothing
                self.performer.cancel(message_id)
            return None
        if self._unanswered and (refusal := self._refusal(message_id)) is not None:
            if len(self.requests) >= _FLOOD * self.limits.operations:
                return f"{len(self.requests)} requests that cannot be performed"
            refused = Unusable(command.command, message_id, command.has_dataset, *refusal)
            self.requests.append(message._replace(command=refused, dataset=None, command_set=b""))
            return None
        held = 0 if message.dataset is None else getattr(message.dataset, "in_memory", 0)
        self.held += held
        self._unanswered[message_id] = held
        if self._getters and command.command == CommandField.C_STORE and type(command) is Request:
            self._getters[0].inbox.append(message)
        else:
            self.requests.append(message)
        if len(self._unanswered) >= self.limits.operations:
            self.congested = True
        return None

    def _route_response(self, response: Response, message: Message) -> str | None:
        """Returns what is wrong with it, or None."""
        exchange = self.exchanges.get(response.message_id)
        if exchange is None or exchange.answered:  # N-25
            return f"a {messages.service(response.command)} response to a request that is not outstanding"
        if message.context_id != exchange.context_id or response.command != exchange.command:
            name, asked = messages.service(response.command), messages.service(exchange.command)
            return f"a {name} response in context {message.context_id} to a {asked} in context {exchange.context_id}"
        response.dataset = message.dataset
        exchange.answered = response.status not in PENDING or exchange.command not in _MANY
        if not exchange.abandoned:
            exchange.inbox.append(response)
            if message.dataset is not None:
                self.held += getattr(message.dataset, "in_memory", 0)
            if len(exchange.inbox) >= self.limits.inbox:
                self.congested = True
        elif exchange.answered:
            self._abandoned -= 1
            self.finish(exchange)
        return None

    def _refusal(self, message_id: int) -> tuple[Status, str] | None:
        """Why a request that came while others are unanswered is not performed, if it is not."""
        if message_id in self._unanswered:  # N-23
            return Status.DUPLICATE_INVOCATION, f"message ID {message_id} is in use"
        # Several at once without a negotiated window: they are performed one after the other, which harms nobody.
        if self.window_negotiated:
            most = self.performed_window
            if most and len(self._unanswered) >= most:
                return Status.RESOURCE_LIMITATION, f"more than {most} operations outstanding"
        return None

    @property
    def window_negotiated(self) -> bool:
        """Whether the peer has answered, or been answered, an operations window (PS3.7 D.3.3.3)."""
        answer = self.association.answer
        return answer is not None and answer.user.async_ops is not None

    @property
    def performed_window(self) -> int:
        """How many operations the peer may have outstanding here; 0 is unlimited."""
        return self.association.window[1 if self.association.requestor else 0]

    def _release_requested(self, collision: bool) -> None:
        if collision:
            # AR-8: the requestor answers first; the acceptor waits for the answer to its own request
            if self.association.requestor and self.association.can(fsm.Event.RELEASE_RESPONSE):
                self.association.respond_release(self.io.now())
        elif (self.association.requestor or self._unanswered) and not all(
            exchange.answered for exchange in self.exchanges.values()
        ):
            # But a requestor's may cross a request of ours, which it cannot answer any more.
            self._fail("a release while a response is due")
        else:
            self._release_due = True
            self._release_if_due()

    def _release_if_due(self) -> None:
        """Confirm the peer's release when its requests have been answered, which may be done before (AR-7)."""
        ready = self._release_due and not (self.requests or self._unanswered or self._answering)
        if ready and self.association.can(fsm.Event.RELEASE_RESPONSE):  # not if it did something else after all
            self.association.respond_release(self.io.now())
            self.end(None)

    def _fail(self, wrong: str) -> None:
        """The peer broke the protocol."""
        self.association.fail(wrong, self.io.now())
        for event in self.stream.events(self.io.now()):
            self._route(event)

    def end(self, error: DicomNetworkError | None) -> None:
        """Nothing more will be said. Only the first reason counts."""
        if not self.over:
            self.over = True
            self.error = error
            self.stream.discard()
            self.requests.clear()  # nobody answers them any more; their data sets' files go with them
            self._abandoned = 0
            for exchange in list(self.exchanges.values()):
                if exchange.abandoned:
                    self.finish(exchange)
                else:  # those who wait for its place learn of the end, whenever its owner comes to read the rest
                    exchange.freed = True
                    self.io.window.release()
            if self.congested:  # nobody reads, and nobody would be woken
                self.io.resume()

    def busy(self, now: float) -> bool:
        """A message is under way, or was a moment ago, so that more may follow."""
        return self.stream.mid_message or self.performing or now - self._last_received < _MOMENT

    @property
    def performing(self) -> bool:
        """Whether the peer waits for a response."""
        return bool(self._unanswered or self._answering)

    def start_idling(self) -> None:
        """Now this side waits for the peer to ask for something."""
        self._last_received = self.last_progress = self.io.now()
        self._received = 0

    def check_open(self) -> None:
        """Raises what ended the association, if it has ended."""
        if self.over:
            raise self.why_over()

    def why_over(self) -> DicomNetworkError:
        """A fresh error for each caller: one exception object raised in several threads would mix their tracebacks."""
        error = self.error
        if error is None:
            return LocalProtocolError("the association has been released")
        fresh = type(error)(*error.args)
        fresh.__cause__ = error.__cause__
        return fresh

    # --- the association --------------------------------------------------------------------------------------------

    async def associate(self, request: AssociateRq) -> None:
        """Request the association over a connection that stands, and wait for the answer (PS3.8 7.1)."""
        association = self.association
        association.associate(request)
        association.transport_opened(self.io.now())
        await self.io.flush()
        await self.io.until(lambda: association.answer or self.over, None)
        self.check_open()
        self.io.open_window(association.window[0])

    async def release(self) -> None:
        """Release the association (PS3.8 7.2) and wait until the peer has confirmed."""
        self.check_open()
        await self.settle()
        while self.requests:  # they came with the last response
            await self.take_up(self.requests.popleft())
        self.check_open()
        if self.exchanges or self.performing:
            raise LocalProtocolError("release: operations are outstanding; wait for them, or abort")
        self.association.release(self.io.now())
        await self.io.flush()
        await self.io.until(lambda: self.over, None)
        if self.error is not None:
            raise self.why_over()

    async def abort(
        self, source: int = AbortSource.USER, reason: int = 0, *, why: DicomNetworkError | None = None
    ) -> None:
        """Abort the association (PS3.8 7.3), if there still is one. ``why``: the error that others are told."""
        if self.association.can(fsm.Event.ABORT_REQUEST):
            self.association.abort(self.io.now(), source, reason)
            self.end(why or AssociationAborted(source, reason, "by this side"))
            await self.io.flush()

    def context_for(self, sop_class_uid: str) -> AcceptedContext:
        """The accepted context of a SOP class whose transfer syntax does not matter. Raises NoAcceptedContext."""
        for context in self.association.contexts.values():
            if context.abstract_syntax == sop_class_uid:
                return context
        self.check_open()
        raise NoAcceptedContext(f"no presentation context was accepted for SOP class {sop_class_uid}")

    # --- requests of ours -------------------------------------------------------------------------------------------

    async def ask(self, context_id: int, request: Request, view: View | None = None) -> Response:
        """One request and its one response."""
        exchange = await self.begin(context_id, request, view)
        try:
            return cast("Response", await self.next_of(exchange))
        finally:
            self.leave(exchange)

    async def begin(self, context_id: int, request: Request, view: View | None = None) -> Exchange:
        """Send a request as soon as the operations window has room; to be followed by ``leave``."""
        io = self.io
        if self.orphans:
            await self._close_orphans()
        strand = io.strand()
        if not io.window.acquire(False):
            await self.wait_for_window(strand)
        request.message_id = message_id = self.next_message_id()
        exchange = self.exchanges[message_id] = Exchange(message_id, context_id, request.command, strand)
        if request.command is CommandField.C_GET:
            self._getters.append(exchange)
        try:
            self.check_open()
            await self.send(context_id, templates.encode_request(request) or _encode(request), view)
        except BaseException:  # nothing has gone out, or the association is over
            self.finish(exchange)
            raise
        return exchange

    async def wait_for_window(self, strand: object) -> None:
        """Wait until the operations window has room, and take it; for when it had none."""
        io = self.io
        if self._abandoned:
            await self.settle()
            if io.window.acquire(False):
                return
        if self.exchanges and all(exchange.strand == strand for exchange in self.exchanges.values()):
            raise LocalProtocolError(
                f"the operations window of {len(self.exchanges)} is full of operations begun here whose responses"
                " have not been read to the end: read on, or close them, before the next request"
            )
        self._queue += 1
        try:
            await io.pass_gate(io.window)
        finally:
            self._queue -= 1

    def next_message_id(self) -> int:
        """One that no outstanding request has (N-23)."""
        message_id = self._last_message_id % 0xFFFF + 1
        while message_id in self.exchanges:
            message_id = message_id % 0xFFFF + 1
        self._last_message_id = message_id
        return message_id

    async def next_of(self, exchange: Exchange) -> Response | Message:
        """What comes next for it; meanwhile the peer's own requests are answered."""
        io, inbox, requests = self.io, exchange.inbox, self.requests
        seconds = self.association.timeouts.response
        deadline = None if seconds is None else io.now() + seconds
        while not inbox:
            if not await io.until(
                lambda: inbox or requests or self.over or self.congested or exchange.abandoned, deadline
            ):
                await self.give_up_response()
            elif requests:
                deadline = await self.take_up_next(deadline)
            elif not inbox:
                self.check_open()
                if exchange.abandoned:
                    raise LocalProtocolError("the operation was closed while its next response was awaited")
                await self._wait_for_room(exchange.strand, lambda: inbox or exchange.abandoned, deadline)
        received = inbox.popleft()
        if received.dataset is not None and type(received) is Response:
            self.held -= getattr(received.dataset, "in_memory", 0)
        if self.congested:
            self._relieve()
        return received

    async def _wait_for_room(self, strand: object, ready: Callable[[], object], deadline: float | None) -> None:
        """Others have to read or to perform something first, unless ``ready()``."""
        if any(exchange.strand == strand and self._stops_reading(exchange) for exchange in self.exchanges.values()):
            raise LocalProtocolError(
                "so many responses to an operation begun here wait to be read that nothing more is received:"
                " read them, or close the operation, before the next request"
            )
        if not await self.io.until(lambda: not self.congested or self.over or ready(), deadline):
            await self.give_up_response()

    def _stops_reading(self, exchange: Exchange) -> bool:
        """Whether it is what has come for this one that makes the conversation congested."""
        unread, unanswered = len(exchange.inbox), len(self._unanswered)
        # Instances that a C-GET brought, but for one that its user has.
        return unread >= self.limits.inbox or (unanswered >= self.limits.operations and unread >= unanswered - 1 > 0)

    def _relieve(self) -> None:
        """Something was read or answered: perhaps there is room again."""
        inbox = self.limits.inbox
        self.congested = len(self._unanswered) >= self.limits.operations or any(
            len(exchange.inbox) >= inbox for exchange in self.exchanges.values()
        )
        if not self.congested:
            self.io.resume()

    async def cancel(self, exchange: Exchange) -> None:
        """C-CANCEL (PS3.7 9.3.2.3 and the like), unless the final response is here."""
        if not (exchange.answered or self.over):
            request = Request(CommandField.C_CANCEL, exchange.message_id)
            await self.send(exchange.context_id, messages.encode(request), None)

    async def give_up(self, exchange: Exchange) -> None:
        """Cancel it, and do without its responses."""
        self.leave(exchange)  # first: a release meanwhile waits for the response
        await self.cancel(exchange)

    def outstanding(self, message_id: int) -> Exchange | None:
        """The exchange with that message ID, if its final response has not come."""
        exchange = self.exchanges.get(message_id)
        return None if exchange is None or exchange.answered else exchange

    def leave(self, exchange: Exchange) -> None:
        """Nobody reads its inbox any more; if responses are still to come they are dropped."""
        if self.exchanges.get(exchange.message_id) is not exchange or exchange.abandoned:
            return
        if self.over or exchange.answered:
            self.finish(exchange)
        else:
            exchange.abandoned = True
            self._abandoned += 1
            self._empty(exchange)
            if self._queue:  # those who wait for its place do not read, and who has left it does not either
                self.io.spawn(self._settle_for_others())

    def finish(self, exchange: Exchange) -> None:
        """It is over: its place in the window is free."""
        del self.exchanges[exchange.message_id]
        self._empty(exchange)
        if not exchange.freed:
            self.io.window.release()

    def _empty(self, exchange: Exchange) -> None:
        """Nobody reads its inbox any more: what is there must not keep others from being received."""
        if exchange.inbox:
            for received in exchange.inbox:
                if type(received) is Message:  # a C-STORE that nobody took
                    if not self.over:
                        self.requests.append(received)
                else:
                    self.held -= getattr(received.dataset, "in_memory", 0)
            exchange.inbox.clear()
        if self._getters and exchange in self._getters:
            self._getters.remove(exchange)
        if self.congested:
            self._relieve()

    async def give_up_response(self) -> NoReturn:
        """The response has not come in time."""
        error = DeadlineExceeded("response", self.association.timeouts.response)
        await self.abort(why=error)
        raise error

    async def _settle_for_others(self) -> None:
        with suppress(DicomNetworkError):  # those who wait are told why the association has ended
            await self.settle()

    async def _close_orphans(self) -> None:
        while self.orphans:
            await self.orphans.popleft().close()

    async def settle(self) -> None:
        """Be done with operations that nobody wants any more: their responses hold places in the operations window."""
        await self._close_orphans()
        io, seconds = self.io, self.association.timeouts.response
        deadline = None if seconds is None else io.now() + seconds
        while self._abandoned and not self.over:
            if not await io.until(
                lambda: self.over or self.requests or self.congested or not self._abandoned, deadline
            ):
                await self.give_up_response()
            elif self.requests:
                deadline = await self.take_up_next(deadline)
            elif self.congested and self._abandoned and not self.over:
                await self._wait_for_room(io.strand(), lambda: self.requests or not self._abandoned, deadline)

    # --- requests of the peer ---------------------------------------------------------------------------------------

    async def take_up(self, message: Message) -> None:
        """See that a request of the peer is performed and answered."""
        if self.performer is not None:
            await self.performer.take_up(message)
        else:
            await self.answer(message, Response(Status.UNRECOGNISED_OPERATION))

    async def take_up_next(self, deadline: float | None) -> float | None:
        """Take up the first request that waits, for one who waits for a response until ``deadline``.

        Returns his new one: what takes this side's time is not the peer's. But requests without end do not put it off.
        """
        begun = self.io.now()
        if deadline is not None and begun >= deadline:
            await self.give_up_response()
        await self.take_up(self.requests.popleft())
        return None if deadline is None else deadline + self.io.now() - begun

    async def listen(self, until: Callable[[], object] | None, deadline: float | None) -> bool:
        """Answer what the peer asks for; False if ``deadline`` came before ``until()`` was true or it was all over."""

        def over() -> object:
            return self.over or (until is not None and until())

        in_time = True
        while not over():
            if not in_time:
                return False
            if self.requests:
                await self.take_up(self.requests.popleft())
                in_time = deadline is None or self.io.now() < deadline
            else:
                limit = deadline
                if until is not None and self._unanswered:  # what is performed beside this may make it true
                    again = self.io.now() + _LOOK_AGAIN
                    limit = again if deadline is None else min(again, deadline)
                in_time = await self.io.until(lambda: self.requests or over(), limit) or limit is not deadline
        return True

    async def answer(self, message: Message, response: Response, view: View | None = None) -> None:
        """Send the final response to a request of the peer; without ``view`` it has no data set."""
        command = message.command
        if type(command) is Request:
            response.sop_class_uid = response.sop_class_uid or command.sop_class_uid
            response.sop_instance_uid = response.sop_instance_uid or command.sop_instance_uid
        else:
            unusable = cast("Unusable", command)  # responses take another way
            response = Response(unusable.status, error_comment=unusable.detail)
        message_id = response.message_id = cast("int", command.message_id)
        response.command = cast("int", command.command)
        response.has_dataset = view is not None
        encoded = self.encode_response(response)
        # From now on the peer may have it, and may send what was one too many before.
        self._answered(message_id, command)
        self._answering += 1
        try:
            if not self.over:
                await self.send(message.context_id, encoded, view)
        except BaseException as error:
            if not (self.over or isinstance(error, Exception)):  # interrupted before it began; the peer still waits
                await self.send(message.context_id, encoded, view)
            raise
        finally:
            self._answering -= 1
        if self._release_due:
            self._release_if_due()
            await self.io.flush()

    def _answered(self, message_id: int, command: object) -> None:
        if type(command) is Unusable and command.status in (Status.DUPLICATE_INVOCATION, Status.RESOURCE_LIMITATION):
            return  # it never counted, and its message ID may be another's
        self.held -= self._unanswered.pop(message_id, 0)
        if self.cancelled:
            self.cancelled.discard(message_id)
        if self.congested:
            self._relieve()

    def owes(self, message: Message) -> bool:
        """Whether the peer waits for the response to a request of its."""
        return not self.over and message.command.message_id in self._unanswered

    def encode_response(self, response: Response) -> bytes:
        """Its command set; if it has none, that of a processing failure."""
        try:
            return templates.encode_response(response) or messages.encode(response)
        except Exception as error:  # a value that the handler put into it: anything
            self.io.report("a handler's response cannot be encoded", error)
            failure = Response(Status.PROCESSING_FAILURE, error_comment=f"{type(error).__name__} in the handler")
            failure.command, failure.message_id = response.command, response.message_id
            return messages.encode(failure)

    # --- sending ----------------------------------------------------------------------------------------------------

    async def send_all(self, context_id: int, messages: Sequence[tuple[bytes, View]]) -> None:
        """Send messages one after the other, those that are small in one write."""
        association, io, stream = self.association, self.io, self.stream
        if not io.message.acquire(False):
            await io.pass_gate(io.message)
        started = False
        try:
            for command_set, view in messages:
                self.check_open()
                whole = stream.whole(context_id, command_set, view.data)
                if whole is None:
                    await self.send_in_batches(context_id, command_set, view)
                else:
                    association.send(whole)
                    started = True
            await io.flush()
        except BaseException:
            await self._break_off(started)
            raise
        finally:
            io.message.release()

    async def send(self, context_id: int, command_set: bytes, view: View | None) -> None:
        """Send a message, whole; what keeps it from being whole ends the association."""
        association, io = self.association, self.io
        if not io.message.acquire(False):
            await io.pass_gate(io.message)
        started = False
        try:
            whole = self.stream.whole(context_id, command_set, None if view is None else view.data)
            if whole is None:
                await self.send_in_batches(context_id, command_set, view)
                return
            if self.over:
                raise self.why_over()
            association.send(whole)
            started = True
            await io.flush()
        except BaseException:
            await self._break_off(started)
            raise
        finally:
            io.message.release()

    async def _break_off(self, started: bool) -> None:
        """Of half a message nothing can be made, and nothing can follow it."""
        if started and not self.over:
            await self.abort()

    async def send_in_batches(self, context_id: int, command_set: bytes, view: View | None) -> None:
        """As ``send``, for those who hold the message gate."""
        started, passed = False, -len(command_set)
        try:
            for batch in self.stream.batches(context_id, command_set, None if view is None else view.data):
                self.check_open()
                self.association.send(batch)
                started = True
                await self.io.flush()
                if view is not None:
                    passed += sum(map(len, batch[1::2]))
                    view.passed(max(passed, 0))
        except BaseException:
            await self._break_off(started)
            raise


def _encode(request: Request) -> bytes:
    try:
        return messages.encode(request)
    except ValueError as error:
        raise LocalProtocolError(str(error)) from None
