"""C-GET and C-MOVE as SCP: one instance after the other is stored, here or elsewhere, and counted (PS3.4 C.4.2, C.4.3).

One idea: the counts are the progress, the status and the list of what failed. A destination that dies costs its
instances; the association that asked for them lives.
"""

from __future__ import annotations

from collections.abc import Iterable, Sized
from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING, Any, Final, cast

from dicomnet.config import Peer
from dicomnet.dimse import operations
from dicomnet.dimse.conversation import Conversation
from dicomnet.dimse.io import Dataset, Io
from dicomnet.dimse.messages import Request, Response
from dicomnet.dimse.provider import AssociationInfo, Indication, as_items
from dicomnet.dimse.status import Status
from dicomnet.dimse.stream import Message
from dicomnet.errors import DicomNetworkError, InvalidDataset, LocalProtocolError, NoAcceptedContext

if TYPE_CHECKING:
    from dicomnet.ul.negotiation import AcceptedContext

_MOST_CONTEXTS: Final = 128  # PS3.8 9.3.2.2
_MOST: Final = 0xFFFF  # VR US of the counts
_MOST_FAILED: Final = 10_000  # UIDs in the list: 640 kB


class Retrieval:
    """One C-GET or C-MOVE under way."""

    def __init__(
        self, conversation: Conversation, message: Message, indication: Indication, info: AssociationInfo
    ) -> None:
        self._conversation = conversation
        self._message = message
        self._indication = indication
        self._info = info
        self._total: int | None = None
        self._completed = self._failed = self._warning = 0
        self._failed_uids: list[str] = []

    async def get(self, found: Iterable[Any]) -> Response:
        """Store what was found on this association; returns the final response."""
        contexts = [context for context in self._conversation.association.contexts.values() if context.scp]
        return await self._store_all(found, _Here(self._conversation, contexts, self._indication.priority))

    async def move(self, found: tuple[Peer, Iterable[Any]] | None) -> Response:
        """Store what was found at the destination; returns the final response."""
        if found is None:
            return Response(Status.MOVE_DESTINATION_UNKNOWN)
        peer, instances = found
        originator = (self._info.calling_ae, self._indication.message_id)
        elsewhere = _Elsewhere(self._conversation.io, peer, self._info.called_ae, originator)
        try:
            return await self._store_all(instances, elsewhere)
        except BaseException:
            await elsewhere.abort()
            raise
        finally:
            await elsewhere.release()

    async def answer(self, final: Response) -> None:
        """Send the final response, with the counts and the list of what failed."""
        conversation = self._conversation
        self._count(final)
        if not final.status.is_cancel:
            final.remaining = None  # PS3.4 C.4.2.1.6: only of those that go on or were cancelled
        if self._failed_uids and final.status is not Status.SUCCESS:
            context = self._indication.context
            with conversation.codec.failed_list(self._failed_uids, context).view() as view:
                await conversation.answer(self._message, final, view)
        else:
            await conversation.answer(self._message, final)

    async def _store_all(self, found: Any, place: _Here | _Elsewhere) -> Response:
        conversation, io = self._conversation, self._conversation.io
        items = as_items(found)
        self._total = len(items) if isinstance(items, Sized) else None
        async with aclosing(io.stream(lambda _: items, None)) as batches:
            async for batch in batches:
                await place.prepare([await self._loaded(item) for item in batch])
                for dataset in place.prepared:
                    if self._indication.cancel_received or conversation.over:
                        return Response(Status.CANCEL)
                    await self._store(dataset, place)
                    await self._tell_progress()
                    await io.poll()
        if self._total is None and self._indication.cancel_received:  # for which the user's generator may have ended
            return Response(Status.CANCEL)
        return Response(self._status())

    async def _loaded(self, item: Any) -> Dataset | None:
        """The instance, or None if it cannot be read."""
        io = self._conversation.io
        try:
            return cast("Dataset", await io.call(self._conversation.codec.load, item))
        except Exception as error:  # a file, or the user's data set: anything
            io.report("an instance to be retrieved cannot be read", error)
            return None

    async def _store(self, dataset: Dataset | None, place: _Here | _Elsewhere) -> None:
        status: Status | None = None
        if dataset is not None:
            try:
                status = await place.store(dataset)
            except (DicomNetworkError, OSError, ValueError) as error:
                if self._conversation.over:
                    raise
                own = None if isinstance(error, DicomNetworkError) else error  # a traceback explains something
                self._conversation.io.report(f"an instance to be retrieved was not stored: {error}", own)
        if status is None or status.is_failure:
            self._failed += 1
            if dataset is not None and len(self._failed_uids) < _MOST_FAILED:
                self._failed_uids.append(dataset.sop_instance_uid)
        elif status.is_warning:
            self._warning += 1
        else:
            self._completed += 1

    def _status(self) -> Status:
        """PS3.4 C.4.2.3.1: failure if all have failed, a warning if some have."""
        if self._failed and not (self._completed or self._warning):
            return Status.CANNOT_PERFORM_SUBOPERATIONS
        return Status.WARNING if self._failed or self._warning else Status.SUCCESS

    def _count(self, response: Response) -> None:
        done = self._completed + self._failed + self._warning
        response.remaining = min(max((self._total or done) - done, 0), _MOST)
        response.completed = min(self._completed, _MOST)
        response.failed = min(self._failed, _MOST)
        response.warning = min(self._warning, _MOST)

    async def _tell_progress(self) -> None:
        conversation, request = self._conversation, cast("Request", self._message.command)
        pending = Response(Status.PENDING, sop_class_uid=request.sop_class_uid)
        pending.command, pending.message_id = request.command, request.message_id
        self._count(pending)
        await conversation.send(self._message.context_id, conversation.encode_response(pending), None)


class _Here:
    """The association that asked: the peer has the role of SCP for what it wants to get."""

    def __init__(self, conversation: Conversation, contexts: list[AcceptedContext], priority: int) -> None:
        self._conversation = conversation
        self._contexts = contexts
        self._priority = priority
        self.prepared: list[Dataset | None] = []

    async def prepare(self, datasets: list[Dataset | None]) -> None:
        self.prepared = datasets

    async def store(self, dataset: Dataset) -> Status:
        conversation = self._conversation
        codec_prepare = partial(conversation.codec.prepare, contexts=self._contexts)
        context, encoded = await conversation.io.call(codec_prepare, dataset)
        return (await operations.store(conversation, context, encoded, self._priority)).status


class _Elsewhere:
    """An association to the destination of a C-MOVE, opened anew when it ends or other contexts are needed."""

    def __init__(self, io: Io, peer: Peer, calling_ae: str, originator: tuple[str, int]) -> None:
        self._io = io
        self._peer = peer
        self._calling_ae = calling_ae
        self._originator = originator
        self._association: Any = None
        self._contexts: dict[tuple[str, str], None] = {}  # SOP class, transfer syntax: proposed, the latest last
        self._unreachable = False
        self.prepared: list[Dataset | None] = []

    async def prepare(self, datasets: list[Dataset | None]) -> None:
        """These come next: their contexts are proposed together."""
        self.prepared = datasets
        for dataset in datasets:
            if dataset is not None:
                await self._include(dataset)

    async def _include(self, dataset: Dataset) -> None:
        pair = dataset.sop_class_uid, dataset.transfer_syntax
        if pair not in self._contexts:
            await self.release()
            self._contexts[pair] = None
            if len(self._contexts) > _MOST_CONTEXTS // 2:  # each may need one for uncompressed data sets too
                del self._contexts[next(iter(self._contexts))]

    async def store(self, dataset: Dataset) -> Status:
        """Raises DicomNetworkError; a failure status if the destination cannot be reached."""
        await self._include(dataset)
        if self._association is None and not await self._open():
            return Status.CANNOT_PERFORM_SUBOPERATIONS
        c_store = partial(self._association.c_store, originator=self._originator)
        try:
            return cast("Status", (await self._io.call(c_store, dataset)).status)
        except (NoAcceptedContext, InvalidDataset):
            raise
        except LocalProtocolError:  # it may have been released by the destination: the next instance gets another one
            await self.release()
            raise
        except DicomNetworkError:
            self._association = None  # it has ended; the next instance gets another one
            raise

    async def _open(self) -> bool:
        """False if the destination cannot be reached; then it is not tried again, which would cost its time limit."""
        if self._unreachable:
            return False
        wanted: dict[str, list[str]] = {}
        for sop_class, transfer_syntax in self._contexts:
            wanted.setdefault(sop_class, []).append(transfer_syntax)
        contexts: list[tuple[str, tuple[str, ...]]] = [
            (sop_class, (syntax,)) for sop_class, syntaxes in wanted.items() for syntax in syntaxes
        ]
        contexts += [(sop_class, ()) for sop_class in wanted][: _MOST_CONTEXTS - len(contexts)]
        try:
            self._association = await self._io.open(self._peer, calling_ae=self._calling_ae, contexts=contexts)
        except DicomNetworkError as error:
            self._unreachable = True
            self._io.report(f"the destination of a C-MOVE cannot be reached: {error}")
        return not self._unreachable

    async def release(self) -> None:
        association, self._association = self._association, None
        if association is not None:
            try:
                await self._io.call(lambda _: association.release(), None)
            except DicomNetworkError as error:
                self._io.report("the destination of a C-MOVE did not release", error)

    async def abort(self) -> None:
        association, self._association = self._association, None
        if association is not None:
            await self._io.call(lambda _: association.abort(), None)
