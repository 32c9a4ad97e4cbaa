"""Users' handlers on an event loop: where they run, and how their results come.

A coroutine function runs in the association's task; a plain function in a worker thread, unless it was registered as
quick, which promises that it does not block.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import time
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Container, Iterable, Iterator
from concurrent.futures import Executor
from contextlib import aclosing, suppress
from typing import Any, Final

from dicomnet.dimse.provider import as_items

_BATCH: Final = 64  # results of a handler that are sent together, unless finding them takes longer than
_BATCH_TIME: Final = 0.005  # seconds


class Handlers:
    """Runs the handlers of one side. ``quick``: those that promise not to block.

    ``executor``: the threads for plain functions; None: the event loop's own.
    """

    def __init__(self, quick: Container[Callable[..., Any]] = (), executor: Executor | None = None) -> None:
        self._quick = quick
        self._executor = executor

    async def call(self, handler: Callable[..., Any], argument: Any) -> Any:
        """As ``Io.call``."""
        if self._runs_here(handler):
            result = handler(argument)
        else:
            result = await self._in_thread(handler, argument)
        return await result if not isinstance(result, int) and inspect.isawaitable(result) else result

    def _runs_here(self, handler: Callable[..., Any]) -> bool:
        """Calling it does not take long: it is quick, or does nothing before it is awaited or iterated over."""
        return (
            handler in self._quick
            or inspect.iscoroutinefunction(handler)
            or inspect.isasyncgenfunction(handler)
            or inspect.isgeneratorfunction(handler)
        )

    async def _in_thread(self, function: Callable[[Any], Any], argument: Any) -> Any:
        return await self._submit(function, argument)

    def _submit(self, function: Callable[[Any], Any], argument: Any) -> asyncio.Future[Any]:
        context = contextvars.copy_context()
        loop = asyncio.get_running_loop()
        return loop.run_in_executor(self._executor, context.run, _called, function, argument)

    async def stream(self, handler: Callable[..., Any], argument: Any) -> AsyncGenerator[list[Any], None]:
        """As ``Io.stream``."""
        found = as_items(await self.call(handler, argument))
        if isinstance(found, AsyncIterable):
            batches = _from_async(found)
        elif isinstance(found, list | tuple):
            batches = _from_list(found)
        elif handler in self._quick:
            batches = _from_quick(found)
        else:
            batches = self._from_iterable(found)
        async with aclosing(batches):
            async for batch in batches:
                yield batch

    async def _from_iterable(self, found: Iterable[Any]) -> AsyncGenerator[list[Any], None]:
        """What a thread finds, batch by batch; that it takes long for one does not hold back those before it."""
        iterator = iter(found)
        filling = _Filling(iterator)
        search: asyncio.Future[bool] | None = None
        try:
            while search is None or not search.result():
                filling.begin()
                search = self._submit(filling, None)
                search.add_done_callback(filling.end)
                while filling.under_way:
                    if batch := await filling.batch():
                        yield batch
                if batch := filling.taken():
                    yield batch
        except GeneratorExit:
            if search is not None and not search.done():
                await asyncio.wait([search])
            if (close := getattr(iterator, "close", None)) is not None:
                await self._in_thread(lambda _: close(), None)
            raise


def _called(function: Callable[[Any], Any], argument: Any) -> Any:
    try:
        return function(argument)
    except StopIteration as error:  # no Future takes one
        raise RuntimeError("a handler raised StopIteration") from error


class _Filling:
    """Batches that a thread fills and a task takes, when they are full or when filling them takes long."""

    def __init__(self, iterator: Iterator[Any]) -> None:
        self._iterator = iterator
        self._loop = asyncio.get_running_loop()
        self._found: list[Any] = []
        self._changed = asyncio.Event()  # the thread has come to its end, or has found what is awaited
        self._awaited = False
        self.under_way = False

    def __call__(self, _: None) -> bool:
        """In a thread: fill one batch; True at the end."""
        deadline = time.monotonic() + _BATCH_TIME
        for item in self._iterator:
            self._found.append(item)
            if self._awaited:
                self._awaited = False
                self._loop.call_soon_threadsafe(self._changed.set)
            if len(self._found) >= _BATCH or time.monotonic() >= deadline:
                return False
        return True

    def begin(self) -> None:
        self.under_way = True
        self._changed.clear()

    def end(self, search: asyncio.Future[bool]) -> None:
        if not search.cancelled():
            search.exception()  # looked at, even if nobody asks for it because the association has ended
        self.under_way = False
        self._changed.set()

    async def batch(self) -> list[Any]:
        """What came first, and soon after that; may be empty when the thread has come to its end."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_BATCH_TIME):
                await self._changed.wait()
        self._awaited = True
        if not self._found:
            await self._changed.wait()
        self._awaited = False
        self._changed.clear()
        return self.taken()

    def taken(self) -> list[Any]:
        batch = self._found[:]
        del self._found[: len(batch)]  # the thread may have added more
        return batch


async def _from_quick(found: Iterable[Any]) -> AsyncGenerator[list[Any], None]:
    iterator = iter(found)
    try:
        ended = False
        while not ended:
            batch: list[Any] = []
            error: Exception | None = None
            try:
                ended = _fill(batch, iterator)
            except Exception as failure:  # the user's code: anything. First what it found before
                error = failure
            if batch:
                yield batch
            if error is not None:
                raise error
    finally:
        if (close := getattr(iterator, "close", None)) is not None:
            close()


def _fill(batch: list[Any], iterator: Iterator[Any]) -> bool:
    """Add what comes next and soon; True at the end."""
    deadline = time.monotonic() + _BATCH_TIME
    for item in iterator:
        batch.append(item)
        if len(batch) >= _BATCH or time.monotonic() >= deadline:
            return False
    return True


async def _from_list(found: list[Any] | tuple[Any, ...]) -> AsyncGenerator[list[Any], None]:
    for start in range(0, len(found), _BATCH):
        yield list(found[start : start + _BATCH])


async def _from_async(found: AsyncIterable[Any]) -> AsyncGenerator[list[Any], None]:
    """What comes, by a task of its own that goes on while a batch is being sent: to wait for an item, and to stop
    waiting when others should not have to, cannot be done with the generator alone.
    """
    collector = _Collector()
    task = asyncio.create_task(collector.run(found))
    try:
        while batch := await collector.batch():
            yield batch
        await task
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait([task])
            if not task.cancelled():
                await task


class _Collector:
    """Collects what an async iterable yields until somebody takes it, but not more than a batch."""

    def __init__(self) -> None:
        self._items: list[Any] = []
        self._some = asyncio.Event()  # or it has ended
        self._full = asyncio.Event()  # or it has ended
        self._room = asyncio.Event()
        self._ended = False

    async def run(self, found: AsyncIterable[Any]) -> None:
        iterator = aiter(found)
        try:
            async for item in iterator:
                self._items.append(item)
                self._some.set()
                if len(self._items) >= _BATCH:
                    self._room.clear()
                    self._full.set()
                    await self._room.wait()
        finally:
            self._ended = True
            self._some.set()
            self._full.set()
            if (close := getattr(iterator, "aclose", None)) is not None:
                await close()

    async def batch(self) -> list[Any]:
        """What came first, and soon after that; empty at the end."""
        await self._some.wait()
        if not self._full.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(_BATCH_TIME):
                    await self._full.wait()
        batch, self._items = self._items, []
        if not self._ended:
            self._some.clear()
            self._full.clear()
        self._room.set()
        return batch
