"""Where handlers run on an event loop, and how their results come."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

import dicomnet
from dicomnet import aio
from dicomnet.aio.handlers import Handlers
from tests.aio.conftest import run

COLOUR = contextvars.ContextVar("COLOUR", default="none")


def echoed(register: Callable[[dicomnet.AE], None]) -> int:
    """The status of a C-ECHO to an AE with these handlers."""

    async def main() -> int:
        ae = dicomnet.AE("SCP")
        register(ae)
        async with aio.serve(ae) as server, aio.associate(f"SCP@127.0.0.1:{server.port}") as association:
            return (await association.c_echo()).status

    return run(main)


@pytest.mark.parametrize("kind", ["plain", "quick", "async", "quick and async"])
def test_a_handler_runs_where_its_kind_says(kind: str) -> None:
    """architecture.md: async in the association's task, plain in a thread, unless it promises not to block."""
    seen: list[tuple[bool, bool]] = []

    def look(request: object) -> int:
        here = threading.current_thread() is threading.main_thread()
        seen.append((here, here and asyncio.current_task() is not None))
        return 0

    async def look_async(request: object) -> int:
        return look(request)

    handler = look_async if "async" in kind else look
    assert echoed(lambda ae: ae.on_c_echo(quick="quick" in kind)(handler)) == 0
    assert seen == [(kind != "plain",) * 2]


def test_a_callable_that_returns_an_awaitable_is_awaited() -> None:
    """The API, §2: plain or async function, however it is wrapped."""

    async def answer(request: object) -> int:
        return 0xB000

    assert echoed(lambda ae: ae.on_c_echo(lambda request: answer(request))) == 0xB000


def test_a_plain_handler_has_the_context_of_its_association() -> None:
    """contextvars, as in asyncio.to_thread."""
    seen = []

    def register(ae: dicomnet.AE) -> None:
        @ae.on_association(quick=True)
        def paint(association: object) -> None:
            COLOUR.set("green")

        @ae.on_c_echo
        def look(request: object) -> int:
            seen.append(COLOUR.get())
            return 0

    echoed(register)
    assert seen == ["green"]


def test_a_handler_that_raises_stop_iteration_is_a_failure() -> None:
    """K3: no Future takes one; the association lives on."""

    def register(ae: dicomnet.AE) -> None:
        @ae.on_c_echo
        def exhausted(request: object) -> int:
            return next(iter(()))

    assert echoed(register) == 0x0110


# --- results that come in batches -----------------------------------------------------------------------------------


async def batches(handler: Callable[[Any], Any], quick: tuple[Any, ...] = ()) -> list[list[Any]]:
    return [batch async for batch in Handlers(quick).stream(handler, None)]


def numbers(_: object) -> Iterator[int]:
    yield from range(150)


async def numbers_async(_: object) -> AsyncIterator[int]:
    for number in range(150):
        yield number


async def numbers_later(_: object) -> list[int]:
    return list(range(150))


@pytest.mark.parametrize(
    "handler", [numbers, numbers_async, numbers_later, lambda _: range(150), lambda _: tuple(range(150))]
)
@pytest.mark.parametrize("quick", [False, True])
def test_results_come_in_batches(handler: Callable[[Any], Any], quick: bool) -> None:
    """Io.stream: lists, iterables, generators of both kinds, and coroutines that give one."""
    found = run(lambda: batches(handler, (handler,) if quick else ()))
    assert [number for batch in found for number in batch] == list(range(150))
    assert max(map(len, found)) <= 64


@pytest.mark.parametrize("result", [None, (), []])
def test_no_results_are_no_batches(result: Any) -> None:
    """Io.stream."""
    assert run(lambda: batches(lambda _: result)) == []


def test_what_came_before_a_failure_is_there_before_it() -> None:
    """K3: those matches have been found."""

    def fails(_: object) -> Iterator[int]:
        yield 1
        raise ZeroDivisionError

    async def fails_async(_: object) -> AsyncIterator[int]:
        yield 1
        raise ZeroDivisionError

    async def main(handler: Callable[[Any], Any]) -> list[Any]:
        found = []
        with pytest.raises(ZeroDivisionError):
            async for batch in Handlers().stream(handler, None):
                found += batch
        return found

    assert run(lambda: main(fails)) == run(lambda: main(fails_async)) == [1]


def test_a_slow_generator_does_not_hold_back_what_it_has_found() -> None:
    """Io.stream: as it comes."""

    async def main() -> None:
        may_go_on = asyncio.Event()

        async def slow(_: object) -> AsyncIterator[int]:
            yield 1
            await may_go_on.wait()
            yield 2

        stream = Handlers().stream(slow, None)
        assert await anext(stream) == [1]
        may_go_on.set()
        assert [batch async for batch in stream] == [[2]]

    run(main)


@pytest.mark.parametrize("where", ["at a yield", "in an await"])
def test_a_generator_that_is_no_longer_wanted_is_closed(where: str) -> None:
    """Io.stream: so that it gives back what it holds, a database's cursor for instance."""

    async def main() -> None:
        closed = []

        async def endless(_: object) -> AsyncIterator[int]:
            try:
                while True:
                    yield 1
                    await (asyncio.sleep(0) if where == "at a yield" else asyncio.Event().wait())
            finally:
                closed.append(asyncio.current_task() is not None)

        stream = Handlers().stream(endless, None)
        await anext(stream)
        await stream.aclose()
        assert closed == [True]

    run(main)


@pytest.mark.parametrize("quick", [False, True])
def test_a_plain_generator_that_is_no_longer_wanted_is_closed(quick: bool) -> None:
    """Io.stream."""
    closed = []

    def endless(_: object) -> Iterator[int]:
        try:
            while True:
                yield 1
        finally:
            closed.append(threading.current_thread() is threading.main_thread())

    async def main() -> None:
        stream = Handlers((endless,) if quick else ()).stream(endless, None)
        await anext(stream)
        await stream.aclose()

    run(main)
    assert closed == [quick]


def test_a_plain_generator_does_not_hold_up_the_loop() -> None:
    """K4: each of its steps runs in a thread."""

    async def main() -> None:
        may_go_on = threading.Event()

        def blocks(_: object) -> Iterator[int]:
            may_go_on.wait(20)
            yield 1

        asyncio.get_running_loop().call_soon(may_go_on.set)
        assert await batches(blocks) == [[1]]

    run(main)
