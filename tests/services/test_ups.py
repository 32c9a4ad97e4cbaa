"""Unified procedure steps (PS3.4 CC): push, pull, watch and event, both roles, both faces."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from pydicom import Dataset

import dicomnet
from dicomnet.services import ups
from dicomnet.services.courier import Courier
from dicomnet.services.ups import EventType
from tests.services.conftest import HOST, PATIENCE, Side, dataset, eventually, status_of

PUSH, PULL = ups.UnifiedProcedureStepPush, ups.UnifiedProcedureStepPull
WATCH, EVENT, QUERY = ups.UnifiedProcedureStepWatch, ups.UnifiedProcedureStepEvent, ups.UnifiedProcedureStepQuery
ROOM = ("ROOM1", "99TEST", "Room 1")


def providing(**options: Any) -> tuple[dicomnet.AE, ups.Provider]:
    ae = dicomnet.AE("SCP")
    courier = Courier("UPS events", first_delay=0.01, longest_delay=0.02, attempts=3)
    return ae, ups.provide(ae, **{"courier": courier, **options})


class Watcher:
    """An AE "ME" and the events that it has heard."""

    def __init__(self) -> None:
        self.ae = dicomnet.AE("ME")
        self.events: list[ups.Event] = []
        ups.take_events(self.ae, self.events.append)

    def of(self, uid: str) -> list[str]:
        """Its events as text: states by name, the others by type."""
        return [
            event.information.ProcedureStepState if event.type is EventType.STATE_REPORT else event.type.name
            for event in self.events
            if event.uid == uid
        ]


@pytest.fixture
def me() -> Watcher:
    return Watcher()


def state_of(provider: ups.Provider, uid: str) -> str:
    return str(provider.steps[uid].ProcedureStepState)


def test_a_step_is_pushed_found_claimed_and_completed(user: Side, server: Side) -> None:
    """PS3.4 CC.1.1, the usual course."""
    states = []
    ae, provider = providing(changed=lambda step: states.append(step.ProcedureStepState))
    workitem = ("110004", "DCM", "Image Processing")
    with server.serve(ae) as port, user.associate(port, PUSH, PULL) as association:
        step = ups.scheduled("Segmentierung Schädel", workitem=workitem, station=ROOM, PatientName="Müller")
        uid = user.do(ups.push(association, step))
        assert state_of(provider, uid) == "SCHEDULED"
        [found] = user.all(ups.find(association, ProcedureStepState="SCHEDULED", PatientName="müller"))
        assert (found.SOPInstanceUID, found.ProcedureStepLabel) == (uid, "Segmentierung Schädel")
        with user.entered(ups.claimed(association, uid, station=ROOM)) as work:
            assert work.step.PatientName == "Müller"
            assert state_of(provider, uid) == "IN PROGRESS"
            user.do(work.progress(50, "läuft"))
            output = dataset(SOPClassUID="1.2", SOPInstanceUID="1.3", StudyInstanceUID="1.4", SeriesInstanceUID="1.5")
            work.add_output(output, retrieve_ae="PACS")
            work.add_output(output)
        done = user.do(ups.get(association, uid))
    assert states == ["SCHEDULED", "IN PROGRESS", "IN PROGRESS", "IN PROGRESS", "COMPLETED"]
    assert done.ProcedureStepState == "COMPLETED"
    assert "TransactionUID" not in done
    [performed] = done.UnifiedProcedureStepPerformedProcedureSequence
    assert performed.PerformedWorkitemCodeSequence[0].CodeValue == "110004"
    assert performed.PerformedStationNameCodeSequence[0].CodeValue == "ROOM1"
    [series] = performed.OutputInformationSequence
    assert len(series.ReferencedSOPSequence) == 2
    assert series.DICOMRetrievalSequence[0].RetrieveAETitle == "PACS"
    assert done.ProcedureStepProgressInformationSequence[0].ProcedureStepProgressDescription == "läuft"


def test_a_step_is_claimed_by_one_alone(user: Side, server: Side) -> None:
    """PS3.4 CC.2.1.3: the second gets C301H, since the Transaction UID is the first one's."""
    ae, provider = providing()
    uid = provider.create(ups.scheduled("x"))
    with (
        server.serve(ae) as port,
        user.associate(port, PULL) as first,
        user.associate(port, PULL) as second,
        user.entered(ups.claimed(first, uid)) as work,
    ):
        with pytest.raises(dicomnet.StatusError) as caught, user.entered(ups.claimed(second, uid)):
            pass
        assert caught.value.status == 0xC301
        assert status_of(lambda: user.do(ups.claimed(second, uid).update(dataset(ProcedureStepLabel="y")))) == 0xC301
        user.do(work.update(dataset(ProcedureStepLabel="z")))
    assert provider.steps[uid].ProcedureStepLabel == "z"
    assert state_of(provider, uid) == "COMPLETED"


def test_an_exception_cancels_the_step(user: Side, server: Side) -> None:
    """PS3.4 CC.2.1.2: with the reason; the exception is still raised."""
    ae, provider = providing()
    uid = provider.create(ups.scheduled("x"))
    with (
        server.serve(ae) as port,
        user.associate(port, PULL) as association,
        pytest.raises(ZeroDivisionError),
        user.entered(ups.claimed(association, uid)),
    ):
        raise ZeroDivisionError("so")
    assert state_of(provider, uid) == "CANCELED"
    [progress] = provider.steps[uid].ProcedureStepProgressInformationSequence
    assert progress.ReasonForCancellation == "ZeroDivisionError: so"


def test_who_performs_a_step_can_cancel_it(user: Side, server: Side) -> None:
    """PS3.4 CC.2.1.2."""
    ae, provider = providing()
    uid = provider.create(ups.scheduled("x"))
    with (
        server.serve(ae) as port,
        user.associate(port, PULL) as association,
        user.entered(ups.claimed(association, uid)) as work,
    ):
        work.cancel(("110510", "DCM", "Patient called away"), "fire alarm")
    [progress] = provider.steps[uid].ProcedureStepProgressInformationSequence
    assert progress.ProcedureStepDiscontinuationReasonCodeSequence[0].CodeValue == "110510"
    assert state_of(provider, uid) == "CANCELED"


def test_a_step_that_cannot_be_ended_is_told_beside_the_error(user: Side, server: Side) -> None:
    """The error of the block is what matters."""
    steps: dict[str, Dataset] = {}
    ae, provider = providing(steps=steps)
    uid = provider.create(ups.scheduled("x"))
    with server.serve(ae) as port, user.associate(port, PULL) as association:
        with pytest.raises(ZeroDivisionError) as caught, user.entered(ups.claimed(association, uid)):
            steps.clear()
            raise ZeroDivisionError
        assert "could" in caught.value.__notes__[0]


# --- watch and event ------------------------------------------------------------------------------------------------

COURSE = ["SCHEDULED", "IN PROGRESS", "PROGRESS_REPORT", "CANCEL_REQUESTED", "COMPLETED"]


def perform(user: Side, association: Any) -> str:
    """A whole course of a step, all of which is told to those who watch."""
    uid = str(user.do(ups.push(association, ups.scheduled("x"))))
    with user.entered(ups.claimed(association, uid)) as work:
        user.do(work.progress(10))
        user.do(ups.request_cancel(association, uid, reason="moved", contact="Eva", uri="tel:1"))
    return uid


def test_events_come_on_new_associations(user: Side, server: Side, me: Watcher) -> None:
    """PS3.4 CC.2.4.3: in order."""
    with user.serve(me.ae) as mine:
        ae, provider = providing(peers={"ME": f"ME@{HOST}:{mine}"})
        with server.serve(ae) as port, user.associate(port, PUSH, PULL, WATCH) as association:
            user.do(ups.subscribe(association, "ME"))
            uid = perform(user, association)
            eventually(lambda: me.of(uid) == COURSE, "all events arrive")
            assert provider.courier.settled(PATIENCE)
    asked = me.events[3].information
    assert (asked.RequestingAE, asked.ReasonForCancellation) == ("DICOMNET", "moved")


def test_events_come_on_the_association_of_the_subscription(user: Side, server: Side, me: Watcher) -> None:
    """With a context for UPS Event; no port of one's own is needed."""
    ae, provider = providing()
    with (
        server.serve(ae) as port,
        user.associate(port, PUSH, PULL, WATCH, EVENT, calling_ae="ME", ae=me.ae) as association,
    ):
        user.do(ups.subscribe(association, "ME"))
        uid = perform(user, association)
        user.do(association.listen(PATIENCE, until=lambda: len(me.of(uid)) >= len(COURSE)))
        assert provider.courier.settled(PATIENCE)
    assert me.of(uid) == COURSE


def test_events_go_elsewhere_when_that_association_is_over(user: Side, server: Side, me: Watcher) -> None:
    """To the address that the provider knows."""
    with user.serve(me.ae) as mine:
        ae, provider = providing(peers={"ME": f"ME@{HOST}:{mine}"})
        with server.serve(ae) as port:
            with user.associate(port, WATCH, EVENT, calling_ae="ME", ae=me.ae) as association:
                user.do(ups.subscribe(association, "ME"))
            uid = provider.create(ups.scheduled("x"))
            eventually(lambda: me.of(uid) == ["SCHEDULED"], "the event arrives")
            assert provider.courier.settled(PATIENCE)


def test_a_subscription_begins_with_the_present_state(user: Side, server: Side, me: Watcher) -> None:
    """PS3.4 CC.2.3.3."""
    ae, provider = providing()
    uid, other = provider.create(ups.scheduled("x")), provider.create(ups.scheduled("y"))
    with server.serve(ae) as port, user.associate(port, WATCH, EVENT, calling_ae="ME", ae=me.ae) as association:
        user.do(ups.subscribe(association, "ME", uid, deletion_lock=True))
        user.do(association.listen(PATIENCE, until=lambda: me.of(uid)))
        assert provider.courier.settled(PATIENCE)
        assert (me.of(uid), me.of(other)) == (["SCHEDULED"], [])
        user.do(ups.unsubscribe(association, "ME", uid))
        user.do(ups.request_cancel(association, uid))
        assert not provider.courier.waiting("ME")


def test_a_subscription_may_have_keys(user: Side, server: Side, me: Watcher) -> None:
    """PS3.4 CC.2.3.3.1."""
    ae, provider = providing()
    with server.serve(ae) as port, user.associate(port, WATCH, EVENT, calling_ae="ME", ae=me.ae) as association:
        user.do(ups.subscribe(association, "ME", matching=dataset(ScheduledProcedureStepPriority="HIGH")))
        low, high = provider.create(ups.scheduled("x")), provider.create(ups.scheduled("y", priority="HIGH"))
        user.do(association.listen(PATIENCE, until=lambda: me.of(high)))
        user.do(ups.suspend(association, "ME"))
        later = provider.create(ups.scheduled("z", priority="HIGH"))
        assert provider.courier.settled(PATIENCE)
    assert (me.of(low), me.of(later)) == ([], [])


def test_the_provider_tells_of_itself(user: Side, server: Side, me: Watcher) -> None:
    """PS3.4 Table CC.2.4-1: SCP Status Change, to global subscribers."""
    ae, provider = providing()
    with server.serve(ae) as port, user.associate(port, WATCH, EVENT, calling_ae="ME", ae=me.ae) as association:
        user.do(ups.subscribe(association, "ME"))
        provider.announce("GOING DOWN", subscriptions="COLD START", steps="COLD START")
        user.do(association.listen(PATIENCE, until=lambda: me.events))
        assert provider.courier.settled(PATIENCE)
    [event] = me.events
    assert event.type is EventType.SCP_STATUS_CHANGE
    assert (event.information.SCPStatus, event.information.SubscriptionListStatus) == ("GOING DOWN", "COLD START")


# --- the provider's rules -------------------------------------------------------------------------------------------


@pytest.fixture
def running() -> Iterator[tuple[Any, ups.Provider]]:
    """A provider and an association of the blocking face: the rules do not depend on it."""
    ae, provider = providing(peers=lambda title: f"{title}@{HOST}:1" if title == "KNOWN" else None)
    side = Side("blocking")
    with side.serve(ae) as port, side.associate(port, PUSH, PULL, WATCH, QUERY) as association:
        yield association, provider
        provider.courier.close()


def test_the_transaction_uid_is_nobody_elses_business(running: Any) -> None:
    """PS3.4 CC.2.7.3, CC.2.8.3: neither returned nor matched."""
    association, provider = running
    uid = provider.create(ups.scheduled("x"))
    with ups.claimed(association, uid) as work:
        assert provider.steps[uid].TransactionUID == work.transaction_uid
        assert "TransactionUID" not in ups.get(association, uid, ["TransactionUID", "ProcedureStepLabel"])
        [found] = ups.find(
            association,
            dataset(TransactionUID="1.2.3", ProcedureStepLabel=""),
        )
        assert "TransactionUID" not in found


@pytest.mark.parametrize("model", [PULL, WATCH, QUERY])
def test_steps_are_found_in_each_information_model(running: Any, model: str) -> None:
    """PS3.4 CC.2.8."""
    association, provider = running
    provider.create(ups.scheduled("x"))
    assert len(list(association.c_find(dataset(ProcedureStepLabel="x"), model=model))) == 1


def test_what_is_read_of_a_step(running: Any) -> None:
    """PS3.4 CC.2.7.4: 0001H if an attribute is not there, C307H if the step is not."""
    association, provider = running
    uid = provider.create(ups.scheduled("Schädel"))
    response = association.n_get(PUSH, uid, ["ProcedureStepLabel", "PatientWeight"], context=PULL)
    assert response.status == 0x0001
    assert response.dataset.decode().ProcedureStepLabel == "Schädel"
    assert association.n_get(PUSH, "1.2.3", context=WATCH).status == 0xC307
    assert ups.get(association, uid, ["ProcedureStepState"]).ProcedureStepState == "SCHEDULED"


def test_actions_that_make_no_sense_are_refused(running: Any) -> None:
    """PS3.7 10.1.4.1.10; PS3.4 Table CC.2.3-3."""
    association, provider = running
    uid = provider.create(ups.scheduled("x"))
    assert association.n_action(PUSH, uid, 9, dataset(ReceivingAE="A")).status == 0x0123
    assert association.n_action(PUSH, uid, 1, None).status == 0x0115
    assert association.n_action(PUSH, uid, 3, dataset(DeletionLock="TRUE"), context=WATCH).status == 0x0115
    assert status_of(lambda: ups.subscribe(association, "UNKNOWN", uid)) == 0xC308
    assert status_of(lambda: ups.subscribe(association, "KNOWN", "1.2.3")) == 0xC307
    assert status_of(lambda: ups.request_cancel(association, "1.2.3")) == 0xC307


def test_a_step_may_get_its_uid_from_the_provider(running: Any) -> None:
    """PS3.7 10.1.5.1.3: the Affected SOP Instance UID is optional."""
    association, provider = running
    response = association.n_create(PUSH, ups.scheduled("x"))
    assert response.status == 0
    assert response.sop_instance_uid in provider.steps
    assert status_of(lambda: ups.push(association, ups.scheduled("x", ProcedureStepState="CANCELED"))) == 0xC309


def test_steps_that_have_ended_are_deleted_unless_they_are_locked(me: Watcher) -> None:
    """PS3.4 CC.2.1.3."""
    ae, provider = providing(retain=0.0, peers={"ME": f"ME@{HOST}:1"})
    side = Side("blocking")
    with side.serve(ae) as port, side.associate(port, PUSH, WATCH, calling_ae="ME") as association:
        locked, free = provider.create(ups.scheduled("x")), provider.create(ups.scheduled("y"))
        ups.subscribe(association, "ME", locked, deletion_lock=True)
        for uid in (locked, free):
            ups.request_cancel(association, uid)
        provider.purge()
        assert set(provider.steps) == {locked}
        ups.unsubscribe(association, "ME", locked)
        new = provider.create(ups.scheduled("z"))
        assert set(provider.steps) == {new}
        provider.courier.close()


def test_steps_are_kept_for_good_without_a_limit(running: Any) -> None:
    """``retain=None``."""
    association, provider = running
    uid = provider.create(ups.scheduled("x"))
    ups.request_cancel(association, uid)
    provider.purge()
    assert uid in provider.steps


def test_events_that_nobody_takes_are_given_up(me: Watcher, caplog: pytest.LogCaptureFixture) -> None:
    """And that is logged."""
    ae, provider = providing(peers={"ME": f"ME@{HOST}:1"})
    side = Side("blocking")
    with side.serve(ae) as port, side.associate(port, WATCH) as association:
        uid = provider.create(ups.scheduled("x"))
        ups.subscribe(association, "ME", uid)
        eventually(lambda: "given up" in caplog.text, "it is given up")
        assert provider.courier.settled(PATIENCE)


def test_an_event_that_is_refused_is_not_sent_again(caplog: pytest.LogCaptureFixture) -> None:
    """A status is an answer; the next event is sent all the same."""
    asked = []
    mine = dicomnet.AE("ME", contexts=[EVENT], roles={EVENT: (True, True)})
    mine.on_n_event_report(lambda request: [asked.append(request.event_type), 0x0110][1])
    side = Side("blocking")
    with side.serve(mine) as my_port:
        ae, provider = providing(peers={"ME": f"ME@{HOST}:{my_port}"})
        with side.serve(ae) as port, side.associate(port, PUSH, WATCH) as association:
            uid = provider.create(ups.scheduled("x"))
            ups.subscribe(association, "ME", uid)
            ups.request_cancel(association, uid)
            eventually(lambda: asked == [1, 1, 1], "all events arrive")
            assert provider.courier.settled(PATIENCE)


def test_events_of_unknown_types_are_refused(me: Watcher) -> None:
    """PS3.7 10.1.1.1.8: 0113H."""
    side = Side("blocking")
    with side.serve(me.ae) as port, side.associate(port, EVENT, roles={EVENT: (False, True)}) as association:
        assert association.n_event_report(PUSH, "1.2", 9, dataset(PatientID="1"), context=EVENT).status == 0x0113
        assert association.n_event_report(PUSH, "1.2", 1, None, context=EVENT).status == 0x0115
    assert not me.events
