"""What the tests of the services share: each runs against both faces at both ends, written once.

``Side`` is one end. Its associations are the face's own objects, not wrapped, so that the services see what users hand
them; ``do`` awaits what a service returns if it is to be awaited.
"""

from __future__ import annotations

import contextlib
import inspect
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pydicom import Dataset

import dicomnet
from tests.faces.conftest import eventually as eventually
from tests.faces.face import FACES

HOST = "127.0.0.1"
PATIENCE = 10.0  # seconds for what takes milliseconds


class Side:
    """``name``: of the face. The functions are what a user of it would write, with ``await`` where it has to be."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._face: Any = FACES[name]

    @contextlib.contextmanager
    def serve(self, ae: dicomnet.AE, **options: Any) -> Iterator[int]:
        """Its port."""
        with self._face.serve(ae, HOST, 0, **options) as server:
            yield server.port

    def connect(self, port: int, contexts: list[Any], *, called: str = "SCP", **options: Any) -> Any:
        """What ``associate`` returns: on asyncio to be awaited."""
        return self._face.module.associate(f"{called}@{HOST}:{port}", contexts=contexts, **options)

    @contextlib.contextmanager
    def associate(self, port: int, *contexts: Any, **options: Any) -> Iterator[Any]:
        with self.entered(self.connect(port, list(contexts), **options)) as association:
            yield association

    @contextlib.contextmanager
    def entered(self, manager: Any) -> Iterator[Any]:
        """``with`` or ``async with``."""
        if not hasattr(type(manager), "__aenter__") or self.name == "blocking":
            with manager as value:
                yield value
            return
        value = self.do(manager.__aenter__())
        try:
            yield value
        except BaseException:
            self.do(manager.__aexit__(*sys.exc_info()))
            raise
        self.do(manager.__aexit__(None, None, None))

    def do(self, result: Any) -> Any:
        """``await`` it if it is for that."""
        if not inspect.isawaitable(result):
            return result
        assert self.name == "aio"

        async def finish() -> Any:
            return await result

        return self._face.run(finish())

    def all(self, results: Any) -> list[Any]:
        """``[… for … in results]``."""
        if self.name == "blocking":
            return list(results)

        async def collect() -> list[Any]:
            return [result async for result in results]

        return self.do(collect())


@pytest.fixture(params=FACES)
def user(request: pytest.FixtureRequest) -> Side:
    """The side that requests associations."""
    return Side(request.param)


@pytest.fixture(params=FACES)
def server(request: pytest.FixtureRequest) -> Side:
    """The side that serves."""
    return Side(request.param)


@pytest.fixture(autouse=True)
def _no_threads_are_left() -> Iterator[None]:
    """Neither of associations nor of couriers."""
    before = set(library_threads())
    yield
    eventually(lambda: set(library_threads()) <= before, f"threads end: {library_threads()}")


def library_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("dicomnet")]


def dataset(**elements: Any) -> Dataset:
    """Values that a VR forbids are kept as they are: keys have them, and so do peers."""
    result = Dataset()
    with warnings.catch_warnings(action="ignore"):
        for keyword, value in elements.items():
            setattr(result, keyword, value)
    return result


def status_of(call: Callable[[], Any]) -> int:
    """The status of the StatusError that this raises."""
    with pytest.raises(dicomnet.StatusError) as caught:
        call()
    return caught.value.status
