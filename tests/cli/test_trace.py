"""``dicomnet trace``: between real programs, on a terminal and in a pipe; what it writes, and how it ends."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import dicomnet
from dicomnet.trace.members import MEMBERS
from tests.cli.conftest import Done, Scp
from tests.cli.programs import COMMAND, CT, HOST, MR, instance
from tests.cli.terminal import Terminal

PATIENT = "SECRET^NAME"
Serve = Callable[..., Scp]
Command = Callable[..., Done]


@dataclass
class Tracing:
    """A running ``dicomnet trace`` and the port that it listens on."""

    process: subprocess.Popen[str]
    first_line: str
    port: int

    @property
    def peer(self) -> str:
        return f"SCP@{HOST}:{self.port}"

    def stop(self, number: int | None = signal.SIGTERM) -> str:
        """End it by a signal, or wait for its end: what else it has printed."""
        if number is not None:
            self.process.send_signal(number)
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        printed = self.process.stdout.read()  # communicate() would lose what has come with the first line
        complained = self.process.stderr.read()
        self.process.wait(60)
        assert (self.process.returncode, complained.replace("ending (again: at once)\n", "")) == (0, "")
        return printed


@contextlib.contextmanager
def tracing(scp: Scp, *options: Any) -> Iterator[Tracing]:
    process = subprocess.Popen(
        [*COMMAND, "trace", "0", f"{HOST}:{scp.port}", *map(str, options)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            assert process.stdout is not None
            first = process.stdout.readline()
            found = re.search(r'(?::|"port": )(\d+),', first)
            assert found is not None, first
            yield Tracing(process, first, int(found[1]))
        finally:
            process.kill()


def store(peer: str, count: int = 1, calling: str = "MODALITY") -> None:
    with dicomnet.associate(peer, calling_ae=calling, contexts=[CT, "1.2.3.4"]) as association:
        for number in range(1, count + 1):
            association.c_store(instance(number, PatientName=PATIENT))


def test_it_tells_its_address_and_draws_what_passes(serve: Serve) -> None:
    """api.md §6: one line with the address once it listens."""
    scp = serve()
    with tracing(scp) as trace:
        assert trace.first_line == f"listening on {HOST}:{trace.port}, forwarding to {HOST}:{scp.port}\n"
        store(trace.peer, 100)
        scp.ended()
        printed = trace.stop()
    lines = printed.splitlines()
    assert "requestor" in lines[0]
    assert any("MODALITY calls SCP, 2 contexts" in line for line in lines)
    assert any("refused: 1.2.3.4: abstract syntax not supported" in line for line in lines)
    assert any("99 more C-STORE, " in line for line in lines)
    assert any(line.startswith("1 connection, 1 association, 200 messages, ") for line in lines)
    assert len(scp.received) == 100
    assert PATIENT not in printed


def test_every_output_is_without_patients(serve: Serve, tmp_path: Path) -> None:
    """All that it writes, as verbose as it gets."""
    scp = serve()
    files = [tmp_path / name for name in ("t.svg", "t.html", "t.jsonl", "t.pcapng")]
    options = ["--svg", files[0], "--html", files[1], "--write", files[2], "--write", files[3], "-vv", "--all"]
    with tracing(scp, *options, "--count", 1) as trace:
        store(trace.peer, 2)
        printed = trace.stop(None)
    for text in (printed, *(path.read_text(encoding="latin-1") for path in files)):
        assert "1.2.3.1" in text or text.startswith("<svg")
        assert PATIENT not in text
        assert "SECRET" not in text


def test_its_capture_is_read_again(serve: Serve, command: Command, tmp_path: Path) -> None:
    """--write FILE.pcapng, and FILE: the same messages, and a picture."""
    capture, picture = tmp_path / "t.pcapng", tmp_path / "t.svg"
    scp = serve()
    scp.answer = lambda request: 0xA700
    with tracing(scp, "--count", 1, "--write", capture) as trace:
        store(trace.peer)
        live = trace.stop(None)
    done = command("trace", capture, "--svg", picture)
    assert done.code == 0
    lines = [
        [line[13:].partition(", after")[0] for line in text.splitlines() if "C-" in line] for text in (live, done.out)
    ]
    assert lines[0][:2] == lines[1][:2]
    assert "0xA700" in lines[0][1]
    assert "MODALITY calls SCP" in picture.read_text(encoding="utf-8")
    assert PATIENT not in capture.read_bytes().decode("latin-1")


def test_with_phi_identifiers_are_shown(serve: Serve) -> None:
    """--phi."""
    with tracing(serve(), "--phi", "-v", "--count", 1) as trace:
        store(trace.peer)
        assert PATIENT in trace.stop(None)


def test_json_is_what_the_manual_lists(serve: Serve, tmp_path: Path) -> None:
    """One object a line; --write has the same records."""
    scp, path = serve(), tmp_path / "records.jsonl"
    scp.answer = lambda request: 0xA700
    with tracing(scp, "--json", "--count", 1, "--phi", "--write", path) as trace:
        store(trace.peer)
        events = Done(0, trace.first_line + trace.stop(None), "", "trace").events
    kinds = [event["event"] for event in events]
    assert (kinds[0], kinds[1], kinds[-2], kinds[-1]) == ("listening", "opened", "closed", "summary")
    response = next(event for event in events if event.get("name") == "C-STORE-RSP")
    assert (response["from"], response["status"], response["command"]["Status"]) == ("acceptor", 0xA700, 0xA700)
    request = next(event for event in events if event.get("name") == "C-STORE-RQ")
    assert request["dataset"]["00100010"]["Value"] == [{"Alphabetic": PATIENT}]
    assert events[-1]["failures"] == {"C-STORE-RSP: 0xA700 refused: out of resources": 1}
    written = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert written == [event for event in events if event["event"] in MEMBERS]


def test_only_associations_of_a_caller_are_shown(serve: Serve) -> None:
    """--calling: the others pass all the same."""
    scp = serve()
    with tracing(scp, "--calling", "CT2", "--count", 2) as trace:
        store(trace.peer, calling="CT1")
        store(trace.peer, calling="CT2")
        printed = trace.stop(None)
    assert len(scp.received) == 2
    assert "CT2 calls SCP" in printed
    assert "CT1" not in printed
    assert "1 connection, " in printed


def test_a_fault_is_done_and_told(serve: Serve) -> None:
    """--fault."""
    with tracing(serve(), "--fault", "on C-STORE-RQ: reset", "--count", 1) as trace:
        with pytest.raises(dicomnet.DicomNetworkError):
            store(trace.peer)
        printed = trace.stop(None)
    assert "[fault]" in printed
    assert "on C-STORE-RQ: reset" in printed
    assert "1 fault" in printed


def test_a_peer_that_is_not_there_is_told(serve: Serve, free_port: int) -> None:
    """The requestor sees a reset; the trace says why."""
    with tracing(Scp(port=free_port), "--count", 1, "-q") as trace:
        with pytest.raises(dicomnet.DicomNetworkError):
            dicomnet.associate(trace.peer)
        trace.process.wait(60)
        assert trace.process.returncode == 0
        assert trace.process.stdout is not None
        assert "1 failure" in trace.process.stdout.read()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_with_a_summary(serve: Serve, number: int) -> None:
    """api.md §6: it ends cleanly, also while an association stands."""
    with tracing(serve()) as trace, contextlib.ExitStack() as stack:
        association = stack.enter_context(dicomnet.associate(trace.peer))
        association.c_echo()
        printed = trace.stop(number)
        assert "1 association, 2 messages" in printed
        stack.pop_all()
        association.abort()


def test_it_ends_by_itself(serve: Serve) -> None:
    """--seconds."""
    with tracing(serve(), "--seconds", 0.2) as trace:
        assert "0 connections" in trace.stop(None)


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
        ([__file__], "capture"),
        ([__file__, "--fault", "on C-ECHO-RQ: reset"], "--fault"),
    ],
)
def test_wrong_usage_is_one_line_and_2(command: Command, arguments: list[str], hint: str) -> None:
    """api.md §6."""
    done = command("trace", *arguments)
    assert done.code == 2
    assert hint in done.err
    assert len(done.err.splitlines()) == 1


def test_a_program_of_dcmtk_does_not_notice_it(dcmtk: Callable[[str], Path], serve: Serve, tmp_path: Path) -> None:
    """storescu on one side."""
    path = tmp_path / "mr.dcm"
    instance(1, sop_class=MR).save(path)
    scp = serve(contexts=[MR])
    with tracing(scp, "--count", 1) as trace:
        subprocess.run([dcmtk("storescu"), HOST, str(trace.port), str(path)], check=True, timeout=60)
        printed = trace.stop(None)
    assert "OFFIS_DCMTK" in printed
    assert "MR Image Storage" in printed
