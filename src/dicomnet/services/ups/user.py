"""The users of unified procedure steps: who pushes them, who performs them, who watches (PS3.4 CC.2)."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from dicomnet.dimse.messages import Response
from dicomnet.dimse.status import Status
from dicomnet.services.faces import Scope, answered, drive
from dicomnet.services.providing import decoded, offer, route
from dicomnet.services.ups.classes import (
    ALL,
    CANCELED,
    COMPLETED,
    FILTERED,
    IN_PROGRESS,
    SCHEDULED,
    Action,
    EventType,
    UnifiedProcedureStepEvent,
    UnifiedProcedureStepPull,
    UnifiedProcedureStepPush,
    UnifiedProcedureStepQuery,
    UnifiedProcedureStepWatch,
)
from dicomnet.services.ups.machine import PRESENT, WITH_VALUE, code, now

if TYPE_CHECKING:
    from pydicom import Dataset

    from dicomnet.ae import AE
    from dicomnet.dimse.provider import Indication

Code = tuple[str, str, str]  # value, coding scheme designator, meaning

_RETURNED: Final = (*WITH_VALUE, *PRESENT, "PatientID", "StudyInstanceUID", "SOPClassUID", "SOPInstanceUID")
_UNKNOWN: Final = ("UNKNOWN", "99DICOMNET", "unknown")
_UNSPECIFIED: Final = ("110513", "DCM", "Discontinued for unspecified reason")  # PS3.16 CID 9300
_ABORTED: Final = ("110501", "DCM", "Equipment failure")


def _context(association: Any, *candidates: str) -> str:
    """The first of these SOP classes that has an accepted context, since any may carry the request."""
    accepted = {context.abstract_syntax for context in association.accepted}
    return next((uid for uid in candidates if uid in accepted), candidates[0])


# --- push -----------------------------------------------------------------------------------------------------------


def scheduled(
    label: str,
    *,
    start: datetime.datetime | str = "",
    priority: str = "MEDIUM",
    workitem: Code | None = None,
    station: Code | None = None,
    readiness: str = "READY",
    **attributes: Any,
) -> Dataset:
    """The attributes of a new step (PS3.4 Table CC.2.5-3); what is not given is empty.

    ``label``: what is to be done, for people. ``start``: without one, now. ``priority``: HIGH, MEDIUM or LOW.
    ``workitem``, ``station``: codes as (value, scheme designator, meaning). ``readiness``: Input Readiness State.
    ``attributes``: others, by keyword (``PatientName="Doe"``).
    """
    from pydicom import Dataset

    step = Dataset()
    for keyword in PRESENT:
        setattr(step, keyword, None)
    step.ProcedureStepLabel, step.ProcedureStepState = label, SCHEDULED
    step.ScheduledProcedureStepPriority, step.InputReadinessState = priority, readiness
    start = start or datetime.datetime.now()
    step.ScheduledProcedureStepStartDateTime = start if isinstance(start, str) else f"{start:%Y%m%d%H%M%S%z}"
    step.ScheduledWorkitemCodeSequence = [code(workitem)] if workitem else []
    step.ScheduledStationNameCodeSequence = [code(station)] if station else []
    for keyword, value in attributes.items():
        setattr(step, keyword, value)
    if not all(str(value).isascii() for value in (label, *attributes.values())) and "SpecificCharacterSet" not in step:
        step.SpecificCharacterSet = "ISO_IR 192"
    return step


def push(association: Any, step: Dataset, *, sop_instance_uid: str = "") -> Any:
    """Put a step on the provider's worklist (N-CREATE, PS3.4 CC.2.5): its SOP instance UID.

    Needs a context for UPS Push. On the asyncio face awaitable. Raises StatusError if the provider refuses, and what
    ``association.n_create`` raises; so do the other functions of this module.
    """
    return drive(association, _push(association, step, sop_instance_uid))


async def _push(association: Any, step: Dataset, uid: str) -> str:
    from pydicom.uid import generate_uid

    response: Response = await answered(
        association.n_create(UnifiedProcedureStepPush, step, sop_instance_uid=uid or generate_uid(prefix=None))
    )
    return response.raise_for_status().sop_instance_uid or uid


def request_cancel(
    association: Any, uid: str, *, reason: str = "", reason_code: Code | None = None, contact: str = "", uri: str = ""
) -> Any:
    """Ask that a step be canceled by whoever performs it (N-ACTION, PS3.4 CC.2.2): the Response.

    It is canceled at once if nobody performs it yet. ``contact``: name of somebody to be asked; ``uri``: how. Needs a
    context for UPS Push or Watch.
    """
    from pydicom import Dataset

    information = Dataset()
    if reason:
        information.ReasonForCancellation = reason
    if reason_code:
        information.ProcedureStepDiscontinuationReasonCodeSequence = [code(reason_code)]
    if contact:
        information.ContactDisplayName = contact
    if uri:
        information.ContactURI = uri
    context = _context(association, UnifiedProcedureStepPush, UnifiedProcedureStepWatch)
    return drive(association, _action(association, uid, Action.REQUEST_CANCEL, information, context))


async def _action(association: Any, uid: str, action: Action, information: Dataset, context: str) -> Response:
    response: Response = await answered(
        association.n_action(UnifiedProcedureStepPush, uid, action, information or None, context=context)
    )
    return response.raise_for_status()


# --- pull -----------------------------------------------------------------------------------------------------------


def find(association: Any, identifier: Dataset | None = None, **keys: Any) -> Any:
    """Query for steps (PS3.4 CC.2.8): the matches, as ``association.c_find`` gives them.

    ``identifier``: what to match and to return; without one it asks for the usual attributes, and matches ``keys``
    (``ProcedureStepState="SCHEDULED"``). Needs a context for UPS Pull, Watch or Query.
    """
    from pydicom import Dataset

    if identifier is None:
        identifier = Dataset()
        for keyword in dict.fromkeys((*_RETURNED, *keys)):
            setattr(identifier, keyword, keys.get(keyword))
        if not all(str(value).isascii() for value in keys.values()):
            identifier.SpecificCharacterSet = "ISO_IR 192"
    classes = UnifiedProcedureStepPull, UnifiedProcedureStepQuery, UnifiedProcedureStepWatch
    return association.c_find(identifier, model=_context(association, *classes))


def get(association: Any, uid: str, attributes: Iterable[int | str] = ()) -> Any:
    """The attributes of a step (N-GET, PS3.4 CC.2.7) as a pydicom Dataset: these, or all. Any UPS context will do."""
    return drive(association, _get(association, uid, attributes))


async def _get(association: Any, uid: str, attributes: Iterable[int | str]) -> Dataset:
    from pydicom import Dataset

    classes = UnifiedProcedureStepPull, UnifiedProcedureStepWatch, UnifiedProcedureStepPush
    context = _context(association, *classes)
    response = await answered(association.n_get(UnifiedProcedureStepPush, uid, attributes, context=context))
    response.raise_for_status()
    return Dataset() if response.dataset is None else response.dataset.decode()


class Work(Scope):
    """A step that this program performs; made by ``claimed``.

    ``uid``, ``transaction_uid``: keep them to go on after a crash. ``step``: the step as it was before.
    ``performed``: the item of the performed procedure that goes out at the end; fill in what is to be told.
    """

    def __init__(self, association: Any, uid: str, transaction_uid: str, station: Code, workitem: Code | None) -> None:
        from pydicom import Dataset

        super().__init__(association)
        self.uid = uid
        self.transaction_uid = transaction_uid
        self.step = Dataset()
        self.performed = Dataset()
        self.performed.PerformedStationNameCodeSequence = [code(station)]
        if workitem:
            self.performed.PerformedWorkitemCodeSequence = [code(workitem)]
        self.performed.OutputInformationSequence = []
        self._progress = Dataset()
        self._cancel: tuple[Code, str] | None = None

    def update(self, changes: Dataset) -> Any:
        """Change attributes of the step (N-SET, PS3.4 CC.2.6). On the asyncio face awaitable."""
        return drive(self._association, self._set(changes))

    def progress(self, percent: float, description: str = "") -> Any:
        """Tell how far the work is; those who watch hear of it. On the asyncio face awaitable."""
        from pydicom import Dataset

        self._progress.ProcedureStepProgress = f"{percent:.4g}"
        self._progress.ProcedureStepProgressDescription = description
        changes = Dataset()
        if not description.isascii():
            changes.SpecificCharacterSet = "ISO_IR 192"
        changes.ProcedureStepProgressInformationSequence = [self._progress]
        return self.update(changes)

    def add_output(self, instance: Dataset, *, retrieve_ae: str = "") -> None:
        """An instance that came out of the work. ``retrieve_ae``: AE title from where it can be had."""
        from pydicom import Dataset

        outputs = self.performed.OutputInformationSequence
        item = next((item for item in outputs if item.SeriesInstanceUID == instance.SeriesInstanceUID), None)
        if item is None:
            item = Dataset()
            item.TypeOfInstances = "DICOM"
            item.StudyInstanceUID, item.SeriesInstanceUID = instance.StudyInstanceUID, instance.SeriesInstanceUID
            item.ReferencedSOPSequence = []
            if retrieve_ae:
                retrieval = Dataset()
                retrieval.RetrieveAETitle = retrieve_ae
                item.DICOMRetrievalSequence = [retrieval]
            outputs.append(item)
        reference = Dataset()
        reference.ReferencedSOPClassUID = instance.SOPClassUID
        reference.ReferencedSOPInstanceUID = instance.SOPInstanceUID
        item.ReferencedSOPSequence.append(reference)

    def cancel(self, reason_code: Code = _UNSPECIFIED, reason: str = "") -> None:
        """The step will end CANCELED (PS3.4 CC.2.1.2)."""
        self._cancel = reason_code, reason

    async def _enter(self) -> None:
        self.step = await _get(self._association, self.uid, ())
        await self._change_state(IN_PROGRESS)
        if "PerformedWorkitemCodeSequence" not in self.performed:
            workitems = self.step.get("ScheduledWorkitemCodeSequence") or [code(_UNKNOWN)]
            self.performed.PerformedWorkitemCodeSequence = workitems[:1]
        self.performed.PerformedProcedureStepStartDateTime = now()

    async def _leave(self, error: BaseException | None) -> None:
        if error is None and self._cancel is None:
            await self._complete()
            return
        reason_code, reason = self._cancel or (_ABORTED, f"{type(error).__name__}: {error}")
        try:
            await self._end_canceled(reason_code, reason)
        except Exception as failure:
            if error is None:
                raise
            error.add_note(f"nor could the unified procedure step be canceled: {failure}")

    async def _complete(self) -> None:
        from pydicom import Dataset

        changes = Dataset()
        if "SpecificCharacterSet" in self.step:
            changes.SpecificCharacterSet = self.step.SpecificCharacterSet
        self.performed.PerformedProcedureStepEndDateTime = now()
        changes.UnifiedProcedureStepPerformedProcedureSequence = [self.performed]
        await self._set(changes)
        await self._change_state(COMPLETED)

    async def _end_canceled(self, reason_code: Code, reason: str) -> None:
        from pydicom import Dataset

        changes = Dataset()
        self._progress.ProcedureStepCancellationDateTime = now()
        self._progress.ProcedureStepDiscontinuationReasonCodeSequence = [code(reason_code)]
        if reason:
            self._progress.ReasonForCancellation = reason
            changes.SpecificCharacterSet = "ISO_IR 192"
        changes.ProcedureStepProgressInformationSequence = [self._progress]
        await self._set(changes)
        await self._change_state(CANCELED)

    async def _set(self, changes: Dataset) -> Response:
        changes.TransactionUID = self.transaction_uid
        response: Response = await answered(
            self._association.n_set(
                UnifiedProcedureStepPush,
                self.uid,
                changes,
                context=_context(self._association, UnifiedProcedureStepPull),
            )
        )
        return response.raise_for_status()

    async def _change_state(self, state: str) -> None:
        from pydicom import Dataset

        information = Dataset()
        information.ProcedureStepState, information.TransactionUID = state, self.transaction_uid
        await _action(self._association, self.uid, Action.CHANGE_STATE, information, UnifiedProcedureStepPull)


def claimed(
    association: Any,
    uid: str,
    *,
    station: Code = _UNKNOWN,
    workitem: Code | None = None,
    transaction_uid: str = "",
) -> Work:
    """Claim a step and perform it: ``with claimed(association, uid) as work: …`` (``async with`` on the asyncio face).

    Entering makes the step IN PROGRESS under a new Transaction UID (or ``transaction_uid``); nobody else can change it.
    Leaving the block sends what was performed and makes it COMPLETED; leaving it by an exception makes it CANCELED,
    with the exception as the reason (PS3.4 CC.2.1). ``station``, ``workitem``: codes of who has performed and what, as
    (value, scheme designator, meaning); without a workitem it is what was scheduled. Needs a context for UPS Pull.

    Entering and leaving raise StatusError if the provider refuses (C302H, C301H: somebody else has claimed it), and
    what ends the association.
    """
    from pydicom.uid import generate_uid

    return Work(association, uid, transaction_uid or generate_uid(prefix=None), station, workitem)


# --- watch ----------------------------------------------------------------------------------------------------------


def subscribe(
    association: Any,
    receiving_ae: str,
    uid: str = ALL,
    *,
    deletion_lock: bool = False,
    matching: Dataset | None = None,
) -> Any:
    """Have events of a step sent to an AE, or those of all steps (N-ACTION, PS3.4 CC.2.3): the Response.

    ``receiving_ae``: the AE title, mostly one's own. ``deletion_lock``: the steps are to be kept when they have ended,
    until the AE unsubscribes. ``matching``: of all steps only those that match these keys. Needs a context for UPS
    Watch; add one for UPS Event to hear of events on this association.
    """
    from pydicom import Dataset

    information = Dataset() if matching is None else matching[:]
    information.ReceivingAE, information.DeletionLock = receiving_ae, "TRUE" if deletion_lock else "FALSE"
    target = uid if matching is None else FILTERED
    return drive(association, _action(association, target, Action.SUBSCRIBE, information, UnifiedProcedureStepWatch))


def unsubscribe(association: Any, receiving_ae: str, uid: str = ALL) -> Any:
    """No more events of a step, or of any, are sent to that AE (N-ACTION, PS3.4 CC.2.3): the Response."""
    return drive(association, _unsubscribe(association, receiving_ae, uid, Action.UNSUBSCRIBE))


def suspend(association: Any, receiving_ae: str) -> Any:
    """No events of new steps are sent to that AE, those of present ones still are (N-ACTION, PS3.4 CC.2.3)."""
    return drive(association, _unsubscribe(association, receiving_ae, ALL, Action.SUSPEND_GLOBAL_SUBSCRIPTION))


async def _unsubscribe(association: Any, receiving_ae: str, uid: str, action: Action) -> Response:
    from pydicom import Dataset

    information = Dataset()
    information.ReceivingAE = receiving_ae
    return await _action(association, uid, action, information, UnifiedProcedureStepWatch)


# --- event ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Event:
    """What a provider tells of a step (PS3.4 Table CC.2.4-1). ``uid``: the step; ``information``: a pydicom Dataset."""

    uid: str
    type: EventType
    information: Dataset


def take_events(ae: AE, callback: Callable[[Event], None]) -> None:
    """Hear of events: ``callback`` gets those that come to ``ae`` (N-EVENT-REPORT, PS3.4 CC.2.4.2).

    Serve this AE, for the associations that a provider opens; or give it to ``associate(..., ae=ae)`` with a context
    for UPS Event, and listen (``association.listen``). The callback may run in several threads at once.
    """

    def take(request: Indication) -> Response:
        try:
            event_type = EventType(request.event_type or 0)
        except ValueError:
            return Response(Status.NO_SUCH_EVENT_TYPE)
        information = decoded(request, Status.INVALID_ARGUMENT_VALUE)
        callback(Event(request.sop_instance_uid, event_type, information))
        return Response(Status.SUCCESS)

    offer(ae, [UnifiedProcedureStepEvent], roles={UnifiedProcedureStepEvent: (True, True)})
    route(ae, "n_event_report", [UnifiedProcedureStepPush], take)
