"""The faces behind one blocking interface, so that one suite of tests runs against each.

A ``Face`` has ``associate`` and ``serve`` with the parameters of ``dicomnet``'s own. What they return has the same
names as the blocking face's objects and blocks; it is a context manager. ``FACES`` names what there is.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Callable, Coroutine, Iterator
from types import ModuleType
from typing import Any, Protocol

import dicomnet
import dicomnet.aio

GIVEN_UP = 60.0  # seconds for one call: far more than any needs, less than pytest grants to a test


class Face(Protocol):
    """``module``: where the face's ``associate`` and ``serve`` live."""

    module: Any

    def associate(self, peer: Any, **options: Any) -> Any: ...

    def serve(self, ae: dicomnet.AE, *place: Any, **options: Any) -> Any: ...

    def borrow(self, association: Any) -> Any:
        """What this face's server lends to a handler (``request.association.scu``), for a thread to use."""


class BlockingFace:
    """``dicomnet`` itself."""

    module = dicomnet

    def associate(self, peer: Any, **options: Any) -> Any:
        return dicomnet.associate(peer, **options)

    def serve(self, ae: dicomnet.AE, *place: Any, **options: Any) -> Any:
        return dicomnet.serve(ae, *place, **options)

    def borrow(self, association: Any) -> Any:
        return association


class AsyncFace:
    """A face of coroutines: its event loop runs in a thread of its own, each call waits for its coroutine."""

    def __init__(self, module: ModuleType, new_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
        self.module = module
        self._loop = new_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="event loop", daemon=True)

    def associate(self, peer: Any, **options: Any) -> Any:
        return self._enter(lambda: self.module.associate(peer, **options))

    def serve(self, ae: dicomnet.AE, *place: Any, **options: Any) -> Any:
        return self._enter(lambda: self.module.serve(ae, *place, **options))

    def borrow(self, association: Any) -> Any:
        return _Waiting(self, association, association)

    def _enter(self, make: Any) -> _Waiting:
        """``make()`` is an async context manager, or an awaitable of one; either way what it gives is there."""

        async def entered() -> tuple[Any, Any]:
            made = make()
            if inspect.isawaitable(made):
                made = await made
                return made, made
            return made, await made.__aenter__()

        manager, inside = self.run(entered())
        return _Waiting(self, inside, manager)

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        if not self._thread.is_alive():
            self._thread.start()
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(GIVEN_UP)


class _Waiting:
    """An object of an async face: what it returns to be awaited is awaited."""

    def __init__(self, face: AsyncFace, inside: Any, manager: Any) -> None:
        self._face = face
        self._inside = inside
        self._manager = manager

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._inside, name)
        if not callable(value):
            return value

        def call(*arguments: Any, **options: Any) -> Any:
            async def finish() -> Any:  # called in the loop's thread, too
                result = value(*map(_inside, arguments), **options)
                return await result if inspect.isawaitable(result) else result

            result = self._face.run(finish())
            return _Iterating(self._face, result, result) if hasattr(result, "__aiter__") else result

        return call

    def __enter__(self) -> _Waiting:
        return self

    def __exit__(self, *exception: Any) -> Any:
        async def leave() -> Any:
            return await self._manager.__aexit__(*exception)

        return self._face.run(leave())


class _Iterating(_Waiting):
    """What an async face gives to be iterated over."""

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        async def step() -> tuple[Any, ...]:
            try:
                return (await anext(self._inside),)
            except StopAsyncIteration:
                return ()

        if not (found := self._face.run(step())):
            raise StopIteration
        return found[0]


def _inside(value: Any) -> Any:
    """The async face's own object, if it is one of those above."""
    return value._inside if isinstance(value, _Waiting) else value


FACES: dict[str, Face] = {"blocking": BlockingFace(), "aio": AsyncFace(dicomnet.aio, asyncio.new_event_loop)}
