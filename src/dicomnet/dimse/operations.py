"""What is asked of a peer (PS3.7 9.1, 10.1), each operation once, for every face.

Operations with one response are coroutines. C-FIND, C-MOVE and C-GET have many: each is a ``Results`` whose ``next``
gives one after the other, and whose ``close`` cancels what is left.
"""

from __future__ import annotations

from typing import Any, Final, cast

from dicomnet.dimse.checks import check
from dicomnet.dimse.conversation import PENDING, VERIFICATION, Conversation
from dicomnet.dimse.exchange import Exchange
from dicomnet.dimse.io import Dataset
from dicomnet.dimse.messages import CommandField, Priority, Request, Response, SubOperations, service
from dicomnet.dimse.provider import as_response
from dicomnet.dimse.status import Status
from dicomnet.dimse.stream import Message
from dicomnet.errors import LocalProtocolError, StatusError
from dicomnet.ul.negotiation import AcceptedContext


async def echo(conversation: Conversation) -> Response:
    """C-ECHO (PS3.7 9.1.5)."""
    context = conversation.context_for(VERIFICATION)
    return await conversation.ask(context.id, Request(CommandField.C_ECHO, 0, VERIFICATION))


async def store(
    conversation: Conversation,
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
        return await conversation.ask(context.id, request, view)


async def normalised(conversation: Conversation, request: Request, data: Any, abstract_syntax: str | None) -> Response:
    """An N-service (PS3.7 10.1) with the data set ``data``, or None, in the context for ``abstract_syntax``.

    None: the context is that of the request's own SOP class.
    """
    context = conversation.context_for(abstract_syntax or request.sop_class_uid)
    if data is None:
        response = await conversation.ask(context.id, request)
    else:
        request.has_dataset = True
        with conversation.codec.encode(data, context).view() as view:
            response = await conversation.ask(context.id, request, view)
    if isinstance(response.dataset, OSError):
        raise response.dataset
    return response


_FINE: Final = (Status.SUCCESS, Status.CANCEL)


class Results:
    """A request with an identifier and many responses.

    ``response``: the final one, None until it is here. ``progress``: the latest counts of sub-operations.
    ``unsupported``: see ``Find``.
    """

    command: CommandField

    def __init__(
        self,
        conversation: Conversation,
        sop_class_uid: str,
        identifier: Any,
        priority: int,
        destination: str | None = None,
    ) -> None:
        context = conversation.context_for(sop_class_uid)
        self._conversation = conversation
        self._context = context
        self._identifier = conversation.codec.encode(identifier, context)
        self._request = Request(
            self.command, 0, sop_class_uid, priority=priority, has_dataset=True, move_destination=destination
        )
        self._exchange: Exchange | None = None
        self._reading = False  # somebody waits for what comes next
        self._closed = False
        self._unanswered: Message | None = None  # the instance that the user of a C-GET has
        self.response: Response | None = None
        self.progress = SubOperations(0, 0, 0, 0)
        self.unsupported = False

    @property
    def message_id(self) -> int:
        """Of the request; 0 before it was sent."""
        return self._request.message_id

    @property
    def exchange(self) -> Exchange | None:
        """The exchange, while it is going on."""
        return None if self._closed else self._exchange

    async def next(self) -> Any:
        """What comes next, or None at the end. Raises StatusError for a final status but success and cancel.

        Raises LocalProtocolError if another strand waits for the same, and if it is closed meanwhile.
        """
        if self._closed:
            return None
        if self._reading:
            raise LocalProtocolError("it is being read by another thread or task; its results are for one at a time")
        self._reading = True
        conversation = self._conversation
        try:
            if self._unanswered is not None:
                await self._settle()
            if self._exchange is None:
                with self._identifier.view() as view:
                    self._exchange = await conversation.begin(self._context.id, self._request, view)
            while True:
                received = await conversation.next_of(self._exchange)
                if type(received) is Message:
                    item = await cast("Get", self).received(received)
                else:
                    response = cast("Response", received)
                    if response.completed is not None:
                        self.progress = SubOperations.of(response)
                    if response.status not in PENDING:
                        break
                    item = self._item(response)
                if item is not None:
                    return item
        except BaseException:
            await self.close()
            raise
        finally:
            self._reading = False
        self._closed = True
        conversation.leave(self._exchange)
        self.response = response
        if response.status not in _FINE:
            name = service(self.command)
            raise StatusError(response.status, response.error_comment or response.status.meaning(name))
        return None

    async def cancel(self) -> None:
        """Send a C-CANCEL; the final response is still to come."""
        if self.exchange is not None:
            await self._conversation.cancel(self.exchange)

    async def answer(self, status: Any) -> None:
        """Answer the instance of a C-GET that ``next`` gave last: a Status, an int or a Response.

        Raises LocalProtocolError if there is none, or it has been answered.
        """
        response = as_response(status)
        if self._unanswered is None:
            raise LocalProtocolError("there is no instance to be answered: none has come, or it has been")
        message, self._unanswered = self._unanswered, None
        await self._conversation.answer(message, response)

    async def close(self) -> None:
        """Cancel the rest and do without it. Does nothing at the end."""
        if self._closed:
            return
        self._closed = True
        if self._exchange is not None and not self._conversation.over:
            try:
                await self._settle()
            finally:
                await self._conversation.give_up(self._exchange)
        elif self._exchange is not None:
            self._unanswered = None
            self._conversation.leave(self._exchange)

    async def _settle(self) -> None:
        """Answer the instance that the user has."""
        if self._unanswered is not None:
            message, self._unanswered = self._unanswered, None
            await self._conversation.answer(message, Response.plain(Status.SUCCESS))

    def _item(self, response: Response) -> Any:
        """What a pending response brought, or None."""


class Find(Results):
    """C-FIND (PS3.7 9.1.2, PS3.4 C.4.1): the matches as pydicom Datasets, or as they are.

    ``unsupported``: whether the peer has said that it did not support all optional keys (PS3.4 C.4.1.1.4).
    """

    command = CommandField.C_FIND

    def __init__(
        self, conversation: Conversation, sop_class_uid: str, identifier: Any, priority: int, encoded: bool = False
    ) -> None:
        super().__init__(conversation, sop_class_uid, identifier, priority)
        self._encoded = encoded

    def _item(self, response: Response) -> Any:
        dataset = response.dataset
        if response.status == Status.PENDING_WARNING:
            self.unsupported = True
        if isinstance(dataset, OSError):
            raise dataset
        return dataset if dataset is None or self._encoded else cast("Dataset", dataset).decode()


class Move(Results):
    """C-MOVE (PS3.7 9.1.4, PS3.4 C.4.2): the counts of sub-operations, each time they change."""

    command = CommandField.C_MOVE

    def _item(self, response: Response) -> Any:
        return self.progress


class Get(Results):
    """C-GET (PS3.7 9.1.3, PS3.4 C.4.3): the instances that the peer stores on this association.

    Each is answered with success when the next one is asked for, unless ``answer`` was called.
    """

    command = CommandField.C_GET

    async def received(self, message: Message) -> Any:
        """The instance that a request of the peer brought, or None if it was refused."""
        context = self._conversation.association.contexts[message.context_id]
        refusal = check(cast("Request", message.command), context, message.dataset)
        if refusal is not None:
            await self._conversation.answer(message, refusal)
            return None
        self._unanswered = message
        return message.dataset
