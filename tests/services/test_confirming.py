"""Is it there? Storage commitment and queries for many instances (PS3.4 J, C): each has exactly one answer."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from pydicom import Dataset

import dicomnet
from dicomnet.sender.committing import commit
from dicomnet.sender.confirmation import Answer, Patience, Subject
from dicomnet.sender.verifying import contexts, verify
from dicomnet.services import commitment
from dicomnet.services.matching import Query
from tests.interop import peers
from tests.pydicom_files import shipped
from tests.services.conftest import HOST

CT = "1.2.840.10008.5.1.4.1.1.2"
PUSH = commitment.StorageCommitmentPushModel
QUICK = Patience(seconds=5.0, attempts=2, pause=0.01)


def subjects(number: int, series: str = "1.2.3") -> list[Subject]:
    return [Subject(CT, f"1.9.{index}", "1.2", series, "P") for index in range(1, number + 1)]


def by_state(answers: Any) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    seen: list[str] = []
    for answer in answers:
        found.setdefault(answer.state, set()).add(answer.subject.sop_instance_uid)
        seen.append(answer.subject.sop_instance_uid)
    assert len(seen) == len(set(seen)), "each instance has one answer"
    return found


def reasons(answers: Any) -> set[str]:
    return {answer.reason for answer in answers}


# --- commitment -----------------------------------------------------------------------------------------------------


class Requestor:
    """Our end: an AE that takes reports, and what makes associations."""

    def __init__(self, port: int) -> None:
        self.ae = dicomnet.AE("ME")
        self.user = commitment.User(self.ae)
        self.made: list[Any] = []
        self.port = port

    def connect(self) -> Any:
        self.made.append(
            dicomnet.associate(f"SCP@{HOST}:{self.port}", calling_ae="ME", contexts=[PUSH], ae=self.ae).__enter__()
        )
        return self.made[-1]

    def commit(self, wanted: Any, patience: Patience = QUICK, **options: Any) -> Iterator[Answer]:
        return commit(wanted, self.connect, self.user, patience, **options)


def provider(verdict: Callable[[Any], Any], **options: Any) -> tuple[dicomnet.AE, Any]:
    ae = dicomnet.AE("SCP")
    return ae, commitment.provide(ae, verdict, **options)


def test_all_are_asked_for_in_transactions_of_a_bounded_size() -> None:
    """PS3.4 J.3.2: and in as many as there need to be, over one association."""
    sizes: list[int] = []

    def verdict(instances: Any) -> dict[str, int]:
        sizes.append(len(instances))
        return {
            one.sop_instance_uid: 0x0112 if one.sop_instance_uid.endswith("7") else 0x0213
            if one.sop_instance_uid.endswith("8") else 0
            for one in instances
        }  # fmt: skip

    ae, _ = provider(verdict)
    with dicomnet.serve(ae, HOST, 0) as server:
        me = Requestor(server.port)
        asked: dict[str, int] = {}
        answers = list(me.commit(iter(subjects(25)), size=10, asking=lambda uid, some: asked.update({uid: len(some)})))
    assert sorted(sizes) == [5, 10, 10]
    assert sorted(asked.values()) == [5, 10, 10]
    assert len(me.made) == 1
    found = by_state(answers)
    assert found["failed"] == {"1.9.7", "1.9.8", "1.9.17", "1.9.18"}
    assert len(found["committed"]) == 21
    assert reasons(answers) == {
        "",
        "the peer does not have this instance (0x0112)",
        "the peer lacks the resources (0x0213)",
    }


def test_a_report_on_a_new_association_is_taken_if_we_listen() -> None:
    """PS3.4 J.3.3: the provider opens it, with the roles reversed."""
    addresses: dict[str, str] = {}
    ae, _ = provider(
        lambda instances: [one.sop_instance_uid for one in instances], same_association=False, peers=addresses
    )
    with dicomnet.serve(ae, HOST, 0) as server:
        me = Requestor(server.port)
        with dicomnet.serve(me.ae, HOST, 0) as mine:
            addresses["ME"] = f"ME@{HOST}:{mine.port}"
            assert by_state(me.commit(subjects(30), size=10, reachable=True)) == {
                "committed": {f"1.9.{index}" for index in range(1, 31)}
            }


def test_no_report_in_time_is_an_answer_too() -> None:
    ae = dicomnet.AE("SCP", contexts=[PUSH])
    ae.on_n_action(lambda request: 0)
    with dicomnet.serve(ae, HOST, 0) as server:
        answers = list(Requestor(server.port).commit(subjects(3), Patience(seconds=0.1)))
    assert by_state(answers) == {"unanswered": {"1.9.1", "1.9.2", "1.9.3"}}
    assert reasons(answers) == {"no report within 0.1 s"}


def test_a_provider_that_hangs_up_is_not_waited_for_unless_we_listen() -> None:
    """It says what can be done."""
    ae = dicomnet.AE("SCP", contexts=[PUSH], timeouts=dicomnet.Timeouts(idle=0.2))
    ae.on_n_action(lambda request: 0)
    with dicomnet.serve(ae, HOST, 0) as server:
        started = time.monotonic()
        answers = list(Requestor(server.port).commit(subjects(2), Patience(seconds=60.0)))
    assert time.monotonic() - started < 30
    assert "ended the association before it reported" in reasons(answers).pop()


def test_a_refusal_is_told_and_not_repeated() -> None:
    """PS3.7 10.1.4: a failure status of N-ACTION; the next transaction may fare better."""
    asked: list[int] = []
    ae = dicomnet.AE("SCP", contexts=[PUSH])

    @ae.on_n_action
    def refuse(request: Any) -> int:
        asked.append(1)
        return 0x0213

    with dicomnet.serve(ae, HOST, 0) as server:
        answers = list(Requestor(server.port).commit(subjects(4), size=2))
    assert len(asked) == 2
    assert by_state(answers).keys() == {"unanswered"}
    assert all("refused the request" in reason and "0x0213" in reason for reason in reasons(answers))


def test_a_peer_that_does_not_commit_is_not_asked_again() -> None:
    """No presentation context (PS3.8 7.1.1.14) is an answer for good: to wait and ask again would tell the same."""
    with dicomnet.serve(dicomnet.AE("SCP", contexts=[dicomnet.Verification]), HOST, 0) as server:
        requestor = Requestor(server.port)
        answers = list(requestor.commit(subjects(4), Patience(seconds=60, attempts=2, pause=60.0), size=2))
    assert len(requestor.made) == 1
    assert by_state(answers) == {"unanswered": {f"1.9.{index}" for index in range(1, 5)}}
    assert "1.2.840.10008.1.20.1" in reasons(answers).pop()


def test_a_peer_that_is_not_there_is_tried_as_often_as_it_may_be_and_then_no_more() -> None:
    """One set of attempts for all, and not for each transaction."""
    tries: list[int] = []

    def connect() -> Any:
        tries.append(1)
        raise dicomnet.TransportError("nobody there")

    answers = list(commit(subjects(50), connect, commitment.User(dicomnet.AE("ME")), QUICK, size=10))
    assert len(tries) == 2
    assert by_state(answers) == {"unanswered": {f"1.9.{index}" for index in range(1, 51)}}
    assert reasons(answers) == {"nobody there"}


def test_stopped_it_ends_with_an_answer_for_each() -> None:
    ae = dicomnet.AE("SCP", contexts=[PUSH])
    stop = threading.Event()

    @ae.on_n_action
    def take(request: Any) -> int:
        request.then = stop.set
        return 0

    with dicomnet.serve(ae, HOST, 0) as server:
        answers = list(Requestor(server.port).commit(subjects(30), Patience(seconds=60, stop=stop), size=10))
    assert len(answers) == 30
    assert reasons(answers) == {"interrupted"}


@pytest.mark.parametrize("elsewhere", [False, True])
def test_pynetdicom_commits(pynetdicom: ModuleType, elsewhere: bool) -> None:
    """PS3.4 J.3.3: reports on the association of the request, and on a new one."""
    threads: list[threading.Thread] = []
    mine: list[int] = []

    def report(association: Any, asked: Dataset) -> None:
        told = Dataset()
        told.TransactionUID = asked.TransactionUID
        told.ReferencedSOPSequence = asked.ReferencedSOPSequence[1:]
        told.FailedSOPSequence = asked.ReferencedSOPSequence[:1]
        told.FailedSOPSequence[0].FailureReason = 0x0112
        if elsewhere:
            ae = pynetdicom.AE("SCP")
            ae.add_requested_context(PUSH)
            role = pynetdicom.build_role(PUSH, scp_role=True)
            association = ae.associate(HOST, mine[0], ae_title="ME", ext_neg=[role])
        association.send_n_event_report(told, 2, PUSH, "1.2.840.10008.1.20.1.1")
        if elsewhere:
            association.release()

    def act(event: Any) -> Any:
        threads.append(threading.Thread(target=report, args=(event.assoc, event.action_information)))
        if elsewhere:
            threads[-1].start()
        return 0x0000, None

    def answered(event: Any) -> None:
        if not elsewhere and threads and type(event.message).__name__ == "N_ACTION_RSP":
            threads[-1].start()

    scp = pynetdicom.AE("SCP")
    scp.add_supported_context(PUSH, scu_role=True, scp_role=True)
    handlers = [(pynetdicom.evt.EVT_N_ACTION, act), (pynetdicom.evt.EVT_DIMSE_SENT, answered)]
    server = scp.start_server((HOST, 0), block=False, evt_handlers=handlers)
    try:
        me = Requestor(server.socket.getsockname()[1])
        with dicomnet.serve(me.ae, HOST, 0) as listening:
            mine.append(listening.port)
            found = by_state(me.commit(subjects(5), reachable=elsewhere))
        for thread in threads:
            thread.join(10)
    finally:
        server.shutdown()
    assert found == {"failed": {"1.9.1"}, "committed": {"1.9.2", "1.9.3", "1.9.4", "1.9.5"}}


# --- queries --------------------------------------------------------------------------------------------------------


class Archive:
    """Answers C-FIND by what it has; ``asked``: the identifiers."""

    def __init__(self, *models: str) -> None:
        self.asked: list[Dataset] = []
        self.there: list[Subject] = []
        self.ae = dicomnet.AE("SCP", contexts=list(models) or contexts())
        self.ae.on_c_find(self.find)

    def find(self, request: Any) -> Iterator[Dataset]:
        identifier = request.dataset.decode()
        self.asked.append(identifier)
        query = Query(identifier)
        for subject in list(self.there):
            candidate = Dataset()
            candidate.PatientID, candidate.StudyInstanceUID = subject.patient_id, subject.study_instance_uid
            candidate.SeriesInstanceUID = subject.series_instance_uid
            candidate.SOPInstanceUID = subject.sop_instance_uid
            if query.matches(candidate):
                yield query.response(candidate)


def verified(port: int, wanted: Any, patience: Patience = QUICK) -> list[Answer]:
    def connect() -> Any:
        return dicomnet.associate(f"SCP@{HOST}:{port}", contexts=contexts()).__enter__()

    return list(verify(wanted, connect, patience))


def test_one_query_for_each_series_tells_of_all() -> None:
    """PS3.4 C.4.1.2.1: with the unique keys of the levels above, as peers without relational queries need it."""
    archive = Archive()
    one, two = subjects(300, "1.2.3"), [one._replace(sop_instance_uid=f"1.8.{i}") for i, one in
                                        enumerate(subjects(200, "1.2.4"))]  # fmt: skip
    archive.there = one + two
    with dicomnet.serve(archive.ae, HOST, 0) as server:
        answers = verified(server.port, iter([*one, *two]))
    assert by_state(answers) == {"verified": {subject.sop_instance_uid for subject in archive.there}}
    assert [(asked.QueryRetrieveLevel, asked.SeriesInstanceUID) for asked in archive.asked] == [
        ("IMAGE", "1.2.3"),
        ("IMAGE", "1.2.4"),
    ]


def test_what_is_not_there_is_asked_for_again_until_time_is_up() -> None:
    """Archives need a moment to know what they have."""
    archive = Archive()
    late, never = subjects(3)[1:]
    archive.there = subjects(1)

    class Soon(threading.Event):
        def is_set(self) -> bool:
            if len(archive.asked) == 2 and late not in archive.there:
                archive.there.append(late)
            return super().is_set()

    with dicomnet.serve(archive.ae, HOST, 0) as server:
        answers = verified(server.port, subjects(3), Patience(seconds=1.0, pause=0.01, stop=Soon()))
    assert by_state(answers) == {"verified": {"1.9.1", "1.9.2"}, "failed": {never.sop_instance_uid}}
    assert len(archive.asked) >= 3
    assert reasons(answers) == {"", "the peer does not find this instance"}


def test_patient_root_alone_is_asked_with_the_patient_id() -> None:
    """PS3.4 C.6.1.1: its unique key; for peers that do not know study root."""
    archive = Archive("1.2.840.10008.5.1.4.1.2.1.1")
    archive.there = subjects(2)
    with dicomnet.serve(archive.ae, HOST, 0) as server:
        answers = verified(server.port, subjects(2))
    assert by_state(answers) == {"verified": {"1.9.1", "1.9.2"}}
    assert [asked.PatientID for asked in archive.asked] == ["P"]


def test_instances_of_which_only_the_uid_is_known_are_asked_for_by_lists_of_them() -> None:
    """PS3.4 C.2.2.2.2."""
    archive = Archive()
    archive.there = subjects(120)
    bare = [Subject(CT, subject.sop_instance_uid) for subject in subjects(120)]
    with dicomnet.serve(archive.ae, HOST, 0) as server:
        answers = verified(server.port, bare)
    assert len(by_state(answers)["verified"]) == 120
    assert len(archive.asked) == 3


def test_a_peer_without_queries_gives_no_answer_and_is_not_asked_for_ever() -> None:
    ae = dicomnet.AE("SCP", contexts=[dicomnet.Verification])
    with dicomnet.serve(ae, HOST, 0) as server:
        answers = verified(server.port, subjects(5), Patience(seconds=60, attempts=2, pause=60.0))
    assert by_state(answers) == {"unanswered": {f"1.9.{index}" for index in range(1, 6)}}


def test_a_query_that_fails_is_no_answer() -> None:
    """PS3.4 C.4.1.1.4: a failure status says nothing of the instances."""
    ae = dicomnet.AE("SCP", contexts=contexts())

    @ae.on_c_find
    def fail(request: Any) -> Iterator[Dataset]:
        raise dicomnet.StatusError(0xC001, "no index")
        yield

    with dicomnet.serve(ae, HOST, 0) as server:
        answers = verified(server.port, subjects(2), Patience(seconds=0.2, pause=0.01))
    assert by_state(answers) == {"unanswered": {"1.9.1", "1.9.2"}}
    assert all("0xC001: no index" in reason for reason in reasons(answers))


def test_a_peer_whose_matches_do_not_end_does_not_hold_us() -> None:
    ae = dicomnet.AE("SCP", contexts=contexts())

    @ae.on_c_find
    def endless(request: Any) -> Iterator[Dataset]:
        match = Dataset()
        match.SOPInstanceUID = "1.2.3.4"
        while True:
            yield match

    with dicomnet.serve(ae, HOST, 0) as server:
        answers = verified(server.port, subjects(2), Patience(seconds=0.3, pause=0.01))
    assert by_state(answers) == {"unanswered": {"1.9.1", "1.9.2"}}


def test_a_file_tells_where_its_instance_belongs() -> None:
    subject = Subject(CT, "1.9").in_file(shipped("CT_small.dcm"))
    assert subject.study_instance_uid.startswith("1.3.6.1.4.1.5962.1.2.1")
    assert subject.series_instance_uid.startswith("1.3.6.1.4.1.5962.1.3.1")
    assert (subject.sop_instance_uid, subject.patient_id) == ("1.9", "1CT1")
    assert Subject(CT, "1.9").in_file("/nowhere/at/all") == Subject(CT, "1.9")


def test_dcmqrscp_tells_what_it_has(dcmtk: Callable[[str], Path], tmp_path: Path) -> None:
    """DCMTK's archive, which knows hierarchical queries alone."""
    files = [shipped("CT_small.dcm"), shipped("MR_small.dcm")]
    with peers.dcmqrscp(dcmtk, tmp_path / "qr") as program:
        (tmp_path / "qr" / "stored").mkdir(exist_ok=True)
        sent = list(dicomnet.send(files, f"ARCHIVE@{HOST}:{program.port}"))
        assert [outcome.ok for outcome in sent] == [True, True]
        wanted = []
        for file in files:
            dataset = dicomnet.EncodedDataset.from_file(file)
            wanted.append(Subject(dataset.sop_class_uid, dataset.sop_instance_uid).in_file(file))
        wanted.append(wanted[0]._replace(sop_instance_uid="1.2.3.4.5"))

        def connect() -> Any:
            return dicomnet.associate(f"ARCHIVE@{HOST}:{program.port}", contexts=contexts()).__enter__()

        answers = list(verify(wanted, connect, Patience(seconds=0.5, pause=0.1)))
    assert [answer.state for answer in answers] == ["verified", "verified", "failed"]
