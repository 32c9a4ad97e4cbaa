"""The acceptor's side: a listening application entity, one task for each of its associations."""

from __future__ import annotations

import asyncio
import logging
import math
import socket
import ssl
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from types import TracebackType
from typing import Final

from dicomnet import transport
from dicomnet.admission import Admission, Guest
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

log = logging.getLogger("dicomnet")

_BACKLOG: Final = 128
_ACCEPT_PAUSE: Final = 0.1  # seconds until accepting is tried again after the system refused
_LAST_WORDS: Final = 1.0  # seconds for the associations to tell their peers that the time to drain is over
_GLANCE: Final = 0.05  # seconds between two looks at who is still busy, while a server closes

_serving: ContextVar[Server | None] = ContextVar(
    "dicomnet server", default=None
)  # whose association or handler this is


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
        # As many threads as there can be associations, each made when it is needed: no handler waits for another.
        self._threads = ThreadPoolExecutor(ae.limits.associations, f"dicomnet handlers {self.port}")
        self._handlers = Handlers(ae.quick, self._threads)
        self._admission = Admission(ae)
        self._connections: dict[asyncio.Task[None], Connection] = {}
        self._closed = asyncio.Event()
        self._closing: asyncio.Task[None] | None = None
        self._acceptor = asyncio.create_task(self._accept(), name=f"dicomnet accept {self.port}")

    async def __aenter__(self) -> Server:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def wait(self, seconds: float | None = None) -> bool:
        """Wait until the server is closed, or for ``seconds``; True if it is closed."""
        try:
            async with asyncio.timeout(seconds):
                await self._closed.wait()
        except TimeoutError:
            return False
        return True

    async def close(self) -> None:
        """Stop listening, let transfers finish (``timeouts.drain``), abort what is left. Safe to call twice.

        Called by a handler it returns at once: the association that the handler serves has to end first.
        """
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
        loop = asyncio.get_running_loop()
        failed = False  # the last time: one line in the log is enough
        while True:
            try:
                sock, address = await loop.sock_accept(self._listener)
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
        task.add_done_callback(self._connections.pop)

    async def _serve(self, sock: socket.socket, connection: Connection, guest: Guest) -> None:
        """One connection, from accept to close."""
        _serving.set(self)
        with guest:
            try:
                connection.association.transport_opened(connection.now())
                await connection.attach(sock)
                if self._tls is not None:
                    await connection.secure(self._tls, guest.timeouts.tls, server_side=True)
                await _converse(connection, guest)
            finally:
                await connection.finish()


async def _converse(connection: Connection, guest: Guest) -> None:
    """Answer what the peer requests until one of both ends it."""

    def describe(request: AssociateRq) -> AssociationInfo:
        info = connection.tls_info
        association = guest.describe(request, None if info is None else info.certificate, info)
        connection.name = guest.name
        if (peer := caller(association)) is not None:
            association.scu = Association(connection, peer)
        return association

    conversation = connection.conversation
    try:
        await serve_association(conversation, guest, describe)
    finally:
        await conversation.abort()  # does nothing unless a handler broke the conversation
        await connection.finish()
    guest.tell_end(conversation.error, requested=conversation.requested is not None)


def serve(
    ae: AE,
    host: str = "127.0.0.1",
    port: int = 0,
    *,
    tls: ssl.SSLContext | None = None,
    backlog: int = _BACKLOG,
) -> Enterable[Server]:
    """Serve ``ae`` on ``host`` (``"*"``: all addresses, IPv4 and IPv6) and ``port`` (0: a free one).

    Each association has a task of its own, in which its ``async`` handlers run; plain ones run in threads beside it,
    unless they are registered as quick. ``tls``: a server-side SSLContext. ``backlog``: connections that the system
    keeps until they are accepted. Raises OSError if it cannot listen there.
    """

    async def start() -> Server:
        return Server(ae, host, port, tls, backlog)

    return Enterable(start)
