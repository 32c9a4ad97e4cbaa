"""The conversations of PS3.7, each once: associate, echo, store, release, abort, and serving them.

A ``Conversation`` is all that is said on one association. Its operations are coroutines that wait only for their
``Io``, so that every face runs the same code. What a message belongs to is found by its message ID: responses go to
the inbox of the exchange that asked, requests to the queue of the acceptor; whoever waits reads for all.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NoReturn, cast

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
_PENDING = (Status.PENDING, Status.PENDING_WARNING)
_MOMENT = 1.0  # seconds: a requestor that sends file after file needs less between two of them
_PROGRESS = 64 * 1024  # bytes of a message within the idle limit: 9 kbit/s at its default. Less is no transfer


@dataclass(slots=True, eq=False)
class _Exchange:
    """A request of ours and the responses that came. ``answered``: the final one is among them."""

    context_id: int
    command: CommandField
    inbox: deque[Response] = field(default_factory=deque)
    answered: bool = False


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
        # Requests of ours, by message ID.
        self._exchanges: dict[int, _Exchange] = {}
        self._abandoned: set[int] = set()  # those whose responses nobody waits for any more
        self._last_message_id = 0

        # Requests of the peer.
        self._requests: deque[Message] = deque()  # not yet taken up
        self._unanswered: set[int] = set()  # their message IDs, from arrival to response
        self._release_due = False  # the peer asked for a release; it is confirmed when all else is answered

        # When bytes came last, and when enough of them had come to call it progress.
        self._last_received = 0.0
        self._last_progress = 0.0
        self._received = 0  # bytes since then

    # --- what arrives -----------------------------------------------------------------------------------------------

    def receive_data(self, data: memoryview, now: float) -> bool:
        """Bytes from the peer; afterwards ``data`` may be reused. True if it is in mid-message and has more to send."""
        self._last_received = now
        self._received += len(data)
        if self._received >= _PROGRESS:
            self._received, self._last_progress = 0, now
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
        if type(command) is Request and command.command is CommandField.C_CANCEL:
            return None  # N-26: for something unknown or finished; nothing here runs long enough to be cancelled
        message_id = cast("int", command.message_id)
        if self._unanswered and (refusal := self._refusal(message_id)) is not None:
            refused = Unusable(command.command, message_id, command.has_dataset, *refusal)
            message = message._replace(command=refused, dataset=None)
        else:
            self._unanswered.add(message_id)
        self._requests.append(message)
        return None

    def _route_response(self, response: Response, message: Message) -> str | None:
        """Returns what is wrong with it, or None."""
        exchange = self._exchanges.get(response.message_id)
        if exchange is None or exchange.answered:  # N-25
            return f"a {messages.service(response.command)} response to a request that is not outstanding"
        if message.context_id != exchange.context_id or response.command != exchange.command:
            name, asked = messages.service(response.command), messages.service(exchange.command)
            return f"a {name} response in context {message.context_id} to a {asked} in context {exchange.context_id}"
        response.dataset = message.dataset
        exchange.answered = response.status not in _PENDING
        if response.message_id not in self._abandoned:
            exchange.inbox.append(response)
        elif exchange.answered:
            self._finish(response.message_id)
        return None

    def _refusal(self, message_id: int) -> tuple[Status, str] | None:
        """Why a request that came while others are unanswered is not performed, if it is not."""
        if message_id in self._unanswered:  # N-23
            return Status.DUPLICATE_INVOCATION, f"message ID {message_id} is in use"
        # Several at once without a negotiated window: they are performed one after the other, which harms nobody.
        answer, window = self.association.answer, self.association.window  # as the requestor's: (invoked, performed)
        if answer is not None and answer.user.async_ops is not None:
            most = window[1] if self.association.requestor else window[0]
            if most and len(self._unanswered) >= most:
                return Status.RESOURCE_LIMITATION, f"more than {most} operations outstanding"
        return None

    def _release_requested(self, collision: bool) -> None:
        if collision:
            # AR-8: the requestor answers first; the acceptor waits for the answer to its own request
            if self.association.requestor and self.association.can(fsm.Event.RELEASE_RESPONSE):
                self.association.respond_release(self.io.now())
        elif self._exchanges:
            self._fail("a release while a response is due")
        else:
            self._release_due = True
            self._release_if_due()

    def _release_if_due(self) -> None:
        """Confirm the peer's release when its requests have been answered, which may be done before (AR-7)."""
        ready = self._release_due and not (self._requests or self._unanswered)
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
            self._requests.clear()  # nobody answers them any more; their data sets' files go with them
            for message_id in tuple(self._abandoned):
                self._finish(message_id)

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
        return await self._exchange(context.id, Request(CommandField.C_ECHO, 0, VERIFICATION), None)

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
            return await self._exchange(context.id, request, view)

    async def release(self) -> None:
        """Release the association (PS3.8 7.2) and wait until the peer has confirmed."""
        self._check_open()
        if self._abandoned:
            await self._await_abandoned()
        if self._exchanges or self._unanswered:
            raise LocalProtocolError("release: operations are outstanding; wait for them, or abort")
        self.association.release(self.io.now())
        await self.io.flush()
        await self.io.until(lambda: self.over, None)
        if self.error is not None:
            raise self._why_over()

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
        self._check_open()
        raise NoAcceptedContext(f"no presentation context was accepted for SOP class {sop_class_uid}")

    async def _exchange(self, context_id: int, request: Request, view: View | None) -> Response:
        """One request and its one response."""
        io = self.io
        if self._abandoned:
            await self._await_abandoned()
        if not io.window.acquire(False):
            await io.pass_gate(io.window)
        message_id = self._last_message_id % 0xFFFF + 1
        while message_id in self._exchanges:  # N-23: one that no outstanding request has
            message_id = message_id % 0xFFFF + 1
        self._last_message_id = request.message_id = message_id
        exchange = self._exchanges[message_id] = _Exchange(context_id, request.command)
        try:
            self._check_open()
            await self._send(context_id, templates.encode_request(request) or _encode(request), view)
        except BaseException:  # nothing has gone out, or the association is over
            self._finish(message_id)
            raise
        try:
            return await self._response_to(exchange)
        except BaseException:
            if not (self.over or exchange.answered):
                self._abandoned.add(message_id)
            raise
        finally:
            if message_id not in self._abandoned:
                self._finish(message_id)

    async def _response_to(self, exchange: _Exchange) -> Response:
        """Wait for it, and answer the peer's own requests meanwhile."""
        io, inbox, requests = self.io, exchange.inbox, self._requests
        seconds = self.association.timeouts.response
        deadline = None if seconds is None else io.now() + seconds
        while not inbox:
            if not await io.until(lambda: inbox or requests or self.over, deadline):
                await self._give_up_response()
            elif requests:
                await self._perform(None, None, requests.popleft())
            elif not inbox:
                raise self._why_over()
        return inbox.popleft()

    async def _give_up_response(self) -> NoReturn:
        error = DeadlineExceeded("response", self.association.timeouts.response)
        await self.abort(why=error)
        raise error

    async def _await_abandoned(self) -> None:
        """Nobody else reads the responses to abandoned requests, and they hold places in the operations window."""
        seconds = self.association.timeouts.response
        deadline = None if seconds is None else self.io.now() + seconds
        if not await self.io.until(lambda: self.over or not self._abandoned, deadline):
            await self._give_up_response()

    def _finish(self, message_id: int) -> None:
        self._abandoned.discard(message_id)
        del self._exchanges[message_id]
        self.io.window.release()

    async def _send(self, context_id: int, command_set: bytes, view: View | None) -> None:
        """Send a message, whole; what keeps it from being whole ends the association."""
        association, io = self.association, self.io
        if not io.message.acquire(False):
            await io.pass_gate(io.message)
        started = False
        try:
            whole = self.stream.whole(context_id, command_set, None if view is None else view.data)
            if whole is None:
                await self._send_in_batches(context_id, command_set, view)
                return
            if self.over:
                raise self._why_over()
            association.send(whole)
            started = True
            await io.flush()
        except BaseException:
            if started and not self.over:
                await self.abort()
            raise
        finally:
            io.message.release()

    async def _send_in_batches(self, context_id: int, command_set: bytes, view: View | None) -> None:
        started, passed = False, -len(command_set)
        try:
            for batch in self.stream.batches(context_id, command_set, None if view is None else view.data):
                self._check_open()
                self.association.send(batch)
                started = True
                await self.io.flush()
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
            await self._tell_closed(provider, association)
            await io.flush()

    async def _tell_closed(self, provider: Provider, association: AssociationInfo) -> None:
        if (handler := provider.handler("close")) is not None:
            try:
                await self.io.call(handler, association)
            except Exception as error:  # the user's code: anything
                self.io.report("the on_close handler failed", error)

    async def _wait_for_request(self) -> bool:
        """False if there will be none."""
        seconds, io = self.association.timeouts.idle, self.io
        self._last_received = self._last_progress = io.now()
        self._received = 0
        while not self._requests and not self.over:
            deadline = None if seconds is None else self._last_progress + seconds
            arrived = await io.until(lambda: self._requests or self.over, deadline)
            if not arrived and seconds is not None and self._last_progress + seconds <= io.now():
                await self.abort(AbortSource.PROVIDER, why=DeadlineExceeded("idle", seconds))
        return not self.over

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
        if refusal is not None:
            self._reject(refusal)
        else:
            self.association.accept(provider.answer(association.request), self.io.now())
            association.accepted = tuple(self.association.contexts.values())
        await self.io.flush()
        return refusal is None

    def _reject(self, refusal: Reject) -> None:
        try:
            self.association.reject(refusal.result, refusal.source, refusal.reason, self.io.now())
        except LocalProtocolError as error:
            self.io.report("the on_association handler raised a Reject that cannot be sent", error)
            refusal = Reject()
            self.association.reject(refusal.result, refusal.source, refusal.reason, self.io.now())
        self.io.report(f"association refused: {refusal}")
        self.end(AssociationRejected(refusal.result, refusal.source, refusal.reason))

    async def _perform(self, provider: Provider | None, association: AssociationInfo | None, message: Message) -> None:
        """Answer one request."""
        command = message.command
        if type(command) is Request:
            message_id = command.message_id
            response = await self._response(provider, association, command, message)
            response.command = command.command
            response.sop_class_uid = response.sop_class_uid or command.sop_class_uid
            response.sop_instance_uid = response.sop_instance_uid or command.sop_instance_uid
        else:
            unusable = cast("Unusable", command)  # responses take another way
            message_id = cast("int", unusable.message_id)
            response = Response(unusable.status, error_comment=unusable.detail)
            response.command = cast("int", unusable.command)
        response.message_id = message_id
        response.has_dataset = False  # none of the operations above has one
        if not self.over:
            await self._send(message.context_id, self._encode_response(response), None)
        self._unanswered.discard(message_id)
        if self._release_due:
            self._release_if_due()
            await self.io.flush()

    def _encode_response(self, response: Response) -> bytes:
        try:
            return templates.encode_response(response) or messages.encode(response)
        except Exception as error:  # a value that the handler put into it: anything
            self.io.report("a handler's response cannot be encoded", error)
            failure = Response(Status.PROCESSING_FAILURE, error_comment=f"{type(error).__name__} in the handler")
            failure.command, failure.message_id = response.command, response.message_id
            return messages.encode(failure)

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
            try:
                return as_response(await self.io.call(handler, indication))
            except StatusError as error:
                return Response(Status(error.status), error_comment=error.comment)
        except Exception as error:  # the user's code: anything, a status out of range too
            self.io.report(f"the on_{name} handler failed", error)
            return Response(Status.PROCESSING_FAILURE, error_comment=f"{type(error).__name__} in the handler")


_is_uid = re.compile(r"[0-9.]{1,64}").fullmatch  # PS3.5 9.1, but for leading zeros and empty components, which are seen
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
    if not _is_uid(request.sop_instance_uid):  # PS3.7 C.5.15: nobody shall make a file name of it
        comment = "the Affected SOP Instance UID breaks the rules for UIDs"
        return Response(Status.INVALID_SOP_INSTANCE, error_comment=comment)
    if dataset is None:
        return Response(Status.CANNOT_UNDERSTAND, error_comment="a C-STORE request without a data set")
    if isinstance(dataset, OSError):
        return Response(Status.OUT_OF_RESOURCES, error_comment=f"cannot be stored: {dataset.strerror}")
    try:
        inner = cast("Dataset", dataset).inner_uids()
    except OSError as error:
        return Response(Status.OUT_OF_RESOURCES, error_comment=f"cannot be read again: {error.strerror}")
    if inner is not None and inner != (request.sop_class_uid, request.sop_instance_uid):
        return Response(Status.DATASET_MISMATCH, error_comment="SOP class or instance UID differs from the command's")
    return None


def _encode(request: Request) -> bytes:
    try:
        return messages.encode(request)
    except ValueError as error:
        raise LocalProtocolError(str(error)) from None
