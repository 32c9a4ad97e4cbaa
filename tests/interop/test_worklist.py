"""Modality worklists (PS3.4 K) with DCMTK's findscu and wlmscpfs, as queries; the services' tests have the rest."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

import dicomnet
from dicomnet import Status
from dicomnet.models import query_class
from dicomnet.tls import make_test_ca, server_context
from tests.faces.face import FACES, Face
from tests.interop import peers
from tests.interop.peers import HOST, Tool

WORKLIST = query_class("worklist", "find")
PATIENTS = ["Müller^Jürgen", "Yamada^Tarou=山田^太郎", "Doe^Jane"]


@pytest.fixture(params=FACES)
def face(request: pytest.FixtureRequest) -> Face:
    """Of dicomnet's side."""
    return FACES[request.param]


def step(name: str, modality: str = "CT", charset: str = "ISO_IR 192") -> Dataset:
    """A scheduled procedure step, with what wlmscpfs wants to be there (PS3.4 Table K.6-1)."""
    scheduled = Dataset()
    scheduled.Modality, scheduled.ScheduledStationAETitle = modality, "CT1"
    scheduled.ScheduledProcedureStepStartDate, scheduled.ScheduledProcedureStepStartTime = "20261122", "0800"
    scheduled.ScheduledPerformingPhysicianName, scheduled.ScheduledProcedureStepID = "", "S1"
    scheduled.ScheduledProcedureStepDescription = "Chest"
    entry = Dataset()
    entry.SpecificCharacterSet = charset
    entry.PatientName, entry.PatientID, entry.AccessionNumber = name, f"P{len(name)}", "A1"
    entry.PatientBirthDate, entry.PatientSex, entry.PatientWeight = "", "O", None
    entry.StudyInstanceUID, entry.RequestedProcedureID = generate_uid(), "R1"
    entry.RequestedProcedureDescription, entry.RequestedProcedurePriority = "Chest", ""
    entry.ReferringPhysicianName = entry.RequestingPhysician = ""
    entry.ScheduledProcedureStepSequence = [scheduled]
    return entry


def wanted(**keys: Any) -> Dataset:
    """An identifier that asks for name, ID and step."""
    scheduled = Dataset()
    scheduled.Modality, scheduled.ScheduledStationAETitle = "", ""
    identifier = Dataset()
    identifier.SpecificCharacterSet = "ISO_IR 192"
    identifier.PatientName = identifier.PatientID = ""
    identifier.ScheduledProcedureStepSequence = [scheduled]
    for keyword, value in keys.items():
        setattr(identifier, keyword, value)
    return identifier


@contextlib.contextmanager
def wlmscpfs(dcmtk: Tool, folder: Path, entries: list[Dataset], *options: Any) -> Iterator[peers.Program]:
    """Serves ``entries`` to those who call WORKLIST."""
    place = folder / "WORKLIST"
    place.mkdir(parents=True)
    (place / "lockfile").touch()
    for number, entry in enumerate(entries):
        entry.file_meta = FileMetaDataset()
        entry.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        entry.file_meta.MediaStorageSOPClassUID, entry.file_meta.MediaStorageSOPInstanceUID = WORKLIST, generate_uid()
        entry.save_as(place / f"{number}.wl", enforce_file_format=True)
    with peers._dcmtk_server(folder, [dcmtk("wlmscpfs"), "-v", "-dfr", *options, "-dfp", folder]) as program:
        yield program


@pytest.mark.parametrize("secure", [False, True], ids=["", "TLS"])
def test_findscu_asks_for_a_worklist(dcmtk: Tool, face: Face, tmp_path: Path, secure: bool) -> None:
    """PS3.4 K.4.1: with the sequence that it asks for, and names in the character set that each has."""
    ae, asked = dicomnet.AE("WORKLIST", contexts=[WORKLIST]), []

    @ae.on_c_find
    def find(request: Any) -> Iterator[Dataset]:
        asked.append(request.dataset.ScheduledProcedureStepSequence[0].Modality)
        yield from map(step, PATIENTS)

    authority = make_test_ca(tmp_path / "ca", key_type="rsa")
    own = authority.issue("a modality")
    files = {"ca": authority.certificate, "certificate": own.certificate, "key": own.key}
    options = ["+tls", own.key, own.certificate, "+cf", authority.certificate] if secure else []
    keys = ["-k", "PatientName", "-k", "ScheduledProcedureStepSequence[0].Modality=CT"]
    found = tmp_path / "found"
    found.mkdir()
    with face.serve(ae, HOST, 0, tls=server_context(**files) if secure else None) as server:
        done = peers.run(dcmtk("findscu"), "-v", "-W", "-X", "-od", found, *options, *keys, HOST, server.port)
    assert done.returncode == 0, done.stdout
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        matches = [dcmread(path, force=True) for path in sorted(found.iterdir())]
    assert [match.PatientName for match in matches] == PATIENTS
    assert [match.ScheduledProcedureStepSequence[0].ScheduledStationAETitle for match in matches] == ["CT1"] * 3
    assert asked == ["CT"]


def test_wlmscpfs_is_asked(dcmtk: Tool, face: Face, folder: Path) -> None:
    """PS3.4 K.4.1: the identifiers come as they lie in its files, with their character sets; queries end early."""
    entries = [step(PATIENTS[0], charset="ISO_IR 100"), step(PATIENTS[1]), step(PATIENTS[2], modality="MR")]
    with (
        wlmscpfs(dcmtk, folder, entries, "-csk") as program,
        face.associate(f"WORKLIST@{HOST}:{program.port}", contexts=[dicomnet.Verification, WORKLIST]) as assoc,
    ):
        results = assoc.c_find(wanted(), model="worklist")
        names = {str(match.PatientName): match.SpecificCharacterSet for match in results}
        assert names == {PATIENTS[0]: "ISO_IR 100", PATIENTS[1]: "ISO_IR 192", PATIENTS[2]: "ISO_IR 192"}
        assert results.response.status is Status.SUCCESS
        (match,) = assoc.c_find(wanted(PatientName="Doe*"), model="worklist")
        assert match.ScheduledProcedureStepSequence[0].Modality == "MR"
        for _ in assoc.c_find(wanted(), model="worklist"):
            break
        assert list(assoc.c_find(wanted(PatientID="NOBODY"), model="worklist")) == []
        assert assoc.c_echo().status == 0
