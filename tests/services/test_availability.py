"""Instance availability notification (PS3.4 R), both roles, both faces."""

from __future__ import annotations

from typing import Any

import pytest
from pydicom import Dataset

import dicomnet
from dicomnet.services import availability
from dicomnet.services.availability import Available, InstanceAvailabilityNotification as Ian
from tests.services.conftest import Side, dataset, status_of


def instance(study: str, series: str, number: int) -> Dataset:
    return dataset(
        StudyInstanceUID=study, SeriesInstanceUID=series, SOPClassUID="1.2.840", SOPInstanceUID=f"{series}.{number}"
    )


def providing(notified: Any) -> dicomnet.AE:
    ae = dicomnet.AE("SCP")
    availability.provide(ae, notified)
    return ae


def test_each_study_is_told_of_once(user: Side, server: Side) -> None:
    """PS3.4 R.3.2.1."""
    told: list[availability.Notification] = []
    instances = [instance("1.1", "1.1.1", 1), instance("1.2", "1.2.1", 1), instance("1.1", "1.1.1", 2)]
    with server.serve(providing(told.append)) as port, user.associate(port, Ian) as association:
        step = "1.2.840.10008.3.1.2.3.3", "1.9"
        uids = user.do(availability.notify(association, instances, retrieve_ae="PACS", performed_step=step))
    assert [one.uid for one in told] == uids
    assert [one.study_instance_uid for one in told] == ["1.1", "1.2"]
    assert told[0].instances == tuple(Available("1.1.1", "1.2.840", f"1.1.1.{n}", "ONLINE", "PACS") for n in (1, 2))
    [reference] = told[0].dataset.ReferencedPerformedProcedureStepSequence
    assert reference.ReferencedSOPInstanceUID == "1.9"


def test_what_is_incomplete_is_refused() -> None:
    """PS3.4 Table R.3.2-1; PS3.7 10.1.5.1.6."""
    told: list[Any] = []
    side = Side("blocking")
    with side.serve(providing(told.append)) as port, side.associate(port, Ian) as association:
        series = dataset(SeriesInstanceUID="1.2", ReferencedSOPSequence=[dataset(RetrieveAETitle="PACS")])
        whole = {"StudyInstanceUID": "1.1", "ReferencedPerformedProcedureStepSequence": []}
        for attributes, status in (
            ({}, 0x0120),
            ({**whole, "ReferencedSeriesSequence": []}, 0x0121),
            ({**whole, "ReferencedSeriesSequence": [series]}, 0x0120),
        ):
            response = association.n_create(Ian, dataset(PatientID="1", **attributes))
            assert response.status == status
    assert not told


def test_the_program_may_refuse(user: Side, server: Side) -> None:
    """By StatusError, which the user of the service gets."""

    def refuse(notification: availability.Notification) -> None:
        raise dicomnet.StatusError(0x0213)

    with server.serve(providing(refuse)) as port, user.associate(port, Ian) as association:
        told = [instance("1.1", "1.1.1", 1)]
        assert status_of(lambda: user.do(availability.notify(association, told, retrieve_ae="PACS"))) == 0x0213


def test_a_notification_without_uid_gets_one() -> None:
    """PS3.7 10.1.5.1.3."""
    told: list[availability.Notification] = []
    side = Side("blocking")
    with side.serve(providing(told.append)) as port, side.associate(port, Ian) as association:
        whole = availability._notification("1.1", [instance("1.1", "1.1.1", 1)], "PACS", "NEARLINE", None)
        response = association.n_create(Ian, whole)
        assert response.sop_instance_uid == told[0].uid
    with pytest.raises(AttributeError):
        told[0].uid = ""  # type: ignore[misc]  (a value)
