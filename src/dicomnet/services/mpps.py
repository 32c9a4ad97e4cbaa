"""Modality performed procedure step (PS3.4 F.7): tell what is being done and what was, and keep what modalities tell.

A step is created IN PROGRESS and ends COMPLETED or DISCONTINUED; after that nothing about it changes any more.
"""

from __future__ import annotations

import datetime
import threading
from collections.abc import Callable, MutableMapping
from typing import TYPE_CHECKING, Any, Final

from dicomnet.dimse.messages import Response
from dicomnet.dimse.status import Status
from dicomnet.errors import StatusError
from dicomnet.services.faces import Scope, answered
from dicomnet.services.providing import attributes, merged, offer, require, route

if TYPE_CHECKING:
    from pydicom import Dataset

    from dicomnet.ae import AE
    from dicomnet.dimse.provider import Indication

ModalityPerformedProcedureStep: Final = "1.2.840.10008.3.1.2.3.3"  # SOP class UID (PS3.4 F.7.3)

IN_PROGRESS: Final = "IN PROGRESS"
COMPLETED: Final = "COMPLETED"
DISCONTINUED: Final = "DISCONTINUED"

# Type 1 and type 2 at creation (PS3.4 Table F.7.2-1).
_WITH_VALUE: Final = (
    "Modality",
    "PerformedProcedureStepID",
    "PerformedProcedureStepStartDate",
    "PerformedProcedureStepStartTime",
    "PerformedProcedureStepStatus",
    "PerformedStationAETitle",
    "ScheduledStepAttributesSequence",
)
_PRESENT: Final = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "ReferencedPatientSequence",
    "PerformedStationName",
    "PerformedLocation",
    "PerformedProcedureStepDescription",
    "PerformedProcedureTypeDescription",
    "ProcedureCodeSequence",
    "PerformedProcedureStepEndDate",
    "PerformedProcedureStepEndTime",
    "StudyID",
    "PerformedProtocolCodeSequence",
    "PerformedSeriesSequence",
)
_SCHEDULED_WITH_VALUE: Final = ("StudyInstanceUID",)
_SCHEDULED_PRESENT: Final = (
    "ReferencedStudySequence",
    "AccessionNumber",
    "RequestedProcedureID",
    "RequestedProcedureDescription",
    "ScheduledProcedureStepID",
    "ScheduledProcedureStepDescription",
    "ScheduledProtocolCodeSequence",
)
_SERIES_WITH_VALUE: Final = ("ProtocolName", "SeriesInstanceUID")
_SERIES_PRESENT: Final = (
    "PerformingPhysicianName",
    "OperatorsName",
    "SeriesDescription",
    "RetrieveAETitle",
    "ReferencedImageSequence",
    "ReferencedNonImageCompositeSOPInstanceSequence",
)
# What an N-SET may not change (PS3.4 Table F.7.2-1).
_CREATED_ONCE: Final = (
    "PatientName",
    "PatientID",
    "IssuerOfPatientID",
    "PatientBirthDate",
    "PatientSex",
    "ReferencedPatientSequence",
    "ScheduledStepAttributesSequence",
    "PerformedProcedureStepID",
    "PerformedStationAETitle",
    "PerformedStationName",
    "PerformedLocation",
    "PerformedProcedureStepStartDate",
    "PerformedProcedureStepStartTime",
    "Modality",
    "StudyID",
)


# --- the user -------------------------------------------------------------------------------------------------------


def from_worklist(item: Dataset, *, station_ae: str, step_id: str = "1", station_name: str = "") -> Dataset:
    """The attributes to create a step with, for a step that a worklist has scheduled (PS3.4 Table F.7.2-1).

    ``item``: a match of a worklist query. ``station_ae``: this modality. The step starts now. What is not known is
    empty; add to it as you like.
    """
    from pydicom import Dataset

    scheduled = item.ScheduledProcedureStepSequence[0] if item.get("ScheduledProcedureStepSequence") else Dataset()
    request, step = Dataset(), Dataset()
    for keyword in (*_SCHEDULED_WITH_VALUE, *_SCHEDULED_PRESENT):
        setattr(request, keyword, item.get(keyword, scheduled.get(keyword)))
    for keyword in (*_WITH_VALUE, *_PRESENT):
        setattr(step, keyword, item.get(keyword))
    if "SpecificCharacterSet" in item:
        step.SpecificCharacterSet = item.SpecificCharacterSet
    now = datetime.datetime.now()
    step.ScheduledStepAttributesSequence = [request]
    step.Modality = scheduled.get("Modality", "")
    step.PerformedProcedureStepDescription = scheduled.get("ScheduledProcedureStepDescription")
    step.PerformedProtocolCodeSequence = scheduled.get("ScheduledProtocolCodeSequence") or []
    step.ProcedureCodeSequence = item.get("RequestedProcedureCodeSequence") or []
    step.PerformedProcedureStepID = step_id
    step.PerformedProcedureStepStatus = IN_PROGRESS
    step.PerformedStationAETitle, step.PerformedStationName = station_ae, station_name
    step.PerformedProcedureStepStartDate, step.PerformedProcedureStepStartTime = _date(now), _time(now)
    return step


class Step(Scope):
    """A step that is being performed; made by ``performed``.

    ``sop_instance_uid``: the step's. ``final``: a pydicom Dataset with what goes out at the end; fill in what is to be
    told, such as the protocol codes. ``series`` is the Performed Series Sequence that ``add`` makes.
    """

    def __init__(self, association: Any, step: Dataset, sop_instance_uid: str) -> None:
        from pydicom import Dataset

        super().__init__(association)
        self.sop_instance_uid = sop_instance_uid
        self.final = Dataset()
        if "SpecificCharacterSet" in step:
            self.final.SpecificCharacterSet = step.SpecificCharacterSet
        self.series: list[Dataset] = []
        self._step = step
        self._discontinued: tuple[str, str, str] | bool = False

    def add(self, instance: Dataset, *, protocol: str = "", retrieve_ae: str = "") -> None:
        """An instance was acquired: list it in its series.

        ``instance``: its pydicom Dataset, pixels are not needed. ``protocol``: of the series; without one that of the
        instance, or its series description. ``retrieve_ae``: AE title from where it can be had.
        """
        from pydicom import Dataset

        item = next((item for item in self.series if item.SeriesInstanceUID == instance.SeriesInstanceUID), None)
        if item is None:
            item = Dataset()
            for keyword in (*_SERIES_WITH_VALUE, *_SERIES_PRESENT):
                setattr(item, keyword, instance.get(keyword))
            item.ReferencedImageSequence = []
            item.ReferencedNonImageCompositeSOPInstanceSequence = []
            item.RetrieveAETitle = retrieve_ae
            item.ProtocolName = (
                protocol or item.ProtocolName or item.SeriesDescription or instance.get("Modality") or "unknown"
            )
            self.series.append(item)
        reference = Dataset()
        reference.ReferencedSOPClassUID = instance.SOPClassUID
        reference.ReferencedSOPInstanceUID = instance.SOPInstanceUID
        if "Rows" in instance:
            item.ReferencedImageSequence.append(reference)
        else:
            item.ReferencedNonImageCompositeSOPInstanceSequence.append(reference)

    def update(self, changes: Dataset) -> Any:
        """Tell of changes while the step goes on: the Response to an N-SET (on the asyncio face, awaitable)."""
        return self._association.n_set(ModalityPerformedProcedureStep, self.sop_instance_uid, changes)

    def discontinue(self, code: tuple[str, str, str] | None = None) -> None:
        """The step will end DISCONTINUED. ``code``: why, as (value, scheme designator, meaning) of PS3.16 CID 9300."""
        self._discontinued = code or True

    async def _enter(self) -> None:
        response = await answered(
            self._association.n_create(
                ModalityPerformedProcedureStep, self._step, sop_instance_uid=self.sop_instance_uid
            )
        )
        response.raise_for_status()

    async def _leave(self, error: BaseException | None) -> None:
        changes = self._ended(error is not None)
        try:
            response = await answered(self.update(changes))
            response.raise_for_status()
        except Exception as failure:
            if error is None:
                raise
            error.add_note(f"nor could the performed procedure step be discontinued: {failure}")

    def _ended(self, failed: bool) -> Dataset:
        from pydicom import Dataset

        final, now = self.final, datetime.datetime.now()
        final.PerformedProcedureStepStatus = DISCONTINUED if failed or self._discontinued else COMPLETED
        if not final.get("PerformedProcedureStepEndDate"):
            final.PerformedProcedureStepEndDate, final.PerformedProcedureStepEndTime = _date(now), _time(now)
        if "PerformedSeriesSequence" not in final:
            final.PerformedSeriesSequence = self.series or [_no_series(self._step)]
        if isinstance(self._discontinued, tuple):
            code = Dataset()
            code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = self._discontinued
            final.PerformedProcedureStepDiscontinuationReasonCodeSequence = [code]
        return final


def performed(association: Any, step: Dataset, *, sop_instance_uid: str = "") -> Step:
    """Perform a procedure step: ``with performed(association, step) as it: …`` (``async with`` on the asyncio face).

    The step is created (N-CREATE) IN PROGRESS, with the attributes of ``step`` (see ``from_worklist``) and a new UID or
    ``sop_instance_uid``. Leaving the block tells that it is COMPLETED, leaving it by an exception that it is
    DISCONTINUED (N-SET), with the series that were added and the present time (PS3.4 F.7.2.2).

    Entering and leaving raise StatusError if the provider refuses, and what ``association.n_create`` raises. When the
    block was left by an exception, that one is raised, with a note if telling of it failed.
    """
    from pydicom.uid import generate_uid

    return Step(association, step, sop_instance_uid or generate_uid(prefix=None))


def _no_series(step: Dataset) -> Dataset:
    """A performed step has a series, even if nothing was acquired (PS3.4 Table F.7.2-1, final state)."""
    from pydicom import Dataset
    from pydicom.uid import generate_uid

    item = Dataset()
    for keyword in _SERIES_PRESENT:
        setattr(item, keyword, None)
    item.SeriesInstanceUID = generate_uid(prefix=None)
    item.ProtocolName = step.get("PerformedProcedureStepDescription") or "none"
    return item


def _date(moment: datetime.datetime) -> str:
    return f"{moment:%Y%m%d}"


def _time(moment: datetime.datetime) -> str:
    return f"{moment:%H%M%S}"


# --- the provider ---------------------------------------------------------------------------------------------------


def provide(
    ae: AE,
    steps: MutableMapping[str, Dataset] | None = None,
    *,
    changed: Callable[[Dataset], None] | None = None,
    strict: bool = True,
) -> MutableMapping[str, Dataset]:
    """Keep the steps that modalities perform: ``ae`` answers N-CREATE and N-SET of the MPPS SOP class (PS3.4 F.7.2).

    ``steps``: SOP instance UID → the step's data set as it is now (None: a dict), which is returned. ``changed`` is
    called with each new state of a step before it is kept; it may refuse by StatusError. ``strict``: attributes that
    the standard wants must be there, at creation and at the end, and those that it does not let change are refused.
    Otherwise only the states are watched over, and such changes are left out. Requests are handled one at a time.

    Answers: 0111H, the UID exists; 0112H, it does not; 0106H, a state or change that is not allowed; 0120H and 0121H,
    an attribute or value is missing; 0110H with Error ID A710H, the step is no longer in progress.
    """
    provider = _Provider({} if steps is None else steps, changed, strict)
    offer(ae, [ModalityPerformedProcedureStep])
    route(ae, "n_create", [ModalityPerformedProcedureStep], provider.create)
    route(ae, "n_set", [ModalityPerformedProcedureStep], provider.set)
    return provider.steps


class _Provider:
    def __init__(
        self, steps: MutableMapping[str, Dataset], changed: Callable[[Dataset], None] | None, strict: bool
    ) -> None:
        self.steps = steps
        self._changed = changed
        self._strict = strict
        self._lock = threading.Lock()

    def create(self, request: Indication) -> Response:
        """PS3.4 F.7.2.1.3."""
        from pydicom.uid import generate_uid

        step = attributes(request)
        uid = request.sop_instance_uid or generate_uid(prefix=None)
        _check_created(step, self._strict)
        step.SOPClassUID, step.SOPInstanceUID = ModalityPerformedProcedureStep, uid
        with self._lock:
            if uid in self.steps:
                return Response(Status.DUPLICATE_SOP_INSTANCE)
            self._keep(step)
        return Response(Status.SUCCESS, sop_instance_uid=uid)

    def set(self, request: Indication) -> Response:
        """PS3.4 F.7.2.2.3, F.7.2.2.4."""
        changes = attributes(request)
        with self._lock:
            step = self.steps.get(request.sop_instance_uid)
            if step is None:
                return Response(Status.NO_SUCH_SOP_INSTANCE)
            if step.PerformedProcedureStepStatus != IN_PROGRESS:
                comment = "Performed Procedure Step Object may no longer be updated"
                return Response(Status.PROCESSING_FAILURE, error_comment=comment, error_id=0xA710)
            self._drop_what_may_not_change(step, changes)
            state = changes.get("PerformedProcedureStepStatus", IN_PROGRESS)
            if state not in (IN_PROGRESS, COMPLETED, DISCONTINUED):
                raise StatusError(Status.INVALID_ATTRIBUTE_VALUE, "PerformedProcedureStepStatus has another value")
            after = merged(step, changes)
            if state != IN_PROGRESS and self._strict:
                _check_final(after)
            self._keep(after)
        return Response(Status.SUCCESS)

    def _drop_what_may_not_change(self, step: Dataset, changes: Dataset) -> None:
        for keyword in (*_CREATED_ONCE, "SOPClassUID", "SOPInstanceUID"):
            if keyword in changes:
                if self._strict and changes[keyword].value != step.get(keyword):
                    raise StatusError(Status.INVALID_ATTRIBUTE_VALUE, f"{keyword} may not be changed")
                del changes[keyword]

    def _keep(self, step: Dataset) -> None:
        if self._changed is not None:
            self._changed(step)
        self.steps[step.SOPInstanceUID] = step


def _check_created(step: Dataset, strict: bool) -> None:
    if strict:
        require(step, _WITH_VALUE, _PRESENT)
        for item in step.ScheduledStepAttributesSequence:
            require(item, _SCHEDULED_WITH_VALUE, _SCHEDULED_PRESENT, "ScheduledStepAttributesSequence: ")
    else:
        require(step, ["PerformedProcedureStepStatus"])
    if step.PerformedProcedureStepStatus != IN_PROGRESS:
        raise StatusError(Status.INVALID_ATTRIBUTE_VALUE, "PerformedProcedureStepStatus is not IN PROGRESS")


def _check_final(step: Dataset) -> None:
    """PS3.4 Table F.7.2-1, final state."""
    require(step, ["PerformedProcedureStepEndDate", "PerformedProcedureStepEndTime", "PerformedSeriesSequence"])
    for item in step.PerformedSeriesSequence:
        require(item, _SERIES_WITH_VALUE, _SERIES_PRESENT, "PerformedSeriesSequence: ")
