"""``dicomnet.send(..., processes=N)``: as from one process, but from several."""

import signal
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import dicomnet
from dicomnet.sender import Outcome, processes, send
from dicomnet.sender.process import portable
from tests.cli.conftest import Scp
from tests.cli.programs import CT, HOST, IMPLICIT, file

Serve = Callable[..., Scp]


def outcomes(paths: Any, peer: str, **options: Any) -> list[Outcome]:
    return list(send(paths, peer, **{"backoff": 0.001, "calling_ae": "ME", "processes": 2} | options))


def test_everything_arrives_and_each_has_one_outcome(tmp_path: Path, serve: Serve) -> None:
    scp = serve()
    paths = [file(tmp_path, number) for number in range(100)]
    (tmp_path / "notes.txt").write_text("not DICOM")
    skipped: list[Any] = []
    running = send(tmp_path, scp.peer, processes=2, associations=2, calling_ae="ME", on_skipped=skipped.append)
    done = list(running)
    assert {outcome.path for outcome in done if outcome.ok} == set(paths)
    assert {type(outcome.path) for outcome in done} == {type(tmp_path)}
    assert len(done) == len(scp.received) == 100
    assert skipped == [tmp_path / "notes.txt"]
    assert len(scp.associations) == running.associations == 2
    assert running.window == 1
    assert [scp.ended().error for _ in scp.associations] == [None, None]
    assert {association.calling_ae for association in scp.associations} == {"ME"}


def test_there_are_no_more_processes_than_associations(tmp_path: Path, serve: Serve) -> None:
    scp = serve()
    outcomes([file(tmp_path, number) for number in range(100)], scp.peer, processes=3, associations=1)
    assert len(scp.associations) == 1


def test_statuses_and_errors_come_as_they_are(tmp_path: Path, serve: Serve, free_port: int) -> None:
    scp = serve(contexts=[(CT, [IMPLICIT])])
    scp.answer = lambda request: dicomnet.Response(0xA900, error_comment="no such patient")
    text = tmp_path / "text"
    text.write_text("not DICOM")
    given = file(tmp_path)
    done = {outcome.path: outcome for outcome in outcomes([given, text, tmp_path / "missing"], scp.peer)}
    assert (done[given].status, done[given].comment, done[given].attempts) == (0xA900, "no such patient", 1)
    assert isinstance(done[text].error, dicomnet.InvalidDataset)
    assert isinstance(done[tmp_path / "missing"].error, FileNotFoundError)
    (unreached,) = outcomes([given], f"SCP@{HOST}:{free_port}", attempts=1)
    assert isinstance(unreached.error, dicomnet.TransportError)
    assert isinstance(unreached.error.__cause__, ConnectionRefusedError)


def test_their_log_lines_come_here(tmp_path: Path, free_port: int, caplog: pytest.LogCaptureFixture) -> None:
    outcomes([file(tmp_path)], f"SCP@{HOST}:{free_port}", attempts=2)
    assert any("going on in" in record.getMessage() for record in caplog.records)


def test_a_process_that_dies_leaves_its_files_to_the_others(tmp_path: Path, serve: Serve) -> None:
    scp, killed = serve(), threading.Event()
    paths = [file(tmp_path, number) for number in range(400)]
    scp.answer = lambda request: int(killed.wait(30) and False)
    running = send(paths, scp.peer, processes=2, associations=2)
    crew: Any = running._sender
    threading.Thread(target=_kill_one, args=(crew, scp, killed)).start()
    done = list(running)
    assert {outcome.path for outcome in done if outcome.ok} == set(paths)
    assert len(done) == 400


def _kill_one(crew: processes.Crew, scp: Scp, killed: threading.Event) -> None:
    while len(scp.associations) < 2:
        killed.wait(0.01)
    crew._started[0]._process.kill()
    crew._started[0]._process.wait()
    killed.set()


def test_if_all_die_that_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free_port: int) -> None:
    monkeypatch.setattr(processes, "_PROGRAM", "import sys; sys.exit(7)")
    with pytest.raises(ChildProcessError, match="exit code 7"):
        outcomes([file(tmp_path)], f"SCP@{HOST}:{free_port}")


def test_a_file_that_two_processes_died_of_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free_port: int
) -> None:
    """A third one stays for the others."""
    poison = (
        "import pickle, sys; r = sys.stdin.buffer; w = sys.stdout.buffer; pickle.load(r); pickle.load(r)\n"
        "try:\n"
        "    while True:\n"
        "        told = []\n"
        "        for number, path, *_ in pickle.load(r):\n"
        "            if 'poison' in path and sys.argv[1:] != ['brave']: sys.exit(9)\n"
        "            told.append((number, None, None))\n"
        "        pickle.dump((told, 1, 1, []), w); w.flush()\n"
        "except EOFError: pass\n"
    )
    monkeypatch.setattr(processes, "_PROGRAM", poison)
    skipped: list[Any] = []
    done = outcomes(["poison"], f"SCP@{HOST}:{free_port}", processes=3, on_skipped=skipped.append)
    assert [type(outcome.error) for outcome in done] == [FileNotFoundError]
    (tmp_path / "poison").touch()
    path = str(tmp_path / "poison")
    (done_of_it,) = outcomes([path], f"SCP@{HOST}:{free_port}", processes=3, on_skipped=skipped.append)
    assert (done_of_it.path, type(done_of_it.error)) == (path, dicomnet.DicomNetworkError)


def test_when_stopped_they_release_after_the_files_under_way(tmp_path: Path, serve: Serve) -> None:
    stop, scp = threading.Event(), serve()
    paths = [file(tmp_path, number) for number in range(2000)]
    done = 0
    for outcome in send(paths, scp.peer, processes=2, associations=2, stop=stop):
        assert outcome.ok
        done += 1
        if done == 10:
            stop.set()
    assert 10 <= done < 2000
    assert done == len(scp.received)
    assert [scp.ended().error for _ in scp.associations] == [None] * len(scp.associations)


def test_a_caller_that_wants_no_more_ends_them(tmp_path: Path, serve: Serve) -> None:
    scp = serve()
    paths = [file(tmp_path, number) for number in range(500)]
    with send(paths, scp.peer, processes=2, associations=2) as running:
        assert next(running).ok
        crew: Any = running._sender
    assert [member._process.poll() for member in crew._started] == [0, 0]
    assert [scp.ended().error for _ in scp.associations] == [None] * len(scp.associations)


def test_interrupted_they_abort(tmp_path: Path, serve: Serve) -> None:
    scp, ended = serve(), threading.Event()

    def interrupt() -> None:
        main = threading.main_thread().ident
        assert main is not None
        signal.pthread_kill(main, signal.SIGINT)

    hanging = threading.Barrier(2, action=interrupt)

    def hang(request: Any) -> int:
        hanging.wait(30)
        ended.wait()
        return 0

    scp.answer = hang
    running = send([file(tmp_path, number) for number in range(64)], scp.peer, processes=2, associations=2)
    with pytest.raises(KeyboardInterrupt):
        list(running)
    ended.set()
    crew: Any = running._sender
    assert [member._process.poll() for member in crew._started] == [1, 1]
    assert all(
        isinstance(scp.ended().error, dicomnet.AssociationAborted | dicomnet.TransportError) for _ in scp.associations
    )


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_they_end_with_the_program_that_started_them(tmp_path: Path, serve: Serve, how: signal.Signals) -> None:
    """However it went: nobody would read their outcomes."""
    scp, ended = serve(), threading.Event()
    both = threading.Barrier(3)

    def hang(request: Any) -> int:
        if not ended.is_set():
            both.wait(30)
            ended.wait(30)
        return 0

    scp.answer = hang
    program = (
        "import sys, dicomnet\n"
        "for outcome in dicomnet.send(sys.argv[2:], sys.argv[1], processes=2, associations=2): pass\n"
    )
    paths = [str(file(tmp_path, number)) for number in range(64)]
    with subprocess.Popen([sys.executable, "-c", program, scp.peer, *paths]) as process:
        both.wait(30)
        process.send_signal(how)
    ended.set()
    assert {scp.ended().error for _ in range(2)} == {None}
    assert len(scp.received) < 64


def test_what_they_cannot_be_given_is_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="processes=1"):
        send(tmp_path, "A@b", processes=2, tls=ssl.create_default_context())


class Stubborn(Exception):
    """Can be pickled, and not read again."""

    def __init__(self, one: str, two: str) -> None:
        super().__init__(one)


def test_errors_cross_with_their_cause_or_as_text() -> None:
    error = dicomnet.DeadlineExceeded("response", 3.0)
    error.__cause__ = OSError(5, "I/O")
    there = processes.restored(portable(error))
    assert isinstance(there, dicomnet.DeadlineExceeded)
    assert (there.timer, there.seconds, str(there.__cause__)) == ("response", 3.0, "[Errno 5] I/O")
    there = processes.restored(portable(Stubborn("it hurts", "")))
    assert (type(there), str(there)) == (dicomnet.DicomNetworkError, "Stubborn: it hurts")
