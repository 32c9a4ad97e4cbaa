"""Modality worklist (PS3.4 K): ask for the procedure steps that are scheduled, and provide them.

The provider hands in its items, all of them or those that may match; the matching is done here.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final

from dicomnet.services.providing import answers, offer, route

if TYPE_CHECKING:
    from pydicom import Dataset

    from dicomnet.ae import AE
    from dicomnet.dimse.provider import Indication

ModalityWorklist: Final = "1.2.840.10008.5.1.4.31"  # SOP class UID (PS3.4 K.6.1.4)

Day = datetime.date | str | tuple[datetime.date | None, datetime.date | None]

# What is asked for to be returned: the attributes of types 1, 2 and 3 that modalities copy (PS3.4 Table K.6-1).
_STEP_KEYS: Final = (
    "ScheduledStationAETitle",
    "ScheduledStationName",
    "ScheduledProcedureStepLocation",
    "ScheduledProcedureStepStartDate",
    "ScheduledProcedureStepStartTime",
    "ScheduledPerformingPhysicianName",
    "ScheduledProcedureStepDescription",
    "ScheduledProtocolCodeSequence",
    "ScheduledProcedureStepID",
    "RequestedContrastAgent",
    "PreMedication",
    "Modality",
)
_KEYS: Final = (
    "AccessionNumber",
    "ReferringPhysicianName",
    "ReferencedStudySequence",
    "ReferencedPatientSequence",
    "PatientName",
    "PatientID",
    "IssuerOfPatientID",
    "PatientBirthDate",
    "PatientSex",
    "PatientWeight",
    "MedicalAlerts",
    "Allergies",
    "PregnancyStatus",
    "ConfidentialityConstraintOnPatientDataDescription",
    "SpecialNeeds",
    "PatientState",
    "CurrentPatientLocation",
    "AdmissionID",
    "StudyInstanceUID",
    "StudyDate",
    "StudyTime",
    "RequestingPhysician",
    "RequestedProcedureDescription",
    "RequestedProcedureCodeSequence",
    "RequestedProcedureID",
    "RequestedProcedurePriority",
    "PatientTransportArrangements",
)


def identifier(
    *,
    date: Day | None = None,
    time: str = "",
    modality: str = "",
    station_ae: str = "",
    performing_physician: str = "",
    patient_name: str = "",
    patient_id: str = "",
    **keys: Any,
) -> Dataset:
    """The identifier of a worklist query: what to match, and everything to be returned (PS3.4 Table K.6-1).

    ``date``: of the step's start; a day, a pair of them (None is open), or as in DICOM ("20240101-20240131").
    ``time``: as in DICOM. ``station_ae``: AE title of the modality. Text may have wildcards. ``keys``: others, by
    keyword (``AccessionNumber="A1"``), added to the step if that is where they belong.

    Raises ValueError for a keyword that is none.
    """
    from pydicom import Dataset

    step, result = Dataset(), Dataset()
    asked = {
        "ScheduledProcedureStepStartDate": _range(date),
        "ScheduledProcedureStepStartTime": time,
        "Modality": modality,
        "ScheduledStationAETitle": station_ae,
        "ScheduledPerformingPhysicianName": performing_physician,
        "PatientName": patient_name,
        "PatientID": patient_id,
        **keys,
    }
    for keyword in _STEP_KEYS:
        _put(step, keyword, asked.pop(keyword, None))
    for keyword in dict.fromkeys((*_KEYS, *asked)):
        _put(result, keyword, asked.get(keyword))
    result.ScheduledProcedureStepSequence = [step]
    if not all(map(str.isascii, map(str, (performing_physician, *asked.values(), *keys.values())))):
        result.SpecificCharacterSet = "ISO_IR 192"
    return result


def _put(dataset: Dataset, keyword: str, value: Any) -> None:
    """Keys may hold what their VR forbids, such as wildcards in a CS: pydicom is not to warn of it."""
    from pydicom import DataElement, config
    from pydicom.datadict import dictionary_VR, tag_for_keyword

    tag = tag_for_keyword(keyword)
    if tag is None:
        raise ValueError(f"{keyword!r} is no keyword of the data dictionary")
    dataset[tag] = DataElement(tag, dictionary_VR(tag), value, validation_mode=config.IGNORE)


def _range(date: Day | None) -> str:
    match date:
        case None:
            return ""
        case str():
            return date
        case (None, None):
            return ""
        case (first, last):
            return f"{_day(first)}-{_day(last)}"
        case datetime.date():
            return _day(date)
    raise TypeError(f"{date!r} is no date, no pair of dates and no str")


def _day(date: datetime.date | None) -> str:
    return "" if date is None else f"{date.year:04}{date.month:02}{date.day:02}"


def query(association: Any, wanted: Dataset | None = None, **keys: Any) -> Any:
    """Ask for scheduled procedure steps: the matches, as ``association.c_find`` gives them.

    ``wanted``: an identifier; without one it is made of ``keys``, which are those of ``identifier``. For today's steps
    of one modality: ``query(association, date=datetime.date.today(), station_ae="CT1")``. Iterate by ``for`` or, on
    the asyncio face, ``async for``. Raises as ``c_find`` does.
    """
    return association.c_find(identifier(**keys) if wanted is None else wanted, model="worklist")


def serve_from(
    ae: AE,
    items: Iterable[Dataset] | Callable[[Dataset], Iterable[Dataset]],
    *,
    supported: Collection[int | str] | None = None,
) -> None:
    """Provide a worklist: ``ae`` answers C-FIND for the Modality Worklist SOP class (PS3.4 K.4).

    ``items``: the worklist, one pydicom Dataset for each scheduled step, looked at anew with each query; or a function
    that gets the identifier and returns those that may match (a generator may read them from a database). Matching,
    and what to return of a match, is done here, with a date range and a time range being the ends of one range.
    ``supported``: as for ``dicomnet.services.matching.Query``. Queries come from several threads at once.

    Handlers of the AE that are registered later replace this one; those registered before keep the other SOP classes.
    """

    def find(request: Indication) -> Iterator[Any]:
        return answers(request, items, supported=supported, combined_datetimes=True)

    offer(ae, [ModalityWorklist])
    route(ae, "c_find", [ModalityWorklist], find)
