"""Gates for tasks: so many inside, first come first served, and no place is lost."""

from __future__ import annotations

import asyncio

from dicomnet.aio.gate import Gate
from tests.aio.conftest import run


def test_a_gate_lets_so_many_in() -> None:
    """dimse.io.Gate: without waiting, while there is room."""

    async def main() -> list[bool]:
        gate = Gate(2)
        return [gate.acquire(False) for _ in range(3)]

    assert run(main) == [True, True, False]


def test_those_who_wait_are_let_in_in_their_order() -> None:
    """Nobody starves, and nobody who comes later goes first."""

    async def main() -> list[int]:
        gate, order = Gate(1), []

        async def pass_through(number: int) -> None:
            await gate.passed()
            order.append(number)
            await asyncio.sleep(0)
            gate.release()

        gate.acquire()
        tasks = [asyncio.create_task(pass_through(number)) for number in range(4)]
        await asyncio.sleep(0)
        gate.release()
        assert not gate.acquire()  # it belongs to the first of those who wait
        await asyncio.gather(*tasks)
        assert gate.acquire()
        return order

    assert run(main) == [0, 1, 2, 3]


def test_one_that_is_cancelled_while_it_waits_takes_no_place() -> None:
    """Cancelling a task leaves the association usable."""

    async def main() -> bool:
        gate = Gate(1)
        gate.acquire()
        waiting = asyncio.create_task(gate.passed())
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
        gate.release()
        return gate.acquire()

    assert run(main)


def test_one_that_is_cancelled_when_it_is_let_in_gives_its_place_on() -> None:
    """In whichever order the two happen."""

    async def main(first: str) -> None:
        gate = Gate(1)
        gate.acquire()
        cancelled, other = asyncio.create_task(gate.passed()), asyncio.create_task(gate.passed())
        await asyncio.sleep(0)
        for what in (cancelled.cancel, gate.release) if first == "cancel" else (gate.release, cancelled.cancel):
            what()
        await asyncio.wait([cancelled, other], timeout=5)
        assert cancelled.cancelled()
        assert other.done()
        gate.release()
        assert gate.acquire()

    for first in ("cancel", "release"):
        run(lambda first=first: main(first))
