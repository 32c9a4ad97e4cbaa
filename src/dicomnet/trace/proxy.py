"""A proxy between two AEs: it forwards connections as they are and hands on records of what passes.

One idea: the ends do not notice it, and the trace is complete. Bytes, ends and resets pass unchanged; whoever takes the
records too slowly slows the connections down instead of losing some (``recording``). TLS passes unread: it is not ended
here.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Final, Protocol

from dicomnet.config import Timeouts
from dicomnet.errors import DicomNetworkError, TransportError
from dicomnet.trace.decoding import Decoder
from dicomnet.trace.faults import Rule
from dicomnet.trace.injecting import Injector, Rules
from dicomnet.trace.recording import Recorder
from dicomnet.trace.records import Address, Closed, Opened, Record
from dicomnet.trace.relay import Relay, Tap, reset
from dicomnet.transport import Transport, Waiter, connect, listen

log = logging.getLogger("dicomnet")

MOST_CONNECTIONS: Final = 256  # at once: a thread and up to 1 MiB of buffers each; more wait in the backlog
_BACKLOG: Final = 128
_CONNECT: Final = Timeouts().connect
_JOIN: Final = 0.1  # seconds for a connection to end, before those that have begun to connect are looked for again
_ACCEPT_AGAIN: Final = 0.1  # seconds after an accept that failed, for want of descriptors for instance


class Writer(Protocol):
    """A capture file (``pcapng.PcapngWriter``)."""

    def open(self, requestor: Address, acceptor: Address, when: float) -> Tap:
        """Another connection."""


class Proxy:
    """Listens on ``host`` and ``port``, and connects to the peer for each connection that comes in.

    ``on_record`` is called with each record, on one thread, in order. If it raises, or ``writer`` cannot write, the
    proxy closes, and ``wait`` and ``close`` raise that error. ``keep_datasets``: data sets up to this many bytes are
    part of the messages. ``connect``: seconds for the connection to the peer, None for no limit; where it fails, the
    requestor sees a reset. A peer that turns out to be the proxy itself ends it, with TransportError.
    ``idle``: seconds without a byte after which a connection is closed; None for never.

    ``faults``: the harm to do (``faults.parse_rule``); ``seed``: for its random bits.

    As a ``with`` block. Raises OSError if it cannot listen.
    """

    def __init__(
        self,
        host: str,
        port: int,
        peer_host: str,
        peer_port: int,
        *,
        on_record: Callable[[Record], None],
        faults: Sequence[Rule] = (),
        seed: int = 0,
        writer: Writer | None = None,
        keep_datasets: int = 0,
        connect: float | None = _CONNECT,
        idle: float | None = None,
        most_connections: int = MOST_CONNECTIONS,
    ) -> None:
        self._peer = Address(peer_host, peer_port)
        self._writer, self._keep = writer, keep_datasets
        self._rules = Rules(faults, seed)
        self._connect, self._idle = connect, idle
        self._listener = listen(host, port, _BACKLOG)
        address = self._listener.getsockname()
        self.address = Address(address[0], address[1])
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._threads: set[threading.Thread] = set()
        self._connecting: dict[threading.Thread, tuple[Transport, Opened]] = {}  # nobody waits for these at the end
        self._room = threading.Semaphore(most_connections)
        self._waker, self._wake = socket.socketpair()
        self._recorder = Recorder(on_record, self._end)
        self._connections = 0
        self._accepting = threading.Thread(target=self._accept, name="dicomnet trace: accept", daemon=True)
        self._accepting.start()

    @property
    def port(self) -> int:
        """Where it listens."""
        return self.address.port

    def wait(self, seconds: float | None = None) -> bool:
        """Until the proxy ends, at most ``seconds``; whether it has. Raises what ``on_record`` has raised."""
        ended = self._ended.wait(seconds)
        if self._recorder.failure is not None:
            raise self._recorder.failure
        return ended

    def close(self) -> None:
        """Stop listening, close the connections, hand on the records that are on the way."""
        self._end()
        self._accepting.join()
        self._listener.close()
        while True:
            with self._lock:
                given_up, self._connecting = list(self._connecting.items()), {}
                self._threads -= {thread for thread, _ in given_up}
                threads = list(self._threads)
            for _, (near, opened) in given_up:
                self._unreachable(near, opened)
            if not threads:
                break
            for thread in threads:
                thread.join(_JOIN)
        self._recorder.close()
        self._wake.close()
        self._waker.close()
        if self._recorder.failure is not None:
            raise self._recorder.failure

    def __enter__(self) -> Proxy:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _end(self) -> None:
        with self._lock:
            if self._ended.is_set():
                return
            self._ended.set()
        self._waker.shutdown(socket.SHUT_WR)  # readable for everyone who looks, from now on
        self._room.release()  # for an accept that waits for room

    # --- connections ------------------------------------------------------------------------------------------------

    def _accept(self) -> None:
        waiter = Waiter([self._listener, self._wake])
        self._listener.setblocking(False)
        while True:
            self._room.acquire()
            waiter.wait(None)
            if self._ended.is_set():
                return
            try:
                sock, address = self._listener.accept()
            except OSError as error:
                self._room.release()
                if not isinstance(error, BlockingIOError):
                    log.warning("a connection could not be accepted: %s", error)
                    self._ended.wait(_ACCEPT_AGAIN)
                continue
            self._start(sock, Address(address[0], address[1]))

    def _start(self, sock: socket.socket, requestor: Address) -> None:
        self._connections += 1
        number = self._connections
        thread = threading.Thread(
            target=self._run, args=(sock, requestor, number), name=f"dicomnet trace: connection {number}", daemon=True
        )
        try:
            with self._lock:  # close() joins what is there, and that must have been started
                thread.start()
                self._threads.add(thread)
        except RuntimeError as error:  # the system has no more threads
            log.warning("a connection could not be taken: %s", error)
            sock.close()
            self._room.release()

    def _run(self, sock: socket.socket, requestor: Address, number: int) -> None:
        try:
            self._serve(Transport(sock), requestor, number)
        except (OSError, TransportError) as error:  # of the capture file, or a loop: those of connections end there
            self._recorder.fail(error)
        except Exception:
            log.exception("connection %d through the proxy ended", number)
        finally:
            sock.close()
            self._room.release()
            with self._lock:
                self._threads.discard(threading.current_thread())

    def _serve(self, near: Transport, requestor: Address, number: int) -> None:
        opened = Opened(number, time.time(), requestor, self._peer)
        thread = threading.current_thread()
        with self._lock:
            self._connecting[thread] = near, opened
        try:
            sock = connect(self._peer.host, self._peer.port, self._connect)
        except DicomNetworkError as error:
            with self._lock:
                if self._connecting.pop(thread, None) is None:
                    return
            log.warning("%s", error)
            self._unreachable(near, opened)
            return
        far = Transport(sock)
        with contextlib.closing(far):
            with self._lock:
                if self._connecting.pop(thread, None) is None:
                    return
            if self._is_own(sock):
                raise TransportError(f"{self._peer.host} port {self._peer.port} is where the trace itself listens")
            self._forward(near, far, replace(opened, acceptor=self._peer_address(sock)))

    def _unreachable(self, near: Transport, opened: Opened) -> None:
        reset(near)
        self._recorder.put([opened, Closed(opened.connection, time.time(), False, "unreachable")])

    def _is_own(self, sock: socket.socket) -> bool:
        """Whether the peer is this proxy, which would call itself for ever."""
        with contextlib.suppress(OSError):  # gone already
            own, other = sock.getsockname(), sock.getpeername()
            wildcard = self.address.host in ("0.0.0.0", "::")
            return bool(other[1] == self.port and other[0] in ((own[0],) if wildcard else (self.address.host,)))
        return False

    def _peer_address(self, sock: socket.socket) -> Address:
        try:
            address = sock.getpeername()
        except OSError:  # gone already
            return self._peer
        return Address(address[0], address[1])

    def _forward(self, near: Transport, far: Transport, opened: Opened) -> None:
        self._recorder.put([opened])
        decoder = Decoder(opened.connection, keep_datasets=self._keep)
        tap = None
        if self._writer is not None:
            tap = self._writer.open(opened.requestor, opened.acceptor, opened.time)
        step = Injector(self._rules, decoder, self._recorder.put) if self._rules.rules else None
        relay = Relay(near, far, decoder, self._recorder.put, wake=self._wake, tap=tap, step=step, idle=self._idle)
        who, how = relay.run()
        if step is not None:  # what it holds was never whole
            step.end(True)
            step.end(False)
        self._recorder.put(decoder.end(who, how, time.time()))
