"""What a task of a conversation awaits: it is resumed at once, and behaves as a Future where that matters."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import pytest

import dicomnet
from dicomnet import aio
from dicomnet.aio.waiter import Waiter
from tests.aio.conftest import run


async def waiting(ready: Any = bool) -> tuple[Waiter, asyncio.Task[bool]]:
    """A waiter, and the task that awaits it."""
    waiter = Waiter(asyncio.get_running_loop(), ready, math.inf, True)

    async def wait() -> bool:
        return await waiter

    task = asyncio.create_task(wait())
    await asyncio.sleep(0)
    return waiter, task


def test_a_task_is_resumed_at_once() -> None:
    """Before the callback that wakes it returns, in its own context and as the current task."""

    async def main() -> None:
        waiter, task = await waiting()
        done: list[bool] = []
        asyncio.get_running_loop().call_soon(lambda: (waiter.wake(), done.append(task.done())))
        assert await task is False
        assert done == [True]

    run(main)


def test_a_task_is_resumed_once() -> None:
    """However often it is waked."""

    async def main() -> None:
        waiter, task = await waiting()
        waiter.wake_soon()
        waiter.wake_soon(late=True)
        assert await task is False
        waiter.wake()

    run(main)


def test_a_task_learns_that_the_deadline_has_come() -> None:
    """Io.until."""

    async def main() -> None:
        waiter, task = await waiting()
        waiter.wake_soon(late=True)
        assert await task is True

    run(main)


def test_a_task_that_is_cancelled_is_not_waked() -> None:
    """And one that was waked before it was cancelled is cancelled all the same."""

    async def main(waked_first: bool) -> None:
        waiter, task = await waiting()
        if waked_first:
            waiter.wake_soon()
        task.cancel()
        if not waked_first:
            waiter.wake_soon()
        await asyncio.wait([task])
        assert task.cancelled()
        assert waiter.cancel() is False

    run(lambda: main(False))
    run(lambda: main(True))


def test_it_is_a_future_for_asyncio() -> None:
    """asyncio.isfuture: what a Task may wait for."""

    async def main() -> None:
        waiter, task = await waiting()
        assert asyncio.isfuture(waiter)
        assert waiter.get_loop() is asyncio.get_running_loop()
        task.cancel()
        await asyncio.wait([task])

    run(main)


def test_a_condition_of_the_users_that_fails_is_the_users_error() -> None:
    """Association.listen: its ``until`` is asked when something has arrived; the association lives."""

    async def main() -> None:
        async with (
            aio.serve(dicomnet.AE("SCP")) as server,
            aio.associate(f"SCP@127.0.0.1:{server.port}", async_ops=(2, 1)) as association,
        ):
            asked: list[int] = []

            def fails() -> bool:
                asked.append(1)
                if len(asked) > 4:
                    raise ZeroDivisionError
                return False

            listening = asyncio.create_task(association.listen(until=fails))
            while not listening.done():
                assert (await association.c_echo()).status == 0
            with pytest.raises(ZeroDivisionError):
                await listening
            assert (await association.c_echo()).status == 0

    run(main)


def test_tasks_that_share_an_association_may_go_on_within_one_callback() -> None:
    """Sixteen at once, each resumed by what the others' answers came with."""

    async def main() -> list[int]:
        ae = dicomnet.AE("SCP", async_ops=(16, 16))
        async with (
            aio.serve(ae) as server,
            aio.associate(f"SCP@127.0.0.1:{server.port}", async_ops=(16, 1)) as association,
        ):

            async def many() -> list[int]:
                return [(await association.c_echo()).message_id for _ in range(50)]

            found = await asyncio.gather(*(many() for _ in range(16)))
            return sorted(number for numbers in found for number in numbers)

    assert run(main) == list(range(1, 801))
