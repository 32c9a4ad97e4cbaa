"""Instance availability notification (PS3.4 R): tell that instances can be retrieved now, and be told."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from dicomnet.dimse.messages import Response
from dicomnet.dimse.status import Status
from dicomnet.services.faces import answered, drive
from dicomnet.services.providing import attributes, offer, require, route

if TYPE_CHECKING:
    from pydicom import Dataset

    from dicomnet.ae import AE
    from dicomnet.dimse.provider import Indication

InstanceAvailabilityNotification: Final = "1.2.840.10008.5.1.4.33"  # SOP class UID (PS3.4 R.3.3)

ONLINE: Final = "ONLINE"  # can be retrieved at once (PS3.3 C.4.23.1.1)
NEARLINE: Final = "NEARLINE"  # has to be fetched from a slow medium first
OFFLINE: Final = "OFFLINE"  # somebody has to do something by hand
UNAVAILABLE: Final = "UNAVAILABLE"  # cannot be retrieved


class Available(NamedTuple):
    """One instance of a notification. ``availability``: ONLINE, NEARLINE, OFFLINE or UNAVAILABLE."""

    series_instance_uid: str
    sop_class_uid: str
    sop_instance_uid: str
    availability: str
    retrieve_ae: str


@dataclass(frozen=True, slots=True)
class Notification:
    """What a provider is told about one study. ``uid``: the notification's; ``dataset``: all that came."""

    uid: str
    study_instance_uid: str
    instances: tuple[Available, ...]
    dataset: Dataset


# --- the user -------------------------------------------------------------------------------------------------------


def notify(
    association: Any,
    instances: Iterable[Dataset],
    *,
    retrieve_ae: str,
    availability: str = ONLINE,
    performed_step: tuple[str, str] | None = None,
) -> Any:
    """Tell that instances are available (N-CREATE, PS3.4 R.3.2.1): the UIDs of the notifications, one for each study.

    ``instances``: pydicom Datasets; of each the UIDs of study, series, SOP class and instance are needed.
    ``retrieve_ae``: AE title from where they can be had. ``performed_step``: (SOP class UID, SOP instance UID) of the
    performed procedure step that made them. On the asyncio face awaitable.

    Raises StatusError if the provider refuses, and what ``association.n_create`` raises.
    """
    return drive(association, _notify(association, tuple(instances), retrieve_ae, availability, performed_step))


async def _notify(
    association: Any,
    instances: tuple[Dataset, ...],
    retrieve_ae: str,
    availability: str,
    performed_step: tuple[str, str] | None,
) -> list[str]:
    from pydicom.uid import generate_uid

    uids = []
    for study in dict.fromkeys(instance.StudyInstanceUID for instance in instances):
        of_study = [instance for instance in instances if instance.StudyInstanceUID == study]
        dataset = _notification(study, of_study, retrieve_ae, availability, performed_step)
        uid = str(generate_uid(prefix=None))
        response = await answered(association.n_create(InstanceAvailabilityNotification, dataset, sop_instance_uid=uid))
        uids.append(response.raise_for_status().sop_instance_uid or uid)
    return uids


def _notification(
    study: str,
    instances: list[Dataset],
    retrieve_ae: str,
    availability: str,
    performed_step: tuple[str, str] | None,
) -> Dataset:
    """PS3.4 Table R.3.2-1."""
    from pydicom import Dataset

    result = Dataset()
    series: dict[str, list[Dataset]] = {}
    for instance in instances:
        reference = Dataset()
        reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = (
            instance.SOPClassUID,
            instance.SOPInstanceUID,
        )
        reference.InstanceAvailability, reference.RetrieveAETitle = availability, retrieve_ae
        series.setdefault(instance.SeriesInstanceUID, []).append(reference)
    result.StudyInstanceUID = study
    result.ReferencedPerformedProcedureStepSequence = []
    if performed_step:
        step = Dataset()
        step.ReferencedSOPClassUID, step.ReferencedSOPInstanceUID = performed_step
        step.PerformedWorkitemCodeSequence = []
        result.ReferencedPerformedProcedureStepSequence = [step]
    items = []
    for uid, references in series.items():
        items.append(Dataset())
        items[-1].SeriesInstanceUID, items[-1].ReferencedSOPSequence = uid, references
    result.ReferencedSeriesSequence = items
    return result


# --- the provider ---------------------------------------------------------------------------------------------------


def provide(ae: AE, notified: Callable[[Notification], None]) -> None:
    """Be told: ``ae`` answers N-CREATE of the Instance Availability Notification SOP class (PS3.4 R.3.2.1).

    ``notified`` is called with each notification, in several threads at once; it may refuse by StatusError. What is
    incomplete is answered with 0120H or 0121H and not handed on.
    """

    def create(request: Indication) -> Response:
        from pydicom.uid import generate_uid

        dataset = attributes(request)
        uid = request.sop_instance_uid or str(generate_uid(prefix=None))
        notified(Notification(uid, str(dataset.get("StudyInstanceUID", "")), tuple(_available(dataset)), dataset))
        return Response(Status.SUCCESS, sop_instance_uid=uid)

    offer(ae, [InstanceAvailabilityNotification])
    route(ae, "n_create", [InstanceAvailabilityNotification], create)


def _available(dataset: Dataset) -> Iterable[Available]:
    require(dataset, ["StudyInstanceUID", "ReferencedSeriesSequence"], ["ReferencedPerformedProcedureStepSequence"])
    for series in dataset.ReferencedSeriesSequence:
        require(series, ["SeriesInstanceUID", "ReferencedSOPSequence"], where="ReferencedSeriesSequence: ")
        for item in series.ReferencedSOPSequence:
            keywords = "ReferencedSOPClassUID", "ReferencedSOPInstanceUID", "InstanceAvailability", "RetrieveAETitle"
            require(item, keywords, where="ReferencedSOPSequence: ")
            yield Available(str(series.SeriesInstanceUID), *(str(item[keyword].value) for keyword in keywords))
