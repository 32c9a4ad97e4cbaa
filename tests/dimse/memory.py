"""Conversations in memory: an ``Io`` without sockets, on a clock that moves only when nothing else can.

``Loop`` runs operations as tasks. ``Side`` is one end of a connection and supplies the ``Io`` of its conversation; the
other end is another ``Side``, or the test itself, which plays the peer: it ``says`` PDUs and messages and looks at what
it ``hears``. As on the faces, nothing is read unless an operation waits.
"""

from __future__ import annotations

import inspect
import struct
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Coroutine, Generator, Iterable
from typing import Any

from dicomnet.ae import AE
from dicomnet.codec import Codec
from dicomnet.config import MAX_PDU_LENGTH, Limits, Peer, Timeouts
from dicomnet.dataset import EncodedDataset, Spool
from dicomnet.dimse import messages, operations
from dicomnet.dimse.conversation import VERIFICATION, Conversation
from dicomnet.dimse.messages import Request, Response
from dicomnet.dimse.provider import AssociationInfo, as_items
from dicomnet.dimse.serving import serve
from dicomnet.ul import negotiation, pdu
from dicomnet.ul.association import Association
from dicomnet.ul.framer import batches
from dicomnet.ul.fsm import State
from dicomnet.ul.negotiation import EXPLICIT_VR_LITTLE_ENDIAN, AcceptedContext
from tests.ul.dialogue import pdus_in

CT = "1.2.840.10008.5.1.4.1.1.2"
PLANNING = "1.2.840.10008.5.1.4.34.5"  # a class with N- services
CONTEXTS = [VERIFICATION, (CT, [EXPLICIT_VR_LITTLE_ENDIAN]), PLANNING]
ECHO_CONTEXT, CT_CONTEXT, PLANNING_CONTEXT = 1, 3, 5


class _Pause:
    """What a task waits for."""

    def __init__(self, side: Side | None, ready: Callable[[], object], deadline: float | None) -> None:
        self.side = side
        self.ready = ready
        self.deadline = deadline

    def __await__(self) -> Generator[_Pause, bool, bool]:
        return (yield self)


class Task:
    """An operation under way. ``result`` raises what it raised."""

    def __init__(self, loop: Loop, operation: Coroutine[Any, Any, Any]) -> None:
        self._loop = loop
        self._operation = operation
        self._value: Any = None
        self._error: BaseException | None = None
        self.pause: _Pause | None = None
        self.done = False

    def resume(self, value: bool | None) -> None:
        self._step(self._operation.send, value)

    def cancel(self) -> None:
        """As asyncio cancels, or as Ctrl-C interrupts."""
        self._step(self._operation.throw, KeyboardInterrupt())

    def _step(self, step: Callable[[Any], _Pause], value: object) -> None:
        before, self._loop.current = self._loop.current, self
        try:
            self.pause = step(value)
        except StopIteration as stop:
            self._value, self.done = stop.value, True
        except BaseException as error:
            self._error, self.done = error, True
        finally:
            self._loop.current = before

    def result(self) -> Any:
        assert self.done, "it still waits"
        if self._error is not None:
            raise self._error
        return self._value


class Loop:
    """Tasks, the sides that they use, and the time."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.sides: list[Side] = []
        self.tasks: list[Task] = []
        self.current: Task | None = None

    def start(self, operation: Coroutine[Any, Any, Any]) -> Task:
        task = self.add(operation)
        self.settle()
        return task

    def add(self, operation: Coroutine[Any, Any, Any]) -> Task:
        """It begins at once; what it waits for is looked at when the others have had their turn."""
        task = Task(self, operation)
        self.tasks.append(task)
        task.resume(None)
        return task

    def run(self, operation: Coroutine[Any, Any, Any]) -> Any:
        """To its end; time passes when nothing else can happen."""
        task = self.start(operation)
        while not task.done:
            due = self._next()
            assert due is not None, "it waits for ever"
            self._pass(due)
        return task.result()

    def wait(self, seconds: float) -> None:
        end = self.now + seconds
        while (due := self._next()) is not None and due <= end:
            self._pass(due)
        self._pass(end)

    def settle(self) -> None:
        """All that happens without time passing."""
        while any(self._step(task) for task in self.tasks) or any(side.moves() for side in self.sides):
            pass

    def _step(self, task: Task) -> bool:
        if task.done or task.pause is None:
            return False
        ready = bool(task.pause.ready())
        if not ready and (task.pause.deadline is None or task.pause.deadline > self.now):
            return False
        task.resume(ready)
        return True

    def is_awaited(self, side: Side) -> bool:
        return any(not task.done and task.pause is not None and task.pause.side is side for task in self.tasks)

    def _next(self) -> float | None:
        limits = [task.pause.deadline for task in self.tasks if not task.done and task.pause is not None]
        limits += [side.association.deadline for side in self.sides if self.is_awaited(side)]
        return min((limit for limit in limits if limit is not None), default=None)

    def _pass(self, now: float) -> None:
        self.now = max(self.now, now)
        for side in self.sides:
            side.looks_at_the_clock()
        self.settle()


class Gate:
    """A semaphore for tasks: ``room`` of them may still pass."""

    def __init__(self, room: int) -> None:
        self.room = room

    def acquire(self, blocking: bool = True, /) -> bool:
        assert not blocking, "a task waits by pass_gate"
        if not self.room:
            return False
        self.room -= 1
        return True

    def release(self) -> None:
        self.room += 1


class Side:
    """One end of a connection: the ``Io`` of ``conversation``. ``reports``: what it would have logged."""

    def __init__(
        self,
        loop: Loop,
        *,
        requestor: bool,
        timeouts: Timeouts | None = None,
        limits: Limits | None = None,
        max_length: int = MAX_PDU_LENGTH,
        folder: str | None = None,
    ) -> None:
        self.loop = loop
        self.limits = limits or Limits()
        self.association = Association(
            requestor=requestor, max_length=max_length, timeouts=timeouts, limits=self.limits
        )
        self.codec = Codec(self.association, self.limits, folder, lambda: self.conversation.held)
        self.codec.open_sink = self._open_sink
        self.conversation = Conversation(self, self.association, self.codec, self.limits)
        self.reports: list[tuple[str, BaseException | None]] = []
        self.peer: Side | None = None
        self.inbox: deque[bytes] = deque()  # segments
        self.eof = False  # the peer closed
        self.failure: OSError | None = None  # what writing meets from now on
        self.slow = False  # what is written does not go yet
        self.places: dict[int, Any] = {}  # what ``open`` finds at a port: an association, or an error
        self.window = Gate(1)
        self.message = Gate(1)
        self._folder = folder
        self._sent = bytearray()
        self.beside: list[Task] = []
        loop.sides.append(self)

    def _open_sink(self, command: object, context: AcceptedContext) -> Spool:
        uids = (
            (command.sop_class_uid, command.sop_instance_uid) if isinstance(command, Request | Response) else ("", "")
        )
        return Spool(context.transfer_syntax, *uids, ("SENDER", "RECEIVER"), self.limits, self._folder, self._held)

    def _held(self) -> int:
        return self.conversation.held

    # --- Io ---------------------------------------------------------------------------------------------------------

    def now(self) -> float:
        return self.loop.now

    async def pass_gate(self, gate: Gate) -> None:
        await _Pause(None, lambda: gate.room, None)
        gate.acquire(False)

    async def flush(self) -> None:
        self.writes()
        if self.slow:
            await _Pause(None, lambda: not self.slow, None)

    async def until(self, ready: Callable[[], object], deadline: float | None) -> bool:
        return bool(ready()) or await _Pause(self, ready, deadline)

    async def call(self, handler: Callable[..., Any], argument: Any) -> Any:
        result = handler(argument)
        return await result if inspect.isawaitable(result) else result

    def call_after(self, function: Callable[[], None]) -> None:
        function()

    async def stream(self, handler: Callable[..., Any], argument: Any) -> AsyncGenerator[list[Any], None]:
        found = as_items(await self.call(handler, argument))
        try:
            if isinstance(found, AsyncIterable):
                async for item in found:
                    yield [item]
            else:
                for item in found:
                    yield [item]
        finally:
            if (close := getattr(found, "close", None)) is not None:
                close()

    async def poll(self) -> None:
        await _Pause(self, lambda: True, None)
        self.glance()

    def glance(self) -> None:
        if self.inbox and not self.conversation.congested:
            self.conversation.receive_data(memoryview(self.inbox.popleft()), self.loop.now)
            self.writes()

    def resume(self) -> None:
        """Nothing sleeps here until it is woken."""

    def open_window(self, size: int) -> None:
        self.window.room = size or 0xFFFF

    def strand(self) -> object:
        return self.loop.current

    def spawn(self, strand: Coroutine[Any, Any, None]) -> None:
        self.beside.append(self.loop.add(strand))

    async def join(self) -> None:
        if not all(task.done for task in self.beside):
            await _Pause(None, lambda: all(task.done for task in self.beside), None)

    async def open(self, peer: Peer, **options: Any) -> Any:
        found = self.places[peer.port]
        if isinstance(found, Exception):
            raise found
        return found(options)

    def report(self, text: str, error: BaseException | None = None) -> None:
        self.reports.append((text, error))

    # --- the connection ---------------------------------------------------------------------------------------------

    def writes(self) -> None:
        data = b"".join(self.association.data_to_send())
        if self.failure is not None:
            self.conversation.receive_eof(self.loop.now, self.failure)
        elif self.peer is None:
            self._sent += data
        else:
            if data:
                self.peer.inbox.append(data)
            self.peer.eof = self.association.state in (State.IDLE, State.AWAITING_CLOSE)

    def moves(self) -> bool:
        """Reads one segment, or sees the end, if somebody waits for that."""
        if not self.loop.is_awaited(self) or (self.conversation.congested and not self.conversation.over):
            return False
        if self.inbox:
            self.conversation.receive_data(memoryview(self.inbox.popleft()), self.loop.now)
        elif self.eof:
            self.eof = False
            self.conversation.receive_eof(self.loop.now)
        else:
            return False
        self.writes()
        return True

    def looks_at_the_clock(self) -> None:
        if self.loop.is_awaited(self):
            self.conversation.handle_timer(self.loop.now)
            self.writes()

    # --- the test as the peer ---------------------------------------------------------------------------------------

    def says(self, *parts: bytes | pdu.Pdu) -> None:
        """The peer sends this in one segment."""
        self.inbox.append(b"".join(part if isinstance(part, bytes) else pdu.encode(part) for part in parts))
        self.loop.settle()

    def says_each(self, *segments: bytes) -> None:
        """The peer sends these, each in a segment of its own, before anything is done about the first."""
        self.inbox.extend(segments)
        self.loop.settle()

    def closes(self) -> None:
        """The peer closes the connection."""
        self.eof = True
        self.loop.settle()

    def hears(self) -> list[Any]:
        """What the peer has received since the last call: messages as Request and Response, the rest as PDUs."""
        heard: list[Any] = []
        command_set = bytearray()
        for received in pdus_in(bytes(self._sent)):
            if not isinstance(received, pdu.PDataTf):
                heard.append(received)
                continue
            for pdv in received.pdvs:
                if pdv.is_command:
                    command_set += pdv.data
                    if pdv.is_last:
                        heard.append(messages.decode(bytes(command_set)))
                        command_set.clear()
        self._sent.clear()
        return heard


# --- what is said ---------------------------------------------------------------------------------------------------

PROVIDER_ABORT = pdu.Abort(2, 6)


def message(context_id: int, command: Request | Response | bytes, data: bytes | None = None) -> bytes:
    """A message as P-DATA-TF PDUs, one for its command set and one for its data set."""
    command_set = command if isinstance(command, bytes) else messages.encode(command)
    view = None if data is None else memoryview(data)
    return b"".join(bytes(buffer) for batch in batches(context_id, command_set, view, 0) for buffer in batch)


def p_data(context_id: int, data: bytes, *, is_command: bool = False, is_last: bool = True) -> pdu.PDataTf:
    return pdu.PDataTf((pdu.Pdv(context_id, is_command, is_last, data),))


def echo_request(message_id: int = 1) -> Request:
    return Request(messages.CommandField.C_ECHO, message_id, VERIFICATION)


def store_request(message_id: int = 1, instance: str = "1.2.3", sop_class: str = CT) -> Request:
    return Request(messages.CommandField.C_STORE, message_id, sop_class, instance, has_dataset=True)


def ct(instance: str = "1.2.3", size: int = 100, sop_class: str = CT) -> EncodedDataset:
    """A CT of ``size`` bytes of pixel data in Explicit VR Little Endian, without anything that a CT needs."""
    data = b"".join(
        struct.pack("<HH2sH", 8, element, b"UI", len(uid)) + uid
        for element, uid in ((0x16, _padded(sop_class)), (0x18, _padded(instance)))
    )
    data += struct.pack("<HH2sxxI", 0x7FE0, 0x0010, b"OB", size) + bytes(range(256)) * (size // 256) + bytes(size % 256)
    return EncodedDataset(data, EXPLICIT_VR_LITTLE_ENDIAN, sop_class, instance)


def _padded(uid: str) -> bytes:
    return uid.encode() + b"\0" * (len(uid) & 1)


def association_request(**options: Any) -> pdu.AssociateRq:
    return negotiation.request("SCP", "SCU", CONTEXTS, **options)


def describe(request: pdu.AssociateRq) -> AssociationInfo:
    return AssociationInfo(request.calling_ae, request.called_ae, ("192.0.2.1", 104), request)


def new_ae(**options: Any) -> AE:
    return AE("SCP", contexts=[VERIFICATION, CT, PLANNING], **options)


class Served:
    """An acceptor that serves an AE; the test is its requestor. ``side.says`` and ``hears`` are the wire."""

    def __init__(self, ae: AE | None = None, request: pdu.AssociateRq | None = None, **options: Any) -> None:
        self.loop = Loop()
        self.side = Side(self.loop, requestor=False, **options)
        self.side.association.transport_opened(self.loop.now)
        self.conversation = self.side.conversation
        self.task = self.loop.start(serve(self.conversation, ae or new_ae(), describe))
        self.side.says(request or association_request())
        self.opening = self.side.hears()

    def answers(self, *parts: bytes | pdu.Pdu) -> list[Any]:
        """What it sends when it gets ``parts`` in one segment."""
        self.side.says(*parts)
        return self.side.hears()


class Asking:
    """A requestor with an association; the test is its acceptor."""

    def __init__(
        self, request: pdu.AssociateRq | None = None, answer: pdu.AssociateAc | None = None, **options: Any
    ) -> None:
        self.loop = Loop()
        self.side = Side(self.loop, requestor=True, **options)
        self.conversation = self.side.conversation
        request = request or association_request()
        task = self.loop.start(self.conversation.associate(request))
        assert self.side.hears() == [request]
        self.side.says(answer or new_ae(async_ops=(0, 0)).answer(request))
        task.result()

    def start(self, operation: Coroutine[Any, Any, Any]) -> Task:
        return self.loop.start(operation)

    def context(self, sop_class: str) -> AcceptedContext:
        return self.conversation.context_for(sop_class)


class Pair:
    """A requestor and an acceptor that serves an AE, joined. ``cut`` says how what they send is segmented."""

    def __init__(
        self,
        ae: AE | None = None,
        *,
        requestor: dict[str, Any] | None = None,
        acceptor: dict[str, Any] | None = None,
        **options: Any,
    ) -> None:
        self.loop = Loop()
        self.requestor = Side(self.loop, requestor=True, **(requestor or {}))
        self.acceptor = Side(self.loop, requestor=False, **(acceptor or {}))
        self.requestor.peer, self.acceptor.peer = self.acceptor, self.requestor
        self.acceptor.association.transport_opened(self.loop.now)
        self.serving = self.loop.start(serve(self.acceptor.conversation, ae or new_ae(), describe))
        options.setdefault("max_length", self.requestor.association.max_length)
        self.loop.run(self.requestor.conversation.associate(association_request(**options)))

    @property
    def scu(self) -> Conversation:
        return self.requestor.conversation

    def run(self, operation: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run(operation)

    def store(self, dataset: EncodedDataset) -> Coroutine[Any, Any, Response]:
        return operations.store(self.scu, self.scu.context_for(dataset.sop_class_uid), dataset)


def responses(heard: Iterable[Any]) -> list[tuple[int, int]]:
    """(message ID, status) of each message heard; all must be responses."""
    return [(response.message_id, response.status) for response in heard]
