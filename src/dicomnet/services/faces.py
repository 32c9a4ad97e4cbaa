"""Services on both faces from one copy of their logic.

One idea: what a service does is a coroutine that awaits ``answered(association.…)``. On an association of the asyncio
face that is the method's awaitable, and the service's function returns the coroutine for the caller to await. On one of
the blocking face it is the result itself, so that the coroutine runs from start to end in a single step.
"""

from __future__ import annotations

import inspect
from abc import abstractmethod
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, Self, TypeVar

Result = TypeVar("Result")


def is_async(association: object) -> bool:
    """Whether this is of the asyncio face."""
    return hasattr(type(association), "__aenter__")


async def answered(result: Any) -> Any:
    """What a method of an association of either face gives."""
    return await result if inspect.isawaitable(result) else result


def drive(association: object, steps: Coroutine[Any, Any, Result]) -> Any:
    """The result of ``steps``, or ``steps`` for the caller to await."""
    return steps if is_async(association) else finish(steps)


def finish(steps: Coroutine[Any, Any, Result]) -> Result:
    """Run ``steps`` to their end: nothing in them waits but by blocking."""
    try:
        steps.send(None)
    except StopIteration as stop:
        result: Result = stop.value
        return result
    steps.close()
    raise RuntimeError("a step of a service waited for something that the blocking face does not have")


class Scope:
    """A context manager for both faces: ``with`` or ``async with``, as the association is."""

    def __init__(self, association: Any) -> None:
        self._association = association

    @abstractmethod
    async def _enter(self) -> None: ...

    @abstractmethod
    async def _leave(self, error: BaseException | None) -> None: ...

    def __enter__(self) -> Self:
        if is_async(self._association):
            raise TypeError("with an association of the asyncio face this is for `async with`")
        finish(self._enter())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        finish(self._leave(error))

    async def __aenter__(self) -> Self:
        if not is_async(self._association):
            raise TypeError("with an association of the blocking face this is for `with`")
        await self._enter()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._leave(error)
