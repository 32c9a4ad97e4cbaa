"""The conversations of PS3.7, each once: associate, echo, store, release, abort, and serving them.

A ``Conversation`` is all that is said on one association. Its operations are coroutines that wait only for their
``Io``, so that every face runs the same code. What a message belongs to is found by its message ID: responses go to
the inbox of the exchange that asked, requests to the queue of the acceptor; whoever waits reads for all.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

from dicomnet.config import Limits
from dicomnet.dimse import messages, templates
from dicomnet.dimse.io import Dataset, Io, View
from dicomnet.dimse.messages import CommandField, Priority, Request, Response, Unusable
from dicomnet.dimse.provider import AssociationInfo, Indication, Provider, as_response
from dicomnet.dimse.status import Status
from dicomnet.dimse.stream import Event, Message, MessageStream, OpenSink
from dicomnet.errors import (
    AbortSource,
    AssociationAborted,
    AssociationRejected,
    DeadlineExceeded,
    DicomNetworkError,
    LocalProtocolError,
    NoAcceptedContext,
    Reject,
    RemoteProtocolError,
    StatusError,
    TransportError,
)
from dicomnet.ul import events, fsm
from dicomnet.ul.association import Association

if TYPE_CHECKING:
    from dicomnet.ul.negotiation import AcceptedContext
    from dicomnet.ul.pdu import AssociateRq

VERIFICATION = "1.2.840.10008.1.1"
_MOMENT = 1.0  # seconds: a requestor that sends file after file needs less between two of them


@dataclass(slots=True, eq=False)
class _Exchange:
    """A request of ours and the responses that came. ``abandoned``: nobody waits for them any more."""

    inbox: deque[Message] = field(default_factory=deque)
    abandoned: bool = False


class Conversation:
    """All that is said on one association.

    ``over``: nothing more will be said; ``error`` says why, None after an orderly release.
    """

    def __init__(self, io: Io, association: Association, open_sink: OpenSink, limits: Limits) -> None:
        self.io = io
        self.association = association
        self.stream = MessageStream(association, open_sink, limits)
        self.over = False
        self.error: DicomNetworkError | None = None
        self.requested: events.AssociateRequested | None = None  # the peer's request, for the acceptor to answer
        self._exchanges: dict[int, _Exchange] = {}
        self._last_message_id = 0
        self._last_received = 0.0
        self._requests: deque[Message] = deque()  # the peer's, not yet taken up
        self._unanswered: set[int] = set()  # message IDs of the peer's requests, from arrival to response

    # --- what arrives -----------------------------------------------------------------------------------------------

    def receive_data(self, data: memoryview, now: float) -> None:
        """Bytes from the peer; afterwards ``data`` may be reused."""
        self._last_received = now
        for event in self.stream.receive_data(data, now):
            self._route(event)

    def receive_eof(self, now: float, error: OSError | None = None) -> None:
        """The connection is closed, by the peer or by ``error``."""
        self.association.receive_eof(now)
        for event in self.stream.events(now):
            self._route(event)
        if error is not None and type(self.error) is TransportError:
            self.error.__cause__ = error
        self.end(None)

    def handle_timer(self, now: float) -> None:
        """A time limit of the association may have passed."""
        self.association.handle_timer(now)
        for event in self.stream.events(now):
            self._route(event)

    def _route(self, event: Event) -> None:
        if type(event) is Message:
            wrong = self._route_message(event)
            if wrong is not None:
                self.association.fail(wrong, self.io.now())
                for following in self.stream.events(self.io.now()):
                    self._route(following)
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
                if timer != "closing":  # the peer did not close: then we do
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
            exchange = self._exchanges.get(command.message_id)
            if exchange is None:  # N-25
                return f"a {messages.service(command.command)} response to a request that was never made"
            command.dataset = message.dataset
            exchange.inbox.append(message)
            if exchange.abandoned and not command.status.is_pending:
                self._finish(command.message_id)
            return None
        if type(command) is Request and command.command is CommandField.C_CANCEL:
            return None  # N-26: for something unknown or finished; nothing here runs long enough to be cancelled
        if command.message_id in self._unanswered:  # N-23
            detail = f"message ID {command.message_id} is in use"
            status = Status.DUPLICATE_INVOCATION
            duplicate = Unusable(command.command, command.message_id, command.has_dataset, status, detail)
            message = message._replace(command=duplicate)
        self._unanswered.add(cast("int", command.message_id))
        self._requests.append(message)
        return None

    def _release_requested(self, collision: bool) -> None:
        if collision and not self.association.requestor:
            return  # AR-8: as the acceptor, first wait for the answer to our own request
        if self._exchanges and not collision:
            self.association.fail("a release while a response is due", self.io.now())
            for event in self.stream.events(self.io.now()):
                self._route(event)
            return
        self.association.respond_release(self.io.now())
        if not collision:
            self.end(None)

    def end(self, error: DicomNetworkError | None) -> None:
        """Nothing more will be said. Only the first reason counts."""
        if not self.over:
            self.over = True
            self.error = error
            self.stream.discard()

    def busy(self, now: float) -> bool:
        """A message is under way, or was a moment ago, so that more may follow."""
        return self.stream.mid_message or bool(self._unanswered) or now - self._last_received < _MOMENT

    def _check_open(self) -> None:
        if self.over:
            raise self._why_over()

    def _why_over(self) -> DicomNetworkError:
        """A fresh error for each caller: one exception object raised in several threads would mix their tracebacks."""
        error = self.error
        if error is None:
            return LocalProtocolError("the association has been released")
        fresh = type(error)(*error.args)
        fresh.__cause__ = error.__cause__
        return fresh

    # --- requestor --------------------------------------------------------------------------------------------------

    async def associate(self, request: AssociateRq) -> None:
        """Request the association over a connection that stands, and wait for the answer (PS3.8 7.1)."""
        association = self.association
        association.associate(request)
        association.transport_opened(self.io.now())
        await self.io.flush()
        await self.io.until(lambda: association.answer or self.over, None)
        self._check_open()

    async def echo(self) -> Response:
        """C-ECHO (PS3.7 9.1.5)."""
        context = self.context_for(VERIFICATION)
        message = await self._exchange(context.id, Request(CommandField.C_ECHO, 0, VERIFICATION), None)
        return cast("Response", message.command)

    async def store(
        self,
        context: AcceptedContext,
        dataset: Dataset,
        priority: int = Priority.MEDIUM,
        originator: tuple[str, int] | None = None,
    ) -> Response:
        """C-STORE (PS3.7 9.1.1) of a data set in the transfer syntax of ``context``."""
        request = Request(
            CommandField.C_STORE, 0, dataset.sop_class_uid, dataset.sop_instance_uid, priority, has_dataset=True
        )
        if originator is not None:
            request.move_originator_ae, request.move_originator_message_id = originator
        with dataset.view() as view:
            message = await self._exchange(context.id, request, view)
        return cast("Response", message.command)

    async def release(self) -> None:
        """Release the association (PS3.8 7.2) and wait until the peer has confirmed."""
        self._check_open()
        if self._exchanges or self._unanswered:
            raise LocalProtocolError("release: operations are outstanding; wait for them, or abort")
        self.association.release(self.io.now())
        await self.io.flush()
        await self.io.until(lambda: self.over, None)
        if self.error is not None:
            raise self._why_over()

    async def abort(self, source: int = AbortSource.USER, reason: int = 0) -> None:
        """Abort the association (PS3.8 7.3), if there still is one."""
        if self.association.can(fsm.Event.ABORT_REQUEST):
            self.association.abort(self.io.now(), source, reason)
            self.end(AssociationAborted(source, reason, "by this side"))
            await self.io.flush()

    def context_for(self, sop_class_uid: str) -> AcceptedContext:
        """The accepted context of a SOP class whose transfer syntax does not matter. Raises NoAcceptedContext."""
        for context in self.association.contexts.values():
            if context.abstract_syntax == sop_class_uid:
                return context
        self._check_open()
        raise NoAcceptedContext(f"no presentation context was accepted for SOP class {sop_class_uid}")

    async def _exchange(self, context_id: int, request: Request, view: View | None) -> Message:
        """One request and its one response."""
        io = self.io
        await io.enter()
        try:
            self._check_open()
            exchange = self._begin(request)
        except BaseException:
            io.leave()
            raise
        try:
            await self._send(context_id, request, view)
            seconds = self.association.timeouts.response
            inbox = exchange.inbox
            deadline = None if seconds is None else io.now() + seconds
            while not inbox:
                if not await io.until(lambda: inbox or self._requests or self.over, deadline):
                    await self.abort()
                    raise DeadlineExceeded("response", seconds)
                if self._requests:
                    await self._perform(None, None, self._requests.popleft())
                elif not inbox:
                    raise self._why_over()
            message = inbox.popleft()
        except BaseException:
            exchange.abandoned = True
            if self.over:
                self._finish(request.message_id)
            raise
        self._finish(request.message_id)
        return message

    def _begin(self, request: Request) -> _Exchange:
        """Give the request a message ID that no outstanding one has (N-23)."""
        message_id = self._last_message_id
        while True:
            message_id = message_id % 0xFFFF + 1
            if message_id not in self._exchanges:
                break
        self._last_message_id = request.message_id = message_id
        exchange = self._exchanges[message_id] = _Exchange()
        return exchange

    def _finish(self, message_id: int) -> None:
        if self._exchanges.pop(message_id, None) is not None:
            self.io.leave()

    async def _send(self, context_id: int, message: Request | Response, view: View | None) -> None:
        """Send a message, whole; what keeps it from being whole ends the association."""
        command_set = templates.encode(message) or messages.encode(message)
        association, io = self.association, self.io
        data = None if view is None else view.data
        with io.sending():
            started = False
            try:
                passed = -len(command_set)
                for batch in self.stream.batches(context_id, command_set, data):
                    self._check_open()
                    association.send(batch)
                    started = True
                    await io.flush()
                    if view is not None:
                        passed += sum(map(len, batch[1::2]))
                        view.passed(max(passed, 0))
            except BaseException:
                if started and not self.over:
                    await self.abort()
                raise

    # --- acceptor ---------------------------------------------------------------------------------------------------

    async def serve(self, provider: Provider, describe: Callable[[AssociateRq], AssociationInfo]) -> None:
        """Answer the peer's association request, then its messages, until it releases or the association ends."""
        io = self.io
        await io.until(lambda: self.requested or self.over, None)
        if self.requested is None:
            return
        association = describe(self.requested.request)
        if not await self._answer_association(provider, association):
            return
        try:
            while await self._wait_for_request():
                while self._requests and not self.over:
                    await self._perform(provider, association, self._requests.popleft())
        finally:
            association.error = self.error
            if (closed := provider.handler("close")) is not None:
                await io.call(closed, association)
            await io.flush()

    async def _wait_for_request(self) -> bool:
        """False if there will be none."""
        seconds, io = self.association.timeouts.idle, self.io
        self._last_received = io.now()
        while not self._requests and not self.over:
            deadline = None if seconds is None else self._last_received + seconds
            arrived = await io.until(lambda: self._requests or self.over, deadline)
            if not arrived and seconds is not None and self._last_received + seconds <= io.now():
                await self.abort(AbortSource.PROVIDER)
                self.error = DeadlineExceeded("idle", seconds)
        return bool(self._requests)

    async def _answer_association(self, provider: Provider, association: AssociationInfo) -> bool:
        refusal = provider.admit(association)
        if refusal is None and (decide := provider.handler("association")) is not None:
            try:
                await self.io.call(decide, association)
            except Reject as reject:
                refusal = reject
            except Exception as error:  # the user's code: anything
                self.io.report("the on_association handler failed", error)
                refusal = Reject(2, 1, 1)
        if self.over:  # the peer lost patience meanwhile
            return False
        now = self.io.now()
        if refusal is not None:
            self.association.reject(refusal.result, refusal.source, refusal.reason, now)
            self.io.report(f"association refused: {refusal}")
            self.end(AssociationRejected(refusal.result, refusal.source, refusal.reason))
        else:
            self.association.accept(provider.answer(association.request), now)
            association.accepted = tuple(self.association.contexts.values())
        await self.io.flush()
        return refusal is None

    async def _perform(self, provider: Provider | None, association: AssociationInfo | None, message: Message) -> None:
        """Answer one request."""
        command = message.command
        if type(command) is Unusable:
            response = Response(command.status, error_comment=command.detail)
        else:
            assert type(command) is Request
            response = await self._response(provider, association, command, message)
            response.sop_class_uid = response.sop_class_uid or command.sop_class_uid
            response.sop_instance_uid = response.sop_instance_uid or command.sop_instance_uid
        message_id = cast("int", command.message_id)
        response.command, response.message_id = cast("int", command.command), message_id
        if not self.over:
            await self._send(message.context_id, response, None)
        self._unanswered.discard(message_id)

    async def _response(
        self, provider: Provider | None, association: AssociationInfo | None, request: Request, message: Message
    ) -> Response:
        context = self.association.contexts[message.context_id]
        dataset = message.dataset
        name = _HANDLERS.get(request.command)
        if name is None or provider is None or association is None:
            return Response(Status.UNRECOGNISED_OPERATION)
        if (refusal := _check(request, context, dataset)) is not None:
            return refusal
        handler = provider.handler(name)
        if handler is None:
            # PS3.4 A.4: verification needs no more than an answer
            is_echo = request.command is CommandField.C_ECHO
            return Response(Status.SUCCESS if is_echo else Status.UNRECOGNISED_OPERATION)
        originator = None
        if request.move_originator_ae is not None:
            originator = (request.move_originator_ae, request.move_originator_message_id or 0)
        indication = Indication(
            association,
            context,
            request.message_id,
            request.sop_class_uid,
            request.sop_instance_uid,
            request.priority,
            originator,
            dataset,
        )
        try:
            return as_response(await self.io.call(handler, indication))
        except StatusError as error:
            return Response(Status(error.status), error_comment=error.comment)
        except Exception as error:  # the user's code: anything
            self.io.report(f"the on_{name} handler failed", error)
            return Response(Status.PROCESSING_FAILURE, error_comment=f"{type(error).__name__} in the handler")


_HANDLERS = {CommandField.C_ECHO: "c_echo", CommandField.C_STORE: "c_store"}


def _check(request: Request, context: AcceptedContext, dataset: object) -> Response | None:
    """The answer to a request that no handler needs to see, or None."""
    if request.command is not CommandField.C_STORE:
        if request.sop_class_uid != context.abstract_syntax:
            return Response(Status.SOP_CLASS_NOT_SUPPORTED)
        return None
    if request.sop_class_uid != context.abstract_syntax:  # PS3.4 Table B.2-1
        comment = "the Affected SOP Class UID is not that of the presentation context"
        return Response(Status.DATASET_MISMATCH, error_comment=comment)
    if dataset is None:
        return Response(Status.CANNOT_UNDERSTAND, error_comment="a C-STORE request without a data set")
    if isinstance(dataset, OSError):
        return Response(Status.OUT_OF_RESOURCES, error_comment=f"cannot be stored: {dataset.strerror}")
    inner = cast("Dataset", dataset).inner_uids()
    if inner is not None and inner != (request.sop_class_uid, request.sop_instance_uid):
        return Response(Status.DATASET_MISMATCH, error_comment="SOP class or instance UID differs from the command's")
    return None
