"""The thread behind a listening ``DicomNet``: it accepts connections and tells that they are closed."""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from dicomnet import transport
from dicomnet.callbacks.enums import NetError, net_error
from dicomnet.errors import LocalProtocolError, TransportError

if TYPE_CHECKING:
    from dicomnet.callbacks.net import DicomNet

log = logging.getLogger("dicomnet")

_PAUSE: Final = 0.1  # seconds, when the system has no descriptors left

MAPPED = "::ffff:"  # an IPv4 address as a socket for both has it (RFC 4291 2.5.5.2)


class Listener:
    """The listening side of ``net``. Raises OSError if it cannot listen there."""

    def __init__(self, net: DicomNet, address: str, port: int, backlog: int) -> None:
        self.net = net
        self._listener = transport.listen(address, port, backlog)
        self._listener.setblocking(False)
        self.address: tuple[str, int] = self._listener.getsockname()[:2]
        self.family = self._listener.family
        self.closing = False
        self.ended = False
        self.clients: set[DicomNet] = set()
        self.lock = threading.Lock()
        self._refused: set[DicomNet] = set()  # connections that are told that there is no room
        self._waiting: socket.socket | None = None  # a connection that on_accept may accept
        self._accepted: DicomNet | None = None  # who got it
        self._told: deque[Callable[[], None]] = deque()  # callbacks about clients, to run here
        self._wake, self._waker = socket.socketpair()
        self._wake.setblocking(False)
        self._waker.setblocking(False)
        self.thread = threading.Thread(target=self._run, name=f"dicomnet {type(net).__name__} listen", daemon=True)

    def start(self) -> None:
        """Raises RuntimeError if the system has no more threads."""
        try:
            self.thread.start()
        except RuntimeError:
            self._listener.close()
            self._end()
            raise

    def _notify(self) -> None:
        """With the lock held."""
        if not self.ended:
            with contextlib.suppress(BlockingIOError, OSError):  # woken already
                self._waker.send(b"\0")

    def close(self, *, forced: bool) -> None:
        """Stop listening, close the clients. ``on_close`` comes for each of them."""
        with self.lock:
            self.closing = True
            clients = [*self.clients, *self._refused]
        for client in clients:
            client._close(forced=forced)
        with self.lock:
            self._notify()

    # --- what callbacks do ------------------------------------------------------------------------------------------

    def take(self) -> socket.socket | None:
        """The connection that waits to be accepted, if this is the thread to do it."""
        if threading.current_thread() is not self.thread:
            return None
        sock, self._waiting = self._waiting, None
        return sock

    def add(self, client: DicomNet) -> None:
        """Raises LocalProtocolError if this side is closing."""
        with self.lock:
            if self.closing:
                raise LocalProtocolError("accept: the listening object is closed or being closed")
            self.clients.add(client)
            self._accepted = client

    def forget(self, client: DicomNet, callback: Callable[[], None] | None = None) -> None:
        """``client`` is closed: run ``callback`` on this object's thread."""
        with self.lock:
            if callback is not None:
                self._told.append(callback)
            self.clients.discard(client)
            self._refused.discard(client)
            self._notify()

    # --- the thread -------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            ready = transport.Waiter([self._listener, self._wake])
            while not self.closing:
                ready.wait(None)
                self._run_told()
                if not self.closing:
                    self._accept()
            self._listener.close()
            self._wait_for_clients()
        except Exception:  # ours: a defect
            log.exception("port %d: listening ended by an error of the library", self.address[1])
        finally:
            self._listener.close()
            self._end()

    def _end(self) -> None:
        with self.lock:
            self.closing = self.ended = True
            self._wake.close()
            self._waker.close()

    def _run_told(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._wake.recv(4096)
        while self._told:
            self._call(self._told.popleft())

    def _wait_for_clients(self) -> None:
        """Each client's thread ends by itself within its time limits."""
        ready = transport.Waiter([self._wake])
        while True:
            self._run_told()
            with self.lock:
                if not (self.clients or self._refused or self._told):
                    return
            ready.wait(None)

    def _accept(self) -> None:
        try:
            sock, address = self._listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        except OSError as error:
            log.warning("port %d: cannot accept a connection: %s", self.address[1], error)
            told = net_error(error)
            self._call(lambda: self.net.on_accept(told))
            # Nothing else tells when it goes again: those who end their connection free what is missing.
            transport.Waiter([self._wake]).wait(_PAUSE)
            return
        if len(self.clients) >= self.net.max_clients:
            self._refuse(sock)
            return
        self._waiting, self._accepted = sock, None
        self.net.peer_address, self.net.peer_port = address[0].removeprefix(MAPPED), address[1]
        self._call(lambda: self.net.on_accept(NetError.SUCCESS))
        if (left := self.take()) is not None:
            left.close()
        self._accepted = None

    def _refuse(self, sock: socket.socket) -> None:
        """Too many clients: this one is told so when it asks, unless even for that there are too many."""
        log.warning("port %d: refused: there are %d clients already", self.address[1], self.net.max_clients)
        if len(self._refused) >= self.net.limits.pending:
            sock.close()
            return
        refusal = self.net._refusal(self, sock)
        with self.lock:
            self._refused.add(refusal)
        with contextlib.suppress(TransportError):  # no thread even for that: it is just closed
            refusal._begin()
        if self.closing:
            refusal._close(forced=True)

    def _call(self, callback: Callable[[], None]) -> None:
        try:
            callback()
        except BaseException as error:  # the user's code: anything, SystemExit too
            client = self._accepted
            if client is not None and client._connection is not None:
                client._connection.callback_failed("on_accept", error)
            else:
                log.exception("%s port %d: a callback failed", type(self.net).__name__, self.address[1])
