"""Who is let in, and what is counted and said of it: no socket, no thread."""

from __future__ import annotations

import logging
from typing import Any

import pytest

import dicomnet
from dicomnet import AE, AssociationAborted, AssociationRejected, Limits, Reject, TransportError
from dicomnet.admission import Admission, Guest
from dicomnet.ul.pdu import APPLICATION_CONTEXT, AssociateRq, UserInformation

FULL = (2, 3, 2)  # transient, service provider (presentation), local limit exceeded


def admission(**options: Any) -> Admission:
    return Admission(dicomnet.AE("SCP", **options))


def rq(calling: str = "SCU", called: str = "SCP", application_context: str = APPLICATION_CONTEXT) -> AssociateRq:
    return AssociateRq(
        called_ae=called,
        calling_ae=calling,
        application_context=application_context,
        contexts=(),
        user=UserInformation(max_length=0),
    )


def arrives(door: Admission, address: str = "10.0.0.1") -> Guest:
    guest = door.enter((address, 1040))
    assert guest is not None
    return guest


def refusal(guest: Guest, request: AssociateRq | None = None) -> tuple[int, int, int] | None:
    reject = guest.admit(guest.describe(request or rq()))
    return None if reject is None else (reject.result, reject.source, reject.reason)


def admitted(door: Admission, calling: str = "SCU", address: str = "10.0.0.1") -> Guest:
    guest = arrives(door, address)
    assert refusal(guest, rq(calling)) is None
    return guest


# --- addresses ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("networks", "inside", "outside"),
    [
        (["192.0.2.0/24"], ["192.0.2.1", "::ffff:192.0.2.255"], ["192.0.3.1", "::ffff:192.0.3.1", "::c000:201"]),
        (["2001:db8::/32", "10.0.0.7"], ["2001:db8:1::2", "10.0.0.7", "2001:db8::1%eth0"], ["10.0.0.8", "2001:db9::"]),
        (["::ffff:192.0.2.0/120"], ["192.0.2.9", "::ffff:192.0.2.9"], ["192.0.3.9"]),
        (["::/0"], ["2001:db8::1"], ["192.0.2.1"]),
        ([], [], ["127.0.0.1", "::1", "somewhere"]),
    ],
)
def test_connections_from_elsewhere_are_closed(
    networks: list[str], inside: list[str], outside: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    """PS3.8 9.1.2; IPv4 addresses may come in the dress of IPv6."""
    told: list[Any] = []
    door = admission(accept_from=networks)
    door.ae.on_refusal(lambda *what: told.append(what))
    for address in inside:
        assert refusal(arrives(door, address)) is None
    for address in outside:
        assert door.enter((address, 1040)) is None
        assert f"{address}:1040: closed" in caplog.text
    assert told == [((address, 1040), None) for address in outside]


def test_who_was_refused_is_told_with_the_reason_and_a_handler_that_fails_changes_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    told: list[Any] = []
    door = admission(accept_calling=["CT1"])

    def note(address: tuple[str, int], refusal: Reject | None) -> None:
        told.append((address, str(refusal)))
        raise ValueError("no more of this")

    door.ae.on_refusal(note)
    with arrives(door, "192.0.2.1") as guest:
        assert refusal(guest, rq("CT2")) == (1, 1, 3)
        guest.tell_end(AssociationRejected(1, 1, 3), requested=True)
    ((address, why),) = told
    assert address[0] == "192.0.2.1"
    assert "(1/1/3)" in why
    assert "on_refusal failed" in caplog.text


def test_associations_are_counted_from_their_admission_to_their_end() -> None:
    door = admission()
    with admitted(door), arrives(door):
        assert door.associations == 1
    assert door.associations == 0


def test_a_refusal_is_told_to_a_plain_function_alone() -> None:
    async def note(*_what: object) -> None: ...

    with pytest.raises(TypeError, match="plain function"):
        AE("STORE").on_refusal(note)


@pytest.mark.parametrize("wrong", ["192.0.2.7/24", "somewhere", "192.0.2.0/33", ""])
def test_what_is_no_network_is_refused(wrong: str) -> None:
    with pytest.raises(ValueError, match=r"192\.0\.2\.0/24"):
        admission(accept_from=[wrong])


# --- limits ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limits", "other"),
    [
        pytest.param(Limits(associations=2), ("B", "10.0.0.2"), id="associations"),
        pytest.param(Limits(associations_per_ae_title=2), ("A", "10.0.0.2"), id="of one AE title"),
        pytest.param(Limits(associations_per_address=2), ("B", "10.0.0.1"), id="from one address"),
    ],
)
def test_past_a_limit_a_request_is_refused_for_now(limits: Limits, other: tuple[str, str]) -> None:
    """PS3.8 Table 9-21, 2/3/2; who leaves makes room."""
    door = admission(limits=limits)
    first = admitted(door, "A", "10.0.0.1")
    admitted(door, "A", "10.0.0.1")
    title, address = other
    assert refusal(arrives(door, address), rq(title)) == FULL
    first.leave()
    assert refusal(arrives(door, address), rq(title)) is None


def test_a_limit_counts_only_what_it_is_about() -> None:
    """One modality does not lock the others out."""
    door = admission(limits=Limits(associations_per_ae_title=1, associations_per_address=1))
    admitted(door, "A", "10.0.0.1")
    assert refusal(arrives(door, "10.0.0.2"), rq("B")) is None


def test_leaving_twice_gives_back_once() -> None:
    """What was taken once."""
    door = admission(max_associations=1)
    guest = admitted(door)
    guest.leave()
    guest.leave()
    admitted(door)
    assert refusal(arrives(door)) == FULL


def test_what_the_ae_refuses_takes_no_place() -> None:
    """PS3.8 Table 9-21, 1/1/3: its reason goes before the limits'."""
    door = admission(accept_calling=["FRIEND"], max_associations=1)
    guest = arrives(door)
    assert refusal(guest, rq("FOE")) == (1, 1, 3)
    assert refusal(arrives(door), rq("FRIEND")) is None
    guest.leave()
    assert refusal(arrives(door), rq("FRIEND")) == FULL


def test_connections_that_wait_are_limited(caplog: pytest.LogCaptureFixture) -> None:
    """Limits.pending: past it a request is refused soon, past twice as many the connection is only closed."""
    door = admission(limits=Limits(pending=2))
    guests = [arrives(door) for _ in range(4)]
    assert [guest.crowded for guest in guests] == [False, False, True, True]
    assert [guest.timeouts.artim for guest in guests] == [30.0, 30.0, 1.0, 1.0]
    assert refusal(guests[2]) == FULL
    assert door.enter(("10.0.0.9", 5)) is None
    assert "10.0.0.9:5: closed: too many connections wait for an association" in caplog.text
    for guest in guests:
        guest.leave()
    assert not arrives(door).crowded


def test_associations_do_not_count_as_waiting() -> None:
    """They have limits of their own."""
    door = admission(limits=Limits(pending=1))
    admitted(door)
    guest = admitted(door)
    assert not guest.crowded


def test_nobody_is_admitted_while_the_server_closes() -> None:
    """2/3/2: the peer may try again, and find another server."""
    door = admission()
    guest = arrives(door)
    door.closing = True
    assert refusal(guest) == FULL


def test_a_server_that_is_alone_leaves_no_connection_to_others() -> None:
    """``defer`` is for workers."""
    door = admission()
    admitted(door)
    assert not door.defer()


# --- what handlers see ----------------------------------------------------------------------------------------------


def test_a_guest_tells_handlers_who_it_is() -> None:
    """AE titles, address, request and certificate; from then on log lines have the titles, too."""
    guest = arrives(admission(), "10.0.0.7")
    assert guest.name == "10.0.0.7:1040"
    association = guest.describe(rq("CT1", "STORE"), {"subject": ()})
    assert (association.calling_ae, association.called_ae) == ("CT1", "STORE")
    assert association.address == ("10.0.0.7", 1040)
    assert association.certificate == {"subject": ()}
    assert guest.name == "10.0.0.7:1040 'CT1' to 'STORE'"


def test_a_guest_has_the_handlers_of_the_application_entity() -> None:
    """And its answers."""
    ae = dicomnet.AE("SCP")
    guest = arrives(Admission(ae))

    @ae.on_c_echo
    def echo(request: Any) -> int:
        return 0

    assert guest.handler("c_echo") is echo
    assert guest.handler("c_store") is None
    assert guest.answer(rq()).called_ae == "SCP"


# --- the log --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "requested", "line"),
    [
        (None, True, "INFO 10.0.0.1:1040: released"),
        (None, False, "INFO 10.0.0.1:1040: closed before it requested an association"),
        (AssociationAborted(0, 0), True, "WARNING 10.0.0.1:1040: "),
        (AssociationRejected(2, 3, 2), True, ""),  # said when it was refused
    ],
)
def test_one_line_tells_how_a_connection_ended(
    error: Exception | None, requested: bool, line: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Warnings are what somebody may want to look into."""
    caplog.set_level(logging.INFO, logger="dicomnet")
    arrives(admission()).tell_end(error, requested=requested)
    lines = [f"{record.levelname} {record.getMessage()}" for record in caplog.records]
    assert len(lines) == bool(line)
    assert not line or lines[0].startswith(line)


def test_an_error_ends_one_guest_alone(caplog: pytest.LogCaptureFixture) -> None:
    """It goes to the log, with a traceback if it is not the network's; the place is given back."""
    door = admission(max_associations=1)
    with admitted(door):
        raise TransportError("the handshake failed")
    with admitted(door):
        raise KeyError("a bug")
    with admitted(door):
        pass
    assert [(record.getMessage().partition(": ")[2], bool(record.exc_info)) for record in caplog.records] == [
        ("the handshake failed", False),
        ("the association ended by an error of the server", True),
    ]


def test_what_ends_the_program_is_not_caught() -> None:
    """KeyboardInterrupt, or the cancelling of a task: the place is given back all the same."""
    door = admission(max_associations=1)
    with pytest.raises(KeyboardInterrupt), admitted(door):
        raise KeyboardInterrupt
    admitted(door)
