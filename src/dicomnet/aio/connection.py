"""A conversation over a connection of an event loop: this face's ``Io``.

One idea: the loop's callbacks do all the work that needs no waiting. ``buffer_updated`` hands over what has arrived,
writes what that calls for and resumes those whose condition has come true. Time limits are numbers; one timer, set anew
only when it has gone off too early, serves all of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import socket
import ssl
import time
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterable, Sequence
from typing import Any, Final, cast

from dicomnet.aio.gate import Gate
from dicomnet.aio.handlers import Handlers
from dicomnet.aio.tls import Tls
from dicomnet.aio.waiter import Waiter
from dicomnet.codec import Codec
from dicomnet.config import Limits, Peer
from dicomnet.dataset import Path
from dicomnet.dimse import io
from dicomnet.dimse.conversation import Conversation
from dicomnet.dimse.exchange import Orphan
from dicomnet.errors import DeadlineExceeded, DicomNetworkError, TransportError
from dicomnet.tls import TlsInfo
from dicomnet.transport import PDU_TYPES, TLS_HANDSHAKE, Buffer, after, check_mapped
from dicomnet.ul import association as ul
from dicomnet.ul.fsm import State

log = logging.getLogger("dicomnet")

_QUICKACK: Final[int | None] = getattr(socket, "TCP_QUICKACK", None)
_SMALLEST_READ: Final = 4 * 1024  # an idle association holds no more
_LARGEST_READ: Final = 512 * 1024  # several PDUs of the usual sizes
_MOST_HELD: Final = 64 * 1024  # bytes of messages that wait to go out together
_MOST_BUFFERS: Final = 1024  # IOV_MAX on every platform that has sendmsg
_HAS_SENDMSG: Final = hasattr(socket.socket, "sendmsg")  # Windows has not
_LAST_WORDS: Final = 1.0  # seconds to find what the peer said before the connection broke
_SILENCE: Final = 1.0  # seconds after which a large buffer is given back


class Connection(asyncio.BufferedProtocol):
    """A conversation over a connection of an event loop: this face's ``Io``, and the loop's protocol.

    ``opener``: ``associate``, which stands on this class and which it needs for C-MOVE. ``handlers``: runs the user's.
    """

    def __init__(
        self,
        association: ul.Association,
        limits: Limits,
        spool_folder: Path | None,
        name: str,
        opener: Callable[..., Awaitable[Any]],
        handlers: Handlers,
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.now = time.monotonic if type(self.loop).time is asyncio.BaseEventLoop.time else self.loop.time
        self.association = association
        codec = Codec(association, limits, spool_folder, lambda: self.conversation.held)
        self.conversation = Conversation(self, association, codec, limits)
        self.name = name  # for log lines
        self.stopping = False
        self.window: io.Gate = Gate(1)  # until another size is negotiated
        self.message: io.Gate = Gate(1)
        self._opener = opener
        self._handlers = handlers
        self._strands: set[asyncio.Task[None]] = set()
        self._spawned: deque[Coroutine[Any, Any, None]] = deque()  # what none of them performs yet
        self._beside = 0  # how many of them take from there

        # The connection, and what is read from it.
        self._socket: socket.socket | None = None  # None: not yet, or no more
        self._transport: asyncio.Transport | None = None
        self._tls: Tls | None = None
        self._begun = False  # what arrives is handed on; until then it is kept:
        self._early = b""
        self._reading = False
        self._buffer = memoryview(bytearray(_SMALLEST_READ))
        self._received_at = 0.0
        self._ended = False  # the peer has closed the connection, or it broke
        self._told = False  # and the conversation knows
        self._failure: OSError | None = None  # what broke it

        # What is written to it.
        self._clogged = False  # the transport has bytes that the system does not take
        self._together = False  # several are waked by what has arrived
        self._held: list[Buffer] = []  # what they have said so far

        # Those who wait, and until when.
        self._waiters: list[Waiter] = []
        self._polls = 0  # how many take in what has arrived
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = math.inf  # when it goes off
        self._last_words = math.inf  # the connection broke: until then the peer's last words may be found

        # The end.
        self._finishing: asyncio.Task[None] | None = None
        self._gone = self.loop.create_future()

    # --- beginning --------------------------------------------------------------------------------------------------

    @property
    def attached(self) -> bool:
        """It has had a connection."""
        return self._socket is not None or self._gone.done()

    async def attach(self, sock: socket.socket) -> None:
        """Take over ``sock``, a connection that stands. Nothing is read before somebody waits for it."""
        self._socket = sock
        with contextlib.suppress(OSError):  # gone already: the first read will tell. asyncio leaves accepted ones alone
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            await self.loop.create_connection(lambda: self, sock=sock)
        except BaseException:
            if self._transport is None:
                sock.close()
                self._gone.set_result(None)
            self._close()
            raise

    async def secure(
        self, context: ssl.SSLContext, seconds: float | None, *, server_side: bool, server_hostname: str | None = None
    ) -> None:
        """The TLS handshake, within ``seconds``. Raises TransportError and DeadlineExceeded; then the connection ends.

        ``server_hostname``: the name that the server's certificate must have; an IPv6 address may have a zone.
        """
        deadline = None if seconds is None else self.now() + seconds
        try:
            tls = self._tls = Tls(context, server_side=server_side, server_hostname=server_hostname)
            while not tls.handshake():
                self._write_encrypted(tls)
                if not await self.until(lambda: tls.fed or self._ended, deadline):
                    raise DeadlineExceeded("tls", seconds)
                if self._ended and not tls.fed:
                    raise self._failure or OSError("the connection was closed")
            self._write_encrypted(tls)
            self.loop.call_soon(self._decrypt, tls)  # what came with the end of the handshake
        except DeadlineExceeded:
            self._close()
            raise
        except (OSError, ValueError) as error:  # SSLError is an OSError; ValueError: a host name that TLS does not take
            if self._tls is not None:
                with contextlib.suppress(OSError):  # gone already
                    self._write_encrypted(self._tls)  # the alert
            self._close()
            raise TransportError(f"TLS handshake failed: {error}") from error
        except BaseException:
            self._close()
            raise

    async def secure_if_asked(self, context: ssl.SSLContext, seconds: float | None, *, handshake: float | None) -> None:
        """The acceptor's side of a connection that may be TLS or clear text, told apart by the peer's first byte.

        That byte has to come within ``seconds`` (ARTIM, PS3.8 9.1.4), and the TLS handshake has to be over
        ``handshake`` seconds after it. Raises TransportError and DeadlineExceeded; then the connection ends.
        """
        deadline = None if seconds is None else self.now() + seconds
        try:
            self._resume_reading()
            if not await self.until(lambda: self._early or self._ended, deadline, reads=False):
                raise DeadlineExceeded("artim", seconds)
            if self._failure is not None:
                raise TransportError(f"the connection broke: {self._failure}") from self._failure
            if self._early and self._early[0] != TLS_HANDSHAKE and self._early[0] not in PDU_TYPES:
                raise TransportError(f"neither TLS nor DICOM: the first byte is 0x{self._early[0]:02X}")
        except BaseException:
            self._close()
            raise
        if self._early and self._early[0] == TLS_HANDSHAKE:
            await self.secure(context, handshake, server_side=True)

    def _write_encrypted(self, tls: Tls) -> None:
        if data := tls.data_to_send():
            self._send([data])

    def opened(self, at: float) -> None:
        """The connection stood at that time, of this connection's clock (the acceptor's side: ARTIM begins)."""
        self.association.transport_opened(at)
        self._arm()

    @property
    def tls_info(self) -> TlsInfo | None:
        """What the TLS handshake came to, or None without TLS."""
        return None if self._tls is None else self._tls.info

    # --- Io ---------------------------------------------------------------------------------------------------------

    strand = staticmethod(asyncio.current_task)

    async def pass_gate(self, gate: io.Gate) -> None:
        await cast("Gate", gate).passed()

    def open_window(self, size: int) -> None:
        if size != 1:
            self.window = Gate(size or 0xFFFF)

    async def flush(self) -> None:
        if self.association.has_output:
            if self._together:
                self._hold()
            else:
                self._write()
        if self.conversation.over:
            self._wake()
        if self._clogged or self._last_words < math.inf:
            await self._drain()

    async def until(self, ready: Callable[[], object], deadline: float | None, *, reads: bool = True) -> bool:
        """As ``Io.until``; unless it ``reads``, what arrives meanwhile is nothing to wait for."""
        while not ready():
            if reads and not self._reading:
                self._read_on()
                if ready():
                    break
            waiter = Waiter(self.loop, ready, math.inf if deadline is None else deadline, reads)
            self._waiters.append(waiter)
            if waiter.deadline < self._timer_at:
                self._arm()
            try:
                if await waiter:
                    return bool(ready())
            finally:
                self._waiters.remove(waiter)
        return True

    async def poll(self) -> None:
        self._polls += 1
        try:
            self._read_on()
            await asyncio.sleep(0)
            await asyncio.sleep(0)  # a task that gives way is called before what has arrived, and now after it
        finally:
            self._polls -= 1

    def glance(self) -> None:
        """The loop reads anyway."""

    def resume(self) -> None:
        self._read_on()
        self._wake()

    async def call(self, handler: Callable[..., Any], argument: Any) -> Any:
        try:
            return await self._handlers.call(handler, argument)
        finally:
            if self.association.framer.mid_pdu:
                self.association.was_busy(self.now())

    def call_after(self, function: Callable[[], None]) -> None:
        function()

    def stream(self, handler: Callable[..., Any], argument: Any) -> AsyncGenerator[list[Any], None]:
        return self._handlers.stream(handler, argument)

    def spawn(self, strand: Coroutine[Any, Any, None]) -> None:
        self._spawned.append(strand)
        if self._beside < self.conversation.limits.operations:  # one segment may bring thousands
            self._beside += 1
            task = self.loop.create_task(self._run_spawned(), name=f"dicomnet {self.name} beside")
            self._strands.add(task)
            task.add_done_callback(self._strands.discard)

    async def _run_spawned(self) -> None:
        try:
            while self._spawned:
                await self._run_beside(self._spawned.popleft())
        finally:
            self._beside -= 1

    async def _run_beside(self, strand: Coroutine[Any, Any, None]) -> None:
        try:
            await strand
        except Exception as error:
            self.report("the association ended by an error of this side", error)
            await self.conversation.abort()
        finally:
            self._wake()

    async def join(self) -> None:
        while self._strands:
            await asyncio.wait(self._strands)

    async def open(self, peer: Peer, **options: Any) -> Any:
        return await self._opener(peer, **options)

    def drop(self, results: Orphan) -> None:
        """Close what its owner has dropped: with the next request, or soon if the loop still runs."""
        self.conversation.orphans.append(results)
        with contextlib.suppress(RuntimeError):  # it has been closed
            self.loop.call_soon_threadsafe(self._close_dropped)

    def _close_dropped(self) -> None:
        orphans = self.conversation.orphans

        async def close() -> None:
            with contextlib.suppress(DicomNetworkError):  # why the association ended is told to the next who asks
                while orphans:
                    await orphans.popleft().close()

        if orphans:  # nobody else has done it meanwhile
            self.spawn(close())

    def report(self, text: str, error: BaseException | None = None) -> None:
        log.warning("%s: %s", self.name, text, exc_info=error)

    # --- the loop's protocol ----------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=0)  # "clogged" is: the system does not take it
        self._transport.pause_reading()

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        buffer = self._buffer
        data = buffer[:nbytes]
        if nbytes == len(buffer) < _LARGEST_READ:
            self._buffer = memoryview(bytearray(2 * nbytes))  # much is coming; ``data`` keeps the old one alive
        if not self._begun:
            self._early += data
            self._pause()
            self._wake()
        elif self._tls is not None:
            self._receive_encrypted(self._tls, data)
        else:
            self._receive(data)
            waked = [waiter for waiter in self._waiters if waiter.is_ready()]
            if len(waked) + len(self.conversation.requests) > 2:
                self._wake_together(waked)
            else:
                for waiter in waked:
                    waiter.wake()

    def _receive(self, data: memoryview) -> None:
        """Take it in, and say what is to be said."""
        conversation = self.conversation
        now = self._received_at = self.now()
        if conversation.receive_data(data, now):
            self._arm()  # for what is under way
            if _QUICKACK is not None and self._socket is not None:
                # A peer that leaves Nagle's algorithm on sends the rest only when it is acknowledged. Linux forgets
                # this with every read.
                with contextlib.suppress(OSError):  # closed meanwhile: the next read will tell
                    self._socket.setsockopt(socket.IPPROTO_TCP, _QUICKACK, 1)
        if conversation.congested and not conversation.over:
            self._pause()
        if self.association.has_output:
            self._write()
        if self.association.state is not State.ESTABLISHED:
            self._arm()
            if conversation.over and not self._waiters:
                self.finish_soon()  # nobody may come to see to it, or only when a handler has ended

    def _wake_together(self, waked: Iterable[Waiter]) -> None:
        """What several have to say to what has arrived goes out in one write."""
        self._together = True
        try:
            for waiter in waked:
                waiter.wake()
        finally:
            self._together = False
            if self._held:
                self._write()

    def _hold(self) -> None:
        """Keep what is to be sent until ``_wake_together`` writes it, unless it is much."""
        self._held += self.association.data_to_send()
        if sum(map(len, self._held)) >= _MOST_HELD:
            self._write()

    def _react(self) -> None:
        """After the connection has ended or time has passed: as after something has arrived."""
        if self.association.has_output:
            self._write()
        self._wake()
        if self.conversation.over and not self._waiters:
            self.finish_soon()

    def _receive_encrypted(self, tls: Tls, data: memoryview) -> None:
        tls.feed(data)
        if tls.info is None:
            self._wake()
        else:
            self._decrypt(tls)

    def _decrypt(self, tls: Tls) -> None:
        try:
            while (data := tls.decrypted()) is not None:
                if not data:
                    self._end()
                    break
                self._receive(data)
            self._wake()
            if self.association.has_output or tls.behind:
                self._write()
        except OSError as error:
            self._end(error)

    def eof_received(self) -> bool:
        if self._tls is not None and self._tls.info is None:
            self._tls.feed_eof()
            self._reading = False
            self._wake()
        else:
            self._end()
        return True  # what we still have to say goes out

    def connection_lost(self, exc: Exception | None) -> None:
        if isinstance(exc, OSError) and self._begun and not (self._ended or self._securing):
            self._hear_out()
        self._socket = None
        self._clogged = False
        self._end(exc if isinstance(exc, OSError) else None)
        self._wake()
        self._gone.set_result(None)

    def _hear_out(self) -> None:
        """The transport failed to write and will not read again; what came before that (an A-ABORT, most likely) is
        still in the socket.
        """
        self._last_words = self.now()  # nothing is said any more
        with contextlib.suppress(OSError):  # all is read, or it cannot be read
            while self._socket is not None and not (self.conversation.over or self.conversation.congested):
                data = memoryview(self._socket.recv(_SMALLEST_READ))
                if not data:
                    break
                if self._tls is not None:
                    self._receive_encrypted(self._tls, data)
                else:
                    self._receive(data)
        self._last_words = math.inf

    def pause_writing(self) -> None:
        self._clogged = True

    def resume_writing(self) -> None:
        self._clogged = False
        self._wake()

    def _end(self, failure: OSError | None = None) -> None:
        """The peer has closed the connection, or it broke.

        A conversation that has still to perform a request, and whose peer may have closed only its own half, is not
        told before somebody asks.
        """
        self._failure = self._failure or failure
        self._ended, self._reading = True, False
        if not self._begun or self._securing:
            self._wake()
        elif not self._told and (self._somebody_waits or not self.conversation.performing):
            self._tell_end()

    def _tell_end(self) -> None:
        self._told = True
        self._last_words = math.inf
        self.conversation.receive_eof(self.now(), self._failure)
        self._react()

    # --- waiting ----------------------------------------------------------------------------------------------------

    @property
    def _somebody_waits(self) -> bool:
        """For something to arrive."""
        return self._polls > 0 or self.conversation.over or any(waiter.reads for waiter in self._waiters)

    def _wake(self) -> None:
        for waiter in self._waiters:
            if waiter.is_ready():
                waiter.wake_soon()

    def _read_on(self) -> None:
        """Somebody wants what arrives, and what has arrived."""
        if not self._begun:
            self._begin()
        conversation = self.conversation
        if self._ended:
            if not self._told and not self._securing:
                self._tell_end()
        elif not conversation.congested or conversation.over:
            self._resume_reading()

    def _begin(self) -> None:
        self._begun = True
        early, self._early = self._early, b""
        if early and self._tls is None:
            self._receive(memoryview(early))
            self._wake()
        elif early and self._tls is not None:
            self._receive_encrypted(self._tls, memoryview(early))

    @property
    def _securing(self) -> bool:
        """TLS has not yet found an end or a beginning."""
        return self._tls is not None and self._tls.info is None

    def _resume_reading(self) -> None:
        if self._reading or self._transport is None:
            return
        self._reading = True
        if self.association.framer.mid_pdu:
            self.association.was_busy(self.now())
        self._transport.resume_reading()

    def _pause(self) -> None:
        if self._reading and self._transport is not None:
            self._reading = False
            self._transport.pause_reading()

    def _arm(self) -> None:
        """See that the timer goes off when the first of all limits passes; earlier does no harm."""
        first = self._last_words
        if (limit := self.association.deadline) is not None and limit < first:
            first = limit
        for waiter in self._waiters:
            if waiter.deadline < first:
                first = waiter.deadline
        if first < self._timer_at:
            if self._timer is not None:
                self._timer.cancel()
            self._timer, self._timer_at = self.loop.call_at(first, self._go_off), first

    def _go_off(self) -> None:
        now = max(self.now(), self._timer_at)  # a loop's clock may be coarse
        self._timer, self._timer_at = None, math.inf
        association = self.association
        if now >= self._last_words:
            self._cut()
        elif association.deadline is not None and now >= association.deadline:
            if not self._reading and association.framer.mid_pdu:
                association.was_busy(now)  # it is we who do not read
            self.conversation.handle_timer(now)
            self._react()
        for waiter in self._waiters:
            if now >= waiter.deadline:
                waiter.wake_soon(late=True)
        if len(self._buffer) > _SMALLEST_READ and now - self._received_at >= _SILENCE:
            self._buffer = memoryview(bytearray(_SMALLEST_READ))
        self._arm()

    # --- writing ----------------------------------------------------------------------------------------------------

    def _write(self) -> None:
        """All that the association has to send: to the system, and to the transport what that does not take."""
        association = self.association
        buffers: Sequence[Buffer] = association.data_to_send()
        if self._held:
            buffers, self._held = [*self._held, *buffers], []
        try:
            if self._tls is not None:
                self._tls.encrypt(buffers)
                buffers = [data] if (data := self._tls.data_to_send()) else ()
            if buffers:
                self._send(buffers)
            if association.state is not State.ESTABLISHED:
                self._arm()
                if association.state is State.AWAITING_CLOSE:
                    self._half_close()
        except OSError as error:
            self._break(error)

    def _send(self, buffers: Sequence[Buffer]) -> None:
        """Raises OSError."""
        sock, transport = self._socket, self._transport
        if sock is None or transport is None or self._last_words < math.inf:
            return
        if not self._clogged:
            try:
                if len(buffers) == 1:
                    count = sock.send(buffers[0])
                    if count == len(buffers[0]):
                        return
                elif _HAS_SENDMSG:
                    count = sock.sendmsg(buffers if len(buffers) <= _MOST_BUFFERS else buffers[:_MOST_BUFFERS])
                else:
                    count = 0
            except (BlockingIOError, InterruptedError):
                count = 0
            buffers = after(buffers, count)
        if buffers:
            check_mapped(buffers)
            for buffer in buffers:  # writelines may join them first
                transport.write(buffer)

    def _half_close(self) -> None:
        """Nothing more will be written: the peer reads to the end and then sees it."""
        if self._tls is not None:
            self._tls.say_goodbye()
            self._write_encrypted(self._tls)
        if self._clogged and self._transport is not None:
            self._transport.write_eof()
        elif self._socket is not None:
            with contextlib.suppress(OSError):  # closed by the peer meanwhile
                self._socket.shutdown(socket.SHUT_WR)

    def _break(self, error: OSError) -> None:
        """The connection broke. What the peer said before (an A-ABORT, most likely) tells more than the error."""
        self._failure = self._failure or error
        if not self._told:
            self._last_words = self.now() + _LAST_WORDS
            self._read_on()
            self._arm()

    async def _drain(self) -> None:
        """The peer reads more slowly than we write: wait for it, within the limit for what is in hand."""
        conversation = self.conversation
        if self._last_words < math.inf:
            await self.until(lambda: conversation.over, None)
            return
        seconds = self.association.timeouts.send
        deadline = None if seconds is None else self.now() + seconds
        while self._clogged and not conversation.over:
            if await self.until(lambda: not self._clogged or conversation.over, deadline, reads=False):
                continue
            if not self._reading:  # it may have said why it does not read
                await self.until(lambda: conversation.over, self.now() + _LAST_WORDS)
            conversation.end(DeadlineExceeded("send", seconds))
            self._cut()

    # --- ending -----------------------------------------------------------------------------------------------------

    def finish_soon(self) -> asyncio.Task[None]:
        """After the last PDU: give the peer a moment to close first, then close. Done by a task; safe to call twice."""
        if self._finishing is None:
            self._finishing = self.loop.create_task(self._finish(), name=f"dicomnet {self.name} ends")
        return self._finishing

    async def finish(self) -> None:
        """``finish_soon``, and wait for it."""
        await asyncio.shield(self.finish_soon())

    async def _finish(self) -> None:
        try:
            if self._transport is not None:
                await self.until(lambda: self.association.state is not State.AWAITING_CLOSE, None)
        finally:
            self._close()
        await self._gone

    async def stop(self, *, at_once: bool) -> None:
        """A-ABORT, unless something is half-written; then the connection just ends, as it does in a TLS handshake.

        It is closed when the peer has done so, or ``at_once``, which is for those that are silent: if bytes are on
        their way, the peer's system throws the A-ABORT away when it learns that they were not read.
        """
        self.stopping = True
        if not self._begun or self._securing:
            self._failure, self._ended = OSError("this side is closing"), True
            self._wake()
            return
        clogged = self._clogged
        await self.conversation.abort()
        if at_once or clogged:
            self._cut()

    def cut(self) -> None:
        """Close the connection, and end what still runs on it."""
        for task in self._strands:
            task.cancel()
        while self._spawned:
            self._spawned.popleft().close()
        self._cut()
        self._close()

    def _cut(self) -> None:
        """For the conversation the connection has ended."""
        self._ended = True
        if not self._told:
            self._tell_end()

    def _close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer, self._timer_at = None, math.inf
        if self._transport is not None:
            if self._tls is not None and not self._clogged and not self._ended:
                with contextlib.suppress(OSError):
                    self._tls.say_goodbye()
                    self._write_encrypted(self._tls)
            self._transport.abort()
