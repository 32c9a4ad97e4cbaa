"""``dicomnet send``: what it says, and each exit code."""

import os
import pty
import signal
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread

import dicomnet
from dicomnet.cli.interrupt import Interrupt
from dicomnet.transcoding import LOSSY
from tests.cli.conftest import Done, Scp
from tests.cli.programs import COMMAND, HOST, JPEG_LS, MR, dicomnet_command, file, receiving
from tests.pydicom_files import shipped

Command = Callable[..., Done]
Serve = Callable[..., Scp]


def test_each_file_is_a_line_and_the_last_one_sums_up(command: Command, serve: Serve, tmp_path: Path) -> None:
    one, two = file(tmp_path, 1), file(tmp_path, 2)
    (tmp_path / "notes.txt").write_text("not DICOM")
    done = command("send", serve().peer, tmp_path, "--calling", "ME")
    *lines, summary = done.out.splitlines()
    assert (done.code, done.err) == (0, "")
    assert lines == [f"sent {one}", f"sent {two}"]
    assert summary.startswith("2 sent (")
    assert summary.endswith("; 0 failed, 1 skipped (no DICOM instances); 1 association, window 1")


def test_what_was_compressed_with_loss_is_told(command: Command, serve: Serve) -> None:
    """PS3.3 C.7.6.1.1.5: the peer has another instance, and the user should know which."""
    scp, path = serve(contexts=[(MR, [LOSSY[0]])]), shipped("MR_small.dcm")
    told = command("send", scp.peer, path, "--transcode", "any")
    new = scp.received[0].sop_instance_uid
    assert f"sent {path} (compressed with loss, as a new instance {new})\n" in told.out
    assert "; 1 compressed with loss, as new instances" in told.out
    sent, summary = command("send", scp.peer, path, "--transcode", "any", "--json").events
    assert (sent["sop_instance_uid"], sent["derived_from"]) == (new, dcmread(path).SOPInstanceUID)
    assert (sent["reason"], summary["lossy"]) == (f"compressed with loss, as a new instance {new}", 1)


def test_json_lines(command: Command, serve: Serve, tmp_path: Path) -> None:
    scp = serve()
    scp.answer = lambda request: 0xB000 if request.sop_instance_uid.endswith("1") else 0xA900
    one, two = file(tmp_path, 1), file(tmp_path, 2)
    (tmp_path / "notes.txt").write_text("not DICOM")
    done = command("send", scp.peer, tmp_path, "--json")
    assert (done.code, done.err) == (1, "")
    skipped, sent, failed, reason, summary = done.events
    assert reason == {
        "event": "reason", "reason": "error: data set does not match SOP class, status 0xA900", "status": 0xA900,
        "error": None, "files": 1, "example": str(two),
    }  # fmt: skip
    assert skipped == {"event": "skipped", "path": str(tmp_path / "notes.txt")}
    assert sent == {
        "event": "sent", "path": str(one), "status": 0xB000, "error": None, "attempts": 1, "size": sent["size"],
        "reason": "warning: coercion of data elements, status 0xB000",
        "sop_instance_uid": "1.2.3.1", "derived_from": "",
    }  # fmt: skip
    assert (failed["event"], failed["path"], failed["status"]) == ("failed", str(two), 0xA900)
    assert [summary[name] for name in ("sent", "failed", "skipped", "interrupted")] == [1, 1, 1, False]
    assert (summary["associations"], summary["window"]) == (1, 1)


def test_associations_window_and_processes_as_wanted(command: Command, serve: Serve, tmp_path: Path) -> None:
    scp = serve(async_ops=(8, 8))
    for number in range(100):
        file(tmp_path, number)
    done = command("send", scp.peer, tmp_path, "-q", "--associations", 2, "--window", 4)
    assert done.out.endswith("; 2 associations, window 4\n")
    done = command("send", scp.peer, tmp_path, "-q", "--associations", 2, "--processes", 2)
    assert done.out.endswith("; 2 associations, window 8\n")
    assert len(scp.received) == 200


def test_processes_do_not_go_with_tls(command: Command, tmp_path: Path, free_port: int) -> None:
    done = command("send", f"SCP@{HOST}:{free_port}", file(tmp_path), "--tls", "--processes", 2)
    assert done.code == 2
    assert "--processes" in done.err


def test_quiet_tells_failures_and_the_sum(command: Command, serve: Serve, tmp_path: Path) -> None:
    scp = serve()
    scp.answer = lambda request: 0xC000 if request.sop_instance_uid.endswith("1") else 0
    failing = file(tmp_path, 1)
    file(tmp_path, 2)
    done = command("send", scp.peer, tmp_path, "-q")
    assert done.code == 1
    assert done.err == f"failed {failing}: error: cannot understand, status 0xC000\n"
    assert len(done.out.splitlines()) == 1


def test_failures_are_summed_up_by_reason(command: Command, serve: Serve, tmp_path: Path) -> None:
    """One line each, the most frequent first; what the peer says of a single file makes no new reason."""
    scp = serve()

    def answer(request: Any) -> Any:
        number = request.sop_instance_uid.rpartition(".")[2]
        return 0xA900 if number == "1" else dicomnet.Response(0xC000, error_comment=f"file {number}")

    scp.answer = answer
    for number in range(1, 5):
        file(tmp_path, number)
    (tmp_path / "no.txt").write_text("not DICOM")
    done = command("send", scp.peer, tmp_path, tmp_path / "no.txt", "-q", "--associations", 1)
    lines = done.out.splitlines()
    assert lines[0].startswith("3 failed: error: cannot understand, status 0xC000: file 2; one of them is ")
    assert {line[:9] for line in lines[1:3]} == {"1 failed:"}
    assert "5 failed" in lines[3]


def test_a_named_file_that_is_no_dicom_is_2(command: Command, serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("not DICOM")
    done = command("send", serve().peer, file(tmp_path), tmp_path / "notes.txt")
    assert done.code == 2
    assert "1 sent" in done.out
    assert "notes.txt: this is not a DICOM file" in done.err


def test_a_refused_encoding_is_1(command: Command, serve: Serve, tmp_path: Path) -> None:
    scp = serve(contexts=["1.2.840.10008.5.1.4.1.1.4"])
    assert command("send", scp.peer, file(tmp_path, syntax=JPEG_LS)).code == 1
    assert command("send", scp.peer, file(tmp_path), "--transcode", "never").code == 1


def test_nothing_there_is_3(command: Command, tmp_path: Path, free_port: int) -> None:
    done = command("send", f"SCP@{HOST}:{free_port}", file(tmp_path), "--attempts", 1)
    assert done.code == 3
    assert "is the peer running" in done.err
    assert len(done.err.splitlines()) == 1


def test_what_keeps_all_from_being_sent_is_told_once(command: Command, tmp_path: Path, free_port: int) -> None:
    for number in range(3):
        file(tmp_path, number)
    done = command("send", f"SCP@{HOST}:{free_port}", tmp_path, "--attempts", 1)
    assert done.err.startswith(f"failed {tmp_path / '0.dcm'} and the rest: ")
    assert len(done.err.splitlines()) == 1
    assert "3 failed" in done.out


def test_the_comment_of_the_peer_is_told(command: Command, serve: Serve, tmp_path: Path) -> None:
    """PS3.7 Table C: Error Comment (0000,0902)"""
    scp = serve()
    scp.answer = lambda request: dicomnet.Response(0xC123, error_comment="no such\x1b[2J patient")
    done = command("send", scp.peer, file(tmp_path))
    assert "status 0xC123: no such\\x1b[2J patient" in done.err


def test_a_rejection_is_3(command: Command, serve: Serve, tmp_path: Path) -> None:
    done = command("send", serve(accept_calling=["OTHER"]).peer, file(tmp_path))
    assert done.code == 3
    assert "--calling" in done.err


def test_a_timeout_half_way_is_4(command: Command, serve: Serve, tmp_path: Path) -> None:
    scp = serve()
    ended = threading.Event()
    scp.answer = lambda request: ended.wait() and 0
    soon = ["--timeout", "response=0.1", "--timeout", "closing=0.05"]
    done = command("send", scp.peer, file(tmp_path), "--attempts", 1, *soon)
    ended.set()
    assert done.code == 4
    assert "--timeout response=SECONDS" in done.err


def test_further_attempts_are_told(command: Command, serve: Serve, tmp_path: Path) -> None:
    scp = serve()
    scp.answer = lambda request: 0xA700 if request.message_id == 1 else 0
    done = command("send", scp.peer, file(tmp_path))
    assert done.code == 0
    assert "out of resources" in done.err
    assert "going on in" in done.err


def test_interrupted_it_releases_after_the_file_under_way_and_is_130(
    command: Command, serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scp, taken = serve(), threading.Event()
    handle = Interrupt._handle
    monkeypatch.setattr(Interrupt, "_handle", lambda *arguments: (handle(*arguments), taken.set()))

    def interrupt(request: Any) -> int:
        if request.message_id == 2:
            main = threading.main_thread().ident
            assert main is not None
            signal.pthread_kill(main, signal.SIGINT)
            assert taken.wait(30)
        return 0

    scp.answer = interrupt
    for number in range(5):
        file(tmp_path, number)
    done = command("send", scp.peer, tmp_path)
    assert done.code == 130
    assert "2 sent" in done.out
    assert "interrupted" in done.out
    assert scp.ended().error is None


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_twice_it_aborts_at_once(serve: Serve, tmp_path: Path, number: int) -> None:
    scp = serve()
    arrived, ended = threading.Event(), threading.Event()

    def hang(request: Any) -> int:
        arrived.set()
        ended.wait()
        return 0

    scp.answer = hang
    command = [*COMMAND, "send", scp.peer, str(file(tmp_path)), "--timeout", "closing=0.05"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert arrived.wait(60)
        process.send_signal(number)
        assert "interrupted" in process.stderr.readline()
        process.send_signal(number)
        assert process.wait(60) == 130
        ended.set()
        assert process.stderr.read() == ""
    assert isinstance(scp.ended().error, dicomnet.AssociationAborted)


def test_interrupted_between_two_attempts_it_ends_at_once(tmp_path: Path, free_port: int) -> None:
    command = [*COMMAND, "send", f"SCP@{HOST}:{free_port}", str(file(tmp_path)), "--attempts", "50"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert "going on in" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130


def test_names_cannot_command_the_terminal(command: Command, serve: Serve, tmp_path: Path) -> None:
    path = tmp_path / "a\x1b[2J\nb\udcff.dcm"
    os.rename(file(tmp_path), path)
    done = command("send", serve().peer, path)
    assert done.code == 0
    assert "a\\x1b[2J\\nb\\udcff.dcm" in done.out
    assert len(done.out.splitlines()) == 2


def test_on_a_terminal_there_is_a_progress_bar(serve: Serve, tmp_path: Path) -> None:
    scp = serve()
    scp.answer = lambda request: 0xC000 if request.sop_instance_uid.endswith("3") else 0
    for number in range(5):
        file(tmp_path, number)
    near, far = pty.openpty()
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "300"}
    command = [*COMMAND, "send", scp.peer, str(tmp_path)]
    with subprocess.Popen(command, stdout=far, stderr=far, stdin=far, env=environment) as process:
        os.close(far)
        shown = b""
        while piece := _read(near):
            shown += piece
    os.close(near)
    assert process.returncode == 1
    text = shown.decode()
    assert "5 of 5 files" in text
    assert "100%" in text
    assert f"failed {tmp_path / '3.dcm'}" in text
    assert f"sent {tmp_path}" not in text
    assert "4 sent" in text.splitlines()[-1]


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65536)
    except OSError:  # Linux: nobody has the other end open any more
        return b""


def test_in_a_pipe_there_is_none(serve: Serve, tmp_path: Path) -> None:
    done = dicomnet_command("send", serve().peer, file(tmp_path))
    assert "\x1b" not in done.stdout + done.stderr
    assert done.returncode == 0


def test_what_receive_prints_is_a_peer_for_send(tmp_path: Path) -> None:
    with receiving(tmp_path / "inbox") as receive:
        peer = receive.first_line.split()[2].rstrip(",")
        assert dicomnet_command("send", peer, file(tmp_path / "files")).returncode == 0
    assert receive.files() == ["P1/1.2.3/1.2.3.0/1.2.3.1.dcm"]
