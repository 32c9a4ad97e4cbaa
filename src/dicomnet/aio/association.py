"""The requestor's side: an association, and how to get one."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, overload

from dicomnet.aio.connecting import connect
from dicomnet.aio.connection import Connection
from dicomnet.aio.enterable import Enterable
from dicomnet.aio.handlers import Handlers
from dicomnet.codec import tags
from dicomnet.config import DEFAULT_CALLING_AE, MAX_PDU_LENGTH, Identity, Limits, Peer, Timeouts
from dicomnet.dataset import EncodedDataset, Path, prepare
from dicomnet.dimse import operations
from dicomnet.dimse.conversation import VERIFICATION
from dicomnet.dimse.messages import CommandField, Priority, Request, Response, SubOperations
from dicomnet.models import query_class
from dicomnet.opening import Negotiated, Opening, answer_with, opening
from dicomnet.ul.extended import CommonExtended, Extended
from dicomnet.ul.fsm import State
from dicomnet.ul.negotiation import ContextLike

if TYPE_CHECKING:
    from pydicom import Dataset

    from dicomnet.ae import AE

Result = TypeVar("Result")
Item = TypeVar("Item")
Attribute = int | str | tuple[int, int]


class Association(Negotiated):
    """An association. Use it as a context manager: leaving the block releases it.

    ``peer``: whom it is with. Several tasks may use one association; their requests overlap as far as the operations
    window allows. Each operation raises what ends the association: AssociationAborted, RemoteProtocolError,
    TransportError, DeadlineExceeded; and NoAcceptedContext where the peer has accepted none that fits.
    """

    def __init__(self, connection: Connection, peer: Peer) -> None:
        super().__init__(connection.association, peer)
        self._connection = connection
        self._conversation = connection.conversation

    async def __aenter__(self) -> Association:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is not None and issubclass(kind, asyncio.CancelledError):
            await self._leave()
        elif kind is not None:
            await self.abort()
        elif self._conversation.over:
            await self._connection.finish()
        else:
            try:
                await self.release()
            except asyncio.CancelledError:
                await self._leave()
                raise
            except BaseException:
                await self.abort()
                raise

    async def _leave(self) -> None:
        """As ``abort``, for a task that is cancelled: it does not wait until the connection is closed."""
        await self._conversation.abort()
        self._connection.finish_soon()

    # --- composite services -----------------------------------------------------------------------------------------

    async def c_echo(self) -> Response:
        """Verify the connection (PS3.4 A, PS3.7 9.1.5). Needs a context for Verification.

        Raises NoAcceptedContext, and what ends the association: AssociationAborted, RemoteProtocolError,
        TransportError, DeadlineExceeded.
        """
        return await self._run(operations.echo(self._conversation))

    async def c_store(
        self,
        data: Path | Any | EncodedDataset,
        *,
        priority: int = Priority.MEDIUM,
        originator: tuple[str, int] | None = None,
    ) -> Response:
        """Store a composite instance (PS3.4 B, PS3.7 9.1.1): a path, a pydicom Dataset or an EncodedDataset.

        The bytes go out as they are if their transfer syntax was accepted for their SOP class; an uncompressed data
        set goes into another uncompressed transfer syntax if need be. ``originator``: (AE title, message ID) of the
        C-MOVE that this store belongs to. A failure status is a value of the response, not an exception.

        Raises NoAcceptedContext, InvalidDataset, OSError for a file that cannot be read, and what ends the association
        (see ``c_echo``).
        """
        contexts = self._connection.association.contexts.values()
        if isinstance(data, EncodedDataset):
            context, dataset = prepare(data, contexts)
        else:  # a file to read, or a data set to encode
            context, dataset = await asyncio.to_thread(prepare, data, contexts)
        return await self._run(operations.store(self._conversation, context, dataset, priority, originator))

    @overload
    def c_find(
        self, identifier: Any, *, model: str = ..., priority: int = ..., encoded: Literal[False] = ...
    ) -> Results[Dataset]: ...
    @overload
    def c_find(
        self, identifier: Any, *, model: str = ..., priority: int = ..., encoded: Literal[True]
    ) -> Results[EncodedDataset]: ...
    def c_find(
        self, identifier: Any, *, model: str = "study", priority: int = Priority.MEDIUM, encoded: bool = False
    ) -> Results[Any]:
        """Query (PS3.4 C.4.1, PS3.7 9.1.2): iterate over the matches, pydicom Datasets, as they arrive.

        ``identifier``: a pydicom Dataset or an EncodedDataset. ``model``: the name of an information model or the UID
        of its SOP class; the names are in ``dicomnet.models.MODELS``. Leaving the loop early sends a C-CANCEL.
        ``encoded``: the matches are EncodedDatasets, so that one that pydicom cannot read does not end the loop.

        Raises ValueError for a model that there is not, NoAcceptedContext, InvalidDataset; the loop raises StatusError
        for a final status that is neither success nor cancel, and what ends the association (see ``c_echo``).
        """
        uid = query_class(model, "find")
        return Results(self, operations.Find(self._conversation, uid, identifier, priority, encoded))

    def c_move(
        self, identifier: Any, *, destination: str, model: str = "study", priority: int = Priority.MEDIUM
    ) -> Results[SubOperations]:
        """Have instances sent to the AE ``destination`` (PS3.4 C.4.2, PS3.7 9.1.4): iterate over the progress.

        Each step is a SubOperations(remaining, completed, failed, warning). The rest: see ``c_find``.
        """
        uid = query_class(model, "move")
        return Results(self, operations.Move(self._conversation, uid, identifier, priority, destination))

    def c_get(
        self, identifier: Any, *, model: str = "study", priority: int = Priority.MEDIUM
    ) -> Results[EncodedDataset]:
        """Retrieve instances on this association (PS3.4 C.4.3, PS3.7 9.1.3): iterate over them as they arrive.

        Each is an EncodedDataset, and answered with success when the loop asks for the next one or ends, unless
        ``answer`` of the results was called. The contexts must have the storage SOP classes that may come, in which
        this side is the SCP: ``associate`` asks for that role where the contexts have a C-GET SOP class.
        The rest: see ``c_find``.
        """
        return Results(self, operations.Get(self._conversation, query_class(model, "get"), identifier, priority))

    async def c_cancel(self, operation: Results[Any] | int) -> None:
        """Ask the peer to end a C-FIND, C-MOVE or C-GET (PS3.7 9.3.2.3): ``operation`` or its message ID.

        Its final response is still to come. Does nothing if it has come already. Raises what ends the association.
        """
        if isinstance(operation, Results):
            await operation.cancel()
        elif (exchange := self._conversation.outstanding(operation)) is not None:
            await self._run(self._conversation.cancel(exchange))

    # --- normalised services ----------------------------------------------------------------------------------------

    async def n_create(
        self,
        sop_class_uid: str,
        dataset: Any = None,
        *,
        sop_instance_uid: str | None = None,
        context: str | None = None,
    ) -> Response:
        """Create an instance (PS3.7 10.1.5), with the attributes in ``dataset``.

        Without ``sop_instance_uid`` the peer chooses it: ``response.sop_instance_uid``. ``context``: the abstract
        syntax of the context to use if it is not the SOP class itself. ``response.dataset``: what the peer answers, an
        EncodedDataset or None. Raises NoAcceptedContext, InvalidDataset, and what ends the association (see
        ``c_echo``); so do the other N-services.
        """
        request = Request(CommandField.N_CREATE, 0, sop_class_uid, sop_instance_uid or "")
        return await self._normalised(request, dataset, context)

    async def n_set(
        self, sop_class_uid: str, sop_instance_uid: str, dataset: Any, *, context: str | None = None
    ) -> Response:
        """Change attributes of an instance (PS3.7 10.1.3) to those in ``dataset``. See ``n_create``."""
        return await self._normalised(Request(CommandField.N_SET, 0, sop_class_uid, sop_instance_uid), dataset, context)

    async def n_get(
        self,
        sop_class_uid: str,
        sop_instance_uid: str,
        attributes: Iterable[Attribute] = (),
        *,
        context: str | None = None,
    ) -> Response:
        """Read attributes of an instance (PS3.7 10.1.2): tags or keywords; none asks for all. See ``n_create``.

        Raises ValueError for what is no attribute, too.
        """
        request = Request(CommandField.N_GET, 0, sop_class_uid, sop_instance_uid, attributes=tags(attributes))
        return await self._normalised(request, None, context)

    async def n_action(
        self,
        sop_class_uid: str,
        sop_instance_uid: str,
        action_type: int,
        dataset: Any = None,
        *,
        context: str | None = None,
    ) -> Response:
        """Have an action done (PS3.7 10.1.4); ``action_type``: its number in PS3.4. See ``n_create``."""
        request = Request(CommandField.N_ACTION, 0, sop_class_uid, sop_instance_uid, action_type_id=action_type)
        return await self._normalised(request, dataset, context)

    async def n_event_report(
        self,
        sop_class_uid: str,
        sop_instance_uid: str,
        event_type: int,
        dataset: Any = None,
        *,
        context: str | None = None,
    ) -> Response:
        """Tell of an event (PS3.7 10.1.1); ``event_type``: its number in PS3.4. See ``n_create``."""
        request = Request(CommandField.N_EVENT_REPORT, 0, sop_class_uid, sop_instance_uid, event_type_id=event_type)
        return await self._normalised(request, dataset, context)

    async def n_delete(self, sop_class_uid: str, sop_instance_uid: str, *, context: str | None = None) -> Response:
        """Delete an instance (PS3.7 10.1.6). See ``n_create``."""
        return await self._normalised(Request(CommandField.N_DELETE, 0, sop_class_uid, sop_instance_uid), None, context)

    async def listen(self, seconds: float | None = None, *, until: Callable[[], object] | None = None) -> bool:
        """Answer what the peer asks for, by the handlers of ``associate(..., ae=…)``.

        For ``seconds`` (None: without limit), until ``until()`` is true, or until the association ends. False if the
        time was up. Other operations do the same while they wait for their responses.
        """
        deadline = None if seconds is None else self._connection.now() + seconds
        return await self._run(self._conversation.listen(until, deadline))

    # --- the association --------------------------------------------------------------------------------------------

    async def release(self) -> None:
        """Release the association (PS3.8 7.2) and close the connection.

        Raises LocalProtocolError if it is over or operations are outstanding, and what ends an association.
        """
        try:
            await self._run(self._conversation.release())
        except asyncio.CancelledError:
            if self._connection.association.state is State.AWAITING_RELEASE_RP:  # there is no way back from here
                await self._leave()
            raise

    async def abort(self) -> None:
        """Abort the association (PS3.8 7.3) and close the connection. Does nothing if it is over."""
        await self._run(self._conversation.abort())

    async def _normalised(self, request: Request, dataset: Any, context: str | None) -> Response:
        return await self._run(operations.normalised(self._conversation, request, dataset, context))

    async def _run(self, operation: Coroutine[Any, Any, Result]) -> Result:
        try:
            result = await operation
        except asyncio.CancelledError:
            if self._conversation.over:
                self._connection.finish_soon()
            raise
        except BaseException:
            if self._conversation.over:
                await self._connection.finish()
            raise
        if self._conversation.over:
            await self._connection.finish()
        return result


class Results(Generic[Item]):
    """An operation with many responses: iterate over what they bring. Also a context manager, which closes it."""

    def __init__(self, association: Association, results: operations.Results) -> None:
        self._association = association
        self._results = results

    @property
    def response(self) -> Response | None:
        """The final response, or None until it is here."""
        return self._results.response

    @property
    def progress(self) -> SubOperations:
        """How far a C-GET or C-MOVE is, as the peer last said; zeros before that and for a C-FIND."""
        return self._results.progress

    @property
    def unsupported(self) -> bool:
        """Whether the peer has said of a match that it did not support all optional keys (status 0xFF01)."""
        return self._results.unsupported

    @property
    def message_id(self) -> int:
        """The message ID of the request, 0 before it was sent."""
        return self._results.message_id

    def __aiter__(self) -> AsyncIterator[Item]:
        return self

    async def __anext__(self) -> Item:
        item: Item | None = await self._association._run(self._results.next())
        if item is None:
            raise StopAsyncIteration
        return item

    async def __aenter__(self) -> Results[Item]:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()

    async def cancel(self) -> None:
        """Send a C-CANCEL; go on iterating to get the final response. Does nothing at the end."""
        await self._association._run(self._results.cancel())

    async def answer(self, status: int | Response) -> None:
        """Answer the instance of a C-GET that came last, at once: a Status, an int or a Response.

        Without it the answer is success, when the next one is asked for. What could not be kept is answered with a
        failure, such as ``Status.OUT_OF_RESOURCES``: the peer counts it, and the retrieval goes on. Raises
        LocalProtocolError if there is none or it has been answered, TypeError and ValueError for what is no status,
        and what ends the association.
        """
        await self._association._run(self._results.answer(status))

    async def close(self) -> None:
        """Cancel the rest and do without it. Does nothing at the end."""
        await self._association._run(self._results.close())

    def __del__(self) -> None:
        if self._results.exchange is not None:  # a loop was left early
            self._association._connection.drop(self._results)


def associate(
    peer: Peer | str,
    *,
    calling_ae: str = DEFAULT_CALLING_AE,
    contexts: Iterable[ContextLike] = (VERIFICATION,),
    tls: ssl.SSLContext | None = None,
    identity: Identity | None = None,
    async_ops: tuple[int, int] = (1, 1),
    roles: Mapping[str, tuple[bool, bool]] | None = None,
    extended: Mapping[str, Extended] | None = None,
    common_extended: Iterable[CommonExtended] = (),
    max_pdu_length: int = MAX_PDU_LENGTH,
    timeouts: Timeouts | None = None,
    limits: Limits | None = None,
    spool_folder: Path | None = None,
    ae: AE | None = None,
) -> Enterable[Association]:
    """Connect to ``peer`` and request an association (PS3.8 7.1).

    ``peer``: ``"AET@host:port"`` or a Peer. ``contexts``: up to 128 SOP class UIDs, (UID, [transfer syntaxes]) pairs or
    PresentationContexts; a UID alone proposes Explicit and Implicit VR Little Endian. ``tls``: a client-side
    SSLContext; the host is the name that its certificate must have. ``identity``: PS3.7 D.3.3.7. ``async_ops``:
    (invoked, performed) operations to have outstanding at once, 0 is unlimited. ``roles``: SOP class → (SCU, SCP) that
    this side wants to be; None asks for what C-GET needs. ``extended``: SOP class → its extended negotiation, as bytes
    or a value such as ExtendedQuery; ``common_extended``: PS3.7 D.3.3.6. ``max_pdu_length``: what this side receives,
    in bytes, 0 is unlimited. ``spool_folder``: where received data sets above ``limits.spool_size`` wait. ``ae``: whose
    handlers answer what the peer asks for on this association.

    Raises ValueError for what cannot be requested, TransportError, DeadlineExceeded, AssociationRejected,
    AssociationAborted and RemoteProtocolError.
    """
    asked = opening(
        peer,
        calling_ae,
        contexts,
        identity=identity,
        async_ops=async_ops,
        roles=roles,
        extended=extended,
        common_extended=common_extended,
        max_pdu_length=max_pdu_length,
        timeouts=timeouts,
        limits=limits,
    )
    return Enterable(lambda: _associate(asked, tls, spool_folder, ae))


async def _associate(
    asked: Opening, tls: ssl.SSLContext | None, spool_folder: Path | None, ae: AE | None
) -> Association:
    peer, timeouts = asked.peer, asked.timeouts
    sock = await connect(peer.host, peer.port, timeouts.connect)
    handlers = Handlers(() if ae is None else ae.quick)
    connection = Connection(asked.association, asked.limits, spool_folder, str(peer), associate, handlers)
    await connection.attach(sock)
    try:
        if tls is not None:
            await connection.secure(tls, timeouts.tls, server_side=False, server_hostname=peer.host)
        await connection.conversation.associate(asked.request)
    except BaseException as error:
        await connection.conversation.abort()
        ending = connection.finish_soon()
        if not isinstance(error, asyncio.CancelledError):
            await asyncio.shield(ending)
        raise
    association = Association(connection, peer)
    if ae is not None:
        answer_with(ae, connection.conversation, asked, association)
    return association
