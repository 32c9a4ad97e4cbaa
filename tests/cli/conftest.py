"""What the tests of the command line share: commands run in this process, servers, certificates."""

from __future__ import annotations

import contextlib
import datetime
import functools
import ipaddress
import json
import logging
import queue
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import dicomnet
from dicomnet.cli.program import run
from tests.cli.programs import CT, HOST, MR, SC


@dataclass
class Done:
    """A command that ended."""

    code: int
    out: str
    err: str

    name: str = ""

    @property
    def events(self) -> list[dict[str, Any]]:
        """What it printed with ``--json``: nothing but what the manual lists."""
        events = [json.loads(line) for line in self.out.splitlines()]
        listed = import_module(f"dicomnet.cli.{self.name}").command.events
        for event in events:
            assert event.keys() - {"event"} <= listed[event["event"]].keys()
        return events


@pytest.fixture
def command(capfd: pytest.CaptureFixture[str], logging_as_before: None) -> Callable[..., Done]:
    """Runs a command line in this process; afterwards logging is as it was."""

    def call(*arguments: Any) -> Done:
        capfd.readouterr()
        code = run([str(argument) for argument in arguments])
        captured = capfd.readouterr()
        return Done(code, captured.out, captured.err, str(arguments[0]) if arguments else "")

    return call


@pytest.fixture
def logging_as_before() -> Iterator[None]:
    """Commands set up logging for their process."""
    loggers = [logging.getLogger(name) for name in ("dicomnet", "py.warnings")]
    before = [(logger.handlers, logger.propagate, logger.level) for logger in loggers]
    yield
    logging.captureWarnings(False)
    for logger, (handlers, propagate, level) in zip(loggers, before, strict=True):
        logger.handlers, logger.propagate = handlers, propagate
        logger.setLevel(level)


@pytest.fixture
def piped(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], logging_as_before: None
) -> Callable[..., Done]:
    """Runs a command line in this process; its lines can be read while it runs."""
    from tests.cli.in_process import Piped

    return Piped(monkeypatch, capfd)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch, logging_as_before: None) -> Callable[..., Any]:
    """Runs a command line in this process, on a terminal."""
    from tests.cli import in_process

    return functools.partial(in_process.drawn, monkeypatch)


@dataclass
class Scp:
    """A server in this process, with what it saw. ``answer`` may be set: called for each C-STORE and C-ECHO."""

    port: int = 0
    received: list[dicomnet.EncodedDataset] = field(default_factory=list)
    associations: list[Any] = field(default_factory=list)
    closed: queue.SimpleQueue[Any] = field(default_factory=queue.SimpleQueue)
    answer: Callable[[Any], Any] = field(default=lambda request: dicomnet.Status.SUCCESS)

    @property
    def peer(self) -> str:
        return f"SCP@{HOST}:{self.port}"

    def ended(self) -> Any:
        """The next association that has ended; the server may know a moment after the requestor."""
        return self.closed.get(timeout=30)

    def handle(self, request: Any) -> Any:
        status = self.answer(request)
        if request.dataset is not None and status == 0:
            self.received.append(request.dataset)
        return status


@pytest.fixture
def serve() -> Iterator[Callable[..., Scp]]:
    """Starts a server; it ends with the test."""
    with contextlib.ExitStack() as stack:

        def start(tls: Any = None, port: int = 0, **options: Any) -> Scp:
            scp = Scp()
            options.setdefault("contexts", [dicomnet.Verification, CT, MR, SC])
            ae = dicomnet.AE("SCP", **options)
            ae.on_c_store(scp.handle)
            ae.on_c_echo(scp.handle)
            ae.on_association(scp.associations.append)
            ae.on_close(scp.closed.put)
            scp.port = stack.enter_context(dicomnet.serve(ae, HOST, port, tls=tls)).port
            return scp

        yield start


@pytest.fixture
def speaker() -> Iterator[Callable[[bytes], str]]:
    """Starts what is no DICOM server: it reads a little, says something and closes. Returns the PEER to try."""
    with contextlib.ExitStack() as stack:

        def start(says: bytes) -> str:
            listener = stack.enter_context(socket.create_server((HOST, 0)))

            def answer() -> None:
                with contextlib.suppress(OSError):
                    while True:
                        connection, _ = listener.accept()
                        with connection:
                            connection.recv(65536)
                            connection.sendall(says)

            thread = threading.Thread(target=answer, daemon=True)
            thread.start()
            stack.callback(thread.join)
            stack.callback(listener.shutdown, socket.SHUT_RDWR)
            return f"SCP@{HOST}:{listener.getsockname()[1]}"

        yield start


@pytest.fixture
def reserved() -> Iterator[socket.socket]:
    """A socket that has a port and does not listen: nobody else can take it, and connections are refused."""
    with socket.socket() as bound:
        bound.bind((HOST, 0))
        yield bound


@pytest.fixture
def free_port(reserved: socket.socket) -> int:
    """Where nothing listens."""
    port: int = reserved.getsockname()[1]
    return port


@dataclass(frozen=True)
class Credentials:
    """PEM files: a certificate for 127.0.0.1 that signed itself, and its key."""

    certificate: Path
    key: Path


@pytest.fixture(scope="session")
def credentials(tmp_path_factory: pytest.TempPathFactory) -> Credentials:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(True, None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(HOST))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    folder = tmp_path_factory.mktemp("tls")
    made = Credentials(folder / "certificate.pem", folder / "key.pem")
    made.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    made.key.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return made
