"""``dicomnet send --commit`` and ``--verify``: whether it is there, and that the ledger knows (PS3.4 J, C)."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset, dcmread

import dicomnet
from dicomnet.sender import verifying
from dicomnet.services import commitment
from dicomnet.services.matching import Query
from tests.cli.conftest import Done
from tests.cli.programs import CT, HOST, MR, file, instance
from tests.interop import peers
from tests.pydicom_files import shipped

Command = Callable[..., Done]
PUSH = commitment.StorageCommitmentPushModel
NEAR_LOSSLESS = "1.2.840.10008.1.2.4.81"


class Archive:
    """Stores, commits to what it has, and is asked for it. ``asked``: sizes of the requests; ``lost``: UIDs."""

    def __init__(self, contexts: list[Any], **options: Any) -> None:
        self.there: set[str] = set()
        self.lost: set[str] = set()
        self.asked: list[int] = []
        self.ae = dicomnet.AE("SCP", contexts=[*contexts, *verifying.contexts()])
        self.ae.on_c_store(self.keep)
        self.ae.on_c_find(self.find)
        self.courier = commitment.provide(self.ae, self.verdict, **options)

    def keep(self, request: Any) -> int:
        self.there.add(request.sop_instance_uid)
        return 0

    def verdict(self, instances: Any) -> set[str]:
        self.asked.append(len(instances))
        return self.there - self.lost

    def find(self, request: Any) -> Iterator[Dataset]:
        query = Query(request.dataset.decode())
        for uid in sorted(self.there - self.lost):
            candidate = Dataset()
            candidate.SOPInstanceUID = uid
            candidate.StudyInstanceUID = candidate.SeriesInstanceUID = "1.2"
            if query.matches(candidate):
                yield query.response(candidate)


@pytest.fixture
def archive() -> Iterator[Callable[..., Any]]:
    """Start one: it and its address."""
    servers: list[Any] = []

    def start(contexts: list[Any] | None = None, **options: Any) -> tuple[Archive, str]:
        made = Archive(contexts or [CT, MR], **options)
        servers.append(dicomnet.serve(made.ae, HOST, 0))
        return made, f"SCP@{HOST}:{servers[-1].port}"

    yield start
    for server in servers:
        server.close()


def rows(ledger: Path, what: str) -> list[Any]:
    with sqlite3.connect(ledger) as connection:
        found = connection.execute(f"SELECT {what} FROM file ORDER BY id").fetchall()
    connection.close()
    return found


def uid(number: int) -> str:
    return instance(number).sop_instance_uid


def in_a_study(folder: Path, number: int) -> Path:
    return file(folder, number, StudyInstanceUID="1.2", SeriesInstanceUID="1.2")


def test_committed_without_a_ledger(command: Command, archive: Any, tmp_path: Path) -> None:
    scp, peer = archive()
    done = command("send", peer, file(tmp_path, 1), file(tmp_path, 2), "--commit")
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines()[-1] == "2 committed, 0 failed, 0 without an answer"
    assert scp.asked == [2]


def test_what_is_not_committed_is_exit_code_1_and_told(command: Command, archive: Any, tmp_path: Path) -> None:
    """PS3.3 C.14.1.1: why, in words."""
    scp, peer = archive()
    scp.lost.add(uid(2))
    done = command("send", peer, file(tmp_path, 1), file(tmp_path, 2), "--commit")
    assert done.code == 1
    assert f"not confirmed: {uid(2)}: the peer does not have this instance (0x0112)" in done.err
    assert done.out.splitlines()[-1] == "1 committed, 1 failed, 0 without an answer"
    done = command("send", peer, file(tmp_path, 1), file(tmp_path, 2), "--commit", "--json")
    *_, confirmed, unconfirmed, summary = sorted(done.events, key=lambda event: event["event"] == "confirmation")
    assert confirmed == {"event": "confirmed", "sop_instance_uid": uid(1), "state": "committed"}
    assert (unconfirmed["sop_instance_uid"], unconfirmed["state"]) == (uid(2), "failed")
    assert (summary["confirmed"], summary["failed"], summary["unanswered"]) == (1, 1, 0)


def test_a_second_run_asks_only_for_what_has_no_answer(command: Command, archive: Any, tmp_path: Path) -> None:
    """The ledger has the transaction while it is open, and the answer afterwards."""
    ledger = tmp_path / "ledger"
    silent, peer = archive()
    silent.courier.close()  # takes requests, and cannot report
    files = [file(tmp_path, 1), file(tmp_path, 2)]
    done = command("send", peer, files[0], "--ledger", ledger, "--commit", "--confirm-wait", 0.1)
    assert done.code == 1
    ((transaction, answer),) = rows(ledger, "transaction_uid, confirmation")
    assert answer is None
    assert silent.asked == []

    courier = commitment.provide(silent.ae, silent.verdict)
    done = command("send", peer, *files, "--ledger", ledger, "--commit")
    assert (done.code, silent.asked) == (0, [2])
    assert courier.settled(10)
    assert [answer for (answer,) in rows(ledger, "confirmation")] == ["committed", "committed"]
    assert transaction not in {one for (one,) in rows(ledger, "transaction_uid")}

    done = command("send", peer, *files, "--ledger", ledger, "--commit")
    assert (done.code, silent.asked) == (0, [2])
    assert done.out.splitlines()[-1] == "0 confirmed, 0 failed, 0 without an answer"


def test_a_report_on_a_new_association_is_taken_on_our_port(command: Command, archive: Any, tmp_path: Path) -> None:
    """PS3.4 J.3.3: the archive has our address."""
    free = dicomnet.serve(dicomnet.AE("X"), HOST, 0)
    port = free.port
    free.close()
    _, peer = archive(same_association=False, peers={"ME": f"ME@{HOST}:{port}"})
    one = file(tmp_path, 1)
    arguments = ("--commit", "--calling", "ME", "--commit-port", port, "--commit-host", HOST)
    done = command("send", peer, one, *arguments)
    assert (done.code, done.out.splitlines()[-1]) == (0, "1 committed, 0 failed, 0 without an answer")

    with dicomnet.serve(dicomnet.AE("X"), HOST, port):
        done = command("send", peer, one, *arguments)
    assert done.code == 2
    assert "--commit-port: cannot listen" in done.err
    assert "sent" not in done.out, "that is known before anything is sent"


def test_what_is_compressed_with_loss_is_confirmed_under_the_uid_that_was_sent(
    command: Command, archive: Any, tmp_path: Path
) -> None:
    """PS3.3 C.7.6.1.1.5: it is a new instance."""
    scp, peer = archive([(MR, [NEAR_LOSSLESS])])
    ledger = tmp_path / "ledger"
    done = command("send", peer, shipped("MR_small.dcm"), "--transcode", "any", "--commit", "--ledger", ledger)
    assert done.code == 0
    (new,) = scp.there
    assert rows(ledger, "sop_instance_uid, confirmation") == [(new, "committed")]
    (again,) = dicomnet.send(shipped("MR_small.dcm"), peer, transcode="any")
    assert (again.sop_instance_uid, again.derived_from) == (new, dcmread(shipped("MR_small.dcm")).SOPInstanceUID)
    assert scp.there == {new}, "the same one each time, so that it is not there twice"


def test_verified_by_a_query(command: Command, archive: Any, tmp_path: Path) -> None:
    scp, peer = archive()
    scp.lost.add(uid(2))
    ledger = tmp_path / "ledger"
    files = [in_a_study(tmp_path, 1), in_a_study(tmp_path, 2)]
    arguments = ("send", peer, *files, "--verify", "--confirm-wait", 0.2, "--ledger", ledger)
    done = command(*arguments)
    assert done.code == 1
    assert f"not confirmed: {uid(2)}: the peer does not find this instance" in done.err
    assert done.out.splitlines()[-1] == "1 confirmed, 1 failed, 0 without an answer"
    assert rows(ledger, "confirmation") == [("verified",), ("the peer does not find this instance",)]
    assert command(*arguments).code == 0, "each has its answer"


def test_another_peer_may_be_asked(command: Command, archive: Any, tmp_path: Path) -> None:
    """Who stores and who is asked need not be the same AE."""
    scp, peer = archive()
    elsewhere, other = archive()
    elsewhere.there = {uid(1)}
    done = command("send", peer, in_a_study(tmp_path, 1), "--verify", "--confirm-peer", other)
    assert (done.code, scp.there) == (0, {uid(1)})


def test_a_peer_that_does_not_commit_is_told(command: Command, serve: Any, tmp_path: Path) -> None:
    done = command("send", serve().peer, file(tmp_path, 1), "--commit")
    assert done.code == 1
    assert "1 not confirmed: " in done.err
    assert done.out.splitlines()[-1] == "0 confirmed, 0 failed, 1 without an answer"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [(("--commit", "--verify"), "--commit or --verify"), (("--commit-port", 0), "--commit-port is for --commit")],
)
def test_what_does_not_go_together(command: Command, tmp_path: Path, arguments: tuple[Any, ...], text: str) -> None:
    done = command("send", f"SCP@{HOST}:1", file(tmp_path, 1), *arguments)
    assert done.code == 2
    assert text in done.err


def test_dcmqrscp_is_asked_for_what_it_was_sent(command: Command, dcmtk: Callable[[str], Path], tmp_path: Path) -> None:
    """DCMTK's archive."""
    with peers.dcmqrscp(dcmtk, tmp_path / "qr") as program:
        (tmp_path / "qr" / "stored").mkdir(exist_ok=True)
        files = [shipped("CT_small.dcm"), shipped("MR_small_RLE.dcm")]
        done = command("send", f"ARCHIVE@{HOST}:{program.port}", *files, "--verify")
    assert (done.code, done.out.splitlines()[-1]) == (0, "2 confirmed, 0 failed, 0 without an answer")
