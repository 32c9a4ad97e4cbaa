"""``dicomnet demo``: what it draws is what was recorded, and it fails when something did not arrive intact."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread

from dicomnet import EncodedDataset
from dicomnet.callbacks import DicomAssociate, DicomNet, NetError, PduType
from dicomnet.callbacks.recorder import Entry
from dicomnet.cli import demo, program
from dicomnet.cli.ladder import Ladder, argument_text, call_text, fold, pdu_name
from dicomnet.config import Timeouts
from dicomnet.trace.drawing import ASCII, BOXES
from tests.callbacks.recorder import CT, EXPLICIT, Scp, Scu, Stage
from tests.callbacks.test_security import certificates
from tests.cli.conftest import Done, command, logging_as_before
from tests.faces.wire import echo_rq

__all__ = ["command", "logging_as_before"]  # the fixtures

Run = Callable[..., Done]


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    if "demo" not in program.COMMANDS:
        monkeypatch.setitem(program.COMMANDS, "demo", "")


def test_all_files_arrive_and_the_ladder_is_drawn(command: Run) -> None:
    """Issue 2 part 6: moves real files, releases, prints the ladder diagram in two columns."""
    done = command("demo")
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    assert "SCU" in lines[0]
    assert "SCP" in lines[0]
    assert done.out.count("byte-identical") == len(demo._FILES) + 1
    assert f"{len(demo._FILES)} of {len(demo._FILES)} data sets arrived byte-identical" in lines[-1]
    assert f"{len(demo._FILES) - 1} more C-STOREs" in done.out
    assert "-- A-ASSOCIATE-RQ --" in done.out
    assert max(map(len, lines)) <= 132
    assert done.out.isascii()


def test_the_rungs_are_in_the_order_of_the_walk_through(command: Run) -> None:
    """§1: what the SCU calls and is told stands on the left, the SCP's on the right."""
    lines = command("demo").out.splitlines()
    column = lines[0].index("SCP")
    left = [line[9:column].split("  ")[0].strip() for line in lines if line[9:12] in ("cal", "tol", "  c")]
    names = [line.split("(")[0].removeprefix("calls").removeprefix("told").strip() for line in left if "(" in line]
    nested = [line[9:column].strip().split("(")[0].removeprefix("calls ") for line in lines if line[9:16] == "  calls"]
    assert names[:2] == ["DicomNet.startup", "connect"]
    assert nested == ["send_associate_request", "send_c_store_request", "send_release_request", "close"]
    right = [line[column:].split("(")[0].split()[-1] for line in lines if line[column:].split()[:1] == ["client"]]
    assert right[:3] == ["on_receive", "on_receive_associate_request", "send_associate_accept"]


def test_all_draws_every_store(command: Run) -> None:
    """--all."""
    done = command("demo", "--all")
    assert done.out.count("send_c_store_request(") == len(demo._FILES)
    assert "more C-STORE" not in done.out
    assert "on_send(" in done.out


def test_json_has_one_object_for_each_call(command: Run) -> None:
    """--json: one object per recorded call."""
    done = command("demo", "--json")
    kinds = [event["event"] for event in done.events]
    assert set(kinds) == {"call", "told", "file", "summary"}
    assert kinds.count("file") == done.events[-1]["identical"] == len(demo._FILES)
    calls = [event for event in done.events if event["event"] in ("call", "told")]
    assert [event["number"] for event in calls] == list(range(1, len(calls) + 1))
    stores = [event["arguments"] for event in calls if event["name"] == "send_c_store_request"]
    assert [arguments[-1] for arguments in stores] == list(demo._FILES)


@pytest.mark.parametrize("options", [[], ["--all"], ["--json"], ["-vv"]])
def test_no_patient_is_named(command: Run, options: list[str]) -> None:
    """Issue 2: patient names do not appear."""
    done = command("demo", *options)
    for name in demo._FILES:
        patient = str(dcmread(demo._load(name, "").path, force=True).get("PatientName", ""))
        assert not patient or (patient not in done.out and patient not in done.err)


@pytest.mark.parametrize("width", ["60", "80", "110", "200"])
def test_the_width_is_the_terminals(command: Run, monkeypatch: pytest.MonkeyPatch, width: str) -> None:
    """Width-aware; below 72 columns lines are longer than the terminal."""
    monkeypatch.setenv("COLUMNS", width)
    ladder = command("demo").out.split("\n \n")[0]
    assert max(map(len, ladder.splitlines())) <= max(int(width), 72)
    assert ladder.count("send_associate_accept") == 1


def test_quiet_tells_only_the_result(command: Run) -> None:
    """-q."""
    assert len(command("demo", "-q").out.splitlines()) == 1


def test_a_data_set_that_changed_on_the_way_is_found(command: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit code 0 only if everything arrived intact."""
    honest = EncodedDataset.__bytes__
    lies = iter([True])  # the first one that is received

    def bytes_of(self: EncodedDataset) -> bytes:
        data = honest(self)
        return data[:-1] + b"?" if self._data is not None and next(lies, False) else data

    monkeypatch.setattr(EncodedDataset, "__bytes__", bytes_of)
    done = command("demo")
    assert done.code == 1
    assert "DID NOT ARRIVE INTACT" in done.out
    assert f"{len(demo._FILES) - 1} of {len(demo._FILES)}" in done.out


def test_tls_is_possible(command: Run, tmp_path: Path) -> None:
    """API §6: --tls…; exit code 3: no association."""
    folder = certificates(tmp_path)
    options = ["--tls-cert", folder / "cert.pem", "--tls-key", folder / "key.pem"]
    done = command("demo", *options)
    assert done.code == 3
    assert "certificate verify failed" in done.err
    done = command("demo", *options, "--tls-ca", folder / "cert.pem")
    assert done.code == 0
    assert "on_secure_link_ready(SUCCESS)" in done.out


def test_a_terminal_gets_colours(stage: Stage) -> None:
    """With rich on a terminal."""
    pty = pytest.importorskip("pty", reason="not on this platform")
    import subprocess
    import sys

    main, other = pty.openpty()
    code = (
        "import sys; from dicomnet.cli import program; program.COMMANDS.setdefault('demo', '');"
        "sys.exit(program.run(['demo']))"
    )
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "100", "LC_ALL": "C.UTF-8"}
    process = subprocess.Popen([sys.executable, "-c", code], stdout=other, env=environment)
    os.close(other)
    output = b""
    try:
        while data := os.read(main, 65536):
            output += data
    except OSError:  # how a terminal ends on Linux
        pass
    os.close(main)
    assert process.wait(20) == 0
    text = output.decode()
    assert "\x1b[" in text
    assert "▶" in text
    assert "byte-identical" in text


# --- the ladder itself ----------------------------------------------------------------------------------------------


def entry(who: str, name: str, *arguments: Any, is_call: bool = False) -> Entry:
    return Entry(who, is_call, name, arguments, 0, 0.0, 0)


def store(mid: int, error: NetError = NetError.SUCCESS) -> list[Entry]:
    return [entry("SCU", "send_c_store_request", mid, is_call=True), entry("client", "on_receive", error, 4, b"")]


def test_only_like_operations_are_folded() -> None:
    """Nothing that was different is hidden."""
    end = entry("SCU", "close", is_call=True)
    entries = [*store(1), *store(2), *store(3), *store(4, NetError.RESET), *store(5), end]
    folded = fold(entries, "send_c_store_request")
    assert folded == [*entries[:2], 2, *entries[6:8], 1, end]
    assert fold(entries[:2], "send_c_store_request") == entries[:2]
    assert fold([end], "send_c_store_request") == [end]


def test_an_error_is_shown_as_one() -> None:
    """What went wrong stands out."""
    lines = list(Ladder(120, ASCII).draw([entry("SCU", "on_connect", NetError.REFUSED)], "C-STORE"))
    assert lines[-1].kind == "wrong"
    assert "on_connect(REFUSED)" in lines[-1].left


def test_arrows_end_where_the_pdu_is_received() -> None:
    """To the right for the SCP, to the left for the SCU."""
    received = [
        entry(who, "on_receive", NetError.SUCCESS, PduType.DATA_TRANSFER, echo_rq(1)[12:]) for who in ("SCU", "client")
    ]
    left, right = list(Ladder(120, BOXES).draw(received, "C-STORE"))[2:]
    assert left.arrow.startswith("◀")
    assert right.arrow.rstrip().endswith("▶")
    assert "C-ECHO-RQ" in left.arrow


def test_unknown_pdus_are_drawn_too() -> None:
    """A ladder of a broken dialogue is the more needed."""
    assert pdu_name(entry("SCU", "on_receive", NetError.PDU_TYPE_INVALID, PduType.UNKNOWN, b""), None) == "?"
    assert pdu_name(entry("SCU", "on_receive", NetError.SUCCESS, PduType.DATA_TRANSFER, b""), None) == "P-DATA"


def test_arguments_are_short_and_say_nothing_of_a_patient() -> None:
    """Names, sizes and numbers."""
    values: list[tuple[Any, str]] = [
        (NetError.RESET, "RESET"),
        (PduType.ABORT, "ABORT"),
        (DicomAssociate(), "<0 contexts>"),
        (DicomNet(), "scu"),
        (EncodedDataset(b"DOE^JANE", EXPLICIT), "<8 bytes>"),
        (b"DOE^JANE", "<8 bytes>"),
        (Path("/tmp/ct.dcm"), "ct.dcm"),
        (7, "7"),
        (CT, "CT Image Storage"),
        ("1.2.3.4.5.6.7.8.9.10.11.12", "'1.2.3.4...10.11.12'"),
        ("DEST", "'DEST'"),
        (None, "None"),
        (Timeouts(), "<Timeouts>"),
    ]
    assert [argument_text(value) for value, _ in values] == [text for _, text in values]
    assert call_text(entry("SCU", "on_receive_data", 1, object(), None)) == "on_receive_data(1, None)"


def test_a_recorder_watches_without_changing_anything(stage: Stage) -> None:
    """What is watched behaves as before: results, exceptions, and what the class is called."""
    scu = stage.scu(Scu)
    assert type(scu).__name__ == "Scu"
    assert isinstance(scu, Scu)
    assert stage.scu(Scp).on_private_key_password() == ""
    scu.connect(host="", host_port=0, peer="127.0.0.1", peer_port=stage.listener().host_port)
    stage.wait("SCU", "on_receive_associate_accept")
    assert stage.entries("SCU", "connect")[0].arguments[2] == "127.0.0.1"
