"""``dicomnet probe``: what the page says of each kind of peer, and each exit code."""

from __future__ import annotations

import os
import pty
import re
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import dicomnet
from tests.cli.conftest import Done, Scp
from tests.cli.programs import COMMAND, CT, HOST

Command = Callable[..., Done]
Serve = Callable[..., Scp]
Speaker = Callable[[bytes], str]

_SOON = ("--timeout", "associate=0.2", "--timeout", "tls=0.2", "--timeout", "connect=1")


@pytest.fixture(autouse=True)
def little_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither rates nor pauses are what these tests are about."""
    monkeypatch.setattr("dicomnet.probe.pace._RATE_TIME", 0.02)
    monkeypatch.setattr("dicomnet.probe.surveyor._PATIENCE", 0.0)


def first_screen(done: Done) -> str:
    """What a newcomer sees without scrolling, as one line."""
    return " ".join(" ".join(done.out.splitlines()[:24]).split())


def test_a_peer_that_works_is_described_and_is_0(command: Command, serve: Serve) -> None:
    done = command("probe", serve().peer, "--echoes", 5)
    assert done.code == 0
    assert done.err == ""
    assert "It works: it accepts associations, answers C-ECHO" in first_screen(done)
    assert "dicomnet 0." in done.out
    assert re.search(r"storage +ok +3 of \d+ SOP classes accepted: CT Image", done.out)
    assert all(len(line) <= 100 for line in done.out.splitlines())


def test_nothing_is_stored_unless_it_is_asked_for(command: Command, serve: Serve) -> None:
    scp = serve()
    assert command("probe", scp.peer, "--echoes", 1).code == 0
    assert scp.received == []


def test_store_says_what_it_will_store_and_stores_that(command: Command, serve: Serve) -> None:
    scp = serve()
    done = command("probe", scp.peer, "--echoes", 1, "--store", 2)
    assert done.code == 0
    assert "will be sent 2 synthetic images" in done.err
    assert "SYNTHETIC^DICOMNET PROBE" in done.err
    images = [one.decode() for one in scp.received]
    assert {str(image.PatientName) for image in images} == {"SYNTHETIC^DICOMNET PROBE"}
    assert len({image.SOPInstanceUID for image in images}) == 2
    assert {image.StudyInstanceUID for image in images} == {images[0].StudyInstanceUID}
    assert re.search(r"synthetic instances stored +2 of 256 KiB", done.out)


def test_a_refused_store_is_1(command: Command, serve: Serve) -> None:
    scp = serve()
    scp.answer = lambda request: 0xA700 if request.dataset is not None else 0
    done = command("probe", scp.peer, "--echoes", 1, "--store", 2)
    assert done.code == 1
    assert "0xA700" in done.out


def test_a_closed_port_is_3(command: Command, free_port: int) -> None:
    done = command("probe", f"SCP@{HOST}:{free_port}")
    assert done.code == 3
    assert "no program listens on port" in first_screen(done)


def test_an_unknown_host_is_3(command: Command) -> None:
    done = command("probe", "SCP@no-such-host.invalid:104")
    assert done.code == 3
    assert "No computer has the name 'no-such-host.invalid'" in first_screen(done)


@pytest.mark.parametrize(
    ("says", "told"),
    [
        (b"HTTP/1.1 400 Bad Request\r\nServer: nginx\r\n\r\n", "an HTTP server answers there (HTTP/1.1 400 Bad"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "an SSH server answers there (SSH-2.0-OpenSSH_9.2)"),
        (b"220 mail.example ESMTP\r\n", "an SMTP server answers there"),
        (b"", "closed this one without an answer"),
        (bytes(range(0x80, 0xA0)), "does not answer as DICOM does"),
        (b"\x07\0\0\0\0\x04\0\0\x02\x01", "aborted in place of an answer"),
        (b"\x03\0\0\0\0\x04\0\x01\x01\x03", "It refuses the title by which this side calls itself, DICOMNET"),
        (b"\x03\0\0\0\0\x04\0\x01\x01\x07", "SCP is not its AE title"),
        (b"\x03\0\0\0\0\x04\0\x02\x03\x02", "has as many associations as it allows"),
    ],
)
def test_what_answers_is_told_and_is_3(command: Command, speaker: Speaker, says: bytes, told: str) -> None:
    done = command("probe", speaker(says), *_SOON)
    assert done.code == 3
    assert told in first_screen(done)
    assert "WHAT TO TRY NEXT" in done.out


def test_what_came_back_is_shown_byte_by_byte(command: Command, speaker: Speaker) -> None:
    """PS3.8 Table 9-21"""
    done = command("probe", speaker(b"\x03\0\0\0\0\x04\0\x01\x01\x03"))
    assert re.search(r"^  0000  03 +PDU type: A-ASSOCIATE-RJ$", done.out, re.M)
    assert re.search(r"^  0009  03 +reason 3; in all: association rejected", done.out, re.M)


def test_a_silent_socket_is_3(command: Command) -> None:
    with socket.create_server((HOST, 0)) as listener:
        done = command("probe", f"SCP@{HOST}:{listener.getsockname()[1]}", *_SOON)
    assert done.code == 3
    assert "accepts connections on port" in first_screen(done)
    assert "then says nothing" in first_screen(done)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"require_called": True}, "SOMEBODY is not its AE title"),
        ({"accept_calling": ["CT1"]}, "It refuses the title by which this side calls itself, DICOMNET"),
    ],
)
def test_wrong_titles_are_told(command: Command, serve: Serve, options: dict[str, Any], told: str) -> None:
    done = command("probe", serve(**options).peer.replace("SCP@", "SOMEBODY@"))
    assert done.code == 3
    assert told in first_screen(done)


def test_a_full_peer_is_asked_once_more(command: Command, serve: Serve) -> None:
    scp = serve(max_associations=1)
    with dicomnet.associate(scp.peer):
        done = command("probe", scp.peer)
    assert done.code == 3
    assert "as many associations as it allows" in first_screen(done)
    assert "asked again" in done.out


def test_a_peer_without_verification_is_1_and_described_all_the_same(command: Command, serve: Serve) -> None:
    done = command("probe", serve(contexts=[CT]).peer)
    assert done.code == 1
    assert "not even Verification" in first_screen(done)
    assert "SOP classes accepted: CT Image" in done.out


def test_json_tells_the_same(command: Command, serve: Serve) -> None:
    done = command("probe", serve().peer, "--echoes", 2, "--json")
    events = done.events
    assert events[0]["event"] == "verdict"
    assert events[0]["ok"] is True
    assert events[0]["exit_code"] == 0
    accepted = {event["uid"] for event in events if event["event"] == "class" and event["transfer_syntaxes"]}
    assert {dicomnet.Verification, CT} <= accepted
    [pace] = [event for event in events if event["event"] == "pace"]
    assert pace["echoes"] == 2


def test_json_of_a_failure_has_the_bytes(command: Command, speaker: Speaker) -> None:
    done = command("probe", speaker(b"\x03\0\0\0\0\x04\0\x01\x01\x07"), "--json")
    verdict, *rest = done.events
    assert (verdict["ok"], verdict["kind"], verdict["exit_code"]) == (False, "called-rejected", 3)
    assert verdict["steps"][0]["command"].startswith("dicomnet probe TITLE@")
    [attempt] = [event for event in rest if event["event"] == "attempt"]
    assert attempt["received"] == "0300000000040001" + "0107"
    assert attempt["sent"].startswith("0100")


def test_passcodes_are_on_no_page(command: Command, speaker: Speaker, tmp_path: Path) -> None:
    peer = speaker(b"\x03\0\0\0\0\x04\0\x01\x01\x01")
    identity = ("--identity-username", "jdoe", "--identity-passcode", "swordfish")
    page = tmp_path / "page.html"
    for options in (("--html", str(page), "-v"), ("--json",)):
        done = command("probe", peer, *identity, *options)
        assert done.code == 3
        for secret in ("swordfish", b"swordfish".hex(), b"swordfish".hex(" ")):
            assert secret not in done.out
            assert not page.exists() or secret not in page.read_text()


def test_html_is_written_beside_the_page(command: Command, serve: Serve, tmp_path: Path) -> None:
    done = command("probe", serve().peer, "--echoes", 1, "--html", tmp_path / "page.html")
    assert done.code == 0
    assert "It works" in done.out
    assert (tmp_path / "page.html").read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


def test_html_that_cannot_be_written_is_2(command: Command, free_port: int, tmp_path: Path) -> None:
    done = command("probe", f"SCP@{HOST}:{free_port}", "--html", tmp_path / "missing" / "page.html")
    assert done.code == 2
    assert "missing" in done.err


def test_quiet_is_the_verdict_alone(command: Command, free_port: int) -> None:
    done = command("probe", f"SCP@{HOST}:{free_port}", "-q")
    assert len(done.out.splitlines()) == 1
    assert done.out.startswith("There is no association.")


def test_a_hostile_peer_does_not_command_the_terminal(command: Command, speaker: Speaker) -> None:
    done = command("probe", speaker(b"HTTP/1.1 400 \x1b]0;gotcha\x07\x1b[2J\r\n\r\n"))
    assert "\x1b" not in done.out
    assert "\\x1b]0;gotcha" in done.out


@pytest.mark.skipif(not hasattr(pty, "openpty"), reason="needs a pseudo terminal")
def test_on_a_terminal_it_has_colours_and_fits(free_port: int) -> None:
    terminal, other = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "80", "NO_COLOR": ""}
    environment.pop("NO_COLOR")
    command = [*COMMAND, "probe", f"SCP@{HOST}:{free_port}"]
    with subprocess.Popen(command, stdin=other, stdout=other, stderr=other, env=environment) as process:
        os.close(other)
        printed = b""
        while piece := _read(terminal):
            printed += piece
    os.close(terminal)
    assert process.returncode == 3
    text = printed.decode()
    assert "\x1b[" in text
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)
    assert "no program listens" in " ".join(plain.split())
    assert all(len(line.rstrip()) <= 80 for line in plain.splitlines())


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # Linux: the other end is closed
        return b""
