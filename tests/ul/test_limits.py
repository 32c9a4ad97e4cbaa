"""Time limits (§3 of the list, N-02, N-04, N-05): absolute deadlines; nothing that a peer sends extends one."""

from collections.abc import Callable, Iterator

import pytest
from hypothesis import given, strategies as st

from dicomnet.config import Timeouts
from dicomnet.ul import events, pdu
from dicomnet.ul.events import TimerExpired
from dicomnet.ul.pdu import Abort, PDataTf, Pdv
from tests.ul.dialogue import (
    ABORT,
    AC,
    ACCEPTED,
    P_DATA,
    RELEASE_COLLIDED,
    RELEASE_CONFIRMED,
    RELEASE_REQUESTED,
    RELEASE_RP,
    RELEASE_RQ,
    REQUESTED,
    RJ,
    RQ,
    Dialogue,
    acceptor,
    connected,
    established,
    in_state,
    requesting,
    requestor,
)

ROLES = ["requestor", "acceptor"]
NEVER = Timeouts(artim=None, pdu=None, associate=None, release=None, closing=None)
A_DAY = 86_400.0


def drip(it: Dialogue, data: bytes, seconds: float, *, every: float = 0.9) -> Iterator[int]:
    """The peer sends ``data`` byte by byte; the numbers of bytes sent, while ``seconds`` last."""
    end = it.now + seconds
    for at in range(len(data)):
        if it.now + every >= end:
            it.waits(end - it.now)
            return
        it.waits(every)
        it.receives(data[at : at + 1])
        yield at + 1


# --- ARTIM ----------------------------------------------------------------------------------------------------------


def test_a_connection_that_requests_nothing_is_closed() -> None:
    """N-02: ARTIM runs from accept on, and just closes: no abort."""
    it = connected()
    assert it.association.deadline == it.now + 30.0
    it.waits(29.9).keeps_quiet().stays_open()
    it.waits(0.1).sends().tells(TimerExpired("artim")).closes()


def test_artim_is_configurable() -> None:
    """N-04: longer, shorter, off."""
    connected(timeouts=Timeouts(artim=5.0)).waits(4.9).stays_open().waits(0.1).closes()
    connected(timeouts=Timeouts(artim=None)).waits(A_DAY).keeps_quiet().stays_open().receives(RQ).tells(REQUESTED)


def test_a_dripping_request_does_not_extend_artim() -> None:
    """N-02, §3, N6: absolute."""
    it = connected()
    for _ in drip(it, pdu.encode(RQ), 30.0):
        it.stays_open()
    it.sends().tells(TimerExpired("artim")).closes()


@pytest.mark.parametrize("role", ROLES)
def test_artim_does_not_watch_the_users_own_waits(role: str) -> None:
    """N-05: to accept, to respond to a release, to be idle: each takes what it takes."""
    connected().receives(RQ).waits(A_DAY).sends().tells(REQUESTED).is_in(3).accepts().sends(AC)
    established(role).waits(A_DAY).keeps_quiet().is_in(6)
    established(role).receives(RELEASE_RQ).waits(A_DAY).sends().tells(RELEASE_REQUESTED).is_in(8)
    in_state("acceptor", 12).waits(A_DAY).keeps_quiet().is_in(12)
    requestor().associates().waits(A_DAY).keeps_quiet().is_in(4)  # the connect timer is the transport's


# --- the user's waits -----------------------------------------------------------------------------------------------


def test_a_request_that_nobody_answers_is_given_up() -> None:
    """§3, N-05: associate; the user is told which timer, the peer gets 0/0 and may close."""
    it = requesting()
    it.waits(29.9).keeps_quiet()
    it.waits(0.1).sends(ABORT).tells(TimerExpired("associate")).is_in(13)
    it.waits(2.0).sends().tells(TimerExpired("closing")).closes()


def test_a_dripping_answer_does_not_extend_the_wait() -> None:
    """§3: absolute."""
    it = requesting()
    for _ in drip(it, pdu.encode(AC), 30.0):
        it.is_in(5)
    it.sends(ABORT).tells(TimerExpired("associate"))


def test_an_answer_in_time_ends_the_wait() -> None:
    """§3: to the last moment, and without a trace."""
    it = requesting().waits(29.9).receives(AC).tells(ACCEPTED)
    assert it.association.deadline is None


@pytest.mark.parametrize("role", ROLES)
def test_a_release_that_nobody_answers_is_given_up(role: str) -> None:
    """§3: release; data that still come (AR-6) do not extend it."""
    it = established(role).releases().sends(RELEASE_RQ)
    for _ in drip(it, pdu.encode(P_DATA) * 20, 10.0):
        it.is_in(7)
    it.sends(ABORT)
    assert TimerExpired("release") in it.association.events()


def test_a_requestor_whose_collision_is_never_resolved_gives_up() -> None:
    """AR-8, AR-9: the peer asks for the release, too, and then never answers."""
    it = established("requestor").releases().sends(RELEASE_RQ).waits(5.0)
    it.receives(RELEASE_RQ).tells(RELEASE_COLLIDED).responds_to_release().sends(RELEASE_RP).is_in(11)
    it.waits(9.9).keeps_quiet().is_in(11)
    it.waits(0.1).sends(ABORT).tells(TimerExpired("release")).is_in(13)
    it.waits(2.0).closes()


def test_an_acceptor_whose_collision_is_never_resolved_gives_up() -> None:
    """AR-8: the same, from the other side."""
    it = established("acceptor").releases().sends(RELEASE_RQ).waits(5.0)
    it.receives(RELEASE_RQ).tells(RELEASE_COLLIDED).is_in(10)
    it.waits(9.9).keeps_quiet().is_in(10)
    it.waits(0.1).sends(ABORT).tells(TimerExpired("release")).is_in(13)
    it.waits(2.0).closes()


@pytest.mark.parametrize("state", [("requestor", 9), ("acceptor", 10), ("requestor", 11)])
def test_a_dripping_response_does_not_extend_a_collision(state: tuple[str, int]) -> None:
    """§3: absolute."""
    it = in_state(*state)
    for _ in drip(it, pdu.encode(P_DATA), 10.0):
        it.is_in(state[1])
    it.sends(ABORT).tells(TimerExpired("release"))


# --- PDU completion -------------------------------------------------------------------------------------------------

LONG = PDataTf((Pdv(1, False, False, bytes(200)),))


@pytest.mark.parametrize(
    "state", [("requestor", 6), ("acceptor", 6), ("acceptor", 3), ("requestor", 8), ("acceptor", 8)]
)
@pytest.mark.parametrize("value", [LONG, RQ], ids=["data", "request"])
def test_a_pdu_that_does_not_end_is_given_up(state: tuple[str, int], value: pdu.Pdu) -> None:
    """§3: 60 s from its first byte to its last; other provider fault 2/0."""
    it = in_state(*state).receives(pdu.encode(value)[:1]).waits(59.9).keeps_quiet()
    it.waits(0.1).sends(Abort(2, 0)).tells(TimerExpired("pdu")).is_in(13)
    it.waits(2.0).sends().tells(TimerExpired("closing")).closes()


def test_a_dripping_pdu_is_given_up() -> None:
    """§3, N6: absolute: bytes that drip in do not extend it."""
    it = established("acceptor")
    it.receives(pdu.encode(LONG)[:1])
    begun = it.now
    for _ in drip(it, pdu.encode(LONG)[1:], 60.0):
        it.is_in(6)
    assert it.now == begun + 60.0
    it.sends(Abort(2, 0))
    assert it.association.events()[-1] == TimerExpired("pdu")


def test_each_pdu_has_its_own_time() -> None:
    """§3: a peer whose segments never end where its PDUs do is not a slow one."""
    it = established("acceptor")
    stream = pdu.encode(LONG) * 12
    for at in range(0, len(stream), 101):
        it.waits(19.0).receives(stream[at : at + 101])
        assert it.association.deadline is None or it.association.deadline > it.now
    assert sum(len(event.data) for event in it.association.events()) == 12 * 200
    it.keeps_quiet().is_in(6)


@given(
    st.lists(st.integers(1, 300), min_size=1, max_size=30), st.lists(st.floats(0.0, 100.0), min_size=30, max_size=30)
)
def test_the_time_of_a_pdu_is_counted_from_its_first_byte(sizes: list[int], pauses: list[float]) -> None:
    """§3: whatever the segments are, the deadline is 60 s past the segment that began the PDU under way."""
    it = established("acceptor")
    one = len(pdu.encode(LONG))
    stream = pdu.encode(LONG) * (sum(sizes) // one + 1)
    position, begun = 0, {}
    for size, pause in zip(sizes, pauses, strict=False):
        it.now += pause  # nobody looks at the clock meanwhile: what has come in time may be read late
        it.receives(stream[position : position + size])
        position += size
        under_way = position % one != 0
        if under_way:
            begun.setdefault(position // one, it.now)
        assert it.association.deadline == (begun[position // one] + 60.0 if under_way else None)


def test_a_pdu_gets_its_time_anew_if_it_was_us_who_did_not_read() -> None:
    """§3: a handler that takes minutes does not cost an innocent peer its association; one that drips gains nothing."""
    it = established("acceptor").receives(pdu.encode(LONG)[:100]).after()
    it.now += 300.0
    it.association.was_busy(it.now)
    it.waits(59.9).keeps_quiet().waits(0.2)
    it.sends(Abort(2, 0)).tells(TimerExpired("pdu"))


def test_being_busy_means_nothing_between_pdus() -> None:
    """§3: there is nothing to wait for."""
    it = established("acceptor")
    it.association.was_busy(it.now)
    assert it.association.deadline is None


def test_a_pdu_in_time_leaves_no_trace() -> None:
    """§3: its deadline goes with it."""
    data = pdu.encode(LONG)
    it = established("acceptor").receives(data[:100]).waits(59.9).receives(data[100:]).after()
    assert it.association.deadline is None
    it.waits(A_DAY).keeps_quiet().is_in(6)


@pytest.mark.parametrize("artim", [90.0, None])
def test_a_request_that_does_not_end_is_given_up_although_artim_would_wait(artim: float | None) -> None:
    """§3: there is nothing yet to abort, so it closes as ARTIM would."""
    it = connected(timeouts=Timeouts(artim=artim))
    for _ in drip(it, pdu.encode(RQ), 60.9):
        it.stays_open()
    it.sends().tells(TimerExpired("pdu")).closes()


# --- closing --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "ending",
    [
        lambda it: connected().receives(RQ).rejects(),
        lambda it: connected().receives(b"GET / HTTP/1.1"),
        lambda it: it.aborts(),
        lambda it: it.receives(RELEASE_RQ).responds_to_release(),
        lambda it: it.receives(RQ),
    ],
    ids=["rejected", "not DICOM", "aborted", "released", "peer failed"],
)
def test_after_the_last_pdu_a_connection_does_not_linger(ending: Callable[[Dialogue], Dialogue]) -> None:
    """N-03, ARTIM in state 13: the peer closes, or else we do."""
    it = ending(established("acceptor")).after().is_in(13)
    it.waits(1.9).keeps_quiet().stays_open()
    it.waits(0.1).sends().tells(TimerExpired("closing")).closes()


def test_a_peer_that_goes_on_sending_does_not_extend_the_end() -> None:
    """§3: absolute; what it sends is ignored, or (a request) aborted again, AA-6 and AA-7."""
    it = established("acceptor").aborts().after()
    for value in (P_DATA, RQ, RELEASE_RQ, AC, RJ, RELEASE_RP, RQ):
        it.waits(0.25).receives(value)
    it.sends(Abort(2, 2), Abort(2, 2)).tells().stays_open()
    it.waits(0.25).sends().tells(TimerExpired("closing")).closes()


def test_half_a_pdu_at_the_end_has_no_time_of_its_own() -> None:
    """State 13: nothing more is expected, so nothing is waited for but the close."""
    it = established("acceptor", timeouts=Timeouts(pdu=1.0)).receives(pdu.encode(LONG)[:50]).aborts().after()
    it.receives(pdu.encode(LONG)[50:60])
    assert it.association.deadline == it.now + 2.0
    it.waits(2.0).tells(TimerExpired("closing")).closes()


@pytest.mark.parametrize(
    ("begin", "act", "seconds"),
    [
        (acceptor, Dialogue.opens, 30.0),
        (lambda: requestor().associates(), Dialogue.opens, 30.0),
        (connected, lambda it: it.receives(b"GET / HTTP/1.1"), 2.0),
        (lambda: connected().receives(RQ), Dialogue.rejects, 2.0),
        (lambda: established("acceptor"), lambda it: it.receives(b"\4"), 60.0),
        (lambda: established("acceptor"), Dialogue.releases, 10.0),
        (lambda: established("acceptor"), Dialogue.aborts, 2.0),
        (lambda: established("acceptor"), lambda it: it.association.fail("wrong", it.now), 2.0),
        (lambda: established("acceptor").receives(RELEASE_RQ), Dialogue.responds_to_release, 2.0),
        (lambda: established("requestor").releases(), lambda it: it.receives(RELEASE_RQ), 10.0),
    ],
    ids=["ARTIM", "associate", "bad", "reject", "pdu", "release", "abort", "fail", "respond", "collision"],
)
def test_a_limit_counts_from_what_begins_it(
    begin: Callable[[], Dialogue], act: Callable[[Dialogue], object], seconds: float
) -> None:
    """The core's verbs: time is an argument; there is no other clock."""
    it = begin()
    it.now += 7.0
    act(it)
    assert it.association.deadline == it.now + seconds


# --- all of them ----------------------------------------------------------------------------------------------------


def test_each_limit_can_be_switched_off() -> None:
    """config.Timeouts: None."""
    half = pdu.encode(RQ)[:20]
    connected(timeouts=NEVER).receives(half).waits(A_DAY).keeps_quiet().is_in(2)
    requesting(timeouts=NEVER).receives(pdu.encode(AC)[:20]).waits(A_DAY).keeps_quiet().is_in(5)
    established("acceptor", timeouts=NEVER).receives(half).waits(A_DAY).keeps_quiet().is_in(6)
    it = established("requestor", timeouts=NEVER).releases().after().waits(A_DAY).keeps_quiet().is_in(7)
    it.receives(RELEASE_RQ).tells(RELEASE_COLLIDED).waits(A_DAY).keeps_quiet().is_in(9)
    it.aborts().sends(ABORT).waits(A_DAY).keeps_quiet().is_in(13)
    it.loses_its_peer().closes()


def test_the_deadline_is_the_earliest_of_all() -> None:
    """The core's verbs: when handle_timer is to be called at the latest."""
    it = acceptor()
    assert it.association.deadline is None
    it.opens()
    begun = it.now
    assert it.association.deadline == begun + 30.0
    it.waits(10.0).receives(pdu.encode(RQ)[:20])
    assert it.association.deadline == begun + 30.0  # not 70, when the PDU must be there
    it.receives(pdu.encode(RQ)[20:]).accepts().releases()
    assert it.association.deadline == it.now + 10.0
    it.receives(pdu.encode(LONG)[:20])
    assert it.association.deadline == it.now + 10.0
    it.receives(pdu.encode(LONG)[20:], RELEASE_RP)
    it.closes()


def test_the_earlier_of_two_limits_counts() -> None:
    """§3: also if the clock is looked at too late for both."""
    times = Timeouts(pdu=5.0, release=10.0)
    it = established("acceptor", timeouts=times).releases().receives(b"\4").after()
    it.waits(5.0).sends(Abort(2, 0)).tells(TimerExpired("pdu"))

    it = established("acceptor", timeouts=times).releases().receives(b"\4").after()
    it.association.handle_timer(it.now + A_DAY)
    it.sends(ABORT).tells(TimerExpired("release"))


@pytest.mark.parametrize(
    ("begin", "flood", "last"),
    [
        (lambda: connected(), pdu.encode(RQ)[:1], TimerExpired("artim")),
        (lambda: requesting(), pdu.encode(AC)[:1], TimerExpired("associate")),
        (lambda: established("requestor").releases(), pdu.encode(P_DATA), TimerExpired("release")),
        (lambda: established("requestor").aborts(), pdu.encode(P_DATA), TimerExpired("closing")),
    ],
    ids=["artim", "associate", "release", "closing"],
)
def test_a_flood_does_not_keep_the_clock_from_being_looked_at(
    begin: Callable[[], Dialogue], flood: bytes, last: TimerExpired
) -> None:
    """§3: absolute, although there is always something to read and so nobody calls handle_timer."""
    it = begin().after()
    limit = it.association.deadline
    it.now = limit - 0.1
    it.receives(flood).stays_open()
    assert last not in it.association.events()
    it.now = limit
    it.receives(flood)
    assert it.association.events()[-1] == last
    assert it.association.state in (1, 13)


def test_what_came_in_time_and_is_read_late_counts() -> None:
    """§3: a limit is on the peer, not on how soon its bytes are read."""
    it = connected()
    it.now += 31.0
    it.receives(RQ).tells(REQUESTED).is_in(3)
    it = requesting()
    it.now += 31.0
    it.receives(AC).tells(ACCEPTED).is_in(6)
    it = established("requestor").releases().after()
    it.now += 11.0
    it.receives(RELEASE_RP).tells(RELEASE_CONFIRMED).closes()


def test_time_alone_does_nothing_else() -> None:
    """The core's verbs: early calls do nothing."""
    it = established("acceptor").releases().after()
    for _ in range(3):
        it.association.handle_timer(it.now)
    it.keeps_quiet().is_in(7)
    it.receives(RELEASE_RP).tells(RELEASE_CONFIRMED).waits(A_DAY).keeps_quiet()


def test_a_peer_that_vanishes_leaves_no_deadline() -> None:
    """N9: whatever ran ends with the connection."""
    for it in (connected(), requesting(), established("acceptor").releases(), established("requestor").receives(b"\4")):
        it.after().loses_its_peer().waits(A_DAY).closes()
        assert it.association.events() in ([], [events.TransportClosed()])
