"""Connecting from an event loop: the address that answers first (RFC 8305), and what may be awaited or entered."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

import dicomnet
from dicomnet import aio
from dicomnet.aio.connecting import connect
from tests.aio.conftest import GIVEN_UP, run
from tests.faces.conftest import QUICK, quick


class Naming(asyncio.SelectorEventLoop):
    """An event loop for which a host has the addresses that ``places`` tells."""

    def __init__(self, places: list[tuple[str, int]]) -> None:
        super().__init__()
        self._places = places

    async def getaddrinfo(self, host: Any, port: Any, **options: Any) -> Any:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", place) for place in self._places]


def connected(places: list[tuple[str, int]], seconds: float | None = 20.0) -> tuple[str, int]:
    """Where ``connect`` gets to if a host has these addresses."""

    async def main() -> Any:
        async with asyncio.timeout(GIVEN_UP):
            sock = await connect("pacs.example", 104, seconds)
            with sock:
                return sock.getpeername()

    with asyncio.Runner(loop_factory=lambda: Naming(places)) as runner:
        return runner.run(main())


@pytest.fixture
def listening() -> Iterator[tuple[str, int]]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()


@pytest.fixture
def refusing() -> tuple[str, int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address: tuple[str, int] = listener.getsockname()
    return address


@pytest.fixture
def silent() -> Iterator[tuple[str, int]]:
    """A listener whose backlog is full: on Linux a further SYN gets no answer."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        waiting = []
        for _ in range(8):
            sock = socket.socket()
            sock.setblocking(False)
            sock.connect_ex(listener.getsockname())
            waiting.append(sock)
        yield listener.getsockname()
        for sock in waiting:
            sock.close()


def test_the_first_address_that_answers_is_taken(listening: Any, refusing: Any, silent: Any) -> None:
    """RFC 8305 5: one that refuses is passed over at once, one that is silent after a quarter of a second."""
    assert connected([listening]) == listening
    assert connected([refusing, refusing, listening]) == listening
    assert connected([silent, listening]) == listening
    assert connected([listening, silent]) == listening


def test_all_addresses_have_failed(refusing: Any) -> None:
    """TransportError: what each of them said."""
    with pytest.raises(dicomnet.TransportError, match=r"127\.0\.0\.1: .*refused.*; 127\.0\.0\.1: .*refused") as caught:
        connected([refusing, refusing])
    assert isinstance(caught.value.__cause__, ConnectionRefusedError)


def test_the_time_to_connect_is_for_all_addresses(silent: Any) -> None:
    """Timeouts.connect, with the look-up."""
    with pytest.raises(dicomnet.DeadlineExceeded) as caught:
        connected([silent, silent], QUICK)
    assert (caught.value.timer, caught.value.seconds) == ("connect", QUICK)


def test_both_may_be_awaited_or_entered() -> None:
    """As users of httpx and websockets expect; what they give is the same."""

    async def main() -> None:
        server = await aio.serve(dicomnet.AE("SCP"))
        assert isinstance(server, aio.Server)
        association = await aio.associate(f"SCP@127.0.0.1:{server.port}")
        assert isinstance(association, aio.Association)
        await association.release()
        async with association, server:  # entered later: the association is over, so leaving does nothing
            pass
        async with (
            aio.serve(dicomnet.AE("SCP")) as server,
            aio.associate(f"SCP@127.0.0.1:{server.port}") as association,
        ):
            assert (await association.c_echo()).status == 0

    run(main)


def test_what_cannot_be_requested_is_told_at_once() -> None:
    """ValueError where the call stands, not where its result is awaited."""

    async def main() -> None:
        with pytest.raises(ValueError, match="AET@host"):
            aio.associate("nobody")

    run(main)


def test_what_the_server_is_closed_by_is_waited_for() -> None:
    """Server.wait, from another task."""

    async def main() -> None:
        async with aio.serve(dicomnet.AE("SCP")) as server:
            assert await server.wait(0.01) is False
            waiting = asyncio.create_task(server.wait())
            await server.close()
            assert await waiting is True

    run(main)


def test_an_async_handler_may_close_its_server() -> None:
    """Server.close returns at once; the association that the handler serves ends first, in order."""

    async def main() -> None:
        ae = dicomnet.AE("SCP")

        @ae.on_c_echo
        async def shut_down(request: Any) -> int:
            await server.close()
            return 0

        async with aio.serve(ae) as server, aio.associate(f"SCP@127.0.0.1:{server.port}") as association:
            assert (await association.c_echo()).status == 0
            await association.release()
            assert await server.wait(20)

    run(main)


def test_a_stalled_peer_does_not_outlive_the_loop() -> None:
    """asyncio.run cancels what still runs: nothing is reported, nothing hangs."""
    program = """
import asyncio, socket, dicomnet
async def main():
    server = await dicomnet.aio.serve(dicomnet.AE("SCP", timeouts=dicomnet.Timeouts(closing=0.2)))
    association = await dicomnet.aio.associate(f"SCP@127.0.0.1:{server.port}")
    await association.c_echo()
    task = asyncio.create_task(server.wait())
    return server, association
kept = asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0
    assert "Traceback" not in done.stderr


def test_the_time_limits_of_an_association_hold_while_a_task_does_something_else() -> None:
    """Timeouts: nothing waits, and yet the peer's idle association is ended."""

    async def main() -> None:
        async with aio.serve(dicomnet.AE("SCP", timeouts=quick("idle"))) as server:
            association = await aio.associate(f"SCP@127.0.0.1:{server.port}")
            await asyncio.sleep(2 * QUICK)
            with pytest.raises(dicomnet.AssociationAborted):
                await association.c_echo()

    run(main)
