"""The thread behind a connected ``DicomNet``: it owns the socket, runs the callbacks, writes what was queued.

One idea: everything happens on this thread, in one loop. Other threads only add to the queue and wake it. While a
callback runs nothing is read, which is the back-pressure that the peer feels.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

from dicomnet import transport
from dicomnet.callbacks import commands
from dicomnet.callbacks.associate import DicomAssociate
from dicomnet.callbacks.enums import NetError, PduType, net_error
from dicomnet.dataset import EncodedDataset, Spool
from dicomnet.dimse import command as dimse_command
from dicomnet.dimse import messages
from dicomnet.dimse.messages import CommandField, Request, Response, Unusable
from dicomnet.dimse.stream import Message, MessageStream
from dicomnet.errors import (
    AbortReason,
    AbortSource,
    AssociationAborted,
    DeadlineExceeded,
    LocalProtocolError,
    QueueFull,
    RemoteProtocolError,
    TransportError,
)
from dicomnet.transport import Buffer, Transport
from dicomnet.ul import events
from dicomnet.ul import pdu as ul_pdu
from dicomnet.ul.association import Association
from dicomnet.ul.fsm import Event, State
from dicomnet.ul.negotiation import AcceptedContext

if TYPE_CHECKING:
    from dicomnet.callbacks.net import DicomNet

log = logging.getLogger("dicomnet")

_DATA_STATES: Final = (State.ESTABLISHED, State.AWAITING_LOCAL_RELEASE)  # those in which data may be sent (DT-1, AR-7)
_READS: Final = 8  # reads in a row before it is looked whether something is to be written


@dataclass(slots=True, eq=False)
class _Item:
    """Something queued: its PDU type, its length in bytes, and its buffers, made when their turn comes.

    ``message_id``: of a request, which waits for room in the operations window; None of anything else.
    """

    pdu_type: PduType
    length: int
    batches: Iterator[list[bytes | memoryview]]
    message_id: int | None = None
    is_response: bool = False


class Connection:
    """One connection of ``net``. ``open_socket``: makes the socket (SCU), or None if ``sock`` has one (SCP)."""

    def __init__(
        self,
        net: DicomNet,
        *,
        sock: socket.socket | None = None,
        open_socket: Callable[[], socket.socket] | None = None,
        peer_host: str = "",
    ) -> None:
        self.net = net
        self._sock = sock
        self._open_socket = open_socket
        self._peer_host = peer_host
        self._timeouts = net.timeouts
        self._limits = net.limits
        self.association = Association(requestor=open_socket is not None, timeouts=net.timeouts, limits=net.limits)
        self.stream = MessageStream(self.association, self._open_sink, net.limits)
        self.negotiated: DicomAssociate | None = None
        self.connected = False
        self.ready = False  # an association may be requested: connected and, with TLS, secure
        self.closing = False
        self.forced = False
        self.queued = 0
        self.error: BaseException | None = None

        # ``lock`` guards the association, the queue and the flags above; ``_room`` tells that the queue became shorter.
        self.lock = threading.RLock()
        self._room = threading.Condition(self.lock)
        self._queue: deque[_Item] = deque()
        self._sending: _Item | None = None  # the item whose buffers are going out
        self._unsent: list[Buffer] = []  # the rest of the batch under way
        self._send_deadline: float | None = None
        self._outstanding: dict[int, float | None] = {}  # message ID of our requests sent → when the response is due
        self._release_response_wanted = False  # asked for in state 10, possible in state 12
        self._last_activity = 0.0
        self._user_error: Exception | None = None  # that came out of a callback
        self._told: NetError | None = None  # what on_close says of ``error``, where that says less

        self._waiters: tuple[transport.Waiter, transport.Waiter] | None = None  # to read; to read and write
        self._wake, self._waker = socket.socketpair()
        self._wake.setblocking(False)
        self._waker.setblocking(False)
        self.thread = threading.Thread(target=self._run, name=f"dicomnet {type(net).__name__}", daemon=True)

    def start(self) -> None:
        self.thread.start()

    def _open_sink(self, command: object, context: AcceptedContext) -> Spool:
        uids = (
            (command.sop_class_uid, command.sop_instance_uid) if isinstance(command, Request | Response) else ("", "")
        )
        request = cast("ul_pdu.AssociateRq", self.association.request)
        titles = (request.calling_ae, request.called_ae)
        if self.association.requestor:
            titles = titles[::-1]
        return Spool(context.transfer_syntax, *uids, titles, self._limits, self.net.spool_folder)

    # --- what other threads do --------------------------------------------------------------------------------------

    def notify(self) -> None:
        """Make the thread look at the queue and the flags."""
        if threading.current_thread() is not self.thread:
            with contextlib.suppress(BlockingIOError, OSError):  # woken already, or gone
                self._waker.send(b"\0")

    def close(self, *, forced: bool) -> None:
        with self.lock:
            self.closing = True
            self.forced = self.forced or forced
            self._room.notify_all()
        self.notify()

    def control(self, pdu_type: PduType, call: str, event: Event, perform: Callable[[float], None]) -> None:
        """An association service: ``perform`` now, its PDU goes out in its turn."""
        with self.lock:
            self.require(call, self.association.can(event))
            perform(time.monotonic())
            self._queue_output(pdu_type)
        self.notify()

    def _queue_output(self, pdu_type: PduType) -> None:
        buffers = self.association.data_to_send()
        if buffers:
            self._put(_Item(pdu_type, sum(map(len, buffers)), iter((cast("list[bytes | memoryview]", buffers),))))

    def abort(self, source: int, reason: int) -> None:
        """What still waits is dropped: an abort does not stand in line (PS3.8 7.3)."""
        with self.lock:
            self.require("send_abort", self.association.can(Event.ABORT_REQUEST))
            self.association.abort(time.monotonic(), source, reason)
            self._drop_queue()
            self._queue_output(PduType.ABORT)
        self.notify()

    def respond_release(self) -> None:
        """In a collision the acceptor's response must wait for the requestor's (AR-10)."""
        with self.lock:
            if self.association.state is State.COLLISION_ACCEPTOR_PDU:
                self._release_response_wanted = True
                return
        self.control(
            PduType.RELEASE_RESPONSE, "send_release_response", Event.RELEASE_RESPONSE, self.association.respond_release
        )

    def require(self, call: str, allowed: bool) -> None:
        if self.closing:
            raise LocalProtocolError(f"{call}: the connection is being closed")
        if not allowed:
            state = self.association.state
            raise LocalProtocolError(f"{call} is not possible in state {state.value} ({state.name})")

    def context(self, call: str, presentation_id: int) -> AcceptedContext:
        with self.lock:
            self.require(call, self.association.state in _DATA_STATES)
            context = self.association.contexts.get(presentation_id)
        if context is None:
            raise LocalProtocolError(f"{call}: presentation context {presentation_id} was not accepted")
        return context

    def send(
        self, call: str, presentation_id: int, command_set: dimse_command.CommandSet, dataset: EncodedDataset | None
    ) -> None:
        """Queue a message. Raises LocalProtocolError, QueueFull, and OSError for a file that cannot be read."""
        try:
            encoded = dimse_command.encode(command_set)
        except ValueError as error:
            raise LocalProtocolError(f"{call}: {error}") from error
        field = cast("int", command_set[dimse_command.COMMAND_FIELD])
        is_response = bool(field & messages.RESPONSE)
        message_id = None
        if not is_response and field != CommandField.C_CANCEL:
            message_id = cast("int", command_set.get(dimse_command.MESSAGE_ID, 0))
        with contextlib.ExitStack() as held:
            view = None if dataset is None else held.enter_context(dataset.view())
            data, passed = (None, None) if view is None else (view.data, view.passed)
            if is_response and self.net.watches_command_sets:
                parts = self._response_batches(presentation_id, command_set, data)
            else:
                parts = self.stream.batches(presentation_id, encoded, data)
            item = _Item(
                PduType.DATA_TRANSFER,
                len(encoded) + (0 if dataset is None else dataset.size),
                _holding(held.pop_all(), parts, passed, len(encoded)),
                message_id,
                is_response,
            )
        with self.lock:
            self._wait_for_room(call)
            self.require(call, self.association.state in _DATA_STATES)
            if message_id is not None and (
                message_id in self._outstanding or any(other.message_id == message_id for other in self._queue)
            ):
                raise LocalProtocolError(f"{call}: message ID {message_id} is in use (PS3.7 9.1.1.1.1)")
            self._put(item)
        self.notify()

    def _response_batches(
        self, presentation_id: int, command_set: dimse_command.CommandSet, data: memoryview | None
    ) -> Iterator[list[bytes | memoryview]]:
        """Encoded when its turn comes, on this connection's thread, after the user has had a look."""
        editable = commands.as_dataset(command_set)
        self.net.on_before_send_command_set(editable)
        edited = {**command_set, **commands.as_command_set(editable)}
        edited[dimse_command.DATA_SET_TYPE] = command_set[dimse_command.DATA_SET_TYPE]
        yield from self.stream.batches(presentation_id, dimse_command.encode(edited), data)

    def _wait_for_room(self, call: str) -> None:
        if self.queued < self._limits.queue:
            return
        if threading.current_thread() is self.thread:
            raise QueueFull(f"{call}: {self.queued} bytes wait to be sent, {self._limits.queue} may")
        seconds = self._timeouts.send
        if not self._room.wait_for(lambda: self.queued < self._limits.queue or self.closing, seconds):
            raise DeadlineExceeded("send", seconds)

    def _put(self, item: _Item) -> None:
        self._queue.append(item)
        self.queued += item.length

    def _drop_queue(self) -> None:
        """Forget what has not begun to go out."""
        self.queued -= sum(item.length for item in self._queue)
        self._queue.clear()
        self._room.notify_all()

    # --- the thread -------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            link = self._open()
            if link is not None:
                self._loop(link)
                self._linger(link)
        except Exception as error:  # ours: a defect, not the user's and not the peer's
            log.exception("%s: the connection ended by an error of the library", self.name)
            self.error = self.error or error
        finally:
            self._finish()

    @property
    def name(self) -> str:
        return f"{type(self.net).__name__} {self.net.peer_address}:{self.net.peer_port}"

    def _open(self) -> Transport | None:
        """The connection, or None if there is none; tells ``on_connect`` and ``on_secure_link_ready``."""
        if self._open_socket is not None:
            try:
                self._sock = self._open_socket()
            except (TransportError, DeadlineExceeded) as error:
                self.error = error
                self.net.connection_failed(self)
                self.call(self.net.on_connect, net_error(error))
                return None
        sock = cast("socket.socket", self._sock)
        self.net.socket_options.apply(sock)
        self.net.note_addresses(sock)
        with self.lock:
            self.connected = True
            self.ready = self.net.tls is None
            self._last_activity = time.monotonic()
        if self._open_socket is not None:
            self.call(self.net.on_connect, NetError.SUCCESS)
        link = self._secure(sock)
        if link is not None:
            with self.lock:
                self.ready = True
                if not self.association.requestor:
                    self.association.transport_opened(time.monotonic())
            if self.net.tls is not None:
                self.call(self.net.on_secure_link_ready, NetError.SUCCESS)
        return link

    def _secure(self, sock: socket.socket) -> Transport | None:
        if self.net.tls is None:
            link = Transport(sock)
        else:
            server_side = self._open_socket is None
            try:
                link = transport.secure(
                    sock,
                    self.net.tls,
                    self._timeouts.tls,
                    server_side=server_side,
                    server_hostname=None if server_side else self._peer_host,
                )
            except (TransportError, DeadlineExceeded) as error:
                self.error = error
                self.call(self.net.on_secure_link_ready, net_error(error))
                return None
            self._sock = link.tls
        return link

    def _loop(self, link: Transport) -> None:
        """Until the association is over, or the user closes: write, wait, read and call back."""
        while not self._is_over():
            blocked = self._write(link)
            if self._is_over():
                return
            deadline = self._deadline()
            if self._wait(link, deadline, write=blocked):
                self._read(link)
            else:
                self._handle_timers(time.monotonic())

    def _is_over(self) -> bool:
        association = self.association
        return self.closing or association.close_wanted or association.state is State.AWAITING_CLOSE

    def _wait(self, link: Transport, deadline: float | None, *, write: bool) -> bool:
        """Until there is something to read, room to write if that is wanted, or somebody wakes us."""
        if self._waiters is None:
            read = [link.socket, self._wake]
            self._waiters = transport.Waiter(read), transport.Waiter(read, [link.socket])
        seconds = None if deadline is None else deadline - time.monotonic()
        if not (link.pending or self._waiters[write].wait(seconds)):
            return False
        self._drain_wake()
        return True

    def _drain_wake(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._wake.recv(4096)

    def _deadline(self) -> float | None:
        limits: list[float | None] = [
            self.association.deadline,
            self._send_deadline,
            self._idle_deadline(),
            *self._outstanding.values(),
        ]
        return min((limit for limit in limits if limit is not None), default=None)

    def _idle_deadline(self) -> float | None:
        """While a response is due, or a message comes in, other limits hold."""
        if self._timeouts.idle is None or self._outstanding or self.association.state is not State.ESTABLISHED:
            return None
        return self._last_activity + self._timeouts.idle

    def _handle_timers(self, now: float) -> None:
        with self.lock:
            self.association.handle_timer(now)
        self._dispatch(now)
        idle = self._idle_deadline()
        if any(due is not None and now >= due for due in self._outstanding.values()):
            self._give_up(DeadlineExceeded("response", self._timeouts.response), AbortSource.USER)
        elif idle is not None and now >= idle:
            self._give_up(DeadlineExceeded("idle", self._timeouts.idle), AbortSource.PROVIDER)
        elif self._send_deadline is not None and now >= self._send_deadline:
            self.error = self.error or DeadlineExceeded("send", self._timeouts.send)
            self.close(forced=True)

    def _give_up(self, error: BaseException, source: int, reason: int = AbortReason.NOT_SPECIFIED) -> None:
        """End the association with an A-ABORT and this error."""
        self.error = self.error or error
        with self.lock:
            if self.association.can(Event.ABORT_REQUEST) and not self.closing:
                self.abort(source, reason)

    # --- reading ----------------------------------------------------------------------------------------------------

    def _read(self, link: Transport) -> None:
        for _ in range(_READS):
            try:
                data = link.receive()
            except OSError as error:
                self._closed_by_peer(error)
                return
            if data is None:
                return
            now = time.monotonic()
            if not data:
                self._closed_by_peer(None)
                return
            with self.lock:
                happened = self.stream.receive_data(data, now)
                self._queue_abort()
            self._last_activity = now
            for event in happened:
                self._happened(event)
            self._last_activity = time.monotonic()  # a callback may have taken long
            if self.closing or self._queue or self.association.close_wanted:
                return

    def _closed_by_peer(self, error: OSError | None) -> None:
        with self.lock:
            self.association.receive_eof(time.monotonic())
        if error is not None and self.error is None:
            self.error = TransportError(f"the connection broke: {error}")
            self.error.__cause__ = error
        self._dispatch(time.monotonic())

    def _dispatch(self, now: float) -> None:
        with self.lock:
            happened = self.stream.events(now)
            self._queue_abort()
        for event in happened:
            self._happened(event)

    def _queue_abort(self) -> None:
        """What the core itself has to say is an A-ABORT or A-ASSOCIATE-RJ; nothing that waits goes before it."""
        if self.association.has_output:
            self._drop_queue()
            self._queue_output(PduType.ABORT)

    def _happened(self, event: Any) -> None:
        """Tell the user. Callbacks stop once the connection is being closed."""
        if self.closing:
            return
        net = self.net
        match event:
            case Message():
                self._message(event)
            case events.AssociateRequested(request, encoded):
                self._tell(PduType.ASSOCIATE_REQUEST, encoded, net.on_receive_associate_request, _proposal(request))
            case events.AssociateAccepted(accept, encoded):
                request = cast("ul_pdu.AssociateRq", self.association.request)
                self.negotiated = DicomAssociate.from_accept(request, accept)
                self._tell(PduType.ASSOCIATE_ACCEPT, encoded, net.on_receive_associate_accept, self.negotiated)
            case events.AssociateRejected(result, source, reason, encoded):
                self._tell(PduType.ASSOCIATE_REJECT, encoded, net.on_receive_associate_reject, result, source, reason)
            case events.ReleaseRequested(_, encoded):
                self._tell(PduType.RELEASE_REQUEST, encoded, net.on_receive_release_request)
            case events.ReleaseConfirmed(encoded):
                self._tell(PduType.RELEASE_RESPONSE, encoded, net.on_receive_release_response)
                self._release_after_collision()
            case events.AbortReceived(source, reason, encoded):
                self.error = self.error or AssociationAborted(source, reason)
                self._tell(PduType.ABORT, encoded, net.on_receive_abort, source, reason)
            case events.PeerFailed():
                self._peer_failed(event)
            case events.RequestRefused(result, source, reason):
                self.error = self.error or RemoteProtocolError(f"refused: {result}/{source}/{reason}")
            case events.TransportClosed():
                self.error = self.error or TransportError("the peer closed the connection")
            case events.TimerExpired(timer):
                self.error = self.error or DeadlineExceeded(timer, getattr(self._timeouts, timer))

    def _peer_failed(self, event: events.PeerFailed) -> None:
        told = NetError.PDU_CONTENT_INVALID
        if event.reason in (AbortReason.UNRECOGNISED_PDU, AbortReason.UNEXPECTED_PDU):
            told = NetError.PDU_TYPE_INVALID
        elif event.length:
            told = NetError.PDU_LENGTH_INVALID
        if self.error is None:
            self.error, self._told = RemoteProtocolError(event.detail), told
        self.call(self.net.on_receive, told, PduType.UNKNOWN, b"")

    def _release_after_collision(self) -> None:
        with self.lock:
            if self._release_response_wanted and self.association.can(Event.RELEASE_RESPONSE):
                self.association.respond_release(time.monotonic())
                self._queue_output(PduType.RELEASE_RESPONSE)

    def _tell(self, pdu_type: PduType, encoded: bytes, callback: Callable[..., None], *arguments: Any) -> None:
        self.call(self.net.on_receive, NetError.SUCCESS, pdu_type, encoded)
        self.call(callback, *arguments)

    def _message(self, message: Message) -> None:
        command = message.command
        if type(command) is Response and not self._response_expected(command):
            with self.lock:
                what = messages.service(command.command)
                self.association.fail(f"a {what} response to a request that was never made", time.monotonic())
            self._dispatch(time.monotonic())
            return
        dataset = message.dataset
        if isinstance(dataset, OSError):
            self._give_up(dataset, AbortSource.USER)  # there is no data set to tell of, and none may be lost in silence
            return
        net, pid = self.net, message.context_id
        self.call(net.on_receive, NetError.SUCCESS, PduType.DATA_TRANSFER, message.command_set)
        command_set = None
        if net.watches_data or type(command) is Unusable:
            command_set = commands.as_dataset(dimse_command.decode(message.command_set))
            self.call(net.on_receive_data, pid, command_set, dataset)
        if type(command) is Unusable:
            self.call(net.on_receive_unknown, pid, command_set, dataset)
        else:
            self.call(net.deliver, pid, command, dataset)

    def _response_expected(self, response: Response) -> bool:
        """Whether a request of ours asked for it (N-25); its time limit ends, or begins anew if more are to come."""
        with self.lock:
            if response.message_id not in self._outstanding:
                return False
            if response.status.is_pending:
                self._outstanding[response.message_id] = self._response_due()
            else:
                del self._outstanding[response.message_id]
        return True

    def _response_due(self) -> float | None:
        seconds = self._timeouts.response
        return None if seconds is None else time.monotonic() + seconds

    def call(self, callback: Callable[..., None], *arguments: Any) -> None:
        """Run a callback of the user's. What it raises is logged, ends the association and becomes its error."""
        if self.closing and callback is not self.net.on_send:
            return
        try:
            callback(*arguments)
        except Exception as error:
            self._callback_failed(getattr(callback, "__name__", "a callback"), error)

    def call_last(self, callback: Callable[..., None], *arguments: Any) -> None:
        """Run the last callback there is: of an error in it only the log can tell."""
        try:
            callback(*arguments)
        except Exception:  # the user's code: anything
            log.exception("%s: %s failed", self.name, getattr(callback, "__name__", "a callback"))

    @property
    def is_established(self) -> bool:
        return self.association.state is State.ESTABLISHED

    def _callback_failed(self, name: str, error: Exception) -> None:
        log.exception("%s: %s failed; the association is aborted", self.name, name)
        self._user_error = self._user_error or error
        self._give_up(error, AbortSource.USER)
        self.close(forced=False)

    # --- writing ----------------------------------------------------------------------------------------------------

    def _write(self, link: Transport) -> bool:
        """Write what can be written now. True if the socket took not all of it."""
        while True:
            if self._unsent:
                if not self._write_batch(link):
                    return bool(self._unsent)
                continue
            if self._sending is None and not self._begin_item():
                return False
            try:
                batch = next(cast("_Item", self._sending).batches, None)
            except Exception as error:
                self._sending = None
                self._callback_failed("on_before_send_command_set", error)
                return False
            if batch is None:
                self._item_sent(NetError.SUCCESS)
            else:
                self._unsent = cast("list[Buffer]", batch)
                seconds = self._timeouts.send
                self._send_deadline = None if seconds is None else time.monotonic() + seconds

    def _write_batch(self, link: Transport) -> bool:
        before = sum(map(len, self._unsent))
        try:
            self._unsent = list(link.send(self._unsent))
        except OSError as error:
            self._unsent = []
            self._read(link)  # what the peer said before the connection broke tells more
            if not self.association.close_wanted:
                self._closed_by_peer(error)
            return False
        with self.lock:
            self.queued -= before - sum(map(len, self._unsent))
            self._room.notify_all()
        if not self._unsent:
            self._send_deadline = None
        return not self._unsent

    def _begin_item(self) -> bool:
        """Take the next item whose turn it is: a request waits for room in the window, responses pass it."""
        with self.lock:
            for index, item in enumerate(self._queue):
                if item.message_id is not None and not self._window_has_room():
                    later = [other for other in self._queue if other.is_response]
                    if not later:
                        return False
                    item = later[0]
                    self._queue.remove(item)
                else:
                    del self._queue[index]
                if item.message_id is not None:
                    self._outstanding[item.message_id] = None
                self._sending = item
                return True
            return False

    def _window_has_room(self) -> bool:
        invoked, performed = self.association.window
        size = invoked if self.association.requestor else performed
        return not size or len(self._outstanding) < size

    def _item_sent(self, error: NetError) -> None:
        item, self._sending = cast("_Item", self._sending), None
        with self.lock:
            if item.message_id is not None and item.message_id in self._outstanding:
                self._outstanding[item.message_id] = self._response_due()
        self._last_activity = time.monotonic()
        self.call(self.net.on_send, error, item.pdu_type, item.length)

    # --- ending -----------------------------------------------------------------------------------------------------

    def _linger(self, link: Transport) -> None:
        """Write what is queued, let the peer close first, for a while."""
        if self.association.state is State.IDLE and self.association.close_wanted:
            return
        seconds = self._timeouts.closing
        deadline = None if seconds is None else time.monotonic() + seconds
        ended = False
        while not (self.forced or self.association.close_wanted):
            blocked = self._write(link)
            if not blocked and not ended:
                ended = True
                link.half_close()
            if not self._wait(link, deadline, write=blocked) or not self._skim(link):
                return

    def _skim(self, link: Transport) -> bool:
        """Read what the peer still sends, for the end of the association in it. False when it has closed."""
        try:
            data = link.receive()
        except OSError:  # it broke: that is an end, too
            return False
        if data:
            with self.lock:
                self.stream.receive_data(data, time.monotonic())
        return data is None or bool(data)

    def _finish(self) -> None:
        sock = self._sock
        with self.lock:
            self.closing = True
            was_connected, self.connected, self.ready = self.connected, False, False
            unsent = [item for item in (self._sending, *self._queue) if item is not None]
            self._sending = None
            self._drop_queue()
            self.queued = 0
            self.stream.discard()
        if sock is not None:
            sock.close()
        self._wake.close()
        self._waker.close()
        told = self._told or net_error(self.error)
        for item in unsent:
            self.call(self.net.on_send, told or NetError.CLOSED, item.pdu_type, item.length)
        if was_connected:
            self.net.connection_closed(self, self._user_error or told)


def _proposal(request: ul_pdu.AssociateRq) -> DicomAssociate:
    return DicomAssociate.from_request(request)


def _holding(
    held: contextlib.ExitStack,
    batches: Iterator[list[bytes | memoryview]],
    passed: Callable[[int], None] | None,
    command_length: int,
) -> Iterator[list[bytes | memoryview]]:
    """``batches``, with the data set held open until they have gone."""
    with held:
        gone = -command_length
        for batch in batches:
            yield batch
            if passed is not None:
                gone += sum(map(len, batch[1::2]))
                passed(max(gone, 0))
