"""What the tests of the asyncio face alone share: an event loop that tells what it does, and peers beside it."""

from __future__ import annotations

import asyncio
import selectors
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

import dicomnet
from tests.faces.wire import CT, EXPLICIT, Scripted, Wire

CONTEXTS = [dicomnet.Verification, (CT, [EXPLICIT])]
GIVEN_UP = 30.0  # seconds for one test's coroutine


class Watched(selectors.DefaultSelector):
    """A selector that counts how often the loop has looked, and keeps how long it was ready to wait the last time."""

    def __init__(self) -> None:
        super().__init__()
        self.looks = 0
        self.patience: float | None = 0.0

    def select(self, timeout: float | None = None) -> Any:
        self.looks += 1
        self.patience = timeout
        return super().select(timeout)


def run(main: Callable[[], Awaitable[Any]], selector: selectors.BaseSelector | None = None) -> Any:
    """``main()`` on an event loop of its own, within the time for a test."""

    async def limited() -> Any:
        async with asyncio.timeout(GIVEN_UP):
            return await main()

    def new_loop() -> asyncio.AbstractEventLoop:
        return asyncio.SelectorEventLoop(selector)

    with asyncio.Runner(loop_factory=new_loop) as runner:
        return runner.run(limited())


class Peers:
    """Peers that play scripts in threads of their own, for as long as the test runs."""

    def __init__(self) -> None:
        self._scripted: list[Scripted] = []

    def playing(self, script: Callable[[Wire], object]) -> Scripted:
        """A server that plays ``script`` to each connection."""
        self._scripted.append(Scripted(script))
        return self._scripted[-1].__enter__()

    def end(self) -> None:
        for scripted in self._scripted:
            scripted.__exit__(None)


@pytest.fixture
def peers() -> Iterator[Peers]:
    made = Peers()
    yield made
    made.end()


async def eventually(holds: Callable[[], object], what: str) -> None:
    """Let the loop run until it does."""
    for _ in range(2000):
        if holds():
            return
        await asyncio.sleep(0.002)
    raise AssertionError(what)


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    """Threads of handlers end with their server."""
    yield
    for thread in threading.enumerate():
        if thread.name.startswith("dicomnet "):
            thread.join(5)
            assert not thread.is_alive(), thread.name
