"""What is read when: nothing piles up, and nothing is missed."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import weakref
from typing import Any

import pytest

import dicomnet
from dicomnet import Limits, Timeouts, aio
from tests.aio.conftest import CONTEXTS, Peers, eventually, run
from tests.faces.conftest import ct
from tests.faces.wire import ABORT, AC, OFFER, RELEASE_RQ, RQ, Wire, echo_rq, encoded, patient_data, store_rq


def test_an_abort_is_seen_while_nobody_waits(peers: Peers) -> None:
    """Its connection is closed at once, although the program does something else."""
    may_abort, closed = threading.Event(), threading.Event()

    def script(wire: Wire) -> None:
        wire.hears()
        wire.sends(AC)
        may_abort.wait(20)
        wire.sends(ABORT)
        wire.hears_to_the_end()
        closed.set()

    async def main() -> None:
        association = await aio.associate(peers.playing(script).peer, contexts=OFFER)
        may_abort.set()
        assert await asyncio.to_thread(closed.wait, 20)
        with pytest.raises(dicomnet.AssociationAborted):
            await association.c_echo()

    run(main)


def test_requests_that_nobody_can_perform_are_not_read() -> None:
    """Back-pressure is not reading: a peer that floods a busy handler fills its own buffers, not ours."""

    async def main() -> None:
        ae = dicomnet.AE("SCP", contexts=CONTEXTS, limits=Limits(operations=8), async_ops=(0, 0))
        may_end = asyncio.Event()

        @ae.on_c_store
        async def wait(request: Any) -> int:
            await may_end.wait()
            return 0

        async with aio.serve(ae) as server:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.transport.set_write_buffer_limits(high=0)
            writer.write(encoded(RQ))
            head = await reader.readexactly(6)
            await reader.readexactly(int.from_bytes(head[2:], "big"))
            sent = 0
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(5):
                    while sent < 2000:
                        writer.write(store_rq(sent % 60000 + 1, os.urandom(64 * 1024)))
                        sent += 1
                        async with asyncio.timeout(0.5):
                            await writer.drain()
            assert sent < 1000
            may_end.set()
            writer.transport.abort()

    run(main)


def test_a_peer_that_closes_its_half_still_gets_its_answers() -> None:
    """As on the blocking face: what it has asked for before is performed first, and its release confirmed."""

    async def main() -> list[bytes]:
        ae = dicomnet.AE("SCP", contexts=CONTEXTS)
        may_end = asyncio.Event()

        @ae.on_c_echo
        async def wait(request: Any) -> int:
            await may_end.wait()
            return 0

        async with aio.serve(ae) as server:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(encoded(RQ))
            head = await reader.readexactly(6)
            await reader.readexactly(int.from_bytes(head[2:], "big"))
            writer.write(echo_rq(1) + echo_rq(2) + encoded(RELEASE_RQ))
            writer.write_eof()
            asyncio.get_running_loop().call_later(0.1, may_end.set)
            answers = await reader.read()
            writer.close()
            return answers

    answers = run(main)
    assert answers.endswith(bytes((6, 0, 0, 0, 0, 4, 0, 0, 0, 0)))
    assert answers.count(bytes((4, 0))) >= 2


def test_a_slow_handler_does_not_cost_the_peer_whose_pdu_is_half_read() -> None:
    """Timeouts.pdu: a loop that was held up has not looked."""

    async def main() -> int:
        ae = dicomnet.AE("SCP", contexts=CONTEXTS, timeouts=Timeouts(pdu=0.2))
        begun = threading.Event()

        @ae.on_c_echo(quick=True)
        def block(request: Any) -> int:
            begun.set()
            threading.Event().wait(0.4)
            return 0

        async with aio.serve(ae) as server:

            def play() -> int:
                with Wire.associated(server.port) as wire:
                    stored = store_rq(2)
                    wire.sends(echo_rq(1), stored[:-7])
                    assert begun.wait(20)
                    wire.sends(stored[-7:])
                    return [wire.hears_message().status for _ in range(2)][1]

            @ae.on_c_store(quick=True)
            def keep(request: Any) -> int:
                return 0

            return await asyncio.to_thread(play)

    assert run(main) == 0


def test_a_large_buffer_is_given_back() -> None:
    """An association that has moved much and is idle holds as little as before."""

    async def main() -> None:
        ae = dicomnet.AE("SCP", contexts=CONTEXTS, timeouts=Timeouts(idle=1.5))
        sizes: list[int] = []

        @ae.on_c_store(quick=True)
        def keep(request: Any) -> int:
            return 0

        async with aio.serve(ae) as server:
            peer = f"SCP@127.0.0.1:{server.port}"
            async with aio.associate(peer, contexts=CONTEXTS, timeouts=Timeouts(response=1.2)) as association:
                await association.c_store(ct(os.urandom(8 << 20)))
                (connection,) = server._connections.values()
                sizes.append(len(connection._buffer))
                await eventually(lambda: len(connection._buffer) < sizes[0], "it is given back")
                sizes.append(len(connection._buffer))
                await association.abort()  # no release: the server's limit may have passed
        assert sizes[0] > 64 * 1024
        assert sizes[1] <= 16 * 1024

    run(main)


def test_a_received_data_set_goes_with_its_handler() -> None:
    """Nothing of the face keeps it alive: its file would stay."""

    async def main() -> None:
        ae = dicomnet.AE("SCP", contexts=CONTEXTS)
        seen: list[weakref.ref[Any]] = []

        @ae.on_c_store
        def keep(request: Any) -> int:
            seen.append(weakref.ref(request.dataset))
            return 0

        async with (
            aio.serve(ae) as server,
            aio.associate(f"SCP@127.0.0.1:{server.port}", contexts=CONTEXTS) as association,
        ):
            await association.c_store(ct(patient_data()))
            await association.c_echo()
            gc.collect()
            assert seen[0]() is None

    run(main)
