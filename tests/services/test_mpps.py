"""Modality performed procedure step (PS3.4 F.7), both roles, both faces."""

from __future__ import annotations

from typing import Any

import pytest
from pydicom import Dataset

import dicomnet
from dicomnet.services import mpps
from tests.services.conftest import Side, dataset, status_of

MPPS = mpps.ModalityPerformedProcedureStep
CT = "1.2.840.10008.5.1.4.1.1.2"
SR = "1.2.840.10008.5.1.4.1.1.88.22"


def scheduled() -> Dataset:
    """A match of a worklist."""
    step = dataset(Modality="CT", ScheduledProcedureStepID="S1", ScheduledProcedureStepDescription="Schädel")
    return dataset(
        SpecificCharacterSet="ISO_IR 100",
        PatientName="Müller^Eva",
        PatientID="P1",
        StudyInstanceUID="1.2.3",
        AccessionNumber="A1",
        RequestedProcedureID="R1",
        ScheduledProcedureStepSequence=[step],
    )


def begun(**changes: Any) -> Dataset:
    step = mpps.from_worklist(scheduled(), station_ae="CT1")
    for keyword, value in changes.items():
        if value is None:
            delattr(step, keyword)
        else:
            setattr(step, keyword, value)
    return step


def instance(number: int, *, series: str = "1.2.3.1", **more: Any) -> Dataset:
    values = {"SOPClassUID": CT, "Rows": 512, "SeriesDescription": "Axial", **more}
    return dataset(SeriesInstanceUID=series, SOPInstanceUID=f"{series}.{number}", Modality="CT", **values)


def providing(**options: Any) -> tuple[dicomnet.AE, Any]:
    ae = dicomnet.AE("SCP")
    return ae, mpps.provide(ae, **options)


def test_a_step_is_in_progress_and_then_completed(user: Side, server: Side) -> None:
    """PS3.4 F.7.2.1, F.7.2.2."""
    states = []
    ae, steps = providing(changed=lambda step: states.append(step.PerformedProcedureStepStatus))
    with server.serve(ae) as port, user.associate(port, MPPS) as association:
        with user.entered(mpps.performed(association, begun())) as step:
            assert steps[step.sop_instance_uid].PerformedProcedureStepStatus == "IN PROGRESS"
            step.add(instance(1), protocol="Head", retrieve_ae="PACS")
            step.add(instance(2))
            step.add(instance(1, series="1.2.3.2", SOPClassUID=SR, Rows=None, SeriesDescription=""))
            del step.series[1].ReferencedImageSequence[:]
        kept = steps[step.sop_instance_uid]
    assert states == ["IN PROGRESS", "COMPLETED"]
    assert kept.PatientName == "Müller^Eva"
    assert kept.PerformedProcedureStepEndDate
    assert kept.ScheduledStepAttributesSequence[0].AccessionNumber == "A1"
    first, second = kept.PerformedSeriesSequence
    assert (first.ProtocolName, first.RetrieveAETitle, len(first.ReferencedImageSequence)) == ("Head", "PACS", 2)
    assert second.ProtocolName == "CT"


def test_what_is_no_image_is_listed_as_such(user: Side, server: Side) -> None:
    """PS3.4 Table F.7.2-1: Referenced Non-Image Composite SOP Instance Sequence."""
    ae, steps = providing()
    report = instance(1, SOPClassUID=SR)
    del report.Rows
    with server.serve(ae) as port, user.associate(port, MPPS) as association:
        with user.entered(mpps.performed(association, begun())) as step:
            step.add(report)
        [series] = steps[step.sop_instance_uid].PerformedSeriesSequence
    assert [item.ReferencedSOPClassUID for item in series.ReferencedNonImageCompositeSOPInstanceSequence] == [SR]
    assert not series.ReferencedImageSequence


def test_an_exception_discontinues_the_step(user: Side, server: Side) -> None:
    """PS3.4 F.7.2.2: and is still raised."""
    ae, steps = providing()
    with server.serve(ae) as port, user.associate(port, MPPS) as association:
        with pytest.raises(ZeroDivisionError), user.entered(mpps.performed(association, begun())) as step:
            raise ZeroDivisionError
        kept = steps[step.sop_instance_uid]
    assert kept.PerformedProcedureStepStatus == "DISCONTINUED"
    assert len(kept.PerformedSeriesSequence) == 1  # which the final state needs


def test_a_step_can_be_discontinued_for_a_reason(user: Side, server: Side) -> None:
    """PS3.16 CID 9300."""
    ae, steps = providing()
    with server.serve(ae) as port, user.associate(port, MPPS) as association:
        with user.entered(mpps.performed(association, begun(), sop_instance_uid="1.2.9")) as step:
            step.discontinue(("110513", "DCM", "Discontinued for unspecified reason"))
        kept = steps["1.2.9"]
    assert kept.PerformedProcedureStepStatus == "DISCONTINUED"
    assert kept.PerformedProcedureStepDiscontinuationReasonCodeSequence[0].CodeValue == "110513"


def test_a_step_that_cannot_be_ended_is_told_beside_the_error(user: Side, server: Side) -> None:
    """The error of the block is what matters; that nobody could be told is a note."""
    ae, steps = providing()
    with server.serve(ae) as port, user.associate(port, MPPS) as association:
        with pytest.raises(ZeroDivisionError) as caught, user.entered(mpps.performed(association, begun())):
            steps.clear()
            raise ZeroDivisionError
        assert "could" in caught.value.__notes__[0]
        with pytest.raises(dicomnet.StatusError), user.entered(mpps.performed(association, begun())):
            steps.clear()


def test_a_step_can_be_updated_while_it_goes_on(user: Side, server: Side) -> None:
    """PS3.4 F.7.2.2: another character set does not spoil the text."""
    ae, steps = providing()
    changes = dataset(SpecificCharacterSet="ISO_IR 192", PerformedProcedureStepDescription="頭部")
    with server.serve(ae) as port, user.associate(port, MPPS) as association:
        with user.entered(mpps.performed(association, begun())) as step:
            assert user.do(step.update(changes)).status == 0
            kept = steps[step.sop_instance_uid]
        assert kept.PerformedProcedureStepDescription == "頭部"
        assert kept.PatientName == "Müller^Eva"
        assert kept.SpecificCharacterSet == "ISO_IR 192"


# --- the provider's rules -------------------------------------------------------------------------------------------


@pytest.fixture
def running() -> Any:
    """A provider and an association of the blocking face: the rules do not depend on it."""
    ae, steps = providing()
    side = Side("blocking")
    with side.serve(ae) as port, side.associate(port, MPPS) as association:
        yield association, steps


def test_nothing_changes_after_the_end(running: Any) -> None:
    """PS3.4 F.7.2.2.4: 0110H with Error ID A710H and this comment."""
    association, steps = running
    with mpps.performed(association, begun()) as step:
        pass
    before = steps[step.sop_instance_uid].to_json()
    for changes in (dataset(PerformedProcedureStepStatus="IN PROGRESS"), dataset(StudyID="1"), step.final):
        response = step.update(changes)
        assert (response.status, response.error_id) == (0x0110, 0xA710)
        assert response.error_comment == "Performed Procedure Step Object may no longer be updated"
    assert steps[step.sop_instance_uid].to_json() == before


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"PerformedProcedureStepID": None}, 0x0120),
        ({"PerformedProcedureStepID": ""}, 0x0121),
        ({"PerformedStationAETitle": None}, 0x0120),
        ({"ScheduledStepAttributesSequence": []}, 0x0121),
        ({"ScheduledStepAttributesSequence": [Dataset()]}, 0x0120),
        ({"PatientName": None}, 0x0120),  # may be empty, not missing
        ({"PatientName": ""}, 0),
        ({"PerformedProcedureStepStatus": "COMPLETED"}, 0x0106),
    ],
)
def test_what_a_step_needs_at_creation(running: Any, changes: dict[str, Any], status: int) -> None:
    """PS3.4 Table F.7.2-1; PS3.7 10.1.5.1.6."""
    association, steps = running
    response = association.n_create(MPPS, begun(**changes), sop_instance_uid="1.2.3")
    assert response.status == status
    assert len(steps) == (status == 0)


def test_a_step_is_created_once(running: Any) -> None:
    """PS3.7 10.1.5.1.6: 0111H."""
    association, steps = running
    assert association.n_create(MPPS, begun(), sop_instance_uid="1.2.3").status == 0
    assert association.n_create(MPPS, begun(), sop_instance_uid="1.2.3").status == 0x0111
    assert association.n_create(MPPS, None, sop_instance_uid="1.2.4").status == 0x0120
    created = association.n_create(MPPS, begun())  # without a UID the provider gives one
    assert created.status == 0
    assert set(steps) == {"1.2.3", created.sop_instance_uid}


def test_a_step_that_is_not_known_cannot_be_changed(running: Any) -> None:
    """PS3.7 10.1.3.1.9: 0112H."""
    association, _ = running
    assert association.n_set(MPPS, "1.2.3", dataset(StudyID="1")).status == 0x0112


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"PatientID": "P2"}, 0x0106),  # not allowed (Table F.7.2-1)
        ({"PatientID": "P1", "PerformedProcedureStepDescription": "x"}, 0),  # nothing changes
        ({"PerformedProcedureStepStatus": "DONE"}, 0x0106),
        ({"PerformedProcedureStepStatus": "COMPLETED"}, 0x0121),  # the end is missing
    ],
)
def test_what_may_be_changed(running: Any, changes: dict[str, Any], status: int) -> None:
    """PS3.4 Table F.7.2-1."""
    association, steps = running
    association.n_create(MPPS, begun(), sop_instance_uid="1.2.3")
    assert association.n_set(MPPS, "1.2.3", dataset(**changes)).status == status
    assert steps["1.2.3"].PerformedProcedureStepStatus == "IN PROGRESS"
    assert steps["1.2.3"].PatientID == "P1"


def test_series_of_the_end_are_complete(running: Any) -> None:
    """PS3.4 Table F.7.2-1, final state."""
    association, _ = running
    association.n_create(MPPS, begun(), sop_instance_uid="1.2.3")
    final = dataset(
        PerformedProcedureStepStatus="COMPLETED",
        PerformedProcedureStepEndDate="20240101",
        PerformedProcedureStepEndTime="10",
        PerformedSeriesSequence=[dataset(SeriesInstanceUID="1.2")],
    )
    assert association.n_set(MPPS, "1.2.3", final).status == 0x0120


def test_less_can_be_asked_for() -> None:
    """``strict=False``: only the states count, and what may not change does not."""
    ae, steps = providing(strict=False)
    side = Side("blocking")
    with side.serve(ae) as port, side.associate(port, MPPS) as association:
        bare = dataset(PerformedProcedureStepStatus="IN PROGRESS", PatientID="P1")
        assert association.n_create(MPPS, bare, sop_instance_uid="1.2.3").status == 0
        changes = dataset(PerformedProcedureStepStatus="COMPLETED", PatientID="P2")
        assert association.n_set(MPPS, "1.2.3", changes).status == 0
        assert steps["1.2.3"].PatientID == "P1"
        assert association.n_set(MPPS, "1.2.3", changes).status == 0x0110


def test_the_program_may_refuse() -> None:
    """By StatusError; nothing is kept then."""

    def refuse(step: Dataset) -> None:
        raise dicomnet.StatusError(0x0124, "not here")

    ae, steps = providing(changed=refuse)
    side = Side("blocking")
    with side.serve(ae) as port, side.associate(port, MPPS) as association:
        assert status_of(lambda: mpps.performed(association, begun()).__enter__()) == 0x0124
    assert not steps


def test_values_that_cannot_be_read_are_refused(running: Any) -> None:
    """PS3.7 10.1.5.1.6: 0106H, and no exception later on."""
    association, steps = running
    broken = dicomnet.EncodedDataset(bytes.fromhex("28001000") + b"US\x03\x00abc\0", "1.2.840.10008.1.2.1")
    context = next(iter(association.accepted))
    assert context.transfer_syntax == "1.2.840.10008.1.2.1"
    assert association.n_create(MPPS, broken, sop_instance_uid="1.2.3").status in (0x0106, 0x0120)
    assert not steps


@pytest.mark.parametrize(("face", "keyword"), [("blocking", "for `with`"), ("aio", "for `async with`")])
def test_the_wrong_kind_of_with_is_told(face: str, keyword: str) -> None:
    """Each face has its own."""
    side = Side(face)
    ae, _ = providing()
    with side.serve(ae) as port, side.associate(port, MPPS) as association:
        step = mpps.performed(association, begun())
        with pytest.raises(TypeError, match=keyword):
            if face == "aio":
                step.__enter__()
            else:
                step.__aenter__().send(None)
