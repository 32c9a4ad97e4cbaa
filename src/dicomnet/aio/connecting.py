"""TCP connections from an event loop, to the address that answers first (RFC 8305)."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any

from dicomnet.errors import DeadlineExceeded, TransportError
from dicomnet.transport import HEAD_START, Place, in_turn


async def connect(host: str, port: int, seconds: float | None) -> socket.socket:
    """A TCP connection to the address of ``host`` that answers first, within ``seconds``, the look-up included.

    Addresses are tried a quarter of a second apart, IPv6 and IPv4 in turn ("happy eyeballs", RFC 8305). Raises
    TransportError and DeadlineExceeded.
    """
    try:
        async with asyncio.timeout(seconds):
            return await _race(host, port, in_turn(await look_up(host, port)))
    except TimeoutError as error:
        raise DeadlineExceeded("connect", seconds) from error


async def look_up(host: str, port: int) -> Sequence[Place]:
    """The addresses of ``host``. Raises TransportError."""
    try:
        with contextlib.suppress(socket.gaierror):  # an address: there is nothing to look up
            return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
        return await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, ValueError) as error:  # ValueError: a name that cannot be encoded (RFC 5890)
        raise TransportError(f"host {host!r} is not known: {error}") from error


async def _race(host: str, port: int, places: Iterable[Place]) -> socket.socket:
    waiting = deque(places)
    failed: list[tuple[Any, OSError]] = []
    attempts: dict[asyncio.Task[socket.socket], Any] = {}  # → the address
    try:
        while waiting or attempts:
            if waiting:
                place = waiting.popleft()
                attempts[asyncio.create_task(_attempt(place))] = place[4]
            head_start = HEAD_START if waiting else None
            done, _ = await asyncio.wait(attempts, timeout=head_start, return_when=asyncio.FIRST_COMPLETED)
            for attempt in done:
                address = attempts.pop(attempt)
                error = attempt.exception()
                if error is None:
                    return attempt.result()
                if not isinstance(error, OSError):
                    raise error
                failed.append((address, error))
    finally:
        for attempt in attempts:
            attempt.cancel()
            attempt.add_done_callback(_forget)
    what = str(failed[0][1]) if len(failed) == 1 else "; ".join(f"{address[0]}: {error}" for address, error in failed)
    raise TransportError(f"no connection to {host} port {port}: {what}") from failed[-1][1]


async def _attempt(place: Place) -> socket.socket:
    """Raises OSError."""
    family, kind, protocol, _name, address = place
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, address)
    except OSError as error:  # without what the event loop has to say of it
        sock.close()
        raise (OSError(error.errno, os.strerror(error.errno)) if error.errno else error) from None
    except BaseException:
        sock.close()
        raise
    return sock


def _forget(attempt: asyncio.Task[socket.socket]) -> None:
    """One that came second."""
    if not attempt.cancelled() and attempt.exception() is None:
        attempt.result().close()
