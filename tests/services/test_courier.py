"""Notifications are delivered in order, again if they fail, and never hold up those for others."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

import pytest

import dicomnet
from dicomnet.services import courier
from dicomnet.services.courier import Courier, address
from tests.services.conftest import PATIENCE


def failing(times: int, done: list[Any], error: Exception | None = None) -> Callable[[], None]:
    """A letter that fails so many times, and then is delivered."""
    left = [times]

    def deliver() -> None:
        if left[0]:
            left[0] -= 1
            raise error or dicomnet.TransportError("nobody there")
        done.append(times)

    return deliver


def quick(**options: Any) -> Courier:
    return Courier("test", **{"first_delay": 0.001, "longest_delay": 0.01, **options})


def test_letters_to_one_addressee_come_in_order() -> None:
    """Also when the first has to be tried again."""
    done: list[Any] = []
    it = quick()
    for times in (3, 0, 1, 0):
        assert it.post("A", failing(times, done))
    assert it.settled(PATIENCE)
    assert done == [3, 0, 1, 0]
    assert it.waiting("A") == 0


def test_one_who_cannot_be_reached_holds_up_nobody_else() -> None:
    """Each addressee has a queue."""
    stuck, done = threading.Event(), threading.Event()
    it = quick(workers=2)
    it.post("A", lambda: [None, stuck.wait(PATIENCE)][0])
    it.post("A", lambda: None)
    it.post("B", done.set)
    assert done.wait(PATIENCE)
    assert it.waiting("A") == 2
    stuck.set()
    assert it.settled(PATIENCE)


@pytest.mark.parametrize(
    ("error", "tries"),
    [
        (dicomnet.TransportError("gone"), 4),
        (OSError("gone"), 4),
        (TimeoutError(), 4),
        (dicomnet.StatusError(0x0110), 1),  # an answer, and it will be the same
        (LookupError("no address"), 1),
    ],
)
def test_a_letter_is_given_up_in_the_end(error: Exception, tries: int, caplog: pytest.LogCaptureFixture) -> None:
    """And that is logged; the next one goes out."""
    done: list[Any] = []
    over = threading.Event()
    it = quick(attempts=4)
    it.post("A", failing(tries - 1 if tries == 4 else 1, [], error), over.set)
    it.post("A", failing(9, done, error))
    it.post("A", failing(0, done))
    with caplog.at_level(logging.WARNING, logger="dicomnet"):
        assert it.settled(PATIENCE)
    assert over.is_set()
    assert done == [0]
    assert len([record for record in caplog.records if "given up" in record.message]) == (1 if tries == 4 else 2)


def test_what_follows_a_letter_may_fail(caplog: pytest.LogCaptureFixture) -> None:
    """It is logged, and the courier goes on."""
    done: list[Any] = []
    it = quick()
    it.post("A", failing(0, done), lambda: [][0])
    it.post("A", failing(0, done))
    assert it.settled(PATIENCE)
    assert done == [0, 0]


def test_there_is_an_end_to_what_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer that asks for more than can be delivered is told so."""
    monkeypatch.setattr(courier, "MOST_WAITING", 2)
    gate = threading.Event()
    it = quick()
    for addressee in ("A", "B"):
        assert it.post(addressee, lambda: [None, gate.wait(PATIENCE)][0])
    assert it.full
    assert not it.post("C", gate.set)
    gate.set()
    assert it.settled(PATIENCE)
    assert not it.full


def test_closing_drops_what_waits() -> None:
    """What is being delivered comes to its end, but not again."""
    started, gate, done = threading.Event(), threading.Event(), []
    it = quick()

    def slow() -> None:
        started.set()
        gate.wait(PATIENCE)
        raise dicomnet.TransportError("again")

    it.post("A", slow)
    it.post("A", lambda: done.append(1))
    assert started.wait(PATIENCE)
    it.close()
    assert it.full
    assert not it.post("A", gate.set)
    gate.set()
    assert it.settled(PATIENCE)
    assert not done


def test_it_is_not_settled_while_something_waits() -> None:
    """For a time that is given."""
    gate = threading.Event()
    it = quick()
    it.post("A", lambda: [None, gate.wait(PATIENCE)][0])
    assert not it.settled(0.01)
    gate.set()
    assert it.settled(PATIENCE)


def test_a_line_that_never_opens_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """The association has ended before the request was answered: a TimeoutError, after which others are tried."""
    monkeypatch.setattr(courier, "_OPENING", 0.01)
    line = courier.Line(object())
    with pytest.raises(TimeoutError):
        line.call(lambda scu: scu, 1.0)
    line.open()
    assert line.call(lambda scu: 5, 1.0) == 5


def test_addresses_come_from_a_mapping_or_a_function() -> None:
    """As text or as a Peer."""
    peer = dicomnet.Peer("A", "localhost", 104)
    assert address({"A": "A@localhost"}, "A") == peer
    assert address(lambda title: peer if title == "A" else None, "A") == peer
    assert address(lambda title: None, "A") is None
    assert address({}, "A") is None
    assert address(None, "A") is None
