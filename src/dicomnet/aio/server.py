"""The acceptor's side: a listening application entity, one task for each of its associations."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import socket
import ssl
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

from dicomnet import transport
from dicomnet.admission import DEFER, Admission, Guest
from dicomnet.ae import AE
from dicomnet.aio.association import Association, associate
from dicomnet.aio.connection import Connection
from dicomnet.aio.enterable import Enterable
from dicomnet.aio.handlers import Handlers
from dicomnet.dimse.provider import AssociationInfo
from dicomnet.dimse.serving import serve as serve_association
from dicomnet.opening import caller
from dicomnet.ul import association as ul
from dicomnet.ul.pdu import AssociateRq

if TYPE_CHECKING:
    from dicomnet.workers import Worker

log = logging.getLogger("dicomnet")
Tls = tuple[ssl.SSLContext | None, bool]  # with it; and without it, too

_BACKLOG: Final = 128
_ACCEPT_PAUSE: Final = 0.1  # seconds until accepting is tried again after the system refused
_LAST_WORDS: Final = 1.0  # seconds for the associations to tell their peers that the time to drain is over
_GLANCE: Final = 0.05  # seconds between two looks at who is still busy, while a server closes

# The server whose association or handler this is.
_serving: ContextVar[Server | None] = ContextVar("dicomnet server", default=None)


class Server(ABC):
    """A listening application entity; made by ``serve``. Use it as a context manager: leaving the block closes it.

    ``host``, ``port``: where it listens.
    """

    def __init__(self, listener: socket.socket) -> None:
        self.host: str = listener.getsockname()[0]
        self.port: int = listener.getsockname()[1]
        self._closed = asyncio.Event()

    async def __aenter__(self) -> Server:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    @property
    @abstractmethod
    def associations(self) -> int:
        """How many are open now, of all workers."""

    async def wait(self, seconds: float | None = None) -> bool:
        """Wait until the server is closed, or for ``seconds``; True if it is closed."""
        try:
            async with asyncio.timeout(seconds):
                await self._closed.wait()
        except TimeoutError:
            return False
        return True

    @abstractmethod
    async def close(self) -> None:
        """Stop listening, let transfers finish (``timeouts.drain``), abort what is left. Safe to call twice.

        Called by a handler it returns at once: the association that the handler serves has to end first.
        """


class _TaskServer(Server):
    """Serves on this event loop."""

    def __init__(self, ae: AE, tls: Tls, listener: socket.socket, admission: Admission | None = None) -> None:
        super().__init__(listener)
        self._ae = ae
        self._tls = tls
        self._listener = listener
        self._listener.setblocking(False)
        # As many threads as there can be associations, each made when it is needed: no handler waits for another.
        self._threads = ThreadPoolExecutor(ae.limits.associations, f"dicomnet handlers {self.port}")
        self._handlers = Handlers(ae.quick, self._threads)
        self._admission = admission or Admission(ae)
        self._shared = admission is not None  # with other workers
        self._connections: dict[asyncio.Task[None], Connection] = {}
        self._closing: asyncio.Task[None] | None = None
        self._acceptor = asyncio.create_task(self._accept(), name=f"dicomnet accept {self.port}")

    @property
    def associations(self) -> int:
        return self._admission.associations

    async def close(self) -> None:
        if self._closing is None:
            self._admission.closing = True
            self._closing = asyncio.create_task(self._shut_down(), name=f"dicomnet close {self.port}")
        if _serving.get() is not self:
            await asyncio.shield(self._closing)

    async def _shut_down(self) -> None:
        try:
            self._acceptor.cancel()
            await asyncio.wait([self._acceptor])
            self._listener.close()
            await self._drain()
        finally:
            self._threads.shutdown(wait=False)
            self._closed.set()

    async def _drain(self) -> None:
        seconds = self._ae.timeouts.drain
        if await self._stop(math.inf if seconds is None else seconds, expired=False):
            return
        if await self._stop(_LAST_WORDS, expired=True):
            return
        log.warning("port %d: %d associations did not end within the time to drain", self.port, len(self._connections))
        for task, connection in list(self._connections.items()):
            connection.cut()
            task.cancel()
        await self._stop(_LAST_WORDS, expired=True)

    async def _stop(self, seconds: float, *, expired: bool) -> bool:
        """Stop the associations that have nothing to do, or all; False if some are left when the time is up."""
        now = asyncio.get_running_loop().time
        deadline = now() + seconds
        while self._connections:
            for connection in list(self._connections.values()):
                idle = not connection.conversation.busy(now())
                if not connection.stopping and (idle or expired):
                    await connection.stop(at_once=idle)
            await asyncio.wait(self._connections, timeout=min(_GLANCE, deadline - now()))
            if now() >= deadline:
                break
        return not self._connections

    # --- accepting --------------------------------------------------------------------------------------------------

    async def _accept(self) -> None:
        failed = False  # the last time: one line in the log is enough
        while True:
            try:
                sock, address = await self._next()
            except ConnectionAbortedError:
                continue
            except OSError as error:  # out of descriptors, most likely: those who end their association free some
                if not failed:
                    log.warning("port %d: cannot accept connections: %s", self.port, error)
                failed = True
                await asyncio.sleep(_ACCEPT_PAUSE)
                continue
            failed = False
            self._start(sock, address[:2])
            await asyncio.sleep(0)  # many that come at once do not keep those that are there waiting

    async def _next(self) -> tuple[socket.socket, Any]:
        """The next connection; one that another worker should rather have is left to it for a moment."""
        while self._shared:
            await _readable(self._listener)
            if self._admission.defer():
                await asyncio.sleep(DEFER)
                continue
            with contextlib.suppress(BlockingIOError):  # another one was faster
                return self._listener.accept()
        return await asyncio.get_running_loop().sock_accept(self._listener)

    def _start(self, sock: socket.socket, address: tuple[str, int]) -> None:
        guest = self._admission.enter(address)
        if guest is None:
            sock.close()
            return
        ae = self._ae
        association = ul.Association(
            requestor=False, max_length=ae.max_pdu_length, timeouts=guest.timeouts, limits=ae.limits
        )
        connection = Connection(association, ae.limits, ae.spool_folder, guest.name, associate, self._handlers)
        task = asyncio.create_task(self._serve(sock, connection, guest), name=f"dicomnet {guest.name}")
        self._connections[task] = connection
        task.add_done_callback(partial(self._forget, sock))

    def _forget(self, sock: socket.socket, task: asyncio.Task[None]) -> None:
        if not self._connections.pop(task).attached:  # it was cancelled before it began
            sock.close()

    async def _serve(self, sock: socket.socket, connection: Connection, guest: Guest) -> None:
        """One connection, from accept to close."""
        _serving.set(self)
        conversation = connection.conversation
        with guest:
            try:
                await self._connect(sock, connection, guest)
                await serve_association(conversation, guest, partial(_describe, connection, guest))
            finally:
                await conversation.abort()  # does nothing unless a handler broke the conversation
                await connection.finish()
            guest.tell_end(conversation.error, requested=conversation.requested is not None)

    async def _connect(self, sock: socket.socket, connection: Connection, guest: Guest) -> None:
        """Raises TransportError and DeadlineExceeded for a TLS handshake that fails."""
        timeouts, (context, clear_text) = guest.timeouts, self._tls
        opened = connection.now()
        await connection.attach(sock)
        if context is not None and clear_text:
            await connection.secure_if_asked(context, timeouts.artim, handshake=timeouts.tls)
        elif context is not None:
            await connection.secure(context, timeouts.tls, server_side=True)
        # ARTIM begins when the connection is secure.
        connection.opened(opened if connection.tls_info is None else connection.now())


def _describe(connection: Connection, guest: Guest, request: AssociateRq) -> AssociationInfo:
    """The association as its handlers see it."""
    info = connection.tls_info
    association = guest.describe(request, None if info is None else info.certificate, info)
    connection.name = guest.name
    if (peer := caller(association)) is not None:
        association.scu = Association(connection, peer)
    return association


class _WorkersServer(Server):
    """Serves in processes of its own, each with the whole AE and an event loop. Made by ``start``."""

    def __init__(self, ae: AE, tls: Tls, listener: socket.socket, count: int) -> None:
        from dicomnet.workers import Workers

        super().__init__(listener)
        loop = asyncio.get_running_loop()
        work = partial(_run_worker, ae, tls, type(loop))
        self._workers = Workers(work, listener, count, limits=ae.limits, drain=ae.timeouts.drain)
        self._call_in_loop = loop.call_soon_threadsafe

    async def start(self) -> None:
        """Wait until they serve. Raises OSError and ValueError."""
        try:
            await asyncio.to_thread(self._workers.wait_ready)
        except BaseException:
            self._workers.kill()
            raise
        # Of its own, and not the event loop's, which would wait for it at its end.
        threading.Thread(target=self._watch, name=f"dicomnet workers {self.port}", daemon=True).start()

    def _watch(self) -> None:
        self._workers.wait()
        with contextlib.suppress(RuntimeError):  # the loop has been closed
            self._call_in_loop(self._closed.set)

    @property
    def associations(self) -> int:
        return self._workers.associations

    async def close(self) -> None:
        if not self._closed.is_set():
            threading.Thread(target=self._workers.close, name=f"dicomnet close {self.port}", daemon=True).start()
            await self._closed.wait()


def _run_worker(ae: AE, tls: Tls, loop_factory: Callable[[], asyncio.AbstractEventLoop], worker: Worker) -> None:
    """What one of several processes does: serve until it is told to stop."""

    async def work() -> None:
        server = _TaskServer(ae, tls, worker.listener, Admission(ae, worker.tally))
        worker.ready()
        worker.stop.setblocking(False)
        await asyncio.get_running_loop().sock_recv(worker.stop, 1)
        await server.close()

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(work())


async def _readable(sock: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    ready = loop.create_future()

    def tell() -> None:
        if not ready.done():
            ready.set_result(None)

    loop.add_reader(sock, tell)
    try:
        await ready
    finally:
        loop.remove_reader(sock)


def serve(
    ae: AE,
    host: str = "127.0.0.1",
    port: int = 0,
    *,
    tls: ssl.SSLContext | None = None,
    clear_text: bool = False,
    backlog: int = _BACKLOG,
    workers: int = 1,
) -> Enterable[Server]:
    """Serve ``ae`` on ``host`` (``"*"``: all addresses, IPv4 and IPv6) and ``port`` (0: a free one).

    Each association has a task of its own, in which its ``async`` handlers run; plain ones run in threads beside it,
    unless they are registered as quick. ``tls``: a server-side SSLContext.
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

    async def start() -> Server:
        listener = transport.listen(host, port, backlog)
        if workers == 1:
            return _TaskServer(ae, (tls, clear_text), listener)
        server = _WorkersServer(ae, (tls, clear_text), listener, workers)
        await server.start()
        return server

    return Enterable(start)
