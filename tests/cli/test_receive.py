"""``dicomnet receive``: what is stored where, what is said, how it ends (PS3.4 Annex B)."""

import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

import dicomnet
from dicomnet.inbox import Inbox
from tests.cli.conftest import Credentials, Done
from tests.cli.programs import COMMAND, CT, EXPLICIT, HOST, Receive, file, instance, receiving
from tests.cli.terminal import Terminal
from tests.inbox.test_layout import HOSTILE

BIG = 2 << 20  # bytes: above what is kept in memory


def store(receive: Receive, *instances: dicomnet.EncodedDataset, **options: Any) -> list[dicomnet.Status]:
    with dicomnet.associate(receive.peer, contexts=[CT], **options) as association:
        return [association.c_store(one).status for one in instances]


def test_instances_are_stored_byte_for_byte_and_told(tmp_path: Path) -> None:
    sent = [instance(1), instance(2, PatientID="Müller/7"), instance(3, size=BIG)]
    with receiving(tmp_path / "inbox", "--ae", "STORE") as receive:
        assert receive.first_line.startswith(f"listening as STORE@{HOST}:")
        assert store(receive, *sent) == [0, 0, 0]
        told = [receive.line() for _ in sent]
        code, printed, complained = receive.stop()
    assert (code, complained) == (0, "ending; transfers under way may finish (again: at once)\n")
    assert printed.splitlines()[-1].startswith("3 stored (2.1 MB), 0 failed; 1 association")
    paths = [line.removeprefix("stored ") for line in told]
    assert paths[0] == "P1/1.2.3/1.2.3.0/1.2.3.1.dcm"
    assert sorted(paths) == receive.files()
    for path, original in zip(paths, sent, strict=True):
        assert bytes(dicomnet.EncodedDataset.from_file(receive.folder / path)) == bytes(original)
    assert os.listdir(receive.folder / ".incoming") == []


def test_ctrl_c_ends_it_with_0_as_sigterm_does(tmp_path: Path) -> None:
    with receiving(tmp_path) as receive:
        code, printed, _ = receive.stop(signal.SIGINT)
    assert code == 0
    assert printed == "0 stored (0 bytes), 0 failed; 0 associations\n"


def test_two_signals_at_once_end_it_at_once_but_not_without_its_summary(tmp_path: Path) -> None:
    with receiving(tmp_path) as receive:
        assert store(receive, instance()) == [0]
        receive.line()
        receive.process.send_signal(signal.SIGTERM)
        code, printed, _ = receive.stop(signal.SIGINT)
    assert code == 130
    assert printed.startswith("1 stored (")


def test_an_association_that_stands_does_not_keep_it(tmp_path: Path) -> None:
    with receiving(tmp_path) as receive:
        association = dicomnet.associate(receive.peer)
        assert receive.stop()[0] == 0
        with pytest.raises(dicomnet.DicomNetworkError):
            association.c_echo()


def test_json_lines(tmp_path: Path) -> None:
    with receiving(tmp_path, "--json", "-q") as receive:
        listening = json.loads(receive.first_line)
        assert listening["event"] == "listening"
        store(receive, instance(), calling_ae="SENDER")
        stored = json.loads(receive.line())
        _, printed, _ = receive.stop()
    assert stored == {
        "event": "stored",
        "path": "P1/1.2.3/1.2.3.0/1.2.3.1.dcm",
        "what": "stored",
        "size": len(instance()),
        "sop_class_uid": CT,
        "sop_instance_uid": "1.2.3.1",
        "transfer_syntax": EXPLICIT,
        "calling": "SENDER",
    }
    summary = json.loads(printed)
    assert summary == {
        "event": "summary", "stored": 1, "failed": 0, "bytes": len(instance()), "associations": 1,
        "replaced": 0, "same": 0, "beside": 0, "no_room": 0,
        "refused": 0, "refused_why": {"network": 0, "limit": 0, "calling": 0, "identity": 0, "other": 0},
        "studies": 1, "bytes_per_second": summary["bytes_per_second"],
    }  # fmt: skip


def test_an_instance_that_comes_again_replaces_the_first(tmp_path: Path) -> None:
    with receiving(tmp_path, "-q") as receive:
        store(receive, instance(size=10), instance(size=BIG), instance(size=20))
        receive.stop()
    (path,) = receive.files()
    assert bytes(dicomnet.EncodedDataset.from_file(tmp_path / path)) == bytes(instance(size=20))


def test_a_folder_that_goes_is_made_again(tmp_path: Path) -> None:
    with receiving(tmp_path) as receive:
        store(receive, instance(1))
        receive.line()
        os.rename(tmp_path / "P1", tmp_path / "elsewhere")
        assert store(receive, instance(2), instance(3, size=BIG)) == [0, 0]
        receive.stop()
    assert len(receive.files()) == 3


def test_what_cannot_be_stored_is_refused_and_told(tmp_path: Path) -> None:
    """PS3.4 Table B.2-1: A7xx, so that the sender may try again."""
    (tmp_path / "P1").write_text("in the way")
    with receiving(tmp_path) as receive:
        assert store(receive, instance(), instance(2, PatientID="P2"), instance(3, size=BIG)) == [0xA700, 0, 0xA700]
        code, printed, complained = receive.stop()
    assert code == 0
    assert "1 stored" in printed
    assert "2 failed" in printed
    assert "failed P1/1.2.3/1.2.3.0/1.2.3.1.dcm: " in complained
    assert "Traceback" not in complained


def test_a_reader_that_goes_away_does_not_stop_it(tmp_path: Path) -> None:
    with receiving(tmp_path) as receive:
        assert receive.process.stdout is not None
        receive.process.stdout.close()
        assert store(receive, instance(1), instance(2)) == [0, 0]
        receive.process.terminate()
        assert receive.process.wait(60) == 0
        assert receive.process.stderr is not None
        assert "rror" not in receive.process.stderr.read()
    assert len(receive.files()) == 2


def test_as_many_associations_of_one_peer_as_are_allowed_more_are_told_to_come_later(tmp_path: Path) -> None:
    """PS3.8 Table 9-21: rejected-transient, local limit exceeded."""
    with receiving(tmp_path, "--max-associations", 80) as receive:
        associations = [dicomnet.associate(receive.peer) for _ in range(80)]
        with pytest.raises(dicomnet.AssociationRejected) as caught:
            dicomnet.associate(receive.peer)
        assert (caught.value.result, caught.value.source, caught.value.reason) == (2, 3, 2)
        for association in associations:
            association.release()
        assert "; 80 associations; 1 not let in: 1 for being too many" in receive.stop()[1]


def test_workers_store_and_count_together(tmp_path: Path) -> None:
    """Each in a process of its own; what they have stored adds up."""
    with receiving(tmp_path, "--workers", 2) as receive:
        associations = [dicomnet.associate(receive.peer, contexts=[CT]) for _ in range(4)]
        for number, association in enumerate(associations):
            assert association.c_store(instance(number)).status == 0
            assert association.c_store(instance(number + 10, size=BIG)).status == 0
            association.release()
        code, printed, complained = receive.stop()
    assert (code, complained) == (0, "ending; transfers under way may finish (again: at once)\n")
    assert len(receive.files()) == 8
    lines = printed.splitlines()
    assert sorted(line.removeprefix("stored ") for line in lines[:-1]) == receive.files()
    assert lines[-1].startswith("8 stored (8.4 MB), 0 failed; 4 associations")
    assert os.listdir(tmp_path / ".incoming") == []


@pytest.mark.parametrize(("options", "asked", "granted"), [((), 50, 16), (("--window", 2), 50, 2)])
def test_a_sender_gets_an_operations_window(tmp_path: Path, options: Any, asked: int, granted: int) -> None:
    """PS3.7 D.3.3.3: what it asks for, up to the limit; all that it sends at once is stored."""
    with receiving(tmp_path, *options) as receive:
        with dicomnet.associate(receive.peer, contexts=[CT], async_ops=(1, 1)) as association:
            assert association.async_ops == (1, 1)
        with dicomnet.associate(receive.peer, contexts=[CT], async_ops=(asked, 1)) as association:
            assert association.async_ops == (granted, 1)
            with ThreadPoolExecutor(8) as pool:
                sent = [instance(number, size=(60_000, BIG)[number % 8 == 0]) for number in range(24)]
                assert {response.status for response in pool.map(association.c_store, sent)} == {0}
        receive.stop()
    stored = sorted(map(bytes, map(dicomnet.EncodedDataset.from_file, tmp_path.rglob("*.dcm"))))
    assert stored == sorted(map(bytes, sent))


def test_callers_can_be_limited(tmp_path: Path) -> None:
    with receiving(tmp_path, "--calling", "CT1", "--calling", "CT2") as receive:
        dicomnet.associate(receive.peer, calling_ae="CT2").release()
        with pytest.raises(dicomnet.AssociationRejected):
            dicomnet.associate(receive.peer, calling_ae="CT3")
        assert "; 1 association; 1 not let in: 1 by their AE title" in receive.stop()[1]


def test_an_identity_can_be_asked_for(tmp_path: Path) -> None:
    """PS3.7 D.3.3.7"""
    with receiving(tmp_path, "--identity-username", "jdoe", "--identity-passcode", "right") as receive:
        dicomnet.associate(receive.peer, identity=dicomnet.Identity.passcode("jdoe", "right")).release()
        for identity in (None, dicomnet.Identity.passcode("jdoe", "wrong"), dicomnet.Identity.username("jdoe")):
            with pytest.raises(dicomnet.AssociationRejected):
                dicomnet.associate(receive.peer, identity=identity)
        assert "3 not let in: 3 without the right identity" in receive.stop()[1]


def test_tls_on_both_sides(tmp_path: Path, credentials: Credentials, command: Callable[..., Done]) -> None:
    """PS3.15 B"""
    ours = ["--tls-ca", credentials.certificate, "--tls-cert", credentials.certificate, "--tls-key", credentials.key]
    more = ["--allow-from", "127.0.0.0/8", "--layout", "{SOPInstanceUID}", "--duplicates", "keep", "--keep-free", "1MB"]
    with receiving(tmp_path, *ours, *more) as receive:
        path = file(tmp_path / "sent", size=BIG)
        assert command("send", receive.peer, path, *ours).code == 0
        assert bytes(dicomnet.EncodedDataset.from_file(tmp_path / "1.2.3.1")) == bytes(instance(size=BIG))
        assert command("echo", receive.peer, *ours[:2]).code in (3, 4), "without a certificate"


def test_where_it_cannot_listen_it_says_so_and_ends_with_2(tmp_path: Path, command: Callable[..., Done]) -> None:
    with socket.create_server((HOST, 0)) as taken:
        done = command("receive", tmp_path, "--port", taken.getsockname()[1])
    assert done.code == 2
    assert "--port" in done.err
    assert len(done.err.splitlines()) == 1


def test_where_it_cannot_store_it_says_so_and_ends_with_2(tmp_path: Path, command: Callable[..., Done]) -> None:
    (tmp_path / "file").touch()
    done = command("receive", tmp_path / "file" / "inbox", "--port", 0)
    assert done.code == 2
    assert "choose another FOLDER" in done.err


def test_all_addresses(tmp_path: Path) -> None:
    with receiving(tmp_path, "--host", "*") as receive:
        assert receive.first_line.startswith("listening as DICOMNET@*:")
        dicomnet.associate(receive.peer).release()


@pytest.mark.skipif(sys.platform == "win32", reason="no pty")
def test_a_terminal_shows_how_it_is_doing_below_what_comes(tmp_path: Path) -> None:
    """Also with workers, which print by themselves; and nothing of it is left in the end."""
    with Terminal([*COMMAND, "receive", tmp_path, "--port", 0, "--workers", 2], columns=100) as terminal:
        port = terminal.wait_for(r":(\d+), storing")[1]
        terminal.wait_for(r"0 instances  0 studies  0 bytes  0/s  0 bytes/s  0 open  [\d.]+ .B free$")
        with dicomnet.associate(f"STORE@{HOST}:{port}", contexts=[CT]) as association:
            for number in range(5):
                assert association.c_store(instance(number)).status == 0
            terminal.wait_for(r"\n5 instances  1 study  .*  1 open  [^\n]* free$")
        terminal.wait_for(r"  0 open  [^\n]* free$")
        assert len(re.findall("^stored P1", terminal.visible, re.MULTILINE)) == 5
        terminal.press("ctrl-c")
        assert terminal.wait() == 0
        assert terminal.visible.splitlines()[-1].startswith("5 stored (")


# --- layout, duplicates, room, networks -----------------------------------------------------------------------------


def test_a_layout_says_where_instances_go(tmp_path: Path) -> None:
    layout = "{StudyDate:4}/{CallingAE}/{Modality}_{SOPInstanceUID}.dcm"
    with receiving(tmp_path, "--layout", layout) as receive:
        store(receive, instance(1, StudyDate="20260131", Modality="CT"), instance(2), calling_ae="CT1")
        receive.stop()
    assert receive.files() == ["2026/CT1/CT_1.2.3.1.dcm", "no-study-date/CT1/no-modality_1.2.3.2.dcm"]


@pytest.mark.parametrize(
    ("option", "value", "why"),
    [
        ("--layout", "{PatientID}", "needs {SOPInstanceUID}"),
        ("--exec", "no-such-program-anywhere", "no program"),
        ("--allow-from", "192.0.2.1/24", "Example: 192.0.2.0/24"),
        ("--keep-free", "plenty", "such as 5GB"),
    ],
)
def test_an_option_that_makes_no_sense_is_refused_with_what_would(
    tmp_path: Path, command: Callable[..., Done], option: str, value: str, why: str
) -> None:
    done = command("receive", tmp_path, option, value)
    assert done.code == 2
    assert why in done.err


def test_workers_compare_what_comes_twice(tmp_path: Path) -> None:
    with receiving(tmp_path, "--workers", 2, "--duplicates", "compare", "--json", "--sync") as receive:
        for _ in range(2):
            assert store(receive, instance(1, size=10), instance(1, size=20), instance(2, size=BIG)) == [0, 0, 0]
        code, printed, complained = receive.stop()
    assert code == 0
    *told, summary = map(json.loads, printed.splitlines())
    assert [one["what"] for one in told] == ["stored", "beside", "stored", "same", "same", "same"]
    assert (summary["stored"], summary["beside"], summary["same"], summary["studies"]) == (3, 1, 3, 1)
    assert complained.count("another instance has the same name") == 1
    assert len(receive.files()) == 3


def test_a_disk_without_room_refuses_and_says_so(tmp_path: Path) -> None:
    """PS3.4 Table B.2-1: refused, out of resources; of large instances while they come."""
    with receiving(tmp_path, "--keep-free", "100%") as receive:
        assert store(receive, instance(1), instance(2, size=BIG)) == [0xA700, 0xA700]
        code, printed, complained = receive.stop()
    assert code == 0
    assert "0 stored" in printed
    assert "2 refused for want of disk space" in printed
    assert complained.splitlines()[0].startswith("instances will be refused: the disk has no room")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_networks_can_be_limited(tmp_path: Path) -> None:
    with receiving(tmp_path, "--allow-from", "192.0.2.0/24") as receive:
        with pytest.raises(dicomnet.DicomNetworkError):
            dicomnet.associate(receive.peer)
        _, printed, complained = receive.stop()
        assert "no connections are accepted from there" in complained
        assert printed == "0 stored (0 bytes), 0 failed; 0 associations; 1 not let in: 1 by --allow-from\n"
    with receiving(tmp_path, "--allow-from", "192.0.2.0/24", "--allow-from", "127.0.0.0/8", "--workers", 2) as receive:
        dicomnet.associate(receive.peer).release()


# --- studies --------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(os.name != "posix", reason="runs a shell")
@pytest.mark.parametrize("workers", [1, 2])
def test_a_command_runs_when_a_study_is_complete(tmp_path: Path, workers: int) -> None:
    """Once for what several associations, in several processes, have brought; without waiting for the end."""
    options = (
        "--workers",
        workers,
        "--json",
        "--exec-after",
        0.5,
        "--exec",
        "sh -c 'echo $0 $1; exit $1' {folder} {count}",
    )
    with receiving(tmp_path, *options) as receive:
        associations = [dicomnet.associate(receive.peer, contexts=[CT]) for _ in range(2)]
        for number, association in enumerate(associations):
            assert association.c_store(instance(number)).status == 0
        for association in associations:
            association.release()
        told = [json.loads(receive.line()) for _ in range(3)]
        _, _, complained = receive.stop()
    assert [one["event"] for one in told] == ["stored", "stored", "exec"]
    ran = told[-1]
    assert (ran["study_instance_uid"], ran["folder"], ran["count"]) == ("1.2.3", "P1/1.2.3", 2)
    assert (ran["outcome"], ran["exit_code"]) == ("failed", 2)
    assert ran["said"] == f"{tmp_path}/P1/1.2.3 2"
    assert f"--exec failed for P1/1.2.3: exit code 2: {tmp_path}/P1/1.2.3 2" in complained


@pytest.mark.skipif(os.name != "posix", reason="runs a shell")
def test_what_is_complete_at_the_end_is_run_before_it(tmp_path: Path) -> None:
    with receiving(
        tmp_path / "in", "--exec", f"touch {tmp_path}/{{StudyInstanceUID}}", "--exec-after", 1000
    ) as receive:
        store(receive, instance(1), instance(2, StudyInstanceUID="1.9"))
        code, printed, _ = receive.stop()
    assert code == 0
    assert printed.count("ran for P1/") == 2
    assert "2 studies" in printed.splitlines()[-1]
    assert {"1.2.3", "1.9"} <= set(os.listdir(tmp_path))


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_a_second_signal_ends_commands_and_tells_what_did_not_run(tmp_path: Path) -> None:
    started = tmp_path / "started"
    options = ("--exec", f"sh -c 'echo > {started}; exec sleep 60'", "--exec-after", 0, "--exec-jobs", 1, "--json")
    with receiving(tmp_path / "in", "--workers", 2, *options) as receive:
        store(receive, instance(1))
        receive.line()
        deadline = time.monotonic() + 60
        while not started.exists():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        store(receive, instance(2, StudyInstanceUID="1.9"))
        receive.line()
        receive.process.send_signal(signal.SIGINT)
        assert receive.process.stderr is not None
        assert receive.process.stderr.readline().startswith("ending")
        code, printed, _ = receive.stop(signal.SIGINT)
    assert code == 130
    told = [json.loads(line) for line in printed.splitlines()]
    assert {one["study_instance_uid"]: one["outcome"] for one in told if one["event"] == "exec"} == {
        "1.2.3": "stopped", "1.9": "not run",
    }  # fmt: skip
    assert told[-1]["event"] == "summary"


# --- the spool folder -----------------------------------------------------------------------------------------------


def test_what_a_crash_left_goes_and_what_another_run_writes_stays(tmp_path: Path) -> None:
    spool = tmp_path / ".incoming"
    spool.mkdir()
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    stale = spool / f".receiving-{ended.pid}-0-00000000"
    old = spool / f".receiving-{os.getppid()}-0-00000000"
    running = spool / f".receiving-{os.getppid()}-1-00000000"
    other = spool / "notes.txt"
    for path in (stale, old, running, other):
        path.touch()
    os.utime(old, (time.time() - 100_000,) * 2)
    Inbox(tmp_path)
    assert sorted(os.listdir(spool)) == sorted((running.name, other.name))


# --- names ----------------------------------------------------------------------------------------------------------

values = st.sampled_from(HOSTILE) | st.text(st.characters(exclude_categories=["Cs"]), max_size=70)


@pytest.fixture(scope="module")
def inbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, dicomnet.Association]]:
    folder = tmp_path_factory.mktemp("outer") / "inbox"
    inbox = Inbox(folder)
    ae = dicomnet.AE("STORE", contexts=[CT])
    ae.on_c_store(lambda request: inbox.keep(request.dataset) and 0)
    with (
        dicomnet.serve(ae, HOST, 0) as server,
        dicomnet.associate(f"STORE@{HOST}:{server.port}", contexts=[(CT, [EXPLICIT])]) as association,
    ):
        yield folder, association


@given(values, values, values)
@settings(max_examples=60)
def test_hostile_values_stay_in_the_folder(
    inbox: tuple[Path, dicomnet.Association], patient: str, study: str, series: str
) -> None:
    folder, association = inbox
    before = {path for path in folder.parent.rglob("*") if path.is_file()}
    uid = f"1.2.{len(before) + 1}"
    sent = raw_instance(patient, study, series, uid)
    assert association.c_store(sent).status == 0
    (path,) = {path for path in folder.parent.rglob("*") if path.is_file()} - before
    assert path.is_relative_to(folder)
    assert len(path.relative_to(folder).parts) == 4
    assert path.name == f"{uid}.dcm"
    assert path.resolve() == path
    assert bytes(dicomnet.EncodedDataset.from_file(path)) == bytes(sent)


def raw_instance(patient: str, study: str, series: str, uid: str) -> dicomnet.EncodedDataset:
    """An instance with exactly these values; pydicom would not write all of them."""

    def element(tag: int, vr: bytes, value: str) -> bytes:
        data = value.encode("utf-8", "surrogatepass")[:60_000]
        data += b" " * (len(data) % 2)
        return struct.pack("<HH2sH", tag >> 16, tag & 0xFFFF, vr, len(data)) + data

    data = b"".join(
        (
            element(0x00080016, b"UI", CT + "\0"),
            element(0x00080018, b"UI", uid + "\0" * (len(uid) % 2)),
            element(0x00100020, b"LO", patient),
            element(0x0020000D, b"UI", study),
            element(0x0020000E, b"UI", series),
        )
    )
    return dicomnet.EncodedDataset(data, EXPLICIT, CT, uid)
