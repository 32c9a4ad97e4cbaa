"""The states of steps and who may change them (PS3.4 CC.1.1), without I/O: requests in, responses and events out."""

from __future__ import annotations

import datetime
from collections.abc import MutableMapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from dicomnet.dimse.status import Status
from dicomnet.errors import StatusError
from dicomnet.services.providing import merged, require
from dicomnet.services.ups.classes import (
    CANCELED,
    COMPLETED,
    IN_PROGRESS,
    SCHEDULED,
    EventType,
    UnifiedProcedureStepPush,
    UpsStatus,
)

if TYPE_CHECKING:
    from pydicom import Dataset

# Type 1 and type 2 at creation (PS3.4 Table CC.2.5-3); the others that it lists are optional or depend on these.
WITH_VALUE: Final = (
    "InputReadinessState",
    "ProcedureStepLabel",
    "ProcedureStepState",
    "ScheduledProcedureStepPriority",
    "ScheduledProcedureStepStartDateTime",
)
PRESENT: Final = (
    "AdmissionID",
    "AdmittingDiagnosesCodeSequence",
    "AdmittingDiagnosesDescription",
    "CommentsOnTheScheduledProcedureStep",
    "InputInformationSequence",
    "IssuerOfAdmissionIDSequence",
    "PatientBirthDate",
    "PatientName",
    "PatientSex",
    "ProcedureStepProgressInformationSequence",
    "ReferencedRequestSequence",
    "ScheduledProcessingParametersSequence",
    "ScheduledStationClassCodeSequence",
    "ScheduledStationGeographicLocationCodeSequence",
    "ScheduledStationNameCodeSequence",
    "ScheduledWorkitemCodeSequence",
    "UnifiedProcedureStepPerformedProcedureSequence",
    "WorklistLabel",
)
# Of each item of the performed procedure, when the step is COMPLETED.
PERFORMED_WITH_VALUE: Final = (
    "PerformedProcedureStepEndDateTime",
    "PerformedProcedureStepStartDateTime",
    "PerformedStationNameCodeSequence",
    "PerformedWorkitemCodeSequence",
)
PERFORMED_PRESENT: Final = ("OutputInformationSequence",)

# Requested state, then present state: what becomes of a request with the right Transaction UID; None: it is done
# (PS3.4 Table CC.1.1-2).
_CHANGES: Final[dict[str, dict[str, UpsStatus | None]]] = {
    IN_PROGRESS: {
        SCHEDULED: None,
        IN_PROGRESS: UpsStatus.ALREADY_IN_PROGRESS,
        COMPLETED: UpsStatus.MAY_NO_LONGER_BE_UPDATED,
        CANCELED: UpsStatus.MAY_NO_LONGER_BE_UPDATED,
    },
    COMPLETED: {
        SCHEDULED: UpsStatus.NOT_YET_IN_PROGRESS,
        IN_PROGRESS: None,
        COMPLETED: UpsStatus.ALREADY_COMPLETED,
        CANCELED: UpsStatus.MAY_NO_LONGER_BE_UPDATED,
    },
    CANCELED: {
        SCHEDULED: UpsStatus.NOT_YET_IN_PROGRESS,
        IN_PROGRESS: None,
        COMPLETED: UpsStatus.MAY_NO_LONGER_BE_UPDATED,
        CANCELED: UpsStatus.ALREADY_CANCELED,
    },
}
_SET_BY_PROVIDER: Final = ("SOPClassUID", "SOPInstanceUID", "ScheduledProcedureStepModificationDateTime")
_ASSIGNMENT: Final = ("ScheduledStationNameCodeSequence", "ScheduledHumanPerformersSequence")
_CANCEL_REQUEST: Final = (
    "ReasonForCancellation",
    "ProcedureStepDiscontinuationReasonCodeSequence",
    "ContactURI",
    "ContactDisplayName",
)
_UNSPECIFIED: Final = ("110513", "DCM", "Discontinued for unspecified reason")  # PS3.16 CID 9300


@dataclass(frozen=True, slots=True)
class News:
    """An event of one step, for whoever has subscribed to it."""

    step: str
    type: EventType
    information: Dataset


class Machine:
    """Steps by SOP instance UID. Not thread-safe: its user has a lock.

    ``steps``: where they are kept, each as one data set with its Transaction UID. ``strict``: what the standard wants
    of a step must be there at creation and at its end. Each method returns what is to be told to subscribers, and
    raises StatusError for what is refused (or has been done already: the statuses B3xxH).
    """

    def __init__(self, steps: MutableMapping[str, Dataset], *, strict: bool, worklist_label: str) -> None:
        self.steps = steps
        self._strict = strict
        self._worklist_label = worklist_label

    def create(self, uid: str, step: Dataset) -> list[News]:
        """PS3.4 CC.2.5.3."""
        if uid in self.steps:
            raise StatusError(Status.DUPLICATE_SOP_INSTANCE, "this UPS exists")
        if step.get("ProcedureStepState") != SCHEDULED:
            raise StatusError(UpsStatus.NOT_CREATED_AS_SCHEDULED, "a UPS is created in the state SCHEDULED")
        if step.get("TransactionUID"):
            raise StatusError(Status.INVALID_ATTRIBUTE_VALUE, "a new UPS has no Transaction UID")
        if self._strict:
            require(step, WITH_VALUE, PRESENT)
        step.SOPClassUID, step.SOPInstanceUID = UnifiedProcedureStepPush, uid
        step.ScheduledProcedureStepModificationDateTime = now()
        if not step.get("WorklistLabel"):
            step.WorklistLabel = self._worklist_label
        self.steps[uid] = step
        news = [_state_report(uid, step)]
        if any(step.get(keyword) for keyword in _ASSIGNMENT):
            news.append(_assigned(uid, step))
        return news

    def change_state(self, uid: str, request: Dataset) -> list[News]:
        """PS3.4 CC.2.1.3."""
        from pydicom import Dataset

        step = self._step(uid)
        wanted, transaction = request.get("ProcedureStepState"), request.get("TransactionUID")
        present = step.ProcedureStepState
        if wanted == SCHEDULED:
            raise StatusError(UpsStatus.SCHEDULED_BY_CREATION_ALONE, "only N-CREATE makes a UPS SCHEDULED")
        if wanted not in _CHANGES:
            raise StatusError(Status.INVALID_ARGUMENT_VALUE, "ProcedureStepState is no state")
        if not transaction or (present != SCHEDULED and transaction != step.get("TransactionUID")):
            raise _wrong_transaction()
        if (refusal := _CHANGES[wanted][present]) is not None:
            raise StatusError(refusal, f"the UPS is {present}")
        changed = merged(step, Dataset())
        changed.ProcedureStepState, changed.TransactionUID = wanted, transaction
        if self._strict:
            _check_final(changed)
        return self._enter(uid, changed, wanted)

    def request_cancel(self, uid: str, request: Dataset, requesting_ae: str, *, reachable: bool) -> list[News]:
        """PS3.4 CC.2.2.3. ``reachable``: somebody has subscribed, who may be the performer."""
        step = self._step(uid)
        if step.ProcedureStepState == COMPLETED:
            raise StatusError(UpsStatus.CANCEL_OF_COMPLETED, "the UPS is COMPLETED")
        if step.ProcedureStepState == CANCELED:
            raise StatusError(UpsStatus.ALREADY_CANCELED, "the UPS is CANCELED")
        if step.ProcedureStepState == SCHEDULED:
            return self._cancel_scheduled(uid, step, request)
        if not reachable:
            raise StatusError(UpsStatus.PERFORMER_CANNOT_BE_CONTACTED, "nobody has subscribed to this UPS")
        return [
            News(uid, EventType.CANCEL_REQUESTED, _information(request, _CANCEL_REQUEST, RequestingAE=requesting_ae))
        ]

    def set(self, uid: str, changes: Dataset) -> list[News]:
        """PS3.4 CC.2.6.3."""
        step = self._step(uid)
        transaction = changes.get("TransactionUID")
        if step.ProcedureStepState in (COMPLETED, CANCELED):
            raise StatusError(UpsStatus.MAY_NO_LONGER_BE_UPDATED, f"the UPS is {step.ProcedureStepState}")
        if step.ProcedureStepState == SCHEDULED and transaction:
            raise StatusError(UpsStatus.NOT_YET_IN_PROGRESS, "a SCHEDULED UPS has no Transaction UID")
        if step.ProcedureStepState == IN_PROGRESS and transaction != step.get("TransactionUID"):
            raise _wrong_transaction()
        if "ProcedureStepState" in changes:
            scheduled = changes.ProcedureStepState == SCHEDULED
            status = UpsStatus.SCHEDULED_BY_CREATION_ALONE if scheduled else Status.INVALID_ATTRIBUTE_VALUE
            raise StatusError(status, "N-ACTION changes the state, not N-SET")
        for keyword in ("TransactionUID", *_SET_BY_PROVIDER):
            if keyword in changes:
                del changes[keyword]
        changed = merged(step, changes)
        changed.ScheduledProcedureStepModificationDateTime = now()
        self.steps[uid] = changed
        return _news_of_changes(uid, step, changed)

    def _step(self, uid: str) -> Dataset:
        step = self.steps.get(uid)
        if step is None:
            raise StatusError(UpsStatus.NO_SUCH_UPS, "no such UPS")
        return step

    def _enter(self, uid: str, step: Dataset, state: str) -> list[News]:
        step.ProcedureStepState = state
        self.steps[uid] = step
        return [_state_report(uid, step)]

    def _cancel_scheduled(self, uid: str, step: Dataset, request: Dataset) -> list[News]:
        """First IN PROGRESS, then CANCELED, with what the final state needs."""
        from pydicom import Dataset

        step = merged(step, Dataset())
        news = self._enter(uid, step, IN_PROGRESS)
        step = merged(step, Dataset())
        progress = (step.get("ProcedureStepProgressInformationSequence") or [Dataset()])[0]
        progress.ProcedureStepCancellationDateTime = now()
        for keyword in ("ReasonForCancellation", "ProcedureStepDiscontinuationReasonCodeSequence"):
            if request.get(keyword):
                progress[keyword] = request[keyword]
        if not progress.get("ProcedureStepDiscontinuationReasonCodeSequence"):
            progress.ProcedureStepDiscontinuationReasonCodeSequence = [code(_UNSPECIFIED)]
        step.ProcedureStepProgressInformationSequence = [progress]
        return [*news, *self._enter(uid, step, CANCELED)]


# --- final states ---------------------------------------------------------------------------------------------------


def _check_final(step: Dataset) -> None:
    """What a step needs to be COMPLETED or CANCELED (PS3.4 CC.2.5.1.1). Raises StatusError C304H."""
    try:
        if step.ProcedureStepState == COMPLETED:
            require(step, ["UnifiedProcedureStepPerformedProcedureSequence"])
            for item in step.UnifiedProcedureStepPerformedProcedureSequence:
                require(item, PERFORMED_WITH_VALUE, PERFORMED_PRESENT)
        elif step.ProcedureStepState == CANCELED:
            require(step, ["ProcedureStepProgressInformationSequence"])
            for item in step.ProcedureStepProgressInformationSequence:
                require(item, ["ProcedureStepCancellationDateTime", "ProcedureStepDiscontinuationReasonCodeSequence"])
    except StatusError as error:
        raise StatusError(UpsStatus.FINAL_STATE_REQUIREMENTS_NOT_MET, error.comment) from error


def _wrong_transaction() -> StatusError:
    return StatusError(UpsStatus.WRONG_TRANSACTION_UID, "the Transaction UID is missing or not the right one")


# --- events ---------------------------------------------------------------------------------------------------------


def state_information(step: Dataset) -> Dataset:
    """Of a UPS State Report (PS3.4 Table CC.2.4-1)."""
    progress = (step.get("ProcedureStepProgressInformationSequence") or [step])[0]
    told = ("ReasonForCancellation", "ProcedureStepDiscontinuationReasonCodeSequence")
    return _information(
        progress,
        told if step.ProcedureStepState == CANCELED else (),
        ProcedureStepState=step.ProcedureStepState,
        InputReadinessState=step.get("InputReadinessState", ""),
        **_character_set(step),
    )


def _state_report(uid: str, step: Dataset) -> News:
    return News(uid, EventType.STATE_REPORT, state_information(step))


def _assigned(uid: str, step: Dataset) -> News:
    """PS3.4 Table CC.2.4-1: the present station; of the performers, code and organisation."""
    from pydicom import Dataset

    information = _information(step, ["ScheduledStationNameCodeSequence"], **_character_set(step))
    performers = []
    for performer in step.get("ScheduledHumanPerformersSequence") or []:
        performers.append(Dataset())
        for keyword in ("HumanPerformerCodeSequence", "HumanPerformerOrganization"):
            if keyword in performer:
                performers[-1][keyword] = performer[keyword]
    information.ScheduledHumanPerformersSequence = performers
    return News(uid, EventType.ASSIGNED, information)


def _news_of_changes(uid: str, before: Dataset, after: Dataset) -> list[News]:
    """PS3.4 CC.2.4.3: readiness, progress and assignment are told of when they change."""
    news = []
    if before.get("InputReadinessState") != after.get("InputReadinessState"):
        news.append(_state_report(uid, after))
    progress = "ProcedureStepProgressInformationSequence"
    if before.get(progress) != after.get(progress):
        news.append(News(uid, EventType.PROGRESS_REPORT, _information(after, [progress], **_character_set(after))))
    if any(before.get(keyword) != after.get(keyword) for keyword in _ASSIGNMENT):
        news.append(_assigned(uid, after))
    return news


def _information(source: Dataset, keywords: Any, **values: Any) -> Dataset:
    """A data set with these elements of ``source``, as far as it has them, and these values."""
    from pydicom import Dataset

    result = Dataset()
    for keyword in keywords:
        if keyword in source:
            result[keyword] = source[keyword]
    for keyword, value in values.items():
        setattr(result, keyword, value)
    return merged(result, Dataset())


def _character_set(step: Dataset) -> dict[str, Any]:
    return {"SpecificCharacterSet": step.SpecificCharacterSet} if "SpecificCharacterSet" in step else {}


def code(triple: tuple[str, str, str]) -> Dataset:
    """A coded entry: value, scheme designator, meaning (PS3.3 Table 8.8-1)."""
    from pydicom import Dataset

    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = triple
    return item


def now() -> str:
    return f"{datetime.datetime.now():%Y%m%d%H%M%S.%f}"
