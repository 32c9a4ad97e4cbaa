"""The states of unified procedure steps, cell by cell (PS3.4 CC.1.1), and who hears of what (PS3.4 CC.2.3, CC.2.4)."""

from __future__ import annotations

from typing import Any

import pytest
from pydicom import Dataset

import dicomnet
from dicomnet.services.ups import ALL, FILTERED, EventType, UpsStatus, scheduled
from dicomnet.services.ups.classes import Action
from dicomnet.services.ups.machine import Machine, code
from dicomnet.services.ups.subscriptions import Subscriptions
from tests.services.conftest import dataset, status_of

STATES = ("SCHEDULED", "IN PROGRESS", "COMPLETED", "CANCELED")
MINE, OTHER = "1.2.77", "1.2.78"
CODE = ("A", "99TEST", "a")


def performed() -> Dataset:
    return dataset(
        PerformedStationNameCodeSequence=[code(CODE)],
        PerformedWorkitemCodeSequence=[code(CODE)],
        PerformedProcedureStepStartDateTime="2024",
        PerformedProcedureStepEndDateTime="2024",
        OutputInformationSequence=[],
    )


def cancellation() -> Dataset:
    return dataset(
        ProcedureStepCancellationDateTime="2024", ProcedureStepDiscontinuationReasonCodeSequence=[code(CODE)]
    )


def machine(**options: Any) -> Machine:
    return Machine({}, **{"strict": True, "worklist_label": "TODAY", **options})


def in_state(state: str) -> Machine:
    """A machine with the step 1.2.3, which is locked by ``MINE`` once it has left SCHEDULED, and may end either way."""
    it = machine()
    it.create("1.2.3", scheduled("label"))
    if state != "SCHEDULED":
        change(it, "IN PROGRESS")
        it.set(
            "1.2.3",
            dataset(
                TransactionUID=MINE,
                UnifiedProcedureStepPerformedProcedureSequence=[performed()],
                ProcedureStepProgressInformationSequence=[cancellation()],
            ),
        )
    if state in ("COMPLETED", "CANCELED"):
        change(it, state)
    assert it.steps["1.2.3"].ProcedureStepState == state
    return it


def change(it: Machine, state: str | None, transaction: str | None = MINE, uid: str = "1.2.3") -> Any:
    request = Dataset()
    if state is not None:
        request.ProcedureStepState = state
    if transaction is not None:
        request.TransactionUID = transaction
    return it.change_state(uid, request)


def of_change(it: Machine, *arguments: Any) -> int:
    """0, or the status of the refusal."""
    try:
        change(it, *arguments)
    except dicomnet.StatusError as error:
        return error.status
    return 0


# --- states ---------------------------------------------------------------------------------------------------------

# PS3.4 Table CC.1.1-2: the requested state, and what comes of it in each of STATES.
WITH_THE_RIGHT_TRANSACTION = {
    "SCHEDULED": (0xC303, 0xC303, 0xC303, 0xC303),
    "IN PROGRESS": (0, 0xC302, 0xC300, 0xC300),
    "COMPLETED": (0xC310, 0, 0xB306, 0xC300),
    "CANCELED": (0xC310, 0, 0xC300, 0xB304),
}


@pytest.mark.parametrize("present", STATES)
@pytest.mark.parametrize("wanted", STATES)
def test_changes_of_state_with_the_right_transaction_uid(present: str, wanted: str) -> None:
    """PS3.4 Table CC.1.1-2."""
    it = in_state(present)
    expected = WITH_THE_RIGHT_TRANSACTION[wanted][STATES.index(present)]
    assert of_change(it, wanted) == expected
    assert it.steps["1.2.3"].ProcedureStepState == (present if expected else wanted)


@pytest.mark.parametrize("wanted", STATES)
@pytest.mark.parametrize(
    ("present", "transaction"),
    [
        (state, transaction)
        for state in STATES
        for transaction in (None, "", OTHER)
        if (state, transaction) != ("SCHEDULED", OTHER)
    ],
)
def test_changes_of_state_without_it(present: str, wanted: str, transaction: str | None) -> None:
    """PS3.4 Table CC.1.1-2: C301H, but that nothing is SCHEDULED so, and that a SCHEDULED step has none yet."""
    it = in_state(present)
    assert of_change(it, wanted, transaction) == (0xC303 if wanted == "SCHEDULED" else 0xC301)
    assert it.steps["1.2.3"].ProcedureStepState == present


def test_only_steps_that_exist_change() -> None:
    """PS3.4 Table CC.1.1-2: C307H in the null state."""
    it = machine()
    assert of_change(it, "IN PROGRESS") == 0xC307
    assert status_of(lambda: it.set("1.2.3", Dataset())) == 0xC307
    assert status_of(lambda: it.request_cancel("1.2.3", Dataset(), "ME", reachable=True)) == 0xC307


def test_a_state_that_there_is_not_is_refused() -> None:
    """PS3.7 10.1.4.1.10: 0115H."""
    assert of_change(in_state("IN PROGRESS"), "DONE") == 0x0115
    assert of_change(in_state("IN PROGRESS"), None) == 0x0115


def test_the_transaction_uid_is_the_lock() -> None:
    """PS3.4 CC.2.1.3: recorded when a step is claimed."""
    it = in_state("SCHEDULED")
    change(it, "IN PROGRESS", MINE)
    assert of_change(it, "IN PROGRESS", OTHER) == 0xC301
    assert of_change(it, "CANCELED", OTHER) == 0xC301
    assert it.steps["1.2.3"].TransactionUID == MINE


@pytest.mark.parametrize(
    ("state", "changes"),
    [
        ("COMPLETED", {"UnifiedProcedureStepPerformedProcedureSequence": []}),
        ("COMPLETED", {"UnifiedProcedureStepPerformedProcedureSequence": [Dataset()]}),
        ("CANCELED", {"ProcedureStepProgressInformationSequence": []}),
        ("CANCELED", {"ProcedureStepProgressInformationSequence": [dataset(ProcedureStepProgress="5")]}),
    ],
)
def test_final_states_have_requirements(state: str, changes: dict[str, Any]) -> None:
    """PS3.4 CC.2.5.1.1: C304H; the step stays as it is. Who is not strict lets it pass."""
    it = in_state("IN PROGRESS")
    it.set("1.2.3", dataset(TransactionUID=MINE, **changes))
    assert of_change(it, state) == 0xC304
    assert it.steps["1.2.3"].ProcedureStepState == "IN PROGRESS"
    assert of_change(Machine(it.steps, strict=False, worklist_label=""), state) == 0


# --- creation -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"ProcedureStepState": "IN PROGRESS"}, 0xC309),
        ({"ProcedureStepState": None}, 0xC309),
        ({"TransactionUID": "1.2"}, 0x0106),
        ({"ProcedureStepLabel": ""}, 0x0121),
    ],
)
def test_what_a_new_step_must_be(changes: dict[str, Any], status: int) -> None:
    """PS3.4 CC.2.5.3, CC.2.5.4."""
    step = scheduled("label", **changes)
    assert status_of(lambda: machine().create("1.2.3", step)) == status


def test_attributes_may_be_empty_but_not_missing() -> None:
    """PS3.4 Table CC.2.5-3: type 2."""
    step = scheduled("label")
    del step.PatientName
    assert status_of(lambda: machine().create("1.2.3", step)) == 0x0120
    machine(strict=False).create("1.2.3", step)


def test_a_step_is_created_once() -> None:
    """PS3.4 Table CC.1.1-2: 0111H in all states."""
    for state in STATES:
        it = in_state(state)
        assert status_of(lambda it=it: it.create("1.2.3", scheduled("label"))) == 0x0111


def test_the_provider_fills_in_what_is_its_to_say() -> None:
    """PS3.4 Table CC.2.5-3: the worklist label, the time of modification."""
    it = machine()
    it.create("1.2.3", scheduled("label"))
    step = it.steps["1.2.3"]
    assert (step.WorklistLabel, step.SOPInstanceUID) == ("TODAY", "1.2.3")
    assert step.ScheduledProcedureStepModificationDateTime
    it.create("1.2.4", scheduled("label", WorklistLabel="MINE"))
    assert it.steps["1.2.4"].WorklistLabel == "MINE"


# --- N-SET ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "transaction", "status"),
    [
        ("SCHEDULED", None, 0),
        ("SCHEDULED", MINE, 0xC310),
        ("IN PROGRESS", MINE, 0),
        ("IN PROGRESS", None, 0xC301),
        ("IN PROGRESS", OTHER, 0xC301),
        ("COMPLETED", MINE, 0xC300),
        ("CANCELED", MINE, 0xC300),
    ],
)
def test_who_may_change_attributes(state: str, transaction: str | None, status: int) -> None:
    """PS3.4 CC.2.6.3, CC.2.6.4."""
    it = in_state(state)
    changes = dataset(ProcedureStepLabel="new", SOPInstanceUID="1.2.999")
    if transaction:
        changes.TransactionUID = transaction
    if status:
        assert status_of(lambda: it.set("1.2.3", changes)) == status
    else:
        it.set("1.2.3", changes)
    assert it.steps["1.2.3"].ProcedureStepLabel == ("label" if status else "new")
    assert it.steps["1.2.3"].SOPInstanceUID == "1.2.3"


def test_the_state_is_not_an_attribute_to_set() -> None:
    """PS3.4 CC.2.6.2, CC.2.6.4."""
    it = in_state("SCHEDULED")
    assert status_of(lambda: it.set("1.2.3", dataset(ProcedureStepState="SCHEDULED"))) == 0xC303
    assert status_of(lambda: it.set("1.2.3", dataset(ProcedureStepState="COMPLETED"))) == 0x0106


# --- cancel ---------------------------------------------------------------------------------------------------------


def cancel(it: Machine, *, reachable: bool = True, **request: Any) -> Any:
    return it.request_cancel("1.2.3", dataset(**request), "ASKER", reachable=reachable)


def test_a_step_that_nobody_performs_is_canceled_at_once() -> None:
    """PS3.4 CC.2.2.3: first IN PROGRESS, then CANCELED, with what a final state needs."""
    it = in_state("SCHEDULED")
    news = cancel(it, reachable=False, ReasonForCancellation="moved")
    assert [one.information.ProcedureStepState for one in news] == ["IN PROGRESS", "CANCELED"]
    assert news[1].information.ReasonForCancellation == "moved"
    [progress] = it.steps["1.2.3"].ProcedureStepProgressInformationSequence
    assert progress.ProcedureStepDiscontinuationReasonCodeSequence[0].CodeValue == "110513"
    assert progress.ProcedureStepCancellationDateTime


def test_who_performs_a_step_is_asked_to_cancel_it() -> None:
    """PS3.4 CC.2.2.3, CC.2.4.3."""
    it = in_state("IN PROGRESS")
    [news] = cancel(it, ReasonForCancellation="moved", ContactDisplayName="Eva", ContactURI="tel:1")
    assert news.type is EventType.CANCEL_REQUESTED
    told = news.information
    assert (told.RequestingAE, told.ReasonForCancellation) == ("ASKER", "moved")
    assert (told.ContactDisplayName, told.ContactURI) == ("Eva", "tel:1")
    assert it.steps["1.2.3"].ProcedureStepState == "IN PROGRESS"


@pytest.mark.parametrize(
    ("state", "reachable", "status"),
    [("IN PROGRESS", False, 0xC312), ("COMPLETED", True, 0xC311), ("CANCELED", True, 0xB304)],
)
def test_when_a_step_cannot_be_canceled(state: str, reachable: bool, status: int) -> None:
    """PS3.4 Table CC.2.2-2."""
    assert status_of(lambda: cancel(in_state(state), reachable=reachable)) == status


# --- news -----------------------------------------------------------------------------------------------------------


def types(news: Any) -> list[str]:
    return [one.type.name for one in news]


def test_what_is_told_of_a_new_step() -> None:
    """PS3.4 CC.2.4.3: its state, and who is to do it if that is known."""
    [news] = machine().create("1.2.3", scheduled("label"))
    assert (news.information.ProcedureStepState, news.information.InputReadinessState) == ("SCHEDULED", "READY")
    performer = dataset(
        HumanPerformerCodeSequence=[code(CODE)], HumanPerformerName="Eva", HumanPerformerOrganization="Radiology"
    )
    assigned = scheduled("label", station=CODE, ScheduledHumanPerformersSequence=[performer])
    state, assignment = machine().create("1.2.3", assigned)
    assert (state.type, assignment.type) == (EventType.STATE_REPORT, EventType.ASSIGNED)
    assert assignment.information.ScheduledStationNameCodeSequence[0].CodeValue == "A"
    [told] = assignment.information.ScheduledHumanPerformersSequence
    assert [element.keyword for element in told] == ["HumanPerformerCodeSequence", "HumanPerformerOrganization"]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"ProcedureStepLabel": "new"}, []),
        ({"InputReadinessState": "INCOMPLETE"}, ["STATE_REPORT"]),
        ({"InputReadinessState": "READY"}, []),
        ({"ProcedureStepProgressInformationSequence": [dataset(ProcedureStepProgress="50")]}, ["PROGRESS_REPORT"]),
        ({"ScheduledStationNameCodeSequence": [code(CODE)]}, ["ASSIGNED"]),
    ],
)
def test_what_is_told_of_changes(changes: dict[str, Any], expected: list[str]) -> None:
    """PS3.4 CC.2.4.3."""
    assert types(in_state("SCHEDULED").set("1.2.3", dataset(**changes))) == expected


def test_the_end_is_told_with_its_reason() -> None:
    """PS3.4 Table CC.2.4-1."""
    it = in_state("IN PROGRESS")
    [news] = change(it, "CANCELED")
    assert news.information.ProcedureStepState == "CANCELED"
    assert news.information.ProcedureStepDiscontinuationReasonCodeSequence[0].CodeValue == "A"
    [news] = change(in_state("IN PROGRESS"), "COMPLETED")
    assert "ProcedureStepDiscontinuationReasonCodeSequence" not in news.information


# --- subscriptions --------------------------------------------------------------------------------------------------

STEPS = {
    uid: scheduled(label, ScheduledProcedureStepPriority=priority)
    for uid, label, priority in (("1.1", "one", "HIGH"), ("1.2", "two", "LOW"))
}


def subscribe(it: Subscriptions, uid: str, *, ae: str = "A", lock: str = "FALSE", **keys: Any) -> list[str]:
    return list(it.change(Action.SUBSCRIBE, uid, ae, dataset(DeletionLock=lock, **keys), STEPS))


def unsubscribe(it: Subscriptions, uid: str, ae: str = "A", action: Action = Action.UNSUBSCRIBE) -> None:
    assert not list(it.change(action, uid, ae, Dataset(), STEPS))


def test_a_subscription_to_one_step() -> None:
    """PS3.4 CC.2.3.3: an initial report, and then those of that step alone."""
    it = Subscriptions()
    assert subscribe(it, "1.1") == ["1.1"]
    assert (it.of("1.1"), it.of("1.2"), it.globally()) == (["A"], [], [])
    unsubscribe(it, "1.1")
    assert it.of("1.1") == []


def test_a_subscription_to_all_steps() -> None:
    """PS3.4 CC.2.3.2: present and future ones; only with a lock it begins with reports (CC.2.4.3)."""
    it = Subscriptions()
    assert subscribe(it, ALL) == []
    it.created("1.3", scheduled("three"))
    assert (it.of("1.2"), it.of("1.3"), it.globally()) == (["A"], ["A"], ["A"])
    unsubscribe(it, ALL)
    it.created("1.4", scheduled("four"))
    assert (it.of("1.2"), it.of("1.3"), it.of("1.4"), it.globally()) == ([], [], [], [])


def test_a_suspended_subscription_goes_on_for_present_steps() -> None:
    """PS3.4 CC.2.3.2: Suspend Global Subscription."""
    it = Subscriptions()
    subscribe(it, ALL)
    unsubscribe(it, ALL, action=Action.SUSPEND_GLOBAL_SUBSCRIPTION)
    it.created("1.3", scheduled("three"))
    assert (it.of("1.1"), it.of("1.3")) == (["A"], [])


def test_what_is_said_of_one_step_goes_before() -> None:
    """PS3.4 CC.2.3.1: and unsubscribing from all ends that, too."""
    it = Subscriptions()
    subscribe(it, "1.1", lock="TRUE")
    subscribe(it, ALL)
    assert (it.locked("1.1"), it.locked("1.2")) == (True, False)
    assert subscribe(it, ALL, lock="TRUE") == ["1.1", "1.2"]
    assert it.locked("1.2")
    unsubscribe(it, ALL)
    assert not it.locked("1.1")


def test_a_subscription_to_those_that_match() -> None:
    """PS3.4 CC.2.3.3.1: Filtered Global Subscription."""
    it = Subscriptions()
    keys = {"ScheduledProcedureStepPriority": "HIGH", "ReceivingAE": "A"}
    assert subscribe(it, FILTERED, lock="TRUE", **keys) == ["1.1"]
    it.created("1.3", scheduled("three", ScheduledProcedureStepPriority="HIGH"))
    it.created("1.4", scheduled("four"))
    assert (it.of("1.2"), it.of("1.3"), it.of("1.4")) == ([], ["A"], [])


def test_locks_belong_to_subscribers() -> None:
    """PS3.4 CC.2.1.3: a step is kept until all locks are gone."""
    it = Subscriptions()
    subscribe(it, "1.1", ae="A", lock="TRUE")
    subscribe(it, "1.1", ae="B", lock="TRUE")
    unsubscribe(it, "1.1", "A")
    assert it.locked("1.1")
    unsubscribe(it, "1.1", "B")
    assert not it.locked("1.1")
    it.deleted("1.1")
    assert it.of("1.1") == []


@pytest.mark.parametrize(
    ("action", "uid", "request_", "status"),
    [
        (Action.SUBSCRIBE, "1.9", {"DeletionLock": "FALSE"}, UpsStatus.NO_SUCH_UPS),
        (Action.UNSUBSCRIBE, "1.9", {}, UpsStatus.NO_SUCH_UPS),
        (Action.SUSPEND_GLOBAL_SUBSCRIPTION, "1.1", {}, UpsStatus.ACTION_NOT_APPROPRIATE),
        (Action.SUBSCRIBE, "1.1", {}, 0x0115),
        (Action.SUBSCRIBE, "1.1", {"DeletionLock": "MAYBE"}, 0x0115),
        (Action.SUBSCRIBE, FILTERED, {"DeletionLock": "TRUE", "StudyDate": "x"}, 0xA900),
    ],
)
def test_subscriptions_that_are_refused(action: Action, uid: str, request_: dict[str, Any], status: int) -> None:
    """PS3.4 Table CC.2.3-3."""
    it = Subscriptions()
    assert status_of(lambda: it.change(action, uid, "A", dataset(**request_), STEPS)) == status
    assert it.of("1.1") == it.globally() == []


def test_there_is_an_end_to_subscribers(monkeypatch: pytest.MonkeyPatch) -> None:
    """0213H: AE titles cost nothing to make up."""
    monkeypatch.setattr("dicomnet.services.ups.subscriptions.MOST_SUBSCRIBERS", 1)
    it = Subscriptions()
    subscribe(it, ALL)
    for uid in (ALL, "1.1"):
        assert status_of(lambda uid=uid: subscribe(it, uid, ae="B")) == 0x0213
    subscribe(it, "1.1")
