"""What the tests of ``dicomnet.probe`` share: servers that say what a test wants."""

from __future__ import annotations

import contextlib
import socket
import socketserver
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

import dicomnet
from dicomnet.config import Timeouts

HOST = "127.0.0.1"
SOON = Timeouts(connect=20.0, tls=20.0, associate=20.0, response=20.0, release=5.0, closing=0.2, send=5.0)
HASTY = replace(SOON, associate=0.3)  # for who never answers


@pytest.fixture(autouse=True)
def little_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither rates nor pauses are what these tests are about."""
    monkeypatch.setattr("dicomnet.probe.pace._RATE_TIME", 0.02)
    monkeypatch.setattr("dicomnet.probe.surveyor._PATIENCE", 0.0)


@pytest.fixture
def serve() -> Iterator[Callable[..., str]]:
    """Starts a server of ours and returns the PEER to ask; it ends with the test."""
    with contextlib.ExitStack() as stack:

        def start(*, tls: Any = None, **options: Any) -> str:
            server = stack.enter_context(dicomnet.serve(dicomnet.AE("SCP", **options), HOST, 0, tls=tls))
            return f"SCP@{HOST}:{server.port}"

        yield start


@pytest.fixture
def listen_many() -> Iterator[Callable[[Callable[[socket.socket], None]], str]]:
    """As ``listen``, but for connections at the same time."""
    with contextlib.ExitStack() as stack:

        def start(talk: Callable[[socket.socket], None]) -> str:
            class Handler(socketserver.BaseRequestHandler):
                def handle(self) -> None:
                    with contextlib.suppress(OSError):
                        self.request.settimeout(10)
                        talk(self.request)

            server = stack.enter_context(socketserver.ThreadingTCPServer((HOST, 0), Handler))
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
            thread.start()
            stack.callback(thread.join)
            stack.callback(server.shutdown)
            return f"SCP@{HOST}:{server.server_address[1]}"

        yield start


@pytest.fixture
def listen() -> Iterator[Callable[[Callable[[socket.socket], None]], str]]:
    """Starts a server that does ``talk(connection)`` with each connection, one after the other; returns the PEER."""
    with contextlib.ExitStack() as stack:

        def start(talk: Callable[[socket.socket], None]) -> str:
            listener = stack.enter_context(socket.create_server((HOST, 0)))

            def answer() -> None:
                with contextlib.suppress(OSError):
                    while True:
                        connection, _ = listener.accept()
                        with connection, contextlib.suppress(OSError):
                            connection.settimeout(10)
                            talk(connection)

            thread = threading.Thread(target=answer, daemon=True)
            thread.start()
            stack.callback(thread.join)
            stack.callback(listener.shutdown, socket.SHUT_RDWR)
            return f"SCP@{HOST}:{listener.getsockname()[1]}"

        yield start
