"""Modality worklist (PS3.4 K), both roles, both faces."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from typing import Any

import pytest
from pydicom import Dataset

import dicomnet
from dicomnet.services import worklist
from dicomnet.services.worklist import ModalityWorklist
from tests.services.conftest import Side, dataset

DAY = "20240501"


def item(number: int, *, modality: str = "CT", day: str = DAY, time: str = "0900", station: str = "CT1") -> Dataset:
    step = dataset(
        Modality=modality,
        ScheduledProcedureStepStartDate=day,
        ScheduledProcedureStepStartTime=time,
        ScheduledStationAETitle=station,
        ScheduledProcedureStepID=f"S{number}",
    )
    return dataset(
        SpecificCharacterSet="ISO_IR 100",
        PatientName=f"Müller^{number}",
        PatientID=f"P{number}",
        AccessionNumber=f"A{number}",
        ScheduledProcedureStepSequence=[step],
    )


ITEMS = [item(1), item(2, modality="MR", station="MR1"), item(3, day="20240502", time="0100"), item(4, time="2300")]


def serving(items: Any, **options: Any) -> dicomnet.AE:
    ae = dicomnet.AE("SCP")
    worklist.serve_from(ae, items, **options)
    return ae


def ids(found: list[Dataset]) -> list[str]:
    return [match.PatientID for match in found]


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({}, ["P1", "P2", "P3", "P4"]),
        ({"date": datetime.date(2024, 5, 1)}, ["P1", "P2", "P4"]),
        ({"date": DAY}, ["P1", "P2", "P4"]),
        ({"date": (None, datetime.date(2024, 5, 1))}, ["P1", "P2", "P4"]),
        ({"date": (datetime.date(2024, 5, 2), None)}, ["P3"]),
        ({"date": (None, None)}, ["P1", "P2", "P3", "P4"]),
        ({"modality": "M?"}, ["P2"]),
        ({"station_ae": "CT1"}, ["P1", "P3", "P4"]),
        ({"patient_id": "P4"}, ["P4"]),
        ({"patient_name": "müller^3"}, ["P3"]),
        ({"AccessionNumber": "A2"}, ["P2"]),
        ({"ScheduledProcedureStepID": "S4"}, ["P4"]),
        # Both ranges: from the first day's 22:00 to the second day's 02:00 (PS3.4 Table K.6-1).
        ({"date": "20240501-20240502", "time": "2200-0200"}, ["P3", "P4"]),
        ({"patient_id": "P9"}, []),
    ],
)
def test_a_query_finds_what_it_asks_for(user: Side, server: Side, keys: dict[str, Any], expected: list[str]) -> None:
    """PS3.4 K.4.1."""
    with server.serve(serving(ITEMS)) as port, user.associate(port, ModalityWorklist) as association:
        found = user.all(worklist.query(association, **keys))
        assert ids(found) == expected
        assert all(match.ScheduledProcedureStepSequence[0].ScheduledProcedureStepID for match in found)
        assert all(str(match.PatientName).startswith("Müller") for match in found)


def test_the_provider_may_look_for_candidates_itself(user: Side, server: Side) -> None:
    """A function gets the identifier; what it gives is matched all the same."""
    asked = []

    def find(identifier: Dataset) -> Iterator[Dataset]:
        asked.append(identifier.PatientID)
        yield from ITEMS

    with server.serve(serving(find)) as port, user.associate(port, ModalityWorklist) as association:
        assert ids(user.all(worklist.query(association, patient_id="P2"))) == ["P2"]
    assert asked == ["P2"]


def test_changes_of_the_list_are_seen_by_the_next_query(user: Side, server: Side) -> None:
    """It is the provider's own list."""
    items = ITEMS[:1]
    with server.serve(serving(items)) as port, user.associate(port, ModalityWorklist) as association:
        assert len(user.all(worklist.query(association))) == 1
        items.append(ITEMS[1])
        assert len(user.all(worklist.query(association))) == 2


def test_a_key_that_is_not_supported_is_told(user: Side, server: Side) -> None:
    """PS3.4 K.4.1.1.4: pending with FF01H, and the key is not there."""
    ae = serving(ITEMS, supported=["PatientID"])
    with server.serve(ae) as port, user.associate(port, ModalityWorklist) as association:
        [match] = user.all(worklist.query(association, dataset(PatientID="P1", AccessionNumber="A7")))
        assert "AccessionNumber" not in match


def test_an_identifier_that_is_none_is_refused(user: Side, server: Side) -> None:
    """PS3.4 K.4.1.1.4: A900H; the association goes on."""
    with server.serve(serving(ITEMS)) as port, user.associate(port, ModalityWorklist) as association:
        with pytest.raises(dicomnet.StatusError) as caught:
            user.all(worklist.query(association, dataset(StudyDate="yesterday")))
        assert caught.value.status == 0xA900
        assert len(user.all(worklist.query(association))) == 4


def test_handlers_for_other_sop_classes_stay(user: Side, server: Side) -> None:
    """The worklist beside a query handler of the user's, on one AE."""
    study = "1.2.840.10008.5.1.4.1.2.2.1"
    ae = dicomnet.AE("SCP", contexts=[study])
    ae.on_c_find(lambda request: [dataset(PatientID="from the user's handler")])
    worklist.serve_from(ae, ITEMS)
    with server.serve(ae) as port, user.associate(port, ModalityWorklist, study) as association:
        assert ids(user.all(association.c_find(dataset(PatientID="")))) == ["from the user's handler"]
        assert len(user.all(worklist.query(association))) == 4


def test_a_class_that_no_service_answers_for_is_not_recognised(user: Side, server: Side) -> None:
    """PS3.7 9.1.2.1.6: 0211H, as without a handler."""
    study = "1.2.840.10008.5.1.4.1.2.2.1"
    ae = dicomnet.AE("SCP", contexts=[study])
    worklist.serve_from(ae, ITEMS)
    with server.serve(ae) as port, user.associate(port, study) as association:
        with pytest.raises(dicomnet.StatusError) as caught:
            user.all(association.c_find(dataset(PatientID="")))
        assert caught.value.status == 0x0211


def test_the_matching_that_was_negotiated_is_done(user: Side, server: Side) -> None:
    """PS3.4 C.5.1.1: the value of two quotation marks asks for what is empty."""
    empty = dataset(PatientID="P5", AccessionNumber="")
    ae = dicomnet.AE(
        "SCP",
        contexts=[ModalityWorklist],
        extended={ModalityWorklist: dicomnet.ExtendedQuery(True, True, empty_value=True)},
    )
    worklist.serve_from(ae, [*ITEMS, empty])
    asked = {ModalityWorklist: dicomnet.ExtendedQuery(True, True, empty_value=True)}
    for extended, expected in ((asked, ["P5"]), ({}, [])):
        with server.serve(ae) as port, user.associate(port, ModalityWorklist, extended=extended) as association:
            found = user.all(worklist.query(association, dataset(AccessionNumber='""', PatientID="")))
            assert ids(found) == expected


def test_an_identifier_has_everything_that_modalities_copy() -> None:
    """PS3.4 Table K.6-1."""
    identifier = worklist.identifier(modality="C*", PatientName="Ü")
    assert identifier.SpecificCharacterSet == "ISO_IR 192"
    [step] = identifier.ScheduledProcedureStepSequence
    assert step.Modality == "C*"
    assert {"ScheduledProcedureStepID", "ScheduledProtocolCodeSequence"} <= {element.keyword for element in step}
    assert {"StudyInstanceUID", "RequestedProcedureID"} <= {element.keyword for element in identifier}
    with pytest.raises(ValueError, match="Nonsense"):
        worklist.identifier(Nonsense="1")
    with pytest.raises(TypeError):
        worklist.identifier(date=20240101)
