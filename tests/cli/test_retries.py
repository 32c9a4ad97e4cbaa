"""``dicomnet.send`` to peers that misbehave: nothing fails for what another file or association did."""

import contextlib
import json
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import dicomnet
from dicomnet.dimse import messages
from dicomnet.dimse.messages import Request
from dicomnet.sender import Outcome, send
from dicomnet.ul import pdu
from tests.cli.conftest import Done, Scp
from tests.cli.programs import HOST, file
from tests.faces.wire import USER, Scripted, Wire, store_rsp

Serve = Callable[..., Scp]


def accepted(request: pdu.AssociateRq) -> pdu.AssociateAc:
    """All that was asked for."""
    contexts = tuple(pdu.AnsweredContext(one.id, 0, one.transfer_syntaxes[0]) for one in request.contexts)
    return pdu.AssociateAc(request.called_ae, request.calling_ae, contexts, USER)


class Moody:
    """A raw SCP that rejects every third association and resets the connection at every 50th C-STORE-RQ.

    ``stored``: the instances whose success it has sent.
    """

    def __init__(self, rejection: pdu.AssociateRj) -> None:
        self._rejection = rejection
        self._listener = socket.create_server((HOST, 0))
        self.peer = f"SCP@{HOST}:{self._listener.getsockname()[1]}"
        self.stored: list[str] = []
        self.associations = self.requests = self.rejected = self.resets = 0
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self._threads.append(threading.Thread(target=self._serve, args=(connection,)))
                self._threads[-1].start()

    def _serve(self, connection: socket.socket) -> None:
        with Wire(connection) as wire, contextlib.suppress(ConnectionError):
            request = wire.hears()
            if not isinstance(request, pdu.AssociateRq):
                return
            with self._lock:
                self.associations += 1
                reject = self.associations % 3 == 0
                self.rejected += reject
            if reject:
                wire.sends(self._rejection).hears_to_the_end()
                return
            wire.sends(accepted(request))
            self._store(wire)

    def _store(self, wire: Wire) -> None:
        command = None
        while (heard := wire.hears()) is not None:
            if isinstance(heard, pdu.ReleaseRq):
                wire.sends(pdu.ReleaseRp()).hears_to_the_end()
                return
            assert isinstance(heard, pdu.PDataTf), heard
            for fragment in heard.pdvs:
                if fragment.is_command:
                    command = messages.decode(fragment.data)
                elif fragment.is_last:
                    assert isinstance(command, Request)
                    with self._lock:
                        self.requests += 1
                        reset = self.requests % 50 == 0
                        self.resets += reset
                    if reset:
                        wire.resets()
                        return
                    context = fragment.context_id
                    response = bytearray(store_rsp(command.message_id))
                    response[10] = context
                    wire.sends(bytes(response))
                    self.stored.append(command.sop_instance_uid)


TRANSIENT, PERMANENT = pdu.AssociateRj(2, 3, 2), pdu.AssociateRj(1, 1, 1)


@pytest.fixture(params=[TRANSIENT, PERMANENT], ids=["transient", "permanent"])
def moody(request: pytest.FixtureRequest) -> Iterator[Moody]:
    scp = Moody(request.param)
    yield scp
    scp.close()


def test_all_arrive_where_associations_are_rejected_and_connections_reset(
    tmp_path: Path, moody: Moody, command: Callable[..., Done]
) -> None:
    """With the default attempts. Where it was accepted before, even "rejected-permanent" is no reason to give up."""
    content = file(tmp_path, 100).read_bytes()
    folder = tmp_path / "files"
    folder.mkdir()
    for number in range(100, 500):
        (folder / f"{number}.dcm").write_bytes(content.replace(b"1.2.3.100", b"1.2.3.%d" % number))
    done = command("send", moody.peer, folder, "--backoff", 0.05, "--json")
    *each, summary = [json.loads(line) for line in done.out.splitlines()]
    assert done.code == 0, done.err
    assert {event["event"] for event in each} == {"sent"}
    assert (summary["sent"], summary["failed"]) == (400, 0)
    assert len(moody.stored) == len(set(moody.stored)) == 400
    assert moody.resets >= 8
    assert moody.rejected >= 1
    assert sum(event["attempts"] for event in each) == moody.requests == 400 + moody.resets


def outcomes(paths: Any, scp: Any, **options: Any) -> list[Outcome]:
    return list(send(paths, scp.peer, **{"backoff": 0.001, "calling_ae": "ME"} | options))


# --- the deadline of a file -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("window", [1, 4])
def test_a_file_that_takes_longer_than_its_deadline_fails_alone(tmp_path: Path, serve: Serve, window: int) -> None:
    """What was outstanding with it is sent again, and that is no attempt of it in vain."""
    scp = serve(async_ops=(window, window), timeouts=dicomnet.Timeouts(closing=0.05))
    ended = threading.Event()

    def answer(request: Any) -> int:
        if request.sop_instance_uid.endswith(".2"):
            ended.wait()
        return 0

    scp.answer = answer
    paths = [file(tmp_path, number) for number in range(6)]
    found = []
    for outcome in send(paths, scp.peer, window=window, associations=1, deadline=0.3, attempts=1, calling_ae="ME"):
        found.append(outcome)
        if not outcome.ok:
            ended.set()
    assert sorted(outcome.path for outcome in found) == paths
    (late,) = [outcome for outcome in found if not outcome.ok]
    assert late.path == paths[2]
    assert isinstance(late.error, dicomnet.DeadlineExceeded)
    assert (late.error.timer, late.error.seconds, late.attempts) == ("deadline", 0.3, 1)


def test_retries_are_included(tmp_path: Path, serve: Serve) -> None:
    scp = serve()
    scp.answer = lambda request: 0xA700
    (done,) = outcomes(file(tmp_path), scp, attempts=1000, backoff=0.05, deadline=0.4)
    assert isinstance(done.error, dicomnet.DeadlineExceeded)
    assert 1 < done.attempts < 20


def test_a_deadline_between_two_attempts_is_not_waited_out(tmp_path: Path, serve: Serve) -> None:
    scp = serve()
    scp.answer = lambda request: 0xA700
    (done,) = outcomes(file(tmp_path), scp, backoff=1000, deadline=0.1)
    assert (type(done.error), done.attempts) == (dicomnet.DeadlineExceeded, 1)


def test_a_peer_that_does_not_read_is_no_longer_waited_for(tmp_path: Path) -> None:
    """Half a message is on its way then; the association is of no use any more."""

    def script(wire: Wire) -> None:
        request = wire.hears()
        assert isinstance(request, pdu.AssociateRq)
        wire.sends(accepted(request))
        wire.may_end.wait(30)

    scp = Scripted(script)
    path = file(tmp_path, size=30_000_000)
    with scp:
        timeouts = dicomnet.Timeouts(closing=0.1)
        (done,) = outcomes(path, scp, deadline=0.3, timeouts=timeouts)
        scp.may_end.set()
    assert isinstance(done.error, dicomnet.DeadlineExceeded)
    assert done.error.timer == "deadline"


def test_a_deadline_is_more_than_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="deadline"):
        send(tmp_path, "A@b", deadline=0)
