"""The services with other implementations: DCMTK's worklist programs and print server, pynetdicom in both roles."""

from __future__ import annotations

import contextlib
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from pydicom import Dataset

import dicomnet
from dicomnet.services import availability, commitment, mpps, patient_information, printing, ups, worklist
from tests.interop import peers
from tests.interop.peers import HOST, run
from tests.services.conftest import PATIENCE, Side, dataset, eventually
from tests.services.test_mpps import instance, scheduled
from tests.services.test_printing import image, rgb
from tests.services.test_worklist import ITEMS, ids

Tool = Callable[[str], Path]


# --- DCMTK ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        (["PatientID="], 4),
        (["PatientName=m*", "PatientID"], 4),
        (["ScheduledProcedureStepSequence[0].ScheduledProcedureStepStartDate=20240502-", "PatientID"], 1),
        (["ScheduledProcedureStepSequence[0].Modality=MR", "PatientID"], 1),
        (["PatientID=P9"], 0),
    ],
)
def test_findscu_gets_a_worklist_from_us(dcmtk: Tool, server: Side, keys: list[str], expected: int) -> None:
    """PS3.4 K, as SCP."""
    ae = dicomnet.AE("SCP")
    worklist.serve_from(ae, ITEMS)
    with server.serve(ae) as port:
        options = [option for key in keys for option in ("-k", key)]
        done = run(dcmtk("findscu"), "-v", "-W", *options, HOST, port)
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("(Pending)") == expected, done.stdout


def test_wlmscpfs_gives_us_its_worklist(dcmtk: Tool, user: Side, tmp_path: Path) -> None:
    """PS3.4 K, as SCU."""
    folder = tmp_path / "worklists"
    (folder / "SCP").mkdir(parents=True)
    (folder / "SCP" / "lockfile").touch()
    for number, item in enumerate(ITEMS):
        item = item[:]
        item.StudyInstanceUID = "1.2.3"
        encoded = dicomnet.EncodedDataset.from_dataset(item)
        encoded.sop_class_uid, encoded.sop_instance_uid = worklist.ModalityWorklist, f"1.2.{number}"
        encoded.save(folder / "SCP" / f"{number}.wl")
    command = [dcmtk("wlmscpfs"), "--single-process", "-dfr", "-dfp", folder]
    with peers._dcmtk_server(tmp_path / "peer", command) as program:
        with user.associate(program.port, worklist.ModalityWorklist) as association:
            assert sorted(ids(user.all(worklist.query(association)))) == ["P1", "P2", "P3", "P4"]
        with user.associate(program.port, worklist.ModalityWorklist) as association:
            [found] = user.all(worklist.query(association, modality="MR", date="20240501"))
            assert found.PatientName == "Müller^2"


def test_dcmprscp_prints_for_us(dcmtk: Tool, user: Side, tmp_path: Path) -> None:
    """PS3.4 H, as SCU: DCMTK's print server keeps what it would print."""
    grey = printing.BasicGrayscalePrintManagementMeta
    with print_server(dcmtk("dcmprscp"), tmp_path) as (port, log), user.associate(port, grey) as association:
        assert user.do(printing.printer_status(association, context=grey)).status == "NORMAL"
        images = [image(64, 64)] * 5
        count = user.do(printing.print_images(association, images, columns=2, rows=2))
        assert count == 2, log.read_text(errors="replace")
    kept = [path.name[:2] for path in tmp_path.glob("*.dcm")]
    assert (kept.count("SP"), kept.count("HG")) == (2, 5), log.read_text(errors="replace")  # films, images


@contextlib.contextmanager
def print_server(tool: Path, folder: Path) -> Iterator[tuple[int, Path]]:
    """dcmprscp, which reads its port from a file. The port, and its log."""
    port, log, config = peers._free_port(), folder / "log", folder / "dcmpstat.cfg"
    config.write_text(
        "[[GENERAL]]\n[NETWORK]\nAETitle=ME\n"
        f"[[COMMUNICATION]]\n[SCP]\nType=LOCALPRINTER\nHostname=localhost\nPort={port}\nAETitle=SCP\n"
        "DisableNewVRs=false\nMaxPDU=16384\nSupports12Bit=true\nSupportsPresentationLUT=false\n"
        "DisplayFormat=1,1\\2,2\nFilmSizeID=A4\nMediumType=PAPER\n"
    )
    with log.open("wb") as out:
        process = subprocess.Popen(
            [str(tool), "-d", "-c", str(config), "-p", "SCP"],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            env=peers.LOCALE,
            start_new_session=True,
            cwd=folder,
        )
    try:
        assert peers.wait(process, lambda: peers._listening(port)), log.read_text(errors="replace")
        yield port, log
    finally:
        peers._end(process)


# --- pynetdicom -----------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def pynetdicom_scp(
    pynetdicom: ModuleType, contexts: list[str], handlers: dict[str, Any], **roles: Any
) -> Iterator[int]:
    """A pynetdicom server with these handlers (``n_create=…``); its port."""
    ae = pynetdicom.AE("SCP")
    for context in contexts:
        ae.add_supported_context(context, **roles)
    bound = [(getattr(pynetdicom.evt, f"EVT_{name.upper()}"), handler) for name, handler in handlers.items()]
    server = ae.start_server((HOST, 0), block=False, evt_handlers=bound)
    try:
        yield server.socket.getsockname()[1]
    finally:
        server.shutdown()


@contextlib.contextmanager
def pynetdicom_scu(pynetdicom: ModuleType, port: int, *contexts: str, **options: Any) -> Iterator[Any]:
    ae = pynetdicom.AE("PYNETDICOM")
    for context in contexts:
        ae.add_requested_context(context)
    association = ae.associate(HOST, port, ae_title="SCP", **options)
    assert association.is_established
    try:
        yield association
    finally:
        association.release()


def test_pynetdicom_keeps_our_performed_steps(pynetdicom: ModuleType, user: Side) -> None:
    """PS3.4 F.7, as SCU."""
    told: list[tuple[str, str]] = []

    def keep(event: Any) -> Any:
        attributes = getattr(event, "attribute_list", None) or event.modification_list
        told.append((type(event.request).__name__, attributes.PerformedProcedureStepStatus))
        return 0x0000, attributes

    uid = mpps.ModalityPerformedProcedureStep
    step = mpps.from_worklist(scheduled(), station_ae="CT1")
    with (
        pynetdicom_scp(pynetdicom, [uid], {"n_create": keep, "n_set": keep}) as port,
        user.associate(port, uid) as association,
        user.entered(mpps.performed(association, step)) as it,
    ):
        it.add(instance(1))
    assert told == [("N_CREATE", "IN PROGRESS"), ("N_SET", "COMPLETED")]


def test_pynetdicom_tells_us_of_performed_steps(pynetdicom: ModuleType, server: Side) -> None:
    """PS3.4 F.7, as SCP: with the rule that nothing changes after the end."""
    ae = dicomnet.AE("SCP")
    steps = mpps.provide(ae, strict=False)
    uid = mpps.ModalityPerformedProcedureStep
    with server.serve(ae) as port, pynetdicom_scu(pynetdicom, port, uid) as association:
        step = mpps.from_worklist(scheduled(), station_ae="CT1")
        status, _ = association.send_n_create(step, uid, "1.2.3")
        assert status.Status == 0
        final = dataset(PerformedProcedureStepStatus="COMPLETED")
        assert association.send_n_set(final, uid, "1.2.3")[0].Status == 0
        status, _ = association.send_n_set(final, uid, "1.2.3")
        assert (status.Status, status.ErrorID) == (0x0110, 0xA710)
    assert steps["1.2.3"].PatientName == "Müller^Eva"


def test_pynetdicom_commits_to_our_instances(pynetdicom: ModuleType, user: Side) -> None:
    """PS3.4 J, as SCU: the report comes on a new association, on which we are SCU still."""
    uid, me = commitment.StorageCommitmentPushModel, dicomnet.AE("ME")
    requests = commitment.User(me)
    reporters: list[threading.Thread] = []

    def commit(event: Any) -> Any:
        asked = event.action_information

        def report() -> None:
            ae = pynetdicom.AE("SCP")
            ae.add_requested_context(uid)
            role = pynetdicom.build_role(uid, scp_role=True)
            association = ae.associate(HOST, mine, ae_title="ME", ext_neg=[role])
            asked_for = asked[:]
            association.send_n_event_report(asked_for, 1, uid, "1.2.840.10008.1.20.1.1")
            association.release()

        reporters.append(threading.Thread(target=report))
        reporters[0].start()
        return 0x0000, None

    one = commitment.Instance("1.2.840.10008.5.1.4.1.1.2", "1.2.1")
    with user.serve(me) as mine, pynetdicom_scp(pynetdicom, [uid], {"n_action": commit}) as port:
        with user.associate(port, uid, calling_ae="ME") as association:
            transaction = user.do(requests.request(association, [one]))
        assert user.do(transaction.wait(PATIENCE)) == commitment.Result(frozenset((one,)))
        reporters[0].join(PATIENCE)


def test_we_commit_to_instances_of_pynetdicom(pynetdicom: ModuleType, server: Side) -> None:
    """PS3.4 J, as SCP: the report goes out on the same association, or on a new one to its server."""
    uid, ae = commitment.StorageCommitmentPushModel, dicomnet.AE("SCP")
    reports: list[Dataset] = []

    def take(event: Any) -> Any:
        reports.append(event.event_information)
        return 0x0000, None

    request = dataset(
        TransactionUID="1.9",
        ReferencedSOPSequence=[dataset(ReferencedSOPClassUID="1.2", ReferencedSOPInstanceUID="1.2.1")],
    )
    ports: dict[str, str] = {}
    courier = commitment.provide(ae, lambda instances: ["1.2.1"], peers=ports)
    with pynetdicom_scp(pynetdicom, [uid], {"n_event_report": take}, scu_role=True, scp_role=True) as mine:
        ports["PYNETDICOM"] = f"PYNETDICOM@{HOST}:{mine}"
        handlers = [(pynetdicom.evt.EVT_N_EVENT_REPORT, take)]
        with (
            server.serve(ae) as port,
            pynetdicom_scu(pynetdicom, port, uid, evt_handlers=handlers) as association,
        ):
            status, _ = association.send_n_action(request, 1, uid, "1.2.840.10008.1.20.1.1")
            assert status.Status == 0
            eventually(lambda: len(reports) == 1, "the report arrives on the same association")
            assert courier.settled(PATIENCE)
        # pynetdicom does not survive a report that crosses its release, so this one goes nowhere else.
        elsewhere = dicomnet.AE("SCP")
        courier = commitment.provide(elsewhere, lambda instances: ["1.2.1"], peers=ports, same_association=False)
        with server.serve(elsewhere) as port:
            with pynetdicom_scu(pynetdicom, port, uid) as association:
                association.send_n_action(request, 1, uid, "1.2.840.10008.1.20.1.1")
            eventually(lambda: len(reports) == 2, "the report arrives on a new association")
            assert courier.settled(PATIENCE)
    assert {report.TransactionUID for report in reports} == {"1.9"}


def test_pynetdicom_works_on_our_steps(pynetdicom: ModuleType, server: Side) -> None:
    """PS3.4 CC, as SCP: push, find, claim, complete; the requests name UPS Push whatever the context."""
    ae = dicomnet.AE("SCP")
    provider = ups.provide(ae)
    push, pull = ups.UnifiedProcedureStepPush, ups.UnifiedProcedureStepPull
    with server.serve(ae) as port, pynetdicom_scu(pynetdicom, port, push, pull) as association:
        assert association.send_n_create(ups.scheduled("x", PatientName="Ü"), push, "1.2.3")[0].Status == 0
        found = [match for _, match in association.send_c_find(dataset(ProcedureStepLabel="x"), pull) if match]
        assert len(found) == 1
        claim = dataset(ProcedureStepState="IN PROGRESS", TransactionUID="1.9")
        assert association.send_n_action(claim, 1, push, "1.2.3", meta_uid=pull)[0].Status == 0
        other = dataset(ProcedureStepState="COMPLETED", TransactionUID="1.8")
        assert association.send_n_action(other, 1, push, "1.2.3", meta_uid=pull)[0].Status == 0xC301
        claim.ProcedureStepState = "COMPLETED"
        assert association.send_n_action(claim, 1, push, "1.2.3", meta_uid=pull)[0].Status == 0xC304
        _, found_step = association.send_n_get([0x00741000], push, "1.2.3", meta_uid=pull)
        assert found_step.ProcedureStepState == "IN PROGRESS"
    assert set(provider.steps) == {"1.2.3"}


def test_we_push_steps_to_pynetdicom_and_ask_it(pynetdicom: ModuleType, user: Side) -> None:
    """PS3.4 CC and R and Q, as SCU."""
    created: list[Any] = []

    def create(event: Any) -> Any:
        created.append((event.request.AffectedSOPClassUID, event.attribute_list))
        return 0x0000, None

    def find(event: Any) -> Iterator[Any]:
        yield 0xFF00, dataset(PatientID=event.identifier.PatientID, ValueType="CONTAINER")

    push, ian = ups.UnifiedProcedureStepPush, availability.InstanceAvailabilityNotification
    general = patient_information.GeneralRelevantPatientInformation
    handlers = {"n_create": create, "c_find": find}
    with (
        pynetdicom_scp(pynetdicom, [push, ian, general], handlers) as port,
        user.associate(port, push, ian, general) as association,
    ):
        user.do(ups.push(association, ups.scheduled("x")))
        here = instance(1, StudyInstanceUID="1.2")
        user.do(availability.notify(association, [here], retrieve_ae="PACS"))
        assert user.do(patient_information.query(association, "P1")).PatientID == "P1"
    assert [uid for uid, _ in created] == [push, ian]
    assert created[0][1].ProcedureStepLabel == "x"
    assert created[1][1].ReferencedSeriesSequence[0].ReferencedSOPSequence[0].RetrieveAETitle == "PACS"


def test_we_print_on_pynetdicom(pynetdicom: ModuleType, user: Side) -> None:
    """PS3.4 H, as SCU: grey and colour, through the meta SOP classes."""
    asked: list[str] = []

    def create(event: Any) -> Any:
        asked.append("create")
        boxes = [dataset(ReferencedSOPClassUID="1.2", ReferencedSOPInstanceUID="1.2.1")]
        return 0x0000, dataset(ReferencedImageBoxSequence=boxes)

    def place(event: Any) -> Any:
        [images] = [element for element in event.modification_list if element.VR == "SQ"]
        asked.append(images.value[0].PhotometricInterpretation)
        return 0x0000, None

    def done(event: Any) -> Any:
        asked.append(type(event.request).__name__)
        return (0x0000, None) if "ACTION" in type(event.request).__name__ else 0x0000

    grey, colour = printing.BasicGrayscalePrintManagementMeta, printing.BasicColorPrintManagementMeta
    handlers = {"n_create": create, "n_set": place, "n_action": done, "n_delete": done}
    with (
        pynetdicom_scp(pynetdicom, [grey, colour], handlers) as port,
        user.associate(port, grey, colour) as association,
    ):
        assert user.do(printing.print_images(association, [image()])) == 1
        assert user.do(printing.print_images(association, [rgb()], colour=True)) == 1
    course = ["create", "create", "{}", "N_ACTION", "N_DELETE"]
    assert asked == [step.format(kind) for kind in ("MONOCHROME2", "RGB") for step in course]
