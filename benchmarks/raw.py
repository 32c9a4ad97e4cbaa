"""Programs without a protocol: bare sockets that move the same bytes with the same number of round trips.

They are the limit of the language on this machine. ``pong`` and ``ping`` exchange messages of given sizes on blocking
sockets, ``async_pong`` and ``async_ping`` as asyncio Protocols; ``sink`` and ``source`` move files, one round trip for
each.
"""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from struct import Struct
from typing import Any, cast

from benchmarks.program import WARM_UP, announce, load_arguments, report, run_verb, timed, wait_for_end

_BUFFER = 256 * 1024
_SIZE = Struct(">Q")
_STORED = bytes(134)  # the size of a C-STORE-RSP


def main() -> None:
    """Run one of the programs."""
    run_verb("raw", pong, ping, async_pong, async_ping, sink, source, options=_options)


def _options(verbs: Any) -> None:
    load_arguments(verbs["ping"], verbs["async_ping"])
    for name in ("pong", "ping", "async_pong", "async_ping"):
        verbs[name].add_argument("--request", type=int, required=True)
        verbs[name].add_argument("--response", type=int, required=True)
    verbs["sink"].add_argument("folder", type=Path)
    verbs["source"].add_argument("port", type=int)
    verbs["source"].add_argument("paths", type=Path, nargs="+")


def pong(request: int, response: int) -> None:
    """Answer each request, and keep it in memory."""
    answer, kept = bytes(response), []

    def serve(peer: socket.socket) -> None:
        while message := receive(peer, request):
            kept.append(message)
            peer.sendall(answer)

    serve_until_end(serve)
    report(stored=len(kept))


def ping(port: int, request: int, response: int, seconds: float, most: int) -> None:
    """Send requests, one after the other, each when the one before was answered."""
    message = bytes(request)
    with connect(port) as peer:

        def round_trip(_: int) -> None:
            peer.sendall(message)
            if not receive(peer, response):
                raise SystemExit("the other end is gone")

        result = timed(round_trip, seconds=seconds, most=most)
    report(**result, stored=result["total"])


class _Counted(asyncio.Protocol):
    """One end of an exchange of messages: counts those that come, and answers each at once."""

    def __init__(self, expected: int, answer: bytes) -> None:
        self._expected, self._answer = expected, answer
        self._missing = expected
        self.count = 0
        self.over = False
        self.gone = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # asyncio sets TCP_NODELAY itself

    def data_received(self, data: bytes) -> None:
        self._missing -= len(data)
        if self._missing <= 0:
            self._missing += self._expected
            self.count += 1
            if not self.over:
                self.transport.write(self._answer)

    def connection_lost(self, error: Exception | None) -> None:
        self.gone.set()


def async_pong(request: int, response: int) -> None:
    """Answer each request, as an asyncio Protocol."""
    ends: list[_Counted] = []

    def end() -> _Counted:
        ends.append(_Counted(request, bytes(response)))
        return ends[-1]

    async def serve() -> None:
        loop = asyncio.get_running_loop()
        async with await loop.create_server(end, "127.0.0.1", 0) as server:
            announce(server.sockets[0].getsockname()[1])
            await loop.run_in_executor(None, wait_for_end)
        report(stored=sum(end.count for end in ends))

    asyncio.run(serve())


def async_ping(port: int, request: int, response: int, seconds: float, most: int) -> None:
    """Send requests, one after the other, as an asyncio Protocol: as fast as an event loop can."""

    async def exchange() -> dict[str, Any]:
        loop = asyncio.get_running_loop()
        _, end = await loop.create_connection(lambda: _Counted(response, bytes(request)), "127.0.0.1", port)
        end.transport.write(bytes(request))
        await asyncio.sleep(seconds * WARM_UP)
        before, elapsed, cpu = end.count, time.perf_counter(), time.process_time()
        await asyncio.sleep(seconds)
        count = end.count - before
        elapsed, cpu = time.perf_counter() - elapsed, time.process_time() - cpu
        end.over = True
        answered = end.count
        while end.count == answered and not end.gone.is_set():  # the last one that is under way
            await asyncio.sleep(0.001)
        end.transport.close()
        return {"count": count, "elapsed": elapsed, "cpu": cpu, "stored": end.count}

    report(**asyncio.run(exchange()))


def sink(folder: Path) -> None:
    """Write each file that comes, and answer when it is written."""
    view = memoryview(bytearray(_BUFFER))
    stored = 0

    def serve(peer: socket.socket) -> None:
        nonlocal stored
        while got := peer.recv_into(view):
            with (folder / f"{stored}.dcm").open("wb", buffering=0) as file:
                missing = _SIZE.unpack_from(view)[0] - file.write(view[_SIZE.size : got])
                while missing:
                    got = peer.recv_into(view)
                    if not got:
                        raise SystemExit("the other end is gone in mid-file")
                    missing -= file.write(view[:got])
            stored += 1
            peer.sendall(_STORED)

    serve_until_end(serve)


def source(port: int, paths: list[Path]) -> None:
    """Send files; what is measured begins after the first."""
    buffer = bytearray(_SIZE.size + _BUFFER)
    room = memoryview(buffer)[_SIZE.size :]

    def send(path: Path) -> None:
        with path.open("rb", buffering=0) as file:
            _SIZE.pack_into(buffer, 0, path.stat().st_size)
            peer.sendall(memoryview(buffer)[: _SIZE.size + file.readinto(room)])
            while got := file.readinto(room):
                peer.sendall(room[:got])
        if not receive(peer, len(_STORED)):
            raise SystemExit("the other end is gone")

    with connect(port) as peer:
        send(paths[0])
        rest = iter(paths[1:])
        report(**timed(lambda _: send(next(rest)), seconds=60, most=len(paths) - 1, warm_up=False))


def connect(port: int, source: str | None = None) -> socket.socket:
    """A connection to `port` on loopback, from the address `source`."""
    peer = socket.create_connection(("127.0.0.1", port), source_address=(source, 0) if source else None)
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return peer


def receive(peer: socket.socket, size: int) -> bytes:
    """Exactly `size` bytes, or none if the connection ends before."""
    message = peer.recv(size)
    while 0 < len(message) < size:
        more = peer.recv(size - len(message))
        message = message + more if more else b""
    return message


def serve_until_end(serve: Callable[[socket.socket], None]) -> None:
    """Serve one connection after the other until standard input ends."""
    listener = socket.create_server(("127.0.0.1", 0))

    def accept_all() -> None:
        while True:
            peer, _ = listener.accept()
            with peer:
                peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                serve(peer)

    threading.Thread(target=accept_all, daemon=True).start()
    announce(listener.getsockname()[1])
    wait_for_end()


if __name__ == "__main__":
    main()
