"""Storage commitment, push model (PS3.4 J), both roles, both faces."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

import dicomnet
from dicomnet.services import commitment
from dicomnet.services.commitment import FailureReason, Instance, Result
from dicomnet.services.courier import Courier
from tests.services.conftest import HOST, PATIENCE, Side, dataset, eventually, status_of

PUSH = commitment.StorageCommitmentPushModel
WELL_KNOWN = "1.2.840.10008.1.20.1.1"
CT = "1.2.840.10008.5.1.4.1.1.2"
ONE, TWO, THREE = (Instance(CT, f"1.2.{number}") for number in (1, 2, 3))
QUICK = {"first_delay": 0.01, "longest_delay": 0.02}


class Store:
    """A provider "SCP" that has some instances. ``asked``: for which it was."""

    def __init__(self, *stored: Instance, **options: Any) -> None:
        self.stored: Any = {instance.sop_instance_uid for instance in stored}
        self.asked: list[tuple[Instance, ...]] = []
        self.ae = dicomnet.AE("SCP")
        options = {"courier": Courier("storage commitment", **QUICK), **options}
        self.courier = commitment.provide(self.ae, self.verify, **options)

    def verify(self, instances: tuple[Instance, ...]) -> Any:
        self.asked.append(instances)
        return self.stored


@pytest.fixture
def me() -> dicomnet.AE:
    return dicomnet.AE("ME")


def test_the_result_comes_on_the_association_of_the_request(user: Side, server: Side, me: dicomnet.AE) -> None:
    """PS3.4 J.3.3: committed and failed ones, each named."""
    store, requests = Store(ONE, THREE, retrieve_ae="PACS"), commitment.User(me)
    with server.serve(store.ae) as port, user.associate(port, PUSH, ae=me) as association:
        transaction = user.do(requests.request(association, [ONE, TWO, THREE, TWO]))
        assert transaction.instances == (ONE, TWO, THREE)
        result = user.do(transaction.wait(PATIENCE))
        assert result == Result(frozenset((ONE, THREE)), {TWO: FailureReason.NO_SUCH_INSTANCE}, "PACS")
        assert transaction.result == result
    assert store.asked == [(ONE, TWO, THREE)]
    assert store.courier.settled(PATIENCE)


def test_instances_are_named_in_any_way(user: Side, server: Side, me: dicomnet.AE) -> None:
    """Data sets, encoded ones, pairs."""
    store, requests = Store(ONE, TWO, THREE), commitment.User(me)
    two = dataset(SOPClassUID=CT, SOPInstanceUID="1.2.2")
    three = dicomnet.EncodedDataset(b"", "1.2.840.10008.1.2", *THREE)
    with server.serve(store.ae) as port, user.associate(port, PUSH, ae=me) as association:
        transaction = user.do(requests.request(association, [tuple(ONE), two, three]))
        assert user.do(transaction.wait(PATIENCE)) == Result(frozenset((ONE, TWO, THREE)))


def test_the_result_comes_on_a_new_association_when_the_first_is_over(
    user: Side, server: Side, me: dicomnet.AE
) -> None:
    """PS3.4 J.3.3.1.2, J.3.4: with the roles reversed."""
    gate = threading.Event()
    requests = commitment.User(me)
    with user.serve(me) as mine:
        ae = dicomnet.AE("SCP")
        courier = commitment.provide(
            ae,
            lambda instances: [gate.wait(PATIENCE), ["1.2.1"]][1],
            peers={"ME": f"ME@{HOST}:{mine}"},
            courier=Courier("storage commitment", **QUICK),
        )
        with server.serve(ae) as port:
            with user.associate(port, PUSH, calling_ae="ME") as association:
                transaction = user.do(requests.request(association, [ONE, TWO]))
            assert transaction.result is None
            gate.set()
            result = user.do(transaction.wait(PATIENCE))
            assert result.committed == {ONE}
            assert result.failed == {TWO: 0x0112}
            assert courier.settled(PATIENCE)


def test_the_result_may_come_on_a_new_association_while_the_first_lives(
    user: Side, server: Side, me: dicomnet.AE
) -> None:
    """Some providers never use the association of the request."""
    requests = commitment.User(me)
    with user.serve(me) as mine:
        store = Store(ONE, same_association=False, peers=lambda title: f"{title}@{HOST}:{mine}")
        with server.serve(store.ae) as port, user.associate(port, PUSH, calling_ae="ME", ae=me) as association:
            transaction = user.do(requests.request(association, [ONE]))
            assert user.do(transaction.wait(PATIENCE)) == Result(frozenset((ONE,)))


def test_a_result_that_does_not_come_in_time_is_none(user: Side, server: Side, me: dicomnet.AE) -> None:
    """It may still come."""
    gate = threading.Event()
    ae = dicomnet.AE("SCP")
    courier = commitment.provide(ae, lambda instances: [gate.wait(PATIENCE), ["1.2.1"]][1])
    requests = commitment.User(me)
    with server.serve(ae) as port, user.associate(port, PUSH, ae=me) as association:
        transaction = user.do(requests.request(association, [ONE]))
        assert user.do(transaction.wait(0.05)) is None
        gate.set()
        assert user.do(transaction.wait(PATIENCE)).committed == {ONE}
    assert courier.settled(PATIENCE)


def test_a_report_is_tried_until_the_requestor_can_be_reached(user: Side, server: Side, me: dicomnet.AE) -> None:
    """The requestor starts to listen later; what was verified is not verified again."""
    requests = commitment.User(me)
    tried = threading.Event()
    ports: dict[str, str] = {}

    def where(title: str) -> str:
        tried.set()
        return ports.get(title, f"ME@{HOST}:1")  # nobody listens there

    store = Store(ONE, same_association=False, peers=where)
    with server.serve(store.ae) as port:
        with user.associate(port, PUSH, calling_ae="ME") as association:
            transaction = user.do(requests.request(association, [ONE]))
        assert tried.wait(PATIENCE)
        with user.serve(me) as mine:
            ports["ME"] = f"ME@{HOST}:{mine}"
            assert user.do(transaction.wait(PATIENCE)).committed == {ONE}
            assert store.courier.settled(PATIENCE)
    assert len(store.asked) == 1


def test_a_requestor_that_takes_no_reports_on_its_association_gets_them_on_a_new_one(
    user: Side, server: Side, me: dicomnet.AE
) -> None:
    """Its answer to the first is 0211H: it did not give its AE to that association."""
    requests = commitment.User(me)
    with user.serve(me) as mine:
        store = Store(ONE, peers={"ME": f"ME@{HOST}:{mine}"})
        with server.serve(store.ae) as port, user.associate(port, PUSH, calling_ae="ME") as association:
            transaction = user.do(requests.request(association, [ONE]))
            assert user.do(transaction.wait(PATIENCE)) == Result(frozenset((ONE,)))


# --- confirm --------------------------------------------------------------------------------------------------------


def test_confirm_asks_again_for_what_may_work_later(user: Side, server: Side, me: dicomnet.AE) -> None:
    """PS3.3 C.14.1.1: resources come back; an instance that is not there does not."""
    asked = []

    def verify(instances: tuple[Instance, ...]) -> dict[str, int]:
        asked.append(instances)
        busy = FailureReason.RESOURCE_LIMITATION if len(asked) == 1 else 0
        return {"1.2.1": 0, "1.2.2": busy, "1.2.3": FailureReason.NO_SUCH_INSTANCE}

    ae = dicomnet.AE("SCP")
    courier = commitment.provide(ae, verify)
    requests = commitment.User(me)
    with server.serve(ae) as port:
        result = user.do(
            requests.confirm(lambda: user.connect(port, [PUSH], ae=me), [ONE, TWO], seconds=PATIENCE, pause=0.01)
        )
        assert result == Result(frozenset((ONE, TWO)))
        assert asked == [(ONE, TWO), (TWO,)]
        result = user.do(requests.confirm(lambda: user.connect(port, [PUSH], ae=me), [ONE, THREE], pause=0.01))
        assert result == Result(frozenset((ONE,)), {THREE: 0x0112})
        assert len(asked) == 3
    assert courier.settled(PATIENCE)


def test_confirm_tries_again_when_no_result_comes(user: Side, server: Side, me: dicomnet.AE) -> None:
    """A time-out, and a provider that cannot be reached at first."""
    ae = dicomnet.AE("SCP", contexts=[PUSH])
    ae.on_n_action(lambda request: 0)  # and never a word of it
    requests = commitment.User(me)
    tries = []

    def connect() -> Any:
        tries.append(1)
        return user.connect(port, [PUSH], ae=me)

    with server.serve(ae) as port:
        with pytest.raises(dicomnet.DeadlineExceeded):
            user.do(requests.confirm(connect, [ONE], seconds=0.05, attempts=2, pause=0.01))
        assert len(tries) == 2
        assert not requests._transactions
    with pytest.raises(dicomnet.TransportError):
        user.do(requests.confirm(connect, [ONE], seconds=0.05, attempts=2, pause=0.01))
    assert len(tries) == 4


def test_confirm_does_not_repeat_what_is_refused(user: Side, server: Side, me: dicomnet.AE) -> None:
    """A status is an answer."""
    ae = dicomnet.AE("SCP", contexts=[PUSH])
    ae.on_n_action(lambda request: 0x0124)
    requests = commitment.User(me)
    with server.serve(ae) as port:
        refused = lambda: user.do(requests.confirm(lambda: user.connect(port, [PUSH], ae=me), [ONE], pause=30))  # noqa: E731
        assert status_of(refused) == 0x0124


# --- the provider's rules -------------------------------------------------------------------------------------------


@pytest.fixture
def running(me: dicomnet.AE) -> Iterator[tuple[Any, Store, list[Any]]]:
    """A provider, an association, and the reports that come."""
    store, reports = Store(ONE), []
    commitment.User(me, on_result=lambda uid, result: reports.append((uid, result)))
    side = Side("blocking")
    with side.serve(store.ae) as port, side.associate(port, PUSH, ae=me) as association:
        yield association, store, reports


def request_of(uid: str, *instances: Instance) -> Any:
    items = [dataset(ReferencedSOPClassUID=one, ReferencedSOPInstanceUID=other) for one, other in instances]
    return dataset(TransactionUID=uid, ReferencedSOPSequence=items)


@pytest.mark.parametrize(
    ("instance", "action", "data", "status"),
    [
        ("1.2.3", 1, request_of("1.9", ONE), 0x0112),
        (WELL_KNOWN, 2, request_of("1.9", ONE), 0x0123),
        (WELL_KNOWN, 1, None, 0x0115),
        (WELL_KNOWN, 1, request_of("", ONE), 0x0115),
        (WELL_KNOWN, 1, request_of("1.9"), 0x0115),
        (WELL_KNOWN, 1, dataset(TransactionUID="1.9", ReferencedSOPSequence=[dataset(PatientID="1")]), 0x0115),
    ],
)
def test_requests_that_make_no_sense_are_refused(
    running: Any, instance: str, action: int, data: Any, status: int
) -> None:
    """PS3.4 J.3.2.1.4; PS3.7 10.1.4.1.10."""
    association, store, _ = running
    assert association.n_action(PUSH, instance, action, data).status == status
    assert not store.asked


def test_a_request_that_is_repeated_is_reported_once(me: dicomnet.AE) -> None:
    """And one with other instances under the same UID fails as a duplicate (PS3.3 C.14.1.1: 0131H)."""
    gate, reports = threading.Event(), []
    ae = dicomnet.AE("SCP")
    courier = commitment.provide(ae, lambda instances: [gate.wait(PATIENCE), ["1.2.1"]][1])
    commitment.User(me, on_result=lambda uid, result: reports.append(result))
    side = Side("blocking")
    with side.serve(ae) as port, side.associate(port, PUSH, ae=me) as association:
        for instances in ((ONE,), (ONE,), (ONE, TWO)):
            assert association.n_action(PUSH, WELL_KNOWN, 1, request_of("1.9", *instances)).status == 0
        gate.set()
        association.listen(PATIENCE, until=lambda: len(reports) == 2)
        assert courier.settled(PATIENCE)
        assert reports == [Result(frozenset((ONE,))), Result(failed={ONE: 0x0131, TWO: 0x0131})]
        # Once it is reported the UID is free again (PS3.4 J.3.3.1.2).
        assert association.n_action(PUSH, WELL_KNOWN, 1, request_of("1.9", TWO)).status == 0
        association.listen(PATIENCE, until=lambda: len(reports) == 3)
        assert reports[2] == Result(failed={TWO: 0x0112})
    assert courier.settled(PATIENCE)


@pytest.mark.parametrize(("error", "reason"), [(dicomnet.StatusError(0x0213), 0x0213), (ZeroDivisionError(), 0x0110)])
def test_a_verification_that_fails_is_reported(running: Any, error: Exception, reason: int) -> None:
    """PS3.4 J.3.3.1.2: with the reason, for each instance."""
    association, store, reports = running

    class Failing:
        def __iter__(self) -> Iterator[str]:
            raise error

    store.stored = Failing()
    assert association.n_action(PUSH, WELL_KNOWN, 1, request_of("1.9", ONE, TWO)).status == 0
    association.listen(PATIENCE, until=lambda: reports)
    assert reports == [("1.9", Result(failed={ONE: reason, TWO: reason}))]
    assert store.courier.settled(PATIENCE)


def test_who_has_too_much_to_report_says_so(running: Any) -> None:
    """PS3.7 10.1.4.1.10: 0213H."""
    association, store, _ = running
    store.courier.close()
    assert association.n_action(PUSH, WELL_KNOWN, 1, request_of("1.9", ONE)).status == 0x0213


def test_a_requestor_without_address_is_given_up(me: dicomnet.AE, caplog: pytest.LogCaptureFixture) -> None:
    """There is nobody to tell; the log has it, and the Transaction UID is free again."""
    store = Store(ONE, same_association=False)
    side = Side("blocking")
    with side.serve(store.ae) as port, side.associate(port, PUSH) as association:
        for count in (1, 2):
            assert association.n_action(PUSH, WELL_KNOWN, 1, request_of("1.9", ONE)).status == 0
            eventually(lambda count=count: len(store.asked) == count, "it is verified")
            assert store.courier.settled(PATIENCE)
    assert "no address is known for 'DICOMNET'" in caplog.text


# --- the user's rules -----------------------------------------------------------------------------------------------


def test_reports_that_nobody_waits_for_are_refused(me: dicomnet.AE) -> None:
    """PS3.7 10.1.1.1.8: unless the program wants to hear of all."""
    commitment.User(me)
    side = Side("blocking")
    roles = {PUSH: (False, True)}
    with side.serve(me) as port, side.associate(port, PUSH, roles=roles) as association:
        unknown = association.n_event_report(PUSH, WELL_KNOWN, 1, request_of("1.9", ONE))
        assert (unknown.status, unknown.error_comment) == (0x0115, "unknown Transaction UID")
        assert association.n_event_report(PUSH, WELL_KNOWN, 3, request_of("1.9", ONE)).status == 0x0113
        assert association.n_event_report(PUSH, WELL_KNOWN, 1, None).status == 0x0115


def test_a_request_needs_instances(me: dicomnet.AE) -> None:
    """PS3.4 Table J.3-1: one or more items."""
    store, requests = Store(), commitment.User(me)
    side = Side("blocking")
    with (
        side.serve(store.ae) as port,
        side.associate(port, PUSH) as association,
        pytest.raises(ValueError, match="no instances"),
    ):
        requests.request(association, [])


def test_a_request_that_is_refused_is_forgotten(me: dicomnet.AE) -> None:
    """The error is the caller's to handle."""
    ae, requests = dicomnet.AE("SCP", contexts=[PUSH]), commitment.User(me)
    ae.on_n_action(lambda request: 0x0213)
    side = Side("blocking")
    with side.serve(ae) as port, side.associate(port, PUSH) as association:
        assert status_of(lambda: requests.request(association, [ONE])) == 0x0213
    assert not requests._transactions
