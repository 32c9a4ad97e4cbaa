"""The thread behind a listening ``DicomNet``: it accepts connections and tells that they are closed."""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from dicomnet import transport
from dicomnet.callbacks.enums import NetError

if TYPE_CHECKING:
    from dicomnet.callbacks.net import DicomNet

log = logging.getLogger("dicomnet")

_PAUSE: Final = 0.1  # seconds, when the system has no descriptors left


class Listener:
    """The listening side of ``net``. Raises OSError if it cannot listen there."""

    def __init__(self, net: DicomNet, address: str, port: int, backlog: int) -> None:
        self.net = net
        self._listener = transport.listen(address, port, backlog)
        self._listener.setblocking(False)
        net.note_addresses(self._listener)
        self.closing = False
        self.clients: set[DicomNet] = set()
        self.lock = threading.Lock()
        self._waiting: socket.socket | None = None  # a connection that on_accept may accept
        self._told: deque[Callable[[], None]] = deque()  # callbacks about clients, to run here
        self._wake, self._waker = socket.socketpair()
        self._waker.setblocking(False)
        self.thread = threading.Thread(target=self._run, name=f"dicomnet {type(net).__name__} listen", daemon=True)

    def start(self) -> None:
        self.thread.start()

    def notify(self) -> None:
        with contextlib.suppress(BlockingIOError, OSError):  # woken already, or gone
            self._waker.send(b"\0")

    def close(self, *, forced: bool) -> None:
        """Stop listening, close the clients. ``on_close`` comes for each of them."""
        with self.lock:
            self.closing = True
            clients = list(self.clients)
        for client in clients:
            if forced:
                client.close_forced()
            else:
                client.close()
        self.notify()

    def take(self) -> socket.socket | None:
        """The connection that waits to be accepted, if this is the thread to do it."""
        sock, self._waiting = self._waiting, None
        return sock

    def add(self, client: DicomNet) -> None:
        with self.lock:
            self.clients.add(client)

    def tell(self, client: DicomNet, callback: Callable[[], None]) -> None:
        """``client`` is closed: run ``callback`` on this object's thread."""
        with self.lock:
            self._told.append(callback)
            self.clients.discard(client)
        self.notify()

    # --- the thread -------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        ready = transport.Waiter([self._listener, self._wake])
        while not self.closing:
            ready.wait(None)
            self._run_told()
            if not self.closing:
                self._accept()
        self._listener.close()
        self._wait_for_clients()
        self._wake.close()
        self._waker.close()

    def _run_told(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._wake.setblocking(False)
            self._wake.recv(4096)
        while self._told:
            self._call(self._told.popleft())

    def _wait_for_clients(self) -> None:
        """Each client's thread ends by itself within its time limits."""
        ready = transport.Waiter([self._wake])
        while True:
            self._run_told()
            with self.lock:
                if not self.clients and not self._told:
                    return
            ready.wait(None)

    def _accept(self) -> None:
        try:
            sock, _address = self._listener.accept()
        except BlockingIOError:
            return
        except OSError as error:
            log.warning("port %d: cannot accept a connection: %s", self.net.host_port, error)
            self._call(lambda: self.net.on_accept(NetError.NETWORK))
            time.sleep(_PAUSE)  # there is nothing to wait for that would tell when it goes again
            return
        if len(self.clients) >= self.net.max_clients:
            self.net.refuse(sock)
            return
        self._waiting = sock
        self._call(lambda: self.net.on_accept(NetError.SUCCESS))
        if (left := self.take()) is not None:
            left.close()

    def _call(self, callback: Callable[[], None]) -> None:
        try:
            callback()
        except Exception:  # the user's code: anything
            log.exception("%s port %d: a callback failed", type(self.net).__name__, self.net.host_port)
