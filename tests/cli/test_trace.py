"""``dicomnet trace``: between real programs, on a terminal and in a pipe; what it writes, and how it ends."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import pytest

import dicomnet
from dicomnet.trace.members import MEMBERS
from tests.cli.conftest import Done, Scp
from tests.cli.programs import COMMAND, CT, HOST, MR, instance
from tests.cli.terminal import Terminal

PATIENT = "SECRET^NAME"
Serve = Callable[..., Scp]
Command = Callable[..., Done]


Talk = Callable[[str], object]
Trace = Callable[..., Done]


@contextlib.contextmanager
def _stdout_as_pipe() -> Iterator[IO[str]]:
    """What commands print in this process, for who reads it while they run."""
    reading, writing = os.pipe()
    with open(reading, encoding="utf-8") as source, open(writing, "w", encoding="utf-8") as sink:
        before, sys.stdout = sys.stdout, sink
        try:
            yield source
        finally:
            sys.stdout = before


@pytest.fixture
def trace(command: Command, capfd: pytest.CaptureFixture[str]) -> Trace:
    """Runs the command in this process, and meanwhile ``talk(peer)`` on a thread; what it came to.

    It ends with the first connection, unless options say otherwise.
    """

    def call(scp: Scp, talk: Talk, *options: Any) -> Done:
        printed: list[str] = []
        failed: list[BaseException] = []

        def watch(source: IO[str]) -> None:
            for line in source:
                printed.append(line)
                if len(printed) == 1:
                    port = re.search(r'(?::|"port": )(\d+),', line)
                    assert port is not None
                    talking = threading.Thread(target=speak, args=(f"SCP@{HOST}:{port[1]}",))
                    talking.start()
            talking.join(60)

        def speak(peer: str) -> None:
            try:
                talk(peer)
            except BaseException as error:
                failed.append(error)

        with _stdout_as_pipe() as source:
            watcher = threading.Thread(target=watch, args=(source,))
            watcher.start()
            ends = () if {"--count", "--seconds"} & set(options) else ("--count", 1)
            done = command("trace", "0", f"{HOST}:{scp.port}", *ends, *options, *(["--seconds", 60] if ends else []))
            sys.stdout.close()
            watcher.join(60)
        if failed:
            raise failed[0]
        return replace(done, out="".join(printed))

    return call


def store(peer: str, count: int = 1, calling: str = "MODALITY") -> None:
    with dicomnet.associate(peer, calling_ae=calling, contexts=[CT, "1.2.3.4"]) as association:
        for number in range(1, count + 1):
            association.c_store(instance(number, PatientName=PATIENT))


def test_it_tells_its_address_draws_what_passes_and_ends_with_sigterm(serve: Serve) -> None:
    """api.md §6: one line with the address once it listens; a clean end, also while an association stands."""
    scp = serve()
    arguments = [*COMMAND, "trace", "0", f"{HOST}:{scp.port}"]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stderr is not None
            first = process.stdout.readline()
            found = re.fullmatch(rf"listening on {HOST}:(\d+), forwarding to {HOST}:{scp.port}\n", first)
            assert found is not None, first
            association = dicomnet.associate(f"SCP@{HOST}:{found[1]}", contexts=[CT, "1.2.3.4"], calling_ae="MODALITY")
            for number in range(1, 101):
                association.c_store(instance(number, PatientName=PATIENT))
            process.send_signal(signal.SIGTERM)
            printed, complained = process.stdout.read(), process.stderr.read()
            assert (process.wait(60), complained) == (0, "ending (again: at once)\n")
            association.abort()
        finally:
            process.kill()
    lines = printed.splitlines()
    assert "requestor" in lines[0]
    assert any("MODALITY calls SCP, 2 contexts" in line for line in lines)
    assert any("refused: 1.2.3.4: abstract syntax not supported" in line for line in lines)
    assert any("99 more C-STORE, " in line for line in lines)
    assert any(line.startswith("1 connection, 1 association, 200 messages, ") for line in lines)
    assert len(scp.received) == 100
    assert PATIENT not in printed


def test_sigint_ends_it_with_a_summary(serve: Serve, trace: Trace) -> None:
    """api.md §6."""
    stack = contextlib.ExitStack()

    def talk(peer: str) -> None:
        association = stack.enter_context(dicomnet.associate(peer))
        association.c_echo()
        os.kill(os.getpid(), signal.SIGINT)

    done = trace(serve(), talk)
    with pytest.raises(dicomnet.DicomNetworkError), stack:
        raise dicomnet.AssociationAborted(0, 0)  # leaving it by an exception aborts
    assert done.code == 0
    assert "1 association, 2 messages" in done.out


def test_every_output_is_without_patients(serve: Serve, trace: Trace, command: Command, tmp_path: Path) -> None:
    """All that it writes, as verbose as it gets; and its capture is read again: the same messages, and a picture."""
    scp = serve()
    scp.answer = lambda request: 0xA700 if request.message_id == 2 else 0
    files = [tmp_path / name for name in ("t.svg", "t.html", "t.jsonl", "t.pcapng")]
    options = ["--svg", files[0], "--html", files[1], "--write", files[2], "--write", files[3], "-vv", "--all"]
    done = trace(scp, lambda peer: store(peer, 2), *options)
    assert done.code == 0
    for text in (done.out, *(path.read_text(encoding="latin-1") for path in files)):
        assert "1.2.3.1" in text or text.startswith("<svg")
        assert PATIENT not in text
        assert "SECRET" not in text
    picture = tmp_path / "again.svg"
    again = command("trace", files[3], "--svg", picture)
    assert again.code == 0
    lines = [
        [line[13:].partition(", after")[0] for line in text.splitlines() if "| #" in line]
        for text in (done.out, again.out)
    ]
    assert lines[0] == lines[1]
    assert "0xA700" in lines[0][3]
    assert "MODALITY calls SCP" in picture.read_text(encoding="utf-8")


def test_with_phi_identifiers_are_shown(serve: Serve, trace: Trace) -> None:
    """--phi."""
    assert PATIENT in trace(serve(), store, "--phi", "-v").out


def test_json_is_what_the_manual_lists(serve: Serve, trace: Trace, tmp_path: Path) -> None:
    """One object a line; --write has the same records."""
    scp, path = serve(), tmp_path / "records.jsonl"
    scp.answer = lambda request: 0xA700
    events = trace(scp, store, "--json", "--phi", "--write", path).events
    kinds = [event["event"] for event in events]
    assert (kinds[0], kinds[1], kinds[-2], kinds[-1]) == ("listening", "opened", "closed", "summary")
    response = next(event for event in events if event.get("name") == "C-STORE-RSP")
    assert (response["from"], response["status"], response["command"]["Status"]) == ("acceptor", 0xA700, 0xA700)
    request = next(event for event in events if event.get("name") == "C-STORE-RQ")
    assert request["dataset"]["00100010"]["Value"] == [{"Alphabetic": PATIENT}]
    assert events[-1]["failures"] == {"C-STORE-RSP: 0xA700 refused: out of resources": 1}
    written = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert written == [event for event in events if event["event"] in MEMBERS]


def test_only_associations_of_a_caller_are_shown(serve: Serve, trace: Trace) -> None:
    """--calling: the others pass all the same."""
    scp = serve()

    def talk(peer: str) -> None:
        store(peer, calling="CT1")
        store(peer, calling="CT2")

    done = trace(scp, talk, "--calling", "CT2", "--count", 2)
    assert len(scp.received) == 2
    assert "CT2 calls SCP" in done.out
    assert "CT1" not in done.out
    assert "1 connection, " in done.out


def test_it_ends_although_more_connections_end_at_once_than_were_asked_for(serve: Serve, trace: Trace) -> None:
    """--count 1, and three that end between two looks."""

    def talk(peer: str) -> None:
        associations = [dicomnet.associate(peer) for _ in range(3)]
        for association in associations:
            association.abort()

    assert trace(serve(), talk, "--count", 1).code == 0


def test_a_fault_is_done_and_told(serve: Serve, trace: Trace) -> None:
    """--fault."""

    def talk(peer: str) -> None:
        with pytest.raises(dicomnet.DicomNetworkError):
            store(peer)

    printed = trace(serve(), talk, "--fault", "on C-STORE-RQ: reset").out
    assert "[fault]" in printed
    assert "on C-STORE-RQ: reset" in printed
    assert "1 fault" in printed


def test_a_peer_that_is_not_there_is_told(free_port: int, trace: Trace) -> None:
    """The requestor sees a reset; the trace says why."""

    def talk(peer: str) -> None:
        with pytest.raises(dicomnet.DicomNetworkError):
            dicomnet.associate(peer)

    done = trace(Scp(port=free_port), talk, "--json")
    assert done.events[-2]["how"] == "unreachable"
    assert done.events[-1]["failures"] == {"the acceptor cannot be reached": 1}


def test_it_ends_by_itself(serve: Serve, trace: Trace) -> None:
    """--seconds."""
    assert "0 connections" in trace(serve(), lambda peer: None, "--seconds", 0.2).out


def test_no_file_is_left_where_nothing_was_drawn(serve: Serve, trace: Trace, tmp_path: Path) -> None:
    """--svg, --html: whether they can be written is seen before."""
    options = ["--svg", tmp_path / "t.svg", "--html", tmp_path / "t.html"]
    assert trace(serve(), lambda peer: None, "--seconds", 0.2, *options).code == 0
    assert list(tmp_path.iterdir()) == []


def test_on_a_terminal_it_counts_live(serve: Serve) -> None:
    """The count of what is folded stands below, and goes when it is told."""
    scp = serve()
    go_on = threading.Event()

    def answer(request: Any) -> int:
        if request.message_id == 40:
            go_on.wait(30)
        return 0

    scp.answer = answer
    with Terminal([*COMMAND, "trace", "0", f"{HOST}:{scp.port}", "--count", "1"], columns=100) as terminal:
        found = terminal.wait_for(r"listening on [\d.]+:(\d+)")
        sender = threading.Thread(target=store, args=(f"SCP@{HOST}:{found[1]}", 60))
        sender.start()
        try:
            terminal.wait_for("1: 38 more C-STORE|1: 39 more C-STORE")
        finally:
            go_on.set()
            sender.join(60)
        assert terminal.wait() == 0
        assert "──▶│" in terminal.screen
        assert "120 messages" in terminal.screen
        assert "1: 39 more" not in terminal.screen
        assert "1: 38 more" not in terminal.screen


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["11112"], "LISTEN and PEER"),
        (["port", "A@b"], "LISTEN is a port"),
        (["1", "2", "3"], "one FILE"),
        (["0", "nowhere"], "nowhere"),
        (["0", "A@b", "--tls"], "cannot read TLS"),
        (["0", "A@b", "--identity-username", "x"], "--identity"),
        (["0", "A@b", "--association", "2"], "--svg"),
        (["0", "A@b", "--write", "x.txt"], ".pcapng or .jsonl"),
        (["0", "A@b", "--write", "no/such/x.pcapng"], "no/such"),
        (["0", "A@b", "--svg", "no/such/folder/x.svg"], "no/such/folder"),
        (["0", "A@b", "--fault", "after 3 C-STOR-RQ: reset"], "C-STOR-RQ"),
        (["0", "A@b", "--write", "x.jsonl", "--svg", "./x.jsonl"], "named twice"),
        ([__file__, "--html", __file__], "named twice"),
        ([__file__], "capture"),
        ([__file__, "--fault", "on C-ECHO-RQ: reset"], "--fault"),
    ],
)
def test_wrong_usage_is_one_line_and_2(command: Command, arguments: list[str], hint: str) -> None:
    """api.md §6."""
    done = command("trace", *arguments)
    assert done.code == 2
    assert hint in done.err
    assert done.out == ""
    assert len(done.err.splitlines()) == 1


def test_a_program_of_dcmtk_does_not_notice_it(
    dcmtk: Callable[[str], Path], serve: Serve, trace: Trace, tmp_path: Path
) -> None:
    """storescu on one side."""
    path = tmp_path / "mr.dcm"
    instance(1, sop_class=MR).save(path)

    def talk(peer: str) -> None:
        subprocess.run([dcmtk("storescu"), HOST, peer.rpartition(":")[2], str(path)], check=True, timeout=60)

    printed = trace(serve(contexts=[MR]), talk).out
    assert "OFFIS_DCMTK" in printed
    assert "MR Image Storage" in printed
