"""The ledger of ``dicomnet.send``: what was answered is written down, and what is written down is not sent again."""

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import dicomnet
from dicomnet.sender import Outcome, recorder, send
from dicomnet.sender.ledger import VERSION, Ledger
from tests.cli.conftest import Done, Scp
from tests.cli.programs import CT, EXPLICIT, HOST, file

Serve = Callable[..., Scp]


def outcomes(paths: Any, scp: Scp, ledger: Any, **options: Any) -> list[Outcome]:
    return list(send(paths, scp.peer, calling_ae="ME", backoff=0.001, ledger=ledger, **options))


def rows(ledger: Path, what: str = "*") -> list[Any]:
    """As an operator asks."""
    connection = sqlite3.connect(ledger)
    try:
        return connection.execute(f"SELECT {what} FROM outcome ORDER BY path").fetchall()
    finally:
        connection.close()


@pytest.fixture
def files(tmp_path: Path) -> Path:
    for number in range(1, 4):
        file(tmp_path / "files", number)
    return tmp_path / "files"


@pytest.mark.parametrize("processes", [1, 2])
def test_the_same_again_sends_nothing(tmp_path: Path, files: Path, serve: Serve, processes: int) -> None:
    scp, ledger = serve(), tmp_path / "ledger"
    first = outcomes(files, scp, ledger, processes=processes)
    assert [(outcome.ok, outcome.recorded, outcome.attempts) for outcome in first] == [(True, False, 1)] * 3
    again = outcomes(files, scp, ledger, processes=processes)
    assert [(outcome.ok, outcome.recorded, outcome.attempts) for outcome in again] == [(True, True, 0)] * 3
    assert [outcome.path for outcome in again] == sorted(outcome.path for outcome in first)
    assert len(scp.received) == 3


def test_what_it_says_of_a_file(tmp_path: Path, serve: Serve) -> None:
    scp, ledger, path = serve(), tmp_path / "ledger", file(tmp_path)
    scp.answer = lambda request: 0xB000
    (done,) = outcomes(path, scp, ledger)
    columns = "peer, path, file_size, mtime_ns, sop_class_uid, sop_instance_uid, transfer_syntax, sent, status, error,"
    found = path.stat()
    assert rows(ledger, f"{columns} reason, attempts, size, confirmation") == [
        (
            *(scp.peer, str(path), found.st_size, found.st_mtime_ns, CT, "1.2.3.1", EXPLICIT, 1, 0xB000, None),
            *("warning: coercion of data elements", 1, done.size, None),
        )
    ]
    assert (done.sop_class_uid, done.sop_instance_uid, done.transfer_syntax) == (CT, "1.2.3.1", EXPLICIT)
    (again,) = outcomes(path, scp, ledger)
    assert (again.status, again.sop_class_uid, again.sop_instance_uid) == (0xB000, CT, "1.2.3.1")


def test_what_failed_is_tried_again(tmp_path: Path, files: Path, serve: Serve) -> None:
    scp, ledger = serve(), tmp_path / "ledger"
    scp.answer = lambda request: dicomnet.Response(0xC123, error_comment="no") if request.message_id == 2 else 0
    assert sorted(outcome.ok for outcome in outcomes(files, scp, ledger)) == [False, True, True]
    assert sorted(rows(ledger, "sent, status, reason")) == [
        *[(0, 0xC123, "error: cannot understand: no")],
        *[(1, 0, None)] * 2,
    ]
    scp.answer = lambda request: 0
    again = outcomes(files, scp, ledger)
    assert sorted((outcome.ok, outcome.recorded) for outcome in again) == [(True, False), (True, True), (True, True)]
    assert set(rows(ledger, "sent, status, reason")) == {(1, 0, None)}
    assert len(scp.received) == 3


def test_a_file_that_changed_is_sent_again(tmp_path: Path, serve: Serve) -> None:
    """The new content is not what the peer has, nor what was confirmed."""
    scp, ledger, path = serve(), tmp_path / "ledger", file(tmp_path)
    outcomes(path, scp, ledger)
    with Ledger(ledger) as opened:
        opened.confirm(dicomnet.Peer.parse(scp.peer), {"1.2.3.1": "committed"})
    os.utime(path, ns=(1, 1))
    (again,) = outcomes(path, scp, ledger)
    assert (again.recorded, len(scp.received)) == (False, 2)
    assert rows(ledger, "mtime_ns, confirmation") == [(1, None)]


def test_each_destination_is_by_itself(tmp_path: Path, serve: Serve) -> None:
    one, two, ledger, path = serve(), serve(), tmp_path / "ledger", file(tmp_path)
    for scp in (one, two):
        (done,) = outcomes(path, scp, ledger)
        assert not done.recorded
    assert {peer for (peer,) in rows(ledger, "peer")} == {one.peer, two.peer}


def test_a_file_that_has_gone_is_still_known_to_have_been_sent(tmp_path: Path, serve: Serve) -> None:
    scp, ledger, path, missing = serve(), tmp_path / "ledger", file(tmp_path), tmp_path / "missing"
    outcomes(path, scp, ledger)
    path.unlink()
    assert [type(outcome.error) for outcome in outcomes([path, missing], scp, ledger)] == [FileNotFoundError] * 2
    assert rows(ledger, "sent, error, mtime_ns IS NULL") == [(1, None, 0), (0, "FileNotFoundError", 1)]


def test_names_that_are_no_text(tmp_path: Path, serve: Serve) -> None:
    scp, ledger, path = serve(), tmp_path / "ledger", tmp_path / "a\udcff'\n.dcm"
    os.rename(file(tmp_path), path)
    assert [outcome.recorded for _ in range(2) for outcome in outcomes(path, scp, ledger)] == [False, True]
    with Ledger(ledger) as opened:
        assert [sent.path for sent in opened.unconfirmed(dicomnet.Peer.parse(scp.peer))] == [str(path)]


def test_an_outcome_is_written_before_it_is_told(tmp_path: Path, serve: Serve) -> None:
    """By the time the caller has it, everybody can read it."""
    scp, ledger = serve(), tmp_path / "ledger"
    paths = [file(tmp_path, number) for number in range(30)]
    for count, outcome in enumerate(send(paths, scp.peer, ledger=ledger), 1):
        assert outcome.ok
        assert len(rows(ledger)) >= count


def test_an_answer_is_written_although_nobody_asks_for_its_outcome(tmp_path: Path, serve: Serve) -> None:
    """The caller may be slow: that it has been sent is known at once."""
    scp, ledger = serve(), tmp_path / "ledger"
    running = send([file(tmp_path, number) for number in range(1, 3)], scp.peer, ledger=ledger)
    assert next(running).ok
    while len(rows(ledger)) < 2:
        threading.Event().wait(0.01)
    running.close()


def test_killed_it_sends_nothing_twice_that_was_told(tmp_path: Path, serve: Serve) -> None:
    scp, ledger = serve(), tmp_path / "ledger"
    for number in range(300):
        file(tmp_path / "files", number)
    program = (
        "import sys, dicomnet\n"
        "for outcome in dicomnet.send(sys.argv[1], sys.argv[2], ledger=sys.argv[3]):\n"
        "    print(outcome.sop_instance_uid, flush=True)\n"
    )
    told: list[str] = []
    for kill_after in (60, 60):
        command = [sys.executable, "-c", program, str(tmp_path / "files"), scp.peer, str(ledger)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            new = len(told) + kill_after
            while len(told) < new:
                told.append(process.stdout.readline().strip())
            process.send_signal(signal.SIGKILL)
            told += process.stdout.read().splitlines()
    written = {uid for (uid,) in rows(ledger, "sop_instance_uid")}
    assert set(told) <= written
    before = len(scp.received)
    assert all(outcome.ok for outcome in outcomes(tmp_path / "files", scp, ledger))
    last_run = [dataset.sop_instance_uid for dataset in scp.received[before:]]
    assert not written & set(last_run)
    assert {dataset.sop_instance_uid for dataset in scp.received} == {f"1.2.3.{number}" for number in range(300)}


def on_disk(ledger: Path) -> int:
    """How many rows would be there if the log were lost: it is left out."""
    with contextlib.closing(sqlite3.connect(f"file:{ledger}?immutable=1", uri=True)) as connection:
        try:
            return int(connection.execute("SELECT count(*) FROM file").fetchone()[0])
        except sqlite3.DatabaseError:  # not even the table; or the log is just being written into the file
            return 0


def test_a_commit_waits_for_no_disk_and_a_flush_does(tmp_path: Path) -> None:
    with Ledger(tmp_path / "ledger") as ledger:
        assert ledger._connection.execute("PRAGMA synchronous").fetchone() == (1,)  # NORMAL
        ledger.record(dicomnet.Peer("SCP", HOST), [Outcome("/1", dicomnet.Status.SUCCESS)])
        assert (on_disk(ledger_path := tmp_path / "ledger"), len(rows(ledger_path))) == (0, 1)
        ledger.flush()
        assert on_disk(ledger_path) == 1


def test_without_a_log_each_commit_is_written_through(tmp_path: Path) -> None:
    """As on a share where SQLite cannot have one."""
    Ledger(tmp_path / "ledger").close()
    with contextlib.closing(sqlite3.connect(tmp_path / "ledger")) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
    with Ledger(tmp_path / "ledger") as ledger:
        assert ledger._connection.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL


def test_it_is_flushed_while_sending_goes_on(tmp_path: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder, "_FLUSH", 0.01)
    scp, path, seen = serve(), file(tmp_path), 0

    def found() -> Iterator[Path | None]:
        yield path
        while not seen:
            yield None

    for outcome in send(found(), scp.peer, ledger=tmp_path / "ledger"):
        assert outcome.ok
        while not (seen := on_disk(tmp_path / "ledger")):
            threading.Event().wait(0.005)
    assert seen == 1


# --- what can be wrong with it --------------------------------------------------------------------------------------


def test_two_at_once_is_an_error_that_says_so(tmp_path: Path, serve: Serve) -> None:
    scp, ledger = serve(), tmp_path / "ledger"
    with send(file(tmp_path), scp.peer, ledger=ledger), pytest.raises(dicomnet.LedgerError, match="another send"):
        send(file(tmp_path), scp.peer, ledger=ledger)
    assert next(send(file(tmp_path), scp.peer, ledger=ledger)).ok


def test_what_is_no_ledger_is_told(tmp_path: Path) -> None:
    text, database, newer = tmp_path / "text", tmp_path / "database", tmp_path / "newer"
    text.write_text("This is not a database, but long enough to be one." * 100)
    connection = sqlite3.connect(database)
    connection.execute("CREATE TABLE mine (x)")
    connection.close()
    Ledger(newer).close()
    connection = sqlite3.connect(newer)
    connection.execute(f"PRAGMA user_version = {VERSION + 1}")
    connection.close()
    wrong = {text: "not a ledger", database: "not a ledger", newer: "newer dicomnet", tmp_path / "no" / "x": "folder"}
    for path, said in wrong.items():
        with pytest.raises(dicomnet.LedgerError, match=said):
            send([], f"SCP@{HOST}", ledger=path)


@pytest.mark.parametrize("name", ["", "folder", "dangling"])
def test_what_can_be_no_ledger_is_told_and_nothing_is_made_beside_it(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "dangling").symlink_to("nowhere")
    with pytest.raises(dicomnet.LedgerError, match="no name of a file"):
        Ledger(name and str(tmp_path / name))
    assert {path.name for path in tmp_path.iterdir()} == {"folder", "dangling"}


def test_a_name_that_means_something_to_sqlite_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with Ledger(":memory:") as ledger:
        ledger.record(dicomnet.Peer("SCP", HOST), [Outcome("/1", dicomnet.Status.SUCCESS)])
        assert ledger.counts(dicomnet.Peer("SCP", HOST))["sent"] == 1
    assert len(rows(tmp_path / ":memory:")) == 1


@pytest.mark.parametrize("processes", [1, 2])
def test_a_ledger_that_cannot_be_written_ends_it(tmp_path: Path, serve: Serve, processes: int) -> None:
    """As on a full disk: what cannot be written down is not told, and nothing more is sent."""
    scp, path = serve(), file(tmp_path)
    (tmp_path / "files").mkdir()
    content = path.read_bytes()
    for number in range(1000):
        (tmp_path / "files" / f"{number}.dcm").write_bytes(content)
    with Ledger(tmp_path / "ledger") as ledger:
        ledger._connection.execute("PRAGMA max_page_count = 20")
        told = []
        with pytest.raises(dicomnet.LedgerError, match="make room"):
            for outcome in send(tmp_path / "files", scp.peer, ledger=ledger, processes=processes):
                told.append(outcome.sop_instance_uid)
        assert ledger.counts(dicomnet.Peer.parse(scp.peer))["sent"] == len(told)
    assert len(told) <= len(scp.received) < 1000


# --- confirmations --------------------------------------------------------------------------------------------------


def test_what_is_sent_and_not_confirmed(tmp_path: Path, files: Path, serve: Serve) -> None:
    scp = serve()
    peer, other = dicomnet.Peer.parse(scp.peer), dicomnet.Peer("OTHER", HOST)
    with Ledger(tmp_path / "ledger") as ledger:
        outcomes(files, scp, ledger)
        assert [(sent.path, sent.sop_class_uid, sent.sop_instance_uid) for sent in ledger.unconfirmed(peer)] == [
            (str(files / f"{number}.dcm"), CT, f"1.2.3.{number}") for number in range(1, 4)
        ]
        assert list(ledger.unconfirmed(other)) == []
        ledger.ask_commitment(peer, "1.9", ["1.2.3.1", "1.2.3.2"])
        assert [sent.sop_instance_uid for sent in ledger.of_transaction("1.9")] == ["1.2.3.1", "1.2.3.2"]
        answers = {
            "1.2.3.1": "committed",
            "1.2.3.2": "no such instance",
            "1.2.3.3": "committed",
            "1.2.3.4": "committed",
        }
        ledger.confirm(peer, answers, transaction_uid="1.9")
        assert [sent.sop_instance_uid for sent in ledger.unconfirmed(peer)] == ["1.2.3.3"]
        assert [(sent.sop_instance_uid, sent.confirmation) for sent in ledger.unconfirmed(peer, failed=True)] == [
            ("1.2.3.2", "no such instance"),
            ("1.2.3.3", None),
        ]
        ledger.confirm(peer, {"1.2.3.3": "verified"})
        assert ledger.counts(peer) == {"sent": 3, "failed": 0, "confirmed": 2}
    assert [tuple(row) for row in rows(tmp_path / "ledger", "transaction_uid, confirmation, confirmed_at > ''")] == [
        ("1.9", "committed", 1),
        ("1.9", "no such instance", 1),
        (None, "verified", 1),
    ]


def test_they_may_be_confirmed_while_they_are_iterated(tmp_path: Path) -> None:
    """However many there are."""
    peer = dicomnet.Peer("SCP", HOST)
    with Ledger(tmp_path / "ledger") as ledger:
        status = dicomnet.Status.SUCCESS
        ledger.record(
            peer,
            [Outcome(f"/{n}", status, sop_instance_uid=f"1.{n}", sop_class_uid=CT, stamp=(n, n)) for n in range(1234)],
        )
        for seen, sent in enumerate(ledger.unconfirmed(peer), 1):
            ledger.confirm(peer, {sent.sop_instance_uid: "verified"})
            if seen == 600:
                break
        assert len(list(ledger.unconfirmed(peer))) == 634


# --- the command line -----------------------------------------------------------------------------------------------


def test_the_command_tells_what_was_sent_before(
    command: Callable[..., Done], tmp_path: Path, files: Path, serve: Serve
) -> None:
    scp, ledger = serve(), tmp_path / "a.ledger"
    assert command("send", scp.peer, files, "--ledger", ledger).out.count("sent ") == 4
    again = command("send", scp.peer, files, "--ledger", ledger)
    assert (again.code, again.err) == (0, "")
    assert again.out.startswith("0 sent (")
    assert "3 sent before" in again.out
    *before, summary = command("send", scp.peer, files, "--ledger", ledger, "--json").events
    assert [event["event"] for event in before] == ["sent_before"] * 3
    assert (summary["sent"], summary["sent_before"]) == (0, 3)


def test_the_command_tells_what_is_wrong_with_it(command: Callable[..., Done], tmp_path: Path, files: Path) -> None:
    done = command("send", f"SCP@{HOST}", files, "--ledger", files / "1.dcm")
    assert done.code == 2
    assert "this is not a ledger" in done.err
