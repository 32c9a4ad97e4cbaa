"""The acceptor's side of a conversation: who is let in, and how the peer's requests come to the user's handlers.

``serve`` is an association from its request to its end. ``Serving`` performs single requests, also for a requestor
whose peer asks for something. A request is performed on the strand that took it up, or on one of its own where an
operations window allows several at once (PS3.7 D.3.3.3).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import ExitStack, suppress
from typing import Any, Final, cast

from dicomnet.dimse.checks import check
from dicomnet.dimse.conversation import PENDING, Conversation
from dicomnet.dimse.io import Dataset
from dicomnet.dimse.messages import CommandField, Request, Response
from dicomnet.dimse.provider import AssociationInfo, Indication, Provider, as_response, identify
from dicomnet.dimse.retrieve import Retrieval
from dicomnet.dimse.status import Status
from dicomnet.dimse.stream import Message
from dicomnet.errors import (
    AbortSource,
    AssociationRejected,
    DeadlineExceeded,
    DicomNetworkError,
    LocalProtocolError,
    Reject,
    StatusError,
)
from dicomnet.ul.pdu import AssociateRq

_HANDLERS: Final = {
    CommandField.C_ECHO: "c_echo",
    CommandField.C_STORE: "c_store",
    CommandField.C_FIND: "c_find",
    CommandField.C_GET: "c_get",
    CommandField.C_MOVE: "c_move",
    CommandField.N_EVENT_REPORT: "n_event_report",
    CommandField.N_GET: "n_get",
    CommandField.N_SET: "n_set",
    CommandField.N_ACTION: "n_action",
    CommandField.N_CREATE: "n_create",
    CommandField.N_DELETE: "n_delete",
}
_PLAIN: Final = (CommandField.C_ECHO, CommandField.C_STORE)  # no data set in the response


async def serve(
    conversation: Conversation, provider: Provider, describe: Callable[[AssociateRq], AssociationInfo]
) -> None:
    """Answer the peer's association request, then its messages, until it releases or the association ends."""
    io = conversation.io
    await io.until(lambda: conversation.requested or conversation.over, None)
    if conversation.requested is None:
        return
    info = describe(conversation.requested.request)
    if not await _answer_association(conversation, provider, info):
        return
    io.open_window(conversation.association.window[1])  # what the requestor performs
    conversation.performer = Serving(conversation, provider, info)
    try:
        while await _wait_for_request(conversation):
            while conversation.requests and not conversation.over:
                await conversation.take_up(conversation.requests.popleft())
    finally:
        await io.join()
        info.error = conversation.error
        await _tell_closed(conversation, provider, info)
        await io.flush()


async def _answer_association(conversation: Conversation, provider: Provider, info: AssociationInfo) -> bool:
    association, io = conversation.association, conversation.io
    refusal = provider.admit(info)
    if refusal is None:
        try:
            identity_response = await identify(provider, info, io)
            if (decide := provider.handler("association")) is not None:
                await io.call(decide, info)
            if not conversation.over:
                association.accept(provider.answer(info.request, identity_response=identity_response), io.now())
        except Reject as reject:
            refusal = reject
        except Exception as error:  # the user's code: anything, an answer that cannot be sent too
            io.report("a handler that decides about associations failed", error)
            refusal = Reject(2, 1, 1)
    if conversation.over:  # the peer lost patience meanwhile
        return False
    if refusal is not None:
        _reject(conversation, refusal)
    info.accepted, info.answer = tuple(association.contexts.values()), association.answer
    await io.flush()
    return refusal is None


def _reject(conversation: Conversation, refusal: Reject) -> None:
    association, io = conversation.association, conversation.io
    try:
        association.reject(refusal.result, refusal.source, refusal.reason, io.now())
    except LocalProtocolError as error:
        io.report("a handler raised a Reject that cannot be sent", error)
        refusal = Reject()
        association.reject(refusal.result, refusal.source, refusal.reason, io.now())
    io.report(f"association refused: {refusal}")
    conversation.end(AssociationRejected(refusal.result, refusal.source, refusal.reason))


async def _wait_for_request(conversation: Conversation) -> bool:
    """False if there will be none."""
    seconds, io, requests = conversation.association.timeouts.idle, conversation.io, conversation.requests
    conversation.start_idling()
    while not requests and not conversation.over:
        deadline = None if seconds is None else conversation.last_progress + seconds
        arrived = await io.until(lambda: requests or conversation.over, deadline)
        if arrived or seconds is None or conversation.last_progress + seconds > io.now():
            continue
        if conversation.performing:  # it is the peer who waits
            conversation.start_idling()
        else:
            await conversation.abort(AbortSource.PROVIDER, why=DeadlineExceeded("idle", seconds))
    return not conversation.over


async def _tell_closed(conversation: Conversation, provider: Provider, info: AssociationInfo) -> None:
    if (handler := provider.handler("close")) is not None:
        try:
            await conversation.io.call(handler, info)
        except Exception as error:  # the user's code: anything
            conversation.io.report("the on_close handler failed", error)


class Serving:
    """Performs the peer's requests by the handlers of ``provider``; ``info``: the association as they see it."""

    def __init__(self, conversation: Conversation, provider: Provider, info: AssociationInfo) -> None:
        self._conversation = conversation
        self._provider = provider
        self._info = info
        self._several = conversation.performed_window != 1  # at once
        self._cancellable: dict[int, Indication] = {}  # by message ID

    def cancel(self, message_id: int) -> None:
        """A C-CANCEL (PS3.7 9.3.2.3) for a request that is not answered yet."""
        if (indication := self._cancellable.get(message_id)) is not None:
            indication.cancel_received = True
        else:
            self._conversation.cancelled.add(message_id)

    async def take_up(self, message: Message) -> None:
        """Perform a request, beside others if the operations window allows for it."""
        if self._several and type(message.command) is Request and self._takes_time(message.command):
            self._conversation.io.spawn(self._perform_beside(message))
        else:
            await self._perform(message)

    def _takes_time(self, request: Request) -> bool:
        handler = self._provider.handler(_HANDLERS[request.command])
        return handler is not None and handler not in self._provider.quick

    async def _perform_beside(self, message: Message) -> None:
        with suppress(DicomNetworkError):  # the association has ended; whoever wants something of it is told why
            await self._perform(message)

    async def _perform(self, message: Message) -> None:
        conversation, request = self._conversation, message.command
        if type(request) is not Request:
            await conversation.answer(message, Response(Status.SUCCESS))  # which answers for it what is wrong
            return
        context = conversation.association.contexts[message.context_id]
        command = request.command
        handler = self._provider.handler(_HANDLERS[command])
        if (refusal := check(request, context, message.dataset)) is not None:
            await conversation.answer(message, refusal)
        elif handler is None:
            # PS3.4 A.4: verification needs no more than an answer
            is_echo = command is CommandField.C_ECHO
            await conversation.answer(message, Response(Status.SUCCESS if is_echo else Status.UNRECOGNISED_OPERATION))
        else:
            try:
                indication = self._indication(request, message)
                if command in _PLAIN:
                    await conversation.answer(message, await self._result(handler, indication, command))
                elif command in _STREAMED:
                    await self._answer_many(handler, indication, message)
                else:
                    await self._answer_normalised(handler, indication, message)
                    if indication.then is not None:
                        self._go_on(indication.then)
            except BaseException as error:
                # Ctrl-C, a task that is cancelled: the peer would wait for ever.
                if conversation.owes(message) and not isinstance(error, Exception):
                    await conversation.answer(message, _failure(error))
                raise

    async def _answer_many(self, handler: Callable[..., Any], indication: Indication, message: Message) -> None:
        """Perform what can be cancelled."""
        message_id, conversation, cancellable = indication.message_id, self._conversation, self._cancellable
        indication.cancel_received = message_id in conversation.cancelled
        cancellable[message_id] = indication
        try:
            await _STREAMED[cast("Request", message.command).command](self, handler, indication, message)
        finally:
            if cancellable.get(message_id) is indication:  # else the peer has used the number for another since
                del cancellable[message_id]

    def _indication(self, request: Request, message: Message) -> Indication:
        originator = None
        if request.move_originator_ae is not None:
            originator = (request.move_originator_ae, request.move_originator_message_id or 0)
        return Indication(
            self._info,
            self._conversation.association.contexts[message.context_id],
            request.message_id,
            request.sop_class_uid,
            request.sop_instance_uid,
            request.priority,
            originator,
            message.dataset,
            action_type=request.action_type_id,
            event_type=request.event_type_id,
            attributes=request.attributes,
            destination=request.move_destination,
            glance=self._conversation.io.glance,
        )

    async def _result(self, handler: Callable[..., Any], indication: Indication, command: CommandField) -> Response:
        """What the handler says."""
        try:
            result = await self._conversation.io.call(handler, indication)
            return _as_final(as_response(result, dataset_allowed=command not in _PLAIN))
        except Exception as error:  # the user's code: anything
            return self._said(command, error)

    def _said(self, command: CommandField, error: Exception) -> Response:
        """What a handler says by raising ``error``."""
        if isinstance(error, StatusError):
            try:
                return _as_final(Response(Status(error.status), error_comment=error.comment))
            except ValueError as nonsense:
                error = nonsense
        self._conversation.io.report(f"the on_{_HANDLERS[command]} handler failed", error)
        return _failure(error)

    def _go_on(self, then: Callable[[], None]) -> None:
        try:
            self._conversation.io.call_after(then)
        except Exception as error:  # the user's code: anything
            self._conversation.io.report("what a handler wanted to be called after its response failed", error)

    # --- N-services -------------------------------------------------------------------------------------------------

    async def _answer_normalised(self, handler: Callable[..., Any], indication: Indication, message: Message) -> None:
        conversation = self._conversation
        command = cast("Request", message.command).command
        response = await self._result(handler, indication, command)
        if response.dataset is None:
            await conversation.answer(message, response)
            return
        with ExitStack() as stack:
            view = None
            try:
                view = stack.enter_context(conversation.codec.encode(response.dataset, indication.context).view())
            except Exception as error:  # the user's data set: anything; a file that is gone
                response = self._said(command, error)
            else:
                # PS3.7 10.3.1.2, 10.3.4.2: with a reply goes the type that it replies to
                if response.event_type_id is None:
                    response.event_type_id = indication.event_type
                if response.action_type_id is None:
                    response.action_type_id = indication.action_type
            await conversation.answer(message, response, view)

    # --- C-FIND -----------------------------------------------------------------------------------------------------

    async def _find(self, handler: Callable[..., Any], indication: Indication, message: Message) -> None:
        conversation = self._conversation
        results = conversation.io.stream(handler, indication)
        try:
            final = await self._send_matches(results, indication, message)
        except Exception as error:  # the user's code: anything; or the association's end
            if conversation.over:
                return
            final = self._said(CommandField.C_FIND, error)
        finally:
            try:
                await results.aclose()
            except Exception as error:  # the user's code: anything
                conversation.io.report("the on_c_find handler failed when it was stopped", error)
        if not conversation.over:
            await conversation.answer(message, final)

    async def _send_matches(
        self, results: AsyncGenerator[list[Any], None], indication: Indication, message: Message
    ) -> Response:
        """Send what the handler found; returns the final response."""
        conversation = self._conversation
        matches = _Matches(conversation, message)
        async for batch in results:
            if indication.cancel_received or conversation.over:
                return Response(Status.CANCEL)
            final = await matches.send(batch)
            if final is not None:
                return final
            await conversation.io.poll()
        return Response(Status.CANCEL if indication.cancel_received else Status.SUCCESS)

    # --- C-GET, C-MOVE ----------------------------------------------------------------------------------------------

    async def _retrieve(self, handler: Callable[..., Any], indication: Indication, message: Message) -> None:
        """Perform C-GET and C-MOVE: both are C-STOREs, here or elsewhere."""
        conversation = self._conversation
        command = cast("Request", message.command).command
        retrieval = Retrieval(conversation, message, indication, self._info)
        try:
            found = await conversation.io.call(handler, indication)
            if isinstance(found, int | Response):
                final = as_response(found)
            elif command is CommandField.C_GET:
                final = await retrieval.get(found)
            else:
                final = await retrieval.move(found)
        except Exception as error:  # the user's code: anything; or the association's end
            if conversation.over:
                return
            final = self._said(command, error)
        if not conversation.over:
            await retrieval.answer(final)


_STREAMED: Final = {
    CommandField.C_FIND: Serving._find,
    CommandField.C_GET: Serving._retrieve,
    CommandField.C_MOVE: Serving._retrieve,
}


def _as_final(response: Response) -> Response:
    """Raises ValueError for a pending one: the peer would wait for another for ever."""
    if response.status in PENDING:
        raise ValueError(f"a handler ended with status {response.status}, which is for what is still to come")
    return response


def _failure(error: BaseException) -> Response:
    return Response(Status.PROCESSING_FAILURE, error_comment=f"{type(error).__name__} in the handler")


class _Matches:
    """Sends pending responses to a C-FIND (PS3.7 9.1.2.1). Their command sets are all the same."""

    def __init__(self, conversation: Conversation, message: Message) -> None:
        self._conversation = conversation
        self._context = conversation.association.contexts[message.context_id]
        self._request = cast("Request", message.command)
        self._command_sets: dict[int, bytes] = {}  # by status

    async def send(self, found: list[Any]) -> Response | None:
        """Send them; returns the response that ends the query if one was among them.

        Raises what keeps one of them from being sent, when those before it have been.
        """
        final: Response | None = None
        failure: Exception | None = None
        encode = self._conversation.codec.encode
        with ExitStack() as stack:
            messages = []
            try:
                for item in found:
                    status, data = Status.PENDING, item
                    if isinstance(item, int | Response):
                        item = as_response(item)
                        status, data = item.status, item.dataset
                        if status not in PENDING:
                            final = item
                            break
                    dataset: Dataset = encode(data, self._context)
                    messages.append((self._command_set(status), stack.enter_context(dataset.view())))
            except Exception as error:  # the user's data set: anything
                failure = error
            await self._conversation.send_all(self._context.id, messages)
        if failure is not None:
            try:
                raise failure
            finally:
                del failure  # it knows this frame, and the data sets in it
        return final

    def _command_set(self, status: Status) -> bytes:
        encoded = self._command_sets.get(status)
        if encoded is None:
            response = Response(status, sop_class_uid=self._request.sop_class_uid, has_dataset=True)
            response.command, response.message_id = self._request.command, self._request.message_id
            encoded = self._command_sets[status] = self._conversation.encode_response(response)
        return encoded
