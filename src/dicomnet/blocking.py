"""The blocking face: ``associate`` and ``serve`` on sockets and threads.

One idea: the conversations of ``dimse.operations`` run here in a single ``send(None)``, because every method of this
face's ``Io`` returns only when it is done. No thread stands between a socket and whoever wants something from it: the
first one that waits reads for all (the leader), the others sleep until it has something for them or goes.
"""

from __future__ import annotations

import inspect
import logging
import math
import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any, Final, TypeVar

from dicomnet import transport
from dicomnet.ae import AE
from dicomnet.config import MAX_PDU_LENGTH, Identity, Limits, Peer, Timeouts
from dicomnet.dataset import EncodedDataset, Path, Spool, prepare
from dicomnet.dimse.io import Gate
from dicomnet.dimse.messages import Priority, Request, Response
from dicomnet.dimse.operations import VERIFICATION, Conversation
from dicomnet.dimse.provider import AssociationInfo
from dicomnet.errors import (
    AssociationRejected,
    DeadlineExceeded,
    DicomNetworkError,
    Reject,
    RejectResult,
    RejectSource,
)
from dicomnet.transport import Buffer, Transport
from dicomnet.ul import association as ul, negotiation
from dicomnet.ul.fsm import State
from dicomnet.ul.negotiation import AcceptedContext, ContextLike
from dicomnet.ul.pdu import AssociateRq

log = logging.getLogger("dicomnet")
Result = TypeVar("Result")

DEFAULT_CALLING_AE: Final = "DICOMNET"
_BACKLOG: Final = 128
_LAST_WORDS: Final = 1.0  # seconds to find what the peer said before the connection broke
_CROWDED_ARTIM: Final = 1.0  # seconds that a connection gets which will be refused anyway
_ACCEPT_PAUSE: Final = 0.1  # seconds until accepting is tried again after the system refused
_HOPELESS: Final = 2  # times Limits.pending: from there on a connection is not even refused, only closed


def _finished(result: Awaitable[Any]) -> Any:
    """The result of an async handler, which gets an event loop of its own."""
    import asyncio  # costs 30 ms to import; few use async handlers here

    async def finish() -> Any:
        return await result

    return asyncio.run(finish())


class _Connection:
    """A conversation over a socket, for threads: this face's ``Io``.

    ``self._turn`` guards the conversation and the association. Operations run while they hold it (``run``); whatever
    waits for the network, for a handler or for another lock puts it aside.
    """

    def __init__(
        self,
        connected: Transport,
        association: ul.Association,
        limits: Limits,
        spool_folder: Path | None,
        name: str,
    ) -> None:
        self.transport = connected
        self.association = association
        self.conversation = Conversation(self, association, self._open_sink, limits)
        self.name = name  # for log lines
        self.stopping = False
        self._limits = limits
        self._spool_folder = spool_folder
        self._turn = threading.Lock()
        self._led = threading.Condition(self._turn)  # somebody has read, and goes
        self._leading = False
        self._followers = 0
        self._flush_lock = threading.Lock()
        self.window: Gate = threading.Lock()  # of one operation, until another size is negotiated
        self.message: Gate = threading.Lock()
        self._finished = False

    def _open_sink(self, command: object, context: AcceptedContext) -> Spool:
        sop = (command.sop_class_uid, command.sop_instance_uid) if isinstance(command, Request | Response) else ("", "")
        request = self.association.request
        assert request is not None
        titles = (request.calling_ae, request.called_ae)
        if self.association.requestor:
            titles = titles[::-1]
        return Spool(context.transfer_syntax, *sop, titles, self._limits, self._spool_folder)

    def run(self, operation: Coroutine[Any, Any, Result]) -> Result:
        """An operation of the conversation, from its beginning to its end.

        One step is all there is: what it waits for blocks, and returns when it is done.
        """
        with self._turn:
            try:
                operation.send(None)
            except StopIteration as stop:
                result: Result = stop.value
                return result
        operation.close()
        raise RuntimeError("an operation waited for something that this face does not supply")

    # --- Io ---------------------------------------------------------------------------------------------------------

    now = staticmethod(time.monotonic)

    async def pass_gate(self, gate: Gate) -> None:
        self._turn.release()
        try:
            gate.acquire()
        finally:
            self._turn.acquire()

    def open_window(self, size: int) -> None:
        """``size`` requests may be outstanding from now on; 0 is unlimited."""
        if size != 1:
            self.window = threading.Semaphore(size or 0xFFFF)

    async def flush(self) -> None:
        self._flush()

    async def until(self, ready: Callable[[], object], deadline: float | None) -> bool:
        return self._until(ready, deadline)

    async def call(self, handler: Callable[..., Any], argument: Any) -> Any:
        self._turn.release()
        try:
            result = handler(argument)
            return _finished(result) if not isinstance(result, int) and inspect.isawaitable(result) else result
        finally:
            self._turn.acquire()

    def report(self, text: str, error: BaseException | None = None) -> None:
        log.warning("%s: %s", self.name, text, exc_info=error)

    # --- writing ----------------------------------------------------------------------------------------------------

    def _flush(self) -> None:
        """With the turn, which is put aside while this writes: all there is.

        A connection that breaks ends the conversation; that is not raised from here.
        """
        turn, lock, association = self._turn, self._flush_lock, self.association
        if not lock.acquire(False) and not self._wait_to_write():
            return
        failure: OSError | None = None
        try:
            while buffers := association.data_to_send():
                turn.release()
                try:
                    if left := self.transport.send(buffers):
                        self._write_rest(left)
                except OSError as error:
                    failure = error
                    break
                finally:
                    turn.acquire()
        finally:
            lock.release()
        if failure is not None:
            # What the peer said before the connection broke (an A-ABORT, most likely) tells more than the error.
            self._until(lambda: self.conversation.over, time.monotonic() + _LAST_WORDS)
            self.conversation.receive_eof(time.monotonic(), failure)
        elif association.state is State.AWAITING_CLOSE:
            self.transport.half_close()

    def _wait_to_write(self) -> bool:
        """Another thread writes. False if it does so to a peer that does not read, and this cannot wait.

        An A-ABORT cannot overtake what is half-written; then the connection just ends.
        """
        patience = -1.0
        if self.stopping:
            patience = 0.0
        elif self.conversation.over and self.association.timeouts.closing is not None:
            patience = self.association.timeouts.closing
        self._turn.release()
        try:
            if self._flush_lock.acquire(timeout=patience):
                return True
        finally:
            self._turn.acquire()
        self.conversation.receive_eof(time.monotonic())
        self.transport.shut_down()
        return False

    def _write_rest(self, left: Sequence[Buffer]) -> None:
        """The peer reads more slowly than we write: wait for it, within the limit for what is in hand."""
        seconds = self.association.timeouts.send
        deadline = None if seconds is None else time.monotonic() + seconds
        while left and not self._broken:
            wait = None if deadline is None else deadline - time.monotonic()
            if (wait is None or wait > 0) and self.transport.wait_writable(wait):
                left = self.transport.send(left)
                continue
            with self._turn:
                # It may have said why it does not read.
                self._until(lambda: self.conversation.over, time.monotonic() + _LAST_WORDS)
                self.conversation.end(DeadlineExceeded("send", seconds))
                self.conversation.receive_eof(time.monotonic())

    @property
    def _broken(self) -> bool:
        return self.association.state is State.IDLE

    # --- reading ----------------------------------------------------------------------------------------------------

    def _until(self, ready: Callable[[], object], deadline: float | None) -> bool:
        """As ``Io.until``: with the turn, which is put aside while this waits."""
        turn = self._turn
        while not ready():
            if self._leading:
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    return False
                self._followers += 1
                try:
                    self._led.wait(left)
                finally:
                    self._followers -= 1
                continue
            self._leading = True
            turn.release()
            try:
                in_time = self._read(deadline)
            finally:
                turn.acquire()
                self._leading = False
                if self._followers:
                    self._led.notify_all()
            if not in_time and not ready():
                return False
        return True

    def _read(self, deadline: float | None) -> bool:
        """Wait for bytes, ``deadline`` or a time limit of the association; hand over what came.

        False if the deadline has passed.
        """
        until, now = deadline, time.monotonic()
        limit = self.association.deadline
        if limit is not None and (until is None or limit < until):
            until = limit
        if deadline is not None and now >= deadline:
            return False
        conversation = self.conversation
        failure: OSError | None = None
        data: memoryview | None = None
        try:
            data = self.transport.receive_within(None if until is None else until - now)
        except OSError as error:
            failure, data = error, memoryview(b"")
        now = time.monotonic()
        with self._turn:
            if data:
                if conversation.receive_data(data, now):
                    self.transport.acknowledge()
            elif data is None:
                conversation.handle_timer(now)
            else:
                conversation.receive_eof(now, failure)
            if self.association.has_output:
                self._flush()
        return True

    # --- ending -----------------------------------------------------------------------------------------------------

    def finish(self) -> None:
        """After the last PDU: give the peer a moment to close first, then close. Safe to call twice."""
        with self._turn:
            first, self._finished = not self._finished, True
            if self._leading:  # another thread waits for what will not come any more
                self.transport.wake()
        if first:
            try:
                with self._turn:
                    self._until(lambda: self.association.state is not State.AWAITING_CLOSE, None)
            finally:
                self.transport.close()

    def stop(self, *, at_once: bool) -> None:
        """From another thread: A-ABORT, unless something is half-written.

        Its own thread closes the connection when the peer has, or ``at_once``, which is for those that are silent: if
        bytes are on their way, the peer's system throws the A-ABORT away when it learns that they were not read.
        """
        self.stopping = True
        self.run(self.conversation.abort())
        if at_once:
            self.transport.wake()


class Association:
    """An association that this side requested. Use it as a context manager: leaving the block releases it.

    ``peer``: whom it is with; ``accepted``: the negotiated contexts; ``max_pdu_length``: the longest P-DATA-TF that the
    peer takes, in bytes (0: any); ``async_ops``: the negotiated (invoked, performed) operations window (0: unlimited).
    Several threads may use one association; their requests overlap as far as the window allows.
    """

    def __init__(self, connection: _Connection, peer: Peer) -> None:
        self._connection = connection
        self.peer = peer
        association = connection.association
        self.accepted: tuple[AcceptedContext, ...] = tuple(association.contexts.values())
        self.max_pdu_length = association.peer_max_length
        self.async_ops = association.window

    def __enter__(self) -> Association:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is not None:
            self.abort()
        elif not self._connection.conversation.over:
            self.release()

    def c_echo(self) -> Response:
        """Verify the connection (PS3.4 A, PS3.7 9.1.5). Needs a context for Verification.

        Raises NoAcceptedContext, and what ends the association: AssociationAborted, RemoteProtocolError,
        TransportError, DeadlineExceeded.
        """
        return self._run(self._connection.conversation.echo())

    def c_store(
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
        context, dataset = prepare(data, self.accepted)
        return self._run(self._connection.conversation.store(context, dataset, priority, originator))

    def release(self) -> None:
        """Release the association (PS3.8 7.2) and close the connection.

        Raises LocalProtocolError if it is over or operations are outstanding, and what ends an association.
        """
        self._run(self._connection.conversation.release())

    def abort(self) -> None:
        """Abort the association (PS3.8 7.3) and close the connection. Does nothing if it is over."""
        self._run(self._connection.conversation.abort())

    def _run(self, operation: Coroutine[Any, Any, Result]) -> Result:
        try:
            return self._connection.run(operation)
        finally:
            if self._connection.conversation.over:
                self._connection.finish()


def associate(
    peer: Peer | str,
    *,
    calling_ae: str = DEFAULT_CALLING_AE,
    contexts: Iterable[ContextLike] = (VERIFICATION,),
    tls: ssl.SSLContext | None = None,
    identity: Identity | None = None,
    async_ops: tuple[int, int] = (1, 1),
    roles: Mapping[str, tuple[bool, bool]] | None = None,
    extended: Mapping[str, bytes] | None = None,
    max_pdu_length: int = MAX_PDU_LENGTH,
    timeouts: Timeouts | None = None,
    limits: Limits | None = None,
    spool_folder: Path | None = None,
) -> Association:
    """Connect to ``peer`` and request an association (PS3.8 7.1).

    ``peer``: ``"AET@host:port"`` or a Peer. ``contexts``: up to 128 SOP class UIDs, (UID, [transfer syntaxes]) pairs or
    PresentationContexts; a UID alone proposes Explicit and Implicit VR Little Endian. ``tls``: a client-side
    SSLContext; the host is the name that its certificate must have. ``identity``: PS3.7 D.3.3.7. ``async_ops``:
    (invoked, performed) operations to have outstanding at once, 0 is unlimited. ``roles``: SOP class → (SCU, SCP) that
    this side wants to be. ``extended``: SOP class → its extended negotiation bytes. ``max_pdu_length``: what this side
    receives, in bytes, 0 is unlimited. ``spool_folder``: where received data sets above ``limits.spool_size`` wait.

    Raises ValueError for what cannot be requested, TransportError, DeadlineExceeded, AssociationRejected,
    AssociationAborted and RemoteProtocolError.
    """
    if isinstance(peer, str):
        peer = Peer.parse(peer)
    timeouts = timeouts or Timeouts()
    limits = limits or Limits()
    request = negotiation.request(
        peer.ae_title,
        calling_ae,
        contexts,
        identity=identity,
        async_ops=async_ops,
        roles=roles,
        extended=extended,
        max_length=max_pdu_length,
    )
    association = ul.Association(requestor=True, max_length=max_pdu_length, timeouts=timeouts, limits=limits)
    sock = transport.connect(peer.host, peer.port, timeouts.connect)
    if tls is None:
        connected = Transport(sock)
    else:
        connected = transport.secure(sock, tls, timeouts.tls, server_side=False, server_hostname=peer.host)
    connection = _Connection(connected, association, limits, spool_folder, str(peer))
    try:
        connection.run(connection.conversation.associate(request))
    except BaseException:
        connection.run(connection.conversation.abort())
        connection.finish()
        raise
    connection.open_window(association.window[0])
    return Association(connection, peer)


# --- serving --------------------------------------------------------------------------------------------------------


class Server:
    """A listening application entity; made by ``serve``. Use it as a context manager: leaving the block closes it.

    ``host``, ``port``: where it listens.
    """

    def __init__(self, ae: AE, host: str, port: int, tls: ssl.SSLContext | None, backlog: int) -> None:
        self._ae = ae
        self._tls = tls
        self._listener = transport.listen(host, port, backlog)
        self._listener.setblocking(False)
        self.host: str = self._listener.getsockname()[0]
        self.port: int = self._listener.getsockname()[1]
        self._wake, self._waker = socket.socketpair()
        self._lock = threading.Lock()
        self._threads: set[threading.Thread] = set()
        self._connections: set[_Connection] = set()
        self._pending = 0  # connections that are not yet associations
        self._by_ae_title: Counter[str] = Counter()
        self._by_address: Counter[str] = Counter()
        self._closing = False
        self._closed = threading.Event()
        self._acceptor = threading.Thread(target=self._accept, name=f"dicomnet accept {self.port}", daemon=True)
        self._acceptor.start()

    def __enter__(self) -> Server:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until the server is closed, or for ``seconds``; True if it is closed."""
        return self._closed.wait(seconds)

    def close(self) -> None:
        """Stop listening, let transfers finish (``timeouts.drain``), abort what is left. Safe to call twice.

        Called by a handler it returns at once: the association that the handler serves has to end first.
        """
        with self._lock:
            first, self._closing = not self._closing, True
            serving = threading.current_thread() in self._threads
        if first and serving:
            threading.Thread(target=self._shut_down, name=f"dicomnet close {self.port}", daemon=True).start()
        elif first:
            self._shut_down()
        if not serving:
            self._closed.wait()

    def _shut_down(self) -> None:
        try:
            self._waker.send(b"\0")
            self._acceptor.join()
            self._drain()
        finally:
            self._wake.close()
            self._waker.close()
            self._closed.set()

    def _drain(self) -> None:
        seconds = self._ae.timeouts.drain
        deadline = math.inf if seconds is None else time.monotonic() + seconds
        while self._stop(expired=False):
            if time.monotonic() >= deadline:
                break
        else:
            return
        deadline = time.monotonic() + _LAST_WORDS
        while self._stop(expired=True):
            if time.monotonic() >= deadline:
                break
        else:
            return
        with self._lock:
            connections = list(self._connections)
        log.warning("port %d: %d associations did not end within the time to drain", self.port, len(connections))
        for connection in connections:
            connection.transport.shut_down()

    def _stop(self, *, expired: bool) -> bool:
        """Stop the associations that have nothing to do, or all; False when none is left."""
        with self._lock:
            threads, connections = list(self._threads), list(self._connections)
        for connection in connections:
            idle = not connection.conversation.busy(time.monotonic())
            if not connection.stopping and (idle or expired):
                connection.stop(at_once=idle)
        if threads:
            threads[0].join(0.05)
        return bool(threads)

    # --- accepting --------------------------------------------------------------------------------------------------

    def _accept(self) -> None:
        ready = transport.Waiter([self._listener, self._wake])
        paused = transport.Waiter([self._wake])
        failed = False  # the last time: one line in the log is enough
        while True:
            ready.wait(None)
            if self._closing:
                break
            try:
                sock, address = self._listener.accept()
            except (BlockingIOError, ConnectionAbortedError):
                continue
            except OSError as error:  # out of descriptors, most likely: those who end their association free some
                if not failed:
                    log.warning("port %d: cannot accept connections: %s", self.port, error)
                failed = True
                paused.wait(_ACCEPT_PAUSE)
                continue
            failed = False
            self._start(sock, address[:2])
        self._listener.close()

    def _start(self, sock: socket.socket, address: tuple[str, int]) -> None:
        acceptor = _Acceptor(self, address)
        thread = threading.Thread(
            target=self._serve, args=(sock, acceptor), name=f"dicomnet {acceptor.name}", daemon=True
        )
        with self._lock:
            pending, most = self._pending, self._ae.limits.pending
            acceptor.crowded, hopeless = pending >= most, pending >= _HOPELESS * most
            if not hopeless:
                self._pending += 1
                self._threads.add(thread)
        if hopeless:
            log.warning("%s: closed: too many connections wait for an association", acceptor.name)
            sock.close()
            return
        try:
            thread.start()
        except RuntimeError as error:  # no more threads
            log.warning("port %d: cannot start a thread: %s", self.port, error)
            sock.close()
            with self._lock:
                self._threads.discard(thread)
                self._pending -= 1

    def _serve(self, sock: socket.socket, acceptor: _Acceptor) -> None:
        """One connection, on its own thread, from accept to close."""
        try:
            acceptor.serve(sock)
        except DicomNetworkError as error:
            log.warning("%s: %s", acceptor.name, error)
        except Exception:
            log.exception("%s: the association ended by an error of the server", acceptor.name)
        finally:
            acceptor.leave()
            with self._lock:
                self._threads.discard(threading.current_thread())


class _Acceptor:
    """The acceptor's side of one connection: the AE as its conversation sees it, with what the server counts."""

    def __init__(self, server: Server, address: tuple[str, int]) -> None:
        self._server = server
        self._ae = server._ae
        self._address = address
        self._calling_ae: str | None = None  # once it is admitted
        self._connection: _Connection | None = None
        self.name = f"{address[0]}:{address[1]}"
        self.crowded = False  # too many connections are not yet associations: this one will be refused
        self.answer = self._ae.answer
        self.handler = self._ae.handler

    def serve(self, sock: socket.socket) -> None:
        """Raises TransportError and DeadlineExceeded for a TLS handshake that fails."""
        ae, tls = self._ae, self._server._tls
        timeouts = replace(ae.timeouts, artim=_CROWDED_ARTIM) if self.crowded else ae.timeouts
        if tls is None:
            connected = Transport(sock)
        else:
            connected = transport.secure(sock, tls, timeouts.tls, server_side=True, wakes=[self._server._wake])
        association = ul.Association(requestor=False, max_length=ae.max_pdu_length, timeouts=timeouts, limits=ae.limits)
        connection = _Connection(connected, association, ae.limits, ae.spool_folder, self.name)
        with self._server._lock:
            self._connection = connection
            self._server._connections.add(connection)
        association.transport_opened(time.monotonic())
        conversation = connection.conversation
        try:
            connection.run(conversation.serve(self, self._describe))
        finally:
            connection.run(conversation.abort())  # does nothing unless a handler broke the conversation
            connection.finish()
        if isinstance(conversation.error, AssociationRejected):
            return  # reported when it was refused
        if conversation.error is not None:
            log.warning("%s: %s", connection.name, conversation.error)
        elif conversation.requested is None:
            log.info("%s: closed before it requested an association", connection.name)
        else:
            log.info("%s: released", connection.name)

    def _describe(self, request: AssociateRq) -> AssociationInfo:
        connection = self._connection
        assert connection is not None
        self.name = connection.name = f"{self.name} {request.calling_ae!r} to {request.called_ae!r}"
        certificate = connection.transport.certificate
        return AssociationInfo(request.calling_ae, request.called_ae, self._address, request, certificate)

    def admit(self, association: AssociationInfo) -> Reject | None:
        """Who may not come in gets the AE's reason; who comes when it is full gets 2/3/2 (PS3.8 Table 9-21)."""
        refusal = self._ae.admit(association)
        if refusal is not None:
            return refusal
        server, limits, title = self._server, self._ae.limits, association.calling_ae
        with server._lock:
            if (
                self.crowded
                or server._closing
                or server._by_ae_title.total() >= limits.associations
                or server._by_ae_title[title] >= limits.associations_per_ae_title
                or server._by_address[self._address[0]] >= limits.associations_per_address
            ):
                return Reject(RejectResult.TRANSIENT, RejectSource.PROVIDER_PRESENTATION, 2)
            self._calling_ae = title
            server._by_ae_title[title] += 1
            server._by_address[self._address[0]] += 1
            server._pending -= 1
        return None

    def leave(self) -> None:
        """The connection is closed: give back what it took."""
        server = self._server
        with server._lock:
            if self._connection is not None:
                server._connections.discard(self._connection)
            if self._calling_ae is None:
                server._pending -= 1
                return
            for counter, key in ((server._by_ae_title, self._calling_ae), (server._by_address, self._address[0])):
                counter[key] -= 1
                if not counter[key]:
                    del counter[key]


def serve(
    ae: AE,
    host: str = "127.0.0.1",
    port: int = 0,
    *,
    tls: ssl.SSLContext | None = None,
    backlog: int = _BACKLOG,
) -> Server:
    """Serve ``ae`` on ``host`` (``"*"``: all addresses, IPv4 and IPv6) and ``port`` (0: a free one).

    Each association has a thread of its own, on which its handlers run. ``tls``: a server-side SSLContext. ``backlog``:
    connections that the system keeps until they are accepted. Raises OSError if it cannot listen there.
    """
    return Server(ae, host, port, tls, backlog)
