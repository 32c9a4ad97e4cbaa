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
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, cast

from dicomnet import transport
from dicomnet.callbacks import commands
from dicomnet.callbacks.associate import DicomAssociate
from dicomnet.callbacks.enums import NetError, PduType, net_error
from dicomnet.callbacks.outbox import Batch, Item
from dicomnet.callbacks.session import Session
from dicomnet.dataset import EncodedDataset
from dicomnet.dimse import command as dimse_command
from dicomnet.dimse.messages import Request, Response, Unusable
from dicomnet.dimse.stream import Message
from dicomnet.errors import (
    AbortReason,
    AbortSource,
    AssociationAborted,
    DeadlineExceeded,
    LocalProtocolError,
    RemoteProtocolError,
    TransportError,
)
from dicomnet.transport import Transport
from dicomnet.ul import events, pdu as ul_pdu
from dicomnet.ul.fsm import Event, State

if TYPE_CHECKING:
    from dicomnet.callbacks.net import DicomNet

log = logging.getLogger("dicomnet")

_READS: Final = 8  # reads in a row before it is looked whether something is to be written
_PROGRESS: Final = 64 * 1024  # bytes of a message within the idle limit: 9 kbit/s at its default. Less is no transfer


class Connection(Session):
    """One connection of ``net``. ``open_socket``: makes the socket (SCU), or None if ``sock`` has one (SCP).

    ``after``: the thread of the object's connection before this one, whose callbacks must have returned.
    """

    def __init__(
        self,
        net: DicomNet,
        *,
        sock: socket.socket | None = None,
        open_socket: Callable[[], socket.socket] | None = None,
        peer_host: str = "",
        after: threading.Thread | None = None,
    ) -> None:
        super().__init__(net, requestor=open_socket is not None)
        self._sock = sock
        self._open_socket = open_socket
        self._peer_host = peer_host
        self._after = after
        self._tls = net._tls_context(server_side=open_socket is None)

        # How far it has come.
        self.connected = False
        self.ready = False  # an association may be requested: connected and, with TLS, secure
        self.ended = False  # nothing of it is left but to tell ``on_close``
        self._forced = False
        self._lost = False  # the transport connection is of no more use
        self.error: BaseException | None = None
        self._user_error: BaseException | None = None  # that came out of a callback
        self._told: NetError | None = None  # what on_close says of ``error``, where that says less

        self._send_deadline: float | None = None
        self._last_progress = 0.0
        self._received = 0  # bytes since then

        self._waiters: tuple[transport.Waiter, transport.Waiter] | None = None  # to read; to read and write
        self._wake, self._waker = socket.socketpair()
        self._wake.setblocking(False)
        self._waker.setblocking(False)
        self.thread = threading.Thread(target=self._run, name=f"dicomnet {type(net).__name__}", daemon=True)

    def start(self) -> None:
        """Raises RuntimeError if the system has no more threads; then ``discard`` it."""
        self.thread.start()

    def discard(self) -> None:
        """It is not to be started."""
        self.closing = True
        self._finish_sockets()

    def notify(self) -> None:
        """Make the thread look at the queue and the flags."""
        if threading.current_thread() is not self.thread:
            with self.lock:
                if not self.ended:
                    with contextlib.suppress(BlockingIOError, OSError):  # woken already
                        self._waker.send(b"\0")

    def close(self, *, forced: bool) -> None:
        with self.lock:
            self.closing = True
            self._forced = self._forced or forced
            self._outbox.wake()
        self.notify()

    # --- the thread -------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        if self._after is not None:
            self._after.join()
            self._after = None
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

    def _open(self) -> Transport | None:
        """The connection, or None if there is none; tells ``on_connect`` and ``on_secure_link_ready``."""
        if self._open_socket is not None:
            try:
                self._sock = self._open_socket()
            except (TransportError, DeadlineExceeded) as error:
                self._not_connected(error)
                return None
        sock = cast("socket.socket", self._sock)
        self.net._note_addresses(sock)
        with self.lock:
            self.connected = not (self.closing and self.association.requestor)
            self.ready = self._tls is None and not self.closing
            self._progress()
            if self.connected and self.ready and not self.association.requestor:
                self.association.transport_opened(time.monotonic())
        if not self.connected:
            self._not_connected(TransportError("closed before there was a connection"))
            return None
        if self.association.requestor:
            self.call(self.net.on_connect, NetError.SUCCESS)
        link = Transport(sock) if self._tls is None else self._secure(sock)
        if link is not None:
            self.net.socket_options.apply(link.socket)
        return link

    def _not_connected(self, error: BaseException) -> None:
        """A ``connect`` that comes to nothing ends in ``on_connect``; from then on another one is possible."""
        with self.lock:
            self.error, self.closing, self.ended = error, True, True
        self.net.last_error = error
        self.call_last(self.net.on_connect, net_error(error))

    def _secure(self, sock: socket.socket) -> Transport | None:
        """The TLS handshake. The user who closes meanwhile wakes it."""
        if self.closing:
            return None
        server_side = not self.association.requestor
        try:
            link = transport.secure(
                sock,
                cast("Any", self._tls),
                self._timeouts.tls,
                server_side=server_side,
                server_hostname=None if server_side else self._peer_host,
                wakes=[self._wake],
            )
        except (TransportError, DeadlineExceeded) as error:
            if not self.closing:
                self.error = error
                self.call(self.net.on_secure_link_ready, net_error(error))
            return None
        self._sock = link.tls
        with self.lock:
            self.ready = True
            if server_side:
                self.association.transport_opened(time.monotonic())
        self.call(self.net.on_secure_link_ready, NetError.SUCCESS)
        return link

    def _loop(self, link: Transport) -> None:
        """Until the association is over, or the user closes: write, wait, read and call back."""
        while not self._is_over():
            blocked = self._write(link)
            if self._is_over():
                return
            deadline = self._deadline()
            if self._wait(link, deadline, write=blocked):
                self._read(link, deadline)
            now = time.monotonic()
            if deadline is not None and now >= deadline:  # also while the peer keeps sending
                self._handle_timers(now)

    def _is_over(self) -> bool:
        association = self.association
        return self.closing or self._lost or association.close_wanted or association.state is State.AWAITING_CLOSE

    def _wait(self, link: Transport, deadline: float | None, *, write: bool) -> bool:
        """Until there is something to read, room to write if that is wanted, or somebody wakes us."""
        if self._waiters is None:
            read = [link.socket, self._wake]
            self._waiters = transport.Waiter(read), transport.Waiter(read, [link.socket])
        if link.pending:
            return True
        if not self._waiters[write].wait(None if deadline is None else deadline - time.monotonic()):
            return False
        with contextlib.suppress(BlockingIOError):
            self._wake.recv(4096)
        return True

    # --- time limits ------------------------------------------------------------------------------------------------

    def _deadline(self) -> float | None:
        limits = [self.association.deadline, self._send_deadline, self._idle_deadline()]
        limits += [operation.due for operation in self._operations.values()]
        return min((limit for limit in limits if limit is not None), default=None)

    def _idle_deadline(self) -> float | None:
        """While a response is due from either side, or something goes out, other limits hold."""
        busy = self._operations or self._unanswered or self._outbox
        if self._timeouts.idle is None or busy or self.association.state is not State.ESTABLISHED:
            return None
        return self._last_progress + self._timeouts.idle

    def _progress(self) -> None:
        """A message came or went, or a good piece of one: bytes that drip do not count."""
        self._last_progress, self._received = time.monotonic(), 0

    def _handle_timers(self, now: float) -> None:
        with self.lock:
            self.association.handle_timer(now)
        self._dispatch(now)
        idle = self._idle_deadline()
        if any(operation.due is not None and now >= operation.due for operation in self._operations.values()):
            self._give_up(DeadlineExceeded("response", self._timeouts.response), AbortSource.USER)
        elif idle is not None and now >= idle:
            self._give_up(DeadlineExceeded("idle", self._timeouts.idle), AbortSource.PROVIDER)
        elif self._send_deadline is not None and now >= self._send_deadline:
            self._send_expired()

    def _send_expired(self) -> None:
        """In the middle of a PDU there is no room for an A-ABORT: the connection is cut."""
        self.error = self.error or DeadlineExceeded("send", self._timeouts.send)
        self.close(forced=True)

    def _give_up(self, error: BaseException, source: int, reason: int = AbortReason.NOT_SPECIFIED) -> None:
        """End the association with an A-ABORT and this error."""
        with self.lock:
            self.error = self.error or error
            if self.association.can(Event.ABORT_REQUEST) and not self.closing:
                self._abort(source, reason)

    # --- reading ----------------------------------------------------------------------------------------------------

    def _read(self, link: Transport, deadline: float | None = None) -> None:
        for _ in range(_READS):
            try:
                data = link.receive()
            except OSError as error:
                self._closed_by_peer(error)
                return
            if data is None:
                return
            if not data:
                self._closed_by_peer(None)
                return
            with self.lock:
                happened = self.stream.receive_data(data, time.monotonic())
                self._queue_abort()
            if self.stream.expects_more:
                link.acknowledge()
            self._received += len(data)
            if happened or self._received >= _PROGRESS:
                self._progress()
            for event in happened:
                self._happened(event)
            if happened:  # callbacks may have taken long
                self._progress()
                self.association.was_busy(time.monotonic())
            if self._is_over() or self._outbox or (deadline is not None and time.monotonic() >= deadline):
                return

    def _closed_by_peer(self, error: OSError | None) -> None:
        """It closed the connection, or the connection broke: ``error``."""
        self._lost = True
        if error is not None and self.error is None:
            self.error = TransportError(f"the connection broke: {error}")
            self.error.__cause__ = error.with_traceback(None)  # which would keep data sets alive
        with self.lock:
            unasked = self.association.state is State.IDLE and not self.association.close_wanted
            self.association.receive_eof(time.monotonic())
        self._dispatch(time.monotonic())
        if unasked and self.error is None:  # the association was not even requested
            self.error = TransportError("the peer closed the connection")

    def _dispatch(self, now: float) -> None:
        with self.lock:
            happened = self.stream.events(now)
            self._queue_abort()
        for event in happened:
            self._happened(event)

    def _queue_abort(self) -> None:
        """What the core itself has to say is an A-ABORT or A-ASSOCIATE-RJ; nothing that waits goes before it."""
        if self.association.has_output:
            self._outbox.drop()
            self._queue_output()

    def _happened(self, event: Any) -> None:
        """Tell the user. Callbacks stop once the connection is being closed."""
        if self.closing:
            self._settle(event)
            return
        net = self.net
        match event:
            case Message():
                self._message(event)
            case events.AssociateRequested(request, encoded):
                self._tell(encoded, net.on_receive_associate_request, DicomAssociate.from_request(request))
            case events.AssociateAccepted(accept, encoded):
                request = cast("ul_pdu.AssociateRq", self.association.request)
                self.negotiated = DicomAssociate.from_accept(request, accept)
                self._tell(encoded, net.on_receive_associate_accept, self.negotiated)
            case events.AssociateRejected(result, source, reason, encoded):
                self._tell(encoded, net.on_receive_associate_reject, result, source, reason)
            case events.ReleaseRequested(_, encoded):
                self._tell(encoded, net.on_receive_release_request)
            case events.ReleaseConfirmed(encoded):
                self._tell(encoded, net.on_receive_release_response)
                self._release_after_collision()
            case events.AbortReceived(source, reason, encoded):
                self.error = self.error or AssociationAborted(source, reason)
                self._tell(encoded, net.on_receive_abort, source, reason)
            case events.PeerFailed():
                self._peer_failed(event)
            case events.RequestRefused(result, source, reason):
                self.error = self.error or RemoteProtocolError(f"refused: {result}/{source}/{reason}")
            case events.TransportClosed():
                self.error = self.error or TransportError("the peer closed the connection")
            case events.TimerExpired(timer):
                self.error = self.error or DeadlineExceeded(timer, getattr(self._timeouts, timer))

    def _settle(self, event: Any) -> None:
        """The user closes, and what is queued still goes out: responses make room in the operations window for it."""
        if type(event) is Message and type(event.command) is Response:
            self._take_response(event.command, event.context_id)

    def _peer_failed(self, event: events.PeerFailed) -> None:
        told = NetError.PDU_CONTENT_INVALID
        if event.length:
            told = NetError.PDU_LENGTH_INVALID
        elif event.source == AbortSource.USER or event.reason in (
            AbortReason.UNRECOGNISED_PDU,
            AbortReason.UNEXPECTED_PDU,
        ):
            told = NetError.PDU_TYPE_INVALID
        if self.error is None:
            self.error, self._told = RemoteProtocolError(event.detail), told
        self.call(self.net.on_receive, told, PduType.UNKNOWN, b"")

    def _release_after_collision(self) -> None:
        with self.lock:
            if self._responding and self.association.state is State.COLLISION_ACCEPTOR_LOCAL:
                self._put_release_response()

    def _tell(self, encoded: bytes, callback: Callable[..., None], *arguments: Any) -> None:
        self.call(self.net.on_receive, NetError.SUCCESS, PduType(encoded[0]), encoded)
        self.call(callback, *arguments)

    def _message(self, message: Message) -> None:
        command = message.command
        if type(command) is Response and (wrong := self._take_response(command, message.context_id)):
            with self.lock:
                self.association.fail(wrong, time.monotonic())
            self._dispatch(time.monotonic())
            return
        if type(command) is not Response:
            self._take_request(cast("Request | Unusable", command))
        dataset = message.dataset
        if isinstance(dataset, OSError):
            self._give_up(dataset, AbortSource.USER)  # there is no data set to tell of, and none may be lost in silence
            return
        net, pid = self.net, message.context_id
        self.call(net.on_receive, NetError.SUCCESS, PduType.DATA_TRANSFER, message.command_set)
        command_set = None
        if net._watches_data or type(command) is Unusable:
            command_set = commands.as_dataset(dimse_command.decode(message.command_set))
            self.call(net.on_receive_data, pid, command_set, dataset)
        if type(command) is Unusable:
            self.call(net.on_receive_unknown, pid, command_set, dataset)
        else:
            self._deliver(pid, cast("Request | Response", command), cast("EncodedDataset | None", dataset))

    def _deliver(self, pid: int, command: Request | Response, dataset: EncodedDataset | None) -> None:
        callback, arguments = self.net._delivery(command, dataset)
        self.call(callback, pid, command.message_id, *arguments)

    # --- callbacks --------------------------------------------------------------------------------------------------

    def call(self, callback: Callable[..., None], *arguments: Any) -> None:
        """Run a callback of the user's, unless the connection is being closed.

        What it raises is logged, ends the association and becomes its error.
        """
        if not self.closing:
            self._call(callback, *arguments)

    def _call(self, callback: Callable[..., None], *arguments: Any) -> None:
        was_over = self._is_over()
        try:
            callback(*arguments)
        except LocalProtocolError as error:
            if not was_over:
                self.callback_failed(_name(callback), error)
                return
            # The peer's last words came with what this callback answers, and will be told next: nobody's fault here.
            log.info("%s: %s came too late: %s", self.name, _name(callback), error)
        except BaseException as error:  # the user's code: anything, SystemExit too
            self.callback_failed(_name(callback), error)

    def call_last(self, callback: Callable[..., None], *arguments: Any) -> None:
        """Run the last callback there is: of an error in it only the log can tell."""
        try:
            callback(*arguments)
        except BaseException:  # the user's code: anything
            log.exception("%s: %s failed", self.name, _name(callback))

    def callback_failed(self, name: str, error: BaseException) -> None:
        """What came out of the callback ``name``; to be called where it is handled."""
        log.exception("%s: %s failed; the association is aborted", self.name, name)
        with self.lock:
            self._user_error = self._user_error or error
            self._give_up(error, AbortSource.USER)
            self.close(forced=False)

    # --- writing ----------------------------------------------------------------------------------------------------

    def _write(self, link: Transport) -> bool:
        """Write what can be written now. True if the socket took not all of it."""
        while not self._lost:
            item = self._outbox.current or self._begin_item()
            if item is None:
                return False
            if item.unsent:
                if not self._write_batch(link, item):
                    return not self._lost
                continue
            batch = None if item.cut else self._next_batch(item)
            if batch is None:
                self._item_ended()
            else:
                item.unsent = batch
                seconds = self._timeouts.send
                self._send_deadline = None if seconds is None else time.monotonic() + seconds
        return False

    def _next_batch(self, item: Item) -> Batch | None:
        try:
            return next(item.batches, None)
        except BaseException as error:  # of the user's code: only responses that are shown to it run any
            item.cut = True
            self.callback_failed("on_before_send_command_set", error)
            return None

    def _write_batch(self, link: Transport, item: Item) -> bool:
        """True if all of it has gone."""
        before = sum(map(len, item.unsent))
        try:
            item.unsent = list(link.send(item.unsent))
        except OSError as error:
            self._read(link)  # what the peer said before the connection broke tells more
            if not (self._lost or self.association.close_wanted):
                self._closed_by_peer(error)
            self._lost = True
            return False
        with self.lock:
            self._outbox.went(before - sum(map(len, item.unsent)))
        if not item.unsent:
            self._send_deadline = None
        return not item.unsent

    def _begin_item(self) -> Item | None:
        with self.lock:
            item = self._outbox.begin(self._window_has_room())
            if item is not None and item.operation is not None:
                self._operations[item.operation.message_id] = item.operation
            return item

    def _item_ended(self) -> None:
        with self.lock:
            item = self._outbox.end()
            if item.operation is not None:
                item.operation.due = self._response_due()
        self._progress()
        gone = item.sent and not item.cut
        error = NetError.SUCCESS if gone else net_error(self.error) or NetError.CLOSED
        self._tell_sent(item, error, item.sent if gone else item.length)

    def _tell_sent(self, item: Item, error: NetError, length: int) -> None:
        """Also while the connection is being closed, but not to those whose callback has failed."""
        if self._user_error is None:
            self._call(self.net.on_send, error, item.pdu_type, length)

    # --- ending -----------------------------------------------------------------------------------------------------

    def _linger(self, link: Transport) -> None:
        """Write what is queued, let the peer close first, for a while."""
        closed_at: float | None = None  # when we shall close at the latest
        half_closed = False
        while not self._is_cut():
            blocked = self._write(link)
            if self._is_cut():
                return
            if self._outbox:
                until = self._send_deadline if blocked else self._first_due()
            elif not half_closed:
                half_closed = True
                link.half_close()
                seconds = self._timeouts.closing
                until = closed_at = None if seconds is None else time.monotonic() + seconds
            else:
                until = closed_at
            readable = self._wait(link, until, write=blocked)
            if until is not None and time.monotonic() >= until:
                if self._outbox:
                    timer = "send" if blocked else "response"
                    self.error = self.error or DeadlineExceeded(timer, getattr(self._timeouts, timer))
                return
            if readable and not self._skim(link):
                return

    def _is_cut(self) -> bool:
        """Nothing more can be said, or may be."""
        return self._forced or self._lost or self.association.close_wanted

    def _first_due(self) -> float | None:
        """When the first response is due that makes room for what waits."""
        return min(
            (operation.due for operation in self._operations.values() if operation.due is not None), default=None
        )

    def _skim(self, link: Transport) -> bool:
        """Read what the peer still sends, for the end of the association in it. False when it has closed."""
        try:
            data = link.receive()
        except OSError:  # it broke: that is an end, too
            return False
        if data:
            with self.lock:
                happened = self.stream.receive_data(data, time.monotonic())
                for event in happened:
                    self._settle(event)
        return data is None or bool(data)

    def _finish(self) -> None:
        with self.lock:
            self.closing = True
            to_tell = self.connected or not self.association.requestor
            self.connected = self.ready = False
            unsent = self._outbox.clear()
            self.stream.discard()
        if self._sock is not None:
            self._sock.close()
        told = self._told or net_error(self.error)
        for item in unsent:
            item.batches = iter(())  # a file that it held open is closed
            self._tell_sent(item, told or NetError.CLOSED, item.length)
        self._finish_sockets()
        if to_tell:
            if self.error is not None and self._user_error is None:
                log.warning("%s: %s", self.name, self.error)
            self.net._connection_closed(self, self._user_error or told)

    def _finish_sockets(self) -> None:
        with self.lock:
            self.ended = True
            for sock in (self._sock, self._wake, self._waker):
                if sock is not None:
                    sock.close()


def _name(callback: Callable[..., None]) -> str:
    return getattr(callback, "__name__", "a callback")
