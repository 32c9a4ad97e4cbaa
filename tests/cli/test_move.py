"""``dicomnet move``: instances to a destination, also to this computer (PS3.4 C.4.2)."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import dicomnet
from dicomnet import Peer, tls
from dicomnet.models import query_class
from tests.cli.conftest import Done, Scp
from tests.cli.in_process import press_ctrl_c
from tests.cli.programs import COMMAND, CT, HOST, instance
from tests.cli.terminal import Terminal
from tests.cli.test_get import STUDY, files

MOVE = query_class("study", "move")
Run = Callable[..., Done]


class Archive:
    """A server that knows ``places``."""

    def __init__(self) -> None:
        self.places: dict[str, Peer] = {}
        self.instances: Any = [instance(1), instance(2)]
        self.cancelled = threading.Event()
        self.errors: list[Any] = []
        self.ended = threading.Event()

    def move(self, request: Any) -> Any:
        place = self.places.get(request.destination)
        found = self.instances(request) if callable(self.instances) else self.instances
        return None if place is None else (place, found)

    def close(self, association: Any) -> None:
        self.errors.append(association.error)
        self.ended.set()


@pytest.fixture
def archive() -> Iterator[Archive]:
    archive = Archive()
    ae = dicomnet.AE("ARCHIVE", contexts=[MOVE])
    ae.on_c_move(archive.move)
    ae.on_close(archive.close)
    with dicomnet.serve(ae, HOST) as server:
        archive.peer = f"ARCHIVE@{HOST}:{server.port}"
        yield archive


def test_instances_go_to_somebody_else(command: Run, archive: Archive, serve: Callable[..., Scp]) -> None:
    scp = serve()
    archive.places["ELSE"] = Peer("ELSE", HOST, scp.port)
    done = command("move", archive.peer, "ELSE", *STUDY, "--json")
    assert done.code == 0
    assert len(scp.received) == 2
    assert [event["completed"] for event in done.events if event["event"] == "progress"][-1] == 2
    assert (done.events[-1]["completed"], done.events[-1]["stored"]) == (2, None)
    assert command("move", archive.peer, "ELSE", *STUDY).out.startswith("2 moved, 0 failed in ")


def test_what_the_destination_refuses_is_listed(command: Run, archive: Archive, serve: Callable[..., Scp]) -> None:
    """PS3.4 C.4.2.1.8: Failed SOP Instance UID List."""
    scp = serve()
    scp.answer = lambda request: 0 if request.sop_instance_uid == "1.2.3.1" else 0xA700
    archive.places["ELSE"] = Peer("ELSE", HOST, scp.port)
    done = command("move", archive.peer, "ELSE", *STUDY)
    assert done.code == 1
    assert done.err.startswith("failed 1.2.3.2: the peer could not deliver it")
    assert "1 moved, 1 failed" in done.out


def test_an_unknown_destination_is_explained(command: Run, archive: Archive) -> None:
    """A801"""
    done = command("move", archive.peer, "NOBODY", *STUDY)
    assert done.code == 1
    assert "move destination unknown" in done.err
    assert "it has to know the AE title NOBODY with its address and port" in done.err


class Told(dict[str, Peer]):
    """Where ``ME`` is the command has told when the peer is asked."""

    def __init__(self, piped: Any) -> None:
        self._piped = piped
        self.line: dict[str, Any] = {}

    def get(self, key: str, default: Any = None) -> Any:
        self.line = json.loads(self._piped.line())
        return Peer("ME", HOST, self.line["port"])


def test_instances_come_here(piped: Any, archive: Archive, tmp_path: Path) -> None:
    """All that the peer counts is stored when the command ends."""
    archive.instances = [instance(number, size=300_000) for number in range(5)]
    archive.places = places = Told(piped)
    done = piped("move", archive.peer, "ME", *STUDY, "--receive-here", tmp_path, "--port", 0, "--json")
    assert done.code == 0, done.err
    assert (places.line["event"], places.line["ae"], places.line["host"]) == ("listening", "ME", HOST)
    assert len(files(tmp_path)) == 5
    assert (done.events[-1]["completed"], done.events[-1]["stored"]) == (5, 5)


def test_instances_come_here_by_tls(piped: Any, tmp_path: Path) -> None:
    """The certificate of the requestor is that of the receiver, too."""
    authority = tls.make_test_ca(tmp_path / "ca")
    files_of = {"ca": authority.certificate, "certificate": authority.server.certificate, "key": authority.server.key}
    places = Told(piped)

    def move(request: Any) -> Any:
        there = places.get("ME")
        with dicomnet.associate(there, contexts=[CT], tls=tls.client_context(**files_of)) as back:
            return back.c_store(instance(1)).status

    ae = dicomnet.AE("ARCHIVE", contexts=[MOVE])
    ae.on_c_move(move)
    own = ["--tls-ca", authority.certificate, "--tls-cert", authority.server.certificate]
    with dicomnet.serve(ae, HOST, tls=tls.server_context(**files_of)) as server:
        peer, here = f"ARCHIVE@{HOST}:{server.port}", ["--receive-here", tmp_path / "in", "--port", 0, "--json"]
        done = piped("move", peer, "ME", *STUDY, *here, *own, "--tls-key", authority.server.key)
    assert done.code == 0, done.err
    assert places.line["tls"] is True
    assert len(files(tmp_path / "in")) == 1


def test_a_terminal_shows_how_far_it_is(archive: Archive, serve: Callable[..., Scp]) -> None:
    go_on = threading.Event()

    def instances(request: Any) -> Iterator[Any]:
        yield instance(1)
        assert go_on.wait(60)
        yield instance(2)

    archive.instances = instances
    archive.places["ELSE"] = Peer("ELSE", HOST, serve().port)
    with Terminal([*COMMAND, "move", archive.peer, "ELSE", *STUDY], columns=100) as terminal:
        terminal.wait_for(r"moving .* instances")
        go_on.set()
        assert terminal.wait() == 0
        assert "2 moved, 0 failed" in terminal.visible
        assert "moving" not in terminal.visible


def test_what_was_sent_elsewhere_is_noticed(
    command: Run, archive: Archive, serve: Callable[..., Scp], tmp_path: Path
) -> None:
    """The peer has another address for the title."""
    archive.places["ME"] = Peer("ME", HOST, serve().port)
    done = command("move", archive.peer, "ME", *STUDY, "--receive-here", tmp_path, "--port", 0)
    assert done.code == 1
    assert "counts 2 instances as sent, but only 0 arrived here" in done.err


def test_ctrl_c_cancels_and_releases(piped: Any, archive: Archive, serve: Callable[..., Scp]) -> None:
    def slow(request: Any) -> Iterator[Any]:
        yield instance(1)
        assert json.loads(piped.line())["event"] == "progress"
        press_ctrl_c()
        while not request.cancelled:
            threading.Event().wait(0.01)
        archive.cancelled.set()

    archive.instances = slow
    archive.places["ELSE"] = Peer("ELSE", HOST, serve().port)
    assert piped("move", archive.peer, "ELSE", *STUDY, "--json").code == 130
    assert archive.cancelled.is_set()
    assert archive.ended.wait(30)
    assert archive.errors == [None]


def test_where_it_cannot_listen_it_says_so(command: Run, archive: Archive, tmp_path: Path, free_port: int) -> None:
    done = command("move", archive.peer, "ME", *STUDY, "--receive-here", tmp_path, "--port", free_port)
    assert done.code == 2
    assert "--port" in done.err
