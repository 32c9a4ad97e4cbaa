"""``dicomnet send --watch``: what appears in a folder is sent, once, and when it is whole."""

import os
import queue
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import dicomnet
from dicomnet.sender import pool, send, watch
from dicomnet.sender.watch import Watch, WatchError
from tests.cli.conftest import Done, Scp
from tests.cli.programs import COMMAND, file, instance

Serve = Callable[..., Scp]
_PATIENCE = 60.0  # seconds, on a busy machine


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Events are told at once, since there are few."""
    monkeypatch.setattr(watch, "_EVENTS", 20)


class Watched:
    """A sender that watches, on a thread; ``arrived`` gives the instances as the peer gets them."""

    def __init__(self, scp: Scp, folder: Path, ledger: Path, *, settle: float = 0.1, **options: Any) -> None:
        self.arrived: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.outcomes: list[dicomnet.Outcome] = []
        self.skipped: list[Any] = []
        self.stop = threading.Event()
        answer = scp.answer

        def note(request: Any) -> Any:
            status = answer(request)
            self.arrived.put(request.sop_instance_uid)
            return status

        scp.answer = note
        self._thread = threading.Thread(target=self._run, args=(scp.peer, folder, ledger, settle, options))

    def _run(self, peer: str, folder: Path, ledger: Path, settle: float, options: Any) -> None:
        with Watch([folder], settle=settle) as found:
            done = send(found, peer, ledger=ledger, stop=self.stop, on_skipped=self.skipped.append, **options)
            self.outcomes.extend(done)

    def __enter__(self) -> "Watched":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        self._thread.join()

    def next(self) -> str:
        return self.arrived.get(timeout=_PATIENCE)


@pytest.mark.parametrize("processes", [1, 2])
def test_what_is_there_and_what_appears_is_sent_once(tmp_path: Path, serve: Serve, processes: int) -> None:
    scp, folder, elsewhere = serve(), tmp_path / "folder", tmp_path / "elsewhere"
    file(folder, 1)
    file(elsewhere / "moved" / "deeper", 3)
    with Watched(scp, folder, tmp_path / "ledger", processes=processes) as watched:
        assert watched.next() == "1.2.3.1"
        file(folder, 2)
        assert watched.next() == "1.2.3.2"
        os.rename(elsewhere / "moved", folder / "moved")
        assert watched.next() == "1.2.3.3"
        file(folder / "new" / "folder", 4)
        assert watched.next() == "1.2.3.4"
    assert watched.arrived.empty()
    assert {outcome.ok for outcome in watched.outcomes} == {True}


def test_after_a_restart_nothing_is_sent_again(tmp_path: Path, serve: Serve) -> None:
    scp, folder = serve(), tmp_path / "folder"
    for number in (1, 2):
        file(folder, number)
        with Watched(scp, folder, tmp_path / "ledger") as watched:
            assert watched.next() == f"1.2.3.{number}"
    assert len(scp.received) == 2


def test_a_file_is_sent_when_it_has_stopped_growing(tmp_path: Path, serve: Serve) -> None:
    scp, folder = serve(), tmp_path / "folder"
    folder.mkdir()
    content = file(tmp_path, 1).read_bytes()
    with Watched(scp, folder, tmp_path / "ledger", settle=0.5) as watched, (folder / "x.dcm").open("wb") as growing:
        step = len(content) // 10 + 1
        for start in range(0, len(content), step):
            growing.write(content[start : start + step])
            growing.flush()
            assert not watched.stop.wait(0.06)
        assert watched.next() == "1.2.3.1"
    assert [bytes(dataset) for dataset in scp.received] == [bytes(instance(1))]


def test_what_a_receiver_writes_or_is_no_instance_or_has_gone_is_no_failure(tmp_path: Path, serve: Serve) -> None:
    scp, folder = serve(), tmp_path / "folder"
    folder.mkdir()
    with Watched(scp, folder, tmp_path / "ledger", settle=0.2) as watched:
        instance(1).save(folder / ".receiving-1")
        (folder / "notes.txt").write_text("not DICOM")
        file(folder, 2).unlink()
        file(folder, 3)
        assert watched.next() == "1.2.3.3"
    assert [outcome.ok for outcome in watched.outcomes] == [True]
    assert set(watched.skipped) <= {str(folder / "notes.txt"), str(folder / "2.dcm")}


def test_however_many_appear_at_once(tmp_path: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be remembered is found by walking the folder again."""
    monkeypatch.setattr(watch, "_MOST", 10)
    scp, folder = serve(), tmp_path / "folder"
    folder.mkdir()
    content = file(tmp_path, 100).read_bytes()
    with Watched(scp, folder, tmp_path / "ledger", settle=0.2) as watched:
        for number in range(100, 200):
            (folder / f"{number}.dcm").write_bytes(content.replace(b"1.2.3.100", b"1.2.3.%d" % number))
        assert {watched.next() for _ in range(100)} == {f"1.2.3.{number}" for number in range(100, 200)}
    assert watched.arrived.empty()


def test_a_folder_that_cannot_be_watched_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(WatchError, match="missing: No such"), Watch([tmp_path / "missing"]):
        pass


@pytest.mark.parametrize("replaced", [False, True])
def test_a_folder_that_goes_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, replaced: bool) -> None:
    """Nobody hears of one of the same name that comes instead: files would lie there for ever."""
    monkeypatch.setattr(watch, "_LOOK", 20)
    folder = tmp_path / "folder"
    folder.mkdir()
    with Watch([folder]) as found:
        looks = iter(found)
        assert next(looks) is None
        folder.rename(tmp_path / "elsewhere")
        if replaced:
            folder.mkdir()
        with pytest.raises(WatchError, match="folder was removed or replaced"):
            while next(looks) is None:
                threading.Event().wait(0.005)


def test_a_peer_that_was_given_up_is_tried_again_later(
    tmp_path: Path, serve: Serve, free_port: int, reserved: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sender that goes on for days outlives a night without the peer."""
    monkeypatch.setattr(pool, "_GIVEN_UP", 0.2)
    path = file(tmp_path)
    started: list[Scp] = []

    def found() -> Iterator[Any]:
        yield path
        while not done:
            yield None
        again = time.monotonic() + 2 * 0.2
        while time.monotonic() < again:
            yield None
        started.append(serve(port=free_port))
        yield path

    reserved.close()
    done: list[bool] = []
    for outcome in send(found(), f"SCP@127.0.0.1:{free_port}", attempts=1):
        done.append(outcome.ok)
    assert done == [False, True]


# --- the command line -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_command_watches_until_it_is_told_to_end(serve: Serve, tmp_path: Path, number: int) -> None:
    scp, folder, other = serve(), tmp_path / "folder", file(tmp_path, 9)
    file(folder, 1)
    command = [*COMMAND, "send", scp.peer, str(other), "--watch", str(folder), "--settle", "0.2"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == f"sent {other}\n"
        assert process.stdout.readline() == f"sent {folder / '1.dcm'}\n"
        two = file(folder, 2)
        assert process.stdout.readline() == f"sent {two}\n"
        process.send_signal(number)
        printed, complained = process.communicate(timeout=_PATIENCE)
    assert process.returncode == 0, complained
    assert printed.startswith("3 sent (")
    assert "interrupted: the rest" not in printed


def test_the_command_needs_something_to_send(command: Callable[..., Done], tmp_path: Path) -> None:
    done = command("send", "A@127.0.0.1")
    assert (done.code, "--watch FOLDER" in done.err) == (2, True)
