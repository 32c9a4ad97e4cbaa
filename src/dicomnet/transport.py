"""TCP and TLS connections for the faces that block: every wait has a limit.

One idea: try first, then wait for just the time that is left. The options that decide how fast DICOM is live here: no
Nagle (PS3.8 sends small PDUs and waits for the answer), acknowledgements at once where they are needed and the platform
lets us ask for them, no fixed buffer sizes.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import math
import mmap
import os
import queue
import select
import socket
import ssl
import struct
import sys
import threading
import time
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any, Final

from dicomnet.errors import DeadlineExceeded, TransportError
from dicomnet.tls import TlsInfo, tls_info

Buffer = bytes | bytearray | memoryview

_DONT_WAIT: Final[int] = getattr(socket, "MSG_DONTWAIT", 0)  # without it, sockets do not block anyway
_QUICKACK: Final[int | None] = getattr(socket, "TCP_QUICKACK", None)
_SMALLEST_READ: Final = 16 * 1024  # an idle association holds no more
_LARGEST_READ: Final = 512 * 1024  # several PDUs of the usual sizes
_MOST_BUFFERS: Final = 1024  # IOV_MAX on every platform that has sendmsg
HEAD_START: Final = 0.25  # RFC 8305 8: seconds that an address has before the next one is tried beside it
TLS_HANDSHAKE: Final = 0x16  # RFC 8446 5.1: the first byte that a TLS client sends
PDU_TYPES: Final = range(1, 8)  # PS3.8 9.3: the first byte that a DICOM peer sends


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
            buffers = after(buffers, sent)
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

    @property
    def tls_info(self) -> TlsInfo | None:
        """What the TLS handshake came to, or None without TLS."""
        return None


class TlsTransport(Transport):
    """The same through TLS. One lock around the TLS object: OpenSSL's is not for two threads at once."""

    _blocks = False

    def __init__(self, sock: ssl.SSLSocket) -> None:
        super().__init__(sock)
        self.tls = sock
        self._info = tls_info(sock)
        self._lock = threading.RLock()  # reentrant: a collector may come amidst, and close what was dropped
        self._broken: OSError | None = None  # for the next to read
        self._said_goodbye = False
        self._deaf = False  # what comes is ciphertext that nobody can read any more

    @property
    def pending(self) -> bool:
        with self._lock:
            return self.tls.pending() > 0

    def wait_readable(self, seconds: float | None) -> bool:
        return self.pending or super().wait_readable(seconds)

    def receive(self) -> memoryview | None:
        if self._broken is not None:
            raise self._broken
        filled, size = 0, len(self._buffer)
        with self._lock:
            if self._deaf:
                return self._drained()
            try:
                while filled < size:  # each call takes one record of 16 KiB
                    count = self.tls.recv_into(self._view[filled:])
                    if not count:
                        break
                    filled += count
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                if not filled:
                    return None
            except ssl.SSLZeroReturnError:  # the peer's close_notify after ours
                pass
            except ssl.SSLEOFError:  # without close_notify: PS3.8 tells by its own PDUs whether that was in order
                pass
            except OSError as error:
                if not filled:
                    raise
                self._broken = error  # what came before it counts
        return self._received(filled)

    def _drained(self) -> memoryview | None:
        """Nothing, or the end."""
        try:
            return None if socket.socket.recv_into(self.tls, self._buffer) else self._view[:0]
        except BlockingIOError:
            return None

    def _write_one(self, buffer: Buffer) -> int:
        return self._write([buffer])

    def _write(self, buffers: Sequence[Buffer]) -> int:
        check_mapped(buffers)
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

    def half_close(self) -> None:
        if self.tls.fileno() >= 0 and not self.pending and not Waiter([self.tls]).wait(0):
            self._say_goodbye()  # else what has come might be lost, and it may be the end of the association
        super().half_close()

    def close(self) -> None:
        self._say_goodbye()
        super().close()

    def _say_goodbye(self) -> None:
        """Send close_notify, if it goes without waiting (RFC 8446 6.1); nobody waits for the peer's.

        OpenSSL looks for the peer's at once, and cannot hear after it has found something else instead. What still
        comes then, after our last PDU, is taken in and thrown away, so that the system does not reset the connection.
        """
        with self._lock:
            if self._said_goodbye:
                return
            self._said_goodbye = True
            try:
                self.tls.unwrap()
                self._deaf = True  # both sides have said it
            except ssl.SSLWantReadError:
                pass  # the usual case: the peer has not said it yet
            except (OSError, ValueError):  # the connection has broken, or was closed by another thread
                self._deaf = True

    @property
    def certificate(self) -> dict[str, Any] | None:
        return self._info.certificate

    @property
    def tls_info(self) -> TlsInfo:
        return self._info


def after(buffers: Sequence[Buffer], sent: int) -> list[Buffer]:
    """What is left of ``buffers`` after their first ``sent`` bytes."""
    for index, buffer in enumerate(buffers):
        if sent < len(buffer):
            return [memoryview(buffer)[sent:], *buffers[index + 1 :]]
        sent -= len(buffer)
    return []


# --- opening --------------------------------------------------------------------------------------------------------


def connect(host: str, port: int, seconds: float | None, local: tuple[str, int] | None = None) -> socket.socket:
    """A TCP connection to the address of ``host`` that answers first, within ``seconds``, the look-up included.

    Addresses are tried a quarter of a second apart, IPv6 and IPv4 in turn ("happy eyeballs", RFC 8305). ``local``: the
    address and port to connect from; None leaves them to the system. Raises TransportError and DeadlineExceeded.
    """
    deadline = math.inf if seconds is None else time.monotonic() + seconds
    attempts = _Attempts(in_turn(resolve(host, port, seconds)), local)
    try:
        sock = attempts.run(deadline)
    finally:
        attempts.give_up()
    if sock is not None:
        return sock
    if attempts.late:
        raise DeadlineExceeded("connect", seconds) from attempts.failure
    raise TransportError(f"no connection to {host} port {port}: {attempts.failures}") from attempts.failure


Place = tuple[int, int, int, str, Any]  # as socket.getaddrinfo gives it


def resolve(host: str, port: int, seconds: float | None) -> Sequence[Place]:
    """The addresses of ``host``. Raises TransportError and DeadlineExceeded."""
    try:
        with contextlib.suppress(socket.gaierror):  # an address: there is nothing to look up
            return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
        if seconds is None:
            return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        return _look_up(host, port, seconds)
    except DeadlineExceeded:
        raise
    except (OSError, ValueError) as error:  # ValueError: a name that cannot be encoded (RFC 5890)
        raise TransportError(f"host {host!r} is not known: {error}") from error


def _look_up(host: str, port: int, seconds: float) -> Sequence[Place]:
    """On a thread of its own: what the system is asked for cannot be called off, only forgotten."""
    answers: queue.SimpleQueue[Sequence[Place] | Exception] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answers.put(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except Exception as error:
            answers.put(error)

    threading.Thread(target=ask, name=f"dicomnet look up {host}", daemon=True).start()
    try:
        answer = answers.get(timeout=seconds)
    except queue.Empty:
        raise DeadlineExceeded("connect", seconds) from None
    if isinstance(answer, Exception):
        raise answer
    return answer


def in_turn(places: Sequence[Place]) -> Iterable[Place]:
    """RFC 8305 4: the system's order, but for the families, which take turns."""
    first = [place for place in places if place[0] == places[0][0]]
    others = [place for place in places if place[0] != places[0][0]]
    return [place for pair in itertools.zip_longest(first, others) for place in pair if place is not None]


class _Attempts:
    """Attempts to connect to one of some addresses. ``late``: the time was up before all had failed."""

    def __init__(self, places: Iterable[Place], local: tuple[str, int] | None) -> None:
        self._waiting = deque(places)
        self._local = local
        self._alone = local is not None and local[1] != 0  # one attempt at a time can have a port of our own
        self._open: dict[socket.socket, Any] = {}  # → the address
        self._next = -math.inf  # when another one may begin
        self._failed: list[tuple[Any, Exception]] = []
        self.late = False

    def run(self, deadline: float) -> socket.socket | None:
        """The first connection, or None."""
        while self._waiting or self._open:
            now = time.monotonic()
            if now >= deadline:
                self.late = True
                return None
            if self._waiting and (not self._open or now >= self._next):
                if self._alone:
                    self.give_up()
                self._next = now + self._head_start(deadline - now)
                if (sock := self._begin(self._waiting.popleft())) is not None:
                    return sock
                continue
            until = min(deadline, self._next if self._waiting else math.inf)
            Waiter([], list(self._open)).wait(None if until == math.inf else until - now)
            if (sock := self._connected()) is not None:
                return sock
        return None

    def _head_start(self, left: float) -> float:
        return left / len(self._waiting) if self._alone else HEAD_START

    def _begin(self, place: Place) -> socket.socket | None:
        family, kind, protocol, _name, address = place
        try:
            sock = socket.socket(family, kind, protocol)
        except OSError as error:  # a family that the system does not have
            self._failed.append((address, error))
            return None
        self._open[sock] = address
        try:
            sock.setblocking(False)
            if self._local is not None:
                sock.bind(self._local)
            sock.connect(address)
        except BlockingIOError:
            return None
        except (OSError, UnicodeError) as error:
            self._fail(sock, error)
            return None
        del self._open[sock]
        return sock

    def _connected(self) -> socket.socket | None:
        for sock in list(self._open):
            if code := sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                self._fail(sock, OSError(code, os.strerror(code)))
                self._next = -math.inf  # RFC 8305 5: the next one need not wait
                continue
            with contextlib.suppress(OSError):  # not yet
                sock.getpeername()
                del self._open[sock]
                return sock
        return None

    def _fail(self, sock: socket.socket, error: Exception) -> None:
        self._failed.append((self._open.pop(sock), error))
        sock.close()

    def give_up(self) -> None:
        """Close what has not connected."""
        for sock in list(self._open):
            self._fail(sock, TimeoutError("no answer"))

    @property
    def failure(self) -> Exception | None:
        return self._failed[-1][1] if self._failed else None

    @property
    def failures(self) -> str:
        if len(self._failed) == 1:
            return str(self.failure)
        return "; ".join(f"{address[0]}: {error}" for address, error in self._failed)


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

    ``server_hostname``: the name that the server's certificate must have; an IPv6 address may have a zone.
    Raises TransportError and DeadlineExceeded.
    """
    deadline = None if seconds is None else time.monotonic() + seconds
    try:
        sock.setblocking(False)
        # Certificates hold neither zones (RFC 4007 11) nor the dot of a complete name (RFC 6066 3).
        name = None if server_hostname is None else server_hostname.partition("%")[0].rstrip(".")
        wrapped = context.wrap_socket(
            sock, server_side=server_side, server_hostname=name, do_handshake_on_connect=False
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


def secure_if_asked(
    sock: socket.socket,
    context: ssl.SSLContext,
    seconds: float | None,
    *,
    handshake: float | None,
    wakes: Sequence[socket.socket] = (),
) -> Transport:
    """The acceptor's side of a connection that may be TLS or clear text, told apart by the peer's first byte.

    That byte has to come within ``seconds`` (ARTIM, PS3.8 9.1.4), and the TLS handshake has to be over ``handshake``
    seconds after it. Closes the connection on failure, and if the byte is neither the first of TLS nor of a PDU. Input
    at one of ``wakes`` ends it. Raises TransportError and DeadlineExceeded.
    """
    try:
        sock.setblocking(False)
        if not Waiter([sock, *wakes]).wait(seconds):
            raise DeadlineExceeded("artim", seconds)
        if wakes and Waiter(wakes).wait(0):
            raise TransportError("this side is closing")
        try:
            first = sock.recv(1, socket.MSG_PEEK)
        except OSError as error:
            raise TransportError(f"the connection broke: {error}") from error
        tls = asks_for_tls(first)
    except BaseException:
        sock.close()
        raise
    if tls:
        return secure(sock, context, handshake, server_side=True, wakes=wakes)
    return Transport(sock)


def asks_for_tls(first: Buffer) -> bool:
    """Whether a connection begins with TLS, by its first byte; False for a PDU, and if it ended before it began.

    Raises TransportError for what is neither.
    """
    if not first or first[0] in PDU_TYPES:
        return False
    if first[0] != TLS_HANDSHAKE:
        raise TransportError(f"neither TLS nor DICOM: the first byte is 0x{first[0]:02X}")
    return True


def check_mapped(buffers: Iterable[Buffer]) -> None:
    """Raise OSError if one of ``buffers`` is a view of a mapped file that has become shorter.

    To be called right before the buffers are read here (by TLS, or to join them): a page that the file has no more ends
    the process by SIGBUS. Where the kernel reads them, it just refuses.
    """
    for buffer in buffers:
        mapped = buffer.obj if isinstance(buffer, memoryview) else None
        if isinstance(mapped, mmap.mmap) and _is_shorter(mapped):
            raise OSError(errno.EFAULT, "a file became shorter while it was being sent")


def _is_shorter(mapped: mmap.mmap) -> bool:
    try:
        return mapped.size() < len(mapped)
    except OSError:  # it maps no file
        return False


def listen(host: str, port: int, backlog: int) -> socket.socket:
    """A listening socket. ``"*"``: all addresses, IPv4 and IPv6 where the platform has both.

    ``"0.0.0.0"`` is all of IPv4 alone, ``"::"`` all of IPv6, ``""`` the loopback. A name that has addresses of both
    families stands for its first of IPv4: of the peers that DICOM has, many know no other. Raises OSError.
    """
    if host == "*":
        if socket.has_dualstack_ipv6():
            return socket.create_server(("", port), family=socket.AF_INET6, backlog=backlog, dualstack_ipv6=True)
        return socket.create_server(("", port), backlog=backlog)
    places = socket.getaddrinfo(host or "127.0.0.1", port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, _kind, _protocol, _name, address = min(places, key=lambda place: place[0] != socket.AF_INET)
    return socket.create_server(address, family=family, backlog=backlog)
