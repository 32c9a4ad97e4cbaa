"""C-FIND, C-GET, C-MOVE and the N-services with DCMTK and pynetdicom, in the roles that they have, on both faces.

What is retrieved is compared byte for byte. DCMTK's SCPs decode what they send and encode it anew; what they have of it
in the end is compared with what they send to a peer of their own kind.
"""

from __future__ import annotations

import contextlib
import re
import ssl
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from pydicom.dataset import Dataset

import dicomnet
from dicomnet import Peer, Status, StatusError
from dicomnet.models import query_class
from dicomnet.tls import client_context, make_test_ca, server_context
from tests.faces.face import FACES, Face
from tests.interop import corpus, peers
from tests.interop.corpus import Instance, instances
from tests.interop.peers import HOST, Tool

FIND, MOVE, GET = (query_class("study", operation) for operation in ("find", "move", "get"))
PATIENT_FIND = query_class("patient", "find")
MPPS = "1.2.840.10008.3.1.2.3.3"
FILM_SESSION = "1.2.840.10008.5.1.1.1"  # has the services that MPPS has not
NAMES = ["CT_small.dcm", "MR_small.dcm", "MR_small_RLE.dcm", "JPEG2000.dcm", "examples_overlay.dcm"]
UNCOMPRESSED = ["CT_small.dcm", "MR_small.dcm", "examples_overlay.dcm"]
PATIENTS = {"Müller^Jürgen": "P1", "山田^太郎": "P2", "Doe^Jane": "P3"}


@pytest.fixture(params=FACES)
def face(request: pytest.FixtureRequest) -> Face:
    """Of dicomnet's side."""
    return FACES[request.param]


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Certificate, key and authority: files."""
    authority = make_test_ca(tmp_path_factory.mktemp("tls") / "ca", key_type="rsa")
    own = authority.issue("a modality")
    return {"ca": authority.certificate, "certificate": own.certificate, "key": own.key}


def identifier(level: str = "STUDY", **keys: Any) -> Dataset:
    dataset = Dataset()
    dataset.QueryRetrieveLevel = level
    for keyword, value in keys.items():
        setattr(dataset, keyword, value)
    return dataset


def patient(name: str) -> Dataset:
    dataset = identifier(SpecificCharacterSet="ISO_IR 192", PatientName=name, PatientID=PATIENTS[name])
    dataset.StudyInstanceUID = f"1.2.9.{PATIENTS[name][1:]}"
    return dataset


def path_of(name: str) -> Path:
    return corpus.FOLDER / name


def received(dataset: Any) -> Instance:
    return Instance(dataset.sop_class_uid, dataset.sop_instance_uid, dataset.transfer_syntax, bytes(dataset))


def storage(names: list[str]) -> list[Any]:
    return sorted({(instances()[name].sop_class_uid, (instances()[name].transfer_syntax,)) for name in names})


class Archive:
    """Dicomnet as the SCP: has the patients, or so many, and the files. ``cancelled``: a query was."""

    def __init__(
        self, destinations: dict[str, int] | None = None, *, many: int = 0, names: list[str] | None = None
    ) -> None:
        self.identifiers: list[Dataset] = []
        self.ended: list[BaseException | None] = []
        self.cancelled = threading.Event()
        self.ae = dicomnet.AE("ARCHIVE", contexts=[dicomnet.Verification, PATIENT_FIND, FIND, MOVE, GET, *_stored()])
        self.ae.on_c_find(self._find)
        self.ae.on_c_get(self._files)
        self.ae.on_c_move(self._move)
        self.ae.on_close(lambda association: self.ended.append(association.error))
        self._destinations = destinations or {}
        self._many = many
        self._names = names or NAMES

    def _find(self, request: Any) -> Iterator[Dataset]:
        self.identifiers.append(request.dataset.decode())
        try:
            for _ in range(max(self._many, 1)):
                yield from map(patient, PATIENTS)
        finally:
            if request.cancelled:
                self.cancelled.set()

    def _files(self, request: Any) -> list[Path]:
        self.identifiers.append(request.dataset.decode())
        return [path_of(name) for name in self._names]

    def _move(self, request: Any) -> Any:
        port = self._destinations.get(request.destination)
        return None if port is None else (Peer(request.destination, HOST, port), self._files(request))


def _stored() -> list[str]:
    return sorted({instance.sop_class_uid for instance in instances().values()})


# --- DCMTK asks -----------------------------------------------------------------------------------------------------


def options_of(tls: dict[str, Any] | None) -> list[Any]:
    return [] if tls is None else ["+tls", tls["key"], tls["certificate"], "+cf", tls["ca"]]


@pytest.mark.parametrize("secure", [False, True], ids=["", "TLS"])
def test_findscu_finds(dcmtk: Tool, face: Face, tls: dict[str, Any], tmp_path: Path, secure: bool) -> None:
    """PS3.4 C.4.1: all matches, with their character sets, in the files that findscu makes of them."""
    archive = Archive()
    keys = ["-k", "QueryRetrieveLevel=STUDY", "-k", "PatientName=*", "-k", "StudyInstanceUID"]
    with face.serve(archive.ae, HOST, 0, tls=server_context(**tls) if secure else None) as server:
        options = ["-S", "-X", "-od", tmp_path, *options_of(tls if secure else None)]
        done = peers.run(dcmtk("findscu"), "-v", *options, *keys, HOST, server.port)
    assert done.returncode == 0, done.stdout
    found = sorted(tmp_path.glob("rsp*.dcm"))
    assert [_read(path).PatientName for path in found] == list(PATIENTS)
    assert [_read(path).PatientID for path in found] == list(PATIENTS.values())
    (asked,) = archive.identifiers
    assert (asked.QueryRetrieveLevel, asked.PatientName, asked.StudyInstanceUID) == ("STUDY", "*", "")
    assert archive.ended == [None]


def _read(path: Path) -> Dataset:
    from pydicom import dcmread

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return dcmread(path, force=True)


def test_findscu_cancels(dcmtk: Tool, face: Face) -> None:
    """PS3.7 9.3.2.3: after two matches; FE00 ends it, and the handler has been stopped."""
    archive = Archive(many=100_000)
    with face.serve(archive.ae, HOST, 0) as server:
        keys = ["-k", "QueryRetrieveLevel=PATIENT", "-k", "PatientName"]
        done = peers.run(dcmtk("findscu"), "-d", "-P", "--cancel", 2, *keys, HOST, server.port)
    assert done.returncode == 0, done.stdout[-2000:]
    assert archive.cancelled.is_set()
    assert re.search(r"DIMSE Status : 0xfe00", done.stdout)
    assert archive.ended == [None]


@pytest.mark.parametrize("names", [UNCOMPRESSED, NAMES], ids=["all", "some"])
def test_getscu_gets(dcmtk: Tool, face: Face, tmp_path: Path, names: list[str]) -> None:
    """PS3.4 C.4.3, N-33: byte for byte; it takes uncompressed instances only, and the others are counted as failed.

    getscu 3.6.7 does not read the list of what failed (PS3.4 C.4.3.1.4), finds it where it waits for the answer to its
    release, and may abort.
    """
    archive = Archive(names=names)
    failed = len(names) - len(UNCOMPRESSED)
    with face.serve(archive.ae, HOST, 0) as server:
        keys = ["-k", "QueryRetrieveLevel=STUDY", "-k", "StudyInstanceUID=1.2.3"]
        done = peers.run(dcmtk("getscu"), "-d", "-S", "+B", "-od", tmp_path, *keys, HOST, server.port)
    assert "Number of Completed Suboperations : 3" in done.stdout, done.stdout[-3000:]
    assert f"Number of Failed Suboperations : {failed}" in done.stdout
    assert ("0xb000" in done.stdout) == bool(failed)
    stored = {corpus.read(path) for path in tmp_path.iterdir()}
    assert stored == {instances()[name] for name in UNCOMPRESSED}
    if not failed:
        assert archive.ended == [None]


def test_movescu_moves(dcmtk: Tool, face: Face, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """PS3.4 C.4.2, N-33: it is the destination, too, takes all transfer syntaxes, and gets them byte for byte.

    With +B movescu 3.6.7 writes to the current folder, whatever -od says.
    """
    monkeypatch.chdir(tmp_path)
    port, names = (
        peers._free_port(),
        [name for name in NAMES if name != "MR_small.dcm"],
    )  # its UID is that of the RLE one
    archive = Archive({"MOVESCU": port}, names=names)
    with face.serve(archive.ae, HOST, 0) as server:
        options = ["-d", "-S", "+B", "+xa", "+P", port, "-dhl"]
        keys = ["-k", "QueryRetrieveLevel=STUDY", "-k", "StudyInstanceUID=1.2.3"]
        done = peers.run(dcmtk("movescu"), *options, *keys, HOST, server.port)
        assert done.returncode == 0, done.stdout[-3000:]
        assert re.search(r"Completed Suboperations : 4", done.stdout)
        assert done.stdout.count("DIMSE Status : 0xff00") == 4
        stranger = peers.run(dcmtk("movescu"), "-d", "-S", "-aem", "NOBODY", *keys, HOST, server.port)
        assert "0xa801" in stranger.stdout
    assert {corpus.read(path) for path in tmp_path.iterdir()} == {instances()[name] for name in names}
    assert archive.ended == [None, None]


# --- DCMTK answers --------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def filled(dcmtk: Tool, folder: Path, hosts: dict[str, int] | None = None) -> Iterator[peers.Program]:
    """dcmqrscp with the uncompressed files."""
    with peers.dcmqrscp(dcmtk, folder, hosts=hosts) as program:
        outcomes = peers.dicomnet_send(program.port, UNCOMPRESSED, called="ARCHIVE")
        assert set(outcomes.values()) == {""}
        yield program


def keys_of(name: str) -> Dataset:
    """The identifier of the study that a file belongs to."""
    return identifier(StudyInstanceUID=_read(path_of(name)).StudyInstanceUID)


def test_dcmqrscp_is_queried(dcmtk: Tool, face: Face, folder: Path) -> None:
    """PS3.4 C.4.1: studies, their series, their instances, on one association."""
    ct = _read(path_of("CT_small.dcm"))
    with (
        filled(dcmtk, folder) as program,
        face.associate(f"ARCHIVE@{HOST}:{program.port}", contexts=[dicomnet.Verification, FIND, PATIENT_FIND]) as assoc,
    ):
        results = assoc.c_find(identifier(StudyInstanceUID="", PatientID=""))
        studies = {match.StudyInstanceUID: match.PatientID for match in results}
        assert results.response.status is Status.SUCCESS
        assert len(studies) == 3
        assert studies[ct.StudyInstanceUID] == ct.PatientID
        (series,) = assoc.c_find(identifier("SERIES", StudyInstanceUID=ct.StudyInstanceUID, SeriesInstanceUID=""))
        keys = {"StudyInstanceUID": ct.StudyInstanceUID, "SeriesInstanceUID": series.SeriesInstanceUID}
        (image,) = assoc.c_find(identifier("IMAGE", **keys, SOPInstanceUID=""))
        assert image.SOPInstanceUID == ct.SOPInstanceUID
        (found,) = assoc.c_find(identifier("PATIENT", PatientID=ct.PatientID, PatientName=""), model="patient")
        assert found.PatientName == ct.PatientName
        assert list(assoc.c_find(identifier(StudyInstanceUID="1.2.3"))) == []
        for _ in assoc.c_find(identifier(StudyInstanceUID="")):
            break
        assert assoc.c_echo().status == 0


@pytest.mark.parametrize("name", UNCOMPRESSED)
def test_dcmqrscp_is_asked_for_a_get(dcmtk: Tool, face: Face, folder: Path, name: str, tmp_path: Path) -> None:
    """PS3.4 C.4.3: on the same association; the same bytes as getscu gets from it."""
    with filled(dcmtk, folder) as program:
        contexts = [dicomnet.Verification, GET, *storage(UNCOMPRESSED)]
        with face.associate(f"ARCHIVE@{HOST}:{program.port}", contexts=contexts) as assoc:
            results = assoc.c_get(keys_of(name))
            (instance,) = [received(dataset) for dataset in results]
            assert results.response.status is Status.SUCCESS
            assert tuple(results.progress) == (0, 1, 0, 0)
            assert assoc.c_echo().status == 0
        theirs = tmp_path / "theirs"
        theirs.mkdir()
        keys = ["-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={keys_of(name).StudyInstanceUID}"]
        syntax = "+xe" if instance.transfer_syntax.endswith(".1") else "+xi"
        options = ["-S", "+B", syntax, "-aec", "ARCHIVE", "-od", theirs]
        done = peers.run(dcmtk("getscu"), "-v", *options, *keys, HOST, program.port)
        (stored,) = theirs.iterdir()
    assert instance == corpus.read(stored), done.stdout


def test_dcmqrscp_moves_to_dicomnet(dcmtk: Tool, face: Face, folder: Path) -> None:
    """PS3.4 C.4.2: progress, and the instances at the destination, which both faces are in turn."""
    arrived: list[Instance] = []
    destination = dicomnet.AE("DEST", contexts=[*_stored()], max_associations=10)
    destination.on_c_store(lambda request: arrived.append(received(request.dataset)) or 0)
    with (
        face.serve(destination, HOST, 0) as server,
        filled(dcmtk, folder, hosts={"DEST": server.port}) as program,
        face.associate(f"ARCHIVE@{HOST}:{program.port}", contexts=[dicomnet.Verification, MOVE]) as assoc,
    ):
        for name in UNCOMPRESSED:
            results = assoc.c_move(keys_of(name), destination="DEST")
            steps = list(results)
            assert results.response.status is Status.SUCCESS
            assert results.progress.completed == 1
            assert all(step.failed == step.warning == 0 for step in steps)
        with pytest.raises(StatusError) as error:
            list(assoc.c_move(keys_of("CT_small.dcm"), destination="NOBODY"))
        assert error.value.status in (0xA801, 0xA702)
        assert assoc.c_echo().status == 0
    assert [one.sop_instance_uid for one in arrived] == [instances()[name].sop_instance_uid for name in UNCOMPRESSED]


# --- pynetdicom asks ------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def pynetdicom_association(pynetdicom: ModuleType, port: int, contexts: list[Any], **options: Any) -> Iterator[Any]:
    """Released at the end. ``contexts``: UIDs, or UIDs with transfer syntaxes, of which it is SCP."""
    ae = pynetdicom.AE("PYNETDICOM")
    roles = []
    for context in contexts:
        if isinstance(context, str):
            ae.add_requested_context(context)
        else:
            ae.add_requested_context(context[0], list(context[1]))
            roles.append(pynetdicom.build_role(context[0], scp_role=True))
    assoc = ae.associate(HOST, port, ae_title="ARCHIVE", ext_neg=roles, **options)
    assert assoc.is_established
    try:
        yield assoc
    finally:
        assoc.release()


def with_tls(context: ssl.SSLContext | None) -> dict[str, Any]:
    return {} if context is None else {"tls_args": (context, HOST)}


@pytest.mark.parametrize("secure", [False, True], ids=["", "TLS"])
def test_pynetdicom_finds_and_cancels(pynetdicom: ModuleType, face: Face, tls: dict[str, Any], secure: bool) -> None:
    """PS3.4 C.4.1: all matches, and FE00 after a C-CANCEL."""
    archive = Archive(many=1)
    server_tls, client_tls = (server_context(**tls), client_context(**tls)) if secure else (None, None)
    with (
        face.serve(archive.ae, HOST, 0, tls=server_tls) as server,
        pynetdicom_association(pynetdicom, server.port, [FIND], **with_tls(client_tls)) as assoc,
    ):
        answers = list(assoc.send_c_find(identifier(PatientName=""), FIND))
        assert [status.Status for status, _ in answers] == [0xFF00] * 3 + [0]
        assert [match.PatientName for _, match in answers[:-1]] == list(PATIENTS)
        archive._many = 100_000
        for status, _match in assoc.send_c_find(identifier(PatientName=""), FIND, msg_id=7):
            if not archive.cancelled.is_set() and status.Status == 0xFF00:
                assoc.send_c_cancel(7, query_model=FIND)
        assert status.Status == 0xFE00
    assert archive.cancelled.is_set()


@pytest.mark.parametrize("secure", [False, True], ids=["", "TLS"])
def test_pynetdicom_gets(pynetdicom: ModuleType, face: Face, tls: dict[str, Any], secure: bool) -> None:
    """PS3.4 C.4.3, N-33: each transfer syntax, byte for byte."""
    archive, arrived = Archive(), []
    server_tls, client_tls = (server_context(**tls), client_context(**tls)) if secure else (None, None)
    with (
        face.serve(archive.ae, HOST, 0, tls=server_tls) as server,
        pynetdicom_association(
            pynetdicom,
            server.port,
            [GET, *storage(NAMES)],
            evt_handlers=_keeps(pynetdicom, arrived),
            **with_tls(client_tls),
        ) as assoc,
    ):
        *pending, (final, _) = assoc.send_c_get(identifier(StudyInstanceUID="1.2.3"), GET)
        assert (final.Status, final.NumberOfCompletedSuboperations) == (0, 5)
        assert [status.NumberOfRemainingSuboperations for status, _ in pending] == [4, 3, 2, 1, 0]
    assert arrived == [instances()[name] for name in NAMES]


def _keeps(pynetdicom: ModuleType, arrived: list[Instance]) -> list[Any]:
    def keep(event: Any) -> int:
        request = event.request
        uids = str(request.AffectedSOPClassUID), str(request.AffectedSOPInstanceUID)
        arrived.append(Instance(*uids, str(event.context.transfer_syntax), request.DataSet.getvalue()))
        return 0

    return [(pynetdicom.evt.EVT_C_STORE, keep)]


def test_pynetdicom_moves(pynetdicom: ModuleType, face: Face) -> None:
    """PS3.4 C.4.2, N-33: to a pynetdicom that listens, byte for byte."""
    with peers.pynetdicom_receiver(pynetdicom) as receiver:
        archive = Archive({"PYNETDICOM": receiver.port})
        with (
            face.serve(archive.ae, HOST, 0) as server,
            pynetdicom_association(pynetdicom, server.port, [MOVE]) as assoc,
        ):
            *pending, (final, _) = assoc.send_c_move(identifier(StudyInstanceUID="1.2.3"), "PYNETDICOM", MOVE)
            assert (final.Status, final.NumberOfCompletedSuboperations) == (0, 5)
            assert len(pending) == 5
            ((status, _),) = assoc.send_c_move(identifier(StudyInstanceUID="1.2.3"), "NOBODY", MOVE)
            assert status.Status == 0xA801
    assert receiver.arrived == [instances()[name] for name in NAMES]


# --- pynetdicom answers ---------------------------------------------------------------------------------------------


@contextlib.contextmanager
def pynetdicom_server(
    pynetdicom: ModuleType, contexts: list[Any], handlers: dict[str, Callable[[Any], Any]], **options: Any
) -> Iterator[int]:
    """Its port. ``handlers``: by the name of their event."""
    ae = pynetdicom.AE("ARCHIVE")
    for context in contexts:
        uid, syntaxes = (context, None) if isinstance(context, str) else context
        ae.add_supported_context(uid, syntaxes and list(syntaxes), scu_role=True, scp_role=True)
    bound = [(getattr(pynetdicom.evt, name), handler) for name, handler in handlers.items()]
    server = ae.start_server((HOST, 0), block=False, evt_handlers=bound, **options)
    try:
        yield server.socket.getsockname()[1]
    finally:
        server.shutdown()


def _theirs(event: Any) -> Any:
    """As pynetdicom's handlers of C-FIND are."""
    for name in PATIENTS:
        if event.is_cancelled:
            yield 0xFE00, None
            return
        yield 0xFF00, patient(name)


@pytest.mark.parametrize("secure", [False, True], ids=["", "TLS"])
def test_pynetdicom_is_queried(pynetdicom: ModuleType, face: Face, tls: dict[str, Any], secure: bool) -> None:
    """PS3.4 C.4.1: matches with their character sets; a query that is left, and one that fails."""
    failing = threading.Event()

    def find(event: Any) -> Any:
        if failing.is_set():
            yield 0xA700, None
        yield from _theirs(event)

    options = {"ssl_context": server_context(**tls)} if secure else {}
    with (
        pynetdicom_server(pynetdicom, [FIND, dicomnet.Verification], {"EVT_C_FIND": find}, **options) as port,
        face.associate(
            f"ARCHIVE@{HOST}:{port}",
            contexts=[dicomnet.Verification, FIND],
            tls=client_context(**tls) if secure else None,
        ) as assoc,
    ):
        assert [match.PatientName for match in assoc.c_find(identifier())] == list(PATIENTS)
        for _ in assoc.c_find(identifier()):
            break
        failing.set()
        with pytest.raises(StatusError, match="0xA700"):
            list(assoc.c_find(identifier()))
        assert assoc.c_echo().status == 0


@pytest.mark.parametrize("secure", [False, True], ids=["", "TLS"])
def test_pynetdicom_is_asked_for_a_get(pynetdicom: ModuleType, face: Face, tls: dict[str, Any], secure: bool) -> None:
    """PS3.4 C.4.3: pynetdicom encodes what it has decoded; the data sets are equal."""
    files = [_read(path_of(name)) for name in UNCOMPRESSED]

    def get(event: Any) -> Any:
        yield len(files)
        for dataset in files:
            yield 0xFF00, dataset

    options = {"ssl_context": server_context(**tls)} if secure else {}
    contexts = [GET, *storage(UNCOMPRESSED)]
    with (
        pynetdicom_server(pynetdicom, [*contexts, dicomnet.Verification], {"EVT_C_GET": get}, **options) as port,
        face.associate(
            f"ARCHIVE@{HOST}:{port}",
            contexts=[dicomnet.Verification, *contexts],
            tls=client_context(**tls) if secure else None,
        ) as assoc,
    ):
        results = assoc.c_get(identifier(StudyInstanceUID="1.2.3"))
        got = [(instance.decode(), instance.transfer_syntax) for instance in results]
        assert results.response.status is Status.SUCCESS
        assert tuple(results.progress)[1:] == (3, 0, 0)
        assert assoc.c_echo().status == 0
    assert [dataset for dataset, _ in got] == files
    assert [syntax for _, syntax in got] == [instances()[name].transfer_syntax for name in UNCOMPRESSED]


def test_pynetdicom_moves_to_dicomnet(pynetdicom: ModuleType, face: Face) -> None:
    """PS3.4 C.4.2: progress; an unknown destination."""
    files = [_read(path_of(name)) for name in UNCOMPRESSED]
    arrived: list[str] = []
    destination = dicomnet.AE("DEST", contexts=_stored())
    destination.on_c_store(lambda request: arrived.append(request.sop_instance_uid) or 0)

    def move(event: Any) -> Any:
        if event.move_destination != "DEST":
            yield None, None
            return
        yield (
            HOST,
            server.port,
            {"contexts": [pynetdicom.build_context(uid, list(syntaxes)) for uid, syntaxes in storage(UNCOMPRESSED)]},
        )
        yield len(files)
        for dataset in files:
            yield 0xFF00, dataset

    with (
        face.serve(destination, HOST, 0) as server,
        pynetdicom_server(pynetdicom, [MOVE, dicomnet.Verification], {"EVT_C_MOVE": move}) as port,
        face.associate(f"ARCHIVE@{HOST}:{port}", contexts=[dicomnet.Verification, MOVE]) as assoc,
    ):
        results = assoc.c_move(identifier(StudyInstanceUID="1.2.3"), destination="DEST")
        steps = list(results)
        assert [step.completed for step in steps] == [1, 2, 3]
        assert results.response.status is Status.SUCCESS
        with pytest.raises(StatusError, match="0xA801"):
            list(assoc.c_move(identifier(StudyInstanceUID="1.2.3"), destination="NOBODY"))
        assert assoc.c_echo().status == 0
    assert arrived == [dataset.SOPInstanceUID for dataset in files]


# --- N-services -----------------------------------------------------------------------------------------------------


def test_pynetdicom_performs_our_n_services(pynetdicom: ModuleType, face: Face) -> None:
    """PS3.7 10.1: each of them, with data sets both ways."""
    seen: list[Any] = []

    def answer(event: Any) -> Any:
        seen.append(type(event.request).__name__)
        return 0, identifier(PatientID="P9")

    def delete(event: Any) -> int:
        seen.append(type(event.request).__name__)
        return 0

    handlers = {f"EVT_N_{name}": answer for name in ("CREATE", "SET", "GET", "ACTION", "EVENT_REPORT")}
    with (
        pynetdicom_server(pynetdicom, [MPPS, FILM_SESSION], {**handlers, "EVT_N_DELETE": delete}) as port,
        face.associate(f"ARCHIVE@{HOST}:{port}", contexts=[MPPS, FILM_SESSION]) as assoc,
    ):
        data = identifier(PatientID="P1")
        responses = [
            assoc.n_create(MPPS, data, sop_instance_uid="1.2.9.1"),
            assoc.n_set(MPPS, "1.2.9.1", data),
            assoc.n_get(MPPS, "1.2.9.1", ["PatientID", "PatientName"]),
            assoc.n_action(FILM_SESSION, "1.2.9.1", 3, data),
            assoc.n_event_report(MPPS, "1.2.9.1", 2, data),
            assoc.n_delete(FILM_SESSION, "1.2.9.1"),
        ]
    assert [response.status for response in responses] == [0] * 6
    assert [response.dataset.PatientID for response in responses[:-1]] == ["P9"] * 5
    assert seen == ["N_CREATE", "N_SET", "N_GET", "N_ACTION", "N_EVENT_REPORT", "N_DELETE"]


def test_pynetdicom_asks_for_our_n_services(pynetdicom: ModuleType, face: Face) -> None:
    """PS3.7 10.1: each of them, and an event of ours on its association."""
    ae, seen, events = dicomnet.AE("ARCHIVE", contexts=[MPPS]), [], []

    def answer(request: Any) -> Any:
        seen.append((request.action_type, request.event_type, request.attributes))
        return 0x0107, identifier(PatientID="P9")

    for register in (ae.on_n_create, ae.on_n_set, ae.on_n_get, ae.on_n_event_report):
        register(answer)
    ae.on_n_delete(lambda request: 0x0112)

    @ae.on_n_action
    def act(request: Any) -> Any:
        response = face.borrow(request.association.scu).n_event_report(MPPS, "1.2.9.1", 2, identifier(PatientID="P5"))
        events.append((response.status, response.dataset.PatientID))
        return answer(request)

    def note(event: Any) -> Any:
        events.append(event.event_information.PatientID)
        return 0, identifier(PatientID="P6")

    data = identifier(PatientID="P1")
    with (
        face.serve(ae, HOST, 0) as server,
        pynetdicom_association(
            pynetdicom, server.port, [MPPS], evt_handlers=[(pynetdicom.evt.EVT_N_EVENT_REPORT, note)]
        ) as assoc,
    ):
        answers = [
            assoc.send_n_create(data, MPPS, "1.2.9.1"),
            assoc.send_n_set(data, MPPS, "1.2.9.1"),
            assoc.send_n_get([(0x0010, 0x0020)], MPPS, "1.2.9.1"),
            assoc.send_n_event_report(data, 4, MPPS, "1.2.9.1"),
        ]
        assert [status.Status for status, _ in answers] == [0x0107] * 4
        assert [dataset.PatientID for _, dataset in answers] == ["P9"] * 4
        assert assoc.send_n_delete(MPPS, "1.2.9.1").Status == 0x0112
        status, _ = assoc.send_n_action(data, 3, MPPS, "1.2.9.1")
        assert status.Status == 0x0107
    assert seen == [(None, None, ()), (None, None, ()), (None, None, (0x00100020,)), (None, 4, ()), (3, None, ())]
    assert events == ["P5", (0, "P6")]
