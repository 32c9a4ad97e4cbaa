"""A task that is cancelled leaves the association usable or ends it, never something in between (the API, §1)."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace

import pytest

import dicomnet
from dicomnet import Timeouts, aio
from tests.aio.conftest import Peers, eventually, run
from tests.faces.conftest import ct
from tests.faces.wire import AC, CT, EXPLICIT, OFFER, RELEASE_RP, USER, Wire, echo_rsp, patient_data


async def cancelled(task: asyncio.Task[object]) -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_a_response_to_a_cancelled_request_is_dropped(peers: Peers) -> None:
    """N-25: it belongs to nobody, and the next one gets its own."""
    asked, may_answer = threading.Event(), threading.Event()

    def script(wire: Wire) -> None:
        wire.hears()
        wire.sends(AC)
        first = wire.hears_message().message_id
        asked.set()
        may_answer.wait(20)
        wire.sends(echo_rsp(first, 0xC001))
        wire.sends(echo_rsp(wire.hears_message().message_id, 0xC002))
        wire.hears()
        wire.sends(RELEASE_RP)

    async def main() -> None:
        async with aio.associate(peers.playing(script).peer, contexts=OFFER) as association:
            task = asyncio.create_task(association.c_echo())
            assert await asyncio.to_thread(asked.wait, 20)
            await cancelled(task)
            may_answer.set()
            assert (await association.c_echo()).status == 0xC002

    run(main)


def test_a_cancelled_request_keeps_its_place_in_the_window_until_it_is_answered(peers: Peers) -> None:
    """PS3.7 D.3.3.3: the peer still counts it; those that wait for a place get it then."""
    heard: list[int] = []
    both, may_answer = threading.Event(), threading.Event()

    def script(wire: Wire) -> None:
        wire.hears()
        wire.sends(replace(AC, user=replace(USER, async_ops=(2, 1))))
        heard.extend(wire.hears_message().message_id for _ in range(2))
        both.set()
        may_answer.wait(20)
        wire.sends(*(echo_rsp(number) for number in heard))
        wire.sends(echo_rsp(wire.hears_message().message_id))
        wire.hears()
        wire.sends(RELEASE_RP)

    async def main() -> None:
        async with aio.associate(peers.playing(script).peer, contexts=OFFER, async_ops=(2, 1)) as association:
            first, second, third = (asyncio.create_task(association.c_echo()) for _ in range(3))
            assert await asyncio.to_thread(both.wait, 20)
            await cancelled(first)
            await cancelled(third)  # it waits for a place
            may_answer.set()
            assert (await second).status == 0
            assert (await association.c_echo()).status == 0

    run(main)


def test_one_that_is_cancelled_in_mid_message_ends_the_association(peers: Peers) -> None:
    """PS3.8 E.1: nobody else could say anything; at once, and others are told."""
    sending = threading.Event()

    def script(wire: Wire) -> None:
        wire.hears()
        wire.sends(AC)
        wire.hears()
        sending.set()
        wire.may_end.wait(20)

    async def main() -> None:
        scripted = peers.playing(script)
        association = await aio.associate(scripted.peer, contexts=OFFER, timeouts=Timeouts(closing=0.2))
        task = asyncio.create_task(association.c_store(ct(bytes(64 << 20))))
        assert await asyncio.to_thread(sending.wait, 20)
        await cancelled(task)
        with pytest.raises(dicomnet.AssociationAborted):
            await association.c_echo()
        await association.abort()

    run(main)


def test_a_cancelled_release_is_an_abort(peers: Peers) -> None:
    """PS3.8 9.2: after A-RELEASE-RQ there is nothing else left to say."""
    asked = threading.Event()
    heard = []

    def script(wire: Wire) -> None:
        wire.hears()
        wire.sends(AC)
        wire.hears()
        asked.set()
        heard.extend(wire.hears_to_the_end())

    async def main() -> None:
        scripted = peers.playing(script)
        association = await aio.associate(scripted.peer, contexts=OFFER)
        task = asyncio.create_task(association.release())
        assert await asyncio.to_thread(asked.wait, 20)
        await cancelled(task)
        with pytest.raises(dicomnet.AssociationAborted):
            await association.c_echo()
        await eventually(lambda: heard, "the peer hears of it")

    run(main)
    assert [type(value).__name__ for value in heard] == ["Abort"]


@pytest.mark.parametrize("seconds", [0.05, 0.0])
def test_a_cancelled_associate_leaves_nothing(peers: Peers, seconds: float) -> None:
    """The connection is closed, whatever it was waiting for."""
    ended = threading.Event()

    def script(wire: Wire) -> None:
        wire.hears_to_the_end()
        ended.set()

    async def main() -> None:
        scripted = peers.playing(script)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(seconds):
                await aio.associate(scripted.peer)
        if seconds:
            assert await asyncio.to_thread(ended.wait, 20)

    run(main)


def test_leaving_the_block_by_cancellation_aborts_without_waiting(peers: Peers) -> None:
    """PS3.8 7.3: the peer that does not close keeps nobody."""

    def script(wire: Wire) -> None:
        wire.hears()
        wire.sends(AC)
        wire.may_end.wait(20)

    async def main() -> None:
        scripted = peers.playing(script)

        async def work() -> None:
            async with aio.associate(scripted.peer, contexts=OFFER, timeouts=Timeouts(closing=None)):
                inside.set()
                await asyncio.Event().wait()

        inside = asyncio.Event()
        task = asyncio.create_task(work())
        await inside.wait()
        await cancelled(task)
        scripted.may_end.set()

    run(main)


@pytest.mark.parametrize("how", ["release", "leaving the block"])
def test_a_cancelled_release_does_not_wait_for_the_peer(peers: Peers, how: str) -> None:
    """PS3.8 9.2: nor does leaving the block."""
    asked = threading.Event()

    def script(wire: Wire) -> None:
        wire.hears()
        wire.sends(AC)
        wire.hears()
        asked.set()
        wire.may_end.wait(20)

    async def main() -> None:
        scripted = peers.playing(script)
        never = Timeouts(closing=None, release=None)

        async def work() -> None:
            async with aio.associate(scripted.peer, contexts=OFFER, timeouts=never) as association:
                if how == "release":
                    await association.release()

        task = asyncio.create_task(work())
        assert await asyncio.to_thread(asked.wait, 20)
        await cancelled(task)
        scripted.may_end.set()

    run(main)


def test_a_task_group_that_fails_ends_its_association() -> None:
    """One of several tasks that share an association raises; the others are cancelled, the server goes on."""

    async def main() -> None:
        ae = dicomnet.AE("SCP", async_ops=(4, 4), timeouts=Timeouts(drain=0.2))
        begun = asyncio.Event()

        @ae.on_c_echo
        async def never(request: object) -> int:
            begun.set()
            await asyncio.Event().wait()
            return 0

        async with aio.serve(ae) as server:
            peer = f"SCP@127.0.0.1:{server.port}"
            with pytest.raises(ExceptionGroup) as caught:
                async with aio.associate(peer, async_ops=(4, 1)) as association, asyncio.TaskGroup() as group:
                    group.create_task(association.c_echo())
                    group.create_task(association.c_echo())
                    await begun.wait()
                    raise KeyError("the user's own")
            assert [type(error) for error in caught.value.exceptions] == [KeyError]

    run(main)


def test_a_handler_that_runs_when_its_peer_goes_is_let_finish() -> None:
    """K4: what it stores is stored."""
    done = threading.Event()

    async def main() -> None:
        ae = dicomnet.AE("SCP", contexts=[(CT, [EXPLICIT])])
        begun, may_end = asyncio.Event(), asyncio.Event()

        @ae.on_c_store
        async def keep(request: object) -> int:
            begun.set()
            await may_end.wait()
            done.set()
            return 0

        async with aio.serve(ae) as server:
            association = await aio.associate(f"SCP@127.0.0.1:{server.port}", contexts=[(CT, [EXPLICIT])])
            task = asyncio.create_task(association.c_store(ct(patient_data())))
            await begun.wait()
            await association.abort()
            with pytest.raises(dicomnet.AssociationAborted):
                await task
            may_end.set()
            await eventually(done.is_set, "the handler ends")

    run(main)
