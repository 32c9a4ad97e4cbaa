"""What ``associate`` and ``serve`` return: something to be awaited or entered, as one likes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Generator
from types import TracebackType
from typing import Any, Generic, Protocol, Self, TypeVar


class Manager(Protocol):
    """An asynchronous context manager that is its own value."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None, /
    ) -> None: ...


Entered = TypeVar("Entered", bound=Manager)


class Enterable(Awaitable[Entered], Generic[Entered]):
    """``await`` it, or enter it by ``async with``; nothing happens before that. Leaving the block ends what it gave."""

    def __init__(self, begin: Callable[[], Coroutine[Any, Any, Entered]]) -> None:
        self._begin = begin
        self._entered: Entered | None = None

    def __await__(self) -> Generator[Any, None, Entered]:
        return self._begin().__await__()

    async def __aenter__(self) -> Entered:
        self._entered = await self._begin()
        return await self._entered.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._entered is not None:
            await self._entered.__aexit__(kind, error, traceback)
