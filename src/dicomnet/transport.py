"""TCP and TLS connections for the faces that block: every wait has a limit.

One idea: try first, then wait for just the time that is left. The options that decide how fast DICOM is live here: no
Nagle (PS3.8 sends small PDUs and waits for the answer), acknowledgements at once where they are needed and the platform
lets us ask for them, no fixed buffer sizes.
"""

from __future__ import annotations

import contextlib
import errno
import select
import socket
import ssl
import struct
import sys
import threading
import time
from collections.abc import Sequence
from typing import Any, Final

from dicomnet.errors import DeadlineExceeded, TransportError

Buffer = bytes | bytearray | memoryview

_DONT_WAIT: Final[int] = getattr(socket, "MSG_DONTWAIT", 0)  # without it, sockets do not block anyway
_QUICKACK: Final[int | None] = getattr(socket, "TCP_QUICKACK", None)
_SMALLEST_READ: Final = 16 * 1024  # an idle association holds no more
_LARGEST_READ: Final = 512 * 1024  # several PDUs of the usual sizes
_MOST_BUFFERS: Final = 1024  # IOV_MAX on every platform that has sendmsg
_WANT_READ = (BlockingIOError, ssl.SSLWantReadError)
_WANT_WRITE = (BlockingIOError, ssl.SSLWantWriteError)


class Waiter:
    """Waits until one of some sockets is ready to be read or written; for one thread at a time."""

    def __init__(self, read: Sequence[socket.socket], write: Sequence[socket.socket] = ()) -> None:
        self._read, self._write = read, write
        self._poll: Any = None
        if hasattr(select, "poll"):
            self._poll = select.poll()
            for sock in {*read, *write}:
                events = (select.POLLIN if sock in read else 0) | (select.POLLOUT if sock in write else 0)
                self._poll.register(sock, events)

    def wait(self, seconds: float | None) -> bool:
        """True when something is ready (or broken: the next call will tell), False when ``seconds`` have passed."""
        if self._poll is not None:
            return bool(self._poll.poll(None if seconds is None else max(0.0, seconds) * 1000 + 0.999))
        seconds = None if seconds is None else max(0.0, seconds)
        return any(select.select(self._read, self._write, self._write, seconds))


class Transport:
    """One connection. Reading is for one thread at a time, writing for one thread at a time; both may go on at once."""

    _blocks: bool = sys.platform == "linux"  # the kernel itself waits for input, with a time limit (SO_RCVTIMEO)

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(self._blocks)
        with contextlib.suppress(OSError):  # not a TCP socket, or gone already: the first read will tell
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket = sock
        self._buffer = bytearray(_SMALLEST_READ)
        self._view = memoryview(self._buffer)
        self._kernel_limit = 0.0  # seconds, as set by SO_RCVTIMEO; 0 is unlimited
        self._readable: Waiter | None = None
        self._writable: Waiter | None = None

    # --- reading ----------------------------------------------------------------------------------------------------

    @property
    def pending(self) -> bool:
        """Something can be received although the socket itself may have nothing."""
        return False

    def receive_within(self, seconds: float | None) -> memoryview | None:
        """As ``receive``, but waits for something to arrive, for ``seconds`` (None: for ever) at the most.

        It may return a little later: the kernel's limit is only set anew when it is more than 2 % off.
        """
        if not self._blocks:
            return self.receive() if self.wait_readable(seconds) else None
        if seconds is not None and seconds <= 0.0:
            return self.receive()
        limit = seconds or 0.0
        if not limit <= self._kernel_limit <= limit * 1.02:
            self._limit_kernel(limit)
        try:
            count = self.socket.recv_into(self._buffer)
        except BlockingIOError:
            return None
        return self._view[:count] if count < _SMALLEST_READ else self._received(count)

    def _limit_kernel(self, seconds: float) -> None:
        if seconds != self._kernel_limit:
            microseconds = max(round(seconds * 1e6), 1) if seconds else 0
            limit = struct.pack("ll", *divmod(microseconds, 1_000_000))
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
            self._kernel_limit = seconds

    def wait_readable(self, seconds: float | None) -> bool:
        if self._readable is None:
            self._readable = Waiter([self.socket])
        return self._readable.wait(seconds)

    def receive(self) -> memoryview | None:
        """What has arrived (empty: the end), valid until the next call; None if nothing has. Raises OSError."""
        try:
            count = self.socket.recv_into(self._buffer, 0, _DONT_WAIT)
        except BlockingIOError:
            return None
        return self._received(count)

    def acknowledge(self) -> None:
        """Have what was received acknowledged now, because more of the same message is to come.

        A peer that leaves Nagle's algorithm on (DCMTK does) sends the rest only then, and the system would wait 40 ms
        for an answer of ours to carry the acknowledgement. Linux forgets this with every read.
        """
        if _QUICKACK is not None:
            with contextlib.suppress(OSError):  # closed meanwhile: the next read will tell
                self.socket.setsockopt(socket.IPPROTO_TCP, _QUICKACK, 1)

    def _received(self, count: int) -> memoryview:
        view = self._view[:count]
        if count == len(self._buffer) and count < _LARGEST_READ:
            # much is coming: the next read may be larger; ``view`` keeps the old buffer alive
            self._buffer = bytearray(2 * count)
            self._view = memoryview(self._buffer)
        return view

    # --- writing ----------------------------------------------------------------------------------------------------

    def wait_writable(self, seconds: float | None) -> bool:
        if self._writable is None:
            self._writable = Waiter([], [self.socket])
        return self._writable.wait(seconds)

    def send(self, buffers: Sequence[Buffer]) -> Sequence[Buffer]:
        """Write what goes without waiting; returns what is left, in order. Raises OSError."""
        while buffers:
            try:
                if len(buffers) == 1:
                    sent = self._write_one(buffers[0])
                else:
                    sent = self._write(buffers if len(buffers) <= _MOST_BUFFERS else buffers[:_MOST_BUFFERS])
            except BlockingIOError:
                return buffers
            if sent == sum(map(len, buffers)):
                return ()
            buffers = _after(buffers, sent)
        return ()

    def _write_one(self, buffer: Buffer) -> int:
        return self.socket.send(buffer, _DONT_WAIT)

    if hasattr(socket.socket, "sendmsg"):

        def _write(self, buffers: Sequence[Buffer]) -> int:
            return self.socket.sendmsg(buffers, (), _DONT_WAIT)

    else:  # Windows

        def _write(self, buffers: Sequence[Buffer]) -> int:
            return self.socket.send(b"".join(buffers))

    # --- ending -----------------------------------------------------------------------------------------------------

    def half_close(self) -> None:
        """Nothing more will be written: the peer reads to the end and then sees it."""
        self._shut_down(socket.SHUT_WR)

    def wake(self) -> None:
        """Make a thread that waits to read see the end of input."""
        self._shut_down(socket.SHUT_RD)

    def shut_down(self) -> None:
        """Make every thread that waits for this connection find that it has ended."""
        self._shut_down(socket.SHUT_RDWR)

    def _shut_down(self, how: int) -> None:
        with contextlib.suppress(OSError):  # closed by the peer meanwhile
            # Not SSLSocket's: that one forgets the TLS session, and what is read after it is ciphertext.
            socket.socket.shutdown(self.socket, how)

    def close(self) -> None:
        self.socket.close()

    @property
    def certificate(self) -> dict[str, Any] | None:
        """The peer's certificate as ``ssl.SSLSocket.getpeercert`` gives it, or None."""
        return None


class TlsTransport(Transport):
    """The same through TLS. One lock around the TLS object: OpenSSL's is not for two threads at once."""

    _blocks = False

    def __init__(self, sock: ssl.SSLSocket) -> None:
        super().__init__(sock)
        self.tls = sock
        self._lock = threading.Lock()

    @property
    def pending(self) -> bool:
        with self._lock:
            return self.tls.pending() > 0

    def wait_readable(self, seconds: float | None) -> bool:
        return self.pending or super().wait_readable(seconds)

    def receive(self) -> memoryview | None:
        try:
            with self._lock:
                count = self.tls.recv_into(self._buffer)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return None
        except ssl.SSLEOFError:  # closed without close_notify: PS3.8 tells by its own PDUs whether that was in order
            count = 0
        return self._received(count)

    def _write_one(self, buffer: Buffer) -> int:
        return self._write([buffer])

    def _write(self, buffers: Sequence[Buffer]) -> int:
        data = memoryview(b"".join(buffers) if len(buffers) > 1 else buffers[0])
        sent = 0
        with self._lock:
            while sent < len(data):  # each call takes one record of 16 KiB
                try:
                    sent += self.tls.send(data[sent:])
                except (ssl.SSLWantWriteError, ssl.SSLWantReadError):
                    if not sent:
                        raise BlockingIOError(errno.EAGAIN, "TLS wants to wait") from None
                    break
        return sent

    @property
    def certificate(self) -> dict[str, Any] | None:
        return self.tls.getpeercert() or None


def _after(buffers: Sequence[Buffer], sent: int) -> list[Buffer]:
    """What is left of ``buffers`` after their first ``sent`` bytes."""
    for index, buffer in enumerate(buffers):
        if sent < len(buffer):
            return [memoryview(buffer)[sent:], *buffers[index + 1 :]]
        sent -= len(buffer)
    return []


# --- opening --------------------------------------------------------------------------------------------------------


def connect(host: str, port: int, seconds: float | None, local: tuple[str, int] | None = None) -> socket.socket:
    """A TCP connection to the first address of ``host`` that answers, within ``seconds`` for all of them.

    ``local``: the address and port to connect from; None leaves them to the system. Raises TransportError and
    DeadlineExceeded.
    """
    deadline = None if seconds is None else time.monotonic() + seconds
    try:
        places = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, ValueError) as error:  # ValueError: a name that cannot be encoded (RFC 5890)
        raise TransportError(f"host {host!r} is not known: {error}") from error
    failure: Exception | None = None
    for index, (family, kind, protocol, _name, address) in enumerate(places):
        # An address that does not answer leaves time for those that follow.
        left = None if deadline is None else (deadline - time.monotonic()) / (len(places) - index)
        try:
            return _connect(socket.socket(family, kind, protocol), address, left, local)
        except (OSError, UnicodeError) as error:
            failure = error
    if isinstance(failure, TimeoutError) and failure.errno is None:  # ours, not the system's
        raise DeadlineExceeded("connect", seconds) from failure
    raise TransportError(f"no connection to {host} port {port}: {failure}") from failure


def _connect(sock: socket.socket, address: Any, seconds: float | None, local: tuple[str, int] | None) -> socket.socket:
    try:
        if local is not None:
            sock.bind(local)
        sock.settimeout(seconds if seconds is None else max(seconds, 0.001))
        sock.connect(address)
    except BaseException:
        sock.close()
        raise
    return sock


def secure(
    sock: socket.socket,
    context: ssl.SSLContext,
    seconds: float | None,
    *,
    server_side: bool,
    server_hostname: str | None = None,
    wakes: Sequence[socket.socket] = (),
) -> TlsTransport:
    """The TLS handshake over a connection; closes it on failure. Input at one of ``wakes`` ends it.

    Raises TransportError and DeadlineExceeded.
    """
    deadline = None if seconds is None else time.monotonic() + seconds
    try:
        sock.setblocking(False)
        wrapped = context.wrap_socket(
            sock, server_side=server_side, server_hostname=server_hostname, do_handshake_on_connect=False
        )
        sock = wrapped
        while True:
            try:
                wrapped.do_handshake()
                return TlsTransport(wrapped)
            except ssl.SSLWantReadError:
                ready = Waiter([wrapped, *wakes])
            except ssl.SSLWantWriteError:
                ready = Waiter(wakes, [wrapped])
            left = None if deadline is None else deadline - time.monotonic()
            if (left is not None and left <= 0) or not ready.wait(left):
                raise DeadlineExceeded("tls", seconds)
            if wakes and Waiter(wakes).wait(0):
                raise OSError("this side is closing")
    except DeadlineExceeded:
        sock.close()
        raise
    except (OSError, ValueError) as error:  # SSLError is an OSError; ValueError: a host name that TLS does not take
        sock.close()
        raise TransportError(f"TLS handshake failed: {error}") from error
    except BaseException:
        sock.close()
        raise


def listen(host: str, port: int, backlog: int) -> socket.socket:
    """A listening socket. ``"*"``: all addresses, IPv4 and IPv6 where the platform has both. Raises OSError."""
    if host == "*":
        if socket.has_dualstack_ipv6():
            return socket.create_server(("", port), family=socket.AF_INET6, backlog=backlog, dualstack_ipv6=True)
        return socket.create_server(("", port), backlog=backlog)
    family, _kind, _protocol, _name, address = socket.getaddrinfo(
        host or "127.0.0.1", port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    return socket.create_server(address[:2], family=family, backlog=backlog)
