"""``dicomnet get``: instances into a folder on the association that asks for them (PS3.4 C.4.3)."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset, dcmread
from pydicom.data import get_testdata_file

import dicomnet
from dicomnet.cli.output import Output
from dicomnet.cli.retrieving import Retrieval, make_inbox
from dicomnet.models import is_storage, query_class
from dicomnet.retrieval.contexts import COMMON, COMPRESSED, classes_at, contexts
from dicomnet.ul.negotiation import EXPLICIT_VR_LITTLE_ENDIAN, MAX_CONTEXTS
from tests.cli.conftest import Done
from tests.cli.in_process import press_ctrl_c
from tests.cli.programs import COMMAND, CT, EXPLICIT, HOST, JPEG_LS, MR, instance
from tests.cli.terminal import Terminal
from tests.interop import peers

FIND, GET = query_class("study", "find"), query_class("study", "get")
STUDY = ["-k", "StudyInstanceUID=1.2.3"]
Run = Callable[..., Done]


# --- contexts -------------------------------------------------------------------------------------------------------


def test_the_common_classes_fit_into_one_association() -> None:
    """PS3.8 9.3.2.2: 128 contexts, of which C-GET needs one."""
    proposed = contexts()
    assert len(proposed) < MAX_CONTEXTS
    assert len(set(COMMON)) == len(COMMON)
    assert all(map(is_storage, COMMON))
    assert {uid for uid, _ in proposed} == set(COMMON)
    with pytest.raises(ValueError, match="128 SOP classes"):
        contexts([f"1.2.{number}" for number in range(128)])


def test_few_classes_have_a_context_for_each_transfer_syntax() -> None:
    """The acceptor chooses one of each: so that compressed instances come as they are."""
    for classes in ([CT], [CT, MR], [f"1.2.{number}" for number in range(100)]):
        proposed = contexts(classes)
        assert len(proposed) < MAX_CONTEXTS
        for uid in classes:
            syntaxes = [each for own, each in proposed if own == uid]
            assert EXPLICIT_VR_LITTLE_ENDIAN in syntaxes[0]
            assert set(COMPRESSED) <= {syntax for each in syntaxes for syntax in each}
    assert [each for _, each in contexts([CT])][1:4] == [(syntax,) for syntax in COMPRESSED[:3]]


# --- the command ----------------------------------------------------------------------------------------------------


def classes(*uids: str) -> list[Dataset]:
    found = Dataset()
    found.SOPClassesInStudy = list(uids)
    return [found]


class Archive:
    """A server with instances. ``told``: what it answers to a query for SOP classes."""

    def __init__(self) -> None:
        self.instances: Any = [instance(1), instance(2, sop_class=MR, syntax=JPEG_LS)]
        self.told: list[Dataset] = classes(CT, MR)
        self.answers: list[int] = []
        self.errors: list[Any] = []
        self.ended = threading.Semaphore(0)

    def get(self, request: Any) -> Any:
        return self.instances(request) if callable(self.instances) else self.instances

    def close(self, association: Any) -> None:
        self.errors.append(association.error)
        self.ended.release()


@pytest.fixture
def archive() -> Iterator[Archive]:
    archive = Archive()
    ae = dicomnet.AE("ARCHIVE", contexts=[FIND, GET, *dicomnet.StorageClasses])
    ae.on_c_find(lambda request: archive.told)
    ae.on_c_get(archive.get)
    ae.on_close(archive.close)
    with dicomnet.serve(ae, HOST) as server:
        archive.peer = f"ARCHIVE@{HOST}:{server.port}"
        yield archive


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.dcm"))


def test_instances_are_stored_as_they_come(command: Run, archive: Archive, tmp_path: Path) -> None:
    """Also compressed ones, as the peer tells which classes there are."""
    done = command("get", archive.peer, tmp_path, *STUDY)
    assert done.code == 0, done.err
    assert files(tmp_path) == ["P1/1.2.3/1.2.3.0/1.2.3.1.dcm", "P1/1.2.3/1.2.3.0/1.2.3.2.dcm"]
    kept = [dicomnet.EncodedDataset.from_file(tmp_path / path) for path in files(tmp_path)]
    assert [(bytes(each), each.transfer_syntax) for each in kept] == [
        (bytes(each), each.transfer_syntax) for each in archive.instances
    ]
    assert done.out.splitlines()[0] == "stored P1/1.2.3/1.2.3.0/1.2.3.1.dcm"
    assert done.out.splitlines()[-1].startswith("2 stored (")
    assert ", 0 failed in " in done.out


def test_a_peer_that_does_not_tell_its_classes(command: Run, archive: Archive, tmp_path: Path) -> None:
    """Then those that are common are proposed."""
    archive.told = []
    archive.instances = [instance(1), instance(2, sop_class=MR)]
    assert command("get", archive.peer, tmp_path, *STUDY, "-q").out.startswith("2 stored (")


def test_json_and_a_layout(command: Run, archive: Archive, tmp_path: Path) -> None:
    done = command("get", archive.peer, tmp_path, *STUDY, "--json", "--layout", "{PatientID}/{SOPInstanceUID}.dcm")
    stored = [event for event in done.events if event["event"] == "stored"]
    assert [(event["path"], event["what"], event["transfer_syntax"]) for event in stored] == [
        ("P1/1.2.3.1.dcm", "stored", EXPLICIT), ("P1/1.2.3.2.dcm", "stored", JPEG_LS),
    ]  # fmt: skip
    summary = done.events[-1]
    assert (summary["status"], summary["completed"], summary["stored"], summary["failed"]) == (0, 2, 2, 0)


def test_again_keeps_what_is_there(command: Run, archive: Archive, tmp_path: Path) -> None:
    command("get", archive.peer, tmp_path, *STUDY)
    done = command("get", archive.peer, tmp_path, *STUDY, "--duplicates", "keep", "--json")
    assert [event["what"] for event in done.events if event["event"] == "stored"] == ["same", "same"]


def test_what_fails_is_listed_and_ends_with_1(command: Run, archive: Archive, tmp_path: Path) -> None:
    """PS3.4 C.4.3.1.3.2: what cannot be stored here is answered so, and what had no context is named by the peer."""
    (tmp_path / "P1").write_text("in the way")
    archive.instances = [instance(1), instance(2, PatientID="P2"), instance(3, sop_class=MR, PatientID="P2")]
    done = command("get", archive.peer, tmp_path, *STUDY, "--sop-class", "CTImageStorage")
    assert done.code == 1
    assert files(tmp_path) == ["P2/1.2.3/1.2.3.0/1.2.3.2.dcm"]
    first, second = (line for line in done.err.splitlines() if line.startswith("failed"))
    assert first.startswith("failed 1.2.3.1: cannot be stored here: ")
    assert second.startswith("failed 1.2.3.3: the peer could not send it")
    assert "1 stored (" in done.out
    assert ", 2 failed" in done.out


def test_a_failure_of_the_peer_is_told_in_words(command: Run, archive: Archive, tmp_path: Path) -> None:
    def refuse(request: Any) -> Any:
        raise dicomnet.StatusError(0xA701, "the index is broken")

    archive.instances = refuse
    done = command("get", archive.peer, tmp_path, *STUDY, "--json")
    assert done.code == 1
    assert [event["event"] for event in done.events][-2:] == ["summary", "error"]
    assert "unable to calculate the number of matches, status 0xA701: the index is broken" in done.err
    assert archive.ended.acquire(timeout=30)
    assert archive.ended.acquire(timeout=30)
    assert archive.errors == [None, None]


def test_a_limit_cancels(command: Run, archive: Archive, tmp_path: Path) -> None:
    def endless(request: Any) -> Iterator[Any]:
        number = 0
        while not request.cancelled:
            number += 1
            yield instance(number)

    archive.instances = endless
    done = command("get", archive.peer, tmp_path, *STUDY, "--limit", 3)
    assert done.code == 0
    assert len(files(tmp_path)) >= 3
    assert "cancelled at --limit, there may be more" in done.out


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["-k", "PatientID=P1"], "needs StudyInstanceUID"),
        ([*STUDY, "--sop-class", "CTImage"], "CTImageStorage"),
        ([*STUDY, "--layout", "{PatientID}"], "SOPInstanceUID"),
        ([*STUDY, "--model", "worklist"], "C-GET"),
    ],
)
def test_wrong_usage_is_explained(command: Run, tmp_path: Path, arguments: list[str], hint: str) -> None:
    done = command("get", "A@127.0.0.1:1", tmp_path / "inbox", *arguments)
    assert done.code == 2
    assert hint in done.err


def test_ctrl_c_cancels_and_releases(piped: Any, archive: Archive, tmp_path: Path) -> None:
    """130, what came is stored, and the association is released although the peer does nothing more."""
    cancelled = threading.Event()

    def slow(request: Any) -> Iterator[Any]:
        yield instance(1)
        while json.loads(piped.line())["event"] != "progress":
            pass
        press_ctrl_c()
        while not request.cancelled:
            threading.Event().wait(0.01)
        cancelled.set()

    archive.instances = slow
    done = piped("get", archive.peer, tmp_path, *STUDY, "--json")
    assert done.code == 130
    assert json.loads(done.out.splitlines()[-1])["interrupted"] is True
    assert cancelled.is_set()
    assert files(tmp_path) == ["P1/1.2.3/1.2.3.0/1.2.3.1.dcm"]
    assert archive.ended.acquire(timeout=30)
    assert archive.ended.acquire(timeout=30)
    assert archive.errors == [None, None]


def test_ctrl_c_while_the_peer_lists_its_classes(command: Run, archive: Archive, tmp_path: Path) -> None:
    """Before the retrieval; a peer may have no end of matches."""
    pressed = False

    def endless() -> Iterator[Dataset]:
        nonlocal pressed
        while True:
            yield classes("1.2.840.10008.1.1")[0]
            if not pressed:
                press_ctrl_c()
            pressed = True

    archive.told = endless()
    done = command("get", archive.peer, tmp_path, *STUDY)
    assert (done.code, files(tmp_path)) == (130, [])
    assert archive.ended.acquire(timeout=30)
    assert archive.errors == [None]


def test_classes_are_gathered_within_bounds() -> None:
    """What a peer says without end."""
    wanted, asked = Dataset(), []
    wanted.QueryRetrieveLevel, wanted.StudyInstanceUID = "STUDY", "1.2.3"

    def find(identifier: Dataset) -> Iterator[Dataset]:
        asked.append(identifier.QueryRetrieveLevel)
        for number in itertools.count():
            found = Dataset()
            found.SeriesInstanceUID = f"1.2.{number}"
            found.SOPClassUID = f"1.2.840.113619.4.{number}"
            if identifier.QueryRetrieveLevel == "STUDY":
                return
            yield found

    found = classes_at(find, wanted)
    assert (len(found), len(set(found))) == (MAX_CONTEXTS - 1, MAX_CONTEXTS - 1)
    assert asked[:3] == ["STUDY", "SERIES", "IMAGE"]
    assert len(asked) <= 102


def test_what_nobody_asked_for_is_told(command: Run, archive: Archive, tmp_path: Path) -> None:
    archive.instances = [instance(1), instance(2, StudyInstanceUID="1.2.4"), instance(3, StudyInstanceUID="../../x")]
    done = command("get", archive.peer, tmp_path, *STUDY)
    assert "2 of the instances stored were not asked for" in done.err
    assert len(files(tmp_path)) == 3
    assert command("get", archive.peer, tmp_path, *STUDY, "--json").events[-1]["foreign"] == 2


def test_what_the_peer_counts_but_did_not_send_is_told(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """PS3.4 C.4.3.1.4: the counts are the peer's to give, and need not be true."""
    output, peer = Output(json=False, quiet=False), dicomnet.Peer("A", HOST, 1)
    retrieval = Retrieval(peer, "C-GET", output, make_inbox(str(tmp_path), None, "replace"), Dataset())
    retrieval.keep(instance(1))
    retrieval.advance(dicomnet.SubOperations(0, 3, 0, 0))
    assert retrieval.finish(dicomnet.Response(0), interrupted=False) == 1
    assert capfd.readouterr().err == "the peer counts 3 instances as sent, but only 1 arrived here\n"


def test_that_there_is_nothing_is_told(command: Run, archive: Archive, tmp_path: Path) -> None:
    archive.instances = []
    done = command("get", archive.peer, tmp_path, *STUDY)
    assert (done.code, "the peer has nothing that was asked for" in done.out) == (0, True)


def test_a_terminal_shows_how_far_it_is(archive: Archive, tmp_path: Path) -> None:
    go_on = threading.Event()

    def instances(request: Any) -> Any:
        return [instance(1), Waiting(go_on)]

    class Waiting:
        """An instance that takes its time."""

        def __init__(self, event: threading.Event) -> None:
            self._event = event

        def __fspath__(self) -> str:
            assert self._event.wait(60)
            return str(get_testdata_file("CT_small.dcm"))

    archive.instances = instances
    with Terminal([*COMMAND, "get", archive.peer, tmp_path, *STUDY], columns=100) as terminal:
        terminal.wait_for("of … instances")
        go_on.set()
        assert terminal.wait() == 0
        assert "retrieving" in terminal.raw.decode()
        assert "2 stored (" in terminal.visible
        assert "retrieving" not in terminal.visible


# --- real peers -----------------------------------------------------------------------------------------------------


def test_a_study_from_dcmtk_and_by_move(command: Run, dcmtk: Callable[[str], Path], tmp_path: Path) -> None:
    """dcmqrscp: find, then get, then move to a receiver of our own; and a destination that it does not know."""
    ct, free_port = dcmread(get_testdata_file("CT_small.dcm")), peers._free_port()
    wanted = ["-k", f"StudyInstanceUID={ct.StudyInstanceUID}"]
    with peers.dcmqrscp(dcmtk, tmp_path / "peer", hosts={"ME": free_port}) as program:
        assert peers.dicomnet_send(program.port, ["CT_small.dcm"], called="ARCHIVE") == {"CT_small.dcm": ""}
        peer = f"ARCHIVE@{HOST}:{program.port}"
        found = command("find", peer, "-k", f"PatientID={ct.PatientID}", "-k", "StudyInstanceUID", "-q")
        got = command("get", peer, tmp_path / "got", *wanted)
        here = ["--receive-here", tmp_path / "moved", "--port", free_port, "--calling", "ME"]
        moved = command("move", peer, "ME", *wanted, *here)
        unknown = command(
            "move", peer, "ELSE", *wanted, "--receive-here", tmp_path / "else", "--port", 0, "--calling", "ME"
        )
    assert found.out == f"{ct.PatientID}\t{ct.StudyInstanceUID}\n"
    assert (got.code, len(files(tmp_path / "got"))) == (0, 1), got.err
    assert (moved.code, len(files(tmp_path / "moved"))) == (0, 1), moved.err
    assert unknown.code == 1
    assert "has to know the AE title ELSE with this computer's address" in unknown.err


def test_pynetdicom_is_asked(command: Run, pynetdicom: Any, tmp_path: Path) -> None:
    """A C-GET SCP that sends its responses before it has heard of a failure."""
    ct = dcmread(get_testdata_file("CT_small.dcm"))

    def handle(event: Any) -> Iterator[Any]:
        yield 1
        yield 0xFF00, ct

    ae = pynetdicom.AE("QR")
    ae.add_supported_context(GET)
    ae.add_supported_context(CT, scu_role=True, scp_role=True)
    server = ae.start_server((HOST, 0), block=False, evt_handlers=[(pynetdicom.evt.EVT_C_GET, handle)])
    try:
        port = server.socket.getsockname()[1]
        done = command("get", f"QR@{HOST}:{port}", tmp_path, *STUDY, "--sop-class", CT)
    finally:
        server.shutdown()
    assert done.code == 0, done.err
    assert len(files(tmp_path)) == 1
