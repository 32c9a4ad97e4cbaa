"""Our requestor against servers that break the rules (§4): it is told what is wrong, and nothing hangs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import dicomnet
from dicomnet import AssociationAborted, DeadlineExceeded, RemoteProtocolError, TransportError
from dicomnet.dimse.messages import CommandField, Request, Response
from dicomnet.ul import pdu
from tests.faces.conftest import ct, quick
from tests.faces.face import Face
from tests.faces.wire import (
    ABORT,
    AC,
    OFFER,
    RELEASE_RP,
    RELEASE_RQ,
    RJ,
    RQ,
    Scripted,
    Wire,
    echo_rq,
    echo_rsp,
    encoded,
    header,
    message,
    p_data,
    pdv,
)

INVALID, UNEXPECTED = (2, 6), (2, 2)


def answers(*parts: pdu.Pdu | bytes) -> tuple[Callable[[Wire], None], list[Any]]:
    """A script that accepts, hears one PDU and says ``parts``; and the list of what it hears afterwards."""
    heard: list[Any] = []

    def script(wire: Wire) -> None:
        wire.hears()
        wire.sends(AC)
        wire.hears()
        wire.sends(*parts)
        heard.extend(wire.hears_to_the_end())

    return script, heard


BAD_ANSWERS = {
    "garbage": (b"HTTP/1.1 400 Bad Request\r\n\r\n", (2, 1)),
    "a second acceptance": (AC, UNEXPECTED),
    "a rejection": (RJ, UNEXPECTED),
    "a request": (RQ, UNEXPECTED),
    "a release that nobody asked for": (RELEASE_RP, UNEXPECTED),
    "a release while a response is due": (RELEASE_RQ, INVALID),
    "a length that cannot be": (header(4, b"", 1 << 31), INVALID),
    "another context": (p_data(pdv(7, 3, bytes(20))), INVALID),
    "a command set of zeros": (p_data(pdv(1, 3, bytes(20))), INVALID),
    "a response to another request": (echo_rsp(99), INVALID),
    "a response of no service": (message(1, Response(0, command=0x0777, message_id=1)), INVALID),
    "a data set without a command": (p_data(pdv(1, 2, bytes(20))), INVALID),
}


@pytest.mark.parametrize("name", BAD_ANSWERS)
def test_answers_that_break_the_protocol(client: Face, name: str) -> None:
    """W2, W3, W4, P3, P6, P8, N-25: RemoteProtocolError here, A-ABORT there."""
    answer, abort = BAD_ANSWERS[name]
    script, heard = answers(answer)
    with Scripted(script) as server:
        association = client.associate(server.peer, contexts=OFFER)
        with pytest.raises(RemoteProtocolError):
            association.c_echo()
    assert [(value.source, value.reason) for value in heard] == [abort]


def test_a_flood_of_responses(client: Face) -> None:
    """P12: aborted at the first that nobody asked for; no hang however many follow."""

    def script(wire: Wire) -> None:
        wire.hears()
        wire.sends(AC)
        wire.hears()
        flood = b"".join(echo_rsp(number) for number in range(1, 2001))
        while wire.tries_to_send(flood):
            pass

    with Scripted(script) as server:
        association = client.associate(server.peer, contexts=OFFER, timeouts=quick())
        with pytest.raises(RemoteProtocolError):
            for _ in range(3):  # the first one may have been answered
                association.c_echo()


def test_a_flood_of_requests(client: Face) -> None:
    """P13: an SCU is no SCP: each gets 0211H, or the association ends; the limit for the response holds."""

    def script(wire: Wire) -> None:
        wire.hears()
        wire.sends(AC)
        wire.hears()
        wire.socket.settimeout(None)
        number = 0
        while wire.tries_to_send(echo_rq(number % 0xFFFF + 1)):
            number += 1
            if isinstance(wire.hears(), pdu.Abort):
                break

    with Scripted(script) as server:
        association = client.associate(server.peer, contexts=OFFER, timeouts=quick("response"))
        with pytest.raises((DeadlineExceeded, RemoteProtocolError)):
            association.c_echo()


def test_a_request_where_a_response_is_due(client: Face) -> None:
    """P11, N-24: answered with 0211H; then the response counts."""
    statuses: list[int] = []

    def script(wire: Wire) -> None:
        wire.hears()
        wire.sends(AC)
        wire.hears()
        wire.sends(echo_rq(5))
        statuses.append(wire.hears_message().status)
        wire.sends(echo_rsp())
        wire.hears()
        wire.sends(RELEASE_RP)

    with Scripted(script) as server, client.associate(server.peer, contexts=OFFER) as association:
        assert association.c_echo().status == 0
    assert statuses == [0x0211]


def test_a_cancel_where_a_response_is_due(client: Face) -> None:
    """P9: N-26: ignored."""

    def script(wire: Wire) -> None:
        wire.hears()
        wire.sends(AC)
        wire.hears()
        wire.sends(message(1, Request(CommandField.C_CANCEL, 1)), echo_rsp())
        wire.hears()
        wire.sends(RELEASE_RP)

    with Scripted(script) as server, client.associate(server.peer, contexts=OFFER) as association:
        assert association.c_echo().status == 0


def test_responses_one_byte_at_a_time(client: Face) -> None:
    """N3: throughout."""

    def script(wire: Wire) -> None:
        wire.hears()
        for part in (encoded(AC), None, echo_rsp(), None, encoded(RELEASE_RP)):
            if part is None:
                wire.hears()
                continue
            for byte in part:
                wire.sends(bytes((byte,)))

    with Scripted(script) as server, client.associate(server.peer, contexts=OFFER) as association:
        assert association.c_echo().status == 0


SPOKEN = encoded(AC) + echo_rsp() + encoded(RELEASE_RP)


@pytest.mark.parametrize("how", ["reset", "close"])
def test_a_server_that_goes_at_each_byte(client: Face, how: str) -> None:
    """N1, N2: TransportError, or what was said before it; never anything else."""
    offsets = iter(range(len(SPOKEN)))

    def script(wire: Wire) -> None:
        left = next(offsets)
        for part in (encoded(AC), echo_rsp(), encoded(RELEASE_RP)):
            wire.hears()
            wire.sends(part[:left])
            left -= len(part)
            if left < 0:
                break
        if how == "reset":
            wire.resets()

    with Scripted(script) as server:
        for _ in range(len(SPOKEN)):
            with pytest.raises(TransportError), client.associate(server.peer, contexts=OFFER) as association:
                association.c_echo()


def test_a_reset_at_each_kind_of_offset_in_a_store(client: Face) -> None:
    """N1: while this side sends."""
    sizes = iter((0, 1, 6, 12, 100, 5000, 100_000))

    def script(wire: Wire) -> None:
        wire.hears()
        wire.sends(AC)
        wire.reads(next(sizes))
        wire.resets()

    with Scripted(script) as server:
        for _ in range(7):
            with pytest.raises(TransportError), client.associate(server.peer, contexts=OFFER) as association:
                association.c_store(ct(bytes(4 << 20)))


def test_an_abort_at_each_kind_of_offset_in_a_store(client: Face) -> None:
    """PS3.8 7.3: AssociationAborted, although the connection broke while this side was writing."""
    sizes = iter((0, 1, 6, 12, 100, 5000, 100_000))

    def script(wire: Wire) -> None:
        wire.hears()
        wire.sends(AC)
        wire.reads(next(sizes))
        wire.sends(ABORT)  # and closed with all that was not read

    with Scripted(script) as server:
        for _ in range(7):
            with pytest.raises(AssociationAborted), client.associate(server.peer, contexts=OFFER) as association:
                association.c_store(ct(bytes(4 << 20)))


def test_a_server_that_stalls_at_each_kind_of_offset(client: Face) -> None:
    """N4: DeadlineExceeded: the time to be answered, for a PDU, or to respond."""
    offsets = [0, 3, 100, len(encoded(AC)), len(encoded(AC)) + 3, len(encoded(AC)) + 20, len(SPOKEN) - 10]
    timers = []

    def script(wire: Wire) -> None:
        left = waiting.pop(0)
        for part in (encoded(AC), echo_rsp(), encoded(RELEASE_RP)):
            wire.hears()
            wire.sends(part[:left])
            left = max(left - len(part), 0)
        wire.hears_to_the_end()

    waiting = list(offsets)
    with Scripted(script) as server:
        for _ in offsets:
            limits = quick("associate", "response", "release", pdu=0.2)
            with (
                pytest.raises(DeadlineExceeded) as caught,
                client.associate(server.peer, contexts=OFFER, timeouts=limits) as association,
            ):
                association.c_echo()
            timers.append(caught.value.timer)
    assert timers == ["associate", "pdu", "pdu", "response", "pdu", "pdu", "release"]


def test_a_release_collision(client: Face) -> None:
    """W13: AR-8, AR-9: both ask for the release; both get it."""
    heard = []

    def script(wire: Wire) -> None:
        wire.hears()
        wire.sends(AC)
        wire.hears()
        wire.sends(RELEASE_RQ)
        heard.append(wire.hears())
        wire.sends(RELEASE_RP)

    with Scripted(script) as server, client.associate(server.peer, contexts=OFFER):
        pass
    assert heard == [RELEASE_RP]


def test_a_release_collision_that_is_never_resolved(client: Face) -> None:
    """W13: the limit to release holds."""

    def script(wire: Wire) -> None:
        wire.hears()
        wire.sends(AC)
        wire.hears()
        wire.sends(RELEASE_RQ)
        wire.hears_to_the_end()

    with Scripted(script) as server:
        association = client.associate(server.peer, contexts=OFFER, timeouts=quick("release"))
        with pytest.raises(DeadlineExceeded) as caught:
            association.release()
    assert caught.value.timer == "release"


def test_a_server_that_releases_an_idle_association(client: Face) -> None:
    """PS3.8 7.2: either side may; the next call says that it has been released."""

    def script(wire: Wire) -> None:
        wire.hears()
        wire.sends(AC)
        wire.hears()
        wire.sends(echo_rsp(), RELEASE_RQ)
        wire.hears_to_the_end()

    with Scripted(script) as server:
        association = client.associate(server.peer, contexts=OFFER)
        association.c_echo()
        with pytest.raises(dicomnet.DicomNetworkError):
            association.c_echo()
        association.abort()


def test_a_server_that_answers_in_another_context(client: Face) -> None:
    """N-25: on the same context, or not at all."""
    wrong = message(3, Response(0, command=CommandField.C_ECHO, message_id=1))
    script, heard = answers(wrong)
    with Scripted(script) as server:
        association = client.associate(server.peer, contexts=OFFER)
        with pytest.raises(RemoteProtocolError):
            association.c_echo()
    assert [(value.source, value.reason) for value in heard] == [INVALID]


def test_a_server_that_answers_with_another_service(client: Face) -> None:
    """N-25: a C-STORE response is none to a C-ECHO."""
    script, heard = answers(message(1, Response(0, command=CommandField.C_STORE, message_id=1)))
    with Scripted(script) as server:
        association = client.associate(server.peer, contexts=OFFER)
        with pytest.raises(RemoteProtocolError):
            association.c_echo()
    assert [(value.source, value.reason) for value in heard] == [INVALID]
