"""Relevant patient information query (PS3.4 Q), both roles, both faces."""

from __future__ import annotations

from typing import Any

import pytest
from pydicom import Dataset

import dicomnet
from dicomnet.services import patient_information
from tests.services.conftest import Side, dataset, status_of

GENERAL = patient_information.GeneralRelevantPatientInformation
BREAST = patient_information.BreastImagingRelevantPatientInformation


def patient(patient_id: str) -> Dataset:
    content = [dataset(RelationshipType="CONTAINS", ValueType="TEXT", TextValue="keine Allergien: Müsli")]
    return dataset(
        SpecificCharacterSet="ISO_IR 100", PatientID=patient_id, ValueType="CONTAINER", ContentSequence=content
    )


def find(identifier: Dataset, template: str) -> Any:
    if template != "9007":
        raise dicomnet.StatusError(patient_information.TEMPLATE_NOT_SUPPORTED)
    return {"1": patient("1"), "2": [patient("2")], "3": [patient("3"), patient("3")]}.get(identifier.PatientID)


@pytest.fixture
def ae() -> dicomnet.AE:
    it = dicomnet.AE("SCP")
    patient_information.provide(it, find)
    return it


def test_what_is_known_of_a_patient(user: Side, server: Side, ae: dicomnet.AE) -> None:
    """PS3.4 Q.3: the content tree, of one patient."""
    with server.serve(ae) as port, user.associate(port, GENERAL, BREAST) as association:
        for patient_id in ("1", "2"):
            found = user.do(patient_information.query(association, patient_id))
            assert found.PatientID == patient_id
            assert found.ContentSequence[0].TextValue == "keine Allergien: Müsli"
        assert user.do(patient_information.query(association, "9")) is None
        assert user.do(patient_information.query(association, "Ü", IssuerOfPatientID="X")) is None


def test_failures_have_statuses_of_their_own(user: Side, server: Side, ae: dicomnet.AE) -> None:
    """PS3.4 Table Q.2-1: C100H, C200H, A900H."""
    with server.serve(ae) as port, user.associate(port, GENERAL, BREAST) as association:

        def status(patient_id: str, **options: Any) -> int:
            return status_of(lambda: user.do(patient_information.query(association, patient_id, **options)))

        assert status("3") == 0xC100
        assert status("1", sop_class_uid=BREAST) == 0xC200
        assert status("1", template="1") == 0xC200
        assert status("") == 0xA900


def test_without_a_template_it_is_that_of_the_sop_class(ae: dicomnet.AE) -> None:
    """PS3.4 Q.4.1."""
    side = Side("blocking")
    with side.serve(ae) as port, side.associate(port, GENERAL) as association:
        [found] = association.c_find(dataset(PatientID="1"), model=GENERAL)
        assert found.PatientID == "1"
