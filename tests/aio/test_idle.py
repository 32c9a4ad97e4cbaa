"""Idle associations on an event loop: nothing polls, nothing is scheduled, and little is held."""

from __future__ import annotations

import asyncio
import gc
import socket
import time
import tracemalloc

import dicomnet
from dicomnet import Limits, Timeouts, aio
from tests.aio.conftest import Watched, eventually, run
from tests.faces.wire import RQ, encoded

IDLE = 200
PLENTY = Limits(associations=1000, associations_per_ae_title=1000, associations_per_address=1000)


async def associated(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(encoded(RQ))
    head = await reader.readexactly(6)
    await reader.readexactly(int.from_bytes(head[2:], "big"))
    return reader, writer


def test_idle_associations_are_not_scheduled() -> None:
    """The issue's "must show": while one works the loop looks no more often than for that one alone."""
    selector = Watched()

    async def looks_for(echoes: int, port: int) -> int:
        async with aio.associate(f"SCP@127.0.0.1:{port}") as association:
            await association.c_echo()
            before = selector.looks
            for _ in range(echoes):
                await association.c_echo()
            return selector.looks - before

    async def main() -> None:
        ae = dicomnet.AE("SCP", limits=PLENTY, timeouts=Timeouts(idle=600))
        async with aio.serve(ae) as server:
            alone = await looks_for(300, server.port)
            idle = [await associated(server.port) for _ in range(IDLE)]
            assert await looks_for(300, server.port) <= alone + 10
            for _, writer in idle:
                writer.close()

    run(main, selector)


def test_an_idle_loop_waits_for_a_time_limit_or_for_ever() -> None:
    """ "Nothing polls": the loop sleeps until the first limit of Timeouts, with server and requestor on it."""
    selector = Watched()

    def waits_long() -> bool:
        deadline = time.monotonic() + 5
        while not (selector.patience is None or selector.patience > 450):
            if time.monotonic() > deadline:
                return False
            time.sleep(0.002)
        return True

    async def main() -> None:
        ae = dicomnet.AE("SCP", timeouts=Timeouts(idle=600, artim=700))
        limits = Timeouts(associate=500, response=500)
        async with aio.serve(ae) as server, aio.associate(f"SCP@127.0.0.1:{server.port}", timeouts=limits) as one:
            await one.c_echo()
            with socket.create_connection(("127.0.0.1", server.port)):
                await eventually(lambda: len(asyncio.all_tasks()) == 4, "both connections have their task")
                assert await asyncio.to_thread(waits_long), f"the loop waits {selector.patience} s"

    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selector)) as runner:
        runner.run(main())


def test_an_idle_association_holds_little_memory() -> None:
    """performance.md §4: no more than 64 kB each, of which this is Python's part."""

    async def main() -> int:
        ae = dicomnet.AE("SCP", limits=PLENTY, timeouts=Timeouts(idle=600))
        async with aio.serve(ae) as server:
            warm = await associated(server.port)
            sockets = []
            gc.collect()
            tracemalloc.start()
            for _ in range(50):
                sock = socket.create_connection(("127.0.0.1", server.port))
                sock.setblocking(False)
                await asyncio.get_running_loop().sock_sendall(sock, encoded(RQ))
                await asyncio.get_running_loop().sock_recv(sock, 1000)
                sockets.append(sock)
            gc.collect()
            held, _peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            for sock in sockets:
                sock.close()
            warm[1].close()
            return held // 50

    assert run(main) <= 48 * 1024
