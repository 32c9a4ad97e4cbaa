"""Cancelling a task in the midst of each operation: the association is used on (the issue, 1)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest

import dicomnet
from dicomnet import aio
from tests.aio.conftest import run
from tests.faces.queries import CONTEXTS, MPPS, image, study

Operation = Callable[[aio.Association], Coroutine[Any, Any, Any]]
ONE_RESPONSE: dict[str, Operation] = {
    "c_echo": lambda association: association.c_echo(),
    "c_store": lambda association: association.c_store(image(1)),
    "n_create": lambda association: association.n_create(MPPS, study()),
    "n_set": lambda association: association.n_set(MPPS, "1.2", study()),
    "n_get": lambda association: association.n_get(MPPS, "1.2"),
    "n_action": lambda association: association.n_action(MPPS, "1.2", 1),
    "n_event_report": lambda association: association.n_event_report(MPPS, "1.2", 1),
    "n_delete": lambda association: association.n_delete(MPPS, "1.2"),
}


async def _loop_over(results: Any) -> None:
    async for _ in results:
        pass


MANY_RESPONSES: dict[str, Operation] = {
    "c_find": lambda association: _loop_over(association.c_find(study())),
    "c_get": lambda association: _loop_over(association.c_get(study())),
    "c_move": lambda association: _loop_over(association.c_move(study(), destination="D")),
}


async def cancelled(association: aio.Association, operation: Operation, begun: asyncio.Event) -> None:
    """Begin it, and cancel it when its handler has begun."""
    task = asyncio.create_task(operation(association))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("window", [1, 2])
@pytest.mark.parametrize("name", ONE_RESPONSE)
def test_an_operation_of_one_response(name: str, window: int) -> None:
    """The response that comes in the end is nobody's; those that follow get theirs."""

    async def main() -> None:
        begun, may_end = asyncio.Event(), asyncio.Event()
        ae = dicomnet.AE("SCP", contexts=CONTEXTS, async_ops=(window, 1))

        async def wait(request: Any) -> int:
            first = not begun.is_set()
            begun.set()
            if first:
                await may_end.wait()
            return 0xC123 if first else 0

        getattr(ae, f"on_{name}")(wait)
        async with aio.serve(ae) as server:
            peer = f"SCP@127.0.0.1:{server.port}"
            async with aio.associate(peer, contexts=CONTEXTS, async_ops=(window, 1)) as association:
                await cancelled(association, ONE_RESPONSE[name], begun)
                following = asyncio.create_task(ONE_RESPONSE[name](association))
                if window == 2:  # there is a place left
                    assert (await following).status == 0
                may_end.set()
                assert (await following).status == 0
                assert (await ONE_RESPONSE[name](association)).status == 0

    run(main)


@pytest.mark.parametrize("name", MANY_RESPONSES)
def test_an_operation_of_many_responses(name: str) -> None:
    """A C-CANCEL goes out, and ends the handler."""

    async def main() -> None:
        begun, ended = asyncio.Event(), asyncio.Event()
        ae = dicomnet.AE("SCP", contexts=CONTEXTS)

        async def nothing(request: Any) -> AsyncIterator[Any]:
            try:
                begun.set()
                while not request.cancelled:
                    await asyncio.sleep(0.001)
                return
                yield
            finally:
                ended.set()

        ae.on_c_find(nothing)
        ae.on_c_get(nothing)
        ae.on_c_move(lambda request: (dicomnet.Peer("D", "127.0.0.1", 104), nothing(request)))
        async with aio.serve(ae) as server:
            peer = f"SCP@127.0.0.1:{server.port}"
            async with aio.associate(peer, contexts=CONTEXTS) as association:
                await cancelled(association, MANY_RESPONSES[name], begun)
                assert (await association.c_echo()).status == 0
                assert ended.is_set()

    run(main)


def test_listening() -> None:
    """What the peer asks for afterwards is answered by who waits next."""

    async def main() -> None:
        ae, mine, lent, seen = dicomnet.AE("SCP", contexts=CONTEXTS), dicomnet.AE("ME"), [], []
        ae.on_c_echo(quick=True)(lambda request: lent.append(request.association.scu) or 0)
        mine.on_n_event_report(quick=True)(lambda request: seen.append(request) or 0x0107)
        async with aio.serve(ae) as server:
            peer = f"SCP@127.0.0.1:{server.port}"
            async with aio.associate(peer, contexts=CONTEXTS, ae=mine) as association:
                await association.c_echo()
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.01):
                        await association.listen()
                reporting = asyncio.create_task(lent[0].n_event_report(MPPS, "1.2", 1))
                assert await association.listen(20, until=lambda: seen)
                assert (await reporting).status == 0x0107
                assert (await association.c_echo()).status == 0

    run(main)
