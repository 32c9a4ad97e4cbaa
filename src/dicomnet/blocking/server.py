"""The acceptor's side: a listening application entity, one thread for each of its associations."""

from __future__ import annotations

import logging
import math
import socket
import ssl
import threading
import time
from abc import ABC, abstractmethod
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Final

from dicomnet import transport
from dicomnet.admission import DEFER, Admission, Guest
from dicomnet.ae import AE
from dicomnet.blocking.association import Association, associate
from dicomnet.blocking.connection import Connection
from dicomnet.dimse.provider import AssociationInfo
from dicomnet.dimse.serving import serve as serve_association
from dicomnet.opening import caller
from dicomnet.transport import Transport
from dicomnet.ul import association as ul
from dicomnet.ul.pdu import AssociateRq

if TYPE_CHECKING:
    from dicomnet.workers import Worker

log = logging.getLogger("dicomnet")
Tls = tuple[ssl.SSLContext | None, bool]  # with it; and without it, too

_BACKLOG: Final = 128
_ACCEPT_PAUSE: Final = 0.1  # seconds until accepting is tried again after the system refused
_LAST_WORDS: Final = 1.0  # seconds for the associations to tell their peers that the time to drain is over


class Server(ABC):
    """A listening application entity; made by ``serve``. Use it as a context manager: leaving the block closes it.

    ``host``, ``port``: where it listens.
    """

    def __init__(self, listener: socket.socket) -> None:
        self.host: str = listener.getsockname()[0]
        self.port: int = listener.getsockname()[1]

    def __enter__(self) -> Server:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    @abstractmethod
    def associations(self) -> int:
        """How many are open now, of all workers."""

    @abstractmethod
    def wait(self, seconds: float | None = None) -> bool:
        """Wait until the server is closed, or for ``seconds``; True if it is closed."""

    @abstractmethod
    def close(self) -> None:
        """Stop listening, let transfers finish (``timeouts.drain``), abort what is left. Safe to call twice.

        Called by a handler it returns at once: the association that the handler serves has to end first.
        """


class _ThreadedServer(Server):
    """Serves in this process, one thread for each association. ``admission``: None: this server's alone."""

    def __init__(self, ae: AE, tls: Tls, listener: socket.socket, admission: Admission | None = None) -> None:
        super().__init__(listener)
        self._ae = ae
        self._tls = tls
        self._listener = listener
        self._listener.setblocking(False)
        self._wake, self._waker = socket.socketpair()
        self._lock = threading.Lock()
        self._threads: set[threading.Thread] = set()
        self._connections: set[Connection] = set()
        self._admission = admission or Admission(ae)
        self._closed = threading.Event()
        self._acceptor = threading.Thread(target=self._accept, name=f"dicomnet accept {self.port}", daemon=True)
        self._acceptor.start()

    @property
    def associations(self) -> int:
        return self._admission.associations

    def wait(self, seconds: float | None = None) -> bool:
        return self._closed.wait(seconds)

    def close(self) -> None:
        with self._lock:
            first, self._admission.closing = not self._admission.closing, True
            thread = threading.current_thread()
            serving = thread in self._threads or any(link.runs_in(thread) for link in self._connections)
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
            if self._admission.closing:
                break
            if self._admission.defer():
                time.sleep(DEFER)
                continue
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
        guest = self._admission.enter(address)
        if guest is None:
            sock.close()
            return
        thread = threading.Thread(target=self._serve, args=(sock, guest), name=f"dicomnet {guest.name}", daemon=True)
        with self._lock:
            self._threads.add(thread)
        try:
            thread.start()
        except RuntimeError as error:  # no more threads
            log.warning("port %d: cannot start a thread: %s", self.port, error)
            sock.close()
            guest.leave()
            with self._lock:
                self._threads.discard(thread)

    def _serve(self, sock: socket.socket, guest: Guest) -> None:
        """One connection, on its own thread, from accept to close."""
        connection: Connection | None = None
        try:
            with guest:
                connection = self._connect(sock, guest)
                with self._lock:
                    self._connections.add(connection)
                _converse(connection, guest)
        finally:
            with self._lock:
                if connection is not None:
                    self._connections.discard(connection)
                self._threads.discard(threading.current_thread())

    def _connect(self, sock: socket.socket, guest: Guest) -> Connection:
        """Raises TransportError and DeadlineExceeded for a TLS handshake that fails."""
        ae, timeouts, (context, clear_text) = self._ae, guest.timeouts, self._tls
        opened, wakes = time.monotonic(), [self._wake]
        connected: Transport
        if context is None:
            connected = Transport(sock)
        elif clear_text:
            connected = transport.secure_if_asked(sock, context, timeouts.artim, handshake=timeouts.tls, wakes=wakes)
        else:
            connected = transport.secure(sock, context, timeouts.tls, server_side=True, wakes=wakes)
        if connected.tls_info is not None:  # ARTIM begins when the connection is secure
            opened = time.monotonic()
        association = ul.Association(requestor=False, max_length=ae.max_pdu_length, timeouts=timeouts, limits=ae.limits)
        association.transport_opened(opened)
        return Connection(connected, association, ae.limits, ae.spool_folder, guest.name, associate)


def _converse(connection: Connection, guest: Guest) -> None:
    """Answer what the peer requests until one of both ends it; close the connection."""

    def describe(request: AssociateRq) -> AssociationInfo:
        link = connection.transport
        association = guest.describe(request, link.certificate, link.tls_info)
        connection.name = guest.name
        if (peer := caller(association)) is not None:
            association.scu = Association(connection, peer)
        return association

    conversation = connection.conversation
    try:
        connection.run(serve_association(conversation, guest, describe))
    finally:
        connection.run(conversation.abort())  # does nothing unless a handler broke the conversation
        connection.finish()
    guest.tell_end(conversation.error, requested=conversation.requested is not None)


class _WorkersServer(Server):
    """Serves in processes of its own, each with the whole AE. Raises OSError and ValueError."""

    def __init__(self, ae: AE, tls: Tls, listener: socket.socket, count: int) -> None:
        from dicomnet.workers import Workers

        super().__init__(listener)
        self._workers = Workers(
            partial(_run_worker, ae, tls), listener, count, limits=ae.limits, drain=ae.timeouts.drain
        )
        try:
            self._workers.wait_ready()
        except BaseException:  # Ctrl-C
            self._workers.kill()
            self._workers.wait()
            raise

    @property
    def associations(self) -> int:
        return self._workers.associations

    def wait(self, seconds: float | None = None) -> bool:
        return self._workers.wait(seconds)

    def close(self) -> None:
        self._workers.close()


def _run_worker(ae: AE, tls: Tls, worker: Worker) -> None:
    """What one of several processes does: serve until it is told to stop."""
    server = _ThreadedServer(ae, tls, worker.listener, Admission(ae, worker.tally))
    worker.ready()
    worker.wait()
    server.close()


def serve(
    ae: AE,
    host: str = "127.0.0.1",
    port: int = 0,
    *,
    tls: ssl.SSLContext | None = None,
    clear_text: bool = False,
    backlog: int = _BACKLOG,
    workers: int = 1,
) -> Server:
    """Serve ``ae`` on ``host`` (``"*"``: all addresses, IPv4 and IPv6) and ``port`` (0: a free one).

    Each association has a thread of its own, on which its handlers run; generators, and what an operations window lets
    run at once, have more beside it. ``tls``: a server-side SSLContext.
    ``clear_text``: peers without TLS are served on the same port, too, which PS3.15 B.12 advises against; their
    ``association.tls`` is None. ``backlog``: connections that the system keeps until they are accepted.

    ``workers``: so many processes share the port, each with the whole AE; one that dies is replaced. The limits on
    associations hold for all together, ``limits.pending`` for each. What a handler changes in memory stays in its
    process. They are forked: call ``serve`` before the program starts threads. On Windows they are spawned, and need
    handlers that can be pickled, and no ``tls``.

    Raises OSError if it cannot listen there or start the workers, ValueError for ``workers`` below 1, ``clear_text``
    without ``tls``, or an AE that cannot be pickled where it must be.
    """
    if clear_text and tls is None:
        raise ValueError("clear_text=True allows it beside TLS, which needs a context: tls=")
    if workers < 1:
        raise ValueError(f"workers is {workers!r}; it is the number of processes, 1 or more")
    listener = transport.listen(host, port, backlog)
    if workers == 1:
        return _ThreadedServer(ae, (tls, clear_text), listener)
    return _WorkersServer(ae, (tls, clear_text), listener, workers)
