"""What the tests of the faces share: the faces, servers that end with their test, the check that nothing is left."""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import dicomnet
from dicomnet.config import Timeouts
from tests.faces.face import FACES, Face
from tests.faces.wire import CT, EXPLICIT

QUICK = 0.3  # seconds: a time limit that a test waits for
BACK = 5.0  # seconds in which everything has to be back as it was (§4)


def eventually(holds: Callable[[], object], what: str) -> None:
    """Wait until it does; fail if it does not within the limit of §4."""
    deadline = time.monotonic() + BACK
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.002)


@pytest.fixture(params=FACES)
def client(request: pytest.FixtureRequest) -> Face:
    """The face that requests associations."""
    return FACES[request.param]


@pytest.fixture(params=FACES)
def server_face(request: pytest.FixtureRequest) -> Face:
    """The face that serves."""
    return FACES[request.param]


class Scp:
    """A served AE "SCP", with what its handlers have seen."""

    def __init__(self, face: Face, stack: contextlib.ExitStack, spool: Path, **options: Any) -> None:
        serving = {name: options.pop(name) for name in ("host", "tls", "clear_text") if name in options}
        options = {"contexts": [dicomnet.Verification, CT], "spool_folder": spool} | options
        self.spool = spool
        self.ae = dicomnet.AE("SCP", **options)
        self.received: list[bytes] = []
        self.requests: list[Any] = []
        self.closed: list[Any] = []
        self.ae.on_c_store(self._keep)
        self.ae.on_close(self.closed.append)
        self._serve = lambda: stack.enter_context(face.serve(self.ae, serving.pop("host", "127.0.0.1"), 0, **serving))
        self._server: Any = None

    def _keep(self, request: Any) -> int:
        self.requests.append(request)
        self.received.append(bytes(request.dataset))
        return 0

    @property
    def server(self) -> Any:
        """Started when it is first asked for, so that a test can put other handlers in before."""
        if self._server is None:
            self._server = self._serve()
        return self._server

    @property
    def port(self) -> int:
        port: int = self.server.port
        return port

    @property
    def peer(self) -> str:
        return f"SCP@127.0.0.1:{self.port}"

    def close_errors(self, count: int) -> list[Any]:
        """Why each of ``count`` associations ended, once they have."""
        eventually(lambda: len(self.closed) >= count, f"{count} associations end")
        assert len(self.closed) == count
        return [association.error for association in self.closed]


@pytest.fixture
def scp(server_face: Face, tmp_path: Path) -> Iterator[Callable[..., Scp]]:
    """``scp(**options)``: an ``Scp`` with these options of AE; ``host``, ``tls`` and ``clear_text`` go to ``serve``."""
    spool = tmp_path / "spool"
    spool.mkdir()
    with contextlib.ExitStack() as stack:
        yield lambda **options: Scp(server_face, stack, spool, **options)


@pytest.fixture(autouse=True)
def _nothing_is_left(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """§4: after every case threads, descriptors and temporary files are back within 5 s."""
    caplog.set_level(logging.INFO, logger="dicomnet")
    before = threads(), descriptors()
    yield
    eventually(lambda: threads() <= before[0], f"threads are back to {before[0]}; now {threading.enumerate()}")
    eventually(lambda: descriptors() <= before[1] or _collected(), "descriptors are back")
    eventually(lambda: not spooled(tmp_path / "spool") or _collected(), "spool files are gone")


def _collected() -> bool:
    """Only what asks for it pays for a collection; False: look again."""
    gc.collect()
    return False


def threads() -> int:
    """Those of the library and the tests; an event loop and its pool of handler threads stay for the next test."""
    return sum(not thread.name.startswith(("event loop", "asyncio_")) for thread in threading.enumerate())


def descriptors() -> int:
    try:
        return len(os.listdir("/proc/self/fd"))
    except OSError:  # not on this platform
        return 0


def spooled(folder: Path) -> list[str]:
    return os.listdir(folder) if folder.exists() else []


def quick(*names: str, **others: float | None) -> Timeouts:
    """Time limits of which the named ones pass soon."""
    return Timeouts(**{"closing": QUICK, **dict.fromkeys(names, QUICK), **others})


def ct(data: bytes | bytearray, transfer_syntax: str = EXPLICIT, instance: str = "1.2.3.4") -> dicomnet.EncodedDataset:
    """``data`` as if it were an encoded CT image."""
    return dicomnet.EncodedDataset(data, transfer_syntax, CT, instance)
