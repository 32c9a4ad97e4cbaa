"""The acceptor's side: a listening application entity, one thread for each of its associations."""

from __future__ import annotations

import logging
import math
import socket
import ssl
import threading
import time
from collections import Counter
from dataclasses import replace
from types import TracebackType
from typing import Final

from dicomnet import transport
from dicomnet.ae import AE
from dicomnet.blocking.connection import Connection
from dicomnet.dimse.provider import AssociationInfo
from dicomnet.errors import (
    AssociationRejected,
    DicomNetworkError,
    Reject,
    RejectResult,
    RejectSource,
)
from dicomnet.transport import Transport
from dicomnet.ul import association as ul
from dicomnet.ul.pdu import AssociateRq

log = logging.getLogger("dicomnet")

_BACKLOG: Final = 128
_CROWDED_ARTIM: Final = 1.0  # seconds that a connection gets which will be refused anyway
_ACCEPT_PAUSE: Final = 0.1  # seconds until accepting is tried again after the system refused
_LAST_WORDS: Final = 1.0  # seconds for the associations to tell their peers that the time to drain is over
_HOPELESS: Final = 2  # times Limits.pending: from there on a connection is not even refused, only closed


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
        self._connections: set[Connection] = set()
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
        self._connection: Connection | None = None
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
        connection = Connection(connected, association, ae.limits, ae.spool_folder, self.name)
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
